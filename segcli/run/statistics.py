"""Statistics of cohorts: intervals by bootstrap, paired comparisons, corrected tests. Arrays in, numbers out.

Every random draw comes from a generator seeded by words, so a number depends on the seed and on what it
is of, and not on the order or the number of jobs in which numbers are made.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Method = Literal["bca", "normal", "point"]

#: From this many values on the bootstrap's interval of a mean is the normal one to three digits, and costs seconds.
LARGE = 5000
#: Fewer values than this make an interval too short (`docs/intervals.md` has the measured coverage).
FEW = 20
#: Numbers drawn at a time: 8 MiB of them.
_BLOCK = 1 << 20
#: What rounding does to a number, as a share of the largest that it was made of.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how it came about."""

    low: float
    high: float
    method: Method


def generator(seed: int, *words: str) -> np.random.Generator:
    """Return the random generator of a seed and words (a label, a measure): the same on every machine."""
    text = "\0".join([str(seed), *words])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def mean_intervals(
    columns: Sequence[Vector], *, seed: int, level: float = 0.95, resamples: int = 2000
) -> list[Interval | None]:
    """Return the interval of the mean of each column by the BCa bootstrap, as `mean_interval` does.

    Columns of one length share their draws, which depend on the seed and that length alone: many labels
    and measures cost little more than one, and an interval does not depend on what stands beside it.
    """
    found = [_without_resampling(x, level) for x in columns]
    by_size: dict[int, list[int]] = {}
    for i, x in enumerate(columns):
        if found[i] is None and x.size >= 2:
            by_size.setdefault(x.size, []).append(i)
    for size, chosen in by_size.items():
        rng = generator(seed, "cases", str(size))
        means = resampled_means(np.stack([columns[i] for i in chosen], axis=1), rng, resamples)
        for i, own in zip(chosen, means.T, strict=True):
            found[i] = bca(columns[i], own, level)
    return found


