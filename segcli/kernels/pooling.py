"""Soft morphology: minima and maxima over a voxel's neighbours, the soft skeleton, and its derivative.

The smallest of a cross (erosion) and the largest of a 3x3x3 box (dilation) are found one axis at a time,
remembering which neighbour it was: the derivative flows back to that one. Of equal neighbours the first
in C order counts, and where axes tie each has half, as in torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

Grid = NDArray[np.float64]


class SoftSkeleton:
    """The soft skeleton of a field by repeated opening (Shit et al. 2021), and how it depends on the field.

    `valid` marks the voxels that count, `None` when all do: the others are skipped as if they lay outside
    the grid. `value` is 0 there.
    """

    def __init__(self, field: Grid, iterations: int, valid: NDArray[np.bool_] | None = None) -> None:
        self._hidden = None if valid is None else ~valid
        self._steps: list[_Step] = []
        skeleton = np.zeros_like(field)
        for step in range(iterations + 1):
            erosion = None
            if step:
                erosion = _erode(field, self._hidden)
                field = erosion.value
            inner = _erode(field, self._hidden)
            opened, picks = _dilate(inner.value, self._hidden)
            rest = np.maximum(field - opened, 0.0)
            self._steps.append(_Step(erosion, inner, picks, skeleton, rest))
            skeleton = skeleton + np.maximum(rest - skeleton * rest, 0.0)
        self.value = self._shown(skeleton)

    def pull(self, slope: Grid) -> Grid:
        """Return the derivative of sum(slope * value) with respect to the field."""
        by_skeleton = self._shown(slope)
        by_field = np.zeros_like(slope)
        for step in reversed(self._steps):
            grows = step.skeleton * step.rest < step.rest
            by_rest = np.where(grows & (step.rest > 0), by_skeleton * (1 - step.skeleton), 0.0)
            by_skeleton = np.where(grows, by_skeleton * (1 - step.rest), by_skeleton)
            by_field = by_field + by_rest + _pull_erosion(step.inner, _pull_dilation(step.picks, -by_rest))
            if step.erosion is not None:
                by_field = _pull_erosion(step.erosion, by_field)
        return self._shown(by_field)

    def _shown(self, grid: Grid) -> Grid:
        return grid if self._hidden is None else np.where(self._hidden, 0.0, grid)


class _Erosion(NamedTuple):
    value: Grid
    picks: list[NDArray[np.int8]]
    parts: list[Grid]


class _Step(NamedTuple):
    erosion: _Erosion | None
    inner: _Erosion
    picks: list[NDArray[np.int8]]
    skeleton: Grid
    rest: Grid


def _erode(field: Grid, hidden: NDArray[np.bool_] | None) -> _Erosion:
    """Return the smallest of each voxel and its face neighbours."""
    if hidden is not None:
        field = np.where(hidden, np.inf, field)
    smallest, pick = least_of_three(field, 0)
    picks, parts = [pick], [np.ones_like(field)]
    for axis in range(1, field.ndim):
        along, pick = least_of_three(field, axis)
        share = 0.5 * (along <= smallest) + 0.5 * (along < smallest)
        parts = [part * (1 - share) for part in parts]
        parts.append(share)
        picks.append(pick)
        smallest = np.minimum(smallest, along)
    if hidden is not None:
        smallest[hidden] = 0.0
    return _Erosion(smallest, picks, parts)


def _pull_erosion(of: _Erosion, slope: Grid) -> Grid:
    found = np.zeros_like(slope)
    for axis, (pick, part) in enumerate(zip(of.picks, of.parts, strict=True)):
        found += pull_pick(part * slope, pick, axis)
    return found


def _dilate(field: Grid, hidden: NDArray[np.bool_] | None) -> tuple[Grid, list[NDArray[np.int8]]]:
    """Return the largest of each voxel and all its neighbours, and the picks from the last axis to the first."""
    if hidden is not None:
        field = np.where(hidden, -np.inf, field)
    picks = []
    least = -field
    for axis in reversed(range(field.ndim)):
        least, pick = least_of_three(least, axis)
        picks.append(pick)
    largest = -least
    if hidden is not None:
        largest[hidden] = 0.0
    return largest, picks


def _pull_dilation(picks: list[NDArray[np.int8]], slope: Grid) -> Grid:
    for axis, pick in enumerate(reversed(picks)):
        slope = pull_pick(slope, pick, axis)
    return slope


def least_of_three(field: Grid, axis: int) -> tuple[Grid, NDArray[np.int8]]:
    """Return the smallest of each voxel and its two neighbours along an axis, and its offset: -1, 0 or 1."""
    smallest, pick = np.empty_like(field), np.empty(field.shape, dtype=np.int8)
    if field.size:
        _least_of_three(_lines(field, axis), _lines(smallest, axis), _lines(pick, axis))
    return smallest, pick


def pull_pick(slope: Grid, pick: NDArray[np.int8], axis: int) -> Grid:
    """Return, for each voxel, the sum of the slopes of those that picked it."""
    found = np.zeros_like(slope)
    if slope.size:
        _pull_pick(_lines(slope, axis), _lines(pick, axis), _lines(found, axis))
    return found


def _lines(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return a C-ordered array as (planes, size, lines), the axis in the middle."""
    size = array.shape[axis]
    planes = int(np.prod(array.shape[:axis]))
    return writable(np.ascontiguousarray(array)).reshape(planes, size, -1)


def warm() -> None:
    """Compile the kernels."""
    SoftSkeleton(np.zeros((1, 2)), 0).pull(np.ones((1, 2)))


@kernel()
def _least_of_three(field: Any, smallest: Any, pick: Any) -> None:
    planes, size, lines = field.shape
    for plane in range(planes):
        for y in range(size):
            for x in range(lines):
                least = field[plane, y, x]
                offset = 0
                if y > 0 and field[plane, y - 1, x] <= least:
                    least = field[plane, y - 1, x]
                    offset = -1
                if y + 1 < size and field[plane, y + 1, x] < least:
                    least = field[plane, y + 1, x]
                    offset = 1
                smallest[plane, y, x] = least
                pick[plane, y, x] = offset


@kernel()
def _pull_pick(slope: Any, pick: Any, found: Any) -> None:
    planes, size, lines = slope.shape
    for plane in range(planes):
        for y in range(size):
            for x in range(lines):
                found[plane, y + pick[plane, y, x], x] += slope[plane, y, x]
