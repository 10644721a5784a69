"""Why a loss has its value: the voxel map of one loss, divided by kind, label, component, band and slice.

Every division is a partition of the voxels that count, so its parts add up to the loss. Where a loss has
no exact map, what the map leaves over is stated as the residual.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.averaging import ALL, check_average, weights
from segcli.classes import SoftClasses
from segcli.errors import UsageError
from segcli.loading import Loaded, load, reading_of
from segcli.measure import BoundMeasure, bind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.masks.labels import Label
    from segcli.soft import SoftPair, Vector

    Evidence = SoftPair | SoftClasses

WAYS = ("kind", "label", "component", "band", "slice")
#: Upper ends of the distance bands, in the unit of the spacing.
BANDS = (1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of the voxels contributes: `value` of the loss, on so many voxels."""

    by: str
    label: str
    name: str
    value: float
    voxels: int
    note: str = ""


@dataclass(frozen=True)
class Inspection:
    """A loss taken apart. `map` has one number for each voxel; with `residual` they add up to `value`.

    `gradient` is dL/dp on the grid, (C, *shape) for several channels, `None` where the loss has none.
    """

    loss: str
    value: float
    optimum: float | None
    residual: float
    parts: list[Part]
    map: NDArray[np.float64]
    gradient: NDArray[np.float64] | None
    loaded: Loaded = field(repr=False)
    average: str = "macro"

    def share(self, part: Part) -> float | None:
        """Return a part's share of the value; `None` where the value is 0."""
        return part.value / self.value if self.value else None


def inspect(
    pred: Any,
    gt: Any,
    loss: str,
    *,
    by: str | Iterable[str] | None = None,
    background: bool = True,
    average: str = "macro",
    strict: bool = False,
    **reading: Any,
) -> Inspection:
    """Take a loss of a pair apart; the keywords are those of `segcli.score`.

    `by` names divisions (`WAYS`); without it all that make sense are given. The value of several channels is
    their mean as `average` says, and so are its parts. Raises `UsageError` for a loss
    that has no voxel map.
    """
    bound = bind(loss, "loss")
    if bound.measure.voxel_map is None:
        raise UsageError(
            f"{bound.measure.name} has no voxel map: it cannot be taken apart.",
            hint="segcli catalog shows the attribution of each loss",
            code="inspect.map",
        )
    ways = [w.strip() for w in by.split(",") if w.strip()] if isinstance(by, str) else list(by or ())
    unknown = [w for w in ways if w not in WAYS]
    if unknown:
        raise UsageError(f"--by {unknown[0]} is not one of {', '.join(WAYS)}.", code="inspect.by")
    how = reading_of(**reading)
    if how.stack:
        raise UsageError("inspect takes one image at a time, no --stack.", code="inspect.stack")
    loaded = load(pred, gt, how, strict=strict)[0]
    channels = [c for c in loaded.channels if background or c.values != (0,) or len(loaded.channels) == 1]
    if not ways:  # the rows of an image are no slices that anybody looks at
        ways = [w for w in WAYS if w != "slice" or loaded.grid.gt.ndim == 3]
    return _inspect(bound, loaded, channels, ways, check_average(average))


def _inspect(
    bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], ways: Sequence[str], average: str
) -> Inspection:
    total = np.zeros(loaded.grid.gt.shape)
    gradients: list[NDArray[np.float64]] = []
    parts: list[Part] = []
    value, optimum = 0.0, 0.0
    for one in _pieces(bound, loaded, channels, average):
        value += one.weight * one.value
        optimum += one.weight * one.optimum
        contribution = one.weight * one.map
        total += one.evidence.grid(contribution)
        if one.gradient is not None:
            gradients.append(one.evidence.grid(one.weight * one.gradient))
        for way in ways:
            parts += DIVISIONS[way](one.label, one.evidence, one.predicted, contribution)
    gradient = None
    if len(gradients) == (1 if bound.over_classes else len(channels)):
        gradient = gradients[0] if len(gradients) == 1 else np.stack(gradients)
    return Inspection(
        loss=bound.name,
        value=value,
        optimum=optimum,
        residual=value - float(total.sum()),
        parts=parts,
        map=total,
        gradient=gradient,
        loaded=loaded,
        average=average,
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """One channel of a loss, or all classes at once: what it weighs in the value and what it consists of."""

    label: str
    weight: float
    value: float
    optimum: float
    evidence: Evidence
    map: Vector
    gradient: NDArray[np.float64] | None
    predicted: NDArray[np.bool_]


def _pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], average: str) -> Iterator[_Piece]:
    if bound.over_classes:
        classes = loaded.classes()
        yield _piece(bound, ALL, 1.0, classes, classes.predicted)
        return
    if average == "micro" and len(channels) > 1:
        yield from _pooled_pieces(bound, loaded, channels)
        return
    weight = weights(average, loaded.sizes(channels))
    if not any(weight):
        raise UsageError(
            f"--average {average}: the ground truth has none of the channels.",
            hint="--average macro counts each the same",
            code="inspect.undefined",
        )
    for label, share in zip(channels, weight, strict=True):
        pair = loaded.soft(label)
        predicted = pair.vector(loaded.predicted(label)) > 0
        yield _piece(bound, label.name, share / sum(weight), pair, predicted)


