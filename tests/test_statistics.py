"""Statistics of cohorts against SciPy, by simulation and by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from cohorts import segcli
from hypothesis import given
from hypothesis import strategies as st
from made_runs import summaries
from scipy import stats

import segcli as library
from segcli.run.statistics import (
    FEW,
    LARGE,
    bca,
    differences,
    generator,
    holm,
    mean_interval,
    mean_intervals,
    normal_quantile,
    normal_share,
    paired,
    resampled_means,
    wilcoxon,
)
from segcli.run.summary import Resampling


def beta(rng: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
    """Return Dice-like values: most near 1, a tail below."""
    return rng.beta(8, 2, size)


def zero_inflated(rng: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
    """Return Dice-like values of which one in ten is a total miss."""
    return np.where(rng.random(size) < 0.1, 0.0, rng.beta(8, 2, size))


def normal(rng: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
    return rng.normal(5, 2, size)


COHORTS = {beta: 0.8, zero_inflated: 0.72, normal: 5.0}


# --- the bootstrap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", COHORTS)
@pytest.mark.parametrize(("n", "level"), [(12, 0.95), (40, 0.9), (150, 0.99)])
def test_bca_is_scipys_of_the_same_resamples(draw, n, level):
    """Bias, acceleration and quantiles: exactly SciPy's, given the same resampled means."""
    x = draw(generator(3, "values"), n)
    result = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=999, confidence_level=level, rng=1)
    means = result.bootstrap_distribution
    ours = bca(x, means, level)
    assert (ours.low, ours.high) == pytest.approx(tuple(result.confidence_interval), rel=1e-9)


@pytest.mark.parametrize("draw", COHORTS)
def test_intervals_agree_with_scipy_within_their_noise(draw):
    """Another tool's own resamples: both ends within a twentieth of the interval's length."""
    x = draw(generator(4, "values"), 60)
    theirs = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=20_000, rng=2).confidence_interval
    ours = mean_interval(x, generator(0, "x"), resamples=20_000)
    length = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < length / 20
    assert abs(ours.high - theirs.high) < length / 20


@pytest.mark.parametrize("draw", COHORTS)
@pytest.mark.parametrize("n", [50, 100, 200])
def test_intervals_hold_what_they_promise(draw, n):
    """Of 95 % intervals of 2000 cohorts 93 to 97 % hold the true mean (docs/intervals.md has more trials).

    The share of 2000 trials has a standard error of 0.5 %; four seeds, as cohorts of one seed share draws.
    """
    held = 0
    for seed in range(4):
        cohorts = draw(generator(seed, draw.__name__, str(n)), (500, n))
        found = mean_intervals(list(cohorts), seed=seed)
        held += sum(i.low <= COHORTS[draw] <= i.high for i in found)
    assert 0.93 <= held / 2000 <= 0.97


def test_resampled_means_are_means_of_resamples():
    """Their distribution is that of a mean: its centre and its standard error; of 0 and 1 the binomial."""
    x = np.array([0.0] * 30 + [1.0] * 20)
    means = resampled_means(x[:, None], generator(0, "m"), 20_000)[:, 0]
    assert means.mean() == pytest.approx(0.4, abs=0.003)
    assert means.std() == pytest.approx(math.sqrt(0.4 * 0.6 / 50), rel=0.02)
    counts = np.bincount(np.round(means * 50).astype(int), minlength=51)
    assert counts[20] / 20_000 == pytest.approx(stats.binom.pmf(20, 50, 0.4), rel=0.08)


def test_columns_share_draws_and_do_not_move_each_other():
    """An interval depends on the seed, its values and nothing that stands beside it."""
    rng = generator(5, "columns")
    a, b, c = beta(rng, 40), normal(rng, 40), beta(rng, 31)
    alone = [mean_intervals([x], seed=7)[0] for x in (a, b, c)]
    together = mean_intervals([c, a, b], seed=7)
    for one, other in zip(alone, (together[1], together[2], together[0]), strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)
    assert mean_intervals([a], seed=8) != mean_intervals([a], seed=7) == mean_intervals([a], seed=7)


def test_a_generator_is_of_its_words():
    """The same words, the same numbers; words are not run together."""
    same = [generator(1, "a", "b").random(3).tolist() for _ in range(2)]
    assert same[0] == same[1]
    others = [generator(2, "a", "b"), generator(1, "ab"), generator(1, "a", "b", ""), generator(1, "b", "a")]
    assert all(g.random(3).tolist() != same[0] for g in others)


