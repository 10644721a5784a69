"""Numbers in sentences. Needs nothing, so that every floor may use it."""

from __future__ import annotations


def counted(n: float, noun: str, plural: str = "", *, shown: str = "") -> str:
    """Return a number with its noun: `1 case`, `0 cases`; `shown` is how the number is written."""
    one = n == 1 or shown == "1"
    return f"{shown or n} {noun if one else plural or noun + 's'}"
