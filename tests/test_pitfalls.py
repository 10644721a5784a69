"""Pitfalls of losses in libraries, papers and blog posts: each number from segcli's own losses, and how it comes about.

Code that is wrong in the wild is written out here in a few lines. Where a library is installed its own number is
checked too; Keras, kornia and segmentation-models-pytorch (SMP) are not needed for the rest of a test.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import sys
import types
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from test_losses import Array, loss_of, needs_shared, recorded_pairs, sigmoid

from segcli.evidence.soft import SoftPair

SIDE = 64
VOXELS = SIDE * SIDE


@cache
def library(name: str) -> Any | None:
    """Return an installed library, SMP's losses without the rest of it, or None."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    spec = importlib.util.find_spec(name)
    if spec is None or importlib.util.find_spec("torch") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "segmentation_models_pytorch":  # its encoders want torchvision, its losses do not
            package = types.ModuleType(name)
            package.__path__ = list(spec.submodule_search_locations or ())
            sys.modules.setdefault(name, package)
            return importlib.import_module(f"{name}.losses")
        importlib.import_module("torch")
        return importlib.import_module("monai.losses" if name == "monai" else name)


def tensor(array: Any) -> Any:
    """Return a double tensor with batch and channel axes."""
    return sys.modules["torch"].tensor(np.asarray(array, np.float64))[None, None]


def with_gradient(loss: Any, p: Array, y: Array) -> tuple[float, Array]:
    """Return a library's loss(p, y) and its gradient by p."""
    leaf = tensor(p).requires_grad_()
    value = loss(leaf, tensor(y)).sum()
    value.backward()
    return float(value.detach()), leaf.grad.numpy()[0, 0]


def value(text: str, p: Array, y: Array, **how: Any) -> float:
    """Return segcli's loss of one label."""
    found = loss_of(text)(SoftPair.of(np.asarray(p, float), np.asarray(y, float), **how))
    assert found is not None
    return found


def l1(text: str, p: Array, y: Array) -> float:
    """Return the L1 norm of segcli's dL/dp."""
    pair = SoftPair.of(np.asarray(p, float), np.asarray(y, float))
    return float(abs(loss_of(text).gradient(pair, "p")).sum())


def recorded_channels() -> tuple[Array, Array, Array]:
    """Return the probabilities, the one-hot gt and the labels of the recorded four-class input."""
    pairs = recorded_pairs("multi4")
    p, hot = (np.stack([pair.grid(getattr(pair, key)) for pair in pairs]) for key in ("p", "y"))
    return p, hot, hot.argmax(axis=0)


def over_channels(text: str, p: Array, hot: Array) -> float:
    """Return the mean over the channels of a loss, as segcli prints it."""
    return sum(value(text, a, b) for a, b in zip(p, hot, strict=True)) / len(p)


def softmax(z: Array) -> Array:
    raised = np.exp(z - z.max(axis=0))
    return np.asarray(raised / raised.sum(axis=0))


def disc(radius: float, shift: int = 0) -> Array:
    row, column = np.indices((SIDE, SIDE))
    return np.asarray(((row - 32) ** 2 + (column - 32 - shift) ** 2 <= radius**2), float)


NOTHING, FAINT, EMPTY = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.01), np.zeros((SIDE, SIDE))


# --- cross-entropy and its relatives ------------------------------------------------------------


def test_cross_entropy_of_a_saturated_net_measures_eps() -> None:
    """150 of 4096 voxels wrong and certain: 0.590 (clip 1e-7), 3.662 (torch: logs held at -100), 29.30 (logits 800)."""
    y = disc(10)
    p = y.copy()
    p.flat[np.flatnonzero(y)[:75]] = 0
    p.flat[np.flatnonzero(y == 0)[:75]] = 1
    rate = value("mae", p, y)
    assert rate == 150 / VOXELS
    assert value("bce", p, y) == pytest.approx(0.590, abs=5e-4)
    assert value("bce", p, y) == pytest.approx(-math.log(1e-7) * rate, rel=1e-5)
    assert value("bce:clip=1e-12", p, y) == pytest.approx(-math.log(1e-12) * rate, rel=1e-6)
    assert value("bce", p, y, z=800 * (2 * p - 1)) == pytest.approx(29.296875, rel=1e-12)
    assert 100 * rate == pytest.approx(3.662, abs=5e-4)
    keras = library("keras")
    if keras is not None:  # in its float32 the upper end of the clip is 1-1.19e-7: a false alarm costs a little less
        float32 = -(math.log(1e-7) + math.log(float(1 - np.float32(1 - 1e-7)))) / 2 * rate
        assert float32 == pytest.approx(0.587, abs=5e-4)
        assert float(keras.losses.BinaryCrossentropy()(tensor(y), tensor(p))) == pytest.approx(float32, rel=1e-6)
    if importlib.util.find_spec("torch") is not None:
        functional = importlib.import_module("torch").nn.functional
        assert float(functional.binary_cross_entropy(tensor(p), tensor(y))) == pytest.approx(3.662109375, rel=1e-9)
        logits = tensor(800 * (2 * p - 1))
        assert float(functional.binary_cross_entropy_with_logits(logits, tensor(y))) == pytest.approx(29.296875)


