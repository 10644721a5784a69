"""What other tools call a metric, which measure gives their number, their rules: `conventions.toml`, read and checked.

Needs no NumPy.
"""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from segcli.errors import UsageError
from segcli.measure.losses.libraries import Implementation, known
from segcli.measure.notation import DEFAULTS, bind, parse
from segcli.measure.record import BoundMeasure, find
from segcli.measure.why import EMPTY, Why
from segcli.wording import plain

if typing.TYPE_CHECKING:
    from segcli.evidence.counts import Counts

#: What a tool gives for an empty mask: a number, `formula` where its formula has a value, or one of these.
Word = Literal["formula", "nan", "inf", "-inf", "raises", "arbitrary", "unknown", "1.8e308", "3.4e38", "1.7e38"]
WORDS: dict[str, str] = {
    "nan": "prints nan",
    "inf": "prints inf",
    "-inf": "prints -inf",
    "raises": "raises an error",
    "arbitrary": "prints a number without meaning",
    "unknown": "what it prints was not checked",
    "1.8e308": "prints 1.8e308, the largest double",
    "3.4e38": "prints 3.4e38, the largest float",
    "1.7e38": "prints 1.7e38, half of the largest float",
}
Grid = Literal["file", "voxel", "reversed", "header", "slab"]
Condition = Literal[
    "2-D", "3-D", "not square", "no surface", "only in pred", "lines apart", "all full or empty", "one slice",
    "one voxel", "thin", "full", "one full", "both full", "equal", "no overlap",
]  # fmt: skip
#: What masks are like of which a tool gives a value by a rule of its own.
CONDITION_WORDS = {
    "2-D": "a plane",
    "thin": "an axis of one or two voxels",
    "all full or empty": "each mask is full or empty",
    "full": "a mask is full",
    "one full": "a mask is full",
    "both full": "both masks are full",
    "equal": "the masks are equal",
    "no overlap": "the masks do not overlap",
}
#: How it is known what a tool prints: run by the tests where it is installed, recorded from a run of it, read in its
#: source, or reported by others.
CHECKED = {"run": "", "recorded": "", "read": "source read, not run", "reported": "reported by others, not run"}
#: Libraries that have losses only.
LOSS_LIBRARIES = ("torch", "keras", "monai", "smp", "kornia")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One metric of a tool.

    `quantity`: the metric of segcli's that a user of this one means; `call`: the tool's own name. `measure` times
    `times` is its number, on the spacing of the file, in voxels, with the spacing in reverse order, with that of a
    NIfTI header's pixdim, or so and with a plane as a volume of one slice (`grid`).
    `empty`: what it gives where both masks are empty, the prediction, the ground truth; nothing where it is over all
    classes. `undefined`: what it gives where no mask is empty and the formula has no value. `variant`: not what the
    quantity means by default in that tool. `fails`: when it does not follow its own definition, and what it does
    then; `gives`: what it gives whatever its rule for empty masks says, a number or a word. Notes: in general, where
    a mask is empty, where exactly one is.
    """

    quantity: str
    call: str
    measure: str
    empty: tuple[float | str, ...] = ()
    grid: Grid = "file"
    times: float = 1
    undefined: float | str = "unknown"
    variant: bool = False
    fails: Mapping[str, str] = field(default_factory=dict)
    gives: Mapping[str, float | str] = field(default_factory=dict)
    note: str = ""
    empty_note: str = ""
    one_empty_note: str = ""

    def rule(self, why: str) -> float | str:
        """Return what the tool gives for an empty mask."""
        return self.empty[EMPTY.index(Why(why))] if self.empty else "formula"

    def given(self, shape: tuple[int, ...], counts: Counts) -> tuple[str, float | str] | None:
        """Return what the tool gives for these masks by a rule of its own, with the condition that calls for it."""
        return next(((c, what) for c, what in self.gives.items() if holds(c, shape, counts)), None)

    def bound(self, asked: BoundMeasure | None = None) -> BoundMeasure:
        """Return the measure, with the parameters that `asked` names and the tool leaves open."""
        bound = bind(self.measure, "metric")
        if asked is None:
            return bound
        for key in sorted(asked.named):
            if key in bound.named:
                if bound.params[key] != asked.params[key]:
                    raise UsageError(
                        f"{asked.name}: {key} is part of the convention ({self.measure}).",
                        hint=f"leave {key}= out",
                        code="convention.parameter",
                    )
            elif key in bound.params:
                bound = replace(bound, params={**bound.params, key: asked.params[key]})
            else:
                raise UsageError(f"{self.call} ({self.measure}) has no {key}.", code="convention.parameter")
        return bound

    def remark(self, why: str) -> str:
        """Return what more is to be said where a mask is empty."""
        notes = [self.empty_note if why else "", self.one_empty_note if why not in ("", Why.BOTH_EMPTY) else ""]
        return "; ".join(n for n in notes if n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool, the version that was checked and how, and its metrics."""

    name: str
    title: str
    version: str
    checked: Literal["run", "recorded", "read", "reported"] = "run"
    metrics: tuple[Entry, ...]

    def entry(self, bound: BoundMeasure) -> Entry | None:
        """Return the metric whose number a measure is, or that a user of that measure means."""
        plain = [e for e in self.metrics if not e.variant]
        return (
            next((e for e in plain if bind(e.measure, "metric").name == bound.name), None)
            or next((e for e in plain if e.measure.split(":")[0] == bound.measure.name), None)
            or next((e for e in plain if e.quantity == bound.measure.name), None)
        )


