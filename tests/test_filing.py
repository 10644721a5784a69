"""Filing: what a family says of a measure is checked at import, and a sum of losses follows from its terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest

from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.measure import record
from segcli.measure.filing import gradient_of, ideal_of, loss, metric, voxel_map_of
from segcli.measure.losses.combine import Given, mean_term, term, weighted
from segcli.measure.notation import bind
from segcli.measure.param import Param
from segcli.measure.record import find, measures

Weight = Annotated[float, Param("weight of a loss", ge=0)]
Share = Annotated[float, Param("weight of a loss; the rest is that of another", ge=0, le=1)]
SAID: dict[str, Any] = {"formula": "x", "reference": "none"}
P = np.array([[0.9, 0.2, 0.6], [0.4, 0.1, 0.7]])
Y = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


@pytest.fixture(autouse=True)
def unfiled() -> Iterator[None]:
    """Take back what a test files."""
    measures()
    before = dict(record._REGISTRY)
    yield
    record._REGISTRY.clear()
    record._REGISTRY.update(before)
    record._words.cache_clear()


def toy(*, smooth: Weight = 1.0) -> None:
    """Stand for a loss."""


# --- companions -----------------------------------------------------------------------------------


def test_companions_take_the_parameters_of_the_loss() -> None:
    """A gradient, a map or an ideal with other parameters is refused where it is filed, by name."""
    loss(family="region", range=(0, 1), **SAID)(toy)

    def one_less(pair: object) -> None: ...
    def another(pair: object, *, smoothing: float) -> None: ...
    def fits(pair: object, *, smooth: float) -> None: ...

    for file, what in (
        (gradient_of("toy"), "gradient"),
        (voxel_map_of("toy", "additive"), "voxel map"),
        (ideal_of("toy"), "ideal"),
    ):
        with pytest.raises(TypeError, match=rf"^the {what} of loss\.toy takes no parameters; the loss takes smooth$"):
            file(one_less)
        with pytest.raises(TypeError, match=rf"^the {what} of loss\.toy takes smoothing; the loss takes smooth$"):
            file(another)
        assert file(fits) is fits
    assert find("toy", "loss").gradient is fits


def test_a_companion_needs_its_loss() -> None:
    with pytest.raises(TypeError, match=r"the gradient of loss\.toy has no measure: file it first"):
        gradient_of("toy")(toy)


def test_what_is_filed_is_checked() -> None:
    """A name twice, a keyword that is none, a parameter without its words, no docstring: an error at once."""
    loss(family="region", range=(0, 1), **SAID)(toy)
    with pytest.raises(TypeError, match=r"loss\.toy is filed twice"):
        loss(family="region", range=(0, 1), **SAID)(toy)
    with pytest.raises(TypeError, match="optimal"):
        metric(family="overlap", range=(0, 1), better="higher", optimal=1, **SAID)  # type: ignore[call-arg]

    def bare(pair: object, *, smooth: float = 1.0) -> None:
        """Stand for a loss."""

    with pytest.raises(TypeError, match="bare: smooth needs Annotated"):
        loss(family="region", range=(0, 1), **SAID)(bare)

    def silent(pair: object) -> None: ...

    with pytest.raises(TypeError, match="silent has no docstring"):
        loss(family="region", range=(0, 1), **SAID)(silent)


# --- sums -----------------------------------------------------------------------------------------


def test_a_sum_follows_from_its_terms() -> None:
    """Value, derivatives and map are the weighted ones of the terms; so are parameters and record."""

    @weighted(term("focal", "a"), term("tversky", "b"), term("mae"), **SAID)
    def toy(*, a: Weight = 2.0, b: Weight = 3.0, gamma: Weight = 1.5) -> None:
        """Stand for a sum."""

    found = find("toy", "loss")
    assert list(found.params) == ["a", "b", "gamma", "alpha", "fp", "fn", "smooth", "clip"]
    assert found.params["fp"] == find("tversky").params["fp"]
    assert found.params["gamma"].help == "weight of a loss"
    assert (found.family, found.reads, found.needs, found.range) == ("compound", "probability", "voxels", (0, math.inf))
    assert (found.local, found.symmetric, found.optimum, found.attribution) == (True, False, None, "additive")
    pair = SoftPair.of(P, Y)
    bound = bind("loss.toy:b=0.5:fp=0.1:alpha=0.3")
    terms = [(2.0, "focal:alpha=0.3:gamma=1.5"), (0.5, "tversky:fp=0.1"), (1.0, "mae")]
    each = [(weight, bind(f"loss.{text}")) for weight, text in terms]
    assert bound(pair) == pytest.approx(sum(w * b(pair) for w, b in each), rel=1e-15)
    for wrt in ("p", "z"):
        np.testing.assert_allclose(bound.gradient(pair, wrt), sum(w * b.gradient(pair, wrt) for w, b in each), 1e-14)  # type: ignore[arg-type]
    np.testing.assert_allclose(bound.voxel_map(pair), sum(w * b.voxel_map(pair) for w, b in each), 1e-14)
    with pytest.raises(TypeError, match="no parameter beta"):
        found.function(pair, beta=1.0)


def test_a_mean_of_two_is_between_them() -> None:
    """1-a is what a leaves; the rule of the map is the weaker of the two, and a loss of the grid makes one of it."""

    @weighted(term("cldice", "a"), term("mcc", "1-a"), **SAID)
    def toy(*, a: Share = 0.25) -> None:
        """Stand for a mean."""

    found, pair = find("toy", "loss"), SoftPair.of(P, Y)
    assert (found.range, found.needs, found.attribution) == ((0.0, 2.0), "grid", "integrated")
    expected = 0.25 * bind("loss.cldice")(pair) + 0.75 * bind("loss.mcc:smooth=1")(pair)
    assert found.function(pair) == pytest.approx(expected, rel=1e-15)


def test_a_mean_over_classes_is_of_the_classes_it_counts() -> None:
    """By hand: brier of one class is the mean squared error of its channel."""

    def foreground(classes: SoftClasses, given: Given) -> range:
        return range(int(given["first"]), classes.count)

    @weighted(mean_term("brier", "a", foreground), **SAID)
    def toy(*, a: Weight = 2.0, first: Weight = 1.0) -> None:
        """Stand for a mean over classes."""

    p = np.array([[0.5, 0.2], [0.25, 0.2], [0.25, 0.6]])
    y = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    classes, bound = SoftClasses.of(p, y), bind("loss.toy")
    assert find("toy", "loss").reads == "all-classes"
    assert bound(classes) == pytest.approx((0.25**2 + 0.2**2 + 0.25**2 + 0.4**2) / 2, rel=1e-14)
    np.testing.assert_allclose(bound.gradient(classes, "p"), [[0, 0], [0.25, 0.2], [0.25, -0.4]], atol=1e-15)
    assert bound.voxel_map(classes).sum() == pytest.approx(bound(classes), rel=1e-14)


def test_a_sum_is_checked_where_it_is_filed() -> None:
    """A weight that is no keyword, and a term whose gradient is not there yet."""
    with pytest.raises(TypeError, match="toy: its weight a is none of its keywords"):
        weighted(term("dice", "a"), **SAID)(toy)
    loss(family="region", range=(0, 1), **SAID)(toy)

    def other() -> None:
        """Stand for a sum."""

    with pytest.raises(TypeError, match=r"other: loss\.toy lacks its gradient or its voxel map"):
        weighted(term("toy"), **SAID)(other)
