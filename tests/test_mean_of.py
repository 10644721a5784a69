"""The mean row: what it is of, in every output, and nnU-Net's mean, which is another one."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import segcli
from made_runs import read_run

import segcli as library
from segcli.errors import UsageError

LABELS = "core=1,rim=2,whole=1+2"


def masks(case: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a ground truth of two labels; label 2 is in neither of case 1."""
    gt = np.zeros((6, 10), np.uint8)
    gt[1:3, 1:5] = 1
    pred = np.zeros_like(gt)
    pred[1:3, 1:5] = 1
    if case != 1:
        gt[4, 2:6] = 2  # missed altogether in case 0, half of it in case 2
    if case == 2:
        pred[4, 2:4] = 2
    return pred, gt


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("mean")
    for side in ("pred", "gt"):
        (where / side).mkdir()
    for case in range(3):
        for side, array in zip(("pred", "gt"), masks(case), strict=True):
            np.save(where / side / f"c{case}.npy", array)
    return where


def nanmean(values: list[float]) -> float:
    told = [v for v in values if not math.isnan(v)]
    return sum(told) / len(told) if told else math.nan


def summary_json(where: Path, labels: dict[str, list[int]]) -> dict[str, Any]:
    """Return what nnU-Net writes of the folders: counts, nanmeans over cases, and the mean of those."""
    cases = []
    for case in range(3):
        pred, gt = masks(case)
        metrics = {}
        for name, values in labels.items():
            p, g = np.isin(pred, values), np.isin(gt, values)
            tp, fp, fn = int((p & g).sum()), int((p & ~g).sum()), int((~p & g).sum())
            size = tp + fp + fn
            metrics[name] = {
                "Dice": 2 * tp / (2 * tp + fp + fn) if size else math.nan, "IoU": tp / size if size else math.nan,
                "TP": tp, "FP": fp, "FN": fn, "TN": int(p.size - size), "n_ref": tp + fn, "n_pred": tp + fp,
            }  # fmt: skip
        cases.append({"metrics": metrics, "prediction_file": f"pred/c{case}.npy", "reference_file": f"gt/c{case}.npy"})
    words = list(cases[0]["metrics"][next(iter(labels))])
    mean = {n: {w: nanmean([c["metrics"][n][w] for c in cases]) for w in words} for n in labels}
    told = {w: float(np.mean([mean[n][w] for n in labels if n != "0"])) for w in words}
    found = {"foreground_mean": told, "mean": mean, "metric_per_case": cases}
    (where / "summary.json").write_text(json.dumps(found))
    return found


def mean_row(run: dict[str, Any], measure: str = "dice") -> dict[str, Any]:
    return next(s for s in run["summary"] if (s["label"], s["measure"]) == ("mean", measure))


# --- what it is of ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "asked", "of"),
    [
        (LABELS, None, ("core", "rim")),
        ("whole=1+2,rim_or=2+3", None, ("whole", "rim_or")),  # regions only: of them
        (LABELS, "whole,core", ("whole", "core")),
        (LABELS, "1+2,2", ("whole", "rim")),  # by their values
        (LABELS, "whole", ("whole",)),
        ("core=1,whole=1+2", None, ("core",)),
        (None, None, ("1", "2")),
        (None, ["2", "1"], ("2", "1")),
    ],
)
def test_the_mean_is_of_labels_else_of_regions_else_of_what_is_named(labels, asked, of) -> None:
    """By hand: Dice 1 of core, 2/3 of rim, 20/22 of whole; a mean of one is there where it is asked for."""
    pred, gt = masks(2)
    by_hand = {"core": 1, "1": 1, "rim": 2 / 3, "2": 2 / 3, "rim_or": 2 / 3, "whole": 20 / 22}
    case = library.score(pred, gt, metrics="dice", losses="dice", labels=labels, mean_of=asked)
    assert case.mean_of.names == of
    assert case.value("metric.dice", "mean") == pytest.approx(np.mean([by_hand[name] for name in of]))
    if asked is not None:
        each = [case.value("loss.dice", name) for name in of]
        assert case.value("loss.dice", "mean") == pytest.approx(np.mean(each))


