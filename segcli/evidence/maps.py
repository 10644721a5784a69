"""Two label maps as codes: which values occur, where, and how often each meets each of the other map.

The ground of all evidence of masks. It knows no labels that are asked for and no spacing: `Labelled` is a view of it
that has the first, `Measured` one of that which has the second, and each keeps what depends on no more than it knows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.cells import MOST_CELLS, Cells, Listed, Table
from segcli.evidence.counts import Counts
from segcli.evidence.label_map import SMALL, LabelMap, matrix_by_numpy
from segcli.masks.labels import Label
from segcli.masks.mask import Ranges

if TYPE_CHECKING:
    from segcli.evidence.moments import Moments

T = TypeVar("T")
Side = Literal["pred", "gt"]
SIDES: tuple[Side, Side] = ("pred", "gt")

#: Voxels that one process counts with NumPy before it imports Numba, which takes as long as counting some 250
#: million. Fewer, since surfaces, asked for later, import it anyway.
MOST_BY_NUMPY = 1 << 25


class Maps:
    """Two label maps on one grid.

    `pred` and `gt` are integer arrays of equal shape (2-D or 3-D); `valid` is a boolean grid of the voxels that
    count, `None` for all. Values of `void` are no labels: a voxel that is predicted so is of no class, the background
    neither. Where labels of the prediction overlap, `bits` has the bit of `pred` that says of a voxel that it is in a
    label.
    """

    _by_numpy: ClassVar[int] = 0

    def __init__(
        self,
        pred: NDArray[Any],
        gt: NDArray[Any],
        *,
        valid: NDArray[np.bool_] | None = None,
        bits: Mapping[Label, int] | None = None,
        void: Ranges = (),
    ) -> None:
        self.shape = tuple(int(n) for n in gt.shape)
        self.valid = valid
        self._pred = pred
        # NIfTI arrays arrive in Fortran order: their transpose is in C order without a copy.
        self.reverse = bool(gt.ndim > 1 and gt.flags.f_contiguous and not gt.flags.c_contiguous)
        self.void = void
        self._maps = {
            "pred": LabelMap(pred, valid, self.reverse, () if bits else void),
            "gt": LabelMap(gt, valid, self.reverse, void),
        }
        self._maps["pred"].bits = bits
        wider = np.result_type(*(m.codes for m in self._maps.values()))
        for m in self._maps.values():
            m.codes = m.codes.astype(wider, copy=False)
        self._boxes: dict[Side, NDArray[np.int64]] = {}
        self._occurring: dict[Side, list[int]] = {}
        self._counts: dict[Label, Counts] = {}
        self._moments: dict[Side, NDArray[np.object_]] = {}

    @property
    def overlapping(self) -> bool:
        """Return whether a voxel of the prediction may be in several labels."""
        return self._maps["pred"].bits is not None

    def label_values(self, side: Side) -> list[int]:
        """Return the values that occur among the voxels that count, in ascending order; of `void` none."""
        if side not in self._occurring:
            table = self._maps[side]
            there = (self.cells.sizes[0 if side == "pred" else 1] > 0) & table.is_label
            found = table.values[there].tolist()
            if table.bits is not None:
                own = [label.values or (1,) for label, bit in table.bits.items() if any(v & bit for v in found)]
                found = sorted({0, *(v for values in own for v in values)})
            self._occurring[side] = found
        return self._occurring[side]

    @cached_property
    def whole_pred(self) -> LabelMap:
        """Return the prediction with what it has in ignored voxels."""
        if self.valid is None:
            return self._maps["pred"]
        whole = LabelMap(self._pred, None, self.reverse, () if self.overlapping else self.void)
        whole.bits = self._maps["pred"].bits
        return whole

    def whole_rows(self, label: Label) -> NDArray[np.intp]:
        """Return the codes of `whole_pred` that belong to `label`."""
        return self.whole_pred.codes_of(label)

    def is_label(self, side: Side) -> NDArray[np.bool_]:
        """Return which codes of `side` can be of a label, the background included."""
        return self._maps[side].is_label

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
        if "numba" not in sys.modules and n_pred * n_gt < SMALL and Maps._by_numpy + pred.codes.size <= MOST_BY_NUMPY:
            Maps._by_numpy += pred.codes.size
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

    def counts(self, label: Label) -> Counts:
        """Return the four counts of a label; no view of the maps counts them again."""
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

    def moments(self, side: Side, label: Label) -> Moments:
        """Return the moments of a label in one map; the map is read once for all labels."""
        from segcli.evidence.moments import moments_of, of_codes

        if side not in self._moments:
            self._moments[side] = of_codes(*self.codes(side))
        return moments_of(self._moments[side][self.rows(side, label)], len(self.shape))

    def in_memory(self, by_axis: Sequence[T]) -> tuple[T, ...]:
        """Return what is said of each array axis in the order that the axes have in memory."""
        return tuple(by_axis[::-1] if self.reverse else by_axis)

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
