"""Exact distances between the triangle meshes of two masks, both ways.

The triangles of a mesh lie in cells of a lattice, and a cell's code says which. So the distance from a
centroid to the triangles of a cell some steps away depends on three small numbers, the kind of the centroid,
the code and the offset, and is computed once for all cells alike. Cells are tried by the least distance they
could have, until none can be nearer. What is farther than the nearest hundred cells is found in a tree of
boxes, whose cost hardly depends on the distance.

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
from segcli.kernels.mesh_tree import NO_TREE, mesh_tree

# Cells around a centroid that are tried one by one; the table of distances takes 32 MiB at this number.
_NEAR = 256
# A box of more cells than this gets no grid of codes (a byte a cell); then all is left to the tree.
_LARGEST_GRID = 1 << 28
# A distance below this share of a voxel is rounding: the surfaces touch.
_TOUCHING = 1e-12
# What is nearer by less than this is not looked for: the difference would be rounding, and surfaces that are
# parallel over many triangles are full of ties.
_LESS = 1 - 1e-12
# Stands for a squared distance of zero in a table where zero means not yet known.
_ZERO = 1e-300


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
    *,
    reverse: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return distances from the triangles of mesh `a` to mesh `b`, of `b` to `a`, and the areas of both.

    A mesh is given by its cells (N, ndim) in C order and their codes (N,), as `surface_cells` returns them;
    `spacing` has one entry per column, ndim is 2 or 3. Each triangle is measured from its centroid to the
    nearest point of the other surface; in a plane segments and their lengths stand for triangles and areas.
    With `reverse` columns and spacing are those of a transposed array: the result is that of the array.
    Exact up to float64 rounding; the order is that of the cells. Raises ValueError for an empty mesh.
    """
    if len(a[0]) == 0 or len(b[0]) == 0:
        raise ValueError("mesh_distances: both meshes need at least one cell")
    steps = tuple(float(s) for s in spacing)
    first, second = ((_as_3d(cells), np.ascontiguousarray(codes)) for cells, codes in (a, b))
    low = np.minimum(first[0].min(axis=0), second[0].min(axis=0)).astype(np.int64)
    high = np.maximum(first[0].max(axis=0), second[0].max(axis=0)).astype(np.int64)
    to_b, a_sizes = _one_way(first, second, low, high, steps, reverse)
    to_a, b_sizes = _one_way(second, first, low, high, steps, reverse)
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
    reverse: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cases = mesh_cases(spacing, reverse)
    near = _near(spacing, reverse)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    grid = _grid(targets, low, high, near)
    count = int((cases.starts[1:] - cases.starts[:-1])[sources[1]].sum())
    squares = np.empty(count)
    sizes = np.empty(count)
    tree = NO_TREE
    done = (0, 0)
    while True:
        done = _measure(sources[0], sources[1], cases, near, steps, grid, tree, done, squares, sizes)
        if done[0] == len(sources[0]):
            break
        tree = mesh_tree(*targets, steps, cases.extents)
    squares[squares < (_TOUCHING * steps[-len(spacing) :].min()) ** 2] = 0
    return np.sqrt(squares, out=squares), sizes


# --- tables of one spacing --------------------------------------------------------------------


@lru_cache(maxsize=4)
def _near(spacing: tuple[float, ...], reverse: bool) -> _Near:
    cases = mesh_cases(spacing, reverse)
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
def _place(cells: Any, codes: Any, origin: Any, strides: Any, grid: Any) -> None:
    for i in range(cells.shape[0]):
        place = 0
        for axis in range(3):
            place += (cells[i, axis] - origin[axis]) * strides[axis]
        grid[place] = codes[i]


# --- distances --------------------------------------------------------------------------------


