"""The worst slice of a loss as a picture: its map in colour with a scale, the outlines of gt and prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segcli.explain.divisions import slice_axis
from segcli.explain.inspection import Inspection
from segcli.masks.map_colours import BLUE, RED, WHITE, colours

GT, PRED = (27, 120, 55), (20, 20, 20)
#: A picture's longer side is brought to about this many pixels, by a whole factor.
SIDE = 720
MARGIN, BAR, LINE = 12, 14, 18


def worst_slice(inspection: Inspection) -> tuple[int, int | None]:
    """Return the axis and the index of the slice with the largest contribution; `None` in 2-D."""
    values = inspection.excess_map
    if values.ndim == 2:
        return 0, None
    axis = slice_axis(inspection.loaded.soft(inspection.loaded.labels[0]))
    sums = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).sum(axis=1)
    return axis, int(np.argmax(sums))


def draw(inspection: Inspection) -> NDArray[np.uint8]:
    """Return the picture as an (H, W, 3) array."""
    grid = inspection.loaded.grid
    axis, index = worst_slice(inspection)
    predicted, truth = grid.counted(grid.pred), grid.counted(grid.gt)
    values = inspection.excess_map
    spacing = grid.spacing
    if index is not None:
        values, predicted, truth = (np.take(a, index, axis) for a in (values, predicted, truth))
        spacing = tuple(s for a, s in enumerate(spacing) if a != axis)
    # A voxel becomes a rectangle of its own proportions.
    factor = max(1.0, SIDE / max(n * s for n, s in zip(values.shape, spacing, strict=True)))
    rows, columns = (max(1, round(factor * s)) for s in spacing)
    scale = float(np.abs(values).max())
    picture = _enlarge(colours(values, scale), rows, columns)
    for labels, colour, inset in ((truth, GT, 0), (predicted, PRED, 2)):
        picture[_outline(_enlarge(labels, rows, columns), inset)] = colour
    return _frame(picture, inspection, scale, axis, index)


def _enlarge(array: NDArray[np.generic], rows: int, columns: int) -> NDArray[np.generic]:
    return np.repeat(np.repeat(array, rows, axis=0), columns, axis=1)


def _outline(labels: NDArray[np.generic], inset: int) -> NDArray[np.bool_]:
    """Return lines inside the borders of all labels of an enlarged map, two pixels wide, `inset` further in."""
    inner = np.asarray(labels != 0)
    for _ in range(inset):
        inner = _shrunk(inner, labels)
    return inner & ~_shrunk(_shrunk(inner, labels), labels)


def _shrunk(mask: NDArray[np.bool_], labels: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels whose four neighbours are in the mask and have their label."""
    kept = mask.copy()
    for axis in (0, 1):
        for step in (1, -1):
            kept &= _shifted(mask, axis, step) & (_shifted(labels, axis, step) == labels)
    return kept


def _shifted(array: NDArray[np.generic], axis: int, step: int) -> NDArray[np.generic]:
    """Return the array moved by one pixel, 0 coming in."""
    moved = np.roll(array, step, axis)
    np.moveaxis(moved, axis, 0)[0 if step > 0 else -1] = 0
    return moved


def _frame(
    picture: NDArray[np.generic], inspection: Inspection, scale: float, axis: int, index: int | None
) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    where = "" if index is None else f", slice {index} of axis {axis}"
    title = f"{inspection.loss} = {inspection.value:.4g}, excess {inspection.excess:.4g}{where}"
    wide = max(width + 2 * MARGIN, 420)
    canvas = Image.new("RGB", (wide, height + 3 * MARGIN + BAR + 3 * LINE), (255, 255, 255))
    canvas.paste(Image.fromarray(np.asarray(picture, np.uint8)), (MARGIN, MARGIN + LINE))
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN // 2), title, fill=(0, 0, 0))
    top = height + 2 * MARGIN + LINE
    length = wide - 2 * MARGIN
    for x in range(length):
        strength = 2 * x / max(length - 1, 1) - 1
        end = BLUE if strength < 0 else RED
        shade = tuple(round(w + abs(strength) * (e - w)) for w, e in zip(WHITE, end, strict=True))
        pen.line([(MARGIN + x, top), (MARGIN + x, top + BAR)], fill=shade)
    for place, text in ((0.0, f"{-scale:.2g}"), (0.5, "0"), (1.0, f"{scale:.2g}")):
        left = MARGIN + place * (length - pen.textlength(text))
        pen.text((left, top + BAR + 2), text, fill=(0, 0, 0))
    below = top + BAR + LINE
    pen.rectangle([MARGIN, below + 4, MARGIN + 14, below + 8], fill=GT)
    pen.text((MARGIN + 20, below), "outline of gt", fill=(0, 0, 0))
    pen.rectangle([MARGIN + 140, below + 4, MARGIN + 154, below + 8], fill=PRED)
    pen.text((MARGIN + 160, below), "outline of prediction; excess per voxel", fill=(0, 0, 0))
    return np.asarray(canvas, np.uint8)
