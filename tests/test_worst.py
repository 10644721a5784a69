"""What `worst` is: one number of each measure, in every command that can put it in a lacking value's place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cohorts import segcli
from made_runs import Source, as_run, judge_run, made_run

import segcli as library
from segcli.evidence.counts import Counts
from segcli.gates.columns import Columns
from segcli.gates.rules import parse_rules
from segcli.measure.notation import bind
from segcli.measure.record import measures
from segcli.run.rank import rank_runs
from segcli.run.summary import Resampling

SHAPE, SPACING = (9, 8, 7), (2.0, 3.0, 0.5)
DIAGONAL = math.hypot(18, 24, 3.5)
#: The worst value by hand: what lies at the end of each range, and of each distance in this image.
BY_HAND = {
    "dice": 0, "nsd": 0, "specificity": 0, "auc": 0, "likelihood_ratio_positive": 0, "pq": 0, "mean_iou": 0,
    "mcc": -1, "kappa": -1, "informedness": -1, "markedness": -1, "icc": -1, "multiclass_mcc": -1, "ari": -0.5,
    "fpr": 1, "fnr": 1, "fdr": 1, "gce": 1, "vi_label": 2, "brier": 1,
    "hd": DIAGONAL, "hd95": DIAGONAL, "assd": DIAGONAL, "asd_gt_to_pred": DIAGONAL, "hd_pred_to_gt": DIAGONAL,
    "lesion_hd95": 374,
    # at infinity, around 0, or without a direction: nothing stands for a miss
    "pbd": None, "mahalanobis": None, "false_positives": None, "log_loss": None, "rve": None,
    "volume_similarity_signed": None, "volume_difference": None, "volume_gt": None, "best_threshold": None,
    "loss.dice": 1, "loss.mcc": 2, "loss.iou_inverted": 0, "loss.bce": None, "loss.boundary": None,
}  # fmt: skip
#: The parameters of one measure have to be named.
ALL = "all"


@pytest.mark.parametrize("name", BY_HAND)
def test_the_record_says_what_is_worst(name: str) -> None:
    """The end of the range, of a distance the diagonal; what a parameter says, where it says it; else nothing."""
    bound = bind(name) if "." in name else bind(name, "metric")
    assert bound.worst(DIAGONAL) == (None if BY_HAND[name] is None else pytest.approx(BY_HAND[name]))
    if BY_HAND[name] == DIAGONAL:
        assert bound.worst(None) is None


def test_the_worst_is_no_better_than_any_value() -> None:
    """Of every measure: inside its range, and at that end of it which is not the best."""
    for measure in measures():
        worst = bind(measure.id).worst(DIAGONAL)
        if worst is not None:
            assert measure.range[0] <= worst <= measure.range[1]
            assert worst != measure.best()


def write(folder: Path, **cases: tuple[np.ndarray | None, np.ndarray | None]) -> tuple[Path, Path]:
    for side in ("pred", "gt"):
        (folder / side).mkdir(parents=True)
    for name, pair in cases.items():
        for side, array in zip(("pred", "gt"), pair, strict=True):
            if array is not None:
                np.save(folder / side / f"{name}.npy", array)
    return folder / "pred", folder / "gt"


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Return a box, and nothing."""
    box = np.zeros(SHAPE, np.uint8)
    box[2:6, 2:5, 1:4] = 1
    return box, np.zeros(SHAPE, np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Give runs of one case each with all metrics: an empty side, under two rules, a twin, and a missing one."""
    box, nothing = masks()
    where = tmp_path_factory.mktemp("worst")
    how: dict[str, Any] = {"metrics": ALL, "spacing": SPACING, "labels": "fg=1", "jobs": 1}
    found = {}
    for name, (pred, gt) in {"pred_empty": (nothing, box), "gt_empty": (box, nothing), "twin": (box, box)}.items():
        folders = write(where / name, c=(pred, gt))
        for empty in ("undefined", "worst"):
            found[name, empty] = library.evaluate(*folders, empty=empty, **how).to_dict()
    folders = write(where / "missing", c=(None, box), d=(box, box))
    found["missing", "worst"] = library.evaluate(*folders, missing="worst", **how).to_dict()
    found["missing", "fail"] = library.evaluate(*folders, missing="fail", **how).to_dict()
    found["missing", "twin"] = library.evaluate(*write(where / "both", c=(box, box), d=(box, box)), **how).to_dict()
    return found  # type: ignore[return-value]


def values(run: dict[str, Any], case: str = "c") -> dict[tuple[str, str], float | None]:
    record = next(c for c in run["cases"] if c["case"] == case)
    return {(v["label"], v["measure"]): v["value"] for v in record["values"]}


def ranked(run: dict[str, Any], twin: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return the means by which a run is ranked beside its twin."""
    found = rank_runs([Source("run", run), Source("twin", twin)], resampling=Resampling(resamples=2))
    at = found.runs.index("run")
    return {(row.label, row.measure): row.by_mean.score[at] for row in found.rows}


@pytest.mark.parametrize("which", ["pred_empty", "gt_empty"])
def test_one_number_in_every_command(runs, which) -> None:
    """Where a mask is empty and a metric undefined: `evaluate --empty worst`, `gate` and `rank` put in the same."""
    plain, replaced = values(runs[which, "undefined"]), values(runs[which, "worst"])
    ranks = ranked(runs[which, "undefined"], runs["twin", "undefined"])
    perfect, seen = values(runs["twin", "undefined"]), set()
    for (label, name), value in plain.items():
        bound = bind(name, "metric")
        if value is not None:
            assert replaced[label, name] == value, name
            continue
        if bound.measure.reads in ("probability", "class-probabilities"):
            continue  # a hard mask: it is not the emptiness that has no value
        worst = bound.worst(DIAGONAL)
        assert replaced[label, name] == (None if worst is None else pytest.approx(worst)), name
        if bound.measure.better != "none":
            rule = {"measure": name, "label": label, "on_undefined": "worst", "min": -1e9, "max": 1e9}
            verdict = judge_run(parse_rules([rule], "test"), runs[which, "undefined"]).verdicts[-1]
            assert verdict.value == (None if worst is None else pytest.approx(worst)), name
        if worst is not None and perfect[label, name] is not None:  # else no run has a value to rank by
            assert ranks[label, name] == pytest.approx(worst), name
            seen.add(bound.measure.name)
    assert {"mcc", "hd95", "assd", "asd_gt_to_pred", "multiclass_mcc"} <= seen
    assert ("informedness" in seen) is (which == "gt_empty")


def test_a_missing_prediction_has_the_number_of_the_record(runs) -> None:
    """`evaluate --missing worst` and `rank` of the run without the case; what has no worst is that of an empty mask."""
    found, empty = values(runs["missing", "worst"]), values(runs["pred_empty", "undefined"])
    ranks = ranked(runs["missing", "fail"], runs["missing", "twin"])
    perfect = values(runs["missing", "twin"])
    for (label, name), value in found.items():
        bound = bind(name, "metric")
        worst = bound.worst(DIAGONAL)
        if worst is None:
            assert value == empty[label, name], name
        else:
            assert value == pytest.approx(worst), name
            if perfect[label, name] is not None:
                assert ranks[label, name] == pytest.approx((worst + perfect[label, name]) / 2), name
    assert [found["fg", name] for name in ("mcc", "kappa", "informedness", "dice", "specificity")] == [-1, -1, -1, 0, 0]
    assert found["fg", "fpr"] == 1


def test_distances_of_tools_that_count_voxels_are_worst_in_voxels(tmp_path) -> None:
    """A grid of 2 mm by 3 mm, and an hd that a tool gives in voxels: the diagonal of the image is in voxels too."""
    box, nothing = masks()
    folders = write(tmp_path, c=(nothing, box), d=(box, box))
    how: dict[str, Any] = {"metrics": "hd95", "convention": "monai", "spacing": SPACING, "jobs": 1}
    plain = library.evaluate(*folders, empty="undefined", **how).to_dict()
    (record,) = [v for c in plain["cases"] if c["case"] == "c" for v in c["values"]]
    length = {"voxel": math.hypot(*SHAPE), "mm": DIAGONAL}[record["unit"]]
    replaced = library.evaluate(*folders, empty="worst", **how).to_dict()
    assert next(iter(values(replaced).values())) == pytest.approx(length)
    rule = {"measure": record["measure"], "on_undefined": "worst", "stat": "max", "max": 1e9}
    assert judge_run(parse_rules([rule], "test"), plain).verdicts[-1].value == pytest.approx(length)
    missing = library.evaluate(*write(tmp_path / "m", c=(None, box), d=(box, box)), missing="worst", **how).to_dict()
    assert next(iter(values(missing).values())) == pytest.approx(length)


def test_the_command_line_says_the_same(tmp_path) -> None:
    """Of a gt without foreground mcc is -1 in the file, in the gate's verdict and in the ranking."""
    box, nothing = masks()
    folders = write(tmp_path, c=(box, nothing), d=(box, box))
    for name, more in (("a", ()), ("w", ("--empty", "worst"))):
        assert segcli("evaluate", *folders, "-m", "mcc,hd", *more, "-o", tmp_path / f"{name}.json").returncode == 0
    assert values(json.loads((tmp_path / "w.json").read_text()))["foreground", "mcc"] == -1
    rules = tmp_path / "rules.toml"
    rules.write_text('[[gate]]\nmeasure = "mcc"\nstat = "min"\nmin = -0.5\non_undefined = "worst"\n')
    done = segcli("gate", tmp_path / "a.json", "--rules", rules, "-f", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdicts"][-1]["value"] == -1
    twin = write(tmp_path / "t", c=(box[::-1] * 1, nothing), d=(box, box))
    assert segcli("evaluate", *twin, "-m", "mcc,hd", "-o", tmp_path / "b.json").returncode == 0


def test_no_value_for_want_of_faults_is_not_the_worst() -> None:
    """Both masks full: MCC is 0/0. Equal masks otherwise: exactly 1, whatever their sizes."""
    run = made_run({("x", "metric.mcc"): ["zero_denominator"]})
    bound = bind("mcc")
    columns = Columns(as_run(run))
    (cell,) = columns.cells(("x", "metric", "mcc"), list(columns.cases), bound, worst=True)
    assert (cell.value, cell.why) == (None, "zero_denominator")
    run["cases"][0]["counts"]["x"] = {"tp": 5, "fp": 7, "fn": 0, "tn": 0}
    columns = Columns(as_run(run))
    (cell,) = columns.cells(("x", "metric", "mcc"), list(columns.cases), bound, worst=True)
    assert cell.value == -1
    for tp in range(1, 300, 7):
        for tn in (1, 3, 1000, 789, 10**9 + 7):
            assert bound(SimpleNamespace(counts=Counts(tp, 0, 0, tn))) == 1.0
