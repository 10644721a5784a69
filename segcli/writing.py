"""Files that are written: under another name and renamed, so that a crash never leaves half of one."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable
from pathlib import Path

from segcli.errors import UsageError

#: How texts are encoded that hold names of files.
AS_WRITTEN = "segcli.as_written"


def _as_written(problem: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of file names as they are, and halves of a pair, which a run file may hold, as JSON does."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    code = ord(problem.object[problem.start])
    return bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}", problem.start + 1


codecs.register_error(AS_WRITTEN, _as_written)


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
    with temporary.open("w", encoding="utf-8", errors=AS_WRITTEN) as file:
        last = ""
        for last in pieces:
            file.write(last)
        if not last.endswith("\n"):
            file.write("\n")
