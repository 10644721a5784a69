"""The gate: statistics against numbers made by hand, what passes, and what never may."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from made_runs import judge_run, summaries
from runfiles import dice_run, run_of, write

from segcli.errors import InputError, UsageError
from segcli.gates.rules import parse_rules
from segcli.gates.verdicts import Judgement, Verdict
from segcli.report.gate import sentence
from segcli.run.summary import Resampling

ROOT = Path(__file__).parent.parent


def judged(run: dict[str, Any], *tables: dict[str, Any], baseline: dict[str, Any] | None = None) -> Judgement:
    return judge_run(parse_rules(tables, "test"), run, baseline)


def verdict(run: dict[str, Any], baseline: dict[str, Any] | None = None, **fields: Any) -> Verdict:
    """Return the one verdict of one rule."""
    found = [v for v in judged(run, fields, baseline=baseline).verdicts if v.measure is not None]
    assert len(found) == 1
    return found[0]


def cli(*arguments: object, given: str | None = None, cwd: Path | None = None, **environment: str) -> Any:
    """Run segcli as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=given,
        cwd=cwd,
        env={**os.environ, "GITHUB_STEP_SUMMARY": "", **environment},
        check=False,
    )


# --- statistics ---------------------------------------------------------------------------------------

#: 0.1, 0.2 ... 1.0: mean 0.55, median 0.55.
TENTHS = dice_run(**{f"c{i:02}": i / 10 for i in range(1, 11)})


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("mean", 0.55),
        ("median", 0.55),
        ("min", 0.1),
        ("max", 1.0),
        ("p50", 0.55),
        ("p0", 0.1),
        ("p100", 1.0),
        ("p25", 0.325),  # position 0.25 * 9 = 2.25: 0.3 + 0.25 * 0.1
        ("p05", 0.145),  # position 0.45: 0.1 + 0.45 * 0.1
        ("p12.5", 0.2125),  # position 1.125
        ("worst-1", 0.1),
        ("worst-3", 0.2),
        ("worst-99", 0.55),  # no more than there are
        ("count", 10),
    ],
)
def test_a_statistic_is_the_one_worked_out_by_hand(stat: str, expected: float) -> None:
    """Each statistic of ten known values, just kept and just broken on both sides."""
    found = verdict(TENTHS, measure="dice", stat=stat, min=expected)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.status == "passed"
    assert verdict(TENTHS, measure="dice", stat=stat, max=expected).status == "passed"
    assert verdict(TENTHS, measure="dice", stat=stat, min=expected + 1e-6).status == "failed"
    assert verdict(TENTHS, measure="dice", stat=stat, max=expected - 1e-6).status == "failed"


@pytest.mark.parametrize(
    ("measure", "values", "expected"),
    [
        ("dice", [0.2, 0.9, 0.4], 0.3),  # the lowest two
        ("hd95:surface=surfel", [2.0, 9.0, 4.0], 6.5),  # the highest two
        ("rve", [-0.6, 0.2, 0.4], 0.5),  # the largest two sizes
        ("loss.bce", [0.2, 0.9, 0.4], 0.65),
    ],
)
def test_the_worst_cases_follow_the_direction_of_the_measure(
    measure: str, values: list[float], expected: float
) -> None:
    """`worst-2` is of low Dice, of long distances, of large volume errors of either sign."""
    run = run_of({f"c{i}": {"organ": {measure: v}} for i, v in enumerate(values)})
    found = verdict(run, measure=measure, stat="worst-2", max=1000)
    assert found.value == pytest.approx(expected)
    assert found.cases[0].value == (max(values, key=abs) if measure != "dice" else min(values))


def test_pooled_sums_the_counts_of_all_cases() -> None:
    """With tp 10 + 30, fp 10 + 0, fn 10 + 10: 2*40 / (80 + 10 + 20) = 8/11, while the mean is (0.5 + 6/7) / 2."""
    run = run_of(
        {"a": {"organ": {"dice": 0.5}}, "b": {"organ": {"dice": 6 / 7}}},
        counts={"a": {"organ": (10, 10, 10, 70)}, "b": {"organ": (30, 0, 10, 60)}},
    )
    assert verdict(run, measure="dice", stat="pooled", min=0.7).value == pytest.approx(8 / 11)
    assert verdict(run, measure="dice", stat="mean", min=0.6).value == pytest.approx((0.5 + 6 / 7) / 2)
    assert verdict(run, measure="dice", stat="pooled", min=0.1, where={"case": "a"}).value == pytest.approx(0.5)


