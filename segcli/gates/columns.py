"""The values of a run by label and measure: each case's value, or why it has none."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from segcli.errors import UsageError
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.run.alignment import diagonal, is_unbeaten
from segcli.run.columns import columns_of
from segcli.run.model import Run
from segcli.run.records import Key, Value
from segcli.scoring.means import ALL, MEAN, MeanOf, mean_of

#: Nothing to find and nothing found: says nothing for or against a prediction.
NOTHING = "both_empty"


@dataclass(frozen=True, slots=True)
class Cell:
    """One case's value. With a `why` it is undefined, or a mean over labels of which some are."""

    case: str
    value: float | None
    why: str = ""

    @property
    def undefined(self) -> bool:
        """Return whether a value is lacking that should be there."""
        return bool(self.why) and self.why != NOTHING


class Columns:
    """The cases of a run, and their values by label, kind and measure."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cases = run.by_name
        self._found = columns_of(run.cases)

    @cached_property
    def labels(self) -> list[str]:
        """Return the labels and regions of all cases, in the order in which the cases have them."""
        names = [*(self.run.spec.labels or {}), *self.run.labels]
        names += [label for label, _, _ in self._found if label != ALL]
        return list(dict.fromkeys(names))

    @cached_property
    def mean_of(self) -> MeanOf:
        """Return what the mean row of metrics is of."""
        labels = {name: self.run.labels.get(name) for name in self.labels}
        return mean_of(self.run.spec.told, labels, self.run.regions, lenient=True)

    @property
    def averaged(self) -> tuple[str, ...]:
        """Return the labels that the mean is over."""
        return self.mean_of.names

    @cached_property
    def measures(self) -> list[str]:
        """Return the full ids of the measures that the run has."""
        told = [text for text in self.run.spec.measures if not text.startswith("table.")]
        return list(dict.fromkeys([*told, *(f"{kind}.{name}" for _, kind, name in self._found)]))

    @cached_property
    def groups(self) -> list[str]:
        """Return the group columns."""
        return list(dict.fromkeys(column for case in self.cases.values() for column in case.group))

    @cached_property
    def bound(self) -> list[BoundMeasure]:
        """Return the measures of the run that this version knows."""
        found = []
        for text in self.measures:
            with contextlib.suppress(UsageError):  # a later version's measure is no one's mistake
                found.append(bind(text))
        return found

    def rows(self, kind: str, measure: str, *, channels: bool = False) -> list[str]:
        """Return the labels that have a measure, `all` last; with `channels` also those of losses alone."""
        own = [label for label in self.labels if (label, kind, measure) in self._found]
        scored = self.run.labels
        if scored and not channels:
            own = [label for label in own if label in scored]
        return own + [ALL] * ((ALL, kind, measure) in self._found)

    def selected(self, where: Sequence[tuple[str, str]]) -> list[str]:
        """Return the cases whose group columns (or name, `case`) match all patterns."""
        return [
            name
            for name, case in self.cases.items()
            if all(fnmatchcase(name if c == "case" else case.group.get(c, ""), glob) for c, glob in where)
        ]

    def unit(self, key: Key) -> str:
        label, kind, measure = key
        labels = self.averaged if label == MEAN else [label]
        columns = (self._found.get((x, kind, measure)) for x in labels)
        return next((column.unit for column in columns if column is not None), "")

    def cells(self, key: Key, names: Sequence[str], bound: BoundMeasure, *, worst: bool = False) -> list[Cell]:
        """Return the cells of a label and measure in the cases that have it.

        With `worst` an undefined value is the worst that the measure can have on that case, where there is one.
        """
        if key[0] == MEAN:
            found = [self._mean(name, key, bound, worst=worst) for name in names]
            return [cell for cell in found if cell is not None]
        column = self._values(key)
        return [self._cell(name, column[name], bound, worst=worst) for name in names if name in column]

    def _values(self, key: Key) -> Mapping[str, Value]:
        column = self._found.get(key)
        return {} if column is None else column.of

    def _cell(self, case: str, found: Value, bound: BoundMeasure, *, worst: bool) -> Cell:
        value = found.value
        if value is not None:
            return Cell(case, value)
        why = found.why or "no value"
        if worst and why != NOTHING and not is_unbeaten(bound, self.cases[case], found):
            value = bound.worst(diagonal(self.cases[case], found.unit))
        return Cell(case, value, why if value is None else "")

    def _mean(self, case: str, key: Key, bound: BoundMeasure, *, worst: bool) -> Cell | None:
        """Return a case's mean over its labels; a label that should have a value and has none is its `why`."""
        _, kind, measure = key
        columns = [self._values((label, kind, measure)) for label in self.averaged]
        parts = [self._cell(case, column[case], bound, worst=worst) for column in columns if case in column]
        if not parts:
            return None
        why = next((part.why for part in parts if part.undefined), "")
        values = [part.value for part in parts if part.value is not None]
        told = self._told_means.get((case, kind, measure))
        if told is not None and not worst:
            return Cell(case, told, why)
        if not values:
            return Cell(case, None, why or NOTHING)
        return Cell(case, sum(values) / len(values), why)

    @cached_property
    def _told_means(self) -> dict[tuple[str, str, str], float]:
        """Return the means over labels that `score` wrote: they may be weighted, or over channels."""
        alone = next(iter(self.cases)) if len(self.cases) == 1 else None
        return {
            (row.case or alone or "", row.kind, row.measure): row.mean
            for row in self.run.of("labels")
            if row.label == MEAN and row.mean is not None
        }
