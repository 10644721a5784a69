"""A scored case as a table with its header and footnotes, and as tidy CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segcli.kernels.surfaces import MEANING
from segcli.measure.conventions import tools
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.measure.why import Why, short
from segcli.report.noted import told_in_csv, warning_lines
from segcli.report.table import Table, escape_markdown, flat, geometry_text, grouped, number, shape_text, spacing_text
from segcli.report.tidy import as_csv
from segcli.scoring.empty import POLICIES, tool_words, why_empty
from segcli.scoring.limits import Verdict
from segcli.scoring.means import ALL, IN_WORDS, MEAN_WITHOUT_BACKGROUND, Mean
from segcli.scoring.values import Scored, Value
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.gates.verdicts import Verdict as GateVerdict


def heading(case: Scored) -> str:
    """Return the line that says which files were compared on which grid."""
    grid = f"{shape_text(case.shape)} · {spacing_text(case.spacing, case.unit)} · {geometry_text(case.geometry)}"
    return flat(f"{case.pred.name} vs {case.gt.name}   {grid}")


def score_table(cases: Sequence[Scored], measures: Sequence[BoundMeasure]) -> Table:
    """Return one row for each label (and case, when there are several), a mean row, and one of all classes at once."""
    measures = [b for b in measures if b.measure.kind != "table"]
    common = common_surface(measures)
    several = len(cases) > 1
    first = cases[0]
    rows: list[Mean | Value] = [*first.means, *first.values]
    units = {(m.kind, m.measure): m.unit for m in rows}
    headers = ["case"] * several + ["label"]
    headers += [_header(b, units.get((b.measure.kind, b.name), ""), common, measures) for b in measures]
    table = Table([*headers, ""], left=frozenset({0, int(several), len(headers)}))
    for case in cases:
        values: dict[str, list[Value]] = {}
        for value in case.values:
            values.setdefault(value.label, []).append(value)
        if not all(b.over_classes for b in measures):
            for name in (label.name for label in case.labels):
                own = values.get(name, [])
                _add_values(table, case, name, own, measures, several=several, remark=_remark(case, name))
            for name in mean_labels(case):
                _add_mean(table, case, name, measures, several=several)
        if ALL in values:
            table.emphasis.add(len(table.rows))
            _add_values(table, case, ALL, values[ALL], measures, several=several)
    if all(not row[-1] for row in table.rows):
        table.headers.pop()
        table.rows = [row[:-1] for row in table.rows]
    return table


def _add_values(
    table: Table,
    case: Scored,
    label: str,
    values: Sequence[Value],
    measures: Sequence[BoundMeasure],
    *,
    several: bool,
    remark: str = "",
) -> None:
    """Add the row of a label, or of all classes; a measure that is not of that row leaves its cell blank."""
    known = {(v.kind, v.measure): v for v in values}
    found = [(b.measure, known.get((b.measure.kind, b.name))) for b in measures]
    cells = ["" if value is None else number(value.value, measure) for measure, value in found]
    table.rows.append([case.case] * several + [label, *cells, remark])


def measure_tables(cases: Sequence[Scored]) -> list[tuple[str, Table]]:
    """Return the title and the table of each table measure, of each case and label that has one."""
    found = []
    for case in cases:
        for t in case.tables:
            title = " ".join([t.measure] + [case.case] * (len(cases) > 1) + [t.label] * (t.label != ALL))
            texts = frozenset(i for i in range(len(t.columns)) if any(isinstance(row[i], str) for row in t.rows))
            rows = [[_cell(value) for value in row] for row in t.rows]
            found.append((title, Table(list(t.columns), rows, left=texts)))
    return found


def _cell(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return grouped(value) if isinstance(value, int) else number(value)


def _header(bound: BoundMeasure, unit: str, common: str | None, measures: Sequence[BoundMeasure]) -> str:
    name = bound.name.replace(f":surface={common}", "") if common else bound.name
    if sum(b.name == bound.name for b in measures) > 1:  # dice is a metric and a loss
        name = bound.id
    return f"{name} {unit}".strip()


def common_surface(measures: Sequence[BoundMeasure]) -> str | None:
    """Return the surface that all measures with one share; `None` for none or several."""
    surfaces = {b.params["surface"] for b in measures if "surface" in b.params}
    return str(surfaces.pop()) if len(surfaces) == 1 else None


def _remark(case: Scored, label: str) -> str:
    counts = case.counts[label]
    why = why_empty(counts.pred, counts.gt)
    return short(why) if why else ""


def mean_labels(case: Scored) -> list[str]:
    """Return the names of the mean rows that say something; a mean over one label is that label's row."""
    return list(dict.fromkeys(m.label for m in case.means if m.of > 1 or m.label != "mean" or case.mean_of.asked))