@needs_shared
def test_label_smoothing_explodes_the_gradient() -> None:
    """Smoothing by 0.1 lifts the L1 norm of dL/dp from 1.24 to 48.6."""
    (pair,) = recorded_pairs("smooth2d")
    assert abs(loss_of("bce").gradient(pair, "p")).sum() == pytest.approx(1.24, abs=5e-3)
    assert abs(loss_of("bce:label_smoothing=0.1").gradient(pair, "p")).sum() == pytest.approx(48.6, abs=0.05)


@needs_shared
def test_smp_smooths_twice_as_much_as_keras() -> None:
    """SMP's smooth_factor s is Keras' label_smoothing 2s: 0.05 is our 0.1 (.342), 0.1 is our 0.2 (.531)."""
    (pair,) = recorded_pairs("smooth2d", logits=True)
    smp, keras = library("segmentation_models_pytorch"), library("keras")
    for factor, expected in ((0.05, 0.341958), (0.1, 0.530588)):
        ours = loss_of(f"bce:label_smoothing={2 * factor}")(pair)
        assert ours == pytest.approx(expected, abs=5e-7)
        if smp is None and keras is None:
            continue
        logits, y = tensor(pair.grid(pair.z)), tensor(pair.grid(pair.y))
        if smp is not None:
            assert float(smp.SoftBCEWithLogitsLoss(smooth_factor=factor)(logits, y)) == pytest.approx(ours, rel=1e-9)
        if keras is not None:
            peer = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=2 * factor)
            assert float(peer(y, logits)) == pytest.approx(ours, rel=1e-6)


def test_smp_soft_cross_entropy_fails_with_its_defaults() -> None:
    """smooth_factor=None is divided by the number of classes; a binary cross-entropy of ours has a default of 0."""
    assert loss_of("bce").params["label_smoothing"] == 0
    smp = library("segmentation_models_pytorch")
    if smp is not None:
        torch = sys.modules["torch"]
        with pytest.raises(TypeError):
            smp.SoftCrossEntropyLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


def test_smoothing_over_the_wrong_axis_does_not_sum_to_one() -> None:
    """C taken from shape[1] of a channels-last batch is the height: 4 classes, H=32, s=.1 sum to .9125."""
    hot = np.zeros((1, 32, 32, 4))
    hot[..., 1] = 1
    s = 0.1
    wrong = hot * (1 - s) + s / hot.shape[1]
    right = hot * (1 - s) + s / hot.shape[-1]
    assert wrong.sum(axis=-1) == pytest.approx(0.9125)
    assert right.sum(axis=-1) == pytest.approx(1)
    # one class against the rest: the least value is H(s/2), at the smoothed gt
    bound, pair = loss_of(f"bce:label_smoothing={s}"), SoftPair.of(hot[0, ..., 1], hot[0, ..., 1])
    assert bound(bound.perfect(pair)) == pytest.approx(-(0.05 * math.log(0.05) + 0.95 * math.log(0.95)))


@needs_shared
def test_three_numbers_called_focal() -> None:
    """gamma=2 without alpha on four classes: .3842 (paper), .0960 (mean over N*C), .2927 (one-vs-rest of sigmoids)."""
    p, hot, labels = recorded_channels()
    mean_over_all = over_channels("focal:alpha=1:gamma=2", p, hot)  # alpha=1: the true class's term alone
    assert mean_over_all == pytest.approx(0.0960, abs=5e-5)
    assert 4 * mean_over_all == pytest.approx(0.3842, abs=6e-5)
    logits = recorded_logits()
    assert softmax(logits) == pytest.approx(p, rel=1e-9)
    one_vs_rest = over_channels("focal:alpha=none:gamma=2", sigmoid(logits), hot)
    assert one_vs_rest == pytest.approx(0.2927, abs=5e-5)
    monai, kornia, smp = (library(n) for n in ("monai", "kornia", "segmentation_models_pytorch"))
    if monai is not None:
        batch = tensor(logits)[0], tensor(hot)[0]
        assert float(monai.FocalLoss(use_softmax=True)(*batch)) == pytest.approx(mean_over_all, rel=1e-5)
        assert float(monai.FocalLoss()(*batch)) == pytest.approx(one_vs_rest, rel=1e-5)
    classes = tensor(labels)[0].long() if monai is not None else None
    if kornia is not None:
        found = kornia.losses.focal_loss(tensor(logits)[0], classes, alpha=None, gamma=2.0, reduction="mean")
        assert float(found) == pytest.approx(mean_over_all, rel=1e-6)
    if smp is not None:
        assert float(smp.FocalLoss("multiclass")(tensor(logits)[0], classes)) == pytest.approx(one_vs_rest, rel=1e-6)


