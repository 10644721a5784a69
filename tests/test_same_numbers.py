"""The same voxels give the same numbers to the last bit, however they lie in memory and however a run is made."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cohorts import process
from scipy.ndimage import gaussian_filter

import segcli
from segcli.cohort.journal import journal_path
from segcli.kernels.surfaces import SURFACES

KINDS = ("labels", "probability", "logits")
OPTIONS = {"labels": {}, "probability": {"kind": "probability"}, "logits": {"from_logits": True}}
WORDS = {"labels": (), "probability": ("--kind", "probability"), "logits": ("--from-logits",)}
#: How the voxels of an array may lie.
LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "mirrored": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "swapped": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, 1)), 1, 0),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


def pair(kind: str, shape: tuple[int, ...], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction of three labels, or of one with its probabilities or logits, and a ground truth."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.standard_normal(shape), 2.0) for _ in range(4)]) * 20
    noisy = fields + np.stack([gaussian_filter(rng.standard_normal(shape), 2.0) for _ in range(4)]) * 12
    gt = noisy.argmax(axis=0).astype(np.uint8)
    if kind == "labels":
        return fields.argmax(axis=0).astype(np.uint8), gt
    z = (fields[1] - fields[0]).astype(np.float32)
    return z if kind == "logits" else (1 / (1 + np.exp(-z))).astype(np.float32), (gt == 1).astype(np.uint8)


def values(pred: np.ndarray, gt: np.ndarray, **options: object) -> dict[tuple[str, ...], str]:
    scored = segcli.score(pred, gt, metrics="all", losses="all", **options)
    return {(v.label, v.kind, v.measure): f"{v.value!r} {v.status} {v.why}" for v in scored.values}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "spacing"), [((13, 11, 9), (2.3, 0.77, 1.13)), ((13, 11, 9), (0.77,) * 3), ((21, 17), (0.7, 1.3))]
)
def test_every_measure_of_every_layout(kind, shape, spacing):
    """C order, Fortran order, views and the other byte order hold the same voxels."""
    pred, gt = pair(kind, shape)
    options = {"spacing": spacing, **OPTIONS[kind]}
    expected = values(pred, gt, **options)
    for name, turn in LAYOUTS.items():
        assert values(turn(pred), turn(gt), **options) == expected, name
    assert values(pred, np.asfortranarray(gt), **options) == expected
    assert values(np.asfortranarray(pred), gt, **options) == expected


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("shape", "spacing"), [((13, 11, 9), (0.77, 0.77, 2.3)), ((21, 17), (0.77, 0.77))])
@pytest.mark.parametrize("seed", [2, 3])
def test_every_surface_of_every_layout(surface, shape, spacing, seed):
    """Elements, their weights and their distances are those of the array, not of memory."""
    pred, gt = pair("labels", shape, seed)
    asked = {"metrics": "surface", "surface": surface, "spacing": spacing, "ignore_label": 3}
    expected, found = (
        segcli.score(turn(pred), turn(gt), **asked) for turn in (np.ascontiguousarray, np.asfortranarray)
    )
    assert [repr(v.value) for v in found.values] == [repr(v.value) for v in expected.values]


def numbers(path: Path) -> str:
    """Return a run file's text without its environment, and without the hashes of files that hold the same voxels."""
    run = json.loads(path.read_text())
    run.pop("environment")
    for case in run["cases"]:
        for side in ("pred", "gt"):
            case[side] = {k: v for k, v in case[side].items() if k not in ("path", "sha256")}
    return json.dumps(run["cases"]) + json.dumps(run.get("summary"))


def interrupt(words: list[str], where: Path, journal: Path) -> None:
    """Start a run and kill it after its first case."""
    going = subprocess.Popen(
        [sys.executable, "-m", "segcli", *words], cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while going.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        time.sleep(0.01)
    going.kill()
    going.wait()
    assert journal.exists(), "it was done before it could be killed"


@pytest.mark.parametrize("kind", KINDS)
def test_every_measure_of_every_run(kind, tmp_path):
    """Jobs, threads, layouts, shards, a resumed run and Dask: the same text."""
    for layout in ("C", "F"):
        for name, shape in (("a", (24, 20, 14)), ("b", (30, 25)), ("c", (24, 20, 14))):
            for side, array in zip(("pred", "gt"), pair(kind, shape, ord(name)), strict=True):
                (tmp_path / layout / side).mkdir(parents=True, exist_ok=True)
                np.save(tmp_path / layout / side / f"{name}.npy", np.asarray(array, order=layout))
    one = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
    two = dict.fromkeys(one, "2")

    asked = ("evaluate", "pred", "gt", "-m", "all", "-l", "all", *WORDS[kind])

    def made(out: str, *more: object, layout: str = "C", **threads: str) -> str:
        done = process(*asked, "-o", tmp_path / out, *more, cwd=tmp_path / layout, **threads)
        assert done.returncode == 0, done.stderr
        return "" if "--shard" in more else numbers(tmp_path / out)

    expected = made("one.json", "-j1", **one)
    assert made("threads.json", "-j1", **two) == expected
    assert made("fortran.json", "-j2", layout="F", **two) == expected
    interrupt([*asked, "-o", str(tmp_path / "half.json"), "-j1"], tmp_path / "C", journal_path(tmp_path / "half.json"))
    assert made("half.json", "-j1", "--resume", **two) == expected
    shards = []
    for k in (1, 2):
        made(f"s{k}.json", "-j1", "--shard", f"{k}/2", **two)
        shards.append(tmp_path / f"s{k}.json")
    merged = process("evaluate", "--merge", *shards, "-o", tmp_path / "merged.json")
    assert merged.returncode == 0, merged.stderr
    assert numbers(tmp_path / "merged.json") == expected
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("Dask is not installed: all but its engine was compared")
    assert made("dask.json", "-j2", "--engine", "dask") == expected


def test_bands_of_a_voxel_on_the_very_width_are_those_of_the_array():
    """Squared steps are added in the order of the axes: with this width the last digit decides, in any layout."""
    spacing, width = (0.7, 0.7, 0.77), 1.2541518465499777
    z, y, x = (step * step for step in spacing)
    assert math.sqrt((x + y) + z) > width * (1 + 1e-6) >= math.sqrt((z + y) + x)
    gt = np.ones((9, 9, 9), np.uint8)
    gt[4, 4, 4] = 0  # eight voxels are diagonal neighbours of it
    pred = gt.copy()
    pred[3, 3, 3] = 0
    asked = {"metrics": f"boundary_iou:width={width!r}", "spacing": spacing}
    values = [
        segcli.score(np.asarray(pred, order=order), np.asarray(gt, order=order), **asked).values[0].value
        for order in "CF"
    ]
    assert values[0] == values[1]
