"""Areas of surface elements by neighbour code: those of `surface-distance` (Nikolov et al. 2021) and of DisTorch.

A code says which of the 2x2x2 voxels around a corner of the grid are inside: bit 128 is the voxel at
(0, 0, 0), bit 1 the one at (1, 1, 1), and the last axis varies fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

# One code of each kind that cube symmetries and complement leave apart, with the total of its triangles'
# area vectors by direction, in eighths of a voxel face (signs do not matter to an area). The numbers are
# those of the marching-cubes table of `surface-distance`; a test compares all 256 areas with that tool.
_AREA_VECTORS: dict[int, dict[tuple[int, int, int], int]] = {
    1: {(1, 1, 1): 1},
    3: {(1, 1, 0): 4},
    6: {(1, 1, 1): 2},
    7: {(1, 0, 0): 4, (1, 1, 1): 3},
    15: {(1, 0, 0): 8},
    22: {(1, 1, 1): 3},
    23: {(1, 1, 1): 6},
    24: {(1, 1, 1): 2},
    25: {(0, 1, 1): 4, (1, 1, 1): 1},
    27: {(1, 1, 1): 4, (0, 1, 1): 2, (1, 0, 1): 2},
    30: {(1, 0, 0): 4, (1, 1, 1): 4},
    60: {(1, 1, 0): 8},
    105: {(1, 1, 1): 4},
}


@lru_cache(maxsize=64)
def surfel_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the area of each of the 256 codes at this spacing, in its unit squared.

    With two spacings it is the length of the contour in a plane; the 4-bit code of 2x2 corners then stands
    twice, as the code of a cell whose two planes are equal. Areas are symmetric in the axes to the last digit:
    `fsum` knows no order. The array is shared: do not write to it.
    """
    areas = np.zeros(256)
    if len(spacing) == 2:
        row, column = (float(s) for s in spacing)
        diagonal = 0.5 * float(np.sqrt(row**2 + column**2))  # to the last digit that of `surface-distance`, for ties
        for corners in range(1, 15):
            inside = [corners >> bit & 1 for bit in (3, 2, 1, 0)]
            if sum(inside) == 2 and inside[0] == inside[1]:
                length = column
            elif sum(inside) == 2 and inside[0] == inside[2]:
                length = row
            else:
                length = diagonal * min(sum(inside), 4 - sum(inside))
            areas[corners << 4 | corners] = length
        return areas
    z, y, x = (float(s) for s in spacing)
    faces = (y * x, z * x, z * y)
    for code, vectors in _AREA_VECTORS.items():
        for axes, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
            image = _moved(code, axes, flips)
            triangles = []
            for direction, eighths in vectors.items():
                squares = [(direction[axis] * face) ** 2 for axis, face in zip(axes, faces, strict=True)]
                triangles.append(eighths / 8 * math.sqrt(math.fsum(squares)))
            areas[image] = areas[255 - image] = math.fsum(triangles)
    return areas


@lru_cache(maxsize=64)
def face_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return for each of the 256 codes the voxel faces between inside and outside that meet at the corner.

    Each face counts with the quarter of its area that belongs to this corner of it. With two spacings faces
    are pixel edges, each with half its length, and codes are doubled as in `surfel_areas`. The array is shared.
    """
    ndim = len(spacing)
    areas = np.zeros(256)
    corners = list(product((0, 1), repeat=ndim))
    for small in range(1 << len(corners)):
        code = small if ndim == 3 else small << 4 | small
        inside = {corner: bool(small >> (len(corners) - 1 - k) & 1) for k, corner in enumerate(corners)}
        faces = []
        for axis in range(ndim):
            face = float(np.prod([s for other, s in enumerate(spacing) if other != axis]))
            crossed = [c for c in corners if c[axis] == 0 and inside[c] != inside[*c[:axis], 1, *c[axis + 1 :]]]
            faces.append(len(crossed) * face / 2 ** (ndim - 1))
        areas[code] = math.fsum(faces)
    return areas


@lru_cache(maxsize=64)
def moved_codes(axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Return each of the 256 codes after its axes were put into this order; the doubled ones of a plane with two."""
    lift = 3 - len(axes)
    whole = (*range(lift), *(axis + lift for axis in axes))
    return np.array([_moved(code, whole, (0, 0, 0)) for code in range(256)], dtype=np.float64)


def _moved(code: int, axes: Sequence[int], flips: Sequence[int]) -> int:
    """Return the code of the same cell after its axes were permuted, then flipped."""
    image = 0
    for corner in product((0, 1), repeat=3):
        if code & _bit(corner):
            image |= _bit([corner[axis] ^ flip for axis, flip in zip(axes, flips, strict=True)])
    return image


def _bit(corner: Sequence[int]) -> int:
    return 128 >> (4 * corner[0] + 2 * corner[1] + corner[2])
