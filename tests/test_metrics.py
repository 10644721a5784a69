"""The metrics against cases worked out by hand, recorded values of other tools, and those tools live."""

from __future__ import annotations

import json
import math
import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapes import shape

import segcli
from segcli.distances import Distances
from segcli.masks.labels import Label
from segcli.pair import Case

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent
SURFACES = ("surfel", "border", "mesh")


def value_of(text: str, pred: Array, gt: Array, spacing: tuple[float, ...] | None = None) -> float | None:
    """Return one metric of everything that is not 0, as a user asks for it."""
    return segcli.score(pred, gt, metrics=[text], spacing=spacing, labels="fg=any").values[0].value


def distances_of(pred: Array, gt: Array, spacing: tuple[float, ...], surface: str) -> Distances:
    """Return the directed surface distances, which the metrics pool."""
    found = Case(pred, gt, [Label("fg", None)], spacing=spacing).pair(0).distances(surface)
    assert found is not None
    return found


# --- cases worked out by hand -------------------------------------------------------------------

HAND = [
    (path.stem, number, case)
    for path in sorted(HERE.glob("golden/metric/*.toml"))
    for number, case in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["case"])
]


def array_of(given_as: str | list[Any]) -> Array:
    """Return a mask of `shapes.py` or a nested list."""
    return shape(given_as) if isinstance(given_as, str) else np.array(given_as, np.uint8)


@pytest.mark.parametrize(("name", "case"), [h[::2] for h in HAND], ids=[f"{n}-{i}: {c['note']}" for n, i, c in HAND])
def test_hand_worked(name: str, case: dict[str, Any]) -> None:
    """Each metric has the value, or the reason to have none, that was derived by hand."""
    text = ":".join([name, *(f"{key}={value}" for key, value in case.get("params", {}).items())])
    pred, gt = array_of(case["pred"]), array_of(case["gt"])
    found = segcli.score(pred, gt, metrics=[text], spacing=case.get("spacing")).values[0]
    if "undefined" in case:
        assert (found.value, found.status, found.why) == (None, "undefined", case["undefined"])
    else:
        assert found.status == "ok"
        assert found.value == pytest.approx(case["value"], rel=1e-13, abs=1e-15)


def test_ignored_column() -> None:
    """A column of ignored pixels between mask and background is no neighbour: no border there, no band."""
    gt, pred = shape("tile").copy(), shape("tile_moved")
    gt[:, 6] = 9
    asked = ["dice", "specificity", "hd:surface=border", "assd:surface=border", "masd:surface=border"]
    found = segcli.score(pred, gt, metrics=[*asked, "boundary_iou:width=1"], labels="fg=1", ignore_label=9)
    # gt: rows 2 to 5, columns 2 to 5; of pred columns 3 to 5 count: tp 12, fp 0, fn 4, tn 40
    assert found.counts["fg"] == (12, 0, 4, 40)
    assert [found.value(m) for m in asked[:2]] == pytest.approx([24 / 28, 1])
    # Border of gt: 12 - 2 pixels at the ignored column; four of them (column 2) are 1 from pred's.
    # Border of pred: 10 - 2 pixels; two of them (column 3) are 1 from gt's.
    assert [found.value(m) for m in asked[2:]] == pytest.approx([1, 6 / 18, (4 / 10 + 2 / 8) / 2])
    # The bands are the borders; common are rows 2 and 5 of columns 3 to 5.
    assert found.value("boundary_iou:width=1") == pytest.approx(6 / (10 + 8 - 6))


# --- values recorded from other tools (not part of the repository) ---------------------------------

RECORDED = SHARED / "golden" / "golden_metrics.json"

