"""Small text files in: whole, and never more of them than a file of their kind can be."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path
from typing import Any


class RepeatedKeyError(ValueError):
    """A JSON object names a key twice: readers differ in which value they keep."""


def only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of its pairs, for `json.loads(..., object_pairs_hook=)`. Raises `RepeatedKeyError`."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKeyError(f'"{next(name for name in made if names.count(name) > 1)}" stands twice in one object')
    return made


#: What a configuration, rules or a file of labels take at most, in bytes.
SMALL = 16 << 20
#: What a list of cases takes at most: some million lines.
LISTS = 1 << 30


def read_text(path: Path) -> str:
    """Return a text in UTF-8, its lines ended by a newline each. Raises `OSError` as `read_names`."""
    return _bytes(path, SMALL).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read_names(path: Path) -> str:
    """Return a text that names files, which may be any bytes: what is no UTF-8 and all ends of lines stay.

    Raises `OSError`, also for a device and for a text that does not end (a pipe), and `UnicodeError` for UTF-16.
    """
    data = _bytes(path, LISTS)
    if b"\0" in data:
        raise UnicodeError("a zero byte")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _bytes(path: Path, most: int) -> bytes:
    refuse_device(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", os.fspath(path))
    return data


def refuse_device(path: Path) -> None:
    """Raise `OSError` where a path is a device: `/dev/zero` has no end. A pipe, as of `<(command)`, is a file."""
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.ENODEV, "a device, not a file", os.fspath(path))
