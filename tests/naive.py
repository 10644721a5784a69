"""Slow twins of the kernels, a few obvious lines each: what the kernels must equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray


def contingency(pred, gt, n_pred, n_gt):
    """Count pairs of labels voxel by voxel."""
    matrix = np.zeros((n_pred, n_gt), dtype=np.int64)
    for p, g in zip(pred.ravel(), gt.ravel(), strict=True):
        matrix[p, g] += 1
    return matrix


def label_boxes(labels, n):
    """Box each label from its coordinates."""
    boxes = np.zeros((n, labels.ndim, 2), dtype=np.int64)
    for label in range(n):
        where = np.argwhere(labels == label)
        boxes[label, :, 0] = where.min(axis=0) if len(where) else labels.shape
        boxes[label, :, 1] = where.max(axis=0) + 1 if len(where) else 0
    return boxes


def label_moments(labels, n, start=0):
    """Sum the coordinates of each label, and their products, from a list of them."""
    sums = np.zeros((n, 10), dtype=np.int64)
    for label in range(n):
        where = np.argwhere(labels == label) + np.array([start, 0, 0])
        products = (where[:, :, None] * where[:, None]).sum(axis=0)
        sums[label] = [len(where), *where.sum(axis=0), *products[np.triu_indices(3)]]
    return sums


def surfel_codes(inside: NDArray[np.bool_]) -> dict[tuple[int, ...], int]:
    """Return the neighbour code of every cell of the dual grid, the first corner in the highest bit."""
    padded = np.pad(inside, 1)
    corners = list(product((0, 1), repeat=inside.ndim))
    codes = {}
    for cell in np.ndindex(*(size + 1 for size in inside.shape)):
        bits = [padded[tuple(np.add(cell, corner))] for corner in corners]
        codes[cell] = int("".join("01"[int(bit)] for bit in bits), 2)
    return codes


def surfels(inside: NDArray[np.bool_], ignored: NDArray[np.bool_], areas: Sequence[float]):
    """Return the points and weights of the surface elements of one label; `areas` is indexed by code."""
    full = 2**2**inside.ndim - 1
    low, high = surfel_codes(inside), surfel_codes(inside | ignored)
    cells = [cell for cell in low if low[cell] != 0 and high[cell] != full]
    return cells, [(areas[low[cell]] + areas[high[cell]]) / 2 for cell in cells]


def border(
    inside: NDArray[np.bool_], ignored: NDArray[np.bool_], reach: int = 1, *, closed: bool = True
) -> list[tuple[int, ...]]:
    """Return the voxels of a label with a neighbour that is neither of the label nor ignored.

    Neighbours differ in up to `reach` axes; beyond the array all is outside if `closed`, else nothing is.
    """
    solid = np.pad(inside | ignored, 1, constant_values=not closed)
    steps = [s for s in product((-1, 0, 1), repeat=inside.ndim) if 1 <= np.abs(s).sum() <= reach]
    voxels = [tuple(voxel) for voxel in np.argwhere(inside).tolist()]
    return [v for v in voxels if any(not solid[tuple(np.add(v, 1) + step)] for step in steps)]


def nearest(a, b, spacing):
    """Return the distance from each point of `a` to the nearest of `b`, by trying all."""
    differences = (a[:, None, :].astype(float) - b[None, :, :]) * np.asarray(spacing)
    return np.sqrt((differences**2).sum(axis=2)).min(axis=1)


def voxel_sums(p, y, clip, gamma):
    """Return the sums of each class as exactly rounded sums over voxels; rows are background and foreground."""
    table = []
    for row in (0, 1):
        columns = []
        for voxel, truth in zip(p.tolist(), y.tolist(), strict=True):
            w, t, e = (truth, voxel, 1 - voxel) if row else (1 - truth, 1 - voxel, voxel)
            c = min(max(voxel, clip), 1 - clip)
            log, other = (-math.log(c), 1 - c) if row else (-math.log1p(-c), c)
            apart = abs(voxel - truth)
            terms = (1, w, t, e, t * t, e * e, apart, apart**2, log, other**gamma * log)
            columns.append([w * term for term in terms])
        table.append([math.fsum(column) for column in zip(*columns, strict=True)])
    return np.array(table)


def mesh_triangles(inside, spacing):
    """Return the triangles (M, 3, 3) of a mask, cell by cell (segments of a plane: the second corner twice)."""
    from segcli.kernels.mesh_cases import mesh_cases

    cases = mesh_cases(tuple(spacing), reverse=False)
    flat = inside.ndim == 2
    steps = np.array([1.0, *spacing] if flat else spacing)
    found = []
    for cell, code in surfel_codes(inside).items():
        whole = code * 17 if flat else code
        for row in cases.triangles[cases.starts[whole] : cases.starts[whole + 1]]:
            corner = np.array((0, *cell) if flat else cell) * steps + row[:3]
            found.append([corner, corner + row[3:6], corner + row[6:9]])
    return np.array(found)


def to_triangles(points, triangles):
    """Return the distance from each point to the nearest triangle: its plane's if above it, else its edges'."""
    best = np.full(len(points), np.inf)
    for a, b, c in triangles:
        for p, q in ((a, b), (b, c), (c, a)):
            along = q - p
            share = np.clip((points - p) @ along / max(along @ along, 1e-300), 0, 1)
            best = np.minimum(best, np.linalg.norm(points - p - share[:, None] * along, axis=1))
        normal = np.cross(b - a, c - a)
        if normal @ normal > 0:
            above = [np.cross(q - p, points - p) @ normal >= 0 for p, q in ((a, b), (b, c), (c, a))]
            plane = np.abs((points - a) @ normal) / np.sqrt(normal @ normal)
            best = np.where(np.all(above, axis=0), np.minimum(best, plane), best)
    return best


def count_runs(keys):
    """Count keys that differ in their last bit at most, and those whose last bit is set, one after another."""
    found = {}
    for key in keys.tolist():
        first, size, marked = found.get(key >> 1, (key, 0, 0))
        found[key >> 1] = (first, size + 1, marked + (key & 1))
    return [list(column) for column in zip(*found.values(), strict=True)] or [[], [], []]
