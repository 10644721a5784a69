"""Options given more than once: lists grow in every command, anything else is refused where it says two things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from cohorts import segcli

from segcli.cli.main import app
from segcli.cli.repeated import once
from segcli.errors import UsageError

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def parsed(command: str, *words: str) -> dict[str, Any]:
    """Return the options of a command line as the command gets them."""
    with COMMANDS[command].make_context(command, list(words)) as context:
        return dict(context.params)


LISTS = [
    (name, parameter.opts, parameter.name)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if str(parameter.metavar or "").startswith("LIST")
]
FILES = {
    "score": ["p", "g"], "inspect": ["p", "g", "-l", "dice"], "conventions": ["p", "g"], "diff": ["a", "b"],
    "rank": ["a", "b"],
}  # fmt: skip


@pytest.mark.parametrize(("command", "names", "key"), LISTS, ids=str)
def test_a_repeated_list_grows(command: str, names: list[str], key: str) -> None:
    """By each of its names, glued or apart, before and behind the files; empty parts add nothing."""
    files = FILES.get(command, [])
    long = next(name for name in names if name.startswith("--"))
    assert parsed(command, long, "a", *files, f"{long}=b,c")[key] == "a,b,c"
    assert parsed(command, *files, long, "", long, "b")[key] == "b"
    assert parsed(command, *files, long, "a")[key] == "a"
    for short in (name for name in names if not name.startswith("--")):
        assert parsed(command, *files, short, "a", f"{short}b", long, "c")[key] == "a,b,c"


def test_every_list_is_found() -> None:
    """Metrics, losses, labels, divisions and what rankings are held against, wherever they are."""
    found = {(command, key) for command, _, key in LISTS}
    for command in ("score", "compare", "evaluate", "conventions"):
        assert {(command, "metrics"), (command, "losses"), (command, "labels")} <= found
    assert {("diff", "metrics"), ("rank", "metrics"), ("compare", "rank_by"), ("inspect", "by")} <= found


SCALARS = [
    (name, parameter)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.param_type_name == "option" and not parameter.multiple and not parameter.is_flag
    if not str(parameter.metavar or "").startswith("LIST")
]


@pytest.mark.parametrize(("command", "parameter"), SCALARS, ids=lambda x: getattr(x, "name", x))
def test_any_other_option_may_not_say_two_things(command: str, parameter: Any) -> None:
    """The same value twice is one; two values are refused, and both are named."""
    name = parameter.opts[-1]
    assert once(COMMANDS[command].params, [name, "x", name, "x"]) == [f"{parameter.opts[-1]}=x"]
    with pytest.raises(UsageError, match="given twice: x and y"):
        once(COMMANDS[command].params, [name, "x", "file", name, "y"])


def test_what_is_repeatable_by_itself_stays_as_it_is() -> None:
    """`--min`, `--max`, `--sweep`, `-o`; switches; what follows `--`; an option without its value."""
    given = parsed("score", "p", "g", "--min", "dice=1", "--min", "iou=1", "-o", "a.json", "-o", "b.csv", "--stack")
    assert (given["min_"], [str(p) for p in given["output"]]) == (["dice=1", "iou=1"], ["a.json", "b.csv"])
    assert parsed("score", "--stack", "--stack", "--", "-m", "-m")["pred"] == "-m"
    assert once(COMMANDS["score"].params, ["-m", "a", "-m"]) == ["--metrics=a", "-m"]
    with pytest.raises(UsageError, match="contradict"):
        once(COMMANDS["score"].params, ["--background", "--no-background"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--surface", "border", "--surface", "mesh"], "--surface is given twice: border and mesh."),
        (["--threshold", ".3", "--threshold=.4"], "--threshold is given twice: .3 and .4."),
        (["-f", "csv", "--format", "json"], "-f is given twice: csv and json."),
        (["--labels", "a=1", "--labels", "labels.csv"], "--labels labels.csv: a file stands alone"),
        (["--color", "always", "--color", "never"], "--color is given twice: always and never."),
        (["-m", "dice", "-m"], "requires an argument"),
        (["-m", "dice", "-m", "dcie"], "unknown metric 'dcie'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    """Exit 2, before anything is read."""
    done = segcli("--isolated", "score", "none.npy", "none.npy", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_both_metrics_and_both_labels_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line; it goes before the environment as a whole, as it always did."""
    array = np.zeros((6, 6), np.uint8)
    array[1:3], array[4:] = 1, 2
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setenv("SEGCLI_METRICS", "hd95")
    call = ("-m", "dice", "-m", "iou", "--labels", "x=1", "--labels", "y=2", "-f", "csv")
    done = segcli("--isolated", "score", "a.npy", "a.npy", *call, cwd=tmp_path)
    rows = [line.split(",")[1:4] for line in done.stdout.splitlines()[1:]]
    assert rows[:4] == [[label, "metric", name] for label in "xy" for name in ("dice", "iou")]
