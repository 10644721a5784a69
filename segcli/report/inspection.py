"""A loss taken apart, as text and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from segcli.explain.disagreement import Disagreement
from segcli.explain.divisions import NO_BOUNDARY
from segcli.explain.inspection import Inspection, Part
from segcli.masks.mask import Note
from segcli.report.noted import told_in_csv, warning_lines
from segcli.report.table import Table, flat, geometry_text, grouped, percent, significant
from segcli.report.tidy import as_csv
from segcli.run.codec import finite, note_to
from segcli.wording import counted

SCHEMA = "segcli.inspect/1"
#: Rows of a table of components or slices; JSON has all of them.
MOST = 8
#: How many other losses the sentence on their disagreement names.
OTHERS = 3
#: What is left over of a map up to this share of it is rounding.
ROUNDING = 1e-12
#: A share of voxels that are right is explained from here on.
DOUBT = 0.005


def text(found: Inspection, *, color: bool = False) -> str:
    """Return the headline, a table for each division that was asked for, and why other losses disagree."""
    said = remarks(found)
    if found.parts and all(found.share(p) is None for p in found.parts):
        least = f"{found.loss} {significant(found.value)}: {said[0]}, nothing to divide"
        remarks_too = [*found.loaded.grid.remarks, *map(flat, warning_lines(found.loaded.notes))]
        return "\n".join([least, *_overruled(found), *remarks_too])
    lines = [flat(headline(found)), *said]
    tables = [by for by in dict.fromkeys(p.by for p in found.parts) if by in ("component", "slice", "label")]
    lines += [_table(found, by).text(color=color) for by in tables if by != "label" or len(_of(found, by)) > 1]
    lines += [*_remarks(found, tables), *found.loaded.grid.remarks]
    if found.disagreement is not None:
        lines.append(flat(sentence(found.disagreement, found.loaded.case.unit, several=len(found.channels) > 1)))
    if abs(found.residual) > max(1e-9 * abs(found.value), ROUNDING * float(abs(found.map).sum())):
        lines.append(f"residual {significant(found.residual)}: what the voxel map does not explain")
    return "\n".join([*lines, *map(flat, warning_lines(found.loaded.notes))])


def remarks(found: Inspection) -> list[str]:
    """Return what the numbers alone do not say: that this is the least, or that the loss is blind here."""
    blind = "blind: the same for every prediction of this gt"
    if found.divisible is not None:
        less = f"less than at {found.asked}, which is not the least of this loss" if found.excess < 0 else ""
        return [text for text in (less, f"{', '.join(found.blind)}: {blind}" if found.blind else "") if text]
    if found.is_blind:
        return [blind]
    if float(abs(found.excess_map).sum()) > ROUNDING * float(abs(found.map).sum()):
        return [f"as at {found.asked}: what some voxels gain others lose"]
    if found.wrong:
        return [f"as at {found.asked}: it does not see the {counted(found.wrong, 'wrong voxel')}"]
    return ["the least it can be for this gt" if found.is_least else f"its value at {found.asked}"]


def headline(found: Inspection) -> str:
    """Return the value with its kinds and bands: `dice 0.1556 = FN 61% + FP 39%   band 0-1 mm 48%`."""
    unit = found.loaded.case.unit
    line = f"{found.loss} {significant(found.value)}"
    if _has_optimum(found):
        gain = found.excess
        line += f" = {significant(found.optimum)} at {found.asked} {'-' if gain < 0 else '+'} {significant(abs(gain))}"
    parts = _merged(found, "kind") + _merged(found, "band")
    kinds = sorted((p for p in parts if p.by == "kind" and p.excess), key=lambda p: -abs(p.excess))
    if kinds:
        line += ": " if _has_optimum(found) else " = "
        line += " + ".join(f"{p.name.upper()} {percent(found.share(p))}" for p in kinds)
    bands = [p for p in parts if p.by == "band" and p.voxels]
    if [p.name for p in bands] == [NO_BOUNDARY]:
        line += "   no band: the gt has no boundary"
    elif bands:
        line += "   band " + ", ".join(f"{p.name} {unit} {percent(found.share(p))}" for p in bands)
    return line


def sentence(found: Disagreement, unit: str, *, several: bool) -> str:
    """Return why losses disagree: a component or band, and its share of each of a few losses."""
    voxels = counted(found.voxels, "voxel", shown=grouped(found.voxels))
    if found.by == "component":
        side, number = found.name.split()
        what = f"{side} component {number} ({voxels}, {found.note})"
    else:
        what = f"band {found.name} {unit} from the boundary ({voxels})"
    shares = list(found.shares.items())[: 1 + OTHERS]
    listed = ", ".join(f"{percent(share)} of {loss}" for loss, share in shares)
    label = f"label {found.label}" if found.label.isdigit() else found.label
    return f"{f'{label}: ' if several else ''}{what}: {listed}: why these losses disagree"


def _has_optimum(found: Inspection) -> bool:
    """Return whether the optimum shows in the digits that are printed."""
    return abs(found.optimum) > 5e-4 * max(abs(found.value), abs(found.excess))


def _of(found: Inspection, by: str) -> list[Part]:
    return [p for p in found.parts if p.by == by]


def _merged(found: Inspection, by: str) -> list[Part]:
    """Return the parts of a division summed over labels."""
    merged: dict[str, Part] = {}
    for p in _of(found, by):
        old = merged.get(p.name)
        if old is None:
            merged[p.name] = replace(p, label="")
        else:
            merged[p.name] = replace(
                old, value=old.value + p.value, excess=old.excess + p.excess, voxels=old.voxels + p.voxels
            )
    return list(merged.values())


def _table(found: Inspection, by: str) -> Table:
    """Return the parts with the largest shares; what is no object comes after those that are, of one label only."""
    parts = _merged(found, by) if by == "slice" else _of(found, by)
    several = len({p.label for p in parts}) > 1 and by != "label"
    ranked = sorted(parts, key=lambda p: -abs(p.excess))
    ranked = [p for p in ranked if not p.rest][:MOST] + [p for p in ranked if p.rest and not several]
    number = "excess" if _has_optimum(found) else "value"
    table = Table(["label"] * several + [by, "share", number, "voxels"], left=frozenset(range(1 + several)))
    if any(p.note for p in ranked):
        table.headers.append("")
        table.left |= {len(table.headers) - 1}
    for p in ranked:
        cells = [p.name, percent(found.share(p)), significant(p.excess), grouped(p.voxels), p.note]
        table.rows.append([*[p.label] * several, *cells][: len(table.headers)])
    return table


def _overruled(found: Inspection) -> list[str]:
    """Return that the headers of the files were overruled, where they were."""
    grid = found.loaded.grid.geometry
    return [] if grid in ("ok", "shapes only") else [flat(geometry_text(grid))]


def _remarks(found: Inspection, tables: Sequence[str]) -> list[str]:
    """Return what a reader of the tables has to know."""
    said = _overruled(found)
    left = [(by, len([p for p in _of(found, by) if not p.rest]) - MOST) for by in ("component",) if by in tables]
    left += [("slice", len(_merged(found, "slice")) - MOST)] if "slice" in tables else []
    more = ", ".join(counted(n, f"more {by}", shown=grouped(n)) for by, n in left if n > 0)
    said += [f"{more}: -f json has all"] if more else []
    if any((found.share(p) or 0) > DOUBT for p in _merged(found, "kind") if p.name in ("tp", "tn")):
        said.append("TP, TN: voxels on the right side of the threshold that are not certain")
    if "component" in tables:
        said.append(
            "component: those of gt and those of pred divide the same voxels, each with the outside adds up to 100%"
        )
    return said


def document(found: Inspection, environment: dict[str, Any]) -> dict[str, Any]:
    """Return an inspection as plain data (`segcli.inspect/1`), every part of it."""
    return {
        "schema": SCHEMA,
        "pred": {"path": found.loaded.pred.name},
        "gt": {"path": found.loaded.gt.name},
        "loss": found.loss,
        "value": finite(found.value),
        "optimum": finite(found.optimum),
        "excess": finite(found.excess),
        "residual": finite(found.residual),
        "unit": found.loaded.case.unit,
        "geometry": found.loaded.grid.geometry,
        "average": found.average,
        "parts": [
            {
                "by": p.by,
                "label": p.label,
                "name": p.name,
                "value": finite(p.value),
                "excess": finite(p.excess),
                "share": finite(found.share(p)),
                "voxels": p.voxels,
                "note": p.note,
            }
            for p in found.parts
        ],
        "disagreement": None if found.disagreement is None else _disagreement(found.disagreement),
        "notes": [note_to(n) for n in [*found.loaded.notes, *map(Note, remarks(found))]],
        "environment": environment,
    }


def _disagreement(found: Disagreement) -> dict[str, Any]:
    return {
        "by": found.by,
        "label": found.label,
        "name": found.name,
        "voxels": found.voxels,
        "note": found.note,
        "shares": [{"loss": loss, "share": finite(share)} for loss, share in found.shares.items()],
    }


def csv_text(found: Inspection) -> str:
    rows: list[list[object]] = [
        [p.by, p.label, p.name, repr(p.value), repr(p.excess), p.voxels, p.note] for p in found.parts
    ]
    rows += [["note", "", n.code, "", "", "", n.text] for n in told_in_csv(found.loaded.notes)]
    return as_csv([["by", "label", "name", "value", "excess", "voxels", "note"], *rows])
