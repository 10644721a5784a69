"""The mesh surface: its kernels against slow twins, VTK and MeshMetrics, and what it is worth."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Literal

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import mesh_triangles, to_triangles
from scipy import ndimage

import segcli
from segcli.kernels import mesh_near, mesh_search, mesh_tree, mesh_vertices
from segcli.kernels.mesh import mesh_distances
from segcli.kernels.mesh_cases import MIDDLES, mesh_cases
from segcli.kernels.surface import surface_cells

INSIDE = np.array([0, 1], np.int32)
ASKED = ["hd", "hd95", "assd", "masd", "nsd:tol=0.9"]


def cells_of(mask):
    """Return the cells and codes of a mask."""
    return surface_cells(np.ascontiguousarray(mask, np.uint8), INSIDE, 1)[1:]


def measured(pred, gt, spacing):
    """Return distances from pred and from gt, and areas."""
    return mesh_distances(cells_of(pred), cells_of(gt), spacing)


def scores(pred, gt, spacing=None, surface="mesh"):
    """Return the five metrics as a user gets them."""
    return list(all_of(segcli.score(pred, gt, metrics=ASKED, surface=surface, spacing=spacing, labels="fg=any")))


def all_of(scored):
    return [v.value for v in scored.values]


def blobs(shape, seed, share=0.4):
    """Return a smooth random mask that touches the edges of its grid."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.2, mode="wrap")
    return (field >= np.quantile(field, 1 - share)).astype(np.uint8)


# --- kernels against their twins ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 1.3), (1.0, 1.0), (0.3, 5.0)])
def test_distances_equal_their_twin(spacing, seed):
    """Every centroid has the least of its distances to all triangles, computed one by one; areas fit too."""
    shape = (6, 7, 8)[-len(spacing) :]
    random = np.random.default_rng(seed)
    masks = [random.random(shape) < share for share in (0.3, 0.1)]
    ours = measured(*masks, spacing)
    triangles = [mesh_triangles(mask, spacing) for mask in masks]
    for k in range(2):
        corners = triangles[k]
        middles = corners[:, :2].mean(axis=1) if len(spacing) == 2 else corners.mean(axis=1)
        expected = to_triangles(middles, triangles[1 - k])
        np.testing.assert_allclose(ours[k], expected, rtol=1e-12, atol=1e-12)
        sides = corners[:, 1:] - corners[:, :1]
        areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        lengths = np.linalg.norm(sides[:, 0], axis=1)
        np.testing.assert_allclose(ours[k + 2], lengths if len(spacing) == 2 else areas, rtol=1e-12)


# What sends centroids to the cells around, to the vertices at once, or to them after a few cells.
WAYS = {"both": {}, "vertices only": {"_LARGEST_GRID": 0}, "few cells": {"_NEAR": 27}, "many cells": {"_NEAR": 4000}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.3, 0.8), (0.3, 5.0, 1.0), (2.0, 1.0)])
def test_distances_are_exact_on_every_path(monkeypatch, way, spacing):
    """Far blobs, shifts and close surfaces: each way of searching gives the distances of the slow twin."""
    shape = (12, 18, 25)[-len(spacing) :]
    pred, gt = blobs(shape, 1, 0.1), blobs(shape, 2, 0.1)
    pred[..., 14:], gt[..., :11] = 0, 0
    pred[(0,) * pred.ndim] = pred[(-1,) * pred.ndim] = 1
    grown = []
    grow = mesh_search.mesh_tree
    monkeypatch.setattr(mesh_search, "mesh_tree", lambda *given: grown.append(1) or grow(*given))
    for name, value in WAYS[way].items():
        monkeypatch.setattr(mesh_near, name, value)
    mesh_near.near_cells.cache_clear()
    ours = measured(pred, gt, spacing)
    mesh_near.near_cells.cache_clear()
    corners = [mesh_triangles(mask, spacing) for mask in (pred, gt)]
    for k in range(2):
        middles = corners[k][:, :2].mean(axis=1) if len(spacing) == 2 else corners[k].mean(axis=1)
        np.testing.assert_allclose(ours[k], to_triangles(middles, corners[1 - k]), rtol=1e-12, atol=1e-12)
    if way != "many cells":
        assert grown