#: What a tool calls it -> our metric. Directed distances and panoptica's mean share are not metrics:
#: they check the evidence behind them.
OVERLAP = {
    "dice": "dice", "iou": "iou", "precision": "precision", "sensitivity": "sensitivity", "npv": "npv",
    "specificity": "specificity", "mcc": "mcc", "kappa": "kappa", "fbeta": "f_beta:beta=1", "rvd": "rve",
    "balanced_accuracy": "balanced_accuracy",
}  # fmt: skip
DISTANCES = {"hd": "hd", "hd95": "hd95", "assd": "assd", "masd": "masd", "nsd": "nsd"}
TOOLS = {
    "deepmind": ("surfel", DISTANCES),
    "monai": ("border", DISTANCES),
    "monai-subvoxel": ("surfel", DISTANCES),
    "metricsreloaded": ("border", DISTANCES),
    "medpy": ("border", DISTANCES | {"hd95": "hd95_pooled"}),
    "panoptica": ("border", DISTANCES | {"hd95": "hd95_pooled"}),
    "mesh": ("mesh", DISTANCES),
}
EVIDENCE: dict[str, Callable[[Distances, dict[str, Any]], float]] = {
    "asd_pred_to_gt": lambda d, _: d.mean("pred"),
    "asd_gt_to_pred": lambda d, _: d.mean("gt"),
    "hd": lambda d, _: float(d.pred_to_gt.max()),
    "hd95": lambda d, _: d.percentile(95, "pred"),
    "nsd_mean": lambda d, p: float(np.mean(d.pred_to_gt <= p["tau"]) + np.mean(d.gt_to_pred <= p["tau"])) / 2,
}
#: Cases whose expected value is a convention for empty masks or a defect, with what is ours.
OURS = {
    # Both masks empty: a number in that tool, undefined here.
    "530": None, "536": None, "539": None, "542": None, "557": None, "569": None, "572": None, "578": None, "563": None,
    "494": None, "497": None, "500": None, "503": None, "506": None,
    # Nothing predicted: 0 or nan in that tool, undefined here.
    "552": None, "564": None,
}  # fmt: skip
#: MetricsReloaded takes the voxels less than `tau` voxels from a border voxel, on both sides, whatever the
#: spacing. With tau 1 these are the border voxels: ours with a width of one voxel. This case has tau 2.
BANDS_DIFFER = {"118"}
NOT_OURS = {"cldice", "centre_distance", "rvae", "plr", "youden", "normalised_expected_cost", "pq", "sq", "rq", "froc"}


@cache
def recorded() -> tuple[str, list[dict[str, Any]]]:
    """Return the helpers that the cases call, and the cases of the tools that segcli reproduces."""
    if not RECORDED.is_file():
        return "", []
    stored = json.loads(RECORDED.read_text(encoding="utf-8"))
    return stored["prelude"], [c for c in stored["cases"] if why_not(c) is None]


def why_not(case: dict[str, Any]) -> str | None:
    """Return why a recorded case cannot be compared."""
    metric, params = case["metric"], case["params"]
    if case["convention"] not in TOOLS:
        return "a convention that segcli does not have yet"
    if metric in NOT_OURS:
        return "no such metric yet"
    if params.get("metric", "euclidean") != "euclidean":
        return "taxicab and chessboard distances are not offered"
    if len(case["spacing"]) == 1 and metric not in OVERLAP:
        return "a 1-D surface: segcli reads a row as an image"
    if case["convention"] == "mesh" and metric == "boundary_iou":
        return "bands along a mesh are not offered"
    if case["id"][:3] in BANDS_DIFFER:
        return "another definition of the band"
    return None


@cache
def drawn(recipe: str) -> Array:
    """Return the array of a case: an expression in NumPy after the file's helpers, or a nested list."""
    given_as = json.loads(recipe)
    if "array" in given_as:
        return np.array(given_as["array"], np.uint8)
    scope: dict[str, Any] = {}
    exec(recorded()[0], scope)  # noqa: S102  (our own recorded file)
    return np.asarray(eval(given_as["expr"], scope)).astype(np.uint8)  # noqa: S307


