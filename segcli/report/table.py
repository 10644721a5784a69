"""A table of texts, as a plain table, a terminal's or Markdown. Cells are literal, never markup."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unicodedata import category

from segcli.measure.record import Measure

DASH = "–"


@dataclass(slots=True)
class Table:
    """Rows of texts under headers. The columns in `left` are left-aligned; `emphasis` rows are bold."""

    headers: list[str]
    rows: list[list[str]] = field(default_factory=list)
    left: frozenset[int] = frozenset({0})
    emphasis: set[int] = field(default_factory=set)

    def text(self, *, color: bool = False) -> str:
        """Return the table at its natural width; nothing is wrapped or cut."""
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=None, pad_edge=True, padding=(0, 1), header_style="bold" if color else "")
        for index, header in enumerate(self.headers):
            side = "left" if index in self.left else "right"
            table.add_column(Text(flat(header), style="dim" if color else ""), justify=side, no_wrap=True)  # type: ignore[arg-type]
        for number, row in enumerate(self.rows):
            style = "bold" if color and number in self.emphasis else ""
            cells = [Text(flat(cell), style="dim" if color and cell == DASH else style) for cell in row]
            table.add_row(*cells)
        stream = io.StringIO()
        # As wide as it takes: rich wraps and cuts at the width of the console.
        width = sum(max(len(r[i]) for r in [self.headers, *self.rows]) * 2 + 4 for i in range(len(self.headers)))
        console = Console(
            file=stream,
            width=max(width, 20),
            force_terminal=color,
            no_color=not color,
            color_system="standard" if color else None,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )
        console.print(table, end="")
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def markdown(self) -> str:
        """Return a GitHub table; pipes and markup in cells are escaped."""
        marks = [":---" if i in self.left else "---:" for i in range(len(self.headers))]
        lines = [self.headers, marks, *self.rows]
        return "\n".join(
            "| " + " | ".join(cell if n == 1 else escape_markdown(cell) for cell in row) + " |"
            for n, row in enumerate(lines)
        )


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: As many marks over one letter as any script needs; more of them paint over the lines above and below.
_MARKS = 4


def flat(text: str) -> str:
    """Return a text on one line in which no name can draw.

    Control characters are a space, characters that are not seen but turn the direction of the others or hide
    between them are written out, and of many marks on one letter the rest is left out.
    """
    text = _CONTROL.sub(" ", text)
    return text if text.isascii() else "".join(_drawn(text))


def _drawn(text: str) -> Iterator[str]:
    marks = 0
    for letter in text:
        kind = category(letter)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if kind == "Cf" or letter in _BLANK:
            yield f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
        elif marks <= _MARKS:
            yield letter
        elif marks == _MARKS + 1:
            yield "…"


#: Letters without a shape: fillers and joiners that are no format characters by name.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


def escape_markdown(text: str) -> str:
    """Return `text` so that Markdown shows it literally, on one line."""
    shown = re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(flat(text).split()))
    # What would begin a list.
    return re.sub(r"^(?:([-+])|(\d+)([.)]))(?= |$)", lambda m: f"{m[2] or ''}\\{m[1] or m[3]}", shown)


# --- numbers ------------------------------------------------------------------------------------


def number(value: float | None, measure: Measure | None = None) -> str:
    """Return a value as tables show it: 3 or 4 significant digits, `–` where it is undefined."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= 1e15:  # what some tools give in place of infinity
        return f"{value:.3g}"
    if measure is not None and measure.kind == "metric":
        if measure.better == "zero" and not measure.unit:
            return f"{value:+.1%}" if abs(value) < 10 else f"{value:+.0%}"
        if measure.better == "none" and not measure.unit and measure.range[1] > 1:
            return grouped(value)
        if measure.range[0] >= -1 and measure.range[1] <= 1:
            return share(value)
    return significant(value)


def share(value: float) -> str:
    """Return a value of [-1, 1] with three decimals, and with more where three would make it look perfect."""
    for decimals in (3, 4, 5, 6):
        text = f"{value:.{decimals}f}"
        if abs(float(text)) < 1 or abs(value) == 1:
            break
    return "0.000" if text == "-0.000" else text


def significant(value: float) -> str:
    size = abs(value)
    if size < 1e-15:  # what rounding leaves of 0
        return "0"
    if size >= 1000:
        return grouped(value)
    if size >= 100:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.3g}" if size < 10 and f"{value:.3g}".count(".") == 0 else f"{value:#.3g}".rstrip(".")
    if size >= 0.01:
        return f"{value:.4f}" if size < 0.1 else f"{value:.3f}"
    return f"{value:.3g}"


def grouped(value: float) -> str:
    """Return a count with its thousands apart: 1 482 113."""
    return f"{value:,.0f}".replace(",", " ")


def percent(part: float | None) -> str:
    return DASH if part is None else f"{part:.0%}"


def shape_text(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)


def geometry_text(geometry: str) -> str:
    """Return how two grids lie, in the words of a heading."""
    word, colon, rest = geometry.partition(": ")
    return f"geometry ignored: {rest}" if colon else f"geometry {word}" if word == "ok" else f"geometry: {word}"


def grid_text(shape: Sequence[int], spacing: Sequence[float], unit: str, geometry: str) -> str:
    """Return the grid of a pair for a heading; that its headers were overruled is said, what is usual is not."""
    overruled = f" · {geometry_text(geometry)}" if geometry not in ("ok", "shapes only") else ""
    return f"{shape_text(shape)} · {spacing_text(spacing, unit)}{overruled}"


def spacing_text(spacing: Sequence[float], unit: str) -> str:
    if unit == "voxel":
        return "spacing unknown, distances in voxels"
    return "x".join(f"{s:.3g}" if s < 0.01 else f"{s:.2f}" for s in spacing) + f" {unit}"
