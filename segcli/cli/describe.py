"""segcli describe: what is in this file, and are two of them comparable?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import Session, deliver
from segcli.errors import ExitCode, InputError
from segcli.report.table import flat
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.masks.mask import Mask


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
    """Say what masks hold: shape, type, spacing, orientation, labels, and whether they can be compared.

    A file that cannot be used is described as far as it can be read, with what is wrong; the exit code is then 3.
    """
    from segcli.masks import asked, geometry
    from segcli.report import description as report
    from segcli.run.json_text import to_json
    from segcli.scoring import loading

    session: Session = ctx.obj
    how = asked.reading_of(**reading)
    found: list[dict[str, Any]] = []
    first: Mask | None = None
    for path in files:
        try:
            mask = loading.read_side(path, "pred", how, sha256=True)
        except InputError as problem:
            found.append(report.broken(path, problem, colors=how.colors, max_voxels=how.max_voxels))
            continue
        record = report.record(mask, how.threshold, loading.label_names(how))
        if first is not None:
            try:
                differences = [d.text for d in geometry.compare(mask, first)]
            except InputError as problem:
                differences = [problem.message]
            record["same_grid_as_first"] = not differences
            record["differences"] = differences
        first = first or mask
        found.append(record)

    def render(wanted: str, *, color: bool = False) -> str:  # noqa: ARG001 (a description has no colour)
        if wanted == "json":
            return to_json({"schema": "segcli.describe/1", "files": found})
        return "\n\n".join(report.text(record) for record in found)

    deliver(render, form, [], session)
    bad = [record["path"] for record in found if "error" in record]
    if bad:
        names = ", ".join(bad[:3]) + f" and {len(bad) - 3} more" * (len(bad) > 3)
        print(flat(f"error: {len(bad)} of {counted(len(files), 'file')} cannot be used: {names}"),
              file=sys.stderr)  # fmt: skip
    return ExitCode.INPUT if bad else ExitCode.OK
