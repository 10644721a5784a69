"""Where a loss comes from: exact voxel maps of its excess, and how they divide.

A loss files a map whose entries add up to its value. The map of the prediction less the map of the
perfect prediction adds up to the excess L(y, p) - L(y, y): that is what a better prediction could gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segcli.classes import SoftClasses
    from segcli.measure import BoundMeasure
    from segcli.soft import SoftPair, Vector

    Evidence = SoftPair | SoftClasses


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a loss's excess: of voxels outside the gt, inside it, and within a step of its border."""

    fp: float
    fn: float
    boundary: float


def excess_map(bound: BoundMeasure, pair: Evidence) -> Vector | None:
    """Return one number for each voxel; they add up to the excess. `None` where the loss has no map."""
    here = bound.voxel_map(pair)
    return None if here is None else here - bound.voxel_map(bound.perfect(pair))


def shares(excess: Vector, pair: Evidence) -> Shares | None:
    """Return how an excess map divides; `None` where there is nothing to divide."""
    total, largest = float(excess.sum()), float(abs(excess).sum())
    if largest == 0 or abs(total) < 1e-12 * largest:
        return None
    outside = float(excess[~pair.inside_gt].sum())
    boundary = float(excess[pair.near_boundary].sum())
    return Shares(outside / total, 1 - outside / total, boundary / total)


@dataclass(frozen=True, slots=True)
class Island:
    """A connected region that only one side has: `missed` of the gt or `false` of the prediction."""

    kind: str
    voxels: int
    share: float


def worst_island(excess: Vector, pair: Evidence) -> Island | None:
    """Return the island with the largest share of an excess map; `None` where there is none."""
    import numpy as np

    total = float(excess.sum())
    if not total:
        return None
    found = []
    for kind, numbers, sizes in pair.islands:
        sums = np.bincount(numbers, weights=excess, minlength=len(sizes))
        found += [Island(kind, int(n), float(s / total)) for s, n in zip(sums[1:], sizes[1:], strict=True) if n]
    return max(found, key=lambda island: island.share, default=None)
