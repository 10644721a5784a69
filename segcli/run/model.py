"""A run: its options, cases and summary, typed; what `segcli schema run` describes, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from segcli.run.codec import (
    case_to,
    cases_from,
    class_table_from,
    class_table_to,
    each,
    failure_from,
    failure_to,
    missing_from,
    missing_to,
    note_kind_to,
    summary_from,
    summary_to,
)
from segcli.run.json_text import json_lines
from segcli.run.noted import said_of
from segcli.run.records import (
    Case,
    ClassTable,
    Failure,
    LabelValues,
    MeanOf,
    Missing,
    Spec,
    Summary,
)
from segcli.scoring.means import ALL, mean_of

SCHEMA = "segcli.run/1"


@dataclass(frozen=True)
class Run:
    """A run over one or many cases. Nothing in it refers to the masks: every number can be had again from them."""

    spec: Spec
    cases: list[Case]
    missing: list[Missing] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)
    summary: list[Summary] = field(default_factory=list)
    tables: list[ClassTable] = field(default_factory=list)
    #: Verdicts of the limits that `score` was given.
    gates: list[Mapping[str, Any]] | None = None
    #: Versions, machine, command line and time: all that is another in each run.
    environment: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as its file has it (`segcli schema run`): plain dicts, lists, texts and numbers."""
        return {key: list(part) if isinstance(part, map) else part for key, part in _items(self)}

    def to_json(self) -> str:
        """Return the text of the run file, one case a line."""
        return "".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield the pieces of the text of the run file: of a large run it is longer than the run."""
        return json_lines(_items(self))

    @cached_property
    def by_name(self) -> dict[str, Case]:
        """Return each case by its name."""
        return {case.name: case for case in self.cases}

    @cached_property
    def labels(self) -> dict[str, LabelValues]:
        """Return what every label stands for, over all cases."""
        found: dict[str, LabelValues] = {}
        for case in self.cases:
            for name, values in case.labels.items():
                found.setdefault(name, values)
        return found

    @cached_property
    def regions(self) -> set[str]:
        return {region for case in self.cases for region in case.regions}

    def mean_of(self, *, lenient: bool = True) -> MeanOf:
        """Return what the mean row of metrics is of; not `lenient` it raises for a label that no case has."""
        labels = {name: values for name, values in self.labels.items() if name != ALL}
        return mean_of(self.spec.told, labels, self.regions, lenient=lenient)

    def of(self, over: str) -> Iterator[Summary]:
        """Yield the rows of the summary over `cases` or over `labels`."""
        return (row for row in self.summary if row.over == over)


def _items(run: Run) -> Iterator[tuple[str, Any]]:
    """Yield each key of a run file with what stands there; cases are made as they are asked for."""
    yield "schema", SCHEMA
    yield "spec", dict(run.spec.told)
    yield "cases", map(case_to, run.cases) if run.cases else []
    yield "missing", [missing_to(gap) for gap in run.missing]
    yield "errors", [failure_to(error) for error in run.errors]
    yield "notes", [note_kind_to(kind) for kind in said_of(run.cases)]
    yield "summary", [summary_to(row) for row in run.summary]
    if run.tables:
        yield "tables", [class_table_to(table) for table in run.tables]
    if run.gates is not None:
        yield "gates", [dict(verdict) for verdict in run.gates]
    yield "environment", dict(run.environment)


def run_from(found: dict[str, Any], where: str = "the run") -> Run:
    """Return the run of a file whose shape was checked; the records of its cases are used up."""
    return Run(
        Spec(found["spec"]),
        cases_from(found["cases"], where),
        [missing_from(gap) for gap in found["missing"]],
        [failure_from(error) for error in found["errors"]],
        [summary_from(row) for row in found["summary"]],
        each(class_table_from, found.get("tables") or [], f"{where}: tables"),
        found.get("gates"),
        found.get("environment") or {},
    )
