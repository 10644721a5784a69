"""The losses against hand-worked cases, other libraries, autograd, finite differences and their own maps."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segcli.errors import UsageError
from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, find

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
needs_shared = pytest.mark.skipif(
    not (SHARED / "golden" / "golden_losses.json").is_file(),
    reason=f"the recorded values of other libraries are not at {SHARED} (set SEGCLI_SHARED)",
)
drawn = settings(deadline=None, max_examples=25, database=None)

#: Each loss with its defaults and with parameters that change its form.
VARIANTS = [
    "bce", "bce:label_smoothing=0.2", "weighted_bce", "weighted_bce:beta=3", "balanced_bce", "focal",
    "focal:alpha=none:gamma=0.5", "focal:gamma=0", "dice", "dice:smooth=0", "dice_squared", "dice_squared:smooth=0",
    "iou", "iou:smooth=0", "tversky", "tversky:fp=0:fn=1:smooth=0", "focal_tversky", "focal_tversky:exponent=2",
    "focal_tversky:exponent=0.5:smooth=0", "log_cosh_dice", "hd_dt", "hd_dt:alpha=1:unit=voxel", "boundary",
    "boundary:unit=voxel", "bce_dice:w_bce=0.5:w_dice=2", "combo", "combo:alpha=0.3:beta=0.8:smooth=0",
]  # fmt: skip


def loss_of(text: str) -> BoundMeasure:
    """Return the loss that `text` names."""
    return bind(text, "loss")


def sigmoid(z: Array) -> Array:
    """Return the logistic function without overflow."""
    return np.exp(-np.logaddexp(0.0, -z))


# --- cases worked out by hand -----------------------------------------------------------------

HAND = [
    (path.stem, case)
    for path in sorted(HERE.glob("golden/loss/*.toml"))
    for case in tomllib.loads(path.read_text())["case"]
]


@pytest.mark.parametrize(("name", "case"), HAND, ids=[f"{name}: {case['note']}" for name, case in HAND])
def test_hand_worked(name: str, case: dict[str, Any]) -> None:
    """Each loss has the value that was derived by hand."""
    text = ":".join([name, *(f"{key}={value}" for key, value in case.get("params", {}).items())])
    bound = loss_of(text)
    kind = SoftClasses if bound.over_classes else SoftPair  # of all classes, p and y have a row for each
    pair = kind.of(np.array(case["p"]), np.array(case["y"]), spacing=tuple(case.get("spacing", ())) or None)
    assert bound(pair) == pytest.approx(case["value"], rel=1e-13, abs=1e-15)


# --- recorded reference values (not part of the repository) -----------------------------------

#: Key of a `ref` record in golden_losses.json -> measure.
RECORDED = {
    "bce": "bce", "bce_label_smoothing": "bce:label_smoothing=0.1", "weighted_bce": "weighted_bce:beta=2",
    "balanced_bce": "balanced_bce", "focal": "focal", "focal_noalpha": "focal:alpha=none", "dice_s1": "dice:smooth=1",
    "dice_s1e-5": "dice", "dice_squared": "dice_squared", "iou": "iou:smooth=1e-6", "tversky": "tversky:smooth=1",
    "focal_tversky": "focal_tversky:smooth=1", "log_cosh_dice": "log_cosh_dice:smooth=1",
    "bce_dice": "bce_dice:smooth=1", "combo": "combo", "hausdorff_dt": "hd_dt", "hausdorff_dt_unit": "hd_dt:unit=voxel",
    "boundary": "boundary", "boundary_unit": "boundary:unit=voxel",
}  # fmt: skip
INPUTS = ["smooth2d", "aniso3d", "multi4", "tiny_gt", "empty_gt", "saturated"]


@pytest.fixture(scope="module")
def recorded() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the `ref` records by input and loss."""
    results = json.loads((SHARED / "golden" / "golden_losses.json").read_text())["results"]
    return {(r["input"], r["loss"]): r for r in results if r["lib"] in ("ref", "ref_ovr_mean")}


