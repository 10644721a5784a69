"""CPU time of losses against NumPy and torch, side by side in one process; CPU and memory of a whole compare.

    python benchmarks/losses.py             # about two minutes
    python benchmarks/losses.py compare     # the last table only

The same ten losses from the same arrays: segcli in one pass, NumPy in float64 and torch one loss after
another, written as in their formulas. Every value is compared before it is timed, with `time.process_time`
(all threads count), warm, least of a few runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import segcli
from segcli.evidence.soft import SoftPair
from segcli.kernels import _jit
from segcli.measure.notation import bind, parse

SHAPE = (128, 256, 256)
CHANNELS = 8
LOSSES = "bce,weighted_bce,balanced_bce,focal,dice,dice_squared,iou,tversky,focal_tversky,log_cosh_dice"
BOUND = parse("loss", LOSSES)
CLIP = 1e-7
SMOOTH = 1e-5


def truth() -> NDArray[np.bool_]:
    """Return an ellipsoid of 5 % of the voxels."""
    return distance_to(SHAPE, shift=0.0) < 1


def distance_to(shape: tuple[int, ...], shift: float) -> NDArray[np.float64]:
    """Return 1 on the surface of an ellipsoid, less inside."""
    width = 0.23 if len(shape) == 3 else 0.126
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((grid - (0.48 + shift) * n) / (width * n)) ** 2 for grid, n in zip(grids, shape, strict=True))


def good() -> NDArray[np.float64]:
    """Return a smooth prediction that is nearly right."""
    return 1 / (1 + np.exp(np.clip(8 * (distance_to(SHAPE, 0.005) - 1), -50, 50)))


def bad() -> NDArray[np.float64]:
    """Return a shifted prediction under much noise.

    It keeps off 0 and 1: torch takes logarithms in float32, which has no 1-1e-7 to clip at.
    """
    rng = np.random.default_rng(0)
    values = 1 / (1 + np.exp(np.clip(4 * (distance_to(SHAPE, 0.1) - 1), -50, 50))) + rng.normal(0, 0.3, SHAPE)
    return np.clip(values, 1e-3, 1 - 1e-3)


# --- the ten losses in NumPy and in torch -----------------------------------------------------


def cross_numpy(p, y, on, off):
    """Return a weighted cross-entropy."""
    c = np.clip(p, CLIP, 1 - CLIP)
    return -(on * y * np.log(c) + off * (1 - y) * np.log1p(-c)).mean()


def numpy_losses() -> dict[str, Callable]:
    """Return the losses as one writes them with NumPy, each for itself."""

    def focal(p, y):
        c = np.clip(p, CLIP, 1 - CLIP)
        return -(0.25 * y * (1 - c) ** 2 * np.log(c) + 0.75 * (1 - y) * c**2 * np.log1p(-c)).mean()

    def dice(p, y):
        return 1 - (2 * (p * y).sum() + SMOOTH) / (p.sum() + y.sum() + SMOOTH)

    def tversky(p, y):
        overlap = (p * y).sum() + SMOOTH
        return 1 - overlap / (overlap + 0.3 * (p * (1 - y)).sum() + 0.7 * ((1 - p) * y).sum())

    def iou(p, y):
        overlap = (p * y).sum()
        return 1 - (overlap + SMOOTH) / (p.sum() + y.sum() - overlap + SMOOTH)

    return {
        "bce": lambda p, y: cross_numpy(p, y, 1.0, 1.0),
        "weighted_bce": lambda p, y: cross_numpy(p, y, (1 - y).sum() / y.sum(), 1.0),
        "balanced_bce": lambda p, y: cross_numpy(p, y, 1 - y.mean(), y.mean()),
        "focal": focal,
        "dice": dice,
        "dice_squared": lambda p, y: 1 - (2 * (p * y).sum() + SMOOTH) / ((p * p).sum() + (y * y).sum() + SMOOTH),
        "iou": iou,
        "tversky": tversky,
        "focal_tversky": lambda p, y: tversky(p, y) ** 0.75,
        "log_cosh_dice": lambda p, y: np.log(np.cosh(dice(p, y))),
    }


def torch_losses() -> dict[str, Callable]:
    """Return the losses as one writes them with torch, each for itself."""
    entropy = torch.nn.functional.binary_cross_entropy

    def seen(p):
        return p.clamp(CLIP, 1 - CLIP)

    def weighted(p, y, on, off):
        return entropy(seen(p), y, weight=on * y + off * (1 - y))

    def focal(p, y):
        c = seen(p)
        miss = torch.where(y > 0, 1 - c, c)
        return ((0.25 * y + 0.75 * (1 - y)) * miss**2 * entropy(c, y, reduction="none")).mean()

    def dice(p, y):
        return 1 - (2 * (p * y).sum() + SMOOTH) / (p.sum() + y.sum() + SMOOTH)

    def tversky(p, y):
        overlap = (p * y).sum() + SMOOTH
        return 1 - overlap / (overlap + 0.3 * (p * (1 - y)).sum() + 0.7 * ((1 - p) * y).sum())

    def iou(p, y):
        overlap = (p * y).sum()
        return 1 - (overlap + SMOOTH) / (p.sum() + y.sum() - overlap + SMOOTH)

    return {
        "bce": lambda p, y: entropy(seen(p), y),
        "weighted_bce": lambda p, y: weighted(p, y, (1 - y).sum() / y.sum(), 1.0),
        "balanced_bce": lambda p, y: weighted(p, y, 1 - y.mean(), y.mean()),
        "focal": focal,
        "dice": dice,
        "dice_squared": lambda p, y: 1 - (2 * (p * y).sum() + SMOOTH) / ((p * p).sum() + (y * y).sum() + SMOOTH),
        "iou": iou,
        "tversky": tversky,
        "focal_tversky": lambda p, y: tversky(p, y) ** 0.75,
        "log_cosh_dice": lambda p, y: torch.log(torch.cosh(dice(p, y))),
    }


# --- what is timed ----------------------------------------------------------------------------


def ours(p, y) -> list[float]:
    """Return the ten values from arrays."""
    pair = SoftPair.of(p, y)
    return [bound(pair) for bound in BOUND]


def score(p, y) -> list[float]:
    """Return the ten values (of several channels, their means) from arrays, read and checked as files are."""
    scored = segcli.score(p, y, metrics=(), losses=LOSSES)
    return [scored.value(f"loss.{bound.name}", "mean" if p.ndim > y.ndim else None) for bound in BOUND]


def one_by_one(losses: dict[str, Callable], p, y) -> list[float]:
    """Return the ten values of another library."""
    return [float(losses[bound.name](p, y)) for bound in BOUND]


def channels(p, y) -> list[float]:
    """Return the means over the channels of a softmax map by segcli."""
    return np.mean([ours(own, y == c) for c, own in enumerate(p)], axis=0).tolist()


def channels_numpy(p, y) -> list[float]:
    """Return the means over the channels by NumPy."""
    losses = numpy_losses()
    found = [one_by_one(losses, own.astype(np.float64), (y == c).astype(np.float64)) for c, own in enumerate(p)]
    return np.mean(found, axis=0).tolist()


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of some runs, in ms."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best * 1e3


def table(what: str, calls: dict[str, tuple[Callable[[], list[float]], float]], repeats: int = 3) -> None:
    """Compare all with the first, then time them and print how many times as long as the first they take."""
    expected = next(iter(calls.values()))[0]()
    first = None
    print(what)
    for name, (call, tolerance) in calls.items():
        np.testing.assert_allclose(call(), expected, rtol=tolerance, err_msg=name)
        spent = cpu_ms(call, repeats)
        first = first or spent
        print(f"    {name:36} {spent:9.2f} ms {spent / first:8.1f}x", flush=True)


#: In a process of its own, since the peak is that of a process: arrays in, rows out, kernels compiled before. VmHWM
#: (Linux) and not ru_maxrss, which a child inherits from a parent that has torch in memory.
COMPARE = """
import re, sys, time
from pathlib import Path
import numpy as np, segcli
from segcli.kernels import _jit
_jit.compile_all()
pred, gt = (np.load(path) for path in sys.argv[1:3])
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
segcli.compare(pred[..., :32, :32], gt[..., :32, :32], losses=sys.argv[3])
print(segcli.__file__, file=sys.stderr)
start, before = time.process_time(), peak()
segcli.compare(pred, gt, losses=sys.argv[3])
print(time.process_time() - start, before, peak())
"""


def compare() -> None:
    """Print CPU time and peak memory of `segcli.compare`, all that a row shows: shares, norms, islands."""
    rng = np.random.default_rng(0)
    small = (64, 128, 128)
    weights = np.exp(rng.normal(0, 2, (CHANNELS, *small)).astype(np.float32))
    labels = rng.integers(0, CHANNELS, (8, 8, 8)).repeat(8, 0).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    y = truth().astype(np.uint8)
    cases = {
        "good prediction": (good().astype(np.float32), y),
        "bad prediction": (bad().astype(np.float32), y),
        "hard mask": ((good() > 0.5).astype(np.uint8), y),
        f"{CHANNELS} channels of 1 million": (weights / weights.sum(axis=0), labels),
    }
    print("compare, 8.4 million voxels (peaks are of the process, kernels and arrays included)")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("pred.npy", "gt.npy")]
        for name, arrays in cases.items():
            for path, array in zip(paths, arrays, strict=True):
                np.save(path, array)
            for losses in ("dice,bce,tversky,focal", "default"):
                command = [sys.executable, "-P", "-c", COMPARE, *paths, losses]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = done.stderr.strip().splitlines()[-1]
                if found != segcli.__file__:  # another copy would be measured
                    raise RuntimeError(found)
                cpu, before, peak = (float(number) for number in done.stdout.split())
                print(f"    {name:24} {losses:24} {cpu:6.2f} s {before:6.0f} -> {peak:5.0f} MB", flush=True)


def main() -> None:
    """Print the tables."""
    if "compare" in sys.argv[1:]:
        compare()
        return
    start = time.perf_counter()
    _jit.compile_all()
    print(f"kernels ready after {time.perf_counter() - start:.1f} s, {torch.get_num_threads()} torch threads\n")
    inside = truth()
    y = inside.astype(np.uint8)
    threads = torch.get_num_threads()
    for name, prediction in (("good", good()), ("bad", bad())):
        for dtype, tolerance in ((np.float32, 2e-4), (np.float64, 1e-9)):
            p = prediction.astype(dtype)

            def by_torch(count: int, p=p, dtype=dtype) -> list[float]:
                torch.set_num_threads(count)
                return one_by_one(torch_losses(), torch.from_numpy(p), torch.from_numpy(y.astype(dtype)))

            def by_numpy(p=p) -> list[float]:
                return one_by_one(numpy_losses(), p.astype(np.float64), y.astype(np.float64))

            table(
                f"ten losses, 8.4 million voxels, {name} prediction, {np.dtype(dtype).name}",
                {
                    "segcli, arrays to values": (partial(ours, p, y), 0),
                    "segcli.score, arrays checked": (partial(score, p, y), 1e-12),
                    "NumPy float64, one by one": (by_numpy, 1e-9),
                    "torch, one by one, 1 thread": (partial(by_torch, 1), tolerance),
                    f"torch, one by one, {threads} threads": (partial(by_torch, threads), tolerance),
                },
            )
    rng = np.random.default_rng(0)
    small = (64, 128, 128)
    logits = rng.normal(0, 2, (CHANNELS, *small)).astype(np.float32)
    labels = rng.integers(0, CHANNELS, (8, 8, 8)).repeat(8, 0).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    soft = np.exp(logits) / np.exp(logits).sum(axis=0)
    table(
        f"ten losses, {CHANNELS} channels of 1 million voxels, mean",
        {
            "segcli, arrays to values": (partial(channels, soft, labels), 0),
            "segcli.score, arrays checked": (partial(score, soft, labels), 1e-6),  # it makes each sum exactly 1
            "NumPy float64, one by one": (partial(channels_numpy, soft, labels), 1e-9),
        },
    )
    print("hd_cv against hd_dt, the value alone")
    for shape in ((512, 512), (2048, 2048), (96, 128, 128), (128, 256, 256), (256, 256, 256)):
        apart = distance_to(shape, 0.0)
        pair = partial(SoftPair.of, 1 / (1 + np.exp(np.clip(8 * (apart - 1.1), -50, 50))), apart < 1)
        spent = [cpu_ms(lambda name=name, pair=pair: bind(name, "loss")(pair()), 2) for name in ("hd_dt", "hd_cv")]
        size = float(np.prod(shape))
        print(
            f"    {'x'.join(map(str, shape)):14} hd_dt {spent[0] / size * 1e6:7.1f} ns a voxel, "
            f"hd_cv {spent[1] / size * 1e6:7.1f} ns {spent[1] / spent[0]:8.1f}x",
            flush=True,
        )
    compare()


if __name__ == "__main__":
    main()
