"""Two runs compared: pairs, differences, intervals, tests, verdicts, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import Source, made_run

from segcli.errors import InputError, UsageError
from segcli.report import diff as report
from segcli.run.diff import Difference, Row, compare_runs
from segcli.run.summary import Resampling

DICE, HD = "metric.dice", "metric.hd95:surface=surfel"


def compared(a: dict, b: dict, **options) -> Difference:
    return compare_runs(Source("a", a), Source("b", b), resampling=Resampling(resamples=500), **options)


def row_of(found: Difference, label: str, measure: str = "dice") -> Row:
    return next(r for r in found.rows if (r.label, r.measure) == (label, measure))


def cli(*arguments: object, stdin: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True, text=True, check=False, input=stdin, cwd=cwd,
    )  # fmt: skip


# --- the numbers ------------------------------------------------------------------------------------


def test_a_row_worked_by_hand() -> None:
    """Five cases, four pairs: case 4 is undefined in b only, so it leaves the pairs and is named."""
    a = made_run({("x", DICE): [0.5, 0.6, 0.7, 0.8, 0.9]})
    b = made_run({("x", DICE): [0.6, 0.8, 0.7, 0.7, "pred_empty"]})
    row = row_of(compared(a, b), "x")
    # The differences 0.1 0.2 0 -0.1 have the mean 0.05; the sums of the pairs are 2.6 and 2.8.
    assert row.n == 4
    assert row.a.mean == pytest.approx(0.65)
    assert row.b.mean == pytest.approx(0.70)
    assert row.mean == pytest.approx(0.05)
    assert row.median == pytest.approx(0.05)
    assert (row.gained, row.lost, row.equal) == (2, 1, 1)
    assert [(x.case, x.a, x.b, x.why) for x in row.lone] == [("case_004", 0.9, None, "pred_empty")]
    assert row.verdict == "no evidence"
    # sample standard deviation of 0.5 0.6 0.7 0.8: sqrt(0.05/3)
    assert row.a.sd == pytest.approx((0.05 / 3) ** 0.5)
    assert [m.case for m in row.moved] == ["case_001", "case_000", "case_003"]


def test_p_is_that_of_scipy_and_holm_is_worked_by_hand() -> None:
    """The two-sided signed-rank test of the differences that are not 0; three rows, sorted p times 3, 2, 1."""
    rng = np.random.default_rng(1)
    n = 30
    base = rng.uniform(0.5, 0.9, n)
    columns = {("x", DICE): base, ("x", "metric.iou"): base, ("x", "metric.sensitivity"): base}
    moves = [rng.normal(m, 0.02, n) for m in (0.02, 0.008, 0.001)]
    moves[0][:3] = 0
    a = made_run({k: list(map(float, v)) for k, v in columns.items()})
    b = made_run({k: list(map(float, v + m)) for (k, v), m in zip(columns.items(), moves, strict=True)})
    rows = compared(a, b).rows
    expected = []
    for key, move in zip(columns, moves, strict=True):
        change = (columns[key] + move) - columns[key]
        expected.append(scipy.stats.wilcoxon(change[np.abs(change) > 1e-12]).pvalue)
    assert [r.p for r in rows] == pytest.approx(expected)
    first, second, third = sorted(range(3), key=lambda i: expected[i])
    by_hand = [0.0] * 3
    by_hand[first] = min(1, 3 * expected[first])
    by_hand[second] = max(by_hand[first], min(1, 2 * expected[second]))
    by_hand[third] = max(by_hand[second], expected[third])
    assert [r.p_holm for r in rows] == pytest.approx(by_hand)
    assert rows[0].verdict == "better"


#: Distances in units of 0.7 mm, and in another: 1 1 3 1 1 3 1 1 down.
BEFORE, AFTER = [3, 2, 5, 2, 4, 7, 2, 3], [2, 3, 2, 1, 3, 4, 1, 2]


@pytest.mark.parametrize("unit", [1, 0.7, 0.1, 1 / 3, 0.7e-6, 0.7e6])
def test_a_change_of_unit_changes_no_p_and_no_verdict(unit: float) -> None:
    """Eight differences, seven of which are down: -1 +1 -3 -1 -1 -3 -1 -1, of sizes that are tied in every unit.

    The sum of the ranks that are up is 3.5 (the mean rank of six ones): of 2^8 signs 1 has a sum of 0, and 6 of 3.5,
    so p = 2 * 7/256 = 0.0546875. Ties that rounding breaks give up to seven other values, some below 0.05.
    """
    a, b = (made_run({("x", HD): [unit * v for v in x]}, units={HD: "mm"}) for x in (BEFORE, AFTER))
    for found, up, down in ((compared(a, b), 1, 7), (compared(b, a), 7, 1)):
        row = found.rows[0]
        assert row.p == pytest.approx(0.0546875, rel=1e-12)
        assert (row.lost, row.gained, row.equal, row.verdict) == (up, down, 0, "no evidence")
    offset = [made_run({("x", HD): [1e6 + unit * v for v in x]}, units={HD: "mm"}) for x in (BEFORE, AFTER)]
    if unit > 1e-3:  # else too little of the difference is left
        assert compared(*offset).rows[0].p == pytest.approx(0.0546875, rel=1e-12)


def test_equal_values_with_an_offset_are_equal() -> None:
    """1e6 + 0.1 + 0.2 and 1e6 + 0.3 differ in their last bits."""
    a = made_run({("x", HD): [1e6 + 0.1 + 0.2, 1e6 + 0.1, 3.0]}, units={HD: "mm"})
    b = made_run({("x", HD): [1e6 + 0.3, 1e6 + 0.1, 3.0]}, units={HD: "mm"})
    row = compared(a, b).rows[0]
    assert (row.gained, row.lost, row.equal, row.p, row.mean) == (0, 0, 3, None, 0)
    assert row.moved == ()


@pytest.mark.parametrize(
    ("measure", "change", "verdict"),
    [(DICE, 0.1, "better"), (DICE, -0.1, "worse"), (HD, 1.0, "worse"), (HD, -1.0, "better")],
)
def test_words_follow_the_direction_of_the_measure(measure: str, change: float, verdict: str) -> None:
    """More Dice is better, more distance worse."""
    rng = np.random.default_rng(0)
    values = rng.uniform(2, 3, 20) if measure == HD else rng.uniform(0.3, 0.8, 20)
    moved = values + change * rng.uniform(0.5, 1, 20)
    a, b = (made_run({("x", measure): list(map(float, v))}, units={HD: "mm"}) for v in (values, moved))
    found = compared(a, b)
    row = found.rows[0]
    assert row.verdict == verdict
    assert (row.gained, row.lost) == ((20, 0) if verdict == "better" else (0, 20))
    assert verdict in report.difference_text(found)


def test_where_zero_is_best_sizes_are_compared() -> None:
    """An error of -0.4 that becomes +0.1 is a gain of 0.3, though the value rose."""
    a = made_run({("x", "metric.rve"): [-0.4] * 8})
    b = made_run({("x", "metric.rve"): [0.1] * 8})
    row = compared(a, b).rows[0]
    assert row.of == "size"
    assert row.a.mean == pytest.approx(0.4)
    assert row.mean == pytest.approx(-0.3)
    assert row.gained == 8
    assert row.verdict == "better"
    assert (row.moved[0].a, row.moved[0].b) == (-0.4, 0.1)


def test_the_mean_row_pairs_only_cases_whose_labels_are_the_same() -> None:
    """In case 1 `y` is lost: its mean over labels would rise by leaving out the worse label."""
    a = made_run({("x", DICE): [0.8, 0.8, 0.8], ("y", DICE): [0.4, 0.2, "both_empty"]})
    b = made_run({("x", DICE): [0.9, 0.8, 0.7], ("y", DICE): [0.5, "pred_empty", "both_empty"]})
    row = row_of(compared(a, b), "mean")
    # Case 0 goes from 0.6 to 0.7, case 2 (y in neither run) from 0.8 to 0.7.
    assert row.n == 2
    assert row.mean == pytest.approx(0.0)
    assert [(x.case, x.why) for x in row.lone] == [("case_001", "other_labels")]


def test_a_mean_that_one_run_does_not_have_says_why() -> None:
    """In case 1 of A every label has an empty prediction or is in neither file: no mean, and no other labels."""
    a = made_run({("x", DICE): [0.8, "pred_empty", 0.8], ("y", DICE): [0.4, "both_empty", 0.6]})
    b = made_run({("x", DICE): [0.9, 0.8, "gt_empty"], ("y", DICE): [0.5, 0.7, "zero_denominator"]})
    found = compared(a, b)
    assert [(x.case, x.a, x.why) for x in row_of(found, "mean").lone] == [
        ("case_001", None, "pred_empty"),
        ("case_002", pytest.approx(0.7), ""),
    ]
    text = report.difference_text(found)
    assert "* mean dice: 1 undefined in A (pred empty); 1 undefined in B (no value), in no pair" in text


def test_the_words_of_the_verdict_say_what_is_asked() -> None:
    """One test is not corrected; where every pair is equal there is none."""
    a, b = (made_run({("x", DICE): [v] * 8}) for v in (0.8, 0.9))
    assert "Wilcoxon's p corrected for 1 test is at most 0.05, " in report.difference_text(compared(a, b))
    same = report.difference_text(compared(a, a))
    assert "no test: in every row all pairs are equal" in same
    assert "Wilcoxon" not in same


def test_regions_are_not_in_the_mean_row() -> None:
    """The mean over plain labels leaves out `whole`; with one plain label left there is no mean row."""
    columns = {("x", DICE): [0.8, 0.7], ("whole", DICE): [0.5, 0.5]}
    run = made_run(columns, regions=("whole",))
    assert [r.label for r in compared(run, run).rows] == ["x", "whole"]


# --- properties -------------------------------------------------------------------------------------

CELLS = st.lists(st.one_of(st.floats(0, 1), st.sampled_from(["pred_empty", "both_empty"])), min_size=2, max_size=12)


@settings(max_examples=25)
@given(CELLS)
def test_a_run_against_itself_is_zero_without_evidence(cells: list) -> None:
    """All differences are 0, nothing moved, no test has a p, no word is said."""
    run = made_run({("x", DICE): cells})
    found = compared(run, run)
    for row in found.rows:
        assert row.mean in (None, 0.0)
        assert row.p is None
        assert row.verdict == "no evidence"
        assert row.moved == ()
        assert row.lone == ()
        assert (row.gained, row.lost) == (0, 0)
    assert found.new == found.gone == ()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=25))
def test_the_other_way_round_is_the_negative(pairs: list) -> None:
    """Differences and intervals of (b, a) are those of (a, b) with the sign turned, p is the same."""
    a, b = (made_run({("x", DICE): [float(p[i]) for p in pairs]}) for i in (0, 1))
    there, back = compared(a, b).rows[0], compared(b, a).rows[0]
    assert back.mean == pytest.approx(-there.mean, abs=1e-12)
    assert back.p == there.p
    assert (back.gained, back.lost, back.equal) == (there.lost, there.gained, there.equal)
    ends = (there.interval.low, there.interval.high)
    assert (-back.interval.high, -back.interval.low) == pytest.approx(ends, abs=1e-9)
    opposite = {"better": "worse", "worse": "better", "no evidence": "no evidence"}
    assert back.verdict == opposite[there.verdict]


def test_noise_is_rarely_called_a_change() -> None:
    """Of 200 comparisons without any true difference at most 5% and a margin are called better or worse."""
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(200):
        values = rng.uniform(0.5, 0.9, (2, 25))
        a, b = (made_run({("x", DICE): list(map(float, v))}) for v in values)
        found = compare_runs(Source("a", a), Source("b", b), resampling=Resampling(resamples=200))
        called += found.rows[0].verdict != "no evidence"
    assert called <= 20  # binomial(200, 0.05): more than 20 has a chance below 0.1%


# --- cases of one run only --------------------------------------------------------------------------


def test_new_and_lost_cases_are_named_with_the_reason() -> None:
    """A case that one run does not have says why: missing prediction, error, or not part of it."""
    values = [0.5, 0.6, 0.7, 0.8]
    a = made_run({("x", DICE): values}, missing=("case_003",))
    b = made_run({("x", DICE): [*values[:2], 0.0, 0.8]}, errors=("case_000",))
    found = compared(a, b)
    assert found.new == (("case_003", "missing prediction"),)
    assert found.gone == (("case_000", "error"),)
    assert found.cases == 2
    text = report.difference_text(found)
    assert "lost, in A only: case_000 (error)" in text
    assert "new, in B only: case_003 (missing prediction)" in text


def test_another_ground_truth_is_a_warning() -> None:
    """Where the hash of a case's ground truth differs, the two numbers are of different questions."""
    a, b = (made_run({("x", DICE): [0.5, 0.6]}) for _ in range(2))
    b["cases"][1]["gt"]["sha256"] = "f" * 64
    assert "1 case has another ground truth in b: case_001" in compared(a, b).warnings


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "its"),
    [
        ("metric.hd95:surface=surfel", "metric.hd95:surface=border"),
        ("metric.nsd:tol=1:surface=surfel", "metric.nsd:tol=2:surface=surfel"),
    ],
)
def test_other_parameters_are_refused_with_both_names(mine: str, its: str) -> None:
    """Surface and tolerance are part of the name; the measures that agree can be asked for."""
    a, b = (made_run({("x", DICE): [0.5], ("x", m): [1.0]}) for m in (mine, its))
    with pytest.raises(InputError) as caught:
        compared(a, b)
    assert mine in caught.value.message
    assert its in caught.value.message
    assert [r.measure for r in compared(a, b, metrics="dice").rows] == ["dice"]


