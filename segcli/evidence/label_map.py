"""A label map in one or two bytes a voxel, whatever type and values its file has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError
from segcli.masks.labels import Label

#: Below this many voxels counting with NumPy beats importing Numba.
SMALL = 1 << 20


class LabelMap:
    """One label map as codes of one or two bytes, in memory order, with the values they stand for.

    Code `len(values)` marks an ignored voxel.
    """

    def __init__(self, array: NDArray[Any], valid: NDArray[np.bool_] | None, reverse: bool) -> None:
        array = array.T if reverse else array
        valid = None if valid is None else (valid.T if reverse else valid)
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        if array.dtype == np.uint8 and valid is None:
            self.codes: NDArray[Any] = np.ascontiguousarray(array)
            # Looking for the largest label is worth it where a table of 256x256 would take longer to add up.
            most = 255 if array.size >= SMALL else int(array.max(initial=0))
            self.values = np.arange(most + 1, dtype=np.int64)
            return
        counted = array if valid is None else array[valid]
        low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
        if low >= 0 and high < 1024:
            self.values = np.arange(high + 1, dtype=np.int64)
            codes = array
        elif high > np.iinfo(np.int64).max:
            raise InputError(
                f"label {high} is beyond the largest that is told apart (2^63 - 1).",
                hint="is this a label map? an intensity image is not",
                code="labels.large",
            )
        else:
            # In 64 bits: a difference of narrow integers would wrap around.
            array = array.astype(np.int64)
            counted = array if valid is None else array[valid]
            if high - low < 1 << 24:
                present = np.zeros(high - low + 1, dtype=bool)
                present[counted - low] = True
                self.values = np.flatnonzero(present) + low
                codes = (np.cumsum(present) - 1)[np.clip(array, low, high) - low]
            else:
                self.values = np.unique(counted)
                codes = np.searchsorted(self.values, array)
        if len(self.values) > 65534:
            raise InputError(
                f"{len(self.values)} different labels; at most 65534 can be told apart.",
                hint="is this a label map? an intensity image is not",
                code="labels.many",
            )
        codes = codes.astype(np.uint8 if len(self.values) < 256 else np.uint16)
        if valid is not None:
            codes[~valid] = len(self.values)
        self.codes = np.ascontiguousarray(codes)

    def codes_of(self, label: Label) -> NDArray[np.intp]:
        if label.values is None:
            return np.flatnonzero(self.values != 0)
        wanted = np.unique(np.array(label.values, dtype=np.int64))
        at = np.searchsorted(self.values, wanted)  # ascending
        at[at == len(self.values)] = 0
        return np.asarray(at[self.values[at] == wanted])
