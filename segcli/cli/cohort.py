"""What `evaluate` does with its options: pair, score or merge, and write the run."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.cli.options import latex_cell
from segcli.cli.progress import Progress
from segcli.cli.session import PAPER_SUFFIXES, Session, check_outputs, deliver, write_whole
from segcli.errors import ExitCode, InputError, UsageError

if TYPE_CHECKING:
    from segcli.cohort.evaluate import Collected
    from segcli.cohort.pairing import Pairing


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of one `evaluate`."""

    session: Session
    paths: list[Path]
    manifest: Path | None
    match: str
    glob: str
    dry_run: bool
    missing: Literal["fail", "worst", "skip"]
    metrics: str
    losses: str
    surface: str | None
    empty: str
    background: bool
    worst: int
    ci: float
    seed: int
    group_by: str | None
    jobs: int
    engine: Literal["process", "dask"]
    scheduler: str | None
    resume: bool
    retry_errors: bool
    shard: str
    merge: bool
    strict: bool
    cell: Literal["sd", "iqr"] | None
    form: str
    outputs: list[Path]
    reading: dict[str, Any]


def answer(asked: Asked) -> ExitCode:
    """Carry out one `evaluate` and return its exit code."""
    from segcli.run import environment

    started, clock = datetime.now(UTC), time.perf_counter()
    _check(asked)
    if asked.dry_run:
        return _show_pairs(asked, _pairing(asked))
    run_file = next((path for path in asked.outputs if path.suffix.lower() == ".json"), None)
    folder = run_file.parent if run_file is not None else Path()
    collected = _merged(asked) if asked.merge else _collected(asked, run_file)

    def env() -> dict[str, Any]:
        seconds = time.perf_counter() - clock
        return environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    if asked.shard:
        return _write_shard(asked, collected, folder, env())
    return _report(asked, collected, folder, env())


def _check(asked: Asked) -> None:
    """Refuse what cannot work, before anything is read."""
    inputs = [str(p) for p in (asked.manifest, asked.reading["labels"]) if p is not None]
    check_outputs(asked.outputs, inputs, PAPER_SUFFIXES)
    latex_cell(asked.cell, asked.form, asked.outputs)
    journalled = any(path.suffix.lower() == ".json" for path in asked.outputs)
    if (asked.resume or asked.retry_errors or asked.shard) and not journalled:
        option = "--shard" if asked.shard else "--resume" if asked.resume else "--retry-errors"
        raise UsageError(f"{option} needs the run file.", hint="-o RUN.json", code="evaluate.output")
    if asked.scheduler is not None and asked.engine != "dask":
        raise UsageError("--scheduler is of --engine dask.", code="engine.scheduler")
    if asked.merge and (asked.manifest or asked.shard or asked.dry_run or not asked.paths):
        raise UsageError(
            "--merge takes shard files alone.",
            hint="segcli evaluate --merge SHARD... -o RUN.json",
            code="evaluate.merge",
        )
    if asked.manifest is not None and asked.paths:
        raise UsageError("--manifest names the pairs: no folders beside it.", code="evaluate.paths")
    if not asked.merge and asked.manifest is None and len(asked.paths) != 2:
        raise UsageError(
            f"two folders are wanted, {len(asked.paths)} given.",
            hint="segcli evaluate PRED_DIR GT_DIR, or --manifest FILE.csv",
            code="evaluate.paths",
        )


def _pairing(asked: Asked) -> Pairing:
    from segcli.cohort.pairing import pair_folders, read_manifest

    if asked.manifest is not None:
        found = read_manifest(asked.manifest)
    else:
        found = pair_folders(asked.paths[0], asked.paths[1], asked.match, asked.glob)
    if asked.group_by is not None and asked.group_by not in found.columns:
        known = ", ".join(found.columns) or "none: a manifest or named groups of --match regex: give them"
        raise UsageError(
            f"--group-by {asked.group_by}: no such column.", hint=f"columns: {known}", code="evaluate.group"
        )
    return found


