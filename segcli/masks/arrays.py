"""NPY and NPZ files, and what the numbers of any array mean: labels, probabilities or logits.

Headers are parsed here and never executed; pickles are never loaded. The size a header declares is
compared with the file before a byte is allocated.
"""

from __future__ import annotations

import ast
import math
import re
import struct
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.masks.mask import MaskKind, Note
from segcli.masks.readers import MOST_DEFLATE, Decoded, Room, Source, glimpse, refuse, shape_text, shown, size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: A probability may leave [0, 1] by this much: float32 softmax gives 1.0000001, 255 * float32(1/255) 1.00000006.
ROUNDING = 1e-6
#: More distinct values than this in 8 bits look like a grey picture, not like labels.
MOST_GREYS = 150
_AGAIN = "save the array again with numpy.save"
_HEADER_LIMIT = 10_000
_CHUNK = 1 << 20
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error
)  # fmt: skip
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
_KINDS = {"c": "complex numbers", "O": "Python objects (a pickle, which is never loaded)", "V": "structured records",
          "S": "text", "U": "text", "M": "dates", "m": "time spans"}  # fmt: skip


def meaning(
    name: str, array: NDArray[Any], *, kind: MaskKind | None, prob_scale: float | None, explicit: bool = False
) -> tuple[NDArray[Any], MaskKind, list[Note]]:
    """Decide what an array holds; return it in native byte order with its kind and what has to be said.

    Integers and booleans are labels; so are floats with whole values only, in the smallest integer
    type that holds them. Floats with a fraction, all in [0, 1], are probabilities. Anything else is refused
    unless `kind` says what it is; NaN and infinity are refused always. `explicit` labels are exempt
    from the rule about 8-bit pictures with many values.
    """
    array = _native(name, array)
    if array.ndim == 0 or array.size == 0:
        refuse(name, f"shape {shape_text(array.shape)} has no voxels", "check how it was written", "read.shape")
    if prob_scale is not None:
        array, kind = array / np.float64(prob_scale), "probability"
    if array.dtype.kind in "iu":
        return _of_integers(name, array, kind, explicit)
    low, high = _finite_range(name, array)
    if kind == "logits":
        return array, kind, []
    if kind != "probability" and _whole(array):
        if low < -(2.0**63) or high >= 2.0**63:
            refuse(
                name,
                f"whole values from {low:g} to {high:g} do not fit 64 bits",
                "labels are small numbers: check what was saved",
                "kind.range",
            )
        return array.astype(smallest_integer(int(low), int(high))), "labels", []
    if kind == "labels":
        broken = np.rint(array) != array
        text = f"kind is labels, but {_some(broken)} have a fraction, first {array[_first(broken)]:g}{_at(broken)}"
        refuse(name, text, "--kind probability, or round them first", "kind.fraction")
    if low < -ROUNDING or high > 1 + ROUNDING:
        _refuse_range(name, array, (low, high), kind, prob_scale)
    if low >= 0 and high <= 1:
        return array, "probability", []
    text = f"{shown(name)}: probabilities beyond [0, 1] by rounding ({max(-low, high - 1):.1g}) were set to the bound"
    return np.clip(array, 0, 1), "probability", [Note(text, code="kind.rounding")]


def smallest_integer(low: int, high: int) -> type[np.integer[Any]]:
    """Return the smallest integer type that holds both ends (signed only when it has to be)."""
    return next((t for t in _INTEGERS if np.iinfo(t).min <= low and high <= np.iinfo(t).max), np.int64)


