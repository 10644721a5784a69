"""Files that segcli knows but does not read: how they begin, and what makes a mask of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcli.masks.formats.record import GZIP, Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

_TO_NIFTI = 'python -c "import SimpleITK as s; s.WriteImage(s.ReadImage({name!r}), {nifti!r})"'
_TO_PNG = 'python -c "from PIL import Image; Image.open({name!r}).save({png!r})"'
_TO_NPY = "open it in Python and numpy.save() the mask as an array"
#: One line that converts a file, by its suffix.
CONVERSIONS: Mapping[str, str] = {
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), _TO_NIFTI),
    **dict.fromkeys((".tif", ".tiff"), _TO_PNG + " (a 3-D stack: as .nii.gz with SimpleITK)"),
    **dict.fromkeys((".gif", ".bmp", ".webp"), _TO_PNG),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "segimage2itkimage --inputDICOM {name!r} --outputType nii (dcmqi)"),
    **dict.fromkeys((".mgz", ".mgh"), "mri_convert {name!r} {nifti!r}"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".pt", ".pth", ".pkl", ".pickle", ".zarr"), _TO_NPY),
}
#: Lossy whatever they are called: there is nothing to convert.
JPEG_SUFFIXES = (".jpg", ".jpeg")
#: What files hold, by all the marks that say so.
MARKS: tuple[tuple[str, tuple[Mark, ...]], ...] = (
    ("gzip", (Mark(0, GZIP),)),
    ("JPEG", (Mark(0, b"\xff\xd8\xff"),)),
    ("LFS", (Mark(0, b"version https://git-lfs"),)),
    ("TIFF", (Mark(0, b"II*\0"),)),
    ("TIFF", (Mark(0, b"MM\0*"),)),
    ("GIF", (Mark(0, b"GIF8"),)),
    ("NRRD", (Mark(0, b"NRRD000"),)),
    ("MetaImage", (Mark(0, b"ObjectType"),)),
    ("HDF5", (Mark(0, b"\x89HDF"),)),
    ("DICOM", (Mark(128, b"DICM"),)),
    ("bzip2", (Mark(0, b"BZh"),)),
    ("xz", (Mark(0, b"\xfd7zXZ\0"),)),
    ("Zstandard", (Mark(0, b"\x28\xb5\x2f\xfd"),)),
    ("7-Zip", (Mark(0, b"7z\xbc\xaf"),)),
    ("RAR", (Mark(0, b"Rar!"),)),
    ("tar", (Mark(257, b"ustar"),)),
    ("WebP", (Mark(0, b"RIFF"), Mark(8, b"WEBP"))),
    ("JPEG 2000", (Mark(0, b"\0\0\0\x0cjP"),)),
    ("BMP", (Mark(0, b"BM"), Mark(6, b"\0\0\0\0"))),
    ("PDF", (Mark(0, b"%PDF"),)),
    ("MATLAB", (Mark(0, b"MATLAB 5.0"),)),
    ("netCDF", (Mark(0, b"CDF"),)),
    ("FITS", (Mark(0, b"SIMPLE  ="),)),
    ("Parquet", (Mark(0, b"PAR1"),)),
)
#: What a web server sends instead of a file that needs a login, or that it does not have.
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error")
#: What unpacks an archive.
UNPACKERS = {
    "bzip2": "bunzip2", "xz": "unxz", "Zstandard": "unzstd", "7-Zip": "7z x", "RAR": "unrar x", "tar": "tar xf"
}  # fmt: skip


def conversion(name: str, suffix: str) -> str:
    """Return one line that converts this file; empty where none is known."""
    stem = name[: len(name) - len(suffix)]
    return CONVERSIONS.get(suffix, "").format(name=name, nifti=stem + ".nii.gz", png=stem + ".png")
