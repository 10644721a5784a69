"""Labels that come out of the data: what values of a pair are, where nobody named them, and what is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from segcli.errors import InputError
from segcli.masks.labels import FOREGROUND, MOST_CLASSES, MOST_LABELS, Label, is_background
from segcli.masks.mask import Note, Ranges
from segcli.masks.void import holds, looks_void, shown
from segcli.wording import counted


@dataclass(frozen=True, slots=True)
class Found:
    """The labels of a pair and what has to be said about them; `binary` pairs have one, `foreground`.

    `instances`: that nobody named a label, and the values are instances of that one class.
    """

    labels: list[Label]
    binary: bool
    notes: list[Note]
    instances: bool = False


def resolve(
    asked: Sequence[Label] | None,
    pred: Sequence[int],
    gt: Sequence[int],
    *,
    channels: int = 0,
    one_channel: bool = False,
    ignored: Ranges = (),
    names: Mapping[int, str] = MappingProxyType({}),
    instances: bool = False,
) -> Found:
    """Return the labels of a pair from the values that occur in each map.

    `channels` is the number of channels of the prediction, `one_channel` says that it is a single
    probability map, `ignored` are the values that mark void, `names` are those that a table of colours gives to
    values; 0 is a class of its own where it has a name that is not the background's. `instances` says that values are
    to be objects: those that nobody named are objects of one class, unless channels say which classes there are.
    Raises `InputError` for negative values that nobody named and for a single probability map against several labels.
    """
    in_pred, in_gt = [v for v in pred if v], [v for v in gt if v]
    _refuse_negative(asked, in_pred, in_gt)
    zero = {0} if not is_background(names.get(0, "")) else set()
    named = bool(names) and bool({*in_pred, *in_gt, *zero})
    binary = len(in_pred) <= 1 and len(in_gt) <= 1 and channels <= 2 and not named
    if instances and asked is None and not named and (binary or not channels):
        return Found(
            [FOREGROUND], True, _as_instances(in_pred, in_gt, by_probability=one_channel or channels == 2), True
        )
    if one_channel and len(in_gt if asked is None else asked) > 1:
        what = f"labels {_some(in_gt)}" if asked is None else f"--labels names {len(asked)}"
        raise InputError(
            f"the prediction is one probability map, the ground truth has several labels ({what}).",
            hint=f"--ignore-label {void} if {void} marks void"
            if asked is None and (void := looks_void(in_gt)) is not None
            else "--labels fg=any scores everything that is not 0; or give one channel per label",
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
    if binary and (not in_gt or one_foreground([*told, *in_gt])):
        return Found([FOREGROUND], True, [] if channels else _full_scale(told, in_gt))
    values = sorted({*in_pred, *in_gt, *(c for c in range(1, channels) if not holds(ignored, c)), *zero})
    notes = []
    if len(in_pred) == len(in_gt) == 1 and in_pred != in_gt and not channels and not named:
        # Their union stands beside them: whoever meant one foreground sees at once that the values differ only.
        both = Label("foreground", None, is_region=True)
        return Found([both, *(Label(str(v), (v,)) for v in values)], False, [disjoint(in_pred[0], in_gt[0])])
    only_gt, only_pred = sorted(set(in_gt) - set(in_pred)), sorted(set(in_pred) - set(in_gt))
    if only_gt:
        notes.append(Note(f"{_plural(only_gt)} only in the ground truth", code="labels.gt-only"))
    if only_pred:
        notes.append(Note(f"{_plural(only_pred)} only in the prediction", code="labels.pred-only"))
    beyond = [v for v in in_gt if channels and v >= channels]
    if beyond:
        text = f"the prediction has {counted(channels, 'channel')}, none for {_plural(beyond)}"
        notes.append(Note(text, "warning", "channels.few"))
    if len(values) > MOST_LABELS:
        raise InputError(
            f"{len(values)} values would be as many labels; {MOST_LABELS} are the most.",
            hint="a map of objects? --labels cells=any makes them one class; an intensity image is no label map",
            code="labels.many",
        )
    if len(values) > MOST_CLASSES:
        notes.append(
            Note(
                f"{len(values)} values, each taken as a label: ids of objects? --labels cells=any makes them one "
                "class, of which instances=values takes each as an object",
                "warning",
                "labels.many",
            )
        )
    return Found([Label(names.get(v, str(v)), (v,)) for v in values], False, notes)


def _as_instances(pred: Sequence[int], gt: Sequence[int], *, by_probability: bool) -> list[Note]:
    if by_probability:
        have = f"the prediction is one object, the {counted(len(gt), 'value')} of the ground truth are objects"
    elif len(pred) <= 1 and pred == gt:
        return []
    else:
        ours, theirs = (counted(len(side), "value") for side in (pred, gt))
        have = f"the {ours} of the prediction and the {theirs} of the ground truth are objects"
    notes = [
        Note(
            f"instances=values without --labels: {have} of one class, foreground; --labels a=1+2,b=3 names classes",
            code="labels.instances",
        )
    ]
    if any(255 in own and 254 not in own for own in (pred, gt)):
        notes.append(Note("255 is taken as an object; --ignore-label 255 leaves it out", code="labels.instances-void"))
    return notes


def _refuse_negative(asked: Sequence[Label] | None, pred: Sequence[int], gt: Sequence[int]) -> None:
    named = {v for label in asked or () for v in label.values or ()}
    for side, values in (("the prediction", pred), ("the ground truth", gt)):
        negative = [v for v in values if v < 0 and v not in named]
        if negative:
            raise InputError(
                f"{side} has the negative label {negative[0]}.",
                hint=_of_negative(negative, in_gt=values is gt),
                code="labels.negative",
            )


#: Marks of void are small numbers, and few; CT numbers and logits in whole numbers are neither.
_FEW, _SMALL = 3, 128


def _of_negative(negative: Sequence[int], *, in_gt: bool) -> str:
    """Return the next step for negative labels: those of a prediction are never left out."""
    value = negative[0]
    if len(negative) > _FEW or value < -_SMALL:
        what = "intensities, such as CT numbers" if in_gt else "logits (--from-logits) or CT numbers"
        return f"no label map? values down to {value} look like {what}"
    if in_gt:
        return f"--ignore-label {value} leaves those voxels out; --labels x={value} scores them"
    return f"--labels x={value} scores it; what does not count is for the ground truth (--ignore-label) or --roi to say"


def _absent(
    asked: Sequence[Label], pred: Sequence[int], gt: Sequence[int], one_channel: bool, ignored: Ranges
) -> list[Note]:
    notes = []
    there = {*pred}, {*gt}
    for label in asked:
        wanted = label.values
        in_pred = bool(pred) if wanted is None or one_channel else not there[0].isdisjoint(wanted)
        in_gt = bool(gt) if wanted is None else not there[1].isdisjoint(wanted)
        if wanted is not None and 0 in wanted:
            continue
        if not in_pred and not in_gt and wanted is not None and all(holds(ignored, v) for v in wanted):
            text = f"label {label.name} is the one that --ignore-label {shown(ignored)} leaves out"
            notes.append(Note(text, "warning", "labels.ignored"))
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
