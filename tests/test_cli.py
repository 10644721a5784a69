"""The command line through real processes: exit codes, stdout against stderr, formats."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cohorts import process as run

import segcli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a 2-D pair, a 3-D pair with two labels, an empty mask and probabilities."""
    where = tmp_path_factory.mktemp("pairs")
    gt = np.zeros((20, 30), np.uint8)
    gt[5:15, 5:15] = 1
    pred = np.roll(gt, 2, axis=1)
    np.save(where / "gt.npy", gt)
    np.save(where / "pred.npy", pred)
    np.save(where / "empty.npy", np.zeros_like(gt))
    np.save(where / "prob.npy", (0.1 + 0.8 * pred).astype(np.float32))
    np.save(where / "prob2.npy", (0.05 + 0.9 * gt).astype(np.float32))
    np.save(where / "other_shape.npy", np.zeros((21, 30), np.uint8))
    multi = np.zeros((12, 14, 16), np.uint8)
    multi[2:8, 2:8, 2:8] = 1
    multi[8:10, 8:12, 8:12] = 2
    np.save(where / "multi_gt.npy", multi)
    np.save(where / "multi_pred.npy", np.where(multi == 2, 0, multi))
    return where


def error_of(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a call failed as documented and return its error line."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    assert [line.split(":")[0] for line in lines if not line.startswith(("note:", "warning:"))] in (
        ["error"],
        ["error", "hint"],
    )
    return errors[0]


def test_score_prints_a_table_on_stdout(folder: Path) -> None:
    """The table has the documented numbers, and says what definition they follow."""
    done = run("score", folder / "pred.npy", folder / "gt.npy")
    assert done.returncode == 0
    assert "foreground" in done.stdout
    assert "0.800" in done.stdout  # 2*80 / (100 + 100)
    assert "surface=surfel" in done.stdout
    assert "voxels" in done.stdout.splitlines()[0]
    assert "\x1b" not in done.stdout


def test_a_long_table_is_neither_wrapped_nor_cut(folder: Path) -> None:
    """In a pipe each row is one line, however wide, also where COLUMNS is small."""
    done = run("score", folder / "pred.npy", folder / "gt.npy", "-m", "all", COLUMNS="40")
    header = next(line for line in done.stdout.splitlines() if "voxels_gt" in line)
    assert all(m.name in header for m in segcli.measures("metric"))
    assert "…" not in done.stdout


