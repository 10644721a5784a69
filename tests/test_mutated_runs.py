"""Run files in which anything may be anything: what reads runs says one line or what is right, and nothing draws."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import process, segcli

from segcli.run.cite import cite
from segcli.run.reading import load_run

Run = dict[str, Any]
Place = tuple[str | int, ...]
#: Drives a terminal, turns the direction of what follows, breaks lines, and is markup somewhere.
EVIL = "\x1b[31m\r\n\u202e\u2028\x07%$#&_{}~^\\[red]|<b>`*"
DEEP: list[Any] = []
for _ in range(80):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, 10**400, 1e308, "", "x", EVIL, "\ud800", "A" * 20_000, [], {}, [1], [[]],
    ["a"], [None], [EVIL], {"a": 1}, {"": None}, {EVIL: [1]}, DEEP, {"a": {"b": {"c": []}}}, [0, 1, 2], "nan", [1e200],
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run with means, intervals, tables, parts, losses, an empty prediction and a missing one."""
    folder = tmp_path_factory.mktemp("run")
    for side in ("pred", "gt"):
        (folder / side).mkdir()
        for i in range(4):
            mask = np.zeros((9, 9), np.uint8)
            mask[2:7, 2 : 6 + i // 2] = i > 0 or side == "gt"
            if i < 3 or side == "gt":
                np.save(folder / side / f"{i}.npy", mask)
    measures = ["-m", "dice,hd95,pq,confusion", "-l", "dice", "-o", folder / "run.json", "-j", 1]
    done = segcli("evaluate", folder / "pred", folder / "gt", *measures)
    assert done.returncode == 4, done.stderr
    return json.loads((folder / "run.json").read_text())  # type: ignore[no-any-return]


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    if at:
        yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*at, key))


def mutated(run: Run, kinds: list[list[Place]], random_: random.Random) -> Run:
    """Return a copy in which one to three nodes are of another kind, gone, twice there or called otherwise."""
    run = copy.deepcopy(run)
    for _ in range(random_.choice([1, 1, 2, 3])):
        *parents, key = random_.choice(random_.choice(kinds))
        node: Any = run
        try:
            for parent in parents:
                node = node[parent]
            how = random_.random()
            if how < 0.75:
                node[key] = copy.deepcopy(random_.choice(VALUES))
            elif how < 0.9:
                del node[key]
            elif isinstance(node, dict):
                node[random_.choice([EVIL, "x", "", f"{key}%"])] = node.pop(key)
            else:
                node.append(copy.deepcopy(node[key]))  # type: ignore[index]
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change has taken the place away
    return run


def check(*call: object) -> int:
    done = segcli(*call)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode in {0, 1, 2, 3}, done.stderr
    assert len(errors) == (done.returncode >= 2), done.stderr
    assert "Traceback" not in done.stderr
    for letter in "\x1b\u202e\x07\r":
        assert letter not in done.stdout + done.stderr
    return done.returncode


