"""Evidence: what one case and one label of it give to the metrics, each piece computed at most once.

A `Case` holds two label maps; it reads them once into a contingency matrix, once into bounding boxes, and
once for each kind of surface into the surface elements of all labels. A `Pair` is one label's view of
that. No full-size mask of one label is ever made for a metric.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.bands import SIDES, Side
from segcli.evidence.cells import MOST_CELLS, Cells, Listed, Table
from segcli.evidence.counts import Counts
from segcli.evidence.distances import Distances
from segcli.evidence.label_map import SMALL, LabelMap, matrix_by_numpy
from segcli.evidence.pair import Pair
from segcli.masks.labels import BACKGROUND, Label
from segcli.surfaces import BY_AREA, Surface

if TYPE_CHECKING:
    from segcli.evidence.classes import Classes, SoftClasses
    from segcli.evidence.soft import SoftPair

Vector = NDArray[np.float64]

#: Voxels that one process counts with NumPy before it imports Numba, which takes as long as counting some 250
#: million. Fewer, since surfaces, asked for later, import it anyway.
MOST_BY_NUMPY = 1 << 25

#: Labels of one layer: with the background and the ignored voxels they fit in two bytes.
MOST_OF_LAYER = (1 << 16) - 2


class Elements(NamedTuple):
    """Surface elements of one label in one map: lattice points (M, ndim) and their weights (M,).

    Of a mesh these are the cells that it passes and their neighbour codes (uint8).
    """

    points: NDArray[np.int32]
    weights: NDArray[Any]


class Probabilities(Protocol):
    """Where a case's probabilities come from."""

    def soft(self, label: Label) -> SoftPair: ...

    def classes(self) -> SoftClasses: ...


