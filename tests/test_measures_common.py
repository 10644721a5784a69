"""Every field of every record, tested: what is declared holds, and what is declared not to hold does not."""

from __future__ import annotations

import json
import math
import pickle
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from shapes import shape

import segcli
from segcli.errors import UsageError
from segcli.evidence.case import Case
from segcli.evidence.classes import SoftClasses
from segcli.evidence.pair import Pair
from segcli.evidence.parts import CLASSES, NoGridError, PooledSums
from segcli.evidence.pooled import PooledClasses, PooledCounts, PooledPair
from segcli.evidence.soft import SoftPair
from segcli.kernels.surfaces import SURFACES, Surface
from segcli.masks.labels import Label
from segcli.measure import why as reasons
from segcli.measure.notation import DEFAULTS, bind, parse
from segcli.measure.param import Param
from segcli.measure.record import FORMULA, BoundMeasure, Measure, Needs, find, measures
from segcli.measure.why import Why, short
from segcli.scoring.empty import POLICIES, Status, classes_value, metric_value
from segcli.scoring.limits import parse_limits
from segcli.scoring.values import Scored
from segcli.wording import plain

Array = NDArray[Any]
Spacing = tuple[float, ...]

HERE = Path(__file__).resolve().parent
ALL = measures()
METRICS = measures("metric")
TABLES = measures("table")
LOSSES = measures("loss")
ANY = [Label("fg", None)]

each = pytest.mark.parametrize("measure", ALL, ids=[m.id for m in ALL])
each_metric = pytest.mark.parametrize("measure", METRICS, ids=[m.id for m in METRICS])
each_table = pytest.mark.parametrize("measure", TABLES, ids=[m.id for m in TABLES])
each_loss = pytest.mark.parametrize("measure", LOSSES, ids=[m.id for m in LOSSES])
each_param = pytest.mark.parametrize(
    ("measure", "param"),
    [(m, p) for m in ALL for p in m.params.values()],
    ids=[f"{m.id}:{p.name}" for m in ALL for p in m.params.values()],
)
few = settings(max_examples=20)


class Known:
    """The probabilities of a case of one label: the maps themselves; of a hard mask 0 and 1."""

    def __init__(self, p: Array, y: Array) -> None:
        self.p, self.y = p.astype(np.float64), y.astype(np.float64)

    def soft(self, label: Label) -> SoftPair:
        assert label in ANY
        return SoftPair.of(self.p, self.y)

    def classes(self) -> SoftClasses:
        return two_classes(self.p, self.y)


def pair_of(pred: Array, gt: Array, spacing: Spacing | None = None) -> Pair:
    """Return the evidence of everything that is not 0, or of probabilities and their mask at 1/2."""
    hard = [(m > 0.5).astype(np.uint8) if m.dtype.kind == "f" else m for m in (pred, gt)]
    case = Case.of(*hard, ANY, spacing=spacing)
    case.probabilities = Known(pred, gt)
    return case.pair(0)


def value_of(bound: BoundMeasure, pair: Pair) -> Any:
    """Return a metric of a pair, or of all classes of its case, by its formula."""
    return bound(pair.case.classes if bound.over_classes else pair)


def judged(bound: BoundMeasure, pair: Pair, policy: str) -> tuple[float | None, Status, str]:
    """Return a metric as a scored case has it; a policy for empty masks does not reach what is over all classes."""
    return classes_value(bound, pair.case.classes) if bound.over_classes else metric_value(bound, pair, policy)


#: Words that mean nothing in a volume (connectivity=8): tests/test_topology.py has them.
PLANE_ONLY = {"8", "4"}


def variants(measure: Measure) -> list[BoundMeasure]:
    """Return the measure with its defaults and with each word of each parameter."""
    texts = [measure.name]
    texts += [f"{measure.name}:{p.name}={w}" for p in measure.params.values() for w in p.words if w not in PLANE_ONLY]
    return parse(measure.kind, texts)


# --- drawn inputs -------------------------------------------------------------------------------

spacings = st.sampled_from([0.3, 0.75, 1.0, 2.5, 5.0])
SHAPES = [(1, 1), (1, 6), (4, 5), (6, 6), (2, 3, 4), (4, 4, 4), (3, 1, 5)]
#: Multiples of 1/64; none is within 1/64 of the threshold.
doubtful = st.integers(0, 64).filter(lambda k: k != 32).map(lambda k: k / 64)


@st.composite
def masks(draw: st.DrawFn, *, proper: bool = False, count: int = 2) -> tuple[list[Array], Spacing]:
    """Draw masks of one shape and a spacing; `proper` ones are neither empty nor full."""
    form = draw(st.sampled_from(SHAPES[1:] if proper else SHAPES))
    drawn = [draw(arrays(np.uint8, form, elements=st.integers(0, 1))) for _ in range(count)]
    if proper:
        for mask in drawn:
            if mask.all() or not mask.any():
                mask.flat[draw(st.integers(0, mask.size - 1))] ^= 1
    return drawn, tuple(draw(st.tuples(*[spacings] * len(form))))


@st.composite
def maps(draw: st.DrawFn, *, proper: bool = False) -> tuple[list[Array], Spacing]:
    """Draw probabilities and a ground truth, now and then a soft one; what a metric of masks reads is their mask."""
    (pred, gt), spacing = draw(masks(proper=proper))
    drawn = []
    for mask, soft in ((pred, True), (gt, draw(st.booleans()))):
        doubt = draw(arrays(np.float64, mask.shape, elements=st.integers(0, 31).map(lambda k: k / 64)))
        drawn.append(np.abs(mask - doubt) if soft else mask)
    return drawn, spacing


@st.composite
def soft_pairs(draw: st.DrawFn, *, soft: bool = False) -> SoftPair:
    """Draw probabilities against a ground truth, a soft one if asked."""
    form = draw(st.sampled_from(SHAPES))
    truth = doubtful if soft else st.sampled_from([0.0, 1.0])
    p, y = draw(arrays(np.float64, form, elements=doubtful)), draw(arrays(np.float64, form, elements=truth))
    return SoftPair.of(p, y, spacing=tuple(draw(st.tuples(*[spacings] * len(form)))))


