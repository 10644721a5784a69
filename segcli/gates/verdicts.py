"""What the gate says of a run: a verdict for each rule and label. Undefined and lacking values never pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.gates.baseline import check_baseline, check_row
from segcli.gates.columns import NOTHING, Cell, Columns
from segcli.gates.rules import NO_ERRORS, NO_MISSING, NO_WARNINGS, Level, Rule, Rules, near
from segcli.gates.statistic import seed_of, statistic
from segcli.measure.record import BoundMeasure, Measure
from segcli.run.model import Run
from segcli.run.noted import kind_text, said_of
from segcli.run.records import Key, NoteKind
from segcli.run.statistics import Interval, differences, generator, paired, slack
from segcli.scoring.limits import beyond
from segcli.scoring.means import MEAN

Status = Literal["passed", "failed", "warned", "skipped"]
#: As many cases as a verdict names.
NAMED = 5


@dataclass(frozen=True, slots=True)
class CaseValue:
    """A case that a verdict names, with its value here and in the baseline."""

    case: str
    value: float | None
    baseline: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A statistic beside the baseline's, over the cases that both have.

    `drop` is how much worse it is, `interval` that of the mean of value - baseline, `p` Wilcoxon's.
    """

    baseline: float
    drop: float
    allowed: float
    pairs: int
    interval: Interval | None = None
    level: float = 0.95
    p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rule says of one label: the statistic, on how many values it rests, and what it is held against."""

    rule: str
    level: Level
    status: Status
    label: str = ""
    measure: BoundMeasure | None = None
    unit: str = ""
    stat: str = "count"
    where: tuple[tuple[str, str], ...] = ()
    value: float | None
    n: int = 0
    undefined: int = 0
    nothing: int = 0
    min: float | None = None
    max: float | None = None
    max_drop: str | None = None
    change: Change | None = None
    why: str = ""
    cases: tuple[CaseValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All verdicts on a run, and how its cases differ from the baseline's."""

    verdicts: tuple[Verdict, ...]
    drops: tuple[CaseValue, ...] = ()
    drops_of: tuple[str, BoundMeasure] | None = None
    new: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    changed_truth: tuple[str, ...] = ()
    #: What the mean row is of, where a rule asks for it.
    mean_of: str = ""
    #: What was said of the cases of the run, by kind.
    said: tuple[NoteKind, ...] = ()

    @property
    def passed(self) -> bool:
        return not any(v.status == "failed" for v in self.verdicts)

    def count(self, status: Status) -> int:
        return sum(v.status == status for v in self.verdicts)


def judge_run(rules: Rules, run: Run, baseline: Run | None = None) -> Judgement:
    """Return what rules say of a run, beside a baseline if there is one.

    Raises `UsageError` for a rule that names what the run does not have or needs a baseline that is not
    there, `InputError` for a baseline of another definition.
    """
    if baseline is None and rules.needs_baseline is not None:
        raise UsageError(
            f"rule {rules.needs_baseline.id}: max_drop needs a baseline.",
            hint="segcli gate RUN --baseline RUN",
            code="rule.baseline",
        )
    ours = Columns(run)
    found = [(resolved, labels) for resolved, labels in (_resolved(rule, ours) for rule in rules.rules)]
    theirs = None if baseline is None else Columns(baseline)
    changed = [] if theirs is None else check_baseline(ours, theirs)
    said = tuple(said_of(run.cases))
    verdicts = [_missing(rules, run), _errors(rules, run), *_warnings(rules, said)]
    for rule, labels in found:
        verdicts += [_judge(rule, label, ours, theirs) for label in labels]
    mean_said = str(ours.mean_of) if any(v.label == MEAN for v in verdicts) else ""
    if theirs is None:
        return Judgement(verdicts=tuple(verdicts), mean_of=mean_said, said=said)
    drops_of, drops = _biggest_drops(verdicts, ours, theirs)
    return Judgement(
        verdicts=tuple(verdicts),
        drops=drops,
        drops_of=drops_of,
        new=tuple(name for name in ours.cases if name not in theirs.cases),
        lost=tuple(name for name in theirs.cases if name not in ours.cases),
        changed_truth=tuple(changed),
        mean_of=mean_said,
        said=said,
    )


