"""Several runs ranked: places by hand, stability by simulation, stand-ins, the order of the arguments."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import Source, made_run
from test_diff import AFTER, BEFORE, cli

from segcli.errors import InputError, UsageError
from segcli.report import rank as report
from segcli.run.places import drawn_cases, place_shares, places, taus
from segcli.run.rank import Ranking, Row, rank_runs
from segcli.run.statistics import generator, holm
from segcli.run.summary import Resampling

DICE, HD = "metric.dice", "metric.hd95:surface=surfel"


def ranked(runs: dict[str, dict], resamples: int = 200, **options) -> Ranking:
    return rank_runs([Source(n, r) for n, r in runs.items()], resampling=Resampling(resamples=resamples), **options)


def of(found: Ranking, values: tuple) -> dict:
    """Return values that follow the runs by the runs' names."""
    return dict(zip(found.runs, values, strict=True))


def row_of(found: Ranking, label: str, measure: str) -> Row:
    return next(r for r in found.rows if (r.label, r.measure) == (label, measure))


# --- arrays -----------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_places_are_competition_ranks(values: list[int]) -> None:
    """1224: equal ones share the better place, as SciPy's `min` ranks; rounding does not tell them apart."""
    bad = np.array(values, dtype=float) / 10
    expected = scipy.stats.rankdata(values, method="min")
    assert places(bad, 1e-12).tolist() == expected.tolist()
    assert places(bad + 1e-15 * np.arange(len(values)), 1e-12).tolist() == expected.tolist()
    assert places(np.stack([bad, -bad]), 1e-12)[0].tolist() == expected.tolist()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=7))
def test_tau_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    """Kendall's tau-b, NaN where one of the two does not rank."""
    x, y = (np.array(column) for column in zip(*pairs, strict=True))
    found = taus(x[None, :], y)[0]
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


def test_resamples_draw_n_of_n() -> None:
    """Each row sums to n, the mean of each column is 1, blocks do not change the draws."""
    drawn = np.concatenate(list(drawn_cases(generator(0, "x"), 7, 3000)))
    assert drawn.shape == (3000, 7)
    assert (drawn.sum(axis=1) == 7).all()
    # a count is binomial(7, 1/7): the mean of 3000 has a standard error of 0.017
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.08)
    assert place_shares(np.array([[1, 2], [1, 2], [2, 1], [1, 1]])).tolist() == [[0.75, 0.25], [0.5, 0.5]]


# --- by hand ----------------------------------------------------------------------------------------


def test_the_two_ways_worked_by_hand_disagree() -> None:
    """Run a wins three of four cases by little and loses one by much: first by ranks, last by means."""
    found = ranked(
        {
            "a": made_run({("x", DICE): [0.90, 0.90, 0.90, 0.10]}),
            "b": made_run({("x", DICE): [0.85, 0.85, 0.80, 0.85]}),
            "c": made_run({("x", DICE): [0.80, 0.80, 0.80, 0.80]}),
        }
    )
    row = found.rows[0]
    # ranks of the cases: a 1 1 1 3, b 2 2 2 1, c 3 3 2 2 (b and c share place 2 in case 2)
    assert of(found, row.by_rank.score) == pytest.approx({"a": 1.5, "b": 1.75, "c": 2.5})
    assert of(found, row.by_rank.place) == {"a": 1, "b": 2, "c": 3}
    assert of(found, row.by_mean.score) == pytest.approx({"a": 0.70, "b": 0.8375, "c": 0.80})
    assert of(found, row.by_mean.place) == {"a": 3, "b": 1, "c": 2}
    assert of(found, found.by_rank.place) == {"a": 1, "b": 2, "c": 3}
    assert found.runs == ("a", "b", "c")


def test_overall_is_the_mean_of_the_places() -> None:
    """Two labels with a distance each: places 1 2 3, 1 2 3, 2 1 3, 3 1 2 have the means 1.75, 1.5, 2.75."""
    table = {
        "a": {("x", DICE): [0.9] * 3, ("x", HD): [1.0] * 3, ("y", DICE): [0.5] * 3, ("y", HD): [9.0] * 3},
        "b": {("x", DICE): [0.8] * 3, ("x", HD): [2.0] * 3, ("y", DICE): [0.6] * 3, ("y", HD): [1.0] * 3},
        "c": {("x", DICE): [0.7] * 3, ("x", HD): [3.0] * 3, ("y", DICE): [0.4] * 3, ("y", HD): [2.0] * 3},
    }
    found = ranked({name: made_run(columns, units={HD: "mm"}) for name, columns in table.items()})
    for way in (found.by_rank, found.by_mean):
        assert of(found, way.score) == {"a": 1.75, "b": 1.5, "c": 2.75}
        assert of(found, way.place) == {"a": 2, "b": 1, "c": 3}
        # every case says the same, so every resample does
        assert way.tau == pytest.approx(1)
        assert all(way.shares[i][p - 1] == 1 for i, p in enumerate(way.place))
    assert found.runs == ("b", "a", "c")


