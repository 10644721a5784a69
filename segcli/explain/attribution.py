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
    from segcli.measure.record import BoundMeasure

    Evidence = SoftPair | SoftClasses


#: What a gradient is by: the probabilities or the logits.
Wrt = Literal["p", "z"]


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

    @staticmethod
    def mean(norms: Sequence[tuple[Norms | None, float]]) -> Norms | None:
        """Return the norms of a weighted sum of functions of different variables; `None` where one has none."""
        known = [(n, w) for n, w in norms if n is not None]
        if not known or len(known) < len(norms):
            return None
        l1 = [w * n.l1 for n, w in known if n.l1 is not None]
        l2 = [w * n.l2 for n, w in known if n.l2 is not None]
        return Norms(
            sum(l1) if len(l1) == len(norms) else None,
            math.sqrt(sum(v * v for v in l2)) if len(l2) == len(norms) else None,
        )


@dataclass(slots=True)
class Sums:
    """The sums over a gradient's entries that its norms are made of."""

    l1: float = 0.0
    squares: float = 0.0

    def add(self, gradient: NDArray[np.float64]) -> None:
        self.l1 += float(abs(gradient).sum())
        self.squares += float((gradient * gradient).sum())

    def norms(self) -> Norms:
        l1, l2 = self.l1, math.sqrt(self.squares)
        return Norms(l1 if math.isfinite(l1) else None, l2 if math.isfinite(l2) else None)


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


def tallies(
    bounds: Sequence[BoundMeasure], pair: Any, mapped: Sequence[bool], by: tuple[Wrt, ...] = ("p", "z")
) -> Iterator[Tally]:
    """Return what the voxels give to each loss: its gradients added up, and its excess map where it is `mapped`.

    The voxels are gone through once, stretch by stretch, for all losses that can be worked out so: they share the
    logarithms, and no map is ever there as a whole. Of the others one is held at a time.
    """
    found = [Tally(bound, pair, wanted, by) for bound, wanted in zip(bounds, mapped, strict=True)]
    local = [tally for tally in found if not tally.whole]
    if local:
        from segcli.evidence.soft import Stretch
        from segcli.evidence.stretch import stretches

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

    def __init__(self, bound: BoundMeasure, pair: Any, mapped: bool, by: tuple[Wrt, ...] = ("p", "z")) -> None:
        self.bound = bound
        self.pair = pair
        self.mapped = mapped and bound.measure.voxel_map is not None
        self.best = bound.perfect(pair)
        self.whole = not bound.measure.local
        self._map: Vector | None = None
        self._total = self._size = self._outside = self._near = 0.0
        self._sums: dict[Wrt, Sums] = {wrt: Sums() for wrt in by}

    def add(self, part: Any, best: Any) -> None:
        """Add the voxels of the pair, or a stretch of them."""
        excess = _excess(self.bound, part, best) if self.mapped else None
        if excess is not None:
            self._total += float(excess.sum())
            self._size += float(abs(excess).sum())
            self._outside += _over(~part.inside_gt, excess)
            self._near += _over(part.near_boundary, excess)
            self._map = excess if self.whole else None
        for wrt, sums in self._sums.items():
            gradient = self.bound.gradient(part, wrt)
            if gradient is not None:
                sums.add(part.by_given(gradient, wrt))

    def norms(self, wrt: Wrt) -> Norms | None:
        """Return the norms of the gradient; `None` where there is no closed form, or it was not asked for."""
        return None if self.bound.measure.gradient is None or wrt not in self._sums else self._sums[wrt].norms()

    def shares(self) -> Shares | None:
        """Return how the excess map divides; `None` where there is nothing to divide."""
        total = self._total
        if self._size == 0 or abs(total) < 1e-12 * self._size:
            return None
        return Shares(self._outside / total, 1 - self._outside / total, self._near / total)

    def _wrong(self) -> NDArray[np.bool_]:
        """Return which voxels are on the wrong side of the threshold, or of another class."""
        pair = self.pair
        wrong: NDArray[np.bool_] = pair.predicted != pair.inside_gt if pair.p.ndim == 1 else pair.decided != pair.target
        return wrong

    def wrong_voxels(self) -> int:
        return int(self._wrong().sum())

    def all_wrong_beyond_clip(self) -> bool:
        """Return whether the loss clips probabilities, and those of all voxels that are wrong."""
        clip, wrong = self.bound.params.get("clip"), self._wrong()
        if clip is None or self.pair.z is not None or not wrong.any():
            return False
        p = self.pair.p[..., wrong]
        return bool(((p < clip) | (p > 1 - clip)).all())

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
        from segcli.evidence.soft import Stretch

        return _excess(self.bound, Stretch(self.pair, voxels), Stretch(self.best, voxels))


def _over(where: NDArray[np.bool_], values: Vector) -> float:
    return float((values * where).sum()) if where.any() else 0.0
