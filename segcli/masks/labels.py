"""Labels and regions: what `--labels` says, read from the command line or from a file.

`liver=1,tumour=2,whole=1+2+3,fg=any`, an nnU-Net or MSD `dataset.json`, an ITK-SNAP label file, TOML
or CSV all become a list of `Label`.
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segcli.errors import InputError, UsageError
from segcli.masks.mask import Note

LabelsLike = str | Path | Mapping[str, object] | Sequence[object] | None


@dataclass(frozen=True, slots=True)
class Label:
    """A name and the voxel values it stands for; `values` of `None` is everything that is not 0."""

    name: str
    values: tuple[int, ...] | None
    #: A union of labels: scored like a label, left out of the mean over labels.
    is_region: bool = False

    def spec(self) -> list[int] | str:
        return "any" if self.values is None else list(self.values)


BACKGROUND = Label("background", (0,))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels that a caller names, and the value that the label file says does not count."""

    labels: tuple[Label, ...]
    ignore: int | None = None


def parse_labels(given: LabelsLike) -> LabelSet | None:
    """Return the labels that `given` names, `None` for `None`: then they come out of the data.

    Accepts the command line's text, a path, a mapping `{"liver": 1, "whole": [1, 2]}`, a value or a
    sequence of values. Raises `UsageError` for a text that cannot be read, `InputError` for a file.
    """
    if given is None:
        return None
    ignore = None
    if isinstance(given, Mapping):
        labels = [_label(str(name), values) for name, values in given.items()]
    elif isinstance(given, Path) or (isinstance(given, str) and is_file(given)):
        labels, ignore = _from_file(Path(given))
    elif isinstance(given, str):
        labels = [_from_text(t) for t in given.split(",") if t.strip()]
    elif isinstance(given, Sequence):
        labels = [_label(str(v), v) for v in given]
    else:
        labels = [_label(str(given), given)]
    if not labels:
        raise UsageError("--labels names no label.", hint="for example --labels liver=1,tumour=2", code="labels.empty")
    names = [label.name for label in labels]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--labels names {name!r} twice.", hint="give each label or region its own name", code="labels.twice"
            )
        if name in ("mean", "mean without background", "all"):
            raise UsageError(
                f"--labels: {name!r} is the name of a row of the output.",
                hint="choose another name",
                code="labels.name",
            )
    if len(labels) > 1:  # beside others, everything that is not 0 is their union
        labels = [replace(x, is_region=True) if x.values is None else x for x in labels]
    return LabelSet(tuple(labels), ignore)


_FILE = re.compile(r"\.(json|toml|csv|txt|label|lut)$", re.IGNORECASE)


def is_file(text: str) -> bool:
    """Return whether a text of `--labels` names a file."""
    return _FILE.search(text) is not None


def _from_text(text: str) -> Label:
    name, equals, values = (part.strip() for part in text.partition("="))
    values = values if equals else name
    if not name:
        raise UsageError(f"--labels: {text!r} has no name before '='.", hint=_FORM, code="labels.syntax")
    return _label(name, values)


_FORM = "write value, name=value, name=1+2+3 for a region or name=any for everything that is not 0"


def _label(name: str, values: object) -> Label:
    if isinstance(values, str):
        if values == "any":
            return Label(name, None)
        parts: Iterable[object] = values.split("+")
    elif isinstance(values, (list, tuple)):
        parts = values
    else:
        parts = [values]
    found: list[int] = []
    for part in parts:
        try:
            if isinstance(part, float) and not part.is_integer():
                raise ValueError
            found.append(int(part))  # type: ignore[call-overload]
        except (TypeError, ValueError):
            what = name if name == values else f"{name}={values!s}"
            why = "a value is missing" if part == "" else f"{part!s} is no integer"
            raise UsageError(f"--labels: {what} is not a label: {why}.", hint=_FORM, code="labels.syntax") from None
    if not found:
        raise UsageError(f"--labels: {name} stands for no value.", hint=_FORM, code="labels.syntax")
    values_once = tuple(dict.fromkeys(found))
    return Label(name, values_once, is_region=len(values_once) > 1)


