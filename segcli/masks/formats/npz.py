"""NPZ: an archive of NumPy arrays, of which `file.npz:key` names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcli.masks.formats.record import Asked, Format, Mark

if TYPE_CHECKING:
    from segcli.masks.source import Decoded, Source


def _header(source: Source, key: str | None) -> Decoded:
    from segcli.masks.formats import numpy_arrays

    return numpy_arrays.read_npz(source, key, None)


def _voxels(source: Source, asked: Asked) -> Decoded:
    from segcli.masks.formats import numpy_arrays

    return numpy_arrays.read_npz(source, asked.key, asked.room)


NPZ = Format(
    name="NPZ",
    suffixes=(".npz",),
    marks=(Mark(0, b"PK\x03\x04"), Mark(0, b"PK\x05\x06")),
    content="ZIP",
    keyed=True,
    header=_header,
    voxels=_voxels,
)
