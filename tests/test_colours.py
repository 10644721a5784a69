"""--colors: the colours of an image count, whatever it is stored as, and a table gives labels their names."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.errors import InputError
from segcli.masks.colours import colours
from segcli.masks.readers import read

RED, BLUE, GREY = (128, 0, 0), (0, 0, 128), (128, 128, 128)
TRUTH = np.zeros((12, 10), np.uint8)
TRUTH[2:6, 2:8], TRUTH[7:10, 1:5] = 1, 2
#: The columns of a table in several orders, with what else tables have.
TABLES = {
    "as before": "label,r,g,b,name\n0,0,0,0,background\n1,128,0,0,liver\n2,0,0,128,kidney\n",
    "no header": "0,0,0,0,background\n1,128,0,0,liver\n2,0,0,128,kidney\n",
    "names first": "name,r,g,b,label\nbackground,0,0,0,0\nliver,128,0,0,1\nkidney,0,0,128,2\n",
    "colours first": "r,g,b,label,name\n0,0,0,0,background\n128,0,0,1,liver\n0,0,128,2,kidney\n",
    "words": "Red;Green;Blue;Class Name;Label ID\n0;0;0;background;0\n128;0;0;liver;1\n0;0;128;kidney;2\n",
    "more columns": "id,super,r,g,b,name\n0,x,0,0,0,background\n1,x,128,0,0,liver\n2,y,0,0,128,kidney\n",
    "hexadecimal": "name,color,id\nbackground,#000000,0\nliver,#800000,1\nkidney,#000080,2\n",
    "byte order mark": "\ufeffname,r,g,b,label\nbackground,0,0,0,0\nliver,128,0,0,1\nkidney,0,0,128,2\n",
    "counted": "name,r,g,b\nbackground,0,0,0\nliver,128,0,0\nkidney,0,0,128\n",
}


def painted(labels: np.ndarray, *colors: tuple[int, int, int]) -> np.ndarray:
    """Return the picture of a label map."""
    return np.array([(0, 0, 0), *colors], np.uint8)[labels]


def palette_png(path: Path, labels: np.ndarray, order: list[int], *colors: tuple[int, int, int]) -> Path:
    """Write a palette PNG whose palette has the colours of the labels in another order."""
    shown = [(0, 0, 0), *colors]
    image = Image.fromarray(np.argsort(order)[labels].astype(np.uint8))
    image.putpalette([channel for label in order for channel in shown[label]])
    image.save(path)
    return path


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [2, 0, 1]])
def test_the_colours_of_a_palette_count(tmp_path, order):
    """An optimised PNG has its palette in another order: the picture is the same, and so are its labels."""
    path = palette_png(tmp_path / "p.png", TRUTH, order, RED, BLUE)
    plain = tmp_path / "rgb.png"
    Image.fromarray(painted(TRUTH, RED, BLUE)).save(plain)
    (tmp_path / "t.csv").write_text("label,r,g,b\n0,0,0,0\n1,128,0,0\n2,0,0,128\n")
    for given in ("voc", str(tmp_path / "t.csv"), "packed"):
        np.testing.assert_array_equal(read(path, colors=given).array, read(plain, colors=given).array)
    np.testing.assert_array_equal(read(path, colors=str(tmp_path / "t.csv")).array, TRUTH)
    np.testing.assert_array_equal(read(path).array, np.argsort(order)[TRUTH])  # without it indices are labels


@pytest.mark.parametrize("word", TABLES)
def test_a_table_reads_its_header(tmp_path, word):
    """Columns in any order, separators and words; labels and names are the same."""
    table = tmp_path / "t.csv"
    table.write_text(TABLES[word], encoding="utf-8")
    found = colours(str(table))
    assert found is not None
    assert found.labels == {0: 0, 128 << 16: 1, 128: 2}
    assert found.names == {0: "background", 1: "liver", 2: "kidney"}
    assert [note.code for note in found.notes] == ["colors.counted"] * (word == "counted")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,r,g,b\nliver,256,0,0\n", "0..255"),
        ("name,r,g,b,label\nliver,1,0,0\n", "5 cells"),
        ("name,r,g,b,label\na,1,0,0,1\na,2,0,0,2\n", "one name"),
        ("name,r,g,b,label\na,1,0,0,1\nb,1,0,0,2\n", "second label"),
        ("name,r,g,b,label\nmean,1,0,0,1\n", "name of a row"),
        ("name,color\na,red\n", "a colour"),
        ("name,r,g,b\n", "no colours"),
        ("name,colour,g,b\nx\n", "4 cells"),
        ("a,b\n1,2\n", "is not label"),
        ("", "no colours"),
    ],
)
def test_a_table_that_cannot_be_is_told_before_any_image(tmp_path, text, told):
    """One line that names the table and what is wrong with it; the images need not even exist."""
    table = tmp_path / "t.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        segcli.score("nowhere.png", "nowhere.png", colors=str(table))
    assert caught.value.message.startswith(f"--colors {table}: ")
    assert caught.value.hint


def test_a_table_names_labels_and_keeps_a_class_0_that_has_a_name(tmp_path):
    """Rows have the names of the table; 0 is a class where it is no background."""
    pred = TRUTH.copy()
    pred[2] = 0
    for side, array in (("p", pred), ("g", TRUTH)):
        Image.fromarray(painted(array, RED, BLUE)).save(tmp_path / f"{side}.png")
    table = tmp_path / "t.csv"
    table.write_text("name,r,g,b,label\nroad,0,0,0,0\nliver,128,0,0,1\nkidney,0,0,128,2\nnever,9,9,9,3\n")
    case = segcli.score(tmp_path / "p.png", tmp_path / "g.png", metrics="dice", colors=str(table))
    assert [label.name for label in case.labels] == ["road", "liver", "kidney"]
    road = int((TRUTH == 0).sum())  # by hand: 6 pixels of liver became road
    assert case.value("dice", "road") == pytest.approx(2 * road / (2 * road + 6))
    assert case.value("dice", "liver") == pytest.approx(2 * 18 / (24 + 18))
    table.write_text("name,r,g,b,label\nbackground,0,0,0,0\nliver,128,0,0,1\nkidney,0,0,128,2\n")
    case = segcli.score(tmp_path / "p.png", tmp_path / "g.png", metrics="dice", colors=str(table))
    assert [label.name for label in case.labels] == ["liver", "kidney"]


@pytest.mark.parametrize(("text", "names"), [("name,value\nroad,0\ncar,1\n", ["road", "car"]),
                                              ("name,value\nbackground,0\ncar,1\n", ["car"])])  # fmt: skip
def test_a_label_file_keeps_a_class_0_that_has_a_name(tmp_path, text, names):
    """As in a table of colours: only what is called background is left out."""
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    case = segcli.score(TRUTH % 2, TRUTH % 2, metrics="dice", labels=str(labels))
    assert [label.name for label in case.labels] == names


def test_grey_levels_that_are_colours_of_the_table_are_read_as_those(tmp_path):
    """A drawing in (128, 128, 128) that was saved as grey is VOC's class 7; levels that are labels stay labels."""
    drawn, labels = tmp_path / "drawn.png", tmp_path / "labels.png"
    Image.fromarray(np.where(TRUTH == 1, 128, 0).astype(np.uint8)).save(drawn)
    Image.fromarray(TRUTH).save(labels)
    mask = read(drawn, colors="voc")
    np.testing.assert_array_equal(mask.array, np.where(TRUTH == 1, 7, 0))
    assert [(n.level, n.code) for n in mask.notes] == [("warning", "colors.grey")]
    mask = read(labels, colors="voc")
    np.testing.assert_array_equal(mask.array, TRUTH)
    assert [(n.level, n.code) for n in mask.notes] == [("note", "colors.unused")]


