"""Regions of interest and void in a cohort: which file belongs to which case, resuming, shards, and comparing runs."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cohorts import segcli as command

import segcli
from segcli.errors import InputError, UsageError

SCHEMA = json.loads(files("segcli").joinpath("schemas", "run.json").read_text())
CASES = ("a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write four cases: void in every gt, void in the prediction of c, and regions of all but d."""
    rng = np.random.default_rng(5)
    for side in ("pred", "gt", "roi"):
        (tmp_path / side).mkdir()
    for case in CASES:
        gt = (rng.random((9, 8)) < 0.5).astype(np.uint8)
        pred = np.where(rng.random((9, 8)) < 0.8, gt, 1 - gt).astype(np.uint8)
        gt[0] = 255
        if case == "c":
            pred[3:5] = 255
        np.save(tmp_path / "gt" / f"{case}.npy", gt)
        np.save(tmp_path / "pred" / f"{case}.npy", pred)
        if case != "d":
            np.save(tmp_path / "roi" / f"{case}.npy", rng.random((9, 8)) < 0.7)
    return tmp_path


def scored(folder: Path, case: str, *, roi: bool = True) -> float | None:
    """Return the Dice of one case by `score`."""
    paths = (folder / side / f"{case}.npy" for side in ("pred", "gt"))
    given = folder / "roi" / f"{case}.npy" if roi else None
    found: float | None = segcli.score(*paths, roi=given, metrics="dice", ignore_label=255).value("dice")
    return found


def values(run: dict[str, Any]) -> dict[str, float]:
    return {case["case"]: case["values"][0]["value"] for case in run["cases"]}


def evaluate(folder: Path, *words: object, out: str = "run.json") -> tuple[int, dict[str, Any], str, str]:
    found = command(
        "--isolated", "evaluate", folder / "pred", folder / "gt", "-m", "dice", "--ignore-label", "255", "-j", "1",
        "-o", folder / out, *words,
    )  # fmt: skip
    path = folder / out
    return found.returncode, json.loads(path.read_text()) if path.exists() else {}, found.stdout, found.stderr


def test_a_folder_of_regions(folder: Path) -> None:
    """Each case has the region of its name; one without is an error, and a region of no case is told."""
    np.save(folder / "roi" / "stray.npy", np.ones((9, 8), np.uint8))
    code, run, table, told = evaluate(folder, "--roi", folder / "roi")
    assert code == 4
    jsonschema.validate(run, SCHEMA)
    assert values(run) == {case: scored(folder, case) for case in "abc"}
    assert run["cases"][0]["roi"]["path"] == "roi/a.npy"
    assert run["spec"]["roi"] is True
    (error,) = run["errors"]
    assert (error["case"], error["code"], error["roi"]["path"]) == ("d", "roi.missing", "roi/d")
    assert "error: d: it has no region of interest" in table
    assert "only voxels inside the regions of interest count" in table
    assert "1 region of interest belongs to no case" in told
    assert "stray.npy" in told
    by_library = segcli.evaluate(
        folder / "pred", folder / "gt", roi=folder / "roi", metrics="dice", ignore_label=255, jobs=1
    ).to_dict()
    assert values(by_library) == values(run)
    assert by_library["spec"] == run["spec"]


def test_a_manifest_of_regions(folder: Path) -> None:
    """An empty cell is the whole image, a file that is not there an error; other columns stay groups."""
    (folder / "list.csv").write_text(
        "case,pred,gt,roi,site\n"
        "a,pred/a.npy,gt/a.npy,roi/a.npy,x\nb,pred/b.npy,gt/b.npy,,x\nc,pred/c.npy,gt/c.npy,roi/none.npy,y\n"
    )
    run = segcli.evaluate(manifest=folder / "list.csv", metrics="dice", ignore_label=255, jobs=1).to_dict()
    assert values(run) == {"a": scored(folder, "a"), "b": scored(folder, "b", roi=False)}
    assert [("roi" in case, case["group"]) for case in run["cases"]] == [(True, {"site": "x"}), (False, {"site": "x"})]
    assert [error["case"] for error in run["errors"]] == ["c"]
    with pytest.raises(UsageError, match="its column roi"):
        segcli.evaluate(manifest=folder / "list.csv", roi=folder / "roi").to_dict()


