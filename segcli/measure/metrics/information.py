"""Information and pairs: how far two maps divide the grid into the same regions, whatever these are called.

Every value that occurs in either map is a region, also one that no label names, and so is the background.
The numbers of the values do not matter: maps of instances need no matching first.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import metric
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.confusion import Classes
    from segcli.evidence.joint import Joint

INF = float("inf")
Norm = Annotated[
    Literal["arithmetic", "geometric", "min", "max", "joint"],
    Param(
        "what the mutual information is divided by: the arithmetic or geometric mean of the two entropies, "
        "the smaller, the larger, or the joint entropy",
        words=("arithmetic", "geometric", "min", "max", "joint"),
    ),
]
MEILA = "Meilă 2007, doi:10.1016/j.jmva.2006.11.013"
NO_FOREGROUND = WhenEmpty(both=None, gt=None, pred=FORMULA)
ZERO_UNLESS_BOTH = WhenEmpty(both=None, gt=0.0, pred=0.0)

# --- reductions of a joint histogram, shared with the metrics of one label -----------------------------
#: What all measures of two divisions of the voxels have in common.
of_overlaps = partial(metric, family="information", needs="overlaps", reads="all-classes")


def variation(joint: Joint) -> float | None:
    return sum(joint.conditional) if joint.total else None


def split(joint: Joint) -> float | None:
    return joint.conditional[0] if joint.total else None


def merged(joint: Joint) -> float | None:
    return joint.conditional[1] if joint.total else None


def mutual(joint: Joint) -> float | None:
    return joint.mutual if joint.total else None


def normalised(joint: Joint, norm: str) -> float | None:
    """Return the mutual information over a norm; undefined where both maps are one region."""
    if not joint.total or joint.regions == (1, 1):
        return None
    if 1 in joint.regions:
        return 0.0
    pred, gt = joint.entropies
    whole = {
        "arithmetic": (pred + gt) / 2,
        "geometric": sqrt(pred * gt),
        "min": min(pred, gt),
        "max": max(pred, gt),
        "joint": (pred + gt + sum(joint.conditional)) / 2,
    }[norm]
    return min(joint.mutual / whole, 1.0)


def rand_index(joint: Joint) -> float | None:
    both, pred, gt, every = joint.pairs
    return (every + 2 * both - pred - gt) / every if every else None


def adjusted(joint: Joint) -> float | None:
    both, pred, gt, every = joint.pairs
    # Both sides times 2 * every: whole numbers until the division.
    below = every * (pred + gt) - 2 * pred * gt
    return 2 * (every * both - pred * gt) / below if below else None


def consistency_error(joint: Joint) -> float | None:
    """Return Martin's error; undefined where a map is one region, which any other refines."""
    if not joint.total or 1 in joint.regions:
        return None
    pred, gt = joint.sizes
    outside_gt = float((joint.n * ((pred[joint.row] - joint.n) / pred[joint.row])).sum())
    outside_pred = float((joint.n * ((gt[joint.column] - joint.n) / gt[joint.column])).sum())
    return min(outside_gt, outside_pred) / joint.total


# --- all regions of two maps ---------------------------------------------------------------------------


@of_overlaps(
    aliases=("voi", "variation_of_information"),
    formula=r"H(P \mid G) + H(G \mid P)",
    reference=MEILA,
    range=(0, INF),
    better="lower",
    unit="bit",
    symmetric=True,
)
def vi(classes: Classes) -> float | None:
    """Variation of information: what one map leaves unsaid of the other, both ways.

    Over all values of both maps, the background one of them. vi_split and vi_merge are its two parts; a
    large background makes it small: vi_fg looks inside the ground truth only.
    """
    return variation(classes.joint)


@of_overlaps(
    aliases=("voi_split",),
    formula=r"H(P \mid G) = -\sum_{ij} \frac{n_{ij}}{N} \log_2 \frac{n_{ij}}{g_j}",
    reference=MEILA,
    range=(0, INF),
    better="lower",
    unit="bit",
    caution="0 for a prediction of one region",
)
def vi_split(classes: Classes) -> float | None:
    """Over-segmentation: how far regions of the ground truth are split by the prediction.

    The conditional entropy of the prediction given the ground truth. Never without vi_merge.
    """
    return split(classes.joint)


@of_overlaps(
    aliases=("voi_merge",),
    formula=r"H(G \mid P) = -\sum_{ij} \frac{n_{ij}}{N} \log_2 \frac{n_{ij}}{p_i}",
    reference=MEILA,
    range=(0, INF),
    better="lower",
    unit="bit",
    caution="0 for a prediction in which every voxel is a region",
)
def vi_merge(classes: Classes) -> float | None:
    """Under-segmentation: how far the prediction merges regions of the ground truth.

    The conditional entropy of the ground truth given the prediction. Never without vi_split.
    """
    return merged(classes.joint)


@of_overlaps(
    formula=r"H(P \mid G) + H(G \mid P) \text{ over voxels with } G \ne 0",
    reference=MEILA,
    range=(0, INF),
    better="lower",
    unit="bit",
    when_empty=NO_FOREGROUND,
    caution="blind to what is predicted outside the ground truth",
)
def vi_fg(classes: Classes) -> float | None:
    """Variation of information over the voxels that are not background in the ground truth.

    What connectomics reports. A prediction of 0 counts there as one more region.
    """
    return variation(classes.foreground)


