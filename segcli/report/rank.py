"""A ranking of runs as a table with its sentences, as Markdown, CSV and plain data."""

from __future__ import annotations

from typing import Any

from segcli.measure.record import Measure
from segcli.report.diff import MOST, closing, exact, size_or_value, spread_record
from segcli.report.table import DASH, Table, escape_markdown, flat, percent
from segcli.report.tidy import as_csv
from segcli.run.rank import Ranked, Ranking, Row
from segcli.run.statistics import FEW
from segcli.wording import counted

SCHEMA = "segcli.rank/1"


def measure_of(ranking: Ranking, row: Row) -> Measure:
    return next(b.measure for b in ranking.bounds if b.id == f"{row.kind}.{row.measure}")


def row_name(ranking: Ranking, row: Row) -> str:
    shared = sum(b.name == row.measure for b in ranking.bounds) > 1
    name = f"{row.kind}.{row.measure}" if shared else row.measure
    return f"|{name}| {row.unit}".strip() if row.better == "zero" else f"{name} {row.unit}".strip()


def overall_table(ranking: Ranking) -> Table:
    """Return the runs by their mean place over all rows."""
    table = Table(["run", "place", "mean place (ranks)", "first in", "place", "mean place (means)", "first in"])
    ways = (ranking.by_rank, ranking.by_mean)
    for i, run in enumerate(ranking.runs):
        cells = [run]
        for way in ways:
            cells += [str(way.place[i]), f"{way.score[i]:.2f}", _mark(ranking.cases) + percent(way.shares[i][0])]
        if ranking.by_rank.place[i] == 1:
            table.emphasis.add(len(table.rows))
        table.rows.append(cells)
    return table


def ranking_table(ranking: Ranking) -> Table:
    """Return a line for each run of each row, runs from best to worst by the ranks of their cases."""
    headers = [
        "label",
        "measure",
        "run",
        "n",
        "place",
        "mean rank",
        "kept in",
        "place",
        "mean",
        "kept in",
        "better than",
    ]
    table = Table(headers, left=frozenset({0, 1, 2, 10}))
    alpha = 1 - ranking.resampling.level
    for row in ranking.rows:
        measure = measure_of(ranking, row)
        beaten = row.beats(alpha)
        order = [i for _, _, i in sorted((row.by_rank.score[i], run, i) for i, run in enumerate(ranking.runs))]
        for at, i in enumerate(order):
            filled = f"{row.n}*" if row.filled[i] else str(row.n)
            cells = [row.label, row_name(ranking, row)] if at == 0 else ["", ""]
            cells += [ranking.runs[i], filled]
            kept = [_mark(row.n) + _kept(way, i) for way in (row.by_rank, row.by_mean)]
            cells += [str(row.by_rank.place[i]), f"{row.by_rank.score[i]:.2f}", kept[0]]
            cells += [str(row.by_mean.place[i]), size_or_value(row.by_mean.score[i], measure), kept[1]]
            cells.append(", ".join(ranking.runs[j] for j in beaten[i]))
            table.rows.append(cells)
    return table


def _mark(cases: int) -> str:
    """Return what stands before a share of resamples of too few cases."""
    return "~" if cases < FEW else ""


def _kept(ranked: Ranked, i: int) -> str:
    """Return in which share of the resamples a run has the place that it has."""
    return percent(ranked.shares[i][ranked.place[i] - 1])


def footnotes(ranking: Ranking) -> list[str]:
    resampling = ranking.resampling
    alpha = 1 - resampling.level
    tau = [(DASH if w.tau is None else f"{w.tau:.2f}") for w in (ranking.by_rank, ranking.by_mean)]
    notes = [
        "ranks: each case ranks the runs, then their mean (rank then aggregate)",
        "means: the mean over cases, then its rank (aggregate then rank); equal ones share the better place",
        f"first in, kept in: those of {resampling.resamples} resamples of the cases (seed {resampling.seed}) with that",
        f"better than: one-sided Wilcoxon signed-rank test, p corrected for all pairs of a row (Holm) <= {alpha:.3g}",
        f"Kendall's tau of resampled overall rankings with this one, mean: ranks {tau[0]}, means {tau[1]}",
    ]
    filled: dict[str, int] = {}
    for row in ranking.rows:
        for run, count in zip(ranking.runs, row.filled, strict=True):
            filled[run] = filled.get(run, 0) + count
    if any(filled.values()):
        said = ", ".join(f"{run} {count}" for run, count in filled.items() if count)
        notes.append(
            f"* values that stand in for missing and undefined ones: {said}. They are the worst possible (of a "
            "distance the image diagonal; where there is none, the worst of any run), the best where a run is "
            "rightly empty or without a fault; --missing exclude drops such cases"
        )
    excluded = {row.excluded for row in ranking.rows if row.excluded}
    if excluded:
        why = "no run has a value" if ranking.missing == "worst" else "a run has no value"
        are = "is" if max(excluded) == 1 else "are"
        notes.append(
            f"up to {max(excluded)} of {counted(ranking.cases, 'case')} {are} in no rank of a row, as {why} there"
        )
    if ranking.left_out:
        more = f" and {len(ranking.left_out) - MOST} more" if len(ranking.left_out) > MOST else ""
        notes.append(f"not in all runs: {', '.join(ranking.left_out[:MOST])}{more}")
    return [*notes, *ranking.notes, *(f"warning: {text}" for text in ranking.warnings)]


