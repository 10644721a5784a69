"""Vertices of a triangle mesh, each once, and the cells around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.mesh_cases import MIDDLES, MeshCases, mesh_cases

# Edge of a group's cube, in voxels of the mean size.
_GROUP = 6


class Vertices(NamedTuple):
    """The vertices of a mesh: in the middles of the lattice edges that its surface crosses, in groups."""

    places: NDArray[np.int32]
    """In half voxels from where cells are counted from: odd along the edge (V, 3)."""
    codes: NDArray[np.uint8]
    """Codes of the four cells around that edge (V, 4), 0 where there is none.

    Cell 2 a + b lies a cells lower along the first and b cells lower along the second of the two other axes.
    """
    points: NDArray[np.float64]
    """Coordinates in the unit of the spacing, and the largest room (see `MeshCases`) of the triangles around (4, V)."""
    starts: NDArray[np.int64]
    """First vertex of each group, which are those of a cube (G + 1,)."""
    boxes: NDArray[np.float64]
    """Box around a group's vertices, lower corner first, and the largest of their rooms (G, 7)."""
    size: float
    """Edge of the cubes."""


class _Edges(NamedTuple):
    """Of the twelve edges of a cell."""

    ends: NDArray[np.int64]  # (12, 2): bits of a code
    slots: NDArray[np.int64]  # (12,): which of the cells around it this cell is
    later: NDArray[np.int64]  # (12, 3, 3): slot, step and edge of the cells around it that come later in C order


def mesh_vertices(
    cells: NDArray[np.int32], codes: NDArray[np.uint8], cases: MeshCases, spacing: tuple[float, ...]
) -> Vertices:
    """Return the vertices of the cells (M, 3) in C order with these codes; two spacings for those of a plane."""
    low = cells.min(axis=0).astype(np.int64)
    extent = cells.max(axis=0) - low + 3
    strides = np.array([extent[1] * extent[2], extent[2], 1])
    keys = (cells - low) @ strides
    crossed = _crossed(len(spacing) == 2)
    most = int(np.count_nonzero(crossed, axis=1)[codes].sum())
    places = np.empty((most, 3), dtype=np.int32)
    around = np.empty((most, 4), dtype=np.uint8)
    found = _collect(cells, codes, keys, crossed, _EDGES, _STEPS @ strides, _MIDDLE_PLACES, places, around)
    steps = np.array((1.0,) * (3 - len(spacing)) + spacing)
    size = _GROUP * float(np.prod(spacing)) ** (1 / len(spacing))
    while True:
        counts = (extent * steps / size).astype(np.int64) + 1
        if counts.prod() <= 4 * found + 64:
            break
        size *= 1.25
    return Vertices(*_group(places[:found], around[:found], cases.rooms, low, steps, size, counts), size)


def warm() -> None:
    """Compile the kernels."""
    mesh_vertices(np.zeros((1, 3), dtype=np.int32), np.ones(1, dtype=np.uint8), mesh_cases((1, 1, 1)), (1, 1, 1))


#: From a cell to those that share an edge with it and come later in C order.
_STEPS = np.array(
    [(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1), (1, -1, 0), (1, 0, -1), (1, 0, 0), (1, 0, 1), (1, 1, 0)]
)
_MIDDLE_PLACES = np.array(MIDDLES, dtype=np.int32)


