"""Evidence: what one case and one label of it give to the metrics, each piece computed at most once.

A `Case` is two label maps as measures ask of them: labelled, measured, and with probabilities where those are known.
It reads the maps once into a contingency matrix and once into bounding boxes (`Maps`), and once for each kind of
surface into the surface elements of all labels (`Measured`). A `Pair` is one label's view of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError
from segcli.evidence.labelled import Labelled
from segcli.evidence.maps import Maps
from segcli.evidence.measured import Measured, Unit
from segcli.evidence.pair import Pair
from segcli.masks.labels import BACKGROUND, Label
from segcli.masks.mask import Ranges

if TYPE_CHECKING:
    from segcli.evidence.confusion import Classes
    from segcli.evidence.probabilities import Probabilities


class Case(Measured):
    """Labelled maps on a spacing, with what else is known of the pair.

    `probabilities` tells the probabilities of its labels and of all classes, where those are known. `itk_spacing` is
    the voxel size with which ITK reads the files where that is another, or why it does not read them.
    """

    def __init__(
        self,
        labelled: Labelled,
        spacing: tuple[float, ...] | None = None,
        unit: Unit = "mm",
        *,
        probabilities: Probabilities | None = None,
        itk_spacing: tuple[float, ...] | str | None = None,
    ) -> None:
        super().__init__(labelled, spacing, unit)
        self.probabilities = probabilities
        self.itk_spacing = itk_spacing

    @classmethod
    def of(
        cls,
        pred: NDArray[Any],
        gt: NDArray[Any],
        labels: Sequence[Label],
        *,
        spacing: tuple[float, ...] | None = None,
        unit: Unit = "mm",
        valid: NDArray[np.bool_] | None = None,
        bits: Mapping[Label, int] | None = None,
        void: Ranges = (),
    ) -> Case:
        """Return the case of two label maps: see `Maps` for what they are, `Measured` for spacing and unit."""
        return cls(Labelled(Maps(pred, gt, valid=valid, bits=bits, void=void), labels), spacing, unit)

    def with_labels(self, labels: Sequence[Label]) -> Case:
        """Return the same two maps with other labels, of which no probabilities are known."""
        return Case(Labelled(self.maps, labels), self.spacing, self.unit, itk_spacing=self.itk_spacing)

    def with_spacing(self, spacing: tuple[float, ...], unit: Unit) -> Case:
        """Return the same labelled maps on another spacing."""
        return Case(self.labelled, spacing, unit, probabilities=self.probabilities, itk_spacing=self.itk_spacing)

    def pair(self, index: int) -> Pair:
        """Return the evidence of `labels[index]`."""
        return Pair(self, index, self.probabilities)

    @property
    def overlapping(self) -> bool:
        """Return whether a voxel of the prediction may be in several labels."""
        return self.maps.overlapping

    @cached_property
    def classes(self) -> Classes:
        """Return the evidence of all classes at once: the background and the plain labels.

        Raises `InputError` where labels overlap.
        """
        from segcli.evidence.confusion import Classes

        if self.overlapping:
            raise InputError(
                "measures of all classes at once need one label in each voxel; the channels of the prediction overlap.",
                hint="leave out the measures whose row is `all`: segcli catalog lists them",
                code="channels.overlap",
            )
        plain = [x for x in self.labels if not x.is_region and x.values != BACKGROUND.values]
        named = next((x for x in self.labels if x.values == BACKGROUND.values), BACKGROUND)
        return Classes(self, [named, *plain], self.probabilities)

    @property
    def exclusive(self) -> Classes | None:
        """Return `classes`; `None` where labels overlap."""
        return None if self.overlapping else self.classes
