"""Numba, configured once: which options kernels get, and where their compiled code is kept.

Three traps shape this file. `cache=True` raises at import when neither the package folder nor the home
directory is writable; a cached kernel keeps the old code of whatever it called when that changes; and whoever can
write to a cache has his code run by its reader. So the cache lives in a directory of ours, named after the version
of segcli, of numba and a hash of every kernel source. It is read wherever nobody but this user and root can have
written, a container image's too, and filled in the first such place that can be written; with no such place kernels
compile in memory. Numba itself is imported only when the first kernel is defined: asking for the directory is cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pkgutil
import re
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segcli.errors import UsageError
from segcli.kernels._cache import KERNEL_SUFFIX, KernelCache
from segcli.trust import distrust

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def _check_threads() -> None:
    """Refuse a number of threads that Numba answers with a traceback, in the middle of its own import."""
    if re.fullmatch(r"\s*(-\d+|0+)\s*", threads := os.environ.get("NUMBA_NUM_THREADS", "")):
        raise UsageError(f"NUMBA_NUM_THREADS is {threads.strip()}: Numba starts with 1 or more.", hint="unset it")


def kernel(*, reorder: bool = False) -> Callable[[Function], Function]:
    """Compile a function with Numba on its first call: no GIL, no fastmath, no threads of its own.

    With `reorder` the additions of its sums may take another order, so that they are vectorised: for a
    function that only adds up, with the gain and a bound of the error in a comment.

    A kernel may call kernels of its own file only (tested). With NUMBA_DISABLE_JIT=1 the function stays
    plain Python, so that coverage sees it.
    """

    def decorate(function: Function) -> Function:
        _check_threads()
        import numba

        if numba.config.DISABLE_JIT:
            return function
        # error_model: a float division by zero gives inf as in C, and loops can be vectorised.
        flags = {"reassoc"} if reorder else False
        compiled = numba.njit(nogil=True, error_model="numpy", fastmath=flags)(function)
        # Numba has no public door to its cache: where a version has moved it, kernels compile in memory.
        with contextlib.suppress(ImportError, AttributeError, TypeError):
            compiled._cache = KernelCache(function, cache_directories(), cache_directory(), _tell)
        return compiled  # type: ignore[no-any-return]

    return decorate


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself, or a copy when it is read-only.

    To Numba a read-only array is another type: one more specialisation of every kernel that gets it, and
    seconds of compilation for nothing. Our kernels never write to their inputs.
    """
    return array if array.flags.writeable else array.copy()


@cache
def cache_directory() -> Path | None:
    """Where compiled kernels are put, created and writable; None when there is no such place.

    The first that works of $SEGCLI_CACHE_DIR, $NUMBA_CACHE_DIR, the user's cache folder, and a folder in the
    temporary directory. One that another user could write to does not count: what is loaded from it is run.
    """
    key = _build_key()
    return next((d for parent in _candidates() if not distrust(d := parent / key) and _is_writable(d)), None)


@cache
def cache_directories() -> tuple[Path, ...]:
    """Where compiled kernels are looked for: all such places that are there, writable or not."""
    key = _build_key()
    return tuple(d for parent in _candidates() if (d := parent / key).is_dir() and not distrust(d))


def distrusted() -> list[str]:
    """Return why places that could hold compiled kernels are not used."""
    key = _build_key()
    return list(dict.fromkeys(why for parent in _candidates() if (why := distrust(parent / key))))


def is_cold(module: str = "*") -> bool:
    """Tell whether no kernel (of a module) is in the cache yet: the next call takes seconds, once."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}:
        return False
    places = {*cache_directories(), *filter(None, [cache_directory()])}
    return all(next(place.glob(f"{module}.*{KERNEL_SUFFIX}"), None) is None for place in places)


_listeners: list[Callable[[], None]] = []


def on_compiling(tell: Callable[[], None]) -> None:
    """Have `tell` called, once, before the first kernel that is not in the cache is compiled."""
    _listeners[:] = [tell]


def _tell() -> None:
    if _listeners:
        _listeners.pop()()


def compile_all() -> int:
    """Call every kernel once on tiny arrays of each dtype it is meant for; return the number of modules.

    Each module of `segcli.kernels` that defines kernels says in its own `warm()` how to call them.
    """
    package = importlib.import_module("segcli.kernels")
    warmed = 0
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"segcli.kernels.{entry.name}")
        warm = getattr(module, "warm", None)
        if warm is not None:
            warm()
            warmed += 1
    return warmed


def _build_key() -> str:
    """Name this build: versions, then every kernel source, so that no old code can be met again."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return f"{_version('segcli')}-numba{_version('numba')}-{digest.hexdigest()[:16]}"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "dev"


def _candidates() -> Iterator[Path]:
    for variable in ("SEGCLI_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "segcli"
    with contextlib.suppress(RuntimeError):  # no home directory is known
        yield _user_cache() / "segcli"
    with contextlib.suppress(OSError):
        yield from _private_temporary()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _private_temporary() -> Iterator[Path]:
    """Yield a folder of this user's own, or nothing when somebody else has put one in its place."""
    if sys.platform == "win32":
        yield Path(tempfile.gettempdir()) / "segcli"  # already one directory per user there
        return
    folder = Path(tempfile.gettempdir()) / f"segcli-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        yield folder


def _is_writable(directory: Path) -> bool:
    probe = directory / f".probe-{uuid.uuid4().hex}"
    try:
        for folder in (*reversed(directory.parents), directory):
            if not folder.exists():  # whatever the umask is: a folder that others could write to is not used
                folder.mkdir(mode=0o755, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