def test_intervals_without_resampling():
    """None of one value; a point of equal ones; the normal interval, as SciPy's t nearly, of very many."""
    assert mean_intervals([np.array([]), np.array([0.5])], seed=0) == [None, None]
    assert mean_interval([0.1] * 7, generator(0)) == mean_intervals([np.full(7, 0.1)], seed=0)[0]
    assert mean_interval([0.1] * 7, generator(0)).method == "point"
    x = beta(generator(6, "many"), LARGE)
    found = mean_interval(x, generator(0))
    theirs = stats.t.interval(0.95, LARGE - 1, x.mean(), stats.sem(x))
    assert found.method == "normal"
    assert (found.low, found.high) == pytest.approx(theirs, rel=1e-4)
    by_bootstrap = bca(x, resampled_means(x[:, None], generator(0), 4000)[:, 0], 0.95)
    length = theirs[1] - theirs[0]
    assert abs(by_bootstrap.low - found.low) < length / 20
    assert abs(by_bootstrap.high - found.high) < length / 20


def test_intervals_of_hardly_any_values():
    """Of two values the interval is from one to the other: a quarter of resamples is at each end."""
    two = mean_intervals([np.array([0.2, 0.9]), np.array([0.9, 0.2])], seed=0)
    assert [(i.low, i.high, i.method) for i in two] == [(0.2, 0.9, "bca")] * 2
    assert mean_intervals([np.array([0.1 + 0.2, 0.3, 0.3])], seed=0)[0].method == "point"  # rounding is no spread
    one_differs = mean_intervals([np.array([1.0] * 9 + [0.0])], seed=0)[0]
    assert 0.5 < one_differs.low < 0.9 < one_differs.high <= 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.5, 0.999))
def test_an_interval_lies_within_the_values(values, level):
    """No resample's mean is outside them, and the ends are in order."""
    found = mean_interval(values, generator(0), level=level, resamples=200)
    slack = 1e-12
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack


@given(st.floats(1e-9, 1 - 1e-9))
def test_the_normal_distribution_is_scipys(share):
    """Quantile and share, one the other's inverse."""
    assert normal_quantile(share) == pytest.approx(stats.norm.ppf(share), rel=1e-9, abs=1e-9)
    assert normal_share(normal_quantile(share)) == pytest.approx(share, rel=1e-9)


# --- pairs and tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 9, 30, 80])
def test_wilcoxon_is_scipys(n):
    """With zeros left out, as Wilcoxon did."""
    moved = np.round(normal(generator(8, str(n)), n) - 4.5, 3)
    with_zeros = np.concatenate([moved, np.zeros(5)])
    assert wilcoxon(with_zeros) == pytest.approx(stats.wilcoxon(moved[moved != 0]).pvalue)
    assert wilcoxon(np.zeros(4)) is None


def test_wilcoxon_by_hand():
    """Five differences, all up: of 2^5 signs two are as extreme, p = 2/32."""
    assert wilcoxon(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 32)


def by_enumeration(moved: list[int], alternative: str = "two-sided") -> float:
    """Return the exact p of whole differences: every choice of signs is as likely as every other."""
    told = np.array([d for d in moved if d])
    ranks = stats.rankdata(np.abs(told))
    signs = np.array(list(itertools.product((0, 1), repeat=told.size)))
    sums, found = signs @ ranks, ranks[told > 0].sum()
    above = float((sums >= found).mean())
    return above if alternative == "greater" else min(1.0, 2 * min(above, float((sums <= found).mean())))


#: The same numbers in other units and about other zeros; the sixth power of ten leaves ten digits to them.
SEEN_AS = {
    "hundredths": lambda k: k / 100,
    "tenths of tenths": lambda k: k * 0.1 * 0.1,
    "steps of 0.7": lambda k: k * 0.7,
    "a third": lambda k: k / 3,
    "metres": lambda k: k * 1e-3,
    "cubic metres": lambda k: k * 0.35 * 1e-9,
    "large": lambda k: k * 0.7e9,
    "offset": lambda k: 1e6 + k / 100,
    "negative offset": lambda k: k * 0.07 - 1e6,
}


@pytest.mark.parametrize("seen", SEEN_AS)
@pytest.mark.parametrize("seed", range(12))
def test_ties_survive_a_change_of_unit(seen, seed):
    """Few whole numbers, many of whose differences are equal: p is that of the integers, exact and as SciPy has it.

    2.8 - 2.1 and 1.4 - 0.7 differ in their last bit. Columns that change places change nothing but the sign.
    """
    rng = generator(seed, "ties")
    whole = rng.integers(0, 60, 11)
    other = whole + rng.choice([-3, -2, -1, 0, 1, 1, 2, 3], 11)
    a, b = SEEN_AS[seen](whole.astype(float)), SEEN_AS[seen](other.astype(float))
    steps = [int(d) for d in other - whole]
    moved = differences(a, b)
    assert np.array_equal(differences(b, a), -moved)
    assert [int(s) for s in np.sign(moved)] == [int(s) for s in np.sign(steps)]
    assert len({abs(d) for d in moved}) == len({abs(d) for d in steps})
    nonzero = np.array([d for d in steps if d])
    for alternative in ("two-sided", "greater"):
        assert wilcoxon(moved, alternative) == pytest.approx(by_enumeration(steps, alternative), rel=1e-12)
        theirs = stats.wilcoxon(nonzero, alternative=alternative).pvalue
        assert wilcoxon(moved, alternative) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("n", [14, 40, 51, 120])