def recorded_logits() -> Array:
    from conftest import SHARED

    with np.load(SHARED / "golden" / "golden_inputs.npz") as stored:
        return np.asarray(stored["multi4.z"])


@needs_shared
def test_kornia_halves_a_binary_focal_loss() -> None:
    """On two channels kornia's focal_loss(reduction="mean") is .01033, half of the binary .02065."""
    (pair,) = recorded_pairs("smooth2d", logits=True)
    ours = loss_of("focal")(pair)
    assert ours == pytest.approx(0.0206546, abs=5e-8)
    kornia = library("kornia")
    if kornia is not None:
        torch = sys.modules["torch"]
        z, y = tensor(pair.grid(pair.z)), tensor(pair.grid(pair.y))
        two = torch.cat([torch.zeros_like(z), z], 1)
        found = kornia.losses.focal_loss(two, y[:, 0].long(), alpha=0.25, gamma=2.0, reduction="mean")
        assert float(found) == pytest.approx(ours / 2, rel=1e-6)
        binary = kornia.losses.binary_focal_loss_with_logits(z, y, alpha=0.25, gamma=2.0, reduction="mean")
        assert float(binary) == pytest.approx(ours, rel=1e-6)


def test_balanced_cross_entropy_is_blind_to_an_empty_gt() -> None:
    """With beta = 1 - Y/N = 1 loss and gradient are 0, whatever is predicted."""
    for p in (NOTHING, FAINT, NOTHING + 0.9):
        assert value("balanced_bce", p, EMPTY) == 0
        assert l1("balanced_bce", p, EMPTY) == 0


def test_a_voxel_is_not_a_share() -> None:
    """A beta from y/(H*W) instead of sum(y)/(H*W) hardly weighs the background: 1/4096 of what it was."""
    y, p = disc(10), disc(10) * 0.5 + 0.1
    term = y * np.log(p), (1 - y) * np.log(1 - p)
    beta = 1 - y / VOXELS
    wrong = -(beta * term[0] + (1 - beta) * term[1]).mean()
    share = y.mean()
    assert value("balanced_bce", p, y) == pytest.approx(-((1 - share) * term[0] + share * term[1]).mean(), rel=1e-12)
    assert wrong == pytest.approx(-((1 - 1 / VOXELS) * term[0]).mean(), rel=1e-12)  # nothing of the background is left


def test_a_weight_of_positives_below_one() -> None:
    """A pos_weight of beta/(1-beta) with beta=.25 is 1/3: it turns the rare class down, as weighted_bce:beta=1/3."""
    y = disc(10)
    missed = 0.02 + 0 * y
    down = value(f"weighted_bce:beta={1 / 3}", missed, y)
    assert down < value("bce", missed, y) < value("weighted_bce", missed, y)
    assert down == pytest.approx(-(y * np.log(0.02) / 3 + (1 - y) * np.log(0.98)).mean(), rel=1e-12)


def test_a_distance_map_that_is_never_applied() -> None:
    """`weighted = loss * dist; return loss.mean()` is plain cross-entropy; distance_map is not."""
    y, p = disc(10), 0.1 + 0.8 * disc(10, 3)
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert float(loss.mean()) == pytest.approx(value("bce", p, y), rel=1e-12)
    assert value("distance_map", p, y) > 1.2 * value("bce", p, y)
    # its normalisation is 0/0 without a boundary; ours weighs nothing there
    with np.errstate(invalid="ignore"):
        assert np.isnan(EMPTY / EMPTY.max()).all()
    assert value("distance_map", FAINT, EMPTY) == pytest.approx(
        value("bce", FAINT, EMPTY), rel=1e-13
    )  # two ways to sum


# --- ratios of overlap --------------------------------------------------------------------------