# --- what a rule speaks of -------------------------------------------------------------------------


def _resolved(rule: Rule, columns: Columns) -> tuple[Rule, list[str]]:
    """Return a rule with the measure as the run has it, and the labels whose rows it is about."""
    bound = _measure(rule, columns)
    rows = columns.rows(bound.measure.kind, bound.name, channels=rule.label is not None)
    for column, _ in rule.where:
        if column != "case" and column not in columns.groups and columns.cases:
            raise UsageError(
                f"rule {rule.id}: where: no column {column!r}.",
                hint=near(column, ["case", *columns.groups]),
                code="rule.where",
            )
    rule = replace(rule, measure=bound)
    return rule, rows or [""] if rule.label is None else [_label(rule, columns, rows)]


def _measure(rule: Rule, columns: Columns) -> BoundMeasure:
    """Return the run's measure that a rule means: parameters that the rule does not name are the run's."""
    asked = rule.measure
    known = columns.bound
    same = [b for b in known if b.measure is asked.measure]
    exact = [b for b in same if b.name == asked.name]
    fitting = exact or [b for b in same if all(b.params[key] == asked.params[key] for key in asked.named)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"rule {rule.id}: the run has several of {asked.measure.name}: {', '.join(b.name for b in fitting)}.",
            hint="name its parameters",
            code="rule.measure",
        )
    raise UsageError(
        f"rule {rule.id}: the run has no {asked.id}.",
        hint=f"it has {', '.join(b.name for b in same)}" if same else near(asked.name, [b.name for b in known]),
        code="rule.measure",
    )


def _label(rule: Rule, columns: Columns, rows: Sequence[str]) -> str:
    text = str(rule.label)
    if text in rows or (text == MEAN and any(label in columns.averaged for label in rows)):
        return text
    values = {
        label: "+".join(map(str, spec)) if isinstance(spec, list) else "1"
        for case in columns.cases.values()
        for label, spec in case.labels.items()
    }
    found: list[str] = [label for label, own in values.items() if own == text and label in rows]
    if len(found) == 1:
        return found[0]
    if not columns.cases and (text in columns.labels or not columns.labels):
        return text  # nothing was scored: that is said by the verdict
    raise UsageError(
        f"rule {rule.id}: no label {text} with {rule.measure.name}.", hint=near(text, [*rows, MEAN]), code="rule.label"
    )


# --- the rules that are always on --------------------------------------------------------------------


def _missing(rules: Rules, run: Run) -> Verdict:
    names = sorted({gap.case for gap in run.missing if gap.side == "pred"})
    why = "" if names or run.cases else "no case was scored"
    status = _status(rules.no_missing, passed=not names and not why)
    cases = tuple(CaseValue(name, None) for name in names)
    return Verdict(
        rule=NO_MISSING, level=rules.no_missing, status=status, value=len(names), max=0, why=why, cases=cases
    )


def _errors(rules: Rules, run: Run) -> Verdict:
    cases = tuple(CaseValue(error.case, None, why=str(error)) for error in run.errors)
    status = _status(rules.no_errors, passed=not cases)
    return Verdict(rule=NO_ERRORS, level=rules.no_errors, status=status, value=len(cases), max=0, cases=cases)


def _warnings(rules: Rules, said: Sequence[NoteKind]) -> list[Verdict]:
    """Return a verdict for each kind of warning that the cases of the run have; without one nothing is warned of."""
    level = rules.no_warnings
    found = [
        Verdict(
            rule=NO_WARNINGS, level=level, status=_status(level, passed=False), value=kind.n, max=0,
            why=kind_text(kind), cases=tuple(CaseValue(name, None) for name in kind.cases),
        )
        for kind in said if kind.level == "warning"
    ]  # fmt: skip
    passed = Verdict(rule=NO_WARNINGS, level=level, status="passed", value=0, max=0)
    return found or [passed] * (level == "error")


