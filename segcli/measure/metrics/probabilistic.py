"""Probabilities, not masks: how well a map ranks voxels, how honest its numbers are, which threshold suits it.

All of it needs a probability map (or logits) and is undefined for a hard mask; `auc_single` alone reads
masks. With several channels each label is taken against the rest. What ranks or bins voxels takes a soft
ground truth as the mask that it gives above 1/2, like every metric of masks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.errors import InputError
from segcli.measure.filing import metric, table
from segcli.measure.metrics.overlap import balanced_accuracy
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, Rows, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.confusion import Classes
    from segcli.evidence.pair import Pair
    from segcli.evidence.ranks import Bin, Ranks
    from segcli.evidence.soft import SoftPair

Bins = Annotated[int, Param("number of bins", ge=1, le=10_000, shown=True)]
Binning = Annotated[
    Literal["width", "mass"],
    Param("bins of equal width, or of equally many voxels as far as ties allow", words=("width", "mass")),
]
NEEDS_FOREGROUND = WhenEmpty(both=None, gt=None, pred=FORMULA)
#: What the measures of a label's probabilities have in common.
of_probabilities = partial(metric, family="probabilistic", needs="probabilities", reads="probability")


def _soft(pair: Pair) -> SoftPair:
    if pair.soft is None:
        raise InputError(
            f"{pair.label.name}: a hard mask has no probabilities.",
            hint="score the probability map or the logits that it was made from",
            code="kind.hard",
        )
    return pair.soft


# --- ranking ----------------------------------------------------------------------------------


@of_probabilities(
    aliases=("auroc", "roc_auc"),
    formula=r"\frac{1}{|G|\,|\bar G|}\sum_{i\in G}\sum_{j\notin G}\left[p_i>p_j\right]+\tfrac12\left[p_i=p_j\right]",
    reference="Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747",
    range=(0, 1),
    better="higher",
    when_empty=NEEDS_FOREGROUND,
    caution="close to 1 for any small object",
)
def auc(pair: Pair) -> float | None:
    """Chance that a foreground voxel has a higher probability than a background voxel; ties count half.

    The area under the ROC curve, exact over all voxels. No threshold enters it, so it says nothing of
    any one mask, and easy background lifts it: for a small object take average_precision. Undefined
    where the ground truth is empty or fills the grid.
    """
    ranks = _soft(pair).ranks
    misses = ranks.counts - ranks.hits
    below = misses.cumsum() - misses
    pairs = 2 * ranks.foreground * (ranks.voxels - ranks.foreground)
    return int((ranks.hits * (2 * below + misses)).sum()) / pairs if pairs else None


@metric(
    family="probabilistic",
    formula=r"1 - \tfrac12\left(\frac{fp}{fp + tn} + \frac{fn}{fn + tp}\right)",
    reference="Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x",
    range=(0, 1),
    better="higher",
    when_empty=NEEDS_FOREGROUND,
    caution="of one mask, not of a ranking: auc needs probabilities",
)
def auc_single(pair: Pair) -> float | None:
    """Area under the ROC curve of one mask: two straight lines through its one point.

    What EvaluateSegmentation calls AUC. It is the same number as balanced_accuracy, and reads the
    thresholded prediction only.
    """
    return balanced_accuracy(pair)


@of_probabilities(
    aliases=("auprc", "pr_auc"),
    formula=r"\sum_k (R_k - R_{k-1})\,P_k",
    reference="Boyd, Eng and Page 2013, doi:10.1007/978-3-642-40994-3_29",
    range=(0, 1),
    better="higher",
    when_empty=NEEDS_FOREGROUND,
)
def average_precision(pair: Pair) -> float | None:
    """Mean precision over the steps in recall as the threshold falls.

    Choose it over auc for small objects: background that is easily told apart does not lift it. A map
    that ranks at random scores the share of foreground. Step-wise as in scikit-learn; the trapezoidal
    area of other tools is larger. Equal probabilities are one step.
    """
    ranks = _soft(pair).ranks
    pred, tp = ranks.from_here_up
    return float((ranks.hits * (tp / pred)).sum() / ranks.foreground) if ranks.foreground else None


# --- probabilities as numbers -----------------------------------------------------------------


@of_probabilities(
    aliases=("predictive_entropy",),
    formula=r"-\frac1N\sum_i p_i\log_2 p_i + (1-p_i)\log_2(1-p_i)",
    reference="Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x",
    range=(0, 1),
    better="none",
    unit="bit",
)
def entropy(pair: Pair) -> float | None:
    """Mean doubt of the prediction about a voxel, whatever the ground truth.

    0 where every probability is 0 or 1, 1 where all are 1/2. Neither is good by itself: it says how
    much is open, ece whether the doubt is honest. Clear background pulls it towards 0. multiclass_entropy is that
    of all classes at once.
    """
    import numpy as np

    ranks = _soft(pair).ranks
    open_ = (ranks.values > 0) & (ranks.values < 1)
    p, counts = ranks.values[open_], ranks.counts[open_]
    bits = p * np.log2(p) + (1 - p) * np.log1p(-p) / np.log(2)
    return float(0 - (counts * bits).sum() / ranks.voxels) if ranks.voxels else None


@of_probabilities(
    formula=r"\frac1N\sum_i (p_i - y_i)^2",
    reference="Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
    range=(0, 1),
    better="lower",
    symmetric=True,
    caution="close to 0 for any small object",
)
def brier(pair: Pair) -> float | None:
    """Mean squared difference of probability and ground truth (Brier score).

    A proper score: nothing pays but the probability that one believes. It is a mean over all voxels,
    so for a small object a map of zeros scores almost 0; compare maps on one image.
    """
    soft = _soft(pair)
    difference = soft.p - soft.y
    return float((difference * difference).sum()) / soft.n if soft.n else None


@of_probabilities(
    formula=r"-\frac1N\sum_i\left[y_i\ln p_i + (1-y_i)\ln(1-p_i)\right]",
    reference="Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x",
    range=(0, float("inf")),
    better="lower",
    caution="where p is exactly 0 or 1 and wrong, its value is set by the clip",
)
def log_loss(
    pair: Pair,
    *,
    clip: Annotated[
        float, Param("p is clipped to [clip, 1-clip]; logits need no clip", ge=1e-16, lt=0.5, shown=True)
    ] = 1e-15,
) -> float | None:
    """Mean surprise of the ground truth at the prediction, in nats (cross-entropy).

    A proper score, harsher than brier on confident errors: a voxel that is wrong with p exactly 0 or 1
    costs -ln(clip), 34.5 with the default. The loss bce is the same formula, with a clip of 1e-7.
    """
    from segcli.measure.losses.distribution import bce

    return bce(_soft(pair), clip=clip)


@of_probabilities(
    formula=r"\frac{2\sum_i p_i y_i + s}{\sum_i p_i + \sum_i y_i + s}",
    reference="Drozdzal et al. 2016, arXiv:1608.04117",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=FORMULA, pred=FORMULA),
)
def soft_dice(
    pair: Pair, *, smooth: Annotated[float, Param("added to numerator and denominator", ge=0, shown=True)] = 0.0
) -> float | None:
    """Dice of the probabilities themselves, without a threshold.

    One minus the loss dice. It punishes doubt even where the mask is right, so it lies below dice for a
    calibrated map. Undefined where both masks are empty, whatever `smooth` is.
    """
    sums = _soft(pair).sums
    size = sums.p + sums.y + smooth
    return (2 * sums.py + smooth) / size if size else None


# --- calibration ------------------------------------------------------------------------------


def _bins(ranks: Ranks, bins: int, binning: Literal["width", "mass"]) -> list[Bin]:
    return [found for found in ranks.bins(bins, binning) if found.size]


def _ece(ranks: Ranks, bins: int, binning: Literal["width", "mass"]) -> float | None:
    found = _bins(ranks, bins, binning)
    return sum(abs(b.total - b.hits) for b in found) / ranks.voxels if found else None


@of_probabilities(
    aliases=("expected_calibration_error",),
    formula=r"\sum_b \frac{N_b}{N}\left|\bar p_b - \bar y_b\right|",
    reference="Naeini, Cooper and Hauskrecht 2015, doi:10.1609/aaai.v29i1.9602",
    range=(0, 1),
    better="lower",
    caution="close to 0 where most voxels are clear background",
)
def ece(pair: Pair, *, bins: Bins = 15, binning: Binning = "width") -> float | None:
    """Mean gap between the probabilities and the shares of foreground that they foretell.

    The expected calibration error of one label: voxels are binned by p, and each bin counts by its size.
    Clear background fills one bin and drowns the rest: see the table reliability, or mce. binning=mass
    makes bins of equally many voxels (Nguyen and O'Connor 2015). Values of different numbers of bins
    cannot be compared. It says nothing of sharpness: the share of foreground everywhere scores 0.
    """
    return _ece(_soft(pair).ranks, bins, binning)


@of_probabilities(
    aliases=("maximum_calibration_error",),
    formula=r"\max_b \left|\bar p_b - \bar y_b\right|",
    reference="Naeini, Cooper and Hauskrecht 2015, doi:10.1609/aaai.v29i1.9602",
    range=(0, 1),
    better="lower",
    caution="one bin with few voxels decides it",
)
def mce(pair: Pair, *, bins: Bins = 15, binning: Binning = "width") -> float | None:
    """Largest gap between the mean probability of a bin and its share of foreground.

    The maximum calibration error of one label. Choose it where no range of p may mislead. It is as noisy
    as the emptiest bin; binning=mass gives every bin a share of the voxels.
    """
    found = _bins(_soft(pair).ranks, bins, binning)
    return max(abs(b.gap) for b in found) if found else None


@metric(
    family="probabilistic",
    needs="probabilities",
    formula=r"\sum_b \frac{N_b}{N}\left|\bar c_b - \bar a_b\right|,\quad c=\max_k p_k,\ a=[\arg\max_k p_k = y]",
    reference="Guo et al. 2017, arXiv:1706.04599",
    range=(0, 1),
    better="lower",
    reads="class-probabilities",
    caution="close to 0 where most voxels are clear background",
)
def top_label_ece(classes: Classes, *, bins: Bins = 15, binning: Binning = "width") -> float | None:
    """Calibration error of the likeliest class: how far its probability is from how often it is right.

    What the literature on classifiers calls expected calibration error, over all classes at once. It looks
    at the largest probability of each voxel only; the others can be off (ece of each label sees them). Of
    a single map the classes are the label and the background.
    """
    return None if classes.soft is None else _ece(classes.soft.confidence, bins, binning)


@table(
    family="probabilistic",
    needs="probabilities",
    formula=r"\bar p_b - \bar y_b",
    reference="DeGroot and Fienberg 1983, doi:10.2307/2987588",
    reads="probability",
)
def reliability(pair: Pair, *, bins: Bins = 15, binning: Binning = "width") -> Rows:
    """Bins of probability with the mean p of each and the share that is foreground.

    The numbers of a reliability diagram. A bin takes its upper edge and not its lower one; the first
    takes 0 too. gap is mean p less the share: above 0 the map is too sure of the label. Empty bins have
    no mean.
    """
    rows: list[tuple[float | int | str | None, ...]] = []
    for number, b in enumerate(_soft(pair).ranks.bins(bins, binning), start=1):
        shares = (b.total / b.size, b.hits / b.size, b.gap) if b.size else (None, None, None)
        rows.append((number, b.low, b.high, b.size, *shares))
    return Rows(("bin", "from", "to", "voxels", "mean p", "foreground", "gap"), rows)


# --- thresholds -------------------------------------------------------------------------------


def _best(pair: Pair) -> tuple[float, float] | None:
    """Return the lowest threshold with the largest dice, and that dice."""
    ranks = _soft(pair).ranks
    if not ranks.foreground:
        return None
    thresholds, pred, tp = ranks.cuts
    # Correctly rounded quotients of integers: equal dice are equal doubles, and the first is the lowest.
    scores = 2 * tp / (pred + ranks.foreground)
    best = int(scores.argmax())
    return float(thresholds[best]), float(scores[best])


@of_probabilities(
    formula=r"\min \arg\max_t \frac{2\,tp_t}{|\{p > t\}| + |G|}",
    reference="Lipton, Elkan and Narayanaswamy 2014, arXiv:1402.1892",
    range=(0, 1),
    better="none",
    when_empty=NEEDS_FOREGROUND,
    caution="chosen on the ground truth: a threshold to report, not to score with",
)
def best_threshold(pair: Pair) -> float | None:
    """Threshold whose mask p > t has the largest dice; the lowest of several.

    Exact: every distinct probability is tried, and given to --threshold at full precision (JSON, CSV)
    it yields dice_at_best. Choose a threshold on other images than those it is scored on.
    """
    best = _best(pair)
    return None if best is None else best[0]


@of_probabilities(
    formula=r"\max_t \frac{2\,tp_t}{|\{p > t\}| + |G|}",
    reference="Lipton, Elkan and Narayanaswamy 2014, arXiv:1402.1892",
    range=(0, 1),
    better="higher",
    when_empty=NEEDS_FOREGROUND,
    caution="the threshold is chosen on the ground truth: an upper bound, not a result",
)
def dice_at_best(pair: Pair) -> float | None:
    """Largest dice that any threshold gives.

    Far above dice, it says that the map is better than its threshold; close to dice, that no threshold
    will help. It is an upper bound: the ground truth chose the threshold.
    """
    best = _best(pair)
    return None if best is None else best[1]


@table(
    family="probabilistic",
    needs="probabilities",
    formula=r"\frac{2\,tp_t}{|\{p > t\}| + |G|}",
    reference="Lipton, Elkan and Narayanaswamy 2014, arXiv:1402.1892",
    reads="probability",
)
def dice_curve(
    pair: Pair,
    *,
    steps: Annotated[int, Param("thresholds: 0, 1/steps, 2/steps and so on below 1", ge=1, le=10_000, shown=True)] = 20,
) -> Rows:
    """Dice, precision and sensitivity of the masks that a row of thresholds makes.

    A flat top says that the threshold hardly matters. Each row is what --threshold gives there; a share
    without a denominator is left out.
    """
    import numpy as np

    ranks = _soft(pair).ranks
    thresholds = np.arange(steps) / steps
    rows: list[tuple[float | int | str | None, ...]] = []
    for t, pred, tp in zip(thresholds.tolist(), *(part.tolist() for part in ranks.above(thresholds)), strict=True):
        size = pred + ranks.foreground
        shares = ((2 * tp, size), (tp, pred), (tp, ranks.foreground))
        rows.append((t, *(part / whole if whole else None for part, whole in shares)))
    return Rows(("threshold", "dice", "precision", "sensitivity"), rows)
