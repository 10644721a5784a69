"""What a pair is and what its rows and means are: labels, regions, channels, stacks, ignored voxels, policies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import segcli
from segcli.errors import InputError, UsageError
from segcli.evidence.distances import Distances
from segcli.evidence.label_map import LabelMap
from segcli.masks.labels import parse_labels
from segcli.report.case import score_text
from segcli.scoring.means import MEAN_WITHOUT_BACKGROUND
from segcli.scoring.score import measures_of


@pytest.fixture
def two_labels() -> tuple[np.ndarray, np.ndarray]:
    """Give a prediction and a ground truth with labels 1 and 2."""
    gt = np.zeros((20, 20), np.uint8)
    gt[2:10, 2:10], gt[12:18, 12:18] = 1, 2
    pred = gt.copy()
    pred[2:4], pred[12:15, 12:18] = 0, 0
    return pred, gt


def mean(case: segcli.Scored, measure: str) -> float | None:
    """Return the mean row's value."""
    return case.value(measure, "mean")


@pytest.mark.parametrize("region", ["any", "1+2"])
def test_a_region_is_a_row_and_not_in_the_mean(two_labels, region):
    """`fg=any` beside other labels is their union: `fg=1+2` gives the same rows and the same mean."""
    case = segcli.score(*two_labels, labels=f"a=1,b=2,fg={region}", metrics="dice")
    assert mean(case, "dice") == pytest.approx((case.value("dice", "a") + case.value("dice", "b")) / 2)
    assert case.value("dice", "fg") == pytest.approx(2 * 66 / (66 + 100))  # 64+36 of gt, less 16 and 18


def test_any_alone_is_a_plain_label(two_labels):
    """Alone it is the label that is scored."""
    case = segcli.score(*two_labels, labels="fg=any", metrics="dice")
    assert case.value("dice") == mean(case, "dice") == pytest.approx(132 / 166)


def test_a_stack_has_one_set_of_labels():
    """Whether a pair is binary is decided over all images: 1 against 2 in one of them is no match."""
    gt = np.zeros((2, 8, 8), np.uint8)
    gt[0, 2:5, 2:5], gt[1, 2:5, 2:5], gt[1, 5:7, 5:7] = 2, 1, 2
    pred = gt.copy()
    pred[0][pred[0] == 2] = 1
    first, second = segcli.score(pred, gt, stack=True, metrics="dice")
    assert [label.name for label in first.labels] == [label.name for label in second.labels] == ["1", "2"]
    assert first.value("dice", 2) == 0
    assert second.value("dice", 2) == 1


def test_the_channel_axis_of_a_stack_is_that_of_the_file():
    """`--channel-axis` counts the axes of the array as it is stored, the stack's axis included."""
    rng = np.random.default_rng(3)
    prob = rng.dirichlet(np.ones(3), size=(2, 6, 7))  # (N, H, W, C)
    gt = rng.integers(0, 3, (2, 6, 7)).astype(np.uint8)
    last = segcli.score(prob, gt, stack=True, channel_axis=3, metrics="dice", losses="dice")
    first = segcli.score(np.moveaxis(prob, -1, 1), gt, stack=True, channel_axis=1, metrics="dice", losses="dice")
    negative = segcli.score(prob, gt, stack=True, channel_axis=-1, metrics="dice", losses="dice")
    assert [c.values for c in last] == [c.values for c in first] == [c.values for c in negative]
    with pytest.raises(UsageError, match="channel-axis 0"):
        segcli.score(prob, gt, stack=True, channel_axis=0)


def test_the_mean_loss_is_over_all_channels_whatever_is_named():
    """Naming rows changes no mean; the background is in it, and left out of the second mean."""
    rng = np.random.default_rng(4)
    prob = rng.dirichlet(np.ones(3), size=(6, 7)).transpose(2, 0, 1)
    gt = rng.integers(0, 3, (6, 7)).astype(np.uint8)
    per_channel = [2 * (prob[c] * (gt == c)).sum() / (prob[c].sum() + (gt == c).sum()) for c in range(3)]
    for labels in (None, "a=1,b=2", "a=1", "background=0,a=1,b=2", "0,1,2"):
        case = segcli.score(prob, gt, labels=labels, losses="dice:smooth=0")
        assert case.value("loss.dice:smooth=0", "mean") == pytest.approx(1 - np.mean(per_channel))
        without = case.value("loss.dice:smooth=0", MEAN_WITHOUT_BACKGROUND)
        assert without == pytest.approx(1 - np.mean(per_channel[1:]))
        rows = segcli.compare(prob, gt, labels=labels, losses="dice:smooth=0").rows
        assert next(r.value for r in rows if r.label == "mean") == pytest.approx(1 - np.mean(per_channel))
    only = segcli.score(prob, gt, losses="dice:smooth=0", background=False)
    assert only.value("loss.dice:smooth=0", "mean") == pytest.approx(1 - np.mean(per_channel[1:]))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float32"])
