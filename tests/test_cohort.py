"""A cohort as one run: labels over the union of files, means, missing cases, shards, the run file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from cohorts import ball, cohort, same_runs, segcli, without_environment

import segcli as library
from segcli.cohort.collecting import in_shard
from segcli.errors import InputError, UsageError
from segcli.measure.record import measures
from segcli.scoring.empty import POLICIES
from segcli.scoring.means import AVERAGES

SCHEMA = json.loads(files("segcli").joinpath("schemas", "run.json").read_text())


def write(folder: Path, **pairs: tuple[Any, Any]) -> tuple[Path, Path]:
    """Write arrays as pairs of NPY files; `None` is no file."""
    sides = folder / "pred", folder / "gt"
    for side in sides:
        side.mkdir(parents=True, exist_ok=True)
    for name, arrays in pairs.items():
        for side, array in zip(sides, arrays, strict=True):
            if array is not None:
                np.save(side / f"{name}.npy", np.asarray(array))
    return sides


def values(run: dict[str, Any], case: str) -> dict[tuple[str, str], Any]:
    found = next(c for c in run["cases"] if c["case"] == case)
    return {(v["label"], v["measure"]): v["value"] for v in found["values"]}


def summary(run: dict[str, Any], label: str, measure: str, **group: str) -> dict[str, Any]:
    return next(s for s in run["summary"] if (s["label"], s["measure"], s.get("group", {})) == (label, measure, group))


SQUARE = np.zeros((12, 12), np.uint8)
SQUARE[2:8, 2:8] = 1


# --- labels -------------------------------------------------------------------------------------------


def test_a_cohort_is_binary_over_the_union(tmp_path):
    """0/1 against 0/255 is one label where it is so in every file."""
    folders = write(tmp_path, a=(SQUARE, 255 * SQUARE), b=(SQUARE, 0 * SQUARE), c=(0 * SQUARE, 255 * SQUARE))
    run = library.evaluate(*folders, metrics="dice", jobs=1).to_dict()
    assert [list(c["labels"].items()) for c in run["cases"]] == [[("foreground", "any")]] * 3
    assert [values(run, c)["foreground", "dice"] for c in "abc"] == [1, 0, 0]
    one = summary(run, "foreground", "dice")
    assert (one["missed"], one["false_alarms"], one["undefined"]) == (1, 1, 0)


@pytest.mark.parametrize("other", ["pred", "gt"])
def test_one_file_of_another_value_makes_values_literal(tmp_path, other):
    """Where one ground truth (or prediction) has 255, a 1 is no 255 in any case."""
    odd = (255 * SQUARE, SQUARE) if other == "pred" else (SQUARE, 255 * SQUARE)
    folders = write(tmp_path, a=(SQUARE, SQUARE), b=odd, c=(0 * SQUARE, 0 * SQUARE))
    run = library.evaluate(*folders, metrics="dice", jobs=1).to_dict()
    assert [list(c["labels"]) for c in run["cases"]] == [["1", "255"]] * 3
    assert values(run, "a") == {("1", "dice"): 1, ("255", "dice"): None}
    assert values(run, "b") == {("1", "dice"): 0, ("255", "dice"): 0}
    assert values(run, "c") == {("1", "dice"): None, ("255", "dice"): None}


def three_cases(folder: Path) -> tuple[Path, Path]:
    """Write cases that each lack labels of the others: 1 and 2, only 3, only 1, nothing."""
    two = SQUARE.copy()
    two[9:11, 9:11] = 2
    shifted = np.roll(two, 1, axis=0)
    three = 3 * np.roll(SQUARE, 2, axis=1)
    return write(
        folder,
        both=(shifted, two),
        three=(three, 3 * SQUARE),
        one=(np.roll(SQUARE, 1, axis=1), SQUARE),
        nothing=(0 * SQUARE, 0 * SQUARE),
    )


@pytest.mark.parametrize(("empty", "average"), list(zip(POLICIES, AVERAGES, strict=True)))
def test_labels_of_the_union_are_as_labels_that_are_named(tmp_path, empty, average):
    """Whatever a cohort's labels are found to be, every number is that of the same labels given by name.

    All metrics, a loss, every policy and average: of labels that a case lacks too.
    """
    names = [m.name for m in measures("metric") if m.reads != "probability"]
    folders = three_cases(tmp_path)
    options: dict[str, Any] = {
        "metrics": ",".join(names), "losses": "dice,bce", "empty": empty, "average": average, "jobs": 1,
    }  # fmt: skip
    found = library.evaluate(*folders, **options).to_dict()
    named = library.evaluate(*folders, labels="1,2,3", **options).to_dict()
    for ours, theirs in zip(found["cases"], named["cases"], strict=True):
        for key in ("labels", "counts", "values", "means", "tables"):
            assert ours[key] == theirs[key], (ours["case"], key)
    assert found["summary"] == named["summary"]


@pytest.mark.parametrize("average", AVERAGES)
def test_each_case_is_what_score_gives(tmp_path, average):
    """Values and means of a cohort with named labels are those of `score`, case by case."""
    folders = three_cases(tmp_path)
    options: dict[str, Any] = {"metrics": "dice,iou,hd95", "losses": "dice", "labels": "1,2,3,any=1+2+3"}
    run = library.evaluate(*folders, average=average, jobs=1, **options).to_dict()
    for case in run["cases"]:
        scored = library.score(*(f / f"{case['case']}.npy" for f in folders), average=average, **options)
        assert [v["value"] for v in case["values"]] == [v.value for v in scored.values]
        assert [(m["label"], m["measure"], m["value"], m["n"], m["of"]) for m in case["means"]] == [
            (m.label, m.measure, m.value, m.n, m.of) for m in scored.means
        ]
    for label in ("mean", "mean without background"):
        own = [m["value"] for c in run["cases"] for m in c["means"] if (m["label"], m["kind"]) == (label, "loss")]
        record = next(s for s in run["summary"] if (s["label"], s["kind"]) == (label, "loss"))
        assert record["mean"] == pytest.approx(np.mean([v for v in own if v is not None]))


def test_probability_maps_with_losses(tmp_path):
    """One map is of the foreground; several labels in the ground truths have no map of their own."""
    prob = (0.1 + 0.8 * SQUARE).astype(np.float32)
    folders = write(tmp_path, a=(prob, SQUARE), b=(prob, 0 * SQUARE))
    run = library.evaluate(*folders, metrics="dice", losses="bce", jobs=1).to_dict()
    inside, outside = -np.log(0.9), -np.log(0.1)  # every voxel is right by 0.9, or wrong by 0.9
    assert values(run, "a")["foreground", "bce"] == pytest.approx(inside, rel=1e-6)
    share = SQUARE.mean()
    assert values(run, "b")["foreground", "bce"] == pytest.approx(share * outside + (1 - share) * inside, rel=1e-6)
    write(tmp_path, c=(prob, 2 * SQUARE))
    with pytest.raises(InputError, match="one probability map, the ground truths have the labels 1, 2"):
        library.evaluate(*folders, metrics="dice", losses="bce", jobs=1).to_dict()
    every = library.evaluate(*folders, metrics="dice", labels="fg=any", jobs=1).to_dict()
    assert values(every, "c")["fg", "dice"] == 1


def test_channels_have_means_with_and_without_background(tmp_path):
    """The cohort's mean losses are over all channels, and over those of objects."""
    rng = np.random.default_rng(2)
    prob = rng.dirichlet(np.ones(3), (2, 9, 8)).transpose(0, 3, 1, 2).astype(np.float32)
    gt = rng.integers(0, 3, (2, 9, 8)).astype(np.uint8)
    folders = write(tmp_path, a=(prob[0], gt[0]), b=(prob[1], gt[1]))
    run = library.evaluate(*folders, metrics="dice", losses="dice:smooth=0", jobs=1).to_dict()

    def dice(i: int, c: int) -> float:
        p, y = prob[i, c].astype(float), gt[i] == c
        return 1 - 2 * (p * y).sum() / (p.sum() + y.sum())

    by_hand = np.array([[dice(i, c) for c in range(3)] for i in range(2)])
    loss = {s["label"]: s["mean"] for s in run["summary"] if s["kind"] == "loss"}
    assert loss["mean"] == pytest.approx(by_hand.mean(), rel=1e-6)
    assert loss["mean without background"] == pytest.approx(by_hand[:, 1:].mean(), rel=1e-6)
    without = library.evaluate(*folders, metrics=(), losses="dice:smooth=0", background=False, jobs=1).to_dict()
    assert [s["label"] for s in without["summary"] if s["label"].startswith("mean")] == ["mean"]
    assert summary(without, "mean", "dice:smooth=0")["mean"] == pytest.approx(by_hand[:, 1:].mean(), rel=1e-6)


