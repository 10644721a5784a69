"""What a tool prints for a label of a pair, or for all its classes, computed without the tool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from segcli.measure.conventions import WORDS, Entry, holds
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.scoring.empty import classes_value, metric_value, why_empty
from segcli.scoring.grids import on_grid, refused

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.evidence.pair import Pair

#: Values that differ by no more than this, relative to the larger, are the same number: a voxel size of 2 read from a
#: header is 2.000000009 along one axis and 2.00000001 along another.
SAME = 1e-7


@dataclass(frozen=True, slots=True)
class Printed:
    """What a tool prints: a number, or words where it prints none, or none that means anything."""

    value: float | None
    words: str = ""


def same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= SAME * max(abs(a), abs(b))


class Views:
    """One label of a case on the grids that tools put it on.

    `own` is the case of segcli's own number, where that is another one: void in a prediction of one label.
    """

    def __init__(self, case: Case, index: int, own: Case | None = None) -> None:
        self.case = case
        self.index = index
        self._own = case if own is None else own
        self._pairs: dict[str, Pair] = {}

    def pair(self, grid: str) -> Pair:
        if grid not in self._pairs:
            self._pairs[grid] = on_grid(self.case, grid).pair(self.index)
        return self._pairs[grid]

    def value(self, bound: BoundMeasure, grid: str = "file") -> float | None:
        """Return a measure's own value, undefined where a mask is empty and its formula has none."""
        if self.beyond(bound):
            return None
        if bound.over_classes:
            return classes_value(bound, self.case.classes)[0]
        return metric_value(bound, self.pair(grid), "undefined")[0]

    def beyond(self, bound: BoundMeasure) -> bool:
        """Return whether a measure needs one label in each voxel, and the labels overlap."""
        return self.case.overlapping and (bound.over_classes or bound.params.get("instances") == "values")

    def own(self, bound: BoundMeasure) -> float | None:
        """Return segcli's own number."""
        return self.value(bound) if self._own is self.case else Views(self._own, self.index).value(bound)

    def lines_apart(self, bound: BoundMeasure) -> bool:
        """Return whether neither skeleton meets the other mask: cldice is then 0 / 0, and 0 only by its rule."""
        thinning = bound.params["thinning"]
        shares = (bind(f"skeleton_{share}:thinning={thinning}", "metric") for share in ("precision", "recall"))
        return all(self.value(share) == 0 for share in shares)

    @cached_property
    def only_in_pred(self) -> bool:
        """Return whether a class, the background too, is in the prediction only."""
        sums = self.case.classes.sums
        return any(pred and not gt for pred, gt in zip(sums.pred.values(), sums.gt.values(), strict=True))

    @property
    def why(self) -> str:
        counts = self.case.counts(self.index)
        return why_empty(counts.pred, counts.gt)


def failure(entry: Entry, views: Views) -> str:
    """Return what a tool does where it does not follow its own definition; nothing where it does."""
    counts = views.case.counts(views.index)
    said = [words for condition, words in entry.fails.items() if holds(condition, views.case.shape, counts)]
    if "no surface" in entry.fails and not views.why and views.value(entry.bound()) is None:
        said.append(entry.fails["no surface"])
    if "only in pred" in entry.fails and views.only_in_pred:
        said.append(entry.fails["only in pred"])
    return "; ".join(said)


def given(entry: Entry, bound: BoundMeasure, views: Views) -> tuple[str, float | str] | None:
    """Return what a tool gives for a label by a rule of its own, with the condition that calls for it."""
    none = bound.over_classes or not entry.gives
    return None if none else entry.given(views.case.shape, views.case.counts(views.index))


def printed(entry: Entry, bound: BoundMeasure, views: Views) -> Printed:
    """Return what a tool prints for a label, or for all classes."""
    if views.beyond(bound):
        return Printed(None, "takes one label for each voxel")
    if (own := given(entry, bound, views)) is not None:
        return _printed(own[1])
    rule = entry.rule(views.why) if views.why and not bound.over_classes else "formula"
    if isinstance(rule, (int, float)):
        return Printed(float(rule))
    failed = refused(views.case, entry.grid) or failure(entry, views)
    if rule != "formula":
        return Printed(None, WORDS[rule])
    if failed:
        return Printed(None, failed)
    value = views.value(bound, entry.grid)
    if value == 0 and "lines apart" in entry.fails and views.lines_apart(bound):
        return Printed(None, entry.fails["lines apart"])
    if value is not None:
        return Printed(value * entry.times)
    return _printed(entry.undefined)


def _printed(what: float | str) -> Printed:
    return Printed(None, WORDS[what]) if isinstance(what, str) else Printed(float(what))