@needs_shared
def test_keras_swaps_tversky() -> None:
    """Keras up to 3.15.1: Tversky(.3, .7) is .27877, which is fp=.7:fn=.3; MONAI's and SMP's is .25185."""
    (pair,) = recorded_pairs("smooth2d")
    swapped, meant = loss_of("tversky:fp=0.7:fn=0.3")(pair), loss_of("tversky:fp=0.3:fn=0.7")(pair)
    assert swapped == pytest.approx(0.27877, abs=5e-6)
    assert meant == pytest.approx(0.25185, abs=5e-6)
    p, y = pair.grid(pair.p), pair.grid(pair.y)
    keras, monai, smp = (library(n) for n in ("keras", "monai", "segmentation_models_pytorch"))
    if keras is not None and tuple(int(n) for n in keras.__version__.split(".")[:3]) <= (3, 15, 1):
        peer = keras.losses.Tversky(alpha=0.3, beta=0.7)
        assert float(peer(tensor(y), tensor(p))) == pytest.approx(swapped, rel=1e-5)
    if monai is not None:
        assert float(monai.TverskyLoss(alpha=0.3, beta=0.7)(tensor(p), tensor(y))) == pytest.approx(meant, rel=1e-9)
    if smp is not None:
        peer = smp.TverskyLoss("binary", from_logits=False, alpha=0.3, beta=0.7)
        assert float(peer(tensor(p), tensor(y))) == pytest.approx(meant, rel=1e-7)


@needs_shared
def test_micro_averaged_soft_dice_is_the_mean_absolute_error() -> None:
    """Over all channels of a softmax at once it is 1 - mean p_target: .521993, and .112925 for two classes."""
    p, hot, labels = recorded_channels()
    target = float(np.take_along_axis(p, labels[None], axis=0).mean())
    micro = value("dice:smooth=0", p, hot)
    assert micro == pytest.approx(0.521993, abs=5e-7)
    assert micro == pytest.approx(1 - target, rel=1e-12)
    assert micro == pytest.approx(2 * value("mae", p, hot), rel=1e-12)  # the sizes of p and y are N each, of 4N entries
    assert over_channels("dice", p, hot) == pytest.approx(0.659579, abs=5e-7)  # the balanced one
    for fp, fn in ((0.3, 0.7), (0.9, 0.1)):  # FP and FN are the same sum: weights that add up to 1 change nothing
        assert value(f"tversky:fp={fp}:fn={fn}:smooth=0", p, hot) == pytest.approx(micro, rel=1e-12)
    (pair,) = recorded_pairs("smooth2d", logits=True)
    two = np.stack([1 - pair.grid(pair.p), pair.grid(pair.p)]), np.stack([1 - pair.grid(pair.y), pair.grid(pair.y)])
    binary = value("dice:smooth=0", *two)
    assert binary == pytest.approx(0.112925, abs=5e-7)
    assert binary == pytest.approx(loss_of("mae")(pair), rel=1e-12)
    keras, kornia = library("keras"), library("kornia")
    if keras is not None:
        last = [tensor(np.moveaxis(a, 0, -1))[0] for a in (hot, p)]
        assert float(keras.losses.Dice()(*last)) == pytest.approx(micro, rel=1e-6)
        assert float(keras.losses.Tversky(0.3, 0.7)(*last)) == pytest.approx(micro, rel=1e-6)
    if kornia is not None:
        classes = tensor(labels)[0].long()
        assert float(kornia.losses.dice_loss(tensor(recorded_logits())[0], classes)) == pytest.approx(micro, rel=1e-9)
        z, y = tensor(pair.grid(pair.z)), tensor(pair.grid(pair.y))[:, 0].long()
        found = kornia.losses.dice_loss(sys.modules["torch"].cat([0 * z, z], 1), y)
        assert float(found) == pytest.approx(binary, rel=1e-7)


@needs_shared
def test_smooth_flatters_tiny_objects() -> None:
    """A 3-voxel gt: Dice loss .98963 with smooth 1, .99387 with 1e-5."""
    (pair,) = recorded_pairs("tiny_gt")
    assert loss_of("dice:smooth=1")(pair) == pytest.approx(0.98963, abs=5e-6)
    assert loss_of("dice")(pair) == pytest.approx(0.99387, abs=5e-6)


def test_dice_of_a_soft_truth_is_not_least_at_the_truth() -> None:
    """Where p = y = .5 it is .5; the squared form has 0 there."""
    half = np.full((4, 4), 0.5)
    assert value("dice:smooth=0", half, half) == 0.5
    assert value("dice_squared", half, half) == 0
    monai = library("monai")
    if monai is not None:
        assert float(monai.DiceLoss()(tensor(half), tensor(half))) == pytest.approx(0.5, abs=1e-6)
        assert float(monai.DiceLoss(soft_label=True)(tensor(half), tensor(half))) == pytest.approx(0, abs=1e-6)


