"""The voxels of an image in one order, tile by tile, whatever the layout of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.blocks import SIDE_OF_BYTES, SIDE_OF_FLOATS, turn_block

CHUNK = 1 << 16  # voxels that are sorted into classes at once: their streams stay in a second-level cache
_ROWS, _COLUMNS = 64, 1 << 13  # of a tile: a column is four lines of a cache, a row is read like a flat array
_GAP = 16  # voxels between the rows of a transposed tile, or all would fall on one place of the cache

Tile = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.int64], int]


def tiles(shape: tuple[int, ...], turned: bool, memory: list[NDArray[Any]]) -> Iterator[Tile]:
    """Yield parts of tiles: flat arrays, where in them the rows of the part start, and how long these are.

    The rows of the matrix are the leading axes, as few as make 64, numbered in Fortran order; its columns are the
    others in C order. So the voxels of a row are neighbours in C order, and those of a column in Fortran order.
    The last axis is of the columns.
    """
    split = next((k for k in range(1, len(shape)) if math.prod(shape[:k]) >= _ROWS), max(len(shape) - 1, 0))
    rows, columns = math.prod(shape[:split]), math.prod(shape[split:])
    if not rows * columns:
        return
    lengths = np.array(shape[split:][::-1] if turned else shape[:split], dtype=np.int64)
    steps = [math.prod(shape[:k] if turned else shape[k + 1 :]) for k in range(len(shape))]
    jumps = np.array(steps[split:][::-1] if turned else steps[:split], dtype=np.int64)
    width = _even(columns, max(_COLUMNS, CHUNK // rows))
    height = _even(rows, max(_ROWS, CHUNK // width))
    together = max(1, CHUNK // width)
    found = [np.empty(height * (width + _GAP) if turned and a.size else 0, dtype=a.dtype) for a in memory]
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            bottom, right = min(top + height, rows), min(left + width, columns)
            starts = np.empty(right - left if turned else bottom - top, dtype=np.int64)
            _find(left if turned else top, lengths, jumps, starts)
            if turned:
                for of, to in zip(memory, found, strict=True):
                    if of.size:
                        side = SIDE_OF_BYTES if of.dtype == np.uint8 else SIDE_OF_FLOATS
                        _lay(of, starts, top, bottom - top, side, to, width + _GAP)
                starts = np.arange(bottom - top) * (width + _GAP)
            else:
                starts += left
            for k in range(0, bottom - top, together):
                p, y, marks = found if turned else memory
                yield p, y, marks, starts[k : k + together], right - left


def warm() -> None:
    """Compile the kernels for all dtypes."""
    for dtype in (np.uint8, np.float32, np.float64):
        for turned in (False, True):
            list(tiles((2, 2), turned, [np.zeros(4, dtype)] * 3))


def _even(size: int, most: int) -> int:
    """Return the length of parts of a size that are as even as can be, none longer than `most`."""
    return -(-size // -(-size // most))


@kernel()
def _find(first: int, lengths: Any, steps: Any, found: Any) -> None:
    """Write where in memory the lines from `first` on start, the fastest axis of their numbers first."""
    digits = np.empty(lengths.size, np.int64)
    start = np.int64(0)
    rest = first
    for k in range(lengths.size):
        digits[k] = rest % lengths[k]
        start += digits[k] * steps[k]
        rest //= lengths[k]
    for i in range(found.size):
        found[i] = start
        for k in range(lengths.size):
            digits[k] += 1
            start += steps[k]
            if digits[k] < lengths[k]:
                break
            start -= digits[k] * steps[k]
            digits[k] = 0


@kernel()
def _lay(memory: Any, starts: Any, top: int, height: int, side: int, found: Any, step: int) -> None:
    """Write columns that start in memory at `starts`, from row `top` on, as rows that are `step` apart."""
    for first in range(0, starts.size, side):
        within = min(side, starts.size - first)
        row = 0
        while within == side and row + side <= height:
            turn_block(memory, starts, first, top + row, found, row * step + first, step)
            row += side
        for r in range(row, height):
            for c in range(first, first + within):
                found[r * step + c] = memory[starts[c] + top + r]
