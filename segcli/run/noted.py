"""What was said of the cases of a run, by kind: how many cases a warning or a note is about, and which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segcli.run.records import Case, NoteKind
from segcli.wording import counted

#: As many cases as a line names.
NAMED = 5


def said_of(cases: Iterable[Case]) -> list[NoteKind]:
    """Return each kind of note of these cases, warnings first.

    Notes of a run file that has no codes yet are of one kind where their texts are the same.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    texts: dict[tuple[str, str], dict[str, None]] = {}
    codes: dict[tuple[str, str], str] = {}
    for case in cases:
        for note in case.notes:
            key = (note.level, note.code or note.text)
            found.setdefault(key, {})[case.name] = None
            texts.setdefault(key, {})[note.text] = None
            codes.setdefault(key, note.code)
    kinds = [
        NoteKind(key[0], codes[key], next(iter(texts[key])), len(texts[key]), tuple(names))
        for key, names in found.items()
    ]
    return sorted(kinds, key=lambda kind: kind.level != "warning")


def warnings_of(cases: Iterable[Case]) -> list[NoteKind]:
    """Return the kinds of warnings of these cases."""
    return [kind for kind in said_of(cases) if kind.level == "warning"]


def named(cases: Sequence[str], most: int = NAMED) -> str:
    """Return the names of the first cases, and how many more there are."""
    return ", ".join(cases[:most]) + (f" and {len(cases) - most} more" if len(cases) > most else "")


def kind_text(kind: NoteKind) -> str:
    """Return `3 cases: what was said (a, b, c)`; where it was not the same of each, what was said of the first."""
    first = "" if kind.texts == 1 else "in the first, "
    return f"{counted(kind.n, 'case')}: {first}{kind.text} ({named(kind.cases)})"


def warned(name: str, cases: Iterable[Case]) -> list[str]:
    """Return one sentence on the warnings of a run that stands beside others, none where it has none."""
    kinds = warnings_of(cases)
    if not kinds:
        return []
    more = f", and {counted(len(kinds) - 1, 'more kind')} of warnings" if len(kinds) > 1 else ""
    return [f"{name}: {kind_text(kinds[0])}{more}"]
