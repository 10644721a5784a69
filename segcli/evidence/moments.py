"""Where the voxels of a mask lie and how they spread: exact sums over coordinates, all labels in one pass."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: No sum of one slab goes beyond it: the next power of two is the end of 64 bits.
LARGEST_SUM = 1 << 62


class Moments(NamedTuple):
    """Of the voxels of one mask: how many, the sums of their coordinates (d,) and of products of two of them (d, d).

    Coordinates are indices in the order of memory. All numbers are integers of Python: nothing is rounded.
    """

    size: int
    sums: list[int]
    products: list[list[int]]

    @property
    def scatter(self) -> list[list[int]]:
        """Return `size`^2 times the covariance, that of all voxels (divided by their number)."""
        return [
            [self.size * product - a * b for product, b in zip(row, self.sums, strict=True)]
            for row, a in zip(self.products, self.sums, strict=True)
        ]


def moments_of(sums: NDArray[np.object_], ndim: int) -> Moments:
    """Return the moments of the codes whose ten sums these are (codes, 10)."""
    size, z, y, x, zz, zy, zx, yy, yx, xx = sums.sum(axis=0).tolist()
    if ndim == 2:  # it was read as one column of rows
        return Moments(size, [z, x], [[zz, zx], [zx, xx]])
    return Moments(size, [z, y, x], [[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]])


def of_codes(codes: NDArray[Any], values: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the ten sums of each code as integers of Python; the map is read slab by slab, so that none overflows."""
    from segcli.kernels.moments import label_moments

    volume = codes[:, None, :] if codes.ndim == 2 else codes
    largest = max(volume.shape, default=1) - 1
    slab = LARGEST_SUM // max(largest**2 * volume.shape[1] * volume.shape[2], 1)
    if not slab or 2 * volume.shape[2] ** 3 > LARGEST_SUM:
        raise InputError(
            f"an image of {'x'.join(map(str, codes.shape))} is too long for sums of squared coordinates.",
            hint="leave out mahalanobis",
            code="moments.size",
        )
    total = np.zeros((len(values), 10), dtype=object)
    for start in range(0, volume.shape[0], slab):
        total = total + label_moments(volume[start : start + slab], len(values) + 1, start)[:-1]
    return np.asarray(total)


def quadratic(matrix: Sequence[Sequence[int]], vector: Sequence[int]) -> Fraction | None:
    """Return v' A^-1 v, exactly, of a positive semi-definite matrix of integers.

    Of a singular one it is the limit of (A + e)^-1 for e to 0: `None` where that is infinite.
    """
    rows, rest = [[Fraction(a) for a in row] for row in matrix], [Fraction(v) for v in vector]
    found = Fraction(0)
    for k, pivot_row in enumerate(rows):
        pivot = pivot_row[k]
        if not pivot:  # what is left of the matrix is positive semi-definite too: the whole row is 0
            if rest[k]:
                return None
            continue
        found += rest[k] ** 2 / pivot
        for i in range(k + 1, len(rest)):
            factor = rows[i][k] / pivot
            rest[i] -= factor * rest[k]
            rows[i] = [a - factor * b for a, b in zip(rows[i], pivot_row, strict=True)]
    return found
