"""Surface elements of all labels of a map, in one pass over it.

Surfel codes and their areas follow Nikolov et al. 2021 (doi 10.2196/26151), as in DeepMind's
`surface-distance`; the area around a voxel's corner is that of DisTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.border import border_voxels
from segcli.kernels.elements import gather, row_values, sort_by_label
from segcli.kernels.surfaces import Surface
from segcli.kernels.surfel_areas import face_areas, moved_codes, surfel_areas

#: Of each border: in how many axes a neighbour may differ, and whether what is outside of the array is one.
_BORDERS: dict[str, tuple[int, bool]] = {
    "border": (1, True),
    "border_c2": (2, True),
    "border_c3": (3, True),
    "border_open": (1, False),
    "border26": (3, False),
}
_AREAS = {"surfel": surfel_areas, "vertex": face_areas}


def surface_elements(
    labels: NDArray[Any],
    lut: NDArray[np.int32],
    n: int,
    spacing: Sequence[float],
    surface: Surface,
    axes: Sequence[int] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Find the surface elements of labels 1..n.

    `labels` is a C-contiguous uint8 or uint16 array, 3-D or 2-D; a 2-D one is a plane with contours, not
    a thin volume. `lut[value]` is the label of a raw value: 1..n, 0 for background, -1 for a voxel that
    does not count; it must be as long as the largest value plus one, which is not checked. `spacing` has
    one entry per array axis.

    surface="surfel": an element on every corner of the voxel grid whose 2x2x2 (2x2) voxels are neither
    all inside nor all outside; outside of the array is background. Element i lies at index i - 1/2 of
    each axis. Its weight is the marching-cubes area in the unit of the spacing squared (in 2-D a length).
    With voxels that do not count, the element is there unless the cell may be all inside or all outside,
    and weighs the mean of the areas without and with those voxels inside.
    surface="vertex": the same corners, weighted by the area of the voxel faces between inside and outside
    that meet there: each face gives a quarter of its area (in 2-D half its length) to each of its corners.
    surface="border": the voxels of a label with a face neighbour of another label or outside the array.
    A voxel that does not count is no neighbour. Weight 1. "border_c2" looks at edge neighbours too,
    "border_c3" at all; "border_open" and "border26" are "border" and "border_c3" where what is outside the
    array is no neighbour.

    Returns offsets (int64, n + 1), points (int32, M x ndim) and weights (float64, M): the elements of
    label k are offsets[k - 1]:offsets[k], in C order; with `axes` these axes of the map, in this order, are the
    columns of the points, and elements are in C order of those. The areas are symmetric in the axes: of the
    transpose of an array, with the spacing reversed, `axes=(2, 1, 0)` gives what the array itself gives.
    Raises ValueError for another layout, dtype or surface.
    """
    if labels.ndim not in (2, 3) or not labels.flags.c_contiguous:
        raise ValueError(f"surface_elements: need a C-contiguous 2-D or 3-D map, not {labels.ndim}-D")
    if labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"surface_elements: need a uint8 or uint16 map, not {labels.dtype}")
    if surface not in _AREAS and surface not in _BORDERS:
        raise ValueError(f"surface_elements: surface={surface!r} is not one of {', '.join([*_AREAS, *_BORDERS])}")
    if len(spacing) != labels.ndim:
        raise ValueError(f"surface_elements: {len(spacing)} spacings for {labels.ndim} axes")
    ndim = labels.ndim
    labels, lut, blank = _with_blank(labels, lut)
    volume = writable(labels.reshape((1,) * (3 - ndim) + labels.shape))
    if surface in _BORDERS:
        reach, closed = _BORDERS[surface]
        places, kinds = border_voxels(volume, lut, blank, flat=ndim == 2, reach=reach, closed=closed)
        return sort_by_label(places, kinds, volume.shape[1], np.ones(256), n, ndim, labels.shape, axes)
    places, kinds = _cells(volume, lut, blank, ndim == 2)
    areas = _AREAS[surface](tuple(float(s) for s in spacing))
    return sort_by_label(places, kinds, volume.shape[1] + 1, areas, n, ndim, labels.shape, axes)


