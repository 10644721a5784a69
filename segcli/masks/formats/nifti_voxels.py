"""NIfTI-1, NIfTI-2 and Analyze 7.5: single files and `.hdr`/`.img` pairs, gzipped or not.

The voxels are read into one buffer of exactly the declared size, and stay in stored order and type.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.masks.arrays import smallest_integer
from segcli.masks.formats.nifti_grid import grid_of
from segcli.masks.formats.nifti_header import Header, read_header
from segcli.masks.formats.nifti_names import HALVES, MARKS, SUFFIXES, VOXELS
from segcli.masks.formats.record import GZIP, Mark, ending, partner
from segcli.masks.mask import DROPPED, Note
from segcli.masks.source import (
    MOST_DEFLATE,
    Decoded,
    Room,
    Source,
    refuse,
    shape_text,
    shown,
    size_text,
    trailing,
)
from segcli.masks.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AGAIN = "write or download it again"
_FARTHEST = 256 << 20
#: Labels are recognised behind a scaling with steps up to this.
_COARSEST = 0.25


def read(source: Source, room: Room) -> Decoded:
    """Read a NIfTI or Analyze file, or the pair it belongs to."""
    header, stream, ours = _header(source)
    if ours:
        return _read_voxels(source, stream, header, room)
    other = partner(source.path, ending(source.path, SUFFIXES), HALVES.voxels)
    if other is None:
        refuse(source.name, "a header alone: the .img file with the voxels is not beside it",
               "put both files into one folder, or save as .nii.gz", "read.pair")  # fmt: skip
    source.drain()
    with Source(other, source.name, source.digest) as beside:
        decoded = _read_voxels(beside, Stream(beside), header, room)
        beside.drain(trailing(decoded.array.nbytes))
    return decoded


def look(source: Source) -> Decoded:
    """Return what the header declares, with an array that takes no memory."""
    header = _header(source)[0]
    fields = _fields(header)
    spacing, affine = grid_of(source.name, header, [], fields)
    kept = _kept(header.shape)
    notes = [] if kept == header.shape else [_dropped(source.name, header.shape)]
    array = np.broadcast_to(np.zeros((), header.dtype.newbyteorder("=")), kept)
    return Decoded(array, header.format, spacing, affine, notes, fields)


def _header(source: Source) -> tuple[Header, Stream, bool]:
    """Return the header of a file or of its pair, the stream after it, and whether the voxels are in this file."""
    other = None
    suffix = ending(source.path, SUFFIXES)
    if suffix in VOXELS:
        other = partner(source.path, suffix, HALVES.header)
        if other is None and not any(mark.stands_in(source.head) for mark in (*MARKS, Mark(0, GZIP))):
            refuse(source.name, "voxels alone: the .hdr file that describes them is not beside it",
                   "put both files into one folder, or save as .nii.gz", "read.pair")  # fmt: skip
    if other is not None:
        with Source(other, source.name, source.digest) as beside:
            header = read_header(beside, Stream(beside))
            beside.drain()
        if not header.alone:
            return header, Stream(source), True
    stream = Stream(source)
    header = read_header(source, stream)
    return header, stream, header.alone


def _read_voxels(source: Source, stream: Stream, header: Header, room: Room) -> Decoded:
    name, shape, dtype = source.name, header.shape, header.dtype
    need = math.prod(shape) * dtype.itemsize
    gap = header.start - stream.position
    if gap > _FARTHEST:
        text = f"vox_offset {header.start:.10g} puts its voxels beyond where a header and its extensions may end"
        refuse(name, f"{text} (byte {_FARTHEST})", _AGAIN, "read.header")
    if header.start + need > stream.most:
        text = f"the header declares {shape_text(shape)} of {dtype.name} = {size_text(need)}"
        if stream.packed:
            text += f", more than {size_text(source.size)} of gzip can hold (1:{MOST_DEFLATE})"
            refuse(name, text, "the header is wrong or the file is cut off", "read.size")
        refuse(name, f"truncated: {text}, the file holds {size_text(max(source.size - header.start, 0))}",
               _AGAIN, "read.truncated")  # fmt: skip
    scaled = _scales(name, header)
    room.check(name, shape, max(8, dtype.itemsize) if scaled else dtype.itemsize)
    data = np.empty(need, np.uint8)
    stream.skip(gap)
    if (got := stream.readinto(data.data)) < need:
        refuse(name, f"truncated: {got} of {need} bytes of voxels", _AGAIN, "read.truncated")
    array: NDArray[Any] = data.view(dtype).reshape(shape, order="F")
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    notes: list[Note] = []
    left = stream.finish(trailing(need))
    if left or stream.garbage:
        more = size_text(left) if left else "bytes that are not gzip"
        notes.append(Note(f"{shown(name)}: {more} after the declared voxels ignored", "warning", "read.trailing"))
    fields = _fields(header)
    off = None
    if scaled:
        stored = array
        array = rescaled(name, array, header.slope, header.inter, notes)
        off = label_offset(stored, header.slope, header.inter) if array.dtype.kind == "f" else None
        fields |= {"scl_slope": header.slope, "scl_inter": header.inter}
    if (kept := _kept(shape)) != shape:
        notes.append(_dropped(name, shape))
        array = array.reshape(kept, order="F")
    spacing, affine = grid_of(name, header, notes, fields)
    return Decoded(array, header.format, spacing, affine, notes, fields, off=off)


def _fields(header: Header) -> dict[str, object]:
    return {
        "dtype": header.dtype.name,
        "shape": list(header.shape),
        "byte_order": "big" if header.dtype.str[0] == ">" else "little",
        "qform_code": header.qform_code,
        "sform_code": header.sform_code,
    }


def _kept(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1 after the third."""
    return (*shape[:3], *(n for n in shape[3:] if n > 1))


