"""Several runs side by side: which measures they share, whether these mean the same, and each case's values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segcli.averaging import ALL
from segcli.errors import InputError, UsageError
from segcli.measure import BoundMeasure, bind, parse

Record = Mapping[str, Any]
#: What a column of values is of: label, kind, canonical measure.
Key = tuple[str, str, str]

#: Options of a run that are part of the definition of its numbers. How a prediction's file is read (its
#: kind, its channels) is not: two models may write different files.
DEFINING = ("convention", "ignore", "empty", "threshold", "spacing", "soft_gt", "background", "average", "batch_dice")
#: Spacings out of headers carry float32 noise.
SAME_SPACING = 1e-4


@dataclass(frozen=True)
class Source:
    """A run with the name that it has in the results."""

    name: str
    run: Record
    cases: dict[str, Record] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", {case["case"]: case for case in self.run["cases"]})

    def columns(self, bounds: Sequence[BoundMeasure]) -> dict[Key, dict[str, Record]]:
        """Return the value records of these measures: for each label, kind and measure those of each case."""
        wanted = {(b.measure.kind, b.name) for b in bounds}
        found: dict[Key, dict[str, Record]] = {}
        for name, case in self.cases.items():
            for record in case["values"]:
                if (record["kind"], record["measure"]) in wanted:
                    key = (record["label"], record["kind"], record["measure"])
                    found.setdefault(key, {})[name] = record
        return found

    def labels(self) -> dict[str, Any]:
        """Return the voxel values of every label, over all cases."""
        found: dict[str, Any] = {}
        for case in self.cases.values():
            for name, values in (case.get("labels") or {}).items():
                found.setdefault(name, values)
        return found

    def plain_labels(self) -> list[str]:
        """Return the labels that the mean row counts: no region, and not all classes at once."""
        regions = {region for case in self.cases.values() for region in case.get("regions", ())}
        return [name for name in self.labels() if name not in regions and name != ALL]

    def why_absent(self, case: str) -> str:
        """Return why a case has no values here: its prediction is missing, it failed, or nobody asked for it."""
        if any(m["case"] == case for m in self.run["missing"]):
            side = next(m["side"] for m in self.run["missing"] if m["case"] == case)
            return "missing prediction" if side == "pred" else "missing ground truth"
        return "error" if any(e["case"] == case for e in self.run["errors"]) else "not in the run"


def measures_in_common(sources: Sequence[Source], asked: str = "") -> tuple[list[BoundMeasure], list[str]]:
    """Return the measures that all runs have, or those of them asked for, and the ids of those that not all have.

    Raises `InputError` where a measure is in two runs with different parameters only: such numbers are
    never compared.
    """
    own = [_measures_of(source) for source in sources]
    common = [b for b in own[0] if all(any(b.id == other.id for other in more) for more in own[1:])]
    if asked:
        common_names = {b.id for b in _asked(common, own, asked)}
        own = [[b for b in bounds if _is_asked(b, asked)] for bounds in own]
        common = [b for b in common if b.id in common_names]
    ids = {b.id for b in common}
    left = list(dict.fromkeys(b.id for bounds in own for b in bounds if b.id not in ids))
    names = {b.measure.id for b in common}
    for bounds in own[:1]:
        for bound in bounds:
            _check_parameters(bound, sources, own, names)
    if not common:
        raise InputError(
            f"{' and '.join(s.name for s in sources)} have no measure in common.",
            hint=f"{sources[0].name} has {', '.join(b.id for b in own[0]) or 'none'}",
            code="run.measures",
        )
    return common, left


def _measures_of(source: Source) -> list[BoundMeasure]:
    found = []
    for text in source.run["spec"]["measures"]:
        try:
            found.append(bind(text))
        except UsageError as problem:
            raise InputError(
                f"{source.name}: {problem.message}",
                hint="another version of segcli wrote this run",
                code="run.measures",
            ) from None
    return [b for b in found if b.measure.kind != "table"]


def wishes(asked: str) -> list[list[BoundMeasure]]:
    """Return the measures that each word of a list means; a preset means several."""
    found = []
    for word in (w.strip() for w in asked.split(",")):
        if word.startswith(("loss.", "metric.")):
            found.append([bind(word)])
        elif word:
            found.append(parse("metric", word))
    return found


def _matches(bound: BoundMeasure, wish: BoundMeasure) -> bool:
    """Return whether a run's measure is the one wished for: what a wish does not name may be anything."""
    return bound.measure.id == wish.measure.id and all(bound.params[key] == wish.params[key] for key in wish.named)


