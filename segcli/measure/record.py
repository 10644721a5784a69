"""The record of a measure, and the registry of all records.

Nothing heavy is imported here: the catalogue, the help texts and usage errors need records only.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from segcli.errors import UsageError
from segcli.measure.param import Param
from segcli.measure.why import Why
from segcli.wording import plain

Kind = Literal["loss", "metric", "table"]
#: What a function reads: one label's masks or probabilities, all classes at once, or the probabilities of all.
#: A loss of all classes reads their probabilities anyway; a metric without them is undefined.
Reads = Literal["labels", "probability", "all-classes", "class-probabilities"]
Better = Literal["higher", "lower", "zero", "none"]
#: In `WhenEmpty`: the formula itself has a value there, so the function is called.
FORMULA: Literal["formula"] = "formula"
EmptyValue = float | None | Literal["formula"]
#: Nothing, a gt of 0 and 1 only, or a soft gt too.
Least = Literal["", "hard gt", "any gt"]
Attribution = Literal["", "additive", "scaled", "integrated"]
#: What a measure asks of its evidence. Of one label: its counts, with the volume of a voxel too or with the grid's
#: unit as well, its surfaces, bands along them, where its voxels lie, its pieces and skeletons, its objects, its
#: probabilities. Of all classes: their sizes, how they lie on each other, their probabilities. A loss needs the
#: probabilities of voxels wherever they lie, or the grid that they lie on.
Needs = Literal[
    "counts", "volumes", "litres", "surfaces", "bands", "places", "structure", "objects", "probabilities",
    "sizes", "overlaps", "voxels", "grid",
]  # fmt: skip
#: Of which cases add up, so that a measure of it has a value of all of them together without their masks.
ADDED: frozenset[Needs] = frozenset({"counts", "objects", "sizes"})
#: Of which labels of one case add up (`--average micro`): the evidence of several labels has it as that of one does.
POOLED_LABELS: frozenset[Needs] = frozenset({"counts", "volumes", "probabilities", "voxels"})


@dataclass(frozen=True, slots=True)
class WhenEmpty:
    """Values where a mask is empty: both, only the gt, only the prediction. `None` is undefined."""

    both: EmptyValue = None
    gt: EmptyValue = None
    pred: EmptyValue = None


#: The formula has a value whatever is empty.
BY_FORMULA = WhenEmpty(FORMULA, FORMULA, FORMULA)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a table measure returns: names of columns, and rows of numbers, texts or `None`."""

    columns: tuple[str, ...]
    rows: list[tuple[float | int | str | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Everything segcli knows of one loss, metric or table; the CLI, the docs and the tests read it."""

    name: str
    kind: Kind
    family: str
    function: Callable[..., Any] = field(repr=False)
    summary: str
    notes: str = ""
    aliases: tuple[str, ...] = ()
    formula: str
    reference: str
    range: tuple[float, float]
    better: Better
    unit: str = ""
    reads: Reads = "labels"
    needs: Needs
    #: Of a loss: whether gradient and map need of other voxels nothing but sums and what `SoftPair` knows by voxel
    #: (distances): they can then be worked out of any part of the voxels.
    local: bool = False
    symmetric: bool = False
    when_empty: WhenEmpty = BY_FORMULA
    #: Why it has no value where it is asked for its formula and has none.
    undefined: Why = Why.ZERO_DENOMINATOR
    params: Mapping[str, Param]
    optimum: float | None = 0.0
    gradient: Callable[..., Any] | None = field(default=None, repr=False)
    voxel_map: Callable[..., Any] | None = field(default=None, repr=False)
    attribution: Attribution = ""
    ideal: Callable[..., Any] | None = field(default=None, repr=False)
    #: Of a loss: of which gt it is proven, for all parameters, that no prediction has less than the perfect one; where
    #: that has the lower end of the range it needs no other proof.
    least: Least = ""
    caution: str = ""
    #: The parameter that says what a miss costs, where one does.
    miss: str = ""

    @property
    def id(self) -> str:
        return f"{self.kind}.{self.name}"

    @property
    def parts(self) -> bool:
        """Return whether its parts (of objects, of classes) stand in the run file, for a pooled value over cases."""
        return self.kind == "metric" and self.needs in ("objects", "sizes")

    @property
    def pooled(self) -> bool:
        """Return whether it has a value of all cases together: of counts, objects or classes that add up."""
        return self.kind == "metric" and self.needs in ADDED

    @property
    def scale(self) -> float:
        """Return the size of the numbers that its values are made of, where it does not grow and shrink with a unit."""
        return 0.0 if self.unit in ("mm", "mm^3", "ml") else 1.0

    def best(self) -> float | None:
        """Return the best value a prediction can have; `None` where no direction is better."""
        return {"higher": self.range[1], "lower": self.range[0], "zero": 0.0, "none": None}[self.better]


@dataclass(frozen=True, slots=True)
class BoundMeasure:
    """A measure with every parameter fixed: what a user asked for by `tversky:fp=0.1`."""

    measure: Measure
    params: Mapping[str, Any]
    #: The parameters that the caller wrote out.
    named: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def name(self) -> str:
        """Return the canonical name: parameters that differ from their default or are always shown."""
        parts = [self.measure.name]
        for key, param in self.measure.params.items():
            value = self.params[key]
            if param.shown or value != param.default:
                parts.append(f"{key}={plain(value)}")
        return ":".join(parts)

    @property
    def id(self) -> str:
        return f"{self.measure.kind}.{self.name}"

    @property
    def over_classes(self) -> bool:
        """Return whether it reads all classes at once: its one value has the label `all`."""
        return self.measure.reads in ("all-classes", "class-probabilities")

    @property
    def by_value(self) -> bool:
        """Return whether each value of a label is an object to it."""
        return self.params.get("instances") == "values"

    def __call__(self, pair: Any) -> Any:
        return self.measure.function(pair, **self.params)

    def worst(self, diagonal: float | None) -> float | None:
        """Return the worst value that a prediction can have: what `worst` means wherever it can be asked for.

        It is the end of the range, and of a distance, which has none, the `diagonal` of the image in the distance's
        unit. `None` where no value stands for a miss: of an error around 0 (as 0 it would be a perfect one), of what
        has no direction, and where the end is at infinity.
        """
        measure = self.measure
        if measure.better not in ("higher", "lower"):
            return None
        if measure.miss:
            return float(self.params[measure.miss])
        end = measure.range[0] if measure.better == "higher" else measure.range[1]
        if math.isfinite(end):
            return float(end)
        return diagonal if measure.unit == "mm" else None

    def gradient(self, pair: Any, wrt: Literal["p", "z"]) -> Any:
        """Return dL/dp or dL/dz as a vector over the pair's voxels; `None` without a closed form."""
        gradient = self.measure.gradient
        if gradient is None:
            return None
        return self._each(lambda own: gradient(own, own.wrt(wrt), **self.params), pair)

    def is_least(self, value: float, *, hard_gt: bool) -> bool:
        """Return whether it is proven that no prediction has less than the perfect one, which has this `value`."""
        of = self.measure
        return value <= of.range[0] + 1e-12 or of.least == "any gt" or (of.least == "hard gt" and hard_gt)

    def perfect(self, pair: Any) -> Any:
        """Return the pair with the prediction that the loss asks for: the gt, unless the loss files another."""
        ideal = self.measure.ideal
        return pair.perfect() if ideal is None else pair.perfect(ideal(pair, **self.params))

    def voxel_map(self, pair: Any) -> Any:
        """Return contributions of the pair's voxels that add up to the loss; `None` without a rule."""
        voxel_map = self.measure.voxel_map
        return None if voxel_map is None else self._each(lambda own: voxel_map(own, **self.params), pair)

    def _each(self, function: Callable[[Any], Any], pair: Any) -> Any:
        """Return a function of the pair, worked out stretch by stretch where that can be."""
        return pair.each(function) if self.measure.local else function(pair)

    def with_default(self, key: str, value: object) -> BoundMeasure:
        """Return a copy with `key` set where the measure has it and the caller did not name it."""
        param = self.measure.params.get(key)
        if param is None or key in self.named:
            return self
        return replace(self, params={**self.params, key: param.parse(self.measure.name, value)})


# --- the registry -----------------------------------------------------------------------------

_REGISTRY: dict[str, Measure] = {}


def enter(measure: Measure) -> None:
    """Put a record into the registry; raise `TypeError` where its name is taken."""
    if measure.id in _REGISTRY:
        raise TypeError(f"{measure.id} is filed twice")
    _REGISTRY[measure.id] = measure
    _words.cache_clear()


def amend(key: str, what: str, amended: Callable[[Measure], Measure]) -> None:
    """Put `amended(record)` in the place of a filed record, which gets a companion: its gradient, say."""
    if key not in _REGISTRY:
        raise TypeError(f"the {what} of {key} has no measure: file it first")
    _REGISTRY[key] = amended(_REGISTRY[key])
    _words.cache_clear()


def filed(key: str) -> Measure:
    """Return a record that is filed already, by its full id, while the families are still being imported."""
    return _REGISTRY[key]


def measures(kind: Kind | None = None) -> list[Measure]:
    """Return all records, metrics before tables and losses, in the order in which their families file them."""
    import segcli.measure.losses
    import segcli.measure.metrics  # noqa: F401  (importing the families files their records)

    found = [m for m in _REGISTRY.values() if kind in (None, m.kind)]
    return sorted(found, key=lambda m: ("metric", "table", "loss").index(m.kind))


def find(name: str, kind: Kind | None = None) -> Measure:
    """Return the record called `name`, an alias of it or its full id (`loss.dice`).

    Without `kind` a bare name means the metric where there is one; a table is found among the metrics.
    Raises `UsageError` with the nearest names.
    """
    head, dot, tail = name.partition(".")
    if dot and head in ("metric", "loss", "table"):
        if kind not in (None, head) and (kind, head) != ("metric", "table"):
            raise UsageError(f"{name} is a {head}; a {kind} is wanted here.", code="measure.kind")
        kind, name = typing.cast("Kind", head), tail
    names = _words(kind)
    if name in names:
        return names[name]
    folded = name.lower().replace("-", "_")
    if folded in names:
        return names[folded]
    near = difflib.get_close_matches(folded, names, 3, 0.6)
    raise UsageError(
        f"unknown {kind or 'measure'} {name!r}.",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else f"see: segcli catalog{f' --kind {kind}' if kind else ''}",
        code="measure.unknown",
    )


@cache
def _words(kind: Kind | None) -> dict[str, Measure]:
    """Return the records by name and alias; where two have a word, it means the first."""
    names: dict[str, Measure] = {}
    for measure in measures(kind) + (measures("table") if kind == "metric" else []):
        for word in (measure.name, *measure.aliases):
            names.setdefault(word, measure)
    return names
