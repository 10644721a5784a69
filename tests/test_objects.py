"""Objects: matching against brute force and other tools, lesions against the published procedure, real instances."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
import warnings
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from shapes import shape

import segcli
from segcli.errors import UsageError
from segcli.evidence.case import Case
from segcli.evidence.objects import Match, ObjectPairs
from segcli.masks.labels import Label

Array = NDArray[Any]

ANY = [Label("fg", None)]
VALUES = ":instances=values"
few = settings(max_examples=60)


def objects_of(pred: Array, gt: Array, instances: str = "values", **how: Any) -> ObjectPairs:
    """Return the objects of everything that is not 0."""
    case = Case.of(pred, gt, ANY, **how)
    return case.pair(0).structure.objects("values" if instances == "values" else "components", "26")


def values_of(asked: str, pred: Array, gt: Array, **reading: Any) -> dict[str, float | None]:
    """Return metrics of everything that is not 0, by name."""
    found = segcli.score(pred, gt, metrics=asked, **{"labels": "fg=any", **reading})
    return {v.measure: v.value for v in found.values}


@st.composite
def instance_maps(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw two maps of up to five instances in stretches, so that they overlap in chains."""
    form = draw(st.sampled_from([(1, 12), (4, 6), (2, 3, 4)]))
    return tuple(  # type: ignore[return-value]
        np.sort(draw(arrays(np.uint8, form, elements=st.integers(0, 5))), axis=-1) for _ in range(2)
    )


def table_of(pred: Array, gt: Array) -> tuple[Array, list[int], list[int]]:
    """Return the IoU of every pair of values, one mask after another, and the values."""
    ids = [[int(v) for v in np.unique(m) if v] for m in (pred, gt)]
    iou = np.zeros((len(ids[0]), len(ids[1])))
    for i, p in enumerate(ids[0]):
        for j, g in enumerate(ids[1]):
            iou[i, j] = ((pred == p) & (gt == g)).sum() / ((pred == p) | (gt == g)).sum()
    return iou, *ids


# --- matching -------------------------------------------------------------------------------------


def all_matchings(iou: Array) -> list[list[tuple[int, int]]]:
    """Return every way to pair rows with columns (all rows, or all columns)."""
    rows, columns = iou.shape
    if rows > columns:
        return [[(i, j) for j, i in pairs] for pairs in all_matchings(iou.T)]
    return [list(enumerate(order)) for order in permutations(range(columns), rows)]


@given(instance_maps(), st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.6]), st.booleans())
@few
def test_optimal_matching(maps: tuple[Array, Array], threshold: float, inclusive: bool) -> None:
    """No assignment of all that are possible has more pairs, or as many and a greater sum of IoU."""
    iou, preds, gts = table_of(*maps)
    found = objects_of(*maps).match(threshold, "optimal", inclusive=inclusive)
    allowed = (iou >= threshold) & (iou > 0) if inclusive else iou > threshold
    best = (0, 0.0)
    if preds and gts:
        for pairs in all_matchings(iou):
            kept = [iou[pair] for pair in pairs if allowed[pair]]
            best = max(best, (len(kept), float(sum(kept))), key=lambda b: (b[0], round(b[1], 9)))
    assert (found.n_pred, found.n_gt) == (len(preds), len(gts))
    assert (found.tp, found.fp, found.fn) == (best[0], len(preds) - best[0], len(gts) - best[0])
    assert found.iou.sum() == pytest.approx(best[1])
    check(found, iou)


@given(instance_maps(), st.sampled_from([0.0, 0.2, 0.3, 0.5]))
@few
def test_greedy_matching(maps: tuple[Array, Array], threshold: float) -> None:
    """The best pair goes first, then the best of what is left; above one half all ways are one."""
    iou, _, _ = table_of(*maps)
    found = objects_of(*maps).match(threshold, "greedy")
    check(found, iou)
    pairs = dict(zip(found.pred.tolist(), found.gt.tolist(), strict=True))
    for i, j in np.argwhere(iou > threshold).tolist():  # whoever is not matched met somebody better
        better = [iou[i, pairs[i]]] if i in pairs else []
        better += [iou[p, j] for p, g in pairs.items() if g == j]
        assert max(better) >= iou[i, j] - 1e-12
    if threshold == 0.5:
        assert found.iou.tolist() == objects_of(*maps).match(threshold).iou.tolist()


