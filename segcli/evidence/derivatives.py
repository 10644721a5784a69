"""Derivatives of what losses of one label are made of: the probability, and the logarithms of it and of the rest."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segcli.evidence.voxels import Voxels

Vector = NDArray[np.float64]


class LogSlopes(NamedTuple):
    """Derivatives of `Logs.log_p` and `Logs.log_q` (`voxels.py`)."""

    log_p: Vector
    log_q: Vector


class Derivatives:
    """Derivatives of what losses are made of, with respect to the probability or to the logit.

    `p` is dp/dx; `clipped(clip)` holds the same for log p and log(1-p) of the clipped p. They are 0
    where the clip flattens the loss: the gradient is that of the loss as it is computed.
    """

    def __init__(self, voxels: Voxels, wrt: Literal["p", "z"], clipped: dict[float, LogSlopes] | None = None) -> None:
        self._voxels = voxels
        self.wrt = wrt
        self._clipped: dict[float, LogSlopes] = {} if clipped is None else clipped

    @cached_property
    def p(self) -> Vector:
        if self.wrt == "p":
            return np.ones_like(self._voxels.p)
        return self._voxels.p * self._voxels.q

    def clipped(self, clip: float) -> LogSlopes:
        """Return d(log p, log(1-p)) of `Voxels.logs(clip)`."""
        if clip not in self._clipped:
            self._clipped[clip] = self._slopes(clip)
        return self._clipped[clip]

    def _slopes(self, clip: float) -> LogSlopes:
        voxels = self._voxels
        if voxels.z is not None:
            if self.wrt == "z":
                return LogSlopes(voxels.q, -voxels.p)
            # beyond |z| = 345 the slope counts as 1e150: sums of its squares stay finite, and 0 times it is 0
            return LogSlopes(1 / np.maximum(voxels.p, 1e-150), -1 / np.maximum(voxels.q, 1e-150))
        p = voxels.p
        inside = ((p >= clip) & (p <= 1 - clip)).astype(np.float64)
        seen = voxels.logs(clip)
        if self.wrt == "p":
            return LogSlopes(inside / seen.p, -inside / seen.q)
        return LogSlopes(inside * seen.q, -inside * seen.p)
