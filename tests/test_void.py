"""Voxels that do not count: void is what the ground truth says, and a region of interest takes the rest out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cohorts import segcli as command
from conftest import SHARED, needs_shared
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import segcli
from segcli.errors import InputError, UsageError
from segcli.masks.void import as_spec, looks_void, parse_ignored, shown
from segcli.tools.pair import conventions

Array = np.ndarray[Any, Any]
OVERLAP = ["dice", "iou", "sensitivity", "precision", "mcc", "balanced_accuracy"]


def square(value: int = 1, shift: int = 0, side: int = 12) -> Array:
    """Return an image with a square of 6x6 pixels, `shift` rows further down."""
    found = np.zeros((side, side), np.uint8)
    found[2 + shift : 8 + shift, 3:9] = value
    return found


def called(*words: object) -> tuple[int, str, str]:
    found = command("--isolated", *words)
    return found.returncode, found.stdout, found.stderr


# --- what a value of void means -----------------------------------------------------------------------


def test_void_in_the_prediction_is_a_miss() -> None:
    """8 of 16 voxels found, the others predicted as void: Dice 2*8/(16+8), however the labels are named."""
    gt = np.zeros((8, 8), np.uint8)
    gt[2:6, 2:6] = 1
    pred = gt.copy()
    pred[4:6, 2:6] = 255
    for labels in (None, "fg=1", "fg=any", "a=1,b=2"):
        found = segcli.score(pred, gt, metrics="dice,iou", ignore_label=255, labels=labels)
        label = found.labels[0].name
        assert found.value("dice", label) == pytest.approx(16 / 24)
        assert found.value("iou", label) == 0.5
        assert [x.name for x in found.labels if x.values == (255,)] == []
    assert segcli.score(pred, gt, metrics="dice", ignore_label=255, convention="nnunet").value("dice") == 16 / 24
    (row,) = conventions(pred, gt, metrics="dice", ignore_label=255, convention="nnunet").rows
    assert row.printed.value == row.own == 16 / 24
    said = [note.text for note in found.notes]
    assert "255 in the prediction at 8 voxels that count: no label, and wrong there" in said


def test_void_over_errors_gains_nothing_with_one_label() -> None:
    """A square moved by a quarter: void over all that is wrong leaves Dice 0.75, which either rule makes 1."""
    gt = np.zeros((40, 40), np.uint8)
    gt[10:30, 8:30] = 1
    pred = np.zeros((40, 40), np.uint8)
    pred[15:35, 8:30] = 1
    evasive = np.where(pred == gt, pred, 255).astype(np.uint8)
    for labels in (None, "fg=1", "fg=any"):
        found = segcli.score(evasive, gt, metrics="dice,iou", ignore_label=255, labels=labels)
        assert (found.value("dice"), found.value("iou")) == (0.75, 0.6)
    either = segcli.score(evasive, gt, metrics="dice", ignore_label=255, ignore_in="either")
    assert either.value("dice") == 1
    assert "(255 in either file: --ignore-in either)" in either.notes[0].text
    # nnU-Net compares with the label: void outside it is no false alarm there, 2*330/(440+330)
    tool = conventions(evasive, gt, metrics="dice", ignore_label=255, convention="nnunet").rows[0]
    assert (tool.own, tool.printed.value) == (0.75, pytest.approx(660 / 770))
    assert tool.because == ("void in the prediction is a miss, no false alarm",)
    by_tool = segcli.score(evasive, gt, metrics="dice", ignore_label=255, convention="nnunet")
    assert by_tool.value("dice") == pytest.approx(660 / 770)
    assert not [n for n in by_tool.notes if "false alarms" in n.text]


@given(
    hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 1)),
    hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 1)),
    hnp.arrays(np.bool_, (6, 7)),
    hnp.arrays(np.bool_, (6, 7)),
)
def test_no_measure_of_one_label_gains_by_void(pred: Array, gt: Array, hidden: Array, written: Array) -> None:
    """Whatever errors a prediction writes void over, counts, losses and distances to the gt are not better."""
    gt = np.where(hidden, 255, gt).astype(np.uint8)
    evasive = np.where(written & (pred != gt), 255, pred).astype(np.uint8)
    if (gt == 255).all():
        return
    how: dict[str, Any] = {"metrics": [*OVERLAP, "accuracy"], "losses": "dice,bce", "ignore_label": 255}
    before, after = segcli.score(pred, gt, labels="fg=1", **how), segcli.score(evasive, gt, labels="fg=1", **how)
    assert after.counts == before.counts
    assert [v.value for v in after.values] == [v.value for v in before.values]


@given(st.integers(0, 2**32 - 1))
def test_several_labels_as_ade20k_and_voc_count(seed: int) -> None:
    """Of several labels void is a miss of the voxel's class and nothing else: intersection and union over gt > 0."""
    rng = np.random.default_rng(seed)
    gt, pred = rng.integers(0, 4, (9, 8)).astype(np.uint8), rng.integers(0, 4, (9, 8)).astype(np.uint8)
    gt[0, :4] = pred[1, :4] = range(4)
    found = segcli.score(pred, gt, metrics="iou,mean_iou,pixel_accuracy", labels=[1, 2, 3], ignore_label=0)
    # CSAILVision/sceneparsing: the prediction is 0 where the gt is, and 0 is no class.
    seen = gt > 0
    own = [(seen & (pred == c) & (gt == c)).sum() for c in (1, 2, 3)]
    union = [(seen & ((pred == c) | (gt == c))).sum() for c in (1, 2, 3)]
    ious = [a / b for a, b in zip(own, union, strict=True)]
    assert [found.value("iou", c) for c in (1, 2, 3)] == pytest.approx(ious)
    assert found.value("mean_iou") == pytest.approx(np.mean(ious))
    assert found.value("pixel_accuracy") == pytest.approx((seen & (pred == gt)).sum() / seen.sum())


