"""What the numbers of an array mean: labels, probabilities or logits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.masks.mask import MaskKind, Note
from segcli.masks.source import refuse, shape_text, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A probability may leave [0, 1] by this much: float32 softmax gives 1.0000001, 255 * float32(1/255) 1.00000006.
ROUNDING = 1e-6
#: More distinct values than this in 8 bits look like a grey picture, not like labels.
MOST_GREYS = 150
#: From so many distinct values on an 8-bit map that is smooth is taken for a soft one.
FEWEST_GREYS = 50
#: The farthest that `--round` moves a value: noise stays near its label, a resampled edge lies anywhere between two.
FARTHEST = 0.25
_CHUNK = 1 << 20
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
_KINDS = {"c": "complex numbers", "O": "Python objects (a pickle, which is never loaded)", "V": "structured records",
          "S": "text", "U": "text", "M": "dates", "m": "time spans"}  # fmt: skip


def meaning(
    name: str,
    array: NDArray[Any],
    *,
    kind: MaskKind | None,
    prob_scale: float | None,
    explicit: bool = False,
    rounded: bool = False,
    off: float | None = None,
) -> tuple[NDArray[Any], MaskKind, list[Note]]:
    """Decide what an array holds; return it in native byte order with its kind and what has to be said.

    Integers and booleans are labels; so are floats with whole values only, in the smallest integer
    type that holds them. Floats with a fraction, all in [0, 1], are probabilities. Anything else is refused
    unless `kind` says what it is; NaN and infinity are refused always. `explicit` labels are exempt
    from the rules about 8-bit pictures with many values. `off` is how far the scaling of the file takes labels from
    whole numbers; `rounded` takes all that is near to one there, and refuses the rest.
    """
    array = _native(name, array)
    if array.ndim == 0 or array.size == 0:
        refuse(name, f"shape {shape_text(array.shape)} has no voxels", "check how it was written", "read.shape")
    if prob_scale is not None:
        array, kind = array / np.float64(prob_scale), "probability"
    if array.dtype.kind in "iu":
        return _of_integers(name, array, kind, explicit)
    low, high = _finite_range(name, array)
    if kind == "logits":
        return array, kind, []
    if kind != "probability" and _whole(array):
        _fits(name, low, high)
        return array.astype(smallest_integer(int(low), int(high))), "labels", []
    if kind != "probability" and (off is not None or rounded):
        far = farthest(array)
        if rounded or far <= (off or 0.0):
            return _of_fractions(name, array, far, (low, high), rounded=rounded and far > (off or 0.0))
    if kind == "labels":
        broken = np.rint(array) != array
        text = f"kind is labels, but {_some(broken)} have a fraction, first {array[_first(broken)]:g}{_at(broken)}"
        near = farthest(array)
        hint = f"--round if they are labels up to {near:.2g} off" if near <= FARTHEST else "--kind probability"
        refuse(name, text, hint, "kind.fraction")
    if low < -ROUNDING or high > 1 + ROUNDING:
        _refuse_range(name, array, (low, high), kind, prob_scale)
    if low >= 0 and high <= 1:
        return array, "probability", []
    text = f"{shown(name)}: probabilities beyond [0, 1] by rounding ({max(-low, high - 1):.1g}) were set to the bound"
    array = np.clip(array, 0, 1)
    if kind is None and _whole(array):  # a mask of 0 and 1.0000001
        return array.astype(np.uint8), "labels", [Note(text.replace("probabilities", "values"), code="kind.rounding")]
    return array, "probability", [Note(text, code="kind.rounding")]


def _of_fractions(
    name: str, array: NDArray[Any], far: float, ends: tuple[float, float], *, rounded: bool
) -> tuple[NDArray[Any], MaskKind, list[Note]]:
    """Return labels that the file's scaling, or `rounded` noise, took off whole numbers by up to `far`."""
    if rounded and far > FARTHEST:
        broken = np.abs(array - np.rint(array)) > FARTHEST
        text = f"--round: {_some(broken)} are farther than {FARTHEST:g} from a whole number"
        low, high = ends
        hint = "resample labels by nearest neighbour: what lies between two labels is none"
        if low >= -ROUNDING and high <= 1 + ROUNDING:
            hint = "leave --round out: fractions from 0 to 1 are probabilities"
        refuse(name, f"{text}, first {array[_first(broken)]:g}{_at(broken)}", hint, "kind.round")
    _fits(name, *ends)
    whole = np.rint(array)
    text = f"stored with scl_slope: within half a step every voxel is a whole number (at most {far:.1g} off)"
    text += "; read as labels"
    if rounded:
        text = f"{_some(whole != array)} rounded to whole numbers, by at most {far:.2g} (--round)"
    labels = whole.astype(smallest_integer(int(whole.min()), int(whole.max())))
    return labels, "labels", [Note(f"{shown(name)}: {text}", code="kind.rounded" if rounded else "kind.scaled")]


def _fits(name: str, low: float, high: float) -> None:
    if low < -(2.0**63) or high >= 2.0**63:
        refuse(
            name,
            f"whole values from {low:g} to {high:g} do not fit 64 bits",
            "labels are small numbers: check what was saved",
            "kind.range",
        )


def farthest(array: NDArray[Any]) -> float:
    """Return how far the value farthest from a whole number is from it."""
    flat = array.ravel(order="K")
    parts = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    return max(float(np.abs(part - np.rint(part)).max()) for part in parts)


def smallest_integer(low: int, high: int) -> type[np.integer[Any]]:
    """Return the smallest integer type that holds both ends (signed only when it has to be)."""
    return next((t for t in _INTEGERS if np.iinfo(t).min <= low and high <= np.iinfo(t).max), np.int64)


