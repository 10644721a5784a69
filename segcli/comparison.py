"""How several losses and metrics judge the same prediction, or several predictions of one case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segcli.attribution import Shares, shares
from segcli.errors import UsageError
from segcli.evaluate import check_policy, measures_of, metric_value, unit_of
from segcli.loading import BACKGROUND, Loaded, load, reading_of
from segcli.masks.labels import Label
from segcli.masks.mask import Note

if TYPE_CHECKING:
    from segcli.measure import BoundMeasure
    from segcli.soft import SoftPair


@dataclass(frozen=True, slots=True)
class Norms:
    """L1 and L2 norm of a gradient; `None` where no closed form exists or an entry is infinite."""

    l1: float | None
    l2: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one label of one prediction. A metric has a value only."""

    pred: str
    label: str
    kind: str
    measure: str
    value: float | None
    unit: str = ""
    optimum: float | None = None
    excess: float | None = None
    share: Shares | None = None
    by_p: Norms | None = None
    by_z: Norms | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """The predictions from best to worst by one measure; equal values share a place."""

    label: str
    kind: str
    measure: str
    order: list[list[str]]


@dataclass(frozen=True)
class Comparison:
    """All rows of a comparison, with the rankings when there are several predictions."""

    rows: list[Row]
    rankings: list[Ranking]
    loaded: list[Loaded] = field(repr=False)
    notes: list[Note] = field(default_factory=list)


def compare(
    preds: Any,
    gt: Any,
    *,
    losses: str | Iterable[str] | None = "default",
    metrics: str | Iterable[str] | None = (),
    empty: str = "undefined",
    surface: str | None = None,
    background: bool = True,
    strict: bool = False,
    **reading: Any,
) -> Comparison:
    """Judge one or several predictions (a path, an array, or a list of them) by losses and metrics.

    The keywords are those of `segcli.score`. Losses of several channels are averaged over them,
    `background=False` leaves the background out of that mean.
    """
    how = reading_of(**reading)
    chosen, chosen_metrics = measures_of("loss", losses), measures_of("metric", metrics, surface=surface)
    check_policy(empty)
    if not chosen and not chosen_metrics:
        raise UsageError("no loss and no metric is asked for.", hint="--losses dice,tversky", code="measure.none")
    several = preds if isinstance(preds, (list, tuple)) else [preds]
    names = _names(several)
    found: list[Loaded] = []
    rows: list[Row] = []
    notes: list[Note] = []
    for name, pred in zip(names, several, strict=True):
        cases = load(pred, gt, how, strict=strict)
        for case in cases:
            found.append(case)
            notes += [n for n in case.notes if n not in notes]
            title = name if len(cases) == 1 else case.name.replace(case.name.rsplit("[", 1)[0], name, 1)
            asked = how.labels is not None
            rows += _rows(title, case, chosen, chosen_metrics, empty=empty, background=background, asked=asked)
    rankings = _rankings(rows, [*chosen, *chosen_metrics]) if len({r.pred for r in rows}) > 1 else []
    return Comparison(rows, rankings, found, notes)


def _names(preds: Sequence[Any]) -> list[str]:
    names = [
        getattr(p, "name", None) or (str(p) if not hasattr(p, "shape") else f"pred {i + 1}")
        for i, p in enumerate(preds)
    ]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is given twice as a prediction.", code="compare.twice")
    return names


def _rows(
    name: str,
    loaded: Loaded,
    losses: Sequence[BoundMeasure],
    metrics: Sequence[BoundMeasure],
    *,
    empty: str,
    background: bool,
    asked: bool,
) -> list[Row]:
    rows: list[Row] = []
    averaged = loaded.channels(asked) if losses else []
    regions = [label for label in loaded.labels if label not in averaged] if losses else []
    per_loss: dict[str, list[Row]] = {bound.name: [] for bound in losses}
    for label in [*averaged, *regions]:
        pair = loaded.soft(label)
        for bound in losses:
            row = loss_row(name, label, bound, pair)
            per_loss[bound.name].append(row)
            rows.append(row)
    if len(averaged) > 1:
        for bound in losses:
            over = per_loss[bound.name][: len(averaged)]
            rows += _means(name, over, background)
    ndim = len(loaded.case.shape)
    for index, label in enumerate(loaded.labels):
        for bound in metrics:
            value, _, why = metric_value(bound, loaded.case.pair(index), empty)
            notes = (why.replace("_", " "),) if why else ()
            unit = unit_of(bound, loaded.case.unit, ndim)
            rows.append(Row(name, label.name, "metric", bound.name, value, unit, notes=notes))
    return rows


