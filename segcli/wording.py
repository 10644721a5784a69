"""Numbers in sentences. Needs nothing, so that every floor may use it."""

from __future__ import annotations


def counted(n: float, noun: str, plural: str = "", *, shown: str = "") -> str:
    """Return a number with its noun: `1 case`, `0 cases`; `shown` is how the number is written."""
    one = n == 1 or shown == "1"
    return f"{shown or n} {noun if one else plural or noun + 's'}"


def plain(value: object) -> str:
    """Return the shortest text that reads back as the same value: 0.7, 2, 1e-05, surfel, 0.2/0.8."""
    if isinstance(value, (tuple, list)):
        return "/".join(plain(part) for part in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
