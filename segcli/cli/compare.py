"""segcli compare: how do these losses judge the same predictions, and do they agree?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, check_outputs, deliver
from segcli.errors import ExitCode, UsageError


@opt.reads_masks()
def compare(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PRED... GT]", help="Predictions and, last, the ground truth; none: the sample pair."),
    ] = None,
    losses: opt.Losses = "default",
    metrics: opt.Metrics = "",
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="SPEC", help="Add losses with one parameter moved: tversky:fn=0.3..0.9/0.1:fp=1-fn."
        ),
    ] = None,
    rank_by: Annotated[
        str,
        typer.Option(metavar="LIST", help="Metrics to hold each loss's ranking of the predictions against."),
    ] = "",
    surface: opt.Surface = None,
    empty: opt.Empty = "undefined",
    background: opt.Background = True,
    average: opt.Average = "macro",
    batch_dice: opt.BatchDice = False,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Compare what several losses say of one or several predictions.

    Each row gives the value, the value at pred = gt (optimum), the difference of the two (excess), where that
    comes from (false positives, false negatives, the boundary) and the size of the gradient: by the logits where
    these are given, as training feels it, else by the probabilities.
    With several predictions a ranking by each measure follows.
    """
    from segcli.explain.comparison import compare as run_comparison
    from segcli.measure.sweep import sweep
    from segcli.report import comparison as report
    from segcli.run.document import environment
    from segcli.scoring.score import measures_of

    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = output or []
    check_outputs(outputs, [*(files or []), *opt.files_of(reading)])
    # A typo is told before anything is read.
    measures_of("loss", losses), measures_of("metric", metrics), measures_of("metric", rank_by)
    for text in sweeps or []:
        sweep(text)
    if files and len(files) < 2:
        raise UsageError(
            f"{files[0]} alone: a ground truth is missing.", hint="segcli compare PRED... GT", code="compare.files"
        )
    if not files:
        from segcli.masks.samples import sample_pair

        files = sample_pair()
        if not session.quiet:
            print("no files given: the sample pair that ships with segcli", file=sys.stderr)
    with session.working("comparing"):
        comparison = run_comparison(
            files[:-1],
            files[-1],
            losses=losses,
            metrics=metrics,
            sweeps=sweeps or [],
            rank_by=rank_by,
            surface=surface,
            empty=empty or "undefined",
            background=background,
            average=average,
            batch_dice=batch_dice,
            strict=strict,
            **reading,
        )
    session.say(comparison.notes, form)
    seconds = time.perf_counter() - clock
    env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    def render(wanted: str, color: bool = False) -> str:
        return report.render(comparison, wanted, env, color=color)

    deliver(render, form, outputs, session)
    return ExitCode.OK
