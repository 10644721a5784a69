"""A case on the grid that another tool puts it on: in voxels, or with the spacing in reverse order."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from segcli.evidence.case import Case


def on_grid(case: Case, grid: str) -> Case:
    """Return a case as a tool sees it that takes no spacing (`voxel`), or takes it in reverse order (`reversed`)."""
    if grid == "voxel":
        return with_spacing(case, (1.0,) * len(case.shape), "voxel")
    return with_spacing(case, case.spacing[::-1], case.unit) if grid == "reversed" else case


def with_spacing(case: Case, spacing: tuple[float, ...], unit: Literal["mm", "voxel"]) -> Case:
    """Return the same maps on another spacing; what does not depend on it is shared."""
    twin = copy.copy(case)
    for dependent in ("diagonal", "classes"):
        twin.__dict__.pop(dependent, None)
    twin.spacing, twin.unit = spacing, unit
    twin._distances, twin._elements = {}, {}
    return twin