def loss_row(name: str, label: Label, bound: BoundMeasure, pair: SoftPair) -> Row:
    """Return a loss with its optimum, the shares of its excess and the norms of its gradient."""
    value = bound(pair)
    optimum = bound.measure.optimum
    if optimum is None:
        optimum = bound(bound.perfect(pair))
    excess = None if value is None or optimum is None else value - optimum
    return Row(
        name,
        label.name,
        "loss",
        bound.name,
        value,
        "",
        optimum,
        excess,
        share=None if not excess else shares(bound, pair),
        by_p=_norms(bound, pair, "p"),
        by_z=_norms(bound, pair, "z"),
        notes=_remarks(bound, pair),
    )


def _norms(bound: BoundMeasure, pair: SoftPair, wrt: Any) -> Norms | None:
    gradient = bound.gradient(pair, wrt)
    if gradient is None:
        return None
    l1, l2 = float(abs(gradient).sum()), math.sqrt(float((gradient * gradient).sum()))
    return Norms(l1 if math.isfinite(l1) else None, l2 if math.isfinite(l2) else None)


def _remarks(bound: BoundMeasure, pair: SoftPair) -> tuple[str, ...]:
    remarks = []
    if pair.sums.y == 0:
        remarks.append("gt empty")
    if bound.measure.reads == "probability" and pair.hard:
        remarks.append("a hard mask: cross-entropy only counts errors and measures clip")
    return tuple(remarks)


def _means(name: str, rows: Sequence[Row], background: bool) -> list[Row]:
    """Return the mean over channels, and the one without the background where that differs."""
    with_it = [r for r in rows if background or r.label != BACKGROUND.name]
    found = [_mean("mean", name, with_it)]
    without = [r for r in rows if r.label != BACKGROUND.name]
    if background and len(without) < len(rows):
        found.append(_mean("mean without background", name, without))
    return found


def _mean(label: str, name: str, rows: Sequence[Row]) -> Row:
    def mean(values: list[float | None]) -> float | None:
        defined = [v for v in values if v is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) and values else None

    return Row(
        name,
        label,
        "loss",
        rows[0].measure,
        mean([r.value for r in rows]),
        "",
        mean([r.optimum for r in rows]),
        mean([r.excess for r in rows]),
        _mean_shares(rows),
        _mean_norms([r.by_p for r in rows]),
        _mean_norms([r.by_z for r in rows]),
    )


def _mean_shares(rows: Sequence[Row]) -> Shares | None:
    """Return the shares of the mean's excess: those of the labels, each weighted by its excess."""
    total = sum(r.excess or 0.0 for r in rows)
    if not total or any(r.share is None and r.excess for r in rows):
        return None
    parts = [(r.excess or 0.0, r.share) for r in rows if r.share is not None]
    return Shares(*(sum(e * getattr(s, key) for e, s in parts) / total for key in ("fp", "fn", "boundary")))


def _mean_norms(norms: Sequence[Norms | None]) -> Norms | None:
    """Return the norms of the mean's gradient: each channel is a variable of its own."""
    known = [n for n in norms if n is not None]
    if len(known) < len(norms):
        return None
    l1 = [n.l1 for n in known if n.l1 is not None]
    l2 = [n.l2 for n in known if n.l2 is not None]
    return Norms(
        sum(l1) / len(norms) if len(l1) == len(norms) else None,
        math.sqrt(sum(v * v for v in l2)) / len(norms) if len(l2) == len(norms) else None,
    )


def _rankings(rows: Sequence[Row], measures: Sequence[BoundMeasure]) -> list[Ranking]:
    found = []
    labels = list(dict.fromkeys(r.label for r in rows))
    for bound in measures:
        direction = bound.measure.better
        if direction == "none":
            continue
        for label in labels:
            here = [
                r
                for r in rows
                if r.label == label and r.measure == bound.name and r.kind == bound.measure.kind and r.value is not None
            ]
            keyed = [(_badness(r, direction), r.pred) for r in here]
            places = sorted({key for key, _ in keyed})
            if len(here) > 1:
                order = [[pred for key, pred in keyed if key == place] for place in places]
                found.append(Ranking(label, bound.measure.kind, bound.name, order))
    return found


def _badness(row: Row, direction: str) -> float:
    """Return what is smaller for a better prediction: a loss's excess, a metric's distance from its best."""
    value = row.value or 0.0
    if row.kind == "loss":
        return value if row.excess is None else row.excess
    return {"higher": -value, "lower": value, "zero": abs(value)}[direction]
