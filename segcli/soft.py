"""`SoftPair`: one label's probabilities against its ground truth, each piece of evidence computed once.

Losses read it. Values that are functions of sums read `sums` and `log_sums`, which come from the grids as they
were given. What looks at single voxels (gradients, voxel maps, distances) gets flat float64 vectors over the
voxels that count (ignored ones are left out), made when first asked for; such code needs to know neither the
grid nor the ignore label, and `grid` puts a vector back in place.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.sums import LogSums, SoftSums, VoxelSums, sigmoid

if TYPE_CHECKING:
    from segcli.ranks import Ranks

Vector = NDArray[np.float64]


class Logs(NamedTuple):
    """The probability that a cross-entropy really sees, its logarithm and that of its complement."""

    p: Vector
    q: Vector
    log_p: Vector
    log_q: Vector


class Derivatives:
    """Derivatives of what losses are made of, with respect to the probability or to the logit.

    `p` is dp/dx; `clipped(clip)` holds the same for the clipped p, log p and log(1-p). They are 0
    where the clip flattens the loss: the gradient is that of the loss as it is computed.
    """

    def __init__(self, pair: SoftPair, wrt: Literal["p", "z"]) -> None:
        self._pair = pair
        self.wrt = wrt

    @cached_property
    def p(self) -> Vector:
        if self.wrt == "p":
            return np.ones_like(self._pair.p)
        return self._pair.p * self._pair.q

    def clipped(self, clip: float) -> Logs:
        """Return d(p, 1-p, log p, log(1-p)) of `SoftPair.logs(clip)`."""
        pair = self._pair
        if pair.z is not None:
            if self.wrt == "z":
                dp = pair.p * pair.q
                return Logs(dp, -dp, pair.q, -pair.p)
            # beyond |z| = 345 the slope counts as 1e150: sums of its squares stay finite, and 0 times it is 0
            p, q = np.maximum(pair.p, 1e-150), np.maximum(pair.q, 1e-150)
            return Logs(np.ones_like(p), -np.ones_like(p), 1 / p, -1 / q)
        p = pair.p
        inside = ((p >= clip) & (p <= 1 - clip)).astype(np.float64)
        seen = pair.logs(clip)
        if self.wrt == "p":
            return Logs(inside, -inside, inside / seen.p, -inside / seen.q)
        dp = inside * seen.p * seen.q
        return Logs(dp, -dp, inside * seen.q, -inside * seen.p)


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
        return self.vector(self._given[0]) if self._truth is None else self._truth.y

    @cached_property
    def y(self) -> Vector:
        return self.vector(self._given[1]) if self._truth is None else self._truth.y

    @cached_property
    def z(self) -> Vector | None:
        given = self._given[2]
        if given is None:
            return None
        # Logits of a binary truth would be infinite; beyond 745 the sigmoid is 0 or 1 in float64.
        return self.vector(given) if self._truth is None else np.clip(_logit(self.p), -800.0, 800.0)

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count as a flat float64 vector."""
        chosen = grid.reshape(-1) if self.valid is None else grid[self.valid]
        return np.ascontiguousarray(chosen, dtype=np.float64)

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
            if self.z is not None:
                cache[clip] = Logs(self.p, self.q, -np.logaddexp(0.0, -self.z), -np.logaddexp(0.0, self.z))
            else:
                p = np.clip(self.p, clip, 1 - clip)
                cache[clip] = Logs(p, 1 - p, np.log(p), np.log1p(-p))
        return cache[clip]

    @property
    def gt_empty(self) -> bool:
        """Return whether the ground truth has nothing of the label."""
        return self.sums.y == 0

    def mean(self, contributions: Vector) -> float | None:
        """Return the mean over the voxels that count; `None` where there are none."""
        return float(contributions.mean()) if self.n else None

    def share(self, total: float) -> float | None:
        """Return a sum over the voxels as their mean; `None` where there are none."""
        return total / self.n if self.n else None

    def wrt(self, wrt: Literal["p", "z"]) -> Derivatives:
        """Return the derivatives with respect to the probability or the logit."""
        return Derivatives(self, wrt)

    def perfect(self, p: Vector | None = None) -> SoftPair:
        """Return the pair whose prediction is the ground truth, or `p`: L of it is the optimum."""
        return self._perfect if p is None else self._with_prediction(p)

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

    @cached_property
    def inside_gt(self) -> NDArray[np.bool_]:
        """Return which voxels are foreground in the ground truth; a soft one counts above 1/2."""
        return self.y > 0.5

    @cached_property
    def ranks(self) -> Ranks:
        """Return the distinct probabilities with their voxels; a soft ground truth counts above 1/2."""
        from segcli.ranks import Ranks

        return Ranks.of(self.p, self.inside_gt)

    @cached_property
    def near_boundary(self) -> NDArray[np.bool_]:
        """Return which voxels lie within one 26-neighbour step (8 in 2-D) of the gt border, on both sides."""
        sides = self.grid(self.inside_gt.astype(np.float64), fill=-1.0)
        near = _spread(sides == 1) & _spread(sides == 0)
        return near.reshape(-1) if self.valid is None else near[self.valid]

    @cached_property
    def islands(self) -> list[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
        """Return the components of gt that the prediction misses wholly, and those of it that are false.

        For each kind: the number of every voxel's island (0 for none) and the voxels of each island.
        """
        from scipy.ndimage import label

        found = []
        inside, predicted = self.inside_gt, self.p > self.threshold
        for kind, own, other in (("missed", inside, predicted), ("false", predicted, inside)):
            grid = self.grid(own.astype(np.float64)) > 0
            numbers, count = label(grid, np.ones((3,) * grid.ndim))
            flat = (numbers.reshape(-1) if self.valid is None else numbers[self.valid]).astype(np.intp)
            alone = np.bincount(flat, weights=other, minlength=count + 1) == 0
            alone[0] = False
            flat = np.where(alone[flat], flat, 0)
            found.append((kind, flat, np.bincount(flat, minlength=count + 1)))
        return found

    def boundary_distance(self, of: Literal["pred", "gt"], unit: Literal["mm", "voxel"]) -> Vector:
        """Return each voxel's distance to the nearest voxel on the other side of the boundary of `of`.

        The prediction is thresholded. Zeros everywhere where there is no boundary (an empty or a full
        mask). Unit: that of the spacing, or voxels. Ignored voxels are on neither side.
        """
        if self._truth is not None:  # a perfect prediction's field is that of its ground truth
            return self._truth.boundary_distance("gt", unit)
        fields: dict[tuple[str, str], Vector] = self.__dict__.setdefault("_fields", {})
        if (of, unit) not in fields:
            inside = self.inside_gt if of == "gt" else self.p > self.threshold
            fields[of, unit] = self._boundary_distance(inside, unit)
        return fields[of, unit]

    def _boundary_distance(self, inside: NDArray[np.bool_], unit: Literal["mm", "voxel"]) -> Vector:
        from segcli.kernels.distance_transform import distance_transform

        if not inside.any() or inside.all():
            return np.zeros(self.n)
        spacing = self.spacing if unit == "mm" else (1.0,) * len(self.shape)
        sides = self.grid(inside.astype(np.float64), fill=-1.0)
        to_inside = self.vector(distance_transform(sides == 1, spacing))
        to_outside = self.vector(distance_transform(sides == 0, spacing))
        return to_inside + to_outside


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask grown by one step along all axes at once (a 3x3x3 dilation)."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        before = np.moveaxis(grown.copy(), axis, 0)
        after = np.moveaxis(grown, axis, 0)
        after[1:] |= before[:-1]
        after[:-1] |= before[1:]
    return grown


def _logit(p: Vector) -> Vector:
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


_SHARED = ("shape", "spacing", "valid", "threshold", "n", "_given")
