"""Channels of labels that overlap (`--channels`): each is cut by itself and scored as the label map would be."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import segcli
from segcli.cli.main import run as command_line
from segcli.errors import InputError, UsageError

#: Whole tumour, tumour core and enhancing tumour of BraTS.
SETS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
LABELS, NAMES = "WT=1+2+4,TC=1+4,ET=4", "WT,TC,ET"
METRICS = "dice,hd,hd95,assd:surface=border,nsd,boundary_iou,betti0_error,pq,lesion_dice,cldice,rve,vi_label"


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Return a predicted and a true label map with nested labels."""
    gt = np.zeros((14, 12, 10), np.uint8)
    gt[2:11, 2:10, 2:8] = 2
    gt[3:9, 3:8, 3:7] = 1
    gt[4:7, 4:7, 4:6] = 4
    return np.roll(gt, 1, 0), gt


def regions(labels: np.ndarray) -> np.ndarray:
    """Return one channel for each region, probabilities that do not sum to 1."""
    noise = np.random.default_rng(0).random(labels.shape)
    return np.stack([0.1 + 0.1 * noise + 0.7 * np.isin(labels, values) for values in SETS.values()])


def values(case: segcli.Scored) -> dict[tuple[str, str], float | None]:
    """Return every value by label and measure."""
    return {(v.label, v.measure): v.value for v in case.values}


