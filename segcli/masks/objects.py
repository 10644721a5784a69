"""Images and tensors of other libraries, recognised by what they can do: none of those libraries is imported here.

nibabel and ITK images bring their grid along; a tensor may be on a device and require a gradient.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.masks.formats import nifti_header, png_pixels
from segcli.masks.formats.nifti_grid import grid_of
from segcli.masks.formats.nifti_voxels import label_offset, rescaled
from segcli.masks.geometry import spacing_of
from segcli.masks.mask import DROPPED, Note
from segcli.masks.source import Decoded, refuse, shape_text, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def decoded(name: str, given: Any, colors: str | None = None) -> Decoded | None:
    """Return the array of an image or tensor with its grid; `None` for what is neither.

    - an image of nibabel: its axes, its affine, the unit of its header;
    - an image of SimpleITK or ITK: x, y, z from its z, y, x; spacing, origin and direction as an affine (RAS);
    - a tensor of torch, on any device, also one that requires a gradient; of MONAI's with an affine this is used
      and a channel axis of length 1 dropped;
    - an image of Pillow: grey levels, palette indices, or what `colors` makes of its colours.

    Raises `InputError` for one that holds no mask.
    """
    try:
        if _has(given, "dataobj", "affine", "header"):
            return _of_nibabel(name, given)
        if _has(given, "GetSpacing", "GetOrigin", "GetDirection"):
            return _of_itk(name, given)
        if _has(given, "detach", "cpu", "numpy"):
            return _of_tensor(name, given)
        if _has(given, "getbands", "mode", "size", "getpalette"):
            return _of_pillow(name, given, colors)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, OSError) as error:
        what = f"{type(given).__module__.partition('.')[0]} {type(given).__name__}"
        told = shown(" ".join(str(error).split()))[:200].rstrip(".!")
        refuse(name, f"the {what} gives no array: {told}", "give a NumPy array instead", "read.object")
    return None


def _has(given: Any, *names: str) -> bool:
    return not isinstance(given, (np.ndarray, type)) and all(hasattr(given, name) for name in names)


def _of_nibabel(name: str, given: Any) -> Decoded:
    stored, notes = given.dataobj, list[Note]()
    fields: dict[str, object] = {"class": type(given).__name__}
    how: dict[str, Any] = {"channels_last": True}
    slope, inter = float(getattr(stored, "slope", 1.0)), float(getattr(stored, "inter", 0.0))
    if (slope, inter) != (1.0, 0.0) and hasattr(stored, "get_unscaled"):
        raw = np.asarray(stored.get_unscaled())
        array = rescaled(name, raw, slope, inter, notes)
        how["off"] = label_offset(raw, slope, inter) if array.dtype.kind == "f" else None
        fields |= {"scl_slope": slope, "scl_inter": inter}
    else:
        array = np.asanyarray(stored)
    shape = array.shape
    if any(n == 1 for n in shape[3:]):
        kept = (*shape[:3], *(n for n in shape[3:] if n > 1))
        text = f"{shown(name)}: shape {shape_text(shape)} read as {shape_text(kept)} (axes of length 1 dropped)"
        notes.append(Note(text, code=DROPPED))
        array = array.reshape(kept, order="A")
    if (header := _nifti_header(name, given)) is not None:
        spacing, affine = grid_of(name, header, notes, fields)
        return Decoded(array, "nibabel image", spacing, affine, notes, fields, **how)
    units = getattr(given.header, "get_xyzt_units", lambda: ("mm", "sec"))()[0]
    factor = {"meter": 1e3, "micron": 1e-3}.get(units, 1.0)
    if factor != 1:
        text = f"{shown(name)}: its unit is {units}; lengths converted to mm"
        notes.append(Note(text, "warning", "spacing.unit"))
        fields["units"] = units
    axes = min(array.ndim, 3)
    if given.affine is None:
        lengths = tuple(float(x) * factor for x in given.header.get_zooms()[:axes])
        known = len(lengths) == axes and all(0 < x < np.inf for x in lengths)
        return Decoded(array, "nibabel image", lengths if known else None, None, notes, fields, **how)
    affine = np.array(given.affine, np.float64)
    affine[:3] *= factor
    return Decoded(array, "nibabel image", _edges(name, affine, axes), affine, notes, fields, **how)


def _nifti_header(name: str, given: Any) -> nifti_header.Header | None:
    """Return the header that a NIfTI image would be written with; `None` where its affine is not of its header."""
    header = given.header
    if not _has(header, "get_sform", "get_qform", "get_best_affine", "binaryblock") or given.affine is None:
        return None
    with np.errstate(all="ignore"):
        own = np.asarray(header.get_best_affine(), np.float64)
    if not np.allclose(own, given.affine, rtol=1e-5, atol=1e-5, equal_nan=True):
        return None
    return nifti_header.of_block(name, bytes(header.binaryblock), str(header.endianness))


def _of_itk(name: str, given: Any) -> Decoded:
    library = sys.modules.get(type(given).__module__.partition(".")[0])
    view = getattr(library, "GetArrayFromImage", None)
    if "label of" in str(getattr(given, "GetPixelIDTypeAsString", lambda: "")()):  # asked for its array, it aborts
        refuse(name, "an ITK label map", "SimpleITK.LabelMapToLabel(image) is an image of labels", "read.object")
    array = np.asarray(given) if view is None else view(given)
    axes = len(given.GetSpacing())
    array = array.transpose()
    if array.ndim == axes + 1:  # the components of a voxel come first now; channels of an image with a grid come last
        array = np.moveaxis(array, 0, -1)
    space = min(axes, 3)
    direction = np.asarray(given.GetDirection(), np.float64).reshape(axes, axes)[:space, :space]
    affine = np.eye(4)
    affine[:space, :space] = direction * np.asarray(given.GetSpacing(), np.float64)[:space]
    affine[:space, 3] = np.asarray(given.GetOrigin(), np.float64)[:space]
    affine[:2] *= -1  # ITK counts towards left and posterior, NIfTI towards right and anterior
    fields: dict[str, object] = {"class": type(given).__name__}
    return Decoded(array, "ITK image", _edges(name, affine, space), affine, [], fields, channels_last=True)


def _edges(name: str, affine: NDArray[np.float64], axes: int) -> tuple[float, ...]:
    if not np.isfinite(affine).all():
        refuse(name, "its affine holds NaN or infinity", "correct its header", "read.affine")
    spacing = spacing_of(affine, axes)
    if min(spacing) <= 0 or np.linalg.matrix_rank(affine[:3, :axes] / np.asarray(spacing)) < axes:
        edges = " x ".join(f"{s:g}" for s in spacing)
        refuse(name, f"its affine is singular: spacing {edges} mm", "correct its header", "read.affine")
    return spacing


def _of_tensor(name: str, given: Any) -> Decoded:
    plain = given.detach()
    for step in ("to_dense", "resolve_conj", "resolve_neg"):
        if hasattr(plain, step) and (step != "to_dense" or getattr(plain, "is_sparse", False)):
            plain = getattr(plain, step)()
    if str(getattr(plain, "dtype", "")).endswith("bfloat16"):
        plain = plain.float()  # NumPy has no such type; float32 holds all its values
    array = np.asarray(plain.cpu().numpy())
    affine = getattr(given, "affine", None)
    if affine is None:
        return Decoded(array, "array")
    grid = np.asarray(affine.detach().cpu().numpy() if hasattr(affine, "detach") else affine, np.float64)
    if grid.shape != (4, 4) or array.ndim not in (3, 4) or np.array_equal(grid, np.eye(4)):
        return Decoded(array, "array")  # an identity is what a tensor without a known grid has
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    return Decoded(array, "array", _edges(name, grid, 3), grid)


def _of_pillow(name: str, given: Any, colors: str | None) -> Decoded:
    frames = int(getattr(given, "n_frames", 1))
    if frames > 1:
        text = f"an image of {frames} frames; which one is the mask?"
        refuse(name, text, "numpy.asarray(image) after image.seek(k) is one frame", "read.animated")
    mode = str(given.mode)
    array, palette = np.asarray(given), b""
    if mode in ("LA", "PA", "RGBA"):
        png_pixels.check_opaque(name, array[..., -1], 255)
        array = array[..., :-1] if mode == "RGBA" else array[..., 0]
    elif mode not in (*_GREY, "P", "RGB"):
        text = f"an image of mode {mode}; read are {', '.join([*_GREY[:4], 'P', 'RGB'])} and these with alpha"
        refuse(name, text, "image.convert('RGB')", "read.color")
    if mode in ("P", "PA"):
        palette = bytes(given.getpalette("RGB") or b"")
    array, notes = png_pixels.meaning(name, array, palette, colors)
    fields: dict[str, object] = {"class": type(given).__name__, "mode": mode}
    return Decoded(array, "array", None, None, notes, fields, bool(palette) or colors is not None)
