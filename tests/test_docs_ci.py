"""docs/ci.md: every command it gives is run on the sample masks, with the configuration it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from segcli.gates.rules import FIELDS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the sample masks and a `segcli` on the path."""
    where = tmp_path_factory.mktemp("ci")
    shutil.copytree(ROOT / "sample_masks", where / "sample_masks")
    (where / "bin").mkdir()
    command = where / "bin" / "segcli"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m segcli "$@"\n')
    command.chmod(0o755)
    return where


def shell(script: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-e", "-c", script],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": "", **environment},
        check=False,
    )


def test_every_command_of_the_page_works_and_passes(place: Path) -> None:
    """First the shell blocks, then the configuration, then the lines of each CI system, then the test in Python."""
    first, second = blocks("sh")
    assert "segcli evaluate" in first
    done = shell(first, place)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (place / "run.json").exists()
    (config,) = blocks("toml")
    (place / "segcli.toml").write_text(config)
    assert shell(second, place).returncode == 0
    lines = [
        line
        for block in blocks("yaml")
        for line in re.findall(r"(?:run: |entry: |- )(segcli .*|pip install .*)$", block, flags=re.MULTILINE)
    ]
    assert len(lines) == 6
    for line in lines:
        wanted = line.removeprefix("pip install segcli && ")
        if "--baseline" in wanted and not (place / "made.json").exists():
            assert shell("segcli evaluate baseline labels -o main.json", place).returncode == 0
            (place / "made.json").touch()
        done = shell(wanted, place)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    report = ET.fromstring((place / "gate.xml").read_text())  # noqa: S314 (our own)
    assert {case.get("name") for case in report.iter("testcase")} == {
        "no-missing", "no-errors", "liver-worst-case", "tumour-not-worse", "distances"
    }  # fmt: skip
    (example,) = blocks("python")
    (place / "test_model.py").write_text(example)
    (place / "pytest.ini").write_text("[pytest]\n")
    done = shell(f'"{sys.executable}" -m pytest -q -p no:cacheprovider test_model.py', place)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_worse_model_fails_by_the_same_rules(place: Path) -> None:
    """The gate of the page can fail: with the runs swapped the kidney's lost pole is a drop of its own rule."""
    shell(blocks("sh")[0], place)
    (place / "rules.toml").write_text('[[gate]]\nid = "kidney"\nmeasure = "dice"\nlabel = "kidney"\nmax_drop = 0.02\n')
    done = shell("segcli --isolated gate main.json --baseline run.json --rules rules.toml", place)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  kidney" in done.stdout


def test_the_page_names_every_field_of_a_rule() -> None:
    """The table of fields is complete."""
    named = {
        word for line in re.findall(r"^\| (`.*?) \|", TEXT, flags=re.MULTILINE) for word in re.findall(r"`(\w+)`", line)
    }
    assert named | {"id"} == set(FIELDS)
