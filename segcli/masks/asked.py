"""What a caller may say of the voxels of a pair. Needs no NumPy: a wrong option is told before anything is read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any, Literal

from segcli.errors import UsageError
from segcli.masks.colours import colours
from segcli.masks.labels import BACKGROUND, Label, LabelsLike, parse_labels
from segcli.masks.mask import MaskKind
from segcli.masks.reading import Reading
from segcli.masks.void import IgnoreLike, ignored_of


def stack_axis_number(given: object) -> int:
    """Return the axis of a stack as a number: from 0, or -1 for the last."""
    try:
        axis = {"first": 0, "last": -1}.get(str(given).strip().lower())
        axis = int(str(given)) if axis is None else axis
    except ValueError:
        axis = -2
    if axis < -1:
        raise UsageError(
            f"--stack-axis {given} is not first, last or the number of an axis, from 0.", code="geometry.stack"
        )
    return axis


def axes_letters(given: object, channel_axis: int | None) -> str:
    """Return the letters of `--axes` in lower case. Raises `UsageError` for what names no order of axes."""
    letters = str(given).strip().lower()
    if sorted(letters.replace("c", "", 1)) not in (["x", "y"], ["x", "y", "z"]):
        raise UsageError(
            f"--axes {given}: the letters x, y, z (x, y of an image) are wanted, each once, and c where channels are.",
            hint="--axes zyx for arrays of SimpleITK, czyx with channels first",
            code="geometry.axes",
        )
    if "c" in letters and channel_axis is not None:
        raise UsageError(
            f"--axes {letters} says where the channels are, and so does --channel-axis {channel_axis}.",
            hint="leave one of them out",
            code="geometry.axes",
        )
    return letters


def check_rounding(reading: Reading) -> None:
    """Raise `UsageError` where `--round` meets an option that says that the prediction is no label map."""
    kind = reading.kind
    soft = {
        "--from-logits" if kind == "logits" else f"--kind {kind}": kind in ("probability", "logits"),
        "--prob-scale": reading.prob_scale is not None,
        "--soft-gt": reading.soft_gt,
    }
    for option in (name for name, given in soft.items() if given and reading.round):
        raise UsageError(
            f"--round and {option} contradict each other.",
            hint="--round is for label maps that are a little off whole numbers",
            code="kind.twice",
        )


def named_channels(
    given: LabelsLike, labels: tuple[Label, ...] | None, *, normalize: bool
) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Return the labels to score and what each channel holds: names of `labels`, `background`, or `name=1+2`.

    Without `labels` every channel says its own values. Raises `UsageError` for a name that stands for nothing, and for
    a label that no channel holds.
    """
    if normalize:
        raise UsageError(
            "--channels and --normalize contradict each other: each channel is cut by itself.", code="labels.channels"
        )
    named: dict[str, object] = {}
    for name, values in _named(given):
        if name in named:
            raise UsageError(f"--channels names {name!r} twice.", hint=_CHANNELS, code="labels.channels")
        named[name] = values
    known = {label.name: label for label in labels or ()}
    by_values = {frozenset(label.values or ()): label for label in labels or ()}
    found = []
    for name, values in named.items():
        label = known.get(name) if values == name else None
        if label is None and values == name == BACKGROUND.name:
            label = BACKGROUND
        if label is None:
            try:
                own = _label(name, values)
            except UsageError:
                have = f"; --labels has {', '.join(known)}" if known else ""
                raise UsageError(
                    f"--channels: {name!r} is no label{have}.", hint=_CHANNELS, code="labels.channels"
                ) from None
            label = own if labels is None else by_values.get(frozenset(own.values or ()))
            if label is None:
                raise UsageError(
                    f"--channels: {name} is none of the labels that --labels names: {', '.join(known)}.",
                    hint=_CHANNELS,
                    code="labels.channels",
                )
        found.append(label)
    for label in found:
        if found.count(label) > 1:
            raise UsageError(f"--channels names {label.name!r} twice.", hint=_CHANNELS, code="labels.channels")
    for label in labels or ():
        if label not in found:
            raise UsageError(
                f"--channels names no channel for {label.name}, which --labels asks for.",
                hint="leave it out of --labels",
                code="labels.channels",
            )
    rows = labels or tuple(label for label in found if label != BACKGROUND)
    if not rows:
        raise UsageError("--channels names no label.", hint=_CHANNELS, code="labels.channels")
    return rows, tuple(found)


