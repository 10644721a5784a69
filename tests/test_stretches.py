"""Losses worked out stretch by stretch: the same as whole, for every loss that says it can be. What compare adds up."""

from __future__ import annotations

import gc
import math
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from test_attribution import VARIANTS
from test_losses import Array, loss_of, sigmoid

import segcli
from segcli.evidence import stretch
from segcli.evidence.parts import NoGridError
from segcli.evidence.pooled import PooledPair
from segcli.evidence.soft import SoftPair, Stretch
from segcli.explain.attribution import Shares, Tally, tallies
from segcli.explain.comparison import loss_rows
from segcli.masks.asked import reading_of
from segcli.measure.notation import parse
from segcli.measure.record import BoundMeasure
from segcli.scoring.loading import load

OF_PAIRS = [text for text in VARIANTS if not loss_of(text).over_classes]
LOCAL = [text for text in OF_PAIRS if loss_of(text).measure.local]
OTHERS = [text for text in OF_PAIRS if not loss_of(text).measure.local]
LENGTH = 16


def pair_of(kind: str, n: int = 6 * 9, seed: int = 0) -> SoftPair:
    """Return a pair of so many voxels: soft, a hard mask, from logits, with a soft gt or ignored voxels, in float64."""
    rng = np.random.default_rng(seed)
    shape = (6, n // 6) if n % 6 == 0 else (1, n)
    y = rng.random(shape) < 0.4
    z = (rng.normal(0, 3, shape) + 2 * y).astype(np.float64 if kind == "float64" else np.float32)
    z[0, : n // 12] = 40.0
    p = sigmoid(z).astype(z.dtype)
    options: dict[str, Any] = {"spacing": (2.0, 0.5)}
    if kind == "pooled":  # a part without a boundary inside, one outside, and one with
        parts = [y & False, y | True, y]
        return PooledPair([SoftPair.of(p, part, **options) for part in parts])
    if kind == "hard":
        return SoftPair.of(p > 0.5, y, hard=True, **options)
    if kind == "logits":
        return SoftPair.of(sigmoid(z.astype(np.float64)), y, z=z, **options)
    if kind == "soft gt":
        return SoftPair.of(p, rng.random(shape).astype(np.float32), **options)
    if kind == "ignored":
        return SoftPair.of(np.asfortranarray(p), y, valid=rng.random(shape) < 0.7, **options)
    return SoftPair.of(p, y, **options)


KINDS = ["soft", "hard", "logits", "soft gt", "ignored", "float64"]


def close(found: Array, expected: Array) -> None:
    """Hold vectors to 1e-12 of the largest entry; what is infinite is so in both."""
    finite = np.isfinite(expected)
    scale = float(abs(expected[finite]).max(initial=0.0))
    np.testing.assert_array_equal(np.isfinite(found), finite)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("kind", [*KINDS, "pooled"])
@pytest.mark.parametrize("text", LOCAL)
def test_stretch_by_stretch_is_whole(text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, optimum, gradients and maps, for sizes around the ends of stretches."""
    bound = loss_of(text)
    if kind == "pooled" and bound.measure.name in ("shape_aware", "skeleton_recall"):  # they need the grid once
        with pytest.raises(NoGridError):
            bound(pair_of(kind))
        return
    for n in (1, LENGTH - 1, LENGTH, LENGTH + 1, 54):
        found = {}
        for length in (10**9, LENGTH):
            monkeypatch.setattr(stretch, "LENGTH", length)
            pair = pair_of(kind, n)
            best = bound.perfect(pair)
            vectors = [
                bound.voxel_map(pair),
                bound.voxel_map(best),
                bound.gradient(pair, "p"),
                bound.gradient(pair, "z"),
            ]
            found[length] = [np.array([bound(pair), bound(best)]), *vectors]
        for whole, parts in zip(*found.values(), strict=True):
            close(parts, whole)


@pytest.mark.parametrize("text", OTHERS)
def test_losses_that_are_not_local_are_not(text: str) -> None:
    """Of a part of the voxels they cannot be found, or are another number: the record says no less than it could."""
    bound = loss_of(text)

    def differs(function: Any) -> bool:
        try:
            parts = np.concatenate([function(Stretch(pair, part)) for part in (slice(0, 20), slice(20, pair.n))])
        except (TypeError, AttributeError, IndexError, ValueError):
            return True
        return not np.allclose(parts, function(pair), rtol=1e-9, atol=0)

    pair = pair_of("soft")
    gradient, voxel_map = bound.measure.gradient, bound.measure.voxel_map
    assert gradient is not None
    assert voxel_map is not None
    assert differs(lambda own: voxel_map(own, **bound.params)) or differs(
        lambda own: gradient(own, own.wrt("p"), **bound.params)
    )


# --- what compare adds up ---------------------------------------------------------------------


def by_hand(bound: BoundMeasure, pair: SoftPair) -> dict[str, float | None]:
    """Return shares and norms from whole vectors, and the largest share of an island, labelled by SciPy."""
    excess = bound.voxel_map(pair) - bound.voxel_map(bound.perfect(pair))
    total = excess.sum()
    inside, predicted = (pair.grid(m.astype(float)) > 0 for m in (pair.y > 0.5, pair.p > pair.threshold))
    counted = np.ones(pair.shape, dtype=bool) if pair.valid is None else pair.valid
    near = ndimage.binary_dilation(inside, np.ones((3, 3))) & ndimage.binary_dilation(
        counted & ~inside, np.ones((3, 3))
    )
    found: dict[str, float | None] = {"fp": None, "boundary": None, "island": None}
    if total:
        found = {
            "fp": excess[pair.y <= 0.5].sum() / total,
            "boundary": pair.grid(excess)[near].sum() / total,
        }
    for wrt in ("p", "z"):
        gradient = bound.gradient(pair, wrt)
        found[f"l1 {wrt}"], found[f"l2 {wrt}"] = abs(gradient).sum(), np.linalg.norm(gradient)
    islands: list[float] = []
    for own, other in ((inside, predicted), (predicted, inside)):
        labels, count = ndimage.label(own, np.ones((3, 3)))
        parts = [labels == k for k in range(1, count + 1)]
        islands += [pair.grid(excess)[part].sum() / total for part in parts if total and not (part & other).any()]
    found["island"] = max(islands, default=None)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", OF_PAIRS)
def test_tallies_are_those_of_whole_vectors(text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, norms and the worst island."""
    bound = loss_of(text)
    monkeypatch.setattr(stretch, "LENGTH", 10**9)
    expected = by_hand(bound, pair_of(kind))
    monkeypatch.setattr(stretch, "LENGTH", LENGTH)
    (tally,) = tallies([bound], pair_of(kind), [True])
    share, island, by_p, by_z = tally.shares(), tally.worst_island(), tally.norms("p"), tally.norms("z")
    if expected["fp"] is None:
        assert (share, island) == (None, None)
        share = Shares(None, None, None)
    assert share is not None
    assert by_p is not None
    assert by_z is not None
    found = {"fp": share.fp, "boundary": share.boundary, "l1 p": by_p.l1, "l2 p": by_p.l2, "l1 z": by_z.l1,
             "l2 z": by_z.l2, "island": None if island is None else island.share}  # fmt: skip
    for key, value in expected.items():
        known = value is not None and math.isfinite(value)
        assert found[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if known else None), key


def test_rows_of_several_losses_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """All losses in one pass, in the order asked for, share what they make; so do two labelled smoothed optima."""
    monkeypatch.setattr(stretch, "LENGTH", LENGTH)
    losses = [loss_of(text) for text in ("topk", "bce", "hd_dt", "bce:label_smoothing=0.1", "lovasz", "dice", "focal")]
    for kind in KINDS:
        together = loss_rows("pred", "1", losses, pair_of(kind))
        assert [row.measure for row in together] == [bound.name for bound in losses]
        for row, bound in zip(together, losses, strict=True):
            assert loss_rows("pred", "1", [bound], pair_of(kind)) == [row]


def test_pooled_islands_lie_in_their_parts() -> None:
    """The islands of pooled pairs are those of the parts, their voxels moved behind those of the parts before."""
    parts = [pair_of("soft", seed=seed) for seed in range(3)]
    pooled = PooledPair(parts)
    for kind, (missed_or_false, voxels, numbers, sizes) in enumerate(pooled.islands):
        own = [part.islands[kind] for part in parts]
        assert missed_or_false == own[0].kind
        assert sizes.tolist() == [n for one in own for n in one.sizes]
        np.testing.assert_array_equal(np.bincount(numbers, minlength=len(sizes)), sizes)
        marked = np.zeros(pooled.n, dtype=int)
        marked[voxels] = 1
        expected = [np.isin(np.arange(part.n), one.voxels) for part, one in zip(parts, own, strict=True)]
        np.testing.assert_array_equal(marked, np.concatenate(expected))


# --- where voxels lie, found in boxes ---------------------------------------------------------


@given(
    st.integers(2, 3)
    .flatmap(lambda ndim: st.tuples(*[st.integers(1, 6)] * ndim))
    .flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape, fill=st.just(True)))),
    st.booleans(),
)
def test_distances_and_neighbours_from_boxes(grids: tuple[Array, Array], ignoring: bool) -> None:
    """They are SciPy's from whole grids, wherever the mask lies and whatever is ignored."""
    y, valid = grids
    spacing = (3.0, 1.0, 0.5)[: y.ndim]
    pair = SoftPair.of(y, y, spacing=spacing, valid=valid if ignoring else None)
    counted = valid if ignoring else np.ones(y.shape, dtype=bool)
    inside, outside = y & counted, ~y & counted
    around = np.ones((3,) * y.ndim)
    near = ndimage.binary_dilation(inside, around) & ndimage.binary_dilation(outside, around)
    np.testing.assert_array_equal(pair.near_boundary, near[counted])
    expected = np.zeros(y.shape)
    if inside.any() and outside.any():
        expected = sum(ndimage.distance_transform_edt(~side, sampling=spacing) for side in (inside, outside))
    np.testing.assert_allclose(pair.boundary_distance("gt", "mm"), expected[counted], rtol=1e-12)