def check(found: Match, iou: Array) -> None:
    """Check that no object is in two pairs and that IoU and Dice are those of the masks."""
    assert len(set(found.pred.tolist())) == len(set(found.gt.tolist())) == found.tp
    own = iou[found.pred, found.gt] if found.tp else np.empty(0)
    assert found.iou == pytest.approx(own)
    assert found.dice == pytest.approx(2 * own / (1 + own))


@given(instance_maps(), st.permutations([1, 2, 3, 4, 5]), st.sampled_from(["greedy", "optimal"]))
@few
def test_ids_do_not_matter(maps: tuple[Array, Array], order: list[int], matching: str) -> None:
    """Other numbers for the same instances change no measure; F1 is the same with pred and gt exchanged."""
    asked = f"pq{VALUES},object_f1{VALUES}:matching={matching},object_f1{VALUES}:matching=overlap,ap50_95{VALUES}"
    pred, gt = maps
    first = values_of(asked, pred, gt)
    again = values_of(asked, np.array([0, *(300 * k for k in order)])[pred], gt)
    exchanged = values_of(asked, gt, pred)
    for name, value in first.items():
        expected = value if value is None else pytest.approx(value, rel=1e-12)
        assert again[name] == expected
        assert exchanged[name] == expected


@given(instance_maps())
@few
def test_measures_of_instances(maps: tuple[Array, Array]) -> None:
    """AJI, AP and the detection of any overlap are their formulas on one mask after another."""
    pred, gt = maps
    iou, preds, gts = table_of(pred, gt)
    found = values_of(f"aji{VALUES},ap:iou=0.5{VALUES},object_sensitivity:matching=overlap{VALUES},"
                      f"object_precision:matching=overlap{VALUES}", pred, gt)  # fmt: skip
    aji, ap, sensitivity, precision = found.values()
    if not preds or not gts:
        return
    inside, total, used = 0, 0, set()
    for j, g in enumerate(gts):
        if not iou[:, j].any():
            total += int((gt == g).sum())
            continue
        most = iou[:, j].max()
        best = max(np.flatnonzero(iou[:, j] == most), key=lambda i: ((pred == preds[i]) & (gt == g)).sum())
        ties = sum(iou[:, j] == most)
        inside += int(((pred == preds[best]) & (gt == g)).sum())
        total += int(((pred == preds[best]) | (gt == g)).sum())
        used.add(best)
        if ties > 1:
            return  # which of equal ones is the best is anybody's choice
    total += sum(int((pred == p).sum()) for i, p in enumerate(preds) if i not in used)
    assert aji == pytest.approx(inside / total)
    tp = objects_of(pred, gt).match(0.5, inclusive=True).tp
    assert ap == pytest.approx(tp / (len(preds) + len(gts) - tp))
    assert sensitivity == pytest.approx(np.mean([iou[:, j].any() for j in range(len(gts))]))
    assert precision == pytest.approx(np.mean([iou[i].any() for i in range(len(preds))]))


def test_above_a_low_threshold_greedy_is_worse() -> None:
    """A chain in which the best pair stands in the way of two: see the golden file of pq."""
    pred, gt = np.array([[4, 4, 3, 3, 3, 3, 3]]), np.array([[1, 1, 1, 1, 1, 2, 2]])
    pairs = objects_of(pred, gt)
    assert (pairs.match(0.3, "optimal").tp, pairs.match(0.3, "greedy").tp) == (2, 1)


# --- where objects come from ------------------------------------------------------------------------


