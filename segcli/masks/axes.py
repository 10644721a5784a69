"""Axes: those of length 1 dropped, those of a stack cut, each with the spacing and the affine that belong to it."""

from __future__ import annotations

from dataclasses import replace

from segcli.errors import UsageError
from segcli.masks.mask import Mask
from segcli.masks.reading import Reading


def at_least_2d(mask: Mask) -> Mask:
    return mask if mask.array.ndim > 1 else replace(mask, array=mask.array.reshape(1, -1), spacing=None)


def squeezed(mask: Mask) -> Mask:
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


def image_of(mask: Mask, index: int) -> Mask:
    spacing = None if mask.spacing is None else mask.spacing[1:]
    return replace(mask, array=mask.array[index], spacing=spacing, affine=None)


def per_image(reading: Reading, pred: Mask) -> Reading:
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