@st.composite
def soft_classes(draw: st.DrawFn, *, soft: bool = False) -> SoftClasses:
    """Draw probabilities of 2 to 5 classes against a label map, a soft one if asked."""
    form, count = draw(st.sampled_from(SHAPES)), draw(st.integers(2, 5))
    sides = []
    for shared in (True, soft):
        if shared:
            parts = draw(arrays(np.float64, (count, *form), elements=doubtful))
            parts[0] += parts.sum(axis=0) == 0
            sides.append(parts / parts.sum(axis=0))
        else:
            label = draw(arrays(np.int64, form, elements=st.integers(0, count - 1)))
            sides.append((label == np.arange(count).reshape(-1, *[1] * len(form))).astype(np.float64))
    return SoftClasses.of(sides[0], sides[1], spacing=tuple(draw(st.tuples(*[spacings] * len(form)))))


Soft = SoftPair | SoftClasses


def of_kind(bound: BoundMeasure | Measure, pair: SoftPair, classes: SoftClasses) -> Soft:
    """Return what a loss reads: one label, or all classes at once."""
    measure = bound.measure if isinstance(bound, BoundMeasure) else bound
    return classes if measure.reads == "all-classes" else pair


def two_classes(p: Array, y: Array) -> SoftClasses:
    """Return the background and one label."""
    return SoftClasses.of(np.stack([1 - p, p]), np.stack([1 - y, y]))


# --- words --------------------------------------------------------------------------------------


@each
def test_words(measure: Measure) -> None:
    """Name, summary, notes, formula and caution are in the form that the catalogue prints."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", measure.name)
    assert measure.summary.endswith(".")
    assert re.match(r"[A-Z0-9]", measure.summary)
    assert len(measure.summary) <= 100
    assert not measure.notes or measure.notes.endswith(".")
    assert measure.formula
    assert measure.formula.count("{") == measure.formula.count("}")
    assert measure.formula.count(r"\left") == measure.formula.count(r"\right")
    assert measure.caution == measure.caution.strip()
    assert measure.family
    assert measure.unit in ("", "mm", "mm^3", "ml", "bit")
    assert measure.reads in ("labels", "probability", "all-classes", "class-probabilities")
    assert measure.id == f"{measure.kind}.{measure.name}"


@each
def test_reference(measure: Measure) -> None:
    """A reference is authors, year and an identifier; a plain count needs none."""
    counted = measure.reference in ("a count", "a share of counts")
    printed_only = measure.reference == "van Rijsbergen 1979"  # a book without a DOI
    pooling = re.fullmatch(r"pooling as [A-Za-z, -]+", measure.reference)  # other tools are its source
    paper = re.match(r"(after )?\S.* (18|19|20)\d\d, (doi:10\.\d{4,}/\S+|arXiv:\d{4}\.\d{4,5})(;|$)", measure.reference)
    assert counted or printed_only or pooling or paper, measure.reference


@each
def test_names_are_found(measure: Measure) -> None:
    """Name, id and aliases lead to the record, and no two records of a kind share a name."""
    for name in (measure.name, measure.id, *measure.aliases, measure.name.upper(), measure.name.replace("_", "-")):
        kind = None if name == measure.id else measure.kind
        assert find(name, kind) is measure
    taken = [n for m in measures(measure.kind) for n in (m.name, *m.aliases)]
    assert len(taken) == len(set(taken))
    with pytest.raises(UsageError, match=r"unknown"):
        find(measure.name + "_nonesuch", measure.kind)


@each
def test_family_is_a_preset(measure: Measure) -> None:
    """The family and `all` unfold to lists with the measure in it, defaults to known measures."""
    if measure.kind == "table":  # it is asked for by name, among the metrics
        return
    for preset in (f"{measure.family}_based", "all"):
        assert measure.name in [b.measure.name for b in parse(measure.kind, preset)]
    for kind, names in DEFAULTS.items():
        assert len(parse(kind, "default")) == len(names.split(","))


@each
def test_golden_file(measure: Measure) -> None:
    """Every measure has cases worked out by hand, and every file of cases a measure."""
    path = HERE / "golden" / measure.kind / f"{measure.name}.toml"
    assert len(tomllib.loads(path.read_text(encoding="utf-8"))["case"]) >= 2
    known = {m.name for m in measures(measure.kind)}
    assert {p.stem for p in path.parent.glob("*.toml")} <= known


# --- parameters ---------------------------------------------------------------------------------


def outside(param: Param) -> list[object]:
    """Return values that are just outside the domain, and some that are no value at all."""
    found: list[object] = ["", "nonesuch", "nan", "inf", "-inf", True]
    if param.type is not str:
        found += [param.gt] if param.gt is not None else []
        found += [param.lt] if param.lt is not None else []
        found += [math.nextafter(param.ge, -math.inf)] if param.ge is not None else []
        found += [math.nextafter(param.le, math.inf)] if param.le is not None else []
    return found


@each_param
def test_param_refuses(measure: Measure, param: Param) -> None:
    """Values just outside a parameter's domain are refused with its name and what is allowed."""
    for value in outside(param):
        with pytest.raises(UsageError) as caught:
            param.parse(measure.name, value)
        assert caught.value.message.startswith(f"{measure.name}: {param.name}=")
        assert param.allowed() in caught.value.message
        assert caught.value.hint
        assert caught.value.code == "measure.parameter"
        with pytest.raises(UsageError):
            bind(f"{measure.id}:{param.name}={value}")


@each_param
def test_param_accepts(measure: Measure, param: Param) -> None:
    """The default, every word and the closed ends of the domain are accepted and read back from the name."""
    ends: list[object] = [end for end in (param.ge, param.le) if end is not None]
    if param.many:
        ends = [part for end in ends for part in ((end,), (end, end))]
    assert param.help
    for value in (param.default, *param.words, *ends):
        assert param.parse(measure.name, value) == value
        bound = bind(f"{measure.id}:{param.name}={plain(value)}")
        assert bound.params[param.name] == value
        again = bind(bound.id)
        assert (again.params, again.name, again.measure) == (bound.params, bound.name, measure)
        assert (f"{param.name}=" in bound.name) == (param.shown or value != param.default)
    assert param.type is str or param.words or any(e is not None for e in (param.ge, param.gt))


