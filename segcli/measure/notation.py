"""The notation of measures: `name:key=value`, lists of them, and presets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from segcli.errors import UsageError
from segcli.measure.record import BoundMeasure, Kind, Measure, find, measures

DEFAULTS: dict[Kind, str] = {
    "metric": "voxels_gt,dice,iou,hd95,assd,nsd:tol=2,rve",
    "loss": "dice,bce,tversky,focal,hd_dt,boundary",
}


def bind(text: str, kind: Kind | None = None) -> BoundMeasure:
    """Return the measure that `text` (`tversky:fp=0.1:fn=0.9`) names, all parameters checked."""
    name, *assignments = text.strip().split(":")
    measure = find(name, kind)
    params = {key: param.default for key, param in measure.params.items()}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if key not in params or not equals:
            raise UsageError(
                _no_such_parameter(measure, assignment, key), hint=_parameters(measure, key), code="measure.parameter"
            )
        params[key] = measure.params[key].parse(measure.name, value)
    return BoundMeasure(measure, params, frozenset(a.partition("=")[0] for a in assignments))


def parse(kind: Kind, asked: str | Iterable[str]) -> list[BoundMeasure]:
    """Return the measures of a comma-separated list; presets (`default`, a family, `all`) unfold, doubles go.

    A family is called by its name, or as `region_based`; where a measure has the name of a family, the
    bare name means the measure.
    """
    texts = asked.split(",") if isinstance(asked, str) else list(asked)
    names = {m.name for m in measures(kind)}
    families: dict[str, str] = {}
    for family in {m.family for m in measures(kind)}:
        families[f"{family}_based"] = family
        if family not in names:  # `boundary` is a loss; its family is boundary_based
            families[family] = family
    found: dict[str, BoundMeasure] = {}
    for text in (t.strip() for t in texts):
        if not text:
            continue
        if text == "default":
            chosen = [bind(t, kind) for t in DEFAULTS[kind].split(",")]
        elif text == "all" or text in families:
            chosen = [bind(m.name, kind) for m in measures(kind) if text == "all" or m.family == families[text]]
        else:
            chosen = [bind(text, kind)]
        for bound in chosen:
            found.setdefault(bound.name, bound)
    return list(found.values())


def _no_such_parameter(measure: Measure, assignment: str, key: str) -> str:
    if key in measure.params:
        return f"{measure.name}: {assignment!r} is not key=value."
    return f"{measure.name} has no parameter {key!r}."


def _parameters(measure: Measure, key: str) -> str:
    if not measure.params:
        return f"{measure.name} takes no parameters"
    near = difflib.get_close_matches(key, measure.params, 1)
    return f"did you mean {near[0]}=?" if near else f"its parameters: {', '.join(measure.params)}"
