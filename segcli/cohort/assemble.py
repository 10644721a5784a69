"""From the records of all cases to one run: what only the whole cohort can decide is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segcli.cohort.work import Record
from segcli.masks.occurring import BOTH_READ, disjoint, one_foreground
from segcli.masks.void import CHARGED
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.run.codec import mean_to, note_to
from segcli.scoring.means import ALL, Mean, mean_of, pooled_mean, weighted_mean, weights

#: What a record holds for this module alone.
_OWN = {"of", "occur", "one_map", "literal", "absent", "instances"}


def assemble(
    spec: Mapping[str, Any], records: Iterable[Record], groups: Mapping[str, Mapping[str, str]]
) -> tuple[list[Record], list[Record]]:
    """Return the cases and the errors of a run, each sorted by case; `spec` is that of the run.

    The cases are the records themselves, changed.

    Without named labels the label set is the union over all cases: where every prediction has the same one
    value, or none, and every ground truth too, and both can mean the same foreground, the cohort is binary; else
    a value is a label, also in cases whose two files have only one each. A prediction that is a single probability
    map is an error then: whose label it is nobody says. Where values are objects, they are so in every case, and
    one whose prediction has channels, which are classes, is an error.
    """
    ordered: list[Record] = sorted(records, key=lambda r: str(r["case"]))
    errors = [_error(r, **r["error"]) for r in ordered if "error" in r]
    scored = [r for r in ordered if "error" not in r]
    if spec["labels"] is None and any(r.get("instances") for r in scored):
        scored, apart = _of_one_class(scored)
        errors = sorted([*errors, *apart], key=lambda e: str(e["case"]))
    elif spec["labels"] is None and not _binary(scored):
        scored, mapless = _without_one_maps(scored)
        errors = sorted([*errors, *mapless], key=lambda e: str(e["case"]))
        scored = _with_all_labels(spec, scored)
    elif any(r["status"] == "missing" for r in scored):
        measures = _averaged(spec)
        for record in scored:
            if record["status"] == "missing":
                record["means"] = _means(record, spec, measures)
    for record in scored:
        record["group"] = dict(groups.get(record["of"], {}))
        for key in _OWN & record.keys():
            del record[key]
        if not record.get("parts"):
            record.pop("parts", None)
    return scored, errors


def _of_one_class(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the records whose values are objects of one class, and the errors of those with channels of classes."""
    message = "channels of the prediction are classes; in the other cases values are objects of one class"
    failed = [r for r in records if not r.get("instances")]
    told = {"code": "kind.mixed", "message": message, "hint": "--labels a=1,b=2 names the classes of all"}
    return [r for r in records if r.get("instances")], [_error(r, **told) for r in failed]


def _error(record: Record, code: str, message: str, hint: str = "") -> Record:
    files = {side: {"path": record[side]["path"]} for side in ("pred", "gt", "roi") if record.get(side)}
    return {"case": record["case"], "code": code, "message": message, **({"hint": hint} if hint else {}), **files}


def _binary(records: Sequence[Record]) -> bool:
    """Return whether each side has one value at most, over all cases, and both mean the same foreground."""
    hard = [r for r in records if not r["one_map"]]  # a single map is that of the one label, whatever its value
    sides = [{v for r in records for v in r["occur"]["gt"]}, {v for r in hard for v in r["occur"]["pred"]}]
    found = all(list(r["labels"].values()) == ["any"] for r in records)
    return found and all(len(values) <= 1 for values in sides) and one_foreground(set().union(*sides))


