"""The inner band of a mask along its mesh: its voxels closer to the mesh than a width."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.bands import Bands
from segcli.evidence.maps import SIDES, Side

if TYPE_CHECKING:
    from segcli.evidence.measured import Measured

Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]


def mesh_bands(case: Measured, index: int, width: float | None) -> Bands:
    """Count the voxels of both masks whose centre is closer than `width` to their own mesh, as MeshMetrics.

    `width` is in the unit of the spacing; `None` is 2% of the diagonal, at least one voxel.
    """
    width = max(0.02 * case.diagonal, min(case.spacing)) if width is None else width
    box = case.labelled.box(index)
    if box is None:
        return Bands(0, 0, 0)
    pred, gt = (case.labelled.inside(side, index, box)[0] & _near(case, side, index, box, width) for side in SIDES)
    return Bands(*(int(np.count_nonzero(band)) for band in (pred, gt, pred & gt)))


def _near(case: Measured, side: Side, index: int, box: list[slice], width: float) -> Mask:
    """Return which voxels of a box lie closer than `width` to a mesh.

    Which voxels around a cell do is the same for all cells of one code: a table says it.
    """
    from segcli.kernels.mesh_cases import mesh_cases

    spacing = case.spacing
    cells, codes = case.elements(side, "mesh")[index]
    cases = mesh_cases(spacing)
    grid = np.zeros([s.stop - s.start for s in box], dtype=np.bool_)
    if not len(cells):
        return grid
    near = grid.T if case.maps.reverse else grid  # cells are those of the array, the box is one of memory
    first = np.array([s.start for s in case.maps.in_memory(box)]) + 1  # a cell begins at the voxel before it
    steps = np.array(spacing)
    reach = [range(-math.ceil(width / s), math.ceil(width / s) + 2) for s in spacing]
    used = [code for code in np.unique(codes).tolist() if cases.starts[code] < cases.starts[code + 1]]
    triangles = np.concatenate([cases.triangles[cases.starts[code] : cases.starts[code + 1]] for code in used])
    counts = [int(cases.starts[code + 1] - cases.starts[code]) for code in used]
    begins = np.cumsum([0, *counts[:-1]])
    close = np.zeros(256, dtype=np.bool_)
    for offset in itertools.product(*reach):
        point = np.zeros(3)
        point[3 - len(offset) :] = offset * steps
        close[used] = np.minimum.reduceat(_squares(point, triangles), begins) < width * width
        places = cells[close[codes]] + np.array(offset) - first
        places = places[((places >= 0) & (places < near.shape)).all(axis=1)]
        near[tuple(places.T)] = True
    return grid


def _squares(point: Vectors, triangles: Vectors) -> Vectors:
    """Return the squared distances from a point to triangles: a corner, the ways to the others, the unit normal."""
    corner, first, second, normal = triangles.reshape(-1, 4, 3).transpose(1, 0, 2)
    seen = point - corner
    edges = [_to_segment(seen, first), _to_segment(seen, second), _to_segment(seen - first, second - first)]
    squares = np.minimum(np.minimum(edges[0], edges[1]), edges[2])
    # Above the triangle's inside the foot of the perpendicular is nearest.
    a, b, c = ((x * y).sum(axis=1) for x, y in ((first, first), (first, second), (second, second)))
    d, e = (seen * first).sum(axis=1), (seen * second).sum(axis=1)
    area = a * c - b * b
    u, v = c * d - b * e, a * e - b * d
    above = (area > 0) & (u >= 0) & (v >= 0) & (u + v <= area)
    return np.where(above, (seen * normal).sum(axis=1) ** 2, squares)


def _to_segment(seen: Vectors, way: Vectors) -> Vectors:
    length = (way * way).sum(axis=1)
    share = np.divide((seen * way).sum(axis=1), length, out=np.zeros_like(length), where=length > 0).clip(0, 1)
    return np.asarray(((seen - share[:, None] * way) ** 2).sum(axis=1))
