"""Metrics of probabilities against scikit-learn, torch and plain counting; what they say of hard masks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from shapes import shape

import segcli
from segcli.errors import InputError
from segcli.evidence import ranks
from segcli.evidence.case import Case
from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.masks.labels import Label
from segcli.measure.notation import bind

Array = NDArray[Any]

ASKED = ["auc", "average_precision", "entropy", "brier", "log_loss", "soft_dice", "ece", "mce", "best_threshold",
         "dice_at_best", "ece:binning=mass", "ece:bins=7:binning=mass", "ece:bins=4"]  # fmt: skip


@st.composite
def maps(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw a map with many ties, few or none, in single or double precision, and a mask with both classes."""
    form = draw(st.sampled_from([(2, 3), (1, 9), (7, 8), (3, 4, 5)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 64, 255, 0]))
    p = random.integers(0, levels + 1, form) / levels if levels else random.random(form)
    p = p.astype(draw(st.sampled_from([np.float32, np.float64])))
    y = (random.random(form) < p * draw(st.sampled_from([0.3, 1.0]))).astype(np.uint8)
    y.flat[0], y.flat[-1] = 0, 1
    return p, y


few = settings(max_examples=60)


def scored(p: Array, y: Array, metrics: list[str], **how: Any) -> segcli.Scored:
    """Return the metrics of a map, whatever its numbers look like."""
    return segcli.score(p, y, metrics=metrics, kind="probability", **how)


# --- other tools --------------------------------------------------------------------------------


@given(maps())
@few
def test_scikit_learn(drawn: tuple[Array, Array]) -> None:
    """Ranking, scores and calibration are those of scikit-learn, ties included."""
    tool = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    p, y = drawn
    flat, truth = p.ravel().astype(np.float64), y.ravel()
    found = scored(p, y, [*ASKED, "log_loss:clip=1e-7"])
    assert found.value("auc") == pytest.approx(tool.roc_auc_score(truth, flat), rel=1e-12)
    assert found.value("average_precision") == pytest.approx(tool.average_precision_score(truth, flat), rel=1e-12)
    assert found.value("brier") == pytest.approx(tool.brier_score_loss(truth, flat), rel=1e-12)
    clipped = np.clip(flat, 1e-7, 1 - 1e-7)
    assert found.value("log_loss:clip=1e-7") == pytest.approx(tool.log_loss(truth, clipped, labels=[0, 1]), rel=1e-9)
    share, mean = calibration.calibration_curve(truth, flat, n_bins=4)
    (table,) = scored(p, y, ["reliability:bins=4"]).tables
    ours = [row[4:6] for row in table.rows if row[3]]
    np.testing.assert_allclose(np.array(ours, float).T, [mean, share], rtol=1e-12, atol=1e-15)
    sizes = np.array([row[3] for row in table.rows if row[3]])
    gaps = np.abs(mean - share)
    assert found.value("ece:bins=4") == pytest.approx((sizes * gaps).sum() / sizes.sum(), rel=1e-12, abs=1e-15)


@given(maps(), st.sampled_from([3, 6, 15]))
@few
def test_scikit_learn_bins_of_equal_mass(drawn: tuple[Array, Array], bins: int) -> None:
    """Bins of equal mass are those of scikit-learn's quantiles, with ties where a cut falls between two voxels."""
    calibration = pytest.importorskip("sklearn.calibration")
    p, y = drawn
    flat, truth = p.ravel().astype(np.float64), y.ravel()
    if any(k * (flat.size - 1) % bins == 0 for k in range(1, bins)):
        return  # its cut is a voxel's own value there but for rounding, on either side of it
    share, mean = calibration.calibration_curve(truth, flat, n_bins=bins, strategy="quantile")
    (table,) = scored(p, y, [f"reliability:bins={bins}:binning=mass"]).tables
    ours = np.array([row[4:6] for row in table.rows], float)
    np.testing.assert_allclose(ours.T, [mean, share], rtol=1e-12, atol=1e-15)


