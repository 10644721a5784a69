"""describe looks at every file it is given, and says of one that is no mask what can be said of it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segcli.masks.mask import Mask
from segcli.report import description

SCHEMA = json.loads(files("segcli").joinpath("schemas", "describe.json").read_text())


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segcli", "--isolated", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    """Write a good file, one whose numbers mean nothing, one that is cut off and one that is a web page."""
    good = np.zeros((6, 5, 4), np.uint8)
    good[1:3] = 3
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "odd.npy", np.where(good, 2.25, -1.0))
    np.save(tmp_path / "nan.npy", np.where(good, np.nan, 0.5))
    nib.save(nib.Nifti1Image(good, np.diag([1, 2, 3, 1.0])), tmp_path / "whole.nii.gz")
    data = gzip.decompress((tmp_path / "whole.nii.gz").read_bytes())
    (tmp_path / "cut.nii").write_bytes(data[:400])
    (tmp_path / "page.nii.gz").write_text("<!DOCTYPE html><html>Log in</html>")
    return tmp_path


def test_one_bad_file_does_not_hide_the_others(folder):
    """Every file has its description; exit 3 and one line name those that cannot be used."""
    names = ["odd.npy", "good.npy", "nan.npy", "cut.nii", "page.nii.gz", "nowhere.npy", "whole.nii.gz"]
    done = run("describe", *[folder / name for name in names], "-f", "json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    found = {Path(record["path"]).name: record for record in document["files"]}
    assert list(found) == names
    assert [name for name in names if "error" in found[name]] == [
        n for n in names if n not in ("good.npy", "whole.nii.gz")
    ]
    assert found["odd.npy"]["values"]["range"] == [-1, 2.25]
    assert found["odd.npy"]["values"]["first"] == [-1, 2.25]
    assert found["odd.npy"]["values"]["fractions"] == 40  # two planes of 20
    assert found["nan.npy"]["values"]["nan"] == 40
    assert found["cut.nii"]["shape"] == [6, 5, 4]  # what its header declares
    assert found["cut.nii"]["spacing"] == [1, 2, 3]
    assert found["cut.nii"]["bytes"] == 400
    assert "web page" in found["page.nii.gz"]["error"]["hint"]
    assert found["whole.nii.gz"]["same_grid_as_first"]  # held against the first that can be used
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "5 of 7 files cannot be used" in lines[0]


def test_the_text_shows_what_is_wrong(folder):
    """The values that make a file unusable stand there, not the message twice."""
    done = run("describe", folder / "odd.npy")
    assert done.returncode == 3
    assert "-1 to 2.25, 2 distinct values, 40 with a fraction" in done.stdout
    assert done.stdout.count("neither labels nor probabilities") == 1
    assert "neither labels" not in done.stderr


def test_a_folder_of_files_that_are_not_read_says_which(tmp_path):
    """The frequent endings are counted, with the line that converts them."""
    for side in ("p", "g"):
        (tmp_path / side).mkdir()
        for i in range(12):
            (tmp_path / side / f"{i}.tif").write_bytes(b"II*\0")
        (tmp_path / side / "notes.txt").write_text("x")
    done = run("evaluate", tmp_path / "p", tmp_path / "g")
    assert done.returncode == 3
    assert "holds no mask: 12 .tif files and 1 .txt file, which are not read (python -c" in done.stderr
    (tmp_path / "e").mkdir()
    done = run("evaluate", tmp_path / "e", tmp_path / "g")
    assert "e: holds no mask.\n" in done.stderr


@pytest.mark.parametrize(("zero", "count"), [("road", "2 labels\n"), ("background", "1 label and background\n")])
def test_a_table_of_colours_names_what_is_described(tmp_path: Path, zero: str, count: str) -> None:
    """Names of a table stand beside their labels; a class 0 with a name of its own is no background."""
    (tmp_path / "t.csv").write_text(f"r,g,b,label,name\n0,0,0,0,{zero}\n255,0,0,7,car\n")
    image = np.zeros((4, 4, 3), np.uint8)
    image[1, 1, 0] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    done = run("describe", tmp_path / "a.png", "--colors", tmp_path / "t.csv")
    assert count in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines()[-2:]] == [zero, "car"]
    done = run("describe", tmp_path / "a.png", "--colors", tmp_path / "t.csv", "-f", "json")
    assert [x["name"] for x in json.loads(done.stdout)["files"][0]["labels"]] == [zero, "car"]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u8", "i8"])
def test_values_are_counted_as_numpy_does(dtype: str) -> None:
    """Any integer type, its ends among the values, in any order of memory, in ascending order."""
    ends = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(0, 7, (12, 9, 5)).astype(dtype)
    array[0, 0, 0], array[1, 1, 1] = ends.max, ends.min
    for view in (array, array[::2], array.T, np.asfortranarray(array)):
        found = description.record(Mask("m", view, "labels", "array"))["labels"]
        values, counts = np.unique(view, return_counts=True)
        assert [(x["label"], x["voxels"]) for x in found] == list(zip(values.tolist(), counts.tolist(), strict=True))
