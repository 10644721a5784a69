"""The `summary.json` that nnU-Net's evaluation writes, of version 2 or 1, as a run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from segcli.errors import InputError
from segcli.evidence.counts import Counts
from segcli.run.model import Run
from segcli.run.records import Case, File, LabelValues, Spec, Summary, Value

#: nnU-Net's name of a value -> ours; what else it writes are counts.
MEASURES = {"n_ref": "voxels_gt", "n_pred": "voxels_pred", "Dice": "dice", "IoU": "iou"}
#: No value is beyond: squares of such numbers overflow.
MOST = 1e150
COUNTS = {"tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN"}
#: The same of version 1. Its surface distances are left out: they are in voxels or mm, and it does not say which.
MEASURES_1 = {
    "Total Positives Reference": "voxels_gt",
    "Total Positives Test": "voxels_pred",
    "Dice": "dice",
    "Jaccard": "iou",
    "Precision": "precision",
    "Recall": "sensitivity",
    "True Negative Rate": "specificity",
    "Negative Predictive Value": "npv",
    "Accuracy": "accuracy",
    "False Positive Rate": "fpr",
    "False Negative Rate": "fnr",
    "False Discovery Rate": "fdr",
    "False Omission Rate": "false_omission_rate",
}


def is_summary(found: object) -> bool:
    """Return whether a document is a `summary.json` of nnU-Net."""
    return isinstance(found, dict) and "schema" not in found and ("metric_per_case" in found or _first(found))


def _first(found: Mapping[str, Any]) -> bool:
    """Return whether it is of version 1."""
    return isinstance(found.get("results"), dict) and "all" in found["results"]


def converted(found: Mapping[str, Any], where: str) -> Run:
    """Return a `summary.json` as a run: its Dice and IoU with the counts that they come from.

    A value of NaN or null is undefined: no voxel of the label in either file. The mean row is the file's
    `foreground_mean`; other means are made from the cases again, as those of any run. Version 1 has more measures, no
    counts and no `foreground_mean`, which is then made as version 2 makes it.
    """
    first = "metric_per_case" not in found
    records = found["results"]["all"] if first else found["metric_per_case"]
    measures = MEASURES_1 if first else MEASURES
    if not isinstance(records, list):
        raise InputError(f"{where}: {'results.all' if first else 'metric_per_case'} is no list.", code="run.nnunet")
    names = case_names([_path(r, where) for r in records])
    read = _case_1 if first else _case
    cases = [read(name, record, where) for name, record in zip(names, records, strict=True)]
    labels: dict[str, LabelValues] = {}
    for case in cases:
        labels |= case.labels
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"{where}: case {twice} is there twice.", code="run.case")
    from segcli.run.summary import Resampling, summaries

    cases.sort(key=lambda case: case.name)
    there = {value.measure for case in cases for value in case.values}
    spec: dict[str, Any] = {
        "measures": [f"metric.{name}" for name in measures.values() if name in there or not first],
        "labels": labels,
        "empty": "undefined",
        "source": "nnU-Net",
    }
    summary = summaries(cases, Resampling(), spec=spec)
    return Run(Spec(spec), cases, summary=_told(summary, found.get("foreground_mean"), where))


def _told(summary: Sequence[Summary], means: object, where: str) -> list[Summary]:
    """Return the summary with the file's own `foreground_mean` in its mean rows."""
    theirs = {name: word for word, name in reversed({**MEASURES_1, **MEASURES}.items())}

    def told(row: Summary) -> Summary:
        word = theirs[row.measure]
        if not row.by_label or not isinstance(means, dict) or word not in means:
            return row
        return replace(row, mean=_number(means[word], f"{where}: foreground_mean, {word}"))

    return [told(row) for row in summary]


def case_names(paths: Sequence[str]) -> list[str]:
    """Return the name of each file without folder and suffix; with as much folder as makes names differ."""
    bare = [re.sub(r"(\.nii)?\.[^./]+$", "", path.replace("\\", "/")) for path in paths]
    for parts in range(1, 1 + max((name.count("/") + 1 for name in bare), default=0)):
        names = ["/".join(name.split("/")[-parts:]) for name in bare]
        if len(set(names)) == len(names):
            return names
    return bare


def _path(record: object, where: str) -> str:
    for key in ("prediction_file", "reference_file", "test", "reference"):
        if isinstance(record, dict) and isinstance(record.get(key), str):
            return str(record[key])
    raise InputError(f"{where}: a record of metric_per_case names no file.", code="run.nnunet")


def _case(name: str, record: Mapping[str, Any], where: str) -> Case:
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
        count = Counts(**{ours: int(told[theirs]) for ours, theirs in COUNTS.items()})
        counts[_label(key)] = count
        numbers.setdefault("n_ref", count.gt)
        numbers.setdefault("n_pred", count.pred)
        empty = not count.gt and not count.pred
        for theirs, ours in MEASURES.items():
            value = numbers.get(theirs)
            if value is not None or theirs in own:
                values.append(_value(_label(key), ours, value, why="both_empty" if empty else "zero_denominator"))
    files = (str(record.get(word, "")) for word in ("prediction_file", "reference_file"))
    return _made(name, files, labels, counts, values)


def _made(
    name: str,
    files: Iterable[str],
    labels: Mapping[str, list[int]],
    counts: Mapping[str, Counts],
    values: list[Value],
) -> Case:
    pred, gt = (File(path) for path in files)
    regions = tuple(label for label, wanted in labels.items() if len(wanted) > 1)
    return Case(name=name, pred=pred, gt=gt, labels=labels, regions=regions, counts=counts, values=values)


def _case_1(name: str, record: Mapping[str, Any], where: str) -> Case:
    """Return a case of version 1: its labels stand beside the names of its files."""
    metrics = {key: own for key, own in record.items() if key not in ("test", "reference")}
    if not metrics or not all(isinstance(own, dict) for own in metrics.values()):
        raise InputError(f"{where}: case {name} has no metrics.", code="run.nnunet")
    labels = {_label(key): _label_values(key, where) for key in metrics}
    if len(labels) < len(metrics):
        raise InputError(f"{where}: case {name} has a label twice: {', '.join(metrics)}.", code="run.nnunet")
    values = []
    for key, own in metrics.items():
        numbers = {w: _number(own[w], f"{where}: case {name}, label {key}, {w}") for w in MEASURES_1 if w in own}
        sizes = [numbers.get(word) for word in ("Total Positives Reference", "Total Positives Test")]
        why = "both_empty" if sizes == [0, 0] else "zero_denominator"
        values += [_value(_label(key), MEASURES_1[word], value, why=why) for word, value in numbers.items()]
    return _made(name, (str(record.get(word, "")) for word in ("test", "reference")), labels, {}, values)


def _value(label: str, measure: str, value: float | None, *, why: str) -> Value:
    if value is None:
        return Value(label, "metric", measure, None, "", "undefined", why)
    return Value(label, "metric", measure, value, "")


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
