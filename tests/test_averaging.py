"""How labels become one mean, how the images of a stack become one batch, and what has no such form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from test_cli import run

import segcli
from segcli.errors import UsageError
from segcli.measure.record import measures
from segcli.scoring.means import AVERAGES, weights
from segcli.scoring.values import Scored

Array = NDArray[Any]

#: Three classes on four voxels each; by hand: tp, fp, fn of 1 are 3, 1, 1 and of 2 are 2, 0, 2... see `BY_HAND`.
GT = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 0, 0]])
PRED = np.array([[0, 0, 0, 1], [1, 1, 1, 0], [2, 0, 0, 0]])
# label 1: tp 3, fp 1, fn 1, Dice 6/8; label 2: tp 1, fp 0, fn 1, Dice 2/3; label 3: in neither map
BY_HAND = {
    "macro": (6 / 8 + 2 / 3) / 2,  # 3 is undefined
    "micro": 2 * 4 / (2 * 4 + 1 + 2),
    "weighted": (4 * 6 / 8 + 2 * 2 / 3) / 6,
    "present": (6 / 8 + 2 / 3) / 2,
}


@pytest.mark.parametrize("average", AVERAGES)
def test_metrics_by_hand(average: str) -> None:
    """The mean of Dice over labels, derived by hand from the counts."""
    case = segcli.score(PRED, GT, metrics="dice", labels="a=1,b=2,c=3", average=average)
    assert case.value("dice", "mean") == pytest.approx(BY_HAND[average], rel=1e-15)


def test_present_leaves_out_false_alarms() -> None:
    """A label that gt lacks and the prediction has counts as 0 in macro and not at all in present."""
    means = {a: segcli.score(PRED, np.where(GT == 2, 0, GT), metrics="dice", average=a) for a in AVERAGES}
    values = {a: case.value("dice", "mean") for a, case in means.items()}
    assert values["macro"] == pytest.approx(6 / 8 / 2)
    assert values["present"] == values["weighted"] == pytest.approx(6 / 8)
    assert values["micro"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))


def test_weights() -> None:
    """A weight for each label: none of 0 but where the label is left out."""
    sizes = [4.0, 0.0, 2.0]
    assert weights("macro", sizes) == [1, 1, 1]
    assert weights("weighted", sizes) == sizes
    assert weights("present", sizes) == [1, 0, 1]


def soft_case(seed: int, shape: tuple[int, ...] = (6, 7), classes: int = 3) -> tuple[Array, Array]:
    """Return softmax probabilities (C, *shape) and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(classes, *shape)) * 2
    p = np.exp(z) / np.exp(z).sum(axis=0)
    return p, rng.integers(0, classes, shape)


def loss_mean(case: Scored, name: str, row: str = "mean") -> float:
    """Return a loss's mean row."""
    found = [m.value for m in case.means if (m.kind, m.measure, m.label) == ("loss", name, row)]
    assert found[0] is not None
    return found[0]


def test_micro_dice_is_mae() -> None:
    """Micro-averaged soft Dice of a softmax is 1 - mean p of the true class: no class is balanced at all."""
    p, y = soft_case(1)
    case = segcli.score(p, y, metrics=(), losses="dice:smooth=0,mae", average="micro")
    truth = np.take_along_axis(p, y[None], 0)
    assert loss_mean(case, "dice:smooth=0") == pytest.approx(1 - truth.mean(), rel=1e-12)
    # each voxel misses by 1 - p in its class, and by as much in the others together
    assert loss_mean(case, "mae") == pytest.approx(2 / 3 * (1 - truth.mean()), rel=1e-12)


@given(seed=st.integers(0, 99))
@settings(max_examples=10)
def test_averages_of_losses(seed: int) -> None:
    """Macro, weighted and present means of a loss are those of its channels; the background may be left out."""
    p, y = soft_case(seed, (3, 4), classes=4)
    y[y == 3] = 2  # a channel that gt lacks
    sizes = np.array([np.count_nonzero(y == c) for c in range(4)], dtype=float)
    expected = {"macro": np.ones(4), "weighted": sizes, "present": (sizes > 0).astype(float)}
    for average, weight in expected.items():
        case = segcli.score(p, y, metrics=(), losses="dice", average=average)
        own = np.array([v.value for name in ("background", "1", "2", "3") for v in case.values if v.label == name])
        assert loss_mean(case, "dice") == pytest.approx(float(own @ weight / weight.sum()), rel=1e-12)
        if weight[1:].sum():
            inner = float(own[1:] @ weight[1:] / weight[1:].sum())
            assert loss_mean(case, "dice", "mean without background") == pytest.approx(inner, rel=1e-12)