@pytest.mark.parametrize("unit", [1, 0.7, 1 / 3, 0.7e-9, 0.7e9])
def test_a_change_of_unit_changes_no_rank_and_no_p(unit: float) -> None:
    """The differences of `test_a_change_of_unit_changes_no_p_and_no_verdict`: one-sided p = 7/256, twice that of two.

    The third run differs from the second in the last bit of every value, which is no difference.
    """
    before, after = ([unit * v for v in x] for x in (BEFORE, AFTER))
    twin = [float(np.nextafter(v, math.inf)) for v in after]
    table = {"after": after, "before": before, "twin": twin}
    found = ranked({n: made_run({("x", HD): v}, units={HD: "mm"}) for n, v in table.items()})
    row, at = found.rows[0], {name: i for i, name in enumerate(found.runs)}
    assert row.p[at["after"]][at["before"]] == pytest.approx(7 / 256, rel=1e-12)
    assert row.p[at["twin"]][at["before"]] == pytest.approx(7 / 256, rel=1e-12)
    assert row.p[at["twin"]][at["after"]] is row.p[at["after"]][at["twin"]] is None
    for way in (row.by_rank, row.by_mean, found.by_rank, found.by_mean):
        assert of(found, way.place) == {"after": 1, "twin": 1, "before": 3}
        assert way.shares[at["after"]] == way.shares[at["twin"]]


