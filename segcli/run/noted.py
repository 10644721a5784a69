"""What was said of the cases of a run, by kind: how many cases a warning or a note is about, and which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segcli.wording import counted

#: As many cases as a line names.
NAMED = 5


def said_of(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a record for each kind of note of these cases, warnings first.

    A kind has a `level` and a `code`, the `text` of the first case that has it, how many different `texts` there
    are, and the names of its `n` `cases`. Notes of a run file that has no codes yet are of one kind where their
    texts are the same.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    texts: dict[tuple[str, str], set[str]] = {}
    for case in cases:
        for note in case.get("notes", ()):
            key = (note["level"], note.get("code") or note["text"])
            kind = found.get(key)
            if kind is None:
                code = note.get("code", "")
                kind = found[key] = {"level": note["level"], "code": code, "text": note["text"], "cases": {}}
            kind["cases"][case["case"]] = None
            texts.setdefault(key, set()).add(note["text"])
    return [
        {
            "level": kind["level"],
            "code": kind["code"],
            "text": kind["text"],
            "texts": len(texts[key]),
            "n": len(kind["cases"]),
            "cases": list(kind["cases"]),
        }
        for key, kind in sorted(found.items(), key=lambda item: item[0][0] != "warning")
    ]


def warnings_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds of warnings of a run's cases."""
    return [kind for kind in said_of(run["cases"]) if kind["level"] == "warning"]


def named(cases: Sequence[str], most: int = NAMED) -> str:
    """Return the names of the first cases, and how many more there are."""
    return ", ".join(cases[:most]) + (f" and {len(cases) - most} more" if len(cases) > most else "")


def kind_text(kind: Mapping[str, Any]) -> str:
    """Return `3 cases: what was said (a, b, c)`; where it was not the same of each, what was said of the first."""
    n, cases = kind["n"], kind["cases"]
    first = "" if kind["texts"] == 1 else "in the first, "
    return f"{counted(n, 'case')}: {first}{kind['text']} ({named(cases)})"


def warned(name: str, run: Mapping[str, Any]) -> list[str]:
    """Return one sentence on the warnings of a run that stands beside others, none where it has none."""
    kinds = warnings_of(run)
    if not kinds:
        return []
    more = f", and {counted(len(kinds) - 1, 'more kind')} of warnings" if len(kinds) > 1 else ""
    return [f"{name}: {kind_text(kinds[0])}{more}"]


def error_text(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a case that failed, and what to do about it."""
    return f"{error['message']} ({error['hint']})" if error.get("hint") else str(error["message"])