def recorded_pairs(name: str, *, logits: bool = False) -> list[SoftPair]:
    """Return the pair of a recorded input; of a multi-class one each channel against the rest."""
    spacing = (3.0, 1.0, 1.0) if name == "aniso3d" else None
    with np.load(SHARED / "golden" / "golden_inputs.npz") as stored:
        p, y, z = stored[f"{name}.p"], stored[f"{name}.y"], stored[f"{name}.z"]
    if name == "multi4":
        return [SoftPair.of(channel, y == c) for c, channel in enumerate(p)]
    return [SoftPair.of(p, y, spacing=spacing, z=z if logits else None)]


@needs_shared
@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("key", RECORDED)
def test_recorded_reference(key: str, source: str, recorded: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Values agree to 1e-12 and gradients to 1e-9 with the recorded reference formulas."""
    record, bound, pairs = recorded[source, key], loss_of(RECORDED[key]), recorded_pairs(source)
    values = [bound(pair) for pair in pairs]
    assert sum(v for v in values if v is not None) / len(pairs) == pytest.approx(record["value"], rel=1e-12, abs=0)
    assert record["wrt"] == "p"
    gradient = np.concatenate([bound.gradient(pair, "p") for pair in pairs]) / len(pairs)
    noted = record["grad"]
    close = {"rel": 1e-9, "abs": 1e-12 * noted["l1"]}
    assert float(gradient.sum()) == pytest.approx(noted["sum"], **close)
    assert float(abs(gradient).sum()) == pytest.approx(noted["l1"], **close)
    assert float(np.linalg.norm(gradient)) == pytest.approx(noted["l2"], **close)
    assert gradient[noted["idx"]] == pytest.approx(np.array(noted["at"]), **close)


#: Key in reference.json -> measure, tolerance. MONAI's focal and distances are float32, its Jaccard halves the smooth.
PEERS = {
    "bce_mean": ("bce:clip=1e-12", 1e-12), "MONAI_dice": ("dice", 1e-10),
    "MONAI_dice_smooth0": ("dice:smooth=0", 1e-10), "MONAI_dice_squared": ("dice_squared", 1e-10),
    "MONAI_jaccard": ("iou:smooth=5e-6", 1e-10),
    "MONAI_tversky_a0.3_b0.7": ("tversky", 1e-10), "MONAI_focal_g2": ("focal:alpha=none:clip=1e-12", 1e-6),
    "MONAI_focal_g2_a0.25": ("focal:clip=1e-12", 1e-6), "MONAI_hausdorff_dt_a2": ("hd_dt:unit=voxel", 1e-6),
}  # fmt: skip
CASES = [
    "nuclei2d/logits.npy | nuclei2d/gt_binary_bool.npy",
    "isles_lesion/pred_prob.nii.gz | isles_lesion/gt.nii.gz",
    "mni_gm_prob/pred_gm_prob_u8scaled.nii.gz | mni_gm_prob/gt_gm_mask.nii.gz",
]


@needs_shared
@pytest.mark.parametrize("files", CASES)
def test_recorded_peers(files: str) -> None:
    """On real predictions the values are those recorded from MONAI and torch."""
    pred, gt = (_array(SHARED / "data" / name) for name in files.split(" | "))
    noted = json.loads((SHARED / "data" / "reference.json").read_text())["pairs"][files]["losses_float64"]
    logits = pred.astype(np.float64) if "logits" in files else None
    # the peers were given probabilities clipped to [1e-12, 1-1e-12]
    p = np.clip(pred.astype(np.float64), 1e-12, 1 - 1e-12) if logits is None else sigmoid(logits)
    pair = SoftPair.of(p, gt > 0, z=logits)
    for key, (text, tolerance) in PEERS.items():
        assert loss_of(text)(pair) == pytest.approx(noted[key], rel=tolerance), key


def _array(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    return np.asarray(pytest.importorskip("nibabel").load(path).dataobj)


# --- drawn inputs -----------------------------------------------------------------------------

#: Multiples of 1/64 are exact in float32 too; none is within 1/64 of the threshold.
doubtful = st.integers(1, 63).filter(lambda k: k != 32).map(lambda k: k / 64)
spacings = st.sampled_from([0.3, 0.75, 1.0, 2.5, 5.0])
SHAPES = [(1, 1), (1, 5), (3, 4), (2, 3, 2)]


@st.composite
def fields(draw: st.DrawFn, *, soft: bool = False) -> tuple[Array, Array, tuple[float, ...]]:
    """Draw probabilities, a ground truth (hard, or soft) and a spacing."""
    shape = draw(st.sampled_from(SHAPES))
    p = draw(arrays(np.float64, shape, elements=doubtful))
    truth = st.sampled_from([0.0, 0.25, 0.375, 0.875, 1.0]) if soft else st.sampled_from([0.0, 1.0])
    y = draw(arrays(np.float64, shape, elements=truth))
    return p, y, tuple(draw(st.tuples(*[spacings] * len(shape))))


def sampled() -> list[tuple[Array, Array, tuple[float, ...]]]:
    """Return fixed small inputs: 1-D, 2-D and 3-D, hard and soft, empty and full."""
    rng = np.random.default_rng(5)
    found = []
    for shape, kind in itertools.product(SHAPES[1:], ("hard", "soft", "empty", "full")):
        p = rng.choice([k / 64 for k in range(1, 64) if k != 32], shape)
        hard, soft = rng.choice([0.0, 1.0], shape), rng.choice([0.0, 0.25, 0.875, 1.0], shape)
        y = {"hard": hard, "soft": soft, "empty": np.zeros(shape), "full": np.ones(shape)}[kind]
        found.append((p, y, (2.5, 0.3, 1.0)[: len(shape)]))
    return found


# --- live agreement with torch and MONAI ------------------------------------------------------


@given(fields(soft=True), st.floats(0.1, 20))
@drawn
def test_torch_cross_entropy(field: tuple[Array, Array, tuple[float, ...]], beta: float) -> None:
    """Cross-entropy equals torch's, from probabilities, from logits and with a weight on positives."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    p, y, _ = field
    z = np.log(p / (1 - p)) * 9
    truth, logits = torch.tensor(y), torch.tensor(z)
    plain, exact = SoftPair.of(p, y), SoftPair.of(sigmoid(z), y, z=z)
    close = {"rel": 1e-12, "abs": 1e-15}  # torch gives 0 for a softplus below 1e-16
    expected = float(functional.binary_cross_entropy(torch.tensor(p), truth))
    assert loss_of("bce")(plain) == pytest.approx(expected, **close)
    expected = float(functional.binary_cross_entropy_with_logits(logits, truth))
    assert loss_of("bce")(exact) == pytest.approx(expected, **close)
    expected = float(functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=truth.new_tensor(beta)))
    assert loss_of(f"weighted_bce:beta={beta}")(exact) == pytest.approx(expected, **close)


