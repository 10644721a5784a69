"""How NIfTI files are called, and how they begin."""

from __future__ import annotations

from segcli.masks.formats.record import Halves, Mark

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".hdr.gz", ".img.gz")
HALVES = Halves(".hdr", ".img")
HEADERS = (".hdr", ".hdr.gz")
#: The voxels of a pair have no mark of their own.
VOXELS = (".img", ".img.gz")
#: The length of the header, 348 or 540, in either byte order; Analyze 7.5 begins like NIfTI-1.
MARKS = tuple(Mark(0, length.to_bytes(4, order)) for length in (348, 540) for order in ("little", "big"))
