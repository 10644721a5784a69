"""The rows of a comparison, the order in which each measure puts the predictions, and how two orders agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from segcli.explain.attribution import Norms, Shares

if TYPE_CHECKING:
    from segcli.measure.record import BoundMeasure


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one label of one prediction. A metric has a value only."""

    pred: str
    label: str
    kind: str
    measure: str
    value: float | None
    unit: str = ""
    optimum: float | None = None
    excess: float | None = None
    share: Shares | None = None
    by_p: Norms | None = None
    by_z: Norms | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """The predictions from best to worst by one measure; equal values share a place."""

    label: str
    kind: str
    measure: str
    order: list[list[str]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b between the rankings of `n` predictions by a loss and by a metric; 1 is the same order."""

    label: str
    loss: str
    metric: str
    tau: float | None
    n: int


def rankings_of(rows: Sequence[Row], measures: Sequence[BoundMeasure]) -> list[Ranking]:
    found = []
    labels = list(dict.fromkeys(r.label for r in rows))
    for bound in measures:
        direction = bound.measure.better
        if direction == "none":
            continue
        for label in labels:
            here = [
                r
                for r in rows
                if r.label == label and r.measure == bound.name and r.kind == bound.measure.kind and r.value is not None
            ]
            if len(here) > 1:
                levels = _levels(here, bound)
                order: list[list[str]] = [[] for _ in range(1 + max(levels))]
                for row, level in zip(here, levels, strict=True):
                    order[level].append(row.pred)
                found.append(Ranking(label, bound.measure.kind, bound.name, order))
    return found


def agreements_of(
    rows: Sequence[Row], losses: Sequence[BoundMeasure], judges: Sequence[BoundMeasure]
) -> list[Agreement]:
    found = []
    for label in dict.fromkeys(r.label for r in rows if r.kind == "metric"):
        for loss in losses:
            by_loss = _scores(rows, label, loss)
            for judge in {j.name: j for j in judges}.values():
                by_metric = _scores(rows, label, judge)
                both = [pred for pred in by_loss if pred in by_metric]
                if by_loss:
                    tau = kendall_tau([by_loss[p] for p in both], [by_metric[p] for p in both])
                    found.append(Agreement(label, loss.name, judge.name, tau, len(both)))
    return found


def _scores(rows: Sequence[Row], label: str, bound: BoundMeasure) -> dict[str, int]:
    """Return how many levels of a measure are better than each prediction's."""
    wanted = (label, bound.measure.kind, bound.name)
    chosen = [r for r in rows if (r.label, r.kind, r.measure) == wanted and r.value is not None]
    return dict(zip([r.pred for r in chosen], _levels(chosen, bound), strict=True))


def _levels(rows: Sequence[Row], bound: BoundMeasure) -> list[int]:
    """Return the level of each row by a measure, 0 for the best; values that rounding alone tells apart share one."""
    from segcli.run.statistics import ROUNDING

    bad = [_badness(row, bound.measure.better) for row in rows]
    # an excess is a difference: its rounding is that of the value which the optimum was taken from
    room = ROUNDING * max([bound.measure.scale, *(abs(row.value or 0.0) for row in rows)])
    found, level = [0] * len(rows), 0
    order = sorted(range(len(rows)), key=lambda i: bad[i])
    for before, i in pairwise(order):
        level += bad[i] - bad[before] > room
        found[i] = level
    return found


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two lists, `None` where one of them does not rank at all."""
    from scipy.stats import kendalltau

    if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(kendalltau(a, b).statistic)


def _badness(row: Row, direction: str) -> float:
    """Return what is smaller for a better prediction: a loss's excess, a metric's distance from its best."""
    value = row.value or 0.0
    if row.kind == "loss":
        return value if row.excess is None else row.excess
    return {"higher": -value, "lower": value, "zero": abs(value)}[direction]
