"""Axes: cut into the images of a stack, put into the order of the other side, those of length 1 dropped.

Each step takes spacing and affine along. Options count the axes of the file: a `Side` remembers which are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, cast

from segcli.errors import InputError, UsageError
from segcli.masks.mask import DROPPED, Mask, Note
from segcli.masks.source import shape_text
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segcli.masks.reading import Reading

#: The keys under which nnU-Net saves softmax outputs (v2, v1): channels first, then z, y, x as SimpleITK has them.
NNUNET_KEYS = ("probabilities", "softmax")
_CHANNEL = "c"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair on its way to a grid: `file_axes` are those of the file that `mask.array` still has."""

    mask: Mask
    file_axes: tuple[int, ...]
    #: How many axes the file has.
    ndim: int
    #: The axis of `mask.array` that `--axes` says holds the channels.
    channels: int | None = None

    @classmethod
    def of(cls, mask: Mask) -> Side:
        """Return a side as it was read. Raises `InputError` for a single axis: a row of numbers is no image."""
        if mask.array.ndim < 2:
            raise InputError(
                f"{mask.name}: one axis of {mask.array.size} values; a mask has 2 or 3.",
                hint="give it the shape of its image: array.reshape(height, width)",
                code="geometry.dimensions",
            )
        return cls(mask, tuple(range(mask.array.ndim)), mask.array.ndim)


def order_of(mask: Mask) -> str:
    """Return which axes a mask is stored along: `xyz` where a header says so, `yx` of an image, else nothing."""
    return "xyz" if mask.affine is not None else mask.order


# --- stacks -------------------------------------------------------------------------------------


def images(pred: Side, gt: Side, reading: Reading, notes: list[Note]) -> list[tuple[Side, Side]]:
    """Return the pairs of images of a stack. Raises `InputError` where the sides have not as many."""
    asked = reading.stack_axis or 0
    sides = (pred, gt)
    option = _stack_option(reading)
    if any(s.mask.array.ndim < 3 for s in sides) or any(not -1 <= asked < s.mask.array.ndim for s in sides):
        counts: list[int] = []
    else:
        counts = [s.mask.shape[asked] for s in sides]
    if not counts or counts[0] != counts[1]:
        where = "along the first" if asked == 0 else "along the last" if asked < 0 else f"along axis {asked}"
        raise InputError(
            f"{option}: {pred.mask.name} is {shape_text(pred.mask.shape)} and {gt.mask.name} is "
            f"{shape_text(gt.mask.shape)}; both need three axes or more and as many images {where}.",
            hint=_other_axes(pred.mask, gt.mask),
            code="geometry.stack",
        )
    notes += [
        Note(
            f"{mask.name}: --stack cuts a NIfTI of {shape_text(mask.shape)} along its first axis, x; "
            "--stack-axis last cuts along the last",
            "warning",
            "geometry.stack",
        )
        for mask in (pred.mask, gt.mask)
        if reading.stack_axis is None and mask.array.ndim > 3 and order_of(mask) == "xyz"
    ]
    if reading.channel_axis is not None and _file_axis(reading.channel_axis, pred) == pred.file_axes[asked]:
        raise UsageError(
            f"--channel-axis {reading.channel_axis} with {option}: that axis of {pred.mask.name} holds the images.",
            hint="channels are on another axis, usually 1",
            code="geometry.channels",
        )
    return [(_image(pred, asked, i), _image(gt, asked, i)) for i in range(counts[0])]


def _stack_option(reading: Reading) -> str:
    axis = reading.stack_axis
    return "--stack" if axis is None else f"--stack-axis {axis if axis >= 0 else 'last'}"


def _other_axes(pred: Mask, gt: Mask) -> str:
    """Return the axes along which both sides have as many images."""
    if min(pred.array.ndim, gt.array.ndim) < 3:
        return "leave it out for a pair of single images"
    fitting = [axis for axis in range(min(pred.array.ndim, gt.array.ndim)) if pred.shape[axis] == gt.shape[axis] > 1]
    if pred.array.ndim == gt.array.ndim and len(fitting) == pred.array.ndim:  # all do: the usual one
        return stack_hint(gt) or "--stack-axis N cuts along another axis"
    axes = " or ".join(f"--stack-axis {axis}" for axis in fitting[:3])
    return f"{axes} would fit" if axes else "store the images of both files along the same axis"


