"""Where a loss comes from: exact voxel maps of its excess, and how they divide.

A loss files a map whose entries add up to its value. The map of the prediction less the map of the
perfect prediction adds up to the excess L(y, p) - L(y, y): that is what a better prediction could gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.measure import BoundMeasure

    Evidence = SoftPair | SoftClasses


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a loss's excess: of voxels outside the gt, inside it, and within a step of its border."""

    fp: float
    fn: float
    boundary: float


@dataclass(frozen=True, slots=True)
class Norms:
    """L1 and L2 norm of a gradient; `None` where no closed form exists or an entry is infinite."""

    l1: float | None
    l2: float | None


@dataclass(frozen=True, slots=True)
class Island:
    """A connected region that only one side has: `missed` of the gt or `false` of the prediction."""

    kind: str
    voxels: int
    share: float


def excess_map(bound: BoundMeasure, pair: Evidence) -> Vector | None:
    """Return one number for each voxel; they add up to the excess. `None` where the loss has no map."""
    return _excess(bound, pair, bound.perfect(pair))


def _excess(bound: BoundMeasure, pair: Any, best: Any) -> Vector | None:
    here = bound.voxel_map(pair)
    return None if here is None else here - bound.voxel_map(best)


# --- several losses at once -------------------------------------------------------------------


def tallies(bounds: Sequence[BoundMeasure], pair: Any, mapped: Sequence[bool]) -> Iterator[Tally]:
    """Return what the voxels give to each loss: its gradients added up, and its excess map where it is `mapped`.

    The voxels are gone through once, stretch by stretch, for all losses that can be worked out so: they share the
    logarithms, and no map is ever there as a whole. Of the others one is held at a time.
    """
    found = [Tally(bound, pair, wanted) for bound, wanted in zip(bounds, mapped, strict=True)]
    local = [tally for tally in found if not tally.whole]
    if local:
        from segcli.evidence.stretch import Stretch, stretches

        for where in stretches(pair.n):
            part = Stretch(pair, where)
            twins: dict[int, Stretch] = {}  # losses with the same best prediction share it too
            for tally in local:
                tally.add(part, twins.setdefault(id(tally.best), Stretch(tally.best, where)))
    while found:
        tally = found.pop(0)
        if tally.whole:
            tally.add(pair, tally.best)
        yield tally


class Tally:
    """Sums over the voxels of a loss's excess map and gradients, of `SoftPair` or `SoftClasses`."""

    def __init__(self, bound: BoundMeasure, pair: Any, mapped: bool) -> None:
        self.bound = bound
        self.pair = pair
        self.mapped = mapped and bound.measure.voxel_map is not None
        self.best = bound.perfect(pair)
        self.whole = not bound.measure.local
        self._map: Vector | None = None
        self._total = self._size = self._outside = self._near = 0.0
        self._norms: dict[Literal["p", "z"], tuple[float, float]] = {"p": (0.0, 0.0), "z": (0.0, 0.0)}

    def add(self, part: Any, best: Any) -> None:
        """Add the voxels of the pair, or a stretch of them."""
        excess = _excess(self.bound, part, best) if self.mapped else None
        if excess is not None:
            self._total += float(excess.sum())
            self._size += float(abs(excess).sum())
            self._outside += _over(~part.inside_gt, excess)
            self._near += _over(part.near_boundary, excess)
            self._map = excess if self.whole else None
        for wrt, (l1, squares) in self._norms.items():
            gradient = self.bound.gradient(part, wrt)
            if gradient is not None:
                self._norms[wrt] = l1 + float(abs(gradient).sum()), squares + float((gradient * gradient).sum())

    def norms(self, wrt: Literal["p", "z"]) -> Norms | None:
        """Return the norms of the gradient; `None` where there is no closed form."""
        if self.bound.measure.gradient is None:
            return None
        l1, l2 = self._norms[wrt][0], math.sqrt(self._norms[wrt][1])
        return Norms(l1 if math.isfinite(l1) else None, l2 if math.isfinite(l2) else None)

    def shares(self) -> Shares | None:
        """Return how the excess map divides; `None` where there is nothing to divide."""
        total = self._total
        if self._size == 0 or abs(total) < 1e-12 * self._size:
            return None
        return Shares(self._outside / total, 1 - self._outside / total, self._near / total)

    def worst_island(self) -> Island | None:
        """Return the island with the largest share of the excess; `None` where there is none."""
        import numpy as np

        if not self._total:
            return None
        found = []
        for kind, voxels, numbers, sizes in self.pair.islands:
            if len(sizes):
                share = np.bincount(numbers, weights=self._at(voxels), minlength=len(sizes)) / self._total
                worst = int(share.argmax())
                found.append(Island(kind, int(sizes[worst]), float(share[worst])))
        return max(found, key=lambda island: island.share, default=None)

    def _at(self, voxels: NDArray[np.intp]) -> Vector | None:
        """Return the excess map of some voxels."""
        if self.whole:
            return None if self._map is None else self._map[voxels]
        from segcli.evidence.stretch import Stretch

        return _excess(self.bound, Stretch(self.pair, voxels), Stretch(self.best, voxels))


def _over(where: NDArray[np.bool_], values: Vector) -> float:
    return float((values * where).sum()) if where.any() else 0.0