@pytest.mark.parametrize("asked", ["liver", "core,liver", "3", "", " ", "core,,rim", "all", "background", "mean", []])
def test_a_mean_of_what_is_not_there_is_bad_usage(asked, folders) -> None:
    """Exit 2 with the labels that are there, before anything is scored where --labels says so."""
    pred, gt = masks()
    with pytest.raises(UsageError, match="mean-of"):
        library.score(pred, gt, labels=LABELS, mean_of=asked)
    with pytest.raises(UsageError, match="mean-of"):
        library.evaluate(folders / "pred", folders / "gt", labels=LABELS, mean_of=asked, jobs=1).to_dict()
    if isinstance(asked, str):
        for call in (("score", "pred/c0.npy", "gt/c0.npy"), ("evaluate", "pred", "gt", "-j1")):
            for labels in ((), ("--labels", LABELS)):
                done = segcli(*call, *labels, "--mean-of", asked, cwd=folders)
                assert done.returncode == 2, done.stdout
                assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("--labels", LABELS), "mean of core, rim"),
        (("--labels", "whole=1+2,rim_or=2+3"), "mean of whole, rim_or"),
        (("--labels", LABELS, "--mean-of", "whole,rim"), "mean of whole, rim"),
        ((), "mean of 1, 2"),
    ],
)
def test_every_output_says_of_what(folders, call, text) -> None:
    """Tables, Markdown, CSV, LaTeX and JSON of one case and of several."""
    names = text.removeprefix("mean of ").split(", ")
    for form in ("table", "md", "csv", "json"):
        one = segcli("score", "pred/c2.npy", "gt/c2.npy", "-m", "dice", *call, "-f", form, cwd=folders)
        assert one.returncode == 0, one.stderr
        if form == "json":
            (row,) = json.loads(one.stdout)["summary"]
            assert row["mean_of"] == names
        elif form == "csv":
            rows = list(csv.DictReader(io.StringIO(one.stdout)))
            assert [r["why"] for r in rows if r["label"] == "mean"] == [text]
        else:
            assert text in one.stdout.replace("\\", "").replace("&#95;", "_")
    for form in ("table", "md", "latex", "json"):
        many = segcli("evaluate", "pred", "gt", "-j1", "-m", "dice", *call, "-f", form, cwd=folders)
        assert many.returncode == 0, many.stderr
        if form == "json":
            assert mean_row(json.loads(many.stdout))["mean_of"] == names
        else:
            assert text.lower() in many.stdout.replace("\\", "").replace("&#95;", "_").lower()


def test_gate_and_diff_take_the_mean_of_the_run(folders, tmp_path) -> None:
    """Over regions alone there was no row; a run of other labels is not compared."""
    of_regions = ("--labels", "whole=1+2,rim_or=2+3")
    for name, call in (
        ("r", of_regions),
        ("m", ("--labels", LABELS, "--mean-of", "whole")),
        ("p", ("--labels", LABELS)),
    ):
        done = segcli(
            "evaluate", "pred", "gt", "-j1", "-m", "dice", *call, "-o", tmp_path / f"{name}.json", cwd=folders
        )
        assert done.returncode == 0, done.stderr
    whole = [16 / 20, 1, 20 / 22]
    run = json.loads((tmp_path / "r.json").read_text())
    expected = np.mean([(whole[0] + 0) / 2, whole[1], (whole[2] + 2 / 3) / 2])
    assert mean_row(run)["mean"] == pytest.approx(expected)
    done = segcli("gate", tmp_path / "r.json", "--min", "mean/dice=0.5", "-f", "json")
    found = json.loads(done.stdout)
    assert found["verdicts"][-1]["value"] == pytest.approx(expected)
    assert found["mean_of"] == "mean of whole, rim_or"
    done = segcli("gate", tmp_path / "m.json", "--min", "mean/dice=0.5", "-f", "json")
    assert json.loads(done.stdout)["verdicts"][-1]["value"] == pytest.approx(np.mean(whole))
    done = segcli("diff", tmp_path / "r.json", tmp_path / "r.json", "-f", "json")
    (row,) = [r for r in json.loads(done.stdout)["rows"] if r["label"] == "mean"]
    assert (row["mean_of"], row["a"]["mean"]) == ("mean of whole, rim_or", pytest.approx(expected))
    refused = segcli("diff", tmp_path / "m.json", tmp_path / "p.json")
    assert refused.returncode == 3
    assert "mean_of" in refused.stderr


# --- nnU-Net's ----------------------------------------------------------------------------------------

#: Label 1 has Dice 1, 1, 1; label 2 has 0, nothing, 2/3: means 1 and 1/3. Means of the cases: 1/2, 1, 5/6.
BY_LABEL, BY_CASE = (1 + 1 / 3) / 2, (1 / 2 + 1 + 5 / 6) / 3