def logit(p: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities."""
    return np.log(p / (1 - p))


FORMS = {
    "probabilities": lambda p: (p, {}),
    "float32": lambda p: (p.astype(np.float32), {}),
    "logits": lambda p: (logit(p), {"from_logits": True}),
    "masks": lambda p: ((p > 0.5).astype(np.uint8), {}),
    "booleans": lambda p: (p > 0.5, {}),
    "8 bits": lambda p: (np.rint(255 * p).astype(np.uint8), {"prob_scale": 255}),
    "last": lambda p: (np.moveaxis(p, 0, -1), {"channel_axis": -1}),
    "another order": lambda p: (p[[2, 0, 1]], {"channels": "ET,WT,TC"}),
    "values alone": lambda p: (p, {"labels": None, "channels": LABELS}),
    "a mapping": lambda p: (p, {"labels": None, "channels": {k: list(v) for k, v in SETS.items()}}),
    "a list": lambda p: (p, {"channels": ["WT", "TC", "ET"]}),
    "by value": lambda p: (p, {"channels": "1+2+4,4+1,4"}),
    "with background": lambda p: (np.concatenate([1 - p[:1], p]), {"channels": f"background,{NAMES}"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_overlapping_channels_score_as_the_label_map(form: str) -> None:
    """Every metric of every region equals that of the map the channels were made of."""
    pred, gt = maps()
    expected = segcli.score(pred, gt, labels=LABELS, metrics=METRICS, spacing=(1, 2, 3))
    array, options = FORMS[form](regions(pred))
    found = segcli.score(
        array, gt, metrics=METRICS, spacing=(1, 2, 3), **{"labels": LABELS, "channels": NAMES, **options}
    )
    assert values(found) == values(expected)
    assert found.counts == expected.counts
    assert [label.name for label in found.labels] == list(SETS)
    assert any("each cut by itself" in note.text for note in found.notes)


def test_by_hand() -> None:
    """Regions of 8, 4 and 2 voxels, of which 7, 3 and 1 are found and as many are false as missed."""
    gt = np.zeros((2, 10), np.uint8)
    gt[0, 1:5], gt[0, 5:7], gt[0, 7:9] = 2, 1, 4
    p = np.stack([np.roll(np.isin(gt, members), 1, 1) for members in SETS.values()]) * 0.8 + 0.1
    case = segcli.score(p, gt, labels=LABELS, channels=NAMES, metrics="dice")
    assert [v.value for v in case.values] == [0.875, 0.75, 0.5]


def test_segments_of_a_nifti_with_four_axes(tmp_path: Path) -> None:
    """A 4-D file of 0/1 segments that overlap: channels last, spacing from the header."""
    pred, gt = maps()
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    segments = np.moveaxis(regions(pred) > 0.5, 0, -1).astype(np.uint8)
    for name, array in (("pred", segments), ("gt", gt)):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    found = segcli.score(
        tmp_path / "pred.nii.gz", tmp_path / "gt.nii.gz", labels=LABELS, channels=NAMES, metrics="dice,hd,volume_pred"
    )
    expected = segcli.score(pred, gt, labels=LABELS, metrics="dice,hd,volume_pred", spacing=(1, 2, 3))
    assert values(found) == values(expected)
    assert not any(note.code == "threshold.cut" for note in found.notes)


def test_one_map_is_one_channel() -> None:
    """A file of one region needs no axis of channels."""
    pred, gt = maps()
    p = regions(pred)[1]
    expected = segcli.score(pred, gt, labels="TC=1+4", metrics="dice,hd")
    for array in (p, p[None]):
        assert values(segcli.score(array, gt, channels="TC=1+4", metrics="dice,hd")) == values(expected)


@pytest.mark.parametrize("logits", [False, True])
def test_each_channel_is_a_map_of_its_own(logits: bool) -> None:
    """Losses and metrics of probabilities are those of the channel alone against its region."""
    pred, gt = maps()
    p = regions(pred)
    p = logit(p) if logits else p
    options = {
        "metrics": "auc,brier,ece,best_threshold",
        "losses": "dice,bce,focal,hd_dt,lovasz",
        "from_logits": logits,
    }
    found = values(segcli.score(p, gt, labels=LABELS, channels=NAMES, **options))
    compared = segcli.compare(p, gt, labels=LABELS, channels=NAMES, losses=options["losses"], from_logits=logits)
    for channel, (name, members) in zip(p, SETS.items(), strict=True):
        alone = segcli.score(channel, np.isin(gt, members), **options)
        rows = {r.measure: r.value for r in compared.rows if r.label == name}
        for v in alone.values:
            assert found[name, v.measure] == v.value
            assert v.kind == "metric" or rows[v.measure] == v.value
    means = {r.measure: r.value for r in compared.rows if r.label == "mean"}
    assert means["dice"] == pytest.approx(np.mean([found[name, "dice"] for name in SETS]))


@pytest.mark.parametrize("threshold", [0.15, 0.5, 0.95])
def test_the_threshold_cuts_each_channel(threshold: float) -> None:
    """Nothing above it is a warning for each channel that has nothing."""
    pred, gt = maps()
    p = regions(pred)
    case = segcli.score(p, gt, labels=LABELS, channels=NAMES, threshold=threshold, metrics="voxels_pred")
    assert [v.value for v in case.values] == [int((channel > threshold).sum()) for channel in p]
    empty = [n.text for n in case.notes if n.code == "threshold.empty"]
    assert empty == [f"pred: no voxel of {name} exceeds the threshold 0.95" for name in SETS if threshold == 0.95]
    assert not any("--threshold is not used" in n.text for n in case.notes)


def test_ignored_voxels_and_stacks() -> None:
    """Neither the ignored label of the ground truth nor the images of a stack change what a channel is."""
    pred, gt = maps()
    gt[0] = 9
    p = regions(pred)
    options = {"labels": LABELS, "metrics": "dice,hd", "ignore_label": 9}
    assert values(segcli.score(p, gt, channels=NAMES, **options)) == values(segcli.score(pred, gt, **options))
    # 4 is a code of the bits too: it is not what is ignored.
    options["ignore_label"] = 4
    assert values(segcli.score(p, gt, channels=NAMES, **options))["WT", "dice"] is not None
    found = segcli.score(p, gt, stack_axis="last", channel_axis=0, channels=NAMES, labels=LABELS, metrics="dice")
    expected = segcli.score(pred, gt, stack_axis="last", labels=LABELS, metrics="dice")
    assert [values(case) for case in found] == [values(case) for case in expected]
    batch = segcli.score(
        p,
        gt,
        stack_axis="last",
        channel_axis=0,
        channels=NAMES,
        labels=LABELS,
        metrics="dice",
        losses="dice",
        batch_dice=True,
    )[-1]
    whole = segcli.score(p, gt, channels=NAMES, labels=LABELS, metrics="dice", losses="dice")
    assert batch.value("dice", "WT") == pytest.approx(
        next(v.value for v in whole.values if v.kind == "loss" and v.label == "WT")
    )


def test_what_needs_one_label_in_each_voxel_has_no_value() -> None:
    """Measures of all classes are undefined with their reason; values as objects are refused."""
    pred, gt = maps()
    p = regions(pred)
    options = {"labels": LABELS, "channels": NAMES}
    case = segcli.score(p, gt, metrics="all", losses="dice,dice_ce", **options)
    wide = [v for v in case.values if v.label == "all"]
    assert {v.measure.split(":")[0] for v in wide} >= {"mean_iou", "vi", "dice_ce"}
    assert {(v.value, v.status, v.why) for v in wide} == {(None, "undefined", "overlap")}
    assert segcli.compare(p, gt, losses="dice,dice_ce", **options).rows[-1].value is None
    with pytest.raises(InputError, match="reads each value as an object"):
        segcli.score(p, gt, metrics="pq:instances=values", **options)
    with pytest.raises(InputError, match="one label in each voxel"):
        segcli.inspect(p, gt, "dice_ce", **options)
    with pytest.raises(InputError, match="one label in each voxel"):
        segcli.score(p, gt, entropy_map=True, **options)


def test_channels_that_sum_to_one_are_told() -> None:
    """A softmax read channel by channel is another mask than the largest channel: a warning."""
    _, gt = maps()
    p = np.stack([np.full(gt.shape, 0.4), np.full(gt.shape, 0.35), np.full(gt.shape, 0.25)])
    case = segcli.score(p, gt, channels="background,1,2", metrics="voxels_pred")
    assert [v.value for v in case.values] == [0, 0]
    assert any(n.level == "warning" and n.code == "channels.sum" for n in case.notes)


def test_hints_of_region_channels_never_say_normalize() -> None:
    """Sums far from 1 are no rounding: the hint names `--channels`; sums near 1 may be normalised."""
    pred, gt = maps()
    for array in (regions(pred), (regions(pred) > 0.5).astype(np.uint8)):
        with pytest.raises(InputError, match="sum to") as caught:
            segcli.score(array, gt, labels=LABELS)
        assert "--channels" in caught.value.hint
        assert "--normalize" not in caught.value.hint
        assert "--from-logits" not in caught.value.hint
    with pytest.raises(InputError) as caught:
        segcli.score(np.stack([np.full(gt.shape, 0.5), np.full(gt.shape, 0.49)]), gt)
    assert "--normalize" in caught.value.hint


def test_region_logits_without_names_are_warned_of() -> None:
    """A softmax over channels that hold regions scores nonsense: values without a channel say so."""
    pred, gt = maps()
    case = segcli.score(logit(regions(pred)), gt, labels=LABELS, from_logits=True, metrics="dice")
    assert any(n.level == "warning" and "--channels" in n.text and "WT" in n.text for n in case.notes)
    case = segcli.score(regions(pred), gt, labels=LABELS, from_logits=True, metrics="dice")
    assert any("probabilities, not logits?" in n.text for n in case.notes)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"channels": "WT,TC,XX"}, UsageError, "'XX' is no label; --labels has WT, TC, ET"),
        ({"channels": "WT,WT,ET"}, UsageError, "names 'WT' twice"),
        ({"channels": "WT,1+2+4,ET"}, UsageError, "names 'WT' twice"),
        ({"channels": "WT,TC,7"}, UsageError, "7 is none of the labels"),
        ({"channels": "WT,TC,background"}, UsageError, "no channel for ET"),
        ({"channels": ""}, UsageError, "'' is no label"),
        ({"channels": "WT,,ET"}, UsageError, "'' is no label"),
        ({"channels": NAMES, "labels": None}, UsageError, "'WT' is no label"),
        ({"channels": "background", "labels": None}, UsageError, "names no label"),
        ({"channels": NAMES, "normalize": True}, UsageError, "contradict"),
        ({"channels": "WT,TC", "labels": "WT=1+2+4,TC=1+4"}, InputError, "3 channels on axis 0; --channels names 2"),
        ({"channels": f"background,{NAMES}"}, InputError, "--channels names 4"),
    ],
)
def test_channels_that_cannot_be_are_refused(options: dict, error: type[Exception], said: str) -> None:
    """Unknown, double and missing names are bad usage; another number than the file has is bad input."""
    pred, gt = maps()
    with pytest.raises(error, match=said.replace("+", r"\+")):
        segcli.score(regions(pred), gt, **{"labels": LABELS, **options})


def test_files_that_have_no_such_channels_are_refused() -> None:
    """A map without channels, and channels that hold more than 0 and 1."""
    pred, gt = maps()
    with pytest.raises(InputError, match="no axis holds channels"):
        segcli.score(pred, gt, labels=LABELS, channels=NAMES)
    with pytest.raises(InputError, match="channel ET holds 0 to 4"):
        segcli.score(np.stack([pred > 0, pred > 1, pred]), gt, labels=LABELS, channels=NAMES)
    with pytest.raises(InputError, match="at most 62"):
        segcli.score(np.zeros((63, 3, 3)), np.ones((3, 3), int), channels=list(range(1, 64)))
    many = segcli.score(np.ones((62, 3, 3), bool), np.full((3, 3), 7), channels=list(range(1, 63)), metrics="dice")
    assert many.value("dice", 7) == 1


def test_every_command_reads_them_and_the_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Score, compare, inspect with maps, conventions, evaluate; the run file has the channels."""
    pred, gt = maps()
    for name, array in (("pred", regions(pred)), ("gt", gt)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", array)
    read = ["--labels", LABELS, "--channels", NAMES]
    files = [str(tmp_path / name / "a.npy") for name in ("pred", "gt")]
    out = tmp_path / "gradient.npy"
    for command in (
        ["compare", *files, "-m", "dice"],
        ["inspect", *files, "-l", "dice", "--gradient", str(out), "--png", str(tmp_path / "a.png")],
        ["conventions", *files, "-m", "all", "-l", "dice,bce"],
        ["score", *files, "-m", "all"],
    ):
        assert command_line(["--isolated", *command, *read]) == 0
    assert np.load(out).shape == (3, *gt.shape)
    capsys.readouterr()
    run = tmp_path / "run.json"
    folders = [str(tmp_path / name) for name in ("pred", "gt")]
    command = ["evaluate", *folders, *read, "-m", "dice,mean_iou", "-j", "1", "-o", str(run)]
    assert command_line(["--isolated", *command]) == 0
    document = json.loads(run.read_text())
    assert document["spec"]["channels"] == {name: list(members) for name, members in SETS.items()}
    # A missing prediction is an empty mask, which has no channels.
    np.save(tmp_path / "gt" / "b.npy", gt)
    assert command_line(["--isolated", *command, "--missing", "worst"]) in (0, 4)
    gone = next(case for case in json.loads(run.read_text())["cases"] if case["case"] == "b")
    assert [v["value"] for v in gone["values"] if v["measure"] == "dice"] == [0, 0, 0]
    expected = segcli.score(pred, gt, labels=LABELS, metrics="dice")
    assert [v["value"] for v in document["cases"][0]["values"]][:3] == [v.value for v in expected.values]
