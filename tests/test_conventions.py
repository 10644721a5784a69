"""What segcli says that other tools print: against recorded values, against the tools themselves, and its own rules."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import as_run, empty_means, summaries
from numpy.typing import NDArray
from test_loss_libraries import SINGLE_CHANNEL, Scene, with_keywords

import segcli
from segcli.cli.main import run as command_line
from segcli.errors import InputError, UsageError
from segcli.evidence.case import Case
from segcli.masks.labels import Label
from segcli.measure import conventions as tools
from segcli.measure.conventions import Entry, convention_of
from segcli.measure.losses.libraries import known
from segcli.measure.notation import bind
from segcli.measure.record import measures
from segcli.measure.why import EMPTY, Why
from segcli.report.conventions import text
from segcli.run.summary import Resampling
from segcli.scoring import empty as policy
from segcli.scoring.printed import Printed, Views, printed
from segcli.tools import means as tool_means
from segcli.tools import pair as conventions
from segcli.tools.rows import Row

Array = NDArray[Any]

ENTRIES = [(tool, entry) for tool in tools.tools().values() for entry in tool.metrics]
NAMES = [f"{tool.name}: {entry.call}" for tool, entry in ENTRIES]

# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "entry"), ENTRIES, ids=NAMES)
def test_entry(tool: tools.Tool, entry: Entry) -> None:
    """The measure can be bound, every step to it has words, and a metric of one label has a rule for empty masks."""
    bound = bind(entry.measure, "metric")
    reference = bind(entry.quantity, "metric")
    assert reference.measure.name == entry.quantity, "by its name, not an alias"
    assert bool(entry.empty) != bound.over_classes
    assert len([e for e in tool.metrics if e.quantity == entry.quantity and not e.variant]) == 1
    if bound.measure is not reference.measure:
        assert bound.measure.name in conventions.STATISTIC_WORDS
    assert str(bound.params.get("surface", "set")) in conventions.SURFACE_WORDS
    assert entry.times in (1, *conventions.TIMES_WORDS)
    assert entry.grid in ("file", *conventions.GRID_WORDS)


def test_names_are_those_of_the_command_line() -> None:
    """All tools of the documentation are there, each with its version."""
    wanted = ("monai,metricsreloaded,medpy,surface-distance,simpleitk,seg-metrics,panoptica,nnunet,plastimatch,"
              "torchmetrics,scikit-image,meshmetrics,mikan,brats")  # fmt: skip
    assert set(wanted.split(",")) <= set(tools.tools())
    assert {"torch", "keras", "monai", "smp", "kornia"} <= set(tools.names())
    assert all(tool.version for tool in tools.tools().values())


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"metric": 1}, "unknown metric"),
        ({"empty": [0, 0]}, "empty="),
        ({"empty": ["zero", 0, 0]}, "empty="),
        ({"grid": "mm"}, "mm"),
        ({"fails": {"always": "x"}}, "always"),
    ],
)
def test_a_wrong_entry_is_refused(entry: dict[str, Any], complaint: str) -> None:
    """Unknown keys and words do not load."""
    whole = {"quantity": "dice", "call": "f", "measure": "dice", "empty": [0, 0, 0], **entry}
    with pytest.raises(ValueError, match=complaint):
        tools.tool_of("x", {"title": "X", "version": "1", "metrics": [whole]})
    with pytest.raises(ValueError, match="guessed"):
        tools.tool_of("x", {"title": "X", "version": "1", "checked": "guessed", "metrics": []})


# --- values recorded from the tools (not part of the repository) ----------------------------------

RECORDED = SHARED / "golden" / "golden_metrics.json"
#: The recorded conventions that have another name here, and the calls that a convention of its own stands for.
TOOLS = {"deepmind": "surface-distance", "itk": "simpleitk", "mesh": "meshmetrics", "monai-subvoxel": "monai"}
#: A recorded metric's name -> the quantity of the table, where they differ.
QUANTITIES = {
    "avd": "ahd_set", "fpr_itk": "fpr", "fbeta": "f_beta", "youden": "informedness", "vs": "volume_similarity",
    "plr": "likelihood_ratio_positive", "normalised_expected_cost": "expected_cost", "rvd": "rve", "nsd_mean": "nsd",
    "vs_signed": "volume_similarity", "voi": "vi_label", "mi": "mutual_information_label", "rand": "rand_label",
    "ari": "ari_label", "auc_1pt": "balanced_accuracy", "fallout": "fpr", "DSC": "dice", "IoU": "iou", "AHD": "ahd_set",
}  # fmt: skip
#: panoptica's ASSD is recorded as what it is, a masd.
RENAMED = {("panoptica", "masd"): "assd"}
#: Recorded calls that are a variant in the table: SimpleITK with the ground truth first, MONAI's subvoxels.
VARIANTS = {
    ("itk", "volume_similarity"), ("itk", "fnr"), ("itk", "fpr_itk"), ("monai-subvoxel", "nsd"),
    ("torchmetrics", "dice_micro"),
}  # fmt: skip
#: What is not compared here, why, and how many cases of it there are: none is left out silently.
LEFT_OUT = {
    "distances that are not Euclidean": 14,
    "objects across cases, and what has no measure": 5,
    "MISeval's Hausdorff distance, a defect": 6,
    "pymia's gce, another formula, and mahalanobis": 4,
    "MetricsReloaded's band of two voxels, a defect": 1,
}


@cache
def recorded() -> dict[str, Any]:
    """Return the recorded cases."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else {"cases": [], "prelude": ""}


def why_not(case: dict[str, Any]) -> str | None:
    """Return why a recorded case is not compared."""
    tool, metric, params = case["convention"], case["metric"], case["params"]
    if params.get("metric", "euclidean") != "euclidean":
        return "distances that are not Euclidean"
    if metric in ("froc", "centre_distance", "rvae"):
        return "objects across cases, and what has no measure"
    if (tool, metric) == ("miseval", "HD"):
        return "MISeval's Hausdorff distance, a defect"
    if (tool, metric) in (("pymia", "gce"), ("pymia", "mahalanobis")):
        return "pymia's gce, another formula, and mahalanobis"
    if (tool, metric) == ("metricsreloaded", "boundary_iou") and params.get("tau") == 2:
        return "MetricsReloaded's band of two voxels, a defect"
    return None


@needs_shared("golden", "golden_metrics.json")
def test_nothing_recorded_is_left_out_silently() -> None:
    """Every recorded case is compared, or its reason is listed with how many share it."""
    counted = Counter(why for case in recorded()["cases"] if (why := why_not(case)) is not None)
    assert counted == LEFT_OUT


@cache
def drawn(recipe: str) -> Array:
    """Return the array of a case: an expression in NumPy after the file's helpers, or a nested list."""
    given_as = json.loads(recipe)
    if "array" in given_as:
        return np.array(given_as["array"], np.uint8)
    scope: dict[str, Any] = {}
    exec(recorded()["prelude"], scope)  # noqa: S102  (our own recorded file)
    return np.asarray(eval(given_as["expr"], scope)).astype(np.uint8)  # noqa: S307


def printed_for(entry: Entry, pred: Array, gt: Array, spacing: tuple[float, ...], **params: float) -> Printed:
    """Return what the table says that a metric of a tool prints for a pair."""
    bound = entry.bound()
    bound = replace(bound, params={k: params.get(k, v) for k, v in bound.params.items()})
    labels = [Label("fg", None if "instances" in bound.params else (1,))]
    if bound.params.get("instances") is None and max(pred.max(initial=0), gt.max(initial=0)) > 1:
        labels = [Label(str(v), (int(v),)) for v in np.union1d(pred, gt) if v]
    views = Views(Case.of(pred, gt, labels, spacing=spacing), 0)
    if bound.over_classes:
        return Printed(views.value(bound))
    return printed(entry, bound, views)


def entry_of(case: dict[str, Any]) -> Entry:
    """Return the entry of the table that a recorded case is of."""
    name, metric = case["convention"], case["metric"]
    quantity = RENAMED.get((name, metric), QUANTITIES.get(metric, metric))
    if (name, metric) == ("torchmetrics", "dice_micro"):
        quantity = "dice"
    if case["params"].get("directed"):
        quantity = "hd_pred_to_gt"
    found = [e for e in tools.tools()[TOOLS.get(name, name)].metrics if e.quantity == quantity]
    (entry,) = (e for e in found if e.variant == ((name, metric) in VARIANTS))
    return entry


