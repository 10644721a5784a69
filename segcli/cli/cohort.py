"""What `evaluate` does with its options: pair, score or merge, and write the run."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.cli.options import latex_cell
from segcli.cli.progress import Progress
from segcli.cli.session import PAPER_SUFFIXES, Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError
from segcli.report.table import flat
from segcli.run.bulk import no_garbage
from segcli.wording import counted
from segcli.writing import write_whole

if TYPE_CHECKING:
    from segcli.cohort.collecting import Collected
    from segcli.cohort.pairing import Pairing
    from segcli.masks.mask import Note
    from segcli.run.model import Run

#: Options that say something of a merge, and of a list of pairs; any other would be ignored.
OF_MERGE = {"folders", "merge", "worst", "ci", "seed", "group_by", "cell", "form", "output"}
NOT_OF_SHARD = {"worst", "ci", "seed", "group_by", "cell", "form"}
NOT_OF_MANIFEST = {"match", "glob"}
#: As many files as a note names.
MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of one `evaluate`; `given` names those that stand on the command line."""

    session: Session
    given: frozenset[str]
    paths: list[Path]
    manifest: Path | None
    match: str
    glob: str
    dry_run: bool
    missing: Literal["fail", "worst", "skip"]
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
    cell: Literal["sd", "iqr"] | None
    form: str
    outputs: list[Path]
    plan: dict[str, Any]
    roi: Path | None = None

    @property
    def run_file(self) -> Path | None:
        """Return the run file, which the journal lies beside and paths are relative to."""
        return next((path for path in self.outputs if path.suffix.lower() == ".json"), None)


def answer(asked: Asked) -> ExitCode:
    """Carry out one `evaluate` and return its exit code."""
    from segcli.run.document import environment

    started, clock = datetime.now(UTC), time.perf_counter()
    _check(asked)
    if asked.dry_run:
        return _show_pairs(asked, _pairing(asked))
    collected = _merged(asked) if asked.merge else _collected(asked)
    seconds = time.perf_counter() - clock
    env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])
    with no_garbage():
        return _write_shard(asked, collected, env) if asked.shard else _report(asked, collected, env)


def _check(asked: Asked) -> None:
    """Refuse what cannot work, before anything is read."""
    inputs = [asked.manifest, asked.plan["labels"], asked.plan["colors"], *(asked.paths if asked.merge else [])]
    check_outputs(asked.outputs, [str(p) for p in inputs if p is not None], PAPER_SUFFIXES)
    latex_cell(asked.cell, asked.form, asked.outputs)
    if asked.dry_run and asked.form == "latex":
        raise UsageError("--dry-run has no LaTeX: a list of pairs is no table for a paper.", code="evaluate.format")
    if sum(path.suffix.lower() == ".json" for path in asked.outputs) > 1:
        raise UsageError("-o names two run files.", hint="one .json; .csv .md .txt beside it", code="evaluate.output")
    if (asked.resume or asked.retry_errors or asked.shard) and asked.run_file is None:
        option = "--shard" if asked.shard else "--resume" if asked.resume else "--retry-errors"
        raise UsageError(f"{option} needs the run file.", hint="-o RUN.json", code="evaluate.output")
    if asked.scheduler is not None and asked.engine != "dask":
        raise UsageError("--scheduler is of --engine dask.", code="engine.scheduler")
    if asked.merge and not asked.paths:
        hint = "segcli evaluate --merge SHARD... -o RUN.json"
        raise UsageError("--merge takes shard files.", hint=hint, code="evaluate.merge")
    _refuse("--merge", asked.merge, asked.given - OF_MERGE, "the shards say how they were made")
    _refuse("--shard", bool(asked.shard), asked.given & NOT_OF_SHARD, "give it to --merge")
    _refuse("--manifest", asked.manifest is not None, asked.given & NOT_OF_MANIFEST, "it names the pairs")
    _refuse("--dry-run", asked.dry_run, asked.given & {"output"}, "-f csv prints a manifest")
    if asked.shard and len(asked.outputs) > 1:
        raise UsageError("--shard writes one file, a .json.", code="evaluate.output")


def _refuse(option: str, used: bool, beside: frozenset[str], hint: str) -> None:
    if used and beside:
        names = {"form": "-f", "output": "-o", "retry_errors": "--retry-errors"}
        name = min(names.get(word, "--" + word.replace("_", "-")) for word in beside)
        raise UsageError(f"{option} leaves nothing for {name} to do.", hint=hint, code="evaluate.beside")


def regions_said(pairing: Pairing) -> list[Note]:
    """Return what is to be said of regions of interest that belong to no case."""
    from segcli.masks.mask import Note

    names = [str(path) for path in pairing.unused]
    if not names:
        return []
    listed = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
    what = "region of interest belongs" if len(names) == 1 else "regions of interest belong"
    return [Note(f"{len(names)} {what} to no case: {listed}", code="roi.unused")]


def _pairing(asked: Asked) -> Pairing:
    from segcli.cohort.evaluate import check_group, pairing_of

    found = pairing_of(asked.paths, asked.manifest, asked.match, asked.glob, asked.roi)
    check_group(asked.group_by, found.columns)
    asked.session.say(regions_said(found))
    return found


def _show_pairs(asked: Asked, pairing: Pairing) -> ExitCode:
    from segcli.report import pairing as report

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            from segcli.run.json_text import to_json

            return to_json(report.pairing_record(pairing))
        if wanted == "csv":
            return report.pairing_csv(pairing)
        return report.pairing_markdown(pairing) if wanted == "md" else report.pairing_text(pairing, color=color)

    deliver(render, asked.form, [], asked.session)
    return ExitCode.OK


def _merged(asked: Asked) -> Collected:
    from segcli.cohort.evaluate import check_group
    from segcli.cohort.shards import merge

    merged = merge(asked.paths)
    check_group(asked.group_by, list(dict.fromkeys(key for group in merged.groups.values() for key in group)))
    return merged


def _collected(asked: Asked) -> Collected:
    from segcli.cohort.evaluate import plan_of

    plan = plan_of(**asked.plan)
    pairing = _pairing(asked)
    # What follows loads NumPy: a mistake in the call is told before.
    from segcli.cohort.collecting import Engine, collect
    from segcli.cohort.journal import journal_path

    journal = None if asked.run_file is None else journal_path(asked.run_file)
    with Progress(asked.session, "cases") as progress, _told(asked, progress):
        collected = collect(
            plan,
            pairing,
            Engine(asked.engine, asked.jobs, asked.scheduler, lambda text: asked.session.warn([text])),
            journal=journal,
            resume=asked.resume,
            retry_errors=asked.retry_errors,
            missing=asked.missing,
            shard=_shard(asked.shard),
            progress=progress,
            warn=lambda text: asked.session.warn([text]),
        )
    if collected.reused and not asked.session.quiet:
        print(f"{counted(collected.reused, 'case')} taken from the journal", file=sys.stderr)
    return collected


class _told:  # noqa: N801 (reads as a word of a `with`)
    """Says, where the work inside ends early, how much of it is done and how to go on."""

    def __init__(self, asked: Asked, progress: Progress) -> None:
        self._kept = asked.run_file is not None
        self._progress = progress

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._progress.done:
            self._progress.clear()
            are = "is" if self._progress.of == 1 else "are"
            done = f"note: {self._progress.done} of {counted(self._progress.of, 'case')} {are} done"
            print(f"{done} and kept: --resume goes on" if self._kept else f"{done} and lost without -o RUN.json",
                  file=sys.stderr)  # fmt: skip


def _shard(text: str) -> tuple[int, int]:
    if not text:
        return 1, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text} is not I/N with 1 <= I <= N.", hint="--shard 1/4", code="evaluate.shard")
    return int(found[1]), int(found[2])


def _suspect(asked: Asked, run: Run) -> None:
    """Say what tables say in a footnote where the form on stdout has none."""
    from segcli.report.cohort import measures_of
    from segcli.run.alignment import TWICE, all_perfect

    if asked.form not in ("table", "md") and all_perfect(run.cases, measures_of(run)):
        asked.session.warn([TWICE])


def _write_shard(asked: Asked, collected: Collected, env: dict[str, Any]) -> ExitCode:
    from segcli.cohort.shards import shard_document
    from segcli.run.json_text import json_lines

    path = asked.outputs[0]
    document = shard_document(collected, _shard(asked.shard), path.parent)
    write_whole(path, json_lines({**document, "environment": env}.items()))
    _close_journal(asked)
    _wrote(asked, "segcli evaluate --merge SHARD... -o RUN.json")
    return _code(collected, failed=any("error" in r for r in collected.records))


def _report(asked: Asked, collected: Collected, env: dict[str, Any]) -> ExitCode:
    from segcli.cohort.evaluate import run_of
    from segcli.run.summary import Resampling

    run = run_of(collected, asked.run_file, Resampling(asked.ci, seed=asked.seed), env, asked.group_by)
    render = _renderer(asked, run)
    _suspect(asked, run)
    # All files before stdout: whoever reads that may close it early.
    for path in asked.outputs:
        form = PAPER_SUFFIXES[path.suffix.lower()]
        write_whole(path, run.lines() if form == "json" else render(form))
    _close_journal(asked)
    _say(asked, run)
    deliver(render, asked.form, [], asked.session)
    _wrote(asked, f"segcli gate {shlex.quote(str(asked.run_file))}")
    return _code(collected, failed=bool(run.errors))


def _renderer(asked: Asked, run: Run) -> Callable[..., str]:
    from segcli.report import cohort as report

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            return run.to_json()
        if wanted == "csv":
            return report.run_csv(run)
        if wanted == "latex":
            from segcli.report.latex import run_latex

            cell = latex_cell(asked.cell, asked.form, asked.outputs)
            return run_latex(run, report.measures_of(run), cell)
        if wanted == "md":
            return report.run_markdown(run, asked.worst)
        return report.run_text(run, asked.worst, color=color)

    return render


def _say(asked: Asked, run: Run) -> None:
    """Print the warnings of the cases to stderr, each kind once; a terminal that shows the table has them there."""
    from segcli.run.noted import kind_text, warnings_of

    if asked.session.verbose:
        levels = {"warning"} if asked.session.quiet else {"warning", "note"}
        for case in run.cases:
            asked.session.tell([f"{n.level}: {case.name}: {n.text}" for n in case.notes if n.level in levels])
    else:
        asked.session.warn([kind_text(kind) for kind in warnings_of(run.cases)], asked.form)


def _close_journal(asked: Asked) -> None:
    from segcli.cohort.journal import finish, journal_path

    if asked.run_file is not None and not asked.merge:
        finish(journal_path(asked.run_file))


def _wrote(asked: Asked, following: str) -> None:
    if not asked.session.quiet:
        for path in asked.outputs:
            print(flat(f"wrote {path}" + f"     next: {following}" * (path == asked.run_file)), file=sys.stderr)


def _code(collected: Collected, *, failed: bool) -> ExitCode:
    lacking = collected.spec["missing"] == "fail" and any(m.side == "pred" for m in collected.missing)
    return ExitCode.PARTIAL if failed or lacking else ExitCode.OK
