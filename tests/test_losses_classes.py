"""Losses over all classes against other libraries, autograd, finite differences and their own maps."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import types
from typing import Any

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize

import segcli
from segcli.errors import UsageError
from segcli.evidence.classes import SoftClasses
from segcli.evidence.pooled import PooledClasses
from segcli.evidence.soft import SoftPair
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, find

Array = NDArray[np.float64]

few = settings(max_examples=20)

#: Each loss with its defaults and with parameters that change its form; list parameters are for three classes.
VARIANTS = [
    "categorical_ce", "categorical_ce:label_smoothing=0.2", "categorical_ce:weights=balanced",
    "categorical_ce:weights=0.1/0.6/2", "categorical_ce:weights=0/1/3:label_smoothing=0.3", "categorical_focal",
    "categorical_focal:gamma=0", "categorical_focal:gamma=0.5:label_smoothing=0.1",
    "categorical_focal:gamma=3:alpha=0.2/1/0.7", "lovasz_softmax", "lovasz_softmax:classes=all", "gwdl",
    "gwdl:weighting=gdl:smooth=0", "gwdl:distances=ordinal", "gwdl:distances=3/1/0.5:weighting=gdl", "dice_ce",
    "generalized_dice_softmax", "generalized_dice_softmax:absent=largest:smooth=0",
    "generalized_dice_softmax:weighting=simple:smooth=1", "generalized_dice_softmax:weighting=uniform",
    "dice_ce:weights=balanced:w_dice=0.5", "dice_ce:weights=0/1/3:smooth=1",
    "dice_ce:background=exclude:smooth=0:w_dice=0.3:w_ce=2",
]  # fmt: skip
each_variant = pytest.mark.parametrize("text", VARIANTS)


def loss_of(text: str) -> BoundMeasure:
    """Return the loss that `text` names."""
    return bind(text, "loss")


def softmax(z: Array) -> Array:
    """Return the softmax over the first axis without overflow."""
    rest = np.exp(z - z.max(axis=0))
    return rest / rest.sum(axis=0)


def one_hot(label: NDArray[np.int64], count: int) -> Array:
    """Return a label map as one grid for each class."""
    return (label == np.arange(count).reshape(-1, *[1] * label.ndim)).astype(np.float64)


# --- recorded values (not part of the repository; those of libraries are in test_loss_libraries) ---


@pytest.mark.skipif(
    not (SHARED / "golden" / "golden_losses.json").is_file(),
    reason=f"the recorded values are not at {SHARED} (set SEGCLI_SHARED)",
)
def test_recorded_focal() -> None:
    """Focal is the voxel mean of a formula recorded by itself, in value and gradient by p."""
    results = json.loads((SHARED / "golden" / "golden_losses.json").read_text())["results"]
    (record,) = [r for r in results if (r["input"], r["lib"], r["loss"]) == ("multi4", "ref", "focal_voxelmean")]
    with np.load(SHARED / "golden" / "golden_inputs.npz") as stored:
        classes = SoftClasses.of(stored["multi4.p"], one_hot(stored["multi4.y"], 4))
    bound = loss_of("categorical_focal")
    assert bound(classes) == pytest.approx(record["value"], rel=1e-12, abs=0)
    slope = bound.gradient(classes, "p")
    # that formula knows of no sum of the probabilities: the slope by it is the other classes'
    slope = slope - slope.sum(axis=0, where=classes.y == 0) / (classes.count - 1)
    found, noted = slope.reshape(-1), record["grad"]
    close = {"rel": 1e-9, "abs": 1e-9 * noted["l1"]}
    assert float(abs(found).sum()) == pytest.approx(noted["l1"], **close)
    assert float(found.sum()) == pytest.approx(noted["sum"], **close)
    assert float(np.linalg.norm(found)) == pytest.approx(noted["l2"], **close)
    assert found[noted["idx"]] == pytest.approx(np.array(noted["at"]), **close)


# --- drawn inputs -----------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 5), (3, 4), (2, 3, 2)]


class Field:
    """Logits (multiples of 1/4: exact in float32) and a label map, some classes of which may be missing."""

    def __init__(self, z: Array, label: NDArray[np.int64]) -> None:
        self.z, self.label = z, label
        self.count = len(z)
        self.y = one_hot(label, self.count)
        self.p = softmax(z)

    @property
    def exact(self) -> SoftClasses:
        return SoftClasses.of(self.p, self.y, z=self.z)

    @property
    def plain(self) -> SoftClasses:
        return SoftClasses.of(self.p, self.y)

    def batch(self, *, precise: bool = True) -> tuple[Any, Any]:
        """Return logits (1, C, ...) and labels (1, ...) as torch tensors."""
        torch = pytest.importorskip("torch")
        z = torch.tensor(self.z[np.newaxis], dtype=torch.float64 if precise else torch.float32)
        return z, torch.tensor(self.label[np.newaxis])


@st.composite
def fields(draw: st.DrawFn, *, count: int = 0, planar: bool = False) -> Field:
    """Draw logits and labels of 2 to 5 classes."""
    count = count or draw(st.integers(2, 5))
    form = draw(st.sampled_from([s for s in SHAPES if len(s) == 2] if planar else SHAPES))
    z = draw(arrays(np.float64, (count, *form), elements=st.integers(-16, 16).map(lambda k: k / 4)))
    label = draw(arrays(np.int64, form, elements=st.integers(0, draw(st.integers(0, count - 1)))))
    return Field(z, label)


def samples(*, soft: bool = False) -> list[SoftClasses]:
    """Return fixed inputs of three classes: 2-D and 3-D, a class missing, one class only, logits or none."""
    rng = np.random.default_rng(7)
    found = []
    for form in SHAPES[1:]:
        for last in (3, 2, 1):
            z = rng.normal(size=(3, *form)) * 2
            label = rng.integers(0, last, form)
            y = softmax(rng.normal(size=(3, *form))) if soft else one_hot(label, 3)
            found += [SoftClasses.of(softmax(z), y), SoftClasses.of(softmax(z), y, z=z)]
    return found


# --- live agreement ---------------------------------------------------------------------------


@given(fields(), st.integers(0, 9), st.data())
@few
def test_torch(field: Field, tenths: int, data: st.DataObject) -> None:
    """Cross-entropy equals torch's: weighed, smoothed, with ignored voxels, of a soft gt, and with logits of 800."""
    torch = pytest.importorskip("torch")
    cross = torch.nn.functional.cross_entropy
    z, label = field.batch()
    weights = data.draw(st.lists(st.integers(1, 8), min_size=field.count, max_size=field.count))
    text = f"categorical_ce:weights={'/'.join(map(str, weights))}:label_smoothing={tenths / 10}"
    close = {"rel": 1e-12, "abs": 1e-15}
    tensors = {"weight": torch.tensor(weights, dtype=torch.float64), "label_smoothing": tenths / 10}
    expected = cross(z.requires_grad_(), label, **tensors)
    (slope,) = torch.autograd.grad(expected, z)
    expected, z = expected.detach(), z.detach()
    assert loss_of(text)(field.exact) == pytest.approx(expected.item(), **close)
    assert loss_of(text)(field.plain) == pytest.approx(expected.item(), rel=1e-9)
    for classes in (field.exact, field.plain):
        found = loss_of(text).gradient(classes, "z").reshape(slope[0].shape)
        assert found == pytest.approx(slope[0].numpy(), rel=1e-9, abs=1e-12)
    # ignored voxels
    hidden = data.draw(arrays(np.bool_, field.label.shape))
    if not hidden.all():
        expected = cross(z, torch.where(torch.tensor(hidden), -100, label), **tensors)
        classes = SoftClasses.of(field.p, field.y, z=field.z, valid=~hidden)
        assert loss_of(text)(classes) == pytest.approx(expected.item(), **close)
    # a soft gt: torch divides by the number of voxels
    soft = softmax(field.z[::-1] / 2)
    expected = cross(z, torch.tensor(soft[np.newaxis]), label_smoothing=tenths / 10)
    classes = SoftClasses.of(field.p, soft, z=field.z)
    assert loss_of(f"categorical_ce:label_smoothing={tenths / 10}")(classes) == pytest.approx(expected.item(), **close)
    weighed = loss_of(f"categorical_ce:weights={'/'.join(map(str, weights))}")(classes)
    assert weighed is not None
    expected = cross(z, torch.tensor(soft[np.newaxis]), weight=tensors["weight"])
    share = np.tensordot(weights, soft, 1).mean()
    assert weighed * share == pytest.approx(expected.item(), **close)
    # saturated
    far = Field(np.sign(field.z) * 800, field.label)
    expected = cross(torch.tensor(far.z[np.newaxis]), label, **tensors)
    assert loss_of(text)(far.exact) == pytest.approx(expected.item(), **close)


