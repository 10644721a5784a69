"""Tables for papers: evaluate, diff and rank as LaTeX with booktabs. Texts are escaped, nothing is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from segcli.diff import Difference
from segcli.measure import BoundMeasure, Measure
from segcli.places import Spread
from segcli.rank import Ranking
from segcli.report.table import DASH, number

Cell = Literal["sd", "iqr"]

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", DASH: "--", "±": r"$\pm$", "≤": r"$\leq$", "·": r"$\cdot$",
}  # fmt: skip
ARROWS = {"higher": r"~$\uparrow$", "lower": r"~$\downarrow$", "zero": r"~$\rightarrow 0$", "none": ""}
CELLS = {
    "sd": r"mean $\pm$ standard deviation",
    "iqr": "median [interquartile range]",
}


def escape_latex(text: str) -> str:
    """Return `text` so that LaTeX shows it literally, on one line."""
    flat = " ".join(text.split())
    return "".join(_SPECIAL.get(letter, letter) for letter in flat)


def numeric(text: str) -> str:
    """Return a number as a table shows it, with LaTeX's minus and thin spaces between thousands."""
    spaced = re.sub(r"(?<=\d) (?=\d{3})", "@", text)
    return escape_latex(spaced).replace("@", r"\,").replace("-", "$-$") if text != DASH else "--"


def value_of(value: float | None, measure: Measure) -> str:
    return numeric(number(value, measure))


def spread_cell(spread: Spread | Mapping[str, Any], measure: Measure, cell: Cell) -> str:
    r"""Return `mean $\pm$ sd` or `median [p25, p75]`."""
    found = (
        spread
        if isinstance(spread, Mapping)
        else {k: getattr(spread, k) for k in ("mean", "sd", "median", "p25", "p75")}
    )
    if found["mean"] is None:
        return "--"
    if cell == "sd":
        return rf"{value_of(found['mean'], measure)} $\pm$ {value_of(found['sd'], measure)}"
    low, high = (value_of(found[key], measure) for key in ("p25", "p75"))
    return f"{value_of(found['median'], measure)} [{low}, {high}]"


def bold(text: str) -> str:
    return rf"\textbf{{{text}}}"


def best_of(values: Sequence[float | None], measure: Measure) -> list[bool]:
    """Return which values are best; ones that look the same in print are the same."""
    known = [v for v in values if v is not None]
    if not known or measure.better == "none":
        return [False] * len(values)
    sign = -1 if measure.better == "higher" else 1
    best = number(min(known, key=lambda v: sign * (abs(v) if measure.better == "zero" else v)), measure)
    return [v is not None and number(v, measure) == best for v in values]


def centre(spread: Spread, cell: Cell) -> float | None:
    return spread.mean if cell == "sd" else spread.median


def heads(bounds: Sequence[BoundMeasure], units: Mapping[str, str], sizes: bool = False) -> list[str]:
    """Return the measures' names with unit and the direction of better values."""
    found = []
    for bound in bounds:
        name = bound.id if sum(b.name == bound.name for b in bounds) > 1 else bound.name
        text = escape_latex(name)
        if sizes and bound.measure.better == "zero":
            text = rf"$|$\mbox{{{text}}}$|$"
        unit = units.get(bound.id, "")
        found.append(text + (f" [{_unit(unit)}]" if unit else "") + ARROWS[bound.measure.better])
    return found


def _unit(unit: str) -> str:
    base, power, exponent = unit.partition("^")
    return escape_latex(base) + (rf"\textsuperscript{{{escape_latex(exponent)}}}" if power else "")


