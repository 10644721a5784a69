"""The losses of a score under `--convention`: what a library returns for each label, and for all channels at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from segcli.measure.why import Why
from segcli.scoring.library_values import Channels
from segcli.scoring.means import ALL, Mean
from segcli.scoring.values import Value

if TYPE_CHECKING:
    from segcli.masks.labels import Label
    from segcli.measure.losses.libraries import Implementation
    from segcli.measure.record import BoundMeasure
    from segcli.scoring.loading import Loaded


class ByLibrary:
    """Losses of a case as a library returns them (`--convention`), and in words where it returns none."""

    def __init__(self, loaded: Loaded, entries: Mapping[str, Implementation]) -> None:
        self.loaded = loaded
        self.entries = entries
        self.remarks: list[str] = []

    @property
    def several(self) -> bool:
        """Return whether there is more than one channel."""
        return self.loaded.tied or len(self.loaded.channels) > 1

    def value(self, bound: BoundMeasure, label: Label | None = None) -> Value:
        """Return a loss of a label by itself, or of all."""
        channels, one = Channels(self.loaded, label), self.entries[bound.name]
        value, words = channels.returned(one, bound)
        name = ALL if label is None else label.name
        empty = any(pair.gt_empty for pair in channels.pairs)
        if value is None:
            self.remarks.append(f"{one.call}: {name}: {words}")
            why = Why.HARD_MASK if "hard mask" in words else Why.GT_EMPTY if empty else bound.measure.undefined
            return Value(name, "loss", bound.name, None, "", "undefined", why)
        return Value(name, "loss", bound.name, value, "", "ok", Why.GT_EMPTY if label is not None and empty else "")

    def means(self, losses: Sequence[BoundMeasure]) -> list[Mean]:
        """Return what the library returns for all channels at once, as the mean of each loss."""
        found = []
        for bound in losses:
            of = len(self.loaded.channels)
            value = self.value(bound).value
            found.append(Mean("loss", bound.name, value, "", 0 if value is None else of, of))
        return found
