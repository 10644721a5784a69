"""Exact distances between the triangle meshes of two masks, both ways.

The triangles of a mesh lie in cells of a lattice, and a cell's code says which. So the distance from a
centroid to the triangles of a cell some steps away depends on three small numbers, the kind of the centroid,
the code and the offset, and is computed once for all cells alike. Cells are tried by the least distance they
could have, until none can be nearer. For what is farther than the nearest hundreds of cells `mesh_search` goes down a
tree of the centroids with a list of the vertices that come into question: its cost hardly depends on the distance.

Surface and distances are those of MeshMetrics (Podobnik & Vrtovec 2025, arXiv 2509.05670; pymeshmetrics 1.4.1):
the masks are padded with background, the triangles are those of VTK's discrete marching cubes, the segments of
a plane those of its discrete flying edges, and nothing is smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.mesh_search import search

# A distance below this share of a voxel is rounding: the surfaces touch.
_TOUCHING = 1e-12


def mesh_distances(
    a: tuple[NDArray[np.int32], NDArray[np.uint8]],
    b: tuple[NDArray[np.int32], NDArray[np.uint8]],
    spacing: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return distances from the triangles of mesh `a` to mesh `b`, of `b` to `a`, and the areas of both.

    A mesh is given by its cells (N, ndim) in C order and their codes (N,), as `surface_cells` returns them;
    `spacing` has one entry per column, ndim is 2 or 3. Each triangle is measured from its centroid to the
    nearest point of the other surface; in a plane segments and their lengths stand for triangles and areas.
    Exact up to float64 rounding; the order is that of the cells. Raises ValueError for an empty mesh.
    """
    if len(a[0]) == 0 or len(b[0]) == 0:
        raise ValueError("mesh_distances: both meshes need at least one cell")
    steps = tuple(float(s) for s in spacing)
    first, second = ((_as_3d(cells), np.ascontiguousarray(codes)) for cells, codes in (a, b))
    boxes = _box(first[0]), _box(second[0])
    low, high = np.minimum(boxes[0][0], boxes[1][0]), np.maximum(boxes[0][1], boxes[1][1])
    to_b, a_sizes = search(first, second, low, high, steps)
    to_a, b_sizes = search(second, first, low, high, steps)
    for squares in (to_b, to_a):
        squares[squares < (_TOUCHING * min(steps)) ** 2] = 0
        np.sqrt(squares, out=squares)
    return to_b, to_a, a_sizes, b_sizes


def warm() -> None:
    """Compile the kernels."""
    cell = np.zeros((1, 3), dtype=np.int32)
    code = np.ones(1, dtype=np.uint8)
    mesh_distances((cell, code), (cell + np.int32(9), code), (1, 1, 1))


def _as_3d(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    if cells.shape[1] == 3:
        return writable(np.ascontiguousarray(cells, dtype=np.int32))
    lifted = np.zeros((len(cells), 3), dtype=np.int32)
    lifted[:, 1:] = cells
    return lifted


@kernel()
def _box(cells: Any) -> Any:
    """Return the least and the largest coordinates; NumPy needs ten times as long along a short axis."""
    box = np.empty((2, 3), dtype=np.int64)
    for axis in range(3):
        box[0, axis] = box[1, axis] = cells[0, axis]
    for i in range(cells.shape[0]):
        for axis in range(3):
            box[0, axis] = min(box[0, axis], cells[i, axis])
            box[1, axis] = max(box[1, axis], cells[i, axis])
    return box
