"""NIfTI-1 and NIfTI-2, also as pairs and packed, and Analyze 7.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segcli.masks.formats import nifti_names as names
from segcli.masks.formats.record import Asked, Format, Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.masks.source import Decoded, Source


def _header(source: Source, _: str | None) -> Decoded:
    from segcli.masks.formats import nifti_voxels

    return nifti_voxels.look(source)


def _voxels(source: Source, asked: Asked) -> Decoded:
    from segcli.masks.formats import nifti_voxels

    return nifti_voxels.read(source, asked.room)


def _encode(
    values: NDArray[np.float64], spacing: tuple[float, ...], affine: NDArray[Any] | None, _: int, suffix: str
) -> bytes:
    """Return a map as NIfTI-1; its channels are on the last axis, where a viewer looks for them."""
    import gzip

    import nibabel as nib
    import numpy as np

    if values.ndim == len(spacing) + 1:
        values = np.moveaxis(values, 0, -1)
    if affine is None:
        affine = np.diag([*spacing, *(1.0,) * (3 - len(spacing)), 1.0])
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    data: bytes = image.to_bytes()
    return gzip.compress(data, 6, mtime=0) if suffix.endswith(".gz") else data


NIFTI = Format(
    name="NIfTI",
    suffixes=names.SUFFIXES,
    marks=names.MARKS,
    unmarked=names.VOXELS,
    gzipped=True,
    halves=names.HALVES,
    order="xyz",
    channels_last=True,
    header=_header,
    voxels=_voxels,
    writer=Writer((".nii", ".nii.gz"), _encode),
)
