"""Weighted, balanced, sorted and mixed losses: against other libraries, autograd, differences and their own maps."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import test_losses as base
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from test_losses import (  # noqa: F401
    Array,
    check_differences,
    drawn,
    fields,
    loss_of,
    needs_shared,
    recorded,
    recorded_pairs,
    sigmoid,
)

from segcli.errors import UsageError
from segcli.evidence.soft import SoftPair
from segcli.explain.attribution import excess_map, tallies
from segcli.measure.record import find

if TYPE_CHECKING:
    from collections.abc import Callable

#: Each loss with its defaults and with parameters that change its form.
VARIANTS = [
    "distance_map", "distance_map:phi=exp:sigma=2", "distance_map:phi=raw:unit=voxel", "shape_aware",
    "shape_aware:region=mismatch:unit=voxel", "cmssl", "cmssl:radius=2:sigma=0.8:beta=0:pad=nearest", "topk",
    "topk:k=0.6", "poly1", "poly1:eps=-1", "brier", "mae", "generalized_dice",
    "generalized_dice:smooth=0:absent=largest",
    "penalty_gdice", "penalty_gdice:k=10:smooth=0", "sens_spec", "sens_spec:r=0.7:smooth=0", "sens_spec_linear",
    "sens_spec_linear:w=0.2:smooth=0", "asymmetric", "asymmetric:beta=3:smooth=0", "noise_robust_dice",
    "noise_robust_dice:gamma=1:smooth=0", "iou_inverted", "iou_inverted:smooth=0", "lovasz", "lovasz_hinge", "mcc",
    "mcc:smooth=0", "bce_logdice", "explog", "explog:gamma=1:w_dice=0.3", "explog:gamma=2.5:w_ce=3", "dice_focal",
    "dice_focal:alpha=0.3:gamma=0.5:w_dice=2", "gdice_focal", "gdice_focal:alpha=0.6:w_focal=3:absent=largest",
    "focal_plus_tversky", "focal_plus_tversky:fp=0.9:fn=0.2:alpha=none", "unified_focal",
    "unified_focal:form=symmetric:delta=0.8:gamma=0.2", "unified_focal:reduce=mean:mix=0.3:gamma=0",
]  # fmt: skip
each = pytest.mark.parametrize("text", VARIANTS)
REGION = [t for t in VARIANTS if find(t.split(":")[0], "loss").family == "region"]
INTEGRATED = ["lovasz", "mcc", "mcc:smooth=0"]


def value_of(text: str, pair: SoftPair) -> float:
    """Return a loss that is defined."""
    found = loss_of(text)(pair)
    assert found is not None
    return found


def sampled() -> list[tuple[Array, Array, tuple[float, ...]]]:
    """Return fixed small inputs without ties, away from the threshold: hard and soft, empty and full."""
    rng = np.random.default_rng(8)
    found = []
    for shape, kind in itertools.product([(1, 5), (3, 4), (2, 3, 2)], ("hard", "soft", "empty", "full")):
        p = rng.uniform(0.02, 0.98, shape)
        p[abs(p - 0.5) < 0.01] = 0.52
        hard, soft = rng.choice([0.0, 1.0], shape), rng.choice([0.0, 0.25, 0.875, 1.0], shape)
        y = {"hard": hard, "soft": soft, "empty": np.zeros(shape), "full": np.ones(shape)}[kind]
        found.append((p, y, (2.5, 0.3, 1.0)[: len(shape)]))
    return found


# --- recorded reference values (not part of the repository) -----------------------------------

#: Key of a `ref` record in golden_losses.json -> measure.
RECORDED = {
    "distance_map": "distance_map", "shape_aware": "shape_aware", "cmssl": "cmssl", "topk_ce": "topk:k=0.1",
    "poly1_ce": "poly1", "brier_mse": "brier", "mae": "mae", "generalized_dice": "generalized_dice",
    "penalty_gdice": "penalty_gdice", "sens_spec_brosch": "sens_spec", "sens_spec_linear": "sens_spec_linear",
    "asymmetric_fbeta": "asymmetric:smooth=1", "noise_robust_dice": "noise_robust_dice",
    "lovasz_softmax_fg": "lovasz", "mcc": "mcc", "bce_logdice": "bce_logdice:smooth=1", "explog": "explog:smooth=1",
}  # fmt: skip
#: The records of 3-D windows repeat the outer voxels; those of an empty gt weigh the absent class as the other.
OTHERWISE = {
    ("cmssl", "aniso3d"): "cmssl:pad=nearest",
    ("generalized_dice", "empty_gt"): "generalized_dice:absent=largest",
    ("penalty_gdice", "empty_gt"): "penalty_gdice:absent=largest",
}


@needs_shared
@pytest.mark.parametrize("source", base.INPUTS)
@pytest.mark.parametrize("key", RECORDED)
def test_recorded_reference(
    key: str,
    source: str,
    recorded: dict[tuple[str, str], dict[str, Any]],  # noqa: F811 (the fixture)
) -> None:
    """Values agree to 1e-12 and gradients to 1e-9 with the recorded reference formulas."""
    record, pairs = recorded[source, key], recorded_pairs(source)
    bound = loss_of(OTHERWISE.get((key, source), RECORDED[key]))
    weight = 1.0
    if (key, source) == ("shape_aware", "aniso3d"):
        weight = shape_weight_of_all(pairs[0])  # the record takes all voxels of a 3-D prediction for its border
    values = [bound(pair) for pair in pairs]
    assert weight * sum(v for v in values if v is not None) / len(pairs) == pytest.approx(
        record["value"], rel=1e-12, abs=0
    )
    assert record["wrt"] == "p"
    gradient = weight * np.concatenate([bound.gradient(pair, "p") for pair in pairs]) / len(pairs)
    noted = record["grad"]
    close = {"rel": 1e-9, "abs": 1e-12 * noted["l1"]}
    assert float(abs(gradient).sum()) == pytest.approx(noted["l1"], **close)
    if (key, source) == ("lovasz_softmax_fg", "saturated"):
        return  # all errors are equal: any order gives a subgradient, here they share
    assert float(gradient.sum()) == pytest.approx(noted["sum"], **close)
    assert float(np.linalg.norm(gradient)) == pytest.approx(noted["l2"], **close)
    assert gradient[noted["idx"]] == pytest.approx(np.array(noted["at"]), **close)


def shape_weight_of_all(pair: SoftPair) -> float:
    """Return (1 + mean distance of all predicted voxels) over (1 + E) of `shape_aware`."""
    everywhere = 1 + float(pair.boundary_distance("gt", "mm")[pair.p > 0.5].mean())
    return everywhere / (value_of("shape_aware", pair) / value_of("bce", pair))


#: Library and key of its record -> measure, tolerance; libraries that work in float32 agree to 1e-6.
LIBRARIES = {
    ("monai", "gdl_2ch"): ("generalized_dice:absent=largest", 1e-6),
    ("monai", "mcc"): ("mcc", 1e-6),
    ("monai", "dicefocal"): ("dice_focal", 1e-6),
    ("smp", "lovasz_hinge"): ("lovasz_hinge", 1e-6),
    ("kornia", "lovasz_hinge"): ("lovasz_hinge", 1e-6),
    ("berman", "lovasz_hinge"): ("lovasz_hinge", 1e-6),
    ("monai", "asym_unified_focal"): ("unified_focal:delta=0.7:reduce=mean:smooth=1e-7", 1e-5),
}


@needs_shared
@pytest.mark.parametrize(("lib", "key"), LIBRARIES)
def test_recorded_libraries(lib: str, key: str) -> None:
    """Values are those recorded from other libraries, on the inputs that they accept."""
    results = json.loads((SHARED / "golden" / "golden_losses.json").read_text())["results"]
    records = [r for r in results if (r["lib"], r["loss"]) == (lib, key) and r["input"] != "multi4"]
    text, tolerance = LIBRARIES[lib, key]
    checked = 0
    for record in records:
        if record.get("value") is None or (key == "asym_unified_focal" and record["input"] == "empty_gt"):
            continue  # its clip of p decides where there is no object
        (pair,) = recorded_pairs(record["input"], logits=record["wrt"] == "z")
        assert value_of(text, pair) == pytest.approx(record["value"], rel=tolerance, abs=1e-7), record["input"]
        checked += 1
    assert checked >= 3


# --- live agreement with MONAI ----------------------------------------------------------------


@given(fields())
@drawn
def test_monai_balance(field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """Generalized Dice equals MONAI's on two channels, MCC its own, but where MONAI makes an exception."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    p, y, _ = field
    pair = SoftPair.of(p, y)
    batch = [torch.tensor(np.stack([1 - a, a]))[None] for a in (p, y)]
    expected = float(monai.GeneralizedDiceLoss()(*batch))
    assert value_of("generalized_dice:absent=largest", pair) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    if hasattr(monai, "MCCLoss"):
        expected = float(monai.MCCLoss()(*[a[:, 1:] for a in batch]))
        assert value_of("mcc", pair) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(fields())
