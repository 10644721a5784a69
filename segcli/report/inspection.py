"""A loss taken apart, as text and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segcli.inspection import Inspection, Part
from segcli.report.table import Table, grouped, percent, significant
from segcli.run import finite

SCHEMA = "segcli.inspect/1"
#: Rows of a table of components or slices; JSON has all of them.
MOST = 8


def text(found: Inspection, *, color: bool = False) -> str:
    """Return the headline and a table for each division that was asked for."""
    lines = [headline(found)]
    tables = [by for by in dict.fromkeys(p.by for p in found.parts) if by in ("component", "slice", "label")]
    lines += [_table(found, by).text(color=color) for by in tables if by != "label" or len(_of(found, by)) > 1]
    if abs(found.residual) > 1e-9 * max(abs(found.value), 1e-300):
        lines.append(f"residual {significant(found.residual)}: what the voxel map does not explain")
    return "\n".join(lines)


def headline(found: Inspection) -> str:
    """Return the value with its kinds and bands: `dice 0.1556 = FN 61% + FP 39%   band 0-1 mm 48%`."""
    unit = found.loaded.case.unit
    kinds = [p for p in _merged(found, "kind") if p.value]
    kinds.sort(key=lambda p: -abs(p.value))
    line = f"{found.loss} {significant(found.value)}"
    if kinds:
        line += " = " + " + ".join(f"{p.name.upper()} {percent(found.share(p))}" for p in kinds)
    bands = [p for p in _merged(found, "band") if p.voxels]
    if bands:
        line += "   band " + ", ".join(f"{p.name} {unit} {percent(found.share(p))}" for p in bands)
    if found.optimum:
        line += f"   optimum {significant(found.optimum)}"
    return line


def _of(found: Inspection, by: str) -> list[Part]:
    return [p for p in found.parts if p.by == by]


def _merged(found: Inspection, by: str) -> list[Part]:
    """Return the parts of a division summed over labels."""
    merged: dict[str, Part] = {}
    for p in _of(found, by):
        old = merged.get(p.name)
        value, voxels = (p.value, p.voxels) if old is None else (old.value + p.value, old.voxels + p.voxels)
        merged[p.name] = Part(by, "", p.name, value, voxels)
    return list(merged.values())


def _table(found: Inspection, by: str) -> Table:
    parts = _merged(found, by) if by == "slice" else _of(found, by)
    ranked = sorted(parts, key=lambda p: -abs(p.value))[:MOST]
    several = len({p.label for p in parts}) > 1 and by != "label"
    table = Table(["label"] * several + [by, "share", "value", "voxels"], left=frozenset(range(1 + several)))
    if any(p.note for p in ranked):
        table.headers.append("")
        table.left |= {len(table.headers) - 1}
    for p in ranked:
        cells = [p.name, percent(found.share(p)), significant(p.value), grouped(p.voxels), p.note]
        table.rows.append([*[p.label] * several, *cells][: len(table.headers)])
    return table


def document(found: Inspection, environment: dict[str, Any]) -> dict[str, Any]:
    """Return an inspection as plain data (`segcli.inspect/1`), every part of it."""
    return {
        "schema": SCHEMA,
        "pred": {"path": found.loaded.pred.name},
        "gt": {"path": found.loaded.gt.name},
        "loss": found.loss,
        "value": finite(found.value),
        "optimum": finite(found.optimum),
        "residual": finite(found.residual),
        "unit": found.loaded.case.unit,
        "parts": [
            {
                "by": p.by,
                "label": p.label,
                "name": p.name,
                "value": finite(p.value),
                "share": finite(found.share(p)),
                "voxels": p.voxels,
                "note": p.note,
            }
            for p in found.parts
        ],
        "notes": [{"level": n.level, "text": n.text} for n in found.loaded.notes],
        "environment": environment,
    }


def csv_text(parts: Sequence[Part]) -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["by", "label", "name", "value", "voxels", "note"])
    for p in parts:
        writer.writerow([p.by, p.label, p.name, repr(p.value), p.voxels, p.note])
    return stream.getvalue()
