"""Reading runs: what is taken, what is refused with one line, and nnU-Net's summaries as runs."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_runs import as_run, read_run
from runfiles import dice_run, run_of, write

from segcli.errors import InputError
from segcli.measure.notation import bind
from segcli.run.json_text import to_json
from segcli.run.reading import load_run

STORED = sorted((Path(__file__).parent / "golden" / "runs").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda p: p.stem)
def test_files_of_before_are_written_again_letter_by_letter(path: Path) -> None:
    """Files that `score` and `evaluate` wrote before runs were typed: groups, gaps, rules, limits, tables and parts."""
    text = path.read_text()
    run = load_run(path)
    again = to_json(run.to_dict()) if path.stem == "score" else run.to_json()
    assert again + "\n" == text
    assert json.loads(text) == run.to_dict()


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """A byte order mark and keys that this version does not know do no harm."""
    run = run_of({"a": {"organ": {"dice": 0.5, "hd95:surface=surfel": "pred_empty"}}}, missing=["b"], errors=["c"])
    run["later"] = {"more": 1}
    assert load_run(write(tmp_path / "run.json", run)) == as_run(run)
    kept = read_run(tmp_path / "run.json")
    assert {key: kept[key] for key in run if key not in ("later", "cases")} == {
        key: part for key, part in run.items() if key not in ("later", "cases")
    }
    assert [case | {"tables": []} for case in run["cases"]] == kept["cases"]
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(run).encode())
    assert load_run(str(tmp_path / "bom.json")) == as_run(run)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("{", ["JSON", "line 1"]),
        ('{"schema": "segcli.run/1",\n "spec": oops}', ["line 2"]),
        ("[]", ["no run"]),
        ("[" * 100_000, ["deep"]),
        ("{}", ["no schema"]),
        ('{"schema": "segcli.run/2"}', ["segcli.run/2", "segcli.run/1"]),
        ('{"schema": "segcli.run/1.5"}', ["segcli.run/1.5"]),
        ('{"schema": "segcli.compare/1"}', ["segcli.compare/1"]),
        ('{"schema": "segcli.shard/1"}', ["segcli.shard/1"]),
        ('{"schema": 1}', ["schema"]),
        ('{"schema": "segcli.run/1", "x": NaN}', ["NaN"]),
        ('{"schema": "segcli.run/1", "x": -Infinity}', ["-Infinity"]),
        ('{"schema": "segcli.run/1"}', ["spec"]),
        ('{"metric_per_case": {}}', ["metric_per_case"]),
        ('{"metric_per_case": [{}]}', ["names no file"]),
        ('{"metric_per_case": [{"prediction_file": "a.nii"}]}', ["no metrics"]),
    ],
    ids=lambda v: str(v)[:30],
)
def test_what_is_no_run_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    """The file is named, and what is wrong with it."""
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InputError) as problem:
        load_run(path)
    assert all(word in problem.value.message for word in ["run.json", *words]), problem.value.message
    assert "\n" not in problem.value.message


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("cases",), {}),
        (("cases", 0), 3),
        (("cases", 0, "case"), 3),
        (("cases", 0, "values"), None),
        (("cases", 0, "values", 0, "value"), "0.5"),
        (("cases", 0, "values", 0, "value"), True),
        (("cases", 0, "values", 0, "label"), 1),
        (("cases", 0, "values", 0, "unit"), 1),
        (("cases", 0, "group"), []),
        (("cases", 0, "group"), {"site": 1}),
        (("cases", 0, "labels"), []),
        (("cases", 0, "counts"), {"organ": {"tp": 1}}),
        (("cases", 0, "counts"), {"organ": {"tp": 1, "fp": 1, "fn": 1, "tn": None}}),
        (("cases", 1, "case"), "a"),
        (("missing",), [{"case": "a"}]),
        (("errors",), ["a"]),
        (("summary",), [{"label": "organ"}]),
        (("summary", 0, "mean"), "high"),
        (("summary", 0, "ci"), [0.1]),
        (("spec", "measures"), [1]),
        (("spec",), []),
    ],
    ids=str,
)
def test_a_run_of_another_shape_is_refused(tmp_path: Path, place: tuple[Any, ...], wrong: object) -> None:
    """What others read is checked once: a wrong type is an unusable file, never a traceback."""
    run = dice_run(a=0.5, b=0.7)
    run["summary"] = [{"label": "organ", "kind": "metric", "measure": "dice", "over": "cases", "mean": 0.6, "ci": None}]
    assert load_run(write(tmp_path / "good.json", run))
    broken: Any = copy.deepcopy(run)
    inner = broken
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = wrong
    with pytest.raises(InputError, match=r"run\.json"):
        load_run(write(tmp_path / "run.json", broken))


def test_a_number_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    """1e999 is valid JSON, and infinite."""
    path = write(tmp_path / "run.json", dice_run(a=0.125))
    path.write_text(path.read_text().replace("0.125", "1e999"))
    with pytest.raises(InputError, match="no finite number"):
        load_run(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Not there, a folder, not text."""
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "bytes.json"):
        with pytest.raises(InputError, match=path.name):
            load_run(path)


# --- nnU-Net -----------------------------------------------------------------------------------------------


