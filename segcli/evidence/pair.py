"""One label of a case, as the metrics read it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from segcli.evidence.bands import Bands, chessboard_bands, davis_boundaries, euclidean_bands
from segcli.evidence.counts import Counts
from segcli.evidence.distances import Distances
from segcli.evidence.probabilities import OfLabel, Probabilities
from segcli.kernels.surfaces import Surface

if TYPE_CHECKING:
    from segcli.evidence.measured import Measured
    from segcli.evidence.object_parts import ObjectParts
    from segcli.evidence.soft import SoftPair
    from segcli.evidence.structure import Structure


class Pair:
    """One label of a case: counts, surface distances, bands, structure. Metrics reduce it."""

    def __init__(self, case: Measured, index: int, probabilities: Probabilities | None = None) -> None:
        self.case = case
        self.index = index
        self.label = case.labels[index]
        self._probabilities = probabilities

    @cached_property
    def _known(self) -> OfLabel:
        return OfLabel(self._probabilities, self.label)

    @cached_property
    def counts(self) -> Counts:
        return self.case.counts(self.index)

    @property
    def soft(self) -> SoftPair | None:
        """Return the label's probabilities against its ground truth; `None` of a hard mask."""
        return self._known.soft

    @property
    def voxel_volume(self) -> float:
        """Return the volume of a voxel (its area in 2-D) in the unit of the spacing."""
        return float(math.prod(self.case.spacing))

    @property
    def structure(self) -> Structure:
        """Return the pieces, skeletons and objects of both masks."""
        return self.objects.structure

    @cached_property
    def objects(self) -> ObjectParts:
        """Return what the objects of both masks give to measures, in parts that add up over cases."""
        from segcli.evidence.object_parts import ObjectParts

        return ObjectParts(self.case, self.index, self._known)

    def distances(self, surface: Surface) -> Distances | None:
        return self.case.distances(self.index, surface)

    def bands(self, width: float | None, edge: str = "voxels") -> Bands:
        from segcli.evidence.mesh_band import mesh_bands

        return (mesh_bands if edge == "mesh" else euclidean_bands)(self.case, self.index, width)

    def chessboard_bands(self, fraction: float) -> Bands:
        return chessboard_bands(self.case.labelled, self.index, fraction)

    def davis_boundaries(self, bound: float) -> tuple[float, float] | None:
        return davis_boundaries(self.case.labelled, self.index, bound)
