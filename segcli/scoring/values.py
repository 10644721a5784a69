"""One scored case: its values, means and tables, and what was said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError
from segcli.masks.labels import BACKGROUND, Label
from segcli.masks.mask import Mask, Note
from segcli.measure.notation import bind
from segcli.measure.record import Kind
from segcli.scoring.empty import Status
from segcli.scoring.means import (
    ALL,
    MEAN,
    MEAN_WITHOUT_BACKGROUND,
    Mean,
    MeanOf,
)

if TYPE_CHECKING:
    from segcli.evidence.counts import Counts


#: As many labels or numbers as a `repr` names.
MOST_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Value:
    """One number: `value` is `None` where `status` is "undefined", and `why` says why."""

    label: str
    kind: Kind
    measure: str
    value: float | None
    unit: str
    status: Status = "ok"
    why: str = ""


@dataclass(frozen=True, slots=True)
class TableValue:
    """What a table measure says of one label, or of all classes (`all`): rows under named columns."""

    label: str
    measure: str
    columns: tuple[str, ...]
    rows: list[tuple[float | int | str | None, ...]]


@dataclass(frozen=True, repr=False)
class Scored:
    """One scored case. `values` holds a record for each label and measure, `means` the mean row.

    Measures over all classes at once have the label `all`; tables stand apart.
    """

    case: str
    pred: Mask
    gt: Mask
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    #: How the two grids lie: `ok`, `shapes only`, `reoriented`, or `ignored: ` and what differs.
    geometry: str
    labels: list[Label]
    counts: dict[str, Counts]
    values: list[Value]
    means: list[Mean]
    notes: list[Note] = field(default_factory=list)
    tables: list[TableValue] = field(default_factory=list)
    #: What options and a convention have to say of the voxels and the measures.
    remarks: list[str] = field(default_factory=list)
    #: The region of interest, where there is one.
    roi: Mask | None = None
    #: What the objects of a label add to a pooled value, by question.
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What the mean row of metrics is of.
    mean_of: MeanOf = field(default_factory=lambda: MeanOf(()))
    #: How open the class of each voxel is, in bits on the grid of gt, where that was asked for.
    entropy_map: Any = field(default=None, repr=False, compare=False)
    #: Where the voxels of the grid lie, (4, 4) in mm; `None` where gt does not say.
    affine: Any = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        labels = ", ".join(label.name for label in self.labels[:MOST_SHOWN])
        labels += f" and {len(self.labels) - MOST_SHOWN} more" * (len(self.labels) > MOST_SHOWN)
        rows = self.means if len(self.labels) > 1 else self.values
        shown = [v for v in rows if v.label in (MEAN, *(label.name for label in self.labels))][:MOST_SHOWN]
        numbers = ", ".join(f"{v.measure} {'undefined' if v.value is None else format(v.value, '.4g')}" for v in shown)
        of = "mean " * (len(self.labels) > 1)
        return f"<Scored {self.case!r}: {labels or 'no label'}" + (f"; {of}{numbers}>" if numbers else ">")

    def value(self, measure: str, label: str | int | None = None) -> float | None:
        """Return one number: `value("dice", label=1)`, `value("hd95", "tumour")`, `value("dice", "mean")`.

        Parameters that `measure` leaves out stand at their defaults, or at what was computed where that
        is one value only; `label` may be left out where there is one label. `None` is undefined.
        Raises `UsageError` for what was not computed.
        """
        bound = bind(measure)
        if bound.measure.kind == "table":
            raise UsageError(f"{measure} is a table, not one number.", hint="it is in .tables", code="measure.kind")
        name = ALL if label is None and bound.over_classes else label_named(label, self.labels)
        rows: list[Value | Mean] = [*self.values, *self.means]
        rows = [v for v in rows if v.label == name]
        exact = [v for v in rows if v.measure == bound.name and v.kind == bound.measure.kind]
        same = [v for v in rows if v.measure.split(":")[0] == bound.measure.name]
        same = [v for v in same if v.kind == bound.measure.kind] or same
        found = exact or (same if ":" not in measure else [])
        if len(found) != 1:
            have = ", ".join(dict.fromkeys(v.measure for v in rows))
            raise UsageError(f"{measure} was not computed for {name}; computed: {have}.", code="measure.missing")
        return found[0].value


def label_named(label: str | int | None, labels: Sequence[Label]) -> str:
    if label is None:
        if len(labels) == 1:
            return labels[0].name
        raise UsageError(f"name a label: {', '.join(x.name for x in labels)} or mean.", code="labels.unnamed")
    text = str(label)
    if text in (MEAN, MEAN_WITHOUT_BACKGROUND, ALL, BACKGROUND.name):
        return text
    for known in labels:
        if known.name == text or (known.values is not None and text == "+".join(map(str, known.values))):
            return known.name
    if text == "1" and len(labels) == 1 and labels[0].values is None:
        return labels[0].name
    raise UsageError(
        f"no label {text}; there are {', '.join(x.name for x in labels)}.",
        hint="labels that --labels names are there even where both masks miss them",
        code="labels.unknown",
    )