@given(fields(), st.sampled_from(["uniform", "ordinal", "own"]), st.sampled_from(["default", "gdl"]), st.data())
@few
def test_monai_gwdl(field: Field, distances: str, weighting: str, data: st.DataObject) -> None:
    """The generalised Wasserstein Dice loss equals MONAI's for any matrix, which it divides by its largest entry."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    size = field.count * (field.count - 1) // 2
    number = np.arange(field.count)
    matrix = {"uniform": 1.0 * (number[:, None] != number), "ordinal": 1.0 * abs(number[:, None] - number)}.get(
        distances
    )
    if matrix is None:
        drawn = data.draw(st.lists(st.integers(0, 8), min_size=size, max_size=size).filter(any))
        distances, matrix = "/".join(map(str, drawn)), np.zeros((field.count, field.count))
        matrix[np.triu_indices(field.count, 1)] = drawn
        matrix += matrix.T
    z, label = field.batch()
    peer = monai.GeneralizedWassersteinDiceLoss(matrix, weighting_mode={"gdl": "GDL"}.get(weighting, weighting))
    expected = peer(z.requires_grad_(), label)
    (slope,) = torch.autograd.grad(expected, z)
    bound = loss_of(f"gwdl:distances={distances}:weighting={weighting}")
    # MONAI keeps its weights in float32
    close = {"rel": 1e-9, "abs": 1e-12} if weighting == "default" else {"rel": 1e-6, "abs": 1e-7}
    assert bound(field.plain) == pytest.approx(expected.item(), **close)
    assert bound.gradient(field.exact, "z").reshape(slope[0].shape) == pytest.approx(slope[0].numpy(), **close)


@given(fields(), st.sampled_from(["square", "simple", "uniform"]), st.integers(0, 8))
@few
def test_monai_generalized_dice(field: Field, weighting: str, quarters: int) -> None:
    """The generalized Dice loss equals MONAI's, whose weights are float32; absent classes weigh as the largest."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    z, _ = field.batch()
    smooth = quarters / 4
    peer = monai.GeneralizedDiceLoss(softmax=True, w_type=weighting, smooth_nr=smooth, smooth_dr=smooth)
    expected = peer(z.requires_grad_(), torch.tensor(field.y[np.newaxis]))
    (slope,) = torch.autograd.grad(expected, z)
    bound = loss_of(f"generalized_dice_softmax:weighting={weighting}:smooth={smooth}:absent=largest")
    assert bound(field.exact) == pytest.approx(expected.item(), rel=1e-6, abs=1e-7)
    found = bound.gradient(field.exact, "z").reshape(slope[0].shape)
    assert found == pytest.approx(slope[0].numpy(), rel=1e-6, abs=1e-7)


