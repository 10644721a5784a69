"""Losses of neighbourhoods, skeletons, components and contours, and the kernels below them."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from test_losses import (
    INPUTS,
    SHARED,
    Array,
    check_differences,
    drawn,
    fields,
    hausdorff_weights,
    loss_of,
    needs_shared,
    recorded_pairs,
    sides,
    sigmoid,
)

from segcli.evidence.soft import SoftPair
from segcli.kernels.ball import BallWeights, ball_coverage, ball_means, ball_size
from segcli.kernels.pooling import SoftSkeleton, least_of_three
from segcli.kernels.skeleton import skeleton, skeleton_tube
from segcli.kernels.thinnings import THINNINGS, Thinning
from segcli.measure.record import find

VARIANTS = [
    "hd_dt_onesided", "hd_dt_onesided:alpha=1:unit=voxel", "log_hd_dt", "log_hd_dt:alpha=1:unit=voxel", "hd_er",
    "hd_er:alpha=1:erosions=3", "hd_cv", "hd_cv:alpha=0.5:radius=3", "cldice", "cldice:iterations=1:smooth=0.1",
    "dice_cldice", "dice_cldice:alpha=0.2", "skeleton_recall", "skeleton_recall:radius=0:smooth=0",
    "skeleton_recall:thinning=lee", "ssim",
    "ssim:window=3:sigma=0.8", "basnet", "blob", "blob:smooth=0", "active_contour", "active_contour:region=2:mu=0.3",
]  # fmt: skip
SHAPES = [(1, 1), (1, 6), (5, 4), (12, 13), (3, 4, 5)]
KINDS = ("hard", "soft", "empty", "full")


def sampled(step: int = 0) -> list[tuple[Array, Array, tuple[float, ...]]]:
    """Return fixed inputs without ties: 2-D and 3-D, hard and soft, empty and full."""
    rng = np.random.default_rng(11)
    found = []
    for shape, kind in itertools.product(SHAPES, KINDS):
        hard = (ndimage.gaussian_filter(rng.standard_normal(shape), 0.8) > 0).astype(float)
        order = (0.7 * hard + rng.random(shape)).argsort(axis=None).argsort().reshape(shape)
        p = np.linspace(0.03, 0.98, hard.size)[order]  # all apart: no two are equal within a step
        soft = np.abs(hard - 0.4 * rng.random(shape))
        y = {"hard": hard, "soft": soft, "empty": np.zeros(shape), "full": np.ones(shape)}[kind]
        found.append((p, y, (2.5, 0.3, 1.0)[: len(shape)]))
    return found[::step] if step else found


# --- recorded reference values (not part of the repository) -----------------------------------

#: Key of a `ref` record in golden_losses.json -> measure.
RECORDED = {
    "hausdorff_dt_onesided": "hd_dt_onesided", "hausdorff_er": "hd_er", "hausdorff_cv": "hd_cv",
    "cldice_iter3": "cldice", "skeleton_recall": "skeleton_recall:thinning=lee", "blob_dice": "blob:smooth=1",
    "active_contour": "active_contour",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the records by input, library and loss."""
    results = json.loads((SHARED / "golden" / "golden_losses.json").read_text())["results"]
    return {(r["input"], r["lib"].partition("_")[0], r["loss"]): r for r in results}


