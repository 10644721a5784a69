"""What deep learning libraries would return for a loss of a pair, computed without them.

A library is given the channels of one case: probabilities as they are, or logits: those of the file, else the ones
that give its probabilities. From there on it does what `libraries.toml` has of it: how far it clips, which channels
it reads and what becomes of several.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.classes import SoftClasses
from segcli.evidence.pooled import PooledPair
from segcli.evidence.soft import SoftPair
from segcli.evidence.sums import sigmoid
from segcli.masks.channels import softmax
from segcli.masks.labels import BACKGROUND
from segcli.measure.notation import bind
from segcli.scoring.means import ALL

if TYPE_CHECKING:
    from segcli.masks.labels import Label
    from segcli.measure.losses.libraries import Implementation
    from segcli.measure.record import BoundMeasure
    from segcli.scoring.loading import Loaded

Grids = NDArray[Any]
TIMES = {"1": 1.0, "1/2": 0.5, "1/4": 0.25}
#: The ends that a clip of 1e-7 has in float32, Keras' type: a false alarm costs less than a miss.
FLOAT32_ENDS = (float(np.float32(1e-7)), float(np.float32(1) - np.float32(1e-7)))
#: Torch cuts logarithms there.
LOG_END = 100.0


class Returned(NamedTuple):
    """A number, or words where there is none, or none that is computed here."""

    value: float | None
    words: str = ""


class Channels:
    """The channels of one case, or of a `label` of it alone, as a library is given them."""

    def __init__(self, loaded: Loaded, label: Label | None = None) -> None:
        self.loaded = loaded
        labels = loaded.channels if label is None else [label]
        #: What segcli's own number is the mean over: of two channels and one label that label.
        self.own: list[SoftPair] = [loaded.soft(one) for one in labels]
        self.label = labels[0].name if len(self.own) == 1 else ALL
        both = label is None and loaded.tied and len(self.own) == 1
        self.pairs = [loaded.soft(BACKGROUND), *self.own] if both else self.own
        self.hard = self.pairs[0].hard
        self.ndim = len(loaded.case.shape)

    def returned(self, one: Implementation, bound: BoundMeasure | None) -> Returned:
        """Return what a library returns; words where it returns nothing, or what no formula here has."""
        several = len(self.pairs) > 1
        if one.ndim and one.ndim != self.ndim:
            return Returned(None, f"takes {one.ndim}-D only")
        if several and one.several == "refused":
            return Returned(None, "takes one channel only")
        if reads_logits(one) and self.hard:
            return Returned(None, "takes logits, which a hard mask has not")
        if bound is None:
            return Returned(None, "not computed here")
        if self.loaded.case.overlapping and (bound.over_classes or one.several or one.channels == "classes"):
            return Returned(None, "takes one label for each voxel")
        if several and one.channels == "two" and not one.several:
            return Returned(None, "not computed here of several channels")
        if min(self.loaded.case.shape) < (window := bound.params.get("window", 0)):
            return Returned(None, f"raises: an axis is shorter than the window of {window} voxels")
        if reads_logits(one) and "clip" in bound.params and not self._logits_are_finite(one):
            return Returned(None, "takes logits, which are infinite where a probability is 0 or 1")
        for condition in () if several and one.several else one.not_when:
            if self._is_so(one, CONDITIONS[condition]):
                return Returned(None, f"not computed here: {SAID[condition]}")
        value = SEVERAL[one.several](self, one, bound) if several and one.several else self._plain(one, bound)
        if value is None:
            return Returned(None, "not computed here")
        return Returned(value * (TIMES[one.times] if one.times != "1/C" else 1 / max(2, len(self.pairs))))

    def _is_so(self, one: Implementation, condition: Callable[[SoftPair], bool]) -> bool:
        whole = one.averaging == "pooled" and len(self.pairs) > 1
        return condition(PooledPair(self.pairs)) if whole else any(condition(pair) for pair in self.pairs)

    def _plain(self, one: Implementation, bound: BoundMeasure) -> float | None:
        evidence = self.seen_classes(one) if bound.over_classes else self.seen(one)
        return self.value(bound, one.averaging, one.channels, evidence)

    def value(
        self,
        bound: BoundMeasure,
        averaging: str = "macro",
        channels: str = "one",
        given: SoftClasses | Sequence[SoftPair] | None = None,
    ) -> float | None:
        """Return a measure of the channels, averaged in a library's way; of `given` in their place."""
        if bound.over_classes:
            return _number(bound(self.loaded.classes() if given is None else given))
        pairs = self.own if given is None or isinstance(given, SoftClasses) else list(given)
        if channels == "all" and len(pairs) == 1:
            pairs = [self._background(pairs[0]), pairs[0]]
        if averaging in ("micro", "pooled") and len(pairs) > 1:
            of_grid = bound.measure.needs == "grid"
            return _number(bound(side_by_side(pairs) if of_grid else PooledPair(pairs)))
        values = [_number(bound(pair)) for pair in pairs]
        defined = [v for v in values if v is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) else None

    def _background(self, pair: SoftPair) -> SoftPair:
        """Return the background of the one channel; where a hard prediction is no label neither has any."""
        return SoftPair.of(self.loaded.background(pair.grid(pair.p)), pair.grid(1 - pair.y), **_options(pair))

    # --- what a library sees ------------------------------------------------------------------

    @cached_property
    def _logits(self) -> list[Grids]:
        """Return the logits of each channel: those of the file, else the log-odds of its probability."""
        known = self._known
        if known is None:
            return [_log_odds(pair.grid(pair.p, 0.5)) for pair in self.pairs]
        return [np.asarray(z, np.float64) for z in known]

    @property
    def logits_known(self) -> bool:
        return self._known is not None

    @property
    def _known(self) -> Sequence[Grids] | None:
        """Return the logits of the file, where these are its channels."""
        z = self.loaded.grid.logits
        if z is None or not (self.loaded.tied or self.loaded.grid.regions):
            return None if z is None else [z]
        return list(z) if len(z) == len(self.pairs) else None

    def _logits_are_finite(self, one: Implementation) -> bool:
        if self.logits_known:
            return True
        ends = (0.0,) if one.channels == "classes" and not one.several else (0.0, 1.0)
        return not any(bool((pair.p == end).any()) for pair in self.pairs for end in ends)

    def seen(self, one: Implementation) -> list[SoftPair]:
        """Return the channels as a library of one label against the rest sees them."""
        if reads_logits(one) and one.channels not in ("all", "classes"):
            return [_with(pair, z=z) for pair, z in zip(self.pairs, self._logits, strict=True)]
        if one.sees == "log >= -100":
            ends = [np.clip(_log_odds(pair.grid(pair.p, 0.5)), -LOG_END, LOG_END) for pair in self.pairs]
            return [_with(pair, z=z) for pair, z in zip(self.pairs, ends, strict=True)]
        if one.sees == "float32 clip":
            return [_with(pair, p=_float32(pair.grid(pair.p))) for pair in self.pairs]
        return [pair if pair.z is None else _with(pair, p=pair.grid(pair.p)) for pair in self.pairs]

    def seen_classes(self, one: Implementation, *, of_odds: bool = False) -> SoftClasses:
        """Return all classes as a library sees them; `of_odds` where each channel's log-odds go into the softmax."""
        classes = self.loaded.classes()
        if of_odds:
            z = np.stack(self._logits)
        elif reads_logits(one) and classes.z is None:
            with np.errstate(divide="ignore"):
                z = np.maximum(np.log(classes.grid(classes.p)), -800.0)
        elif one.sees == "float32 clip":
            return _classes(classes, _float32(classes.grid(classes.p / classes.total)))
        else:
            return classes
        return _classes(classes, softmax(z), z)


