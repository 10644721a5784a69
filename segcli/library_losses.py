"""What deep learning libraries would return for a loss of a pair, and why that differs from segcli's number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segcli.averaging import ALL
from segcli.conventions import Printed, Row, effective, same
from segcli.losses.libraries import AVERAGING, Implementation, known
from segcli.measure import BoundMeasure, plain
from segcli.notation import bind
from segcli.tools import LOSS_LIBRARIES, swapped, with_parameters

if TYPE_CHECKING:
    from segcli.evidence.soft import SoftPair
    from segcli.loading import Loaded

TIMES = {"1": 1.0, "1/2": 0.5, "1/4": 0.25}


def loss_rows(asked: BoundMeasure, loaded: Loaded) -> list[Row]:
    """Return what each library that has a loss would return, its parameters set to those that are named."""
    scene = Scene(loaded)
    own = scene.value(bind(asked.measure.name, "loss") if not asked.named else asked, "macro", "one")
    rows = []
    for one in known()[asked.measure.name].found_in:
        if one.library not in LOSS_LIBRARIES or one.checked != "run" or not scene.takes(one):
            continue
        bound = with_parameters(one, asked) if one.same_as else None
        found = scene.printed(one, bound)
        because = scene.causes(one, bound, asked, own, found) if bound is not None else (one.differs,)
        name = bound.name if bound is not None else ""
        rows.append(
            Row(
                "loss",
                asked.name,
                scene.label,
                one.library,
                one.version,
                "run",
                _call(one, asked),
                name,
                found,
                asked.name,
                own,
                "",
                because,
            )
        )
    return rows


def _call(one: Implementation, asked: BoundMeasure) -> str:
    """Return the call with the parameters that were asked for, as a user of the literature's names writes them."""
    names = {"fp": "alpha", "fn": "beta"} if {"alpha", "beta"} <= set(one.parameters.values()) else {}
    asked_for = [k for k in asked.params if k in asked.named and k in one.parameters]
    given = [f"{names.get(k, one.parameters[k])}={plain(asked.params[k])}" for k in asked_for]
    return one.call + (f" with {', '.join(given)}" if given else "")


class Scene:
    """The channels of a pair as a library is given them, one case."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.channels: list[SoftPair] = [loaded.soft(label) for label in loaded.channels]
        self.label = loaded.channels[0].name if len(self.channels) == 1 else ALL
        first = self.channels[0]
        self.hard = first.hard
        self.ndim = len(loaded.case.shape)

    def takes(self, one: Implementation) -> bool:
        """Return whether an implementation is for this number of channels."""
        return one.channels != "two" or len(self.channels) == 1

    def value(self, bound: BoundMeasure, averaging: str, channels: str) -> float | None:
        """Return a measure of the channels, averaged in a library's way."""
        from segcli.evidence.parts import NoGridError
        from segcli.evidence.pooled import PooledPair

        if bound.over_classes and self.loaded.case.overlapping:
            return None
        if bound.over_classes:
            return _number(bound(self.loaded.classes()))
        pairs = self._with_background() if channels == "all" and len(self.channels) == 1 else self.channels
        try:
            if averaging in ("micro", "pooled") and len(pairs) > 1:
                return _number(bound(PooledPair(pairs)))
        except NoGridError:
            return None
        values = [_number(bound(pair)) for pair in pairs]
        defined = [v for v in values if v is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) else None

    def _with_background(self) -> Sequence[SoftPair]:
        from segcli.evidence.soft import SoftPair

        (one,) = self.channels
        grid = self.loaded.grid
        rest = [self.loaded.background(one.grid(one.p, 0.0)), 1 - one.grid(one.y, 0.0)]
        return [SoftPair(*rest, spacing=grid.spacing, valid=grid.valid, hard=one.hard, threshold=grid.threshold), one]

    def printed(self, one: Implementation, bound: BoundMeasure | None) -> Printed:
        """Return what a library returns; words where it returns nothing, or what no formula here has."""
        if one.ndim and one.ndim != self.ndim:
            return Printed(None, f"takes {one.ndim}-D only")
        if "z" in _arguments(one.call) and self.hard:
            return Printed(None, "takes logits, which a hard mask has not")
        if bound is None:
            return Printed(None, "not computed here")
        for condition in one.not_when:
            if any(CONDITIONS[condition](pair) for pair in self.channels):
                return Printed(None, f"not computed here: {SAID[condition]}")
        value = self.value(bound, one.averaging, one.channels)
        if value is None:
            return Printed(None, "not computed here")
        return Printed(value * (TIMES[one.times] if one.times != "1/C" else 1 / self._classes()))

    def _classes(self) -> int:
        return max(2, len(self.channels))

    def causes(
        self, one: Implementation, bound: BoundMeasure, asked: BoundMeasure, own: float | None, found: Printed
    ) -> tuple[str, ...]:
        """Return what makes the difference, each part that has an effect on this pair."""
        if found.value is None:
            differs = [one.differs] if found.words.startswith("not computed") else []
            return (found.words, *differs)
        if same(found.value, own):
            return ()
        return effective(((words, now) for now, words in self._steps(one, bound, asked, found)), own)

    def _steps(
        self, one: Implementation, bound: BoundMeasure, asked: BoundMeasure, found: Printed
    ) -> Iterable[tuple[float | None, str]]:
        step = asked
        if bound.measure is asked.measure:
            weights = [k for k in ("fp", "fn") if k in bound.params]
            if swapped(one) and asked.named & set(weights):
                step = replace(step, params={**step.params, **{k: bound.params[k] for k in weights}})
                yield self.value(step, "macro", "one"), f"alpha and beta swapped: alpha weighs misses in {one.library}"
            for key, wanted in bound.params.items():
                if step.params[key] != wanted:
                    words = f"{key}={plain(wanted)}, not {plain(step.params[key])}"
                    step = replace(step, params={**step.params, key: wanted})
                    yield self.value(step, "macro", "one"), words
        else:
            yield self.value(bound, "macro", "one"), f"it is {bound.name}"
        yield self.value(bound, "macro", one.channels), "the background is a channel too"
        yield self.value(bound, one.averaging, one.channels), AVERAGING[one.averaging]
        if one.times != "1":
            yield found.value, f"{one.times} of the mean over voxels" if one.times != "1/2" else "half of it"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _arguments(call: str) -> set[str]:
    """Return the plain names that a call of the list is given: p, z, y, labels."""
    inside = call.rpartition("(")[2].rstrip(")")
    return {word.strip() for word in inside.split(",")}


def _certain(pair: SoftPair) -> bool:
    return bool((abs(pair.p - pair.y) == 1).any())


CONDITIONS: dict[str, Callable[[SoftPair], bool]] = {
    "gt empty": lambda pair: bool(pair.gt_empty),
    "gt full": lambda pair: bool((pair.y == 1).all()),
    "a certain voxel is wrong": _certain,
}
SAID = {
    "gt empty": "gt is empty",
    "gt full": "gt fills the image",
    "a certain voxel is wrong": "a certain voxel is wrong",
}
