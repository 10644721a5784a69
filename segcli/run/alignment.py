"""Several runs side by side: which measures they share, and each case's values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from segcli.errors import InputError, UsageError
from segcli.measure.notation import bind, parse
from segcli.measure.record import BoundMeasure
from segcli.run.columns import columns_of
from segcli.run.comparability import Source, check_parameters
from segcli.run.records import Case, Key, Value
from segcli.scoring.means import ALL

#: A value this near to the best one is the best.
_ROUNDING = 1e-12


def values_of(source: Source, bounds: Sequence[BoundMeasure]) -> dict[Key, Mapping[str, Value]]:
    """Return the values of these measures: for each label, kind and measure those of each case."""
    columns = columns_of(source.cases.values(), [(b.measure.kind, b.name) for b in bounds])
    return {key: column.of for key, column in columns.items()}


def rows_of(sources: Sequence[Source], bounds: Sequence[BoundMeasure]) -> list[tuple[Key, BoundMeasure]]:
    """Return every label with every measure, labels in the order of the runs, all classes at once last."""
    labels = list(dict.fromkeys(label for source in sources for label in source.labels))
    rows = [(label, b) for label in labels if label != ALL for b in bounds if not b.over_classes]
    rows += [(ALL, b) for b in bounds]
    return [((label, b.measure.kind, b.name), b) for label, b in rows]


def is_unbeaten(bound: BoundMeasure, case: Case, value: Value) -> bool:
    """Return whether a value is undefined because nothing is wrong: no such value is a miss, and none is the worst.

    That is so where both masks have the same voxels, and of a ratio without an upper bound
    (`likelihood_ratio_positive`) where nothing was falsely predicted: it is infinite there.
    """
    counts = case.counts.get(value.label)
    if value.value is not None or value.why != "zero_denominator" or not counts or not counts.tp:
        return False
    endless = bound.measure.better == "higher" and not math.isfinite(bound.measure.range[1])
    return not counts.fp and (endless or not counts.fn)


def diagonal(case: Case, unit: str) -> float | None:
    """Return the diagonal of a case's image in a unit, mm or voxel; `None` where the case does not tell its grid.

    A distance of a tool that counts voxels is in voxels also where the grid is in mm.
    """
    return longest(case.shape, case.spacing, case.unit, unit)


def longest(shape: Sequence[int] | None, spacing: Sequence[float] | None, own: str | None, unit: str) -> float | None:
    """Return the diagonal of a grid, whose spacing is in the unit `own`, in another unit."""
    if unit not in ("mm", "voxel") or not shape or not spacing:
        return None
    steps = (1.0,) * len(shape) if unit == "voxel" and own == "mm" else spacing
    return math.hypot(*(n * s for n, s in zip(shape, steps, strict=True)))


def why_absent(source: Source, case: str) -> str:
    """Return why a case has no values in a run: its prediction is missing, it failed, or nobody asked for it."""
    side = next((gap.side for gap in source.run.missing if gap.case == case), None)
    if side is not None:
        return "missing prediction" if side == "pred" else "missing ground truth"
    return "error" if any(error.case == case for error in source.run.errors) else "not in the run"


def all_perfect(cases: Iterable[Case], bounds: Sequence[BoundMeasure]) -> bool:
    """Return whether every prediction equals its ground truth: no voxel is wrong, and every metric is at its best."""
    best = {b.name: b.measure.best() for b in bounds if b.measure.kind == "metric"}
    some = False
    for case in cases:
        if any(counts.fp or counts.fn for counts in case.counts.values()):
            return False
        for v in case.values:
            end = best.get(v.measure) if v.kind == "metric" else None
            if end is None or v.value is None or not math.isfinite(end):
                continue
            if not math.isclose(v.value, end, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
                return False
            some = True
    return some


#: What to ask whoever has nothing but perfect values.
TWICE = "every prediction equals its ground truth, voxel by voxel: is one folder given as both?"


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
    check_parameters(sources, [[b.id for b in bounds] for bounds in own])
    if not common:
        raise InputError(
            f"{' and '.join(s.name for s in sources)} have no measure in common.",
            hint=f"{sources[0].name} has {', '.join(b.id for b in own[0]) or 'none'}",
            code="run.measures",
        )
    return common, left


def _measures_of(source: Source) -> list[BoundMeasure]:
    found = []
    for text in source.run.spec.measures:
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


def shown_unit(columns: Sequence[Mapping[str, Value]]) -> str:
    """Return the unit of a column's values."""
    return next((v.unit for column in columns for v in column.values()), "")
