"""Scoring many cases on a Dask cluster: paths and the plan travel, never arrays.

The workers need segcli and the same paths. Whatever a worker was at when it died is run on another one.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from segcli.cohort.engine import Done, killed
from segcli.cohort.spare import startable
from segcli.cohort.work import Plan, Record, Task, error_record, score_task
from segcli.errors import UsageError

#: Cases in the scheduler's hands at a time, for each thread of the cluster: its memory stays small.
AHEAD = 4
#: Threads and processes of Dask's client and scheduler here, and of each worker: without one of them it waits for ever.
CLIENT, WORKER = 8, 8
#: Seconds to wait for a scheduler that is named, and for its first worker.
PATIENCE = 20


def run_dask(plan: Plan, tasks: Sequence[Task], jobs: int, scheduler: str | None) -> Generator[Done, None, None]:
    """Yield each case with its records as they finish.

    `scheduler` is the address of a running cluster (`tcp://host:8786`); without one a cluster of `jobs`
    processes is started on this machine and closed in the end. Raises `UsageError` where Dask is not
    installed, the scheduler does not answer or has no worker, its workers have another segcli, or so many
    threads and processes cannot be started.
    """
    if not tasks:
        return
    needed = CLIENT + WORKER * (jobs if scheduler is None else 0)
    if (found := startable(needed)) < needed:
        raise UsageError(
            f"--engine dask: it takes {needed} more threads and processes, {found} can be started (ulimit -u?).",
            hint="a smaller -j, or --engine process: it does with as many as there are",
            code="engine.processes",
        )
    try:
        import distributed
    except ImportError:
        raise UsageError(
            "--engine dask: Dask is not installed.", hint="pip install 'segcli[dask]'", code="engine.dask"
        ) from None
    cluster: Any = None
    try:
        if scheduler is None:
            # Any free port: without an address the scheduler's page wants 8787, and warns where another run has it.
            page = "127.0.0.1:0"
            cluster = distributed.LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=page, silence_logs=50
            )
        client = distributed.Client(scheduler or cluster, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError, RuntimeError) as problem:
        if cluster is not None:
            cluster.close()
        said = "--engine dask" if scheduler is None else f"--scheduler {scheduler}"
        raise UsageError(
            f"{said}: {str(problem).rstrip('.') or 'no answer'}.",
            hint="--engine process" if scheduler is None else "is it running? dask scheduler prints its address",
            code="engine.scheduler",
        ) from None
    try:
        _check_workers(client, scheduler)
        yield from _run(distributed, client, plan, tasks)
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _check_workers(client: Any, scheduler: str | None) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise UsageError(
            f"--scheduler {scheduler}: it has no worker.", hint=f"dask worker {scheduler}", code="engine.workers"
        ) from None
    with suppress(PackageNotFoundError):
        own = version("segcli")
        try:
            found = set(client.run(version, "segcli").values())
        except PackageNotFoundError:
            found = {"none"}
        if found != {own}:
            raise UsageError(
                f"the workers have segcli {', '.join(sorted(found))}; here it is {own}.",
                hint="install the same version on every worker",
                code="engine.version",
            )


def _run(distributed: Any, client: Any, plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
    waiting = iter(tasks)
    by_key: dict[str, Task] = {}
    results = distributed.as_completed(loop=client.loop)

    def submit() -> None:
        task = next(waiting, None)
        if task is not None:
            future = client.submit(score_task, plan, _absolute(task), pure=False, retries=0)
            by_key[future.key] = task
            results.add(future)

    for _ in range(max(1, sum(client.nthreads().values())) * AHEAD):
        submit()
    while by_key:
        future = next(results)
        task = by_key.pop(future.key)
        submit()
        yield task, _records(distributed, future, task)


def _absolute(task: Task) -> Task:
    """Return a task that a worker in any folder understands."""
    return replace(task, **{side: os.path.abspath(path) for side, path in task.files.items() if path})  # noqa: PTH100 (links stay as given)


def _records(distributed: Any, future: Any, task: Task) -> list[Record]:
    if future.status == "finished":
        return [record | _files(record, task) for record in future.result()]
    if future.status != "error":
        raise UsageError(
            "the cluster is gone.", hint="what is scored is in the journal: --resume goes on", code="engine.lost"
        )
    problem = future.exception()
    if isinstance(problem, distributed.scheduler.KilledWorker):
        return [killed(task)]
    return [error_record(task, "worker.lost", f"{type(problem).__name__}: {problem}")]


def _files(record: Record, task: Task) -> Record:
    return {side: {**record[side], "path": path} for side, path in task.files.items()}
