"""The formats of files: each is one record, and everything that knows formats asks the list of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.masks import files
from segcli.masks.formats import FORMATS
from segcli.masks.formats.foreign import CONVERSIONS

PACKAGE = Path(segcli.__file__).parent
#: What stands outside the records for a reason: a picture is no map, and a case is named as it always was.
ELSEWHERE = {("cli/inspect.py", ".png"), ("scoring/loading.py", ".nii.gz")}


def test_each_suffix_is_of_one_format() -> None:
    """Suffixes are lower case, of one format and of none that is not read; every format can be recognised."""
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(set(suffixes)) == len(suffixes) == len(files.BY_SUFFIX)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert not files.BY_SUFFIX.keys() & CONVERSIONS.keys()
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    for form in FORMATS:
        assert form.marks or form.unmarked
        assert {*form.unmarked, *(form.halves or ()), *(form.writer.suffixes if form.writer else ())} <= {*suffixes}


def test_suffixes_stand_in_the_records_alone() -> None:
    """No other file spells a suffix of a mask."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "formats":
            continue
        spelt = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        found |= {(path.relative_to(PACKAGE).as_posix(), suffix) for suffix in spelt & files.BY_SUFFIX.keys()}
    assert found == ELSEWHERE


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a/b.NII.GZ", ".nii.gz"),
        ("b.nii", ".nii"),
        ("b.img.gz", ".img.gz"),
        ("b.png.gz", ".gz"),
        ("b.c.npy", ".npy"),
        ("b.tiff", ".tiff"),
        (".nii.gz", ".nii.gz"),
        ("a.nii/b", ""),
    ],
)
def test_the_longest_suffix_counts(name: str, suffix: str) -> None:
    assert files.suffix_of(name) == suffix


#: Two formats that nobody has: one with a mark, and one of a text and its voxels, which have none.
TRIAL = """
import sys
import numpy as np
from segcli.masks import formats
from segcli.masks.formats.record import Format, Halves, Mark, Writer, partner
from segcli.masks.source import Decoded

def marked(source, asked):
    source.skip(4)
    data = np.empty(100, np.uint8)
    source.readinto(data.data)
    return Decoded(data.reshape(10, 10), "Trial")

def paired(source, asked):
    beside = partner(source.path, ".triv", ".trih") or source.path
    shape = tuple(map(int, open(beside).read().split()))
    voxels = open(partner(beside, ".trih", ".triv"), "rb").read()
    return Decoded(np.frombuffer(voxels, np.uint8).reshape(shape), "Halved")

TRIAL = Format(name="Trial", suffixes=(".tri",), marks=(Mark(0, b"TRI1"),), header=marked, voxels=marked,
               writer=Writer((".tri",), lambda values, *_: b"TRI1" + values.tobytes()))
HALVED = Format(name="Halved", suffixes=(".trih", ".triv"), unmarked=(".trih", ".triv"),
                halves=Halves(".trih", ".triv"), header=paired, voxels=paired)
formats.FORMATS += (TRIAL, HALVED)
from segcli.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def trial(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_record_in_the_list_is_all_that_a_format_needs(tmp_path: Path) -> None:
    """Every command knows a format that was put into the list: reading, pairing, writing maps, doctor and help."""
    array = np.zeros((10, 10), np.uint8)
    array[2:7, 3:9] = 1
    for folder in ("pred", "gt"):
        (tmp_path / folder).mkdir()
    for case in ("a", "b"):
        Image.fromarray(array).save(tmp_path / "gt" / f"{case}.png")
    (tmp_path / "pred" / "a.tri").write_bytes(b"TRI1" + array.tobytes())
    (tmp_path / "pred" / "b.trih").write_text("10 10")
    (tmp_path / "pred" / "b.triv").write_bytes(array.tobytes())
    assert "1.000" in trial(tmp_path, "score", "pred/a.tri", "gt/a.png", "-m", "dice")
    assert "1.000" in trial(tmp_path, "score", "pred/b.triv", "gt/b.png", "-m", "dice")
    assert "2 pairs" in trial(tmp_path, "evaluate", "pred", "gt", "--dry-run")
    assert "Trial · 10x10" in trial(tmp_path, "describe", "pred/a.tri")
    assert "Halved · 10x10" in trial(tmp_path, "describe", "pred/b.trih")
    assert ".npz .tri .trih .triv" in trial(tmp_path, "doctor")
    assert "NPZ, Trial or Halved" in trial(tmp_path, "score", "--help")
    trial(tmp_path, "inspect", "pred/a.tri", "gt/a.png", "-l", "dice", "--map", "map.tri")
    assert (tmp_path / "map.tri").read_bytes().startswith(b"TRI1")
