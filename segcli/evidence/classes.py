"""The probabilities of all classes at once: what losses read that are no mean over labels.

Metrics of all classes read `Classes` (`confusion.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.lattice import Lattice
from segcli.evidence.neighbours import Islands
from segcli.evidence.parts import NoGridError
from segcli.evidence.soft import SoftPair, Vector

if TYPE_CHECKING:
    from segcli.evidence.ranks import Ranks

#: (C, n): one row for each class, one column for each voxel that counts.
Matrix = NDArray[np.float64]
#: p, y and z of all classes; z where logits are known.
Matrices = tuple[Matrix, Matrix, Matrix | None]


class ClassLogs(NamedTuple):
    """The probabilities that a cross-entropy really sees, (C, n), their complements and logarithms."""

    p: Matrix
    q: Matrix
    log_p: Matrix


class ClassDerivatives:
    """Derivatives with respect to the probabilities or to the logits of all classes.

    By `p` each probability is a variable of its own: that the classes of a voxel sum to 1 is the
    softmax's business, which the derivative by `z` includes.
    """

    def __init__(self, classes: SoftClasses, wrt: Literal["p", "z"]) -> None:
        self._classes = classes
        self.wrt = wrt

    def chain(self, by_p: Matrix) -> Matrix:
        """Return dL/dp (C, n) as it is, or taken through the softmax to dL/dz."""
        if self.wrt == "p":
            return by_p
        p = self._classes.p
        return np.asarray(p * (by_p - (p * by_p).sum(axis=0)))

    def through_logs(self, by_log: Matrix, clip: float) -> Matrix:
        """Return dL/dp or dL/dz (C, n), given dL/dlog p of `SoftClasses.logs(clip)`; 0 where the clip flattens it."""
        classes = self._classes
        total = classes.total
        p = classes.p / total
        if classes.z is None:
            by_log = by_log * ((p >= clip) & (p <= 1 - clip))
        both = by_log.sum(axis=0)
        if self.wrt == "z":
            return np.asarray(by_log - p * both)
        # beyond |z| = 345 the slope counts as 1e150: sums of its squares stay finite, and 0 times it is 0
        return np.asarray((by_log / np.maximum(p, 1e-150) - both) / total)


class SoftClasses:
    """Probabilities `p` and ground truth `y` of all classes at the voxels that count, each (C, n).

    A voxel's probabilities sum to 1, and so does its ground truth, one-hot unless it is soft. `z` holds
    the logits (C, n) where those are known; then logarithms are exact and need no clip. `names` are
    the classes, the background first; `lattice` is where the voxels lie, `None` where they are of no one grid.
    `of_one_map` says that only the second of two classes was given, as one map: the first is its complement.
    """

    def __init__(
        self,
        p: Matrix,
        y: Matrix,
        z: Matrix | None = None,
        *,
        lattice: Lattice | None,
        spacing: tuple[float, ...],
        names: Sequence[str] = (),
        threshold: float = 0.5,
        hard: bool = False,
        of_one_map: bool = False,
    ) -> None:
        self.p, self.y, self.z = p, y, z
        self.lattice = lattice
        self.spacing = spacing
        self.count, self.n = (int(n) for n in p.shape)
        self.names = tuple(names) or tuple(str(c) for c in range(self.count))
        self.threshold = threshold
        self.hard = hard
        self.of_one_map = of_one_map
        self._logs: dict[float, ClassLogs] = {}

    @classmethod
    def of(
        cls,
        p: NDArray[Any],
        y: NDArray[Any],
        *,
        names: Sequence[str] = (),
        spacing: tuple[float, ...] | None = None,
        z: NDArray[Any] | None = None,
        valid: NDArray[np.bool_] | None = None,
        threshold: float = 0.5,
        hard: bool = False,
        of_one_map: bool = False,
    ) -> SoftClasses:
        """Return the classes of grids (C, *shape); `valid` is a boolean grid, `None` when every voxel counts."""
        lattice = Lattice.of(p.shape[1:], spacing, valid)
        return SoftClasses(
            lattice.vector(p),
            lattice.vector(y),
            None if z is None else lattice.vector(z),
            lattice=lattice,
            spacing=lattice.spacing,
            names=names,
            threshold=threshold,
            hard=hard,
            of_one_map=of_one_map,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the grid; without one that of the row."""
        return (self.n,) if self.lattice is None else self.lattice.shape

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        return None if self.lattice is None else self.lattice.valid

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count of one grid as a flat float64 vector."""
        return self._on_grid().vector(grid)

    def grid(self, values: NDArray[np.float64], fill: float = 0.0) -> NDArray[np.float64]:
        """Return an (n,) or (C, n) array on the grid: (*shape) or (C, *shape), `fill` in ignored voxels."""
        return self._on_grid().grid(values, fill)

    def _on_grid(self) -> Lattice:
        """Return the lattice; raise where voxels lie on no common one."""
        if self.lattice is None:
            raise NoGridError
        return self.lattice

    @cached_property
    def target(self) -> NDArray[np.intp]:
        """Return the class of each voxel in the ground truth (n,); of a soft one the likeliest."""
        return np.asarray(self.y.argmax(axis=0))

    @cached_property
    def decided(self) -> NDArray[np.intp]:
        """Return the class of each voxel in the prediction (n,); of equals the first."""
        return np.asarray(self.p.argmax(axis=0))

    @cached_property
    def confidence(self) -> Ranks:
        """Return the largest probability of each voxel, ranked; foreground is where its class is right."""
        from segcli.evidence.ranks import Ranks

        return Ranks.of(self.p.max(axis=0), self.decided == self.target)

    @cached_property
    def entropy(self) -> Vector:
        """Return how open the class of each voxel is, in bits (n,)."""
        return entropy(self.p)

    @cached_property
    def sizes(self) -> Vector:
        """Return how many voxels each class has in the ground truth (C,)."""
        return np.asarray(self.y.sum(axis=1))

    @cached_property
    def total(self) -> Vector:
        """Return the sum of each voxel's probabilities (n,): 1 but for rounding, and 1 where all are 0."""
        total = self.p.sum(axis=0)
        return np.where(total > 0, total, 1.0)

    def logs(self, clip: float) -> ClassLogs:
        """Return p, made to sum to 1 and clipped to [clip, 1-clip], with its logarithm.

        From logits both are exact and unclipped.
        """
        cache = self._logs
        if clip not in cache:
            if self.z is None:
                p = np.clip(self.p / self.total, clip, 1 - clip)
                cache[clip] = ClassLogs(p, 1 - p, np.log(p))
            else:
                log_p = _log_softmax(self.z)
                cache[clip] = ClassLogs(self.p, -np.expm1(log_p), log_p)
        return cache[clip]

    @property
    def gt_empty(self) -> bool:
        """Return whether the ground truth has nothing but background."""
        return float(self.sizes[1:].sum()) == 0

    @property
    def gt_full(self) -> bool:
        """Return whether the ground truth has no background: never said of classes."""
        return False

    @property
    def gt_hard(self) -> bool:
        """Return whether the ground truth is 0 and 1 only."""
        return bool(((self.y == 0) | (self.y == 1)).all())

    @cached_property
    def is_right(self) -> bool:
        """Return whether the prediction is the ground truth, to the last digit."""
        return bool(np.array_equal(self.p, self.y))

    def mean(self, contributions: Vector) -> float | None:
        """Return the mean over the voxels that count; `None` where there are none."""
        return float(contributions.mean()) if self.n else None

    def wrt(self, wrt: Literal["p", "z"]) -> ClassDerivatives:
        """Return the derivatives with respect to the probabilities or to the logits."""
        return ClassDerivatives(self, wrt)

    def by_given(self, gradient: Matrix, wrt: Literal["p", "z"]) -> NDArray[np.float64]:
        """Return a gradient (C, n) by what was given: of one map (n,), which moves its complement too.

        The logit of a single map is that of its class, beside a constant 0 of the background.
        """
        if not self.of_one_map:
            return gradient
        return np.asarray(gradient[1] - gradient[0] if wrt == "p" else gradient[1])

    def predicting(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> SoftClasses:
        """Return the same classes with the probabilities that `make` gives of the grid of each, made to sum to 1."""
        p = np.stack([make(self.grid(row)) for row in self.y])
        total = p.sum(axis=0)
        p = np.where(total > 0, p, 1.0) / np.where(total > 0, total, len(p))
        options: dict[str, Any] = {"spacing": self.spacing, "valid": self.valid, "threshold": self.threshold}
        return SoftClasses.of(p, self.grid(self.y), names=self.names, of_one_map=self.of_one_map, **options)

    def perfect(self, p: Matrix | None = None) -> SoftClasses:
        """Return the same classes predicted as the ground truth is, or as `p` (C, n)."""
        p, z = self.y if p is None else p, None
        if self.z is not None:
            with np.errstate(divide="ignore"):  # beyond 745 a softmax is 0 or 1 in float64
                z = np.maximum(np.log(p), -800.0)
        return self._with_prediction(p, z)

    def _with_prediction(self, p: Matrix, z: Matrix | None) -> SoftClasses:
        return SoftClasses(
            p,
            self.y,
            z,
            lattice=self.lattice,
            spacing=self.spacing,
            names=self.names,
            threshold=self.threshold,
            hard=True,
            of_one_map=self.of_one_map,
        )

    # --- where the voxels lie: as one object against the background ---------------------------

    @cached_property
    def object(self) -> SoftPair:
        """Return all classes but the first as one object."""
        return self.one(0, others=True)

    def one(self, index: int, *, others: bool = False) -> SoftPair:
        """Return one class against the rest, or the rest against it."""
        p, y = (1 - m[index] if others else m[index] for m in (self.p, self.y))
        return SoftPair.of(
            self.grid(p), self.grid(y), spacing=self.spacing, valid=self.valid, threshold=self.threshold, hard=self.hard
        )

    def channel(self, index: int) -> SoftPair:
        """Return the voxels of one class against the rest in a row, without their grid: for sums over voxels."""
        return SoftPair.of(self.p[index], self.y[index], threshold=self.threshold, hard=self.hard)

    @property
    def inside_gt(self) -> NDArray[np.bool_]:
        """Return which voxels are of a class other than the background in the ground truth."""
        return np.asarray(self.target != 0)

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Return which voxels are of a class other than the background in the prediction."""
        return np.asarray(self.decided != 0)

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which voxels lie within one 26-neighbour step (8 in 2-D) of a border between classes of the gt."""
        return np.asarray(np.any([self.one(c).near_boundary for c in range(self.count)], axis=0))

    @property
    def islands(self) -> list[Islands]:
        """Return the components of the whole object that only one side has: see `SoftPair.islands`."""
        return self.object.islands

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return each voxel's distance to the nearest border between classes; zeros where there is none."""
        nearest = np.full(self.n, np.inf)
        for index in range(self.count):
            found = self.one(index).boundary_distance(of, unit)
            if found.any():
                nearest = np.minimum(nearest, found)
        return np.where(np.isfinite(nearest), nearest, 0.0)


def entropy(p: NDArray[Any]) -> Vector:
    """Return the entropy in bits over the first axis of probabilities (C, ...), which are made to sum to 1."""
    total = p.sum(axis=0, dtype=np.float64)
    total[total == 0] = 1.0
    found = np.zeros(total.shape)
    for channel in p:  # one after another: no second array of the size of p
        share = channel / total
        found -= share * np.log2(share, out=np.zeros(total.shape), where=share > 0)
    return np.maximum(found, 0.0)  # 0 but for rounding, and never -0


def _log_softmax(z: Matrix) -> Matrix:
    """Return the logarithm of the softmax over classes; next to 0 it keeps its digits."""
    shifted = z - z.max(axis=0)
    rest = np.exp(shifted)
    np.put_along_axis(rest, z.argmax(axis=0)[np.newaxis], 0.0, axis=0)  # the largest is 1: left to log1p
    return np.asarray(shifted - np.log1p(rest.sum(axis=0)))
