"""Instance maps: what is customary for nuclei and cells (StarDist, Cellpose, HoVer-Net)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.metrics.objects import NO_OBJECT, Instances, of_objects
from segcli.measure.metrics.topology import Connectivity
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair


@of_objects(
    aliases=("average_precision_objects",),
    formula=r"\frac{|TP|}{|TP| + |FP| + |FN|}",
    reference="Schmidt et al. 2018, arXiv:1806.03535",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
)
def ap(
    pair: Pair,
    *,
    iou: Annotated[float, Param("a pair of objects can match where its IoU is at least this", gt=0, le=1)] = 0.5,
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Average precision of StarDist and Cellpose: found objects among all that are true or predicted.

    No confidences and no area under a curve, unlike the average precision of detection. Here an IoU equal
    to the threshold is a match; for pq it is none. Void is as in pq.
    """
    return _ap(pair, iou, connectivity, instances)


def _ap(pair: Pair, iou: float, connectivity: str, instances: Literal["components", "values"]) -> float | None:
    found = pair.objects.matched(iou, "optimal", connectivity, instances, inclusive=True)
    total = found.objects - found.tp
    return found.tp / total if total else None


@of_objects(
    aliases=("map50_95",),
    formula=r"\tfrac{1}{10}\sum_{k=0}^{9} AP_{0.5 + 0.05 k}",
    reference="Schmidt et al. 2018, arXiv:1806.03535; Lin et al. 2014, arXiv:1405.0312",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
)
def ap50_95(pair: Pair, *, connectivity: Connectivity = "26", instances: Instances = "components") -> float | None:
    """Mean of ap over the IoU thresholds 0.5, 0.55 ... 0.95.

    The thresholds are those of COCO (Lin et al.). Rewards a close fit: small objects, where a voxel is much of the
    IoU, weigh it down. Void is as in pq.
    """
    values = [_ap(pair, (50 + 5 * k) / 100, connectivity, instances) for k in range(10)]
    return None if None in values else sum(v for v in values if v is not None) / len(values)


@of_objects(
    aliases=("aggregated_jaccard_index",),
    formula=r"\frac{\sum_g |g \cap p^*(g)|}{\sum_g |g \cup p^*(g)| + \sum_{p \text{ unused}} |p|},\; "
    r"p^*(g) = \arg\max_p \mathrm{IoU}(g, p)",
    reference="Kumar et al. 2017, doi:10.1109/TMI.2017.2677499",
    range=(0, 1),
    better="higher",
    when_empty=NO_OBJECT,
    caution="one predicted object may serve several true ones, and is then counted each time",
)
def aji(pair: Pair, *, connectivity: Connectivity = "26", instances: Instances = "components") -> float | None:
    """AJI: voxels shared by true objects and their best fits, over all voxels of these and the rest.

    For crowded instance maps (nuclei). Large objects weigh more. aji_plus takes each object once. Void is as in pq.
    """
    found = pair.objects.aggregated(connectivity, instances, once=False)
    return found.shared / found.united if found.united else None


@of_objects(
    formula=r"\frac{\sum_{(p,g) \in M} |g \cap p|}{\sum_{(p,g) \in M} |g \cup p| + \sum_{p \notin M} |p| + "
    r"\sum_{g \notin M} |g|},\; M \text{ one to one}",
    reference="Graham et al. 2019, doi:10.1016/j.media.2019.101563",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=NO_OBJECT,
)
def aji_plus(pair: Pair, *, connectivity: Connectivity = "26", instances: Instances = "components") -> float | None:
    """AJI with each object in one pair at most.

    Objects are paired so that the sum of their IoU is greatest; the rest of the voxels is wrong. Void is as in pq.
    """
    found = pair.objects.aggregated(connectivity, instances, once=True)
    return found.shared / found.united if found.united else None