@cache
def tools() -> Mapping[str, Tool]:
    """Return all tools with metrics by name."""
    text = Path(__file__).with_name("conventions.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: tool_of(name, entry) for name, entry in tomllib.loads(text).items()})


def tool_of(name: str, entry: dict[str, Any]) -> Tool:
    """Return a tool's record, or raise `ValueError` for a key or a word that is not one of the record's."""
    metrics = tuple(_entry(name, one) for one in entry.pop("metrics"))
    _refuse_unknown(name, Tool, entry)
    if entry.get("checked", "run") not in CHECKED:
        raise ValueError(f"{name}: checked={entry['checked']!r}")
    return Tool(name=name, metrics=metrics, **entry)


def _entry(name: str, entry: dict[str, Any]) -> Entry:
    _refuse_unknown(name, Entry, entry)
    found = Entry(**{**entry, "empty": tuple(entry.get("empty", ()))})
    words = [w for w in (*found.empty, found.undefined, *found.gives.values()) if isinstance(w, str)]
    if len(found.empty) not in (0, 3) or any(w not in typing.get_args(Word) for w in words):
        raise ValueError(f"{name} {found.call}: empty={found.empty}, or a word of {', '.join(words)}")
    conditions = {*found.fails, *found.gives}
    if found.grid not in typing.get_args(Grid) or not conditions <= set(typing.get_args(Condition)):
        raise ValueError(f"{name} {found.call}: {found.grid}, {', '.join(conditions)}")
    return found


def _refuse_unknown(name: str, record: type[Any], entry: dict[str, Any]) -> None:
    unknown = entry.keys() - {f.name for f in fields(record)}
    if unknown:
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")


# --- a convention for a score ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Convention:
    """The measures that a tool's rules make of those asked for, and which of its metrics each one is."""

    tool: str
    title: str
    metrics: list[BoundMeasure]
    losses: list[BoundMeasure]
    entries: Mapping[str, Entry]
    libraries: Mapping[str, Implementation]

    def adopt(self, asked: BoundMeasure) -> BoundMeasure:
        """Return a measure under this convention: that of a limit, which names it as a user does."""
        text = ":".join(
            [asked.measure.name, *(f"{k}={plain(asked.params[k])}" for k in asked.params if k in asked.named)]
        )
        loss = asked.measure.kind == "loss"
        rules = convention_of(self.tool, None if loss else [text], [text] if loss else None)
        return (rules.metrics or rules.losses)[0]

    def remarks(self, shape: tuple[int, ...], *, own_means: bool = False) -> list[str]:
        """Return what the tool's own names are for the measures, and where it does not follow its definitions.

        `own_means`: whether the mean rows of losses are what it returns for all channels together.
        """
        names = [f"{e.call} = {name}{' in voxels' if e.grid == 'voxel' else ''}" for name, e in self.entries.items()]
        names += [f"{i.call} = {name}" for name, i in self.libraries.items()]
        lines = [f"--convention {self.tool}: {self.title}: {', '.join(names)}"] if names else []
        lines += [
            f"{self.title} itself: {e.call} {words}" for e in self.entries.values() for words in failing(e, shape)
        ]
        of_form = [(e, what) for e in self.entries.values() for c, what in e.gives.items() if holds(c, shape)]
        lines += [f"{self.title} itself: {e.call} {WORDS[str(what)]}" for e, what in of_form]
        if own_means:
            several = {i.call: i.of_several() for i in self.libraries.values()}
            return lines + [f"{call}, of several channels: {how}" for call, how in several.items() if how]
        pooled = [i.call for i in self.libraries.values() if i.averaging in ("micro", "pooled") or i.several]
        lines += [f"{call} does something else with several channels than the row mean here" for call in pooled]
        return lines


def failing(entry: Entry, shape: tuple[int, ...]) -> list[str]:
    """Return what a tool does with an image of this shape where it does not follow its own definition."""
    return [words for condition, words in entry.fails.items() if holds(condition, shape)]


def holds(condition: str, shape: tuple[int, ...], counts: Counts | None = None) -> bool:
    """Return whether a condition on the form of an image, or on the voxels of a label in it, holds.

    One that needs more than these does not; that masks are full, equal or apart is said only of masks with voxels.
    """
    plane = len(shape) == 2
    if condition in ("2-D", "3-D", "not square", "one slice"):
        square = plane and shape[0] == shape[1]
        return {"2-D": plane, "3-D": len(shape) == 3, "not square": plane and not square}.get(condition, 1 in shape)
    if counts is None:
        return False
    pred, gt, n = counts.pred, counts.gt, counts.n
    both, full = bool(pred and gt), (pred == n) + (gt == n)
    return {
        "thin": len(shape) == 3 and min(shape[1:]) < 3 and bool(pred or gt),
        "all full or empty": {pred, gt} <= {0, n},
        "one voxel": 1 in (pred, gt),
        "full": both and full > 0,
        "one full": both and full == 1,
        "both full": both and full == 2,
        "equal": both and not (counts.fp or counts.fn),
        "no overlap": both and not counts.tp,
    }.get(condition, False)


def names() -> tuple[str, ...]:
    """Return every name that `--convention` takes."""
    return tuple(dict.fromkeys([*tools(), *LOSS_LIBRARIES]))


def check_convention(name: str) -> str:
    if name not in names():
        near = difflib.get_close_matches(name.lower(), names(), 1, 0.6)
        raise UsageError(
            f"--convention {name} is not one of {', '.join(names())}.",
            hint=f"did you mean {near[0]}?" if near else "",
            code="convention",
        )
    return name


def convention_of(
    name: str,
    metrics: str | Iterable[str] | None,
    losses: str | Iterable[str] | None = None,
    *,
    surface: str | None = None,
) -> Convention:
    """Return what a tool's rules make of these lists of metrics and losses.

    A metric or loss that the tool does not have is a `UsageError`; of a preset those that it has are taken, with
    the counts of voxels and volumes, of which there is one definition only; not those that take values for objects
    beside others, to which values are classes.
    """
    check_convention(name)
    if surface is not None:
        raise UsageError(
            f"--surface {surface}: the surface is part of --convention {name}.",
            hint="leave one of the two out",
            code="convention.parameter",
        )
    tool = tools().get(name)
    entries: dict[str, Entry] = {}
    chosen: dict[str, BoundMeasure] = {}
    of_preset: dict[str, bool] = {}
    for asked, preset in _asked("metric", metrics if tool or metrics != "default" else None):
        entry = None if tool is None else next(
            (e for e in tool.metrics if e.quantity == asked.measure.name and not e.variant), None
        )  # fmt: skip
        if entry is None:
            if asked.measure.better == "none":  # a count or a table: there is one definition
                chosen.setdefault(asked.name, asked)
            elif not preset:
                raise _has_not(name, asked.measure.name, [e.quantity for e in tool.metrics] if tool else [])
            continue
        bound = entry.bound(asked)
        entries[bound.name] = entry
        chosen[bound.name] = bound
        of_preset[bound.name] = preset and of_preset.get(bound.name, True)
    if any(not b.by_value and b.measure.better != "none" for b in chosen.values()):
        # They take values for objects, and so would all others: nobody asked for that.
        for own in [b.name for b in chosen.values() if b.by_value and of_preset.get(b.name)]:
            del entries[own], chosen[own]
    if metrics and not chosen and any(True for _ in _asked("metric", metrics)) and tool is not None:
        raise _has_not(name, str(metrics), [e.quantity for e in tool.metrics])
    libraries: dict[str, Implementation] = {}
    kept: dict[str, BoundMeasure] = {}
    for asked, preset in _asked("loss", losses):
        found = implementation(name, asked)
        if found is None:
            if not preset:
                have = [loss for loss in known() if implementation(name, bind(loss, "loss")) is not None]
                raise _has_not(name, asked.measure.name, have)
            continue
        one, bound = found
        libraries[bound.name] = one
        kept[bound.name] = bound
    version = next((i.version for i in libraries.values()), "")
    title = f"{tool.title} {tool.version}" if tool else f"{name} {version}".strip()
    return Convention(name, title, list(chosen.values()), list(kept.values()), entries, libraries)


def _asked(kind: Literal["metric", "loss"], texts: str | Iterable[str] | None) -> Iterable[tuple[BoundMeasure, bool]]:
    """Return the measures of a list, each with whether a preset and not its own name brought it in."""
    for text in texts.split(",") if isinstance(texts, str) else texts or ():
        if text.strip():
            bound = parse(kind, text)
            own = len(bound) == 1 and text.strip().split(":")[0] in _words(bound[0])
            yield from ((b, not own) for b in bound)


def _words(bound: BoundMeasure) -> set[str]:
    return {bound.measure.name, bound.measure.id, *bound.measure.aliases}


def _has_not(name: str, asked: str, have: Iterable[str]) -> UsageError:
    have = list(dict.fromkeys(have))
    return UsageError(
        f"--convention {name} has no {asked}; it has {', '.join(have) or 'losses only'}.",
        code="convention.missing",
    )


def implementation(library: str, asked: BoundMeasure) -> tuple[Implementation, BoundMeasure] | None:
    """Return a library's form of a loss with the measure that gives its number, `asked`'s parameters set."""
    for one in known()[asked.measure.name].found_in:
        if one.library == library and one.same_as and one.checked == "run" and one.times == "1":
            return one, with_parameters(one, asked)
    return None


def with_parameters(one: Implementation, asked: BoundMeasure) -> BoundMeasure:
    """Return the measure of an implementation with the parameters of `asked` that it has too.

    Where the library gives alpha and beta the other way round than the literature (alpha on false positives), the
    same alpha and beta are meant: the weights change places.
    """
    bound = bind(one.same_as, "loss")
    swap = {"fp": "fn", "fn": "fp"} if swapped(one) else {}
    given = {k: asked.params[k] for k in asked.named if k in one.parameters and k in bound.params}
    return replace(bound, params={**bound.params, **{swap.get(k, k): v for k, v in given.items()}})


def swapped(one: Implementation) -> bool:
    """Return whether the library's alpha weighs misses."""
    return one.parameters.get("fp") == "beta"


def default_of(quantity: str, kind: Literal["metric", "loss"] = "metric") -> str:
    """Return how a preset writes a quantity: nsd with its tolerance, the others by name."""
    find(quantity, kind)
    return next((t for t in DEFAULTS[kind].split(",") if t.split(":")[0] == quantity), quantity)
