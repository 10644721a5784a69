"""The grids: what counts as the same place, what is said when it is not, and what reorienting may do."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st

from segcli.masks.geometry import compare, is_sheared, offset, orientation, reorient, spacing_of
from segcli.masks.mask import Mask
from segcli.masks.readers import read

AFFINE = np.array([[1.0, 0, 0, -10], [0, 1.5, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])
SHAPE = (6, 5, 4)
TURNS = [(p, s) for p in itertools.permutations(range(3)) for s in itertools.product((1, -1), repeat=3)]


def mask(
    affine: np.ndarray | None = AFFINE, shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] | None = None
) -> Mask:
    """Return a mask whose values are all different, on a grid."""
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape, order="F")
    if affine is not None and spacing is None:
        spacing = spacing_of(affine, min(len(shape), 3))
    return Mask("m", array, "labels", "NIfTI-1", spacing, affine)


def turned(order: tuple[int, ...], signs: tuple[int, ...], affine: np.ndarray = AFFINE) -> Mask:
    """Return the mask of `mask()` at the same place, stored with its axes in another order and direction."""
    base = mask(affine)
    new = nib.Nifti1Image(base.array, affine).as_reoriented(np.column_stack([np.argsort(order), np.array(signs)]))
    return Mask("t", np.asarray(new.dataobj), "labels", "NIfTI-1", spacing_of(new.affine), new.affine)


def rotation(degrees: float) -> np.ndarray:
    """AFFINE turned about the third axis of the world."""
    turn = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn @ AFFINE


def codes(pred: Mask, gt: Mask) -> list[str]:
    """Return the codes of all differences."""
    return [d.code for d in compare(pred, gt)]


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_orientation_is_nibabels(order, signs):
    """Orientation letters of all 48 turns, also slightly rotated, are nibabel's."""
    for base in (AFFINE, rotation(20)):
        affine = turned(order, signs, base).affine
        assert orientation(affine) == "".join(nib.aff2axcodes(affine))


def test_orientation_of_fewer_axes():
    """Two axes have two letters; an axis of length 0 points nowhere."""
    assert orientation(AFFINE, 2) == "RA"
    assert orientation(np.diag([-1.0, 2, 0, 1])) == "LA?"


def test_spacing_is_the_length_of_columns():
    """Spacing survives any rotation."""
    np.testing.assert_allclose(spacing_of(rotation(33)), (1, 1.5, 3))
    assert spacing_of(AFFINE, 2) == (1.0, 1.5)


def test_shear():
    """Rotation is no shear; a tilted axis is one; float noise is none."""
    assert not is_sheared(rotation(33))
    tilted = AFFINE.copy()
    tilted[0, 1] = 1e-5
    assert not is_sheared(tilted)
    tilted[0, 1] = 0.1
    assert is_sheared(tilted)
    assert not is_sheared(tilted, axes=1)


def test_same_grid():
    """Equal affines, and affines that differ by float noise, are the same grid."""
    assert not compare(mask(), mask())
    for size, same in ((1e-7, True), (1e-5, True), (1e-4, True), (1e-2, False)):
        noise = AFFINE.copy()
        noise[:3] += size * np.array([[1, -1, 1, -1]] * 3) / 6
        assert (not compare(mask(noise), mask())) == same


