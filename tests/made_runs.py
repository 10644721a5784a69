"""Runs made from tables of values, for the tests of what reads runs; and the doors for runs that are plain dicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcli.gates import verdicts
from segcli.gates.rules import Rules
from segcli.report import latex
from segcli.run import cite as citing
from segcli.run import comparability, summary
from segcli.run.codec import cases_from, summary_to
from segcli.run.model import Run
from segcli.run.reading import load_run, run_of
from segcli.run.summary import Resampling
from segcli.tools import means

Document = dict[str, Any] | Run


def as_run(document: Document) -> Run:
    """Return the run that a file with this document holds; the document itself stays as it is."""
    return document if isinstance(document, Run) else run_of(json.loads(json.dumps(document)), "test")


def read_run(path: Path, **options: Any) -> dict[str, Any]:
    """Return the document of the run that a file holds."""
    return load_run(path, **options).to_dict()


def judge_run(rules: Rules, run: Document, baseline: Document | None = None) -> verdicts.Judgement:
    return verdicts.judge_run(rules, as_run(run), None if baseline is None else as_run(baseline))


def Source(name: str, run: Document) -> comparability.Source:  # noqa: N802 (it stands for the class)
    return comparability.Source(name, as_run(run))


def cite(run: Document) -> citing.Citation:
    return citing.cite(as_run(run))


def empty_means(run: Document) -> list[means.EmptyMean]:
    return means.empty_means(as_run(run))


def run_latex(run: Document, *options: Any) -> str:
    return latex.run_latex(as_run(run), *options)


def summaries(cases: Sequence[dict[str, Any]], *options: Any, **more: Any) -> list[dict[str, Any]]:
    """Return the records of the summary of cases that are records."""
    models = cases_from(json.loads(json.dumps(list(cases))))
    return [summary_to(row) for row in summary.summaries(models, *options, **more)]


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
