"""Kernels against their naive twins, SciPy and `surface-distance`."""

from __future__ import annotations

import ast
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import cKDTree

from segcli.kernels import _jit, lanes, nearest
from segcli.kernels._jit import kernel
from segcli.kernels.contingency import contingency, label_boxes
from segcli.kernels.differences import differing_voxels
from segcli.kernels.distance_transform import distance_transform
from segcli.kernels.moments import label_moments
from segcli.kernels.nearest import nearest_distances
from segcli.kernels.runs import count_runs
from segcli.kernels.surface import surface_cells, surface_elements
from segcli.kernels.surfel_areas import face_areas, surfel_areas

KERNELS = Path(_jit.__file__).parent
DTYPES = (np.uint8, np.uint16)

spacings = st.floats(0.3, 5.0)


def label_maps(low_ndim: int, high_ndim: int, labels: int, largest: int = 6):
    """Draw label maps, many of them with long uniform stretches."""
    shapes = hnp.array_shapes(min_dims=low_ndim, max_dims=high_ndim, min_side=1, max_side=largest)
    dtypes = st.sampled_from(DTYPES)
    return st.tuples(dtypes, shapes).flatmap(
        lambda drawn: hnp.arrays(drawn[0], drawn[1], elements=st.integers(0, labels - 1), fill=st.just(drawn[0](1)))
    )


