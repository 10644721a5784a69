"""Channels: which axis holds them, and what labels, probabilities and logits they stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError, UsageError
from segcli.masks.axes import Side, channel_axis, order_hint
from segcli.masks.mask import Mask, Note
from segcli.masks.reading import Reading
from segcli.masks.source import shape_text
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segcli.masks.labels import Label

#: How far the channels of one voxel may be from summing to 1 before `--normalize` is asked for.
SUM_TOLERANCE = 1e-3
#: Sums farther from 1 than rounding and interpolation take them are those of labels that overlap.
ROUNDED_SUM = 0.1
#: Channels that overlap are bits of one integer.
MOST_REGIONS = 62


def with_channels(side: Side, gt: Mask, reading: Reading, notes: list[Note]) -> Mask:
    """Return the prediction with its channels, if it has some, on the first axis."""
    pred, named = side.mask, reading.channels
    if named is not None and len(named) == 1 and pred.array.ndim == gt.array.ndim:
        return replace(pred, array=pred.array[None], channels=0)  # one map is one channel
    if pred.array.ndim != gt.array.ndim + 1:
        if reading.channel_axis is not None:
            raise UsageError(
                f"--channel-axis {reading.channel_axis}: {pred.name} is {shape_text(pred.shape)} and {gt.name} is "
                f"{shape_text(gt.shape)}; a prediction with channels has one dimension more than the ground truth.",
                code="geometry.channels",
            )
        if named is not None:
            raise InputError(
                f"--channels names {_names(named)}; {pred.name} is {shape_text(pred.shape)} and {gt.name} is "
                f"{shape_text(gt.shape)}: no axis holds channels.",
                hint="leave --channels out for a map without channels",
                code="geometry.channels",
            )
        return pred
    axis = channel_axis(side, reading)
    moved = np.moveaxis(pred.array, axis, 0)
    may_turn = reading.on_geometry == "reorient" and pred.affine is not None and gt.affine is not None
    if moved.shape[1:] != gt.array.shape and not may_turn:
        raise InputError(
            f"shapes differ: {pred.name} is {shape_text(pred.shape)} (channels on axis {axis}), "
            f"{gt.name} is {shape_text(gt.shape)}.",
            hint=_shape_hints(side, gt),
            code="geometry.shape",
        )
    if named is not None and len(named) != len(moved):
        raise InputError(
            f"{pred.name}: {len(moved)} channels on axis {side.file_axes[axis]}; --channels names {len(named)} "
            f"({_names(named)}).",
            hint="name every channel in its order; background for one that holds it",
            code="geometry.channels",
        )
    means = "channel c is label c (0 is background)" if named is None else f"{_names(named)}, each cut by itself"
    count = counted(len(moved), "channel")
    notes.append(Note(f"{pred.name}: {count} on axis {side.file_axes[axis]}, {means}", code="channels.axis"))
    beyond = [x.name for x in reading.labels or () if max(x.values or (0,)) >= len(moved)] if named is None else []
    if beyond:
        text = f"{pred.name}: {len(moved)} channels, none for all values of {', '.join(beyond[:6])}"
        notes.append(Note(f"{text}; --channels names what overlapping ones hold", "warning", "channels.beyond"))
    return replace(pred, array=moved, channels=0)


def _names(labels: Sequence[Label]) -> str:
    return ", ".join(label.name for label in labels)


def _shape_hints(side: Side, gt: Mask) -> str:
    shape = side.mask.shape
    fitting = [i for i, n in enumerate(shape) if n > 1 and shape[:i] + shape[i + 1 :] == gt.shape]
    hints = [f"--channel-axis {side.file_axes[i]} would fit" for i in fitting]
    if 1 in shape:
        hints.append("--squeeze drops axes of length 1")
    if not fitting:
        hints.append(order_hint(side.mask, gt, channels=True))
    hints = [hint for hint in hints if hint]
    return "; ".join(hints) or "one channel per label on the grid of the ground truth is allowed"


def read_prediction(
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
    if reading.channels is not None:
        return _overlapping(pred, reading.channels, reading, notes)
    if len(array) < 2:
        raise InputError(
            f"{pred.name}: one channel ({shape_text(pred.shape)}); one channel per label is wanted, background first.",
            hint="--squeeze reads it as a mask without channels",
            code="geometry.channels",
        )
    hard = np.argmax(array, axis=0).astype(np.uint8 if len(array) < 256 else np.int32)
    if pred.kind == "logits":
        if float(array.min()) >= 0 and float(array.max()) <= 1:
            sums = float(np.abs(array.sum(axis=0) - 1).max()) <= SUM_TOLERANCE
            text = f"{pred.name}: channels are in [0, 1]{' and sum to 1' * sums}: probabilities, not logits?"
            notes.append(Note(text, "warning", "kind.logits"))
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
                hint=_sum_hint(total, len(array), reading),
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


def _sum_hint(total: NDArray[np.float64], channels: int, reading: Reading) -> str:
    """Return what channels are whose sums are not 1: rounded, or of labels that overlap or leave voxels to nobody."""
    names = "WT,TC,ET (with --labels)"
    if reading.labels is not None and len(reading.labels) == channels:
        names = ",".join(label.name for label in reading.labels)
    regions = f"--channels {names} names labels that overlap, or lack the background: each is cut alone"
    if float(np.abs(total - 1).max()) <= ROUNDED_SUM:
        return f"--normalize divides by the sum; {regions}"
    return regions


def _overlapping(
    pred: Mask, named: Sequence[Label], reading: Reading, notes: list[Note]
) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """Return channels that overlap: a map whose bit c says that channel c exceeds the threshold, p, and the logits."""
    array, prob, logits = pred.array, pred.array, None
    if len(named) > MOST_REGIONS:
        raise InputError(
            f"{pred.name}: {len(named)} channels that overlap; at most {MOST_REGIONS} are told apart.",
            hint="score them in several calls",
            code="geometry.channels",
        )
    if pred.kind == "labels":
        for label, channel in zip(named, array, strict=True):
            if int(channel.min()) < 0 or int(channel.max()) > 1:
                raise InputError(
                    f"{pred.name}: channel {label.name} holds {int(channel.min())} to {int(channel.max())}; 0 and 1, "
                    "probabilities or logits are wanted.",
                    hint="--prob-scale 255 for 8 bits; --stack-axis for a stack of label maps",
                    code="kind.range",
                )
    elif pred.kind == "logits":
        prob, logits = sigmoid(array), array
    elif len(array) > 1 and float(np.abs(prob.sum(axis=0, dtype=np.float64) - 1).max()) <= SUM_TOLERANCE:
        text = f"{pred.name}: its channels sum to 1: without --channels the largest decides, here each is cut alone"
        notes.append(Note(text, "warning", "channels.sum"))
    hard = np.zeros(array.shape[1:], dtype=np.min_scalar_type((1 << len(named)) - 1))
    for c in range(len(named)):
        inside = array[c] > 0 if logits is not None and reading.threshold == 0.5 else prob[c] > reading.threshold
        hard |= inside.astype(hard.dtype) << c
    return hard, None if pred.kind == "labels" else prob, logits


def cut_notes(pred: Mask, hard: Sequence[NDArray[Any]], regions: Sequence[Label], reading: Reading) -> list[Note]:
    """Return what a threshold did to one prediction, the images of a stack together."""
    found = []
    if pred.kind == "probability":
        text = f"{pred.name}: read as a probability; foreground is p > {reading.threshold:g} (--threshold)"
        found.append(Note(text, code="threshold.cut"))
    empty = [f" of {x.name}" for c, x in enumerate(regions) if not any(((h >> c) & 1).any() for h in hard)]
    if not regions and not any(h.any() for h in hard):
        empty = [""]
    found += [
        Note(f"{pred.name}: no voxel{of} exceeds the threshold {reading.threshold:g}", "warning", "threshold.empty")
        for of in empty
    ]
    return found


def sigmoid(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-z)) in float64 without overflow."""
    small = np.exp(-np.abs(z.astype(np.float64)))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def softmax(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax over the first axis in float64 without overflow."""
    shifted = np.exp(z.astype(np.float64) - z.max(axis=0))
    return np.asarray(shifted / shifted.sum(axis=0))
