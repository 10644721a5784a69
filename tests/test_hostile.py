"""Hostile files of runs, shards, journals, manifests and folders: one line, the documented code, no wrong number."""

from __future__ import annotations

import copy
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import process, segcli
from runfiles import dice_run

from segcli.cohort.pairing import read_manifest
from segcli.errors import InputError
from segcli.masks.labels import parse_labels
from segcli.run.json_text import json_lines
from segcli.text import read_text

Run = dict[str, Any]


def mask() -> np.ndarray:
    found = np.zeros((8, 8), dtype=np.uint8)
    found[2:5, 2:5] = 1
    return found


def folders(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
        for name in names:
            np.save(tmp_path / side / name, mask())
    return tmp_path / "pred", tmp_path / "gt"


def refused(code: int, *arguments: object, cwd: Path | None = None) -> str:
    """Run a call that must fail with this code; return its one line."""
    done = segcli(*arguments, cwd=cwd)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert (done.returncode, len(errors), done.stdout) == (code, 1, ""), done.stderr
    return errors[0]


# --- run files --------------------------------------------------------------------------------------


def first(run: Run) -> Run:
    return run["cases"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("break_", "word"),
    [
        (lambda r: first(r).update(spacing="abc"), "spacing"),
        (lambda r: first(r).update(spacing=[None, 1, 1]), "spacing"),
        (lambda r: first(r).update(spacing=[0, 1, 1]), "spacing"),
        (lambda r: first(r).update(spacing=[1.0, 1.0]), "axes"),
        (lambda r: first(r).update(shape="x"), "shape"),
        (lambda r: first(r).update(unit=5), "unit"),
        (lambda r: first(r).update(gt=None), "gt"),
        (lambda r: first(r).update(regions=[{}]), "regions"),
        (lambda r: first(r)["values"][0].update(value=10**400), "finite"),
        (lambda r: first(r)["values"][0].update(value=1e200), "finite"),
        (lambda r: first(r)["values"].append(first(r)["values"][0]), "two values"),
        (lambda r: first(r).update(counts={"organ": {"tp": -5, "fp": 0, "fn": 0, "tn": 0}}), "counts"),
        (lambda r: first(r).update(counts={"organ": {"tp": 1.5, "fp": 0, "fn": 0, "tn": 0}}), "counts"),
        (lambda r: r["spec"].update(labels=[1]), "labels"),
        (lambda r: r["spec"].update(threshold="x"), "threshold"),
        (lambda r: r.update(environment=[]), "environment"),
        (lambda r: r.update(summary=[SUMMARY | {"seed": "x"}]), "seed"),
        (lambda r: r.update(summary=[SUMMARY | {"resamples": -5}]), "resamples"),
        (lambda r: r.update(summary=[SUMMARY | {"ci_level": "x"}]), "ci_level"),
    ],
)
def test_a_broken_run_is_refused_by_all_that_read_runs(
    tmp_path: Path, break_: Callable[[Run], object], word: str
) -> None:
    """Exit 3 and what is wrong, in every command; nothing is computed from the rest."""
    good = dice_run(a=0.5, b=0.25)
    bad = copy.deepcopy(good)
    break_(bad)
    for name, run in (("good", good), ("bad", bad)):
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    for words in (
        ("gate", "bad.json", "--min", "dice=0.1"),
        ("gate", "good.json", "--baseline", "bad.json"),
        ("diff", "bad.json", "good.json"),
        ("rank", "good.json", "bad.json"),
        ("cite", "bad.json"),
        ("conventions", "--empty", "bad.json"),
    ):
        assert word in refused(3, *words, cwd=tmp_path)


SUMMARY = {"label": "organ", "kind": "metric", "measure": "dice", "over": "cases", "mean": 0.5}


@pytest.mark.parametrize(
    ("key", "metrics", "word"),
    [
        ("2", {"Dice": 0.5, "TP": 1.5, "FP": 1, "FN": 1, "TN": 5}, "TP"),
        ("2", {"Dice": 0.5, "TP": 1, "FP": -1, "FN": 1, "TN": 5}, "FP"),
        ("(1)", {"Dice": 0.5, "TP": 1, "FP": 1, "FN": 1, "TN": 5}, "label twice"),
    ],
)
def test_a_summary_of_nnunet_that_cannot_be(tmp_path: Path, key: str, metrics: Run, word: str) -> None:
    """Counts that are none, one label under two keys, one file twice."""
    one = {"Dice": 0.5, "TP": 1, "FP": 1, "FN": 1, "TN": 5}
    case = {"prediction_file": "p/a.nii.gz", "reference_file": "g/a.nii.gz", "metrics": {"1": one}}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"metric_per_case": [{**case, "metrics": {"1": one, key: metrics}}]}))
    assert word in refused(3, "gate", path, "--min", "dice=0.1")
    path.write_text(json.dumps({"metric_per_case": [case, case]}))
    assert "is there twice" in refused(3, "gate", path, "--min", "dice=0.1")


