"""What libraries return for several channels and for probabilities next to 0 and 1, recorded and live."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_logit_gradients import scene, softmax
from test_loss_libraries import SINGLE_CHANNEL, library, reads_logits, run

import segcli
from segcli.measure.losses.libraries import Implementation, known
from segcli.measure.record import measures
from segcli.tools import pair as conventions

Array = NDArray[np.float64]
NAMES = [m.name for m in measures("loss")]


def rounded(seed: int = 0) -> tuple[Array, NDArray[np.uint8]]:
    """Return probabilities of four channels that add up to 1 and have few digits, and their labels."""
    z, gt = scene((12, 11), 4, seed)
    p = np.round(softmax(z), 3) + 0.001
    return p / p.sum(axis=0), gt


#: Returned by MONAI 1.6.1, SMP 0.6.0 and Keras 3.15.1 for `rounded()`, logits being ln p/(1-p) of each channel.
RECORDED = {
    ("hd_dt", "monai.losses.HausdorffDTLoss()(p, y)"): 0.9834623,
    ("log_hd_dt", "monai.losses.LogHausdorffDTLoss()(p, y)"): 0.6848439,
    ("bce_dice", "monai.losses.DiceCELoss(sigmoid=True)(z, y)"): 1.258282,
    ("dice_cldice", "monai.losses.SoftDiceclDiceLoss()(p, y)"): 0.5350627,
    ("unified_focal", "monai.losses.AsymmetricUnifiedFocalLoss()(p, y)"): 0.3455132,
    ("generalized_dice", "monai.losses.GeneralizedDiceLoss()(p, y)"): 0.6733493,
    ("gdice_focal", "monai.losses.GeneralizedDiceFocalLoss(sigmoid=True)(z, y)"): 0.7709373,
    ("cldice", "monai.losses.SoftclDiceLoss()(p, y)"): 0.5016191,
    ("dice", "segmentation_models_pytorch.losses.DiceLoss('binary')(z, y)"): 0.4643862,
    ("iou", "segmentation_models_pytorch.losses.JaccardLoss('binary')(z, y)"): 0.6342401,
    ("tversky", "segmentation_models_pytorch.losses.TverskyLoss('binary')(z, y)"): 0.4643862,
    ("mcc", "segmentation_models_pytorch.losses.MCCLoss()(p, y)"): 0.6191817,
    ("lovasz_hinge", "segmentation_models_pytorch.losses.LovaszLoss('binary')(z, y)"): 1.067593,
    ("dice", "keras.losses.Dice()(y, p)"): 0.4643862,
}


@pytest.mark.parametrize(("name", "call"), RECORDED)
def test_recorded_values_of_several_channels(name: str, call: str) -> None:
    """What is stated of a library is what it returned."""
    p, gt = rounded()
    rows = conventions.conventions(p, gt, metrics=(), losses=name, kind="probability").rows
    (row,) = (row for row in rows if row.call == call)
    room = 6e-5 if "cldice" in name else 0.0  # MONAI's clDice has 1e-4 more in a denominator
    assert row.printed.value == pytest.approx(RECORDED[name, call], rel=2e-6, abs=room)


def given(entry: Implementation, p: Array, y: Array, labels: Array, z: Array | None) -> dict[str, Any]:
    """Return the arguments of a call, a batch of one case; logits that are not known are those of p."""
    torch = library("torch")
    one = len(p) == 1
    if one and entry.channels in ("all", "classes", "two"):
        z = None if z is None else np.concatenate([-z if "sigmoid=True" in entry.call else 0 * z, z])
        p, y = np.concatenate([1 - p, p]), np.concatenate([1 - y, y])
        labels = y.argmax(0)
    if z is None:
        shared = entry.channels in ("all", "classes") or entry.several == "pooled dice"
        shared = shared or (one and entry.channels == "two" and "sigmoid=True" not in entry.call)
        with np.errstate(divide="ignore"):
            z = np.log(p) if shared else np.log(p) - np.log1p(-p)
    kind = torch.float32 if "LovaszLoss" in entry.call else torch.float64
    found = {name: torch.tensor(a[None], dtype=kind) for name, a in (("p", p), ("z", z), ("y", y))}
    if entry.library == "keras":
        found = {name: torch.movedim(a, 1, -1) for name, a in found.items()}
    found["labels"] = torch.tensor(np.asarray(labels, np.int64)[None])
    if "hinge" in entry.call:
        found["labels"] = torch.tensor(y, dtype=kind)
    if "HausdorffER" in entry.call:
        found["labels"] = found["labels"][:, None]
    return {**found, "M": 1 - np.eye(len(p)), "ndim": labels.ndim}


def hold(pred: Array, gt: NDArray[np.uint8], *, logits: bool = False, labels: str | None = None) -> int:
    """Hold what is stated of each library against what it returns; return how many numbers were."""
    several = pred.ndim > gt.ndim
    z = None if not logits else (pred if several else pred[None])
    p = (pred if several else pred[None]) if z is None else softmax(z) if several else 1 / (1 + np.exp(-z))
    y = np.stack([gt == c for c in range(len(p))] if several else [gt > 0]).astype(float)
    options: dict[str, Any] = {"from_logits": True} if logits else {"kind": "probability"}
    rows = conventions.conventions(pred, gt, metrics=(), losses=NAMES, labels=labels, **options).rows
    wrong, held = [], 0
    for row in rows:
        (entry,) = (e for e in known()[row.quantity].found_in if e.call == row.call)
        if row.printed.value is None:
            assert row.printed.words
            continue
        theirs = float(run(row.call, **given(entry, p, y, gt, z)))
        room = 6e-5 if "cldice" in row.quantity else 1e-6  # MONAI's clDice has 1e-4 more in a denominator
        held += 1
        if row.printed.value != pytest.approx(theirs, rel=1e-4, abs=room):
            wrong.append((row.quantity, row.call, row.printed.value, theirs))
        assert bool(row.because) == (row.difference > 0), row
    assert not wrong
    return held


@pytest.mark.parametrize("logits", [False, True], ids=["probabilities", "logits"])
@pytest.mark.parametrize(
    ("shape", "channels"), [((16, 17), 4), ((16, 17), 2), ((12, 13, 14), 3)], ids=["4", "2", "3-D"]
)
def test_several_channels_live(shape: tuple[int, ...], channels: int, logits: bool) -> None:
    """Every claim about a library's loss of several channels is what it returns, labels asked for or not."""
    z, gt = scene(shape, channels)
    for labels in (None, ",".join(str(c) for c in range(1, channels))):
        assert hold(z if logits else softmax(z), gt, logits=logits, labels=labels) >= 45


