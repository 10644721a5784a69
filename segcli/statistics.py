"""Statistics of cohorts: intervals by bootstrap, paired comparisons, corrected tests. Arrays in, numbers out.

Every random draw comes from a generator seeded by words, so a number depends on the seed and on what it
is of, and not on the order or the number of jobs in which numbers are made.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
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
#: What rounding does to a mean, as a share of it.
_ROUNDING = 1e-12


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

    `None` for less than two values. Equal values have an interval of no length (`point`); of `LARGE`
    values and more it is the normal one, from which the bootstrap's does not differ there.
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
    if spread <= (_ROUNDING * max(1.0, abs(centre))) ** 2 * x.size:
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
    slack = _ROUNDING * max(1.0, abs(centre))
    below = (np.searchsorted(ordered, centre - slack) + np.searchsorted(ordered, centre + slack)) / 2 / means.size
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
    a: ArrayLike, b: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Paired | None:
    """Compare the values of the same cases in two runs; `None` where no case has both.

    The interval is that of the mean difference over resampled cases, so what makes a case hard for both
    cancels. Source of the test: Wilcoxon 1945, doi:10.2307/3001968; zeros are left out, as Wilcoxon did.
    """
    moved = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if not moved.size:
        return None
    interval = mean_interval(moved, rng, level=level, resamples=resamples)
    return Paired(moved.size, float(moved.mean()), float(np.median(moved)), interval, wilcoxon(moved))


def wilcoxon(moved: Vector, alternative: Literal["two-sided", "greater"] = "two-sided") -> float | None:
    """Return the p of the signed-rank test, two-sided or for `moved` above 0; `None` where every difference is 0."""
    from scipy.stats import wilcoxon as test

    # Differences that rounding alone makes are none.
    told = moved[np.abs(moved) > 1e-12]
    return float(test(told, alternative=alternative).pvalue) if told.size else None


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
