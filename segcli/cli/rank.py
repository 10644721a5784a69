"""segcli rank: which of several runs is best, and how sure is that?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import PAPER_SUFFIXES, Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError
from segcli.run.bulk import no_garbage


@no_garbage()
def rank(
    ctx: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run files, each RUN.json or NAME=RUN.json.")],
    metrics: opt.RunMetrics = "",
    missing: Annotated[
        Literal["worst", "exclude"],
        typer.Option(help="A value that a run does not have: the worst possible, or the case is left out for all."),
    ] = "worst",
    ci: opt.Level = 0.95,
    seed: opt.Seed = 0,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of the cases.")] = 1000,
    cell: opt.Cell = None,
    form: opt.PaperFormat = "table",
    output: opt.PaperOutput = None,
) -> ExitCode:
    """Rank runs over the same cases, for each label and measure and overall, with the ranking's stability.

    Both ways of challenges are given: the mean of each case's ranks, and the rank of the means. Pairs of runs are
    tested one-sided; a run without a name is called after its file.
    """
    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    named = [name_of(text) for text in runs]
    check_outputs(outputs, [path for _, path in named], PAPER_SUFFIXES)
    shown = opt.latex_cell(cell, form, outputs)
    _check_names([name for name, _ in named])
    opt.one_stdin([path for _, path in named])

    from segcli.run.alignment import wishes

    wishes(metrics)  # a typo is told before anything is read
    from segcli.report import rank as report
    from segcli.report.latex import ranking_latex
    from segcli.run.comparability import Source
    from segcli.run.document import environment
    from segcli.run.json_text import to_json
    from segcli.run.rank import rank_runs
    from segcli.run.reading import UNREAD, load_run
    from segcli.run.summary import Resampling

    found = rank_runs(
        [Source(name, load_run(path, without=UNREAD)) for name, path in named],
        metrics=metrics,
        missing=missing,
        resampling=Resampling(ci, resamples, seed),
    )
    session.warn(found.warnings, form)
    seconds = time.perf_counter() - clock
    env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            return to_json(report.ranking_document(found, env))
        if wanted == "csv":
            return report.ranking_csv(found)
        if wanted == "latex":
            return ranking_latex(found, shown)
        return report.ranking_markdown(found) if wanted == "md" else report.ranking_text(found, color=color)

    deliver(render, form, outputs, session, PAPER_SUFFIXES)
    return ExitCode.OK


def name_of(text: str) -> tuple[str, str]:
    """Return name and path of `NAME=RUN` or `RUN`; a file with an equals sign in its name is a file."""
    name, equals, path = text.partition("=")
    if equals and name and path and not Path(text).exists():
        return name, path
    return ("stdin" if text == "-" else Path(text).stem), text


def _check_names(names: list[str]) -> None:
    if len(names) < 2:
        raise UsageError("one run has no rank.", hint="segcli rank A.json B.json C.json", code="rank.runs")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two runs are called {name}.", hint=f"{name}1=RUN.json {name}2=RUN.json", code="rank.names"
            )
