"""All the sums that losses share, in one pass over the probabilities and the ground truth.

A hard ground truth divides the voxels into two streams, background and foreground, each gathered into
blocks: within one every voxel needs the same few operations and a single logarithm. A soft one gives each
voxel to both classes, with the weights 1-y and y.

Addition rounds, so voxels are added up in one order whatever the layout of memory. Leading axes make the rows of a
matrix and the others its columns; tile after tile is read row by row. Of an array in C order that is done where it
lies; one in Fortran order, whose tiles lie column by column, is transposed tile by tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable
from segcli.kernels.tiles import CHUNK, tiles

#: The columns of the table, sums over the voxels of a class weighted by w (1-y or y). t is the
#: probability of the class, e = 1-t that of the other; tc and ec are those of p clipped to [clip, 1-clip].
#: w, w^2, w t, w e, w t^2, w e^2, w |p-y|, w (p-y)^2, -w ln tc, -w ec^gamma ln tc
COLUMNS = 10

_BLOCK = 512  # voxels whose terms are worked out before they are added up: in a first-level cache
_STRETCH = 128  # voxels of a hard gt that are compared at once: most stretches are of one class
_SHORT = 16  # voxels of a stretch of both classes that are compared at once
# Parts of a double. Only additions, logical shifts and masks of 64-bit words: every CPU has them for vectors.
_EXPONENT = np.uint64(52)
_BIAS = np.uint64(1023)
_FRACTION = np.uint64((1 << 52) - 1)
_ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD)  # sqrt(1/2): mantissas are taken from there to sqrt(2)
_SHIFT = np.uint64((1023 << 52) - 0x3FE6A09E667F3BCD)  # takes sqrt(1/2) to 1, where the exponent changes
_WHOLE = np.uint64(0x4330000000000000)  # 2^52, whose low bits count units
_FROM_WHOLE = 2.0**52 + 1023
_LN_2 = 0.6931471805599453
_LN_2_HIGH = 0.6931471803691238  # its upper 33 bits: times an exponent it is exact
_LN_2_LOW = 1.9082149292705877e-10
_LOG2_E = 1.4426950408889634
_ROUND = 1.5 * 2.0**52  # added and taken away again it rounds to a whole number


def voxel_sums(
    p: NDArray[Any], y: NDArray[Any], clip: float, gamma: float, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the table (2, COLUMNS) of sums of the background and of the foreground.

    `p` is a float32 or float64 array in [0, 1]; `y` an array of the same shape: uint8 with values 0 and 1 (not
    checked), or float64 in [0, 1]. `valid` marks the voxels that count. `clip` is in [1e-16, 1/2), `gamma` in
    [0, 100]. Sums are in float64 with a relative error below 1e-13 (every term of a sum has the same sign). The
    layout changes no bit of them; arrays in C or Fortran order are read where they lie, `y` and `valid` if they
    lie as `p` does; others are copied. Raises ValueError for another dtype or shape.
    """
    if p.shape != y.shape or (valid is not None and valid.shape != p.shape):
        raise ValueError(f"voxel_sums: need arrays of one shape, not {p.shape} and {y.shape}")
    if p.dtype not in (np.float32, np.float64) or y.dtype not in (np.uint8, np.float64):
        raise ValueError(f"voxel_sums: need float32 or float64 and uint8 or float64, not {p.dtype} and {y.dtype}")
    turned = p.flags.f_contiguous and not p.flags.c_contiguous
    grids = (p, y, np.empty(0, dtype=np.bool_) if valid is None else valid)
    memory = [writable(np.ascontiguousarray((a.T if turned else a).reshape(-1))) for a in grids]
    memory[2] = memory[2].view(np.uint8)
    table, rest = np.zeros((2, COLUMNS)), np.zeros((2, COLUMNS))
    # Only the small kernels that sort are compiled for each dtype, the large ones that add up just once.
    streams = np.empty((4, CHUNK + 1))
    for part_p, part_y, marks, starts, width in tiles(p.shape, turned, memory):
        if y.dtype == np.uint8:
            background, foreground = _sort(part_p, part_y, marks, starts, width, streams)
            _add_class(streams[0], background, 0, clip, gamma, table, rest)
            _add_class(streams[1], foreground, 1, clip, gamma, table, rest)
        else:
            counted = _weigh(part_p, part_y, marks, starts, width, streams)
            _add_weighted(streams[0], streams[2], streams[3], counted, 0, clip, gamma, table, rest)
            _add_weighted(streams[0], streams[1], streams[3], counted, 1, clip, gamma, table, rest)
    table += rest
    if y.dtype == np.uint8:  # w^2 = w, and where w = 1, |p-y| = e
        table[:, [1, 6, 7]] = table[:, [0, 3, 5]]
    return table


