"""Distances from the centroids of one triangle mesh to another: cells nearby, and vertices far away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.mesh_cases import mesh_cases
from segcli.kernels.mesh_near import code_grid, near_cells
from segcli.kernels.mesh_tree import mesh_tree
from segcli.kernels.mesh_vertices import mesh_vertices

# What is nearer by less than this is not looked for: the difference would be rounding, and surfaces that are
# parallel over many triangles are full of ties.
_LESS = 1 - 1e-12
# Stands for a squared distance of zero in a table where zero means not yet known.
_ZERO = 1e-300
# After a search in vain up to this many cells are not tried; they are likely to be as far.
_MOST_SKIPPED = 15


def search(
    sources: tuple[NDArray[np.int32], NDArray[np.uint8]],
    targets: tuple[NDArray[np.int32], NDArray[np.uint8]],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the squared distances from the triangles of `sources` to the other mesh, and their sizes.

    Both have their cells within `low` to `high`.
    """
    cases = mesh_cases(spacing)
    near = near_cells(spacing)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    grid = code_grid(targets, low, high, near)
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
    return squares, sizes


def warm() -> None:
    """Compile the kernels: one cell far from another, and all tables that they need."""
    cells, code = np.zeros((2, 1, 3), dtype=np.int32), np.ones(1, dtype=np.uint8)
    cells[1] = 9
    search((cells[0], code), (cells[1], code), np.zeros(3, np.int64), np.full(3, 9), (1.0, 1.0, 1.0))


@kernel()
def _count(codes: Any, starts: Any) -> int:
    count = 0
    for code in codes:
        count += starts[code + 1] - starts[code]
    return count


@kernel()
def search_near(
    cells: Any, codes: Any, cases: Any, near: Any, steps: Any, grid: Any, squares: Any, sizes: Any, far: Any,
    firsts: Any,
) -> int:  # fmt: skip
    """Write the sizes of all triangles, and their squared distances where the cells around hold the nearest.

    Returns how many cells are left: `far` are these cells and `firsts` their first triangles.
    """
    starts, kinds, centroids, triangles = cases.starts, cases.kinds, cases.centroids, cases.triangles
    jumps, order, known, offsets, bounds = grid.jumps, near.order, near.known, near.offsets, near.squares
    count = 0
    left = 0
    skip = 0
    skipping = 1
    for i in range(cells.shape[0]):
        code = codes[i]
        first = starts[code]
        number = starts[code + 1] - first
        for j in range(number):
            sizes[count + j] = cases.sizes[first + j]
        found = grid.codes.size > 0
        if found and skip == 0:
            place = (cells[i, 0] - grid.origin[0]) * grid.strides[0] + (cells[i, 1] - grid.origin[1]) * grid.strides[1]
            place += cells[i, 2] - grid.origin[2]
            if grid.codes[place] == code:
                for j in range(number):
                    squares[count + j] = 0.0
                count += number
                skipping = 1
                continue
            for j in range(number):
                kind = kinds[first + j]
                nearest = np.inf
                k = 0
                while bounds[kind, k] < nearest:
                    other = grid.codes[place + jumps[kind, k]]
                    if other != 0:
                        square = known[kind, other, k]
                        if square == 0.0:
                            square = np.inf
                            slot = order[kind, k]
                            z = centroids[first + j, 0] - offsets[slot, 0] * steps[0]
                            y = centroids[first + j, 1] - offsets[slot, 1] * steps[1]
                            x = centroids[first + j, 2] - offsets[slot, 2] * steps[2]
                            for t in range(starts[other], starts[other + 1]):
                                square = min(square, _to_triangle(z, y, x, triangles, t, square))
                            square = max(square, _ZERO)
                            known[kind, other, k] = square
                        nearest = min(nearest, square)
                    k += 1
                squares[count + j] = nearest
                if nearest > near.reach[kind]:
                    found = False
                    break
            if found:
                skipping = 1
            else:
                skip = skipping
                skipping = min(2 * skipping, _MOST_SKIPPED)
        elif found:
            skip -= 1
            found = False
        if not found:
            far[left] = i
            firsts[left] = count
            left += 1
        count += number
    return left


