"""Sums of coordinates of every label of one map, and of their products: where its voxels lie and how they spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable


def label_moments(labels: NDArray[Any], n: int, start: int = 0) -> NDArray[np.int64]:
    """Sum the coordinates of every label of a C-contiguous 3-D map of unsigned integers below `n`.

    Coordinates are indices; those of the first axis begin with `start`, which cuts a map into slabs. Neither the
    values nor the sums are checked: the caller knows the largest label, and that no sum leaves 64 bits. Returns
    int64 (n, 10): voxels, the sums of z, y, x, and of zz, zy, zx, yy, yx, xx. Raises ValueError for another layout.
    """
    if labels.ndim != 3 or labels.dtype not in (np.uint8, np.uint16, np.uint32) or not labels.flags.c_contiguous:
        raise ValueError(
            f"label_moments: need a C-contiguous 3-D uint8, uint16 or uint32 map, not {labels.ndim}-D {labels.dtype}"
        )
    sums = np.zeros((n, 10), dtype=np.int64)
    _sum_runs(writable(labels), start, sums)
    return sums


def warm() -> None:
    """Compile the kernel for all dtypes."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        label_moments(np.zeros((1, 1, 1), dtype=dtype), 1)


@kernel()
def _sum_runs(labels: Any, start: int, sums: Any) -> None:
    """Add run after run of equal values of a row: their sums of x and x^2 have a closed form."""
    depth, height, width = labels.shape
    for k in range(depth):
        z = np.int64(start + k)
        for row in range(height):
            y = np.int64(row)
            values = labels[k, row]
            first = 0
            while first < width:
                value = values[first]
                past = first + 1
                while past < width and values[past] == value:
                    past += 1
                count = np.int64(past - first)
                total = count * (first + past - 1) // 2
                # of 0 to n-1 the squares add up to (n-1) n (2n-1) / 6
                squares = (past - 1) * past * (2 * past - 1) // 6 - (first - 1) * first * (2 * first - 1) // 6
                own = sums[value]
                own[0] += count
                own[1] += z * count
                own[2] += y * count
                own[3] += total
                own[4] += z * z * count
                own[5] += z * y * count
                own[6] += z * total
                own[7] += y * y * count
                own[8] += y * total
                own[9] += squares
                first = past