@needs_shared("golden", "golden_metrics.json")
@pytest.mark.parametrize("case", recorded()[1], ids=[c["id"] for c in recorded()[1]])
def test_recorded_tools(case: dict[str, Any]) -> None:
    """Every recorded value of a tool comes out, or is undefined where theirs is inf, nan or an error."""
    metric, params, expected = case["metric"], case["params"], case["expected"]
    pred, gt = (drawn(json.dumps(case[side])) for side in ("pred", "gt"))
    spacing = tuple(case["spacing"])
    surface, names = TOOLS[case["convention"]]
    empty = not (pred.any() and gt.any())
    directed = params.get("directed") or metric not in {**OVERLAP, **names, "boundary_iou": ""}
    if metric in OVERLAP:
        found = value_of(OVERLAP[metric], pred, gt, spacing if len(spacing) == gt.ndim else None)
    elif metric == "boundary_iou":
        found = value_of("boundary_iou:width=1", pred, gt, (1.0,) * gt.ndim)
    elif directed and empty:
        found = value_of(f"hd:surface={surface}", pred, gt, spacing)
    elif directed:
        found = EVIDENCE[metric](distances_of(pred, gt, spacing, surface), params)
    else:
        text = f"{names[metric]}:surface={surface}"
        found = value_of(f"{text}:tol={params.get('tau', 2):g}" if metric == "nsd" else text, pred, gt, spacing)
    if case["id"][:3] in OURS:
        assert found == OURS[case["id"][:3]]
    elif expected in ("inf", "nan", "error"):
        assert empty
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=1e-6, abs=max(case["tol"], 1e-9))


# --- real pairs, recorded --------------------------------------------------------------------------

REFERENCE = SHARED / "data" / "reference.json"


@cache
def real_pairs() -> list[str]:
    """Return the pairs that hold labels or probabilities: no colour codes, no integer probability map."""
    if not REFERENCE.is_file():
        return []
    pairs = json.loads(REFERENCE.read_text(encoding="utf-8"))["pairs"]
    return [name for name, pair in pairs.items() if "skipped" not in pair and "prob_map" not in name]


#: segcli's metric -> where the reference has it, and how close: MONAI computes in single precision.
COUNTED = {"dice": "dice", "iou": "iou", "precision": "precision", "sensitivity": "recall",
           "specificity": "specificity", "accuracy": "accuracy", "mcc": "mcc"}  # fmt: skip
MEASURED = {
    "hd:surface=border": ("MONAI", "hd", 1e-4),
    "hd95:surface=border": ("MONAI", "hd95", 1e-4),
    "assd:surface=border": ("MONAI", "assd", 1e-4),
    "nsd:tol=1:surface=border": ("MONAI", "nsd/1.0", 1e-4),
    "nsd:tol=2:surface=border": ("MONAI", "nsd/2.0", 1e-4),
    "hd95_pooled:surface=border": ("MedPy", "hd95", 1e-6),
    "masd:surface=border": ("own_kdtree_conn1", "masd_mean_of_directed", 1e-6),
    "hd:surface=surfel": ("surface-distance", "hd", 1e-6),
    "hd95:surface=surfel": ("surface-distance", "hd95", 1e-6),
    "nsd:tol=1:surface=surfel": ("surface-distance", "nsd/1.0", 1e-6),
    "nsd:tol=2:surface=surfel": ("surface-distance", "nsd/2.0", 1e-6),
}


