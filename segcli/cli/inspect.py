"""segcli inspect: why has this loss this value?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, deliver
from segcli.errors import ExitCode, UsageError
from segcli.masks.files import MAP_SUFFIXES
from segcli.report.table import flat
from segcli.writing import write_whole


@opt.reads_masks()
def inspect(
    ctx: typer.Context,
    pred: Annotated[str, typer.Argument(metavar="PRED", help="Prediction: probabilities, logits or a mask.")],
    gt: Annotated[str, typer.Argument(metavar="GT", help="Ground truth on the same grid.")],
    loss: Annotated[str, typer.Option("-l", "--loss", metavar="LOSS", help="One loss, for example tversky:fp=0.1.")],
    by: Annotated[str, typer.Option(metavar="LIST", help="Divisions: kind, label, component, band, slice.")] = "",
    map_: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help=f"Write contributions: {' '.join(MAP_SUFFIXES)}.")
    ] = None,
    gradient: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write dL/dp (of logits too) in the same formats, in the shape of PRED."),
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the worst slice with both outlines.")] = None,
    background: opt.Background = True,
    average: opt.Average = "macro",
    strict: opt.Strict = False,
    form: Annotated[
        Literal["table", "json", "csv"], typer.Option("-f", "--format", help="Format of stdout.")
    ] = "table",
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Take a loss apart: which voxels, components, distances to the boundary and slices make its value.

    The parts of each division add up to the loss; shares are of its excess over its value at pred = gt. Components
    are connected regions of the ground truth (missed or not) and of the prediction (false or not). Where
    other losses weigh a component or band quite differently, a sentence says so.
    """
    from segcli.explain.inspection import inspect as take_apart
    from segcli.masks.map_colours import png_bytes
    from segcli.masks.mask import Note
    from segcli.masks.writing import check_map_path, write_map
    from segcli.report import inspection as report
    from segcli.run.document import environment
    from segcli.run.json_text import to_json

    session: Session = ctx.obj
    started, clock = datetime.now(UTC), time.perf_counter()
    outputs = [path for path in (map_, gradient, png) if path is not None]
    for option, path in (("--map", map_), ("--gradient", gradient), ("--png", png)):
        if path is not None:
            check_map_path(path, option, [pred, gt, *opt.files_of(reading)])
    if png is not None and png.suffix.lower() != ".png":
        raise UsageError(f"--png {png}: a picture has the suffix .png.", code="output.suffix")
    with session.working("inspecting"):
        found = take_apart(pred, gt, loss, by=by, background=background, average=average, strict=strict, **reading)
        session.say(found.loaded.notes, form)
        if form == "csv":  # the other formats have them inside
            session.say([Note(text, code="loss.remark") for text in report.remarks(found)])
        spacing, affine = found.loaded.case.spacing, found.loaded.grid.affine
        if map_ is not None:
            write_map(map_, found.map, spacing, affine)
        if gradient is not None:
            if found.gradient is None:
                raise UsageError(f"{found.loss} has no closed-form gradient.", code="inspect.gradient")
            write_map(gradient, found.gradient, spacing, affine, found.channel_axis)
        if png is not None:
            from segcli.report.picture import draw

            write_whole(png, png_bytes(draw(found)), "--png")
    seconds = time.perf_counter() - clock
    env = environment(started=started.isoformat(timespec="seconds"), seconds=seconds, argv=sys.argv[1:])

    def render(wanted: str, *, color: bool = False) -> str:
        if wanted == "json":
            return to_json(report.document(found, env))
        return report.csv_text(found) if wanted == "csv" else report.text(found, color=color)

    deliver(render, form, [], session)
    for path in outputs:
        if not session.quiet:
            print(flat(f"wrote {path}"), file=sys.stderr)
    return ExitCode.OK
