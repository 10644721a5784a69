"""The unified focal loss: a focal cross-entropy and a focal Tversky loss under common parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.distribution import Clip, cross_entropy, focal_gradient, focal_map
from segcli.measure.losses.region import (
    Ratio,
    Smooth,
    power_slope,
    ratio,
    ratio_map,
    ratio_slope,
    scaled_map,
    tversky_ratio,
)
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

Mix = Annotated[float, Param("weight of the focal cross-entropy; 1-mix is that of the focal Tversky loss", ge=0, le=1)]
Delta = Annotated[
    float, Param("weight of misses and of foreground voxels; 1-delta: false alarms, background", ge=0, le=1)
]
Focus = Annotated[float, Param("background is suppressed by gamma, foreground lifted by 1-gamma", ge=0, lt=1)]
Form = Annotated[
    Literal["asymmetric", "symmetric"],
    Param("asymmetric: suppress easy background, lift foreground only; symmetric: both classes, both ways",
          words=("asymmetric", "symmetric")),
]  # fmt: skip
Reduce = Annotated[
    Literal["sum", "mean"],
    Param("the cross-entropies of the two classes: their sum, or their mean (half of it)", words=("sum", "mean")),
]


@loss(
    family="compound",
    formula=r"\lambda\left[\delta\,\mathrm{CE}_{fg}\,(1-p)^{\gamma^*}+(1-\delta)\,\mathrm{CE}_{bg}\,p^\gamma\right]"
    r"+(1-\lambda)\,\frac{T_{fg}^{1-\gamma}+T_{bg}^{1-\gamma^*}}{2},\quad"
    r"\gamma^*=0\text{ (asymmetric)},\ \gamma\text{ (symmetric)}",
    reference="Yeung et al. 2022, arXiv:2102.04525",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="hard gt",
    aliases=("unified_focal_loss", "asymmetric_unified_focal"),
    reads="probability",
    caution="With gamma > 0 it has an infinite gradient dL/dp at the optimum. On a hard mask the cross-entropy "
    "measures only -ln(clip) times the weighted error rate.",
)
def unified_focal(
    pair: SoftPair,
    *,
    mix: Mix = 0.5,
    delta: Delta = 0.6,
    gamma: Focus = 0.5,
    form: Form = "asymmetric",
    reduce: Reduce = "sum",
    smooth: Smooth = 1e-5,
    clip: Clip = 1e-7,
) -> float | None:
    """Focal cross-entropy and focal Tversky loss of both classes, under one delta and one gamma.

    Choose it under strong imbalance when one number is to set misses against false alarms (delta) and
    one easy against hard (gamma). T_l is the Tversky loss of class l with delta on what is missed of it.
    delta=0.6 and the sum over the classes are the authors'. MONAI has delta=0.7, reduce=mean (half of
    the cross-entropy) and the asymmetric form only; it and the authors also clip p in the Tversky part,
    which only certain voxels show, and have smooth=1e-7.
    """
    if not pair.n:
        return None
    sums = pair.log_sums(clip, gamma)
    foreground = sums.focal_on if form == "symmetric" else sums.on
    cross = (1.0 if reduce == "sum" else 0.5) * (delta * foreground + (1 - delta) * sums.focal_off) / pair.n
    region = sum(math.pow(of.loss, power) for of, power in _classes(pair, delta, gamma, form, smooth))
    return mix * cross + (1 - mix) * region / 2


@gradient_of("unified_focal")
def _unified_focal_gradient(
    pair: SoftPair,
    d: Derivatives,
    *,
    mix: float,
    delta: float,
    gamma: float,
    form: str,
    reduce: str,
    smooth: float,
    clip: float,
) -> Vector:
    if form == "symmetric":
        cross = focal_gradient(pair, d, alpha=delta, gamma=gamma, clip=clip)
    else:
        background = focal_gradient(pair, d, alpha=0.0, gamma=gamma, clip=clip)
        cross = (1 - delta) * background + cross_entropy(pair.y, d.clipped(clip), on=delta, off=0.0) / pair.n
    found = mix * (1.0 if reduce == "sum" else 0.5) * cross
    if mix == 1:
        return found
    # the sizes grow by 1-delta with p, at every voxel: TP or (1-delta) FP less delta FN; the background's shrinks
    slopes = (pair.y, 1 - delta), (pair.y - 1, delta - 1)
    for (of, power), (overlap, size) in zip(_classes(pair, delta, gamma, form, smooth), slopes, strict=True):
        inner = ratio_slope(d, of, overlap, size)
        felt = inner != 0  # as in focal_tversky: what the inner loss does not feel keeps its gradient
        found[felt] += (1 - mix) / 2 * inner[felt] * power_slope(of.loss, power)
    return found


@voxel_map_of("unified_focal", "scaled")
def _unified_focal_map(
    pair: SoftPair, *, mix: float, delta: float, gamma: float, form: str, reduce: str, smooth: float, clip: float
) -> Vector:
    found = mix * (1.0 if reduce == "sum" else 0.5) * _focused(pair, delta, gamma, form, clip)
    alarms, misses = pair.p * (1 - pair.y), pair.q * pair.y
    errors = (1 - delta) * alarms + delta * misses, delta * alarms + (1 - delta) * misses
    for (of, power), error in zip(_classes(pair, delta, gamma, form, smooth), errors, strict=True):
        found += (1 - mix) / 2 * scaled_map(ratio_map(of, error), math.pow(of.loss, power), of.loss)
    return found


def _focused(pair: SoftPair, delta: float, gamma: float, form: str, clip: float) -> Vector:
    """Return what each voxel adds to the focal cross-entropy; the asymmetric form spares the foreground its focus."""
    if form == "symmetric":
        return focal_map(pair, alpha=delta, gamma=gamma, clip=clip)
    background = focal_map(pair, alpha=0.0, gamma=gamma, clip=clip)
    return (1 - delta) * background + cross_entropy(pair.y, pair.logs(clip), on=delta, off=0.0) / pair.n


def _classes(
    pair: SoftPair, delta: float, gamma: float, form: str, smooth: float
) -> tuple[tuple[Ratio, float], tuple[Ratio, float]]:
    """Return the Tversky losses of foreground and background, each with its power."""
    alarms, misses = pair.errors
    background = ratio(delta * alarms + (1 - delta) * misses, pair.sums.tn + smooth)
    power = 1 - gamma
    return (tversky_ratio(pair, 1 - delta, delta, smooth), power), (background, power if form == "symmetric" else 1.0)