def test_touching_instances() -> None:
    """Two instances that touch are one component; as values they are two."""
    pred, gt = np.array([[1, 1, 2, 2]], np.uint8), np.array([[5, 5, 7, 7]], np.uint8)
    found = values_of(f"true_positives,true_positives{VALUES}", pred, gt)
    assert list(found.values()) == [1, 2]


def test_an_instance_in_pieces() -> None:
    """An instance of two pieces is two components and one value."""
    mask = np.array([[3, 0, 3], [0, 0, 0]], np.uint8)
    assert list(values_of(f"true_positives,true_positives{VALUES}", mask, mask).values()) == [2, 1]


def test_connectivity() -> None:
    """Pixels that meet at a corner are one object with 8 neighbours, two with 4; in 3-D there is no 8."""
    mask = np.eye(2, dtype=np.uint8)
    asked = "true_positives,true_positives:connectivity=4"
    assert list(values_of(asked, mask, mask).values()) == [1, 2]
    with pytest.raises(UsageError, match="connectivity=8 is of images with 2 axes"):
        values_of("pq:connectivity=8", mask[None], mask[None])


def test_values_of_one_label_only() -> None:
    """Instances are those of the label that is scored; others are no objects of it."""
    pred, gt = np.array([[1, 2, 0, 4]], np.uint8), np.array([[1, 2, 3, 4]], np.uint8)
    found = segcli.score(pred, gt, metrics=f"false_negatives{VALUES},true_positives{VALUES}", labels="a=1+2+3,b=4")
    assert [v.value for v in found.values] == [1, 2, 0, 1]


def test_ignored_voxels() -> None:
    """An ignored voxel counts in no object. It joins no two of the truth; what was predicted stays one object."""
    gt = np.array([[1, 9, 1, 1, 0]], np.uint8)
    pred = np.array([[1, 1, 1, 0, 0]], np.uint8)
    rows = segcli.score(pred, gt, metrics="objects", labels="fg=1", ignore_label=9).tables[0].rows
    assert [(row[:3], row[4]) for row in rows] == [
        (("gt", 1, 2), None), (("gt", 2, 1), None), (("pred", 1, 2), None),
    ]  # fmt: skip


@given(arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 3)), arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 3)))
@few
def test_order_of_memory(pred: Array, gt: Array) -> None:
    """The table is the same, ids and centres included, however the arrays lie in memory."""
    for asked in ("objects", f"objects{VALUES}"):
        rows = [
            segcli.score(
                np.asarray(pred > 1, order=order) * pred, np.asarray(gt, order=order), metrics=asked, labels="fg=any",
                spacing=(1.0, 2.0, 0.5),
            ).tables[0].rows
            for order in ("C", "F")
        ]  # fmt: skip
        for row, other in zip(*rows, strict=True):
            assert row[:5] == other[:5]
            for value, same in zip(row[5:], other[5:], strict=True):
                assert value == (same if same is None else pytest.approx(same, rel=1e-12))


# --- the table of objects ----------------------------------------------------------------------------

TABLE = tomllib.loads(Path(__file__).with_name("golden").joinpath("table", "objects.toml").read_text("utf-8"))["case"]


@pytest.mark.parametrize("case", TABLE, ids=[c["note"] for c in TABLE])
def test_hand_counted_objects(case: dict[str, Any]) -> None:
    """Each row of the table is what was counted by hand."""
    pred, gt = (np.array(case[side], np.uint8) for side in ("pred", "gt"))
    (found,) = segcli.score(pred, gt, metrics="objects", labels=case["labels"]).tables
    assert list(found.columns) == case["columns"]
    assert [list(row) for row in found.rows] == case["rows"]


def test_objects_of_the_knot() -> None:
    """Volumes, matches and centres of a volume with anisotropic voxels; what is not matched has no fit."""
    found = segcli.score(shape("knot_pred"), shape("knot_gt"), metrics="objects:surface=border", spacing=(3, 2, 1))
    rows = found.tables[0].rows
    assert [row[:5] for row in rows] == [
        ("gt", 1, 26, 156.0, 1), ("gt", 2, 8, 48.0, None), ("pred", 1, 27, 162.0, 1), ("pred", 2, 3, 18.0, None),
        ("pred", 3, 1, 6.0, None),
    ]  # fmt: skip
    assert rows[0][5:8] == rows[2][5:8] == (26 / 27, 52 / 53, 0.0)
    assert rows[1][5:8] == (None, None, None)
    assert [row[8:] for row in rows] == [(4, 6, 2), (1, 2, 2), (4, 6, 2), (1, 1, 2), (5, 1, 2)]


