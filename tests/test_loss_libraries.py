"""The losses against the libraries that have them: recorded values, live runs, and what is filed of them."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segcli.errors import UsageError
from segcli.losses import libraries
from segcli.losses.libraries import Implementation, known
from segcli.measure import BoundMeasure, bind, find, measures
from segcli.report import catalog
from segcli.soft import SoftPair

Array = NDArray[np.float64]

#: Softmax forms that are described before they are filed.
PENDING = {"categorical_ce", "categorical_focal", "dice_ce", "gwdl", "lovasz_softmax"}
FILED = {m.name for m in measures("loss")}


def filed(same_as: str) -> bool:
    """Return whether the measure that a text names is there."""
    return same_as.partition(":")[0] in FILED


# --- what is filed ----------------------------------------------------------------------------

ENTRIES = [(name, one) for name, of in known().items() for one in of.found_in]


def test_every_loss_is_described() -> None:
    """No loss is left out, and no name is described that is not a loss."""
    assert set(known()) - PENDING == FILED - PENDING
    assert set(known()) >= FILED


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[f"{name}: {e.library}: {e.call}" for name, e in ENTRIES])
def test_entry(name: str, entry: Implementation) -> None:
    """What it equals can be bound, the parameters are the measure's, and the sentences are sentences."""
    assert entry.version
    if entry.same_as and filed(entry.same_as):
        bound = bind(entry.same_as, "loss")
        assert bound.name == entry.same_as, "written as segcli writes it"
        assert set(entry.parameters) <= set(bound.measure.params)
        assert bound.measure.name == name or entry.differs
    elif not entry.same_as:
        assert entry.differs
    else:
        assert entry.same_as.partition(":")[0] in PENDING
    ast.parse(entry.call, mode="eval")
    assert not entry.differs or entry.differs.endswith(".")


