"""Runs that may not be compared: gate, diff and rank give the same answer, with both values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cohorts import segcli
from made_runs import Source, judge_run, made_run

from segcli.errors import InputError
from segcli.gates.rules import parse_rules
from segcli.run.diff import compare_runs
from segcli.run.rank import rank_runs
from segcli.run.summary import Resampling

DICE, LOSS = "metric.dice", "loss.dice"
Run = dict[str, Any]
FEW = Resampling(resamples=100)


def by_gate(a: Run, b: Run) -> object:
    return judge_run(parse_rules([{"measure": "dice", "max_drop": 1}], "test"), b, a)


def by_diff(a: Run, b: Run) -> object:
    return compare_runs(Source("a", a), Source("b", b), resampling=FEW)


def by_rank(a: Run, b: Run) -> object:
    return rank_runs([Source("a", a), Source("b", b)], resampling=FEW)


every_command = pytest.mark.parametrize("command", [by_gate, by_diff, by_rank])


def refusal(command: Callable[[Run, Run], object], a: Run, b: Run) -> str:
    """Return what a command says; its first name is of a, its second of b, in the order of the command."""
    with pytest.raises(InputError) as caught:
        command(a, b)
    assert caught.value.code == "run.spec"
    assert "never compared" in caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


def plain(**spec: Any) -> Run:
    return made_run({("x", DICE): [0.5, 0.6], ("x", LOSS): [0.5, 0.4]}, **spec)


@every_command
@pytest.mark.parametrize(
    ("key", "mine", "its", "said"),
    [
        ("convention", None, "medpy", ("unset", "medpy")),
        ("ignore", None, 255, ("unset", "255")),
        ("empty", "undefined", "worst", ("undefined", "worst")),
        ("threshold", 0.5, 0.3, ("0.5", "0.3")),
        ("spacing", None, [1.0, 2.0], ("unset", "[1.0, 2.0]")),
        ("geometry", "error", "ignore", ("error", "ignore")),
        ("geometry", "reorient", "ignore", ("reorient", "ignore")),
        ("soft_gt", False, True, ("false", "true")),
        ("stack", False, True, ("false", "true")),
        ("stack_axis", 0, -1, ("0", "-1")),
        ("stack_axis", None, 2, ("unset", "2")),
        ("background", True, False, ("true", "false")),
        ("average", "macro", "micro", ("macro", "micro")),
        ("batch_dice", False, True, ("false", "true")),
        ("labels", {"x": [1]}, {"x": [2]}, ("x=1", "x=2")),
        ("labels", {"x": [1]}, {"x": [1], "y": [2]}, ("x=1", "x=1,y=2")),
        ("labels", None, {"x": [2]}, ("x=1", "x=2")),
        ("labels", None, {"y": [1]}, ("x=1", "y=1")),
    ],
)
def test_another_meaning_is_refused_with_both_values(
    command: Callable[[Run, Run], object], key: str, mine: object, its: object, said: tuple[str, str]
) -> None:
    """Every option that is part of what a number means, in all three commands, whichever run has which value."""
    for values, words in (((mine, its), said), ((its, mine), said[::-1])):
        first, second = (plain(**{key: value}) for value in values)
        names = ("the baseline", "the run") if command is by_gate else ("a", "b")
        message = refusal(command, first, second)
        assert message.startswith(f"{key} is ")
        for word, name in zip(words, names, strict=True):
            assert f"{word} in {name}" in message


@every_command
def test_all_differences_are_said_in_one_line(command: Callable[[Run, Run], object]) -> None:
    """One call is enough to see what has to be made the same."""
    message = refusal(command, plain(), plain(empty="worst", ignore=0))
    assert "ignore is " in message
    assert "; empty is " in message


@every_command
@pytest.mark.parametrize(
    ("key", "mine", "its"),
    [
        ("kind", None, "labels"),
        ("prob_scale", None, 255.0),
        ("channel_axis", None, 0),
        ("normalize", False, True),
        ("squeeze", False, True),
        ("colors", None, "voc"),
        ("geometry", "error", "reorient"),
        ("missing", "fail", "skip"),
        ("missing", "fail", "worst"),
        ("labels", None, {"x": [1]}),
        ("labels", None, {"x": [1], "y": [2]}),
    ],
)
def test_how_files_were_read_is_no_definition(
    command: Callable[[Run, Run], object], key: str, mine: object, its: object
) -> None:
    """Two models may write files of another kind; words that mean the same; a label that no file has."""
    assert command(plain(**{key: mine}), plain(**{key: its}))


@every_command
def test_the_background_counts_where_losses_are(command: Callable[[Run, Run], object]) -> None:
    """It is a channel that losses average over, and in no metric."""
    a, b = plain(background=True), plain(background=False)
    for run in (a, b):
        run["spec"]["measures"] = [DICE]
    assert command(a, b)


@every_command
def test_stand_ins_for_missing_predictions_count_where_there_are_some(command: Callable[[Run, Run], object]) -> None:
    """A mean with the worst value of a missing case is another number than one without the case."""
    a, b = (made_run({("x", DICE): [0.5, 0.6, 0.7]}, missing=("case_001",), missing_policy=None) for _ in range(2))
    for run, policy in ((a, "fail"), (b, "worst")):
        run["spec"]["missing"] = policy
    assert "missing is " in refusal(command, a, b)
    a["spec"]["missing"] = "worst"
    assert command(a, b)


@every_command
def test_an_older_run_has_the_defaults(command: Callable[[Run, Run], object]) -> None:
    """A file from before an option was there was made without it, and does not compare with one made with it."""
    old = plain()
    for key in ("convention", "ignore", "spacing", "geometry"):
        del old["spec"][key]
    assert command(old, plain())
    assert "convention is " in refusal(command, old, plain(convention="monai"))
    assert "average is " in refusal(command, old, plain(average="weighted"))


@every_command
def test_a_file_of_another_tool_does_not_say(command: Callable[[Run, Run], object]) -> None:
    """What nnU-Net's summary leaves open is no contradiction; what it says is one."""
    other = plain(source="nnU-Net", labels={"x": [1]})
    for key in ("ignore", "threshold", "geometry", "spacing", "convention"):
        del other["spec"][key]
    assert command(other, plain(ignore=255, threshold=0.4))
    assert "empty is " in refusal(command, other, plain(empty="zero"))


