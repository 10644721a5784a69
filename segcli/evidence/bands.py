"""Bands along the boundaries of two masks, and boundaries of one pixel: what the boundary metrics compare.

Each function takes measured maps and the index of one of their labels, and works on the box around that label.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.distances import SLACK
from segcli.evidence.maps import SIDES, Side

if TYPE_CHECKING:
    from segcli.evidence.labelled import Labelled
    from segcli.evidence.measured import Measured

Mask = NDArray[np.bool_]


class Bands(NamedTuple):
    """Voxels in the band of the prediction, in that of the ground truth, and in both."""

    pred: int
    gt: int
    both: int

    @property
    def either(self) -> int:
        return self.pred + self.gt - self.both


def euclidean_bands(case: Measured, index: int, width: float | None) -> Bands:
    """Count the voxels of both masks at most `width` from their outside; `None` is 2% of the diagonal.

    `width` is in the unit of the spacing; the default is at least one voxel. Outside the image is outside.
    """
    width = max(0.02 * case.diagonal, min(case.spacing)) if width is None else width
    box = _box(case.labelled, index)
    if box is None:
        return Bands(0, 0, 0)
    return _count(*(_euclidean_band(case, side, index, box, width) for side in SIDES))


def chessboard_bands(view: Labelled, index: int, fraction: float) -> Bands:
    """Count the voxels that erosion by 3x3 (3x3x3) removes, repeated for `fraction` of the diagonal in voxels.

    The number of erosions is rounded and at least 1. Outside the image is outside.
    """
    times = max(round(fraction * math.sqrt(sum(n * n for n in view.maps.shape))), 1)
    box = _box(view, index)
    if box is None:
        return Bands(0, 0, 0)
    bands = []
    for side in SIDES:
        inside, ignored = view.inside(side, index, box)
        # Beyond the box, but for ignored voxels, all is outside: with those the box is the image.
        bands.append(inside & ~_eroded(inside | ignored, times))
    return _count(*bands)


def davis_boundaries(view: Labelled, index: int, bound: float) -> tuple[float, float] | None:
    """Return the precision and recall of DAVIS: shares of boundary pixels at most `bound` from one of the other.

    A boundary pixel differs from one of its neighbours to the right, below, and between (of 2x2, or of 2x2x2);
    what is outside the image is no neighbour, and ignored voxels are background. `bound` below 1 is a fraction
    of the image's diagonal, rounded up to pixels; distances are in pixels. Where neither mask has a boundary
    both shares are 1, where only one has, both are 0; `None` where both masks are empty.
    """
    from segcli.kernels.nearest import distances_to

    pixels = bound if bound >= 1 else math.ceil(bound * math.sqrt(sum(n * n for n in view.maps.shape)))
    box = _box(view, index)
    if box is None:
        return None
    points = []
    for side in SIDES:
        inside, _ = view.inside(side, index, view.maps.grown(box))
        points.append(np.argwhere(_forward_boundary(inside)).astype(np.int32))
    pred, gt = points
    if not (len(pred) and len(gt)):
        neither = float(len(pred) == len(gt))
        return neither, neither
    shares = [distances_to(b, a, (1.0,) * a.shape[1]) <= pixels * SLACK for a, b in ((pred, gt), (gt, pred))]
    return float(shares[0].mean()), float(shares[1].mean())


def _box(view: Labelled, index: int) -> list[slice] | None:
    """Return the box around the label in both maps; `None` where neither has it.

    Ignored voxels are no neighbours, so the nearest one may lie outside the label's box: then it is the image.
    """
    box, maps = view.box(index), view.maps
    if box is None or maps.valid is None:
        return box
    return [slice(0, n) for n in maps.in_memory(maps.shape)]


def _count(pred: Mask, gt: Mask) -> Bands:
    return Bands(*(int(np.count_nonzero(band)) for band in (pred, gt, pred & gt)))


def _euclidean_band(case: Measured, side: Side, index: int, box: list[slice], width: float) -> Mask:
    from segcli.kernels.distance_transform import distance_transform

    grown = case.maps.grown(box)
    inside, ignored = case.labelled.inside(side, index, grown)
    # Beyond the image all is outside; where the box was grown the image itself says what is there.
    pads = [(int(g.start == b.start), int(g.stop == b.stop)) for g, b in zip(grown, box, strict=True)]
    outside = np.pad(~(inside | ignored), pads, constant_values=True)
    # Squared steps are added in the order of the array's axes: a distance of just the width is the same in any layout.
    by_axis = np.ascontiguousarray(outside.T if case.maps.reverse else outside)
    near = distance_transform(by_axis, case.spacing) <= width * SLACK
    near = near.T if case.maps.reverse else near
    inner = tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))
    kept = tuple(slice(s.start + before, s.stop + before) for s, (before, _) in zip(inner, pads, strict=True))
    return np.asarray(inside[inner] & near[kept])


def _eroded(mask: Mask, times: int) -> Mask:
    """Return the voxels whose cube of 2 times + 1 voxels is all in the mask; beyond the array nothing is."""
    for axis in range(mask.ndim):
        along = np.moveaxis(mask, axis, -1)
        sums = np.zeros((*along.shape[:-1], along.shape[-1] + 1), dtype=np.int32)
        np.cumsum(along, axis=-1, out=sums[..., 1:])
        kept = np.zeros_like(along)
        size = along.shape[-1] - 2 * times
        if size > 0:
            kept[..., times : times + size] = sums[..., 2 * times + 1 :] - sums[..., :size] == 2 * times + 1
        mask = np.moveaxis(kept, -1, axis)
    return mask


def _forward_boundary(mask: Mask) -> Mask:
    found = np.zeros_like(mask)
    for steps in itertools.product((0, 1), repeat=mask.ndim):
        here = tuple(slice(0, n - step) for n, step in zip(mask.shape, steps, strict=True))
        there = tuple(slice(step, None) for step in steps)
        found[here] |= mask[here] != mask[there]
    return found
