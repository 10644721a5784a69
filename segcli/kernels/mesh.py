"""Exact distances between the triangle meshes of two masks, both ways.

The triangles of a mesh lie in cells of a lattice, and a cell's code says which. So the distance from a
centroid to the triangles of a cell some steps away depends on three small numbers, the kind of the centroid,
the code and the offset, and is computed once for all cells alike. Cells are tried by the least distance they
could have, until none can be nearer. What is farther than the nearest hundred cells is found in a tree of
boxes, whose cost hardly depends on the distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.mesh_cases import mesh_cases

# Cells around a centroid that are tried one by one; the table of distances takes 16 MiB at this number.
_NEAR = 128
# A box of more cells than this gets no grid of codes (a byte a cell); then all is left to the tree.
_LARGEST_GRID = 1 << 28
# A distance below this share of a voxel is rounding: the surfaces touch.
_TOUCHING = 1e-12
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
    shapes = _shapes(spacing, reverse)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    grid = _grid(targets, low, high, near)
    count = int((cases.starts[1:] - cases.starts[:-1])[sources[1]].sum())
    squares = np.empty(count)
    sizes = np.empty(count)
    mesh = _NO_TREE
    done = (0, 0)
    while True:
        done = _measure(sources[0], sources[1], cases, shapes, near, steps, grid, mesh, done, squares, sizes)
        if done[0] == len(sources[0]):
            break
        mesh = _tree(targets, steps, shapes)
    squares[squares < (_TOUCHING * steps[-len(spacing) :].min()) ** 2] = 0
    return np.sqrt(squares, out=squares), sizes


# --- tables of one spacing --------------------------------------------------------------------


class _Shapes(NamedTuple):
    triangles: NDArray[np.float64]  # (T, 12): corner, edges to the two others, unit normal (0 for a segment)
    extents: NDArray[np.float64]  # (256, 12): box around the triangles of a code, then around their centroids


@lru_cache(maxsize=64)
def _shapes(spacing: tuple[float, ...], reverse: bool) -> _Shapes:
    cases = mesh_cases(spacing, reverse)
    first, second, third = cases.corners[:, 0], cases.corners[:, 1], cases.corners[:, 2]
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    extents = np.zeros((256, 12))
    for code in range(256):
        mine = slice(cases.starts[code], cases.starts[code + 1])
        if mine.start < mine.stop:
            corners = cases.corners[mine].reshape(-1, 3)
            centroids = cases.centroids[mine]
            extents[code] = np.concatenate([f(p, axis=0) for p in (corners, centroids) for f in (np.min, np.max)])
    return _Shapes(np.hstack([first, second - first, third - first, normals]), extents)


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


class _Tree(NamedTuple):
    """The cells of a mesh in nested cubes: nodes level by level, those of cells first, the root last."""

    cells: NDArray[np.int32]
    codes: NDArray[np.uint8]
    cell_bounds: NDArray[np.float64]  # (M, 6): boxes around their triangles
    bounds: NDArray[np.float64]  # (nodes, 6)
    children: NDArray[np.int64]  # (nodes, 3): first, last + 1, and whether they are cells


_NO_TREE = _Tree(
    np.empty((0, 3), dtype=np.int32), np.empty(0, dtype=np.uint8), np.empty((0, 6)), np.empty((0, 6)),
    np.empty((0, 3), dtype=np.int64),
)  # fmt: skip


def _tree(targets: tuple[NDArray[np.int32], NDArray[np.uint8]], steps: NDArray[np.float64], shapes: _Shapes) -> _Tree:
    cells, codes = targets
    extent = (np.ptp(cells, axis=0) * steps).max()
    keys = _cube_keys(cells, cells.min(axis=0), steps / max(steps.min(), extent / (1 << 20)))
    order = np.argsort(keys, kind="stable")
    cells, codes, keys = cells[order], codes[order], keys[order]
    cell_bounds = np.tile(cells * steps, 2) + shapes.extents[codes, :6]
    bounds = np.empty((2 * len(cells) + 64, 6))
    children = np.empty((len(bounds), 3), dtype=np.int64)
    nodes = _build(keys, cell_bounds, bounds, children)
    return _Tree(cells, codes, cell_bounds, bounds[:nodes], children[:nodes])


@kernel()
def _place(cells: Any, codes: Any, origin: Any, strides: Any, grid: Any) -> None:
    for i in range(cells.shape[0]):
        place = 0
        for axis in range(3):
            place += (cells[i, axis] - origin[axis]) * strides[axis]
        grid[place] = codes[i]


@kernel()
def _cube_keys(cells: Any, origin: Any, scale: Any) -> Any:
    """Interleave the bits of the cells' coordinates, in units that are equal along all axes."""
    keys = np.empty(cells.shape[0], dtype=np.int64)
    for i in range(keys.size):
        key = np.int64(0)
        for axis in range(3):
            bits = np.int64((cells[i, axis] - origin[axis]) * scale[axis])
            bits = (bits | bits << 32) & 0x1F00000000FFFF
            bits = (bits | bits << 16) & 0x1F0000FF0000FF
            bits = (bits | bits << 8) & 0x100F00F00F00F00F
            bits = (bits | bits << 4) & 0x10C30C30C30C30C3
            bits = (bits | bits << 2) & 0x1249249249249249
            key |= bits << (2 - axis)
        keys[i] = key
    return keys