def test_stacks_are_cases_in_files_with_brackets(tmp_path):
    """Each image is a case of its file; a name that ends in brackets is a name."""
    stack = np.stack([SQUARE, np.roll(SQUARE, 1, 0), 0 * SQUARE])
    folders = write(tmp_path, **{"s[7]": (stack, np.stack([SQUARE] * 3))})
    table = tmp_path / "m.csv"
    table.write_text("case,pred,gt,site\ns[7],pred/s[7].npy,gt/s[7].npy,x\n")
    run = library.evaluate(manifest=table, metrics="dice", stack=True, group_by="site", jobs=1).to_dict()
    assert [c["case"] for c in run["cases"]] == ["s[7][0]", "s[7][1]", "s[7][2]"]
    assert [c["group"] for c in run["cases"]] == [{"site": "x"}] * 3
    volume = library.evaluate(*folders, metrics="dice", jobs=1).to_dict()
    assert [c["case"] for c in volume["cases"]] == ["s[7]"]


def test_measures_of_all_classes_and_tables(tmp_path):
    """They are the label `all` in values; a table stands beside them, outside the summary."""
    run = library.evaluate(*three_cases(tmp_path), metrics="dice,confusion,mean_iou", jobs=1).to_dict()
    one = next(c for c in run["cases"] if c["case"] == "one")
    table = next(t for t in one["tables"] if t["measure"] == "confusion")
    assert table["columns"][1:3] != ["foreground"]
    assert any("1" in column for column in table["columns"])
    assert {s["label"] for s in run["summary"] if s["measure"] == "mean_iou"} == {"all"}
    assert not [s for s in run["summary"] if s["measure"] == "confusion"]
    jsonschema.validate(run, SCHEMA)


