"""A stretch of a pair: some of its voxels, for functions of single voxels.

Gradients and voxel maps of most losses need of all voxels nothing but sums. Worked out stretch by stretch, what
they are made of stays in the cache and never fills the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.derivatives import Derivatives, LogSlopes
from segcli.evidence.soft import SoftPair, Vector
from segcli.evidence.sums import VoxelSums

#: Voxels of a stretch: a dozen float64 vectors of it fit into a cache of 3 MB.
LENGTH = 1 << 15

Where = slice | NDArray[np.intp]
T = TypeVar("T")
D = TypeVar("D", bound=np.generic)


class Stretch(SoftPair):
    """The voxels `where` of a pair, in the order of its vectors.

    Vectors are of these voxels; `n`, the sums and what is found `once` are those of the whole pair. It has no
    grid: a loss that asks for one reads neighbours and cannot be worked out so.
    """

    def __init__(self, whole: SoftPair, where: Where) -> None:
        self.whole = whole
        self.where = where
        self.shape, self.spacing, self.n = whole.shape, whole.spacing, whole.n
        self.threshold, self.hard = whole.threshold, whole.hard
        self._given, self._truth, self._told = whole._given, whole._truth, whole._told
        self._slopes: dict[str, dict[float, LogSlopes]] = {"p": {}, "z": {}}

    @cached_property
    def rows(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Return p, y and z of these voxels as they were given."""
        p, y, z = self.whole.rows
        return p[self.where], y[self.where], None if z is None else z[self.where]

    def _column(self, which: Literal[0, 1, 2]) -> Vector:
        return np.ascontiguousarray(self.rows[which], dtype=np.float64)

    @cached_property
    def _sums(self) -> VoxelSums:
        return self.whole._sums

    def here(self, vector: NDArray[D]) -> NDArray[D]:
        """Return what a vector over all voxels has here."""
        return vector[self.where]

    def once(self, key: Hashable, make: Callable[[SoftPair], T]) -> T:
        """Return what is found of all voxels."""
        return self.whole.once(key, make)

    def each(self, function: Callable[[SoftPair], Vector]) -> Vector:
        """Return the function of these voxels."""
        return function(self)

    def wrt(self, wrt: Literal["p", "z"]) -> Derivatives:
        """Return the derivatives; those of logarithms are found once for all losses that ask."""
        # the vectors are kept, not the `Derivatives`: a cycle of references would outlive the stretch
        return Derivatives(self, wrt, self._slopes[wrt])

    def perfect(self, p: Vector | None = None) -> SoftPair:
        """Return these voxels of the pair that predicts its ground truth."""
        return Stretch(self.whole.perfect(p), self.where)

    @cached_property
    def inside_gt(self) -> NDArray[np.bool_]:
        """Return which of these voxels are foreground in the ground truth."""
        return self.here(self.whole.inside_gt)

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which of these voxels lie within a step of the gt border."""
        return self.here(self.whole.near_boundary)

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return the distance of each of these voxels to a boundary."""
        return self.here(self.whole.boundary_distance(of, unit))

    @property
    def grid(self) -> NoReturn:
        """Raise: some of the voxels make no grid."""
        raise TypeError("a stretch of voxels has no grid: the loss is not local")

    @property
    def vector(self) -> NoReturn:
        """Raise: as `grid`."""
        raise TypeError("a stretch of voxels has no grid: the loss is not local")


def stretches(n: int) -> Iterator[slice]:
    """Return n voxels in stretches of at most `LENGTH`."""
    return (slice(start, min(start + LENGTH, n)) for start in range(0, n, LENGTH))
