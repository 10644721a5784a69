"""Evidence: what one case and one label of it give to the metrics, each piece computed at most once.

A `Case` holds two label maps; it reads them once into a contingency matrix, once into bounding boxes, and
once for each kind of surface into the surface elements of all labels. A `Pair` is one label's view of
that. No full-size mask of one label is ever made for a metric.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError
from segcli.evidence.bands import SIDES, Side
from segcli.evidence.distances import Distances
from segcli.evidence.maps import Maps
from segcli.evidence.pair import Pair
from segcli.kernels.surfaces import BY_AREA, Surface
from segcli.masks.labels import BACKGROUND, Label

if TYPE_CHECKING:
    from segcli.evidence.classes import Classes, SoftClasses
    from segcli.evidence.soft import SoftPair

Vector = NDArray[np.float64]

#: Up to so many times the finest spacing an axis is a fine one.
FINE = 1.25
#: Labels of one layer: with the background and the ignored voxels they fit in two bytes.
MOST_OF_LAYER = (1 << 16) - 2


class Elements(NamedTuple):
    """Surface elements of one label in one map: lattice points (M, ndim) and their weights (M,).

    Columns are the axes of `Case.lattice(surface)`, and elements are in C order of them: what is summed over
    elements, and how their distances are found, knows nothing of the layout of memory. Of a mesh these are the cells
    that it passes and their neighbour codes (uint8).
    """

    points: NDArray[np.int32]
    weights: NDArray[Any]


class Probabilities(Protocol):
    """Where a case's probabilities come from."""

    def soft(self, label: Label) -> SoftPair: ...

    def classes(self) -> SoftClasses: ...


class Case(Maps):
    """Two label maps on one grid, the labels to score, and their surfaces; arguments as of `Maps`."""

    def __init__(self, pred: NDArray[Any], gt: NDArray[Any], labels: Sequence[Label], **options: Any) -> None:
        super().__init__(pred, gt, labels, **options)
        #: Where probabilities are known: `soft(label)` and `classes()` return them.
        self.probabilities: Probabilities | None = None
        #: The voxel size with which ITK reads the files where that is another, or why it does not read them.
        self.itk_spacing: tuple[float, ...] | str | None = None
        self._distances: dict[tuple[str, int], Distances | None] = {}
        self._elements: dict[tuple[str, Side, int], list[Elements]] = {}

    @cached_property
    def classes(self) -> Classes:
        """Return the evidence of all classes at once: the background and the plain labels.

        Raises `InputError` where labels overlap.
        """
        from segcli.evidence.classes import Classes

        if self.overlapping:
            raise InputError(
                "measures of all classes at once need one label in each voxel; the channels of the prediction overlap.",
                hint="leave out the measures whose row is `all`: segcli catalog lists them",
                code="channels.overlap",
            )
        plain = [x for x in self.labels if not x.is_region and x.values != BACKGROUND.values]
        named = next((x for x in self.labels if x.values == BACKGROUND.values), BACKGROUND)
        return Classes(self, [named, *plain])

    def with_labels(self, labels: Sequence[Label]) -> Case:
        """Return the same two maps with other labels; what has been counted is not counted again."""
        twin = copy.copy(self)
        twin.labels, twin.probabilities = list(labels), None
        twin._distances, twin._elements = {}, {}
        for name in ("classes", "_differences"):
            twin.__dict__.pop(name, None)
        return twin

    def with_spacing(self, spacing: tuple[float, ...], unit: Literal["mm", "voxel"]) -> Case:
        """Return the same maps on another spacing; what does not depend on it is shared."""
        twin = copy.copy(self)
        twin.spacing, twin.unit = spacing, unit
        twin._distances, twin._elements = {}, {}
        for name in ("diagonal", "classes", "_differences"):  # the last in the order of the lattice
            twin.__dict__.pop(name, None)
        return twin

    def pair(self, index: int) -> Pair:
        """Return the evidence of `labels[index]`."""
        return Pair(self, index)

    @property
    def exclusive(self) -> Classes | None:
        """Return `classes`; `None` where labels overlap."""
        return None if self.overlapping else self.classes

    # --- surfaces -----------------------------------------------------------------------------

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
        memory = self.in_memory(range(len(self.shape)))
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
            for layer in self._layers(side):
                for i, elements in zip(layer, self._layer_elements(side, surface, layer, ignored), strict=True):
                    found[i] = elements
            self._elements[key] = [e for e in found if e is not None]
        return self._elements[key]

    def _layers(self, *sides: Side) -> list[list[int]]:
        layers: list[tuple[list[int], set[tuple[Side, int]]]] = []
        for index, label in enumerate(self.labels):
            codes = {(side, code) for side in sides for code in self.rows(side, label).tolist()}
            for members, taken in layers:
                if len(members) < MOST_OF_LAYER and not taken & codes:
                    members.append(index)
                    taken.update(codes)
                    break
            else:
                layers.append(([index], codes))
        return [members for members, _ in layers]

    def _lut(self, side: Side, layer: list[int], ignored: int = -1) -> NDArray[np.int32]:
        """Return the number in the layer, from 1, of each code."""
        lut = np.zeros(len(self._maps[side].values) + 1, dtype=np.int32)
        lut[-1] = ignored
        for number, index in enumerate(layer, start=1):
            lut[self.rows(side, self.labels[index])] = number
        return lut

    def _layer_elements(self, side: Side, surface: Surface, layer: list[int], ignored: int) -> list[Elements]:
        from segcli.kernels.surface import surface_cells, surface_elements

        lut = self._lut(side, layer, ignored)
        ndim = len(self.shape)
        nothing = Elements(np.empty((0, ndim), np.int32), np.empty(0))
        box = self.box(side, np.flatnonzero(lut > 0))
        if box is None:
            return [nothing] * len(layer)
        # One voxel more on every side: what lies just outside the box has a say.
        box = self.grown(box)
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
        crop = self._maps[side].codes[tuple(box)]
        if crop.dtype == np.uint32:
            # More codes than two bytes tell apart: the numbers in the layer stand for them, from -1 on.
            crop = (lut + 1).astype(np.uint16)[crop]
            lut = np.arange(-1, MOST_OF_LAYER + 1, dtype=np.int32)
        return np.ascontiguousarray(crop), lut

    @cached_property
    def _differences(self) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Return of each label the voxels in pred only and in gt only, all labels in one pass."""
        from segcli.kernels.differences import differing_voxels

        found: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
        for layer in self._layers(*SIDES):
            luts = [self._lut(side, layer) for side in SIDES]
            box = self.union_box([self.box(s, np.flatnonzero(t > 0)) for s, t in zip(SIDES, luts, strict=True)])
            box = box or [slice(0, 1)] * len(self.shape)
            crops = [self._crop(side, box, lut) for side, lut in zip(SIDES, luts, strict=True)]
            axes = self._from_memory("set")
            start = np.array([box[axis].start for axis in axes], dtype=np.int32)
            lists = differing_voxels(crops[0][0], crops[1][0], crops[0][1], crops[1][1], len(layer), axes)
            cut = [[points[a:b] + start for a, b in itertools.pairwise(offsets)] for offsets, points in lists]
            found.update(zip(layer, zip(*cut, strict=True), strict=True))
        return [found[index] for index in range(len(self.labels))]