@needs_shared("golden", "golden_metrics.json")
@pytest.mark.parametrize("case", [c for c in recorded()["cases"] if why_not(c) is None], ids=lambda c: c["id"])
def test_recorded(case: dict[str, Any]) -> None:
    """What a tool printed is what the table says: the number, or in words what it did."""
    entry, expected = entry_of(case), case["expected"]
    pred, gt = (drawn(json.dumps(case[side])) for side in ("pred", "gt"))
    spacing = tuple(case["spacing"])
    if len(spacing) != pred.ndim:
        spacing = (1.0,) * pred.ndim
    if pred.ndim == 1:
        pred, gt, spacing = pred[None], gt[None], (1.0, *spacing)
    tol = {"tol": case["params"]["tau"]} if "tau" in case["params"] and "nsd" in case["metric"] else {}
    if "iou_threshold" in case["params"]:
        tol = {"iou": case["params"]["iou_threshold"]}
    if (case["convention"], case["metric"]) == ("mesh", "boundary_iou") and "tau" in case["params"]:
        tol = {"width": case["params"]["tau"]}
    if case["params"].get("directed"):
        tol = {"p": 95.0 if case["metric"] == "hd95" else 100.0}
    found = printed_for(entry, pred, gt, spacing, **tol)
    if found.words in (tools.WORDS["unknown"], tools.WORDS["arbitrary"]) or found.words in entry.fails.values():
        assert found.value is None
        assert known_defect(case, entry)
    elif expected == "error":
        assert found.words == tools.WORDS["raises"]
    elif expected in ("inf", "nan"):
        assert found == Printed(None, f"prints {expected}")
    elif expected > 1e308:
        assert found.words == tools.WORDS["1.8e308"]
    else:
        assert found.value == pytest.approx(expected, rel=1e-6, abs=max(case["tol"], 1e-9))


def known_defect(case: dict[str, Any], entry: Entry) -> bool:
    """Return whether a recorded case is one in which the tool does not follow its own definition."""
    plane = len(case["spacing"]) == 2
    return (
        (case["convention"] == "torchmetrics" and case["metric"] == "hd")
        or (case["convention"] == "pymia" and plane and entry.quantity in ("hd95", "nsd"))
        or (case["convention"] == "seg-metrics" and case["expected"] == pytest.approx(1.8446742974197924e19))
        or (case["metric"] == "cldice" and case["expected"] == "nan")
        or case["id"][:3] == "636"  # MISeval against an empty mask
    )


# --- the tools themselves -------------------------------------------------------------------------


def monai_tool(name: str, **how: Any) -> Callable[..., float]:
    """Return MONAI's function of masks with a case and a channel axis."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        torch, tool = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
        given_as = [torch.from_numpy(a[None, None].astype(np.float32)) for a in (p, g)]
        if name == "confusion":
            counts = tool.get_confusion_matrix(*given_as)
            return float(tool.compute_confusion_matrix_metric(how["metric"], counts))
        if name == "compute_panoptic_quality":
            return float(tool.compute_panoptic_quality(*(torch.from_numpy(a.astype(np.int64)) for a in (p, g)), **how))
        if name == "compute_generalized_dice":
            given_as = [torch.cat([1 - a, a], dim=1) for a in given_as]
        if "swapped" in how:
            given_as.reverse()
        how_ = {key: value for key, value in how.items() if key != "swapped"}
        space = {"spacing": list(spacing)} if "distance" in name or "surface" in name else {}
        return float(getattr(tool, name)(*given_as, include_background=True, **space, **how_))

    return call


def medpy_tool(name: str, *, swapped: bool = False) -> Callable[..., float]:
    """Return MedPy's function; distances get the spacing."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        tool = pytest.importorskip("medpy.metric.binary")
        masks = (g, p) if swapped else (p, g)
        return float(getattr(tool, name)(*masks, *([spacing] if name in ("hd", "hd95", "asd", "assd") else [])))

    return call


def surface_distance_tool(name: str, *arguments: float, index: int | None = None) -> Callable[..., float]:
    """Return surface-distance's function of its table of distances."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        tool = pytest.importorskip("surface_distance")
        p, g = p.astype(bool), g.astype(bool)
        if name == "compute_dice_coefficient":
            return float(tool.compute_dice_coefficient(g, p))
        found = getattr(tool, name)(tool.compute_surface_distances(g, p, spacing), *arguments)
        return float(np.mean(found) if index is None else found[index])

    return call


def itk_tool(name: str, *, swapped: bool = False) -> Callable[..., float]:
    """Return the value of one of SimpleITK's filters."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        itk = pytest.importorskip("SimpleITK")
        images = [itk.GetImageFromArray(a) for a in (p, g)]
        for image in images:
            image.SetSpacing([float(s) for s in spacing[::-1]])
        filters = {"Hausdorff": itk.HausdorffDistanceImageFilter, "SimilarityIndex": itk.SimilarityIndexImageFilter}
        found = next((f for word, f in filters.items() if word in name), itk.LabelOverlapMeasuresImageFilter)()
        found.Execute(*(images[::-1] if swapped else images))
        return float(getattr(found, name)())

    return call


def torchmetrics_tool(name: str, **how: Any) -> Callable[..., float]:
    """Return torchmetrics' function of label maps with two classes."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        torch, tool = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.segmentation")
        given_as = [torch.from_numpy(a[None].astype(np.int64)) for a in (p, g)]
        space = {"spacing": list(spacing)} if name == "hausdorff_distance" else {}
        return float(getattr(tool, name)(*given_as, num_classes=2, input_format="index", **space, **how).squeeze())

    return call


def torchmetrics_objects(index: int) -> Callable[..., float]:
    """Return a number of torchmetrics' panoptic quality for the one thing that there is, on stuff."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:  # noqa: ARG001 (one signature for all)
        torch, tool = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.detection")
        maps = [torch.from_numpy(np.stack([a > 0, a], axis=-1)[None].astype(np.int64)) for a in (p, g)]
        how = {"things": {1}, "stuffs": {0}, "return_per_class": True, "return_sq_and_rq": True}
        return float(tool.panoptic_quality(*maps, **how)[0][index])

    return call


