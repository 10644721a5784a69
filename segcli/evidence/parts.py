"""Parts: what one case gives to measures of objects and of all classes, in numbers that add up over cases.

A measure of objects asks a `Pair` (one case) or a `PooledCounts` (several) the same questions, by the methods of
`ObjectParts`; one of all classes reads the `ClassSums` of either. The answers of a case stand in the run file, so
that a pooled value needs no masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, get_origin, get_type_hints

from segcli.errors import InputError
from segcli.wording import plain

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair
    from segcli.kernels.surfaces import Surface

Instances = Literal["components", "values"]
#: The question that `ClassSums` answers: it depends on nothing.
CLASSES = "classsums"
Answer = TypeVar("Answer", bound=tuple[Any, ...])


class NoGridError(Exception):
    """A measure asked pooled voxels or cases for more than is kept of them: for neighbours, or a surface."""


class NoPartsError(NoGridError):
    """Not every one of the pooled cases has the parts that a measure is made of."""


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


class ObjectParts:
    """The parts of one label of a case, each worked out when it is first asked for.

    `answers` holds what was asked, by question.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.answers: dict[str, Any] = {}

    def _answer(self, kind: type[Answer], asked: Mapping[str, object], make: Callable[[], Answer]) -> Answer:
        key = question(kind.__name__.lower(), asked)
        if key not in self.answers:
            self.answers[key] = make()
        return cast("Answer", self.answers[key])

    def any_predicted(self, connectivity: str, instances: Instances) -> bool:
        """Return whether an object is predicted that is not void for more than its half."""
        objects = self.pair.structure.objects(instances, connectivity).objects_pred
        return bool(objects.counted([]).any())

    def matched(
        self,
        iou: float,
        matching: Literal["optimal", "greedy"],
        connectivity: str,
        instances: Instances,
        *,
        inclusive: bool = False,
    ) -> Matched:
        """Return how objects match one to one above an IoU; `inclusive` also at it."""

        def make() -> Matched:
            found = self.pair.structure.objects(instances, connectivity).match(iou, matching, inclusive=inclusive)
            return Matched(found.n_pred, found.n_gt, found.tp, float(found.iou.sum()), float(found.dice.sum()))

        rule = {"at" if inclusive else "above": iou, "matching": matching}
        return self._answer(Matched, {**rule, "connectivity": connectivity, "instances": instances}, make)

    def detected(
        self, iou: float, matching: Literal["optimal", "greedy", "overlap"], connectivity: str, instances: Instances
    ) -> Detected:
        """Return how many objects were found: by a match, or with `overlap` by any shared voxel."""

        def make() -> Detected:
            return self.pair.structure.objects(instances, connectivity).detected(iou, matching)

        asked = {"above": iou, "matching": matching, "connectivity": connectivity, "instances": instances}
        return self._answer(Detected, asked, make)

    def aggregated(self, connectivity: str, instances: Instances, *, once: bool) -> Aggregated:
        """Return the voxels of true objects and their best fits; with `once` each object is in one pair at most."""

        def make() -> Aggregated:
            return self.pair.structure.objects(instances, connectivity).aggregated(once=once)

        asked = {"partners": "once" if once else "any", "connectivity": connectivity, "instances": instances}
        return self._answer(Aggregated, asked, make)

    def lesion_scores(
        self, dilation: int, min_volume: float, surface: Surface | None = None, penalty: float = 0.0
    ) -> LesionScores:
        """Return the Dice of lesions summed, 0 of a false one; with a surface their hd95.

        What is missed or false has `penalty` in its place.
        """

        def make() -> LesionScores:
            found = self.pair.structure.lesions(dilation, min_volume, surface)
            if surface is None:
                return LesionScores(len(found.dice) + found.false, float(sum(found.dice)))
            distances = [penalty if d is None else d for d in found.hd95] + [penalty] * found.false
            return LesionScores(len(distances), float(sum(distances)))

        asked: dict[str, object] = {"dilation": dilation, "min_volume": min_volume}
        return self._answer(
            LesionScores, asked | ({} if surface is None else {"surface": surface, "penalty": penalty}), make
        )

    def candidates(self, floor: float, iou: float, connectivity: str, instances: Instances) -> Candidates:
        """Return the confidence of the pieces of {p > floor}, their largest p, and which lesions they hit."""

        def make() -> Candidates:
            soft = self.pair.soft
            if soft is None and self.pair.counts.pred:
                raise InputError(
                    f"{self.pair.label.name}: a hard mask has no probabilities.",
                    hint="score the probability map or the logits that it was made from",
                    code="kind.hard",
                )
            return self.pair.structure.candidates(soft, floor, iou, instances, connectivity)

        asked = {"floor": floor, "iou": iou, "connectivity": connectivity, "instances": instances}
        return self._answer(Candidates, asked, make)


class PooledObjects(ObjectParts):
    """The parts of several cases, kept as plain records, summed: the same questions, answered for all together."""

    def __init__(self, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> None:
        self._cases = cases
        self.answers = {}

    def _answer(self, kind: type[Answer], asked: Mapping[str, object], make: Callable[[], Answer]) -> Answer:  # noqa: ARG002 (no masks to make it of)
        return _summed(kind, question(kind.__name__.lower(), asked), self._cases)


class PooledSums:
    """The classes of several cases summed: for measures of all classes that need no more than their sizes.

    A class that a case does not have takes no voxel of it.
    """

    def __init__(self, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> None:
        self._cases = cases

    @cached_property
    def sums(self) -> ClassSums:
        return _summed(ClassSums, CLASSES, self._cases)

    def __getattr__(self, name: str) -> Any:
        raise NoGridError(name)


def _summed(kind: type[Answer], key: str, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> Answer:
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
