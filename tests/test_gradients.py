"""Gradients at the edges, for every loss: certain and saturated predictions, empty and full truths, one voxel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from test_attribution import VARIANTS
from test_losses import Array, loss_of, sigmoid

from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.measure.record import BoundMeasure

SHAPES = [(1, 1), (1, 1, 1), (1, 7), (6, 7), (3, 4, 5)]


def truths(shape: tuple[int, ...]) -> dict[str, Array]:
    """Return an empty gt, a full one, one voxel, and one in two parts."""
    empty = np.zeros(shape)
    single, mixed = empty.copy(), empty.copy()
    single.flat[single.size // 2] = 1
    mixed.flat[::3] = 1
    return {"empty": empty, "full": empty + 1, "single": single, "mixed": mixed}


def predictions(shape: tuple[int, ...]) -> dict[str, Array]:
    """Return logits: certain ones, saturated ones of either side, doubtful ones, and all of them together."""
    rng = np.random.default_rng(3)
    right = np.where(truths(shape)["mixed"] > 0, 800.0, -800.0)
    doubtful = rng.normal(0, 3, shape) + 0.1
    some = np.where(rng.random(shape) < 0.5, doubtful, right)
    return {"nothing": np.full(shape, -800.0), "all": np.full(shape, 800.0), "right": right, "wrong": -right,
            "doubtful": doubtful, "some": some}  # fmt: skip


def evidence(bound: BoundMeasure, z: Array, y: Array, *, logits: bool) -> SoftPair | SoftClasses:
    """Return what a loss reads: a pair, or for a loss over all classes the background and the object."""
    spacing = (2.0, 1.0, 0.5)[: z.ndim]
    if not bound.over_classes:
        return SoftPair.of(sigmoid(z), y, spacing=spacing, z=z if logits else None)
    both, one_hot, scores = ([sigmoid(-z), sigmoid(z)], [1 - y, y], [0 * z, z])
    return SoftClasses.of(np.array(both), np.array(one_hot), spacing=spacing, z=np.array(scores) if logits else None)


@pytest.mark.parametrize("logits", [False, True], ids=["probabilities", "logits"])
@pytest.mark.parametrize("text", VARIANTS)
def test_gradients_are_finite_or_the_record_says_why(text: str, logits: bool) -> None:
    """No NaN anywhere; an infinite entry only by p, at the optimum or at right voxels, as the caution says."""
    bound = loss_of(text)
    for shape in SHAPES:
        for (truth, y), (name, z) in itertools.product(truths(shape).items(), predictions(shape).items()):
            pair = evidence(bound, z, y, logits=logits)
            where = f"{text} {shape} {truth} {name}"
            value = bound(pair)
            assert value is not None, where
            assert math.isfinite(value), where
            for wrt in ("p", "z"):
                gradient = bound.gradient(pair, wrt)
                assert gradient.shape == ((2, pair.n) if bound.over_classes else (pair.n,)), where
                assert not np.isnan(gradient).any(), where
                endless = np.isinf(gradient)
                if endless.any():
                    assert wrt == "p", where
                    assert "infinite gradient dL/dp" in bound.measure.caution, where
                    if "from logits at every voxel that is certain and right" in bound.measure.caution:
                        assert (pair.p == pair.y)[endless].all(), where
                    else:
                        assert abs(value - bound(bound.perfect(pair))) < 1e-12, where


@pytest.mark.parametrize("text", VARIANTS)
def test_a_finite_gradient_has_finite_norms(text: str) -> None:
    """The norms that compare prints do not overflow, however steep a saturated voxel is."""
    y = truths((6, 7))["mixed"]
    z = predictions((6, 7))["wrong"]
    bound = loss_of(text)
    for wrt in ("p", "z"):
        gradient = bound.gradient(evidence(bound, z, y, logits=True), wrt)
        assert math.isfinite(float(abs(gradient).sum()))
        assert math.isfinite(float((gradient * gradient).sum()))
