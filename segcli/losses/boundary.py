"""Losses that weigh errors by their distance to a boundary.

Distances come from thresholded masks and are constants in the gradient. A mask that is empty or full
has no boundary: its distances are 0. Means over the voxels that count, undefined where there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure import Param, gradient_of, loss, voxel_map_of

if TYPE_CHECKING:
    from segcli.soft import Derivatives, SoftPair, Vector

_INF = float("inf")

Unit = Annotated[
    Literal["mm", "voxel"], Param("unit of distance: that of the spacing, or voxels", words=("mm", "voxel"))
]
#: 10 keeps the power of any distance finite; the paper tries 1 to 3.
Power = Annotated[float, Param("power of the distance: larger looks at the farthest errors only", gt=0, le=10)]


# --- hd_dt ------------------------------------------------------------------------------------


@loss(
    family="boundary",
    formula=r"\frac{1}{N}\sum_i(p_i-y_i)^2\left(d_p(i)^\alpha+d_y(i)^\alpha\right)",
    reference="Karimi and Salcudean 2019, arXiv:1904.10030",
    range=(0.0, _INF),
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
    return pair.mean((pair.p - pair.y) ** 2 * _far(pair, alpha, unit))


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
    optimum=None,
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
    return pair.mean(pair.p * _signed(pair, unit))


@gradient_of("boundary")
def _boundary_gradient(pair: SoftPair, d: Derivatives, *, unit: Literal["mm", "voxel"]) -> Vector:
    return d.p * _signed(pair, unit) / pair.n


@voxel_map_of("boundary", "additive")
def _boundary_map(pair: SoftPair, *, unit: Literal["mm", "voxel"]) -> Vector:
    return pair.p * _signed(pair, unit) / pair.n


def _signed(pair: SoftPair, unit: Literal["mm", "voxel"]) -> Vector:
    distance = pair.boundary_distance("gt", unit)
    if not distance.any():  # no boundary
        return distance
    step = min(pair.spacing) if unit == "mm" else 1.0
    inside = pair.y > pair.threshold
    return distance * ~inside - (distance - step) * inside
