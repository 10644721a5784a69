"""Triangles of a mask's surface, by neighbour code: the marching-cubes cases of VTK.

A code says which of the 2x2x2 voxels around a corner of the grid are inside, as in `surfel_areas`: bit 128
is the voxel at (0, 0, 0), bit 1 the one at (1, 1, 1). The corners of the triangles are middles of the cell's
twelve edges. Which triangles a code has is what `vtkDiscreteMarchingCubes` draws; no rule gives it, because
that table favours some axes and treats a code and its complement differently.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int, int]
Triangle = tuple[Point, Point, Point]

#: Middles of the edges of a cell, in half voxels, in C order: the digits 0 to b of the triangles.
MIDDLES = [(z, y, x) for z, y, x in product((0, 1, 2), repeat=3) if (z, y, x).count(1) == 1]
#: Codes 1 to 254, three digits a triangle; a test draws every one of them with VTK.
_TRIANGLES = (  # noqa: SIM905  (a list would be 254 lines)
    "7ab 69b 67979a 58a 57b58b 58a69b 567569589 489 4897ab 46868b 46747878a 45a49a 45747b49b 45656a6ab 456567 "
    "237 23a3ab 23769b 23929a369 23758a 23535838b 23758a69b 235358368689 237489 23a3ab489 23746868b "
    "23626828a468 23745a49a 23535939b459 23745656b5ab 235356456 136 1367ab 13b19b 13717a19a 13658a 13657b58b "
    "13b19b58a 137178189578 136489 1364897ab 13814838b 13714747a48a 13645a49a 13645747979b 13434a3ab45a "
    "137147457 126267 12a16a6ab 12927b29b 12a19a 12626758a 12625826868b 12927958a79b 129259589 126267489 "
    "12a16b1ab489 12424b27b48b 12a14818a 12716745a49a 12b16b25b45b49b 12b14b27b45b5ab 125145 025 0257ab 02569b "
    "02567979a 02828a 02b08b27b 02828a69b 027079089679 025489 0254897ab 02546868b 02546747a48a 02424929a "
    "02904927b29b 02a04606a6ab 024247467 037057 03b05a0ab 03705769b 03605a06a69a 03837878a 03b08b 03837a38a69b "
    "038369389 037057489 03b05b4895ab 03535746868b 03a05a36a46a48a 03434a37a49a 03b04b49b 03a04a37a46a6ab "
    "034346 025136 0251367ab 02513b19b 02513a19a37a 02813628a 02707b08b136 02a08a13b19b 027078137179789 "
    "025136489 0251364897ab 02513434838b 02513714747a48a 02904913629a 02904913627b29b 02413424a34b4ab "
    "024134247347 016056567 01515a16a6ab 01905707979b 01a05a19a 01606a08a67a 01606b08b 01707817978a79b 019089 "
    "015156489567 01a05a16b1ab489 01514815717b18b 01a05a14a48a 01604906707a09a 01604906b09b 0147ab 014 014 "
    "0147ab 01469b 01467979a 01458a 01457b58b 01458a69b 014567568689 019089 0190897ab 01606b08b 01606a08a67a "
    "01a05a19a 01905707979b 01515a16a6ab 016056567 014237 01423a3ab 01423769b 01423626929a 01423758a "
    "01423825838b 01423758a69b 014238258369389 019089237 01908923b2ab 01b08b16b237 01606823626a68a 01515a19a237 "
    "01515923535b59b 01515a16a2376ab 015156235356 034346 0343467ab 03b04b49b 03434a37a49a 03434658a "
    "03604657b58b 03b04909b58a 039049379579589 038369389 0383686897ab 03b08b 03837878a 03605a06a69a "
    "03905936957979b 03b05a0ab 037057 024247467 02a04606a6ab 02904927b29b 02424929a 02704746758a "
    "02424625826b28b 02424927958a79b 029049259589 027079089679 02606826a6896ab 02b08b27b 02828a 02705a06706909a "
    "02569b 02b05b27b5ab 025 125145 1251457ab 12514569b 12514567a69a 12a14818a 12424b27b48b 12a14a48a69b "
    "128148278678689 129259589 1292582897ab 12625826868b 12816825867878a 12a19a 12927b29b 12a16a6ab 126267 "
    "137147457 13434a3ab45a 13434745769b 13434535a36939a 13714747a48a 13814838b 13434747869b78a 138148368689 "
    "137178189578 13515935b5895ab 13715715816b18b 13658a 13717a19a 13b19b 13716b17a1ab 136 235356456 "
    "2362564567ab 23535939b459 23534534937a39a 23626828a468 23624624827b28b 23424a34b48a49b 237489 235358368689 "
    "2353583686897ab 23535838b 23825837878a 23929a369 23927936979b 23a3ab 237 456567 45656a6ab 45747b49b 45a49a "
    "46747878a 46868b 47a47b48a49b 489 567569589 56856a6896ab 57b58b 58a 67979a 69b 7ab "
).split()


class MeshCases(NamedTuple):
    """Triangles of the 256 codes at one spacing, in its unit, from the cell's voxel (0, 0, 0); read only."""

    starts: NDArray[np.int64]
    """First triangle of each code; 257 entries."""
    triangles: NDArray[np.float64]
    """A corner, the ways to the two others and the unit normal of each (T, 12); a segment ends twice, normal 0."""
    centroids: NDArray[np.float64]
    """Where each triangle is measured from (T, 3)."""
    kinds: NDArray[np.int64]
    """Number of each triangle's centroid among the different ones (T,)."""
    sizes: NDArray[np.float64]
    """Area (length of a segment) of each triangle (T,)."""
    extents: NDArray[np.float64]
    """Least and largest coordinates of a code's triangles, then of their centroids (256, 12)."""
    fan_starts: NDArray[np.int64]
    """First of `fans` of each edge of each code; 256 * 12 + 1 entries."""
    fans: NDArray[np.int64]
    """Triangles with a corner in the middle of an edge, edge by edge."""
    rooms: NDArray[np.float64]
    """How far, squared, a point of a fan's triangles may be from the nearest of their corners (256, 12)."""