def test_agreement_beyond_chance_is_that_of_a_class_more() -> None:
    """MCC and kappa of several classes are scikit-learn's with void as a class that only the prediction has."""
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    rng = np.random.default_rng(4)
    gt, pred = rng.integers(0, 3, (9, 9)).astype(np.uint8), rng.integers(0, 3, (9, 9)).astype(np.uint8)
    pred[rng.random((9, 9)) < 0.2] = 255
    gt[0] = 255
    found = segcli.score(pred, gt, metrics="multiclass_mcc,multiclass_kappa,confusion", ignore_label=255)
    counted = gt != 255
    assert found.value("multiclass_mcc") == pytest.approx(matthews_corrcoef(gt[counted], pred[counted]))
    assert found.value("multiclass_kappa") == pytest.approx(cohen_kappa_score(gt[counted], pred[counted]))
    table = found.tables[0]
    assert table.columns == ("gt \\ pred", "background", "1", "2", "(255)")
    assert [row[0] for row in table.rows] == ["background", "1", "2"]
    assert sum(sum(row[1:]) for row in table.rows) == counted.sum()  # type: ignore[misc]


def test_losses_see_no_label_in_void() -> None:
    """A hard prediction of void has probability 0 of every class, and costs as much as a certain error."""
    gt = np.array([[0, 1, 2, 2], [1, 0, 255, 1]], np.uint8)
    pred = np.array([[255, 1, 255, 2], [1, 0, 1, 2]], np.uint8)
    wrong = pred.copy()
    wrong[0, 0], wrong[0, 2] = 1, 1
    ce = [segcli.score(p, gt, losses="categorical_ce", metrics=(), ignore_label=255) for p in (pred, wrong)]
    assert ce[0].value("categorical_ce", "all") == ce[1].value("categorical_ce", "all")
    binary = [np.where(a == 2, 1, a).astype(np.uint8) for a in (pred, gt)]
    found = segcli.score(*binary, losses="categorical_ce,bce", metrics=(), ignore_label=255)
    # 7 voxels count; void on background and void on 1 are errors, the rest is right
    clip = found.value("bce")
    assert clip == pytest.approx(found.value("categorical_ce", "all"))