class Case:
    """Two label maps on one grid, and the labels to score.

    `pred` and `gt` are integer arrays of equal shape (2-D or 3-D); `spacing` is in array axis order,
    in `unit`; `valid` is a boolean grid of the voxels that count, `None` for all.
    """

    _by_numpy: ClassVar[int] = 0

    def __init__(
        self,
        pred: NDArray[Any],
        gt: NDArray[Any],
        labels: Sequence[Label],
        *,
        spacing: tuple[float, ...] | None = None,
        unit: Literal["mm", "voxel"] = "mm",
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        self.shape = tuple(int(n) for n in gt.shape)
        self.labels = list(labels)
        self.spacing = spacing or (1.0,) * gt.ndim
        self.unit = unit
        self.valid = valid
        #: The value that marks ignored voxels: of no label, also where the prediction has it.
        self.ignored: int | None = None
        self._pred = pred
        # NIfTI arrays arrive in Fortran order: their transpose is in C order without a copy.
        self.reverse = bool(gt.ndim > 1 and gt.flags.f_contiguous and not gt.flags.c_contiguous)
        self._maps = {"pred": LabelMap(pred, valid, self.reverse), "gt": LabelMap(gt, valid, self.reverse)}
        wider = np.result_type(*(m.codes for m in self._maps.values()))
        for m in self._maps.values():
            m.codes = m.codes.astype(wider, copy=False)
        #: Where probabilities are known: `soft(label)` and `classes()` return them.
        self.probabilities: Probabilities | None = None
        self._distances: dict[tuple[str, int], Distances | None] = {}
        self._elements: dict[tuple[str, Side, int], list[Elements]] = {}
        self._boxes: dict[Side, NDArray[np.int64]] = {}
        self._occurring: dict[Side, list[int]] = {}
        self._counts: dict[Label, Counts] = {}

    @cached_property
    def diagonal(self) -> float:
        """Return the length of the image's diagonal, in the unit of the spacing."""
        return float(np.sqrt(sum((n * s) ** 2 for n, s in zip(self.shape, self.spacing, strict=True))))

    @cached_property
    def classes(self) -> Classes:
        """Return the evidence of all classes at once: the background and the plain labels."""
        from segcli.evidence.classes import Classes

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

    def pair(self, index: int) -> Pair:
        """Return the evidence of `labels[index]`."""
        return Pair(self, index)

    def label_values(self, side: Side) -> list[int]:
        """Return the values that occur among the voxels that count, in ascending order."""
        if side not in self._occurring:
            counts = self.cells.sizes[0 if side == "pred" else 1]
            self._occurring[side] = self._maps[side].values[counts > 0].tolist()
        return self._occurring[side]

    @cached_property
    def whole_pred(self) -> LabelMap:
        """Return the prediction with what it has in ignored voxels."""
        return self._maps["pred"] if self.valid is None else LabelMap(self._pred, None, self.reverse)

    def whole_rows(self, label: Label) -> NDArray[np.intp]:
        """Return the codes of `whole_pred` that belong to `label`."""
        rows = self.whole_pred.codes_of(label)
        return rows if self.ignored is None else rows[self.whole_pred.values[rows] != self.ignored]

    def rows(self, side: Side, label: Label) -> NDArray[np.intp]:
        """Return the codes of `side` that belong to `label`."""
        return self._maps[side].codes_of(label)

    def codes(self, side: Side) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return a map as codes in memory order, and their values; ignored voxels have the code after the last."""
        return self._maps[side].codes, self._maps[side].values

    @cached_property
    def cells(self) -> Cells:
        """Return the voxels by code of pred and of gt."""
        pred, gt = self._maps["pred"], self._maps["gt"]
        n_pred, n_gt = len(pred.values) + 1, len(gt.values) + 1  # the last code is the ignored voxels
        if n_pred * n_gt > MOST_CELLS or pred.codes.dtype == np.uint32:
            return Listed.of(pred.codes, gt.codes, n_pred, n_gt)
        if "numba" not in sys.modules and n_pred * n_gt < SMALL and Case._by_numpy + pred.codes.size <= MOST_BY_NUMPY:
            Case._by_numpy += pred.codes.size
            return Table(matrix_by_numpy(pred.codes, gt.codes, n_pred, n_gt)[:-1, :-1])
        from segcli.kernels.contingency import contingency

        return Table(contingency(as_volume(pred.codes), as_volume(gt.codes), n_pred, n_gt)[:-1, :-1])

    def boxes(self, side: Side) -> NDArray[np.int64]:
        """Return the half-open ranges of the voxels of each code along the axes of memory: (codes, 3, 2)."""
        if side not in self._boxes:
            from segcli.kernels.contingency import label_boxes

            table = self._maps[side]
            self._boxes[side] = label_boxes(as_volume(table.codes), len(table.values) + 1)
        return self._boxes[side]

    def counts(self, index: int) -> Counts:
        label = self.labels[index]
        if label not in self._counts:
            rows, columns = self.rows("pred", label), self.rows("gt", label)
            by_pred, by_gt = self.cells.sizes
            tp = self.cells.shared(rows, columns)
            fp = int(by_pred[rows].sum()) - tp
            fn = int(by_gt[columns].sum()) - tp
            self._counts[label] = Counts(tp, fp, fn, self._counted - tp - fp - fn)
        return self._counts[label]

    @cached_property
    def _counted(self) -> int:
        """Return how many voxels count."""
        return int(self.cells.sizes[1].sum())

    def box(self, side: Side, codes: NDArray[np.intp]) -> list[slice] | None:
        """Return the slices of the memory-order grid that hold all voxels of `codes`; `None` for none."""
        return _around(self.boxes(side)[codes], len(self.shape))

    def whole_box(self, label: Label) -> list[slice] | None:
        """Return the slices that hold all of `label` in the prediction, ignored voxels included."""
        if self.valid is None:
            return self.box("pred", self.rows("pred", label))
        return _around(self._whole_boxes[self.whole_rows(label)], len(self.shape))

    @cached_property
    def _whole_boxes(self) -> NDArray[np.int64]:
        from segcli.kernels.contingency import label_boxes

        table = self.whole_pred
        return label_boxes(as_volume(table.codes), len(table.values))

    # --- surfaces -----------------------------------------------------------------------------

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
        to_gt, to_pred = nearest_distances(pred.points, gt.points, self.memory_spacing)
        return Distances(to_gt, to_pred, pred.weights, gt.weights, weighted=surface in BY_AREA)

    def _mesh_distances(self, index: int) -> Distances | None:
        from segcli.kernels.mesh import mesh_distances

        pred, gt = self.elements("pred", "mesh")[index], self.elements("gt", "mesh")[index]
        if not (len(pred.points) and len(gt.points)):
            return None
        return Distances(*mesh_distances(pred, gt, self.memory_spacing, reverse=self.reverse), weighted=True)

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
        to_gt = distances_to(rims[1], only_pred, self.memory_spacing)
        to_pred = distances_to(rims[0], only_gt, self.memory_spacing)
        ones = (np.ones(len(to_gt)), np.ones(len(to_pred)))
        return Distances(to_gt, to_pred, *ones, weighted=False, shared=(counts.tp, counts.tp))

    @property
    def memory_spacing(self) -> tuple[float, ...]:
        return self.spacing[::-1] if self.reverse else self.spacing

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
        if surface == "mesh":
            offsets, points, weights = surface_cells(crop, lut, len(layer))
        else:
            offsets, points, weights = surface_elements(crop, lut, len(layer), self.memory_spacing, surface)
        points += np.array([s.start for s in box], dtype=np.int32)
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
            start = np.array([s.start for s in box], dtype=np.int32)
            lists = differing_voxels(crops[0][0], crops[1][0], crops[0][1], crops[1][1], len(layer))
            cut = [[points[a:b] + start for a, b in itertools.pairwise(offsets)] for offsets, points in lists]
            found.update(zip(layer, zip(*cut, strict=True), strict=True))
        return [found[index] for index in range(len(self.labels))]

    # --- parts of the grid, in memory order -----------------------------------------------------

    def grown(self, box: list[slice]) -> list[slice]:
        """Return the box with one voxel more on every side, where the grid has one."""
        shape = self._maps["gt"].codes.shape
        return [slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, shape, strict=True)]

    def union_box(self, boxes: Sequence[list[slice] | None]) -> list[slice] | None:
        """Return the box around boxes; `None` for none."""
        present = [box for box in boxes if box is not None]
        if not present:
            return None
        return [
            slice(min(b[d].start for b in present), max(b[d].stop for b in present)) for d in range(len(self.shape))
        ]

    def inside(self, side: Side, label: Label, box: list[slice]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which voxels of a box are of the label, and which are ignored."""
        table = self._maps[side]
        crop = table.codes[tuple(box)]
        member = np.zeros(len(table.values) + 1, dtype=bool)
        member[self.rows(side, label)] = True
        return member[crop], crop == len(table.values)


def _around(boxes: NDArray[np.int64], ndim: int) -> list[slice] | None:
    """Return the slices around boxes (n, 3, 2), those of codes without a voxel among them; `None` for none."""
    if not len(boxes):
        return None
    low, high = boxes[:, :, 0].min(axis=0)[-ndim:], boxes[:, :, 1].max(axis=0)[-ndim:]
    return None if (low >= high).any() else [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def as_volume(array: NDArray[Any]) -> NDArray[Any]:
    """Return a 2-D array as a volume of one slice (for counting only: its neighbours are 2-D)."""
    return array[None] if array.ndim == 2 else array
