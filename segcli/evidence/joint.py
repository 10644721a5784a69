"""How often each value of one map meets each value of another: entropies and pairs of voxels.

Only cells that hold a voxel are kept: two maps of thousands of instances have few of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segcli.evidence.counts import Counts

Vector = NDArray[np.float64]
Numbers = NDArray[np.int64]

#: Up to this many voxels the number of pairs of them fits in 64 bits.
MOST_PAIRED = 1 << 32


@dataclass(frozen=True)
class Joint:
    """The non-empty cells of a joint histogram: voxels `n`, and the `row` (pred) and `column` (gt) of each."""

    n: Numbers
    row: NDArray[np.intp]
    column: NDArray[np.intp]

    @classmethod
    def of_matrix(cls, matrix: NDArray[Any]) -> Joint:
        """Return the cells of a matrix of counts, pred in rows and gt in columns."""
        row, column = np.nonzero(matrix)
        return cls(np.asarray(matrix[row, column], dtype=np.int64), row, column)

    @classmethod
    def of_counts(cls, counts: Counts) -> Joint:
        """Return the four cells of one label against everything else."""
        return cls.of_matrix(np.array([[counts.tn, counts.fn], [counts.fp, counts.tp]]))

    def without_column(self, column: int) -> Joint:
        """Return the voxels whose gt is not `column`."""
        kept = self.column != column
        return Joint(self.n[kept], self.row[kept], self.column[kept])

    def without_row(self, row: int) -> Joint:
        """Return the voxels whose pred is not `row`."""
        kept = self.row != row
        return Joint(self.n[kept], self.row[kept], self.column[kept])

    @cached_property
    def total(self) -> int:
        return int(self.n.sum())

    @cached_property
    def sizes(self) -> tuple[Numbers, Numbers]:
        """Return how many voxels each value of pred and of gt has; those without a voxel have 0."""
        return _summed(self.row, self.n), _summed(self.column, self.n)

    @cached_property
    def regions(self) -> tuple[int, int]:
        """Return how many values pred and gt have."""
        pred, gt = self.sizes
        return int(np.count_nonzero(pred)), int(np.count_nonzero(gt))

    # --- entropies, in bits -------------------------------------------------------------------

    @cached_property
    def entropies(self) -> tuple[float, float]:
        """Return H(pred) and H(gt)."""
        pred, gt = (sizes[sizes > 0] for sizes in self.sizes)
        return float(_bits(pred, self.total).sum()), float(_bits(gt, self.total).sum())

    @cached_property
    def conditional(self) -> tuple[float, float]:
        """Return H(pred | gt) and H(gt | pred); exactly 0 where the one determines the other."""
        pred, gt = self.sizes
        given_gt = _surprise(self.n, gt[self.column]) / self.total
        given_pred = _surprise(self.n, pred[self.row]) / self.total
        return float(given_gt.sum()), float(given_pred.sum())

    @cached_property
    def mutual(self) -> float:
        """Return I(pred; gt)."""
        own, rest = self.entropies, self.conditional
        return max((own[0] - rest[0] + (own[1] - rest[1])) / 2, 0.0)

    # --- pairs of voxels ----------------------------------------------------------------------

    @cached_property
    def pairs(self) -> tuple[int, int, int, int]:
        """Return the pairs of voxels that both maps keep together, those that pred does, that gt does, and all."""
        pred, gt = self.sizes
        return _pairs(self.n), _pairs(pred), _pairs(gt), self.total * (self.total - 1) // 2


def _summed(index: NDArray[np.intp], n: Numbers) -> Numbers:
    sums = np.zeros(int(index.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(sums, index, n)  # bincount would add floats
    return sums


def _bits(sizes: Numbers, total: int) -> Vector:
    return _surprise(sizes, np.full(len(sizes), total)) / total


def _surprise(part: Numbers, whole: Numbers) -> Vector:
    """Return part * log2(whole / part); log1p keeps the digits where the part is nearly all of it."""
    return np.asarray(part * np.log1p((whole - part) / part) / np.log(2))


def _pairs(sizes: Numbers) -> int:
    wide = sizes.astype(object) if int(sizes.sum()) > MOST_PAIRED else sizes
    return int((wide * (wide - 1) // 2).sum())
