"""What a reader returns: one array with its meaning, its grid and what has to be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The kind of note that says that a reader left out axes of length 1; `header["shape"]` has them.
DROPPED = "geometry.dropped"
#: Closed ranges of label values, in ascending order and apart from each other.
Ranges = tuple[tuple[int, int], ...]
MaskKind = Literal["labels", "probability", "logits"]


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user. A `warning` becomes an error under `--strict`; a `note` never does.

    `code` names the kind (`geometry.ignored`): a cohort counts notes of one kind and shows one of them.
    """

    text: str
    level: Literal["note", "warning"] = "note"
    code: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Mask:
    """An array read from a file or given by a caller.

    `array` keeps the stored axis order and, for labels, the stored integer type (native byte
    order); probabilities and logits are float32 or float64. `spacing` is in mm, one number for each
    spatial axis of `array`, `None` where the format has none; `affine` maps voxel indices to mm.
    `channels` is the axis that holds one channel per label once it is known, else `None`.
    """

    name: str
    array: NDArray[Any]
    kind: MaskKind
    format: str
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    channels: int | None = None
    notes: tuple[Note, ...] = ()
    sha256: str = ""
    header: dict[str, object] = field(default_factory=dict)
    #: Which axes its kind of file is stored along: `xyz`, `yx` of an image, nothing where it does not say.
    order: str = ""
    #: Whether its kind of file or image has channels on the last axis; an array has them on the first.
    channels_last: bool = False

    def __repr__(self) -> str:
        grid = "x".join(str(n) for n in self.shape)
        spacing = "" if self.spacing is None else ", " + "x".join(f"{s:.4g}" for s in self.spacing) + " mm"
        return f"<Mask {self.name!r}: {self.kind}, {self.format}, {grid} of {self.array.dtype}{spacing}>"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)
