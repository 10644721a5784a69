"""Evidence: what one case and one label of it give to the metrics, each piece computed at most once.

A `Case` holds two label maps; it reads them once into a contingency matrix with bounding boxes, and
once for each kind of surface into the surface elements of all labels. A `Pair` is one label's view of
that. No full-size mask of one label is ever made for a metric.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.distances import SLACK, Distances
from segcli.errors import InputError
from segcli.masks.labels import Label

Vector = NDArray[np.float64]
Side = Literal["pred", "gt"]
Surface = Literal["surfel", "border", "mesh"]

#: Below this many voxels counting with NumPy beats importing Numba.
SMALL = 1 << 20
#: Cells of the largest contingency matrix that is built (512 MiB).
MOST_CELLS = 1 << 26


class Counts(NamedTuple):
    """Voxels of one label, ignored ones left out."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def pred(self) -> int:
        return self.tp + self.fp

    @property
    def gt(self) -> int:
        return self.tp + self.fn

    @property
    def n(self) -> int:
        return self.tp + self.fp + self.fn + self.tn


class Elements(NamedTuple):
    """Surface elements of one label in one map: lattice points (M, ndim) and their weights (M,).

    Of a mesh these are the cells that it passes and their neighbour codes (uint8).
    """

    points: NDArray[np.int32]
    weights: NDArray[Any]


