"""Bringing a prediction and a ground truth onto one grid, and saying what their voxels mean.

Nothing is resampled or broadcast: axes may be permuted and flipped on request, channels become labels,
probabilities meet their threshold, and everything else that does not fit is refused with both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError, UsageError
from segcli.masks import geometry
from segcli.masks.mask import Mask, Note
from segcli.masks.reading import Reading

#: How far the channels of one voxel may be from summing to 1 before `--normalize` is asked for.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Grid:
    """A pair on one grid: label maps, probabilities where there are some, and what is to be said.

    `pred` is the hard label map; `prob` holds the probabilities it came from, (*shape) for one
    channel or (C, *shape) for one channel per label; `logits` are theirs, where they are known. `geometry` says how
    the headers lie: `ok`, `shapes only` (a file has no affine), `reoriented`, or `ignored: ` and what differs.
    """

    pred: NDArray[Any]
    gt: NDArray[Any]
    spacing: tuple[float, ...]
    unit: Literal["mm", "voxel"]
    valid: NDArray[np.bool_] | None
    prob: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    soft_gt: NDArray[Any] | None = None
    channels: int = 0
    threshold: float = 0.5
    geometry: str = "shapes only"
    notes: tuple[Note, ...] = ()


def match(pred: Mask, gt: Mask, reading: Reading) -> list[Grid]:
    """Return the pair on one grid; with `stack` one for each index of the first axis.

    Raises `InputError` where shapes, geometry or kinds do not fit, with both values.
    """
    notes: list[Note] = [*(_named(n, pred) for n in pred.notes), *(_named(n, gt) for n in gt.notes)]
    if reading.squeeze:
        pred, gt = _squeeze(pred), _squeeze(gt)
    if not reading.stack:
        return [_match(pred, gt, reading, notes)]
    if min(pred.array.ndim, gt.array.ndim) < 3 or len(pred.array) != len(gt.array):
        raise InputError(
            f"--stack: {pred.name} is {_x(pred.shape)} and {gt.name} is {_x(gt.shape)}; "
            "both need three axes or more and as many images along the first.",
            code="geometry.stack",
        )
    return [
        _match(_image_of(pred, i), _image_of(gt, i), _per_image(reading, pred), notes if i == 0 else [])
        for i in range(len(gt.array))
    ]


def _match(pred: Mask, gt: Mask, reading: Reading, notes: list[Note]) -> Grid:
    pred, gt = _at_least_2d(pred), _at_least_2d(gt)
    if gt.array.ndim > 3:
        raise InputError(
            f"{gt.name}: a ground truth of {gt.array.ndim} dimensions ({_x(gt.shape)}); 2 or 3 are allowed.",
            hint="--squeeze drops axes of length 1; --stack makes the first axis cases; "
            "a ground truth holds labels, no channels",
            code="geometry.dimensions",
        )
    pred = _with_channels(pred, gt, reading, notes)
    pred, aligned = _on_grid(pred, gt, reading, notes)
    spacing, unit = _spacing(pred, gt, reading, notes)
    if gt.array.ndim == 3 and 1 in gt.shape and not reading.stack:
        axis = gt.shape.index(1)
        notes.append(
            Note(
                f"{gt.name}: one voxel along axis {axis}; read as a volume, so every voxel is surface "
                "(--squeeze makes it a 2-D image)",
                "warning",
                "geometry.thin",
            )
        )
    if gt.array.ndim == 3 and unit == "voxel" and not reading.stack and 1 not in gt.shape:
        notes.append(
            Note(f"{gt.name}: {_x(gt.shape)} read as a volume; --stack for a stack of images", code="geometry.volume")
        )
    if pred.channels is not None and reading.threshold != 0.5:
        notes.append(Note("--threshold is not used: of several channels the largest decides", code="threshold.unused"))
    gt_labels, soft_gt = _ground_truth(gt, reading)
    hard, prob, logits = _prediction(pred, reading, notes)
    valid = _valid(hard if prob is None else None, gt_labels, reading, notes)
    return Grid(
        pred=hard,
        gt=gt_labels,
        spacing=spacing,
        unit=unit,
        valid=valid,
        prob=prob,
        logits=logits,
        soft_gt=soft_gt,
        channels=0 if pred.channels is None else pred.shape[0],
        threshold=reading.threshold,
        geometry=aligned,
        notes=tuple(notes),
    )


def _named(note: Note, mask: Mask) -> Note:
    return note if note.text.startswith(mask.name) else replace(note, text=f"{mask.name}: {note.text}")


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


# --- axes ---------------------------------------------------------------------------------------


def _at_least_2d(mask: Mask) -> Mask:
    return mask if mask.array.ndim > 1 else replace(mask, array=mask.array.reshape(1, -1), spacing=None)


def _squeeze(mask: Mask) -> Mask:
    keep = [i for i, n in enumerate(mask.shape) if n != 1]
    for i, n in reversed(list(enumerate(mask.shape))):
        if n == 1 and len(keep) < 2:  # a single row stays an image of one row
            keep = sorted([*keep, i])
    dropped = tuple(i for i in range(len(mask.shape)) if i not in keep)
    spacing = None if mask.spacing is None else tuple(s for i, s in enumerate(mask.spacing) if i not in dropped)
    affine = mask.affine
    if affine is not None:  # the axes that stay come first, as the geometry check expects
        affine = affine[:, [*(i for i in keep if i < 3), *(i for i in dropped if i < 3), 3]]
    return replace(mask, array=mask.array.squeeze(dropped), spacing=spacing, affine=affine)


def _image_of(mask: Mask, index: int) -> Mask:
    spacing = None if mask.spacing is None else mask.spacing[1:]
    return replace(mask, array=mask.array[index], spacing=spacing, affine=None)


def _per_image(reading: Reading, pred: Mask) -> Reading:
    """Return the options for one image of a stack: `--channel-axis` counts the axes of the file."""
    axis = reading.channel_axis
    if axis is None or axis < 0:
        return reading
    if axis == 0:
        raise UsageError(
            f"--channel-axis 0 with --stack: the first axis of {pred.name} holds the images.",
            hint="channels are on another axis, usually 1",
            code="geometry.channels",
        )
    return replace(reading, channel_axis=axis - 1)


def _with_channels(pred: Mask, gt: Mask, reading: Reading, notes: list[Note]) -> Mask:
    """Return the prediction with its channels, if it has some, on the first axis."""
    if pred.array.ndim != gt.array.ndim + 1:
        if reading.channel_axis is not None:
            raise UsageError(
                f"--channel-axis {reading.channel_axis}: {pred.name} is {_x(pred.shape)} and {gt.name} is "
                f"{_x(gt.shape)}; a prediction with channels has one dimension more than the ground truth.",
                code="geometry.channels",
            )
        return pred
    axis = reading.channel_axis
    if axis is None:
        axis = -1 if pred.format.startswith(("NIfTI", "Analyze")) else 0
    if not -pred.array.ndim <= axis < pred.array.ndim:
        raise UsageError(
            f"--channel-axis {axis} does not exist: {pred.name} has axes 0 to {pred.array.ndim - 1}.",
            code="geometry.channels",
        )
    moved = np.moveaxis(pred.array, axis, 0)
    may_turn = reading.on_geometry == "reorient" and pred.affine is not None and gt.affine is not None
    if moved.shape[1:] != gt.array.shape and not may_turn:
        fitting = [i for i in range(pred.array.ndim) if pred.shape[:i] + pred.shape[i + 1 :] == gt.shape]
        hints = [f"--channel-axis {i} would fit" for i in fitting]
        if 1 in pred.shape:
            hints.append("--squeeze drops axes of length 1")
        raise InputError(
            f"shapes differ: {pred.name} is {_x(pred.shape)} (channels on axis {axis % pred.array.ndim}), "
            f"{gt.name} is {_x(gt.shape)}.",
            hint="; ".join(hints) or "one channel per label on the grid of the ground truth is allowed",
            code="geometry.shape",
        )
    axis = axis % pred.array.ndim + int(reading.stack)
    notes.append(
        Note(
            f"{pred.name}: {len(moved)} channels on axis {axis}, channel c is label c (0 is background)",
            code="channels.axis",
        )
    )
    return replace(pred, array=moved, channels=0)


def _on_grid(pred: Mask, gt: Mask, reading: Reading, notes: list[Note]) -> tuple[Mask, str]:
    """Return the prediction on the ground truth's grid and how the grids lie (`Grid.geometry`), or refuse."""
    differences = geometry.compare(pred, gt)
    if not differences:
        return pred, "ok" if pred.affine is not None and gt.affine is not None else "shapes only"
    text = "; ".join(d.text for d in differences)
    first = differences[0]
    if reading.on_geometry == "reorient":
        turned = geometry.reorient(pred, gt)
        if turned is not None:
            notes.append(
                Note(
                    f"{pred.name}: axes reordered onto the grid of {gt.name} (no resampling)",
                    code="geometry.reoriented",
                )
            )
            return turned, "reoriented"
        raise InputError(
            f"{pred.name} vs {gt.name}: not the same grid in another orientation: {text}.",
            hint="segcli never resamples: resample the prediction onto the ground truth first",
            code=first.code,
        )
    fits = pred.array.shape[-gt.array.ndim :] == gt.array.shape
    if reading.on_geometry == "ignore" and fits:
        notes.append(Note(f"geometry ignored: {text}; the grid of {gt.name} is used", "warning", "geometry.ignored"))
        return replace(pred, spacing=gt.spacing, affine=gt.affine), f"ignored: {text}"
    hints = list(dict.fromkeys(d.hint for d in differences if d.hint))
    ignore = "; --on-geometry ignore compares voxel by voxel" if fits else ""
    raise InputError(
        f"{pred.name} vs {gt.name}: {text}.",
        hint="; ".join(hints) or "resample the prediction onto the ground truth" + ignore,
        code=first.code,
    )


