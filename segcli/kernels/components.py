"""Connected pieces of a label map, worked out on runs: stretches of one row that hold one value.

A volume is read once into runs; pieces, their sizes and overlaps, and the pieces of the background then
cost what there are runs, not voxels. A plane is a volume of one slice: its neighbours are those of the
volume that lie within it (26 and 18 are then 8, and 6 is 4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable

Ints = NDArray[np.int32]

#: How far apart along the row two runs may lie in rows that share a face or only an edge; -1 is never.
_REACH = {26: (1, 1), 18: (1, 0), 6: (0, -1)}
# A stretch that repeats the voxel before it is compared as a whole.
_BLOCK = 64


class Runs(NamedTuple):
    """The runs of a volume, row after row: those of row r are offsets[r] to offsets[r+1].

    `values` says what each run holds, or once they are joined the number of its piece from 0.
    """

    shape: tuple[int, ...]
    offsets: NDArray[np.int64]
    starts: Ints
    stops: Ints
    values: Ints


class Extents(NamedTuple):
    """Of each piece: voxels (n,), half-open box (n, 3, 2) and centre of gravity (n, 3), in voxels."""

    sizes: NDArray[np.int64]
    boxes: NDArray[np.int64]
    centres: NDArray[np.float64]


def runs_of(codes: NDArray[Any], numbers: Ints) -> Runs:
    """Return the runs of a C-contiguous 3-D map: `numbers[code]` is a run's value, -1 is none.

    Codes are uint8, uint16 or uint32. Neighbours of one number are one run whatever their codes. Every code has
    to be below `len(numbers)`: that is not checked. Raises ValueError for another layout.
    """
    if codes.ndim != 3 or codes.dtype not in (np.uint8, np.uint16, np.uint32) or not codes.flags.c_contiguous:
        given = f"{codes.ndim}-D {codes.dtype}"
        raise ValueError(f"runs_of: need a C-contiguous 3-D uint8, uint16 or uint32 map, not {given}")
    return Runs(codes.shape, *_read(writable(codes), np.asarray(numbers, dtype=np.int32)))


def joined(runs: Runs, connectivity: int) -> tuple[Runs, int]:
    """Return the runs with the number of their connected piece as value, and how many pieces there are.

    Values are not looked at: whatever touches is one piece. Pieces are numbered by their first voxel.
    """
    face, edge = _REACH[connectivity]
    pieces, count = _join(runs.offsets, runs.starts, runs.stops, runs.shape[1], face, edge)
    return runs._replace(values=pieces), int(count)


def background(runs: Runs) -> Runs:
    """Return what is left between the runs, in the volume grown by one voxel on every side."""
    grown = tuple(n + 2 for n in runs.shape)
    offsets, starts, stops = _gaps(runs.offsets, runs.starts, runs.stops, runs.shape)
    return Runs(grown, offsets, starts, stops, np.zeros(len(starts), dtype=np.int32))


def without(runs: Runs, holes: Runs) -> Runs:
    """Return what is left of the runs outside of others of the same volume, with their values."""
    offsets, starts, stops, values = _subtract(*runs[1:], holes.offsets, holes.starts, holes.stops)
    return Runs(runs.shape, offsets, starts, stops, values)


def overlaps(a: Runs, b: Runs) -> tuple[Ints, Ints, NDArray[np.int64]]:
    """Return all pairs of values that share voxels, and how many: three arrays, sorted by the pair."""
    first, second, lengths = _overlap(a.offsets, a.starts, a.stops, a.values, b.offsets, b.starts, b.stops, b.values)
    width = int(second.max()) + 1 if len(second) else 1
    pairs, at = np.unique(first.astype(np.int64) * width + second, return_inverse=True)
    shared = np.bincount(at, weights=lengths, minlength=len(pairs)).astype(np.int64)
    return (pairs // width).astype(np.int32), (pairs % width).astype(np.int32), shared


def extents(runs: Runs, count: int) -> Extents:
    """Return size, box and centre of the values 0 to `count` - 1; all of them have to occur."""
    sizes, boxes, sums = _measure(runs.offsets, runs.starts, runs.stops, runs.values, runs.shape, count)
    return Extents(sizes, boxes, sums / np.maximum(sizes, 1)[:, None])


def painted(runs: Runs, wanted: NDArray[np.bool_], box: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the part of the volume in `box` (3, 2): 1 where a run has a value that is wanted."""
    canvas = np.zeros(tuple(box[:, 1] - box[:, 0]), dtype=np.uint8)
    _paint(runs.offsets, runs.starts, runs.stops, runs.values, runs.shape[1], wanted, box, canvas)
    return canvas


