"""Joint histogram of two label maps in one pass over both, and the box of every label of one map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

# A stretch is compared as a whole before it is looked at voxel by voxel: first a long one, then, where that
# is not uniform, short ones. Most long stretches of a real mask are background or interior.
_LONG = 128
_SHORT = 32
# Consecutive voxels count in different banks: adding to one address again and again waits for the store.
_BANKS = 4
_BANKED_SIZE = 4096


def contingency(pred: NDArray[Any], gt: NDArray[Any], n_pred: int, n_gt: int) -> NDArray[np.int64]:
    """Count every pair of labels.

    `pred` and `gt` are C-contiguous 3-D arrays of one shape and one dtype, uint8 or uint16 (give a 2-D map
    as shape (1, H, W)); all their values are below `n_pred` and `n_gt`. Those are not checked: the caller
    knows the largest label, and a larger value would write outside the table.

    Returns the int64 matrix (n_pred, n_gt) of voxel counts. Raises ValueError for another layout, dtype or
    shape.
    """
    if pred.shape != gt.shape or pred.ndim != 3:
        raise ValueError(f"contingency: need two 3-D maps of one shape, not {pred.shape} and {gt.shape}")
    if pred.dtype != gt.dtype or pred.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"contingency: need two uint8 or two uint16 maps, not {pred.dtype} and {gt.dtype}")
    if not (pred.flags.c_contiguous and gt.flags.c_contiguous):
        raise ValueError("contingency: need C-contiguous maps")
    cells = n_pred * n_gt
    # Banks of a large table pay where there is more to count than to add up.
    banks = _BANKS if cells <= max(_BANKED_SIZE, pred.size >> 6) else 1
    counts = np.zeros((banks, cells), dtype=np.int64)
    _count(writable(pred).reshape(-1), writable(gt).reshape(-1), n_gt, counts.reshape(-1), cells if banks > 1 else 0)
    summed: NDArray[np.int64] = counts.sum(axis=0) if banks > 1 else counts[0]
    return summed.reshape(n_pred, n_gt)


def label_boxes(labels: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Find the box of every label of a C-contiguous 3-D map, uint8 or uint16, of values below `n` (not checked).

    Returns an int64 array (n, 3, 2) of half-open index ranges along each axis; a label that does not occur
    has (shape, 0).
    """
    boxes = np.zeros((n, 3, 2), dtype=np.int64)
    boxes[:, :, 0] = labels.shape
    _find_boxes(writable(labels), boxes)
    return boxes


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.uint8, np.uint16):
        tiny = np.zeros((1, 1, 1), dtype=dtype)
        contingency(tiny, tiny, 1, 1)
        label_boxes(tiny, 1)


@kernel()
def _both_uniform(p: Any, g: Any, start: int, stop: int) -> bool:
    """Tell whether one pair of values fills [start, stop).

    Slices, no exit on the way and no widening to 64 bits: only so is the loop vectorised (10x).
    """
    p_part = p[start:stop]
    g_part = g[start:stop]
    p_first = p_part[0]
    g_first = g_part[0]
    narrow = p_part.dtype.type
    differs = narrow(0)
    for x in range(p_part.size):
        differs = narrow(differs | (p_part[x] ^ p_first) | (g_part[x] ^ g_first))
    return differs == 0  # type: ignore[no-any-return]


@kernel()
def _count(p: Any, g: Any, n_gt: int, counts: Any, bank: int) -> None:
    """Count the pairs of two flat maps into four banks that lie `bank` apart (0: into one)."""
    size = p.size
    start = 0
    while start < size:
        stop = min(start + _LONG, size)
        if _both_uniform(p, g, start, stop):
            counts[np.int64(p[start]) * n_gt + np.int64(g[start])] += stop - start
            start = stop
            continue
        while start < stop:
            end = min(start + _SHORT, stop)
            if _both_uniform(p, g, start, end):
                counts[np.int64(p[start]) * n_gt + np.int64(g[start])] += end - start
                start = end
                continue
            while start + 4 <= end:
                counts[np.int64(p[start]) * n_gt + np.int64(g[start])] += 1
                counts[bank + np.int64(p[start + 1]) * n_gt + np.int64(g[start + 1])] += 1
                counts[2 * bank + np.int64(p[start + 2]) * n_gt + np.int64(g[start + 2])] += 1
                counts[3 * bank + np.int64(p[start + 3]) * n_gt + np.int64(g[start + 3])] += 1
                start += 4
            while start < end:
                counts[np.int64(p[start]) * n_gt + np.int64(g[start])] += 1
                start += 1


# --- boxes ----------------------------------------------------------------------------------------


@kernel()
def _uniform(values: Any, start: int, stop: int) -> bool:
    """Tell whether one value fills [start, stop); vectorised as `_both_uniform` is."""
    part = values[start:stop]
    first = part[0]
    narrow = part.dtype.type
    differs = narrow(0)
    for x in range(part.size):
        differs = narrow(differs | (part[x] ^ first))
    return differs == 0  # type: ignore[no-any-return]


@kernel()
def _enter_row(value: Any, z: int, y: int, x: int, end: int, boxes: Any) -> None:
    """Widen the box of a label first met at x of a row; `end` is one past its last x in an earlier row."""
    boxes[value, 0, 0] = min(boxes[value, 0, 0], z)
    boxes[value, 0, 1] = max(boxes[value, 0, 1], z + 1)
    boxes[value, 1, 0] = min(boxes[value, 1, 0], y)
    boxes[value, 1, 1] = max(boxes[value, 1, 1], y + 1)
    boxes[value, 2, 0] = min(boxes[value, 2, 0], x)
    boxes[value, 2, 1] = max(boxes[value, 2, 1], end)


@kernel()
def _find_boxes(labels: Any, boxes: Any) -> None:
    depth, height, width = labels.shape
    # Per label: the number of the last row it was met in, from 1; one past its last x there. Only the
    # first meeting in a row costs more than a comparison and a store. (No arrays are handed over in the
    # inner loop: Numba would count references there, at 10 ns an array.)
    met = np.zeros(boxes.shape[0], dtype=np.int64)
    last = np.zeros(boxes.shape[0], dtype=np.int64)
    for z in range(depth):
        for y in range(height):
            row = z * height + y + 1
            values = labels[z, y]
            x = 0
            while x < width:
                stop = min(x + _LONG, width)
                step = stop - x
                if not _uniform(values, x, stop):
                    step = _SHORT
                while x < stop:
                    end = min(x + step, stop)
                    known = end if step > _SHORT or _uniform(values, x, end) else x + 1
                    while x < end:
                        value = np.int64(values[x])
                        if met[value] != row:
                            met[value] = row
                            _enter_row(value, z, y, x, last[value], boxes)
                        x = max(known, x + 1)
                        last[value] = x
    for code in range(boxes.shape[0]):
        boxes[code, 2, 1] = max(boxes[code, 2, 1], last[code])
