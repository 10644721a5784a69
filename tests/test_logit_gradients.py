"""Gradients by logits: what a network gets through its softmax or sigmoid, and what is said where it gets nothing."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from test_attribution import VARIANTS
from test_losses import loss_of

import segcli
from segcli.evidence.soft import SoftPair
from segcli.explain.logit_gradients import SharedLogits
from segcli.measure.record import BoundMeasure

Array = NDArray[np.float64]
ONE_VS_REST = [text for text in VARIANTS if not loss_of(text).over_classes]


def softmax(z: Array) -> Array:
    """Return the softmax over the first axis."""
    powers = np.exp(z - z.max(axis=0))
    return powers / powers.sum(axis=0)


def scene(shape: tuple[int, ...] = (12, 11), channels: int = 4, seed: int = 0) -> tuple[Array, NDArray[np.uint8]]:
    """Return logits (C, *shape) and a label map in blocks; no two probabilities are the same."""
    random = np.random.default_rng(seed)
    gt = np.zeros(shape, np.uint8)
    for label in range(1, channels):
        gt[2 * label : 2 * label + 4, 1 + label : 5 + label] = label
    z = random.normal(size=(channels, *shape)) + 1.5 * (gt == np.arange(channels).reshape(-1, *[1] * gt.ndim))
    return z, gt


def pairs_of(p: Array, gt: NDArray[np.uint8]) -> list[SoftPair]:
    """Return each channel against the rest."""
    return [SoftPair.of(p[c], (gt == c).astype(float), spacing=(2.0, 1.0, 0.5)[: gt.ndim]) for c in range(len(p))]


def chained(bound: BoundMeasure, pairs: list[SoftPair], p: Array, weights: list[float]) -> Array:
    """Return dL/dz of a weighted sum by the Jacobian of the softmax: p_k (g_k - sum over j of p_j g_j)."""
    by_p = np.stack([w * bound.gradient(pair, "p") for w, pair in zip(weights, pairs, strict=True)])
    rows = p.reshape(len(p), -1)
    return rows * (by_p - (rows * by_p).sum(axis=0))


@pytest.mark.parametrize("text", ONE_VS_REST)
def test_norms_are_those_of_the_softmax(text: str) -> None:
    """Of each label, of the means with and without the background, and of any other weights."""
    bound = loss_of(text)
    z, gt = scene()
    p = softmax(z)
    pairs = pairs_of(p, gt)
    sums = [*np.eye(4).tolist(), [0.25] * 4, [0, 1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2, 0.0]]
    found = SharedLogits(pairs, np.eye(4, dtype=bool), p.reshape(4, -1)).norms([bound], sums)[bound.name]
    for norms, weights in zip(found, sums, strict=True):
        expected = chained(bound, pairs, p, weights)
        assert norms.l1 == pytest.approx(abs(expected).sum(), rel=1e-9, abs=1e-15)
        assert norms.l2 == pytest.approx(np.linalg.norm(expected), rel=1e-9, abs=1e-15)


#: Of a thresholded map distances jump, and so does a loss made of them.
SMOOTH = ["bce", "dice", "focal", "tversky", "lovasz", "boundary", "mcc", "brier", "ssim", "unified_focal"]


@pytest.mark.parametrize("text", SMOOTH)
def test_the_gradient_is_the_slope_of_the_mean(text: str) -> None:
    """By central differences of the mean loss of softmax(z), as a network sees it."""
    bound = loss_of(text)
    z, gt = scene()
    step = 1e-5

    def mean(moved: Array) -> float:
        return sum(bound(pair) for pair in pairs_of(softmax(moved), gt)) / 4

    gradient = chained(bound, pairs_of(softmax(z), gt), softmax(z), [0.25] * 4).reshape(z.shape)
    for index in [(0, 0, 0), (1, 3, 3), (2, 5, 4), (3, 7, 6), (0, 6, 5)]:
        moved = [z.copy(), z.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        slope = (mean(moved[0]) - mean(moved[1])) / (2 * step)
        assert gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("apart", [20.0, 35.0, 60.0])
def test_next_to_certainty_no_digit_is_lost(apart: float) -> None:
    """By hand: two channels, one voxel that is wrong, z = (a, 0): dL/dz of Brier is 2 p0 (p0-y0) p1, and minus that."""
    z = np.array([[[apart, 0.0]], [[0.0, apart]]])
    gt = np.array([[1, 1]], np.uint8)
    found = segcli.compare(z, gt, losses="brier", from_logits=True, labels="fg=1")
    small = 1 / (1 + np.exp(apart))  # the voxel that is wrong has (1-small) of its error left to gain
    assert z_norm(found, "fg", "brier") == pytest.approx(2 * 2 * (1 - small) ** 2 * small / 2, rel=1e-6)


def z_norm(found: segcli.Comparison, label: str, measure: str) -> float:
    """Return the L1 norm of dL/dz of a row."""
    (row,) = (r for r in found.rows if (r.label, r.measure.split(":thinning")[0]) == (label, measure))
    return row.by_z.l1


def test_compare_agrees_with_torch() -> None:
    """The means of compare, of four channels of logits, with and without the background and by other averages."""
    torch = pytest.importorskip("torch")
    z, gt = scene()
    sizes = np.bincount(gt.reshape(-1))
    truth = torch.tensor(np.stack([gt == c for c in range(4)]).astype(float)).flatten(1)

    def by_torch(loss: str, weights: list[float], *, pooled: bool = False) -> float:
        leaf = torch.tensor(z, requires_grad=True)
        p, y = torch.softmax(leaf, 0).flatten(1), truth
        if pooled:
            p, y = p[1:].reshape(1, -1), y[1:].reshape(1, -1)
        if loss == "bce":
            each = torch.nn.functional.binary_cross_entropy(p, y, reduction="none").mean(1)
        else:
            each = 1 - (2 * (p * y).sum(1) + 1e-5) / (p.sum(1) + y.sum(1) + 1e-5)
        (each * torch.tensor(weights, dtype=torch.float64)).sum().backward()
        return float(leaf.grad.abs().sum())

    for loss in ("bce", "dice"):
        plain = segcli.compare(z, gt, losses=loss, from_logits=True, labels="1,2,3,both=1+2")
        assert z_norm(plain, "mean", loss) == pytest.approx(by_torch(loss, [0.25] * 4), rel=1e-9)
        inner = [0.0, *[1 / 3] * 3]
        assert z_norm(plain, "mean without background", loss) == pytest.approx(by_torch(loss, inner), rel=1e-9)
        assert z_norm(plain, "2", loss) == pytest.approx(by_torch(loss, [0.0, 0.0, 1.0, 0.0]), rel=1e-9)
        weighted = segcli.compare(z, gt, losses=loss, from_logits=True, average="weighted")
        shares = (sizes / sizes.sum()).tolist()
        assert z_norm(weighted, "mean", loss) == pytest.approx(by_torch(loss, shares), rel=1e-9)
        micro = segcli.compare(z, gt, losses=loss, from_logits=True, average="micro", background=False)
        assert z_norm(micro, "mean", loss) == pytest.approx(by_torch(loss, [1.0], pooled=True), rel=1e-9)


def test_a_region_moves_with_its_channels() -> None:
    """Of a union of two labels each of its channels has its share, and every other the rest."""
    z, gt = scene()
    p = softmax(z)
    found = segcli.compare(z, gt, losses="dice", from_logits=True, labels="1,2,3,both=1+2")
    pair = SoftPair.of(p[1] + p[2], np.isin(gt, (1, 2)).astype(float))
    by_p = loss_of("dice").gradient(pair, "p")
    every = np.stack([0 * by_p, by_p, by_p, 0 * by_p])
    rows = p.reshape(4, -1)
    expected = abs(rows * (every - (rows * every).sum(axis=0))).sum()
    assert z_norm(found, "both", "dice") == pytest.approx(expected, rel=1e-9)


def test_two_channels_and_a_single_map() -> None:
    """Two logits share what one logit has: each of them gets all of it, with one sign or the other."""
    z, gt = scene(channels=2)
    single = segcli.compare(z[1] - z[0], gt, losses="dice,categorical_ce", from_logits=True)
    double = segcli.compare(z, gt, losses="dice,categorical_ce", from_logits=True)
    for one, two in zip(single.rows, double.rows, strict=True):
        assert two.value == pytest.approx(one.value, rel=1e-12)
        assert two.by_z.l1 == pytest.approx(2 * one.by_z.l1, rel=1e-9)
        assert two.by_z.l2 == pytest.approx(np.sqrt(2) * one.by_z.l2, rel=1e-9)


def test_ignored_voxels_and_stacks() -> None:
    """Ignored voxels have no gradient; of a stack each image has its own logits."""
    z, gt = scene()
    gt[0] = 9
    kept = segcli.compare(z, gt, losses="bce,dice,hd_dt", from_logits=True, ignore_label=9)
    less = segcli.compare(z[:, 1:], gt[1:], losses="bce,dice", from_logits=True)
    for loss in ("bce", "dice"):
        assert z_norm(kept, "mean", loss) == pytest.approx(z_norm(less, "mean", loss), rel=1e-9)
    z, gt = scene()
    twice = {"losses": "dice,hd_er,skeleton_recall", "from_logits": True, "stack": True}
    both = segcli.compare(np.stack([z, z]), np.stack([gt, gt]), batch_dice=True, **twice)
    one = segcli.compare(z, gt, losses=twice["losses"], from_logits=True)
    for loss in ("dice", "hd_er", "skeleton_recall"):
        assert z_norm(both, "mean", loss) == pytest.approx(z_norm(one, "mean", loss), rel=1e-4)
    apart = segcli.compare(np.stack([z, z]), np.stack([gt, gt]), **twice)
    assert z_norm(apart, "mean", "dice") == pytest.approx(z_norm(one, "mean", "dice"), rel=1e-9)


# --- what is said of it -----------------------------------------------------------------------


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "segcli", "--isolated", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


GONE = "no gradient reaches the network"


@pytest.mark.parametrize("several", [False, True], ids=["one map", "channels"])
def test_saturated_logits_are_told_in_every_output(tmp_path: Path, several: bool) -> None:
    """Wrong by 30 on the scale of logits: dL/dp is large, dL/dz nothing, and that is what the table shows."""
    _, gt = scene(channels=2)
    right = 30 * (2.0 * gt - 1)
    z = np.roll(right, 2, axis=0)
    np.save(tmp_path / "z.npy", np.stack([-z / 2, z / 2]) if several else z)
    np.save(tmp_path / "gt.npy", gt)
    arguments = ["compare", tmp_path / "z.npy", tmp_path / "gt.npy", "--from-logits", "--losses", "dice,brier"]
    table = call(*arguments).stdout
    assert "|dL/dz|" in table.splitlines()[1]
    assert table.count(GONE) == 2
    assert call(*arguments, "-f", "md").stdout.count(GONE) == 2
    rows = list(csv.DictReader(io.StringIO(call(*arguments, "-f", "csv").stdout)))
    assert [GONE in row["notes"] for row in rows] == [True, True]
    document = json.loads(call(*arguments, "-f", "json").stdout)
    for row, line in zip(document["rows"], rows, strict=True):
        assert GONE in row["notes"]
        assert row["gradient"]["l1"] > 1e-3
        assert 0 < row["gradient"]["z"]["l1"] < 1e-7 * row["excess"]
        assert float(line["grad_z_l1"]) == row["gradient"]["z"]["l1"]


def test_what_still_trains_is_not_called_gone() -> None:
    """Cross-entropy of logits has its gradient however wrong they are; a perfect prediction has nothing to gain."""
    _, gt = scene(channels=2)
    z = np.roll(30 * (2.0 * gt - 1), 2, axis=0)
    rows = segcli.compare(z, gt, losses="bce,dice", from_logits=True).rows
    assert [GONE in row.notes for row in rows] == [False, True]
    rows = segcli.compare(30 * (2.0 * gt - 1), gt, losses="bce,dice", from_logits=True).rows
    assert not any(GONE in row.notes for row in rows)


def test_probabilities_keep_their_own_gradient() -> None:
    """Where a table is of probabilities it shows dL/dp."""
    z, gt = scene()
    assert segcli.compare(softmax(z), gt, losses="dice").felt_by == "p"
    assert segcli.compare(z, gt, losses="dice", from_logits=True).felt_by == "z"


# --- the gradient as a file -------------------------------------------------------------------


def slope(z_or_p: Array, gt: NDArray[np.uint8], loss: str, index: tuple[int, ...], **options: object) -> float:
    """Return the derivative of the inspected value by one entry of the prediction."""
    step, values = 1e-6, []
    for sign in (1, -1):
        moved = z_or_p.copy()
        moved[index] += sign * step
        values.append(segcli.inspect(moved, gt, loss, by="label", **options).value)
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "present"])
@pytest.mark.parametrize("background", [True, False])
def test_a_gradient_has_the_shape_of_its_prediction(average: str, background: bool) -> None:
    """Channel by channel, 0 in the background where that does not count, by central differences."""
    z, gt = scene()
    p = softmax(z)
    gt[gt == 3] = 9  # no voxel of label 3: `present` leaves it out
    options = {"average": average, "background": background, "ignore_label": 9}
    found = segcli.inspect(p, gt, "dice", **options)
    assert found.gradient.shape == p.shape
    assert found.gradient[0].any() == background
    assert found.gradient[3].any() == (average in ("macro", "micro"))
    assert not found.gradient[:, gt == 9].any()
    for index in [(0, 0, 0), (1, 3, 3), (2, 5, 4), (3, 1, 1)]:
        assert found.gradient[index] == pytest.approx(slope(p, gt, "dice", index, **options), rel=1e-5, abs=1e-9)


def test_other_forms_of_a_prediction() -> None:
    """Two channels of a binary pair, one map of a loss of all classes, a hard map of several labels."""
    z, gt = scene(channels=2)
    p = softmax(z)
    two = segcli.inspect(p, gt, "dice").gradient
    assert two.shape == p.shape
    assert not two[0].any()
    one = segcli.inspect(p[1], gt, "dice").gradient
    np.testing.assert_allclose(two[1], one, rtol=1e-9)
    flat = segcli.inspect(p[1], gt, "categorical_ce").gradient
    assert flat.shape == gt.shape
    assert flat[4, 4] == pytest.approx(slope(p[1], gt, "categorical_ce", (4, 4)), rel=1e-5)
    assert segcli.inspect(p, gt, "categorical_ce").gradient.shape == p.shape
    _, labels = scene()
    assert segcli.inspect(np.roll(labels, 1, 0), labels, "dice", background=False).gradient.shape == (4, *labels.shape)


def test_channels_are_written_where_the_file_has_them(tmp_path: Path) -> None:
    """Last in an NPY read with --channel-axis and in NIfTI, first otherwise; a NIfTI gradient has them last."""
    z, gt = scene((9, 8, 12))
    p = softmax(z)
    np.save(tmp_path / "first.npy", p)
    np.save(tmp_path / "last.npy", np.moveaxis(p, 0, -1))
    np.save(tmp_path / "gt.npy", gt)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(np.moveaxis(p, 0, -1), affine), tmp_path / "p.nii.gz")
    nib.save(nib.Nifti1Image(gt, affine), tmp_path / "gt.nii.gz")
    written = {}
    for name, truth, *more in [
        ("first.npy", "gt.npy"), ("last.npy", "gt.npy", "--channel-axis", "3"), ("p.nii.gz", "gt.nii.gz"),
    ]:  # fmt: skip
        done = call(
            "inspect", tmp_path / name, tmp_path / truth, "--kind", "probability", "-l", "dice", "--no-background",
            "--gradient", tmp_path / "g.npy", *more,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        written[name] = np.load(tmp_path / "g.npy")
        assert written[name].shape == (p.shape if name == "first.npy" else np.moveaxis(p, 0, -1).shape)
    np.testing.assert_array_equal(np.moveaxis(written["last.npy"], -1, 0), written["first.npy"])
    np.testing.assert_allclose(np.moveaxis(written["p.nii.gz"], -1, 0), written["first.npy"], rtol=1e-6)
    assert not written["first.npy"][0].any()
    done = call(
        "inspect", tmp_path / "last.npy", tmp_path / "gt.npy", "--kind", "probability", "-l", "dice", "--channel-axis",
        "-1", "--gradient", tmp_path / "g.nii.gz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert nib.load(tmp_path / "g.nii.gz").shape == np.moveaxis(p, 0, -1).shape