def test_what_has_no_pooled_value_cannot_be_asked_for_it() -> None:
    """A distance, a loss and a measure over classes are no measures of counts."""
    run = run_of({"a": {"organ": {"hd95:surface=surfel": 1.0, "loss.bce": 0.1}}}, counts={"a": {"organ": (1, 1, 1, 1)}})
    for measure in ("hd95", "loss.bce"):
        with pytest.raises(UsageError, match="no pooled value"):
            verdict(run, measure=measure, stat="pooled", max=1)


def test_the_ends_of_the_interval_are_those_of_the_summary() -> None:
    """`ci_low` and `ci_high` are the run's own; with `where` or another level they are made again."""
    rng = np.random.default_rng(3)
    values = {f"c{i:02}": {"organ": {"dice": float(v)}} for i, v in enumerate(rng.uniform(0.5, 1, 30))}
    groups = {f"c{i:02}": {"site": "AB"[i % 2]} for i in range(30)}
    run = run_of(values, groups=groups)
    run["summary"] = summaries(run["cases"], Resampling())
    low, high = run["summary"][0]["ci"]
    assert verdict(run, measure="dice", stat="ci_low", min=0).value == low
    assert verdict(run, measure="dice", stat="ci_high", min=0).value == high
    without = verdict({**run, "summary": []}, measure="dice", stat="ci_low", min=0)
    assert without.value == low
    assert verdict(run, measure="dice", stat="ci_low", min=0, confidence=0.8).value > low
    own = [c for c in run["cases"] if c["group"]["site"] == "A"]
    mean = sum(c["values"][0]["value"] for c in own) / len(own)
    part = [verdict(run, measure="dice", stat=s, min=0, where={"site": "A"}).value for s in ("ci_low", "ci_high")]
    assert part[0] < mean < part[1]
    assert verdict(dice_run(a=0.5), measure="dice", stat="ci_low", min=0).status == "failed"


def test_the_mean_row_is_over_plain_labels_of_each_case_then_over_cases() -> None:
    """Case a: (0.4 + 0.8) / 2, case b: 0.9 alone (the other label is in neither mask); regions do not count."""
    run = run_of(
        {
            "a": {"liver": {"dice": 0.4}, "tumour": {"dice": 0.8}, "whole": {"dice": 0.1}},
            "b": {"liver": {"dice": 0.9}, "tumour": {"dice": "both_empty"}, "whole": {"dice": 0.1}},
        },
        regions={"whole": [1, 2]},
    )
    found = verdict(run, measure="dice", label="mean", min=0.7)
    assert found.value == pytest.approx(0.75)
    run["summary"] = summaries(run["cases"], Resampling())
    assert next(s["mean"] for s in run["summary"] if s["label"] == "mean") == found.value
    labels = [v.label for v in judged(run, {"measure": "dice", "min": 0}).verdicts if v.measure]
    assert labels == ["liver", "tumour", "whole"]


def test_where_picks_cases_by_group_and_by_name() -> None:
    """Globs on a column and on the case, both at once; no match is no pass."""
    groups = {"a1": {"site": "A"}, "a2": {"site": "A"}, "b1": {"site": "B"}}
    run = run_of({c: {"organ": {"dice": v}} for c, v in (("a1", 0.1), ("a2", 0.5), ("b1", 0.9))}, groups=groups)
    for where, expected in (({"site": "A"}, 0.3), ({"case": "*1"}, 0.5), ({"site": "A", "case": "*1"}, 0.1)):
        assert verdict(run, measure="dice", min=0, where=where).value == pytest.approx(expected)
    nothing = verdict(run, measure="dice", min=0, where={"site": "C*"})
    assert (nothing.status, nothing.value) == ("failed", None)
    assert "no case matches" in sentence(nothing)
    with pytest.raises(UsageError, match="no column 'sit'") as problem:
        verdict(run, measure="dice", min=0, where={"sit": "A"})
    assert "site" in problem.value.hint


def test_equal_values_meet_their_limit_in_spite_of_rounding() -> None:
    """The mean of three times 0.9 is 0.9, and a drop from 0.8 to 0.79 is 0.01."""
    assert verdict(dice_run(a=0.1, b=0.2, c=0.6), measure="dice", min=0.3).status == "passed"
    drop = verdict(dice_run(a=0.79), dice_run(a=0.8), measure="dice", max_drop=0.01)
    assert drop.change.drop > 0.01  # by rounding alone
    assert drop.status == "passed"