@given(
    p=arrays(np.float64, (3, 4, 5), elements=st.integers(0, 64).map(lambda k: k / 64)),
    y=arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 1)),
)
@settings(max_examples=15)
def test_batch_against_monai(p: Array, y: Array) -> None:
    """Batch Dice, IoU and Tversky equal MONAI's with batch=True; without it the mean over images is per image."""
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.losses")
    pair = torch.tensor(p)[:, None], torch.tensor(y.astype(float))[:, None]
    for batch in (True, False):
        found = segcli.compare(
            p, y, losses="dice,tversky:fp=0.2:fn=0.8", stack=True, batch_dice=batch, kind="probability"
        )
        values = [row.value for row in found.rows]
        expected = [
            float(monai.DiceLoss(batch=batch)(*pair)),
            float(monai.TverskyLoss(alpha=0.2, beta=0.8, batch=batch)(*pair)),
        ]
        assert values == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_batch_by_hand() -> None:
    """Two images, one with an empty gt: per image a false alarm costs a whole 1, in the batch what it weighs."""
    p = np.array([[[1.0, 0.5]], [[0.25, 0.0]]])
    y = np.array([[[1, 1]], [[0, 0]]])
    # image 1: 1 - 2*1.5/(1.5+2) = 1/7, image 2: 1; batch: 1 - 2*1.5/(1.75+2) = 0.2
    values = {
        batch: segcli.compare(p, y, losses="dice:smooth=0", stack=True, batch_dice=batch).rows[0].value
        for batch in (False, True)
    }
    assert values[False] == pytest.approx((1 / 7 + 1) / 2)
    assert values[True] == pytest.approx(0.2)
    cases = segcli.score(p, y, metrics="dice", losses="dice:smooth=0", stack=True, batch_dice=True)
    assert [c.case for c in cases] == ["gt[0]", "gt[1]", "gt[0..1]"]
    assert cases[2].value("loss.dice:smooth=0") == pytest.approx(0.2)
    assert [[v.kind for v in c.values] for c in cases] == [["metric"], ["metric"], ["loss"]]


def test_every_loss_in_a_batch() -> None:
    """Every loss has a value for a batch, and of an image taken twice it is that of the image."""
    p, y = soft_case(3)
    losses = ",".join(f"{m.name}:smooth=1e-15" if "smooth" in m.params else m.name for m in measures("loss"))
    for channel, truth in ((p[1], (y == 1).astype(np.uint8)), (p, y)):
        alone = segcli.compare(channel, truth, losses=losses)
        batch = segcli.compare(
            np.stack([channel, channel]), np.stack([truth, truth]), losses=losses, stack=True, batch_dice=True
        )
        assert [(r.label, r.measure) for r in alone.rows] == [(r.label, r.measure) for r in batch.rows]
        for one, two in zip(alone.rows, batch.rows, strict=True):
            assert two.value == pytest.approx(one.value, rel=1e-9, abs=1e-12), one.measure
            assert two.optimum == pytest.approx(one.optimum, rel=1e-9, abs=1e-12), one.measure
            if one.share is not None:
                assert two.share is not None
                assert two.share.fp == pytest.approx(one.share.fp, abs=1e-6), one.measure


def test_neighbours_have_no_micro_form() -> None:
    """A loss of neighbourhoods and a metric of surfaces have no micro average: no number, and the reason."""
    p, y = soft_case(4)
    row = next(r for r in segcli.compare(p, y, losses="hd_er", average="micro").rows if r.label == "mean")
    assert row.value is None
    assert "reads neighbours" in row.notes[0]
    case = segcli.score(p, y, metrics="dice,hd95", losses="hd_er", average="micro")
    assert next((m.n, m.value) for m in case.means if m.measure == "hd_er") == (0, None)
    assert [m.n for m in case.means if m.measure.startswith("hd95")] == [0]
    with pytest.raises(UsageError, match="no micro average"):
        segcli.inspect(p, y, "hd_er", average="micro")


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("loss", ["dice", "bce", "hd_dt", "focal_tversky", "combo"])
def test_inspection_adds_up(average: str, loss: str) -> None:
    """The parts of every division add up to the value, which is that of score's mean row."""
    p, y = soft_case(5)
    found = segcli.inspect(p, y, loss, average=average, by="kind,label,component,band,slice")
    assert found.value == pytest.approx(loss_mean(segcli.score(p, y, metrics=(), losses=loss, average=average), loss))
    assert abs(found.residual) <= 1e-9 * abs(found.value)
    for way in ("kind", "label", "band", "slice"):
        assert sum(part.value for part in found.parts if part.by == way) == pytest.approx(found.value, rel=1e-9)


def test_usage() -> None:
    """An average that does not exist and a batch without a stack are refused."""
    for act in (segcli.score, segcli.compare):
        with pytest.raises(UsageError, match="--average mean is not one of macro"):
            act(PRED, GT, average="mean")
        with pytest.raises(UsageError, match="--batch-dice sums over the images of a stack"):
            act(PRED, GT, batch_dice=True)
    with pytest.raises(UsageError, match="has none of the channels"):
        segcli.inspect(np.array([[0.5, 0.25]]), np.array([[0, 0]]), "dice", average="present")


def test_command_line(tmp_path: Path) -> None:
    """Both options reach the result, its spec and its footnotes."""
    for name, array in (("p", PRED), ("g", GT)):
        np.save(tmp_path / f"{name}.npy", array.astype(np.uint8))
    files = str(tmp_path / "p.npy"), str(tmp_path / "g.npy")
    done = run("score", *files, "-m", "dice,hd95", "--average", "micro")
    assert done.returncode == 0
    assert "--average micro: the voxels of all labels pooled" in done.stdout
    assert "hd95: no micro average" in done.stdout
    assert '"average": "micro"' in run("score", *files, "--average", "micro", "-f", "json").stdout
    assert '"average": "weighted"' in run("compare", *files, "--average", "weighted", "-f", "json").stdout
    assert run("compare", *files, "--batch-dice").returncode == 2
