"""Comparing losses: sweeps, rankings and how they agree."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
from scipy import stats

import segcli
from segcli.errors import UsageError
from segcli.explain.rankings import Row, agreements_of, kendall_tau, rankings_of
from segcli.measure.notation import bind
from segcli.measure.sweep import sweep


def test_a_sweep_has_its_ends_and_exact_steps():
    """0.3..0.9/0.1 is seven values, 0.3 and 0.9 among them, without binary dust."""
    names = [b.name for b in sweep("tversky:fn=0.3..0.9/0.1")]
    assert names == [
        f"tversky:fn={v}" if v != "0.7" else "tversky" for v in ("0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9")
    ]
    assert [b.params["fn"] for b in sweep("tversky:fn=0..1/0.4")] == [0.0, 0.4, 0.8, 1.0]
    assert [b.params["gamma"] for b in sweep("focal:gamma=1..3/1")] == [1.0, 2.0, 3.0]


def test_one_parameter_may_depend_on_the_swept_one():
    """`fp=1-fn` keeps the sum at 1; other parameters stay as they are given."""
    found = sweep("tversky:fn=0.3..0.9/0.3:fp=1-fn:smooth=1")
    assert [(b.params["fn"], b.params["fp"], b.params["smooth"]) for b in found] == [
        (0.3, 0.7, 1),
        (0.6, 0.4, 1),
        (0.9, 0.1, 1),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "tversky", "tversky:fn=0.3", "tversky:fn=0.3..0.9", "tversky:fn=0.9..0.3/0.1", "tversky:fn=0..1/0",
        "tversky:fn=0..1/-1", "tversky:fn=a..b/c", "tversky:fn=0..1/1:fp=0..1/1", "tversky:fn=0..1/1e-9",
        "tverski:fn=0..1/0.5", "tversky:gn=0..1/0.5", "tversky:fn=-1..1/1", "tversky:fn=0..inf/1",
    ],
)  # fmt: skip
def test_sweeps_that_cannot_be(text):
    """No range, two ranges, a step that leads nowhere, unknown names and values outside the domain."""
    with pytest.raises(UsageError):
        sweep(text)


def test_tau_is_scipys_and_undefined_without_a_ranking():
    """Kendall's tau-b with ties; `None` where all are equal."""
    a, b = [1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 1.0, 3.0, 3.0, 4.0]
    assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
    assert kendall_tau([1, 2, 3], [6, 5, 4]) == -1
    assert kendall_tau([1, 1], [1, 2]) is None
    assert kendall_tau([1], [1]) is None


def predictions() -> tuple[list[np.ndarray], np.ndarray]:
    """Return four ever worse predictions of one mask."""
    gt = np.zeros((20, 20), np.uint8)
    gt[5:15, 5:15] = 1
    return [np.clip(np.roll(gt, shift, axis=0) * 0.8 + 0.1, 0, 1) for shift in range(4)], gt


def test_losses_that_follow_a_metric_agree_with_it():
    """Of ever larger shifts every loss says what Dice says: tau is 1, also with a distance (lower is better)."""
    preds, gt = predictions()
    found = segcli.compare(preds, gt, losses="dice,bce,hd_dt", rank_by="dice,hd")
    assert {(a.loss, a.metric) for a in found.agreements} == {
        (loss, metric) for loss in ("dice", "bce", "hd_dt") for metric in ("dice", "hd:surface=surfel")
    }
    assert all(a.tau == pytest.approx(1) and a.n == 4 for a in found.agreements)
    assert found.rankings[0].order == [["pred 1"], ["pred 2"], ["pred 3"], ["pred 4"]]


def test_an_undefined_metric_leaves_its_prediction_out():
    """A prediction whose distance is undefined takes no part in the ranking by that distance."""
    preds, gt = predictions()
    found = segcli.compare([*preds, np.zeros_like(preds[0])], gt, losses="dice", rank_by="hd")
    assert found.agreements[0].n == 4


def test_rank_by_needs_several_predictions():
    """One prediction has no ranking."""
    preds, gt = predictions()
    with pytest.raises(UsageError, match="several"):
        segcli.compare(preds[0], gt, rank_by="dice")


def test_a_measure_without_a_direction_ranks_nothing():
    """A volume is neither good nor bad: that is bad usage, and no internal error."""
    gt = np.zeros((6, 6), np.uint8)
    gt[2:4, 2:5] = 1
    with pytest.raises(UsageError, match="--rank-by volume_pred: no direction"):
        segcli.compare([gt, gt], gt, rank_by="volume_pred")