def test_sentences() -> None:
    """Each mistake is a sentence of its own, told once."""
    told = [sentence for of in known().values() for sentence in of.mistakes]
    assert len(told) == len(set(told)) > 50
    assert all(sentence.endswith(".") and len(sentence) < 250 for sentence in told)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({}, "has to say where"),
        ({"nowhere": "x", "found_in": [{"library": "a", "version": "1", "call": "f(p)"}]}, "has to say where"),
        ({"nowhere": "x", "mistake": []}, "unknown mistake"),
        ({"found_in": [{"library": "a", "version": "1", "call": "f(p)", "like": "dice"}]}, "unknown like"),
        ({"found_in": [{"library": "a", "version": "1", "call": "f(p)", "averaging": "mean"}]}, "averaging='mean'"),
        ({"found_in": [{"library": "a", "version": "1", "call": "f(p)", "not_when": ["empty"]}]}, "not_when='empty'"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused(entry: dict[str, Any], complaint: str) -> None:
    """Unknown keys and words, and entries that say nothing, do not load."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        libraries._known("dice", entry)


def test_what_is_shown() -> None:
    """The card, the JSON record and the facts of the page have the libraries and the mistakes."""
    dice = find("dice", "loss")
    card = catalog.card(dice)
    assert "monai.losses.DiceLoss()(p, y)" in card
    assert known()["dice"].mistakes[0] in card
    record = catalog.record(dice)
    assert [e["call"] for e in record["libraries"]] == [e.call for e in known()["dice"].found_in]
    assert record["mistakes"] == list(known()["dice"].mistakes)
    assert json.loads(json.dumps(record)) == record
    assert "no public implementation found" in catalog.card(find("hd_cv", "loss"))
    metric = catalog.record(find("dice", "metric"))
    assert metric["libraries"] == metric["mistakes"] == []


# --- running the libraries --------------------------------------------------------------------


def library(name: str) -> Any:
    """Return a library that a call names, or skip."""
    if name == "torch":
        return pytest.importorskip("torch")
    if name == "keras":
        os.environ.setdefault("KERAS_BACKEND", "torch")
        return pytest.importorskip("keras")
    if name == "segmentation_models_pytorch":
        if name not in sys.modules:
            spec = find_spec(name)
            if spec is None:
                pytest.skip(f"{name} is not installed")
            # its own __init__ needs torchvision, which its losses do not
            stub = types.ModuleType(name)
            stub.__path__ = list(spec.submodule_search_locations or [])
            sys.modules[name] = stub
        sys.modules[name].losses = pytest.importorskip(f"{name}.losses")
        return sys.modules[name]
    pytest.importorskip(f"{name}.losses")
    return sys.modules[name]


def run(call: str, **given_names: Any) -> Any:
    """Return the value of a call, its libraries loaded."""
    words = {node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name)}
    tools = {word: library(word) for word in words - given_names.keys()}
    return eval(call, {"__builtins__": {}}, {**tools, **given_names})  # noqa: S307 (calls of the package's own list)


def with_keywords(call: str, keywords: dict[str, Any]) -> str:
    """Return a call with keywords of the loss set: those of the class where it makes one, else of the function."""
    tree = ast.parse(call, mode="eval")
    node = tree.body
    assert isinstance(node, ast.Call)
    inner = node.func if isinstance(node.func, ast.Call) else node
    kept = [k for k in inner.keywords if k.arg not in keywords]
    inner.keywords = kept + [ast.keyword(arg=key, value=ast.Constant(value)) for key, value in keywords.items()]
    return ast.unparse(tree)


def reads_logits(call: str) -> bool:
    """Return whether a call has the logits as an argument."""
    return any(isinstance(node, ast.Name) and node.id == "z" for node in ast.walk(ast.parse(call)))


def sigmoid(z: Array) -> Array:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-z))


def softmax(z: Array) -> Array:
    """Return the softmax over the second axis."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Scene:
    """Logits and ground truth (cases, channels, grid) as a library and as segcli sees them."""

    def __init__(self, z: Array, y: Array, entry: Implementation) -> None:
        self.z, self.y, self.entry = z, y, entry
        self.logits = reads_logits(entry.call)
        self.p = softmax(z) if entry.channels == "all" else sigmoid(z)

    def theirs(self, call: str) -> tuple[float, Array]:
        """Return value and gradient (by what the library is given) of the call, by autograd."""
        torch = library("torch")
        entry = self.entry
        by_z = self.logits or entry.channels == "all"
        kind = torch.float32 if "LovaszLoss" in call else torch.float64  # SMP's fails on float64
        leaf = torch.tensor(self.z if by_z else self.p, dtype=kind, requires_grad=True)
        y = torch.tensor(self.y, dtype=kind)
        z = p = leaf
        if entry.channels == "two":
            z = torch.cat([-leaf if "sigmoid=True" in call else 0 * leaf, leaf], 1)
            p, y = torch.cat([1 - leaf, leaf], 1), torch.cat([1 - y, y], 1)
        elif entry.channels == "all":
            p = torch.softmax(leaf, 1)
        labels = y[:, 0] if y.shape[1] == 1 else y.argmax(1)
        if "HausdorffER" in call:
            labels = labels[:, None]
        if entry.library == "keras":
            call = with_keywords(call, {"dtype": "float64"})
            p, y = (torch.movedim(a, 1, -1) for a in (p, y))
        value = run(call, z=z, p=p, y=y, labels=labels, ndim=self.z.ndim - 2)
        value.backward()
        return float(value.detach()), leaf.grad.numpy()

    def groups(self) -> list[list[tuple[int, int]]]:
        """Return which cases and channels are judged as one."""
        cases, channels = range(self.z.shape[0]), range(self.z.shape[1])
        averaging = self.entry.averaging
        if averaging == "pooled":
            return [[(b, c) for b in cases for c in channels]]
        if averaging == "micro":
            return [[(b, c) for c in channels] for b in cases]
        if averaging == "batch":
            return [[(b, c) for b in cases] for c in channels]
        return [[(b, c)] for b in cases for c in channels]

    def ours(self, bound: BoundMeasure) -> tuple[float, Array]:
        """Return value and gradient of the measure, averaged as the entry says."""
        entry, groups = self.entry, self.groups()
        total, slope = 0.0, np.zeros_like(self.z)
        by_z = self.logits and entry.channels != "all"
        for group in groups:
            p, y, z = (np.stack([a[g] for g in group]) for a in (self.p, self.y, self.z))
            if len(group) == 1:
                p, y, z = p[0], y[0], z[0]
            pair = SoftPair(p, y, z=z if by_z else None)
            value = bound(pair)
            assert value is not None
            total += value / len(groups)
            part = bound.gradient(pair, "z" if by_z else "p").reshape(len(group), *self.z.shape[2:])
            for at, values in zip(group, part, strict=True):
                slope[at] += values / len(groups)
        if entry.channels == "all":
            slope = self.p * (slope - (self.p * slope).sum(axis=1, keepdims=True))
        factor = {"1": 1.0, "1/2": 0.5, "1/C": 1 / self.z.shape[1]}[entry.times]
        return total * factor, slope * factor


# --- live -------------------------------------------------------------------------------------

LIVE = [(n, e) for n, e in ENTRIES if e.checked == "run" and e.same_as and filed(e.same_as)]
LIVE_NAMES = [f"{name}: {e.library}: {e.call}" for name, e in LIVE]


@st.composite
def scenes(draw: st.DrawFn, entry: Implementation) -> Scene:
    """Draw a scene that the library accepts: 2-D or 3-D, one or several channels, no two logits the same."""
    ndim = entry.ndim or draw(st.sampled_from([2, 3]))
    shape = (12, 11, 11)[:ndim] if "ssim" in entry.same_as else draw(st.sampled_from([(4, 5, 3), (7, 6, 4)]))[:ndim]
    cases = 1 if entry.cases == "one" else draw(st.integers(1, 2))
    channels = draw(st.integers(2, 3)) if entry.channels == "all" else 1
    if entry.channels == "one" and entry.library in ("monai", "keras", "torch") and entry.call not in ONE_CHANNEL:
        channels = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (cases, channels, *shape)
    n = int(np.prod(size))
    z = rng.permutation(np.linspace(-4.03, 4, n)).reshape(size)
    if entry.channels == "all":
        labels = rng.integers(0, channels, (cases, *shape))
        for case in labels:
            case.flat[:channels] = range(channels)  # all are there: what becomes of absent classes differs
        return Scene(z, np.stack([labels == c for c in range(channels)], 1).astype(float), entry)
    y = (rng.random(size) < draw(st.sampled_from([0.0, 0.2, 0.7]))).astype(float)
    if "gt empty" in entry.not_when:
        y[:, :, 0] = 1
    if "gt full" in entry.not_when:
        y[:, :, 1] = 0
    return Scene(z, y, entry)


#: MONAI's that leave the first of several channels out, or mean something else by several.
ONE_CHANNEL = {
    "monai.losses.HausdorffDTLoss()(p, y)", "monai.losses.LogHausdorffDTLoss()(p, y)",
    "monai.losses.DiceCELoss(sigmoid=True)(z, y)", "monai.losses.AsymmetricUnifiedFocalLoss()(p, y)",
    "monai.losses.SoftclDiceLoss()(p, y)", "monai.losses.SoftDiceclDiceLoss()(p, y)",
}  # fmt: skip
#: MONAI says so of a Hausdorff loss with its defaults on one channel: it is what is meant.
SINGLE_CHANNEL = "ignore:single channel prediction, `include_background=False` ignored:UserWarning"
#: Wider tolerances and their reasons: relative, of the largest gradient.
LOOSE = {
    "FocalLoss": 1e-6,  # MONAI's focal losses, and what is added to them, are float32
    "GeneralizedDiceLoss": 1e-7,  # MONAI's weights are float32
    "squared_pred": 1e-8,  # MONAI squares the root of the sum of squares
    "HausdorffDTLoss": 1e-6,  # float32 distances
    "BoundaryLoss": 1e-6,
    "SSIMLoss": 5e-5,  # float32 windows
    "HausdorffERLoss": 1e-6,  # float32 weights in kornia
    "LovaszLoss": 1e-5,  # float32
    "kornia.losses.dice_loss": 1e-7,  # 1e-8 in denominators
    "kornia.losses.tversky_loss": 1e-7,
    "keras": 1e-7,  # 1e-7 in denominators
    "models_pytorch.losses.MCCLoss": 1e-4,  # 1e-5 on each count
    "smooth=1e-12": 1e-9,  # of clDice
    "clDice": 2e-4,  # 1e-4 in the last denominator
}


@pytest.mark.parametrize(("name", "entry"), LIVE, ids=LIVE_NAMES)
@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@given(data=st.data())
@settings(deadline=None, max_examples=6)
def test_live(name: str, entry: Implementation, data: st.DataObject) -> None:  # noqa: ARG001 (the test's name)
    """Value and gradient of the library's default are those of the measure filed for it."""
    scene = data.draw(scenes(entry))
    agree(scene, entry.call, bind(entry.same_as, "loss"))


def agree(scene: Scene, call: str, bound: BoundMeasure) -> None:
    """Compare the call with the measure."""
    value, slope = scene.theirs(call)
    expected, own = scene.ours(bound)
    tolerance = next((t for word, t in LOOSE.items() if word in call), 1e-9)
    assert expected == pytest.approx(value, rel=tolerance, abs=tolerance)
    assert own == pytest.approx(slope, rel=tolerance, abs=tolerance * max(1e-9, float(abs(slope).max())))


@pytest.mark.parametrize(
    ("name", "entry"),
    [pair for pair in LIVE if pair[1].parameters],
    ids=[text for text, (_, e) in zip(LIVE_NAMES, LIVE, strict=True) if e.parameters],
)
@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@given(data=st.data())
@settings(deadline=None, max_examples=4)
def test_parameters(name: str, entry: Implementation, data: st.DataObject) -> None:  # noqa: ARG001 (as above)
    """The library's parameters are those of the measure that they are filed for."""
    keywords, wanted = {}, bind(entry.same_as, "loss").params | {}
    for ours, theirs in entry.parameters.items():
        whole = find(entry.same_as.partition(":")[0], "loss").params[ours].type is int
        wanted[ours] = data.draw(st.sampled_from([1, 2, 4] if whole else [0.2, 0.4, 0.7]))
        keywords |= dict.fromkeys(theirs.split(" = "), wanted[ours])
    if "clDice" in entry.call:
        keywords["smooth"] = 1e-12
    text = ":".join([entry.same_as.partition(":")[0], *(f"{key}={value}" for key, value in wanted.items())])
    agree(data.draw(scenes(entry)), with_keywords(entry.call, keywords), bind(text, "loss"))


def lone(p: Array, y: Array, call: str, by: str = "p") -> tuple[float, Array]:
    """Return value and gradient of a call on one case of one channel."""
    torch = library("torch")
    leaf = torch.tensor(p[None, None], requires_grad=True)
    truth = torch.tensor(y[None, None])
    value = run(call, **{by: leaf}, y=truth, labels=truth[0])
    value.backward()
    return float(value.detach()), leaf.grad.numpy().reshape(-1)


def test_smp_smooth_counts_twice() -> None:
    """SMP's Dice with smooth=s is dice:smooth=2s."""
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(5, 4)), (rng.random((5, 4)) < 0.4).astype(float)
    value, _ = lone(z, y, "segmentation_models_pytorch.losses.DiceLoss('binary', smooth=0.7)(z, y)", by="z")
    assert bind("dice:smooth=1.4", "loss")(SoftPair(sigmoid(z), y)) == pytest.approx(value, rel=1e-12)


