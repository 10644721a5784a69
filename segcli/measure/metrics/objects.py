"""Objects: which were found, which were missed or made up, and how well the found ones fit.

An object is a connected piece of the label, or with `instances=values` each value of an instance map: of one class
where no labels are named, else of the label that has the value (`--labels cells=any`, `--labels nuclei=1+2+3`).
All overlaps come from one pass; every measure here only reduces them.

Ignored voxels are void as in Kirillov et al. 2019, section 4.2. A predicted object is found with what it has in void;
void counts in no size and no IoU; one that then has no partner, and that was void for more than its half, is left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import metric
from segcli.measure.metrics.topology import Connectivity
from segcli.measure.param import Param
from segcli.measure.record import WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

Instances = Annotated[
    Literal["components", "values"],
    Param(
        "components: connected pieces of the label are objects; values: each value of the label is one, and without "
        "--labels all values are objects of one class",
        words=("components", "values"),
    ),
]
Iou = Annotated[float, Param("a pair of objects can match where its IoU is above this", ge=0, lt=1)]
Matching = Annotated[
    Literal["optimal", "greedy"],
    Param(
        "where several matches are possible (never above iou=0.5): the most and best together, or the best first",
        words=("optimal", "greedy"),
    ),
]
Detection = Annotated[
    Literal["optimal", "greedy", "overlap"],
    Param(
        "optimal: the most and best matches together; greedy: the best first; overlap: an object counts as found "
        "where any voxel of it is shared, whatever its IoU",
        words=("optimal", "greedy", "overlap"),
    ),
]
INF = float("inf")
PANOPTIC = "Kirillov et al. 2019, arXiv:1801.00868"
NO_OBJECT = WhenEmpty(both=None, gt=0.0, pred=0.0)

# --- panoptic quality ---------------------------------------------------------------------------
#: What all measures of objects have in common.
of_objects = partial(metric, family="instances", needs="objects")


@of_objects(
    aliases=("panoptic_quality",),
    formula=r"\frac{\sum_{(p,g) \in TP} \mathrm{IoU}(p, g)}{|TP| + \frac12|FP| + \frac12|FN|}",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
    caution="an object just below the threshold counts twice: as missed and as false",
)
def pq(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Matching = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Panoptic quality: how well objects are found and how well the found ones fit, in one number.

    The product of rq and sq. Touching objects are one connected piece: score an instance map with
    instances=values. panoptica also matches where the IoU equals the threshold.
    Ignored voxels are void as in Kirillov et al. (section 4.2) and torchmetrics: they count in no size and no IoU, and
    a predicted object without a partner that is void for more than its half is no false one.
    """
    found = pair.objects.matched(iou, matching, connectivity, instances)
    return 2 * found.iou / found.objects if found.objects else None


@of_objects(
    aliases=("segmentation_quality", "matched_iou"),
    formula=r"\frac{1}{|TP|}\sum_{(p,g) \in TP} \mathrm{IoU}(p, g)",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
    caution="silent on what was missed or made up",
)
def sq(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Matching = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Segmentation quality: mean IoU of the matched objects.

    Undefined where nothing was matched. Never below the threshold, so read it with rq. Void is as in pq.
    """
    found = pair.objects.matched(iou, matching, connectivity, instances)
    return found.iou / found.tp if found.tp else None


@of_objects(
    aliases=("recognition_quality",),
    formula=r"\frac{|TP|}{|TP| + \frac12|FP| + \frac12|FN|}",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
)
def rq(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Matching = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Recognition quality: F1 of the objects, whatever the fit of the found ones.

    The same number as object_f1, named as the factor of pq. Void is as in pq.
    """
    found = pair.objects.matched(iou, matching, connectivity, instances)
    return 2 * found.tp / found.objects if found.objects else None


@of_objects(
    aliases=("sq_dice",),
    formula=r"\frac{1}{|TP|}\sum_{(p,g) \in TP} \mathrm{Dice}(p, g)",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
    caution="silent on what was missed or made up",
)
def matched_dice(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Matching = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Mean Dice of the matched objects: sq with Dice in place of IoU.

    Undefined where nothing was matched. Void is as in pq.
    """
    found = pair.objects.matched(iou, matching, connectivity, instances)
    return found.dice / found.tp if found.tp else None


# --- detection ----------------------------------------------------------------------------------


@of_objects(
    formula=r"\frac{2 S P}{S + P},\; S = \text{object_sensitivity},\; P = \text{object_precision}",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
)
def object_f1(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """F1 of the objects: harmonic mean of how many were found and how many predicted ones are true.

    With matching=overlap one large piece can find many objects. Void is as in pq.
    """
    d = pair.objects.detected(iou, matching, connectivity, instances)
    if not d.pred or not d.gt:
        return 0.0 if d.pred or d.gt else None
    sensitivity, precision = d.found / d.gt, d.true / d.pred
    return 2 * sensitivity * precision / (sensitivity + precision) if d.found else 0.0


@of_objects(
    aliases=("object_recall", "lesion_sensitivity"),
    formula=r"\frac{|TP|}{|TP| + |FN|}",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=0.0),
    caution="false objects cost nothing",
)
def object_sensitivity(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Share of the true objects that were found.

    What counts as found is matching and iou: a lesion that screening has to flag may need overlap only.
    Void is as in pq.
    """
    d = pair.objects.detected(iou, matching, connectivity, instances)
    return d.found / d.gt if d.gt else None


@of_objects(
    formula=r"\frac{|TP|}{|TP| + |FP|}",
    reference=PANOPTIC,
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=0.0, pred=None),
    caution="missed objects cost nothing",
)
def object_precision(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Share of the predicted objects that are true.

    Void is as in pq.
    """
    d = pair.objects.detected(iou, matching, connectivity, instances)
    return d.true / d.pred if d.pred else None


@of_objects(
    formula=r"|TP|",
    reference="a count",
    range=(0, INF),
    better="none",
)
def true_positives(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> int:
    """How many true objects were found.

    Objects, not voxels. More is better only for a given ground truth: object_sensitivity is the share.
    Void is as in pq.
    """
    return pair.objects.detected(iou, matching, connectivity, instances).found


@of_objects(
    formula=r"|FP|",
    reference="a count",
    range=(0, INF),
    better="lower",
    caution="0 for an empty prediction",
)
def false_positives(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> int:
    """How many predicted objects match no true one.

    Objects, not voxels. With matching=overlap these are the ones that touch nothing true. Void is as in pq.
    """
    d = pair.objects.detected(iou, matching, connectivity, instances)
    return d.pred - d.true


@of_objects(
    formula=r"|FN|",
    reference="a count",
    range=(0, INF),
    better="lower",
    caution="0 for an empty ground truth",
)
def false_negatives(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Detection = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> int:
    """How many true objects were missed.

    Objects, not voxels. With matching=overlap these are the ones of which no voxel was found. Void is as in pq.
    """
    d = pair.objects.detected(iou, matching, connectivity, instances)
    return d.gt - d.found
