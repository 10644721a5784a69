"""How several losses and metrics judge the same prediction, or several predictions of one case."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from segcli.attribution import Shares, excess_map, shares, worst_island
from segcli.averaging import MEAN_WITHOUT_BACKGROUND
from segcli.errors import UsageError
from segcli.evaluate import check_policy, measures_of, metric_value, unit_of
from segcli.loading import Loaded, load, reading_of
from segcli.masks.labels import BACKGROUND, Label
from segcli.masks.mask import Mask, Note
from segcli.sweep import sweep

if TYPE_CHECKING:
    from segcli.measure import BoundMeasure
    from segcli.soft import SoftPair, Vector


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


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b between the rankings of `n` predictions by a loss and by a metric; 1 is the same order."""

    label: str
    loss: str
    metric: str
    tau: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """All rows of a comparison; with several predictions their rankings, and how these agree."""

    rows: list[Row]
    rankings: list[Ranking]
    agreements: list[Agreement]
    loaded: list[Loaded] = field(repr=False)
    notes: list[Note] = field(default_factory=list)


def compare(
    preds: Any,
    gt: Any,
    *,
    losses: str | Iterable[str] | None = "default",
    metrics: str | Iterable[str] | None = (),
    sweeps: str | Iterable[str] = (),
    rank_by: str | Iterable[str] | None = (),
    empty: str = "undefined",
    surface: str | None = None,
    background: bool = True,
    strict: bool = False,
    **reading: Any,
) -> Comparison:
    """Judge one or several predictions (a path, an array, or a list of them) by losses and metrics.

    `sweeps` adds losses with one parameter moved (`"tversky:fn=0.3..0.9/0.1"`). `rank_by` names metrics
    whose ranking of the predictions each loss's is held against, by Kendall's tau. The other keywords are
    those of `segcli.score`. Losses of several channels are averaged over them,
    `background=False` leaves the background out of that mean.
    """
    how = reading_of(**reading)
    chosen, chosen_metrics = measures_of("loss", losses), measures_of("metric", metrics, surface=surface)
    for text in [sweeps] if isinstance(sweeps, str) else sweeps:
        chosen += [b for b in sweep(text) if b.name not in {c.name for c in chosen}]
    judges = measures_of("metric", rank_by, surface=surface)
    chosen_metrics += [j for j in judges if j.name not in {m.name for m in chosen_metrics}]
    check_policy(empty)
    if not chosen and not chosen_metrics:
        raise UsageError("no loss and no metric is asked for.", hint="--losses dice,tversky", code="measure.none")
    several = preds if isinstance(preds, (list, tuple)) else [preds]
    if judges and len(several) < 2:
        raise UsageError(
            "--rank-by needs several predictions: one alone has no ranking.",
            hint="segcli compare PRED1 PRED2 ... GT --rank-by dice",
            code="compare.rank",
        )
    found: list[Loaded] = []
    rows: list[Row] = []
    notes: list[Note] = []
    for name, pred in zip(_names(several), several, strict=True):
        cases = load(pred, gt, how, strict=strict)
        found += cases
        notes += [n for case in cases for n in case.notes if n not in notes]
        per_image = [_rows(name, case, chosen, chosen_metrics, empty=empty, background=background) for case in cases]
        rows += per_image[0] if len(cases) == 1 else _over_images(per_image)
    rankings = _rankings(rows, [*chosen, *chosen_metrics]) if len(several) > 1 else []
    return Comparison(rows, rankings, _agreements(rows, chosen, judges), found, notes)


