"""CPU time of the surface kernels against the tools people use, side by side in one process.

    python benchmarks/surface.py            # about five minutes

Every row times both on the same masks with `time.process_time`, warm, and takes the least of a few runs.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import SimpleITK as sitk  # noqa: N813  (so is it called everywhere)
import surface_distance
from medpy.metric import binary
from numpy.typing import NDArray
from scipy import ndimage

from segcli.evidence.case import Case
from segcli.evidence.distances import Distances
from segcli.kernels import _jit
from segcli.kernels.contingency import contingency, label_boxes
from segcli.kernels.distance_transform import distance_transform
from segcli.kernels.mesh import mesh_distances
from segcli.kernels.nearest import nearest_distances
from segcli.kernels.surface import surface_cells, surface_elements
from segcli.kernels.surfaces import Surface
from segcli.masks.labels import Label

SHAPE = (128, 512, 512)
SPACING = (2.5, 0.8, 0.8)
LABELS = 30
Mask = NDArray[np.uint8]
Box = tuple[slice, ...]


def organ(shift: tuple[int, int, int] = (0, 0, 0), ripple: float = 0.0) -> Mask:
    """Return a lobed ellipsoid of about 1.5 million voxels; `ripple` disturbs its surface."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    z, y, x = z - 64 - shift[0], y - 256 - shift[1], x - 256 - shift[2]
    angle = np.arctan2(y, x)
    radius = 1 + 0.1 * np.sin(5 * angle) + ripple * np.sin(9 * angle + z / 9)
    return ((z / 40) ** 2 + (y / 110) ** 2 + (x / 80) ** 2 < radius).astype(np.uint8)


def organs() -> Mask:
    """Return ellipsoids of 30 labels, some of them touching."""
    rng = np.random.default_rng(0)
    grids = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label in range(1, LABELS + 1):
        parts = [
            ((grid - rng.uniform(0.2, 0.8) * size) / (rng.uniform(0.04, 0.12) * size)) ** 2
            for grid, size in zip(grids, SHAPE, strict=True)
        ]
        labels[parts[0] + parts[1] + parts[2] < 1] = label
    return labels


def box_of(*boxes: NDArray[np.int64]) -> Box:
    """Return the union of boxes (3, 2) as slices."""
    stacked = np.array(boxes)
    return tuple(slice(*pair) for pair in zip(stacked[:, :, 0].min(axis=0), stacked[:, :, 1].max(axis=0), strict=True))


def statistics(d_gt, d_pred, w_gt, w_pred):
    """Return HD, HD95, ASSD and NSD at 2 mm from distances and weights, as a script has them."""
    distances, weights = np.concatenate((d_gt, d_pred)), np.concatenate((w_gt, w_pred))
    robust = []
    for d, w in ((d_gt, w_gt), (d_pred, w_pred)):
        order = np.argsort(d)
        total = np.cumsum(w[order])
        robust.append(d[order][np.searchsorted(total, 0.95 * total[-1])])
    near = weights[distances <= 2].sum() / weights.sum()
    return distances.max(), max(robust), (distances * weights).sum() / weights.sum(), near


def our_statistics(to_gt, to_pred, w_gt, w_pred):
    """Return the same as segcli has them."""
    d = Distances(to_pred, to_gt, w_pred, w_gt, weighted=True)
    return d.largest(), max(d.percentile(95, "pred"), d.percentile(95, "gt")), d.mean("both"), d.share_within(2)


def ours(gt: Mask, pred: Mask, n: int):
    """Run the whole pipeline as segcli does: boxes, elements of all labels, distances of each label."""
    contingency(pred, gt, n + 1, n + 1)
    box = box_of(*label_boxes(pred, n + 1)[1:], *label_boxes(gt, n + 1)[1:])
    lut = np.arange(n + 1, dtype=np.int32)
    tables = [surface_elements(np.ascontiguousarray(mask[box]), lut, n, SPACING, "surfel") for mask in (gt, pred)]
    results = []
    for label in range(n):
        mine = [slice(offsets[label], offsets[label + 1]) for offsets, _, _ in tables]
        distances = nearest_distances(tables[0][1][mine[0]], tables[1][1][mine[1]], SPACING)
        results.append(our_statistics(*distances, tables[0][2][mine[0]], tables[1][2][mine[1]]))
    return results