def _edges() -> _Edges:
    ends = np.zeros((12, 2), dtype=np.int64)
    slots = np.zeros(12, dtype=np.int64)
    later = np.full((12, 3, 3), -1, dtype=np.int64)
    steps = [tuple(step) for step in _STEPS.tolist()]
    for edge, middle in enumerate(MIDDLES):
        axis = middle.index(1)
        others = [k for k in range(3) if k != axis]
        for end in (0, 1):
            corner = [m // 2 if k != axis else end for k, m in enumerate(middle)]
            ends[edge, end] = 7 - 4 * corner[0] - 2 * corner[1] - corner[2]
        mine = [middle[k] // 2 for k in others]
        slots[edge] = 2 * mine[0] + mine[1]
        for slot in range(slots[edge]):
            theirs = (slot >> 1, slot & 1)
            step, other = [0, 0, 0], list(middle)
            for k, here, there in zip(others, mine, theirs, strict=True):
                step[k] = here - there
                other[k] = 2 * there
            z, y, x = other
            later[edge, slot] = slot, steps.index((step[0], step[1], step[2])), MIDDLES.index((z, y, x))
    return _Edges(ends, slots, later)


_EDGES = _edges()


def _crossed(flat: bool) -> NDArray[np.bool_]:
    """Return which edges of each code are crossed (256, 12); in a plane those of depth 0 only."""
    bits = np.arange(256)[:, None, None] >> _EDGES.ends & 1
    crossed: NDArray[np.bool_] = bits[..., 0] != bits[..., 1]
    if flat:
        crossed &= _MIDDLE_PLACES[:, 0] == 0
    return crossed


@kernel()
def _collect(
    cells: Any, codes: Any, keys: Any, crossed: Any, edges: Any, jumps: Any, middles: Any, places: Any, around: Any
) -> int:
    """Write the vertices, each when the first of its cells is met; return how many there are."""
    taken = np.zeros(codes.size, dtype=np.uint16)
    ahead = np.zeros(jumps.size, dtype=np.int64)  # as keys rise, so do the places of all neighbours
    slots, later = edges.slots, edges.later
    found = 0
    for i in range(codes.size):
        code = codes[i]
        mine = taken[i]
        for edge in range(12):
            if not crossed[code, edge] or mine >> edge & 1:
                continue
            for axis in range(3):
                places[found, axis] = 2 * cells[i, axis] + middles[edge, axis]
            slot = slots[edge]
            for k in range(4):
                around[found, k] = 0
            around[found, slot] = code
            for k in range(slot):
                step = later[edge, k, 1]
                key = keys[i] + jumps[step]
                place = ahead[step]
                while place < keys.size and keys[place] < key:
                    place += 1
                ahead[step] = place
                if place < keys.size and keys[place] == key:
                    around[found, k] = codes[place]
                    taken[place] |= 1 << later[edge, k, 2]
            found += 1
    return found


@kernel()
def _group(
    places: Any, around: Any, rooms: Any, low: Any, steps: Any, size: float, counts: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Sort the vertices by the cube they lie in."""
    total = places.shape[0]
    cubes = np.empty(total, dtype=np.int64)
    before = np.zeros(counts[0] * counts[1] * counts[2] + 1, dtype=np.int64)
    for v in range(total):
        cube = 0
        for axis in range(3):
            cube = cube * counts[axis] + np.int64((places[v, axis] - 2 * low[axis]) * 0.5 * steps[axis] / size)
        cubes[v] = cube
        before[cube + 1] += 1
    groups = 0
    for cube in range(1, before.size):
        groups += before[cube] > 0
        before[cube] += before[cube - 1]
    starts = np.empty(groups + 1, dtype=np.int64)
    groups = 0
    for cube in range(before.size - 1):
        if before[cube + 1] > before[cube]:
            starts[groups] = before[cube]
            groups += 1
    starts[groups] = total
    sorted_places = np.empty_like(places)
    sorted_around = np.empty_like(around)
    points = np.empty((4, total))
    for v in range(total):
        target = before[cubes[v]]
        before[cubes[v]] += 1
        odd = 2
        for axis in range(3):
            sorted_places[target, axis] = places[v, axis]
            points[axis, target] = places[v, axis] * (0.5 * steps[axis])
            if places[v, axis] & 1:
                odd = axis
        largest = 0.0
        for k in range(4):
            sorted_around[target, k] = around[v, k]
            edge = 4 + k
            if odd == 2:
                edge = (0, 3, 8, 11)[k]
            elif odd == 1:
                edge = (1, 2, 9, 10)[k]
            largest = max(largest, rooms[around[v, k], edge])
        points[3, target] = largest * (1 + 1e-9)
    boxes = np.empty((groups, 7))
    for group in range(groups):
        for axis in range(3):
            boxes[group, axis] = points[axis, starts[group] : starts[group + 1]].min()
            boxes[group, axis + 3] = points[axis, starts[group] : starts[group + 1]].max()
        boxes[group, 6] = points[3, starts[group] : starts[group + 1]].max()
    return sorted_places, sorted_around, points, starts, boxes
