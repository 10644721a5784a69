"""One number over several labels: which labels a mean row counts, and with what weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError
from segcli.masks.labels import BACKGROUND, Label
from segcli.measure import Kind

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair
    from segcli.evidence.pooled import PooledPair
    from segcli.evidence.soft import SoftPair
    from segcli.measure import BoundMeasure

AVERAGES = ("macro", "micro", "weighted", "present")
MEAN = "mean"
MEAN_WITHOUT_BACKGROUND = "mean without background"
#: The label of measures over all classes at once.
ALL = "all"

IN_WORDS = {
    "macro": "every label counts the same",
    "micro": "the voxels of all labels pooled before the formula is applied",
    "weighted": "labels weighted by their voxels in the ground truth",
    "present": "labels that the ground truth has, each counting the same",
}


@dataclass(frozen=True, slots=True)
class Mean:
    """One measure over several labels; `n` of `of` labels had a value.

    Metrics go over plain labels, losses over all channels: with the background in it as `mean`,
    and without it as `mean without background`, where there is one.
    """

    kind: Kind
    measure: str
    value: float | None
    unit: str
    n: int
    of: int
    label: str = MEAN


def check_average(average: str) -> str:
    if average not in AVERAGES:
        raise UsageError(f"--average {average} is not one of {', '.join(AVERAGES)}.", code="average")
    return average


def weights(average: str, sizes: Sequence[float]) -> list[float]:
    """Return the weight of each label, given its voxels in the ground truth; 0 leaves a label out."""
    if average == "weighted":
        return [float(size) for size in sizes]
    return [float(average != "present" or size > 0) for size in sizes]


def weighted_mean(
    kind: Kind,
    measure: str,
    values: Sequence[float | None],
    weight: Sequence[float],
    *,
    unit: str = "",
    label: str = MEAN,
) -> Mean:
    """Return the mean of the values that are defined, in proportion to their weights."""
    counted = [(v, w) for v, w in zip(values, weight, strict=True) if w > 0]
    defined = [(v, w) for v, w in counted if v is not None]
    total = sum(w for _, w in defined)
    mean = sum(v * w for v, w in defined) / total if total else None
    return Mean(kind, measure, mean, unit, len(defined), len(counted), label)


def pooled_mean(bound: BoundMeasure, pooled: Any, of: int, *, unit: str = "", label: str = MEAN) -> Mean:
    """Return a measure of pooled labels (`micro`); without a value where it has no pooled form."""
    from segcli.evidence.parts import NoGridError

    try:
        value = bound(pooled)
    except NoGridError:
        value = None
    return Mean(bound.measure.kind, bound.name, value, unit, 0 if value is None else of, of, label)


def pooled_labels(pairs: Sequence[Pair]) -> Any:
    """Return the counts of several labels summed, as one label."""
    from segcli.evidence.pooled import PooledCounts

    return PooledCounts([pair.counts for pair in pairs], pairs[0].voxel_volume, pairs)


def pooled_channels(pairs: Sequence[SoftPair]) -> PooledPair:
    """Return the voxels of several channels, as one channel."""
    from segcli.evidence.pooled import PooledPair

    return PooledPair(pairs)


def channel_means(channels: Sequence[Label], *, background: bool) -> list[tuple[str, list[int]]]:
    """Return the mean rows of losses over these channels: the name of each and the channels that it counts.

    With the background among several channels, a second row leaves it out.
    """
    everything = list(range(len(channels)))
    inner = [i for i in everything if channels[i].values != BACKGROUND.values]
    if not inner or len(inner) == len(channels):
        return [(MEAN, everything)]
    return [(MEAN, everything), (MEAN_WITHOUT_BACKGROUND, inner)] if background else [(MEAN, inner)]