def definitions(bounds: Sequence[BoundMeasure]) -> str:
    """Return a sentence that says what each measure is."""
    said = [f"{escape_latex(b.name)}: {escape_latex(_lower(b.measure.summary.rstrip('.')))}" for b in bounds]
    return "; ".join(said) + "."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def table(align: str, head: Sequence[str], rows: Sequence[str], caption: Sequence[str], label: str) -> str:
    """Return a floating table; `head` and `rows` are lines of LaTeX, `caption` sentences."""
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{' '.join(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


ARROWS_SAY = "Arrows point to better values."


# --- evaluate ---------------------------------------------------------------------------------------


def run_latex(run: Mapping[str, Any], bounds: Sequence[BoundMeasure], cell: Cell = "sd") -> str:
    """Return a row for each label (and group), a column for each measure."""
    records = [s for s in run["summary"] if s["over"] == "cases"]
    units = {f"{s['kind']}.{s['measure']}": s["unit"] for s in records}
    groups = list(dict.fromkeys(tuple(s.get("group", {}).items()) for s in records))
    grouped = len(groups) > 1
    rows: list[str] = []
    fewer = False
    for group in groups:
        own = [s for s in records if tuple(s.get("group", {}).items()) == group]
        name = ", ".join(f"{k}={v}" for k, v in group) or "all cases"
        if rows:
            rows.append(r"\midrule")
        for label in dict.fromkeys(s["label"] for s in own):
            found = {(s["kind"], s["measure"]): s for s in own if s["label"] == label}
            most = max(s["n"] + s["undefined"] for s in found.values())
            cells = [escape_latex(name)] * grouped + [escape_latex(label), str(most)]
            for bound in bounds:
                summary = found.get((bound.measure.kind, bound.name))
                cells.append("" if summary is None else spread_cell(summary, bound.measure, cell))
                if summary is not None and 0 < summary["n"] < most:
                    cells[-1] += f" ({summary['n']})"
                    fewer = True
            rows.append(line(cells))
    lead = ["Group"] * grouped + ["Label", "$n$"]
    caption = [f"{CELLS[cell][0].upper()}{CELLS[cell][1:]} over cases ($n$).", ARROWS_SAY]
    if fewer:
        caption.append("In parentheses: the number of values, where some are undefined and left out.")
    caption += [f"Empty masks: {escape_latex(run['spec'].get('empty', 'undefined'))}."]
    caption.append(definitions(bounds))
    align = "l" * (len(lead) - 1) + "r" * (1 + len(bounds))
    return table(align, [line([*lead, *heads(bounds, units)])], rows, caption, "tab:evaluate")


# --- diff -------------------------------------------------------------------------------------------


def difference_latex(difference: Difference, cell: Cell = "sd") -> str:
    """Return a row for each label and measure; the better run is bold, both where they look the same."""
    known = {b.id: b for b in difference.bounds}
    rows: list[str] = []
    label = None
    for row in difference.rows:
        bound = known[f"{row.kind}.{row.measure}"]
        if label not in (None, row.label):
            rows.append(r"\midrule")
        best = best_of([centre(row.a, cell), centre(row.b, cell)], bound.measure)
        sides = [spread_cell(s, bound.measure, cell) for s in (row.a, row.b)]
        change = value_of(row.mean, bound.measure)
        if row.interval is not None:
            change += f" [{value_of(row.interval.low, bound.measure)}, {value_of(row.interval.high, bound.measure)}]"
        rows.append(
            line(
                [
                    escape_latex(row.label) if row.label != label else "",
                    heads([bound], {bound.id: row.unit}, sizes=True)[0],
                    str(row.n),
                    *(bold(s) if b else s for s, b in zip(sides, best, strict=True)),
                    change,
                    p_latex(row.p_holm),
                ]
            )
        )
        label = row.label
    level = f"{difference.resampling.level * 100:g}"
    head = line(["Label", "Measure", "$n$", "A", "B", rf"B $-$ A [{level}\% CI]", r"$p$"])
    caption = [
        f"A: {escape_latex(difference.a)}; B: {escape_latex(difference.b)}.",
        f"{CELLS[cell][0].upper()}{CELLS[cell][1:]} over the $n$ cases with a value in both, the mean difference with its "
        f"bootstrap interval, and $p$ of Wilcoxon's signed-rank test, corrected by Holm for {len(rows_tested(difference))} tests.",
        f"The better run is bold. {ARROWS_SAY}",
        definitions(difference.bounds),
    ]
    return table("llrrrrr", [head], rows, caption, "tab:diff")


def rows_tested(difference: Difference) -> list[float]:
    return [row.p for row in difference.rows if row.p is not None]


def p_latex(p: float | None) -> str:
    if p is None:
        return "--"
    return "$<$0.001" if p < 0.001 else f"{p:.3f}"


# --- rank -------------------------------------------------------------------------------------------


def ranking_latex(ranking: Ranking, cell: Cell = "sd") -> str:
    """Return a row for each run, a column for each measure of each label, and the mean places."""
    known = {b.id: b for b in ranking.bounds}
    bounds = [known[f"{row.kind}.{row.measure}"] for row in ranking.rows]
    labels = list(dict.fromkeys(row.label for row in ranking.rows))
    columns: list[list[str]] = []
    for row, bound in zip(ranking.rows, bounds, strict=True):
        best = best_of([centre(s, cell) for s in row.spreads], bound.measure)
        texts = [spread_cell(s, bound.measure, cell) for s in row.spreads]
        columns.append([bold(t) if b else t for t, b in zip(texts, best, strict=True)])
    for way in (ranking.by_rank, ranking.by_mean):
        columns.append([bold(f"{s:.2f}") if p == 1 else f"{s:.2f}" for s, p in zip(way.score, way.place, strict=True)])
    top, rules, at = [""], [], 2
    for label in labels:
        width = sum(row.label == label for row in ranking.rows)
        top.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(label)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    top.append(r"\multicolumn{2}{c}{Mean place}")
    rules.append(rf"\cmidrule(lr){{{at}-{at + 1}}}")
    names = [heads([b], {b.id: row.unit}, sizes=True)[0] for row, b in zip(ranking.rows, bounds, strict=True)]
    head = [line(top), " ".join(rules), line(["Run", *names, "ranks", "means"])]
    rows = [line([escape_latex(run), *(c[i] for c in columns)]) for i, run in enumerate(ranking.runs)]
    filled = (
        "A missing or undefined value counts as the worst possible one."
        if ranking.missing == "worst"
        else "Cases in which a run has no value are left out for all runs."
    )
    caption = [
        f"{len(ranking.runs)} runs on $n = {ranking.cases}$ cases: {CELLS[cell]}. {filled}",
        "Mean place over all columns, by ranks of the cases (rank then aggregate) and by means (aggregate then rank).",
        f"The best of each column is bold. {ARROWS_SAY}",
        definitions(ranking.bounds),
    ]
    return table("l" + "r" * len(columns), head, rows, caption, "tab:rank")