def test_tolerance_is_at_the_corners():
    """A tiny difference in spacing matters on a long axis only."""
    other = AFFINE.copy()
    other[0, 0] += 1e-4
    assert not compare(mask(other), mask())
    assert codes(mask(other, (2000, 2, 2)), mask(shape=(2000, 2, 2))) != []
    assert offset(other, AFFINE, (101, 1, 1)) == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (
            {(0, 3): -5.0, (1, 3): 10.0, (2, 3): 12.0},
            "geometry.origin",
            "(-5, 10, 12) vs (-10, 5, 7) mm, 8.66 mm apart",
        ),
        ({(2, 2): 1.0}, "geometry.spacing", "1x1.5x1 vs 1x1.5x3 mm"),
        ({(0, 0): -1.0}, "geometry.orientation", "LAS vs RAS"),
        ({(0, 1): 0.3}, "geometry.affine", "voxels apart"),
    ],
)
def test_each_difference_has_its_code(change, code, says):
    """Origin, spacing, orientation and the rest are told apart, with both values side by side."""
    affine = AFFINE.copy()
    for place, value in change.items():
        affine[place] = value
    found = compare(mask(affine), mask())
    assert code in [d.code for d in found]
    assert says in " ".join(d.text for d in found)
    assert all(d.text and "\n" not in d.text for d in found)


def test_a_difference_is_never_silent():
    """Whatever moves a corner by more than the tolerance is in the list; what is written down differs."""
    for degrees in (0.1, 1, 10, 80):
        found = compare(mask(rotation(degrees)), mask())
        assert "geometry.affine" in [d.code for d in found] or "geometry.orientation" in [d.code for d in found]
    near = AFFINE.copy()
    near[0, 3] += 0.0123456
    assert offset(near, AFFINE, SHAPE) == pytest.approx(0.0123456)
    assert "-9.9877" in compare(mask(near), mask())[0].text


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_units(factor):
    """A factor of a thousand in every spacing is a unit, not a spacing."""
    scaled = np.diag([factor, factor, factor, 1.0]) @ AFFINE
    assert "geometry.units" in codes(mask(scaled), mask())
    assert "geometry.spacing" not in codes(mask(scaled), mask())


def test_shapes():
    """Shapes are compared with both values; a reversed one gets the SimpleITK hint."""
    found = compare(mask(None, (4, 5, 6)), mask(None))
    assert [d.code for d in found] == ["geometry.shape"]
    assert found[0].text == "shape 4x5x6 vs 6x5x4"
    assert "SimpleITK" in found[0].hint
    assert "permuted" in compare(mask(None, (5, 6, 4)), mask(None))[0].hint
    assert compare(mask(None, (5, 5, 4)), mask(None))[0].hint == ""
    assert codes(mask(None, (6, 5)), mask(None)) == ["geometry.shape"]


def test_a_channel_axis_is_no_part_of_the_grid():
    """Return a mask whose channel axis is known is compared without it."""
    channels = Mask("c", np.zeros((2, *SHAPE)), "probability", "NPY", channels=0)
    assert not compare(channels, mask(None))


def test_one_side_without_affine():
    """PNG and NPY against NIfTI: shapes only, and spacing where both know it."""
    assert not compare(mask(None), mask())
    assert not compare(mask(), mask(None))
    assert codes(mask(None, spacing=(1.0, 1.5, 1.0)), mask()) == ["geometry.spacing"]
    assert not compare(mask(None, spacing=(1.0, 1.5, 3.0)), mask())


def test_two_dimensions():
    """2-D grids with a 4x4 affine compare and reorient by their two axes, whatever the third column says."""
    flat = np.diag([0.2, 0.3, 0, 1])
    assert not compare(mask(flat, (6, 5)), mask(flat, (6, 5)))
    flipped = np.diag([-0.2, 0.3, 0, 1])
    flipped[0, 3] = 1.0
    back = reorient(mask(flipped, (6, 5)), mask(flat, (6, 5)))
    assert back is not None
    np.testing.assert_array_equal(back.array, mask(flat, (6, 5)).array[::-1])


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_every_turn_is_undone(order, signs):
    """All 48 ways to store a grid come back exactly, as views, with spacing and affine."""
    for base in (AFFINE, rotation(20)):
        stored = turned(order, signs, base)
        back = reorient(stored, mask(base))
        assert back is not None
        np.testing.assert_array_equal(back.array, mask(base).array)
        assert np.shares_memory(back.array, stored.array)
        np.testing.assert_allclose(back.affine, base, atol=1e-9)
        np.testing.assert_allclose(back.spacing, spacing_of(base))
        assert not compare(back, mask(base))
        if stored.affine is not None and offset(stored.affine, base, SHAPE) > 1e-3:
            assert any("reorient" in d.hint for d in compare(stored, mask(base)))