@pytest.mark.parametrize("many_bits", [False, True])
def test_tree_holds_every_cell_within_its_boxes(many_bits):
    """Every node's box is that of its children's, a cell's that of its centroids, and each cell stands in one node."""
    cells, codes = cells_of(blobs((9, 30, 14), 5))
    if many_bits:  # far apart keys leave no room for places
        cells[-1] += 1_000_000
    steps = np.array([3.0, 1.0, 0.5])
    cases = mesh_cases(tuple(steps))
    tree = mesh_tree.mesh_tree(cells, codes, steps, cases.extents)
    centroids = [cases.centroids[cases.starts[code] : cases.starts[code + 1]] + cell * steps
                 for cell, code in zip(cells, codes, strict=True)]  # fmt: skip
    held = []
    for bounds, (first, last, leaf) in zip(tree.bounds, tree.children, strict=True):
        mine = tree.order[first:last]
        points = np.vstack([centroids[i] for i in mine]) if leaf else tree.bounds[first:last].reshape(-1, 3)
        np.testing.assert_allclose(bounds, [*points.min(axis=0), *points.max(axis=0)], rtol=1e-12)
        held += mine.tolist() if leaf else []
    assert sorted(held) == list(range(len(cells)))
    assert (tree.children[:-1, 1] <= len(cells)).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.5), (1.0, 2.0)])
@pytest.mark.parametrize("hidden", [0.0, 0.2])
def test_vertices_are_the_corners_of_the_triangles(spacing, hidden):
    """Each corner is one vertex, around it stand its triangles; groups and rooms bound what they should."""
    ndim = len(spacing)
    cells, codes = cells_of(np.random.default_rng(7).random((7, 8, 9)[-ndim:]) < 0.4)
    seen = np.random.default_rng(8).random(len(cells)) >= hidden  # ignored voxels leave holes
    cells, codes = np.hstack([np.zeros((len(cells), 3 - ndim), np.int32), cells])[seen], codes[seen]
    cases = mesh_cases(spacing)
    steps = np.array([1.0] * (3 - ndim) + list(spacing))
    found = mesh_vertices.mesh_vertices(cells, codes, cases, spacing)
    triangles = {}
    for cell, code in zip(cells, codes, strict=True):
        for row in cases.triangles[cases.starts[code] : cases.starts[code + 1]]:
            shape = [row[:3], row[:3] + row[3:6], row[:3] + row[6:9]]
            shape = [tuple(np.rint(2 * (corner / steps + cell)).astype(int)) for corner in shape]
            for corner in set(shape):
                triangles.setdefault(corner, []).append(sorted(shape))
    assert sorted(map(tuple, found.places)) == sorted(triangles)
    share = np.random.default_rng(9).dirichlet((1, 1, 1), 300)
    for place, around, point in zip(found.places, found.codes, found.points.T, strict=True):
        odd = int(np.flatnonzero(place % 2)[0])
        others = [axis for axis in range(3) if axis != odd]
        fan = []
        for slot, code in enumerate(around.tolist()):
            cell = place // 2
            cell[others] -= slot >> 1, slot & 1
            edge = MIDDLES.index(tuple(place - 2 * cell))
            for t in cases.fans[cases.fan_starts[12 * code + edge] : cases.fan_starts[12 * code + edge + 1]]:
                row = cases.triangles[t]
                shape = np.array([row[:3], row[:3] + row[3:6], row[:3] + row[6:9]])
                fan.append(sorted(tuple(np.rint(2 * (corner / steps + cell)).astype(int)) for corner in shape))
                # No point of the triangle is farther from all corners than its room says.
                away = np.linalg.norm((share @ shape)[:, None] - shape, axis=2).min(axis=1)
                assert (away**2).max() <= point[3]
        assert sorted(fan) == sorted(triangles[tuple(place)])
        np.testing.assert_allclose(point[:3], place * steps / 2)
    for group, (first, last) in enumerate(pairwise(found.starts)):
        mine = found.points[:, first:last]
        assert [*mine[:3].min(axis=1), *mine[:3].max(axis=1), mine[3].max()] == found.boxes[group].tolist()
        assert (np.ptp(mine[:3], axis=1) <= found.size).all()
    assert found.starts[-1] == len(found.places)