@needs_shared
@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("key", RECORDED)
def test_recorded_reference(key: str, source: str, recorded: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """Values agree to 1e-12 and gradients to 1e-9 with the recorded reference formulas."""
    record, bound, pairs = recorded[source, "ref", key], loss_of(RECORDED[key]), recorded_pairs(source)
    values = [bound(pair) for pair in pairs]
    assert sum(v for v in values if v is not None) / len(pairs) == pytest.approx(record["value"], rel=1e-12, abs=0)
    gradient = np.concatenate([bound.gradient(pair, "p") for pair in pairs]) / len(pairs)
    noted = record["grad"]
    close = {"rel": 1e-9, "abs": 1e-12 * noted["l1"]}
    assert float(gradient.sum()) == pytest.approx(noted["sum"], **close)
    assert float(abs(gradient).sum()) == pytest.approx(noted["l1"], **close)
    assert float(np.linalg.norm(gradient)) == pytest.approx(noted["l2"], **close)
    assert gradient[noted["idx"]] == pytest.approx(np.array(noted["at"]), **close)


#: Key of a library's record -> measure and tolerance: MONAI's distances and windows are float32, its clDice has
#: one more smooth of 1e-4.
PEERS = {
    ("monai", "log_hausdorff_dt"): ("log_hd_dt:unit=voxel", 1e-6), ("monai", "ssim"): ("ssim", 5e-5),
    ("monai", "cldice"): ("cldice", 6e-5), ("monai", "dicecldice"): ("dice_cldice", 6e-5),
    ("kornia", "hausdorff_er"): ("hd_er", 1e-12),
}  # fmt: skip


@needs_shared
@pytest.mark.parametrize("source", [name for name in INPUTS if name != "multi4"])
@pytest.mark.parametrize("key", PEERS, ids="-".join)
def test_recorded_peers(
    key: tuple[str, str], source: str, recorded: dict[tuple[str, str, str], dict[str, Any]]
) -> None:
    """Values agree with those of other libraries, empty and certain inputs included."""
    record, (text, tolerance) = recorded[source, *key], PEERS[key]
    (pair,) = recorded_pairs(source)
    assert loss_of(text)(pair) == pytest.approx(record["value"], rel=tolerance, abs=tolerance)


# --- gradients --------------------------------------------------------------------------------


def convolved(x: Any, weights: Array) -> Any:
    """Return a convolution in torch with zeros outside."""
    torch = pytest.importorskip("torch")
    convolve = torch.nn.functional.conv2d if x.ndim == 2 else torch.nn.functional.conv3d
    padding = [n // 2 for n in weights.shape]
    return convolve(x[None, None], torch.tensor(weights)[None, None], padding=padding)[0, 0]


def ball(radius: int, ndim: int) -> Array:
    """Return the normalised ball of a radius."""
    squares = sum(np.meshgrid(*[np.arange(-radius, radius + 1) ** 2] * ndim, indexing="ij"))
    inside = (squares <= radius**2).astype(float)
    return inside / inside.sum()


def soft_skeleton(x: Any, iterations: int) -> Any:
    """Return the soft skeleton as MONAI and the authors write it."""
    torch = pytest.importorskip("torch")
    pool = torch.nn.functional.max_pool2d if x.ndim == 2 else torch.nn.functional.max_pool3d

    def erode(x: Any) -> Any:
        found = None
        for axis in range(x.ndim):
            size, padding = [1] * x.ndim, [0] * x.ndim
            size[axis], padding[axis] = 3, 1
            least = -pool(-x[None, None], tuple(size), 1, tuple(padding))[0, 0]
            found = least if found is None else torch.min(found, least)
        return found

    def rest(x: Any) -> Any:
        return torch.relu(x - pool(erode(x)[None, None], 3, 1, 1)[0, 0])

    found = rest(x)
    for _ in range(iterations):
        x = erode(x)
        delta = rest(x)
        found = found + torch.relu(delta - found * delta)
    return found


def written_out(name: str, p: Any, y: Any, spacing: tuple[float, ...], k: dict[str, Any]) -> Any:
    """Return a loss in torch, written from the formulas in the literature and not from segcli's."""
    torch = pytest.importorskip("torch")

    def dice(p: Any, y: Any) -> Any:
        return 1 - (2 * (p * y).sum() + k["smooth"]) / (p.sum() + y.sum() + k["smooth"])

    def eroded() -> Any:
        cross = np.zeros((3,) * p.ndim)
        for axis in range(p.ndim):
            cross[tuple(slice(None) if a == axis else 1 for a in range(p.ndim))] = 1 / (2 * p.ndim + 1)
        error, total = (p - y) ** 2, 0
        for step in range(1, k["erosions"] + 1):
            error = torch.relu(convolved(error, cross) - 0.5)
            if error.max() != error.min():
                error = (error - error.min()) / (error.max() - error.min())
            total = total + step ** k["alpha"] * error
        return total.mean()

    def balls() -> Any:
        excess, missed, total = (p - y) ** 2 * p, (p - y) ** 2 * y, 0
        for r in range(3, k["radius"] + 1, 3):
            f = [torch.relu(convolved(x, ball(r, p.ndim)) - 0.5) for x in (1 - y, y, 1 - p, p)]
            total = total + r ** k["alpha"] * (f[0] * excess + f[1] * missed + f[2] * missed + f[3] * excess)
        return total.mean()

    def cldice() -> Any:
        of_p, of_y = (soft_skeleton(x, k["iterations"]) for x in (p, y))
        prec = ((of_p * y).sum() + k["smooth"]) / (of_p.sum() + k["smooth"])
        sens = ((of_y * p).sum() + k["smooth"]) / (of_y.sum() + k["smooth"])
        return 1 - 2 * prec * sens / (prec + sens)

    def recall() -> Any:
        tube = torch.tensor(skeleton_tube(y.numpy() > 0.5, k["radius"], k["thinning"])).double()
        return 1 - ((p * tube).sum() + k["smooth"]) / (tube.sum() + k["smooth"])

    def ssim() -> Any:
        weights = np.ones((1,) * p.ndim)
        for axis, n in enumerate(p.shape):
            size = min(k["window"], n)
            line = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / 2 / k["sigma"] ** 2)
            weights = weights * (line / line.sum()).reshape([-1 if a == axis else 1 for a in range(p.ndim)])
        convolve = torch.nn.functional.conv2d if p.ndim == 2 else torch.nn.functional.conv3d
        m_p, m_y, pp, yy, py = (
            convolve(x[None, None], torch.tensor(weights)[None, None]) for x in (p, y, p * p, y * y, p * y)
        )
        top = (2 * m_p * m_y + 1e-4) * (2 * (py - m_p * m_y) + 9e-4)
        return 1 - (top / ((m_p**2 + m_y**2 + 1e-4) * (pp - m_p**2 + yy - m_y**2 + 9e-4))).mean()

    def basnet() -> Any:
        both = (p * y).sum()
        iou = 1 - (both + k["smooth"]) / (p.sum() + y.sum() - both + k["smooth"])
        return torch.nn.functional.binary_cross_entropy(p, y) + ssim() + iou

    def blob() -> Any:
        labels, count = ndimage.label(y.numpy() > 0.5, np.ones((3,) * y.ndim))
        kept = [torch.tensor((labels == 0) | (labels == c)) for c in range(1, max(count, 1) + 1)]
        return sum(dice(p[mask], y[mask]) for mask in kept) / len(kept)

    def contour() -> Any:
        axes = [axis for axis in range(p.ndim) if p.shape[axis] > 1]
        here = p[tuple(slice(None, -1) if axis in axes else slice(None) for axis in range(p.ndim))]
        steps = [
            p[tuple(slice(a == axis, None if a == axis or a not in axes else -1) for a in range(p.ndim))] - here
            for axis in axes
        ]
        length = torch.sqrt(sum(s**2 for s in steps) + 1e-8).mean() if axes else 0
        return length + k["region"] * (k["mu"] * p * (1 - y) ** 2 + (1 - p) * y**2).mean()

    forms = {
        "hd_dt_onesided": lambda: torch.mean((p - y) ** 2 * torch.tensor(sum(sides(y, spacing, k)) ** k["alpha"])),
        "log_hd_dt": lambda: torch.log1p(((p - y) ** 2 * hausdorff_weights(p, y, spacing, k)).mean()),
        "hd_er": eroded, "hd_cv": balls, "cldice": cldice, "skeleton_recall": recall, "ssim": ssim, "basnet": basnet,
        "dice_cldice": lambda: (1 - k["alpha"]) * dice(p, y) + k["alpha"] * cldice(),
        "blob": blob, "active_contour": contour,
    }  # fmt: skip
    return forms[name]()


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
            value = value + 0 * prob.sum()
            value.backward()
            # 0/0 in torch (nothing that is weighed, smooth=0) is 0 here
            expected, slope = (torch.nan_to_num(found.detach()).numpy().ravel() for found in (value, leaf.grad))
            for pair in (plain, exact):
                assert bound(pair) == pytest.approx(float(expected[0]), rel=1e-10, abs=1e-12)
                close = {"rel": 1e-8, "abs": 1e-10 * (1 + abs(slope).max())}
                assert bound.gradient(pair, wrt) == pytest.approx(slope, **close)


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("wrt", ["p", "z"])
def test_gradient_differences(text: str, wrt: str) -> None:
    """The gradient is that of the implemented value, ignored voxels included: central differences agree."""
    for case in sampled(3):
        valid = np.random.default_rng(2).random(case[0].shape) < 0.8
        for mask in (None, valid) if valid.any() else (None,):
            check_differences(loss_of(text), case, wrt, valid=mask, step=1e-6, rel=1e-5, floor=3e-7)


# --- maps, edges, ignored voxels --------------------------------------------------------------


@pytest.mark.parametrize("text", VARIANTS)
@given(field=st.one_of(fields(), fields(soft=True)), certain=st.booleans(), hidden=st.integers(0, 99))
@drawn
def test_voxel_map_adds_up(
    text: str, field: tuple[Array, Array, tuple[float, ...]], certain: bool, hidden: int
) -> None:
    """The contributions of the voxels that count add up to the loss."""
    p, y, spacing = field
    valid = np.random.default_rng(hidden).random(p.shape) < 0.7 if hidden else None
    bound, pair = loss_of(text), SoftPair.of(np.round(p) if certain else p, y, spacing=spacing, valid=valid)
    contributions, value = bound.voxel_map(pair), bound(pair)
    assert contributions.shape == (pair.n,)
    if value is not None:
        assert float(contributions.sum()) == pytest.approx(value, rel=1e-9, abs=1e-12 * (1 + abs(contributions).sum()))


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("exact", [False, True], ids=["probabilities", "logits"])
def test_edges(text: str, exact: bool) -> None:
    """Certain predictions and empty or full masks give finite values, maps and gradients."""
    bound = loss_of(text)
    low, high = bound.measure.range
    for pred, truth in itertools.product(itertools.product((0.0, 1.0), repeat=3), repeat=2):
        p, y = np.array([pred]), np.array([truth])
        pair = SoftPair.of(p, y, spacing=(1.0, 2.0), z=800 * (2 * p - 1) if exact else None)
        value = bound(pair)
        assert value is not None
        assert low <= value <= high
        assert math.isfinite(value)
        assert float(bound.voxel_map(pair).sum()) == pytest.approx(value, rel=1e-9, abs=1e-12)
        for wrt in ("p", "z"):
            gradient = bound.gradient(pair, wrt)
            assert np.isfinite(gradient).all()
            assert math.isfinite(float(np.square(gradient).sum()))


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("shape", [(12, 13), (4, 5, 6)])
def test_ignored_voxels(text: str, shape: tuple[int, ...]) -> None:
    """Ignored planes at the sides change nothing, and what stands in ignored voxels is not looked at."""
    rng = np.random.default_rng(4)
    p, y = rng.random(shape), (ndimage.gaussian_filter(rng.random(shape), 1) > 0.5).astype(float)
    bound, valid = loss_of(text), np.zeros(shape, dtype=bool)
    inner = tuple(slice(1, n - 2) for n in shape)
    valid[inner] = True
    cut, hidden = SoftPair.of(p[inner], y[inner]), SoftPair.of(p, y, valid=valid)
    assert bound(hidden) == pytest.approx(bound(cut), rel=1e-12)
    assert bound.gradient(hidden, "p") == pytest.approx(bound.gradient(cut, "p"), rel=1e-9, abs=1e-14)
    assert bound.voxel_map(hidden) == pytest.approx(bound.voxel_map(cut), rel=1e-9, abs=1e-14)
    holes = rng.random(shape) < 0.8
    other = SoftPair.of(np.where(holes, p, 1 - p), np.where(holes, y, 1 - y), valid=holes)
    assert bound(other) == bound(SoftPair.of(p, y, valid=holes))


def test_no_voxels() -> None:
    """A mean over no voxels is undefined; a ratio without anything is 0."""
    pair = SoftPair.of(np.full((1, 2), 0.5), np.ones((1, 2)), valid=np.zeros((1, 2), dtype=bool))
    for text in VARIANTS:
        ratio = find(text.split(":")[0], "loss").name in {"cldice", "dice_cldice", "skeleton_recall", "blob"}
        assert loss_of(text)(pair) == (0 if ratio else None), text
        assert loss_of(text).gradient(pair, "p").size == loss_of(text).voxel_map(pair).size == 0


@pytest.mark.parametrize("text", ["cldice", "dice_cldice", "ssim", "basnet", "blob", "skeleton_recall"])
def test_nearly_perfect(text: str) -> None:
    """Next to the optimum the losses keep their digits: nothing is lost to cancellation."""
    y = np.zeros((15, 20))
    y[4:9, 3:15] = 1
    z = np.linspace(25.0, 35.0, y.size).reshape(y.shape) * (2 * y - 1)
    pair = SoftPair.of(sigmoid(z), y, z=z)
    value = loss_of(text)(pair)
    assert value is not None
    assert 0 < value < 1e-9
    assert float(loss_of(text).voxel_map(pair).sum()) == pytest.approx(value, rel=1e-9)


# --- what the docstrings state ----------------------------------------------------------------


def test_erosion_is_blind_to_thin_errors() -> None:
    """Small specks, and rims of one voxel that are not certain, have a loss and a gradient of exactly 0."""
    y = np.zeros((20, 20))
    y[5:15, 5:15] = 1
    speck = y.copy()
    speck[1, 1:3] = 1
    rims = [np.roll(y, 1, axis=0), ndimage.binary_erosion(y).astype(float), ndimage.binary_dilation(y).astype(float)]
    for p in (speck, *(0.9 * rim + 0.1 * y for rim in rims)):
        assert loss_of("hd_er")(SoftPair.of(p, y)) == 0
        assert not loss_of("hd_er").gradient(SoftPair.of(p, y), "p").any()
    for p in (rims[0], np.roll(y, 4, axis=0)):
        assert (loss_of("hd_er")(SoftPair.of(p, y)) or 0) > 0


def test_blob_counts_objects() -> None:
    """A small object that is missed costs as much as a large one, and one object is dice."""
    y = np.zeros((20, 20))
    y[2:12, 2:12] = 1
    one = SoftPair.of(y * 0.75, y)
    assert loss_of("blob")(one) == pytest.approx(loss_of("dice")(one), rel=1e-12)
    y[16, 16] = y[17, 17] = 1  # over a corner: one component
    missed = y.copy()
    missed[15:, 15:] = 0
    assert loss_of("blob")(SoftPair.of(missed, y)) == pytest.approx(0.5, abs=1e-5)
    assert loss_of("dice")(SoftPair.of(missed, y)) < 0.02


def test_cldice_sees_a_break() -> None:
    """A break in a thin line costs more in skeleton terms than a rim that is left out of a thick one."""
    y = np.zeros((15, 40))
    y[6:9, 2:38] = 1
    thin, broken = y.copy(), y.copy()
    thin[[6, 8]] = 0
    broken[:, 15:25] = 0
    for text, larger in (("cldice", broken), ("dice", thin)):
        values = {name: loss_of(text)(SoftPair.of(p, y)) for name, p in (("thin", thin), ("broken", broken))}
        assert max(values, key=values.__getitem__) == ("broken" if larger is broken else "thin"), text


def test_active_contour_is_less_off_the_truth() -> None:
    """Its least value is not at pred = gt, as its caution says: a lone voxel is cheaper to leave out."""
    y = np.zeros((9, 9))
    y[4, 4] = 1
    assert loss_of("active_contour")(SoftPair.of(0 * y, y)) < loss_of("active_contour")(SoftPair.of(y, y))
    assert "not at pred = gt" in find("active_contour", "loss").caution


# --- kernels ----------------------------------------------------------------------------------


def grids(*, quantised: bool = False) -> st.SearchStrategy[Array]:
    """Draw small fields in 2-D and 3-D."""
    values = st.integers(0, 4).map(lambda k: k / 4) if quantised else st.floats(0, 1)
    return hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7), elements=values)


