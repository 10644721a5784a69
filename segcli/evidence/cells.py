"""How often each code of one map meets each code of another: a table of all pairs, or a list of those that occur.

The table costs codes times codes. Two maps of ten thousand cells would need a hundred million numbers for some
thirty thousand pairs that share a voxel: those are listed instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.joint import Joint
from segcli.evidence.label_map import SMALL

Numbers = NDArray[np.int64]
Codes = NDArray[np.intp]

#: Pairs of codes up to which a table of all of them is counted (32 MiB).
MOST_CELLS = 1 << 22


class Cells(Protocol):
    """Voxels by code of pred and of gt."""

    @property
    def sizes(self) -> tuple[Numbers, Numbers]:
        """Return how many voxels each code of pred and of gt has."""
        ...

    @property
    def joint(self) -> Joint:
        """Return the pairs of codes that share voxels."""
        ...

    def shared(self, rows: Codes, columns: Codes) -> int:
        """Return how many voxels have one of some codes in pred, each named once, and one of some in gt."""
        ...


@dataclass(frozen=True)
class Table:
    """All pairs of codes: `matrix` (pred, gt)."""

    matrix: Numbers

    @cached_property
    def sizes(self) -> tuple[Numbers, Numbers]:
        return self.matrix.sum(axis=1), self.matrix.sum(axis=0)

    @cached_property
    def joint(self) -> Joint:
        return Joint.of_matrix(self.matrix)

    def shared(self, rows: Codes, columns: Codes) -> int:
        return int(self.matrix[np.ix_(rows, columns)].sum())


@dataclass(frozen=True)
class Listed:
    """The pairs that occur, sorted by code of pred and then of gt, of `n_pred` and `n_gt` codes."""

    joint: Joint
    n_pred: int
    n_gt: int

    @classmethod
    def of(cls, pred: NDArray[Any], gt: NDArray[Any], n_pred: int, n_gt: int) -> Listed:
        """Count two maps of one shape whose codes are below `n_pred` and `n_gt`; the last of each is left out."""
        pairs, n = _counted(pred.reshape(-1), gt.reshape(-1), n_gt)
        row, column = pairs // n_gt, pairs % n_gt
        kept = (row < n_pred - 1) & (column < n_gt - 1)
        return cls(Joint(n[kept], row[kept], column[kept]), n_pred - 1, n_gt - 1)

    @cached_property
    def sizes(self) -> tuple[Numbers, Numbers]:
        found = np.zeros(self.n_pred, dtype=np.int64), np.zeros(self.n_gt, dtype=np.int64)
        np.add.at(found[0], self.joint.row, self.joint.n)
        np.add.at(found[1], self.joint.column, self.joint.n)
        return found

    @cached_property
    def _pairs(self) -> Numbers:
        return self.joint.row.astype(np.int64) * self.n_gt + self.joint.column

    def shared(self, rows: Codes, columns: Codes) -> int:
        if len(rows) * len(columns) == 1:  # each of many labels is one code: no pass over all pairs
            wanted = int(rows[0]) * self.n_gt + int(columns[0])
            at = int(np.searchsorted(self._pairs, wanted))
            return int(self.joint.n[at]) if at < len(self._pairs) and self._pairs[at] == wanted else 0
        inside = np.zeros(self.n_pred, dtype=np.bool_), np.zeros(self.n_gt, dtype=np.bool_)
        inside[0][rows] = True
        inside[1][columns] = True
        return int(self.joint.n[inside[0][self.joint.row] & inside[1][self.joint.column]].sum())


def _counted(pred: NDArray[Any], gt: NDArray[Any], n_gt: int) -> tuple[Numbers, Numbers]:
    """Return the pairs of two flat maps, as pred * n_gt + gt in ascending order, and the voxels of each.

    Stretches of one pair count as one, a part of the maps at a time: what is sorted are the stretches.
    """
    pairs, n = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    waiting: list[tuple[Numbers, Numbers]] = []
    for start in range(0, pred.size, SMALL):
        part = pred[start : start + SMALL].astype(np.int64)
        part *= n_gt
        part += gt[start : start + SMALL]
        starts = np.concatenate(([0], np.flatnonzero(part[1:] != part[:-1]) + 1))
        waiting.append(_summed(part[starts], np.diff(starts, append=part.size)))
        if sum(len(own) for own, _ in waiting) > max(SMALL, len(pairs)) or start + SMALL >= pred.size:
            pairs, n = _summed(*(np.concatenate(both) for both in zip((pairs, n), *waiting, strict=True)))
            waiting = []
    return pairs, n


def _summed(pairs: Numbers, n: Numbers) -> tuple[Numbers, Numbers]:
    """Return each pair once, in ascending order, with the sum of its numbers."""
    order = np.argsort(pairs, kind="stable")
    pairs, n = pairs[order], n[order]
    first = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1]))) if len(pairs) else order
    return pairs[first], np.add.reduceat(n, first) if len(first) else n