@each
def test_unknown_param(measure: Measure) -> None:
    """A parameter that a measure does not have is refused by name, with those it has."""
    with pytest.raises(UsageError, match="nonesuch") as caught:
        bind(f"{measure.id}:nonesuch=1")
    assert all(name in caught.value.hint for name in measure.params)


# --- range, direction, optimum ------------------------------------------------------------------


@each_metric
@given(drawn=maps())
@few
def test_metric_range(measure: Measure, drawn: tuple[list[Array], Spacing]) -> None:
    """A metric's values lie in its range, and are numbers of Python."""
    (pred, gt), spacing = drawn
    low, high = measure.range
    for bound in variants(measure):
        value, status, why = judged(bound, pair_of(pred, gt, spacing), "undefined")
        assert (value is None) == (status == "undefined") == bool(why)
        if value is not None:
            assert isinstance(value, (int, float))
            assert low - 1e-12 <= value <= high + 1e-12
            assert math.isfinite(value)


@each_loss
@given(pair=soft_pairs(), classes=soft_classes())
@few
def test_loss_range(measure: Measure, pair: SoftPair, classes: SoftClasses) -> None:
    """A loss's values lie in its range."""
    low, high = measure.range
    for bound in variants(measure):
        value = bound(of_kind(bound, pair, classes))
        assert value is not None
        assert low - 1e-12 <= value <= high + 1e-12
        assert math.isfinite(value)


@each_metric
@given(drawn=masks(proper=True))
@few
def test_best_metric(measure: Measure, drawn: tuple[list[Array], Spacing]) -> None:
    """At pred = gt a metric has its best value: the good end of its range, or, where gt sets it, none is better."""
    (pred, gt), spacing = drawn
    pred, gt = (np.repeat(m, 2, axis=-1) for m in (pred, gt))  # of one voxel alone there is no pair
    best = measure.best()
    assert (best is None) == (measure.better == "none")
    if best is not None:
        assert measure.range[0] <= best <= measure.range[1]
        for bound in variants(measure):
            at_best, other = (value_of(bound, pair_of(m, gt, spacing)) for m in (gt.copy(), pred))
            if bound.params.get("thinning") == "lee" and at_best is None:
                continue  # scikit-image leaves no skeleton of some volumes
            if measure.optimum is not None:
                assert at_best == pytest.approx(best, abs=1e-12)
            else:
                assert measure.better == "higher"
                assert at_best is None or other <= at_best + 1e-12


@each_loss
@given(pair=soft_pairs(soft=True), classes=soft_classes(soft=True))
@few
def test_optimum_of_loss(measure: Measure, pair: SoftPair, classes: SoftClasses) -> None:
    """Where a loss declares an optimum, it has that value at pred = gt, also for a soft gt, and none below."""
    assert measure.better == "lower"
    if measure.optimum is not None:
        given_to = of_kind(measure, pair, classes)
        for bound in variants(measure):
            least, value = bound(bound.perfect(given_to)), bound(given_to)
            assert least == pytest.approx(measure.optimum, abs=1e-12)
            assert value is not None
            assert value >= measure.optimum - 1e-12


@each_loss
@given(pair=soft_pairs(), classes=soft_classes())
@few
def test_ideal_of_loss(measure: Measure, pair: SoftPair, classes: SoftClasses) -> None:
    """Against a hard gt no prediction has less than the one that the loss calls perfect."""
    given_to = of_kind(measure, pair, classes)
    for bound in variants(measure):
        least, value = bound(bound.perfect(given_to)), bound(given_to)
        assert least is not None
        assert value is not None
        assert value >= least - 1e-12


@each_loss
def test_no_optimum_is_shown(measure: Measure) -> None:
    """Where a loss declares none, its value at pred = gt is not 0 on some pair."""
    y = np.array([[1.0, 0.25, 0.0, 0.75], [0.0, 1.0, 1.0, 0.0]])
    if measure.optimum is None:
        assert abs(bind(measure.id)(of_kind(measure, SoftPair.of(y, y), two_classes(y, y))) or 0) > 1e-9


# --- symmetry -----------------------------------------------------------------------------------


@each_metric
@given(drawn=maps())
@few
def test_symmetric_metric(measure: Measure, drawn: tuple[list[Array], Spacing]) -> None:
    """A metric that is declared symmetric has the same value with pred and gt exchanged."""
    (pred, gt), spacing = drawn
    if measure.symmetric:
        for bound in variants(measure):
            there, back = (judged(bound, pair_of(*two, spacing), "undefined") for two in ((pred, gt), (gt, pred)))
            assert there[:2] == (back[0] if back[0] is None else pytest.approx(back[0], rel=1e-12, abs=1e-15), back[1])


@each_loss
@given(pair=soft_pairs(soft=True), classes=soft_classes(soft=True))
@few
def test_symmetric_loss(measure: Measure, pair: SoftPair, classes: SoftClasses) -> None:
    """A loss that is declared symmetric has the same value with pred and gt exchanged."""
    if measure.symmetric:
        there = of_kind(measure, pair, classes)
        back = type(there).of(there.grid(there.y), there.grid(there.p), spacing=there.spacing)
        for bound in variants(measure):
            assert bound(there) == pytest.approx(bound(back), rel=1e-9, abs=1e-12)


