"""Losses that weigh errors by their distance to a boundary.

Distances come from thresholded masks and are constants in the gradient. A mask that is empty or full
has no boundary: its distances are 0. hd_er and hd_cv use none: they look at the neighbourhood of an
error, outside the grid and in ignored voxels there is nothing. Means over the voxels that count, undefined
where there are none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.kernels.ball import BallWeights
    from segcli.kernels.erosion import ErosionChain

_INF = float("inf")

Unit = Annotated[
    Literal["mm", "voxel"], Param("unit of distance: that of the spacing, or voxels", words=("mm", "voxel"))
]
#: 10 keeps the power of any distance finite; the paper tries 1 to 3.
Power = Annotated[float, Param("power of the distance: larger looks at the farthest errors only", gt=0, le=10)]
Erosions = Annotated[int, Param("number of erosions", ge=1, le=1000)]
Radius = Annotated[int, Param("largest radius in voxels; the radii are 3, 6, 9 and so on up to it", ge=3, le=30)]


# --- hd_dt ------------------------------------------------------------------------------------


@loss(
    family="boundary",
    formula=r"\frac{1}{N}\sum_i(p_i-y_i)^2\left(d_p(i)^\alpha+d_y(i)^\alpha\right)",
    reference="Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
    local=True,
    symmetric=True,
    aliases=("hausdorff_dt", "hausdorff_dt_loss"),
    caution="Not for training alone: it under-segments; add it to a region loss. With an empty gt it is 0 for "
    "any prediction that stays at or below the threshold: it cannot see those false positives.",
)
def hd_dt(pair: SoftPair, *, alpha: Power = 2.0, unit: Unit = "mm") -> float | None:
    """Hausdorff loss by distance transforms: squared error weighed by the distance to both boundaries.

    Choose it beside a region loss when single far errors (islands, leaks) matter. d_p and d_y are the
    distances to the boundaries of the thresholded prediction and of the gt. A few far voxels make up
    nearly all of it. It grows with distance^alpha: values of different spacings or units do not
    compare, and MONAI's is unit=voxel.
    """
    return pair.share(pair.total(lambda own: (own.p - own.y) ** 2 * _far(own, alpha, unit)))


@gradient_of("hd_dt")
def _hd_dt_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    return d.p * 2 * (pair.p - pair.y) * _far(pair, alpha, unit) / pair.n


@voxel_map_of("hd_dt", "additive")
def _hd_dt_map(pair: SoftPair, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    return (pair.p - pair.y) ** 2 * _far(pair, alpha, unit) / pair.n


def _far(pair: SoftPair, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    weights: Vector = pair.boundary_distance("pred", unit) ** alpha + pair.boundary_distance("gt", unit) ** alpha
    return weights


# --- boundary ---------------------------------------------------------------------------------


@loss(
    family="boundary",
    formula=r"\frac{1}{N}\sum_i p_i\,\phi_i,\quad\phi=+d\text{ outside the gt},\ -(d-h)\text{ inside}",
    reference="Kervadec et al. 2019, arXiv:1812.07032",
    range=(-_INF, _INF),
    local=True,
    optimum=None,
    least="hard gt",
    aliases=("boundary_loss", "surface_loss"),
    caution="Not usable alone: training ends at all background. Negative by design; read the excess over the optimum "
    "of the case. With an empty gt, or a full one, it is 0 for any prediction.",
)
def boundary(pair: SoftPair, *, unit: Unit = "mm") -> float | None:
    """Boundary loss: the probability times the signed distance to the boundary of the ground truth.

    Choose it beside a region loss when the object is very small. phi is the distance d outside the gt
    and -(d-h) inside, h the smallest spacing (1 in voxels): never positive inside, and 0 at the border
    voxels of the gt on a cubic grid. The value alone says little: its least value, at pred = gt, is
    negative and differs from case to case. In voxels it equals MONAI and the authors' code.
    """
    return pair.share(pair.total(lambda own: own.p * _signed(own, unit)))


@gradient_of("boundary")
def _boundary_gradient(pair: SoftPair, d: Derivatives, *, unit: Literal["mm", "voxel"]) -> Vector:
    return d.p * _signed(pair, unit) / pair.n


@voxel_map_of("boundary", "additive")
def _boundary_map(pair: SoftPair, *, unit: Literal["mm", "voxel"]) -> Vector:
    return pair.p * _signed(pair, unit) / pair.n


def _signed(pair: SoftPair, unit: Literal["mm", "voxel"]) -> Vector:
    distance = pair.boundary_distance("gt", unit)
    if not pair.has_boundary(unit):
        return distance
    step = min(pair.spacing) if unit == "mm" else 1.0
    inside = pair.y > pair.threshold
    return distance * ~inside - (distance - step) * inside


# --- hd_dt_onesided ---------------------------------------------------------------------------


@loss(
    family="boundary",
    formula=r"\frac{1}{N}\sum_i(p_i-y_i)^2\,d_y(i)^\alpha",
    reference="Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
    local=True,
    aliases=("hd_dt_os",),
    caution="Not for training alone: it under-segments; add it to a region loss. With an empty gt, or a full one, it "
    "is 0 for any prediction.",
)
def hd_dt_onesided(pair: SoftPair, *, alpha: Power = 2.0, unit: Unit = "mm") -> float | None:
    """Half of hd_dt: squared error weighed by the distance to the boundary of the ground truth only.

    Choose it over hd_dt in training: the distances never change and are computed once. Far false alarms
    weigh as there; an island of the gt that is missed weighs by its own thickness only, so small ones
    are hardly seen. Values of different spacings or units do not compare.
    """
    return pair.share(pair.total(lambda own: (own.p - own.y) ** 2 * own.boundary_distance("gt", unit) ** alpha))


@gradient_of("hd_dt_onesided")
def _hd_dt_onesided_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    return d.p * 2 * (pair.p - pair.y) * pair.boundary_distance("gt", unit) ** alpha / pair.n


@voxel_map_of("hd_dt_onesided", "additive")
def _hd_dt_onesided_map(pair: SoftPair, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    return (pair.p - pair.y) ** 2 * pair.boundary_distance("gt", unit) ** alpha / pair.n


# --- log_hd_dt --------------------------------------------------------------------------------


@loss(
    family="boundary",
    formula=r"\ln\left(1+\frac{1}{N}\sum_i(p_i-y_i)^2\left(d_p(i)^\alpha+d_y(i)^\alpha\right)\right)",
    reference="after Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
    local=True,
    symmetric=True,
    aliases=("log_hausdorff_dt", "log_hausdorff_dt_loss"),
    caution="Not for training alone: it under-segments; add it to a region loss. With an empty gt it is 0 for "
    "any prediction that stays at or below the threshold: it cannot see those false positives.",
)
def log_hd_dt(pair: SoftPair, *, alpha: Power = 2.0, unit: Unit = "mm") -> float | None:
    """Hausdorff loss by distance transforms on a logarithmic scale: ln(1 + hd_dt).

    Choose it over hd_dt where far errors make that explode beside a region loss. It orders predictions
    exactly as hd_dt does; its gradient is that of hd_dt divided by 1 + hd_dt. MONAI's is unit=voxel.
    """
    plain = hd_dt(pair, alpha=alpha, unit=unit)
    return None if plain is None else math.log1p(plain)


@gradient_of("log_hd_dt")
def _log_hd_dt_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    return _hd_dt_gradient(pair, d, alpha=alpha, unit=unit) / (1 + _plain(pair, alpha, unit))


@voxel_map_of("log_hd_dt", "scaled")
def _log_hd_dt_map(pair: SoftPair, *, alpha: float, unit: Literal["mm", "voxel"]) -> Vector:
    inner = _plain(pair, alpha, unit)
    return _hd_dt_map(pair, alpha=alpha, unit=unit) * (math.log1p(inner) / inner if inner else 0.0)


def _plain(pair: SoftPair, alpha: float, unit: Literal["mm", "voxel"]) -> float:
    return pair.once(("hd_dt", alpha, unit), lambda whole: hd_dt(whole, alpha=alpha, unit=unit) or 0.0)


# --- hd_er ------------------------------------------------------------------------------------


@loss(
    family="boundary",
    needs="grid",
    formula=r"\frac{1}{N}\sum_i\sum_{k=1}^{K}k^\alpha E_k(i),\quad E_0=(p-y)^2,\ "
    r"E_k=\mathrm{norm}_{01}\left(\max\left(B*E_{k-1}-\tfrac12,0\right)\right)",
    reference="Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
    symmetric=True,
    aliases=("hausdorff_er", "hausdorff_er_loss"),
    caution="Not usable alone: it is exactly 0, with a gradient of 0, for errors that one erosion removes (small "
    "specks, rims of one voxel that are not certain). Its steps are voxels: spacing is not used.",
)
def hd_er(pair: SoftPair, *, alpha: Power = 2.0, erosions: Erosions = 10) -> float | None:
    """Hausdorff loss by erosion: the squared error is worn away, and what lasts k steps counts k^alpha.

    Choose it beside a region loss to punish thick errors wherever they are: unlike hd_dt it measures the
    thickness of an error and not its distance. B is the mean of a voxel and its face neighbours; what an
    erosion leaves is stretched to [0, 1], so the value jumps when the last voxel of an error vanishes.
    Equal to kornia's.
    """
    return pair.mean(pair.vector(_chain(pair, alpha, erosions).value))


@gradient_of("hd_er")
def _hd_er_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, erosions: int) -> Vector:
    slope = pair.vector(_chain(pair, alpha, erosions).pull(pair.grid(pair.p * 0 + 1)))
    return d.p * 2 * (pair.p - pair.y) * slope / pair.n


@voxel_map_of("hd_er", "additive")
def _hd_er_map(pair: SoftPair, *, alpha: float, erosions: int) -> Vector:
    return pair.vector(_chain(pair, alpha, erosions).value) / pair.n


def _chain(pair: SoftPair, alpha: float, erosions: int) -> ErosionChain:
    from segcli.kernels.erosion import ErosionChain

    return ErosionChain(pair.grid((pair.p - pair.y) ** 2), erosions, alpha, pair.valid)


# --- hd_cv ------------------------------------------------------------------------------------


@loss(
    family="boundary",
    needs="grid",
    formula=r"\frac{1}{N}\sum_i(p_i-y_i)^2\sum_r r^\alpha\left[p_i\left(f(B_r*\bar y)+f(B_r*p)\right)"
    r"+y_i\left(f(B_r*y)+f(B_r*\bar p)\right)\right]_i,\quad f(x)=\max\left(x-\tfrac12,0\right),\ "
    r"\bar x=1-x,\ r=3,6,\dots",
    reference="Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
    symmetric=True,
    aliases=("hausdorff_cv", "hausdorff_cv_loss"),
    caution="Not for training alone; add it to a region loss. Its radii are voxels: spacing is not used. No other "
    "published code is known to check it against.",
)
def hd_cv(pair: SoftPair, *, alpha: Power = 2.0, radius: Radius = 9) -> float | None:
    """Hausdorff loss by convolution: squared error weighed by how much of a ball around it is as wrong.

    Choose it beside a region loss where hd_dt is too restless: its weights change smoothly with the
    prediction, and the gradient goes through them. B_r is the mean over a disc or ball of radius r, in
    steps of 3 up to `radius`; an error counts r^alpha for each ball that lies mostly beyond the boundary.
    Errors thinner than all balls count little; outside the grid there is nothing.
    """
    return pair.mean(_hd_cv_parts(pair, alpha, radius))


@gradient_of("hd_cv")
def _hd_cv_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, radius: int) -> Vector:
    balls, error = _balls(pair, alpha, radius), (pair.p - pair.y) ** 2
    on_p, on_y = pair.vector(balls.on_p), pair.vector(balls.on_y)
    slope = 2 * (pair.p - pair.y) * (pair.p * on_p + pair.y * on_y) + error * on_p
    through = pair.vector(balls.pull(pair.grid(error * pair.p), pair.grid(error * pair.y)))
    return d.p * (slope + through) / pair.n


@voxel_map_of("hd_cv", "additive")
def _hd_cv_map(pair: SoftPair, *, alpha: float, radius: int) -> Vector:
    return _hd_cv_parts(pair, alpha, radius) / pair.n


def _hd_cv_parts(pair: SoftPair, alpha: float, radius: int) -> Vector:
    balls = _balls(pair, alpha, radius)
    return (pair.p - pair.y) ** 2 * (pair.p * pair.vector(balls.on_p) + pair.y * pair.vector(balls.on_y))


def _balls(pair: SoftPair, alpha: float, radius: int) -> BallWeights:
    from segcli.kernels.ball import BallWeights

    return BallWeights(pair.grid(pair.p), pair.grid(pair.y), range(3, radius + 1, 3), alpha, pair.valid)
