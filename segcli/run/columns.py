"""The values of a run by label and measure: one column each, over the cases that have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from segcli.run.records import Case, Key, Value


@dataclass(eq=False)
class Column:
    """One label and measure: the cases that have it, in the order of the run, and the value of each."""

    key: Key
    cases: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    @cached_property
    def of(self) -> Mapping[str, Value]:
        """Return the value of each case by its name."""
        return dict(zip(self.cases, self.values, strict=True))

    @property
    def unit(self) -> str:
        return self.values[0].unit if self.values else ""


def columns_of(cases: Iterable[Case], measures: Iterable[tuple[str, str]] | None = None) -> dict[Key, Column]:
    """Return the columns of some cases, in the order in which they occur; of these `measures` (kind, name) only."""
    wanted = None if measures is None else set(measures)
    found: dict[Key, Column] = {}
    for case in cases:
        for value in case.values:
            if wanted is not None and (value.kind, value.measure) not in wanted:
                continue
            key = (value.label, value.kind, value.measure)
            column = found.get(key)
            if column is None:
                column = found[key] = Column(key)
            column.cases.append(case.name)
            column.values.append(value)
    return found