@given(fields(), st.data())
@few
def test_monai_weights(field: Field, data: st.DataObject) -> None:
    """The weights are those of MONAI's cross-entropy, and do not touch the Dice term as MONAI's do."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    z, label = field.batch()
    weights = data.draw(st.lists(st.integers(1, 8), min_size=field.count, max_size=field.count))
    peer = monai.DiceCELoss(
        softmax=True, to_onehot_y=True, lambda_dice=0, weight=torch.tensor(weights, dtype=torch.float64)
    )
    text = f"dice_ce:weights={'/'.join(map(str, weights))}"
    expected = peer(z, label[:, np.newaxis]).item()
    assert loss_of(f"{text}:w_dice=0")(field.exact) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    both, dice = loss_of(text)(field.exact), loss_of("dice_ce:w_ce=0")(field.exact)
    assert both == pytest.approx(expected + (dice or 0.0), rel=1e-9, abs=1e-12)


@given(fields(), st.booleans(), st.integers(0, 8), st.integers(0, 8))
@few
def test_monai_dice_ce(field: Field, background: bool, w_dice: int, w_ce: int) -> None:
    """Dice with cross-entropy equals MONAI's, with and without the background."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    z, label = field.batch()
    peer = monai.DiceCELoss(
        softmax=True, to_onehot_y=True, include_background=background, lambda_dice=w_dice, lambda_ce=w_ce
    )
    expected = peer(z.requires_grad_(), label[:, np.newaxis])
    (slope,) = torch.autograd.grad(expected, z)
    bound = loss_of(f"dice_ce:background={'include' if background else 'exclude'}:w_dice={w_dice}:w_ce={w_ce}")
    assert bound(field.exact) == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    assert bound.gradient(field.exact, "z").reshape(slope[0].shape) == pytest.approx(
        slope[0].numpy(), rel=1e-8, abs=1e-10
    )


@given(fields(), st.sampled_from([0.0, 0.5, 2.0, 3.0]))
@few
def test_focal_peers(field: Field, gamma: float) -> None:
    """MONAI and kornia print focal divided by the number of classes; MONAI works in float32."""
    monai, kornia = pytest.importorskip("monai.losses"), pytest.importorskip("kornia.losses")
    z, label = field.batch()
    ours = loss_of(f"categorical_focal:gamma={gamma}")(field.exact)
    assert ours is not None
    hot = pytest.importorskip("torch").tensor(field.y[np.newaxis])
    expected = monai.FocalLoss(use_softmax=True, gamma=gamma)(z, hot)
    assert ours / field.count == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
    expected = kornia.focal_loss(z, label, alpha=None, gamma=gamma, reduction="mean")
    assert ours / field.count == pytest.approx(expected.item(), rel=1e-9, abs=1e-15)


