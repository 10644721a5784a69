"""Two label maps and the labels that are asked of them: what depends on the labels, and on no spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.counts import Counts
from segcli.evidence.maps import Maps, Side
from segcli.masks.labels import Label

#: Labels of one layer: with the background and the ignored voxels they fit in two bytes.
MOST_OF_LAYER = (1 << 16) - 2


class Labelled:
    """A view of two label maps: the labels to score, known by their place in `labels`."""

    def __init__(self, maps: Maps, labels: Sequence[Label]) -> None:
        self.maps = maps
        self.labels = list(labels)
        self._layers: dict[tuple[Side, ...], list[list[int]]] = {}

    def counts(self, index: int) -> Counts:
        return self.maps.counts(self.labels[index])

    def box(self, index: int) -> list[slice] | None:
        """Return the box around a label in both maps, in memory order; `None` where neither has it."""
        label, maps = self.labels[index], self.maps
        return maps.union_box([maps.box("pred", maps.rows("pred", label)), maps.box("gt", maps.rows("gt", label))])

    def inside(self, side: Side, index: int, box: list[slice]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which voxels of a box are of a label, and which are ignored."""
        return self.maps.inside(side, self.labels[index], box)

    def layers(self, *sides: Side) -> list[list[int]]:
        """Return the labels in layers: those of one share no voxel of these maps, and one pass can tell them apart."""
        if sides not in self._layers:
            layers: list[tuple[list[int], set[tuple[Side, int]]]] = []
            for index, label in enumerate(self.labels):
                codes = {(side, code) for side in sides for code in self.maps.rows(side, label).tolist()}
                for members, taken in layers:
                    if len(members) < MOST_OF_LAYER and not taken & codes:
                        members.append(index)
                        taken.update(codes)
                        break
                else:
                    layers.append(([index], codes))
            self._layers[sides] = [members for members, _ in layers]
        return self._layers[sides]

    def lut(self, side: Side, layer: list[int], ignored: int = -1) -> NDArray[np.int32]:
        """Return the number in the layer, from 1, of each code; `ignored` is that of an ignored voxel."""
        lut = np.zeros(len(self.maps.codes(side)[1]) + 1, dtype=np.int32)
        lut[-1] = ignored
        for number, index in enumerate(layer, start=1):
            lut[self.maps.rows(side, self.labels[index])] = number
        return lut
