"""The sample masks are what their script draws, and look like real data."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

import segcli
from segcli.masks.samples import sample_folder, sample_pair

FOLDER = Path(__file__).resolve().parents[1] / "sample_masks"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("make_samples", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def path(name: str) -> str:
    """Return the path of a sample."""
    return str(FOLDER / name)


def test_script_reproduces_the_files(make: ModuleType) -> None:
    """Every file holds the array that the script draws; nothing else lies beside them."""
    drawn = make.arrays()
    assert {p.name for p in FOLDER.iterdir() if p.is_file()} == {*drawn, "labels.csv", "make.py", "README.md"}
    for name, array in drawn.items():
        stored = segcli.read(FOLDER / name, kind="logits" if "logits" in name else None)
        assert stored.shape == array.shape
        assert stored.array.dtype == (np.uint8 if array.dtype == bool else array.dtype)
        # another processor's exp and sqrt may end in another bit: a voxel at the threshold then flips
        apart = np.abs(stored.array.astype(float) - array.astype(float))
        assert np.count_nonzero(apart > 1e-4) <= 1e-4 * array.size, name


def test_script_writes_the_same_bytes(make: ModuleType, tmp_path: Path) -> None:
    """Two runs give the same bytes: no time stamp, no name inside."""
    for name, array in make.arrays().items():
        assert make.encode(name, array) == make.encode(name, array.copy())
    make.main(tmp_path)
    assert (tmp_path / "labels.csv").read_bytes() == (FOLDER / "labels.csv").read_bytes()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 400_000


def test_abdomen() -> None:
    """Three organs in mm; each model has its errors: a missed and a false tumour, a far island, a lost pole."""
    found = {
        name: segcli.score(path(f"{name}.nii.gz"), path("abdomen_gt.nii.gz"), labels=path("labels.csv"),
                           metrics="default,hd,precision,sensitivity", strict=True)
        for name in ("abdomen_pred", "abdomen_pred2")
    }  # fmt: skip
    for case in found.values():
        assert case.unit == "mm"
        assert case.spacing == pytest.approx((0.8, 0.8, 2.5))
        assert 0.9 < (case.value("dice", "liver") or 0) < 0.98
        assert 0.7 < (case.value("dice", "tumour") or 0) < 0.92
        assert 0.8 < (case.value("dice", "kidney") or 0) < 0.97
    one, two = found["abdomen_pred"], found["abdomen_pred2"]
    assert (one.value("hd", "liver") or 0) > 5 * (one.value("hd95", "liver") or 0)  # the island
    assert (one.value("hd95", "tumour") or 0) > 15  # the small tumour is missed
    assert (two.value("rve", "tumour") or 0) > 0.2  # a false one is added
    assert (two.value("rve", "kidney") or 0) < -0.15  # the pole is lost
    tumours = [ndimage.label(segcli.read(path(f"abdomen_{n}.nii.gz")).array == 2)[1] for n in ("gt", "pred", "pred2")]
    assert tumours == [2, 1, 3]
    affine = segcli.read(path("abdomen_gt.nii.gz")).affine
    assert affine is not None
    assert np.array_equal(np.sign(np.diag(affine)), [-1, -1, 1, 1])
    rows = list(csv.DictReader((FOLDER / "labels.csv").read_text().splitlines()))
    assert {r["name"]: int(r["value"]) for r in rows} == {"liver": 1, "tumour": 2, "kidney": 3}


def test_nuclei() -> None:
    """Some forty nuclei; mask, probabilities and logits of a model agree, and nothing is saturated."""
    gt, pred = (segcli.read(path(f"nuclei_{n}.png")).array for n in ("gt", "pred"))
    logits, prob = (np.load(path(f"nuclei_{n}.npy")) for n in ("logits", "prob"))
    assert set(np.unique(gt)) == set(np.unique(pred)) == {0, 255}
    assert np.array_equal(np.load(path("nuclei_gt.npy")), gt > 0)
    assert np.array_equal(prob > 0.5, pred > 0)
    assert np.array_equal(logits > 0, pred > 0)
    assert np.allclose(1 / (1 + np.exp(-logits.astype(float))), prob, atol=1e-7)
    for p in (prob, np.load(path("nuclei_prob2.npy"))):
        assert p.dtype == np.float32
        assert 0 < p.min() < 0.01
        assert 0.99 < p.max() < 1
    assert 33 <= ndimage.label(gt > 0)[1] <= 45
    scores = [
        segcli.score(path("nuclei_pred.png"), path("nuclei_gt.png"), strict=True),
        segcli.score(path("nuclei_prob.npy"), path("nuclei_gt.npy"), strict=True),
        segcli.score(path("nuclei_logits.npy"), path("nuclei_gt.npy"), from_logits=True, strict=True),
    ]
    dice = {s.value("dice") for s in scores}
    assert len(dice) == 1
    assert 0.75 < (dice.pop() or 0) < 0.92
    other = segcli.score(path("nuclei_prob2.npy"), path("nuclei_gt.npy"), strict=True)
    assert 0.75 < (other.value("dice") or 0) < 0.92
    assert (other.value("rve") or 0) < (scores[0].value("rve") or 0) - 0.1


def test_tissue() -> None:
    """Four classes with a palette; the channels are probabilities whose largest is the mask."""
    probs, pred = np.load(path("tissue_probs.npy")), segcli.read(path("tissue_pred.png")).array
    assert probs.dtype == np.float32
    assert probs.shape == (4, *pred.shape)
    assert np.abs(probs.sum(axis=0) - 1).max() < 1e-5
    assert np.array_equal(probs.argmax(axis=0), pred)
    hard = segcli.score(path("tissue_pred.png"), path("tissue_gt.png"), metrics="dice", strict=True)
    soft = segcli.score(path("tissue_probs.npy"), path("tissue_gt.png"), metrics="dice", strict=True)
    assert [v.value for v in hard.values] == [v.value for v in soft.values]
    low, high = {"1": 0.9, "2": 0.75, "3": 0.55}, {"1": 0.99, "2": 0.93, "3": 0.85}
    for value in hard.values:
        assert low[value.label] < (value.value or 0) < high[value.label]


def test_sample_pair() -> None:
    """`segcli compare` finds its pair without files."""
    assert sample_folder() == FOLDER
    pred, gt = sample_pair()
    assert segcli.score(pred, gt, strict=True).value("dice") is not None
