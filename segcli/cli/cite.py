"""segcli cite: what does a methods section have to say of this run?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segcli.cli import options as opt
from segcli.cli.session import check_outputs, deliver
from segcli.errors import ExitCode

CITATION_SUFFIXES = {".json": "json", ".txt": "text", ".bib": "bibtex"}


def cite(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run file, or - for stdin.")],
    form: Annotated[
        Literal["text", "bibtex", "json"],
        typer.Option("-f", "--format", help="Format of stdout.", rich_help_panel=opt.RESULT),
    ] = "text",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write FILE (.json .txt .bib); repeatable.",
            rich_help_panel=opt.RESULT,
        ),
    ] = None,
) -> ExitCode:
    """Say how a run was made, ready for a paper: measures, definitions, options, intervals; and their works.

    Entries have what is on record of a work: authors, year and identifier. No title is made up.
    """
    outputs = output or []
    check_outputs(outputs, [run], CITATION_SUFFIXES)

    from segcli.report import citation as report
    from segcli.run.cite import cite as facts_of
    from segcli.run.json_text import to_json
    from segcli.run.reading import load_run

    found = facts_of(load_run(run))

    def render(wanted: str, color: bool = False) -> str:  # noqa: ARG001 (one signature for all)
        if wanted == "json":
            return to_json(report.citation_document(found))
        return report.citation_bibtex(found) if wanted == "bibtex" else report.citation_text(found)

    deliver(render, form, outputs, ctx.obj, CITATION_SUFFIXES)
    return ExitCode.OK