def _dropped(name: str, shape: tuple[int, ...]) -> Note:
    text = f"{shown(name)}: shape {shape_text(shape)} read as {shape_text(_kept(shape))} (axes of length 1 dropped)"
    return Note(text, code=DROPPED)


def _scales(name: str, header: Header) -> bool:
    slope, inter = header.slope, header.inter
    if math.isnan(slope) or slope == 0:
        return False
    if not (math.isfinite(slope) and math.isfinite(inter)):
        refuse(name, f"scl_slope {slope:g} and scl_inter {inter:g} must be finite", "correct the header", "read.header")
    return (slope, inter) != (1.0, 0.0)


def rescaled(name: str, array: NDArray[Any], slope: float, inter: float, notes: list[Note]) -> NDArray[Any]:
    """Apply the scaling: exactly in integers where it maps integers to integers, else in float64."""
    if array.dtype.kind in "iu" and slope.is_integer() and inter.is_integer():
        low, high = int(array.min()), int(array.max())
        ends = sorted((low * int(slope) + int(inter), high * int(slope) + int(inter)))
        if max(abs(n) for n in (*ends, low, high, int(slope), int(inter))) < 2**62:
            text = f"scl_slope {slope:g} and scl_inter {inter:g} make {ends[0]}..{ends[1]} of the stored {low}..{high}"
            notes.append(Note(f"{shown(name)}: {text}", "warning", "read.scaled"))
            wide = array.astype(np.int64)
            wide *= int(slope)
            wide += int(inter)
            return wide.astype(smallest_integer(*ends))
    scaled = array.astype(np.float64)
    with np.errstate(all="ignore"):  # what overflows is found and named as infinite later
        scaled *= slope
        scaled += inter
    return scaled


def label_offset(stored: NDArray[Any], slope: float, inter: float) -> float | None:
    """Return how far labels stored as scaled integers may be off: half a step, and float32's rounding of the scaling.

    `None` for floats, and for steps so coarse that other values could hide behind a label.
    """
    if stored.dtype.kind not in "iu" or abs(slope) > _COARSEST:
        return None
    reach = abs(slope) * max(abs(int(stored.min())), abs(int(stored.max()))) + abs(inter)
    return abs(slope) / 2 + 2 * float(np.finfo(np.float32).eps) * reach
