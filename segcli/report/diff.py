"""The comparison of two runs as a table with its sentences, as Markdown, CSV and plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segcli.measure.record import Measure
from segcli.measure.why import Why, short
from segcli.report.table import DASH, Table, escape_markdown, flat, number
from segcli.report.tidy import as_csv
from segcli.run.diff import Difference, Lone, Row
from segcli.run.places import Spread
from segcli.run.statistics import FEW, Interval
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.run.rank import Ranking

SCHEMA = "segcli.diff/1"
#: As many names as a sentence lists.
MOST = 8
#: With less pairs than this Wilcoxon's test cannot reach p = 0.05.
TOO_FEW = 6


def measure_of(difference: Difference, row: Row) -> Measure:
    return next(b.measure for b in difference.bounds if b.id == f"{row.kind}.{row.measure}")


def row_name(difference: Difference, row: Row) -> str:
    """Return a measure as a row shows it: its id where a metric and a loss share the name, |.| where 0 is best."""
    shared = sum(b.name == row.measure for b in difference.bounds) > 1
    name = f"{row.kind}.{row.measure}" if shared else row.measure
    name = f"|{name}|" if row.of == "size" else name
    return f"{name} {row.unit}".strip()


def heading(difference: Difference) -> str:
    return f"A {difference.a} · B {difference.b}   {counted(difference.cases, 'case')} in both"


def difference_table(difference: Difference) -> Table:
    level = f"{difference.resampling.level * 100:g}"
    table = Table(
        ["label", "measure", "n", "mean A", "mean B", f"B - A [{level}% CI]", "p", "p Holm", ""],
        left=frozenset({0, 1, 8}),
    )
    for row in difference.rows:
        measure = measure_of(difference, row)
        cells = [row.label, row_name(difference, row), f"{row.n}{'*' if row.lone else ''}"]
        cells += [size_or_value(s.mean, measure) for s in (row.a, row.b)]
        cells.append(_change(row, measure))
        cells += [p_text(row.p), p_text(row.p_holm), row.verdict]
        if row.label == "mean":
            table.emphasis.add(len(table.rows))
        table.rows.append(cells)
    return table


def size_or_value(value: float | None, measure: Measure) -> str:
    """Return a value of a row; where 0 is best rows hold sizes, which have no sign."""
    text = number(value, measure)
    return text.removeprefix("+") if measure.better == "zero" else text


def signed(value: float, measure: Measure) -> str:
    text = number(value, measure)
    return text if text.startswith(("-", "+")) or not text.strip("0.%") else f"+{text}"


def _change(row: Row, measure: Measure) -> str:
    if row.mean is None:
        return DASH
    text = signed(row.mean, measure)
    if row.interval is not None:
        ends = f"[{signed(row.interval.low, measure)}, {signed(row.interval.high, measure)}]"
        text += f" {'~' if row.n < FEW else ''}{ends}"
    return text


def p_text(p: float | None) -> str:
    if p is None:
        return DASH
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def footnotes(difference: Difference) -> list[str]:
    """Return what moved, what is in one run only, and how to read the table."""
    notes = moved_lines(difference)
    for cases, words in ((difference.gone, "lost, in A only"), (difference.new, "new, in B only")):
        if cases:
            notes.append(f"{words}: " + _some([f"{case} ({why})" for case, why in cases]))
    notes += _lone(difference)
    notes += [*difference.notes]
    if difference.left_out:
        notes.append(f"not in both runs: {_some(list(difference.left_out))}")
    if any(row.of == "size" for row in difference.rows):
        notes.append("|measure|: 0 is best, so sizes without their sign are compared")
    if any(row.interval is not None and row.n < FEW for row in difference.rows):
        notes.append(f"~ fewer than {FEW} pairs: the interval is too short")
    if any(0 < row.n < TOO_FEW for row in difference.rows):
        notes.append(f"fewer than {TOO_FEW} pairs cannot be told from chance at 0.05")
    tests = sum(row.p is not None for row in difference.rows)
    level = f"{difference.resampling.level * 100:g}"
    if tests:
        notes.append(
            f"better, worse: Wilcoxon's p corrected for {tests} test{'s (Holm)' if tests > 1 else ''} is at most "
            f"{1 - difference.resampling.level:.3g}, the {level}% interval of the mean leaves out 0 and the median "
            "does not lie on its other side; else no evidence"
        )
    else:
        notes.append("no test: in every row all pairs are equal")
    return notes + [f"warning: {text}" for text in difference.warnings]


def moved_lines(difference: Difference) -> list[str]:
    """Return a line for each label: the cases that moved most by its first measure with a direction."""
    lines = []
    seen = set()
    for row in difference.rows:
        if row.label in seen or row.label == "mean" or row.better not in ("higher", "lower"):
            continue
        seen.add(row.label)
        measure = measure_of(difference, row)
        if row.moved:
            shown = [
                f"{m.case} {number(m.a, measure)} -> {number(m.b, measure)} ({signed(m.change, measure)})"
                for m in row.moved[:5]
            ]
            lines.append(f"moved most ({row.label} {row.measure}): " + " · ".join(shown))
        if row.gained is not None and row.n:
            better = counted(row.gained, "case")
            lines.append(f"{row.label} {row.measure}: {better} better, {row.lost} worse, {row.equal} the same")
    return lines


def _lone(difference: Difference) -> list[str]:
    """Return a sentence for each set of cases that have a value in one run only, with the rows it concerns."""
    grouped: dict[tuple[str, tuple[tuple[str, str, str], ...]], list[str]] = {}
    for row in difference.rows:
        if row.lone:
            facts = tuple((x.case, side(x), x.why) for x in row.lone)
            grouped.setdefault((row.label, facts), []).append(row.measure.split(":")[0])
    notes = []
    for (label, facts), measures in grouped.items():
        counted = Counter(facts_[1:] for facts_ in facts)
        parts = [
            f"{n} undefined in {run} ({short(why)})"
            if why != Why.OTHER_LABELS
            else f"{n} with a value of other labels in A than in B"
            for (run, why), n in counted.items()
        ]
        names = _some([case for case, _, _ in facts], 4)
        notes.append(f"* {label} {', '.join(measures)}: {'; '.join(parts)}, in no pair: {names}")
    return notes


def side(lone: Lone) -> str:
    """Return the run in which a case has no value; both have one where a mean is over other labels."""
    return "A" if lone.a is None else "B" if lone.b is None else "A and B"


def _some(names: Sequence[str], most: int = MOST) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cases_table(difference: Difference) -> Table:
    """Return one line for each case of each row: what `--all` adds."""
    table = Table(["label", "measure", "case", "A", "B", "B - A"], left=frozenset({0, 1, 2}))
    for row in difference.rows:
        measure = measure_of(difference, row)
        for m in row.moved:
            values = [number(m.a, measure), number(m.b, measure), signed(m.change, measure)]
            table.rows.append([row.label, row_name(difference, row), m.case, *values])
        for x in row.lone:
            values = [number(x.a, measure), number(x.b, measure), DASH]
            table.rows.append([row.label, row_name(difference, row), x.case, *values])
    return table


def difference_text(difference: Difference, *, every: bool = False, color: bool = False) -> str:
    parts = [flat(heading(difference)), difference_table(difference).text(color=color)]
    if every:
        parts.append(cases_table(difference).text(color=color))
    return "\n".join([*parts, *map(flat, footnotes(difference))])


def difference_markdown(difference: Difference, *, every: bool = False) -> str:
    parts = [escape_markdown(heading(difference)), difference_table(difference).markdown()]
    if every:
        parts.append(cases_table(difference).markdown())
    return "\n\n".join([*parts, "  \n".join(escape_markdown(n) for n in footnotes(difference))])


def difference_csv(difference: Difference, *, every: bool = False) -> str:
    """Return one line for each row, or with `every` for each case of each row, numbers at full precision."""
    rows: list[Sequence[object]] = []
    if every:
        rows.append(["label", "kind", "measure", "of", "case", "a", "b", "change", "why"])
        for row in difference.rows:
            lead = [row.label, row.kind, row.measure, row.of]
            rows += [[*lead, m.case, *map(exact, (m.a, m.b, m.change)), ""] for m in row.moved]
            rows += [[*lead, x.case, *map(exact, (x.a, x.b, None)), x.why] for x in row.lone]
        return as_csv(rows)
    head = ["label", "kind", "measure", "of", "unit", "n", "mean_a", "mean_b", "mean", "ci_low", "ci_high"]
    rows.append([*head, "p", "p_holm", "verdict", "gained", "lost", "equal", "lone", "undefined", "mean_of"])
    for r in difference.rows:
        ends = (None, None) if r.interval is None else (r.interval.low, r.interval.high)
        numbers = map(exact, (r.a.mean, r.b.mean, r.mean, *ends, r.p, r.p_holm))
        counts = ["" if c is None else c for c in (r.gained, r.lost)]
        lead = [r.label, r.kind, r.measure, r.of, r.unit, str(r.n)]
        rows.append([*lead, *numbers, r.verdict, *counts, r.equal, len(r.lone), r.undefined, r.mean_of])
    return as_csv(rows)


def exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def difference_document(difference: Difference, environment: dict[str, Any]) -> dict[str, Any]:
    """Return the comparison as plain data (`segcli.diff/1`)."""
    return {
        "schema": SCHEMA,
        "a": difference.a,
        "b": difference.b,
        "cases": difference.cases,
        "rows": [_record(row) for row in difference.rows],
        "new": [{"case": case, "why": why} for case, why in difference.new],
        "gone": [{"case": case, "why": why} for case, why in difference.gone],
        **closing(difference, environment),
    }


def closing(found: Difference | Ranking, environment: dict[str, Any]) -> dict[str, Any]:
    """Return what ends the JSON of runs side by side: what was left out and said, and how intervals were made."""
    resampling = found.resampling
    return {
        "left_out": list(found.left_out),
        "notes": [{"level": "note", "text": n} for n in found.notes]
        + [{"level": "warning", "text": n} for n in found.warnings],
        "ci_level": resampling.level,
        "resamples": resampling.resamples,
        "seed": resampling.seed,
        "correction": "holm",
        "environment": environment,
    }


def _record(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "kind": row.kind,
        "measure": row.measure,
        "unit": row.unit,
        "better": row.better,
        "of": row.of,
        "n": row.n,
        "a": spread_record(row.a),
        "b": spread_record(row.b),
        "mean": row.mean,
        "median": row.median,
        **interval_record(row.interval),
        "p": row.p,
        "p_holm": row.p_holm,
        "verdict": row.verdict,
        "gained": row.gained,
        "lost": row.lost,
        "equal": row.equal,
        "undefined": row.undefined,
        "lone": [asdict(x) for x in row.lone],
        "moved": [asdict(m) for m in row.moved],
        **({"mean_of": row.mean_of} if row.mean_of else {}),
    }


def interval_record(interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {"ci": None, "ci_method": None}
    return {"ci": [interval.low, interval.high], "ci_method": interval.method}


def spread_record(spread: Spread) -> dict[str, Any]:
    return {k: v for k, v in asdict(spread).items() if k != "n"}