def ours_mesh(gt: Mask, pred: Mask, n: int):
    """Run the same pipeline with triangle meshes."""
    contingency(pred, gt, n + 1, n + 1)
    box = box_of(*label_boxes(pred, n + 1)[1:], *label_boxes(gt, n + 1)[1:])
    lut = np.arange(n + 1, dtype=np.int32)
    tables = [surface_cells(np.ascontiguousarray(mask[box]), lut, n) for mask in (gt, pred)]
    results = []
    for label in range(n):
        meshes = [
            (cells[offsets[label] : offsets[label + 1]], codes[offsets[label] : offsets[label + 1]])
            for offsets, cells, codes in tables
        ]
        results.append(our_statistics(*mesh_distances(*meshes, SPACING)))
    return results


def meshmetrics_tool(gt: Mask, pred: Mask, n: int):
    """Run MeshMetrics on all labels; it crops each label itself."""
    peer = importlib.import_module("meshmetrics")
    found = peer.compute_metrics_multilabel(gt, pred, spacing=SPACING, taus=(2.0,), metrics=("hd", "assd", "nsd"))
    keys = ("HD_100", "HD_95", "ASSD", "NSD_2.0")
    return [tuple(found[label][key] for key in keys) for label in range(1, n + 1)]


def surface_distance_tool(gt: Mask, pred: Mask, n: int):
    """Run surface-distance, which crops to the bounding box itself, on one label after another."""
    results = []
    for label in range(1, n + 1):
        found = surface_distance.compute_surface_distances(gt == label, pred == label, SPACING)
        keys = ("distances_gt_to_pred", "distances_pred_to_gt", "surfel_areas_gt", "surfel_areas_pred")
        results.append(statistics(*(found[key] for key in keys)))
    return results


def scipy_recipe(gt: Mask, pred: Mask, n: int):
    """Run the usual recipe: erode, EDT both ways, on the bounding box of each label."""
    results = []
    for label in range(1, n + 1):
        masks = [mask == label for mask in (gt, pred)]
        found = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
        borders = [mask & ~ndimage.binary_erosion(mask) for mask in (np.pad(mask[found], 1) for mask in masks)]
        fields = [ndimage.distance_transform_edt(~border, sampling=SPACING) for border in borders]
        distances = fields[1][borders[0]], fields[0][borders[1]]
        results.append(statistics(*distances, *(np.ones(len(d)) for d in distances)))
    return results


def scored(gt: Mask, pred: Mask, n: int, surface: Surface):
    """Score as a user does: HD, HD95 and ASSD of every label on one kind of surface, boxes included."""
    case = Case.of(pred, gt, [Label(str(k), (k,)) for k in range(1, n + 1)], spacing=SPACING)
    found = [case.distances(index, surface) for index in range(n)]
    return [(d.largest(), d.percentile(95, "both"), d.mean("both")) for d in found if d is not None]


def medpy_tool(connectivity: int, gt: Mask, pred: Mask, n: int):
    """Run MedPy on one label after another, cropped to its bounding box: it does not crop itself."""
    results = []
    for box, a, b in boxed(gt, pred, n):
        how = {"voxelspacing": SPACING, "connectivity": connectivity}
        results.append((box, binary.hd(b, a, **how), binary.hd95(b, a, **how), binary.assd(b, a, **how)))
    return results


def itk_contours(gt: Mask, pred: Mask, n: int):
    """Run the recipe of seg-metrics: fully connected contours and Maurer's distance maps, cropped."""
    results = []
    for _, *masks in boxed(gt, pred, n):
        images = itk_images(masks)
        contours = [sitk.GetArrayFromImage(sitk.LabelContour(image, fullyConnected=True)) > 0 for image in images]
        maps = [sitk.SignedMaurerDistanceMap(i, squaredDistance=False, useImageSpacing=True) for i in images]
        fields = [np.abs(sitk.GetArrayFromImage(m)) for m in maps]
        pooled = np.concatenate([fields[1][contours[0]], fields[0][contours[1]]])
        results.append((pooled.max(), np.percentile(pooled, 95), pooled.mean()))
    return results


