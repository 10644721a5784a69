"""The records of a run file and the models that they are: each is read and written here, and nowhere else.

A record has its keys in the order of its table, as run files have had them from the first: what was read is written
again letter by letter. What a record may lack is left out where the model has nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from math import isfinite
from operator import itemgetter
from sys import intern
from typing import Any

from segcli.errors import InputError
from segcli.evidence.counts import Counts
from segcli.masks.mask import Note
from segcli.run.records import Case, ClassTable, Failure, File, Missing, NoteKind, Summary
from segcli.scoring.means import Mean
from segcli.scoring.values import TableValue, Value

Record = dict[str, Any]

VALUE = ("label", "kind", "measure", "value", "unit", "status")
MEAN = ("label", "kind", "measure", "unit", "value", "n", "of")
TABLE = ("label", "measure", "columns", "rows")
COUNTS = ("tp", "fp", "fn", "tn")
SIDES = ("pred", "gt", "roi")
#: A row over cases, and one over labels.
OVER_CASES = (
    "label", "kind", "measure", "unit", "over", "group", "n", "mean", "sd", "p05", "p25", "median", "p75", "p95", "min",
    "max", "ci", "ci_method", "ci_level", "resamples", "seed", "undefined", "policy", "missed", "false_alarms",
    "pooled", "mean_of", "by_label",
)  # fmt: skip
OVER_LABELS = ("label", "kind", "measure", "unit", "over", "n", "undefined", "mean", "mean_of", "case")
#: Keys that a row of the summary has only where there is something to say.
_AT_TIMES: dict[str, Any] = {
    "group": {}, "mean_of": None, "by_label": False, "case": None, "ci_level": None, "resamples": None, "seed": None,
}  # fmt: skip

_value, _mean, _table = itemgetter(*VALUE), itemgetter(*MEAN), itemgetter(*TABLE)


# --- models to records ----------------------------------------------------------------------------


def finite(value: float | None) -> float | int | None:
    """Return a number that strict JSON can hold: whole counts as integers, nothing infinite."""
    if value is None or not isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(value)


# Written out: `asdict` copies deeply, which of a large cohort takes longer than scoring it.
def value_to(v: Value) -> Record:
    value = v.value
    record: Record = {
        "label": v.label,
        "kind": v.kind,
        "measure": v.measure,
        "value": value if type(value) is float and isfinite(value) else finite(value),
        "unit": v.unit,
        "status": v.status,
    }
    if v.why:
        record["why"] = v.why
    return record


def mean_to(m: Mean) -> Record:
    return {
        "label": m.label,
        "kind": m.kind,
        "measure": m.measure,
        "unit": m.unit,
        "value": finite(m.value),
        "n": m.n,
        "of": m.of,
    }


def note_to(note: Note) -> Record:
    return {"level": note.level, "code": note.code, "text": note.text}


def file_to(file: File) -> Record:
    return {"path": file.path, "sha256": file.sha256}


def table_to(table: TableValue) -> Record:
    rows = [list(row) for row in table.rows]
    return dict(zip(TABLE, (table.label, table.measure, list(table.columns), rows), strict=True))


def case_to(case: Case) -> Record:
    """Return the record of a case."""
    files = {side: file and file_to(file) for side, file in zip(SIDES, (case.pred, case.gt, case.roi), strict=True)}
    record: Record = {
        "case": case.name,
        "group": dict(case.group),
        "pred": files["pred"],
        "gt": files["gt"],
        "shape": _listed(case.shape),
        "spacing": _listed(case.spacing),
        "unit": case.unit,
        "status": case.status,
        "geometry": case.geometry,
        "notes": [note_to(note) for note in case.notes],
        "labels": dict(case.labels),
        "regions": list(case.regions),
        "counts": {name: counts._asdict() for name, counts in case.counts.items()},
        "values": [value_to(v) for v in case.values],
        "means": None if case.means is None else [mean_to(m) for m in case.means],
        "tables": [table_to(table) for table in case.tables],
        "roi": files["roi"],
        "parts": case.parts or None,
    }
    return {key: part for key, part in record.items() if part is not None}


def _listed(numbers: Iterable[float] | None) -> list[float] | None:
    return None if numbers is None else list(numbers)


def summary_to(row: Summary) -> Record:
    keys = OVER_CASES if row.over == "cases" else OVER_LABELS
    found = ((key, getattr(row, key)) for key in keys)
    kept = ((key, part) for key, part in found if key not in _AT_TIMES or part != _AT_TIMES[key])
    return {key: list(part) if isinstance(part, tuple) else part for key, part in kept}


def missing_to(gap: Missing) -> Record:
    return {"case": gap.case, "side": gap.side, "path": gap.path}


def failure_to(error: Failure) -> Record:
    hint = {"hint": error.hint} if error.hint else {}
    files = {side: {"path": path} for side, path in error.files.items()}
    return {"case": error.case, "code": error.code, "message": error.message, **hint, **files}


def note_kind_to(kind: NoteKind) -> Record:
    """Return the record of a kind of notes."""
    keys = ("level", "code", "text", "texts", "n", "cases")
    return dict(zip(keys, (kind.level, kind.code, kind.text, kind.texts, kind.n, list(kind.cases)), strict=True))


def class_table_to(table: ClassTable) -> Record:
    head = {"label": table.label, "measure": table.measure, "over": "cases", "n": table.n}
    return {**head, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}


# --- records to models ----------------------------------------------------------------------------


def values_from(records: Iterable[Record]) -> list[Value]:
    """Return the values of a case; raise `KeyError` or `TypeError` where a record is not whole.

    A large cohort has millions of them: each is looked at once, and its words are there once for all.
    """
    found: list[Value] = []
    new = object.__new__
    set_label, set_kind, set_measure, set_value, set_unit, set_status, set_why = _SETTERS
    for record in records:
        label, kind, measure, value, unit, status = _value(record)
        if value is not None and (type(value) not in _NUMBERS or not -MOST <= value <= MOST):
            raise TypeError(value)
        why = record.get("why")
        if why is None:
            why = ""
        made = new(Value)
        set_label(made, intern(label))
        set_kind(made, intern(kind))
        set_measure(made, intern(measure))
        set_value(made, value)
        set_unit(made, intern(unit))
        set_status(made, intern(status))
        set_why(made, why)
        found.append(made)
    return found


_NUMBERS = (float, int)
#: The slots of a value: filled one by one they take half the time of a frozen class's constructor.
_SETTERS = [getattr(Value, part.name).__set__ for part in fields(Value)]
#: No number of a run is beyond: squares of such numbers overflow.
MOST = 1e150


def mean_from(record: Record) -> Mean:
    label, kind, measure, unit, value, n, of = _mean(record)
    return Mean(intern(kind), intern(measure), value, intern(unit), n, of, intern(label))  # type: ignore[arg-type]


def table_from(record: Record) -> TableValue:
    label, measure, columns, rows = _table(record)
    return TableValue(label, measure, tuple(columns), [tuple(row) for row in rows])


def note_from(record: Record) -> Note:
    level, text = itemgetter("level", "text")(record)
    return Note(text, level, record.get("code", ""))


def counts_from(record: Mapping[str, int]) -> Counts:
    return Counts(*(record[key] for key in COUNTS))


def _file(record: Record | None) -> File | None:
    return None if record is None else File(record.get("path", ""), record.get("sha256"))


def case_from(record: Record, where: str = "the run", values: list[Value] | None = None) -> Case:
    """Return the case of a record whose shape was checked (`reading.check_case`), perhaps with its values.

    Raises `InputError` for means or tables that are none: who reads a case without them need not know.
    """
    pred, gt, roi = (_file(record.get(side)) for side in SIDES)
    told = record.get
    means = told("means")
    return Case(
        name=record["case"],
        status=told("status", "ok"),
        group=told("group", {}),
        pred=pred,
        gt=gt,
        roi=roi,
        shape=_pinned(told("shape")),
        spacing=_pinned(told("spacing")),
        unit=told("unit"),
        geometry=told("geometry"),
        notes=tuple(note_from(note) for note in told("notes", ())),
        labels=told("labels", {}),
        regions=tuple(told("regions", ())),
        counts={name: counts_from(own) for name, own in told("counts", {}).items()},
        values=values_from(record["values"]) if values is None else values,
        means=None if means is None else each(mean_from, means, f"{where}: case {record['case']}: means"),
        tables=each(table_from, told("tables", []), f"{where}: case {record['case']}: tables"),
        parts=told("parts", {}),
    )


def each(make: Callable[[Record], Any], records: Any, what: str) -> list[Any]:
    try:
        return [make(record) for record in records]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{what} are not what segcli writes.", code="run.shape") from None


def _pinned(numbers: list[Any] | None) -> tuple[Any, ...] | None:
    return None if numbers is None else tuple(numbers)


def summary_from(record: Record) -> Summary:
    known = {key: part for key, part in record.items() if key in _SUMMARY and part is not None}
    for key in ("ci", "mean_of"):
        if key in known:
            known[key] = tuple(known[key])
    return Summary(**known)


_SUMMARY = {*OVER_CASES, *OVER_LABELS}


def failure_from(record: Record) -> Failure:
    case, message = itemgetter("case", "message")(record)
    files = {side: file.path for side in SIDES if (file := _file_of(record.get(side))) is not None}
    return Failure(case, record.get("code", ""), message, record.get("hint") or "", files)


def _file_of(record: Any) -> File | None:
    return _file(record) if isinstance(record, dict) else None


def missing_from(record: Record) -> Missing:
    case, side = itemgetter("case", "side")(record)
    return Missing(case, side, record.get("path"))


def class_table_from(record: Record) -> ClassTable:
    label, measure, columns, rows = _table(record)
    return ClassTable(label, measure, record.get("n", 0), tuple(columns), [tuple(row) for row in rows])


def cases_from(records: list[Any], where: str = "the run") -> list[Case]:
    """Return the cases of records, which they replace one by one: a large cohort is in memory once."""
    for at, record in enumerate(records):
        records[at] = record if isinstance(record, Case) else case_from(record, where)
    return records
