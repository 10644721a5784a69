"""One number over the cases of a run, as a rule of the gate asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.evidence.parts import NoPartsError
from segcli.gates.columns import Columns
from segcli.gates.rules import POOLED, Rule, Stat
from segcli.measure.record import BoundMeasure, Measure
from segcli.run.records import Key, Summary
from segcli.run.statistics import Interval, Vector, mean_intervals
from segcli.run.summary import mean_by_label, together, value_of
from segcli.scoring.means import MEAN

_EARLIER = "an earlier version of segcli, or another tool, wrote it: evaluate again"
_NO_CONFIDENCE = "a hard mask has no confidences; of probability maps evaluate again with --kind probability"


def statistic(rule: Rule, key: Key, x: Vector, columns: Columns, names: Sequence[str]) -> float | None:
    """Return a rule's statistic of values of some cases; `None` where there are too few."""
    stat = rule.stat
    if key[0] == MEAN and columns.mean_of.by_label and stat.name in ("mean", "ci_low", "ci_high"):
        return _by_label(rule, key, columns, names)
    if stat.name == "count":
        return float(x.size)
    if stat.name == "pooled":
        return _pooled(rule.measure, key, columns, names)
    if stat.name in ("ci_low", "ci_high"):
        interval = _interval(rule, key, x, columns)
        return None if interval is None else interval.low if stat.name == "ci_low" else interval.high
    return plain_statistic(stat, x, rule.measure.measure) if x.size else None


def plain_statistic(stat: Stat, x: Vector, measure: Measure) -> float:
    """Return a statistic of values alone. `worst-k` is by direction; of a measure that is best at 0, of sizes."""
    if stat.kind == "percentile":
        return float(np.quantile(x, stat.of / 100))
    if stat.kind == "worst":
        ordered = np.sort(np.abs(x) if measure.better == "zero" else x)
        k = int(stat.of)
        return float((ordered[:k] if measure.better == "higher" else ordered[-k:]).mean())
    if stat.name == "median":
        return float(np.median(x))
    return float(x.mean() if stat.name == "mean" else x.min() if stat.name == "min" else x.max())


def _by_label(rule: Rule, key: Key, columns: Columns, names: Sequence[str]) -> float | None:
    """Return nnU-Net's mean: over labels, of their means over cases."""
    if rule.stat.name != "mean":
        raise UsageError(
            f"rule {rule.id}: nnU-Net's mean over labels has no interval.", hint='stat = "mean"', code="rule.stat"
        )
    worst = rule.on_undefined == "worst"
    if not worst and len(names) == len(columns.cases):  # as the file has it
        for row in columns.run.summary:
            if _same(row, key) and row.by_label:
                return row.mean
    each = []
    for label in columns.averaged:
        cells = columns.cells((label, *key[1:]), names, rule.measure, worst=worst)
        each.append([cell.value for cell in cells if cell.value is not None])
    return mean_by_label(each)


def _interval(rule: Rule, key: Key, x: Vector, columns: Columns) -> Interval | None:
    """Return the interval of the mean: the run's own where it is of the same values and level."""
    told = next((row for row in columns.run.summary if _same(row, key)), None)
    own = told.ci_level if told is not None else None
    level = rule.confidence or own or 0.95
    if told is not None and told.ci and not rule.where and rule.on_undefined != "worst" and level == own:
        method = cast("Literal['bca', 'normal', 'point']", told.ci_method or "bca")
        return Interval(*told.ci, method)
    resamples = told.resamples if told is not None else None
    # Made as the summary makes it: the same values have the same interval.
    return mean_intervals([x], seed=seed_of(columns), level=level, resamples=resamples or 2000)[0]


def _same(row: Summary, key: Key) -> bool:
    return row.key == key and row.over == "cases" and not row.group


def seed_of(columns: Columns) -> int:
    return int(next((row.seed for row in columns.run.summary if row.seed is not None), 0))


def _pooled(bound: BoundMeasure, key: Key, columns: Columns, names: Sequence[str]) -> float | None:
    """Return a measure of what cases add up to; of the mean row, the mean of the labels' own.

    Raises `UsageError` for a measure without a pooled value, `InputError` for a run that lacks the parts of one.
    """
    if key[0] == MEAN:
        each = [_pooled(bound, (label, *key[1:]), columns, names) for label in columns.averaged]
        defined = [value for value in each if value is not None]
        return sum(defined) / len(defined) if defined else None
    whole = together([columns.cases[name] for name in names], key[0])
    if whole is None:
        return None
    if not bound.measure.pooled:
        raise UsageError(f"{bound.name} has no pooled value.", hint=POOLED, code="rule.stat")
    try:
        return value_of(bound, whole)
    except NoPartsError:
        raise InputError(
            f"{key[0]}: the run does not hold of every case what the pooled value of {bound.name} is made of.",
            hint=_NO_CONFIDENCE if bound.measure.reads == "probability" else _EARLIER,
            code="run.parts",
        ) from None