def warm() -> None:
    """Compile the kernels for all dtypes."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        runs = runs_of(np.ones((1, 1, 1), dtype=dtype), np.array([-1, 0], dtype=np.int32))
    runs, count = joined(background(runs), 6)
    overlaps(runs, runs)
    without(runs, runs)
    painted(runs, np.ones(1, dtype=np.bool_), extents(runs, count).boxes[0])


@kernel()
def _grown(array: Any, room: int) -> Any:
    larger = np.empty(room, dtype=array.dtype)
    larger[: array.size] = array
    return larger


@kernel()
def _repeats(part: Any, before: Any) -> bool:
    """Tell whether a stretch equals the one a voxel earlier; no exit on the way, so the loop is vectorised."""
    narrow = part.dtype.type
    differs = narrow(0)
    for x in range(part.size):
        differs = narrow(differs | (part[x] ^ before[x]))
    return differs == 0  # type: ignore[no-any-return]


@kernel()
def _read(codes: Any, numbers: Any) -> Any:
    depth, height, width = codes.shape
    offsets = np.zeros(depth * height + 1, dtype=np.int64)
    starts, stops, values = np.empty(1024, np.int32), np.empty(1024, np.int32), np.empty(1024, np.int32)
    changes = np.empty(width + 1, dtype=np.int32)
    count = 0
    for z in range(depth):
        for y in range(height):
            row = codes[z, y]
            changed = 0
            for low in range(1, width, _BLOCK):
                high = min(low + _BLOCK, width)
                if _repeats(row[low:high], row[low - 1 : high - 1]):
                    continue
                for x in range(low, high):  # store first, decide later: a branch here would be guessed wrong
                    changes[changed] = x
                    changed += row[x] != row[x - 1]
            changes[changed] = width
            if count + changed + 1 > starts.size:
                room = 2 * starts.size + changed
                starts, stops, values = _grown(starts, room), _grown(stops, room), _grown(values, room)
            start = 0
            begin = count
            for i in range(changed + 1):
                number = numbers[row[start]]
                if number >= 0:
                    if count > begin and stops[count - 1] == start and values[count - 1] == number:
                        stops[count - 1] = changes[i]
                    else:
                        starts[count], stops[count], values[count] = start, changes[i], number
                        count += 1
                start = changes[i]
            offsets[z * height + y + 1] = count
    return offsets, starts[:count].copy(), stops[:count].copy(), values[:count].copy()


@kernel()
def _root(parents: Any, at: int) -> int:
    while parents[at] != at:
        parents[at] = parents[parents[at]]
        at = parents[at]
    return at


@kernel()
def _join_rows(
    starts: Any, stops: Any, own: int, end: int, other: int, other_end: int, reach: int, parents: Any
) -> None:
    """Join the runs own..end of one row with those other..other_end of another that they reach."""
    while own < end and other < other_end:
        touches = starts[own] < stops[other] + reach and starts[other] < stops[own] + reach
        if touches and parents[own] != parents[other]:
            a, b = _root(parents, own), _root(parents, other)
            low = min(a, b)
            parents[max(a, b)] = low
            parents[own] = low
            parents[other] = low
        if stops[own] < stops[other]:
            own += 1
        else:
            other += 1


@kernel()
def _join(offsets: Any, starts: Any, stops: Any, height: int, face: int, edge: int) -> Any:
    parents = np.arange(starts.size).astype(np.int32)
    for row in range(offsets.size - 1):
        own, end = offsets[row], offsets[row + 1]
        if own == end:
            continue
        y = row % height
        if y > 0:
            _join_rows(starts, stops, own, end, offsets[row - 1], offsets[row], face, parents)
        if row >= height:
            above = row - height
            _join_rows(starts, stops, own, end, offsets[above], offsets[above + 1], face, parents)
            if edge >= 0 and y > 0:
                _join_rows(starts, stops, own, end, offsets[above - 1], offsets[above], edge, parents)
            if edge >= 0 and y < height - 1:
                _join_rows(starts, stops, own, end, offsets[above + 1], offsets[above + 2], edge, parents)
    pieces = np.empty(starts.size, dtype=np.int32)
    count = 0
    for i in range(starts.size):  # a root is the first run of its piece
        if parents[i] == i:
            pieces[i] = count
            count += 1
        else:
            pieces[i] = pieces[_root(parents, i)]
    return pieces, count


@kernel()
def _gaps(offsets: Any, starts: Any, stops: Any, shape: Any) -> Any:
    depth, height, width = shape
    rows = (depth + 2) * (height + 2)
    found = np.zeros(rows + 1, dtype=np.int64)
    first = np.empty(starts.size + rows, dtype=np.int32)
    past = np.empty(starts.size + rows, dtype=np.int32)
    count = 0
    for row in range(rows):
        z, y = row // (height + 2) - 1, row % (height + 2) - 1
        at = 0
        if 0 <= z < depth and 0 <= y < height:
            for i in range(offsets[z * height + y], offsets[z * height + y + 1]):
                if starts[i] + 1 > at:  # runs of two values may touch
                    first[count], past[count] = at, starts[i] + 1
                    count += 1
                at = stops[i] + 1
        first[count], past[count] = at, width + 2
        count += 1
        found[row + 1] = count
    return found, first[:count].copy(), past[:count].copy()


@kernel()
def _overlap(
    offsets_a: Any, starts_a: Any, stops_a: Any, values_a: Any, offsets_b: Any, starts_b: Any, stops_b: Any,
    values_b: Any,
) -> Any:  # fmt: skip
    most = starts_a.size + starts_b.size
    first, second = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    lengths = np.empty(most, dtype=np.int64)
    count = 0
    for row in range(offsets_a.size - 1):
        i, j = offsets_a[row], offsets_b[row]
        while i < offsets_a[row + 1] and j < offsets_b[row + 1]:
            low, high = max(starts_a[i], starts_b[j]), min(stops_a[i], stops_b[j])
            if low < high:
                first[count], second[count], lengths[count] = values_a[i], values_b[j], high - low
                count += 1
            if stops_a[i] < stops_b[j]:
                i += 1
            else:
                j += 1
    return first[:count].copy(), second[:count].copy(), lengths[:count].copy()


@kernel()
def _subtract(offsets: Any, starts: Any, stops: Any, values: Any, offsets_b: Any, starts_b: Any, stops_b: Any) -> Any:
    most = starts.size + starts_b.size  # what is left ends with its run, or where a hole begins
    left = np.zeros(offsets.size, dtype=np.int64)
    first, past, own = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    count = 0
    for row in range(offsets.size - 1):
        hole, end = offsets_b[row], offsets_b[row + 1]
        for i in range(offsets[row], offsets[row + 1]):
            low = starts[i]
            while hole < end and stops_b[hole] <= low:
                hole += 1
            at = hole  # a hole may go on in the next run
            while at < end and starts_b[at] < stops[i]:
                if starts_b[at] > low:
                    first[count], past[count], own[count] = low, starts_b[at], values[i]
                    count += 1
                low = max(low, stops_b[at])
                at += 1
            if low < stops[i]:
                first[count], past[count], own[count] = low, stops[i], values[i]
                count += 1
        left[row + 1] = count
    return left, first[:count].copy(), past[:count].copy(), own[:count].copy()


@kernel()
def _measure(offsets: Any, starts: Any, stops: Any, values: Any, shape: Any, count: int) -> Any:
    height = shape[1]
    sizes = np.zeros(count, dtype=np.int64)
    boxes = np.zeros((count, 3, 2), dtype=np.int64)
    for axis in range(3):
        boxes[:, axis, 0] = shape[axis]
    sums = np.zeros((count, 3))
    for row in range(offsets.size - 1):
        z, y = row // height, row % height
        for i in range(offsets[row], offsets[row + 1]):
            n, low, high = values[i], starts[i], stops[i]
            length = high - low
            sizes[n] += length
            boxes[n, 0, 0], boxes[n, 0, 1] = min(boxes[n, 0, 0], z), max(boxes[n, 0, 1], z + 1)
            boxes[n, 1, 0], boxes[n, 1, 1] = min(boxes[n, 1, 0], y), max(boxes[n, 1, 1], y + 1)
            boxes[n, 2, 0], boxes[n, 2, 1] = min(boxes[n, 2, 0], low), max(boxes[n, 2, 1], high)
            sums[n, 0] += z * length
            sums[n, 1] += y * length
            sums[n, 2] += (low + high - 1) * length / 2
    return sizes, boxes, sums


@kernel()
def _paint(offsets: Any, starts: Any, stops: Any, values: Any, height: int, wanted: Any, box: Any, canvas: Any) -> None:
    for z in range(box[0, 0], box[0, 1]):
        for y in range(box[1, 0], box[1, 1]):
            row = z * height + y
            for i in range(offsets[row], offsets[row + 1]):
                if wanted[values[i]]:
                    low, high = max(starts[i], box[2, 0]), min(stops[i], box[2, 1])
                    canvas[z - box[0, 0], y - box[1, 0], low - box[2, 0] : high - box[2, 0]] = 1