@cache
def _names(call: str) -> frozenset[str]:
    """Return the names that a call of the list is given: p, z, y, labels."""
    return frozenset(node.id for node in ast.walk(ast.parse(call, mode="eval")) if isinstance(node, ast.Name))


def reads_logits(one: Implementation) -> bool:
    """Return whether the call of an implementation is given logits."""
    return "z" in _names(one.call)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _log_odds(p: Grids) -> Grids:
    p = np.asarray(p, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def _float32(p: Grids) -> Grids:
    return np.clip(np.asarray(p, dtype=np.float32).astype(np.float64), *FLOAT32_ENDS)


def _options(of: SoftPair | SoftClasses) -> dict[str, Any]:
    return {"spacing": of.spacing, "valid": of.valid, "threshold": of.threshold, "hard": of.hard}


def _with(pair: SoftPair, *, p: Grids | None = None, z: Grids | None = None) -> SoftPair:
    """Return a pair with another prediction."""
    if p is None:
        p = pair.grid(pair.p) if z is None else sigmoid(z)
    return SoftPair.of(p, pair.grid(pair.y), z=z, **_options(pair))


def _classes(classes: SoftClasses, p: Grids, z: Grids | None = None) -> SoftClasses:
    return SoftClasses.of(p, classes.grid(classes.y), z=z, names=classes.names, **_options(classes))


def side_by_side(pairs: Sequence[SoftPair]) -> SoftPair:
    """Return several channels as one image, apart by a row that is ignored: none is another's neighbour."""
    first = pairs[0]
    counts = np.ones(first.shape, dtype=bool) if first.valid is None else first.valid

    def joined(grids: Sequence[Grids]) -> Grids:
        gap = np.zeros((1, *first.shape[1:]), dtype=grids[0].dtype)
        return np.concatenate([part for grid in grids for part in (grid, gap)][:-1])

    p, y = joined([pair.grid(pair.p) for pair in pairs]), joined([pair.grid(pair.y) for pair in pairs])
    return SoftPair.of(p, y, **{**_options(first), "valid": joined([counts] * len(pairs))})


# --- what becomes of several channels -------------------------------------------------------------


def _part(whole: BoundMeasure, name: str) -> BoundMeasure:
    """Return a part of a compound with the parameters that it shares with the whole."""
    part = bind(name, "loss")
    shared = {k: v for k, v in whole.params.items() if k in part.params and k not in part.named}
    return type(part)(part.measure, {**part.params, **shared}, part.named)


def _inner(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    return channels.value(bound, one.averaging, "one", channels.seen(one)[1:])


def _inner_log(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    mean = _inner(channels, one, _part(bound, "hd_dt"))
    return None if mean is None else math.log1p(mean)


def _softmax_ce(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    dice = channels.value(_part(bound, "dice"), given=channels.seen(one))
    cross = channels.value(_part(bound, "categorical_ce"), given=channels.seen_classes(one, of_odds=True))
    if dice is None or cross is None:
        return None
    return float(bound.params["w_dice"] * dice + bound.params["w_bce"] * cross)


def _cldice_pooled(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    given, alpha = channels.seen(one), bound.params["alpha"]
    dice = channels.value(_part(bound, "dice"), given=given)
    lines = channels.value(_part(bound, "cldice"), "pooled", given=given)
    return None if dice is None or lines is None else float((1 - alpha) * dice + alpha * lines)


def _first_two(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    """Return MONAI's unified focal loss: the background's terms of the first channel, the object's of the second."""
    back, fore = (_with(pair, p=np.clip(pair.grid(pair.p), 1e-7, 1 - 1e-7)) for pair in channels.seen(one)[:2])
    delta, gamma, mix = (float(bound.params[k]) for k in ("delta", "gamma", "mix"))
    ratio = f"fp={1 - delta}:fn={delta}:smooth=1e-07"

    def of(text: str, pair: SoftPair) -> float:
        return float(bind(text, "loss")(pair))

    cross = (1 - delta) * of(f"focal:alpha=1:gamma={gamma}", back) + delta * of("focal:alpha=1:gamma=0", fore)
    overlap = of(f"tversky:{ratio}", back) + of(f"focal_tversky:{ratio}:exponent={1 - gamma}", fore)
    return (mix * cross + (1 - mix) * overlap) / 2


def _classes_of(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    return channels.value(_part(bound, "generalized_dice_softmax"), given=channels.seen_classes(one))


def _each(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    return channels.value(bound, given=channels.seen(one))


def _pooled_dice(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:  # noqa: ARG001
    return channels.value(bind("dice:smooth=0", "loss"), "pooled", given=channels.pairs)


def _gdice_and_focal(channels: Channels, one: Implementation, bound: BoundMeasure) -> float | None:
    given = channels.seen(one)
    p, y = np.stack([pair.grid(pair.p) for pair in given]), np.stack([pair.grid(pair.y) for pair in given])
    gdice = channels.value(_part(bound, "generalized_dice_softmax"), given=SoftClasses.of(p, y, **_options(given[0])))
    focal = channels.value(_part(bound, "focal"), given=given)
    if gdice is None or focal is None:
        return None
    return float(bound.params["w_gdice"] * gdice + bound.params["w_focal"] * focal)


SEVERAL: dict[str, Callable[[Channels, Implementation, BoundMeasure], float | None]] = {
    "inner": _inner,
    "inner log": _inner_log,
    "softmax ce": _softmax_ce,
    "cldice pooled": _cldice_pooled,
    "first two": _first_two,
    "classes": _classes_of,
    "each": _each,
    "pooled dice": _pooled_dice,
    "gdice focal": _gdice_and_focal,
}
CONDITIONS: dict[str, Callable[[SoftPair], bool]] = {
    "gt empty": lambda pair: pair.gt_empty,
    "gt full": lambda pair: pair.gt_full,
}
SAID = {"gt empty": "gt is empty", "gt full": "gt fills the image"}