#: How each command is called with a changed run and the whole one, and how many changes it is tried with.
CALLS: dict[str, tuple[int, Callable[[random.Random], list[str]]]] = {
    "cite": (120, lambda r: ["cite", "RUN", "-f", r.choice(["text", "bibtex", "json"])]),
    "gate": (
        40,
        lambda r: ["gate", "RUN", "--min", "dice=0.1", "-f", r.choice(["table", "json", "junit", "github", "md"])],
    ),
    "baseline": (
        20,
        lambda r: ["gate", *r.choice([("WHOLE", "--baseline", "RUN"), ("RUN", "--baseline", "WHOLE")]),
                   "--rules", "RULES"],
    ),
    "diff": (20, lambda r: ["diff", "RUN", "WHOLE", "-f", r.choice(["table", "json", "csv", "md", "latex"])]),
    "rank": (
        20,
        lambda r: ["rank", "a=RUN", "b=WHOLE", "-m", "dice", "-f", r.choice(["table", "json", "csv", "md", "latex"])],
    ),
    "conventions": (40, lambda r: ["conventions", "--empty", "RUN", "-f", r.choice(["table", "json", "csv", "md"])]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_any_run_is_read_or_refused(whole: Run, tmp_path: Path, name: str) -> None:
    kinds: dict[Place, list[Place]] = {}
    for place in places(whole):
        kinds.setdefault(tuple("#" if isinstance(key, int) else key for key in place)[:5], []).append(place)
    run, random_ = tmp_path / "run.json", random.Random(name)  # noqa: S311 (the same changes in every run)
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    (tmp_path / "rules.toml").write_text('[[gate]]\nmeasure = "dice"\nmax_drop = 0.1\n')
    files = {"RUN": str(run), "WHOLE": str(tmp_path / "whole.json"), "RULES": str(tmp_path / "rules.toml")}
    times, ask = CALLS[name]
    codes = set()
    for _ in range(times):
        run.write_text(json.dumps(mutated(whole, list(kinds.values()), random_)))
        call = ask(random_)
        for word, file in files.items():
            call = [part.replace(word, file) for part in call]
        codes.add(check(*call))
    assert 3 in codes
    assert codes & {0, 1}


def put(run: Run, place: str, value: object) -> Run:
    """Return a copy with a value at `spec.empty`, `cases.0.labels`."""
    run = copy.deepcopy(run)
    node: Any = run
    *parents, key = (int(part) if part.isdigit() else part for part in place.split("."))
    for parent in parents:
        node = node[parent]
    node[key] = value
    return run


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.empty", ["x"]), ("spec.empty", 3), ("spec.missing", {}), ("spec.source", ["x"]), ("spec.spacing", "abc"),
        ("spec.spacing", ["x"]), ("spec.spacing", [0]), ("spec.ignore", [1]), ("spec.ignore", True),
        ("spec.roi", "yes"), ("spec.labels", {"a": 3}), ("spec.labels", {"a": [None]}), ("spec.labels", {"a": {}}),
        ("spec.mean_of", 5), ("spec.mean_of", [1]), ("spec.convention", []), ("spec.average", {}),
        ("cases.1.labels", {"a": 3}), ("cases.1.labels", {"a": [[]]}), ("cases.1.status", []),
        ("environment.segcli", ["1"]), ("summary.0.ci_method", ["bca"]), ("summary.0.mean_of", 3),
    ],
    ids=str,
)  # fmt: skip
def test_a_part_of_another_type_is_refused(whole: Run, tmp_path: Path, place: str, value: object) -> None:
    """By every command alike: they read through one door."""
    run = tmp_path / "run.json"
    run.write_text(json.dumps(put(whole, place, value)))
    for call in (["cite", run], ["gate", run, "--min", "dice=0"], ["diff", run, run], ["conventions", "--empty", run]):
        assert check(*call) == 3


@pytest.mark.parametrize("key", ["ci_method", "ci_level", "resamples", "seed"])
def test_an_interval_without_its_method_cannot_be_cited(whole: Run, tmp_path: Path, key: str) -> None:
    run = copy.deepcopy(whole)
    for record in run["summary"]:
        record["ci"] = [0.1, 0.9]
        record.update({"ci_method": "bca", "ci_level": 0.95, "resamples": 100, "seed": 0})
        del record[key]
    (tmp_path / "run.json").write_text(json.dumps(run))
    done = process("cite", tmp_path / "run.json")
    assert done.returncode == 3, done.stderr
    assert f"has no '{key}'" in done.stderr


def test_what_is_cited_cannot_draw(whole: Run, tmp_path: Path) -> None:
    run = copy.deepcopy(whole)
    run["environment"]["segcli"] = EVIL
    run["spec"].update(source=EVIL, empty=EVIL, labels={EVIL: [1]}, ignore=EVIL, ignore_in=EVIL)
    for case in run["cases"]:
        case.update(labels={EVIL: [1]}, unit=EVIL)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    said = {}
    for form in ("text", "json", "bibtex"):
        done = process("cite", path, "-f", form, "-o", tmp_path / "x.bib")
        assert done.returncode == 0, done.stderr
        said[form] = done.stdout
        assert not set("\x1b\u202e\x07\r\u2028") & set(done.stdout)
    assert said["text"].splitlines()[1] == ""
    (version,) = [line for line in said["bibtex"].splitlines() if "note =" in line]
    escaped = r"\textbackslash{}u202e \%\$\#\&\_\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}[red]|$<$b$>$`*"
    assert version == f"  note = {{Version  [31m {escaped}}}"
    assert (tmp_path / "x.bib").read_text() == said["bibtex"]
    assert cite(load_run(path)).version == EVIL


def test_half_of_a_pair_is_printed_as_json_has_it(whole: Run, tmp_path: Path) -> None:
    """A run file may hold it, and the bytes of a file name that is not UTF-8."""
    run = copy.deepcopy(whole)
    for case in run["cases"]:
        case["labels"] = {"\ud800-\udcff": [1]}
    path, out = tmp_path / "run.json", tmp_path / "out.txt"
    path.write_text(json.dumps(run))
    call = [sys.executable, "-m", "segcli", "cite", str(path), "-o", str(out), "-f"]
    done = subprocess.run([*call, "text"], capture_output=True, check=True)
    for said in (done.stdout, out.read_bytes()):
        assert b"\\ud800-\xff=1" in said
    done = subprocess.run([*call, "json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["labels"] == {"\ud800-\udcff": [1]}
