"""`SoftPair`: one label's probabilities against its ground truth, each piece of evidence computed once.

Losses read it. Values that are functions of sums read `sums` and `log_sums`, which come from the grids as they
were given. What looks at single voxels (gradients, voxel maps, distances) gets flat float64 vectors over the
voxels that count (ignored ones are left out), made when first asked for; such code needs to know neither the
grid nor the ignore label, and `grid` puts a vector back in place. What is a function of single voxels and of sums
is worked out stretch by stretch (`each`, `total`): then no vector is ever made whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.derivatives import Derivatives, Logs, logs_of
from segcli.evidence.neighbours import Islands, box_around, spread
from segcli.evidence.sums import LogSums, SoftSums, VoxelSums, sigmoid

if TYPE_CHECKING:
    from segcli.evidence.ranks import Ranks

Vector = NDArray[np.float64]
T = TypeVar("T")
D = TypeVar("D", bound=np.generic)


class SoftPair:
    """Probabilities `p` and ground truth `y` of one label on one grid.

    They are given as grids in any dtype and layout, which must not be changed afterwards. The attributes `p`,
    `y` and `z` are float64 vectors in the order of the grid (C order of `shape`); `z` holds logits where those
    are known, and then logarithms are exact and need no clip. `spacing` is in array axis order; `valid` is a
    boolean grid, `None` when every voxel counts.
    """

    def __init__(
        self,
        p: NDArray[Any],
        y: NDArray[Any],
        *,
        spacing: tuple[float, ...] | None = None,
        z: NDArray[Any] | None = None,
        valid: NDArray[np.bool_] | None = None,
        threshold: float = 0.5,
        hard: bool = False,
    ) -> None:
        self.shape = tuple(int(n) for n in p.shape)
        self.spacing = spacing or (1.0,) * p.ndim
        self.valid = valid
        self.threshold = threshold
        self.hard = hard
        self.n = int(p.size if valid is None else np.count_nonzero(valid))
        self._given = (p, y, z)
        self._truth: SoftPair | None = None
        self._told = False  # whether a twin was told its prediction

    @cached_property
    def p(self) -> Vector:
        """Return the probabilities; those of a perfect prediction are its ground truth."""
        return self._column(0)

    @cached_property
    def y(self) -> Vector:
        return self._column(1)

    @cached_property
    def z(self) -> Vector | None:
        if not self._has_logits:
            return None
        if self._truth is None:
            return self._column(2)
        # Logits of a binary truth would be infinite; beyond 745 the sigmoid is 0 or 1 in float64.
        if self._certain:
            return np.where(self.rows[0], 800.0, -800.0)
        return np.clip(_logit(self.p), -800.0, 800.0)

    @property
    def given(self) -> NDArray[Any]:
        """Return the probabilities on the grid as they were given, those of ignored voxels included."""
        return np.asarray(self._given[0])

    @property
    def _has_logits(self) -> bool:
        return self._given[2] is not None

    @cached_property
    def rows(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Return p, y and z of the voxels that count, each in a row as it was given: no other dtype."""
        p, y, z = self._given
        if self._truth is not None:
            truth = self._truth.rows[1]
            return self.p if self._told else truth, truth, None
        return self._row(p), self._row(y), None if z is None else self._row(z)

    def _row(self, grid: NDArray[Any]) -> NDArray[Any]:
        return grid.reshape(-1) if self.valid is None else grid[self.valid]

    def _column(self, which: Literal[0, 1, 2]) -> Vector:
        if self._truth is not None:  # the twin's vectors are those of the gt, not copies
            return self._truth.y
        return np.ascontiguousarray(self.rows[which], dtype=np.float64)

    @property
    def _certain(self) -> bool:
        """Return whether the prediction is a mask: what is a function of p then has two values."""
        return self.rows[0].dtype == np.bool_

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count as a flat float64 vector."""
        return np.ascontiguousarray(self._row(grid), dtype=np.float64)

    def grid(self, vector: Vector, fill: float = 0.0) -> Vector:
        """Return a vector as an array of the grid's shape, `fill` in ignored voxels."""
        if self.valid is None:
            return vector.reshape(self.shape)
        grid = np.full(self.shape, fill)
        grid[self.valid] = vector
        return grid

    @cached_property
    def q(self) -> Vector:
        """Return 1-p, from the logit where there is one (1-p is 0 in float64 beyond z=37)."""
        return 1.0 - self.p if self.z is None else sigmoid(-self.z)

    @cached_property
    def _sums(self) -> VoxelSums:
        p, y, z = self._given
        if self._truth is None:
            return VoxelSums(p, y, z, self.valid)
        if z is None and not self._told:
            return VoxelSums(y, y, None, self.valid)
        return VoxelSums(self.p, self.y, self.z, None)

    @property
    def sums(self) -> SoftSums:
        """Return the sums over voxels that need no logarithm."""
        return self._sums.sums()

    def log_sums(self, clip: float, gamma: float | None = None) -> LogSums:
        """Return the sums of cross-entropies and their focal forms; `gamma` may be left open where it is not read."""
        return self._sums.logs(clip, gamma)

    @property
    def errors(self) -> tuple[float, float]:
        """Return the sums of p(1-y) and (1-p)y: exact digits where the difference of `sums` has none left."""
        return self.sums.fp, self.sums.fn

    def logs(self, clip: float) -> Logs:
        """Return p clipped to [clip, 1-clip] with its logarithms; exact and unclipped from logits."""
        cache: dict[float, Logs] = self.__dict__.setdefault("_logs", {})
        if clip not in cache:
            if self._certain:
                ends = np.array([0.0, 1.0])
                both = logs_of(ends, 1 - ends, None if self.z is None else np.array([-800.0, 800.0]), clip)
                cache[clip] = Logs(*(np.where(self.rows[0], on, off) for off, on in both))
            else:
                cache[clip] = logs_of(self.p, self.q, self.z, clip)
        return cache[clip]

    @property
    def gt_empty(self) -> bool:
        """Return whether the ground truth has nothing of the label."""
        return self.sums.y == 0

    @property
    def gt_full(self) -> bool:
        """Return whether the ground truth has nothing but the label."""
        return self.sums.y == self.n > 0

    @property
    def gt_hard(self) -> bool:
        """Return whether the ground truth is 0 and 1 only."""
        y = self.rows[1]
        return y.dtype == np.bool_ or bool(((y == 0) | (y == 1)).all())

    # --- stretch by stretch -------------------------------------------------------------------

    def each(self, function: Callable[[SoftPair], Vector]) -> Vector:
        """Return a vector whose entries are functions of single voxels, as `function` gives it of a pair."""
        from segcli.evidence import stretch

        if self.n <= stretch.LENGTH:
            return function(self)
        found = np.empty(self.n)
        for where in stretch.stretches(self.n):
            found[where] = function(stretch.Stretch(self, where))
        return found

    def total(self, function: Callable[[SoftPair], Vector]) -> float:
        """Return the sum of such a vector, which is never there as a whole."""
        from segcli.evidence import stretch

        if self.n <= stretch.LENGTH:
            return float(function(self).sum())
        return sum(float(function(stretch.Stretch(self, where)).sum()) for where in stretch.stretches(self.n))

    def once(self, key: Hashable, make: Callable[[SoftPair], T]) -> T:
        """Return what a loss needs to know of all voxels: made once for the pair and all its stretches."""
        kept: dict[Hashable, T] = self.__dict__.setdefault("_kept", {})
        if key not in kept:
            kept[key] = make(self)
        return kept[key]

    def here(self, vector: NDArray[D]) -> NDArray[D]:
        """Return what a vector over all voxels has at those of this pair: of a stretch, its part."""
        return vector

    def mean(self, contributions: Vector) -> float | None:
        """Return the mean over the voxels that count; `None` where there are none."""
        return float(contributions.mean()) if self.n else None

    def share(self, total: float) -> float | None:
        """Return a sum over the voxels as their mean; `None` where there are none."""
        return total / self.n if self.n else None

    def wrt(self, wrt: Literal["p", "z"]) -> Derivatives:
        """Return the derivatives with respect to the probability or the logit."""
        return Derivatives(self, wrt)

    def by_given(self, gradient: Vector, wrt: Literal["p", "z"]) -> Vector:  # noqa: ARG002 (as `SoftClasses`)
        """Return a gradient by what was given: of one label that is the probability or the logit itself."""
        return gradient

    def perfect(self, p: Vector | None = None) -> SoftPair:
        """Return the pair whose prediction is the ground truth, or `p`: L of it is the optimum."""
        return self._perfect if p is None else self._with_prediction(p)

    def predicting(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> SoftPair:
        """Return a pair with the same ground truth and the probabilities that `make` gives for its grid."""
        y = self._given[1]
        options: dict[str, Any] = {"spacing": self.spacing, "valid": self.valid, "threshold": self.threshold}
        return SoftPair(make(np.asarray(y, dtype=np.float32)), y, **options)

    @cached_property
    def is_right(self) -> bool:
        """Return whether the prediction is the ground truth, to the last digit."""
        return bool(np.array_equal(self.rows[0], self.rows[1]))

    @cached_property
    def _perfect(self) -> SoftPair:
        return self._with_prediction(None)

    def _with_prediction(self, p: Vector | None) -> SoftPair:
        """Return a twin that shares what is known of the ground truth; it predicts that, or `p`."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update({k: v for k, v in self.__dict__.items() if k in _SHARED})
        twin.hard = True
        twin._truth = self
        twin._told = p is not None
        if p is not None:
            twin.p = p
        return twin

    # --- where the voxels lie -----------------------------------------------------------------

    @cached_property
    def inside_gt(self) -> NDArray[np.bool_]:
        """Return which voxels are foreground in the ground truth; a soft one counts above 1/2."""
        return self.rows[1] > np.float64(0.5)  # a float64: Python's 0.5 would be rounded to the dtype of the row

    @cached_property
    def predicted(self) -> NDArray[np.bool_]:
        """Return which voxels are foreground in the thresholded prediction."""
        return self.rows[0] > np.float64(self.threshold)

    @cached_property
    def ranks(self) -> Ranks:
        """Return the distinct probabilities with their voxels; a soft ground truth counts above 1/2."""
        from segcli.evidence.ranks import Ranks

        return Ranks.of(self.p, self.inside_gt)

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which voxels lie within one 26-neighbour step (8 in 2-D) of the gt border, on both sides."""
        inside, outside = self.placed(self.inside_gt), self.placed(~self.inside_gt)
        near = np.zeros(self.shape, dtype=bool)
        box = box_around(inside, margin=2)  # a voxel near the border, and what is near to that
        near[box] = spread(inside[box]) & spread(outside[box])
        return self._row(near)

    @cached_property
    def islands(self) -> list[Islands]:
        """Return the components of gt that the prediction misses wholly, and those of it that are false."""
        inside, predicted = self.inside_gt, self.predicted
        return [self._islands("missed", inside, predicted), self._islands("false", predicted, inside)]

    def _islands(self, kind: str, own: NDArray[np.bool_], other: NDArray[np.bool_]) -> Islands:
        from scipy.ndimage import label

        grid = self.placed(own)
        box = box_around(grid)
        labels = np.zeros(self.shape, dtype=np.int32)
        count = label(grid[box], np.ones((3,) * grid.ndim), output=labels[box])
        numbers = self._row(labels)
        alone = np.ones(count + 1, dtype=bool)
        alone[0] = False
        alone[numbers[own & other]] = False
        voxels = np.flatnonzero(own)
        voxels = voxels[alone[numbers[voxels]]]
        renumbered = (np.cumsum(alone) - 1)[numbers[voxels]]
        return Islands(kind, voxels, renumbered, np.bincount(renumbered, minlength=int(alone.sum())))

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return each voxel's distance to the nearest voxel on the other side of the boundary of `of`.

        The prediction is thresholded. Zeros everywhere where there is no boundary (an empty or a full
        mask). Unit: that of the spacing, or voxels. Ignored voxels are on neither side.
        """
        if self._truth is not None:  # a perfect prediction's field is that of its ground truth
            return self._truth.boundary_distance("gt", unit)
        fields: dict[tuple[str, str], Vector] = self.__dict__.setdefault("_fields", {})
        if of == "pred" and (of, unit) not in fields and np.array_equal(self.predicted, self.inside_gt):
            of = "gt"
        if unit == "voxel" and len({1.0, *self.spacing}) == 1:
            unit = "mm"
        if (of, unit) not in fields:
            fields[of, unit] = self._boundary_distance(self.inside_gt if of == "gt" else self.predicted, unit)
        return fields[of, unit]

    def has_boundary(self, unit: Literal["mm", "voxel"]) -> bool:
        """Return whether the gt has a boundary: asked of all voxels, since those of a stretch may lie where none is."""
        return self.once(("boundary", unit), lambda whole: bool(whole.boundary_distance("gt", unit).any()))

    def _boundary_distance(self, inside: NDArray[np.bool_], unit: Literal["mm", "voxel"]) -> Vector:
        from segcli.kernels.distance_transform import distance_transform

        if not inside.any() or inside.all():
            return np.zeros(self.n)
        spacing = self.spacing if unit == "mm" else (1.0,) * len(self.shape)
        # The nearest voxel of the other side is in the box of a side or next to it: a voxel farther off, moved to the
        # face of the grown box, is nearer and still of the other side, unless it is ignored there.
        sides = [self.placed(inside), self.placed(~inside)]
        boxes = [box_around(side, margin=1) if self.valid is None else (slice(None),) * side.ndim for side in sides]
        distances = [distance_transform(sides[1 - k][boxes[k]], spacing) for k in (0, 1)]
        large = int(distances[1].size >= distances[0].size)
        if distances[large].shape == self.shape:
            found = distances[large]
            found[boxes[1 - large]] += distances[1 - large]
        else:
            found = np.zeros(self.shape)
            for box, distance in zip(boxes, distances, strict=True):
                found[box] += distance
        return self.vector(found)

    def placed(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the voxels that count on the grid, ignored ones false."""
        if self.valid is None:
            return mask.reshape(self.shape)
        grid = np.zeros(self.shape, dtype=bool)
        grid[self.valid] = mask
        return grid


def _logit(p: Vector) -> Vector:
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


_SHARED = ("shape", "spacing", "valid", "threshold", "n", "_given")