def test_json_is_one_strict_document_that_its_schema_allows(folder: Path) -> None:
    """`-f json` validates against `segcli schema run` and has no NaN, also for an empty prediction."""
    schema = json.loads(run("schema", "run").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    for pred, gt in (
        ("pred", "gt"),
        ("empty", "gt"),
        ("pred", "empty"),
        ("empty", "empty"),
        ("multi_pred", "multi_gt"),
    ):
        done = run(
            "score",
            folder / f"{pred}.npy",
            folder / f"{gt}.npy",
            "-m",
            "all",
            "-l",
            "all",
            "-f",
            "json",
            "--min",
            "dice=0.5",
        )
        document = json.loads(done.stdout, parse_constant=pytest.fail)
        jsonschema.validate(document, schema)


def test_json_of_a_comparison_is_what_its_schema_allows(folder: Path) -> None:
    """`compare -f json` validates against `segcli schema compare`."""
    schema = json.loads(run("schema", "compare").stdout)
    for files in (
        ["prob", "gt"],
        ["prob", "prob2", "gt"],
        ["empty", "gt"],
        ["prob", "empty"],
        ["multi_pred", "multi_gt"],
    ):
        done = run("compare", *(folder / f"{f}.npy" for f in files), "--losses", "all", "-m", "default", "-f", "json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout, parse_constant=pytest.fail)
        jsonschema.validate(document, schema)


def test_two_equal_runs_differ_under_environment_only(folder: Path) -> None:
    """Everything volatile stands under `environment`."""
    first, second = (
        json.loads(run("score", folder / "pred.npy", folder / "gt.npy", "-f", "json").stdout) for _ in range(2)
    )
    assert first.pop("environment").keys() == second.pop("environment").keys()
    assert json.dumps(first) == json.dumps(second)


def test_csv_round_trips_every_value(folder: Path) -> None:
    """CSV has one line for each value, at full precision; an undefined one is empty with its reason."""
    done = run("score", folder / "multi_pred.npy", folder / "multi_gt.npy", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["case", "label", "kind", "measure", "value", "status", "why"]
    case = segcli.score(folder / "multi_pred.npy", folder / "multi_gt.npy")
    for value, row in zip(case.values, rows, strict=False):
        assert (row["label"], row["measure"], row["why"]) == (value.label, value.measure, value.why)
        assert (float(row["value"]) if row["value"] else None) == value.value


def test_markdown_escapes_file_names(folder: Path, tmp_path: Path) -> None:
    """A file name with markup is printed literally in the table and escaped in Markdown."""
    odd = tmp_path / "a|b_[red]x[bold].npy"
    odd.write_bytes((folder / "pred.npy").read_bytes())
    assert odd.name in run("score", odd, folder / "gt.npy").stdout
    done = run("score", odd, folder / "gt.npy", "-f", "md")
    assert r"a\|b\_\[red\]x\[bold\].npy" in done.stdout
    assert "| label |" in done.stdout


def test_a_file_name_with_a_leading_dash_works(folder: Path, tmp_path: Path) -> None:
    """`--` ends the options."""
    (tmp_path / "-q.npy").write_bytes((folder / "pred.npy").read_bytes())
    done = run("score", "--", "-q.npy", folder / "gt.npy", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("-q.npy vs ")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["--min", "dice=0.8"], 0),
        (["--min", "dice=0.81"], 1),
        (["--max", "hd=2"], 0),
        (["--max", "hd=1.9"], 1),
        (["--min", "foreground/dice=0.5", "--max", "rve=0"], 0),
        (["--max", "loss.dice=0.3"], 0),
        (["--max", "loss.dice=0.1"], 1),
        (["--min", "nsd:tol=1=0.99"], 1),
        (["--min", "mean/dice=0.5"], 0),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else str(v),
)
def test_limits_decide_between_0_and_1(folder: Path, limits: list[str], code: int) -> None:
    """A limit that is kept exits 0, one that is broken 1, and says which."""
    done = run("score", folder / "pred.npy", folder / "gt.npy", "-m", "dice", *limits)
    assert done.returncode == code, done.stderr
    assert ("FAIL" in done.stdout) == (code == 1)


def test_an_undefined_value_never_passes_a_limit(folder: Path) -> None:
    """The distance to an empty prediction is undefined: a `--max` on it fails, and a `--min` on a precision of 0/0."""
    for limit in (("--max", "hd95=1000"), ("--min", "precision=0")):
        done = run("score", folder / "empty.npy", folder / "gt.npy", *limit, "-f", "json")
        assert done.returncode == 1
        (verdict,) = json.loads(done.stdout)["gates"]
        assert verdict["value"] is None
        assert not verdict["passed"]


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        (("--min", "hd=5"), "--max hd=5"),
        (("--max", "1/dice=0.9"), "--min 1/dice=0.9"),
        (("--min", "loss.dice=0.1"), "--max loss.dice=0.1"),
        (("--max", "nsd:tol=1=0.9"), "--min nsd:tol=1=0.9"),
    ],
)
@pytest.mark.parametrize("command", ["score", "gate"])
def test_a_limit_on_the_good_side_is_refused(folder: Path, command: str, limit: tuple[str, str], hint: str) -> None:
    """A minimum for what is better when lower passes what is bad: exit 2, with the limit that was meant."""
    files = (folder / "pred.npy", folder / "gt.npy") if command == "score" else (folder / "no-run.json",)
    done = run(command, *files, *limit)
    assert done.returncode == 2
    assert f"hint: {hint}\n" in done.stderr


