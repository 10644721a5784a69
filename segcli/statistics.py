"""Statistics of cohorts: intervals by bootstrap, paired comparisons, corrected tests. Arrays in, numbers out.

Every random draw comes from a generator seeded by words, so a number depends on the seed, the label and
the measure, and not on the order or the number of jobs in which numbers are made.
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
Method = Literal["bca", "normal", "point", "order"]

#: From this many values on the bootstrap's interval of a mean is the normal one to three digits, and costs seconds.
LARGE = 5000
#: Fewer values than this make an interval too short (`docs/intervals.md` has the measured coverage).
FEW = 20
#: Numbers drawn at a time: 32 MiB of indices.
_BLOCK = 1 << 22


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


def mean_interval(
    values: ArrayLike, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """Return the interval of the mean by the bias-corrected and accelerated bootstrap (BCa).

    `None` for less than two values. Equal values have an interval of no length (`point`); of `LARGE`
    values and more it is the normal one, from which the bootstrap's does not differ there.
    Source: Efron 1987, doi:10.1080/01621459.1987.10478410.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        return None
    centre = float(x.mean())
    moved = x - centre
    spread = float(np.dot(moved, moved))
    if spread <= (1e-12 * max(1.0, abs(centre))) ** 2 * x.size:
        return Interval(centre, centre, "point")
    tail = (1 - level) / 2
    if x.size >= LARGE:
        reach = normal_quantile(1 - tail) * math.sqrt(spread / (x.size - 1) / x.size)
        return Interval(centre - reach, centre + reach, "normal")
    means = np.sort(resampled_means(x, rng, resamples))
    below = (np.count_nonzero(means < centre) + np.count_nonzero(means == centre) / 2) / resamples
    bias = normal_quantile(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    acceleration = float((moved**3).sum()) / (6 * spread**1.5)
    ends = []
    for z in (normal_quantile(tail), normal_quantile(1 - tail)):
        shifted = bias + z
        at = normal_share(bias + shifted / (1 - acceleration * shifted))
        ends.append(float(np.interp(at * (resamples - 1), np.arange(resamples), means)))
    return Interval(ends[0], ends[1], "bca")


def resampled_means(x: Vector, rng: np.random.Generator, resamples: int) -> Vector:
    """Return the mean of each of `resamples` draws of x with replacement."""
    found = np.empty(resamples)
    rows = max(1, _BLOCK // x.size)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        found[start:stop] = x[rng.integers(0, x.size, (stop - start, x.size))].mean(axis=1)
    return found


def quantile_interval(values: ArrayLike, share: float, *, level: float = 0.95) -> Interval | None:
    """Return the interval of a quantile between two order statistics: exact for any continuous distribution.

    `None` where so few values cannot hold the level. Source: Conover 1999, section 3.2.
    """
    from scipy.stats import binom

    x = np.sort(np.asarray(values, dtype=np.float64))
    if x.size < 2:
        return None
    tail = (1 - level) / 2
    low, high = int(binom.ppf(tail, x.size, share)), int(binom.ppf(1 - tail, x.size, share))
    if binom.cdf(low, x.size, share) > tail:
        low -= 1
    if low < 0 or high >= x.size:
        return None
    return Interval(float(x[low]), float(x[high]), "order")


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
