"""NPY and NPZ files.

Headers are parsed here and never executed; pickles are never loaded. The size a header declares is
compared with the file before a byte is allocated.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from segcli.masks.archive import READ, ZIP_ERRORS, checked_members, faults_of_frame, faults_of_members, listed
from segcli.masks.arrays import usable
from segcli.masks.mask import Note
from segcli.masks.source import (
    MOST_DEFLATE,
    Decoded,
    Room,
    Source,
    glimpse,
    refuse,
    refuse_trailing,
    shape_text,
    shown,
    size_text,
    trailing,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_AGAIN = "save the array again with numpy.save"
_HEADER_LIMIT = 10_000
_CHUNK = 1 << 20


def read_npy(source: Source, room: Room | None) -> Decoded:
    """Read an NPY file of any format version; without `room` its header, with an array that takes no memory."""
    name = source.name
    dtype, fortran, shape, start = _npy_header(name, source.read)
    _check_declared(name, shape, dtype, source.size - start)
    if room is None:
        return Decoded(np.broadcast_to(np.zeros((), dtype), shape), "NPY")
    data = np.empty(room.check(name, shape, dtype.itemsize), np.uint8)
    _expect(name, source.readinto(data.data), data.size)
    decoded = Decoded(data.view(dtype).reshape(shape, order="F" if fortran else "C"), "NPY")
    if extra := source.size - start - data.size:
        decoded.notes.append(_after(name, extra))
    return decoded


def read_npz(source: Source, key: str | None, room: Room | None) -> Decoded:
    """Read one array of an NPZ archive: the only one, or the one called `key`; without `room` its header.

    Damage of that array is refused, damage of anything else in the archive is a warning.
    """
    name = source.name
    try:
        file = source.rewound()
        with warnings.catch_warnings(), zipfile.ZipFile(file) as archive:
            warnings.simplefilter("ignore")
            members = archive.infolist()
            packed = sum(m.compress_size for m in members)
            refuse_trailing(name, source.size - packed, trailing(packed))
            member = _choose(name, members, key)
            if member.file_size > MOST_DEFLATE * (member.compress_size + 64):
                text = f"claims {size_text(member.file_size)} from {size_text(member.compress_size)} compressed"
                refuse(name, f"{text}: more than deflate can hold", _AGAIN, "read.size")
            faults = faults_of_members(file, archive)
            if fault := faults.pop(member.filename, ""):
                _damaged(name, f"{member.filename} {fault}")
            frame = list(faults_of_frame(file, archive))
            with archive.open(member) as stream:
                dtype, fortran, shape, start = _npy_header(name, stream.read)
                _check_declared(name, shape, dtype, member.file_size - start)
                if room is None:
                    array = np.broadcast_to(np.zeros((), dtype), shape)
                    notes = _beside(name, frame, faults)
                    return Decoded(array, "NPZ", notes=notes, header={"key": member.filename.removesuffix(".npy")})
                data = np.empty(room.check(name, shape, dtype.itemsize), np.uint8)
                view, done = data.data, 0
                while done < data.size and (part := stream.read(min(_CHUNK, data.size - done))):
                    view[done : done + len(part)] = part
                    done += len(part)
                _expect(name, done, data.size)
                # Reaching the end is what makes zipfile compare the CRC.
                extra = member.file_size - start - data.size
                refuse_trailing(name, extra, trailing(data.size))
                while stream.read(_CHUNK):
                    pass
            others = [m for m in members if m is not member]
            # To verify a member is to read it: as much as may follow the voxels of any file, no more.
            if affordable := sum(m.file_size for m in others) <= trailing(data.size):
                faults = checked_members(archive, others) | faults
    except ZIP_ERRORS as error:
        _damaged(name, str(error))
    decoded = Decoded(data.view(dtype).reshape(shape, order="F" if fortran else "C"), "NPZ")
    decoded.header["key"] = member.filename.removesuffix(".npy")
    decoded.notes += _beside(name, frame, faults)
    if not affordable:
        text = f"{shown(name)}: only this array of the archive was verified: the others are large"
        decoded.notes.append(Note(text, code="read.unverified"))
    if extra:
        decoded.notes.append(_after(name, extra))
    return decoded


def _damaged(name: str, text: str) -> NoReturn:
    text = shown(text)[:120].rstrip(".")
    refuse(name, f"the archive is damaged: {text}", "write or copy it again", "read.corrupt")


def _beside(name: str, frame: list[str], faults: dict[str, str]) -> list[Note]:
    """Return the warning of damage elsewhere in the archive."""
    found = [*frame, *(f"{shown(member)[:80]} {fault}" for member, fault in faults.items())]
    if not found:
        return []
    return [
        Note(f"{shown(name)}: the archive is damaged beside this array: {listed(found)}", "warning", "read.archive")
    ]


def _choose(name: str, members: list[zipfile.ZipInfo], key: str | None) -> zipfile.ZipInfo:
    found = [m for m in members if m.filename.endswith(".npy")]
    keys = [m.filename.removesuffix(".npy") for m in found]
    listed = shown(", ".join(keys[:12])) + (", ..." if len(keys) > 12 else "")
    file = name if key is None else name[: -len(key) - 1]
    if not found:
        refuse(name, "a ZIP archive without any array (.npy) in it", "numpy.savez(file, mask=array)", "read.npz")
    if key is None and len(set(keys)) > 1:
        refuse(
            name, f"holds {len(keys)} arrays ({listed}); one must be named", f"name one: {file}:{keys[0]}", "read.npz"
        )
    wanted = keys[0] if key is None else key.removesuffix(".npy")
    chosen = [m for m, k in zip(found, keys, strict=True) if k == wanted]
    if not chosen:
        refuse(name, f"no array {key!r} in it; it holds {listed}", f"name one: {file}:{keys[0]}", "read.npz")
    # NumPy takes a member without the suffix for the same name.
    several = len(chosen) + sum(m.filename == wanted for m in members if m not in chosen)
    if several > 1:
        refuse(name, f"holds {several} arrays with the same name {shown(wanted)!r}", "write it again", "read.npz")
    if chosen[0].flag_bits & 1:
        refuse(name, f"array {shown(wanted)!r} is encrypted", "write it without a password", "read.npz")
    if chosen[0].compress_type not in READ:
        refuse(name, f"ZIP compression type {chosen[0].compress_type} is not read; numpy writes stored or deflated",
               "numpy.savez_compressed writes what is read", "read.npz")  # fmt: skip
    return chosen[0]


def _npy_header(name: str, read: Callable[[int], bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    lead = read(8)
    if lead[:6] != b"\x93NUMPY" or len(lead) < 8:
        refuse(name, f"not an NPY array: it begins with {glimpse(lead)}", "numpy.save writes one", "read.magic")
    if lead[6] not in (1, 2, 3):
        refuse(name, f"NPY version {lead[6]}.{lead[7]} is unknown; read are 1, 2 and 3", _AGAIN, "read.header")
    width = 2 if lead[6] == 1 else 4
    length = int.from_bytes(read(width), "little")
    if length > _HEADER_LIMIT:
        text = f"an NPY header of {length} bytes (allowed: {_HEADER_LIMIT})"
        refuse(name, text, _AGAIN, "read.header")
    raw = read(length)
    if len(raw) < length:
        refuse(name, "ends inside its NPY header", "write or copy it again", "read.truncated")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = raw.decode("utf-8" if lead[6] == 3 else "latin-1")
            fields = ast.literal_eval(re.sub(r"(\d)L(?=[,)])", r"\1", text.strip()))
            descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
            dtype = np.dtype(descr) if isinstance(descr, str) else np.dtype("V1")
            fits = len(fields) == 3 and isinstance(fortran, bool) and isinstance(shape, tuple)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError, OverflowError):
        refuse(name, "its NPY header cannot be read", _AGAIN, "read.header")
    if not fits:
        refuse(name, "its NPY header has the wrong fields", _AGAIN, "read.header")
    usable(name, dtype)
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        refuse(
            name, f"shape {shown(str(shape))[:80]} cannot be; lengths are whole and at least 1", _AGAIN, "read.shape"
        )
    if 0 in shape:
        refuse(name, f"shape {shape_text(shape)} has no voxels", "check how it was written", "read.shape")
    return dtype, fortran, shape, 8 + width + length


def _check_declared(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], there: int) -> None:
    need = math.prod(shape) * dtype.itemsize
    if need > there:
        text = f"truncated: the header declares {shape_text(shape)} of {dtype} = {size_text(need)}"
        refuse(name, f"{text}, the file holds {size_text(there)}", "write or copy it again", "read.truncated")


def _expect(name: str, got: int, need: int) -> None:
    if got < need:
        refuse(name, f"truncated: {got} of {need} bytes of data", "write or copy it again", "read.truncated")


def _after(name: str, extra: int) -> Note:
    return Note(f"{shown(name)}: {size_text(extra)} after the declared voxels ignored", "warning", "read.trailing")