def _status(level: Level, *, passed: bool) -> Status:
    return "passed" if passed else "failed" if level == "error" else "warned"


# --- one rule, one label -------------------------------------------------------------------------------


def _judge(rule: Rule, label: str, ours: Columns, theirs: Columns | None) -> Verdict:
    bound, measure = rule.measure, rule.measure.measure
    key = (label, measure.kind, bound.name)
    names = ours.selected(rule.where)
    cells = ours.cells(key, names, bound, worst=rule.on_undefined == "worst")
    bad = [cell for cell in cells if cell.undefined]
    told = _Told(rule, key, ours.unit(key), len(bad), sum(cell.why == NOTHING for cell in cells))
    counted = rule.stat.name in ("count", "pooled")
    if bad and not counted and rule.on_undefined != "skip":
        of = " and has no worst value" if rule.on_undefined == "worst" else ""
        named = tuple(CaseValue(cell.case, None, why=cell.why) for cell in bad)
        return told.verdict(None, sum(cell.value is not None for cell in cells), f"undefined{of}", named)
    if rule.max_drop is not None and theirs is not None:
        return _judge_drop(told, cells, ours, theirs)
    found = [cell for cell in cells if cell.value is not None]
    if not found and rule.stat.name != "count":
        return told.none(
            "no case matches" if not names else "no values", tuple(CaseValue(c.case, None, why=c.why) for c in bad)
        )
    x = np.array([cell.value for cell in found], dtype=np.float64)
    value = statistic(rule, key, x, ours, names)
    if value is None:
        return told.none("too few values" if rule.stat.name.startswith("ci") else "undefined")
    passed = not any(
        beyond(side, value, limit) for side, limit in (("min", rule.min), ("max", rule.max)) if limit is not None
    )
    worst = _worst_first(found, rule, measure)[:NAMED]
    return told.verdict(value, len(found), "", tuple(CaseValue(c.case, c.value) for c in worst), passed=passed)


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of a verdict before its statistic is."""

    rule: Rule
    key: Key
    unit: str
    undefined: int
    nothing: int

    def verdict(
        self,
        value: float | None,
        n: int,
        why: str,
        cases: tuple[CaseValue, ...] = (),
        *,
        passed: bool = False,
        change: Change | None = None,
    ) -> Verdict:
        rule = self.rule
        return Verdict(
            rule=rule.id, level=rule.level, status=_status(rule.level, passed=passed), label=self.key[0],
            measure=rule.measure, unit=self.unit, stat=rule.stat.name, where=rule.where, value=value, n=n,
            undefined=self.undefined, nothing=self.nothing, min=rule.min, max=rule.max,
            max_drop=None if rule.max_drop is None else rule.max_drop.text, change=change, why=why, cases=cases,
        )  # fmt: skip

    def none(self, why: str, cases: tuple[CaseValue, ...] = ()) -> Verdict:
        """Return the verdict where there is nothing to judge: a failure, unless undefined values are skipped."""
        if self.rule.on_undefined == "skip" and self.undefined:
            return replace(self.verdict(None, 0, why, cases), status="skipped")
        return self.verdict(None, 0, why, cases)


def _worst_first(cells: Sequence[Cell], rule: Rule, measure: Measure) -> list[Cell]:
    """Return cells with those first that a reader would look at: worst in direction, else on the limit's side."""
    if measure.better == "zero":
        return sorted(cells, key=lambda c: (-abs(c.value or 0.0), c.case))
    up = measure.better == "higher" or (measure.better == "none" and rule.min is not None)
    return sorted(cells, key=lambda c: ((c.value or 0.0) * (1 if up else -1), c.case))


# --- beside the baseline ---------------------------------------------------------------------------------


