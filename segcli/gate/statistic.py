"""One number over the cases of a run, as a rule of the gate asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segcli.averaging import MEAN
from segcli.errors import UsageError
from segcli.evidence.counts import Counts
from segcli.evidence.pooled import NoGridError, PooledCounts
from segcli.gate.columns import Columns, Key
from segcli.gate.rules import Rule, Stat
from segcli.measure import BoundMeasure, Measure
from segcli.statistics import Interval, Vector, mean_intervals


def statistic(rule: Rule, key: Key, x: Vector, columns: Columns, names: Sequence[str]) -> float | None:
    """Return a rule's statistic of values of some cases; `None` where there are too few."""
    stat = rule.stat
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


def _interval(rule: Rule, key: Key, x: Vector, columns: Columns) -> Interval | None:
    """Return the interval of the mean: the run's own where it is of the same values and level."""
    told: Mapping[str, Any] = next((s for s in columns.run["summary"] if _same(s, key)), {})
    level = rule.confidence or told.get("ci_level", 0.95)
    if told.get("ci") and not rule.where and rule.on_undefined != "worst" and level == told.get("ci_level"):
        low, high = told["ci"]
        return Interval(low, high, told.get("ci_method", "bca"))
    # Made as the summary makes it: the same values have the same interval.
    return mean_intervals([x], seed=seed_of(columns), level=level, resamples=told.get("resamples", 2000))[0]


def _same(summary: Mapping[str, Any], key: Key) -> bool:
    own = (summary["label"], summary["kind"], summary["measure"])
    return own == key and summary["over"] == "cases" and not summary.get("group")


def seed_of(columns: Columns) -> int:
    return int(next((s["seed"] for s in columns.run["summary"] if "seed" in s), 0))


def _pooled(bound: BoundMeasure, key: Key, columns: Columns, names: Sequence[str]) -> float | None:
    """Return a measure of the counts of cases summed; of the mean row, the mean of the labels' own."""
    if key[0] == MEAN:
        parts = [_pooled(bound, (label, *key[1:]), columns, names) for label in columns.plain_labels]
        defined = [part for part in parts if part is not None]
        return sum(defined) / len(defined) if defined else None
    found = [columns.cases[name]["counts"].get(key[0]) for name in names]
    counts = [Counts(**c) for c in found if c is not None]
    if not counts:
        return None
    try:
        value = bound(PooledCounts(counts))
    except NoGridError:
        raise UsageError(
            f"{bound.name} has no pooled value.", hint="measures of tp, fp, fn and tn alone have one", code="rule.stat"
        ) from None
    return None if value is None else float(value)