def _piece(bound: BoundMeasure, label: str, weight: float, evidence: Evidence, predicted: NDArray[np.bool_]) -> _Piece:
    value = bound(evidence)
    if value is None:
        raise UsageError(f"{bound.name} is undefined for {label}.", code="inspect.undefined")
    best = bound(bound.perfect(evidence)) or 0.0
    voxel_map, gradient = bound.voxel_map(evidence), bound.gradient(evidence, "p")
    return _Piece(label, weight, value, best, evidence, voxel_map, gradient, predicted)


def _pooled_pieces(bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label]) -> Iterator[_Piece]:
    """Return each channel's part of the loss of all channels pooled: the parts add up to it."""
    from segcli.pooled import NoGridError, PooledPair

    pooled = PooledPair([loaded.soft(label) for label in channels])
    try:
        whole = _piece(bound, "pooled", 1.0, pooled, np.zeros(0, dtype=bool))
    except NoGridError:
        raise UsageError(
            f"{bound.name} has no micro average: it reads neighbours.",
            hint="--average macro takes the mean over the channels",
            code="inspect.average",
        ) from None
    maps = pooled.split(whole.map)
    slopes = [None] * len(channels) if whole.gradient is None else pooled.split(whole.gradient)
    for number, (label, pair) in enumerate(zip(channels, pooled.parts, strict=True)):
        own = whole.value if number == 0 else 0.0  # the value is of no single channel
        best = whole.optimum if number == 0 else 0.0
        predicted = pair.vector(loaded.predicted(label)) > 0
        yield _Piece(label.name, 1.0, own, best, pair, maps[number], slopes[number], predicted)


# --- divisions: each returns parts that cover every voxel once ------------------------------------


def _by_kind(label: str, pair: Evidence, predicted: NDArray[np.bool_], values: Vector) -> list[Part]:
    inside = pair.inside_gt
    both = predicted & inside
    kinds = {"fp": predicted & ~inside, "fn": ~predicted & inside, "tp": both, "tn": ~predicted & ~inside}
    if isinstance(pair, SoftClasses):  # a class taken for another one is neither hit nor miss
        right = pair.decided == pair.target
        kinds |= {"tp": both & right, "confused": both & ~right}
    return [_part("kind", label, name, values, where) for name, where in kinds.items()]


def _by_label(label: str, pair: Evidence, predicted: NDArray[np.bool_], values: Vector) -> list[Part]:
    if isinstance(pair, SoftClasses):
        return [_part("label", name, name, values, pair.target == c) for c, name in enumerate(pair.names)]
    return [Part("label", label, label, float(values.sum()), int(np.count_nonzero(predicted | pair.inside_gt)))]


def _by_component(label: str, pair: Evidence, predicted: NDArray[np.bool_], values: Vector) -> list[Part]:
    parts = []
    for side, inside, other in (("gt", pair.inside_gt, predicted), ("pred", predicted, pair.inside_gt)):
        numbers, count = _components(pair, inside)
        sums = np.bincount(numbers, weights=values, minlength=count + 1)
        sizes = np.bincount(numbers, minlength=count + 1)
        shared = np.bincount(numbers, weights=other, minlength=count + 1)
        lost = "missed" if side == "gt" else "false"
        for k in range(1, count + 1):
            note = lost if shared[k] == 0 else f"{shared[k] / sizes[k]:.0%} overlap"
            parts.append(Part("component", label, f"{side} #{k}", float(sums[k]), int(sizes[k]), note))
        parts.append(Part("component", label, f"outside {side}", float(sums[0]), int(sizes[0])))
    return parts


def _components(pair: Evidence, inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Return the connected component (26 neighbours, 8 in 2-D) of each voxel, 0 outside, and their number."""
    from scipy.ndimage import label

    grid = pair.grid(inside.astype(np.float64)) > 0
    numbers, count = label(grid, np.ones((3,) * grid.ndim))
    return pair.vector(numbers).astype(np.intp), int(count)


def _by_band(label: str, pair: Evidence, predicted: NDArray[np.bool_], values: Vector) -> list[Part]:
    del predicted
    distance = pair.boundary_distance("gt", "mm")
    if not distance.any():
        return [_part("band", label, "no boundary", values, np.ones(pair.n, dtype=bool))]
    number = np.searchsorted(BANDS, distance)
    ends = ["0", *(f"{end:g}" for end in BANDS)]
    names = [f"{a}-{b}" for a, b in itertools.pairwise(ends)] + [f">{ends[-1]}"]
    return [_part("band", label, name, values, number == k) for k, name in enumerate(names)]


def _by_slice(label: str, pair: Evidence, predicted: NDArray[np.bool_], values: Vector) -> list[Part]:
    del predicted
    axis = slice_axis(pair)
    along = np.moveaxis(np.indices(pair.shape)[axis], 0, 0)
    number = pair.vector(along).astype(np.intp)
    sums = np.bincount(number, weights=values, minlength=pair.shape[axis])
    sizes = np.bincount(number, minlength=pair.shape[axis])
    return [Part("slice", label, str(k), float(s), int(n)) for k, (s, n) in enumerate(zip(sums, sizes, strict=True))]


def slice_axis(pair: Evidence) -> int:
    """Return the axis that slices stand on: that of the largest spacing, the last of several."""
    spacing = pair.spacing
    return max(range(len(spacing)), key=lambda axis: (spacing[axis], axis)) if len(spacing) == 3 else 0


def _part(by: str, label: str, name: str, values: Vector, where: NDArray[np.bool_]) -> Part:
    return Part(by, label, name, float(values[where].sum()), int(np.count_nonzero(where)))


DIVISIONS = {
    "kind": _by_kind,
    "label": _by_label,
    "component": _by_component,
    "band": _by_band,
    "slice": _by_slice,
}
