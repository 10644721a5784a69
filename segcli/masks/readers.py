"""Files in, masks out: `read` opens a file by its first bytes, `from_array` takes an array in memory.

Content decides which reader is used wherever it can; the suffix decides only where it must (`.img` has
no mark of its own). A declared size is held against the file and against memory before anything is
allocated, so a header that lies costs nothing. Nothing heavy is imported before a file is really read.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self, cast, get_args

from segcli.errors import InputError, UsageError
from segcli.masks.mask import Mask, MaskKind, Note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

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
)  # fmt: skip
_READ = ("gzip", "PNG", "NPY", "ZIP", "NIfTI")
#: Deflate never shrinks anything more than this.
MOST_DEFLATE = 1032
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


def read(
    path: str | os.PathLike[str],
    *,
    kind: MaskKind | None = None,
    prob_scale: float | None = None,
    colors: str | None = None,
    max_voxels: int | None = None,
    sha256: bool = False,
) -> Mask:
    """Read one mask: NIfTI-1/2 (also pairs), Analyze 7.5, PNG, NPY or NPZ (`file.npz:key` picks an array).

    `kind` says by hand what the numbers are, `prob_scale` divides a scaled probability map, `colors`
    decodes an RGB image (`packed`, `voc` or a CSV file). Without `max_voxels` an array may take half
    of the memory that is available (2**31 voxels where the system does not tell). The checksum is
    that of the file as stored; of a `.hdr`/`.img` pair, of the header followed by the image.
    Raises `InputError` for a file that cannot be used and `UsageError` for options that cannot be.
    """
    _check_options(kind, prob_scale, max_voxels)
    name = os.fsdecode(path)
    digest = hashlib.sha256() if sha256 else None
    try:
        target, key = _split_key(name)
        with Source(target, name, digest) as source:
            decoded = _decode(source, key, colors, Room(max_voxels))
            source.drain()
        return _mask(name, decoded, kind, prob_scale, digest.hexdigest() if digest else "")
    except MemoryError:
        refuse(name, "not enough memory to read it", "close other programs or use a machine with more", "read.size")
    except OSError as error:
        refuse(
            name, f"cannot be read: {error.strerror or error}", "check the name, the disk and the connection", "read.io"
        )


def from_array(
    array: object,
    *,
    name: str,
    kind: MaskKind | None = None,
    prob_scale: float | None = None,
    spacing: Sequence[float] | None = None,
    max_voxels: int | None = None,
) -> Mask:
    """Take an array in memory (anything `numpy.asarray` understands) by the same rules as a file.

    `spacing` is in mm, one number for each axis of the array, or for all but one when that one holds
    the channels. Integer arrays are not copied.
    """
    import numpy as np

    _check_options(kind, prob_scale, max_voxels)
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        refuse(name, "a masked array with hidden voxels", "fill them first: array.filled(value)", "read.dtype")
    try:
        plain = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        refuse(name, f"not an array: {_line(error)}", "give numbers of one type and a regular shape", "read.dtype")
    Room(max_voxels).check(name, plain.shape, 1)
    sizes = None if spacing is None else tuple(float(s) for s in spacing)
    if sizes is not None:
        if not all(math.isfinite(s) and s > 0 for s in sizes):
            raise UsageError(f"{shown(name)}: spacing {sizes} must be finite and above 0", code="geometry.spacing")
        if len(sizes) not in (plain.ndim, plain.ndim - 1):
            text = f"{shown(name)}: {len(sizes)} spacings for an array of {plain.ndim} axes"
            raise UsageError(text, hint="give one for each axis, in array order", code="geometry.spacing")
    return _mask(name, Decoded(plain, "array", sizes), kind, prob_scale, "")


def _mask(name: str, decoded: Decoded, kind: MaskKind | None, prob_scale: float | None, digest: str) -> Mask:
    from segcli.masks import arrays

    decoded.header.setdefault("dtype", str(decoded.array.dtype))
    array, found, said = arrays.meaning(
        name, decoded.array, kind=kind, prob_scale=prob_scale, explicit=decoded.explicit
    )
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


def _decode(source: Source, key: str | None, colors: str | None, room: Room) -> Decoded:
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

        decoded = nifti.read(source, room)
    elif found == "PNG":
        from segcli.masks import image

        decoded = image.read(source, room, colors)
    elif found in {"NPY", "ZIP"}:
        from segcli.masks import arrays

        decoded = arrays.read_npy(source, room) if found == "NPY" else arrays.read_npz(source, key, room)
    elif found:
        refuse(name, f"holds {found} data, which is not read", "convert it to NIfTI, PNG, NPY or NPZ", "read.magic")
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
    return next((word for at, magic, word in _MAGIC if head[at : at + len(magic)] == magic), "")


def glimpse(data: bytes) -> str:
    """Show the first bytes on one line."""
    return ascii(data[:16])[1:]


def shown(name: str) -> str:
    """Return a file name as given, except characters that would break the line or drive a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def refuse(name: str, text: str, hint: str = "", code: str = "") -> NoReturn:
    """Raise the `InputError` that says `name: text`."""
    raise InputError(f"{shown(name)}: {text}.", hint=shown(hint), code=code)


def _line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))[:200]


def size_text(count: int) -> str:
    """Return a number of bytes in the unit a person would use."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB", "EB"):
        if size < 1000 or unit == "EB":
            break
        size /= 1000
    return f"{size:.3g} {unit}" if unit != "bytes" else f"{count} bytes"


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

    def rewound(self) -> BinaryIO:
        """Take the checksum of the whole file now and return the file for reading in any order."""
        self.drain()
        self.digest = None
        self._file.seek(0)
        return cast("BinaryIO", self._file)

    def drain(self) -> None:
        """Read what is left, when a checksum is wanted."""
        while self.digest is not None and self.read(_STEP):
            pass
