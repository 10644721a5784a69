"""`Ranks`: the distinct probabilities of a label in order, each with its voxels inside and outside the ground truth.

Ranking, calibration and the choice of a threshold need no more than that. It comes from one sort of the
voxels and is exact: equal values are one entry, and counts are integers.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Whole = NDArray[np.int64]

#: Below this many voxels counting with NumPy beats importing Numba.
SMALL = 1 << 20


class Bin(NamedTuple):
    """Voxels whose probability lies in (low, high]: how many, the sum of p, and how many are foreground."""

    low: float
    high: float
    size: int
    total: float
    hits: int

    @property
    def gap(self) -> float:
        """Return the mean of p less the share of foreground: above 0 where the map is too sure of the label."""
        return (self.total - self.hits) / self.size


@dataclass(frozen=True)
class Ranks:
    """Distinct probabilities `values`, ascending; `counts` voxels have each, `hits` of them are foreground.

    `single` tells whether every value is one of single precision, as maps in float32 are.
    """

    values: Vector
    counts: Whole
    hits: Whole
    single: bool

    @classmethod
    def of(cls, p: Vector, inside: NDArray[np.bool_]) -> Ranks:
        """Return the ranks of flat probabilities (none below 0), given which voxels are foreground."""
        narrow = p.astype(np.float32)
        single = bool(np.array_equal(narrow, p))
        # Bits of floats that are not negative are in the order of the floats; the sign's bit makes room for the
        # mark. Half the bytes sort in less than half the time. Adding 0 turns -0 into 0.
        floats: NDArray[Any] = narrow if single else p
        keys = (floats + floats.dtype.type(0)).view(np.uint32 if single else np.uint64)
        keys <<= keys.dtype.type(1)
        keys |= inside
        keys.sort()
        found, counts, hits = _runs(keys)
        values = (found >> found.dtype.type(1)).view(floats.dtype)
        return cls(values.astype(np.float64), counts, hits, single)

    @cached_property
    def voxels(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def foreground(self) -> int:
        return int(self.hits.sum())

    @cached_property
    def from_here_up(self) -> tuple[Whole, Whole]:
        """Return how many voxels have each value or more, and how many of those are foreground."""
        return np.cumsum(self.counts[::-1])[::-1], np.cumsum(self.hits[::-1])[::-1]

    # --- thresholds ---------------------------------------------------------------------------

    @cached_property
    def cuts(self) -> tuple[Vector, Whole, Whole]:
        """Return every threshold from 0 on that makes a mask {p > t} of its own, the lowest of each mask.

        With the voxels of each mask, and those of them that are foreground.
        """
        inner = self.values > 0
        thresholds = np.concatenate([[0.0], self.values[inner][:-1]])
        above = [part[inner] for part in self.from_here_up]
        if not inner.any():
            above = [np.zeros(1, np.int64)] * 2
        return thresholds, above[0], above[1]

    def above(self, thresholds: Vector) -> tuple[Whole, Whole]:
        """Return how many voxels lie above each threshold, and how many of them are foreground.

        Values of single precision meet the threshold in single precision, as in NumPy.
        """
        if self.single:
            thresholds = thresholds.astype(np.float32).astype(np.float64)
        first = np.searchsorted(self.values, thresholds, side="right")
        pred, tp = (np.append(part, 0)[first] for part in self.from_here_up)
        return pred, tp

    # --- bins ---------------------------------------------------------------------------------

    def bins(self, number: int, binning: Literal["width", "mass"]) -> list[Bin]:
        """Return bins of equal width (empty ones included), or of equally many voxels as far as ties allow.

        An edge belongs to the bin below it. Equal probabilities are never parted: of bins of equal mass
        fewer may be left.
        """
        if not self.voxels:
            return []
        if binning == "width":
            edges = np.linspace(0.0, 1.0, number + 1)
            inner = np.searchsorted(self.values, edges[1:-1], side="right")
        else:
            last = np.arange(1, number) * (self.voxels - 1) // number  # the last voxel of each bin, in order of p
            inner = np.unique(np.searchsorted(np.cumsum(self.counts), last, side="right") + 1)
            inner = inner[inner < len(self.values)]
            edges = np.concatenate([[0.0], self.values[inner - 1], [1.0]])
        limits = [0, *inner.tolist(), len(self.values)]
        weighted = self.values * self.counts
        found = []
        for k, (a, b) in enumerate(itertools.pairwise(limits)):
            count, hits = int(self.counts[a:b].sum()), int(self.hits[a:b].sum())
            found.append(Bin(float(edges[k]), float(edges[k + 1]), count, float(weighted[a:b].sum()), hits))
        return found


def _runs(keys: NDArray[Any]) -> tuple[NDArray[Any], Whole, Whole]:
    if keys.size >= SMALL or "numba" in sys.modules:
        from segcli.kernels.runs import count_runs

        return count_runs(keys)
    # Importing Numba takes longer than counting a small image with NumPy. Whole numbers are the same either way.
    ends = np.flatnonzero(np.append((keys[1:] ^ keys[:-1]) > 1, keys.size > 0))
    marked = np.cumsum(keys & keys.dtype.type(1), dtype=np.int64)[ends]
    return keys[ends], np.diff(ends, prepend=-1), np.diff(marked, prepend=0)
