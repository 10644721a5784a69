"""Maps whose values are ids of objects: of one class unless somebody names others, as many as there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import segcli as command
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import segcli
from segcli.errors import InputError, UsageError
from segcli.evidence import cells as cells_module
from segcli.evidence import maps as maps_module
from segcli.evidence.case import Case
from segcli.masks.labels import Label
from segcli.tools.pair import conventions

Array = NDArray[Any]

VALUES = ":instances=values"
OBJECTS = ("pq", "rq", "sq", "matched_dice", "object_f1", "object_sensitivity", "object_precision", "true_positives",
           "false_positives", "false_negatives", "ap", "ap50_95", "aji", "aji_plus")  # fmt: skip
few = settings(max_examples=40, deadline=None)


def three() -> tuple[Array, Array]:
    """Return three objects, and the same ones with other ids."""
    gt = np.zeros((20, 24), np.uint16)
    gt[1:5, 2:8], gt[7:17, 3:9], gt[4:9, 12:22] = 1, 2, 3
    return np.array([0, 3, 1, 2], np.uint16)[gt], gt


def scattered(n: int, dtype: Any = np.int32) -> Array:
    """Return a map of `n` objects of one voxel, ids from 1, none beside another."""
    side = int(np.ceil(np.sqrt(n)))
    ids = np.zeros((2 * side, 2 * side), dtype)
    ids[::2, ::2].flat[:n] = np.arange(1, n + 1)
    return ids


def by_name(found: Any) -> dict[tuple[str, str], float | None]:
    return {(v.label, v.measure.split(":")[0]): v.value for v in found.values}


# --- ids are no classes ---------------------------------------------------------------------------


def test_other_ids_of_the_same_objects() -> None:
    """Without labels all values are objects of one class; a note says so, and both numbers of them."""
    pred, gt = three()
    found = segcli.score(pred, gt, metrics=",".join(f"{name}{VALUES}" for name in OBJECTS))
    values = by_name(found)
    assert {label for label, _ in values} == {"foreground"}
    assert {name: values["foreground", name] for name in OBJECTS} == {
        **dict.fromkeys(OBJECTS, 1), "true_positives": 3, "false_positives": 0, "false_negatives": 0,
    }  # fmt: skip
    (note,) = found.notes
    assert (note.level, note.code) == ("note", "labels.instances")
    assert "3 values of the prediction and the 3 values of the ground truth are objects of one class" in note.text
    rows = segcli.score(pred, gt, metrics=f"objects{VALUES}").tables[0].rows
    assert [(row[:2], row[4]) for row in rows if row[0] == "gt"] == [(("gt", 1), 3), (("gt", 2), 1), (("gt", 3), 2)]


def test_what_is_asked_beside() -> None:
    """One call has one set of labels: dice is of all objects together, and so is a loss."""
    pred, gt = three()
    found = segcli.score(pred, gt, metrics=f"dice,pq{VALUES},mean_iou", losses="dice")
    assert [(v.label, v.kind, v.value) for v in found.values] == [
        ("foreground", "metric", 1), ("foreground", "metric", 1), ("foreground", "loss", 0), ("all", "metric", 1),
    ]  # fmt: skip


def test_named_labels_are_classes() -> None:
    """A label of one value has one object, a region as many as it has values, whatever their ids."""
    pred, gt = three()
    named = segcli.score(pred, gt, metrics=f"true_positives{VALUES},pq{VALUES}", labels="a=1,b=2,c=3,ab=1+2,n=any")
    values = by_name(named)
    assert [values[label, "true_positives"] for label in ("a", "b", "c", "ab", "n")] == [0, 0, 0, 1, 3]
    assert not named.notes


def test_components_are_of_each_value() -> None:
    """Where no measure takes values for objects, values are classes as ever."""
    pred, gt = three()
    found = segcli.score(pred, gt, metrics="pq,dice")
    assert [label.name for label in found.labels] == ["1", "2", "3"]
    assert not any(note.code.startswith("labels.instances") for note in found.notes)


def test_one_object_of_another_id() -> None:
    """One object in each map, 7 here and 3 there, is one class as well; --strict has nothing against it."""
    gt = three()[1]
    one = (gt == 2).astype(np.uint8)
    found = segcli.score(7 * one, 3 * one, metrics=f"pq{VALUES}", strict=True)
    assert found.values[0].value == 1
    assert [note.code for note in found.notes] == ["labels.instances"]
    assert not segcli.score(one, one, metrics=f"pq{VALUES}").notes


def test_void_among_ids() -> None:
    """255 where no id comes near is told of."""
    pred, gt = three()
    gt[0, 0] = 255
    notes = segcli.score(pred, gt, metrics=f"pq{VALUES}").notes
    assert [note.code for note in notes] == ["labels.instances", "labels.instances-void"]


def test_channels_are_classes() -> None:
    """Channels say which classes there are: a value of the truth is then a class, with one object."""
    pred, gt = three()
    p = np.stack([pred == c for c in range(4)]).astype(np.float32)
    values = by_name(segcli.score(p, gt, metrics=f"pq{VALUES}"))
    assert values == {("1", "pq"): 0, ("2", "pq"): 0, ("3", "pq"): 0}


def test_probabilities_of_one_map() -> None:
    """A probability map is one object; the truth has its own."""
    gt = three()[1]
    found = segcli.score((gt > 0) * np.float32(0.9), gt, metrics=f"object_sensitivity{VALUES}:matching=overlap")
    assert found.values[0].value == 1
    assert "the prediction is one object, the 3 values of the ground truth" in found.notes[-1].text


@given(
    arrays(np.uint8, (6, 9), elements=st.integers(0, 4)),
    arrays(np.uint8, (6, 9), elements=st.integers(0, 4)),
    st.permutations([1, 2, 3, 4]),
    st.permutations([1, 2, 3, 4]),
)
@few
def test_no_id_matters(pred: Array, gt: Array, one: list[int], other: list[int]) -> None:
    """Any other ids on either side give the same values."""
    asked = ",".join(f"{name}{VALUES}" for name in OBJECTS)
    first = by_name(segcli.score(pred, gt, metrics=asked))
    maps = (np.array([0, *order], np.int32) ** 3 for order in (one, other))
    again = by_name(segcli.score(*(m[ids] for m, ids in zip(maps, (pred, gt), strict=True)), metrics=asked))
    assert again == {key: v if v is None else pytest.approx(v, rel=1e-12) for key, v in first.items()}


# --- the same in every command --------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, array in zip(("pred", "gt"), three(), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def test_score(files: Path) -> None:
    """A limit's measure and a convention's count as asked for."""
    for more in (["-m", f"pq{VALUES}"], ["-m", "dice", "--min", f"pq{VALUES}=1"], ["-m", "pq", "--convention", "monai"],
                 ["-m", "pq", "--convention", "torchmetrics", "--min", "pq=1"]):  # fmt: skip
        done = command("--isolated", "score", "pred.npy", "gt.npy", *more, "-f", "json", cwd=files)
        (case,) = json.loads(done.stdout)["cases"]
        assert done.returncode == 0
        assert case["labels"] == {"foreground": "any"}
        assert {v["value"] for v in case["values"]} == {1}
        assert "are objects of one class" in done.stderr


def test_a_preset_leaves_values_classes() -> None:
    """Of all that a tool has, what takes values for objects is asked for by name, or alone."""
    pred, gt = three()
    found = segcli.score(pred, gt, metrics="all", convention="monai")
    assert [label.name for label in found.labels] == ["1", "2", "3"]
    assert {"dice", "iou"} <= {v.measure for v in found.values}
    assert not any(VALUES in v.measure for v in found.values)
    for asked in ("instances", "all,pq", "dice,pq,true_positives:instances=values"):
        found = segcli.score(pred, gt, metrics=asked, convention="monai")
        assert found.value(f"pq{VALUES}") == 1


def test_compare_and_conventions(files: Path) -> None:
    """Losses are of the union; tools that take values for objects print 1, others are of each value."""
    pred, gt = three()
    rows = segcli.compare([pred], gt, losses="dice", metrics=f"pq{VALUES}").rows
    assert [(row.label, row.value) for row in rows] == [("foreground", 0), ("foreground", 1)]
    found = conventions(files / "pred.npy", files / "gt.npy", metrics="pq,dice")
    printed = {(row.quantity, row.tool, row.label): row.printed.value for row in found.rows}
    assert printed["pq", "MONAI", "foreground"] == printed["pq", "torchmetrics", "foreground"] == 1
    assert printed["pq", "panoptica", "1"] == printed["dice", "MONAI", "1"] == 0
    assert "labels.instances" in [note.code for note in found.notes]


@pytest.mark.parametrize("jobs", [1, 2])
def test_evaluate(tmp_path: Path, jobs: int) -> None:
    """Every case of a cohort has the one class: one with one object, one without, one without a prediction."""
    pred, gt = three()
    nothing = np.zeros_like(gt)
    cases = {"a": (pred, gt), "b": ((gt == 2) * 9, gt * (gt == 2)), "c": (nothing, nothing), "d": (None, gt)}
    for side, index in (("pred", 0), ("gt", 1)):
        (tmp_path / side).mkdir()
        for name, maps in cases.items():
            if maps[index] is not None:
                np.save(tmp_path / side / f"{name}.npy", maps[index])
    run = segcli.evaluate(
        tmp_path / "pred", tmp_path / "gt", metrics=f"pq{VALUES},dice", jobs=jobs, missing="worst"
    ).to_dict()
    assert [list(case["labels"]) for case in run["cases"]] == [["foreground"]] * 4
    values = {case["case"]: case["values"][0]["value"] for case in run["cases"]}
    assert values == {"a": 1, "b": 1, "c": None, "d": 0}
    assert next(s for s in run["summary"] if s["measure"].startswith("pq"))["pooled"] == pytest.approx(8 / 11)
    assert not {"instances", "occur"} & run["cases"][0].keys()


def test_classes_beside_objects(tmp_path: Path) -> None:
    """In a cohort whose values are objects, a case whose channels are classes is an error, and the rest is scored."""
    pred, gt = three()
    for side, maps in (("pred", (pred, np.stack([gt == c for c in range(4)]).astype(np.float32))), ("gt", (gt, gt))):
        (tmp_path / side).mkdir()
        for name, array in zip("ab", maps, strict=True):
            np.save(tmp_path / side / f"{name}.npy", array)
    run = segcli.evaluate(tmp_path / "pred", tmp_path / "gt", metrics=f"pq{VALUES}", jobs=1).to_dict()
    assert [case["case"] for case in run["cases"]] == ["a"]
    assert [(error["case"], error["code"]) for error in run["errors"]] == [("b", "kind.mixed")]


# --- other tools ----------------------------------------------------------------------------------


def lumps(rng: np.random.Generator, n: int = 9) -> tuple[Array, Array]:
    """Return discs, and most of them again, moved a little and with other ids."""
    y, x = np.mgrid[:48, :48]
    gt, pred = np.zeros((48, 48), np.int64), np.zeros((48, 48), np.int64)
    ids = rng.permutation(n) + 1
    for k in range(n):
        (cy, cx), r = rng.uniform(4, 44, 2), rng.uniform(3, 8)
        gt[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = k + 1
        dy, dx = rng.normal(0, 1.5, 2)
        if rng.random() < 0.8:
            pred[(y - cy - dy) ** 2 + (x - cx - dx) ** 2 < (r * rng.uniform(0.8, 1.2)) ** 2] = ids[k]
    return pred, gt


@pytest.mark.parametrize("seed", range(8))
def test_as_monai(seed: int) -> None:
    """Panoptic quality and its factors, also where several matches are possible."""
    tool, torch = pytest.importorskip("monai.metrics"), pytest.importorskip("torch")
    pred, gt = lumps(np.random.default_rng(seed))
    for threshold in (0.5, 0.7):
        found = segcli.score(pred, gt, metrics=",".join(f"{m}{VALUES}:iou={threshold}" for m in ("pq", "sq", "rq")))
        # MONAI counts ids up to the largest: they have to be without gaps.
        maps = [torch.from_numpy(np.unique(a, return_inverse=True)[1].reshape(a.shape)) for a in (pred, gt)]
        for value, name in zip(found.values, ("pq", "sq", "rq"), strict=True):
            expected = tool.compute_panoptic_quality(*maps, metric_name=name, match_iou_threshold=threshold)
            assert value.value == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_as_torchmetrics(seed: int) -> None:
    """The same of torchmetrics, with one class of things."""
    tool, torch = pytest.importorskip("torchmetrics.functional.detection"), pytest.importorskip("torch")
    pred, gt = lumps(np.random.default_rng(100 + seed))
    maps = [torch.from_numpy(np.stack([a > 0, a], axis=-1)[None].astype(np.int64)) for a in (pred, gt)]
    how = {"things": {1}, "stuffs": {0}, "return_per_class": True, "return_sq_and_rq": True}
    found = segcli.score(pred, gt, metrics=",".join(f"{m}{VALUES}" for m in ("pq", "sq", "rq")))
    assert [v.value for v in found.values] == pytest.approx(tool.panoptic_quality(*maps, **how)[0].tolist(), rel=1e-5)


# --- many of them ---------------------------------------------------------------------------------


@given(
    arrays(np.uint8, (5, 30), elements=st.integers(0, 6)),
    arrays(np.uint8, (5, 30), elements=st.integers(0, 6)),
    st.none() | arrays(np.bool_, (5, 30)),
    st.integers(3, 200),
)
@few
def test_listed_pairs_are_the_table(pred: Array, gt: Array, valid: Array | None, part: int) -> None:
    """Pairs counted one by one, in parts of any length, are those of the table."""
    pred, gt = np.sort(pred, axis=1), np.sort(gt, axis=1)
    labels = [Label("a", (1,)), Label("b", (2, 5, 6), is_region=True), Label("n", None), Label("z", (9,))]
    one = Case.of(pred, gt, labels, valid=valid)
    assert isinstance(one.maps.cells, cells_module.Table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps_module, "MOST_CELLS", 0)
        patch.setattr(cells_module, "SMALL", part)
        other = Case.of(pred, gt, labels, valid=valid)
        assert isinstance(other.maps.cells, cells_module.Listed)
        for mine, its in zip(one.maps.cells.sizes, other.maps.cells.sizes, strict=True):
            np.testing.assert_array_equal(mine, its)
        for part_of_joint in ("n", "row", "column"):
            mine, its = (getattr(x.maps.cells.joint, part_of_joint) for x in (one, other))
            np.testing.assert_array_equal(mine, its)
        for k in range(len(labels)):
            assert one.counts(k) == other.counts(k)
        np.testing.assert_array_equal(one.classes.confusion, other.classes.confusion)
        assert one.classes.sums == other.classes.sums


WIDE = (f"pq{VALUES},aji{VALUES},aji_plus{VALUES},ap{VALUES},dice,hd95,hd:surface=set,assd:surface=mesh,nsd:tol=1,"
        "boundary_iou,boundary_f,cldice,betti0_error,mahalanobis,volume_similarity,pq,vi,ari,rand,mean_iou,"
        "pixel_accuracy,multiclass_mcc")  # fmt: skip


@pytest.mark.parametrize("n", [8281, 70_000])
def test_many_ids(n: int) -> None:
    """As many as a slide has nuclei: every measure of all of them together, and of one of them."""
    gt = scattered(n)
    pred = np.where(gt, n + 1 - gt, 0)
    found = by_name(segcli.score(pred, gt, metrics=WIDE, labels="n=any"))
    best = {m.name: m.best() for m in segcli.measures("metric")}
    assert len(found) == WIDE.count(",")  # pq of values and of components
    for (_, name), value in found.items():
        assert value == pytest.approx(best[name], rel=1e-12), name
    found = by_name(segcli.score(pred, gt, metrics="dice,hd95,voxels_gt", labels=f"a={n},b=1+{n},n=any"))
    half = 2 * ((np.sqrt(n) // 1 + (np.sqrt(n) % 1 > 0)) - 1)
    assert (found["a", "voxels_gt"], found["b", "voxels_gt"], found["n", "voxels_gt"]) == (1, 2, n)
    assert (found["a", "dice"], found["b", "dice"]) == (0, 1)
    assert found["a", "hd95"] > half
    table = segcli.score(pred, gt, metrics="confusion", labels="n=any").tables[0].rows
    assert table == [("background", gt.size - n, 0), ("n", 0, n)]


def test_many_ids_are_those_of_a_mask() -> None:
    """What does not look at ids is what it is of the mask without any, ignored voxels and order of memory included."""
    rng = np.random.default_rng(0)
    gt, pred = scattered(66_000), scattered(66_000)
    pred[rng.random(pred.shape) < 0.3] = 0
    gt[rng.random(gt.shape) < 0.1] = 9
    asked = "dice,hd95,assd,hd:surface=set,nsd:tol=1,pq,betti0_error,boundary_iou,mahalanobis"
    how = {"metrics": asked, "labels": "n=any", "ignore_label": 9}
    for order in ("C", "F"):
        masks = [np.where(a == 9, 9, np.minimum(a, 1)).astype(np.uint8, order=order) for a in (pred, gt)]
        many = segcli.score(pred.astype(np.int64, order=order), gt.astype(np.uint32, order=order), **how)
        assert by_name(many) == by_name(segcli.score(*masks, **how))


def test_many_labels() -> None:
    """Without labels each value is one, with a warning; a loss and a matrix of that many are refused."""
    ids = scattered(8281)
    found = segcli.score(ids, ids, metrics="dice,vi,mean_iou")
    assert found.means[0].n == 8281
    assert found.means[0].value == 1
    assert [(note.level, note.code) for note in found.notes] == [("warning", "labels.many")]
    assert "8281 values" in found.notes[0].text
    assert "--labels cells=any" in found.notes[0].text
    with pytest.raises(InputError, match="8282 values would have as many channels"):
        segcli.score(ids, ids, losses="dice")
    with pytest.raises(UsageError, match="confusion of 8282 classes"):
        segcli.score(ids, ids, metrics="confusion")
    assert segcli.score(ids, ids, metrics="dice", losses="dice", labels="n=any").values[1].value == 0
    assert segcli.score(ids, ids, metrics=f"pq{VALUES}").values[0].value == 1


def test_too_many() -> None:
    """What is no label map is told so at once, not after a million rows."""
    noise = np.arange(400 * 400, dtype=np.int32).reshape(400, 400)
    with pytest.raises(InputError, match="159999 values would be as many labels") as caught:
        segcli.score(noise, noise, metrics="dice")
    assert "--labels cells=any" in caught.value.hint
    assert segcli.score(noise, noise, metrics="dice", labels="n=any").values[0].value == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segcli.evidence.label_map.MOST_VALUES", 100_000)
        with pytest.raises(InputError, match="160000 different values; at most 100000"):
            segcli.score(noise, noise, labels="n=any")
