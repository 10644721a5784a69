"""Taking a loss apart: every division is a partition whose parts add up to the loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from test_attribution import check_parts

import segcli
from segcli.errors import UsageError
from segcli.explain.disagreement import OTHERS, STRIKING
from segcli.explain.divisions import WAYS
from segcli.masks.map_colours import BLUE, RED, WHITE, colours
from segcli.measure.notation import bind
from segcli.report.inspection import text as printed

MAPPED = [m.name for m in segcli.measures("loss") if m.voxel_map is not None]


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return a binary 2-D pair, a 3-D multi-label one with channels, a hard one, and an empty gt."""
    rng = np.random.default_rng(0)
    y = np.zeros((24, 30), np.uint8)
    y[4:10, 4:10], y[14:20, 18:26] = 1, 1
    p = np.clip(0.7 * np.roll(y, 1, axis=1) + 0.25 * rng.random(y.shape), 0, 1)
    p[1, 27] = 0.95  # a far false positive
    volume = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    channels = rng.dirichlet(np.ones(3), size=volume.shape).transpose(3, 0, 1, 2)
    return {
        "binary": (p, y),
        "channels": (channels, volume),
        "hard": (np.roll(y, 2, axis=0), y),
        "empty": (p, np.zeros_like(y)),
    }


PAIRS = pairs()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("loss", MAPPED)
def test_parts_add_up_to_the_loss(loss, name):
    """Kinds, labels, components of gt and of pred, bands and slices each sum to the value, as does the map."""
    pred, gt = PAIRS[name]
    found = segcli.inspect(pred, gt, loss, by=WAYS)
    check_parts(found)
    for way in ("kind", "band", "slice"):
        parts = [p for p in found.parts if p.by == way]
        for label in {p.label for p in parts}:
            assert sum(p.voxels for p in parts if p.label == label) == gt.size


def test_the_value_is_that_of_compare():
    """Inspecting says of a loss what comparing says, its mean over channels included."""
    for pred, gt in PAIRS.values():
        rows = segcli.compare(pred, gt, losses="dice,bce,hd_dt").rows
        for loss in ("dice", "bce", "hd_dt"):
            own = [r for r in rows if r.measure == loss]
            expected = next((r.value for r in own if r.label == "mean"), own[0].value)
            assert segcli.inspect(pred, gt, loss).value == pytest.approx(expected, rel=1e-12)


def test_parts_worked_by_hand():
    """MAE-like Dice map of four voxels: p = .5 .5 1 0 against y = 1 0 1 1 costs .5 .5 0 1 over 5."""
    p, y = np.array([[0.5, 0.5, 1.0, 0.0]]), np.array([[1, 0, 1, 1]], np.uint8)
    found = segcli.inspect(p, y, "dice:smooth=0")
    assert found.value == pytest.approx(2 / 5)  # S - 2I = 5 - 3 over S = 5
    np.testing.assert_allclose(found.map, [[0.1, 0.1, 0, 0.2]])
    kinds = {part.name: part.value for part in found.parts if part.by == "kind"}
    assert kinds == pytest.approx({"fp": 0.0, "fn": 0.1 + 0.2, "tp": 0.0, "tn": 0.1})  # p > 0.5 is foreground
    gt = {part.name: (part.value, part.note) for part in found.parts if part.by == "component" and "gt" in part.name}
    assert gt["gt #1"] == (pytest.approx(0.1), "missed")
    assert gt["gt #2"] == (pytest.approx(0.2), "50% overlap")
    assert gt["outside gt"][0] == pytest.approx(0.1)


def test_a_far_island_is_named():
    """One false voxel far away weighs many times more in the distance loss than in Dice."""
    pred, gt = PAIRS["binary"]
    of = {}
    for loss in ("hd_dt", "dice"):
        found = segcli.inspect(pred, gt, loss, by="component")
        island = max((p for p in found.parts if p.note == "false"), key=lambda p: p.value)
        assert island.voxels == 1
        of[loss] = found.share(island)
    assert of["hd_dt"] > 5 * of["dice"]