@given(field=grids(), axis=st.integers(0, 1))
def test_least_of_three_equals_scipy(field: Array, axis: int) -> None:
    """The least of three is SciPy's minimum filter, and the pick leads to it."""
    least, pick = least_of_three(field, axis)
    size = [3 if a == axis else 1 for a in range(field.ndim)]
    np.testing.assert_array_equal(least, ndimage.minimum_filter(field, size, mode="nearest"))
    where = np.indices(field.shape)
    where[axis] += pick
    np.testing.assert_array_equal(field[tuple(where)], least)


@given(field=grids(), iterations=st.integers(0, 3), hidden=st.integers(0, 9))
def test_soft_skeleton_equals_scipy(field: Array, iterations: int, hidden: int) -> None:
    """The soft skeleton is the one made of SciPy's filters, ignored voxels being outside the grid."""
    valid = np.random.default_rng(hidden).random(field.shape) < 0.7 if hidden else np.ones(field.shape, dtype=bool)
    cross = ndimage.generate_binary_structure(field.ndim, 1)

    def erode(x: Array) -> Array:
        return ndimage.minimum_filter(np.where(valid, x, np.inf), footprint=cross, mode="constant", cval=np.inf)

    def rest(x: Array) -> Array:
        inner = np.where(valid, erode(x), -np.inf)
        opened = ndimage.maximum_filter(inner, 3, mode="constant", cval=-np.inf)
        return np.maximum(np.where(valid, x - opened, 0), 0)

    x, expected = np.where(valid, field, 0), np.zeros(field.shape)
    for step in range(iterations + 1):
        x = np.where(valid, erode(x), 0) if step else x
        delta = rest(x)
        expected = expected + np.maximum(delta - expected * delta, 0)
    found = SoftSkeleton(field, iterations, None if valid.all() else valid).value
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@given(field=grids(), radii=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_ball_means_equal_scipy(field: Array, radii: list[int]) -> None:
    """Means over balls of several radii are SciPy's convolutions with zeros outside."""
    for mean, cover, radius in zip(ball_means(field, radii), ball_coverage(field.shape, radii), radii, strict=True):
        expected = ndimage.convolve(field, ball(radius, field.ndim), mode="constant")
        np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-14)
        expected = ndimage.convolve(np.ones(field.shape), ball(radius, field.ndim), mode="constant")
        np.testing.assert_allclose(cover, expected, rtol=0, atol=1e-14)
        assert ball_size(radius, field.ndim) == np.count_nonzero(ball(radius, field.ndim))


