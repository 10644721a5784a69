"""Result files: written under another name and renamed, so that a crash never leaves half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from segcli.errors import UsageError


def write_whole(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, in pieces or as one, under a temporary name and rename it; a link keeps pointing where it does."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
            last = ""
            for last in [text] if isinstance(text, str) else text:
                file.write(last)
            if not last.endswith("\n"):
                file.write("\n")
        temporary.replace(target)
    except OSError as problem:
        raise UsageError(f"-o {path}: cannot be written ({problem.strerror}).", code="output.write") from None
    finally:
        temporary.unlink(missing_ok=True)
