"""Ways to divide the voxels of a pair: by kind, label, component, band and slice.

A division is found once and holds for any voxel map: it numbers the voxels, and every voxel that counts
has one number.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.evidence.classes import SoftClasses

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from segcli.evidence.soft import SoftPair, Vector

    Evidence = SoftPair | SoftClasses

#: Upper ends of the distance bands, in the unit of the spacing.
BANDS = (1.0, 3.0, 10.0)
#: The only band where the gt is empty or full.
NO_BOUNDARY = "no boundary"
#: What is said of a component of gt, and of one of pred, that the other side has nothing of.
ISLANDS = ("missed", "false")


@dataclass(frozen=True)
class Division:
    """A partition of the voxels that count: voxel i is in the part called `names[numbers[i]]`.

    `voxels` has the size of each part, `notes` what else is to be said of it. `rest` is the name of the
    part that is none of the objects divided (what lies outside the components), "" where there is none.
    """

    names: list[str]
    numbers: NDArray[np.intp]
    voxels: list[int]
    notes: list[str]
    rest: str = ""

    def sums(self, values: Vector) -> list[float]:
        """Return what the parts have of a voxel map."""
        found: list[float] = np.bincount(self.numbers, weights=values, minlength=len(self.names)).tolist()
        return found


def _division(
    names: list[str], numbers: NDArray[np.intp], *, notes: list[str] | None = None, rest: str = ""
) -> Division:
    voxels = np.bincount(numbers, minlength=len(names)).tolist()
    return Division(names, numbers, voxels, notes or [""] * len(names), rest)


def divide(way: str, label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    """Return the division of a label's voxels by `way`; by component there are two, of gt and of pred."""
    return WAYS[way](label, pair, predicted)


def _by_kind(label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    del label
    names, numbers = ["tn", "fn", "fp", "tp"], 2 * predicted + pair.inside_gt.astype(np.intp)
    if isinstance(pair, SoftClasses):  # one class taken for another is neither hit nor miss
        names, numbers = [*names, "confused"], np.where((numbers == 3) & (pair.decided != pair.target), 4, numbers)
    return [_division(names, numbers)]


def _by_label(label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    if isinstance(pair, SoftClasses):
        return [_division(list(pair.names), pair.target)]
    count = int(np.count_nonzero(predicted | pair.inside_gt))
    return [Division([label], np.zeros(pair.n, np.intp), [count], [""])]


def _by_component(label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    del label
    found = []
    sides = ("gt", pair.inside_gt, predicted, ISLANDS[0]), ("pred", predicted, pair.inside_gt, ISLANDS[1])
    for side, inside, other, lost in sides:
        numbers, count = _components(pair, inside)
        sizes = np.bincount(numbers, minlength=count + 1)
        shared = np.bincount(numbers, weights=other, minlength=count + 1)
        overlaps = [lost if shared[k] == 0 else f"{shared[k] / sizes[k]:.0%} overlap" for k in range(1, count + 1)]
        outside = f"outside {side}"
        names = [outside, *(f"{side} #{k}" for k in range(1, count + 1))]
        found.append(_division(names, numbers, notes=["", *overlaps], rest=outside))
    return found


def _components(pair: Evidence, inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Return the connected component (26 neighbours, 8 in 2-D) of each voxel, 0 outside, and their number."""
    from scipy.ndimage import label

    grid = pair.grid(inside.astype(np.float64)) > 0
    numbers, count = label(grid, np.ones((3,) * grid.ndim))
    return pair.vector(numbers).astype(np.intp), int(count)


def _by_band(label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    del label, predicted
    distance = pair.boundary_distance("gt", "mm")
    if not distance.any():
        return [_division([NO_BOUNDARY], np.zeros(pair.n, np.intp))]
    ends = ["0", *(f"{end:g}" for end in BANDS)]
    names = [f"{a}-{b}" for a, b in itertools.pairwise(ends)] + [f">{ends[-1]}"]
    return [_division(names, np.searchsorted(BANDS, distance))]


def _by_slice(label: str, pair: Evidence, predicted: NDArray[np.bool_]) -> list[Division]:
    del label, predicted
    axis = slice_axis(pair)
    number = pair.vector(np.indices(pair.shape, sparse=True)[axis] + np.zeros(pair.shape)).astype(np.intp)
    return [_division([str(k) for k in range(pair.shape[axis])], number)]


def slice_axis(pair: Evidence) -> int:
    """Return the axis that slices stand on: that of the largest spacing, the last of several."""
    spacing = pair.spacing
    return max(range(len(spacing)), key=lambda axis: (spacing[axis], axis)) if len(spacing) == 3 else 0


WAYS: dict[str, Callable[[str, Evidence, NDArray[np.bool_]], list[Division]]] = {
    "kind": _by_kind,
    "label": _by_label,
    "component": _by_component,
    "band": _by_band,
    "slice": _by_slice,
}
