"""From the records of all cases to one run: what only the whole cohort can decide is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segcli.cohort.work import Record
from segcli.measure import BoundMeasure, bind
from segcli.run import finite

#: What a record holds for this module alone.
_OWN = ("occur", "literal", "voxels", "error")


def assemble(
    spec: Mapping[str, Any], records: Iterable[Record], groups: Mapping[str, Mapping[str, str]]
) -> tuple[list[Record], list[Record]]:
    """Return the cases and the errors of a run, each sorted by case; `spec` is that of the run.

    Without named labels the label set is the union over all cases: where every prediction has the same one
    value, or none, and every ground truth too, the cohort is binary; else a value is a label, also in cases
    whose two files have only one each. A label that neither file of a case has is undefined there.
    """
    ordered = sorted(records, key=lambda r: str(r["case"]))
    errors = [{"case": r["case"], **r["error"]} for r in ordered if "error" in r]
    scored = [r for r in ordered if "error" not in r]
    if spec["labels"] is None and not _binary(scored):
        scored = _with_all_labels(spec, [_by_value(r) for r in scored])
    cases = [
        {key: value for key, value in r.items() if key not in _OWN} | {"group": dict(groups.get(_file_case(r), {}))}
        for r in scored
    ]
    return cases, errors


def _file_case(record: Record) -> str:
    """Return the case that a record's files are of: an image of a stack is `case[3]`."""
    name = str(record["case"])
    return name.rpartition("[")[0] if name.endswith("]") else name


def _binary(records: Sequence[Record]) -> bool:
    return all(len({v for r in records for v in r["occur"][side]}) <= 1 for side in ("pred", "gt")) and all(
        list(r["labels"].values()) == ["any"] for r in records
    )


def _by_value(record: Record) -> Record:
    """Return a record that was scored as binary with its values as labels."""
    if list(record["labels"].values()) != ["any"]:
        return record
    if "literal" in record:
        return {**record, **record["literal"]}
    values = sorted({*record["occur"]["pred"], *record["occur"]["gt"]})
    if not values:
        return record | {"labels": {}, "counts": {}, "values": []}
    old, new = next(iter(record["labels"])), str(values[0])
    return record | {
        "labels": {new: values},
        "counts": {new: record["counts"][old]},
        "values": [v | {"label": new} if v["label"] == old else v for v in record["values"]],
    }


def _with_all_labels(spec: Mapping[str, Any], records: Sequence[Record]) -> list[Record]:
    """Return the records with every label of any of them; where a case lacks one, both its masks are empty."""
    known: dict[str, list[int]] = {label: v for r in records for label, v in r["labels"].items()}
    names = sorted(known, key=lambda name: known[name])
    measures = [bind(text) for text in spec["measures"]]
    measures = [b for b in measures if b.measure.kind != "table" and not b.over_classes]
    found = []
    for record in records:
        own = {name: [v for v in record["values"] if v["label"] == name] for name in names}
        lacking = [name for name in names if name not in record["labels"]]
        for name in lacking:
            own[name] = [_absent(bound, name, record, spec["empty"]) for bound in measures]
        rest = [v for v in record["values"] if v["label"] not in own]
        nothing = {"tp": 0, "fp": 0, "fn": 0, "tn": record["voxels"]}
        found.append(
            record
            | {
                "labels": {name: known[name] for name in names},
                "counts": {name: record["counts"].get(name, nothing) for name in names},
                "values": [value for name in names for value in own[name]] + rest,
            }
        )
    return found


def _absent(bound: BoundMeasure, label: str, record: Record, empty: str) -> Record:
    """Return what a measure says of a label that neither map of a case has."""
    from segcli.evaluate import Status, metric_value, unit_of
    from segcli.pooled import NoGridError

    kind = bound.measure.kind
    value: float | None = None
    status: Status = "undefined"
    why = "both_empty"
    if kind == "metric" and bound.measure.reads == "labels":
        try:
            value, status, why = metric_value(bound, _nothing(record), empty)
        except NoGridError:  # a surface of nothing
            value, status, why = None, "undefined", "both_empty"
    found: Record = {
        "label": label,
        "kind": kind,
        "measure": bound.name,
        "value": finite(value),
        "unit": unit_of(bound, record["unit"], len(record["shape"])),
        "status": status,
    }
    return found | ({"why": why} if why else {})


def _nothing(record: Record) -> Any:
    """Return the evidence of a label that neither map has, on a case's grid."""
    from types import SimpleNamespace

    from segcli.pair import Counts
    from segcli.pooled import PooledCounts

    evidence = PooledCounts([Counts(0, 0, 0, record["voxels"])], math.prod(record["spacing"]))
    sides = [n * s for n, s in zip(record["shape"], record["spacing"], strict=True)]
    evidence.__dict__["case"] = SimpleNamespace(diagonal=math.hypot(*sides))
    return evidence
