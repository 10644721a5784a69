"""Bringing a prediction and a ground truth onto one grid, and saying what their voxels mean.

Nothing is resampled or broadcast: axes may be permuted and flipped on request, channels become labels,
probabilities meet their threshold, and everything else that does not fit is refused with both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segcli.errors import InputError, UsageError
from segcli.masks import geometry
from segcli.masks.arrays import FARTHEST, farthest
from segcli.masks.axes import (
    Side,
    channel_axis,
    images,
    in_order,
    in_order_of_others,
    regions_of,
    squeezed,
    stack_hint,
    with_dropped,
)
from segcli.masks.channels import cut_notes, read_prediction, with_channels
from segcli.masks.labels import Label
from segcli.masks.mask import Mask, Note, Ranges
from segcli.masks.reading import Reading
from segcli.masks.void import counted, marked, remarks, spec_of_void, void_channels


@dataclass(frozen=True, slots=True)
class Grid:
    """A pair on one grid: label maps, probabilities where there are some, and what is to be said.

    `pred` is the hard label map; `prob` holds the probabilities it came from, (*shape) for one
    channel or (C, *shape) for one channel per label; `logits` are theirs, where they are known. Of channels that
    overlap, `regions` are their labels, and bit c of a voxel of `pred` says that it is in `regions[c]`. Values of
    `void` are no labels: in `gt` they do not count, in `pred` they are wrong. `geometry` says how the headers lie:
    `ok`, `shapes only` (a file has no affine), `reoriented`, or `ignored: ` and what differs.
    """

    pred: NDArray[Any]
    gt: NDArray[Any]
    spacing: tuple[float, ...]
    unit: Literal["mm", "voxel"]
    valid: NDArray[np.bool_] | None
    void: Ranges = ()
    prob: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    soft_gt: NDArray[Any] | None = None
    channels: int = 0
    regions: tuple[Label, ...] = ()
    threshold: float = 0.5
    geometry: str = "shapes only"
    #: The axis of the file of the prediction that holds its channels.
    channel_axis: int = 0
    #: Where the voxels of the ground truth lie, as the grid has its axes.
    affine: NDArray[np.float64] | None = None
    notes: tuple[Note, ...] = ()
    remarks: tuple[str, ...] = ()

    def counted(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return a label map of the grid with 0 where voxels do not count or hold no label."""
        if self.valid is None and not self.void:
            return labels
        nothing = marked(labels, self.void)
        return np.where(nothing if self.valid is None else nothing | ~self.valid, 0, labels)

    @property
    def bits(self) -> dict[Label, int] | None:
        """Return the bit of each region in `pred`; `None` where a voxel of it has one label."""
        return {label: 1 << c for c, label in enumerate(self.regions)} or None


def match(pred: Mask, gt: Mask, reading: Reading, roi: Mask | None = None) -> list[Grid]:
    """Return the pair on one grid; with `stack` one for each index of the axis of the images.

    `roi` is not 0 in the voxels that count, on the grid of the ground truth.

    Raises `InputError` where shapes, geometry or kinds do not fit, with both values.
    """
    if reading.stack_axis is not None:
        pred, gt = with_dropped(pred), with_dropped(gt)
    notes: list[Note] = [*(_named(n, pred) for n in pred.notes), *(_named(n, gt) for n in gt.notes)]
    sides = Side.of(pred), Side.of(gt)
    pairs = images(*sides, reading, notes) if reading.stack else [sides]
    regions = [None] * len(pairs) if roi is None else regions_of(roi, len(pairs), reading)
    notes += [] if roi is None else [_named(n, roi) for n in roi.notes]
    grids = [
        _match(*pair, reading, notes if i == 0 else [], inside)
        for i, (pair, inside) in enumerate(zip(pairs, regions, strict=True))
    ]
    first = grids[0]
    if first.prob is not None and (first.regions or not first.channels):
        said = cut_notes(pred, [grid.pred for grid in grids], first.regions, reading)
        grids[0] = replace(first, notes=(*first.notes, *said))
    return grids


def check_grids(pred: Mask, gt: Mask, reading: Reading, roi: Mask | None = None) -> None:
    """Raise what `match` would raise of shapes and geometry: of masks whose arrays hold nothing yet."""
    if reading.stack_axis is not None:
        pred, gt = with_dropped(pred), with_dropped(gt)
    sides = Side.of(pred), Side.of(gt)
    pairs = images(*sides, reading, []) if reading.stack else [sides]
    region = None if roi is None else regions_of(roi, len(pairs), reading)[0]
    _, _, gt, _ = _aligned(*pairs[0], reading, [])
    if region is not None:
        _region(region, *pairs[0], gt, reading, [])


