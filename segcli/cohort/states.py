"""What a mask's files are on the disk, and whether they are what they were when they were read."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from segcli.masks.files import files_of

State = dict[str, Any]
#: What changes when a file is touched or replaced: `mtime` can be set to any time, the others cannot.
_TOUCHED = ("mtime", "ctime", "inode")


def state_of(path: str) -> State:
    """Return the path of a mask and the sizes, times and inodes of its files; these are null where there is none."""
    found: State = {"path": path, "size": None, **dict.fromkeys(_TOUCHED)}
    if path:
        with contextlib.suppress(OSError):
            stats = [part.stat() for part in files_of(path)]
            found |= {
                "size": [s.st_size for s in stats],
                "mtime": [s.st_mtime_ns for s in stats],
                "ctime": [s.st_ctime_ns for s in stats],
                "inode": [s.st_ino for s in stats],
            }
    return found


def is_state(found: object) -> bool:
    """Return whether an object is what `state_of` returns."""
    return isinstance(found, dict) and isinstance(found.get("path"), str) and {"size", *_TOUCHED} <= found.keys()


def is_untouched(then: Mapping[str, Any], now: State) -> bool:
    """Return whether nothing at all was done to a file: it is the same one, in the same place."""
    return all(then[key] == now[key] for key in ("path", "size", *_TOUCHED))


def is_unchanged(then: Mapping[str, Any], now: State) -> bool:
    """Return whether a file has the content that it had.

    By its state, and by hash where it was touched, or another file has its name.
    """
    if is_untouched(then, now):
        return True
    if now["size"] is None or now["size"] != then["size"] or then.get("sha256") is None:
        return bool(now["path"] == then["path"] == "")
    with contextlib.suppress(OSError):  # it went away in between
        return sha256_of(now["path"]) == str(then["sha256"])
    return False


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a mask's bytes as it is read: of a pair, of the header followed by the image."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
