"""CPU time of counting labels, and of all metrics of counts, against the tools people use.

    python benchmarks/counts.py             # about a minute

Every row times both on the same maps with `time.process_time`, warm, and takes the least of a few runs.
SimpleITK gets one thread, and its images ready-made; the CPU time of more threads is more.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import SimpleITK
from surface import LABELS, Mask, organ, organs, row

from segcli.kernels import _jit
from segcli.kernels.contingency import contingency, label_boxes
from segcli.masks.asked import reading_of
from segcli.scoring.loading import load
from segcli.scoring.score import measures_of, score_loaded


def bincount(pred: Mask, gt: Mask, n: int):
    """Count pairs of labels with NumPy, in the narrowest type that holds them: the fastest it can."""
    pairs = pred.astype(np.uint16 if n * n <= 1 << 16 else np.uint32)
    pairs *= n
    pairs += gt
    return np.bincount(pairs.ravel(), minlength=n * n)


def bincount_wide(pred: Mask, gt: Mask, n: int):
    """Count pairs of labels as it is mostly written: in the type of an index."""
    return np.bincount((pred.astype(np.intp) * n + gt).ravel(), minlength=n * n)


def with_noise(labels: Mask, share: float, rng: np.random.Generator) -> Mask:
    """Return the map with a share of its voxels drawn anew."""
    hit = rng.random(labels.shape) < share
    noisy = labels.copy()
    noisy[hit] = rng.integers(0, LABELS + 1, np.count_nonzero(hit))
    return noisy


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
    n = LABELS + 1
    close = np.roll(gt, (1, 2), axis=(1, 2))
    bad = np.roll(gt, (20, 20, 20), axis=(0, 1, 2))
    flipped = {share: with_noise(close, share, rng) for share in (0.05, 0.1, 1)}
    # Cubes of 8 voxels: 4096 instances, cut from another corner in the prediction; blocks for 1000 labels.
    z, y, x = (np.arange(size, dtype=np.uint16) // 8 for size in (128, 128, 128))
    cells = 1 + z[:, None, None] * 256 + y[None, :, None] * 16 + x
    z, y, x = (np.arange(size, dtype=np.uint16) * 10 // size for size in gt.shape)
    thousand = z[:, None, None] * 100 + y[None, :, None] * 10 + x
    for name, pred, truth, labels in [
        ("30 labels, close", close, gt, n),
        ("30 labels, bad prediction", bad, gt, n),
        ("30 labels, 5% noise", flipped[0.05], gt, n),
        ("30 labels, 10% noise", flipped[0.1], gt, n),
        ("30 labels, all noise", flipped[1], gt, n),
        ("30 labels, uint16", close.astype(np.uint16), gt.astype(np.uint16), n),
        ("1 label", organ((0, 1, 1), 0.03), organ(), 2),
        ("1000 labels, uint16", np.roll(thousand, 5, axis=2), thousand, 1000),
        ("4096 instances", np.roll(cells, 3, axis=2), cells, 4097),
        ("512x512, close", close[64:65], gt[64:65], n),
        ("512x512, 10% noise", flipped[0.1][64:65], gt[64:65], n),
        ("512x512, all noise", flipped[1][64:65], gt[64:65], n),
    ]:
        counted = contingency(pred, truth, labels, labels).ravel()
        np.testing.assert_array_equal(counted, bincount(pred, truth, labels))
        mine = partial(contingency, pred, truth, labels, labels)
        row(f"contingency, {name}", mine, "np.bincount", partial(bincount, pred, truth, labels), 5)
        row("", mine, "np.bincount, intp", partial(bincount_wide, pred, truth, labels), 5)
    row("boxes of both, 30 labels", lambda: (label_boxes(close, n), label_boxes(gt, n)), "copies", close.copy, 5)
    measures = measures_of("metric", "overlap,volume,information,multiclass,confusion")
    for name, pred in (("close", close), ("bad prediction", bad), ("10% noise", flipped[0.1]), ("noise", flipped[1])):
        mine = partial(everything, pred, gt, measures)
        images = [SimpleITK.GetImageFromArray(mask) for mask in (gt, pred)]
        np.testing.assert_allclose(mine(), overlap_filter(images), rtol=1e-12)
        what = f"{len(measures)} measures, {name}"
        row(what, mine, "SimpleITK overlap", partial(overlap_filter, images), 3)
        row("", mine, "np.bincount", partial(bincount, pred, gt, n), 3)


if __name__ == "__main__":
    main()
