"""Statistics of the distances between two surfaces: one list of distances and weights serves them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

#: Lengths out of a header carry float32 noise (0.8 is read as 0.800000012, 2 as 2.000000009): a tolerance
#: of one voxel holds one voxel only with this much room.
SLACK = 1 + 1e-6


@dataclass(frozen=True)
class Distances:
    """Distances from every element of each surface to the nearest element of the other.

    `weighted` says that elements have areas: percentiles are then the smallest distance at which the
    summed area reaches the share (as surface-distance); otherwise they interpolate linearly (NumPy).
    """

    pred_to_gt: Vector
    gt_to_pred: Vector
    pred_weights: Vector
    gt_weights: Vector
    weighted: bool

    def _of(self, side: Literal["pred", "gt", "both"]) -> tuple[Vector, Vector]:
        if side == "pred":
            return self.pred_to_gt, self.pred_weights
        if side == "gt":
            return self.gt_to_pred, self.gt_weights
        both = np.concatenate([self.pred_to_gt, self.gt_to_pred])
        return both, np.concatenate([self.pred_weights, self.gt_weights])

    def percentile(self, percent: float, side: Literal["pred", "gt", "both"]) -> float:
        distances, weights = self._of(side)
        if not self.weighted:
            return float(np.percentile(distances, percent))
        order = np.argsort(distances)
        shares = np.cumsum(weights[order]) / weights.sum()
        if np.abs(shares - percent / 100).min() < 1e-9:
            # A tie: rounding decides which side of the step it falls. Summed in the order of surface-distance,
            # by distance and then by area, the outcome is that tool's and depends on no memory layout.
            order = np.lexsort((weights, distances))
            ordered = weights[order]
            shares = np.cumsum(ordered) / np.sum(ordered)
        return float(distances[order[min(int(np.searchsorted(shares, percent / 100)), len(order) - 1)]])

    def mean(self, side: Literal["pred", "gt", "both"]) -> float:
        distances, weights = self._of(side)
        return float(np.dot(distances, weights) / weights.sum())

    def share_within(self, tolerance: float) -> float:
        """Return the share of both surfaces that lies within `tolerance` of the other."""
        distances, weights = self._of("both")
        return float(weights[distances <= tolerance * SLACK].sum() / weights.sum())
