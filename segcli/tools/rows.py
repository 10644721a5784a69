"""One row of what a tool prints for a pair, and which of its ways change the value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from segcli.measure.conventions import WORDS
from segcli.scoring.printed import Printed, same


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of one tool. `own` is what segcli has for it by default, under `reference`.

    `difference`: of the two numbers, relative to the larger; infinite where only one of them is a number, 0 where
    nothing is known.
    """

    kind: Literal["metric", "loss"]
    quantity: str
    label: str
    tool: str
    version: str
    checked: str
    call: str
    measure: str
    printed: Printed
    reference: str
    own: float | None
    unit: str
    because: tuple[str, ...]
    note: str = ""
    variant: bool = False

    @property
    def difference(self) -> float:
        a, b = self.printed.value, self.own
        if self.printed.words == WORDS["unknown"]:
            return 0.0
        if a is None or b is None:
            return 0.0 if a is b else float("inf")
        return 0.0 if same(a, b) else abs(a - b) / max(abs(a), abs(b))


def effective(steps: Iterable[tuple[str, float | None]], own: float | None) -> tuple[str, ...]:
    """Return the words of the steps that change the value; of several each but the last with the value after it."""
    said: list[tuple[str, float | None]] = []
    for words, now in steps:
        if not same(now, said[-1][1] if said else own):
            said.append((words, now))
    last = len(said) - 1
    return tuple(words if i == last or now is None else f"{words} ({now:.4g})" for i, (words, now) in enumerate(said))
