"""Joint histogram of two label maps in one pass over both, and the box of every label of one map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.lanes import ALL_LANES, LANES, count_lanes, first_lane, lanes_of, past_lanes

# Consecutive voxels count in different banks: adding to one address again and again waits for the store.
_BANKS = 4
_BANKED_SIZE = 4096
# Voxels of 64 that are counted one by one where all others are alike.
_FEW = 12
# Values of 64 voxels whose range is found all at once; of the rest it is found voxel by voxel.
_TRIES = 4


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
    """Find the box of every label of a C-contiguous 3-D map of unsigned integers, at most 32 bits, of values below `n`.

    The values are not checked.

    Returns an int64 array (n, 3, 2) of half-open index ranges along each axis; a label that does not occur
    has (shape, 0).
    """
    boxes = np.zeros((n, 3, 2), dtype=np.int64)
    boxes[:, :, 0] = labels.shape
    flat = writable(labels).reshape(-1)
    # What is past the end is read, and left out.
    flat = flat if flat.size >= LANES else np.concatenate((flat, np.zeros(LANES, dtype=flat.dtype)))
    _find_boxes(flat, labels.shape, boxes)
    return boxes


def warm() -> None:
    """Compile the kernels for all dtypes."""
    for dtype in ("u1", "u2", "u4"):
        tiny = np.zeros((1, 1, 1), dtype=dtype)
        label_boxes(tiny, 1)
        if dtype != "u4":
            contingency(tiny, tiny, 1, 1)


@kernel()
def _cell(p: Any, g: Any, x: Any, n_gt: Any) -> Any:
    """Return where the pair of voxel x is counted."""
    return np.uint64(p[x]) * n_gt + np.uint64(g[x])


@kernel()
def _alike(p: Any, g: Any, start: Any, x: Any) -> Any:
    """Return which of 64 voxels from `start` on have the pair of voxel x."""
    return lanes_of(p, start, p[x]) & lanes_of(g, start, g[x])


@kernel()
def _count(p: Any, g: Any, n_gt: Any, counts: Any, bank: Any) -> None:
    """Count the pairs of two flat maps into banks that lie `bank` apart (0: into one).

    Of 64 voxels most have one pair, or two or three where a boundary runs through them, or one but for
    a few voxels; only the rest, noise, is counted voxel by voxel.
    """
    n_gt, bank, lanes, one = np.uint64(n_gt), np.uint64(bank), np.uint64(LANES), np.uint64(1)
    cells = np.empty(LANES, dtype=np.uint32)
    whole = p.size - p.size % LANES
    for x in range(0, whole, LANES):
        start = np.uint64(x)
        first = _cell(p, g, start, n_gt)
        alike = _alike(p, g, start, start)
        if alike == ALL_LANES:
            counts[first] += LANES
            continue
        left = ~alike
        n_first = np.int64(count_lanes(alike))
        if n_first < LANES - _FEW:
            at = start + first_lane(left)
            second = bank + _cell(p, g, at, n_gt)
            alike = _alike(p, g, start, at) & left
            n_second = np.int64(count_lanes(alike))
            left &= ~alike
            at = start + min(first_lane(left), lanes - one)
            third = bank + bank + _cell(p, g, at, n_gt)
            alike = _alike(p, g, start, at) & left
            n_third = np.int64(count_lanes(alike))
            left &= ~alike
            if np.int64(count_lanes(left)) > _FEW:
                p_part, g_part = p[start : start + lanes], g[start : start + lanes]
                for i in range(LANES):  # vectorised, as it stands apart
                    cells[i] = (
                        np.uint32(p_part[i]) * np.uint32(n_gt) + np.uint32(g_part[i]) + np.uint32(i % _BANKS * bank)
                    )
                for i in range(LANES):
                    counts[cells[i]] += 1
                continue
            counts[second] += n_second
            counts[third] += n_third
        counts[first] += n_first
        while left:
            # Four, be they there or not: how many there are cannot be foreseen by the processor.
            for i in range(4):
                at = start + min(first_lane(left), lanes - one)
                counts[np.uint64(i) * bank + _cell(p, g, at, n_gt)] += left != 0
                left &= left - np.uint64(left != 0)
    for x in range(whole, p.size):
        counts[_cell(p, g, x, n_gt)] += 1


# --- boxes ----------------------------------------------------------------------------------------


@kernel()
def _find_boxes(flat: Any, shape: Any, boxes: Any) -> None:
    depth, height, width = shape
    # Per label: the number of the last row it was met in, from 1; one past its last x there. Only the
    # first meeting in a row costs more than a comparison and a store.
    met = np.zeros(boxes.shape[0], dtype=np.int64)
    last = np.zeros(boxes.shape[0], dtype=np.int64)
    for z in range(depth):
        for y in range(height):
            row = z * height + y + 1
            for x in range(0, width, LANES):
                start = (row - 1) * width + x
                base = min(start, flat.size - LANES)
                left = ALL_LANES >> np.uint64(LANES - min(LANES, width - x))
                tries = 0
                while left:
                    at = first_lane(left)
                    value = flat[np.uint64(start) + at]
                    tries += 1
                    alike = np.uint64(1) << at
                    if tries <= _TRIES:
                        alike = lanes_of(flat, np.uint64(base), value) >> np.uint64(start - base) & left
                    left &= ~alike
                    if met[value] != row:
                        met[value] = row
                        boxes[value, 0, 0] = min(boxes[value, 0, 0], z)
                        boxes[value, 0, 1] = z + 1
                        boxes[value, 1, 0] = min(boxes[value, 1, 0], y)
                        boxes[value, 1, 1] = max(boxes[value, 1, 1], y + 1)
                        boxes[value, 2, 0] = min(boxes[value, 2, 0], x + np.int64(at))
                        boxes[value, 2, 1] = max(boxes[value, 2, 1], last[value])
                    last[value] = x + np.int64(past_lanes(alike))
    for code in range(boxes.shape[0]):
        boxes[code, 2, 1] = max(boxes[code, 2, 1], last[code])
