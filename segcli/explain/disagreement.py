"""Why losses disagree: the part of the voxels that one loss weighs most unlike others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from segcli.explain.attribution import excess_map
from segcli.explain.divisions import ISLANDS, Division, divide
from segcli.measure.notation import DEFAULTS, bind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segcli.masks.labels import Label
    from segcli.measure.record import BoundMeasure
    from segcli.scoring.loading import Loaded

#: The losses that one is held against: the default ones and blob. All have closed-form maps; the dearest
#: of them need a distance transform or a labelling of the gt. Of a hard mask those that read probabilities
#: are left out: they only count errors there.
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
    totals, scales = np.zeros(len(losses)), np.zeros(len(losses))
    known = np.ones(len(losses), dtype=bool)
    found: list[_Parts] = []
    for label in channels:  # one at a time: the maps of all channels may be more than fits in memory
        pair = loaded.soft(label)
        shown = label.values != (0,) or len(channels) == 1
        predicted = pair.vector(loaded.predicted(label)) > 0
        divisions = [(way, d) for way in ways for d in divide(way, label.name, pair, predicted)] if shown else []
        sums: list[list[list[float]]] = [[] for _ in divisions]
        for index, loss in enumerate(losses):
            values = None if index and pair.hard and loss.measure.reads == "probability" else excess_map(loss, pair)
            if values is None:
                known[index] = False
                values = 0 * pair.p
            totals[index] += values.sum()
            scales[index] += abs(values).sum()
            for row, (_, division) in zip(sums, divisions, strict=True):
                row.append(division.sums(values))
        found += [_Parts(way, label.name, d, np.array(row)) for row, (way, d) in zip(sums, divisions, strict=True)]
    compared = np.flatnonzero(known & (abs(totals) > 1e-12 * scales))
    if 0 not in compared or len(compared) < 2:
        return None
    names = [losses[k].name for k in compared]
    shares = [replace(parts, values=parts.values[compared] / totals[compared, None]) for parts in found]
    for way in ways:
        striking = [c for parts in shares if parts.way == way for c in _striking(parts, names)]
        if striking:
            # of two parts that make up the whole the gaps are equal: the smaller one says more
            return max(striking, key=lambda c: (c[1].note in ISLANDS, round(c[0], 6), -c[1].voxels))[1]
    return None


@dataclass(frozen=True)
class _Parts:
    """A division of a label and what its parts have of each loss: a row for a loss."""

    way: str
    label: str
    division: Division
    values: NDArray[np.float64]


def _striking(parts: _Parts, names: Sequence[str]) -> list[tuple[float, Disagreement]]:
    """Return the parts of which some loss has a quite different share from the first, with the difference."""
    found = []
    division, apart = parts.division, abs(parts.values[1:] - parts.values[0])
    for k in np.flatnonzero(apart.max(axis=0) >= STRIKING):
        if division.names[k] == division.rest:
            continue
        order = [0, *(1 + int(j) for j in np.argsort(-apart[:, k], kind="stable"))]
        shares = {names[j]: float(parts.values[j, k]) for j in order}
        here = Disagreement(parts.way, parts.label, division.names[k], division.voxels[k], division.notes[k], shares)
        found.append((float(apart[:, k].max()), here))
    return found