def _is_asked(bound: BoundMeasure, asked: str) -> bool:
    return any(_matches(bound, wish) for group in wishes(asked) for wish in group)


def _asked(common: Sequence[BoundMeasure], own: Sequence[Sequence[BoundMeasure]], asked: str) -> list[BoundMeasure]:
    for group in wishes(asked):
        if not any(_matches(b, wish) for bounds in own for b in bounds for wish in group):
            name = group[0].id if len(group) == 1 else asked
            raise UsageError(
                f"--metrics {name}: not in the runs.",
                hint=f"they have {', '.join(b.id for b in common) or 'no measure in common'}",
                code="run.measures",
            )
    return [b for b in common if _is_asked(b, asked)]


def _check_parameters(
    bound: BoundMeasure, sources: Sequence[Source], own: Sequence[Sequence[BoundMeasure]], common: set[str]
) -> None:
    if bound.measure.id in common:
        return
    for source, bounds in zip(sources[1:], own[1:], strict=True):
        others = [b.id for b in bounds if b.measure.id == bound.measure.id]
        if others:
            raise InputError(
                f"{bound.measure.name} is not the same in both runs: {bound.id} in {sources[0].name}, "
                f"{', '.join(others)} in {source.name}.",
                hint="numbers of different definitions are never compared; -m names the measures to compare",
                code="run.spec",
            )


# --- the same definition ----------------------------------------------------------------------------


def check_definitions(sources: Sequence[Source]) -> None:
    """Raise `InputError` with both values where runs differ in what defines their numbers."""
    first = sources[0]
    for other in sources[1:]:
        for key in DEFINING:
            mine, its = (s.run["spec"].get(key) for s in (first, other))
            if key in first.run["spec"] and key in other.run["spec"] and mine != its:
                _refuse(key, first, mine, other, its)
        _check_labels(first, other)
        _check_grids(first, other)


def _check_labels(first: Source, other: Source) -> None:
    """Raise where labels differ: named ones must be the same, found ones must mean the same where both have them."""
    given = [s.run["spec"].get("labels") for s in (first, other)]
    mine, its = (s.labels() if named is None else named for s, named in zip((first, other), given, strict=True))
    if given == [None, None]:
        both = {name for name in mine if name in its}
        if both or not mine or not its:
            mine, its = ({name: labels[name] for name in both} for labels in (mine, its))
    if mine != its:
        _refuse("labels", first, mine, other, its)


def _check_grids(first: Source, other: Source) -> None:
    """Raise where a case of both runs has another spacing or unit in each."""
    for name, case in first.cases.items():
        twin = other.cases.get(name)
        if twin is None:
            continue
        if case.get("unit", "") != twin.get("unit", ""):
            _refuse(f"{name}: unit", first, case.get("unit"), other, twin.get("unit"))
        mine, its = case.get("spacing"), twin.get("spacing")
        if mine is None or its is None:
            continue
        if len(mine) != len(its) or any(abs(a - b) > SAME_SPACING * a for a, b in zip(mine, its, strict=True)):
            _refuse(f"{name}: spacing", first, mine, other, its)


def _refuse(what: str, first: Source, mine: object, other: Source, its: object) -> None:
    said = [json.dumps(value, ensure_ascii=False) for value in (mine, its)]
    raise InputError(
        f"{what} is {said[0]} in {first.name} and {said[1]} in {other.name}.",
        hint="numbers of different definitions are never compared: evaluate both with the same options",
        code="run.spec",
    )


def other_truths(first: Source, other: Source) -> list[str]:
    """Return the cases that both runs have with different ground truth files."""
    found = []
    for name, case in first.cases.items():
        hashes = [(c or {}).get("gt", {}).get("sha256") for c in (case, other.cases.get(name))]
        if None not in hashes and hashes[0] != hashes[1]:
            found.append(name)
    return found


def shown_unit(columns: Sequence[Mapping[str, Record]]) -> str:
    """Return the unit of a column's values."""
    return next((str(r.get("unit", "")) for column in columns for r in column.values()), "")