def test_one_voxel_is_an_octahedron():
    """Eight triangles around a voxel, whose corners lie half a voxel from its centre."""
    cells, codes = cells_of(np.ones((1, 1, 1)))
    cases = mesh_cases((2.0, 1.0, 0.5))
    corners = set()
    for cell, code in zip(cells, codes, strict=True):
        (row,) = cases.triangles[cases.starts[code] : cases.starts[code + 1]]
        for way in ([0] * 3, row[3:6], row[6:9]):
            corners.add(tuple((cell - 1) * [2.0, 1.0, 0.5] + row[:3] + way))
    assert len(cells) == 8
    assert corners == {(1, 0, 0), (-1, 0, 0), (0, 0.5, 0), (0, -0.5, 0), (0, 0, 0.25), (0, 0, -0.25)}


def test_empty_meshes_are_refused():
    """A distance to nothing is the caller's to define."""
    some, nothing = cells_of(np.ones((2, 2))), cells_of(np.zeros((2, 2)))
    for pair in ((some, nothing), (nothing, some)):
        with pytest.raises(ValueError, match="at least one cell"):
            mesh_distances(*pair, (1, 1))


# --- other tools ------------------------------------------------------------------------------------


def test_triangles_are_those_of_vtk():
    """Each of the 256 codes has the triangles that vtkDiscreteMarchingCubes draws."""
    vtk = pytest.importorskip("vtk")
    arrays = pytest.importorskip("vtk.util.numpy_support")
    ours = mesh_cases((2.0, 2.0, 2.0))
    for code in range(256):
        inside = np.array([code >> (7 - k) & 1 for k in range(8)], np.uint8).reshape(2, 2, 2)
        image = vtk.vtkImageData()
        image.SetDimensions(2, 2, 2)
        image.GetPointData().SetScalars(arrays.numpy_to_vtk(inside.T.ravel(), deep=True))  # the first axis is x
        cubes = vtk.vtkDiscreteMarchingCubes()
        cubes.SetInputData(image)
        cubes.SetValue(0, 1)
        cubes.Update()
        drawn = cubes.GetOutput()
        expected = set()
        if drawn.GetNumberOfCells():
            points = 2 * arrays.vtk_to_numpy(drawn.GetPoints().GetData())
            corners = arrays.vtk_to_numpy(drawn.GetPolys().GetConnectivityArray()).reshape(-1, 3)
            expected = {frozenset(map(tuple, points[triangle])) for triangle in corners}
        assert triangles_of(ours, code) == expected


def triangles_of(cases, code):
    """Return the triangles of a code as sets of corners."""
    rows = cases.triangles[cases.starts[code] : cases.starts[code + 1]]
    return {frozenset(tuple(row[:3] + way) for way in ([0] * 3, row[3:6], row[6:9])) for row in rows}


@given(seed=st.integers(0, 2**32 - 1), ndim=st.sampled_from([2, 3]), share=st.sampled_from([0.05, 0.3, 0.6, 0.95]))
@settings(max_examples=40)
def test_meshmetrics(seed, ndim, share):
    """Distances, areas and metrics of random masks are those of MeshMetrics, which keeps single precision."""
    peer = pytest.importorskip("meshmetrics")
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 9, ndim))
    spacing = tuple(random.permutation([0.7, 1.0, 1.9, 3.3])[:ndim].tolist())
    pred, gt = random.random((2, *shape)) < share
    pred.flat[0] = gt.flat[-1] = True
    theirs = peer.DistanceMetrics(verbose=False)
    theirs.set_input(gt, pred, spacing=spacing)
    gt_far, gt_areas, pred_far, pred_areas = theirs.distances
    ours = measured(pred, gt, spacing)
    for k, expected in enumerate((pred_far, gt_far, pred_areas, gt_areas)):
        np.testing.assert_allclose(np.sort(ours[k]), np.sort(np.abs(expected)), rtol=1e-6, atol=1e-6)
    found = scores(pred.astype(np.uint8), gt.astype(np.uint8), spacing)
    assert [found[0], *found[2:4]] == pytest.approx([theirs.hd(), theirs.assd(), theirs.masd()], rel=1e-6, abs=1e-6)


def waves(shape, phase):
    """Return smooth lumps that touch the edges."""
    sines = [np.sin((0.9 - 0.2 * axis) * index + phase + axis) for axis, index in enumerate(np.indices(shape))]
    return (np.sum(sines, axis=0) > 0.3).astype(np.uint8)