def test_dice_of_several_classes_without_the_division() -> None:
    """1 - sum of the scores is -3 for four perfect classes, and IoU over |A|+|B| is half of Dice."""
    labels = np.arange(VOXELS).reshape(SIDE, SIDE) % 4
    scores = [1 - value("dice", labels == c, labels == c) for c in range(4)]
    assert 1 - sum(scores) == -3
    a, b = disc(10), disc(10, 3)
    half = float((a * b).sum() / (a.sum() + b.sum()))
    assert half == pytest.approx((1 - value("dice:smooth=0", a, b)) / 2, rel=1e-12)
    assert half < 1 - value("iou:smooth=0", a, b)


def test_the_power_of_focal_tversky_goes_both_ways() -> None:
    """The exponent 3/4 lifts a small loss, its inverse 4/3 lowers it; SMP takes the power of the mean."""
    y, good = disc(10), disc(10, 1)
    inner = value("tversky", good, y)
    assert value("focal_tversky", good, y) == pytest.approx(inner**0.75, rel=1e-12)
    assert value("focal_tversky", good, y) > inner > value(f"focal_tversky:exponent={4 / 3}", good, y)
    both = inner, value("tversky", disc(10, 8), y)
    mean_of_powers = sum(v**0.75 for v in both) / 2
    power_of_mean = (sum(both) / 2) ** 0.75
    assert mean_of_powers < power_of_mean - 1e-3


@needs_shared
def test_smp_softmaxes_probabilities_again() -> None:
    """LovaszLoss(from_logits=False) is ignored: .6836 from probabilities, .5545 from logits."""
    p, hot, labels = recorded_channels()
    assert over_channels("lovasz", p, hot) == pytest.approx(0.5545, abs=5e-5)
    assert over_channels("lovasz", softmax(p), hot) == pytest.approx(0.6836, abs=5e-5)
    smp = library("segmentation_models_pytorch")
    if smp is not None:
        torch = sys.modules["torch"]
        batch = torch.tensor(p[None], dtype=torch.float32), torch.tensor(labels[None])
        assert float(smp.LovaszLoss("multiclass", from_logits=False)(*batch)) == pytest.approx(0.6836, abs=5e-5)


@needs_shared
def test_an_absent_class_may_swallow_generalized_dice() -> None:
    """A fifth class with p=.01 and no gt: 1.000 (1e-10 in the square), .819 (largest), .812 (none), .994 (1+n^2)."""
    p, hot, _ = recorded_channels()
    p, hot = np.concatenate([p, 0 * p[:1] + 0.01]), np.concatenate([hot, 0 * hot[:1]])
    n, overlap, sizes = hot.sum((1, 2)), (p * hot).sum((1, 2)), (p + hot).sum((1, 2))
    present = n > 0
    inverse = np.divide(1, n**2, out=np.zeros(5), where=present)
    weights = {
        1.000: 1 / (n + 1e-10) ** 2,
        0.819: np.where(present, inverse, inverse.max()),
        0.812: inverse,
        0.994: 1 / (n**2 + 1),
    }
    for expected, w in weights.items():
        assert 1 - 2 * (w @ overlap) / (w @ sizes) == pytest.approx(expected, abs=5e-4)


def test_an_absent_class_in_the_binary_generalized_dice() -> None:
    """The same with two: no weight leaves the background's Dice, MONAI's rule weighs both alike, 1e-10 leaves 1."""
    zero, largest = (value(f"generalized_dice:smooth=0:absent={rule}", FAINT, EMPTY) for rule in ("zero", "largest"))
    assert zero == pytest.approx(value("dice:smooth=0", 1 - FAINT, 1 - EMPTY), rel=1e-12)
    assert zero == pytest.approx(0.01 / 1.99, rel=1e-12)
    assert largest == pytest.approx(1 - 2 * 0.99 / (1.99 + 0.01), rel=1e-12)
    weights = np.array([1 / VOXELS**2, 1e20])
    sizes = np.array([1.99, 0.01]) * VOXELS
    assert 1 - 2 * (weights[0] * 0.99 * VOXELS) / (weights @ sizes) == pytest.approx(1, abs=1e-12)
    if library("monai") is not None:
        pairs = [np.stack([1 - a, a]) for a in (FAINT, EMPTY)]
        peer = library("monai").GeneralizedDiceLoss()(*(tensor(a)[0] for a in pairs))
        assert value("generalized_dice:absent=largest", FAINT, EMPTY) == pytest.approx(float(peer), rel=1e-6)