def heading(ranking: Ranking) -> str:
    return f"{len(ranking.runs)} runs · {counted(ranking.cases, 'case')} · {counted(len(ranking.rows), 'ranking')}"


def ranking_text(ranking: Ranking, *, color: bool = False) -> str:
    parts = [heading(ranking), overall_table(ranking).text(color=color), ranking_table(ranking).text(color=color)]
    return "\n".join([*parts, *map(flat, footnotes(ranking))])


def ranking_markdown(ranking: Ranking) -> str:
    notes = "  \n".join(escape_markdown(n) for n in footnotes(ranking))
    tables = [overall_table(ranking).markdown(), ranking_table(ranking).markdown()]
    return "\n\n".join([escape_markdown(heading(ranking)), *tables, notes])


def ranking_csv(ranking: Ranking) -> str:
    """Return one line for each run of each row and, with an empty label, for each run overall."""
    rows: list[list[object]] = []
    head = ["label", "kind", "measure", "unit", "run", "n", "filled", "place_ranks", "mean_rank", "kept_ranks"]
    rows.append([*head, "place_means", "mean", "kept_means", "better_than", "caution"])
    for row in ranking.rows:
        beaten = row.beats(1 - ranking.resampling.level)
        for i, run in enumerate(ranking.runs):
            cells = [row.label, row.kind, row.measure, row.unit, run, row.n, row.filled[i]]
            better = " ".join(ranking.runs[j] for j in beaten[i])
            rows.append([*cells, *_ways(row.by_rank, row.by_mean, i), better, _caution(row.n)])
    for i, run in enumerate(ranking.runs):
        ways = _ways(ranking.by_rank, ranking.by_mean, i)
        rows.append(["", "", "overall", "", run, len(ranking.rows), "", *ways, "", _caution(ranking.cases)])
    return as_csv(rows)


def _caution(cases: int) -> str:
    return f"fewer than {FEW} cases" if cases < FEW else ""


def _ways(by_rank: Ranked, by_mean: Ranked, i: int) -> list[str]:
    return [
        text for way in (by_rank, by_mean) for text in
        (str(way.place[i]), exact(way.score[i]), exact(way.shares[i][way.place[i] - 1]))
    ]  # fmt: skip


def ranking_document(ranking: Ranking, environment: dict[str, Any]) -> dict[str, Any]:
    """Return the ranking as plain data (`segcli.rank/1`); matrices follow `runs`."""
    return {
        "schema": SCHEMA,
        "runs": list(ranking.runs),
        "cases": ranking.cases,
        "missing": ranking.missing,
        "overall": {"rank_then_aggregate": _ranked(ranking.by_rank), "aggregate_then_rank": _ranked(ranking.by_mean)},
        "rows": [_record(row) for row in ranking.rows],
        **closing(ranking, environment),
    }


def _ranked(ranked: Ranked) -> dict[str, Any]:
    return {
        "score": list(ranked.score),
        "place": list(ranked.place),
        "place_shares": [list(row) for row in ranked.shares],
        "tau": {"mean": ranked.tau, "low": ranked.tau_low, "high": ranked.tau_high},
    }


def _record(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "kind": row.kind,
        "measure": row.measure,
        "unit": row.unit,
        "better": row.better,
        "of": "size" if row.better == "zero" else "value",
        "n": row.n,
        "excluded": row.excluded,
        "filled": list(row.filled),
        "values": [spread_record(s) for s in row.spreads],
        "rank_then_aggregate": _ranked(row.by_rank),
        "aggregate_then_rank": _ranked(row.by_mean),
        "significance": {
            "test": "wilcoxon one-sided: the run of the row is better than the run of the column",
            "p": [list(x) for x in row.p],
            "p_holm": [list(x) for x in row.p_holm],
        },
    }
