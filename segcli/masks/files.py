"""What the names and the first bytes of files say: which format a file has, and which files make one mask.

Nothing heavy is imported here, and no file is opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.masks.formats import FORMATS
from segcli.masks.formats.foreign import JPEG_SUFFIXES, MARKS, PAGES, conversion
from segcli.masks.formats.record import ending, partner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segcli.masks.formats.record import Format, Writer

#: The format of a file that is read, by its suffix (matched without regard to case).
BY_SUFFIX: Mapping[str, Format] = {suffix: form for form in FORMATS for suffix in form.suffixes}
#: What writes a map, by the suffix of its file: formats that hold any map before those that hold planes alone.
WRITERS: Mapping[str, Writer] = {
    suffix: form.writer
    for flat in (False, True)
    for form in FORMATS
    if form.writer is not None and form.writer.flat is flat
    for suffix in form.writer.suffixes
}
MAP_SUFFIXES = tuple(WRITERS)
#: Those that hold maps of any number of axes.
WHOLE_MAP_SUFFIXES = tuple(suffix for suffix, writer in WRITERS.items() if not writer.flat)
#: `NIfTI, PNG, NPY or NPZ`.
FORMAT_NAMES = " or ".join((", ".join(form.name for form in FORMATS[:-1]), FORMATS[-1].name))
_LONGEST_FIRST = sorted(BY_SUFFIX, key=len, reverse=True)
#: What files hold, by the marks that say so together.
_MARKS = (*((form.content or form.name, (mark,)) for form in FORMATS for mark in form.marks), *MARKS)
_KEYED = tuple(f"{suffix}:" for form in FORMATS if form.keyed for suffix in form.suffixes)


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, `.nii.gz` as one; empty when there is none."""
    return ending(name, _LONGEST_FIRST)


def format_of(head: bytes, suffix: str) -> Format | None:
    """Return the format of a file by its first bytes, and by its suffix where they do not tell."""
    own = BY_SUFFIX.get(suffix)
    return next((form for form in (*(() if own is None else (own,)), *FORMATS) if form.matches(head, suffix)), None)


def sniff(head: bytes) -> str:
    """Name the format whose mark the first bytes carry; empty when there is none."""
    if head.lstrip()[:9].lower().startswith(PAGES):
        return "HTML or XML"
    return next((word for word, marks in _MARKS if all(mark.stands_in(head) for mark in marks)), "")


def how_to_convert(suffix: str) -> str:
    """Return one line that converts a file with this suffix to one that is read; empty where none is known."""
    if suffix in JPEG_SUFFIXES:
        return "JPEG changes label values at every edge; export the masks as PNG from their source"
    return "" if suffix in BY_SUFFIX else conversion(f"FILE{suffix}", suffix)


def split_key(name: str) -> tuple[str, str | None]:
    """Split `file.npz:key`; a file that really has that name wins."""
    low = name.lower()
    at = max((start + len(mark) for mark in _KEYED if (start := low.rfind(mark)) >= 0), default=0)
    if not at or "\0" in name or os.path.lexists(name):
        return name, None
    return name[: at - 1], name[at:]


def files_of(name: str) -> list[Path]:
    """Return the files that a mask is made of: one, or the header and the image of a `.hdr`/`.img` pair."""
    target = split_key(name)[0]
    suffix = suffix_of(target)
    form = BY_SUFFIX.get(suffix)
    if form is None or form.halves is None or suffix.removesuffix(".gz") not in form.halves:
        return [Path(target)]
    header, image = (partner(target, suffix, half) for half in form.halves)
    pair = (header, target) if image is None or header is not None else (target, image)
    return [Path(part) for part in pair if part is not None]


def has_header_beside(path: str) -> bool:
    """Tell whether a file holds the voxels of a pair, and the header that stands for both is there."""
    suffix = suffix_of(path)
    form = BY_SUFFIX.get(suffix)
    if form is None or form.halves is None or suffix.removesuffix(".gz") != form.halves.voxels:
        return False
    return partner(path, suffix, form.halves.header) is not None