def test_a_penalty_of_the_wrong_sign() -> None:
    """The form x/(1+k(1-x)) is meant for the loss x; fed with minus the score it lies in [-1/6, 0], its best -1/6."""
    y, p = disc(10), 0.05 + 0.9 * disc(10, 3)
    inner = value("generalized_dice", p, y)
    assert value("penalty_gdice", p, y) == pytest.approx(inner / (1 + 2.5 * (1 - inner)), rel=1e-12)
    wrong = -(1 - inner) / (1 + 2.5 * (1 + (1 - inner)))
    assert -1 / 6 <= wrong < 0
    assert value("penalty_gdice", y, y) == pytest.approx(0, abs=1e-9)


# --- an empty ground truth ----------------------------------------------------------------------


def test_empty_gt_by_formula() -> None:
    """64x64 and no object: value at p=0 and at p=.01, and the gradient that explodes at p=0 or is next to none."""
    expected = {  # (p=0, p=.01), tolerance
        "dice": (0, 1, 1e-6), "tversky:fp=0.5:fn=0.5": (0, 1, 1e-6), "iou_inverted": (-1, -0.99, 1e-6),
        "lovasz": (0, 0.01, 1e-12), "hd_dt": (0, 0, 0), "boundary": (0, 0, 0), "dice:smooth=1e-7": (0, 1, 1e-6),
    }  # fmt: skip
    for text, (none, faint, close) in expected.items():
        assert value(text, NOTHING, EMPTY) == pytest.approx(none, abs=close), text
        assert value(text, FAINT, EMPTY) == pytest.approx(faint, abs=close), text
    assert l1("dice", NOTHING, EMPTY) == pytest.approx(VOXELS / 1e-5, rel=1e-9)  # 4e8
    assert l1("tversky:fp=0.5:fn=0.5", NOTHING, EMPTY) == pytest.approx(VOXELS / 2e-5, rel=1e-9)  # 2e8
    assert l1("dice:smooth=1e-7", NOTHING, EMPTY) == pytest.approx(VOXELS / 1e-7, rel=1e-9)  # 4e10
    assert l1("dice", FAINT, EMPTY) == pytest.approx(VOXELS * 1e-5 / 40.96001**2, rel=1e-6)
    for text in ("hd_dt", "boundary"):  # no voxel is above .5, so there is no distance to anything
        assert l1(text, FAINT, EMPTY) == 0
    monai = library("monai")
    if monai is not None:
        for loss, text in ((monai.DiceLoss(), "dice"), (monai.TverskyLoss(), "tversky:fp=0.5:fn=0.5")):
            for p in (NOTHING, FAINT):
                found, slope = with_gradient(loss, p, EMPTY)
                assert found == pytest.approx(value(text, p, EMPTY), abs=1e-9)
                assert float(abs(slope).sum()) == pytest.approx(l1(text, p, EMPTY), rel=1e-6)


@needs_shared
def test_the_gradient_of_dice_is_gone_on_an_empty_gt() -> None:
    """On the recorded input: the loss is ~1 and the L1 norm of its gradient 2.7e-7."""
    (pair,) = recorded_pairs("empty_gt")
    assert loss_of("dice")(pair) == pytest.approx(1, abs=1e-6)
    assert abs(loss_of("dice").gradient(pair, "p")).sum() == pytest.approx(2.7e-7, abs=5e-9)


