"""How many threads and processes may still be started: `ulimit -u` and a container's limit bound both together."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from segcli.errors import InputError

#: One thread for a process: several libraries read these when they are loaded.
ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: As many threads as one OpenBLAS starts at most; NumPy and SciPy bring one each.
_MOST_BLAS = 64
#: What loading NumPy, SciPy and Numba takes of the address space, in bytes, before a mask is read.
_LIBRARIES = 500 << 20


def startable(most: int) -> int:
    """Return how many threads could be started at once, up to `most`; they have ended when this returns.

    Only trying tells: the limit counts what other programs of the user run, and a control group's is not readable
    everywhere.
    """
    end, started = threading.Event(), []
    try:
        for _ in range(most):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        pass
    end.set()
    for thread in started:
        thread.join()
    _settle(len(started))
    return len(started)


def _settle(ended: int) -> None:
    """Wait until the system has let go of threads that have ended: until then they count."""
    own = Path("/proc/self/task")
    with suppress(OSError):
        for _ in range(50):
            if not ended or len(list(own.iterdir())) <= threading.active_count():
                break
            time.sleep(0.001)


def bound_libraries() -> bool:
    """Have libraries that are loaded from now on start no threads, where not all of theirs could be started.

    OpenBLAS ends the process when one of its threads does not start. Returns whether that had to be.
    """
    asked = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    each = min(int(asked) if asked.isdecimal() else os.cpu_count() or 1, _MOST_BLAS) - 1
    if each < 1 or startable(2 * each) == 2 * each:
        return False
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    return True


def check_address_space() -> None:
    """Raise `InputError` where the address space is too small to load the libraries: they hang or end the process."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _LIBRARIES:
        raise InputError(
            f"the address space is limited to {limit >> 20} MiB; NumPy, SciPy and Numba take {_LIBRARIES >> 20}.",
            hint="raise the limit (ulimit -v)",
            code="memory.limit",
        )


def is_shortage(problem: BaseException) -> bool:
    """Tell whether an error says that no further thread or process can be started."""
    if isinstance(problem, OSError):
        return problem.errno == errno.EAGAIN and problem.filename is None
    return isinstance(problem, RuntimeError) and "can't start new thread" in str(problem)
