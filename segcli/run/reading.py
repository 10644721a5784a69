"""Reading runs: the run files of segcli, and the `summary.json` of nnU-Net as one of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segcli.errors import InputError
from segcli.run.bulk import Sharing, no_garbage, parse_lines
from segcli.run.codec import MOST, case_from, values_from
from segcli.run.model import Run, run_from
from segcli.run.records import Case, Value
from segcli.text import RepeatedKeyError, only_once, refuse_device

#: The newest run file that this version reads.
NAME, VERSION = "segcli.run", 1


def load_run(source: str | Path, *, without: tuple[str, ...] = ()) -> Run:
    """Return the run of a file, or of stdin for `-`; its cases may come `without` what the caller will not read.

    Raises `InputError` for a file that cannot be read, is no JSON, has NaN or an infinity in it, is
    something else than a run, or is a run of a newer schema.
    """
    where = "stdin" if str(source) == "-" else str(source)
    with no_garbage():
        return _by_line(source, where, without) or _as_a_whole(_bytes(source, where), where)


#: What gate, diff and rank do not read of a case: nearly half of it.
UNREAD = ("pred", "means", "tables")


def _by_line(source: str | Path, where: str, without: tuple[str, ...]) -> Run | None:
    """Return the run of a file as segcli writes it, read case by case; `None` where it is another one."""
    shared = Sharing("group", "labels", "regions", "notes", "tables", words=False)  # values keep their own

    def kept(case: Any) -> Any:
        for key in without:
            case.pop(key, None)
        try:
            return checked_case(shared(case), where)
        except (InputError, KeyError, TypeError):  # it is said below, behind what is wrong before it
            return case

    if where == "stdin":
        return None
    try:
        refuse_device(Path(source))
        with Path(source).open("rb") as file:
            found = parse_lines(file, "cases", kept)
    except (OSError, AttributeError):  # it is said why below
        return None
    if found is None or not str(found.get("schema", "")).startswith(f"{NAME}/"):
        return None
    return run_of(found, where)


def run_of(found: dict[str, Any], where: str) -> Run:
    """Return the run of a document that is one, by the names that its measures have now."""
    _check_schema(found, where)
    _check_shape(found, where)
    _rename(found)
    return run_from(found, where)


def _as_a_whole(raw: bytes, where: str) -> Run:
    constants: list[str] = []

    def constant(word: str) -> float:
        constants.append(word)
        return float(word)

    text = _text(raw, where)
    try:
        found = json.loads(text, parse_constant=constant, object_pairs_hook=only_once)
    except RecursionError:
        raise InputError(f"{where}: is no run: it is nested too deep.", code="run.json") from None
    except RepeatedKeyError as problem:
        raise InputError(f"{where}: {problem}.", hint=_HOW, code="run.json") from None
    except ValueError as problem:
        said = f"line {problem.lineno}: {problem.msg}" if isinstance(problem, json.JSONDecodeError) else str(problem)
        what = "is empty" if not text.strip() else f"is no JSON ({said})"
        raise InputError(f"{where}: {what}.", hint=_HOW, code="run.json") from None
    from segcli.run.nnunet import converted, is_summary

    if is_summary(found):
        return converted(found, where)
    if constants:
        raise InputError(
            f"{where}: {constants[0]} is no JSON number.",
            hint="an undefined value is null in a run file",
            code="run.nan",
        )
    return run_of(found, where)


_HOW = "segcli evaluate PRED_DIR GT_DIR -o RUN.json writes one"


def _bytes(source: str | Path, where: str) -> bytes:
    try:
        if where == "stdin":
            return sys.stdin.buffer.read() if sys.stdin is not None else b""
        refuse_device(Path(source))
        return Path(source).read_bytes()
    except IsADirectoryError:
        raise InputError(f"{where}: is a folder, a run file is wanted.", hint=_HOW, code="run.read") from None
    except OSError as problem:
        raise InputError(f"{where}: cannot be read ({problem.strerror}).", hint=_HOW, code="run.read") from None


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: is no JSON (not UTF-8).", hint=_HOW, code="run.json") from None


def _check_schema(found: object, where: str) -> None:
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, str):
        raise InputError(f"{where}: is no run of segcli: it has no schema.", hint=_HOW, code="run.schema")
    name, _, version = schema.partition("/")
    if name != NAME:
        hint = "segcli evaluate --merge SHARD... -o RUN.json" if name == "segcli.shard" else _HOW
        raise InputError(f"{where}: is a {schema}, a {NAME}/{VERSION} is wanted.", hint=hint, code="run.schema")
    if version != str(VERSION):
        newer = re.fullmatch(r"\d+", version) is not None and int(version) > VERSION
        raise InputError(
            f"{where}: is a {schema}; this segcli reads {NAME}/{VERSION}.",
            hint="a newer segcli wrote it: upgrade" if newer else _HOW,
            code="run.schema",
        )


# --- names of before -------------------------------------------------------------------------------

#: Measures that have got a parameter which their names show, and what it was before: `cldice` of an older run is not
#: what `cldice` means now.
_BEFORE = dict.fromkeys(
    ("metric.cldice", "metric.skeleton_recall", "metric.skeleton_precision", "loss.skeleton_recall"), "thinning=lee"
)


def _rename(run: dict[str, Any]) -> None:
    """Give the measures of an older run the names that their numbers have now."""
    told = run["spec"]["measures"]
    now = {text: _named_now(text) for text in told}
    if all(text == name for text, name in now.items()):
        return
    run["spec"]["measures"] = list(now.values())
    for record in run["summary"]:
        record["measure"] = _named_now(f"{record['kind']}.{record['measure']}").partition(".")[2]
    run["cases"] = [_renamed(case) for case in run["cases"]]


def _renamed(case: Case) -> Case:
    def now(row: Any) -> Any:
        return replace(row, measure=_named_now(f"{row.kind}.{row.measure}").partition(".")[2])

    means = None if case.means is None else [now(mean) for mean in case.means]
    return replace(case, values=[now(v) for v in case.values], means=means)


def _named_now(text: str) -> str:
    before = _BEFORE.get(text.partition(":")[0], "")
    return text if not before or f":{before.partition('=')[0]}=" in text else f"{text}:{before}"


# --- the shape of a run ----------------------------------------------------------------------------


def _check_shape(run: Mapping[str, Any], where: str) -> None:
    """Refuse a run in which something that others read is missing or of another type."""
    _need(run, {"spec": dict, "cases": list, "missing": list, "errors": list, "summary": list}, where, "the run")
    _need(run["spec"], {"measures": list}, where, "spec")
    _need_texts(run["spec"]["measures"], where, "spec.measures")
    _check_options(run["spec"], where)
    if not isinstance(run.get("environment", {}), dict):
        raise InputError(f"{where}: the environment is no object.", code="run.shape")
    if not isinstance(run.get("environment", {}).get("segcli", ""), str):
        raise InputError(f"{where}: environment.segcli is no text.", code="run.shape")
    seen: set[str] = set()
    for number, case in enumerate(run["cases"]):
        if not isinstance(case, Case):
            _need(case, {"case": str, "values": list}, where, f"cases[{number}]")
        name = case.name if isinstance(case, Case) else case["case"]
        if name in seen:
            raise InputError(f"{where}: case {name} is there twice.", code="run.case")
        seen.add(name)
        if not isinstance(case, Case):
            run["cases"][number] = checked_case(case, where)
    for key, fields in (("missing", ("case", "side")), ("errors", ("case", "message"))):
        for number, record in enumerate(run[key]):
            _need(record, dict.fromkeys(fields, str), where, f"{key}[{number}]")
    for number, record in enumerate(run["summary"]):
        own = f"summary[{number}]"
        _need(record, {"label": str, "kind": str, "measure": str, "over": str}, where, own)
        _need_number(record, ("mean", "pooled"), where, own)
        ends = record.get("ci")
        if ends is not None and not (isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))):
            raise InputError(f"{where}: {own}.ci is no pair of numbers.", code="run.shape")
        _need_texts(_list(record, "mean_of", where, own), where, f"{own}.mean_of")
        if record.get("ci_method") is not None:
            _need(record, {"ci_method": str}, where, own)
        for key, low, high in (("seed", 0, MOST), ("resamples", 1, 10_000_000), ("ci_level", 0.01, 0.99999)):
            if key in record and not (_is_number(record[key]) and low <= record[key] <= high):
                raise InputError(f"{where}: {own}.{key} = {record[key]!r} cannot be.", code="run.number")


#: Of what type the options of a run are that are computed with, walked through or said in a sentence; each may be null.
_OPTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("empty", "convention", "missing", "average", "source", "ignore_in", "geometry"), (str,)),
    **dict.fromkeys(("roi", "soft_gt", "stack", "background", "batch_dice"), (bool,)),
    "labels": (dict,),
    "ignore": (int, str),
    "stack_axis": (int, str),
}
_WORDS = {str: "a text", bool: "true or false", dict: "an object", int: "a whole number"}


def _check_options(spec: Mapping[str, Any], where: str) -> None:
    """Refuse options of another type than they have in a run; what is not listed is only compared."""
    for key, kinds in _OPTIONS.items():
        value = spec.get(key)
        if value is not None and (not isinstance(value, kinds) or (type(value) is bool and bool not in kinds)):
            wanted = " or ".join(_WORDS[kind] for kind in kinds)
            raise InputError(f"{where}: spec.{key} is not {wanted}.", code="run.shape")
    _check_labels(spec.get("labels") or {}, where, "spec")
    _need_texts(_list(spec, "mean_of", where, "spec"), where, "spec.mean_of")
    if not all(_is_number(n) and n > 0 for n in _list(spec, "spacing", where, "spec")):
        raise InputError(f"{where}: spec.spacing is no list of numbers above 0.", code="run.shape")
    _need_number(spec, ("threshold",), where, "spec")


def _check_labels(labels: Mapping[str, Any], where: str, own: str) -> None:
    """Refuse labels that stand for something else than a list of voxel values, or a word for all of them."""
    for name, values in labels.items():
        whole = isinstance(values, list) and all(isinstance(v, (int, str)) for v in values)
        if not whole and not isinstance(values, str):
            raise InputError(f"{where}: {own}: label {name} has no list of values.", code="run.shape")


def _list(record: Mapping[str, Any], key: str, where: str, own: str) -> list[Any]:
    found = record.get(key)
    if found is not None and not isinstance(found, list):
        raise InputError(f"{where}: {own}.{key} is no list.", code="run.shape")
    return found or []


def checked_case(record: dict[str, Any], where: str) -> Case:
    """Return the case of a record. Raises `InputError` for what others read and is missing or of another type."""
    return case_from(record, where, check_case(record, where))


def check_case(case: dict[str, Any], where: str) -> list[Value]:
    """Return the values of a record of a case; raise as `checked_case` does."""
    own = f"case {case['case']}"
    _check_grid(case, where, own)
    for key in ("group", "counts", "labels"):
        _need({key: case.setdefault(key, {})}, {key: dict}, where, own)
    _need({"regions": case.setdefault("regions", [])}, {"regions": list}, where, own)
    _need_texts(case["regions"], where, f"{own}: regions")
    _check_labels(case["labels"], where, own)
    _need({"status": case.get("status", "ok")}, {"status": str}, where, own)
    for value in case["group"].values():
        if not isinstance(value, str):
            raise InputError(f"{where}: {own}: a group is no text.", code="run.shape")
    for label, counts in case["counts"].items():
        if not isinstance(counts, dict) or sorted(counts) != ["fn", "fp", "tn", "tp"]:
            raise InputError(f"{where}: {own}: counts of {label} are not tp, fp, fn, tn.", code="run.shape")
        if any(type(n) is not int or not 0 <= n <= MOST for n in counts.values()):
            raise InputError(f"{where}: {own}: counts of {label} are no whole numbers from 0 on.", code="run.number")
    _check_parts(case, where, own)
    _need({"notes": case.get("notes", [])}, {"notes": list}, where, own)
    for note in case.get("notes", ()):
        _need(note, {"level": str, "text": str}, where, f"{own}, a note")
        _need({"code": note.get("code", "")}, {"code": str}, where, f"{own}, a note")
    try:
        values = values_from(case["values"])
    except (KeyError, TypeError):
        _check_values(case, where, own)
        values = values_from(case["values"])
    if len({(v.label, v.kind, v.measure) for v in values}) < len(values):
        raise InputError(f"{where}: {own} has two values of one label and measure.", code="run.value")
    return values


def _check_values(case: Mapping[str, Any], where: str, own: str) -> None:
    """Refuse records of values that are not whole, and add to others what they may lack."""
    for record in case["values"]:
        _need(record, {"label": str, "kind": str, "measure": str}, where, f"{own}, a value")
        if "value" not in record:
            raise InputError(f"{where}: {own}: a record has no value.", code="run.shape")
        _need_number(record, ("value",), where, f"{own}, {record['label']} {record['measure']}")
        _need({"unit": record.setdefault("unit", "")}, {"unit": str}, where, own)
        record.setdefault("status", "undefined" if record["value"] is None else "ok")
        _need(record, {"status": str}, where, f"{own}, a value")


def _check_grid(case: Mapping[str, Any], where: str, own: str) -> None:
    for key in ("pred", "gt", "roi"):
        if key in case:
            _need(case, {key: dict}, where, own)
    if "unit" in case:
        _need(case, {"unit": str}, where, own)
    for key in ("shape", "spacing"):
        numbers = case.get(key)
        if numbers is not None and not (isinstance(numbers, list) and all(_is_number(n) and n > 0 for n in numbers)):
            raise InputError(f"{where}: {own}: {key} is no list of numbers above 0.", code="run.shape")
    shape, spacing = case.get("shape"), case.get("spacing")
    if shape is not None and spacing is not None and len(shape) != len(spacing):
        raise InputError(f"{where}: {own}: shape and spacing have not as many axes.", code="run.shape")


def _check_parts(case: Mapping[str, Any], where: str, own: str) -> None:
    from segcli.evidence.parts import wrong

    parts = case.get("parts", {})
    _need({"parts": parts}, {"parts": dict}, where, own)
    for label, answers in parts.items():
        _need({label: answers}, {label: dict}, where, f"{own}, parts")
        for question, part in answers.items():
            if problem := wrong(question, part):
                raise InputError(f"{where}: {own}, {label}: {question} {problem}.", code="run.shape")


def _need(record: object, fields: Mapping[str, type], where: str, what: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where}: {what} is no object.", code="run.shape")
    for key, kind in fields.items():
        if not isinstance(record.get(key), kind):
            words = {"dict": "an object", "list": "a list", "str": "a text"}[kind.__name__]
            raise InputError(f"{where}: {what} has no {key!r} that is {words}.", code="run.shape")


def _need_texts(found: Sequence[object], where: str, what: str) -> None:
    if not all(isinstance(text, str) for text in found):
        raise InputError(f"{where}: {what} is no list of texts.", code="run.shape")


def _need_number(record: Mapping[str, Any], keys: Sequence[str], where: str, what: str) -> None:
    for key in keys:
        value = record.get(key)
        if value is not None and not _is_number(value):
            said = f"{value!r:.40}" if isinstance(value, (int, float, str)) else type(value).__name__
            raise InputError(f"{where}: {what}: {key} = {said} is no finite number.", code="run.number")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST
