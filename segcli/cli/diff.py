"""segcli diff: did the change help, and is it more than noise?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import PAPER_SUFFIXES, Session, check_outputs, deliver
from segcli.errors import ExitCode
from segcli.run.bulk import no_garbage


@no_garbage()
def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="The run before: a file, or - for stdin.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run after: a file, or - for stdin.")],
    metrics: opt.RunMetrics = "",
    sort: Annotated[
        Literal["delta", "worse", "better", "case"],
        typer.Option(help="Which cases come first: moved most, fell most, rose most, by name."),
    ] = "delta",
    every: Annotated[bool, typer.Option("--all", help="Print every case, not only those that moved most.")] = False,
    ci: opt.Level = 0.95,
    seed: opt.Seed = 0,
    cell: opt.Cell = None,
    form: opt.PaperFormat = "table",
    output: opt.PaperOutput = None,
) -> ExitCode:
    """Compare two runs case by case: mean differences with intervals, tests, and the cases that moved.

    Only cases with a value in both runs are pairs. Runs that differ in what defines their numbers (parameters,
    labels, threshold, empty masks, spacing, averaging, voxels that do not count; docs/ci.md has all) are refused.
    """
    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    check_outputs(outputs, [a, b], PAPER_SUFFIXES)
    shown = opt.latex_cell(cell, form, outputs)
    opt.one_stdin([a, b])

    from segcli.run.alignment import wishes

    wishes(metrics)  # a typo is told before anything is read
    from segcli.report import diff as report
    from segcli.report.latex import difference_latex
    from segcli.run.comparability import Source
    from segcli.run.diff import compare_runs
    from segcli.run.document import environment
    from segcli.run.json_text import to_json
    from segcli.run.reading import UNREAD, load_run
    from segcli.run.summary import Resampling

    sources = [Source(name, load_run(name, without=UNREAD)) for name in (a, b)]
    found = compare_runs(*sources, metrics=metrics, sort=sort, every=every, resampling=Resampling(ci, seed=seed))
    session.warn(found.warnings, form)
    seconds = time.perf_counter() - clock
    env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            return to_json(report.difference_document(found, env))
        if wanted == "csv":
            return report.difference_csv(found, every=every)
        if wanted == "latex":
            return difference_latex(found, shown)
        if wanted == "md":
            return report.difference_markdown(found, every=every)
        return report.difference_text(found, every=every, color=color)

    deliver(render, form, outputs, session, PAPER_SUFFIXES)
    return ExitCode.OK
