"""Stretches: voxels in runs that are short enough for what is worked out of them to stay in the cache.

Gradients and voxel maps of most losses need of all voxels nothing but sums. Worked out stretch by stretch, what
they are made of never fills the memory.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Voxels of a stretch: a dozen float64 vectors of it fit into a cache of 3 MB.
LENGTH = 1 << 15


def stretches(n: int) -> Iterator[slice]:
    """Return n voxels in stretches of at most `LENGTH`."""
    return (slice(start, min(start + LENGTH, n)) for start in range(0, n, LENGTH))
