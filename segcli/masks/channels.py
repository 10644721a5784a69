"""Channels: which axis holds them, and what labels, probabilities and logits they stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError, UsageError
from segcli.masks.axes import Side, channel_axis, order_hint
from segcli.masks.mask import Mask, Note
from segcli.masks.readers import shape_text
from segcli.masks.reading import Reading

#: How far the channels of one voxel may be from summing to 1 before `--normalize` is asked for.
SUM_TOLERANCE = 1e-3


def with_channels(side: Side, gt: Mask, reading: Reading, notes: list[Note]) -> Mask:
    """Return the prediction with its channels, if it has some, on the first axis."""
    pred = side.mask
    if pred.array.ndim != gt.array.ndim + 1:
        if reading.channel_axis is not None:
            raise UsageError(
                f"--channel-axis {reading.channel_axis}: {pred.name} is {shape_text(pred.shape)} and {gt.name} is "
                f"{shape_text(gt.shape)}; a prediction with channels has one dimension more than the ground truth.",
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
    notes.append(
        Note(
            f"{pred.name}: {len(moved)} channels on axis {side.file_axes[axis]}, channel c is label c (0 is background)"
        )
    )
    return replace(pred, array=moved, channels=0)


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
    if len(array) < 2:
        raise InputError(
            f"{pred.name}: one channel ({shape_text(pred.shape)}); one channel per label is wanted, background first.",
            hint="--squeeze reads it as a mask without channels",
            code="geometry.channels",
        )
    hard = np.argmax(array, axis=0).astype(np.uint8 if len(array) < 256 else np.int32)
    if pred.kind == "logits":
        if float(array.min()) >= 0 and float(np.abs(array.sum(axis=0) - 1).max()) <= SUM_TOLERANCE:
            notes.append(
                Note(f"{pred.name}: channels are in [0, 1] and sum to 1: probabilities, not logits?", "warning")
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
                hint="--normalize divides by the sum; --from-logits applies a softmax",
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
            )
        )
    return hard, prob, None


def sigmoid(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-z)) in float64 without overflow."""
    small = np.exp(-np.abs(z.astype(np.float64)))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def softmax(z: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax over the first axis in float64 without overflow."""
    shifted = np.exp(z.astype(np.float64) - z.max(axis=0))
    return np.asarray(shifted / shifted.sum(axis=0))