@each
def test_asymmetry_is_shown(measure: Measure) -> None:
    """A measure that is declared not to be symmetric is not, on some pair."""
    bound = bind(measure.id)
    pairs = [
        *((shape(f"{name}_pred"), shape(f"{name}_gt")) for name in ("hook", "knot", "split")),
        (shape("long"), shape("long_start")),
        (np.array([[0.875, 0.625, 0.375]]), np.array([[1.0, 0.0, 0.0]])),
    ]
    if measure.kind == "table":
        # the rows of `objects` say of which side an object is
        both = [[value_of(bound, pair_of(*order)) for order in ((p, y), (y, p))] for p, y in pairs]
        assert measure.name == "objects" or measure.symmetric == all(there == back for there, back in both)
        return
    if measure.kind == "metric":
        values = [(value_of(b, pair_of(p, y)), value_of(b, pair_of(y, p))) for p, y in pairs for b in variants(measure)]
        values = [both for both in values if None not in both]  # an area has no millilitres
    else:
        p = np.array([[0.25, 0.75, 0.875, 0.125, 0.625]])
        truths = [np.array([y]) for y in ([0.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 5)]
        kind = two_classes if bound.over_classes else SoftPair.of
        values = [(b(kind(p, y)), b(kind(y, p))) for y in truths for b in variants(measure)]
    assert measure.symmetric or any(there != pytest.approx(back, rel=1e-6) for there, back in values)


# --- empty masks --------------------------------------------------------------------------------

EMPTY = {"both": ("void", "void"), "gt": ("rod", "void"), "pred": ("void", "rod")}


@each_metric
@pytest.mark.parametrize("which", EMPTY)
def test_when_empty(measure: Measure, which: str) -> None:
    """The record says what a metric gives for an empty mask; the formula never says something else."""
    pair = pair_of(*map(shape, EMPTY[which]))
    rule = getattr(measure.when_empty, which)
    why = "both_empty" if which == "both" else f"{which}_empty"
    for bound in variants(measure):
        raw = value_of(bound, pair)
        value, status, said = judged(bound, pair, "undefined")
        if rule == FORMULA:
            assert value == raw
            assert raw is not None or bound.params != bind(measure.id).params
        else:
            assert value == rule
            assert raw is None or raw == rule
        assert (status, said) == (("undefined", why) if value is None else ("ok", ""))


@each_metric
@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "undefined"])
@pytest.mark.parametrize("which", EMPTY)
def test_policy(measure: Measure, which: str, policy: str) -> None:
    """A policy puts the value of the table in an empty mask's place, and says where it did."""
    if measure.reads == "all-classes" or getattr(measure.when_empty, which) == FORMULA:
        return
    if measure.better == "none":  # of a threshold no value stands for a miss
        assert judged(bind(measure.id), pair_of(*map(shape, EMPTY[which])), policy)[:2] == (None, "undefined")
    if measure.better not in ("higher", "lower"):
        return
    pred, gt = map(shape, EMPTY[which])
    spacing = (2.0, 3.0, 0.5)
    pair = pair_of(pred, gt, spacing)
    plain = judged(bind(measure.id), pair, "undefined")[0]
    value, status, why = judged(bind(measure.id), pair, policy)
    up = measure.better == "higher"
    if policy == "zero":
        expected: float | None = 0.0
    elif which == "both":
        best = measure.best()
        expected = best if best is not None and math.isfinite(best) else None
    elif plain is not None:
        expected = plain
    elif policy == "worst":
        diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(gt.shape, spacing, strict=True)))
        end = measure.range[0 if up else 1]
        expected = end if math.isfinite(end) else diagonal if measure.unit == "mm" else None
    else:
        expected = 0.0 if up else None
    assert value == (expected if expected is None else pytest.approx(expected, rel=1e-12))
    assert (status, bool(why)) == (
        ("undefined", True) if value is None else ("ok", False) if value == plain else ("policy", True)
    )


@each_loss
@pytest.mark.parametrize("which", EMPTY)
def test_loss_of_empty_masks(measure: Measure, which: str) -> None:
    """A loss is its formula on empty masks too, and finite."""
    assert measure.when_empty == replace(measure.when_empty, both=FORMULA, gt=FORMULA, pred=FORMULA)
    pred, gt = (shape(name).astype(float) for name in EMPTY[which])
    value = bind(measure.id)(of_kind(measure, SoftPair.of(pred, gt), two_classes(pred, gt)))
    assert value is not None
    assert math.isfinite(value)


# --- gradients and maps -------------------------------------------------------------------------


@each
def test_attribution_has_a_map(measure: Measure) -> None:
    """A rule of attribution goes with a voxel map, both and a gradient with losses only."""
    assert (measure.attribution != "") == (measure.voxel_map is not None)
    assert measure.kind == "loss" or (measure.gradient is None and measure.voxel_map is None)
    p, y = np.array([[0.25, 0.75]]), np.array([[0.0, 1.0]])
    if measure.kind == "loss":
        bound = bind(measure.id)
        pair = of_kind(bound, SoftPair.of(p, y), two_classes(p, y))
        assert bound.voxel_map(pair).shape == (2,)
        assert bound.voxel_map(pair).sum() == pytest.approx(bound(pair), rel=1e-12)
        assert bound.gradient(pair, "p").shape == ((2, 2) if bound.over_classes else (2,))


# --- units --------------------------------------------------------------------------------------

#: Parameters that are lengths: they scale with the spacing.
LENGTHS = {"tol": 1.5, "width": 1.5, "penalty": 40.0}


def with_lengths(measure: Measure, factor: float) -> list[BoundMeasure]:
    """Return the variants, their lengths set to a number times `factor`."""
    given_as = {k: v * factor for k, v in LENGTHS.items() if k in measure.params}
    return [replace(b, params={**b.params, **given_as}) for b in variants(measure)]


@each_metric
@given(drawn=maps(proper=True), factor=st.sampled_from([0.5, 2.0, 8.0]))
@few
def test_scale(measure: Measure, drawn: tuple[list[Array], Spacing], factor: float) -> None:
    """Distances grow with the spacing, volumes with its power, everything else stays."""
    (pred, gt), spacing = drawn
    power = {"mm": 1, "mm^3": gt.ndim, "ml": 3, "": 0, "bit": 0}[measure.unit]
    larger = tuple(s * factor for s in spacing)
    for small, large in zip(with_lengths(measure, 1), with_lengths(measure, factor), strict=True):
        a, b = value_of(small, pair_of(pred, gt, spacing)), value_of(large, pair_of(pred, gt, larger))
        assert b == (a if a is None else pytest.approx(a * factor**power, rel=1e-12))


