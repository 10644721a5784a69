"""Summaries of a run: each label and measure over cases, with an interval, spread, and what was undefined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segcli.averaging import ALL, MEAN
from segcli.measure import bind
from segcli.pair import Counts
from segcli.pooled import NoGridError, PooledCounts
from segcli.statistics import generator, mean_interval

Case = Mapping[str, Any]
#: What a summary is of: label, kind, canonical measure.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made; `seed` makes them reproducible."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


def summaries(cases: Sequence[Case], resampling: Resampling, group_by: str | None = None) -> list[dict[str, Any]]:
    """Return the summary records of a run's cases, and with `group_by` those of each value of that column.

    A record is of one label, kind and measure over all cases that have it: labels first in the order in
    which the cases have them, then `all` (all classes at once) and the mean over plain labels.
    """
    found = _summaries(cases, resampling, {})
    if group_by is not None:
        values = sorted({case["group"].get(group_by, "") for case in cases})
        for value in values:
            own = [case for case in cases if case["group"].get(group_by, "") == value]
            found += _summaries(own, resampling, {group_by: value})
    return found


def _summaries(cases: Sequence[Case], resampling: Resampling, group: dict[str, str]) -> list[dict[str, Any]]:
    units: dict[Key, str] = {}
    columns: dict[Key, list[Mapping[str, Any]]] = {}
    for case in cases:
        for record in case["values"]:
            key = (record["label"], record["kind"], record["measure"])
            columns.setdefault(key, []).append(record)
            units.setdefault(key, record["unit"])
    labels = list(dict.fromkeys(label for case in cases for label in case["labels"]))
    labels += [x for x in dict.fromkeys(label for label, _, _ in columns) if x not in labels]
    labels.sort(key=lambda label: label == ALL)  # stable: `all` stands last
    counts = {label: [Counts(**c["counts"][label]) for c in cases if label in c["counts"]] for label in labels}
    plain = [x for x in labels if x != ALL and not any(x in case.get("regions", ()) for case in cases)]
    found = []
    pooled: dict[Key, float | None] = {}
    order = {label: i for i, label in enumerate(labels)}
    for key in sorted(columns, key=lambda key: order[key[0]]):
        label = key[0]
        records = columns[key]
        values = [r["value"] for r in records if r["value"] is not None]
        pooled[key] = None if label == ALL else pooled_value(key, counts.get(label, []))
        sizes = counts.get(label, [])
        found.append(
            _head(key, units[key], group)
            | describe(values, key, resampling, group)
            | {
                "undefined": len(records) - len(values),
                "policy": sum(r["status"] == "policy" for r in records),
                "missed": sum(c.gt > 0 and c.pred == 0 for c in sizes),
                "false_alarms": sum(c.gt == 0 and c.pred > 0 for c in sizes),
                "pooled": pooled[key],
            }
        )
    if len(plain) > 1:
        found += [_mean_record(cases, key, units, pooled, plain, resampling, group) for key in _measured(columns)]
    return found


def _measured(columns: Iterable[Key]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((kind, measure) for label, kind, measure in columns if label != ALL))


def _mean_record(
    cases: Sequence[Case],
    measured: tuple[str, str],
    units: Mapping[Key, str],
    pooled: Mapping[Key, float | None],
    plain: Sequence[str],
    resampling: Resampling,
    group: dict[str, str],
) -> dict[str, Any]:
    """Return the record of a measure's mean over plain labels: each case's own mean, then over cases."""
    kind, measure = measured
    own = [case_mean(case, kind, measure, plain) for case in cases]
    values = [v for v in own if v is not None]
    parts = [pooled.get((label, kind, measure)) for label in plain]
    defined = [v for v in parts if v is not None]
    key = (MEAN, kind, measure)
    unit = next(u for k, u in units.items() if k[1:] == measured)
    return (
        _head(key, unit, group)
        | describe(values, key, resampling, group)
        | {
            "undefined": len(own) - len(values),
            "policy": 0,
            "missed": 0,
            "false_alarms": 0,
            "pooled": sum(defined) / len(defined) if defined else None,
        }
    )


def case_mean(case: Case, kind: str, measure: str, plain: Sequence[str]) -> float | None:
    """Return a case's macro mean of a measure over the plain labels that have a value."""
    chosen = [
        r["value"]
        for r in case["values"]
        if r["kind"] == kind and r["measure"] == measure and r["label"] in plain and r["value"] is not None
    ]
    return sum(chosen) / len(chosen) if chosen else None


def _head(key: Key, unit: str, group: dict[str, str]) -> dict[str, Any]:
    label, kind, measure = key
    head: dict[str, Any] = {"label": label, "kind": kind, "measure": measure, "unit": unit, "over": "cases"}
    return head | ({"group": group} if group else {})


def describe(values: Sequence[float], key: Key, resampling: Resampling, group: Mapping[str, str]) -> dict[str, Any]:
    """Return the number of values, their mean with its interval, their spread and quantiles; null without values."""
    x = np.asarray(values, dtype=np.float64)
    names = ("p05", "p25", "median", "p75", "p95")
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = [float(q) for q in np.quantile(x, shares)] if x.size else [None] * len(shares)
    rng = generator(resampling.seed, *key, *(f"{k}={v}" for k, v in group.items()))
    interval = mean_interval(x, rng, level=resampling.level, resamples=resampling.resamples)
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


def pooled_value(key: Key, counts: Sequence[Counts]) -> float | None:
    """Return a measure of counts from the counts of all cases summed; `None` for any other measure."""
    if not counts or key[1] != "metric":
        return None
    bound = bind(key[2], "metric")
    if bound.over_classes or bound.measure.reads != "labels":
        return None
    try:
        value = bound(PooledCounts(counts))
    except NoGridError:
        return None
    return None if value is None else float(value)
