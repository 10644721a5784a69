"""What the gate prints: names with markup in them, JUnit against its schema, annotations, the job summary."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from made_runs import judge_run
from runfiles import run_of, write

from segcli.gates.rules import parse_rules
from segcli.gates.verdicts import Judgement
from segcli.report.gate import gate_markdown, gate_text
from segcli.report.github import MOST, escape_data, escape_property, workflow_commands
from segcli.report.junit import junit_xml

XSD = Path(__file__).parent / "junit.xsd"
#: Names that mean something to Markdown, to a shell of commands, to XML or to a terminal.
NASTY = "a|b%0A,c::error::d*e*<i>\n::warning title=x::y\x1b[31m\x00 `z`"


def nasty() -> Judgement:
    """Return verdicts of every status with nasty names of cases, labels, rules and groups."""
    run = run_of(
        {
            f"{NASTY}{i}": {NASTY: {"dice": value, "hd95:surface=surfel": h}}
            for i, (value, h) in enumerate([(0.2, "pred_empty"), (0.9, "gt_empty")])
        },
        groups={f"{NASTY}{i}": {"site": NASTY} for i in range(2)},
        missing=[NASTY],
        errors=[NASTY],
    )
    tables = [
        {"id": NASTY, "measure": "dice", "min": 0.8, "label": NASTY},
        {"id": "warned", "measure": "dice", "min": 0.8, "level": "warn", "where": {"site": "a|b*"}},
        {"id": "skipped", "measure": "hd95", "max": 1, "on_undefined": "skip"},
        {"id": "fine", "measure": "dice", "max": 1},
    ]
    judgement = judge_run(parse_rules(tables, "test"), run)
    assert {v.status for v in judgement.verdicts} == {"failed", "warned", "skipped", "passed"}
    return judgement


def validated(text: str) -> ET.Element:
    """Return a JUnit report that follows the schema of Jenkins and Ant."""
    xmlschema.XMLSchema(XSD).validate(text)
    return ET.fromstring(text)  # noqa: S314 (our own)


def test_junit_has_one_case_for_each_rule_and_follows_its_schema() -> None:
    """Failures with their worst cases, a skip, a warning that is no failure; nothing that XML cannot hold."""
    report = validated(junit_xml(nasty(), 1.25))
    cases = {case.get("name"): case for case in report.iter("testcase")}
    assert len(cases) == 6
    suite = report.find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("6", "3", "1")
    name = next(name for name in cases if name.startswith("a|b"))
    failure = cases[name].find("failure")
    assert "< 0.8" in failure.get("message")
    assert "0.200" in failure.text  # the worst case
    assert cases["skipped"].find("skipped") is not None
    assert cases["warned"].find("failure") is None
    assert "warning: " in cases["warned"].find("system-out").text
    assert [child.tag for child in cases["fine"]] == ["system-out"]
    assert cases["no-missing"].find("failure") is not None


def test_the_junit_schema_refuses_what_is_no_junit() -> None:
    """The schema that reports are held against can say no."""
    schema = xmlschema.XMLSchema(XSD)
    good = junit_xml(nasty(), 0.0)
    for broken in (
        good.replace('classname="segcli.gate" ', "", 1),
        good.replace("<failure ", "<failed ", 1).replace("</failure>", "</failed>", 1),
        re.sub(r'tests="6"', 'tests="six"', good),
    ):
        assert broken != good
        assert not schema.is_valid(broken)


def test_one_rule_over_several_labels_is_one_junit_case() -> None:
    """Both labels' findings stand in the one failure."""
    run = run_of({"c": {"x": {"dice": 0.1}, "y": {"dice": 0.2}, "z": {"dice": 0.9}}})
    report = validated(junit_xml(judge_run(parse_rules([], "t", ["dice=0.5"]), run), 0.0))
    (case,) = [c for c in report.iter("testcase") if c.get("name") == "--min dice=0.5"]
    assert "x dice" in case.find("failure").text
    assert "y dice" in case.find("failure").text
    assert "z dice" in case.find("system-out").text


def unescaped(text: str) -> str:
    return text.replace("%2C", ",").replace("%3A", ":").replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")


@pytest.mark.parametrize("text", ["100%", "a\nb\r\nc", "%0A", "::error::x", "a:b,c", NASTY])
def test_escaped_texts_come_back_and_end_nothing(text: str) -> None:
    """What the runner undoes is the text; a property has no sign that could end it."""
    assert unescaped(escape_data(text)) == text
    assert unescaped(escape_property(text)) == text
    assert "\n" not in escape_data(text)
    assert "\r" not in escape_data(text)
    assert not set(escape_property(text)) & set("\r\n:,")