def missed_dot() -> tuple[np.ndarray, np.ndarray]:
    """Return a pair of a large object with a rough outline and a dot of 3 voxels that is missed, far away."""
    y = np.zeros((60, 60), np.uint8)
    y[5:30, 5:30] = 1
    p = y.copy()
    p[5:30:2, 30] = 1
    y[50, 50:53] = 1
    return p, y


def test_why_losses_disagree():
    """A small missed object is next to nothing in dice and most of hd_dt and blob: the sentence says so."""
    pred, gt = missed_dot()
    found = segcli.inspect(pred, gt, "dice").disagreement
    assert (found.by, found.name, found.voxels, found.note) == ("component", "gt #2", 3, "missed")
    # dice: 3 wrong voxels of 16; blob: one whole object, and 13 false voxels beside 625 + 638 for the other
    assert found.shares["dice"] == pytest.approx(3 / 16)
    blob = {1: 13 / (625 + 638), 2: (3 + 13) / (3 + 13)}
    assert found.shares["blob"] == pytest.approx(3 / 16 * blob[2] / (blob[1] + blob[2]), rel=1e-3)
    assert next(iter(found.shares)) == "dice"
    asked = [bind(t, "loss") for t in OTHERS.split(",")]
    assert set(found.shares) == {b.name for b in asked if b.measure.reads != "probability"}  # the mask is hard
    soft = segcli.inspect(0.1 + 0.8 * pred, gt, "dice").disagreement
    assert set(soft.shares) == {b.name for b in asked}
    gaps = [abs(share - found.shares["dice"]) for share in list(found.shares.values())[1:]]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] >= STRIKING
    last = printed(segcli.inspect(pred, gt, "dice")).splitlines()[-1]
    assert last.startswith("gt component #2 (3 voxels, missed): 19% of dice, ")
    assert "% of hd_dt" in last
    assert last.endswith(": why these losses disagree")


@pytest.mark.parametrize("name", PAIRS)
def test_shares_of_a_disagreement_are_those_of_an_inspection(name):
    """What the sentence says of other losses is what inspecting them says."""
    pred, gt = PAIRS[name]
    for loss in ("hd_dt", "bce"):
        found = segcli.inspect(pred, gt, loss).disagreement
        if found is None:
            continue
        for other, share in found.shares.items():
            there = segcli.inspect(pred, gt, other, by=found.by)
            (part,) = [p for p in there.parts if (p.label, p.name) == (found.label, found.name)]
            assert there.share(part) == pytest.approx(share, rel=1e-9, abs=1e-12)


def test_no_sentence_without_a_difference():
    """One object with a rim on all sides, a perfect prediction, and divisions that are not asked for say nothing."""
    y = np.zeros((30, 30), np.uint8)
    y[10:20, 10:20] = 1
    rim = np.zeros_like(y)
    rim[9:21, 9:21] = 1
    for pred in (rim, y):
        found = segcli.inspect(pred, y, "dice")
        assert found.disagreement is None
        assert "disagree" not in printed(found)
    assert segcli.inspect(*missed_dot(), "dice", by="kind,slice").disagreement is None
    pred, gt = missed_dot()  # exchanged, the dot is a false alarm far from the boundary, where most of dice is
    found = segcli.inspect(gt, pred, "dice", by="band").disagreement
    assert (found.by, found.name) == ("band", "0-1")
    assert "band 0-1 voxel from the boundary (" in printed(segcli.inspect(gt, pred, "dice", by="band"))


def test_headlines():
    """Beside a loss that is not 0 at pred = gt stand that value and the excess; a perfect prediction is said so."""
    pred, gt = missed_dot()
    first = printed(segcli.inspect(pred, gt, "combo")).splitlines()[0]
    assert first.startswith("combo -0.")
    assert " = -0.500 at pred = gt + 0." in first
    assert printed(segcli.inspect(gt, gt, "dice")) == "dice 0: the least it can be for this gt, nothing to divide"
    assert "no band: the gt has no boundary" in printed(segcli.inspect(pred, 0 * gt, "dice"))


