"""Why a loss has its value: the voxel map of one loss, divided by kind, label, component, band and slice.

Every division is a partition of the voxels that count, so its parts add up to the loss. What a map does
not explain is stated as the residual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.errors import UsageError, keywords_checked
from segcli.explain.blindness import is_blind
from segcli.explain.disagreement import Disagreement, disagreement
from segcli.explain.divisions import WAYS, divide
from segcli.masks.asked import reading_keywords, reading_of
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.scoring.loading import Loaded, load
from segcli.scoring.means import ALL, check_average, weights

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

    `excess_map` is `map` less that of the prediction that the loss asks for (`asked`: the gt, of smoothed labels the
    smoothed gt): it adds up to the excess over `optimum`, the value there. `is_least` says whether it is proven that
    no prediction has less. `blind` are the labels of whose gt the loss has one value, whatever is predicted, `wrong`
    is how many voxels are on the wrong side of the threshold, over all labels, and `apart` how far any probability is
    from the gt.

    `gradient` is dL/dp, of logits too (p is their softmax or sigmoid): (*shape) for one map, (C, *shape) for the
    channels of the prediction, 0 in those that do not count; of a hard map with several labels a channel for each, as
    in `loaded.channels`. `None` where the loss has none. The prediction has its channels on `channel_axis`.
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
    asked: str = "pred = gt"
    is_least: bool = False
    blind: tuple[str, ...] = ()
    wrong: int = 0
    apart: float = 0.0
    channel_axis: int = 0

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.map.shape)
        return f"<Inspection of {self.loss}: {self.value:.4g}, {len(self.parts)} parts; map {shape}>"

    @property
    def excess(self) -> float:
        return self.value - self.optimum

    @property
    def is_blind(self) -> bool:
        """Return whether the loss has one value for this gt, of all labels that count."""
        return len(self.blind) == (1 if self.bound.over_classes else len(self.channels))

    @cached_property
    def divisible(self) -> float | None:
        """Return what shares are of: the sum of the excess map, `None` where it is nothing but rounding."""
        total = float(self.excess_map.sum())
        scale = max(float(abs(self.excess_map).sum()), 1e-3 * float(abs(self.map).sum()))
        return total if abs(total) > 1e-12 * scale else None

    def share(self, part: Part) -> float | None:
        """Return a part's share of the excess; `None` where there is none."""
        return None if self.divisible is None else part.excess / self.divisible

    @cached_property
    def disagreement(self) -> Disagreement | None:
        """Return the component, or else the band, that this loss weighs most unlike other losses.

        `None` too where losses cannot be held against each other: over all classes, by another mean than macro.
        """
        if self.bound.over_classes or self.average != "macro":
            return None
        ways = [way for way in ("component", "band") if any(p.by == way for p in self.parts)]
        return disagreement(self.bound, self.loaded, self.channels, ways) if self.divisible is not None else None


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
    found = _inspect(bound, loaded, channels, ways, check_average(average))
    return replace(found, channel_axis=loaded.grid.channel_axis)


def _inspect(
    bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], ways: Sequence[str], average: str
) -> Inspection:
    total, gain = np.zeros(loaded.grid.gt.shape), np.zeros(loaded.grid.gt.shape)
    gradient = _Gradient(loaded)
    parts: list[Part] = []
    value, optimum, wrong, apart, least = 0.0, 0.0, 0, 0.0, True
    blind: list[str] = []
    for one in _pieces(bound, loaded, channels, average):
        value += one.value
        optimum += one.optimum
        total += one.evidence.grid(one.map)
        gain += one.evidence.grid(one.excess)
        gradient.add(one)
        wrong += int(np.count_nonzero(one.predicted != one.evidence.inside_gt))
        apart = max(apart, float(abs(one.evidence.p - one.evidence.y).max(initial=0.0)))
        least = least and one.is_least
        blind += [one.label] if one.is_blind else []
        for way in ways:
            for division in divide(way, one.label, one.evidence, one.predicted):
                columns = division.names, division.sums(one.map), division.sums(one.excess)
                parts += [
                    Part(way, one.label, name, v, e, n, note, rest=name == division.rest)
                    for name, v, e, n, note in zip(*columns, division.voxels, division.notes, strict=True)
                ]
    return Inspection(
        loss=bound.name,
        value=value,
        optimum=optimum,
        residual=value - float(total.sum()),
        parts=parts,
        map=total,
        excess_map=gain,
        gradient=gradient.whole,
        loaded=loaded,
        bound=bound,
        channels=channels,
        average=average,
        asked="pred = smoothed gt" if bound.params.get("label_smoothing") else "pred = gt",
        is_least=least,
        blind=tuple(blind),
        wrong=wrong,
        apart=apart,
    )


