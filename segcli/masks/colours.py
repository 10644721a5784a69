"""Colours that stand for labels: `--colors` packed, voc or a CSV file, and what becomes of an image by them.

A table is read without NumPy, so that a mistake in it is told before any image is opened.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from segcli.errors import InputError
from segcli.masks.mask import Note
from segcli.masks.source import refuse, shown, size_text
from segcli.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HINT = "--colors FILE.csv (label,r,g,b,name), voc or packed (R + 256 G + 65536 B)"
_MOST_CSV = 1 << 20
_RGB = (("r", "red"), ("g", "green"), ("b", "blue"))
_HEX = ("hex", "color", "colour", "hexcolor", "hexcolour", "rgb")
#: Columns that hold the label, the likeliest first, and those that hold its name.
_LABELS = ("label", "labelid", "value", "id", "index", "classid", "class", "trainid", "category")
_NAMES = ("name", "labelname", "classname", "class", "label", "category", "structure")


@dataclass(frozen=True, slots=True)
class Colours:
    """What a table says: the label of each colour (R << 16 | G << 8 | B), and the names that labels have."""

    labels: Mapping[int, int]
    names: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def colours(given: str) -> Colours | None:
    """Return the table that `--colors` names; `None` for `packed`, which needs none.

    Raises `InputError` for a file that is no table of colours.
    """
    if given == "packed":
        return None
    if given == "voc":
        return _voc()
    try:
        status = os.stat(given)  # noqa: PTH116 (a name of any kind)
    except (OSError, ValueError) as problem:
        _refuse_table(given, getattr(problem, "strerror", None) or "no possible file name", "read")
    return _read_csv(given, status.st_mtime_ns, status.st_size, status.st_ino)


def decode(name: str, array: NDArray[np.uint8], given: str) -> NDArray[Any]:
    """Return the labels of an image of colours (..., 3); raise `InputError` for a colour that the table lacks."""
    import numpy as np

    wide = array.astype(np.int32)
    table = colours(given)
    if table is None:
        return np.asarray(wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2])
    return _looked_up(name, wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], table, given)


def decode_palette(name: str, indices: NDArray[np.uint8], palette: bytes, given: str) -> NDArray[Any]:
    """Return the labels of a palette image: the colour that an index shows counts, the index itself says nothing."""
    import numpy as np

    entries = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if int(indices.max()) >= len(entries):
        text = f"index {int(indices.max())} is beyond its palette of {len(entries)} colours"
        refuse(name, text, "write the image again", "read.corrupt")
    return decode(name, entries[indices], given)


def decode_grey(name: str, array: NDArray[np.uint8], given: str) -> tuple[NDArray[Any], list[Note]]:
    """Return the labels of a grey image under `--colors`, and what has to be said.

    Grey levels are labels, unless every one of them is a grey of the table: then the image is a drawing in these
    colours that lost two equal channels.
    """
    import numpy as np

    table = colours(given)
    levels = [int(v) for v in np.unique(array)]
    if table is not None:
        meant = {v: table.labels.get(v << 16 | v << 8 | v) for v in levels}
        if None not in meant.values() and any(meant[v] != v for v in levels):
            text = f"{shown(name)}: its grey levels are colours of --colors {shown(given)}, and are read as those"
            grey = np.repeat(array[..., None], 3, axis=-1)
            return decode(name, grey, given), [Note(text, "warning", "colors.grey")]
    text = f"{shown(name)}: a grey image: its values are the labels; --colors is not used"
    return array, [Note(text, code="colors.unused")]


def _looked_up(name: str, code: NDArray[np.int32], table: Colours, given: str) -> NDArray[Any]:
    import numpy as np

    from segcli.masks.arrays import smallest_integer

    known = np.array(sorted(table.labels), np.int32)
    labels = np.array([table.labels[int(c)] for c in known], np.int64)
    place = np.minimum(np.searchsorted(known, code), known.size - 1)
    unknown = known[place] != code
    if unknown.any():
        codes, counts = np.unique(code[unknown], return_counts=True)
        most = int(codes[np.argmax(counts)])
        rgb = (most >> 16, most >> 8 & 255, most & 255)
        more = f" and {counted(codes.size - 1, 'more colour')}" if codes.size > 1 else ""
        pixels = counted(int(counts.max()), "pixel")
        text = f"colour rgb{rgb} ({pixels}){more} not in --colors {shown(given)}"
        refuse(name, text, "add it to the table; smooth edges mean the image was resized or JPEG", "read.color")
    return np.asarray(labels.astype(smallest_integer(int(labels.min()), int(labels.max())))[place])


def _voc() -> Colours:
    """Return the Pascal VOC colormap: the bits of a label, dealt to R, G and B from the top."""
    table = {}
    for label in range(256):
        rgb = [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        table[rgb[0] << 16 | rgb[1] << 8 | rgb[2]] = label
    return Colours(table)


# --- tables ---------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _read_csv(path: str, *_state: int) -> Colours:
    """Read a table of colours; `_state` is what tells two versions of a file apart."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read(_MOST_CSV + 1)
    except (OSError, ValueError) as error:
        _refuse_table(path, getattr(error, "strerror", None) or "not a text file in UTF-8", "read")
    if len(text) > _MOST_CSV:
        _refuse_table(path, f"larger than {size_text(_MOST_CSV)}", "read")
    try:
        read = csv.reader(text.splitlines(), delimiter=_delimiter(text), skipinitialspace=True)
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(read, 1)]
    except csv.Error as error:
        _refuse_table(path, f"not a CSV file ({shown(str(error))})", "read")
    rows = [(number, row) for number, row in rows if any(row) and not _is_comment(row)]
    if not rows:
        _refuse_table(path, "no colours in it", "line")
    header = [re.sub(r"[\s_.-]", "", cell.lower()) for cell in rows[0][1]]
    named = any(cell in _HEX for cell in header) or all(any(c in words for c in header) for words in _RGB)
    if named and not _is_number(rows[0][1][0]):
        return _by_header(path, header, rows[1:])
    return _by_place(path, rows)


