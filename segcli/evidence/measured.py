"""Labelled maps on a spacing: lengths, and the surfaces and surface distances of all labels.

Maps are read once for each kind of surface into the elements of all labels. No full-size mask of one label is made.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.distances import Distances
from segcli.evidence.labelled import MOST_OF_LAYER, Labelled
from segcli.evidence.maps import SIDES, Maps, Side
from segcli.kernels.surfaces import BY_AREA, Surface

if TYPE_CHECKING:
    from segcli.evidence.counts import Counts
    from segcli.masks.labels import Label

Unit = Literal["mm", "voxel"]
Points = NDArray[np.int32]

#: Up to so many times the finest spacing an axis is a fine one.
FINE = 1.25


class Elements(NamedTuple):
    """Surface elements of one label in one map: lattice points (M, ndim) and their weights (M,).

    Columns are the axes of `Measured.lattice(surface)`, and elements are in C order of them: what is summed over
    elements, and how their distances are found, knows nothing of the layout of memory. Of a mesh these are the cells
    that it passes and their neighbour codes (uint8).
    """

    points: Points
    weights: NDArray[Any]


class Measured:
    """A view of labelled maps with the size of their voxels: `spacing` in array axis order, in `unit`.

    It keeps what depends on the spacing, be it only by the order in which the axes are listed.
    """

    def __init__(self, labelled: Labelled, spacing: tuple[float, ...] | None = None, unit: Unit = "mm") -> None:
        self.labelled = labelled
        self.spacing = spacing or (1.0,) * len(labelled.maps.shape)
        self.unit = unit
        self._distances: dict[tuple[str, int], Distances | None] = {}
        self._elements: dict[tuple[str, Side, int], list[Elements]] = {}

    @property
    def maps(self) -> Maps:
        return self.labelled.maps

    @property
    def labels(self) -> list[Label]:
        return self.labelled.labels

    @property
    def shape(self) -> tuple[int, ...]:
        return self.maps.shape

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """Return the voxels that count, as a boolean grid; `None` for all."""
        return self.maps.valid

    def counts(self, index: int) -> Counts:
        return self.labelled.counts(index)

    @cached_property
    def diagonal(self) -> float:
        """Return the length of the image's diagonal, in the unit of the spacing."""
        return float(np.sqrt(sum((n * s) ** 2 for n, s in zip(self.shape, self.spacing, strict=True))))

    @property
    def memory_spacing(self) -> tuple[float, ...]:
        return self.maps.in_memory(self.spacing)

    def lattice(self, surface: Surface) -> tuple[int, ...]:
        """Return the array axes in the order in which surface elements are listed.

        It is that of the array, but for coarse axes, which come first: `nearest_distances` searches along the last
        one. A mesh knows its axes apart.
        """
        axes = range(len(self.shape))
        fine = math.inf if surface == "mesh" else FINE * min(self.spacing)
        return tuple(sorted(axes, key=lambda axis: self.spacing[axis] <= fine))

    def _steps(self, surface: Surface) -> tuple[float, ...]:
        """Return the spacing along the columns of a surface's points."""
        return tuple(self.spacing[axis] for axis in self.lattice(surface))

    def _from_memory(self, surface: Surface) -> list[int]:
        """Return for each column of a surface's points the axis of memory that it is."""
        memory = self.maps.in_memory(range(len(self.shape)))
        return [memory[axis] for axis in self.lattice(surface)]

    def distances(self, index: int, surface: Surface) -> Distances | None:
        """Return the surface distances of `labels[index]`; `None` where either has no surface."""
        key = (surface, index)
        if key not in self._distances:
            if surface == "set":
                found = self._set_distances(index)
            elif surface == "mesh":
                found = self._mesh_distances(index)
            else:
                found = self._element_distances(index, surface)
            self._distances[key] = found
        return self._distances[key]

    def _element_distances(self, index: int, surface: Surface) -> Distances | None:
        from segcli.kernels.nearest import nearest_distances

        pred, gt = self.elements("pred", surface)[index], self.elements("gt", surface)[index]
        if not (len(pred.points) and len(gt.points)):
            return None
        to_gt, to_pred = nearest_distances(pred.points, gt.points, self._steps(surface))
        return Distances(to_gt, to_pred, pred.weights, gt.weights, weighted=surface in BY_AREA)

    def _mesh_distances(self, index: int) -> Distances | None:
        from segcli.kernels.mesh import mesh_distances

        pred, gt = self.elements("pred", "mesh")[index], self.elements("gt", "mesh")[index]
        if not (len(pred.points) and len(gt.points)):
            return None
        return Distances(*mesh_distances(pred, gt, self.spacing), weighted=True)

    def _set_distances(self, index: int) -> Distances | None:
        """Return the distances between all voxels of both masks.

        A voxel in both is at 0. From one outside the nearest voxel of a mask is a border voxel: from any
        other one step towards the voxel outside leads to a nearer voxel of the mask.
        """
        from segcli.kernels.nearest import distances_to

        counts = self.counts(index)
        if not (counts.pred and counts.gt):
            return None
        # Of ignored voxels nothing is known: a step onto one leaves the mask too.
        rims = [self.elements(side, "border", ignored=0)[index].points for side in SIDES]
        only_pred, only_gt = self._differences[index]
        to_gt = distances_to(rims[1], only_pred, self._steps("set"))
        to_pred = distances_to(rims[0], only_gt, self._steps("set"))
        ones = (np.ones(len(to_gt)), np.ones(len(to_pred)))
        return Distances(to_gt, to_pred, *ones, weighted=False, shared=(counts.tp, counts.tp))

    def elements(self, side: Side, surface: Surface, *, ignored: Literal[-1, 0] = -1) -> list[Elements]:
        """Return the surface elements of every label in one map, all labels in one pass.

        Labels and regions that share voxels cannot be told apart in one pass: they go into layers
        whose members are disjoint, one pass each. `ignored` voxels do not count (-1) or are background (0).
        """
        if self.valid is None:
            ignored = -1
        key = (surface, side, ignored)
        if key not in self._elements:
            found: list[Elements | None] = [None] * len(self.labels)
            for layer in self.labelled.layers(side):
                for i, elements in zip(layer, self._layer_elements(side, surface, layer, ignored), strict=True):
                    found[i] = elements
            self._elements[key] = [e for e in found if e is not None]
        return self._elements[key]

    def _layer_elements(self, side: Side, surface: Surface, layer: list[int], ignored: int) -> list[Elements]:
        from segcli.kernels.surface import surface_cells, surface_elements

        lut = self.labelled.lut(side, layer, ignored)
        ndim = len(self.shape)
        nothing = Elements(np.empty((0, ndim), np.int32), np.empty(0))
        box = self.maps.box(side, np.flatnonzero(lut > 0))
        if box is None:
            return [nothing] * len(layer)
        # One voxel more on every side: what lies just outside the box has a say.
        box = self.maps.grown(box)
        crop, lut = self._crop(side, box, lut)
        weights: NDArray[Any]
        axes = self._from_memory(surface)
        if surface == "mesh":
            offsets, points, weights = surface_cells(crop, lut, len(layer), axes)
        else:
            offsets, points, weights = surface_elements(crop, lut, len(layer), self.memory_spacing, surface, axes)
        points += np.array([box[axis].start for axis in axes], dtype=np.int32)
        return [Elements(points[a:b], weights[a:b]) for a, b in itertools.pairwise(offsets)]

    def _crop(self, side: Side, box: list[slice], lut: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return the codes of a box with what `lut` makes of each, in two bytes a voxel at most."""
        crop = self.maps.codes(side)[0][tuple(box)]
        if crop.dtype == np.uint32:
            # More codes than two bytes tell apart: the numbers in the layer stand for them, from -1 on.
            crop = (lut + 1).astype(np.uint16)[crop]
            lut = np.arange(-1, MOST_OF_LAYER + 1, dtype=np.int32)
        return np.ascontiguousarray(crop), lut

    @cached_property
    def _differences(self) -> list[tuple[Points, Points]]:
        """Return of each label the voxels in pred only and in gt only, all labels in one pass."""
        from segcli.kernels.differences import differing_voxels

        found: dict[int, tuple[Points, Points]] = {}
        for layer in self.labelled.layers(*SIDES):
            luts = [self.labelled.lut(side, layer) for side in SIDES]
            box = self.maps.union_box(
                [self.maps.box(s, np.flatnonzero(t > 0)) for s, t in zip(SIDES, luts, strict=True)]
            )
            box = box or [slice(0, 1)] * len(self.shape)
            crops = [self._crop(side, box, lut) for side, lut in zip(SIDES, luts, strict=True)]
            axes = self._from_memory("set")
            start = np.array([box[axis].start for axis in axes], dtype=np.int32)
            lists = differing_voxels(crops[0][0], crops[1][0], crops[0][1], crops[1][1], len(layer), axes)
            cut = [[points[a:b] + start for a, b in itertools.pairwise(offsets)] for offsets, points in lists]
            found.update(zip(layer, zip(*cut, strict=True), strict=True))
        return [found[index] for index in range(len(self.labels))]
