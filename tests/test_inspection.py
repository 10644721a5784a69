"""Taking a loss apart: every division is a partition whose parts add up to the loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.errors import UsageError
from segcli.inspection import WAYS
from segcli.masks.writing import BLUE, RED, WHITE, colours

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
    scale = abs(found.map).sum() + 1e-300
    assert found.map.sum() + found.residual == pytest.approx(found.value, abs=1e-9 * scale)
    assert abs(found.residual) <= 1e-9 * scale
    for way in WAYS:
        parts = [p for p in found.parts if p.by == way]
        total = sum(p.value for p in parts)
        if way == "component":
            for side in ("gt", "pred"):
                assert sum(
                    p.value for p in parts if p.name.split()[-2 if "#" in p.name else -1] == side
                ) == pytest.approx(found.value, abs=1e-9 * scale)
        else:
            assert total == pytest.approx(found.value, abs=1e-9 * scale)
        if way in ("kind", "band", "slice"):
            labels = {p.label for p in parts}
            assert all(sum(p.voxels for p in parts if p.label == label) == gt.size for label in labels)


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