def test_smp_smoothing_counts_twice() -> None:
    """SMP's smooth_factor=s is label_smoothing=2s, here and in Keras."""
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(5, 4)), (rng.random((5, 4)) < 0.4).astype(float)
    call = "segmentation_models_pytorch.losses.SoftBCEWithLogitsLoss(smooth_factor=0.05)(z, y)"
    value, _ = lone(z, y, call, by="z")
    assert bind("bce:label_smoothing=0.1", "loss")(SoftPair(sigmoid(z), y)) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("kind", ["DiceLoss", "JaccardLoss", "TverskyLoss"])
def test_smp_is_blind_to_an_empty_gt(kind: str) -> None:
    """SMP's ratio losses are 0 with a gradient of 0 where the gt is empty; the power of one has a gradient of nan."""
    y = np.zeros((4, 5))
    call = f"segmentation_models_pytorch.losses.{kind}('binary', from_logits=False)(p, y)"
    value, slope = lone(np.full_like(y, 0.9), y, call)
    assert value == 0
    assert not slope.any()
    if kind == "TverskyLoss":
        value, slope = lone(np.full_like(y, 0.9), y, with_keywords(call, {"gamma": 0.75}))
        assert value == 0
        assert np.isnan(slope).all()


def test_an_empty_prediction_of_an_empty_gt() -> None:
    """With p = 0 and y = 0 Keras' Dice is 1, MONAI's and SMP's 0, SMP's MCC 0.5 and MONAI's 0."""
    y = np.zeros((4, 5))
    for call, value in {
        "keras.losses.Dice(dtype='float64')(y, p)": 1.0,
        "keras.losses.Tversky(dtype='float64')(y, p)": 1.0,
        "monai.losses.DiceLoss()(p, y)": 0.0,
        "segmentation_models_pytorch.losses.DiceLoss('binary', from_logits=False)(p, y)": 0.0,
        "segmentation_models_pytorch.losses.MCCLoss()(p, y)": 0.5,
        "monai.losses.MCCLoss()(p, y)": 0.0,
    }.items():
        assert lone(y, y, call)[0] == pytest.approx(value, abs=1e-6), call


