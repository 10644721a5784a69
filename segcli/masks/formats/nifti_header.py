"""The header of a NIfTI or Analyze file. nibabel takes it apart; only what it says about itself is trusted so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segcli.masks.formats.nifti_names import HEADERS, SUFFIXES
from segcli.masks.formats.record import OtherContent, ending
from segcli.masks.source import Source, glimpse, refuse, shape_text
from segcli.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.masks.stream import Stream

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {0: "of unknown type", 1: "single bits", 32: "complex numbers", 1792: "complex numbers",
                2048: "complex numbers", 128: "RGB colours", 2304: "RGBA colours", 1536: "128-bit floats"}  # fmt: skip
_ORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_AGAIN = "write or download it again"


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


def of_block(name: str, block: bytes, order: str) -> Header:
    """Return the header of a NIfTI image in memory, from the bytes that would begin its file."""
    magic = block[4:12] if len(block) == 540 else block[344:348]
    return _nifti(name, block, order, len(block), alone=magic[1:2] == b"+")


def read_header(source: Source, stream: Stream) -> Header:
    """Take the header from the first bytes of a file; raise `OtherContent` where they are of no NIfTI file."""
    block = stream.read(348)
    sizes = {n.to_bytes(4, word): (n, order) for order, word in _ORDER.items() for n in (348, 540)}
    size, order = sizes.get(block[:4], (0, ""))
    if not size:
        raise OtherContent(block, packed=stream.packed)
    block += stream.read(size - 348) if len(block) == 348 and size > 348 else b""
    if len(block) < size:
        refuse(source.name, f"truncated: {counted(len(block), 'byte')}, a header has {size}", _AGAIN, "read.truncated")
    magic = block[4:12] if size == 540 else block[344:348]
    if magic[:4] not in ((b"n+2\0", b"ni2\0") if size == 540 else (b"n+1\0", b"ni1\0")):
        if size == 540 or ending(source.path, SUFFIXES) not in HEADERS:
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
