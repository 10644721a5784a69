"""A line on stderr that says how far a long work is, how fast it goes and when it ends."""

from __future__ import annotations

import sys
import time
from typing import Self

from segcli.cli.session import PATIENCE, Session

#: Seconds between two updates of the line.
PACE = 0.2


class Progress:
    """Call it with what is done and how much there is; it draws on a terminal, after a second."""

    def __init__(self, session: Session, unit: str) -> None:
        self._shown = session.progress and not session.quiet and sys.stderr.isatty()
        self._unit = unit
        self._start = self._last = time.monotonic()
        self._first: int | None = None
        self._drawn = False
        self.done = self.of = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def __call__(self, done: int, of: int) -> None:
        """Draw the line where it is time to."""
        self.done, self.of = done, of
        now = time.monotonic()
        if self._first is None:
            self._first = done - 1
        if not self._shown or now - self._start < PATIENCE or (now - self._last < PACE and done < of):
            return
        self._last, self._drawn = now, True
        rate = (done - self._first) / (now - self._start)
        left = _span((of - done) / rate) if rate > 0 else "?"
        speed = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each" if rate > 0 else ""
        print(f"\r\x1b[2K{done}/{of} {self._unit}, {speed}, {left} left", end="", file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