def skimage_tool(name: str, *, index: int | None = None, **how: Any) -> Callable[..., float]:
    """Return scikit-image's function; it takes no spacing."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:  # noqa: ARG001 (one signature for all)
        tool = pytest.importorskip("skimage.metrics")
        found = getattr(tool, name)(g, p, **how)
        return float(np.sum(found) if index is None else found[index])

    return call


LIVE: dict[tuple[str, str], Callable[..., float]] = {
    ("monai", "compute_dice"): monai_tool("compute_dice"),
    ("monai", "compute_iou"): monai_tool("compute_iou"),
    ("monai", "compute_hausdorff_distance"): monai_tool("compute_hausdorff_distance"),
    ("monai", "compute_hausdorff_distance(percentile=95)"): monai_tool("compute_hausdorff_distance", percentile=95),
    ("monai", "compute_average_surface_distance(symmetric=True)"): monai_tool(
        "compute_average_surface_distance", symmetric=True
    ),
    ("monai", "compute_average_surface_distance"): monai_tool("compute_average_surface_distance"),
    ("monai", "compute_surface_dice"): monai_tool("compute_surface_dice", class_thresholds=[2.0]),
    ("monai", "compute_surface_dice(use_subvoxels=True)"): monai_tool(
        "compute_surface_dice", class_thresholds=[2.0], use_subvoxels=True
    ),
    **{
        ("monai", f"compute_confusion_matrix_metric('{m}')"): monai_tool("confusion", metric=m)
        for m in ("tpr", "tnr", "ppv", "acc", "ba", "f1", "ts", "npv", "fpr", "fnr", "fdr", "for", "mcc", "bm", "mk")
    },
    ("monai", "compute_hausdorff_distance(directed=True)"): monai_tool("compute_hausdorff_distance", directed=True),
    ("monai", "compute_average_surface_distance(gt, pred)"): monai_tool(
        "compute_average_surface_distance", swapped=True
    ),
    ("monai", "compute_absolute_volume_difference"): monai_tool("compute_absolute_volume_difference"),
    ("monai", "compute_generalized_dice(sum_over_classes=True)"): monai_tool(
        "compute_generalized_dice", sum_over_classes=True
    ),
    **{
        ("monai", f"compute_generalized_dice(sum_over_classes=True, weight_type='{w}')"): monai_tool(
            "compute_generalized_dice", sum_over_classes=True, weight_type=w
        )
        for w in ("simple", "uniform")
    },
    ("monai", "compute_panoptic_quality"): monai_tool("compute_panoptic_quality"),
    **{
        ("monai", f"compute_panoptic_quality(metric_name='{m}')"): monai_tool("compute_panoptic_quality", metric_name=m)
        for m in ("sq", "rq")
    },
    **{
        ("medpy", m): medpy_tool(m)
        for m in ("dc", "jc", "hd", "hd95", "assd", "asd", "recall", "specificity", "precision", "ravd", "obj_tpr")
    },
    ("medpy", "asd(gt, pred)"): medpy_tool("asd", swapped=True),
    ("surface-distance", "compute_dice_coefficient"): surface_distance_tool("compute_dice_coefficient"),
    ("surface-distance", "compute_robust_hausdorff(100)"): surface_distance_tool("compute_robust_hausdorff", 100),
    ("surface-distance", "compute_robust_hausdorff(95)"): surface_distance_tool("compute_robust_hausdorff", 95),
    ("surface-distance", "mean of compute_average_surface_distance"): surface_distance_tool(
        "compute_average_surface_distance"
    ),
    ("surface-distance", "compute_average_surface_distance()[1]"): surface_distance_tool(
        "compute_average_surface_distance", index=1
    ),
    ("surface-distance", "compute_average_surface_distance()[0]"): surface_distance_tool(
        "compute_average_surface_distance", index=0
    ),
    ("surface-distance", "compute_surface_dice_at_tolerance"): surface_distance_tool(
        "compute_surface_dice_at_tolerance", 2.0
    ),
    ("surface-distance", "compute_surface_overlap_at_tolerance()[1]"): surface_distance_tool(
        "compute_surface_overlap_at_tolerance", 2.0, index=1
    ),
    ("surface-distance", "compute_surface_overlap_at_tolerance()[0]"): surface_distance_tool(
        "compute_surface_overlap_at_tolerance", 2.0, index=0
    ),
    ("simpleitk", "LabelOverlapMeasures.GetDiceCoefficient"): itk_tool("GetDiceCoefficient"),
    ("simpleitk", "LabelOverlapMeasures.GetJaccardCoefficient"): itk_tool("GetJaccardCoefficient"),
    ("simpleitk", "HausdorffDistance.GetHausdorffDistance"): itk_tool("GetHausdorffDistance"),
    ("simpleitk", "HausdorffDistance.GetAverageHausdorffDistance"): itk_tool("GetAverageHausdorffDistance"),
    **{
        ("simpleitk", f"LabelOverlapMeasures({'gt, pred' if swapped else 'pred, gt'}).{m}"): itk_tool(
            m, swapped=swapped
        )
        for m in (
            "GetVolumeSimilarity",
            "GetFalseNegativeError",
            "GetFalsePositiveError",
            "GetFalseDiscoveryRate",
        )
        for swapped in (False, True)
    },
    ("simpleitk", "LabelOverlapMeasures.GetMeanOverlap"): itk_tool("GetMeanOverlap"),
    ("simpleitk", "LabelOverlapMeasures.GetUnionOverlap"): itk_tool("GetUnionOverlap"),
    ("simpleitk", "SimilarityIndex.GetSimilarityIndex"): itk_tool("GetSimilarityIndex"),
    ("torchmetrics", "dice_score(include_background=False)"): torchmetrics_tool("dice_score", include_background=False),
    ("torchmetrics", "dice_score(average='micro')"): torchmetrics_tool("dice_score", average="micro"),
    ("torchmetrics", "mean_iou(include_background=False)"): torchmetrics_tool("mean_iou", include_background=False),
    ("torchmetrics", "mean_iou(per_class=True)"): torchmetrics_tool(
        "mean_iou", include_background=False, per_class=True
    ),
    ("torchmetrics", "mean_iou"): torchmetrics_tool("mean_iou"),
    ("torchmetrics", "hausdorff_distance"): torchmetrics_tool("hausdorff_distance"),
    ("torchmetrics", "generalized_dice_score"): torchmetrics_tool("generalized_dice_score"),
    **{
        ("torchmetrics", f"generalized_dice_score(weight_type='{w}')"): torchmetrics_tool(
            "generalized_dice_score", weight_type=w
        )
        for w in ("simple", "linear")
    },
    ("torchmetrics", "panoptic_quality(return_per_class=True)"): torchmetrics_objects(0),
    **{
        ("torchmetrics", f"panoptic_quality(return_per_class=True, return_sq_and_rq=True)[{i}]"): torchmetrics_objects(
            i
        )
        for i in (1, 2)
    },
    ("scikit-image", "hausdorff_distance"): skimage_tool("hausdorff_distance"),
    ("scikit-image", "hausdorff_distance(method='modified')"): skimage_tool("hausdorff_distance", method="modified"),
    ("scikit-image", "sum of variation_of_information"): skimage_tool("variation_of_information"),
    ("scikit-image", "adapted_rand_error()[0]"): skimage_tool("adapted_rand_error", index=0),
    ("scikit-image", "variation_of_information()[0]"): skimage_tool("variation_of_information", index=0),
    ("scikit-image", "variation_of_information()[1]"): skimage_tool("variation_of_information", index=1),
}


def test_every_tool_that_runs_is_run() -> None:
    """What the table calls checked by running is what is run here."""
    assert set(LIVE) == {(tool.name, entry.call) for tool, entry in ENTRIES if tool.checked == "run"}


def defect(row: Row) -> bool:
    """Return whether the words of a row are that the tool does not follow its own definition here."""
    by_call = {(tool.title, entry.call): entry for tool, entry in ENTRIES}
    wrong = [w for c, w in by_call[row.tool, row.call].fails.items() if c not in ("2-D", "3-D")]
    return any(words in row.printed.words for words in wrong)


def rows_of(pred: Array, gt: Array, spacing: tuple[float, ...], metrics: str = "all") -> list[Row]:
    """Return what `segcli conventions` says of a pair."""
    return conventions.conventions(pred, gt, metrics=metrics, labels="fg=1", spacing=spacing).rows


def hold_against_the_tools(pred: Array, gt: Array, spacing: tuple[float, ...]) -> int:
    """Compare every row of a tool that is installed with what it prints; return how many were."""
    held = 0
    by_title = {tool.title: tool.name for tool in tools.tools().values()}
    for row in rows_of(pred, gt, spacing):
        call = LIVE.get((by_title[row.tool], row.call))
        if call is None or row.printed.words == tools.WORDS["unknown"] or defect(row):
            continue
        held += 1
        raised = ""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                theirs: float | None = call(pred, gt, spacing)
        except pytest.skip.Exception:
            raise
        except Exception as problem:  # noqa: BLE001 (an error is what some tools answer)
            raised, theirs = f"{row.tool} {row.call}: {problem}", None
        if theirs is None:
            assert "raises" in " ".join([row.printed.words, *row.because]), raised
            continue
        where = (row.tool, row.call, theirs, row.printed)
        if row.printed.value is not None:
            assert row.printed.value == pytest.approx(theirs, rel=2e-5, abs=1e-6), where
        elif math.isnan(theirs):
            assert row.printed.words == tools.WORDS["nan"], where
        elif math.isinf(theirs) or theirs > 1e308:
            assert row.printed.words in (tools.WORDS["inf"], tools.WORDS["1.8e308"]), where
        else:
            pytest.fail(f"a number, not words: {where}")
    return held


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array, tuple[float, ...]]:
    """Draw two masks in a plane or a volume, dense or thin, with a spacing."""
    form = draw(st.sampled_from([(9, 9), (6, 11), (5, 6, 7), (1, 9, 8), (12, 12), (2, 3)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gt = (random.random(form) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(np.uint8)
    if draw(st.booleans()):
        gt[:] = 0
        gt[tuple(slice(1, max(2, n - 2)) for n in form)] = 1
    pred = np.where(random.random(form) < draw(st.sampled_from([0.0, 0.1, 0.5])), 1 - gt, gt).astype(np.uint8)
    spacing = draw(st.sampled_from([(1.0, 1.0, 1.0), (0.5, 2.0, 3.0), (3.0, 1.0, 1.0)]))[: len(form)]
    return pred, gt, spacing


@given(pairs())
@settings(max_examples=40)
def test_random_pairs_live(case: tuple[Array, Array, tuple[float, ...]]) -> None:
    """What is claimed of a tool is what it prints."""
    assert hold_against_the_tools(*case) > 30


BOX = np.zeros((8, 8), np.uint8)
BOX[2:6, 3:7] = 1
DEGENERATE = {
    "both empty": (BOX * 0, BOX * 0),
    "pred empty": (BOX * 0, BOX),
    "gt empty": (BOX, BOX * 0),
    "pred full": (BOX * 0 + 1, BOX),
    "gt full": (BOX, BOX * 0 + 1),
    "both full": (BOX * 0 + 1, BOX * 0 + 1),
    "equal": (BOX, BOX),
    "one voxel": (BOX[2:3, 3:4], BOX[2:3, 3:4]),
    "a volume, pred empty": (np.zeros((4, 4, 4), np.uint8), np.eye(4, dtype=np.uint8)[None].repeat(4, 0)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_pairs_live(name: str) -> None:
    """Empty, full and equal masks: number or words, the tools do what is claimed."""
    pred, gt = DEGENERATE[name]
    assert hold_against_the_tools(pred, gt, (1.0, 2.0, 0.5)[: pred.ndim]) > 25


REAL = {
    **{f"picai_lesion {n}": (f"picai_lesion/case-{n}_detection_map.nii.gz", f"picai_lesion/case-{n}_label.nii.gz")
       for n in (0, 1, 2, 4, 6, 9)},
    "visceral_small": ("visceral_small/50_perc.nii.gz", "visceral_small/20_perc.nii.gz"),
    "isles_lesion": ("isles_lesion/pred.nii.gz", "isles_lesion/gt.nii.gz"),
    "totalseg_ct": ("totalseg_ct/pred_fast_model.nii.gz", "totalseg_ct/gt_full_model.nii.gz"),
    "nuclei2d, a part": ("nuclei2d/pred_binary_0_255.png", "nuclei2d/gt_binary_0_255.png"),
}  # fmt: skip


@needs_shared("data", "reference.json")
@pytest.mark.parametrize("name", REAL)
def test_real_pairs_live(name: str) -> None:
    """On real masks too; of a large image a part, for one of the tools holds all distances in memory."""
    pred, gt = (segcli.read(SHARED / "data" / path) for path in REAL[name])
    whole = tuple(slice(60, 140) if "part" in name else slice(None) for _ in range(gt.array.ndim))
    masks = [(np.asarray(m.array)[whole] > 0.5).astype(np.uint8) for m in (pred, gt)]
    assert hold_against_the_tools(*masks, gt.spacing or (1.0,) * gt.array.ndim) > 25


# --- the losses of libraries ----------------------------------------------------------------------


def returned(name: str, call: str, z: Array, y: Array, **keywords: float) -> float:
    """Return what a library returns for one image, called as the entry of this loss says."""
    (entry,) = (e for e in known()[name].found_in if e.call == call)
    scene_z, scene_y = z[None, None], y[None, None]
    if entry.channels in ("all", "classes"):
        scene_z = np.stack([np.zeros_like(z), z])[None]
        scene_y = np.stack([1 - y, y])[None]
    if keywords:
        call = with_keywords(call, keywords)
    return Scene(scene_z, scene_y, replace(entry, call=call)).theirs(call)[0]


@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@pytest.mark.parametrize(("form", "seed"), [((12, 13), 0), ((11, 12, 11), 1)], ids=["2-D", "3-D"])
def test_losses_live(form: tuple[int, ...], seed: int) -> None:
    """What is claimed of a library's loss is what it returns."""
    random = np.random.default_rng(seed)
    z = random.permutation(np.linspace(-4.03, 4, int(np.prod(form)))).reshape(form)
    y = (random.random(form) < 0.3).astype(np.uint8)
    names = [m.name for m in measures("loss")]
    found = conventions.conventions(z, y, metrics=(), losses=names, from_logits=True, labels="fg=1").rows
    held = 0
    for row in found:
        if row.printed.value is None:
            assert row.printed.words
            continue
        theirs = returned(row.quantity, row.call, z, y.astype(float))
        assert row.printed.value == pytest.approx(theirs, rel=1e-4, abs=1e-6), (row.tool, row.call)
        assert bool(row.because) == (row.difference > 0)
        held += 1
    assert held > (40 if len(form) == 2 else 30)


