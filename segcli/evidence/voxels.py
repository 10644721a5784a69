"""The voxels of one label that count, in a row: probability, ground truth and logit of each, wherever it lies.

`Given` reads them from grids, `Told` predicts the ground truth of others or what it is told, `Part` is a stretch of
them. What follows of them is worked out in one place, each piece when it is first asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.sums import VoxelSums, sigmoid

Vector = NDArray[np.float64]
#: p, y and z as they were given, no other dtype; z where logits were.
Rows = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]
#: Some of the voxels: a stretch, or their places.
Where = slice | NDArray[np.intp]


class Logs(NamedTuple):
    """The probability that a cross-entropy really sees, its logarithm and that of its complement."""

    p: Vector
    q: Vector
    log_p: Vector
    log_q: Vector


class Voxels(ABC):
    """Voxels in a row. `n` is how many there are, of a part how many the whole has."""

    n: int

    def __init__(self) -> None:
        self._logs: dict[float, Logs] = {}

    @property
    @abstractmethod
    def ground(self) -> Given:
        """Return the voxels as they were given."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """Return p, y and z of each voxel."""

    @property
    @abstractmethod
    def sums(self) -> VoxelSums:
        """Return the sums over all voxels, of a part those of the whole."""

    @cached_property
    def p(self) -> Vector:
        return _float64(self.rows[0])

    @cached_property
    def y(self) -> Vector:
        return _float64(self.rows[1])

    @cached_property
    def z(self) -> Vector | None:
        """Return the logits; where they were known, also those of what is predicted in their place."""
        if not self.ground.has_logits:
            return None
        row = self.rows[2]
        if row is not None:
            return _float64(row)
        # Logits of a binary truth would be infinite; beyond 745 the sigmoid is 0 or 1 in float64.
        if self._certain:
            return np.where(self.rows[0], 800.0, -800.0)
        return np.clip(_logit(self.p), -800.0, 800.0)

    @cached_property
    def q(self) -> Vector:
        """Return 1-p, from the logit where there is one (1-p is 0 in float64 beyond z=37)."""
        return 1.0 - self.p if self.z is None else sigmoid(-self.z)

    @property
    def _certain(self) -> bool:
        """Return whether the prediction is a mask: what is a function of p then has two values."""
        return self.rows[0].dtype == np.bool_

    def logs(self, clip: float) -> Logs:
        """Return p clipped to [clip, 1-clip] with its logarithms; exact and unclipped from logits."""
        if clip not in self._logs:
            if self._certain:
                ends = np.array([0.0, 1.0])
                both = _logs_of(ends, 1 - ends, None if self.z is None else np.array([-800.0, 800.0]), clip)
                self._logs[clip] = Logs(*(np.where(self.rows[0], on, off) for off, on in both))
            else:
                self._logs[clip] = _logs_of(self.p, self.q, self.z, clip)
        return self._logs[clip]


class Given(Voxels):
    """Voxels of grids in any dtype and layout, which must not be changed afterwards; `valid` marks those that count."""

    def __init__(
        self, p: NDArray[Any], y: NDArray[Any], z: NDArray[Any] | None = None, valid: NDArray[np.bool_] | None = None
    ) -> None:
        super().__init__()
        self.grids = (p, y, z)
        self.valid = valid
        self.n = int(p.size if valid is None else np.count_nonzero(valid))

    @property
    def ground(self) -> Given:
        return self

    @property
    def has_logits(self) -> bool:
        return self.grids[2] is not None

    @cached_property
    def rows(self) -> Rows:
        p, y, z = self.grids
        return self._row(p), self._row(y), None if z is None else self._row(z)

    def _row(self, grid: NDArray[Any]) -> NDArray[Any]:
        return grid.reshape(-1) if self.valid is None else grid[self.valid]

    @cached_property
    def sums(self) -> VoxelSums:
        return VoxelSums(*self.grids, self.valid)


class Told(Voxels):
    """The ground truth of other voxels with another prediction: that truth itself, or `p` (n,)."""

    def __init__(self, of: Voxels, p: Vector | None = None) -> None:
        super().__init__()
        self._ground = of.ground
        self._told = p
        self.n = of.n

    @property
    def ground(self) -> Given:
        return self._ground

    @cached_property
    def rows(self) -> Rows:
        truth = self.ground.rows[1]
        return truth if self._told is None else self._told, truth, None

    @property
    def p(self) -> Vector:  # vectors are those of the gt, not copies
        return self.ground.y if self._told is None else self._told

    @property
    def y(self) -> Vector:
        return self.ground.y

    @cached_property
    def sums(self) -> VoxelSums:
        if not self.ground.has_logits and self._told is None:
            y = self.ground.grids[1]
            return VoxelSums(y, y, None, self.ground.valid)
        return VoxelSums(self.p, self.y, self.z, None)


class Part(Voxels):
    """Some of the voxels of a whole, in their order there."""

    def __init__(self, whole: Voxels, where: Where) -> None:
        super().__init__()
        self._whole = whole
        self._where = where
        self.n = whole.n

    @property
    def ground(self) -> Given:
        return self._whole.ground

    @cached_property
    def rows(self) -> Rows:
        p, y, z = self._whole.rows
        return p[self._where], y[self._where], None if z is None else z[self._where]

    @property
    def sums(self) -> VoxelSums:
        return self._whole.sums


def _float64(row: NDArray[Any]) -> Vector:
    return np.ascontiguousarray(row, dtype=np.float64)


def _logit(p: Vector) -> Vector:
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def _logs_of(p: Vector, q: Vector, z: Vector | None, clip: float) -> Logs:
    """Return p clipped to [clip, 1-clip] with its logarithms; of logits exact and unclipped."""
    if z is not None:
        return Logs(p, q, -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z))
    p = np.clip(p, clip, 1 - clip)
    return Logs(p, 1 - p, np.log(p), np.log1p(-p))
