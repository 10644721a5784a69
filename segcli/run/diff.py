"""Two runs of the same cases: what changed for each label and measure, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from segcli.errors import InputError
from segcli.measure.record import BoundMeasure
from segcli.run.alignment import (
    TWICE,
    all_perfect,
    measures_in_common,
    rows_of,
    shown_unit,
    values_of,
    why_absent,
)
from segcli.run.comparability import Source, check_comparable, other_truths
from segcli.run.noted import warned
from segcli.run.places import Spread, spread
from segcli.run.records import Key, Value
from segcli.run.statistics import Interval, differences, generator, holm, paired
from segcli.run.summary import Resampling, mean_by_label
from segcli.scoring.means import MEAN, MeanOf
from segcli.wording import counted

Verdict = Literal["better", "worse", "changed", "no evidence"]
Sort = Literal["delta", "worse", "better", "case"]
#: As many cases as are shown of those that moved most.
MOST = 5


@dataclass(frozen=True, slots=True)
class Moved:
    """A case's values in both runs; `change` is b - a, or |b| - |a| where 0 is best."""

    case: str
    a: float
    b: float
    change: float


@dataclass(frozen=True, slots=True)
class Lone:
    """A case whose value is undefined in one run only: it is in no pair."""

    case: str
    a: float | None
    b: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one label in both runs, over the cases that have a value in both.

    Where 0 is best (`of` is `size`) all numbers are of |value|. `p` is of Wilcoxon's signed-rank test,
    `p_holm` is corrected for all rows. `gained` and `lost` count the cases that got
    better and worse, `None` where no direction is better.
    """

    label: str
    kind: str
    measure: str
    unit: str
    better: str
    of: Literal["value", "size"]
    a: Spread
    b: Spread
    mean: float | None
    median: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: Verdict
    gained: int | None
    lost: int | None
    equal: int
    lone: tuple[Lone, ...]
    undefined: int
    moved: tuple[Moved, ...]
    #: Of the row of means, what they are of.
    mean_of: str = ""

    @property
    def n(self) -> int:
        return self.a.n


@dataclass(frozen=True)
class Difference:
    """Two runs compared; `new` and `gone` are cases of one run only, with what the other says of them."""

    a: str
    b: str
    cases: int
    bounds: tuple[BoundMeasure, ...]
    rows: tuple[Row, ...]
    new: tuple[tuple[str, str], ...]
    gone: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resampling: Resampling


def compare_runs(
    a: Source, b: Source, *, metrics: str = "", sort: Sort = "delta", every: bool = False, resampling: Resampling
) -> Difference:
    """Compare run b with run a, case by case.

    `every` keeps every case of every row, in the order of `sort`, instead of those that moved most. Raises
    `InputError` where the runs differ in what defines their numbers.
    """
    bounds, left_out = measures_in_common([a, b], metrics)
    if not metrics:
        bounds = [x for x in bounds if x.measure.better != "none"] or bounds
    check_comparable([a, b])
    shared = [case for case in a.cases if case in b.cases]
    if not shared:
        raise InputError(f"{a.name} and {b.name} have no case in common.", code="run.cases")
    columns = [values_of(source, bounds) for source in (a, b)]
    notes = []
    rows = []
    keys = rows_of([a, b], bounds)
    for key, bound in keys:
        mine, its = (c.get(key, {}) for c in columns)
        if mine and its:
            rows.append(_row(key, bound, _pairs(mine, its, shared), shown_unit([mine, its]), resampling))
    for name, other in ((a, b), (b, a)):
        extra = [x for x in name.labels if x not in other.labels]
        if extra:
            notes.append(f"label {', '.join(extra)}: in {name.name} only, not compared")
    over = a.mean_of
    if over.by_label != b.mean_of.by_label and over.shown and b.mean_of.shown:
        notes.append(f"mean: not compared, as A has the {over} and B the {b.mean_of}")
    elif over.shown and set(over.names) == set(b.mean_of.names):
        means = [_mean_row(over, bound, columns, shared, resampling) for bound in bounds]
        rows += [row for row in means if row is not None]
        if any(row is not None for row in means):
            notes.append(str(over))
    if not rows:
        raise InputError(
            f"{a.name} and {b.name} have no label in common.",
            hint=f"{', '.join(a.labels) or 'none'} in {a.name}; {', '.join(b.labels) or 'none'} in {b.name}",
            code="run.labels",
        )
    warnings = [*warned(a.name, a.run.cases), *warned(b.name, b.run.cases)]
    changed = other_truths(a, b)
    if changed:
        have = "has" if len(changed) == 1 else "have"
        some = ", ".join(changed[:MOST])
        warnings.append(f"{counted(len(changed), 'case')} {have} another ground truth in {b.name}: {some}")
    warnings += [f"{source.name}: {TWICE}" for source in (a, b) if all_perfect(source.cases.values(), bounds)]
    corrected = holm([row.p for row in rows])
    alpha = 1 - resampling.level
    return Difference(
        a.name,
        b.name,
        len(shared),
        tuple(bounds),
        tuple(
            replace(row, p_holm=p, verdict=_verdict(row, p, alpha), moved=_chosen(row, sort, every=every))
            for row, p in zip(rows, corrected, strict=True)
        ),
        tuple((case, why_absent(a, case)) for case in b.cases if case not in a.cases),
        tuple((case, why_absent(b, case)) for case in a.cases if case not in b.cases),
        tuple(left_out),
        tuple(notes),
        tuple(warnings),
        resampling,
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The values of the cases that have both, and the others."""

    cases: tuple[str, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    lone: tuple[Lone, ...]
    undefined: int


def _pairs(a: Mapping[str, Value], b: Mapping[str, Value], shared: Sequence[str]) -> _Pairs:
    cases, mine, its, lone, undefined = [], [], [], [], 0
    for case in shared:
        # A label that a case of one run lacks is empty in both its files.
        left, right = a.get(case, _ABSENT), b.get(case, _ABSENT)
        x, y = left.value, right.value
        if x is not None and y is not None:
            cases.append(case)
            mine.append(float(x))
            its.append(float(y))
        elif x is None and y is None:
            undefined += 1
        else:
            lone.append(Lone(case, x, y, (left if x is None else right).why))
    return _Pairs(tuple(cases), tuple(mine), tuple(its), tuple(lone), undefined)


_ABSENT = Value("", "metric", "", None, "", "undefined", "both_empty")


def _mean_pairs(a: Sequence[Mapping[str, Value]], b: Sequence[Mapping[str, Value]], shared: Sequence[str]) -> _Pairs:
    """Return each case's means over labels; where other labels have a value in each run there is no pair."""
    cases, mine, its, lone, undefined = [], [], [], [], 0
    for case in shared:
        records = [[column.get(case, _ABSENT) for column in side] for side in (a, b)]
        values = [[v.value for v in side] for side in records]
        defined = [[v is not None for v in side] for side in values]
        x, y = (_mean([v for v in side if v is not None]) for side in values)
        if x is None and y is None:
            undefined += 1
        elif x is None or y is None or defined[0] != defined[1]:
            lone.append(Lone(case, x, y, _why_no_mean(records[0 if x is None else 1], x, y)))
        else:
            cases.append(case)
            mine.append(x)
            its.append(y)
    return _Pairs(tuple(cases), tuple(mine), tuple(its), tuple(lone), undefined)


def _mean_row(
    over: MeanOf,
    bound: BoundMeasure,
    columns: Sequence[Mapping[Key, Mapping[str, Value]]],
    shared: Sequence[str],
    resampling: Resampling,
) -> Row | None:
    """Return the row of the means over labels; `None` where there is none.

    nnU-Net's mean is over the means of labels. Where every label has a value in every case that is the same number,
    else it is no mean over cases: then it has neither a test nor an interval.
    """
    kind, name = bound.measure.kind, bound.name
    first, second = ([column.get((x, kind, name), {}) for x in over.names] for column in columns)
    if not any(first) or bound.measure.better == "none":
        return None
    pairs = _mean_pairs(first, second, shared)
    row = _row((MEAN, kind, name), bound, pairs, shown_unit([*first, *second]), resampling)
    row = replace(row, mean_of=str(replace(over, by_label=over.by_label and kind == "metric")))
    if not over.by_label or kind != "metric":
        return row
    each = [_pairs(mine, its, shared) for mine, its in zip(first, second, strict=True)]
    sized = bound.measure.better == "zero"
    means = [mean_by_label([[abs(v) if sized else v for v in getattr(p, side)] for p in each]) for side in ("a", "b")]
    if all(m is not None and s.mean is not None and np.isclose(m, s.mean, rtol=1e-9, atol=0)
           for m, s in zip(means, (row.a, row.b), strict=True)):  # fmt: skip
        return row
    before, after = means
    change = None if before is None or after is None else after - before
    a, b = (replace(spread(np.array([])), n=row.n, mean=m) for m in means)
    return replace(row, a=a, b=b, mean=change, median=None, interval=None, p=None)


def _why_no_mean(silent: Sequence[Value], x: float | None, y: float | None) -> str:
    """Return why a case is in no pair of means: where one run has no mean, why its labels have no value."""
    if x is not None and y is not None:
        return "other_labels"
    whys = {value.why for value in silent}
    if len(whys) > 1:  # what is in neither file is not what went wrong
        whys.discard("both_empty")
    return whys.pop() if len(whys) == 1 else ""


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _row(key: Key, bound: BoundMeasure, pairs: _Pairs, unit: str, resampling: Resampling) -> Row:
    label, kind, measure = key
    better = bound.measure.better
    a, b = np.asarray(pairs.a, dtype=np.float64), np.asarray(pairs.b, dtype=np.float64)
    x, y = (np.abs(a), np.abs(b)) if better == "zero" else (a, b)
    rng, scale = generator(resampling.seed, "diff", *key), bound.measure.scale
    found = paired(x, y, rng, level=resampling.level, resamples=resampling.resamples, scale=scale)
    change = differences(x, y, scale)
    up, down = int((change > 0).sum()), int((change < 0).sum())
    return Row(
        label=label,
        kind=kind,
        measure=measure,
        unit=unit,
        better=better,
        of="size" if better == "zero" else "value",
        a=spread(x),
        b=spread(y),
        mean=None if found is None else found.mean,
        median=None if found is None else found.median,
        interval=None if found is None else found.interval,
        p=None if found is None else found.p,
        p_holm=None,
        verdict="no evidence",
        gained=None if better == "none" else up if better == "higher" else down,
        lost=None if better == "none" else down if better == "higher" else up,
        equal=change.size - up - down,
        lone=pairs.lone,
        undefined=pairs.undefined,
        moved=tuple(
            Moved(case, p, q, float(d)) for case, p, q, d in zip(pairs.cases, pairs.a, pairs.b, change, strict=True)
        ),
    )


def _verdict(row: Row, p: float | None, alpha: float) -> Verdict:
    """Return what the numbers allow to say: the corrected test, the interval and the median have to agree."""
    ends = row.interval
    if p is None or ends is None or row.mean is None or row.median is None or p > alpha:
        return "no evidence"
    if ends.low <= 0 <= ends.high or row.mean * row.median < 0:
        return "no evidence"
    if row.better == "none":
        return "changed"
    return "better" if (row.mean > 0) == (row.better == "higher") else "worse"


def _chosen(row: Row, sort: Sort, *, every: bool) -> tuple[Moved, ...]:
    """Return the cases in the order asked for, ties by name: all of them, or the first of those that moved."""
    good = 1.0 if row.better == "higher" else -1.0
    orders = {
        "delta": lambda m: (-abs(m.change), m.case),
        "worse": lambda m: (good * m.change, m.case),
        "better": lambda m: (-good * m.change, m.case),
        "case": lambda m: m.case,
    }
    found = sorted(row.moved, key=orders[sort])
    if every:
        return tuple(found)
    signs = {"worse": -good, "better": good}
    moved = [m for m in found if m.change * signs.get(sort, m.change) > 0]
    return tuple(moved[:MOST])