# --- undefined values -------------------------------------------------------------------------------------


def test_an_undefined_value_fails_unless_the_rule_says_otherwise() -> None:
    """A distance to an empty prediction: fail, the diagonal of the image, or left out and said."""
    run = run_of({c: {"organ": {"hd95:surface=surfel": v}} for c, v in (("a", 2.0), ("b", "pred_empty"))})
    failed = verdict(run, measure="hd95", max=1000)
    assert (failed.status, failed.value, failed.undefined) == ("failed", None, 1)
    assert "b" in sentence(failed)
    assert "pred empty" in sentence(failed)
    worst = verdict(run, measure="hd95", max=1000, on_undefined="worst")
    assert worst.value == pytest.approx((2 + math.sqrt(30**2 + 40**2 + 50**2)) / 2)
    skipped = verdict(run, measure="hd95", max=2, on_undefined="skip")
    assert (skipped.status, skipped.value) == ("passed", 2.0)
    assert "1 undefined left out" in sentence(skipped)


def test_a_label_in_neither_mask_counts_for_nothing_and_is_said() -> None:
    """Both empty is no evidence: not 0, not 1, not the worst; a rule over nothing else fails."""
    run = dice_run(a=0.8, b="both_empty")
    for on_undefined in ("fail", "worst", "skip"):
        found = verdict(run, measure="dice", min=0.8, on_undefined=on_undefined)
        assert (found.status, found.value, found.n, found.nothing) == ("passed", 0.8, 1, 1)
        assert "1 in neither mask" in sentence(found)
    alone = dice_run(b="both_empty")
    assert verdict(alone, measure="dice", min=0).status == "failed"
    assert verdict(alone, measure="dice", max=1).status == "failed"
    assert verdict(alone, measure="dice", stat="count", min=1).status == "failed"


def test_only_undefined_values_are_skipped_aloud() -> None:
    """With `skip` a rule over undefined values alone is a skip, which is printed and fails nothing."""
    found = verdict(dice_run(a="zero_denominator"), measure="dice", min=0.5, on_undefined="skip")
    assert found.status == "skipped"
    assert "0/0" in sentence(found)


def test_an_error_around_zero_has_no_worst_value() -> None:
    """Of a relative volume error no value stands for a miss: `worst` fails there."""
    run = run_of({"a": {"organ": {"rve": "gt_empty"}}, "b": {"organ": {"rve": 0.1}}})
    assert verdict(run, measure="rve", max=1e9, on_undefined="worst").status == "failed"


def test_the_mean_row_does_not_hide_a_missed_label() -> None:
    """A case whose tumour was missed has no distance there; the mean over the other labels is no pass."""
    run = run_of({"a": {"liver": {"hd95:surface=surfel": 1.0}, "tumour": {"hd95:surface=surfel": "pred_empty"}}})
    assert verdict(run, measure="hd95", label="mean", max=5).status == "failed"
    assert verdict(run, measure="hd95", label="mean", max=5, on_undefined="skip").value == 1.0
    diagonal = math.sqrt(30**2 + 40**2 + 50**2)
    worst = verdict(run, measure="hd95", label="mean", max=5, on_undefined="worst")
    assert worst.value == pytest.approx((1 + diagonal) / 2)


# --- beside a baseline -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "before", "after", "worse"),
    [
        ("dice", 0.8, 0.7, True),
        ("dice", 0.7, 0.8, False),
        ("hd95:surface=surfel", 2.0, 2.1, True),
        ("hd95:surface=surfel", 2.1, 2.0, False),
        ("rve", 0.1, -0.2, True),  # smaller number, larger error
        ("rve", -0.2, 0.1, False),  # larger number, smaller error
        ("loss.bce", 0.5, 0.6, True),
        ("loss.bce", 0.6, 0.5, False),
    ],
)
def test_a_drop_is_a_change_for_the_worse(measure: str, before: float, after: float, worse: bool) -> None:
    """Direction by measure: up, down and towards zero."""
    runs = [run_of({c: {"organ": {measure: v}} for c in "abc"}) for v in (after, before)]
    found = verdict(runs[0], runs[1], measure=measure, max_drop=0.05)
    assert (found.status == "failed") == worse
    assert found.change.drop == pytest.approx(abs(abs(after) - abs(before)) * (1 if worse else -1))
    assert found.change.pairs == 3
    assert bool(found.cases) == worse


