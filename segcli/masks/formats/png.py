"""PNG label images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segcli.masks.formats.record import Asked, Format, Mark, Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.masks.source import Decoded, Source


def _header(source: Source, _: str | None) -> Decoded:
    from segcli.masks.formats import png_pixels

    return png_pixels.look(source)


def _voxels(source: Source, asked: Asked) -> Decoded:
    from segcli.masks.formats import png_pixels

    return png_pixels.read(source, asked.room, asked.colors)


def _encode(values: NDArray[np.float64], _: tuple[float, ...], __: NDArray[Any] | None, ___: int, ____: str) -> bytes:
    from segcli.masks.map_colours import colours, png_bytes

    return png_bytes(colours(values))


PNG = Format(
    name="PNG",
    suffixes=(".png",),
    marks=(Mark(0, b"\x89PNG\r\n\x1a\n"),),
    coloured=True,
    order="yx",
    header=_header,
    voxels=_voxels,
    writer=Writer((".png",), _encode, flat=True),
)
