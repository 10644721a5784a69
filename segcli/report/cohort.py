"""A run of many cases as a table with its footnotes, as Markdown and as tidy CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segcli.masks.void import remarks
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, Measure
from segcli.report.case import common_surface
from segcli.report.noted import kind_lines
from segcli.report.table import DASH, Table, escape_markdown, flat, grouped, number
from segcli.report.tidy import as_csv
from segcli.run.alignment import TWICE, all_perfect
from segcli.run.columns import columns_of
from segcli.run.model import Run
from segcli.run.noted import kind_text, said_of
from segcli.run.records import Case, Summary
from segcli.run.statistics import FEW
from segcli.run.summary import said_means
from segcli.wording import counted

#: As many cases as a footnote names.
MOST = 8
#: As many cases without numbers as have a row of their own; others have it elsewhere.
ROWS, ALL_ROWS = 50, "the CSV and the run file have all"


def measures_of(run: Run) -> list[BoundMeasure]:
    """Return the measures of a run that have one value for each case and label."""
    return [b for b in map(bind, run.spec.measures) if b.measure.kind != "table"]


def summary_table(run: Run) -> Table:
    """Return one row for each label (and group): the mean of each measure with its interval, n of the cases.

    Of the first measure with a direction the median and the bad tail stand beside it.
    """
    records = list(run.of("cases"))
    measures = measures_of(run)
    first = _leading(measures)
    units = {(s.kind, s.measure): s.unit for s in records}
    groups = list(dict.fromkeys(tuple(s.group.items()) for s in records))
    lead = ["group"] * (len(groups) > 1) + ["label"]
    table = Table([*lead, "n"], left=frozenset(range(len(lead))))
    surface = common_surface(measures)
    for bound in measures:
        name = _name(bound, measures).replace(f":surface={surface}", "")
        unit = units.get((bound.measure.kind, bound.name), "")
        table.headers.append(f"{name} {unit}".strip() + f" mean [{_level(run)}% CI]")
        if bound is first:
            table.headers += ["median", _tail(bound.measure)]
    for group in groups:
        own = [s for s in records if tuple(s.group.items()) == group]
        name = ", ".join(f"{k}={v}" for k, v in group) or "all cases"
        for label in dict.fromkeys(s.label for s in own):
            if label == "mean":
                table.emphasis.add(len(table.rows))
            found = {(s.kind, s.measure): s for s in own if s.label == label}
            cells = _row(found, measures, first)
            table.rows.append([name] * (len(groups) > 1) + [label, *cells])
    return table


def _leading(measures: Sequence[BoundMeasure]) -> BoundMeasure | None:
    return next((b for b in measures if b.measure.better in ("higher", "lower")), None)


def _tail(measure: Measure) -> Literal["p05", "p95"]:
    """Return the quantile on the bad side."""
    return "p95" if measure.better == "lower" else "p05"


def _name(bound: BoundMeasure, measures: Sequence[BoundMeasure]) -> str:
    return bound.id if sum(b.name == bound.name for b in measures) > 1 else bound.name


def _level(run: Run) -> str:
    return next((f"{s.ci_level * 100:g}" for s in run.summary if s.ci_level is not None), "95")


def _row(
    found: Mapping[tuple[str, str], Summary], measures: Sequence[BoundMeasure], first: BoundMeasure | None
) -> list[str]:
    here = [found.get((b.measure.kind, b.name)) for b in measures]
    most = max((s.n + s.undefined for s in here if s is not None), default=0)
    cells = [f"{most}{'*' if any(s is not None and s.undefined for s in here) else ''}"]
    for bound, summary in zip(measures, here, strict=True):
        cells.append(_mean(summary, bound.measure, most))
        if bound is first:
            ends = [None, None] if summary is None else [summary.median, getattr(summary, _tail(bound.measure))]
            cells += ["" if summary is None else number(end, bound.measure) for end in ends]
    return cells


def _mean(summary: Summary | None, measure: Measure, cases: int) -> str:
    """Return a mean with its interval, and on how many values it rests where that is not all cases."""
    if summary is None:
        return ""
    if summary.mean is None:
        return DASH
    text = number(summary.mean, measure)
    if summary.ci is not None:
        low, high = (number(end, measure) for end in summary.ci)
        text += f" {'~' if summary.n < FEW else ''}[{low}, {high}]"
    return text + (f" ({summary.n}/{cases})" if summary.n < cases else "")


def pooled_tables(run: Run) -> list[tuple[str, Table]]:
    """Return the title and the table of what was summed over all cases."""
    found = []
    for t in run.tables:
        rows = [[name, *map(grouped, counts)] for name, *counts in t.rows]
        title = f"{t.measure}: voxels of {counted(t.n, 'case')}"
        found.append((title, Table(list(t.columns), rows, left=frozenset({0}))))
    return found


@dataclass(frozen=True, slots=True)
class Unscored:
    """A case without numbers of its own, and why."""

    case: str
    status: Literal["missing", "error"]
    why: str


def unscored(run: Run) -> list[Unscored]:
    """Return the cases that failed or lack a file, by name."""
    worst = run.spec.missing == "worst"
    lacks = {"pred": "no prediction" + ", scored as an empty mask" * worst, "gt": "no ground truth"}
    found = [Unscored(gap.case, "missing", lacks[gap.side]) for gap in run.missing]
    found += [Unscored(error.case, "error", str(error)) for error in run.errors]
    return sorted(found, key=lambda u: u.case)


def unscored_table(run: Run) -> Table | None:
    """Return a row for each case without numbers; `None` where there is none."""
    found = unscored(run)
    if not found:
        return None
    rows = [[u.case, u.status, u.why] for u in found[:ROWS]]
    if len(found) > ROWS:
        rows.append([f"and {len(found) - ROWS} more", "", ALL_ROWS])
    return Table(["case", "", "why it has no numbers"], rows, left=frozenset({0, 1, 2}))


def footnotes(run: Run, worst: int) -> list[str]:
    """Return what was undefined or missed, the worst cases, how many were scored, and what was said of them."""
    tool = run.spec.convention
    notes = [f"--convention {tool}: names as that tool defines them (segcli score shows how)"] if tool else []
    if "table.confusion" in run.spec.measures and not run.tables:
        notes.append("confusion: too many classes for one matrix over all cases; each case has its own (JSON)")
    notes += remarks(run.spec.told) + said_means(run)
    notes += _undefined(run) + _pooled(run) + worst_cases(run, worst)
    missing = {side: [gap.case for gap in run.missing if gap.side == side] for side in ("pred", "gt")}
    parts = [f"{sum(c.status == 'ok' for c in run.cases)} scored"]
    if missing["pred"]:
        parts.append(f"{_count(missing['pred'], 'missing prediction')}")
    if missing["gt"]:
        parts.append(f"{_count(missing['gt'], 'prediction', ' without ground truth')}")
    if run.errors:
        parts.append(_count([error.case for error in run.errors], "error"))
    notes.append(", ".join(parts))
    if any(s.ci is not None and s.n < FEW for s in run.summary):
        notes.append(f"~ fewer than {FEW} values: the interval is too short (docs/intervals.md)")
    if all_perfect(run.cases, measures_of(run)):
        notes.append(TWICE)
    return notes + _policies(run) + kind_lines(said_of(run.cases))


def _policies(run: Run) -> list[str]:
    """Return where values that no pair of masks has come from: a rule for empty masks, or for missing predictions."""
    if not any(s.policy for s in run.summary):
        return []
    policy = {c.status == "missing" for c in run.cases if any(v.status == "policy" for v in c.values)}
    notes = [f"empty masks: some values come from the policy {run.spec.empty}"] if False in policy else []
    return notes + ["--missing worst: a missing prediction has the worst values"] * (True in policy)


def _count(cases: Sequence[str], what: str, rest: str = "") -> str:
    names = ", ".join(cases[:MOST]) + (f" and {len(cases) - MOST} more" if len(cases) > MOST else "")
    return f"{counted(len(cases), what)}{rest} ({names})"


def _undefined(run: Run) -> list[str]:
    """Return a sentence for each label that has no value in some cases, or is missed or invented in some."""
    notes = []
    for label in dict.fromkeys(s.label for s in run.summary if not s.group):
        own = [s for s in run.summary if s.label == label and not s.group]
        if label == "mean" or not any(s.undefined for s in own):
            continue
        cases = [c.counts[label] for c in run.cases if label in c.counts]
        absent = sum(c.tp + c.fp + c.fn == 0 for c in cases)
        parts = []
        if absent:
            parts.append(f"{absent} case{'s have' if absent > 1 else ' has'} it in neither file (undefined, excluded)")
        if own[0].missed:
            parts.append(f"{counted(own[0].missed, 'empty prediction')} (overlap 0, distances undefined)")
        if own[0].false_alarms:
            parts.append(f"{counted(own[0].false_alarms, 'false alarm')} (gt empty)")
        notes.append(f"* {label}: " + ("; ".join(parts) or "some values are undefined"))
    return notes


def _pooled(run: Run) -> list[str]:
    """Return the values of measures of objects and classes over all cases together, which their mean is not."""
    asked: dict[tuple[str, str], Measure] = {
        (b.measure.kind, b.name): b.measure for b in measures_of(run) if b.measure.parts
    }
    found = [
        f"{s.label} {s.measure} {number(s.pooled, asked[s.kind, s.measure])}"
        for s in run.summary
        if (s.kind, s.measure) in asked and s.label != "mean" and not s.group
        if s.pooled is not None
    ]
    more = f" and {len(found) - MOST} more in the run file" if len(found) > MOST else ""
    return ["pooled, of all cases together: " + " · ".join(found[:MOST]) + more] if found else []


def worst_cases(run: Run, worst: int) -> list[str]:
    """Return, for each label, the cases that are worst by the first measure with a direction."""
    bound = _leading(measures_of(run))
    if bound is None or not worst:
        return []
    sign = 1 if bound.measure.better == "higher" else -1
    lines = []
    for (label, _, _), column in columns_of(run.cases, [(bound.measure.kind, bound.name)]).items():
        pairs = zip(column.values, column.cases, strict=True)
        rows = sorted(((v.value, name) for v, name in pairs if v.value is not None), key=lambda x: (sign * x[0], x[1]))
        if len(rows) > worst:
            told = [(name, number(value, bound.measure), run.by_name[name]) for value, name in rows[:worst]]
            shown = [f"{name} {value}{_why(case, label)}" for name, value, case in told]
            lines.append(f"worst ({label} {bound.name}): " + " · ".join(shown))
    return lines


def _why(case: Case, label: str) -> str:
    counts = case.counts.get(label)
    if counts is None:
        return ""
    if counts.gt and not counts.pred:
        return " pred empty"
    return " gt empty" if counts.pred and not counts.gt else ""


def run_text(run: Run, worst: int, *, color: bool = False) -> str:
    lines = [summary_table(run).text(color=color)] if measures_of(run) else []
    lacking = unscored(run)
    lines += [f"{u.status}: {flat(u.case)}: {flat(u.why)}" for u in lacking[:ROWS]]
    lines += [f"and {len(lacking) - ROWS} more: {ALL_ROWS}"] * (len(lacking) > ROWS)
    for title, table in pooled_tables(run):
        lines += [title, table.text(color=color)]
    return "\n".join([*lines, *map(flat, footnotes(run, worst))])


def run_markdown(run: Run, worst: int) -> str:
    parts = [summary_table(run).markdown()] if measures_of(run) else []
    if (lacking := unscored_table(run)) is not None:
        parts.append(lacking.markdown())
    for title, table in pooled_tables(run):
        parts += [escape_markdown(title), table.markdown()]
    return "\n\n".join([*parts, "  \n".join(escape_markdown(note) for note in footnotes(run, worst))])


def run_csv(run: Run) -> str:
    """Return one line for each value of each case, numbers at full precision, group columns in front.

    A case without numbers is a line with the status `missing` or `error` and the reason; so is one without a
    prediction that was scored as an empty mask, whose values have the status `missing` too. Each warning about a
    case is a line of the kind `note`: its measure is the code, its status `warning`, the reason its text. Other notes
    are one line for each kind, of the status `note`, without a case: the reason names the cases. Cells of a table over
    all cases come last, without a case: the label is the class of the ground truth, `pred=` in the measure that of
    the prediction.
    """
    columns = list(dict.fromkeys(key for case in run.cases for key in case.group))
    rows: list[list[object]] = []
    for case in run.cases:
        lead = [case.name, *(case.group.get(c, "") for c in columns)]
        for v in case.values:
            value = "" if v.value is None else repr(v.value)
            status = case.status if v.value is not None and case.status == "missing" else v.status
            rows.append([*lead, v.label, v.kind, v.measure, value, status, v.why])
        told = [n for n in case.notes if n.level == "warning"]
        rows += [[*lead, "", "note", n.code, "", "warning", n.text] for n in told]
    rows += [[u.case, *[""] * len(columns), "", "", "", "", u.status, u.why] for u in unscored(run)]
    blank = [""] * (1 + len(columns))
    kinds = [kind for kind in said_of(run.cases) if kind.level == "note"]
    rows += [[*blank, "", "note", kind.code, "", "note", kind_text(kind)] for kind in kinds]
    for t in run.tables:
        for gt, *counts in t.rows:
            for pred, count in zip(t.columns[1:], counts, strict=True):
                rows.append([*blank, gt, "table", f"{t.measure}:pred={pred}", count, "ok", ""])
    return as_csv([["case", *columns, "label", "kind", "measure", "value", "status", "why"], *rows])