def hashed(shape, seed):
    """Return a mask without any order, in which nearly all codes occur."""
    i = np.arange(np.prod(shape)).reshape(shape) + seed
    return ((i * i * 31 + i * 7919 + i // 5 * 257) % 97 < 30).astype(np.uint8)


# What pymeshmetrics 1.4.1 returned, with VTK 9.7.2: hd, hd95, assd, masd, nsd:tol=0.9. (At a tolerance that
# distances equal, its single precision decides.)
RECORDED = [
    (waves, (14, 17), (1.0, 1.0),
     [2.0, 1.7677669529663689, 0.4275337006772765, 0.4237579510539651, 0.8729126187974976]),
    (waves, (14, 17), (2.5, 0.8),
     [5.0, 3.1313934597875113, 0.6253137521697417, 0.6183837970299145, 0.8563476964851143]),
    (waves, (9, 11, 13), (1.0, 1.0, 1.0),
     [1.3070322617798433, 0.9428090415820635, 0.2172235242551079, 0.21720822411327195, 0.9449432206094508]),
    (waves, (9, 11, 13), (2.5, 0.8, 1.3),
     [2.5, 1.2698988629324324, 0.27121935918701257, 0.2711522267321195, 0.9132684311544053]),
    (hashed, (14, 17), (1.0, 1.0),
     [2.1505813167606567, 1.118033988749895, 0.4342119263493735, 0.433835031106258, 0.8893727491725086]),
    (hashed, (14, 17), (2.5, 0.8),
     [2.6667876439289118, 1.5331748106461964, 0.5345880510760802, 0.5342814369828238, 0.8560602085161143]),
    (hashed, (9, 11, 13), (1.0, 1.0, 1.0),
     [1.6832508230603465, 0.9622504486493763, 0.4002290425097417, 0.40025356822754066, 0.945530192545105]),
    (hashed, (9, 11, 13), (2.5, 0.8, 1.3),
     [2.210392122075478, 1.1429089766391896, 0.5009727324493437, 0.5009896653420277, 0.8697960412794583]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "spacing", "expected"), RECORDED)
def test_recorded_meshmetrics(make, shape, spacing, expected):
    """Masks drawn by a formula have the recorded values, whatever the memory layout."""
    pred, gt = make(shape, 0), make(shape, 0.4 if make is waves else 1000)
    assert scores(pred, gt, spacing) == pytest.approx(expected, rel=1e-6)
    turned = scores(np.asfortranarray(pred), np.asfortranarray(gt), spacing)
    assert turned == pytest.approx(expected, rel=1e-6)


# The same of real masks: files, label, values.
REAL = [
    ("meshmetrics/example_2d_pred_mask.nii.gz", "meshmetrics/example_2d_ref_mask.nii.gz", "any",
     [15.028140131396826, 15.000000223517418, 14.91991532823616, 14.919280072425481, 0.0]),
    ("isles_lesion/pred.nii.gz", "isles_lesion/gt.nii.gz", "any",
     [86.62947920117416, 84.45643189768846, 15.341525393973834, 19.574993377236694, 0.08582774292008791]),
    ("picai_lesion/case-5_detection_map.nii.gz", "picai_lesion/case-5_label.nii.gz", "any",
     [5.656854249492381, 4.8074017006186525, 1.643446824951916, 1.4428425296059721, 0.38383038312142803]),
    ("spine_panoptica/semantic_pred.nii.gz", "spine_panoptica/semantic_ref.nii.gz", 26,
     [3.299999952316286, 0.9136217596217243, 0.25980707668075875, 0.2597072007760698, 0.9566783875750899]),
    ("synthseg_1/pred.nii.gz", "synthseg_1/gt.nii.gz", 2,
     [35.57386681259152, 20.431457227629277, 4.959247908135826, 3.664624293427644, 0.31420043582423407]),
    ("totalseg_ct/aorta_pred_T264.nii.gz", "totalseg_ct/aorta_gt.nii.gz", "any",
     [10.659502802663921, 1.4142135623730976, 0.3158615786961195, 0.31585205129677085, 0.8899374098666026]),
]  # fmt: skip


@needs_shared("data", "index.json")
@pytest.mark.parametrize(("pred", "gt", "label", "expected"), REAL, ids=[r[0].split("/")[0] for r in REAL])
def test_recorded_real_masks(pred, gt, label, expected):
    """Files in Fortran order, with their spacings in single precision, have the recorded values."""
    found = segcli.score(
        SHARED / "data" / pred, SHARED / "data" / gt, metrics=ASKED, surface="mesh", labels={"it": label}
    )
    assert all_of(found) == pytest.approx(expected, rel=1e-6)


# --- what is true of any pair -------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 1.5), (1.0, 2.0)])
def test_symmetry_scaling_and_shift(spacing):
    """Swapping the masks swaps the directions; a longer spacing or a shift of both changes nothing else."""
    shape = (9, 12, 15)[-len(spacing) :]
    pred, gt = (np.pad(blobs(shape, seed), 2) for seed in (11, 12))
    ours = measured(pred, gt, spacing)
    for mine, other in zip(ours, np.array(measured(gt, pred, spacing), dtype=object)[[1, 0, 3, 2]], strict=True):
        np.testing.assert_array_equal(mine, other.astype(float))
    longer = measured(pred, gt, tuple(4 * s for s in spacing))
    for k in range(2):
        np.testing.assert_allclose(longer[k], 4 * ours[k], rtol=1e-12)
        np.testing.assert_allclose(longer[k + 2], 4 ** (len(spacing) - 1) * ours[k + 2], rtol=1e-12)
    moved = measured(
        np.roll(pred, (1,) * pred.ndim, range(pred.ndim)), np.roll(gt, (1,) * gt.ndim, range(gt.ndim)), spacing
    )
    for mine, other in zip(ours, moved, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 0, 1), (2, 1, 0)])
