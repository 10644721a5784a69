"""Cells of a triangle mesh in a tree of boxes around their centroids: who may share an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel


class Tree(NamedTuple):
    """The cells of a mesh in nested cubes: nodes level by level, those of cells first, the root last."""

    order: NDArray[np.int64]
    """Cells in the order of the tree (M,)."""
    bounds: NDArray[np.float64]
    """Boxes around the centroids of a node's cells, lower corner first (nodes, 6)."""
    children: NDArray[np.int64]
    """First, last + 1, and whether they are cells (nodes, 3)."""


def mesh_tree(
    cells: NDArray[np.int32], codes: NDArray[np.uint8], steps: NDArray[np.float64], extents: NDArray[np.float64]
) -> Tree:
    """Return the tree of a mesh's cells (M, 3) and codes (M,).

    `steps` is the spacing; `extents[code]` ends with the box around a code's centroids, lower corner first.
    """
    extent = (np.ptp(cells, axis=0) * steps).max()
    keys = _cube_keys(cells, cells.min(axis=0), steps / max(steps.min(), extent / (1 << 20)))
    bits = len(cells).bit_length()
    if int(keys.max()) >> (63 - bits) == 0:
        # Sorting numbers is several times as fast as sorting their places: so each takes its place along.
        keys = np.sort(keys << bits | np.arange(len(cells)))
        order = keys & ((1 << bits) - 1)
        keys >>= bits
    else:
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    bounds = np.empty((2 * len(cells) + 64, 6))
    children = np.empty((len(bounds), 3), dtype=np.int64)
    nodes = _build(keys, cells, codes, order, steps, extents, bounds, children)
    return Tree(order, bounds[:nodes], children[:nodes])


def warm() -> None:
    """Compile the kernels."""
    mesh_tree(np.zeros((1, 3), dtype=np.int32), np.zeros(1, dtype=np.uint8), np.ones(3), np.zeros((256, 12)))


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
def _build(keys: Any, cells: Any, codes: Any, order: Any, steps: Any, extents: Any, bounds: Any, children: Any) -> int:
    """Write the nodes of cells in the order of their keys; return how many there are."""
    nodes = 0
    first = 0
    last = keys.size
    leaf = True
    below = keys
    box = np.empty(6)
    while leaf or last - first > 1:
        begin = nodes
        above = np.empty(last - first, dtype=np.int64)
        for i in range(first, last):
            for axis in range(6):
                if leaf:
                    box[axis] = cells[order[i], axis % 3] * steps[axis % 3] + extents[codes[order[i]], axis + 6]
                else:
                    box[axis] = bounds[i, axis]
            key = below[i - first] >> 3
            if nodes == begin or above[nodes - 1 - begin] != key:
                above[nodes - begin] = key
                children[nodes, 0] = i
                children[nodes, 2] = leaf
                for axis in range(6):
                    bounds[nodes, axis] = box[axis]
                nodes += 1
            children[nodes - 1, 1] = i + 1
            for axis in range(3):
                bounds[nodes - 1, axis] = min(bounds[nodes - 1, axis], box[axis])
                bounds[nodes - 1, axis + 3] = max(bounds[nodes - 1, axis + 3], box[axis + 3])
        below = above
        first = begin
        last = nodes
        leaf = False
    return nodes
