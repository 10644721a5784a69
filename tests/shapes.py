"""Named tiny masks; golden files call them by their lower-case name. Counts: tp, fp, fn, tn of the pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


def boxes(shape: tuple[int, ...], *parts: tuple[tuple[int, int], ...]) -> Mask:
    """Return zeros with ones in each part, given as a (first, past the last) for each axis."""
    mask = np.zeros(shape, np.uint8)
    for part in parts:
        mask[tuple(slice(first, past) for first, past in part)] = 1
    return mask


# --- 2-D ----------------------------------------------------------------------------------------

#: The pair of MedPy's tests: 3, 2, 1, 10.
HOOK_GT = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.uint8)  # 4 voxels
HOOK_PRED = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]], np.uint8)  # 5 voxels

#: Two single pixels, three columns apart: 0, 1, 1, 33.
DOT_LEFT = boxes((5, 7), ((2, 3), (1, 2)))
DOT_RIGHT = boxes((5, 7), ((2, 3), (4, 5)))

#: A bar of 4 pixels (pred) that begins at the pixel of the gt: 1, 3, 0, 14.
BAR_START = boxes((3, 6), ((1, 2), (1, 2)))
BAR = boxes((3, 6), ((1, 2), (1, 5)))

#: The same with 21 pixels: 1, 20, 0, 48.
LONG_START = boxes((3, 23), ((1, 2), (1, 2)))
LONG = boxes((3, 23), ((1, 2), (1, 22)))

#: A square of 100 pixels, 36 of them border; with one stray pixel far down the diagonal: 100, 1, 0, 1499.
SQUARE = boxes((40, 40), ((10, 20), (10, 20)))
SQUARE_AND_STRAY = boxes((40, 40), ((10, 20), (10, 20)), ((35, 36), (35, 36)))

#: 2x2 (4 border pixels) in the middle of 4x4 (12 border pixels), as MetricsReloaded's tests: 4, 0, 12, 180.
INNER = boxes((14, 14), ((6, 8), (6, 8)))
OUTER = boxes((14, 14), ((5, 9), (5, 9)))

#: 4x4 squares one column apart: 12, 4, 4, 44.
TILE = boxes((8, 8), ((2, 6), (2, 6)))
TILE_MOVED = boxes((8, 8), ((2, 6), (3, 7)))
#: The same without its first pixel: 15 voxels.
TILE_CUT = boxes((8, 8), ((2, 6), (2, 6))) - boxes((8, 8), ((2, 3), (2, 3)))

#: A whole image, and all but its last column: 9, 3, 0, 0.
FULL = np.ones((3, 4), np.uint8)
MOST = boxes((3, 4), ((0, 3), (0, 3)))
NONE = np.zeros((3, 4), np.uint8)

#: gt: two bars of 3 pixels in a row; pred: one bar of 7 over both.
SPLIT_GT = boxes((3, 9), ((1, 2), (1, 4)), ((1, 2), (5, 8)))
SPLIT_PRED = boxes((3, 9), ((1, 2), (1, 8)))

# --- 3-D ----------------------------------------------------------------------------------------

#: A bar of 3 voxels (pred) along the last axis that begins at the voxel of the gt: 1, 2, 0, 42.
ROD_START = boxes((3, 3, 5), ((1, 2), (1, 2), (1, 2)))
ROD = boxes((3, 3, 5), ((1, 2), (1, 2), (1, 4)))

#: Two voxels, two apart along the last axis: 0, 1, 1, 43.
POINT = boxes((3, 3, 5), ((1, 2), (1, 2), (1, 2)))
POINT_MOVED = boxes((3, 3, 5), ((1, 2), (1, 2), (3, 4)))

#: A cube of 27 voxels, 26 of them border; without its centre (still 26 border voxels): 26, 0, 1, 98.
CUBE = boxes((5, 5, 5), ((1, 4), (1, 4), (1, 4)))
HOLLOW = CUBE - boxes((5, 5, 5), ((2, 3), (2, 3), (2, 3)))

#: gt: a ring of 8 voxels, and a 3x3x3 box around a cavity. pred: a bar, the box without its cavity, and a dot that
#: touches nothing. Pieces, tunnels, cavities: 2, 1, 1 and 3, 0, 0.
KNOT_GT = boxes((7, 9, 5), ((1, 2), (1, 4), (1, 4)), ((3, 6), (5, 8), (1, 4))) - boxes(
    (7, 9, 5), ((1, 2), (2, 3), (2, 3)), ((4, 5), (6, 7), (2, 3))
)
KNOT_PRED = boxes((7, 9, 5), ((1, 2), (1, 2), (1, 4)), ((3, 6), (5, 8), (1, 4)), ((5, 6), (1, 2), (2, 3)))

VOID = np.zeros((3, 3, 5), np.uint8)


def shape(name: str) -> Mask:
    """Return the mask called `name` (in lower case)."""
    return globals()[name.upper()]