@kernel()
def search_far(
    cells: Any, codes: Any, firsts: Any, cases: Any, steps: Any, tree: Any, vertices: Any, squares: Any
) -> None:
    """Write the squared distances of the triangles of some cells, whose first ones are `firsts`.

    A node's list holds each vertex v of the other mesh whose triangles may hold the nearest point of some
    centroid c of the node. Let t be that point, on a triangle of which v is the corner nearest to t (of t's edge, if it
    lies on one). Then |c-v|^2 <= |c-t|^2 + room, because c - t is at right angles to the triangle or to the edge. So
    v may be left out if |c-v|^2 - room > |c-q|^2 all over the node's box for some vertex q. For the vertex q next to
    the box's middle that is tested exactly: the difference of both is linear in c.
    """
    order, bounds, children = tree.order, tree.bounds, tree.children
    starts, centroids, triangles = cases.starts, cases.centroids, cases.triangles
    fan_starts, fans = cases.fan_starts, cases.fans
    places, around = vertices.places, vertices.codes
    # Of the cells around an edge: which of their edges it is, and how much lower the cell lies along each axis.
    by_axis = np.zeros((3, 4, 4), dtype=np.int64)
    for axis in range(3):
        for slot in range(4):
            by_axis[axis, slot, 0] = _edge(axis, slot)
            by_axis[axis, slot, 1 + (axis == 0)] = slot >> 1
            by_axis[axis, slot, 3 - (axis == 2)] = slot & 1
    total = vertices.places.shape[0]
    count = vertices.boxes.shape[0]
    groups = np.empty(5 * count, dtype=np.int64)
    groups[:count] = np.arange(count)
    points = np.empty((4, 5 * total))
    who = np.empty(5 * total, dtype=np.int64)
    scratch = np.empty(total)
    kept = np.empty(total, dtype=np.int64)
    stack = np.empty((1024, 4), dtype=np.int64)
    stack[0, 0] = children.shape[0] - 1
    stack[0, 1] = 0
    stack[0, 2] = count
    stack[0, 3] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth, 0]
        begin = stack[depth, 1]
        end = stack[depth, 2]
        single = stack[depth, 3]
        box = bounds[node]
        leaf = children[node, 2] == 1
        # A list that is hardly shorter is not kept: so all of them together have room.
        if single == 0:
            after = _filter_groups(box, vertices, groups, begin, end)
            if 4 * (after - end) <= 3 * (end - begin):
                begin = end
                end = after
            if leaf or max(box[3] - box[0], box[4] - box[1], box[5] - box[2]) < vertices.size:
                end = _list_vertices(vertices, groups, begin, end, points, who)
                begin = 0
                single = 1
        if single == 1:
            after = _filter(box, points, who, begin, end, scratch, kept)
            if 4 * (after - end) <= 3 * (end - begin):
                begin = end
                end = after
        if not leaf:
            for child in range(children[node, 0], children[node, 1]):
                stack[depth, 0] = child
                stack[depth, 1] = begin
                stack[depth, 2] = end
                stack[depth, 3] = single
                depth += 1
            continue
        for place in range(children[node, 0], children[node, 1]):
            i = order[place]
            for t in range(starts[codes[i]], starts[codes[i] + 1]):
                z = cells[i, 0] * steps[0] + centroids[t, 0]
                y = cells[i, 1] * steps[1] + centroids[t, 1]
                x = cells[i, 2] * steps[2] + centroids[t, 2]
                best = np.inf
                nearest = begin
                for k in range(begin, end):
                    square = (points[0, k] - z) ** 2 + (points[1, k] - y) ** 2 + (points[2, k] - x) ** 2
                    scratch[k - begin] = square
                    if square < best:
                        best = square
                        nearest = k
                # The nearest vertex first, then all that are near enough.
                k = nearest
                following = begin
                while k < end:
                    v = who[k]
                    odd = 0 if places[v, 0] & 1 else 1 if places[v, 1] & 1 else 2
                    for slot in range(4):
                        other = np.int64(around[v, slot])
                        if other == 0:
                            continue
                        fan = 12 * other + by_axis[odd, slot, 0]
                        z = (cells[i, 0] - (places[v, 0] >> 1) + by_axis[odd, slot, 1]) * steps[0] + centroids[t, 0]
                        y = (cells[i, 1] - (places[v, 1] >> 1) + by_axis[odd, slot, 2]) * steps[1] + centroids[t, 1]
                        x = (cells[i, 2] - (places[v, 2] >> 1) + by_axis[odd, slot, 3]) * steps[2] + centroids[t, 2]
                        for s in range(fan_starts[fan], fan_starts[fan + 1]):
                            best = min(best, _to_triangle(z, y, x, triangles, fans[s], best))
                    k = following
                    while k < end and (scratch[k - begin] - points[3, k] >= best or k == nearest):
                        k += 1
                    following = k + 1
                squares[firsts[i] + t - starts[codes[i]]] = best


