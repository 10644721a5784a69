"""The colours of a map of numbers, and pictures as PNG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

#: Ends and middle of the colours of a map: blue for what lowers a loss, white for nothing, red for what costs.
BLUE, WHITE, RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)


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
