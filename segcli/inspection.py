"""Why a loss has its value: the voxel map of one loss, divided by kind, label, component, band and slice.

Every division is a partition of the voxels that count, so its parts add up to the loss. What a map does
not explain is stated as the residual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.averaging import ALL, check_average, weights
from segcli.disagreement import Disagreement, disagreement
from segcli.divisions import WAYS, divide
from segcli.errors import UsageError, keywords_checked
from segcli.loading import Loaded, load
from segcli.masks.asked import reading_keywords, reading_of
from segcli.measure import BoundMeasure
from segcli.notation import bind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.masks.labels import Label

    Evidence = SoftPair | SoftClasses


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of the voxels contributes: `value` of the loss and `excess` of it, on so many voxels.

    A `rest` is not an object: all that lies outside the components.
    """

    by: str
    label: str
    name: str
    value: float
    excess: float
    voxels: int
    note: str = ""
    rest: bool = False


@dataclass(frozen=True)
class Inspection:
    """A loss taken apart. `map` has one number for each voxel; with `residual` they add up to `value`.

    `excess_map` is `map` less that of the best prediction: it adds up to the excess over `optimum`, which is
    what a better prediction could gain. `gradient` is dL/dp on the grid, (C, *shape) for several channels,
    `None` where the loss has none.
    """

    loss: str
    value: float
    optimum: float
    residual: float
    parts: list[Part]
    map: NDArray[np.float64]
    excess_map: NDArray[np.float64]
    gradient: NDArray[np.float64] | None
    loaded: Loaded = field(repr=False)
    bound: BoundMeasure = field(repr=False)
    channels: Sequence[Label] = field(repr=False)
    average: str = "macro"

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.map.shape)
        return f"<Inspection of {self.loss}: {self.value:.4g}, {len(self.parts)} parts; map {shape}>"

    @property
    def excess(self) -> float:
        return self.value - self.optimum

    @cached_property
    def _divisible(self) -> float | None:
        """Return what shares are of: the sum of the excess map, `None` where it is nothing but rounding."""
        total = float(self.excess_map.sum())
        scale = max(float(abs(self.excess_map).sum()), 1e-3 * float(abs(self.map).sum()))
        return total if abs(total) > 1e-12 * scale else None

    def share(self, part: Part) -> float | None:
        """Return a part's share of the excess; `None` where there is none."""
        return None if self._divisible is None else part.excess / self._divisible

    @cached_property
    def disagreement(self) -> Disagreement | None:
        """Return the component, or else the band, that this loss weighs most unlike other losses.

        `None` too where losses cannot be held against each other: over all classes, by another mean than macro.
        """
        if self.bound.over_classes or self.average != "macro":
            return None
        ways = [way for way in ("component", "band") if any(p.by == way for p in self.parts)]
        return disagreement(self.bound, self.loaded, self.channels, ways) if self._divisible is not None else None


@keywords_checked(reading_keywords)
def inspect(
    pred: Any,
    gt: Any,
    loss: str,
    *,
    by: str | Iterable[str] | None = None,
    background: bool = True,
    average: str = "macro",
    strict: bool = False,
    **reading: Any,
) -> Inspection:
    """Take a loss of a pair apart; the keywords are those of `segcli.score`.

    `by` names divisions (`WAYS`); without it all that make sense are given. The value of several channels is
    their mean as `average` says, and so are its parts. Raises `UsageError` for a loss that has no voxel map.
    """
    bound = bind(loss, "loss")
    if bound.measure.voxel_map is None:
        raise UsageError(
            f"{bound.measure.name} has no voxel map: it cannot be taken apart.",
            hint="segcli catalog shows the attribution of each loss",
            code="inspect.map",
        )
    ways = [w.strip() for w in by.split(",") if w.strip()] if isinstance(by, str) else list(by or ())
    unknown = [w for w in ways if w not in WAYS]
    if unknown:
        raise UsageError(f"--by {unknown[0]} is not one of {', '.join(WAYS)}.", code="inspect.by")
    how = reading_of(**reading)
    if how.stack:
        raise UsageError("inspect takes one image at a time, no --stack or --stack-axis.", code="inspect.stack")
    loaded = load(pred, gt, how, strict=strict)[0]
    channels = [c for c in loaded.channels if background or c.values != (0,) or len(loaded.channels) == 1]
    if not ways:  # the rows of an image are no slices that anybody looks at
        ways = [w for w in WAYS if w != "slice" or loaded.grid.gt.ndim == 3]
    return _inspect(bound, loaded, channels, ways, check_average(average))


