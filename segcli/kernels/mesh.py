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
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.mesh_cases import mesh_cases
from segcli.kernels.mesh_search import search_far, search_near
from segcli.kernels.mesh_tree import mesh_tree
from segcli.kernels.mesh_vertices import mesh_vertices

# Cells around a centroid that are tried one by one; the table of distances takes 32 MiB at this number.
_NEAR = 256
# A box of more cells than this gets no grid of codes (a byte a cell); then all is left to the tree of centroids.
_LARGEST_GRID = 1 << 28
# A distance below this share of a voxel is rounding: the surfaces touch.
_TOUCHING = 1e-12


class _Near(NamedTuple):
    """Which cells lie around a centroid, and the distances to them known so far."""

    offsets: NDArray[np.int64]  # (K, 3)
    order: NDArray[np.int64]  # (kinds, K): offsets by the distance of their cell from this centroid
    squares: NDArray[np.float64]  # (kinds, K + 1): that distance, squared; at the end inf
    reach: NDArray[np.float64]  # (kinds,): no other cell is nearer than this, squared
    known: NDArray[np.float64]  # (kinds, 256, K): squared distance from centroid to triangles, 0 where not yet known


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
    to_b, a_sizes = _one_way(first, second, low, high, steps)
    to_a, b_sizes = _one_way(second, first, low, high, steps)
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


def _one_way(
    sources: tuple[NDArray[np.int32], NDArray[np.uint8]],
    targets: tuple[NDArray[np.int32], NDArray[np.uint8]],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cases = mesh_cases(spacing)
    near = _near(spacing)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    grid = _grid(targets, low, high, near)
    count = _count(sources[1], cases.starts)
    squares = np.empty(count)
    sizes = np.empty(count)
    far = np.empty(len(sources[0]), dtype=np.int64)
    firsts = np.empty(len(sources[0]), dtype=np.int64)
    left = search_near(sources[0], sources[1], cases, near, steps, grid, squares, sizes, far, firsts)
    if left:
        vertices = mesh_vertices(targets[0] - low.astype(np.int32), targets[1], cases, spacing)
        cells, codes = sources[0][far[:left]] - low.astype(np.int32), sources[1][far[:left]]
        tree = mesh_tree(cells, codes, steps, cases.extents)
        search_far(cells, codes, firsts[:left], cases, steps, tree, vertices, squares)
    squares[squares < (_TOUCHING * steps[-len(spacing) :].min()) ** 2] = 0
    return np.sqrt(squares, out=squares), sizes


# --- tables of one spacing --------------------------------------------------------------------


@lru_cache(maxsize=4)
def _near(spacing: tuple[float, ...]) -> _Near:
    cases = mesh_cases(spacing)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    flat = len(spacing) == 2
    radius = steps[1:].min()
    while True:
        # The centroids of a cell lie a sixth of a voxel inside its walls, or deeper.
        half = (radius / steps + 5 / 6).astype(np.int64)
        half[0] *= not flat
        axes = np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij")
        offsets = np.stack(axes, axis=-1).reshape(-1, 3)
        squares = ((np.maximum(np.abs(offsets) - 5 / 6, 0) * steps) ** 2).sum(axis=1)
        if np.count_nonzero(squares < radius**2) >= _NEAR:
            break
        radius *= 1.1
    rank = np.argsort(squares, kind="stable")
    offsets, rest = offsets[rank[:_NEAR]], offsets[rank[_NEAR:]]
    _, firsts = np.unique(cases.kinds, return_index=True)
    centroids = cases.centroids[firsts]
    inner = _box_squares(centroids, offsets, steps)
    order = np.argsort(inner, axis=1, kind="stable")
    squares = np.hstack([np.take_along_axis(inner, order, axis=1), np.full((len(centroids), 1), np.inf)])
    reach = np.minimum(_box_squares(centroids, rest, steps).min(axis=1, initial=np.inf), radius**2)
    return _Near(offsets, order, squares, reach, np.zeros((len(centroids), 256, _NEAR)))


def _box_squares(
    points: NDArray[np.float64], offsets: NDArray[np.int64], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return squared distances from points of a cell to the boxes of cells at these offsets."""
    low = offsets * steps
    gaps = np.maximum(np.maximum(low - points[:, None], points[:, None] - low - steps), 0)
    squares: NDArray[np.float64] = (gaps**2).sum(axis=2)
    return squares


# --- where the cells are ----------------------------------------------------------------------


class _Grid(NamedTuple):
    """Codes of the cells of a box, 0 where there is none; with a margin, so that offsets need no check."""

    codes: NDArray[np.uint8]
    origin: NDArray[np.int64]
    strides: NDArray[np.int64]
    jumps: NDArray[np.int64]  # `_Near.order` as steps in `codes`


def _grid(
    targets: tuple[NDArray[np.int32], NDArray[np.uint8]], low: NDArray[np.int64], high: NDArray[np.int64], near: _Near
) -> _Grid:
    margin = np.abs(near.offsets).max(axis=0)
    shape = high - low + 1 + 2 * margin
    origin = low - margin
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    volume = int(shape[0]) * int(shape[1]) * int(shape[2])
    jumps = (near.offsets @ strides)[near.order]
    if volume > _LARGEST_GRID:
        return _Grid(np.empty(0, dtype=np.uint8), origin, strides, jumps)
    codes = np.zeros(volume, dtype=np.uint8)
    _place(targets[0], targets[1], origin, strides, codes)
    return _Grid(codes, origin, strides, jumps)


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


@kernel()
def _count(codes: Any, starts: Any) -> int:
    count = 0
    for code in codes:
        count += starts[code + 1] - starts[code]
    return count


@kernel()
def _place(cells: Any, codes: Any, origin: Any, strides: Any, grid: Any) -> None:
    for i in range(cells.shape[0]):
        place = 0
        for axis in range(3):
            place += (cells[i, axis] - origin[axis]) * strides[axis]
        grid[place] = codes[i]
