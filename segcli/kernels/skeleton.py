"""The skeleton of a mask by thinning: Zhang and Suen (1984) in 2-D, Lee, Kashyap and Chu (1994) in 3-D.

Both wear the border away in passes, one voxel deep, and keep what would change the topology or shorten a
line; the order of passes and voxels is that of scikit-image, whose results these are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel

Mask = NDArray[np.bool_]

# Where scikit-image departs from the paper: staircases are thinned to one pixel, and the two ends of a line of
# two go in different passes. Pattern (bits clockwise from the upper left neighbour) -> passes.
_DEPARTURES = {
    3: 1, 6: 1, 10: 3, 11: 1, 12: 1, 14: 1, 24: 2, 26: 2, 40: 3, 48: 0, 56: 2, 96: 2, 104: 2, 108: 2, 129: 0, 130: 3,
    131: 1, 134: 1, 160: 3, 161: 1, 176: 2, 192: 2, 194: 1, 198: 1, 224: 2,
}  # fmt: skip
# The faces of a voxel in the order in which they are worn: the step along each axis.
_FACES = ((0, -1, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 0), (-1, 0, 0))


def skeleton(mask: Mask) -> Mask:
    """Return the skeleton of a boolean mask, 2-D or 3-D; raise ValueError for another array."""
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        raise ValueError(f"skeleton: need a 2-D or 3-D bool array, not {mask.ndim}-D {mask.dtype}")
    found = np.zeros_like(mask)
    if not mask.any():
        return found
    box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
    padded = np.ascontiguousarray(np.pad(mask[box], 1)).view(np.uint8)
    if mask.ndim == 2:
        _thin_plane(padded, _removable())
    else:
        _thin_volume(padded, np.array(_FACES, dtype=np.int64)[: 4 if mask.shape[0] == 1 else 6])
    found[box] = padded[(slice(1, -1),) * mask.ndim] == 1
    return found


def skeleton_tube(mask: Mask, radius: int) -> Mask:
    """Return the voxels of the mask that are at most `radius` face steps from its skeleton."""
    tube = skeleton(mask)
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
    skeleton(np.ones((2, 2, 2), dtype=np.bool_))


@kernel()
def _thin_plane(image: Any, removable: Any) -> None:
    """Thin a padded image in place."""
    height, width = image.shape
    thinned = image.copy()
    changed = True
    while changed:
        changed = False
        for pass_bit in (1, 2):
            for y in range(1, height - 1):
                for x in range(1, width - 1):
                    if image[y, x] == 0:
                        continue
                    code = image[y - 1, x - 1] | image[y - 1, x] << 1 | image[y - 1, x + 1] << 2
                    code |= image[y, x + 1] << 3 | image[y + 1, x + 1] << 4 | image[y + 1, x] << 5
                    code |= image[y + 1, x - 1] << 6 | image[y, x - 1] << 7
                    if removable[code] & pass_bit:
                        thinned[y, x] = 0
                        changed = True
            image[:, :] = thinned


@kernel()
def _is_simple(block: Any, stack: Any) -> bool:
    """Tell whether the neighbours in a 3x3x3 block are one connected piece (or none), the centre left out."""
    seen = np.zeros((3, 3, 3), dtype=np.bool_)
    pieces = 0
    for start in range(27):
        z, y, x = start // 9, start // 3 % 3, start % 3
        if start == 13 or block[z, y, x] == 0 or seen[z, y, x]:
            continue
        pieces += 1
        if pieces > 1:
            return False
        stack[0] = start
        seen[z, y, x] = True
        count = 1
        while count > 0:
            count -= 1
            at = stack[count]
            z, y, x = at // 9, at // 3 % 3, at % 3
            for c in range(max(z - 1, 0), min(z + 2, 3)):
                for b in range(max(y - 1, 0), min(y + 2, 3)):
                    for a in range(max(x - 1, 0), min(x + 2, 3)):
                        index = 9 * c + 3 * b + a
                        if index != 13 and block[c, b, a] != 0 and not seen[c, b, a]:
                            seen[c, b, a] = True
                            stack[count] = index
                            count += 1
    return True


@kernel()
def _keeps_euler(block: Any) -> bool:
    """Tell whether the Euler number of the closed voxels stays the same without the centre.

    The centre alone has a corner, edge or face where no other voxel of the block shares it.
    """
    change = -1
    for z in (0, 2):
        change += block[z, 1, 1] == 0
        change += block[1, z, 1] == 0
        change += block[1, 1, z] == 0
        for y in (0, 2):
            change -= (block[z, 1, 1] | block[1, y, 1] | block[z, y, 1]) == 0
            change -= (block[z, 1, 1] | block[1, 1, y] | block[z, 1, y]) == 0
            change -= (block[1, z, 1] | block[1, 1, y] | block[1, z, y]) == 0
            for x in (0, 2):
                faces = block[z, 1, 1] | block[1, y, 1] | block[1, 1, x]
                edges = block[z, y, 1] | block[z, 1, x] | block[1, y, x]
                change += (faces | edges | block[z, y, x]) == 0
    return change == 0


@kernel()
def _thin_volume(image: Any, faces: Any) -> None:
    """Thin a padded volume in place."""
    depth, height, width = image.shape
    stack = np.empty(27, dtype=np.int64)
    candidates = np.empty((image.size, 3), dtype=np.int32)
    unchanged = 0
    while unchanged < faces.shape[0]:
        unchanged = 0
        for face in range(faces.shape[0]):
            count = 0
            dz, dy, dx = faces[face]
            for z in range(1, depth - 1):
                for y in range(1, height - 1):
                    for x in range(1, width - 1):
                        if image[z, y, x] == 0 or image[z + dz, y + dy, x + dx] != 0:
                            continue
                        block = image[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
                        if block.sum() != 2 and _keeps_euler(block) and _is_simple(block, stack):
                            candidates[count, 0] = z
                            candidates[count, 1] = y
                            candidates[count, 2] = x
                            count += 1
            changed = False
            for i in range(count):
                z, y, x = candidates[i]
                if _is_simple(image[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2], stack):
                    image[z, y, x] = 0
                    changed = True
            unchanged += not changed