def blobs(shape, seed, labels=1, dtype=np.uint8):
    """Return smooth random labels that touch each other and the edges of the array."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 2.0)
    edges = np.quantile(smooth, np.linspace(0.4, 1.0, labels + 1)[:-1])
    return np.searchsorted(edges, smooth).astype(dtype)


# --- contingency ---------------------------------------------------------------------------------------


@given(data=st.data())
def test_contingency_equals_its_twin(data):
    """Counts and boxes are those of looking at one voxel after another."""
    pred = data.draw(label_maps(3, 3, 5))
    gt = data.draw(hnp.arrays(pred.dtype, pred.shape, elements=st.integers(0, 3)))
    check_counts(pred, gt, 5, 4)


def check_counts(pred, gt, n_pred, n_gt):
    """Compare the counts of two maps and the boxes of each with the twins."""
    ours = contingency(pred, gt, n_pred, n_gt)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, naive.contingency(pred, gt, n_pred, n_gt))
    for labels, n in ((pred, n_pred), (gt, n_gt)):
        boxes = label_boxes(labels, n)
        assert boxes.dtype == np.int64
        np.testing.assert_array_equal(boxes, naive.label_boxes(labels, n))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 31, 32, 33, 127, 128, 129, 600])
def test_contingency_at_every_length_of_block(dtype, width):
    """Rows shorter, as long as and longer than a block, uniform and busy, count alike."""
    rng = np.random.default_rng(width)
    pred = np.repeat(rng.integers(0, 4, (2, 3, width)), 1, axis=2).astype(dtype)
    gt = np.zeros_like(pred)
    gt[:, :, width // 2 :] = 2
    pred[1, :, : width * 2 // 3] = 1
    check_counts(pred, gt, 4, 3)


def test_contingency_of_many_labels():
    """A matrix too large for several banks counts the same."""
    rng = np.random.default_rng(0)
    pred = rng.integers(0, 500, (1, 40, 50)).astype(np.uint16)
    gt = rng.integers(0, 300, (1, 40, 50)).astype(np.uint16)
    check_counts(pred, gt, 500, 300)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 31, 33, 127, 129, 511, 70001])
def test_contingency_of_flat_stretches(dtype, size):
    """Stretches that run over rows, ends of every length, noise and a table large for its banks count alike."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 30, (1, 1, size)).astype(dtype)
    runs = np.repeat(rng.integers(0, 30, size // 40 + 1), 40)[:size].reshape(1, 1, size).astype(dtype)
    for pred, gt in ((noise, runs), (runs, runs), (runs, np.roll(runs, 3)), (noise, noise[..., ::-1].copy())):
        for n in (30, 257):
            expected = np.bincount(pred.ravel().astype(int) * n + gt.ravel(), minlength=n * n).reshape(n, n)
            np.testing.assert_array_equal(contingency(pred, gt, n, n), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("shape", [(2, 5, 63), (3, 4, 64), (2, 3, 65), (1, 2, 200)])
def test_contingency_of_noisy_maps(dtype, share, shape):
    """From a few changed voxels to noise, in rows that end anywhere in a comparison."""
    rng = np.random.default_rng(int(100 * share))
    gt = np.zeros(shape, dtype)
    gt[..., shape[2] // 3 :] = 3
    pred = np.roll(gt, 5, axis=2)
    hit = rng.random(shape) < share
    pred[hit] = rng.integers(0, 9, np.count_nonzero(hit))
    check_counts(pred, gt, 9, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_lanes(dtype, data):
    """Every lane tells of its own voxel, from whatever start; bits are counted and found from both ends."""
    values = data.draw(hnp.arrays(dtype, 80, elements=st.sampled_from([0, 1, 255, np.iinfo(dtype).max])))
    start, value = data.draw(st.integers(0, 16)), data.draw(st.sampled_from(values.tolist()))
    bits, ones, first, past = _every_lane(values, np.uint64(start), values.dtype.type(value))
    where = np.flatnonzero(values[start : start + 64] == value)
    assert bits == sum(1 << int(lane) for lane in where)
    assert (ones, first, past) == (len(where), where.min(initial=64), where.max(initial=-1) + 1)


@kernel()
def _every_lane(values, start, value):
    bits = lanes.lanes_of(values, start, value)
    return bits, lanes.count_lanes(bits), lanes.first_lane(bits), lanes.past_lanes(bits)


def test_contingency_refuses_other_layouts():
    """Shapes, dtypes and orders it does not read are errors, never silently copied."""
    cube = np.zeros((2, 3, 4), dtype=np.uint8)
    for pred, gt in [
        (cube[0], cube[0]),
        (cube, cube[:1]),
        (cube, cube.astype(np.uint16)),
        (cube.astype(np.int32), cube.astype(np.int32)),
        (np.asfortranarray(cube), np.asfortranarray(cube)),
    ]:
        with pytest.raises(ValueError, match="contingency"):
            contingency(pred, gt, 1, 1)


def test_read_only_and_empty_maps():
    """A read-only map is read, and a map without voxels has no counts."""
    cube = np.ones((2, 3, 4), dtype=np.uint8)
    cube.flags.writeable = False
    assert label_boxes(cube, 2)[1].tolist() == [[0, 2], [0, 3], [0, 4]]
    assert contingency(cube, cube, 2, 2)[1, 1] == 24
    assert surface_elements(cube, np.array([0, 1], np.int32), 1, (1, 1, 1), "border")[0][1] == 24
    nothing = np.zeros((0, 3, 4), dtype=np.uint8)
    assert contingency(nothing, nothing, 1, 1).sum() == 0
    assert label_boxes(nothing, 1).tolist() == [[[0, 0], [3, 0], [4, 0]]]
    assert len(surface_elements(nothing, np.array([0, 1], np.int32), 1, (1, 1, 1), "surfel")[1]) == 0


# --- surface elements ----------------------------------------------------------------------------------


def check_elements(labels, lut, n, spacing):
    """Compare both surfaces of all labels with the twins."""
    areas = surfel_areas(tuple(spacing))
    if labels.ndim == 2:
        areas = [areas[code << 4 | code] for code in range(16)]
    ignored = lut[labels] == -1
    borders = {
        "border": (1, True), "border_c2": (2, True), "border_c3": (3, True),
        "border_open": (1, False), "border26": (3, False),
    }  # fmt: skip
    for surface in ("surfel", *borders):
        offsets, points, weights = surface_elements(labels, lut, n, spacing, surface)
        assert (offsets[0], offsets[-1]) == (0, len(points))
        assert points.shape == (len(weights), labels.ndim)
        for label in range(1, n + 1):
            mine = slice(offsets[label - 1], offsets[label])
            inside = lut[labels] == label
            if surface in borders:
                reach, closed = borders[surface]
                cells = naive.border(inside, ignored, reach, closed=closed)
                expected = np.ones(len(cells))
            else:
                cells, expected = naive.surfels(inside, ignored, areas)
            assert [tuple(point) for point in points[mine].tolist()] == [tuple(map(int, cell)) for cell in cells]
            np.testing.assert_allclose(weights[mine], expected, rtol=1e-14)


@given(labels=label_maps(2, 3, 5), lut=st.lists(st.integers(-1, 3), min_size=5, max_size=5), spacing=st.data())
def test_surface_elements_equal_their_twins(labels, lut, spacing):
    """Any table of labels, background and ignored values gives the twins' elements, in C order."""
    steps = spacing.draw(st.tuples(*[spacings] * labels.ndim))
    check_elements(labels, np.array(lut, dtype=np.int32), 3, steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 1, 1), (1, 7, 1), (2, 3, 40), (3, 40, 2), (20, 21)])
def test_surface_elements_of_odd_shapes(dtype, shape):
    """Single voxels, lines, and rows around the length of a machine word."""
    rng = np.random.default_rng(1)
    check_elements(
        rng.integers(0, 4, shape).astype(dtype), np.array([0, 1, 2, -1], np.int32), 2, (1.5, 0.7, 1)[: len(shape)]
    )
    check_elements(np.ones(shape, dtype), np.array([0, 1], np.int32), 1, (1.5, 0.7, 1)[: len(shape)])
    check_elements(np.zeros(shape, dtype), np.array([0, 1], np.int32), 1, (1.5, 0.7, 1)[: len(shape)])


def test_surface_elements_without_a_background_value():
    """When all 256 values are labels, what is outside the array is still background."""
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    check_elements(labels, np.full(256, 1, dtype=np.int32), 1, (1, 1))
    check_elements(labels % 3, np.array([1, 2, 3], dtype=np.int32), 3, (1, 1))


def test_surface_elements_outgrow_their_first_buffer(monkeypatch):
    """The buffer of elements doubles without losing any."""
    monkeypatch.setattr("segcli.kernels.elements._FIRST_CAPACITY", 0)
    labels = np.indices((12, 13, 14)).sum(axis=0).astype(np.uint8) % 3
    check_elements(labels, np.array([0, 1, 2], np.int32), 2, (1, 1, 1))


def test_surface_elements_of_the_transpose():
    """Working on the transpose with reversed spacing gives the reversed points and the same areas."""
    labels = blobs((11, 13, 17), 3, labels=2)
    lut = np.array([0, 1, 2], np.int32)
    spacing = (3.0, 0.7, 1.1)
    offsets, points, weights = surface_elements(labels, lut, 2, spacing, "surfel")
    turned = surface_elements(np.ascontiguousarray(labels.T), lut, 2, spacing[::-1], "surfel")
    np.testing.assert_array_equal(offsets, turned[0])
    for label in (1, 2):
        mine = slice(offsets[label - 1], offsets[label])
        order = np.lexsort(turned[1][mine].T)
        np.testing.assert_array_equal(points[mine], turned[1][mine][order][:, ::-1])
        np.testing.assert_array_equal(weights[mine], turned[2][mine][order])


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    "axes", [(0, 1), (1, 0), (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)], ids=str
)
def test_elements_in_the_order_of_other_axes(axes, few):
    """They are those of the turned map, to the last bit and in its order; few in a large map are sorted another way."""
    ndim = len(axes)
    labels = blobs((11, 13, 17)[:ndim], 3, labels=2)
    if few:
        labels = np.zeros((60, 50, 40)[:ndim], np.uint8)
        for place, label in ((3, 1), (31, 2), (20, 1), (22, 1)):
            labels[tuple(range(place, place + ndim))] = label
    lut, spacing = np.array([0, 1, 2], np.int32), (3.0, 0.7, 1.1)[:ndim]
    other = np.roll(labels, 1, axis=0)
    turned = [np.ascontiguousarray(m.transpose(axes)) for m in (labels, other)]
    for surface in ("surfel", "vertex", "border26"):
        expected = surface_elements(turned[0], lut, 2, [spacing[axis] for axis in axes], surface)
        same(surface_elements(labels, lut, 2, spacing, surface, axes), expected)
    same(surface_cells(labels, lut, 2, axes), surface_cells(turned[0], lut, 2))
    expected = differing_voxels(*turned, lut, lut, 2)
    for ours, theirs in zip(differing_voxels(labels, other, lut, lut, 2, axes), expected, strict=True):
        same(ours, theirs)


def same(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_surface_elements_refuse_other_arguments():
    """Layouts, dtypes, surfaces and spacings it does not know are errors."""
    cube = np.zeros((2, 3, 4), dtype=np.uint8)
    lut = np.array([0, 1], np.int32)
    for labels, spacing, surface in [
        (cube.T, (1, 1, 1), "surfel"),
        (cube.astype(np.int64), (1, 1, 1), "surfel"),
        (cube, (1, 1), "surfel"),
        (cube, (1, 1, 1), "mesh"),
    ]:
        with pytest.raises(ValueError, match="surface_elements"):
            surface_elements(labels, lut, 1, spacing, surface)


@given(data=st.data())
def test_differing_voxels_equal_their_twin(data):
    """Each label's voxels that the other map does not give it, in C order; ignored ones are in no list."""
    a = data.draw(label_maps(2, 3, 5))
    b = data.draw(hnp.arrays(a.dtype, a.shape, elements=st.integers(0, 4)))
    luts = [np.array(data.draw(st.lists(st.integers(-1, 3), min_size=5, max_size=5)), np.int32)]
    luts.append(luts[0] if data.draw(st.booleans()) else np.roll(luts[0], 1))
    la, lb = luts[0][a], luts[1][b]
    counted = (la >= 0) & (lb >= 0)
    for (offsets, points), mine, other in zip(differing_voxels(a, b, *luts, 3), (la, lb), (lb, la), strict=True):
        assert points.dtype == np.int32
        for label in (1, 2, 3):
            found = points[offsets[label - 1] : offsets[label]]
            np.testing.assert_array_equal(found, np.argwhere(counted & (mine == label) & (other != label)))


@given(spacing=st.tuples(spacings, spacings, spacings), ndim=st.sampled_from([2, 3]), code=st.integers(0, 255))
def test_areas_around_corners(spacing, ndim, code):
    """The area around a corner is the sum over pairs of face neighbours, one inside and one outside."""
    steps = spacing[:ndim]
    bits = np.array([code >> (2**ndim - 1 - k) & 1 for k in range(2**ndim)]).reshape((2,) * ndim)
    pairs = [np.abs(np.diff(bits, axis=axis)).sum() for axis in range(ndim)]
    expected = sum(n * np.prod(steps) / steps[axis] / 2 ** (ndim - 1) for axis, n in enumerate(pairs))
    index = code if ndim == 3 else (code & 15) * 17
    assert face_areas(steps)[index] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(spacing=st.tuples(spacings, spacings, spacings))
def test_areas_are_those_of_surface_distance(spacing):
    """All 256 areas and all 16 lengths equal the tool's at any spacing."""
    tables = pytest.importorskip("surface_distance.lookup_tables")
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(surfel_areas(spacing), theirs, rtol=1e-12)
    lengths = tables.create_table_neighbour_code_to_contour_length(spacing[:2])
    # To the last digit: where a share of the length is exactly that asked for, rounding decides the percentile.
    np.testing.assert_array_equal([surfel_areas(spacing[:2])[code * 17] for code in range(16)], lengths)


# The tool calls names that SciPy and NumPy have dropped or deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(40, 50), (14, 20, 24)])
def test_pipeline_equals_surface_distance(shape, seed):
    """Elements, areas and distances of random blobs are those of surface-distance, distance by distance."""
    peer = pytest.importorskip("surface_distance")
    spacing = (2.5, 0.8, 1.3)[: len(shape)]
    masks = [blobs(shape, 2 * seed), blobs(shape, 2 * seed + 1)]
    theirs = peer.compute_surface_distances(masks[0] > 0, masks[1] > 0, spacing)
    lut = np.array([0, 1], np.int32)
    (_, gt, gt_areas), (_, pred, pred_areas) = (surface_elements(mask, lut, 1, spacing, "surfel") for mask in masks)
    distances = nearest_distances(gt, pred, spacing)
    for ours, areas, way, whose in [
        (distances[0], gt_areas, "distances_gt_to_pred", "surfel_areas_gt"),
        (distances[1], pred_areas, "distances_pred_to_gt", "surfel_areas_pred"),
    ]:
        # Equal distances may differ in the last bit there; round before sorting by area.
        order = np.lexsort((areas.round(9), ours.round(9)))
        their_order = np.lexsort((theirs[whose].round(9), theirs[way].round(9)))
        np.testing.assert_allclose(ours[order], theirs[way][their_order], rtol=1e-12, atol=0)
        np.testing.assert_allclose(areas[order], theirs[whose][their_order], rtol=1e-12, atol=0)


# --- nearest distances ---------------------------------------------------------------------------------


def both_ways(a, b, spacing):
    """Compare nearest distances with a KD-tree on the scaled points."""
    ours = nearest_distances(a, b, spacing)
    scaled_a, scaled_b = a * np.asarray(spacing), b * np.asarray(spacing)
    np.testing.assert_allclose(ours[0], cKDTree(scaled_b).query(scaled_a)[0], rtol=1e-12, atol=0)
    np.testing.assert_allclose(ours[1], cKDTree(scaled_a).query(scaled_b)[0], rtol=1e-12, atol=0)


def point_sets(ndim):
    """Draw two sets of points in any order, repeated points included."""
    shapes = st.tuples(st.integers(1, 40), st.just(ndim))
    points = hnp.arrays(np.int32, shapes, elements=st.integers(-4, 12))
    return st.tuples(points, points, st.tuples(*[spacings] * ndim))


@given(drawn=st.one_of(point_sets(2), point_sets(3)))
def test_nearest_equals_its_twin(drawn):
    """Any small sets, in any order, have the distances found by trying all pairs."""
    a, b, spacing = drawn
    ours = nearest_distances(a, b, spacing)
    np.testing.assert_allclose(ours[0], naive.nearest(a, b, spacing), rtol=1e-12, atol=0)
    np.testing.assert_allclose(ours[1], naive.nearest(b, a, spacing), rtol=1e-12, atol=0)


# What sends points to the row search alone, through its budget, past its table of rows, or past it altogether.
WAYS = {
    "search": {"_PROBES_PER_VOXEL": 10**9},
    "out of budget": {"_PROBES_PER_VOXEL": 0.02},
    "few rows": {"_ROWS": 6},
    "no table": {"_LARGEST_TABLE": 0},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spacing", [(1, 1, 1), (5, 0.3, 0.8), (0.3, 5, 1)])
@pytest.mark.parametrize("far", [False, True])
def test_nearest_is_exact_on_every_path(monkeypatch, way, spacing, far):
    """The row search, the transform and their mixtures give the KD-tree's distances, far blobs included."""
    lut = np.array([0, 1], np.int32)
    masks = [blobs((20, 30, 40), 7), blobs((20, 30, 40), 8)]
    if far:
        masks[0][2:, 10:, :20] = 0
        masks[1] = np.pad(masks[1][:, :, 25:], ((0, 0), (0, 0), (30, 0)))
        masks[0] = np.pad(masks[0], ((0, 0), (0, 0), (0, 5)))
    swept = []
    sweep = nearest.lower_squares
    monkeypatch.setattr(nearest, "lower_squares", lambda *given: swept.append(len(given[0])) or sweep(*given))
    for name, value in WAYS[way].items():
        monkeypatch.setattr(nearest, name, value)
    nearest._row_offsets.cache_clear()
    a, b = (surface_elements(mask, lut, 1, spacing, "surfel")[1] for mask in masks)
    both_ways(a, b, spacing)
    both_ways(a[:, 1:], b[:, 1:], spacing[1:])
    nearest._row_offsets.cache_clear()
    if way != "search":
        assert swept
    elif not far:
        assert not swept


def test_nearest_of_single_and_sparse_points():
    """One point, two far ones, lines along each axis and negative indices."""
    origin = np.zeros((1, 3), np.int32)
    both_ways(origin, origin + 5, (1, 2, 3))
    both_ways(origin, np.array([[-10000, 3, 9], [20000, 0, -7]], np.int32), (0.3, 5, 1))
    for axis in range(3):
        line = np.zeros((300, 3), np.int32)
        line[:, axis] = np.arange(300)
        both_ways(line, line[::7] + 2, (1, 2, 3))
    wide = np.array([[0, 0], [0, 70000], [1, 35000]] * 200, np.int32)
    wide[:, 0] += np.repeat(np.arange(200), 3)
    both_ways(wide, wide[::5] + 1, (1, 1))


def test_nearest_refuses_empty_and_odd_sets():
    """No points, or columns that do not fit the spacing, are errors."""
    some = np.zeros((2, 3), np.int32)
    for a, b, spacing in [
        (some[:0], some, (1, 1, 1)),
        (some, some[:0], (1, 1, 1)),
        (some, some, (1, 1)),
        (some, some, (1,)),
    ]:
        with pytest.raises(ValueError, match="nearest_distances"):
            nearest_distances(a, b, spacing)


# --- distance transform --------------------------------------------------------------------------------


@given(data=st.data())
def test_distance_transform_equals_scipy(data):
    """Random features in 2-D and 3-D have SciPy's exact distances."""
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12))
    features = data.draw(hnp.arrays(np.bool_, shape, fill=st.just(False)))
    spacing = data.draw(st.tuples(*[spacings] * len(shape)))
    ours = distance_transform(features, spacing)
    if features.any():
        expected = ndimage.distance_transform_edt(~features, sampling=spacing)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=0)
    else:
        assert np.isinf(ours).all()


@pytest.mark.parametrize("density", [0.0005, 0.05, 0.9])
@pytest.mark.parametrize("arrange", [np.ascontiguousarray, np.asfortranarray, lambda a: a[::2, :, ::-1]])
def test_distance_transform_of_any_layout(arrange, density):
    """C and Fortran order and strided views, sparse and dense, have SciPy's distances."""
    rng = np.random.default_rng(0)
    features = arrange(rng.random((20, 31, 43)) < density)
    features[0, 0, 0] = True
    features.flags.writeable = False
    ours = distance_transform(features, (0.3, 5, 1.7))
    expected = ndimage.distance_transform_edt(~features, sampling=(0.3, 5, 1.7))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=0)


