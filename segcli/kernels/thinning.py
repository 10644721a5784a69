"""Thinning of a volume to lines: wear the border away, one voxel deep at a time, and keep its topology.

`thin_ends` deletes a whole layer at once and loses no line. `thin_lee` is Lee, Kashyap and Chu (1994) as
scikit-image has it: one face after the other, voxel by voxel, which wears a straight tube of even thickness
down from its end.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.depth import block_depths

# The faces of a voxel in the order in which `thin_lee` wears them: the step along each axis.
_FACES = ((0, -1, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 0), (-1, 0, 0))

# The 27 voxels of a block as bits, 9z + 3y + x: which do not lie on one of its sides, and the centre.
_NOT_FIRST_X, _NOT_LAST_X = 0o666666666, 0o333333333
_NOT_FIRST_Y, _NOT_LAST_Y = 0o770770770, 0o077077077
_CENTRE = 1 << 13
# So many bits of a rank count the voxels; 19 more are of what they go by.
_COUNT_BITS = 40


class _Cliques(NamedTuple):
    """The sets of voxels that share an edge or a corner of the centre of a block, or a face, as bits.

    `edges` (5, 12): the others, the one opposite, the two beside, and the four voxels beyond each end of the
    edge. `corners` (4, 8): the others, and those of them one step further along each axis. `rings` (512): of
    two voxels that share a face, seen along the line through both: 1 where what is around them, nine bits
    with their own in the middle, is not one piece with one gap.
    """

    edges: NDArray[np.int64]
    corners: NDArray[np.int64]
    rings: NDArray[np.uint8]


def thin_ends(volume: NDArray[np.uint8]) -> None:
    """Thin a padded C-contiguous volume of 0 and 1 in place so that no line is worn down from its end.

    A voxel can go when it is simple (without it pieces, tunnels and cavities stay) and no end of a line. In
    each pass all of them go, except that of every set that may not vanish at once (the critical cliques of
    Bertrand and Couprie) one voxel stays: the one that lies deepest with its neighbours, then the one with the
    most face neighbours, then the last in the order of the grid. Only this last choice depends on how the
    volume lies.
    """
    image, depths = volume.reshape(-1), block_depths(volume).reshape(-1)
    simple, going, listed = (np.zeros_like(image) for _ in range(3))
    plane, row = volume.shape[1] * volume.shape[2], volume.shape[2]
    cells, cliques = _cells(), _cliques()
    listing = np.flatnonzero(image)
    while listing.size:
        places, patterns = _simple_ones(image, simple, listed, listing, plane, row, cells)
        ranks = _ranks(simple, going, places, patterns, depths, plane, row, *cliques)
        ranks.sort()
        _release(going, places, patterns, ranks, plane, row, *cliques)
        listing = _delete(image, simple, going, listed, places, plane, row)
        listing.sort()


def thin_lee(volume: NDArray[np.uint8], *, flat: bool = False) -> None:
    """Thin a padded C-contiguous volume of 0 and 1 in place as scikit-image does, voxel by voxel.

    A `flat` one is an image of one slice, which is not worn from above and below.
    """
    faces = np.array(_FACES, dtype=np.int64)[: 4 if flat else 6]
    _thin_faces(volume, faces, _cells())


def warm() -> None:
    """Compile the kernels."""
    for thin in (thin_ends, thin_lee):
        thin(np.pad(np.ones((2, 2, 2), dtype=np.uint8), 1))


def _bits(voxels: Any) -> int:
    """Return voxels, as steps from the centre along each axis, as bits of the block without the centre."""
    return sum(1 << int(9 * z + 3 * y + x + 13) for z, y, x in voxels) & ~_CENTRE


def _sharing(ends: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the voxels, the centre too, that share the face, edge or corner towards `ends`."""
    return list(product(*(sorted({0, end}) for end in ends)))