@given(fields(), st.sampled_from([0.5, 2.0]), st.integers(0, 9))
@few
def test_keras(field: Field, gamma: float, tenths: int) -> None:
    """On probabilities that do not sum to 1 cross-entropy and focal are Keras's, which works in float32."""
    torch, keras = pytest.importorskip("torch"), keras_on_torch()
    p = np.clip(field.p, 1e-4, 1) * np.linspace(0.5, 2, field.label.size).reshape(field.label.shape)
    classes = SoftClasses.of(p, field.y)
    given_to = [torch.tensor(np.moveaxis(m, 0, -1), dtype=torch.float32) for m in (field.y, p)]
    peer = keras.losses.CategoricalCrossentropy(label_smoothing=tenths / 10)
    ours = loss_of(f"categorical_ce:label_smoothing={tenths / 10}")(classes)
    assert ours == pytest.approx(float(peer(*given_to)), rel=1e-5, abs=1e-6)
    focal = keras.losses.CategoricalFocalCrossentropy(alpha=0.25, gamma=gamma, label_smoothing=tenths / 10)
    alpha = "/".join(["0.25"] * field.count)
    ours = loss_of(f"categorical_focal:alpha={alpha}:gamma={gamma}:label_smoothing={tenths / 10}")(classes)
    assert ours == pytest.approx(float(focal(*given_to)), rel=1e-5, abs=1e-6)


@given(fields(planar=True))
@few
def test_lovasz_peers(field: Field) -> None:
    """Kornia counts all classes, SMP those that the gt has (in float32)."""
    kornia, smp = pytest.importorskip("kornia.losses"), smp_losses()
    expected = float(kornia.lovasz_softmax_loss(*field.batch()))
    assert loss_of("lovasz_softmax:classes=all")(field.plain) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = float(smp.LovaszLoss("multiclass")(*field.batch(precise=False)))
    assert loss_of("lovasz_softmax")(field.plain) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(fields(), st.integers(0, 9))
@few
def test_smp_cross_entropy(field: Field, tenths: int) -> None:
    """SMP's soft cross-entropy is label smoothing by another name."""
    expected = float(smp_losses().SoftCrossEntropyLoss(smooth_factor=tenths / 10)(*field.batch()))
    ours = loss_of(f"categorical_ce:label_smoothing={tenths / 10}")(field.exact)
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12)


def keras_on_torch() -> Any:
    """Return Keras with torch as its backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        return pytest.importorskip("keras")


def smp_losses() -> Any:
    """Return the losses of segmentation-models-pytorch alone: its models need packages that they do not."""
    name = "segmentation_models_pytorch"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            pytest.skip(f"{name} is not installed")
        bare = types.ModuleType(name)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = bare
    return pytest.importorskip(f"{name}.losses")


# --- gradients --------------------------------------------------------------------------------


def written_out(bound: BoundMeasure, p: Any, y: Any) -> Any:
    """Return a loss in torch, written from the formulas of the literature; the Lovász losses by Berman's."""
    torch = pytest.importorskip("torch")
    k, count = bound.params, len(p)
    s = k.get("label_smoothing", 0.0)
    smoothed = y * (1 - s) + s / count
    seen = p / p.sum(0)
    if bound.measure.name in ("categorical_ce", "dice_ce"):
        given_as = k.get("weights", "none")
        sizes = y.sum(1)
        w = torch.ones(count) if given_as == "none" else torch.where(sizes > 0, 1 / sizes.clamp(1e-9), 0 * sizes)
        w = w.double() if isinstance(given_as, str) else torch.tensor(given_as, dtype=p.dtype)
        cross = -(w[:, None] * smoothed * seen.log()).sum() / (w[:, None] * y).sum()
        if bound.measure.name == "categorical_ce":
            return cross
        inner = slice(0 if k["background"] == "include" else 1, count)
        dice = (2 * (p * y).sum(1) + k["smooth"]) / (p.sum(1) + y.sum(1) + k["smooth"])
        if k["smooth"] == 0:
            dice = torch.where(p.sum(1) + y.sum(1) > 0, dice, torch.ones_like(dice))
        return k["w_dice"] * (1 - dice[inner]).mean() + k["w_ce"] * cross
    if bound.measure.name == "categorical_focal":
        alpha = torch.ones(count).double() if k["alpha"] == "none" else torch.tensor(k["alpha"], dtype=p.dtype)
        return -(alpha[:, None] * smoothed * (1 - seen) ** k["gamma"] * seen.log()).sum(0).mean()
    if bound.measure.name == "gwdl":
        number = torch.arange(count).double()
        m = (number[:, None] - number).abs()
        m = m / m.max() if k["distances"] == "ordinal" else (m > 0).double()
        if not isinstance(k["distances"], str):
            a, b, c = k["distances"]
            m = torch.tensor([[0, a, b], [a, 0, c], [b, c, 0]], dtype=p.dtype) / max(a, b, c)
        delta = m @ p  # of each class, had it been the right one
        alpha = 1 / (y.sum(1) + 1) if k["weighting"] == "gdl" else (number > 0).double()
        overlap = (alpha[:, None] * y * (1 - delta)).sum()
        error = ((alpha[:, None] if k["weighting"] == "gdl" else 1) * y * delta).sum()
        return 1 - (2 * overlap + k["smooth"]) / (2 * overlap + error + k["smooth"])
    if bound.measure.name == "generalized_dice_softmax":
        sizes = y.sum(1)
        w = sizes ** {"square": -2.0, "simple": -1.0, "uniform": 0.0}[k["weighting"]]
        w = torch.where(sizes > 0, w, torch.zeros_like(w))
        w = torch.where(sizes > 0, w, w.max() * (k["absent"] == "largest"))
        s = k["smooth"]
        return 1 - (2 * (w * (p * y).sum(1)).sum() + s) / ((w * (p.sum(1) + sizes)).sum() + s)
    terms = []
    for c in range(count):
        if k["classes"] == "all" or float(y[c].sum()) > 0:
            errors, order = (p[c] - y[c]).abs().sort(descending=True)
            truth = y[c][order]
            jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
            terms.append((errors * jaccard.diff(prepend=0 * jaccard[:1])).sum())
    return sum(terms) / len(terms)


