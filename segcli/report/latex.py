"""Tables for papers: evaluate, diff and rank as LaTeX with booktabs. Texts are escaped, nothing is computed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from segcli.kernels.surfaces import MEANING
from segcli.masks.void import remarks
from segcli.measure.record import BoundMeasure, Measure
from segcli.report.case import common_surface
from segcli.report.cohort import ROWS, Unscored, unscored
from segcli.report.noted import kind_lines
from segcli.report.table import DASH, flat, number
from segcli.run.diff import Difference
from segcli.run.model import Run
from segcli.run.noted import kind_text, said_of, warnings_of
from segcli.run.places import Spread
from segcli.run.rank import Ranking
from segcli.run.records import Summary
from segcli.run.summary import said_means
from segcli.wording import counted

Cell = Literal["sd", "iqr"]

#: A dash that is meant stays one; two hyphens of a name do not become one.
_DASH = "\0"
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}",
    # after a row's end these three would be read as its arguments
    "[": "{[}", "]": "{]}", "*": "{*}",
    DASH: _DASH, "±": r"$\pm$", "≤": r"$\leq$", "·": r"$\cdot$",
}  # fmt: skip
ARROWS = {"higher": r"~$\uparrow$", "lower": r"~$\downarrow$", "zero": r"~$\rightarrow 0$", "none": ""}
#: Letters of a reason that still fit a row of numbers.
FITS = 48
CELLS = {
    "sd": r"mean $\pm$ standard deviation",
    "iqr": "median [interquartile range]",
}


def escape_latex(text: str) -> str:
    """Return `text` so that LaTeX shows it literally, on one line."""
    one_line = "".join(letter for letter in " ".join(flat(text).split()) if letter.isprintable())
    shown = "".join(_SPECIAL.get(letter, letter) for letter in one_line)
    return re.sub("-(?=-)", "-{}", shown).replace(_DASH, "--")


def numeric(text: str) -> str:
    """Return a number as a table shows it, with LaTeX's minus and thin spaces between thousands."""
    spaced = re.sub(r"(?<=\d) (?=\d{3})", "@", text)
    return escape_latex(spaced).replace("@", r"\,").replace("-", "$-$") if text != DASH else "--"


def value_of(value: float | None, measure: Measure, *, sized: bool = False) -> str:
    """Return a value; a size (`sized`) has no plus before it."""
    text = number(value, measure)
    return numeric(text.removeprefix("+") if sized else text)


def spread_cell(spread: Spread | Summary, measure: Measure, cell: Cell, *, sized: bool = False) -> str:
    r"""Return `mean $\pm$ sd` or `median [p25, p75]`."""
    if spread.mean is None:
        return "--"
    if cell == "sd":
        centre, around = value_of(spread.mean, measure, sized=sized), value_of(spread.sd, measure, sized=True)
        return rf"{centre} $\pm$ {around}"
    middle, low, high = (value_of(end, measure, sized=sized) for end in (spread.median, spread.p25, spread.p75))
    return f"{middle} [{low}, {high}]"


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


def heads(bounds: Sequence[BoundMeasure], units: Sequence[str], *, among: Sequence[BoundMeasure]) -> list[str]:
    """Return the measures' names with unit and the direction of better values; a shared surface is left out."""
    surface = common_surface(among)
    found = []
    for bound, unit in zip(bounds, units, strict=True):
        name = bound.id if sum(b.name == bound.name for b in among) > 1 else bound.name
        name = escape_latex(name.replace(f":surface={surface}", "") if surface else name)
        found.append(name + (f" ({_unit(unit)})" if unit else "") + ARROWS[bound.measure.better])
    return found


def absolute(head: str) -> str:
    """Return the head of a column of sizes, values without their sign."""
    name, arrow = head.removesuffix(ARROWS["zero"]), ARROWS["zero"]
    return rf"$|$\mbox{{{name}}}$|${arrow}"


def _unit(unit: str) -> str:
    base, power, exponent = unit.partition("^")
    return escape_latex(base) + (rf"\textsuperscript{{{escape_latex(exponent)}}}" if power else "")