@given(st.integers(0, 99), st.sampled_from(["surfel", "border"]))
@settings(max_examples=20)
def test_distances_of_one_object(seed: int, surface: str) -> None:
    """Of a single object the table has the case's own IoU, Dice and hd95, also beside ignored voxels."""
    random = np.random.default_rng(seed)
    gt = np.zeros((8, 9, 10), np.uint8)
    gt[2:6, 2:7, 3:8] = 1
    pred = np.roll(gt, random.integers(-1, 2, 3), axis=(0, 1, 2))
    gt[random.random(gt.shape) < 0.03] = 9
    found = segcli.score(pred, gt, metrics=f"iou,dice,hd95,objects:iou=0:matching=greedy{VALUES}", surface=surface,
                         labels="fg=1", ignore_label=9, spacing=(2.5, 1.0, 0.8))  # fmt: skip
    rows = found.tables[0].rows
    assert len(rows) == 2
    assert rows[0][5:8] == pytest.approx([v.value for v in found.values], rel=1e-12)


def test_per_component(tmp_path: Path) -> None:
    """`--per-component` is the table asked for by name, after the metrics that were asked for."""
    for side in ("pred", "gt"):
        np.save(tmp_path / f"{side}.npy", shape(f"split_{side}"))
    call = [sys.executable, "-m", "segcli", "score", tmp_path / "pred.npy", tmp_path / "gt.npy", "-m"]
    short, long = (
        subprocess.run([*call, *rest], capture_output=True, text=True, check=True)
        for rest in (["dice,rq", "--per-component"], ["dice,rq,objects"])
    )
    assert short.stdout == long.stdout
    assert "rq" in short.stdout


# --- lesions: the procedure of BraTS 2023, one full-size mask after another -----------------------------