# --- what is missing, what fails -----------------------------------------------------------------------


def test_a_missing_prediction_is_a_row_by_policy(tmp_path):
    """fail: exit 4; skip: exit 0; worst: an empty prediction, distances the diagonal; it is listed always."""
    folders = write(tmp_path, a=(SQUARE, SQUARE), gone=(None, SQUARE), b=(SQUARE, 0 * SQUARE), extra=(SQUARE, None))
    out = tmp_path / "r.json"
    for policy, code, cases in (("fail", 4, 2), ("skip", 0, 2), ("worst", 0, 3)):
        done = segcli("evaluate", *folders, "-m", "dice,hd,rve", "-l", "dice", "--missing", policy, "-o", out, "-j1")
        assert done.returncode == code, done.stderr
        run = without_environment(out)
        jsonschema.validate(json.loads(out.read_text()), SCHEMA)
        assert len(run["cases"]) == cases
        assert run["spec"]["missing"] == policy
        assert run["missing"] == [
            {"case": "extra", "side": "gt", "path": "pred/extra.npy"},
            {"case": "gone", "side": "pred", "path": "gt/gone.npy"},
        ]
        assert "1 missing prediction (gone), 1 prediction without ground truth (extra)" in done.stdout
        assert ("--missing worst: a missing prediction has the worst values" in done.stdout) == (policy == "worst")
        assert "from the policy" not in done.stdout  # --empty is `undefined`: no value comes from it
    gone = next(c for c in run["cases"] if c["case"] == "gone")
    assert (gone["status"], gone["pred"]) == ("missing", {"path": "", "sha256": None})
    found = {(v["kind"], v["measure"]): (v["value"], v["status"]) for v in gone["values"]}
    assert found["metric", "dice"] == (0, "ok")
    assert found["metric", "hd:surface=surfel"] == (pytest.approx(12 * 2**0.5), "policy")
    assert found["metric", "rve"] == (-1, "ok")
    # The loss of nothing predicted: 1 - smooth / (36 + smooth), its default smooth by the catalogue.
    smooth = library.find("loss.dice").params["smooth"].default
    assert found["loss", "dice"][0] == pytest.approx(1 - smooth / (36 + smooth))


def test_worst_does_not_praise_a_missing_case_for_what_gt_lacks(tmp_path):
    """A label that is in neither file is undefined there, as in any other case."""
    two = SQUARE.copy()
    two[9:11, 9:11] = 2
    folders = write(tmp_path, a=(two, two), gone=(None, SQUARE))
    run = library.evaluate(*folders, metrics="dice,hd", missing="worst", jobs=1).to_dict()
    assert values(run, "gone") == {
        ("1", "dice"): 0, ("1", "hd:surface=surfel"): pytest.approx(12 * 2**0.5),
        ("2", "dice"): None, ("2", "hd:surface=surfel"): None,
    }  # fmt: skip
    assert summary(run, "mean", "dice")["mean"] == pytest.approx((1 + 0) / 2)
    named = library.evaluate(*folders, metrics="dice,hd", missing="worst", labels="1,2", jobs=1).to_dict()
    assert named["summary"] == run["summary"]


def test_worst_scores_every_image_of_a_missing_stack(tmp_path):
    """Three images, three cases."""
    stack = np.stack([SQUARE] * 3)
    folders = write(tmp_path, a=(stack, stack), gone=(None, stack))
    run = library.evaluate(*folders, metrics="dice", missing="worst", stack=True, jobs=1).to_dict()
    assert [c["case"] for c in run["cases"]][3:] == ["gone[0]", "gone[1]", "gone[2]"]


def test_a_case_that_fails_is_a_row(tmp_path):
    """Exit 4, code and message in the run, the other cases scored; both paths are there."""
    folders = write(tmp_path, a=(SQUARE, SQUARE), shape=(SQUARE[:5], SQUARE))
    (folders[0] / "broken.npy").write_bytes(b"\x93NUMPY")
    np.save(folders[1] / "broken.npy", SQUARE)
    out = tmp_path / "r.json"
    done = segcli("evaluate", *folders, "-m", "dice", "-o", out, "-j2")
    assert done.returncode == 4
    run = json.loads(out.read_text())
    jsonschema.validate(run, SCHEMA)
    assert [c["case"] for c in run["cases"]] == ["a"]
    assert [(e["case"], e["code"]) for e in run["errors"]][1] == ("shape", "geometry.shape")
    assert run["errors"][1]["message"].startswith("pred vs gt: shape 5x12 vs 12x12")
    assert run["errors"][1]["pred"] == {"path": "pred/shape.npy"}
    assert run["errors"][0]["message"].startswith("pred: ")
    assert str(tmp_path) not in done.stdout
    assert "error: shape: pred vs gt: shape 5x12 vs 12x12" in done.stdout