def test_limits_read_as_those_of_the_gate(folder: Path) -> None:
    """Rule, label, measure with its unit, value, limit; failures first; then how many."""
    pair = (folder / "multi_pred.npy", folder / "multi_gt.npy")  # dice 1 and 0
    done = run("score", *pair, "-m", "dice", "--min", "dice=0.4", "--max", "rve=0")
    lines = done.stdout.splitlines()[-5:]
    assert lines[0] == " FAIL  --min dice=0.4   2 dice 0.000 < 0.4"
    assert lines[1].startswith(" ok    --min dice=0.4   1 dice 1.000 >= 0.4")
    assert lines[-1] == " 1 failed, 3 passed"


def test_a_limit_holds_every_label_and_mean_holds_the_mean(folder: Path) -> None:
    """`dice` is each label row, `mean/dice` the mean row, `1/dice` one label."""
    pair = (folder / "multi_pred.npy", folder / "multi_gt.npy")  # dice 1 and 0
    assert run("score", *pair, "--min", "dice=0.4").returncode == 1
    assert run("score", *pair, "--min", "mean/dice=0.4").returncode == 0
    assert run("score", *pair, "--min", "1/dice=1").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "dcie"], ["dcie", "dice"]),
        (["-l", "tversky:fp=-1"], ["tversky", "fp=-1", "[0, inf)"]),
        (["-m", "nsd:tal=1"], ["nsd", "tal"]),
        (["-m", "hd:surface=surfle"], ["surface=surfle", "surfel"]),
        (["--min", "dice"], ["--min dice"]),
        (["--min", "dice=high"], ["dice=high"]),
        (["--labels", "a=x"], ["a=x"]),
        (["--labels", "a=1,a=2"], ["twice"]),
        (["--spacing", "1,0"], ["--spacing", "above 0"]),
        (["--spacing", "a"], ["--spacing"]),
        (["--spacing", "1,1,1"], ["--spacing", "2 axes"]),
        (["--threshold", "1.5"], ["--threshold"]),
        (["--empty", "maybe"], ["empty"]),
        (["--from-logits", "--kind", "labels"], ["--from-logits"]),
        (["-o", "out.xyz"], ["out.xyz", ".json"]),
        (["-o", "/nowhere/out.json"], ["/nowhere"]),
        (["--min", "tumour/dice=0.5"], ["tumour", "foreground"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["--channel-axis", "0"], ["--channel-axis"]),
    ],
    ids=lambda v: v and " ".join(v),
)
def test_usage_errors_exit_2(folder: Path, arguments: list[str], words: list[str]) -> None:
    """A wrong option or measure is one line that names it and what is allowed, exit 2."""
    line = error_of(run("score", folder / "pred.npy", folder / "gt.npy", *arguments), 2)
    whole = run("score", folder / "pred.npy", folder / "gt.npy", *arguments).stderr
    assert all(word in whole for word in words), whole
    assert len(line) < 400


def test_a_missing_argument_and_an_unknown_command_exit_2(folder: Path) -> None:
    """The parser's own errors come out in the same form."""
    error_of(run("score", folder / "pred.npy"), 2)
    error_of(run("scor"), 2)
    error_of(run("compare", folder / "pred.npy"), 2)


@pytest.mark.parametrize(
    ("pred", "words"),
    [
        ("missing.npy", ["missing.npy"]),
        ("other_shape.npy", ["21x30", "20x30"]),
        ("", ["folder"]),
        ("gt.tiff", [".nii.gz", ".png"]),
        ("multi_gt.npy", ["12x14x16", "20x30"]),
    ],
)
def test_unusable_input_exits_3(folder: Path, pred: str, words: list[str]) -> None:
    """An unusable file is one line that names it, exit 3, nothing on stdout."""
    (folder / "gt.tiff").write_bytes(b"II*\0")
    done = run("score", folder / pred, folder / "gt.npy")
    error_of(done, 3)
    assert all(word in done.stderr for word in words), done.stderr


def test_strict_makes_a_warning_an_error(folder: Path, tmp_path: Path) -> None:
    """Foreground 1 against 3 is a warning, and exit 3 under --strict."""
    np.save(tmp_path / "three.npy", 3 * np.load(folder / "pred.npy"))
    done = run("score", tmp_path / "three.npy", folder / "gt.npy")
    assert done.returncode == 0
    assert "warning:" in done.stderr
    error_of(run("score", tmp_path / "three.npy", folder / "gt.npy", "--strict"), 3)