def test_alpha_and_beta_live() -> None:
    """The same alpha and beta in every library: Keras weighs misses with alpha, and the row says so."""
    random = np.random.default_rng(5)
    z, y = random.normal(size=(9, 10)), (random.random((9, 10)) < 0.3).astype(np.uint8)
    rows = conventions.conventions(z, y, metrics=(), losses="tversky:fp=0.3:fn=0.7", from_logits=True).rows
    assert {row.tool for row in rows} == {"monai", "smp", "keras", "kornia"}
    for row in rows:
        call = row.call.partition(" with ")[0]
        assert row.call.endswith("with alpha=0.3, beta=0.7")
        theirs = returned("tversky", call, z, y.astype(float), alpha=0.3, beta=0.7)
        assert row.printed.value == pytest.approx(theirs, rel=1e-6)
        assert any("swapped" in cause for cause in row.because) == (row.tool == "keras")


def test_losses_of_a_hard_mask() -> None:
    """What reads logits takes no hard mask; torch cuts logarithms at -100: so much costs a certain, wrong voxel."""
    rows = conventions.conventions(BOX, np.roll(BOX, 1, 0), metrics=(), losses="bce,focal,dice").rows
    words = {row.call: row.printed.words for row in rows}
    assert "hard mask" in words["monai.losses.FocalLoss()(z, y)"]
    (torch,) = (row for row in rows if row.call == "torch.nn.functional.binary_cross_entropy(p, y)")
    assert torch.printed.value == pytest.approx(100 * np.mean(np.roll(BOX, 1, 0) != BOX), rel=1e-9)
    assert words["monai.losses.DiceLoss()(p, y)"] == ""
    empty = conventions.conventions(BOX * 0.25, BOX * 0, metrics=(), losses="dice", labels="fg=1").rows
    smp = next(row for row in empty if row.tool == "smp")
    assert smp.printed.value is None
    assert "gt is empty" in smp.printed.words


# --- causes ---------------------------------------------------------------------------------------


def row_of(rows: list[Row], tool: str, quantity: str, *, variant: bool = False) -> Row:
    """Return the row of a tool."""
    (found,) = (r for r in rows if r.tool == tool and r.quantity.split(":")[0] == quantity and r.variant == variant)
    return found


def test_only_what_has_an_effect_is_a_cause() -> None:
    """A definition that differs is no cause where it changes nothing; the steps lead from segcli's number to theirs."""
    far = BOX.copy()
    far[7, 0] = 1
    rows = rows_of(far, BOX, (1.0, 1.0), "dice,hd95,hd")
    assert row_of(rows, "MONAI", "dice").because == ()
    medpy = row_of(rows, "MedPy", "hd95")
    assert medpy.own == segcli.score(far, BOX, metrics="hd95").values[0].value
    assert medpy.because[-1].startswith("percentile of both directions together")
    inside = rows_of(BOX[1:7, 2:8], np.roll(BOX, 1, 0)[1:7, 2:8], (1.0, 1.0), "hd")
    assert not any("edge" in cause for cause in row_of(inside, "mikan", "hd").because)
    pred, gt = (np.stack([m] * 5) for m in (BOX[2:, 3:], np.pad(BOX, 1)[2:8, 2:7]))
    at_edge = rows_of(pred, gt, (1.0, 1.0, 1.0), "assd")
    assert row_of(at_edge, "mikan", "assd").because[-1] == "the image edge not counted"


@given(pairs())
@settings(max_examples=30)
def test_causes_lead_to_the_number(case: tuple[Array, Array, tuple[float, ...]]) -> None:
    """A number that differs has a cause, one that does not has none; the largest disagreement stands first."""
    rows = rows_of(*case)
    for row in rows:
        if row.printed.value is not None and row.own is not None:
            assert bool(row.because) == (row.difference > 0), row
    assert [r.difference for r in rows] == sorted((r.difference for r in rows), reverse=True)


def test_reversed_spacing_is_named() -> None:
    """Spacing in reverse order is a row of its own, where it can matter, with the number that comes out."""
    pred, gt = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    gt[4, 2], pred[4, 4] = 1, 1
    rows = rows_of(pred, gt, (5.0, 1.0), "hd")
    assert row_of(rows, "panoptica", "hd").printed.value == 2.0
    (wrong,) = (r for r in rows if r.call == "HD, file paths")
    assert wrong.printed.value == 10.0
    assert wrong.because == ("the spacing in reverse axis order",)
    assert not [r for r in rows_of(pred, gt, (1.0, 1.0), "hd") if "file paths" in r.call]
    noise = rows_of(pred, gt, (2.000000009, 1.99999999), "hd")  # 2 and 2, as a NIfTI header gives them back
    assert not [r for r in noise if "file paths" in r.call or "reverse" in " ".join(r.because)]


def test_two_numbers_that_differ_are_told_apart() -> None:
    """Shares far below a thousandth are written out where three decimals would show the same twice."""
    pred, gt = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    gt[0, :3] = pred[0, :2] = pred[1, 0] = gt[2, 0] = 1
    shown = text([conventions.conventions(pred, gt, metrics="fpr", convention="simpleitk")])
    # 1 false voxel of 3596 that are none; 2 missed of the 3597 that are predicted as none.
    assert re.search(r"fpr\s+0\.000278\s+0\.000556\s+50%\s+arguments exchanged", shown)
    assert re.search(r"fpr\s+0\.000\s+0\.000\s+the same", shown)


