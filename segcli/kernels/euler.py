"""The Euler number of a mask: pieces minus tunnels plus cavities, counted corner by corner of the grid.

A corner sees eight voxels. The cells around it (itself, edges, faces, voxels) are shared by the corners
they touch, so its part of the alternating sum over all cells depends on these eight alone: 256 codes.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable


def euler_number(mask: NDArray[np.uint8], connectivity: int) -> int:
    """Return the Euler number of a C-contiguous 3-D mask of 0 and 1 whose pieces are 26-, 18- or 6-connected.

    Outside the array is background. A plane is a volume of one slice. Raises ValueError for another layout.
    """
    if mask.ndim != 3 or mask.dtype != np.uint8 or not mask.flags.c_contiguous:
        raise ValueError(f"euler_number: need a C-contiguous 3-D uint8 mask, not {mask.ndim}-D {mask.dtype}")
    return int(_sum_codes(writable(mask), parts_of_codes(connectivity))) // 8


@cache
def parts_of_codes(connectivity: int) -> NDArray[np.int64]:
    """Return a corner's part of the Euler number for each code, in eighths; bit 4z+2y+x is voxel (z, y, x).

    With 26 neighbours the mask is a union of closed voxels: a cell is there where any voxel around it is.
    With 6 it is one of open voxels glued at faces: a cell is there where all are, and voxels are the points
    of the dual grid. With 18 the closed voxels that share nothing but a corner are cut apart, which makes
    that corner two.
    """
    voxels = list(product((0, 1), repeat=3))
    table = np.zeros(256, dtype=np.int64)
    for code in range(256):
        inside = {voxel for bit, voxel in enumerate(voxels) if code >> bit & 1}
        for fixed in product((None, 0, 1), repeat=3):  # a cell that ends here along the axes that are fixed
            around = {v for v in voxels if all(f in (None, x) for f, x in zip(fixed, v, strict=True))}
            sign = (-1) ** sum(f is not None for f in fixed)
            # len(around) eighths are this corner's share: a half of an edge, a quarter of a face ...
            if connectivity == 6:
                table[code] -= sign * len(around) * (around <= inside)
            else:
                table[code] += sign * len(around) * bool(around & inside)
        if connectivity == 18 and len(inside) == 2 and all(a != b for a, b in zip(*inside, strict=True)):
            table[code] += 8
    return table


def warm() -> None:
    """Compile the kernel."""
    euler_number(np.ones((1, 1, 1), dtype=np.uint8), 26)


@kernel()
def _sum_codes(mask: Any, parts: Any) -> int:
    depth, height, width = mask.shape
    nothing = np.zeros(width, dtype=np.uint8)
    filled = np.zeros((depth + 2, height + 2), dtype=np.bool_)
    for z in range(depth):
        for y in range(height):
            row = mask[z, y]
            found = np.uint8(0)
            for x in range(width):
                found |= row[x]
            filled[z + 1, y + 1] = found != 0
    total: Any = 0
    for z in range(depth + 1):
        for y in range(height + 1):
            if not (filled[z, y] or filled[z, y + 1] or filled[z + 1, y] or filled[z + 1, y + 1]):
                continue
            a = mask[z - 1, y - 1] if filled[z, y] else nothing
            b = mask[z - 1, y] if filled[z, y + 1] else nothing
            c = mask[z, y - 1] if filled[z + 1, y] else nothing
            d = mask[z, y] if filled[z + 1, y + 1] else nothing
            before = np.int64(0)
            for x in range(width):
                now = np.int64(a[x] << 1 | b[x] << 3 | c[x] << 5 | d[x] << 7)
                total += parts[before >> 1 | now]
                before = now
            total += parts[before >> 1]
    return total  # type: ignore[no-any-return]
