"""Structural similarity: local means, variances and covariance in Gaussian windows, and the derivative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]

_C1, _C2 = 0.01**2, 0.03**2  # keep the ratios finite where everything is constant; the values lie in [0, 1]


class Similarity:
    """SSIM (Wang et al. 2004) of two fields with values in [0, 1] in every window that fits into the grid.

    Along an axis shorter than the window the window is as long as the axis. Voxels that `valid` does not mark
    have weight 0, the grid is cut to the box of the others, and windows without any of them are left out.
    `lack` holds 1-SSIM of each window, `count` their number.
    """

    def __init__(self, p: Grid, y: Grid, window: int, sigma: float, valid: NDArray[np.bool_] | None = None) -> None:
        self._shape = p.shape
        self._box = box_of(valid, p.ndim)
        p, y = p[self._box], y[self._box]
        self._mask = None if valid is None else valid[self._box].astype(np.float64)
        self._weights = [_gaussian(min(window, n), sigma) for n in p.shape]
        total = None if self._mask is None else self._sum(self._mask)
        self._seen = None if total is None else total > 0
        self._scale = None if total is None else np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        mean_p, mean_y = self._mean(p), self._mean(y)
        self._a = 2 * mean_p * mean_y + _C1
        self._b = mean_p**2 + mean_y**2 + _C1
        # in terms of p-y: equal fields have a lack of exactly 0, and no digit is lost next to that
        apart = p - y
        mean_apart = self._mean(apart)
        varies = np.maximum(self._mean(apart * apart) - mean_apart**2, 0.0)
        spread = self._mean(p * p) - mean_p**2 + self._mean(y * y) - mean_y**2
        self._d = np.maximum(spread, varies / 2) + _C2  # var p + var y is never less than var(p-y)/2
        self._c = self._d - varies
        self._fields, self._means = (p, y), (mean_p, mean_y)
        self.lack = mean_apart**2 / self._b + self._a / self._b * (varies / self._d)
        if self._seen is not None:
            self.lack[~self._seen] = 0.0
        self.count = int(self.lack.size if self._seen is None else self._seen.sum())

    def spread(self, share: Grid) -> Grid:
        """Return what each voxel gets when every window divides its share by its weights."""
        if self._scale is not None:
            share = share * self._scale
        for axis, weights in enumerate(self._weights):
            share = _along(share, weights, axis, full=True)
        if self._mask is not None:
            share = share * self._mask
        found = np.zeros(self._shape)
        found[self._box] = share
        return found

    def pull(self) -> Grid:
        """Return the derivative of the sum of `lack` with respect to p."""
        (p, y), (mean_p, mean_y) = self._fields, self._means
        a, b, c, d = self._a, self._b, self._c, self._d
        # SSIM = (a c)/(b d); c = 2 cov + C2, d = var p + var y + C2
        by_cov = 2 * a / (b * d)
        by_var = -a * c / (b * d * d)
        by_mean = 2 * mean_y * c / (b * d) - 2 * mean_p * a * c / (b * b * d)
        by_mean = by_mean - by_cov * mean_y - 2 * by_var * mean_p
        if self._seen is not None:
            by_cov, by_var, by_mean = (np.where(self._seen, field, 0.0) for field in (by_cov, by_var, by_mean))
        found = np.zeros(self._shape)
        inside = self.spread(by_mean)[self._box] + self.spread(by_cov)[self._box] * y
        found[self._box] = inside + 2 * self.spread(by_var)[self._box] * p
        return -found

    def _sum(self, field: Grid) -> Grid:
        for axis, weights in enumerate(self._weights):
            field = _along(field, weights, axis, full=False)
        return field

    def _mean(self, field: Grid) -> Grid:
        if self._mask is None or self._scale is None:
            return self._sum(field)
        return self._sum(field * self._mask) * self._scale


def box_of(valid: NDArray[np.bool_] | None, ndim: int) -> tuple[slice, ...]:
    """Return the smallest box around the voxels that count."""
    if valid is None:
        return (slice(None),) * ndim
    return tuple(slice(where.min(), where.max() + 1) if where.size else slice(0, 0) for where in np.nonzero(valid))


def _gaussian(size: int, sigma: float) -> Sequence[float]:
    weights = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma * sigma))
    return [float(w) for w in weights / weights.sum()]


def _along(field: Grid, weights: Sequence[float], axis: int, *, full: bool) -> Grid:
    """Weigh and add neighbours along an axis: only where all are there, or (`full`) the transpose of that."""
    moved = np.moveaxis(field, axis, 0)
    size = moved.shape[0] + (len(weights) - 1) * (1 if full else -1)
    found = np.zeros((max(size, 0), *moved.shape[1:]))
    for k, weight in enumerate(weights):
        if full:
            found[k : k + moved.shape[0]] += weight * moved
        else:
            found += weight * moved[k : k + size]
    return np.moveaxis(found, 0, axis)