def _aligned(pred_side: Side, gt_side: Side, reading: Reading, notes: list[Note]) -> tuple[Mask, str, Mask, int]:
    """Return both sides on one grid, how their grids lie, and which axis the channels had: now the first."""
    pred_side, gt_side = in_order(pred_side, gt_side, reading, notes)
    if reading.squeeze:
        pred_side, gt_side = squeezed(pred_side), squeezed(gt_side)
    gt = gt_side.mask
    if gt.array.ndim > 3:
        raise InputError(
            f"{gt.name}: a ground truth of {gt.array.ndim} dimensions ({_x(gt.shape)}); 2 or 3 are allowed.",
            hint=_too_many_axes(gt, reading),
            code="geometry.dimensions",
        )
    pred = with_channels(pred_side, gt, reading, notes)
    several = pred_side.mask.array.ndim > gt.array.ndim
    axis = pred_side.file_axes[channel_axis(pred_side, reading)] if several else 0
    return *_on_grid(pred, gt, reading, notes), gt, axis


def _match(pred_side: Side, gt_side: Side, reading: Reading, notes: list[Note], region: Side | None) -> Grid:
    pred, aligned, gt, axis = _aligned(pred_side, gt_side, reading, notes)
    inside = None if region is None else _region(region, pred_side, gt_side, gt, reading, notes).array != 0
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
    if pred.channels is not None and reading.channels is None and reading.threshold != 0.5:
        notes.append(Note("--threshold is not used: of several channels the largest decides", code="threshold.unused"))
    gt_labels, soft_gt = _ground_truth(gt, reading)
    hard, prob, logits = read_prediction(pred, reading, notes)
    # The one map of a foreground and a soft ground truth hold no values that could mark void, nor do channels that
    # overlap.
    one_map = prob is not None and pred.channels is None
    literal = None if soft_gt is not None else gt_labels
    channels = 0 if pred.channels is None else pred.shape[0]
    valid = counted(literal, hard if prob is None and not reading.channels else None, inside, reading, notes)
    if not reading.channels:
        notes += void_channels(channels, reading.ignore)
    return Grid(
        pred=hard,
        gt=gt_labels,
        spacing=spacing,
        unit=unit,
        valid=valid,
        void=() if one_map or soft_gt is not None else reading.ignore,
        prob=prob,
        logits=logits,
        soft_gt=soft_gt,
        channels=channels,
        regions=reading.channels or (),
        threshold=reading.threshold,
        geometry=aligned,
        channel_axis=axis,
        affine=gt.affine,
        notes=tuple(notes),
        remarks=tuple(remarks(spec_of_void(reading))),
    )


def _region(region: Side, pred_side: Side, gt_side: Side, gt: Mask, reading: Reading, notes: list[Note]) -> Mask:
    """Return a region of interest on the grid of the ground truth, whose side was `gt_side` as it was read."""
    region = in_order_of_others(region, (gt_side, pred_side), reading)
    region = squeezed(region) if reading.squeeze else region
    return _on_grid(region.mask, gt, reading, notes, "the ROI")[0]


def _too_many_axes(gt: Mask, reading: Reading) -> str:
    hints = ["--squeeze drops axes of length 1"] if 1 in gt.shape else []
    hints += [] if reading.stack else [stack_hint(gt)]
    return "; ".join([*hints, "a ground truth holds labels, no channels"])


def _named(note: Note, mask: Mask) -> Note:
    return note if note.text.startswith(mask.name) else replace(note, text=f"{mask.name}: {note.text}")


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


# --- axes ---------------------------------------------------------------------------------------


def _on_grid(
    pred: Mask, gt: Mask, reading: Reading, notes: list[Note], what: str = "the prediction"
) -> tuple[Mask, str]:
    """Return the prediction (or `what` is held against it) on the grid of the ground truth, or refuse.

    With it how the grids lie (`Grid.geometry`).
    """
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
            hint=f"segcli never resamples: resample {what} onto the ground truth first",
            code=first.code,
        )
    fits = pred.shape[0 if pred.channels is None else 1 :] == gt.shape
    if reading.on_geometry == "ignore" and fits:
        notes.append(Note(f"geometry ignored: {text}; the grid of {gt.name} is used", "warning", "geometry.ignored"))
        return replace(pred, spacing=gt.spacing, affine=gt.affine), f"ignored: {text}"
    hints = list(dict.fromkeys(d.hint for d in differences if d.hint))
    ignore = "; --on-geometry ignore compares voxel by voxel" if fits else ""
    raise InputError(
        f"{pred.name} vs {gt.name}: {text}.",
        hint="; ".join(hints) or f"resample {what} onto the ground truth{ignore}",
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
    far = farthest(gt.array)
    near = f"--round if these are labels up to {far:.2g} off; " if far <= FARTHEST else ""
    raise InputError(
        f"{gt.name}: a ground truth holds labels; this one holds {gt.kind} values.",
        hint=near + "swap the arguments if the prediction stands second; losses accept a soft ground truth with "
        "--soft-gt",
        code="kind.gt",
    )