def test_a_relative_drop_is_a_share_of_the_baselines_value() -> None:
    """2% of 0.5 is 0.01."""
    assert verdict(dice_run(a=0.4901), dice_run(a=0.5), measure="dice", max_drop="2%").status == "passed"
    found = verdict(dice_run(a=0.4899), dice_run(a=0.5), measure="dice", max_drop="2%")
    assert found.status == "failed"
    assert found.change.allowed == pytest.approx(0.01)
    assert "= 2%" in sentence(found)


@pytest.mark.parametrize(("measure", "sign"), [("dice", -1), ("hd95:surface=surfel", 1), ("rve", 1)])
def test_with_confidence_only_what_cannot_be_chance_fails(measure: str, sign: int) -> None:
    """The same mean change: alike in all cases it fails, all over the place it does not."""
    steps = {"sure": [0.05, 0.06, 0.04, 0.05] * 5, "chance": [0.9, -0.8, 0.9, -0.8] * 5}
    for name, moved in steps.items():
        before = run_of({f"c{i:02}": {"organ": {measure: 2.0}} for i in range(20)})
        after = run_of({f"c{i:02}": {"organ": {measure: 2.0 + sign * s}} for i, s in enumerate(moved)})
        rule = {"measure": measure, "max_drop": 0.02}
        assert verdict(after, before, **rule).status == "failed"
        found = verdict(after, before, **rule, confidence=0.95)
        assert found.status == ("failed" if name == "sure" else "passed")
        low, high = found.change.interval.low, found.change.interval.high
        assert low < sign * 0.05 < high  # the interval is of value - baseline, whatever is better
        assert found.change.p is not None


def test_only_cases_that_both_runs_have_are_compared() -> None:
    """A new and a lost case are said and in no difference, whatever their values."""
    before, after = dice_run(a=0.8, b=0.6, lost=0.0), dice_run(a=0.8, b=0.6, new=0.0)
    found = judged(after, {"measure": "dice", "max_drop": 0}, baseline=before)
    assert found.passed
    assert (found.new, found.lost) == (("new",), ("lost",))
    assert found.verdicts[-1].change.pairs == 2
    nothing = verdict(dice_run(a=0.5), dice_run(b=0.5), measure="dice", max_drop=1)
    assert nothing.status == "failed"


def test_percentiles_and_pooled_values_can_drop_too() -> None:
    """The lowest case falls from 0.1 to 0.05; pooled Dice from 6/8 to 2/8."""
    assert (
        verdict(dice_run(a=0.05, b=0.9), dice_run(a=0.1, b=0.9), measure="dice", stat="min", max_drop=0.04).status
        == "failed"
    )
    runs = [
        run_of({"a": {"organ": {"dice": 0.5}}}, counts={"a": {"organ": own}}) for own in ((1, 3, 3, 9), (3, 1, 1, 9))
    ]
    found = verdict(*runs, measure="dice", stat="pooled", max_drop=0.4)  # 2/8 and 6/8
    assert (found.value, found.change.baseline, found.status) == (0.25, 0.75, "failed")


