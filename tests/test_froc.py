"""FROC: candidates against a slow twin, the curve against MONAI, cohorts against both."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cohorts import segcli as cli
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import segcli
from segcli.errors import InputError
from segcli.evidence.case import Case
from segcli.evidence.counts import Counts
from segcli.evidence.parts import Candidates
from segcli.evidence.pooled import PooledCounts
from segcli.masks.labels import Label
from segcli.measure.notation import bind

Array = NDArray[Any]
SHAPES = [(1, 9), (7, 8), (4, 5, 6), (3, 1, 7)]
CAMELYON16 = (0.25, 0.5, 1, 2, 4, 8)
few = settings(max_examples=60)


@st.composite
def cases(draw: st.DrawFn, most: int = 1) -> list[tuple[Array, Array]]:
    """Draw maps of few levels, so that confidences tie, with lesions in none, some or much of the grid."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 64]))
    found = []
    for _ in range(draw(st.integers(1, most))):
        form = draw(st.sampled_from(SHAPES))
        p = random.integers(0, levels + 1, form) / levels * (random.random(form) < draw(st.sampled_from([0.2, 0.5])))
        y = random.random(form) < draw(st.sampled_from([0.0, 0.1, 0.3])) + 0.2 * p
        found.append((p.astype(draw(st.sampled_from([np.float32, np.float64]))), y.astype(np.uint8)))
    return found


def candidates(
    p: Array, y: Array, floor: float, iou: float, *, full: bool = True, void: Array | bool = False
) -> tuple[list[float], list[float]]:
    """Return the best confidence at which each lesion is hit (0 for none) and those of the false candidates.

    `void` voxels are taken from a candidate; one that hits nothing and loses more than half is not false.
    """
    around = np.ones((3,) * p.ndim) if full else ndimage.generate_binary_structure(p.ndim, 1)
    (pieces, count), (lesions, n) = ndimage.label(p > floor, around), ndimage.label(y, around)
    best, false = [0.0] * n, []
    for whole in (pieces == k for k in range(1, count + 1)):
        piece = whole & ~np.broadcast_to(void, p.shape)
        if not piece.any():
            continue
        overlaps = [((piece & (lesions == k + 1)).sum(), (piece | (lesions == k + 1)).sum()) for k in range(n)]
        hits = [k for k, (shared, united) in enumerate(overlaps) if shared and shared / united >= iou]
        for k in hits:
            best[k] = max(best[k], float(p[piece].max()))
        if not hits and 2 * piece.sum() >= whole.sum():
            false.append(float(p[piece].max()))
    return best, false


def told(parts: Candidates, best: list[float], false: list[float]) -> None:
    """Check what a case gives to the curve."""
    assert parts.hit == sorted((b for b in best if b), reverse=True)
    assert parts.false == sorted(false, reverse=True)
    assert (parts.lesions, parts.cases) == (len(best), 1)


def kept(p: Array, y: Array, asked: str = "froc", **how: Any) -> Candidates:
    """Return the one part that a case keeps for froc."""
    scored = segcli.score(p, y, metrics=asked, kind="probability", labels="lesion=any", **how)
    (part,) = scored.parts["lesion"].values()
    return Candidates(**part)


# --- candidates -----------------------------------------------------------------------------------


@given(cases(), st.sampled_from([0.0, 0.1, 0.4, 0.5]), st.sampled_from([0.0, 0.1, 0.3]), st.booleans(), st.booleans())
@few
def test_candidates(drawn: list[tuple[Array, Array]], floor: float, iou: float, full: bool, fortran: bool) -> None:
    """Pieces, their confidence and what they hit are those of scipy.ndimage and plain loops, in either memory order."""
    ((p, y),) = drawn
    asked = f"froc:floor={floor}:iou={iou}:connectivity={26 if full else 6}"
    best, false = candidates(p, y, floor, iou, full=full)
    told(kept(*((np.asfortranarray(p), np.asfortranarray(y)) if fortran else (p, y)), asked), best, false)


@given(cases())
@few
def test_an_ignored_voxel_is_in_no_candidate(drawn: list[tuple[Array, Array]]) -> None:
    """What the ground truth leaves open is in no lesion and not in the size of a candidate; it parts none in two."""
    ((p, y),) = drawn
    y[..., 3] = 9
    told(kept(p, y, ignore_label=9), *candidates(p, y == 1, 0.1, 0.1, void=y == 9))