def _is_comment(row: Sequence[str]) -> bool:
    """Tell whether a line begins with `#` that is not that of a colour in hexadecimal digits."""
    return row[0].startswith("#") and _hex_code(row[0]) is None


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return max(",;\t", key=first.count)


def _by_header(path: str, header: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> Colours:
    """Read a table whose columns say what they hold, in any order; without one for labels its rows are counted."""
    if not rows:
        _refuse_table(path, "no colours in it", "line")
    narrow = next(((number, row) for number, row in rows if len(row) < len(header)), None)
    if narrow is not None:
        _refuse_line(path, *narrow, f"{len(header)} cells, as the header has")
    columns = {i: [row[i] for _, row in rows] for i in range(len(header))}
    whole = {i for i, cells in columns.items() if all(_is_number(cell) for cell in cells)}
    at = {word: i for i, word in reversed(list(enumerate(header)))}
    rgb = [next((at[w] for w in words if w in at), None) for words in _RGB]
    label = next((at[w] for w in _LABELS if w in at and at[w] in whole), None)
    name = next((at[w] for w in _NAMES if w in at and at[w] not in whole), None)
    table: dict[int, int] = {}
    names: dict[int, str] = {}
    for count, (number, row) in enumerate(rows):
        if None in rgb:
            code = next((c for w in _HEX if w in at and (c := _hex_code(row[at[w]])) is not None), None)
        else:
            code = _code([row[i] for i in rgb if i is not None])
        if code is None:
            _refuse_line(path, number, row, "a colour with r, g, b in 0..255")
        value = count if label is None else int(row[label])
        _add(path, number, table, code, value)
        if name is not None and row[name]:
            names.setdefault(value, row[name])
    counted = f"--colors {shown(path)}: no column of labels; its {len(rows)} rows are labels from 0 on"
    notes = () if label is not None else (Note(counted, code="colors.counted"),)
    return Colours(table, _checked(path, names), notes)


def _by_place(path: str, rows: Sequence[tuple[int, list[str]]]) -> Colours:
    """Read label,r,g,b[,name] lines; a first line without numbers is a header."""
    table: dict[int, int] = {}
    names: dict[int, str] = {}
    for count, (number, row) in enumerate(rows):
        code = _code(row[1:4]) if len(row) in {4, 5} and _is_number(row[0]) else None
        if code is None:
            if count == 0 and not any(_is_number(cell) for cell in row[:4]):
                continue
            _refuse_line(path, number, row, "label,r,g,b[,name] with r, g, b in 0..255")
        _add(path, number, table, code, int(row[0]))
        if len(row) == 5 and row[4]:
            names.setdefault(int(row[0]), row[4])
    if not table:
        _refuse_table(path, "no colours in it", "line")
    return Colours(table, _checked(path, names))


def _add(path: str, number: int, table: dict[int, int], code: int, label: int) -> None:
    if table.setdefault(code, label) != label:
        rgb = (code >> 16, code >> 8 & 255, code & 255)
        _refuse_table(path, f"line {number} gives rgb{rgb} a second label, {label}", "line")


def _checked(path: str, names: dict[int, str]) -> dict[int, str]:
    from segcli.masks.labels import RESERVED

    for value, name in names.items():
        other = next(v for v, n in names.items() if n == name)
        if other != value:
            _refuse_table(path, f"labels {other} and {value} have one name, {shown(name)}", "line")
        if name in RESERVED:
            _refuse_table(path, f"{name!r} is the name of a row of the output", "line")
    return names


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d{1,10}", cell) is not None and abs(int(cell)) < 2**31


def _code(cells: Sequence[str]) -> int | None:
    if not all(_is_number(cell) and 0 <= int(cell) <= 255 for cell in cells):
        return None
    red, green, blue = map(int, cells)
    return red << 16 | green << 8 | blue


def _hex_code(cell: str) -> int | None:
    found = re.fullmatch(r"#?([0-9A-Fa-f]{6})", cell)
    return None if found is None else int(found[1], 16)


def _refuse_line(path: str, number: int, row: Sequence[str], wanted: str) -> NoReturn:
    _refuse_table(path, f"line {number} ({shown(','.join(row))[:60]}) is not {wanted}", "line")


def _refuse_table(path: str, text: str, word: str) -> NoReturn:
    hint = f"one colour a line, as in 1,255,0,0,liver; or {HINT}"
    raise InputError(f"--colors {shown(path)}: {text}.", hint=hint, code=f"colors.{word}") from None
