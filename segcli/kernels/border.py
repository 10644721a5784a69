"""Border voxels of all labels of a map: those with a neighbour that is not of their label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel
from segcli.kernels.elements import gather, row_values


def border_voxels(
    volume: NDArray[Any], lut: NDArray[np.int32], blank: int, *, flat: bool, reach: int, closed: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return places and kinds (see `elements`) of the border voxels of a volume, row by row.

    `volume` is C-contiguous and 3-D, uint8 or uint16; a `flat` one is a plane, whose voxels have no
    neighbours above and below. `lut[value]` is the label of a raw value, 0 for background, -1 for a voxel that
    is no neighbour; `blank` is a value of the background. Neighbours differ in at most `reach` axes.
    `closed` says that what is outside the volume is background; otherwise it is no neighbour.
    """
    if volume.size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint32)
    depth, height, width = volume.shape
    values = row_values(volume, blank)
    outside = np.full(width, blank, dtype=volume.dtype)
    flags = np.zeros((width + 7) // 8 * 8, dtype=volume.dtype)  # a multiple of a word
    differs = np.zeros(width, dtype=volume.dtype)
    return gather(
        lambda row, places, kinds, found: _collect(
            volume, lut, outside, values, flat, reach, closed, row, flags, differs, places, kinds, found
        ),
        depth * height,
        width,
    )


def warm() -> None:
    """Compile the kernels for both dtypes."""
    lut = np.array([0, 1], dtype=np.int32)
    for dtype in (np.uint8, np.uint16):
        border_voxels(np.ones((1, 1, 1), dtype=dtype), lut, 0, flat=False, reach=1, closed=True)


@kernel()
def _row(volume: Any, outside: Any, closed: bool, z: int, y: int) -> Any:
    """Return a row; beyond the volume a blank one if `closed`, else the nearest there is.

    The nearest row stands in for one that is no neighbour: its voxels are neighbours, or the voxel itself.
    """
    if 0 <= z < volume.shape[0] and 0 <= y < volume.shape[1]:
        return volume[z, y]
    if closed:
        return outside
    return volume[min(max(z, 0), volume.shape[0] - 1), min(max(y, 0), volume.shape[1] - 1)]


@kernel()
def _flag_faces(a: Any, b: Any, center: Any, c: Any, d: Any, flags: Any) -> None:
    """Flag voxels x = 1..width-2 of the centre row that differ from a face neighbour.

    No branch, no early exit and no widening: only so is the loop vectorised.
    """
    narrow = a.dtype.type
    inner = flags[1:]
    middle = center[1:]
    right = center[2:]
    a_middle = a[1:]
    b_middle = b[1:]
    c_middle = c[1:]
    d_middle = d[1:]
    for x in range(right.size):
        value = middle[x]
        along = narrow((center[x] ^ value) | (right[x] ^ value))
        across = narrow((a_middle[x] ^ value) | (b_middle[x] ^ value) | (c_middle[x] ^ value) | (d_middle[x] ^ value))
        inner[x] = narrow(along | across)


@kernel()
def _mark_column(row: Any, center: Any, differs: Any) -> None:
    """Mark in `differs` where a row differs from the centre row."""
    narrow = row.dtype.type
    for x in range(row.size):
        differs[x] = narrow(differs[x] | (row[x] ^ center[x]))


@kernel()
def _flag_all_around(center: Any, differs: Any, flags: Any) -> None:
    """Flag voxels x = 1..width-2 of the centre row unless they and all their neighbours are equal."""
    narrow = center.dtype.type
    inner = flags[1:]
    middle = center[1:]
    right = center[2:]
    middle_differs = differs[1:]
    right_differs = differs[2:]
    for x in range(right.size):
        along = narrow((center[x] ^ middle[x]) | (right[x] ^ middle[x]))
        inner[x] = narrow(along | differs[x] | middle_differs[x] | right_differs[x])


@kernel()
def _touches(rows: Any, lut: Any, label: int, x: int, reach: int, closed: bool) -> bool:
    """Tell whether a neighbour of voxel x of rows[4] is neither of its label nor left out."""
    width = rows[4].size
    for k in range(9):
        left = reach - (k < 3 or k > 5) - (k % 3 != 1)  # axes in which a neighbour of this row may still differ
        if left < 0:
            continue
        for step in range(-1, 2):
            if step != 0 and left == 0:
                continue
            other: Any = np.int64(0)
            if 0 <= x + step < width:
                other = np.int64(lut[rows[k][x + step]])
            elif not closed:
                continue
            if other != label and other >= 0:
                return True
    return False


@kernel()
def _collect(
    volume: Any,
    lut: Any,
    outside: Any,
    values: Any,
    flat: bool,
    reach: int,
    closed: bool,
    row: Any,
    flags: Any,
    differs: Any,
    places: Any,
    kinds: Any,
    found: Any,
) -> tuple[int, int]:
    """Append the border voxels from a row on while there is room; return (next row, elements found)."""
    depth, height, width = volume.shape
    last_row = depth * height
    room = places.size - 8 * width
    blank = outside[0]
    words = flags.view(np.uint64)
    per_word = 8 // flags.itemsize
    near: Any = np.zeros(6, dtype=np.int64)
    z = row // height
    y = row - z * height - 1
    row -= 1
    while row + 1 < last_row and found <= room:
        row += 1
        y += 1
        if y == height:
            y = 0
            z += 1
        # Rows of nothing but background, the most frequent ones, are not looked at again.
        if values[z + 1, y + 1] == blank:
            continue
        above = z if flat else z - 1
        below = z if flat else z + 1
        center = volume[z, y]
        rows = (
            _row(volume, outside, closed, above, y - 1),
            _row(volume, outside, closed, above, y),
            _row(volume, outside, closed, above, y + 1),
            _row(volume, outside, closed, z, y - 1),
            center,
            _row(volume, outside, closed, z, y + 1),
            _row(volume, outside, closed, below, y - 1),
            _row(volume, outside, closed, below, y),
            _row(volume, outside, closed, below, y + 1),
        )
        if reach == 1:
            _flag_faces(rows[3], rows[5], center, rows[1], rows[7], flags)
        else:
            differs[:] = 0
            for k in range(9):
                _mark_column(rows[k], center, differs)
            _flag_all_around(center, differs, flags)
        # The ends of a row touch the outside; what is not background there is looked at.
        flags[0] = center[0] ^ blank
        flags[width - 1] = center[width - 1] ^ blank
        for word in range(words.size):
            if words[word] == 0:
                continue
            for x in range(per_word * word, min(per_word * (word + 1), width)):
                if flags[x] == 0:
                    continue
                label: Any = np.int64(lut[center[x]])
                if label <= 0:
                    continue
                if reach == 1 and 0 < x < width - 1:
                    # The usual case, looked at here: handing nine rows over takes longer than looking.
                    near[0] = lut[rows[1][x]]
                    near[1] = lut[rows[3][x]]
                    near[2] = lut[rows[5][x]]
                    near[3] = lut[rows[7][x]]
                    near[4] = lut[center[x - 1]]
                    near[5] = lut[center[x + 1]]
                    others = 0
                    for k in range(6):
                        others += near[k] != label and near[k] >= 0
                    touches = others > 0
                else:
                    touches = _touches(rows, lut, label, x, reach, closed)
                if touches:
                    places[found] = row << 32 | x
                    kinds[found] = label << 16
                    found += 1
    return row + 1, found
