"""The options that commands share, each named and described once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segcli.errors import UsageError
from segcli.kernels import surfaces

MASKS, RESULT = "What the voxels mean", "Result"

Metrics = Annotated[
    str,
    typer.Option("-m", "--metrics", metavar="LIST", help="Metrics or presets: default, overlap, volume, surface, all."),
]
Losses = Annotated[
    str, typer.Option("-l", "--losses", metavar="LIST", help="Losses, for example dice,tversky:fp=0.1:fn=0.9.")
]
Surface = Annotated[
    surfaces.Surface | None,
    typer.Option(help="Surface definition of every measure that has one and did not name it.", show_default="surfel"),
]
Empty = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        show_default="undefined",
        help="What metrics are where a mask is empty: undefined, perfect-if-both-empty, worst, zero, or as a tool "
        "has it (monai, medpy, ...).",
    ),
]
Convention = Annotated[
    str | None,
    typer.Option(
        metavar="TOOL",
        help="Compute metrics and losses as a tool does: monai, medpy, surface-distance, simpleitk, keras, ...",
    ),
]
Background = Annotated[
    bool,
    typer.Option(
        "--background/--no-background", help="Whether losses of several channels average over the background too."
    ),
]
Average = Annotated[
    Literal["macro", "micro", "weighted", "present"],
    typer.Option(
        help="How labels become one mean: macro counts each the same, micro pools their voxels first, "
        "weighted goes by their size in gt, present leaves out those that gt lacks."
    ),
]
MeanOf = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Labels and regions that the mean row is of: liver,tumour.",
        show_default="all labels; where only regions are named, those",
    ),
]
BatchDice = Annotated[
    bool,
    typer.Option("--batch-dice", help="With --stack: sum losses over all images before their formula is applied."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Make every warning an error (exit 3).")]
Format = Annotated[
    Literal["table", "json", "csv", "md"],
    typer.Option("-f", "--format", help="Format of stdout.", rich_help_panel=RESULT),
]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Also write FILE (.json .csv .md .txt); repeatable.",
        rich_help_panel=RESULT,
    ),
]


PaperFormat = Annotated[
    Literal["table", "json", "csv", "md", "latex"],
    typer.Option("-f", "--format", help="Format of stdout.", rich_help_panel=RESULT),
]
PaperOutput = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Also write FILE (.json .csv .md .txt .tex); repeatable.",
        rich_help_panel=RESULT,
    ),
]
Cell = Annotated[
    Literal["sd", "iqr"] | None,
    typer.Option(
        "--cell",
        help="In LaTeX: mean and standard deviation, or median and interquartile range.",
        show_default="sd",
        rich_help_panel=RESULT,
    ),
]
RunMetrics = Annotated[
    str,
    typer.Option(
        "-m",
        "--metrics",
        metavar="LIST",
        help="Only these measures of the runs: dice, hd95, loss.bce, a preset.",
        show_default="all",
    ),
]
Level = Annotated[float, typer.Option("--ci", min=0.5, max=0.999, help="Level of the intervals and tests.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")]


def latex_cell(cell: Literal["sd", "iqr"] | None, form: str, outputs: Sequence[Path]) -> Literal["sd", "iqr"]:
    """Return what a cell of a LaTeX table shows; refuse the choice where no LaTeX is asked for."""
    if cell is not None and form != "latex" and not any(path.suffix.lower() == ".tex" for path in outputs):
        raise UsageError(f"--cell {cell} is of -f latex and .tex files.", code="output.cell")
    return cell or "sd"


def one_stdin(paths: Sequence[str]) -> None:
    """Refuse stdin as two runs."""
    if list(paths).count("-") > 1:
        raise UsageError("only one run can come from stdin.", code="run.stdin")


def _masks(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=MASKS, **settings)


#: Options of all commands that read masks: name, annotation, default. They arrive as `reading`.
READING: list[tuple[str, Any, Any]] = [
    (
        "labels",
        Annotated[
            str | None,
            _masks(
                metavar="LIST|FILE", help="liver=1,tumour=2,whole=1+2,fg=any; or dataset.json, TOML, CSV, ITK-SNAP."
            ),
        ],
        None,
    ),
    (
        "ignore_label",
        Annotated[
            str | None,
            _masks(metavar="LIST", help="Leave out voxels with these values in the gt: 255, or 255,3, or 250..255."),
        ],
        None,
    ),
    (
        "ignore_in",
        Annotated[
            Literal["gt", "either"],
            _masks(help="Where such a value is void: in the gt, or in either file (a prediction then gains by it)."),
        ],
        "gt",
    ),
    (
        "roi",
        Annotated[
            Path | None,
            _masks(metavar="FILE|DIR", help="Only voxels that are not 0 in this mask count; of evaluate a folder."),
        ],
        None,
    ),
    (
        "kind",
        Annotated[Literal["labels", "probability", "logits"] | None, _masks(help="What the prediction holds.")],
        None,
    ),
    ("threshold", Annotated[float, _masks(help="Foreground is p > threshold.")], 0.5),
    (
        "from_logits",
        Annotated[bool, _masks("--from-logits", help="The prediction holds logits (sigmoid or softmax).")],
        False,
    ),
    (
        "prob_scale",
        Annotated[
            float | None, _masks(metavar="S", help="Divide the prediction by S: 255 for an 8-bit probability map.")
        ],
        None,
    ),
    (
        "round",
        Annotated[
            bool,
            _masks("--round", help="Round label maps off by resampling noise (at most 0.25) to whole numbers."),
        ],
        False,
    ),
    (
        "channel_axis",
        Annotated[
            int | None,
            _masks(
                metavar="AXIS", help="Axis with one channel per label.", show_default="first for NPY, last for NIfTI"
            ),
        ],
        None,
    ),
    (
        "channels",
        Annotated[
            str | None,
            _masks(
                metavar="NAME,NAME,...",
                help="What each channel holds, where labels overlap: WT,TC,ET; each is cut by itself.",
            ),
        ],
        None,
    ),
    ("normalize", Annotated[bool, _masks("--normalize", help="Divide channels by their sum.")], False),
    (
        "axes",
        Annotated[
            str | None,
            _masks(
                metavar="zyx|czyx|...",
                help="Order in which an array file (NPY, NPZ) stores its axes, c the channels, against a NIfTI or "
                "an image.",
            ),
        ],
        None,
    ),
    ("stack", Annotated[bool, _masks("--stack", help="The first axis holds cases.")], False),
    (
        "stack_axis",
        Annotated[
            str | None,
            _masks(metavar="N|first|last", help="This axis holds cases (time in a 4-D NIfTI: last); implies --stack."),
        ],
        None,
    ),
    ("squeeze", Annotated[bool, _masks("--squeeze", help="Drop axes of length 1.")], False),
    (
        "colors",
        Annotated[
            str | None,
            _masks(metavar="FILE.csv|voc|packed", help="Read colours as labels; packed is R + 256 G + 65536 B."),
        ],
        None,
    ),
    (
        "spacing",
        Annotated[str | None, _masks(metavar="S,S,S", help="mm per voxel in array axis order, instead of the file's.")],
        None,
    ),
    (
        "soft_gt",
        Annotated[bool, _masks("--soft-gt", help="Accept probabilities as ground truth (metrics threshold them).")],
        False,
    ),
    (
        "on_geometry",
        Annotated[
            Literal["error", "reorient", "ignore"],
            _masks(help="What to do where the grids differ; nothing is resampled."),
        ],
        "error",
    ),
    (
        "max_voxels",
        Annotated[
            int | None, _masks(metavar="N", min=1, help="Refuse larger arrays.", show_default="what memory holds")
        ],
        None,
    ),
]


def files_of(reading: Mapping[str, Any]) -> list[str | None]:
    """Return the files that options of `READING` may name: none of them is an output."""
    return [None if reading[name] is None else str(reading[name]) for name in ("labels", "colors", "roi")]


def reads_masks(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command options of `READING`, all of them without names; it receives them as the dict `reading`."""
    chosen = [option for option in READING if not names or option[0] in names]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(command, include_extras=True)
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "reading"]
        parameters = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        parameters += [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, a, d in chosen
        ]

        @functools.wraps(command)
        def with_reading(**given: Any) -> Any:
            reading = {name: given.pop(name) for name, _, _ in chosen}
            return command(**given, reading=reading)

        with_reading.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_reading.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_reading

    return decorate