@every_command
@pytest.mark.parametrize(
    ("key", "its"),
    [("spacing", [1.0, 2.0]), ("unit", "voxel"), ("spacing", [1.0])],
)
def test_a_case_on_another_grid_is_refused(command: Callable[[Run, Run], object], key: str, its: object) -> None:
    """Lengths depend on it; noise of a header's float32 is none."""
    a, b = plain(), plain()
    b["cases"][1]["spacing"] = [1.00000005, 1.0]
    assert command(a, b)
    b["cases"][1][key] = its
    if key == "spacing" and len(b["cases"][1]["shape"]) != len(its):  # of a plane there, of a line here
        b["cases"][1]["shape"] = [12]
    assert f"case_001: {key} is " in refusal(command, a, b)


@every_command
@pytest.mark.parametrize(
    ("mine", "its"),
    [
        ("metric.hd95:surface=surfel", "metric.hd95:surface=border"),
        ("metric.nsd:tol=1:surface=surfel", "metric.nsd:tol=2:surface=surfel"),
    ],
)
def test_other_parameters_are_refused(command: Callable[[Run, Run], object], mine: str, its: str) -> None:
    """Both names are told; where one variant is in both runs a second one is only left out."""
    a, b = (made_run({("x", DICE): [0.5], ("x", measure): [1.0]}) for measure in (mine, its))
    message = refusal(command, a, b)
    assert mine in message
    assert its in message
    both = made_run({("x", DICE): [0.5], ("x", its): [1.0], ("x", mine): [1.0]})
    assert command(a, both)


def test_every_pair_of_runs_is_looked_at() -> None:
    """A run of another tool, which does not say how it averaged, compares with both; these two not with each other."""
    a, b, c = plain(), plain(average="macro"), plain(average="micro")
    a["spec"]["source"] = "another tool"
    named = [Source(name, run) for name, run in (("a", a), ("b", b), ("c", c))]
    assert rank_runs(named[:2], resampling=FEW)
    with pytest.raises(InputError, match=r"average is macro in b and micro in c"):
        rank_runs(named, resampling=FEW)
    a["cases"], b["cases"][1]["spacing"] = a["cases"][:1], [1.0, 2.0]
    with pytest.raises(InputError, match=r"case_001: spacing is .* in b and .* in c"):
        rank_runs([Source("a", a), Source("b", b), Source("c", plain())], resampling=FEW)


def test_a_mean_over_other_labels_is_no_baseline() -> None:
    """The found labels differ: each label compares, the mean over them does not."""
    a = made_run({("1", DICE): [0.5, 0.6], ("2", DICE): [0.5, 0.6]})
    b = made_run({("1", DICE): [0.5, 0.6], ("2", DICE): [0.5, 0.6], ("3", DICE): [0.0, None]})
    one = parse_rules([{"measure": "dice", "label": "1", "max_drop": 0}], "test")
    assert judge_run(one, b, a).passed
    mean = parse_rules([{"measure": "dice", "label": "mean", "max_drop": 0}], "test")
    with pytest.raises(InputError, match="over 1, 2, 3 in the run and over 1, 2 in the baseline"):
        judge_run(mean, b, a)


@pytest.mark.parametrize(
    "words", [("gate", "b.json", "--baseline", "a.json"), ("diff", "a.json", "b.json"), ("rank", "a.json", "b.json")]
)
def test_the_commands_exit_3(tmp_path: Path, words: tuple[str, ...]) -> None:
    """One line, a hint, nothing on stdout."""
    (tmp_path / "a.json").write_text(json.dumps(plain()))
    (tmp_path / "b.json").write_text(json.dumps(plain(empty="worst")))
    done = segcli(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert lines[0].startswith("error: empty is ")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