def test_narrow_integers_do_not_wrap(dtype):
    """Labels at both ends of a signed type keep apart."""
    low, high = (-1, 127) if dtype in ("int8", "float32") else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    gt = np.zeros((5, 5), dtype)
    gt[0], gt[2:4] = low, high
    pred = gt.copy()
    pred[3] = 0
    case = segcli.score(pred, gt, labels={"n": low, "y": high}, metrics="dice")
    assert case.value("dice", "n") == 1
    assert case.value("dice", "y") == pytest.approx(2 / 3)


@given(st.data())
def test_codes_stand_for_the_values_of_a_map(data):
    """Of every integer type, in either order, every code but that of ignored voxels gives back the value."""
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])))
    low, high = max(np.iinfo(dtype).min, -(2**62)), min(np.iinfo(dtype).max, 2**62)
    spots = st.sampled_from([low, max(-1, low), 0, 1, 100, 127, min(255, high), min(1023, high), min(5000, high), high])
    array = data.draw(hnp.arrays(dtype, (3, 4), elements=spots))
    valid = data.draw(st.none() | hnp.arrays(np.bool_, (3, 4)))
    reverse = data.draw(st.booleans())
    found = LabelMap(array, valid, reverse)
    codes, kept = found.codes.T if reverse else found.codes, np.ones((3, 4), bool) if valid is None else valid
    assert found.codes.flags.c_contiguous
    assert (np.diff(found.values) > 0).all()
    np.testing.assert_array_equal(found.values[codes[kept]], array[kept])
    assert (codes[~kept] == len(found.values)).all()