def test_a_case_that_became_undefined_fails_and_is_no_missing_pair() -> None:
    """A distance that the baseline had and an empty prediction has not."""
    before = run_of({c: {"organ": {"hd95:surface=surfel": 2.0}} for c in "ab"})
    after = run_of({c: {"organ": {"hd95:surface=surfel": v}} for c, v in (("a", 2.0), ("b", "pred_empty"))})
    assert verdict(after, before, measure="hd95", max_drop=100).status == "failed"
    worst = verdict(after, before, measure="hd95", max_drop=30, on_undefined="worst")
    assert worst.status == "failed"
    assert worst.change.pairs == 2
    skipped = verdict(after, before, measure="hd95", max_drop=0, on_undefined="skip")
    assert (skipped.status, skipped.change.pairs) == ("passed", 1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"threshold": 0.4}, ["threshold", "0.5", "0.4"]),
        ({"labels": {"liver": [1]}}, ["labels", "organ=1", "liver=1"]),
        ({"empty": "worst"}, ["empty", "undefined", "worst"]),
        ({"spacing": [1.0, 1.0, 2.0]}, ["spacing", "2.0"]),
        ({"ignore": 255}, ["ignore", "255"]),
        ({"average": "micro"}, ["average", "macro", "micro"]),
        ({"measures": ["metric.hd95:surface=border"]}, ["hd95:surface=surfel", "hd95:surface=border"]),
        ({"measures": ["metric.iou"]}, ["metric.hd95"]),
    ],
)
def test_a_baseline_of_another_definition_is_refused_with_both_values(spec: dict[str, Any], words: list[str]) -> None:
    """Numbers of different definitions are never compared."""
    run = run_of({"a": {"organ": {"hd95:surface=surfel": 2.0}}})
    other = run_of({"a": {"organ": {"hd95:surface=surfel": 2.0}}}, spec=spec)
    if "measures" in spec:
        other["cases"][0]["values"][0]["measure"] = spec["measures"][0].removeprefix("metric.")
    with pytest.raises(InputError) as problem:
        verdict(run, other, measure="hd95", max_drop=1)
    assert all(word in problem.value.message for word in words), problem.value.message


def test_an_option_that_an_older_run_does_not_know_is_its_default() -> None:
    """A run file from before an option was there compares with one that has it unset."""
    old, new = dice_run(a=0.5), dice_run(a=0.5)
    new["spec"] |= {"batch_dice": False, "average": "macro", "colors": None}
    assert judged(new, {"measure": "dice", "max_drop": 0}, baseline=old).passed


def test_a_changed_ground_truth_and_another_unit_are_noticed() -> None:
    """Another file is said; mm beside voxels is refused."""
    before, after = dice_run(a=0.5), dice_run(a=0.5)
    before["cases"][0]["gt"]["sha256"], after["cases"][0]["gt"]["sha256"] = "1" * 64, "2" * 64
    assert judged(after, baseline=before).changed_truth == ("a",)
    runs = [run_of({"a": {"organ": {"hd95:surface=surfel": 2.0}}}) for _ in range(2)]
    runs[1]["cases"][0]["values"][0]["unit"] = "voxel"
    with pytest.raises(InputError, match="in mm in the run and in voxel in the baseline"):
        verdict(*runs, measure="hd95", max_drop=1)


# --- which measure, which label, which rule ----------------------------------------------------------------------


def test_a_rule_means_the_runs_variant_of_a_measure() -> None:
    """Parameters that a rule does not name are the run's; where several fit the rule must say which."""
    run = run_of({"a": {"organ": {"hd95:surface=border": 2.0, "nsd:tol=1:surface=surfel": 0.5}}})
    assert verdict(run, measure="hd95", max=2).measure.name == "hd95:surface=border"
    assert verdict(run, measure="nsd:tol=1", min=0.5).status == "passed"
    for measure, word in (("hd95:surface=surfel", "hd95:surface=border"), ("nsd:tol=2", "nsd:tol=1"), ("iou", "hd95")):
        with pytest.raises(UsageError, match="the run has no") as problem:
            verdict(run, measure=measure, max=2)
        assert word in problem.value.hint
        assert problem.value.hint.startswith("there are: " if measure == "iou" else "it has ")
    both = run_of({"a": {"organ": {"nsd:tol=1:surface=surfel": 0.5, "nsd:tol=3:surface=surfel": 0.7}}})
    with pytest.raises(UsageError, match="several of nsd"):
        verdict(both, measure="nsd:surface=surfel", min=0.1)


