"""What public libraries have of each loss, and what is written wrongly of it: `libraries.toml`, read and checked.

Needs no NumPy.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Averaging = Literal["macro", "micro", "batch", "pooled"]

#: The names in the calls.
LEGEND = "p: probabilities, z: logits, y: the ground truth in channels, labels: in one map, M: distances of the labels"
#: What becomes of cases and channels, in words.
AVERAGING: dict[Averaging, str] = {
    "macro": "mean over cases and channels",
    "micro": "channels pooled, mean over cases",
    "batch": "cases pooled, mean over channels",
    "pooled": "cases and channels pooled",
}
#: The same of a measure that reads all classes at once.
AVERAGING_CLASSES: dict[Averaging, str] = {"macro": "mean over cases", "batch": "cases pooled"}
#: What is computed of which channels, in words; a channel by itself needs none, nor do all classes at once.
CHANNELS: dict[str, str] = {
    "one": "",
    "two": "given background and foreground",
    "all": "background is a channel too",
    "classes": "",
}
#: What becomes of several channels, where that is more than `averaging` and `channels` say.
Several = Literal[
    "",
    "inner",
    "inner log",
    "softmax ce",
    "cldice pooled",
    "first two",
    "classes",
    "each",
    "pooled dice",
    "gdice focal",
    "refused",
]
SEVERAL: dict[Several, str] = {
    "": "",
    "inner": "the first, the background, is left out",
    "inner log": "the logarithm of 1 + the mean without the first, the background",
    "softmax ce": "the cross-entropy is that of a softmax over the logits, the Dice part of their sigmoids",
    "cldice pooled": "the clDice part pools them, the Dice part does not",
    "first two": "only the first two are read, as background and foreground",
    "classes": "generalized_dice_softmax of them",
    "each": "the mean over all of them",
    "pooled dice": "Dice of all of them pooled",
    "gdice focal": "generalized_dice_softmax of their sigmoids, and the mean focal loss",
    "refused": "an error",
}
#: How far it sees probabilities next to 0 and 1, in words.
Sees = Literal["", "log >= -100", "float32 clip"]
SEES: dict[Sees, str] = {
    "": "",
    "log >= -100": "logarithms cut at -100, not p at clip",
    "float32 clip": "p in float32, clipped to [1e-7, 1-1.2e-7]",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One public implementation of a loss and how it differs from segcli's.

    `same_as` is the measure that gives its value with its defaults, times `times`, where there is one and unless the
    case is one of `not_when`. `channels`: what that measure reads, `classes` where it reads all at once; `several`:
    what else becomes of more than one; `sees`: what becomes of p next to 0 and 1. `parameters`: ours to theirs,
    several joined by " = ". `checked`: run by the tests, read in its source, or reported by others.
    """

    library: str
    version: str
    call: str
    same_as: str = ""
    averaging: Averaging = "macro"
    channels: Literal["one", "two", "all", "classes"] = "one"
    cases: Literal["many", "one"] = "many"
    ndim: Literal[0, 2, 3] = 0
    times: Literal["1", "1/2", "1/4", "1/C"] = "1"
    not_when: tuple[Literal["gt empty", "gt full"], ...] = ()
    several: Several = ""
    sees: Sees = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    differs: str = ""
    checked: Literal["run", "read", "reported"] = "run"

    def of_several(self) -> str:
        """Return what becomes of several channels where it is not their mean, in words."""
        return SEVERAL[self.several] or ("they are pooled" if self.averaging in ("micro", "pooled") else "")

    def text(self, quote: str = "") -> str:
        """Return all of it as one line, code between `quote`."""
        checked = {"run": "", "read": " (source read, not run)", "reported": " (reported)"}[self.checked]
        line = f"{self.library} {self.version}{checked}: {quote}{self.call}{quote}"
        if self.same_as:
            factor = "" if self.times == "1" else f"{self.times} of "
            averaging = AVERAGING_CLASSES if self.channels == "classes" else AVERAGING
            how = [averaging[self.averaging], CHANNELS[self.channels]]
            how.append(", ".join(f"{ours} is {theirs}" for ours, theirs in self.parameters.items() if ours != theirs))
            how.append(f"of several channels {SEVERAL[self.several]}" if self.several else "")
            how.append(SEES[self.sees])
            how.append(f"not when {' or '.join(self.not_when)}" if self.not_when else "")
            line += f" = {factor}{quote}{self.same_as}{quote} ({'; '.join(part for part in how if part)})"
        only = f"{self.ndim}-D only. " if self.ndim else ""
        return f"{line}. {only}{self.differs}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one loss outside segcli; `nowhere` says so where no implementation is listed."""

    found_in: tuple[Implementation, ...] = ()
    mistakes: tuple[str, ...] = ()
    nowhere: str = ""


@cache
def known() -> Mapping[str, Known]:
    """Return what is known of each loss by its name."""
    text = Path(__file__).with_name("libraries.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: _known(name, entry) for name, entry in tomllib.loads(text).items()})


def _known(name: str, entry: dict[str, Any]) -> Known:
    entry = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    found = tuple(_implementation(name, one) for one in entry.pop("found_in", ()))
    of = Known(found_in=found, **_checked(name, Known, entry))
    if bool(of.found_in) == bool(of.nowhere):
        raise ValueError(f"{name}: either `found_in` or `nowhere` has to say where it is")
    return of


def _implementation(name: str, entry: dict[str, Any]) -> Implementation:
    entry = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Implementation(**_checked(name, Implementation, entry))


def _checked(name: str, record: type[Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry, or raise `ValueError` for a key or a word that the record has not."""
    unknown = entry.keys() - {f.name for f in fields(record)}
    if unknown:
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
    for key, kind in typing.get_type_hints(record).items():
        inner = next((arg for arg in typing.get_args(kind) if typing.get_origin(arg) is Literal), kind)
        if key not in entry or typing.get_origin(inner) is not Literal:
            continue
        for word in entry[key] if isinstance(entry[key], tuple) else (entry[key],):
            if word not in typing.get_args(inner):
                raise ValueError(f"{name}: {key}={word!r} is none of {typing.get_args(inner)}")
    return entry
