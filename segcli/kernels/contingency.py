"""Joint histogram of two label maps, and the box of every label, in one pass over both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

# A stretch of a row is compared as a whole before it is looked at voxel by voxel: first a long one, then,
# where that is not uniform, short ones. Most long stretches of a real mask are background or interior.
_LONG = 256
_SHORT = 32
# Consecutive voxels count in different banks: adding to one address again and again waits for the store.
_BANKS = 4
_BANKED_SIZE = 4096


def contingency(
    pred: NDArray[Any], gt: NDArray[Any], n_pred: int, n_gt: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count every pair of labels, and find the box of every label.

    `pred` and `gt` are C-contiguous 3-D arrays of one shape and one dtype, uint8 or uint16 (give a 2-D map
    as shape (1, H, W)); all their values are below `n_pred` and `n_gt`. Those are not checked: the caller
    knows the largest label, and a larger value would write outside the table.

    Returns the int64 matrix (n_pred, n_gt) of voxel counts, and two int64 arrays (n, 3, 2) of half-open
    index ranges along each axis; a label that does not occur has (shape, 0). Raises ValueError for
    another layout, dtype or shape.
    """
    if pred.shape != gt.shape or pred.ndim != 3:
        raise ValueError(f"contingency: need two 3-D maps of one shape, not {pred.shape} and {gt.shape}")
    if pred.dtype != gt.dtype or pred.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"contingency: need two uint8 or two uint16 maps, not {pred.dtype} and {gt.dtype}")
    if not (pred.flags.c_contiguous and gt.flags.c_contiguous):
        raise ValueError("contingency: need C-contiguous maps")
    boxes_pred = _empty_boxes(n_pred, pred.shape)
    boxes_gt = _empty_boxes(n_gt, gt.shape)
    banks = _BANKS if n_pred * n_gt <= _BANKED_SIZE else 1
    counts = np.zeros((banks, n_pred * n_gt), dtype=np.int64)
    _count(writable(pred), writable(gt), n_gt, counts, boxes_pred, boxes_gt)
    return counts.sum(axis=0).reshape(n_pred, n_gt), boxes_pred, boxes_gt


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.uint8, np.uint16):
        tiny = np.zeros((1, 1, 1), dtype=dtype)
        contingency(tiny, tiny, 1, 1)


def _empty_boxes(n: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    boxes = np.zeros((n, 3, 2), dtype=np.int64)
    boxes[:, :, 0] = shape
    return boxes


@kernel()
def _is_uniform(p: Any, g: Any, start: int, stop: int) -> bool:
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
def _enter_row(value: Any, z: int, y: int, x: int, end: int, boxes: Any) -> None:
    """Widen the box of a label first met at x of a row; `end` is one past its last x in an earlier row."""
    boxes[value, 0, 0] = min(boxes[value, 0, 0], z)
    boxes[value, 0, 1] = max(boxes[value, 0, 1], z + 1)
    boxes[value, 1, 0] = min(boxes[value, 1, 0], y)
    boxes[value, 1, 1] = max(boxes[value, 1, 1], y + 1)
    boxes[value, 2, 0] = min(boxes[value, 2, 0], x)
    boxes[value, 2, 1] = max(boxes[value, 2, 1], end)


@kernel()
def _count(pred: Any, gt: Any, n_gt: int, counts: Any, boxes_pred: Any, boxes_gt: Any) -> None:
    depth, height, width = pred.shape
    bank_mask = counts.shape[0] - 1  # a power of two
    # Per label: the number of the last row it was met in, from 1; one past its last x there. Only the
    # first meeting in a row costs more than a comparison and a store. (No arrays are handed over in the
    # inner loop: Numba would count references there, at 10 ns an array.)
    met_pred = np.zeros(boxes_pred.shape[0], dtype=np.int64)
    met_gt = np.zeros(boxes_gt.shape[0], dtype=np.int64)
    end_pred = np.zeros(boxes_pred.shape[0], dtype=np.int64)
    end_gt = np.zeros(boxes_gt.shape[0], dtype=np.int64)
    for z in range(depth):
        for y in range(height):
            row = z * height + y + 1
            p = pred[z, y]
            g = gt[z, y]
            x = 0
            while x < width:
                stop = min(x + _LONG, width)
                step = stop - x
                if not _is_uniform(p, g, x, stop):
                    step = _SHORT
                while x < stop:
                    end = min(x + step, stop)
                    known = end if step > _SHORT or _is_uniform(p, g, x, end) else x + 1
                    a = np.int64(p[x])
                    b = np.int64(g[x])
                    if met_pred[a] != row:
                        met_pred[a] = row
                        _enter_row(a, z, y, x, end_pred[a], boxes_pred)
                    if met_gt[b] != row:
                        met_gt[b] = row
                        _enter_row(b, z, y, x, end_gt[b], boxes_gt)
                    end_pred[a] = known
                    end_gt[b] = known
                    counts[0, a * n_gt + b] += known - x
                    for i in range(known, end):
                        a = np.int64(p[i])
                        b = np.int64(g[i])
                        if met_pred[a] != row:
                            met_pred[a] = row
                            _enter_row(a, z, y, i, end_pred[a], boxes_pred)
                        if met_gt[b] != row:
                            met_gt[b] = row
                            _enter_row(b, z, y, i, end_gt[b], boxes_gt)
                        end_pred[a] = i + 1
                        end_gt[b] = i + 1
                        counts[i & bank_mask, a * n_gt + b] += 1
                    x = end
    for value in range(boxes_pred.shape[0]):
        boxes_pred[value, 2, 1] = max(boxes_pred[value, 2, 1], end_pred[value])
    for value in range(boxes_gt.shape[0]):
        boxes_gt[value, 2, 1] = max(boxes_gt[value, 2, 1], end_gt[value])