def mean_interval(
    values: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """Return the interval of the mean by the bias-corrected and accelerated bootstrap (BCa).

    `None` for less than two values. Values that are equal up to rounding have an interval of no length (`point`);
    of `LARGE` values and more it is the normal one, from which the bootstrap's does not differ there.
    """
    x = np.asarray(values, dtype=np.float64)
    known = _without_resampling(x, level)
    if known is not None or x.size < 2:
        return known
    return bca(x, resampled_means(x[:, None], rng, resamples)[:, 0], level)


def _without_resampling(x: Vector, level: float) -> Interval | None:
    if x.size < 2:
        return None
    centre = float(x.mean())
    spread = float(((x - centre) ** 2).sum())
    if spread <= slack(x) ** 2 * x.size:
        return Interval(centre, centre, "point")
    if x.size < LARGE:
        return None
    reach = normal_quantile((1 + level) / 2) * math.sqrt(spread / (x.size - 1) / x.size)
    return Interval(centre - reach, centre + reach, "normal")


def bca(x: Vector, means: Vector, level: float) -> Interval:
    """Return the BCa interval of the mean of x from the means of resampled x.

    Source: Efron 1987, doi:10.1080/01621459.1987.10478410; the acceleration is that of the jackknife.
    """
    centre = float(x.mean())
    moved = x - centre
    ordered = np.sort(means)
    # A resampled mean that differs by rounding is equal: half of those count as below.
    room = slack(x)
    below = (np.searchsorted(ordered, centre - room) + np.searchsorted(ordered, centre + room)) / 2 / means.size
    bias = normal_quantile(min(max(float(below), 0.5 / means.size), 1 - 0.5 / means.size))
    acceleration = float((moved**3).sum()) / (6 * float((moved**2).sum()) ** 1.5)
    ends = []
    for z in (normal_quantile((1 - level) / 2), normal_quantile((1 + level) / 2)):
        shifted = bias + z
        at = normal_share(bias + shifted / (1 - acceleration * shifted))
        ends.append(float(np.interp(at * (means.size - 1), np.arange(means.size), ordered)))
    return Interval(ends[0], ends[1], "bca")


def resampled_means(x: Vector, rng: np.random.Generator, resamples: int) -> Vector:
    """Return the means (resamples, columns) of draws of the rows of x (n, columns) with replacement."""
    n, columns = x.shape
    found = np.empty((resamples, columns))
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = rng.integers(0, n, (stop - start, n)) + n * np.arange(stop - start)[:, None]
        # How often each row was drawn: all columns are then one matrix product.
        times = np.bincount(drawn.ravel(), minlength=n * (stop - start)).reshape(-1, n).astype(np.float64)
        found[start:stop] = times @ x / n
    return found


@dataclass(frozen=True, slots=True)
class Paired:
    """What pairs of values say: the mean of b - a with its interval, and whether it may be chance.

    `p` is of Wilcoxon's signed-rank test, `None` where every pair is equal.
    """

    n: int
    mean: float
    median: float
    interval: Interval | None
    p: float | None


def paired(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    scale: float = 0.0,
) -> Paired | None:
    """Compare the values of the same cases in two runs; `None` where no case has both.

    The interval is that of the mean difference over resampled cases, so what makes a case hard for both
    cancels. Source of the test: Wilcoxon 1945, doi:10.2307/3001968; zeros are left out, as Wilcoxon did.
    For `scale` see `slack`.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not x.size:
        return None
    moved = differences(x, y, scale)
    interval = mean_interval(moved, rng, level=level, resamples=resamples)
    if interval is not None:
        room = slack(np.append(x, y), scale)
        low, high = (0.0 if abs(end) <= room else end for end in (interval.low, interval.high))
        interval = replace(interval, low=low, high=high)
    return Paired(moved.size, float(moved.mean()), float(np.median(moved)), interval, wilcoxon(moved))


def wilcoxon(moved: Vector, alternative: Literal["two-sided", "greater"] = "two-sided") -> float | None:
    """Return the p of the signed-rank test of `differences`, two-sided or for values above 0.

    `None` where every difference is 0. Equal sizes share their mean rank: which are equal is known of differences
    whose rounding is levelled, and of no others.
    """
    from scipy.stats import wilcoxon as test

    told = moved[moved != 0]
    return float(test(told, alternative=alternative).pvalue) if told.size else None


def slack(values: Vector, scale: float = 0.0) -> float:
    """Return by how much rounding may move what is made of these values: a share of the largest, or of `scale`.

    `scale` is what the values are themselves made of (`Measure.scale`): shares of 1 that are all 1e-17 are 0.
    """
    return ROUNDING * max(scale, float(np.abs(values).max(initial=0.0)))


def differences(a: Vector, b: Vector, scale: float = 0.0) -> Vector:
    """Return b - a, free of rounding: sizes that differ by it alone are equal, and what it alone makes is 0.

    2.8 - 2.1 and 1.4 - 0.7 are one difference, whatever the unit; floats make two of them. Sizes that follow one
    another within the `slack` of both columns are made the least of them, so no value near a step is torn from
    its like, as it would be by rounding to a grid. Columns that change places change the sign alone.
    """
    moved = b - a
    sizes = np.abs(moved)
    order = np.argsort(sizes)
    ordered = sizes[order]
    first = np.diff(ordered, prepend=0.0) > slack(np.append(a, b), scale)
    start = np.maximum.accumulate(np.where(first, np.arange(sizes.size), -1)) if sizes.size else order
    found = np.empty_like(sizes)
    found[order] = np.where(start < 0, 0.0, ordered[start])
    return np.where(found > 0, np.copysign(found, moved), 0.0)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for that many tests; `None` is no test. Source: Holm 1979, jstor 4615733."""
    order = sorted((v, i) for i, v in enumerate(p) if v is not None)
    corrected: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, (value, index) in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * value))
        corrected[index] = worst
    return corrected


def normal_quantile(share: float) -> float:
    """Return the quantile of the standard normal distribution."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def normal_share(z: float) -> float:
    """Return the share of the standard normal distribution below z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
