"""Masks on a grid: the box around one, one grown by a step, and the components that only one of two masks has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Islands(NamedTuple):
    """Components that only one side has: `missed` of the gt or `false` of the prediction.

    `voxels` are the places of their voxels in a vector, `numbers` the island of each, from 0, and `sizes` how
    many voxels an island has.
    """

    kind: str
    voxels: NDArray[np.intp]
    numbers: NDArray[np.intp]
    sizes: NDArray[np.intp]


def box_around(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...]:
    """Return the smallest box around a mask, some voxels wider as far as the grid goes; empty if it is."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not found.size:
            return (slice(0, 0),) * mask.ndim
        box.append(slice(max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin))
    return tuple(box)


def spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask grown by one step along all axes at once (a 3x3x3 dilation)."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        before = np.moveaxis(grown.copy(), axis, 0)
        after = np.moveaxis(grown, axis, 0)
        after[1:] |= before[:-1]
        after[:-1] |= before[1:]
    return grown
