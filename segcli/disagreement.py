"""Why losses disagree: the part of the voxels that one loss weighs most unlike others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.attribution import excess_map
from segcli.divisions import ISLANDS, divide
from segcli.measure import DEFAULTS, bind

if TYPE_CHECKING:
    from segcli.loading import Loaded
    from segcli.masks.labels import Label
    from segcli.measure import BoundMeasure
    from segcli.soft import SoftPair, Vector

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
    """Return the part whose shares of losses differ most; `None` where none differs by `STRIKING` from this one's.

    A component comes before a band, and one that only one side has before the others: it is something that
    can be looked at. The background's components are left out: they are what is outside the others.
    """
    losses = [bound, *(b for b in (bind(t, "loss") for t in OTHERS.split(",")) if b.name != bound.name)]
    pairs = [(label, loaded.soft(label)) for label in channels]
    shares = {loss.name: _shares(loss, [pair for _, pair in pairs]) for loss in losses}
    compared = {name: found for name, found in shares.items() if found is not None}
    if bound.name not in compared or len(compared) < 2:
        return None
    for way in ways:
        found: list[tuple[float, Disagreement]] = []
        for index, (label, pair) in enumerate(pairs):
            if label.values != (0,) or len(channels) == 1:
                found += _parts(way, label, pair, loaded, {name: maps[index] for name, maps in compared.items()})
        striking = [f for f in found if f[0] >= STRIKING]
        if striking:
            return max(striking, key=lambda f: (f[1].note in ISLANDS, f[0]))[1]
    return None


def _shares(loss: BoundMeasure, pairs: Sequence[SoftPair]) -> list[Vector] | None:
    """Return each voxel's share of the excess over all channels; `None` where there is nothing to divide."""
    maps = [found for found in (excess_map(loss, pair) for pair in pairs) if found is not None]
    total, scale = sum(float(m.sum()) for m in maps), sum(float(abs(m).sum()) for m in maps)
    if len(maps) < len(pairs) or abs(total) <= 1e-12 * scale:
        return None
    return [m / total for m in maps]


def _parts(
    way: str, label: Label, pair: SoftPair, loaded: Loaded, maps: dict[str, Vector]
) -> list[tuple[float, Disagreement]]:
    """Return the parts of one label, each with how far the share of the first loss is from another's."""
    found = []
    names = list(maps)
    for division in divide(way, label.name, pair, pair.vector(loaded.predicted(label)) > 0):
        table = np.array([division.sums(values) for values in maps.values()])
        apart = abs(table[1:] - table[0])
        for part, name in enumerate(division.names):
            if name == division.rest:
                continue
            order = [0, *(1 + int(k) for k in np.argsort(-apart[:, part], kind="stable"))]
            shares = {names[k]: float(table[k, part]) for k in order}
            here = Disagreement(way, label.name, name, division.voxels[part], division.notes[part], shares)
            found.append((float(apart[:, part].max()), here))
    return found