@pytest.mark.parametrize("shape", [(40, 30), (25, 14, 30), (19, 19), (7, 40), (20, 1, 3)])
def test_ball_coverage_of_larger_grids(shape: tuple[int, ...]) -> None:
    """The coverage read off a small grid is that of the whole one."""
    whole = ball_means(np.ones(shape), (3, 6, 9))
    np.testing.assert_allclose(ball_coverage(shape, (3, 6, 9)), whole, rtol=0, atol=1e-14)
    field = np.random.default_rng(0).random(shape)
    everything = BallWeights(field, field**2, (3, 9), 2.0, np.ones(shape, dtype=bool))
    np.testing.assert_allclose(BallWeights(field, field**2, (3, 9), 2.0).on_p, everything.on_p, atol=1e-12)


def test_ball_means_refuse_other_arrays() -> None:
    """Another dtype or number of axes is an error; no voxels have no means."""
    assert ball_means(np.zeros((0, 4)), (3,)).shape == (1, 0, 4)
    for field in (np.zeros(3), np.zeros((2, 2), np.float32), np.zeros((1, 1, 1, 1))):
        with pytest.raises(ValueError, match="ball_means"):
            ball_means(field, (3,))


def volumes() -> list[NDArray[np.bool_]]:
    """Return masks with thick, thin and ragged parts, holes and empty ones, in 2-D and 3-D."""
    rng = np.random.default_rng(1)
    found = [np.zeros((4, 5), dtype=bool), np.ones((6, 9), dtype=bool), np.ones((4, 5, 6), dtype=bool)]
    for side, ndim, smooth, share in itertools.product((1, 9, 16), (2, 3), (0, 0.7, 1.5, 3), (0.3, 0.5, 0.8)):
        shape = rng.integers(1, side + 1, ndim) if side < 16 else rng.integers(12, 18, ndim)
        field = ndimage.gaussian_filter(rng.random(shape), smooth)
        found.append(field > np.quantile(field, share))
    return found