@given(fields(), st.floats(0.05, 2), st.floats(0.05, 2))
@drawn
def test_monai_region(field: tuple[Array, Array, tuple[float, ...]], fp: float, fn: float) -> None:
    """Dice, squared Dice, IoU and Tversky equal MONAI's, whose Jaccard halves the smooth."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    p, y, _ = field
    pair, batch = SoftPair.of(p, y), (torch.tensor(p)[None, None], torch.tensor(y)[None, None])
    for text, peer in {
        "dice": monai.DiceLoss(),
        "dice_squared": monai.DiceLoss(squared_pred=True),
        "iou:smooth=5e-6": monai.DiceLoss(jaccard=True),
        f"tversky:fp={fp}:fn={fn}": monai.TverskyLoss(alpha=fp, beta=fn),
    }.items():
        assert loss_of(text)(pair) == pytest.approx(float(peer(*batch)), rel=1e-10, abs=1e-12), text


@given(fields(), st.sampled_from([0.0, 0.5, 2.0, 3.0]))
@drawn
def test_monai_focal(field: tuple[Array, Array, tuple[float, ...]], gamma: float) -> None:
    """Focal equals MONAI's on logits, which works in float32."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    p, y, _ = field
    z = np.log(p / (1 - p))
    pair, batch = SoftPair.of(p, y, z=z), (torch.tensor(z)[None, None], torch.tensor(y)[None, None])
    for alpha, word in ((None, "none"), (0.25, "0.25")):
        expected = float(monai.FocalLoss(gamma=gamma, alpha=alpha)(*batch))
        assert loss_of(f"focal:alpha={word}:gamma={gamma}")(pair) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@given(fields(), st.sampled_from([1.0, 2.0, 3.0]))