def _without_one_maps(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the records whose values are labels, and the errors of those whose prediction is one probability map."""
    values = ", ".join(map(str, sorted({v for r in records for v in r["occur"]["gt"]})))
    message = f"the prediction is one probability map, the ground truths have the labels {values}"
    hint = "--labels fg=any scores everything that is not 0"
    failed = [r for r in records if r["one_map"]]
    return [r for r in records if not r["one_map"]], [_error(r, "kind.mixed", message, hint) for r in failed]


def _by_value(record: Record) -> Record:
    """Return a record that was scored as binary with its values as labels."""
    if list(record["labels"].values()) != ["any"]:
        return record
    record = _literal_notes(record)
    if "literal" in record:
        return {**record, **record["literal"]}
    values = sorted({*record["occur"]["pred"], *record["occur"]["gt"]})
    old = next(iter(record["labels"]))
    own = [v for v in record["values"] if v["label"] == old]
    rest = [v for v in record["values"] if v["label"] != old]
    if not values:
        return record | {"labels": {}, "counts": {}, "values": rest, "parts": {}}
    new = str(values[0])
    return record | {
        "labels": {new: values},
        "counts": {new: record["counts"][old]},
        "values": [v | {"label": new} for v in own] + rest,
        "parts": {new if name == old else name: part for name, part in record.get("parts", {}).items()},
    }


def _literal_notes(record: Record) -> Record:
    """Return a record whose notes do not say what is true of one label only: its values are labels now."""
    codes = {note.get("code") for note in record["notes"]}
    notes = [note for note in record["notes"] if note.get("code") not in (BOTH_READ, CHARGED)]
    if BOTH_READ in codes:  # the two values of its files are not one foreground
        notes.append(note_to(disjoint(record["occur"]["pred"][0], record["occur"]["gt"][0])))
    return record | {"notes": notes}


def _with_all_labels(spec: Mapping[str, Any], records: Sequence[Record]) -> list[Record]:
    """Return the records with every label of any of them; where a case lacks one, both its masks are empty."""
    given, records = records, [_by_value(r) for r in records]
    known: dict[str, list[int]] = {label: v for r in records for label, v in r["labels"].items()}
    names = sorted(known, key=lambda name: known[name])
    labels = {name: known[name] for name in names}
    measures = _averaged(spec)
    for scored, record in zip(given, records, strict=True):
        by_label: dict[str, list[Record]] = {}
        for value in record["values"]:
            by_label.setdefault(value["label"], []).append(value)
        for name in names:
            if name not in record["labels"]:
                by_label[name] = [v | {"label": name} for v in record["absent"]["values"]]
        rest = [value for name, values in by_label.items() if name not in known for value in values]
        counts = {name: record["counts"].get(name, record["absent"]["counts"]) for name in names}
        values = [value for name in names for value in by_label.get(name, [])] + rest
        parts = _parts(record, names)
        same = record is scored and list(record["labels"]) == names and record["status"] == "ok"
        record.update(labels=labels, counts=counts, values=values, parts=parts)
        if not same:  # else the worker's means are of these labels
            record["means"] = _means(record, spec, measures)
    return records


def _parts(record: Record, names: Sequence[str]) -> Record:
    """Return the parts of all labels; one that the case lacks has those of two empty masks."""
    own, absent = record.get("parts", {}), record["absent"].get("parts")
    parts = {name: own.get(name) if name in record["labels"] else absent for name in names} | {ALL: own.get(ALL)}
    return {name: part for name, part in parts.items() if part is not None}


# --- the mean row -----------------------------------------------------------------------------------


Named = list[tuple[BoundMeasure, str]]


def _averaged(spec: Mapping[str, Any]) -> Named:
    """Return the metrics that have a mean over labels, with their names."""
    bound = [bind(text) for text in spec["measures"]]
    return [(b, b.name) for b in bound if b.measure.kind == "metric" and not b.over_classes]


def _means(record: Record, spec: Mapping[str, Any], measures: Named) -> list[Record]:
    """Return the means of a record's metrics over the labels that it has now.

    Those of losses are over the channels of the prediction, which no other case changes.
    """
    plain = mean_of(spec, record["labels"], record["regions"], lenient=spec["labels"] is None).names
    values = {(v["label"], v["measure"]): v for v in record["values"] if v["kind"] == "metric"}
    weight = weights(spec["average"], [record["counts"][name]["tp"] + record["counts"][name]["fn"] for name in plain])
    means: list[Mean] = []
    for bound, measure in measures:
        own = [values[name, measure] for name in plain]
        unit = own[0]["unit"] if own else ""
        if spec["average"] == "micro" and len(plain) > 1:
            means.append(pooled_mean(bound, _pooled(record, plain), len(plain), unit=unit))
        else:
            means.append(weighted_mean("metric", measure, [v["value"] for v in own], weight, unit=unit))
    losses = [m for m in record["means"] if m["kind"] == "loss"]
    return [mean_to(m) for m in means] + losses


def _pooled(record: Record, names: Sequence[str]) -> Any:
    from segcli.evidence.counts import Counts
    from segcli.evidence.pooled import PooledCounts

    return PooledCounts([Counts(**record["counts"][name]) for name in names], math.prod(record["spacing"]))