def with_dropped(mask: Mask) -> Mask:
    """Return a mask with the axes of length 1 that its reader left out: one of them may hold the images."""
    if not any(note.code == DROPPED for note in mask.notes):
        return mask
    shape = tuple(int(n) for n in cast("Sequence[int]", mask.header["shape"]))
    notes = tuple(note for note in mask.notes if note.code != DROPPED)
    return replace(mask, array=mask.array.reshape(shape, order="F"), notes=notes)


def regions_of(roi: Mask, count: int, reading: Reading) -> list[Side]:
    """Return a region of interest for each image, under the name that messages give it.

    Raises `InputError` for what is no label map, and for a stack of another number of images.
    """
    roi = replace(roi, name=roi.name if roi.format == "array" else f"ROI {roi.name}")
    if reading.stack_axis is not None:
        roi = with_dropped(roi)
    if roi.kind != "labels":
        raise InputError(
            f"{roi.name}: a region of interest holds labels or booleans; this one holds {roi.kind} values.",
            hint="threshold it first: what is not 0 is inside",
            code="roi.kind",
        )
    side = Side.of(roi)
    if not reading.stack:
        return [side]
    axis, option = reading.stack_axis or 0, _stack_option(reading)
    if roi.array.ndim < 3 or not -1 <= axis < roi.array.ndim or roi.shape[axis] != count:
        raise InputError(
            f"{option}: {roi.name} is {shape_text(roi.shape)}, and there are {counted(count, 'image')}; "
            "a region of interest has as many along the same axis.",
            code="geometry.stack",
        )
    return [_image(side, axis, i) for i in range(count)]


def stack_hint(mask: Mask) -> str:
    """Return the option that makes cases of an axis too many: time or echo is the last of a NIfTI."""
    if mask.array.ndim > 3:
        axis = "last" if order_of(mask) == "xyz" else "first"
        return f"--stack-axis {axis} makes cases of the {axis} axis"
    return ""


def _image(side: Side, axis: int, index: int) -> Side:
    mask = side.mask
    axis %= mask.array.ndim
    affine = mask.affine
    if affine is not None and axis < 3:
        affine = affine.copy()
        affine[:, 3] += affine[:, axis] * index
        affine = affine[:, [*(i for i in range(3) if i != axis), axis, 3]]
    spacing = mask.spacing
    if spacing is not None and (order_of(mask) or len(spacing) == mask.array.ndim):
        spacing = tuple(s for i, s in enumerate(spacing) if i != axis)
    array = mask.array[(slice(None),) * axis + (index,)]
    left = tuple(a for i, a in enumerate(side.file_axes) if i != axis)
    return replace(side, mask=replace(mask, array=array, spacing=spacing, affine=affine), file_axes=left)


# --- axes of length 1 ---------------------------------------------------------------------------


def squeezed(side: Side) -> Side:
    """Return a side without its axes of length 1; a single row stays an image of one row."""
    mask = side.mask
    keep = [i for i, n in enumerate(mask.shape) if n != 1]
    for i, n in reversed(list(enumerate(mask.shape))):
        if n == 1 and len(keep) < 2:
            keep = sorted([*keep, i])
    return _kept(side, keep)


def _kept(side: Side, keep: list[int]) -> Side:
    """Return a side with these axes alone, all others being of length 1."""
    mask = side.mask
    dropped = tuple(i for i in range(mask.array.ndim) if i not in keep)
    spacing = mask.spacing
    if spacing is not None:
        # One number too few: the channels, which a caller's array has first, have none.
        first = mask.array.ndim - len(spacing) if not order_of(mask) else 0
        spacing = tuple(s for i, s in enumerate(spacing, start=first) if i not in dropped)
    affine = mask.affine
    if affine is not None:  # the axes that stay come first, as the geometry check expects
        affine = affine[:, [*(i for i in keep if i < 3), *(i for i in range(3) if i not in keep), 3]]
    return replace(
        side,
        mask=replace(mask, array=mask.array.squeeze(dropped), spacing=spacing, affine=affine),
        file_axes=tuple(side.file_axes[i] for i in keep),
        channels=None if side.channels is None or side.channels in dropped else keep.index(side.channels),
    )


