"""Rules of the gate: what must hold of a run, read from tables of TOML and from `--min` and `--max`."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segcli.config import GATE, SHARED, read_table, rule_tables
from segcli.errors import UsageError
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure

Level = Literal["error", "warn"]
OnUndefined = Literal["fail", "worst", "skip"]
#: Always on; only their level can be set.
NO_MISSING, NO_ERRORS, NO_WARNINGS = "no-missing", "no-errors", "no-warnings"
FIELDS = (
    "id", "measure", "label", "stat", "min", "max", "max_drop", "confidence", "where", "level", "on_undefined",
)  # fmt: skip
STATS = ("mean", "pooled", "median", "min", "max", "ci_low", "ci_high", "count")


@dataclass(frozen=True, slots=True)
class Stat:
    """One number over cases; `of` is the quantile's percent of `percentile` and the k of `worst`."""

    name: str
    kind: Literal["plain", "percentile", "worst"] = "plain"
    of: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse than the baseline a statistic may be: a number, or a share of the baseline's."""

    text: str
    amount: float
    relative: bool

    def allowed(self, baseline: float) -> float:
        return self.amount * abs(baseline) if self.relative else self.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What must hold of one measure; without a label of every label's row."""

    id: str
    measure: BoundMeasure
    label: str | None = None
    stat: Stat = Stat("mean")
    min: float | None = None
    max: float | None = None
    max_drop: Drop | None = None
    confidence: float | None = None
    where: tuple[tuple[str, str], ...] = ()
    level: Level = "error"
    on_undefined: OnUndefined = "fail"


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one gate, and how hard missing and failed cases count."""

    rules: tuple[Rule, ...]
    no_missing: Level = "error"
    no_errors: Level = "error"
    no_warnings: Level = "warn"

    @property
    def needs_baseline(self) -> Rule | None:
        return next((rule for rule in self.rules if rule.max_drop is not None), None)


def read_rules(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the tables of a rules file: `[[gate]]`; of a `pyproject.toml`, `[[tool.segcli.gate]]`."""
    table = read_table(path)
    if GATE not in table:
        wanted = f"[[tool.segcli.{GATE}]]" if path.name == SHARED else f"[[{GATE}]]"
        raise UsageError(f"{path}: has no rule.", hint=f"write {wanted} above each rule", code="rule.none")
    return rule_tables(table[GATE], path)


def parse_rules(
    tables: Sequence[Mapping[str, Any]],
    source: str,
    minima: Iterable[str] = (),
    maxima: Iterable[str] = (),
    *,
    strict: bool = False,
) -> Rules:
    """Return the rules of tables and of `--min M=V` and `--max M=V`; with `strict` a warning of the run is a failure.

    Raises `UsageError` for a rule that cannot be.
    """
    levels: dict[str, Level] = {NO_MISSING: "error", NO_ERRORS: "error", NO_WARNINGS: "warn"}
    rules: list[Rule] = []
    told: set[str] = set()
    for number, table in enumerate(tables, start=1):
        named = table.get("id")
        where = f"{source}: gate {named!r}" if isinstance(named, str) else f"{source}: gate {number}"
        _known(table, where)
        if named in levels:
            if set(table) - {"id", "level"}:
                raise UsageError(f"{where}: it is always on; only its level can be set.", code="rule.always")
            found = named
            levels[str(named)] = _level(table, where)
        else:
            rules.append(_rule(table, where))
            found = rules[-1].id
        if found in told:
            raise UsageError(f"{where}: two rules have this id.", hint="give each its own", code="rule.twice")
        told.add(str(found))
    for side, texts in (("min", minima), ("max", maxima)):
        rules += [_typed(side, text) for text in dict.fromkeys(texts)]
    no_warnings: Level = "error" if strict else levels[NO_WARNINGS]
    return Rules(tuple(rules), levels[NO_MISSING], levels[NO_ERRORS], no_warnings)


def _typed(side: str, text: str) -> Rule:
    """Return the rule of `--min tumour/dice=0.8`."""
    from segcli.scoring.limits import parse_limits

    (limit,) = parse_limits("min" if side == "min" else "max", [text])
    low, high = (limit.value, None) if side == "min" else (None, limit.value)
    return Rule(id=limit.text, measure=limit.measure, label=limit.label, min=low, max=high)


def _known(table: Mapping[str, Any], where: str) -> None:
    for key in table:
        if key.replace("-", "_") not in FIELDS:
            raise UsageError(f"{where}: unknown field {key!r}.", hint=near(key, FIELDS), code="rule.field")