@kernel()
def _build(keys: Any, cell_bounds: Any, bounds: Any, children: Any) -> int:
    """Write the nodes of cells in the order of their keys; return how many there are."""
    nodes = 0
    first = 0
    last = keys.size
    leaf = True
    below = keys
    while leaf or last - first > 1:
        begin = nodes
        boxes = cell_bounds if leaf else bounds
        above = np.empty(last - first, dtype=np.int64)
        for i in range(first, last):
            key = below[i - first] >> 3
            if nodes == begin or above[nodes - 1 - begin] != key:
                above[nodes - begin] = key
                children[nodes, 0] = i
                children[nodes, 2] = leaf
                for axis in range(6):
                    bounds[nodes, axis] = boxes[i, axis]
                nodes += 1
            children[nodes - 1, 1] = i + 1
            for axis in range(3):
                bounds[nodes - 1, axis] = min(bounds[nodes - 1, axis], boxes[i, axis])
                bounds[nodes - 1, axis + 3] = max(bounds[nodes - 1, axis + 3], boxes[i, axis + 3])
        below = above
        first = begin
        last = nodes
        leaf = False
    return nodes


# --- distances --------------------------------------------------------------------------------


@kernel()
def _to_triangle(z: float, y: float, x: float, t: Any, best: float) -> float:
    """Return the squared distance from a point to a triangle, or to a segment whose end stands twice.

    When its plane is farther than `best`, squared, so is the triangle: then the plane's distance is returned.
    """
    z -= t[0]
    y -= t[1]
    x -= t[2]
    height = t[9] * z + t[10] * y + t[11] * x
    height *= height
    if height >= best:
        return height
    along = t[3] * z + t[4] * y + t[5] * x
    across = t[6] * z + t[7] * y + t[8] * x
    if along <= 0 and across <= 0:
        return z * z + y * y + x * x
    aa = t[3] * t[3] + t[4] * t[4] + t[5] * t[5]
    ab = t[3] * t[6] + t[4] * t[7] + t[5] * t[8]
    bb = t[6] * t[6] + t[7] * t[7] + t[8] * t[8]
    u = 0.0
    v = 0.0
    if along >= aa and across - ab <= along - aa:
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
        if (along - aa) * (across - bb) - (along - ab) * (across - ab) <= 0 and rising >= 0 and falling >= 0:
            v = rising / (rising + falling)
            u = 1 - v
        else:
            return height
    z -= u * t[3] + v * t[6]
    y -= u * t[4] + v * t[7]
    x -= u * t[5] + v * t[8]
    return z * z + y * y + x * x


@kernel()
def _to_cell(
    i: int, centroid: Any, j: int, cases: Any, shapes: Any, steps: Any, cells: Any, mesh: Any, best: float
) -> float:
    """Return the squared distance from a centroid of cell i to target cell j, or `best` if that is less."""
    z = (cells[i, 0] - mesh.cells[j, 0]) * steps[0] + centroid[0]
    y = (cells[i, 1] - mesh.cells[j, 1]) * steps[1] + centroid[1]
    x = (cells[i, 2] - mesh.cells[j, 2]) * steps[2] + centroid[2]
    code = mesh.codes[j]
    for t in range(cases.starts[code], cases.starts[code + 1]):
        best = min(best, _to_triangle(z, y, x, shapes.triangles[t], best))
    return best