@each_metric
def test_unit_shown(measure: Measure) -> None:
    """Units are those of the spacing: mm where there is one, voxels where there is none, squared in 2-D."""
    for names, ndim in ((("hook_pred", "hook_gt"), 2), (("rod", "rod_start"), 3)):
        for spacing, unit in ((2.0, "mm"), (None, "voxel")):
            found = segcli.score(*map(shape, names), metrics=[measure.name], spacing=spacing)
            shown = {"": "", "mm": unit, "mm^3": f"{unit}^{ndim}", "ml": "ml", "bit": "bit"}[measure.unit]
            assert {v.unit for v in [*found.values, *found.means]} == {shown}


@each_metric
@pytest.mark.parametrize("shape_", [(9, 3), (3, 9), (9, 3, 2), (3, 9, 2), (2, 3, 9)])
def test_each_axis_of_the_spacing_counts(measure: Measure, shape_: tuple[int, ...]) -> None:
    """An error along one axis grows with the spacing of that axis, a volume with any; what has no unit stays.

    But shares within a length, or of a band: they are left to `test_scale`.
    """
    axis = shape_.index(9)
    gt, pred = np.zeros((2, *shape_), np.uint8)
    np.moveaxis(gt, axis, 0)[(slice(0, 2), *[1] * (gt.ndim - 1))] = 1
    np.moveaxis(pred, axis, 0)[(slice(1, 9), *[1] * (gt.ndim - 1))] = 1
    spacing = (0.9, 1.3, 2.1)[: gt.ndim]
    longer = tuple(3 * s if a == axis else s for a, s in enumerate(spacing))
    for bound in with_lengths(measure, 1):
        before, after = (value_of(bound, pair_of(pred, gt, s)) for s in (spacing, longer))
        if measure.unit == "ml" and gt.ndim == 2:
            assert before is after is None
        elif measure.unit in ("mm^3", "ml"):
            assert after == pytest.approx(3 * before, rel=1e-12)
        elif measure.unit == "mm":
            assert after >= 1.5 * before > 0, bound.name
        elif not LENGTHS.keys() & measure.params.keys():
            assert after == before, bound.name


@pytest.mark.parametrize(("spacing", "tol"), [(float(np.float32(0.8)), "0.8"), (2.000000009, "2"), (0.1, "0.3")])
def test_tolerance_holds_whole_voxels(spacing: float, tol: str) -> None:
    """A tolerance of some voxels takes in that many, whatever a header's float32 makes of the spacing."""
    steps = round(float(tol) / spacing)
    gt, pred = np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8)
    gt[0, 1] = pred[0, 1 + steps] = 1
    found = segcli.score(pred, gt, metrics=[f"nsd:tol={tol}:surface=border"], spacing=spacing)
    assert found.values[0].value == 1
    square = np.zeros((5 * steps, 5 * steps), np.uint8)
    square[: 2 * steps + 1, :] = 1
    band = segcli.score(square, square * 0 + 1, metrics=[f"boundary_iou:width={tol}"], spacing=spacing)
    exact = segcli.score(square, square * 0 + 1, metrics=[f"boundary_iou:width={steps}"], spacing=1)
    assert band.values[0].value == exact.values[0].value


# --- what must not matter -----------------------------------------------------------------------

#: They count true negatives, so the size of the image matters to them.
COUNTS_BACKGROUND = {
    "specificity", "npv", "accuracy", "balanced_accuracy", "mcc", "kappa", "fpr", "false_omission_rate", "informedness",
    "markedness", "likelihood_ratio_positive", "likelihood_ratio_negative", "expected_cost", "icc", "vi", "vi_split",
    "vi_merge", "mutual_information", "nmi", "rand", "ari", "gce", "vi_label", "vi_split_label", "vi_merge_label",
    "mutual_information_label", "nmi_label", "rand_label", "ari_label", "gce_label", "mean_iou", "fw_iou",
    "pixel_accuracy", "mean_accuracy", "generalized_dice_score", "multiclass_mcc", "multiclass_kappa",
    "auc", "auc_single", "average_precision", "entropy", "brier", "log_loss", "ece", "mce", "top_label_ece",
    "multiclass_entropy",
    "adapted_rand_error_snemi3d",  # a voxel that is predicted 0 counts as its share of the image
}  # fmt: skip
#: Surfaces, and a metric, to which the edge of the image is no boundary.
OPEN = {"border_open", "border26"}
OPEN_METRICS = {"boundary_f_davis"}


@each_metric
@given(drawn=maps(proper=True), sides=st.lists(st.integers(0, 3), min_size=6, max_size=6))
@few
def test_padding(measure: Measure, drawn: tuple[list[Array], Spacing], sides: list[int]) -> None:
    """Background around both masks changes no overlap, distance or volume that does not count it."""
    (pred, gt), spacing = drawn
    pads = list(zip(sides[:3], sides[3:], strict=True))[: gt.ndim]
    if measure.name not in COUNTS_BACKGROUND | OPEN_METRICS:
        for bound in (b for b in with_lengths(measure, 1) if b.params.get("surface") not in OPEN):
            before = value_of(bound, pair_of(pred, gt, spacing))
            after = value_of(bound, pair_of(np.pad(pred, pads), np.pad(gt, pads), spacing))
            assert after == (before if before is None else pytest.approx(before, rel=1e-12, abs=1e-15))


@pytest.mark.parametrize("name", sorted(COUNTS_BACKGROUND | OPEN_METRICS | {f"assd:surface={s}" for s in OPEN}))
def test_padding_matters(name: str) -> None:
    """Background does change the metrics that count it, or to which the edge of the image is none."""
    pred, gt = shape("hook_pred"), shape("hook_gt")
    # a small object, large ones, a doubtful one
    pairs = ((pred, gt), (1 - pred, 1 - gt), (shape("most"), shape("most")[:, ::-1]), (pred * 0.75, gt))
    values = [[value_of(bind(name), pair_of(*(np.pad(m, n) for m in two))) for n in (0, 2)] for two in pairs]
    assert any(near != far for near, far in values)


#: They thin masks, voxel after voxel: which of two equal voxels stays depends on the order of the axes.
THINNED = {"cldice", "skeleton_recall", "skeleton_precision"}


