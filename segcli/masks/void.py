"""Voxels that do not count: void, by a value of the ground truth, and what lies outside a region of interest.

Void is what the ground truth says: a prediction that writes the value where it is wrong must not gain by it. There it
is no label, and a wrong class.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segcli.errors import InputError, UsageError
from segcli.masks.mask import Note, Ranges

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.masks.labels import Label
    from segcli.masks.reading import Reading

#: The note on void that one label counts as false alarms; a cohort of several labels has to take it back.
CHARGED = "void.charged"

IgnoreLike = int | str | range | Iterable[int] | None

#: The largest label that is told apart.
_MOST = 2**63 - 1
_FORM = "a value 255, a list 255,3 or a range 250..255"
_PART = re.compile(r"(-?\d{1,25})(?:\.\.(-?\d{1,25}))?", re.ASCII)


def parse_ignored(given: IgnoreLike) -> Ranges:
    """Return the values that mark void as ranges; none for `None`.

    Accepts the command line's text (`255,3`, `250..255`), an integer, a `range` or any collection of integers. Raises
    `UsageError` for what names no value, is no integer or runs backwards.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        parts = [_from_text(part.strip(), given) for part in given.split(",")]
    elif isinstance(given, range) and given.step == 1 and given:
        parts = [_checked(given[0], given[-1])]
    else:
        values: Iterable[object] = [given] if not isinstance(given, Iterable) or isinstance(given, bytes) else given
        parts = [_checked(value, value) for value in map(_integer, values)]
    if not parts:
        raise UsageError("--ignore-label names no value.", hint=_FORM, code="labels.ignore")
    joined: list[tuple[int, int]] = []
    for low, high in sorted(parts):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def ignored_of(given: IgnoreLike, where: str) -> Ranges:
    """Return the values that mark void in the files that `where` names; raise `UsageError` for what cannot be."""
    found = parse_ignored(given)
    if where not in ("gt", "either"):
        raise UsageError(f"--ignore-in {where} is not gt or either.", code="labels.ignore")
    if where == "either" and not found:
        raise UsageError(
            "--ignore-in either: no value is ignored.", hint="--ignore-label 255 names one", code="labels.ignore"
        )
    return found


def _from_text(part: str, whole: str) -> tuple[int, int]:
    found = _PART.fullmatch(part)
    if found is None:
        why = f"{part!r:.40} is no integer" if part else "a value is missing"
        raise UsageError(f"--ignore-label {whole:.60}: {why}.", hint=_FORM, code="labels.ignore")
    return _checked(int(found[1]), int(found[2] or found[1]))


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise UsageError(f"--ignore-label {value} is no integer.", hint=_FORM, code="labels.ignore")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"--ignore-label {value!r:.40} is no integer.", hint=_FORM, code="labels.ignore") from None


def _checked(low: int, high: int) -> tuple[int, int]:
    beyond = [v for v in (low, high) if abs(v) > _MOST]
    if beyond:
        raise UsageError(f"--ignore-label {beyond[0]} is beyond what a label can be, 2^63-1.", code="labels.ignore")
    if low > high:
        raise UsageError(
            f"--ignore-label {low}..{high} runs backwards.", hint=f"{high}..{low} has both ends", code="labels.ignore"
        )
    return low, high


def shown(ranges: Ranges) -> str:
    """Return ranges as they are typed: `3,250..255`."""
    return ",".join(str(a) if a == b else f"{a}..{b}" for a, b in ranges)


