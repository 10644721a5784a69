"""From files or arrays to a pair on one grid with its labels: the options checked, both sides read and matched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import InputError, UsageError
from segcli.masks.labels import Label, LabelsLike, parse_labels, resolve
from segcli.masks.mask import Mask, MaskKind, Note

if TYPE_CHECKING:
    from segcli.masks.matching import Grid, Reading
    from segcli.pair import Case
    from segcli.soft import SoftPair

BACKGROUND = Label("background", (0,))


def reading_of(
    *,
    labels: LabelsLike = None,
    spacing: float | Sequence[float] | None = None,
    from_logits: bool = False,
    kind: MaskKind | None = None,
    **options: Any,
) -> Reading:
    """Return the checked `Reading` of a set of keyword options."""
    from segcli.masks.matching import Reading

    if from_logits:
        if kind not in (None, "logits"):
            raise UsageError(f"--from-logits and --kind {kind} contradict each other.", code="kind.twice")
        kind = "logits"
    parsed = parse_labels(labels)
    numbers = (float(spacing),) if isinstance(spacing, (int, float)) else spacing
    if numbers is not None:
        numbers = tuple(float(s) for s in numbers)
        if not numbers or not all(0 < s < float("inf") for s in numbers):
            raise UsageError(
                f"--spacing {','.join(f'{s:g}' for s in numbers)}: every number must be above 0.",
                hint="mm per voxel in array axis order, for example 0.8,0.8,2",
                code="geometry.spacing",
            )
    reading = Reading(labels=None if parsed is None else tuple(parsed), kind=kind, spacing=numbers, **options)
    if not 0 <= reading.threshold < 1:
        raise UsageError(f"--threshold {reading.threshold:g} is not in [0, 1).", code="threshold")
    if reading.prob_scale is not None:
        if not 0 < reading.prob_scale < float("inf"):
            raise UsageError(f"--prob-scale {reading.prob_scale:g} must be above 0.", code="prob-scale")
        if kind not in (None, "probability"):
            raise UsageError(f"--prob-scale and --kind {kind} contradict each other.", code="kind.twice")
    return reading


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

    def channels(self, asked: bool) -> list[Label]:
        """Return the labels that losses average over: the background is one of several channels."""
        plain = [label for label in self.labels if not label.is_region]
        if self.binary or asked or (self.grid.channels == 0 and self.grid.prob is not None):
            return plain
        return [BACKGROUND, *plain]

    def soft(self, label: Label) -> SoftPair:
        """Return the probabilities of `label` (0 and 1 for a hard mask) against its ground truth."""
        import numpy as np

        from segcli.soft import SoftPair

        grid = self.grid
        y = grid.soft_gt if grid.soft_gt is not None else _member(grid.gt, label)
        z = None
        if grid.prob is None:
            p: Any = _member(grid.pred, label)
        elif grid.channels == 0:
            p, z = grid.prob, grid.logits
        elif label.values is None:
            p = 1 - grid.prob[0]
        else:
            p = np.zeros(grid.gt.shape) + sum(grid.prob[v] for v in label.values if 0 <= v < grid.channels)
        return SoftPair(p, y, z=z, spacing=grid.spacing, valid=grid.valid, hard=grid.prob is None)


def _member(array: Any, label: Label) -> Any:
    import numpy as np

    if label.values is None:
        return array != 0
    return array == label.values[0] if len(label.values) == 1 else np.isin(array, label.values)


def load(
    pred: Any, gt: Any, reading: Reading, *, sha256: bool = False, name: str | None = None, strict: bool = False
) -> list[Loaded]:
    """Read a pair (paths, arrays or masks) and bring it onto one grid; a stack gives one for each image."""
    from segcli.masks.matching import match
    from segcli.pair import Case

    pred_mask = read_side(pred, "pred", reading, sha256=sha256)
    gt_mask = read_side(gt, "gt", reading, sha256=sha256)
    found = []
    grids = match(pred_mask, gt_mask, reading)
    for index, grid in enumerate(grids):
        case = Case(grid.pred, grid.gt, [], spacing=grid.spacing, unit=grid.unit, valid=grid.valid)
        one_channel = grid.prob is not None and grid.channels == 0
        values = case.label_values("pred"), case.label_values("gt")
        labels = resolve(reading.labels, *values, channels=grid.channels, one_channel=one_channel)
        if one_channel and not labels.binary and labels.labels[0].values is not None:
            # The one map is that of the one label asked for, whatever its value.
            hard = grid.pred * labels.labels[0].values[0]
            case = Case(hard, grid.gt, [], spacing=grid.spacing, unit=grid.unit, valid=grid.valid)
        case.labels = labels.labels
        base = name or _stem(gt_mask.name if pred_mask.format == "array" else pred_mask.name)
        notes = [*grid.notes, *labels.notes]
        if strict:
            _refuse_warnings(notes)
        found.append(
            Loaded(
                name=base if len(grids) == 1 else f"{base}[{index}]",
                pred=pred_mask,
                gt=gt_mask,
                grid=grid,
                case=case,
                binary=labels.binary,
                notes=notes,
            )
        )
    return found


def read_side(source: Any, side: Literal["pred", "gt"], reading: Reading, *, sha256: bool = False) -> Mask:
    """Read the prediction or the ground truth: a path, an array or a `Mask` as it is."""
    from segcli.masks.readers import from_array, read

    if isinstance(source, Mask):
        return source
    kind: MaskKind | None = reading.kind
    scale = reading.prob_scale
    if side == "gt":
        # What `--kind` and `--prob-scale` say is about the prediction; a soft gt is read as it lies.
        kind, scale = ("labels" if kind == "labels" else None), None
    elif scale is not None:
        kind = "probability"
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
