"""Structure of one label in two maps: pieces, tunnels, cavities, skeletons and objects, each found once.

Everything is worked out in the box that holds the label in both maps. An ignored voxel is in no set.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError, UsageError
from segcli.evidence.maps import Maps, Side
from segcli.evidence.objects import ObjectPairs, Objects
from segcli.evidence.parts import Candidates

if TYPE_CHECKING:
    from segcli.evidence.measured import Measured
    from segcli.evidence.soft import SoftPair
    from segcli.kernels.components import Runs
    from segcli.kernels.surfaces import Surface
    from segcli.kernels.thinnings import Thinning

Mask = NDArray[np.bool_]
Instances = Literal["components", "values"]


class Betti(NamedTuple):
    """Pieces, tunnels and cavities of a set; in 2-D tunnels are its holes."""

    pieces: int
    tunnels: int
    cavities: int

    @property
    def euler(self) -> int:
        return self.pieces - self.tunnels + self.cavities


class Lesions(NamedTuple):
    """Lesions of the gt that count: the predicted pieces that each meets, and how many pieces meet none."""

    dice: list[float]
    hd95: list[float | None]
    false: int


class Structure:
    """What the metrics of topology and of objects read of one label of a case."""

    def __init__(self, measured: Measured, index: int) -> None:
        self.maps = measured.maps
        self.spacing = measured.spacing
        self.label = measured.labels[index]
        self.ndim = len(measured.shape)
        self._kept: dict[tuple[Any, ...], Any] = {}

    def neighbours(self, connectivity: str) -> int:
        """Return 26, 18 or 6 for a word; in 2-D 8 and 4 are what 26 and 6 are within a plane."""
        if self.ndim == 3 and connectivity in ("8", "4"):
            raise UsageError(
                f"connectivity={connectivity} is of images with 2 axes; these masks have 3.",
                hint="connectivity=26, 18 or 6",
                code="measure.parameter",
            )
        if connectivity == "26-4":
            return 26 if self.ndim == 3 else 6
        return {"8": 26, "4": 6}.get(connectivity) or int(connectivity)

    @cached_property
    def box(self) -> NDArray[np.int64]:
        """Return the box (3, 2) of the label in both maps, in memory order; a plane is one slice.

        What the prediction has in ignored voxels lies within it too.
        """
        maps = self.maps
        both = maps.box("gt", maps.rows("gt", self.label)), maps.whole_box(self.label)
        found = [b for b in both if b is not None]
        box = [[min(b[d].start for b in found), max(b[d].stop for b in found)] for d in range(self.ndim) if found]
        return np.array([[0, 1]] * (3 - len(box)) + box, dtype=np.int64)

    def _codes(self, side: Side, box: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        codes, values = self.maps.codes(side)
        return self._part(codes, box), values

    def _part(self, codes: NDArray[Any], box: NDArray[np.int64]) -> NDArray[Any]:
        volume = codes.reshape((1,) * (3 - codes.ndim) + codes.shape)
        return np.ascontiguousarray(volume[tuple(slice(*ends) for ends in box)])

    def _runs(self, side: Side, instances: Instances = "components", grown: int = 0) -> tuple[Runs, list[int]]:
        """Return the label's runs, of one value or numbered by the label's values, and these values."""
        from segcli.kernels.components import runs_of

        key = ("runs", side, instances, grown)
        if key not in self._kept:
            codes, values = self._codes(side, self.grown(grown))
            numbers = np.full(len(values) + 1, -1, dtype=np.int32)
            rows = self.maps.rows(side, self.label)
            if instances == "values" and side == "pred" and self.maps.overlapping:
                raise InputError(
                    "instances=values reads each value as an object; the channels of the prediction overlap.",
                    hint="instances=components takes connected pieces",
                    code="channels.overlap",
                )
            if instances == "values":
                rows = rows[np.isin(values[rows], self.maps.label_values(side))]
            numbers[rows] = np.arange(len(rows)) if instances == "values" else 0
            self._kept[key] = runs_of(codes, numbers), [int(v) for v in values[rows]]
        found: tuple[Runs, list[int]] = self._kept[key]
        return found

    def grown(self, steps: int) -> NDArray[np.int64]:
        """Return the box grown by some voxels within the image; a plane grows in the plane."""
        shape = np.array((1,) * (3 - self.ndim) + self.maps.codes("gt")[0].shape)
        low, high = np.maximum(self.box[:, 0] - steps, 0), np.minimum(self.box[:, 1] + steps, shape)
        return np.stack([low, high], axis=1)

    # --- topology -----------------------------------------------------------------------------

    def betti(self, side: Side, connectivity: str) -> Betti:
        """Return the Betti numbers: pieces and cavities are counted, the Euler number gives the tunnels."""
        from segcli.kernels.components import background, joined
        from segcli.kernels.euler import euler_number

        c = self.neighbours(connectivity)
        key = ("betti", side, c)
        if key not in self._kept:
            runs, _ = self._runs(side)
            pieces = joined(runs, c)[1]
            # What is not the set is connected the other way; all of it outside is one piece. A plane has no inside.
            cavities = joined(background(runs), 26 if c == 6 else 6)[1] - 1 if self.ndim == 3 else 0
            euler = euler_number(self._mask(side), c)
            self._kept[key] = Betti(pieces, pieces + cavities - euler, cavities)
        found: Betti = self._kept[key]
        return found

    def holes(self, side: Side, connectivity: str) -> int:
        """Return how many parts of the background the label closes in."""
        found = self.betti(side, connectivity)
        return found.tunnels if self.ndim == 2 else found.cavities

    def _mask(self, side: Side) -> NDArray[np.uint8]:
        from segcli.kernels.components import painted

        runs, _ = self._runs(side)
        whole = np.array([[0, n] for n in runs.shape], dtype=np.int64)
        return painted(runs, np.ones(1, dtype=np.bool_), whole)

    def mask(self, side: Side) -> Mask:
        """Return the label in its box, in the order of the image's axes."""
        mask = self._mask(side).view(np.bool_)
        mask = mask[0] if self.ndim == 2 else mask
        return mask.T if self.maps.reverse else mask

    def skeleton(self, side: Side, thinning: Thinning) -> Mask:
        """Return the skeleton in the same box. Thinning visits voxels in the order of the image's axes."""
        from segcli.kernels.skeleton import skeleton

        key = ("skeleton", side, thinning if self.ndim == 3 else "")
        if key not in self._kept:
            mask = np.ascontiguousarray(self.mask(side))
            # To scikit-image only an image of one slice is flat: a slice of a volume is thinned as a volume.
            thick = int(self.ndim == 3 and mask.shape[0] == 1 < self.maps.shape[0])
            padded = np.pad(mask, ((0, thick), *[(0, 0)] * (self.ndim - 1)))
            self._kept[key] = skeleton(padded, thinning)[: len(mask)]
        found: Mask = self._kept[key]
        return found

    # --- objects ------------------------------------------------------------------------------

    def objects(self, instances: Instances, connectivity: str) -> ObjectPairs:
        """Return the objects of both maps with their overlaps; those that are values ignore `connectivity`."""
        c = self.neighbours(connectivity)
        key = ("objects", instances, c if instances == "components" else 0)
        if key not in self._kept:
            self._kept[key] = ObjectPairs.of(*(self._objects(side, instances, c) for side in ("pred", "gt")))
        found: ObjectPairs = self._kept[key]
        return found

    def _objects(self, side: Literal["pred", "gt"], instances: Instances, connectivity: int, grown: int = 0) -> Objects:
        from segcli.kernels.components import Extents, extents, joined

        cut = side == "pred" and self.maps.valid is not None
        runs, ids = self._whole_runs(instances, grown) if cut else self._runs(side, instances, grown)
        count = len(ids)
        if instances == "components":
            runs, count = joined(runs, connectivity)
        void = None
        if cut:
            # An object is what was predicted: ignored voxels are taken from it, and do not cut it into pieces.
            runs, void = _outside(runs, self._ignored(grown), count)
        found = extents(runs, count)
        order = np.flatnonzero(found.sizes) if cut else np.arange(count)
        if instances == "components":
            # The largest is the first; of equal ones the first along the image's axes.
            axes = [2, 1, 0] if not self.maps.reverse else [0, 1, 2]
            order = order[np.lexsort((*(found.centres[order, axis] for axis in axes), -found.sizes[order]))]
            ids = list(range(1, len(order) + 1))
        else:
            ids = [ids[k] for k in order.tolist()] if cut else ids
        rank = np.zeros(count, dtype=np.int32)
        rank[order] = np.arange(len(order))
        runs = runs._replace(values=rank[runs.values])
        own = Extents(found.sizes[order], found.boxes[order], found.centres[order])
        return Objects(runs, ids, own, None if void is None else void[order])

    def _whole_runs(self, instances: Instances, grown: int) -> tuple[Runs, list[int]]:
        """Return the runs that the label has in the prediction, ignored voxels included, and its values."""
        from segcli.kernels.components import runs_of

        table = self.maps.whole_pred
        rows = self.maps.whole_rows(self.label)
        numbers = np.full(len(table.values), -1, dtype=np.int32)
        numbers[rows] = np.arange(len(rows)) if instances == "values" else 0
        return runs_of(self._part(table.codes, self.grown(grown)), numbers), table.values[rows].tolist()

    def _ignored(self, grown: int) -> Runs:
        """Return the runs of ignored voxels."""
        from segcli.kernels.components import runs_of

        codes, values = self._codes("gt", self.grown(grown))
        numbers = np.full(len(values) + 1, -1, dtype=np.int32)
        numbers[-1] = 0
        return runs_of(codes, numbers)

    def centre(self, objects: Objects, number: int) -> list[float]:
        """Return an object's centre of gravity as indices along the image's axes."""
        centre = (objects.extents.centres[number] + self.box[:, 0])[3 - self.ndim :]
        return [float(x) for x in (centre[::-1] if self.maps.reverse else centre)]

    def hd95(
        self, pred: Objects, chosen: list[int], gt: Objects, wanted: list[int], surface: Surface, grown: int = 0
    ) -> float | None:
        """Return the 95th percentile of the surface distances between some objects of either side.

        `None` where they have no surface of this kind: an open border of what fills the image.
        """
        from segcli.evidence.labelled import Labelled
        from segcli.evidence.measured import Measured
        from segcli.masks.labels import Label

        boxes = np.concatenate([pred.extents.boxes[chosen], gt.extents.boxes[wanted]])
        box = np.stack([boxes[:, :, 0].min(axis=0), boxes[:, :, 1].max(axis=0)], axis=1)
        origin = self.grown(grown)[:, 0]
        codes, values = self.maps.codes("gt")
        # One voxel more on every side: a neighbour, ignored or not, has a say in what is surface.
        shape = np.array((1,) * (3 - self.ndim) + codes.shape)
        wide = np.stack([np.maximum(box[:, 0] - 1, -origin), np.minimum(box[:, 1] + 1, shape - origin)], axis=1)
        inner = tuple(slice(*ends) for ends in box - wide[:, :1])
        crops = [self._painted(objects, own, box, wide, inner) for objects, own in ((pred, chosen), (gt, wanted))]
        valid = None
        if self.maps.valid is not None:
            valid = self._as_image(self._codes("gt", wide + origin[:, None])[0] != len(values))
        crop = Measured(Labelled(Maps(crops[0], crops[1], valid=valid), [Label("objects", (1,))]), self.spacing)
        d = crop.distances(0, surface)
        return None if d is None else max(d.percentile(95, "pred"), d.percentile(95, "gt"))

    def _painted(
        self, objects: Objects, chosen: list[int], box: NDArray[np.int64], wide: NDArray[np.int64], inner: Any
    ) -> NDArray[np.uint8]:
        """Return some objects of a box as a mask of the box one voxel wider."""
        from segcli.kernels.components import painted

        wanted = np.zeros(len(objects.ids), dtype=np.bool_)
        wanted[chosen] = True
        canvas = np.zeros(tuple(wide[:, 1] - wide[:, 0]), dtype=np.uint8)
        canvas[inner] = painted(objects.runs, wanted, box)
        return self._as_image(canvas)

    def _as_image(self, canvas: NDArray[Any]) -> NDArray[Any]:
        """Return a part of the grid, in the order of memory, with the axes of the image."""
        plane = np.ascontiguousarray(canvas[0] if self.ndim == 2 else canvas)
        return plane.T if self.maps.reverse else plane

    # --- candidates ---------------------------------------------------------------------------

    def candidates(
        self, soft: SoftPair | None, floor: float, iou: float, instances: Instances, connectivity: str
    ) -> Candidates:
        """Return the pieces of {p > floor} as detections of the true objects; without probabilities there are none.

        A piece has the confidence of its largest p, and hits every true object that shares voxels with it, with an
        IoU of `iou` or more. One that hits none, and of which more than half is ignored, is not false.
        """
        whole = max(self.maps.codes("gt")[0].shape)
        gt = self._objects("gt", instances, self.neighbours(connectivity), whole)
        if soft is None:
            return Candidates([], [], len(gt.ids), 1)
        pieces, confidence = self._pieces(soft, floor, self.neighbours(connectivity))
        pairs = ObjectPairs.of(pieces, gt)
        hits = pairs.iou >= iou
        best = np.zeros(len(gt.ids))
        np.maximum.at(best, pairs.gt[hits], confidence[pairs.pred[hits]])
        wrong = pieces.counted(pairs.pred[hits])
        wrong[pairs.pred[hits]] = False
        # A confidence is above the floor, so above 0.
        hit, false = (np.sort(side)[::-1].tolist() for side in (best[best > 0], confidence[wrong]))
        return Candidates(hit, false, len(gt.ids), 1)

    def _pieces(self, soft: SoftPair, floor: float, connectivity: int) -> tuple[Objects, NDArray[np.float64]]:
        """Return the connected pieces of {p > floor} in the whole grid, and the largest p of each."""
        from segcli.kernels.components import extents, joined, runs_of

        def volume(grid: NDArray[Any]) -> NDArray[Any]:
            # Axes in the order of memory, as the codes have them; values in that order too.
            grid = grid.T if self.maps.reverse else grid
            return np.ascontiguousarray(grid.reshape((1,) * (3 - self.ndim) + grid.shape))

        p = soft.given
        inside = volume(np.asarray(p > floor))
        numbers = np.array([-1, 0], dtype=np.int32)
        runs, count = joined(runs_of(inside.view(np.uint8), numbers), connectivity)
        void = None
        if soft.valid is not None:
            runs, void = _outside(runs, runs_of(volume(~soft.valid).view(np.uint8), numbers), count)
            inside &= volume(soft.valid)
        confidence = np.zeros(count)
        if len(runs.starts):
            lengths = (runs.stops - runs.starts).astype(np.int64)
            best = np.maximum.reduceat(volume(p)[inside].astype(np.float64), np.cumsum(lengths) - lengths)
            np.maximum.at(confidence, runs.values, best)
        return Objects(runs, list(range(1, count + 1)), extents(runs, count), void), confidence

    # --- lesions ------------------------------------------------------------------------------

    def lesions(self, dilation: int, min_volume: float, surface: Surface | None) -> Lesions:
        """Return the lesions of the gt as BraTS 2023 counts them; without a surface no distances.

        Pieces of the gt are one lesion where they meet once dilated. A predicted piece belongs to every
        lesion whose dilated form it meets, with all its voxels. Lesions of at most `min_volume` do not count,
        but what belongs to them is not false.
        """
        from scipy.ndimage import binary_dilation, generate_binary_structure

        from segcli.kernels.components import extents, joined, overlaps, painted, runs_of

        pred, pieces = (self._objects(side, "components", 26, dilation) for side in ("pred", "gt"))
        whole = np.array([[0, n] for n in pieces.runs.shape], dtype=np.int64)
        dilated = painted(pieces.runs, np.ones(len(pieces.ids), dtype=np.bool_), whole).view(np.bool_)
        if dilation:
            dilated = binary_dilation(dilated, generate_binary_structure(3, 2), iterations=dilation)
        zones, count = joined(runs_of(dilated.view(np.uint8), np.array([-1, 0], dtype=np.int32)), 26)
        piece, zone, _ = overlaps(pieces.runs, zones)
        zone_of = np.zeros(len(pieces.ids), dtype=np.int32)
        zone_of[piece] = zone
        runs = pieces.runs._replace(values=zone_of[pieces.runs.values])
        gt = Objects(runs, list(range(count)), extents(runs, count))
        met_by, met, _ = overlaps(pred.runs, zones)
        _, own, shared = overlaps(pred.runs, gt.runs)
        common = np.bincount(own, weights=shared, minlength=count)
        near = np.bincount(met, weights=pred.sizes[met_by], minlength=count)
        counted = np.flatnonzero(gt.sizes * float(np.prod(self.spacing)) > min_volume)
        met_by, met = met_by[np.argsort(met, kind="stable")], np.sort(met)
        distances: list[float | None] = []
        if surface is not None:
            for lesion in counted.tolist():
                near_by = met_by[slice(*np.searchsorted(met, (lesion, lesion + 1)))].tolist()
                distances.append(self.hd95(pred, near_by, gt, [lesion], surface, dilation) if near_by else None)
        dice = 2 * common[counted] / (near[counted] + gt.sizes[counted])
        false = pred.counted(met_by)
        false[met_by] = False
        return Lesions([float(d) for d in dice], distances, int(np.count_nonzero(false)))


def _outside(runs: Runs, ignored: Runs, count: int) -> tuple[Runs, NDArray[np.int64]]:
    """Return the runs of `count` objects without ignored voxels, and how many of those each has."""
    from segcli.kernels.components import overlaps, without

    numbers, _, inside = overlaps(runs, ignored)
    void = np.zeros(count, dtype=np.int64)
    void[numbers] = inside
    return without(runs, ignored), void
