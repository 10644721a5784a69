"""Doubt: how open a prediction leaves the classes of its voxels, whatever the ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcli.measure.filing import metric

if TYPE_CHECKING:
    from segcli.evidence.confusion import Classes


@metric(
    family="probabilistic",
    needs="probabilities",
    formula=r"-\frac1N\sum_i\sum_c p_{ic}\log_2 p_{ic}",
    reference="Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x",
    range=(0, float("inf")),
    better="none",
    unit="bit",
    reads="class-probabilities",
)
def multiclass_entropy(classes: Classes) -> float | None:
    """Mean doubt of the prediction about the class of a voxel, over all classes at once.

    The predictive entropy: 0 where every voxel is certain of one class, at most log2 C where all C classes are alike.
    entropy is that of one label against the rest. Of a single map the classes are the label and the background, and
    both are the same number. segcli score --entropy-map writes what each voxel adds.
    """
    soft = classes.soft
    return None if soft is None else soft.mean(soft.entropy)
