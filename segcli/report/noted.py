"""Warnings and notes of many cases as lines, each kind once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segcli.runs.noted import kind_text


def kind_lines(kinds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line for each kind: a warning with the names of its cases, a note with their number."""
    return [f"{kind['level']}: {kind_text(kind, names=kind['level'] == 'warning')}" for kind in kinds]