def definitions(bounds: Sequence[BoundMeasure]) -> list[str]:
    """Return sentences that say what each measure is, and what surfaces are."""
    surface = common_surface(bounds)
    said = []
    for b in bounds:
        name = b.name.replace(f":surface={surface}", "") if surface else b.name
        said.append(escape_latex(f"{name}: {_lower(b.measure.summary.rstrip('.').replace('`', ''))}"))
    found = ["; ".join(said) + "."]
    surfaces = sorted({str(b.params["surface"]) for b in bounds if "surface" in b.params})
    return found + [escape_latex(f"Surface {name}: {MEANING[name]}.") for name in surfaces if name in MEANING]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def run_latex(run: Run, bounds: Sequence[BoundMeasure], cell: Cell = "sd") -> str:
    """Return a row for each label (and group), a column for each measure; notes are comments behind the table."""
    records = list(run.of("cases"))
    known = {f"{s.kind}.{s.measure}": s.unit for s in records}
    units = [known.get(b.id, "") for b in bounds]
    groups = list(dict.fromkeys(tuple(s.group.items()) for s in records))
    grouped = len(groups) > 1
    rows: list[str] = []
    fewer = False
    for group in groups:
        own = [s for s in records if tuple(s.group.items()) == group]
        name = ", ".join(f"{k}={v}" for k, v in group) or "all cases"
        if rows:
            rows.append(r"\midrule")
        for label in dict.fromkeys(s.label for s in own):
            found = {(s.kind, s.measure): s for s in own if s.label == label}
            most = max(s.n + s.undefined for s in found.values())
            cells = [escape_latex(name)] * grouped + [escape_latex(label), str(most)]
            for bound in bounds:
                summary = found.get((bound.measure.kind, bound.name))
                cells.append("" if summary is None else spread_cell(summary, bound.measure, cell))
                if summary is not None and 0 < summary.n < most:
                    cells[-1] += f" ({summary.n})"
                    fewer = True
            rows.append(line(cells))
    lead = ["Group"] * grouped + ["Label", "$n$"]
    lacking = unscored(run)
    rows += _unscored_rows(lacking, len(lead), len(bounds))
    caption = [f"{_upper(CELLS[cell])} over cases ($n$).", ARROWS_SAY, *_unscored_says(run, lacking)]
    if fewer:
        caption.append("In parentheses: the number of values, where some are undefined and left out.")
    caption += [escape_latex(f"{_upper(text)}.") for text in said_means(run)]
    caption += [f"Empty masks: {escape_latex(run.spec.empty)}."]
    caption += [escape_latex(f"{_upper(text)}.") for text in remarks(run.spec.told)]
    caption += [escape_latex(f"Warning: {kind_text(kind)}.") for kind in warnings_of(run.cases)]
    caption += definitions(bounds)
    align = "l" * (len(lead) - 1) + "r" * (1 + len(bounds))
    whole = table(align, [line([*lead, *heads(bounds, units, among=bounds)])], rows, caption, "tab:evaluate")
    told = kind_lines(kind for kind in said_of(run.cases) if kind.level == "note")
    return "\n".join([whole, *(f"% {escape_latex(text)}" for text in told)])


def _unscored_rows(lacking: Sequence[Unscored], lead: int, width: int) -> list[str]:
    """Return a row for each case without numbers, under a rule of their own; a long reason is a comment behind it."""
    if not lacking:
        return []
    span, gap = max(1, width), [""] * (lead - 2)
    rows = []
    for u in lacking[:ROWS]:
        whole = f"{u.status}: {u.why}"
        told, rest = (whole, "") if len(whole) <= FITS else (u.status, f" % {escape_latex(u.why)}")
        cell = rf"\multicolumn{{{span}}}{{l}}{{{escape_latex(told)}}}"
        rows.append(line([escape_latex(u.case), *gap, "--", cell]) + rest)
    if len(lacking) > ROWS:
        rows.append(line([escape_latex(f"and {len(lacking) - ROWS} more"), *gap, "--", *[""] * width]))
    return [r"\midrule", *rows]


