"""What segcli says that other tools print: against recorded values, against the tools themselves, and its own rules."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import segcli
from segcli import conventions, empty_means, policy, tools
from segcli.cli.main import run as command_line
from segcli.conventions import Printed, Row, Views, printed
from segcli.errors import InputError, UsageError
from segcli.masks.labels import Label
from segcli.measure import bind, measures
from segcli.pair import Case
from segcli.tools import Entry, convention_of

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
    "one direction only, or distances that are not Euclidean": 20,
    "instances and objects have no entry yet": 10,
    "MeshMetrics' boundary IoU has no entry": 8,
    "MISeval's Hausdorff distance, a defect": 6,
    "pymia's gce and mahalanobis have no entry": 4,
    "MetricsReloaded's band of two voxels, a defect": 1,
}


@cache
def recorded() -> dict[str, Any]:
    """Return the recorded cases."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else {"cases": [], "prelude": ""}


def why_not(case: dict[str, Any]) -> str | None:
    """Return why a recorded case is not compared."""
    tool, metric, params = case["convention"], case["metric"], case["params"]
    if params.get("directed") or params.get("metric", "euclidean") != "euclidean":
        return "one direction only, or distances that are not Euclidean"
    if metric in ("pq", "sq", "rq", "froc", "centre_distance", "rvae") or (tool, metric) == ("panoptica", "cldice"):
        return "instances and objects have no entry yet"
    if (tool, metric) == ("mesh", "boundary_iou"):
        return "MeshMetrics' boundary IoU has no entry"
    if (tool, metric) == ("miseval", "HD"):
        return "MISeval's Hausdorff distance, a defect"
    if (tool, metric) in (("pymia", "gce"), ("pymia", "mahalanobis")):
        return "pymia's gce and mahalanobis have no entry"
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
    labels = [Label("fg", (1,))]
    if max(pred.max(initial=0), gt.max(initial=0)) > 1:
        labels = [Label(str(v), (int(v),)) for v in np.union1d(pred, gt) if v]
    views = Views(Case(pred, gt, labels, spacing=spacing), 0)
    if bound.over_classes:
        return Printed(views.value(bound))
    return printed(entry, bound, views)


def entry_of(case: dict[str, Any]) -> Entry:
    """Return the entry of the table that a recorded case is of."""
    name, metric = case["convention"], case["metric"]
    quantity = RENAMED.get((name, metric), QUANTITIES.get(metric, metric))
    if (name, metric) == ("torchmetrics", "dice_micro"):
        quantity = "dice"
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
        or case["id"][:3] == "636"  # MISeval against an empty mask
    )


# --- the tools themselves -------------------------------------------------------------------------


def monai_tool(name: str, *, index: int | None = None, **how: Any) -> Callable[..., float]:
    """Return MONAI's function of masks with a case and a channel axis."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        torch, tool = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
        given_as = [torch.from_numpy(a[None, None].astype(np.float32)) for a in (p, g)]
        if name == "confusion":
            counts = tool.get_confusion_matrix(*given_as)
            return float(tool.compute_confusion_matrix_metric(how["metric"], counts))
        space = {} if name in ("compute_dice", "compute_iou") else {"spacing": list(spacing)}
        return float(getattr(tool, name)(*given_as, include_background=True, **space, **how))

    return call


def medpy_tool(name: str) -> Callable[..., float]:
    """Return MedPy's function; distances get the spacing."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:
        tool = pytest.importorskip("medpy.metric.binary")
        return float(getattr(tool, name)(p, g, *([spacing] if name in ("hd", "hd95", "asd", "assd") else [])))

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
        of_sets = "Hausdorff" in name
        found = itk.HausdorffDistanceImageFilter() if of_sets else itk.LabelOverlapMeasuresImageFilter()
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