def test_a_dry_run_prints_the_manifest(folder: Path) -> None:
    """Scored by the manifest that --dry-run prints, the cohort is the same, the case without its region too."""
    (folder / "pred" / "b.npy").unlink()
    words = ["--isolated", "evaluate", folder / "pred", folder / "gt", "--roi", folder / "roi", "--dry-run"]
    printed = command(*words, "-f", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [Path(row["roi"]).name for row in rows] == ["a.npy", "b.npy", "c.npy", "d"]
    table = command(*words).stdout
    assert "d: no region of interest" in table
    assert "1 pair without the region of interest" in table
    assert json.loads(command(*words, "-f", "json").stdout)["pairs"][0]["roi"].endswith("roi/a.npy")
    (folder / "list.csv").write_text(printed)
    _, run, _, _ = evaluate(folder, "--roi", folder / "roi", "--missing", "worst")
    again = segcli.evaluate(
        manifest=folder / "list.csv", metrics="dice", ignore_label=255, missing="worst", jobs=1,
        output=folder / "again.json",
    ).to_dict()  # fmt: skip
    for key in ("spec", "cases", "errors", "missing", "summary"):
        assert again[key] == run[key], key
    missing = next(case for case in run["cases"] if case["case"] == "b")
    gt, roi = np.load(folder / "gt" / "b.npy"), np.load(folder / "roi" / "b.npy")
    assert missing["counts"]["foreground"]["fn"] == (roi & (gt == 1)).sum()


def test_resuming_notices_a_region_that_changed(folder: Path) -> None:
    """A case is scored again when its region has another content, appears or goes; the others are not."""
    _, before, _, _ = evaluate(folder, "--roi", folder / "roi")
    code, run, _, told = evaluate(folder, "--roi", folder / "roi", "--resume")
    assert "4 cases taken from the journal" in told
    assert run["cases"] == before["cases"]
    changed = np.load(folder / "roi" / "a.npy")
    changed[:4] = False
    np.save(folder / "roi" / "a.npy", changed)
    np.save(folder / "roi" / "d.npy", np.ones((9, 8), bool))
    code, run, _, told = evaluate(folder, "--roi", folder / "roi", "--resume")
    assert code == 0
    assert "2 cases taken from the journal" in told
    assert values(run) == {case: scored(folder, case) for case in CASES}
    assert values(run)["a"] != values(before)["a"]
    code, _, _, told = evaluate(folder, "--resume")
    assert (code, "other measures, labels or options" in told) == (3, True)


def test_shards_have_their_regions(folder: Path) -> None:
    _, whole, _, _ = evaluate(folder, "--roi", folder / "roi")
    for index in (1, 2):
        evaluate(folder, "--roi", folder / "roi", "--shard", f"{index}/2", out=f"s{index}.json")
    merged = command(
        "--isolated", "evaluate", "--merge", folder / "s1.json", folder / "s2.json", "-o", folder / "m.json"
    )
    assert merged.returncode == 4
    run = json.loads((folder / "m.json").read_text())
    for key in ("spec", "cases", "errors", "summary"):
        assert run[key] == whole[key], key


def test_folders_that_cannot_be(folder: Path) -> None:
    (folder / "empty").mkdir()
    for given, said in (
        (folder / "empty", "holds no mask"), (folder / "roi" / "a.npy", "is a file"), (folder / "no", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            segcli.evaluate(folder / "pred", folder / "gt", roi=given).to_dict()
    for path in sorted((folder / "roi").iterdir()):
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(InputError, match="no region of interest belongs to a case"):
        segcli.evaluate(folder / "pred", folder / "gt", roi=folder / "roi").to_dict()


def test_a_cohort_of_several_labels_counts_void_as_a_miss(folder: Path) -> None:
    """Among labels of other cases void outside a label is no false alarm of it; of one label alone it is."""
    alone = segcli.evaluate(folder / "pred", folder / "gt", metrics="dice", ignore_label=255, jobs=1).to_dict()
    assert values(alone)["c"] == scored(folder, "c", roi=False)
    gt = np.load(folder / "gt" / "a.npy")
    gt[5] = 2
    np.save(folder / "gt" / "a.npy", gt)
    several = segcli.evaluate(
        folder / "pred", folder / "gt", metrics="dice,mean_iou", ignore_label=255, jobs=1
    ).to_dict()
    case = next(c for c in several["cases"] if c["case"] == "c")
    paths = [folder / side / "c.npy" for side in ("pred", "gt")]
    expected = segcli.score(*paths, metrics="dice", labels=[1, 2], ignore_label=255).value("dice", 1)
    assert case["values"][0]["label"] == "1"
    assert case["values"][0]["value"] == expected != values(alone)["c"]


def test_confusions_are_summed_with_void(folder: Path) -> None:
    """A column of what predictions hold that is no label; it has no row."""
    gt = np.load(folder / "gt" / "a.npy")
    gt[5] = 2
    np.save(folder / "gt" / "a.npy", gt)
    run = segcli.evaluate(folder / "pred", folder / "gt", metrics="confusion", ignore_label=255, jobs=1).to_dict()
    (table,) = run["tables"]
    assert table["columns"][1:] == ["background", "1", "2", "(255)"]
    assert [row[0] for row in table["rows"]] == ["background", "1", "2"]
    assert sum(row[-1] for row in table["rows"]) == 16


def test_runs_of_another_rule_are_not_compared(folder: Path) -> None:
    """The file that void is looked for in, and the region of each case, are part of what a number means."""
    paths = [segcli_run(folder, f"{name}.json", *words) for name, words in (
        ("gt", ()), ("either", ("--ignore-in", "either")), ("roi", ("--roi", folder / "roi")),
    )]  # fmt: skip
    old = json.loads(paths[1].read_text())
    del old["spec"]["ignore_in"]  # a run file of an earlier version does not say
    (folder / "old.json").write_text(json.dumps(old))
    for first, other, said in (
        (paths[0], paths[1], "ignore_in is "),
        (paths[0], folder / "old.json", "ignore_in is "),
        (paths[0], paths[2], "roi is "),
    ):
        for words in (
            ("diff", first, other),
            ("rank", first, other),
            ("gate", first, "--baseline", other, "--min", "dice=0"),
        ):
            found = command("--isolated", *words)
            assert (found.returncode, said in found.stderr) == (3, True), found.stderr
    assert command("--isolated", "diff", paths[1], folder / "old.json").returncode == 0
    np.save(folder / "roi" / "b.npy", np.ones((9, 8), bool))
    changed = segcli_run(folder, "changed.json", "--roi", folder / "roi")
    found = command("--isolated", "diff", paths[2], changed)
    assert (found.returncode, "b: roi is a file" in found.stderr) == (3, True)


def segcli_run(folder: Path, name: str, *words: object) -> Path:
    evaluate(folder, *words, out=name)
    return folder / name


def test_a_run_says_what_was_ignored(folder: Path) -> None:
    """In the table, Markdown, LaTeX and the methods sentences, and in the spec; one value is a number there."""
    for words, ignore, said in (
        (("--ignore-label", "255"), 255, "255 in the ground truth"),
        (("--ignore-label", "255,7..9"), "7..9,255", "7..9,255 in the ground truth"),
        (("--ignore-label", "255", "--ignore-in", "either"), 255, "255 in either file"),
    ):
        for form in ("table", "md", "latex"):
            code, run, text, _ = evaluate(folder, *words, "-f", form)
            assert (code, said in text) == (0, True), text
        jsonschema.validate(run, SCHEMA)
        assert run["spec"]["ignore"] == ignore
        cited = command("--isolated", "cite", folder / "run.json").stdout
        assert f"{said} were ignored" in cited
    assert "ignore_in" not in segcli.evaluate(folder / "pred", folder / "gt", metrics="dice", jobs=1).to_dict()["spec"]


def test_a_cluster_gets_the_region_by_its_whole_path() -> None:
    """Workers stand in other folders; what comes back has the path that was given."""
    from segcli.cohort.dask_engine import _absolute, _files
    from segcli.cohort.work import Task

    task = Task("a", "", "gt/a.npy", "roi/a.npy")
    far = _absolute(task)
    assert (far.pred, Path(far.gt).is_absolute(), Path(far.roi).is_absolute()) == ("", True, True)
    record = {side: {"path": path, "sha256": "0"} for side, path in far.files.items()}
    assert _files(record, task)["roi"] == {"path": "roi/a.npy", "sha256": "0"}