def surface_cells(
    labels: NDArray[Any], lut: NDArray[np.int32], n: int, axes: Sequence[int] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
    """Find the cells of the dual grid that the surfaces of labels 1..n pass, with their neighbour codes.

    Arguments, offsets and points are those of `surface_elements` for surfels; the third array says which of
    a cell's voxels are inside (a plane's four bits stand twice), the cell's axes being the columns of the points.
    Cells with a voxel that does not count are left out: what passes them is not known.
    """
    ndim = labels.ndim
    labels, lut, blank = _with_blank(labels, lut)
    volume = writable(labels.reshape((1,) * (3 - ndim) + labels.shape))
    places, kinds = _cells(volume, lut, blank, ndim == 2)
    if (lut < 0).any():
        known = kinds >> 8 & 255 == kinds & 255
        places, kinds = places[known], kinds[known]
    # A code instead of an area: the mean of the code with itself is the code.
    codes_of = moved_codes(tuple(range(ndim) if axes is None else axes))
    offsets, points, codes = sort_by_label(places, kinds, volume.shape[1] + 1, codes_of, n, ndim, labels.shape, axes)
    return offsets, points, codes.astype(np.uint8)


def warm() -> None:
    """Compile the kernels for both dtypes."""
    lut = np.array([0, 1], dtype=np.int32)
    for dtype in (np.uint8, np.uint16):
        surface_elements(np.ones((1, 1, 1), dtype=dtype), lut, 1, (1, 1, 1), "surfel")


def _with_blank(labels: NDArray[Any], lut: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.int32], int]:
    """Find a raw value that means background, to stand for what is outside the array.

    When every value of the lut means something, a value is added, if need be by widening the map.
    """
    lut = np.ascontiguousarray(lut, dtype=np.int32)
    background = np.flatnonzero(lut == 0)
    if background.size:
        return labels, writable(lut), int(background[0])
    blank = lut.size
    if blank > np.iinfo(np.uint16).max:
        raise ValueError("surface_elements: all 65536 values are labels, none is background")
    if blank > np.iinfo(labels.dtype).max:
        labels = labels.astype(np.uint16)
    return labels, np.append(lut, np.int32(0)), blank