# --- the order of axes --------------------------------------------------------------------------


def in_order(pred: Side, gt: Side, reading: Reading, notes: list[Note]) -> tuple[Side, Side]:
    """Return both sides with an array file's axes in the order of the other side, as `--axes` says.

    Without the option the softmax output of nnU-Net is recognised by its key and shape. Raises `InputError` where
    two orders fit, `UsageError` where the option fits no side.
    """
    if reading.axes is None:
        return _from_nnunet(pred, gt, reading, notes), gt
    arrays = [not order_of(side.mask) for side in (pred, gt)]
    if not any(arrays):
        raise UsageError(
            f"--axes {reading.axes} is for array files (NPY, NPZ); {pred.mask.name} and {gt.mask.name} are none.",
            hint="leave it out: NIfTI is stored along x,y,z and an image along y,x",
            code="geometry.axes",
        )
    # Of two array files none says what the order is: both stay as they are, in the order that is named.
    other = next((order_of(s.mask) for s, array in zip((pred, gt), arrays, strict=True) if not array), "")
    found = []
    for side, array, is_pred in ((pred, arrays[0], True), (gt, arrays[1], False)):
        found.append(_ordered(side, reading, other, with_channels=is_pred) if array else side)
    return found[0], found[1]


def in_order_of_others(side: Side, others: Sequence[Side], reading: Reading) -> Side:
    """Return an array's side with its axes along those of the first of the others whose order is known."""
    if reading.axes is None or order_of(side.mask):
        return side
    other = next((order_of(s.mask) for s in others if order_of(s.mask)), "")
    return _ordered(side, reading, other, with_channels=False)


def _ordered(side: Side, reading: Reading, other: str, *, with_channels: bool) -> Side:
    """Return an array's side with its spatial axes along those of the other side, the channels first."""
    letters, mask = str(reading.axes), side.mask
    ndim, plain = mask.array.ndim, letters.replace(_CHANNEL, "")
    if ndim == len(plain) or not with_channels:
        letters = plain
    elif ndim == len(plain) + 1 and _CHANNEL not in letters:
        at = 0 if reading.channel_axis is None else side.file_axes.index(_file_axis(reading.channel_axis, side))
        letters = letters[:at] + _CHANNEL + letters[at:]
    if ndim != len(letters):
        raise UsageError(
            f"--axes {reading.axes} names {len(letters)} axes; {mask.name} has {ndim} ({shape_text(mask.shape)}).",
            hint="name each axis once in stored order, c the channels: zyx, czyx, yxc",
            code="geometry.axes",
        )
    named = other or plain
    # A plane of a volume lies along the axes that both have.
    wanted = [a for a in named if a in plain] + [a for a in plain if a not in named]
    wanted = [_CHANNEL, *wanted] if _CHANNEL in letters else wanted
    return _transposed(side, [letters.index(a) for a in wanted], 0 if _CHANNEL in letters else None)


def _transposed(side: Side, order: list[int], channels: int | None) -> Side:
    mask = side.mask
    spacing = mask.spacing
    if spacing is not None:
        spacing = tuple(spacing[i] for i in order) if len(spacing) == len(order) else None
    return replace(
        side,
        mask=replace(mask, array=mask.array.transpose(order), spacing=spacing),
        file_axes=tuple(side.file_axes[i] for i in order),
        channels=channels,
    )


