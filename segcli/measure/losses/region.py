"""Losses that compare regions: ratios of overlap sums, and monotone functions of such a ratio.

Every ratio loss is written as error/size, with an error that is a sum over voxels: that sum is its
voxel map. For a soft gt |p-y| reads p+y-2py, which is the same for y in {0, 1} and sums to the loss
for every y. Where the size is 0 (smooth=0 and nothing there) the loss is 0, its limit for smooth
towards 0, and so are its gradient and its map.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

Smooth = Annotated[float, Param("added to numerator and denominator of the overlap ratio", ge=0)]
FalsePositives = Annotated[float, Param("weight of false positives (false alarms)", ge=0)]
FalseNegatives = Annotated[float, Param("weight of false negatives (misses)", ge=0)]
Exponent = Annotated[float, Param("power of the Tversky loss; below 1 lifts small losses", gt=0, le=100)]

_SATURATES = "With an empty gt it is near 1 for any prediction with more than `smooth` in it, with almost no gradient."


class Ratio(NamedTuple):
    """A ratio loss error/size, its complement and its size, where size = error + overlap."""

    loss: float
    score: float
    size: float


def ratio(error: float, overlap: float) -> Ratio:
    """Return error/(error + overlap); 0 where there is neither."""
    size = error + overlap
    return Ratio(error / size, overlap / size, size) if size > 0 else Ratio(0.0, 1.0, 0.0)


def ratio_slope(d: Derivatives, of: Ratio, overlap: Vector, size: Vector | float) -> Vector:
    """Return the derivative of a ratio loss, given those of its overlap and its size with respect to p.

    In terms of the overlap, because next to an empty gt 1-loss has lost most of its digits.
    """
    if of.size == 0:
        return 0 * d.p
    return d.p * (of.score * size - overlap) / of.size


def ratio_map(of: Ratio, error: Vector) -> Vector:
    """Return the contributions of the voxels, given those to the error."""
    return error / of.size if of.size else 0 * error


def scaled_map(inner: Vector, whole: float, part: float) -> Vector:
    """Return a map that adds up to `part` scaled to one that adds up to `whole`."""
    return inner * (whole / part) if part else 0 * inner


# --- dice -------------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{2\sum_i p_iy_i+s}{\sum_i p_i+\sum_i y_i+s}",
    reference="Drozdzal et al. 2016, arXiv:1608.04117",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    symmetric=True,
    aliases=("dice_loss", "soft_dice"),
    caution=_SATURATES,
)
def dice(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """Soft Dice loss: the summed error relative to the summed sizes of prediction and ground truth.

    Choose it when the object is small against the image: the background's size does not matter.
    Known failures: it has two gradient values only (all foreground voxels the same, all background
    voxels the same), barely notices a lost small component beside a large one, and with an empty gt
    it jumps from 0 to nearly 1. `smooth` far above 1e-5 makes tiny objects look better than they are.
    With a soft gt, pred = gt is not 0; dice_squared is.
    """
    return dice_ratio(pair, smooth).loss


@gradient_of("dice")
def dice_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    """Return the derivative of `dice`."""
    return ratio_slope(d, dice_ratio(pair, smooth), 2 * pair.y, 1.0)


@voxel_map_of("dice", "additive")
def dice_map(pair: SoftPair, *, smooth: float) -> Vector:
    """Return what each voxel adds to `dice`."""
    return ratio_map(dice_ratio(pair, smooth), difference(pair))


def dice_ratio(pair: SoftPair, smooth: float) -> Ratio:
    """Return `dice` as a ratio of error and overlap."""
    return ratio(sum(pair.errors), 2 * pair.sums.py + smooth)


def difference(pair: SoftPair) -> Vector:
    """Return p+y-2py: what a voxel adds to the sizes that is not overlap; |p-y| for a hard y."""
    return pair.p * (1 - pair.y) + pair.q * pair.y


# --- dice_squared -----------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{2\sum_i p_iy_i+s}{\sum_i p_i^2+\sum_i y_i^2+s}",
    reference="Milletari, Navab and Ahmadi 2016, arXiv:1606.04797",
    range=(0.0, 1.0),
    local=True,
    symmetric=True,
    aliases=("vnet_dice", "squared_dice"),
    caution=_SATURATES,
)
def dice_squared(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """V-Net's form of the Dice loss: squared error relative to the sums of squares.

    Choose it over dice when probabilities matter: its gradient differs from voxel to voxel, doubtful
    voxels weigh less than wrong ones, and it is 0 at pred = gt for a soft gt too. On hard masks both
    are the same. It fails as dice does on empty gts and lost small components.
    """
    return _dice_squared(pair, smooth).loss


@gradient_of("dice_squared")
def _dice_squared_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    return ratio_slope(d, _dice_squared(pair, smooth), 2 * pair.y, 2 * pair.p)


@voxel_map_of("dice_squared", "additive")
def _dice_squared_map(pair: SoftPair, *, smooth: float) -> Vector:
    return ratio_map(_dice_squared(pair, smooth), (pair.p - pair.y) ** 2)


def _dice_squared(pair: SoftPair, smooth: float) -> Ratio:
    return ratio(pair.sums.squares_on + pair.sums.squares_off, 2 * pair.sums.py + smooth)


# --- iou --------------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{\sum_i p_iy_i+s}{\sum_i p_i+\sum_i y_i-\sum_i p_iy_i+s}",
    reference="Rahman and Wang 2016, doi:10.1007/978-3-319-50835-1_22",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    symmetric=True,
    aliases=("jaccard", "iou_loss", "soft_iou"),
    caution=_SATURATES,
)
def iou(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """Soft IoU (Jaccard) loss: the summed error relative to the union of prediction and ground truth.

    Choose it where IoU is what is reported. Without smooth it is 2D/(1+D) for a Dice loss D: the same
    order, bad cases closer together and good ones further apart. It fails as dice does.
    """
    return _iou(pair, smooth).loss


@gradient_of("iou")
def _iou_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    return ratio_slope(d, _iou(pair, smooth), pair.y, 1 - pair.y)


@voxel_map_of("iou", "additive")
def _iou_map(pair: SoftPair, *, smooth: float) -> Vector:
    return ratio_map(_iou(pair, smooth), difference(pair))


def _iou(pair: SoftPair, smooth: float) -> Ratio:
    return ratio(sum(pair.errors), pair.sums.py + smooth)


# --- tversky ----------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{TP+s}{TP+w_{fp}FP+w_{fn}FN+s},\quad TP=\sum_i p_iy_i,\ "
    r"FP=\sum_i p_i(1-y_i),\ FN=\sum_i(1-p_i)y_i",
    reference="Salehi, Erdogmus and Gholipour 2017, arXiv:1706.05721",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("tversky_loss",),
    caution="With an empty gt it is near 1 for any prediction with more than `smooth` in it, with almost no gradient.",
)
def tversky(pair: SoftPair, *, fp: FalsePositives = 0.3, fn: FalseNegatives = 0.7, smooth: Smooth = 1e-5) -> float:
    """Dice loss with separate weights for false positives and false negatives.

    Choose it when misses and false alarms differ in price: fn above fp pushes recall. fp = fn = 0.5 is
    dice with twice the smooth, fp = fn = 1 is iou. The weights are named for what they weigh, because
    libraries swap alpha and beta (Keras up to 3.15.1 against its own docs). It fails as dice does.
    """
    return tversky_ratio(pair, fp, fn, smooth).loss


@gradient_of("tversky")
def tversky_gradient(pair: SoftPair, d: Derivatives, *, fp: float, fn: float, smooth: float) -> Vector:
    """Return the derivative of `tversky`."""
    return ratio_slope(d, tversky_ratio(pair, fp, fn, smooth), pair.y, fp * (1 - pair.y) + (1 - fn) * pair.y)


@voxel_map_of("tversky", "additive")
def tversky_map(pair: SoftPair, *, fp: float, fn: float, smooth: float) -> Vector:
    """Return what each voxel adds to `tversky`."""
    return ratio_map(tversky_ratio(pair, fp, fn, smooth), fp * pair.p * (1 - pair.y) + fn * pair.q * pair.y)


def tversky_ratio(pair: SoftPair, fp: float, fn: float, smooth: float) -> Ratio:
    """Return `tversky` as a ratio of error and overlap."""
    false_alarms, misses = pair.errors
    return ratio(fp * false_alarms + fn * misses, pair.sums.py + smooth)


# --- focal_tversky ----------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\left(1-\frac{TP+s}{TP+w_{fp}FP+w_{fn}FN+s}\right)^{e}",
    reference="Abraham and Khan 2018, arXiv:1810.07842",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("focal_tversky_loss", "ftl"),
    caution="With exponent < 1 the gradient grows without bound as the loss nears 0: infinite gradient dL/dp at the "
    "optimum. With an empty gt it is near 1 with almost no gradient.",
)
def focal_tversky(
    pair: SoftPair,
    *,
    fp: FalsePositives = 0.3,
    fn: FalseNegatives = 0.7,
    exponent: Exponent = 0.75,
    smooth: Smooth = 1e-5,
) -> float:
    """Tversky loss raised to a power, to shift attention between easy and hard cases.

    Choose exponent < 1 (0.75 is the paper's 1/gamma with gamma = 4/3) to keep pushing cases that are
    nearly solved, > 1 to leave them alone. Texts print the power as gamma and as 1/gamma, which have
    opposite effects; here it is what stands in the exponent. Below 1 the gradient is infinite at the
    optimum and training there is restless.
    """
    return math.pow(tversky_ratio(pair, fp, fn, smooth).loss, exponent)


@gradient_of("focal_tversky")
def _focal_tversky_gradient(
    pair: SoftPair, d: Derivatives, *, fp: float, fn: float, exponent: float, smooth: float
) -> Vector:
    slope = tversky_gradient(pair, d, fp=fp, fn=fn, smooth=smooth)
    steepness = power_slope(tversky_ratio(pair, fp, fn, smooth).loss, exponent)
    felt = slope != 0  # a voxel that the inner loss does not feel keeps 0, also where the power is infinitely steep
    slope[felt] *= steepness
    return slope


@voxel_map_of("focal_tversky", "scaled")
def _focal_tversky_map(pair: SoftPair, *, fp: float, fn: float, exponent: float, smooth: float) -> Vector:
    inner = tversky_ratio(pair, fp, fn, smooth).loss
    return scaled_map(tversky_map(pair, fp=fp, fn=fn, smooth=smooth), math.pow(inner, exponent), inner)


def power_slope(base: float, exponent: float) -> float:
    """Return the derivative of base^exponent, infinite where it is."""
    if exponent >= 1:
        return exponent * math.pow(base, exponent - 1)
    root = math.pow(base, 1 - exponent)
    return exponent / root if root > 0 else math.inf


# --- log_cosh_dice ----------------------------------------------------------------------------


def _log_cosh(x: float) -> float:
    return math.log1p(2 * math.sinh(x / 2) ** 2)  # keeps the digits of a small x, where cosh x rounds to 1


@loss(
    family="region",
    formula=r"\ln\cosh\left(1-\frac{2\sum_i p_iy_i+s}{\sum_i p_i+\sum_i y_i+s}\right)",
    reference="Jadon 2020, arXiv:2006.14822",
    range=(0.0, _log_cosh(1.0)),
    local=True,
    optimum=None,
    symmetric=True,
    aliases=("logcosh_dice",),
    caution=f"Its gradient vanishes near the optimum: it learns slower than dice there. {_SATURATES}",
)
def log_cosh_dice(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """Dice loss passed through ln cosh, which flattens it near the optimum.

    Choose it for gradients that fade out as the overlap becomes good (at most tanh 1 = 0.76 of those of
    dice). It orders predictions exactly as dice does: as a measure it says nothing new, and it learns
    slower than dice near the optimum. It is not convex, despite what is often written.
    """
    return _log_cosh(dice_ratio(pair, smooth).loss)


@gradient_of("log_cosh_dice")
def _log_cosh_dice_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    return math.tanh(dice_ratio(pair, smooth).loss) * dice_gradient(pair, d, smooth=smooth)


@voxel_map_of("log_cosh_dice", "scaled")
def _log_cosh_dice_map(pair: SoftPair, *, smooth: float) -> Vector:
    inner = dice_ratio(pair, smooth).loss
    return scaled_map(dice_map(pair, smooth=smooth), _log_cosh(inner), inner)
