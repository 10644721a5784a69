"""Limits and verdicts: may this pass? `--min dice=0.9 --max tumour/hd95=5`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from segcli.errors import UsageError
from segcli.measure.conventions import Convention
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure, Kind
from segcli.scoring.means import ALL, Mean
from segcli.scoring.values import Scored, Value, label_named


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound on one measure: of the label named, of the mean row, or of every label."""

    text: str
    side: Literal["min", "max"]
    measure: BoundMeasure
    label: str | None
    value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limit says of one value; an undefined value fails."""

    rule: str
    case: str
    label: str
    kind: Kind
    measure: str
    value: float | None
    limit: float
    passed: bool
    why: str = ""


def parse_limits(
    side: Literal["min", "max"], texts: Sequence[str], surface: str | None = None, rules: Convention | None = None
) -> list[Limit]:
    """Return the limits of texts such as `dice=0.9`, `tumour/hd95=5`, `mean/nsd:tol=1=0.8`; measures by `rules`."""
    limits = [_parse(side, text, surface) for text in texts]
    return limits if rules is None else [replace(x, measure=rules.adopt(x.measure)) for x in limits]


def _parse(side: Literal["min", "max"], text: str, surface: str | None) -> Limit:
    left, equals, right = text.rpartition("=")
    label, slash, measure = left.rpartition("/")
    try:
        value = float(right)
        if not equals or not measure or not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--{side} {text} is not MEASURE=NUMBER.",
            hint=f"for example --{side} dice=0.9 or --{side} tumour/hd95=5",
            code="gate.syntax",
        ) from None
    bound = bind(measure)
    if bound.measure.kind == "table":
        raise UsageError(
            f"--{side} {text}: {bound.measure.name} is a table, and a limit holds one number.",
            hint="set a limit on a metric, for example --min mean_iou=0.7",
            code="gate.table",
        )
    _check_direction(side, left, right, bound, label if slash else None)
    if surface is not None:
        bound = bound.with_default("surface", surface)
    return Limit(f"--{side} {text}", side, bound, label if slash else None, value)


def _check_direction(side: str, left: str, right: str, bound: BoundMeasure, label: str | None) -> None:
    """Refuse a limit on the good side: it would hold a result to being bad enough."""
    good = {"higher": "min", "lower": "max"}.get(bound.measure.better, side)
    if side == good or (bound.over_classes and label not in (None, ALL)):  # that row has no value: judge says so
        return
    word = "lower" if good == "max" else "higher"
    raise UsageError(
        f"--{side} {left}={right}: {word} {bound.measure.name} is better, so this would pass what is bad.",
        hint=f"--{good} {left}={right}",
        code="gate.direction",
    )


def judge(limits: Sequence[Limit], cases: Sequence[Scored]) -> list[Verdict]:
    """Return a verdict for each limit, case and label it speaks of.

    Raises `UsageError` for a limit on a row that has no such value: it would pass by judging nothing.
    """
    verdicts = [verdict for case in cases for limit in limits for verdict in _judge(limit, case)]
    for limit in limits:
        if cases and limit.text not in {v.rule for v in verdicts}:
            wide = limit.measure.over_classes
            raise UsageError(
                f"{limit.text}: {limit.measure.name} has no value for {limit.label or 'any label'}.",
                hint=f"it is over all classes at once: --{limit.side} {limit.measure.name}=..."
                if wide
                else f"it has one for each label: --{limit.side} {limit.measure.name}=... holds them all",
                code="gate.label",
            )
    return verdicts


def _judge(limit: Limit, case: Scored) -> list[Verdict]:
    kind, name = limit.measure.measure.kind, limit.measure.name
    rows: list[Value | Mean] = [*case.values, *case.means]
    rows = [v for v in rows if (v.kind, v.measure) == (kind, name)]
    if limit.label is None:
        scored = {ALL, *(label.name for label in case.labels)}
        rows = [v for v in rows if v.label in scored]
    else:
        try:
            wanted = label_named(limit.label, case.labels)
        except UsageError as problem:
            raise UsageError(f"{limit.text}: {problem.message}", hint=problem.hint, code="gate.label") from None
        rows = [v for v in rows if v.label == wanted]
    return [
        Verdict(
            rule=limit.text,
            case=case.case,
            label=v.label,
            kind=kind,
            measure=name,
            value=v.value,
            limit=limit.value,
            passed=_passes(limit, v.value),
            why=v.why if isinstance(v, Value) and v.value is None else "",
        )
        for v in rows
    ]


def _passes(limit: Limit, value: float | None) -> bool:
    if value is None:
        return False
    return not beyond(limit.side, value, limit.value)


#: What rounding does to a number, as a share of it or of 1; no limit is meant to this digit.
_ROUNDING = 1e-12


def beyond(side: str, value: float, limit: float) -> bool:
    """Return whether a value is below a `min` or above a `max`, by more than rounding makes."""
    room = _ROUNDING * max(1.0, abs(limit))
    return value < limit - room if side == "min" else value > limit + room
