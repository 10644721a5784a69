"""A metric's value with its status: what the record says of an empty mask, or the policy that the user chose."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from segcli.errors import UsageError
from segcli.measure import FORMULA, BoundMeasure, EmptyValue

if TYPE_CHECKING:
    from segcli.pair import Pair

Status = Literal["ok", "undefined", "policy"]
POLICIES = ("undefined", "perfect-if-both-empty", "worst", "zero")


def check_policy(empty: str) -> str:
    if empty not in POLICIES:
        raise UsageError(f"--empty {empty} is not one of {', '.join(POLICIES)}.", code="empty")
    return empty


def metric_value(bound: BoundMeasure, pair: Pair, policy: str) -> tuple[float | None, Status, str]:
    """Return a metric's value with its status and the reason where it is undefined or a policy's."""
    measure, counts = bound.measure, pair.counts
    if measure.reads == "probability" and pair.soft is None:
        return None, "undefined", "hard_mask"
    why = ""
    given: EmptyValue = FORMULA
    if not (counts.pred and counts.gt):
        rule = measure.when_empty
        why = "both_empty" if not counts.pred and not counts.gt else "gt_empty" if counts.pred else "pred_empty"
        given = {"both_empty": rule.both, "gt_empty": rule.gt, "pred_empty": rule.pred}[why]
    value = bound(pair) if given == FORMULA else given
    if policy != "undefined" and why and given != FORMULA:
        replaced = _by_policy(bound, policy, both=why == "both_empty", diagonal=pair.case.diagonal, value=value)
        if replaced is not None:
            return replaced, ("ok" if replaced == value else "policy"), ("" if replaced == value else why)
    if value is None:  # where the formula was asked, it is not the emptiness that has no value
        no_value = "no_surface" if "surface" in measure.params else "zero_denominator"
        return None, "undefined", no_value if given == FORMULA else why
    return value, "ok", ""


def _by_policy(bound: BoundMeasure, policy: str, *, both: bool, diagonal: float, value: float | None) -> float | None:
    """Return the value that `policy` puts in an empty mask's place, `value` where it has none to put.

    Of an error whose best value lies inside its range (a relative volume error) no value stands for a
    miss: a policy that would make it 0 would call the miss perfect. An end at infinity is no value either.
    """
    measure = bound.measure
    if both:
        best = measure.range[1] if measure.better == "higher" and policy != "zero" else 0.0
        return best if isfinite(best) else value
    if measure.better == "zero":
        return value
    if policy == "zero":
        return 0.0
    if measure.better == "higher":
        return 0.0 if value is None else value
    if policy == "worst" and value is None and measure.better == "lower":
        worst = diagonal if measure.unit == "mm" else measure.range[1]
        return worst if isfinite(worst) else value
    return value


def classes_value(bound: BoundMeasure, classes: Any) -> tuple[float | None, Status, str]:
    """Return a measure over all classes with its status, and the reason where it has no value."""
    value = bound(classes)
    if value is None:
        return None, "undefined", classes.empty if bound.measure.kind == "metric" else "zero_denominator"
    return float(value), "ok", ""
