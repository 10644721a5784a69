"""segcli schema: the JSON Schemas of what segcli writes."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal

import typer

from segcli.errors import ExitCode


def schema(
    name: Annotated[
        Literal["run", "compare", "inspect", "gate", "diff", "rank", "cite", "conventions", "describe"],
        typer.Argument(
            metavar="run|compare|inspect|gate|diff|rank|cite|conventions|describe",
            help="run: what score and evaluate write; the others: the command's JSON.",
        ),
    ],
) -> ExitCode:
    """Print the JSON Schema of a result file."""
    print(files("segcli").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8"), end="")
    return ExitCode.OK
