"""Voxel maps out, in the formats that have a writer: whole on the grid of a mask, or a plane in colours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import UsageError
from segcli.masks.files import MAP_SUFFIXES, WHOLE_MAP_SUFFIXES, WRITERS
from segcli.masks.formats.record import ending
from segcli.writing import target_of, write_whole


def check_map_path(
    path: Path, option: str, inputs: Sequence[str | None] = (), suffixes: tuple[str, ...] = MAP_SUFFIXES
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
    suffix = ending(path.name, WRITERS)
    writer = WRITERS[suffix]
    if writer.flat and values.ndim != 2:
        whole = dict.fromkeys(WRITERS[s].suffixes[-1] for s in WHOLE_MAP_SUFFIXES)
        raise UsageError(
            f"{path}: a {suffix[1:].upper()} holds a 2-D map, this one has {values.ndim} dimensions.",
            hint=f"--png draws the worst slice; {' or '.join(whole)} hold the whole map",
            code="output.dimensions",
        )
    write_whole(path, writer.encode(values, spacing, affine, channel_axis, suffix), "")
