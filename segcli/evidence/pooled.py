"""Several pairs as one: channels pooled (`--average micro`) or the images of a stack (`--batch-dice`).

Sums run over all parts before a formula is applied to them. What needs a neighbourhood has no pooled
form: it raises `NoGridError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.classes import Matrices, Matrix, SoftClasses
from segcli.evidence.counts import Counts
from segcli.evidence.neighbours import Islands
from segcli.evidence.object_parts import PooledObjects
from segcli.evidence.pair import Pair
from segcli.evidence.parts import NoGridError
from segcli.evidence.soft import SoftPair
from segcli.evidence.voxels import Given, Told, Vector, Voxels


class PooledCounts:
    """The counts of several labels or cases summed, as the evidence of one: for measures of counts.

    With the parts of the cases (see `ObjectParts`) also for measures of objects.
    """

    def __init__(
        self,
        counts: Sequence[Counts],
        voxel_volume: float | None = None,
        pairs: Sequence[Pair] = (),
        parts: Sequence[Mapping[str, Any] | None] = (),
    ) -> None:
        self.counts = Counts(*(sum(column) for column in zip(*counts, strict=True)))
        self.objects = PooledObjects(parts)
        self._pairs = pairs
        if voxel_volume is not None:
            self.voxel_volume = voxel_volume

    @cached_property
    def soft(self) -> PooledPair:
        """Return the voxels of all labels with their probabilities; raise where masks are hard or only counts known."""
        parts = [soft for soft in (pair.soft for pair in self._pairs) if soft is not None]
        if not parts:
            raise NoGridError
        return PooledPair(parts)

    def __getattr__(self, name: str) -> Any:
        raise NoGridError(name)


class PooledPair(SoftPair):
    """The voxels of several `SoftPair`s as those of one. Where voxels lie, each part answers for itself."""

    def __init__(
        self, parts: Sequence[SoftPair], *, voxels: Voxels | None = None, truth: SoftPair | None = None
    ) -> None:
        first = parts[0]
        super().__init__(
            voxels or _one_after_another(parts),
            None,
            spacing=first.spacing,
            threshold=first.threshold,
            hard=truth is not None or all(part.hard for part in parts),
            truth=truth,
        )
        self.parts = list(parts)

    def predicting(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> SoftPair:
        """Return the same parts, each with the probabilities that `make` gives for it."""
        return PooledPair([part.predicting(make) for part in self.parts])

    def split(self, vector: Vector) -> list[Vector]:
        """Return a vector over all voxels as one vector for each part."""
        return np.split(vector, np.cumsum([part.n for part in self.parts])[:-1])

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which voxels lie within a step of the gt border of their part."""
        return np.concatenate([part.near_boundary for part in self.parts])

    @cached_property
    def islands(self) -> list[Islands]:
        """Return the islands of all parts, numbered through."""
        return _joined(self.parts)

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return each voxel's distance to the boundary of its part."""
        if self._truth is not None:
            return self._truth.boundary_distance("gt", unit)
        return np.concatenate([part.boundary_distance(of, unit) for part in self.parts])

    def _with_prediction(self, p: Vector | None) -> SoftPair:
        return PooledPair(self.parts, voxels=Told(self.voxels, p), truth=self)


def _one_after_another(parts: Sequence[SoftPair]) -> Voxels:
    rows = [part.rows for part in parts]
    logits = [row[2] for row in rows if row[2] is not None]
    z = np.concatenate(logits) if len(logits) == len(rows) else None
    return Given(np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows]), z)


class PooledClasses(SoftClasses):
    """The voxels of several `SoftClasses` with the same classes as those of one."""

    def __init__(self, parts: Sequence[SoftClasses], told: Matrices | None = None) -> None:
        first = parts[0]
        super().__init__(
            *(told or _matrices(parts)),
            lattice=None,
            spacing=first.spacing,
            names=first.names,
            threshold=first.threshold,
            hard=told is not None or all(part.hard for part in parts),
            of_one_map=first.of_one_map,
        )
        self.parts = list(parts)

    def predicting(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> SoftClasses:
        """Return the same parts, each with the probabilities that `make` gives for it."""
        return PooledClasses([part.predicting(make) for part in self.parts])

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which voxels lie within a step of a border between classes of their part."""
        return np.concatenate([part.near_boundary for part in self.parts])

    @property
    def islands(self) -> list[Islands]:
        """Return the islands of all parts, numbered through."""
        return _joined(self.parts)

    def _with_prediction(self, p: Matrix, z: Matrix | None) -> SoftClasses:
        return PooledClasses(self.parts, (p, self.y, z))


def _matrices(parts: Sequence[SoftClasses]) -> Matrices:
    logits = [part.z for part in parts if part.z is not None]
    z = np.concatenate(logits, axis=1) if len(logits) == len(parts) else None
    return np.concatenate([part.p for part in parts], axis=1), np.concatenate([part.y for part in parts], axis=1), z


def _joined(parts: Sequence[SoftPair] | Sequence[SoftClasses]) -> list[Islands]:
    starts = np.cumsum([0, *(part.n for part in parts)])
    joined = []
    for kinds in zip(*(part.islands for part in parts), strict=True):
        firsts = np.cumsum([0, *(len(found.sizes) for found in kinds)])
        voxels = [found.voxels + start for found, start in zip(kinds, starts, strict=False)]
        numbers = [found.numbers + first for found, first in zip(kinds, firsts, strict=False)]
        sizes = [found.sizes for found in kinds]
        joined.append(Islands(kinds[0].kind, *(np.concatenate(a) for a in (voxels, numbers, sizes))))
    return joined
