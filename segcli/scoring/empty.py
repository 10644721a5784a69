"""A metric's value with its status: what the record says of an empty mask, or the policy that the user chose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import UsageError
from segcli.measure import conventions as tools
from segcli.measure.conventions import Convention, Entry, convention_of
from segcli.measure.record import FORMULA, BoundMeasure, EmptyValue
from segcli.measure.why import EMPTY, Why

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair
    from segcli.masks.reading import Reading

Status = Literal["ok", "undefined", "policy"]
Found = tuple[float | None, Status, str]
POLICIES = ("undefined", "perfect-if-both-empty", "worst", "zero")


def check_policy(empty: str) -> str:
    """Return a policy for empty masks: one of `POLICIES`, or the name of a tool whose rules to follow."""
    if empty not in POLICIES and empty not in tools.tools():
        known = (*POLICIES, *tools.tools())
        near = difflib.get_close_matches(empty.lower(), known, 1, 0.6)
        raise UsageError(
            f"--empty {empty} is not one of {', '.join(POLICIES)}, nor a tool ({', '.join(tools.tools())}).",
            hint=f"did you mean {near[0]}?" if near else "",
            code="empty",
        )
    return empty


def why_empty(pred: int, gt: int) -> str:
    """Return which masks are empty: both_empty, pred_empty, gt_empty, or nothing."""
    if pred and gt:
        return ""
    return Why.BOTH_EMPTY if not pred and not gt else Why.GT_EMPTY if pred else Why.PRED_EMPTY


def metric_value(bound: BoundMeasure, pair: Pair, policy: str) -> tuple[float | None, Status, str]:
    """Return a metric's value with its status and the reason where it is undefined or a policy's."""
    measure, counts = bound.measure, pair.counts
    if measure.reads == "probability" and pair.soft is None:
        return None, "undefined", Why.HARD_MASK
    why = why_empty(counts.pred, counts.gt)
    if (
        why == Why.GT_EMPTY
        and pair.case.valid is not None
        and measure.reads == "labels"
        and "instances" in measure.params
    ):
        how = {key: bound.params[key] for key in ("connectivity", "instances")}
        why = why if pair.objects.any_predicted(**how) else Why.BOTH_EMPTY
    given = own_rule(bound, why) if why else FORMULA
    value = bound(pair) if given == FORMULA else given
    if why:
        replaced = replacement(bound, policy, why, value, pair.case.diagonal)
        if replaced is not value and replaced != value:
            return replaced, ("undefined" if replaced is None else "policy"), why
    if value is None:  # where the formula was asked, it is not the emptiness that has no value
        replaced = None if why else tool_undefined(bound, policy)
        return replaced, ("undefined" if replaced is None else "policy"), measure.undefined if given == FORMULA else why
    return value, "ok", ""


def parts_of(metrics: Iterable[BoundMeasure], pair: Pair) -> dict[str, dict[str, Any]]:
    """Return the parts from which the pooled values of metrics follow, as plain records by question.

    They are those that the formulas ask for, also where a rule for empty masks gives the value. An empty hard mask has
    no candidates; any other has no confidences, and no parts.
    """
    from segcli.evidence.object_parts import Asked, ObjectsOnly

    of_objects = [bound for bound in metrics if bound.measure.parts]
    if not of_objects:
        return {}
    asked = Asked(pair.objects)
    for bound in of_objects:
        if not (bound.measure.reads == "probability" and pair.soft is None and pair.counts.pred):
            bound(ObjectsOnly(asked))
    # In the order in which they were first asked for, by a value or here.
    return {key: part._asdict() for key, part in pair.objects.answers.items() if key in asked.keys}


def own_rule(bound: BoundMeasure, why: str) -> EmptyValue:
    """Return what the record says of an empty mask."""
    rule = bound.measure.when_empty
    return {"": FORMULA, Why.BOTH_EMPTY: rule.both, Why.GT_EMPTY: rule.gt, Why.PRED_EMPTY: rule.pred}[why]


def replacement(
    bound: BoundMeasure, policy: str, why: str, value: float | None, diagonal: float | None
) -> float | None:
    """Return what a policy makes of a value where a mask is empty.

    A tool's nan, infinity or error is no number: it becomes `None`, and `tool_words` says what it is.
    """
    if policy not in POLICIES:
        rule = tool_rule(bound, policy, why)
        return value if rule == FORMULA else rule if isinstance(rule, (int, float)) else None
    if policy == "undefined" or own_rule(bound, why) == FORMULA:
        return value
    replaced = _by_policy(bound, policy, both=why == Why.BOTH_EMPTY, diagonal=diagonal, value=value)
    return value if replaced is None else replaced


def tool_rule(bound: BoundMeasure, policy: str, why: str) -> float | str:
    """Return what a tool gives for an empty mask; `formula` where it has no such metric."""
    entry = tools.tools()[policy].entry(bound)
    return FORMULA if entry is None else entry.rule(why)


def as_given(entry: Entry, pair: Pair, found: Found) -> tuple[Found, str]:
    """Return a value as a tool's own rule for such masks has it, and what that rule is in words; else as it was.

    What it does with an image of this form at all is no value of a mask: remarks say it.
    """
    rule = entry.given(pair.case.shape, pair.counts) if entry.gives else None
    if rule is None or tools.holds(rule[0], pair.case.shape) or rule[1] == found[0]:
        return found, ""
    value, why = found[0], found[2] or Why.ZERO_DENOMINATOR
    said = f"{tools.CONDITION_WORDS[rule[0]]}: "
    if isinstance(rule[1], str):
        return (None, "undefined", why), f"{said}{tools.WORDS[rule[1]]}"
    ours = "undefined" if value is None else f"{value:.4g}"
    return (float(rule[1]), "policy", why), f"{said}{rule[1]:.4g} by its rule, not {ours}"


def tool_undefined(bound: BoundMeasure, policy: str) -> float | None:
    """Return the number that a tool gives where no mask is empty and the formula has no value, if it gives one."""
    entry = None if policy in POLICIES else tools.tools()[policy].entry(bound)
    given = "unknown" if entry is None else entry.undefined
    return None if isinstance(given, str) else float(given)


def tool_words(bound: BoundMeasure, policy: str, why: str) -> str:
    """Return what a tool does with an empty mask where that is no number: `prints nan`, `raises an error`."""
    if policy in POLICIES or why not in EMPTY:
        return ""
    rule = tool_rule(bound, policy, why)
    return tools.WORDS.get(rule, "") if isinstance(rule, str) else ""


def is_mark(bound: BoundMeasure, value: float | None, status: str) -> bool:
    """Return whether a tool's number is outside the range of the measure: the mark of no value, in no mean."""
    low, high = bound.measure.range
    return status == "policy" and value is not None and not low <= value <= high


