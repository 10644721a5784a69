"""The gate's verdicts as lines, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segcli.gates.rules import NO_MISSING, NO_WARNINGS
from segcli.gates.verdicts import CaseValue, Judgement, Verdict
from segcli.measure.record import Measure
from segcli.measure.why import Why
from segcli.report.noted import kind_lines
from segcli.report.table import escape_markdown, flat, number
from segcli.run.codec import note_kind_to
from segcli.wording import counted

SCHEMA = "segcli.gate/1"
WORDS = {"failed": "FAIL", "warned": "warn", "skipped": "skip", "passed": "ok"}
COLORS = {"failed": "\x1b[1;31m", "warned": "\x1b[33m", "skipped": "\x1b[2m", "passed": "\x1b[32m"}
#: The reasons that are said as tables say them; all others as files do.
SHORT = (Why.PRED_EMPTY, Why.GT_EMPTY, Why.ZERO_DENOMINATOR)
#: As many cases as the last line names.
DROPS = 3


def ordered(judgement: Judgement) -> list[Verdict]:
    """Return the verdicts with failures first, in the order of the rules."""
    return sorted(judgement.verdicts, key=lambda v: list(WORDS).index(v.status))


def sentence(verdict: Verdict) -> str:
    """Return what a verdict found, on one line: what, how much, beside which limit, over how many cases."""
    if verdict.measure is None:
        return _presence(verdict)
    measure = verdict.measure.measure
    label = f"{verdict.label} " if verdict.label else ""
    name = f"|{verdict.measure.name}|" if _sizes(verdict, measure) else verdict.measure.name
    where = "".join(f" {column}={glob}" for column, glob in verdict.where)
    head = f"{label}{name} {verdict.stat}{where}".rstrip()
    if verdict.value is None:
        return flat(f"{head} {verdict.why}{_named(verdict.cases)}{_limit_text(verdict)}")
    if verdict.change is not None:
        return flat(f"{head} {_change(verdict, measure)}{_rests(verdict)}")
    counted = verdict.stat == "count"
    shown, limit = _beside(verdict, None if counted else measure)
    if counted:
        shown = f"{verdict.value:.0f}"
    if _sizes(verdict, measure) and not measure.unit:  # a share without its sign
        shown, limit = shown.replace("+", ""), limit.replace("+", "")
    unit = f" {verdict.unit}" if verdict.unit and not counted else ""
    return flat(f"{head} {shown}{unit} {limit}{unit}{_rests(verdict)}")


def _presence(verdict: Verdict) -> str:
    if verdict.why:
        return flat(verdict.why)
    count = int(verdict.value or 0)
    words = {NO_MISSING: "gt without a prediction", NO_WARNINGS: "warnings"}
    what = words.get(verdict.rule, "error" if count == 1 else "errors")
    return flat(f"{count} {what}" + (f" (allowed 0): {case_list(verdict.cases)}" if count else ""))


def case_list(cases: Sequence[CaseValue], most: int = 5) -> str:
    """Return the names of the first cases, and how many more there are."""
    return ", ".join(c.case for c in cases[:most]) + (f" and {len(cases) - most} more" if len(cases) > most else "")


def _short(why: str) -> str:
    return Why(why).short if why in SHORT else why


def _named(cases: Sequence[CaseValue]) -> str:
    whys = dict.fromkeys(_short(c.why) for c in cases)
    return f" in {counted(len(cases), 'case')} ({', '.join(whys)}): {case_list(cases)}" if cases else ""


def _sizes(verdict: Verdict, measure: Measure) -> bool:
    """Return whether a statistic is of absolute values."""
    return measure.better == "zero" and (verdict.change is not None or verdict.stat.startswith("worst-"))


def _limit_text(verdict: Verdict) -> str:
    limits = [f"{word} {value:g}" for word, value in (("min", verdict.min), ("max", verdict.max)) if value is not None]
    limits += [f"max_drop {verdict.max_drop}"] if verdict.max_drop is not None else []
    return f"; wanted {', '.join(limits)}"


def _rests(verdict: Verdict) -> str:
    """Return on how many values a statistic rests, and what it leaves out."""
    parts = [counted(verdict.n, "case")] if verdict.stat != "count" and verdict.n != 1 else []
    if verdict.nothing:
        parts.append(f"{verdict.nothing} in neither mask")
    if verdict.undefined:
        parts.append(f"{verdict.undefined} undefined{' left out' if verdict.stat != 'count' else ''}")
    return f" ({', '.join(parts)})" if parts else ""


def _beside(verdict: Verdict, measure: Measure | None) -> tuple[str, str]:
    """Return a value and its limits with as many digits as tell them apart."""
    value = verdict.value if verdict.value is not None else 0.0
    limits = [limit for limit in (verdict.min, verdict.max) if limit is not None]
    shown = number(value, measure)
    for limit in limits:
        shown = _apart(value, limit, measure, shown)
    low, high = verdict.min, verdict.max
    if low is not None and high is not None:
        inside = verdict.status == "passed"
        return shown, f"{'in' if inside else 'outside'} [{_limit(low, measure)}, {_limit(high, measure)}]"
    passed = verdict.status == "passed"
    if low is not None:
        return shown, f"{'>=' if passed else '<'} {_limit(low, measure)}"
    return shown, f"{'<=' if passed else '>'} {_limit(high or 0.0, measure)}"


def _apart(value: float, limit: float, measure: Measure | None, shown: str) -> str:
    if abs(value - limit) <= 1e-12 * max(1.0, abs(limit)) or shown != number(limit, measure):
        return shown
    return next((f"{value:.{d}g}" for d in (4, 6, 9, 12) if f"{value:.{d}g}" != f"{limit:.{d}g}"), repr(value))


def _limit(value: float, measure: Measure | None) -> str:
    percent = measure is not None and measure.better == "zero" and not measure.unit
    return number(value, measure) if percent else f"{value:.12g}"


def signed(value: float, measure: Measure) -> str:
    """Return a difference with its sign."""
    text = number(abs(value), measure).lstrip("+")
    return f"{'-' if value < 0 else '+'}{text}"


def _change(verdict: Verdict, measure: Measure) -> str:
    change, value = verdict.change, verdict.value
    if change is None or value is None:
        return ""
    unit = f" {verdict.unit}" if verdict.unit else ""
    worse = -1.0 if measure.better == "higher" else 1.0
    parts = [signed(value - change.baseline, measure)]
    if change.interval is not None:
        low, high = signed(change.interval.low, measure), signed(change.interval.high, measure)
        parts.append(f"paired {change.level * 100:g}% CI [{low},{high}]")
    allowed = f"allowed {signed(worse * change.allowed, measure) if change.allowed else '0'}"
    parts.append(allowed + (f" = {verdict.max_drop}" if str(verdict.max_drop).endswith("%") else ""))
    values = [number(v, measure).lstrip("+" if _sizes(verdict, measure) else "") for v in (value, change.baseline)]
    return f"{values[0]}{unit} vs {values[1]}{unit} ({', '.join(parts)})"


# --- whole reports -------------------------------------------------------------------------------------


def counts_line(judgement: Judgement) -> str:
    failed, warned = judgement.count("failed"), judgement.count("warned")
    parts = [f"{failed} failed"] if failed else []
    parts += [counted(warned, "warning")] if warned else []
    parts += [f"{judgement.count('skipped')} skipped"] if judgement.count("skipped") else []
    return ", ".join([*parts, f"{judgement.count('passed')} passed"])


def last_line(judgement: Judgement, files: tuple[str, str | None]) -> str:
    """Return how many rules failed and passed, and which cases got worse most."""
    line = counts_line(judgement)
    if not judgement.drops or judgement.drops_of is None:
        return line
    measure = judgement.drops_of[1].measure
    steps = []
    for c in judgement.drops[:DROPS]:
        a, b = c.value or 0.0, c.baseline or 0.0
        step = abs(a) - abs(b) if measure.better == "zero" else a - b
        steps.append(f"{c.case} {signed(step, measure)}")
    diff = f" (segcli diff {files[1]} {files[0]})" if "-" not in files else ""
    return flat(f"{line}; biggest drops: {', '.join(steps)}{diff}")


def notes(judgement: Judgement) -> list[str]:
    """Return what the mean row is of, how the cases differ from the baseline's, and what was noted of cases."""
    found = [judgement.mean_of] if judgement.mean_of else []
    for names, text in (
        (judgement.new, "not in the baseline"),
        (judgement.lost, "of the baseline not in the run"),
        (judgement.changed_truth, "with another ground truth file than in the baseline"),
    ):
        if names:
            cases = case_list([CaseValue(name, None) for name in names])
            found.append(flat(f"{counted(len(names), 'case')} {text}: {cases}"))
    return found + [flat(text) for text in kind_lines(k for k in judgement.said if k.level == "note")]


