"""Files in, masks out: `read` opens a file by its first bytes, `from_array` takes an array in memory.

Content decides which reader is used wherever it can; the suffix decides only where it must (`.img` has
no mark of its own). A declared size is held against the file and against memory before anything is
allocated, so a header that lies costs nothing. Nothing heavy is imported before a file is really read.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from segcli.errors import UsageError, keywords_checked
from segcli.masks.mask import Mask, MaskKind, Note
from segcli.masks.source import Decoded, Room, Source, glimpse, refuse, shown, trailing
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: What segcli reads, by suffix (matched without regard to case), and the format it stands for.
SUFFIXES: Mapping[str, str] = {
    ".nii.gz": "NIfTI", ".nii": "NIfTI", ".hdr": "NIfTI", ".img": "NIfTI", ".hdr.gz": "NIfTI", ".img.gz": "NIfTI",
    ".png": "PNG", ".npy": "NPY", ".npz": "NPZ",
}  # fmt: skip

_TO_NIFTI = 'python -c "import SimpleITK as s; s.WriteImage(s.ReadImage({name!r}), {nifti!r})"'
_TO_PNG = 'python -c "from PIL import Image; Image.open({name!r}).save({png!r})"'
_TO_NPY = "open it in Python and numpy.save() the mask as an array"
#: Formats segcli knows by name but does not read, with one line that converts them.
_FOREIGN: Mapping[str, str] = {
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), _TO_NIFTI),
    **dict.fromkeys((".tif", ".tiff"), _TO_PNG + " (a 3-D stack: as .nii.gz with SimpleITK)"),
    **dict.fromkeys((".gif", ".bmp", ".webp"), _TO_PNG),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "segimage2itkimage --inputDICOM {name!r} --outputType nii (dcmqi)"),
    **dict.fromkeys((".mgz", ".mgh"), "mri_convert {name!r} {nifti!r}"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".pt", ".pth", ".pkl", ".pickle", ".zarr"), _TO_NPY),
}  # fmt: skip
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "gzip"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"\x93NUMPY", "NPY"),
    (0, b"PK\x03\x04", "ZIP"), (0, b"PK\x05\x06", "ZIP"), (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x5c\x01\0\0", "NIfTI"), (0, b"\0\0\x01\x5c", "NIfTI"),
    (0, b"\x1c\x02\0\0", "NIfTI"), (0, b"\0\0\x02\x1c", "NIfTI"),
    (0, b"version https://git-lfs", "LFS"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"GIF8", "GIF"),
    (0, b"NRRD000", "NRRD"), (0, b"ObjectType", "MetaImage"), (0, b"\x89HDF", "HDF5"), (128, b"DICM", "DICOM"),
    (0, b"BZh", "bzip2"), (0, b"\xfd7zXZ\0", "xz"), (0, b"\x28\xb5\x2f\xfd", "Zstandard"), (0, b"7z\xbc\xaf", "7-Zip"),
    (0, b"Rar!", "RAR"), (257, b"ustar", "tar"), (8, b"WEBP", "WebP"), (0, b"\0\0\0\x0cjP", "JPEG 2000"),
    (6, b"\0\0\0\0", "BMP"), (0, b"%PDF", "PDF"), (0, b"MATLAB 5.0", "MATLAB"), (0, b"CDF", "netCDF"),
    (0, b"SIMPLE  =", "FITS"), (0, b"PAR1", "Parquet"),
)  # fmt: skip
#: First bytes that say so only together with another mark of theirs.
_BOTH: Mapping[str, bytes] = {"WebP": b"RIFF", "BMP": b"BM", "bzip2": b"BZh"}
#: What is taken where a mask is asked for.
_TAKEN = "give a path, an array, a tensor, or an image of nibabel, SimpleITK or Pillow"
#: What a web server sends instead of a file that needs a login, or that it does not have.
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error")
_PACKED = {"bzip2": "bunzip2", "xz": "unxz", "Zstandard": "unzstd", "7-Zip": "7z x", "RAR": "unrar x", "tar": "tar xf"}
_READ = ("gzip", "PNG", "NPY", "ZIP", "NIfTI")


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
        target, key = _split_key(name)
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
        target, key = _split_key(name)
        with Source(target, name) as source:
            found = _decode(source, key, None, None)
    except OSError as error:
        refuse(name, f"cannot be read: {error.strerror or error}", "check the name and the disk", "read.io")
    found.header.setdefault("dtype", str(found.array.dtype))
    notes = tuple(found.notes)
    return Mask(name, found.array, "labels", found.format, found.spacing, found.affine, None, notes, "", found.header)


def raw(path: str | os.PathLike[str], *, colors: str | None = None, max_voxels: int | None = None) -> Decoded:
    """Read the numbers of a file and ask nothing of what they mean; raises `InputError` as `read` does."""
    name = os.fsdecode(path)
    target, key = _split_key(name)
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
    notes = (*decoded.notes, *said)
    return Mask(
        name, array, found, decoded.format, decoded.spacing, decoded.affine, None, notes, digest, decoded.header
    )


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


def _split_key(name: str) -> tuple[str, str | None]:
    """Split `file.npz:key`; a file that really has that name wins."""
    at = name.lower().rfind(".npz:")
    if at < 0 or "\0" in name or os.path.lexists(name):
        return name, None
    return name[: at + 4], name[at + 5 :]


def _decode(source: Source, key: str | None, colors: str | None, room: Room | None) -> Decoded:
    """Read a file by the format that it has; without `room` its header only, with an array of no memory."""
    name, suffix, found = source.name, suffix_of(source.path), sniff(source.head)
    if found == "LFS":
        refuse(name, "a Git LFS pointer, not the file itself", "git lfs pull", "read.lfs")
    beside = suffix in {".img", ".img.gz"} and partner(source.path, ".hdr") is not None
    if found == "JPEG" and not beside:
        hint = "JPEG changes label values at every edge; export the mask as PNG from its source"
        refuse(name, "holds a JPEG image: lossy, so its values are not labels", hint, "read.lossy")
    if suffix in _FOREIGN:
        stem = source.path[: -len(suffix)]
        hint = _FOREIGN[suffix].format(name=source.path, nifti=stem + ".nii.gz", png=stem + ".png")
        if found in _READ:
            hint = f"the content looks like {found}: give it the suffix of what it is"
        refuse(name, f"{suffix} files are not read; known suffixes: {', '.join(SUFFIXES)}", hint, "read.suffix")
    if found in {"NIfTI", "gzip"} or suffix in {".img", ".img.gz"}:
        from segcli.masks import nifti

        decoded = nifti.look(source) if room is None else nifti.read(source, room)
    elif found == "PNG":
        from segcli.masks import image

        decoded = image.look(source) if room is None else image.read(source, room, colors)
    elif found == "NPY":
        from segcli.masks import numpy_files

        decoded = numpy_files.read_npy(source, room)
    elif found == "ZIP":
        from segcli.masks import numpy_files

        decoded = numpy_files.read_npz(source, key, room)
    elif found:
        named = f"named {suffix}, but it " if suffix in SUFFIXES else ""
        hint = "convert it to NIfTI, PNG, NPY or NPZ"
        if found in _PACKED:
            hint = f"unpack it: {_PACKED[found]}"
        elif found == "HTML or XML":
            hint = "a web page instead of the file: download it again, with the login that it needs"
        refuse(name, f"{named}holds {found} data, which is not read", hint, "read.magic")
    elif suffix in SUFFIXES:
        text = f"not a {SUFFIXES[suffix]} file: it begins with {glimpse(source.head)}"
        refuse(name, text, "check how it was written or downloaded", "read.magic")
    else:
        text = f"suffix {suffix!r} is unknown" if suffix else "no known suffix"
        text += f" and the first bytes ({glimpse(source.head)}) are of no known format; known: {', '.join(SUFFIXES)}"
        refuse(name, text, "convert it to NIfTI, PNG, NPY or NPZ", "read.suffix")
    if key is not None and decoded.format != "NPZ":
        refuse(name, f"only NPZ files have keys; this is {decoded.format}", "leave out the part after ':'", "read.npz")
    if colors is not None and decoded.format != "PNG":
        decoded.notes.append(Note(f"{shown(name)}: --colors is for images; not used here", code="read.colors"))
    wanted = SUFFIXES.get(suffix)
    if wanted and wanted != ("NIfTI" if decoded.format.startswith(("NIfTI", "Analyze")) else decoded.format):
        text = f"{shown(name)}: named {suffix}, but the content is {decoded.format}; read as that"
        decoded.notes.append(Note(text, "warning", "read.suffix"))
    return decoded


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, `.nii.gz` as one; empty when there is none."""
    low = os.path.basename(name).lower()  # noqa: PTH119 (asked of every file of a cohort)
    return next((s for s in SUFFIXES if low.endswith(s)), "") or Path(low).suffix


