"""The images of a stack as one case for losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segcli.masks.labels import Label
from segcli.scoring.loading import Loaded

if TYPE_CHECKING:
    from segcli.evidence.classes import SoftClasses
    from segcli.evidence.soft import SoftPair


@dataclass(frozen=True)
class Batch(Loaded):
    """All images of a stack as one case for losses: their voxels are pooled before a formula is applied."""

    images: tuple[Loaded, ...] = ()

    @classmethod
    def of(cls, images: Sequence[Loaded]) -> Batch:
        """Return the batch of these images; its `case` has them one after the other along the first axis."""
        import numpy as np

        from segcli.evidence.case import Case

        first = images[0]
        joined = [np.concatenate([getattr(image.grid, side) for image in images]) for side in ("pred", "gt")]
        valid = None
        if first.grid.valid is not None or any(image.grid.valid is not None for image in images):
            whole = [
                np.ones(image.grid.gt.shape, dtype=bool) if image.grid.valid is None else image.grid.valid
                for image in images
            ]
            valid = np.concatenate(whole)
        how: dict[str, Any] = {"spacing": first.grid.spacing, "unit": first.case.unit, "void": first.grid.void}
        case = Case.of(joined[0], joined[1], first.labels, valid=valid, bits=first.grid.bits, **how)
        name = f"{first.name.rpartition('[')[0]}[0..{len(images) - 1}]"
        return cls(name, first.pred, first.gt, first.grid, case, first.binary, [], first.roi, images=tuple(images))

    @property
    def channels(self) -> list[Label]:
        """Return the labels that losses average over: those of any image."""
        return self._of_images([image.channels for image in self.images])

    @property
    def every_class(self) -> list[Label]:
        return self._of_images([image.every_class for image in self.images])

    @staticmethod
    def _of_images(labels: Iterable[Sequence[Label]]) -> list[Label]:
        found = {label.values: label for own in labels for label in own}
        return sorted(found.values(), key=lambda label: label.values or (1,))

    def soft(self, label: Label) -> SoftPair:
        """Return the voxels of `label` in all images."""
        from segcli.evidence.pooled import PooledPair

        return PooledPair([image.soft(label) for image in self.images])

    def channel_rows(self) -> Any:
        """Return the probabilities of all channels in all images."""
        import numpy as np

        return np.concatenate([image.channel_rows() for image in self.images], axis=1)

    def classes(self, labels: Sequence[Label] | None = None) -> SoftClasses:
        """Return the voxels of all images, all classes at once."""
        from segcli.evidence.pooled import PooledClasses

        return PooledClasses([image.classes(labels or self.every_class) for image in self.images])
