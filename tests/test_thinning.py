"""Skeletons: scikit-image, a slow twin, and shapes whose centre line and topology are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import cKDTree
from test_topology import KNOWN, volumes

import segcli
from segcli.errors import UsageError
from segcli.kernels.euler import euler_number
from segcli.kernels.skeleton import skeleton
from segcli.kernels.thinnings import THINNINGS, Thinning
from segcli.tools import pair as conventions

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
FULL = np.ones((3, 3, 3))
few = settings(max_examples=60)


def topology(mask: Mask) -> tuple[int, int, int]:
    """Return the pieces, the parts of the background and the Euler number."""
    background = ndimage.label(np.pad(~mask, 1, constant_values=True))[1]
    return ndimage.label(mask, FULL)[1], background, euler_number(np.ascontiguousarray(mask).view(np.uint8), 26)


# --- lee: scikit-image ------------------------------------------------------------------------


@given(volumes())
@few
def test_lee_is_scikit_image(mask: NDArray[np.uint8]) -> None:
    """Thinning by `lee` is scikit-image's, voxel by voxel, pieces that vanish too."""
    morphology = pytest.importorskip("skimage.morphology")
    inside = mask.astype(bool)
    theirs = morphology.skeletonize(inside) if inside.any() else inside
    assert (skeleton(inside, "lee") == theirs).all()


def test_lee_of_a_network() -> None:
    """Branches that cross, with tunnels among them, are thinned as scikit-image thins them."""
    morphology = pytest.importorskip("skimage.morphology")
    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((40, 50, 60)), 2)
    mask = np.abs(field) < 0.3 * field.std()
    theirs = morphology.skeletonize(mask)
    assert theirs.sum() > 1000
    assert (skeleton(mask, "lee") == theirs).all()


def test_lee_loses_straight_tubes() -> None:
    """Bars 2, 4 and 6 wide vanish, along every axis: why it is not the default."""
    for axis, width in product(range(3), (2, 4, 6)):
        form = [width] * 3
        form[axis] = 40
        assert skeleton(np.ones(form, dtype=bool), "lee").sum() == 0


# --- ends: the definitions --------------------------------------------------------------------


@given(volumes())
@few
def test_ends_is_its_slow_twin(mask: NDArray[np.uint8]) -> None:
    """The kernel, with its tables of bits, is the definitions spelt out in sets of voxels."""
    found = {tuple(map(int, v)) for v in np.argwhere(skeleton(mask.astype(bool)))}
    assert found == naive.thinned(mask)


def test_ends_of_blobs_is_its_slow_twin() -> None:
    """The same of larger blobs, whose layers are several voxels deep."""
    random = np.random.default_rng(5)
    for _ in range(2):
        field = ndimage.gaussian_filter(random.standard_normal((6, 7, 8)), 1.5)
        mask = field > np.quantile(field, 0.4)
        assert {tuple(map(int, v)) for v in np.argwhere(skeleton(mask))} == naive.thinned(mask)


@given(arrays(np.bool_, st.sampled_from([(6, 6, 6), (3, 8, 9), (1, 7, 9), (8, 1, 8)])))
@settings(max_examples=100)
def test_ends_keeps_the_topology(mask: Mask) -> None:
    """Pieces, cavities and the Euler number stay, of noise and of its smooth forms; thinned again it stays."""
    smooth = ndimage.gaussian_filter(mask.astype(float), 0.8)
    for shape in (mask, smooth > 0.4, smooth > 0.6):
        thin = skeleton(shape)
        assert not (thin & ~shape).any()
        assert topology(thin) == topology(shape)
        assert (skeleton(thin) == thin).all()


@pytest.mark.parametrize("name", KNOWN)
def test_ends_of_known_shapes(name: str) -> None:
    """A ball is one voxel, a ring a line round; a hollow ball stays closed."""
    mask, _ = KNOWN[name]
    thin = skeleton(mask)
    assert topology(thin) == topology(mask)
    if name == "ball":
        assert thin.sum() == 1
    if name == "torus":  # radius 7, in steps of 1 to 1.73
        assert 2 * np.pi * 7 / 1.73 < thin.sum() < 2 * np.pi * 7
        assert (neighbours(thin)[thin] == 2).all()


