"""Scoring many cases in worker processes: a killed worker costs its case, and nothing that is done.

Workers are started by `forkserver` where there is one (a fork after a parallel kernel aborts), each with
one thread. Where so many cannot be started there are fewer, or none and the cases are scored here. The order in which
cases finish depends on the machine; what they give does not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

from segcli.cohort.spare import ONE_THREAD, startable
from segcli.cohort.work import Plan, Record, Task, error_record, score_task
from segcli.kernels._jit import is_cold
from segcli.wording import counted

Done = tuple[Task, list[Record]]
Running = dict[Future[list[Record]], Task]

#: Cases handed out ahead of each worker: none waits for the driver, and few are lost with a pool.
AHEAD = 2
#: Threads and processes of a pool without workers (multiprocessing's two servers, two threads here, one to spare),
#: and of each worker.
POOL, WORKER = 5, 2
#: Seconds between two looks whether the thread that serves a pool is still there.
LOOK = 5.0


class CannotStartError(Exception):
    """A worker, or a thread that serves the pool, could not be started: what was handed out is scored again."""


def processes() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def run_here(plan: Plan, tasks: Sequence[Task]) -> Generator[Done, None, None]:
    """Yield each case with its records, scored in this process."""
    for task in tasks:
        yield task, score_task(plan, task)


def run_pool(plan: Plan, tasks: Sequence[Task], jobs: int, tell: Callable[[str], None]) -> Generator[Done, None, None]:
    """Yield each case with its records as they finish, scored by `jobs` worker processes.

    Where a worker dies (out of memory, a signal) the pool is made anew, and the cases that were under way
    are run one at a time to find the one that kills it: that one becomes an error record. `tell` gets a sentence
    where the system does not let so many processes be started: fewer do the work, or this one alone.
    """
    workers = max(0, min(jobs, (startable(POOL + WORKER * jobs) - POOL) // WORKER))
    left = {task.case: task for task in tasks}
    if 0 < workers < jobs:
        tell(f"{counted(workers, 'worker process', 'worker processes')} instead of {jobs}: no more {_LIMITED}")
    if workers:
        try:
            for task, records in _pooled(plan, tasks, workers):
                del left[task.case]
                yield task, records
        except CannotStartError:
            workers = 0
    if left and not workers:
        tell(f"no worker process {_LIMITED}; cases are scored one by one in this one")
        yield from run_here(plan, list(left.values()))


_LIMITED = "can be started (the limit of processes: ulimit -u, or a container's)"


def _pooled(plan: Plan, tasks: Sequence[Task], jobs: int) -> Generator[Done, None, None]:
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _until_broken(plan, waiting, jobs)
        while suspects:
            yield from _one_by_one(plan, suspects)


def _until_broken(plan: Plan, waiting: deque[Task], jobs: int) -> Generator[Done, None, deque[Task]]:
    """Yield results until all is done or the pool breaks; return the cases that were under way then."""
    running: Running = {}
    with _pool(jobs) as pool:
        try:
            if is_cold():  # the first case alone compiles the kernels, and the others find them
                _submit(pool, plan, waiting, running)
                yield from _finished(pool, running)
            while waiting or running:
                while waiting and len(running) < jobs * AHEAD:
                    _submit(pool, plan, waiting, running)
                yield from _finished(pool, running)
        except BrokenProcessPool:
            yield from _results_of(running)
            return deque(running.values())
        except BaseException:
            stop(pool)
            raise
    return deque()


def _submit(pool: ProcessPoolExecutor, plan: Plan, waiting: deque[Task], running: Running) -> None:
    """Hand out the next case; where that fails it is among the suspects, so that each pool gets on."""
    task = waiting.popleft()
    lost: Future[list[Record]] = Future()
    running[lost] = task
    running[_handed(pool, plan, task)] = task
    del running[lost]


def _handed(pool: ProcessPoolExecutor, plan: Plan, task: Task) -> Future[list[Record]]:
    """Hand a case to a pool, which starts a worker for it where one is missing."""
    try:
        with _no_main():
            return pool.submit(score_task, plan, task)
    except BrokenProcessPool:
        raise
    except (OSError, EOFError, RuntimeError) as problem:
        raise CannotStartError from problem


def _wait(pool: ProcessPoolExecutor, futures: Running | list[Future[list[Record]]]) -> set[Future[list[Record]]]:
    """Wait until one of them is done; without the thread that serves the pool none ever would be."""
    while not (done := wait(futures, timeout=LOOK, return_when=FIRST_COMPLETED).done):
        server: Any = pool._executor_manager_thread
        if server is not None and not server.is_alive() and not any(f.done() for f in futures):
            raise CannotStartError
    return done


def _finished(pool: ProcessPoolExecutor, running: Running) -> Iterator[Done]:
    """Wait for cases to finish and yield them; raise where the pool broke, with its cases still there."""
    done = _wait(pool, running)
    for future in sorted(done, key=lambda f: running[f].case):
        records = future.result()
        yield running.pop(future), records


def _results_of(running: Running) -> Iterator[Done]:
    """Yield what had finished when the pool broke."""
    for future in [f for f in running if f.done() and f.exception() is None]:
        yield running.pop(future), future.result()


def _one_by_one(plan: Plan, suspects: deque[Task]) -> Iterator[Done]:
    """Yield the suspects' records, one after the other in one worker, up to the one that kills it."""
    with _pool(1) as pool:
        try:
            while suspects:
                task = suspects.popleft()
                try:
                    future = _handed(pool, plan, task)
                    _wait(pool, [future])
                    records = future.result()
                except BrokenProcessPool:
                    yield task, [killed(task)]
                    return
                yield task, records
        except BaseException:
            stop(pool)
            raise


def killed(task: Task) -> Record:
    """Return the record of a case whose worker dies again and again."""
    return error_record(task, "worker.killed", "its worker process was killed (out of memory?)")


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    import multiprocessing

    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the main module while workers are started: they need nothing of it.

    multiprocessing runs it again in every worker, which a script without `if __name__ == "__main__"` does
    not survive.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prepare() -> None:
    """Leave Ctrl-C to the driver, which stops its workers itself; end with the driver, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(RuntimeError):  # no more threads: it works without
        threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    """Exit when the driver is gone: a worker waiting for work would never know."""
    import multiprocessing

    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: what they were at is not in the journal and will be scored again."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in workers:
        process.terminate()