def _inspect(
    bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], ways: Sequence[str], average: str
) -> Inspection:
    total, gain = np.zeros(loaded.grid.gt.shape), np.zeros(loaded.grid.gt.shape)
    gradients: list[NDArray[np.float64]] = []
    parts: list[Part] = []
    value, optimum = 0.0, 0.0
    for one in _pieces(bound, loaded, channels, average):
        value += one.value
        optimum += one.optimum
        total += one.evidence.grid(one.map)
        gain += one.evidence.grid(one.excess)
        if one.gradient is not None:
            gradients.append(one.evidence.grid(one.gradient))
        for way in ways:
            for division in divide(way, one.label, one.evidence, one.predicted):
                columns = division.names, division.sums(one.map), division.sums(one.excess)
                parts += [
                    Part(way, one.label, name, v, e, n, note, rest=name == division.rest)
                    for name, v, e, n, note in zip(*columns, division.voxels, division.notes, strict=True)
                ]
    gradient = None
    if len(gradients) == (1 if bound.over_classes else len(channels)):
        gradient = gradients[0] if len(gradients) == 1 else np.stack(gradients)
    return Inspection(
        loss=bound.name,
        value=value,
        optimum=optimum,
        residual=value - float(total.sum()),
        parts=parts,
        map=total,
        excess_map=gain,
        gradient=gradient,
        loaded=loaded,
        bound=bound,
        channels=channels,
        average=average,
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one channel adds to a loss, or all classes at once: numbers and maps with its weight in them."""

    label: str
    value: float
    optimum: float
    evidence: Evidence
    predicted: NDArray[np.bool_]
    map: Vector
    excess: Vector
    gradient: NDArray[np.float64] | None


def _pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], average: str) -> Iterator[_Piece]:
    if bound.over_classes:
        classes = loaded.classes()
        yield _piece(bound, ALL, 1.0, classes, classes.predicted)
        return
    if average == "micro" and len(channels) > 1:
        yield from _pooled_pieces(bound, loaded, channels)
        return
    weight = weights(average, loaded.sizes(channels))
    if not any(weight):
        raise UsageError(
            f"--average {average}: the ground truth has none of the channels.",
            hint="--average macro counts each the same",
            code="inspect.undefined",
        )
    for label, share in zip(channels, weight, strict=True):
        pair = loaded.soft(label)
        predicted = pair.vector(loaded.predicted(label)) > 0
        yield _piece(bound, label.name, share / sum(weight), pair, predicted)


def _piece(bound: BoundMeasure, label: str, weight: float, evidence: Evidence, predicted: NDArray[np.bool_]) -> _Piece:
    value = bound(evidence)
    if value is None:
        raise UsageError(f"{bound.name} is undefined for {label}.", code="inspect.undefined")
    best = bound.perfect(evidence)
    own, gradient = weight * bound.voxel_map(evidence), bound.gradient(evidence, "p")
    excess = own - weight * bound.voxel_map(best)
    slope = None if gradient is None else weight * gradient
    return _Piece(label, weight * value, weight * (bound(best) or 0.0), evidence, predicted, own, excess, slope)


def _pooled_pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label]) -> Iterator[_Piece]:
    """Return each channel's part of the loss of all channels pooled: the maps of all add up to it."""
    from segcli.evidence.parts import NoGridError
    from segcli.evidence.pooled import PooledPair

    pooled = PooledPair([loaded.soft(label) for label in channels])
    try:
        whole = _piece(bound, "pooled", 1.0, pooled, np.zeros(0, dtype=bool))
    except NoGridError:
        raise UsageError(
            f"{bound.name} has no micro average: it reads neighbours.",
            hint="--average macro takes the mean over the channels",
            code="inspect.average",
        ) from None
    maps, gains = pooled.split(whole.map), pooled.split(whole.excess)
    slopes = [None] * len(channels) if whole.gradient is None else pooled.split(whole.gradient)
    for number, (label, pair) in enumerate(zip(channels, pooled.parts, strict=True)):
        value, best = (whole.value, whole.optimum) if number == 0 else (0.0, 0.0)  # they are of no single channel
        predicted = pair.vector(loaded.predicted(label)) > 0
        yield _Piece(label.name, value, best, pair, predicted, maps[number], gains[number], slopes[number])
