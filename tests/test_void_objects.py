"""Objects beside ignored voxels: void as in Kirillov et al. 2019, section 4.2, in every measure of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

import segcli
from segcli.evidence.case import Case
from segcli.kernels.components import Runs, painted, runs_of, without
from segcli.masks.labels import Label

Array = NDArray[Any]

VOID = 99
MEASURES = ("pq", "rq", "sq", "matched_dice", "object_f1", "object_sensitivity", "object_precision", "true_positives",
            "false_positives", "false_negatives", "ap", "ap50_95", "aji", "aji_plus")  # fmt: skip
few = settings(max_examples=60, deadline=None)


def beside_void() -> tuple[Array, Array]:
    """Return a found object, and one of 36 voxels of which 30 are void."""
    gt, pred = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    gt[2:10, 2:10] = pred[2:10, 2:10] = 1
    pred[11:17, 12:18] = 2
    gt[12:18, 2:18] = VOID
    return pred, gt


def scored(pred: Array, gt: Array, names: tuple[str, ...] = MEASURES, more: str = "", **how: Any) -> dict[str, Any]:
    asked = ",".join(f"{name}{more}" for name in names)
    found = segcli.score(pred, gt, metrics=asked, **{"labels": "n=any", "ignore_label": VOID, **how})
    return dict(zip(names, (v.value for v in found.values), strict=True))


# --- what is no false positive --------------------------------------------------------------------


@pytest.mark.parametrize("instances", ["components", "values"])
def test_mostly_void_is_not_false(instances: str) -> None:
    """Kirillov: unmatched and more than half void, it is left out; torchmetrics 1.9 gives PQ 1 of this pair too."""
    pred, gt = beside_void()
    found = scored(pred, gt, more=f":instances={instances}")
    assert found == {**dict.fromkeys(MEASURES, 1), "false_positives": 0, "false_negatives": 0}
    overlap = scored(pred, gt, ("object_precision",), f":instances={instances}:matching=overlap")
    assert overlap == {"object_precision": 1}
    rows = segcli.score(pred, gt, metrics=f"objects:instances={instances}", labels="n=any", ignore_label=VOID).tables[0]
    assert [row[:3] for row in rows.rows] == [("gt", 1, 64), ("pred", 1, 64)]


def test_half_void_is_false() -> None:
    """Exactly half is not more than half; what is left of it counts against the prediction."""
    pred, gt = beside_void()
    pred[9:13, 15:18] = pred[11:17, 12:18] = 0
    pred[10:14, 12:18] = 2
    found = scored(pred, gt)
    assert (found["false_positives"], found["pq"], found["aji"]) == (1, 2 / 3, 64 / 76)
    rows = segcli.score(pred, gt, metrics="objects", labels="n=any", ignore_label=VOID).tables[0].rows
    assert [row[:3] for row in rows] == [("gt", 1, 64), ("pred", 1, 64), ("pred", 2, 12)]


def test_void_is_not_in_the_iou() -> None:
    """A match may reach far into void: 8 of 8 voxels that count are shared, of 24 that were predicted."""
    gt = np.array([[1] * 8 + [VOID] * 20], np.uint8)
    pred = np.array([[1] * 24 + [0] * 4], np.uint8)
    assert scored(pred, gt) == {**dict.fromkeys(MEASURES, 1), "false_positives": 0, "false_negatives": 0}


def test_void_does_not_cut_an_object() -> None:
    """One predicted object across void is one false positive, not two."""
    gt = np.array([[0, 0, 0, VOID, 0, 0, 0, 1]], np.uint8)
    pred = np.array([[0, 1, 1, 1, 1, 1, 0, 1]], np.uint8)
    assert scored(pred, gt, ("false_positives", "true_positives")) == {"false_positives": 1, "true_positives": 1}


def test_void_that_is_predicted_joins_nothing() -> None:
    """A prediction that writes the value of void there has no object of it, of any value that is not 0 neither."""
    gt = np.array([[1, 1, VOID, VOID, 1, 1, 0, 0]], np.uint8)
    assert scored(gt, gt, ("pq", "true_positives")) == {"pq": 1, "true_positives": 2}
    assert scored(gt, gt, ("pq", "true_positives"), ":instances=values") == {"pq": 1, "true_positives": 1}


def test_nothing_is_left() -> None:
    """Without a true object and with a mostly void one there is no object: undefined, not 0; a rule sees both empty."""
    pred, gt = beside_void()
    pred[gt == 1] = gt[gt == 1] = 0
    found = scored(pred, gt)
    assert (found["pq"], found["false_positives"], found["ap"], found["object_precision"]) == (None, 0, None, None)
    (value,) = segcli.score(
        pred, gt, metrics="pq", labels="n=any", ignore_label=VOID, empty="perfect-if-both-empty"
    ).values
    assert (value.value, value.status, value.why) == (1, "policy", "both_empty")
    pred[0, 0] = 1
    assert scored(pred, gt, ("pq", "false_positives")) == {"pq": 0, "false_positives": 1}


def test_lesions_and_candidates() -> None:
    """A lesion-wise false one, and a candidate of a detection, are held to the same rule."""
    pred, gt = beside_void()
    dice = "lesion_dice:dilation=0"
    assert scored(pred, gt, (dice, "lesion_hd95:dilation=0")) == {dice: 1, "lesion_hd95:dilation=0": 0}
    p = np.where(pred > 0, 0.9, 0.05).astype(np.float32)
    curve = segcli.score(p, gt, metrics="froc_curve", labels="n=any", ignore_label=VOID).tables[0].rows
    assert [row[1:] for row in curve] == [(0, 1)]
    pred[11:17, 12:18] = 0
    pred[10:14, 12:18] = 2  # half of it is void
    assert scored(pred, gt, (dice,)) == {dice: 0.5}
    p = np.where(pred > 0, 0.9, 0.05).astype(np.float32)
    curve = segcli.score(p, gt, metrics="froc_curve", labels="n=any", ignore_label=VOID).tables[0].rows
    assert [row[1:] for row in curve] == [(1, 1)]


def test_pooled(tmp_path: Path) -> None:
    """The parts that a run file keeps hold no void object: the pooled value has none either."""
    for side, array in zip(("pred", "gt"), beside_void(), strict=True):
        (tmp_path / side).mkdir()
        for name in "ab":
            np.save(tmp_path / side / f"{name}.npy", array)
    run = segcli.evaluate(tmp_path / "pred", tmp_path / "gt", metrics="pq,ap,aji,object_precision,false_positives",
                          labels="n=any", ignore_label=VOID, jobs=1).to_dict()  # fmt: skip
    assert [row["pooled"] for row in run["summary"]] == [1, 1, 1, 1, 0]


# --- slow twins and another tool ------------------------------------------------------------------


@st.composite
def maps_with_void(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Draw a prediction, a truth and void, in stretches."""
    form = draw(st.sampled_from([(1, 14), (5, 7), (2, 3, 5)]))
    pred, gt = (np.sort(draw(arrays(np.uint8, form, elements=st.integers(0, 4))), axis=-1) for _ in range(2))
    return pred, gt, draw(arrays(np.bool_, form))


