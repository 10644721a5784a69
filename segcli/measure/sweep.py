"""One parameter of a loss moved over a range: `tversky:fn=0.3..0.9/0.1:fp=1-fn` as a list of losses."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from segcli.errors import UsageError
from segcli.measure.notation import bind
from segcli.measure.record import BoundMeasure

#: More steps than this are a mistake in the step.
MOST = 1000
_RANGE = re.compile(r"(?P<low>[^.]*(?:\.\d+)?)\.\.(?P<high>[^/]+)/(?P<step>.+)")
_HINT = "for example --sweep tversky:fn=0.3..0.9/0.1, or tversky:fn=0.3..0.9/0.1:fp=1-fn"


def sweep(text: str) -> list[BoundMeasure]:
    """Return the losses of a sweep, ends included.

    Exactly one parameter has a range `LOW..HIGH/STEP`; another may depend on it as `1-NAME`. Raises
    `UsageError` for anything else.
    """
    name, *assignments = text.strip().split(":")
    pairs = [a.partition("=")[::2] for a in assignments]
    moving = [(key, match) for key, value in pairs if (match := _RANGE.fullmatch(value)) is not None]
    if len(moving) != 1:
        raise UsageError(f"--sweep {text}: one parameter needs a range LOW..HIGH/STEP.", hint=_HINT, code="sweep.range")
    key, match = moving[0]
    found = []
    for value in _values(text, match):
        parts = [name]
        for other, given in pairs:
            if other == key:
                parts.append(f"{key}={_text(value)}")
            elif given.replace(" ", "") == f"1-{key}":
                parts.append(f"{other}={_text(1 - value)}")
            else:
                parts.append(f"{other}={given}")
        found.append(bind(":".join(parts), "loss"))
    return found


def _values(text: str, match: re.Match[str]) -> list[Decimal]:
    """Return the steps in decimal: 0.3 and seven steps of 0.1 end at 0.9 exactly."""
    try:
        low, high, step = (Decimal(match[group]) for group in ("low", "high", "step"))
        finite = all(x.is_finite() for x in (low, high, step))
    except InvalidOperation:
        finite = False
    if not finite or step <= 0 or high < low:
        raise UsageError(f"--sweep {text}: {match[0]} is not LOW..HIGH/STEP.", hint=_HINT, code="sweep.range")
    count = int((high - low) / step) + 1
    if count > MOST:
        raise UsageError(
            f"--sweep {text}: {count} steps; at most {MOST}.", hint="take a larger step", code="sweep.steps"
        )
    values = [low + k * step for k in range(count)]
    return values if values[-1] == high else [*values, high]


def _text(value: Decimal) -> str:
    return format(value.normalize(), "f")