def test_nothing_scored_is_exit_3(tmp_path):
    """No run file is written over nothing, and the message names the first cause."""
    folders = write(tmp_path, a=(SQUARE[:5], SQUARE))
    done = segcli("evaluate", *folders, "-m", "dice", "-o", tmp_path / "r.json", "-j1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: no case could be scored; a: pred vs gt: shape" in done.stderr
    assert not (tmp_path / "r.json").exists()


def test_strict_makes_a_warning_an_error_of_its_case(tmp_path):
    """Other values in pred than in gt are a warning."""
    folders = write(tmp_path, a=(SQUARE, SQUARE), b=(3 * SQUARE, SQUARE))
    lenient = library.evaluate(*folders, metrics="dice", labels="fg=any", jobs=1).to_dict()
    assert len(lenient["cases"]) == 2
    strict = library.evaluate(*folders, metrics="dice", strict=True, jobs=1).to_dict()
    assert [e["code"] for e in strict["errors"]] == ["strict"]


# --- the run file and the command --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("six")
    cohort(where)
    return where


def test_paths_are_relative_to_the_run_file(six, tmp_path):
    """From another folder, with links: each path opens from the run file's folder and keeps the file's own name."""
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep/er")
    data = tmp_path / "data"
    shutil.copytree(six, data)
    (data / "pred/case_000.npy").rename(tmp_path / "blob")
    (data / "pred/case_000.npy").symlink_to(tmp_path / "blob")
    done = segcli("evaluate", "data/pred", "data/gt", "-m", "dice", "-o", "link/r.json", "-j1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "deep/er/r.json").read_text())
    assert run["cases"][0]["pred"]["path"] == "../../data/pred/case_000.npy"
    for case in run["cases"]:
        for side in ("pred", "gt"):
            assert (tmp_path / "link" / case[side]["path"]).exists()


def test_stdout_is_the_result_and_stderr_says_what_is_next(six, tmp_path):
    """JSON, CSV and Markdown from one call; no progress line where nobody looks."""
    outputs = [tmp_path / name for name in ("r.json", "r.csv", "r.md", "r.txt")]
    arguments = [part for path in outputs for part in ("-o", path)]
    done = segcli("evaluate", six / "pred", six / "gt", "-m", "dice,hd95", "-f", "json", "-j2", *arguments)
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(outputs[0].read_text())
    jsonschema.validate(json.loads(done.stdout), SCHEMA)
    said = [line for line in done.stderr.splitlines() if not line.startswith("compiling")]
    assert said == [
        f"wrote {outputs[0]}     next: segcli gate {outputs[0]}",
        *(f"wrote {path}" for path in outputs[1:]),
    ]
    rows = list(csv.DictReader(io.StringIO(outputs[1].read_text())))
    run = json.loads(done.stdout)
    told_of_all = [(r["case"], r["status"], r["measure"]) for r in rows if r["kind"] == "note"]
    assert told_of_all == [("", note["level"], note["code"]) for note in run["notes"]]
    rows = [r for r in rows if r["kind"] != "note"]
    assert len(rows) == sum(len(c["values"]) for c in run["cases"])
    told = {(r["case"], r["label"], r["measure"]): r["value"] for r in rows}
    for case in run["cases"]:
        for v in case["values"]:
            assert told[case["case"], v["label"], v["measure"]] == ("" if v["value"] is None else repr(v["value"]))
    assert outputs[2].read_text().startswith("| label |")
    assert "3 dice" not in outputs[3].read_text()
    quiet = segcli("-q", "evaluate", six / "pred", six / "gt", "-m", "dice", "-j1", "-o", tmp_path / "q.json")
    assert quiet.stderr == ""


def test_groups_are_summarised_apart(six, tmp_path):
    """Each value of a column has its own rows: the same numbers as of a cohort of those cases."""
    table = tmp_path / "m.csv"
    lines = [f"case_{i:03},{six}/pred/case_{i:03}.npy,{six}/gt/case_{i:03}.npy,{'ab'[i % 2]}" for i in range(6)]
    table.write_text("\n".join(["case,pred,gt,site", *lines]))
    run = library.evaluate(manifest=table, metrics="dice", group_by="site", jobs=1).to_dict()
    jsonschema.validate(run, SCHEMA)
    apart = tmp_path / "a.csv"
    apart.write_text("\n".join(["case,pred,gt", *(line.rsplit(",", 1)[0] for line in lines[::2])]))
    alone = library.evaluate(manifest=apart, metrics="dice", jobs=1).to_dict()
    of_a = [{k: v for k, v in s.items() if k != "group"} for s in run["summary"] if s.get("group") == {"site": "a"}]
    assert of_a == alone["summary"]
    done = segcli("evaluate", "--manifest", table, "-m", "dice", "--group-by", "site", "-j1")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]].count("site=a") == 3
    with pytest.raises(UsageError, match="--group-by scanner") as problem:
        library.evaluate(manifest=table, group_by="scanner").to_dict()
    assert problem.value.hint == "columns: site"