def usable(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse a type that is neither integer, boolean nor real."""
    if dtype.kind == "V" and dtype.fields is None and dtype.itemsize == 2:
        text = "holds values of two bytes without a type, which is how NumPy saves bfloat16"
        refuse(name, text, "save array.astype('float32')", "read.dtype")
    if dtype.kind not in "biuf":
        what = _KINDS.get(dtype.kind, "values")
        refuse(name, f"holds {what}{'' if dtype.kind == 'V' else f' (dtype {dtype.str})'}; "
               "allowed are integers, booleans and real numbers",
               "save a plain array of labels: numpy.save(file, array.astype('uint8'))", "read.dtype")  # fmt: skip


def _native(name: str, array: NDArray[Any]) -> NDArray[Any]:
    usable(name, array.dtype)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)  # also makes 1 of every odd byte a bool file may hold
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_integers(
    name: str, array: NDArray[Any], kind: MaskKind | None, explicit: bool
) -> tuple[NDArray[Any], MaskKind, list[Note]]:
    if kind is None or kind == "labels":
        if kind == "labels" or explicit or array.dtype != np.uint8:
            return array, "labels", []
        greys = distinct_bytes(array)
        if greys > MOST_GREYS:
            text = (
                f"{greys} distinct values in 8 bits (without --kind at most {MOST_GREYS}): labels or a probability map"
            )
            refuse(name, text, "--prob-scale 255 for a probability map, --kind labels for labels", "kind.levels")
        return array, "labels", _soft_edges(name, array) if greys >= FEWEST_GREYS else []
    low, high = int(array.min()), int(array.max())
    if kind == "probability" and (low < 0 or high > 1):
        _refuse_range(name, array, (low, high), kind, None)
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64), kind, []


def _soft_edges(name: str, array: NDArray[np.uint8]) -> list[Note]:
    """Return a warning where an 8-bit map looks like a soft mask: many values up to white, seldom two alike in a row.

    A voxel of a label has neighbours of the same label, or none; one between black and white in a soft edge has
    neighbours that are a little darker or lighter.
    """
    flat, seen = array.ravel(order="K"), np.zeros(256, np.bool_)
    between, alike = 0, 0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK + 1]
        seen |= np.bincount(part, minlength=256) > 0
        inner = (part > 0) & (part < 255)
        pairs = inner[:-1] & inner[1:]
        between += int(np.count_nonzero(pairs))
        alike += int(np.count_nonzero(pairs & (part[:-1] == part[1:])))
    greys = int(np.count_nonzero(seen))
    if greys < FEWEST_GREYS or between < FEWEST_GREYS or alike > 0.5 * between:
        return []
    text = f"{greys} distinct values in 8 bits, seldom two alike side by side: a probability map, read as labels?"
    scale = "--prob-scale 255 reads a prediction as one" + (" (100 for percent)" if array.max() <= 100 else "")
    return [Note(f"{shown(name)}: {text} {scale}", "warning", "kind.soft")]


def distinct_bytes(array: NDArray[np.uint8]) -> int:
    """Count the distinct values, quickly where runs are long: words equal to the one before add nothing."""
    most = int(array.max())
    if most < MOST_GREYS:
        return most + 1  # an upper bound is all that is asked for
    flat = array.ravel(order="K")
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    seen = np.zeros(256, np.bool_)
    seen[flat[flat.size // 8 * 8 :]] = True
    for start in range(0, words.size, _CHUNK):
        part = words[start : start + _CHUNK]
        fresh = np.flatnonzero(part[1:] != part[:-1])
        seen[part[np.append(fresh, part.size - 1)].view(np.uint8)] = True
    return int(np.count_nonzero(seen))


def _finite_range(name: str, array: NDArray[Any]) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        nan, bad = np.isnan(array), ~np.isfinite(array)
        counts = {"NaN": int(np.count_nonzero(nan)), "infinite": int(np.count_nonzero(bad & ~nan))}
        words = " and ".join(f"{count} {word}" for word, count in counts.items() if count)
        refuse(
            name,
            f"{words} of {array.size} voxels, first{_at(bad)}",
            "find out where they come from; numpy.nan_to_num hides them",
            "kind.nan",
        )
    return low, high


def _whole(array: NDArray[Any]) -> bool:
    flat = array.ravel(order="K")
    parts = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    return all(bool((np.rint(part) == part).all()) for part in parts)


def _refuse_range(
    name: str, array: NDArray[Any], ends: tuple[float, float], kind: str | None, prob_scale: float | None
) -> None:
    low, high = ends
    text = f"{_some((array < -ROUNDING) | (array > 1 + ROUNDING))} outside [0, 1] (smallest {low:g}, largest {high:g})"
    if prob_scale is not None:
        refuse(name, f"{text} after dividing by {prob_scale:g}", "give the value that stands for 1", "kind.scale")
    if kind == "probability" or (low >= 0 and array.dtype.kind in "iu"):
        refuse(name, f"kind is probability, but {text}", "--prob-scale 255 for 8 bits, 100 for percent", "kind.range")
    hint = "--from-logits if these are logits; --prob-scale 100 if they are percent"
    if (far := farthest(array)) <= FARTHEST:
        hint = f"--round if these are labels up to {far:.2g} off, as after resampling; {hint}"
    refuse(name, f"neither labels nor probabilities: {text}, some with fractions", hint, "kind.range")


def _some(where: NDArray[np.bool_]) -> str:
    return f"{int(np.count_nonzero(where))} of {where.size} values"


def _first(where: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))


def _at(where: NDArray[np.bool_]) -> str:
    return f" at index ({', '.join(str(i) for i in _first(where))})"