def test_axes_matter_little(axes):
    """Turned axes draw other triangles in saddles only: distances stay within half a voxel, means within 2%."""
    pred, gt = blobs((14, 15, 16), 21), blobs((14, 15, 16), 22)
    spacing = np.array([2.0, 1.0, 0.7])
    there = scores(pred, gt, tuple(spacing))
    turned = scores(*(np.ascontiguousarray(m.transpose(axes)) for m in (pred, gt)), tuple(spacing[list(axes)]))
    assert turned[0] == pytest.approx(there[0], abs=1)
    assert turned[2:] == pytest.approx(there[2:], rel=0.02)


def test_finer_voxels_of_the_same_shape():
    """A box split into finer voxels keeps its faces: only its bevelled edges and their share change."""
    pred, gt = np.zeros((2, 12, 12, 12), np.uint8)
    pred[3:9, 3:9, 3:9], gt[3:9, 3:9, 4:10] = 1, 1
    found = []
    for times in (1, 2, 4):
        fine = [m.repeat(times, 0).repeat(times, 1).repeat(times, 2) for m in (pred, gt)]
        found.append(scores(*fine, (1 / times,) * 3))
    assert [f[0] for f in found] == pytest.approx([1, 1, 1])
    # Two of six faces are one apart, at 4 of them the edges bring a little: 1/3 in the limit.
    errors = [abs(f[2] - 1 / 3) for f in found]
    assert errors[2] < errors[1] < errors[0] < 0.05


@pytest.mark.parametrize("gap", [1, 3, 8, 40])
def test_flat_walls_are_exactly_apart(gap):
    """Of two parallel slabs all but the rims of the facing sides lie at exactly their distance, near or far."""
    pred, gt = np.zeros((2, 9, 60, 9), np.uint8)
    pred[:, 5:8], gt[:, 8 + gap : 10 + gap] = 1, 1
    for distances in measured(pred, gt, (1.5, 0.7, 1.0))[:2]:
        assert np.isclose(distances, 0.7 * gap, rtol=1e-12).sum() >= 2 * 8 * 8
        assert distances.min() > 0.7 * gap * (1 - 1e-12)


@pytest.mark.parametrize(("spacing", "error"), [((1, 1, 1), 0.06), ((2.5, 1, 1), 0.10), ((5, 0.8, 0.8), 0.24)])
def test_concentric_balls(spacing, error):
    """Balls of 20 and 23 mm lie 3 mm apart: the means come nearer to it than with surfels, hd95 than with border."""
    shape = tuple(int(54 / s) for s in spacing)
    off = {"mesh": np.zeros(2), "surfel": np.zeros(2), "border": np.zeros(2)}
    for centre in (26.5, 26.9, 27.3):
        far = np.sqrt(sum((i * s - centre) ** 2 for i, s in zip(np.indices(shape), spacing, strict=True)))
        pred, gt = ((far <= radius).astype(np.uint8) for radius in (23, 20))
        for kind in off:
            values = scores(pred, gt, spacing, kind)
            off[kind] += np.array([values[1], values[3]]) / 9 - 1 / 3
    assert abs(off["mesh"][1]) < error
    assert abs(off["mesh"][1]) < abs(off["surfel"][1])
    assert abs(off["mesh"][0]) < abs(off["border"][0])


