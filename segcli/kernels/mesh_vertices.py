"""Vertices of a triangle mesh, each once, and the cells around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.mesh_cases import MIDDLES


class Vertices(NamedTuple):
    """Where the vertices of a mesh are: in the middles of the lattice edges that its surface crosses."""

    places: NDArray[np.int32]
    """In half voxels from where cells are counted from: odd along the edge (V, 3)."""
    codes: NDArray[np.uint8]
    """Codes of the four cells around that edge (V, 4), 0 where there is none.

    Cell 2 a + b lies a cells lower along the first and b cells lower along the second of the two other axes.
    """


class _Edges(NamedTuple):
    """Of the twelve edges of a cell."""

    ends: NDArray[np.int64]  # (12, 2): bits of a code
    slots: NDArray[np.int64]  # (12,): which of the cells around it this cell is
    later: NDArray[np.int64]  # (12, 3, 3): slot, step and edge of the cells around it that come later in C order


def mesh_vertices(cells: NDArray[np.int32], codes: NDArray[np.uint8], *, flat: bool) -> Vertices:
    """Return the vertices of the cells (M, 3) in C order with these codes; `flat` cells are those of a plane."""
    low = cells.min(axis=0).astype(np.int64)
    extent = cells.max(axis=0) - low + 3
    strides = np.array([extent[1] * extent[2], extent[2], 1])
    keys = (cells - low) @ strides
    crossed = _crossed(flat)
    most = int(np.count_nonzero(crossed, axis=1)[codes].sum())
    places = np.empty((most, 3), dtype=np.int32)
    around = np.empty((most, 4), dtype=np.uint8)
    found = _collect(cells, codes, keys, crossed, _EDGES, _STEPS @ strides, _MIDDLE_PLACES, places, around)
    return Vertices(places[:found], around[:found])


def warm() -> None:
    """Compile the kernels."""
    mesh_vertices(np.zeros((1, 3), dtype=np.int32), np.ones(1, dtype=np.uint8), flat=False)


#: From a cell to those that share an edge with it and come later in C order.
_STEPS = np.array([(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1), (1, -1, 0), (1, 0, -1), (1, 0, 0), (1, 0, 1), (1, 1, 0)])
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
