"""The metrics against cases worked out by hand, recorded values of other tools, and those tools live."""

from __future__ import annotations

import json
import math
import tomllib
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapes import shape

import segcli
from segcli.evidence.case import Case
from segcli.evidence.distances import Distances
from segcli.kernels.surfaces import SURFACES, Surface
from segcli.masks.labels import Label

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent


def value_of(text: str, pred: Array, gt: Array, spacing: tuple[float, ...] | None = None) -> float | None:
    """Return one metric of everything that is not 0, as a user asks for it."""
    return segcli.score(pred, gt, metrics=[text], spacing=spacing, labels="fg=any").values[0].value


def distances_of(pred: Array, gt: Array, spacing: tuple[float, ...], surface: Surface) -> Distances:
    """Return the directed surface distances, which the metrics pool."""
    found = Case.of(pred, gt, [Label("fg", None)], spacing=spacing).pair(0).distances(surface)
    assert found is not None
    return found


# --- cases worked out by hand -------------------------------------------------------------------


def hand_worked(kind: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Return the name, number and case of everything in the golden files of a kind."""
    return [
        (path.stem, number, case)
        for path in sorted(HERE.glob(f"golden/{kind}/*.toml"))
        for number, case in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["case"])
    ]


HAND = hand_worked("metric")
TABLES = hand_worked("table")


def array_of(given_as: str | list[Any]) -> Array:
    """Return a mask of `shapes.py` or a nested list."""
    return shape(given_as) if isinstance(given_as, str) else np.array(given_as, np.uint8)


def sides_of(case: dict[str, Any]) -> tuple[Array, Array, dict[str, Any]]:
    """Return the sides of a case and how to read them: masks `pred` and `gt`, or probabilities `p` and a mask `y`."""
    if "p" in case:
        return np.array(case["p"], np.float64), np.array(case["y"], np.uint8), {"kind": "probability"}
    return array_of(case["pred"]), array_of(case["gt"]), {}


def asked_by(name: str, case: dict[str, Any]) -> str:
    """Return a measure with the parameters of a case."""
    return ":".join([name, *(f"{key}={value}" for key, value in case.get("params", {}).items())])


@pytest.mark.parametrize(("name", "case"), [h[::2] for h in HAND], ids=[f"{n}-{i}: {c['note']}" for n, i, c in HAND])
def test_hand_worked(name: str, case: dict[str, Any]) -> None:
    """Each metric has the value, or the reason to have none, that was derived by hand."""
    pred, gt, how = sides_of(case)
    asked = asked_by(name, case)
    found = segcli.score(
        pred, gt, metrics=[asked], spacing=case.get("spacing"), labels=case.get("labels"), **how
    ).values[0]  # fmt: skip
    if "undefined" in case:
        assert (found.value, found.status, found.why) == (None, "undefined", case["undefined"])
    else:
        assert found.status == "ok"
        assert found.value == pytest.approx(case["value"], rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "case"), [t[::2] for t in TABLES], ids=[f"{n}-{i}: {c['note']}" for n, i, c in TABLES]
)
def test_hand_counted_table(name: str, case: dict[str, Any]) -> None:
    """Each table has the columns and rows that were counted by hand; an empty text stands for no value."""
    pred, gt, how = sides_of(case)
    (found,) = segcli.score(pred, gt, metrics=[asked_by(name, case)], labels=case.get("labels"), **how).tables
    assert list(found.columns) == case["columns"]
    assert len(found.rows) == len(case["rows"])
    for row, expected in zip(found.rows, case["rows"], strict=True):
        cells = [pytest.approx(c, rel=1e-13, abs=1e-15) if isinstance(c, float) else c for c in expected]
        assert ["" if cell is None else cell for cell in row] == cells


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

#: What a tool calls it -> our metric.
OVERLAP = {
    "dice": "dice", "iou": "iou", "precision": "precision", "sensitivity": "sensitivity", "npv": "npv",
    "specificity": "specificity", "mcc": "mcc", "kappa": "kappa", "fbeta": "f_beta:beta=1", "rvd": "rve",
    "balanced_accuracy": "balanced_accuracy",
}  # fmt: skip
DISTANCES = {
    "hd": "hd", "hd95": "hd95", "assd": "assd", "masd": "masd", "nsd": "nsd", "nsd_mean": "nsd_mean",
    "asd_pred_to_gt": "asd_pred_to_gt", "asd_gt_to_pred": "asd_gt_to_pred",
}  # fmt: skip
TOOLS = {
    "deepmind": ("surfel", DISTANCES),
    "monai": ("border", DISTANCES),
    "monai-subvoxel": ("surfel", DISTANCES),
    "metricsreloaded": ("border", DISTANCES),
    "medpy": ("border", DISTANCES | {"hd95": "hd95_pooled"}),
    "panoptica": ("border", DISTANCES | {"hd95": "hd95_pooled"}),
    "seg-metrics": ("border26", DISTANCES | {"hd95": "hd95_pooled"}),
    "distorch": ("vertex", DISTANCES),
    "itk": ("set", DISTANCES | {"avd": "masd"}),
    "pymia": ("surfel", DISTANCES | {"avd": "ahd_set"}),
    "mesh": ("mesh", DISTANCES),
}
#: The same of what a tool computes in one direction.
DIRECTED = {"hd": "hd_pred_to_gt", "hd95": "hd_pred_to_gt:p=95", "asd_pred_to_gt": "asd_pred_to_gt"}
#: Cases whose expected value is a convention for empty masks or a defect, with what is ours.
OURS = {
    # Both masks empty: a number in that tool, undefined here.
    "530": None, "536": None, "539": None, "542": None, "557": None, "569": None, "572": None, "578": None, "563": None,
    "584": None, "593": None, "596": None, "599": None, "602": None, "605": None,
    "494": None, "497": None, "500": None, "503": None, "506": None,
    # Nothing predicted: 0 or nan in that tool, undefined here, or nan in that tool and 0 here.
    "552": None, "564": None, "600": None, "603": None, "615": 0.0,
    # A full image has no surface: 1.8e19 in that tool.
    "468": None, "469": None, "470": None,
    # No centre line in common, or none predicted: nan in that tool, 0 here.
    "171": 0.0, "546": 0.0,
}  # fmt: skip
#: MetricsReloaded takes the voxels less than `tau` voxels from a border voxel, on both sides, whatever the
#: spacing. With tau 1 these are the border voxels: ours with a width of one voxel. This case has tau 2.
BANDS_DIFFER = {"118"}
OBJECTS = {"cldice": "cldice", "pq": "pq", "sq": "sq", "rq": "rq"}
#: Metrics of counts among them are compared in test_agreement.py.
NOT_OURS = {"centre_distance", "rvae", "plr", "youden", "normalised_expected_cost", "froc"}


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
    if case["convention"] == "pymia" and (len(case["spacing"]) < 3 or metric == "hd") and metric != "avd":
        return "a plane handled as a thin volume, and the set distance of another tool"
    if metric not in {**OVERLAP, **TOOLS[case["convention"]][1], **DIRECTED, "boundary_iou": ""}:
        return "no such metric yet"
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
    pred, gt = (np.atleast_2d(drawn(json.dumps(case[side]))) for side in ("pred", "gt"))  # some are rows of numbers
    spacing = tuple(case["spacing"])
    surface, names = TOOLS[case["convention"]]
    empty = not (pred.any() and gt.any())
    directed = params.get("directed") or metric not in {**OVERLAP, **OBJECTS, **names, "boundary_iou": ""}
    if metric in OVERLAP:
        found = value_of(OVERLAP[metric], pred, gt, spacing if len(spacing) == gt.ndim else None)
    elif metric in OBJECTS:
        how = f":instances=values:iou={params['iou_threshold']}" if "iou_threshold" in params else ""
        found = value_of(OBJECTS[metric] + how, pred, gt, spacing)
    elif metric == "boundary_iou":
        found = value_of("boundary_iou:width=1", pred, gt, (1.0,) * gt.ndim)
    elif directed:
        found = value_of(f"{DIRECTED[metric]}:surface={surface}", pred, gt, spacing)
    else:
        text = names[metric] + ("" if names[metric] == "ahd_set" else f":surface={surface}")
        found = value_of(f"{text}:tol={params.get('tau', 2):g}" if "nsd" in metric else text, pred, gt, spacing)
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


@given(blobs(), st.sampled_from([1, 2, 3]))
@few
def test_medpy_connectivity(pair: tuple[Array, Array, tuple[float, ...]], connectivity: int) -> None:
    """MedPy's borders of any connectivity are surfaces of ours, at the edge of the image too."""
    binary = pytest.importorskip("medpy.metric.binary")
    pred, gt, spacing = pair
    surface = ("border", "border_c2", "border_c3")[connectivity - 1]
    found = segcli.score(pred, gt, metrics="hd,hd95_pooled,assd,asd_pred_to_gt", surface=surface, spacing=spacing,
                         labels="fg=any")  # fmt: skip
    for ours, theirs in (("hd", binary.hd), ("hd95_pooled", binary.hd95), ("assd", binary.assd),
                         ("asd_pred_to_gt", binary.asd)):  # fmt: skip
        expected = theirs(pred, gt, spacing, connectivity=connectivity)
        assert found.value(ours) == pytest.approx(expected, rel=1e-9, abs=1e-12), ours


@given(blobs())
@few
def test_simpleitk_hausdorff(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """SimpleITK's Hausdorff filter measures between whole sets, and its average is that of the directed means."""
    itk = pytest.importorskip("SimpleITK")
    pred, gt, spacing = pair
    images = [itk.GetImageFromArray(m) for m in (gt, pred)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    tool = itk.HausdorffDistanceImageFilter()
    tool.Execute(*images)
    found = segcli.score(pred, gt, metrics="hd:surface=set,ahd_set,masd:surface=set", spacing=spacing, labels="fg=any")
    # its distance map is single precision
    assert found.value("hd") == pytest.approx(tool.GetHausdorffDistance(), rel=1e-5, abs=1e-6)
    assert found.value("ahd_set") == pytest.approx(tool.GetAverageHausdorffDistance(), rel=1e-5, abs=1e-6)
    assert found.value("masd") == found.value("ahd_set")


@given(blobs())
@few
def test_seg_metrics_recipe(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """The recipe of seg-metrics in SimpleITK: fully connected contours against Maurer's map, pooled."""
    itk = pytest.importorskip("SimpleITK")
    pred, gt, spacing = pair
    contours, maps = [], []
    for mask in (pred, gt):
        image = itk.GetImageFromArray(mask)
        image.SetSpacing(spacing[::-1])
        contours.append(itk.GetArrayFromImage(itk.LabelContour(image, fullyConnected=True)) > 0)
        distance = itk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        maps.append(np.abs(itk.GetArrayFromImage(distance)))
    if not all(c.any() for c in contours):
        return
    pooled = np.concatenate([maps[1][contours[0]], maps[0][contours[1]]]).astype(float)
    found = segcli.score(pred, gt, metrics="hd,hd95_pooled,assd,median_sd,std_sd", surface="border26", spacing=spacing,
                         labels="fg=any")  # fmt: skip
    expected = {"hd": pooled.max(), "hd95_pooled": np.percentile(pooled, 95), "assd": pooled.mean(),
                "median_sd": np.median(pooled), "std_sd": pooled.std()}  # fmt: skip
    for name, value in expected.items():
        assert found.value(name) == pytest.approx(value, rel=1e-5, abs=1e-5), name


@given(blobs())
@few
def test_scikit_image(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """scikit-image's Hausdorff distance and its modified method are between sets, in voxels."""
    tool = pytest.importorskip("skimage.metrics").hausdorff_distance
    pred, gt, _ = pair
    found = segcli.score(pred, gt, metrics="hd,modified_hd", surface="set", labels="fg=any")
    assert found.value("hd") == pytest.approx(tool(pred, gt), rel=1e-12, abs=1e-15)
    assert found.value("modified_hd") == pytest.approx(tool(pred, gt, method="modified"), rel=1e-12, abs=1e-15)


@given(blobs(), st.sampled_from([0.5, 1.0, 1.9, 2.5]))
@few
def test_surface_overlap(pair: tuple[Array, Array, tuple[float, ...]], tol: float) -> None:
    """Directed shares are the surface overlaps of surface-distance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool = pytest.importorskip("surface_distance")
    pred, gt, spacing = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = tool.compute_surface_distances(gt.astype(bool), pred.astype(bool), spacing)
    of_gt, of_pred = tool.compute_surface_overlap_at_tolerance(theirs, tol)
    asked = [f"surface_overlap_{side}:tol={tol}" for side in ("pred", "gt")]
    found = segcli.score(pred, gt, metrics=[*asked, f"boundary_f:tol={tol}"], spacing=spacing, labels="fg=any")
    assert found.value(asked[0]) == pytest.approx(of_pred, rel=1e-9, abs=1e-12)
    assert found.value(asked[1]) == pytest.approx(of_gt, rel=1e-9, abs=1e-12)
    harmonic = 2 * of_gt * of_pred / (of_gt + of_pred) if of_gt + of_pred else 0
    assert found.value("boundary_f") == pytest.approx(harmonic, rel=1e-9, abs=1e-12)


# --- benchmarks' own definitions, step by step ------------------------------------------------------


@given(blobs(), st.sampled_from([0.02, 0.05, 0.1]))
@few
def test_cheng_by_erosion(pair: tuple[Array, Array, tuple[float, ...]], fraction: float) -> None:
    """The band of Cheng's code: erosions by 3x3 one after another, in an image padded with background."""
    pred, gt, spacing = pair
    times = max(round(fraction * float(np.sqrt(sum(n * n for n in gt.shape)))), 1)
    bands = []
    for mask in (pred, gt):
        worn = np.pad(mask, 1)
        for _ in range(times):
            worn = ndimage.minimum_filter(worn, 3, mode="nearest")
        bands.append(mask - worn[(slice(1, -1),) * mask.ndim] > 0)
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    found = value_of(f"boundary_iou_cheng:fraction={fraction}", pred, gt, spacing)
    assert found == pytest.approx(expected, rel=1e-12)


@given(blobs(), st.sampled_from([0.008, 0.05, 0.2, 2]))
@few
def test_davis_by_dilation(pair: tuple[Array, Array, tuple[float, ...]], bound: float) -> None:
    """The boundary measure of DAVIS: boundaries one pixel towards the origin, dilated by a disk."""
    morphology = pytest.importorskip("skimage.morphology")
    pred, gt, spacing = pair
    radius = bound if bound >= 1 else int(np.ceil(bound * np.linalg.norm(gt.shape)))
    footprint = (morphology.disk if gt.ndim == 2 else morphology.ball)(radius)
    edges = []
    for mask in (pred > 0, gt > 0):
        # A pixel is boundary where its block of 2x2, cut at the image, holds both values.
        block = np.pad(mask, [(0, 1)] * mask.ndim, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(block, (2,) * mask.ndim)
        axes = tuple(range(mask.ndim, 2 * mask.ndim))
        edges.append(windows.any(axis=axes) & ~windows.all(axis=axes))
    if not all(edge.any() for edge in edges):
        return
    wide = [ndimage.binary_dilation(edge, footprint) for edge in edges]
    precision, recall = (edges[0] & wide[1]).sum() / edges[0].sum(), (edges[1] & wide[0]).sum() / edges[1].sum()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert value_of(f"boundary_f_davis:bound={bound}", pred, gt, spacing) == pytest.approx(expected, rel=1e-12)


# --- shapes with a known answer ---------------------------------------------------------------------


@pytest.mark.parametrize("surface", SURFACES)
def test_parallel_plates(surface: str) -> None:
    """Two plates across the whole image, 3 voxels of 2 mm apart: open surfaces are exactly that far apart."""
    gt, pred = np.zeros((20, 8, 9), np.uint8), np.zeros((20, 8, 9), np.uint8)
    gt[5:9], pred[8:12] = 1, 1
    hd = value_of(f"hd:surface={surface}", pred, gt, (2.0, 1.0, 1.0))
    assert hd == pytest.approx(6.0)
    if surface in ("border_open", "border26"):
        # gt: planes 5 and 8, pred: planes 8 and 11. Distances 6, 0 and 0, 6.
        assert value_of(f"assd:surface={surface}", pred, gt, (2.0, 1.0, 1.0)) == pytest.approx(3.0)
        assert value_of(f"median_sd:surface={surface}", pred, gt, (2.0, 1.0, 1.0)) == pytest.approx(3.0)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0)])
def test_concentric_balls(surface: str, spacing: tuple[float, ...]) -> None:
    """Balls of radius 9 and 12 about one centre: every distance is near 3, within a voxel."""
    grids = np.meshgrid(*(np.arange(-15, 15.1, s) for s in spacing), indexing="ij")
    radius = np.sqrt(sum(g * g for g in grids))
    pred, gt = (radius <= 9).astype(np.uint8), (radius <= 12).astype(np.uint8)
    hd = value_of(f"hd:surface={surface}", pred, gt, spacing)
    assert hd == pytest.approx(3, abs=max(spacing))
    assd = value_of(f"assd:surface={surface}", pred, gt, spacing)
    if surface == "set":
        # Only the shell lies outside the other ball, each voxel r - 9 from the sphere; a voxel of the ball is
        # at most a voxel's diagonal further. The rest of both is at 0.
        shell = radius[(radius > 9) & (radius <= 12)] - 9
        further = len(shell) * math.sqrt(sum(s * s for s in spacing))
        least, total = float(shell.sum()), float(pred.sum(dtype=float) + gt.sum(dtype=float))
        assert assd is not None
        assert least / total <= assd <= (least + further) / total
    else:
        assert assd == pytest.approx(3, abs=max(spacing))


def test_stray_pixel() -> None:
    """A 10x10 square with one outlier pixel: surfels see it in hd95, border voxels do not."""
    pred, gt = shape("square_and_stray"), shape("square")
    assert value_of("hd95:surface=surfel", pred, gt) == pytest.approx(21.9, abs=0.05)
    for surface in SURFACES:
        if surface.startswith("border") or surface == "set":
            assert value_of(f"hd95:surface={surface}", pred, gt) == 0


@given(blobs(), st.sampled_from([1, 2]))
@settings(max_examples=25)
def test_subdivision(pair: tuple[Array, Array, tuple[float, ...]], axis: int) -> None:
    """Cutting every voxel in two along an axis moves set distances by less than a voxel, and no share of a set."""
    pred, gt, spacing = pair
    axis %= gt.ndim
    finer = tuple(s / 2 if i == axis else s for i, s in enumerate(spacing))
    for text in ("hd:surface=set", "ahd_set"):
        before = value_of(text, pred, gt, spacing)
        after = value_of(text, np.repeat(pred, 2, axis), np.repeat(gt, 2, axis), finer)
        assert after == pytest.approx(before, abs=spacing[axis])


@given(blobs())
@settings(max_examples=25)
def test_set_with_ignored_voxels(pair: tuple[Array, Array, tuple[float, ...]]) -> None:
    """With ignored voxels set distances are those between the voxels that count, by trying all."""
    pred, gt, spacing = pair
    gt = gt.copy()
    hidden = np.roll(pred, 1, axis=0) & (np.indices(gt.shape).sum(axis=0) % 3 == 0)
    gt[hidden > 0] = 9
    both = [np.argwhere((m == 1) & (hidden == 0)) for m in (pred, gt)]
    found = segcli.score(pred, gt, metrics="hd:surface=set,ahd_set", labels="fg=1", ignore_label=9, spacing=spacing)
    if not all(len(points) for points in both):
        assert found.value("hd:surface=set") is None
        return
    there, back = naive.nearest(*both, spacing), naive.nearest(*both[::-1], spacing)
    assert found.value("hd:surface=set") == pytest.approx(max(there.max(), back.max()), rel=1e-12)
    assert found.value("ahd_set") == pytest.approx((there.mean() + back.mean()) / 2, rel=1e-12, abs=1e-15)


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
    directed = ["hd_pred_to_gt:p=100", "hd_gt_to_pred:p=100", "hd_pred_to_gt:p=95", "hd_gt_to_pred:p=95"]
    asked = ["hd", "hd95", "assd", f"nsd:tol={tol}", *directed]
    found = segcli.score(pred, gt, metrics=asked, surface="border", spacing=spacing, labels="fg=any")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "hd": monai.compute_hausdorff_distance(p, g, **how),
            "hd95": monai.compute_hausdorff_distance(p, g, percentile=95, **how),
            "assd": monai.compute_average_surface_distance(p, g, symmetric=True, **how),
            "nsd": monai.compute_surface_dice(p, g, class_thresholds=near, **how),
            "hd_pred_to_gt:p=100:surface=border": monai.compute_hausdorff_distance(p, g, directed=True, **how),
            "hd_gt_to_pred:p=100:surface=border": monai.compute_hausdorff_distance(g, p, directed=True, **how),
            "hd_pred_to_gt:p=95:surface=border": monai.compute_hausdorff_distance(
                p, g, percentile=95, directed=True, **how
            ),
            "hd_gt_to_pred:p=95:surface=border": monai.compute_hausdorff_distance(
                g, p, percentile=95, directed=True, **how
            ),
        }
        area = monai.compute_surface_dice(p, g, class_thresholds=near, use_subvoxels=True, **how)
    for name, value in theirs.items():
        assert found.value(name) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    subvoxel = value_of(f"nsd:tol={tol}:surface=surfel", pred, gt, spacing)
    assert subvoxel == pytest.approx(float(area), rel=1e-4, abs=1e-6)