@pytest.mark.parametrize("truth", ["absent", "background", "one class"])
def test_absent_classes_live(truth: str) -> None:
    """A class that the gt has not, nothing but background, and nothing but one class."""
    z, gt = scene((16, 17), 4)
    gt = {"absent": gt * (gt != 2), "background": 0 * gt, "one class": 0 * gt + 1}[truth]
    assert hold(softmax(z), gt, labels="1,2,3") >= 45


@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@pytest.mark.parametrize("values", [(0.0, 1.0), (1e-9, 1 - 1e-9, 1e-12)], ids=["certain", "nearly"])
@pytest.mark.parametrize("several", [False, True], ids=["one map", "channels"])
def test_saturated_probabilities_live(values: tuple[float, ...], several: bool) -> None:
    """Where the libraries' clips and types matter: a third of the voxels is 0 or 1, or nearly."""
    random = np.random.default_rng(1)
    z, gt = scene((16, 17), 4 if several else 2)
    p = softmax(z) if several else softmax(z)[1]
    chosen = random.random(gt.shape) < 0.3
    if several:
        at = random.integers(0, 4, gt.shape)
        p = np.where(chosen, np.where(at == np.arange(4)[:, None, None], 1 - 3 * values[0], values[0]), p)
    else:
        p[chosen] = random.choice(values, int(chosen.sum()))
    assert hold(p, gt) >= 35


@pytest.mark.filterwarnings(SINGLE_CHANNEL)
def test_extreme_logits_live() -> None:
    """A library that is given the probabilities of a file of logits clips them."""
    z, gt = scene((16, 17), 2, 5)
    assert hold(40 * z[1], gt, logits=True) >= 45


def test_recorded_value_of_extreme_logits() -> None:
    """MONAI 1.6.1 of `sigmoid(z)`: certain voxels are clipped at 1e-7, logits of 200 are not."""
    z, gt = scene((16, 17), 2, 5)
    (row,) = conventions.conventions(40 * z[1], gt, metrics=(), losses="unified_focal", from_logits=True).rows
    assert row.printed.value == pytest.approx(0.8176948302997114, rel=1e-6)


@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@pytest.mark.parametrize("shape", [(9, 12), (12, 10)])
def test_an_image_smaller_than_the_window_raises(shape: tuple[int, int]) -> None:
    """MONAI and kornia raise (kernel greater than the input); segcli has a number."""
    z, gt = scene(shape, 2, 5)
    rows = conventions.conventions(softmax(z)[1], gt, metrics=(), losses="ssim", kind="probability").rows
    assert {row.tool for row in rows} == {"monai", "kornia"}
    assert {(row.printed.value, row.printed.words) for row in rows} == {
        (None, "raises: an axis is shorter than the window of 11 voxels")
    }
    assert hold(softmax(z)[1], gt) >= 35
    scored = segcli.score(softmax(z)[1], gt, metrics=(), losses="ssim", convention="monai", kind="probability")
    assert scored.values[0].value is None


