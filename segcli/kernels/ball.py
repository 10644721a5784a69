"""Means over discs and balls around every voxel, for several radii at once.

A ball is a stack of discs and a disc a stack of rows: sums over rows of each width come from running sums,
are shared by all discs and radii, and each disc is used above and below. That is some 150 additions a voxel
for a ball of radius 9, which has 3071 voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

Grid = NDArray[np.float64]


class BallWeights:
    """What the Hausdorff loss by convolution multiplies p and y by, and how that depends on p.

    `on_p` is the sum over radii of r^alpha [f(B_r * (1-y)) + f(B_r * p)], `on_y` that with y and 1-p; f(x) is
    max(x - 1/2, 0). Outside the grid, and in voxels that `valid` does not mark, p, y, 1-p and 1-y are 0; the
    fields must be 0 there.
    """

    def __init__(
        self, p: Grid, y: Grid, radii: Sequence[int], alpha: float, valid: NDArray[np.bool_] | None = None
    ) -> None:
        self._radii = radii
        self._weights = np.array(radii, dtype=np.float64) ** alpha
        if valid is None:
            self._cover = ball_coverage(p.shape, radii)
        else:
            self._cover = ball_means(valid.astype(np.float64), radii)
        self._mean_p = ball_means(p, radii)
        self.on_p, self.on_y = np.zeros(p.shape), np.zeros(p.shape)
        cover, mean_p, mean_y = (m.reshape(len(radii), -1) for m in (self._cover, self._mean_p, ball_means(y, radii)))
        _weigh(self._weights, cover, mean_p, mean_y, self.on_p.reshape(-1), self.on_y.reshape(-1))

    def pull(self, slope_p: Grid, slope_y: Grid) -> Grid:
        """Return the derivative of sum(slope_p * on_p + slope_y * on_y) with respect to p."""
        found = np.zeros_like(slope_p)
        for k, radius in enumerate(self._radii):
            mean = self._mean_p[k]
            slope = slope_p * (mean > 0.5) - slope_y * (self._cover[k] - mean > 0.5)
            found += self._weights[k] * ball_means(slope, (radius,))[0]
        return found


def ball_means(field: Grid, radii: Sequence[int]) -> Grid:
    """Return (len(radii), *shape): the sum over the ball of each radius divided by the size of the ball.

    `field` is a float64 array, 2-D (discs) or 3-D; outside of it everything is 0. A voxel belongs to the
    ball when its centre is no further than the radius, in voxels. Raises ValueError for another array.
    """
    if field.dtype != np.float64 or field.ndim not in (2, 3):
        raise ValueError(f"ball_means: need a 2-D or 3-D float64 array, not {field.ndim}-D {field.dtype}")
    volume = writable(np.ascontiguousarray(field)).reshape((1,) * (3 - field.ndim) + field.shape)
    means = np.zeros((len(radii), *volume.shape))
    if volume.size and len(radii):
        flat = field.ndim == 2
        _ball_sums(volume, np.array(radii, dtype=np.int64), max(radii), flat, means)
        for k, radius in enumerate(radii):
            means[k] /= ball_size(radius, field.ndim)
    return means.reshape(len(radii), *field.shape)


def ball_coverage(shape: Sequence[int], radii: Sequence[int]) -> Grid:
    """Return `ball_means` of ones: how much of each voxel's ball lies inside the grid.

    It depends on the distances to the edges only, so it is worked out on a small grid and repeated.
    """
    largest = max(radii)
    small = [min(n, 2 * largest + 1) for n in shape]
    found = ball_means(np.ones(small), radii)
    for axis, (n, m) in enumerate(zip(shape, small, strict=True), 1):
        index = np.arange(n)
        index = np.minimum(index, np.maximum(largest, m - n + index))
        found = np.take(found, index, axis=axis)
    return found


def ball_size(radius: int, ndim: int) -> int:
    """Return the number of voxels of a ball."""
    steps = np.indices((2 * radius + 1,) * ndim) - radius
    return int(((steps**2).sum(axis=0) <= radius * radius).sum())


def warm() -> None:
    """Compile the kernels."""
    BallWeights(np.ones((2, 2)), np.ones((2, 2)), (1,), 1.0)


@kernel()
def _add(row: Any, other: Any) -> None:
    for x in range(row.size):
        row[x] += other[x]


@kernel()
def _ball_sums(volume: Any, radii: Any, largest: int, flat: bool, sums: Any) -> None:
    depth, height, width = volume.shape
    running = np.zeros(width + 2 * largest + 1)
    rows = np.empty((largest + 1, height, width))  # sums over x-w..x+w of one plane
    disc = np.empty(width)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                running[largest + 1 + x] = running[largest + x] + volume[z, y, x]
            for x in range(largest):
                running[largest + 1 + width + x] = running[largest + width]
            for w in range(largest + 1):
                row = rows[w, y]
                right = running[largest + 1 + w :]
                left = running[largest - w :]
                for x in range(width):
                    row[x] = right[x] - left[x]
        for k in range(radii.size):
            radius = radii[k]
            for dz in range(1 if flat else radius + 1):
                if z - dz < 0 and z + dz >= depth:
                    break
                reach = int(np.sqrt(radius * radius - dz * dz))
                for y in range(height):
                    disc[:] = 0.0
                    for dy in range(-min(reach, y), min(reach, height - 1 - y) + 1):
                        _add(disc, rows[int(np.sqrt(radius * radius - dz * dz - dy * dy)), y + dy])
                    if z - dz >= 0:
                        _add(sums[k, z - dz, y], disc)
                    if dz > 0 and z + dz < depth:
                        _add(sums[k, z + dz, y], disc)


@kernel()
def _weigh(weights: Any, cover: Any, mean_p: Any, mean_y: Any, on_p: Any, on_y: Any) -> None:
    for k in range(weights.size):
        for i in range(on_p.size):
            outside_p, outside_y = cover[k, i] - mean_p[k, i], cover[k, i] - mean_y[k, i]
            on_p[i] += weights[k] * (max(outside_y - 0.5, 0.0) + max(mean_p[k, i] - 0.5, 0.0))
            on_y[i] += weights[k] * (max(mean_y[k, i] - 0.5, 0.0) + max(outside_p - 0.5, 0.0))