def test_outputs_are_written_whole_beside_stdout(folder: Path, tmp_path: Path) -> None:
    """`-o` writes each format by its suffix, leaves no temporary file, and stdout keeps the table."""
    outs = [tmp_path / f"run{s}" for s in (".json", ".csv", ".md", ".txt")]
    options = [part for out in outs for part in ("-o", out)]
    done = run("score", folder / "pred.npy", folder / "gt.npy", *options)
    assert done.returncode == 0
    assert "foreground" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(o.name for o in outs)
    assert json.loads(outs[0].read_text())["schema"] == "segcli.run/1"
    assert outs[3].read_text() == done.stdout


def test_an_internal_error_exits_70_and_saves_its_traceback(folder: Path) -> None:
    """A bug is one line and a file, never exit 1."""
    code = (
        "import segcli.scoring.score, sys; from segcli.cli.main import run\n"
        "def bug(*a, **k): raise ZeroDivisionError('a bug')\n"
        "segcli.scoring.score.score_cases = bug; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", folder / "pred.npy", folder / "gt.npy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a bug" in error_of(done, 70)
    saved = Path(re.search(r"in (\S+\.txt)", done.stderr)[1])
    assert "ZeroDivisionError" in saved.read_text()
    saved.unlink()


def test_a_closed_pipe_ends_quietly() -> None:
    """`segcli ... | head -0` exits 141 without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "segcli", "catalog"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert process.returncode == 141
    assert process.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_have_their_codes(folder: Path, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM end the process with their documented code and one line."""
    code_text = (
        "import segcli.scoring.score, sys, time; from segcli.cli.main import run\n"
        "def wait(*a, **k):\n    print('ready', flush=True); time.sleep(60)\n"
        "segcli.scoring.score.score_cases = wait; sys.exit(run(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code_text, "score", folder / "pred.npy", folder / "gt.npy"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell lets its jobs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.startswith("error: ")
    assert "Traceback" not in errors


def test_no_command_prints_help() -> None:
    """`segcli` alone is a question, answered with exit 0."""
    done = run()
    assert done.returncode == 0
    assert "Commands:" in done.stdout


def test_version_is_that_of_the_package() -> None:
    """`-V` prints one line."""
    assert run("-V").stdout.strip() == f"segcli {segcli.__version__}"


def test_colour_follows_the_environment(folder: Path) -> None:
    """FORCE_COLOR and --color always colour a pipe; NO_COLOR and --color never do not."""
    pair = ("score", folder / "pred.npy", folder / "gt.npy", "-m", "dice")
    clean = {"NO_COLOR": "", "FORCE_COLOR": ""}
    assert "\x1b[" not in run(*pair, **clean).stdout
    assert "\x1b[" in run(*pair, **clean | {"FORCE_COLOR": "1"}).stdout
    assert "\x1b[" in run(*pair, "--color", "always", **clean).stdout
    assert "\x1b[" not in run(*pair, **clean | {"NO_COLOR": "1", "FORCE_COLOR": "1"}).stdout
    assert "\x1b[" not in run(*pair, "--color", "never", **clean | {"FORCE_COLOR": "1"}).stdout


def test_global_options_stand_before_or_behind_the_command(folder: Path) -> None:
    """`-q` silences notes in both places."""
    pair = (folder / "multi_pred.npy", folder / "multi_gt.npy")
    assert "note:" in run("score", *pair).stderr
    assert run("-q", "score", *pair).stderr == run("score", *pair, "-q").stderr == ""


def test_catalog_lists_every_measure_as_json() -> None:
    """`catalog -f json` is a bare list of records with all their fields."""
    records = json.loads(run("catalog", "-f", "json").stdout)
    assert {r["id"] for r in records} == {m.id for m in segcli.measures()}
    assert all(
        {"name", "kind", "family", "aliases", "formula", "reference", "range", "params"} <= r.keys() for r in records
    )


def test_catalog_resolves_aliases_and_refuses_typos() -> None:
    """`catalog dsc` shows dice, the metric and the loss have cards of their own, a typo gets a hint."""
    assert "metric.dice" in run("catalog", "dsc").stdout
    both = run("catalog", "dice").stdout
    assert "metric.dice" in both
    assert "loss.dice" in both
    done = run("catalog", "tverski")
    error_of(done, 2)
    assert "tversky" in done.stderr


def test_describe_says_what_a_file_holds(folder: Path) -> None:
    """Shape, type, labels with their counts, and whether two files share a grid."""
    done = run("describe", folder / "multi_gt.npy", folder / "gt.npy", "-f", "json")
    first, second = json.loads(done.stdout)["files"]
    assert first["shape"] == [12, 14, 16]
    assert [(x["label"], x["voxels"]) for x in first["labels"]][1:] == [(1, 216), (2, 32)]
    assert not second["same_grid_as_first"]
    text = run("describe", folder / "prob.npy").stdout
    assert "probability" in text


def test_doctor_knows_the_installation() -> None:
    """Versions, readers and the kernel cache; --warm compiles."""
    facts = json.loads(run("doctor", "-f", "json").stdout)
    assert facts["segcli"] == segcli.__version__
    assert ".nii.gz" in facts["readers"]
    assert "compiled" in run("doctor", "--warm").stdout


def test_compare_without_files_uses_the_sample_pair() -> None:
    """The README's one-liner works anywhere, and says what it used."""
    done = run("compare", "--losses", "dice,tversky")
    assert done.returncode == 0, done.stderr
    assert "sample pair" in done.stderr
    assert "tversky" in done.stdout


def test_compare_ranks_several_predictions(folder: Path) -> None:
    """The better probability map is first by every measure."""
    done = run(
        "compare",
        folder / "prob.npy",
        folder / "prob2.npy",
        folder / "gt.npy",
        "--losses",
        "dice,bce",
        "-m",
        "dice,hd",
        "-f",
        "json",
    )
    rankings = json.loads(done.stdout)["rankings"]
    assert len(rankings) == 4
    assert all(r["order"][0] == [str(folder / "prob2.npy")] for r in rankings)


def test_a_stack_is_scored_image_by_image(tmp_path: Path) -> None:
    """`--stack` makes the first axis cases; each equals the image scored alone."""
    rng = np.random.default_rng(5)
    gt, pred = (rng.random((3, 12, 15)) > 0.5).astype(np.uint8), (rng.random((3, 12, 15)) > 0.4).astype(np.uint8)
    np.save(tmp_path / "gt.npy", gt)
    np.save(tmp_path / "pred.npy", pred)
    done = run("score", tmp_path / "pred.npy", tmp_path / "gt.npy", "--stack", "-f", "json")
    cases = json.loads(done.stdout)["cases"]
    assert [c["case"] for c in cases] == ["pred[0]", "pred[1]", "pred[2]"]
    for index, case in enumerate(cases):
        alone = segcli.score(pred[index], gt[index])
        assert [v["value"] for v in case["values"]] == [v.value for v in alone.values]
    assert "--stack" in run("score", tmp_path / "pred.npy", tmp_path / "gt.npy").stderr


def test_kernels_work_where_nothing_can_be_written(folder: Path, tmp_path: Path) -> None:
    """With an unwritable home and cache the kernels compile in memory or a private folder, and say so once."""
    done = run(
        "score", folder / "pred.npy", folder / "gt.npy", "-m", "hd", "-f", "json",
        HOME="/proc/nowhere", XDG_CACHE_HOME="/proc/nowhere", SEGCLI_CACHE_DIR="/proc/nowhere", TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cases"][0]["values"][0]["value"] == 2.0
    assert "compiling kernels" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_stdout_that_is_full_is_no_bug() -> None:
    """It is 2, as for an output file that cannot be written: 70 would say that a traceback was saved."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "segcli", "catalog"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "error: cannot write the result: No space left on device.\n")