@each_variant
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_autograd(text: str, soft: bool) -> None:
    """Value and gradient, by p and by the logits, are those of the formula written in torch."""
    torch = pytest.importorskip("torch")
    bound = loss_of(text)
    for classes in samples(soft=soft):
        if "_ce:weights=0/" in text and not classes.sizes[1:].any():
            continue  # no voxel has weight: see test_no_weight
        y = torch.tensor(classes.y)
        p = torch.tensor(classes.p, requires_grad=True)
        z = torch.tensor(np.log(classes.p) if classes.z is None else classes.z, requires_grad=True)
        value = written_out(bound, p, y)
        assert bound(classes) == pytest.approx(value.item(), rel=1e-12, abs=1e-15)
        slopes = {
            "p": torch.autograd.grad(value, p)[0].numpy(),
            "z": torch.autograd.grad(written_out(bound, z.softmax(0), y), z)[0].numpy(),
        }
        for wrt, slope in slopes.items():
            found = bound.gradient(classes, wrt)
            assert found == pytest.approx(slope, rel=1e-9, abs=1e-12 * max(1, abs(slope).max())), wrt


@each_variant
def test_finite_differences(text: str) -> None:
    """The gradient is what the loss itself does when one probability, or one logit, moves."""
    bound, step = loss_of(text), 1e-6
    for classes in samples()[4:8]:
        z = np.log(classes.p) if classes.z is None else classes.z
        for wrt in ("p", "z"):
            start = classes.p if wrt == "p" else z
            found = bound.gradient(classes, wrt)

            def at(moved: Array, wrt: str = wrt, classes: SoftClasses = classes) -> float:
                p, y = moved if wrt == "p" else softmax(moved), classes.grid(classes.y)
                logits = classes.grid(moved) if wrt == "z" and classes.z is not None else None
                value = bound(SoftClasses.of(classes.grid(p), y, z=logits))
                return math.nan if value is None else value

            if math.isnan(at(start)):
                continue
            for index in [(0, 0), (1, 2), (2, classes.n - 1)]:
                up, down = start.copy(), start.copy()
                up[index] += step
                down[index] -= step
                assert found[index] == pytest.approx((at(up) - at(down)) / (2 * step), rel=1e-4, abs=1e-7), wrt


def test_exact_slopes_by_logits() -> None:
    """By logits the slope of cross-entropy is p-y, divided by the number of voxels, however far they are out."""
    for scale in (1, 50, 800):
        z = scale * np.array([[[1.0, -1.0, 0.0]], [[-1.0, 1.0, 0.0]], [[-1.0, -1.0, 1.0]]])
        classes = SoftClasses.of(softmax(z), one_hot(np.array([[0, 0, 2]]), 3), z=z)
        found = loss_of("categorical_ce").gradient(classes, "z")
        assert found == pytest.approx((classes.p - classes.y) / 3, rel=1e-12, abs=1e-300)
        assert loss_of("categorical_ce")(classes) == pytest.approx(-classes.logs(0.1).log_p[classes.y == 1].mean())
    assert loss_of("categorical_ce")(classes) == pytest.approx(1600 / 3, rel=1e-12)


# --- maps -------------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_map_adds_up(text: str, soft: bool) -> None:
    """A map has one number for each voxel; they add up to the loss, and to 0 where it has no value."""
    bound = loss_of(text)
    for classes in samples(soft=soft):
        found = bound.voxel_map(classes)
        assert found.shape == (classes.n,)
        assert found.sum() == pytest.approx(bound(classes) or 0.0, rel=1e-12, abs=1e-15)


