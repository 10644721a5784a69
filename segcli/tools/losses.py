"""What deep learning libraries would return for a loss of a pair, and why that differs from segcli's number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from segcli.measure.conventions import LOSS_LIBRARIES, swapped, with_parameters
from segcli.measure.losses.libraries import AVERAGING, SEES, SEVERAL, Implementation, known
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure
from segcli.scoring.library_values import Channels, reads_logits
from segcli.scoring.printed import Printed, same
from segcli.tools.rows import Row, effective
from segcli.wording import plain

if TYPE_CHECKING:
    from segcli.scoring.loading import Loaded


def loss_rows(asked: BoundMeasure, loaded: Loaded) -> list[Row]:
    """Return what each library that has a loss would return, its parameters set to those that are named."""
    channels = Channels(loaded)
    own = channels.value(bind(asked.measure.name, "loss") if not asked.named else asked)
    rows = []
    for one in known()[asked.measure.name].found_in:
        if one.library not in LOSS_LIBRARIES or one.checked != "run":
            continue
        bound = with_parameters(one, asked) if one.same_as else None
        found = Printed(*channels.returned(one, bound))
        because = causes(channels, one, bound, asked, own, found) if bound is not None else (one.differs,)
        name = bound.name if bound is not None else ""
        rows.append(
            Row(
                "loss",
                asked.name,
                channels.label,
                one.library,
                one.version,
                "run",
                _call(one, asked),
                name,
                found,
                asked.name,
                own,
                "",
                because,
            )
        )
    return rows


def _call(one: Implementation, asked: BoundMeasure) -> str:
    """Return the call with the parameters that were asked for, as a user of the literature's names writes them."""
    names = {"fp": "alpha", "fn": "beta"} if {"alpha", "beta"} <= set(one.parameters.values()) else {}
    asked_for = [k for k in asked.params if k in asked.named and k in one.parameters]
    given = [f"{names.get(k, one.parameters[k])}={plain(asked.params[k])}" for k in asked_for]
    return one.call + (f" with {', '.join(given)}" if given else "")


def causes(
    channels: Channels,
    one: Implementation,
    bound: BoundMeasure,
    asked: BoundMeasure,
    own: float | None,
    found: Printed,
) -> tuple[str, ...]:
    """Return what makes the difference, each part that has an effect on this pair."""
    if found.value is None:
        differs = [one.differs] if found.words.startswith("not computed") else []
        return (found.words, *differs)
    if same(found.value, own):
        return ()
    return effective(((words, now) for now, words in _steps(channels, one, bound, asked, found)), own)


def _steps(
    channels: Channels, one: Implementation, bound: BoundMeasure, asked: BoundMeasure, found: Printed
) -> Iterable[tuple[float | None, str]]:
    step = asked
    if bound.measure is asked.measure:
        weights = [k for k in ("fp", "fn") if k in bound.params]
        if swapped(one) and asked.named & set(weights):
            step = replace(step, params={**step.params, **{k: bound.params[k] for k in weights}})
            yield channels.value(step), f"alpha and beta swapped: alpha weighs misses in {one.library}"
        for key, wanted in bound.params.items():
            if step.params[key] != wanted:
                words = f"{key}={plain(wanted)}, not {plain(step.params[key])}"
                step = replace(step, params={**step.params, key: wanted})
                yield channels.value(step), words
    else:
        yield channels.value(bound), f"it is {bound.name}"
    several = len(channels.pairs) > 1
    if len(channels.own) < len(channels.pairs) and not bound.over_classes:
        yield channels.value(bound, given=channels.pairs), "the background is a channel too"
    if not (several and one.several):
        pairs = None if bound.over_classes else channels.pairs
        yield channels.value(bound, "macro", one.channels, pairs), "the background is a channel too"
        yield channels.value(bound, one.averaging, one.channels, pairs), AVERAGING[one.averaging]
        given = channels.seen_classes(one) if bound.over_classes else channels.seen(one)
        seen = SEES[one.sees]
        if reads_logits(one):
            known = several and channels.logits_known and not bound.over_classes
            seen = "the sigmoid of each channel's logit, no softmax" if known else "p as it is, not clipped"
        yield channels.value(bound, one.averaging, one.channels, given), seen
    if one.times != "1":
        yield found.value, f"{one.times} of the mean over voxels" if one.times != "1/2" else "half of it"
    yield found.value, SEVERAL[one.several] if one.several else SEES[one.sees]
