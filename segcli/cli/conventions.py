"""segcli conventions: what would other tools print for this pair, and why?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError


@opt.reads_masks()
def conventions(
    ctx: typer.Context,
    pred: Annotated[str, typer.Argument(metavar="[PRED", help="Predicted mask or probabilities.")] = "",
    gt: Annotated[str, typer.Argument(metavar="GT]", help="Ground truth on the same grid.")] = "",
    metrics: Annotated[
        str, typer.Option("-m", "--metrics", metavar="LIST", help="Quantities: default, all, or hd95,nsd:tol=1.")
    ] = "default",
    losses: opt.Losses = "",
    surface: Annotated[
        str | None, typer.Option(help="Surface of segcli's own numbers, where a quantity did not name it.")
    ] = None,
    convention: Annotated[str | None, typer.Option(metavar="TOOL", help="Show this tool or library only.")] = None,
    run: Annotated[
        Path | None,
        typer.Option("--empty", metavar="RUN.json", help="Means of a run under each tool's rule for empty masks."),
    ] = None,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Show what other tools would print for a pair, the largest disagreement first, and why.

    None of the tools is needed: their rules are kept in a table that was checked with the versions named.
    With --losses, what deep learning libraries would return for a loss, its alpha and beta given by name.
    """
    from segcli.run.document import environment

    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    check_outputs(outputs, [pred, gt, str(run or ""), *opt.files_of(reading)])
    if (run is None) == (not gt):
        raise UsageError("name a prediction and a ground truth, or --empty RUN.json.", code="conventions.files")

    def env() -> dict[str, Any]:
        seconds = time.perf_counter() - clock
        return environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    if run is not None:
        from segcli.report.conventions import render_means
        from segcli.run.reading import UNREAD, load_run
        from segcli.tools.means import empty_means

        means = empty_means(load_run(run, without=UNREAD))
        deliver(lambda wanted, color=False: render_means(means, wanted, env(), color=color), form, outputs, session)
        return ExitCode.OK
    from segcli.measure.notation import parse
    from segcli.report.conventions import render
    from segcli.tools.pair import conventions as compared
    from segcli.tools.pair import quantities

    how: dict[str, Any] = {"surface": surface, "convention": convention}
    quantities(metrics, **how), parse("loss", losses)  # a typo is told before anything is read
    with session.working("comparing conventions"):
        both = compared(pred, gt, metrics=metrics, losses=losses, strict=strict, **how, **reading)
    found = both if isinstance(both, list) else [both]
    session.say((note for case in found for note in case.notes), form)
    deliver(lambda wanted, color=False: render(found, wanted, env(), color=color), form, outputs, session)
    return ExitCode.OK
