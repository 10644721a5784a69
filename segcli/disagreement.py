"""Why losses disagree: the part of the voxels that one loss weighs most unlike others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.attribution import excess_map
from segcli.divisions import divide
from segcli.measure import DEFAULTS, bind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.loading import Loaded
    from segcli.masks.labels import Label
    from segcli.measure import BoundMeasure
    from segcli.soft import SoftPair

#: The losses that one is held against: the default ones and blob. All are sums over voxels; the dearest
#: of them need one distance transform or one labelling of the gt.
OTHERS = f"{DEFAULTS['loss']},blob"
#: Shares differ when at least so much of the excess lies between them.
STRIKING = 0.25


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A part of the voxels with its share of each loss's excess: the one inspected first, then from far to near."""

    by: str
    label: str
    name: str
    voxels: int
    note: str
    shares: dict[str, float]


def disagreement(
    bound: BoundMeasure, loaded: Loaded, channels: Sequence[Label], ways: Sequence[str]
) -> Disagreement | None:
    """Return the part whose shares of losses differ most; `None` where no two differ by `STRIKING`.

    A component comes before a band: it is something that can be looked at. The background's components
    are left out: they are what is outside the others.
    """
    losses = [bound, *(b for b in (bind(t, "loss") for t in OTHERS.split(",")) if b.name != bound.name)]
    pairs = [(label, loaded.soft(label)) for label in channels]
    maps = {loss.name: [excess_map(loss, pair) for _, pair in pairs] for loss in losses}
    totals = {name: _total(found) for name, found in maps.items()}
    compared = [name for name, total in totals.items() if total is not None]
    if bound.name not in compared or len(compared) < 2:
        return None
    for way in ways:
        found: list[tuple[float, Disagreement]] = []
        for index, (label, pair) in enumerate(pairs):
            if label.values != (0,) or len(channels) == 1:
                of = {name: (maps[name][index], totals[name]) for name in compared}
                found += _parts(way, label, pair, loaded, of)
        most = max(found, key=lambda f: f[0], default=None)
        if most is not None and most[0] >= STRIKING:
            return most[1]
    return None


def _total(maps: Sequence[NDArray[np.float64] | None]) -> float | None:
    """Return the sum over all channels; `None` where it is nothing to divide."""
    known = [m for m in maps if m is not None]
    total = sum(float(m.sum()) for m in known)
    return total if len(known) == len(maps) and abs(total) > 1e-12 * sum(float(abs(m).sum()) for m in known) else None


def _parts(
    way: str, label: Label, pair: SoftPair, loaded: Loaded, of: dict[str, tuple[NDArray[np.float64], float]]
) -> list[tuple[float, Disagreement]]:
    """Return the parts of one label, each with how far the share of the first loss is from another's."""
    found = []
    for division in divide(way, label.name, pair, pair.vector(loaded.predicted(label)) > 0):
        names = list(of)
        table = np.array([np.array(division.sums(values)) / total for values, total in of.values()])
        apart = abs(table[1:] - table[0])
        for part, name in enumerate(division.names):
            if name == division.rest:
                continue
            order = [0, *(1 + int(k) for k in np.argsort(-apart[:, part], kind="stable"))]
            shares = {names[k]: float(table[k, part]) for k in order}
            here = Disagreement(way, label.name, name, division.voxels[part], division.notes[part], shares)
            found.append((float(apart[:, part].max()), here))
    return found
