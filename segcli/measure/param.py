"""One parameter of a measure: what is allowed for it, and how it is read and shown."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from segcli.errors import UsageError
from segcli.wording import plain


@dataclass(frozen=True, slots=True)
class Param:
    """What is allowed for one parameter of a measure, and how it is shown.

    `words` are values that are not numbers (`auto`, `surfel`); `shown` parameters stand in every
    canonical name, because numbers with different values of it must never be compared by accident.
    """

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    words: tuple[str, ...] = ()
    shown: bool = False
    #: A list of numbers, written `0.1/0.3/0.6`: one for each class, say.
    many: bool = False
    name: str = ""
    default: Any = None
    type: type = float

    def allowed(self) -> str:
        """Return the domain in words: `[0, inf)`, `border, surfel`, `auto or (0, inf)`."""
        words = ", ".join(self.words)
        if self.type is str:
            return words
        low = f"({self.gt:g}" if self.gt is not None else "(-inf" if self.ge is None else f"[{self.ge:g}"
        high = f"{self.lt:g})" if self.lt is not None else "inf)" if self.le is None else f"{self.le:g}]"
        numbers = f"A/B/C... each in {low}, {high}" if self.many else f"{low}, {high}"
        return f"{words} or {numbers}" if words else numbers

    def parse(self, measure: str, value: object) -> Any:
        """Return `value` as this parameter's type; raise `UsageError` naming what is allowed."""
        text = plain(value)
        if text in self.words:
            return text
        numbers = self._numbers(value, text)
        if not numbers or not all(math.isfinite(n) and self._inside(n) for n in numbers):
            near = difflib.get_close_matches(text, self.words, 1)
            where = f"one of {self.allowed()}" if self.type is str else f"in {self.allowed()}"
            raise UsageError(
                f"{measure}: {self.name}={text} is not {where}.",
                hint=f"did you mean {self.name}={near[0]}?" if near else f"{self.name}: {self.help}",
                code="measure.parameter",
            )
        return tuple(numbers) if self.many else numbers[0]

    def _numbers(self, value: object, text: str) -> list[Any]:
        """Return the numbers that a text holds, none where it holds something else."""
        if self.type is str or isinstance(value, bool):
            return []
        try:
            return [self.type(part) for part in (text.split("/") if self.many else [text])]
        except ValueError:
            return []

    def _inside(self, number: float) -> bool:
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )
