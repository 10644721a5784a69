"""Statistics of the distances between two surfaces: one list of distances and weights serves them all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Of = Literal["pred", "gt", "both"]
Rank = Literal["linear", "floor", "nearest"]

#: Lengths out of a header carry float32 noise (0.8 is read as 0.800000012, 2 as 2.000000009): a tolerance
#: of one voxel holds one voxel only with this much room.
SLACK = 1 + 1e-6
# Shares that differ by less than this are equal but for rounding.
_TIE = 1e-9
# So many elements are sorted at once; of more only those around the percentile.
_FEW = 4096


@dataclass(frozen=True)
class Distances:
    """Distances from every element of each surface to the nearest element of the other.

    `weighted` says that percentiles weigh the elements by their areas: each is the smallest distance at which
    the summed area reaches the share (as surface-distance). Otherwise they count elements and interpolate
    linearly (as NumPy). Means and shares always weigh. `shared` are further elements of weight 1 in the two
    surfaces that lie at distance 0; they are not listed.
    """

    pred_to_gt: Vector
    gt_to_pred: Vector
    pred_weights: Vector
    gt_weights: Vector
    weighted: bool
    shared: tuple[int, int] = (0, 0)

    def _of(self, side: Of) -> tuple[Vector, Vector, int]:
        if side == "pred":
            return self.pred_to_gt, self.pred_weights, self.shared[0]
        if side == "gt":
            return self.gt_to_pred, self.gt_weights, self.shared[1]
        return *self._both, sum(self.shared)

    @cached_property
    def _both(self) -> tuple[Vector, Vector]:
        return (
            np.concatenate([self.pred_to_gt, self.gt_to_pred]),
            np.concatenate([self.pred_weights, self.gt_weights]),
        )

    def percentile(self, percent: float, side: Of, *, rank: Rank = "linear") -> float:
        """Return a percentile; of elements that count 1 between two distances, or the distance of a rank.

        That rank is n percent/100, rounded down (floor) or to the nearest; the smallest distance has rank 1.
        """
        if percent == 100:
            return self.largest(side)
        distances, weights, shared = self._of(side)
        if not self.weighted:
            if rank == "linear":
                return _linear(distances, shared, percent)
            return _at_rank(distances, shared, percent, 0.5 if rank == "nearest" else 0)
        share, total = percent / 100, weights.sum()
        among, before = _around(distances, weights, share, total)
        order = among[np.argsort(distances[among])]
        shares = (before + np.cumsum(weights[order])) / total
        if np.abs(shares - share).min() < _TIE:
            # A tie: rounding decides which side of the step it falls. Summed in the order of surface-distance,
            # by distance and then by area, the outcome is that tool's and depends on no memory layout.
            order = np.lexsort((weights, distances))
            ordered = weights[order]
            shares = np.cumsum(ordered) / np.sum(ordered)
        return float(distances[order[min(int(np.searchsorted(shares, share)), len(order) - 1)]])

    def largest(self, side: Of = "both") -> float:
        of = {"pred": [self.pred_to_gt], "gt": [self.gt_to_pred], "both": [self.pred_to_gt, self.gt_to_pred]}[side]
        return max(float(d.max(initial=0.0)) for d in of)

    def mean(self, side: Of) -> float:
        distances, weights, shared = self._of(side)
        # Not np.dot: of long vectors it makes two threads that wait for each other, and sums that depend on how many.
        return float((distances * weights).sum() / (weights.sum() + shared))

    def mean_square(self) -> float:
        """Return the mean of the squared distances of both surfaces."""
        distances, weights, shared = self._of("both")
        return float((distances * distances * weights).sum() / (weights.sum() + shared))

    def deviation(self) -> float:
        """Return the standard deviation of the distances of both surfaces (of all there are, not of a sample)."""
        distances, weights, shared = self._of("both")
        mean, total = self.mean("both"), weights.sum() + shared
        return float(np.sqrt((((distances - mean) ** 2 * weights).sum() + shared * mean * mean) / total))

    def share_within(self, tolerance: float, side: Of = "both", *, slack: float = SLACK - 1) -> float:
        """Return the share of one or both surfaces that lies within `tolerance` of the other.

        `slack` is the part of the tolerance by which a distance may exceed it.
        """
        distances, weights, shared = self._of(side)
        near = weights[distances <= tolerance * (1 + slack)].sum() + shared
        return float(near / (weights.sum() + shared))


def _at_rank(distances: Vector, zeros: int, percent: float, more: float) -> float:
    """Return the distance of rank n percent/100 + more, rounded down but at least 1, of these and that many zeros."""
    rank = max(int(percent * (zeros + len(distances)) / 100 + more), 1)
    place = rank - 1 - zeros
    return 0.0 if place < 0 else float(np.partition(distances, place)[place])


def _around(distances: Vector, weights: Vector, share: float, total: float) -> tuple[NDArray[np.intp], float]:
    """Return the elements among which the summed weights reach a share, and the weight of all that are nearer.

    The weights of most surfaces are even enough for the percentile to have about the rank it would have without.
    """
    count = len(distances)
    if count > _FEW:
        ranks = max(int((share - 0.02) * count), 0), min(int((share + 0.02) * count), count - 1)
        # NumPy sorts numbers in a fifth of the time that it takes to put places in order or to partition twice.
        low, high = np.sort(distances)[list(ranks)]
        before = float(weights[distances < low].sum())
        among = np.flatnonzero((distances >= low) & (distances <= high))
        if before < (share - _TIE) * total and before + weights[among].sum() > (share + _TIE) * total:
            return among, before
    return np.arange(count), 0.0


def _linear(distances: Vector, zeros: int, percent: float) -> float:
    """Return the percentile of the distances and that many zeros, as NumPy has it of them all."""
    if not zeros:
        return float(np.percentile(distances, percent))
    last = zeros + len(distances) - 1
    place = percent / 100 * last
    lower = min(int(place), last)
    upper = min(lower + 1, last)
    wanted = [k - zeros for k in (lower, upper) if k >= zeros]
    if not wanted:
        return 0.0
    ordered = np.partition(distances, wanted)
    low = float(ordered[lower - zeros]) if lower >= zeros else 0.0
    return low + (place - lower) * (float(ordered[upper - zeros]) - low)
