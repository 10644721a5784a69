"""The `summary.json` that nnU-Net's evaluation writes, as a run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from segcli.errors import InputError

#: nnU-Net's name of a value -> ours; what else it writes are counts.
MEASURES = {"n_ref": "voxels_gt", "n_pred": "voxels_pred", "Dice": "dice", "IoU": "iou"}
#: No value is beyond: squares of such numbers overflow.
MOST = 1e150
COUNTS = {"tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN"}


def converted(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a `summary.json` as a run: its Dice and IoU with the counts that they come from.

    A Dice or IoU of NaN or null is undefined: no voxel of the label in either file. The means of the file
    are not taken over: they are made from the cases again, as those of any run.
    """
    records = found["metric_per_case"]
    if not isinstance(records, list):
        raise InputError(f"{where}: metric_per_case is no list.", code="run.nnunet")
    names = case_names([_path(r, where) for r in records])
    cases = [_case(name, record, where) for name, record in zip(names, records, strict=True)]
    labels: dict[str, list[int]] = {}
    for case in cases:
        labels |= case["labels"]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"{where}: case {twice} is there twice.", code="run.case")
    from segcli.summary import Resampling, summaries

    cases.sort(key=lambda case: str(case["case"]))
    return {
        "schema": "segcli.run/1",
        "spec": {
            "measures": [f"metric.{name}" for name in MEASURES.values()],
            "labels": labels,
            "empty": "undefined",
            "source": "nnU-Net",
        },
        "cases": cases,
        "missing": [],
        "errors": [],
        "summary": summaries(cases, Resampling()),
        "environment": {},
    }


def case_names(paths: Sequence[str]) -> list[str]:
    """Return the name of each file without folder and suffix; with as much folder as makes names differ."""
    bare = [re.sub(r"(\.nii)?\.[^./]+$", "", path.replace("\\", "/")) for path in paths]
    for parts in range(1, 1 + max((name.count("/") + 1 for name in bare), default=0)):
        names = ["/".join(name.split("/")[-parts:]) for name in bare]
        if len(set(names)) == len(names):
            return names
    return bare


def _path(record: object, where: str) -> str:
    for key in ("prediction_file", "reference_file"):
        if isinstance(record, dict) and isinstance(record.get(key), str):
            return str(record[key])
    raise InputError(f"{where}: a record of metric_per_case names no file.", code="run.nnunet")


def _case(name: str, record: Mapping[str, Any], where: str) -> dict[str, Any]:
    metrics = record.get("metrics")
    if not isinstance(metrics, dict) or not all(isinstance(m, dict) for m in metrics.values()):
        raise InputError(f"{where}: case {name} has no metrics.", code="run.nnunet")
    labels = {_label(key): _label_values(key, where) for key in metrics}
    if len(labels) < len(metrics):
        raise InputError(f"{where}: case {name} has a label twice: {', '.join(metrics)}.", code="run.nnunet")
    counts, values = {}, []
    for key, own in metrics.items():
        numbers = {word: _number(own.get(word), f"{where}: case {name}, label {key}, {word}") for word in own}
        lacking = [word for word in COUNTS.values() if numbers.get(word) is None]
        if lacking:
            raise InputError(f"{where}: case {name}, label {key}: no {', '.join(lacking)}.", code="run.nnunet")
        told = {word: numbers[word] or 0 for word in COUNTS.values()}
        broken = [word for word, number in told.items() if number != int(number) or number < 0]
        if broken:
            raise InputError(
                f"{where}: case {name}, label {key}: {', '.join(broken)} is no whole number from 0 on.",
                code="run.nnunet",
            )
        count = {ours: int(told[theirs]) for ours, theirs in COUNTS.items()}
        counts[_label(key)] = count
        numbers.setdefault("n_ref", count["tp"] + count["fn"])
        numbers.setdefault("n_pred", count["tp"] + count["fp"])
        empty = count["tp"] + count["fp"] + count["fn"] == 0
        for theirs, ours in MEASURES.items():
            value = numbers.get(theirs)
            if value is not None or theirs in own:
                values.append(_value(_label(key), ours, value, why="both_empty" if empty else "zero_denominator"))
    regions = [label for label, wanted in labels.items() if len(wanted) > 1]
    return {
        "case": name,
        "group": {},
        "pred": {"path": str(record.get("prediction_file", "")), "sha256": None},
        "gt": {"path": str(record.get("reference_file", "")), "sha256": None},
        "status": "ok",
        "labels": labels,
        "regions": regions,
        "counts": counts,
        "values": values,
    }


def _value(label: str, measure: str, value: float | None, *, why: str) -> dict[str, Any]:
    record = {"label": label, "kind": "metric", "measure": measure, "value": value, "unit": ""}
    return {**record, "status": "ok"} if value is not None else {**record, "status": "undefined", "why": why}


def _label(key: str) -> str:
    """Return the name of a label or region: nnU-Net writes `1` and `(1, 2)`."""
    return "+".join(re.findall(r"-?\d+", key)) or key


def _label_values(key: str, where: str) -> list[int]:
    found = [int(text) for text in re.findall(r"-?\d+", key)]
    if not found:
        raise InputError(f"{where}: {key!r} is neither a label nor a region.", code="run.nnunet")
    return found


def _number(value: object, what: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > MOST:
        raise InputError(f"{what}: {value!r} is no finite number.", code="run.nnunet")
    return None if math.isnan(value) else value