def usable(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse a type that is neither integer, boolean nor real."""
    if dtype.kind not in "biuf":
        what = _KINDS.get(dtype.kind, "values")
        refuse(name, f"holds {what}{'' if dtype.kind == 'V' else f' (dtype {dtype.str})'}; "
               "allowed are integers, booleans and real numbers",
               "save a plain array of labels: numpy.save(file, array.astype('uint8'))", "read.dtype")  # fmt: skip


def _native(name: str, array: NDArray[Any]) -> NDArray[Any]:
    usable(name, array.dtype)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)  # also makes 1 of every odd byte a bool file may hold
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_integers(
    name: str, array: NDArray[Any], kind: MaskKind | None, explicit: bool
) -> tuple[NDArray[Any], MaskKind, list[Note]]:
    if kind is None or kind == "labels":
        if kind is None and not explicit and array.dtype == np.uint8 and (greys := distinct_bytes(array)) > MOST_GREYS:
            text = (
                f"{greys} distinct values in 8 bits (without --kind at most {MOST_GREYS}): labels or a probability map"
            )
            refuse(name, text, "--prob-scale 255 for a probability map, --kind labels for labels", "kind.levels")
        return array, "labels", []
    low, high = int(array.min()), int(array.max())
    if kind == "probability" and (low < 0 or high > 1):
        _refuse_range(name, array, (low, high), kind, None)
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64), kind, []


def distinct_bytes(array: NDArray[np.uint8]) -> int:
    """Count the distinct values, quickly where runs are long: words equal to the one before add nothing."""
    most = int(array.max())
    if most < MOST_GREYS:
        return most + 1  # an upper bound is all that is asked for
    flat = array.ravel(order="K")
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    seen = np.zeros(256, np.bool_)
    seen[flat[flat.size // 8 * 8 :]] = True
    for start in range(0, words.size, _CHUNK):
        part = words[start : start + _CHUNK]
        fresh = np.flatnonzero(part[1:] != part[:-1])
        seen[part[np.append(fresh, part.size - 1)].view(np.uint8)] = True
    return int(np.count_nonzero(seen))


def _finite_range(name: str, array: NDArray[Any]) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        nan, bad = np.isnan(array), ~np.isfinite(array)
        counts = {"NaN": int(np.count_nonzero(nan)), "infinite": int(np.count_nonzero(bad & ~nan))}
        words = " and ".join(f"{count} {word}" for word, count in counts.items() if count)
        refuse(
            name,
            f"{words} of {array.size} voxels, first{_at(bad)}",
            "find out where they come from; numpy.nan_to_num hides them",
            "kind.nan",
        )
    return low, high


def _whole(array: NDArray[Any]) -> bool:
    flat = array.ravel(order="K")
    parts = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    return all(bool((np.rint(part) == part).all()) for part in parts)


def _refuse_range(
    name: str, array: NDArray[Any], ends: tuple[float, float], kind: str | None, prob_scale: float | None
) -> None:
    low, high = ends
    text = f"{_some((array < -ROUNDING) | (array > 1 + ROUNDING))} outside [0, 1] (smallest {low:g}, largest {high:g})"
    if prob_scale is not None:
        refuse(name, f"{text} after dividing by {prob_scale:g}", "give the value that stands for 1", "kind.scale")
    if kind == "probability" or (low >= 0 and array.dtype.kind in "iu"):
        refuse(name, f"kind is probability, but {text}", "--prob-scale 255 for 8 bits, 100 for percent", "kind.range")
    hint = "--from-logits if these are logits; --prob-scale 100 if they are percent"
    refuse(name, f"neither labels nor probabilities: {text}, some with fractions", hint, "kind.range")


def _some(where: NDArray[np.bool_]) -> str:
    return f"{int(np.count_nonzero(where))} of {where.size} values"


def _first(where: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))


def _at(where: NDArray[np.bool_]) -> str:
    return f" at index ({', '.join(str(i) for i in _first(where))})"


def read_npy(source: Source, room: Room) -> Decoded:
    """Read an NPY file of any format version."""
    name = source.name
    dtype, fortran, shape, start = _npy_header(name, source.read)
    _check_declared(name, shape, dtype, source.size - start)
    data = np.empty(room.check(name, shape, dtype.itemsize), np.uint8)
    _expect(name, source.readinto(data.data), data.size)
    decoded = Decoded(data.view(dtype).reshape(shape, order="F" if fortran else "C"), "NPY")
    if extra := source.size - start - data.size:
        decoded.notes.append(_after(name, extra))
    return decoded


def read_npz(source: Source, key: str | None, room: Room) -> Decoded:
    """Read one array of an NPZ archive: the only one, or the one called `key`."""
    name = source.name
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(source.rewound()) as archive:
            warnings.simplefilter("ignore")
            member = _choose(name, archive.infolist(), key)
            with archive.open(member) as stream:
                dtype, fortran, shape, start = _npy_header(name, stream.read)
                _check_declared(name, shape, dtype, member.file_size - start)
                if member.file_size > MOST_DEFLATE * (member.compress_size + 64):
                    text = f"claims {size_text(member.file_size)} from {size_text(member.compress_size)} compressed"
                    refuse(name, f"{text}: more than deflate can hold", _AGAIN, "read.size")
                data = np.empty(room.check(name, shape, dtype.itemsize), np.uint8)
                view, done = data.data, 0
                while done < data.size and (part := stream.read(min(_CHUNK, data.size - done))):
                    view[done : done + len(part)] = part
                    done += len(part)
                _expect(name, done, data.size)
                extra = len(stream.read(_CHUNK))  # reaching the end is what makes zipfile compare the CRC
    except _ZIP_ERRORS as error:
        refuse(name, f"the archive is damaged: {shown(str(error))[:120]}", "write or copy it again", "read.corrupt")
    decoded = Decoded(data.view(dtype).reshape(shape, order="F" if fortran else "C"), "NPZ")
    decoded.header["key"] = member.filename.removesuffix(".npy")
    if extra:
        decoded.notes.append(_after(name, member.file_size - start - data.size))
    return decoded


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
    if len(chosen) > 1:
        refuse(name, f"holds {len(chosen)} arrays with the same name {shown(wanted)!r}", "write it again", "read.npz")
    if chosen[0].flag_bits & 1:
        refuse(name, f"array {shown(wanted)!r} is encrypted", "write it without a password", "read.npz")
    if chosen[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
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