def test_defects_are_words() -> None:
    """A tool that does not follow its own definition here is told in words, with its version beside them."""
    full = BOX * 0 + 1
    rows = rows_of(full, np.pad(np.ones((8, 6), np.uint8), ((0, 0), (0, 2))), (1.0, 1.0), "hd")
    row = row_of(rows, "seg-metrics", "hd")
    assert row.printed.value == 2.0**64 - 2.0**40  # the square root of the largest float, run
    assert row.because == ("a mask is full: 1.84467e+19 by its rule, here 2",)
    assert row_of(rows, "mikan", "hd").printed.words == "raises an error"  # of any plane
    wide = rows_of(BOX[:, :7], BOX[:, :7], (1.0, 1.0), "hd")
    assert "not square" in row_of(wide, "torchmetrics", "hd").printed.words
    assert row_of(rows_of(BOX, BOX, (1.0, 1.0), "hd"), "torchmetrics", "hd").printed == Printed(0.0)


# --- score --convention and --empty ---------------------------------------------------------------


def test_score_with_a_convention() -> None:
    """The names stay, the definitions are the tool's: MedPy's hd95 is pooled, panoptica's assd a masd."""
    far = BOX.copy()
    far[7, 0] = 1
    plain = segcli.score(far, BOX, metrics="hd95_pooled:surface=border,masd:surface=border")
    medpy = segcli.score(far, BOX, metrics="dice,hd95", convention="medpy")
    assert [v.measure for v in medpy.values] == ["dice", "hd95_pooled:surface=border"]
    assert medpy.value("hd95_pooled:surface=border") == plain.value("hd95_pooled:surface=border")
    panoptica = segcli.score(far, BOX, metrics=["assd"], convention="panoptica")
    assert panoptica.values[0].value == plain.value("masd:surface=border")
    assert "ASSD = masd:surface=border" in panoptica.remarks[0]
    nsd = segcli.score(far, BOX, metrics="nsd:tol=1", convention="monai").values[0]
    assert nsd.measure == "nsd:tol=1:surface=border"


def test_a_convention_without_spacing() -> None:
    """scikit-image measures in voxels, and the unit says so; the other metrics stay in mm."""
    pred, gt = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    gt[4, 2], pred[4, 4] = 1, 1
    found = segcli.score(pred, gt, metrics="hd,modified_hd", convention="scikit-image", spacing=(5, 3))
    assert [(v.value, v.unit) for v in found.values] == [(2.0, "voxel"), (2.0, "voxel")]
    assert segcli.score(pred, gt, metrics="hd", convention="simpleitk", spacing=(5, 3)).values[0].value == 6.0


#: A step of two voxels, as wide as a tolerance of 2 but for the noise of a voxel size kept in 32 bits.
NOISY = (1 + 1e-7, 1.0)


def test_a_tolerance_without_room(tmp_path: Path) -> None:
    """Where a tool takes a tolerance exactly, score and evaluate do so with its convention, and the name says so."""
    pytest.importorskip("surface_distance")
    pred = np.roll(BOX, 2, 0)
    asked = ["nsd:tol=2", "surface_overlap_pred:tol=2", "surface_overlap_gt:tol=2"]
    own = segcli.score(pred, BOX, metrics=asked, spacing=NOISY)
    theirs = segcli.score(pred, BOX, metrics=asked, spacing=NOISY, convention="surface-distance")
    names = [v.measure for v in theirs.values]
    assert names == [f"{name}:surface=surfel:slack=0" for name in asked]
    rows = {r.quantity: r for r in rows_of(pred, BOX, NOISY, ",".join(asked)) if r.tool == "surface-distance"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import of SciPy is an old one
        tool = LIVE["surface-distance", "compute_surface_dice_at_tolerance"](pred, BOX, NOISY)
    assert theirs.values[0].value == pytest.approx(tool, rel=1e-12)
    for value, mine in zip(theirs.values, own.values, strict=True):
        row = rows[mine.measure]
        assert (row.printed.value, row.measure, row.own) == (value.value, value.measure, mine.value)
        assert row.because == (conventions.PARAMETER_WORDS["slack=0"],)
        assert value.value is not None
        assert mine.value is not None
        assert value.value < mine.value
    # in runs the two are two measures: gate and diff never mix them
    for side, mask in (("pred", pred), ("gt", BOX)):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "case.npy", mask)
    folders = [str(tmp_path / side) for side in ("pred", "gt")]
    runs = []
    for rules in ([], ["--convention", "surface-distance"]):
        run = tmp_path / f"run{len(rules)}.json"
        spacing = ",".join(map(repr, NOISY))
        how = ["-m", "nsd:tol=2", "--spacing", spacing, "-o", str(run), "-q", *rules]
        assert command_line(["evaluate", *folders, *how]) == 0
        runs.append(json.loads(run.read_text(encoding="utf-8")))
    assert [run["cases"][0]["values"][0]["value"] for run in runs] == [own.values[0].value, theirs.values[0].value]
    assert runs[1]["spec"]["measures"] == ["metric.nsd:tol=2:surface=surfel:slack=0"]
    assert runs[0]["spec"]["sha256"] != runs[1]["spec"]["sha256"]
    assert command_line(["gate", str(tmp_path / "run0.json"), "--baseline", str(tmp_path / "run2.json")]) == 3


def test_a_quantity_without_its_tolerance() -> None:
    """`nsd` alone is each tool's own tolerance: panoptica takes the smallest spacing, and the words lead there."""
    rows = rows_of(np.roll(BOX, 2, 0), BOX, (2.0, 1.0), "nsd")
    row = row_of(rows, "panoptica", "nsd")
    assert row.measure == "nsd_mean:tol=auto:surface=border:slack=0"
    assert row.because[-1] == "the smallest spacing as tolerance"


@pytest.mark.parametrize("tool", tools.tools())
def test_every_convention_gives_its_own_numbers(tool: str) -> None:
    """`score --convention` gives what `conventions` claims, for all metrics that the tool has."""
    record = tools.tools()[tool]
    pred = np.roll(BOX, (1, 2), (0, 1))
    pred[0, 0] = 1
    have = [tools.default_of(e.quantity) for e in record.metrics if not e.variant]
    found = segcli.score(pred, BOX, metrics=have, convention=tool, spacing=(2, 1), labels="fg=1")
    claimed = [r for r in rows_of(pred, BOX, (2.0, 1.0)) if r.tool == record.title and not r.variant]
    assert len(claimed) == len(have)
    for row in claimed:
        name = convention_of(tool, [tools.default_of(row.quantity.split(":")[0])]).metrics[0].name
        entry = next(e for e in record.metrics if e.call == row.call)
        (value,) = {v.value for v in found.values if v.measure == name}
        if row.printed.value is not None:
            assert value is not None
            assert value * entry.times == pytest.approx(row.printed.value, rel=1e-12)


#: The table of what tools do with empty masks: both empty / pred empty / gt empty of Dice, IoU, HD, HD95 and NSD, as
#: their own runs and sources gave it. What is not in it is not known.
NAN3, INF3, RAISES3 = ("nan",) * 3, ("inf",) * 3, ("raises",) * 3
EMPTY_TABLE: dict[tuple[str, str], tuple[float | str, ...]] = {
    ("surface-distance", "dice"): ("nan", 0, 0),
    ("surface-distance", "hd"): INF3,
    ("surface-distance", "hd95"): INF3,
    ("surface-distance", "nsd"): ("nan", 0, 0),
    ("monai", "dice"): ("nan", 0, "nan"),
    ("monai", "iou"): ("nan", 0, "nan"),
    ("monai", "hd"): ("nan", "inf", "inf"),
    ("monai", "hd95"): NAN3,
    ("monai", "nsd"): ("nan", 0, 0),
    ("metricsreloaded", "dice"): (1, 0, 0),
    ("metricsreloaded", "iou"): ("nan", 0, 0),
    ("metricsreloaded", "hd"): (0, "nan", "nan"),
    ("metricsreloaded", "hd95"): (0, "nan", "nan"),
    ("metricsreloaded", "nsd"): (1, 0, 0),
    ("medpy", "dice"): ("nan", 0, 0),
    ("medpy", "iou"): (1, 0, 0),
    ("medpy", "hd"): RAISES3,
    ("medpy", "hd95"): RAISES3,
    ("simpleitk", "dice"): ("inf", 0, 0),
    ("simpleitk", "iou"): ("1.8e308", 0, 0),
    ("simpleitk", "hd"): RAISES3,
    ("seg-metrics", "dice"): (1, 0, 0),
    ("seg-metrics", "iou"): (1, 0, 0),
    ("seg-metrics", "hd"): (0, 0, 0),
    ("seg-metrics", "hd95"): (0, 0, 0),
    ("panoptica", "dice"): (0, 0, 0),
    ("panoptica", "iou"): (0, 0, 0),
    ("panoptica", "hd"): RAISES3,
    ("meshmetrics", "dice"): (1, 0, 0),
    ("meshmetrics", "iou"): (1, 0, 0),
    ("meshmetrics", "hd"): (0, "inf", "inf"),
    ("meshmetrics", "hd95"): (0, "inf", "inf"),
    ("meshmetrics", "nsd"): (1, 0, 0),
    ("nnunet", "dice"): ("nan", 0, 0),
    ("nnunet", "iou"): ("nan", 0, 0),
    ("brats", "dice"): (1, 0, 0),
    ("brats", "hd95"): (0, 374, 374),
    ("plastimatch", "hd"): ("raises", "3.4e38", "3.4e38"),  # 1.10 ends with an exception where both are empty
}