def test_gradients_are_those_of_the_loss():
    """The gradient map is dL/dp of the mean, by central differences at a few voxels."""
    pred, gt = PAIRS["channels"]
    found = segcli.inspect(pred, gt, "dice")
    step = 1e-6
    for index in [(0, 0, 0, 0), (1, 2, 3, 4), (2, 5, 6, 7)]:
        values = []
        for sign in (1, -1):
            moved = pred.copy()
            moved[index] += sign * step
            values.append(segcli.inspect(moved, gt, "dice", by="label").value)
        assert found.gradient[index] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segcli", "inspect", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", [*PAIRS, "dot", "perfect"])
def test_json_is_what_its_schema_allows(tmp_path, name):
    """`inspect -f json` validates against `segcli schema inspect`, with a disagreement and without."""
    command = [sys.executable, "-m", "segcli", "schema", "inspect"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    schema = json.loads(shown.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    more = {"dot": missed_dot(), "perfect": (PAIRS["hard"][1], PAIRS["hard"][1])}
    for side, array in zip("py", {**PAIRS, **more}[name], strict=True):
        np.save(tmp_path / f"{side}.npy", array)
    done = call(tmp_path / "p.npy", tmp_path / "y.npy", "--loss", "boundary", "--by", ",".join(WAYS), "-f", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    jsonschema.validate(document, schema)
    assert document["value"] - document["optimum"] == document["excess"]
    assert document["disagreement"] is not None or name != "dot"
    assert document["disagreement"] is None or name != "perfect"
    broken = {**document, "disagreement": {"by": "component"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_maps_are_written_on_the_grid_of_the_truth(tmp_path: Path):
    """A NIfTI map has the affine of the ground truth and sums to the loss; NPY holds the same numbers."""
    pred, gt = PAIRS["hard"]
    affine = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
    for name, array in (("pred", pred), ("gt", gt)):
        nib.save(nib.Nifti1Image(np.stack([array] * 3, axis=2), affine), tmp_path / f"{name}.nii.gz")
    done = call(
        tmp_path / "pred.nii.gz", tmp_path / "gt.nii.gz", "--loss", "dice", "-f", "json",
        "--map", tmp_path / "map.nii.gz", "--gradient", tmp_path / "gradient.npy", "--png", tmp_path / "worst.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    assert written.get_fdata().sum() == pytest.approx(document["value"], rel=1e-9)
    assert np.load(tmp_path / "gradient.npy").shape == (24, 30, 3)
    with Image.open(tmp_path / "worst.png") as image:
        picture = np.asarray(image)
    assert picture.shape[2] == 3
    assert {RED, WHITE} <= {tuple(int(c) for c in pixel) for pixel in picture.reshape(-1, 3)}


def test_a_png_holds_a_flat_map(tmp_path: Path):
    """A 2-D map becomes an image of its size; a 3-D one is refused with what to do instead."""
    np.save(tmp_path / "p.npy", PAIRS["binary"][0])
    np.save(tmp_path / "y.npy", PAIRS["binary"][1])
    assert call(tmp_path / "p.npy", tmp_path / "y.npy", "--loss", "bce", "--map", tmp_path / "m.png").returncode == 0
    with Image.open(tmp_path / "m.png") as image:
        assert image.size == (30, 24)
    np.save(tmp_path / "v.npy", PAIRS["channels"][1])
    done = call(tmp_path / "v.npy", tmp_path / "v.npy", "--loss", "dice", "--map", tmp_path / "v.png")
    assert done.returncode == 2
    assert "--png" in done.stderr


def test_colours_of_a_map():
    """Red costs, blue gains, white is nothing."""
    np.testing.assert_array_equal(colours(np.array([[2.0, -2.0, 0.0]])), [[RED, BLUE, WHITE]])
    np.testing.assert_array_equal(colours(np.zeros((1, 1))), [[WHITE]])


def test_what_cannot_be_inspected():
    """An unknown division, a stack and an unknown loss are usage errors."""
    pred, gt = PAIRS["hard"]
    with pytest.raises(UsageError, match="--by shape"):
        segcli.inspect(pred, gt, "dice", by="shape")
    with pytest.raises(UsageError, match="stack"):
        segcli.inspect(pred[None], gt[None], "dice", stack=True)
    with pytest.raises(UsageError, match="dcie"):
        segcli.inspect(pred, gt, "dcie")