def test_plates_and_cubes_come_down_to_their_middle() -> None:
    """No line runs to a corner: a square or a cube is one voxel, an oblong plate as long as it exceeds its width."""
    for form in ((9, 9, 1), (9, 9, 2), (9, 9, 9), (8, 8, 8)):
        assert skeleton(np.ones(form, dtype=bool)).sum() == 1
    assert skeleton(np.ones((20, 30, 3), dtype=bool)).sum() in (10, 11)


def test_ends_does_not_depend_on_what_lies_elsewhere() -> None:
    """A mask has one skeleton, wherever it lies, whatever else there is, in whatever order of memory."""
    random = np.random.default_rng(1)
    field = ndimage.gaussian_filter(random.standard_normal((12, 13, 14)), 1.2)
    mask = field > 0
    thin = skeleton(mask)
    assert (skeleton(np.asfortranarray(mask)) == thin).all()
    for before in product((2, 3), repeat=3):
        wide = np.pad(mask, [(n, 5 - n) for n in before])
        wide[0, 0, 0] = True
        inner = tuple(slice(n, n + m) for n, m in zip(before, mask.shape, strict=True))
        assert (skeleton(wide)[inner] == thin).all()


# --- ends: lines ------------------------------------------------------------------------------


def neighbours(thin: Mask) -> NDArray[np.int64]:
    """Return how many neighbours each voxel has."""
    return ndimage.convolve(thin.astype(np.int64), FULL.astype(np.int64), mode="constant") - thin


def line(start: Sequence[float], stop: Sequence[float]) -> Points:
    """Return the points of a straight line, ten in a voxel."""
    a, b = np.asarray(start, float), np.asarray(stop, float)
    return a + (b - a) * np.linspace(0, 1, int(10 * np.linalg.norm(b - a)) + 1)[:, None]


def tube(points: Points, radius: float) -> tuple[Mask, Points]:
    """Return the voxels within a radius of the points of a line, and the line where they lie."""
    low = np.floor(points.min(axis=0)) - np.ceil(radius) - 1
    points = points - low
    form = np.ceil(points.max(axis=0) + radius).astype(int) + 2
    near = cKDTree(points).query(np.indices(form).reshape(3, -1).T, distance_upper_bound=radius + 1e-9)[0]
    return np.isfinite(near).reshape(form), points


def straight() -> Iterator[tuple[str, Points, float]]:
    """Yield the lines of straight tubes along axes, nearly along them, and oblique, between voxels in all ways."""
    random = np.random.default_rng(0)
    ways = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0.03, 0.01), (0, 1, 1), (1, 0, -1), (1, 1, 1), (1, -1, 1), (3, 1, -2)]
    for radius, way in product((1.5, 2, 3, 4.3), ways):
        for start in ((0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0, 0.5), random.random(3)):
            stop = np.asarray(start) + np.asarray(way) / np.linalg.norm(way) * (20 + 6 * radius)
            yield f"radius {radius}, {way} from {np.round(start, 2)}", line(start, stop), radius


def curved() -> Iterator[tuple[str, Points, float]]:
    """Yield the lines of arcs and screws, turned in space."""
    random = np.random.default_rng(1)
    t = np.linspace(0, 1, 800)
    for radius in (1, 1.5, 2, 3, 4):
        wide = 4 * radius + 6
        arc = np.stack([wide * np.cos(4 * t), wide * np.sin(4 * t), 0 * t], axis=1)
        screw = np.stack([wide * np.cos(9 * t), wide * np.sin(9 * t), t * (8 * radius + 8)], axis=1)
        for name, points in (("arc", arc), ("screw", screw)):
            turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
            yield f"{name}, radius {radius}", points + random.random(3), radius
            yield f"{name} turned, radius {radius}", points @ turn + random.random(3), radius