def masked_away(p: Array, y: Array, gamma: float = 1.0) -> tuple[float, Array]:
    """Return loss and gradient of a Tversky loss that is multiplied by whether there is a gt (as in SMP)."""
    size = max(float((p * y).sum() + 0.5 * (p * (1 - y)).sum() + 0.5 * ((1 - p) * y).sum()), 1e-7)
    masked = (1 - float((p * y).sum()) / size) * float(y.sum() > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = gamma * np.float64(masked) ** (gamma - 1) * (0.5 * p / size) * float(y.sum() > 0)
    return masked**gamma, slope


def test_masking_an_empty_gt_hides_all_false_alarms() -> None:
    """Loss 0 and gradient 0 whatever is predicted, NaN in every entry with a power below 1; ours is ~1 there."""
    loud = NOTHING + 0.9
    for p in (FAINT, loud):
        loss, slope = masked_away(p, EMPTY)
        assert (loss, float(abs(slope).sum())) == (0, 0)
        assert np.isnan(masked_away(p, EMPTY, gamma=0.75)[1]).all()  # infinity times 0
        assert value("dice", p, EMPTY) > 0.999
        for text in ("dice", "iou", "tversky", "focal_tversky"):
            gradient = loss_of(text).gradient(SoftPair.of(p, EMPTY), "p")
            assert np.isfinite(gradient).all()
            assert (gradient > 0).all()  # each voxel is to be lowered
    smp = library("segmentation_models_pytorch")
    if smp is not None:
        losses = (smp.DiceLoss, smp.JaccardLoss, smp.TverskyLoss)
        for loss in losses:
            found, slope = with_gradient(loss("binary", from_logits=False), loud, EMPTY)
            assert (found, float(abs(slope).sum())) == (0, 0)
        broken = with_gradient(smp.TverskyLoss("binary", from_logits=False, gamma=0.75), loud, EMPTY)[1]
        assert np.isnan(broken).sum() == VOXELS


def test_keras_and_others_on_an_empty_gt() -> None:
    """Keras says 1 with gradient 0, even for nothing predicted; SMP's MCC 0.5 and .9997; a ratio without eps NaN."""
    with np.errstate(invalid="ignore"):
        without_eps = 1 - np.float64((NOTHING * EMPTY).sum()) / np.float64((NOTHING + EMPTY).sum())
    assert np.isnan(without_eps)
    assert value("iou:smooth=0", NOTHING, EMPTY) == 0
    assert value("mcc", NOTHING, EMPTY) == value("mcc", FAINT, EMPTY) == 1
    keras, smp, monai = (library(n) for n in ("keras", "segmentation_models_pytorch", "monai"))
    if keras is not None:
        for p in (NOTHING, FAINT):
            for loss in (keras.losses.Dice(), keras.losses.Tversky()):
                found, slope = with_gradient(lambda a, b, loss=loss: loss(b, a), p, EMPTY)
                assert found == pytest.approx(1, abs=1e-6)
                assert float(abs(slope).sum()) < 1e-6
    if smp is not None:
        at_nothing, slope = with_gradient(smp.MCCLoss(), NOTHING, EMPTY)
        assert at_nothing == pytest.approx(0.5, abs=1e-6)
        assert float(abs(slope).sum()) == pytest.approx(5e7, rel=0.05)
        assert with_gradient(smp.MCCLoss(), FAINT, EMPTY)[0] == pytest.approx(0.9997, abs=5e-5)
    if monai is not None:
        found = [with_gradient(monai.MCCLoss(), p, EMPTY) for p in (NOTHING, FAINT)]
        assert [f[0] for f in found] == pytest.approx([0, 1])
        assert not any(f[1].any() for f in found)


def test_weights_of_an_empty_gt_drown_everything() -> None:
    """Weights 1/(sum y + 1e-10)^2 in -2 I/U: -2 for nothing predicted, -5e-27 at p=.01; ours is 0 and 0.005."""

    def score(p: Array, y: Array) -> float:
        weight = 1 / (float(y.sum()) + 1e-10) ** 2
        return -2 * (weight * float((p * y).sum()) + 1e-5) / (weight * float((p + y).sum()) + 1e-5)

    assert score(NOTHING, EMPTY) == pytest.approx(-2)
    assert score(FAINT, EMPTY) == pytest.approx(-5e-27, rel=0.05)
    assert value("generalized_dice:smooth=0", NOTHING, EMPTY) == 0
    assert value("generalized_dice:smooth=0", FAINT, EMPTY) == pytest.approx(0.01 / 1.99)


def test_inversion_looks_at_the_whole_batch() -> None:
    """-IoU of an empty case is that of the background: -.98 alone, but ~0 where another case of its batch has a gt."""
    faint = NOTHING + 0.02

    def batched(p: Array, y: Array) -> list[float]:
        if y.max() == 0:
            p, y = 1 - p, 1 - y
        overlap = (p * y).sum((1, 2))
        return list(-(overlap + 1e-5) / ((p + y).sum((1, 2)) - overlap + 1e-5))

    alone = batched(faint[None], EMPTY[None])[0]
    assert alone == pytest.approx(-0.98, abs=1e-6)
    assert alone == pytest.approx(value("iou_inverted", faint, EMPTY), rel=1e-12)
    beside = batched(np.stack([faint, disc(10)]), np.stack([EMPTY, disc(10)]))[0]
    assert -1e-6 < beside < 0
    assert beside == pytest.approx(value("iou", faint, EMPTY) - 1, rel=1e-9)


def test_minus_iou_is_never_positive() -> None:
    """It lies in [-1, 0]: a "loss" that is not negative it is not; -ln IoU is, and infinite without overlap."""
    y = disc(10)
    for p in (y, disc(10, 3), 1 - y, NOTHING):
        assert -1 <= value("iou_inverted", p, y) <= 0
        assert value("iou_inverted", p, y) == pytest.approx(value("iou", p, y) - 1, abs=1e-12)


def test_where_the_mean_is_taken_over_cases() -> None:
    """One good case and one empty with a few false alarms: .5 + half its loss case by case, next to nothing pooled."""
    good, y = disc(10, 1), disc(10)
    alarms = NOTHING.copy()
    alarms[0, :5] = 1
    cases = [(good, y), (alarms, EMPTY)]
    per_case = sum(value("dice", *case) for case in cases) / 2
    pooled = value("dice", np.stack([good, alarms]), np.stack([y, EMPTY]))
    assert per_case == pytest.approx(0.5 + value("dice", good, y) / 2, abs=1e-5)
    assert per_case > 0.5
    assert pooled < 0.1
    monai, kornia = library("monai"), library("kornia")
    batch = [np.stack(side)[:, None] for side in zip(*cases, strict=True)]
    if monai is not None:
        p, t = (tensor(a)[0, 0] for a in batch)
        assert float(monai.DiceLoss()(p, t)) == pytest.approx(per_case, abs=1e-9)
        assert float(monai.DiceLoss(batch=True)(p, t)) == pytest.approx(pooled, rel=1e-6)
    if kornia is not None:  # two classes, macro: the absent one is left out of the mean
        z = tensor(np.concatenate([0 * batch[0], 200 * batch[0] - 100], axis=1))[0, 0]
        found = kornia.losses.dice_loss(z, tensor(batch[1])[0, 0][:, 0].long(), average="macro")
        assert float(found) < 0.5 * per_case


# --- compounds and distances --------------------------------------------------------------------


def test_combo_with_the_sign_of_its_authors() -> None:
    """A gt of 831 in 4096 voxels, all foreground at .999: -1.545 beats the perfect -0.5; with the right sign 1.208."""
    y = np.zeros(VOXELS)
    y[:831] = 1
    eager = np.full(VOXELS, 0.999)

    def authors(p: Array) -> float:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        cross = -(0.5 * y * np.log(p)) + 0.5 * (1 - y) * np.log(1 - p)
        score = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        return float(0.5 * cross.mean() - 0.5 * score)

    assert authors(eager) == pytest.approx(-1.545, abs=5e-4)
    assert authors(y) == pytest.approx(-0.5, abs=1e-6)
    assert value("combo", eager, y) == pytest.approx(1.208, abs=5e-4)
    assert value("combo", y, y) == pytest.approx(-0.5, abs=1e-7)


@needs_shared
def test_distances_in_voxels_or_mm() -> None:
    """With voxels of (3,1,1) mm hd_dt is .99961, in voxels .35965, which is all that MONAI knows."""
    (pair,) = recorded_pairs("aniso3d")
    assert loss_of("hd_dt")(pair) == pytest.approx(0.99961, abs=5e-6)
    assert loss_of("hd_dt:unit=voxel")(pair) == pytest.approx(0.35965, abs=5e-6)
    if library("monai") is not None:
        peer = library("monai").HausdorffDTLoss(include_background=True)(
            tensor(pair.grid(pair.p)), tensor(pair.grid(pair.y))
        )
        assert float(peer) == pytest.approx(0.35965, abs=5e-6)


@needs_shared
def test_erosion_sees_no_tiny_object() -> None:
    """hd_er of a faint prediction of a 3-voxel gt is exactly 0, and so is its gradient; hd_dt is not."""
    (pair,) = recorded_pairs("tiny_gt")
    assert loss_of("hd_er")(pair) == 0
    assert not loss_of("hd_er").gradient(pair, "p").any()
    assert (loss_of("hd_dt")(pair) or 0) > 0
    # not so for a certain miss: what survives the first erosion is stretched to 1 again
    missed = SoftPair.of(0 * pair.grid(pair.y), pair.grid(pair.y))
    assert loss_of("hd_er")(missed) == 1 / VOXELS


def test_cldice_of_few_iterations_knows_no_thick_tube() -> None:
    """The authors' code takes 10 iterations whatever is asked: with 3 the skeleton of a tube 17 wide is empty."""
    tube = np.zeros((40, 60))
    tube[10:27, 5:55] = 1
    broken = tube.copy()
    broken[:, 28:32] = 0
    assert value("cldice:iterations=3", broken, tube) == 0
    assert value("cldice:iterations=10", broken, tube) > 0.05


def test_the_optimum_is_not_always_zero() -> None:
    """boundary, combo, smoothed cross-entropy and MONAI's clDice are not 0 at their best: read the excess."""
    y = disc(10)
    assert value("boundary", y, y) < -0.1
    assert value("combo", y, y) == pytest.approx(-0.5, abs=1e-7)
    bound = loss_of("bce:label_smoothing=0.1")
    assert bound(bound.perfect(SoftPair.of(y, y))) == pytest.approx(0.1985, abs=5e-5)
    assert value("cldice:iterations=10", y, y) == 0
    if library("monai") is not None:
        found = float(library("monai").SoftclDiceLoss(iter_=10)(tensor(y), tensor(y)))
        assert found == pytest.approx(5e-5, abs=1e-6)
