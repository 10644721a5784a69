"""Surface elements while they are collected: found row by row, then sorted by label.

Elements are kept as two integers until they are sorted: where (row << 32 | x) and what
(label << 16 | upper code << 8 | lower code).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel

#: Collects from a row on while there is room: (row, places, kinds, found) -> (next row, found).
Collect = Callable[[int, NDArray[np.int64], NDArray[np.uint32], int], tuple[int, int]]

#: Elements one cell may have; a kernel that collects stops with less than one row's room left.
LABELS_PER_CELL = 8
_FIRST_CAPACITY = 1 << 20  # pages that are never written to cost nothing


def gather(collect: Collect, last_row: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Run `collect` over rows of `cells` cells, with room that doubles: memory follows the elements."""
    places = np.empty(_FIRST_CAPACITY + 2 * LABELS_PER_CELL * cells, dtype=np.int64)
    kinds = np.empty(places.size, dtype=np.uint32)
    row = found = 0
    while True:
        row, found = collect(row, places, kinds, found)
        if row == last_row:
            return places[:found], kinds[:found]
        places = np.concatenate((places[:found], np.empty(places.size, dtype=np.int64)))
        kinds = np.concatenate((kinds[:found], np.empty(places.size - found, dtype=np.uint32)))


def row_values(volume: NDArray[Any], blank: int) -> NDArray[np.int32]:
    """Return the value of each row that has only one, -1 for the others, in a margin of `blank`."""
    values = np.full((volume.shape[0] + 2, volume.shape[1] + 2), blank, dtype=np.int32)
    _summarise_rows(volume, values)
    return values


def sort_by_label(
    places: NDArray[np.int64],
    kinds: NDArray[np.uint32],
    rows_per_plane: int,
    areas: NDArray[np.float64],
    n: int,
    ndim: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return offsets, points and weights of labels 1..n; `areas` is indexed by a kind's codes."""
    offsets = np.zeros(n + 1, dtype=np.int64)
    points = np.empty((places.size, ndim), dtype=np.int32)
    weights = np.empty(places.size, dtype=np.float64)
    _sort_by_label(places, kinds, rows_per_plane, areas, offsets, points, weights)
    return offsets, points, weights


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.uint8, np.uint16):
        row_values(np.zeros((1, 1, 1), dtype=dtype), 0)
    sort_by_label(np.zeros(1, dtype=np.int64), np.full(1, 1 << 16, dtype=np.uint32), 1, np.ones(256), 1, 3)


@kernel()
def _summarise_rows(volume: Any, values: Any) -> None:
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            row = volume[z, y]
            first = row[0]
            narrow = row.dtype.type
            differs = narrow(0)
            for x in range(row.size):
                differs = narrow(differs | (row[x] ^ first))
            values[z + 1, y + 1] = np.int32(first) if differs == 0 else -1


@kernel()
def _sort_by_label(
    places: Any, kinds: Any, rows_per_plane: int, areas: Any, offsets: Any, points: Any, weights: Any
) -> None:
    """Write points and weights label by label (a counting sort), in C order within each."""
    for i in range(kinds.size):
        offsets[kinds[i] >> 16] += 1
    total = 0
    for label in range(offsets.size):
        total += offsets[label]
        offsets[label] = total
    following = np.zeros(offsets.size, dtype=np.int64)
    for label in range(1, offsets.size):
        following[label] = offsets[label - 1]
    ndim = points.shape[1]
    current = np.int64(-1)
    z = np.int64(0)
    y = np.int64(0)
    for i in range(kinds.size):
        row = places[i] >> 32
        if row != current:
            current = row
            z = row // rows_per_plane
            y = row - z * rows_per_plane
        kind = np.int64(kinds[i])
        target = following[kind >> 16]
        following[kind >> 16] += 1
        points[target, ndim - 1] = places[i] & 0xFFFFFFFF
        points[target, ndim - 2] = y
        if ndim == 3:
            points[target, 0] = z
        weights[target] = 0.5 * (areas[kind >> 8 & 255] + areas[kind & 255])