@drawn
def test_monai_distances(field: tuple[Array, Array, tuple[float, ...]], alpha: float) -> None:
    """In voxel units the Hausdorff and boundary losses equal MONAI's, empty and full masks included."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    p, y, spacing = field
    pair = SoftPair.of(p, y, spacing=spacing)
    batch = (torch.tensor(p)[None, None], torch.tensor(y)[None, None])
    expected = float(monai.HausdorffDTLoss(alpha=alpha, include_background=True)(*batch))
    assert loss_of(f"hd_dt:unit=voxel:alpha={alpha}")(pair) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    if not hasattr(monai, "BoundaryLoss"):
        pytest.skip("this MONAI has no BoundaryLoss")
    assert loss_of("boundary:unit=voxel")(pair) == pytest.approx(
        float(monai.BoundaryLoss()(*batch)), rel=1e-5, abs=1e-6
    )


# --- gradients --------------------------------------------------------------------------------


def written_out(name: str, p: Any, y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Any:
    """Return a loss in torch, written from the formulas in the literature and not from segcli's."""
    tp, fp, fn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()

    def cross(on: Any, off: Any, truth: Any = y) -> Any:
        return -(on * truth * p.log() + off * (1 - truth) * (1 - p).log()).mean()

    def dice() -> Any:
        return 1 - (2 * tp + k["smooth"]) / (p.sum() + y.sum() + k["smooth"])

    def tversky() -> Any:
        return 1 - (tp + k["smooth"]) / (tp + k["fp"] * fp + k["fn"] * fn + k["smooth"])

    def focal() -> Any:
        on, off = (1, 1) if k["alpha"] == "none" else (k["alpha"], 1 - k["alpha"])
        return cross(on * (1 - p) ** k["gamma"], off * p ** k["gamma"])

    def weighted() -> Any:
        auto = 1.0 if float(y.sum()) == 0 else float((1 - y).sum() / y.sum())
        return cross(auto if k["beta"] == "auto" else k["beta"], 1)

    def hausdorff() -> Any:
        return ((p - y) ** 2 * hausdorff_weights(p, y, spacing, k)).mean()

    def boundary() -> Any:
        return (p * signed_distance(y, spacing, k)).mean()

    forms: dict[str, Callable[[], Any]] = {
        "bce": lambda: cross(1, 1, y * (1 - k["label_smoothing"]) + k["label_smoothing"] / 2),
        "weighted_bce": weighted,
        "balanced_bce": lambda: cross(1 - y.mean(), y.mean()),
        "focal": focal,
        "dice": dice,
        "dice_squared": lambda: 1 - (2 * tp + k["smooth"]) / ((p * p).sum() + (y * y).sum() + k["smooth"]),
        "iou": lambda: 1 - (tp + k["smooth"]) / (p.sum() + y.sum() - tp + k["smooth"]),
        "tversky": tversky,
        "focal_tversky": lambda: tversky() ** k["exponent"],
        "log_cosh_dice": lambda: dice().cosh().log(),
        "hd_dt": hausdorff,
        "boundary": boundary,
        "bce_dice": lambda: k["w_bce"] * cross(1, 1) + k["w_dice"] * dice(),
        "combo": lambda: k["alpha"] * cross(k["beta"], 1 - k["beta"]) - (1 - k["alpha"]) * (1 - dice()),
    }
    return forms[name]()


