"""Where the voxels of a NIfTI file lie: spacing and affine from sform, qform and pixdim, and what contradicts them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from segcli.masks.geometry import TOLERANCE, is_sheared, offset, spacing_of
from segcli.masks.mask import Note
from segcli.masks.source import refuse, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.masks.formats.nifti_header import Header

_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
#: qform and sform may differ by this part of a voxel: quaternions are stored in float32.
_FORMS_AGREE = 1e-2
_LARGEST = 1e12
#: Lengths below this are noise, and their squares no numbers.
_SMALLEST = 1e-9


def grid_of(
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
    lengths = header.pixdim[1 : axes + 1]
    if not any(map(math.isinf, lengths)):
        fields["pixdim"] = [None if math.isnan(length) else length * factor for length in lengths]
    chosen, source = (header.sform, "sform") if header.sform is not None else (header.qform, "qform")
    if chosen is None:
        if not all(abs(x) <= _LARGEST for x in lengths if not math.isnan(x)):
            refuse(
                name,
                f"pixdim {lengths} holds infinity or a number above {_LARGEST:g}",
                "correct the header",
                "read.affine",
            )
        if bad := _no_length(lengths):
            text = f"{said}: pixdim holds {bad}, so the spacing is unknown; give --spacing"
            notes.append(Note(text, "warning", "geometry.pixdim"))
            return None, None
        if min(lengths) < 0:
            notes.append(
                Note(f"{said}: pixdim is negative; its absolute value is the spacing", code="spacing.negative")
            )
        if not header.format.startswith("Analyze"):
            notes.append(
                Note(
                    f"{said}: neither qform nor sform: spacing from pixdim, orientation unknown",
                    code="geometry.no-forms",
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
        volume = np.linalg.matrix_rank(affine[:3, :axes] / np.asarray(spacing)) if min(spacing) >= _SMALLEST else 0
    if volume < axes or not all(math.isfinite(s) for s in spacing):
        refuse(name, f"its {source} affine is singular: spacing {' x '.join(f'{s:g}' for s in spacing)} mm",
               "correct the header", "read.affine")  # fmt: skip
    lengths = header.pixdim[1 : axes + 1]
    if bad := _no_length(lengths):
        notes.append(Note(f"{said}: pixdim holds {bad}; the {source} is used", "warning", "geometry.pixdim"))
    elif header.qform is None and not np.allclose(np.abs(lengths) * factor, spacing, rtol=TOLERANCE, atol=0):
        both = [" x ".join(f"{x:g}" for x in sizes) for sizes in (np.abs(lengths) * factor, spacing)]
        text = f"{said}: pixdim ({both[0]} mm) and sform ({both[1]} mm) disagree on the size of a voxel; sform is used"
        notes.append(Note(f"{text} (SimpleITK takes pixdim)", "warning", "geometry.pixdim"))
    if header.sform is not None and header.qform is not None and not bad:  # a qform is made of pixdim
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


def _no_length(lengths: tuple[float, ...]) -> str:
    """Return what among the pixdim of the axes is no length: NaN, 0 or nearly 0; empty where all are lengths."""
    if any(math.isnan(x) for x in lengths):
        return "NaN"
    small = next((x for x in lengths if abs(x) < _SMALLEST), None)
    return "" if small is None else f"{small:g}"