def _cells(
    volume: NDArray[Any], lut: NDArray[np.int32], blank: int, flat: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return places and kinds (see `elements`) of the cells that are neither all inside nor all outside."""
    if volume.size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint32)
    depth, height, width = volume.shape
    last_row = (depth + (0 if flat else 1)) * (height + 1)
    values = row_values(volume, blank)
    outside = np.full(width, blank, dtype=volume.dtype)
    flags = np.zeros((width + 1 + 7) // 8 * 8, dtype=volume.dtype)  # a multiple of a word
    return gather(
        lambda row, places, kinds, found: _collect(
            volume, lut, outside, values, flat, row, last_row, flags, places, kinds, found
        ),
        last_row,
        width + 1,
    )


@kernel()
def _flag_cells(a: Any, b: Any, c: Any, d: Any, flags: Any) -> None:
    """Flag cells x = 1..width-1 whose eight voxels, x - 1 and x of four rows, are not all equal.

    No branch, no early exit and no widening: only so is the loop vectorised, at under a tenth of a ns a cell.
    """
    narrow = a.dtype.type
    inner = flags[1:]
    a_right = a[1:]
    b_right = b[1:]
    c_right = c[1:]
    d_right = d[1:]
    for x in range(a_right.size):
        value = a[x]
        left = narrow((b[x] ^ value) | (c[x] ^ value) | (d[x] ^ value))
        right = narrow((b_right[x] ^ value) | (c_right[x] ^ value) | (d_right[x] ^ value))
        inner[x] = narrow(left | right | (a_right[x] ^ value))


@kernel()
def _collect(
    volume: Any,
    lut: Any,
    outside: Any,
    values: Any,
    flat: bool,
    row: Any,
    last_row: int,
    flags: Any,
    places: Any,
    kinds: Any,
    found: Any,
) -> tuple[int, int]:
    """Append the elements of rows row..last_row while there is room; return (next row, elements found)."""
    depth, height, width = volume.shape
    rows_per_plane = height + 1
    cells = width + 1
    room = places.size - 8 * cells
    blank = outside[0]
    words = flags.view(np.uint64)
    per_word = 8 // flags.itemsize
    near: Any = np.zeros(8, dtype=np.int64)
    z = row // rows_per_plane
    y = row - z * rows_per_plane - 1
    row -= 1
    while row + 1 < last_row and found <= room:
        row += 1
        y += 1
        if y == rows_per_plane:
            y = 0
            z += 1
        # Rows of nothing but background, the most frequent ones, are not looked at again.
        if (
            values[z, y] == blank
            and values[z, y + 1] == blank
            and values[z + 1, y] == blank
            and values[z + 1, y + 1] == blank
        ):
            continue
        # The four rows of voxels around this row of cells; a plane has no neighbouring planes.
        back = z - 1 if not flat else z
        a = volume[back, y - 1] if y > 0 and back >= 0 else outside
        b = volume[back, y] if y < height and back >= 0 else outside
        c = volume[z, y - 1] if y > 0 and z < depth else outside
        d = volume[z, y] if y < height and z < depth else outside
        _flag_cells(a, b, c, d, flags)
        flags[0] = (a[0] ^ blank) | (b[0] ^ blank) | (c[0] ^ blank) | (d[0] ^ blank)
        flags[width] = (a[-1] ^ blank) | (b[-1] ^ blank) | (c[-1] ^ blank) | (d[-1] ^ blank)
        for word in range(words.size):
            if words[word] == 0:
                continue
            for x in range(per_word * word, min(per_word * (word + 1), cells)):
                if flags[x] == 0:
                    continue
                left = max(x - 1, 0)
                right = min(x, width - 1)
                v0 = a[left]
                v1 = a[right]
                v2 = b[left]
                v3 = b[right]
                v4 = c[left]
                v5 = c[right]
                v6 = d[left]
                v7 = d[right]
                if left + 1 == right:
                    # Nearly always two values meet: the element of one is the complement of the other's.
                    other = v0
                    other = v1 if v1 != v7 else other
                    other = v2 if v2 != v7 else other
                    other = v3 if v3 != v7 else other
                    other = v4 if v4 != v7 else other
                    other = v5 if v5 != v7 else other
                    other = v6 if v6 != v7 else other
                    same = (v0 == v7) << 7 | (v1 == v7) << 6 | (v2 == v7) << 5 | (v3 == v7) << 4
                    same |= (v4 == v7) << 3 | (v5 == v7) << 2 | (v6 == v7) << 1 | 1
                    rest = (v0 == other) << 7 | (v1 == other) << 6 | (v2 == other) << 5 | (v3 == other) << 4
                    rest |= (v4 == other) << 3 | (v5 == other) << 2 | (v6 == other) << 1
                    first: Any = np.int64(lut[v7])
                    second: Any = np.int64(lut[other])
                    if same + rest == 255 and first >= 0 and second >= 0 and first != second:
                        # Written always, kept if it is a label: cheaper than a branch nobody can predict.
                        places[found] = row << 32 | x
                        kinds[found] = first << 16 | same << 8 | same
                        found += first > 0
                        places[found] = row << 32 | x
                        kinds[found] = second << 16 | rest << 8 | rest
                        found += second > 0
                        continue
                near[0] = lut[v0] if x > 0 else 0
                near[1] = lut[v1] if x < width else 0
                near[2] = lut[v2] if x > 0 else 0
                near[3] = lut[v3] if x < width else 0
                near[4] = lut[v4] if x > 0 else 0
                near[5] = lut[v5] if x < width else 0
                near[6] = lut[v6] if x > 0 else 0
                near[7] = lut[v7] if x < width else 0
                unknown = 0
                label = 0
                for k in range(8):
                    unknown |= (near[k] < 0) << (7 - k)
                    label = max(label, near[k])
                # Labels of the cell from the largest down; mostly there is one, and background.
                while label > 0:
                    code = 0
                    below = 0
                    for k in range(8):
                        code |= (near[k] == label) << (7 - k)
                        if near[k] < label:
                            below = max(below, near[k])
                    if code | unknown != 255:
                        places[found] = row << 32 | x
                        kinds[found] = label << 16 | (code | unknown) << 8 | code
                        found += 1
                    label = below
    return row + 1, found