def test_worst_level_and_seed(six):
    """--worst names so many; --ci and --seed reach the summary and nothing else."""
    call = ["evaluate", six / "pred", six / "gt", "-m", "dice", "-j1"]
    table = segcli(*call, "--worst", "2").stdout
    assert "worst (1 dice): case_003 0.000 pred empty · " in table
    assert table.count(" · ") == 2
    assert "worst (" not in segcli(*call, "--worst", "0").stdout
    wide, other, usual = (
        library.evaluate(six / "pred", six / "gt", metrics="dice", jobs=1, **o).to_dict()
        for o in ({"ci": 0.99}, {"seed": 1}, {})
    )
    assert wide["cases"] == other["cases"] == usual["cases"]
    (a, b), (c, d) = (summary(run, "1", "dice")["ci"] for run in (wide, usual))
    assert a < c < d < b
    assert summary(other, "1", "dice")["ci"] != [c, d]
    assert "99% CI" in segcli(*call, "--ci", "0.99").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["p"], 2, "two folders are wanted, 1 given"),
        (["p", "g", "--resume"], 2, "--resume needs the run file"),
        (["p", "g", "--shard", "1/2"], 2, "--shard needs the run file"),
        (["p", "g", "--shard", "3/2", "-o", "r.json"], 2, "not I/N"),
        (["p", "g", "--shard", "1/2", "--ci", "0.9", "-o", "r.json"], 2, "--shard leaves nothing for --ci"),
        (["p", "g", "--scheduler", "tcp://x:1"], 2, "--scheduler is of --engine dask"),
        (["p", "g", "-o", "a.json", "-o", "b.json"], 2, "two run files"),
        (["p", "g", "--group-by", "site"], 2, "--group-by site: no such column"),
        (["p", "g", "-m", ""], 2, "no metric and no loss"),
        (["p", "g", "-m", "dcie"], 2, "dcie"),
        (["p", "g", "--dry-run", "-o", "r.json"], 2, "--dry-run leaves nothing for -o"),
        (["--manifest", "m.csv", "p", "g"], 2, "no folders beside it"),
        (["--manifest", "m.csv", "--match", "bids"], 2, "--manifest leaves nothing for --match"),
        (["--manifest", "no.csv"], 3, "no.csv: cannot be read"),
        (["--merge", "s.json", "-m", "dice"], 2, "--merge leaves nothing for --metrics"),
        (["--merge", "s.json"], 3, "s.json: is no shard"),
        (["--merge"], 2, "--merge takes shard files"),
        (["p", "nowhere"], 3, "nowhere: does not exist"),
    ],
)
def test_what_cannot_be_asked(tmp_path, arguments, code, words):
    """One line, the documented code, nothing on stdout."""
    write(tmp_path, a=(SQUARE, SQUARE))
    (tmp_path / "pred").rename(tmp_path / "p")
    (tmp_path / "gt").rename(tmp_path / "g")
    (tmp_path / "m.csv").write_text("case,pred,gt\na,p/a.npy,g/a.npy\n")
    (tmp_path / "s.json").write_text("{}")
    done = segcli("evaluate", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


# --- shards -------------------------------------------------------------------------------------------------


def test_merged_shards_are_the_run(six, tmp_path):
    """Three shards in folders of their own; what has no partner and what the union decides included."""
    data = tmp_path / "data"
    shutil.copytree(six, data)
    (data / "pred/case_004.npy").unlink()
    np.save(data / "gt/case_001.npy", SQUARE)
    folders = [data / "pred", data / "gt"]
    whole = tmp_path / "whole.json"
    assert segcli("evaluate", *folders, "-m", "dice,hd95", "-o", whole, "-j1").returncode == 4
    shards = []
    for i in (3, 1, 2):
        (tmp_path / f"at{i}").mkdir()
        shards.append(tmp_path / f"at{i}/s.json")
        done = segcli("evaluate", *folders, "-m", "dice,hd95", "--shard", f"{i}/3", "-o", shards[-1], "-j1")
        assert done.stdout == ""
        assert "--merge" in done.stderr
        lacking = any(in_shard(case, (i, 3)) for case in ("case_001", "case_004"))  # a shape, a prediction
        assert done.returncode == (4 if lacking else 0)
    done = segcli("evaluate", "--merge", *shards, "-o", tmp_path / "merged.json")
    assert done.returncode == 4
    assert same_runs(whole, tmp_path / "merged.json")
    for wrong, code in ((shards[:2], "shard 2/3 is not among"), ([*shards, shards[0]], "are both shard 3/3")):
        refused = segcli("evaluate", "--merge", *wrong)
        assert refused.returncode == 3
        assert code in refused.stderr
    other = tmp_path / "other.json"
    segcli("evaluate", *folders, "-m", "dice", "--shard", "2/3", "-o", other, "-j1")
    refused = segcli("evaluate", "--merge", *shards[:2], other)
    assert (refused.returncode, "other measures" in refused.stderr) == (3, True)
    double = json.loads(shards[0].read_text())
    double["shard"] = [2, 3]
    other.write_text(json.dumps(double))
    refused = segcli("evaluate", "--merge", *shards[:2], other)
    assert (refused.returncode, "is damaged" in refused.stderr) == (3, True)


@pytest.mark.parametrize("change", ["a prediction comes", "a prediction goes", "a pair comes", "a pair goes"])
def test_a_file_that_comes_or_goes_between_two_shards_is_named(six, tmp_path, change):
    """No case is lost, or scored twice, with exit 0: the shards saw different cohorts."""
    data = tmp_path / "data"
    shutil.copytree(six, data)
    if change == "a prediction comes":
        (data / "pred/case_002.npy").rename(tmp_path / "later.npy")
    call = ("evaluate", data / "pred", data / "gt", "-m", "dice", "-j1")
    shards = [tmp_path / f"{i}.json" for i in (1, 2)]
    segcli(*call, "--shard", "1/2", "-o", shards[0])
    if change == "a prediction comes":
        (tmp_path / "later.npy").rename(data / "pred/case_002.npy")
    elif change == "a prediction goes":
        (data / "pred/case_002.npy").unlink()
    else:
        for side in ("pred", "gt"):
            file = data / side / "case_002.npy"
            shutil.copy(file, data / side / "aaa.npy") if change == "a pair comes" else file.unlink()
    segcli(*call, "--shard", "2/2", "-o", shards[1])
    done = segcli("evaluate", "--merge", *shards, "-o", tmp_path / "merged.json")
    assert done.returncode == 3
    assert "saw other files than" in done.stderr
    assert ("aaa only here" if change == "a pair comes" else "case_002") in done.stderr
    assert not (tmp_path / "merged.json").exists()
    segcli(*call, "--shard", "1/2", "-o", shards[0])
    assert segcli("evaluate", "--merge", *shards, "-o", tmp_path / "merged.json").returncode in (0, 4)


def test_a_case_is_of_one_shard_by_its_name_alone():
    """Whatever other cases there are; of many the shards are about as large."""
    names = [f"case_{i:03d}" for i in range(300)] + ["Köln", "a\udcff"]
    for of in (1, 2, 7):
        where = [[i for i in range(1, of + 1) if in_shard(name, (i, of))] for name in names]
        assert all(len(own) == 1 for own in where)
        sizes = [sum(own == [i] for own in where) for i in range(1, of + 1)]
        assert min(sizes) > 0.6 * len(names) / of


# --- the journal --------------------------------------------------------------------------------------------


def evaluate_again(folder: Path, out: Path, *more: str) -> Any:
    return segcli("evaluate", folder / "pred", folder / "gt", "-m", "dice,hd95", "-o", out, "-j1", *more)


@pytest.fixture
def done_run(six, tmp_path) -> tuple[Path, Path]:
    data, out = tmp_path / "data", tmp_path / "r.json"
    shutil.copytree(six, data)
    assert evaluate_again(data, out).returncode == 0
    return data, out


def taken(done: Any) -> int:
    """Return how many cases came from the journal."""
    found = [line for line in done.stderr.splitlines() if line.endswith("taken from the journal")]
    return int(found[0].split()[0]) if found else 0


def test_resume_takes_what_has_not_changed(done_run):
    """A touched file is recognised by its hash, a changed one is scored again."""
    data, out = done_run
    before = without_environment(out)
    os.utime(data / "pred/case_001.npy")
    assert taken(evaluate_again(data, out, "--resume")) == 6
    assert without_environment(out) == before
    np.save(data / "pred/case_002.npy", np.load(data / "gt/case_002.npy"))
    assert taken(evaluate_again(data, out, "--resume")) == 5
    changed = without_environment(out)
    assert values(changed, "case_002")["1", "dice"] == 1
    assert {c["case"] for c, d in zip(changed["cases"], before["cases"], strict=True) if c != d} == {"case_002"}


def test_resume_tells_another_folder_from_the_same(done_run, tmp_path):
    """Equal sizes and times are no proof where the path is another: the content decides."""
    data, out = done_run
    shutil.copytree(data, tmp_path / "copy")
    changed = tmp_path / "copy/pred/case_002.npy"
    stamp = changed.stat()
    np.save(changed, np.load(data / "gt/case_002.npy"))
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert changed.stat().st_size == (data / "pred/case_002.npy").stat().st_size
    done = evaluate_again(tmp_path / "copy", out, "--resume")
    assert taken(done) == 5
    run = without_environment(out)
    assert values(run, "case_002")["1", "dice"] == 1
    assert {c["pred"]["path"] for c in run["cases"]} == {f"copy/pred/case_{i:03}.npy" for i in range(6)}


def test_resume_looks_at_both_files_of_a_pair(tmp_path):
    """A .hdr that stays while its .img changes is another mask."""
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
        nib.Nifti1Pair(SQUARE[..., None].repeat(3, 2), np.eye(4)).to_filename(tmp_path / side / "a.img")
    out = tmp_path / "r.json"
    assert evaluate_again(tmp_path, out).returncode == 0
    assert taken(evaluate_again(tmp_path, out, "--resume")) == 1
    image = tmp_path / "pred/a.img"
    image.write_bytes(bytes(image.stat().st_size))
    assert taken(evaluate_again(tmp_path, out, "--resume")) == 0
    assert values(without_environment(out), "a")["foreground", "dice"] == 0


def test_missing_cases_are_taken_from_the_journal_too(done_run):
    """A prediction that is not there has no state to compare, and stays what it was."""
    data, out = done_run
    (data / "pred/case_001.npy").unlink()
    evaluate_again(data, out, "--missing", "worst")
    before = out.read_text()
    assert taken(evaluate_again(data, out, "--missing", "worst", "--resume")) == 6
    assert json.loads(before)["cases"] == json.loads(out.read_text())["cases"]
    shutil.copy(data / "gt/case_001.npy", data / "pred/case_001.npy")
    assert taken(evaluate_again(data, out, "--missing", "worst", "--resume")) == 5
    assert all(c["status"] == "ok" for c in without_environment(out)["cases"])


def test_errors_are_kept_and_tried_again_when_asked(done_run):
    """--resume keeps an error; --retry-errors scores it again."""
    data, out = done_run
    good = (data / "pred/case_001.npy").read_bytes()
    (data / "pred/case_001.npy").write_bytes(good[:40])
    assert evaluate_again(data, out, "--resume").returncode == 4
    kept = evaluate_again(data, out, "--resume")
    assert (kept.returncode, taken(kept)) == (4, 6)
    retried = evaluate_again(data, out, "--retry-errors")
    assert (retried.returncode, taken(retried)) == (4, 5)
    (data / "pred/case_001.npy").write_bytes(good)
    assert evaluate_again(data, out, "--retry-errors").returncode == 0


@pytest.mark.parametrize("cut", [1, 5, 80, 700, -1, -30])
def test_a_torn_journal_loses_its_torn_line_only(done_run, cut):
    """Cut anywhere: what is whole is taken, the rest is scored, and the run is the same."""
    data, out = done_run
    before = without_environment(out)
    journal = Path(f"{out}.journal")
    text = journal.read_bytes().removesuffix(b'{"finished":true}\n')
    journal.write_bytes(text[:cut])
    whole = max(0, text[:cut].count(b"\n") - 1)
    done = evaluate_again(data, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert taken(done) == whole
    assert without_environment(out) == before
    for line in journal.read_text().splitlines():
        json.loads(line)


def test_a_journal_of_another_plan_or_version_is_refused(done_run):
    """Other measures, another label set, --strict, another version: never mixed."""
    data, out = done_run
    journal = Path(f"{out}.journal")
    for more in (["--labels", "1,2"], ["--strict"], ["--empty", "worst"], ["--average", "micro"]):
        refused = evaluate_again(data, out, "--resume", *more)
        assert (refused.returncode, "begun with other measures, labels or options" in refused.stderr) == (3, True)
    first, rest = journal.read_text().split("\n", 1)
    journal.write_text(json.dumps({**json.loads(first), "segcli": "0.0.1"}) + "\n" + rest)
    refused = evaluate_again(data, out, "--resume")
    assert (refused.returncode, "was begun by segcli 0.0.1" in refused.stderr) == (3, True)
    journal.write_text('{"journal":"segcli.journal/1","plan":"a","segcli":"0.1"}\n{"case":"a"}\n')
    refused = evaluate_again(data, out, "--resume")
    assert (refused.returncode, "no journal of this version" in refused.stderr) == (3, True)
    refused = evaluate_again(data, out)
    assert (refused.returncode, "an interrupted run is there, of another version" in refused.stderr) == (2, True)
    with journal.open("a") as file:
        file.write('{"finished":true}\n')
    assert evaluate_again(data, out).returncode == 0


def test_an_interrupted_run_is_not_overwritten(done_run):
    """Without --resume it is refused; a finished one is begun anew without a word."""
    data, out = done_run
    journal = Path(f"{out}.journal")
    assert evaluate_again(data, out).returncode == 0
    journal.write_bytes(journal.read_bytes().removesuffix(b'{"finished":true}\n'))
    refused = evaluate_again(data, out)
    assert refused.returncode == 2
    assert "an interrupted run is there, with 6 cases done" in refused.stderr
    assert "--resume" in refused.stderr


# --- the public function ------------------------------------------------------------------------------------


def test_evaluate_returns_what_the_command_writes(six, tmp_path):
    """The same document but for its environment; with output= it is that file."""
    out, ours = tmp_path / "r.json", tmp_path / "ours.json"
    segcli("evaluate", six / "pred", six / "gt", "-m", "dice", "-l", "dice", "-o", out, "-j1")
    calls: list[tuple[int, int]] = []
    run = library.evaluate(
        six / "pred", str(six / "gt"), metrics=["dice"], losses=["dice"], output=ours, jobs=1,
        progress=lambda done, of: calls.append((done, of)),
    ).to_dict()  # fmt: skip
    assert same_runs(out, ours)
    assert json.loads(ours.read_text()) == run
    assert calls == [(i, 6) for i in range(1, 7)]
    again = library.evaluate(
        six / "pred", six / "gt", metrics="dice", losses="dice", output=ours, resume=True
    ).to_dict()
    assert again["cases"] == run["cases"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resume": True}, "needs the run file"),
        ({"output": "r.csv"}, "a run is JSON"),
        ({"ci": 1.5}, "ci 1.5"),
        ({"average": "median"}, "average median"),
        ({"empty": "none"}, "empty none"),
        ({"manifest": "m.csv"}, "no folders beside it"),
    ],
)
def test_evaluate_refuses_what_cannot_be_asked(six, options, words):
    """A UsageError, before a file is read."""
    with pytest.raises(UsageError, match=words):
        library.evaluate(six / "pred", six / "gt", **options).to_dict()


def test_a_ball_has_the_volume_it_is_given() -> None:
    """The cohort's masks are what they are meant to be: 4/3 pi r^3 within the lattice's error."""
    assert ball((20, 20, 20), 6).sum() == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)