def as_spec(ranges: Ranges) -> int | str | None:
    """Return ranges as a run file has them: one value as a number, more as a text, none as null."""
    if not ranges:
        return None
    return ranges[0][0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else shown(ranges)


def holds(ranges: Ranges, value: int) -> bool:
    return any(low <= value <= high for low, high in ranges)


def marked(array: NDArray[Any], ranges: Ranges) -> NDArray[np.bool_]:
    """Return where an array has a value of the ranges, as booleans of its shape."""
    import numpy as np

    found = np.zeros(array.shape, dtype=bool)
    for low, high in ranges:
        found |= array == low if low == high else (array >= low) & (array <= high)
    return found


def members(array: NDArray[Any], label: Label, void: Ranges) -> NDArray[np.bool_]:
    """Return where an array has a label, as booleans of its shape: a value that marks void is none."""
    import numpy as np

    if label.values is None:
        return np.asarray(array != 0) & ~marked(array, void) if void else np.asarray(array != 0)
    values = [v for v in label.values if not holds(void, v)]
    return np.asarray(array == values[0] if len(values) == 1 else np.isin(array, values))


def spec_of_void(reading: Reading, *, roi: bool = False) -> dict[str, Any]:
    """Return what a run file says of the voxels that do not count: of an option that has no part in it nothing."""
    found: dict[str, Any] = {"ignore": as_spec(reading.ignore)}
    if reading.ignore:
        found["ignore_in"] = reading.ignore_in
    return found | ({"roi": True} if roi or reading.roi is not None else {})


def where_from(ignore: int | str, ignore_in: str) -> str:
    """Return which voxels are void: `255 in the ground truth`."""
    return f"{ignore} in either file: --ignore-in either" if ignore_in == "either" else f"{ignore} in the ground truth"


def ignored_in(spec: Mapping[str, Any]) -> str | None:
    """Return the file that void is looked for in, from the spec of a run; `None` where nothing is ignored.

    A run that ignores a value and does not say is of a version that looked into either file.
    """
    return None if spec.get("ignore") is None else str(spec.get("ignore_in", "either"))


def remarks(spec: Mapping[str, Any]) -> list[str]:
    """Return what a table has to say of the voxels that were left out, from the spec of a run."""
    found = []
    if spec.get("ignore") is not None:
        found.append(f"ignored: {where_from(spec['ignore'], ignored_in(spec) or '')}")
    return found + ["only voxels inside the regions of interest count (--roi)"] * bool(spec.get("roi"))


# --- which voxels of a pair count -------------------------------------------------------------------


def counted(
    gt: NDArray[Any] | None,
    hard: NDArray[Any] | None,
    roi: NDArray[np.bool_] | None,
    reading: Reading,
    notes: list[Note],
) -> NDArray[np.bool_] | None:
    """Return the voxels that count, `None` where all do, and add to `notes` how many do not and why.

    `gt` and `hard`, the prediction, are label maps of one shape; `None` where that side holds no literal values: void
    has none then, nor has it a wrong class. `roi` is true inside the region of interest, `None` without one.
    Raises `InputError` where nothing is left.
    """
    import numpy as np

    ranges, either = reading.ignore, reading.ignore_in == "either"
    valid = _in_region(roi, notes)
    if not ranges:
        return valid
    ignored = None if gt is None else marked(gt, ranges)
    if either and hard is not None:
        ignored = marked(hard, ranges) if ignored is None else ignored | marked(hard, ranges)
    count = 0 if ignored is None else int(np.count_nonzero(ignored))
    if ignored is None or not count:
        where = "occurs in neither file" if either else "does not occur in the ground truth"
        notes.append(Note(f"--ignore-label {shown(ranges)} {where}", code="void.none"))
    else:
        text = where_from(shown(ranges), reading.ignore_in)
        notes.append(Note(f"{count} of {ignored.size} voxels ignored ({text})", code="void.ignored"))
        valid = ~ignored if valid is None else valid & ~ignored
        if not valid.any():
            what = "ignored" if roi is None else "ignored or outside the ROI"
            raise InputError(f"every voxel is {what}; nothing is left to score.", code="labels.ignored")
    if hard is not None and not either:
        notes += _wrong(hard, valid, ranges)
    return valid


def _in_region(roi: NDArray[np.bool_] | None, notes: list[Note]) -> NDArray[np.bool_] | None:
    import numpy as np

    if roi is None:
        return None
    outside = roi.size - int(np.count_nonzero(roi))
    if outside == roi.size:
        raise InputError(
            "every voxel is outside the ROI; nothing is left to score.",
            hint="a region of interest is what is not 0 in --roi",
            code="roi.empty",
        )
    notes.append(Note(f"{outside} of {roi.size} voxels outside the ROI", code="void.roi"))
    return roi if outside else None


def _wrong(hard: NDArray[Any], valid: NDArray[np.bool_] | None, ranges: Ranges) -> list[Note]:
    """Return what is to be said of a prediction that holds values of void where the ground truth counts."""
    import numpy as np

    own = marked(hard, ranges)
    count = int(np.count_nonzero(own if valid is None else own & valid))
    if not count:
        return []
    text = shown(ranges)
    if (own & (hard != 0)).any() and not ((hard != 0) & ~own).any():
        return [
            Note(
                f"the prediction holds no label beside {text}, which is ignored: nothing is predicted "
                "(--prob-scale 255 reads a mask of 0 and 255)",
                "warning",
                "void.all",
            )
        ]
    voxels = f"{count} voxels that count" if count != 1 else "1 voxel that counts"
    return [Note(f"{text} in the prediction at {voxels}: no label, and wrong there", code="void.predicted")]


def void_channels(count: int, ranges: Ranges) -> list[Note]:
    """Return what is to be said of the channels of a prediction that are of a value of void."""
    own = [str(c) for c in range(count) if holds(ranges, c)]
    if not own:
        return []
    what = f"channel{'s' * (len(own) > 1)} {', '.join(own)} of the prediction"
    text = f"{what}: of an ignored label, without a row; where it is the largest it is wrong"
    return [Note(text, code="void.channel")]


def decided(
    pred: NDArray[Any],
    gt: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    label: Label,
    ranges: Ranges,
    *,
    fresh: bool = False,
) -> tuple[NDArray[Any], int]:
    """Return a prediction of one label in which void is the wrong one of two classes, and how often it is the label.

    Of one label there are two classes, it and everything else. A voxel predicted as neither is wrong in both: inside
    the label a miss, outside a false alarm. Taken for everything else it would be right wherever the label is not, and
    a prediction would gain by writing it over its false alarms. A predicted 0 claims nothing, also where 0 marks void.
    `fresh`: values are objects, and these voxels are one of their own.
    """
    import numpy as np

    void = marked(pred, ranges) & (pred != 0)
    if valid is not None:
        void &= valid
    if not void.any():
        return pred, 0
    outside = void & ~members(gt, label, ranges)
    # Any value of the label; of everything that is not 0 the first that marks no void.
    first = 1 + max(int(pred.max()), int(gt.max())) if fresh else 1
    known = (
        (first, *(high + 1 for _, high in ranges if first <= high < _MOST)) if label.values is None else label.values
    )
    value = next((v for v in known if not holds(ranges, v)), 0)
    fits = np.can_cast(np.min_scalar_type(value), pred.dtype)
    found = np.array(pred, dtype=pred.dtype if fits else np.int64, order="K")
    if label.values is None or 0 not in label.values:
        found[void] = 0
    found[outside] = value
    return found, int(np.count_nonzero(outside))


# --- void that nobody named -------------------------------------------------------------------------

#: Labels of classes begin low and leave a gap below the mark of void.
_LOW, _GAP, _CLASSES = 50, 0.8, 1023


def looks_void(values: Sequence[int], largest: int = 255) -> int | None:
    """Return the value of a ground truth that looks like void: 255, or the largest of its type, beside small labels.

    Alone it is the foreground of a mask, after labels up to it one instance of many, and in steps up to it
    (0, 128, 255) a grey value.
    """
    for mark in dict.fromkeys((255, largest)):
        rest = [v for v in values if v not in (0, mark)]
        if mark in values and rest and max(rest) <= min(_GAP * mark, _CLASSES) and 0 < min(map(abs, rest)) <= _LOW:
            return mark
    return None


def unmarked(
    values: Sequence[int], largest: int, asked: Sequence[Label] | None = None, where: str = " in the ground truth"
) -> list[Note]:
    """Return the warning of a ground truth with a value that looks like void and that nobody named."""
    mark = looks_void(values, largest)
    if mark is None or any(mark in (label.values or ()) for label in asked or ()):
        return []
    text = f"{mark} beside small labels{where} looks like void; --ignore-label {mark}"
    return [Note(text, "warning", "void.unmarked")]
