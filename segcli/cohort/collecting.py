"""A cohort from pairs to a run: what is left to do is scored, written down case by case, and put together."""

from __future__ import annotations

import hashlib
import os
import signal
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from segcli.cohort.assemble import assemble
from segcli.cohort.engine import Done, processes, run_here, run_pool
from segcli.cohort.journal import Journal
from segcli.cohort.pairing import Missing, Pairing
from segcli.cohort.tables import pooled_tables
from segcli.cohort.work import Plan, Record, Task
from segcli.run.bulk import no_garbage
from segcli.run.codec import cases_from, failure_from
from segcli.run.document import spec_of
from segcli.run.model import Run
from segcli.run.records import Missing as Gap
from segcli.run.records import Spec
from segcli.run.summary import Resampling, summaries

MissingPolicy = Literal["fail", "worst", "skip"]
Progress = Callable[[int, int], None]
Results = Generator[Done, None, None]


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where cases are scored: worker processes of this machine, or those of a Dask cluster.

    `tell` gets a sentence where fewer workers than asked for do it.
    """

    name: Literal["process", "dask"] = "process"
    jobs: int = 0
    scheduler: str | None = None
    tell: Callable[[str], None] = _warn

    def run(self, plan: Plan, tasks: Sequence[Task]) -> Results:
        """Yield each case with its records, as they finish."""
        jobs = self.jobs or processes()
        if self.name == "dask":
            from segcli.cohort.dask_engine import run_dask

            return run_dask(plan, tasks, jobs, self.scheduler)
        jobs = min(jobs, len(tasks)) if jobs > 1 else 0
        return run_pool(plan, tasks, jobs, self.tell) if jobs else run_here(plan, tasks)


@dataclass(frozen=True)
class Collected:
    """The records of the cases of a cohort, or of one shard of it, and what has no partner."""

    spec: dict[str, Any]
    records: list[Record]
    missing: list[Missing]
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    reused: int = 0
    #: Every case of the cohort that was seen, of other shards too, and which file of it was missing.
    listed: list[str] = field(default_factory=list)


def collect(
    plan: Plan,
    pairing: Pairing,
    engine: Engine,
    *,
    journal: Path | None = None,
    resume: bool = False,
    retry_errors: bool = False,
    missing: MissingPolicy = "fail",
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> Collected:
    """Score the pairs of a cohort, or those of one `shard` (I, N) of it.

    With a `journal` each case is written down when it is done; `resume` takes from it what is done of files
    that have not changed, `retry_errors` scores again what failed. `progress` is called with the number of
    cases that are done and of all, `warn` with what is damaged in the journal.
    """
    spec = cohort_spec(plan, missing, roi=pairing.has_regions)
    pairs = [pair for pair in pairing.pairs if in_shard(pair.case, shard)]
    lacking = [gap for gap in pairing.missing if in_shard(gap.case, shard)]
    listed = [*(p.case for p in pairing.pairs), *(f"{m.case} ({m.side} missing)" for m in pairing.missing)]
    tasks = [Task(p.case, str(p.pred), str(p.gt), _text(p.roi)) for p in pairs]
    groups = {p.case: dict(p.group) for p in pairs}
    if missing == "worst":
        empty = [m for m in lacking if m.side == "pred" and m.path is not None]
        tasks += [Task(m.case, "", str(m.path), _text(m.roi)) for m in empty]
        groups |= {m.case: dict(m.group) for m in empty}
    if journal is None:
        done = _all(engine.run(plan, tasks), len(tasks), 0, progress)
        return Collected(spec, done, lacking, groups, listed=sorted(listed))
    with no_garbage():
        opened = Journal(journal, _fingerprint(plan, spec), resume=resume or retry_errors, warn=warn)
    with opened as kept:
        records: list[Record] = []
        todo = []
        with no_garbage():
            for task in tasks:
                known = kept.known(task, retry_errors=retry_errors)
                if known is None:
                    todo.append(task)
                else:
                    records += known
        kept.done.clear()
        reused = len(tasks) - len(todo)
        if progress is not None and reused:
            progress(reused, len(tasks))
        records += _all(engine.run(plan, todo), len(tasks), reused, progress, kept)
    return Collected(spec, records, lacking, groups, reused, sorted(listed))


def in_shard(case: str, shard: tuple[int, int]) -> bool:
    """Tell whether a case is of shard I of N: by its name alone, whichever other cases there are.

    By its place in the list a file that comes or goes between two shards would move all after it.
    """
    index, of = shard
    name = hashlib.sha256(case.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(name[:8], "big") % of == index - 1


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _fingerprint(plan: Plan, spec: Mapping[str, Any]) -> str:
    """Return a hash of all that decides what a case gives: the spec, and what may refuse a case."""
    return hashlib.sha256(f"{spec['sha256']} {plan.strict} {plan.reading.max_voxels}".encode()).hexdigest()


def _all(
    results: Results, of: int, before: int, progress: Progress | None, journal: Journal | None = None
) -> list[Record]:
    found: list[Record] = []
    with closing(results):  # where this fails the workers end at once
        for number, (task, records) in enumerate(results, start=before + 1):
            found += records
            with _uninterrupted():
                if journal is not None:
                    journal.add(task, records)
                if progress is not None:
                    progress(number, of)
    return found


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM: whoever is told how many cases are done is told of all that are written down."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cohort_spec(plan: Plan, missing: MissingPolicy, *, roi: bool = False) -> dict[str, Any]:
    """Return every option that can change a number of the cohort, with a hash over them.

    `roi` says that cases have regions of interest.
    """
    metrics, losses = plan.measures()
    return spec_of(
        [*metrics, *losses],
        plan.reading,
        empty=plan.empty,
        background=plan.background,
        average=plan.average,
        mean_over=plan.mean_over,
        batch_dice=False,
        missing=missing,
        convention=plan.convention,
        roi=roi,
    )


def document(
    collected: Collected,
    folder: Path,
    resampling: Resampling,
    environment: dict[str, Any],
    *,
    group_by: str | None = None,
) -> Run:
    """Return the run of a cohort; its paths are relative to `folder`, where the run file goes.

    The records that were collected become its cases: they are changed, as there may be many.
    """
    with no_garbage():
        return _document(collected, relative_to(folder), resampling, environment, group_by)


def _document(
    collected: Collected,
    move: Callable[[str], str],
    resampling: Resampling,
    environment: dict[str, Any],
    group_by: str | None,
) -> Run:
    records, errors = assemble(collected.spec, collected.records, collected.groups)
    for record in [*records, *errors]:
        move_files(record, move)
    cases = cases_from(records)
    gaps = sorted(collected.missing, key=lambda m: (m.case, m.side))
    return Run(
        Spec(collected.spec),
        cases,
        [Gap(m.case, m.side, move("" if m.path is None else str(m.path))) for m in gaps],
        [failure_from(error) for error in errors],
        summaries(cases, resampling, group_by, collected.spec),
        pooled_tables(cases),
        environment=environment,
    )


def move_files(record: Record, move: Callable[[str], str]) -> None:
    """Give the files of a record the paths that `move` makes of theirs."""
    for side in ("pred", "gt", "roi"):
        if side in record:
            record[side]["path"] = move(record[side]["path"])


def relative_to(folder: Path) -> Callable[[str], str]:
    """Return what makes paths relative to a folder, with forward slashes; an empty one stays empty.

    A file that is a link keeps its own name.
    """
    start = folder.resolve()

    @cache
    def place(parent: str) -> str:
        return Path(os.path.relpath(Path(parent).resolve(), start)).as_posix()

    def move(path: str) -> str:
        parent, name = os.path.split(path)
        at = place(parent)
        return name if not name or at == "." else f"{at}/{name}"

    return move