@given(maps())
@few
def test_scikit_learn_thresholds(drawn: tuple[Array, Array]) -> None:
    """The best dice is the best F1 of scikit-learn's curve, where that leaves out no more than zeros."""
    tool = pytest.importorskip("sklearn.metrics")
    p, y = drawn
    precision, recall, thresholds = tool.precision_recall_curve(y.ravel(), p.ravel())
    inside = thresholds > 0  # a mask of everything, zeros included, is of no threshold in [0, 1)
    both = np.stack([precision[:-1][inside], recall[:-1][inside]])
    f1 = 2 * both.prod(axis=0) / np.maximum(both.sum(axis=0), 1e-300)
    assert scored(p, y, ["dice_at_best"]).value("dice_at_best") == pytest.approx(f1.max(initial=0), rel=1e-12)


@given(maps())
@few
def test_torch(drawn: tuple[Array, Array]) -> None:
    """Log loss is torch's cross-entropy, from probabilities and from logits; entropy is its Bernoulli's."""
    torch = pytest.importorskip("torch")
    p, y = drawn
    inner = torch.from_numpy(np.clip(p.astype(np.float64), 1e-6, 1 - 1e-6))
    z, truth = torch.logit(inner), torch.from_numpy(y.astype(np.float64))
    expected = float(torch.nn.functional.binary_cross_entropy(inner, truth))
    assert scored(inner.numpy(), y, ["log_loss"]).value("log_loss") == pytest.approx(expected, rel=1e-9)
    logits = segcli.score(z.numpy(), y, metrics=["log_loss"], from_logits=True).value("log_loss")
    assert logits == pytest.approx(float(torch.nn.functional.binary_cross_entropy_with_logits(z, truth)), rel=1e-9)
    doubt = float(torch.distributions.Bernoulli(inner).entropy().mean()) / np.log(2)
    assert scored(inner.numpy(), y, ["entropy"]).value("entropy") == pytest.approx(doubt, rel=1e-9)


#: torchmetrics 1.9.0, `binary_calibration_error` with 10 bins (`l1`, `max`), `multiclass_calibration_error` with 4
#: bins (`l1`), of the map below; no value lies on an edge, which torchmetrics gives to the bin above.
RECORDED = (np.array([[0.03, 0.12, 0.37, 0.41, 0.44, 0.58], [0.63, 0.66, 0.71, 0.83, 0.97, 0.99]]),
            np.array([[0, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1]], np.uint8))  # fmt: skip


def test_torchmetrics_recorded() -> None:
    """Calibration errors are those that torchmetrics gave."""
    found = scored(*RECORDED, ["ece:bins=10", "mce:bins=10", "top_label_ece:bins=4"])
    assert found.value("ece:bins=10") == pytest.approx(0.191666666667, abs=1e-6)
    assert found.value("mce:bins=10") == pytest.approx(0.63, abs=1e-6)
    assert found.value("top_label_ece:bins=4") == pytest.approx(0.143333256, abs=1e-6)


# --- what is stated -----------------------------------------------------------------------------


@given(maps(), st.integers(1, 8))
@few
def test_dice_curve_is_what_thresholds_give(drawn: tuple[Array, Array], steps: int) -> None:
    """Each row of the curve, and the best threshold, give what --threshold gives."""
    p, y = drawn
    found = scored(p, y, [f"dice_curve:steps={steps}", "best_threshold", "dice_at_best"])
    best, most = found.value("best_threshold"), found.value("dice_at_best")
    assert best is not None
    assert scored(p, y, ["dice"], threshold=best).value("dice") == most
    for threshold, *shares in found.tables[0].rows:
        at = scored(p, y, ["dice", "precision", "sensitivity"], threshold=threshold)
        assert shares == [v.value for v in at.values]
        assert shares[0] <= most
        assert shares[0] < most or threshold >= best