def skimage_tool(name: str, *, index: int | None = None, **how: Any) -> Callable[..., float]:
    """Return scikit-image's function; it takes no spacing."""

    def call(p: Array, g: Array, spacing: tuple[float, ...]) -> float:  # noqa: ARG001 (one signature for all)
        tool = pytest.importorskip("skimage.metrics")
        found = getattr(tool, name)(g, p, **how)
        return float(found if index is None else found[index])

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
        for m in ("tpr", "tnr", "ppv", "acc", "ba")
    },
    **{
        ("medpy", m): medpy_tool(m)
        for m in ("dc", "jc", "hd", "hd95", "assd", "asd", "recall", "specificity", "precision", "ravd")
    },
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
        ("simpleitk", f"LabelOverlapMeasures({'gt, pred' if swapped else 'pred, gt'}).{m}"): itk_tool(m, swapped=swapped)
        for m in ("GetVolumeSimilarity", "GetFalseNegativeError", "GetFalsePositiveError")
        for swapped in (False, True)
    },
    ("torchmetrics", "dice_score(include_background=False)"): torchmetrics_tool("dice_score", include_background=False),
    ("torchmetrics", "dice_score(average='micro')"): torchmetrics_tool("dice_score", average="micro"),
    ("torchmetrics", "mean_iou(include_background=False)"): torchmetrics_tool("mean_iou", include_background=False),
    ("torchmetrics", "mean_iou"): torchmetrics_tool("mean_iou"),
    ("torchmetrics", "hausdorff_distance"): torchmetrics_tool("hausdorff_distance"),
    ("scikit-image", "hausdorff_distance"): skimage_tool("hausdorff_distance"),
    ("scikit-image", "hausdorff_distance(method='modified')"): skimage_tool("hausdorff_distance", method="modified"),
    ("scikit-image", "variation_of_information()[0]"): skimage_tool("variation_of_information", index=0),
    ("scikit-image", "variation_of_information()[1]"): skimage_tool("variation_of_information", index=1),
}


def test_every_tool_that_runs_is_run() -> None:
    """What the table calls checked by running is what is run here."""
    assert set(LIVE) == {(tool.name, entry.call) for tool, entry in ENTRIES if tool.checked == "run"}


def rows_of(pred: Array, gt: Array, spacing: tuple[float, ...], metrics: str = "all") -> list[Row]:
    """Return what `segcli conventions` says of a pair."""
    return conventions.conventions(pred, gt, metrics=metrics, labels="fg=1", spacing=spacing).rows


def hold_against_the_tools(pred: Array, gt: Array, spacing: tuple[float, ...]) -> int:
    """Compare every row of a tool that is installed with what it prints; return how many were."""
    held = 0
    by_title = {tool.title: tool.name for tool in tools.tools().values()}
    for row in rows_of(pred, gt, spacing):
        call = LIVE.get((by_title[row.tool], row.call))
        if call is None or row.printed.words == tools.WORDS["unknown"] or "not square" in row.printed.words:
            continue
        held += 1
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                theirs: float | None = call(pred, gt, spacing)
        except pytest.skip.Exception:
            raise
        except Exception as problem:  # noqa: BLE001 (an error is what some tools answer)
            said = " ".join([row.printed.words, *row.because])
            assert "raises" in said, (row.tool, row.call, problem)
            continue
        assert theirs is not None
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
    "nuclei2d": ("pred_binary_0_255.png", "gt_binary_0_255.png"),
    "meshmetrics": ("example_2d_pred_mask.nii.gz", "example_2d_ref_mask.nii.gz"),
    "visceral_small": ("50_perc.nii.gz", "20_perc.nii.gz"),
    "picai_lesion": ("case-5_detection_map.nii.gz", "case-5_label.nii.gz"),
}


@needs_shared("data", "reference.json")
@pytest.mark.parametrize("folder", REAL)
def test_real_pairs_live(folder: str) -> None:
    """On real masks too."""
    pred, gt = (segcli.read(SHARED / "data" / folder / name) for name in REAL[folder])
    masks = [(np.asarray(m.array) > 0).astype(np.uint8) for m in (pred, gt)]
    assert hold_against_the_tools(*masks, gt.spacing or (1.0,) * gt.array.ndim) > 30