class Case:
    """Two label maps on one grid, and the labels to score.

    `pred` and `gt` are integer arrays of equal shape (2-D or 3-D); `spacing` is in array axis order,
    in `unit`; `valid` is a boolean grid of the voxels that count, `None` for all.
    """

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
        # NIfTI arrays arrive in Fortran order: their transpose is in C order without a copy.
        self.reverse = bool(gt.ndim > 1 and gt.flags.f_contiguous and not gt.flags.c_contiguous)
        self._maps = {"pred": _LabelMap(pred, valid, self.reverse), "gt": _LabelMap(gt, valid, self.reverse)}
        wide = any(m.codes.dtype == np.uint16 for m in self._maps.values())
        if wide:
            for m in self._maps.values():
                m.codes = m.codes.astype(np.uint16, copy=False)
        self._distances: dict[tuple[str, int], Distances | None] = {}
        self._elements: dict[tuple[str, Side], list[Elements]] = {}

    @cached_property
    def diagonal(self) -> float:
        """Return the length of the image's diagonal, in the unit of the spacing."""
        return float(np.sqrt(sum((n * s) ** 2 for n, s in zip(self.shape, self.spacing, strict=True))))

    def pair(self, index: int) -> Pair:
        """Return the evidence of `labels[index]`."""
        return Pair(self, index)

    def label_values(self, side: Side) -> list[int]:
        """Return the values that occur among the voxels that count, in ascending order."""
        table = self._maps[side]
        counts = self._sizes[0 if side == "pred" else 1]
        return sorted(int(v) for v, n in zip(table.values, counts, strict=True) if n)

    def rows(self, side: Side, label: Label) -> NDArray[np.intp]:
        """Return the codes of `side` that belong to `label`."""
        return self._maps[side].codes_of(label)

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """Return the contingency matrix: voxels by code of pred (rows) and of gt (columns)."""
        pred, gt = self._maps["pred"], self._maps["gt"]
        small = pred.codes.size < SMALL and len(pred.values) * len(gt.values) < SMALL
        if not small or "numba" in sys.modules:
            return self._tables[0]
        # Importing Numba takes longer than counting a small image with NumPy.
        width = len(gt.values) + 1
        joint = pred.codes.astype(np.int64).ravel() * width + gt.codes.ravel()
        counted = np.bincount(joint, minlength=(len(pred.values) + 1) * width)
        return counted.reshape(-1, width)[:-1, :-1]

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the matrix and the bounding boxes of each code of pred and of gt, from one pass."""
        from segcli.kernels.contingency import contingency

        pred, gt = self._maps["pred"], self._maps["gt"]
        n_pred, n_gt = len(pred.values) + 1, len(gt.values) + 1  # the last code is the ignored voxels
        if n_pred * n_gt > MOST_CELLS:
            raise InputError(
                f"{n_pred - 1} labels against {n_gt - 1}: their table would have more than {MOST_CELLS} cells.",
                hint="score a part of the image, or merge labels first",
                code="labels.many",
            )
        matrix, boxes_pred, boxes_gt = contingency(as_volume(pred.codes), as_volume(gt.codes), n_pred, n_gt)
        return matrix[:-1, :-1], boxes_pred[:-1], boxes_gt[:-1]

    def counts(self, index: int) -> Counts:
        matrix = self.matrix
        label = self.labels[index]
        rows, columns = self.rows("pred", label), self.rows("gt", label)
        by_pred, by_gt = self._sizes
        tp = int(matrix[np.ix_(rows, columns)].sum())
        fp = int(by_pred[rows].sum()) - tp
        fn = int(by_gt[columns].sum()) - tp
        return Counts(tp, fp, fn, int(by_gt.sum()) - tp - fp - fn)

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many voxels each code of pred and of gt has."""
        return self.matrix.sum(axis=1), self.matrix.sum(axis=0)

    def box(self, side: Side, codes: NDArray[np.intp]) -> list[slice] | None:
        """Return the slices of the memory-order grid that hold all voxels of `codes`; `None` for none."""
        boxes = self._tables[1 if side == "pred" else 2][codes]
        ndim = len(self.shape)
        if not len(boxes):
            return None
        low, high = boxes[:, :, 0].min(axis=0)[-ndim:], boxes[:, :, 1].max(axis=0)[-ndim:]
        return None if (low >= high).any() else [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]

    # --- surfaces -----------------------------------------------------------------------------

    def distances(self, index: int, surface: Surface) -> Distances | None:
        """Return the surface distances of `labels[index]`; `None` where either mask is empty."""
        key = (surface, index)
        if key not in self._distances:
            pred, gt = self.elements("pred", surface)[index], self.elements("gt", surface)[index]
            found = None
            if len(pred.points) and len(gt.points) and surface == "mesh":
                from segcli.kernels.mesh import mesh_distances

                measured = mesh_distances(pred, gt, self.memory_spacing, reverse=self.reverse)
                found = Distances(*measured, weighted=True)
            elif len(pred.points) and len(gt.points):
                from segcli.kernels.nearest import nearest_distances

                to_gt, to_pred = nearest_distances(pred.points, gt.points, self.memory_spacing)
                found = Distances(to_gt, to_pred, pred.weights, gt.weights, weighted=surface == "surfel")
            self._distances[key] = found
        return self._distances[key]

    @property
    def memory_spacing(self) -> tuple[float, ...]:
        return self.spacing[::-1] if self.reverse else self.spacing

    def elements(self, side: Side, surface: Surface) -> list[Elements]:
        """Return the surface elements of every label in one map, all labels in one pass.

        Labels and regions that share voxels cannot be told apart in one pass: they go into layers
        whose members are disjoint, one pass each.
        """
        if (surface, side) not in self._elements:
            found: list[Elements | None] = [None] * len(self.labels)
            for layer in self._layers(side):
                for index, elements in zip(layer, self._layer_elements(side, surface, layer), strict=True):
                    found[index] = elements
            self._elements[surface, side] = [e for e in found if e is not None]
        return self._elements[surface, side]

    def _layers(self, side: Side) -> list[list[int]]:
        layers: list[tuple[list[int], set[int]]] = []
        for index, label in enumerate(self.labels):
            codes = set(self.rows(side, label).tolist())
            for members, taken in layers:
                if not taken & codes:
                    members.append(index)
                    taken.update(codes)
                    break
            else:
                layers.append(([index], codes))
        return [members for members, _ in layers]

    def _layer_elements(self, side: Side, surface: Surface, layer: list[int]) -> list[Elements]:
        from segcli.kernels.surface import surface_cells, surface_elements

        table = self._maps[side]
        lut = np.zeros(len(table.values) + 1, dtype=np.int32)
        lut[-1] = -1
        for number, index in enumerate(layer, start=1):
            lut[self.rows(side, self.labels[index])] = number
        ndim = len(self.shape)
        nothing = Elements(np.empty((0, ndim), np.int32), np.empty(0))
        box = self.box(side, np.flatnonzero(lut > 0))
        if box is None:
            return [nothing] * len(layer)
        # One voxel more on every side: an ignored neighbour just outside the box has a say.
        box = [slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, table.codes.shape, strict=True)]
        crop = np.ascontiguousarray(table.codes[tuple(box)])
        weights: NDArray[Any]
        if surface == "mesh":
            offsets, points, weights = surface_cells(crop, lut, len(layer))
        else:
            offsets, points, weights = surface_elements(crop, lut, len(layer), self.memory_spacing, surface)
        points += np.array([s.start for s in box], dtype=np.int32)
        return [Elements(points[a:b], weights[a:b]) for a, b in itertools.pairwise(offsets)]

    # --- bands --------------------------------------------------------------------------------

    def bands(self, index: int, width: float | None) -> tuple[int, int]:
        """Return the voxels in both inner bands and in either; `None` is 2% of the diagonal."""
        width = max(0.02 * self.diagonal, min(self.spacing)) if width is None else width
        label = self.labels[index]
        sides: tuple[Side, Side] = ("pred", "gt")
        boxes = [self.box(side, self.rows(side, label)) for side in sides]
        present = [b for b in boxes if b is not None]
        if not present:
            return 0, 0
        if self.valid is not None:
            # Ignored voxels are no neighbours, so the nearest one may lie outside the label's box.
            present = [[slice(0, n) for n in self._maps["gt"].codes.shape]]
        union = [
            slice(min(b[d].start for b in present), max(b[d].stop for b in present)) for d in range(len(self.shape))
        ]
        bands = [self._band(side, label, union, width) for side in sides]
        return int(np.count_nonzero(bands[0] & bands[1])), int(np.count_nonzero(bands[0] | bands[1]))

    def _band(self, side: Side, label: Label, box: list[slice], width: float) -> NDArray[np.bool_]:
        from segcli.kernels.distance_transform import distance_transform

        table = self._maps[side]
        grown = [slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, table.codes.shape, strict=True)]
        crop = table.codes[tuple(grown)]
        member = np.zeros(len(table.values) + 1, dtype=bool)
        member[self.rows(side, label)] = True
        outside = ~member
        outside[-1] = False  # an ignored voxel is no neighbour
        # Beyond the image all is outside; where the box was grown the image itself says what is there.
        pads = [
            (1 if s.start == 0 and b.start == 0 else 0, 1 if s.stop == n and b.stop == n else 0)
            for s, b, n in zip(grown, box, table.codes.shape, strict=True)
        ]
        distance = distance_transform(np.pad(outside[crop], pads, constant_values=True), self.memory_spacing)
        keep = tuple(
            slice(p[0] + b.start - g.start, p[0] + b.stop - g.start) for p, b, g in zip(pads, box, grown, strict=True)
        )
        inner = tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))
        return np.asarray(member[crop[inner]] & (distance[keep] <= width * SLACK))