def test_a_measure_of_one_run_only_is_left_out_and_said() -> None:
    """No parameter conflicts: the rest is compared."""
    a, b = made_run({("x", DICE): [0.5], ("x", HD): [1.0]}), made_run({("x", DICE): [0.5]})
    found = compared(a, b)
    assert found.left_out == (HD,)
    assert f"not in both runs: {HD}" in report.difference_text(found)


def test_a_case_on_another_grid_is_refused() -> None:
    """The same case with another spacing or unit has other distances."""
    for key, value in (("spacing", [1.0, 2.0]), ("unit", "voxel")):
        a, b = (made_run({("x", DICE): [0.5, 0.6]}) for _ in range(2))
        b["cases"][1][key] = value
        with pytest.raises(InputError, match="case_001"):
            compared(a, b)


def test_nothing_in_common_is_refused() -> None:
    """No measure, no case, no label, an unknown measure: one line each."""
    run = made_run({("x", DICE): [0.5]})
    with pytest.raises(InputError, match="no measure in common"):
        compared(run, made_run({("x", "metric.iou"): [0.5]}))
    with pytest.raises(InputError, match="no case in common"):
        compared(run, made_run({("x", DICE): [0.5]}, names=["other"]))
    with pytest.raises(InputError, match=r"labels|label in common"):
        compared(run, made_run({("y", DICE): [0.5]}))
    with pytest.raises(UsageError, match="not in the runs"):
        compared(run, run, metrics="iou")
    with pytest.raises(UsageError, match="unknown metric"):
        compared(run, run, metrics="dcie")


