"""A case on the grid that another tool puts it on: in voxels, or with another voxel size than the file's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.masks.mask import Mask

#: Two voxel sizes that differ by no more than this part are one: both are stored in float32.
_SAME = 1e-6
#: How far a direction may be from orthonormal for ITK to read it.
_ORTHONORMAL = 1e-4


def on_grid(case: Case, grid: str) -> Case:
    """Return a case as a tool sees it.

    That is one that takes no spacing (`voxel`), takes it in reverse order (`reversed`), reads it as ITK does
    (`header`), or does and takes a plane for a volume of one slice (`slab`).
    """
    if grid == "voxel":
        return case.with_spacing((1.0,) * len(case.shape), "voxel")
    if grid == "reversed":
        return case.with_spacing(case.spacing[::-1], case.unit)
    if grid in ("header", "slab"):
        read = case.itk_spacing
        case = case.with_spacing(read, case.unit) if isinstance(read, tuple) else case
        return _slab(case) if grid == "slab" and len(case.shape) == 2 else case
    return case


def unit_on(case: Case, grid: str) -> str:
    """Return the unit of lengths on a grid."""
    return "voxel" if grid == "voxel" else case.unit


def refused(case: Case, grid: str) -> str:
    """Return why a tool that reads files with ITK has no case to measure; nothing where it has."""
    read = case.itk_spacing
    return read if grid in ("header", "slab") and isinstance(read, str) else ""


def _slab(case: Case) -> Case:
    import numpy as np

    from segcli.evidence.case import Case

    def volume(side: Literal["pred", "gt"]) -> Any:
        codes, values = case.maps.codes(side)
        plane = np.append(values, 0)[codes]  # the last code is that of ignored voxels
        return (plane.T if case.maps.reverse else plane)[None]

    valid = None if case.valid is None else case.valid[None]
    spacing = (1.0, *case.spacing)
    return Case.of(volume("pred"), volume("gt"), case.labels, spacing=spacing, unit=case.unit, valid=valid)


def itk_spacing(pred: Mask, gt: Mask, spacing: tuple[float, ...]) -> tuple[float, ...] | str | None:
    """Return the voxel size with which ITK reads a pair where it is not `spacing`; why it reads none; or `None`.

    Of a NIfTI file it takes |pixdim|, and 1 for a 0 or NaN, whatever the sform says; the direction from an orthonormal
    sform or from the qform, and without one it refuses the file.
    """
    for mask in (pred, gt):
        if not mask.header.get("qform_code") and mask.header.get("sform_code") and not _orthonormal(mask.affine):
            return "raises: ITK reads no sheared sform"
    read = [_pixdim(mask, len(spacing)) for mask in (pred, gt)]
    if read[1] is None:
        return None
    if read[0] is not None and not _close(read[0], read[1]):
        return "raises: the voxel sizes in pixdim differ"
    return None if _close(read[1], spacing) else read[1]


def _pixdim(mask: Mask, axes: int) -> tuple[float, ...] | None:
    stored: Any = mask.header.get("pixdim")
    if not isinstance(stored, list) or len(stored) != axes:
        return None
    return tuple(abs(length or 0) or 1.0 for length in stored)


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= _SAME * max(a, b) for a, b in zip(one, other, strict=True))


def _orthonormal(affine: Any) -> bool:
    import numpy as np

    if affine is None:
        return True
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(abs(axes.T @ axes - np.eye(3)).max() <= _ORTHONORMAL)
