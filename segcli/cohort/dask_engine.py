"""Scoring many cases on a Dask cluster: paths and the plan travel, never arrays.

The workers need segcli and the same paths. Whatever a worker was at when it died is run on another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from segcli.cohort.work import Plan, Record, Task, score_task
from segcli.errors import UsageError

#: Cases in the scheduler's hands at a time, for each thread of the cluster: its memory stays small.
AHEAD = 4
#: Seconds to wait for a scheduler that is named.
PATIENCE = "20s"


def run_dask(
    plan: Plan, tasks: Sequence[Task], jobs: int, scheduler: str | None
) -> Iterator[tuple[Task, list[Record]]]:
    """Yield each case with its records as they finish.

    `scheduler` is the address of a running cluster (`tcp://host:8786`); without one a cluster of `jobs`
    processes is started on this machine and closed in the end. Raises `UsageError` where Dask is not
    installed or the scheduler does not answer.
    """
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "--engine dask: Dask is not installed.", hint="pip install 'segcli[dask]'", code="engine.dask"
        ) from None
    cluster: Any = None
    try:
        if scheduler is None:
            cluster = distributed.LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            )
        client = distributed.Client(scheduler or cluster, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as problem:
        raise UsageError(
            f"--scheduler {scheduler}: {problem or 'no answer'}.",
            hint="is it running? dask scheduler prints its address",
            code="engine.scheduler",
        ) from None
    try:
        yield from _run(distributed, client, plan, tasks)
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _run(distributed: Any, client: Any, plan: Plan, tasks: Sequence[Task]) -> Iterator[tuple[Task, list[Record]]]:
    waiting = iter(tasks)
    by_key: dict[str, Task] = {}
    results = distributed.as_completed(loop=client.loop)

    def submit() -> None:
        task = next(waiting, None)
        if task is not None:
            future = client.submit(score_task, plan, task, pure=False, retries=0)
            by_key[future.key] = task
            results.add(future)

    for _ in range(max(1, sum(client.nthreads().values())) * AHEAD):
        submit()
    while by_key:
        future = next(results)
        task = by_key.pop(future.key)
        submit()
        yield task, _records(distributed, future, task)


def _records(distributed: Any, future: Any, task: Task) -> list[Record]:
    if future.status == "finished":
        records: list[Record] = future.result()
        return records
    problem = future.exception() if future.status == "error" else None
    if isinstance(problem, distributed.scheduler.KilledWorker):
        message = "its worker process was killed (out of memory?)"
        return [{"case": task.case, "error": {"code": "worker.killed", "message": message}}]
    message = f"{type(problem).__name__}: {problem}" if problem is not None else "the cluster lost it"
    return [{"case": task.case, "error": {"code": "worker.lost", "message": message}}]
