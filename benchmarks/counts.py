"""CPU time of counting labels, and of all metrics of counts, against the tools people use.

    python benchmarks/counts.py             # about a minute

Every row times both on the same maps with `time.process_time`, warm, and takes the least of a few runs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import SimpleITK
from surface import LABELS, Mask, organ, organs, row

from segcli.kernels import _jit
from segcli.kernels.contingency import contingency, label_boxes
from segcli.loading import load, reading_of
from segcli.scoring import measures_of, score_loaded


def bincount(pred: Mask, gt: Mask, n: int):
    """Count pairs of labels as one does with NumPy."""
    return np.bincount((pred.astype(np.intp) * n + gt).ravel(), minlength=n * n)


def overlap_filter(images: list[SimpleITK.Image]) -> float:
    """Run SimpleITK's filter on one thread: the counts of every label, and Dice from them."""
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.SetNumberOfThreads(1)
    overlap.Execute(*images)
    return overlap.GetDiceCoefficient(1)


def everything(pred: Mask, gt: Mask, measures) -> float:
    """Score a pair as `segcli score` does once the files are read: every metric of every label."""
    (loaded,) = load(pred, gt, reading_of(labels=list(range(1, LABELS + 1))))
    return score_loaded(loaded, measures, []).value("dice", 1)


def main() -> None:
    """Print the table."""
    _jit.compile_all()
    rng = np.random.default_rng(0)
    gt = organs()
    close = np.roll(gt, (1, 2), axis=(1, 2))
    bad = np.roll(gt, (9, 60, -45), axis=(0, 1, 2))
    hit = rng.random(gt.shape) < 0.05
    busy = close.copy()
    busy[hit] = rng.integers(0, LABELS + 1, np.count_nonzero(hit))
    noise = rng.integers(0, LABELS + 1, (2, 1, 256, 256)).astype(np.uint8)
    # Cubes of 8 voxels: 4096 instances, cut from another corner in the prediction.
    z, y, x = (np.arange(size, dtype=np.uint16) // 8 for size in (128, 128, 128))
    cells = 1 + z[:, None, None] * 256 + y[None, :, None] * 16 + x
    n = LABELS + 1
    for name, pred, truth, labels in [
        ("30 labels, close", close, gt, n),
        ("30 labels, bad prediction", bad, gt, n),
        ("30 labels, 5% noise", busy, gt, n),
        ("30 labels, uint16", close.astype(np.uint16), gt.astype(np.uint16), n),
        ("1 label", organ((0, 1, 1), 0.03), organ(), n),
        ("4096 instances", np.roll(cells, 3, axis=2), cells, 4097),
        ("noise 256x256", *noise, n),
    ]:
        np.testing.assert_array_equal(
            contingency(pred, truth, labels, labels).ravel(), bincount(pred, truth, labels)[: labels * labels]
        )
        row(
            f"contingency, {name}",
            partial(contingency, pred, truth, labels, labels),
            "np.bincount",
            partial(bincount, pred, truth, labels),
            5,
        )
    row("boxes of both, 30 labels", lambda: (label_boxes(close, n), label_boxes(gt, n)), "copies", close.copy, 5)
    measures = measures_of("metric", "overlap,volume,information,multiclass,confusion")
    for name, pred in (("close", close), ("bad prediction", bad), ("5% noise", busy)):
        mine = partial(everything, pred, gt, measures)
        images = [SimpleITK.GetImageFromArray(mask) for mask in (gt, pred)]
        np.testing.assert_allclose(mine(), overlap_filter(images), rtol=1e-12)
        what = f"{len(measures)} measures, {name}"
        row(what, mine, "SimpleITK overlap", partial(overlap_filter, images), 3)
        row("", mine, "np.bincount", partial(bincount, pred, gt, n), 3)


if __name__ == "__main__":
    main()