def test_the_mean_of_nnunet_is_over_labels(folders, tmp_path) -> None:
    """Of evaluate --convention nnunet, and of every reader of its summary.json: the file's foreground_mean."""
    told = summary_json(tmp_path, {"1": [1], "2": [2]})
    assert told["foreground_mean"]["Dice"] == pytest.approx(BY_LABEL)
    run = library.evaluate(folders / "pred", folders / "gt", metrics="dice,iou", convention="nnunet", jobs=1).to_dict()
    row = mean_row(run)
    assert (row["mean"], row["mean_of"], row["by_label"]) == (pytest.approx(BY_LABEL), ["1", "2"], True)
    assert (row["ci"], row["sd"], row["median"]) == (None, None, None)
    assert mean_row(run, "iou")["mean"] == pytest.approx(told["foreground_mean"]["IoU"])
    plain = library.evaluate(folders / "pred", folders / "gt", metrics="dice", jobs=1).to_dict()
    assert mean_row(plain)["mean"] == pytest.approx(BY_CASE)
    weighted = library.evaluate(
        folders / "pred", folders / "gt", metrics="dice", convention="nnunet", average="weighted", jobs=1
    ).to_dict()
    assert "by_label" not in mean_row(weighted)
    (tmp_path / "run.json").write_text(json.dumps(run))
    for name in ("summary.json", "run.json"):
        path = tmp_path / name
        assert mean_row(read_run(path))["mean"] == pytest.approx(BY_LABEL)
        for limit, code in ((BY_LABEL - 0.001, 0), (BY_LABEL + 0.001, 1), (BY_CASE, 1)):
            done = segcli("gate", path, "--min", f"mean/dice={limit}")
            assert done.returncode == code
            assert "mean of 1, 2: of each one's mean over cases, nnU-Net's foreground_mean" in done.stdout
        found = json.loads(segcli("diff", path, path, "-f", "json").stdout)
        (row,) = [r for r in found["rows"] if (r["label"], r["measure"]) == ("mean", "dice")]
        assert (row["a"]["mean"], row["b"]["mean"]) == (pytest.approx(BY_LABEL),) * 2
        assert (row["mean"], row["ci"], row["p"]) == (0, None, None)
        assert "foreground_mean" in row["mean_of"]
        for form in ("table", "md", "latex", "csv"):
            assert "mean of 1, 2: of each" in segcli("diff", path, path, "-f", form).stdout.replace("Mean", "mean")
        assert "nnU-Net's foreground_mean" in segcli("cite", path).stdout
    report = tmp_path / "junit.xml"
    segcli("gate", tmp_path / "summary.json", "--min", "mean/dice=0.9", "-f", "junit", "-o", report)


def test_regions_count_in_nnunets_mean_and_the_background_does_not(tmp_path) -> None:
    """Of region-based training all regions do; a label that no case has makes it NaN, which no limit is kept by."""
    told = summary_json(tmp_path, {"0": [0], "(1, 2)": [1, 2], "2": [2]})
    run = read_run(tmp_path / "summary.json")
    assert mean_row(run)["mean_of"] == ["1+2", "2"]
    assert mean_row(run)["mean"] == pytest.approx(told["foreground_mean"]["Dice"])
    told = summary_json(tmp_path, {"1": [1], "7": [7]})
    assert math.isnan(told["foreground_mean"]["Dice"])
    assert mean_row(read_run(tmp_path / "summary.json"))["mean"] is None
    done = segcli("gate", tmp_path / "summary.json", "--min", "mean/dice=0")
    assert done.returncode == 1
    assert "undefined" in done.stdout


def test_a_part_of_the_cases_has_a_mean_of_its_own(tmp_path) -> None:
    """With `where` the means of the labels are over those cases: case 1 has label 1 alone."""
    summary_json(tmp_path, {"1": [1], "2": [2]})
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[gate]]\nmeasure = "dice"\nlabel = "mean"\nmin = 0.4\nwhere = { case = "c[02]" }\n'
        '[[gate]]\nid = "median"\nmeasure = "dice"\nlabel = "mean"\nstat = "median"\nmin = 0.8\n'
    )
    done = segcli("gate", tmp_path / "summary.json", "--rules", rules, "-f", "json")
    values = [v["value"] for v in json.loads(done.stdout)["verdicts"] if v.get("measure") == "dice"]
    assert values == [pytest.approx((1 + 1 / 3) / 2), pytest.approx(5 / 6)]
    rules.write_text('[[gate]]\nmeasure = "dice"\nlabel = "mean"\nstat = "ci_low"\nmin = 0.4\n')
    assert segcli("gate", tmp_path / "summary.json", "--rules", rules).returncode == 2


def test_the_two_means_are_not_compared(folders, tmp_path) -> None:
    """Labels are; the row of means is left out of `diff` with a sentence, and refused by a drop of it."""
    summary_json(tmp_path, {"1": [1], "2": [2]})
    done = segcli("evaluate", "pred", "gt", "-j1", "-m", "dice", "-o", tmp_path / "run.json", cwd=folders)
    assert done.returncode == 0
    run = json.loads((tmp_path / "run.json").read_text())
    assert mean_row(run)["mean"] == pytest.approx(BY_CASE)
    done = segcli("diff", tmp_path / "run.json", tmp_path / "summary.json")
    assert "mean: not compared, as A has the mean of 1, 2 and B the mean of 1, 2: of each" in done.stdout
    rules = tmp_path / "rules.toml"
    rules.write_text('[[gate]]\nmeasure = "dice"\nlabel = "mean"\nmax_drop = 0.1\n')
    done = segcli("gate", tmp_path / "run.json", "--rules", rules, "--baseline", tmp_path / "summary.json")
    assert done.returncode == 3
    assert "foreground_mean" in done.stderr