def test_a_palette_that_is_damaged_is_refused(tmp_path):
    """Its checksum is compared, its length is one of colours, and an image of indices has one."""
    file = io.BytesIO()
    image = Image.fromarray(TRUTH)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 128])
    image.save(file, "PNG")
    data = bytearray(file.getvalue())
    data[data.index(b"PLTE") + 4] ^= 1
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match="PLTE"):
        read(path)


def test_a_cohort_keeps_the_hint_of_an_error(tmp_path):
    """What `score` advises stands in the run file and in the terminal."""
    for side in ("p", "g"):
        (tmp_path / side).mkdir()
        for case in ("a", "b"):
            Image.fromarray(painted(TRUTH, RED, BLUE)).save(tmp_path / side / f"{case}.png")
    Image.fromarray(painted(TRUTH, RED, GREY)).save(tmp_path / "p" / "b.png")
    (tmp_path / "t.csv").write_text("r,g,b,label,name\n0,0,0,0,none\n128,0,0,1,liver\n0,0,128,2,kidney\n")
    call = [sys.executable, "-m", "segcli", "--isolated", "evaluate", "p", "g", "-m", "dice", "--colors", "t.csv"]
    done = subprocess.run(
        [*call, "-j", "1", "-o", "run.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["errors"][0]["hint"].startswith("add it to the table")
    assert "add it to the table" in " ".join((done.stdout + done.stderr).split())
    assert list(run["cases"][0]["labels"]) == ["none", "liver", "kidney"]
