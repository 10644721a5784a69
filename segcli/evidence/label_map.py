"""A label map in one, two or four bytes a voxel, whatever type and values its file has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError
from segcli.masks.labels import Label
from segcli.masks.mask import Ranges
from segcli.masks.void import marked

#: Voxels of a small map.
SMALL = 1 << 20
#: Values of a map that are told apart: more than objects on any slide.
MOST_VALUES = 1 << 22


class LabelMap:
    """One label map as codes of one, two or four bytes, in memory order, with the values they stand for.

    Code `len(values)` marks an ignored voxel. The values of `void` are of no label. Where labels overlap each has a bit
    of the values, told by `bits`.
    """

    bits: Mapping[Label, int] | None = None

    def __init__(self, array: NDArray[Any], valid: NDArray[np.bool_] | None, reverse: bool, void: Ranges = ()) -> None:
        self._void = void
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
        # What an ignored voxel holds is no label.
        codes = array if valid is None else array * valid
        # Without a sign a negative label is above the largest of its type.
        largest = int(codes.view(codes.dtype.str.replace("i", "u")).max(initial=0))
        if largest <= min(np.iinfo(codes.dtype).max, 1023):
            self.values = np.arange(largest + 1, dtype=np.int64)
        else:
            self.values, codes = _numbered(array, valid)
        codes = codes.astype(_narrow(len(self.values)), copy=False)
        if valid is not None:
            np.copyto(codes, len(self.values), where=~valid)
        self.codes = np.ascontiguousarray(codes)

    @cached_property
    def is_label(self) -> NDArray[np.bool_]:
        """Return which values can be of a label, the background included (codes,)."""
        return ~marked(self.values, self._void)

    def codes_of(self, label: Label) -> NDArray[np.intp]:
        if self.bits is not None:
            bit = self.bits.get(label, 0)
            return np.flatnonzero(self.values & bit if bit else self.values == 0 if label.values == (0,) else [])
        if label.values is None:
            return np.flatnonzero((self.values != 0) & self.is_label)
        wanted = np.array(sorted(set(label.values)), dtype=np.int64)
        at = np.searchsorted(self.values, wanted)
        at[at == len(self.values)] = 0
        return np.asarray(at[(self.values[at] == wanted) & self.is_label[at]])


def matrix_by_numpy(pred: NDArray[Any], gt: NDArray[Any], n_pred: int, n_gt: int) -> NDArray[np.int64]:
    """Return how often each code of one map meets each of another, a part of the maps at a time."""
    counts = np.zeros(n_pred * n_gt, dtype=np.int64)
    pred, gt = pred.reshape(-1), gt.reshape(-1)
    for start in range(0, pred.size, SMALL):
        pairs = pred[start : start + SMALL].astype(np.intp)
        pairs *= n_gt
        pairs += gt[start : start + SMALL]
        counts += np.bincount(pairs, minlength=len(counts))
    return counts.reshape(n_pred, n_gt)


def _numbered(array: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the values that occur, in ascending order, and for each voxel which of them it has."""
    counted = array if valid is None else array[valid]
    low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
    if high > np.iinfo(np.int64).max:
        raise InputError(
            f"label {high} is beyond the largest that is told apart (2^63 - 1).",
            hint="is this a label map? an intensity image is not",
            code="labels.large",
        )
    # In 64 bits: a difference of narrow integers would wrap around.
    array = array.astype(np.int64)
    if high - low >= 1 << 24:
        values = np.unique(counted).astype(np.int64)
        _check_number(len(values))
        return values, np.searchsorted(values, array)
    if valid is not None:
        np.clip(array, low, high, out=array)
    array -= low
    present = np.zeros(high - low + 1, dtype=bool)
    present[array if valid is None else array[valid]] = True
    values = np.flatnonzero(present) + low
    _check_number(len(values))
    return values, (np.cumsum(present) - 1).astype(_narrow(len(values)))[array]


def _check_number(values: int) -> None:
    if values > MOST_VALUES:
        raise InputError(
            f"{values} different values; at most {MOST_VALUES} can be told apart.",
            hint="is this a label map? an intensity image is not",
            code="labels.many",
        )


def _narrow(labels: int) -> type[np.unsignedinteger[Any]]:
    """Return the type for codes of so many labels and one more."""
    return np.uint8 if labels < 1 << 8 else np.uint16 if labels < 1 << 16 else np.uint32
