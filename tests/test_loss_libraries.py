"""The losses against the libraries that have them: recorded values, live runs, and what is filed of them."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.measure.losses import libraries
from segcli.measure.losses.libraries import Implementation, known
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, find, measures
from segcli.report import catalog

Array = NDArray[np.float64]

# --- what is filed ----------------------------------------------------------------------------

ENTRIES = [(name, one) for name, of in known().items() for one in of.found_in]


def test_every_loss_is_described() -> None:
    """No loss is left out, and no name is described that is not a loss."""
    assert set(known()) == {m.name for m in measures("loss")}


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[f"{name}: {e.library}: {e.call}" for name, e in ENTRIES])
def test_entry(name: str, entry: Implementation) -> None:
    """What it equals can be bound, the parameters are the measure's, and the sentences are sentences."""
    assert entry.version
    if entry.same_as:
        bound = bind(entry.same_as, "loss")
        assert bound.name == entry.same_as, "written as segcli writes it"
        assert set(entry.parameters) <= set(bound.measure.params)
        assert bound.measure.name == name or entry.differs
        assert (bound.measure.reads == "all-classes") == (entry.channels == "classes")
    else:
        assert entry.differs
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
            stub.__spec__ = spec  # other tests look for it again
            sys.modules[name] = stub
        sys.modules[name].losses = pytest.importorskip(f"{name}.losses")
        return sys.modules[name]
    pytest.importorskip(f"{name}.losses")
    return sys.modules[name]


def run(call: str, **given_names: Any) -> Any:
    """Return the value of a call, its libraries loaded."""
    words = {node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name)}
    tools = {word: library(word) for word in words - given_names.keys()}
    # torch imports a module of its own at the first storage it shares, by the builtins of whoever called it.
    return eval(call, {"__builtins__": {"__import__": __import__}}, {**tools, **given_names})  # noqa: S307 (calls of the package's own list)


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
    """Return the logistic function without overflow."""
    return np.exp(-np.logaddexp(0.0, -z))