def test_distance_transform_refuses_other_arrays():
    """Another dtype, number of axes or of spacings is an error; no voxels are no distances."""
    assert distance_transform(np.zeros((0, 4), np.bool_), (1, 1)).shape == (0, 4)
    for features, spacing in [
        (np.zeros((2, 2), np.uint8), (1, 1)),
        (np.zeros(3, np.bool_), (1,)),
        (np.zeros((2, 2), np.bool_), (1,)),
    ]:
        with pytest.raises(ValueError, match="distance_transform"):
            distance_transform(features, spacing)


# --- runs ----------------------------------------------------------------------------------------------


@given(data=st.data(), dtype=st.sampled_from([np.uint32, np.uint64]))
def test_count_runs_equals_its_twin(data, dtype):
    """Runs are counted as one key after another, up to the largest key there is."""
    top = int(np.iinfo(dtype).max)
    elements = st.one_of(st.integers(0, 9), st.integers(top - 9, top))
    keys = np.sort(data.draw(hnp.arrays(dtype, st.integers(0, 40), elements=elements)))
    keys.flags.writeable = data.draw(st.booleans())
    found, sizes, marked = count_runs(keys)
    assert (found.dtype, sizes.dtype, marked.dtype) == (dtype, np.int64, np.int64)
    assert [found.tolist(), sizes.tolist(), marked.tolist()] == naive.count_runs(keys)