@each_metric
@given(drawn=maps(proper=True), seed=st.integers(0, 99))
@few
def test_axes(measure: Measure, drawn: tuple[list[Array], Spacing], seed: int) -> None:
    """Turning and flipping the grid, or its order in memory, changes nothing.

    But a mesh in space, whose saddles are cut along the axes as VTK cuts them.
    """
    (pred, gt), spacing = drawn
    random = np.random.default_rng(seed)
    order = random.permutation(gt.ndim)
    flip = tuple(int(a) for a in np.flatnonzero(random.integers(0, 2, gt.ndim)))
    if measure.name == "boundary_f_davis":  # its boundary lies towards the origin
        flip = ()
    for bound in with_lengths(measure, 1):
        value = value_of(bound, pair_of(pred, gt, spacing))
        expected = value if value is None else pytest.approx(value, rel=1e-12, abs=1e-15)
        assert value_of(bound, pair_of(np.asfortranarray(pred), np.asfortranarray(gt), spacing)) == expected
        assert value_of(bound, pair_of(np.asfortranarray(pred), gt, spacing)) == expected
        if measure.name in THINNED or (gt.ndim == 3 and bound.params.get("surface") == "mesh"):
            continue
        turned = [np.flip(m, flip).transpose(order) for m in (pred, gt)]
        assert value_of(bound, pair_of(*turned, tuple(spacing[i] for i in order))) == expected


def test_davis_knows_left_from_right() -> None:
    """The boundary of DAVIS is not that of the mirrored image."""
    pred, gt = shape("hook_pred"), shape("hook_gt")
    bound = bind("boundary_f_davis:bound=0")
    assert bound(pair_of(pred, gt)) != bound(pair_of(pred[::-1, ::-1], gt[::-1, ::-1]))


REGIONS = {"one": 1, "two": 2, "three": 3, "low": [1, 2], "high": [2, 3], "any": "any"}


@given(drawn=masks(count=6), relabel=st.permutations([1, 2, 3]), wide=st.booleans())
@settings(max_examples=40)
def test_labels_and_regions(drawn: tuple[list[Array], Spacing], relabel: list[int], wide: bool) -> None:
    """Labels and overlapping regions scored together are each mask alone, whatever number a label has."""
    parts, spacing = drawn
    pred, gt = parts[0] + parts[1] + parts[2], parts[3] + parts[4] + parts[5]
    numbers = np.array([0, *(v * (300 if wide else 1) for v in relabel)], np.uint16 if wide else np.uint8)
    of = {
        name: spec if spec == "any" else [int(numbers[v]) for v in (spec if isinstance(spec, list) else [spec])]
        for name, spec in REGIONS.items()
    }
    asked = ["all", "hd:surface=border", "assd:surface=border", "nsd:surface=border"]
    together = segcli.score(numbers[pred], numbers[gt], metrics=asked, labels=of, spacing=spacing)
    for name, spec in REGIONS.items():
        chosen = [1, 2, 3] if spec == "any" else spec
        alone = segcli.score(
            np.isin(pred, chosen), np.isin(gt, chosen), metrics=asked, labels="fg=any", spacing=spacing
        )
        ours = {v.measure: (v.value, v.status, v.why) for v in together.values if v.label == name}
        assert ours == {v.measure: (v.value, v.status, v.why) for v in alone.values if v.label == "fg"}, name
    for mean in together.means:
        plain = [v for v in together.values if v.measure == mean.measure and v.label not in ("low", "high", "any")]
        defined = [v.value for v in plain if v.value is not None]
        assert (mean.n, mean.of) == (len(defined), 3)
        assert mean.value == (pytest.approx(sum(defined) / len(defined), rel=1e-12) if defined else None)


@given(drawn=masks(count=3))
@few
def test_ignored_voxels(drawn: tuple[list[Array], Spacing]) -> None:
    """Ignored voxels are in no count, whatever the prediction says there."""
    (pred, gt, hidden), spacing = drawn
    if hidden.all():
        return
    counts = segcli.score(pred, np.where(hidden, 9, gt), metrics=["dice"], labels="fg=1", ignore_label=9,
                          spacing=spacing).counts["fg"]  # fmt: skip
    kept = [np.asarray(m[hidden == 0]) for m in (pred, gt)]
    tp, both = int((kept[0] & kept[1]).sum()), int(sum(m.sum() for m in kept))
    assert (counts.tp, counts.pred + counts.gt, counts.n) == (tp, both, kept[0].size)


# --- relations ----------------------------------------------------------------------------------


