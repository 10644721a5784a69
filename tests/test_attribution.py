"""Where a loss comes from: the parts of every division add up to it, for every loss on recorded and real inputs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
import pytest
import test_losses
import test_losses_more
import test_losses_structure
from conftest import SHARED, needs_shared
from test_losses import INPUTS, Array

import segcli
from segcli.explain.divisions import WAYS
from segcli.explain.inspection import Inspection
from segcli.report.inspection import text as printed

ALL = [m.name for m in segcli.measures("loss")]
VARIANTS = sorted({*ALL, *test_losses.VARIANTS, *test_losses_more.VARIANTS, *test_losses_structure.VARIANTS})


def check_parts(found: Inspection) -> None:
    """Hold the parts of each division against value and excess, to 1e-9 of them."""
    wide = float(abs(found.map).sum())
    value = pytest.approx(found.value, rel=1e-9, abs=1e-12 * wide)
    excess = pytest.approx(found.excess, rel=1e-9, abs=1e-12 * wide)
    assert float(found.map.sum()) + found.residual == value
    assert abs(found.residual) <= 1e-9 * abs(found.value) + 1e-12 * wide
    assert "residual" not in printed(found)
    assert float(found.excess_map.sum()) == excess
    for way in WAYS:
        parts = [p for p in found.parts if p.by == way]
        sides = [[p for p in parts if side in p.name.split()] for side in ("gt", "pred")]
        for group in sides if way == "component" else [parts]:
            assert sum(p.value for p in group) == value, way
            assert sum(p.excess for p in group) == excess, way
            shares = [found.share(p) for p in group]
            assert None in shares or sum(s for s in shares if s is not None) == pytest.approx(1, rel=1e-9)


@cache
def recorded_input(name: str) -> tuple[Array, Array, tuple[float, ...] | None]:
    """Return a recorded prediction (channels first), its labels and spacing."""
    with np.load(SHARED / "golden" / "golden_inputs.npz") as stored:
        p, y = stored[f"{name}.p"], stored[f"{name}.y"]
    return p, y.astype(np.uint8), (3.0, 1.0, 1.0) if name == "aniso3d" else None


@needs_shared("golden", "golden_inputs.npz")
@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("loss", VARIANTS)
def test_parts_on_recorded_inputs(loss: str, source: str) -> None:
    """Each loss and odd parameters: single maps, channels, an anisotropic volume, an empty gt, a saturated net."""
    p, y, spacing = recorded_input(source)
    check_parts(segcli.inspect(p, y, loss, by=WAYS, spacing=spacing, kind="probability"))


#: Real predictions; a (first, past the last) for each axis of the gt cuts the volumes to what every loss can do fast.
REAL = {
    "nuclei2d": ("nuclei2d/logits.npy", "nuclei2d/gt_binary_bool.npy", "logits", ((0, 160), (0, 160))),
    "isles": ("isles_lesion/pred_prob.nii.gz", "isles_lesion/gt.nii.gz", "probability", None),
    "mni": ("mni_gm_prob/pred_gm_prob_u8scaled.nii.gz", "mni_gm_prob/gt_gm_mask.nii.gz", "probability",
            ((20, 44), (30, 60), (20, 36))),
    "mni4": ("mni_gm_prob/logits_CHW_4class.npy", "mni_gm_prob/gt_4class_slice.npy", "logits", ((40, 140), (40, 140))),
    "picai": ("picai_lesion/case-3_detection_map.nii.gz", "picai_lesion/case-3_label.nii.gz", "probability", None),
}  # fmt: skip


@cache
def real_pair(name: str) -> tuple[Array, Array, str, tuple[float, ...] | None]:
    """Return a real prediction and its gt, cut."""
    pred, gt, kind, box = REAL[name]
    arrays, spacing = [], None
    for path in (pred, gt):
        if path.endswith(".npy"):
            arrays.append(np.load(SHARED / "data" / path))
        else:
            image = nib.load(SHARED / "data" / path)
            arrays.append(np.asarray(image.dataobj))
            spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
    p, y = arrays[0].astype(np.float64), np.squeeze(arrays[1]).astype(np.uint8)
    p = np.squeeze(p)
    if name == "isles":  # around the lesions
        lesion = np.argwhere(y)
        box = tuple((int(a), int(min(a + 24, n))) for a, n in zip(lesion.min(axis=0), y.shape, strict=True))
    if box is not None:
        cut = tuple(slice(*ends) for ends in box)
        p, y = p[(slice(None), *cut) if p.ndim > y.ndim else cut], y[cut]
    return p, y, kind, spacing if y.ndim == 3 else None


@needs_shared("data")
@pytest.mark.parametrize("source", REAL)
@pytest.mark.parametrize("loss", ALL)
def test_parts_on_real_predictions(loss: str, source: str) -> None:
    """The same on probability maps and logits of real networks."""
    p, y, kind, spacing = real_pair(source)
    check_parts(segcli.inspect(p, y, loss, by=WAYS, spacing=spacing, kind=kind))


def test_shares_are_of_the_excess() -> None:
    """A negative loss (boundary): what a voxel could gain is its share, and voxels that are right have none."""
    y = np.zeros((9, 9), np.uint8)
    y[3:6, 3:6] = 1
    p = y.copy()
    p[4, 7], p[4, 5] = 1, 0  # one false alarm two voxels off, one miss at the border
    found = segcli.inspect(p, y, "boundary")
    assert found.value < found.excess
    # phi is 2 at the false alarm and 0 at the border voxel: the miss costs nothing
    assert found.excess == pytest.approx(2 / 81)
    shares = {part.name: found.share(part) for part in found.parts if part.by == "kind"}
    assert shares == pytest.approx({"fp": 1, "fn": 0, "tp": 0, "tn": 0})
    assert found.map.sum() == pytest.approx(found.value)
    assert found.excess_map[4, 7] == pytest.approx(2 / 81)


def test_a_residual_is_printed() -> None:
    """What a map leaves over is a line of its own; without one there is no such line."""
    y = np.zeros((6, 6), np.uint8)
    y[2:4, 2:4] = 1
    found = segcli.inspect(np.roll(y, 1, axis=0), y, "cldice")
    assert "residual" not in printed(found)
    left_over = replace(found, residual=0.01)
    assert printed(left_over).splitlines()[-1] == "residual 0.0100: what the voxel map does not explain"