def softmax(z: Array) -> Array:
    """Return the softmax over the second axis."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Scene:
    """Logits and ground truth (cases, channels, grid) as a library and as segcli sees them."""

    def __init__(self, z: Array, y: Array, entry: Implementation) -> None:
        self.z, self.y, self.entry = z, y, entry
        self.logits = reads_logits(entry.call)
        self.exclusive = entry.channels in ("all", "classes")
        self.p = softmax(z) if self.exclusive else sigmoid(z)

    def theirs(self, call: str) -> tuple[float, Array]:
        """Return value and gradient (by what the library is given) of the call, by autograd."""
        torch = library("torch")
        entry = self.entry
        by_z = self.logits or self.exclusive
        kind = torch.float32 if "LovaszLoss" in call else torch.float64  # SMP's fails on float64
        leaf = torch.tensor(self.z if by_z else self.p, dtype=kind, requires_grad=True)
        y = torch.tensor(self.y, dtype=kind)
        z = p = leaf
        if entry.channels == "two":
            z = torch.cat([-leaf if "sigmoid=True" in call else 0 * leaf, leaf], 1)
            p, y = torch.cat([1 - leaf, leaf], 1), torch.cat([1 - y, y], 1)
        elif self.exclusive:
            p = torch.softmax(leaf, 1)
        labels = y[:, 0] if y.shape[1] == 1 else y.argmax(1)
        if "HausdorffER" in call:
            labels = labels[:, None]
        if entry.library == "keras":
            call = with_keywords(call, {"dtype": "float64"})
            p, y = (torch.movedim(a, 1, -1) for a in (p, y))
        apart = 1 - np.eye(self.z.shape[1])
        value = run(call, z=z, p=p, y=y, labels=labels, M=apart, ndim=self.z.ndim - 2)
        value.backward()
        return float(value.detach()), leaf.grad.numpy()

    def ours(self, bound: BoundMeasure) -> tuple[float, Array]:
        """Return value and gradient of the measure, averaged as the entry says."""
        entry = self.entry
        if entry.channels == "classes":
            value, slope = of_classes(bound, self.p, self.y, self.z if self.logits else None, entry)
        else:
            logits = self.z if self.logits and entry.channels != "all" else None
            value, slope = averaged(bound, self.p, self.y, logits, groups_of(self.z.shape[:2], entry))
        if entry.channels == "all":
            slope = through_softmax(self.p, slope)
        return value * times(entry, self.z.shape[1]), slope * times(entry, self.z.shape[1])


def times(entry: Implementation, channels: int) -> float:
    """Return what the measure is multiplied by."""
    return {"1": 1.0, "1/2": 0.5, "1/4": 0.25, "1/C": 1 / channels}[entry.times]


def groups_of(shape: tuple[int, ...], entry: Implementation) -> list[list[tuple[int, int]]]:
    """Return which cases and channels are judged as one."""
    cases, channels = range(shape[0]), range(shape[1])
    if entry.averaging == "pooled":
        return [[(b, c) for b in cases for c in channels]]
    if entry.averaging == "micro":
        return [[(b, c) for c in channels] for b in cases]
    if entry.averaging == "batch":
        return [[(b, c) for b in cases] for c in channels]
    return [[(b, c)] for b in cases for c in channels]


def averaged(
    bound: BoundMeasure, p: Array, y: Array, z: Array | None, groups: list[list[tuple[int, int]]]
) -> tuple[float, Array]:
    """Return the mean of a measure over groups, and its gradient by z where that is given, else by p."""
    total, slope = 0.0, np.zeros_like(p)
    for group in groups:
        grids = [side_by_side([a[at] for at in group]) for a in ((p, y) if z is None else (p, y, z))]
        valid = None if len(group) == 1 else ~np.isnan(grids[0])
        pair = SoftPair.of(*grids[:2], z=None if z is None else grids[2], valid=valid)
        value = bound(pair)
        assert value is not None
        total += value / len(groups)
        parts = bound.gradient(pair, "p" if z is None else "z").reshape(len(group), *p.shape[2:])
        for at, part in zip(group, parts, strict=True):
            slope[at] += part / len(groups)
    return total, slope


def of_classes(
    bound: BoundMeasure, p: Array, y: Array, z: Array | None, entry: Implementation, wrt: Literal["p", "z"] = "z"
) -> tuple[float, Array]:
    """Return value and gradient of a measure of all classes, the cases pooled or the mean over them."""
    cases = list(range(len(p)))
    total, slope = 0.0, np.zeros_like(p)
    groups = [cases] if entry.averaging == "batch" else [[case] for case in cases]
    for group in groups:
        grids = [np.swapaxes(a[group], 0, 1) for a in ((p, y) if z is None else (p, y, z))]
        classes = SoftClasses.of(*grids[:2], z=None if z is None else grids[2])
        value = bound(classes)
        assert value is not None
        total += value / len(groups)
        slope[group] = np.swapaxes(classes.grid(bound.gradient(classes, wrt)), 0, 1) / len(groups)
    return total, slope


def side_by_side(grids: list[Array]) -> Array:
    """Return several grids as one, apart by voxels that are nan (and will be ignored), so that none has neighbours."""
    gap = np.full((1, *grids[0].shape[1:]), np.nan)
    return np.concatenate([part for grid in grids for part in (grid, gap)][:-1])


def through_softmax(p: Array, slope: Array) -> Array:
    """Return the gradient by the logits, given that by their softmax."""
    return p * (slope - (p * slope).sum(axis=1, keepdims=True))


# --- live -------------------------------------------------------------------------------------

LIVE = [(n, e) for n, e in ENTRIES if e.checked == "run" and e.same_as]
LIVE_NAMES = [f"{name}: {e.library}: {e.call}" for name, e in LIVE]


@st.composite
def scenes(draw: st.DrawFn, entry: Implementation) -> Scene:
    """Draw a scene that the library accepts: 2-D or 3-D, one or several channels, no two logits the same."""
    ndim = entry.ndim or draw(st.sampled_from([2, 3]))
    shape = (12, 11, 11)[:ndim] if "ssim" in entry.same_as else draw(st.sampled_from([(4, 5, 3), (7, 6, 4)]))[:ndim]
    cases = 1 if entry.cases == "one" else draw(st.integers(1, 2))
    exclusive = entry.channels in ("all", "classes")
    channels = draw(st.integers(2, 4)) if exclusive else 1
    if entry.channels == "one" and entry.library in ("monai", "keras", "torch") and entry.call not in ONE_CHANNEL:
        channels = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (cases, channels, *shape)
    n = int(np.prod(size))
    z = rng.permutation(np.linspace(-4.03, 4, n)).reshape(size)
    if exclusive:
        labels = rng.integers(0, channels, (cases, *shape))
        for case in labels:
            case.flat[:channels] = range(channels)  # all are there: what becomes of absent classes differs
        y = np.stack([labels == c for c in range(channels)], 1).astype(float)
        while "lovasz" in entry.same_as and tied(z, y):
            z = rng.uniform(-4, 4, size)
        return Scene(z, y, entry)
    y = (rng.random(size) < draw(st.sampled_from([0.0, 0.2, 0.7]))).astype(float)
    if "gt empty" in entry.not_when:
        y[:, :, 0] = 1
    if "gt full" in entry.not_when:
        y[:, :, 1] = 0
    return Scene(z, y, entry)


def tied(z: Array, y: Array) -> bool:
    """Return whether two errors of a class are the same in float32: the gradient of a sort is then not unique."""
    errors = np.moveaxis(abs(softmax(z) - y), 1, 0).reshape(z.shape[1], -1)
    return bool((np.diff(np.sort(errors)) < 1e-6).any())


#: MONAI's that leave the first of several channels out, or mean something else by several.
ONE_CHANNEL = {
    "monai.losses.HausdorffDTLoss()(p, y)", "monai.losses.LogHausdorffDTLoss()(p, y)",
    "monai.losses.DiceCELoss(sigmoid=True)(z, y)", "monai.losses.AsymmetricUnifiedFocalLoss()(p, y)",
    "monai.losses.SoftDiceclDiceLoss()(p, y)",
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
    "LovaszLoss": 1e-4,  # float32, and a gradient that is a difference of neighbours
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
    assert bind("dice:smooth=1.4", "loss")(SoftPair.of(sigmoid(z), y)) == pytest.approx(value, rel=1e-12)


def test_smp_smoothing_counts_twice() -> None:
    """SMP's smooth_factor=s is label_smoothing=2s, here and in Keras."""
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(5, 4)), (rng.random((5, 4)) < 0.4).astype(float)
    call = "segmentation_models_pytorch.losses.SoftBCEWithLogitsLoss(smooth_factor=0.05)(z, y)"
    value, _ = lone(z, y, call, by="z")
    assert bind("bce:label_smoothing=0.1", "loss")(SoftPair.of(sigmoid(z), y)) == pytest.approx(value, rel=1e-7)


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
    """The macro Dice of kornia is that of the background alone where the gt is empty."""
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(5, 4)), np.zeros((5, 4))
    torch = library("torch")
    both = torch.tensor(np.stack([0 * z, z])[None])
    value = run("kornia.losses.dice_loss(z, labels, average='macro')", z=both, labels=torch.tensor(y[None]).long())
    background = SoftPair.of(1 - sigmoid(z), 1 - y)
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