@of_overlaps(
    aliases=("mi",),
    formula=r"H(P) + H(G) - H(P, G)",
    reference="Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x",
    range=(0, INF),
    better="higher",
    unit="bit",
    symmetric=True,
    optimum=None,
    caution="at most the entropy of the ground truth; more regions in the prediction never lower it",
)
def mutual_information(classes: Classes) -> float | None:
    """Bits that the two maps say about each other, over all their values.

    Its best value is the entropy of the ground truth: compare it on one case only, or take nmi.
    """
    return mutual(classes.joint)


@of_overlaps(
    aliases=("normalized_mutual_information",),
    formula=r"\frac{2\,I(P, G)}{H(P) + H(G)}",
    reference="Kvålseth 1987, doi:10.1109/TSMC.1987.4309069",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
)
def nmi(classes: Classes, *, norm: Norm = "arithmetic") -> float | None:
    """Mutual information as a share of the entropies, by default of their arithmetic mean.

    The other norms in use give other numbers: name the norm. 0 where one map is a single region,
    undefined where both are.
    """
    return normalised(classes.joint, norm)


@of_overlaps(
    aliases=("rand_index",),
    formula=r"\frac{\binom{N}{2} + 2\sum_{ij}\binom{n_{ij}}{2} - \sum_i\binom{p_i}{2} - \sum_j\binom{g_j}{2}}"
    r"{\binom{N}{2}}",
    reference="Rand 1971, doi:10.1080/01621459.1971.10482356",
    range=(0, 1),
    better="higher",
    symmetric=True,
    caution="close to 1 for any two maps with a large background or many small regions",
)
def rand(classes: Classes) -> float | None:
    """Share of the pairs of voxels on which both maps agree that they belong together, or apart.

    Chance alone gives a high value: ari takes it off.
    """
    return rand_index(classes.joint)


@of_overlaps(
    aliases=("adjusted_rand_index",),
    formula=r"\frac{\sum_{ij}\binom{n_{ij}}{2} - E}{\frac12\left(\sum_i\binom{p_i}{2} + \sum_j\binom{g_j}{2}\right)"
    r" - E},\; E = \sum_i\binom{p_i}{2}\sum_j\binom{g_j}{2} \Big/ \binom{N}{2}",
    reference="Hubert & Arabie 1985, doi:10.1007/BF01908075",
    range=(-0.5, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
)
def ari(classes: Classes) -> float | None:
    """Rand index beyond what chance gives two maps with regions of these sizes.

    0 is chance. Undefined where both maps are one region.
    """
    return adjusted(classes.joint)


@of_overlaps(
    aliases=("are",),
    formula=r"1 - \frac{2\sum_{ij}\binom{n_{ij}}{2}}{\sum_i\binom{p_i}{2} + \sum_j\binom{g_j}{2}}"
    r" \text{ over voxels with } G \ne 0",
    reference="Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142; pairs of voxels as scikit-image",
    range=(0, 1),
    better="lower",
    when_empty=NO_FOREGROUND,
    caution="blind to what is predicted outside the ground truth",
)
def adapted_rand_error(classes: Classes) -> float | None:
    """Share of pairs of voxels wrongly joined or parted, inside the ground truth: 1 - F of the pairs.

    As scikit-image has it: what is predicted 0 there is a region like any other, and a pair is of two different
    voxels. SNEMI3D and CREMI take the predicted 0 out: `adapted_rand_error_snemi3d`.
    """
    both, pred, gt, _ = classes.foreground.pairs
    return 1 - 2 * both / (pred + gt) if pred + gt else None


@of_overlaps(
    aliases=("arand",),
    formula=r"1 - \frac{2\left(\sum_{i \ne 0,\,j \ne 0} n_{ij}^2 + z\right)}"
    r"{\sum_{i \ne 0}\left(\sum_{j \ne 0} n_{ij}\right)^2 + z + \sum_{j \ne 0}\left(\sum_i n_{ij}\right)^2},\;"
    r" z = \frac1N \sum_{j \ne 0} n_{0j}",
    reference="Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142; as the code of SNEMI3D and CREMI",
    range=(0, 1),
    better="lower",
    when_empty=NO_FOREGROUND,
    caution="what is predicted 0 inside the ground truth counts as parted, outside as nothing",
)
def adapted_rand_error_snemi3d(classes: Classes) -> float | None:
    """Share of pairs of voxels wrongly joined or parted inside the gt, where a predicted 0 joins nothing.

    The Rand error of SNEMI3D and the ARAND of CREMI, for maps with unlabelled membranes: 0 is no region in either
    map, and a voxel is a pair with itself. Equal to `adapted_rand_error` up to those pairs where pred has no 0 inside
    the ground truth.
    """
    inside, gt = classes.inside, classes.foreground
    if not gt.total:
        return None
    # squares are twice the pairs and the voxels themselves, in exact integers
    both, pred = (2 * pairs + inside.total for pairs in inside.pairs[:2])
    apart = (gt.total - inside.total) / classes.joint.total
    return 1 - 2 * (both + apart) / (pred + apart + 2 * gt.pairs[2] + gt.total)


@of_overlaps(
    aliases=("global_consistency_error",),
    formula=r"\frac1N \min\left(\sum_{ij} n_{ij}\,\frac{p_i - n_{ij}}{p_i},\;"
    r" \sum_{ij} n_{ij}\,\frac{g_j - n_{ij}}{g_j}\right)",
    reference="Martin et al. 2001, doi:10.1109/ICCV.2001.937655",
    range=(0, 1),
    better="lower",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=None, pred=None),
    caution="0 where one map only refines the other",
)
def gce(classes: Classes) -> float | None:
    """Global consistency error: what is left of the disagreement when one map may refine the other.

    For segmentations of different detail. Undefined where a map is one region, which anything refines:
    by its formula an empty prediction would be perfect.
    """
    return consistency_error(classes.joint)
