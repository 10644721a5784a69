"""A cohort from pairs to a run: what is left to do is scored, written down case by case, and put together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segcli.cohort.assemble import assemble
from segcli.cohort.engine import Done, processes, run_here, run_pool
from segcli.cohort.journal import Journal
from segcli.cohort.pairing import Missing, Pairing
from segcli.cohort.work import Plan, Record, Task
from segcli.errors import InputError
from segcli.run import SCHEMA, spec_of
from segcli.summary import Resampling, summaries

MissingPolicy = Literal["fail", "worst", "skip"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Engine:
    """Where cases are scored: worker processes of this machine, or those of a Dask cluster."""

    name: Literal["process", "dask"] = "process"
    jobs: int = 0
    scheduler: str | None = None

    def run(self, plan: Plan, tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield each case with its records, as they finish."""
        jobs = self.jobs or processes()
        if self.name == "dask":
            from segcli.cohort.dask_engine import run_dask

            return run_dask(plan, tasks, jobs, self.scheduler)
        return run_here(plan, tasks) if jobs == 1 else run_pool(plan, tasks, min(jobs, max(1, len(tasks))))


@dataclass(frozen=True)
class Collected:
    """The records of the cases of a cohort, or of one shard of it, and what has no partner."""

    spec: dict[str, Any]
    records: list[Record]
    missing: list[Missing]
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    reused: int = 0


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
) -> Collected:
    """Score the pairs of a cohort, or every N-th of them with `shard` (I, N).

    With a `journal` each case is written down when it is done; `resume` takes from it what is done of files
    that have not changed, `retry_errors` scores again what failed.
    """
    spec = cohort_spec(plan, missing)
    index, of = shard
    pairs = pairing.pairs[index - 1 :: of]
    lacking = pairing.missing[index - 1 :: of]
    tasks = [Task(p.case, str(p.pred), str(p.gt)) for p in pairs]
    groups = {p.case: dict(p.group) for p in pairs}
    if missing == "worst":
        empty = [m for m in lacking if m.side == "pred"]
        tasks += [Task(m.case, "", str(m.path)) for m in empty]
        groups |= {m.case: dict(m.group) for m in empty}
    if journal is None:
        return Collected(spec, _all(engine.run(plan, tasks), len(tasks), 0, progress), lacking, groups)
    with Journal(journal, spec["sha256"], resume=resume or retry_errors) as kept:
        records: list[Record] = []
        todo = []
        for task in tasks:
            known = kept.known(task)
            if known is None or (retry_errors and any("error" in r for r in known)):
                todo.append(task)
            else:
                records += known
        reused = len(tasks) - len(todo)
        records += _all(_noted(engine.run(plan, todo), kept), len(tasks), reused, progress)
    return Collected(spec, records, lacking, groups, reused)


def _noted(results: Iterator[Done], journal: Journal) -> Iterator[Done]:
    for task, records in results:
        journal.add(task, records)
        yield task, records


def _all(results: Iterator[Done], of: int, before: int, progress: Progress | None) -> list[Record]:
    found: list[Record] = []
    for number, (_, records) in enumerate(results, start=before + 1):
        found += records
        if progress is not None:
            progress(number, of)
    return found


def cohort_spec(plan: Plan, missing: MissingPolicy) -> dict[str, Any]:
    """Return every option that can change a number of the cohort, with a hash over them."""
    metrics, losses = plan.measures()
    return spec_of(
        [*metrics, *losses],
        plan.reading,
        empty=plan.empty,
        background=plan.background,
        average=plan.average,
        batch_dice=False,
        missing=missing,
    )


def document(
    collected: Collected,
    folder: Path,
    resampling: Resampling,
    environment: dict[str, Any],
    *,
    group_by: str | None = None,
) -> dict[str, Any]:
    """Return the run of a cohort; its paths are relative to `folder`, where the run file goes."""
    cases, errors = assemble(collected.spec, collected.records, collected.groups)
    return {
        "schema": SCHEMA,
        "spec": collected.spec,
        "cases": [_moved(case, lambda path: relative(Path(path), folder)) for case in cases],
        "missing": [
            {"case": m.case, "side": m.side, "path": relative(m.path, folder)}
            for m in sorted(collected.missing, key=lambda m: (m.case, m.side))
        ],
        "errors": errors,
        "summary": summaries(cases, resampling, group_by),
        "environment": environment,
    }


def _moved(record: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """Return a record with the paths of its files moved."""
    if "pred" not in record:
        return dict(record)
    sides = {side: {**record[side], "path": move(record[side]["path"])} for side in ("pred", "gt")}
    return {**record, **sides}


def relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder, with forward slashes; empty stays empty."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix() if path.name else ""


# --- shards -----------------------------------------------------------------------------------------

SHARD = "segcli.shard/1"


def shard_document(collected: Collected, shard: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Return the records of one shard as they are: what only the whole cohort can decide is left to the merge."""
    return {
        "schema": SHARD,
        "shard": list(shard),
        "spec": collected.spec,
        "records": [_moved(r, lambda path: relative(Path(path), folder)) for r in collected.records],
        "missing": [
            {"case": m.case, "side": m.side, "path": relative(m.path, folder), "group": dict(m.group)}
            for m in collected.missing
        ],
        "groups": collected.groups,
    }


def merge(paths: Sequence[Path]) -> Collected:
    """Return all shards of a cohort as one. Raises `InputError` where one is missing, twice, or of another plan."""
    shards = [(path, _read_shard(path)) for path in paths]
    first_path, first = shards[0]
    of = first["shard"][1]
    seen: dict[int, Path] = {}
    for path, shard in shards:
        if shard["spec"]["sha256"] != first["spec"]["sha256"] or shard["shard"][1] != of:
            raise InputError(
                f"{path}: was made with other measures, options or shards than {first_path}.",
                hint="all shards of a cohort are made by the same call but for --shard",
                code="shard.spec",
            )
        index = shard["shard"][0]
        if index in seen:
            raise InputError(f"{path} and {seen[index]} are both shard {index}/{of}.", code="shard.twice")
        seen[index] = path
    lacking = [f"{i}/{of}" for i in range(1, of + 1) if i not in seen]
    if lacking:
        raise InputError(f"shard {', '.join(lacking)} is not among the files.", code="shard.missing")
    merged = Collected(first["spec"], [], [], {})
    for path, shard in shards:
        merged.records.extend(_moved(r, lambda p, at=path.parent: str(at / p)) for r in shard["records"])  # type: ignore[misc]
        merged.missing.extend(
            Missing(m["case"], m["side"], path.parent / m["path"], m["group"]) for m in shard["missing"]
        )
        merged.groups.update(shard["groups"])
    return merged


def _read_shard(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}).", code="shard.read") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != SHARD:
        raise InputError(
            f"{path}: is no shard of an evaluation.",
            hint="segcli evaluate ... --shard 1/4 -o shard1.json",
            code="shard.schema",
        )
    return found