def test_a_limit_of_400_digits_is_no_number(tmp_path: Path) -> None:
    """An integer of TOML may be larger than any float."""
    (tmp_path / "run.json").write_text(json.dumps(dice_run(a=0.5)))
    (tmp_path / "r.toml").write_text(f"[[gate]]\nmeasure = 'dice'\nmin = {'9' * 400}\n")
    assert "min = 999" in refused(2, "gate", "run.json", "--rules", "r.toml", cwd=tmp_path)


# --- shards and journals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "break_",
    [
        lambda s: s.pop("spec"),
        lambda s: s.update(spec=3),
        lambda s: s.pop("records"),
        lambda s: s.update(records=[1]),
        lambda s: s.update(records=[{}]),
        lambda s: s["records"][0].pop("labels"),
        lambda s: s["records"][0].update(values=None),
        lambda s: s["records"][0].update(pred={}),
        lambda s: s.update(shard="x"),
        lambda s: s.update(shard=[]),
        lambda s: s.update(shard=[0, 2]),
        lambda s: s.update(missing=[1]),
        lambda s: s.update(groups=[]),
    ],
)
def test_a_damaged_shard_is_refused(shards: list[Run], tmp_path: Path, break_: Callable[[Run], object]) -> None:
    """Exit 3 and which file it is."""
    bad = copy.deepcopy(shards[0])
    break_(bad)
    for i, shard in enumerate([bad, shards[1]], start=1):
        (tmp_path / f"{i}.json").write_text(json.dumps(shard))
    assert refused(3, "evaluate", "--merge", "1.json", "2.json", cwd=tmp_path).startswith("error: 1.json: ")


def test_a_shard_with_nan_is_refused(shards: list[Run], tmp_path: Path) -> None:
    """It is no JSON that segcli writes."""
    shards = copy.deepcopy(shards)
    shards[0]["records"][0]["values"][0]["value"] = float("nan")
    for i, shard in enumerate(shards, start=1):
        (tmp_path / f"{i}.json").write_text(json.dumps(shard))
    refused(3, "evaluate", "--merge", "1.json", "2.json", cwd=tmp_path)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("shards")
    pred, gt = folders(folder, "a.npy", "b.npy")
    for i in (1, 2):
        words = ("-m", "dice", "-j", "1", "--shard", f"{i}/2", "-o", folder / f"{i}.json")
        assert segcli("evaluate", pred, gt, *words).returncode == 0
    return [json.loads((folder / f"{i}.json").read_text()) for i in (1, 2)]


@pytest.mark.parametrize(
    "line",
    ['{"case":"a"}', '{"case":[1]}', '{"case":"a","files":3,"records":5}', '{"case":"a","files":{},"records":[]}'],
)
def test_a_line_of_a_journal_that_is_no_case_is_scored_again(tmp_path: Path, line: str) -> None:
    """What cannot be used is not believed: the run is that of an empty journal."""
    pred, gt = folders(tmp_path, "a.npy")
    words = ("evaluate", pred, gt, "-m", "dice", "-j", "1", "-o", tmp_path / "run.json")
    assert segcli(*words).returncode == 0
    expected = (tmp_path / "run.json").read_text().splitlines()
    journal = tmp_path / "run.json.journal"
    journal.write_text(f"{journal.read_text().splitlines()[0]}\n{line}\n")
    assert segcli(*words, "--resume").returncode == 0
    found = (tmp_path / "run.json").read_text().splitlines()
    assert [x for x in found if '"environment"' not in x] == [x for x in expected if '"environment"' not in x]