@pytest.mark.parametrize("unit", [1.0, 1e-9, 3e7])
def test_rounding_ranks_nothing(unit):
    """Values that differ in their last bits share a place and are a tie to Kendall's tau; others are told apart."""
    hd, dice = bind("hd"), bind("metric.dice")
    values = {"a": (3.0, 0.5), "b": (np.nextafter(3.0, 4), 0.5 + 2e-16), "c": (3.1, 0.5 - 1e-6), "d": (7.0, 0.4)}
    rows = [
        Row(pred, "x", "metric", bound.name, value * (unit if bound is hd else 1))
        for pred, pair in values.items()
        for bound, value in zip((hd, dice), pair, strict=True)
    ]
    assert [r.order for r in rankings_of(rows, [hd, dice])] == [[["a", "b"], ["c"], ["d"]]] * 2
    loss = bind("loss.dice")
    rows += [Row(pred, "x", "loss", "dice", 1 - d, optimum=0.0, excess=1 - d) for pred, (_, d) in values.items()]
    assert [a.tau for a in agreements_of(rows, [loss], [hd, dice])] == [1, 1]


def test_the_command_line_sweeps_and_ranks(tmp_path):
    """`--sweep` and `--rank-by` reach the table and the JSON, which its schema allows."""
    preds, gt = predictions()
    files = []
    for name, array in [*((f"p{i}", p) for i, p in enumerate(preds)), ("gt", gt)]:
        np.save(tmp_path / f"{name}.npy", array)
        files.append(str(tmp_path / f"{name}.npy"))
    command = [sys.executable, "-m", "segcli", "compare", *files, "--losses", "dice", "--sweep", "focal:gamma=0..2/1",
               "--rank-by", "dice"]  # fmt: skip
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "focal:gamma=0" in table
    assert "Kendall's tau with" in table
    document = json.loads(subprocess.run([*command, "-f", "json"], capture_output=True, text=True, check=True).stdout)
    schema = json.loads(
        subprocess.run(
            [sys.executable, "-m", "segcli", "schema", "compare"], capture_output=True, text=True, check=True
        ).stdout
    )
    jsonschema.validate(document, schema)
    assert {a["loss"] for a in document["agreements"]} == {"dice", "focal", "focal:gamma=0", "focal:gamma=1"}


def sentence(pred: np.ndarray, gt: np.ndarray, loss: str, **options) -> str:
    """Return what is remarked on the last row of one loss."""
    return "; ".join(segcli.compare(pred, gt, losses=loss, **options).rows[-1].notes)


def test_a_far_island_is_told():
    """One false blob far from the truth makes most of the distance loss, and little of Dice: only the first is told."""
    gt = np.zeros((60, 60), np.uint8)
    gt[5:25, 5:25] = 1
    pred = np.clip(gt * 0.98 + 0.01, 0, 1)
    pred[50:53, 50:53] = 0.95
    assert sentence(pred, gt, "hd_dt").startswith("1 false island of 9 voxels makes ")
    assert sentence(pred, gt, "dice") == ""
    missed = np.clip(gt * 0.98 + 0.01, 0, 1)
    gt[50:53, 50:53] = 1
    assert sentence(missed, gt, "hd_dt").startswith("1 missed island of 9 voxels")


def test_saturation_and_hard_masks_are_told():
    """Probabilities of exactly 0 and 1 have no gradient; a label map never had one."""
    gt = np.zeros((9, 9), np.uint8)
    gt[2:6, 2:6] = 1
    hard = np.roll(gt, 1, axis=0)
    saturated = hard.astype(float)
    saturated[0, 0] = 1e-9  # a fraction: this is a probability map, all of it beyond the clip
    assert sentence(saturated, gt, "bce").startswith("saturated")
    assert "hard mask" in sentence(hard, gt, "bce")
    assert sentence(np.clip(saturated, 0.1, 0.9), gt, "bce") == ""


def test_the_plateau_of_multi_class_dice_is_told():
    """With only the background right, mean Dice stands near (C-1)/C."""
    gt = np.zeros((20, 20), np.uint8)
    gt[2:4, 2:4], gt[8:10, 8:10] = 1, 2
    pred = np.stack([np.full(gt.shape, v) for v in (0.98, 0.01, 0.01)])
    rows = {r.label: r for r in segcli.compare(pred, gt, losses="dice").rows}
    assert rows["mean"].value == pytest.approx(2 / 3, abs=0.03)
    assert rows["mean"].notes == ("a plateau near 2/3: only the background is right",)


def test_a_second_softmax_is_suspected():
    """After two softmaxes none of C probabilities exceeds e/(e+C-1); one is no ground for suspicion."""
    rng = np.random.default_rng(2)
    gt = rng.integers(0, 3, (8, 8)).astype(np.uint8)
    z = 8 * (gt == np.arange(3)[:, None, None]) + rng.normal(size=(3, 8, 8))
    once = np.exp(z) / np.exp(z).sum(axis=0)
    twice = np.exp(once) / np.exp(once).sum(axis=0)
    assert not [n for n in segcli.score(once, gt).notes if "softmax" in n.text]
    (note,) = [n for n in segcli.score(twice, gt).notes if "softmax" in n.text]
    assert note.level == "warning"
    (note,) = [n for n in segcli.score(once, gt, from_logits=True).notes if "not logits" in n.text]
    assert note.level == "warning"
