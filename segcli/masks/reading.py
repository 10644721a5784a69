"""What a caller says of the voxels of a pair. Needs no NumPy: a wrong option is told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from segcli.masks.labels import Label
from segcli.masks.mask import MaskKind, Ranges


@dataclass(frozen=True, slots=True)
class Reading:
    """Every option that decides what the voxels of a pair mean (cli.md, "What a file is")."""

    labels: tuple[Label, ...] | None = None
    #: Values of the ground truth that mark void.
    ignore: Ranges = ()
    #: Where they do: in the ground truth, or in either file.
    ignore_in: Literal["gt", "either"] = "gt"
    #: A mask of the voxels that count: a path, an array or a `Mask`.
    roi: Any = field(default=None, compare=False, repr=False)
    kind: MaskKind | None = None
    threshold: float = 0.5
    prob_scale: float | None = None
    round: bool = False
    channel_axis: int | None = None
    #: What each channel holds, where they overlap: every one is cut by itself.
    channels: tuple[Label, ...] | None = None
    normalize: bool = False
    stack: bool = False
    stack_axis: int | None = None
    squeeze: bool = False
    axes: str | None = None
    colors: str | None = None
    spacing: tuple[float, ...] | None = None
    on_geometry: Literal["error", "reorient", "ignore"] = "error"
    max_voxels: int | None = None
    soft_gt: bool = False