def _unscored_says(run: Run, lacking: Sequence[Unscored]) -> list[str]:
    """Return how many cases are in no number, or in as an empty mask."""
    if not lacking:
        return []
    names = {error.case for error in run.errors}
    counts = [
        (sum(gap.side == "pred" for gap in run.missing), "without a prediction"),
        (sum(gap.side == "gt" for gap in run.missing), "without a ground truth"),
        (len(names), "failed"),
    ]
    said = ", ".join(f"{n} {what}" for n, what in counts if n)
    worst = run.spec.missing == "worst" and counts[0][0]
    filled = " A missing prediction counts as an empty mask with the worst values." if worst else ""
    return [f"Of {len({c.name for c in run.cases} | {u.case for u in lacking})} cases: {said}.{filled}"]


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
        sized = row.of == "size"
        sides = [spread_cell(s, bound.measure, cell, sized=sized) for s in (row.a, row.b)]
        head = heads([bound], [row.unit], among=difference.bounds)[0]
        change = value_of(row.mean, bound.measure)
        if row.interval is not None:
            change += f" [{value_of(row.interval.low, bound.measure)}, {value_of(row.interval.high, bound.measure)}]"
        rows.append(
            line(
                [
                    escape_latex(row.label) if row.label != label else "",
                    absolute(head) if sized else head,
                    str(row.n),
                    *(bold(s) if b else s for s, b in zip(sides, best, strict=True)),
                    change,
                    p_latex(row.p_holm),
                ]
            )
        )
        label = row.label
    level = f"{difference.resampling.level * 100:g}"
    top = line(["Label", "Measure", "$n$", "A", "B", rf"B $-$ A [{level}\% CI]", r"$p$"])
    tests = sum(row.p is not None for row in difference.rows)
    caption = [
        f"A: {escape_latex(difference.a)}; B: {escape_latex(difference.b)}.",
        f"{_upper(CELLS[cell])} over the $n$ cases with a value in both, the mean difference with its interval,",
        f"and $p$ of Wilcoxon's signed-rank test, corrected for {counted(tests, 'test')} (Holm).",
        f"The better run is bold. {ARROWS_SAY}",
        *(escape_latex(f"{_upper(text)}.") for text in dict.fromkeys(row.mean_of for row in difference.rows) if text),
        *(escape_latex(f"Warning: {text}.") for text in difference.warnings),
        *definitions(difference.bounds),
    ]
    return table("llrrrrr", [top], rows, caption, "tab:diff")


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
        texts = [spread_cell(s, bound.measure, cell, sized=row.better == "zero") for s in row.spreads]
        columns.append([bold(t) if b else t for t, b in zip(texts, best, strict=True)])
    for way in (ranking.by_rank, ranking.by_mean):
        means = [f"{score:.2f}" for score in way.score]
        columns += [[bold(text) if place == 1 else text for text, place in zip(means, way.place, strict=True)]]
    top, rules, at = [""], [], 2
    for label in labels:
        width = sum(row.label == label for row in ranking.rows)
        top.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(label)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    top.append(r"\multicolumn{2}{c}{Mean place}")
    rules.append(rf"\cmidrule(lr){{{at}-{at + 1}}}")
    names = heads(bounds, [row.unit for row in ranking.rows], among=ranking.bounds)
    names = [absolute(n) if row.better == "zero" else n for row, n in zip(ranking.rows, names, strict=True)]
    head = [line(top), " ".join(rules), line(["Run", *names, "ranks", "means"])]
    rows = [line([escape_latex(run), *(c[i] for c in columns)]) for i, run in enumerate(ranking.runs)]
    filled = (
        "A missing or undefined value counts as the worst possible one; as the best where a run is rightly empty or "
        "without a fault."
        if ranking.missing == "worst"
        else "Cases in which a run has no value are left out for all runs."
    )
    n = f"$n = {ranking.cases}$"
    caption = [
        f"{counted(len(ranking.runs), 'run')} on {counted(ranking.cases, 'case', shown=n)}: {CELLS[cell]}. {filled}",
        "Mean place over all columns, by ranks of the cases (rank then aggregate) and by means (aggregate then rank).",
        f"The best of each column is bold. {ARROWS_SAY}",
        *(escape_latex(f"{_upper(n.removeprefix('~ '))}.") for n in ranking.notes if n.startswith("~")),
        *(escape_latex(f"Warning: {text}.") for text in ranking.warnings),
        *definitions(ranking.bounds),
    ]
    return table("l" + "r" * len(columns), head, rows, caption, "tab:rank")