class _LabelMap:
    """One label map as codes of one or two bytes, in memory order, with the values they stand for.

    Code `len(values)` marks an ignored voxel.
    """

    def __init__(self, array: NDArray[Any], valid: NDArray[np.bool_] | None, reverse: bool) -> None:
        array = array.T if reverse else array
        valid = None if valid is None else (valid.T if reverse else valid)
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        if array.dtype == np.uint8 and valid is None:
            self.codes: NDArray[Any] = np.ascontiguousarray(array)
            self.values = np.arange(256, dtype=np.int64)
            return
        counted = array if valid is None else array[valid]
        low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
        if low >= 0 and high < 1024:
            self.values = np.arange(high + 1, dtype=np.int64)
            codes = array
        elif high > np.iinfo(np.int64).max:
            raise InputError(
                f"label {high} is beyond the largest that is told apart (2^63 - 1).",
                hint="is this a label map? an intensity image is not",
                code="labels.large",
            )
        else:
            # In 64 bits: a difference of narrow integers would wrap around.
            array = array.astype(np.int64)
            counted = array if valid is None else array[valid]
            if high - low < 1 << 24:
                present = np.zeros(high - low + 1, dtype=bool)
                present[counted - low] = True
                self.values = np.flatnonzero(present) + low
                codes = (np.cumsum(present) - 1)[np.clip(array, low, high) - low]
            else:
                self.values = np.unique(counted)
                codes = np.searchsorted(self.values, array)
        if len(self.values) > 65534:
            raise InputError(
                f"{len(self.values)} different labels; at most 65534 can be told apart.",
                hint="is this a label map? an intensity image is not",
                code="labels.many",
            )
        codes = codes.astype(np.uint8 if len(self.values) < 256 else np.uint16)
        if valid is not None:
            codes[~valid] = len(self.values)
        self.codes = np.ascontiguousarray(codes)

    def codes_of(self, label: Label) -> NDArray[np.intp]:
        if label.values is None:
            return np.flatnonzero(self.values != 0)
        return np.flatnonzero(np.isin(self.values, label.values))


def as_volume(array: NDArray[Any]) -> NDArray[Any]:
    """Return a 2-D array as a volume of one slice (for counting only: its neighbours are 2-D)."""
    return array[None] if array.ndim == 2 else array


class Pair:
    """One label of a case: counts, surface distances, bands. Metrics reduce it."""

    def __init__(self, case: Case, index: int) -> None:
        self.case = case
        self.index = index
        self.label = case.labels[index]

    @cached_property
    def counts(self) -> Counts:
        return self.case.counts(self.index)

    @property
    def voxel_volume(self) -> float:
        """Return the volume of a voxel (its area in 2-D) in the unit of the spacing."""
        return float(np.prod(self.case.spacing))

    def distances(self, surface: Surface) -> Distances | None:
        return self.case.distances(self.index, surface)

    def bands(self, width: float | None) -> tuple[int, int]:
        return self.case.bands(self.index, width)
