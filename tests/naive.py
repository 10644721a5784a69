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

    cases = mesh_cases(tuple(spacing))
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


def cells_of(voxels):
    """Return the corners, edges, faces and insides of closed voxels: odd coordinates are insides along an axis."""
    return {tuple(2 * c + 1 + s for c, s in zip(v, step, strict=True)) for v in voxels for step in STEPS}


STEPS = list(product((-1, 0, 1), repeat=3))


def pieces_of(voxels):
    """Return how many 26-connected pieces some voxels are."""
    left, pieces = set(voxels), 0
    while left:
        pieces += 1
        seeds = {left.pop()}
        while seeds:
            z, y, x = seeds.pop()
            seeds |= (near := {(z + k, y + j, x + i) for k, j, i in STEPS} & left)
            left -= near
    return pieces


def is_contractible(voxels):
    """Return whether a few voxels around one are one piece without a tunnel: a block has room for no cavity."""
    euler = sum((-1) ** sum(c % 2 for c in cell) for cell in cells_of(voxels))
    return pieces_of(voxels) == 1 and euler == 1


def may_vanish(clique, voxels):
    """Return whether voxels that share a cell can go together: what else touches all of them is contractible."""
    around = {
        v for v in voxels - clique if all(max(abs(a - b) for a, b in zip(v, w, strict=True)) == 1 for w in clique)
    }
    return is_contractible(around)


def cliques_of(voxel, voxels):
    """Yield the sets of two voxels and more, the given one among them, whose common part is one cell."""
    for ends in STEPS:
        block = [tuple(c + s for c, s in zip(voxel, step, strict=True)) for step in product(*({0, e} for e in ends))]
        clique = {v for v in block if v in voxels}
        if any(ends) and all(len({v[axis] for v in clique}) == (2 if ends[axis] else 1) for axis in range(3)):
            yield clique


def depths_of(mask):
    """Return the length of the shortest way out of a mask: 12, 17 or 21 for a step across a face, an edge, a corner."""
    cost = {step: (0, 12, 17, 21)[sum(map(abs, step))] for step in STEPS}
    depths = np.pad(np.where(mask, 60_000, 0), 1)
    while True:
        inner = depths[1:-1, 1:-1, 1:-1]
        moved = [np.roll(depths, step, (0, 1, 2))[1:-1, 1:-1, 1:-1] + cost[step] for step in STEPS]
        least = np.where(mask, np.minimum.reduce(moved), 0)
        if (least == inner).all():
            return least
        depths[1:-1, 1:-1, 1:-1] = least


def thinned(mask):
    """Thin a volume by layers: all that may go does so at once, but of a clique that may not vanish one stays."""
    voxels = {tuple(map(int, v)) for v in np.argwhere(mask)}
    depths = np.pad(depths_of(np.asarray(mask, bool)), 1)
    while True:
        order = []
        for v in voxels:
            near = {tuple(c + s for c, s in zip(v, step, strict=True)) for step in STEPS} & voxels - {v}
            beside = sum(sum(abs(a - b) for a, b in zip(v, w, strict=True)) == 1 for w in near)
            if len(near) > 1 and may_vanish({v}, voxels):
                order.append((depths[tuple(slice(c, c + 3) for c in v)].sum() // 4, beside, v))
        gone: set[tuple[int, ...]] = set()
        for _, _, v in sorted(order):
            cliques = [c for c in cliques_of(v, voxels) if c - {v} <= gone]
            if all(may_vanish(c, voxels) for c in cliques):
                gone.add(v)
        if not gone:
            return voxels
        voxels -= gone
