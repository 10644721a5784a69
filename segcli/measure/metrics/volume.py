"""Volume: how much, whatever the place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcli.measure.filing import metric
from segcli.measure.record import WhenEmpty
from segcli.measure.why import Why

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair


@metric(
    family="volume",
    needs="volumes",
    formula=r"v\,|G|",
    reference="a count",
    range=(0, float("inf")),
    better="none",
    unit="mm^3",
)
def volume_gt(pair: Pair) -> float:
    """Volume of the label in the ground truth (area in 2-D)."""
    return pair.counts.gt * pair.voxel_volume


@metric(
    family="volume",
    needs="volumes",
    formula=r"v\,|P|",
    reference="a count",
    range=(0, float("inf")),
    better="none",
    unit="mm^3",
)
def volume_pred(pair: Pair) -> float:
    """Volume of the label in the prediction (area in 2-D)."""
    return pair.counts.pred * pair.voxel_volume


def _ml(pair: Pair, voxels: int) -> float | None:
    in_ml = len(pair.case.shape) == 3 and pair.case.unit == "mm"
    return voxels * pair.voxel_volume / 1000 if in_ml else None


@metric(
    family="volume",
    needs="litres",
    undefined=Why.NO_ML,
    formula=r"\frac{v\,|G|}{1000}",
    reference="a count",
    range=(0, float("inf")),
    better="none",
    unit="ml",
)
def volume_gt_ml(pair: Pair) -> float | None:
    """Volume of the label in the ground truth in millilitres: volume_gt / 1000.

    For reports: organs are measured in ml. Undefined in 2-D, where there is no volume, and where the size of a voxel in
    mm is not known (--spacing gives it).
    """
    return _ml(pair, pair.counts.gt)


@metric(
    family="volume",
    needs="litres",
    undefined=Why.NO_ML,
    formula=r"\frac{v\,|P|}{1000}",
    reference="a count",
    range=(0, float("inf")),
    better="none",
    unit="ml",
)
def volume_pred_ml(pair: Pair) -> float | None:
    """Volume of the label in the prediction in millilitres: volume_pred / 1000.

    Undefined in 2-D, where there is no volume, and where the size of a voxel in mm is not known (--spacing gives it).
    """
    return _ml(pair, pair.counts.pred)


@metric(
    family="volume",
    aliases=("vs",),
    formula=r"1 - \frac{|fn - fp|}{2\,tp + fp + fn}",
    reference="Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=0.0, pred=0.0),
    caution="1 for two masks of one size that never touch",
)
def volume_similarity(pair: Pair) -> float | None:
    """Likeness of the two volumes, whether or not they overlap.

    SimpleITK uses the name for the signed difference 2(|P|-|G|)/(|P|+|G|).
    """
    c = pair.counts
    total = c.pred + c.gt
    return 1 - abs(c.fn - c.fp) / total if total else None


@metric(
    family="volume",
    aliases=("rvd", "ravd", "relative_volume_error"),
    formula=r"\frac{|P| - |G|}{|G|}",
    reference="Heimann et al. 2009, doi:10.1109/TMI.2009.2013851",
    range=(-1, float("inf")),
    better="zero",
    when_empty=WhenEmpty(both=None, gt=None, pred=-1.0),
    caution="0 for two masks of one size that never touch",
)
def rve(pair: Pair) -> float | None:
    """Relative volume error: how much too large (+) or too small (-) the prediction is.

    Errors of opposite sign cancel in a mean over cases.
    """
    c = pair.counts
    return (c.pred - c.gt) / c.gt if c.gt else None


@metric(
    family="volume",
    formula=r"\frac{2\,(|P| - |G|)}{|P| + |G|}",
    reference="Klein et al. 2009, doi:10.1016/j.neuroimage.2008.12.037",
    range=(-2, 2),
    better="zero",
    when_empty=WhenEmpty(both=None, gt=2.0, pred=-2.0),
    caution="0 for two masks of one size that never touch",
)
def volume_similarity_signed(pair: Pair) -> float | None:
    """Difference of the volumes as a share of their mean: + too large, - too small.

    What SimpleITK's filter calls volume similarity, with the prediction as its source. Unlike rve it
    takes both masks alike, and is bounded.
    """
    c = pair.counts
    total = c.pred + c.gt
    return 2 * (c.pred - c.gt) / total if total else None


@metric(
    family="volume",
    needs="volumes",
    formula=r"v\,(|P| - |G|)",
    reference="a count",
    range=(-float("inf"), float("inf")),
    better="zero",
    unit="mm^3",
    caution="0 for two masks of one size that never touch",
)
def volume_difference(pair: Pair) -> float:
    """Volume of the prediction less that of the ground truth (areas in 2-D).

    Its mean over cases is the bias of the volume: errors of opposite sign cancel.
    """
    c = pair.counts
    return (c.pred - c.gt) * pair.voxel_volume


@metric(
    family="volume",
    needs="volumes",
    aliases=("absolute_volume_difference", "avd"),
    formula=r"v\,\bigl||P| - |G|\bigr|",
    reference="a count",
    range=(0, float("inf")),
    better="lower",
    unit="mm^3",
    symmetric=True,
    caution="0 for two masks of one size that never touch",
)
def absolute_volume_error(pair: Pair) -> float:
    """Difference of the two volumes without its sign (areas in 2-D).

    For a mean over cases in which too large and too small do not cancel.
    """
    c = pair.counts
    return abs(c.pred - c.gt) * pair.voxel_volume