# --- ignored voxels, labels, layouts ------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_nothing_is_drawn_between_ignored_voxels(ndim):
    """A cell with an ignored corner holds no triangle; the others are as without ignored voxels."""
    mask, hidden = blobs((7, 8, 9)[-ndim:], 31), blobs((7, 8, 9)[-ndim:], 32, 0.1)
    everywhere = dict(zip(*(map(tuple, a) if a.ndim > 1 else a.tolist() for a in cells_of(mask)), strict=True))
    lut = np.array([0, 1, -1], np.int32)
    _, cells, codes = surface_cells(np.where(hidden, 2, mask).astype(np.uint8), lut, 1)
    padded = np.pad(hidden, 1)
    free = {
        cell: code
        for cell, code in everywhere.items()
        if not any(padded[tuple(np.add(cell, corner))] for corner in product((0, 1), repeat=ndim))
    }
    assert 0 < len(free) < len(everywhere)
    assert dict(zip(map(tuple, cells), codes.tolist(), strict=True)) == free


def test_ignored_columns_cut_the_contour():
    """Two bars whose right ends are ignored: what is left of their contours lies one row apart."""
    pred, gt = np.zeros((2, 8, 12), np.uint8)
    pred[2:5, :8], gt[3:6, :8] = 1, 1
    gt[:, 6:] = 255
    found = segcli.score(pred, gt, metrics="hd,masd", surface="mesh", labels="fg=1", ignore_label=255)
    assert found.value("hd") == pytest.approx(1)


def test_labels_together_as_one_by_one():
    """Labels that touch have the distances they have alone; a region is the union of its labels."""
    rng = np.random.default_rng(3)
    pred, gt = (ndimage.zoom(rng.integers(0, 4, (3, 4, 4)), 4, order=0).astype(np.uint8) for _ in range(2))
    together = segcli.score(
        pred, gt, metrics=["hd", "assd"], surface="mesh", spacing=(2, 1, 1), labels="1,2,3,both=1+2"
    )
    for value in together.values:
        members = {"both": (1, 2)}.get(value.label, (int(value.label) if value.label.isdigit() else 0,))
        alone = [np.isin(m, members).astype(np.uint8) for m in (pred, gt)]
        scored = segcli.score(*alone, metrics=["hd", "assd"], surface="mesh", spacing=(2, 1, 1), labels="fg=any")
        assert scored.value(value.measure) == value.value


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (1, 1, 1), (1, 1, 7), (4, 1, 5)])
def test_thin_and_full_images(shape):
    """Masks that fill their image have a surface at its edge and agree with themselves."""
    full = np.ones(shape, np.uint8)
    assert scores(full, full) == [0, 0, 0, 0, 1]
    if full.size > 1:
        less = full.copy()
        less.flat[-1] = 0
        found = scores(less, full)
        assert np.isfinite(found).all()
        assert 0 < found[0] <= 1


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("form", "spacing"), [((9, 11), (2.0, 0.7)), ((6, 7, 5), (1.0, 0.5, 3.0))], ids=["2-D", "3-D"])
def test_band_along_the_mesh(form: tuple[int, ...], spacing: tuple[float, ...], order: Literal["C", "F"]) -> None:
    """The bands of boundary_iou:edge=mesh are those of MeshMetrics, whatever the order in memory."""
    peer = pytest.importorskip("meshmetrics")
    for seed in range(4):
        random = np.random.default_rng(seed)
        gt = (random.random(form) < 0.5).astype(np.uint8)
        pred = np.where(random.random(form) < 0.2, 1 - gt, gt).astype(np.uint8)
        theirs = peer.DistanceMetrics(verbose=False)
        theirs.set_input(ref=gt.astype(bool), pred=pred.astype(bool), spacing=spacing)
        masks = [np.asarray(mask, order=order) for mask in (pred, gt)]
        for width in (0.33, 0.77, 1.31):
            asked = f"boundary_iou:width={width}:edge=mesh"
            found = segcli.score(*masks, metrics=asked, spacing=spacing, labels="fg=1").values[0].value
            try:
                assert found == pytest.approx(theirs.biou(width), abs=1e-12)
            except ValueError:
                assert found is None
