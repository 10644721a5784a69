"""Places of runs: ranks with ties, how stable they are under resampled cases. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segcli.run.statistics import Vector

Places = NDArray[np.int64]
#: Numbers drawn at a time: 32 MiB of indices.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and spread of values; `None` where too few are there to say."""

    n: int
    mean: float | None
    sd: float | None
    median: float | None
    p25: float | None
    p75: float | None


def spread(values: Vector) -> Spread:
    if not values.size:
        return Spread(0, None, None, None, None, None)
    low, middle, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    sd = float(values.std(ddof=1)) if values.size > 1 else None
    return Spread(int(values.size), float(values.mean()), sd, middle, low, high)


def places(bad: Vector, room: float) -> Places:
    """Return the place of each entry of the last axis, 1 for the least; those within `room` share the better place."""
    found = np.ones(bad.shape, dtype=np.int64)
    for j in range(bad.shape[-1]):
        found += bad[..., j : j + 1] < bad - room
    return found


def drawn_cases(rng: np.random.Generator, n: int, resamples: int) -> Iterator[Vector]:
    """Yield blocks of resamples: how often each of n cases is drawn, n draws with replacement in each row."""
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def place_shares(found: Places) -> Vector:
    """Return, for each run (row), the share of resamples in which it is at each place (column)."""
    runs = found.shape[1]
    shares = np.zeros((runs, runs))
    for place in range(runs):
        shares[:, place] = (found == place + 1).mean(axis=0) if len(found) else 0.0
    return shares


def taus(found: Places, full: Places) -> Vector:
    """Return Kendall's tau-b between each row of places and the full ranking; NaN where either ranks nothing."""
    i, j = np.triu_indices(full.size, 1)
    ours = np.sign(found[:, i] - found[:, j]).astype(np.float64)
    theirs = np.sign(full[i] - full[j]).astype(np.float64)
    size = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum())
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(size > 0, ours @ theirs / np.where(size > 0, size, 1.0), np.nan))