# --- files ------------------------------------------------------------------------------------------


def test_composed_and_decomposed_letters_are_one_name(tmp_path: Path) -> None:
    """MacOS writes the second; the case has the first."""
    pred, gt = folders(tmp_path)
    np.save(pred / "e\u0301.npy", mask())
    np.save(gt / "\u00e9.npy", mask())
    done = segcli("evaluate", pred, gt, "-m", "dice", "-j", "1", "-f", "json")
    assert [case["case"] for case in json.loads(done.stdout)["cases"]] == ["\u00e9"]


def test_a_link_to_nowhere_is_a_case_that_fails(tmp_path: Path) -> None:
    """A data set whose files were not fetched: on both sides the case would else be gone without a word."""
    pred, gt = folders(tmp_path, "a.npy")
    for side in (pred, gt):
        (side / "b.npy").symlink_to("annex/b.npy")
        (side / "loop.npy").symlink_to("loop.npy")
    (pred / "up").symlink_to("..")
    done = segcli("evaluate", pred, gt, "-m", "dice", "-j", "1", "-f", "json")
    assert done.returncode == 4
    assert [error["case"] for error in json.loads(done.stdout)["errors"]] == ["b", "loop"]


def test_a_manifest_with_semicolons(tmp_path: Path) -> None:
    """As spreadsheets write it where the comma is the decimal point; commas in a header win."""
    folders(tmp_path, "a.npy")
    table = tmp_path / "m.csv"
    table.write_bytes("\ufeffcase;pred;gt;site\r\na;pred/a.npy;gt/a.npy;x,y\r\n".encode())
    done = segcli("evaluate", "--manifest", table, "-m", "dice", "-j", "1", "-f", "json")
    assert json.loads(done.stdout)["cases"][0]["group"] == {"site": "x,y"}
    table.write_text("case,pred;x,gt\na,pred/a.npy,gt/a.npy\n")
    assert "column pred is missing" in refused(3, "evaluate", "--manifest", table)


def test_a_cell_that_is_too_long(tmp_path: Path) -> None:
    """The reader of tables has a limit; it is told with the line."""
    table = tmp_path / "m.csv"
    table.write_text("case,pred,gt\n" + "a" * 200_000 + ",p,g\n")
    assert "line 2" in refused(3, "evaluate", "--manifest", table)