@kernel()
def _to_triangle(z: float, y: float, x: float, triangles: Any, t: int, best: Any) -> Any:
    """Return the squared distance from a point to a triangle, or to a segment whose end stands twice.

    Where its plane is not nearer than `best`, squared, neither is the triangle: then `best` is returned.
    """
    z -= triangles[t, 0]
    y -= triangles[t, 1]
    x -= triangles[t, 2]
    height = triangles[t, 9] * z + triangles[t, 10] * y + triangles[t, 11] * x
    height *= height
    if height >= best * _LESS:
        return best
    z1, y1, x1 = triangles[t, 3], triangles[t, 4], triangles[t, 5]
    z2, y2, x2 = triangles[t, 6], triangles[t, 7], triangles[t, 8]
    along = z1 * z + y1 * y + x1 * x
    across = z2 * z + y2 * y + x2 * x
    aa = z1 * z1 + y1 * y1 + x1 * x1
    ab = z1 * z2 + y1 * y2 + x1 * x2
    bb = z2 * z2 + y2 * y2 + x2 * x2
    u = 0.0
    v = 0.0
    if along <= 0 and across <= 0:
        pass
    elif along >= aa and across - ab <= along - aa:
        u = 1.0
    elif across >= bb and along - ab <= across - bb:
        v = 1.0
    elif along * (across - ab) - (along - aa) * across <= 0 and 0 <= along <= aa:
        u = along / aa
    elif (along - ab) * across - along * (across - bb) <= 0 and 0 <= across <= bb:
        v = across / bb
    else:
        rising = (across - ab) - (along - aa)
        falling = (along - ab) - (across - bb)
        if (along - aa) * (across - bb) - (along - ab) * (across - ab) > 0 or rising < 0 or falling < 0:
            return height
        v = rising / (rising + falling)
        u = 1 - v
    z -= u * z1 + v * z2
    y -= u * y1 + v * y2
    x -= u * x1 + v * x2
    return z * z + y * y + x * x


@kernel()
def _descend(
    i: int, cells: Any, codes: Any, cases: Any, steps: Any, tree: Any, stack: Any, squares: Any, best: Any,
    hint: int,
) -> int:  # fmt: skip
    """Lower `best`, the squared distances of the centroids of cell i, to the true ones.

    `hint` is a cell of the tree that may be near; returns one that is.
    """
    starts, centroids, triangles, extents = cases.starts, cases.centroids, cases.triangles, cases.extents
    targets, target_codes, cell_bounds = tree.cells, tree.codes, tree.cell_bounds
    bounds, children = tree.bounds, tree.children
    code = codes[i]
    first = starts[code]
    number = starts[code + 1] - first
    z0 = cells[i, 0] * steps[0]
    y0 = cells[i, 1] * steps[1]
    x0 = cells[i, 2] * steps[2]
    z1 = z0 + extents[code, 9]
    y1 = y0 + extents[code, 10]
    x1 = x0 + extents[code, 11]
    z0 += extents[code, 6]
    y0 += extents[code, 7]
    x0 += extents[code, 8]
    worst = np.inf
    # First the hint, then the root.
    stack[0] = children.shape[0] - 1
    squares[0] = 0.0
    depth = 1
    begin = hint
    end = hint + 1
    leaf = True
    boxes = cell_bounds
    while True:
        base = depth
        for child in range(begin, end):
            z = max(boxes[child, 0] - z1, z0 - boxes[child, 3], 0.0)
            y = max(boxes[child, 1] - y1, y0 - boxes[child, 4], 0.0)
            x = max(boxes[child, 2] - x1, x0 - boxes[child, 5], 0.0)
            square = z * z + y * y + x * x
            if square >= worst:
                continue
            if not leaf:
                stack[depth] = child
                squares[depth] = square
                depth += 1
                continue
            z = (cells[i, 0] - targets[child, 0]) * steps[0]
            y = (cells[i, 1] - targets[child, 1]) * steps[1]
            x = (cells[i, 2] - targets[child, 2]) * steps[2]
            other = target_codes[child]
            worst = 0.0
            for j in range(number):
                zj = z + centroids[first + j, 0]
                yj = y + centroids[first + j, 1]
                xj = x + centroids[first + j, 2]
                for t in range(starts[other], starts[other + 1]):
                    square = _to_triangle(zj, yj, xj, triangles, t, best[j])
                    if square < best[j]:
                        best[j] = square
                        hint = child
                worst = max(worst, best[j])
            worst *= _LESS
        # The nearest child is looked at first.
        for k in range(base, depth - 1):
            if squares[k] < squares[depth - 1]:
                stack[k], stack[depth - 1] = stack[depth - 1], stack[k]
                squares[k], squares[depth - 1] = squares[depth - 1], squares[k]
        while depth > 0 and squares[depth - 1] >= worst:
            depth -= 1
        if depth == 0:
            return hint
        depth -= 1
        node = stack[depth]
        begin = children[node, 0]
        end = children[node, 1]
        leaf = children[node, 2] == 1
        boxes = cell_bounds if leaf else bounds