def test_kornia_does_not_see_an_absent_class() -> None:
    """kornia's macro Dice of an empty gt is the background's alone."""
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(5, 4)), np.zeros((5, 4))
    torch = library("torch")
    both = torch.tensor(np.stack([0 * z, z])[None])
    value = run("kornia.losses.dice_loss(z, labels, average='macro')", z=both, labels=torch.tensor(y[None]).long())
    background = SoftPair(1 - sigmoid(z), 1 - y)
    assert bind("dice:smooth=0", "loss")(background) == pytest.approx(float(value), rel=1e-8)


def test_smp_soft_cross_entropy_fails_with_its_default() -> None:
    """smooth_factor=None is divided by the number of classes."""
    torch = library("torch")
    with pytest.raises(TypeError, match="NoneType"):
        run(
            "segmentation_models_pytorch.losses.SoftCrossEntropyLoss()(z, labels)",
            z=torch.zeros(1, 3, 2, 2),
            labels=torch.zeros(1, 2, 2, dtype=torch.long),
        )


def test_monai_unified_focal_takes_probabilities() -> None:
    """It applies no sigmoid, whatever its description says: values beyond [0, 1] are clipped."""
    y = np.zeros((4, 5))
    y[1:3, 1:3] = 1
    call = "monai.losses.AsymmetricUnifiedFocalLoss()(p, y)"
    assert lone(y, y, call)[0] == pytest.approx(lone(9 * y - 4, y, call)[0], rel=1e-9)
