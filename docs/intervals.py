"""Measure how often the intervals of `evaluate` hold the true mean, and write docs/intervals.md.

    python docs/intervals.py            # about a minute

Cohorts are drawn from distributions whose mean is known; the share of their intervals that hold it is the
coverage. The same call gives the same page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segcli.run.statistics import FEW, LARGE, generator, mean_intervals

SIZES = (10, 20, 50, 100, 200)
BATCHES, TRIALS = 20, 500
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]

#: Name, what it looks like, how it is drawn, its mean.
COHORTS: list[tuple[str, Draw, float]] = [
    ("good Dice: beta(20, 2)", lambda rng, size: rng.beta(20, 2, size), 20 / 22),
    ("middling Dice: beta(8, 2)", lambda rng, size: rng.beta(8, 2, size), 0.8),
    (
        "a total miss in one of ten: 0, else beta(8, 2)",
        lambda rng, size: np.where(rng.random(size) < 0.1, 0.0, rng.beta(8, 2, size)),
        0.72,
    ),
    ("normal(5, 2)", lambda rng, size: rng.normal(5, 2, size), 5.0),
    ("a distance with a tail: lognormal(1, 0.8)", lambda rng, size: rng.lognormal(1, 0.8, size), float(np.exp(1.32))),
]

PAGE = """# How much an interval can be trusted

The intervals of `segcli evaluate` are of the mean over cases: a BCa bootstrap (Efron 1987,
[doi:10.1080/01621459.1987.10478410](https://doi.org/10.1080/01621459.1987.10478410)) of 2000 resamples. Of
{large} values and more it is the normal interval, which does not differ there. The draws depend on `--seed` and the
number of values alone, so a run can be repeated to the last digit.

How many of the intervals that say 95 % hold the true mean, in {trials} simulated cohorts of each kind (standard error
{error:.1f} % or less; `python docs/intervals.py` repeats it):

{table}

Plainly: where values have a long tail as distances do, an interval that says 95 % holds the true mean in
{tail50} of cohorts of 50 cases and in {tail10} of cohorts of 10. Most of the others lie below it, as the sample lacks
the rare large values; more cases mend that.

A bootstrap cannot see what the sample does not hold: with few cases intervals are too short, and of skewed values most
of all. Below {few} values segcli prints `~` before an interval. Distances with a long tail need more cases than
overlaps do; their median and p95 say more than their mean.
"""


def coverage(name: str, draw: Draw, mean: float, size: int) -> float:
    """Return the share of intervals that hold the mean; batches have seeds of their own, as they share draws."""
    held = 0
    for batch in range(BATCHES):
        cohorts = draw(generator(batch, name, str(size)), (TRIALS, size))
        held += sum(i is not None and i.low <= mean <= i.high for i in mean_intervals(list(cohorts), seed=batch))
    return held / (BATCHES * TRIALS)


def main() -> None:
    head = " | ".join(f"{n} cases" for n in SIZES)
    lines = [f"| values are like | {head} |", "|---|" + "---:|" * len(SIZES)]
    lowest = 1.0
    shares: list[str] = []
    for name, draw, mean in COHORTS:
        found = [coverage(name, draw, mean, n) for n in SIZES]
        lowest = min(lowest, *found)
        shares = [f"{100 * share:.1f} %" for share in found]  # the last row is that with a tail
        lines.append(f"| {name} | " + " | ".join(shares) + " |")
    trials = BATCHES * TRIALS
    text = PAGE.format(
        large=LARGE,
        few=FEW,
        trials=f"{trials:,}".replace(",", " "),
        error=100 * (lowest * (1 - lowest) / trials) ** 0.5 + 0.05,
        table="\n".join(lines),
        tail10=shares[SIZES.index(10)],
        tail50=shares[SIZES.index(50)],
    )
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
