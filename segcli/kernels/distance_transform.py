"""Exact Euclidean distances to a set of voxels: everywhere, or only where they are asked for.

Separable in the axes (Felzenszwalb & Huttenlocher 2012, doi 10.4086/toc.2012.v008a019): along the last
axis the distance to the set is read off the set's sorted positions; along each further axis it is the
lower envelope of parabolas. Distances are sums of squares in float64, no step is approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

# Lines along a strided axis are worked on together: a cache line holds eight doubles.
_LINES = 8


def distance_transform(features: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the exact Euclidean distance from every voxel to the nearest True voxel.

    `features` is a boolean array, 2-D or 3-D, of any memory layout (C and Fortran order are used as they
    are, others are copied); `spacing` has one entry per axis and gives the unit. The result is float64 of
    the same shape: 0 on the set, inf everywhere when the set is empty.
    Raises ValueError for another dtype or number of axes.
    """
    if features.dtype != np.bool_ or features.ndim not in (2, 3) or len(spacing) != features.ndim:
        raise ValueError(
            f"distance_transform: need a 2-D or 3-D bool array and as many spacings, "
            f"not {features.ndim}-D {features.dtype} and {len(spacing)}"
        )
    if features.flags.f_contiguous and not features.flags.c_contiguous:
        return distance_transform(features.T, tuple(spacing)[::-1]).T
    shape = features.shape
    volume = writable(np.ascontiguousarray(features)).view(np.uint8).reshape((1,) * (3 - features.ndim) + shape)
    squares = np.empty(volume.shape, dtype=np.float64)
    if squares.size:
        depth, height, width = volume.shape
        _square_rows(volume.reshape(-1, width), float(spacing[-1]), squares.reshape(-1, width))
        if height > 1:
            _pass_along(squares, float(spacing[-2]))
        if depth > 1:
            _pass_along(squares.reshape(1, depth, height * width), float(spacing[0]))
        np.sqrt(squares, out=squares)
    return squares.reshape(shape)


def row_gaps(
    points: NDArray[np.int32], origin: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.unsignedinteger[Any]]:
    """Return for every voxel of a box the distance in voxels to the nearest point of its row.

    `points` (N, 3) are sorted in C order and lie in the box of that `origin` and `shape`. A row without
    points holds the largest value of the dtype: uint16, or uint32 for rows of 65535 voxels and more.
    """
    gaps = np.empty(shape, dtype=np.uint16 if shape[2] < np.iinfo(np.uint16).max else np.uint32)
    _fill_box(points, origin, gaps)
    return gaps