def _add_mean(table: Table, case: Scored, name: str, measures: Sequence[BoundMeasure], *, several: bool) -> None:
    means = {(m.kind, m.measure): m for m in case.means if m.label == name}
    row, rests = [case.case] * several + [name], [""] * (int(several) + 1)
    for bound in measures:
        mean = means.get((bound.measure.kind, bound.name))
        shown = mean is not None and (mean.of > 1 or case.mean_of.asked) and bound.measure.better != "none"
        row.append(number(mean.value, bound.measure) if mean is not None and shown else "")
        rests.append(f"({mean.n}/{mean.of})" if mean is not None and shown and mean.n < mean.of else "")
    table.emphasis.add(len(table.rows))
    table.rows.append([*row, ""])
    if any(rests):
        table.rows.append([*rests, ""])


def footnotes(cases: Sequence[Scored], measures: Sequence[BoundMeasure], empty: str, average: str) -> list[str]:
    """Return what definition the numbers follow and why some are undefined."""
    notes = list(dict.fromkeys(n.text for case in cases for n in case.notes if n.code == "threshold.cut"))
    surfaces = {str(b.params["surface"]) for b in measures if "surface" in b.params}
    notes += [f"surface={name} ({MEANING[name]})" for name in sorted(surfaces)]
    bands = [b.measure.name for b in measures if "width" in b.params and b.measure.family == "surface"]
    notes += [f"{name}: Euclidean inner bands (segcli catalog {name})" for name in dict.fromkeys(bands)]
    notes += _over_classes(cases, measures)
    notes += list(dict.fromkeys(str(c.mean_of) for c in cases if _says_mean(c)))
    if any(m.label == MEAN_WITHOUT_BACKGROUND for m in cases[0].means):
        notes.append("mean of a loss: over all channels, the background included; of a metric: over the labels")
    if average != "macro":
        notes.append(f"--average {average}: {IN_WORDS[average]}")
        hard = {v.measure for c in cases for v in c.values if v.why == Why.HARD_MASK}
        empty_means = [m.measure for c in cases for m in c.means if m.n == 0 and m.of > 1 and m.measure not in hard]
        whole = list(dict.fromkeys(name.split(":")[0] for name in empty_means))
        if average == "micro" and whole:
            notes.append(f"{_some(whole, 6)}: no micro average, as pooled voxels have no neighbours and no surface")
    notes += list(dict.fromkeys(remark for case in cases for remark in case.remarks))
    if empty not in POLICIES:
        notes += _as_tool(cases, empty)
    elif empty != "undefined":
        notes.append(f"empty masks: policy {empty}")
    told = {t.measure for c in cases for t in c.tables}
    soft = [b.name for b in measures if b.measure.kind == "table" and b.measure.reads == "probability"]
    untold = [name for name in soft if name not in told]
    if untold:
        notes.append(f"{_some(untold, 6)}: no table, as {Why.HARD_MASK.of_label}")
    return notes + _undefined(cases) + warning_lines(note for case in cases for note in case.notes)


def _says_mean(case: Scored) -> bool:
    """Return whether a case has a mean row of the labels that its `mean_of` names."""
    rows = [m for m in case.means if m.kind == "metric" or case.mean_of.asked]
    return case.mean_of.shown and bool(rows)


def _as_tool(cases: Sequence[Scored], policy: str) -> list[str]:
    """Return what a tool does with the empty masks of these cases, where that is no number."""
    tool = tools()[policy]
    said: dict[str, dict[str, str]] = {}
    for v in (v for case in cases for v in case.values if v.kind == "metric" and v.why and v.status == "undefined"):
        words = tool_words(bind(v.measure, "metric"), policy, v.why)
        if words:
            said.setdefault(words, {})[f"{v.measure.split(':')[0]} of {v.label}"] = ""
    lines = [f"{tool.title} {tool.version} {words}: {_some(list(of), 6)}" for words, of in said.items()]
    return [f"empty masks: as {tool.title} {tool.version}", *lines]


def _over_classes(cases: Sequence[Scored], measures: Sequence[BoundMeasure]) -> list[str]:
    """Return which classes stand behind the row `all`."""
    asked = [b for b in measures if b.params.get("background") == "in"]
    notes = ["all: over the classes, the background one of them (background=out leaves it out)"] if asked else []
    if not any(b.measure.family == "multiclass" for b in measures):
        return notes
    for case in cases:
        plain = [x.name for x in case.labels if not x.is_region]
        absent = [name for name in plain if not case.counts[name].pred and not case.counts[name].gt]
        if absent:
            where = f"{case.case} all" if len(cases) > 1 else "all"
            count = f"{len(absent)} of {counted(len(plain), 'label')}"
            notes.append(f"{where}: {count} in neither mask, left out of means over classes: {_some(absent, 8)}")
    return notes


