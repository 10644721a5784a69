"""Region losses that stand in for a measure of masks: Lovász extensions of IoU, and the Matthews correlation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.distribution import Clip
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

Smooth = Annotated[float, Param("added under the root of the denominator", ge=0)]


def _marginals(errors: Vector, y: Vector) -> Vector:
    """Return what each voxel adds to the Jaccard loss when voxels go wrong in the order of their errors.

    Voxels with equal errors go wrong together, little by little (the integral along the diagonal), so
    that their order does not matter. This is a subgradient of the Lovász extension as any order is.
    """
    import numpy as np

    if not errors.size:
        return errors
    order = np.argsort(-errors, kind="stable")
    truth, sizes = y[order], errors[order]
    last = np.flatnonzero(np.append(sizes[1:] != sizes[:-1], True))
    misses, alarms = (np.diff(part.cumsum()[last], prepend=0.0) for part in (truth, 1 - truth))
    left = truth.sum() - (misses.cumsum() - misses)  # of the gt when a group of equal errors begins to go wrong
    union = truth.sum() + (alarms.cumsum() - alarms)
    started, mixed = union > 0, alarms > 0
    jump = np.ones_like(union)  # the first false alarm against an empty gt
    np.divide(left * alarms + misses * union, union * (union + alarms), out=jump, where=started)
    growth = np.divide(alarms, union, out=np.zeros_like(union), where=started)
    of_miss = np.divide(1.0, union, out=np.zeros_like(union), where=started)
    np.divide(np.log1p(growth), alarms, out=of_miss, where=started & mixed)
    of_alarm = np.divide(jump - misses * of_miss, alarms, out=np.zeros_like(union), where=mixed)
    group = np.repeat(np.arange(last.size), np.diff(last, prepend=-1))
    found = np.empty_like(errors)
    found[order] = truth * of_miss[group] + (1 - truth) * of_alarm[group]
    return found


# --- lovasz -----------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\sum_k|p-y|_{(k)}\left(J_k-J_{k-1}\right),\quad|p-y|_{(1)}\ge|p-y|_{(2)}\ge\dots,\quad"
    r"J_k=\text{IoU loss if the }k\text{ worst voxels were wrong}",
    reference="Berman, Rannen Triki and Blaschko 2018, arXiv:1705.08790",
    range=(0.0, 1.0),
    aliases=("lovasz_loss",),
    caution="With an empty gt it is the largest probability: one voxel has all of the gradient.",
)
def lovasz(pair: SoftPair) -> float:
    """Lovász extension of the IoU loss, on probabilities: equals it on hard masks, and is convex.

    Choose it to finish a training whose score is IoU; it starts slowly. It is the term of
    one class in lovasz_softmax. Errors are sorted over the whole case, so a voxel's weight depends on all others;
    equal errors, as on a hard mask, share.
    The map needs no quadrature: on the way from the gt the order of the errors stays.
    """
    errors = abs(pair.p - pair.y)
    return float((errors * _marginals(errors, pair.y)).sum())


@gradient_of("lovasz")
def lovasz_gradient(pair: SoftPair, d: Derivatives) -> Vector:
    """Return the derivative of `lovasz`."""
    side = 1.0 * (pair.p > pair.y) - 1.0 * (pair.p < pair.y)
    return d.p * side * _marginals(abs(pair.p - pair.y), pair.y)


@voxel_map_of("lovasz", "integrated")
def lovasz_map(pair: SoftPair) -> Vector:
    """Return what each voxel adds to `lovasz`."""
    errors = abs(pair.p - pair.y)
    return errors * _marginals(errors, pair.y)


# --- lovasz_hinge -----------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\sum_k\max(0,m)_{(k)}\left(J_k-J_{k-1}\right),\quad m_i=1-z_i(2y_i-1),\quad z=\ln\frac{p}{1-p}",
    reference="Berman, Rannen Triki and Blaschko 2018, arXiv:1705.08790",
    range=(0.0, _INF),
    optimum=None,
    aliases=("lovasz_hinge_loss", "binary_lovasz"),
    reads="probability",
    caution="On a hard mask it measures only -ln(clip) times the IoU loss. With an empty gt one voxel has all of the "
    "gradient.",
)
def lovasz_hinge(pair: SoftPair, *, clip: Clip = 1e-7) -> float:
    """Lovász extension of the IoU loss on the hinge of the logits; voxels beyond a margin of 1 are free.

    Choose it to train a single logit map for IoU. It reads logits; given probabilities it takes
    ln p - ln(1-p) of p clipped to [clip, 1-clip], which is the logit again unless the clip holds it:
    then value and gradient are those of the clipped p. p = y is 0 for a hard gt only.
    """
    margins, counted = _margins(pair, clip)
    return float((margins * counted * _marginals(margins, pair.y)).sum())


@gradient_of("lovasz_hinge")
def _lovasz_hinge_gradient(pair: SoftPair, d: Derivatives, *, clip: float) -> Vector:
    margins, counted = _margins(pair, clip)
    slope = d.clipped(clip)
    return (slope.log_p - slope.log_q) * (1 - 2 * pair.y) * counted * _marginals(margins, pair.y)


@voxel_map_of("lovasz_hinge", "additive")
def _lovasz_hinge_map(pair: SoftPair, *, clip: float) -> Vector:
    margins, counted = _margins(pair, clip)
    return margins * counted * _marginals(margins, pair.y)


def _margins(pair: SoftPair, clip: float) -> tuple[Vector, Vector]:
    """Return 1 - z(2y-1), and 1 where that is positive."""
    seen = pair.logs(clip)
    margins = 1 - (seen.log_p - seen.log_q) * (2 * pair.y - 1)
    counted: Vector = (margins > 0).astype("float64")
    return margins, counted


# --- mcc --------------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{TP\cdot TN-FP\cdot FN}{\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)+s}}",
    reference="Abhishek and Hamarneh 2021, arXiv:2010.13454",
    range=(0.0, 2.0),
    local=True,
    optimum=None,
    symmetric=True,
    aliases=("mcc_loss", "matthews"),
    caution="With an empty gt or a full one it is 1 for any prediction, the right one too, and its gradient 0: read "
    "the excess over the optimum.",
)
def mcc(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """One minus the soft Matthews correlation of prediction and ground truth.

    Choose it when foreground and background matter alike: unlike dice it counts true negatives, and
    exchanging the classes changes nothing. MONAI calls an exactly right prediction of an empty or full
    gt 0; SMP gives 0.5 there.
    """
    tp, fp, fn, tn = _table(pair)
    agreement = tp * tn - fp * fn
    size = _denominator(pair, smooth)
    if size == 0:
        return 1.0
    if agreement <= 0:
        return 1 - agreement / size
    # size^2 - agreement^2 without its cancelling parts: next to the optimum both are nearly the same
    wrong = pair.n * (tp * tn * (fp + fn) + fp * fn * (tp + tn)) + smooth
    return wrong / (size * (size + agreement))


@gradient_of("mcc")
def _mcc_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    tp, fp, fn, tn = _table(pair)
    size = _denominator(pair, smooth)
    if size == 0:
        return 0 * d.p
    found, true, missing = tp + fp, tp + fn, tn + fp
    stretch = (tp * tn - fp * fn) / size * true * missing * (tn + fn - found) / (2 * size**2)
    return d.p * (stretch - (missing * pair.y - true * (1 - pair.y)) / size)


@voxel_map_of("mcc", "integrated")
def _mcc_map(pair: SoftPair, *, smooth: float) -> Vector:
    # L(y) belongs to no voxel and is spread evenly
    start = mcc(pair.perfect(), smooth=smooth)
    return _integrated(pair, smooth) + start / max(pair.n, 1)


def _integrated(pair: SoftPair, smooth: float) -> Vector:
    """Return the gradient of `mcc` integrated along the straight way from the gt to the prediction, in closed form.

    On the way all sums are linear and the denominator is the root of a quadratic, whose integrals are an arc
    tangent and fractions. Nothing is left over: the entries add up to L(p) - L(y).
    """
    _, alarms, misses, _ = _table(pair)
    true = pair.sums.y
    missing = pair.n - true
    if not true * missing > 0:  # an empty gt or a full one: the loss is constant
        return 0 * pair.p
    doubt = true - pair.sums.yy  # of a soft gt
    change = alarms - misses  # of the predicted size
    climb = pair.n * doubt - missing * misses - true * alarms  # of TP TN - FP FN
    agreed = pair.n * pair.sums.yy - true**2
    first, last = math.sqrt((true * missing) ** 2 + smooth), _denominator(pair, smooth)
    both = first + last
    # the integral of 1/denominator
    turn = change * math.sqrt(true * missing) / both
    inverse = 2 / both * (math.atan(turn) / turn if turn else 1.0)
    # the integral of (TP TN - FP FN) times the slope of -1/denominator by the predicted size
    if last < first / 2:
        end = (agreed + climb) / last if last else 0.0
        stretch = (climb * inverse - end + agreed / first) / change
    else:  # the same with `change` divided out, since it may be 0 where alarms and misses are as many
        tilt = true * missing * (missing - true - change)
        bend = change * tilt**2 / (2 * first * last * both**3) + 2 / both * _arc_rest(turn) * (
            math.sqrt(true * missing) / both
        )
        stretch = (agreed + climb / 2) * tilt / (first * last * both) - climb * bend
    step = pair.p * (1 - pair.y) - pair.q * pair.y
    return step * (stretch - (pair.n * pair.y - true) * inverse)


def _arc_rest(x: float) -> float:
    """Return (1 - atan(x)/x)/x, to all digits next to 0 too."""
    if abs(x) < 0.02:
        square = x * x
        return x * (1 / 3 - square * (1 / 5 - square * (1 / 7 - square / 9)))
    return (1 - math.atan(x) / x) / x


def _table(pair: SoftPair) -> tuple[float, float, float, float]:
    """Return the soft TP, FP, FN and TN."""
    false_alarms, misses = pair.errors
    return pair.sums.py, false_alarms, misses, pair.sums.tn


def _denominator(pair: SoftPair, smooth: float) -> float:
    tp, fp, fn, tn = _table(pair)
    return math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) + smooth)
