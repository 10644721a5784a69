"""The sums over voxels that losses share: which way they are found, and what they are called.

Two hard masks are counted. Probabilities go through one fused pass (`segcli.kernels.pixelwise`); what that
does not read (logits), and images too small to be worth the import of Numba, through NumPy block by block.
The two ways round differently, so nothing but the input may choose between them: not whether Numba happens to
be imported, which depends on the cases that a process had before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Below this many voxels NumPy is done in 25 ms, long before Numba is imported.
SMALL = 1 << 19
#: What the one pass takes along for cross-entropies: the defaults of the losses.
CLIP, GAMMA = 1e-7, 2.0
#: Voxels that NumPy works on at once: its temporaries then stay in the cache.
BLOCK = 1 << 15

Flat = NDArray[Any]
Table = NDArray[np.float64]


class SoftSums(NamedTuple):
    """Sums over voxels in float64. `apart` is |p-y|, `on` stands for a weight y and `off` for 1-y.

    `fp` is p(1-y), `fn` (1-p)y and `tn` (1-p)(1-y): exact digits where differences of the others have none.
    """

    py: float
    p: float
    y: float
    pp: float
    yy: float
    off: float
    fp: float
    fn: float
    tn: float
    apart: float
    squares_on: float
    squares_off: float


class LogSums(NamedTuple):
    """Sums of -y ln p and -(1-y) ln(1-p), and of these times (1-p)^gamma and p^gamma."""

    on: float
    off: float
    focal_on: float
    focal_off: float


class VoxelSums:
    """The sums of one pair, each found at most once.

    `p` and `y` are arrays of one shape in any layout, `z` logits where those are known (then logarithms are
    exact and need no clip); `valid` marks the voxels that count. They are read, never converted as a whole.
    """

    def __init__(
        self, p: NDArray[Any], y: NDArray[Any], z: NDArray[Any] | None, valid: NDArray[np.bool_] | None
    ) -> None:
        self._p, self._y, self._z, self._valid = p, _weights(y), z, valid
        self._counted = z is None and self._p.dtype == np.bool_ and self._y.dtype == np.uint8
        self._fused = z is None and not self._counted and p.size >= SMALL
        self._sums: SoftSums | None = None
        self._logs: dict[tuple[float, float], LogSums] = {}

    def sums(self) -> SoftSums:
        """Return the sums without logarithms; the fused pass takes the usual logarithms along."""
        if self._sums is None:
            if self._fused:
                self._run(CLIP, GAMMA)
            else:
                self._sums = _soft_sums(self._count(None, GAMMA) if self._counted else self._plain(None, GAMMA))
        return self._sums  # type: ignore[return-value]  # _run has set it

    def logs(self, clip: float, gamma: float | None = None) -> LogSums:
        """Return the sums of logarithms for p clipped to [clip, 1-clip]; `gamma` may be left open."""
        for key, found in self._logs.items():
            if key[0] == clip and gamma in (None, key[1]):
                return found
        gamma = GAMMA if gamma is None else gamma
        self._run(clip, gamma)
        return self._logs[clip, gamma]

    def _run(self, clip: float, gamma: float) -> None:
        if self._counted:
            table = self._count(clip, gamma)
        elif self._fused:
            from segcli.kernels.pixelwise import voxel_sums

            p = self._p if self._p.dtype in (np.float32, np.float64) else self._p.astype(_float_for(self._p.dtype))
            table = voxel_sums(p, self._y, clip, gamma, self._valid)
        else:
            table = self._plain(clip, gamma)
        self._sums = self._sums or _soft_sums(table)
        off, on = table.tolist()
        self._logs[clip, gamma] = LogSums(on[8], off[8], on[9], off[9])

    def _plain(self, clip: float | None, gamma: float) -> Table:
        """Return the table of `voxel_sums` by NumPy."""
        total = np.zeros((2, 10))
        for p, y, z, valid in _blocks(self._p, self._y, self._z, self._valid):
            counted = slice(None) if valid is None else valid
            logits = None if z is None else z[counted].astype(np.float64)
            total += _block(p[counted].astype(np.float64), y[counted].astype(np.float64), logits, clip, gamma)
        return total

    def _count(self, clip: float | None, gamma: float) -> Table:
        """Return the table of two hard masks: four kinds of voxels, each as often as it occurs."""
        p, y = self._p, self._y.view(np.bool_)
        if self._valid is not None:
            p, y = p & self._valid, y & self._valid
        found, true, tp = (int(np.count_nonzero(a)) for a in (p, y, p & y))
        n = p.size if self._valid is None else int(np.count_nonzero(self._valid))
        table = np.zeros((2, 10))
        for p_is, y_is, count in ((0, 0, n - found - true + tp), (1, 0, found - tp), (0, 1, true - tp), (1, 1, tp)):
            table += count * _block(np.array([float(p_is)]), np.array([float(y_is)]), None, clip, gamma)
        return table


def _blocks(
    p: NDArray[Any], y: NDArray[Any], z: NDArray[Any] | None, valid: NDArray[np.bool_] | None
) -> Iterator[tuple[Flat, Flat, Flat | None, Flat | None]]:
    """Yield grids of one shape flat and block by block, in C order whatever their layout.

    Some slices of the first axis are laid out at a time: as many as a line of the cache holds of an array in
    Fortran order, and enough for some blocks.
    """
    length = p.shape[0] if p.ndim else 1
    slices = max(16, 4 * BLOCK * length // max(p.size, 1))
    for top in range(0, length, slices):
        flat = [None if a is None else (a[top : top + slices] if a.ndim else a).reshape(-1) for a in (p, y, z, valid)]
        for start in range(0, p.size // length * min(slices, length - top), BLOCK):
            part = slice(start, start + BLOCK)
            yield tuple(None if a is None else a[part] for a in flat)  # type: ignore[misc]  # four of them


def _float_for(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return the smallest of float32 and float64 that holds all values of a dtype."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


def _weights(y: NDArray[Any]) -> NDArray[Any]:
    """Return a hard gt as uint8 zeros and ones, any other as float64."""
    if y.dtype == np.bool_:
        return y.view(np.uint8)
    if y.dtype == np.uint8 and (not y.size or y.max() <= 1):
        return y
    return y.astype(np.float64, copy=False)


def _soft_sums(table: Table) -> SoftSums:
    off, on = table.tolist()
    return SoftSums(
        py=on[2],
        p=on[2] + off[3],
        y=on[0],
        pp=on[4] + off[5],
        yy=on[1],
        off=off[0],
        fp=off[3],
        fn=on[3],
        tn=off[2],
        apart=on[6] + off[6],
        squares_on=on[7],
        squares_off=off[7],
    )


def _block(p: Flat, y: Flat, z: Flat | None, clip: float | None, gamma: float) -> Table:
    """Return the table of a few voxels; without `clip` the columns of logarithms are 0."""
    q = 1 - p if z is None else sigmoid(-z)
    apart = abs(p - y)
    table = np.zeros((2, 10))
    for row, (w, t, e) in enumerate(((1 - y, q, p), (y, p, q))):
        columns = [np.ones_like(w), w, t, e, t * t, e * e, apart, apart * apart]
        # not w @ column: the threads of a BLAS cost more than they save on one block
        table[row, :8] = [(w * column).sum() for column in columns]
    if clip is None:
        return table
    if z is None:
        c = np.clip(p, clip, 1 - clip)
        logs = (-np.log1p(-c), c), (-np.log(c), 1 - c)
    else:
        rest = np.log1p(np.exp(-abs(z)))
        logs = (rest + np.maximum(z, 0.0), p), (rest + np.maximum(-z, 0.0), q)
    for row, (w, (log, other)) in enumerate(zip((1 - y, y), logs, strict=True)):
        table[row, 8:] = (w * log).sum(), (w * log * other**gamma).sum()
    return table


def sigmoid(z: Flat) -> NDArray[np.float64]:
    """Return 1/(1+exp(-z)) without overflow."""
    small = np.exp(-np.abs(z))
    found: NDArray[np.float64] = np.where(z >= 0, 1.0, small) / (1 + small)
    return found
