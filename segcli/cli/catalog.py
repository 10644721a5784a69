"""segcli catalog: what exists, and what each measure means."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from segcli.cli.session import Session, deliver
from segcli.errors import ExitCode, UsageError


def catalog(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A measure, an alias, a full id (loss.dice) or a family.")
    ] = "",
    kind: Annotated[Literal["metric", "table", "loss"] | None, typer.Option(help="Only measures of this kind.")] = None,
    form: Annotated[Literal["table", "json", "md"], typer.Option("-f", "--format", help="Format of stdout.")] = "table",
) -> ExitCode:
    """List all measures, or show all that is known of one.

    A name that is both a metric and a loss shows both.
    """
    from segcli.measure.record import find, measures
    from segcli.report import catalog as report
    from segcli.run.json_text import to_json

    session: Session = ctx.obj
    chosen = measures(kind)
    if name and name in {m.family for m in chosen}:
        chosen = [m for m in chosen if m.family == name]
    elif name:
        found = []
        for one in ("metric", "loss"):
            if kind in (None, one) and (not name.startswith(("metric.", "loss.")) or name.startswith(one)):
                try:
                    found.append(find(name, one))
                except UsageError:
                    continue
        chosen = found or [find(name, kind)]
    cards = bool(name) and name not in {m.family for m in chosen}

    def render(wanted: str, color: bool = False) -> str:
        if wanted == "json":
            return to_json([report.record(m) for m in chosen])
        if cards:
            return "\n\n".join(report.card(m) for m in chosen)
        table = report.catalog_table(chosen)
        return table.markdown() if wanted == "md" else table.text(color=color)

    deliver(render, form, [], session)
    return ExitCode.OK
