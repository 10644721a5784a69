"""Voxel maps out: NIfTI on the grid of a mask, NPY, or a coloured PNG."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import UsageError
from segcli.writing import target_of, write_whole

WHOLE = (".nii", ".nii.gz", ".npy")
SUFFIXES = (*WHOLE, ".png")
#: Ends and middle of the colours of a map: blue for what lowers a loss, white for nothing, red for what costs.
BLUE, WHITE, RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)


def check_map_path(
    path: Path, option: str, inputs: Sequence[str | None] = (), suffixes: tuple[str, ...] = SUFFIXES
) -> None:
    """Refuse a file that `write_map` could not write, or that is an input, before anything is computed."""
    if not path.name.lower().endswith(suffixes):
        raise UsageError(
            f"{option} {path}: the suffix says the format; known: {', '.join(suffixes)}.", code="output.suffix"
        )
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder.", code="output.folder")
    folder = (target_of(path, option) if path.is_symlink() else path).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path}: the folder {folder} cannot be written.", code="output.folder")
    target_of(path, option)
    for given in inputs:
        if given and path.exists() and Path(given).exists() and path.samefile(given):
            raise UsageError(
                f"{option} {path}: is an input of this call.", hint="name another file", code="output.input"
            )


def write_map(
    path: Path,
    values: NDArray[np.float64],
    spacing: tuple[float, ...],
    affine: NDArray[Any] | None,
    channel_axis: int = 0,
) -> None:
    """Write a map in array axis order; channels, if any, are on its first axis.

    NPY has them on `channel_axis`, NIfTI on the last one, where a viewer looks for them.

    `affine` is that of the ground truth, so that a viewer lays the map over it; without one the spacing
    makes it. PNG takes 2-D maps. Files appear whole or not at all.
    """
    name = path.name.lower()
    if name.endswith(".png"):
        if values.ndim != 2:
            raise UsageError(
                f"{path}: a PNG holds a 2-D map, this one has {values.ndim} dimensions.",
                hint="--png draws the worst slice; .nii.gz or .npy hold the whole map",
                code="output.dimensions",
            )
        data = png_bytes(colours(values))
    elif name.endswith(".npy"):
        buffer = io.BytesIO()
        np.save(buffer, np.moveaxis(values, 0, channel_axis) if values.ndim == len(spacing) + 1 else values)
        data = buffer.getvalue()
    else:
        data = _nifti_bytes(values, spacing, affine, packed=name.endswith(".gz"))
    write_whole(path, data, "")


def _nifti_bytes(
    values: NDArray[np.float64], spacing: tuple[float, ...], affine: NDArray[Any] | None, *, packed: bool
) -> bytes:
    import gzip

    import nibabel as nib

    if values.ndim == len(spacing) + 1:
        values = np.moveaxis(values, 0, -1)
    if affine is None:
        affine = np.diag([*spacing, *(1.0,) * (3 - len(spacing)), 1.0])
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    data: bytes = image.to_bytes()
    return gzip.compress(data, 6, mtime=0) if packed else data


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Return an (H, W, 3) picture as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def colours(values: NDArray[np.float64], scale: float | None = None) -> NDArray[np.uint8]:
    """Return a map as (H, W, 3) colours: blue below 0, white at 0, red above, full colour at +-`scale`."""
    scale = float(np.abs(values).max()) if scale is None else scale
    strength = np.clip(values / scale, -1, 1)[..., None] if scale > 0 else np.zeros((*values.shape, 1))
    ends = np.where(strength < 0, np.array(BLUE, float), np.array(RED, float))
    mixed = np.array(WHITE, float) + np.abs(strength) * (ends - np.array(WHITE, float))
    return np.asarray(np.rint(mixed), np.uint8)
