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
    from segcli.masks.matching import Reading
    from segcli.pair import Counts, Pair

Status = Literal["ok", "undefined", "policy"]
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
    """The macro mean of one measure over labels; `n` of `of` labels had a value."""

    kind: Kind
    measure: str
    value: float | None
    unit: str
    n: int
    of: int


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
    loss_channels: int = 0

    def value(self, measure: str, label: str | int | None = None) -> float | None:
        """Return one number: `value("dice", label=1)`, `value("hd95", "tumour")`, `value("dice", "mean")`.

        Parameters that `measure` leaves out stand at their defaults, or at what was computed where that
        is one value only; `label` may be left out where there is one label. `None` is undefined. Raises `UsageError` for what was not computed.
        """
        name = _name_of(label, self.labels)
        rows: Iterable[Value | Mean] = self.means if name == "mean" else [v for v in self.values if v.label == name]
        bound = bind(measure)
        exact = [v for v in rows if v.measure == bound.name and v.kind == bound.measure.kind]
        same = [v for v in rows if v.measure.split(":")[0] == bound.measure.name]
        same = [v for v in same if v.kind == bound.measure.kind] or same
        found = exact or (same if ":" not in measure else [])
        if len(found) != 1:
            have = ", ".join(dict.fromkeys(v.measure for v in rows))
            raise UsageError(f"{measure} was not computed for {name}; computed: {have}.", code="measure.missing")
        return found[0].value


def _name_of(label: str | int | None, labels: Sequence[Label]) -> str:
    if label is None:
        if len(labels) == 1:
            return labels[0].name
        raise UsageError(f"name a label: {', '.join(x.name for x in labels)} or mean.", code="labels.unnamed")
    text = str(label)
    if text == "mean":
        return text
    for known in labels:
        if known.name == text or (known.values is not None and text == "+".join(map(str, known.values))):
            return known.name
    if text == "1" and len(labels) == 1 and labels[0].values is None:
        return labels[0].name
    raise UsageError(f"no label {text}; there are {', '.join(x.name for x in labels)}.", code="labels.unknown")


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
    if value is None:
        return None, "undefined", why or "zero_denominator"
    return value, "ok", ""


def _by_policy(bound: BoundMeasure, policy: str, *, both: bool, diagonal: float, value: float | None) -> float | None:
    """Return the value that `policy` puts in an empty mask's place (the table of cli.md, section 1)."""
    measure = bound.measure
    if policy == "zero":
        return 0.0
    if both:
        return measure.range[1] if measure.better == "higher" else 0.0
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
    labels_asked: bool = False,
) -> Scored:
    """Return every measure of every label of a loaded pair."""
    case = loaded.case
    ndim = len(case.shape)
    values: list[Value] = []
    pairs = [case.pair(i) for i in range(len(case.labels))]
    loss_values: dict[tuple[str, str], float | None] = {}
    averaged = loaded.channels(labels_asked) if losses else []
    for label in dict.fromkeys([*loaded.labels, *averaged]) if losses else ():
        soft = loaded.soft(label)
        for bound in losses:
            loss_values[label.name, bound.name] = bound(soft)
    for pair in pairs:
        for bound in metrics:
            value, status, why = metric_value(bound, pair, empty)
            values.append(
                Value(pair.label.name, "metric", bound.name, value, unit_of(bound, case.unit, ndim), status, why)
            )
        for bound in losses:
            value = loss_values[pair.label.name, bound.name]
            why = "zero_denominator" if value is None else "gt_empty" if pair.counts.gt == 0 else ""
            status = "undefined" if value is None else "ok"
            values.append(Value(pair.label.name, "loss", bound.name, value, "", status, why))
    plain = {label.name for label in case.labels if not label.is_region}
    means = [
        _mean(
            bound,
            [v.value for v in values if v.kind == "metric" and v.measure == bound.name and v.label in plain],
            unit_of(bound, case.unit, ndim),
        )
        for bound in metrics
    ]
    over = [label.name for label in averaged if background or label != BACKGROUND]
    means += [_mean(bound, [loss_values[name, bound.name] for name in over], "") for bound in losses]
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
        loss_channels=len(over),
    )


def _mean(bound: BoundMeasure, values: Sequence[float | None], unit: str) -> Mean:
    defined = [v for v in values if v is not None]
    mean = sum(defined) / len(defined) if defined else None
    return Mean(bound.measure.kind, bound.name, mean, unit, len(defined), len(values))


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
        score_loaded(loaded, metrics, losses, empty=empty, background=background, labels_asked=how.labels is not None)
        for loaded in load(pred, gt, how, sha256=sha256, strict=strict)
    ]