@cache
def _cells() -> NDArray[np.int64]:
    """Return for each face, edge and corner of the centre of a block the other voxels that share it, as bits."""
    cells: list[list[int]] = [[], [], []]
    for ends in product((-1, 0, 1), repeat=3):
        if any(ends):
            cells[sum(map(abs, ends)) - 1].append(_bits(_sharing(ends)))
    return np.array([bits for group in cells for bits in group], dtype=np.int64)


@cache
def _cliques() -> _Cliques:
    edges, corners = [], []
    for ends in product((-1, 0, 1), repeat=3):
        shared, others = _sharing(ends), _bits(_sharing(ends))
        if sum(map(abs, ends)) == 2:
            along = np.array([end == 0 for end in ends])
            beyond = [_bits(np.array(shared) + way * along) for way in (-1, 1)]
            edges.append([others, _bits([ends]), others & ~_bits([ends]), *beyond])
        elif all(ends):
            corners.append([others, *(_bits(voxel for voxel in shared if voxel[axis]) for axis in range(3))])
    rings = np.zeros(512, dtype=np.uint8)
    for code in range(512):
        ring = [code >> bit & 1 for bit in (0, 1, 2, 5, 8, 7, 6, 3, 0, 1)]
        gaps = sum(not ring[k] and any(ring[k + 1 : k + 3]) for k in (1, 3, 5, 7))
        rings[code] = gaps != 1
    of_edges, of_corners = (np.array(bits, dtype=np.int64).T.copy() for bits in (edges, corners))
    return _Cliques(of_edges, of_corners, rings)


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
def _is_one_piece(pattern: int) -> bool:
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


# --- all of a layer at once -------------------------------------------------------------------


@kernel()
def _middle_rows(pattern: int) -> int:
    """Return the nine voxels of a block with y = 1 as bits 3z + x."""
    return pattern >> 3 & 0o7 | pattern >> 9 & 0o70 | pattern >> 15 & 0o700


@kernel()
def _middle_columns(pattern: int) -> int:
    """Return the nine voxels of a block with x = 1 as bits 3z + y: every third bit, moved together by halves."""
    bits = pattern >> 1 & 0x1249249
    bits = (bits | bits >> 2) & 0x30C30C3
    bits = (bits | bits >> 4) & 0x300F00F
    bits = (bits | bits >> 8) & 0x30000FF
    return (bits | bits >> 16) & 0o777


@kernel()
def _is_last(pattern: int, going: int, edges: Any, corners: Any, rings: Any) -> bool:
    """Tell whether the centre is the last voxel of a set that may not vanish at once: all others are `going`.

    Two that share a face are such a set unless what touches both is one piece with one gap; those that share
    an edge, and no face, unless there are voxels beyond exactly one of its ends; those that share a corner, and
    no edge, always.
    """
    held: Any = 0
    for i in range(12):  # without branches: what is around a voxel cannot be foretold
        others = pattern & edges[0, i]
        no_face = (others & edges[1, i] != 0) | (others & edges[2, i] == edges[2, i])
        one_end = (pattern & edges[3, i] != 0) != (pattern & edges[4, i] != 0)
        held |= no_face & (others & ~going == 0) & (not one_end)
    for i in range(8):
        others = pattern & corners[0, i]
        no_edge = (others & corners[1, i] != 0) & (others & corners[2, i] != 0) & (others & corners[3, i] != 0)
        held |= no_edge & (others & ~going == 0)
    # What lies beside the centre or the other voxel, seen along the line through both: nine bits.
    held |= (going >> 4 & 1) & rings[(pattern | pattern << 9) >> 9 & 0o777]
    held |= (going >> 22 & 1) & rings[(pattern | pattern >> 9) >> 9 & 0o777]
    held |= (going >> 10 & 1) & rings[_middle_rows(pattern | pattern << 3)]
    held |= (going >> 16 & 1) & rings[_middle_rows(pattern | pattern >> 3)]
    held |= (going >> 12 & 1) & rings[_middle_columns(pattern | pattern << 1)]
    held |= (going >> 14 & 1) & rings[_middle_columns(pattern | pattern >> 1)]
    return held != 0  # type: ignore[no-any-return]


