"""Why a value is undefined: the reasons that files, tables and sentences give, with all their words."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Why(StrEnum):
    """A reason. Its value is what files say; `short` stands in tables, the sentences say it of a label and of all."""

    short: str
    #: Of the row of a label, and of the row of all classes.
    of_label: str
    of_classes: str
    #: Of the two masks, where a tool's rule for them is told.
    of_masks: str

    def __new__(cls, value: str, short: str = "", of_label: str = "", of_classes: str = "", of_masks: str = "") -> Self:
        """Return the reason with its words."""
        self = str.__new__(cls, value)
        self._value_ = value
        self.short, self.of_label, self.of_classes, self.of_masks = short, of_label, of_classes or of_label, of_masks
        return self

    BOTH_EMPTY = (
        "both_empty",
        "both empty",
        "neither mask has a voxel of this label",
        "both masks are nothing but background",
        "both masks are empty",
    )
    PRED_EMPTY = (
        "pred_empty",
        "pred empty",
        "the prediction has no voxel of this label",
        "the prediction is nothing but background",
        "pred is empty",
    )
    GT_EMPTY = (
        "gt_empty",
        "gt empty",
        "the ground truth has no voxel of this label",
        "the ground truth is nothing but background",
        "gt is empty",
    )
    NO_SURFACE = "no_surface", "no surface", "a mask has no surface of this kind inside the image"
    ZERO_DENOMINATOR = "zero_denominator", "0/0", "0/0", "the formula has no value for these maps"
    NO_ML = "no_ml", "no ml", "millilitres need a 3-D image and the size of its voxels in mm (--spacing)"
    HARD_MASK = "hard_mask", "hard mask", "the prediction is a hard mask, without probabilities"
    OVERLAP = "overlap", "labels overlap", "the channels of the prediction overlap, so that a voxel has no one class"
    #: Of a mean over labels that one run lacks.
    OTHER_LABELS = "other_labels", "other labels have a value"


#: Which masks are empty, in the order in which tables of tools' rules have them.
EMPTY: tuple[Why, ...] = (Why.BOTH_EMPTY, Why.PRED_EMPTY, Why.GT_EMPTY)
_BY_VALUE: dict[str, Why] = {why.value: why for why in Why}


def short(why: str) -> str:
    """Return a reason as tables say it; what is no reason as it is, and `no value` where there is none."""
    return _BY_VALUE[why].short if why in _BY_VALUE else why or "no value"