# --- output -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with run files: two of the same cases, one of another threshold."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(3)
    values = rng.uniform(0.5, 0.9, 12)
    for name, shift, spec in (("a", 0.0, {}), ("b", 0.05, {}), ("other", 0.0, {"threshold": 0.3})):
        columns = {("li|ver", DICE): [*map(float, values + shift), "pred_empty"], ("li|ver", HD): [1.0 + shift] * 13}
        run = made_run(columns, units={HD: "mm"}, **spec)
        (folder / f"{name}.json").write_text(json.dumps(run))
    (folder / "broken.json").write_text('{"schema": "segcli.run/9"}')
    return folder


def test_exit_codes_and_streams(files: Path) -> None:
    """0 for a comparison, 2 for usage, 3 for what cannot be compared; stdout has results only."""
    a, b = files / "a.json", files / "b.json"
    done = cli("diff", a, b, "-o", files / "out.tex", "-o", files / "out.csv")
    assert done.returncode == 0, done.stderr
    assert "better" in done.stdout
    assert "wrote" in done.stderr
    assert (files / "out.tex").read_text().startswith("% needs")
    piped = cli("diff", a, "-", stdin=b.read_text())
    assert piped.returncode == 0, piped.stderr
    for arguments, code, said in (
        ((a, files / "other.json"), 3, "threshold is 0.5 in"),
        ((a, files / "broken.json"), 3, "error:"),
        ((a, files / "none.json"), 3, "cannot be read"),
        ((a,), 2, "B"),
        ((a, b, "-m", "dcie"), 2, "dice"),
        ((a, b, "--cell", "iqr"), 2, "--cell iqr"),
        ((a, b, "-o", a), 2, "input"),
        (("-", "-"), 2, "stdin"),
        ((a, b, "--sort", "size"), 2, "size"),
    ):
        failed = cli("diff", *arguments)
        assert failed.returncode == code, failed.stderr
        assert failed.stdout == ""
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr


