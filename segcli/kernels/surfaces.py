"""What a surface is: the words of the parameter `surface=`, each with what it means."""

from __future__ import annotations

import typing
from typing import Literal

Surface = Literal["surfel", "vertex", "border", "border_c2", "border_c3", "border_open", "border26", "mesh", "set"]
SURFACES: tuple[Surface, ...] = typing.get_args(Surface)

#: Surfaces whose percentiles weigh the elements by their area.
BY_AREA: frozenset[Surface] = frozenset({"surfel", "mesh"})
#: What the words mean, as the reports and the catalogue say it. The neighbours of `border` are those across
#: a face, of `border_c2` also those across an edge, of the others all around; in 2-D an edge is a corner.
MEANING: dict[str, str] = {
    "surfel": "area-weighted elements of the dual grid, as surface-distance",
    "vertex": "corners of the voxels, weighted by the faces around, as DisTorch",
    "border": "voxels with a face neighbour outside, each counting 1, as MONAI and MedPy",
    "border_c2": "voxels with a face or edge neighbour outside, as MedPy with connectivity=2",
    "border_c3": "voxels with any neighbour outside, as MedPy with connectivity=3",
    "border_open": "voxels with a face neighbour outside the mask, the edge of the image not counted, as mikan-rs",
    "border26": "voxels with any neighbour outside the mask, the edge of the image not counted, as seg-metrics",
    "mesh": "area-weighted triangles (segments in 2-D), exact distances to the other mesh, as MeshMetrics",
    "set": "all voxels of the mask, as SimpleITK's Hausdorff filter and scikit-image",
}