class _Gradient:
    """The derivative of a loss by the prediction as it was given, put together from the labels."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.whole: NDArray[np.float64] | None = None

    def add(self, one: _Piece) -> None:
        """Add that of a piece of the loss, if it has one."""
        if one.gradient is None:
            return
        loaded, values = self.loaded, one.evidence.grid(one.gradient)
        labels = loaded.channels
        if self.whole is None:
            count = loaded.grid.channels or len(labels)
            self.whole = np.zeros((*[count] * (count > 1), *loaded.grid.gt.shape))
        if self.whole.shape == values.shape:
            self.whole += values
        elif one.of is None:  # all classes: of a value that no channel predicts there is nothing to move
            for label, row in zip(labels, values, strict=True):
                self.whole[loaded.channels_of(label)] += row
        else:
            self.whole[loaded.channels_of(one.of) if loaded.grid.channels > 1 else labels.index(one.of)] += values


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one label adds to a loss, or all classes at once (`of` none): numbers and maps with its weight in them."""

    of: Label | None
    value: float
    optimum: float
    evidence: Evidence
    predicted: NDArray[np.bool_]
    map: Vector
    excess: Vector
    gradient: NDArray[np.float64] | None
    is_least: bool = False
    is_blind: bool = False

    @property
    def label(self) -> str:
        return ALL if self.of is None else self.of.name


def _pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], average: str) -> Iterator[_Piece]:
    if bound.over_classes:
        classes = loaded.classes()
        yield _piece(bound, None, 1.0, classes, classes.predicted)
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
        yield _piece(bound, label, share / sum(weight), pair, predicted)


def _piece(
    bound: BoundMeasure, of: Label | None, weight: float, evidence: Evidence, predicted: NDArray[np.bool_]
) -> _Piece:
    value = bound(evidence)
    if value is None:
        raise UsageError(f"{bound.name} is undefined for {ALL if of is None else of.name}.", code="inspect.undefined")
    best = bound.perfect(evidence)
    optimum = bound(best) or 0.0
    own, slope = weight * bound.voxel_map(evidence), bound.gradient(evidence, "p")
    excess = own - weight * bound.voxel_map(best)
    if slope is not None:
        slope = evidence.by_given(slope, "p") * weight if weight else np.zeros_like(evidence.by_given(slope, "p"))
    blind = value == optimum and not (excess.any() or (slope is not None and slope.any())) and is_blind(bound, evidence)
    least = bound.is_least(optimum, hard_gt=evidence.gt_hard)
    return _Piece(of, weight * value, weight * optimum, evidence, predicted, own, excess, slope, least, blind)


def _pooled_pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label]) -> Iterator[_Piece]:
    """Return each channel's part of the loss of all channels pooled: the maps of all add up to it."""
    from segcli.evidence.pooled import PooledPair

    if bound.measure.needs == "grid":
        raise UsageError(
            f"{bound.name} has no micro average: it reads neighbours.",
            hint="--average macro takes the mean over the channels",
            code="inspect.average",
        )
    pooled = PooledPair([loaded.soft(label) for label in channels])
    whole = _piece(bound, channels[0], 1.0, pooled, np.zeros(0, dtype=bool))
    maps, gains = pooled.split(whole.map), pooled.split(whole.excess)
    slopes = [None] * len(channels) if whole.gradient is None else pooled.split(whole.gradient)
    for number, (label, pair) in enumerate(zip(channels, pooled.parts, strict=True)):
        value, best = (whole.value, whole.optimum) if number == 0 else (0.0, 0.0)  # they are of no single channel
        yield replace(
            whole,
            of=label,
            value=value,
            optimum=best,
            evidence=pair,
            predicted=pair.vector(loaded.predicted(label)) > 0,
            map=maps[number],
            excess=gains[number],
            gradient=slopes[number],
        )