def share_near(line: Points, thin: Mask) -> float:
    """Return the share of a line's points that have a voxel of the skeleton within one voxel."""
    return float((cKDTree(np.argwhere(thin)).query(line)[0] <= 1).mean())


def length(thin: Mask) -> float:
    """Return the length of a skeleton without loops, from voxel to voxel."""
    places = np.argwhere(thin)
    pairs = cKDTree(places).query_pairs(1.8, output_type="ndarray")
    steps = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    return float(minimum_spanning_tree(coo_matrix((steps, pairs.T), shape=(len(places),) * 2)).sum())


def inner(points: Points, radius: float, *, start: bool = True) -> Points:
    """Return what of a line is farther than the radius from its ends."""
    far = np.linalg.norm(points - points[-1], axis=1) > radius
    return points[far & ((np.linalg.norm(points - points[0], axis=1) > radius) | (not start))]


@pytest.mark.parametrize("axis", range(3))
def test_a_bar_of_any_width_keeps_its_line(axis: int) -> None:
    """Bars of all widths 1 to 8 along each axis: one line in the middle, nowhere worn by more than the half-width."""
    for widths in product(range(1, 9), repeat=2):
        form = list(widths)
        form.insert(axis, 40)
        thin = skeleton(np.ones(form, dtype=bool))
        middle = [(n - 1) / 2 for n in form]
        start, stop = list(middle), list(middle)
        start[axis], stop[axis] = -0.5, 39.5
        assert share_near(inner(line(start, stop), max(widths) / 2), thin) == 1, widths
        assert sorted(neighbours(thin)[thin])[:3] == [1, 1, 2], widths
        assert neighbours(thin)[thin].max() == 2, widths


@pytest.mark.parametrize("source", [straight, curved])
def test_a_round_tube_keeps_its_line(source: Any) -> None:
    """Nine tenths of the centre line, a radius from its ends, are within one voxel of one line without spurs.

    A chain of steps from voxel to voxel is longer than the line it follows, and has no more voxels.
    """
    for name, drawn, radius in source():
        mask, points = tube(drawn, radius)
        thin = skeleton(mask)
        assert share_near(inner(points, radius), thin) >= 0.9, name
        assert topology(thin) == topology(mask) == (1, 1, 1), name
        assert (neighbours(thin)[thin] == 1).sum() == 2, name
        along = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        assert length(thin) <= 1.15 * along, name
        assert thin.sum() <= 1.05 * along, name


def test_a_tree_keeps_its_trunk() -> None:
    """Y-shaped trees with a trunk nearly along an axis: three ends, all branches, no more."""
    random = np.random.default_rng(2)
    for number in range(24):
        radius, axis = random.uniform(1.2, 3.5), number % 3
        way = np.roll([1, *random.normal(size=2) * 0.02], axis)
        way /= np.linalg.norm(way)
        fork = random.random(3) + 40 * way
        turns = [way + np.roll([0, side, 0.3 * random.normal()], axis) for side in (0.7, -0.7)]
        tips = [fork + 25 * turn / np.linalg.norm(turn) for turn in turns]
        lines = [line(fork - 40 * way, fork), *(line(fork, tip) for tip in tips)]
        mask, points = tube(np.concatenate(lines), radius)
        trunk, *branches = np.split(points, np.cumsum([len(one) for one in lines])[:2])
        thin = skeleton(mask)
        assert share_near(inner(trunk[::-1], radius, start=False), thin) >= 0.9, number
        for branch in branches:
            assert share_near(inner(branch, radius, start=False), thin) >= 0.9, number
        assert topology(thin) == topology(mask)
        assert (neighbours(thin)[thin] == 1).sum() == 3
        assert length(thin) <= 1.15 * 90


# --- the measures -----------------------------------------------------------------------------