def test_count_runs_refuses():
    """Another dtype or shape is refused."""
    for keys in (np.zeros(3, np.int64), np.zeros((2, 2), np.uint32)):
        with pytest.raises(ValueError, match="count_runs"):
            count_runs(keys)


# --- moments -------------------------------------------------------------------------------------------


@given(labels=label_maps(3, 3, 5, largest=7), start=st.integers(0, 1000), writable=st.booleans())
def test_label_moments_equal_their_twin(labels, start, writable):
    """Sums of runs are the sums of the coordinates of each voxel, whole or slab by slab."""
    labels.flags.writeable = writable
    sums = label_moments(labels, 6, start)
    assert sums.dtype == np.int64
    np.testing.assert_array_equal(sums, naive.label_moments(labels, 6, start))
    slabs = [label_moments(labels[z : z + 1], 6, start + z) for z in range(len(labels))]
    np.testing.assert_array_equal(sum(slabs), sums)


def test_label_moments_of_long_rows():
    """The closed form of a run holds as far as 64 bits do."""
    row = np.zeros((1, 1, 1_300_000), np.uint8)
    x = range(row.size)
    assert label_moments(row, 1).tolist() == [
        [row.size, 0, 0, sum(x), 0, 0, 0, 0, 0, (row.size - 1) * row.size * (2 * row.size - 1) // 6]
    ]


def test_label_moments_refuse():
    """Another dtype, order or number of axes is an error."""
    cube = np.zeros((2, 3, 4), np.uint8)
    for labels in (cube[0], cube.astype(np.int32), np.asfortranarray(cube)):
        with pytest.raises(ValueError, match="label_moments"):
            label_moments(labels, 1)


# --- the house -----------------------------------------------------------------------------------------


def test_kernels_call_kernels_of_their_own_file_only():
    """A cached kernel keeps the old code of what it called in another file, so it calls nothing there.

    But for lanes and blocks, which are instructions: their source is in the name of the cache, as every kernel's is.
    """
    for path in sorted(KERNELS.glob("*.py")):
        tree = ast.parse(path.read_text())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segcli")
            if node.module not in ("segcli.kernels.lanes", "segcli.kernels.blocks")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any("kernel" in ast.unparse(d) for d in node.decorator_list):
                called = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                body = called - {
                    name.id for d in node.decorator_list for name in ast.walk(d) if isinstance(name, ast.Name)
                }
                assert not body & imported, f"{path.name}: {node.name} uses {body & imported}"
