"""One case of a cohort: two files in, plain records out. This is what a worker process runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.cohort.pairing import is_there
from segcli.errors import InputError, SegcliError
from segcli.evidence.parts import CLASSES
from segcli.masks.labels import Label
from segcli.masks.reading import Reading
from segcli.measure.notation import parse
from segcli.measure.record import BoundMeasure
from segcli.scoring.means import ALL

if TYPE_CHECKING:
    from segcli.masks.mask import Mask
    from segcli.measure.conventions import Convention
    from segcli.scoring.loading import Loaded

Record = dict[str, Any]
#: What most records of a cohort have in common.
REPEATED = ("group", "notes", "labels", "regions", "occur", "absent", "tables")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed of every case. It travels to the workers: words, numbers and no arrays."""

    metrics: tuple[str, ...]
    losses: tuple[str, ...]
    reading: Reading
    empty: str = "undefined"
    background: bool = True
    average: str = "macro"
    #: The labels and regions that the mean row is of, where they are named.
    mean_over: tuple[str, ...] | None = None
    strict: bool = False
    #: The tool whose definitions the names stand for.
    convention: str | None = None

    @property
    def rules(self) -> Convention | None:
        """Return what the convention makes of the measures; `None` without one."""
        return _rules(self.convention, self.metrics, self.losses)

    def measures(self) -> tuple[list[BoundMeasure], list[BoundMeasure]]:
        """Return the metrics and the losses."""
        rules = self.rules
        if rules is not None:
            return rules.metrics, rules.losses
        return _measures(self.metrics, self.losses)

    @property
    def by_value(self) -> bool:
        """Return whether each value of a label is an object to a metric."""
        return any(bound.by_value for bound in self.measures()[0])


# Every case of a run asks for these, three times; finding them can take longer than counting a case.


@cache
def _rules(convention: str | None, metrics: tuple[str, ...], losses: tuple[str, ...]) -> Convention | None:
    from segcli.scoring.empty import conventional

    return conventional(convention, metrics, losses, None)


@cache
def _measures(metrics: tuple[str, ...], losses: tuple[str, ...]) -> tuple[list[BoundMeasure], list[BoundMeasure]]:
    return parse("metric", metrics), parse("loss", losses)


@dataclass(frozen=True, slots=True)
class Task:
    """The files of one case; an empty `pred` is a prediction that is not there: nothing is predicted.

    An empty `roi` is the whole image.
    """

    case: str
    pred: str
    gt: str
    roi: str = ""

    @property
    def files(self) -> dict[str, str]:
        """Return the files by what they are: `pred`, `gt`, and `roi` where there is one."""
        return {"pred": self.pred, "gt": self.gt} | ({"roi": self.roi} if self.roi else {})


def score_task(plan: Plan, task: Task) -> list[Record]:
    """Return the records of a case: one, or one for each image of a stack; an error is a record too.

    A record is a case of the run document, with what only the whole cohort can decide beside it: the file
    case it is `of`, the values that occur in each file (`occur`), whether the prediction is one probability
    map (`one_map`), and where no labels are named what each value is as a label of its own (`literal`, of a
    pair that was scored as binary) and what a label is that neither file has (`absent`); or that the values are
    objects of one class (`instances`).
    An error has `case`, `pred`, `gt` and `error`: code, message and, where there is one, the next step (`hint`).
    """
    try:
        return _score(plan, task)
    except SegcliError as problem:
        return [error_record(task, problem.code or "input", problem.message, problem.hint)]
    except MemoryError:
        return [error_record(task, "memory", "not enough memory")]
    except OSError as problem:
        return [error_record(task, "read", f"{problem.filename or task.pred}: {problem.strerror or problem}")]
    except Exception as problem:  # noqa: BLE001 (a case that fails is a row, never the end of the run)
        return [error_record(task, "internal", f"{type(problem).__name__}: {problem}")]


def error_record(task: Task, code: str, message: str, hint: str = "") -> Record:
    """Return the record of a case that failed."""
    files = {side: {"path": path} for side, path in task.files.items()}
    error = {"code": code, "message": _sided(task, message)} | ({"hint": _sided(task, hint)} if hint else {})
    return {"case": task.case, "of": task.case, **files, "error": error}


def _sided(task: Task, text: str) -> str:
    """Return a message in which a file of the case is `pred` or `gt`: its path depends on who asked from where."""
    names = [(path, side) for side, path in task.files.items()] + ([(f"ROI {task.roi}", "roi")] if task.roi else [])
    for path, side in sorted(names, key=lambda pair: -len(pair[0])):
        text = text.replace(path, side) if path else text
    return " ".join(text.split())


def _score(plan: Plan, task: Task) -> list[Record]:
    from segcli.scoring.loading import load, read_side

    if task.roi:
        if not is_there(Path(task.roi)):
            raise InputError("it has no region of interest: that file does not exist.", code="roi.missing")
        plan = replace(plan, reading=replace(plan.reading, roi=task.roi))
    if task.pred:
        found = load(task.pred, task.gt, plan.reading, sha256=True, strict=plan.strict, instances=plan.by_value)
        # In a cohort the values of all cases decide what a label is.
        records = [_record(plan, x if plan.reading.labels is not None else x.literal()) for x in found]
    else:
        records = _of_nothing(plan, read_side(task.gt, "gt", plan.reading, sha256=True))
    for index, record in enumerate(records):
        record["case"] = f"{task.case}[{index}]" if plan.reading.stack else task.case
        record["of"] = task.case
        record["notes"] = [{**note, "text": _sided(task, note["text"])} for note in record["notes"]]
    return records


