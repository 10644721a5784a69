"""The length of the contours of a field: the mean size of its forward differences, and the derivative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segcli.kernels.windows import box_of

Grid = NDArray[np.float64]

_FLOOR = 1e-8  # under the root: its slope stays finite where nothing changes


class ContourLength:
    """Square roots of the summed squares of the differences to the next voxel along each axis.

    Taken at the voxels that have a next one along every axis that is longer than 1, all of which count.
    `value` has the shape of the field and is 0 elsewhere; `count` is their number.
    """

    def __init__(self, field: Grid, valid: NDArray[np.bool_] | None = None) -> None:
        box = box_of(valid, field.ndim)
        inner = field[box]
        self._axes = [axis for axis, n in enumerate(inner.shape) if n > 1]
        self._here = tuple(slice(None, -1) if axis in self._axes else slice(None) for axis in range(field.ndim))
        self._box, self._shape = box, field.shape
        self._steps = [inner[self._next(axis)] - inner[self._here] for axis in self._axes]
        there = np.full(inner[self._here].shape, bool(self._axes))
        if valid is not None:
            there &= valid[box][self._here]
            for axis in self._axes:
                there &= valid[box][self._next(axis)]
        self._lengths = np.sqrt(sum((step * step for step in self._steps), np.full(there.shape, _FLOOR))) * there
        self.count = int(there.sum())
        self.value = np.zeros(field.shape)
        self.value[box][self._here] = self._lengths

    def pull(self) -> Grid:
        """Return the derivative of the sum of `value` with respect to the field."""
        found = np.zeros(self._shape)
        inner = found[self._box]
        for axis, step in zip(self._axes, self._steps, strict=True):
            slope = np.divide(step, self._lengths, out=np.zeros_like(step), where=self._lengths > 0)
            inner[self._next(axis)] += slope
            inner[self._here] -= slope
        return found

    def _next(self, axis: int) -> tuple[slice, ...]:
        return tuple(slice(1, None) if k == axis else here for k, here in enumerate(self._here))