# --- files without an end ------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device there")
@pytest.mark.parametrize(
    ("call", "code"),
    [
        (["--config", "/dev/zero", "catalog", "dice"], 2),
        (["gate", "run.json", "--rules", "/dev/zero"], 2),
        (["gate", "/dev/zero", "--min", "dice=0"], 3),
        (["diff", "/dev/zero", "/dev/zero"], 3),
        (["cite", "/dev/zero"], 3),
        (["evaluate", "--manifest", "/dev/zero"], 3),
        (["evaluate", "--merge", "/dev/zero"], 3),
        (["score", "a.npy", "a.npy", "--labels", "endless.csv"], 3),
        (["score", "a.npy", "a.npy", "--colors", "/dev/zero"], 3),
        (["score", "/dev/zero", "a.npy"], 3),
    ],
    ids=str,
)
def test_a_device_is_refused(tmp_path: Path, call: list[str], code: int) -> None:
    """In a second and in little memory, with one line that names it."""
    (tmp_path / "endless.csv").symlink_to("/dev/zero")
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.uint8))
    (tmp_path / "run.json").write_text("{}")
    bound = lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    done = subprocess.run(
        [sys.executable, "-m", "segcli", *call], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=bound,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "memory" not in done.stderr
    assert ("/dev/zero" in done.stderr) or ("endless.csv" in done.stderr)


def test_a_configuration_out_of_a_pipe_is_bounded(tmp_path: Path) -> None:
    """`--config <(command)` is fine, without an end it is refused."""
    path = tmp_path / "big.toml"
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(OSError, match="larger than"):
        read_text(path)
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\n")
    assert read_text(path) == "a = 1\nb = 2\n"


@pytest.mark.parametrize("layout", ["lines", "one line"])
@pytest.mark.parametrize("command", ["gate", "diff", "rank"])
def test_a_key_that_stands_twice_in_a_run_is_refused(tmp_path: Path, command: str, layout: str) -> None:
    """A gate must not pass on the one of two values that its reader happens to keep."""
    run = dice_run(a=0.2)
    text = "".join(json_lines(run.items())) if layout == "lines" else json.dumps(run)
    assert text.count('"value": 0.2') == 1
    twice = tmp_path / "twice.json"
    twice.write_text(text.replace('"value": 0.2', '"value": 0.2, "value": 0.9'))
    call = {
        "gate": [twice, "--min", "dice=0.5"],
        "diff": [twice, twice],
        "rank": [f"a={twice}", f"b={twice}", "-m", "dice"],
    }[command]
    done = segcli(command, *call)
    assert done.returncode == 3, done.stdout + done.stderr
    assert '"value" stands twice in one object' in done.stderr


def test_a_label_that_stands_twice_in_a_file_of_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text('{"labels": {"background": 0, "liver": 1, "liver": 2}}')
    with pytest.raises(InputError, match='"liver" stands twice'):
        parse_labels(str(path))


def test_measures_are_the_same_without_docstrings(tmp_path: Path) -> None:
    """PYTHONOPTIMIZE=2 strips what names and explains a measure; it is read from the source then."""
    np.save(tmp_path / "a.npy", np.eye(6, dtype=np.uint8))
    for call in (["catalog", "-f", "json"], ["score", "a.npy", "a.npy", "-m", "all", "-l", "all", "-f", "json"]):
        said = [process(*call, cwd=tmp_path, PYTHONOPTIMIZE=level) for level in ("0", "2")]
        assert [done.returncode for done in said] == [0, 0], said[1].stderr
        first, second = (json.loads(done.stdout) for done in said)
        for found in (first, second):
            if isinstance(found, dict):
                found.pop("environment", None)
        assert first == second


@pytest.mark.parametrize("threads", ["0", "-2", " 00 "])
def test_no_thread_for_numba_is_a_usage_error(tmp_path: Path, threads: str) -> None:
    np.save(tmp_path / "a.npy", np.eye(6, dtype=np.uint8))
    done = process("score", "a.npy", "a.npy", "-m", "hd95", cwd=tmp_path, NUMBA_NUM_THREADS=threads)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: NUMBA_NUM_THREADS is {threads.strip()}")


@pytest.mark.parametrize(
    "name", [b"b,c", b'd"q', b"e\xff", b"f\nl", b"g\rl", b"=g", b" h ", b"#i", "ü".encode(), b"\xef\xbb\xbfj"], ids=repr
)
def test_a_manifest_that_was_printed_is_read_back(tmp_path: Path, name: bytes) -> None:
    """`--dry-run -f csv` prints one; names may be any bytes."""
    for side in (b"pred", b"gt"):
        folder = os.path.join(os.fsencode(tmp_path), side)  # noqa: PTH118 (a Path takes no bytes)
        os.mkdir(folder)  # noqa: PTH102
        with open(os.path.join(folder, name + b".npy"), "wb") as file:  # noqa: PTH118, PTH123
            np.save(file, mask())
    for where, sides in ((tmp_path, ("pred", "gt")), (tmp_path / "pred", (".", "."))):
        printed = subprocess.run(
            [sys.executable, "-m", "segcli", "evaluate", *sides, "--dry-run", "-f", "csv"],
            cwd=where, capture_output=True, check=True,
        ).stdout  # fmt: skip
        (where / "manifest.csv").write_bytes(printed)
        pairing = read_manifest(where / "manifest.csv")
        assert [p.pred.read_bytes()[:6] for p in pairing.pairs] == [b"\x93NUMPY"]
        assert not pairing.missing
    done = subprocess.run(
        [sys.executable, "-m", "segcli", "evaluate", "--manifest", "manifest.csv", "-m", "dice", "-f", "csv"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"dice,1.0,ok") == 1


def test_a_manifest_in_utf16_is_refused(tmp_path: Path) -> None:
    """A spreadsheet's "Unicode text"."""
    (tmp_path / "m.csv").write_text("case,pred,gt\na,p.npy,g.npy\n", encoding="utf-16")
    with pytest.raises(InputError, match="no UTF-8 text"):
        read_manifest(tmp_path / "m.csv")