def itk_sets(gt: Mask, pred: Mask, n: int):
    """Run SimpleITK's Hausdorff filter, whose distances are between all voxels, cropped."""
    results = []
    for _, *masks in boxed(gt, pred, n):
        tool = sitk.HausdorffDistanceImageFilter()
        tool.Execute(*itk_images(masks))
        results.append((tool.GetHausdorffDistance(), tool.GetAverageHausdorffDistance()))
    return results


def itk_images(masks):
    """Return SimpleITK images of masks."""
    images = [sitk.GetImageFromArray(mask) for mask in masks]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    return images


def boxed(gt: Mask, pred: Mask, n: int):
    """Yield the box around each label in either map and both masks in it, with a margin."""
    boxes = [ndimage.find_objects(mask, max_label=n) for mask in (gt, pred)]
    for label, (a, b) in enumerate(zip(*boxes, strict=True), start=1):
        if a is None or b is None:
            continue
        box = tuple(
            slice(max(min(s.start, t.start) - 1, 0), max(s.stop, t.stop) + 1) for s, t in zip(a, b, strict=True)
        )
        yield box, (gt[box] == label).astype(np.uint8), (pred[box] == label).astype(np.uint8)


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of some runs, in ms."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best * 1e3


def row(what: str, our_call: Callable[[], object], their_name: str, their_call: Callable[[], object], repeats: int = 1):
    """Time both calls and print one line of the table."""
    mine, theirs = cpu_ms(our_call, 5), cpu_ms(their_call, repeats)
    print(f"{what:34} {mine:9.2f} ms   {their_name:20} {theirs:9.2f} ms   {theirs / mine:6.1f}x", flush=True)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # the tool calls names SciPy has deprecated
    start = time.perf_counter()
    _jit.compile_all()
    print(f"kernels ready after {time.perf_counter() - start:.1f} s\n")
    gt, bad = organ(), organ(shift=(8, 15, -12))
    bad[4:8, 10:20, 10:20] = 1
    maps = organs()
    cases = [
        ("close prediction", gt, organ((0, 1, 1), 0.03), 1),
        ("bad prediction, far blob", gt, bad, 1),
        ("30 labels", maps, np.roll(maps, (1, 2), axis=(1, 2)), LABELS),
    ]
    for name, truth, pred, n in cases:
        np.testing.assert_allclose(ours(truth, pred, n), surface_distance_tool(truth, pred, n), rtol=1e-9)
        mine = partial(ours, truth, pred, n)
        row(name, mine, "surface-distance", partial(surface_distance_tool, truth, pred, n))
        row("", mine, "SciPy erosion + EDT", partial(scipy_recipe, truth, pred, n))
        mesh = partial(ours_mesh, truth, pred, n)
        row(f"{name}, mesh", mesh, "segcli, surfel", mine, 5)
        if importlib.util.find_spec("meshmetrics"):
            np.testing.assert_allclose(mesh(), meshmetrics_tool(truth, pred, n), rtol=1e-6)
            row("", mesh, "MeshMetrics", partial(meshmetrics_tool, truth, pred, n))
    for name, truth, pred, n in cases:
        for surface, their_name, their_call in (
            ("vertex", "SciPy erosion + EDT", scipy_recipe),
            ("border", "MedPy hd95 + assd", partial(medpy_tool, 1)),
            ("border_c2", "MedPy, connectivity 2", partial(medpy_tool, 2)),
            ("border_c3", "MedPy, connectivity 3", partial(medpy_tool, 3)),
            ("border_open", "SciPy erosion + EDT", scipy_recipe),
            ("border26", "SimpleITK recipe", itk_contours),
            ("set", "SimpleITK Hausdorff", itk_sets),
        ):
            if n == 1 or surface in ("border", "set"):  # of 30 labels the tools need minutes each
                row(f"{name}, {surface}", partial(scored, truth, pred, n, surface), their_name,
                    partial(their_call, truth, pred, n))  # fmt: skip
    inside = np.ascontiguousarray(gt[20:108, 130:390, 160:350] == 1)
    edge = inside & ~ndimage.binary_erosion(inside)
    for name, features in (("inside", inside), ("surface only", edge)):
        theirs = partial(ndimage.distance_transform_edt, ~features, sampling=SPACING)
        row(f"distance transform, {name}", partial(distance_transform, features, SPACING), "SciPy EDT", theirs)


if __name__ == "__main__":
    main()
