"""What other tools print for a pair, and means under rules for empty masks: as tables, JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segcli.kernels.surfaces import MEANING
from segcli.measure.conventions import CHECKED, WORDS, tools
from segcli.measure.notation import bind
from segcli.measure.record import Measure, find
from segcli.report.case import common_surface
from segcli.report.noted import told_in_csv, warning_lines
from segcli.report.table import DASH, Table, escape_markdown, flat, grid_text, number, percent
from segcli.report.tidy import as_csv
from segcli.run.codec import finite, note_to
from segcli.run.json_text import to_json
from segcli.scoring.score import unit_of
from segcli.tools.means import EmptyMean
from segcli.tools.pair import Conventions
from segcli.tools.rows import Row

SCHEMA = "segcli.conventions/1"
#: A difference below this is shown as less than a percent.
SEEN = 0.005


def heading(found: Conventions, *, stacked: bool) -> str:
    loaded = found.loaded
    name = f"{loaded.name}: " if stacked else ""
    case = loaded.case
    grid = grid_text(case.shape, case.spacing, case.unit, loaded.grid.geometry)
    return flat(f"{name}{loaded.pred.name} vs {loaded.gt.name}   {grid}")


def _measure(row: Row) -> Measure:
    return find(row.quantity.split(":")[0], row.kind)


def rows_table(found: Conventions, kind: str) -> Table:
    """Return one row for each number, with all tools that print it for the same reason."""
    rows = [r for r in found.rows if r.kind == kind]
    labels = len({r.label for r in rows}) > 1
    common = common_surface([bind(r.reference, "metric") for r in rows]) if kind == "metric" else None
    headers = ["label"] * labels + [kind, "segcli", "prints", "differs", "because", "tool"]
    table = Table(headers, left=frozenset({0, int(labels), len(headers) - 2, len(headers) - 1}))
    merged: dict[tuple[Any, ...], list[Row]] = {}
    for r in rows:
        shown = r.printed.words or f"{r.printed.value:.9g}"
        merged.setdefault((r.quantity, r.label, shown, r.because), []).append(r)
    for group in merged.values():
        r = group[0]
        name = r.quantity.replace(f":surface={common}", "")
        cells = [f"{name} {own_unit(found, r)}".strip(), *_two_numbers(found, r), _differs(r)]
        because = "; ".join(r.because) or ("the same" if r.difference == 0 and r.own is not None else "")
        who = ", ".join(dict.fromkeys(_who(x) for x in group))
        table.rows.append([r.label] * labels + [*cells, because, who])
    return table


def own_unit(found: Conventions, row: Row) -> str:
    case = found.loaded.case
    return unit_of(bind(row.reference, row.kind), case.unit, len(case.shape))


def _who(row: Row) -> str:
    """Return the tool, with its own name for a variant; of a loss the call."""
    if row.kind == "loss":
        return row.call.replace("segmentation_models_pytorch.losses", "smp")
    if row.printed.words and row.printed.words not in WORDS.values():
        return f"{row.tool} {row.version}"
    return f"{row.tool} ({row.call})" if row.variant else row.tool


def _two_numbers(found: Conventions, row: Row) -> tuple[str, str]:
    """Return what segcli has and what the tool prints, so that two numbers that differ do not look alike."""
    own, shown = number(row.own, _measure(row)), _shown(found, row)
    theirs, unit = row.printed.value, "".join(shown.partition(" ")[1:])
    if row.difference < SEEN or own.endswith("%") or row.own is None or theirs is None:
        return own, shown
    if own == shown or (row.own and own == "0.000") or (theirs and shown == "0.000"):
        return f"{row.own:.3g}", f"{theirs:.3g}{unit}"
    return own, shown


def _shown(found: Conventions, row: Row) -> str:
    if row.printed.value is not None:
        unit = "" if row.unit == own_unit(found, row) else f" {row.unit}"
        return number(row.printed.value, _measure(row)) + unit
    words = row.printed.words
    short = {WORDS[w]: w for w in ("nan", "inf", "-inf", "raises", "1.8e308", "3.4e38", "1.7e38")}
    return short.get(words) or next((w for w in ("raises",) if w in words), "?" if "number" in words else DASH)


def _differs(row: Row) -> str:
    if row.difference == 0:
        return ""
    if math.isinf(row.difference):
        return DASH
    return percent(row.difference) if row.difference >= SEEN else "<1%"


def footnotes(found: Sequence[Conventions]) -> list[str]:
    notes = []
    rows = [r for case in found for r in case.rows]
    metrics = [r for r in rows if r.kind == "metric"]
    versions = dict.fromkeys(f"{r.tool} {r.version}" for r in metrics)
    if metrics:
        surfaces = {str(b.params["surface"]) for r in metrics if "surface" in (b := bind(r.reference, "metric")).params}
        notes += [f"segcli: surface={s} ({MEANING[s]})" for s in sorted(surfaces)]
        notes.append("differs: the difference as a share of the larger number; in brackets the value after that step")
        notes.append(f"computed by segcli, not by the tools: {', '.join(versions)}")
        notes += dict.fromkeys(n.text for case in found for n in case.notes if n.code == "threshold.cut")
        notes += dict.fromkeys(f"{r.tool} {r.call}: {r.note}" for r in metrics if r.note)
    notes += dict.fromkeys(text for case in found for text in case.loaded.grid.remarks)
    for how, words in CHECKED.items():
        names = dict.fromkeys(r.tool for r in metrics if r.checked == how)
        if words and names:
            notes.append(f"{', '.join(names)}: {words}")
    versions = dict.fromkeys(f"{r.tool} {r.version}" for r in rows if r.kind == "loss")
    if versions:
        notes.append(f"one case, other parameters at the library's defaults, computed by segcli: {', '.join(versions)}")
    return notes + warning_lines(note for case in found for note in case.notes)


def _tables(case: Conventions) -> list[Table]:
    return [rows_table(case, k) for k in ("metric", "loss") if any(r.kind == k for r in case.rows)]


def text(found: Sequence[Conventions], *, color: bool = False) -> str:
    """Return the tables of each case, and what they have in common at the end."""
    parts = []
    for case in found:
        parts += [heading(case, stacked=len(found) > 1), *(table.text(color=color) for table in _tables(case))]
    return "\n".join([*parts, *map(flat, footnotes(found))])


def markdown(found: Sequence[Conventions]) -> str:
    """Return the same as Markdown."""
    parts = []
    for case in found:
        parts += [escape_markdown(heading(case, stacked=len(found) > 1)), *(t.markdown() for t in _tables(case))]
    return "\n\n".join([*parts, "  \n".join(escape_markdown(n) for n in footnotes(found))])


def record(row: Row, case: Conventions) -> dict[str, Any]:
    return {
        "case": case.loaded.name,
        "kind": row.kind,
        "quantity": row.quantity,
        "label": row.label,
        "tool": row.tool,
        "version": row.version,
        "checked": row.checked,
        "call": row.call,
        "measure": row.measure,
        "prints": finite(row.printed.value),
        "words": row.printed.words,
        "reference": row.reference,
        "segcli": finite(row.own),
        "difference": finite(row.difference),
        "unit": row.unit,
        "because": list(row.because),
    }


def csv_text(found: Sequence[Conventions]) -> str:
    rows: list[Sequence[object]] = []
    names = ("case", "kind", "quantity", "label", "tool", "version", "call", "measure", "prints", "words", "reference",
             "segcli", "difference", "unit", "because")  # fmt: skip
    rows.append(names)
    for case in found:
        for row in case.rows:
            cells = record(row, case) | {"because": "; ".join(row.because)}
            rows.append(["" if (c := cells[n]) is None else repr(c) if isinstance(c, float) else c for n in names])
        rows += [[case.loaded.name, "note", n.code, *[""] * 11, n.text] for n in told_in_csv(case.notes)]
    return as_csv(rows)


def render(found: Sequence[Conventions], wanted: str, environment: dict[str, Any], *, color: bool = False) -> str:
    """Return what tools print for a pair, or for each case of a stack."""
    if wanted == "json":
        loaded = found[0].loaded
        return to_json(
            {
                "schema": SCHEMA,
                "pred": {"path": loaded.pred.name},
                "gt": {"path": loaded.gt.name},
                "shape": list(loaded.case.shape),
                "spacing": list(loaded.case.spacing),
                "unit": loaded.case.unit,
                "geometry": loaded.grid.geometry,
                "rows": [record(r, case) for case in found for r in case.rows],
                "notes": [note_to(n) for case in found for n in case.notes],
                "environment": environment,
            }
        )
    if wanted == "csv":
        return csv_text(found)
    return markdown(found) if wanted == "md" else text(found, color=color)


# --- means under rules for empty masks -----------------------------------------------------------


def means_table(found: Sequence[EmptyMean]) -> Table:
    """Return one row for each mean, with all rules that give it, the best first."""
    labels = len({m.label for m in found}) > 1
    table = Table(
        ["label"] * labels + ["measure", "mean", "values", "by rule", "", "rule"],
        left=frozenset({0, int(labels), int(labels) + 4, int(labels) + 5}),
    )
    merged: dict[tuple[Any, ...], list[EmptyMean]] = {}
    for m in found:
        merged.setdefault((m.label, m.measure, m.mean, m.n, m.by_rule, m.words), []).append(m)
    order = {key: i for i, key in enumerate(dict.fromkeys((m.label, m.measure) for m in found))}
    for (label, measure, mean, n, by_rule, words), group in sorted(
        merged.items(), key=lambda item: (order[item[0][:2]], item[0][2] is None, -(item[0][2] or 0))
    ):
        shown = number(mean, find(measure.split(":")[0], "metric"))
        alone = all(k[:2] != (label, measure) or g is group for k, g in merged.items())
        rules = "all rules" if alone else ", ".join(title(m.policy) for m in group)
        table.rows.append([label] * labels + [measure, shown, f"{n}/{group[0].of}", str(by_rule), words, rules])
    return table


def title(policy: str) -> str:
    tool = tools().get(policy)
    return policy if tool is None else f"{tool.title} {tool.version}"


MEANS_NOTE = (
    "values: how many of the cases the mean rests on; by rule: how many of them the rule put in; nan is left out"
)


def render_means(found: Sequence[EmptyMean], wanted: str, environment: dict[str, Any], *, color: bool = False) -> str:
    """Return the means as a table, Markdown, CSV or JSON."""
    records = [
        {
            "label": m.label, "measure": m.measure, "rule": m.policy, "mean": finite(m.mean), "n": m.n, "of": m.of,
            "by_rule": m.by_rule, "words": m.words,
        }
        for m in found
    ]  # fmt: skip
    if wanted == "json":
        return to_json({"schema": SCHEMA, "rows": [], "empty": records, "notes": [], "environment": environment})
    if wanted == "csv":
        cells = [[repr(v) if isinstance(v, float) else "" if v is None else v for v in r.values()] for r in records]
        return as_csv([list(records[0]), *cells])
    table = means_table(found)
    return f"{table.markdown()}\n\n{MEANS_NOTE}" if wanted == "md" else f"{table.text(color=color)}\n{MEANS_NOTE}"