@given(drawn=masks(proper=True), surface=st.sampled_from(SURFACES))
@settings(max_examples=60)
def test_identities(drawn: tuple[list[Array], Spacing], surface: Surface) -> None:
    """Relations that the docstrings state hold."""
    (pred, gt), spacing = drawn
    asked = "all,f_beta:beta=1,nsd:tol=0,nsd:tol=1,nsd:tol=1000,hd_pred_to_gt:p=95,hd_gt_to_pred:p=95"
    found = segcli.score(pred, gt, metrics=asked, surface=surface, spacing=spacing, labels="fg=any")

    def value(text: str) -> float:
        got = found.value(text)
        assert got is not None
        return got

    shown = f":surface={surface}"
    assert value("iou") == pytest.approx(value("dice") / (2 - value("dice")), rel=1e-12)
    assert value("f_beta:beta=1") == value("dice")
    assert value("balanced_accuracy") == pytest.approx((value("sensitivity") + value("specificity")) / 2)
    assert value("rve") == pytest.approx(value("voxels_pred") / value("voxels_gt") - 1)
    assert value("volume_similarity") >= value("dice") - 1e-12
    distances = pair_of(pred, gt, spacing).distances(surface)
    assert distances is not None
    worst = value("hd_pred_to_gt" + shown), value("hd_gt_to_pred" + shown)
    assert worst == tuple(d.max(initial=0) for d in (distances.pred_to_gt, distances.gt_to_pred))
    assert max(worst) == value("hd" + shown)
    directed = sorted((value("hd_pred_to_gt:p=95" + shown), value("hd_gt_to_pred:p=95" + shown)))
    close = 1e-12 * value("hd" + shown)
    assert directed[1] == value("hd95" + shown)
    if surface in ("surfel", "mesh"):  # interpolated percentiles of few elements need not lie between
        assert directed[0] - close <= value("hd95_pooled" + shown) <= directed[1] + close
    for name in ("hd95", "hd95_pooled", "assd", "masd"):
        assert value(name + shown) <= value("hd" + shown) + close
    assert value("hd_percentile:p=95:pooling=max" + shown) == value("hd95" + shown)
    assert value("msd95" + shown) == pytest.approx(sum(directed) / 2)
    assert max(value(f"hd_{way}:p=100{shown}") for way in ("pred_to_gt", "gt_to_pred")) == value("hd" + shown)
    both = value("asd_pred_to_gt" + shown), value("asd_gt_to_pred" + shown)
    assert value("masd" + shown) == pytest.approx(sum(both) / 2)
    assert value("modified_hd" + shown) == max(both)
    assert value("rmsd" + shown) ** 2 == pytest.approx(value("assd" + shown) ** 2 + value("std_sd" + shown) ** 2)
    assert value("median_sd" + shown) <= value("hd" + shown)
    shares = value("surface_overlap_pred:tol=2" + shown), value("surface_overlap_gt:tol=2" + shown)
    assert min(shares) - 1e-12 <= value("nsd:tol=2" + shown) <= max(shares) + 1e-12
    assert value("boundary_f:tol=2" + shown) <= sum(shares) / 2 + 1e-12
    if surface == "set":
        assert value("ahd_set") == value("masd" + shown)
        assert value("ahd_set_max") == value("modified_hd" + shown)
    assert value("boundary_iou:width=auto") == pytest.approx(
        value("boundary_dice:width=auto") / (2 - value("boundary_dice:width=auto"))
    )
    nested = [value(f"nsd:tol={tol}{shown}") for tol in (0, 1, 2, 1000)]
    assert nested == sorted(nested)
    assert nested[-1] == 1


# --- tables -------------------------------------------------------------------------------------


@each_table
@given(drawn=masks(), relabel=st.integers(1, 9))
@few
def test_table_is_well_formed(measure: Measure, drawn: tuple[list[Array], Spacing], relabel: int) -> None:
    """Columns have names of their own, every row a cell for each, and every cell is what JSON holds."""
    (pred, gt), spacing = drawn
    for bound in variants(measure):
        found = segcli.score(pred * np.uint8(relabel), gt * np.uint8(relabel), metrics=[bound.name], spacing=spacing)
        assert found.values == found.means == []
        for table in found.tables:
            assert table.measure == bound.name
            assert table.label in ("all" if bound.over_classes else [x.name for x in found.labels])
            assert len(set(table.columns)) == len(table.columns) > 0
            assert all(isinstance(name, str) and name == name.strip() != "" for name in table.columns)
            for row in table.rows:
                assert len(row) == len(table.columns)
                assert all(cell is None or type(cell) in (int, float, str) for cell in row)
            assert json.loads(json.dumps(table.rows, allow_nan=False)) == [list(row) for row in table.rows]


@each_table
def test_table_is_no_number(measure: Measure) -> None:
    """A table has no limit, and no value to be asked for."""
    found = segcli.score(shape("hook_pred"), shape("hook_gt"), metrics=[measure.name])
    with pytest.raises(UsageError, match=f"{measure.name} is a table"):
        found.value(measure.name)
    with pytest.raises(UsageError, match=f"{measure.name} is a table"):
        parse_limits("min", [f"{measure.name}=1"])


# --- asking a scored case -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Return a scored case of two labels and a region."""
    gt = np.zeros((6, 8), np.uint8)
    gt[1:4, 1:4], gt[1:4, 4:7] = 1, 2
    return segcli.score(
        np.roll(gt, 1, axis=1), gt, metrics="dice,hd95,nsd:tol=1,nsd:tol=2,f_beta:beta=1,f_beta:beta=3",
        losses="dice,bce",
        labels="liver=1,tumour=2,both=1+2",
    )  # fmt: skip


def test_value_by_label(scored: Scored) -> None:
    """A number is found by the label's name or value, a region by its name or sum."""
    assert scored.value("dice", "liver") == scored.value("dice", 1) == pytest.approx(2 / 3)
    assert scored.value("dice", "tumour") == scored.value("dsc", "2") == pytest.approx(2 / 3)
    assert scored.value("dice", "both") == scored.value("metric.dice", "1+2") == pytest.approx(2 * 15 / 36)
    assert scored.value("dice", "mean") == pytest.approx(2 / 3)


def test_value_by_measure(scored: Scored) -> None:
    """A bare name is the metric; parameters may be left out where one value of the name is there."""
    assert scored.value("loss.dice", 1) == pytest.approx(1 / 3, abs=1e-6)
    assert scored.value("bce", "liver") == scored.value("loss.bce", "liver")
    assert scored.value("hd95", 1) == scored.value("hd95:surface=surfel", 1)
    assert scored.value("nsd:tol=1", 1) == scored.value("nsd:tol=1:surface=surfel", 1)
    assert scored.value("nsd", 1) == scored.value("nsd:tol=2", 1)  # the default, since it was computed


@pytest.mark.parametrize(
    ("measure", "label", "said"),
    [
        ("iou", 1, "iou was not computed for liver; computed: dice"),
        ("nsd:tol=3", 1, "nsd:tol=3 was not computed"),
        ("hd95:surface=border", 1, "hd95:surface=border was not computed"),
        ("assd", "mean", "assd was not computed for mean"),
        ("f_beta", 1, "f_beta was not computed for liver; computed: dice"),
        ("dice", 7, "no label 7; there are liver, tumour, both"),
        ("dice", None, "name a label: liver, tumour, both or mean"),
        ("dcie", 1, "unknown measure"),
    ],
)
def test_value_refuses(scored: Scored, measure: str, label: int | None, said: str) -> None:
    """What was not computed, or could be several numbers, is refused with what there is."""
    with pytest.raises(UsageError, match=re.escape(said)):
        scored.value(measure, label)


