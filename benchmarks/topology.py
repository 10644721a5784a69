"""CPU time of pieces, Euler numbers, skeletons and matched objects against the tools people use.

    python benchmarks/topology.py            # about one minute

Every row times both on the same masks with `time.process_time`, warm, and takes the least of a few runs.
connected-components-3d is timed where it is installed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import euler_number as scikit_euler
from skimage.measure import label as scikit_label
from skimage.morphology import skeletonize

from segcli.evidence.case import Case
from segcli.kernels import components, depth, euler, skeleton, thinning
from segcli.masks.labels import Label

Mask = NDArray[np.bool_]
FULL = np.ones((3, 3, 3))
SETS = np.array([-1, 0], dtype=np.int32)
ORGAN = (96, 220, 160)


def organ(shift: int = 0) -> Mask:
    """Return a lobed ellipsoid of 1.3 million voxels."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in ORGAN)]
    y, x = y - 110 - shift, x - 80
    return ((z - 48) / 40) ** 2 + (y / 105) ** 2 + (x / 75) ** 2 < 1 + 0.1 * np.sin(5 * np.arctan2(y, x))


def field(shape: tuple[int, ...], width: float, share: float, seed: int = 0) -> Mask:
    """Return the highest part of smoothed noise: branches when it is a large part, grains when a small one."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width)
    return smooth > np.quantile(smooth, 1 - share)


def pieces(mask: Mask) -> int:
    """Count pieces as segcli does."""
    return components.joined(components.runs_of(mask.view(np.uint8), SETS), 26)[1]


def with_cc3d(mask: Mask) -> int:
    """Count pieces with connected-components-3d."""
    import cc3d

    return cc3d.connected_components(mask.view(np.uint8), connectivity=26, return_N=True, binary_image=True)[1]


def matched(pred: Mask, gt: Mask) -> tuple[int, float]:
    """Return matched objects and the sum of their IoU, from label maps to the match."""
    case = Case.of(pred.view(np.uint8), gt.view(np.uint8), [Label("fg", None)])
    found = case.pair(0).structure.objects("components", "26").match(0.5)
    return found.tp, round(float(found.iou.sum()), 9)


def matched_scipy(pred: Mask, gt: Mask) -> tuple[int, float]:
    """Return the same with two full label maps and their joint histogram."""
    (p, n_pred), (g, n_gt) = ndimage.label(pred, FULL), ndimage.label(gt, FULL)
    inside = (p > 0) & (g > 0)
    pairs, shared = np.unique(p[inside].astype(np.int64) * (n_gt + 1) + g[inside], return_counts=True)
    i, j = np.divmod(pairs, n_gt + 1)
    sizes = np.bincount(p.ravel(), minlength=n_pred + 1), np.bincount(g.ravel(), minlength=n_gt + 1)
    iou = shared / (sizes[0][i] + sizes[1][j] - shared)
    return int((iou > 0.5).sum()), round(float(iou[iou > 0.5].sum()), 9)


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of some runs, in ms."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best * 1e3


def row(what: str, mine: Callable[[], object], name: str, theirs: Callable[[], object], repeats: int = 3) -> None:
    """Compare both results, time both calls and print one line of the table."""
    a, b = mine(), theirs()
    assert np.array_equal(a, b), what
    show(what, cpu_ms(mine, 5), name, cpu_ms(theirs, repeats))


def show(what: str, ours: float, name: str, other: float) -> None:
    """Print one line of the table."""
    print(f"{what:40} {ours:9.2f} ms   {name:24} {other:9.2f} ms   {other / ours:6.1f}x", flush=True)


def main() -> None:
    """Print the table."""
    for module in (components, depth, euler, skeleton, thinning):
        module.warm()
    grains = field((128, 256, 256), 1.2, 0.03)
    masks = {
        "organ": organ(),
        "network": field(ORGAN, 3, 0.2),
        "17281 grains": grains,
        "noise": np.random.default_rng(0).random(ORGAN) < 0.5,
    }
    for name, mask in masks.items():
        mine = partial(pieces, mask)
        row(f"pieces, {name}", mine, "SciPy label", lambda mask=mask: ndimage.label(mask, FULL)[1])
        row("", mine, "scikit-image label", lambda mask=mask: scikit_label(mask, connectivity=3, return_num=True)[1])
        if importlib.util.find_spec("cc3d"):
            row("", mine, "connected-components-3d", partial(with_cc3d, mask))
    for name in ("organ", "network", "17281 grains"):
        mask = masks[name]
        row(
            f"Euler number, {name}",
            partial(euler.euler_number, mask.view(np.uint8), 26),
            "scikit-image euler_number",
            lambda mask=mask: int(scikit_euler(mask, 3)),
        )
    for name in ("organ", "network"):
        mask = masks[name]
        lee = partial(skeleton.skeleton, mask, "lee")
        row(f"skeleton by lee, {name}", lee, "scikit-image", partial(skeletonize, mask), 2)
        ours, theirs = cpu_ms(partial(skeleton.skeleton, mask), 5), cpu_ms(partial(skeletonize, mask), 2)
        show(f"skeleton by ends, {name}", ours, "scikit-image (by lee)", theirs)
    flat = np.kron(masks["network"][40], np.ones((6, 6), np.bool_))
    row("skeleton, plane of 1320x960", partial(skeleton.skeleton, flat), "scikit-image", partial(skeletonize, flat), 2)
    bad = np.zeros(ORGAN, dtype=np.bool_)
    bad[:, 40:] = organ(60)[:, 40:]
    bad[2:6, :5, :5] = True
    for name, pred, gt in (
        ("organ, close", organ(1), organ()),
        ("organ, far off with a blob", bad, organ()),
        ("17281 grains, close", np.roll(grains, 1, 2), grains),
        ("17281 grains, others", field((128, 256, 256), 1.2, 0.03, 1), grains),
    ):
        row(f"objects, {name}", partial(matched, pred, gt), "SciPy label, np.unique", partial(matched_scipy, pred, gt))


if __name__ == "__main__":
    main()
