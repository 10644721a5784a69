"""All classes at once: what the confusion matrix of the background and the plain labels says.

A class that is in neither map is left out of a mean. Values that no label names count as background;
regions are no classes. Without a class beside the background there is nothing to measure.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal

from segcli.errors import UsageError
from segcli.masks.void import shown
from segcli.measure.filing import metric, table
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, Rows, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.confusion import Classes

Background = Annotated[
    Literal["in", "out"],
    Param("whether the background is one of the classes that are averaged or summed", words=("in", "out")),
]
#: Classes of the largest confusion table: a million cells.
MOST_CLASSES = 1000
LONG = "Long, Shelhamer and Darrell 2015, arXiv:1411.4038"
#: What all measures of the sizes of classes have in common.
of_classes = partial(metric, family="multiclass", needs="sizes", reads="all-classes")


def _sums(classes: Classes, background: str) -> tuple[Any, Any, Any]:
    """Return tp, voxels of pred and voxels of gt of each class that counts; a float for each."""
    import numpy as np

    first = 0 if background == "in" else 1
    found = [np.array([*column.values()][first:], dtype=float) for column in classes.sums]
    own, pred, gt = found if len(classes.sums.gt) > 1 else (column[:0] for column in found)
    return own, pred, gt


@of_classes(
    aliases=("miou",),
    formula=r"\frac1K \sum_c \frac{n_{cc}}{g_c + p_c - n_{cc}}",
    reference=LONG,
    range=(0, 1),
    better="higher",
    symmetric=True,
)
def mean_iou(classes: Classes, *, background: Background = "in") -> float | None:
    """Mean over the classes of the intersection over union, the background among them.

    As VOC and Cityscapes do it, here for one case: over a cohort they sum the confusion matrices first, which
    is the pooled value of a run.
    background=out is the mean of iou over labels without those that both maps miss.
    """
    own, pred, gt = _sums(classes, background)
    union = pred + gt - own
    there = union > 0
    return float((own[there] / union[there]).mean()) if there.any() else None


@of_classes(
    aliases=("frequency_weighted_iou",),
    formula=r"\sum_c \frac{g_c}{\sum_k g_k} \cdot \frac{n_{cc}}{g_c + p_c - n_{cc}}",
    reference=LONG,
    range=(0, 1),
    better="higher",
    caution="dominated by the largest class",
)
def fw_iou(classes: Classes, *, background: Background = "in") -> float | None:
    """Mean of the classes' intersection over union, each weighted by its share of the ground truth.

    A class that only the prediction has costs nothing of its own.
    """
    own, pred, gt = _sums(classes, background)
    there = gt > 0
    union = (pred + gt - own)[there]
    return float((gt[there] * own[there] / union).sum() / gt.sum()) if there.any() else None


@of_classes(
    aliases=("overall_accuracy",),
    formula=r"\frac{\sum_c n_{cc}}{\sum_c g_c}",
    reference=LONG,
    range=(0, 1),
    better="higher",
    caution="dominated by the largest class",
)
def pixel_accuracy(classes: Classes, *, background: Background = "in") -> float | None:
    """Share of the voxels whose class is right.

    background=out looks only at voxels of another class in the ground truth: false positives in the
    background then cost nothing.
    """
    own, _, gt = _sums(classes, background)
    return float(own.sum() / gt.sum()) if gt.any() else None


@of_classes(
    aliases=("mean_class_accuracy",),
    formula=r"\frac1K \sum_c \frac{n_{cc}}{g_c}",
    reference=LONG,
    range=(0, 1),
    better="higher",
)
def mean_accuracy(classes: Classes, *, background: Background = "in") -> float | None:
    """Mean over the classes of the share of their ground truth that was found.

    Over the classes that the ground truth has; scikit-learn calls it balanced accuracy. False positives
    of a class cost only what they take from others.
    """
    own, _, gt = _sums(classes, background)
    there = gt > 0
    return float((own[there] / gt[there]).mean()) if there.any() else None


@of_classes(
    aliases=("gds",),
    formula=r"\frac{2\sum_c w_c\,n_{cc}}{\sum_c w_c\,(g_c + p_c)},\; w_c = g_c^{-2}",
    reference="Crum, Camara and Hill 2006, doi:10.1109/TMI.2006.880587; Sudre et al. 2017, arXiv:1707.03237",
    range=(0, 1),
    better="higher",
    caution="with weight=square the smallest class decides it",
)
def generalized_dice_score(
    classes: Classes,
    *,
    weight: Annotated[
        Literal["square", "simple", "uniform"],
        Param("weight of a class: 1/g^2, 1/g or 1, g its voxels in the gt", words=("square", "simple", "uniform")),
    ] = "square",
    background: Background = "in",
) -> float | None:
    """One Dice over all classes, small ones weighted up.

    The sum is that of Crum, Camara and Hill, the weight 1/g^2 that of Sudre et al. A class that only the prediction
    has gets the largest weight of the others, as in MONAI.
    """
    own, pred, gt = _sums(classes, background)
    there = pred + gt > 0
    own, pred, gt = own[there], pred[there], gt[there]
    power = {"square": 2, "simple": 1, "uniform": 0}[weight]
    smallest = gt[gt > 0].min(initial=float("inf"))
    # Weights relative to the largest: an absent class is taken for as large as the smallest one.
    w = (smallest / gt.clip(min=smallest)) ** power if (gt > 0).any() else gt + 1
    whole = float((w * (pred + gt)).sum())
    return float(2 * (w * own).sum() / whole) if whole else None


@of_classes(
    aliases=("r_k",),
    formula=r"\frac{N \sum_c n_{cc} - \sum_c p_c g_c}{\sqrt{N^2 - \sum_c p_c^2}\,\sqrt{N^2 - \sum_c g_c^2}}",
    reference="Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006",
    range=(-1, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
)
def multiclass_mcc(classes: Classes) -> float | None:
    """Correlation of the two label maps (Matthews for several classes, R_K).

    The background is a class. For one label it is mcc. Undefined where a map has one class only.
    """
    chance, agreed, spread = _beyond_chance(classes)
    scale = sqrt(spread[0]) * sqrt(spread[1])
    return (agreed - chance) / scale if scale else None


@of_classes(
    aliases=("multiclass_cohen_kappa",),
    formula=r"\frac{N \sum_c n_{cc} - \sum_c p_c g_c}{N^2 - \sum_c p_c g_c}",
    reference="Cohen 1960, doi:10.1177/001316446002000104",
    range=(-1, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=FORMULA, pred=FORMULA),
)
def multiclass_kappa(classes: Classes) -> float | None:
    """Agreement of the two label maps beyond chance (Cohen).

    The background is a class. For one label it is kappa. Undefined when chance gives full agreement.
    """
    chance, agreed, _ = _beyond_chance(classes)
    every = sum(classes.sums.gt.values()) ** 2
    return (agreed - chance) / (every - chance) if every - chance and len(classes.sums.gt) > 1 else None


def _beyond_chance(classes: Classes) -> tuple[int, int, tuple[int, int]]:
    """Return sum p g, N sum n_cc, and N^2 less the squares of each map's sizes: integers of any length."""
    own, pred, gt = ([*column.values()] for column in classes.sums)
    total = sum(gt)
    pred.append(total - sum(pred))  # predicted as no label: a class that the ground truth has not
    chance = sum(p * g for p, g in zip(pred, gt, strict=False))
    spread = total**2 - sum(p * p for p in pred), total**2 - sum(g * g for g in gt)
    return chance, total * sum(own), spread


@table(
    family="multiclass",
    needs="overlaps",
    aliases=("confusion_matrix",),
    formula=r"n_{cd} = |G_c \cap P_d|",
    reference="a count",
    reads="all-classes",
)
def confusion(classes: Classes) -> Rows:
    """Voxels by their class in the ground truth (rows) and in the prediction (columns).

    Along a row: where the voxels of a class went. Down a column: what a predicted class is made of. A column in
    brackets is of values that mark void: the prediction has no label there, the ground truth has one.
    """
    names = classes.names
    if len(names) > MOST_CLASSES:
        raise UsageError(
            f"confusion of {len(names)} classes would have {len(names)} rows and columns; {MOST_CLASSES} are the most.",
            hint="name the labels of interest with --labels; vi and ari compare maps of many instances",
            code="labels.many",
        )
    rows = [(name, *row) for name, row in zip(names, classes.confusion.tolist(), strict=True)]
    if not classes.unlabelled.any():
        return Rows((r"gt \ pred", *names), list(rows))
    rows = [(*row, n) for row, n in zip(rows, classes.unlabelled.tolist(), strict=True)]
    return Rows((r"gt \ pred", *names, f"({shown(classes.case.maps.void)})"), rows)