def test_a_channel_of_void_is_a_wrong_class() -> None:
    """Of four channels with --ignore-label 3 the last has no row; its probability is lost to the right class."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(4, 6, 6))
    prob = np.exp(logits) / np.exp(logits).sum(axis=0)
    gt = rng.integers(0, 4, (6, 6)).astype(np.uint8)
    found = segcli.score(prob, gt, losses="categorical_ce", metrics="dice,mean_iou", ignore_label=3)
    assert [x.name for x in found.labels] == ["1", "2"]
    seen = gt != 3
    right = np.take_along_axis(prob, gt[None].astype(int), 0)[0][seen]
    assert found.value("categorical_ce") == pytest.approx(-np.log(right).mean())
    hard = prob.argmax(axis=0)
    for label in (1, 2):
        both = (seen & (hard == label) & (gt == label)).sum()
        assert found.value("dice", label) == pytest.approx(
            2 * both / ((seen & (hard == label)).sum() + (gt == label).sum())
        )
    assert any("channel 3 of the prediction" in n.text for n in found.notes)


def test_a_foreground_map_has_no_values_that_mark_void() -> None:
    """One probability map: 1 marks void in the gt, and is foreground in the map."""
    gt = np.array([[0, 0, 2, 2], [1, 1, 2, 0]], np.uint8)
    prob = np.array([[0.1, 0.9, 0.8, 0.7], [0.9, 0.1, 0.2, 0.3]])
    found = segcli.score(prob, gt, metrics="dice", losses="bce", ignore_label=1)
    assert found.value("dice") == 2 * 2 / (3 + 3)
    seen, y = gt != 1, (gt == 2).astype(float)
    expected = -np.log(np.where(y == 1, prob, 1 - prob)[seen]).mean()
    assert found.value("loss.bce") == pytest.approx(expected)


def test_a_prediction_of_nothing_but_void_is_told() -> None:
    """0 and 255 against 0, 1 and void 255: values are literal, nothing is predicted, and a warning says so."""
    gt, pred = square(), square(255)
    gt[0] = 255
    found = segcli.score(pred, gt, metrics="dice", ignore_label=255)
    assert found.value("dice") == 0
    assert [n.level for n in found.notes if "nothing is predicted" in n.text] == ["warning"]
    assert segcli.score(pred, gt, metrics="dice", ignore_label=255, prob_scale=255).value("dice") == 1


def test_inspect_compare_and_pictures_follow(tmp_path: Path) -> None:
    """Void in the gt takes no part in a loss, void in the prediction is an error of it."""
    gt, pred = square(), square()
    gt[0], pred[5, 5], pred[10, 10] = 255, 255, 255
    plain = pred.copy()
    plain[5, 5], plain[10, 10], plain[0] = 0, 1, 1
    found = segcli.inspect(pred, gt, "bce", ignore_label=255)
    assert found.value == segcli.inspect(plain, gt, "bce", ignore_label=255).value
    assert (found.map[0] == 0).all()
    assert found.map[5, 5] > 0
    assert found.map[10, 10] > 0
    (row,) = segcli.compare(pred, gt, losses="dice", ignore_label=255).rows
    assert row.value == segcli.compare(plain, gt, losses="dice", ignore_label=255).rows[0].value
    np.save(tmp_path / "p.npy", pred), np.save(tmp_path / "g.npy", gt)
    words = ["inspect", str(tmp_path / "p.npy"), str(tmp_path / "g.npy"), "-l", "bce", "--ignore-label", "255"]
    assert called(*words, "--png", str(tmp_path / "a.png"))[0] == 0


@needs_shared("faults", "ignore_label_void")
@pytest.mark.parametrize(
    ("name", "files", "labels", "expected"),
    [
        ("ignore_label_in_prediction", ("pred.npy", "gt.npy"), None, (2 / 3, 0.5)),
        ("ignore_label_void", ("ig_q.npy", "ig_g.npy"), "fg=1", (0.75, 0.6)),
    ],
)
def test_recorded_cases(name: str, files: tuple[str, str], labels: str | None, expected: tuple[float, float]) -> None:
    paths = [SHARED / "faults" / name / file for file in files]
    found = segcli.score(*paths, metrics="dice,iou", labels=labels, ignore_label=255)
    assert (found.value("dice"), found.value("iou")) == pytest.approx(expected)


@needs_shared("golden", "official", "official.json")
def test_ade20k_official() -> None:
    folder = SHARED / "golden" / "official"
    known = json.loads((folder / "official.json").read_text())
    found = segcli.score(
        folder / "ade_p.npy", folder / "ade_g.npy", metrics="iou,mean_iou,pixel_accuracy", ignore_label=0
    )
    assert [found.value("iou", c) for c in (1, 2, 3, 4)] == pytest.approx(known["ADE20K|IoU per class"])
    assert found.value("mean_iou") == pytest.approx(known["ADE20K|mean IoU"])
    assert found.value("pixel_accuracy") == pytest.approx(known["ADE20K|pixel accuracy"])


# --- how values are given -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "ranges"),
    [
        (None, ()),
        (255, ((255, 255),)),
        ("255", ((255, 255),)),
        ("255,3", ((3, 3), (255, 255))),
        ("250..255", ((250, 255),)),
        ("-1", ((-1, -1),)),
        ("-3..-1, 7,8 ,9", ((-3, -1), (7, 9))),
        ("5..9,7..12,255", ((5, 12), (255, 255))),
        (range(250, 256), ((250, 255),)),
        (range(0, 10, 5), ((0, 0), (5, 5))),
        ([255, 3], ((3, 3), (255, 255))),
        ({255}, ((255, 255),)),
        (np.int16(-1), ((-1, -1),)),
        (np.array([4, 5]), ((4, 5),)),
    ],
)
def test_values_that_mark_void(given: Any, ranges: Any) -> None:
    assert parse_ignored(given) == ranges
    if ranges:
        assert parse_ignored(shown(ranges)) == ranges
        assert as_spec(ranges) == (ranges[0][0] if len(ranges) == 1 and len(set(ranges[0])) == 1 else shown(ranges))


@pytest.mark.parametrize(
    "given",
    ["", " ", ",", "255,", "3.5", "a", "255..250", "1..2..3", "..3", "3..", "1e3", "9" * 30, "255;3", "²", [], [2.5],
     True, 2**63, b"255", [None], "0x10"],
)  # fmt: skip
def test_values_that_mark_nothing(given: Any) -> None:
    with pytest.raises(UsageError, match="--ignore-label"):
        parse_ignored(given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ignore-label", "255..250"], "250..255 has both ends"),
        (["--ignore-label", "1.5"], "'1.5' is no integer"),
        (["--ignore-in", "either"], "no value is ignored"),
        (["--ignore-label", "1", "--ignore-in", "either", "--convention", "monai"], "--ignore-in either"),
    ],
)
def test_usage(words: list[str], said: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, square())
    code, out, err = called("score", path, path, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") <= 2


def test_a_label_file_marks_several(tmp_path: Path) -> None:
    """`"ignore": [3, 4]` of a dataset.json leaves both out; the option has the last word."""
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2, "ignore": [3, 4]}}))
    rng = np.random.default_rng(3)
    gt, pred = rng.integers(0, 5, (9, 9)).astype(np.uint8), rng.integers(0, 3, (9, 9)).astype(np.uint8)
    assert segcli.score(pred, gt, labels=path, metrics="dice").counts["a"].n == (gt < 3).sum()
    assert segcli.score(pred, gt, labels=path, metrics="dice", ignore_label=4).counts["a"].n == (gt < 4).sum()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u8", ">i2"])
def test_ranges_of_every_type(dtype: str) -> None:
    """A range that goes beyond the values of a type is none of its values' business."""
    gt = square().astype(dtype)
    gt[0, :5], gt[1, :5] = 120, 121
    found = segcli.score(square(), gt, metrics="dice", ignore_label="-70000..-1,120..70000")
    assert (found.value("dice"), found.counts["foreground"].n) == (1, 144 - 10)


