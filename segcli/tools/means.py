"""The means of a run under each rule for empty masks: from its values and counts, no mask is read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from segcli.errors import UsageError
from segcli.evidence.counts import Counts
from segcli.measure.conventions import WORDS, tools
from segcli.measure.notation import bind
from segcli.measure.record import FORMULA, BoundMeasure
from segcli.measure.why import Why
from segcli.run.alignment import diagonal
from segcli.run.model import Run
from segcli.run.records import Value
from segcli.scoring.empty import POLICIES, is_mark, own_rule, replacement, tool_rule, tool_words, why_empty


@dataclass(frozen=True, slots=True)
class EmptyMean:
    """The mean of one metric of one label over the cases of a run, under one rule for empty masks.

    `n` of `of` values count in it, `by_rule` of them put in by the rule. `words`: why there is no mean, or what a
    tool does with the rest.
    """

    label: str
    measure: str
    policy: str
    mean: float | None
    n: int
    of: int
    by_rule: int
    words: str = ""


def empty_means(run: Run) -> list[EmptyMean]:
    """Return the mean of each metric and label under each rule, of those that have an empty mask in some case.

    A tool's nan is left out of the mean, as nanmean does; its infinity makes the mean infinite and its error ends the
    evaluation: then there is no mean. Tools without the metric, or whose rule was not checked, are left out.
    """
    groups: dict[tuple[str, str], list[tuple[float | None, str, float | None]]] = {}
    for case in run.cases:
        for value in case.values:
            counts = case.counts.get(value.label)
            if value.kind != "metric" or counts is None or value.why in (Why.HARD_MASK, Why.OVERLAP):
                continue
            why = why_empty(counts.pred, counts.gt)
            own = _own(bind(value.measure, "metric"), value, counts, why)
            longest = diagonal(case, value.unit)
            groups.setdefault((value.label, value.measure), []).append((own, why, longest))
    found = []
    for (label, measure), values in groups.items():
        whys = {why for _, why, _ in values if why}
        bound = bind(measure, "metric")
        if not whys or all(own_rule(bound, why) == FORMULA for why in whys):
            continue
        for policy in (*POLICIES, *tools()):
            if policy in tools() and (tools()[policy].entry(bound) is None or _unknown(bound, policy, whys)):
                continue
            found.append(_mean(label, bound, policy, values))
    if not found:
        raise UsageError("no metric of this run met an empty mask: no rule changes a mean.", code="conventions.empty")
    return found


def _own(bound: BoundMeasure, value: Value, counts: Counts, why: str) -> float | None:
    """Return the value without any policy: what the record says, or what was computed."""
    rule = own_rule(bound, why)
    if rule == FORMULA and value.status == "policy":
        return _of_counts(bound, counts) if why else None
    return value.value if rule == FORMULA else rule


def _of_counts(bound: BoundMeasure, counts: Counts) -> float | None:
    """Return a metric of counts alone; that of others is not known where a policy took its place."""
    if bound.measure.needs != "counts":
        return None
    return cast("float | None", bound(SimpleNamespace(counts=counts)))


def _unknown(bound: BoundMeasure, policy: str, whys: set[str]) -> bool:
    return any(tool_rule(bound, policy, why) in ("unknown", "arbitrary") for why in whys)


#: What a tool does that leaves no mean over cases: its nan and its marks are left out.
ENDS = set(WORDS.values()) - {WORDS["nan"]}


def _mean(
    label: str, bound: BoundMeasure, policy: str, values: Sequence[tuple[float | None, str, float | None]]
) -> EmptyMean:
    numbers, by_rule = [], 0
    said: dict[str, int] = {}
    for value, why, longest in values:
        new = replacement(bound, policy, why, value, longest) if why else value
        if new != value and is_mark(bound, new, "policy"):
            said[f"prints {new:g}"] = said.get(f"prints {new:g}", 0) + 1
        elif new is not None:
            numbers.append(float(new))
            by_rule += bool(why) and new != value
        elif why:
            words = tool_words(bound, policy, why) or "undefined"
            said[words] = said.get(words, 0) + 1
    mean = sum(numbers) / len(numbers) if numbers else None
    if any(words in ENDS for words in said):
        mean = None
    text = ", ".join(f"{words} {times}x" for words, times in said.items())
    return EmptyMean(label, bound.name, policy, mean, len(numbers), len(values), by_rule, text)
