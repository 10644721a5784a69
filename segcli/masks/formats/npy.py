"""NPY: one array of NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segcli.masks.formats.record import Asked, Format, Mark, Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.masks.source import Decoded, Source


def _header(source: Source, _: str | None) -> Decoded:
    from segcli.masks.formats import numpy_arrays

    return numpy_arrays.read_npy(source, None)


def _voxels(source: Source, asked: Asked) -> Decoded:
    from segcli.masks.formats import numpy_arrays

    return numpy_arrays.read_npy(source, asked.room)


def _encode(
    values: NDArray[np.float64], spacing: tuple[float, ...], _: NDArray[Any] | None, channel_axis: int, __: str
) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.moveaxis(values, 0, channel_axis) if values.ndim == len(spacing) + 1 else values)
    return buffer.getvalue()


NPY = Format(
    name="NPY",
    suffixes=(".npy",),
    marks=(Mark(0, b"\x93NUMPY"),),
    header=_header,
    voxels=_voxels,
    writer=Writer((".npy",), _encode),
)