@kernel()
def _descend(
    i: int,
    code: int,
    cases: Any,
    shapes: Any,
    steps: Any,
    cells: Any,
    mesh: Any,
    stack: Any,
    squares: Any,
    best: Any,
    hint: int,
) -> int:
    """Lower `best`, the squared distances of the centroids of cell i, to the true ones; return the cell found last."""
    first = cases.starts[code]
    number = cases.starts[code + 1] - first
    worst = 0.0
    for j in range(number):
        best[j] = _to_cell(i, cases.centroids[first + j], hint, cases, shapes, steps, cells, mesh, best[j])
        worst = max(worst, best[j])
    box = shapes.extents[code]
    z0 = cells[i, 0] * steps[0] + box[6]
    y0 = cells[i, 1] * steps[1] + box[7]
    x0 = cells[i, 2] * steps[2] + box[8]
    z1 = cells[i, 0] * steps[0] + box[9]
    y1 = cells[i, 1] * steps[1] + box[10]
    x1 = cells[i, 2] * steps[2] + box[11]
    stack[0] = mesh.children.shape[0] - 1
    squares[0] = 0.0
    depth = 1
    while depth > 0:
        depth -= 1
        if squares[depth] >= worst:
            continue
        node = stack[depth]
        leaf = mesh.children[node, 2] == 1
        base = depth
        for child in range(mesh.children[node, 0], mesh.children[node, 1]):
            bounds = mesh.cell_bounds[child] if leaf else mesh.bounds[child]
            z = max(bounds[0] - z1, z0 - bounds[3], 0.0)
            y = max(bounds[1] - y1, y0 - bounds[4], 0.0)
            x = max(bounds[2] - x1, x0 - bounds[5], 0.0)
            square = z * z + y * y + x * x
            if square >= worst:
                continue
            if leaf:
                before = best[0]
                worst = 0.0
                for j in range(number):
                    best[j] = _to_cell(i, cases.centroids[first + j], child, cases, shapes, steps, cells, mesh, best[j])
                    worst = max(worst, best[j])
                if best[0] < before:
                    hint = child
                continue
            stack[depth] = child
            squares[depth] = square
            depth += 1
        # The nearest child is looked at first.
        for k in range(base, depth - 1):
            if squares[k] < squares[depth - 1]:
                stack[k], stack[depth - 1] = stack[depth - 1], stack[k]
                squares[k], squares[depth - 1] = squares[depth - 1], squares[k]
    return hint


@kernel()
def _measure(
    cells: Any, codes: Any, cases: Any, shapes: Any, near: Any, steps: Any, grid: Any, mesh: Any, done: Any, squares: Any, sizes: Any
) -> tuple[int, int]:  # fmt: skip
    """Write squared distances and sizes of the triangles from cell done[0], triangle done[1] on.

    Returns how far it came: with no tree in `mesh` it stops at the first cell that needs one.
    """
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
        first = cases.starts[code]
        number = cases.starts[code + 1] - first
        for j in range(number):
            sizes[count + j] = cases.sizes[first + j]
            best[j] = np.inf
        if far:
            away = 0.0
            for axis in range(3):
                step = (cells[i, axis] - cells[i - 1, axis]) * steps[axis]
                away += step * step
            # No nearer than the cell before less the way from there: then the cells around are not tried.
            far = low - np.sqrt(away) - diagonal > reach
        if not far and grid.codes.size:
            place = 0
            for axis in range(3):
                place += (cells[i, axis] - grid.origin[axis]) * grid.strides[axis]
            if grid.codes[place] == code:
                for j in range(number):
                    squares[count + j] = 0.0
                count += number
                continue
            for j in range(number):
                kind = cases.kinds[first + j]
                bounds = near.squares[kind]
                jumps = grid.jumps[kind]
                nearest = np.inf
                k = 0
                while bounds[k] < nearest:
                    other = grid.codes[place + jumps[k]]
                    if other != 0:
                        slot = near.order[kind, k]
                        square = near.known[kind, other, slot]
                        if square == 0.0:
                            square = np.inf
                            z = cases.centroids[first + j, 0] - near.offsets[slot, 0] * steps[0]
                            y = cases.centroids[first + j, 1] - near.offsets[slot, 1] * steps[1]
                            x = cases.centroids[first + j, 2] - near.offsets[slot, 2] * steps[2]
                            for t in range(cases.starts[other], cases.starts[other + 1]):
                                square = min(square, _to_triangle(z, y, x, shapes.triangles[t], square))
                            square = max(square, _ZERO)
                            near.known[kind, other, slot] = square
                        nearest = min(nearest, square)
                    k += 1
                best[j] = nearest
                far |= nearest > near.reach[kind]
        else:
            far = True
        if far:
            if mesh.bounds.shape[0] == 0:
                return i, count
            hint = _descend(i, code, cases, shapes, steps, cells, mesh, stack, stack_squares, best, hint)
            low = np.sqrt(best[:number].min())
        for j in range(number):
            squares[count + j] = best[j]
        count += number
    return cells.shape[0], count