@pytest.mark.parametrize(("tool", "quantity"), EMPTY_TABLE)
@pytest.mark.parametrize("why", EMPTY)
def test_the_table_of_empty_masks(tool: str, quantity: str, why: str) -> None:
    """Each cell: what `conventions` shows, what `--convention TOOL` and `--empty TOOL` give, and the means of a run."""
    cell = EMPTY_TABLE[tool, quantity][EMPTY.index(Why(why))]
    pred, gt = {"both_empty": (BOX * 0, BOX * 0), "pred_empty": (BOX * 0, BOX), "gt_empty": (BOX, BOX * 0)}[why]
    number = float(cell) if isinstance(cell, (int, float)) else None
    words = tools.WORDS[cell] if isinstance(cell, str) else ""
    row = row_of(rows_of(pred, gt, (1.0, 1.0), quantity), tools.tools()[tool].title, quantity)
    assert row.printed == Printed(number, words)
    for options in ({"convention": tool}, {"empty": tool}):
        (value,) = segcli.score(pred, gt, metrics=quantity, labels="fg=1", **options).values
        assert value.value == number
        assert value.status != "ok" or (value.why, value.value) == ("", number)
        if number is None:
            assert (value.status, value.why) == ("undefined", why)
            assert policy.tool_words(bind(value.measure), tool, why) == words
    (mean,) = (m for m in empty_means(run_of((pred, gt), metrics=quantity)) if m.policy == tool)
    assert (mean.mean, mean.words) == (number, f"{words} 1x" if words else "")


@pytest.mark.parametrize("tool", tools.tools())
@pytest.mark.parametrize("why", EMPTY)
def test_empty_as_a_tool(tool: str, why: str) -> None:
    """`--empty TOOL` puts in the tool's number; nan, infinity and errors are null, and are told in words."""
    pred, gt = {"both_empty": (BOX * 0, BOX * 0), "pred_empty": (BOX * 0, BOX), "gt_empty": (BOX, BOX * 0)}[why]
    for entry in tools.tools()[tool].metrics:
        if entry.variant or not entry.empty or entry.grid != "file" or entry.quantity != entry.measure.split(":")[0]:
            continue
        asked = entry.bound().name
        found = segcli.score(pred, gt, metrics=[asked], empty=tool, labels="fg=1").values[0]
        own = segcli.score(pred, gt, metrics=[asked], labels="fg=1").values[0]
        rule = entry.rule(why)
        if rule == "formula":
            assert (found.value, found.status, found.why) == (own.value, own.status, own.why)
        elif isinstance(rule, str):
            assert (found.value, found.status, found.why) == (None, "undefined", why)
            assert policy.tool_words(bind(asked), tool, why) == tools.WORDS[rule]
        else:
            assert found.value == rule
            assert (found.status, found.why) == (("ok", "") if own.value == rule else ("policy", why))


def test_a_tools_number_where_the_formula_has_none() -> None:
    """Nothing matched: MONAI prints a segmentation quality of 0; that is its rule, not a value of the formula."""
    apart = np.roll(BOX, 4, 0)
    assert segcli.score(apart, BOX, metrics="sq", labels="fg=1").values[0].value is None
    (value,) = segcli.score(apart, BOX, metrics="sq", labels="fg=1", convention="monai").values
    assert (value.value, value.status, value.why) == (0.0, "policy", "zero_denominator")
    # the means of such a run know what a count gives without the rule
    run = run_of((BOX, BOX * 0), metrics="fpr", empty="seg-metrics")
    assert run["cases"][0]["values"][0]["value"] == 0.0
    means = {m.policy: m.mean for m in empty_means(run_of((BOX, BOX * 0), (BOX, BOX), metrics="fnr"))}
    assert means["seg-metrics"] == 0.0
    (case,) = as_run(run).cases
    assert tool_means._own(bind("fpr"), case.values[0], case.counts["fg"], "gt_empty") == (pytest.approx(BOX.mean()))


def test_a_class_in_neither_map() -> None:
    """The IoU per class of torchmetrics is -1 there, that of one class nan (run); a mark is no part of a mean."""
    torch, tool = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.segmentation")
    pred, gt = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]])
    given_as = [torch.from_numpy(a[None]) for a in (pred, gt)]
    theirs = tool.mean_iou(*given_as, num_classes=3, include_background=False, per_class=True, input_format="index")
    found = segcli.score(pred, gt, metrics="iou", labels="a=1,b=2", convention="torchmetrics")
    assert [v.value for v in found.values] == pytest.approx(theirs[0].tolist()) == [2 / 3, -1]
    assert [v.status for v in found.values] == ["ok", "policy"]
    assert [(m.value, m.n, m.of) for m in found.means] == [(pytest.approx(2 / 3), 1, 2)]
    rows = conventions.conventions(pred, gt, metrics="iou", labels="a=1,b=2", convention="torchmetrics").rows
    assert {r.call: (r.printed.value, r.printed.words) for r in rows if r.label == "b"} == {
        "mean_iou(per_class=True)": (-1.0, ""), "mean_iou(include_background=False)": (None, "prints nan"),
    }  # fmt: skip
    means = {m.policy: m for m in empty_means(run_of((BOX, BOX), (BOX * 0, BOX * 0), metrics="iou"))}
    assert (means["torchmetrics"].mean, means["torchmetrics"].words) == (1.0, "prints -1 1x")
    summed = summaries(run_of((BOX, BOX), (BOX * 0, BOX * 0), metrics="iou", convention="torchmetrics")["cases"],
                       Resampling())  # fmt: skip
    assert (summed[0]["mean"], summed[0]["n"], summed[0]["undefined"]) == (1.0, 1, 1)


def nifti(path: Path, mask: Array, sform: Array | None, qform: Array | None, pixdim: tuple[float, ...]) -> str:
    """Write a mask whose header says three things about its voxels."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(mask, None)
    image.header.set_sform(sform, 0 if sform is None else 1)
    image.header.set_qform(qform, 0 if qform is None else 1)
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[80:92] = np.array(pixdim, "<f4").tobytes()
    path.write_bytes(raw)
    return str(path)


SIZE = np.diag([1.0, 2.0, 3.0, 1.0])
SHEAR = SIZE @ np.array([[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
TURN = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ SIZE
#: sform, qform, pixdim -> the voxel size that SimpleITK reads.
HEADERS = {
    "all agree": (SIZE, SIZE, (1, 2, 3), None),
    "sform alone": (SIZE, None, (2, 2, 2), (2, 2, 2)),
    "sform turned": (TURN, None, (2, 2, 2), (2, 2, 2)),
    "pixdim negative": (SIZE, None, (-2, 2, 2), (2, 2, 2)),
    "pixdim zero": (SIZE, None, (0, 2, 3), None),
    "pixdim NaN": (SIZE, None, (2, float("nan"), 3), (2, 1, 3)),
    "both forms": (SIZE, np.diag([2.0, 2, 2, 1]), (2, 2, 2), (2, 2, 2)),
    "qform alone": (None, SIZE, (1, 2, 3), None),
    "neither": (None, None, (1, 2, 3), None),
    "sheared": (SHEAR, None, (1, 2, 3), "raises"),
    "sheared with a qform": (SHEAR, SIZE, (1, 2, 3), (1, 2, 3)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_voxel_size_as_simpleitk_reads_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SimpleITK measures with |pixdim| whatever the sform says, and reads no sheared sform; the claim is its number."""
    itk = pytest.importorskip("SimpleITK")
    *header, size = HEADERS[name]
    pred, gt = np.zeros((6, 7, 8), np.uint8), np.zeros((6, 7, 8), np.uint8)
    gt[1:3, 2:5, 2:5], pred[2:5, 2:6, 2:5] = 1, 1
    files = [nifti(tmp_path / f"{side}.nii", m, *header) for side, m in (("pred", pred), ("gt", gt))]
    rows = conventions.conventions(*files, metrics="hd,ahd_set", convention="simpleitk").rows
    found = segcli.score(*files, metrics="hd,ahd_set", convention="simpleitk")
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        images = [itk.ReadImage(file) for file in files]
    except RuntimeError:
        assert size == "raises"
        assert {r.printed.words for r in rows} == {"raises: ITK reads no sheared sform"}
        assert "ITK reads no sheared sform" in found.notes[-1].text
        return
    distance = itk.HausdorffDistanceImageFilter()
    distance.Execute(*images)
    theirs = {"hd": distance.GetHausdorffDistance(), "ahd_set": distance.GetAverageHausdorffDistance()}
    for row, value in zip(sorted(rows, key=lambda r: r.quantity != "hd:surface=surfel"), found.values, strict=True):
        assert row.printed.value == value.value == pytest.approx(theirs[row.quantity.split(":")[0]], rel=1e-6)
        moved = any("pixdim" in cause for cause in row.because)
        assert not moved or size is not None
    assert [n.code for n in found.notes].count("convention.voxel-size") == (size is not None)
    # a voxel size that is given stands for that of the files
    given_size = segcli.score(*files, metrics="hd", convention="simpleitk", spacing=(1, 2, 3))
    same_size = segcli.score(pred, gt, metrics="hd:surface=set", spacing=(1, 2, 3))
    assert given_size.values[0].value == same_size.values[0].value
    assert command_line(["conventions", *files, "-m", "hd", "--convention", "simpleitk"]) == 0
    assert size == (1, 2, 3) or ("of pixdim" in capsys.readouterr().out) == (size is not None)