def _undefined(cases: Sequence[Scored]) -> list[str]:
    """Return one sentence for each reason and set of measures, with the rows that it holds for."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in cases:
        for v in case.values:
            if v.status == "undefined":
                row = f"{case.case} {v.label}" if len(cases) > 1 else v.label
                because = Why(v.why).of_classes if v.label == ALL else Why(v.why).of_label
                rows.setdefault((row, because), {})[v.measure.split(":")[0]] = ""
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (row, because), names in rows.items():
        grouped.setdefault((because, tuple(names)), []).append(row)
    return [
        f"{_some(found, 8)}: {because}; {_some(names, 6)} {'is' if len(names) == 1 else 'are'} undefined "
        f"(segcli catalog {names[0]})"
        for (because, names), found in grouped.items()
    ]


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def verdict_lines(verdicts: Sequence[Verdict], cases: Sequence[Scored]) -> list[str]:
    """Return one line for each limit and label as the gate writes them, failures first, and a count."""
    from segcli.report.gate import WORDS, sentence

    if not verdicts:
        return []
    several = len(cases) > 1
    width = max(len(v.rule) for v in verdicts)
    lines = []
    for v in sorted(verdicts, key=lambda v: v.passed):
        whose = f"{v.case} " if several else ""
        word = WORDS["passed" if v.passed else "failed"]
        lines.append(f" {word:<4}  {v.rule:<{width}}   {whose}{sentence(_as_of_gate(v, cases))}")
    failed = sum(not v.passed for v in verdicts)
    return [*lines, " " + f"{failed} failed, " * bool(failed) + f"{len(verdicts) - failed} passed"]


def _as_of_gate(v: Verdict, cases: Sequence[Scored]) -> GateVerdict:
    """Return a verdict on one value as that of a gate on a cohort of one case."""
    from segcli.gates.verdicts import Verdict as GateVerdict

    rows: list[Value | Mean] = []
    for case in cases:
        rows += [*case.values, *case.means] if case.case == v.case else []
    unit = next((r.unit for r in rows if (r.label, r.kind, r.measure) == (v.label, v.kind, v.measure)), "")
    why = "" if v.value is not None else f"undefined ({short(v.why)})"
    low = v.rule.startswith("--min")
    return GateVerdict(
        rule=v.rule, level="error", status="passed" if v.passed else "failed", label=v.label,
        measure=bind(v.measure, v.kind), unit=unit, stat="", value=v.value, n=1, why=why,
        min=v.limit if low else None, max=None if low else v.limit,
    )  # fmt: skip


def score_text(
    cases: Sequence[Scored],
    measures: Sequence[BoundMeasure],
    empty: str,
    average: str = "macro",
    verdicts: Sequence[Verdict] = (),
    *,
    color: bool = False,
) -> str:
    lines = [heading(cases[0])]
    if any(b.measure.kind != "table" for b in measures):
        lines.append(score_table(cases, measures).text(color=color))
    for title, table in measure_tables(cases):
        lines += [flat(title), table.text(color=color)]
    return "\n".join(
        [*lines, *map(flat, [*footnotes(cases, measures, empty, average), *verdict_lines(verdicts, cases)])]
    )


def score_markdown(
    cases: Sequence[Scored],
    measures: Sequence[BoundMeasure],
    empty: str,
    average: str = "macro",
    verdicts: Sequence[Verdict] = (),
) -> str:
    notes = [escape_markdown(n) for n in [*footnotes(cases, measures, empty, average), *verdict_lines(verdicts, cases)]]
    parts = [escape_markdown(heading(cases[0]))]
    if any(b.measure.kind != "table" for b in measures):
        parts.append(score_table(cases, measures).markdown())
    for title, table in measure_tables(cases):
        parts += [escape_markdown(title), table.markdown()]
    return "\n\n".join([*parts, "  \n".join(notes)])


def score_csv(cases: Sequence[Scored]) -> str:
    """Return one line for each value and mean, numbers at full precision, and of kind `note` for what else is told."""
    rows: list[list[str]] = []
    for case in cases:
        rows += [[case.case, v.label, v.kind, v.measure, _exact(v), v.status, v.why] for v in case.values]
        for m in case.means:
            if m.label in mean_labels(case):
                status = "undefined" if m.value is None else "ok"
                of = str(case.mean_of) if m.kind == "metric" or case.mean_of.asked else ""
                rows.append([case.case, m.label, m.kind, m.measure, _exact(m), status, of])
        rows += [[case.case, "", "note", n.code, "", n.level, n.text] for n in told_in_csv(case.notes)]
    return as_csv([["case", "label", "kind", "measure", "value", "status", "why"], *rows])


def _exact(value: Value | Mean) -> str:
    if value.value is None:
        return ""
    return (
        str(int(value.value))
        if float(value.value).is_integer() and abs(value.value) < 1e15
        else repr(float(value.value))
    )