@given(cases())
@few
def test_at_the_threshold_candidates_are_the_predicted_objects(drawn: list[tuple[Array, Array]]) -> None:
    """With floor=0.5 and any overlap the curve ends at the false objects and the sensitivity of the mask itself."""
    ((p, y),) = drawn
    asked = "froc:floor=0.5:iou=0,object_sensitivity:matching=overlap,false_positives:matching=overlap"
    found = segcli.score(p, y, metrics=asked, kind="probability", labels="fg=any")
    (part,) = [Candidates(**part) for key, part in found.parts["fg"].items() if key.startswith("candidates")]
    assert len(part.false) == found.value("false_positives:matching=overlap")
    share = len(part.hit) / part.lesions if part.lesions else None
    assert share == found.value("object_sensitivity:matching=overlap")


def test_a_hard_mask_has_no_candidates() -> None:
    """Asked directly it is refused; an empty one has nothing whose confidence could be lacking."""
    y = np.array([[1, 0, 1]], np.uint8)
    label = [Label("lesion", None)]
    with pytest.raises(InputError, match="a hard mask has no probabilities"):
        bind("froc")(Case.of(y, y, label).pair(0))
    assert bind("froc")(Case.of(0 * y, y, label).pair(0)) == 0


def test_channels_have_candidates_of_their_own() -> None:
    """Each label is detected by its own channel, whatever the largest channel is."""
    p = np.array([[[0.5, 0.4, 0.9, 0.5]], [[0.3, 0.1, 0.05, 0.1]], [[0.2, 0.5, 0.05, 0.4]]])
    y = np.array([[1, 0, 0, 2]], np.uint8)
    found = segcli.score(p, y, metrics="froc:floor=0.15", labels="1,2")
    parts = {label: Candidates(*part.values()) for label, own in found.parts.items() for part in own.values()}
    # Label 1: voxel 0. Label 2: voxels 0 and 1, and voxel 3.
    assert parts == {"1": Candidates([0.3], [], 1, 1), "2": Candidates([0.4], [0.5], 1, 1)}
    assert found.value("froc:floor=0.15", 1) == 1
    # Label 2: a false alarm comes first: 0 below one per case, 1 from there on.
    assert found.value("froc:floor=0.15", 2) == pytest.approx(4 / 7)


# --- the curve --------------------------------------------------------------------------------------


@given(cases(most=5))
@few
def test_the_curve_of_a_cohort_is_that_of_monai(drawn: list[tuple[Array, Array]]) -> None:
    """All cases together: MONAI's curve and score of the same candidates, lesions that were missed at probability 0.

    MONAI leaves out the lowest of all probabilities, which it takes for that 0: one more 0 keeps it in place where
    nothing was missed.
    """
    monai = pytest.importorskip("monai.metrics.froc")
    parts = [kept(p, y) for p, y in drawn]
    each = [candidates(p, y, 0.1, 0.1) for p, y in drawn]
    best, false = (np.array([x for case in each for x in case[side]]) for side in (0, 1))
    bound = bind("froc:rates=0.25/0.5/1/2/4/8")
    value = bound(PooledCounts([Counts(0, 0, 0, 0)], parts=[parts_of(*case) for case in drawn]))
    if not best.size:
        assert value is None
        return
    rates, shares = monai.compute_froc_curve_data(np.append(false, 0), best, best.size, len(drawn))
    assert value == pytest.approx(float(monai.compute_froc_score(rates, shares, CAMELYON16)), rel=1e-12, abs=1e-15)
    hit, wrong = ([x for part in parts for x in side(part)] for side in (lambda c: c.hit, lambda c: c.false))
    pooled = Candidates(hit, wrong, sum(part.lesions for part in parts), len(parts))
    ours = [(n / pooled.cases, k / pooled.lesions) for _, n, k in pooled.curve()]
    np.testing.assert_allclose(np.reshape(ours[::-1], (-1, 2)).T, [rates[:-1], shares[:-1]], rtol=1e-12)


def parts_of(p: Array, y: Array) -> dict[str, Any]:
    """Return the parts of a case by question."""
    return segcli.score(p, y, metrics="froc", kind="probability", labels="lesion=any").parts["lesion"]


def test_monai_leaves_out_the_last_step_where_nothing_is_missed() -> None:
    """Two lesions, both hit, a false alarm between: its curve ends at one half, and so does its score."""
    monai = pytest.importorskip("monai.metrics.froc")
    p, y = np.array([[0.9, 0.0, 0.8, 0.0, 0.3]]), np.array([[1, 0, 0, 0, 1]], np.uint8)
    _, shares = monai.compute_froc_curve_data(np.array([0.8]), np.array([0.9, 0.3]), 2, 1)
    assert shares.max() == 0.5
    rows = segcli.score(p, y, metrics="froc_curve", kind="probability").tables[0].rows
    assert rows[-1] == (0.3, 1.0, 1.0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 12), (5, 7, 9)]))
