"""The skeleton of a mask by thinning: Zhang and Suen (1984) in a plane, one of two ways in a volume.

All wear the border away in passes, one voxel deep, and keep what would change the topology or shorten a line.
In a plane the order of passes and pixels is that of scikit-image, whose results these are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.thinning import thin_ends, thin_lee

if TYPE_CHECKING:
    from segcli.kernels.thinnings import Thinning

Mask = NDArray[np.bool_]

# Where scikit-image departs from the paper: staircases are thinned to one pixel, and the two ends of a line of
# two go in different passes. Pattern (bits clockwise from the upper left neighbour) -> passes.
_DEPARTURES = {
    3: 1, 6: 1, 10: 3, 11: 1, 12: 1, 14: 1, 24: 2, 26: 2, 40: 3, 48: 0, 56: 2, 96: 2, 104: 2, 108: 2, 129: 0, 130: 3,
    131: 1, 134: 1, 160: 3, 161: 1, 176: 2, 192: 2, 194: 1, 198: 1, 224: 2,
}  # fmt: skip


def skeleton(mask: Mask, thinning: Thinning = "ends") -> Mask:
    """Return the skeleton of a boolean mask, 2-D or 3-D; raise ValueError for another array.

    A volume is thinned to lines in one of two ways, see `segcli.kernels.thinnings`: by `lee` lines can be lost, and
    pieces vanish.
    """
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        raise ValueError(f"skeleton: need a 2-D or 3-D bool array, not {mask.ndim}-D {mask.dtype}")
    found = np.zeros_like(mask)
    if not mask.any():
        return found
    box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
    padded = np.ascontiguousarray(np.pad(mask[box], 1)).view(np.uint8)
    if mask.ndim == 2:
        _thin_plane(padded, _removable())
    elif thinning == "ends":
        thin_ends(padded)
    else:
        thin_lee(padded, flat=mask.shape[0] == 1)
    found[box] = padded[(slice(1, -1),) * mask.ndim] == 1
    return found


def skeleton_tube(mask: Mask, radius: int, thinning: Thinning = "ends") -> Mask:
    """Return the voxels of the mask that are at most `radius` face steps from its skeleton."""
    tube = skeleton(mask, thinning)
    for _ in range(radius):
        grown = tube.copy()
        for axis in range(mask.ndim):
            before, after = np.moveaxis(tube, axis, 0), np.moveaxis(grown, axis, 0)
            after[1:] |= before[:-1]
            after[:-1] |= before[1:]
        tube = grown
    return tube & mask


@cache
def _removable() -> NDArray[np.uint8]:
    """Return for each pattern of neighbours in which of the two passes the pixel goes: 1, 2, both (3) or none."""
    table = np.zeros(256, dtype=np.uint8)
    for code in range(256):
        around = [code >> k & 1 for k in range(8)]
        north, east, south, west = around[1::2]
        rises = sum(a < b for a, b in zip(around, [*around[1:], around[0]], strict=True))
        if 2 <= sum(around) <= 6 and rises == 1:
            first = not (north and east and south) and not (east and south and west)
            second = not (north and east and west) and not (north and south and west)
            table[code] = first + 2 * second
    for code, passes in _DEPARTURES.items():
        table[code] = passes
    return table


def warm() -> None:
    """Compile the kernels."""
    skeleton(np.ones((2, 2), dtype=np.bool_))


@kernel()
def _thin_plane(plane: Any, removable: Any) -> None:
    """Thin a padded image in place: in each pass all pixels that may go do so at once."""
    width = plane.shape[1]
    image = plane.reshape(-1)
    left = np.flatnonzero(image)
    going = np.empty_like(left)
    changed = True
    while changed:
        changed = False
        for pass_bit in (1, 2):
            gone = 0
            for at in left:
                up, down = at - width, at + width
                code = image[up - 1] | image[up] << 1 | image[up + 1] << 2 | image[at + 1] << 3
                code |= image[down + 1] << 4 | image[down] << 5 | image[down - 1] << 6 | image[at - 1] << 7
                going[gone] = at
                gone += removable[code] >> (pass_bit - 1) & 1
            for at in going[:gone]:
                image[at] = 0
            if gone > 0:
                changed = True
                kept = 0
                for at in left:
                    left[kept] = at
                    kept += image[at]
                left = left[:kept]
