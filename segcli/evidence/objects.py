"""Objects of two maps and how they belong together: overlaps from one pass over runs, then matching."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.parts import Aggregated, Detected
from segcli.kernels.components import Extents, Runs, overlaps

Ints = NDArray[np.int32]
Vector = NDArray[np.float64]
Matching = Literal["optimal", "greedy"]


class Objects(NamedTuple):
    """The objects of one map: runs whose value is the number of an object (from 0), and the id of each.

    They are of the voxels that count; `void` says how many more each has in ignored voxels, `None` for none.
    """

    runs: Runs
    ids: list[int]
    extents: Extents
    void: NDArray[np.int64] | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        return self.extents.sizes

    def counted(self, used: Any) -> NDArray[np.bool_]:
        """Return which objects count, given the numbers of those that belong to one of the other map.

        What belongs to none and lies in ignored voxels for more than its half is neither true nor false.
        """
        kept = np.ones(len(self.ids), dtype=np.bool_)
        if self.void is not None:
            kept = self.void <= self.sizes
            kept[used] = True
        return kept


class Match(NamedTuple):
    """Objects that were matched one to one: their numbers, their overlap, and how many objects count."""

    pred: Ints
    gt: Ints
    iou: Vector
    dice: Vector
    n_pred: int
    n_gt: int

    @property
    def tp(self) -> int:
        return len(self.pred)

    @property
    def fp(self) -> int:
        return self.n_pred - self.tp

    @property
    def fn(self) -> int:
        return self.n_gt - self.tp


@dataclass(frozen=True)
class ObjectPairs:
    """Objects of both maps and every pair of them that shares voxels: numbers, and voxels in both.

    Ignored voxels are void as in Kirillov et al. 2019 (section 4.2): they are taken from an object before it is
    compared, and a predicted one that then has no partner is no false one if more than half of it was void.
    """

    objects_pred: Objects
    objects_gt: Objects
    pred: Ints
    gt: Ints
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, pred: Objects, gt: Objects) -> ObjectPairs:
        return cls(pred, gt, *overlaps(pred.runs, gt.runs))

    @cached_property
    def iou(self) -> Vector:
        return np.asarray(self.shared / self.united)

    @cached_property
    def united(self) -> NDArray[np.int64]:
        """Return the voxels in either object of each pair."""
        return np.asarray(self.objects_pred.sizes[self.pred] + self.objects_gt.sizes[self.gt] - self.shared)

    def match(self, threshold: float, matching: Matching = "optimal", *, inclusive: bool = False) -> Match:
        """Return the pairs whose IoU is above `threshold` (or equal to it), each object in one pair at most.

        Above 1/2 no object can be in two pairs, and there is nothing to choose. Else `optimal` takes the most
        pairs, and of as many those with the greatest sum of IoU; `greedy` takes the pair with the greatest IoU
        first and never gives it back.
        """
        possible = np.flatnonzero((self.iou >= threshold) if inclusive else (self.iou > threshold))
        chosen = possible
        if len(np.unique(self.pred[possible])) < len(possible) or len(np.unique(self.gt[possible])) < len(possible):
            chosen = self._greedy(possible) if matching == "greedy" else self._optimal(possible)
        pred, gt = self.pred[chosen], self.gt[chosen]
        dice = 2 * self.shared[chosen] / (self.objects_pred.sizes[pred] + self.objects_gt.sizes[gt])
        n_pred = int(np.count_nonzero(self.objects_pred.counted(pred)))
        return Match(pred, gt, self.iou[chosen], dice, n_pred, len(self.objects_gt.ids))

    def detected(self, threshold: float, matching: Literal["optimal", "greedy", "overlap"]) -> Detected:
        """Return how many objects were found: by a match, or with `overlap` by any shared voxel."""
        n_gt = len(self.objects_gt.ids)
        if matching == "overlap":
            n_pred = int(np.count_nonzero(self.objects_pred.counted(self.pred)))
            return Detected(len(np.unique(self.gt)), len(np.unique(self.pred)), n_gt, n_pred)
        found = self.match(threshold, matching)
        return Detected(found.tp, found.tp, n_gt, found.n_pred)

    def best_pairs(self) -> NDArray[np.intp]:
        """Return pairs that share voxels, each object in one at most, with the greatest sum of IoU."""
        return self._optimal(np.arange(len(self.iou)), most=False)

    def _greedy(self, possible: NDArray[np.intp]) -> NDArray[np.intp]:
        # Of equal IoU the larger pair first: that depends on no numbering.
        order = np.lexsort((-self.shared[possible], -self.iou[possible]))
        taken: tuple[set[int], set[int]] = (set(), set())
        chosen = []
        for k in possible[order].tolist():
            pred, gt = int(self.pred[k]), int(self.gt[k])
            if pred not in taken[0] and gt not in taken[1]:
                taken[0].add(pred)
                taken[1].add(gt)
                chosen.append(k)
        return np.array(sorted(chosen), dtype=np.intp)

    def _optimal(self, possible: NDArray[np.intp], *, most: bool = True) -> NDArray[np.intp]:
        """Return the best assignment: the greatest sum of IoU, with `most` among those of the most pairs."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching

        if not len(possible):
            return possible
        preds, row = np.unique(self.pred[possible], return_inverse=True)
        gts, column = np.unique(self.gt[possible], return_inverse=True)
        # Divided so, all IoU together stay below 1: one pair more outweighs any overlap.
        gain = 1 + self.iou[possible] / (2 * len(possible)) if most else self.iou[possible]
        # Each pred may also stay alone, in a column of its own: then there is always a full matching. Each gains 1
        # more than it is worth, since the solver takes a weight of 0 for no edge.
        alone = np.arange(len(preds))
        weights = np.concatenate([gain + 1, np.ones(len(preds))])
        places = np.concatenate([row, alone]), np.concatenate([column, len(gts) + alone])
        graph = coo_array((weights, places), shape=(len(preds), len(gts) + len(preds))).tocsr()
        rows, columns = min_weight_full_bipartite_matching(graph, maximize=True)
        real = columns < len(gts)
        chosen = rows[real] * len(gts) + columns[real]
        return np.asarray(possible[np.isin(row.astype(np.int64) * len(gts) + column, chosen)])

    def aggregated(self, *, once: bool) -> Aggregated:
        """Return the voxels that true objects share with their best fits, and all voxels of these and the rest.

        With `once` an object is in one pair at most; else one predicted object may serve several true ones.
        """
        sizes_pred, sizes_gt = self.objects_pred.sizes, self.objects_gt.sizes
        if once:
            pairs = self.best_pairs()
            shared = int(self.shared[pairs].sum())
            counted = sizes_pred[self.objects_pred.counted(self.pred[pairs])]
            return Aggregated(shared, int(counted.sum() + sizes_gt.sum()) - shared)
        best, found = self.best_of_gt()
        used = best[found]
        unused = self.objects_pred.counted(self.pred[used])
        unused[self.pred[used]] = False
        united = self.united[used].sum() + sizes_gt[~found].sum() + sizes_pred[unused].sum()
        return Aggregated(int(self.shared[used].sum()), int(united))

    def best_of_gt(self) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return for each gt object the pair with the greatest IoU, and which objects have one."""
        order = np.lexsort((self.shared, self.iou))
        best = np.zeros(len(self.objects_gt.ids), dtype=np.intp)
        found = np.zeros(len(best), dtype=np.bool_)
        best[self.gt[order]] = order  # the last one written stays
        found[self.gt] = True
        return best, found