def test_a_label_can_be_named_by_its_value() -> None:
    """`label = 2` and a binary run's `1`; an unknown one gets a suggestion."""
    run = run_of({"a": {"liver": {"dice": 0.5}, "tumour": {"dice": 0.7}}})
    assert verdict(run, measure="dice", label=2, min=0).label == "tumour"
    with pytest.raises(UsageError, match="no label tumor") as problem:
        verdict(run, measure="dice", label="tumor", min=0)
    assert "tumour" in problem.value.hint
    binary = run_of({"a": {"foreground": {"dice": 0.5}}})
    binary["cases"][0]["labels"] = {"foreground": "any"}
    assert verdict(binary, measure="dice", label="1", min=0).label == "foreground"
    wide = run_of({"a": {"organ": {"dice": 0.5}, "all": {"mean_iou": 0.4}}})
    assert verdict(wide, measure="mean_iou", min=0).label == "all"
    with pytest.raises(UsageError, match="no label all"):
        verdict(wide, measure="dice", label="all", min=0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"measure": "dcie", "min": 0}, ["dcie", "dice"]),
        ({"measure": "dice", "mni": 0}, ["mni", "min"]),
        ({"measure": "dice"}, ["limits nothing"]),
        ({"min": 0}, ["names no measure"]),
        ({"measure": "dice", "min": 0, "stat": "meen"}, ["meen", "mean"]),
        ({"measure": "dice", "min": 0, "stat": "p101"}, ["p101"]),
        ({"measure": "dice", "min": 0, "stat": "worst-0"}, ["worst-0"]),
        ({"measure": "dice", "min": "0.5"}, ["min", "'0.5'"]),
        ({"measure": "dice", "min": True}, ["min", "True"]),
        ({"measure": "dice", "min": float("nan")}, ["min", "nan"]),
        ({"measure": "dice", "min": 0.5, "max": 0.4}, ["above"]),
        ({"measure": "dice", "max_drop": -0.1}, ["max_drop", "-0.1"]),
        ({"measure": "dice", "max_drop": "two"}, ["max_drop", "two"]),
        ({"measure": "dice", "max_drop": True}, ["max_drop"]),
        ({"measure": "dice", "max_drop": 0.1, "min": 0.5}, ["two rules"]),
        ({"measure": "dice", "max_drop": 0.1, "stat": "count"}, ["count"]),
        ({"measure": "voxels_gt", "max_drop": 1}, ["no direction"]),
        ({"measure": "voxels_gt", "max": 1, "stat": "worst-3"}, ["no direction"]),
        ({"measure": "dice", "min": 0, "confidence": 0.95}, ["confidence"]),
        ({"measure": "dice", "max_drop": 0, "confidence": 95}, ["confidence", "95"]),
        ({"measure": "dice", "min": 0, "level": "warning"}, ["level", "warn"]),
        ({"measure": "dice", "min": 0, "on_undefined": "ignore"}, ["on_undefined", "skip"]),
        ({"measure": "dice", "min": 0, "where": "site"}, ["where"]),
        ({"measure": "dice", "min": 0, "where": {"site": 3}}, ["site", "3"]),
        ({"measure": "dice", "min": 0, "label": True}, ["label"]),
        ({"id": "no-missing", "level": "warn", "min": 3}, ["always on"]),
        ({"id": "no-errors", "level": "off"}, ["level", "off"]),
        ({"id": 3, "measure": "dice", "min": 0}, ["id"]),
        ({"measure": "hd95", "stat": "pooled", "max": 1, "on_undefined": "worst"}, ["pooled"]),
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_is_told(fields: dict[str, Any], words: list[str]) -> None:
    """One clear line that names the rule, the value and what is known."""
    with pytest.raises(UsageError) as problem:
        parse_rules([fields], "rules.toml")
    told = f"{problem.value.message} {problem.value.hint}"
    assert "rules.toml: gate" in told
    assert all(word in told for word in words), told


def test_channels_of_losses_and_unknown_measures_are_no_rows() -> None:
    """The background has losses and is no label: a rule reaches it by name only. What is not known is no obstacle."""
    run = run_of({"a": {"organ": {"loss.bce": 0.2}, "background": {"loss.bce": 0.9}}})
    del run["cases"][0]["labels"]["background"]
    run["spec"]["measures"] += ["metric.of_tomorrow", "table.confusion"]
    assert verdict(run, measure="loss.bce", max=0.5).label == "organ"
    assert verdict(run, measure="loss.bce", label="background", max=0.5).status == "failed"


def test_two_rules_of_one_name_are_one_too_many() -> None:
    """An id says which rule failed: it is there once."""
    with pytest.raises(UsageError, match="two rules"):
        parse_rules([{"id": "x", "measure": "dice", "min": 0}, {"id": "x", "measure": "iou", "min": 0}], "f")


def test_missing_and_failed_cases_fail_by_themselves() -> None:
    """The two rules that are always on, and their level; a run without cases passes nothing."""
    run = run_of({"a": {"organ": {"dice": 1.0}}}, missing=["b"], errors=["c"])
    found = judged(run)
    assert [v.status for v in found.verdicts] == ["failed", "failed"]
    assert "1 gt without a prediction (allowed 0): b" in sentence(found.verdicts[0])
    lenient = judged(run, {"id": "no-missing", "level": "warn"}, {"id": "no-errors", "level": "warn"})
    assert [v.status for v in lenient.verdicts] == ["warned", "warned"]
    assert lenient.passed
    assert not judged(run_of({})).passed