def test_numba_waits_until_much_is_counted():
    """One pair is counted with NumPy, part by part, a run of many with a kernel: the same counts."""
    code = (
        "import sys, numpy as np; from segcli.evidence import maps; from segcli.evidence.label_map import SMALL\n"
        "gt = np.arange(SMALL + 5000, dtype=np.uint32).reshape(-1, 8) // 700 % 40; pred = np.roll(gt, 30, axis=0)\n"
        "counted = lambda: maps.Maps(pred, gt).cells.matrix.tobytes()\n"
        "one = counted(); assert 'numba' not in sys.modules\n"
        "expected = np.zeros((40, 40), int); np.add.at(expected, (pred, gt), 1); assert one == expected.tobytes()\n"
        "maps.MOST_BY_NUMPY = 2 * gt.size - 1; assert one == counted(); assert 'numba' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_labels_beyond_64_bits_are_refused():
    """A label above 2^63 - 1 is an error and not an empty mask; those just below it stay apart."""
    big = np.full((3, 3), 2**63, np.uint64)
    with pytest.raises(InputError, match="9223372036854775808"):
        segcli.score(big, big)
    near = np.array([[0, 2**53, 2**53 + 1]], np.uint64)
    assert segcli.score(near, near, metrics="dice").labels[1].values == (2**53 + 1,)


@pytest.mark.parametrize("kind", ["even", "random", "uneven", "by distance"])
@pytest.mark.parametrize("steps", [False, True])
def test_weighted_percentile_of_many_elements(kind, steps):
    """Of thousands of elements not all are sorted; the result is that of all in order, also where they tie."""
    random = np.random.default_rng(4)
    distances = random.random(9000) * 10
    if steps:
        distances = np.round(distances)
    weights = {"even": np.ones(9000), "random": random.random(9000), "uneven": random.exponential(size=9000) ** 4,
               "by distance": distances**3 + 0.01}[kind]  # fmt: skip
    found = Distances(distances, distances[:1], weights, weights[:1], weighted=True)
    order = np.lexsort((weights, distances))
    shares = np.cumsum(weights[order]) / np.sum(weights[order])
    for percent in (0, 1, 5, 33.3, 50, 90, 95, 99.9, 100):
        place = min(int(np.searchsorted(shares, percent / 100)), 8999)
        assert found.percentile(percent, "pred") == distances[order][place]


def test_percentiles_depend_on_no_memory_layout():
    """A tie of the weighted percentile falls the same way in C and in Fortran order."""
    rng = np.random.default_rng(7)
    for _ in range(150):
        pred, gt = (rng.random((9, 11)) < 0.1 for _ in range(2))
        if pred.any() and gt.any():
            c = segcli.score(pred, gt, metrics="hd95,hd95_pooled")
            f = segcli.score(np.asfortranarray(pred), np.asfortranarray(gt), metrics="hd95,hd95_pooled")
            assert [v.value for v in c.values] == pytest.approx([v.value for v in f.values], rel=1e-12)


def test_a_probability_map_is_of_the_label_that_is_asked():
    """Its value may be any but 0, also one beyond a byte; against several labels it is refused."""
    gt = np.zeros((6, 6), np.uint16)
    gt[1:4, 1:4] = 300
    prob = np.where(gt > 0, 0.9, 0.1)
    assert segcli.score(prob, gt, labels="x=300", metrics="dice").value("dice") == 1
    with pytest.raises(InputError, match="value 0"):
        segcli.score(prob, gt, labels="0")
    gt[5] = 7
    with pytest.raises(InputError, match="several labels"):
        segcli.score(prob, gt)
    assert segcli.score(prob, gt, labels="fg=any", metrics="sensitivity").value("sensitivity") == pytest.approx(9 / 15)


def test_a_soft_ground_truth_is_one_map():
    """It needs the option, is thresholded for metrics, and is refused against several channels."""
    soft = np.linspace(0.05, 0.95, 36).reshape(6, 6)
    hard = (soft > 0.5).astype(np.uint8)
    with pytest.raises(InputError, match="ground truth"):
        segcli.score(hard, soft)
    case = segcli.score(hard, soft, soft_gt=True, metrics="dice", losses="dice")
    assert case.value("metric.dice") == 1
    expected = 1 - (2 * (hard * soft).sum() + 1e-5) / (hard.sum() + soft.sum() + 1e-5)
    assert case.value("loss.dice") == pytest.approx(expected)
    with pytest.raises(InputError, match="soft ground truth"):
        segcli.score(np.full((3, 6, 6), 1 / 3), soft, soft_gt=True)


@pytest.mark.parametrize(
    ("policy", "both", "pred_empty", "gt_empty"),
    [
        ("undefined", (None, None, None), (0.0, None, -1.0), (0.0, None, None)),
        ("perfect-if-both-empty", (1.0, 0.0, 0.0), (0.0, None, -1.0), (0.0, None, None)),
        ("worst", (1.0, 0.0, 0.0), (0.0, 5.0, -1.0), (0.0, 5.0, None)),
        ("zero", (0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 0.0, None)),
    ],
)
def test_policies_for_empty_masks(policy, both, pred_empty, gt_empty):
    """Dice, HD and rve of a 3x4 image (diagonal 5) under each policy; no policy calls a miss perfect volume."""
    empty, full = np.zeros((3, 4), np.uint8), np.eye(3, 4, dtype=np.uint8)
    for (pred, gt), expected in (((empty, empty), both), ((empty, full), pred_empty), ((full, empty), gt_empty)):
        case = segcli.score(pred, gt, metrics="dice,hd,rve", empty=policy)
        assert tuple(v.value for v in case.values) == expected
        assert all((v.status == "undefined") == (v.value is None) for v in case.values)


def test_squeezing_keeps_the_geometry_check(tmp_path: Path):
    """Dropping an axis of length 1 drops its column of the affine, not that of another axis."""
    array = np.zeros((1, 6, 7), np.uint8)
    array[0, 2:4, 2:5] = 1
    for name, spacing in (("a", (1, 1, 1)), ("b", (1, 1, 3)), ("c", (1, 1, 1))):
        nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1])), tmp_path / f"{name}.nii")
    with pytest.raises(InputError, match="spacing 1x1 vs 1x3"):
        segcli.score(tmp_path / "a.nii", tmp_path / "b.nii", squeeze=True)
    assert segcli.score(tmp_path / "a.nii", tmp_path / "c.nii", squeeze=True).shape == (6, 7)


def test_reorienting_moves_channels_along(tmp_path: Path):
    """A probability map stored with permuted and flipped axes scores as the one stored like the gt."""
    rng = np.random.default_rng(8)
    prob = rng.dirichlet(np.ones(3), size=(5, 6, 7)).astype(np.float32)
    gt = rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(gt, affine), tmp_path / "gt.nii")
    nib.save(nib.Nifti1Image(prob, affine), tmp_path / "same.nii")
    turned = nib.Nifti1Image(prob, affine).as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    nib.save(turned, tmp_path / "turned.nii")
    options = {"metrics": "default", "losses": "dice,hd_dt", "on_geometry": "reorient"}
    one, other = (segcli.score(tmp_path / f"{n}.nii", tmp_path / "gt.nii", **options) for n in ("same", "turned"))
    assert [v.value for v in one.values] == pytest.approx([v.value for v in other.values], rel=1e-12)


