"""Detection with confidences: lesions found against false alarms, as the demand on a candidate falls.

Candidates are the connected pieces of the voxels above a floor, each as sure as its surest voxel. The truth is the
pieces of the label, or its values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import metric, table
from segcli.measure.metrics.objects import Instances
from segcli.measure.metrics.topology import Connectivity
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, Rows, WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair
    from segcli.evidence.parts import Candidates

Rates = Annotated[
    tuple[float, ...],
    Param("false positives per case at which the sensitivity is read", ge=0, many=True),
]
Floor = Annotated[float, Param("candidates are the connected pieces of the voxels with p above this", ge=0, lt=1)]
Overlap = Annotated[
    float, Param("a candidate hits a lesion where their IoU is at least this; 0: where they share a voxel", ge=0, le=1)
]
LUNA16 = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
REFERENCE = "Bunch et al. 1977, doi:10.1117/12.955926; Setio et al. 2017, doi:10.1016/j.media.2017.06.015"


@metric(
    family="detection",
    needs="objects",
    aliases=("cpm", "free_response_roc"),
    formula=r"\frac{1}{|R|}\sum_{r \in R} S(r),\; S(r) = \text{share of lesions hit at } r "
    r"\text{ false positives per case}",
    reference=REFERENCE,
    range=(0, 1),
    better="higher",
    reads="probability",
    when_empty=WhenEmpty(both=None, gt=None, pred=FORMULA),
    caution="of one case a curve of whole false positives: read the pooled value of a cohort, never the mean of cases",
)
def froc(
    pair: Pair,
    *,
    rates: Rates = LUNA16,
    floor: Floor = 0.1,
    iou: Overlap = 0.1,
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> float | None:
    """Mean share of lesions that are hit at several rates of false positives per case.

    For detection: what a reader finds for the false alarms that can be borne. A candidate is a connected piece of
    p > floor, as sure as its largest p. A lesion counts once, at its surest hit; a second hit of it is no false
    alarm. Between two thresholds the curve is a straight line, after the last it stays level. Rates as LUNA16;
    CAMELYON16 and MONAI have rates=0.25/0.5/1/2/4/8. IoU and false alarms as picai_eval, where a candidate can hit
    one lesion only. A map that is high everywhere is one candidate: with iou=0 it would hit every lesion.
    The figure is of a cohort: segcli evaluate pools the candidates of all cases (pooled, in the run and in gate).
    A mean of the values of single cases is another number: a case without lesions has none, so its false alarms
    would cost nothing, and a case with one lesion would weigh as much as one with many. Void is as in pq.
    """
    found = pair.objects.candidates(floor, iou, connectivity, instances)
    return _mean_sensitivity(found, rates) if found.lesions else None


def _mean_sensitivity(found: Candidates, rates: tuple[float, ...]) -> float:
    import numpy as np

    curve = [(0, 0), *(point[1:] for point in found.curve())]
    false, hit = np.array(curve, dtype=np.float64).T
    # Of several points at one rate the last one counts: the highest.
    return float(np.interp(rates, false / found.cases, hit / found.lesions).mean())


@table(
    family="detection",
    needs="objects",
    formula=r"\left(|FP_t|,\; \frac{|TP_t|}{|L|}\right)",
    reference=REFERENCE,
    reads="probability",
)
def froc_curve(
    pair: Pair,
    *,
    floor: Floor = 0.1,
    iou: Overlap = 0.1,
    connectivity: Connectivity = "26",
    instances: Instances = "components",
) -> Rows:
    """Points of the curve that froc reads, of one case: false positives and share of lesions hit.

    A row counts the candidates whose confidence is the threshold or more; the highest threshold comes first.
    Without lesions there is no share.
    """
    found = pair.objects.candidates(floor, iou, connectivity, instances)
    rows: list[tuple[float | int | str | None, ...]] = [
        (threshold, false, hit / found.lesions if found.lesions else None) for threshold, false, hit in found.curve()
    ]
    return Rows(("threshold", "false positives", "sensitivity"), rows)
