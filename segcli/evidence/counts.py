"""The four counts of one label, which every overlap metric reduces."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """Voxels of one label, ignored ones left out."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def pred(self) -> int:
        return self.tp + self.fp

    @property
    def gt(self) -> int:
        return self.tp + self.fn

    @property
    def n(self) -> int:
        return self.tp + self.fp + self.fn + self.tn
