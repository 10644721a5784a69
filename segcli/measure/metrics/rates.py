"""Overlap and confusion, continued: errors as shares, and the agreement and cost that follow from the four counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import metric
from segcli.measure.metrics.overlap import ZERO_UNLESS_BOTH, npv, precision, sensitivity, specificity
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

INF = float("inf")


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


@metric(
    family="overlap",
    aliases=("false_positive_rate", "fallout"),
    formula=r"\frac{fp}{fp + tn}",
    reference="Yerushalmy 1947, doi:10.2307/4586294",
    range=(0, 1),
    better="lower",
    caution="close to 0 for any small object",
)
def fpr(pair: Pair) -> float | None:
    """Share of the voxels outside the ground truth that the prediction takes in: 1 - specificity.

    It depends on how much background the image shows. fdr compares the same voxels with the
    prediction instead; SimpleITK's filter prints fdr and false_omission_rate under such names.
    """
    return _rest(specificity(pair))


@metric(
    family="overlap",
    aliases=("false_negative_rate", "miss_rate"),
    formula=r"\frac{fn}{fn + tp}",
    reference="Yerushalmy 1947, doi:10.2307/4586294",
    range=(0, 1),
    better="lower",
    when_empty=WhenEmpty(both=None, gt=None, pred=1.0),
    caution="a prediction of everything scores 0",
)
def fnr(pair: Pair) -> float | None:
    """Share of the ground truth that the prediction missed: 1 - sensitivity.

    Never alone: predicting the label everywhere gives 0.
    """
    return _rest(sensitivity(pair))


@metric(
    family="overlap",
    aliases=("false_discovery_rate",),
    formula=r"\frac{fp}{fp + tp}",
    reference="Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x",
    range=(0, 1),
    better="lower",
    when_empty=WhenEmpty(both=None, gt=1.0, pred=None),
    caution="a single correct voxel scores 0",
)
def fdr(pair: Pair) -> float | None:
    """Share of the prediction that is wrong: 1 - precision.

    Unlike fpr it does not depend on the size of the image. Undefined for an empty prediction.
    """
    return _rest(precision(pair))


@metric(
    family="overlap",
    aliases=("for",),
    formula=r"\frac{fn}{fn + tn}",
    reference="Altman & Bland 1994, doi:10.1136/bmj.309.6947.102",
    range=(0, 1),
    better="lower",
    caution="close to 0 for any small object",
)
def false_omission_rate(pair: Pair) -> float | None:
    """Share of the predicted background that belongs to the label: 1 - npv.

    It depends on how much background the image shows.
    """
    return _rest(npv(pair))


@metric(
    family="overlap",
    formula=r"\frac{tp}{tp + w_{fp}\,fp + w_{fn}\,fn}",
    reference="Tversky 1977, doi:10.1037/0033-295X.84.4.327",
    range=(0, 1),
    better="higher",
    when_empty=ZERO_UNLESS_BOTH,
)
def tversky_index(
    pair: Pair,
    *,
    fp: Annotated[float, Param("weight of false positives", ge=0, shown=True)] = 0.3,
    fn: Annotated[float, Param("weight of false negatives", ge=0, shown=True)] = 0.7,
) -> float | None:
    """Overlap in which false positives and false negatives have prices of their own.

    fp = fn = 0.5 is dice, 1 and 1 is iou, 1 and 0 precision, 0 and 1 sensitivity. The defaults are
    those of the loss tversky, where misses cost more.
    """
    c = pair.counts
    whole = c.tp + fp * c.fp + fn * c.fn
    return c.tp / whole if whole else None


@metric(
    family="overlap",
    aliases=("youden", "youden_index"),
    formula=r"\frac{tp}{tp + fn} + \frac{tn}{tn + fp} - 1",
    reference="Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3",
    range=(-1, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=FORMULA),
)
def informedness(pair: Pair) -> float | None:
    """Sensitivity + specificity - 1: how much better than guessing (Youden's J).

    An empty and a full prediction both score 0. It is 2 balanced_accuracy - 1.
    """
    found, left_out = sensitivity(pair), specificity(pair)
    return None if found is None or left_out is None else found + left_out - 1


@metric(
    family="overlap",
    formula=r"\frac{tp}{tp + fp} + \frac{tn}{tn + fn} - 1",
    reference="Powers 2020, arXiv:2010.16061",
    range=(-1, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=FORMULA, pred=None),
)
def markedness(pair: Pair) -> float | None:
    """Precision + npv - 1: how far the prediction can be trusted, both ways.

    informedness with prediction and ground truth exchanged; their product is the square of mcc.
    """
    right, absent = precision(pair), npv(pair)
    return None if right is None or absent is None else right + absent - 1


@metric(
    family="overlap",
    aliases=("plr",),
    formula=r"\frac{tp}{tp + fn} \Big/ \frac{fp}{fp + tn}",
    reference="Deeks & Altman 2004, doi:10.1136/bmj.329.7458.168",
    range=(0, INF),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=None),
    optimum=None,
    caution="undefined without a false positive: a perfect prediction has no value",
)
def likelihood_ratio_positive(pair: Pair) -> float | None:
    """How many times likelier the prediction is inside the ground truth than outside: sensitivity / fpr.

    1 is no better than guessing. It has no value where nothing is falsely predicted.
    """
    c = pair.counts
    below = c.fp * c.gt
    return c.tp * (c.n - c.gt) / below if below else None


@metric(
    family="overlap",
    aliases=("nlr",),
    formula=r"\frac{fn}{tp + fn} \Big/ \frac{tn}{fp + tn}",
    reference="Deeks & Altman 2004, doi:10.1136/bmj.329.7458.168",
    range=(0, INF),
    better="lower",
    when_empty=WhenEmpty(both=None, gt=None, pred=FORMULA),
)
def likelihood_ratio_negative(pair: Pair) -> float | None:
    """How many times likelier a voxel is left out inside the ground truth than outside: fnr / specificity.

    1 is no better than guessing. It has no value where the prediction takes in all background.
    """
    c = pair.counts
    below = c.tn * c.gt
    return c.fn * (c.n - c.gt) / below if below else None


@metric(
    family="overlap",
    aliases=("normalised_expected_cost", "normalized_expected_cost"),
    formula=r"\frac{\pi\,c_{fn}\,fnr + (1-\pi)\,c_{fp}\,fpr}{\min(\pi\,c_{fn},\,(1-\pi)\,c_{fp})}",
    reference="Ferrer 2022, arXiv:2209.05355",
    range=(0, INF),
    better="lower",
    when_empty=WhenEmpty(both=None, gt=None, pred=FORMULA),
)
def expected_cost(
    pair: Pair,
    *,
    fp: Annotated[float, Param("cost of a false positive", gt=0, shown=True)] = 1.0,
    fn: Annotated[float, Param("cost of a false negative", gt=0, shown=True)] = 1.0,
    prior: Annotated[
        float | str,
        Param("share of voxels of the label (pi); observed: that of the ground truth", gt=0, lt=1, words=("observed",)),
    ] = "observed",
) -> float | None:
    """Cost of the errors as a multiple of what the cheaper of predicting nothing or everything costs.

    Above 1 the prediction is worse than doing nothing. prior=0.5 with equal costs is fnr + fpr, whatever
    the size of the object.
    """
    c = pair.counts
    missed, false = fnr(pair), fpr(pair)
    if missed is None or false is None:
        return None
    share = c.gt / c.n if prior == "observed" else float(prior)
    per_miss, per_alarm = share * fn, (1 - share) * fp
    return (per_miss * missed + per_alarm * false) / min(per_miss, per_alarm)


@metric(
    family="overlap",
    aliases=("intraclass_correlation",),
    formula=r"\frac{\sigma_b^2 - \sigma_w^2}{\sigma_b^2 + \sigma_w^2}",
    reference="Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420",
    range=(-1, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=FORMULA, pred=FORMULA),
)
def icc(pair: Pair) -> float | None:
    """Intraclass correlation of two raters who say 0 or 1 of each voxel: ICC(1,1).

    Close to kappa; listed by Taha & Hanbury. Undefined where every voxel of both masks is the same.
    """
    c = pair.counts
    if c.n < 2:
        return None
    # A voxel's mean is 1, 1/2 or 0; both mean squares times 2 n (n-1) are integers.
    between = 4 * c.n * c.tp + c.n * (c.fp + c.fn) - (c.pred + c.gt) ** 2
    within = (c.fp + c.fn) * (c.n - 1)
    return (between - within) / (between + within) if between + within else None


@metric(
    family="overlap",
    aliases=("probabilistic_distance",),
    formula=r"\frac{fp + fn}{2\,tp}",
    reference="Gerig, Jomier and Chakos 2001, doi:10.1007/3-540-45468-3_62",
    range=(0, INF),
    better="lower",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
    caution="undefined for two masks that never touch",
)
def pbd(pair: Pair) -> float | None:
    """Voxels of disagreement for each two of agreement: the probabilistic distance of two masks.

    It is (1 - dice) / dice, and has no value where dice is 0.
    """
    c = pair.counts
    return (c.fp + c.fn) / (2 * c.tp) if c.tp else None
