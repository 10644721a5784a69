"""The erosion chain of the Hausdorff loss: squared errors worn away step by step, and its derivative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]


class ErosionChain:
    """E_k = norm(max(B * E_(k-1) - 1/2, 0)), B the mean over a voxel and its face neighbours.

    `norm` stretches what is left to [0, 1] and leaves a constant alone. Outside the grid, and at voxels that
    `valid` does not mark, everything is 0. `value` is the sum of k^alpha E_k over the steps.
    """

    def __init__(self, error: Grid, steps: int, alpha: float, valid: NDArray[np.bool_] | None = None) -> None:
        self._weights = np.arange(1, steps + 1, dtype=np.float64) ** alpha
        self._valid = valid
        #: Of each step what was left before it was stretched, its extremes and the result.
        self._kept: list[tuple[Grid, float, float, Grid]] = []
        self.value = np.zeros_like(error)
        for weight in self._weights:
            left = self._shown(np.maximum(_cross_mean(error) - 0.5, 0.0))
            counted = left if valid is None else left[valid]
            low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
            if high == 0:  # nothing is left, nor will be
                break
            error = self._shown((left - low) / (high - low)) if high > low else left
            self._kept.append((left, low, high, error))
            self.value += weight * error

    def pull(self, slope: Grid) -> Grid:
        """Return the derivative of sum(slope * value) with respect to the error."""
        by_error = np.zeros_like(slope)
        for weight, (left, low, high, error) in reversed(list(zip(self._weights, self._kept, strict=False))):
            by_error = self._shown(by_error + weight * slope)
            if high > low:
                by_low = float((by_error * (error - 1)).sum()) / (high - low)
                by_high = -float((by_error * error).sum()) / (high - low)
                at_low, at_high = self._at(left, low), self._at(left, high)
                by_error = by_error / (high - low)
                by_error[at_low] += by_low / int(at_low.sum())
                by_error[at_high] += by_high / int(at_high.sum())
            by_error = _cross_mean(np.where(left > 0, by_error, 0.0))
        return self._shown(by_error)

    def _at(self, left: Grid, extreme: float) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = left == extreme
        return found if self._valid is None else found & self._valid

    def _shown(self, grid: Grid) -> Grid:
        return grid if self._valid is None else np.where(self._valid, grid, 0.0)


def _cross_mean(field: Grid) -> Grid:
    """Return the mean of each voxel and its face neighbours, zeros outside."""
    total = field.copy()
    for axis in range(field.ndim):
        here, sums = np.moveaxis(field, axis, 0), np.moveaxis(total, axis, 0)
        sums[1:] += here[:-1]
        sums[:-1] += here[1:]
    total /= 2 * field.ndim + 1
    return total
