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
from segcli.text import only_once, read_text

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
#: Names of rows of the output, which no label may have.
RESERVED = ("mean", "mean without background", "all")
FOREGROUND = Label("foreground", None)
#: More values than this in a label map are ids of objects rather than classes: atlases of the brain stay below.
MOST_CLASSES = 2048
#: Values that are taken as labels at most: more is no label map, or one of objects.
MOST_LABELS = 1 << 17


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels that a caller names, and the values that the label file says do not count."""

    labels: tuple[Label, ...]
    ignore: tuple[int, ...] | None = None


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
        if name in RESERVED:
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


def _from_file(path: Path) -> tuple[list[Label], tuple[int, ...] | None]:
    try:
        text = read_text(path)
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
    ignore = next((x.values for x in labels if x.name == "ignore" and x.values), None)
    # In these files 0 is the background by definition; a table may give it a class.
    free = reader in (_toml, _csv)
    labels = [x for x in labels if x.name != "ignore" and not (x.values == (0,) and not free)]
    labels = [x for x in labels if not is_background(x.name)]
    if not labels:
        raise InputError(f"{path}: names no label.", hint=_FILES, code="labels.file")
    return labels, ignore


_FILES = "known: nnU-Net or MSD dataset.json, ITK-SNAP label descriptions, TOML (liver = 1), CSV (name,value)"
_INTEGER = re.compile(r"-?\d+")


def _dataset_json(text: str) -> list[Label]:
    document = json.loads(text, object_pairs_hook=only_once)
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


def is_background(name: str) -> bool:
    """Tell whether a name, or none, says that the voxels are of no class."""
    return name.strip().lower() in ("", "background", "bg", "clear label", "_background_", "__background__")