@pytest.mark.parametrize("seen", SEEN_AS)
def test_ties_of_many_cases_are_scipys_of_whole_numbers(seen, n):
    """Beyond 13 cases SciPy corrects the normal distribution for ties: they must be there to be corrected for."""
    rng = generator(n, "many ties")
    whole = rng.integers(0, 95, n)
    other = whole + rng.integers(-3, 5, n)
    found = wilcoxon(differences(SEEN_AS[seen](whole.astype(float)), SEEN_AS[seen](other.astype(float))))
    steps = (other - whole)[other != whole]
    assert found == pytest.approx(stats.wilcoxon(steps).pvalue, rel=1e-12)


def test_no_grid_tears_equal_differences_apart():
    """Sizes on either side of a step of 1e-12 are one size, and those of one column alone decide what is 0."""
    a = np.array([0.5, 0.5, 0.5, 0.5])
    b = a + 2.5e-12 * np.array([1 + 1e-3, 1 - 1e-3, 4, 0])
    assert len({*differences(a, b)}) == 3
    assert differences(np.zeros(3), np.array([1e-20, -1e-20, 3e-20])).tolist() == [1e-20, -1e-20, 3e-20]
    assert differences(np.zeros(3), np.array([1e-20, -1e-20, 1.0])).tolist() == [0, 0, 1]
    # shares are made of numbers of the size of 1, whatever they are themselves
    assert differences(np.zeros(2), np.array([1e-16, 2e-16]), scale=1.0).tolist() == [0, 0]
    assert differences(np.array([]), np.array([])).tolist() == []


def test_an_interval_is_of_the_differences_whatever_the_unit():
    """One step up in every case is a point; the ends of others grow with the unit, and 0 stays 0."""
    whole = np.array([3.0, 9, 12, 14, 21, 33])
    constant = paired(whole * 0.7, (whole + 1) * 0.7, generator(0, "u"))
    assert constant.interval.method == "point"
    other = whole + np.array([1, 2, -3, 1, 2, 4])
    one, many = (paired(whole * u, other * u, generator(0, "u")) for u in (1.0, 0.7e-9))
    assert (many.interval.low, many.interval.high) == pytest.approx(
        (one.interval.low * 0.7e-9, one.interval.high * 0.7e-9), rel=1e-9, abs=0
    )
    assert (one.p, many.p) == (by_enumeration([1, 2, -3, 1, 2, 4]),) * 2
    up = paired(np.zeros(3), np.array([0.7, 0.0, 0.0]), generator(0, "u"))
    assert up.interval.low == 0


def test_pairs_are_compared_case_by_case():
    """What makes a case hard for both runs cancels: the interval is that of the differences."""
    rng = generator(9, "pairs")
    hard = rng.random(60)
    a = 0.5 + 0.4 * hard
    b = a + 0.02 + rng.normal(0, 0.005, 60)
    found = paired(a, b, generator(0, "d"))
    assert found.n == 60
    assert found.mean == pytest.approx(b.mean() - a.mean())
    assert found.median == pytest.approx(np.median(b - a))
    theirs = stats.bootstrap((b - a,), np.mean, method="BCa", n_resamples=5000, rng=3).confidence_interval
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(theirs), abs=3e-4)
    assert found.p == pytest.approx(stats.wilcoxon(b - a).pvalue)
    assert paired([], [], generator(0)) is None
    same = paired(a, a, generator(0))
    assert (same.mean, same.p, same.interval.method) == (0, None, "point")


def test_holm_by_hand():
    """0.01 of four is 0.04, 0.015 of three 0.045, 0.03 of two 0.06, then never smaller; None is no test."""
    assert holm([0.03, None, 0.01, 0.015, 0.04]) == [
        pytest.approx(0.06), None, pytest.approx(0.04), pytest.approx(0.045), pytest.approx(0.06),
    ]  # fmt: skip
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_raw_and_bonferronis(p):
    """And in the order of the raw values."""
    found = holm(p)
    for raw, corrected in zip(p, found, strict=True):
        assert raw <= corrected <= min(1, len(p) * raw) + 1e-15
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(found)[order]) >= 0)


# --- summaries -------------------------------------------------------------------------------------------------


def run_of(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]], **options):
    for i, arrays in enumerate(pairs):
        for side, array in zip(("pred", "gt"), arrays, strict=True):
            (folder / side).mkdir(exist_ok=True)
            np.save(folder / side / f"c{i:02}.npy", array)
    return library.evaluate(folder / "pred", folder / "gt", jobs=1, **options).to_dict()