# --- another tool's definitions -------------------------------------------------------------------------


def test_a_cohort_by_the_rules_of_a_tool(tmp_path):
    """`convention` gives the measures, numbers and empty rule that `score` gives each pair, and the spec names it."""
    moved = np.roll(SQUARE, 2, axis=0)
    folders = write(tmp_path, a=(moved, SQUARE), b=(SQUARE, 0 * SQUARE))
    run = library.evaluate(*folders, metrics="dice,hd95", convention="medpy", jobs=1).to_dict()
    assert (run["spec"]["convention"], run["spec"]["empty"]) == ("medpy", "medpy")
    assert run["spec"]["measures"] == ["metric.dice", "metric.hd95_pooled:surface=border"]
    for case, (pred, gt) in {"a": (moved, SQUARE), "b": (SQUARE, 0 * SQUARE)}.items():
        alone = library.score(pred, gt, metrics="dice,hd95", convention="medpy")
        assert list(values(run, case).values()) == [v.value for v in alone.values]
    with pytest.raises(UsageError, match="nonesuch"):
        library.evaluate(*folders, metrics="hd95", convention="nonesuch").to_dict()


def test_the_loss_of_a_missing_prediction_is_over_the_labels_of_its_ground_truth(tmp_path):
    """Beside predictions of four channels: the mean over background and label 1, not over two zeros more."""
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
    gt = np.zeros((4, 4), dtype=np.uint8)
    gt[0, :2] = 1
    np.save(tmp_path / "gt" / "there.npy", gt)
    np.save(tmp_path / "gt" / "lost.npy", gt)
    np.save(tmp_path / "pred" / "there.npy", np.full((4, 4, 4), 0.25))
    call = ("-l", "dice:smooth=0", "-m", "dice", "--missing", "worst", "-j", "1", "-f", "json")
    done = segcli("evaluate", tmp_path / "pred", tmp_path / "gt", *call)
    cases = {case["case"]: case for case in json.loads(done.stdout)["cases"]}
    means = {
        name: {(m["label"], m["of"]): m["value"] for m in case["means"] if m["kind"] == "loss"}
        for name, case in cases.items()
    }
    assert {of for label, of in means["there"] if label == "mean"} == {4}
    # All 16 voxels background against 14 of them: 1 - 2 * 14 / 30; label 1 is lost: 1.
    assert means["lost"]["mean", 2] == pytest.approx((1 - 28 / 30 + 1) / 2)
    assert means["lost"]["mean without background", 1] == pytest.approx(1)


def test_no_name_draws_on_the_terminal(tmp_path):
    """A name with an escape sequence or a line end is shown on its line, without them, in every table and message."""
    name = "a\x1b[31mb\nc"
    folders = write(
        tmp_path, **{name: (SQUARE, SQUARE), f"{name}2": (np.roll(SQUARE, 1), SQUARE), "z\x1b": (None, SQUARE)}
    )
    out = tmp_path / "r.json"
    calls = [
        ("evaluate", *folders, "--dry-run"),
        ("evaluate", *folders, "-m", "dice", "--worst", "1", "-o", out, "-o", tmp_path / f"{name}.csv"),
        ("diff", out, out, "--all"),
        ("rank", f"{name}={out}", f"x={out}"),
        ("evaluate", *folders, "--match", name),
    ]
    for call in calls:
        done = segcli(*call)
        assert not set("\x1b\x07\r") & set(done.stdout + done.stderr), call
        assert "a [31mb c" in done.stdout + done.stderr, call
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
