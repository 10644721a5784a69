"""Files in, masks out: `read` opens a file by its first bytes, `from_array` takes an array in memory.

Content decides which reader is used wherever it can; the suffix decides only where it must (`.img` has
no mark of its own). A declared size is held against the file and against memory before anything is
allocated, so a header that lies costs nothing. Nothing heavy is imported before a file is really read.
"""

from __future__ import annotations

import hashlib
import math
import os
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from segcli.errors import UsageError, keywords_checked
from segcli.masks.files import (
    BY_SUFFIX,
    FORMAT_NAMES,
    format_of,
    has_header_beside,
    sniff,
    split_key,
    suffix_of,
)
from segcli.masks.formats import FORMATS
from segcli.masks.formats.foreign import UNPACKERS, conversion
from segcli.masks.formats.record import Asked, OtherContent
from segcli.masks.mask import Mask, MaskKind, Note
from segcli.masks.source import Decoded, Room, Source, glimpse, refuse, shown, trailing
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: What is taken where a mask is asked for.
_TAKEN = "give a path, an array, a tensor, or an image of nibabel, SimpleITK or Pillow"


@keywords_checked()
def read(
    path: str | os.PathLike[str],
    *,
    kind: MaskKind | None = None,
    prob_scale: float | None = None,
    colors: str | None = None,
    max_voxels: int | None = None,
    sha256: bool = False,
    rounded: bool = False,
) -> Mask:
    """Read one mask: NIfTI-1/2 (also pairs), Analyze 7.5, PNG, NPY or NPZ (`file.npz:key` picks an array).

    `kind` says by hand what the numbers are, `prob_scale` divides a scaled probability map, `rounded` takes labels
    that are a little off to whole numbers, `colors` decodes an RGB image (`packed`, `voc` or a CSV file). Without
    `max_voxels` an array may take half of the memory that is available (2**31 voxels where the system does not tell).
    The checksum is that of the file as stored; of a `.hdr`/`.img` pair, of the header followed by the image.
    Raises `InputError` for a file that cannot be used and `UsageError` for options that cannot be.
    """
    _check_options(kind, prob_scale, max_voxels)
    name = os.fsdecode(path)
    digest = hashlib.sha256() if sha256 else None
    try:
        target, key = split_key(name)
        with Source(target, name, digest) as source:
            decoded = _decode(source, key, colors, Room(max_voxels))
            source.drain(trailing(decoded.array.nbytes))
        return _mask(name, decoded, kind, prob_scale, digest.hexdigest() if digest else "", rounded)
    except MemoryError:
        refuse(name, "not enough memory to read it", "close other programs or use a machine with more", "read.size")
    except OSError as error:
        refuse(name, f"cannot be read: {error.strerror or error}", "check the name, disk and connection", "read.io")


def look(path: str | os.PathLike[str]) -> Mask:
    """Return what the header of a file declares: its array takes no memory and holds zeros only.

    Raises `InputError` as `read` does, for what a header can tell.
    """
    name = os.fsdecode(path)
    try:
        target, key = split_key(name)
        with Source(target, name) as source:
            found = _decode(source, key, None, None)
    except OSError as error:
        refuse(name, f"cannot be read: {error.strerror or error}", "check the name and the disk", "read.io")
    found.header.setdefault("dtype", str(found.array.dtype))
    return _of(found, name, found.array, "labels", tuple(found.notes))


def raw(path: str | os.PathLike[str], *, colors: str | None = None, max_voxels: int | None = None) -> Decoded:
    """Read the numbers of a file and ask nothing of what they mean; raises `InputError` as `read` does."""
    name = os.fsdecode(path)
    target, key = split_key(name)
    with Source(target, name) as source:
        return _decode(source, key, colors, Room(max_voxels))


def from_array(
    array: object,
    *,
    name: str,
    kind: MaskKind | None = None,
    prob_scale: float | None = None,
    spacing: Sequence[float] | None = None,
    colors: str | None = None,
    max_voxels: int | None = None,
    rounded: bool = False,
) -> Mask:
    """Take an array in memory (anything `numpy.asarray` understands) by the same rules as a file.

    So are images of nibabel, SimpleITK, ITK and Pillow, and tensors (`segcli.masks.objects`), with the grid that
    they have. `spacing` is in mm, one number for each axis of the array, or for all but one when that one holds
    the channels. Integer arrays are not copied.
    """
    import numpy as np

    _check_options(kind, prob_scale, max_voxels)
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        refuse(name, "a masked array with hidden voxels", "fill them first: array.filled(value)", "read.dtype")
    found = None
    if not isinstance(array, (np.ndarray, list, tuple)):
        from segcli.masks import objects

        found = objects.decoded(name, array, colors)
    try:
        plain = np.asarray(array) if found is None else found.array
    except (TypeError, ValueError, RuntimeError) as error:
        refuse(name, f"not an array: {_line(error)}", "give numbers of one type and a regular shape", "read.dtype")
    if plain.dtype.kind == "O" or isinstance(array, (int, float)):
        kind_of = type(array).__name__
        what = "a list of Python objects" if isinstance(array, (list, tuple)) else f"a value of type {kind_of}"
        refuse(name, f"{what} is no mask", _TAKEN, "read.dtype")
    if plain.dtype.kind == "V" and plain.dtype.name.startswith(("bfloat", "float")):
        plain = plain.astype(np.float32)  # a type of ml_dtypes, as JAX has it
    Room(max_voxels).check(name, plain.shape, 1)
    sizes = None if spacing is None else tuple(float(s) for s in spacing)
    if sizes is not None:
        if not all(math.isfinite(s) and s > 0 for s in sizes):
            raise UsageError(f"{shown(name)}: spacing {sizes} must be finite and above 0", code="geometry.spacing")
        if len(sizes) not in (plain.ndim, plain.ndim - 1):
            text = f"{shown(name)}: {counted(len(sizes), 'spacing')} for {counted(plain.ndim, 'axis', 'axes')}"
            raise UsageError(text, hint="give one for each axis, in array order", code="geometry.spacing")
    found = found or Decoded(plain, "array")
    found.spacing = found.spacing if sizes is None else sizes
    return _mask(name, found, kind, prob_scale, "", rounded)