def _of_nothing(plan: Plan, gt: Mask) -> list[Record]:
    """Return the records of a case without a prediction: the worst values of what gt has, else those of an empty mask.

    Those of an empty mask are losses, and metrics for whose misses no value stands. A label that gt has not either is
    missed by nobody: it is what it is in any other case.
    """
    import numpy as np

    from segcli.scoring.loading import load

    nothing = replace(gt, array=np.zeros(gt.shape, dtype=np.uint8), name="", sha256="", kind="labels", notes=())
    records = []
    # An empty mask has the axes of the ground truth, whatever those of the predictions are.
    reading = replace(plan.reading, channel_axis=None, channels=None, axes=None)
    for loaded in load(nothing, gt, reading, sha256=True, instances=plan.by_value):
        record, usual = (_record(replace(plan, empty=empty), loaded) for empty in ("worst", plan.empty))
        for part, other in [(record, usual), *([(record["literal"], usual["literal"])] if "literal" in record else [])]:
            there = {name: c["tp"] + c["fn"] > 0 for name, c in part["counts"].items()}
            there[ALL] = any(there.values())
            pairs = zip(part["values"], other["values"], strict=True)
            part["values"] = [_missed(mine, record) if there.get(mine["label"], True) else its for mine, its in pairs]
        if "absent" in record:
            record["absent"] = usual["absent"]
        records.append(record | {"status": "missing"})
    return records


def _missed(value: Record, case: Record) -> Record:
    """Return a value of an empty prediction as that of a missing one: of a metric the worst, where there is one."""
    from segcli.measure.notation import bind
    from segcli.run.alignment import longest

    if value["kind"] != "metric":
        return value
    diagonal = longest(case["shape"], case["spacing"], case["unit"], value["unit"])
    worst = bind(value["measure"], "metric").worst(diagonal)
    if worst is None or worst == value["value"]:
        return value
    return {**value, "value": worst, "status": "policy", "why": "pred_empty"}


def _record(plan: Plan, loaded: Loaded) -> Record:
    from segcli.run.codec import value_to
    from segcli.scoring.empty import parts_of
    from segcli.scoring.score import values_of

    record = _scored_record(plan, loaded)
    one_map = loaded.grid.prob is not None and loaded.grid.channels == 0
    occur = {side: [v for v in loaded.case.maps.label_values(side) if v] for side in ("pred", "gt")}
    record |= {"occur": occur, "one_map": one_map}
    if loaded.instances:
        return record | {"instances": True}
    if plan.reading.labels is not None or one_map:
        return record
    values = sorted({*occur["pred"], *occur["gt"]})
    unused = Label("", (max([*values, loaded.grid.channels], default=0) + 1,))
    # A value as a label of its own: the same numbers under its name, but for what sees the background.
    wide = any(b.over_classes for b in plan.measures()[0])
    written = loaded.written or loaded  # among several labels void is a false alarm of none
    if loaded.binary and (len(values) > 1 or plan.losses or wide or record["tables"] or written is not loaded):
        labels = [Label(str(v), (v,)) for v in values] or [unused]
        record["literal"] = _without(unused, _scored_record(plan, _relabelled(written, labels)))
    beside = _relabelled(written, [unused])
    record["absent"] = {
        "counts": beside.case.counts(0)._asdict(),
        "values": [value_to(v) for v in values_of(beside, 0, *plan.measures(), empty=plan.empty)],
    }
    if parts := parts_of((b for b in plan.measures()[0] if not b.over_classes), beside.case.pair(0)):
        record["absent"]["parts"] = parts
    return record


def _without(unused: Label, record: Record) -> Record:
    """Return what depends on the labels, without the one that only stood for those of other cases."""
    kept = {key: record[key] for key in ("labels", "regions", "counts", "values", "means", "tables")}
    kept["parts"] = record.get("parts", {})
    for key in ("labels", "counts", "parts"):
        kept[key].pop(unused.name, None)
    for sums in kept["parts"].get(ALL, {}).get(CLASSES, {}).values():
        sums.pop(unused.name, None)
    for key in ("values", "tables"):
        kept[key] = [row for row in kept[key] if row["label"] != unused.name]
    for table in kept["tables"]:
        if table["measure"] == "confusion":  # of classes, the unused one among them
            at = [i for i, name in enumerate(table["columns"]) if name != unused.name]
            table["columns"] = [table["columns"][i] for i in at]
            table["rows"] = [[row[i] for i in at] for row in table["rows"] if row[0] != unused.name]
    return kept


def _relabelled(loaded: Loaded, labels: Sequence[Label]) -> Loaded:
    """Return a loaded pair with other labels."""
    twin = replace(loaded, written=None, case=loaded.case.with_labels(labels), binary=False)
    if loaded.grid.prob is not None:
        twin.case.probabilities = twin
    return twin


def _scored_record(plan: Plan, loaded: Loaded) -> Record:
    from segcli.run.codec import case_to
    from segcli.run.document import case_of
    from segcli.scoring.score import score_loaded

    metrics, losses = plan.measures()
    options: dict[str, Any] = {"empty": plan.empty, "background": plan.background, "average": plan.average}
    options |= {"convention": plan.rules, "mean_over": plan.mean_over}
    options["lenient"] = plan.reading.labels is None  # a label that only other cases have
    return case_to(case_of(score_loaded(loaded, metrics, losses, **options)))