def test_a_2_channel_file_is_two_channels() -> None:
    """Of a binary pair with two channels segcli's number is that of the label, a library's that of both."""
    z, gt = scene((16, 17), 2)
    rows = conventions.conventions(softmax(z), gt, metrics=(), losses="dice").rows
    monai = next(row for row in rows if row.tool == "monai")
    assert monai.label == "foreground"
    both = [segcli.compare(p, gt == c, losses="dice").rows[0].value for c, p in enumerate(softmax(z))]
    assert (monai.own, monai.printed.value) == pytest.approx((both[1], sum(both) / 2), rel=1e-6)
    assert monai.because == ("the background is a channel too",)


def printed(pred: Array, gt: NDArray[np.uint8], losses: str) -> dict[tuple[str, str], float | None]:
    """Return what is stated of each library by tool and quantity; of several calls the first."""
    rows = conventions.conventions(pred, gt, metrics=(), losses=losses, kind="probability").rows
    return {(row.tool, row.quantity): row.printed.value for row in reversed(rows)}


@pytest.mark.parametrize("tool", ["monai", "smp", "keras", "torch"])
def test_a_score_by_a_convention_agrees(tool: str) -> None:
    """The mean row of `score --convention` is what `conventions` states of the library, for every loss that it has."""
    p, gt = rounded()
    p[:, 2, :] = np.eye(4)[:, [1]]  # some are certain
    names = [n for n in NAMES if any(e.library == tool and e.same_as and e.times == "1" for e in known()[n].found_in)]
    for name in names:
        scored = segcli.score(p, gt, metrics=(), losses=name, convention=tool, kind="probability")
        (entry, *_) = [e for e in known()[name].found_in if e.library == tool and e.same_as and e.times == "1"]
        rows = conventions.conventions(p, gt, metrics=(), losses=name, kind="probability").rows
        stated = next(row.printed for row in rows if row.call == entry.call)
        own = [m.value for m in scored.means if m.kind == "loss"] or [scored.values[0].value]
        assert own == [pytest.approx(stated.value) if stated.value is not None else None], name
        assert [m.label for m in scored.means if m.kind == "loss"] in ([], ["mean"])
        if stated.value is None:
            assert any(stated.words in remark for remark in scored.remarks)


def test_what_a_library_does_with_several_channels_is_said(tmp_path: Path) -> None:
    """In the table of a score, and in the catalogue; with another average the row is segcli's, which is said too."""
    p, gt = rounded()
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "gt.npy", gt)

    def call(*arguments: object) -> str:
        command = [sys.executable, "-m", "segcli", "--isolated", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    score = ["score", tmp_path / "p.npy", tmp_path / "gt.npy", "--kind", "probability", "-l", "hd_dt", "--convention"]
    assert "of several channels: the first, the background, is left out" in call(*score, "monai")
    assert "something else with several channels than the row mean" in call(*score, "monai", "--average", "weighted")
    assert "of several channels the first, the background, is left out" in call("catalog", "hd_dt", "--kind", "loss")
    rows = json.loads(call(*score, "monai", "-f", "json"))["cases"][0]
    assert rows["means"][-1]["label"] == "mean"


def test_keras_clips_in_float32() -> None:
    """By hand: 1 - float32(1 - 1e-7) is 2**-23; a certain false alarm costs 23 ln 2, a certain miss 7 ln 10."""
    y = np.array([[0, 0, 1, 1]], np.uint8)
    p = np.array([[1.0, 0.5, 0.0, 0.5]])
    value = printed(p, y, "bce")["keras", "bce"]
    assert value == pytest.approx((23 * np.log(2) + 2 * np.log(2) + 7 * np.log(10)) / 4, rel=1e-6)


def test_torch_cuts_logarithms() -> None:
    """Worked by hand: a certain voxel that is wrong costs 100, one at 1e-9 its own logarithm."""
    y = np.array([[0, 0, 1, 1]], np.uint8)
    p = np.array([[1.0, 1 - 1e-9, 1e-9, 1.0]])
    rows = conventions.conventions(p, y, metrics=(), losses="bce", kind="probability").rows
    (torch,) = (r for r in rows if r.call == "torch.nn.functional.binary_cross_entropy(p, y)")
    assert torch.printed.value == pytest.approx((100 + 2 * 9 * np.log(10)) / 4, rel=1e-7)
    other = [r.printed for r in rows if reads_logits(r.call)]
    assert [o.value for o in other] == [None] * len(other)
    assert all("infinite" in o.words for o in other)
