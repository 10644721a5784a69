"""Exact nearest distances between two sets of lattice points, both ways.

Close sets, the usual case, are searched row by row outward from each point. That is slow when the sets
are far apart, so the search has a budget; the points it leaves are finished by `lower_squares`, whose
cost depends on the box and not on the distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.distance_transform import lower_squares, row_gaps

# Rows looked at from one point before it is left to the transform: an ellipse of about this many rows.
_ROWS = 1024
# A probe costs about 1.5 ns, a voxel of the transform about 5: a search in vain adds at most a third.
_PROBES_PER_VOXEL = 1
# A box of more voxels than this gets no table of gaps (2 bytes a voxel); the transform works by planes.
_LARGEST_TABLE = 1 << 28


def nearest_distances(
    a: NDArray[np.int32], b: NDArray[np.int32], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance from each point of `a` to the nearest of `b`, and from each of `b` to `a`.

    `a` (A, ndim) and `b` (B, ndim) are int32 lattice indices, ndim 2 or 3; `spacing` has one entry per
    column and gives the unit. Fastest when points are in C order, as `surface_elements` returns them; any
    order and repeated points are allowed. Distances are exact up to float64 rounding.
    Raises ValueError for an empty set or other shapes: what an empty set means is the caller's to say.
    """
    ndim = len(spacing)
    if ndim not in (2, 3) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != ndim or b.shape[1] != ndim:
        raise ValueError(f"nearest_distances: shapes {a.shape} and {b.shape} for {ndim} spacings; need (N, 2 or 3)")
    if len(a) == 0 or len(b) == 0:
        raise ValueError("nearest_distances: both sets need at least one point")
    steps = (1.0,) * (3 - ndim) + tuple(float(s) for s in spacing)
    ordered_a, order_a = _in_order(_as_3d(a))
    ordered_b, order_b = _in_order(_as_3d(b))
    return (
        _one_way(ordered_a, order_a, ordered_b, (steps[0], steps[1], steps[2]), _PROBES_PER_VOXEL),
        _one_way(ordered_b, order_b, ordered_a, (steps[0], steps[1], steps[2]), _PROBES_PER_VOXEL),
    )


def distances_to(
    targets: NDArray[np.int32], queries: NDArray[np.int32], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Return the distance from each of `queries`, which may be none, to the nearest of `targets`, at least one.

    Arguments are as those of `nearest_distances`.
    """
    if not len(queries):
        return np.empty(0)
    steps = (1.0,) * (3 - len(spacing)) + tuple(float(s) for s in spacing)
    ordered, order = _in_order(_as_3d(queries))
    return _one_way(ordered, order, _in_order(_as_3d(targets))[0], (steps[0], steps[1], steps[2]), _PROBES_PER_VOXEL)


def warm() -> None:
    """Compile the kernels."""
    point = np.zeros((1, 3), dtype=np.int32)
    nearest_distances(point, point, (1, 1, 1))  # the row search
    nearest_distances(point, point + np.int32(1), (1, 1, 1))
    _compare_all(point, point, 1.0, 1.0, 1.0, np.empty(1))


def _as_3d(points: NDArray[np.int32]) -> NDArray[np.int32]:
    if points.shape[1] == 3:
        return writable(np.ascontiguousarray(points, dtype=np.int32))
    lifted = np.zeros((len(points), 3), dtype=np.int32)
    lifted[:, 1:] = points
    return lifted


def _in_order(points: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.intp] | None]:
    """Return the points in C order, and the order they were brought to; None when they were in it."""
    if _is_sorted(points):
        return points, None
    order = np.lexsort(points.T[::-1])
    return points[order], order


def _one_way(
    queries: NDArray[np.int32],
    order: NDArray[np.intp] | None,
    targets: NDArray[np.int32],
    spacing: tuple[float, float, float],
    probes_per_voxel: float,
) -> NDArray[np.float64]:
    origin = targets.min(axis=0).astype(np.int64)
    extent = targets.max(axis=0) - origin + 1
    shape = (int(extent[0]), int(extent[1]), int(extent[2]))
    volume = shape[0] * shape[1] * shape[2]
    squares = np.full(len(queries), np.inf)
    if len(queries) * len(targets) < volume:
        _compare_all(queries, targets, *spacing, squares)
    else:
        unresolved = None
        if volume <= _LARGEST_TABLE:
            gaps = row_gaps(targets, origin, shape)
            unresolved = np.ones(len(queries), dtype=np.bool_)
            offsets, offset_squares = _row_offsets(spacing[0], spacing[1], shape[0] > 1 or bool(np.ptp(queries[:, 0])))
            budget = int(probes_per_voxel * (volume + len(queries)))
            _search_rows(queries, gaps, origin, offsets, offset_squares, spacing[2], budget, squares, unresolved)
        if unresolved is None:
            lower_squares(queries, squares, targets, origin, shape, spacing)
        elif unresolved.any():
            rest = squares[unresolved]
            lower_squares(queries[unresolved], rest, targets, origin, shape, spacing)
            squares[unresolved] = rest
    distances: NDArray[np.float64] = np.sqrt(squares)
    if order is None:
        return distances
    restored = np.empty_like(distances)
    restored[order] = distances
    return restored


@lru_cache(maxsize=64)
def _row_offsets(step_z: float, step_y: float, deep: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return offsets (dz, dy) of the nearest rows, nearest first, complete up to the last, and their squares.

    One entry more says how far the table reaches: no row nearer than that is missing.
    """
    if deep:
        reach = np.sqrt(_ROWS * step_z * step_y / np.pi)
        half_z = int(reach / step_z) + 1
        half_y = int(reach / step_y) + 1
    else:
        half_z = 0
        half_y = _ROWS // 2
    dz, dy = (axis.ravel() for axis in np.mgrid[-half_z : half_z + 1, -half_y : half_y + 1])
    squares = (dz * step_z) ** 2 + (dy * step_y) ** 2
    edge = ((half_y + 1) * step_y) ** 2
    if deep:
        edge = min(edge, ((half_z + 1) * step_z) ** 2)
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] < edge]
    return np.stack((dz, dy), axis=1)[order].astype(np.int64), np.append(squares[order], edge)