@given(maps(), st.integers(0, 99))
@few
def test_order_and_ignored_voxels(drawn: tuple[Array, Array], seed: int) -> None:
    """Values depend on neither the order of voxels nor on ignored ones, to the last bit of what is ranked."""
    p, y = drawn
    order = np.random.default_rng(seed).permutation(p.size)
    found = scored(p, y, ASKED).values
    moved = scored(p.ravel()[order].reshape(p.shape), y.ravel()[order].reshape(y.shape), ASKED).values
    wide = np.concatenate([p, 1 - p], axis=0), np.concatenate([y, np.full_like(y, 9)], axis=0)
    hidden = scored(*wide, ASKED, labels="fg=1", ignore_label=9).values
    for ours, theirs, kept in zip(found, moved, hidden, strict=True):
        exact = ours.measure.split(":")[0] not in ("brier", "log_loss", "soft_dice")
        assert ours.value == (theirs.value if exact else pytest.approx(theirs.value, rel=1e-12))
        assert ours.value == (kept.value if exact else pytest.approx(kept.value, rel=1e-12))


@given(maps())
@few
def test_rising_functions_change_no_ranking(drawn: tuple[Array, Array]) -> None:
    """What ranks voxels is the same for a map and for its square root; the mirrored map has one minus the area."""
    p, y = drawn
    p = p.astype(np.float32).astype(np.float64)
    rising = np.sqrt(p)
    if len(np.unique(rising)) == len(np.unique(p)):
        for name in ("auc", "average_precision", "dice_at_best"):
            assert scored(rising, y, [name]).value(name) == scored(p, y, [name]).value(name)
    mirrored = scored(1 - p, y, ["auc"]).value("auc")
    if len(np.unique(1 - p)) == len(np.unique(p)):
        assert mirrored == pytest.approx(1 - (scored(p, y, ["auc"]).value("auc") or 0), abs=1e-12)


@given(maps())
@few
def test_relations(drawn: tuple[Array, Array]) -> None:
    """The relations that the docstrings state hold."""
    p, y = drawn
    found = scored(p, y, [*ASKED, "mce:bins=4", "dice", "auc_single", "balanced_accuracy"])
    (loss,) = segcli.score(p, y, metrics=(), losses="dice:smooth=0", kind="probability").values
    assert found.value("soft_dice") == pytest.approx(1 - (loss.value or 0), abs=1e-12)
    assert (found.value("ece:bins=4") or 0) <= (found.value("mce:bins=4") or 0) + 1e-15
    assert (found.value("dice_at_best") or 0) >= (found.value("dice") or 0)
    assert found.value("auc_single") == found.value("balanced_accuracy")
    constant = np.full(p.shape, y.mean())
    assert scored(constant, y, ["ece"]).value("ece") == pytest.approx(0, abs=1e-12)
    assert scored(constant, y, ["average_precision"]).value("average_precision") == pytest.approx(y.mean(), rel=1e-12)


@given(maps(), st.integers(1, 20), st.sampled_from(["width", "mass"]))
@few
def test_bins_hold_every_voxel_once(drawn: tuple[Array, Array], bins: int, binning: str) -> None:
    """Bins follow each other from 0 to 1 and hold every voxel; those of equal mass are not empty."""
    p, y = drawn
    (table,) = scored(p, y, [f"reliability:bins={bins}:binning={binning}"]).tables
    columns = list(zip(*table.rows, strict=True))
    exact = p.astype(np.float64)  # an edge is not rounded to single precision
    assert columns[0] == tuple(range(1, len(table.rows) + 1))
    assert columns[1][1:] == columns[2][:-1]
    assert (columns[1][0], columns[2][-1]) == (0, 1)
    for number, low, high, count, mean, share, gap in table.rows:
        inside = ((exact > low) | (number == 1)) & (exact <= high)
        assert count == inside.sum()
        if count:
            assert mean == pytest.approx(exact[inside].mean(), rel=1e-12)
            assert share == pytest.approx(y[inside].mean(), rel=1e-12)
            assert gap == pytest.approx(mean - share, abs=1e-12)
    assert len(table.rows) == bins if binning == "width" else all(columns[3])


@given(p=arrays(np.float64, 40, elements=st.floats(0, 1)), y=arrays(bool, 40))
@few
def test_ranks_are_a_count(p: Array, y: Array) -> None:
    """Ranks are the distinct values with their voxels: for tiny, denormal and negative zeros too."""
    p[0], p[1] = -0.0, 5e-324
    for given_as in (p, p.astype(np.float32).astype(np.float64), p[:0]):
        found = ranks.Ranks.of(given_as, y[: given_as.size])
        values, counts = np.unique(given_as, return_counts=True)
        np.testing.assert_array_equal(found.values, values)
        np.testing.assert_array_equal(found.counts, counts)
        np.testing.assert_array_equal(found.hits, [int((y[: given_as.size] & (given_as == v)).sum()) for v in values])