def version_1() -> dict[str, Any]:
    """Return a summary of nnU-Net 1 as its evaluator writes it: strings as labels, NaN, the names of its measures."""
    one = {"Accuracy": 0.9, "Dice": 0.8, "False Positive Rate": 0.1, "Jaccard": 2 / 3, "Precision": 0.75, "Recall": 0.9,
           "True Negative Rate": 0.9, "Total Positives Reference": 10, "Total Positives Test": 12.0,
           "Hausdorff Distance 95": 4.0}  # fmt: skip
    none = dict.fromkeys(one, math.nan) | {
        "Total Positives Reference": 0, "Total Positives Test": 0, "Accuracy": 1.0, "True Negative Rate": 1.0,
        "False Positive Rate": 0.0,
    }  # fmt: skip
    zero = one | {"Dice": 0.0, "Jaccard": 0.0, "Precision": math.nan, "Recall": 0.0, "Total Positives Test": 0}
    everything = [
        {"0": one, "1": one, "2": zero, "reference": "/d/labelsTs/a.nii.gz", "test": "/d/out/a.nii.gz"},
        {"0": one, "1": one, "2": none, "reference": "/d/labelsTs/b.nii.gz", "test": "/d/out/b.nii.gz"},
    ]
    means = {label: {"Dice": nanmean([c[label]["Dice"] for c in everything])} for label in "012"}
    return {
        "author": "Fabian", "description": "", "id": "abc", "name": "nnUNet",
        "results": {"all": everything, "mean": means}, "task": "Task002_Heart", "timestamp": "2020-05-01 10:00:00",
    }  # fmt: skip


def test_a_summary_of_version_1_is_a_run(tmp_path) -> None:
    """Its values under our names, the mean over labels but the background; it has no counts to pool."""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(version_1()))
    run = read_run(path)
    assert [c["case"] for c in run["cases"]] == ["a", "b"]
    values = {(v["label"], v["measure"]): v for v in run["cases"][1]["values"]}
    assert values["1", "dice"]["value"] == 0.8
    assert values["1", "sensitivity"]["value"] == 0.9
    assert values["1", "iou"]["value"] == pytest.approx(2 / 3)
    assert values["1", "fpr"]["value"] == 0.1
    assert (values["2", "dice"]["value"], values["2", "dice"]["why"]) == (None, "both_empty")
    assert values["2", "specificity"]["value"] == 1
    assert mean_row(run)["mean"] == pytest.approx((0.8 + 0.0) / 2)
    assert mean_row(run)["mean_of"] == ["1", "2"]
    assert segcli("gate", path, "--min", "mean/dice=0.39").returncode == 0
    assert segcli("gate", path, "--min", "mean/dice=0.41").returncode == 1
    assert segcli("gate", path, "--min", "1/sensitivity=0.9").returncode == 0
    done = segcli("diff", path, path)
    assert done.returncode == 0, done.stderr
    assert segcli("rank", f"x={path}", f"y={path}").returncode == 0
    assert segcli("cite", path).returncode == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s["results"].update(all={}), "results.all is no list"),
        (lambda s: s["results"]["all"].append([1]), "names no file"),
        (lambda s: s["results"]["all"][0].update({"1": 3}), "no metrics"),
        (lambda s: s["results"]["all"][0].update({"liver": {}}), "neither a label nor a region"),
        (lambda s: s["results"]["all"][0]["1"].update(Dice="x"), "no finite number"),
        (lambda s: s["results"]["all"][0]["1"].update(Dice=math.inf), "no finite number"),
        (lambda s: s["results"]["all"].append(s["results"]["all"][0]), "there twice"),
    ],
)
def test_a_damaged_summary_of_version_1_is_one_line(tmp_path, change, word) -> None:
    """Exit 3, what is wrong, no traceback."""
    found = version_1()
    change(found)
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(found))
    done = segcli("gate", path, "--min", "dice=0.1")
    assert done.returncode == 3
    assert word in done.stderr


def test_a_folder_given_twice_is_suspected_once(folders) -> None:
    """Perfect values in every case: a sentence under the table, a warning beside the forms that have none."""
    for form in ("table", "md", "csv", "json", "latex"):
        done = segcli("evaluate", "gt", "gt", "-j1", "-m", "dice,hd", "-f", form, cwd=folders)
        assert (done.stdout + done.stderr).count("is one folder given as both?") == 1
        other = segcli("evaluate", "pred", "gt", "-j1", "-m", "dice,hd", "-f", form, cwd=folders)
        assert "given as both" not in other.stdout + other.stderr