def lesion_wise(pred: Array, gt: Array, spacing: tuple[float, ...], dilation: int, least: float) -> tuple[float, float]:
    """Return Dice and HD95 by lesion as the challenge describes them, with SciPy and surface-distance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool = pytest.importorskip("surface_distance")
    step, full = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
    pieces, _ = ndimage.label(pred, full)
    zones, count = ndimage.label(ndimage.binary_dilation(gt, step, iterations=dilation), full)
    dice, distances, met = [], [], {0}
    for zone in range(1, count + 1):
        lesion = (zones == zone) & (gt > 0)
        near = set(pieces[ndimage.binary_dilation(lesion, step, iterations=dilation)].tolist()) - {0}
        met |= near
        if lesion.sum() * math.prod(spacing) <= least:
            continue
        part = np.isin(pieces, sorted(near)) & (pieces > 0)
        dice.append(2 * (part & lesion).sum() / (part.sum() + lesion.sum()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = tool.compute_surface_distances(lesion, part, spacing) if near else None
        distances.append(tool.compute_robust_hausdorff(found, 95) if found else 374.0)
    false = len(set(pieces.ravel().tolist()) - met)
    rows = len(dice) + false
    return (sum(dice) / rows, (sum(distances) + 374 * false) / rows) if rows else (1.0, 0.0)


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.0, 5.0, 40.0]))
@settings(max_examples=30)
def test_lesions(seed: int, dilation: int, least: float) -> None:
    """Lesion-wise Dice and HD95 are those of the published procedure."""
    random = np.random.default_rng(seed)
    form = tuple(random.integers(5, 20, 3))
    field, other = (ndimage.gaussian_filter(random.standard_normal(form), 1) for _ in range(2))
    noisy = field + random.choice([0.1, 0.5, 2.0]) * other
    gt, pred = ((f > np.quantile(f, share)).astype(np.uint8) for f, share in ((field, 0.95), (noisy, 0.93)))
    spacing = tuple(float(s) for s in random.permutation([0.7, 1.0, 1.9]))
    how = f":dilation={dilation}:min_volume={least}"
    found = values_of(f"lesion_dice{how},lesion_hd95{how}", np.asfortranarray(pred), gt, spacing=spacing)
    assert list(found.values()) == pytest.approx(lesion_wise(pred, gt, spacing, dilation, least), rel=1e-9)


# --- other tools, recorded, and real instances --------------------------------------------------------


def test_panoptica() -> None:
    """What panoptica 2.1.7 (connected components, greedy matching) gives for two pairs at two thresholds.

    It matches at an IoU equal to the threshold, too: no pair here has one.
    """
    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((60, 60)), 2)
    pred = (field > np.quantile(field, 0.7)).astype(np.uint8)
    gt = np.roll(pred, 1, 0)
    gt[:30] = np.roll(gt[:30], 2, 1)
    names = ["true_positives", "false_positives", "false_negatives", "pq", "sq", "rq", "matched_dice"]
    for (p, g), threshold, expected in (
        ((shape("knot_pred"), shape("knot_gt")), 0.5,
         (1, 2, 1, 0.3851851851851852, 0.9629629629629629, 0.4, 0.9811320754716981)),
        ((shape("knot_pred"), shape("knot_gt")), 0.3,
         (2, 1, 0, 0.5351851851851851, 0.6689814814814814, 0.8, 0.7632933104631218)),
        ((pred, gt), 0.51, (9, 12, 16, 0.2506480050214066, 0.6405449017213724, 0.391304347826087, 0.7789244852982345)),
        ((pred, gt), 0.31, (15, 6, 10, 0.3744852036982346, 0.5742106456706264, 0.6521739130434783, 0.7246982184614511)),
    ):  # fmt: skip
        how = ":connectivity=4" if p.ndim == 2 else ""  # in 2-D it takes SciPy's cross
        found = values_of(",".join(f"{name}:iou={threshold}:matching=greedy{how}" for name in names), p, g)
        assert list(found.values()) == pytest.approx(expected, rel=1e-12)


@needs_shared("data", "spine_panoptica", "matched_instance_pred.nii.gz")
@pytest.mark.parametrize("form", ["matched", "unmatched"])
def test_real_instances(form: str) -> None:
    """The vertebrae of one case, numbered alike or not: 19 of 22 are matched, pq as panoptica has it."""
    files = [SHARED / "data" / "spine_panoptica" / f"{form}_instance_{side}.nii.gz" for side in ("pred", "ref")]
    asked = [f"{name}{VALUES}" for name in ("pq", "true_positives", "false_positives", "false_negatives", "rq")]
    found = segcli.score(*files, metrics=[*asked, f"objects{VALUES}"], labels="spine=any")
    assert [v.value for v in found.values][:4] == [pytest.approx(0.719252, abs=5e-7), 19, 3, 3]
    assert found.values[4].value == pytest.approx(19 / 22)
    rows = found.tables[0].rows
    assert len(rows) == 44
    assert sum(row[4] is not None for row in rows) == 38
    for row in rows:
        shift = int(form == "unmatched") * (1 if row[0] == "gt" else -1)  # its predicted ids are all one more
        assert row[4] in (None, row[1] + shift)


def test_many_objects() -> None:
    """Ten thousand objects a side: no mask is made for any of them."""
    gt = np.zeros((40, 400, 400), np.uint8)
    gt[::4, ::10, ::4], gt[1::4, ::10, ::4] = 1, 1
    pred = gt.copy()
    pred[1::4, :200] = 0
    found = values_of("pq:iou=0.4,true_positives:iou=0.4,aji,sq:iou=0.4", pred, gt)
    assert found["true_positives:iou=0.4"] == 40_000
    assert found["sq:iou=0.4"] == found["pq:iou=0.4"] == pytest.approx(0.75)
