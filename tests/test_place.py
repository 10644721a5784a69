"""Moments of masks and the distance between their centres, against SciPy and pymia's formula."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis

import segcli
from segcli.errors import InputError
from segcli.evidence import moments
from segcli.evidence.maps import Maps
from segcli.masks.labels import Label

Array = NDArray[Any]


@st.composite
def clouds(draw: st.DrawFn) -> tuple[Array, Array]:
    """Draw two maps of labels 0 to 3, some of them flat."""
    form = draw(st.sampled_from([(6, 7), (5, 6, 4), (1, 6, 5), (4, 1, 9), (9, 1)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.sampled_from("CF"))
    pred, gt = (np.asarray(random.integers(0, 4, form), dtype=np.uint8, order=order) for _ in range(2))  # type: ignore[call-overload]
    return pred, gt


def by_scipy(pred: Array, gt: Array, affine: Array | None = None) -> float | None:
    """Return SciPy's distance of the voxels' coordinates, over the axes along which they spread at all."""
    points = [np.argwhere(mask).astype(float) for mask in (pred, gt)]
    spread = np.ptp(np.concatenate(points), axis=0) > 0
    points = [p[:, spread] if affine is None else p @ affine.T for p in points]
    sizes = [len(p) for p in points]
    covariances = [np.atleast_2d(np.cov(p.T, bias=True)) for p in points]
    common = sum(n * s for n, s in zip(sizes, covariances, strict=True)) / sum(sizes)
    if np.linalg.matrix_rank(common) < len(common):
        return None
    return float(mahalanobis(points[0].mean(axis=0), points[1].mean(axis=0), np.linalg.inv(common)))


@given(clouds())
@settings(max_examples=60)
def test_scipy(drawn: tuple[Array, Array]) -> None:
    """Every label and region has SciPy's distance under the pooled covariance."""
    pred, gt = drawn
    found = segcli.score(pred, gt, metrics="mahalanobis", labels="a=1,b=2,c=3,ab=1+2,any=any", spacing=0.7)
    for label, values in (("a", [1]), ("b", [2]), ("c", [3]), ("ab", [1, 2]), ("any", [1, 2, 3])):
        masks = np.isin(pred, values), np.isin(gt, values)
        if all(mask.any() for mask in masks) and sum(mask.sum() for mask in masks) > 2:
            expected = by_scipy(*masks)
            if expected is not None:
                assert found.value("mahalanobis", label) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_an_affine_map_changes_nothing(seed: int) -> None:
    """Voxels moved, stretched, sheared and turned lie as far apart as on their grid."""
    random = np.random.default_rng(seed)
    pred, gt = (random.random((5, 4, 6)) < 0.3 for _ in range(2))
    affine = random.normal(size=(3, 3)) + 3 * np.eye(3)
    expected = by_scipy(pred, gt, affine)
    assert segcli.score(pred, gt, metrics="mahalanobis").value("mahalanobis") == pytest.approx(expected, rel=1e-8)


def test_a_plane_is_a_plane() -> None:
    """Masks of one slice have the distance of that slice, those of two parallel slices none."""
    random = np.random.default_rng(3)
    pred, gt = (random.random((6, 7)) < 0.5 for _ in range(2))
    flat = segcli.score(pred, gt, metrics="mahalanobis").value("mahalanobis")
    volumes = [np.zeros((4, 6, 7), np.uint8) for _ in range(2)]
    volumes[0][2], volumes[1][2] = pred, gt
    assert segcli.score(*volumes, metrics="mahalanobis").value("mahalanobis") == flat is not None
    moved = segcli.score(np.roll(volumes[0], 1, axis=0), volumes[1], metrics="mahalanobis").values[0]
    assert (moved.value, moved.status, moved.why) == (None, "undefined", "zero_denominator")
    # a leaning plane: x = y, exactly
    lean = np.einsum("ij,jk->ijk", random.integers(0, 2, (5, 6)), np.eye(6, dtype=int)).astype(np.uint8)
    expected = segcli.score(lean.any(axis=2), gt[:5, :6], metrics="mahalanobis").value("mahalanobis")
    other = np.einsum("ij,jk->ijk", gt[:5, :6].astype(int), np.eye(6, dtype=int)).astype(np.uint8)
    assert segcli.score(lean, other, metrics="mahalanobis").value("mahalanobis") == expected is not None


def test_ignored_voxels_have_no_moments() -> None:
    """Ignored voxels are as if outside both masks."""
    random = np.random.default_rng(5)
    pred, gt = (random.integers(0, 2, (6, 5, 4)).astype(np.uint8) for _ in range(2))
    hidden = random.random(gt.shape) < 0.3
    found = segcli.score(pred, np.where(hidden, 9, gt), metrics="mahalanobis", labels="fg=1", ignore_label=9)
    expected = by_scipy(pred * ~hidden, gt * ~hidden)
    assert found.value("mahalanobis", "fg") == pytest.approx(expected, rel=1e-10)


def test_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sums could leave 64 bits the map is read slab by slab; where even a row could, it is refused."""
    random = np.random.default_rng(7)
    for form in ((9, 4, 5), (9, 5)):
        gt = random.integers(0, 3, form).astype(np.uint8)

        def found(gt: Array = gt) -> moments.Moments:
            return Maps(gt, gt).moments("gt", Label("both", (1, 2)))

        whole = found()
        with monkeypatch.context() as patch:
            patch.setattr(moments, "LARGEST_SUM", 8**2 * 20 * 2 + 1)
            assert found() == whole
            patch.setattr(moments, "LARGEST_SUM", 5)
            with pytest.raises(InputError, match=r"9x.*too long"):
                found()
        points = np.argwhere(gt)
        assert (whole.size, whole.sums) == (len(points), points.sum(axis=0).tolist())
        assert whole.products == (points.T @ points).tolist()
        np.testing.assert_allclose(np.array(whole.scatter) / whole.size**2, np.cov(points.T, bias=True), rtol=1e-12)


def test_quadratic_form_of_singular_matrices() -> None:
    """The limit for a vanishing ridge: finite inside the matrix's range, none outside."""
    assert moments.quadratic([[2, 0], [0, 4]], [2, 4]) == 6
    assert moments.quadratic([[1, 1], [1, 1]], [3, 3]) == 9  # 3 along (1, 1): (3 sqrt 2)^2 / 2
    assert moments.quadratic([[1, 1], [1, 1]], [3, 4]) is None
    assert moments.quadratic([[0, 0], [0, 3]], [0, 1]) == Fraction(1, 3)
    assert moments.quadratic([[0, 0], [0, 3]], [1, 0]) is None
    assert moments.quadratic([[0]], [0]) == 0
