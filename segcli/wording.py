"""Numbers in sentences. Needs nothing, so that every floor may use it."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str = "", *, shown: str = "") -> str:
    """Return a number with its noun: `1 case`, `0 cases`; `shown` is how the number is written."""
    return f"{shown or n} {noun if n == 1 else plural or noun + 's'}"
