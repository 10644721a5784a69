"""Where the probabilities of a case come from, and those of one of its labels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair
    from segcli.masks.labels import Label


class Probabilities(Protocol):
    """What knows the probabilities of a case."""

    def soft(self, label: Label) -> SoftPair: ...

    def classes(self) -> SoftClasses: ...


class OfLabel:
    """The probabilities of one label, worked out when they are first asked for; `source` is `None` of a hard mask."""

    def __init__(self, source: Probabilities | None, label: Label) -> None:
        self.source = source
        self.label = label

    @cached_property
    def soft(self) -> SoftPair | None:
        """Return the label's probabilities against its ground truth; `None` of a hard mask."""
        return None if self.source is None else self.source.soft(self.label)
