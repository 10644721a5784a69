"""What measures of objects ask of one case (`ObjectParts`) or of several (`PooledObjects`): the same questions.

The answers are `parts`: numbers that add up over cases.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from segcli.errors import InputError
from segcli.evidence.parts import (
    Aggregated,
    Answer,
    Candidates,
    Detected,
    Instances,
    LesionScores,
    Matched,
    question,
    summed,
)

if TYPE_CHECKING:
    from segcli.evidence.measured import Measured
    from segcli.evidence.probabilities import OfLabel
    from segcli.evidence.soft import SoftPair
    from segcli.evidence.structure import Structure
    from segcli.kernels.surfaces import Surface


class Questions(ABC):
    """What measures ask of objects."""

    @abstractmethod
    def _answer(self, kind: type[Answer], asked: Mapping[str, object], make: Callable[[ObjectParts], Answer]) -> Answer:
        """Return the answer to a question of a kind, with all that it depends on; `make` finds that of one case."""

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

        def make(own: ObjectParts) -> Matched:
            found = own.structure.objects(instances, connectivity).match(iou, matching, inclusive=inclusive)
            return Matched(found.n_pred, found.n_gt, found.tp, float(found.iou.sum()), float(found.dice.sum()))

        rule = {"at" if inclusive else "above": iou, "matching": matching}
        return self._answer(Matched, {**rule, "connectivity": connectivity, "instances": instances}, make)

    def detected(
        self, iou: float, matching: Literal["optimal", "greedy", "overlap"], connectivity: str, instances: Instances
    ) -> Detected:
        """Return how many objects were found: by a match, or with `overlap` by any shared voxel."""

        def make(own: ObjectParts) -> Detected:
            return own.structure.objects(instances, connectivity).detected(iou, matching)

        asked = {"above": iou, "matching": matching, "connectivity": connectivity, "instances": instances}
        return self._answer(Detected, asked, make)

    def aggregated(self, connectivity: str, instances: Instances, *, once: bool) -> Aggregated:
        """Return the voxels of true objects and their best fits; with `once` each object is in one pair at most."""

        def make(own: ObjectParts) -> Aggregated:
            return own.structure.objects(instances, connectivity).aggregated(once=once)

        asked = {"partners": "once" if once else "any", "connectivity": connectivity, "instances": instances}
        return self._answer(Aggregated, asked, make)

    def lesion_scores(
        self, dilation: int, min_volume: float, surface: Surface | None = None, penalty: float = 0.0
    ) -> LesionScores:
        """Return the Dice of lesions summed, 0 of a false one; with a surface their hd95.

        What is missed or false has `penalty` in its place.
        """

        def make(own: ObjectParts) -> LesionScores:
            found = own.structure.lesions(dilation, min_volume, surface)
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

        def make(own: ObjectParts) -> Candidates:
            return own.structure.candidates(own.probabilities(), floor, iou, instances, connectivity)

        asked = {"floor": floor, "iou": iou, "connectivity": connectivity, "instances": instances}
        return self._answer(Candidates, asked, make)


class ObjectParts(Questions):
    """The parts of one label of a case, each worked out when it is first asked for.

    `answers` holds what was asked, by question.
    """

    def __init__(self, measured: Measured, index: int, known: OfLabel) -> None:
        self._measured = measured
        self._index = index
        self._known = known
        self.answers: dict[str, Any] = {}

    @cached_property
    def structure(self) -> Structure:
        """Return the pieces, skeletons and objects of both masks; its kernels are imported when it is asked for."""
        from segcli.evidence.structure import Structure

        return Structure(self._measured, self._index)

    def probabilities(self) -> SoftPair | None:
        """Return the probabilities; `None` of an empty hard mask, which has no candidates.

        Raises `InputError` for any other hard mask.
        """
        if self._known.soft is None and self._measured.counts(self._index).pred:
            raise InputError(
                f"{self._known.label.name}: a hard mask has no probabilities.",
                hint="score the probability map or the logits that it was made from",
                code="kind.hard",
            )
        return self._known.soft

    def any_predicted(self, connectivity: str, instances: Instances) -> bool:
        """Return whether an object is predicted that is not void for more than its half."""
        objects = self.structure.objects(instances, connectivity).objects_pred
        return bool(objects.counted([]).any())

    def _answer(self, kind: type[Answer], asked: Mapping[str, object], make: Callable[[ObjectParts], Answer]) -> Answer:
        key = question(kind.__name__.lower(), asked)
        if key not in self.answers:
            self.answers[key] = make(self)
        return cast("Answer", self.answers[key])


class Asked(Questions):
    """Questions that are passed on: `keys` are those that were asked here."""

    def __init__(self, parts: ObjectParts) -> None:
        self._parts = parts
        self.keys: set[str] = set()

    def _answer(self, kind: type[Answer], asked: Mapping[str, object], make: Callable[[ObjectParts], Answer]) -> Answer:
        self.keys.add(question(kind.__name__.lower(), asked))
        return self._parts._answer(kind, asked, make)


class ObjectsOnly(NamedTuple):
    """The evidence of measures that read nothing but objects."""

    objects: Questions


class PooledObjects(Questions):
    """The parts of several cases, kept as plain records, summed: answered for all together, without their masks."""

    def __init__(self, cases: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> None:
        self._cases = cases

    def _answer(
        self,
        kind: type[Answer],
        asked: Mapping[str, object],
        make: Callable[[ObjectParts], Answer],  # noqa: ARG002 (no masks to make it of)
    ) -> Answer:
        return summed(kind, question(kind.__name__.lower(), asked), self._cases)