def _judge_drop(told: _Told, cells: Sequence[Cell], ours: Columns, theirs: Columns) -> Verdict:
    """Return the verdict on a statistic beside the baseline's, over the cases that have a value in both."""
    rule, key = told.rule, told.key
    measure = rule.measure.measure
    assert rule.max_drop is not None  # noqa: S101 (the caller's condition, for the type checker)
    if rule.measure.id not in theirs.measures:
        raise InputError(f"the baseline has no {rule.measure.id}, which rule {rule.id} needs.", code="run.spec")
    check_row(key, ours, theirs)
    worst = rule.on_undefined == "worst"
    there = {c.case: c.value for c in theirs.cells(key, list(ours.cases), rule.measure, worst=worst)}
    shared = [(c.case, c.value, there[c.case]) for c in cells if c.value is not None and there.get(c.case) is not None]
    if not shared:
        return told.none("no case has a value here and in the baseline")
    names = [name for name, _, _ in shared]
    a, b = (np.array([entry[i] for entry in shared], dtype=np.float64) for i in (2, 1))
    if measure.better == "zero":
        a, b = np.abs(a), np.abs(b)
    before, after = statistic(rule, key, a, theirs, names), statistic(rule, key, b, ours, names)
    if before is None or after is None:
        return told.none("undefined")
    if measure.better == "zero":
        before, after = abs(before), abs(after)
    sign = -1.0 if measure.better == "higher" else 1.0
    change = Change(before, sign * (after - before), rule.max_drop.allowed(before), len(shared))
    worsening = change.drop
    if rule.stat.name == "mean":
        level = rule.confidence or 0.95
        found = paired(a, b, generator(seed_of(ours), *key, "paired"), level=level, scale=measure.scale)
        alike = np.allclose((float(a.mean()), float(b.mean())), (before, after), rtol=1e-9, atol=0)
        if found is not None and alike:  # not of nnU-Net's mean where a label is undefined in some case
            change = replace(change, interval=found.interval, level=level, p=found.p)
        if rule.confidence is not None and change.interval is not None:
            worsening = min(sign * change.interval.low, sign * change.interval.high)
    cases = _worsened(measure, [(name, float(new), float(old)) for name, new, old in zip(names, b, a, strict=True)])
    passed = worsening <= change.allowed + slack(np.array([change.allowed, before, after]), measure.scale)
    return told.verdict(after, len(shared), "", cases, passed=passed, change=change)


def _biggest_drops(
    verdicts: Sequence[Verdict], ours: Columns, theirs: Columns
) -> tuple[tuple[str, BoundMeasure] | None, tuple[CaseValue, ...]]:
    """Return the cases that got worse most: of a failed drop, else of the first rule whose measure has a direction."""
    ranked = sorted(
        (v for v in verdicts if v.measure is not None and v.measure.measure.better != "none" and v.label),
        key=lambda v: (v.change is None, v.status != "failed"),
    )
    for verdict in ranked[:1]:
        bound = verdict.measure
        if bound is None or bound.id not in theirs.measures:
            break
        key = (verdict.label, bound.measure.kind, bound.name)
        there = {c.case: c.value for c in theirs.cells(key, list(ours.cases), bound)}
        both = []
        for cell in ours.cells(key, list(ours.cases), bound):
            old = there.get(cell.case)
            if cell.value is not None and old is not None:
                both.append((cell.case, cell.value, old))
        return (verdict.label, bound), _worsened(bound.measure, both)
    return None, ()


def _worsened(measure: Measure, both: Sequence[tuple[str, float, float]]) -> tuple[CaseValue, ...]:
    """Return the cases that got worse most of those given with their values here and in the baseline."""
    new, old = (np.array([entry[i] for entry in both], dtype=np.float64) for i in (1, 2))
    if measure.better == "zero":
        new, old = np.abs(new), np.abs(old)
    steps = differences(old, new, measure.scale) * (-1.0 if measure.better == "higher" else 1.0)
    moved = sorted(zip(steps, both, strict=True), key=lambda m: (-m[0], m[1][0]))
    return tuple(CaseValue(case, value, baseline) for step, (case, value, baseline) in moved[:NAMED] if step > 0)
