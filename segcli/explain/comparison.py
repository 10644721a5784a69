"""How several losses and metrics judge the same prediction, or several predictions of one case."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError, keywords_checked
from segcli.explain.attribution import Norms, Shares, Tally, Wrt, tallies
from segcli.explain.rankings import Agreement, Ranking, Row, agreements_of, rankings_of
from segcli.masks.asked import reading_keywords, reading_of
from segcli.masks.labels import BACKGROUND
from segcli.masks.mask import Mask, Note
from segcli.measure.sweep import sweep
from segcli.scoring.batch import Batch
from segcli.scoring.empty import check_policy, classes_value, metric_value
from segcli.scoring.loading import Loaded, load
from segcli.scoring.means import ALL, MEAN, channel_means, check_average, pooled_channels, weights
from segcli.scoring.score import check_batch, measures_of, unit_of
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair
    from segcli.measure.record import BoundMeasure


@dataclass(frozen=True, repr=False)
class Comparison:
    """All rows of a comparison; with several predictions their rankings, and how these agree."""

    rows: list[Row]
    rankings: list[Ranking]
    agreements: list[Agreement]
    loaded: list[Loaded] = field(repr=False)
    notes: list[Note] = field(default_factory=list)
    average: str = "macro"
    batch_dice: bool = False

    @property
    def felt_by(self) -> Wrt:
        """Return what the gradients that tables show are by: the logits, where all predictions are such."""
        return "z" if all(loaded.grid.logits is not None for loaded in self.loaded) else "p"

    def __repr__(self) -> str:
        preds, measures = (list(dict.fromkeys(getattr(r, name) for r in self.rows)) for name in ("pred", "measure"))
        words = f"{', '.join(measures[:4])}" + f" and {len(measures) - 4} more" * (len(measures) > 4)
        named = ", ".join(preds[:4]) + " ..." * (len(preds) > 4)
        return f"<Comparison of {named}: {words}; {len(self.rows)} rows>"


@keywords_checked(reading_keywords)
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
    average: str = "macro",
    batch_dice: bool = False,
    strict: bool = False,
    **reading: Any,
) -> Comparison:
    """Judge one or several predictions (a path, an array, or a list of them) by losses and metrics.

    `sweeps` adds losses with one parameter moved (`"tversky:fn=0.3..0.9/0.1"`). `rank_by` names metrics
    whose ranking of the predictions each loss's is held against, by Kendall's tau. The other keywords are
    those of `segcli.score`. Losses of several channels are averaged over them as `average` says,
    `background=False` leaves the background out of that mean. With `batch_dice` the losses of a stack are of
    all its images pooled, else the mean over its images.

    Of a row `optimum` is the value at pred = gt, `by_p` are norms of dL/dp and `by_z` of dL/dz: over the logits of
    all channels, through their softmax, for a label's own loss too; of a single map through the sigmoid.
    """
    how = reading_of(**reading)
    chosen, chosen_metrics = measures_of("loss", losses), measures_of("metric", metrics, surface=surface)
    for text in [sweeps] if isinstance(sweeps, str) else sweeps:
        chosen += [b for b in sweep(text) if b.name not in {c.name for c in chosen}]
    judges = measures_of("metric", rank_by, surface=surface)
    chosen_metrics += [j for j in judges if j.name not in {m.name for m in chosen_metrics}]
    for bound in chosen_metrics:
        if bound.measure.kind == "table":
            raise UsageError(f"{bound.name} is a table.", hint="segcli score prints it", code="measure.kind")
    for judge in judges:
        if judge.measure.better == "none":
            raise UsageError(
                f"--rank-by {judge.name}: no direction of it is better.",
                hint="--rank-by dice",
                code="compare.rank",
            )
    check_policy(empty)
    check_average(average)
    check_batch(batch_dice, how)
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
        cases = load(pred, gt, how, strict=strict, instances=any(b.by_value for b in chosen_metrics))
        found += cases
        notes += [n for case in cases for n in case.notes if n not in notes]
        options: dict[str, Any] = {"empty": empty, "background": background, "average": average}
        own = _rows(name, Batch.of(cases), chosen, [], **options) if batch_dice else []
        apart = [] if batch_dice else chosen
        per_image = [_rows(name, case, apart, chosen_metrics, **options) for case in cases]
        own += per_image[0] if len(cases) == 1 else _over_images(per_image)
        rows += own if cases[0].grid.logits is None else [_felt(row) for row in own]
    rankings = rankings_of(rows, [*chosen, *chosen_metrics]) if len(several) > 1 else []
    return Comparison(rows, rankings, agreements_of(rows, chosen, judges), found, notes, average, batch_dice)


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
    average: str,
) -> list[Row]:
    wide = [bound for bound in losses if bound.over_classes]
    narrow = [bound for bound in losses if not bound.over_classes]
    rows = _one_vs_rest(name, loaded, narrow, background=background, average=average) if narrow else []
    if wide:
        if loaded.case.overlapping:
            rows += [Row(name, ALL, "loss", bound.name, None, notes=("channels overlap",)) for bound in wide]
        else:
            rows += loss_rows(name, ALL, wide, loaded.classes())
    of_labels = [b for b in metrics if not b.over_classes]
    for index, label in enumerate(loaded.labels):
        masks = loaded.case.pair(index)
        rows += [_metric_row(name, loaded, label.name, b, metric_value(b, masks, empty)) for b in of_labels]
    over_all = [b for b in metrics if b.over_classes]
    return rows + [_metric_row(name, loaded, ALL, b, classes_value(b, loaded.case.exclusive, empty)) for b in over_all]


def _one_vs_rest(
    name: str, loaded: Loaded, losses: Sequence[BoundMeasure], *, background: bool, average: str
) -> list[Row]:
    """Return the rows of losses of one label against the rest: of each label, then their means."""
    from segcli.explain.logit_gradients import SharedLogits

    channels = loaded.channels
    labels = [*channels, *(label for label in loaded.labels if label not in channels)]
    pairs = [loaded.soft(label) for label in labels]
    logits = SharedLogits.of(loaded, labels, pairs) if loaded.tied else None
    by: tuple[Wrt, ...] = ("p", "z") if logits is None else ("p",)
    each = [loss_rows(name, label.name, losses, pair, by) for label, pair in zip(labels, pairs, strict=True)]
    weight_of = [[float(i == j) for j in range(len(labels))] for i in range(len(labels))]
    inner = [i for i, label in enumerate(channels) if label.values != BACKGROUND.values]
    for mean, chosen in channel_means(channels, background=background) if len(channels) > 1 else ():
        if average == "micro":
            pooled = pooled_channels([pairs[i] for i in chosen])
            rows = _pooled_rows(name, mean, losses, pooled, by)
            if logits is not None:
                rows = [replace(r, by_z=logits.pooled(b, pooled, chosen)) for r, b in zip(rows, losses, strict=True)]
            each.append(rows)
            continue
        weight = weights(average, [float(pairs[i].sums.y) for i in chosen])
        weight_of.append([0.0] * len(labels))
        for i, share in zip(chosen, weight, strict=True):
            weight_of[-1][i] = share / (sum(weight) or 1.0)
        own = [[each[i][k] for i in range(len(channels))] for k in range(len(losses))]
        means = [mean_row(mean, [rows[i] for i in chosen], weight) for rows in own]
        if mean == MEAN:
            said = [_plateau(bound, rows, inner) for bound, rows in zip(losses, own, strict=True)]
            means = [replace(row, notes=notes) for row, notes in zip(means, said, strict=True)]
        each.append(means)
    if logits is not None:
        norms = logits.norms(losses, weight_of)
        each[: len(weight_of)] = [
            [replace(row, by_z=norms[row.measure][i] if row.by_p is not None else None) for row in rows]
            for i, rows in enumerate(each[: len(weight_of)])
        ]
    return [row for rows in each for row in rows]


def _metric_row(
    name: str, loaded: Loaded, label: str, bound: BoundMeasure, found: tuple[float | None, str, str]
) -> Row:
    value, _, why = found
    notes = (why.replace("_", " "),) if why else ()
    unit = unit_of(bound, loaded.case.unit, len(loaded.case.shape))
    return Row(name, label, "metric", bound.name, value, unit, notes=notes)


def _pooled_rows(
    name: str, label: str, losses: Sequence[BoundMeasure], pooled: SoftPair, by: tuple[Wrt, ...]
) -> list[Row]:
    """Return the losses of channels pooled into one; without a value where a loss has no pooled form."""
    note = ("no micro average: it reads neighbours",)
    none = Row(name, label, "loss", "", None, notes=note)
    return _loss_rows(name, label, losses, pooled, by, lambda bound: replace(none, measure=bound.name))


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
        share = "" if len(defined) == len(rows) else f"{len(defined)}/{len(rows)}"
        note = f"mean of {counted(len(rows), 'image', shown=share)}"
        mean = mean_row(label, defined or rows)
        found.append(replace(mean, kind=kind, unit=rows[0].unit, notes=(note,)))
    return found


def loss_rows(
    name: str,
    label: str,
    losses: Sequence[BoundMeasure],
    pair: SoftPair | SoftClasses,
    by: tuple[Wrt, ...] = ("p", "z"),
) -> list[Row]:
    """Return losses with their optima, the shares of their excess and the norms of their gradients `by` p and z.

    Of the images of a stack that a loss cannot pool (it reads neighbours) it is the mean over the images.
    """

    def over_images(bound: BoundMeasure) -> Row:
        parts: Sequence[SoftPair | SoftClasses] = getattr(pair, "parts", ())
        rows = [row for part in parts for row in loss_rows(name, label, [bound], part, by)]
        defined = [r for r in rows if r.value is not None]
        return replace(
            mean_row(label, defined or rows), notes=(f"mean of {counted(len(rows), 'image')}: it reads neighbours",)
        )

    return _loss_rows(name, label, losses, pair, by, over_images)


def _loss_rows(
    name: str,
    label: str,
    losses: Sequence[BoundMeasure],
    pair: SoftPair | SoftClasses,
    by: tuple[Wrt, ...],
    unpooled: Callable[[BoundMeasure], Row],
) -> list[Row]:
    """Return the rows of losses; `unpooled` gives that of one which asks pooled voxels for their neighbours."""
    from segcli.evidence.pooled import PooledPair

    apart = [b for b in losses if b.measure.needs == "grid" and isinstance(pair, PooledPair)]
    whole = [b for b in losses if b not in apart]
    rows = {b.name: unpooled(b) if b in apart else _valued(name, label, b, pair) for b in losses}
    for tally in tallies(whole, pair, mapped=[bool(rows[bound.name].excess) for bound in whole], by=by):
        row = rows[tally.bound.name]
        row = replace(row, share=tally.shares(), by_p=tally.norms("p"), by_z=tally.norms("z"))
        rows[row.measure] = replace(row, notes=_remarks(tally, pair, row))
    return [rows[bound.name] for bound in losses]


def _valued(name: str, label: str, bound: BoundMeasure, pair: SoftPair | SoftClasses) -> Row:
    """Return a loss with its optimum and excess."""
    value = bound(pair)
    optimum = bound.measure.optimum
    if optimum is None:
        optimum = bound(bound.perfect(pair))
    excess = None if value is None or optimum is None else value - optimum
    return Row(name, label, "loss", bound.name, value, "", optimum, excess)


#: An island is worth a sentence when it makes at least this share of a loss.
MUCH = 0.5
#: A gradient vanishes where moving every logit by 1 would change the loss by less than this share of its excess: of a
#: sum in float32, as networks are trained in, that is below the last digit.
VANISHING = 1e-7
#: An excess that is less than this share of the value is rounding.
ROUNDING = 1e-12


def _remarks(tally: Tally, pair: SoftPair | SoftClasses, row: Row) -> tuple[str, ...]:
    """Return what stands out, a plain phrase each."""
    from segcli.explain.blindness import is_blind

    remarks = []
    share, by_p = row.share, row.by_p
    if pair.gt_empty:
        remarks.append("gt empty")
    elif pair.gt_full:
        remarks.append("gt full")
    if not row.excess and by_p is not None and by_p.l1 == 0:
        if is_blind(tally.bound, pair):
            remarks.append("blind: the same for every prediction of this gt")
        elif wrong := tally.wrong_voxels():
            remarks.append(f"as at pred = gt: it does not see the {counted(wrong, 'wrong voxel')}")
    elif (row.excess or 0) < -ROUNDING * abs(row.value or 0):
        remarks.append("less than at pred = gt, which is not the least of this loss")
    if "clip" in tally.bound.params and pair.hard:
        remarks.append("a hard mask: cross-entropy only counts errors and measures clip")
    elif share is not None and by_p is not None and by_p.l1 == 0 and tally.all_wrong_beyond_clip():
        remarks.append("saturated: every wrong voxel is beyond the clip and has no gradient")
    # Looked for only where one can matter: a false island is off the boundary, a missed one is false negative.
    if share is not None and (share.boundary < 1 - MUCH or share.fn >= MUCH):
        island = tally.worst_island()
        if island is not None and island.share >= MUCH:
            size = counted(island.voxels, "voxel")
            remarks.append(f"1 {island.kind} island of {size} makes {island.share:.0%} of it")
    return tuple(remarks)


def _felt(row: Row) -> Row:
    """Return a row of logits with a remark where nothing of its gradient is left."""
    l1, excess = None if row.by_z is None else row.by_z.l1, row.excess or 0
    if l1 is None or excess <= ROUNDING * abs(row.value or 0) or l1 > VANISHING * excess:
        return row
    said = [note for note in row.notes if not note.startswith("saturated")]
    return replace(row, notes=(*said, "no gradient reaches the network"))


def mean_row(label: str, rows: Sequence[Row], weight: Sequence[float] | None = None) -> Row:
    """Return the mean of rows of one measure: values, optima, excesses, and what follows for shares and norms.

    `weight` of 0 leaves a row out; nothing is defined where one that counts is not.
    """
    weighed = [(r, w) for r, w in zip(rows, weight or [1.0] * len(rows), strict=True) if w > 0]
    total = sum(w for _, w in weighed)
    weighed = [(r, w / total) for r, w in weighed]  # none where no label counts (`present`, an empty gt)

    def mean(values: list[float | None]) -> float | None:
        if not values or any(v is None for v in values):
            return None
        return sum(v * w for v, (_, w) in zip(values, weighed, strict=True) if v is not None)

    return replace(
        rows[0],
        label=label,
        value=mean([r.value for r, _ in weighed]),
        optimum=mean([r.optimum for r, _ in weighed]),
        excess=mean([r.excess for r, _ in weighed]),
        share=_mean_shares(weighed),
        by_p=Norms.mean([(r.by_p, w) for r, w in weighed]),
        by_z=Norms.mean([(r.by_z, w) for r, w in weighed]),
        notes=(),
    )


def _mean_shares(weighed: Sequence[tuple[Row, float]]) -> Shares | None:
    """Return the shares of the mean's excess: those of the labels, each weighted by its excess."""
    total = sum(w * (r.excess or 0.0) for r, w in weighed)
    if not total or any(r.share is None and r.excess for r, _ in weighed):
        return None
    parts = [(w * (r.excess or 0.0), r.share) for r, w in weighed if r.share is not None]
    return Shares(*(sum(e * getattr(s, key) for e, s in parts) / total for key in ("fp", "fn", "boundary")))