def sides(values: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> tuple[Array, Array]:
    """Return the distances to the nearest voxel inside and outside by SciPy, zeros without a boundary."""
    edt = pytest.importorskip("scipy.ndimage").distance_transform_edt
    mask = values.detach().numpy() > 0.5
    if not mask.any() or mask.all():
        return np.zeros(mask.shape), np.zeros(mask.shape)
    sampling = spacing if k["unit"] == "mm" else None
    return edt(~mask, sampling=sampling), edt(mask, sampling=sampling)


def hausdorff_weights(p: Any, y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Any:
    """Return the weights of `hd_dt` as a torch tensor."""
    fields = [sum(sides(values, spacing, k)) for values in (p, y)]
    return pytest.importorskip("torch").tensor(fields[0] ** k["alpha"] + fields[1] ** k["alpha"])


def signed_distance(y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Any:
    """Return phi of `boundary` as a torch tensor."""
    to_inside, to_outside = sides(y, spacing, k)
    step = min(spacing) if k["unit"] == "mm" else 1.0
    return pytest.importorskip("torch").tensor(to_inside - (to_outside - step) * (to_outside > 0))


@pytest.mark.parametrize("text", VARIANTS)
def test_gradient_autograd(text: str) -> None:
    """Value and gradient equal torch's autograd of the formula, by p and by z, with and without logits."""
    torch = pytest.importorskip("torch")
    bound = loss_of(text)
    for p, y, spacing in sampled():
        z = np.log(p / (1 - p))
        plain, exact = SoftPair.of(p, y, spacing=spacing), SoftPair.of(p, y, spacing=spacing, z=z)
        for wrt, leaf in (("p", torch.tensor(p)), ("z", torch.tensor(z))):
            leaf.requires_grad_()
            prob = leaf if wrt == "p" else leaf.sigmoid()
            value = written_out(bound.measure.name, prob, torch.tensor(y), spacing, dict(bound.params))
            value = value + 0 * prob.sum()  # a constant has a gradient of 0
            value.backward()
            # 0/0 in torch (nothing that is weighed, smooth=0) is 0 here
            expected, slope = (torch.nan_to_num(found.detach()).numpy().ravel() for found in (value, leaf.grad))
            for pair in (plain, exact):
                assert bound(pair) == pytest.approx(float(expected[0]), rel=1e-10, abs=1e-12)
                close = {"rel": 1e-8, "abs": 1e-10 * (1 + abs(slope).max())}
                assert bound.gradient(pair, wrt) == pytest.approx(slope, **close)


def check_differences(
    bound: BoundMeasure,
    case: tuple[Array, Array, tuple[float, ...]],
    wrt: str,
    *,
    valid: NDArray[np.bool_] | None = None,
    step: float = 1e-5,
    rel: float = 1e-6,
    floor: float = 1e-7,
) -> None:
    """Hold a gradient, 0 in ignored voxels, against central differences of the implemented value."""
    p, y, spacing = case
    here = p if wrt == "p" else np.log(p / (1 - p))

    def pair_at(at: Array) -> SoftPair:
        if wrt == "p":
            return SoftPair.of(at, y, spacing=spacing, valid=valid)
        return SoftPair.of(sigmoid(at), y, spacing=spacing, z=at, valid=valid)

    def value(at: Array) -> float:
        found = bound(pair_at(at))
        assert found is not None
        return found

    moves = np.eye(here.size).reshape(-1, *here.shape) * step
    expected = np.array([(value(here + move) - value(here - move)) / (2 * step) for move in moves])
    pair = SoftPair.of(p, y, spacing=spacing, z=None if wrt == "p" else here, valid=valid)
    gradient = pair.grid(bound.gradient(pair, wrt)).ravel()
    assert gradient == pytest.approx(expected, rel=rel, abs=floor * (1 + abs(expected).max()))


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("wrt", ["p", "z"])
def test_gradient_differences(text: str, wrt: str) -> None:
    """The gradient is that of the implemented value: central differences agree."""
    for case in sampled():
        check_differences(loss_of(text), case, wrt)


def test_gradient_where_clipped() -> None:
    """Where the clip holds p the cross-entropies are flat: their gradient is 0, not that of the unclipped formula."""
    pair = SoftPair.of(np.array([0.0, 1e-9, 0.25, 1.0]), np.array([1.0, 1.0, 1.0, 0.0]))
    for text in ("bce", "bce:label_smoothing=0.1", "weighted_bce", "balanced_bce", "focal", "combo:alpha=1"):
        for wrt in ("p", "z"):
            gradient = loss_of(text).gradient(pair, wrt)
            assert list(gradient[[0, 1, 3]]) == [0, 0, 0]
            assert gradient[2] < 0


def test_gradient_focal_at_certainty() -> None:
    """With gamma < 1 the focal gradient at p_t = 1 is its limit 0, though (1-p)^(gamma-1) is infinite there."""
    z = np.array([800.0, -800.0])
    pair = SoftPair.of(sigmoid(z), np.array([1.0, 0.0]), z=z)
    for wrt in ("p", "z"):
        assert list(loss_of("focal:gamma=0.5").gradient(pair, wrt)) == [0, 0]


def test_gradient_focal_tversky_at_optimum() -> None:
    """With exponent < 1 dL/dp at the optimum is infinite with the sign of the slope, dL/dz has the limit 0."""
    pair = SoftPair.of(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert list(loss_of("focal_tversky").gradient(pair, "p")) == [-math.inf, math.inf]
    assert list(loss_of("focal_tversky:fp=0").gradient(pair, "p")) == [-math.inf, 0]
    assert list(loss_of("focal_tversky").gradient(pair, "z")) == [0, 0]
    assert list(loss_of("focal_tversky:exponent=2").gradient(pair, "p")) == [0, 0]


# --- voxel maps -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", VARIANTS)
@given(field=st.one_of(fields(), fields(soft=True)), certain=st.booleans())
@drawn
def test_voxel_map_adds_up(text: str, field: tuple[Array, Array, tuple[float, ...]], certain: bool) -> None:
    """The contributions of the voxels add up to the loss, for hard and soft truths and certain predictions."""
    p, y, spacing = field
    bound, pair = loss_of(text), SoftPair.of(np.round(p) if certain else p, y, spacing=spacing)
    contributions = bound.voxel_map(pair)
    assert contributions.shape == (pair.n,)
    assert float(contributions.sum()) == pytest.approx(
        bound(pair), rel=1e-9, abs=1e-12 * (1 + abs(contributions).sum())
    )


@pytest.mark.parametrize("text", ["bce", "focal", "dice", "dice_squared", "iou", "tversky", "log_cosh_dice", "hd_dt"])
def test_voxel_map_blames_errors(text: str) -> None:
    """A voxel that is right contributes nothing (up to the clip), one that is wrong does."""
    pair = SoftPair.of(np.array([[1.0, 0.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 0.0, 0.0]]))
    contributions = loss_of(text).voxel_map(pair)
    assert min(contributions[1:3]) > 0.01
    assert max(abs(contributions[[0, 3, 4]])) < 1e-7


@pytest.mark.parametrize("text", [t for t in VARIANTS if find(t.split(":")[0], "loss").family == "region"])
@pytest.mark.parametrize("exact", [False, True], ids=["probabilities", "logits"])
def test_nearly_perfect(text: str, exact: bool) -> None:
    """Next to the optimum the region losses keep their digits: nothing is lost to cancellation."""
    y = np.tile([1.0, 1.0, 0.0, 1.0, 0.0], 200)
    z = np.linspace(25.0, 35.0, y.size) * (2 * y - 1)
    pair = SoftPair.of(sigmoid(z), y, z=z if exact else None)
    value, contributions = loss_of(text)(pair), loss_of(text).voxel_map(pair)
    assert value is not None
    assert value > 0
    assert float(contributions.sum()) == pytest.approx(value, rel=1e-9)
    if text == "dice:smooth=0" and exact:
        assert value == pytest.approx(float(sigmoid(-abs(z)).sum()) / float(2 * y.sum()), rel=1e-9)


# --- edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("exact", [False, True], ids=["probabilities", "logits"])
def test_edges(text: str, exact: bool) -> None:
    """Certain predictions and empty or full masks give finite values, maps and gradients, or the record says not."""
    bound = loss_of(text)
    low, high = bound.measure.range
    for pred, truth in itertools.product(itertools.product((0.0, 1.0), repeat=3), repeat=2):
        p, y = np.array([pred]), np.array([truth])
        pair = SoftPair.of(p, y, spacing=(1.0, 2.0), z=800 * (2 * p - 1) if exact else None)
        value = bound(pair)
        assert value is not None
        assert low <= value <= high
        assert math.isfinite(value)
        assert np.isfinite(bound.voxel_map(pair)).all()
        assert float(bound.voxel_map(pair).sum()) == pytest.approx(value, rel=1e-9, abs=1e-12)
        for wrt in ("p", "z"):
            gradient = bound.gradient(pair, wrt)
            assert not np.isnan(gradient).any()
            if not np.isfinite(gradient).all():
                assert wrt == "p"
                assert "infinite gradient" in bound.measure.caution
                assert value == 0
            assert math.isfinite(float(np.square(gradient[np.isfinite(gradient)]).sum()))


@pytest.mark.parametrize("text", [t for t in VARIANTS if t.split(":")[0] in {"dice_squared", "hd_dt"}])
@given(field=fields(soft=True))
@drawn
def test_optimum_for_any_truth(text: str, field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """The losses whose record says optimum 0 are 0 at pred = gt for a soft truth too."""
    bound = loss_of(text)
    assert bound.measure.optimum == 0
    assert bound(SoftPair.of(field[1], field[1], spacing=field[2])) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("text", ["dice", "iou", "tversky", "focal_tversky", "log_cosh_dice"])
def test_optimum_depends_on_the_truth(text: str) -> None:
    """The linear ratios are 0 at pred = gt for a hard truth, not for a soft one: their record says per case."""
    bound = loss_of(text)
    assert bound.measure.optimum is None
    hard, soft = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    assert bound(SoftPair.of(hard, hard)) == 0
    found = bound(SoftPair.of(soft, soft))
    assert found is not None
    assert found > 0.1


@pytest.mark.parametrize("text", ["bce", "focal", "weighted_bce", "hd_dt", "boundary", "bce_dice", "combo"])
def test_no_voxels(text: str) -> None:
    """A mean over no voxels is undefined."""
    pair = SoftPair.of(np.full((1, 2), 0.5), np.ones((1, 2)), valid=np.zeros((1, 2), dtype=bool))
    assert loss_of(text)(pair) is None


def test_ignored_voxels() -> None:
    """Ignored voxels change no value: every loss equals that of the pair without them."""
    p, y = np.array([[0.25, 0.75, 0.875, 0.125]]), np.array([[0.0, 1.0, 0.0, 1.0]])
    valid = np.array([[True, True, True, False]])
    for text in VARIANTS:
        cut = SoftPair.of(p[:, :3], y[:, :3])
        assert loss_of(text)(SoftPair.of(p, y, valid=valid)) == pytest.approx(loss_of(text)(cut), rel=1e-14), text


@given(field=fields(), scale=st.sampled_from([0.3, 0.7, 1.1, 3.3]))
@drawn
def test_boundary_never_positive_inside(field: tuple[Array, Array, tuple[float, ...]], scale: float) -> None:
    """The signed distance is at most 0 at every voxel of the gt, whatever the spacing."""
    _, y, spacing = field
    assume(0 < y.sum() < y.size)
    pair = SoftPair.of(np.ones_like(y), y, spacing=tuple(s * scale for s in spacing))
    for unit in ("mm", "voxel"):
        phi = loss_of(f"boundary:unit={unit}").voxel_map(pair)
        assert (phi[pair.y > 0.5] <= 0).all()
        assert (phi[pair.y < 0.5] > 0).all()


# --- facts from the survey --------------------------------------------------------------------


def test_log_cosh_dice_is_bounded() -> None:
    """No overlap gives the largest value, ln cosh 1 = 0.4338, which ends the record's range."""
    pair = SoftPair.of(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert loss_of("log_cosh_dice:smooth=0")(pair) == pytest.approx(0.4338, abs=5e-5)
    assert find("log_cosh_dice", "loss").range[1] == pytest.approx(math.log(math.cosh(1)), rel=1e-15)


def test_empty_truth() -> None:
    """An empty gt: Dice jumps from 0 to 1 at p=.01, hd_dt and boundary stay 0, balanced_bce is blind."""
    y = np.zeros((64, 64))
    nothing, little, much = (SoftPair.of(np.full_like(y, level), y) for level in (0.0, 0.01, 0.9))
    assert loss_of("dice")(nothing) == 0
    assert loss_of("dice")(little) == pytest.approx(1, abs=1e-6)
    assert abs(loss_of("dice").gradient(little, "p")).sum() < 1e-3
    for text in ("hd_dt", "boundary"):
        assert loss_of(text)(little) == 0
    for pair in (nothing, little, much):
        assert loss_of("balanced_bce")(pair) == 0
        assert not loss_of("balanced_bce").gradient(pair, "p").any()
    assert loss_of("weighted_bce")(much) == loss_of("bce")(much)


@given(fields())
@drawn
def test_identities(field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """Relations that the docstrings state hold."""
    p, y, spacing = field
    pair = SoftPair.of(p, y, spacing=spacing)

    def value(text: str) -> float:
        found = loss_of(text)(pair)
        assert found is not None
        return found

    plain = value("dice:smooth=0")
    assert value("iou:smooth=0") == pytest.approx(2 * plain / (1 + plain), rel=1e-12)
    assert value("tversky:fp=1:fn=1") == pytest.approx(value("iou"), rel=1e-12)
    assert value("tversky:fp=0.5:fn=0.5:smooth=1") == pytest.approx(value("dice:smooth=2"), rel=1e-12)
    assert value("focal:alpha=none:gamma=0") == pytest.approx(value("bce"), rel=1e-12)
    assert value("bce_dice") == pytest.approx(value("bce") + value("dice"), rel=1e-12)
    assert value("combo:alpha=1") == pytest.approx(value("bce") / 2, rel=1e-12)
    if y.any():
        assert value("balanced_bce") == pytest.approx(float(y.mean()) * value("weighted_bce"), rel=1e-12)


# --- the records ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "bce:clip=0", "bce:clip=1e-17", "bce:clip=0.5", "bce:label_smoothing=1", "bce:label_smoothing=-0.1",
        "weighted_bce:beta=0", "weighted_bce:beta=none", "focal:alpha=1.5", "focal:alpha=auto", "focal:gamma=-1",
        "focal:gamma=inf", "dice:smooth=-1", "dice:smooth=nan", "tversky:fp=-1", "focal_tversky:exponent=0",
        "hd_dt:alpha=0", "hd_dt:alpha=11", "hd_dt:unit=cm", "boundary:unit=1", "bce_dice:w_dice=-1", "combo:alpha=1.5",
        "combo:beta=-0.5",
    ],
)  # fmt: skip
def test_refused_parameters(text: str) -> None:
    """A parameter outside its domain is a usage error that names the measure and the parameter."""
    name, key = text.partition("=")[0].split(":")
    with pytest.raises(UsageError, match=rf"{name}: {key}="):
        loss_of(text)


def test_aliases() -> None:
    """The names of other libraries and papers lead to the same records."""
    names = {
        "jaccard": "iou", "soft_dice": "dice", "hausdorff_dt": "hd_dt", "combo_loss": "combo", "log_loss": "bce",
        "surface_loss": "boundary", "wbce": "weighted_bce", "dice_bce": "bce_dice", "vnet_dice": "dice_squared",
    }  # fmt: skip
    for alias, name in names.items():
        assert find(alias, "loss").name == name


def test_records_need_no_numpy() -> None:
    """The records of the losses load without numpy, SciPy or torch."""
    program = (
        "import sys, segcli.measure.losses; print(sorted({'numpy', 'scipy', 'torch', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "[]"
