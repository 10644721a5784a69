"""Summaries of a run: each label and measure over cases, with an interval, spread, and what was undefined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from segcli.evidence.counts import Counts
from segcli.evidence.parts import NoPartsError, PooledSums
from segcli.evidence.pooled import PooledCounts
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.run.codec import finite
from segcli.run.columns import Column, columns_of
from segcli.run.model import Run
from segcli.run.records import Case, Key, Spec, Summary
from segcli.run.statistics import Interval, Vector, mean_intervals
from segcli.scoring.empty import is_mark
from segcli.scoring.means import ALL, MEAN, MEAN_WITHOUT_BACKGROUND, MeanOf

MEANS = (MEAN, MEAN_WITHOUT_BACKGROUND)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made; `seed` makes them reproducible."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


def summaries(
    cases: Sequence[Case],
    resampling: Resampling,
    group_by: str | None = None,
    spec: Mapping[str, Any] | None = None,
) -> list[Summary]:
    """Return the summary of a run's cases, and with `group_by` those of each value of that column.

    A row is of one label, kind and measure over all cases that have it: labels first in the order in
    which the cases have them, then `all` (all classes at once), then the means over labels, as `spec` has them.
    """
    over = run_mean_of(spec or {}, cases)
    found = _summaries(cases, resampling, {}, over)
    if group_by is not None:
        values = sorted({case.group.get(group_by, "") for case in cases})
        for value in values:
            own = [case for case in cases if case.group.get(group_by, "") == value]
            found += _summaries(own, resampling, {group_by: value}, over)
    return found


def run_mean_of(spec: Mapping[str, Any], cases: Iterable[Case]) -> MeanOf:
    """Return what the mean row of a run is of. Raises `UsageError` where `spec` names a label that no case has."""
    return Run(Spec(spec), list(cases)).mean_of(lenient=False)


@dataclass(slots=True)
class _Numbers:
    """The numbers of one label and measure, and how many values are none, or not plain ones."""

    unit: str
    values: list[float] = field(default_factory=list)
    undefined: int = 0
    policy: int = 0

    def add(self, value: float | None, status: str = "ok") -> None:
        if value is None:
            self.undefined += 1
        else:
            self.values.append(value)
            self.policy += status == "policy"


def _numbers_of(column: Column) -> _Numbers:
    """Return the numbers of a column; a tool's mark of no value is none."""
    found = _Numbers(column.unit)
    for v in column.values:
        mark = v.status == "policy" and is_mark(bind(v.measure, v.kind), v.value, "policy")
        found.add(None if mark else v.value, v.status)
    return found


def _summaries(cases: Sequence[Case], resampling: Resampling, group: dict[str, str], over: MeanOf) -> list[Summary]:
    columns = {key: _numbers_of(column) for key, column in columns_of(cases).items()}
    labels = list(dict.fromkeys(label for case in cases for label in case.labels))
    labels += [x for x in dict.fromkeys(label for label, _, _ in columns) if x not in labels]
    labels.sort(key=lambda label: label == ALL)  # stable: `all` stands last
    averaged = [x for x in over.names if x in labels]
    counts = {label: [case.counts[label] for case in cases if label in case.counts] for label in labels}
    sizes = {label: _sizes(own) for label, own in counts.items()}
    order = {label: i for i, label in enumerate(labels)}
    keys = sorted(columns, key=lambda key: order[key[0]])
    whole = {label: together(cases, label) for label in labels}
    pooled = {key: pooled_value(key, whole[key[0]]) for key in keys}
    means: dict[Key, _Numbers] = {}
    if len(averaged) > 1 or (over.asked and averaged):
        means = _mean_columns(cases, columns, averaged)
        for key in means:
            each = [pooled.get((label, *key[1:])) for label in averaged] if key[0] == MEAN else []
            defined = [v for v in each if v is not None]
            pooled[key] = sum(defined) / len(defined) if defined else None
        columns |= means
        keys += means
    described = _described([columns[key].values for key in keys], resampling)
    rows = []
    for key, one in zip(keys, described, strict=True):
        label, kind, measure = key
        missed, false_alarms = sizes.get(label, (0, 0))
        row = Summary(
            label=label, kind=kind, measure=measure, unit=columns[key].unit, over="cases", group=group, **one,
            undefined=columns[key].undefined, policy=columns[key].policy, missed=missed, false_alarms=false_alarms,
            pooled=pooled[key],
        )  # fmt: skip
        rows.append(_of_labels(row, columns, averaged, over) if key in means else row)
    return rows


def _of_labels(row: Summary, columns: Mapping[Key, _Numbers], averaged: Sequence[str], over: MeanOf) -> Summary:
    """Return a mean row with what it has beside other rows: the labels that it is of; nnU-Net's mean in its own order.

    That one is over labels: it has no spread over cases, and no value where a label has none in any case.
    """
    if row.kind != "metric" and not over.asked:
        return row  # of channels
    row = replace(row, mean_of=tuple(averaged))
    if not over.by_label or row.kind != "metric":
        return row
    keys = [(label, row.kind, row.measure) for label in averaged]
    each = [columns[key].values for key in keys if key in columns]
    blank: dict[str, Any] = dict.fromkeys(("sd", "p05", "p25", "median", "p75", "p95", "min", "max", "ci", "ci_method"))
    return replace(row, **blank, mean=mean_by_label(each), by_label=True)


