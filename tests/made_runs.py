"""Runs made from tables of values, for the tests of what reads runs."""

from __future__ import annotations

from typing import Any

from segcli.run.summary import Resampling, summaries

#: Value of a case: a number, or why there is none.
Cell = float | str


def record(label: str, measure_id: str, cell: Cell, unit: str = "") -> dict[str, Any]:
    kind, _, measure = measure_id.partition(".")
    head = {"label": label, "kind": kind, "measure": measure, "unit": unit}
    if isinstance(cell, str):
        return {**head, "value": None, "status": "undefined", "why": cell}
    return {**head, "value": cell, "status": "ok"}


def made_run(
    columns: dict[tuple[str, str], list[Cell | None]],
    *,
    regions: tuple[str, ...] = (),
    units: dict[str, str] | None = None,
    missing: tuple[str, ...] = (),
    errors: tuple[str, ...] = (),
    names: list[str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a run of (label, measure id) -> a cell for each case; `None` is a case without that label."""
    units = units or {}
    size = max(len(column) for column in columns.values())
    names = names or [f"case_{i:03}" for i in range(size)]
    labels = list(dict.fromkeys(label for label, _ in columns))
    cases = []
    for i, name in enumerate(names):
        if name in missing or name in errors:
            continue
        values = [
            record(label, measure, column[i], units.get(measure, ""))
            for (label, measure), column in columns.items()
            if i < len(column) and column[i] is not None
        ]
        here = [label for label in labels if any(v["label"] == label for v in values) and label != "all"]
        cases.append(
            {
                "case": name,
                "group": {},
                "pred": {"path": f"pred/{name}.npy", "sha256": "0" * 64},
                "gt": {"path": f"gt/{name}.npy", "sha256": "1" * 64},
                "shape": [3, 4],
                "spacing": [1.0, 1.0],
                "unit": "mm",
                "status": "ok",
                "notes": [],
                "labels": {label: [labels.index(label) + 1] for label in here},
                "regions": [r for r in regions if r in here],
                "counts": {label: {"tp": 1, "fp": 0, "fn": 0, "tn": 11} for label in here},
                "values": values,
            }
        )
    return {
        "schema": "segcli.run/1",
        "spec": {
            "measures": list(dict.fromkeys(measure for _, measure in columns)),
            "labels": None,
            "ignore": None,
            "empty": "undefined",
            "convention": None,
            "threshold": 0.5,
            "geometry": "error",
            "spacing": None,
            "sha256": "2" * 64,
            **spec,
        },
        "cases": cases,
        "missing": [{"case": name, "side": "pred", "path": f"gt/{name}.npy"} for name in missing],
        "errors": [{"case": name, "code": "geometry.shape", "message": "shapes differ"} for name in errors],
        "summary": summaries(cases, Resampling()),
        "environment": {
            "segcli": "0.1.0",
            "python": "3",
            "platform": "linux",
            "argv": [],
            "started": "",
            "seconds": 0.0,
        },
    }
