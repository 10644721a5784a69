"""Evidence in layers: a view shares what lies below it and nothing else, and any of it can be copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_losses import loss_of

from segcli.evidence.case import Case
from segcli.evidence.classes import SoftClasses
from segcli.evidence.counts import Counts
from segcli.evidence.parts import NoGridError, PooledSums
from segcli.evidence.pooled import PooledClasses, PooledCounts, PooledPair
from segcli.evidence.soft import SoftPair, Stretch
from segcli.masks.asked import reading_of
from segcli.masks.labels import Label
from segcli.measure.notation import bind, parse
from segcli.scoring.loading import load

Array = NDArray[Any]
LABELS = [Label("a", (1,)), Label("b", (2, 3)), Label("any", None)]
OF_LABEL = (
    "dice,hd95,hd:surface=set,assd:surface=vertex,assd:surface=mesh,ahd_set,nsd:tol=1,boundary_iou,boundary_iou_cheng,"
    "boundary_f,boundary_f_davis,volume_gt,mahalanobis,betti0_error,cldice,pq,ap,lesion_dice,lesion_hd95,object_f1"
)
OF_CLASSES = "mean_iou,vi,multiclass_mcc,adapted_rand_error"
OF_LOSSES = (
    "dice,bce,focal,lovasz,boundary,hd_dt,hd_er,hd_cv:radius=3,ssim:window=3,cldice,skeleton_recall,"
    "shape_aware,distance_map,topk,blob,active_contour"
)
COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]  # noqa: S301


def maps(seed: int = 0) -> tuple[Array, Array, Array]:
    """Return two maps of values 0 to 3 in lumps, and which voxels count."""
    rng = np.random.default_rng(seed)
    pred, gt = (np.kron(rng.integers(0, 4, (4, 3, 3)), np.ones((2, 3, 3), int)).astype(np.uint8) for _ in range(2))
    return pred, gt, rng.random(gt.shape) < 0.95


def case_of(labels: list[Label] = LABELS, spacing: tuple[float, ...] = (1.0, 1.0, 1.0), *, ignoring: bool) -> Case:
    pred, gt, valid = maps()
    return Case.of(pred, gt, labels, spacing=spacing, valid=valid if ignoring else None)


def values(case: Case) -> list[Any]:
    """Return measures of all labels of a case, and of all classes."""
    pairs = [case.pair(k) for k in range(len(case.labels))]
    found: list[Any] = [bound(pair) for bound in parse("metric", OF_LABEL) for pair in pairs]
    return [*found, *(bound(case.classes) for bound in parse("metric", OF_CLASSES))]


@pytest.mark.parametrize("ignoring", [False, True])
def test_a_view_is_a_case_of_its_own(ignoring: bool) -> None:
    """Other labels or another spacing give what a new case of them gives, whatever was asked of the first before."""
    first = case_of(ignoring=ignoring)
    before = values(first)
    others = [Label("z", (3,)), LABELS[0]]
    for spacing in ((3.0, 1.0, 0.5), (0.5, 1.0, 3.0)):
        assert values(first.with_spacing(spacing, "mm")) == values(case_of(spacing=spacing, ignoring=ignoring))
        both = first.with_labels(others).with_spacing(spacing, "voxel")
        assert values(both) == values(case_of(others, spacing, ignoring=ignoring))
        assert (both.unit, first.unit) == ("voxel", "mm")
    assert values(first.with_labels(others)) == values(case_of(others, ignoring=ignoring))
    assert values(first) == before


def test_a_view_shares_what_lies_below() -> None:
    """Neither the maps are read again nor their labels looked up, and a label that was counted is not counted again."""
    first = case_of(ignoring=False)
    assert first.with_spacing((3.0, 1.0, 0.5), "mm").labelled is first.labelled
    twin = first.with_labels(LABELS[:1])
    assert twin.maps is first.maps
    assert twin.counts(0) is first.counts(0)
    assert twin.probabilities is None


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("asked", [False, True])
def test_a_case_can_be_copied(copied: Callable[[Any], Any], asked: bool) -> None:
    """Before and after it was asked: the copy has the values of the original."""
    case = case_of(spacing=(2.0, 1.0, 0.5), ignoring=True)
    pair, classes = case.pair(1), case.classes
    bounds = parse("metric", OF_LABEL)
    expected = values(case)
    if asked:
        for bound in bounds:
            bound(pair)
    else:
        case = case_of(spacing=(2.0, 1.0, 0.5), ignoring=True)
        pair, classes = case.pair(1), case.classes
    assert values(copied(case)) == expected
    own = [bound(copied(pair)) for bound in bounds]
    assert own == expected[1 : len(bounds) * 3 : 3]
    assert [bound(copied(classes)) for bound in parse("metric", OF_CLASSES)] == expected[len(bounds) * 3 :]
    assert copied(pair).objects.answers == pair.objects.answers


def test_a_case_with_probabilities_can_be_copied() -> None:
    """The copy knows the probabilities too; it and what it knows them from refer to each other, as before."""
    rng = np.random.default_rng(1)
    gt = (rng.random((8, 9)) < 0.4).astype(np.uint8)
    (loaded,) = load(np.clip(gt * 0.5 + rng.random((8, 9)) / 2, 0, 1), gt, reading_of())
    expected = [bind(name)(loaded.case.pair(0)) for name in ("auc", "ece", "dice")]
    for copied in COPIES:
        twin = copied(loaded)
        assert [bind(name)(twin.case.pair(0)) for name in ("auc", "ece", "dice")] == expected
        assert copied is copy.copy or twin.case.probabilities is twin


def soft(kind: str) -> SoftPair:
    """Return a pair of some kind, or what is made of one."""
    rng = np.random.default_rng(3)
    y, z = rng.random((6, 7, 5)) < 0.4, rng.normal(0, 2, (6, 7, 5))
    p = 1 / (1 + np.exp(-z))
    options: dict[str, Any] = {"spacing": (2.0, 1.0, 0.5)}
    if kind == "pooled":
        return PooledPair([SoftPair.of(p, y, **options), SoftPair.of(p[::-1], y, **options)])
    options["valid"] = rng.random(y.shape) < 0.9 if kind == "ignored" else None
    return SoftPair.of(p, y, z=z if kind == "logits" else None, **options)


def answers(pair: SoftPair) -> list[Any]:
    """Return values, optima and gradients of losses; of those that need a grid where there is one."""
    found: list[Any] = []
    for bound in parse("loss", OF_LOSSES):
        try:
            found += [bound(pair), bound(bound.perfect(pair)), *bound.gradient(pair, "z").tolist()]
        except NoGridError:
            found.append(None)
    return [*found, *pair.near_boundary.tolist(), *pair.boundary_distance("pred", "mm").tolist()]


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("kind", ["plain", "ignored", "logits", "pooled"])
def test_a_pair_can_be_copied(kind: str, copied: Callable[[Any], Any]) -> None:
    """Before and after losses read it; so can its perfect twin and a stretch of it."""
    pair = soft(kind)
    expected = answers(soft(kind))
    assert answers(copied(pair)) == expected
    assert answers(pair) == expected
    assert answers(copied(pair)) == expected
    bound = loss_of("focal")
    for part in (pair.perfect(), Stretch(pair, slice(3, 20)), Stretch(pair.perfect(), np.array([5, 2, 9]))):
        own = copied(part)
        np.testing.assert_array_equal(bound.gradient(own, "p"), bound.gradient(part, "p"))
        np.testing.assert_array_equal(own.near_boundary, part.near_boundary)
        assert type(own) is type(part)


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
def test_classes_can_be_copied(copied: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(3), (4, 5)).transpose(2, 0, 1)
    y = np.eye(3)[rng.integers(0, 3, (4, 5))].transpose(2, 0, 1)
    one = SoftClasses.of(p, y, spacing=(2.0, 1.0))
    for classes in (one, PooledClasses([one, one]), one.perfect(), PooledClasses([one, one]).perfect()):
        for bound in parse("loss", "categorical_ce,lovasz_softmax,gwdl"):
            for _ in range(2):  # before and after it was read
                np.testing.assert_array_equal(bound.gradient(copied(classes), "z"), bound.gradient(classes, "z"))
        assert type(copied(classes)) is type(classes)


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
def test_sums_of_cases_can_be_copied(copied: Callable[[Any], Any]) -> None:
    case = case_of(ignoring=False)
    whole = copied(PooledCounts([case.counts(0), Counts(1, 2, 3, 4)], 1.5, [case.pair(0)]))
    assert whole.counts.tp == case.counts(0).tp + 1
    assert whole.voxel_volume == 1.5
    parts = PooledSums([case.classes.sums.as_parts()])
    assert bind("mean_iou")(copied(parts)) == bind("mean_iou")(case.classes)


def test_no_part_of_a_pair_is_there_to_raise() -> None:
    """Every public attribute of a pair, a pool and a stretch is a value or a method, `None` for what is not there."""
    pair, pool = soft("plain"), soft("pooled")
    for one in (pair, pool, Stretch(pair, slice(0, 9)), Stretch(pool, slice(0, 9))):
        for name in (name for name in dir(one) if not name.startswith("_")):
            if name != "islands" or not isinstance(one, Stretch):
                getattr(one, name)
    assert (pair.lattice is None, pool.lattice is None) == (False, True)
