"""What is said of a loss at pred = gt: whether that is its least, and whether it sees the prediction at all."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from test_attribution import VARIANTS
from test_losses import loss_of

import segcli
from segcli.evidence.classes import SoftClasses
from segcli.evidence.soft import SoftPair
from segcli.explain.blindness import is_blind
from segcli.measure.record import BoundMeasure, measures
from segcli.report.inspection import text as printed

Array = NDArray[np.float64]


def evidence(bound: BoundMeasure, p: Array, y: Array) -> SoftPair | SoftClasses:
    """Return a pair, or for a loss over all classes the background and the object."""
    if not bound.over_classes:
        return SoftPair.of(p, y)
    return SoftClasses.of(np.stack([1 - p, p]), np.stack([1 - y, y]))


# --- the least ----------------------------------------------------------------------------------

PROVEN = [text for text in VARIANTS if loss_of(text).measure.least]


@pytest.mark.parametrize("text", PROVEN)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_nothing_is_below_what_is_proven_the_least(text: str, data: st.DataObject) -> None:
    """Of a hard gt, and of a soft one where the record says so, against all kinds of predictions."""
    bound = loss_of(text)
    shape = data.draw(st.sampled_from([(1, 2), (4, 5), (3, 2, 4)]))
    some = st.sampled_from([0.0, 1e-9, 1e-3, 0.2, 0.5, 0.51, 0.9, 1 - 1e-9, 1.0]) | st.floats(0, 1)
    hard = bound.measure.least == "hard gt"
    y = data.draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0]) if hard else some))
    p = data.draw(arrays(np.float64, shape, elements=some))
    near = np.clip(y + data.draw(st.sampled_from([0.0, 1e-6, 1e-2, 0.1])) * (0.5 - p), 0, 1)
    for prediction in (p, near, (y > 0.5).astype(float)):
        at = evidence(bound, prediction, y)
        least = bound(bound.perfect(at))
        assert bound.is_least(least, hard_gt=hard or bool(((y == 0) | (y == 1)).all()))
        assert bound(at) >= least - 1e-12 * max(1, abs(least))


#: No proof is filed for these, and no prediction is known to have less: of poly1 only eps < 0 has one, by the clip.
OPEN = {"mcc", "poly1", "shape_aware"}


def some_pairs() -> list[tuple[Array, list[Array]]]:
    """Return ground truths, hard and soft, with predictions of each."""
    random = np.random.default_rng(2)
    block = np.zeros((8, 9))
    block[2:6, 3:7] = 1
    ragged = block.copy()
    ragged[1, 4] = ragged[6, 6] = 1
    found = []
    for y in (block, ragged, 0.7 * block + 0.1, random.random((8, 9)), 0.2 + 0 * block):
        flat = [np.full(y.shape, v) for v in (0.0, 0.3, 1.0)]
        moved = [np.clip(y + step, 0, 1) for step in (-0.1, -0.01, 0.01, 0.1)]
        found.append((y, [*flat, *moved, (y > 0.5).astype(float), y**2, y**0.5, np.clip(1.5 * y - 0.25, 0, 1)]))
    return found


@pytest.mark.parametrize("name", [m.name for m in measures("loss")])
def test_what_is_not_claimed_is_not_so(name: str) -> None:
    """Where no least is claimed of a soft gt, or of a hard one, a prediction has less than pred = gt."""
    bound = loss_of(name)
    for hard in (True, False):
        claimed, beaten = True, False
        for y, predictions in some_pairs():
            if hard == bool(((y == 0) | (y == 1)).all()):
                least = bound(bound.perfect(evidence(bound, y, y)))
                claimed = claimed and bound.is_least(least, hard_gt=hard)
                beaten = beaten or any(bound(evidence(bound, p, y)) < least - 1e-9 for p in predictions)
        assert beaten != claimed or (name in OPEN and hard)


def test_words_for_pred_equal_to_gt() -> None:
    """The least only where that is proven, else the value at pred = gt; less than that is said too."""
    block, soft = some_pairs()[0][0], some_pairs()[3][0]
    assert printed(segcli.inspect(block, block, "dice", kind="probability")).startswith("dice 0: the least it can be")
    of_block = printed(segcli.inspect(block, block, "active_contour", kind="probability"))
    assert of_block.endswith(": its value at pred = gt, nothing to divide")
    options: dict[str, Any] = {"kind": "probability", "soft_gt": True}
    for loss, words in {"dice": "its value at pred = gt", "bce": "the least it can be for this gt"}.items():
        assert printed(segcli.inspect(soft, soft, loss, **options)).endswith(f": {words}, nothing to divide")
    rounded = printed(segcli.inspect((soft > 0.5).astype(float), soft, "dice", **options)).splitlines()
    assert " at pred = gt - 0." in rounded[0]
    assert rounded[1] == "less than at pred = gt, which is not the least of this loss"
    (row,) = segcli.compare((soft > 0.5).astype(float), soft, losses="dice", **options).rows
    assert row.notes == ("less than at pred = gt, which is not the least of this loss",)
    smoothed = printed(segcli.inspect(block, block, "bce:label_smoothing=0.1", kind="probability"))
    assert " at pred = smoothed gt + " in smoothed.splitlines()[0]


# --- blind --------------------------------------------------------------------------------------


def truths() -> dict[str, Array]:
    """Return an empty gt, a full one, and one with an object."""
    empty = np.zeros((9, 10))
    block = empty.copy()
    block[2:6, 3:8] = 1
    return {"empty": empty, "full": empty + 1, "block": block}


#: From the formulas: no boundary, nothing to weigh by, no variance of the gt, no skeleton where there is no outside.
BLIND = {
    "empty": {"boundary", "hd_dt_onesided", "balanced_bce", "skeleton_recall", "mcc"},
    "full": {"boundary", "hd_dt_onesided", "balanced_bce", "weighted_bce", "mcc", "cldice"},
    "block": set(),
}


@pytest.mark.parametrize("name", [m.name for m in measures("loss")])
@pytest.mark.parametrize("truth", BLIND)
def test_blind_losses(name: str, truth: str) -> None:
    """By what it gives for other predictions, not by its name."""
    y = truths()[truth]
    bound = loss_of(name)
    p = np.random.default_rng(1).random(y.shape)
    assert is_blind(bound, evidence(bound, p, y)) == (name in BLIND[truth])


@pytest.mark.parametrize("name", sorted(BLIND["empty"]))
def test_a_blind_loss_says_so(name: str) -> None:
    """In compare and in inspect, without the word saturated; a right prediction too."""
    y = truths()["empty"].astype(np.uint8)
    for p in (0.2 + np.random.default_rng(1).random(y.shape) / 2, 0.0 * y):
        options: dict[str, Any] = {"kind": "probability", "labels": "fg=1"}
        (row,) = segcli.compare(p, y, losses=name, **options).rows
        assert "blind: the same for every prediction of this gt" in row.notes
        assert not any("saturated" in note for note in row.notes)
        first, *warnings = printed(segcli.inspect(p, y, name, **options)).splitlines()
        assert first.endswith(": blind: the same for every prediction of this gt, nothing to divide")
        assert all(line.startswith("warning: ") for line in warnings)


def test_what_one_loss_does_not_see() -> None:
    """An error that one erosion removes is as good as none for hd_er; that is not called perfect."""
    y = np.zeros((12, 12), np.uint8)
    y[3:8, 3:8] = 1
    p = np.where(y, 0.98, 0.02)
    p[10, 10] = p[1, 8] = 0.7
    (row,) = segcli.compare(p, y, losses="hd_er").rows
    assert row.notes == ("as at pred = gt: it does not see the 2 wrong voxels",)
    assert printed(segcli.inspect(p, y, "hd_er")) == (
        "hd_er 0: as at pred = gt: it does not see the 2 wrong voxels, nothing to divide"
    )


def test_one_blind_label_of_several() -> None:
    """The label whose gt is empty is named; the others are taken apart."""
    y = np.zeros((12, 12), np.uint8)
    y[3:8, 3:8] = 1
    p = np.random.default_rng(3).dirichlet(np.ones(3), size=y.shape).transpose(2, 0, 1)
    text = printed(segcli.inspect(p, y, "boundary", labels="organ=1,tumour=2"))
    assert text.splitlines()[1] == "tumour: blind: the same for every prediction of this gt"


def call(*arguments: object) -> str:
    command = [sys.executable, "-m", "segcli", "--isolated", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_output_says_so(tmp_path: Path) -> None:
    """Table, Markdown, CSV and JSON; the caution of a full gt is printed beneath."""
    y = truths()["full"].astype(np.uint8)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "p.npy", 0.3 + np.random.default_rng(1).random(y.shape) / 2)
    pair = [tmp_path / "p.npy", tmp_path / "y.npy"]
    compare = ["compare", *pair, "--losses", "boundary,mcc"]
    for form in ("table", "md"):
        shown = call(*compare, "-f", form)
        assert shown.count("blind: the same for every prediction of this gt") == 2
        assert "With an empty gt, or a full one, it is 0 for any prediction." in shown
        assert "With an empty gt or a full one it is 1 for any prediction" in shown
    rows = list(csv.DictReader(io.StringIO(call(*compare, "-f", "csv"))))
    assert all("blind" in row["notes"] and "gt full" in row["notes"] for row in rows)
    assert all("gt full" in row["notes"] for row in json.loads(call(*compare, "-f", "json"))["rows"])
    document = json.loads(call("inspect", *pair, "--loss", "mcc", "-f", "json"))
    assert "blind: the same for every prediction of this gt" in [note["text"] for note in document["notes"]]


def test_saturated_is_said_where_a_clip_is() -> None:
    """A loss without a clip is not saturated, nor is one of which no voxel is beyond it."""
    y = np.zeros((9, 9), np.uint8)
    y[2:6, 2:6] = 1
    sure = np.roll(y, 1, axis=0) * 1.0
    sure[0, 0] = 1e-9
    said = {row.measure: row.notes for row in segcli.compare(sure, y, losses="bce,dice,hd_er,balanced_bce").rows}
    assert said["bce"][0].startswith("saturated: every wrong voxel is beyond the clip")
    assert not any("saturated" in note for name in ("dice", "hd_er") for note in said[name])
