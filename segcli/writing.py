"""Files that are written: under another name and renamed, so that a crash never leaves half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from segcli.errors import UsageError


def target_of(path: Path, option: str) -> Path:
    """Return the file that is written for a path: a link keeps pointing where it does, and that file is replaced.

    Raises `UsageError` for a link that goes in a circle, and for what is there and no file: a device, a pipe.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a circle: RuntimeError before Python 3.13
        raise UsageError(f"{option} {path}: the link goes in a circle.".lstrip(), code="output.link") from None
    if target.is_symlink():
        raise UsageError(f"{option} {path}: the link goes in a circle.".lstrip(), code="output.link")
    if target.exists() and not target.is_file() and not target.is_dir():
        raise UsageError(f"{option} {path}: is no regular file, and is not replaced.".lstrip(), code="output.special")
    return target


def write_whole(path: Path, data: str | bytes | Iterable[str], option: str = "-o") -> None:
    """Write a file, a text in pieces or as one, under a temporary name and rename it; texts end with a line end."""
    target = target_of(path, option)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if isinstance(data, bytes):
            temporary.write_bytes(data)
        else:
            _write_text(temporary, [data] if isinstance(data, str) else data)
        temporary.replace(target)
    except OSError as problem:
        raise UsageError(
            f"{option} {path}: cannot be written ({problem.strerror}).".lstrip(), code="output.write"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(temporary: Path, pieces: Iterable[str]) -> None:
    with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        last = ""
        for last in pieces:
            file.write(last)
        if not last.endswith("\n"):
            file.write("\n")
