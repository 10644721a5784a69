"""One case from files or arrays to values: read, match, find the labels, apply the measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import UsageError
from segcli.loading import BACKGROUND, Loaded, load, reading_of
from segcli.masks.labels import Label
from segcli.masks.mask import Mask, Note
from segcli.measure import FORMULA, BoundMeasure, Kind, bind, parse

if TYPE_CHECKING:
    from segcli.masks.reading import Reading
    from segcli.pair import Counts, Pair

Status = Literal["ok", "undefined", "policy"]
MEAN_WITHOUT_BACKGROUND = "mean without background"
POLICIES = ("undefined", "perfect-if-both-empty", "worst", "zero")


@dataclass(frozen=True, slots=True)
class Value:
    """One number: `value` is `None` where `status` is "undefined", and `why` says why."""

    label: str
    kind: Kind
    measure: str
    value: float | None
    unit: str
    status: Status = "ok"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Mean:
    """The macro mean of one measure; `n` of `of` labels had a value.

    Metrics average over plain labels, losses over all channels: with the background in it as `mean`,
    and without it as `mean without background`, where there is one.
    """

    kind: Kind
    measure: str
    value: float | None
    unit: str
    n: int
    of: int
    label: str = "mean"


@dataclass(frozen=True)
class Scored:
    """One scored case. `values` holds a record for each label and measure, `means` the mean row."""

    case: str
    pred: Mask
    gt: Mask
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    labels: list[Label]
    counts: dict[str, Counts]
    values: list[Value]
    means: list[Mean]
    notes: list[Note] = field(default_factory=list)

    def value(self, measure: str, label: str | int | None = None) -> float | None:
        """Return one number: `value("dice", label=1)`, `value("hd95", "tumour")`, `value("dice", "mean")`.

        Parameters that `measure` leaves out stand at their defaults, or at what was computed where that
        is one value only; `label` may be left out where there is one label. `None` is undefined.
        Raises `UsageError` for what was not computed.
        """
        name = label_named(label, self.labels)
        rows: list[Value | Mean] = [*self.values, *self.means]
        rows = [v for v in rows if v.label == name]
        bound = bind(measure)
        exact = [v for v in rows if v.measure == bound.name and v.kind == bound.measure.kind]
        same = [v for v in rows if v.measure.split(":")[0] == bound.measure.name]
        same = [v for v in same if v.kind == bound.measure.kind] or same
        found = exact or (same if ":" not in measure else [])
        if len(found) != 1:
            have = ", ".join(dict.fromkeys(v.measure for v in rows))
            raise UsageError(f"{measure} was not computed for {name}; computed: {have}.", code="measure.missing")
        return found[0].value


def label_named(label: str | int | None, labels: Sequence[Label]) -> str:
    if label is None:
        if len(labels) == 1:
            return labels[0].name
        raise UsageError(f"name a label: {', '.join(x.name for x in labels)} or mean.", code="labels.unnamed")
    text = str(label)
    if text in ("mean", MEAN_WITHOUT_BACKGROUND, BACKGROUND.name):
        return text
    for known in labels:
        if known.name == text or (known.values is not None and text == "+".join(map(str, known.values))):
            return known.name
    if text == "1" and len(labels) == 1 and labels[0].values is None:
        return labels[0].name
    raise UsageError(
        f"no label {text}; there are {', '.join(x.name for x in labels)}.",
        hint="labels that --labels names are there even where both masks miss them",
        code="labels.unknown",
    )


# --- measures -----------------------------------------------------------------------------------


def metric_value(bound: BoundMeasure, pair: Pair, policy: str) -> tuple[float | None, Status, str]:
    """Return a metric's value with its status and the reason where it is undefined or a policy's."""
    measure, counts = bound.measure, pair.counts
    why = {(0, 0): "both_empty", (1, 0): "gt_empty", (0, 1): "pred_empty"}.get(
        (int(counts.pred > 0), int(counts.gt > 0)), ""
    )
    rule = measure.when_empty
    given = {"both_empty": rule.both, "gt_empty": rule.gt, "pred_empty": rule.pred}.get(why, FORMULA)
    value = bound(pair) if given == FORMULA else given
    if policy != "undefined" and why and given != FORMULA:
        replaced = _by_policy(bound, policy, both=why == "both_empty", diagonal=pair.case.diagonal, value=value)
        if replaced is not None:
            return replaced, ("ok" if replaced == value else "policy"), ("" if replaced == value else why)
    if value is None:  # where the formula was asked, it is not the emptiness that has no value
        no_value = "no_surface" if "surface" in measure.params else "zero_denominator"
        return None, "undefined", no_value if given == FORMULA else why
    return value, "ok", ""


def _by_policy(bound: BoundMeasure, policy: str, *, both: bool, diagonal: float, value: float | None) -> float | None:
    """Return the value that `policy` puts in an empty mask's place, `value` where it has none to put.

    Of an error whose best value lies inside its range (a relative volume error) no value stands for a
    miss: a policy that would make it 0 would call the miss perfect.
    """
    measure = bound.measure
    if both:
        return measure.range[1] if measure.better == "higher" and policy != "zero" else 0.0
    if measure.better == "zero":
        return value
    if policy == "zero":
        return 0.0
    if measure.better == "higher":
        return 0.0 if value is None else value
    if policy == "worst" and value is None and measure.better == "lower":
        return diagonal if measure.unit == "mm" else measure.range[1]
    return value


def unit_of(bound: BoundMeasure, unit: str, ndim: int) -> str:
    """Return the unit of a measure on a grid: mm or voxel, and their powers in as many dimensions."""
    given = bound.measure.unit
    if given == "mm":
        return unit
    return f"{unit}^{ndim}" if given == "mm^3" else given


def score_loaded(
    loaded: Loaded,
    metrics: Sequence[BoundMeasure],
    losses: Sequence[BoundMeasure],
    *,
    empty: str = "undefined",
    background: bool = True,
) -> Scored:
    """Return every measure of every label of a loaded pair."""
    case = loaded.case
    ndim = len(case.shape)
    values: list[Value] = []
    averaged = loaded.channels if losses else []
    by_label = {label.name: _losses_of(loaded, label, losses) for label in dict.fromkeys([*averaged, *case.labels])}
    pairs = [case.pair(i) for i in range(len(case.labels))]
    for pair in pairs:
        for bound in metrics:
            value, status, why = metric_value(bound, pair, empty)
            unit = unit_of(bound, case.unit, ndim)
            values.append(Value(pair.label.name, "metric", bound.name, value, unit, status, why))
        values += by_label.pop(pair.label.name) if losses else []
    # Channels that are no row of metrics still count in the means: their losses are shown.
    values += [value for rest in by_label.values() for value in rest]
    plain = {label.name for label in case.labels if not label.is_region}
    means = [_mean(bound, values, plain, unit_of(bound, case.unit, ndim)) for bound in metrics]
    channels = {label.name for label in averaged}
    inner = {label.name for label in averaged if label.values != BACKGROUND.values}
    means += [_mean(bound, values, channels if background else inner) for bound in losses]
    if background and inner and inner != channels:
        means += [_mean(bound, values, inner, label=MEAN_WITHOUT_BACKGROUND) for bound in losses]
    return Scored(
        case=loaded.name,
        pred=loaded.pred,
        gt=loaded.gt,
        shape=case.shape,
        spacing=case.spacing,
        unit=case.unit,
        labels=case.labels,
        counts={p.label.name: p.counts for p in pairs},
        values=values,
        means=means,
        notes=loaded.notes,
    )


def _losses_of(loaded: Loaded, label: Label, losses: Sequence[BoundMeasure]) -> list[Value]:
    if not losses:
        return []
    pair = loaded.soft(label)
    found = []
    for bound in losses:
        value = bound(pair)
        why = "zero_denominator" if value is None else "gt_empty" if pair.sums.y == 0 else ""
        found.append(Value(label.name, "loss", bound.name, value, "", "undefined" if value is None else "ok", why))
    return found


def _mean(bound: BoundMeasure, values: Sequence[Value], names: set[str], unit: str = "", label: str = "mean") -> Mean:
    kind, name = bound.measure.kind, bound.name
    over = [v.value for v in values if v.label in names and (v.kind, v.measure) == (kind, name)]
    defined = [v for v in over if v is not None]
    mean = sum(defined) / len(defined) if defined else None
    return Mean(kind, name, mean, unit, len(defined), len(over), label)


# --- the library's front door ---------------------------------------------------------------------


def measures_of(kind: Kind, asked: str | Iterable[str] | None, *, surface: str | None = None) -> list[BoundMeasure]:
    """Return the measures of a list or text, with `surface` set where a measure has it and did not name it."""
    bound = parse(kind, asked or ())
    return bound if surface is None else [b.with_default("surface", surface) for b in bound]


def check_policy(empty: str) -> str:
    if empty not in POLICIES:
        raise UsageError(f"--empty {empty} is not one of {', '.join(POLICIES)}.", code="empty")
    return empty


def score(
    pred: Any,
    gt: Any,
    *,
    metrics: str | Iterable[str] | None = "default",
    losses: str | Iterable[str] | None = (),
    empty: str = "undefined",
    surface: str | None = None,
    background: bool = True,
    strict: bool = False,
    sha256: bool = False,
    **reading: Any,
) -> Any:
    """Score a prediction against a ground truth; paths, arrays or masks.

    `metrics` and `losses` are lists or comma-separated texts (`"dice,nsd:tol=1"`, presets included).
    Every other keyword is an option of the command line: `labels`, `spacing` (mm, array axis order),
    `ignore_label`, `kind`, `from_logits`, `threshold`, `prob_scale`, `channel_axis`, `normalize`,
    `stack`, `squeeze`, `colors`, `on_geometry`, `max_voxels`, `soft_gt`. Returns a `Scored` case, a
    list of them with `stack=True`. Raises `InputError` for what cannot be read or compared,
    `UsageError` for what cannot be asked.
    """
    how = reading_of(**reading)
    cases = score_cases(
        pred,
        gt,
        measures_of("metric", metrics, surface=surface),
        measures_of("loss", losses),
        how,
        empty=check_policy(empty),
        background=background,
        strict=strict,
        sha256=sha256,
    )
    return cases if how.stack else cases[0]


def score_cases(
    pred: Any,
    gt: Any,
    metrics: Sequence[BoundMeasure],
    losses: Sequence[BoundMeasure],
    how: Reading,
    *,
    empty: str = "undefined",
    background: bool = True,
    strict: bool = False,
    sha256: bool = False,
) -> list[Scored]:
    """Return the scored case of a pair, or with a stack one for each image."""
    return [
        score_loaded(loaded, metrics, losses, empty=empty, background=background)
        for loaded in load(pred, gt, how, sha256=sha256, strict=strict)
    ]
