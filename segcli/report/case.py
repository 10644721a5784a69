"""A scored case as a table with its header and footnotes, and as tidy CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from segcli.evaluate import MEAN_WITHOUT_BACKGROUND, Mean, Scored, Value
from segcli.gate import Verdict
from segcli.measure import BoundMeasure
from segcli.report.table import Table, escape_markdown, number, shape_text, spacing_text

WHY = {"both_empty": "both empty", "pred_empty": "pred empty", "gt_empty": "gt empty", "zero_denominator": "0/0"}
SURFACES = {
    "surfel": "area-weighted elements of the dual grid, as surface-distance",
    "border": "voxels with a face neighbour outside, each counting 1, as MONAI and MedPy",
    "mesh": "area-weighted triangles, exact distances to the other mesh, as MeshMetrics",
}


def heading(case: Scored) -> str:
    """Return the line that says which files were compared on which grid."""
    aligned = "geometry ok" if case.pred.affine is not None and case.gt.affine is not None else "geometry: shapes only"
    grid = f"{shape_text(case.shape)} · {spacing_text(case.spacing, case.unit)} · {aligned}"
    return f"{case.pred.name} vs {case.gt.name}   {grid}"


def score_table(cases: Sequence[Scored], measures: Sequence[BoundMeasure]) -> Table:
    """Return one row for each label (and case, when there are several) and a mean row."""
    common = common_surface(measures)
    several = len(cases) > 1
    first = cases[0]
    units = {(m.kind, m.measure): m.unit for m in first.means}
    headers = ["case"] * several + ["label"]
    headers += [_header(b, units.get((b.measure.kind, b.name), ""), common, measures) for b in measures]
    table = Table([*headers, ""], left=frozenset({0, int(several), len(headers)}))
    for case in cases:
        for label in case.labels:
            values = {(v.kind, v.measure): v for v in case.values if v.label == label.name}
            cells = [number(values[b.measure.kind, b.name].value, b.measure) for b in measures]
            table.rows.append([case.case] * several + [label.name, *cells, _remark(case, label.name)])
        for name in mean_labels(case):
            _add_mean(table, case, name, measures, several=several)
    if all(not row[-1] for row in table.rows):
        table.headers.pop()
        table.rows = [row[:-1] for row in table.rows]
    return table


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
    if counts.pred and counts.gt:
        return ""
    return WHY["both_empty" if not counts.pred and not counts.gt else "gt_empty" if counts.pred else "pred_empty"]


def mean_labels(case: Scored) -> list[str]:
    """Return the names of the mean rows that say something; a mean over one label is that label's row."""
    return list(dict.fromkeys(m.label for m in case.means if m.of > 1 or m.label != "mean"))


def _add_mean(table: Table, case: Scored, name: str, measures: Sequence[BoundMeasure], *, several: bool) -> None:
    means = {(m.kind, m.measure): m for m in case.means if m.label == name}
    row, rests = [case.case] * several + [name], [""] * (int(several) + 1)
    for bound in measures:
        mean = means.get((bound.measure.kind, bound.name))
        shown = mean is not None and mean.of > 1 and bound.measure.better != "none"
        row.append(number(mean.value, bound.measure) if mean is not None and shown else "")
        rests.append(f"({mean.n}/{mean.of})" if mean is not None and shown and mean.n < mean.of else "")
    table.emphasis.add(len(table.rows))
    table.rows.append([*row, ""])
    if any(rests):
        table.rows.append([*rests, ""])


def footnotes(cases: Sequence[Scored], measures: Sequence[BoundMeasure], empty: str) -> list[str]:
    """Return what definition the numbers follow and why some are undefined."""
    notes = []
    surfaces = {str(b.params["surface"]) for b in measures if "surface" in b.params}
    notes += [f"surface={name} ({SURFACES[name]})" for name in sorted(surfaces)]
    if any(b.name.startswith("boundary_iou") for b in measures):
        notes.append("boundary_iou: Euclidean inner bands (segcli catalog boundary_iou)")
    if any(m.label == MEAN_WITHOUT_BACKGROUND for m in cases[0].means):
        notes.append("mean of a loss: over all channels, the background included; of a metric: over the labels")
    if empty != "undefined":
        notes.append(f"empty masks: policy {empty}")
    return notes + _undefined(cases)


