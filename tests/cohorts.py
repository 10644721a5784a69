"""Small cohorts on disk for several test files, and how a run is read back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.cli.main import run


def process(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run segcli as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "segcli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


def segcli(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run segcli's command line in this process: what it would print, and its exit code."""
    words = [str(word) for word in arguments]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd or Path.cwd()):
        patch.setattr(sys, "argv", ["segcli", *words])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        code = run(words)
    signal.signal(signal.SIGTERM, handler)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, out, err)


def ball(shape: tuple[int, ...], radius: float, shift: float = 0.0) -> np.ndarray:
    """Return a ball about the middle, moved along the first axis."""
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    middle = [(n - 1) / 2 for n in shape]
    middle[0] += shift
    return sum((g - m) ** 2 for g, m in zip(grids, middle, strict=True)) <= radius**2


def cohort(folder: Path, cases: int = 6, shape: tuple[int, ...] = (20, 18, 16)) -> tuple[Path, Path]:
    """Write `cases` pairs of two labels: label 2 is absent in every third, case_003 is empty in pred."""
    pred_dir, gt_dir = folder / "pred", folder / "gt"
    for where in (pred_dir, gt_dir):
        where.mkdir(parents=True)
    for i in range(cases):
        gt = ball(shape, 5 + i % 3).astype(np.uint8)
        if i % 3:
            gt[ball(shape, 2, -1)] = 2
        pred = np.roll(gt, i % 4, axis=0)
        if i == 3:
            pred[:] = 0
        np.save(pred_dir / f"case_{i:03}.npy", pred)
        np.save(gt_dir / f"case_{i:03}.npy", gt)
    return pred_dir, gt_dir


def without_environment(path: Path) -> dict[str, Any]:
    """Return a run file without what may differ between equal runs; the order of keys is kept."""
    run = json.loads(path.read_text())
    del run["environment"]
    return run


def same_runs(*paths: Path) -> bool:
    """Tell whether run files are the same text but for `environment`."""
    texts = {json.dumps(without_environment(path), ensure_ascii=False) for path in paths}
    return len(texts) == 1