@needs_shared("data", "reference.json")
@pytest.mark.parametrize("files", real_pairs())
def test_recorded_real_pairs(files: str) -> None:
    """Counts are exact, overlaps equal to 1e-12 and distances those of MONAI, MedPy and surface-distance."""
    noted = json.loads(REFERENCE.read_text(encoding="utf-8"))["pairs"][files]["labels"]
    pred, gt = (SHARED / "data" / name for name in files.split(" | "))
    labels = {label: "any" if label == "foreground(>0)" else int(label) for label in noted}
    if "isles_lesion/pred_prob" in files or "mni_gm_prob/pred_gm_prob" in files:
        assert list(labels) == ["foreground(>0)"]
    found = segcli.score(
        pred, gt, metrics=[*COUNTED, *MEASURED], labels=labels, from_logits="logits" in pred.name,
    )  # fmt: skip
    for label, values in noted.items():
        counts = values["counts"]
        assert found.counts[label]._asdict() == counts
        if "empty" in values:
            for value in (v for v in found.values if v.label == label and "hd" in v.measure):
                assert (value.value, value.why) == (None, why_empty(counts))
            continue
        for metric, key in COUNTED.items():
            expected = values["numpy"][key]
            ours = found.value(metric, label)
            assert ours == pytest.approx(expected, rel=1e-12, abs=1e-12), (label, metric)
        for metric, (tool, key, close) in MEASURED.items():
            expected = values.get(tool)
            for part in key.split("/"):
                expected = None if expected is None else expected.get(part)
            if expected is not None and not isinstance(expected, str) and math.isfinite(expected):
                ours = found.value(metric, label)
                assert ours == pytest.approx(expected, rel=close, abs=1e-9), (label, metric, tool)


def why_empty(counts: dict[str, int]) -> str:
    """Return the reason that belongs to the counts."""
    pred, gt = counts["tp"] + counts["fp"], counts["tp"] + counts["fn"]
    return "both_empty" if not pred and not gt else "pred_empty" if not pred else "gt_empty"


# --- other tools, live ------------------------------------------------------------------------------


