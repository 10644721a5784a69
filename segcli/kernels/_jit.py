"""Numba, configured once: which options kernels get, and where their compiled code is kept.

Two traps shape this file. `cache=True` raises at import when neither the package folder nor the home
directory is writable; and a cached kernel keeps the old code of whatever it called when that changes. So
the cache lives in a directory of ours, named after the version of segcli, of numba and a hash of every
kernel source, in the first place that can be written; with no such place kernels compile in memory.
Numba itself is imported only when the first kernel is defined: asking for the directory is cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import pkgutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(*, reorder: bool = False) -> Callable[[Function], Function]:
    """Compile a function with Numba on its first call: no GIL, no fastmath, no threads of its own.

    With `reorder` the additions of its sums may take another order, so that they are vectorised: for a
    function that only adds up, with the gain and a bound of the error in a comment.

    A kernel may call kernels of its own file only (tested). With NUMBA_DISABLE_JIT=1 the function stays
    plain Python, so that coverage sees it.
    """

    def decorate(function: Function) -> Function:
        import numba

        if numba.config.DISABLE_JIT:
            return function
        _tell_if_cold(function.__module__.rpartition(".")[2])
        # error_model: a float division by zero gives inf as in C, and loops can be vectorised.
        flags = {"reassoc"} if reorder else False
        compiled = numba.njit(nogil=True, error_model="numpy", fastmath=flags)(function)
        directory = cache_directory()
        if directory is not None:
            # Numba has no public door to its cache: where a version has moved it, kernels compile in memory.
            with contextlib.suppress(OSError, RuntimeError, AttributeError, TypeError):
                compiled._cache = _function_cache(function, directory)
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
    """Where compiled kernels are kept, created and writable; None when there is no such place.

    The first that works of $SEGCLI_CACHE_DIR, $NUMBA_CACHE_DIR, the user's cache folder, and a folder
    in the temporary directory that belongs to this user alone (what is loaded from it is run).
    """
    key = _build_key()
    for parent in _candidates():
        directory = parent / key
        if _is_writable(directory):
            return directory
    return None


def is_cold(module: str = "*") -> bool:
    """Tell whether no kernel (of a module) is in the cache yet: the next call takes seconds, once."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}:
        return False
    directory = cache_directory()
    return directory is None or next(directory.rglob(f"{module}.*.nbi"), None) is None


_listeners: list[Callable[[], None]] = []


def on_compiling(tell: Callable[[], None]) -> None:
    """Have `tell` called, once, before the first kernel that is not in the cache is compiled."""
    _listeners[:] = [tell]


def _tell_if_cold(module: str) -> None:
    if _listeners and is_cold(module):
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
    folder = Path(tempfile.gettempdir()) / f"segcli-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        yield folder


def _is_writable(directory: Path) -> bool:
    probe = directory / f".probe-{uuid.uuid4().hex}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _function_cache(function: Callable[..., Any], directory: Path) -> Any:
    """Build Numba's cache of one function in our directory, made safe for many processes at once.

    Numba numbers its data files by what the index holds, without a lock: two processes compiling two
    signatures can write one file under one number, and the index then names the wrong machine code.
    Here every data file has a name of its own; a lost index entry only costs a compilation. A full disk
    or a damaged file costs the cache, never the result.
    """
    import numba
    from numba.core.caching import FunctionCache, IndexDataCacheFile

    class UniqueFiles(IndexDataCacheFile):  # type: ignore[misc]
        def _data_name(self, number: int) -> str:  # noqa: ARG002
            return f"{base}.{uuid.uuid4().hex}.nbc"

    class ForgivingCache(FunctionCache):  # type: ignore[misc]
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except (OSError, EOFError, pickle.UnpicklingError):
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(OSError):
                super().save_overload(sig, data)

    # The setting is global to the process and other packages use Numba too: put it back at once.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(directory)
    try:
        stored = ForgivingCache(function)
    finally:
        numba.config.CACHE_DIR = before
    base = stored._impl.filename_base
    stored._cache_file = UniqueFiles(
        cache_path=stored._cache_path, filename_base=base, source_stamp=stored._impl.locator.get_source_stamp()
    )
    return stored
