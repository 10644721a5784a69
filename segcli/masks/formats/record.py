"""What a file format is to segcli: its names, its first bytes, and how it is read and written.

Needs no NumPy: which formats there are is asked of every file name. What reads voxels is imported when it is called.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from segcli.masks.source import Decoded, Room, Source

GZIP = b"\x1f\x8b"


class Mark(NamedTuple):
    """Bytes at one place of a file that tell its format."""

    at: int
    magic: bytes

    def stands_in(self, head: bytes) -> bool:
        return head.startswith(self.magic, self.at)


class Halves(NamedTuple):
    """The suffixes of the two files that make one mask, packed with `.gz` or not."""

    header: str
    voxels: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a reader beside the file."""

    room: Room
    #: Which array of a file that holds several.
    key: str | None = None
    #: How colours become labels, as `--colors` has it.
    colors: str | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """How maps of numbers are written in a format."""

    suffixes: tuple[str, ...]
    #: Returns the file of a map with its spacing, affine (or `None`) and channel axis (see `write_map`), by suffix.
    encode: Callable[[NDArray[np.float64], tuple[float, ...], NDArray[Any] | None, int, str], bytes]
    #: Whether it holds planes alone.
    flat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One file format. A new one is a file with such a record, and its line in `FORMATS`."""

    name: str
    #: In lower case; the first is the one that advice names.
    suffixes: tuple[str, ...]
    #: Any of them tells the format, whatever the file is called.
    marks: tuple[Mark, ...] = ()
    #: What its marks are called in messages, where a file with them need not be of this format.
    content: str = ""
    #: Suffixes of files without a mark of their own: here the name decides.
    unmarked: tuple[str, ...] = ()
    #: Whether it also comes packed with gzip.
    gzipped: bool = False
    #: The two files of a mask, where it may have two.
    halves: Halves | None = None
    #: Whether a file holds several arrays, and `file.npz:key` names one.
    keyed: bool = False
    #: Whether `--colors` has a meaning.
    coloured: bool = False
    #: Along which axes arrays are stored: `xyz`, `yx` of an image, nothing where the format does not say.
    order: str = ""
    #: Whether channels are on the last axis.
    channels_last: bool = False
    #: Returns what a header declares, with an array that takes no memory; the key of an array, where one is named.
    header: Callable[[Source, str | None], Decoded]
    #: Returns the array. Both raise `InputError`, or `OtherContent` for what is not of this format after all.
    voxels: Callable[[Source, Asked], Decoded]
    writer: Writer | None = None

    def matches(self, head: bytes, suffix: str) -> bool:
        """Tell whether a file with these first bytes and this suffix is to be read as this format."""
        packed = self.gzipped and head.startswith(GZIP)
        return suffix in self.unmarked or packed or any(mark.stands_in(head) for mark in self.marks)


class OtherContent(Exception):  # noqa: N818 (an answer: whoever chose the format makes the error of it)
    """The file holds something else: `block` are the first bytes, behind gzip where it is `packed`."""

    def __init__(self, block: bytes, *, packed: bool) -> None:
        super().__init__(block, packed)
        self.block, self.packed = block, packed


def ending(name: str, suffixes: Iterable[str]) -> str:
    """Return the first of `suffixes` that a file name has; else its last suffix, in lower case, or nothing."""
    low = os.path.basename(name).lower()  # noqa: PTH119 (asked of every file of a cohort)
    return next((s for s in suffixes if low.endswith(s)), "") or Path(low).suffix


def partner(path: str, suffix: str, wanted: str) -> str | None:
    """Return the file beside `path` with `wanted` for its own `suffix`, packed or not, when it is there."""
    stem = path[: len(path) - len(suffix)]
    endings = [wanted, wanted.upper(), wanted + ".gz", wanted.upper() + ".GZ"]
    if path[len(stem) :].isupper():
        endings = [endings[1], endings[0], endings[3], endings[2]]
    return next((stem + e for e in endings if stem + e != path and os.path.lexists(stem + e)), None)