def logarithms(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithms of a flat array of positive normal numbers; relative error below 4e-16."""
    found = np.empty_like(x)
    _logarithms(writable(x), found)
    return found


def powers(x: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return x^gamma of a flat array of numbers in (0, 1], 0 <= gamma <= 100, as the focal sums see it.

    The relative error is below (2 + 2 |gamma ln x|) 2^-52; what is smaller than e^-700 is e^-700.
    """
    found = np.empty_like(x)
    _powers(writable(x), float(gamma), found)
    return found


def warm() -> None:
    """Compile the kernels for all dtypes."""
    for of_p in (np.float32, np.float64):
        for of_y in (np.uint8, np.float64):
            voxel_sums(np.zeros((2, 2), of_p, order="F"), np.zeros((2, 2), of_y, order="F"), 1e-7, 2.0)
    powers(logarithms(np.full(1, 2.0)), 1.0)


# --- logarithm and power ----------------------------------------------------------------------
# Functions of one number without a branch: loops that call them are vectorised.


@kernel()
def _ln(x: Any) -> Any:
    """Return the natural logarithm of a positive normal number.

    x = 2^k m, m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh(s) with s = (m-1)/(m+1), |s| < 0.1716. Of the
    series 2 (s + s^3/3 + ...) the terms up to s^19 are taken: the rest is below 3e-17 of it. m-1 is exact, so
    x near 1 keeps its digits.
    """
    shifted = np.float64(x).view(np.uint64) + _SHIFT
    k = np.uint64((shifted >> _EXPONENT) | _WHOLE).view(np.float64) - _FROM_WHOLE
    m = np.uint64((shifted & _FRACTION) + _ROOT_HALF).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    r = 1 / 19
    r = r * z + 1 / 17
    r = r * z + 1 / 15
    r = r * z + 1 / 13
    r = r * z + 1 / 11
    r = r * z + 1 / 9
    r = r * z + 1 / 7
    r = r * z + 1 / 5
    r = r * z + 1 / 3
    return k * _LN_2 + (2.0 * s + 2.0 * s * (z * r))


@kernel()
def _exp(a: Any) -> Any:
    """Return e^a, -700 <= a <= 0: 2^k e^r with |r| < 0.347; of the series of e^r all but 5e-18 is taken."""
    shifted = a * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (a - k * _LN_2_HIGH) - k * _LN_2_LOW
    e = 1 / 6227020800
    e = e * r + 1 / 479001600
    e = e * r + 1 / 39916800
    e = e * r + 1 / 3628800
    e = e * r + 1 / 362880
    e = e * r + 1 / 40320
    e = e * r + 1 / 5040
    e = e * r + 1 / 720
    e = e * r + 1 / 120
    e = e * r + 1 / 24
    e = e * r + 1 / 6
    e = e * r + 0.5
    scale = np.uint64((np.float64(shifted).view(np.uint64) + _BIAS) << _EXPONENT).view(np.float64)
    return (1.0 + (r + r * r * e)) * scale


@kernel()
def _logarithms(x: Any, found: Any) -> None:
    for i in range(x.size):
        found[i] = _ln(x[i])


@kernel()
def _powers(x: Any, gamma: float, found: Any) -> None:
    for i in range(x.size):
        found[i] = _exp(max(gamma * _ln(x[i]), -700.0))


# --- sorting ----------------------------------------------------------------------------------


@kernel()
def _differs(values: Any, first: Any) -> bool:
    """Tell whether a stretch holds anything but `first`: no exit on the way, so that it is vectorised."""
    differs = np.uint8(0)
    for i in range(values.size):
        differs = np.uint8(differs | (values[i] ^ first))
    return differs != 0  # type: ignore[no-any-return]


@kernel()
def _copy(values: Any, found: Any) -> None:
    for i in range(values.size):
        found[i] = values[i]


@kernel()
def _sort(p: Any, y: Any, valid: Any, starts: Any, width: int, streams: Any) -> Any:
    """Put the probabilities of background and foreground into two streams; return their lengths."""
    background = streams[0]
    foreground = streams[1]
    n_background: Any = 0
    n_foreground: Any = 0
    for row in range(starts.size):
        start = starts[row]
        end_of_row = start + width
        while start < end_of_row:
            stop = min(start + _STRETCH, end_of_row)
            first = y[start]
            if _differs(y[start:stop], first) or _differs(valid[start:stop], np.uint8(1)):
                for short in range(start, stop, _SHORT):
                    n = min(_SHORT, stop - short)
                    inside = y[short]
                    if (
                        n < _SHORT
                        or _differs(y[short : short + _SHORT], inside)
                        or _differs(valid[short : short + _SHORT], np.uint8(1))
                    ):
                        # written to both, counted in one or in none: no branch that a CPU could guess wrong
                        for i in range(short, short + n):
                            counts = 1 if valid.size == 0 else np.int64(valid[i])
                            of_class = np.int64(y[i])
                            background[n_background] = p[i]
                            foreground[n_foreground] = p[i]
                            n_background += counts & (1 - of_class)
                            n_foreground += counts & of_class
                    elif inside == 0:
                        for i in range(_SHORT):
                            background[n_background + i] = p[short + i]
                        n_background += _SHORT
                    else:
                        for i in range(_SHORT):
                            foreground[n_foreground + i] = p[short + i]
                        n_foreground += _SHORT
            else:
                while stop < end_of_row:  # how far it goes on
                    end = min(stop + _STRETCH, end_of_row)
                    if _differs(y[stop:end], first) or _differs(valid[stop:end], np.uint8(1)):
                        break
                    stop = end
                if first == 0:
                    _copy(p[start:stop], background[n_background:])
                    n_background += stop - start
                else:
                    _copy(p[start:stop], foreground[n_foreground:])
                    n_foreground += stop - start
            start = stop
    return n_background, n_foreground


@kernel()
def _weigh(p: Any, y: Any, valid: Any, starts: Any, width: int, streams: Any) -> Any:
    """Put the voxels that count into four streams: p, y, 1-y and |p-y|; return their length."""
    n: Any = 0
    for row in range(starts.size):
        for i in range(starts[row], starts[row] + width):
            streams[0, n] = p[i]
            streams[1, n] = y[i]
            n += 1 if valid.size == 0 else np.int64(valid[i])
    for i in range(n):
        streams[2, i] = 1.0 - streams[1, i]
        streams[3, i] = abs(streams[0, i] - streams[1, i])
    return n


# --- adding up --------------------------------------------------------------------------------


@kernel()
def _terms(p: Any, row: int, clip: float, gamma: float, t: Any, e: Any, log: Any, focal: Any) -> None:
    """Work out the terms of a block: t, e, -ln tc and -ec^gamma ln tc."""
    top = 1.0 - clip
    n = p.size
    if row == 1:
        for i in range(n):
            v = p[i]
            c = min(max(v, clip), top)
            t[i] = v
            e[i] = 1.0 - v
            log[i] = -_ln(c)
            focal[i] = 1.0 - c
    else:
        for i in range(n):
            v = p[i]
            c = min(max(v, clip), top)
            q = 1.0 - c
            t[i] = 1.0 - v
            e[i] = v
            log[i] = -(_ln(q) + ((1.0 - q) - c))  # what q lost when it was rounded, ln(1-c) gets back
            focal[i] = c
    if gamma == 2.0:
        for i in range(n):
            focal[i] = focal[i] * focal[i] * log[i]
    else:
        for i in range(n):
            focal[i] = _exp(max(gamma * _ln(focal[i]), -700.0)) * log[i]


# Reordered sums of a block make the whole pass 1.5 times as fast as sums in order. No term is negative, so any
# order errs by at most 511 roundings, 6e-14 of the sum; in practice by less than 1e-15.
@kernel(reorder=True)
def _add_up(t: Any, e: Any, log: Any, focal: Any) -> Any:
    a = b = c = d = f = g = 0.0
    for i in range(t.size):
        a += t[i]
        b += e[i]
        c += t[i] * t[i]
        d += e[i] * e[i]
        f += log[i]
        g += focal[i]
    return a, b, c, d, f, g


@kernel(reorder=True)
def _add_up_weighted(w: Any, apart: Any, t: Any, e: Any, log: Any, focal: Any) -> Any:
    a = b = c = d = f = g = h = j = k = m = 0.0
    for i in range(w.size):
        a += w[i]
        b += w[i] * w[i]
        c += w[i] * t[i]
        d += w[i] * e[i]
        f += w[i] * (t[i] * t[i])
        g += w[i] * (e[i] * e[i])
        h += w[i] * apart[i]
        j += w[i] * (apart[i] * apart[i])
        k += w[i] * log[i]
        m += w[i] * focal[i]
    return a, b, c, d, f, g, h, j, k, m


@kernel()
def _keep(table: Any, rest: Any, row: int, column: int, value: float) -> None:
    """Add to an entry of the table, and what is rounded off to that of `rest`."""
    before = table[row, column]
    after = before + value
    added = after - before
    table[row, column] = after
    rest[row, column] += (before - (after - added)) + (value - added)


@kernel()
def _add_class(stream: Any, n: int, row: int, clip: float, gamma: float, table: Any, rest: Any) -> None:
    """Add the first n voxels of a stream of one class to its row."""
    t, e, log, focal = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    table[row, 0] += n
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        _terms(stream[start : start + m], row, clip, gamma, t, e, log, focal)
        sums = _add_up(t[:m], e[:m], log[:m], focal[:m])
        for k in range(4):
            _keep(table, rest, row, 2 + k, sums[k])
        _keep(table, rest, row, 8, sums[4])
        _keep(table, rest, row, 9, sums[5])


@kernel()
def _add_weighted(
    stream: Any, weights: Any, apart: Any, n: int, row: int, clip: float, gamma: float, table: Any, rest: Any
) -> None:
    """Add the first n voxels of a stream to a row, each with its weight."""
    t, e, log, focal = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        stop = start + m
        _terms(stream[start:stop], row, clip, gamma, t, e, log, focal)
        sums = _add_up_weighted(weights[start:stop], apart[start:stop], t[:m], e[:m], log[:m], focal[:m])
        for k in range(COLUMNS):
            _keep(table, rest, row, k, sums[k])