@st.composite
def blobs(draw: st.DrawFn) -> tuple[Array, Array, tuple[float, ...]]:
    """Draw two smooth masks that are neither empty nor equal in form, and an anisotropic spacing."""
    ndim = draw(st.sampled_from([2, 3]))
    size = st.integers(3, 22 if ndim == 2 else 11)
    form = tuple(draw(st.tuples(*[size] * ndim)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.sampled_from([0.0, 0.8, 2.0]))
    masks = []
    for share in draw(st.tuples(st.floats(0.02, 0.9), st.floats(0.02, 0.9))):
        field = ndimage.gaussian_filter(random.standard_normal(form), width)
        masks.append((field >= np.quantile(field, 1 - share)).astype(np.uint8))
    # no two lengths of which one is a small multiple of the other: ties at a tolerance stay exact
    spacing = tuple(draw(st.permutations([0.7, 1.0, 1.9, 3.3]))[:ndim])
    return masks[0], masks[1], spacing


few = settings(max_examples=40)


@given(blobs())
@few
def test_simpleitk_overlap(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """Counts give what SimpleITK's label overlap filter gives; its volume similarity is the signed one."""
    itk = pytest.importorskip("SimpleITK")
    pred, gt, _ = pair
    overlap = itk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(itk.GetImageFromArray(gt), itk.GetImageFromArray(pred))  # source, target
    found = segcli.score(pred, gt, metrics="overlap,volume", labels="fg=any")
    assert found.value("dice") == pytest.approx(overlap.GetDiceCoefficient(1), rel=1e-12)
    assert found.value("iou") == pytest.approx(overlap.GetJaccardCoefficient(1), rel=1e-12)
    signed = 2 * (pred.sum(dtype=float) - gt.sum()) / (pred.sum() + gt.sum())
    assert abs(overlap.GetVolumeSimilarity(1)) == pytest.approx(abs(signed), abs=1e-12)
    assert found.value("volume_similarity") == pytest.approx(1 - abs(signed) / 2, rel=1e-12)


@given(blobs(), st.sampled_from([0.0, 0.5, 1.0, 1.9, 2.5]))
@few
def test_surface_distance(pair: tuple[Array, Array, tuple[float, ...]], tol: float) -> None:
    """Surfel distances are those of surface-distance: areas, percentile, both directed means, tolerance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool = pytest.importorskip("surface_distance")
    pred, gt, spacing = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls a namespace that SciPy deprecates
        theirs = tool.compute_surface_distances(gt.astype(bool), pred.astype(bool), spacing)
    found = segcli.score(pred, gt, metrics=["hd", "hd95", "masd", "assd", f"nsd:tol={tol}"], spacing=spacing,
                         labels="fg=any")  # fmt: skip
    to_pred, to_gt = tool.compute_average_surface_distance(theirs)
    area_gt, area_pred = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    assert found.value("hd") == pytest.approx(tool.compute_robust_hausdorff(theirs, 100), rel=1e-9)
    assert found.value("hd95") == pytest.approx(tool.compute_robust_hausdorff(theirs, 95), rel=1e-9, abs=1e-12)
    assert found.value("masd") == pytest.approx((to_pred + to_gt) / 2, rel=1e-9, abs=1e-12)
    pooled = (to_pred * area_gt + to_gt * area_pred) / (area_gt + area_pred)
    assert found.value("assd") == pytest.approx(pooled, rel=1e-9, abs=1e-12)
    assert found.value("nsd") == pytest.approx(tool.compute_surface_dice_at_tolerance(theirs, tol), rel=1e-9, abs=1e-12)


@given(blobs())
@few
def test_medpy(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """Border distances are those of MedPy, whose 95th percentile pools both directions."""
    binary = pytest.importorskip("medpy.metric.binary")
    pred, gt, spacing = pair
    found = segcli.score(pred, gt, metrics="overlap,hd,hd95_pooled,assd,masd,rve", surface="border", spacing=spacing,
                         labels="fg=any")  # fmt: skip
    assert found.value("hd") == pytest.approx(binary.hd(pred, gt, spacing), rel=1e-9, abs=1e-12)
    assert found.value("hd95_pooled") == pytest.approx(binary.hd95(pred, gt, spacing), rel=1e-9, abs=1e-12)
    assert found.value("assd") == pytest.approx(binary.assd(pred, gt, spacing), rel=1e-9, abs=1e-12)
    both = binary.asd(pred, gt, spacing) + binary.asd(gt, pred, spacing)
    assert found.value("masd") == pytest.approx(both / 2, rel=1e-9, abs=1e-12)
    assert found.value("rve") == pytest.approx(binary.ravd(pred, gt), rel=1e-12, abs=1e-15)
    for name, function in (("dice", binary.dc), ("iou", binary.jc), ("precision", binary.precision),
                           ("sensitivity", binary.recall)):  # fmt: skip
        assert found.value(name) == pytest.approx(function(pred, gt), rel=1e-12, abs=1e-15), name
    if not gt.all():
        assert found.value("specificity") == pytest.approx(binary.specificity(pred, gt), rel=1e-12)


@given(blobs(), st.sampled_from([0.5, 1.0, 1.9, 2.5]))
@settings(max_examples=25)
def test_monai(pair: tuple[Array, Array, tuple[float, ...]], tol: float) -> None:
    """Border distances are those of MONAI; with subvoxels its surface Dice is the surfel one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai = pytest.importorskip("monai.metrics")
        torch = pytest.importorskip("torch")
    pred, gt, spacing = pair
    p, g = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (pred, gt))
    how = {"spacing": list(spacing), "include_background": True}
    near = [tol * (1 + 1e-6)]  # its distances are float32: at the tolerance itself they fall on either side
    found = segcli.score(
        pred, gt, metrics=["hd", "hd95", "assd", f"nsd:tol={tol}"], surface="border", spacing=spacing, labels="fg=any"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "hd": monai.compute_hausdorff_distance(p, g, **how),
            "hd95": monai.compute_hausdorff_distance(p, g, percentile=95, **how),
            "assd": monai.compute_average_surface_distance(p, g, symmetric=True, **how),
            "nsd": monai.compute_surface_dice(p, g, class_thresholds=near, **how),
        }
        area = monai.compute_surface_dice(p, g, class_thresholds=near, use_subvoxels=True, **how)
    for name, value in theirs.items():
        assert found.value(name) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    subvoxel = value_of(f"nsd:tol={tol}:surface=surfel", pred, gt, spacing)
    assert subvoxel == pytest.approx(float(area), rel=1e-4, abs=1e-6)
