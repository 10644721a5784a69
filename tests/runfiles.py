"""Run files written by hand: dicts of the schema `segcli.run/1` with the values that a test says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNITS = {"hd95": "mm", "assd": "mm"}


def value_of(label: str, measure: str, value: float | str | None) -> dict[str, Any]:
    """Return a value's record; a text is why it is undefined."""
    kind, dot, name = measure.rpartition(".")
    record: dict[str, Any] = {
        "label": label,
        "kind": kind if dot else "metric",
        "measure": name if dot else measure,
        "value": None if isinstance(value, str) else value,
        "unit": UNITS.get(name.split(":")[0], ""),
        "status": "undefined" if isinstance(value, str) else "ok",
    }
    return record | ({"why": value} if isinstance(value, str) else {})


def run_of(
    values: Mapping[str, Mapping[str, Mapping[str, float | str]]],
    *,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    counts: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    missing: Sequence[str] = (),
    errors: Sequence[str] = (),
    summary: Sequence[Mapping[str, Any]] = (),
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a run of {case: {label: {measure: value}}}; labels are 1, 2, 3 in the order in which they come."""
    regions = regions or {}
    labels = list(dict.fromkeys(x for case in values.values() for x in case if x != "all" and x not in regions))
    named = {name: [i] for i, name in enumerate(labels, start=1)} | {k: list(v) for k, v in regions.items()}
    measures = list(dict.fromkeys(m for case in values.values() for row in case.values() for m in row))
    cases = [
        {
            "case": case,
            "group": dict((groups or {}).get(case, {})),
            "pred": {"path": f"pred/{case}.nii.gz", "sha256": None},
            "gt": {"path": f"gt/{case}.nii.gz", "sha256": None},
            "shape": [30, 40, 50],
            "spacing": [1.0, 1.0, 1.0],
            "unit": "mm",
            "status": "ok",
            "notes": [],
            "labels": {name: named[name] for name in rows if name != "all"},
            "regions": [name for name in rows if name in regions],
            "counts": {
                label: dict(zip(("tp", "fp", "fn", "tn"), own, strict=True))
                for label, own in (counts or {}).get(case, {}).items()
            },
            "values": [value_of(label, m, v) for label, row in rows.items() for m, v in row.items()],
        }
        for case, rows in values.items()
    ]
    return {
        "schema": "segcli.run/1",
        "spec": {
            "measures": [m if "." in m.split(":")[0] else f"metric.{m}" for m in measures],
            "labels": None,
            "ignore": None,
            "empty": "undefined",
            "threshold": 0.5,
            "geometry": "error",
            "sha256": "0" * 64,
            **(spec or {}),
        },
        "cases": cases,
        "missing": [{"case": name, "side": "pred", "path": f"gt/{name}.nii.gz"} for name in missing],
        "errors": [{"case": name, "code": "geometry.shape", "message": "shape 2x2 vs 2x3"} for name in errors],
        "summary": list(summary),
        "environment": {},
    }


def dice_run(**values: float | str) -> dict[str, Any]:
    """Return a run with one label, `organ`, and one metric."""
    return run_of({case: {"organ": {"dice": value}} for case, value in values.items()})


def write(path: Path, run: Mapping[str, Any]) -> Path:
    """Write a run file and return its path."""
    path.write_text(json.dumps(run, allow_nan=False))
    return path
