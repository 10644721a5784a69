"""Several runs ranked: each label and measure in two ways, how stable that is, and which differences are real.

Both ways of a challenge are there, because they can disagree: ranks of each case, then their mean ("rank then
aggregate"), and the mean over cases, then its rank ("aggregate then rank"). Cases are resampled together for
all rows, so the overall ranking has a stability too. Source: Wiesenfarth et al. 2021,
doi:10.1038/s41598-021-82017-6; Maier-Hein et al. 2018, doi:10.1038/s41467-018-07619-7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.measure.record import BoundMeasure
from segcli.run.alignment import (
    TWICE,
    all_perfect,
    diagonal,
    is_unbeaten,
    measures_in_common,
    rows_of,
    shown_unit,
    values_of,
    why_absent,
)
from segcli.run.comparability import Source, check_comparable, other_truths
from segcli.run.noted import warned
from segcli.run.places import Places, Spread, drawn_cases, place_shares, places, spread, taus
from segcli.run.records import Key, Value
from segcli.run.statistics import FEW, Vector, differences, generator, holm, slack, wilcoxon
from segcli.run.summary import Resampling
from segcli.wording import counted

Missing = Literal["worst", "exclude"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One way of ranking: the number that is ranked, the places, and how often each place is taken.

    `shares` has a row for each run and a column for each place. `tau` is the mean over resamples of Kendall's
    tau-b with this ranking, `tau_low` and `tau_high` the ends within which the level's share of them lies.
    """

    score: tuple[float, ...]
    place: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]
    tau: float | None
    tau_low: float | None
    tau_high: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """The runs by one measure of one label; entries of tuples follow `Ranking.runs`.

    `filled` counts the values that stand in for missing and undefined ones. `p[i][j]` is of the one-sided
    test that run i is better than run j, `p_holm` corrected for all pairs of the row; `None` on the diagonal
    and where all values are equal.
    """

    label: str
    kind: str
    measure: str
    unit: str
    better: str
    n: int
    excluded: int
    filled: tuple[int, ...]
    spreads: tuple[Spread, ...]
    by_mean: Ranked
    by_rank: Ranked
    p: tuple[tuple[float | None, ...], ...]
    p_holm: tuple[tuple[float | None, ...], ...]

    def beats(self, alpha: float) -> list[list[int]]:
        """Return, for each run, those that it is significantly better than."""
        return [[j for j, p in enumerate(row) if p is not None and p <= alpha] for row in self.p_holm]


@dataclass(frozen=True)
class Ranking:
    """Runs from best to worst by the mean of their places over all rows (ranks of the cases first)."""

    runs: tuple[str, ...]
    cases: int
    bounds: tuple[BoundMeasure, ...]
    rows: tuple[Row, ...]
    by_mean: Ranked
    by_rank: Ranked
    missing: Missing
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resampling: Resampling


def rank_runs(
    sources: Sequence[Source], *, metrics: str = "", missing: Missing = "worst", resampling: Resampling
) -> Ranking:
    """Rank runs of the same cases.

    A missing or undefined value is the worst possible one, or its case leaves the row for all runs
    (`exclude`). Raises `InputError` where the runs differ in what defines their numbers.
    """
    if len(sources) < 2:
        raise UsageError("one run has no rank.", hint="segcli rank A.json B.json C.json", code="rank.runs")
    # By name: no result depends on the order in which the runs were given.
    sources = sorted(sources, key=lambda s: s.name)
    bounds, left_out = measures_in_common(sources, metrics)
    bounds = [b for b in bounds if b.measure.better != "none"]
    if not bounds:
        raise UsageError(
            "no measure that is asked for has a direction to rank by.", hint="-m dice,hd95", code="rank.measures"
        )
    check_comparable(sources)
    cases = sorted({case for source in sources for case in source.cases})
    columns = [values_of(source, bounds) for source in sources]
    tables = []
    for key, bound in rows_of(sources, bounds):
        own = [c.get(key, {}) for c in columns]
        if any(own):
            tables.append(_table(key, bound, own, sources, cases, missing))
    tables = [t for t in tables if len(t.rows)]
    if not tables:
        raise InputError("no case has a value to rank by.", code="rank.cases")
    overall, rows = _ranked(tables, len(cases), resampling)
    order = sorted(range(len(sources)), key=lambda i: (overall[1].score[i], overall[0].score[i], sources[i].name))
    notes = []
    if len(cases) == 1:
        notes.append("~ one case: every resample is that case, and says nothing of how stable a ranking is")
    elif any(len(t.rows) < FEW for t in tables):
        notes.append(f"~ fewer than {FEW} cases: resamples of so few say little of how stable a ranking is")
    if all((np.abs(t.values - t.values[:, :1]) <= t.room()).all() for t in tables):
        notes.append("all runs have the same values: is one run given several times?")
    if len(sources) == 2:
        notes.append("two runs: segcli diff says more of a pair")
    return Ranking(
        tuple(sources[i].name for i in order),
        len(cases),
        tuple(bounds),
        tuple(_reordered(row, order) for row in rows),
        _reordered_ranked(overall[0], order),
        _reordered_ranked(overall[1], order),
        missing,
        tuple(left_out),
        tuple(notes),
        tuple(_warnings(sources, cases, bounds)),
        resampling,
    )


