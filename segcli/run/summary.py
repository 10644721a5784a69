"""Summaries of a run: each label and measure over cases, with an interval, spread, and what was undefined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segcli.evidence.counts import Counts
from segcli.evidence.parts import NoPartsError, PooledSums
from segcli.evidence.pooled import PooledCounts
from segcli.measure.notation import bind
from segcli.run.statistics import Interval, Vector, mean_intervals
from segcli.scoring.empty import is_mark
from segcli.scoring.means import ALL, MEAN, MEAN_WITHOUT_BACKGROUND, MeanOf, mean_of

Case = Mapping[str, Any]
#: What a summary is of: label, kind, canonical measure.
Key = tuple[str, str, str]
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
) -> list[dict[str, Any]]:
    """Return the summary records of a run's cases, and with `group_by` those of each value of that column.

    A record is of one label, kind and measure over all cases that have it: labels first in the order in
    which the cases have them, then `all` (all classes at once), then the means over labels, as `spec` has them.
    """
    over = run_mean_of(spec or {}, cases)
    found = _summaries(cases, resampling, {}, over)
    if group_by is not None:
        values = sorted({case["group"].get(group_by, "") for case in cases})
        for value in values:
            own = [case for case in cases if case["group"].get(group_by, "") == value]
            found += _summaries(own, resampling, {group_by: value}, over)
    return found


def run_mean_of(spec: Mapping[str, Any], cases: Iterable[Case]) -> MeanOf:
    """Return what the mean row of a run is of. Raises `UsageError` where `spec` names a label that no case has."""
    labels: dict[str, Any] = {}
    regions: set[str] = set()
    for case in cases:
        for name, values in (case.get("labels") or {}).items():
            labels.setdefault(name, values)
        regions.update(case.get("regions") or ())
    labels.pop(ALL, None)
    return mean_of(spec, labels, regions)


class _Column:
    """The values of one label and measure, case by case, and how many of them are not plain numbers."""

    __slots__ = ("policy", "undefined", "unit", "values")

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.values: list[float] = []
        self.undefined = self.policy = 0

    def add(self, value: float | None, status: str = "ok") -> None:
        if value is None:
            self.undefined += 1
        else:
            self.values.append(value)
            self.policy += status == "policy"


def _summaries(
    cases: Sequence[Case], resampling: Resampling, group: dict[str, str], over: MeanOf
) -> list[dict[str, Any]]:
    columns: dict[Key, _Column] = {}
    for case in cases:
        for record in case["values"]:
            key = (record["label"], record["kind"], record["measure"])
            column = columns.get(key) or columns.setdefault(key, _Column(record["unit"]))
            mark = record["status"] == "policy" and is_mark(bind(key[2], key[1]), record["value"], "policy")
            column.add(None if mark else record["value"], record["status"])
    labels = list(dict.fromkeys(label for case in cases for label in case["labels"]))
    labels += [x for x in dict.fromkeys(label for label, _, _ in columns) if x not in labels]
    labels.sort(key=lambda label: label == ALL)  # stable: `all` stands last
    averaged = [x for x in over.names if x in labels]
    counts = {label: [Counts(**case["counts"][label]) for case in cases if label in case["counts"]] for label in labels}
    sizes = {label: _sizes(own) for label, own in counts.items()}
    order = {label: i for i, label in enumerate(labels)}
    keys = sorted(columns, key=lambda key: order[key[0]])
    whole = {label: together(cases, label) for label in labels}
    pooled = {key: pooled_value(key, whole[key[0]]) for key in keys}
    means: dict[Key, _Column] = {}
    if len(averaged) > 1 or (over.asked and averaged):
        means = _mean_columns(cases, columns, averaged)
        for key in means:
            each = [pooled.get((label, *key[1:])) for label in averaged] if key[0] == MEAN else []
            defined = [v for v in each if v is not None]
            pooled[key] = sum(defined) / len(defined) if defined else None
        columns |= means
        keys += means
    described = _described([columns[key].values for key in keys], resampling)
    return [
        {
            **_head(key, columns[key].unit, group),
            **one,
            "undefined": columns[key].undefined,
            "policy": columns[key].policy,
            **sizes.get(key[0], {"missed": 0, "false_alarms": 0}),
            "pooled": pooled[key],
            **(_of_labels(key, columns, averaged, over) if key in means else {}),
        }
        for key, one in zip(keys, described, strict=True)
    ]


def _of_labels(key: Key, columns: Mapping[Key, _Column], averaged: Sequence[str], over: MeanOf) -> dict[str, Any]:
    """Return what a mean row has beside other rows: the labels that it is of; nnU-Net's mean in its own order.

    That one is over labels: it has no spread over cases, and no value where a label has none in any case.
    """
    if key[1] != "metric" and not over.asked:
        return {}  # of channels
    found: dict[str, Any] = {"mean_of": list(averaged)}
    if not over.by_label or key[1] != "metric":
        return found
    each = [columns[label, *key[1:]].values for label in averaged if (label, *key[1:]) in columns]
    blank = dict.fromkeys(("sd", "p05", "p25", "median", "p75", "p95", "min", "max", "ci", "ci_method"))
    return found | blank | {"mean": mean_by_label(each), "by_label": True}


def said_means(run: Mapping[str, Any]) -> list[str]:
    """Return what the mean rows of a run over cases are of, in words; nothing where it has none that say so."""
    rows = [s for s in run["summary"] if s["over"] == "cases" and "mean_of" in s]
    found = [MeanOf(tuple(s["mean_of"]), bool(s.get("by_label"))) for s in rows]
    return list(dict.fromkeys(map(str, found)))


def mean_by_label(each: Sequence[Sequence[float]]) -> float | None:
    """Return the mean over labels of their means over cases: nnU-Net's foreground_mean, NaN where a label has none."""
    means = [sum(values) / len(values) if values else None for values in each]
    defined = [value for value in means if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(means) else None


def _sizes(counts: Sequence[Counts]) -> dict[str, int]:
    return {
        "missed": sum(c.gt > 0 and c.pred == 0 for c in counts),
        "false_alarms": sum(c.gt == 0 and c.pred > 0 for c in counts),
    }


def _mean_columns(cases: Sequence[Case], columns: Mapping[Key, _Column], averaged: Sequence[str]) -> dict[Key, _Column]:
    """Return the mean rows as columns: each case's own mean over its labels, then over cases.

    A case that was not scored by segcli brings no means: there it is the macro mean over the labels that count.
    """
    units = {key[1:]: column.unit for key, column in columns.items() if key[0] != ALL}
    found = {(MEAN, *measured): _Column(unit) for measured, unit in units.items()}
    for case in cases:
        for label, kind, measure, value in _own_means(case, averaged):
            key = (label, kind, measure)
            if (kind, measure) in units:
                found.setdefault(key, _Column(units[kind, measure])).add(value)
    return dict(sorted(found.items(), key=lambda item: MEANS.index(item[0][0])))


def _own_means(case: Case, averaged: Sequence[str]) -> Iterator[tuple[str, str, str, float | None]]:
    if "means" in case:
        yield from ((m["label"], m["kind"], m["measure"], m["value"]) for m in case["means"])
        return
    own: dict[tuple[str, str], list[float | None]] = {}
    for record in case["values"]:
        if record["label"] in averaged:
            own.setdefault((record["kind"], record["measure"]), []).append(record["value"])
    for (kind, measure), values in own.items():
        defined = [v for v in values if v is not None]
        yield MEAN, kind, measure, sum(defined) / len(defined) if defined else None


def _head(key: Key, unit: str, group: dict[str, str]) -> dict[str, Any]:
    label, kind, measure = key
    head: dict[str, Any] = {"label": label, "kind": kind, "measure": measure, "unit": unit, "over": "cases"}
    return head | ({"group": group} if group else {})


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
        "ci": None if interval is None else [interval.low, interval.high],
        "ci_method": None if interval is None else interval.method,
        "ci_level": resampling.level,
        "resamples": resampling.resamples,
        "seed": resampling.seed,
    }


def together(cases: Sequence[Case], label: str) -> PooledCounts | PooledSums | None:
    """Return what cases have of a label, or of all classes (`all`), as the evidence of one; `None` without a case."""
    own = [case for case in cases if label in (ALL, *case["counts"])]
    if not own:
        return None
    parts = [case.get("parts", {}).get(label) for case in own]
    if label == ALL:
        return PooledSums(parts)
    return PooledCounts([Counts(**case["counts"][label]) for case in own], parts=parts)


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
        value = bound(whole)
    except NoPartsError:
        return None
    return None if value is None else float(value)
