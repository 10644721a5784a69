"""What segcli says that other tools print: against recorded values, against the tools themselves, and its own rules."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections import Counter
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
    "one direction only, or distances that are not Euclidean": 17,
    "instances and objects, compared in test_objects.py": 10,
    "a mesh eroded by a band": 8,
    "MISeval's Hausdorff distance looks at corners of the image": 6,
    "pymia's own formulas: gce, mahalanobis": 4,
    "a line: segcli reads a row as an image": 0,
    "MetricsReloaded's band of two voxels": 1,
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
        return "instances and objects, compared in test_objects.py"
    if (tool, metric) == ("mesh", "boundary_iou"):
        return "a mesh eroded by a band"
    if (tool, metric) == ("miseval", "HD"):
        return "MISeval's Hausdorff distance looks at corners of the image"
    if (tool, metric) in (("pymia", "gce"), ("pymia", "mahalanobis")):
        return "pymia's own formulas: gce, mahalanobis"
    if (tool, metric) == ("metricsreloaded", "boundary_iou") and params.get("tau") == 2:
        return "MetricsReloaded's band of two voxels"
    return None


@needs_shared("golden", "golden_metrics.json")
def test_nothing_recorded_is_left_out_silently() -> None:
    """Every recorded case is compared, or its reason is listed with how many share it."""
    counted = Counter(why for case in recorded()["cases"] if (why := why_not(case)) is not None)
    assert counted == {why: n for why, n in LEFT_OUT.items() if n}


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
    for key, value in params.items():
        if key in bound.params:
            bound = bind(f"{bound.name.replace(f'{key}={bound.params[key]:g}', '').replace('::', ':').rstrip(':')}"
                         f":{key}={value}")  # fmt: skip
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
