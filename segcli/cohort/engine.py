"""Scoring many cases in worker processes: a killed worker costs its case, and nothing that is done.

Workers are started by `forkserver` where there is one (a fork after a parallel kernel aborts), each with
one thread. The order in which cases finish depends on the machine; what they give does not.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from segcli.cohort.work import Plan, Record, Task, score_task

Done = tuple[Task, list[Record]]

#: One thread for each worker: several libraries read these when they are loaded.
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Cases handed out ahead of each worker: none waits for the driver, and few are lost with a pool.
AHEAD = 2


def processes() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def run_here(plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
    """Yield each case with its records, scored in this process."""
    for task in tasks:
        yield task, score_task(plan, task)


def run_pool(plan: Plan, tasks: Sequence[Task], jobs: int) -> Iterator[Done]:
    """Yield each case with its records as they finish, scored by `jobs` worker processes.

    Where a worker dies (out of memory, a signal) the pool is made anew, and the cases that were under way
    are run one at a time to find the one that kills it: that one becomes an error record.
    """
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _until_broken(plan, waiting, jobs)
        for task in suspects:
            yield task, _alone(plan, task)


def _until_broken(plan: Plan, waiting: deque[Task], jobs: int) -> Generator[Done, None, list[Task]]:
    """Yield results until all is done or the pool breaks; return the cases that were under way then."""
    under_way: dict[Future[list[Record]], Task] = {}
    with _pool(jobs) as pool:
        try:
            # The first case alone: it compiles the kernels if they are not, and the others find them.
            first = waiting.popleft()
            under_way[pool.submit(score_task, plan, first)] = first
            yield from _finished(under_way)
            while waiting or under_way:
                while waiting and len(under_way) < jobs * AHEAD:
                    task = waiting[0]
                    under_way[pool.submit(score_task, plan, task)] = task
                    waiting.popleft()
                yield from _finished(under_way)
        except BrokenProcessPool:
            return list(under_way.values())
        except BaseException:
            stop(pool)
            raise
    return []


def _finished(under_way: dict[Future[list[Record]], Task]) -> Iterator[Done]:
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in sorted(done, key=lambda f: under_way[f].case):
        records = future.result()  # raises where the pool broke, with the case still under way
        yield under_way.pop(future), records


def _alone(plan: Plan, task: Task) -> list[Record]:
    """Return the records of a case in a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(score_task, plan, task).result()
        except BrokenProcessPool:
            message = "its worker process was killed (out of memory?)"
            return [{"case": task.case, "error": {"code": "worker.killed", "message": message}}]
        except BaseException:
            stop(pool)
            raise


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    import multiprocessing

    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_quiet) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _quiet() -> None:
    """Leave Ctrl-C to the driver, which stops its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: what they were at is not in the journal and will be scored again."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in list((pool._processes or {}).values()):
        process.terminate()
