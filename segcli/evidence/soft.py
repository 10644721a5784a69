"""`SoftPair`: one label's probabilities against its ground truth, each piece of evidence computed once.

Losses read it. It is made of `Voxels`, a row of those that count, and of the `Lattice` on which they lie. Values that
are functions of sums read `sums` and `log_sums`, which come from the grids as they were given. What looks at single
voxels (gradients, voxel maps, distances) gets flat float64 vectors, made when first asked for; such code needs to know
neither the grid nor the ignore label, and `grid` puts a vector back in place. What is a function of single voxels and
of sums is worked out stretch by stretch (`each`, `total`): then no vector is ever made whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segcli.evidence import stretch
from segcli.evidence.derivatives import Derivatives, LogSlopes
from segcli.evidence.lattice import Lattice
from segcli.evidence.neighbours import Islands
from segcli.evidence.parts import NoGridError
from segcli.evidence.voxels import Given, Logs, Part, Rows, Told, Voxels, Where

if TYPE_CHECKING:
    from segcli.evidence.ranks import Ranks
    from segcli.evidence.sums import LogSums, SoftSums

Vector = NDArray[np.float64]
T = TypeVar("T")
D = TypeVar("D", bound=np.generic)


class SoftPair:
    """Probabilities `p` and ground truth `y` of one label.

    `p`, `y` and `z` are float64 vectors of the voxels that count; `z` holds logits where those are known, and then
    logarithms are exact and need no clip. `lattice` is where they lie; `None` where they are of no one grid.
    `truth` is the pair whose ground truth this one was told to predict, or to be measured against.
    """

    def __init__(
        self,
        voxels: Voxels,
        lattice: Lattice | None,
        *,
        spacing: tuple[float, ...],
        threshold: float = 0.5,
        hard: bool = False,
        truth: SoftPair | None = None,
    ) -> None:
        self.voxels = voxels
        self.lattice = lattice
        self.spacing = spacing
        self.threshold = threshold
        self.hard = hard
        self.n = voxels.n
        self._truth = truth
        self._fields: dict[tuple[str, str], Vector] = {}
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def of(
        cls,
        p: NDArray[Any],
        y: NDArray[Any],
        *,
        spacing: tuple[float, ...] | None = None,
        z: NDArray[Any] | None = None,
        valid: NDArray[np.bool_] | None = None,
        threshold: float = 0.5,
        hard: bool = False,
    ) -> SoftPair:
        """Return the pair of two grids of one shape, in any dtype and layout, which must not be changed afterwards.

        `z` is a grid of logits; `spacing` is in array axis order; `valid` is a boolean grid, `None` when every voxel
        counts.
        """
        lattice = Lattice.of(p.shape, spacing, valid)
        return SoftPair(Given(p, y, z, valid), lattice, spacing=lattice.spacing, threshold=threshold, hard=hard)

    @property
    def p(self) -> Vector:
        """Return the probabilities; those of a perfect prediction are its ground truth."""
        return self.voxels.p

    @property
    def y(self) -> Vector:
        return self.voxels.y

    @property
    def z(self) -> Vector | None:
        return self.voxels.z

    @property
    def q(self) -> Vector:
        """Return 1-p, from the logit where there is one."""
        return self.voxels.q

    @property
    def rows(self) -> Rows:
        """Return p, y and z of the voxels that count, each in a row as it was given: no other dtype."""
        return self.voxels.rows

    @property
    def given(self) -> NDArray[Any]:
        """Return the probabilities on the grid as they were given, those of ignored voxels included."""
        return self.voxels.ground.grids[0]

    # --- on the grid --------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the grid; without one that of the row."""
        return (self.n,) if self.lattice is None else self.lattice.shape

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        return None if self.lattice is None else self.lattice.valid

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count as a flat float64 vector."""
        return self._on_grid().vector(grid)

    def grid(self, vector: Vector, fill: float = 0.0) -> Vector:
        """Return a vector as an array of the grid's shape, `fill` in ignored voxels."""
        return self._on_grid().grid(vector, fill)

    def _on_grid(self) -> Lattice:
        """Return the lattice; raise where voxels lie on no common one."""
        if self.lattice is None:
            raise NoGridError
        return self.lattice

    # --- sums and logarithms ------------------------------------------------------------------

    @property
    def sums(self) -> SoftSums:
        """Return the sums over voxels that need no logarithm."""
        return self.voxels.sums.sums()

    def log_sums(self, clip: float, gamma: float | None = None) -> LogSums:
        """Return the sums of cross-entropies and their focal forms; `gamma` may be left open where it is not read."""
        return self.voxels.sums.logs(clip, gamma)

    @property
    def errors(self) -> tuple[float, float]:
        """Return the sums of p(1-y) and (1-p)y: exact digits where the difference of `sums` has none left."""
        return self.sums.fp, self.sums.fn

    def logs(self, clip: float) -> Logs:
        """Return p clipped to [clip, 1-clip] with its logarithms; exact and unclipped from logits."""
        return self.voxels.logs(clip)

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
        if self.n <= stretch.LENGTH:
            return function(self)
        found = np.empty(self.n)
        for where in stretch.stretches(self.n):
            found[where] = function(Stretch(self, where))
        return found

    def total(self, function: Callable[[SoftPair], Vector]) -> float:
        """Return the sum of such a vector, which is never there as a whole."""
        if self.n <= stretch.LENGTH:
            return float(function(self).sum())
        return sum(float(function(Stretch(self, where)).sum()) for where in stretch.stretches(self.n))

    def once(self, key: Hashable, make: Callable[[SoftPair], T]) -> T:
        """Return what a loss needs to know of all voxels: made once for the pair and all its stretches."""
        if key not in self._kept:
            self._kept[key] = make(self)
        found: T = self._kept[key]
        return found

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
        return Derivatives(self.voxels, wrt)

    def by_given(self, gradient: Vector, wrt: Literal["p", "z"]) -> Vector:  # noqa: ARG002 (as `SoftClasses`)
        """Return a gradient by what was given: of one label that is the probability or the logit itself."""
        return gradient

    def perfect(self, p: Vector | None = None) -> SoftPair:
        """Return the pair whose prediction is the ground truth, or `p`: L of it is the optimum."""
        return self._perfect if p is None else self._with_prediction(p)

    def predicting(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> SoftPair:
        """Return a pair with the same ground truth and the probabilities that `make` gives for its grid."""
        y = self.voxels.ground.grids[1]
        voxels = Given(make(np.asarray(y, dtype=np.float32)), y, None, self.valid)
        return SoftPair(voxels, self._on_grid(), spacing=self.spacing, threshold=self.threshold)

    @cached_property
    def is_right(self) -> bool:
        """Return whether the prediction is the ground truth, to the last digit."""
        return bool(np.array_equal(self.rows[0], self.rows[1]))

    @cached_property
    def _perfect(self) -> SoftPair:
        return self._with_prediction(None)

    def _with_prediction(self, p: Vector | None) -> SoftPair:
        """Return a twin that shares what is known of the ground truth; it predicts that, or `p`."""
        twin = Told(self.voxels, p)
        return SoftPair(twin, self.lattice, spacing=self.spacing, threshold=self.threshold, hard=True, truth=self)

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
        return self._on_grid().near_border(self.inside_gt)

    @cached_property
    def islands(self) -> list[Islands]:
        """Return the components of gt that the prediction misses wholly, and those of it that are false."""
        inside, predicted, lattice = self.inside_gt, self.predicted, self._on_grid()
        return [lattice.islands("missed", inside, predicted), lattice.islands("false", predicted, inside)]

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return each voxel's distance to the nearest voxel on the other side of the boundary of `of`.

        The prediction is thresholded. Zeros everywhere where there is no boundary (an empty or a full
        mask). Unit: that of the spacing, or voxels. Ignored voxels are on neither side.
        """
        if self._truth is not None:  # a perfect prediction's field is that of its ground truth
            return self._truth.boundary_distance("gt", unit)
        fields = self._fields
        if of == "pred" and (of, unit) not in fields and np.array_equal(self.predicted, self.inside_gt):
            of = "gt"
        if unit == "voxel" and len({1.0, *self.spacing}) == 1:
            unit = "mm"
        if (of, unit) not in fields:
            mask = self.inside_gt if of == "gt" else self.predicted
            fields[of, unit] = self._on_grid().border_distance(mask, in_voxels=unit == "voxel")
        return fields[of, unit]

    def has_boundary(self, unit: Literal["mm", "voxel"]) -> bool:
        """Return whether the gt has a boundary: asked of all voxels, since those of a stretch may lie where none is."""
        return self.once(("boundary", unit), lambda whole: bool(whole.boundary_distance("gt", unit).any()))


class Stretch(SoftPair):
    """The voxels `where` of a pair, in the order of its vectors.

    Vectors are of these voxels; `n`, the sums and what is found `once` are those of the whole pair. It lies on no
    lattice: a loss that asks for one reads neighbours and cannot be worked out so.
    """

    def __init__(self, whole: SoftPair, where: Where) -> None:
        super().__init__(
            Part(whole.voxels, where), None, spacing=whole.spacing, threshold=whole.threshold, hard=whole.hard
        )
        self.whole = whole
        self.where = where
        self._slopes: dict[str, dict[float, LogSlopes]] = {"p": {}, "z": {}}

    def _on_grid(self) -> Lattice:
        """Raise: some of the voxels make no grid."""
        raise TypeError("a stretch of voxels has no grid: the loss is not local")

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
        return Derivatives(self.voxels, wrt, self._slopes[wrt])

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
