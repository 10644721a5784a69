"""Runs of equal values in sorted keys: how often each probability occurs, and how often inside the ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.kernels._jit import kernel, writable


def count_runs(keys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Count the runs of sorted `keys` (uint32 or uint64) that differ in their last bit at most.

    Returns one key of each run, in order; how many keys the run has; and in how many of them the last bit
    is set. Raises ValueError for another dtype.
    """
    if keys.dtype not in (np.uint32, np.uint64) or keys.ndim != 1:
        raise ValueError(f"count_runs: need a flat uint32 or uint64 array, not {keys.dtype} of shape {keys.shape}")
    keys = writable(np.ascontiguousarray(keys))
    found = np.empty(_number(keys), dtype=keys.dtype)
    sizes, marked = np.zeros((2, found.size), dtype=np.int64)
    _fill(keys, found, sizes, marked)
    return found, sizes, marked


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.uint32, np.uint64):
        count_runs(np.zeros(1, dtype=dtype))


@kernel()
def _number(keys: Any) -> int:
    found = min(keys.size, 1)
    for i in range(1, keys.size):
        found += (keys[i] ^ keys[i - 1]) > 1
    return found  # type: ignore[no-any-return]


@kernel()
def _fill(keys: Any, found: Any, sizes: Any, marked: Any) -> None:
    run = -1
    start = 0
    hits = 0
    for i in range(keys.size):
        if i == 0 or (keys[i] ^ keys[i - 1]) > 1:
            if run >= 0:
                sizes[run] = i - start
                marked[run] = hits
            run += 1
            found[run] = keys[i]
            start = i
            hits = 0
        if keys[i] & 1:
            hits += 1
    if run >= 0:
        sizes[run] = keys.size - start
        marked[run] = hits