def test_skeleton_equals_scikit_image() -> None:
    """The skeletons are those of scikit-image, voxel by voxel."""
    skeletonize = pytest.importorskip("skimage.morphology").skeletonize
    for mask in volumes():
        np.testing.assert_array_equal(skeleton(mask, "lee"), skeletonize(mask) > 0)


@pytest.mark.parametrize("thinning", THINNINGS)
def test_skeleton_is_thin(thinning: Thinning) -> None:
    """A skeleton lies in its mask, is in no more pieces, and thinning it again changes nothing."""
    for mask in volumes():
        thin, near = skeleton(mask, thinning), np.ones((3,) * mask.ndim)
        assert not (thin & ~mask).any()
        assert ndimage.label(thin, near)[1] <= ndimage.label(mask, near)[1]
        np.testing.assert_array_equal(skeleton(thin, thinning), thin)
        np.testing.assert_array_equal(skeleton(np.asfortranarray(mask), thinning), thin)
    lee = thinning == "lee"
    for size, left in {(2, 2): 2, (3, 3): 2, (2, 2, 2): 0 if lee else 1, (3, 3, 3): 3 if lee else 1}.items():
        assert skeleton(np.ones(size, dtype=bool), thinning).sum() == left


def test_tube_equals_scipy() -> None:
    """The tube is the skeleton dilated by a cross, cut to the mask."""
    for mask in volumes():
        cross = ndimage.generate_binary_structure(mask.ndim, 1)
        for thinning in THINNINGS:
            grown = ndimage.binary_dilation(skeleton(mask, thinning), cross, 2) & mask
            np.testing.assert_array_equal(skeleton_tube(mask, 2, thinning), grown)
    with pytest.raises(ValueError, match="skeleton"):
        skeleton(np.zeros((2, 2), np.uint8))
