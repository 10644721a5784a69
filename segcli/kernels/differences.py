"""Where two label maps disagree: for each label the voxels that only one of the maps gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.elements import in_order

#: Of labels 1..n: offsets (n + 1), and points in C order; those of label k are offsets[k - 1]:offsets[k].
Voxels = tuple[NDArray[np.int64], NDArray[np.int32]]


def differing_voxels(
    a: NDArray[Any],
    b: NDArray[Any],
    lut_a: NDArray[np.int32],
    lut_b: NDArray[np.int32],
    n: int,
    axes: Sequence[int] | None = None,
) -> tuple[Voxels, Voxels]:
    """Return the voxels of each label 1..n in `a` that have another label in `b`, and the other way round.

    `a` and `b` are C-contiguous maps of one shape, 2-D or 3-D, both uint8 or both uint16; a lut gives the
    label of each value of its map: 1..n, 0 for background, -1 for a voxel that does not count, which is in
    neither list. Points are int32 indices (N, ndim); `axes` orders their columns as in `surface_elements`.
    """
    ndim = a.ndim
    a, b = (writable(m.reshape((1,) * (3 - ndim) + m.shape)) for m in (a, b))
    lut_a, lut_b = (writable(np.ascontiguousarray(lut, dtype=np.int32)) for lut in (lut_a, lut_b))
    same = np.array_equal(lut_a, lut_b)
    counts = np.zeros((2, n + 1), dtype=np.int64)
    _count(a, b, lut_a, lut_b, same, counts)
    counts[:, 0] = 0
    offsets = np.cumsum(counts, axis=1)
    points_a, points_b = (np.empty((int(total), ndim), dtype=np.int32) for total in offsets[:, -1])
    _fill(a, b, lut_a, lut_b, same, offsets, points_a, points_b)
    none = np.empty(0)
    return (
        (offsets[0], in_order(offsets[0], points_a, none, axes)[0]),
        (offsets[1], in_order(offsets[1], points_b, none, axes)[0]),
    )


def warm() -> None:
    """Compile the kernels for both dtypes."""
    lut = np.array([0, 1], dtype=np.int32)
    for dtype in (np.uint8, np.uint16):
        volume = np.ones((1, 1, 1), dtype=dtype)
        differing_voxels(volume, volume, lut, lut, 1)


@kernel()
def _equal(a: Any, b: Any) -> bool:
    """Tell whether two rows are equal; no early exit, so that the loop is vectorised."""
    narrow = a.dtype.type
    differs = narrow(0)
    for x in range(a.size):
        differs = narrow(differs | (a[x] ^ b[x]))
    return bool(differs == 0)


@kernel()
def _count(a: Any, b: Any, lut_a: Any, lut_b: Any, same: bool, counts: Any) -> None:
    for z in range(a.shape[0]):
        for y in range(a.shape[1]):
            row_a = a[z, y]
            row_b = b[z, y]
            if same and _equal(row_a, row_b):
                continue
            for x in range(row_a.size):
                label_a = lut_a[row_a[x]]
                label_b = lut_b[row_b[x]]
                if label_a != label_b and label_a >= 0 and label_b >= 0:
                    counts[0, label_a] += 1
                    counts[1, label_b] += 1


@kernel()
def _fill(a: Any, b: Any, lut_a: Any, lut_b: Any, same: bool, offsets: Any, points_a: Any, points_b: Any) -> None:
    following = offsets.copy()
    ndim = points_a.shape[1]
    for z in range(a.shape[0]):
        for y in range(a.shape[1]):
            row_a = a[z, y]
            row_b = b[z, y]
            if same and _equal(row_a, row_b):
                continue
            for x in range(row_a.size):
                label_a = lut_a[row_a[x]]
                label_b = lut_b[row_b[x]]
                if label_a == label_b or label_a < 0 or label_b < 0:
                    continue
                for points, side, label in ((points_a, 0, label_a), (points_b, 1, label_b)):
                    if label > 0:
                        target = following[side, label - 1]
                        following[side, label - 1] += 1
                        points[target, ndim - 1] = x
                        points[target, ndim - 2] = y
                        if ndim == 3:
                            points[target, 0] = z