def masks_of(array: Array, instances: str) -> list[Array]:
    """Return each object of a map as a mask."""
    numbers = array
    if instances == "components":
        numbers = ndimage.label(array > 0, np.ones((3,) * array.ndim))[0]
    return [numbers == k for k in np.unique(numbers[numbers > 0])]


@given(maps_with_void(), st.sampled_from(["components", "values"]))
@few
def test_as_written_down(maps: tuple[Array, Array, Array], instances: str) -> None:
    """Counts, PQ and AJI+ are the procedure of the paper, one mask after another."""
    pred, gt, void = maps
    gt = np.where(void, VOID, gt)
    if void.all():
        return
    preds, gts = masks_of(pred, instances), masks_of(np.where(void, 0, gt), instances)
    iou = np.array([[(p & g).sum() / ((p & ~void) | g).sum() for g in gts] for p in preds])
    iou = iou.reshape(len(preds), len(gts))
    pairs = np.argwhere(iou > 0.5)
    rest = [p for k, p in enumerate(preds) if k not in pairs[:, 0]]
    fp = sum((p & void).sum() <= p.sum() / 2 for p in rest)
    fn = len(gts) - len(pairs)
    found = scored(pred, gt, ("true_positives", "false_positives", "false_negatives", "pq"), f":instances={instances}")
    assert found["true_positives"] == len(pairs)
    assert found["false_positives"] == fp
    assert found["false_negatives"] == fn
    total = len(pairs) + (fp + fn) / 2
    expected = sum(iou[i, j] for i, j in pairs) / total if total else None
    assert found["pq"] == (expected if expected is None else pytest.approx(expected))