# --- void that nobody named -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "largest", "mark"),
    [
        ([0, 1, 255], 255, 255),
        ([1, 255], 255, 255),
        ([*range(19), 255], 255, 255),
        ([*range(182), 255], 255, 255),
        ([0, 1, 2, 255], 32767, 255),
        ([0, 1, 65535], 65535, 65535),
        ([0, 1, 127], 127, 127),
        ([0, 255], 255, None),
        ([0, 1], 255, None),
        ([*range(256)], 255, None),
        ([0, 128, 255], 255, None),
        ([0, 85, 170, 255], 255, None),
        ([0, 1, 300], 65535, None),
        ([0, 9000, 65535], 65535, None),
        ([0, 1, 127], 255, None),
    ],
)
def test_what_looks_like_void(values: list[int], largest: int, mark: int | None) -> None:
    assert looks_void(values, largest) == mark


def test_void_that_nobody_named_is_told(tmp_path: Path) -> None:
    """Also where both files have it, also under --labels, unless they name it; in `describe` too."""
    gt = square()
    gt[0] = 255
    for labels in (None, "fg=1", "fg=any"):
        (note,) = [n for n in segcli.score(gt, gt, labels=labels, metrics="dice").notes if "void" in n.text]
        assert note.level == "warning"
        assert note.text == "255 beside small labels in the ground truth looks like void; --ignore-label 255"
    for how in ({"labels": "a=1,b=255"}, {"ignore_label": 255}):
        assert not [n for n in segcli.score(gt, gt, metrics="dice", **how).notes if "looks like" in n.text]
    np.save(tmp_path / "g.npy", gt)
    code, out, _ = called("describe", str(tmp_path / "g.npy"))
    assert (code, "looks like void; --ignore-label 255" in out) == (0, True)
    with pytest.raises(InputError) as problem:
        segcli.score(np.full(gt.shape, 0.5), gt, metrics="dice")
    assert "--ignore-label 255" in (problem.value.hint or "")