def _from_file(path: Path) -> tuple[list[Label], int | None]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise InputError(
            f"{path}: cannot read the label file ({problem.strerror}).", hint=_FORM, code="labels.file"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: the label file is not text.", hint=_FORM, code="labels.file") from None
    readers = {".json": _dataset_json, ".toml": _toml, ".csv": _csv}
    reader = readers.get(path.suffix.lower(), _itk_snap)
    try:
        labels = reader(text)
    except UsageError as problem:
        raise InputError(
            f"{path}: {problem.message.removeprefix('--labels: ')}", hint=_FILES, code="labels.file"
        ) from None
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as problem:
        raise InputError(f"{path}: not a label file: {problem}.", hint=_FILES, code="labels.file") from None
    ignore = next((x.values[0] for x in labels if x.name == "ignore" and x.values), None)
    labels = [x for x in labels if x.name not in ("ignore", "background") and x.values != (0,)]
    if not labels:
        raise InputError(f"{path}: names no label.", hint=_FILES, code="labels.file")
    return labels, ignore


_FILES = "known: nnU-Net or MSD dataset.json, ITK-SNAP label descriptions, TOML (liver = 1), CSV (name,value)"
_INTEGER = re.compile(r"-?\d+")


def _dataset_json(text: str) -> list[Label]:
    document = json.loads(text)
    labels = document.get("labels")
    if not isinstance(labels, dict):
        raise TypeError('it has no table "labels"')
    # nnU-Net writes {"liver": 1, "whole": [1, 2]}; MSD and nnU-Net v1 write {"1": "liver"}.
    turned = all(_INTEGER.fullmatch(key) and isinstance(value, str) for key, value in labels.items())
    return [_label(str(value), key) if turned else _label(key, value) for key, value in labels.items()]


def _toml(text: str) -> list[Label]:
    table = tomllib.loads(text)
    return [_label(name, value) for name, value in table.get("labels", table).items()]


def _csv(text: str) -> list[Label]:
    dialect = csv.Sniffer().sniff(text, ",;\t") if text.strip() else csv.excel
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), dialect)]
    rows = [row for row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise ValueError("it is empty")
    header = [] if any(_INTEGER.fullmatch(cell) for cell in rows[0]) else [cell.lower() for cell in rows.pop(0)]
    if not rows or min(len(row) for row in rows) < 2:
        raise ValueError("each line needs a name and a value")
    # The columns speak for themselves: values are the integers, names are the last column that is not.
    columns = list(zip(*rows, strict=False))
    numbers = [i for i, cells in enumerate(columns) if all(_INTEGER.fullmatch(c) for c in cells)]
    words = [i for i in range(len(columns)) if i not in numbers]
    if not numbers:
        raise ValueError(f"no column holds integers (the first line of values is {','.join(rows[0])})")
    value = next((i for i in numbers if i < len(header) and header[i] in ("value", "id", "index", "label")), numbers[0])
    named = [i for i in words if i < len(header) and header[i] in ("name", "label", "label_name", "structure", "class")]
    name = named[0] if named else words[-1] if words else value
    return [_label(row[name], row[value]) for row in rows]


def _itk_snap(text: str) -> list[Label]:
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r'\s*(\d+)\s+(?:[\d.]+\s+){6,7}"(.*)"\s*', line)
        if match is None:
            raise ValueError(f"{line.strip()[:40]!r} is no ITK-SNAP label line")
        found.append(_label(match[2], match[1]))
    return found


# --- labels that come out of the data -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The labels of a pair and what has to be said about them; `binary` pairs have one, `foreground`."""

    labels: list[Label]
    binary: bool
    notes: list[Note]


def resolve(
    asked: Sequence[Label] | None,
    pred: Sequence[int],
    gt: Sequence[int],
    *,
    channels: int = 0,
    one_channel: bool = False,
    ignored: int | None = None,
) -> Found:
    """Return the labels of a pair from the values that occur in each map.

    `channels` is the number of channels of the prediction, `one_channel` says that it is a single
    probability map, `ignored` is the value that marks ignored voxels. Raises `InputError` for negative
    values that nobody named and for a single probability map against several labels.
    """
    in_pred, in_gt = [v for v in pred if v], [v for v in gt if v]
    _refuse_negative(asked, in_pred, in_gt)
    if one_channel and len(in_gt if asked is None else asked) > 1:
        what = f"labels {_some(in_gt)}" if asked is None else f"--labels names {len(asked)}"
        raise InputError(
            f"the prediction is one probability map, the ground truth has several labels ({what}).",
            hint="--labels fg=any scores everything that is not 0; or give one channel per label",
            code="kind.mixed",
        )
    if one_channel and asked is not None and 0 in (asked[0].values or ()):
        raise InputError(
            f"the prediction is one probability map, of the foreground; {asked[0].name} has the value 0.",
            hint="name the label that the map is for, or fg=any",
            code="kind.mixed",
        )
    if asked is not None:
        return Found(list(asked), False, _absent(asked, in_pred, in_gt, one_channel, ignored))
    # A single map is that of the one label, whatever its value; the second of two channels is label 1.
    told = [] if one_channel else [1] if channels == 2 else in_pred
    if len(in_pred) <= 1 and len(in_gt) <= 1 and channels <= 2 and (not in_gt or one_foreground([*told, *in_gt])):
        return Found([Label("foreground", None)], True, [] if channels else _full_scale(told, in_gt))
    values = sorted({*in_pred, *in_gt, *range(1, channels)})
    notes = []
    if len(in_pred) == len(in_gt) == 1 and in_pred != in_gt and not channels:
        # Their union stands beside them: whoever meant one foreground sees at once that the values differ only.
        both = Label("foreground", None, is_region=True)
        return Found([both, *(Label(str(v), (v,)) for v in values)], False, [disjoint(in_pred[0], in_gt[0])])
    only_gt, only_pred = sorted(set(in_gt) - set(in_pred)), sorted(set(in_pred) - set(in_gt))
    if only_gt:
        notes.append(Note(f"{_plural(only_gt)} only in the ground truth", code="labels.gt-only"))
    if only_pred:
        notes.append(Note(f"{_plural(only_pred)} only in the prediction", code="labels.pred-only"))
    if 255 in {*only_gt, *only_pred} and len(values) > 1:
        notes.append(
            Note("255 often marks voxels that do not count: --ignore-label 255 leaves them out", code="labels.void")
        )
    beyond = [v for v in in_gt if channels and v >= channels]
    if beyond:
        notes.append(
            Note(f"the prediction has {channels} channels, none for {_plural(beyond)}", "warning", "channels.few")
        )
    return Found([Label(str(v), (v,)) for v in values], False, notes)


