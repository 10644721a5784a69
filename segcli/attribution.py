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

#: Nodes of the quadrature: exact for polynomials up to degree 31.
NODES = 16


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


def integrated(bound: BoundMeasure, pair: SoftPair) -> Vector:
    """Return one number for each voxel by integrated gradients; they add up to L(p) - L(y).

    The gradient is integrated along the straight way from the ground truth to the prediction, by
    Gauss-Legendre quadrature. What that leaves over (where the loss has an edge at an end of the way:
    an empty prediction) is divided in proportion to |p-y|, so that nothing is missing. A voxel that is
    right gets 0. Only for losses that read nothing but p, y and the order of the voxels.
    """
    import numpy as np

    from segcli.soft import SoftPair

    def at(p: Vector) -> SoftPair:
        grids = pair.grid(p), pair.grid(pair.y)
        return SoftPair(*grids, spacing=pair.spacing, valid=pair.valid, threshold=pair.threshold)

    step = pair.p - pair.y
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    slope = sum(
        w / 2 * bound.gradient(at(pair.y + (t + 1) / 2 * step), "p") for t, w in zip(nodes, weights, strict=True)
    )
    found: Vector = step * slope
    there, start = bound(pair), bound(at(pair.y))
    moved = np.abs(step)
    if there is not None and start is not None and moved.any():
        found += moved / moved.sum() * (there - start - found.sum())
    return found


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
