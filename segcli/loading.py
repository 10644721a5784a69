"""From files or arrays to a pair on one grid with its labels: the options checked, both sides read and matched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import InputError, UsageError
from segcli.masks.labels import BACKGROUND, Label, LabelsLike, parse_labels, resolve
from segcli.masks.mask import Mask, MaskKind, Note
from segcli.masks.reading import Reading

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair
    from segcli.masks.matching import Grid


def reading_of(
    *,
    labels: LabelsLike = None,
    spacing: float | Sequence[float] | None = None,
    from_logits: bool = False,
    kind: MaskKind | None = None,
    **options: Any,
) -> Reading:
    """Return the checked `Reading` of a set of keyword options."""
    if from_logits:
        if kind not in (None, "logits"):
            raise UsageError(f"--from-logits and --kind {kind} contradict each other.", code="kind.twice")
        kind = "logits"
    named = parse_labels(labels)
    if named is not None and named.ignore is not None and options.get("ignore_label") is None:
        options["ignore_label"] = named.ignore
    geometry = options.get("on_geometry", "error")
    if geometry not in ("error", "reorient", "ignore"):
        raise UsageError(f"--on-geometry {geometry} is not error, reorient or ignore.", code="geometry.option")
    reading = Reading(
        labels=None if named is None else named.labels, kind=kind, spacing=_spacing_numbers(spacing), **options
    )
    if not 0 <= reading.threshold < 1:
        raise UsageError(f"--threshold {reading.threshold:g} is not in [0, 1).", code="threshold")
    if reading.prob_scale is not None:
        if not 0 < reading.prob_scale < float("inf"):
            raise UsageError(f"--prob-scale {reading.prob_scale:g} must be above 0.", code="prob-scale")
        if kind not in (None, "probability"):
            raise UsageError(f"--prob-scale and --kind {kind} contradict each other.", code="kind.twice")
    return reading


#: Voxel sizes beyond these, in mm, are a mistake of units; far beyond them squares overflow.
SMALLEST_SPACING, LARGEST_SPACING = 1e-9, 1e9


def _spacing_numbers(spacing: Any) -> tuple[float, ...] | None:
    if spacing is None:
        return None
    parts = spacing.split(",") if isinstance(spacing, str) else [spacing] if isinstance(spacing, Real) else spacing
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise UsageError(
            f"--spacing {spacing} is not a list of numbers.", hint=_SPACING_HINT, code="geometry.spacing"
        ) from None
    if not numbers or not all(SMALLEST_SPACING <= s <= LARGEST_SPACING for s in numbers):
        raise UsageError(
            f"--spacing {','.join(f'{s:g}' for s in numbers)}: every number must be above 0, "
            f"from {SMALLEST_SPACING:g} to {LARGEST_SPACING:g}.",
            hint=_SPACING_HINT,
            code="geometry.spacing",
        )
    return numbers


_SPACING_HINT = "mm per voxel in array axis order, for example --spacing 0.8,0.8,2"


@dataclass(frozen=True)
class Loaded:
    """A pair on one grid with its labels: the hard `case` for metrics, `soft` pairs for losses."""

    name: str
    pred: Mask
    gt: Mask
    grid: Grid
    case: Case
    binary: bool
    notes: list[Note]

    @property
    def labels(self) -> list[Label]:
        return self.case.labels

    @property
    def channels(self) -> list[Label]:
        """Return the labels that losses average over, whatever rows were asked for.

        The channels of the prediction, the background among them; of a hard multi-label map the values
        that occur. A binary pair or a single probability map has one.
        """
        if self.binary or (self.grid.channels == 0 and self.grid.prob is not None):
            return self.labels
        occurring = {*self.case.label_values("pred"), *self.case.label_values("gt"), *range(self.grid.channels)}
        named = {x.values: x for x in reversed(self.labels) if x.values is not None and not x.is_region}
        taken = {x.name for x in self.labels}
        named.setdefault((0,), Label("0", (0,)) if BACKGROUND.name in taken else BACKGROUND)
        return [named.get((v,)) or Label(str(v), (v,)) for v in sorted({0, *occurring})]

    def predicted(self, label: Label) -> Any:
        """Return where the hard prediction has `label`, as a boolean grid."""
        one_map = self.grid.prob is not None and self.grid.channels == 0
        return self.grid.pred != 0 if one_map else _member(self.grid.pred, label)

    def soft(self, label: Label) -> SoftPair:
        """Return the probabilities of `label` (0 and 1 for a hard mask) against its ground truth."""
        from segcli.evidence.soft import SoftPair

        grid = self.grid
        y: Any = _member(grid.gt, label)
        if grid.soft_gt is not None:
            y = 1 - grid.soft_gt if label.values == (0,) else grid.soft_gt
        z = None
        if grid.prob is not None and grid.channels == 0:
            p, z = grid.prob, grid.logits
        else:
            p = self._probability(label)
        return SoftPair(
            p, y, z=z, spacing=grid.spacing, valid=grid.valid, hard=grid.prob is None, threshold=grid.threshold
        )

    def classes(self, labels: Sequence[Label] | None = None) -> SoftClasses:
        """Return the probabilities of all classes at once against the ground truth.

        The classes are the channels, or `labels`; a binary pair or a single map has two, the background and
        the rest.
        """
        import numpy as np

        from segcli.evidence.classes import SoftClasses

        grid, labels = self.grid, self.channels if labels is None else list(labels)
        if len(labels) == 1:
            labels = [BACKGROUND, *labels]
            one = self.soft(labels[1])
            p, y = one.grid(one.p, 0.0), one.grid(one.y, 0.0)
            probabilities, truth = np.stack([1 - p, p]), np.stack([1 - y, y])
            z = None if one.z is None else np.stack([np.zeros(grid.gt.shape), one.grid(one.z)])
        else:
            probabilities = np.stack([self._probability(label) for label in labels])
            truth = np.stack([_member(grid.gt, label) for label in labels])
            z = grid.logits if len(labels) == grid.channels else None
        return SoftClasses(
            probabilities,
            truth,
            names=[label.name for label in labels],
            z=z,
            spacing=grid.spacing,
            valid=grid.valid,
            hard=grid.prob is None,
            threshold=grid.threshold,
        )

    def entropy(self) -> Any:
        """Return how open the class of each voxel is, in bits on the grid of the ground truth; 0 in ignored voxels.

        The classes are the channels of the prediction; those of a single map are its label and the background. Raises
        `InputError` for a hard mask.
        """
        import numpy as np

        from segcli.evidence.classes import entropy

        grid = self.grid
        if grid.prob is None:
            raise InputError(
                f"{self.pred.name}: entropy needs probabilities; this is a hard mask.",
                hint="score the probability map or the logits that it was made from",
                code="kind.hard",
            )
        p, labels = grid.prob, self.channels
        if len(labels) == 1:  # in float64: of a small float32 p nothing is left in 1-p
            p = np.asarray(self._probability(labels[0]) if grid.channels else p, dtype=np.float64)
            p = np.stack([1 - p, p])
        found = entropy(p)
        return found if grid.valid is None else np.where(grid.valid, found, 0.0)

    def literal(self) -> Loaded:
        """Return the pair with the values that occur as its only labels, without the union that stands beside two."""
        own = [label for label in self.labels if label.values is not None]
        if not own or len(own) == len(self.labels):
            return self
        twin = replace(self, case=self.case.with_labels(own))
        if self.grid.prob is not None:
            twin.case.probabilities = twin
        return twin

    def sizes(self, labels: Sequence[Label]) -> list[float]:
        """Return how many voxels each label has in the ground truth, the sum of a soft one."""
        return [float(self.soft(label).sums.y) for label in labels]

    def _probability(self, label: Label) -> Any:
        """Return the probability of a label of several: the sum of its channels, 0 and 1 of a hard map."""
        import numpy as np

        grid = self.grid
        if grid.prob is None:
            return _member(grid.pred, label)
        if label.values is None:
            return 1 - grid.prob[0]
        parts = [grid.prob[v] for v in label.values if 0 <= v < grid.channels]
        return parts[0] if len(parts) == 1 else np.zeros(grid.gt.shape) + sum(parts)


@dataclass(frozen=True)
class Batch(Loaded):
    """All images of a stack as one case for losses: their voxels are pooled before a formula is applied."""

    images: tuple[Loaded, ...] = ()

    @classmethod
    def of(cls, images: Sequence[Loaded]) -> Batch:
        """Return the batch of these images; its `case` has them one after the other along the first axis."""
        import numpy as np

        from segcli.evidence.case import Case

        first = images[0]
        joined = [np.concatenate([getattr(image.grid, side) for image in images]) for side in ("pred", "gt")]
        valid = None
        if first.grid.valid is not None or any(image.grid.valid is not None for image in images):
            whole = [
                np.ones(image.grid.gt.shape, dtype=bool) if image.grid.valid is None else image.grid.valid
                for image in images
            ]
            valid = np.concatenate(whole)
        case = Case(joined[0], joined[1], first.labels, spacing=first.grid.spacing, unit=first.case.unit, valid=valid)
        name = f"{first.name.rpartition('[')[0]}[0..{len(images) - 1}]"
        return cls(name, first.pred, first.gt, first.grid, case, first.binary, [], tuple(images))

    @property
    def channels(self) -> list[Label]:
        """Return the labels that losses average over: those of any image."""
        found = {label.values: label for image in self.images for label in image.channels}
        return sorted(found.values(), key=lambda label: label.values or (1,))

    def soft(self, label: Label) -> SoftPair:
        """Return the voxels of `label` in all images."""
        from segcli.evidence.pooled import PooledPair

        return PooledPair([image.soft(label) for image in self.images])

    def classes(self, labels: Sequence[Label] | None = None) -> SoftClasses:
        """Return the voxels of all images, all classes at once."""
        from segcli.evidence.pooled import PooledClasses

        return PooledClasses([image.classes(labels or self.channels) for image in self.images])


def _member(array: Any, label: Label) -> Any:
    import numpy as np

    if label.values is None:
        return array != 0
    return array == label.values[0] if len(label.values) == 1 else np.isin(array, label.values)


def load(pred: Any, gt: Any, reading: Reading, *, sha256: bool = False, strict: bool = False) -> list[Loaded]:
    """Read a pair (paths, arrays or masks) and bring it onto one grid; a stack gives one for each image."""
    import numpy as np

    from segcli.evidence.case import Case
    from segcli.masks.matching import match

    pred_mask = read_side(pred, "pred", reading, sha256=sha256)
    gt_mask = read_side(gt, "gt", reading, sha256=sha256)
    grids = match(pred_mask, gt_mask, reading)
    cases = [Case(g.pred, g.gt, [], spacing=g.spacing, unit=g.unit, valid=g.valid) for g in grids]
    one_channel = grids[0].prob is not None and grids[0].channels == 0
    # What the labels are is decided once for all images of a stack.
    values = [sorted({v for case in cases for v in case.label_values(side)}) for side in ("pred", "gt")]
    labels = resolve(
        reading.labels,
        *values,
        channels=grids[0].channels,
        one_channel=one_channel,
        ignored=reading.ignore_label,
    )
    if grids[0].soft_gt is not None and (grids[0].channels > 2 or len(labels.labels) > 1):
        raise InputError(
            f"{gt_mask.name}: a soft ground truth is one map; {pred_mask.name} has several labels.",
            hint="--soft-gt takes a prediction of one label",
            code="kind.mixed",
        )
    if one_channel and labels.labels[0].values is not None:
        # The one map is that of the one label asked for, whatever its value.
        hard = [np.where(g.pred, labels.labels[0].values[0], 0) for g in grids]
        cases = [
            Case(h, g.gt, [], spacing=g.spacing, unit=g.unit, valid=g.valid) for h, g in zip(hard, grids, strict=True)
        ]
    base = _stem(gt_mask.name if pred_mask.format == "array" else pred_mask.name)
    found = []
    for index, (grid, case) in enumerate(zip(grids, cases, strict=True)):
        case.labels = labels.labels
        notes = [*grid.notes, *(labels.notes if index == 0 else [])]
        if strict:
            _refuse_warnings(notes)
        title = base if len(grids) == 1 else f"{base}[{index}]"
        one = Loaded(title, pred_mask, gt_mask, grid, case, labels.binary, notes)
        if grid.prob is not None:
            case.probabilities = one
        found.append(one)
    return found


def read_side(source: Any, side: Literal["pred", "gt"], reading: Reading, *, sha256: bool = False) -> Mask:
    """Read the prediction or the ground truth: a path, an array or a `Mask` as it is."""
    from segcli.masks.readers import from_array, read

    kind: MaskKind | None = reading.kind
    scale = reading.prob_scale
    if side == "gt":
        # What `--kind` and `--prob-scale` say is about the prediction; a soft gt is read as it lies.
        kind, scale = ("labels" if kind == "labels" else None), None
    elif scale is not None:
        kind = "probability"
    if isinstance(source, Mask):
        if kind in (None, source.kind) and scale is None:
            return source
        again = from_array(source.array, name=source.name, kind=kind, prob_scale=scale, max_voxels=reading.max_voxels)
        return replace(source, array=again.array, kind=again.kind, notes=(*source.notes, *again.notes))
    if isinstance(source, (str, os.PathLike)):
        return read(
            source, kind=kind, prob_scale=scale, colors=reading.colors, max_voxels=reading.max_voxels, sha256=sha256
        )
    return from_array(source, name=side, kind=kind, prob_scale=scale, max_voxels=reading.max_voxels)


def _stem(name: str) -> str:
    stem = Path(name).name
    lower = stem.lower()
    return next((stem[: -len(s)] for s in (".nii.gz",) if lower.endswith(s)), Path(stem).stem) or stem


def _refuse_warnings(notes: Sequence[Note]) -> None:
    for note in notes:
        if note.level == "warning":
            raise InputError(note.text, hint="--strict makes this warning an error", code="strict")
