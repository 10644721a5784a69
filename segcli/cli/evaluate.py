"""segcli evaluate: how good is the model over the cohort, and which cases are worst?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segcli.cli import options as opt
from segcli.errors import ExitCode

COHORT, ENGINE = "Which files", "How it runs"


@opt.reads_masks()
def evaluate(
    ctx: typer.Context,
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[PRED_DIR GT_DIR]", help="Folders of predictions and ground truths.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV with case,pred,gt,[roi]; more columns are groups.", rich_help_panel=COHORT
        ),
    ] = None,
    match: Annotated[
        str, typer.Option(metavar="HOW", help="stem, relpath, bids or regex:PATTERN.", rich_help_panel=COHORT)
    ] = "stem",
    glob: Annotated[str, typer.Option(metavar="G", help="Take these files only.", rich_help_panel=COHORT)] = "**/*",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the pairs and what has no partner.", rich_help_panel=COHORT)
    ] = False,
    missing: Annotated[
        Literal["fail", "worst", "skip"],
        typer.Option(help="A gt without prediction: exit 4, the worst values, or left out.", rich_help_panel=COHORT),
    ] = "fail",
    metrics: opt.Metrics = "default",
    losses: opt.Losses = "",
    surface: opt.Surface = None,
    convention: opt.Convention = None,
    empty: opt.Empty = None,
    background: opt.Background = True,
    average: opt.Average = "macro",
    mean_of: opt.MeanOf = None,
    worst: Annotated[int, typer.Option(min=0, help="Name so many of the worst cases.")] = 5,
    ci: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Summarise each value of a column too.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "-j", "--jobs", min=0, help="Worker processes; 0 = one for each processor.", rich_help_panel=ENGINE
        ),
    ] = 0,
    engine: Annotated[
        Literal["process", "dask"],
        typer.Option(help="Worker processes here, or a Dask cluster.", rich_help_panel=ENGINE),
    ] = "process",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler: tcp://host:8786.", rich_help_panel=ENGINE)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.", rich_help_panel=ENGINE)
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="As --resume, and try again what failed.", rich_help_panel=ENGINE)
    ] = False,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Score every N-th case, from the I-th.", rich_help_panel=ENGINE)
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="The arguments are shards: put them together.", rich_help_panel=ENGINE)
    ] = False,
    strict: opt.Strict = False,
    cell: opt.Cell = None,
    form: opt.PaperFormat = "table",
    output: opt.PaperOutput = None,
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Score a folder of predictions against a folder of ground truths.

    Every case is a row, also one that fails or has no prediction (exit 4). With -o RUN.json a journal beside
    it keeps what is done: --resume goes on after a crash. Shards of a cohort are scored anywhere and merged.
    """
    from segcli.cli.cohort import Asked, answer

    given = {name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    asked = Asked(
        session=ctx.obj, given=frozenset(given), paths=folders or [], manifest=manifest, match=match, glob=glob,
        dry_run=dry_run, missing=missing, worst=worst, ci=ci, seed=seed, group_by=group_by, jobs=jobs, engine=engine,
        scheduler=scheduler, resume=resume, retry_errors=retry_errors, shard=shard, merge=merge, cell=cell, form=form,
        outputs=output or [], roi=reading.pop("roi"),
        plan={
            "metrics": metrics, "losses": losses, "surface": surface, "convention": convention,
            "empty": empty, "background": background, "average": average, "mean_of": mean_of, "strict": strict,
            **reading,
        },
    )  # fmt: skip
    return answer(asked)
