"""segcli describe: what is in this file, and are two of them comparable?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, deliver
from segcli.errors import ExitCode, InputError


@opt.reads_masks("kind", "from_logits", "prob_scale", "round", "colors", "max_voxels", "threshold")
def describe(
    ctx: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="One mask or several; several are held against the first.")
    ],
    form: Annotated[Literal["table", "json"], typer.Option("-f", "--format", help="Format of stdout.")] = "table",
    *,
    reading: dict[str, Any],
) -> ExitCode:
    """Say what masks hold: shape, type, spacing, orientation, labels, and whether they can be compared."""
    from segcli import loading
    from segcli.masks import geometry
    from segcli.report import description as report
    from segcli.runs.document import to_json

    session: Session = ctx.obj
    how = loading.reading_of(**reading)
    masks = [loading.read_side(path, "pred", how, sha256=True) for path in files]
    found: list[dict[str, Any]] = []
    for mask in masks:
        record = report.record(mask, how.threshold)
        if mask is not masks[0]:
            try:
                differences = [d.text for d in geometry.compare(mask, masks[0])]
            except InputError as problem:
                differences = [problem.message]
            record["same_grid_as_first"] = not differences
            record["differences"] = differences
        found.append(record)

    def render(wanted: str, *, color: bool = False) -> str:  # noqa: ARG001 (a description has no colour)
        if wanted == "json":
            return to_json({"schema": "segcli.describe/1", "files": found})
        return "\n\n".join(report.text(record) for record in found)

    deliver(render, form, [], session)
    return ExitCode.OK