def _warnings(sources: Sequence[Source], cases: Sequence[str], bounds: Sequence[BoundMeasure]) -> list[str]:
    found = []
    for source in sources:
        found += warned(source.name, source.run.cases)
        silent = [c for c in cases if c not in source.cases and why_absent(source, c) == "not in the run"]
        if silent:
            they = "it is" if len(silent) == 1 else "they are"
            found.append(f"{source.name} says nothing of {counted(len(silent), 'case')}, not even that {they} missing")
        changed = other_truths(sources[0], source)
        if changed:
            cases_have = f"{counted(len(changed), 'case')} {'has' if len(changed) == 1 else 'have'}"
            found.append(f"{cases_have} another ground truth in {source.name} than in {sources[0].name}")
        if all_perfect(source.cases.values(), bounds):
            found.append(f"{source.name}: {TWICE}")
    return found


# --- the values to rank -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """The values of one row, cases x runs, with stand-ins; `rows` says which of all cases they are."""

    key: Key
    unit: str
    bound: BoundMeasure
    values: Vector
    rows: Places
    excluded: int
    filled: tuple[int, ...]

    def bad(self) -> Vector:
        """Return what is smaller for a better value."""
        return {"higher": -self.values, "lower": self.values, "zero": np.abs(self.values)}[self.bound.measure.better]

    def room(self) -> float:
        """Return within what values, and means of them, are equal."""
        return slack(self.values, self.bound.measure.scale)


def _table(
    key: Key,
    bound: BoundMeasure,
    columns: Sequence[Mapping[str, Value]],
    sources: Sequence[Source],
    cases: Sequence[str],
    missing: Missing,
) -> _Table:
    """Return the values of a row; a case that tells no run from another by a value or by silence is left out."""
    found: list[list[float | None]] = []
    rows, excluded = [], 0
    for index, case in enumerate(cases):
        records = [column.get(case) for column in columns]
        values = [None if r is None or r.value is None else float(r.value) for r in records]
        some = [v for v in values if v is not None]
        if missing == "exclude" and len(some) < len(values):
            excluded += 1
            continue
        if not some:
            # Where some run is rightly silent and another is not, that much is known. (Of an error with a
            # sign nothing stands for a false alarm, as in the policies for empty masks.)
            right = [_is_right(bound, case, c, s) for c, s in zip(columns, sources, strict=True)]
            if bound.measure.better == "zero" or all(right) or not any(right):
                excluded += 1
                continue
        rows.append(index)
        found.append(values)
    defined = [abs(v) if bound.measure.better == "zero" else v for values in found for v in values if v is not None]
    unit = shown_unit(columns)
    filled = [0] * len(sources)
    matrix = np.empty((len(rows), len(sources)))
    for at, (index, values) in enumerate(zip(rows, found, strict=True)):
        for run, value in enumerate(values):
            if value is None:
                filled[run] += 1
                case = cases[index]
                if _is_right(bound, case, columns[run], sources[run]):
                    matrix[at, run] = _best(bound, defined)
                else:
                    matrix[at, run] = _worst(bound, defined, _diagonal(case, sources, unit))
            else:
                matrix[at, run] = value
    return _Table(key, unit, bound, matrix, np.asarray(rows, dtype=np.int64), excluded, tuple(filled))


def _is_right(bound: BoundMeasure, case: str, column: Mapping[str, Value], source: Source) -> bool:
    """Return whether a run has no value as it did nothing wrong, such as to leave empty what is not in the gt."""
    value = column.get(case)
    if value is None:
        return case in source.cases
    return value.why == "both_empty" or is_unbeaten(bound, source.cases[case], value)


def _best(bound: BoundMeasure, defined: Sequence[float]) -> float:
    best = bound.measure.best()
    if best is not None and math.isfinite(best):
        return best
    return max(defined, default=0.0) if bound.measure.better == "higher" else min(defined, default=0.0)


def _worst(bound: BoundMeasure, defined: Sequence[float], longest: float | None) -> float:
    """Return the worst value of a measure; of one that has none, the worst that any run has in this row.

    A run file can hold what no image does: nothing stands for a miss that is better than a value beside it.
    """
    worst = bound.worst(longest)
    found = [*defined, *([] if worst is None else [worst])]
    return min(found, default=0.0) if bound.measure.better == "higher" else max(found, default=1.0)


def _diagonal(case: str, sources: Sequence[Source], unit: str) -> float | None:
    found = (diagonal(source.cases[case], unit) for source in sources if case in source.cases)
    return next((length for length in found if length is not None), None)


# --- the two rankings -------------------------------------------------------------------------------