def test_a_mask_read_before_obeys_the_options(tmp_path: Path):
    """`kind` and `prob_scale` also concern a `Mask`, as they concern its file."""
    gt = np.zeros((6, 6), np.uint8)
    gt[1:4, 1:4] = 1
    np.save(tmp_path / "p.npy", np.where(gt > 0, 0.4, 0.1))
    mask = segcli.read(tmp_path / "p.npy")
    by_path = segcli.score(tmp_path / "p.npy", gt, from_logits=True, metrics="dice")
    by_mask = segcli.score(mask, gt, from_logits=True, metrics="dice")
    assert by_mask.values == by_path.values
    assert segcli.score(mask, gt, metrics="dice").value("dice") == 0


@pytest.mark.parametrize("spacing", [0, -1, float("nan"), float("inf"), 1e200, 1e-200, "a,b", "", None, (1, 2, 3)])
def test_spacings_that_cannot_be(spacing):
    """Voxel sizes are positive, finite and of this world; the number of them is that of the axes."""
    image = np.eye(4, dtype=np.uint8)
    if spacing is None:
        assert segcli.score(image, image).unit == "voxel"
    else:
        with pytest.raises(UsageError, match="spacing"):
            segcli.score(image, image, spacing=spacing)


def test_spacing_takes_what_is_a_number():
    """One number stands for all axes; text and NumPy scalars are read."""
    image = np.eye(4, dtype=np.uint8)
    for spacing in (2, "2", "2,2", np.float32(2), np.int64(2), [2, 2]):
        assert segcli.score(image, image, spacing=spacing).spacing == (2.0, 2.0)


def label_file(tmp_path: Path, name: str, text: str) -> dict[str, tuple[int, ...]]:
    """Write a label file and return what it names."""
    path = tmp_path / name
    path.write_text(text)
    found = parse_labels(str(path))
    return {label.name: label.values for label in found.labels}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}})),
        ("dataset.json", json.dumps({"labels": {"0": "background", "1": "liver", "2": "tumour"}})),
        ("a.toml", "liver = 1\ntumour = 2\n"),
        ("a.toml", "[labels]\nliver = 1\ntumour = [2]\n"),
        ("a.csv", "name,value\nliver,1\ntumour,2\n"),
        ("a.csv", "value,label\n1,liver\n2,tumour\n"),
        ("a.csv", "label,value\nliver,1\ntumour,2\n"),
        ("a.csv", "label,id\nliver,1\ntumour,2\n"),
        ("a.csv", "index;name\n1;liver\n2;tumour\n"),
        ("a.csv", "liver,1\ntumour,2\n"),
        ("a.csv", "1,liver\n2,tumour\n"),
        ("a.csv", "label,r,g,b,name\n1,255,0,0,liver\n2,0,255,0,tumour\n"),
        ("a.csv", "1,255,0,0,liver\n2,0,255,0,tumour\n"),
        ("a.txt", '# comment\n0 0 0 0 0 0 0 "Clear Label"\n1 255 0 0 1 1 1 "liver"\n2 0 255 0 1 1 1 "tumour"\n'),
    ],
)
def test_label_files(tmp_path, name, text):
    """Each known form of a label file names liver 1 and tumour 2."""
    assert label_file(tmp_path, name, text) == {"liver": (1,), "tumour": (2,)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{}"), ("a.json", "[1]"), ("a.json", "{"), ("a.csv", ""), ("a.csv", "a,b\nc,d\n"), ("a.csv", ";\n"),
        ("a.txt", "liver 1\n"), ("a.toml", "liver"), ("a.toml", "liver = 1.5\n"), ("a.json", '{"name": "Task"}'),
    ],
)  # fmt: skip
def test_label_files_that_name_nothing(tmp_path, name, text):
    """A file that is no label file is an input error that names it."""
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        label_file(tmp_path, name, text)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("liver=", "liver= is not a label: a value is missing"),
        ("whole=1++2", "whole=1++2 is not a label: a value is missing"),
        ("1.5", "labels: 1.5 is not a label: 1.5 is no integer"),
        ("liver=one", "liver=one is not a label: one is no integer"),
    ],
)
def test_what_is_wrong_with_a_label_is_said(labels, said):
    """The part of --labels that cannot be read is named, also where nothing stands."""
    with pytest.raises(UsageError, match=re.escape(said)):
        segcli.score(np.ones((2, 2), int), np.ones((2, 2), int), labels=labels)