def _mask(
    name: str, decoded: Decoded, kind: MaskKind | None, prob_scale: float | None, digest: str, rounded: bool
) -> Mask:
    from segcli.masks import arrays

    decoded.header.setdefault("dtype", str(decoded.array.dtype))
    how: Any = {"kind": kind, "prob_scale": prob_scale, "rounded": rounded}
    array, found, said = arrays.meaning(name, decoded.array, explicit=decoded.explicit, off=decoded.off, **how)
    return _of(decoded, name, array, found, (*decoded.notes, *said), digest)


def _of(
    decoded: Decoded, name: str, array: NDArray[Any], kind: MaskKind, notes: tuple[Note, ...], digest: str = ""
) -> Mask:
    return Mask(
        name, array, kind, decoded.format, decoded.spacing, decoded.affine, None, notes, digest, decoded.header,
        decoded.order, decoded.channels_last,
    )  # fmt: skip


def _check_options(kind: str | None, prob_scale: float | None, max_voxels: int | None) -> None:
    if kind is not None and kind not in get_args(MaskKind):
        raise UsageError(f"kind {kind!r} is not one of {', '.join(get_args(MaskKind))}", code="kind.unknown")
    if prob_scale is not None:
        if not (math.isfinite(prob_scale) and prob_scale > 0):
            raise UsageError(f"prob-scale {prob_scale} is outside (0, inf)", hint="for 8 bits: 255", code="kind.scale")
        if kind not in (None, "probability"):
            raise UsageError(f"prob-scale makes probabilities, but kind is {kind!r}", code="kind.scale")
    if max_voxels is not None and max_voxels < 1:
        raise UsageError(f"max-voxels {max_voxels} is outside [1, inf)", code="read.size")


def _decode(source: Source, key: str | None, colors: str | None, room: Room | None) -> Decoded:
    """Read a file by the format that it has; without `room` its header only, with an array of no memory."""
    name, suffix, found = source.name, suffix_of(source.path), sniff(source.head)
    if found == "LFS":
        refuse(name, "a Git LFS pointer, not the file itself", "git lfs pull", "read.lfs")
    if found == "JPEG" and not has_header_beside(source.path):
        hint = "JPEG changes label values at every edge; export the mask as PNG from its source"
        refuse(name, "holds a JPEG image: lossy, so its values are not labels", hint, "read.lossy")
    own, form = BY_SUFFIX.get(suffix), format_of(source.head, suffix)
    if own is None and (hint := conversion(source.path, suffix)):
        if form is not None:
            hint = f"the content looks like {found}: give it the suffix of what it is"
        refuse(name, f"{suffix} files are not read; known suffixes: {', '.join(BY_SUFFIX)}", hint, "read.suffix")
    if form is None:
        _refuse_unknown(source, suffix, found)
    try:
        decoded = form.header(source, key) if room is None else form.voxels(source, Asked(room, key, colors))
    except OtherContent as other:
        what = sniff(other.block) or f"data that begin with {glimpse(other.block)}"
        inside = f"a gzip file that holds {what}" if other.packed else f"begins with {glimpse(other.block)}"
        text = f"not a {form.name} file: {inside}"
        refuse(name, text, "check how it was written or downloaded", "read.magic")
    decoded.order, decoded.channels_last = form.order, form.channels_last
    if key is not None and not form.keyed:
        keyed = " and ".join(each.name for each in FORMATS if each.keyed)
        text = f"only {keyed} files have keys; this is {decoded.format}"
        refuse(name, text, "leave out the part after ':'", "read.npz")
    if colors is not None and not form.coloured:
        decoded.notes.append(Note(f"{shown(name)}: --colors is for images; not used here", code="read.colors"))
    if own is not None and own is not form:
        text = f"{shown(name)}: named {suffix}, but the content is {decoded.format}; read as that"
        decoded.notes.append(Note(text, "warning", "read.suffix"))
    return decoded


def _refuse_unknown(source: Source, suffix: str, found: str) -> NoReturn:
    """Refuse a file of no format that is read; `found` names what it holds, where that is known."""
    name, own = source.name, BY_SUFFIX.get(suffix)
    if found:
        named = "" if own is None else f"named {suffix}, but it "
        hint = f"convert it to {FORMAT_NAMES}"
        if found in UNPACKERS:
            hint = f"unpack it: {UNPACKERS[found]}"
        elif found == "HTML or XML":
            hint = "a web page instead of the file: download it again, with the login that it needs"
        refuse(name, f"{named}holds {found} data, which is not read", hint, "read.magic")
    if own is not None:
        text = f"not a {own.name} file: it begins with {glimpse(source.head)}"
        refuse(name, text, "check how it was written or downloaded", "read.magic")
    text = f"suffix {suffix!r} is unknown" if suffix else "no known suffix"
    text += f" and the first bytes ({glimpse(source.head)}) are of no known format; known: {', '.join(BY_SUFFIX)}"
    refuse(name, text, f"convert it to {FORMAT_NAMES}", "read.suffix")


def _line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))[:200]