def said_means(run: Run) -> list[str]:
    """Return what the mean rows of a run over cases are of, in words; nothing where it has none that say so."""
    found = [MeanOf(row.mean_of, row.by_label) for row in run.of("cases") if row.mean_of is not None]
    return list(dict.fromkeys(map(str, found)))


def mean_by_label(each: Sequence[Sequence[float]]) -> float | None:
    """Return the mean over labels of their means over cases: nnU-Net's foreground_mean, NaN where a label has none."""
    means = [sum(values) / len(values) if values else None for values in each]
    defined = [value for value in means if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(means) else None


def _sizes(counts: Sequence[Counts]) -> tuple[int, int]:
    """Return in how many cases a label is missed, and in how many it is a false alarm."""
    return sum(c.gt > 0 and c.pred == 0 for c in counts), sum(c.gt == 0 and c.pred > 0 for c in counts)


def _mean_columns(
    cases: Sequence[Case], columns: Mapping[Key, _Numbers], averaged: Sequence[str]
) -> dict[Key, _Numbers]:
    """Return the mean rows as columns: each case's own mean over its labels, then over cases.

    A case that was not scored by segcli brings no means: there it is the macro mean over the labels that count.
    """
    units = {key[1:]: column.unit for key, column in columns.items() if key[0] != ALL}
    found: dict[Key, _Numbers] = {(MEAN, *measured): _Numbers(unit) for measured, unit in units.items()}
    for case in cases:
        for label, kind, measure, value in _own_means(case, averaged):
            key = (label, kind, measure)
            if (kind, measure) in units:
                found.setdefault(key, _Numbers(units[kind, measure])).add(value)
    return dict(sorted(found.items(), key=lambda item: MEANS.index(item[0][0])))


def _own_means(case: Case, averaged: Sequence[str]) -> Iterator[tuple[str, str, str, float | None]]:
    if case.means is not None:
        yield from ((m.label, m.kind, m.measure, finite(m.value)) for m in case.means)
        return
    own: dict[tuple[str, str], list[float | None]] = {}
    for v in case.values:
        if v.label in averaged:
            own.setdefault((v.kind, v.measure), []).append(v.value)
    for (kind, measure), values in own.items():
        defined = [v for v in values if v is not None]
        yield MEAN, kind, measure, sum(defined) / len(defined) if defined else None


def _described(columns: Sequence[Sequence[float]], resampling: Resampling) -> list[dict[str, Any]]:
    arrays = [np.asarray(values, dtype=np.float64) for values in columns]
    intervals = mean_intervals(arrays, level=resampling.level, resamples=resampling.resamples, seed=resampling.seed)
    return [_description(x, interval, resampling) for x, interval in zip(arrays, intervals, strict=True)]


def _description(x: Vector, interval: Interval | None, resampling: Resampling) -> dict[str, Any]:
    """Return the number of values, their mean with its interval, their spread and quantiles; null without values."""
    names = ("p05", "p25", "median", "p75", "p95")
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = [float(q) for q in np.quantile(x, shares)] if x.size else [None] * len(shares)
    return {
        "n": int(x.size),
        "mean": float(x.mean()) if x.size else None,
        "sd": float(x.std(ddof=1)) if x.size > 1 else None,
        **dict(zip(names, quantiles, strict=True)),
        "min": float(x.min()) if x.size else None,
        "max": float(x.max()) if x.size else None,
        "ci": None if interval is None else (interval.low, interval.high),
        "ci_method": None if interval is None else interval.method,
        "ci_level": resampling.level,
        "resamples": resampling.resamples,
        "seed": resampling.seed,
    }


def together(cases: Sequence[Case], label: str) -> PooledCounts | PooledSums | None:
    """Return what cases have of a label, or of all classes (`all`), as the evidence of one; `None` without a case."""
    own = [case for case in cases if label == ALL or label in case.counts]
    if not own:
        return None
    parts = [case.parts.get(label) for case in own]
    if label == ALL:
        return PooledSums(parts)
    return PooledCounts([case.counts[label] for case in own], parts=parts)


def pooled_value(key: Key, whole: PooledCounts | PooledSums | None) -> float | None:
    """Return a measure of counts, objects or classes of all cases together.

    `None` for any other measure, and for one of objects or classes where not every case has its parts.
    """
    if whole is None or key[1] != "metric":
        return None
    bound = bind(key[2], "metric")
    if not bound.measure.pooled:
        return None
    try:
        return value_of(bound, whole)
    except NoPartsError:
        return None


def value_of(bound: BoundMeasure, whole: PooledCounts | PooledSums) -> float | None:
    """Return a pooled measure of what cases add up to. Raises `NoPartsError` where that is not what it is made of."""
    # A file written by hand can have a measure of all classes in the row of a label, and the other way round.
    if bound.over_classes != isinstance(whole, PooledSums):
        raise NoPartsError(bound.name)
    value = bound(whole)
    return None if value is None else float(value)