def test_ranks_without_numba() -> None:
    """A small map needs no Numba, and has the same values as with it."""
    code = (
        "import sys, numpy as np, segcli; r = np.random.default_rng(0)\n"
        "p = r.integers(0, 9, (8, 9)) / 8; y = r.random((8, 9)) < p\n"
        "ask = lambda: [v.value for v in segcli.score(p, y.astype('u1'), metrics='probabilistic').values]\n"
        "one = ask(); assert 'numba' not in sys.modules; import numba; assert one == ask() and None not in one"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- several channels, soft truths, hard masks ----------------------------------------------------


def four_classes() -> tuple[Array, Array]:
    """Return probabilities of four classes and a label map that has them all."""
    random = np.random.default_rng(7)
    y = random.integers(0, 4, (9, 10)).astype(np.uint8)
    z = random.standard_normal((4, 9, 10)) + 1.5 * (y == np.arange(4)[:, None, None])
    return np.exp(z) / np.exp(z).sum(axis=0), y


def test_channels_are_one_against_the_rest() -> None:
    """Each label has the values of its own channel; the mean row is theirs, the micro one of all voxels pooled."""
    p, y = four_classes()
    for average in ("macro", "micro"):
        found = segcli.score(p, y, metrics=ASKED, average=average)
        alone = [scored(p[c], (y == c).astype(np.uint8), ASKED) for c in (1, 2, 3)]
        pooled = scored(np.concatenate(p[1:]), np.concatenate([y == c for c in (1, 2, 3)]).astype(np.uint8), ASKED)
        for name in ASKED:
            own = [one.value(name) for one in alone]
            assert [found.value(name, c) for c in (1, 2, 3)] == pytest.approx(own, rel=1e-12)
            mean = np.mean([v for v in own if v is not None]) if average == "macro" else pooled.value(name)
            assert found.value(name, "mean") == pytest.approx(mean, rel=1e-12), name


def test_top_label_of_four_classes() -> None:
    """The likeliest class is binned by its probability, counted voxel by voxel."""
    p, y = four_classes()
    bins: dict[int, list[float]] = {}
    for at in np.ndindex(y.shape):
        column = p[:, at[0], at[1]]
        bins.setdefault(int(np.ceil(column.max() * 15)), []).append(column.max() - (column.argmax() == y[at]))
    expected = sum(abs(sum(gaps)) for gaps in bins.values()) / y.size
    assert segcli.score(p, y, metrics=["top_label_ece"]).value("top_label_ece") == pytest.approx(expected, rel=1e-12)


def test_soft_truth() -> None:
    """What ranks and bins takes a soft truth as its mask above 1/2; what takes differences, as it is."""
    p, y = np.array([[0.125, 0.75, 0.875, 0.25]]), np.array([[0.25, 0.625, 1.0, 0.125]])
    hard = (y > 0.5).astype(np.uint8)
    soft = segcli.score(p, y, metrics=ASKED, soft_gt=True)
    plain = scored(p, hard, ASKED)
    for name in ASKED:
        same = name not in ("brier", "log_loss", "soft_dice")
        assert (soft.value(name) == plain.value(name)) == same
    assert soft.value("brier") == pytest.approx((0.125**2 * 4) / 4)


def test_hard_masks_have_no_values() -> None:
    """A hard mask has no value and no table, and says why; what reads masks still has one."""
    found = segcli.score(shape("hook_pred"), shape("hook_gt"), metrics="probabilistic,reliability,dice_curve")
    assert found.tables == []
    for value in found.values:
        if value.measure == "auc_single":
            assert value.value == pytest.approx(19 / 24)
        else:
            assert (value.value, value.status, value.why) == (None, "undefined", "hard_mask")
    pair = Case.of(shape("hook_pred"), shape("hook_gt"), [Label("fg", None)]).pair(0)
    with pytest.raises(InputError, match="a hard mask has no probabilities"):
        bind("auc")(pair)


def test_no_voxel_that_counts() -> None:
    """Where no voxel counts nothing has a value, and no bin is made."""
    p, y, none = np.full((2, 3), 0.25), np.zeros((2, 3), np.uint8), np.zeros((2, 3), bool)
    case = Case.of(y, y, [Label("fg", None)], valid=none)
    case.probabilities = SimpleNamespace(
        soft=lambda _: SoftPair.of(p, y, valid=none),
        classes=lambda: SoftClasses.of(np.stack([1 - p, p]), np.stack([1 - y, y]), valid=none),
    )
    assert [bind(name)(case.pair(0)) for name in ASKED] == [None] * len(ASKED)
    assert bind("top_label_ece")(case.classes) is None
    assert bind("reliability")(case.pair(0)).rows == []
    assert {row[1:] for row in bind("dice_curve")(case.pair(0)).rows} == {(None, None, None)}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "segcli", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_command_line_of_hard_masks(tmp_path: Path, average: str) -> None:
    """`-m all` and tables work on hard masks: dashes, and a sentence for why there is no value and no table."""
    gt = np.zeros((6, 8), np.uint8)
    gt[1:4, 1:4], gt[1:4, 4:7] = 1, 2
    np.save(tmp_path / "gt.npy", gt)
    np.save(tmp_path / "pred.npy", np.roll(gt, 1, axis=1))
    words = ["score", str(tmp_path / "pred.npy"), str(tmp_path / "gt.npy"), "-m", "all,reliability"]
    done = run(*words, "--average", average)
    assert done.returncode == 0, done.stderr
    assert "1, 2: the prediction is a hard mask, without probabilities; auc, " in done.stdout
    assert "reliability:bins=15: no table, as the prediction is a hard mask, without probabilities" in done.stdout
    assert "auc" not in " ".join(line for line in done.stdout.splitlines() if "no micro average" in line)
    values = json.loads(run(*words, "-f", "json").stdout)["cases"][0]["values"]
    assert {v["measure"] for v in values if v.get("why") == "hard_mask"} >= {
        "auc",
        "ece:bins=15",
        "top_label_ece:bins=15",
    }
    failed = run(*words, "--min", "auc=0.9")
    assert failed.returncode == 1
    assert "undefined (hard mask)" in failed.stdout


def test_threshold_is_printed() -> None:
    """The best threshold is a share, not a count, wherever it is printed."""
    from segcli.measure.record import find
    from segcli.report.table import number

    assert number(0.4, find("best_threshold")) == "0.400"
    assert number(1482113, find("voxels_gt")) == "1 482 113"


# --- real maps --------------------------------------------------------------------------------------


@needs_shared("data", "reference.json")
@pytest.mark.parametrize(("pred", "gt"), [("isles_lesion/pred_prob.nii.gz", "isles_lesion/gt.nii.gz"),
                                          ("mni_gm_prob/pred_gm_prob_u8scaled.nii.gz", "mni_gm_prob/gt_gm_mask.nii.gz"),
                                          ("nuclei2d/prob.npy", "nuclei2d/gt_binary_0_255.png")])  # fmt: skip
def test_real_maps(pred: str, gt: str) -> None:
    """On real maps ranking and scores are scikit-learn's."""
    tool = pytest.importorskip("sklearn.metrics")
    from segcli.masks.asked import reading_of
    from segcli.scoring.loading import load

    files = [SHARED / "data" / name for name in (pred, gt)]
    (loaded,) = load(*files, reading_of())
    soft = loaded.soft(loaded.labels[0])
    found = segcli.score(*files, metrics="probabilistic")
    assert found.value("auc") == pytest.approx(tool.roc_auc_score(soft.y, soft.p), rel=1e-12)
    assert found.value("average_precision") == pytest.approx(tool.average_precision_score(soft.y, soft.p), rel=1e-12)
    assert found.value("brier") == pytest.approx(tool.brier_score_loss(soft.y, soft.p), rel=1e-12)