def gate_text(judgement: Judgement, files: tuple[str, str | None], *, color: bool = False) -> str:
    """Return one line for each verdict, failures first, and the counts."""
    verdicts = ordered(judgement)
    width = max(len(flat(v.rule)) for v in verdicts)
    lines = []
    for v in verdicts:
        word = f"{WORDS[v.status]:<4}"
        word = f"{COLORS[v.status]}{word}\x1b[0m" if color else word
        lines.append(f" {word}  {flat(v.rule):<{width}}   {sentence(v)}")
    lines += [f" {note}" for note in notes(judgement)]
    return "\n".join([*lines, f" {last_line(judgement, files)}"])


def gate_markdown(judgement: Judgement, files: tuple[str, str | None]) -> str:
    """Return a table of the verdicts for a page or a job summary."""
    title = f"### Segmentation gate: {'passed' if judgement.passed else 'failed'}"
    rows = ["| | rule | finding | worst cases |", "| :--- | :--- | :--- | :--- |"]
    for v in ordered(judgement):
        worst = ", ".join(case_text(c, v) for c in v.cases) if v.status != "passed" else ""
        cells = [f"**{WORDS[v.status]}**" if v.status == "failed" else WORDS[v.status]]
        cells += [escape_markdown(flat(text)) for text in (v.rule, sentence(v), worst)]
        rows.append(f"| {' | '.join(cells)} |")
    below = [escape_markdown(text) for text in [*notes(judgement), last_line(judgement, files)]]
    return "\n".join([title, "", *rows, "", "  \n".join(below)])


