"""NIfTI-1, NIfTI-2 and Analyze 7.5: single files and `.hdr`/`.img` pairs, gzipped or not.

nibabel takes the header apart; the voxels are read here, into one buffer of exactly the declared size,
and stay in stored order and type. Decompressing with isal takes a tenth of nibabel's time.
"""

from __future__ import annotations

import importlib
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segcli.masks.arrays import smallest_integer
from segcli.masks.geometry import is_sheared, offset, spacing_of
from segcli.masks.mask import Note
from segcli.masks.readers import (
    MOST_DEFLATE,
    Decoded,
    Room,
    Source,
    glimpse,
    partner,
    refuse,
    shape_text,
    shown,
    size_text,
    sniff,
    suffix_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {0: "of unknown type", 1: "single bits", 32: "complex numbers", 1792: "complex numbers",
                2048: "complex numbers", 128: "RGB colours", 2304: "RGBA colours", 1536: "128-bit floats"}  # fmt: skip
_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
_ORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_AGAIN = "write or download it again"
_INPUT = 1 << 16
_OUTPUT = 1 << 18
_AFTER = 4 << 20
_FARTHEST = 256 << 20
#: qform and sform may differ by this part of a voxel: quaternions are stored in float32.
_FORMS_AGREE = 1e-2
_LARGEST = 1e12


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


class _Stream:
    """The content of a file front to back, unpacked when it is gzip; never more than is asked for."""

    def __init__(self, source: Source) -> None:
        self.source, self.packed = source, source.head[:2] == b"\x1f\x8b"
        self.most = source.size * (MOST_DEFLATE if self.packed else 1)
        self.position, self.garbage = 0, False
        self._pending, self._ended = b"", False
        if self.packed:
            try:
                self._engine: Any = importlib.import_module("isal.isal_zlib")
            except ImportError:
                self._engine = zlib
            self._member = self._engine.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes; fewer only at the end."""
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; return how much there was."""
        done = 0 if self.packed else self.source.readinto(view)
        while self.packed and done < len(view) and not self._ended:
            if self._member.eof:
                self._next_member()
            else:
                part = self._unpack(min(_OUTPUT, len(view) - done))
                view[done : done + len(part)] = part
                done += len(part)
        self.position += done
        return done

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        if not self.packed:
            self.source.skip(count)
            self.position += count
            return
        scratch = memoryview(bytearray(min(count, _OUTPUT)))
        while count > 0 and (got := self.readinto(scratch[: min(count, _OUTPUT)])):
            count -= got

    def finish(self) -> int:
        """Return how much content is left, as far as a few MB tell; reaching the end verifies the checksum."""
        if not self.packed:
            return self.source.size - self.position
        scratch, left = memoryview(bytearray(_OUTPUT)), 0
        while left < _AFTER and (got := self.readinto(scratch)):
            left += got
        return left

    def _unpack(self, most: int) -> bytes:
        data = self._pending or self.source.read(_INPUT)
        try:
            part: bytes = self._member.decompress(data, most)
        except (zlib.error, self._engine.error) as error:
            refuse(self.source.name, f"the gzip data are corrupt ({error})", _AGAIN, "read.corrupt")
        self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        if not data and not part and not self._member.eof:
            refuse(self.source.name, "truncated: the gzip stream breaks off", _AGAIN, "read.truncated")
        return part

    def _next_member(self) -> None:
        rest = self._pending.lstrip(b"\0")
        while len(rest) < 2 and (more := self.source.read(_INPUT)):
            rest = (rest + more).lstrip(b"\0")
        if rest[:2] == b"\x1f\x8b":
            self._member, self._pending = self._engine.decompressobj(wbits=31), rest
        else:
            self._ended, self.garbage = True, bool(rest)


def read(source: Source, room: Room) -> Decoded:
    """Read a NIfTI or Analyze file, or the pair it belongs to."""
    other = None
    if suffix_of(source.path) in {".img", ".img.gz"}:
        other = partner(source.path, ".hdr")
        if other is None and sniff(source.head) not in {"NIfTI", "gzip"}:
            refuse(source.name, "voxels alone: the .hdr file that describes them is not beside it",
                   "put both files into one folder, or save as .nii.gz", "read.pair")  # fmt: skip
    if other is not None:
        with Source(other, source.name, source.digest) as beside:
            header = _read_header(beside, _Stream(beside))
            beside.drain()
        if not header.alone:
            return _read_voxels(source, _Stream(source), header, room)
    stream = _Stream(source)
    header = _read_header(source, stream)
    if header.alone:
        return _read_voxels(source, stream, header, room)
    other = partner(source.path, ".img")
    if other is None:
        refuse(source.name, "a header alone: the .img file with the voxels is not beside it",
               "put both files into one folder, or save as .nii.gz", "read.pair")  # fmt: skip
    source.drain()
    with Source(other, source.name, source.digest) as beside:
        decoded = _read_voxels(beside, _Stream(beside), header, room)
        beside.drain()
    return decoded


def _read_header(source: Source, stream: _Stream) -> Header:
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
        refuse(source.name, f"truncated: {len(block)} bytes, a header has {size}", _AGAIN, "read.truncated")
    magic = block[4:12] if size == 540 else block[344:348]
    if magic[:4] not in ((b"n+2\0", b"ni2\0") if size == 540 else (b"n+1\0", b"ni1\0")):
        if size == 540 or suffix_of(source.path) not in {".hdr", ".hdr.gz"}:
            text = f"its NIfTI magic is {glimpse(magic)}; n+1, ni1, n+2 or ni2 would be right"
            refuse(source.name, text, "an Analyze 7.5 header is read when it is named .hdr", "read.magic")
        return _analyze(source.name, block, order)
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
    least = size if alone else 0
    if not math.isfinite(start) or start != int(start) or (start != 0 and start < least):
        refuse(name, f"vox_offset {start:g} cannot be; voxels start at byte {least} or later", _AGAIN, "read.header")
    if start == 0 and alone:
        start = size + 4.0  # some writers leave it out: behind the header and the four bytes that announce extensions
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


def _read_voxels(source: Source, stream: _Stream, header: Header, room: Room) -> Decoded:
    name, shape, dtype = source.name, header.shape, header.dtype
    need = math.prod(shape) * dtype.itemsize
    if header.start + need > stream.most:
        text = f"the header declares {shape_text(shape)} of {dtype.name} = {size_text(need)}"
        if stream.packed:
            text += f", more than {size_text(source.size)} of gzip can hold (1:{MOST_DEFLATE})"
            refuse(name, text, "the header is wrong or the file is cut off", "read.size")
        refuse(name, f"truncated: {text}, the file holds {size_text(max(source.size - header.start, 0))}",
               _AGAIN, "read.truncated")  # fmt: skip
    gap = header.start - stream.position
    if gap > _FARTHEST:
        text = f"its voxels start at byte {header.start}; a header and its extensions may take {_FARTHEST}"
        refuse(name, text, _AGAIN, "read.header")
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
    left = stream.finish()
    if left or stream.garbage:
        more = size_text(left) if left else "bytes that are not gzip"
        more = f"at least {more}" if stream.packed and left >= _AFTER else more
        notes.append(Note(f"{shown(name)}: {more} after the declared voxels ignored", "warning", "read.trailing"))
    fields: dict[str, object] = {
        "dtype": dtype.name,
        "shape": list(shape),
        "byte_order": "big" if dtype.str[0] == ">" else "little",
        "qform_code": header.qform_code,
        "sform_code": header.sform_code,
    }
    if scaled:
        array = _rescale(name, array, header.slope, header.inter, notes)
        fields |= {"scl_slope": header.slope, "scl_inter": header.inter}
    if any(n == 1 for n in shape[3:]):
        kept = (*shape[:3], *(n for n in shape[3:] if n > 1))
        text = f"{shown(name)}: shape {shape_text(shape)} read as {shape_text(kept)} (axes of length 1 dropped)"
        notes.append(Note(text, code="geometry.dropped"))
        array = array.reshape(kept, order="F")
    spacing, affine = _grid(name, header, notes, fields)
    return Decoded(array, header.format, spacing, affine, notes, fields)


def _scales(name: str, header: Header) -> bool:
    slope, inter = header.slope, header.inter
    if math.isnan(slope) or slope == 0:
        return False
    if not (math.isfinite(slope) and math.isfinite(inter)):
        refuse(name, f"scl_slope {slope:g} and scl_inter {inter:g} must be finite", "correct the header", "read.header")
    return (slope, inter) != (1.0, 0.0)


def _rescale(name: str, array: NDArray[Any], slope: float, inter: float, notes: list[Note]) -> NDArray[Any]:
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


def _grid(
    name: str, header: Header, notes: list[Note], fields: dict[str, object]
) -> tuple[tuple[float, ...] | None, NDArray[np.float64] | None]:
    """Find spacing and affine: sform before qform before pixdim; the last tells lengths only."""
    said = shown(name)
    axes, factor = min(len(header.shape), 3), 1.0
    if header.units in _UNITS:
        unit, factor = _UNITS[header.units]
        notes.append(Note(f"{said}: its unit is {unit}; lengths converted to mm", "warning", "spacing.unit"))
        fields["units"] = unit
    if header.format.startswith("Analyze"):
        text = "Analyze 7.5 does not say which side is left; orientation is not checked"
        notes.append(Note(f"{said}: {text}", "warning", "geometry.analyze"))
    chosen, source = (header.sform, "sform") if header.sform is not None else (header.qform, "qform")
    if chosen is None:
        lengths = header.pixdim[1 : axes + 1]
        if not all(abs(x) <= _LARGEST for x in lengths):
            refuse(
                name,
                f"pixdim {lengths} holds NaN, infinity or a number above {_LARGEST:g}",
                "correct the header",
                "read.affine",
            )
        if 0.0 in lengths:
            notes.append(
                Note(f"{said}: pixdim holds 0, so the spacing is unknown; give --spacing", "warning", "spacing.unknown")
            )
            return None, None
        if min(lengths) < 0:
            notes.append(
                Note(f"{said}: pixdim is negative; its absolute value is the spacing", code="spacing.negative")
            )
        if not header.format.startswith("Analyze"):
            notes.append(
                Note(
                    f"{said}: neither qform nor sform: spacing from pixdim, orientation unknown", code="geometry.pixdim"
                )
            )
        return tuple(abs(x) * factor for x in lengths), None
    affine = chosen.copy()
    affine[:3] *= factor
    if not (np.abs(affine) <= _LARGEST).all():
        text = f"its {source} affine holds NaN, infinity or a number above {_LARGEST:g} mm"
        refuse(name, text, "correct the header", "read.affine")
    spacing = spacing_of(affine, axes)
    with np.errstate(all="ignore"):
        volume = np.linalg.matrix_rank(affine[:3, :axes] / np.asarray(spacing)) if min(spacing) > 0 else 0
    if volume < axes or not all(math.isfinite(s) for s in spacing):
        refuse(name, f"its {source} affine is singular: spacing {' x '.join(f'{s:g}' for s in spacing)} mm",
               "correct the header", "read.affine")  # fmt: skip
    if header.sform is not None and header.qform is not None:
        other = header.qform.copy()
        other[:3] *= factor
        with np.errstate(all="ignore"):
            apart = offset(other, affine, header.shape)
        if not apart <= _FORMS_AGREE:  # also when it is NaN
            notes.append(Note(f"{said}: qform and sform disagree; sform is used", "warning", "geometry.forms"))
    if is_sheared(affine, axes):
        notes.append(
            Note(f"{said}: its affine is sheared; distances take the axes as orthogonal", "warning", "geometry.sheared")
        )
    return spacing, affine
