"""The text of JSON files: strict, readable, and with nothing in it that draws on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any


def to_json(data: dict[str, Any] | list[Any]) -> str:
    """Return strict JSON: a NaN or an infinity is a bug and raises."""
    return _printable(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def json_lines(data: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield the pieces of strict JSON with one line for each element of a list: what a run of many cases is written as.

    `data` has the keys with what stands there; an iterator is a list whose elements are made one by one. Of 100 000
    cases the whole text is larger than they are. Indenting is done in Python, letter by letter: of 100 000 cases it
    takes minutes, and this seconds.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    before = "{\n"
    for key, value in data:
        yield f"{before} {_printable(encode(key))}: "
        before = ",\n"
        if isinstance(value, Iterator) or (isinstance(value, list) and value):
            between = "[\n  "
            for element in value:
                yield between + _printable(encode(element))
                between = ",\n  "
            yield "\n ]"
        else:
            yield _printable(encode(value))
    yield "\n}"


#: Characters that draw on a terminal: the second control set, and those that turn or hide text.
_DRAWS = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def _printable(text: str) -> str:
    """Return JSON in which what draws on a terminal is escaped, inside its strings; their values are the same."""
    text = _DRAWS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    # A file name that is not UTF-8 arrives as lone surrogates: JSON can hold those escaped only.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
