"""One case of a cohort: two files in, plain records out. This is what a worker process runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from segcli.errors import SegcliError
from segcli.masks.reading import Reading
from segcli.measure import BoundMeasure, parse

if TYPE_CHECKING:
    from segcli.evaluate import Scored
    from segcli.loading import Loaded
    from segcli.masks.mask import Mask

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed of every case. It travels to the workers: words, numbers and no arrays."""

    metrics: tuple[str, ...]
    losses: tuple[str, ...]
    reading: Reading
    empty: str = "undefined"
    background: bool = True
    average: str = "macro"
    strict: bool = False

    def measures(self) -> tuple[list[BoundMeasure], list[BoundMeasure]]:
        """Return the metrics and the losses."""
        return parse("metric", self.metrics), parse("loss", self.losses)


@dataclass(frozen=True, slots=True)
class Task:
    """The two files of one case; an empty `pred` is a prediction that is not there: nothing is predicted."""

    case: str
    pred: str
    gt: str


def score_task(plan: Plan, task: Task) -> list[Record]:
    """Return the records of a case: one, or one for each image of a stack; an error is a record too.

    A record is a case of the run document, with what only the whole cohort can decide beside it: the values
    that occur in each file (`occur`), and where both files have one value, and not the same, the scores of
    these values as labels (`literal`). An error has `case` and `error`: code and message.
    """
    try:
        return _score(plan, task)
    except SegcliError as problem:
        return [_error(task, problem.code or "input", problem.message)]
    except MemoryError:
        return [_error(task, "memory", f"{task.pred}: not enough memory")]
    except OSError as problem:
        return [_error(task, "read", f"{problem.filename or task.pred}: {problem.strerror or problem}")]
    except Exception as problem:  # noqa: BLE001 (a case that fails is a row, never the end of the run)
        return [_error(task, "internal", f"{type(problem).__name__}: {problem}")]


def _error(task: Task, code: str, message: str) -> Record:
    return {"case": task.case, "error": {"code": code, "message": " ".join(message.split())}}


def _score(plan: Plan, task: Task) -> list[Record]:
    from segcli.loading import load, read_side

    if not task.pred:
        return [_of_nothing(plan, read_side(task.gt, "gt", plan.reading, sha256=True), task.case)]
    found = load(task.pred, task.gt, plan.reading, sha256=True, strict=plan.strict)
    several = plan.reading.stack
    return [_record(plan, loaded, f"{task.case}[{i}]" if several else task.case) for i, loaded in enumerate(found)]


def _of_nothing(plan: Plan, gt: Mask, case: str) -> Record:
    """Return the record of a case without a prediction: an empty mask, and the worst value of every distance."""
    import numpy as np

    from segcli.loading import load

    nothing = replace(gt, array=np.zeros(gt.shape, dtype=np.uint8), name="", sha256="", kind="labels", notes=())
    worst = replace(plan, empty="worst")
    return _record(worst, load(nothing, gt, plan.reading)[0], case) | {"status": "missing"}


def _record(plan: Plan, loaded: Loaded, case: str) -> Record:
    from segcli.run import case_record

    scored = replace(_scored(plan, loaded), case=case)
    occur = {side: [v for v in loaded.case.label_values(side) if v] for side in ("pred", "gt")}
    record = case_record(scored) | {"occur": occur, "voxels": _voxels(loaded)}
    values = {*occur["pred"], *occur["gt"]}
    if loaded.binary and len(values) > 1 and loaded.grid.prob is None:
        record["literal"] = _literal(plan, loaded, sorted(values))
    return record


def _scored(plan: Plan, loaded: Loaded) -> Scored:
    from segcli.evaluate import score_loaded

    metrics, losses = plan.measures()
    return score_loaded(loaded, metrics, losses, empty=plan.empty, background=plan.background, average=plan.average)


def _voxels(loaded: Loaded) -> int:
    valid = loaded.grid.valid
    return int(loaded.grid.gt.size if valid is None else valid.sum())


def _literal(plan: Plan, loaded: Loaded, values: Sequence[int]) -> Record:
    """Return labels, counts and values of a binary pair with each value as a label of its own."""
    from segcli.masks.labels import Label
    from segcli.pair import Case
    from segcli.run import case_record

    grid = loaded.grid
    labels = [Label(str(v), (v,)) for v in values]
    case = Case(grid.pred, grid.gt, labels, spacing=grid.spacing, unit=grid.unit, valid=grid.valid)
    record = case_record(_scored(plan, replace(loaded, case=case, binary=False)))
    return {key: record[key] for key in ("labels", "counts", "values")}
