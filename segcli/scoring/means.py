"""One number over several labels: which labels a mean row counts, and with what weight."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError
from segcli.masks.labels import BACKGROUND, Label
from segcli.measure.record import Kind

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair
    from segcli.evidence.pooled import PooledPair
    from segcli.evidence.soft import SoftPair
    from segcli.measure.record import BoundMeasure

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


#: As many labels as a sentence names.
MOST = 12


@dataclass(frozen=True, slots=True)
class MeanOf:
    """What the mean row of metrics is of: the names of labels and regions, `asked` for or found.

    With `by_label` it is nnU-Net's foreground_mean: each label's mean over cases, then the mean of those. Else it is
    each case's mean over its labels, then over cases.
    """

    names: tuple[str, ...]
    by_label: bool = False
    asked: bool = False

    @property
    def shown(self) -> bool:
        """Return whether it says something: a mean of one label is that label's row."""
        return len(self.names) > 1 or (self.asked and bool(self.names))

    def places(self, labels: Sequence[Label]) -> list[int]:
        """Return where in `labels` those stand that it is of."""
        names = set(self.names)  # of many labels a search through all for each would take most of the time
        return [i for i, label in enumerate(labels) if label.name in names]

    def __str__(self) -> str:
        more = f" and {len(self.names) - MOST} more" if len(self.names) > MOST else ""
        text = f"mean of {', '.join(self.names[:MOST])}{more}"
        return f"{text}: of each one's mean over cases, nnU-Net's foreground_mean" if self.by_label else text


def mean_of(
    spec: Mapping[str, Any], labels: Mapping[str, Any], regions: Collection[str], *, lenient: bool = False
) -> MeanOf:
    """Return what the mean row is of, given a run's `spec`, its labels with their values, and which are regions.

    Plain labels count, where there are none the regions; under nnU-Net's convention and in its own files all of them
    but the background. `mean_of` of the spec names others: raises `UsageError` for one that is not there, unless
    `lenient` (in one case of many it may be absent).
    """
    nnunet = spec.get("convention") == "nnunet" or spec.get("source") == "nnU-Net"
    by_label = nnunet and spec.get("average", "macro") == "macro"  # another average is of the labels of each case
    asked = spec.get("mean_of")
    if asked is None:
        plain = [name for name in labels if name not in regions]
        rows = [name for name in labels if labels[name] != list(BACKGROUND.values or ())] if nnunet else plain or labels
        return MeanOf(tuple(rows), by_label)
    by_value = {"+".join(map(str, v)): name for name, v in labels.items() if isinstance(v, (list, tuple))}
    found = [word if word in labels else by_value.get(word) for word in asked]
    unknown = next((word for word, name in zip(asked, found, strict=True) if name is None), None)
    if unknown is not None and not lenient:
        raise UsageError(
            f"--mean-of {unknown}: no such label or region; there are {', '.join(labels) or 'none'}.",
            hint="--labels names labels (liver=1) and regions (whole=1+2)",
            code="average.mean_of",
        )
    return MeanOf(tuple(dict.fromkeys(name for name in found if name is not None)), by_label, asked=True)


def check_mean_of(asked: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the words of `--mean-of`; `None` where it is not given. Raises `UsageError` for a list of nothing."""
    if asked is None:
        return None
    words = tuple(dict.fromkeys(word.strip() for word in (asked.split(",") if isinstance(asked, str) else asked)))
    if not words or "" in words:
        raise UsageError("--mean-of names no label.", hint="--mean-of liver,tumour", code="average.mean_of")
    return words


@dataclass(frozen=True, slots=True)
class Mean:
    """One measure over several labels; `n` of `of` labels had a value.

    Metrics go over the labels of `MeanOf`, losses over all channels: with the background in it as `mean`,
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
    from segcli.evidence.parts import NoGridError, NoPartsError

    try:
        value = bound(pooled)
    except (NoGridError, NoPartsError):
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