def _ranked(tables: Sequence[_Table], cases: int, resampling: Resampling) -> tuple[tuple[Ranked, Ranked], list[Row]]:
    """Return the overall ranking and every row, each in both ways, with the stability under resampled cases."""
    prepared = [(t, t.bad(), places(t.bad(), t.room()).astype(np.float64)) for t in tables]
    runs = prepared[0][1].shape[1]
    rooms = [(t.room(), slack(ranks)) for t, _, ranks in prepared]
    taken: list[tuple[list[Places], list[Places]]] = [([], []) for _ in tables]
    overall: tuple[list[Places], list[Places]] = ([], [])
    rng = generator(resampling.seed, "rank")
    for drawn in drawn_cases(rng, cases, resampling.resamples):
        sums = [np.zeros((len(drawn), runs)) for _ in range(2)]
        counted = np.zeros((len(drawn), 1))
        for (table, bad, ranks), room, kept in zip(prepared, rooms, taken, strict=True):
            weights = drawn[:, table.rows]
            total = weights.sum(axis=1, keepdims=True)
            has = total[:, 0] > 0  # a resample may hold no case of a small row
            counted += has[:, None]
            for way, scores in enumerate((bad, ranks)):
                own = places(weights[has] @ scores / total[has], room[way])
                kept[way].append(own)
                sums[way][has] += own
        some = counted[:, 0] > 0
        for way in range(2):
            means = sums[way][some] / counted[some]
            overall[way].append(places(means, slack(means)))
    rows = [_row(*p, room, kept, resampling) for p, room, kept in zip(prepared, rooms, taken, strict=True)]
    sides = []
    for way in range(2):
        means = np.mean([(r.by_mean, r.by_rank)[way].place for r in rows], axis=0)
        sides.append(_stable(means, means, slack(means), overall[way], resampling))
    return (sides[0], sides[1]), rows


def _stable(bad: Vector, score: Vector, room: float, resampled: Sequence[Places], resampling: Resampling) -> Ranked:
    place = places(bad, room)
    found = np.concatenate(resampled) if resampled else np.empty((0, len(bad)), dtype=np.int64)
    tau = taus(found, place)
    tau = tau[~np.isnan(tau)]
    tail = (1 - resampling.level) / 2
    ends = [float(q) for q in np.quantile(tau, (tail, 1 - tail))] if tau.size else [None, None]
    return Ranked(
        tuple(float(v) for v in score),
        tuple(int(p) for p in place),
        tuple(tuple(float(s) for s in row) for row in place_shares(found)),
        float(tau.mean()) if tau.size else None,
        ends[0],
        ends[1],
    )


def _row(
    table: _Table,
    bad: Vector,
    ranks: Vector,
    room: tuple[float, float],
    kept: tuple[list[Places], list[Places]],
    at: Resampling,
) -> Row:
    label, kind, measure = table.key
    shown = np.abs(table.values) if table.bound.measure.better == "zero" else table.values
    runs = bad.shape[1]
    pairs = [(i, j) for i in range(runs) for j in range(runs) if i != j]
    scale = table.bound.measure.scale
    p = [wilcoxon(differences(bad[:, i], bad[:, j], scale), "greater") for i, j in pairs]
    return Row(
        label=label,
        kind=kind,
        measure=measure,
        unit=table.unit,
        better=table.bound.measure.better,
        n=len(table.rows),
        excluded=table.excluded,
        filled=table.filled,
        spreads=tuple(spread(column) for column in shown.T),
        by_mean=_stable(bad.mean(axis=0), shown.mean(axis=0), room[0], kept[0], at),
        by_rank=_stable(ranks.mean(axis=0), ranks.mean(axis=0), room[1], kept[1], at),
        p=_matrix(runs, pairs, p),
        p_holm=_matrix(runs, pairs, holm(p)),
    )


def _matrix(
    runs: int, pairs: Sequence[tuple[int, int]], values: Sequence[float | None]
) -> tuple[tuple[float | None, ...], ...]:
    known = dict(zip(pairs, values, strict=True))
    return tuple(tuple(known.get((i, j)) for j in range(runs)) for i in range(runs))


def _reordered(row: Row, order: Sequence[int]) -> Row:
    return replace(
        row,
        filled=tuple(row.filled[i] for i in order),
        spreads=tuple(row.spreads[i] for i in order),
        by_mean=_reordered_ranked(row.by_mean, order),
        by_rank=_reordered_ranked(row.by_rank, order),
        p=tuple(tuple(row.p[i][j] for j in order) for i in order),
        p_holm=tuple(tuple(row.p_holm[i][j] for j in order) for i in order),
    )


def _reordered_ranked(ranked: Ranked, order: Sequence[int]) -> Ranked:
    return replace(
        ranked,
        score=tuple(ranked.score[i] for i in order),
        place=tuple(ranked.place[i] for i in order),
        shares=tuple(ranked.shares[i] for i in order),
    )
