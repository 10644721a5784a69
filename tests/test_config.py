"""Configuration: where it is found, what goes before what, and what is refused; shell completion."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from runfiles import dice_run, write

from segcli.cli.configured import FOUND_MAY_SET, OF_THE_CALL, options_of
from segcli.cli.main import app
from segcli.cli.main import run as run_here
from segcli.config import Option, as_typed, find_config, load_config
from segcli.errors import UsageError

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SEGCLI_")}


def cli(*arguments: object, cwd: Path, **environment: str) -> Any:
    """Run segcli as a process of its own in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env={**CLEAN, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder to work in, without any variable of segcli."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(CLEAN):
        monkeypatch.delenv(name)
    return tmp_path


# --- where it is ---------------------------------------------------------------------------------------


def test_the_nearest_file_upwards_is_the_one(here: Path) -> None:
    """`segcli.toml` goes before the `pyproject.toml` beside it; one without our table is passed over."""
    inner = here / "a" / "b"
    inner.mkdir(parents=True)
    assert find_config(inner) is None
    (here / "pyproject.toml").write_text('[tool.segcli]\nmetrics = "dice"\n')
    assert find_config(inner) == here / "pyproject.toml"
    (here / "a" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_config(inner) == here / "pyproject.toml"
    (here / "segcli.toml").write_text("")
    assert find_config(inner) == here / "segcli.toml"
    (here / "a" / "pyproject.toml").write_text("[tool.segcli]\n")
    assert find_config(inner) == here / "a" / "pyproject.toml"
    (inner / "segcli.toml").write_text("")
    assert find_config(inner) == inner / "segcli.toml"


def test_config_names_a_file_and_isolated_none(here: Path) -> None:
    """Both stand before or behind the command; together they are a contradiction."""
    (here / "segcli.toml").write_text('format = "json"\n')
    (here / "other.toml").write_text('format = "md"\n')
    (here / "pyproject.toml").write_text('[tool.segcli]\nformat = "md"\n')
    assert cli("catalog", "dice", cwd=here).stdout.startswith("[")
    for arguments in (("--isolated", "catalog"), ("catalog", "--isolated")):
        assert cli(*arguments, cwd=here).stdout == cli("catalog", cwd=here, SEGCLI_ISOLATED="1").stdout
        assert not cli(*arguments, cwd=here).stdout.startswith(("[", "|"))
    for file in ("other.toml", "pyproject.toml"):
        assert cli("--config", file, "catalog", cwd=here).stdout.startswith("|")
        assert cli("catalog", f"--config={file}", cwd=here).stdout.startswith("|")
        assert cli("catalog", cwd=here, SEGCLI_CONFIG=file).stdout.startswith("|")
    assert cli("--config", "none.toml", "catalog", cwd=here).returncode == 2
    both = cli("--isolated", "--config", "other.toml", "catalog", cwd=here)
    assert (both.returncode, "--isolated" in both.stderr) == (2, True)


# --- what goes before what --------------------------------------------------------------------------------


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)), ids=str)
def test_command_line_goes_before_environment_before_file_before_default(
    here: Path, given: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All eight combinations of a repeatable option, of a text and of a choice, on one run."""
    typed, variable, filed = given
    write(here / "run.json", dice_run(a=0.5))
    arguments = ["gate", "run.json"]
    if typed:
        arguments += ["--min", "dice=0.11", "--format", "json"]
    if variable:
        monkeypatch.setenv("SEGCLI_MIN", "dice=0.22")
        monkeypatch.setenv("SEGCLI_FORMAT", "md")
    if filed:
        (here / "segcli.toml").write_text('min = ["dice=0.33"]\nformat = "junit"\n')
    assert run_here(arguments) == 0
    told = capsys.readouterr().out
    rule = "0.11" if typed else "0.22" if variable else "0.33" if filed else None
    start = "{" if typed else "###" if variable else "<?xml" if filed else " ok"
    assert told.startswith(start)
    for text in ("0.11", "0.22", "0.33"):
        assert (f"dice={text}" in told) == (text == rule)


def test_the_options_of_score_come_from_the_file(here: Path) -> None:
    """Lists, a table of labels with a region, numbers, a switch, keys with - and with _; the command line wins."""
    rng = np.random.default_rng(0)
    for name in ("pred", "gt"):
        np.save(here / f"{name}.npy", rng.integers(0, 3, (12, 12)).astype(np.uint8))
    (here / "segcli.toml").write_text(
        'metrics = ["dice", "nsd:tol=3"]\nlosses = "bce"\nspacing = [0.5, 2]\nignore-label = 7\n'
        'empty = "worst"\nsurface = "border"\nbackground = false\nlabels = { liver = 1, whole = [1, 2] }\n'
        'rank_by = "dice"\nloss = "focal"\nformat = "json"\n'
    )
    spec = json.loads(cli("score", "pred.npy", "gt.npy", cwd=here).stdout)["spec"]
    assert spec["measures"] == ["metric.dice", "metric.nsd:tol=3:surface=border", "loss.bce"]
    assert spec["labels"] == {"liver": [1], "whole": [1, 2]}
    assert (spec["spacing"], spec["ignore"], spec["empty"], spec["background"]) == ([0.5, 2.0], 7, "worst", False)
    arguments = ("score", "pred.npy", "gt.npy", "-m", "iou", "--labels", "x=2", "--background", "--spacing", "1,1")
    spec = json.loads(cli(*arguments, cwd=here).stdout)["spec"]
    assert spec["measures"][:1] == ["metric.iou"]
    assert (spec["labels"], spec["background"], spec["spacing"]) == ({"x": [2]}, True, [1.0, 1.0])
    inspected = cli("inspect", "pred.npy", "gt.npy", cwd=here)  # --loss is a required option: the file has it
    assert json.loads(inspected.stdout)["loss"].startswith("focal"), inspected.stderr
    assert "focal" not in cli("--isolated", "inspect", "pred.npy", "gt.npy", cwd=here).stdout


def test_files_are_named_from_the_folder_of_the_configuration(here: Path) -> None:
    """A label file, rules and a baseline beside the file are found from a folder below."""
    inner = here / "inner"
    inner.mkdir()
    np.save(inner / "gt.npy", np.array([[0, 1], [1, 1]], np.uint8))
    (here / "labels.csv").write_text("label,name\n1,liver\n")
    (here / "rules.toml").write_text('[[gate]]\nmeasure = "dice"\nmax_drop = 0\n')
    write(here / "main.json", dice_run(a=0.5))
    write(inner / "run.json", dice_run(a=0.4))
    (here / "segcli.toml").write_text('labels = "labels.csv"\nrules = "rules.toml"\nbaseline = "main.json"\n')
    assert "liver" in cli("score", "gt.npy", "gt.npy", "-m", "dice", cwd=inner).stdout
    done = cli("gate", "run.json", cwd=inner)
    assert (done.returncode, "max_drop=0" in done.stdout) == (1, True), done.stderr


def test_rules_stand_in_the_configuration(here: Path) -> None:
    """`[[tool.segcli.gate]]` applies without an option; `--rules` takes its place, `--min` adds to it."""
    write(here / "run.json", dice_run(a=0.5))
    (here / "pyproject.toml").write_text('[[tool.segcli.gate]]\nid = "own"\nmeasure = "dice"\nmin = 0.9\n')
    (here / "rules.toml").write_text('[[gate]]\nid = "other"\nmeasure = "dice"\nmin = 0.1\n')
    own = cli("gate", "run.json", "--min", "dice=0.2", cwd=here)
    assert (own.returncode, "own" in own.stdout, "dice=0.2" in own.stdout) == (1, True, True)
    other = cli("gate", "run.json", "--rules", "rules.toml", cwd=here)
    assert (other.returncode, "own" in other.stdout, "other" in other.stdout) == (0, False, True)
    again = cli("gate", "run.json", "--rules", "pyproject.toml", cwd=here)
    assert (again.returncode, "own" in again.stdout) == (1, True)
    assert "note: no rule" in cli("--isolated", "gate", "run.json", cwd=here).stderr


def test_a_word_of_another_commands_option_is_left_to_it(here: Path) -> None:
    """`kind` is labels or probability in `score`, metric or loss in `catalog`; `junit` is a format of `gate` alone."""
    (here / "segcli.toml").write_text('kind = "probability"\nformat = "junit"\n')
    assert cli("catalog", cwd=here).stdout == cli("--isolated", "catalog", cwd=here).stdout
    assert cli("catalog", cwd=here, SEGCLI_KIND="labels").returncode == 0
    (here / "segcli.toml").write_text('kind = "loss"\n')
    assert {record["kind"] for record in json.loads(cli("catalog", "-f", "json", cwd=here).stdout)} == {"loss"}
    (here / "segcli.toml").write_text('kind = "nothing"\n')
    done = cli("catalog", cwd=here)
    assert done.returncode == 2
    assert "segcli.toml" in done.stderr


def test_global_options_can_stand_in_the_file(here: Path) -> None:
    """`color` and `quiet`, with the same precedence."""
    write(here / "run.json", dice_run(a=0.5))
    (here / "segcli.toml").write_text('color = "always"\nquiet = true\n')
    done = cli("gate", "run.json", cwd=here)
    assert "\x1b[" in done.stdout
    assert done.stderr == f"configuration: {here / 'segcli.toml'}\n"
    assert "\x1b[" not in cli("gate", "run.json", "--color", "never", cwd=here).stdout
    assert "\x1b[" not in cli("gate", "run.json", cwd=here, SEGCLI_COLOR="never").stdout
    (here / "segcli.toml").write_text('color = "sometimes"\n')
    done = cli("gate", "run.json", cwd=here)
    assert (done.returncode, "sometimes" in done.stderr, "segcli.toml" in done.stderr) == (2, True, True)


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('metircs = "dice"', ["metircs", "metrics"]),
        ('[score]\nmetrics = "dice"', ["score"]),
        ("help = true", ["help"]),
        ('config = "x"', ["config"]),
        ("ignore-label = 1\nignore_label = 2", ["ignore_label"]),
        ("\nmetrics = = 3", ["TOML", "line 2"]),
        ("gate = 3", ["gate"]),
        ("gate = [1]", ["gate"]),
        ("format = true", ["format", "true"]),
        ("format = 1979-05-27", ["format"]),
        ('quiet = "yes"', ["quiet", "true or false"]),
        ('format = "xml"', ["format", "xml"]),
        ('min = ["dice"]', ["dice", "segcli.toml sets min"]),
        ('min = ["dcie=1"]', ["dcie", "dice"]),
        ("min = [[1]]", ["min"]),
    ],
    ids=str,
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(here: Path, text: str, words: list[str]) -> None:
    """Exit 2, with the file and what is known."""
    write(here / "run.json", dice_run(a=0.5))
    (here / "segcli.toml").write_text(text)
    done = cli("gate", "run.json", cwd=here)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if not line.startswith("configuration: ")]
    assert 1 <= len(told) <= 2
    assert all(word in done.stderr for word in ["segcli.toml", *words]), done.stderr


def test_a_mistake_in_the_environment_names_the_variable(here: Path) -> None:
    """The parser's complaint says where the value came from."""
    write(here / "run.json", dice_run(a=0.5))
    for variable, value in (("SEGCLI_FORMAT", "xml"), ("SEGCLI_MIN", "dcie=1")):
        done = cli("gate", "run.json", cwd=here, **{variable: value})
        assert (done.returncode, variable in done.stderr) == (2, True), done.stderr


def test_values_become_what_would_be_typed() -> None:
    """Tables, lists and numbers as the texts of the command line; what it could not say is refused."""
    path = Path("segcli.toml")
    for value, text in (
        (["dice", "nsd:tol=2"], "dice,nsd:tol=2"),
        ({"liver": 1, "whole": [1, 2], "fg": "any"}, "liver=1,whole=1+2,fg=any"),
        ([0.8, 0.8, 2], "0.8,0.8,2"),
        (3, "3"),
        (1e-7, "1e-07"),
    ):
        assert as_typed(Option("labels"), value, path) == text
    assert as_typed(Option("min", many=True), "dice=0.5", path) == ["dice=0.5"]
    assert as_typed(Option("min", many=True), ["a=1", "b=2"], path) == ["a=1", "b=2"]
    assert as_typed(Option("rules", files="yes"), "x.toml", Path("/etc/segcli.toml")) == "/etc/x.toml"
    assert as_typed(Option("baseline", files="yes"), "-", Path("/etc/segcli.toml")) == "-"
    for value in ({"a,b": 1}, {"a=b": 1}, {"a": "1,2"}, {"a": {"b": 1}}, [None], [True]):
        with pytest.raises(UsageError):
            as_typed(Option("labels"), value, path)


def test_an_unreadable_file_is_told(here: Path) -> None:
    """Not UTF-8, and a tool table that is none."""
    (here / "segcli.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="UTF-8"):
        load_config(None, here, [], [])
    (here / "segcli.toml").unlink()
    (here / "pyproject.toml").write_text("[tool]\nsegcli = 3\n")
    with pytest.raises(UsageError, match="no table"):
        load_config(None, here, [], [])


# --- completion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o default -F"), ("zsh", "compdef"), ("fish", "--arguments")]
)
def test_show_completion_prints_the_script_of_each_shell(here: Path, shell: str, word: str) -> None:
    """The script names the variable by which the shell asks."""
    done = cli("--show-completion", shell, cwd=here, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert word in done.stdout
    assert "_SEGCLI_COMPLETE" in done.stdout


def test_install_completion_writes_into_the_home_folder(here: Path) -> None:
    """bash: a script and a line in .bashrc that reads it."""
    done = cli(
        "--install-completion", "bash", cwd=here, HOME=str(here), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert done.returncode == 0, done.stderr
    (script,) = here.rglob("segcli.sh")
    assert "_SEGCLI_COMPLETE" in script.read_text()
    assert str(script) in (here / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("segcli ga", {"gate"}), ("segcli gate --base", {"--baseline"}), ("segcli gate x -f j", {"json", "junit"})],
)
def test_the_shell_gets_commands_options_and_words(here: Path, words: str, expected: set[str]) -> None:
    """What bash asks for when the tab key is pressed."""
    done = cli(
        cwd=here, _SEGCLI_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == expected


# --- a file that was found came from anywhere -----------------------------------------------------------


OF_NO_MEASURE = ("output", "map", "gradient", "png", "entropy_map", "scheduler", "engine", "manifest", "shard", "merge",
                 "resume", "retry_errors", "dry_run", "warm")  # fmt: skip


@pytest.mark.parametrize("key", OF_NO_MEASURE)
def test_a_file_that_was_found_says_how_to_measure_and_nothing_else(here: Path, key: str) -> None:
    """Where to write and what to connect to is for a file that was named; both ways to go on are told."""
    write(here / "run.json", dice_run(a=0.5))
    for spelt in (key, key.replace("_", "-")):
        (here / "segcli.toml").write_text(f'{spelt} = "x"\n')
        done = cli("gate", "run.json", "--min", "dice=0", cwd=here)
        assert (done.returncode, done.stdout) == (2, "")
        assert "may not set it" in done.stderr
        assert "--config" in done.stderr
        assert cli("--config", "segcli.toml", "gate", "run.json", "--min", "dice=0", cwd=here).returncode in (0, 2)
        assert cli("--isolated", "gate", "run.json", "--min", "dice=0", cwd=here).returncode == 0


def test_every_option_is_known_to_be_one_or_the_other() -> None:
    """A new option must be thought about: by default a file that was found may not set it."""
    group: Any = typer.main.get_command(app)
    names = {name for command in (group, *group.commands.values()) for name in options_of(command)}
    assert names - OF_THE_CALL == FOUND_MAY_SET | set(OF_NO_MEASURE)
    assert not FOUND_MAY_SET & set(OF_NO_MEASURE)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes say nothing there")
@pytest.mark.parametrize("kind", ["folder", "sticky", "file", "link"])
def test_a_file_that_others_could_write_is_refused_not_skipped(here: Path, kind: str) -> None:
    """A gate whose rules vanish would pass."""
    write(here / "run.json", dice_run(a=0.5))
    config, place = here / "segcli.toml", here
    if kind == "link":
        place = here / "open"
        place.mkdir()
        config.symlink_to(place / "segcli.toml")
        config = place / "segcli.toml"
    config.write_text('[[gate]]\nmeasure = "dice"\nmin = 0.9\n')
    assert cli("gate", "run.json", cwd=here).returncode == 1
    if kind == "file":
        config.chmod(0o666)
    else:
        place.chmod(0o1777 if kind == "sticky" else 0o777)
    done = cli("gate", "run.json", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert "every user" in done.stderr
    assert "--config" in done.stderr
    assert cli("--config", "segcli.toml", "gate", "run.json", cwd=here).returncode == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_file_of_another_user_is_refused(here: Path) -> None:
    """Whoever owns it may change it between two runs."""
    (here / "segcli.toml").write_text('[[gate]]\nmeasure = "dice"\nmin = 0.9\n')
    os.chown(here / "segcli.toml", 1000, 1000)
    write(here / "run.json", dice_run(a=0.5))
    done = cli("gate", "run.json", cwd=here)
    assert done.returncode == 2
    assert "belongs to another user" in done.stderr


def test_the_search_ends_at_the_repository_and_at_home(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies above is nobody's project."""
    inner = here / "home" / "repository" / "inner"
    inner.mkdir(parents=True)
    (here / "segcli.toml").write_text("")
    assert find_config(inner) == here / "segcli.toml"
    monkeypatch.setenv("HOME", str(here / "home"))
    assert find_config(inner) is None
    (here / "home" / "segcli.toml").write_text("")
    assert find_config(inner) == here / "home" / "segcli.toml"
    (here / "home" / "repository" / ".git").mkdir()
    assert find_config(inner) is None
    (here / "home" / "repository" / "segcli.toml").write_text("")
    assert find_config(inner) == here / "home" / "repository" / "segcli.toml"


def test_whenever_a_file_is_used_it_is_said(here: Path) -> None:
    """Also where the file itself asks for silence; not where the caller does."""
    write(here / "run.json", dice_run(a=0.5))
    (here / "segcli.toml").write_text("quiet = true\n")
    call = ("gate", "run.json", "--min", "dice=0")
    assert f"configuration: {here / 'segcli.toml'}\n" in cli(*call, cwd=here).stderr
    assert "configuration" not in cli("-q", *call, cwd=here).stderr
    assert "configuration" not in cli("--isolated", *call, cwd=here).stderr
    (here / "segcli.toml").rename(here / "other.toml")
    assert "configuration: other.toml\n" in cli("--config", "other.toml", *call, cwd=here).stderr
    assert "configuration" not in cli(*call, cwd=here).stderr
