"""Region losses that set the balance of foreground against background, or of misses against false alarms.

Written as in `region`: error/size with an error that is a sum over voxels, which is the voxel map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.region import (
    Ratio,
    Smooth,
    difference,
    ratio,
    ratio_map,
    ratio_slope,
    scaled_map,
    tversky_gradient,
    tversky_map,
    tversky_ratio,
)
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

Absent = Annotated[
    Literal["zero", "largest"],
    Param("weight of a class that the gt lacks: none, or that of the other class", words=("zero", "largest")),
]
Penalty = Annotated[float, Param("strength k of the penalty; 0 gives generalized_dice", ge=0, le=1e6)]
Missed = Annotated[float, Param("weight of errors inside the gt; 1-r is that of errors outside", ge=0, le=1)]
Sensitivity = Annotated[float, Param("weight of the sensitivity; 1-w is that of the specificity", ge=0, le=1)]
ClassSmooth = Annotated[float, Param("added to the size of the foreground and of the background", ge=0)]
#: Below 1 the gradient would be infinite at right voxels.
Norm = Annotated[float, Param("power of |p-y|: 1 is robust to noise, 2 follows dice_squared", ge=1, le=2)]
Beta = Annotated[float, Param("recall counts beta times as much as precision", ge=0, le=1000)]


# --- generalized_dice -------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{2\sum_l w_l\sum_i p_{l,i}y_{l,i}+s}{\sum_l w_l\sum_i(p_{l,i}+y_{l,i})+s},\quad"
    r"w_l=\left(\sum_i y_{l,i}\right)^{-2},\ l\in\{bg,fg\}",
    reference="Sudre et al. 2017, arXiv:1707.03237",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("gdl", "generalised_dice", "gdice"),
    caution="Where one class is much smaller its weight is nearly all: it is then dice. The sums are of the order "
    "1/volume: smooth=1e-5 is not small beside them for objects of more than some 10000 voxels, and pulls the loss "
    "towards 0. Use smooth=0 there.",
)
def generalized_dice(pair: SoftPair, *, smooth: Smooth = 1e-5, absent: Absent = "zero") -> float:
    """Dice loss of foreground and background together, each weighed by 1/volume^2 of the ground truth.

    Choose it when foregrounds of very different sizes are to count alike. A class that the gt lacks has
    an infinite weight by the formula. Here it has none (absent=zero): with an empty gt the loss is that
    of the background alone. MONAI gives it the weight of the other class (absent=largest).
    """
    return _generalized(pair, smooth, absent).loss


@gradient_of("generalized_dice")
def generalized_gradient(pair: SoftPair, d: Derivatives, *, smooth: float, absent: str) -> Vector:
    """Return the derivative of `generalized_dice`."""
    on, off = _class_weights(pair, absent)
    overlap = 2 * (on * pair.y - off * (1 - pair.y))
    return ratio_slope(d, _generalized(pair, smooth, absent), overlap, on - off)


@voxel_map_of("generalized_dice", "additive")
def generalized_map(pair: SoftPair, *, smooth: float, absent: str) -> Vector:
    """Return what each voxel adds to `generalized_dice`."""
    return ratio_map(_generalized(pair, smooth, absent), sum(_class_weights(pair, absent)) * difference(pair))


def _generalized(pair: SoftPair, smooth: float, absent: str) -> Ratio:
    on, off = _class_weights(pair, absent)
    overlap = 2 * (on * pair.sums.py + off * pair.sums.tn)
    return ratio((on + off) * sum(pair.errors), overlap + smooth)


def _class_weights(pair: SoftPair, absent: str) -> tuple[float, float]:
    """Return the weights of foreground and background."""
    foreground, background = pair.sums.y, pair.sums.off
    on = foreground**-2 if foreground > 0 else 0.0
    off = background**-2 if background > 0 else 0.0
    return (on or off, off or on) if absent == "largest" else (on, off)


# --- penalty_gdice ----------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\frac{G}{1+k(1-G)},\quad G=\text{generalized Dice loss}",
    reference="Ma et al. 2021, doi:10.1016/j.media.2021.102035; Yang et al. 2019, openreview:H1lTh8unKN",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("pgdl", "penalty_generalized_dice"),
    caution="It inherits the smooth of generalized_dice, which is not small beside the weighted sums of large objects.",
)
def penalty_gdice(pair: SoftPair, *, k: Penalty = 2.5, smooth: Smooth = 1e-5, absent: Absent = "zero") -> float:
    """Generalized Dice loss bent so that bad cases get a steeper slope than good ones.

    Choose it to spend training on bad cases: the slope is 1/(1+k) of that of generalized_dice at the
    optimum and 1+k times it at 1. It orders predictions exactly as generalized_dice does. The code in
    circulation puts in minus the coefficient instead of the loss.
    """
    inner = _generalized(pair, smooth, absent)
    return inner.loss / (1 + k * inner.score)


@gradient_of("penalty_gdice")
def _penalty_gdice_gradient(pair: SoftPair, d: Derivatives, *, k: float, smooth: float, absent: str) -> Vector:
    steepness = (1 + k) / (1 + k * _generalized(pair, smooth, absent).score) ** 2
    return steepness * generalized_gradient(pair, d, smooth=smooth, absent=absent)


@voxel_map_of("penalty_gdice", "scaled")
def _penalty_gdice_map(pair: SoftPair, *, k: float, smooth: float, absent: str) -> Vector:
    inner = _generalized(pair, smooth, absent)
    whole = inner.loss / (1 + k * inner.score)
    return scaled_map(generalized_map(pair, smooth=smooth, absent=absent), whole, inner.loss)


# --- sens_spec --------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"r\,\frac{\sum_i(p_i-y_i)^2y_i}{\sum_i y_i+s}+(1-r)\,\frac{\sum_i(p_i-y_i)^2(1-y_i)}{\sum_i(1-y_i)+s}",
    reference="Brosch et al. 2015, doi:10.1007/978-3-319-24574-4_1",
    range=(0.0, 1.0),
    local=True,
    aliases=("sensitivity_specificity", "brosch"),
    caution="r=0.05 puts 95 % of the weight on the background: high specificity, lower sensitivity. With an empty gt "
    "it is at most 1-r.",
)
def sens_spec(pair: SoftPair, *, r: Missed = 0.05, smooth: ClassSmooth = 1e-5) -> float:
    """Mean squared error of the foreground and of the background, each by itself, then weighed.

    Choose it when foreground and background errors are to be set against each other whatever their
    sizes. The weight r is that of the foreground part; libraries name the parts the other way round.
    A class that the gt lacks adds nothing. Often printed as a score to be made large: this is a loss.
    """
    on, off = _per_class(pair, r, smooth)
    return on * pair.sums.squares_on + off * pair.sums.squares_off


@gradient_of("sens_spec")
def _sens_spec_gradient(pair: SoftPair, d: Derivatives, *, r: float, smooth: float) -> Vector:
    on, off = _per_class(pair, r, smooth)
    return d.p * 2 * (pair.p - pair.y) * (on * pair.y + off * (1 - pair.y))


@voxel_map_of("sens_spec", "additive")
def _sens_spec_map(pair: SoftPair, *, r: float, smooth: float) -> Vector:
    on, off = _per_class(pair, r, smooth)
    return (pair.p - pair.y) ** 2 * (on * pair.y + off * (1 - pair.y))


def _per_class(pair: SoftPair, share: float, smooth: float) -> tuple[float, float]:
    """Return share/foreground and (1-share)/background; 0 where the gt lacks the class and smooth is 0."""
    foreground, background = pair.sums.y + smooth, pair.sums.off + smooth
    return share / foreground if foreground else 0.0, (1 - share) / background if background else 0.0


# --- sens_spec_linear -------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-w\,\frac{TP+s}{\sum_i y_i+s}-(1-w)\,\frac{TN+s}{\sum_i(1-y_i)+s}",
    reference="Jadon 2020, arXiv:2006.14822",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("sensitivity_specificity_linear",),
    caution="Its gradient has two values only, one inside the gt and one outside. With an empty gt it is at most 1-w.",
)
def sens_spec_linear(pair: SoftPair, *, w: Sensitivity = 0.5, smooth: ClassSmooth = 1e-5) -> float:
    """One minus the weighted mean of soft sensitivity and specificity.

    Choose it where both rates are what is reported; w=0.5 is 1 - balanced accuracy. A large background
    forgives many false alarms: precision is not looked at. Printed in surveys without the 1-, which
    would reward the wrong direction.
    """
    on, off = _per_class(pair, w, smooth)
    false_alarms, misses = pair.errors
    return on * misses + off * false_alarms


@gradient_of("sens_spec_linear")
def _sens_spec_linear_gradient(pair: SoftPair, d: Derivatives, *, w: float, smooth: float) -> Vector:
    on, off = _per_class(pair, w, smooth)
    return d.p * (off * (1 - pair.y) - on * pair.y)


@voxel_map_of("sens_spec_linear", "additive")
def _sens_spec_linear_map(pair: SoftPair, *, w: float, smooth: float) -> Vector:
    on, off = _per_class(pair, w, smooth)
    return on * pair.q * pair.y + off * pair.p * (1 - pair.y)


# --- asymmetric -------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{TP+s}{TP+\frac{1}{1+\beta^2}FP+\frac{\beta^2}{1+\beta^2}FN+s}",
    reference="Hashemi et al. 2018, arXiv:1803.11078",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("asymmetric_fbeta", "f_beta_loss"),
    caution="With an empty gt it is near 1 for any prediction with more than `smooth` in it, with almost no gradient.",
)
def asymmetric(pair: SoftPair, *, beta: Beta = 1.5, smooth: Smooth = 1e-5) -> float:
    """One minus the soft F-beta score: Dice loss in which recall counts beta times as much as precision.

    Choose it to push recall by one number: beta=1 is dice with twice the smooth, larger finds more. It
    is tversky with fn = beta^2/(1+beta^2) and fp = 1/(1+beta^2), and fails as dice does.
    """
    return tversky_ratio(pair, *_prices(beta), smooth).loss


@gradient_of("asymmetric")
def _asymmetric_gradient(pair: SoftPair, d: Derivatives, *, beta: float, smooth: float) -> Vector:
    fp, fn = _prices(beta)
    return tversky_gradient(pair, d, fp=fp, fn=fn, smooth=smooth)


@voxel_map_of("asymmetric", "additive")
def _asymmetric_map(pair: SoftPair, *, beta: float, smooth: float) -> Vector:
    fp, fn = _prices(beta)
    return tversky_map(pair, fp=fp, fn=fn, smooth=smooth)


def _prices(beta: float) -> tuple[float, float]:
    return 1 / (1 + beta**2), beta**2 / (1 + beta**2)


# --- noise_robust_dice ------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\frac{\sum_i|p_i-y_i|^\gamma}{\sum_i p_i^2+\sum_i y_i^2+s}",
    reference="Wang et al. 2020, doi:10.1109/TMI.2020.3000314",
    range=(0.0, _INF),
    local=True,
    symmetric=True,
    aliases=("nr_dice", "noise_robust_dice_loss"),
    caution="It can exceed 1 (gamma < 2, many doubtful voxels): not a share of anything. With an empty gt and a faint "
    "prediction it is large, with a gradient that lifts some voxels instead of lowering them.",
)
def noise_robust_dice(pair: SoftPair, *, gamma: Norm = 1.5, smooth: Smooth = 1e-5) -> float:
    """Dice loss with a power of the error between absolute (robust to label noise) and squared.

    Choose it when labels are noisy: with gamma below 2 single wrong labels pull less. gamma=2 is
    dice_squared. Do not compare its values with those of dice.
    """
    size = _norms(pair, smooth)
    if gamma == 1:
        return pair.sums.apart / size if size else 0.0
    return _error(pair, gamma) / size if size else 0.0


@gradient_of("noise_robust_dice")
def _noise_robust_dice_gradient(pair: SoftPair, d: Derivatives, *, gamma: float, smooth: float) -> Vector:
    size = _norms(pair, smooth)
    if not size:
        return 0 * d.p
    side = 1.0 * (pair.p > pair.y) - 1.0 * (pair.p < pair.y)
    value = _error(pair, gamma) / size
    return d.p * (gamma * _apart(pair, gamma - 1) * side - 2 * value * pair.p) / size


@voxel_map_of("noise_robust_dice", "additive")
def _noise_robust_dice_map(pair: SoftPair, *, gamma: float, smooth: float) -> Vector:
    size = _norms(pair, smooth)
    return _apart(pair, gamma) / size if size else 0 * pair.p


def _apart(pair: SoftPair, power: float) -> Vector:
    return abs(pair.p - pair.y) ** power


def _error(pair: SoftPair, power: float) -> float:
    return pair.once(("apart", power), lambda whole: whole.total(lambda own: _apart(own, power)))


def _norms(pair: SoftPair, smooth: float) -> float:
    return pair.sums.pp + pair.sums.yy + smooth


# --- iou_inverted -----------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"-\mathrm{IoU}(p,y)\text{ where }\sum_i y_i>0,\quad -\mathrm{IoU}(1-p,1-y)\text{ where the gt is empty}",
    reference="after Rahman and Wang 2016, doi:10.1007/978-3-319-50835-1_22",
    range=(-1.0, 0.0),
    local=True,
    optimum=None,
    aliases=("negative_iou", "iou_loss_inverted"),
    caution="Negative by design: -1 is perfect, 0 the worst. An empty gt is judged on another scale than any other: a "
    "few false alarms cost next to nothing there.",
)
def iou_inverted(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """Minus the soft IoU, that of the background where the ground truth is empty.

    Choose it only to follow code that does so: the inversion gives empty cases a gradient, which iou
    has not. Such code looks for an empty gt in the whole batch: an empty case beside others is then not
    inverted and its value differs from that alone. Here every case is looked at by itself.
    """
    return -_inverted(pair, smooth).score


@gradient_of("iou_inverted")
def _iou_inverted_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    if pair.sums.y:
        return ratio_slope(d, _inverted(pair, smooth), pair.y, 1 - pair.y)
    return ratio_slope(d, _inverted(pair, smooth), pair.y - 1, 0.0)


@voxel_map_of("iou_inverted", "additive")
def _iou_inverted_map(pair: SoftPair, *, smooth: float) -> Vector:
    # -IoU is the IoU loss less 1: that 1 belongs to no voxel and is spread evenly
    return ratio_map(_inverted(pair, smooth), difference(pair)) - 1 / max(pair.n, 1)


def _inverted(pair: SoftPair, smooth: float) -> Ratio:
    overlap = pair.sums.py if pair.sums.y else pair.sums.tn
    return ratio(sum(pair.errors), overlap + smooth)