def test_channels_stay_where_they_are():
    """A channel axis, first or last, is left alone."""
    stored = turned((2, 0, 1), (1, -1, 1))
    for axis in (0, 3):
        several = Mask(
            "s", np.stack([stored.array, -stored.array], axis), "labels", "NIfTI-1", stored.spacing, stored.affine, axis
        )
        back = reorient(several, mask())
        assert back is not None
        np.testing.assert_array_equal(np.moveaxis(back.array, axis, 0), [mask().array, -mask().array])


def test_what_reorienting_refuses():
    """No affine, another origin, another spacing, a rotation, another shape: never resampled."""
    assert reorient(mask(None), mask()) is None
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    scaled = AFFINE.copy()
    scaled[2, 2] = 1
    for affine in (moved, scaled, rotation(1), rotation(45)):
        assert reorient(mask(affine), mask()) is None
    assert reorient(mask(shape=(6, 5, 3)), mask()) is None
    assert reorient(mask(shape=(6, 5)), mask()) is None


@given(st.lists(st.floats(-100, 100), min_size=12, max_size=12))
def test_any_affine(numbers):
    """Any finite affine is compared without an exception, and an empty list means equal corners."""
    affine = np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])
    found = compare(mask(affine), mask())
    assert bool(found) == (offset(affine, AFFINE, SHAPE) > 1e-3)
    assert len(orientation(affine)) == 3
    is_sheared(affine)


@pytest.mark.skipif(not (SHARED / "nasty").is_dir(), reason=f"no shared hostile files at {SHARED / 'nasty'}")
@pytest.mark.parametrize(
    ("name", "code", "dice"),
    [
        ("pred.nii.gz", None, None),
        ("affine_eps.nii.gz", None, None),
        ("neg_pixdim.nii.gz", None, None),
        ("qform_sform_conflict.nii.gz", None, None),
        ("singleton4d.nii.gz", None, None),
        ("same_grid_stored_PIL.nii.gz", "geometry.shape", 0.818922),
        ("affine_flipped.nii.gz", "geometry.orientation", 0.907426),
        ("origin_shift.nii.gz", "geometry.origin", None),
        ("spacing_differs.nii.gz", "geometry.spacing", None),
        ("units_micron.nii.gz", "geometry.units", None),
        ("transposed.npy", "geometry.shape", None),
    ],
)
def test_shared_grids(name, code, dice):
    """The hostile pairs differ as their index says, and reorient to the Dice it gives."""
    pred, gt = read(SHARED / "nasty" / name), read(SHARED / "nasty" / "gt.nii.gz")
    found = compare(pred, gt)
    assert (found[0].code if found else None) == code
    if code is not None:
        back = reorient(pred, gt)
        assert (back is None) == (dice is None)
        if back is not None:
            both = (
                2
                * np.count_nonzero(back.array & gt.array)
                / (np.count_nonzero(back.array) + np.count_nonzero(gt.array))
            )
            assert both == pytest.approx(dice, abs=1e-6)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no shared data at {SHARED / 'data'}")
@pytest.mark.parametrize(
    "names",
    [("spine_panoptica/semantic_pred", "spine_panoptica/semantic_ref"), ("isles_lesion/pred", "isles_lesion/gt")],
)
def test_shared_real_grids(names):
    """Real pairs on one grid compare as equal, oblique ones too."""
    pred, gt = (read(SHARED / "data" / f"{name}.nii.gz") for name in names)
    assert not compare(pred, gt)
    assert not any(n.level == "warning" for n in pred.notes)
