"""Losses that mix a cross-entropy with a transformed or focused region loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.combine import term, weighted
from segcli.measure.losses.distribution import (
    Alpha,
    Clip,
    bce,
    bce_gradient,
    bce_map,
)  # fmt: skip
from segcli.measure.losses.region import (
    Ratio,
    dice_gradient,
    dice_map,
    dice_ratio,
    difference,
    power_slope,
    ratio,
    ratio_map,
    ratio_slope,
    scaled_map,
)  # fmt: skip
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

#: Without smooth the logarithm of a Dice coefficient of 0 is infinite.
SomeSmooth = Annotated[float, Param("added to numerator and denominator of the Dice coefficient", ge=1e-16)]
DiceWeight = Annotated[float, Param("weight of the Dice loss", ge=0)]
GeneralizedWeight = Annotated[float, Param("weight of the generalized Dice loss", ge=0)]
FocalWeight = Annotated[float, Param("weight of the focal loss", ge=0)]
TverskyWeight = Annotated[float, Param("weight of the Tversky loss", ge=0)]
LogDiceWeight = Annotated[float, Param("weight of the logarithmic Dice loss", ge=0)]
CrossWeight = Annotated[float, Param("weight of the cross-entropy", ge=0)]
Power = Annotated[float, Param("power of the logarithms; below 1 lifts small losses", gt=0, le=10)]


# --- bce_logdice ------------------------------------------------------------------------------


@loss(
    family="compound",
    formula=r"\mathrm{BCE}-\ln\frac{2\sum_i p_iy_i+s}{\sum_i p_i+\sum_i y_i+s}",
    reference="after Iglovikov and Shvets 2018, arXiv:1801.05746",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="hard gt",
    aliases=("bce_log_dice",),
    reads="probability",
    caution="On a hard mask the cross-entropy measures only -ln(clip) times the error rate. Without overlap the "
    "logarithm is that of the size over `smooth`: a tiny or empty gt sets the value by `smooth`.",
)
def bce_logdice(pair: SoftPair, *, smooth: SomeSmooth = 1e-5, clip: Clip = 1e-7) -> float | None:
    """Cross-entropy minus the logarithm of the Dice coefficient.

    Choose it over bce_dice to push cases with little overlap hard: the slope of the Dice part is divided
    by the coefficient. Those cases then outweigh all others, and their values depend on smooth.
    """
    cross = bce(pair, clip=clip)
    return None if cross is None else cross + _log_score(dice_ratio(pair, smooth))


@gradient_of("bce_logdice")
def _bce_logdice_gradient(pair: SoftPair, d: Derivatives, *, smooth: float, clip: float) -> Vector:
    cross = bce_gradient(pair, d, label_smoothing=0.0, clip=clip)
    return cross + dice_gradient(pair, d, smooth=smooth) / dice_ratio(pair, smooth).score


@voxel_map_of("bce_logdice", "scaled")
def _bce_logdice_map(pair: SoftPair, *, smooth: float, clip: float) -> Vector:
    inner = dice_ratio(pair, smooth)
    region = scaled_map(dice_map(pair, smooth=smooth), _log_score(inner), inner.loss)
    return bce_map(pair, label_smoothing=0.0, clip=clip) + region


def _log_score(of: Ratio) -> float:
    """Return -ln(score): by the loss near 0, where ln 1 has no digits left."""
    return -math.log1p(-of.loss) if of.loss < 0.5 else -math.log(of.score)


# --- explog -----------------------------------------------------------------------------------


@loss(
    family="compound",
    formula=r"\frac{w_{dice}}{2}\sum_l(-\ln D_l)^\gamma+\frac{w_{ce}}{N}\sum_l\sum_i w_l\,y_{l,i}(-\ln p_{l,i})^\gamma,"
    r"\quad w_l=\sqrt{\textstyle\sum_k f_k/f_l},\ l\in\{bg,fg\}",
    reference="Wong et al. 2018, arXiv:1809.00076",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="hard gt",
    aliases=("exp_log", "exponential_logarithmic"),
    reads="probability",
    caution="With gamma < 1 it has an infinite gradient dL/dp at the optimum, and from logits at every voxel that "
    "is certain and right. On a hard mask it measures powers of -ln(clip): right voxels cost something too.",
)
def explog(
    pair: SoftPair,
    *,
    w_dice: LogDiceWeight = 0.8,
    w_ce: CrossWeight = 0.2,
    gamma: Power = 0.3,
    smooth: SomeSmooth = 1e-5,
    clip: Clip = 1e-7,
) -> float | None:
    """Powers of the logarithms of Dice and of the probability, over foreground and background.

    Choose it for very unequal object sizes. D_l is the Dice coefficient of class l, f_l its number of
    voxels in this gt (at least 1); the paper counts over the training set. The power is on -ln, which texts
    print ambiguously. gamma=0.3 keeps pushing voxels and cases that are nearly right.
    """
    if not pair.n:
        return None
    region = sum(math.pow(_log_score(of), gamma) for of in _both(pair, smooth))
    return w_dice / 2 * region + w_ce * pair.total(lambda own: _log_powers(own, gamma, clip)) / pair.n


@gradient_of("explog")
def _explog_gradient(
    pair: SoftPair, d: Derivatives, *, w_dice: float, w_ce: float, gamma: float, smooth: float, clip: float
) -> Vector:
    if not pair.n:
        return pair.p
    seen, slope, weights = pair.logs(clip), d.clipped(clip), _frequencies(pair)
    found = 0 * d.p
    for weight, truth, log, change in (
        (weights[0], pair.y, seen.log_p, slope.log_p),
        (weights[1], 1 - pair.y, seen.log_q, slope.log_q),
    ):
        inner = truth * change.clip(-1e120, 1e120)  # times a power of |z| its squares still have a finite sum
        felt = inner != 0
        found[felt] -= w_ce * weight / pair.n * inner[felt] * _power_slopes(-log[felt], gamma)
    foreground, background = _both(pair, smooth)
    for of, overlap, size in ((foreground, 2 * pair.y, 1.0), (background, 2 * pair.y - 2, -1.0)):
        inner = ratio_slope(d, of, overlap, size) / of.score
        felt = inner != 0
        if w_dice:
            found[felt] += w_dice / 2 * inner[felt] * power_slope(_log_score(of), gamma)
    return found


@voxel_map_of("explog", "scaled")
def _explog_map(pair: SoftPair, *, w_dice: float, w_ce: float, gamma: float, smooth: float, clip: float) -> Vector:
    found = w_ce * _log_powers(pair, gamma, clip) / max(pair.n, 1)
    for of in _both(pair, smooth):
        found += w_dice / 2 * scaled_map(ratio_map(of, difference(pair)), math.pow(_log_score(of), gamma), of.loss)
    return found


def _both(pair: SoftPair, smooth: float) -> tuple[Ratio, Ratio]:
    """Return the Dice ratios of the foreground and of the background."""
    return dice_ratio(pair, smooth), ratio(sum(pair.errors), 2 * pair.sums.tn + smooth)


def _frequencies(pair: SoftPair) -> tuple[float, float]:
    """Return the weights of foreground and background voxels."""
    foreground, background = max(pair.sums.y, 1.0), max(pair.sums.off, 1.0)
    total = foreground + background
    return math.sqrt(total / foreground), math.sqrt(total / background)


def _log_powers(pair: SoftPair, gamma: float, clip: float) -> Vector:
    seen, (on, off) = pair.logs(clip), _frequencies(pair)
    powers: Vector = on * pair.y * (-seen.log_p) ** gamma + off * (1 - pair.y) * (-seen.log_q) ** gamma
    return powers


def _power_slopes(base: Vector, exponent: float) -> Vector:
    """Return the derivative of base^exponent, infinite where it is."""
    found = 0 * base
    steep = (base == 0) & (exponent < 1)
    found[steep] = math.inf
    found[~steep] = exponent * base[~steep] ** (exponent - 1)
    return found


# --- dice_focal -------------------------------------------------------------------------------


@weighted(
    term("focal", "w_focal"),
    term("dice", "w_dice"),
    formula=r"w_{dice}\,\mathrm{DL}+w_{focal}\,\mathrm{FL}",
    reference="Zhu et al. 2018, arXiv:1808.05238",
    least="hard gt",
    aliases=("dicefocal",),
    caution="On a hard mask the focal part measures only -ln(clip) times the error rate.",
)
def dice_focal(*, w_dice: DiceWeight = 1.0, w_focal: FocalWeight = 1.0, alpha: Alpha = "none") -> None:
    """Dice loss plus focal loss: balance between sizes, and attention to hard voxels.

    Choose it for small objects beside much easy background. The focal part is by far the smaller: with
    equal weights the value is nearly that of dice. Defaults and value are MONAI's.
    """


# --- gdice_focal ------------------------------------------------------------------------------


@weighted(
    term("focal", "w_focal"),
    term("generalized_dice", "w_gdice"),
    formula=r"w_{gdice}\,\mathrm{GDL}+w_{focal}\,\mathrm{FL}",
    reference="after Sudre et al. 2017, arXiv:1707.03237; Lin et al. 2017, arXiv:1708.02002",
    least="hard gt",
    aliases=("generalized_dice_focal",),
    caution="On a hard mask the focal part measures only -ln(clip) times the error rate. It inherits the smooth of "
    "generalized_dice, which is not small beside the weighted sums of large objects.",
)
def gdice_focal(*, w_gdice: GeneralizedWeight = 1.0, w_focal: FocalWeight = 1.0, alpha: Alpha = "none") -> None:
    """Generalized Dice loss plus focal loss.

    Choose it as dice_focal, for objects of very different sizes. Equal to MONAI's on two channels where
    both classes are in the gt, and with absent=largest where not.
    """


# --- focal_plus_tversky -----------------------------------------------------------------------


@weighted(
    term("focal", "w_focal"),
    term("tversky", "w_tversky"),
    formula=r"w_{focal}\,\mathrm{FL}+w_{tversky}\,\mathrm{TL}",
    reference="after Lin et al. 2017, arXiv:1708.02002; Salehi, Erdogmus and Gholipour 2017, arXiv:1706.05721",
    least="hard gt",
    aliases=("focal+tversky", "tversky_focal"),
    caution="Not focal_tversky, which is a power of the Tversky loss. On a hard mask the focal part measures only "
    "-ln(clip) times the error rate.",
)
def focal_plus_tversky(*, w_focal: FocalWeight = 1.0, w_tversky: TverskyWeight = 1.0) -> None:
    """Focal loss plus Tversky loss: attention to hard voxels, and separate prices for misses and alarms.

    Choose it as dice_focal where misses and false alarms differ in price. The alpha of the focal part
    weighs the foreground less by default, against fn; alpha=none weighs both the same.
    """