def values_of(pred: Mask, gt: Mask, metrics: str, **how: Any) -> list[float | None]:
    """Return the values of some metrics of one label."""
    found = segcli.score(pred.astype(np.uint8), gt.astype(np.uint8), metrics=metrics, labels="fg=1", **how)
    return [v.value for v in found.values]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("half", ["first", "second"])
@pytest.mark.parametrize("widths", [(2, 2), (4, 4), (6, 6), (3, 3), (2, 5)])
def test_half_a_bar_is_half_a_line(axis: int, half: str, widths: tuple[int, int]) -> None:
    """Of a bar of even width half the line is missed where half the bar is, whichever half; so says the loss."""
    form = list(widths)
    form.insert(axis, 40)
    gt = np.pad(np.ones(form, dtype=bool), 2)
    along = np.arange(44).reshape([-1 if k == axis else 1 for k in range(3)])
    pred = gt & (along < 22 if half == "first" else along >= 22)
    recall, precision, cldice = values_of(pred, gt, "skeleton_recall,skeleton_precision,cldice")
    assert recall == pytest.approx(0.5, abs=0.02)
    assert precision == 1
    assert cldice == pytest.approx(2 / 3, abs=0.02)
    rows = segcli.compare(pred.astype(np.uint8), gt.astype(np.uint8), losses="skeleton_recall", labels="fg=1").rows
    (loss,) = (row for row in rows if row.label == "fg")
    assert loss.measure == "skeleton_recall:thinning=ends"
    assert loss.value == pytest.approx(0.5, abs=0.06)  # the tube reaches two steps on


