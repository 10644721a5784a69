"""The confusion matrix over a cohort: against sums by hand, the same however the cases were scored."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cohorts import segcli

from segcli.cohort.tables import MOST, pooled_tables
from segcli.run.records import Case, TableValue

#: gt and pred of three 2x2 images; the classes of none are those of another.
CASES = {"a": ([0, 0, 1, 1], [0, 1, 1, 1]), "b": ([0, 2, 2, 3], [2, 2, 0, 3]), "c": ([0, 0, 0, 0], [0, 0, 0, 0])}
#: Row by row, gt 0: a has 1 and 1, b one in class 2, c four. gt 1: two right. gt 2: one lost, one right. gt 3: right.
SUM = [["background", 5, 1, 1, 0], ["1", 0, 2, 0, 0], ["2", 1, 0, 1, 0], ["3", 0, 0, 0, 1]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("confusion")
    for side in range(2):
        where = folder / ("gt", "pred")[side]
        where.mkdir()
        for name, arrays in CASES.items():
            np.save(where / f"{name}.npy", np.array(arrays[side], dtype=np.uint8).reshape(2, 2))
    return folder


def document(folder: Path, *words: object) -> dict[str, Any]:
    done = segcli("evaluate", "pred", "gt", "-m", "confusion", "-f", "json", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    del found["environment"]
    return found


def test_the_sum_by_hand(folders: Path) -> None:
    """Every class of any case, voxels summed; the schema knows it."""
    found = document(folders, "-j", "1")
    (table,) = found["tables"]
    assert table == {
        "label": "all",
        "measure": "confusion",
        "over": "cases",
        "n": 3,
        "columns": [r"gt \ pred", "background", "1", "2", "3"],
        "rows": SUM,
    }
    schema = json.loads(segcli("schema", "run").stdout)
    part = schema["properties"]["tables"]
    jsonschema.validate(found["tables"], part)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{k: v for k, v in table.items() if k != "n"}], part)


def test_shards_jobs_and_a_resumed_run_have_the_same(folders: Path) -> None:
    """One job, two, two shards merged, a journal taken up: one document."""
    expected = document(folders, "-j", "1")
    assert document(folders, "-j", "2") == expected
    words = ("evaluate", "pred", "gt", "-m", "confusion", "-j", "1")
    for i in (1, 2):
        assert segcli(*words, "--shard", f"{i}/2", "-o", f"{i}.json", cwd=folders).returncode == 0
    assert segcli("evaluate", "--merge", "1.json", "2.json", "-o", "m.json", cwd=folders).returncode == 0
    assert segcli(*words, "-o", "r.json", cwd=folders).returncode == 0
    assert segcli(*words, "-o", "r.json", "--resume", cwd=folders).returncode == 0
    for name in ("m.json", "r.json"):
        found = json.loads((folders / name).read_text())
        del found["environment"]
        assert json.dumps(found) == json.dumps(expected)


def test_a_binary_cohort_and_named_labels(folders: Path, tmp_path: Path) -> None:
    """One class beside the background; what is not named is background."""
    for side in ("gt", "pred"):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "a.npy", np.array(CASES["a"][side == "pred"], dtype=np.uint8).reshape(2, 2))
    (table,) = document(tmp_path, "-j", "1")["tables"]
    assert table["rows"] == [["background", 1, 1], ["foreground", 0, 2]]
    (table,) = document(folders, "-j", "1", "--labels", "two=2")["tables"]
    assert table["rows"] == [["background", 9, 1], ["two", 1, 1]]


def test_it_is_printed_and_in_the_csv(folders: Path) -> None:
    """As text and Markdown under a title, as tidy lines without a case; no table without the measure."""
    words = ("evaluate", "pred", "gt", "-j", "1", "-m")
    text = segcli(*words, "confusion", cwd=folders).stdout
    assert "confusion: voxels of 3 cases" in text
    assert any(line.split() == ["background", "5", "1", "1", "0"] for line in text.splitlines())
    assert "confusion: voxels of 3 cases" in segcli(*words, "dice,confusion", "-f", "md", cwd=folders).stdout
    rows = list(csv.DictReader(io.StringIO(segcli(*words, "confusion", "-f", "csv", cwd=folders).stdout)))
    found = {(r["label"], r["measure"]): r["value"] for r in rows if r["kind"] == "table" and not r["case"]}
    assert found["2", "confusion:pred=background"] == "1"
    assert len(found) == 16
    plain = segcli(*words, "dice", "-f", "json", cwd=folders)
    assert "tables" not in json.loads(plain.stdout)


def test_random_masks_against_one_matrix_of_all_voxels() -> None:
    """Summing cases is counting all voxels at once."""
    rng = np.random.default_rng(3)
    cases = []
    total = np.zeros((5, 5), dtype=int)
    for _ in range(6):
        classes = np.sort(np.append(0, rng.choice(np.arange(1, 5), 2, replace=False)))
        gt, pred = (rng.choice(classes, 50) for _ in range(2))
        np.add.at(total, (gt, pred), 1)
        names = ["background", *map(str, classes[1:])]
        counts = [[int(((gt == g) & (pred == p)).sum()) for p in classes] for g in classes]
        rows = [(name, *row) for name, row in zip(names, counts, strict=True)]
        table = TableValue("all", "confusion", ("x", *names), rows)
        cases.append(Case(name="", labels={str(i): [i] for i in range(1, 5)}, values=[], tables=[table]))
    (found,) = pooled_tables(cases)
    assert [list(row[1:]) for row in found.rows] == total.tolist()


def test_more_classes_than_a_matrix_has_room_for() -> None:
    """A million cells are the most: then each case keeps its own."""
    names = [f"l{i}" for i in range(MOST)]
    table = TableValue("all", "confusion", ("x", "background", *names), [])
    assert pooled_tables([Case(name="", values=[], tables=[table])]) == []