@kernel()
def _filter_groups(box: Any, vertices: Any, groups: Any, begin: int, end: int) -> int:
    """Copy the groups begin:end that a node with this box needs to `end` and what follows; return where they end."""
    points, starts, boxes = vertices.points, vertices.starts, vertices.boxes
    middle = np.empty(3)
    for axis in range(3):
        middle[axis] = 0.5 * (box[axis] + box[axis + 3])
    best = np.inf
    nearest = 0
    for k in range(begin, end):
        v = starts[groups[k]]
        square = (points[0, v] - middle[0]) ** 2 + (points[1, v] - middle[1]) ** 2 + (points[2, v] - middle[2]) ** 2
        if square < best:
            best = square
            nearest = groups[k]
    best = np.inf
    q = 0
    for v in range(starts[nearest], starts[nearest + 1]):
        square = (points[0, v] - middle[0]) ** 2 + (points[1, v] - middle[1]) ** 2 + (points[2, v] - middle[2]) ** 2
        if square < best:
            best = square
            q = v
    slack = 1e-12 * best
    after = end
    for k in range(begin, end):
        group = groups[k]
        excess = 0.0
        for axis in range(3):
            # The least of o (o - 2 b) - w |o| for o = v - q, b = middle - q and w the box's width.
            low = boxes[group, axis] - points[axis, q]
            high = boxes[group, axis + 3] - points[axis, q]
            b = middle[axis] - points[axis, q]
            half = 0.5 * (box[axis + 3] - box[axis])
            least = np.inf
            if high >= 0:
                o = min(max(b + half, low, 0.0), high)
                least = o * (o - 2 * (b + half))
            if low <= 0:
                o = max(min(b - half, high, 0.0), low)
                least = min(least, o * (o - 2 * (b - half)))
            excess += least
        groups[after] = group
        after += excess <= boxes[group, 6] + slack
    return after


@kernel()
def _list_vertices(vertices: Any, groups: Any, begin: int, end: int, points: Any, who: Any) -> int:
    """Copy the vertices of the groups begin:end to the start of the list; return how many they are."""
    after = 0
    for k in range(begin, end):
        for v in range(vertices.starts[groups[k]], vertices.starts[groups[k] + 1]):
            for row in range(4):
                points[row, after] = vertices.points[row, v]
            who[after] = v
            after += 1
    return after


@kernel()
def _filter(box: Any, points: Any, who: Any, begin: int, end: int, scratch: Any, kept: Any) -> int:
    """Copy the vertices begin:end that a node with this box needs to `end` and what follows; return where they end."""
    zs = points[0, begin:end]
    ys = points[1, begin:end]
    xs = points[2, begin:end]
    rooms = points[3, begin:end]
    z = 0.5 * (box[0] + box[3])
    y = 0.5 * (box[1] + box[4])
    x = 0.5 * (box[2] + box[5])
    dz = box[3] - box[0]
    dy = box[4] - box[1]
    dx = box[5] - box[2]
    for k in range(zs.size):
        scratch[k] = (zs[k] - z) ** 2 + (ys[k] - y) ** 2 + (xs[k] - x) ** 2
    best = np.inf
    nearest = 0
    for k in range(zs.size):
        if scratch[k] < best:
            best = scratch[k]
            nearest = k
    z = zs[nearest]
    y = ys[nearest]
    x = xs[nearest]
    for k in range(zs.size):
        scratch[k] -= dz * abs(zs[k] - z) + dy * abs(ys[k] - y) + dx * abs(xs[k] - x) + rooms[k]
    best *= 1 + 1e-12
    number = 0
    for k in range(zs.size):
        kept[number] = k
        number += scratch[k] <= best
    for k in range(number):
        for row in range(4):
            points[row, end + k] = points[row, begin + kept[k]]
        who[end + k] = who[begin + kept[k]]
    return end + number


@kernel()
def _edge(axis: int, k: int) -> int:
    """Return which of a cell's edges, in C order of their middles, runs along this axis as the k-th of four."""
    if axis == 2:
        return (0, 3, 8, 11)[k]
    if axis == 1:
        return (1, 2, 9, 10)[k]
    return 4 + k


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