def test_a_label_that_is_ignored_is_not_missing():
    """Asking for the label that --ignore-label leaves out is told so: it is in the files all the same."""
    maps = np.array([[0, 1, 2], [0, 1, 2]])
    notes = [n.text for n in segcli.score(maps, maps, labels="1,2", ignore_label=2).notes]
    assert "label 2 is the one that --ignore-label 2 leaves out" in notes
    assert not [text for text in notes if "neither" in text]


def test_the_ignore_label_of_nnunet_is_used(tmp_path: Path):
    """`"ignore": 3` in a dataset.json leaves those voxels out, as `--ignore-label 3` does."""
    rng = np.random.default_rng(9)
    gt, pred = rng.integers(0, 4, (9, 9)).astype(np.uint8), rng.integers(0, 3, (9, 9)).astype(np.uint8)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}))
    by_file = segcli.score(pred, gt, labels=path, metrics="all")
    by_option = segcli.score(pred, gt, labels="whole=1+2,core=2", ignore_label=3, metrics="all")
    assert by_file.values == by_option.values
    assert by_file.counts["core"].n == int((gt != 3).sum())


@pytest.mark.parametrize("surface", ["surfel", "border", "mesh"])
def test_a_face_to_an_ignored_voxel_is_no_surface(surface):
    """Half an object behind ignored voxels: its cut is no error, whatever stands in them."""
    gt = np.zeros((12, 12), np.uint8)
    gt[3:9, 3:9] = 1
    ignored = gt.copy()
    ignored[:, 7:] = 255
    pred = ignored.copy()
    pred[3:9, 7:] = 255
    case = segcli.score(pred, ignored, ignore_label=255, metrics="surface", surface=surface)
    assert case.value("hd") == 0
    short = ignored.copy()
    short[3:9, 6] = 0  # the prediction stops one voxel before the ignored ones
    assert segcli.score(short, ignored, ignore_label=255, metrics="hd", surface=surface).value("hd") > 0


def test_compare_means_over_a_stack():
    """With `stack` each row is the mean over the images, and predictions are ranked, not images."""
    rng = np.random.default_rng(10)
    gt = (rng.random((3, 8, 8)) > 0.5).astype(np.uint8)
    good, bad = np.clip(gt * 0.8 + 0.1, 0, 1), np.clip(gt * 0.4 + 0.3, 0, 1)
    found = segcli.compare([good, bad], gt, losses="dice,bce", metrics="dice", stack=True)
    alone = [segcli.compare(good[i], gt[i], losses="dice").rows[0].value for i in range(3)]
    assert found.rows[0].value == pytest.approx(np.mean(alone))
    assert {r.order[0][0] for r in found.rankings if r.kind == "loss"} == {"pred 1"}
    assert not segcli.compare(good, gt, losses="dice", stack=True).rankings


def test_families_and_a_loss_of_the_same_name():
    """`boundary` is the loss; `boundary_based` is its family."""
    from segcli.measure.notation import parse

    assert [b.name for b in parse("loss", "boundary")] == ["boundary"]
    assert {b.name for b in parse("loss", "boundary_based")} == {
        m.name for m in segcli.measures("loss") if m.family == "boundary"
    }
    assert {b.measure.family for b in parse("loss", "region")} == {"region"}


def test_a_surface_that_is_named_stays(two_labels):
    """`--surface` sets the parameter only where the measure did not name it."""
    case = segcli.score(*two_labels, metrics="hd:surface=surfel,assd", surface="border")
    assert {v.measure for v in case.values} == {"hd:surface=surfel", "assd:surface=border"}


@pytest.mark.parametrize(("pair", "spacing"), [("2-D", 0.5), ("3-D", None)])
def test_no_millilitres_of_an_area_or_of_voxels(pair, spacing):
    """What cannot be said in ml is undefined with the reason, whatever the policy for empty masks."""
    gt = np.zeros((4, 5) if pair == "2-D" else (4, 5, 3), np.uint8)
    gt[1:3, 1:3] = 1
    for pred in (gt, gt * 0):
        for empty in ("undefined", "worst", "zero"):
            case = segcli.score(
                pred, gt, metrics="volume_gt_ml,volume_pred_ml", labels="fg=1", spacing=spacing, empty=empty
            )
            assert {(v.value, v.status, v.why, v.unit) for v in case.values} == {(None, "undefined", "no_ml", "ml")}
    said = score_text([case], measures_of("metric", "volume_gt_ml"), "undefined")
    assert "size of its voxels in mm (--spacing)" in said
