"""How a volume is thinned to a skeleton: the words of the parameter `thinning=`, each with what it means."""

from __future__ import annotations

import typing
from typing import Literal

Thinning = Literal["ends", "lee"]
THINNINGS: tuple[Thinning, ...] = typing.get_args(Thinning)

#: What the words mean, as the catalogue says it.
MEANING: dict[str, str] = {
    "ends": "a layer at a time: lines stay but for about their half-width at each end, and so do all pieces",
    "lee": "Lee 1994 as scikit-image, by which straight tubes of even thickness can come down to one voxel or none",
}
HELP = "of a volume; " + "; ".join(f"{word}: {meaning}" for word, meaning in MEANING.items()) + "; in 2-D the same"
