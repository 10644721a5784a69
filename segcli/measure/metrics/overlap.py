"""Overlap and confusion: what the four counts tp, fp, fn, tn of one label say.

Counts are exact integers over all voxels that are not ignored.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import metric
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

ZERO_UNLESS_BOTH = WhenEmpty(both=None, gt=0.0, pred=0.0)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


@metric(
    family="overlap",
    formula=r"|G|",
    reference="a count",
    range=(0, float("inf")),
    better="none",
)
def voxels_gt(pair: Pair) -> float:
    """Count the voxels of the label in the ground truth.

    Look at it first: below some 50 voxels every overlap and distance is coarse.
    """
    return pair.counts.gt


@metric(
    family="overlap",
    formula=r"|P|",
    reference="a count",
    range=(0, float("inf")),
    better="none",
)
def voxels_pred(pair: Pair) -> float:
    """Count the voxels of the label in the prediction.

    Against voxels_gt it tells over- from under-segmentation.
    """
    return pair.counts.pred


@metric(
    family="overlap",
    aliases=("dsc", "f1"),
    formula=r"\frac{2\,tp}{2\,tp + fp + fn}",
    reference="Dice 1945, doi:10.2307/1932409",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
    caution="one voxel moves it by much on a small object",
)
def dice(pair: Pair) -> float | None:
    """Overlap as a share of the mean size of both masks (Dice similarity coefficient).

    The common currency of medical segmentation. It is blind to where the errors lie and depends on
    the size of the object: report a surface distance beside it.
    """
    c = pair.counts
    return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


@metric(
    family="overlap",
    aliases=("jaccard", "jaccard_index"),
    formula=r"\frac{tp}{tp + fp + fn}",
    reference="Jaccard 1901, doi:10.5169/seals-266450",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
)
def iou(pair: Pair) -> float | None:
    """Overlap as a share of the union (intersection over union, Jaccard index).

    It ranks single cases as dice does (iou = dice / (2 - dice)) and punishes poor ones more; the
    means over cases of the two can rank models differently.
    """
    c = pair.counts
    return _ratio(c.tp, c.tp + c.fp + c.fn)


@metric(
    family="overlap",
    aliases=("recall", "tpr"),
    formula=r"\frac{tp}{tp + fn}",
    reference="Yerushalmy 1947, doi:10.2307/4586294",
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=0.0),
    caution="a prediction of everything scores 1",
)
def sensitivity(pair: Pair) -> float | None:
    """Share of the ground truth that the prediction found.

    Never alone: predicting the label everywhere gives 1.
    """
    c = pair.counts
    return _ratio(c.tp, c.tp + c.fn)


@metric(
    family="overlap",
    aliases=("tnr",),
    formula=r"\frac{tn}{tn + fp}",
    reference="Yerushalmy 1947, doi:10.2307/4586294",
    range=(0, 1),
    better="higher",
    caution="close to 1 for any small object",
)
def specificity(pair: Pair) -> float | None:
    """Share of the voxels outside the ground truth that the prediction leaves out.

    It depends on how much background the image shows: cropping changes it. Undefined where the
    ground truth fills the grid.
    """
    c = pair.counts
    return _ratio(c.tn, c.tn + c.fp)


@metric(
    family="overlap",
    aliases=("ppv",),
    formula=r"\frac{tp}{tp + fp}",
    reference="Altman & Bland 1994, doi:10.1136/bmj.309.6947.102",
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=0.0, pred=None),
    caution="a single correct voxel scores 1",
)
def precision(pair: Pair) -> float | None:
    """Share of the prediction that is right (positive predictive value).

    Never alone: one correct voxel gives 1. Undefined for an empty prediction.
    """
    c = pair.counts
    return _ratio(c.tp, c.tp + c.fp)


@metric(
    family="overlap",
    formula=r"\frac{tn}{tn + fn}",
    reference="Altman & Bland 1994, doi:10.1136/bmj.309.6947.102",
    range=(0, 1),
    better="higher",
    caution="close to 1 for any small object",
)
def npv(pair: Pair) -> float | None:
    """Share of the predicted background that is background (negative predictive value).

    Like specificity it depends on how much background the image shows.
    """
    c = pair.counts
    return _ratio(c.tn, c.tn + c.fn)


@metric(
    family="overlap",
    formula=r"\frac{tp + tn}{N}",
    reference="a share of counts",
    range=(0, 1),
    better="higher",
    symmetric=True,
    caution="dominated by the background",
)
def accuracy(pair: Pair) -> float | None:
    """Share of all voxels on which prediction and ground truth agree about this label.

    For a small object an empty prediction scores almost 1: use dice or balanced_accuracy.
    """
    c = pair.counts
    return _ratio(c.tp + c.tn, c.n)


@metric(
    family="overlap",
    formula=r"\tfrac12\left(\frac{tp}{tp + fn} + \frac{tn}{tn + fp}\right)",
    reference="Brodersen et al. 2010, doi:10.1109/ICPR.2010.764",
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=FORMULA),
)
def balanced_accuracy(pair: Pair) -> float | None:
    """Mean of sensitivity and specificity.

    An empty and a full prediction both score 0.5. Undefined where one of the two is.
    """
    found, left_out = sensitivity(pair), specificity(pair)
    return None if found is None or left_out is None else (found + left_out) / 2


@metric(
    family="overlap",
    formula=r"\frac{tp\,tn - fp\,fn}{\sqrt{(tp+fp)(tp+fn)(tn+fp)(tn+fn)}}",
    reference="Matthews 1975, doi:10.1016/0005-2795(75)90109-9",
    range=(-1, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
)
def mcc(pair: Pair) -> float | None:
    """Correlation of prediction and ground truth as binary variables (Matthews).

    It uses all four counts and stays low where one class is missed. Undefined when either mask is
    empty or fills the grid.
    """
    c = pair.counts
    # Two roots: the product of all four may exceed what a double holds, and roots of one factor each make no exact 1.
    scale = sqrt(float(c.tp + c.fp) * float(c.tp + c.fn)) * sqrt(float(c.tn + c.fp) * float(c.tn + c.fn))
    return _ratio(c.tp * c.tn - c.fp * c.fn, scale)


@metric(
    family="overlap",
    aliases=("cohen_kappa",),
    formula=r"\frac{p_o - p_e}{1 - p_e}",
    reference="Cohen 1960, doi:10.1177/001316446002000104",
    range=(-1, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=FORMULA, pred=FORMULA),
)
def kappa(pair: Pair) -> float | None:
    """Agreement beyond what chance gives two raters with these sizes (Cohen).

    Undefined when chance alone gives full agreement (both masks empty or both full).
    """
    c = pair.counts
    # Cohen's ratio with both sides multiplied by N^2 / 2: integers until the division.
    return _ratio(2 * (c.tp * c.tn - c.fp * c.fn), c.gt * (c.n - c.pred) + c.pred * (c.n - c.gt))


@metric(
    family="overlap",
    aliases=("fbeta",),
    formula=r"\frac{(1+\beta^2)\,tp}{(1+\beta^2)\,tp + \beta^2\,fn + fp}",
    reference="van Rijsbergen 1979",
    range=(0, 1),
    better="higher",
    when_empty=ZERO_UNLESS_BOTH,
)
def f_beta(
    pair: Pair,
    *,
    beta: Annotated[float, Param("how many times more recall counts than precision", gt=0, shown=True)] = 2.0,
) -> float | None:
    """Weighted harmonic mean of precision and sensitivity.

    beta=1 is dice; above 1 missed voxels cost more than false ones.
    """
    c, b2 = pair.counts, beta * beta
    return _ratio((1 + b2) * c.tp, (1 + b2) * c.tp + b2 * c.fn + c.fp)
