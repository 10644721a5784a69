"""How a run was made, as facts for a methods section: measures with definitions, options, intervals, works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segcli.errors import InputError, UsageError
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, measures
from segcli.run.bibliography import Work, keys_of, works_of
from segcli.run.comparability import Source
from segcli.run.model import Run
from segcli.wording import plain

#: Of the method of an interval: what it is, and where it comes from.
BCA = Work("Efron", "1987", "doi", "10.1080/01621459.1987.10478410")


@dataclass(frozen=True, slots=True)
class Cited:
    """One measure of a run: its definition, all its parameters, and the works that it comes from."""

    id: str
    bound: BoundMeasure
    parameters: tuple[tuple[str, str], ...]
    works: tuple[Work, ...]
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intervals:
    """How the intervals of means were made."""

    methods: tuple[str, ...]
    level: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Citation:
    """All that a methods section has to say of a run; `keys` are those of the bibliography."""

    version: str
    cases: int
    missing: int
    errors: int
    stand_ins: int
    measures: tuple[Cited, ...]
    labels: Mapping[str, Any]
    spec: Mapping[str, Any]
    units: tuple[str, ...]
    spacings: tuple[tuple[float, ...], ...]
    intervals: Intervals | None
    means: tuple[str, ...]
    keys: Mapping[Work, str]

    @property
    def works(self) -> list[Work]:
        """Return each work once, in the order of the measures."""
        found = [work for cited in self.measures for work in cited.works]
        if self.intervals is not None and "bca" in self.intervals.methods:
            found.append(BCA)
        return list(dict.fromkeys(found))


def cite(run: Run) -> Citation:
    """Return the facts of a run. Raises `InputError` where a measure is unknown to this version."""
    from segcli.run.summary import said_means

    source = Source("the run", run)
    cited = [_cited(text) for text in run.spec.measures]
    return Citation(
        version=str(run.environment.get("segcli", "")),
        cases=sum(case.status == "ok" for case in run.cases),
        missing=sum(gap.side == "pred" for gap in run.missing),
        errors=len(run.errors),
        stand_ins=sum(case.status == "missing" for case in run.cases),
        measures=tuple(cited),
        labels=source.labels,
        spec=run.spec.told,
        units=tuple(sorted({case.unit for case in run.cases if case.unit})),
        spacings=tuple(sorted({case.spacing for case in run.cases if case.spacing})),
        intervals=_intervals(run),
        means=tuple(said_means(run)),
        keys=keys_of([w for m in measures() for w in works_of(m.reference)[0]] + [BCA]),
    )


def _cited(text: str) -> Cited:
    try:
        bound = bind(text)
    except UsageError as problem:
        raise InputError(
            problem.message, hint="another version of segcli wrote this run", code="run.measures"
        ) from None
    works, said = works_of(bound.measure.reference)
    parameters = tuple((key, plain(bound.params[key])) for key in bound.measure.params)
    return Cited(bound.id, bound, parameters, tuple(works), tuple(said))


def _intervals(run: Run) -> Intervals | None:
    found = [s for s in run.of("cases") if s.ci is not None]
    if not found:
        return None
    for record in found:
        if lacking := [key for key in ("ci_method", "ci_level", "resamples", "seed") if getattr(record, key) is None]:
            raise InputError(f"an interval of {record.label} {record.measure} has no {lacking[0]!r}.",
                             hint="how it was made has to be said: write the run again", code="run.shape")  # fmt: skip
    first = found[0]
    methods = tuple(sorted({s.ci_method or "" for s in found}))
    return Intervals(methods, first.ci_level or 0.0, first.resamples or 0, first.seed or 0)