def test_json_is_what_its_schema_allows_and_equal_twice(files: Path) -> None:
    """`-f json` validates, also with --all; two calls differ in `environment` only."""
    schema = json.loads(cli("schema", "diff").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    short, full, again = (
        json.loads(cli("diff", files / "a.json", files / "b.json", "-f", "json", *more).stdout)
        for more in ((), ("--all", "--sort", "case"), ())
    )
    for document in (short, full):
        jsonschema.validate(document, schema)
    assert {k: v for k, v in short.items() if k != "environment"} == {
        k: v for k, v in again.items() if k != "environment"
    }
    assert len(short["rows"][0]["moved"]) == 5
    assert [m["case"] for m in full["rows"][0]["moved"]] == [f"case_{i:03}" for i in range(12)]
    broken = {**short, "rows": [{**short["rows"][0], "verdict": "great"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_order_of_cases() -> None:
    """--sort: moved most either way, fell most, rose most, by name."""
    a = made_run({("x", DICE): [0.5, 0.5, 0.5, 0.5]})
    b = made_run({("x", DICE): [0.6, 0.1, 0.8, 0.5]})
    orders = {"delta": [1, 2, 0, 3], "worse": [1, 3, 0, 2], "better": [2, 0, 3, 1], "case": [0, 1, 2, 3]}
    for sort, order in orders.items():
        row = compared(a, b, sort=sort, every=True).rows[0]
        assert [m.case for m in row.moved] == [f"case_{i:03}" for i in order], sort
    assert [m.case for m in compared(a, b, sort="worse").rows[0].moved] == ["case_001"]
    a, b = (made_run({("x", HD): v}) for v in ([5.0, 5.0], [4.0, 7.0]))
    assert [m.case for m in compared(a, b, sort="worse", every=True).rows[0].moved] == ["case_001", "case_000"]


def test_csv_holds_full_precision() -> None:
    """One line for each row; with every case one line for each pair and for each case outside the pairs."""
    a = made_run({("x", DICE): [1 / 3, 0.5, 0.6]})
    b = made_run({("x", DICE): [2 / 3, 0.5, "pred_empty"]})
    rows = list(csv.DictReader(io.StringIO(report.difference_csv(compared(a, b)))))
    assert [float(rows[0][k]) for k in ("mean_a", "mean_b")] == [(1 / 3 + 0.5) / 2, (2 / 3 + 0.5) / 2]
    assert (rows[0]["n"], rows[0]["lone"], rows[0]["p_holm"]) == ("2", "1", "1.0")
    rows = list(csv.DictReader(io.StringIO(report.difference_csv(compared(a, b, every=True), every=True))))
    assert [(r["case"], r["b"], r["why"]) for r in rows] == [
        ("case_000", repr(2 / 3), ""), ("case_001", "0.5", ""), ("case_002", "", "pred_empty"),
    ]  # fmt: skip


def test_markdown_is_escaped() -> None:
    """A label with a pipe does not make a column."""
    run = made_run({("li|ver_*", DICE): [0.5, 0.6]})
    table = report.difference_markdown(compared(run, run), every=True)
    assert r"li\|ver\_\*" in table
    widths = {line.replace(r"\|", "").count("|") for line in table.splitlines() if line.startswith("| ")}
    assert widths == {10, 7}  # nine columns of rows, six of cases


def test_a_hundred_thousand_values_take_seconds() -> None:
    """25 000 cases with four measures each, twice."""
    rng = np.random.default_rng(0)
    ids = (DICE, "metric.iou", "metric.sensitivity", "metric.precision")
    values = rng.uniform(0.2, 0.8, (4, 25_000))
    runs = [
        made_run({("x", m): list(map(float, column + shift)) for m, column in zip(ids, values, strict=True)})
        for shift in (0.0, 0.01)
    ]
    started = time.process_time()
    found = compare_runs(Source("a", runs[0]), Source("b", runs[1]), resampling=Resampling())
    assert time.process_time() - started < 20
    assert [r.n for r in found.rows] == [25_000] * 4
    assert all(r.mean == pytest.approx(0.01) for r in found.rows)