@few
def test_detections_of_single_voxels_are_those_of_monai(seed: int, form: tuple[int, ...]) -> None:
    """Isolated voxels are points: what they hit, and what not, is what MONAI makes of coordinates and a label map."""
    monai = pytest.importorskip("monai.metrics.froc")
    random = np.random.default_rng(seed)
    p = np.zeros(form)
    every = (slice(None, None, 2),) * len(form)
    p[every] = random.integers(0, 33, p[every].shape) / 32 * (random.random(p[every].shape) < 0.5)
    values = random.integers(0, 4, tuple(-(-n // 3) for n in form))
    values = np.searchsorted(np.unique(np.append(values, 0)), values)  # lesions are numbered from 1 without gaps
    y = np.kron(values, np.ones((3,) * len(form), int))[tuple(slice(n) for n in form)].astype(np.uint8)
    coordinates = np.argwhere(p > 0)
    part = kept(p, y, "froc:floor=0:iou=0:instances=values")
    if not y.any():
        return
    false, true, targets = monai.compute_fp_tp_probs_nd(p[p > 0], coordinates, y.astype(int))
    assert part.false == sorted(false.tolist(), reverse=True)
    assert part.hit == sorted((t for t in true.tolist() if t), reverse=True)
    assert part.lesions == targets


@given(cases(most=4), st.permutations(range(4)))
@few
def test_the_order_of_cases_changes_nothing(drawn: list[tuple[Array, Array]], order: list[int]) -> None:
    """The pooled value is of a set of cases; of one case it is that case's value."""
    bound = bind("froc")
    parts = [parts_of(*case) for case in drawn]
    again = [parts[k] for k in order if k < len(parts)]
    counts = [Counts(0, 0, 0, 0)]
    assert bound(PooledCounts(counts, parts=parts)) == bound(PooledCounts(counts, parts=again))
    for (p, y), part in zip(drawn, parts, strict=True):
        own = segcli.score(p, y, metrics="froc", kind="probability", labels="lesion=any").values[0]
        assert bound(PooledCounts(counts, parts=[part])) == own.value


# --- cohorts --------------------------------------------------------------------------------------


def write(folder: Any, **pairs: tuple[Any, Any]) -> list[Any]:
    """Write pairs of rows as NPY files; `None` is no file."""
    for side in ("pred", "gt"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for name, rows in pairs.items():
        for side, row in zip(("pred", "gt"), rows, strict=True):
            if row is not None:
                np.save(folder / side / f"{name}.npy", np.array([row], np.float64 if side == "pred" else np.uint8))
    return [folder / "pred", folder / "gt"]


#: a: hit at 0.9, missed; b: hit at 0.6, false at 0.8; c, without lesions: false at 0.7; d the same: nothing above 0.1.
COHORT = {
    "a": ([0.9, 0.0, 0.0, 0.0, 0.0], [1, 0, 0, 0, 1]),
    "b": ([0.6, 0.0, 0.0, 0.0, 0.8], [1, 0, 0, 0, 0]),
    "c": ([0.0, 0.0, 0.7, 0.0, 0.0], [0, 0, 0, 0, 0]),
    "d": ([0.05, 0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0, 0]),
}


def pooled_of(run: dict[str, Any], measure: str = "froc", label: str = "lesion") -> Any:
    return next(s for s in run["summary"] if (s["label"], s["measure"]) == (label, measure))


def test_a_cohort_pools_the_candidates_of_all_cases(tmp_path) -> None:
    """Four cases, three lesions: 0.9 is 1/3 at 0; 0.8 at 1/4; 0.7 at 1/2; 0.6 is 2/3 at 1/2.

    S is 1/3 at 1/8 and 1/4, 2/3 at 1/2 and beyond: (2 + 10) / 21. The mean of cases has no c and no d: a has 1/2
    everywhere, b 0 below one false alarm and 1 from there on: (1/2 + 4/7) / 2.
    """
    run = segcli.evaluate(
        *write(tmp_path, **COHORT), metrics="froc", labels="lesion=any", kind="probability", jobs=1
    ).to_dict()
    found = pooled_of(run)
    assert found["pooled"] == pytest.approx(12 / 21)
    assert (found["n"], found["undefined"], found["mean"]) == (2, 2, pytest.approx((1 / 2 + 4 / 7) / 2))
    by_half = segcli.evaluate(
        *write(tmp_path, **COHORT), metrics="froc:rates=0.5", labels="lesion=any", kind="probability", jobs=1
    ).to_dict()
    assert pooled_of(by_half, "froc:rates=0.5")["pooled"] == pytest.approx(2 / 3)


def test_lesion_free_cases_thin_out_false_alarms(tmp_path) -> None:
    """Without c and d: 1/3 at 0, 1/3 at 1/2, 2/3 at 1/2: with half the cases the false alarm of b counts double."""
    some = {name: COHORT[name] for name in "ab"}
    run = segcli.evaluate(
        *write(tmp_path, **some), metrics="froc:rates=0.25", labels="lesion=any", kind="probability", jobs=1
    ).to_dict()
    assert pooled_of(run, "froc:rates=0.25")["pooled"] == pytest.approx(1 / 3)
    run = segcli.evaluate(
        *write(tmp_path, d=COHORT["d"]), metrics="froc:rates=0.375", labels="lesion=any", kind="probability", jobs=1
    ).to_dict()
    # Three cases, one false alarm: 2/3 at 1/3.
    assert pooled_of(run, "froc:rates=0.375")["pooled"] == pytest.approx(2 / 3)


def test_a_missing_prediction_misses_its_lesions(tmp_path) -> None:
    """--missing worst: two lesions more that nothing hits, and one case more: 2 of 5 hit from 2/5 false alarms on."""
    folders = write(tmp_path, **COHORT, e=(None, [1, 0, 1, 0, 0]))
    how = {"metrics": "froc:rates=0.5", "labels": "lesion=any", "kind": "probability", "jobs": 1}
    run = segcli.evaluate(*folders, missing="worst", **how).to_dict()
    assert pooled_of(run, "froc:rates=0.5")["pooled"] == pytest.approx(2 / 5)
    assert pooled_of(segcli.evaluate(*folders, **how).to_dict(), "froc:rates=0.5")["pooled"] == pytest.approx(2 / 3)


def test_a_map_of_nothing_has_no_candidates(tmp_path) -> None:
    """A map of zeros is read as a hard mask: it has nothing that could be uncertain, and takes part in the pool."""
    run = segcli.evaluate(*write(tmp_path, **COHORT, e=([0.0] * 5, [0, 1, 0, 0, 0])), metrics="froc", jobs=1).to_dict()
    found = pooled_of(run, label="foreground")
    # 1/4 at 1/5 and before, then the same at 2/5 with 2/4.
    assert found["pooled"] == pytest.approx((1 / 4 + 1 / 4 + 5 / 2) / 7)


def test_a_hard_mask_leaves_no_pooled_value(tmp_path) -> None:
    """One case without confidences is in no pool, and a pool without it would pass for that of all."""
    folders = write(tmp_path, **COHORT, e=([1.0, 0.0, 0.0, 0.0, 0.0], [1, 0, 0, 0, 0]))
    run = segcli.evaluate(*folders, metrics="froc", jobs=1, output=tmp_path / "run.json").to_dict()
    assert pooled_of(run, label="foreground")["pooled"] is None
    rule = '[[gate]]\nid = "r"\nmeasure = "froc"\nstat = "pooled"\nmin = 0.1\n'
    (tmp_path / "rules.toml").write_text(rule)
    refused = cli("gate", tmp_path / "run.json", "--rules", tmp_path / "rules.toml")
    assert (refused.returncode, "hard mask" in refused.stderr) == (3, True)
    run = segcli.evaluate(*folders, metrics="froc", kind="probability", jobs=1, output=tmp_path / "run.json").to_dict()
    assert pooled_of(run, label="foreground")["pooled"] is not None
    passed = cli("gate", tmp_path / "run.json", "--rules", tmp_path / "rules.toml", "-f", "json")
    assert passed.returncode == 0
    (verdict,) = [v for v in json.loads(passed.stdout)["verdicts"] if v["rule"] == "r"]
    assert verdict["value"] == pooled_of(run, label="foreground")["pooled"]


def test_the_table_says_the_pooled_value(tmp_path) -> None:
    """The mean of cases is no FROC: the one of the cohort stands below."""
    done = cli("evaluate", *write(tmp_path, **COHORT), "-m", "froc", "--kind", "probability", "-j1")
    assert "pooled, of all cases together: foreground froc 0.571" in done.stdout