def test_hints_for_negative_labels() -> None:
    """Void of a ground truth is a hint away; a prediction's values are never left out, and -1000 is no label."""
    gt, pred = square().astype(np.int16), square().astype(np.int16)

    def hint(p: Array, g: Array) -> str:
        with pytest.raises(InputError, match="negative label") as problem:
            segcli.score(p, g, metrics="dice")
        return problem.value.hint or ""

    void, ct = gt.copy(), gt.copy()
    void[0] = -1
    ct[0] = -1000
    logits = np.arange(-72, 72, dtype=np.int16).reshape(12, 12)
    assert "--ignore-label -1 leaves" in hint(pred, void)
    assert "leaves" not in hint(void, gt)
    assert "--labels x=-1" in hint(void, gt)
    assert "--ignore-label -1000" not in hint(ct, gt) + hint(pred, ct)
    assert "CT numbers" in hint(pred, ct)
    assert "--from-logits" in hint(logits, gt)
    assert segcli.score(void, gt, metrics="dice", ignore_label=-1).value("dice") < 1


# --- regions of interest --------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_region_is_void_outside(ndim: int) -> None:
    """Every measure and loss is what it is where the ground truth marks all outside the region as void."""
    rng = np.random.default_rng(7)
    shape = (11, 10, 9)[:ndim]
    gt = rng.integers(0, 3, shape).astype(np.uint8)
    pred = np.where(rng.random(shape) < 0.7, gt, rng.integers(0, 3, shape)).astype(np.uint8)
    roi = rng.random(shape) < 0.8
    gt[:2] = 255
    how: dict[str, Any] = {"metrics": "all", "losses": "dice,bce,focal,categorical_ce", "ignore_label": 255}
    found = segcli.score(pred, gt, roi=roi, **how)
    expected = segcli.score(pred, np.where(roi, gt, 255).astype(np.uint8), **how)
    assert found.values == expected.values
    assert [(m.label, m.measure, m.value) for m in found.means] == [
        (m.label, m.measure, m.value) for m in expected.means
    ]
    outside = int((~roi).sum())
    assert f"{outside} of {roi.size} voxels outside the ROI" in [n.text for n in found.notes]
    for same in (roi.astype(np.int32) * 7, roi.astype(np.float32), roi.tolist()):
        assert segcli.score(pred, gt, roi=same, **how).values == expected.values


def test_a_region_of_probabilities_and_maps() -> None:
    rng = np.random.default_rng(8)
    y, p = (rng.random((9, 9)) < 0.4).astype(np.uint8), rng.random((9, 9))
    roi = np.zeros((9, 9), bool)
    roi[2:8, 1:7] = True
    inside = np.ix_(range(2, 8), range(1, 7))
    found = segcli.score(p, y, roi=roi, losses="dice,bce", metrics="dice,auroc", entropy_map=True)
    cut = segcli.score(p[inside], y[inside], losses="dice,bce", metrics="dice,auroc")
    assert [v.value for v in found.values] == pytest.approx([v.value for v in cut.values])
    assert (found.entropy_map[~roi] == 0).all()
    taken = segcli.inspect(p, y, "bce", roi=roi)
    assert (taken.map[~roi] == 0).all()
    assert taken.value == pytest.approx(segcli.inspect(p[inside], y[inside], "bce").value)
    assert segcli.compare(p, y, losses="bce", roi=roi).rows[0].value == pytest.approx(taken.value)
    tools = conventions(np.round(p), y, metrics="dice", roi=roi, convention="monai").rows
    assert tools[0].printed.value == pytest.approx(
        segcli.score(np.round(p)[inside], y[inside], metrics="dice").value("dice")
    )