def _names(preds: Sequence[Any]) -> list[str]:
    names = [_name(pred, index) for index, pred in enumerate(preds, start=1)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is given twice as a prediction.", code="compare.twice")
    return names


def _name(pred: Any, number: int) -> str:
    if isinstance(pred, Mask):
        return pred.name
    return os.fsdecode(pred) if isinstance(pred, (str, os.PathLike)) else f"pred {number}"


def _rows(
    name: str,
    loaded: Loaded,
    losses: Sequence[BoundMeasure],
    metrics: Sequence[BoundMeasure],
    *,
    empty: str,
    background: bool,
) -> list[Row]:
    rows: list[Row] = []
    averaged = loaded.channels if losses else []
    others = [label for label in loaded.labels if label not in averaged] if losses else []
    per_loss: dict[str, list[Row]] = {bound.name: [] for bound in losses}
    inner = [i for i, label in enumerate(averaged) if label.values != BACKGROUND.values]
    for label in [*averaged, *others]:
        pair = loaded.soft(label)
        for bound in losses:
            row = loss_row(name, label, bound, pair)
            per_loss[bound.name].append(row)
            rows.append(row)
    if len(averaged) > 1:
        for bound in losses:
            over = per_loss[bound.name][: len(averaged)]
            without = [over[i] for i in inner]
            mean = mean_row("mean", over if background else without)
            rows.append(replace(mean, notes=_plateau(bound, over, inner)))
            if background and 0 < len(without) < len(over):
                rows.append(mean_row(MEAN_WITHOUT_BACKGROUND, without))
    ndim = len(loaded.case.shape)
    for index, label in enumerate(loaded.labels):
        for bound in metrics:
            value, _, why = metric_value(bound, loaded.case.pair(index), empty)
            notes = (why.replace("_", " "),) if why else ()
            unit = unit_of(bound, loaded.case.unit, ndim)
            rows.append(Row(name, label.name, "metric", bound.name, value, unit, notes=notes))
    return rows


def _plateau(bound: BoundMeasure, rows: Sequence[Row], inner: Sequence[int]) -> tuple[str, ...]:
    """Return the phrase for the value at which multi-class training stalls: the background, and nothing else."""
    if bound.measure.family != "region" or bound.measure.range != (0, 1) or not 0 < len(inner) < len(rows):
        return ()
    values = [r.value for r in rows]
    others = [v for i, v in enumerate(values) if i in inner]
    rest = [v for i, v in enumerate(values) if i not in inner]
    if all(v is not None and v > 0.9 for v in others) and all(v is not None and v < 0.1 for v in rest):
        return (f"a plateau near {len(others)}/{len(values)}: only the background is right",)
    return ()


def _over_images(per_image: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the rows of a stack: each the mean over its images; a mean says how many had a value."""
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for rows in per_image:
        for row in rows:
            grouped.setdefault((row.label, row.kind, row.measure), []).append(row)
    found = []
    for (label, kind, _), rows in grouped.items():
        defined = [r for r in rows if r.value is not None]
        note = (
            f"mean of {len(rows)} images" if len(defined) == len(rows) else f"mean of {len(defined)}/{len(rows)} images"
        )
        mean = mean_row(label, defined or rows)
        found.append(replace(mean, kind=kind, unit=rows[0].unit, notes=(note,)))
    return found


def loss_row(name: str, label: Label, bound: BoundMeasure, pair: SoftPair) -> Row:
    """Return a loss with its optimum, the shares of its excess and the norms of its gradient."""
    value = bound(pair)
    optimum = bound.measure.optimum
    if optimum is None:
        optimum = bound(bound.perfect(pair))
    excess = None if value is None or optimum is None else value - optimum
    parts = excess_map(bound, pair) if excess else None
    share = None if parts is None else shares(parts, pair)
    by_p = _norms(bound, pair, "p")
    return Row(
        name,
        label.name,
        "loss",
        bound.name,
        value,
        "",
        optimum,
        excess,
        share=share,
        by_p=by_p,
        by_z=_norms(bound, pair, "z"),
        notes=_remarks(bound, pair, parts, share, by_p),
    )


def _norms(bound: BoundMeasure, pair: SoftPair, wrt: Any) -> Norms | None:
    gradient = bound.gradient(pair, wrt)
    if gradient is None:
        return None
    l1, l2 = float(abs(gradient).sum()), math.sqrt(float((gradient * gradient).sum()))
    return Norms(l1 if math.isfinite(l1) else None, l2 if math.isfinite(l2) else None)


#: An island is worth a sentence when it makes at least this share of a loss.
MUCH = 0.5


def _remarks(
    bound: BoundMeasure, pair: SoftPair, parts: Vector | None, share: Shares | None, by_p: Norms | None
) -> tuple[str, ...]:
    """Return what stands out, a plain phrase each."""
    remarks = []
    if pair.sums.y == 0:
        remarks.append("gt empty")
    if bound.measure.reads == "probability" and pair.hard:
        remarks.append("a hard mask: cross-entropy only counts errors and measures clip")
    elif share is not None and by_p is not None and by_p.l1 == 0:
        remarks.append("saturated: every wrong voxel is beyond the clip and has no gradient")
    # Looked for only where one can matter: a false island is off the boundary, a missed one is false negative.
    if parts is not None and share is not None and (share.boundary < 1 - MUCH or share.fn >= MUCH):
        island = worst_island(parts, pair)
        if island is not None and island.share >= MUCH:
            remarks.append(f"1 {island.kind} island of {island.voxels} voxels makes {island.share:.0%} of it")
    return tuple(remarks)


def mean_row(label: str, rows: Sequence[Row]) -> Row:
    """Return the mean of rows of one measure: values, optima, excesses, and what follows for shares and norms."""

    def mean(values: list[float | None]) -> float | None:
        defined = [v for v in values if v is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) and values else None

    return replace(
        rows[0],
        label=label,
        value=mean([r.value for r in rows]),
        optimum=mean([r.optimum for r in rows]),
        excess=mean([r.excess for r in rows]),
        share=_mean_shares(rows),
        by_p=_mean_norms([r.by_p for r in rows]),
        by_z=_mean_norms([r.by_z for r in rows]),
        notes=(),
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


def _agreements(rows: Sequence[Row], losses: Sequence[BoundMeasure], judges: Sequence[BoundMeasure]) -> list[Agreement]:
    found = []
    directions = {j.name: j.measure.better for j in judges}
    for label in dict.fromkeys(r.label for r in rows if r.kind == "metric"):
        for loss in losses:
            by_loss = _scores(rows, label, "loss", loss.name, "lower")
            for metric, direction in directions.items():
                by_metric = _scores(rows, label, "metric", metric, direction)
                both = [pred for pred in by_loss if pred in by_metric]
                if by_loss:
                    tau = kendall_tau([by_loss[p] for p in both], [by_metric[p] for p in both])
                    found.append(Agreement(label, loss.name, metric, tau, len(both)))
    return found


def _scores(rows: Sequence[Row], label: str, kind: str, measure: str, direction: str) -> dict[str, float]:
    """Return how bad each prediction is by a measure."""
    chosen = [r for r in rows if (r.label, r.kind, r.measure) == (label, kind, measure) and r.value is not None]
    return {r.pred: _badness(r, direction) for r in chosen}


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two lists, `None` where one of them does not rank at all."""
    from scipy.stats import kendalltau

    if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(kendalltau(a, b).statistic)


def _badness(row: Row, direction: str) -> float:
    """Return what is smaller for a better prediction: a loss's excess, a metric's distance from its best."""
    value = row.value or 0.0
    if row.kind == "loss":
        return value if row.excess is None else row.excess
    return {"higher": -value, "lower": value, "zero": abs(value)}[direction]