def _from_nnunet(pred: Side, gt: Side, reading: Reading, notes: list[Note]) -> Side:
    """Return nnU-Net's softmax output along the axes of the ground truth, any other prediction as it is."""
    mask, other = pred.mask, order_of(gt.mask)
    theirs = gt.mask.shape
    known = mask.format == "NPZ" and mask.header.get("key") in NNUNET_KEYS
    if not (known and other and mask.array.ndim == 4 and len(theirs) in (2, 3)) or reading.channel_axis is not None:
        return pred
    flat = len(theirs) == 2
    ours = mask.shape[2:] if flat else mask.shape[1:]
    if flat and mask.shape[1] != 1:
        return pred
    turned = other == "xyz"
    if turned and ours == theirs == theirs[::-1]:
        both = "czyx --squeeze or --axes czxy --squeeze" if flat else "czyx or --axes cxyz"
        raise InputError(
            f"{mask.name}: {shape_text(mask.shape)} fits {gt.mask.name} ({shape_text(theirs)}) along z,y,x, "
            "as nnU-Net saves it, and along x,y,z.",
            hint=f"say which: --axes {both}",
            code="geometry.axes",
        )
    if ours != (theirs[::-1] if turned else theirs):
        return pred
    named = ("channels,z,y,x" if turned else "channels,z,rows,columns") if flat else "channels,z,y,x"
    notes.append(
        Note(
            f"{mask.name}: {shape_text(mask.shape)} read along {named}, as nnU-Net saves it and the shape of "
            f"{gt.mask.name} has it (--axes says otherwise)",
            code="geometry.axes",
        )
    )
    if flat:
        pred = _kept(pred, [0, 2, 3])
    spatial = range(1, pred.mask.array.ndim)
    return _transposed(pred, [0, *(reversed(spatial) if turned else spatial)], 0)


def order_hint(pred: Mask, gt: Mask, *, channels: bool = False) -> str:
    """Return the `--axes` that would bring the shape of an array file onto that of the other file, if one does."""
    arrays = [mask for mask in (pred, gt) if not order_of(mask)]
    if len(arrays) != 1:
        return ""
    other = gt if arrays[0] is pred else pred
    mine, theirs = arrays[0].shape, other.shape
    if channels and arrays[0] is pred:
        fitting = [
            order[:axis] + _CHANNEL + order[axis:]
            for axis in (0, *range(len(mine) - 1, 0, -1))
            for order in _orders(mine[:axis] + mine[axis + 1 :], theirs, order_of(other))
        ]
    else:
        fitting = [] if channels else _orders(mine, theirs, order_of(other))
    if not fitting:
        return ""
    why = " (SimpleITK's arrays are z,y,x)" if "zyx" in fitting[0] else ""
    return " or ".join(f"--axes {letters}" for letters in fitting[:2]) + f" would fit{why}"


def _orders(mine: tuple[int, ...], theirs: tuple[int, ...], axes: str) -> list[str]:
    """Return the orders in which axes of these lengths would make the other shape, reversed ones first."""
    if len(mine) != len(theirs) or len(mine) not in (2, 3):
        return []
    backwards = tuple(range(len(mine)))[::-1]
    orders = sorted(permutations(range(len(mine))), key=lambda order: order != backwards)
    return ["".join(axes[a] for a in order) for order in orders if tuple(theirs[a] for a in order) == mine]


def _file_axis(axis: int, side: Side) -> int:
    """Return `--channel-axis` as a number from 0 of the file. Raises `UsageError` for one that it has not."""
    if not -side.ndim <= axis < side.ndim:
        raise UsageError(
            f"--channel-axis {axis} does not exist: {side.mask.name} has axes 0 to {side.ndim - 1}.",
            code="geometry.channels",
        )
    return axis % side.ndim


def channel_axis(side: Side, reading: Reading) -> int:
    """Return the axis of the array that holds the channels: `--axes`, `--channel-axis`, or where the format has it.

    Raises `UsageError` for an axis that does not exist or was dropped.
    """
    if side.channels is not None:
        return side.channels
    if reading.channel_axis is None:
        return side.mask.array.ndim - 1 if side.mask.channels_last else 0
    axis = _file_axis(reading.channel_axis, side)
    if axis not in side.file_axes:
        raise UsageError(
            f"--channel-axis {reading.channel_axis} with --squeeze: that axis of {side.mask.name} has length 1.",
            code="geometry.channels",
        )
    return side.file_axes.index(axis)