@given(maps_with_void(), st.sampled_from(["components", "values"]), st.booleans())
@few
def test_without_void_nothing_changes(maps: tuple[Array, Array, Array], instances: str, reverse: bool) -> None:
    """A grid of voxels that all count gives what no grid gives, in either order of memory."""
    pred, gt, _ = (np.asarray(a, order="F" if reverse else "C") for a in maps)
    found = []
    for valid in (None, np.ones(gt.shape, bool)):
        case = Case.of(pred, gt, [Label("n", None)], valid=valid)
        pairs = case.pair(0).structure.objects(instances, "26")  # type: ignore[arg-type]
        boxes = [o.extents.boxes.tolist() for o in (pairs.objects_pred, pairs.objects_gt)]
        ids = pairs.objects_pred.ids, pairs.objects_gt.ids
        found.append((ids, boxes, pairs.pred.tolist(), pairs.gt.tolist(), pairs.shared.tolist(), pairs.match(0.3)[4:]))
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("instances", ["components", "values"])
def test_as_torchmetrics(seed: int, instances: str) -> None:
    """PQ, SQ and RQ of one class of things beside unlabelled voxels are those of torchmetrics."""
    tool, torch = pytest.importorskip("torchmetrics.functional.detection"), pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40]
    gt, pred = np.zeros((40, 40), np.int64), np.zeros((40, 40), np.int64)
    for k in range(1, 10):
        (cy, cx), r = rng.uniform(2, 38, 2), rng.uniform(3, 7)
        dy, dx = rng.normal(0, 1.2, 2)
        gt[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = k
        pred[(y - cy - dy) ** 2 + (x - cx - dx) ** 2 < r * r] = 10 - k
    for _ in range(5):
        (cy, cx), r = rng.uniform(2, 38, 2), rng.uniform(3, 9)
        gt[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = VOID
    ids = [pred, np.where(gt == VOID, 0, gt)]
    if instances == "components":
        ids = [ndimage.label(a > 0, np.ones((3, 3)))[0] for a in ids]
    classes = [np.where(a == VOID, 7, a > 0) for a in (pred, gt)]
    maps = [torch.from_numpy(np.stack(pair, axis=-1)[None].astype(np.int64)) for pair in zip(classes, ids, strict=True)]
    how = {"things": {1}, "stuffs": {0}, "return_per_class": True, "return_sq_and_rq": True}
    expected = tool.panoptic_quality(*maps, **how)[0].tolist()
    found = scored(pred, gt, ("pq", "sq", "rq"), f":instances={instances}")
    # Where nothing matches its SQ is 0, and here undefined.
    assert [v or 0 for v in found.values()] == pytest.approx(expected, rel=1e-6)  # its IoU is in float32


@given(arrays(np.uint8, (2, 3, 9), elements=st.integers(0, 2)), arrays(np.bool_, (2, 3, 9)))
@few
def test_runs_without_others(codes: Array, holes: Array) -> None:
    """Runs outside of others are those of the array with these voxels cleared."""
    runs = runs_of(codes, np.array([-1, 0, 1], np.int32))
    left = without(runs, runs_of(holes.view(np.uint8), np.array([-1, 0], np.int32)))
    whole = np.array([[0, n] for n in codes.shape])
    for value in (0, 1):
        wanted = np.arange(2) == value
        np.testing.assert_array_equal(painted(left, wanted, whole), (codes == value + 1) & ~holes)
    assert isinstance(left, Runs)
    assert (left.stops > left.starts).all()