def test_value_of_a_binary_pair() -> None:
    """A binary pair needs no label; 1 and its name find it too, whatever the file's value."""
    found = segcli.score(shape("hook_pred") * np.uint8(255), shape("hook_gt"), metrics="dice", losses="dice")
    assert found.value("dice") == found.value("dice", 1) == found.value("dice", "foreground") == pytest.approx(2 / 3)
    assert found.value("loss.dice") == pytest.approx(1 / 3, abs=1e-5)


def test_value_of_losses_only() -> None:
    """Where no metric of the name was computed, a bare name finds the loss."""
    found = segcli.score(shape("hook_pred"), shape("hook_gt"), metrics=(), losses="dice")
    assert found.value("dice") == found.value("loss.dice") is not None


# --- what a measure needs -------------------------------------------------------------------------

#: What evidence has that gives a measure what it says it needs: names of a `Pair`, or of all classes.
GIVES: dict[Needs, tuple[str, ...]] = {
    "counts": ("counts",),
    "volumes": ("counts", "voxel_volume"),
    "litres": ("counts", "voxel_volume", "case"),
    "surfaces": ("distances", "case"),
    "bands": ("bands", "chessboard_bands", "davis_boundaries"),
    "places": ("case", "label"),
    "structure": ("structure", "voxel_volume"),
    "objects": ("objects",),
    "probabilities": ("soft",),
    "sizes": ("sums",),
    "overlaps": ("joint", "foreground", "inside", "confusion", "names", "unlabelled"),
}
#: Two objects each, of which one is shifted and one is not.
BLOBS = np.zeros((2, 8, 8, 8), np.uint8)
BLOBS[:, 1:4, 1:4, 1:4] = 1
BLOBS[0, 5:7, 4:7, 5:8] = BLOBS[1, 5:8, 5:7, 5:7] = 1
#: The least that is not enough.
TOO_LITTLE: dict[Needs, Needs] = {"volumes": "counts", "litres": "volumes"}


class Only:
    """Evidence of which nothing is there but these."""

    def __init__(self, evidence: Any, names: tuple[str, ...]) -> None:
        self.__dict__.update({name: getattr(evidence, name) for name in names if hasattr(evidence, name)})


@pytest.mark.parametrize("measure", METRICS + TABLES, ids=[m.id for m in METRICS + TABLES])
def test_metrics_need_what_they_say(measure: Measure) -> None:
    """Evidence with that alone gives the same number; evidence with less gives none."""
    pred, gt = BLOBS
    for bound in variants(measure):
        pair = pair_of(0.1 + 0.7 * pred, gt, (1.0, 0.5, 2.0))
        evidence = pair.case.classes if bound.over_classes else pair
        assert bound(Only(evidence, GIVES[measure.needs])) == bound(evidence)
        with pytest.raises(AttributeError):
            bound(Only(evidence, GIVES.get(TOO_LITTLE.get(measure.needs, "voxels"), ())))


@each_loss
def test_losses_need_the_grid_where_they_say_so(measure: Measure) -> None:
    """Voxels of several images as one have no grid: a loss that needs it raises, any other has a value of them."""
    rng = np.random.default_rng(0)
    p, y = rng.random((2, 4, 5, 6)), rng.integers(0, 2, (2, 4, 5, 6)).astype(np.float64)
    for bound in variants(measure):
        pooled: Any = PooledPair([SoftPair.of(*one) for one in zip(p, y, strict=True)])
        if bound.over_classes:
            pooled = PooledClasses([two_classes(*one) for one in zip(p, y, strict=True)])
        for function in (bound, bound.voxel_map, lambda pair, bound=bound: bound.gradient(pair, "p")):
            if measure.needs == "grid":
                with pytest.raises(NoGridError):
                    function(pooled)
            else:
                assert function(pooled) is not None


@each_metric
def test_pooled_is_what_adds_up(measure: Measure) -> None:
    """A measure with a value of all cases together has one of their counts and parts, and any other has none."""
    pred, gt = BLOBS
    pair = pair_of(0.1 + 0.7 * pred, gt)
    bound = bind(measure.name, "metric")
    bound(pair.case.classes if bound.over_classes else pair)
    parts = {key: part._asdict() for key, part in pair.objects.answers.items()}
    whole: Any = PooledCounts([pair.counts], parts=[parts])
    if bound.over_classes:
        whole = PooledSums([{CLASSES: pair.case.classes.sums._asdict()}])
    if measure.pooled:
        assert bound(whole) == value_of(bound, pair)
    else:
        with pytest.raises(AttributeError):
            bound(whole)


# --- why a value is undefined ---------------------------------------------------------------------


def test_reasons_are_those_of_the_schemas() -> None:
    """What a run and a difference may say is what there is, each with its words."""
    folder = Path(segcli.__file__).parent / "schemas"

    def listed(name: str) -> set[str]:
        found = re.findall(r'"why": \{\s*"enum": (\[.*?\])', (folder / name).read_text(), re.DOTALL)
        return {word for words in found for word in json.loads(words)}

    assert listed("run.json") == set(Why) - {Why.OTHER_LABELS}
    assert set(Why) < listed("diff.json")
    assert all(why.short and (why.of_label and why.of_classes) for why in set(Why) - {Why.OTHER_LABELS})
    assert all(why.of_masks for why in reasons.EMPTY)
    assert json.dumps([Why.NO_ML]) == '["no_ml"]'
    assert pickle.loads(pickle.dumps(Why.NO_ML)) is Why.NO_ML  # noqa: S301 (our own)
    assert (short("no_ml"), short("the case failed"), short("")) == ("no ml", "the case failed", "no value")


@each_metric
def test_a_measure_says_why_it_has_no_value(measure: Measure) -> None:
    """What has a surface may lack it, millilitres may lack a size; anything else is 0/0."""
    known = Why.NO_ML if measure.unit == "ml" else Why.ZERO_DENOMINATOR
    assert measure.undefined is (Why.NO_SURFACE if "surface" in measure.params else known)