def _named(given: LabelsLike) -> list[tuple[str, object]]:
    """Return the name of each channel with the values that it stands for: its own name where it has none."""
    if isinstance(given, Mapping):
        return [(str(name), values) for name, values in given.items()]
    texts = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
    parts = [tuple(part.strip() for part in str(text).partition("=")) for text in texts]
    return [(name, values if equals else name) for name, equals, values in parts]


def _label(name: str, values: object) -> Label:
    return parse_labels({name: values}).labels[0]  # type: ignore[union-attr]


_CHANNELS = "for example --labels WT=1+2+4,TC=1+4,ET=4 --channels WT,TC,ET: names in the order of the channels"


def reading_of(
    *,
    labels: LabelsLike = None,
    ignore_label: IgnoreLike = None,
    ignore_in: Literal["gt", "either"] = "gt",
    spacing: float | Sequence[float] | None = None,
    from_logits: bool = False,
    kind: MaskKind | None = None,
    stack_axis: int | str | None = None,
    axes: str | None = None,
    channels: LabelsLike = None,
    **options: Any,
) -> Reading:
    """Return the checked `Reading` of a set of keyword options."""
    if stack_axis is not None:
        stack_axis = options["stack_axis"] = stack_axis_number(stack_axis)
        options["stack"] = True
    if axes is not None:
        options["axes"] = axes_letters(axes, options.get("channel_axis"))
    if from_logits:
        if kind not in (None, "logits"):
            raise UsageError(f"--from-logits and --kind {kind} contradict each other.", code="kind.twice")
        kind = "logits"
    named = parse_labels(labels)
    ignore = ignored_of(ignore_label if ignore_label is not None or named is None else named.ignore, ignore_in)
    geometry = options.get("on_geometry", "error")
    if geometry not in ("error", "reorient", "ignore"):
        raise UsageError(f"--on-geometry {geometry} is not error, reorient or ignore.", code="geometry.option")
    rows = None if named is None else named.labels
    if channels is not None:
        rows, options["channels"] = named_channels(channels, rows, normalize=bool(options.get("normalize")))
    reading = Reading(
        labels=rows,
        ignore=ignore,
        ignore_in=ignore_in,
        kind=kind,
        spacing=_spacing_numbers(spacing),
        **options,
    )
    if reading.colors is not None:
        colours(reading.colors)  # a mistake in the table is told before any image is opened
    if not 0 <= reading.threshold < 1:
        raise UsageError(f"--threshold {reading.threshold:g} is not in [0, 1).", code="threshold")
    if reading.prob_scale is not None:
        if not 0 < reading.prob_scale < float("inf"):
            raise UsageError(f"--prob-scale {reading.prob_scale:g} must be above 0.", code="prob-scale")
        if kind not in (None, "probability"):
            raise UsageError(f"--prob-scale and --kind {kind} contradict each other.", code="kind.twice")
    check_rounding(reading)
    return reading


def reading_keywords() -> list[str]:
    """Return the keywords of `reading_of`: what the library's functions take beside their own."""
    own = [name for name in inspect.signature(reading_of).parameters if name != "options"]
    return [*own, *(f.name for f in fields(Reading) if f.name not in own)]


#: Voxel sizes beyond these, in mm, are a mistake of units; far beyond them squares overflow.
SMALLEST_SPACING, LARGEST_SPACING = 1e-9, 1e9


def _spacing_numbers(spacing: Any) -> tuple[float, ...] | None:
    if spacing is None:
        return None
    parts = spacing.split(",") if isinstance(spacing, str) else [spacing] if isinstance(spacing, Real) else spacing
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise UsageError(
            f"--spacing {spacing} is not a list of numbers.", hint=_SPACING_HINT, code="geometry.spacing"
        ) from None
    if not numbers or not all(SMALLEST_SPACING <= s <= LARGEST_SPACING for s in numbers):
        raise UsageError(
            f"--spacing {','.join(f'{s:g}' for s in numbers)}: every number must be above 0, "
            f"from {SMALLEST_SPACING:g} to {LARGEST_SPACING:g}.",
            hint=_SPACING_HINT,
            code="geometry.spacing",
        )
    return numbers


_SPACING_HINT = "mm per voxel in array axis order, for example --spacing 0.8,0.8,2"