@kernel()
def _measure(
    cells: Any, codes: Any, cases: Any, near: Any, steps: Any, grid: Any, tree: Any, done: Any, squares: Any,
    sizes: Any,
) -> tuple[int, int]:  # fmt: skip
    """Write squared distances and sizes of the triangles from cell done[0], triangle done[1] on.

    Returns how far it came: with no tree it stops at the first cell that needs one.
    """
    starts, kinds, centroids, triangles = cases.starts, cases.kinds, cases.centroids, cases.triangles
    jumps, order, known, offsets, bounds = grid.jumps, near.order, near.known, near.offsets, near.squares
    best = np.empty(8)
    stack = np.empty(1024, dtype=np.int64)
    stack_squares = np.empty(1024)
    count = done[1]
    far = False
    low = 0.0
    hint = 0
    diagonal = np.sqrt(steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2)
    reach = np.sqrt(near.reach.max())
    for i in range(done[0], cells.shape[0]):
        code = codes[i]
        first = starts[code]
        number = starts[code + 1] - first
        if far:
            away = 0.0
            for axis in range(3):
                step = (cells[i, axis] - cells[i - 1, axis]) * steps[axis]
                away += step * step
            # No nearer than the cell before less the way from there: then the cells around are not tried.
            far = low - np.sqrt(away) - diagonal > reach
        if grid.codes.size == 0:
            far = True
        for j in range(number):
            sizes[count + j] = cases.sizes[first + j]
            best[j] = np.inf
        if not far:
            place = (cells[i, 0] - grid.origin[0]) * grid.strides[0] + (cells[i, 1] - grid.origin[1]) * grid.strides[1]
            place += cells[i, 2] - grid.origin[2]
            if grid.codes[place] == code:
                for j in range(number):
                    squares[count + j] = 0.0
                count += number
                continue
            for j in range(number):
                kind = kinds[first + j]
                nearest = np.inf
                k = 0
                while bounds[kind, k] < nearest:
                    other = grid.codes[place + jumps[kind, k]]
                    if other != 0:
                        slot = order[kind, k]
                        square = known[kind, other, slot]
                        if square == 0.0:
                            square = np.inf
                            z = centroids[first + j, 0] - offsets[slot, 0] * steps[0]
                            y = centroids[first + j, 1] - offsets[slot, 1] * steps[1]
                            x = centroids[first + j, 2] - offsets[slot, 2] * steps[2]
                            for t in range(starts[other], starts[other + 1]):
                                square = min(square, _to_triangle(z, y, x, triangles, t, square))
                            square = max(square, _ZERO)
                            known[kind, other, slot] = square
                        nearest = min(nearest, square)
                    k += 1
                best[j] = nearest
                far |= nearest > near.reach[kind]
        if far:
            if tree.cells.shape[0] == 0:
                return i, count
            hint = _descend(i, cells, codes, cases, steps, tree, stack, stack_squares, best, hint)
            low = np.sqrt(best[:number].min())
        for j in range(number):
            squares[count + j] = best[j]
        count += number
    return cells.shape[0], count