def test_a_threshold_is_not_rounded_to_float32() -> None:
    """A float32 probability just above 0.3 in float64, and equal to it in float32, is foreground."""
    p = np.full((2, 2), 0.3, np.float32)
    assert float(p[0, 0]) > 0.3
    assert SoftPair.of(p, p, threshold=0.3).predicted.all()


# --- memory -----------------------------------------------------------------------------------


def test_a_stretch_is_gone_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle of references keeps its vectors until the garbage collector comes."""
    monkeypatch.setattr(stretch, "LENGTH", LENGTH)
    seen = []
    add = Tally.add
    monkeypatch.setattr(Tally, "add", lambda self, part, best: seen.append(weakref.ref(part)) or add(self, part, best))
    gc.disable()
    try:
        list(tallies(parse("loss", "default"), pair_of("soft"), [True] * 6))
        assert len(seen) > 6
        assert not any(part() for part in seen)
    finally:
        gc.enable()


@pytest.mark.parametrize(("losses", "most"), [("dice,bce,tversky,focal", 12), ("default", 48)])
def test_compare_makes_no_whole_vectors(losses: str, most: int) -> None:
    """A few bytes a voxel over those of the inputs; the default losses hold two fields of distances of 8 each."""
    shape = (64, 128, 128)
    y = np.zeros(shape, np.uint8)
    y[20:40, 30:60, 50:90] = 1
    p = np.clip(ndimage.gaussian_filter(y.astype(np.float32), 2) + 0.01, 0, 1)
    small = np.ascontiguousarray(p[:4, :8, :8])
    segcli.compare(small, y[:4, :8, :8], losses=losses)  # imports are not what is measured
    pair = load(p, y, reading_of())[0].soft(load(p, y, reading_of())[0].labels[0])
    tracemalloc.start()
    try:
        loss_rows("pred", "1", parse("loss", losses), pair)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * y.size + 2e7
