"""A run beside its baseline: may their numbers be compared, and which cases do they share?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segcli.errors import InputError
from segcli.gate.columns import Columns

#: What an option is where an older run file does not have it yet.
_ABSENT = {"background": True, "average": "macro", "missing": "fail"}
#: No definitions: the hash is of the rest, and measures are compared one by one.
_APART = {"sha256", "measures"}


def check_comparable(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    """Raise `InputError` where two runs were made with different options, with both values."""
    ours, theirs = run["spec"], baseline["spec"]
    differing = [
        f"{key} is {_shown(a)} here and {_shown(b)} there"
        for key in sorted({*ours, *theirs} - _APART)
        if (a := ours.get(key, _ABSENT.get(key))) != (b := theirs.get(key, _ABSENT.get(key)))
        and not (a in (None, False) and b in (None, False))
    ]
    if differing:
        raise InputError(f"the baseline is of another definition: {'; '.join(differing)}.", hint=_HINT, code="run.spec")
    measures = {text: text.split(":")[0] for text in ours["measures"]}
    known = {text.split(":")[0]: text for text in theirs["measures"]}
    for text, name in measures.items():
        if text not in theirs["measures"] and name in known and known[name] not in ours["measures"]:
            raise InputError(
                f"the baseline is of another definition: {text} here and {known[name]} there.",
                hint=_HINT,
                code="run.spec",
            )


_HINT = "numbers of different definitions are never compared: make both runs with the same options"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={'+'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in value.items())
    return "unset" if value is None else str(value)


def check_unit(key: tuple[str, str, str], ours: Columns, theirs: Columns) -> None:
    """Raise `InputError` where a measure is in mm here and in voxels there."""
    a, b = ours.unit(key), theirs.unit(key)
    if a and b and a != b:
        raise InputError(f"the baseline is of another unit: {key[2]} is in {a} here and in {b} there.", code="run.unit")


def changed_truth(ours: Columns, theirs: Columns) -> list[str]:
    """Return the cases whose ground truth is another file than the baseline's."""
    found = []
    for name, case in ours.cases.items():
        hashes = [side.get("gt", {}).get("sha256") for side in (case, theirs.cases.get(name, {}))]
        if all(hashes) and hashes[0] != hashes[1]:
            found.append(name)
    return found
