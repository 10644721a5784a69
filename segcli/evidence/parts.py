"""Parts: what one case gives to measures of objects and of all classes, in numbers that add up over cases.

They stand in the run file, so that a pooled value needs no masks. `object_parts.py` has who asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_origin, get_type_hints

from segcli.wording import plain

Instances = Literal["components", "values"]
#: The question that `ClassSums` answers: it depends on nothing.
CLASSES = "classsums"
Answer = TypeVar("Answer", bound=tuple[Any, ...])


class NoGridError(AttributeError):
    """A measure asked pooled voxels or cases for more than is kept of them: for neighbours, or a surface."""


class NoPartsError(LookupError):
    """Not every one of the pooled cases has the parts that a measure is made of.

    No `AttributeError`: Python would take it for a property that is not there.
    """


class Matched(NamedTuple):
    """Objects, how many of them were matched one to one, and the sums of IoU and Dice over the matches."""

    pred: int
    gt: int
    tp: int
    iou: float
    dice: float

    @property
    def objects(self) -> int:
        return self.pred + self.gt


class Detected(NamedTuple):
    """How many true objects were found and how many predicted ones are true, of how many."""

    found: int
    true: int
    gt: int
    pred: int


class Aggregated(NamedTuple):
    """Voxels that objects share with their partners, and voxels of all objects."""

    shared: int
    united: int


class LesionScores(NamedTuple):
    """Lesions, the false ones among them, and the sum of their scores."""

    lesions: int
    total: float


class ClassSums(NamedTuple):
    """Voxels of each class in both maps, in the prediction and in the ground truth: by name, the background first."""

    both: dict[str, int]
    pred: dict[str, int]
    gt: dict[str, int]

    def as_parts(self) -> dict[str, dict[str, Any]]:
        """Return them as the parts of a case."""
        return {CLASSES: self._asdict()}


class Candidates(NamedTuple):
    """Confidence of each lesion that was hit (its best hit) and of each candidate that hit none, highest first."""

    hit: list[float]
    false: list[float]
    lesions: int
    cases: int

    def curve(self) -> list[tuple[float, int, int]]:
        """Return for each confidence, as a threshold, how many candidates of at least that are false, and lesions hit.

        Thresholds fall.
        """
        hits, false = [sorted(side, reverse=True) for side in (self.hit, self.false)]
        found = []
        k = n = 0
        for threshold in sorted({*hits, *false}, reverse=True):
            while k < len(hits) and hits[k] >= threshold:
                k += 1
            while n < len(false) and false[n] >= threshold:
                n += 1
            found.append((threshold, n, k))
        return found


class PooledSums:
    """The classes of several cases summed: for measures of all classes that need no more than their sizes.

    A class that a case does not have takes no voxel of it.
    """

    def __init__(self, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> None:
        self._cases = cases

    @cached_property
    def sums(self) -> ClassSums:
        return summed(ClassSums, CLASSES, self._cases)


def summed(kind: type[Answer], key: str, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> Answer:
    """Return the answer to a question for all cases together; raise where not all have one."""
    found = [None if case is None else case.get(key) for case in cases]
    known = [part for part in found if part is not None]
    # All or nothing: a sum that leaves out cases would be taken for that of all.
    if not known or len(known) < len(found):
        raise NoPartsError(key)
    return kind(*(_sum([part[name] for part in known]) for name in _fields(kind)))


KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Matched, Detected, Aggregated, LesionScores, Candidates, ClassSums)
}


def question(kind: str, asked: Mapping[str, object]) -> str:
    """Return the name of an answer in the run file: its kind and all that it depends on."""
    return ":".join([kind, *(f"{key}={plain(value)}" for key, value in asked.items())])


def wrong(key: str, part: object) -> str:
    """Return what is wrong with a part as a run file has it; empty for a good one, or one of a later version."""
    kind = KINDS.get(key.partition(":")[0])
    if kind is None:
        return ""
    if not isinstance(part, dict) or set(part) != set(_fields(kind)):
        return f"is not {', '.join(_fields(kind))}"
    for name, hint in get_type_hints(kind).items():
        value, wanted = part[name], cast("type[Any]", get_origin(hint) or float)
        numbers: list[object] = [value]
        if wanted in (list, dict):
            listed = value.values() if isinstance(value, dict) else value
            numbers = [*listed] if isinstance(value, wanted) else [None]
        if not all(_is_amount(number) for number in numbers):
            words = "a list of numbers" if wanted is list else "an object of numbers" if wanted is dict else "a number"
            return f"has no {name} that is {words} of at least 0"
    if kind is ClassSums and not set(part["both"]) == set(part["pred"]) == set(part["gt"]):
        return "has not the same classes in both, pred and gt"
    return ""


def _is_amount(number: object) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number) and number >= 0


def _fields(kind: type[Any]) -> tuple[str, ...]:
    found: tuple[str, ...] = kind._fields
    return found


def _sum(values: Sequence[Any]) -> Any:
    if isinstance(values[0], list):
        return [number for value in values for number in value]
    if isinstance(values[0], dict):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: sum(value.get(name, 0) for value in values) for name in names}
    # Exactly rounded: the order of the cases has no say.
    return math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)
