"""NIfTI-1, NIfTI-2 and Analyze 7.5: single files and `.hdr`/`.img` pairs, gzipped or not.

nibabel takes the header apart; the voxels are read here, into one buffer of exactly the declared size,
and stay in stored order and type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segcli.masks.arrays import smallest_integer
from segcli.masks.mask import DROPPED, Note
from segcli.masks.nifti_grid import grid_of
from segcli.masks.readers import partner, sniff, suffix_of
from segcli.masks.source import (
    MOST_DEFLATE,
    Decoded,
    Room,
    Source,
    glimpse,
    refuse,
    shape_text,
    shown,
    size_text,
    trailing,
)
from segcli.masks.stream import Stream
from segcli.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {0: "of unknown type", 1: "single bits", 32: "complex numbers", 1792: "complex numbers",
                2048: "complex numbers", 128: "RGB colours", 2304: "RGBA colours", 1536: "128-bit floats"}  # fmt: skip
_ORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_AGAIN = "write or download it again"
_FARTHEST = 256 << 20
#: Labels are recognised behind a scaling with steps up to this.
_COARSEST = 0.25


@dataclass(frozen=True, slots=True)
class Header:
    """The header fields that matter, in plain types."""

    format: str
    alone: bool  # voxels follow in the same file
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    slope: float
    inter: float
    pixdim: tuple[float, ...]
    units: int
    qform: NDArray[np.float64] | None
    sform: NDArray[np.float64] | None
    qform_code: int
    sform_code: int


def read(source: Source, room: Room) -> Decoded:
    """Read a NIfTI or Analyze file, or the pair it belongs to."""
    header, stream, ours = _header(source)
    if ours:
        return _read_voxels(source, stream, header, room)
    other = partner(source.path, ".img")
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


def of_block(name: str, block: bytes, order: str) -> Header:
    """Return the header of a NIfTI image in memory, from the bytes that would begin its file."""
    magic = block[4:12] if len(block) == 540 else block[344:348]
    return _nifti(name, block, order, len(block), alone=magic[1:2] == b"+")


def _header(source: Source) -> tuple[Header, Stream, bool]:
    """Return the header of a file or of its pair, the stream after it, and whether the voxels are in this file."""
    other = None
    if suffix_of(source.path) in {".img", ".img.gz"}:
        other = partner(source.path, ".hdr")
        if other is None and sniff(source.head) not in {"NIfTI", "gzip"}:
            refuse(source.name, "voxels alone: the .hdr file that describes them is not beside it",
                   "put both files into one folder, or save as .nii.gz", "read.pair")  # fmt: skip
    if other is not None:
        with Source(other, source.name, source.digest) as beside:
            header = _read_header(beside, Stream(beside))
            beside.drain()
        if not header.alone:
            return header, Stream(source), True
    stream = Stream(source)
    header = _read_header(source, stream)
    return header, stream, header.alone


def _read_header(source: Source, stream: Stream) -> Header:
    """Take the header from the first bytes with nibabel; only what it says about itself is trusted so far."""
    block = stream.read(348)
    sizes = {n.to_bytes(4, word): (n, order) for order, word in _ORDER.items() for n in (348, 540)}
    size, order = sizes.get(block[:4], (0, ""))
    if not size:
        what = sniff(block) or f"data that begin with {glimpse(block)}"
        inside = f"a gzip file that holds {what}" if stream.packed else f"begins with {glimpse(block)}"
        refuse(source.name, f"not a NIfTI file: {inside}", "check how it was written or downloaded", "read.magic")
    block += stream.read(size - 348) if len(block) == 348 and size > 348 else b""
    if len(block) < size:
        refuse(source.name, f"truncated: {counted(len(block), 'byte')}, a header has {size}", _AGAIN, "read.truncated")
    magic = block[4:12] if size == 540 else block[344:348]
    if magic[:4] not in ((b"n+2\0", b"ni2\0") if size == 540 else (b"n+1\0", b"ni1\0")):
        if size == 540 or suffix_of(source.path) not in {".hdr", ".hdr.gz"}:
            text = f"its NIfTI magic is {glimpse(magic)}; n+1, ni1, n+2 or ni2 would be right"
            refuse(source.name, text, "an Analyze 7.5 header is read when it is named .hdr", "read.magic")
        return _analyze(source.name, block, order)
    if size == 540 and magic[4:] != b"\r\n\x1a\n":
        text = f"the end of its NIfTI-2 magic is {glimpse(magic[4:])}, not '\\r\\n\\x1a\\n': it was sent as text"
        refuse(source.name, text, "send it again as binary data", "read.corrupt")
    return _nifti(source.name, block, order, size, alone=magic[1:2] == b"+")


def _nifti(name: str, block: bytes, order: str, size: int, *, alone: bool) -> Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    maker: Any = Nifti2Header if size == 540 else Nifti1Header
    raw: Any = maker(block, endianness=order, check=False)
    sform = qform = None
    if int(raw["sform_code"]) > 0:
        sform = np.vstack([raw["srow_x"], raw["srow_y"], raw["srow_z"], [0, 0, 0, 1]]).astype(np.float64)
    if int(raw["qform_code"]) > 0:
        try:
            with np.errstate(all="ignore"):
                qform = np.asarray(raw.get_qform(), np.float64)
        except Exception:  # noqa: BLE001 - nibabel has many ways to say that a quaternion cannot be
            qform = np.full((4, 4), np.nan)
    start = float(raw["vox_offset"])
    least = size + 4 if alone else 0  # after the header four bytes announce extensions
    if not math.isfinite(start) or start != int(start) or (start != 0 and start < least):
        refuse(name, f"vox_offset {start:g} cannot be; voxels start at byte {least} or later", _AGAIN, "read.header")
    if start == 0 and alone:
        start = float(least)  # some writers leave it out
    return Header(
        "NIfTI-2" if size == 540 else "NIfTI-1", alone,
        _shape(name, raw["dim"]), _dtype(name, int(raw["datatype"]), order), int(start),
        float(raw["scl_slope"]), float(raw["scl_inter"]), tuple(float(p) for p in raw["pixdim"]),
        int(raw["xyzt_units"]) & 7, qform, sform, int(raw["qform_code"]), int(raw["sform_code"]),
    )  # fmt: skip


def _analyze(name: str, block: bytes, order: str) -> Header:
    from nibabel.spm99analyze import SpmAnalyzeHeader

    maker: Any = SpmAnalyzeHeader
    raw: Any = maker(block, endianness=order, check=False)
    start = abs(float(raw["vox_offset"]))  # negative: SPM's "for every volume"
    if not math.isfinite(start):
        refuse(name, f"vox_offset {start:g} cannot be", _AGAIN, "read.header")
    return Header(
        "Analyze 7.5", False, _shape(name, raw["dim"]), _dtype(name, int(raw["datatype"]), order), int(start),
        float(raw["scl_slope"]), 0.0, tuple(float(p) for p in raw["pixdim"]), 0, None, None, 0, 0,
    )  # fmt: skip


def _shape(name: str, dim: NDArray[Any]) -> tuple[int, ...]:
    lengths = tuple(int(n) for n in dim)
    if not 1 <= lengths[0] <= 7:
        refuse(name, f"the header declares {lengths[0]} axes; allowed are 1 to 7", _AGAIN, "read.header")
    shape = lengths[1 : lengths[0] + 1]
    if min(shape) < 1:
        refuse(name, f"shape {shape_text(shape)} has no voxels", "check how it was written", "read.shape")
    return shape


def _dtype(name: str, code: int, order: str) -> np.dtype[Any]:
    if code not in _TYPES:
        what = _OTHER_TYPES.get(code, "of unknown type")
        text = f"its voxels are {what} (NIfTI datatype {code}); allowed are integers and floats of up to 64 bits"
        refuse(name, text, "save the mask with an integer type", "read.dtype")
    return np.dtype(order + _TYPES[code])


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
