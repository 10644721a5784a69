"""Many records at once: read line by line, kept without doubles, and without the collector in between."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from sys import intern
from typing import Any

from segcli.text import only_once


@contextmanager
def no_garbage() -> Iterator[None]:
    """Pause the collector while many records are made: it would look through all of them, again and again.

    None of them is part of a circle, and of 100 000 cases half the time is its.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Sharing:
    """Keeps once what the records of one cohort repeat: the words of values, and parts equal to the last record's."""

    def __init__(self, *parts: str, words: bool = True) -> None:
        self._parts = parts
        self._rows = ("values", "means") if words else ()
        self._last: dict[str, tuple[Any, str]] = {}

    def __call__(self, record: Any) -> Any:
        """Return the record, which is changed; what is no record stays as it is."""
        if not isinstance(record, dict):
            return record
        for name in self._parts:
            if name not in record:
                continue
            part = record[name]
            last, text = self._last.get(name, (None, ""))
            # The text tells 1 from 1.0 and one order of keys from another.
            if part == last and repr(part) == text:
                record[name] = last
            else:
                self._last[name] = (part, repr(part))
        for name in self._rows:
            rows = record.get(name)
            for row in rows if isinstance(rows, list) else ():
                share_words(row)
        return record


def share_words(row: Any) -> None:
    """Keep the words of one value once: a handful, each there a million times."""
    try:
        row["label"], row["kind"] = intern(row["label"]), intern(row["kind"])
        row["measure"], row["unit"] = intern(row["measure"]), intern(row["unit"])
        for key in ("status", "why"):
            if key in row:
                row[key] = intern(row[key])
    except (KeyError, TypeError):  # no value of segcli's: it stays as it is
        return


def parse_lines(lines: Iterable[bytes], key: str, kept: Callable[[Any], Any]) -> dict[str, Any] | None:
    """Return the JSON object of a file in which each element of the list `key` has a line of its own.

    Each element is passed through `kept` as soon as it is read, so the whole text is never in memory.
    `None` where the file is laid out otherwise or is no strict JSON: read as a whole it will say why.
    """
    try:
        return _parsed(iter(lines), key, kept)
    except (ValueError, RecursionError):
        return None


def _parsed(lines: Iterator[bytes], key: str, kept: Callable[[Any], Any]) -> dict[str, Any] | None:
    decode = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=only_once).decode
    opening = f'"{key}": ['.encode()
    rest: list[bytes] = []
    for line in lines:
        rest.append(line)
        if line.strip() == opening and line.startswith(b" ") and not line.startswith(b"  "):
            break
    else:
        return None
    found: list[Any] = []
    following = True
    for line in lines:
        text = line.strip()
        if text in (b"]", b"],"):
            rest.append(line)
            break
        if not following:
            return None
        following = text.endswith(b",")
        found.append(kept(decode(str(text[:-1] if following else text, "utf-8"))))
    if following:
        return None
    rest += lines
    whole = json.loads(b"".join(rest).decode("utf-8-sig"), parse_constant=_refuse, object_pairs_hook=only_once)
    if not isinstance(whole, dict) or whole.get(key) != []:
        return None
    whole[key] = found
    return whole


def _refuse(word: str) -> float:
    raise ValueError(word)
