"""Warnings and notes of many cases as lines, each kind once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from segcli.run.noted import kind_text
from segcli.run.records import NoteKind

if TYPE_CHECKING:
    from segcli.masks.mask import Note


def kind_lines(kinds: Iterable[NoteKind]) -> list[str]:
    """Return one line for each kind, with the number and the names of its cases."""
    return [f"{kind.level}: {kind_text(kind)}" for kind in kinds]


#: Notes on what was left out: a number without them is another one.
LEFT_OUT = ("void.ignored", "void.roi")


def told_in_csv(notes: Iterable[Note]) -> list[Note]:
    """Return the notes that have rows of their own in a CSV: warnings, and what was left out, each once."""
    return list(dict.fromkeys(n for n in notes if n.level == "warning" or n.code in LEFT_OUT))


def warning_lines(notes: Iterable[Note]) -> list[str]:
    """Return a line for each different warning."""
    return [f"warning: {text}" for text in dict.fromkeys(n.text for n in notes if n.level == "warning")]