@each_variant
def test_map_of_a_right_voxel(text: str) -> None:
    """A voxel that is as right as can be adds nothing, up to the clip and to what label smoothing asks."""
    if "label_smoothing" in text:
        return
    p = np.array([[[1.0, 0.25, 0.0, 0.5]], [[0.0, 0.5, 1.0, 0.25]], [[0.0, 0.25, 0.0, 0.25]]])
    found = loss_of(text).voxel_map(SoftClasses.of(p, one_hot(np.array([[0, 1, 1, 2]]), 3)))
    assert abs(found[[0, 2]]).max() < 1e-6
    assert (found[[1, 3]] > 0.01).all()


# --- the least value --------------------------------------------------------------------------

SMOOTHED = [v for v in VARIANTS if "label_smoothing" in v] + [
    "categorical_ce:weights=2/1/0.5:label_smoothing=0.1", "categorical_focal:gamma=2:label_smoothing=0.3",
    "categorical_focal:gamma=1:label_smoothing=0.05:alpha=1/0/3", "categorical_focal:gamma=100:label_smoothing=0.5",
]  # fmt: skip


@pytest.mark.parametrize("text", SMOOTHED)
def test_ideal(text: str) -> None:
    """What a loss calls the best prediction is where a minimiser finds it, and its slope by the logits is 0 there."""
    bound = loss_of(text)
    classes = SoftClasses.of(np.full((3, 1, 3), 1 / 3), one_hot(np.array([[0, 1, 2]]), 3))
    best = bound.perfect(classes)
    assert best.p.sum(axis=0) == pytest.approx(np.ones(3))
    least = bound(best)
    assert least is not None

    def at(z: Array) -> float:
        return bound(SoftClasses.of(softmax(z.reshape(3, 1, 3)), classes.grid(classes.y))) or 0.0

    found = min(minimize(at, start, method="BFGS").fun for start in (np.zeros(9), 2 * classes.y.reshape(-1)))
    assert least <= found + 1e-9
    assert least == pytest.approx(found, rel=1e-4, abs=1e-6)
    inside = (best.p > 1e-6).all()
    assert not inside or abs(bound.gradient(best, "z")).max() < 1e-9


def test_ideal_of_a_soft_gt() -> None:
    """Against a soft gt weighed cross-entropy is least at the weighed gt."""
    y = np.array([[[0.25, 1.0]], [[0.5, 0.0]], [[0.25, 0.0]]])
    best = loss_of("categorical_ce:weights=2/1/0").perfect(SoftClasses.of(y, y))
    assert best.p == pytest.approx(np.array([[0.5, 1.0], [0.5, 0.0], [0.0, 0.0]]))


# --- edges ------------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize("logits", [False, True], ids=["probabilities", "logits"])
def test_saturated(text: str, logits: bool) -> None:
    """Probabilities of exactly 0 and 1, right and wrong, and logits of 800 give finite numbers."""
    bound = loss_of(text)
    z = np.array([[[800.0, -800.0, 800.0]], [[-800.0, 800.0, 800.0]], [[-800.0, 0.0, -800.0]]])
    for label in ([0, 0, 1], [0, 1, 0], [2, 2, 2]):
        classes = SoftClasses.of(softmax(z), one_hot(np.array([label]), 3), z=z if logits else None)
        value = bound(classes)
        assert value is not None
        assert math.isfinite(value)
        assert bound.measure.range[0] - 1e-12 <= value <= bound.measure.range[1] + 1e-12
        for wrt in ("p", "z"):
            slope = bound.gradient(classes, wrt)
            assert np.isfinite(slope).all()
            assert math.isfinite(float((slope * slope).sum()))
        assert np.isfinite(bound.voxel_map(classes)).all()
        least = bound(bound.perfect(classes))
        assert least is not None
        assert math.isfinite(least)
        assert least <= value + 1e-12


def test_clip() -> None:
    """A certain miss costs -ln(clip) and has no slope; from logits it costs what it is."""
    z = np.array([[[800.0]], [[0.0]], [[-800.0]]])
    y = one_hot(np.array([[1]]), 3)
    for clip in (1e-7, 1e-3):
        bound = loss_of(f"categorical_ce:clip={clip}")
        assert bound(SoftClasses.of(softmax(z), y)) == pytest.approx(-math.log(clip), rel=1e-12)
        assert not bound.gradient(SoftClasses.of(softmax(z), y), "p").any()
        assert bound(SoftClasses.of(softmax(z), y, z=z)) == 800


def test_logs_keep_their_digits() -> None:
    """From logits the logarithm of a probability next to 1 is -sum of the others, not 0."""
    z = np.array([[[50.0]], [[0.0]], [[0.0]]])
    logs = SoftClasses.of(softmax(z), softmax(z), z=z).logs(1e-7)
    assert logs.log_p[0, 0] == pytest.approx(-2 * math.exp(-50), rel=1e-12)
    assert logs.q[0, 0] == pytest.approx(2 * math.exp(-50), rel=1e-12)


@each_variant
def test_ignored_voxels(text: str) -> None:
    """Ignored voxels are as if they were not there, and have no slope."""
    bound = loss_of(text)
    rng = np.random.default_rng(3)
    p, y = softmax(rng.normal(size=(3, 4, 5))), one_hot(rng.integers(0, 3, (4, 5)), 3)
    valid = rng.random((4, 5)) > 0.4
    whole = SoftClasses.of(p, y, valid=valid)
    alone = SoftClasses.of(p[:, valid][:, np.newaxis], y[:, valid][:, np.newaxis])
    assert bound(whole) == bound(alone)
    assert (bound.gradient(whole, "p") == bound.gradient(alone, "p")).all()
    assert not whole.grid(bound.gradient(whole, "p"))[:, ~valid].any()


@each_variant
def test_nothing_to_read(text: str) -> None:
    """Without a voxel a mean has no value, and nothing has a slope."""
    bound = loss_of(text)
    classes = SoftClasses.of(np.ones((3, 2, 2)) / 3, np.ones((3, 2, 2)) / 3, valid=np.zeros((2, 2), dtype=bool))
    mean = bound.measure.name in ("categorical_ce", "categorical_focal", "dice_ce")
    assert bound(classes) == (None if mean else 0.0)
    assert bound.gradient(classes, "p").shape == bound.gradient(classes, "z").shape == (3, 0)
    assert bound.voxel_map(classes).shape == (0,)


@each_variant
def test_pooled(text: str) -> None:
    """The voxels of several images pooled are those of one image."""
    bound = loss_of(text)
    rng = np.random.default_rng(4)
    p, y = softmax(rng.normal(size=(3, 4, 6))), one_hot(rng.integers(0, 3, (4, 6)), 3)
    pooled = PooledClasses([SoftClasses.of(p[:, part], y[:, part]) for part in (slice(0, 1), slice(1, 4))])
    assert bound(pooled) == pytest.approx(bound(SoftClasses.of(p, y)), rel=1e-12)
    assert bound(bound.perfect(pooled)) == pytest.approx(
        bound(bound.perfect(SoftClasses.of(p, y))), rel=1e-12, abs=1e-15
    )


def test_no_weight() -> None:
    """Where no voxel has a class with weight the weighted mean has no value; torch divides 0 by 0."""
    classes = SoftClasses.of(np.full((2, 1, 2), 0.5), one_hot(np.array([[0, 0]]), 2))
    for text in ("categorical_ce:weights=0/1:label_smoothing=0.2", "dice_ce:weights=0/1"):
        bound = loss_of(text)
        assert bound(classes) is None
        assert not bound.gradient(classes, "p").any()
        assert not bound.voxel_map(classes).any()


@pytest.mark.parametrize("weighting", ["square", "simple"])
def test_trace_of_a_class(weighting: str) -> None:
    """A class with so little of a soft gt that 1/volume^2 is no number counts as absent."""
    p = np.array([[[0.5, 0.25]], [[0.5, 0.25]], [[0.0, 0.5]]])
    found = []
    for trace in (0.0, 1e-300, 1e-160):
        classes = SoftClasses.of(p, np.array([[[1.0, 1.0]], [[trace, 0.0]], [[0.0, 0.0]]]))
        bound = loss_of(f"generalized_dice_softmax:smooth=0:weighting={weighting}")
        assert np.isfinite(bound.gradient(classes, "p")).all()
        found.append(bound(classes))
    # the background alone: error 1/2 + 3/4 of a size of 3/4 + 2
    assert found == pytest.approx([5 / 11] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("categorical_ce:weights=1/2", "categorical_ce: weights has 2 entries; there are 3 classes.", "a/b/c"),
        ("dice_ce:weights=1/2", "dice_ce: weights has 2 entries; there are 3 classes.", "a/b/c"),
        ("categorical_focal:alpha=0.25", "categorical_focal: alpha has 1 entry; there are 3 classes.", "a/b/c"),
        ("gwdl:distances=1/2/3/4", "gwdl: distances has 4 entries; 3 classes have 3 distances.", "a-b/a-c/b-c"),
        ("gwdl:distances=0/0/0", "gwdl: distances are all 0: no two classes differ.", "above 0"),
    ],
)
def test_wrong_lists(text: str, said: str, hint: str) -> None:
    """A list of the wrong length is refused with both numbers and the order that is meant."""
    classes = SoftClasses.of(np.full((3, 1, 2), 1 / 3), one_hot(np.array([[0, 2]]), 3), names=("a", "b", "c"))
    for call in (loss_of(text), loss_of(text).voxel_map, lambda c: loss_of(text).gradient(c, "p")):
        with pytest.raises(UsageError) as caught:
            call(classes)
        assert caught.value.message == said
        assert hint in caught.value.hint


# --- relations --------------------------------------------------------------------------------


@given(fields(count=2))
@few
def test_two_classes(field: Field) -> None:
    """Of two classes cross-entropy is bce, focal is focal, and the Wasserstein Dice loss is dice of the foreground."""
    pair = SoftPair.of(field.p[1], field.y[1])
    pairs = {
        "categorical_ce": "bce", "categorical_focal": "focal:alpha=none", "categorical_ce:weights=1/3": None,
        "categorical_focal:alpha=0.75/0.25": "focal", "gwdl": "dice",
        "gwdl:distances=ordinal:smooth=1": "dice:smooth=1",
        "generalized_dice_softmax": "generalized_dice",
        "generalized_dice_softmax:absent=largest:smooth=1": "generalized_dice:absent=largest:smooth=1",
        "dice_ce:background=exclude:w_dice=2": "bce_dice:w_dice=2",
    }  # fmt: skip
    for text, other in pairs.items():
        if other is not None:
            assert loss_of(text)(field.plain) == pytest.approx(loss_of(other)(pair), rel=1e-9, abs=1e-12), text
    expected = loss_of("weighted_bce:beta=3")(pair)
    assert expected is not None
    divided = expected * field.label.size / (1 + 2 * field.y[1].mean()) / field.label.size
    assert loss_of("categorical_ce:weights=1/3")(field.plain) == pytest.approx(divided, rel=1e-9)


@given(fields())
@few
def test_relations(field: Field) -> None:
    """Focal without its power is cross-entropy; the region losses are means of those of one class."""
    classes = field.plain
    cross = loss_of("categorical_ce")(classes)
    assert cross is not None
    assert loss_of("categorical_focal:gamma=0")(classes) == pytest.approx(cross, rel=1e-12)
    singles = [SoftPair.of(field.p[c], field.y[c]) for c in range(field.count)]
    dice = [loss_of("dice")(pair) for pair in singles]
    lovasz = [loss_of("lovasz")(pair) for pair in singles]
    assert loss_of("dice_ce:w_ce=0")(classes) == pytest.approx(np.mean(dice), rel=1e-12)
    assert loss_of("dice_ce:w_ce=0:background=exclude")(classes) == pytest.approx(np.mean(dice[1:]), rel=1e-12)
    pooled = SoftPair.of(field.p, field.y)
    uniform = loss_of("generalized_dice_softmax:weighting=uniform:absent=largest")(classes)
    assert uniform == pytest.approx(loss_of("dice")(pooled), rel=1e-12)
    assert loss_of("lovasz_softmax:classes=all")(classes) == pytest.approx(np.mean(lovasz), rel=1e-12)
    present = [value for value, pair in zip(lovasz, singles, strict=True) if pair.y.any()]
    assert loss_of("lovasz_softmax")(classes) == pytest.approx(np.mean(present), rel=1e-12)
    per_class = [-np.log(classes.logs(1e-7).p[c][field.y[c].reshape(-1) == 1]) for c in range(field.count)]
    balanced = np.mean([values.mean() for values in per_class if values.size])
    assert loss_of("categorical_ce:weights=balanced")(classes) == pytest.approx(balanced, rel=1e-12)


def test_scored() -> None:
    """A score has one row for all classes; a binary pair has two of them."""
    rng = np.random.default_rng(5)
    p = softmax(rng.normal(size=(3, 6, 7)))
    gt = rng.integers(0, 3, (6, 7)).astype(np.uint8)
    found = segcli.score(p, gt, metrics=(), losses="ce,dice_ce,gwdl", kind="probability", channel_axis=0)
    classes = SoftClasses.of(p, one_hot(gt.astype(np.int64), 3))
    for text in ("categorical_ce", "dice_ce", "gwdl"):
        assert found.value(f"loss.{text}") == pytest.approx(loss_of(text)(classes), rel=1e-12)
    with pytest.raises(UsageError, match="weights has 2 entries; there are 3 classes"):
        segcli.score(p, gt, metrics=(), losses="ce:weights=1/2", kind="probability", channel_axis=0)
    two = segcli.score(p[1], gt == 1, metrics=(), losses="ce,bce", kind="probability")
    assert two.value("loss.categorical_ce") == pytest.approx(two.value("bce"), rel=1e-12)


def test_aliases() -> None:
    """The names of other libraries lead to the same records."""
    names = {
        "ce": "categorical_ce", "cross_entropy": "categorical_ce", "cce": "categorical_ce",
        "sparse_categorical_ce": "categorical_ce", "dice_ce_loss": "dice_ce", "wasserstein_dice": "gwdl",
        "focal_softmax": "categorical_focal", "gdl_softmax": "generalized_dice_softmax",
    }  # fmt: skip
    for alias, name in names.items():
        assert find(alias, "loss").name == name