# --- real processes ---------------------------------------------------------------------------------------------

RULES = """
[[gate]]
id = "organ"
measure = "dice"
min = 0.7

[[gate]]
id = "organ-not-worse"
measure = "dice"
max_drop = 0.01
level = "warn"
"""


def test_every_exit_code_of_the_gate(tmp_path: Path) -> None:
    """0 passed, 0 with warnings, 1 failed, 2 rules that cannot be, 3 files that cannot be used."""
    good, bad = write(tmp_path / "good.json", dice_run(a=0.8, b=0.9)), write(tmp_path / "bad.json", dice_run(a=0.1))
    other = write(tmp_path / "other.json", run_of({"a": {"organ": {"dice": 0.8}}}, spec={"threshold": 0.9}))
    newer = write(tmp_path / "newer.json", {**dice_run(a=1.0), "schema": "segcli.run/2"})
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "broken.toml").write_text("[[gate]\n")
    rules = ("--rules", tmp_path / "rules.toml")
    for arguments, code, words in (
        ((good, "--min", "dice=0.8"), 0, ["ok", "3 passed"]),
        ((good, "--min", "dice=0.86"), 1, ["FAIL", "0.850 < 0.86", "1 failed, 2 passed"]),
        ((bad, *rules, "--baseline", bad), 1, ["FAIL  organ "]),
        ((good, *rules, "--baseline", good), 0, ["ok"]),
        ((good, *rules), 2, ["organ-not-worse", "baseline"]),
        ((good, "--min", "dcie=1"), 2, ["dcie", "dice"]),
        ((good, "--min", "iou=1"), 2, ["iou"]),
        ((good, "--min", "liver/dice=1"), 2, ["liver", "organ"]),
        ((good, "--rules", tmp_path / "broken.toml"), 2, ["broken.toml"]),
        ((good, "--rules", tmp_path / "none.toml"), 2, ["none.toml"]),
        ((good, *rules, "--baseline", other), 3, ["threshold", "0.5", "0.9"]),
        ((newer,), 3, ["segcli.run/2", "upgrade"]),
        ((tmp_path / "none.json",), 3, ["none.json"]),
        ((tmp_path / "rules.toml",), 3, ["rules.toml", "JSON"]),
        ((tmp_path,), 3, ["folder"]),
        ((good, "--baseline", newer), 3, ["newer.json"]),
    ):
        done = cli("gate", *arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert all(word in done.stdout + done.stderr for word in words), (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == (code in (0, 1))
    warned = cli("gate", bad, "--baseline", good, *rules, "--min", "dice=0.05")
    assert warned.returncode == 1
    (tmp_path / "lenient.toml").write_text(RULES.replace("0.7", "0.05"))
    warned = cli("gate", bad, "--baseline", good, "--rules", tmp_path / "lenient.toml")
    assert (warned.returncode, "1 warning, 3 passed" in warned.stdout) == (0, True), warned.stdout
    assert "biggest drops: a -0.700" in warned.stdout


def test_the_run_of_one_score_is_gated_from_stdin() -> None:
    """`segcli score ... -f json | segcli gate -`: the run has one case, its mean row is `score`'s."""
    pair = ROOT / "sample_masks" / "abdomen_pred.nii.gz", ROOT / "sample_masks" / "abdomen_gt.nii.gz"
    written = cli("score", *pair, "-m", "dice", "-f", "json").stdout
    run = json.loads(written)
    mean = next(s["mean"] for s in run["summary"] if s["label"] == "mean")
    done = cli("gate", "-", "--min", f"mean/dice={mean}", "--min", "dice=0.5", "-f", "json", given=written)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert found["verdicts"][2]["value"] == mean
    assert {v["label"] for v in found["verdicts"][3:]} == set(run["cases"][0]["labels"])
    assert cli("gate", "-", "--min", f"mean/dice={mean + 1e-6}", given=written).returncode == 1
    weighted = cli("score", *pair, "-m", "dice", "--average", "weighted", "-f", "json").stdout
    told = next(s["mean"] for s in json.loads(weighted)["summary"] if s["label"] == "mean")
    assert told != mean
    done = cli("gate", "-", "--min", f"mean/dice={told}", "-f", "json", given=weighted)
    assert json.loads(done.stdout)["verdicts"][2]["value"] == told
    assert cli("gate", "-", given="").returncode == 3
    assert cli("gate", "-", "--baseline", "-", given=written).returncode == 2


def test_the_json_of_the_gate_follows_its_schema(tmp_path: Path) -> None:
    """Every kind of verdict validates against `segcli schema gate`, and is the same twice but for the environment."""
    schema = json.loads(cli("schema", "gate").stdout)
    values = {"a": {"dice": 0.7, "hd95:surface=surfel": "pred_empty"}, "b": {"dice": 0.9, "hd95:surface=surfel": 2.0}}
    run = run_of({case: {"organ": {**own, "rve": 0.1}} for case, own in values.items()}, missing=["m"], errors=["e"])
    now, then = write(tmp_path / "now.json", run), write(tmp_path / "then.json", dice_run(a=0.9, b=0.9, c=0.1))
    arguments = (now, "--baseline", then, "--max", "hd95=3", "--max", "rve=1", "--rules", tmp_path / "rules.toml")
    (tmp_path / "rules.toml").write_text(RULES)
    documents = [json.loads(cli("gate", *arguments, "-f", "json").stdout) for _ in range(2)]
    jsonschema.validate(documents[0], schema)
    assert [d.pop("environment") for d in documents]
    assert documents[0] == documents[1]
    assert not documents[0]["passed"]
    assert documents[0]["counts"]["warned"] == 1
    broken = json.loads(json.dumps(documents[0]))
    broken["environment"] = {}
    next(v for v in broken["verdicts"] if v["status"] == "passed")["value"] = None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_a_run_of_100_000_values_is_gated_in_seconds(tmp_path: Path) -> None:
    """12 500 cases with 8 values, beside a baseline of the same size, eight rules."""
    rng = np.random.default_rng(0)
    measures = ("dice", "iou", "hd95:surface=surfel", "rve")

    def made() -> dict[str, Any]:
        return run_of(
            {
                f"case_{i:05}": {x: {m: float(v) for m, v in zip(measures, rng.random(4), strict=True)} for x in "ab"}
                for i in range(12_500)
            }
        )

    now, then = write(tmp_path / "now.json", made()), write(tmp_path / "then.json", made())
    (tmp_path / "rules.toml").write_text(
        "\n".join(
            f'[[gate]]\nmeasure = "{m}"\nmax_drop = 0.5\n[[gate]]\nmeasure = "{m}"\nstat = "p95"\nmax = 2'
            for m in measures
        )
    )
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = cli("gate", now, "--baseline", then, "--rules", tmp_path / "rules.toml", "-f", "json")
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["verdicts"]) == 18
    assert took < 20


def test_a_sentence_tells_a_value_from_the_limit_it_misses() -> None:
    """0.94996 beside 0.95 is not printed as 0.950 < 0.95."""
    shown = sentence(verdict(dice_run(a=0.94996), measure="dice", min=0.95))
    assert re.search(r"0\.94996? < 0\.95", shown), shown


def test_the_table_reads_as_documented(tmp_path: Path) -> None:
    """Failures first, each with statistic, limit and the paired interval; the last line has the biggest drops."""
    before = run_of({f"c{i:02}": {"tumour": {"dice": 0.702}} for i in range(8)})
    after = run_of({f"c{i:02}": {"tumour": {"dice": 0.702 - 0.01 * i}} for i in range(8)})
    (tmp_path / "rules.toml").write_text(
        '[[gate]]\nid = "tumour-not-worse"\nmeasure = "dice"\nmax_drop = 0.01\nconfidence = 0.95\n'
    )
    write(tmp_path / "run.json", after)
    write(tmp_path / "main.json", before)
    done = cli("gate", "run.json", "--baseline", "main.json", "--rules", "rules.toml", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert re.match(
        r" FAIL  tumour-not-worse   tumour dice mean 0\.667 vs 0\.702 "
        r"\(-0\.035, paired 95% CI \[-0\.\d+,-0\.\d+\], allowed -0\.010\) \(8 cases\)$",
        lines[0],
    ), lines[0]
    assert lines[-1] == (
        " 1 failed, 2 passed; biggest drops: c07 -0.070, c06 -0.060, c05 -0.050 (segcli diff main.json run.json)"
    )
