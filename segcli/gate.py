"""Limits and verdicts: may this pass? `--min dice=0.9 --max tumour/hd95=5`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segcli.errors import UsageError
from segcli.evaluate import Scored
from segcli.measure import BoundMeasure, bind


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
    measure: str
    value: float | None
    limit: float
    passed: bool
    why: str = ""


def parse_limits(side: Literal["min", "max"], texts: Sequence[str], surface: str | None = None) -> list[Limit]:
    """Return the limits of texts such as `dice=0.9`, `tumour/hd95=5`, `mean/nsd:tol=1=0.8`."""
    return [_parse(side, text, surface) for text in texts]


def _parse(side: Literal["min", "max"], text: str, surface: str | None) -> Limit:
    left, equals, right = text.rpartition("=")
    label, slash, measure = left.rpartition("/")
    try:
        value = float(right)
        if not equals or not measure or value != value:  # noqa: PLR0124 (NaN is no limit)
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--{side} {text} is not MEASURE=NUMBER.",
            hint=f"for example --{side} dice=0.9 or --{side} tumour/hd95=5",
            code="gate.syntax",
        ) from None
    bound = bind(measure)
    if surface is not None:
        bound = bound.with_default("surface", surface)
    return Limit(f"--{side} {text}", side, bound, label if slash else None, value)


def judge(limits: Sequence[Limit], cases: Sequence[Scored]) -> list[Verdict]:
    """Return a verdict for each limit, case and label it speaks of."""
    return [verdict for case in cases for limit in limits for verdict in _judge(limit, case)]


def _judge(limit: Limit, case: Scored) -> list[Verdict]:
    kind, name = limit.measure.measure.kind, limit.measure.name
    if limit.label == "mean":
        rows = [("mean", m.value, "") for m in case.means if (m.kind, m.measure) == (kind, name)]
    else:
        rows = [(v.label, v.value, v.why) for v in case.values if (v.kind, v.measure) == (kind, name)]
        if limit.label is not None:
            known = [label for label, _, _ in rows]
            rows = [row for row in rows if row[0] == limit.label]
            if not rows:
                raise UsageError(
                    f"{limit.text}: no label {limit.label} in {case.case}; there are {', '.join(known)}.",
                    hint="name labels with --labels, so that a missing one fails the gate",
                    code="gate.label",
                )
    return [
        Verdict(
            limit.text, case.case, label, name, value, limit.value, _passes(limit, value), why if value is None else ""
        )
        for label, value, why in rows
    ]


def _passes(limit: Limit, value: float | None) -> bool:
    if value is None:
        return False
    return value >= limit.value if limit.side == "min" else value <= limit.value
