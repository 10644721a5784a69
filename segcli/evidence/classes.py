"""All classes of one case at once: what measures read that are no mean over labels.

`SoftClasses` holds one probability for each class and voxel (losses); `Classes` the confusion matrix of
two label maps (metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.joint import Joint
from segcli.evidence.neighbours import Islands
from segcli.evidence.parts import ClassSums
from segcli.evidence.soft import SoftPair, Vector
from segcli.masks.labels import BACKGROUND

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.evidence.ranks import Ranks
    from segcli.masks.labels import Label

#: (C, n): one row for each class, one column for each voxel that counts.
Matrix = NDArray[np.float64]


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
    """Probabilities `p` and ground truth `y` of all classes on one grid, each (C, *shape).

    A voxel's probabilities sum to 1, and so does its ground truth, one-hot unless it is soft. `z` holds
    the logits (C, *shape) where those are known; then logarithms are exact and need no clip. `names` are
    the classes, the background first; `valid` is a boolean grid, `None` when every voxel counts. `of_one_map` says
    that only the second of two classes was given, as one map: the first is its complement.
    """

    def __init__(
        self,
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
    ) -> None:
        self.of_one_map = of_one_map
        self.shape = tuple(int(n) for n in p.shape[1:])
        self.count = len(p)
        self.names = tuple(names) or tuple(str(c) for c in range(self.count))
        self.spacing = spacing or (1.0,) * len(self.shape)
        self.valid = valid
        self.threshold = threshold
        self.hard = hard
        self.p = self.matrix(p)
        self.y = self.matrix(y)
        self.z = None if z is None else self.matrix(z)
        self.n = int(self.p.shape[1])
        self._truth: SoftClasses | None = None

    def matrix(self, grids: NDArray[Any]) -> Matrix:
        """Return the voxels that count of each class as a (C, n) float64 array."""
        chosen = grids.reshape(len(grids), -1) if self.valid is None else grids[:, self.valid]
        return np.ascontiguousarray(chosen, dtype=np.float64)

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count of one grid as a flat float64 vector."""
        return np.asarray(self.matrix(grid[None])[0])

    def grid(self, values: NDArray[np.float64], fill: float = 0.0) -> NDArray[np.float64]:
        """Return an (n,) or (C, n) array on the grid: (*shape) or (C, *shape), `fill` in ignored voxels."""
        lead = values.shape[:-1]
        if self.valid is None:
            return values.reshape(*lead, *self.shape)
        grid = np.full((*lead, *self.shape), fill)
        grid[..., self.valid] = values
        return grid

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
        cache: dict[float, ClassLogs] = self.__dict__.setdefault("_logs", {})
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
        return SoftClasses(p, self.grid(self.y), names=self.names, of_one_map=self.of_one_map, **options)

    def perfect(self, p: Matrix | None = None) -> SoftClasses:
        """Return the same classes predicted as the ground truth is, or as `p` (C, n)."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update({key: value for key, value in self.__dict__.items() if key in _SHARED})
        twin.p = self.y if p is None else p
        twin.z = None
        if self.z is not None:
            with np.errstate(divide="ignore"):  # beyond 745 a softmax is 0 or 1 in float64
                twin.z = np.maximum(np.log(twin.p), -800.0)
        twin.hard = True
        twin._truth = self
        return twin

    # --- where the voxels lie: as one object against the background ---------------------------

    @cached_property
    def object(self) -> SoftPair:
        """Return all classes but the first as one object."""
        return self.one(0, others=True)

    def one(self, index: int, *, others: bool = False) -> SoftPair:
        """Return one class against the rest, or the rest against it."""
        p, y = (1 - m[index] if others else m[index] for m in (self.p, self.y))
        return SoftPair(
            self.grid(p), self.grid(y), spacing=self.spacing, valid=self.valid, threshold=self.threshold, hard=self.hard
        )

    def channel(self, index: int) -> SoftPair:
        """Return the voxels of one class against the rest in a row, without their grid: for sums over voxels."""
        return SoftPair(self.p[index], self.y[index], threshold=self.threshold, hard=self.hard)

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


_SHARED = ("shape", "count", "names", "spacing", "valid", "threshold", "n", "y", "parts", "of_one_map")


class Classes:
    """The confusion of all classes of a case: what metrics over all classes read.

    The classes are the background and the plain labels of the case, each of one value or several;
    whatever else occurs counts as background, but for a prediction that is no label: it is of no class.
    """

    def __init__(self, case: Case, labels: Sequence[Label]) -> None:
        self.case = case
        #: The classes, the background first.
        self.labels = list(labels)

    @cached_property
    def soft(self) -> SoftClasses | None:
        """Return the probabilities of all classes; `None` of a hard mask."""
        known = self.case.probabilities
        return None if known is None else known.classes()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        """Return the confusion (C, C + 1), its last column the voxels whose prediction is no label."""
        found = np.zeros((len(self.labels) + 1,) * 2, dtype=np.int64)
        np.add.at(found, self._met[::-1], self.joint.n)
        return found[:-1]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Return how many voxels are of class i in the ground truth (rows) and of j in the prediction (C, C)."""
        return self._table[:, :-1]

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """Return how many voxels of each class in the ground truth are predicted as no label (C,)."""
        return self._table[:, -1]

    @cached_property
    def _met(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return of each cell of the joint histogram the class in the prediction and in the ground truth.

        What is predicted as no label has the number after the last class.
        """
        class_of = []
        for side in _SIDES:
            numbers = np.where(self.case.is_label(side), 0, len(self.labels)).astype(np.intp)
            for number, label in enumerate(self.labels[1:], start=1):
                numbers[self.case.rows(side, label)] = number
            class_of.append(numbers)
        return class_of[0][self.joint.row], class_of[1][self.joint.column]

    @cached_property
    def sums(self) -> ClassSums:
        """Return the voxels of each class in both maps, in the prediction and in the ground truth."""
        pred, gt = self._met
        n, same = self.joint.n, pred == gt
        columns = []
        for classes, voxels in ((pred[same], n[same]), (pred, n), (gt, n)):
            column = np.zeros(len(self.labels) + 1, dtype=np.int64)  # the last is no label
            np.add.at(column, classes, voxels)
            columns.append(dict(zip(self.names, column[:-1].tolist(), strict=True)))
        return ClassSums(*columns)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Return which classes occur in either map (C,)."""
        return np.isin(np.arange(len(self.labels)), self._met)

    @cached_property
    def joint(self) -> Joint:
        """Return the joint histogram of the two maps over all their values, also those that no label names."""
        return self.case.cells.joint

    @cached_property
    def foreground(self) -> Joint:
        """Return the joint histogram of the voxels whose gt is not 0."""
        zero = self.case.rows("gt", BACKGROUND)
        return self.joint.without_column(int(zero[0])) if len(zero) else self.joint

    @cached_property
    def inside(self) -> Joint:
        """Return the joint histogram of the voxels whose gt and pred are not 0."""
        zero = self.case.rows("pred", BACKGROUND)
        return self.foreground.without_row(int(zero[0])) if len(zero) else self.foreground

    @property
    def empty(self) -> str:
        """Return why a measure may have no value: a map is background only, or a denominator is 0."""
        pred, gt = (any(self.case.label_values(side)) for side in _SIDES)
        return {(False, False): "both_empty", (True, False): "gt_empty", (False, True): "pred_empty"}.get(
            (pred, gt), "zero_denominator"
        )


_SIDES: tuple[Literal["pred"], Literal["gt"]] = ("pred", "gt")
