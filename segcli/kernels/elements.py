"""Surface elements while they are collected: found row by row, then sorted by label.

Elements are kept as two integers until they are sorted: where (row << 32 | x) and what
(label << 16 | upper code << 8 | lower code).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel

#: Collects from a row on while there is room: (row, places, kinds, found) -> (next row, found).
Collect = Callable[[int, NDArray[np.int64], NDArray[np.uint32], int], tuple[int, int]]

#: Elements one cell may have; a kernel that collects stops with less than one row's room left.
LABELS_PER_CELL = 8
# A table of so many places for each element is as fast as two that are small.
_BUCKETS = 8
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
    shape: Sequence[int],
    axes: Sequence[int] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return offsets, points and weights of labels 1..n; `areas` is indexed by a kind's codes.

    The elements of a label are in C order of the map of that `shape`, or of its `axes` (see `in_order`).
    """
    offsets = np.zeros(n + 1, dtype=np.int64)
    points = np.empty((places.size, ndim), dtype=np.int32)
    weights = np.empty(places.size, dtype=np.float64)
    *columns, last = (axis + 3 - ndim for axis in axes or range(ndim))
    if columns and columns[-1] < last:
        columns.pop()  # it comes before the last anyway
    steps, buckets = np.zeros(3, dtype=np.int64), 1
    for column in reversed(columns):
        steps[column] = buckets
        buckets *= shape[column - 3] + 1
    if axes is None or list(axes) == list(range(ndim)) or buckets * n > _BUCKETS * places.size:
        _sort_by_label(places, kinds, rows_per_plane, areas, offsets, points, weights)
        return offsets, *in_order(offsets, points, weights, axes)
    following = np.zeros((n + 1) * buckets, dtype=np.int64)
    _sort_by_label_and_axes(
        places, kinds, rows_per_plane, areas, np.argsort(axes), steps, buckets, following, offsets, points, weights
    )
    return offsets, points, weights


def in_order(
    offsets: NDArray[np.int64], points: NDArray[np.int32], weights: NDArray[np.float64], axes: Sequence[int] | None
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Bring the elements of each label from C order to that of their columns `axes`, which become the columns.

    `weights` may be empty. Both may be written to. Counting sorts are stable: the last column needs none, the last
    but one only where the two were in the other order.
    """
    ndim = points.shape[1]
    if axes is None or list(axes) == list(range(ndim)):
        return points, weights
    others = np.empty_like(points), np.empty_like(weights)
    if ndim > 2 and axes[-2] > axes[-1]:
        _sort_by_column(offsets, points, weights, axes[-2], np.arange(3), *others)
        (points, weights), others = others, (points, weights)
    _sort_by_column(offsets, points, weights, axes[0], np.array(axes), *others)
    return others


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.uint8, np.uint16):
        row_values(np.zeros((1, 1, 1), dtype=dtype), 0)
    places, kinds = np.zeros(1, dtype=np.int64), np.full(1, 1 << 16, dtype=np.uint32)
    for axes in (None, (2, 1, 0)):
        found = sort_by_label(places, kinds, 1, np.ones(256), 1, 3, (1, 1, 1), axes)
        in_order(*found, axes)


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


@kernel()
def _sort_by_label_and_axes(
    places: Any,
    kinds: Any,
    rows_per_plane: int,
    areas: Any,
    columns: Any,
    steps: Any,
    buckets: int,
    following: Any,
    offsets: Any,
    points: Any,
    weights: Any,
) -> None:
    """Do what `_sort_by_label` does, in the order of other axes: `columns` says which column each axis of the map is.

    `steps` and the number of `buckets` of a label say which one a point belongs to; within a bucket the C order of
    the map is the right one. `following` has room for the buckets of all labels from 0 on.
    """
    step_z, step_y, step_x = steps
    deep = points.shape[1] == 3
    column_x = columns[-1]
    column_y = columns[-2]
    column_z = columns[0]
    for counting in (True, False):
        current = np.int64(-1)
        z = np.int64(0)
        y = np.int64(0)
        for i in range(kinds.size):
            row = places[i] >> 32
            if row != current:
                current = row
                z = row // rows_per_plane
                y = row - z * rows_per_plane
            x = places[i] & 0xFFFFFFFF
            kind = np.int64(kinds[i])
            bucket = (kind >> 16) * buckets + z * step_z + y * step_y + x * step_x
            target = following[bucket]
            following[bucket] = target + 1
            if counting:
                continue
            points[target, column_x] = x
            points[target, column_y] = y
            if deep:
                points[target, column_z] = z
            weights[target] = 0.5 * (areas[kind >> 8 & 255] + areas[kind & 255])
        if counting:
            total = 0
            for bucket in range(following.size):
                count = following[bucket]
                following[bucket] = total
                total += count
            for label in range(1, offsets.size):
                offsets[label - 1] = following[label * buckets]
            offsets[offsets.size - 1] = total


@kernel()
def _sort_by_column(
    offsets: Any, points: Any, weights: Any, column: int, columns: Any, sorted_points: Any, sorted_weights: Any
) -> None:
    """Sort the points of each label by one column, and write their `columns` (a counting sort, which is stable)."""
    deep = points.shape[1] - 1
    column_0 = columns[0]
    column_1 = columns[1]
    column_2 = columns[deep]
    weighted = weights.size > 0
    for label in range(1, offsets.size):
        first = offsets[label - 1]
        last = offsets[label]
        if first == last:
            continue
        low = points[first, column]
        high = low
        for i in range(first, last):
            low = min(low, points[i, column])
            high = max(high, points[i, column])
        following = np.zeros(high - low + 2, dtype=np.int64)
        for i in range(first, last):
            following[points[i, column] - low + 1] += 1
        following[0] = first
        for k in range(1, following.size):
            following[k] += following[k - 1]
        for i in range(first, last):
            value = points[i, column] - low
            target = following[value]
            following[value] = target + 1
            sorted_points[target, 0] = points[i, column_0]
            sorted_points[target, 1] = points[i, column_1]
            sorted_points[target, deep] = points[i, column_2]
            if weighted:
                sorted_weights[target] = weights[i]