def _spacing(
    pred: Mask, gt: Mask, reading: Reading, notes: list[Note]
) -> tuple[tuple[float, ...], Literal["mm", "voxel"]]:
    ndim = gt.array.ndim
    if reading.spacing is not None:
        given = reading.spacing
        if len(given) == 1:
            given = given * ndim
        if len(given) != ndim:
            raise UsageError(
                f"--spacing {','.join(f'{s:g}' for s in given)} has {len(given)} numbers; "
                f"{gt.name} has {ndim} axes ({_x(gt.shape)}).",
                hint="one number for each axis in array order, or one for all",
                code="geometry.spacing",
            )
        return given, "mm"
    own = gt.spacing or pred.spacing
    if own is None or len(own) != ndim:
        return (1.0,) * ndim, "voxel"
    if gt.spacing is None:
        notes.append(Note(f"{gt.name} has no spacing; that of {pred.name} is used", code="spacing.shared"))
    return own, "mm"


# --- voxels -------------------------------------------------------------------------------------


def _ground_truth(gt: Mask, reading: Reading) -> tuple[NDArray[Any], NDArray[Any] | None]:
    if gt.kind == "labels":
        return gt.array, None
    if gt.kind == "probability" and reading.soft_gt:
        return (gt.array > 0.5).astype(np.uint8), gt.array
    raise InputError(
        f"{gt.name}: a ground truth holds labels; this one holds {gt.kind} values.",
        hint="swap the arguments if the prediction stands second; losses accept a soft ground truth with --soft-gt",
        code="kind.gt",
    )