@lru_cache(maxsize=64)
def mesh_cases(spacing: tuple[float, ...]) -> MeshCases:
    """Return the triangles of every code at this spacing, three entries, or two for contours in a plane.

    The codes of a plane are those of a cell whose two planes are equal, and its segments lie in depth 0.
    """
    shapes = [_of_code(code, len(spacing)) for code in range(256)]
    starts = np.cumsum([0, *(len(shape) for shape in shapes)])
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    halves = np.array([triangle for shape in shapes for triangle in shape], dtype=np.float64)
    corners = halves / 2 * steps
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1)
    if len(spacing) == 2:
        sixths = 3 * (halves[:, 0] + halves[:, 1])
        sizes = np.linalg.norm(second - first, axis=1)
    else:
        sixths = 2 * halves.sum(axis=1)
        sizes = lengths / 2
        normals /= lengths[:, None]
    centroids = sixths / 12 * steps
    _, kinds = np.unique(sixths, axis=0, return_inverse=True)
    extents = np.zeros((256, 12))
    for code in range(256):
        mine = slice(starts[code], starts[code + 1])
        if mine.start < mine.stop:
            around = (corners[mine].reshape(-1, 3), centroids[mine])
            extents[code] = np.concatenate([f(points, axis=0) for points in around for f in (np.min, np.max)])
    triangles = np.hstack([first, second - first, third - first, normals])
    room = _rooms(first, second, third)
    fans: list[list[int]] = [[] for _ in range(256 * 12)]
    rooms = np.zeros(256 * 12)
    for code in range(256):
        for t in range(starts[code], starts[code + 1]):
            for corner in set(shapes[code][t - starts[code]]):
                fan = 12 * code + MIDDLES.index(corner)
                fans[fan].append(t)
                rooms[fan] = max(rooms[fan], room[t])
    fan_starts = np.cumsum([0, *(len(fan) for fan in fans)])
    return MeshCases(
        starts, triangles, centroids, kinds.ravel().astype(np.int64), sizes, extents, fan_starts,
        np.array([t for fan in fans for t in fan]), rooms.reshape(256, 12),
    )  # fmt: skip


def _rooms(first: NDArray[np.float64], second: NDArray[np.float64], third: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far, squared, a point may be from the next corner of its triangle or, on an edge, of that edge.

    That is the circumscribed circle's radius, but half the longest edge where the angle across from it is not acute.
    """
    squares = np.sort(
        [((a - b) ** 2).sum(axis=1) for a, b in ((first, second), (second, third), (third, first))], axis=0
    )
    twice = np.cross(second - first, third - first)
    acute = squares[0] + squares[1] > squares[2] * (1 + 1e-9)
    circles = squares.prod(axis=0) / np.where(acute, 4 * (twice**2).sum(axis=1), 1)
    rooms: NDArray[np.float64] = np.where(acute, circles, squares[2] / 4)
    return rooms


def _of_code(code: int, ndim: int) -> list[Triangle]:
    if ndim == 2:
        return _segments(code & 15) if code & 15 == code >> 4 else []
    if code in (0, 255):
        return []
    corners = [MIDDLES[int(digit, 16)] for digit in _TRIANGLES[code - 1]]
    return list(zip(corners[::3], corners[1::3], corners[2::3], strict=True))


def _segments(corners: int) -> list[Triangle]:
    """Return the contour in a cell of 2x2 pixels: pixels that touch only at a corner are kept apart."""
    inside = {(y, x) for y, x in product((0, 1), repeat=2) if corners >> (3 - 2 * y - x) & 1}
    crossed = [(0, 2 * y, 1) for y in (0, 1) if ((y, 0) in inside) != ((y, 1) in inside)]
    crossed += [(0, 1, 2 * x) for x in (0, 1) if ((0, x) in inside) != ((1, x) in inside)]
    if len(crossed) == 4:
        return [((0, 2 * y, 1), (0, 1, 2 * x), (0, 1, 2 * x)) for y, x in sorted(inside)]
    return [(a, b, b) for a, b in pairwise(crossed)]
