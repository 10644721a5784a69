"""Predictive entropy of all classes and its map, against SciPy and torch; the map as a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy as by_scipy

import segcli
from segcli.errors import InputError

Array = NDArray[Any]


@st.composite
def channels(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw probabilities of 2 to 5 classes, some of them certain, in single or double precision, and a label map."""
    form = draw(st.sampled_from([(1, 7), (4, 5), (2, 3, 4)]))
    count = draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = random.integers(0, 4, (count, *form)).astype(float)
    parts[0] += parts.sum(axis=0) == 0
    p = (parts / parts.sum(axis=0)).astype(draw(st.sampled_from([np.float32, np.float64])))
    return p, random.integers(0, count, form).astype(np.uint8)


def scored(p: Array, y: Array, **how: Any) -> segcli.Scored:
    """Return the entropies of a prediction and its map."""
    return segcli.score(p, y, metrics="entropy,multiclass_entropy", entropy_map=True, **how)


@given(channels())
@settings(max_examples=60)
def test_scipy(drawn: tuple[Array, Array]) -> None:
    """Each voxel has SciPy's entropy in bits, at most log2 of the classes; the metric is the mean of the map."""
    p, y = drawn
    found = scored(p, y, kind="probability", channel_axis=0)
    assert found.entropy_map.shape == y.shape
    exact = p.astype(np.float64)
    if len(p) == 2:  # a pair of one label: it is what is not background, which float32 channels miss by 1e-8
        exact[1] = 1 - exact[0]
    np.testing.assert_allclose(found.entropy_map, by_scipy(exact, base=2, axis=0), rtol=1e-9, atol=1e-12)
    assert 0 <= found.entropy_map.min() <= found.entropy_map.max() <= np.log2(len(p)) + 1e-12
    assert found.value("multiclass_entropy") == pytest.approx(found.entropy_map.mean(), rel=1e-12, abs=1e-15)


@given(seed=st.integers(0, 2**32 - 1), single=st.booleans())
@settings(max_examples=40)
def test_one_map_is_two_classes(seed: int, single: bool) -> None:
    """Of a single map the entropy over the classes is that of its label, near 0 and 1 too, from logits too."""
    random = np.random.default_rng(seed)
    z = random.normal(scale=12, size=(5, 6)).astype(np.float32 if single else np.float64)
    y = random.integers(0, 2, z.shape).astype(np.uint8)
    for given_as, how in ((z, {"from_logits": True}), (1 / (1 + np.exp(-z)), {"kind": "probability"})):
        found = scored(given_as, y, **how)
        assert found.value("multiclass_entropy") == pytest.approx(found.value("entropy"), rel=1e-9, abs=1e-13)
        assert found.value("entropy") == pytest.approx(found.entropy_map.mean(), rel=1e-9, abs=1e-13)


def test_torch() -> None:
    """Softmax channels have the entropy of torch's categorical distribution."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(4)
    z, y = random.normal(scale=3, size=(4, 6, 7)), random.integers(0, 4, (6, 7)).astype(np.uint8)
    found = scored(z, y, from_logits=True)
    nats = torch.distributions.Categorical(logits=torch.from_numpy(z).movedim(0, -1)).entropy()
    np.testing.assert_allclose(found.entropy_map, nats.numpy() / np.log(2), rtol=1e-9)


def test_the_ground_truth_has_no_say() -> None:
    """Neither labels that are asked for nor those of the gt change the doubt; ignored voxels have none."""
    random = np.random.default_rng(5)
    p = random.dirichlet(np.ones(3), (6, 7)).transpose(2, 0, 1)
    y = random.integers(0, 3, (6, 7)).astype(np.uint8)
    whole = scored(p, y)
    for other, how in ((y * 0, {}), (y, {"labels": "two=2"}), (np.where(y == 2, 5, y), {})):
        found = scored(p, other.astype(np.uint8), **how)
        np.testing.assert_array_equal(found.entropy_map, whole.entropy_map)
        assert found.value("multiclass_entropy") == pytest.approx(whole.value("multiclass_entropy"), rel=1e-12)
    hidden = scored(p, np.where(y == 1, 9, y), ignore_label=9)
    np.testing.assert_array_equal(hidden.entropy_map, np.where(y == 1, 0, whole.entropy_map))
    assert hidden.value("multiclass_entropy") == pytest.approx(whole.entropy_map[y != 1].mean(), rel=1e-12)


def test_a_hard_mask_has_no_map() -> None:
    """Without probabilities there is one clear error; a case that was not asked for a map has none."""
    y = np.array([[0, 1], [1, 0]], np.uint8)
    with pytest.raises(InputError, match="entropy needs probabilities; this is a hard mask"):
        segcli.score(y, y, entropy_map=True)
    assert segcli.score(y, y).entropy_map is None


# --- the command ----------------------------------------------------------------------------------


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `segcli score`."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", "score", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_map_is_written_on_the_grid_of_the_truth(tmp_path: Path) -> None:
    """A NIfTI map has the affine of gt and the mean that is printed; NPY holds the same numbers in axis order."""
    random = np.random.default_rng(6)
    p = random.dirichlet(np.ones(3), (6, 5, 4)).astype(np.float32)
    y = random.integers(0, 3, (6, 5, 4)).astype(np.uint8)
    affine = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
    for name, array in (("pred", p), ("gt", y)):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    for out in ("map.nii.gz", "map.npy"):
        done = call(
            tmp_path / "pred.nii.gz", tmp_path / "gt.nii.gz", "-m", "multiclass_entropy", "-f", "json",
            "--entropy-map", tmp_path / out,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"wrote {tmp_path / out}" in done.stderr
    (value,) = (v["value"] for v in json.loads(done.stdout)["cases"][0]["values"])
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(written.get_fdata(), np.load(tmp_path / "map.npy"))
    assert written.get_fdata().mean() == pytest.approx(value, rel=1e-12)


def test_what_the_command_refuses(tmp_path: Path) -> None:
    """A hard mask, another suffix, an input as output and a stack: one line each, and no file."""
    p, y = np.full((2, 3, 4), 0.3), np.ones((2, 3, 4), np.uint8)
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "y.npy", y)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for pred, out, more, code, said in (
        ("y.npy", "e.npy", (), 3, "entropy needs probabilities"),
        ("p.npy", "e.png", (), 2, "known: .nii, .nii.gz, .npy"),
        ("p.npy", "p.npy", (), 2, "is an input of this call"),
        ("p.npy", "e.npy", ("--stack",), 2, "no --stack"),
    ):
        done = call(tmp_path / pred, tmp_path / "y.npy", "--entropy-map", tmp_path / out, *more)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
