"""How many threads and processes may still be started: `ulimit -u` and a container's limit bound both together."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

#: One thread for a process: several libraries read these when they are loaded.
ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: As many threads as one OpenBLAS starts at most; NumPy and SciPy bring one each.
_MOST_BLAS = 64


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


def is_shortage(problem: BaseException) -> bool:
    """Tell whether an error says that no further thread or process can be started."""
    if isinstance(problem, OSError):
        return problem.errno == errno.EAGAIN and problem.filename is None
    return isinstance(problem, RuntimeError) and "can't start new thread" in str(problem)