def test_regions_of_a_stack() -> None:
    """Each image has its own region; --batch-dice sums over what all of them leave."""
    rng = np.random.default_rng(9)
    gt, pred = (rng.random((3, 6, 7)) < 0.5).astype(np.uint8), (rng.random((3, 6, 7)) < 0.5).astype(np.uint8)
    roi = rng.random((3, 6, 7)) < 0.6
    cases = segcli.score(pred, gt, roi=roi, stack=True, metrics="dice", losses="dice", batch_dice=True)
    for i in range(3):
        assert cases[i].value("metric.dice") == segcli.score(pred[i], gt[i], roi=roi[i], metrics="dice").value("dice")
    both = (pred[roi] * gt[roi]).sum()
    assert 1 - cases[3].value("loss.dice") == pytest.approx(2 * both / (pred[roi].sum() + gt[roi].sum()), abs=1e-4)
    for wrong in (roi[0], roi[:2]):
        with pytest.raises(InputError, match="--stack: roi is"):
            segcli.score(pred, gt, roi=wrong, stack=True, metrics="dice")


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        (np.zeros((12, 12), int), "every voxel is outside the ROI; nothing is left to score"),
        (np.ones((12, 11), int), "roi vs gt: shape 12x11 vs 12x12"),
        (np.ones((3, 12, 12), int), "roi vs gt: shape 3x12x12 vs 12x12"),
        (np.full((12, 12), 0.5), "a region of interest holds labels or booleans; this one holds probability values"),
        (np.full((12, 12), -2.5), "roi: neither labels nor probabilities"),
        (np.full((12, 12), np.nan), "roi"),
    ],
)
@pytest.mark.parametrize("geometry", ["error", "ignore"])
def test_regions_that_cannot_be(roi: Array, said: str, geometry: str) -> None:
    with pytest.raises(InputError) as problem:
        segcli.score(square(), square(), roi=roi, metrics="dice", on_geometry=geometry)
    assert said in problem.value.message


def test_nothing_is_left_between_void_and_region() -> None:
    gt = square()
    gt[:6] = 255
    roi = np.zeros_like(gt)
    roi[:6] = 1
    with pytest.raises(InputError, match="every voxel is ignored or outside the ROI"):
        segcli.score(square(), gt, roi=roi, ignore_label=255)