def test_annotations_are_one_command_a_line_and_at_most_ten() -> None:
    """No name starts a command of its own; failures come before warnings; the rest is counted."""
    command = re.compile(r"::(error|warning) title=[^:,\n]*::[^\n]*")
    lines = workflow_commands(nasty()).splitlines()
    commands = [line for line in lines if line.startswith("::")]
    assert len(commands) == 4
    assert all(command.fullmatch(line) for line in commands)
    assert [line.split()[0] for line in commands] == ["::error"] * 3 + ["::warning"]
    assert lines[-1] == "3 failed, 1 warning, 1 skipped, 1 passed"
    many = run_of({"c": {f"l{i:02}": {"dice": 0.1} for i in range(15)}})
    few = run_of({"c": {f"l{i:02}": {"dice": 0.1} for i in range(11)}})
    tables = [{"id": "w", "measure": "dice", "min": 0.2, "level": "warn"}, {"id": "e", "measure": "dice", "min": 0.5}]
    lines = workflow_commands(judge_run(parse_rules(tables, "t"), many)).splitlines()
    assert [line.startswith("::error") for line in lines[:MOST]] == [True] * MOST
    assert lines[MOST] == "20 more are not annotated: GitHub shows 10 of a step"
    lines = workflow_commands(judge_run(parse_rules(tables[1:], "t"), few)).splitlines()
    assert lines[MOST] == "1 more is not annotated: GitHub shows 10 of a step"


def test_counts_are_whole_and_sizes_have_no_sign() -> None:
    """Two values are 2, not 2.00; the mean of |-0.5| and |0.2| is 35.0%, not +35.0%."""
    run = run_of({case: {"organ": {"rve": value}} for case, value in (("a", -0.5), ("b", 0.2))})
    tables = [
        {"id": "many", "measure": "rve", "stat": "count", "min": 3},
        {"id": "off", "measure": "rve", "stat": "worst-2", "max": 0.1},
        {"id": "low", "measure": "rve", "stat": "mean", "min": 0.1},
    ]
    text = gate_text(judge_run(parse_rules(tables, "t"), run), ("run.json", None))
    assert "organ rve count 2 < 3" in text
    assert "organ |rve| worst-2 35.0% > 10.0% (2 cases)" in text
    assert "organ rve mean -15.0% < +10.0% (2 cases)" in text


def test_markdown_shows_names_literally() -> None:
    """Each row of the table has its four cells, and no markup of a name is markup."""
    text = gate_markdown(nasty(), ("run.json", None))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    bare = re.sub(r"\\.", "", "\n".join(rows[2:])).replace("**FAIL**", "")
    assert not set(bare) & set("*<`[_")


def test_the_table_is_one_line_a_verdict_without_control_characters() -> None:
    """A name with a line end or an escape sequence draws nothing on the terminal."""
    text = gate_text(nasty(), ("run.json", None))
    assert len(text.splitlines()) == 6 + 1
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\x1b[1;31mFAIL" in gate_text(nasty(), ("run.json", None), color=True)


def cli(*arguments: object, **environment: str) -> Any:
    """Run segcli as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, "GITHUB_STEP_SUMMARY": "", **environment}, check=False,
    )  # fmt: skip


def test_the_job_summary_is_appended_to_and_never_decides(tmp_path: Path) -> None:
    """`-f github` adds Markdown behind what is there; a summary that cannot be written is a warning."""
    run = write(tmp_path / "run.json", run_of({"c": {"a|b": {"dice": 0.1}}}))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    done = cli("gate", run, "--min", "dice=0.5", "-f", "github", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1
    assert done.stdout.startswith("::error title=segcli gate%3A --min dice=0.5::a|b dice mean 0.100 < 0.5")
    assert summary.read_text().startswith("before\n### Segmentation gate: failed\n")
    assert r"a\|b dice" in summary.read_text()
    before = summary.read_text()
    assert cli("gate", run, "--min", "dice=0.5", GITHUB_STEP_SUMMARY=str(summary)).returncode == 1
    assert summary.read_text() == before  # no other format touches it
    lost = cli("gate", run, "--min", "dice=0.1", "-f", "github", GITHUB_STEP_SUMMARY=str(tmp_path / "no" / "x.md"))
    assert (lost.returncode, "warning:" in lost.stderr) == (0, True)


def test_files_are_written_by_their_suffix(tmp_path: Path) -> None:
    """`-o` writes JUnit, JSON, Markdown and the table beside what stdout gets; CSV is none of the gate's."""
    run = write(tmp_path / "run.json", run_of({"c": {"organ": {"dice": 0.1}}}))
    outs = [tmp_path / f"gate{suffix}" for suffix in (".xml", ".json", ".md", ".txt")]
    done = cli("gate", run, "--min", "dice=0.5", *(word for out in outs for word in ("-o", out)))
    assert done.returncode == 1
    assert outs[3].read_text() == done.stdout
    validated(outs[0].read_text())
    assert '"segcli.gate/1"' in outs[1].read_text()
    assert outs[2].read_text().startswith("### ")
    assert cli("gate", run, "-o", tmp_path / "gate.csv").returncode == 2
    assert cli("gate", run, "-o", run).returncode == 2
    validated(cli("gate", run, "-f", "junit").stdout)