def _show_pairs(asked: Asked, pairing: Pairing) -> ExitCode:
    from segcli.report.cohort import pairing_text

    print(pairing_text(pairing.pairs, pairing.missing, color=asked.session.colored()))
    return ExitCode.OK


def _merged(asked: Asked) -> Collected:
    from segcli.cohort.evaluate import merge

    return merge(asked.paths)


def _collected(asked: Asked, run_file: Path | None) -> Collected:
    from segcli.cohort.evaluate import Engine, collect
    from segcli.cohort.journal import journal_path
    from segcli.cohort.work import Plan
    from segcli.evaluate import measures_of
    from segcli.loading import reading_of

    metrics, losses = measures_of("metric", asked.metrics, surface=asked.surface), measures_of("loss", asked.losses)
    if not metrics and not losses:
        raise UsageError("no metric and no loss is asked for.", hint="-m default", code="measure.none")
    plan = Plan(
        tuple(b.id for b in metrics),
        tuple(b.id for b in losses),
        reading_of(**asked.reading),
        empty=asked.empty,
        background=asked.background,
        strict=asked.strict,
    )
    pairing = _pairing(asked)
    with Progress(asked.session, "cases") as progress:
        collected = collect(
            plan,
            pairing,
            Engine(asked.engine, asked.jobs, asked.scheduler),
            journal=None if run_file is None else journal_path(run_file),
            resume=asked.resume,
            retry_errors=asked.retry_errors,
            missing=asked.missing,
            shard=_shard(asked.shard),
            progress=progress,
        )
    if collected.reused and not asked.session.quiet:
        print(f"{collected.reused} cases taken from the journal", file=sys.stderr)
    return collected


def _shard(text: str) -> tuple[int, int]:
    if not text:
        return 1, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text} is not I/N with 1 <= I <= N.", hint="--shard 1/4", code="evaluate.shard")
    return int(found[1]), int(found[2])


def _write_shard(asked: Asked, collected: Collected, folder: Path, env: dict[str, Any]) -> ExitCode:
    from segcli.cohort.evaluate import shard_document
    from segcli.run import to_json

    text = to_json(shard_document(collected, _shard(asked.shard), folder) | {"environment": env})
    for path in asked.outputs:
        write_whole(path, text)
        if not asked.session.quiet:
            print(f"wrote {path}     next: segcli evaluate --merge SHARD... -o RUN.json", file=sys.stderr)
    _close_journal(asked)
    return ExitCode.OK


def _close_journal(asked: Asked) -> None:
    from segcli.cohort.journal import finish, journal_path

    for path in asked.outputs:
        if path.suffix.lower() == ".json" and journal_path(path).exists():
            finish(journal_path(path))


def _report(asked: Asked, collected: Collected, folder: Path, env: dict[str, Any]) -> ExitCode:
    from segcli.cohort.evaluate import document
    from segcli.report import cohort as report
    from segcli.run import to_json
    from segcli.summary import Resampling

    resampling = Resampling(asked.ci, seed=asked.seed)
    run = document(collected, folder, resampling, env, group_by=asked.group_by)
    if not run["cases"]:
        first = run["errors"][0] if run["errors"] else {"case": "?", "message": "nothing was scored"}
        raise InputError(
            f"no case could be scored; {first['case']}: {first['message']}",
            hint="segcli describe FILE says what is in a file",
            code="evaluate.none",
        )

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            return to_json(run)
        if wanted == "csv":
            return report.run_csv(run)
        if wanted == "latex":
            from segcli.report.latex import run_latex

            cell = latex_cell(asked.cell, asked.form, asked.outputs)
            return run_latex(run, report.measures_of(run), cell)
        return (
            report.run_markdown(run, asked.worst) if wanted == "md" else report.run_text(run, asked.worst, color=color)
        )

    deliver(render, asked.form, asked.outputs, asked.session, PAPER_SUFFIXES)
    _close_journal(asked)
    lacking = [m for m in run["missing"] if m["side"] == "pred"]
    failed = bool(run["errors"]) or (asked.missing == "fail" and bool(lacking))
    return ExitCode.PARTIAL if failed else ExitCode.OK
