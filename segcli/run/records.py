"""What a run is made of: the options, what each case gave, and what follows from all cases together.

These are the records of a run file (`segcli.run/1`), which `codec.py` reads and writes. What a hand-made file or
one of another tool may lack is `None`, and stays out of what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from segcli.evidence.counts import Counts
from segcli.masks.mask import Note
from segcli.scoring.means import Mean, MeanOf
from segcli.scoring.values import TableValue, Value

__all__ = [
    "Case",
    "ClassTable",
    "Counts",
    "Failure",
    "File",
    "Key",
    "LabelValues",
    "Mean",
    "MeanOf",
    "Missing",
    "Note",
    "NoteKind",
    "Spec",
    "Summary",
    "TableValue",
    "Value",
]  # fmt: skip

#: What a column of values is of: label, kind, canonical measure.
Key = tuple[str, str, str]
#: What a label stands for: voxel values, or `any` that is not 0.
LabelValues = list[int] | str
Side = Literal["pred", "gt"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a case, its path relative to the run file; `sha256` is `None` where nobody hashed it."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case that was scored: its files, its grid, and a value for each label and measure.

    `status` is "missing" where a prediction that is not there was scored as an empty mask. `values` holds no label
    and measure twice. `means` is `None` where the tool that wrote the file has no means of each case.
    """

    name: str
    status: str = "ok"
    group: Mapping[str, str] = field(default_factory=dict)
    pred: File | None = None
    gt: File | None = None
    roi: File | None = None
    #: Voxels along each axis, and the size of one in `unit`.
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None
    geometry: str | None = None
    notes: tuple[Note, ...] = ()
    labels: Mapping[str, LabelValues] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    values: list[Value]
    means: list[Mean] | None = None
    tables: list[TableValue] = field(default_factory=list)
    #: For each label what the case adds to pooled values, by question.
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """A case of which one side has no file: `side` is the one that is missing, `path` the file that is there."""

    case: str
    side: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be scored: why, and the next step where there is one (`hint`)."""

    case: str
    code: str
    message: str
    hint: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class NoteKind:
    """The notes of one kind: `text` is that of the first case, `texts` how many different ones there are."""

    level: str
    code: str
    text: str
    texts: int
    cases: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One label and measure over cases, with its interval and spread; or over the labels of one case (`over`).

    `n` values count, `undefined` have none, `policy` come from a rule for empty masks. `pooled` is the measure of all
    cases together. Of the mean row `mean_of` names what it is of; with `by_label` it is nnU-Net's mean over labels.
    """

    label: str
    kind: str
    measure: str
    over: str
    unit: str = ""
    group: Mapping[str, str] = field(default_factory=dict)
    n: int = 0
    mean: float | None = None
    sd: float | None = None
    p05: float | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    p95: float | None = None
    min: float | None = None
    max: float | None = None
    ci: tuple[float, float] | None = None
    ci_method: str | None = None
    ci_level: float | None = None
    resamples: int | None = None
    seed: int | None = None
    undefined: int = 0
    policy: int = 0
    missed: int = 0
    false_alarms: int = 0
    pooled: float | None = None
    mean_of: tuple[str, ...] | None = None
    by_label: bool = False
    #: Of a row over labels, where the run has several cases.
    case: str | None = None

    @property
    def key(self) -> Key:
        return self.label, self.kind, self.measure


@dataclass(frozen=True, slots=True)
class ClassTable:
    """Counts of all cases summed: rows under named columns, over `n` cases."""

    label: str
    measure: str
    n: int
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Spec:
    """Every option that can change a number of the run, as it was told; of another tool's file what that says."""

    told: Mapping[str, Any]

    @property
    def measures(self) -> list[str]:
        """Return the full ids of the measures: `metric.hd95:surface=surfel`."""
        return self.told["measures"]  # type: ignore[no-any-return]

    @property
    def labels(self) -> Mapping[str, LabelValues] | None:
        """Return the labels that were named; `None` where the files say what there is."""
        return self.told.get("labels")

    @property
    def source(self) -> str | None:
        """Return the tool that computed the values, where that is not segcli."""
        return self.told.get("source")

    @property
    def empty(self) -> str:
        return self.told.get("empty") or "undefined"

    @property
    def convention(self) -> str | None:
        return self.told.get("convention")

    @property
    def missing(self) -> str:
        return self.told.get("missing") or "fail"
