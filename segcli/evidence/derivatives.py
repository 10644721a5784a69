"""What losses of one label are made of beside p itself: logarithms of p and 1-p, and the derivatives of all of it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segcli.evidence.soft import SoftPair

Vector = NDArray[np.float64]


class Logs(NamedTuple):
    """The probability that a cross-entropy really sees, its logarithm and that of its complement."""

    p: Vector
    q: Vector
    log_p: Vector
    log_q: Vector


class LogSlopes(NamedTuple):
    """Derivatives of `Logs.log_p` and `Logs.log_q`."""

    log_p: Vector
    log_q: Vector


class Derivatives:
    """Derivatives of what losses are made of, with respect to the probability or to the logit.

    `p` is dp/dx; `clipped(clip)` holds the same for log p and log(1-p) of the clipped p. They are 0
    where the clip flattens the loss: the gradient is that of the loss as it is computed.
    """

    def __init__(self, pair: SoftPair, wrt: Literal["p", "z"], clipped: dict[float, LogSlopes] | None = None) -> None:
        self._pair = pair
        self.wrt = wrt
        self._clipped: dict[float, LogSlopes] = {} if clipped is None else clipped

    @cached_property
    def p(self) -> Vector:
        if self.wrt == "p":
            return np.ones_like(self._pair.p)
        return self._pair.p * self._pair.q

    def clipped(self, clip: float) -> LogSlopes:
        """Return d(log p, log(1-p)) of `SoftPair.logs(clip)`."""
        if clip not in self._clipped:
            self._clipped[clip] = self._slopes(clip)
        return self._clipped[clip]

    def _slopes(self, clip: float) -> LogSlopes:
        pair = self._pair
        if pair.z is not None:
            if self.wrt == "z":
                return LogSlopes(pair.q, -pair.p)
            # beyond |z| = 345 the slope counts as 1e150: sums of its squares stay finite, and 0 times it is 0
            return LogSlopes(1 / np.maximum(pair.p, 1e-150), -1 / np.maximum(pair.q, 1e-150))
        p = pair.p
        inside = ((p >= clip) & (p <= 1 - clip)).astype(np.float64)
        seen = pair.logs(clip)
        if self.wrt == "p":
            return LogSlopes(inside / seen.p, -inside / seen.q)
        return LogSlopes(inside * seen.q, -inside * seen.p)


def logs_of(p: Vector, q: Vector, z: Vector | None, clip: float) -> Logs:
    """Return p clipped to [clip, 1-clip] with its logarithms; of logits exact and unclipped."""
    if z is not None:
        return Logs(p, q, -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z))
    p = np.clip(p, clip, 1 - clip)
    return Logs(p, 1 - p, np.log(p), np.log1p(-p))