@kernel()
def _simple_ones(image: Any, simple: Any, listed: Any, listing: Any, plane: int, row: int, cells: Any) -> Any:
    """Take the places off the list; mark and return those that may go, and what is around them."""
    places, patterns = np.empty_like(listing), np.empty_like(listing)
    count = 0
    for at in listing:
        listed[at] = 0
        beside: Any = image[at - 1] & image[at + 1] & image[at - row] & image[at + row]
        if beside & image[at - plane] & image[at + plane] != 0:
            continue
        pattern = _pattern(image, at, plane, row)
        end = pattern & (pattern - 1) == 0  # of a line, or a voxel by itself
        if not end and _is_one_piece(pattern) and _keeps_euler(pattern, cells):
            simple[at] = 1
            places[count], patterns[count] = at, pattern
            count += 1
    return places[:count], patterns[:count]


@kernel()
def _ranks(
    simple: Any,
    going: Any,
    places: Any,
    patterns: Any,
    depths: Any,
    plane: int,
    row: int,
    edges: Any,
    corners: Any,
    rings: Any,
) -> Any:
    """Let go what is in no set that may not vanish at once, and return the ranks of the others.

    Of two voxels the one of smaller rank goes first. Its last bits count the places, in the order of the grid.
    """
    ranks = np.empty_like(places)
    count = 0
    for i in range(places.size):
        at = places[i]
        if _is_last(patterns[i], _pattern(simple, at, plane, row), edges, corners, rings):
            beside: Any = 0
            for bit in (4, 10, 12, 14, 16, 22):
                beside += patterns[i] >> bit & 1
            ranks[count] = ((np.int64(depths[at]) * 8 + beside) << _COUNT_BITS) + i
            count += 1
        else:
            going[at] = 1
    return ranks[:count]


@kernel()
def _release(
    going: Any, places: Any, patterns: Any, ranks: Any, plane: int, row: int, edges: Any, corners: Any, rings: Any
) -> None:
    """Let the others go in the order of their ranks, each unless it is the last of its set."""
    for rank in ranks:
        i = rank & ((1 << _COUNT_BITS) - 1)
        if not _is_last(patterns[i], _pattern(going, places[i], plane, row), edges, corners, rings):
            going[places[i]] = 1


@kernel()
def _delete(image: Any, simple: Any, going: Any, listed: Any, places: Any, plane: int, row: int) -> Any:
    """Delete what goes, and return the places to look at next: its neighbours, and what was held back."""
    gone = 0
    for at in places:
        image[at] &= ~going[at]
        simple[at] = 0
        gone += going[at]
    following = np.empty(places.size + 26 * gone, dtype=np.int64)
    new = 0
    for at in places:
        if going[at] == 0 and listed[at] == 0:
            listed[at] = 1
            following[new] = at
            new += 1
        elif going[at] != 0:
            going[at] = 0
            for z in range(-1, 2):
                for y in range(-1, 2):
                    first = at + z * plane + y * row - 1
                    for near in range(first, first + 3):
                        if image[near] > listed[near]:
                            listed[near] = 1
                            following[new] = near
                            new += 1
    return following[:new].copy()


# --- face by face -----------------------------------------------------------------------------


@kernel()
def _thin_faces(volume: Any, faces: Any, cells: Any) -> None:
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
                    if not alone and _keeps_euler(pattern, cells) and _is_one_piece(pattern):
                        candidates[count] = at
                        count += 1
            opened = np.empty(6 * count, dtype=np.int64)
            gone = 0
            new = 0
            for at in candidates[:count]:
                if _is_one_piece(_pattern(image, at, plane, row)):
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