def _by_policy(
    bound: BoundMeasure, policy: str, *, both: bool, diagonal: float | None, value: float | None
) -> float | None:
    """Return the value that `policy` puts in an empty mask's place, `value` where it has none to put.

    Of an error whose best value lies inside its range (a relative volume error) no value stands for a
    miss: a policy that would make it 0 would call the miss perfect. Of a threshold none does.
    """
    measure = bound.measure
    if both and measure.better != "none":
        best = measure.range[1] if measure.better == "higher" and policy != "zero" else 0.0
        return best if isfinite(best) else value
    if measure.better in ("zero", "none"):
        return value
    if policy == "zero":
        return 0.0
    if value is not None:
        return value
    if policy == "worst":
        return bound.worst(diagonal)
    return 0.0 if measure.better == "higher" else None


def conventional(
    convention: str | None, metrics: str | Iterable[str] | None, losses: str | Iterable[str] | None, surface: str | None
) -> Convention | None:
    """Return what a convention makes of these lists; `None` without one."""
    return None if convention is None else convention_of(convention, metrics, losses, surface=surface)


def check_ignored(convention: str | None, reading: Reading) -> None:
    """Raise `UsageError` where a tool's numbers are asked for of voxels that no tool leaves out."""
    if convention is not None and reading.ignore_in == "either":
        raise UsageError(
            f"--ignore-in either: {convention} does not look into the prediction for what to leave out.",
            hint="--ignore-in gt",
            code="labels.ignore",
        )


def empty_rule(empty: str | None, convention: Convention | None) -> str:
    """Return the rule for empty masks: the one asked for, else the convention's, else undefined."""
    if empty is not None:
        return check_policy(empty)
    return "undefined" if convention is None or not convention.entries else convention.tool


def classes_value(bound: BoundMeasure, classes: Any, policy: str = "undefined") -> tuple[float | None, Status, str]:
    """Return a measure over all classes with its status, and the reason where it has no value.

    A map of nothing but background is empty. What tools make of one is known of single labels only. `classes` of
    `None` are labels that overlap: a voxel has no one class.
    """
    if classes is None:
        return None, "undefined", Why.OVERLAP
    if bound.measure.reads == "class-probabilities" and classes.soft is None:
        return None, "undefined", Why.HARD_MASK
    value = bound(classes)
    if value is not None:
        return float(value), "ok", ""
    if bound.measure.kind != "metric":
        return None, "undefined", bound.measure.undefined
    why = Why(classes.empty)
    if policy in POLICIES and why in EMPTY:
        value = replacement(bound, policy, why, None, classes.case.diagonal)
    return value, "undefined" if value is None else "policy", why
