"""Results as CSV: texts that came from outside neither draw on a terminal nor run in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from segcli.report.table import flat

#: What a spreadsheet takes for the beginning of a formula, also in full width.
FORMULA = tuple("=+-@＝＋－＠")


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, the header the first of them; a cell is a number or a text, and a number stays what it is."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return stream.getvalue()


def harmless(text: str) -> str:
    """Return a text on one line, with an apostrophe before what a spreadsheet would run."""
    shown = flat(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