#: Why a value is undefined, in words, for the rows that it concerns.
BECAUSE = {
    "pred_empty": "the prediction has no voxel of this label",
    "gt_empty": "the ground truth has no voxel of this label",
    "both_empty": "neither mask has a voxel of this label",
    "zero_denominator": "0/0",
}


def _undefined(cases: Sequence[Scored]) -> list[str]:
    """Return one sentence for each reason and set of measures, with the rows that it holds for."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in cases:
        for v in case.values:
            if v.status == "undefined":
                row = f"{case.case} {v.label}" if len(cases) > 1 else v.label
                rows.setdefault((row, v.why), {})[v.measure.split(":")[0]] = ""
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (row, why), names in rows.items():
        grouped.setdefault((why, tuple(names)), []).append(row)
    return [
        f"{_some(found, 8)}: {BECAUSE[why]}; {_some(names, 6)} {'is' if len(names) == 1 else 'are'} undefined "
        f"(segcli catalog {names[0]})"
        for (why, names), found in grouped.items()
    ]


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return one line for each limit and label, failures first, and a count."""
    lines = []
    for v in sorted(verdicts, key=lambda v: v.passed):
        sign = (">=" if v.passed else "<") if v.rule.startswith("--min") else ("<=" if v.passed else ">")
        value = f"undefined ({WHY.get(v.why, v.why) or 'no value'})"
        if v.value is not None:
            digits = next((d for d in (4, 6, 9, 12) if f"{v.value:.{d}g}" != f"{v.limit:.{d}g}"), 17)
            value = f"{v.value:.{digits}g} {sign} {v.limit:.{digits}g}"
        lines.append(f"{'ok  ' if v.passed else 'FAIL'}  {v.label} {v.kind}.{v.measure} {value}")
    failed = sum(not v.passed for v in verdicts)
    return [*lines, f"{failed} failed, {len(verdicts) - failed} passed"] if verdicts else []


def score_text(
    cases: Sequence[Scored],
    measures: Sequence[BoundMeasure],
    empty: str,
    verdicts: Sequence[Verdict] = (),
    *,
    color: bool = False,
) -> str:
    table = score_table(cases, measures).text(color=color)
    return "\n".join([heading(cases[0]), table, *footnotes(cases, measures, empty), *verdict_lines(verdicts)])


def score_markdown(
    cases: Sequence[Scored], measures: Sequence[BoundMeasure], empty: str, verdicts: Sequence[Verdict] = ()
) -> str:
    notes = [escape_markdown(n) for n in [*footnotes(cases, measures, empty), *verdict_lines(verdicts)]]
    return "\n\n".join(
        [escape_markdown(heading(cases[0])), score_table(cases, measures).markdown(), "  \n".join(notes)]
    )


def score_csv(cases: Sequence[Scored]) -> str:
    """Return one line for each value and mean, numbers at full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "label", "kind", "measure", "value", "status", "why"])
    for case in cases:
        for v in case.values:
            writer.writerow([case.case, v.label, v.kind, v.measure, _exact(v), v.status, v.why])
        for m in case.means:
            if m.label in mean_labels(case):
                status = "undefined" if m.value is None else "ok"
                writer.writerow([case.case, m.label, m.kind, m.measure, _exact(m), status, ""])
    return stream.getvalue()


def _exact(value: Value | Mean) -> str:
    if value.value is None:
        return ""
    return (
        str(int(value.value))
        if float(value.value).is_integer() and abs(value.value) < 1e15
        else repr(float(value.value))
    )