def how_to_convert(suffix: str) -> str:
    """Return one line that converts a file with this suffix to one that is read; empty where none is known."""
    if suffix in (".jpg", ".jpeg"):
        return "JPEG changes label values at every edge; export the masks as PNG from their source"
    name = f"FILE{suffix}"
    return _FOREIGN.get(suffix, "").format(name=name, nifti="FILE.nii.gz", png="FILE.png")


def partner(path: str, wanted: str) -> str | None:
    """Return the other file of a `.hdr`/`.img` pair, packed or not, when it is there."""
    stem = path[: len(path) - len(suffix_of(path))]
    endings = [wanted, wanted.upper(), wanted + ".gz", wanted.upper() + ".GZ"]
    if path[len(stem) :].isupper():
        endings = [endings[1], endings[0], endings[3], endings[2]]
    return next((stem + e for e in endings if stem + e != path and os.path.lexists(stem + e)), None)


def files_of(name: str) -> list[Path]:
    """Return the files that a mask is made of: one, or the header and the image of a `.hdr`/`.img` pair."""
    target = _split_key(name)[0]
    if suffix_of(target).removesuffix(".gz") not in (".hdr", ".img"):
        return [Path(target)]
    header, image = partner(target, ".hdr"), partner(target, ".img")
    pair = (header, target) if image is None or header is not None else (target, image)
    return [Path(part) for part in pair if part is not None]


def sniff(head: bytes) -> str:
    """Name the format whose mark the first bytes carry; empty when there is none."""
    if head.lstrip()[:9].lower().startswith(_PAGES):
        return "HTML or XML"
    found = (word for at, magic, word in _MAGIC if head[at : at + len(magic)] == magic)
    return next((word for word in found if head.startswith(_BOTH.get(word, b""))), "")


def _line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))[:200]