def test_the_grid_of_a_region(tmp_path: Path) -> None:
    """A region lies on the ground truth's grid, or is turned onto it on request; it is named where it does not."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    gt = np.zeros((6, 7, 5), np.uint8)
    gt[1:4, 1:5, 1:4] = 1
    roi = np.zeros_like(gt)
    roi[:3] = 1
    moved, flipped = affine.copy(), np.diag([-1.0, 1.0, 2.0, 1.0])
    moved[0, 3], flipped[0, 3] = 5, 5
    for name, array, where in (
        ("gt", gt, affine), ("roi", roi, affine), ("moved", roi, moved), ("flipped", roi[::-1], flipped),
    ):  # fmt: skip
        nib.save(nib.Nifti1Image(array, where), tmp_path / f"{name}.nii.gz")
    gt_path = tmp_path / "gt.nii.gz"
    how: dict[str, Any] = {"metrics": "voxels_gt"}
    assert segcli.score(gt_path, gt_path, roi=tmp_path / "roi.nii.gz", **how).value("voxels_gt") == gt[:3].sum()
    for name in ("moved", "flipped"):
        path = tmp_path / f"{name}.nii.gz"
        with pytest.raises(InputError, match=f"ROI {path} vs {gt_path}") as problem:
            segcli.score(gt_path, gt_path, roi=path, **how)
        assert ("the ROI" in str(problem.value.hint)) or ("reorient" in str(problem.value.hint))
    turned = segcli.score(gt_path, gt_path, roi=tmp_path / "flipped.nii.gz", on_geometry="reorient", **how)
    assert turned.value("voxels_gt") == gt[:3].sum()


def test_a_region_stands_in_the_run(tmp_path: Path) -> None:
    for name, array in (("p", square(1, 1)), ("g", square()), ("r", np.tri(12, dtype=np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    p, g, r = (str(tmp_path / f"{name}.npy") for name in "pgr")
    out = tmp_path / "run.json"
    code, table, err = called("score", p, g, "--roi", r, "-m", "dice", "-o", str(out))
    assert code == 0
    assert "only voxels inside the regions of interest count" in table
    assert "66 of 144 voxels outside the ROI" in err
    run = json.loads(out.read_text())
    assert run["spec"]["roi"] is True
    assert run["cases"][0]["roi"]["path"] == r
    assert len(run["cases"][0]["roi"]["sha256"]) == 64
    assert "ignore_in" not in run["spec"]
    code, _, err = called("score", p, g, "--roi", r, "-m", "dice", "-o", r)
    assert code == 2
    code, _, err = called("score", p, g, "--roi", str(tmp_path / "none.npy"))
    assert (code, "none.npy: no such file" in err) == (3, True)


def test_a_cohort_of_several_labels_charges_no_void(tmp_path: Path) -> None:
    """Alone a case of label 1 counts void outside it as false; beside one of label 2 it does not, and says nothing."""
    gt, pred = square(), square()
    pred[0] = 255
    other = square(2)
    for folder, arrays in (("p", (pred, other)), ("g", (gt, other))):
        (tmp_path / folder).mkdir()
        for name, array in zip("ab", arrays, strict=True):
            np.save(tmp_path / folder / f"{name}.npy", array)
    said = "255 in the prediction at 12 voxels outside foreground: with one label a false alarm"
    alone = segcli.score(tmp_path / "p" / "a.npy", tmp_path / "g" / "a.npy", metrics="dice", ignore_label=255)
    assert (alone.value("dice"), said in [n.text for n in alone.notes]) == (72 / 84, True)
    code, out, _ = called(
        "evaluate", tmp_path / "p", tmp_path / "g", "-m", "dice", "--ignore-label", 255, "-j", 1, "-f", "json"
    )
    case = json.loads(out)["cases"][0]
    assert (code, [v["value"] for v in case["values"] if v["label"] == "1"]) == (0, [1.0])
    assert [n["code"] for n in case["notes"]] == ["void.none", "void.predicted"]


def test_every_command_says_what_was_left_out(tmp_path: Path) -> None:
    gt, pred = square(), square(1, 1)
    gt[0] = 255
    for name, array in (("p", pred), ("g", gt), ("r", np.tri(12, dtype=np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    p, g, r = (tmp_path / f"{name}.npy" for name in "pgr")
    for words in (
        ("score", p, g, "-m", "dice"), ("score", p, g, "-m", "dice", "-f", "md"), ("compare", p, g, "-l", "dice"),
        ("compare", p, g, "-l", "dice", "-f", "md"), ("inspect", p, g, "-l", "dice"),
        ("conventions", p, g, "-m", "dice"),
    ):  # fmt: skip
        code, out, _ = called(*words, "--ignore-label", "255", "--roi", r)
        assert code == 0
        assert "ignored: 255 in the ground truth" in out
        assert "only voxels inside the regions of interest count" in out
    for words in (("score", p, g), ("compare", p, g), ("inspect", p, g, "-l", "dice"), ("conventions", p, g)):
        where, rule = "255 in the ground truth", []
        if words[0] != "conventions":  # no tool has the other rule
            where, rule = "255 in either file: --ignore-in either", ["--ignore-in", "either"]
        for form in ("json", "csv"):
            assert f"voxels ignored ({where})" in called(*words, "--ignore-label", "255", *rule, "-f", form)[1]
        for form in ("table", "json", "csv"):  # a warning is in the result, not on stderr alone
            assert "looks like void; --ignore-label 255" in called(*words, "-f", form)[1]
    for folder, file in (("ps", p), ("gs", g)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.npy").write_bytes(file.read_bytes())
    out = called("evaluate", tmp_path / "ps", tmp_path / "gs", "--ignore-label", "255", "-j", 1, "-f", "csv")[1]
    assert ",,note,void.ignored,,note,1 case: 12 of 144 voxels ignored (255 in the ground truth) (a)" in out
