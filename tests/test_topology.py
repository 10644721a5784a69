"""Pieces, tunnels and cavities: known shapes, cells counted one by one, SciPy and scikit-image."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

import segcli
from segcli.errors import UsageError
from segcli.kernels.components import background, extents, joined, overlaps, painted, runs_of
from segcli.kernels.euler import euler_number

Mask = NDArray[np.uint8]

SETS = np.array([-1, 0], dtype=np.int32)
#: connectivity -> the rank of SciPy's structure, and of the one of the background, in 3-D
RANKS = {26: (3, 1), 18: (2, 1), 6: (1, 3)}
FORMS = [(1, 1, 1), (1, 1, 7), (1, 5, 6), (4, 1, 5), (3, 4, 5), (5, 5, 5)]
few = settings(max_examples=60)


@st.composite
def volumes(draw: st.DrawFn) -> Mask:
    """Draw a small mask, sparse, half full or dense."""
    form = draw(st.sampled_from(FORMS))
    limit = draw(st.sampled_from([1, 4, 8]))
    return (draw(arrays(np.uint8, form, elements=st.integers(0, 8))) < limit).astype(np.uint8)


def numbers_of(gt: NDArray[Any], connectivity: str = "26", **reading: Any) -> list[float | None]:
    """Return pieces, tunnels, cavities, holes and the Euler number of a ground truth."""
    names = ("betti0_gt", "betti1_gt", "betti2_gt", "holes_gt", "euler_gt")
    asked = [f"{name}:connectivity={connectivity}" for name in names]
    return [v.value for v in segcli.score(gt, gt, metrics=asked, **{"labels": "fg=1", **reading}).values]


# --- shapes of known topology -------------------------------------------------------------------


def grid(*form: int) -> list[NDArray[np.float64]]:
    """Return open coordinates around the middle of a grid."""
    return [axis - (n - 1) / 2 for axis, n in zip(np.ogrid[tuple(slice(0, n) for n in form)], form, strict=True)]


def torus(form: tuple[int, int, int], centre: float = 0.0, *, upright: bool = False) -> NDArray[np.bool_]:
    """Return a ring of radius 7 and thickness 5, its centre moved along the last axis."""
    z, y, x = grid(*form)
    z, y, x = (y, z, x - centre) if upright else (z, y, x - centre)
    return np.asarray((np.sqrt(y**2 + x**2) - 7) ** 2 + z**2 <= 2.5**2)


BALL = sum(axis**2 for axis in grid(15, 15, 15)) <= 36
HOLLOW = BALL & (sum(axis**2 for axis in grid(15, 15, 15)) > 9)
KNOWN = {
    "ball": (BALL, (1, 0, 0)),
    "hollow ball": (HOLLOW, (1, 0, 1)),
    "torus": (torus((9, 23, 23)), (1, 1, 0)),
    "two linked rings": (torus((23, 23, 37), -3.5) | torus((23, 23, 37), 3.5, upright=True), (2, 2, 0)),
    "double torus": (torus((9, 23, 41), -7) | torus((9, 23, 41), 7), (1, 2, 0)),
    "ball within a hollow ball": (HOLLOW | (sum(axis**2 for axis in grid(15, 15, 15)) <= 1), (2, 0, 1)),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("connectivity", ["26", "18", "6"])
def test_known_shapes(name: str, connectivity: str) -> None:
    """Solid shapes have the Betti numbers that they have in space, whatever the neighbours."""
    mask, (pieces, tunnels, cavities) = KNOWN[name]
    expected = [pieces, tunnels, cavities, cavities, pieces - tunnels + cavities]
    assert numbers_of(mask.astype(np.uint8), connectivity) == expected
    assert numbers_of(np.asfortranarray(mask.astype(np.uint8)), connectivity) == expected


def test_flat_shapes() -> None:
    """In 2-D a hole is a tunnel and closed in; the same pixels as one slice of a volume have a tunnel and no hole."""
    letters = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 1]], np.uint8)
    assert numbers_of(letters) == [3, 2, 0, 2, 1]
    assert numbers_of(letters[None]) == [3, 2, 0, 0, 1]


def test_ignored_voxels_are_in_no_set() -> None:
    """A ring with an ignored voxel is open, an ignored bridge joins nothing."""
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    assert numbers_of(ring, ignore_label=9) == [1, 1, 0, 1, 0]
    ring[0, 1] = 9
    assert numbers_of(ring, ignore_label=9) == [1, 0, 0, 0, 1]
    assert numbers_of(np.array([[1, 9, 1]], np.uint8), ignore_label=9) == [2, 0, 0, 0, 2]


def test_connectivity_of_a_plane_in_a_volume() -> None:
    """8 and 4 are words for 26 and 6 in 2-D and are refused in 3-D, with what is meant instead."""
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    assert [numbers_of(mask, c)[0] for c in ("26", "18", "8", "6", "4")] == [1, 1, 1, 2, 2]
    with pytest.raises(UsageError, match="connectivity=8 is of images with 2 axes") as caught:
        numbers_of(mask[None], "8")
    assert caught.value.hint == "connectivity=26, 18 or 6"


# --- Euler numbers, counted cell by cell ----------------------------------------------------------


def closed_cells(mask: Mask) -> int:
    """Return corners - edges + faces - voxels of the union of closed voxels, each cell counted once."""
    cells = {
        tuple(2 * x + step for x, step in zip(voxel, steps, strict=True))
        for voxel in np.argwhere(mask)
        for steps in product((-1, 0, 1), repeat=3)
    }
    return sum((-1) ** sum(x % 2 == 0 for x in cell) for cell in cells)


def full_cells(mask: Mask) -> int:
    """Return voxels - pairs + squares - cubes of voxels that are all inside."""
    total = 0
    for size in product((1, 2), repeat=3):
        if all(n >= s for n, s in zip(mask.shape, size, strict=True)):
            blocks = np.lib.stride_tricks.sliding_window_view(mask, size)
            total += (-1) ** (sum(size) - 3) * int(blocks.all(axis=(3, 4, 5)).sum())
    return total


def cut_corners(mask: Mask) -> Mask:
    """Return the mask at three times the size, voxels that share nothing but a corner cut apart at it."""
    fine = np.pad(np.kron(mask, np.ones((3, 3, 3), np.uint8)), 3)
    wide = np.pad(mask, 1)
    for z, y, x in product(*(range(n - 1) for n in wide.shape)):
        cell = wide[z : z + 2, y : y + 2, x : x + 2]
        if cell.sum() == 2 and (cell == cell[::-1, ::-1, ::-1]).all():
            fine[3 * z + 2 : 3 * z + 4, 3 * y + 2 : 3 * y + 4, 3 * x + 2 : 3 * x + 4] = 0
    return fine


@given(volumes())
@few
def test_euler_number(mask: Mask) -> None:
    """The table of codes gives what counting cells gives, under all three kinds of neighbours."""
    assert euler_number(mask, 26) == closed_cells(mask)
    assert euler_number(mask, 6) == full_cells(mask)
    assert euler_number(mask, 18) == closed_cells(cut_corners(mask))


@given(volumes(), st.sampled_from(["26", "18", "6"]), st.integers(0, 99))
@few
def test_betti_numbers(mask: Mask, connectivity: str, seed: int) -> None:
    """Pieces and cavities are SciPy's, tunnels are never negative, and turning the volume changes nothing."""
    own, other = (ndimage.generate_binary_structure(3, rank) for rank in RANKS[int(connectivity)])
    found = numbers_of(mask, connectivity)
    cavities = ndimage.label(np.pad(mask, 1) == 0, other)[1] - 1
    assert found[0] == ndimage.label(mask, own)[1]
    assert found[2] == found[3] == cavities
    assert found[1] is not None
    assert found[1] >= 0
    random = np.random.default_rng(seed)
    turned = np.flip(mask, tuple(np.flatnonzero(random.integers(0, 2, 3)))).transpose(random.permutation(3))
    assert numbers_of(turned, connectivity) == found


