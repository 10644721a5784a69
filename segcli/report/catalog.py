"""The records of the measures as a list, as cards and as plain data. Needs no NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segcli.measure.losses.libraries import LEGEND, Implementation, Known, known
from segcli.measure.param import Param
from segcli.measure.record import BoundMeasure, EmptyValue, Measure
from segcli.report.table import Table
from segcli.wording import plain

ARROWS = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best", "none": ""}


def catalog_table(measures: Sequence[Measure]) -> Table:
    table = Table(["kind", "family", "name", "what it is"], left=frozenset({0, 1, 2, 3}))
    for m in measures:
        table.rows.append([m.kind, m.family, default_name(m), m.summary.rstrip(".")])
    return table


def default_name(measure: Measure) -> str:
    return BoundMeasure(measure, {k: p.default for k, p in measure.params.items()}).name


def range_text(measure: Measure) -> str:
    if measure.kind == "table":
        return ""
    low, high = measure.range
    left = "(-inf" if math.isinf(low) else f"[{low:.4g}"
    right = "inf)" if math.isinf(high) else f"{high:.4g}]"
    return f"{left}, {right}"


def card(measure: Measure) -> str:
    """Return everything that is known of one measure, a line for each fact."""
    lines = [f"{measure.id}   {default_name(measure)}", f"  {measure.summary}"]
    lines += [f"  {line}" for line in measure.notes.splitlines()]
    lines += [f"  {name:<12} {text}" for name, text in [("formula", measure.formula), *facts(measure)]]
    lines += [
        f"  {param.name + '=':<12} {param.help} ({param.allowed()}; default {_default(param)})"
        for param in measure.params.values()
    ]
    of = outside(measure)
    told = [("elsewhere", [LEGEND] * bool(of.found_in) + elsewhere(of)), ("mistakes", of.mistakes)]
    lines += [f"  {'' if i else name:<12} {text}" for name, texts in told for i, text in enumerate(texts)]
    return "\n".join(lines)


def outside(measure: Measure) -> Known:
    """Return what is known of a loss outside segcli; nothing of a metric."""
    return known().get(measure.name, Known()) if measure.kind == "loss" else Known()


def elsewhere(of: Known, quote: str = "") -> list[str]:
    """Return a line for each public implementation, or one that says that there is none."""
    return [entry.text(quote) for entry in of.found_in] or [of.nowhere] * bool(of.nowhere)


def facts(measure: Measure) -> list[tuple[str, str]]:
    """Return what is known of a measure beside its text, formula and parameters; empty facts are left out."""
    better = f", {ARROWS[measure.better]}" if ARROWS[measure.better] else ""
    found = [("range", f"{range_text(measure)} {measure.unit}".strip() + better)]
    if measure.kind == "table":
        found = []
    elif measure.kind == "metric":
        e = measure.when_empty
        empties = f"both empty: {_empty(e.both)} · gt empty: {_empty(e.gt)} · pred empty: {_empty(e.pred)}"
        found.append(("empty masks", empties))
        found.append(("best", "" if measure.optimum is not None else "depends on the case: its value at pred = gt"))
    else:
        gradient = "closed form, with respect to p and to the logit" if measure.gradient else "none"
        found += [("at pred = gt", _at_gt(measure)), ("gradient", gradient)]
        found.append(("attribution", measure.attribution or "none"))
    found += [
        ("aliases", ", ".join(measure.aliases)),
        ("family", measure.family),
        ("reads", measure.reads),
        ("symmetric", "yes: pred and gt may be swapped" if measure.symmetric else "no"),
        ("reference", measure.reference),
        ("pooled", _pooled(measure)),
        ("caution", measure.caution),
    ]
    return [(name, text) for name, text in found if text]


def _at_gt(measure: Measure) -> str:
    """Return what a loss has at pred = gt, and whether that is proven to be the least it can be."""
    if measure.optimum is not None:
        return f"{measure.optimum:g}, its least"
    lowest = f"where it is {measure.range[0]:g}"
    proven = {"any gt": "its least", "hard gt": "its least where the gt is 0 and 1 only", "": f"its least {lowest}"}
    return f"depends on the case, {proven[measure.least]}"


def _pooled(measure: Measure) -> str:
    of = "classes" if measure.reads == "all-classes" else "objects"
    return f"over cases: from the {of} of all of them together" if measure.parts else ""


def _empty(value: EmptyValue) -> str:
    return "undefined" if value is None else value if isinstance(value, str) else f"{value:g}"


def _default(param: Param) -> str:
    return f"{param.default:g}" if isinstance(param.default, (int, float)) else plain(param.default)


def record(measure: Measure) -> dict[str, Any]:
    """Return a measure as plain data; an unbounded end of a range is null."""
    e, of = measure.when_empty, outside(measure)
    return {
        "name": measure.name,
        "kind": measure.kind,
        "family": measure.family,
        "id": measure.id,
        "canonical": default_name(measure),
        "aliases": list(measure.aliases),
        "summary": measure.summary,
        "notes": measure.notes,
        "formula": measure.formula,
        "reference": measure.reference,
        "range": [None if math.isinf(end) else end for end in measure.range],
        "better": measure.better,
        "unit": measure.unit,
        "reads": measure.reads,
        "symmetric": measure.symmetric,
        "when_empty": {"both": e.both, "gt": e.gt, "pred": e.pred} if measure.kind == "metric" else None,
        "params": [_param(p) for p in measure.params.values()],
        "optimum": measure.optimum if measure.kind == "loss" else None,
        "least": measure.least or None,
        "gradient": measure.gradient is not None,
        "attribution": measure.attribution or None,
        "caution": measure.caution,
        "libraries": [_implementation(entry) for entry in of.found_in],
        "nowhere": of.nowhere,
        "mistakes": list(of.mistakes),
    }


def _implementation(entry: Implementation) -> dict[str, Any]:
    return {
        "library": entry.library,
        "version": entry.version,
        "checked": entry.checked,
        "call": entry.call,
        "same_as": entry.same_as or None,
        "times": entry.times,
        "averaging": entry.averaging,
        "channels": entry.channels,
        "ndim": entry.ndim or None,
        "not_when": list(entry.not_when),
        "parameters": dict(entry.parameters),
        "differs": entry.differs,
    }


def _param(param: Param) -> dict[str, Any]:
    return {
        "name": param.name,
        "help": param.help,
        "default": param.default,
        "type": param.type.__name__,
        "ge": param.ge,
        "gt": param.gt,
        "le": param.le,
        "words": list(param.words),
        "shown": param.shown,
    }
