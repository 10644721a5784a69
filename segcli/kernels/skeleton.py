"""The skeleton of a mask by thinning: Zhang and Suen (1984) in 2-D, Lee, Kashyap and Chu (1994) in 3-D.

Both wear the border away in passes, one voxel deep, and keep what would change the topology or shorten a
line; the order of passes and voxels is that of scikit-image, whose results these are.
"""

from __future__ import annotations

from functools import cache
from itertools import product
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

# The 27 voxels of a block as bits, 9z + 3y + x: which do not lie on one of its sides, and the centre.
_NOT_FIRST_X, _NOT_LAST_X = 0o666666666, 0o333333333
_NOT_FIRST_Y, _NOT_LAST_Y = 0o770770770, 0o077077077
_CENTRE = 1 << 13


def skeleton(mask: Mask, *, keep_pieces: bool = False) -> Mask:
    """Return the skeleton of a boolean mask, 2-D or 3-D; raise ValueError for another array.

    In 3-D the thinning of scikit-image wears some compact pieces away for good (a cube of 2x2x2); with
    `keep_pieces` their last voxel stays.
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
    else:
        faces = np.array(_FACES, dtype=np.int64)[: 4 if mask.shape[0] == 1 else 6]
        _thin_volume(padded, faces, _cells(), keep_pieces)
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


@cache
def _cells() -> NDArray[np.int64]:
    """Return for each face, edge and corner of the centre of a block the other voxels that share it, as bits."""
    cells: list[list[int]] = [[], [], []]
    for ends in product((-1, 0, 1), repeat=3):
        touched = product(*({0, end} for end in ends))
        if any(ends):
            cells[sum(map(abs, ends)) - 1].append(sum(1 << 9 * z + 3 * y + x + 13 for z, y, x in touched) & ~_CENTRE)
    return np.array([bits for group in cells for bits in group], dtype=np.int64)


def warm() -> None:
    """Compile the kernels."""
    skeleton(np.ones((2, 2), dtype=np.bool_))
    skeleton(np.ones((2, 2, 2), dtype=np.bool_))


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


@kernel()
def _pattern(image: Any, at: Any, plane: int, row: int) -> int:
    """Return the 27 voxels around a place of the flat image as bits: bit 9z+3y+x, the place itself left out."""
    pattern: Any = 0
    bit = 0
    for z in range(-1, 2):
        for y in range(-1, 2):
            first = at + z * plane + y * row - 1
            pattern |= (image[first] | image[first + 1] << 1 | image[first + 2] << 2) << bit
            bit += 3
    return pattern & ~_CENTRE  # type: ignore[no-any-return]


@kernel()
def _is_simple(pattern: int) -> bool:
    """Tell whether the neighbours are one 26-connected piece (or none): one of them grows until it stays."""
    piece = pattern & -pattern
    while True:
        grown = piece | (piece & _NOT_LAST_X) << 1 | (piece & _NOT_FIRST_X) >> 1
        grown |= (grown & _NOT_LAST_Y) << 3 | (grown & _NOT_FIRST_Y) >> 3
        grown |= grown << 9 | grown >> 9
        grown &= pattern
        if grown == piece:
            return piece == pattern
        piece = grown


@kernel()
def _keeps_euler(pattern: int, cells: Any) -> bool:
    """Tell whether the Euler number of the closed voxels stays the same without the centre.

    The centre alone has a face, an edge or a corner where no other voxel of the block shares it.
    """
    change = -1
    for i in range(6):
        change += (pattern & cells[i]) == 0
    for i in range(6, 18):
        change -= (pattern & cells[i]) == 0
    for i in range(18, 26):
        change += (pattern & cells[i]) == 0
    return change == 0


@kernel()
def _thin_volume(volume: Any, faces: Any, cells: Any, keep_pieces: bool) -> None:
    """Thin a padded volume in place.

    Only voxels with an open face can go. They are kept in a list in the order of the grid: what has gone leaves
    it, and the neighbours that are laid open enter it after the pass (within it they have nothing open yet that
    this pass could use, since candidates were chosen before).
    """
    _, height, width = volume.shape
    row, plane = width, height * width
    image = volume.reshape(-1)
    steps = np.array((-plane, -row, -1, 1, row, plane))
    listed = np.zeros(image.size, dtype=np.bool_)
    border = np.empty(1024, dtype=np.int64)
    count = 0
    for place in range(plane, image.size - plane):
        inner = image[place]
        for step in steps:
            inner &= image[place + step]
        if inner != image[place]:
            if count == border.size:
                border = np.concatenate((border, np.empty_like(border)))
            border[count] = place
            count += 1
            listed[place] = True
    border = border[:count].copy()
    unchanged = 0
    while unchanged < faces.shape[0]:
        unchanged = 0
        for face in range(faces.shape[0]):
            behind: Any = faces[face, 0] * plane + faces[face, 1] * row + faces[face, 2]
            candidates = np.empty(border.size, dtype=np.int64)
            count = 0
            for at in border:
                if image[at + behind] == 0:
                    pattern = _pattern(image, at, plane, row)
                    alone = pattern & (pattern - 1) == 0 and pattern != 0  # an end of a line
                    if not alone and _keeps_euler(pattern, cells) and _is_simple(pattern):
                        candidates[count] = at
                        count += 1
            opened = np.empty(6 * count, dtype=np.int64)
            gone = 0
            new = 0
            for at in candidates[:count]:
                pattern = _pattern(image, at, plane, row)
                if _is_simple(pattern) and (pattern != 0 or not keep_pieces):
                    image[at] = 0
                    gone += 1
                    for step in steps:
                        if image[at + step] != 0 and not listed[at + step]:
                            listed[at + step] = True
                            opened[new] = at + step
                            new += 1
            if gone == 0:
                unchanged += 1
            else:
                border = _merged(border, np.sort(opened[:new]), image)


@kernel()
def _merged(border: Any, opened: Any, image: Any) -> Any:
    """Return the places of both sorted lists that are still there, in order."""
    merged = np.empty(border.size + opened.size, dtype=np.int64)
    count = 0
    j = 0
    for at in border:
        if image[at] == 0:
            continue
        while j < opened.size and opened[j] < at:
            merged[count] = opened[j]
            count += 1
            j += 1
        merged[count] = at
        count += 1
    for at in opened[j:]:
        merged[count] = at
        count += 1
    return merged[:count]
