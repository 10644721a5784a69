"""The run document (`segcli.run/1`): what was asked, every value, and the environment, as plain data."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segcli.masks.void import spec_of_void
from segcli.measure.record import BoundMeasure
from segcli.run.noted import said_of
from segcli.scoring.means import Mean
from segcli.scoring.values import Scored, Value

if TYPE_CHECKING:
    from segcli.masks.mask import Mask, Note
    from segcli.masks.reading import Reading
    from segcli.scoring.limits import Verdict

SCHEMA = "segcli.run/1"


def document(
    cases: Sequence[Scored],
    measures: Sequence[BoundMeasure],
    reading: Reading,
    *,
    empty: str,
    background: bool,
    average: str = "macro",
    mean_over: Sequence[str] | None = None,
    batch_dice: bool = False,
    convention: str | None = None,
    verdicts: Sequence[Verdict] = (),
    started: str,
    seconds: float,
    argv: Sequence[str],
) -> dict[str, Any]:
    """Return a run of the given cases. Everything volatile stands under `environment`."""
    records = [case_record(case) for case in cases]
    return {
        "schema": SCHEMA,
        "spec": spec_of(
            measures,
            reading,
            empty=empty,
            background=background,
            average=average,
            mean_over=mean_over,
            batch_dice=batch_dice,
            convention=convention,
        ),
        "cases": records,
        "missing": [],
        "errors": [],
        "notes": said_of(records),
        "summary": [record for case in cases for record in summary_of(case, cases)],
        "gates": [asdict(v) for v in verdicts],
        "environment": environment(started=started, seconds=seconds, argv=argv),
    }


def spec_of(
    measures: Sequence[BoundMeasure],
    reading: Reading,
    *,
    empty: str,
    background: bool,
    average: str,
    batch_dice: bool,
    mean_over: Sequence[str] | None = None,
    convention: str | None = None,
    missing: str = "fail",
    roi: bool = False,
) -> dict[str, Any]:
    """Return every option that can change a number, with a hash over them; `roi`: cases have regions of interest."""
    spec: dict[str, Any] = {
        "measures": [b.id for b in measures],
        "labels": None if reading.labels is None else {x.name: x.spec() for x in reading.labels},
        **spec_of_void(reading, roi=roi),
        "empty": empty,
        "threshold": reading.threshold,
        "geometry": reading.on_geometry,
        "spacing": None if reading.spacing is None else list(reading.spacing),
        "kind": reading.kind,
        "prob_scale": reading.prob_scale,
        "round": reading.round,
        "channel_axis": reading.channel_axis,
        "channels": None if reading.channels is None else {x.name: x.spec() for x in reading.channels},
        "normalize": reading.normalize,
        "stack": reading.stack,
        "stack_axis": reading.stack_axis,
        "axes": reading.axes,
        "squeeze": reading.squeeze,
        "colors": reading.colors,
        "soft_gt": reading.soft_gt,
        "background": background,
        "average": average,
        "mean_of": None if mean_over is None else list(mean_over),
        "batch_dice": batch_dice,
        "convention": convention,
        "missing": missing,
    }
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return {**spec, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def case_record(case: Scored) -> dict[str, Any]:
    record = {
        "case": case.case,
        "group": {},
        "pred": file_record(case.pred),
        "gt": file_record(case.gt),
        "shape": list(case.shape),
        "spacing": list(case.spacing),
        "unit": case.unit,
        "status": "ok",
        "geometry": case.geometry,
        "notes": [note_record(n) for n in case.notes],
        "labels": {label.name: label.spec() for label in case.labels},
        "regions": [label.name for label in case.labels if label.is_region],
        "counts": {name: c._asdict() for name, c in case.counts.items()},
        "values": [value_record(v) for v in case.values],
        "means": [mean_record(m) for m in case.means],
        "tables": [
            {"label": t.label, "measure": t.measure, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
            for t in case.tables
        ],
    }
    if case.roi is not None:
        record["roi"] = file_record(case.roi)
    return record | ({"parts": case.parts} if case.parts else {})


def note_record(note: Note) -> dict[str, str]:
    return {"level": note.level, "code": note.code, "text": note.text}


# Written out: `asdict` copies deeply, which of a large cohort takes longer than scoring it.
def value_record(v: Value) -> dict[str, Any]:
    record = {
        "label": v.label,
        "kind": v.kind,
        "measure": v.measure,
        "value": finite(v.value),
        "unit": v.unit,
        "status": v.status,
    }
    return record | ({"why": v.why} if v.why else {})


def mean_record(m: Mean) -> dict[str, Any]:
    return {
        "label": m.label,
        "kind": m.kind,
        "measure": m.measure,
        "unit": m.unit,
        "value": finite(m.value),
        "n": m.n,
        "of": m.of,
    }


def file_record(mask: Mask) -> dict[str, Any]:
    return {"path": mask.name.replace("\\", "/"), "sha256": mask.sha256 or None}


def summary_of(case: Scored, cases: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return the mean rows of a case; those of metrics say which labels they are of."""
    return [
        {
            "label": m.label,
            "kind": m.kind,
            "measure": m.measure,
            "unit": m.unit,
            "over": "labels",
            "n": m.n,
            "undefined": m.of - m.n,
            "mean": finite(m.value),
        }
        | ({"mean_of": list(case.mean_of.names)} if m.kind == "metric" or case.mean_of.asked else {})
        | ({"case": case.case} if len(cases) > 1 else {})
        for m in case.means
    ]


def finite(value: float | None) -> float | int | None:
    """Return a number that strict JSON can hold: whole counts as integers, nothing infinite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(value)


def environment(*, started: str, seconds: float, argv: Sequence[str]) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "unknown"

    return {
        "segcli": installed("segcli"),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("numpy", "numba", "nibabel")},
        "platform": f"{sys.platform}-{platform.machine()}",
        "argv": list(argv),
        "started": started,
        "seconds": round(seconds, 3),
    }


def to_json(data: dict[str, Any] | list[Any]) -> str:
    """Return strict JSON: a NaN or an infinity is a bug and raises."""
    return _printable(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def to_json_lines(data: Mapping[str, Any]) -> str:
    """Return strict JSON with one line for each element of a list: what a run of many cases is written as."""
    return "".join(json_lines(data))


def json_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pieces of `to_json_lines`: of 100 000 cases the whole text is larger than they are.

    Indenting is done in Python, letter by letter: of 100 000 cases it takes minutes, and this seconds.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    before = "{\n"
    for key, value in data.items():
        yield f"{before} {_printable(encode(key))}: "
        before = ",\n"
        if isinstance(value, list) and value:
            between = "[\n  "
            for element in value:
                yield between + _printable(encode(element))
                between = ",\n  "
            yield "\n ]"
        else:
            yield _printable(encode(value))
    yield "\n}"


#: Characters that draw on a terminal: the second control set, and those that turn or hide text.
_DRAWS = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def _printable(text: str) -> str:
    """Return JSON in which what draws on a terminal is escaped, inside its strings; their values are the same."""
    text = _DRAWS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    # A file name that is not UTF-8 arrives as lone surrogates: JSON can hold those escaped only.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
