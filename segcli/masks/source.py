"""One file, read front to back: what every format's reader stands on, and how it refuses what it cannot use.

Nothing heavy is imported here.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self, cast

from segcli.errors import InputError
from segcli.masks.mask import Note
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

#: Deflate never shrinks anything more than this.
MOST_DEFLATE = 1032
#: What may follow the voxels of a file, in bytes, before it is no longer the file that its header declares.
TRAILING = 64 << 20
_FALLBACK_VOXELS = 2**31
_STEP = 1 << 20


@dataclass(slots=True)
class Decoded:
    """What a format's reader hands back, before anyone asks what the numbers mean."""

    array: NDArray[Any]
    format: str
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    notes: list[Note] = field(default_factory=list)
    header: dict[str, object] = field(default_factory=dict)
    #: The values are labels by construction (palette indices, `--colors`): 200 of them are no surprise.
    explicit: bool = False
    #: How far scaled integers may be off whole numbers and be labels; `None` where nothing was scaled, or coarsely.
    off: float | None = None
    #: As `Mask` has them.
    order: str = ""
    channels_last: bool = False


def shown(name: str) -> str:
    """Return a file name as given, except characters that would break the line or drive a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def refuse(name: str, text: str, hint: str = "", code: str = "") -> NoReturn:
    """Raise the `InputError` that says `name: text`."""
    raise InputError(f"{shown(name)}: {text}.", hint=shown(hint), code=code)


def glimpse(data: bytes) -> str:
    """Show the first bytes on one line."""
    return ascii(data[:16])[1:]


def size_text(count: int) -> str:
    """Return a number of bytes in the unit a person would use."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB", "EB"):
        if size < 1000 or unit == "EB":
            break
        size /= 1000
    return f"{size:.3g} {unit}" if unit != "bytes" else counted(count, "byte")


def shape_text(shape: Sequence[int]) -> str:
    """Return `512x512x98`."""
    return "x".join(str(n) for n in shape) or "()"


class Room:
    """How large an array may be: `max_voxels`, or half of what memory has left."""

    def __init__(self, max_voxels: int | None = None) -> None:
        self.max_voxels = max_voxels

    def check(self, name: str, shape: Sequence[int], itemsize: int) -> int:
        """Return the number of bytes the array takes; refuse it when that is too much."""
        voxels = math.prod(shape)
        size = voxels * itemsize
        if self.max_voxels is not None:
            if voxels > self.max_voxels:
                refuse(name, f"{shape_text(shape)} = {voxels} voxels, above --max-voxels {self.max_voxels}",
                       "raise --max-voxels or crop the masks", "read.size")  # fmt: skip
            return size
        free = memory_available()
        if voxels > _FALLBACK_VOXELS if free is None else size > free // 2:
            limit = f"{_FALLBACK_VOXELS} voxels" if free is None else f"{size_text(free // 2)}, half of free memory"
            refuse(name, f"{shape_text(shape)} voxels need {size_text(size)}; allowed are {limit}",
                   "crop the masks, use a smaller type, or set --max-voxels to try it anyway", "read.size")  # fmt: skip
        return size


def memory_available() -> int | None:
    """Return the bytes of memory this process may still take, container limits included; `None` if unknown."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        top, now = (group / "memory.max").read_text("ascii"), (group / "memory.current").read_text("ascii")
        found.append(max(int(top) - int(now), 0))
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or no limit ("max")
    if not found and hasattr(os, "sysconf"):
        for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
            if pages in os.sysconf_names:
                found.append(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
                break
    return min(found, default=None)


class Source:
    """One regular file, read front to back, its checksum taken on the way."""

    def __init__(self, path: str, name: str, digest: Any = None) -> None:
        self.path, self.name, self.digest = path, name, digest
        self._jumping = False
        try:
            if not path:
                refuse(name, "an empty file name", "name a file", "read.missing")
            status = Path(path).stat()
            if stat.S_ISDIR(status.st_mode):
                hint = "name one file in it"
                refuse(name, "a folder; name a file", hint, "read.directory")
            if not stat.S_ISREG(status.st_mode):
                refuse(name, "not a regular file (a pipe or a device)", "save it to a file first", "read.special")
            self._file = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        except FileNotFoundError:
            hint = "the link points nowhere" if Path(path).is_symlink() else "check the spelling and the folder"
            refuse(name, "no such file", hint, "read.missing")
        except PermissionError:
            refuse(name, "permission denied", "ask for read access to it", "read.permission")
        except ValueError:
            refuse(name, "not a possible file name", "check the spelling", "read.missing")
        self.size = status.st_size
        try:
            self.head = self._file.peek(560)[:560]
            if not self.head:
                refuse(name, "the file is empty (0 bytes)", "write or download it again", "read.empty")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes; fewer only at the end."""
        data = self._file.read(count)
        if self.digest is not None:
            self.digest.update(data)
        return data

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; return how much there was."""
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done : done + _STEP])):
            if self.digest is not None:
                self.digest.update(view[done : done + count])
            done += count
        return done

    def skip(self, count: int) -> None:
        """Pass over `count` bytes (none of them kept)."""
        if self.digest is None:
            self._file.seek(count, os.SEEK_CUR)
            return
        while count > 0 and (data := self.read(min(count, _STEP))):
            count -= len(data)

    def left(self) -> int:
        """Return how many bytes have not been read."""
        return self.size - self._file.tell()

    def rewound(self) -> BinaryIO:
        """Return the file for reading in any order; its checksum is taken afterwards, by `drain`."""
        self._jumping = True
        self._file.seek(0)
        return cast("BinaryIO", self._file)

    def drain(self, most: int = TRAILING) -> None:
        """Read what is left, when a checksum is wanted; refuse a file where that is more than `most` bytes."""
        if self._jumping:
            self._file.seek(0)
            self._jumping = False
        else:
            refuse_trailing(self.name, self.left(), most)
        while self.digest is not None and self.read(_STEP):
            pass


def trailing(size: int) -> int:
    """Return how many bytes may follow voxels that take `size` of them."""
    return max(TRAILING, 4 * size)


def refuse_trailing(name: str, left: int, most: int) -> None:
    """Refuse a file in which more than `most` bytes follow what its header declares."""
    if left > most:
        text = f"{size_text(left)} follow the declared voxels; allowed are {size_text(most)}"
        refuse(name, text, "the header is wrong, or something was appended to the file", "read.trailing")
