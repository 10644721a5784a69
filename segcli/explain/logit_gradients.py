"""What training feels: gradients by the logits of several channels, which the voxel's softmax ties together.

A loss of one label against the rest reads its probability P alone. The logit z_k of a channel moves that by p_k (1-P)
where the channel is of the label and by -p_k P where it is not: dL/dz_k is dL/dP times that. Of a single map nothing is
tied: its logit moves P by P (1-P), which `Derivatives` by z has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.pooled import PooledPair
from segcli.evidence.soft import Stretch
from segcli.evidence.stretch import stretches
from segcli.explain.attribution import Norms, Sums

if TYPE_CHECKING:
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.masks.labels import Label
    from segcli.measure.record import BoundMeasure
    from segcli.scoring.loading import Loaded

Matrix = NDArray[np.float64]
#: The weight of each label in a sum of their losses.
Weights = Sequence[float]


class SharedLogits:
    """Labels of a prediction with several channels: a pair for each, and the channels that it is made of.

    `p` (C, n) are the probabilities of all channels at the voxels that count, `members` (J, C) is true where a
    channel is of a label. Of a stack the voxels are those of all its images.
    """

    def __init__(self, pairs: Sequence[SoftPair], members: NDArray[np.bool_], p: NDArray[Any]) -> None:
        self.pairs = list(pairs)
        self.members = members
        self.p = p

    @classmethod
    def of(cls, loaded: Loaded, labels: Sequence[Label], pairs: Sequence[SoftPair]) -> SharedLogits:
        """Return the logits that these labels share, given their pairs."""
        p = loaded.channel_rows()
        members = np.zeros((len(labels), len(p)), dtype=bool)
        for row, label in zip(members, labels, strict=True):
            row[loaded.channels_of(label)] = True
        return cls(pairs, members, p)

    def norms(self, bounds: Sequence[BoundMeasure], sums: Sequence[Weights]) -> dict[str, list[Norms | None]]:
        """Return by the name of each loss the norms of the gradients of such sums, over the logits of all channels.

        What reads neighbours and is asked of a stack is the mean over the images, each of which has its own logits.
        """
        totals = {bound.name: [Sums() for _ in sums] for bound in bounds if bound.measure.gradient is not None}
        apart: dict[str, list[Norms | None]] = {}
        stacked = any(isinstance(pair, PooledPair) for pair in self.pairs)
        for together in (True, False):
            chosen = [b for b in bounds if b.name in totals and b.measure.local == together]
            for where in (stretches(self.p.shape[1]) if together else (slice(None),)) if chosen else ():
                parts = [Stretch(pair, where) for pair in self.pairs] if together else self.pairs
                tied = _Tied(np.asarray(self.p[:, where], dtype=np.float64), self.members)
                for bound in chosen:
                    if bound.name in apart:
                        continue
                    if stacked and bound.measure.needs == "grid":
                        apart[bound.name] = self._over_images(bound, sums)
                        continue
                    slopes = [_scaled(bound, part) for part in parts]
                    for total, weights in zip(totals[bound.name], sums, strict=True):
                        tied.add(total, slopes, weights)
        return {b.name: apart.get(b.name) or [t.norms() for t in totals.get(b.name, ())] for b in bounds}

    def pooled(self, bound: BoundMeasure, pooled: PooledPair, chosen: Sequence[int]) -> Norms | None:
        """Return the norms of the gradient of a loss of the `chosen` labels pooled (`--average micro`)."""
        if bound.measure.gradient is None or bound.measure.needs == "grid":
            return None
        slope = _scaled(bound, pooled)
        total = Sums()
        tied = _Tied(np.asarray(self.p, dtype=np.float64), self.members[list(chosen)])
        total.add(tied.gradient(pooled.split(slope), [1.0] * len(chosen)))
        return total.norms()

    def _over_images(self, bound: BoundMeasure, sums: Sequence[Weights]) -> list[Norms | None]:
        parts = [pair.parts for pair in self.pairs if isinstance(pair, PooledPair)]
        ends = np.cumsum([part.n for part in parts[0]])[:-1]
        images = zip(zip(*parts, strict=True), np.split(self.p, ends, axis=1), strict=True)
        each = [SharedLogits(pairs, self.members, p).norms([bound], sums)[bound.name] for pairs, p in images]
        return [Norms.mean([(norms, 1 / len(each)) for norms in column]) for column in zip(*each, strict=True)]


def _scaled(bound: BoundMeasure, pair: SoftPair) -> Vector:
    """Return dL/dP times P: the derivative by the log-odds, finite where dL/dP is not, without its factor 1-P."""
    slope, q = bound.gradient(pair, "z"), pair.q
    found: Vector = np.divide(slope, q, out=np.zeros_like(q), where=q > 0)
    certain = q == 0  # P is 1 to the last digit: the others are small, but there
    if certain.any():
        by_p = bound.gradient(pair, "p")[certain]
        found[certain] = np.where(np.isfinite(by_p), by_p, 0.0)
    return found


class _Tied:
    """Some voxels: how the probability of each label moves with the logits of all channels (C, n)."""

    def __init__(self, p: Matrix, members: NDArray[np.bool_]) -> None:
        self.p = p
        self.inside = members.astype(np.float64)
        self.outside = 1 - self.inside
        own = self.inside @ p
        self.rest = self.outside @ p  # 1-P, exact also where P is nearly 1
        self.odds = np.divide(self.rest, own, out=np.zeros_like(own), where=own > 0)

    def add(self, total: Sums, slopes: Sequence[Vector], weights: Weights) -> None:
        """Add the gradient of a weighted sum of losses, given dL/dP times P of each."""
        counted = [j for j, weight in enumerate(weights) if weight]
        if len(counted) == 1:  # its entries are all one derivative times the shares of the channels
            (j,) = counted
            steep = abs(weights[j] * slopes[j])
            total.l1 += float((steep * self._sizes[j]).sum())
            total.squares += float((steep * steep * self._squares[j]).sum())
            return
        total.add(self.gradient(slopes, weights))

    def gradient(self, slopes: Sequence[Vector], weights: Weights) -> Matrix:
        """Return the derivatives by all logits (C, n) of a weighted sum of losses, given dL/dP times P of each."""
        weighed = np.stack([weight * slope for weight, slope in zip(weights, slopes, strict=True)])
        return np.asarray(self.p * (self.inside.T @ (weighed * self.odds) - self.outside.T @ weighed))

    @cached_property
    def _sizes(self) -> Matrix:
        """Return the L1 norm of what the channels move P by, divided by P (J, n): 2 (1-P)."""
        return np.asarray(self.inside @ self.p * self.odds + self.rest)

    @cached_property
    def _squares(self) -> Matrix:
        """Return the square of its L2 norm (J, n)."""
        squares = self.p * self.p
        return np.asarray(self.inside @ squares * self.odds**2 + self.outside @ squares)