def test_rules_for_masks_that_are_not_empty() -> None:
    """A score under a convention has the tool's own rule for full and equal masks, and a note says so (run)."""
    full, part = np.ones((6, 8, 9), np.uint8), np.pad(np.ones((2, 4, 5), np.uint8), 2)
    distorch = segcli.score(part, part, metrics="nsd:tol=1", convention="distorch", labels="fg=1")
    assert (distorch.values[0].value, distorch.values[0].status) == (0.0, "policy")
    assert [n.text for n in distorch.notes if n.code == "convention.rule"] == [
        "DisTorch 80f190c normalized surface Dice of fg: the masks are equal: 0 by its rule, not 1"
    ]
    pymia = segcli.score(part, full, metrics="vi_label,ari_label", convention="pymia", labels="fg=1")
    assert [(v.value, v.status) for v in pymia.values] == [(None, "undefined"), (0.0, "ok")]
    assert pymia.notes[-1].text.endswith("VariationOfInformation of fg: a mask is full: prints -inf")
    assert (
        segcli.score(part, full, metrics="vi_label", empty="pymia", labels="fg=1").values[0].value > 0
    )  # none is empty
    plane = conventions.conventions(part[3], full[3], metrics="nsd:tol=1", convention="pymia", labels="fg=1").rows[0]
    assert plane.because == ("a plane as a volume of one slice: both of its sides are surface",)
    slab = segcli.score(part[3][None], full[3][None], metrics="nsd:tol=1:slack=0", labels="fg=1")
    assert plane.printed.value == slab.values[0].value


def test_what_the_evaluator_of_panoptica_prints() -> None:
    """Global metrics take no spacing and half a voxel as tolerance; masks apart raise, or are infinitely far (run)."""
    gt = np.zeros((9, 9), np.uint8)
    gt[2:6, 2:6] = 1
    rows = {r.call: r for r in rows_of(np.roll(gt, 1, 0), gt, (3.0, 2.0), "hd,nsd:tol=2,assd,iou")}
    assert (rows["HD"].printed.value, rows["global_bin_hd"].printed.value) == (3.0, 1.0)
    # of 12 border voxels each 6 lie on one of the other border
    assert rows["global_bin_nsd"].printed.value == pytest.approx(6 / 12)
    assert rows["global_bin_nsd"].measure == "nsd_mean:tol=0.5:surface=border:slack=0"
    apart = {r.call: r.printed for r in rows_of(np.roll(gt, 4, 0) * (1 - gt), gt, (1.0, 1.0), "hd,assd,iou,rve")}
    assert apart["global_bin_hd"].words == "raises an error"
    assert apart["global_bin_assd"].words == "prints inf"
    assert apart["global_bin_rvd"].words == "prints nan"
    assert apart["HD"].value is not None
    empty = {r.call: r.printed for r in rows_of(gt * 0, gt * 0, (1.0, 1.0), "dice,iou,assd,rve")}
    assert {empty[f"global_bin_{m}"].words for m in ("dsc", "iou", "assd", "rvd")} == {"prints nan"}


def test_voxel_sizes_that_differ(tmp_path: Path) -> None:
    """Two voxel sizes in pixdim: ITK does not compare such images."""
    files = [nifti(tmp_path / f"{i}.nii", np.stack([BOX] * 3), SIZE, None, (s, 2, 2)) for i, s in enumerate((2, 3))]
    (row,) = conventions.conventions(*files, metrics="hd", convention="simpleitk").rows
    assert row.printed.words == "raises: the voxel sizes in pixdim differ"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"metrics": "nsd", "convention": "medpy"}, "no nsd; it has dice, iou"),
        ({"metrics": "hd95:surface=mesh", "convention": "monai"}, "part of the convention"),
        ({"metrics": "hd", "convention": "monai", "surface": "mesh"}, "--surface mesh"),
        ({"metrics": "dice", "convention": "monia"}, "monia is not one of"),
        ({"metrics": "dice", "convention": "keras"}, "has no dice; it has losses only"),
        ({"metrics": (), "losses": "hd_cv", "convention": "keras"}, "no hd_cv; it has bce"),
        ({"metrics": "dice", "empty": "medpi"}, "--empty medpi is not one of undefined"),
    ],
)  # fmt: skip
def test_a_wrong_convention_is_refused(options: dict[str, Any], complaint: str) -> None:
    """What a tool does not have is a usage error that lists what it has."""
    with pytest.raises(UsageError) as problem:
        segcli.score(BOX, BOX, **options)
    assert complaint in problem.value.message


def test_losses_with_a_convention() -> None:
    """A library's defaults, its parameters where they are named, alpha and beta where they are exchanged."""
    p = np.where(BOX, 0.75, 0.25)
    keras = segcli.score(p, np.roll(BOX, 1, 0), metrics=(), losses="tversky:fp=0.3:fn=0.7", convention="keras")
    assert keras.values[0].measure == "tversky:fp=0.7:fn=0.3:smooth=0"
    monai = segcli.score(p, BOX, metrics=(), losses="focal,dice", convention="monai")
    assert [v.measure for v in monai.values] == ["focal:alpha=none", "dice"]


# --- means under rules for empty masks ------------------------------------------------------------


def run_of(*pairs: tuple[Array, Array], metrics: str = "dice,hd95", **options: Any) -> dict[str, Any]:
    """Return a run file of several pairs, as plain data."""
    from segcli.masks.asked import reading_of
    from segcli.run.document import document
    from segcli.scoring.score import measures_of

    cases = [segcli.score(p, g, metrics=metrics, labels="fg=1", **options) for p, g in pairs]
    empty = options.get("empty", "undefined")
    run = document(cases, measures_of("metric", metrics), reading_of(labels="fg=1"), empty=empty, background=True,
                   started="", seconds=0, argv=[]).to_dict()  # fmt: skip
    for number, case in enumerate(run["cases"]):
        case["case"] = str(number)
    return run


@pytest.mark.parametrize("base", ["undefined", "worst", "zero", "seg-metrics"])
def test_means_under_each_rule(base: str) -> None:
    """Two equal boxes, a miss and an image with nothing in it: worked out by hand, whatever the run itself followed."""
    run = run_of((BOX, BOX), (BOX * 0, BOX), (BOX * 0, BOX * 0), empty=base)
    found = {(m.measure, m.policy): m for m in empty_means(run)}
    # dice: 1, 0 and what the rule says of nothing in both
    assert found["dice", "undefined"].mean == 0.5
    assert (found["dice", "undefined"].n, found["dice", "undefined"].of) == (2, 3)
    assert found["dice", "perfect-if-both-empty"].mean == pytest.approx(2 / 3)
    assert found["dice", "metricsreloaded"].mean == pytest.approx(2 / 3)
    assert found["dice", "panoptica"].mean == pytest.approx(1 / 3)
    assert found["dice", "monai"].mean == 0.5
    assert found["dice", "simpleitk"].mean is None
    # hd95: 0, then the miss
    hd95 = "hd95:surface=surfel"
    assert found[hd95, "undefined"].mean == 0
    assert found[hd95, "worst"].mean == pytest.approx(math.hypot(8, 8) / 3)
    assert found[hd95, "seg-metrics"].mean == 0
    assert found[hd95, "brats"].mean == pytest.approx(374 / 3)
    assert found[hd95, "medpy"].mean is None
    assert "raises" in found[hd95, "medpy"].words
    assert (found[hd95, "distorch"].mean, found[hd95, "distorch"].words) == (0, "prints nan 2x")
    assert (hd95, "nnunet") not in found  # has no such metric


