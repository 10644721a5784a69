"""Whether a loss is blind to a ground truth: it has the same value for every prediction of it.

That is asked of the loss itself, by predictions that have nothing in common with one another or with the ground
truth. A loss that is a sum of weights over an empty object, or of distances to a boundary that is not there, gives
one value for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair
    from segcli.measure.record import BoundMeasure

#: Values that differ by no more than this, relative to the larger, are the same.
SAME = 1e-9
#: Steps of this share of 1 fill [0, 1) evenly, and no two voxels of an image have the same remainder.
GOLDEN = (5**0.5 - 1) / 2


def _inverted(y: NDArray[Any]) -> NDArray[Any]:
    return 1 - y


def _half(y: NDArray[Any]) -> NDArray[Any]:
    """Return one object that is wrong in half of the image, against the truth in it."""
    p = y.copy()
    p[: (len(p) + 1) // 2] = 0.875 - 0.75 * p[: (len(p) + 1) // 2]
    return p


def _scattered(y: NDArray[Any]) -> NDArray[Any]:
    return (np.arange(1, y.size + 1, dtype=np.float64) * GOLDEN % 1).astype(np.float32).reshape(y.shape)


PROBES: tuple[Callable[[NDArray[Any]], NDArray[Any]], ...] = (_inverted, _half, _scattered)


def is_blind(bound: BoundMeasure, evidence: SoftPair | SoftClasses) -> bool:
    """Return whether a loss has one value for this ground truth, whatever is predicted."""
    value = bound(evidence)
    for probe in PROBES:
        other = bound(evidence.predicting(probe))
        if value is None or other is None or abs(other - value) > SAME * max(abs(value), abs(other)):
            return False
    return True