# --- recorded values (not part of the repository) ---------------------------------------------

GOLDEN = SHARED / "golden" / "golden_losses.json"
INPUTS = ["smooth2d", "aniso3d", "tiny_gt", "empty_gt", "saturated", "multi4"]
SMP = "segmentation_models_pytorch.losses"

#: Library and key of a record -> the call that it is a variant of, and our parameters that differ from its defaults.
RECORDS: dict[tuple[str, str], tuple[str, dict[str, float | str]]] = {
    ("torch", "bce_prob"): ("torch.nn.functional.binary_cross_entropy(p, y)", {}),
    ("torch", "bce_logits"): ("torch.nn.functional.binary_cross_entropy_with_logits(z, y)", {}),
    ("torch", "bce_logits_posw2"): (
        "torch.nn.functional.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(2.0))",
        {},
    ),
    ("keras", "bce_prob"): ("keras.losses.BinaryCrossentropy()(y, p)", {}),
    ("keras", "bce_logits"): ("keras.losses.BinaryCrossentropy()(y, p)", {}),
    ("keras", "bce_ls0.1"): ("keras.losses.BinaryCrossentropy()(y, p)", {"label_smoothing": 0.1}),
    ("keras", "bin_focal"): ("keras.losses.BinaryFocalCrossentropy()(y, p)", {}),
    ("keras", "bin_focal_balanced"): ("keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)(y, p)", {}),
    ("keras", "dice"): ("keras.losses.Dice()(y, p)", {}),
    ("keras", "dice_axis"): ("keras.losses.Dice()(y, p)", {}),
    ("keras", "tversky_.3_.7"): ("keras.losses.Tversky()(y, p)", {"fp": 0.7, "fn": 0.3}),
    ("keras", "tversky_.7_.3"): ("keras.losses.Tversky()(y, p)", {"fp": 0.3, "fn": 0.7}),
    ("smp", "soft_bce_ls0.05"): (f"{SMP}.SoftBCEWithLogitsLoss()(z, y)", {"label_smoothing": 0.1}),
    ("smp", "soft_bce_ls0.1"): (f"{SMP}.SoftBCEWithLogitsLoss()(z, y)", {"label_smoothing": 0.2}),
    ("smp", "dice"): (f"{SMP}.DiceLoss('binary')(z, y)", {}),
    ("smp", "dice_log"): (f"{SMP}.DiceLoss('binary')(z, y)", {}),
    ("smp", "jaccard"): (f"{SMP}.JaccardLoss('binary')(z, y)", {}),
    ("smp", "tversky_.3_.7"): (f"{SMP}.TverskyLoss('binary')(z, y)", {"fp": 0.3, "fn": 0.7}),
    ("smp", "focal_tversky"): (f"{SMP}.TverskyLoss('binary', gamma=0.75)(z, y)", {"fp": 0.3, "fn": 0.7}),
    ("smp", "focal"): (f"{SMP}.FocalLoss('binary')(z, y)", {}),
    ("smp", "focal_a.25"): (f"{SMP}.FocalLoss('binary')(z, y)", {"alpha": 0.25}),
    ("smp", "lovasz_hinge"): (f"{SMP}.LovaszLoss('binary')(z, y)", {}),
    ("smp", "mcc"): (f"{SMP}.MCCLoss()(p, y)", {}),
    ("monai", "dice"): ("monai.losses.DiceLoss()(p, y)", {}),
    ("monai", "dice_nobg"): ("monai.losses.DiceLoss()(p, y)", {}),
    ("monai", "dice_squared"): ("monai.losses.DiceLoss(squared_pred=True)(p, y)", {}),
    ("monai", "jaccard"): ("monai.losses.DiceLoss(jaccard=True)(p, y)", {}),
    ("monai", "gwdl_2ch"): ("monai.losses.GeneralizedWassersteinDiceLoss(dist_matrix=M)(z, labels)", {}),
    ("monai", "gdl_2ch"): ("monai.losses.GeneralizedDiceLoss()(p, y)", {}),
    ("monai", "tversky_.3_.7"): ("monai.losses.TverskyLoss()(p, y)", {"fp": 0.3, "fn": 0.7}),
    ("monai", "focal"): ("monai.losses.FocalLoss()(z, y)", {}),
    ("monai", "focal_sigmoid"): ("monai.losses.FocalLoss()(z, y)", {}),
    ("monai", "focal_a.25"): ("monai.losses.FocalLoss()(z, y)", {"alpha": 0.25}),
    ("monai", "dicece"): ("monai.losses.DiceCELoss(sigmoid=True)(z, y)", {}),
    ("monai", "dicefocal"): ("monai.losses.DiceFocalLoss(sigmoid=True)(z, y)", {}),
    ("monai", "hausdorff_dt"): ("monai.losses.HausdorffDTLoss()(p, y)", {}),
    ("monai", "log_hausdorff_dt"): ("monai.losses.LogHausdorffDTLoss()(p, y)", {}),
    ("monai", "boundary"): ("monai.losses.BoundaryLoss()(p, y)", {}),
    ("monai", "mcc"): ("monai.losses.MCCLoss()(p, y)", {}),
    ("monai", "cldice"): ("monai.losses.SoftclDiceLoss()(p, y)", {}),
    ("monai", "dicecldice"): ("monai.losses.SoftDiceclDiceLoss()(p, y)", {}),
    ("monai", "asym_unified_focal"): ("monai.losses.AsymmetricUnifiedFocalLoss()(p, y)", {}),
    ("monai", "ssim"): ("monai.losses.SSIMLoss(spatial_dims=ndim)(p, y)", {}),
    ("kornia", "dice_micro"): ("kornia.losses.dice_loss(z, labels)", {}),
    ("kornia", "dice_macro"): ("kornia.losses.dice_loss(z, labels, average='macro')", {}),
    ("kornia", "tversky_.3_.7"): (
        "kornia.losses.tversky_loss(z, labels, alpha=0.5, beta=0.5)",
        {"fp": 0.3, "fn": 0.7},
    ),
    ("kornia", "focal_a.25"): ("kornia.losses.binary_focal_loss_with_logits(z, y, reduction='mean')", {}),
    ("kornia", "binary_focal"): ("kornia.losses.binary_focal_loss_with_logits(z, y, reduction='mean')", {}),
    ("kornia", "lovasz_hinge"): ("kornia.losses.lovasz_hinge_loss(z, labels)", {}),
    ("kornia", "hausdorff_er"): ("kornia.losses.HausdorffERLoss()(p, labels)", {}),
    ("berman", "lovasz_hinge"): ("lovasz_losses.lovasz_hinge(z, y)", {}),
    ("berman", "lovasz_softmax_present"): ("lovasz_losses.lovasz_softmax(p, labels)", {}),
}
#: Of several classes SMP's modes are means over them.
MULTICLASS = {"smp": {"averaging": "batch"}, "keras dice_axis": {"averaging": "macro"}}
#: What is another call of several classes, or of them alone.
CLASSES: dict[tuple[str, str], tuple[str, dict[str, float | str]]] = {
    ("torch", "ce"): ("torch.nn.functional.cross_entropy(z, labels)", {}),
    ("torch", "ce_ls0.1"): ("torch.nn.functional.cross_entropy(z, labels)", {"label_smoothing": 0.1}),
    ("torch", "ce_w"): ("torch.nn.functional.cross_entropy(z, labels)", {"weights": "0.1/0.3/0.3/0.3"}),
    ("keras", "cce"): ("keras.losses.CategoricalCrossentropy()(y, p)", {}),
    ("keras", "cce_logits_ls0.1"): ("keras.losses.CategoricalCrossentropy()(y, p)", {"label_smoothing": 0.1}),
    ("keras", "scce"): ("keras.losses.SparseCategoricalCrossentropy()(labels, p)", {}),
    ("keras", "scce_logits"): ("keras.losses.SparseCategoricalCrossentropy()(labels, p)", {}),
    ("keras", "cat_focal"): ("keras.losses.CategoricalFocalCrossentropy()(y, p)", {}),
    ("smp", "soft_ce_ls0.1"): (f"{SMP}.SoftCrossEntropyLoss(smooth_factor=0.0)(z, labels)", {"label_smoothing": 0.1}),
    ("smp", "lovasz_default"): (f"{SMP}.LovaszLoss('multiclass')(z, labels)", {}),
    ("monai", "focal_softmax"): ("monai.losses.FocalLoss(use_softmax=True)(z, y)", {}),
    ("monai", "dicece"): ("monai.losses.DiceCELoss(softmax=True)(z, y)", {}),
    ("monai", "gdl"): ("monai.losses.GeneralizedDiceLoss(softmax=True)(z, y)", {}),
    ("monai", "gwdl"): ("monai.losses.GeneralizedWassersteinDiceLoss(dist_matrix=M)(z, labels)", {}),
    ("kornia", "focal_none"): ("kornia.losses.focal_loss(z, labels, alpha=None, reduction='mean')", {}),
    ("kornia", "lovasz_softmax"): ("kornia.losses.lovasz_softmax_loss(z, labels)", {}),
}
#: Of several classes, a sum of two records: one of the softmax, one of each channel's sigmoid.
SUMS = {("monai", "dicefocal"): ("dice", "focal_sigmoid"), ("monai", "gdfocal"): ("gdl", "focal_sigmoid")}
#: No loss here: its margin is for calibration.
NOWHERE = {("monai", "nacl")}