def nnunet_metrics(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """Return what nnU-Net writes of one label: ratios of 0/0 are NaN."""
    nan = float("nan")
    return {
        "Dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else nan,
        "FN": fn,
        "FP": fp,
        "IoU": tp / (tp + fp + fn) if tp + fp + fn else nan,
        "TN": tn,
        "TP": tp,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }


def nnunet_summary() -> dict[str, Any]:
    cases = {
        "case_2": {"1": (40, 10, 10, 40), "(1, 2)": (10, 30, 30, 30)},
        "case_1": {"1": (0, 0, 0, 100), "(1, 2)": (0, 0, 5, 95)},
    }
    return {
        "foreground_mean": {"Dice": 0.4},
        "mean": {"1": {"Dice": 0.8}},
        "metric_per_case": [
            {
                "metrics": {label: nnunet_metrics(*counts) for label, counts in labels.items()},
                "prediction_file": f"/out/fold_0/{case}.nii.gz",
                "reference_file": f"/gt/{case}.nii.gz",
            }
            for case, labels in cases.items()
        ],
    }


def test_a_summary_of_nnunet_is_a_run(tmp_path: Path) -> None:
    """Names, regions, counts and values are taken over; NaN and null are undefined, both masks being empty."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(nnunet_summary()))
    assert "NaN" in path.read_text()
    run = read_run(path)
    assert [case["case"] for case in run["cases"]] == ["case_1", "case_2"]
    assert run["spec"]["labels"] == {"1": [1], "1+2": [1, 2]}
    first, second = run["cases"]
    assert first["counts"]["1"] == {"tp": 0, "fp": 0, "fn": 0, "tn": 100}
    values = {(v["label"], v["measure"]): (v["value"], v.get("why")) for v in first["values"]}
    assert values["1", "dice"] == (None, "both_empty")
    assert values["1+2", "dice"] == (0.0, None)
    assert values["1+2", "voxels_gt"] == (5, None)
    assert {v["label"]: v["value"] for v in second["values"] if v["measure"] == "dice"} == {"1": 0.8, "1+2": 0.25}
    mean = next(s for s in run["summary"] if (s["label"], s["measure"]) == ("1", "dice"))
    assert (mean["n"], mean["undefined"], mean["mean"], mean["pooled"]) == (1, 1, 0.8, 0.8)
    nulls = json.loads(path.read_text().replace("NaN", "null"))
    (tmp_path / "nulls.json").write_text(json.dumps(nulls))
    assert read_run(tmp_path / "nulls.json") == run


def test_cases_of_nnunet_keep_apart_what_folders_keep_apart(tmp_path: Path) -> None:
    """The same file name in two folders is two cases."""
    summary = nnunet_summary()
    for record, fold in zip(summary["metric_per_case"], "ab", strict=True):
        record["prediction_file"] = f"/out/{fold}/case.nii.gz"
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert [c["case"] for c in read_run(tmp_path / "summary.json")["cases"]] == ["a/case", "b/case"]


def test_numbers_of_nnunet_that_are_none_are_refused(tmp_path: Path) -> None:
    """Infinity, a text, a missing count."""
    for change in ({"Dice": float("inf")}, {"Dice": "0.8"}, {"TP": None}, {"TP": float("nan")}):
        summary = nnunet_summary()
        summary["metric_per_case"][0]["metrics"]["1"] |= change
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(InputError, match="case_2, label 1"):
            load_run(tmp_path / "summary.json")


def test_a_summary_of_nnunet_is_gated_and_compared(tmp_path: Path) -> None:
    """From a file and from stdin, beside another; beside a run of segcli it is refused."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(nnunet_summary()))
    segcli = write(tmp_path / "run.json", dice_run(case_1=0.8))

    def cli(*arguments: object, given: str | None = None) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "segcli", "gate", *map(str, arguments)],
            capture_output=True, text=True, input=given, check=False, env=os.environ,
        )  # fmt: skip

    assert cli(path, "--baseline", path, "--min", "1/dice=0.8").returncode == 0
    assert cli("-", "--min", "dice=0.8", given=path.read_text()).returncode == 1
    done = cli(path, "--baseline", segcli, "--min", "1/dice=0.8")
    assert done.returncode == 3
    assert "labels is 1=1,1+2=1+2 in the run and organ=1 in the baseline" in done.stderr


def test_centre_lines_of_older_runs_are_of_lee(tmp_path: Path) -> None:
    """`cldice` of a run from before meant another thinning: it is read under the name that it has now."""
    values = {"a": {"x": {"cldice": 0.5, "dice": 0.25, "loss.skeleton_recall:radius=1": 0.75, "loss.cldice": 0.5}}}
    run = run_of(values, summary=[{"label": "x", "kind": "metric", "measure": "cldice", "over": "cases", "mean": 0.5}])
    file = tmp_path / "run.json"
    for _ in range(2):  # what is read, written and read again is the same
        file.write_text(json.dumps(run))
        run = read_run(file)
        lines = "loss.skeleton_recall:radius=1:thinning=lee"
        assert run["spec"]["measures"] == ["metric.cldice:thinning=lee", "metric.dice", lines, "loss.cldice"]
        names = [f"{v['kind']}.{v['measure']}" for v in run["cases"][0]["values"]]
        assert names == run["spec"]["measures"]
        assert run["summary"][0]["measure"] == "cldice:thinning=lee"
        assert [bind(text).id for text in names] == names