def test_a_tree_without_its_trunk_is_not_perfect() -> None:
    """What was 1 before: with thinning=lee it still is."""
    trunk = np.zeros((60, 30, 30), dtype=bool)
    trunk[2:40, 13:17, 13:17] = True
    gt = trunk.copy()
    for step in range(18):
        for side in (-1, 1):
            gt[38 + step, 14 + side * step // 2 - 1 : 16 + side * step // 2 + 1, 13:17] = True
    pred = gt & ~trunk
    recall, lee = values_of(pred, gt, "skeleton_recall,skeleton_recall:thinning=lee")
    assert recall is not None
    assert lee is not None
    assert recall < 0.55 < lee


def test_lee_in_a_case_is_scikit_image() -> None:
    """Skeletons are those of the whole image, wherever the label lies in it and in whatever order of memory."""
    morphology = pytest.importorskip("skimage.morphology")
    random = np.random.default_rng(0)
    for form in ((4, 12, 14), (7, 9, 8), (15, 20)):
        masks = [np.zeros(form, np.uint8) for _ in range(2)]
        for mask in masks:  # only one slice of the first is filled
            inside = tuple(slice(2, 3) if n == 4 else slice(1, -1) for n in form)
            smooth = ndimage.gaussian_filter(random.standard_normal(form), 1)
            mask[inside] = smooth[inside] > -0.1
        pred, gt = masks
        thin = [morphology.skeletonize(mask > 0) for mask in masks]
        precision, recall = (thin[0] & (gt > 0)).sum() / thin[0].sum(), (thin[1] & (pred > 0)).sum() / thin[1].sum()
        expected = [precision, recall, 2 * precision * recall / (precision + recall)]
        names = [f"{name}:thinning=lee" for name in ("skeleton_precision", "skeleton_recall", "cldice")]
        for order in ("C", "F"):
            given_as = [np.asarray(mask, order=order) for mask in masks]
            found = segcli.score(*given_as, metrics=names, labels="fg=1")
            assert [v.value for v in found.values] == pytest.approx(expected, rel=1e-12)
            if len(form) == 2:  # a plane is thinned in one way only
                assert values_of(*given_as, "cldice") == pytest.approx(expected[2:], rel=1e-12)


@pytest.mark.parametrize("thinning", THINNINGS)
def test_a_skeleton_that_vanishes_is_undefined(thinning: Thinning) -> None:
    """By `lee` a cube of 2x2x2 goes: 0 of 0 voxels. A mask that is empty is another matter."""
    cube, box = np.zeros((6, 6, 6), dtype=bool), np.zeros((6, 6, 6), dtype=bool)
    cube[1:3, 1:3, 1:3] = box[1:4, 1:4, 1:6] = True
    names = ",".join(f"{name}:thinning={thinning}" for name in ("cldice", "skeleton_recall", "skeleton_precision"))
    found = segcli.score(cube.astype(np.uint8), box.astype(np.uint8), metrics=names, labels="fg=1").values
    if thinning == "lee":
        assert [v.value for v in found] == [None, pytest.approx(1 / 3), None]
        assert [v.why for v in found] == ["zero_denominator", "", "zero_denominator"]
    else:
        assert None not in [v.value for v in found]
    nothing = np.zeros_like(cube)
    assert values_of(nothing, box, names) == [0, 0, None]
    assert values_of(box, nothing, names) == [0, None, 0]
    assert values_of(nothing, nothing, names) == [None, None, None]


def test_thinning_depends_on_the_order_of_axes() -> None:
    """What the notes of cldice say: a flip may move a skeleton, and with it the number."""
    for form in ((4, 6), (3, 4, 6)):
        pred, gt = np.zeros(form, np.uint8), np.zeros(form, np.uint8)
        pred[..., 1:3, :], gt[..., 1, :] = 1, 1  # a line of two: the upper or the lower pixels stay
        if len(form) == 3:
            pred[[0, 2]], gt[[0, 2]] = 0, 0
        there, back = (values_of(p, g, "cldice") for p, g in ((pred, gt), (np.flip(pred, -2), np.flip(gt, -2))))
        assert there != back


def test_a_word_that_is_none() -> None:
    """Another word is refused with what is allowed."""
    mask = np.ones((3, 3, 3), dtype=np.uint8)
    for measure in ("cldice", "skeleton_recall", "skeleton_precision"):
        with pytest.raises(UsageError, match="thinning=zhang is not one of ends, lee"):
            segcli.score(mask, mask, metrics=f"{measure}:thinning=zhang")
    with pytest.raises(UsageError, match="thinning=Lee is not one of ends, lee"):
        segcli.compare(mask, mask, losses="skeleton_recall:thinning=Lee")


@pytest.mark.parametrize("tool", ["metricsreloaded", "panoptica"])
def test_cldice_of_other_tools_is_a_number_in_3d(tool: str) -> None:
    """They take scikit-image's skeletons in the same formula, and print nan for 0 of 0."""
    morphology = pytest.importorskip("skimage.morphology")
    random = np.random.default_rng(4)
    masks = [ndimage.gaussian_filter(random.standard_normal((9, 14, 13)), 1.3) > -0.01 for _ in range(2)]
    pred, gt = masks
    thin = [morphology.skeletonize(mask) for mask in masks]
    precision, recall = (thin[0] & gt).sum() / thin[0].sum(), (thin[1] & pred).sum() / thin[1].sum()
    bar = np.zeros((9, 14, 13), dtype=bool)
    bar[2:4, 5:7, 1:9] = True
    apart = np.zeros_like(bar)
    apart[7, 10, 2:6] = True
    words = {}
    for name, pair in {"both": (pred, gt), "vanished": (bar, bar), "apart": (apart, ~apart & gt)}.items():
        given_as = [mask.astype(np.uint8) for mask in pair]
        found = conventions.conventions(*given_as, metrics="cldice", labels="fg=1", convention=tool).rows
        words[name] = found[0].printed
        assert found[0].measure == "cldice:thinning=lee"
    assert words["both"].value == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)
    assert words["vanished"].words == words["apart"].words == "prints nan"
    with pytest.raises(UsageError, match="thinning is part of the convention"):
        segcli.score(pred, gt, metrics="cldice:thinning=ends", convention=tool)
