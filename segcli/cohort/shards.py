"""Parts of a cohort that are scored apart: each shard keeps its records as they are, and a merge decides."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcli.cohort.collecting import Collected, in_shard, move_files, relative_to
from segcli.cohort.pairing import MOST, Missing
from segcli.cohort.work import REPEATED
from segcli.errors import InputError
from segcli.run.bulk import Sharing, no_garbage, parse_lines
from segcli.run.reading import check_case
from segcli.text import only_once, refuse_device
from segcli.wording import counted

SCHEMA = "segcli.shard/1"


def shard_document(collected: Collected, shard: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Return the records of one shard as they are: what only the whole cohort can decide is left to the merge."""
    move = relative_to(folder)
    for record in collected.records:
        move_files(record, move)
    return {
        "schema": SCHEMA,
        "shard": list(shard),
        "spec": collected.spec,
        "listed": {"n": len(collected.listed), "sha256": _hash(collected.listed), "cases": collected.listed},
        "records": collected.records,
        "missing": [
            {
                "case": m.case,
                "side": m.side,
                "path": move("" if m.path is None else str(m.path)),
                "group": dict(m.group),
            }
            for m in collected.missing
        ],
        "groups": collected.groups,
    }


def _hash(listed: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(listed).encode("utf-8", "surrogateescape")).hexdigest()


def merge(paths: Sequence[Path]) -> Collected:
    """Return all shards of a cohort as one.

    Raises `InputError` where a shard is missing, twice or of another plan, or saw other files than the rest.
    """
    with no_garbage():
        return _merged([(path, _read(path)) for path in paths])


def _merged(shards: Sequence[tuple[Path, dict[str, Any]]]) -> Collected:
    first_path, first = shards[0]
    of = first["shard"][1]
    seen: dict[int, Path] = {}
    for path, shard in shards:
        if shard["spec"]["sha256"] != first["spec"]["sha256"] or shard["shard"][1] != of:
            raise InputError(
                f"{path}: was made with other measures, options or shards than {first_path}.",
                hint="all shards of a cohort are made by the same call but for --shard",
                code="shard.spec",
            )
        if shard["listed"]["sha256"] != first["listed"]["sha256"]:
            raise InputError(
                f"{path} saw other files than {first_path}: {_differences(shard['listed'], first['listed'])}.",
                hint="files came or went between the shards: make all of them again",
                code="shard.listed",
            )
        index = shard["shard"][0]
        if index in seen:
            raise InputError(f"{path} and {seen[index]} are both shard {index}/{of}.", code="shard.twice")
        seen[index] = path
    lacking = [f"{i}/{of}" for i in range(1, of + 1) if i not in seen]
    if lacking:
        raise InputError(f"shard {', '.join(lacking)} is not among the files.", code="shard.missing")
    merged = Collected(first["spec"], [], [], {})
    for path, shard in shards:
        _take(merged, shard, path)
    return merged


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return which cases only one of two shards saw, and how many each."""
    told = []
    for only, where in ((set(ours["cases"]) - set(theirs["cases"]), "here"),
                        (set(theirs["cases"]) - set(ours["cases"]), "there")):  # fmt: skip
        if only:
            names = sorted(only)
            more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
            told.append(f"{', '.join(names[:MOST])}{more} only {where}")
    return f"{'; '.join(told)} ({counted(ours['n'], 'case')} against {theirs['n']})"


def _take(merged: Collected, shard: dict[str, Any], path: Path) -> None:
    """Add a shard's records; their paths are relative to its folder."""
    folder = str(path.parent)

    def here(name: str) -> str:
        return os.path.join(folder, name) if name else ""  # noqa: PTH118 (of 100 000 names: a Path takes seconds)

    for record in shard["records"]:
        move_files(record, here)
    merged.records.extend(shard["records"])
    merged.missing.extend(
        Missing(m["case"], m["side"], Path(here(m["path"])) if m["path"] else None, m["group"])
        for m in shard["missing"]
    )
    merged.groups.update(shard["groups"])


def _read(path: Path) -> dict[str, Any]:
    try:
        refuse_device(path)
        with path.open("rb") as file:
            found = parse_lines(file, "records", Sharing(*REPEATED))
        if found is None:
            found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number, object_pairs_hook=only_once)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}).", code="shard.read") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: is no shard of an evaluation.",
            hint="segcli evaluate ... --shard 1/4 -o shard1.json",
            code="shard.schema",
        )
    try:
        damaged = not _is_shard(found, str(path))
    except (KeyError, TypeError, ValueError, AttributeError):
        damaged = True
    if damaged:
        raise InputError(f"{path}: is damaged: make this shard again.", code="shard.shape")
    return found


def _no_number(word: str) -> float:
    raise ValueError(word)


#: What the record of a case that was scored has for the merge.
_NEEDED = {"status", "occur", "one_map", "spacing", "shape", "regions", "counts", "labels", "means", "tables"}


def _is_shard(found: dict[str, Any], where: str) -> bool:
    """Return whether a shard has all that a merge reads; of what has another type this may raise."""
    index, of = found["shard"]
    listed = found["listed"]
    whole = all(isinstance(name, str) for name in listed["cases"]) and listed["n"] == len(listed["cases"])
    if not whole or listed["sha256"] != _hash(listed["cases"]):
        return False
    if not all(in_shard(case, (index, of)) for case in (*(r["of"] for r in found["records"]), *found["groups"])):
        return False
    spec: dict[str, Any] = found["spec"]
    for record in found["records"]:
        if "error" in record:
            told = [record["error"]["code"], record["error"]["message"]]
        else:
            if not record.keys() >= _NEEDED or not all(isinstance(record["occur"][side], list) for side in SIDES):
                return False
            check_case(record, where)
            told = [record["status"]]
        told += [record["case"], record["of"], *(record[side]["path"] for side in SIDES)]
        told += [record["roi"]["path"]] if "roi" in record else []
        if not all(isinstance(word, str) for word in told):
            return False
    for gap in found["missing"]:
        if gap["side"] not in SIDES or not all(isinstance(gap[key], str) for key in ("case", "path")):
            return False
        dict(gap["group"])
    for group in found["groups"].values():
        dict(group)
    return 1 <= index <= of and {"measures", "labels", "average", "missing", "sha256"} <= spec.keys()


SIDES = ("pred", "gt")