def lower_squares(
    queries: NDArray[np.int32],
    squares: NDArray[np.float64],
    points: NDArray[np.int32],
    origin: NDArray[np.int64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> None:
    """Lower `squares` (N,), in place, to the squared distance from each query to the nearest point.

    `queries` (N, 3) and `points` (M, 3) are sorted in C order, the points lie in the box of that `origin`
    and `shape`. What is in `squares` must be no less than the true value (inf will do; less saves time).
    Two axes are transformed plane by plane of the points' box, the third is looked at only from the
    queries: temporary memory is one plane.
    """
    low = queries.min(axis=0)
    high = queries.max(axis=0)
    dtype = np.uint16 if shape[2] < np.iinfo(np.uint16).max else np.uint32
    plane = np.empty((1, shape[1], shape[2]), dtype=dtype)
    columns = np.empty((int(high[2] - low[2]) + 1, int(high[1] - low[1]) + 1), dtype=np.float64)
    _sweep_planes(queries, squares, points, origin, int(shape[0]), low.astype(np.int64), *spacing, plane, columns)


def warm() -> None:
    """Compile the kernels."""
    distance_transform(np.ones((2, 1), dtype=np.bool_), (1, 1))
    point = np.zeros((1, 3), dtype=np.int32)
    origin = np.zeros(3, dtype=np.int64)
    row_gaps(point, origin, (1, 1, 1))
    lower_squares(point, np.full(1, np.inf), point, origin, (1, 1, 1), (1.0, 1.0, 1.0))


@kernel()
def _fill_row(row: Any, points: Any, first: int, last: int, start: int) -> None:
    """Write distances along a row whose points are points[first:last]; `start` is the row's first index."""
    narrow = row.dtype.type
    before = points[first, 2] - start
    for x in range(before):
        row[x] = narrow(before - x)
    for i in range(first + 1, last):
        after = points[i, 2] - start
        middle = (before + after + 1) >> 1
        rising = row[before:middle]
        for k in range(rising.size):
            rising[k] = narrow(k)
        falling = row[middle:after]
        for k in range(falling.size):
            falling[k] = narrow(falling.size - k)
        before = after
    rest = row[before:]
    for k in range(rest.size):
        rest[k] = narrow(k)


@kernel()
def _fill_box(points: Any, origin: Any, gaps: Any) -> None:
    depth, height, width = gaps.shape
    narrow = gaps.dtype.type
    nothing = narrow(~narrow(0))
    i = 0
    for z in range(depth):
        for y in range(height):
            first = i
            while i < points.shape[0] and points[i, 1] == y + origin[1] and points[i, 0] == z + origin[0]:
                i += 1
            row = gaps[z, y]
            if i > first:
                _fill_row(row, points, first, i, origin[2])
            else:
                for x in range(width):
                    row[x] = nothing


@kernel()
def _envelope(heights: Any, size: int, inverse: Any, sites: Any, starts: Any) -> int:
    """Build the lower envelope of the parabolas heights[y] + (s * (t - y))^2; return how many form it.

    Parabola sites[k] is the lowest from starts[k] to starts[k + 1]. `inverse[d]` is 1 / (2 d s^2): two
    parabolas meet at the middle of their sites plus the difference of their heights times that.
    """
    count = 0
    for y in range(size):
        height = heights[y]
        if height == np.inf:
            continue
        start = -np.inf
        while count > 0:
            site = sites[count - 1]
            start = (height - heights[site]) * inverse[y - site] + 0.5 * (y + site)
            if start > starts[count - 1]:
                break
            count -= 1
            start = -np.inf
        sites[count] = y
        starts[count] = start
        count += 1
    return count


@kernel()
def _sweep_planes(
    queries: Any,
    squares: Any,
    points: Any,
    origin: Any,
    depth: int,
    low: Any,
    step_z: float,
    step_y: float,
    step_x: float,
    plane: Any,
    columns: Any,
) -> None:
    height, width = plane.shape[1:]
    narrow = plane.dtype.type
    nothing = narrow(~narrow(0))
    longest = max(height, columns.shape[1])
    heights = np.empty(height)
    inverse = np.empty(longest + 1)
    for distance in range(1, longest + 1):
        inverse[distance] = 0.5 / (distance * step_y * step_y)
    sites = np.empty(height, dtype=np.int64)
    starts = np.empty(height + 1)
    # Queries of one plane lie together; the largest bound of each tells which planes they still need.
    query_depth = queries[-1, 0] - low[0] + 1
    group = np.zeros(query_depth + 1, dtype=np.int64)
    bound = np.zeros(query_depth)
    used = np.zeros(columns.shape[0], dtype=np.bool_)
    for i in range(queries.shape[0]):
        z = queries[i, 0] - low[0]
        group[z + 1] += 1
        bound[z] = max(bound[z], squares[i])
        used[queries[i, 2] - low[2]] = True
    for z in range(query_depth):
        group[z + 1] += group[z]
    flat_origin = np.zeros(3, dtype=np.int64)
    flat_origin[1] = origin[1]
    flat_origin[2] = origin[2]
    last = 0
    for plane_z in range(depth):
        first = last
        while last < points.shape[0] and points[last, 0] == plane_z + origin[0]:
            last += 1
        needed = False
        for z in range(query_depth):
            away = (z + low[0] - plane_z - origin[0]) * step_z
            needed |= away * away < bound[z]
        if first == last or not needed:
            continue
        flat_origin[0] = plane_z + origin[0]
        _fill_box(points[first:last], flat_origin, plane)
        for column in range(columns.shape[0]):
            if not used[column]:
                continue
            # Left or right of the box the nearest point of a row is the one nearest to its end.
            x = column + low[2] - origin[2]
            inner = min(max(x, 0), width - 1)
            outer = abs(x - inner)
            for y in range(height):
                gap = plane[0, y, inner]
                across = (np.int64(gap) + outer) * step_x
                heights[y] = across * across if gap != nothing else np.inf
            count = _envelope(heights, height, inverse, sites, starts)
            starts[count] = np.inf
            k = 0
            for y in range(columns.shape[1]):
                t = y + low[1] - origin[1]
                while starts[k + 1] < t:
                    k += 1
                along = (t - sites[k]) * step_y
                columns[column, y] = heights[sites[k]] + along * along
        for z in range(query_depth):
            away = (z + low[0] - plane_z - origin[0]) * step_z
            away *= away
            if away >= bound[z]:
                continue
            largest = 0.0
            for i in range(group[z], group[z + 1]):
                square = columns[queries[i, 2] - low[2], queries[i, 1] - low[1]] + away
                squares[i] = min(squares[i], square)
                largest = max(largest, squares[i])
            bound[z] = largest


@kernel()
def _square_row(features: Any, step: float, squares: Any) -> None:
    """Write squared distances to the nearest True of the row, inf when there is none."""
    width = features.size
    before = -1
    for x in range(width):
        if features[x] == 0:
            continue
        if before < 0:
            falling = squares[:x]
        else:
            middle = (before + x + 1) >> 1
            rising = squares[before:middle]
            for k in range(rising.size):
                rising[k] = (k * step) * (k * step)
            falling = squares[middle:x]
        for k in range(falling.size):
            distance = (falling.size - k) * step
            falling[k] = distance * distance
        before = x
    if before < 0:
        for x in range(width):
            squares[x] = np.inf
        return
    rest = squares[before:]
    for k in range(rest.size):
        rest[k] = (k * step) * (k * step)


@kernel()
def _square_rows(features: Any, step: float, squares: Any) -> None:
    for y in range(features.shape[0]):
        _square_row(features[y], step, squares[y])


@kernel()
def _pass_along(squares: Any, step: float) -> None:
    """Transform the middle axis of (planes, size, lines) in place."""
    planes, size, lines = squares.shape
    heights = np.empty((_LINES, size))
    inverse = np.empty(size)
    for distance in range(1, size):
        inverse[distance] = 0.5 / (distance * step * step)
    sites = np.empty(size, dtype=np.int64)
    starts = np.empty(size + 1)
    for plane in range(planes):
        for first in range(0, lines, _LINES):
            together = min(_LINES, lines - first)
            for y in range(size):
                for j in range(together):
                    heights[j, y] = squares[plane, y, first + j]
            for j in range(together):
                line = heights[j]
                count = _envelope(line, size, inverse, sites, starts)
                if count == 0:
                    continue
                starts[count] = np.inf
                k = 0
                for y in range(size):
                    while starts[k + 1] < y:
                        k += 1
                    along = (y - sites[k]) * step
                    squares[plane, y, first + j] = line[sites[k]] + along * along