def case_text(case: CaseValue, verdict: Verdict) -> str:
    """Return a case with its value, and the baseline's where there is one."""
    measure = None if verdict.measure is None else verdict.measure.measure
    if case.value is None:
        return f"{case.case} ({_short(case.why)})" if case.why else case.case
    then = "" if case.baseline is None else f" (was {number(case.baseline, measure)})"
    return f"{case.case} {number(case.value, measure)}{then}"


def document(judgement: Judgement, files: tuple[str, str | None], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdicts as plain data (`segcli.gate/1`)."""
    return {
        "schema": SCHEMA,
        "run": files[0],
        "baseline": files[1],
        "passed": judgement.passed,
        "counts": {status: judgement.count(status) for status in ("failed", "warned", "skipped", "passed")},
        "verdicts": [_record(v) for v in judgement.verdicts],
        "drops": [
            {"label": judgement.drops_of[0], "measure": judgement.drops_of[1].id, **_case(c)}
            for c in judgement.drops
            if judgement.drops_of is not None
        ],
        "new": list(judgement.new),
        "lost": list(judgement.lost),
        "changed_truth": list(judgement.changed_truth),
        **({"mean_of": judgement.mean_of} if judgement.mean_of else {}),
        "notes": [note_kind_to(kind) for kind in judgement.said],
        "environment": dict(environment),
    }


def _record(v: Verdict) -> dict[str, Any]:
    record: dict[str, Any] = {"rule": v.rule, "level": v.level, "status": v.status}
    if v.measure is not None:
        record |= {"label": v.label, "kind": v.measure.measure.kind, "measure": v.measure.name, "unit": v.unit}
        record |= {"where": dict(v.where), "n": v.n, "undefined": v.undefined, "in_neither_mask": v.nothing}
    record |= {"stat": v.stat, "value": v.value, "min": v.min, "max": v.max, "max_drop": v.max_drop}
    if v.change is not None:
        change, interval = v.change, v.change.interval
        record |= {"baseline": change.baseline, "drop": change.drop, "allowed": change.allowed, "pairs": change.pairs}
        record |= {"ci": None if interval is None else [interval.low, interval.high]}
        record |= {"ci_method": None if interval is None else interval.method, "ci_level": change.level, "p": change.p}
    return record | {"why": v.why, "text": sentence(v), "cases": [_case(c) for c in v.cases]}


def _case(case: CaseValue) -> dict[str, Any]:
    record: dict[str, Any] = {"case": case.case, "value": case.value}
    if case.baseline is not None:
        record["baseline"] = case.baseline
    return record | ({"why": case.why} if case.why else {})
