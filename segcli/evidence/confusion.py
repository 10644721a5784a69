"""The confusion of all classes of a case: what metrics read that are no mean over labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.joint import Joint
from segcli.evidence.maps import SIDES
from segcli.evidence.parts import ClassSums
from segcli.masks.labels import BACKGROUND

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.measured import Measured
    from segcli.evidence.probabilities import Probabilities
    from segcli.masks.labels import Label


class Classes:
    """The confusion of all classes of a case: what metrics over all classes read.

    The classes are the background and the plain labels of the case, each of one value or several;
    whatever else occurs counts as background, but for a prediction that is no label: it is of no class.
    """

    def __init__(self, case: Measured, labels: Sequence[Label], probabilities: Probabilities | None = None) -> None:
        self.case = case
        #: The classes, the background first.
        self.labels = list(labels)
        self._known = probabilities

    @cached_property
    def soft(self) -> SoftClasses | None:
        """Return the probabilities of all classes; `None` of a hard mask."""
        return None if self._known is None else self._known.classes()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        """Return the confusion (C, C + 1), its last column the voxels whose prediction is no label."""
        found = np.zeros((len(self.labels) + 1,) * 2, dtype=np.int64)
        np.add.at(found, self._met[::-1], self.joint.n)
        return found[:-1]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Return how many voxels are of class i in the ground truth (rows) and of j in the prediction (C, C)."""
        return self._table[:, :-1]

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """Return how many voxels of each class in the ground truth are predicted as no label (C,)."""
        return self._table[:, -1]

    @cached_property
    def _met(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return of each cell of the joint histogram the class in the prediction and in the ground truth.

        What is predicted as no label has the number after the last class.
        """
        class_of = []
        for side in SIDES:
            numbers = np.where(self.case.maps.is_label(side), 0, len(self.labels)).astype(np.intp)
            for number, label in enumerate(self.labels[1:], start=1):
                numbers[self.case.maps.rows(side, label)] = number
            class_of.append(numbers)
        return class_of[0][self.joint.row], class_of[1][self.joint.column]

    @cached_property
    def sums(self) -> ClassSums:
        """Return the voxels of each class in both maps, in the prediction and in the ground truth."""
        pred, gt = self._met
        n, same = self.joint.n, pred == gt
        columns = []
        for classes, voxels in ((pred[same], n[same]), (pred, n), (gt, n)):
            column = np.zeros(len(self.labels) + 1, dtype=np.int64)  # the last is no label
            np.add.at(column, classes, voxels)
            columns.append(dict(zip(self.names, column[:-1].tolist(), strict=True)))
        return ClassSums(*columns)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Return which classes occur in either map (C,)."""
        return np.isin(np.arange(len(self.labels)), self._met)

    @cached_property
    def joint(self) -> Joint:
        """Return the joint histogram of the two maps over all their values, also those that no label names."""
        return self.case.maps.cells.joint

    @cached_property
    def foreground(self) -> Joint:
        """Return the joint histogram of the voxels whose gt is not 0."""
        zero = self.case.maps.rows("gt", BACKGROUND)
        return self.joint.without_column(int(zero[0])) if len(zero) else self.joint

    @cached_property
    def inside(self) -> Joint:
        """Return the joint histogram of the voxels whose gt and pred are not 0."""
        zero = self.case.maps.rows("pred", BACKGROUND)
        return self.foreground.without_row(int(zero[0])) if len(zero) else self.foreground

    @property
    def empty(self) -> str:
        """Return why a measure may have no value: a map is background only, or a denominator is 0."""
        pred, gt = (any(self.case.maps.label_values(side)) for side in SIDES)
        return {(False, False): "both_empty", (True, False): "gt_empty", (False, True): "pred_empty"}.get(
            (pred, gt), "zero_denominator"
        )