def _refuse_negative(asked: Sequence[Label] | None, pred: Sequence[int], gt: Sequence[int]) -> None:
    named = {v for label in asked or () for v in label.values or ()}
    for side, values in (("the prediction", pred), ("the ground truth", gt)):
        negative = [v for v in values if v < 0 and v not in named]
        if negative:
            raise InputError(
                f"{side} has the negative label {negative[0]}.",
                hint=f"--ignore-label {negative[0]} leaves those voxels out; --labels x={negative[0]} scores them",
                code="labels.negative",
            )


def _absent(
    asked: Sequence[Label], pred: Sequence[int], gt: Sequence[int], one_channel: bool, ignored: int | None
) -> list[Note]:
    notes = []
    for label in asked:
        wanted = label.values
        in_pred = bool(pred) if wanted is None or one_channel else bool({*pred} & {*wanted})
        in_gt = bool(gt) if wanted is None else bool({*gt} & {*wanted})
        if wanted is not None and 0 in wanted:
            continue
        if not in_pred and not in_gt and wanted == (ignored,):
            notes.append(
                Note(
                    f"label {label.name} is the one that --ignore-label {ignored} leaves out",
                    "warning",
                    "labels.ignored",
                )
            )
        elif not in_pred and not in_gt:
            have = f"; the files hold {_some(sorted({*pred, *gt}))}" if pred or gt else ""
            notes.append(Note(f"label {label.name} is in neither file{have}", "warning", "labels.absent"))
        elif not in_pred:
            notes.append(Note(f"label {label.name} only in the ground truth", code="labels.gt-only"))
        elif not in_gt:
            notes.append(Note(f"label {label.name} only in the prediction", code="labels.pred-only"))
    return notes


#: What writers of binary masks call foreground: 1, or the largest number of their type.
FULL_SCALE = {1, 255, 65535}
#: The note on a pair of two such values; a cohort that takes values for labels has to take it back.
BOTH_READ = "labels.full-scale"


def one_foreground(values: Iterable[int]) -> bool:
    """Return whether values of several binary masks can be the same foreground: one value, or each its full scale."""
    found = set(values)
    return len(found) <= 1 or found <= FULL_SCALE


def _full_scale(pred: Sequence[int], gt: Sequence[int]) -> list[Note]:
    if not pred or not gt or pred[0] == gt[0]:
        return []
    text = f"foreground is {pred[0]} in the prediction and {gt[0]} in the ground truth; both read as foreground"
    return [Note(text, code=BOTH_READ)]


def disjoint(pred: int, gt: int) -> Note:
    """Return what to say of a pair whose files have one value each, and not the same."""
    return Note(
        f"the prediction holds label {pred} alone, the ground truth label {gt} alone "
        "(--labels fg=any scores everything that is not 0 as one)",
        "warning",
        "labels.disjoint",
    )


def _plural(values: Sequence[int]) -> str:
    return f"label{'s' if len(values) > 1 else ''} {_some(values)}"


def _some(values: Sequence[int], most: int = 12) -> str:
    text = ", ".join(str(v) for v in values[:most])
    return text + (f" and {len(values) - most} more" if len(values) > most else "")
