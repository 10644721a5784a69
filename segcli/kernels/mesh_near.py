"""Tables of one spacing and the lattice of one mesh: which cells lie around a centroid, and what they hold."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.mesh_cases import mesh_cases

# Cells around a centroid that are tried one by one; the table of distances takes 32 MiB at this number.
_NEAR = 256
# A box of more cells than this gets no grid of codes (a byte a cell); then all is left to the tree of centroids.
_LARGEST_GRID = 1 << 28


class NearCells(NamedTuple):
    """Which cells lie around a centroid, and the distances to them known so far."""

    offsets: NDArray[np.int64]  # (K, 3)
    order: NDArray[np.int64]  # (kinds, K): offsets by the distance of their cell from this centroid
    squares: NDArray[np.float64]  # (kinds, K + 1): that distance, squared; at the end inf
    reach: NDArray[np.float64]  # (kinds,): no other cell is nearer than this, squared
    known: NDArray[np.float64]  # (kinds, 256, K): squared distance from centroid to triangles, 0 where not yet known


# --- tables of one spacing --------------------------------------------------------------------


@lru_cache(maxsize=4)
def near_cells(spacing: tuple[float, ...]) -> NearCells:
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
    return NearCells(offsets, order, squares, reach, np.zeros((len(centroids), 256, _NEAR)))


def _box_squares(
    points: NDArray[np.float64], offsets: NDArray[np.int64], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return squared distances from points of a cell to the boxes of cells at these offsets."""
    low = offsets * steps
    gaps = np.maximum(np.maximum(low - points[:, None], points[:, None] - low - steps), 0)
    squares: NDArray[np.float64] = (gaps**2).sum(axis=2)
    return squares


# --- where the cells are ----------------------------------------------------------------------


class CodeGrid(NamedTuple):
    """Codes of the cells of a box, 0 where there is none; with a margin, so that offsets need no check."""

    codes: NDArray[np.uint8]
    origin: NDArray[np.int64]
    strides: NDArray[np.int64]
    jumps: NDArray[np.int64]  # `NearCells.order` as steps in `codes`


def code_grid(
    targets: tuple[NDArray[np.int32], NDArray[np.uint8]],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    near: NearCells,
) -> CodeGrid:
    margin = np.abs(near.offsets).max(axis=0)
    shape = high - low + 1 + 2 * margin
    origin = low - margin
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    volume = int(shape[0]) * int(shape[1]) * int(shape[2])
    jumps = (near.offsets @ strides)[near.order]
    if volume > _LARGEST_GRID:
        return CodeGrid(np.empty(0, dtype=np.uint8), origin, strides, jumps)
    codes = np.zeros(volume, dtype=np.uint8)
    _place(targets[0], targets[1], origin, strides, codes)
    return CodeGrid(codes, origin, strides, jumps)


def warm() -> None:
    """Compile the kernel."""
    cell, code = np.zeros((1, 3), dtype=np.int32), np.ones(1, dtype=np.uint8)
    code_grid((cell, code), np.zeros(3, np.int64), np.zeros(3, np.int64), near_cells((1.0, 1.0, 1.0)))


@kernel()
def _place(cells: Any, codes: Any, origin: Any, strides: Any, grid: Any) -> None:
    for i in range(cells.shape[0]):
        place = 0
        for axis in range(3):
            place += (cells[i, axis] - origin[axis]) * strides[axis]
        grid[place] = codes[i]