def recorded() -> Iterator[dict[str, Any]]:
    """Yield the records of the libraries."""
    if GOLDEN.exists():
        yield from (r for r in json.loads(GOLDEN.read_text())["results"] if not r["lib"].startswith("ref"))


def arrays(record: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Return probabilities, logits and ground truth of a record as (1, channels, grid)."""
    with np.load(SHARED / "golden" / "golden_inputs.npz") as stored:
        p, y, z = (stored[f"{record['input']}.{letter}"].astype(float) for letter in "pyz")
    if record["input"] == "multi4":
        return p[None], z[None], np.stack([y == c for c in range(len(p))])[None].astype(float)
    return p[None, None], z[None, None], y[None, None]


def calls(record: dict[str, Any]) -> dict[tuple[str, str], tuple[str, dict[str, float | str]]]:
    """Return the calls that records of this input are variants of."""
    return RECORDS | CLASSES if record["input"] == "multi4" else RECORDS


def emulated(record: dict[str, Any]) -> tuple[float, Array]:
    """Return value and gradient that segcli gives for a record, by the entry that it is a variant of."""
    key = record["lib"], record["loss"]
    many = record["input"] == "multi4"
    if many and key in SUMS:
        (region, by_p), (focal, slope) = (
            emulated(record | {"loss": loss, "wrt": wrt}) for loss, wrt in zip(SUMS[key], "pz", strict=True)
        )
        p = arrays(record)[0]
        return region + focal, through_softmax(p, by_p.reshape(p.shape)).reshape(-1) + slope
    call, changed = calls(record)[key]
    entry = next(e for name, e in ENTRIES if e.call == call and name != "mae")
    if many:
        entry = replace(entry, **MULTICLASS.get(" ".join(key), MULTICLASS.get(record["lib"], {})))
    name, *named = entry.same_as.split(":")
    params = dict(part.split("=") for part in named) | changed
    bound = bind(":".join([name, *(f"{k}={v}" for k, v in params.items())]), "loss")
    p, z, y = arrays(record)
    by_z = record["wrt"] == "z"
    exclusive = entry.channels in ("all", "classes")
    if by_z and not exclusive:
        p = sigmoid(z)
    if exclusive and not many:  # a channel for the background
        p, y, z = (np.concatenate(pair, 1) for pair in ((1 - p, p), (1 - y, y), (0 * z, z)))
    if entry.channels == "classes":
        total, slope = of_classes(bound, p, y, z if by_z else None, entry, record["wrt"])
        total, slope = total * times(entry, p.shape[1]), slope * times(entry, p.shape[1])
    else:
        groups = groups_of(p.shape[:2], entry)
        if entry.channels == "all" and entry.not_when:  # absent classes are left out
            groups = [g for g in groups if any(y[at].any() for at in g)]
        if record["loss"] == "dice_nobg":
            groups = [g for g in groups if g[0][1] > 0]
        total, slope = averaged(bound, p, y, z if by_z and not exclusive else None, groups)
        slope = through_softmax(p, slope) if exclusive and by_z else slope
    if exclusive and not many:  # the background's logit is constant, its probability is not
        slope = slope[:, 1:] if by_z else slope[:, 1:] - slope[:, :1]
    if record["loss"] == "dice_log" and total < 1:
        total, slope = -math.log1p(-total), slope / (1 - total)
    if key == ("kornia", "focal_a.25"):
        total, slope = total / 2, slope / 2  # the mean over two channels, one of which is 0
    return total, slope.reshape(-1)


#: Part of a record's name -> tolerance of the value and of the gradient, relative; the first that fits.
TOLERANCES = {
    "torch.ce": (1e-12, 1e-9),
    "keras.cce": (5e-8, 1e-9),  # a mean in float32
    "keras.scce": (5e-8, 1e-9),
    "keras.cat_focal": (5e-8, 1e-9),
    "kornia.lovasz": (1e-9, 1e-9),
    "lovasz": (1e-6, 1e-4),  # float32, and a gradient that is a difference of neighbours
    "cldice": (1e-3, 2e-4),  # 1e-4 in the last denominator: 5e-5 at most
    "kornia.focal": (1e-9, 1e-9),
    "smp.focal": (1e-9, 1e-9),
    "keras": (1e-6, 1e-8),  # means in float32; 1e-7 in denominators
    "focal": (1e-6, 1e-6),  # MONAI's are float32
    "hausdorff_er": (1e-9, 1e-9),
    "hausdorff": (1e-6, 1e-6),  # float32 distances
    "boundary": (1e-6, 1e-6),
    "ssim": (5e-5, 5e-5),  # float32 windows
    "gdl": (1e-7, 1e-7),  # float32 weights
    "smp.mcc": (1e-6, 1e-5),  # 1e-5 on each count
    "dice_squared": (1e-9, 1e-8),  # squares of a root
}


def test_every_record_has_its_place() -> None:
    """No record is left out: each is compared, fails by itself, is a known defect or of a loss that is not here."""
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not there (set SEGCLI_SHARED)")
    records = list(recorded())
    assert len(records) == 285
    failed = [r for r in records if r.get("value") is None]
    defects = [r for r in records if (r["lib"], r["loss"], r["input"]) in DEFECTS]
    nowhere = [r for r in records if (r["lib"], r["loss"]) in NOWHERE]
    compared = [r for r in records if r not in failed + defects + nowhere]
    assert (len(failed), len(defects), len(nowhere), len(compared)) == (5, len(DEFECTS), 1, 285 - 6 - len(DEFECTS))
    sums = [r for r in compared if r["input"] == "multi4" and (r["lib"], r["loss"]) in SUMS]
    assert len(sums) == len(SUMS)
    assert all((r["lib"], r["loss"]) in calls(r) for r in compared if r not in sums)
    assert {(r["lib"], r["loss"]) for r in compared} >= RECORDS.keys() | CLASSES.keys()


@needs_shared("golden", "golden_losses.json")
@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("lib", ["torch", "keras", "monai", "smp", "kornia", "berman"])
def test_recorded(lib: str, source: str) -> None:
    """Values and gradients are those that the libraries gave."""
    for record in recorded():
        key = record["lib"], record["loss"], record["input"]
        if (lib, source) != (record["lib"], record["input"]) or record.get("value") is None:
            continue
        if key[:2] in NOWHERE or key in DEFECTS:
            continue
        value, slope = emulated(record)
        word = ".".join(key[:2])
        tolerance, steep = next((t for part, t in TOLERANCES.items() if part in word), (1e-9, 1e-9))
        assert value == pytest.approx(record["value"], rel=tolerance, abs=6e-5 if "cldice" in word else 1e-12), key
        compare_gradient(record, slope, steep)


def compare_gradient(record: dict[str, Any], slope: Array, steep: float) -> None:
    """Compare a gradient with the sums and the sampled entries of a record."""
    noted = record["grad"]
    where = (record["lib"], record["loss"], record["input"])
    assert noted["nonfinite"] == 0, where
    assert float(abs(slope).sum()) == pytest.approx(noted["l1"], rel=steep, abs=1e-12), where
    if record["input"] == "saturated" and "lovasz" in record["loss"]:
        return  # all errors are equal: any order gives a subgradient, here they share
    assert float(slope.sum()) == pytest.approx(noted["sum"], abs=steep * noted["l1"] + 1e-15), where
    assert float(np.linalg.norm(slope)) == pytest.approx(noted["l2"], rel=steep, abs=1e-12), where
    at = np.array(noted["at"], float)
    assert slope[noted["idx"]] == pytest.approx(at, rel=steep, abs=steep * max(float(abs(at).max()), 1e-12)), where


def blind(record: dict[str, Any]) -> None:
    """SMP: 0 with a gradient of 0 where the gt is empty, of nothing but nan where that is 0 to a power below 1."""
    assert record["value"] == 0
    assert record["grad"]["l1"] == 0
    assert record["grad"]["nonfinite"] == (4096 if record["loss"] == "focal_tversky" else 0)
    assert emulated(record)[0] > 0.98


def cut_logs(record: dict[str, Any]) -> None:
    """Torch: logarithms are cut at -100, and the derivative at 1e-12 in its denominator."""
    p, _, y = arrays(record)
    wrong = float(abs(p - y).mean())
    assert record["value"] == pytest.approx(100 * wrong, rel=1e-12)
    assert record["grad"]["l1"] == pytest.approx(1e12 * wrong, rel=1e-8)


def unclipped_focus(record: dict[str, Any]) -> None:
    """Keras: p is clipped in the logarithm only, so that the focus keeps a gradient; here both are clipped."""
    value, slope = emulated(record)
    assert value == pytest.approx(record["value"], rel=1e-6)
    assert record["grad"]["l1"] == pytest.approx(2 * record["value"], rel=1e-6)
    assert abs(slope).sum() < 1e-6


def clipped_everywhere(record: dict[str, Any]) -> None:
    """MONAI: p is clipped in the Tversky part too, so that certain voxels have no gradient."""
    assert emulated(record)[0] == pytest.approx(record["value"], rel=1e-6)
    assert record["grad"]["l1"] == 0


def half_at_right_voxels(record: dict[str, Any]) -> None:
    """SMP: the overlap is (p + y - |p - y|)/2, whose derivative at p = y it takes as 1/2; elsewhere it is y."""
    value, slope = emulated(record)
    assert value == pytest.approx(record["value"], rel=1e-12)
    p, _, y = arrays(record)
    at = np.array(record["grad"]["idx"])
    wrong = (p != y).reshape(-1)[at]
    assert slope[at][wrong] == pytest.approx(np.array(record["grad"]["at"])[wrong], rel=1e-9)
    assert record["grad"]["l1"] != pytest.approx(float(abs(slope).sum()), rel=0.1)


def counts_raised(record: dict[str, Any]) -> None:
    """SMP: 1e-5 is added to each of the four counts, which decides where the gt is empty."""
    p, _, y = arrays(record)
    tp, fp, fn, tn = (float((a * b).sum()) + 1e-5 for a, b in ((p, y), (p, 1 - y), (1 - p, y), (1 - p, 1 - y)))
    size = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert record["value"] == pytest.approx(1 - (tp * tn - fp * fn) / size, rel=1e-12)
    assert emulated(record)[0] == 1


def softmax_twice(record: dict[str, Any]) -> None:
    """SMP: from_logits=False is ignored; the value is that of the softmax of the probabilities."""
    p, _, y = arrays(record)
    again = softmax(p)
    lovasz = bind("lovasz", "loss")
    value, slope = averaged(lovasz, again, y, None, [[(0, c)] for c in range(4)])
    assert value == pytest.approx(record["value"], rel=1e-6)
    assert averaged(lovasz, p, y, None, [[(0, c)] for c in range(4)])[0] == pytest.approx(0.5545, abs=5e-5)
    compare_gradient(record, through_softmax(again, slope).reshape(-1), 1e-4)


DEFECTS = {
    **{("smp", loss, "empty_gt"): blind for loss in ("dice", "dice_log", "jaccard", "tversky_.3_.7", "focal_tversky")},
    **{
        ("smp", loss, "saturated"): half_at_right_voxels
        for loss in ("dice", "jaccard", "tversky_.3_.7", "focal_tversky", "dice_log")
    },
    ("torch", "bce_prob", "saturated"): cut_logs,
    ("keras", "bin_focal", "saturated"): unclipped_focus,
    ("keras", "bin_focal_balanced", "saturated"): unclipped_focus,
    ("monai", "asym_unified_focal", "saturated"): clipped_everywhere,
    ("smp", "mcc", "empty_gt"): counts_raised,
    ("smp", "lovasz", "multi4"): softmax_twice,
}


@needs_shared("golden", "golden_losses.json")
@pytest.mark.parametrize("key", DEFECTS, ids="-".join)
def test_recorded_defect(key: tuple[str, str, str]) -> None:
    """Where a library differs from its own formula, it does so in the way that is filed."""
    (record,) = (r for r in recorded() if (r["lib"], r["loss"], r["input"]) == key)
    DEFECTS[key](record)


@needs_shared("golden", "golden_losses.json")
def test_recorded_failures() -> None:
    """Five calls fail: kornia's 2-D losses on a volume, and SMP's soft cross-entropy with its defaults."""
    failed = {(r["lib"], r["loss"]): r["error"] for r in recorded() if r.get("value") is None}
    assert {key for key in failed if key[0] == "kornia"} == {
        ("kornia", loss) for loss in ("dice_micro", "dice_macro", "tversky_.3_.7", "lovasz_hinge")
    }
    assert failed["smp", "soft_ce_default"].startswith("TypeError")
    flat = {e.call for _, e in ENTRIES if e.library == "kornia" and e.ndim == 2}
    assert {RECORDS[key][0] for key in failed if key[0] == "kornia"} <= flat