def test_what_has_no_empty_mask_is_refused(tmp_path: Path) -> None:
    """One line says that there is nothing to see, or what the file lacks."""
    with pytest.raises(InputError, match="has no 'spec'"):
        empty_means({"schema": "segcli.run/1", "cases": [{}]})
    with pytest.raises(UsageError, match="no rule changes"):
        empty_means(run_of((BOX, BOX)))
    (tmp_path / "run.json").write_text("{")
    assert command_line(["conventions", "--empty", str(tmp_path / "run.json")]) == 3


@pytest.mark.parametrize("empty", ["undefined", "worst"])
def test_means_of_a_folder(empty: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of `evaluate` will do, whatever rule it followed."""
    for side, masks in (("pred", (BOX, BOX * 0, BOX * 0)), ("gt", (BOX, BOX, BOX * 0))):
        (tmp_path / side).mkdir()
        for i, mask in enumerate(masks):
            np.save(tmp_path / side / f"case{i}.npy", mask)
    run = str(tmp_path / "run.json")
    folders = [str(tmp_path / side) for side in ("pred", "gt")]
    assert command_line(["evaluate", *folders, "-m", "dice", "--empty", empty, "-o", run, "-q"]) == 0
    capsys.readouterr()
    assert command_line(["conventions", "--empty", run, "-f", "json"]) == 0
    found = {row["rule"]: row for row in json.loads(capsys.readouterr().out)["empty"]}
    assert found["undefined"]["mean"] == found["monai"]["mean"] == 0.5
    assert found["medpy"]["mean"] == 0.5
    assert found["worst"]["mean"] == found["brats"]["mean"] == pytest.approx(2 / 3)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Give a prediction and a ground truth."""
    pred = np.roll(BOX, 1, 0)
    pred[0, 0] = 1
    for name, mask in (("pred", pred), ("gt", BOX), ("empty", BOX * 0)):
        np.save(tmp_path / f"{name}.npy", mask)
    return [str(tmp_path / f"{name}.npy") for name in ("pred", "gt", "empty")]


def test_command(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All formats; JSON follows its schema and is strict."""
    assert command_line(["schema", "conventions"]) == 0
    schema = json.loads(capsys.readouterr().out)
    for pair in (files[:2], [files[2], files[1]], [files[2], files[2]]):
        arguments = ["conventions", *pair, "--labels", "fg=1", "-m", "all", "-l", "all"]
        assert command_line([*arguments, "-f", "json"]) == 0
        found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        jsonschema.validate(found, schema)
        assert command_line([*arguments, "-f", "csv"]) == 0
        lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        told = [line["because"] for line in lines if line["kind"] == "note"]
        assert told == [note["text"] for note in found["notes"] if note["level"] == "warning"]
        assert len(lines) - len(told) == len(found["rows"])
        assert command_line([*arguments, "-f", "md"]) == 0
        assert "| :--- |" in capsys.readouterr().out
    assert command_line(["conventions", *files[:2]]) == 0
    text = capsys.readouterr().out
    assert "MedPy 0.5.2" in text
    assert "percentile of both directions together" in text
    run = tmp_path / "run.json"
    assert command_line(["score", files[2], files[1], "-q", "-o", str(run)]) == 0
    capsys.readouterr()
    for form in ("table", "md", "csv", "json"):
        assert command_line(["conventions", "--empty", str(run), "-f", form]) == 0
    out = capsys.readouterr().out
    document = json.loads(out[out.index('{\n "schema"') :])
    jsonschema.validate(document, schema)
    assert document["empty"]


def test_score_command_with_a_convention(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The footnotes name the convention, the spec has it, and a limit by the user's name holds the tool's number."""
    assert command_line(["score", files[2], files[1], "-m", "hd95", "--convention", "medpy"]) == 0
    text = capsys.readouterr().out
    assert "--convention medpy: MedPy 0.5.2: hd95 = hd95_pooled:surface=border" in text
    assert "MedPy 0.5.2 raises an error" in text
    assert command_line(["score", *files[:2], "--convention", "monai", "-f", "json", "-l", "dice"]) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert (spec["convention"], spec["empty"]) == ("monai", "monai")
    assert "metric.hd95:surface=border" in spec["measures"]
    assert command_line(["score", *files[:2], "--convention", "medpy", "-m", "dice", "--max", "hd95=1.5"]) == 0
    assert "hd95_pooled:surface=border" in capsys.readouterr().out
    assert command_line(["score", *files[:2], "--convention", "monai", "--empty", "worst", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["empty"] == "worst"


def test_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each image of a stack is a case with its own rows, the same as alone."""
    pred = np.stack([np.roll(BOX, 1, 0), BOX, BOX * 0])
    gt = np.stack([BOX, BOX * 0, BOX])
    for side, maps in (("pred", pred), ("gt", gt)):
        np.save(tmp_path / f"{side}.npy", maps)
    files = [str(tmp_path / f"{side}.npy") for side in ("pred", "gt")]
    cases = conventions.conventions(pred, gt, labels="fg=1", stack=True)
    assert len(cases) == 3
    for case, p, g in zip(cases, pred, gt, strict=True):
        alone = conventions.conventions(p, g, labels="fg=1").rows
        assert [(r.call, r.printed, r.because) for r in case.rows] == [(r.call, r.printed, r.because) for r in alone]
    assert command_line(["conventions", *files, "--stack", "--labels", "fg=1", "-f", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert Counter(row["case"] for row in rows) == Counter({f"pred[{i}]": len(cases[0].rows) for i in range(3)})
    assert command_line(["conventions", *files, "--stack", "--labels", "fg=1"]) == 0
    assert sum(line.startswith("pred[") for line in capsys.readouterr().out.splitlines()) == 3
    assert command_line(["conventions", *files, "--stack", "--labels", "fg=1", "-f", "md"]) == 0
    assert capsys.readouterr().out.count("| metric |") == 3


def test_one_tool_and_another_surface() -> None:
    """`--convention` shows one tool, `--surface` is that of segcli's own numbers."""
    far = BOX.copy()
    far[7, 0] = 1
    found = conventions.conventions(far, BOX, convention="monai", surface="border", losses="dice").rows
    assert {row.tool for row in found} == {"MONAI", "monai"}
    assert {row.reference for row in found if row.quantity.startswith("hd95")} == {"hd95:surface=border"}
    assert row_of(found, "MONAI", "hd95").difference == 0
    with pytest.raises(UsageError, match="no metric and no loss"):
        conventions.conventions(far, BOX, convention="keras")


@pytest.mark.parametrize(
    "arguments",
    [
        ["conventions"], ["conventions", "a.npy"], ["conventions", "a.npy", "b.npy", "-m", "betti0_gt"],
        ["conventions", "a.npy", "b.npy", "--empty", "run.json"],
        ["conventions", "a.npy", "b.npy", "--convention", "monia"],
        ["conventions", "a.npy", "b.npy", "--convention", "monai", "-m", "rve"],
        ["conventions", "a.npy", "b.npy", "--convention", "keras"],
        ["conventions", "a.npy", "b.npy", "--surface", "brder"],
    ],
)  # fmt: skip
def test_wrong_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error is one line and exit code 2."""
    assert command_line(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.filterwarnings(SINGLE_CHANNEL)
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["gt empty", "gt full"])
def test_losses_of_an_empty_or_full_mask_live(share: float) -> None:
    """A claim about a library's loss holds where the ground truth is empty or full, or there is no claim."""
    random = np.random.default_rng(3)
    z = random.normal(size=(12, 13))
    y = np.full(z.shape, share).astype(np.uint8)
    names = [m.name for m in measures("loss")]
    wrong = []
    for row in conventions.conventions(z, y, metrics=(), losses=names, from_logits=True, labels="fg=1").rows:
        if row.printed.value is not None:
            theirs = returned(row.quantity, row.call, z, y.astype(float))
            room = 6e-5 if "cldice" in row.quantity else 1e-6  # MONAI's clDice has 1e-4 more in a denominator
            if row.printed.value != pytest.approx(theirs, rel=1e-4, abs=room):
                wrong.append((row.quantity, row.tool, row.call, row.printed.value, theirs))
    assert not wrong