@kernel()
def _is_sorted(points: Any) -> bool:
    for i in range(1, points.shape[0]):
        for axis in range(3):
            if points[i, axis] != points[i - 1, axis]:
                if points[i, axis] < points[i - 1, axis]:
                    return False
                break
    return True


@kernel()
def _compare_all(queries: Any, targets: Any, step_z: float, step_y: float, step_x: float, squares: Any) -> None:
    for i in range(queries.shape[0]):
        best = np.inf
        for j in range(targets.shape[0]):
            z = (queries[i, 0] - targets[j, 0]) * step_z
            y = (queries[i, 1] - targets[j, 1]) * step_y
            x = (queries[i, 2] - targets[j, 2]) * step_x
            best = min(best, z * z + y * y + x * x)
        squares[i] = best


@kernel()
def _search_rows(
    queries: Any,
    gaps: Any,
    origin: Any,
    offsets: Any,
    offset_squares: Any,
    step_x: float,
    budget: int,
    squares: Any,
    unresolved: Any,
) -> None:
    """Find the nearest point by looking at rows, the nearest first, until none can be nearer.

    Clears `unresolved` where the answer is certain; elsewhere `squares` holds an upper bound. Stops when
    it seems that more than `budget` rows would have to be looked at.
    """
    depth, height, width = gaps.shape
    narrow = gaps.dtype.type
    nothing = narrow(~narrow(0))
    rows = offsets.shape[0]
    reach = offset_squares[rows]
    used = 0
    for i in range(queries.shape[0]):
        # Behind the pace, with a tenth of the budget as a start: the rest is left to the transform.
        if used > budget * (0.1 + i / queries.shape[0]):
            return
        z = queries[i, 0] - origin[0]
        y = queries[i, 1] - origin[1]
        x = queries[i, 2] - origin[2]
        # Left or right of the box the nearest point of a row is the one nearest to its end.
        inner = min(max(x, 0), width - 1)
        outer = abs(x - inner)
        best = np.inf
        k = 0
        while k < rows and offset_squares[k] < best:
            other_z = z + offsets[k, 0]
            other_y = y + offsets[k, 1]
            if 0 <= other_z < depth and 0 <= other_y < height:
                gap = gaps[other_z, other_y, inner]
                if gap != nothing:
                    along = (np.int64(gap) + outer) * step_x
                    best = min(best, offset_squares[k] + along * along)
            k += 1
        used += k
        squares[i] = best
        unresolved[i] = best > reach