@drawn
def test_monai_compound(field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """The sums with a focal loss equal MONAI's on logits; its focal loss works in float32."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    p, y, _ = field
    z = np.log(p / (1 - p))
    pair, batch = SoftPair.of(p, y, z=z), (torch.tensor(z)[None, None], torch.tensor(y)[None, None])
    expected = float(monai.DiceFocalLoss(sigmoid=True)(*batch))
    assert value_of("dice_focal", pair) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    both = torch.tensor(np.stack([-z, z]))[None], torch.tensor(np.stack([1 - y, y]))[None]
    expected = float(monai.GeneralizedDiceFocalLoss(sigmoid=True)(*both))
    assert value_of("gdice_focal:absent=largest", pair) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    if min(p.shape) > 1:
        batch = torch.tensor(p)[None, None], torch.tensor(y)[None, None]
        expected = float(monai.AsymmetricUnifiedFocalLoss()(*batch)) if y.any() and not y.all() else None
        found = value_of("unified_focal:delta=0.7:reduce=mean:smooth=1e-7", pair)
        assert expected is None or found == pytest.approx(expected, rel=1e-6)


# --- gradients --------------------------------------------------------------------------------


def written_out(name: str, p: Any, y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Any:
    """Return a loss in torch, written from the formulas in the literature and not from segcli's."""
    torch = pytest.importorskip("torch")
    q, n = 1 - p, p.numel()
    tp, fp, fn, tn = (p * y).sum(), (p * (1 - y)).sum(), (q * y).sum(), (q * (1 - y)).sum()
    s = k.get("smooth", 0.0)
    cross = -(y * p.log() + (1 - y) * q.log())
    plain: Callable[[str, dict[str, Any]], Any] = lambda other, given: base.written_out(other, p, y, spacing, given)

    def weigh(weights: Array) -> Any:
        return (torch.tensor(weights) * cross).mean()

    def generalized() -> Any:
        counts = [float(y.sum()), float((1 - y).sum())]
        weights = [1 / c**2 if c else 0.0 for c in counts]
        if k["absent"] == "largest":
            weights = [w or max(weights) for w in weights]
        above = 2 * (weights[0] * tp + weights[1] * tn) + s
        return 1 - above / (weights[0] * (p.sum() + y.sum()) + weights[1] * (q.sum() + (1 - y).sum()) + s)

    def rates() -> Any:
        inside, outside = y.sum() + s, (1 - y).sum() + s
        error = (p - y) ** 2
        parts = [
            (a * error).sum() / size if float(size) else 0 * p.sum() for a, size in ((y, inside), (1 - y, outside))
        ]
        return k["r"] * parts[0] + (1 - k["r"]) * parts[1]

    def linear_rates() -> Any:
        sizes = [float(y.sum()) + s, float((1 - y).sum()) + s]
        found = [(a + s) / size if size else 1 + 0 * a for a, size in zip((tp, tn), sizes, strict=True)]
        return 1 - k["w"] * found[0] - (1 - k["w"]) * found[1]

    def matthews() -> Any:
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) + s
        return 1 - (tp * tn - fp * fn) / product.sqrt() if float(product.detach()) else 1 + 0 * p.sum()

    def tversky(a: Any, alarms: Any, misses: Any, delta: float) -> Any:
        return 1 - (a + s) / (a + delta * misses + (1 - delta) * alarms + s)

    def unified() -> Any:
        delta, gamma = k["delta"], k["gamma"]
        asymmetric = k["form"] == "asymmetric"
        front = delta * -(y * p.log()) * (1 if asymmetric else q**gamma)
        back = (1 - delta) * -((1 - y) * q.log()) * p**gamma
        entropy = (front + back).mean() if k["reduce"] == "sum" else torch.stack([front, back]).mean()
        fore, behind = tversky(tp, fp, fn, delta), tversky(tn, fn, fp, delta)
        region = (fore ** (1 - gamma) + (behind if asymmetric else behind ** (1 - gamma))) / 2
        return k["mix"] * entropy + (1 - k["mix"]) * region

    def exponential() -> Any:
        counts = [max(float(y.sum()), 1.0), max(float((1 - y).sum()), 1.0)]
        on, off = (math.sqrt(sum(counts) / c) for c in counts)
        dices = [(2 * a + s) / (b.sum() + c.sum() + s) for a, b, c in ((tp, p, y), (tn, q, 1 - y))]
        entropy = on * y * (-p.log()) ** k["gamma"] + off * (1 - y) * (-q.log()) ** k["gamma"]
        return k["w_dice"] * sum((-d.log()) ** k["gamma"] for d in dices) / 2 + k["w_ce"] * entropy.mean()

    def inverted() -> Any:
        both = (tp, p, y) if float(y.sum()) else (tn, q, 1 - y)
        return -(both[0] + s) / (both[1].sum() + both[2].sum() - both[0] + s)

    forms: dict[str, Callable[[], Any]] = {
        "distance_map": lambda: weigh(1 + inverted_distance(y, spacing, k)),
        "shape_aware": lambda: weigh(shape_weights(p, y, spacing, k)),
        "cmssl": lambda: n * weigh(structure_weights(p, y, k)),
        "topk": lambda: torch.mean(cross.ravel().topk(max(1, int(k["k"] * n))).values),
        "poly1": lambda: torch.mean(cross + k["eps"] * (1 - y * p - (1 - y) * q)),
        "brier": lambda: torch.nn.functional.mse_loss(p, y),
        "mae": lambda: torch.nn.functional.l1_loss(p, y),
        "generalized_dice": generalized,
        "penalty_gdice": lambda: generalized() / (1 + k["k"] * (1 - generalized())),
        "sens_spec": rates,
        "sens_spec_linear": linear_rates,
        "asymmetric": lambda: tversky(tp, fp, fn, k["beta"] ** 2 / (1 + k["beta"] ** 2)),
        "noise_robust_dice": lambda: ((p - y).abs() ** k["gamma"]).sum() / ((p * p).sum() + (y * y).sum() + s),
        "iou_inverted": inverted,
        "lovasz": lambda: lovasz_of((p - y).abs(), y),
        "lovasz_hinge": lambda: lovasz_of(1 - (p / q).log() * (2 * y - 1), y),
        "mcc": matthews,
        "bce_logdice": lambda: cross.mean() - (1 - plain("dice", k)).log(),
        "explog": exponential,
        "dice_focal": lambda: k["w_dice"] * plain("dice", k) + k["w_focal"] * plain("focal", k),
        "gdice_focal": lambda: k["w_gdice"] * generalized() + k["w_focal"] * plain("focal", k),
        "focal_plus_tversky": lambda: k["w_focal"] * plain("focal", k) + k["w_tversky"] * plain("tversky", k),
        "unified_focal": unified,
    }
    return forms[name]()


def lovasz_of(errors: Any, y: Any) -> Any:
    """Return the Lovász extension of the Jaccard loss at errors that may be negative, after its authors."""
    torch = pytest.importorskip("torch")
    ordered, order = torch.sort(errors.ravel(), descending=True)
    truth = y.ravel()[order]
    jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
    steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.relu(ordered) @ steps


def inverted_distance(y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Array:
    """Return phi of `distance_map`."""
    to_inside, to_outside = base.sides(y, spacing, k)
    distance = to_inside + to_outside
    if not distance.any() or k["phi"] == "raw":
        return distance
    if k["phi"] == "exp":
        return np.exp(-(distance**2) / (2 * k["sigma"] ** 2))
    inside = to_inside == 0
    return np.where(inside, 1 - to_outside / to_outside.max(), 1 - to_inside / to_inside.max())


def shape_weights(p: Any, y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Array:
    """Return the weights of `shape_aware`, the border by SciPy's erosion."""
    erosion = pytest.importorskip("scipy.ndimage").binary_erosion
    pred, gt = p.detach().numpy() > 0.5, y.numpy() > 0.5
    border = pred & ~erosion(pred[0])[None] if pred.shape[0] == 1 else pred & ~erosion(pred)
    distance = sum(base.sides(y, spacing, k))
    apart = distance[border].mean() if border.any() else 0.0
    return 1 + apart * ((pred != gt) if k["region"] == "mismatch" else 1)


def structure_weights(p: Any, y: Any, k: dict[str, Any]) -> Array:
    """Return the weights of `cmssl` by a loop over the voxels."""
    r = k["radius"]
    mode = {"mirror": "reflect", "nearest": "edge"}[k["pad"]]
    steps = np.arange(-r, r + 1)
    line = np.exp(-(steps**2) / (2 * k["sigma"] ** 2))
    window = line / line.sum()
    for _ in range(p.ndim - 1):
        window = np.multiply.outer(window, line / line.sum())

    def standardised(values: Array) -> Array:
        padded = np.pad(values, r, mode=mode)
        found = np.empty_like(values)
        for at in np.ndindex(values.shape):
            seen = padded[tuple(slice(i, i + 2 * r + 1) for i in at)]
            mean = (window * seen).sum()
            variance = (window * (seen - mean) ** 2).sum() + 1e-12
            found[at] = (values[at] - mean + k["c4"]) / (math.sqrt(variance) + k["c4"])
        return found

    error = abs(standardised(y.numpy()) - standardised(p.detach().numpy()))
    kept = error > k["beta"] * error.max()
    return error * kept / max(1, kept.sum())


@each
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
            value = written_out(bound.measure.name, prob, torch.tensor(y), spacing, dict(bound.params)) + 0 * prob.sum()
            value.backward()
            # 0/0 in torch (nothing that is weighed, smooth=0) is 0 here
            expected, slope = (torch.nan_to_num(found.detach()).numpy().ravel() for found in (value, leaf.grad))
            # where the gt is flat the deviation of cmssl is rounding beside its floor of 1e-6
            rel = 1e-6 if text.startswith("cmssl") else 1e-9
            for pair in (plain, exact):
                assert bound(pair) == pytest.approx(float(expected[0]), rel=rel, abs=1e-11)
                close = {"rel": 10 * rel, "abs": rel * (1 + abs(slope).max())}
                assert bound.gradient(pair, wrt) == pytest.approx(slope, **close)


@pytest.mark.parametrize("text", [t for t in VARIANTS if not t.startswith("cmssl")])  # its weights move with p
@pytest.mark.parametrize("wrt", ["p", "z"])
def test_gradient_differences(text: str, wrt: str) -> None:
    """The gradient is that of the implemented value: central differences agree."""
    for case in sampled():
        check_differences(loss_of(text), case, wrt)


def test_gradient_where_clipped() -> None:
    """Where the clip holds p, losses of logarithms are flat there; the linear term of poly1 is not."""
    pair = SoftPair.of(np.array([[0.0, 1e-9, 0.25, 1.0]]), np.array([[1.0, 1.0, 1.0, 0.0]]))
    for text in ("distance_map", "shape_aware", "cmssl", "topk:k=1", "lovasz_hinge", "explog:w_dice=0"):
        for wrt in ("p", "z"):
            gradient = loss_of(text).gradient(pair, wrt)
            assert list(gradient[[0, 1, 3]]) == [0, 0, 0]
            assert gradient[2] < 0
    assert list(loss_of("poly1").gradient(pair, "p")[[0, 1, 3]]) == [-0.25, -0.25, 0.25]


@pytest.mark.parametrize("text", ["explog", "unified_focal", "unified_focal:form=symmetric"])
def test_gradient_at_the_optimum(text: str) -> None:
    """With a power below 1 dL/dp at the optimum is infinite with the sign of the slope, dL/dz has the limit 0."""
    pair = SoftPair.of(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert list(loss_of(text).gradient(pair, "p")) == [-math.inf, math.inf]
    assert list(loss_of(text).gradient(pair, "z")) == [0, 0]


def test_ties_share() -> None:
    """Voxels that are equal get the same weight, whatever their order in memory."""
    pair = SoftPair.of(np.array([0.5, 0.5, 0.5, 0.75]), np.array([1.0, 0.0, 1.0, 1.0]))
    assert list(loss_of("topk:k=0.5").voxel_map(pair)) == pytest.approx([math.log(2) / 3] * 3 + [0])
    rng = np.random.default_rng(2)
    p, y = rng.choice([0.0, 0.25, 1.0], 40), rng.choice([0.0, 1.0], 40)
    order = rng.permutation(40)
    for text in ("lovasz", "lovasz_hinge", "topk"):
        for found in (
            lambda pair, t=text: loss_of(t).voxel_map(pair),
            lambda pair, t=text: loss_of(t).gradient(pair, "p"),
        ):
            turned = found(SoftPair.of(p[order], y[order]))
            assert turned == pytest.approx(found(SoftPair.of(p, y))[order], rel=1e-12, abs=1e-15), text


# --- voxel maps -------------------------------------------------------------------------------


@each
def test_voxel_map_adds_up(text: str) -> None:
    """The contributions of the voxels add up to the loss, for hard and soft truths and certain predictions."""
    base.test_voxel_map_adds_up(text=text)


def by_quadrature(text: str, pair: SoftPair) -> Array:
    """Return the gradient integrated from the gt to the prediction by SciPy's adaptive quadrature."""
    quad_vec = pytest.importorskip("scipy.integrate").quad_vec
    step, bound = pair.p - pair.y, loss_of(text)

    def slope(t: float) -> Array:
        return np.asarray(step * bound.gradient(SoftPair.of(pair.y + t * step, pair.y), "p"))

    found: Array = quad_vec(slope, 0, 1, epsabs=1e-14, epsrel=1e-12, limit=400)[0]
    return found


@pytest.mark.parametrize("text", INTEGRATED)
@given(field=st.one_of(fields(), fields(soft=True)))
@drawn
def test_integrated_gradients_are_complete(text: str, field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """They are what a quadrature finds, add up to L(p) - L(y), and right voxels get nothing."""
    p, y, _ = field
    p = np.where(p > 0.9, y, p)  # some voxels are right
    bound, pair = loss_of(text), SoftPair.of(p, y)
    gain = value_of(text, pair) - value_of(text, SoftPair.of(y, y))
    excess = excess_map(bound, pair)
    assert excess is not None
    assert float(excess.sum()) == pytest.approx(gain, rel=1e-12, abs=1e-14)
    assert not excess[p.ravel() == y.ravel()].any() or abs(excess[p.ravel() == y.ravel()]).max() < 1e-15
    if text != "lovasz":  # there rounding on the way may part equal errors
        assert excess == pytest.approx(by_quadrature(text, pair), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("text", ["mcc", "mcc:smooth=0", "mcc:smooth=3"])
def test_mcc_map_where_quadrature_is_hard(text: str) -> None:
    """Nothing predicted, everything, all wrong, next to right: the map stays exact and finite."""
    y = np.array([1.0] * 3 + [0.0] * 61)
    drift = np.linspace(0, 1e-9, 64)
    for p in (0 * y, 0 * y + 1, 1 - y, np.roll(y, 1), np.roll(y, 3), np.abs(y - drift), np.abs(np.roll(y, 1) - drift)):
        pair = SoftPair.of(p, y)
        excess = excess_map(loss_of(text), pair)
        assert excess is not None
        gain = value_of(text, pair) - value_of(text, SoftPair.of(y, y))
        assert float(excess.sum()) == pytest.approx(gain, rel=1e-9, abs=1e-15)
        if text == "mcc:smooth=3" or 0 < p.sum() < 64:  # without smooth the slope is infinite at an empty end
            assert excess == pytest.approx(by_quadrature(text, pair), rel=1e-8, abs=1e-13)


def test_lovasz_needs_no_quadrature() -> None:
    """The errors keep their order on the way from the gt: the map is the integral, for a soft gt too."""
    for p, y, _ in sampled():
        pair = SoftPair.of(p, y)
        assert loss_of("lovasz").voxel_map(pair) == pytest.approx(by_quadrature("lovasz", pair), rel=1e-9)


def test_integrated_of_a_hard_mask() -> None:
    """A hard mask divides MCC between false alarms and misses, nothing else; ignored voxels stay out."""
    p, y = np.array([[1.0, 0.0, 1.0, 0.0, 1.0]]), np.array([[1.0, 1.0, 0.0, 0.0, 1.0]])
    valid = np.array([[True, True, True, True, False]])
    for text in INTEGRATED:
        pair = SoftPair.of(p, y, valid=valid)
        found = excess_map(loss_of(text), pair)
        assert found is not None
        assert found.shape == (4,)
        assert abs(found[[0, 3]]).max() < 1e-15
        assert min(found[1:3]) > 0.1
        divided = next(tallies([loss_of(text)], pair, [True])).shares()
        assert divided is not None
        assert divided.fp == pytest.approx(found[2] / found.sum())


def test_attribution_is_named() -> None:
    """The record says by which rule a map adds up."""
    rules = {
        "lovasz": "integrated", "mcc": "integrated", "explog": "scaled", "bce_logdice": "scaled",
        "unified_focal": "scaled", "penalty_gdice": "scaled", "dice_focal": "additive", "cmssl": "additive",
        "generalized_dice": "additive", "lovasz_hinge": "additive",
    }  # fmt: skip
    assert {name: find(name, "loss").attribution for name in rules} == rules


@pytest.mark.parametrize("text", [t for t in REGION if not t.startswith(("iou_inverted", "lovasz_hinge"))])
@pytest.mark.parametrize("exact", [False, True], ids=["probabilities", "logits"])
def test_nearly_perfect(text: str, exact: bool) -> None:
    """Next to the optimum the region losses keep their digits: nothing is lost to cancellation."""
    if text == "mcc":
        return  # its smooth under the root costs more than the errors here
    base.test_nearly_perfect(text, exact)


def test_mcc_nearly_perfect() -> None:
    """Next to the optimum MCC is n/(2 n_fg n_bg) times the summed error, to all digits."""
    y = np.tile([1.0, 1.0, 0.0, 1.0, 0.0], 200)
    z = np.linspace(25.0, 35.0, y.size) * (2 * y - 1)
    errors = float(sigmoid(-abs(z)).sum())
    expected = y.size * errors / (2 * y.sum() * (1 - y).sum())
    assert value_of("mcc:smooth=0", SoftPair.of(sigmoid(z), y, z=z)) == pytest.approx(expected, rel=1e-9)


# --- edges ------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("exact", [False, True], ids=["probabilities", "logits"])
def test_edges(text: str, exact: bool) -> None:
    """Certain predictions and empty or full masks give finite values, maps and gradients, or the record says not."""
    bound = loss_of(text)
    low, high = bound.measure.range
    for pred, truth in itertools.product(itertools.product((0.0, 1.0), repeat=3), repeat=2):
        p, y = np.array([pred]), np.array([truth])
        pair = SoftPair.of(p, y, spacing=(1.0, 2.0), z=800 * (2 * p - 1) if exact else None)
        value = value_of(text, pair)
        assert low <= value <= high
        assert math.isfinite(value)
        assert np.isfinite(bound.voxel_map(pair)).all()
        assert float(bound.voxel_map(pair).sum()) == pytest.approx(value, rel=1e-9, abs=1e-12)
        for wrt in ("p", "z"):
            gradient = bound.gradient(pair, wrt)
            assert not np.isnan(gradient).any()
            endless = ~np.isfinite(gradient)
            if endless.any():
                assert wrt == "p"
                assert "infinite gradient" in bound.measure.caution
                assert (pair.p == pair.y)[endless].all()
            assert math.isfinite(float(np.square(gradient[~endless]).sum()))


@pytest.mark.parametrize("text", [t for t in VARIANTS if find(t.split(":")[0], "loss").optimum == 0])
@given(field=fields(soft=True))
@drawn
def test_optimum_for_any_truth(text: str, field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """The losses whose record says optimum 0 are 0 at pred = gt for a soft truth too."""
    assert value_of(text, SoftPair.of(field[1], field[1], spacing=field[2])) == pytest.approx(0, abs=1e-15)


def test_no_voxels() -> None:
    """A mean over no voxels is undefined; a region loss of nothing is its value for empty sums."""
    pair = SoftPair.of(np.full((1, 2), 0.5), np.ones((1, 2)), valid=np.zeros((1, 2), dtype=bool))
    for text in VARIANTS:
        bound = loss_of(text)
        assert (bound(pair) is None) == (bound.measure.family != "region"), text
        assert bound.voxel_map(pair).shape == (0,), text
        assert bound.gradient(pair, "p").shape == (0,), text


def test_ignored_voxels() -> None:
    """Ignored voxels change no value: every loss equals that of the pair without them."""
    p, y = np.array([[0.25, 0.75, 0.875, 0.125]]), np.array([[0.0, 1.0, 0.0, 1.0]])
    valid = np.array([[True, True, True, False]])
    for text in VARIANTS:
        if text.startswith(("cmssl", "shape_aware")):
            continue  # the edge of the image is where it was
        cut = SoftPair.of(p[:, :3], y[:, :3])
        assert loss_of(text)(SoftPair.of(p, y, valid=valid)) == pytest.approx(loss_of(text)(cut), rel=1e-14), text


@pytest.mark.parametrize("text", [t for t in VARIANTS if t.startswith(("cmssl", "shape_aware"))])
def test_what_is_ignored_does_not_matter(text: str) -> None:
    """Whatever stands in ignored voxels, value and gradient are the same."""
    rng = np.random.default_rng(4)
    p, y, valid = rng.uniform(size=(6, 7)), rng.choice([0.0, 1.0], (6, 7)), rng.uniform(size=(6, 7)) < 0.7
    one, two = (
        SoftPair.of(p, y, valid=valid),
        SoftPair.of(np.where(valid, p, 0.99), np.where(valid, y, 1.0), valid=valid),
    )
    assert loss_of(text)(one) == loss_of(text)(two)
    assert (loss_of(text).gradient(one, "p") == loss_of(text).gradient(two, "p")).all()
    flat = SoftPair.of(np.full((6, 7), 0.75), np.zeros((6, 7)), valid=valid)
    if text.startswith("cmssl"):
        assert value_of(text, flat) < 1e-6  # an ignored neighbour is no structure


def test_an_axis_of_one_voxel_has_no_edge() -> None:
    """A slice has the same value as an image and as a volume one voxel thick."""
    rng = np.random.default_rng(6)
    p, y = rng.uniform(size=(6, 7)), rng.choice([0.0, 1.0], (6, 7))
    for text in VARIANTS:
        assert value_of(text, SoftPair.of(p[None], y[None])) == pytest.approx(
            value_of(text, SoftPair.of(p, y)), rel=1e-12
        )


# --- what the docstrings state ----------------------------------------------------------------


@given(fields())
@drawn
def test_identities(field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """Relations that the docstrings state hold."""
    p, y, spacing = field
    pair = SoftPair.of(p, y, spacing=spacing)

    def value(text: str) -> float:
        return value_of(text, pair)

    assert value("topk:k=1") == pytest.approx(value("bce"), rel=1e-12)
    assert value("topk") >= value("bce") - 1e-12
    assert value("poly1:eps=0.3") == pytest.approx(value("bce") + 0.3 * value("mae"), rel=1e-12)
    assert value("shape_aware:region=mismatch") <= value("shape_aware") + 1e-12
    assert value("penalty_gdice:k=0") == value("generalized_dice")
    assert value("asymmetric:beta=1:smooth=1") == pytest.approx(value("dice:smooth=2"), rel=1e-12)
    assert value("noise_robust_dice:gamma=2") == pytest.approx(value("dice_squared"), rel=1e-12)
    assert value("dice_focal:gamma=0") == pytest.approx(value("bce_dice"), rel=1e-12)
    assert value("gdice_focal") == pytest.approx(value("generalized_dice") + value("focal:alpha=none"), rel=1e-12)
    assert value("focal_plus_tversky") == pytest.approx(value("focal") + value("tversky"), rel=1e-12)
    assert value("unified_focal:mix=1:gamma=0:delta=0.5") == pytest.approx(value("bce") / 2, rel=1e-12)
    assert value("unified_focal:mix=1:reduce=mean") == pytest.approx(value("unified_focal:mix=1") / 2, rel=1e-12)
    other = SoftPair.of(1 - p, 1 - y, spacing=spacing)
    assert value("mcc:smooth=0") == pytest.approx(value_of("mcc:smooth=0", other), rel=1e-9)
    if y.any():
        assert value("iou_inverted") == pytest.approx(value("iou") - 1, rel=1e-12)
    else:
        assert value("iou_inverted") == pytest.approx(value_of("iou", other) - 1, rel=1e-12)


@given(fields())
@drawn
def test_identities_of_hard_masks(field: tuple[Array, Array, tuple[float, ...]]) -> None:
    """On hard masks the Lovász extension is the IoU loss, and MCC is the metric's complement."""
    p, y, _ = field
    pred = np.round(p)
    pair = SoftPair.of(pred, y)
    if y.any() or pred.any():
        assert value_of("lovasz", pair) == pytest.approx(value_of("iou:smooth=0", pair), rel=1e-12, abs=1e-15)
    tp, fp, fn = ((pred * y).sum(), (pred * (1 - y)).sum(), ((1 - pred) * y).sum())
    tn = y.size - tp - fp - fn
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected = 1 - (tp * tn - fp * fn) / math.sqrt(product) if product else 1.0
    assert value_of("mcc:smooth=0", pair) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_empty_truth() -> None:
    """An empty gt: mcc is 1 for any prediction, lovasz the largest probability, absent classes weigh nothing."""
    y = np.zeros((8, 8))
    little = SoftPair.of(np.full_like(y, 0.01), y)
    assert value_of("mcc", little) == value_of("mcc", SoftPair.of(y, y)) == 1
    assert not loss_of("mcc").gradient(little, "p").any()
    assert value_of("lovasz", little) == pytest.approx(0.01)
    assert value_of("iou_inverted:smooth=0", little) == pytest.approx(-0.99)
    assert value_of("iou_inverted", SoftPair.of(y, y)) == -1
    assert value_of("sens_spec:smooth=0", little) == pytest.approx(0.95 * 1e-4)
    assert value_of("generalized_dice:smooth=0", little) < 0.01
    assert value_of("shape_aware", little) == value_of("distance_map", little) == value_of("bce", little)


def test_smooth_pulls_generalized_dice_down() -> None:
    """For an object of 60000 voxels the default smooth is not small: a loss of one third reads a quarter."""
    y = np.zeros((400, 300))
    y[:200] = 1
    pair = SoftPair.of(np.roll(y, 67, axis=0), y)
    exact, smoothed = value_of("generalized_dice:smooth=0", pair), value_of("generalized_dice", pair)
    assert exact == pytest.approx(67 / 200, rel=1e-9)
    assert smoothed < 0.9 * exact


@pytest.mark.parametrize(
    "text",
    [
        "distance_map:phi=log", "distance_map:sigma=0", "shape_aware:region=both", "shape_aware:unit=cm", "cmssl:c4=0",
        "cmssl:beta=1", "cmssl:radius=0", "cmssl:radius=1.5", "cmssl:pad=zero", "topk:k=0", "topk:k=1.1",
        "poly1:eps=-2",
        "generalized_dice:absent=one", "penalty_gdice:k=-1", "sens_spec:r=2", "sens_spec_linear:w=-1",
        "asymmetric:beta=-1", "noise_robust_dice:gamma=0.5", "noise_robust_dice:gamma=3", "iou_inverted:smooth=-1",
        "mcc:smooth=-1", "lovasz_hinge:clip=0", "bce_logdice:smooth=0", "explog:gamma=0", "explog:w_ce=-1",
        "dice_focal:w_focal=-1", "gdice_focal:absent=no", "focal_plus_tversky:fp=-1", "unified_focal:gamma=1",
        "unified_focal:delta=2", "unified_focal:form=both", "unified_focal:reduce=max",
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
        "mse": "brier", "l1": "mae", "ohem": "topk", "gdl": "generalized_dice", "brosch": "sens_spec",
        "lovasz_loss": "lovasz", "asymmetric_fbeta": "asymmetric", "poly1_ce": "poly1", "exp_log": "explog",
    }  # fmt: skip
    for alias, name in names.items():
        assert find(alias, "loss").name == name