def record(run, label, measure):
    return next(s for s in run["summary"] if (s["label"], s["measure"]) == (label, measure))


def test_a_summary_is_numpys_of_the_values(tmp_path):
    """Mean, sd, quantiles and ends of what is defined, and how many are not."""
    rng = np.random.default_rng(1)
    pairs = [
        ((rng.random((9, 9)) < 0.5).astype(np.uint8), (rng.random((9, 9)) < 0.5).astype(np.uint8)) for _ in range(7)
    ]
    pairs.append((np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)))
    run = run_of(tmp_path, pairs, metrics="dice")
    one = record(run, "foreground", "dice")
    x = np.array([v["value"] for c in run["cases"] for v in c["values"] if v["value"] is not None])
    assert (one["n"], one["undefined"], one["policy"]) == (7, 1, 0)
    by_numpy = {"mean": x.mean(), "sd": x.std(ddof=1), "min": x.min(), "max": x.max(), "median": np.median(x)}
    by_numpy |= {f"p{q:02}": np.percentile(x, q) for q in (5, 25, 75, 95)}
    assert {key: one[key] for key in by_numpy} == pytest.approx(by_numpy)
    assert (one["ci_method"], one["ci_level"], one["seed"]) == ("bca", 0.95, 0)
    assert one["ci"][0] < one["mean"] < one["ci"][1]


def test_pooled_is_of_the_summed_counts(tmp_path):
    """VOC's mean IoU and nnU-Net's global Dice: counts over all images first, then the formula, then classes.

    Image 1: gt 1 has 2 voxels and pred hits 1 of them and adds 1; gt 2 has 1, which pred hits.
    Image 2: gt 1 has 4 voxels, all hit; gt 2 has 2, of which 1 is hit.
    Label 1: tp 5, fp 1, fn 1: IoU 5/7, Dice 10/12. Label 2: tp 2, fp 0, fn 1: IoU 2/3, Dice 4/5.
    """
    gt1, pred1 = np.array([[1, 1, 0, 2]], np.uint8), np.array([[1, 0, 1, 2]], np.uint8)
    gt2, pred2 = np.array([[1, 1, 1, 1, 2, 2, 0, 0]], np.uint8), np.array([[1, 1, 1, 1, 2, 0, 0, 0]], np.uint8)
    run = run_of(tmp_path, [(pred1, gt1), (pred2, gt2)], metrics="iou,dice,hd", labels="1,2")
    pooled = {(s["label"], s["measure"]): s["pooled"] for s in run["summary"]}
    assert pooled["1", "iou"] == pytest.approx(5 / 7)
    assert pooled["2", "iou"] == pytest.approx(2 / 3)
    assert pooled["mean", "iou"] == pytest.approx((5 / 7 + 2 / 3) / 2)
    assert pooled["1", "dice"] == pytest.approx(10 / 12)
    assert pooled["mean", "dice"] == pytest.approx((10 / 12 + 4 / 5) / 2)
    assert pooled["1", "hd:surface=surfel"] is None
    # The mean over images is another number: label 1 has IoU 1/3 and 1.
    assert record(run, "1", "iou")["mean"] == pytest.approx((1 / 3 + 1) / 2)


def test_cases_without_means_get_macro_means():
    """Converted results of other tools have values alone."""
    cases = [
        {
            "case": name, "group": {}, "labels": {"1": [1], "2": [2], "12": [1, 2]}, "regions": ["12"], "counts": {},
            "values": [
                {"label": label, "kind": "metric", "measure": "dice", "value": value, "unit": "", "status": "ok"}
                for label, value in values.items()
            ],
        }
        for name, values in {"a": {"1": 0.5, "2": 0.9, "12": 0.1}, "b": {"1": 0.7, "2": None, "12": 0.1}}.items()
    ]  # fmt: skip
    mean = next(s for s in summaries(cases, Resampling()) if s["label"] == "mean")
    assert mean["mean"] == pytest.approx((0.7 + 0.7) / 2)
    assert (mean["n"], mean["undefined"]) == (2, 0)


@pytest.mark.parametrize(("cases", "marked"), [(FEW - 1, True), (FEW, False)])
def test_few_values_are_marked(tmp_path, cases, marked):
    """Below 20 values a `~` stands before the interval, and a footnote says why."""
    gt = np.zeros((9, 9), np.uint8)
    gt[2:7, 2:7] = 1
    run_of(tmp_path, [(np.roll(gt, i % 3, 0), gt) for i in range(cases)], metrics="dice")
    table = segcli("evaluate", tmp_path / "pred", tmp_path / "gt", "-m", "dice", "-j1").stdout
    assert ("~[" in table) is marked
    assert ("the interval is too short" in table) is marked