@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 1)), st.sampled_from(["8", "4"]))
@few
def test_betti_numbers_of_a_plane(mask: Mask, connectivity: str) -> None:
    """In 2-D the holes are the pieces of the background that do not reach the outside, counted by SciPy."""
    ranks = (2, 1) if connectivity == "8" else (1, 2)
    own, other = (ndimage.generate_binary_structure(2, rank) for rank in ranks)
    pieces, holes = ndimage.label(mask, own)[1], ndimage.label(np.pad(mask, 1) == 0, other)[1] - 1
    assert numbers_of(mask, connectivity) == [pieces, holes, 0, holes, pieces - holes]


def test_scikit_image() -> None:
    """A larger field has the Euler numbers and pieces of scikit-image."""
    measure = pytest.importorskip("skimage.measure")
    field = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((30, 41, 70)), 1.5)
    mask = (field > np.quantile(field, 0.7)).astype(np.uint8)
    for connectivity, rank in (("26", 3), ("6", 1)):
        found = numbers_of(mask, connectivity)
        assert found[4] == measure.euler_number(mask, rank)
        assert found[0] == measure.label(mask, connectivity=rank).max()


# --- runs ----------------------------------------------------------------------------------------


def whole(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Return the box of a whole volume."""
    return np.array([[0, n] for n in mask.shape], dtype=np.int64)


@given(volumes(), volumes(), st.sampled_from([26, 18, 6]), st.booleans())
@few
def test_runs(a: Mask, b: Mask, connectivity: int, wide: bool) -> None:
    """Pieces, their sizes, boxes, centres and overlaps are what SciPy and NumPy find voxel by voxel."""
    dtype = np.uint16 if wide else np.uint8
    b = np.resize(b, a.shape)
    structure = ndimage.generate_binary_structure(3, RANKS[connectivity][0])
    found = []
    for mask in (a, b):
        runs, count = joined(runs_of(mask.astype(dtype), SETS), connectivity)
        labels, n = ndimage.label(mask, structure)
        assert count == n
        drawn = sum((painted(runs, np.arange(n) == k, whole(mask)) * (k + 1) for k in range(n)), np.zeros_like(mask))
        assert (drawn == labels).all()  # both number pieces by their first voxel
        measured = extents(runs, n)
        assert measured.sizes.tolist() == np.bincount(labels.ravel(), minlength=n + 1)[1:].tolist()
        for k, box in enumerate(ndimage.find_objects(labels)):
            assert measured.boxes[k].tolist() == [[part.start, part.stop] for part in box]
            assert measured.centres[k] == pytest.approx(np.argwhere(labels == k + 1).mean(axis=0), abs=1e-12)
            part = painted(runs, np.arange(n) == k, measured.boxes[k])
            assert (part == (labels[box] == k + 1)).all()
        found.append((runs, labels))
    pairs = zip(*(part.tolist() for part in overlaps(found[0][0], found[1][0])), strict=True)
    both = [(i - 1, j - 1) for i, j in zip(found[0][1].flat, found[1][1].flat, strict=True) if i and j]
    assert sorted(pairs) == sorted((i, j, both.count((i, j))) for i, j in set(both))
    gaps = background(runs_of(a, SETS))
    outside = painted(gaps, np.ones(1, np.bool_), np.array([[0, n] for n in gaps.shape]))
    assert (outside == (np.pad(a, 1) == 0)).all()


@given(arrays(np.uint8, (2, 3, 90), elements=st.integers(0, 3)), st.permutations([-1, 0, 0, 1]))
@few
def test_runs_of_values(codes: Mask, numbers: list[int]) -> None:
    """Runs hold the numbers of their codes: neighbours of one number are one run, those of -1 none."""
    runs = runs_of(codes, np.array(numbers, dtype=np.int32))
    drawn = np.full(codes.shape, -1)
    for row, (first, past) in enumerate(zip(runs.offsets[:-1], runs.offsets[1:], strict=True)):
        for i in range(first, past):
            assert i == first or runs.starts[i] > runs.stops[i - 1] or runs.values[i] != runs.values[i - 1]
            drawn.reshape(-1, codes.shape[2])[row, runs.starts[i] : runs.stops[i]] = runs.values[i]
    assert (drawn == np.array(numbers)[codes]).all()


def test_kernels_refuse_other_layouts() -> None:
    """Maps of another layout or type are refused by name."""
    with pytest.raises(ValueError, match="runs_of: need a C-contiguous 3-D uint8"):
        runs_of(np.zeros((2, 2), np.uint8), SETS)
    with pytest.raises(ValueError, match="euler_number: need a C-contiguous 3-D uint8"):
        euler_number(np.zeros((2, 2, 2)), 26)  # type: ignore[arg-type]