def near(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word as a hint, or all of them."""
    words = list(known)
    found = difflib.get_close_matches(word, words, 1, 0.5)
    return f"did you mean {found[0]}?" if found else f"there are: {', '.join(words)}"


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    fields = {key.replace("-", "_"): value for key, value in table.items()}
    text = fields.get("measure")
    if not isinstance(text, str):
        raise UsageError(f"{where}: it names no measure.", hint='measure = "dice"', code="rule.measure")
    try:
        measure = bind(text)
    except UsageError as problem:
        raise UsageError(f"{where}: {problem.message}", hint=problem.hint, code=problem.code) from None
    if measure.measure.kind == "table":
        raise UsageError(f"{where}: {text} is a table, and stands outside gates.", code="rule.measure")
    label = fields.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if label is not None and not isinstance(label, str):
        raise UsageError(f"{where}: label = {label!r} is no label.", code="rule.label")
    filters = _where(fields.get("where", {}), where)
    rule = Rule(
        id=_text(fields, "id", where) or _own_id(fields, label, filters),
        measure=measure,
        label=label,
        stat=_stat(fields.get("stat", "mean"), where),
        min=_number(fields, "min", where),
        max=_number(fields, "max", where),
        max_drop=_drop(fields.get("max_drop"), where),
        confidence=_number(fields, "confidence", where),
        where=filters,
        level=_level(fields, where),
        on_undefined=_word(fields, "on_undefined", ("fail", "worst", "skip"), where),
    )
    _check(rule, where)
    return rule


def _own_id(fields: Mapping[str, Any], label: str | None, filters: Iterable[tuple[str, str]]) -> str:
    """Return what a rule without an id is called: what it says."""
    words = [str(fields["measure"]), str(fields.get("stat", "mean"))]
    words += [f"{key}={fields[key]}" for key in ("min", "max", "max_drop") if key in fields]
    words += [f"{column}={pattern}" for column, pattern in filters]
    return (f"{label}/" if label else "") + " ".join(words)


def _check(rule: Rule, where: str) -> None:
    """Refuse a rule whose fields do not go together."""
    limits = [key for key in ("min", "max", "max_drop") if getattr(rule, key) is not None]
    if not limits:
        raise UsageError(f"{where}: it limits nothing.", hint="give min, max or max_drop", code="rule.limit")
    if rule.max_drop is not None and len(limits) > 1:
        raise UsageError(f"{where}: max_drop and {limits[0]} are two rules.", code="rule.limit")
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        raise UsageError(f"{where}: min = {rule.min:g} is above max = {rule.max:g}.", code="rule.limit")
    better = rule.measure.measure.better
    name = rule.measure.name
    if better == "none" and (rule.max_drop is not None or rule.stat.kind == "worst" or rule.on_undefined == "worst"):
        raise UsageError(
            f"{where}: no direction of {name} is better, so none is worse.",
            hint="use min and max",
            code="rule.direction",
        )
    if rule.max_drop is not None and rule.stat.name in ("count", "ci_low", "ci_high"):
        raise UsageError(f"{where}: a drop of {rule.stat.name} says nothing of the model.", code="rule.stat")
    if rule.confidence is not None:
        ends = rule.stat.name in ("ci_low", "ci_high")
        if not ends and (rule.max_drop is None or rule.stat.name != "mean"):
            raise UsageError(
                f"{where}: confidence is of max_drop over the mean, or of ci_low and ci_high.", code="rule.confidence"
            )
        if not 0.5 <= rule.confidence < 1:
            raise UsageError(f"{where}: confidence = {rule.confidence:g} is not in [0.5, 1).", code="rule.confidence")
    if rule.stat.name == "pooled":
        _check_pooled(rule, where)


def _check_pooled(rule: Rule, where: str) -> None:
    if not rule.measure.measure.pooled:
        raise UsageError(f"{where}: {rule.measure.name} has no pooled value.", hint=POOLED, code="rule.stat")
    if rule.on_undefined == "worst":
        raise UsageError(f"{where}: a pooled value is of counts; no case is undefined in it.", code="rule.stat")


POOLED = "measures of tp, fp, fn and tn alone (dice, iou), of objects (pq, froc) and of all classes (mean_iou) have one"


# --- fields -----------------------------------------------------------------------------------------


def _stat(value: object, where: str) -> Stat:
    text = value if isinstance(value, str) else repr(value)
    if text in STATS:
        return Stat(text)
    if (found := re.fullmatch(r"p(\d{1,2}(?:\.\d+)?|100)", text)) is not None:
        return Stat(text, "percentile", float(found[1]))
    if (found := re.fullmatch(r"worst-([1-9]\d*)", text)) is not None:
        return Stat(text, "worst", float(found[1]))
    known = (*STATS, "p05", "worst-5")
    hint = f"{near(text, known)}; pNN is a percentile, worst-k the mean of the k worst"
    raise UsageError(f"{where}: unknown stat {text!r}.", hint=hint, code="rule.stat")


def _drop(value: object, where: str) -> Drop | None:
    if value is None:
        return None
    text = str(value).strip()
    relative = isinstance(value, str) and text.endswith("%")
    try:
        amount = float(text.removesuffix("%") if relative else text) / (100 if relative else 1)
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{where}: max_drop = {value!r} is no number of at least 0.", hint='0.01, or "2%"', code="rule.limit"
        ) from None
    return Drop(text, amount, relative)


def _number(fields: Mapping[str, Any], key: str, where: str) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise UsageError(f"{where}: {key} = {value!r} is no finite number.", code="rule.limit")
    return value


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} = {value!r} is no text.", code="rule.field")
    return value


def _word(fields: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> Any:
    value = fields.get(key, known[0])
    if value not in known:
        raise UsageError(f"{where}: {key} = {value!r}.", hint=f"one of: {', '.join(known)}", code="rule.field")
    return value


def _level(fields: Mapping[str, Any], where: str) -> Level:
    found: Level = _word(fields, "level", ("error", "warn"), where)
    return found


def _where(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: where = {value!r} is no table.", hint='{ site = "A*" }', code="rule.where")
    for column, pattern in value.items():
        if not isinstance(pattern, str):
            raise UsageError(f"{where}: where.{column} = {pattern!r} is no text.", code="rule.where")
    return tuple(value.items())