def _prediction(
    pred: Mask, reading: Reading, notes: list[Note]
) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """Return the hard label map, the probabilities and the logits."""
    array = pred.array
    if pred.channels is None:
        if pred.kind == "labels":
            return array, None, None
        if pred.kind == "logits":
            prob = sigmoid(array)
            # At the threshold 0.5 the logit itself is exact: 0 is background.
            hard = array > 0 if reading.threshold == 0.5 else prob > reading.threshold
            return hard.astype(np.uint8), prob, array
        return (array > reading.threshold).astype(np.uint8), array, None
    if len(array) < 2:
        raise InputError(
            f"{pred.name}: one channel ({_x(pred.shape)}); one channel per label is wanted, background first.",
            hint="--squeeze reads it as a mask without channels",
            code="geometry.channels",
        )
    hard = np.argmax(array, axis=0).astype(np.uint8 if len(array) < 256 else np.int32)
    if pred.kind == "logits":
        if float(array.min()) >= 0 and float(np.abs(array.sum(axis=0) - 1).max()) <= SUM_TOLERANCE:
            notes.append(
                Note(
                    f"{pred.name}: channels are in [0, 1] and sum to 1: probabilities, not logits?",
                    "warning",
                    "kind.logits",
                )
            )
        return hard, softmax(array), array
    prob = array.astype(np.float64)
    total = prob.sum(axis=0)
    worst = float(np.abs(total - 1).max())
    if worst > SUM_TOLERANCE:
        if not reading.normalize:
            at = np.unravel_index(int(np.abs(total - 1).argmax()), total.shape)
            raise InputError(
                f"{pred.name}: the {len(array)} channels of voxel {tuple(int(i) for i in at)} sum to "
                f"{float(total[at]):.4g}; 1 is wanted (within {SUM_TOLERANCE:g}).",
                hint="--normalize divides by the sum; --from-logits applies a softmax; "
                "--stack if the axis holds images",
                code="channels.sum",
            )
        if float(total.min()) <= 0:
            raise InputError(f"{pred.name}: a voxel whose channels sum to 0 cannot be normalised.", code="channels.sum")
        prob /= total
    most, count = float(prob.max()), len(prob)
    if most <= math.e / (math.e + count - 1) + 1e-6:
        notes.append(
            Note(
                f"{pred.name}: no probability exceeds {most:.3f}, as after two softmaxes "
                f"(of probabilities none can exceed {math.e / (math.e + count - 1):.3f})",
                "warning",
                "channels.softmax",
            )
        )
    return hard, prob, None


def _valid(
    hard: NDArray[Any] | None, gt: NDArray[Any], reading: Reading, notes: list[Note]
) -> NDArray[np.bool_] | None:
    if reading.ignore_label is None:
        return None
    ignored = gt == reading.ignore_label
    if hard is not None:
        ignored = ignored | (hard == reading.ignore_label)
    count = int(np.count_nonzero(ignored))
    if count == 0:
        notes.append(Note(f"--ignore-label {reading.ignore_label} occurs in neither file", code="ignore.absent"))
        return None
    if count == ignored.size:
        raise InputError("every voxel is ignored; nothing is left to score.", code="labels.ignored")
    notes.append(Note(f"{count} of {ignored.size} voxels ignored (label {reading.ignore_label})", code="ignore.voxels"))
    return np.asarray(~ignored)


def sigmoid(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-z)) in float64 without overflow."""
    small = np.exp(-np.abs(z.astype(np.float64)))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def softmax(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax over the first axis in float64 without overflow."""
    shifted = np.exp(z.astype(np.float64) - z.max(axis=0))
    return np.asarray(shifted / shifted.sum(axis=0))
