"""Compiled kernels on disk, one file for each kernel and signature, verified before anything of it is loaded.

Numba's own cache unpickles whatever lies there, needs a folder that can be written, and lets processes that compile
at once overwrite each other. Here a file carries the hash of its place and of its content: one that is damaged, cut
off, swapped with another or not this user's is set aside, and the kernel is compiled. A cache that belongs to root,
on a disk that cannot be written, is as good as any.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segcli.trust import is_ours

#: What the file of a compiled kernel ends in.
KERNEL_SUFFIX = ".nbk"
_MARK = b"segcli kernel 1\n"
_HASH = hashlib.sha256


class KernelCache:
    """The cache of one kernel, with the methods that a dispatcher of Numba calls.

    Numba is imported with the first of them. Raises ImportError where a version has moved what this stands on.
    """

    def __init__(
        self, function: Callable[..., Any], places: Sequence[Path], target: Path | None, tell: Callable[[], None]
    ) -> None:
        from numba.core.caching import CompileResultCacheImpl
        from numba.core.serialize import dumps

        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self._places, self._target, self._tell = tuple(places), target, tell
        self._function = function
        # Its constructor looks for a folder that can be written; of its methods none needs one.
        self._impl, self._dumps = object.__new__(CompileResultCacheImpl), dumps

    @property
    def cache_path(self) -> str:
        return str(self._target or "")

    def enable(self) -> None:
        pass

    def disable(self) -> None:
        self._places, self._target = (), None

    def flush(self) -> None:
        pass

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel of a signature; `None`, and a word to the user, where it must be compiled."""
        target_context.refresh()
        name = self._file(sig, target_context.codegen())
        for place in dict.fromkeys([*self._places, *([self._target] if self._target else [])]):
            payload = _verified(place / name)
            if payload is None:
                continue
            # What was verified was written by us; of another build of NumPy or LLVM it may still not fit.
            with contextlib.suppress(Exception):
                return self._impl.rebuild(target_context, pickle.loads(payload))  # noqa: S301
        self._tell()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel. A disk that is full, or cannot be written, costs the cache, never the result."""
        if self._target is None or any(not x.can_cache for x in data.lifted) or data.library.has_dynamic_globals:
            return
        with contextlib.suppress(OSError):
            _write(self._target / self._file(sig, data.codegen), self._dumps(self._impl.reduce(data)))

    def _file(self, sig: Any, codegen: Any) -> str:
        """Name the file of a signature on this processor; the folder names the version of every source."""
        key = _HASH(repr((str(sig), codegen.magic_tuple())).encode()).hexdigest()[:32]
        return f"{self._name}.{key}{KERNEL_SUFFIX}"


def _seal(name: str, payload: bytes) -> bytes:
    return _HASH(b"\0".join([_MARK, name.encode(), payload])).digest()


def _verified(path: Path) -> bytes | None:
    """Return the content of a file of ours that is whole; set it aside otherwise."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError:  # a link, or not ours to read
        _set_aside(path)
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            data = file.read() if is_ours(os.fstat(file.fileno())) else b""
    except OSError:
        return None
    start = len(_MARK) + _HASH().digest_size
    payload = data[start:]
    if data[:start] == _MARK + _seal(path.name, payload):
        return payload
    _set_aside(path)
    return None


def _set_aside(path: Path) -> None:
    """Move a file that cannot be trusted out of the way, where that is possible; a new one takes its place."""
    with contextlib.suppress(OSError):
        path.replace(path.with_suffix(".bad"))


def _write(path: Path, payload: bytes) -> None:
    """Write a file whole or not at all; of two processes that write one the last stays, and both are right."""
    beside = path.with_name(f".{uuid.uuid4().hex}")
    try:
        # Whatever the umask is: a file that others could write to is not loaded.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(_MARK + _seal(path.name, payload) + payload)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