@pytest.mark.parametrize(("cases", "words"), [(1, "one case"), (3, "fewer than 20 cases"), (19, "fewer"), (20, "")])
def test_few_cases_are_marked(tmp_path, cases, words) -> None:
    """Resampling one case gives the same ranking always: `~`, a sentence in every form, and no `1 cases`."""
    for name, shift in (("a", 0.0), ("b", 0.1)):
        run = made_run({("x", DICE): [0.3 + shift + i / 100 for i in range(cases)]})
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    for form in ("table", "md", "json", "latex", "csv"):
        done = cli("rank", "a.json", "b.json", "-f", form, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told = "fewer than 20 cases" if form == "csv" and words else words
        assert (told.lower() in done.stdout.lower()) if words else ("fewer" not in done.stdout)
        assert "1 cases" not in done.stdout
        if form == "table":
            assert ("~100%" in done.stdout) is bool(words)
            assert "1 ranking\n" in done.stdout
    diff = cli("diff", "a.json", "b.json", cwd=tmp_path)
    assert "1 cases" not in diff.stdout


def test_equal_runs_and_perfect_runs_are_suspected() -> None:
    """One run given twice, and predictions that are their ground truths, are said; one wrong value silences that."""
    perfect = {("x", DICE): [1.0, 1.0], ("x", HD): [0.0, 0.0]}
    again = ranked({"a": made_run(perfect), "b": made_run(perfect)})
    assert any("one run given several times" in note for note in again.notes)
    assert [w.partition(":")[0] for w in again.warnings if "one folder given as both" in w] == ["a", "b"]
    other = ranked({"a": made_run(perfect), "b": made_run({**perfect, ("x", HD): [0.0, 1.0]})})
    assert not any("several times" in note for note in other.notes)
    assert [w.partition(":")[0] for w in other.warnings if "one folder given as both" in w] == ["a"]


def test_significance_is_scipys_one_sided_test_with_holm_over_all_pairs() -> None:
    """p[i][j] is of run i better than run j; six ordered pairs of three runs."""
    rng = np.random.default_rng(2)
    base = rng.uniform(1, 3, 15)
    values = {"a": base, "b": base + rng.normal(0.3, 0.2, 15), "c": base + rng.normal(0.1, 0.5, 15)}
    found = ranked({n: made_run({("x", HD): list(map(float, v))}) for n, v in values.items()})
    row = found.rows[0]
    pairs = list(itertools.permutations(found.runs, 2))
    p = [scipy.stats.wilcoxon(values[j] - values[i], alternative="greater").pvalue for i, j in pairs]
    at = {name: i for i, name in enumerate(found.runs)}
    for (i, j), raw, corrected in zip(pairs, p, holm(p), strict=True):
        assert row.p[at[i]][at[j]] == pytest.approx(raw)
        assert row.p_holm[at[i]][at[j]] == pytest.approx(corrected)
    assert all(row.p[i][i] is None for i in range(3))
    assert at["b"] in row.beats(0.05)[at["a"]]
    assert row.beats(0.05)[at["b"]] == []


# --- missing and undefined --------------------------------------------------------------------------


def test_a_missing_prediction_is_worst_or_leaves_the_case() -> None:
    """By default a missing case costs the worst Dice, 0; with `exclude` it counts for nobody."""
    runs = {
        "a": made_run({("x", DICE): [0.9, 0.9, 0.9, 0.0]}, missing=("case_003",)),
        "b": made_run({("x", DICE): [0.8, 0.8, 0.8, 0.8]}),
        "c": made_run({("x", DICE): [0.7, 0.7, 0.7, 0.7]}),
    }
    found = ranked(runs)
    row = found.rows[0]
    assert of(found, row.filled) == {"a": 1, "b": 0, "c": 0}
    assert row.n == 4
    # 0.9 * 3 / 4 is less than 0.7
    assert of(found, row.by_mean.score) == pytest.approx({"a": 0.675, "b": 0.8, "c": 0.7})
    assert of(found, row.by_mean.place) == {"a": 3, "b": 1, "c": 2}
    found = ranked(runs, missing="exclude")
    row = found.rows[0]
    assert (row.n, row.excluded) == (3, 1)
    assert of(found, row.by_mean.score) == pytest.approx({"a": 0.9, "b": 0.8, "c": 0.7})


def test_an_undefined_distance_is_the_diagonal() -> None:
    """The 3 x 4 grid has the diagonal 5; a larger value of any run would be the worst."""
    units = {HD: "mm"}
    runs = {
        "a": made_run({("x", HD): [1.0, "pred_empty"]}, units=units),
        "b": made_run({("x", HD): [2.0, 2.0]}, units=units),
    }
    found = ranked(runs)
    assert of(found, found.rows[0].by_mean.score) == {"a": 3.0, "b": 2.0}
    runs["b"] = made_run({("x", HD): [2.0, 8.0]}, units=units)
    assert of(ranked(runs), ranked(runs).rows[0].by_mean.score)["a"] == 4.5


def test_a_rightly_empty_label_beats_a_false_alarm() -> None:
    """Where gt lacks the label, the run that leaves it out is undefined, and right: it is best there."""
    runs = {
        "silent": made_run(
            {("x", DICE): [0.5, "both_empty", "both_empty"], ("x", HD): [1.0, "both_empty", "both_empty"]}
        ),
        "alarm": made_run({("x", DICE): [0.5, 0.0, "both_empty"], ("x", HD): [1.0, "gt_empty", "both_empty"]}),
    }
    found = ranked(runs)
    row = row_of(found, "x", "dice")
    assert (row.n, row.excluded) == (2, 1)
    assert of(found, row.by_mean.score) == {"silent": 0.75, "alarm": 0.25}
    row = row_of(found, "x", "hd95:surface=surfel")  # no run has a number there, and one is right
    assert (row.n, row.excluded) == (2, 1)
    assert of(found, row.by_mean.place) == {"silent": 1, "alarm": 2}
    for row in ranked(runs, missing="exclude").rows:
        assert (row.n, row.excluded) == (1, 2)
    # A relative error has no worst value for a false alarm: that case is left out.
    runs = {
        "silent": made_run({("x", "metric.rve"): [0.1, "both_empty"]}),
        "alarm": made_run({("x", "metric.rve"): [0.1, "gt_empty"]}),
    }
    assert (ranked(runs).rows[0].n, ranked(runs).rows[0].excluded) == (1, 1)


def test_a_value_that_is_undefined_for_want_of_faults_is_no_miss() -> None:
    """Without false positives the positive likelihood ratio is infinite: the run is best there, not 0."""
    ratio = ("x", "metric.likelihood_ratio_positive")
    runs = {"right": made_run({ratio: [5.0, "zero_denominator"]}), "wrong": made_run({ratio: [5.0, 40.0]})}
    (row,) = ranked(runs).rows
    assert (row.n, row.filled) == (2, (1, 0) if ranked(runs).runs[0] == "right" else (0, 1))
    assert set(row.by_mean.place) == {1}  # as good as the best of any run
    runs["right"]["cases"][1]["counts"]["x"] = {"tp": 1, "fp": 2, "fn": 0, "tn": 0}
    (row,) = ranked(runs).rows  # another denominator: that much is a miss
    assert of(ranked(runs), row.by_mean.place) == {"right": 2, "wrong": 1}


def test_a_label_that_a_case_does_not_have_is_rightly_empty() -> None:
    """A run whose case has no record of a label had it in neither file; another run's false alarm is worse."""
    runs = {
        "silent": made_run({("x", DICE): [0.5, 0.5], ("y", DICE): [0.5, None]}),
        "alarm": made_run({("x", DICE): [0.5, 0.5], ("y", DICE): [0.5, 0.0]}),
    }
    found = ranked(runs)
    assert of(found, row_of(found, "y", "dice").by_mean.score) == {"silent": 0.75, "alarm": 0.25}


def test_a_run_that_is_silent_about_cases_is_warned_of() -> None:
    """A case that is neither scored nor missing nor an error may be of another cohort."""
    runs = {
        "a": made_run({("x", DICE): [0.5, 0.5]}),
        "b": made_run({("x", DICE): [0.5]}, names=["case_000"]),
    }
    assert ranked(runs).warnings == ("b says nothing of 1 case, not even that it is missing",)


# --- properties -------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.lists(st.tuples(*[st.sampled_from([0.2, 0.5, 0.500001, 0.9, "pred_empty"])] * 3), min_size=2, max_size=8))
def test_the_order_of_the_arguments_changes_nothing(cells: list) -> None:
    """Every permutation of the runs gives the same document."""
    if not any(isinstance(v, float) for row in cells for v in row):
        return
    runs = {n: made_run({("x", DICE): [row[i] for row in cells]}) for i, n in enumerate("abc")}
    documents = [
        report.ranking_document(ranked({n: runs[n] for n in order}), {}) for order in itertools.permutations(runs)
    ]
    assert all(d == documents[0] for d in documents)


def test_equal_runs_share_every_place() -> None:
    """Three copies: all first in every resample, no test, no tau."""
    run = made_run({("x", DICE): [0.5, 0.6, 0.7]})
    found = ranked({"a": run, "b": run, "c": run})
    row = found.rows[0]
    assert row.by_rank.place == row.by_mean.place == (1, 1, 1)
    assert row.by_mean.shares == ((1.0, 0.0, 0.0),) * 3
    assert row.by_rank.tau is None
    assert row.p == ((None,) * 3,) * 3
    assert report.ranking_text(found).count("tau") == 1


def test_a_clearly_better_run_is_first_nearly_always() -> None:
    """Better by a standard deviation in 40 cases: first in more than 95% of the resamples, and significantly so."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.05, (3, 40))
    runs = {
        name: made_run({("x", DICE): list(map(float, mean + noise[i]))})
        for i, (name, mean) in enumerate((("good", 0.80), ("poor", 0.74), ("same", 0.74)))
    }
    found = ranked(runs, resamples=1000)
    row = found.rows[0]
    assert found.runs[0] == "good"
    assert row.by_rank.shares[0][0] > 0.95
    assert row.by_mean.shares[0][0] > 0.95
    assert row.beats(0.05)[0] == [1, 2]
    # The two others differ by chance alone: neither keeps its place that surely.
    assert max(row.by_mean.shares[1]) < 0.95


def test_stability_is_that_of_a_loop_over_resamples() -> None:
    """The same draws, taken case by case, give the same shares."""
    rng = np.random.default_rng(11)
    values = {name: rng.uniform(0.4, 0.9, 9) for name in "abc"}
    found = ranked({n: made_run({("x", DICE): list(map(float, v))}) for n, v in values.items()}, resamples=300)
    matrix = np.stack([values[n] for n in found.runs], axis=1)
    ranks = scipy.stats.rankdata(-matrix, axis=1, method="min")
    first = np.zeros((2, 3))
    for drawn in np.concatenate(list(drawn_cases(generator(0, "rank"), 9, 300))):
        cases = np.repeat(np.arange(9), drawn.astype(int))
        for way, score in enumerate((-matrix[cases].mean(axis=0), ranks[cases].mean(axis=0))):
            first[way] += scipy.stats.rankdata(np.round(score, 12), method="min") == 1
    row = found.rows[0]
    assert [s[0] for s in row.by_mean.shares] == pytest.approx(first[0] / 300)
    assert [s[0] for s in row.by_rank.shares] == pytest.approx(first[1] / 300)


def test_a_hundred_thousand_values_take_seconds() -> None:
    """Five runs of 5000 cases with four measures each."""
    rng = np.random.default_rng(0)
    ids = (DICE, "metric.iou", "metric.sensitivity", "metric.precision")
    runs = {
        f"run{i}": made_run({("x", m): list(map(float, rng.uniform(0.2, 0.8, 5000) + 0.01 * i)) for m in ids})
        for i in range(5)
    }
    started = time.process_time()
    found = ranked(runs, resamples=1000)
    assert time.process_time() - started < 20
    assert found.runs[0] == "run4"


def test_rows_of_few_cases_leave_the_overall_stability_whole() -> None:
    """Twenty labels that one case each has: most resamples lack some of them, and still rank the runs."""
    cells = {n: {} for n in "ab"}
    for i in range(20):
        for name, value in (("a", 0.9), ("b", 0.8)):
            cells[name][(f"l{i}", DICE)] = [value if j == i else "both_empty" for j in range(20)]
    found = ranked({name: made_run(columns) for name, columns in cells.items()})
    assert [row.n for row in found.rows] == [1] * 20
    assert found.by_mean.shares == found.by_rank.shares == ((1.0, 0.0), (0.0, 1.0))


# --- refusals and output ----------------------------------------------------------------------------


def test_what_cannot_be_ranked_is_refused() -> None:
    """One run, another definition, no direction, no value."""
    run = made_run({("x", DICE): [0.5], ("x", "metric.voxels_gt"): [3.0]})
    with pytest.raises(UsageError, match="one run"):
        ranked({"a": run})
    with pytest.raises(InputError, match=r"threshold is 0\.5 in a and 0\.3 in b"):
        ranked({"a": run, "b": made_run({("x", DICE): [0.5]}, threshold=0.3)}, metrics="dice")
    with pytest.raises(UsageError, match="direction"):
        ranked({"a": run, "b": run}, metrics="voxels_gt")
    nothing = made_run({("x", DICE): ["both_empty"]})
    with pytest.raises(InputError, match="no case has a value"):
        ranked({"a": nothing, "b": nothing})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with three run files, one of them with an equals sign in its name."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(4)
    for i, name in enumerate(("a", "b_%", "x=y")):
        columns = {("x", DICE): list(map(float, rng.uniform(0.3, 0.8, 10) + 0.1 * i))}
        (folder / f"{name}.json").write_text(json.dumps(made_run(columns)))
    return folder


def test_the_command(files: Path) -> None:
    """Names from files or NAME=RUN; exit codes; JSON that its schema allows."""
    a, b, c = (files / f"{n}.json" for n in ("a", "b_%", "x=y"))
    done = cli("rank", a, f"second={b}", c, "-f", "json", "--seed", "3", "--resamples", "150", "-o", files / "r.tex")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    schema = json.loads(cli("schema", "rank").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert sorted(document["runs"]) == ["a", "second", "x=y"]
    assert (document["seed"], document["resamples"]) == (3, 150)
    assert r"\begin{tabular}" in (files / "r.tex").read_text()
    two = cli("rank", a, b, "--missing", "exclude")
    assert two.returncode == 0
    assert "segcli diff says more" in two.stdout
    for arguments, code, said in (
        ((a,), 2, "one run has no rank"),
        ((a, a), 2, "two runs are called a"),
        ((a, b, "-m", "nonsense"), 2, "nonsense"),
        ((a, files / "none.json", b), 3, "none.json"),
        ((a, b, "--missing", "zero"), 2, "zero"),
    ):
        failed = cli("rank", *arguments)
        assert failed.returncode == code, failed.stderr
        assert failed.stdout == ""
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr


def test_csv_and_markdown() -> None:
    """CSV has a line for each run of each row and for each run overall; Markdown shows names literally."""
    runs = {n: made_run({("x|y", DICE): [0.1 * i, 1 / 3]}) for i, n in enumerate(("a_1", "b*", "c|"))}
    found = ranked(runs)
    rows = list(csv.DictReader(io.StringIO(report.ranking_csv(found))))
    assert len(rows) == 6
    best = next(r for r in rows if r["run"] == "c|" and r["label"])
    assert float(best["mean"]) == (0.2 + 1 / 3) / 2
    assert (best["place_ranks"], best["place_means"]) == ("1", "1")
    markdown = report.ranking_markdown(found)
    for name in (r"a\_1", r"b\*", r"c\|", r"x\|y"):
        assert name in markdown
