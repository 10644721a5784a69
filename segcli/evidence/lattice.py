"""Where voxels lie: a grid with its spacing and the voxels of it that count, and what follows of neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segcli.evidence.neighbours import Islands, box_around, spread

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Lattice:
    """A grid of `shape`; `spacing` is in array axis order, `valid` a boolean grid, `None` when every voxel counts.

    A row has the voxels that count, in the order of the grid (C order of `shape`).
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    valid: Mask | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing: tuple[float, ...] | None, valid: Mask | None) -> Lattice:
        """Return the lattice of a grid; without a spacing voxels are 1 wide."""
        return cls(tuple(int(n) for n in shape), spacing or (1.0,) * len(shape), valid)

    def row(self, grid: NDArray[Any]) -> NDArray[Any]:
        """Return the voxels that count of a grid, or of each of several (..., *shape), in a row."""
        lead = grid.shape[: grid.ndim - len(self.shape)]
        if self.valid is None:
            return grid.reshape(*lead, -1)
        return grid[..., self.valid] if lead else grid[self.valid]  # the latter takes no memory for indices

    def vector(self, grid: NDArray[Any]) -> Vector:
        """Return the voxels that count of a grid, or of several, as float64."""
        return np.ascontiguousarray(self.row(grid), dtype=np.float64)

    def grid(self, rows: Vector, fill: float = 0.0) -> Vector:
        """Return rows (..., n) on the grid (..., *shape), `fill` in ignored voxels."""
        lead = rows.shape[:-1]
        if self.valid is None:
            return rows.reshape(*lead, *self.shape)
        grid = np.full((*lead, *self.shape), fill)
        grid[(..., self.valid) if lead else self.valid] = rows
        return grid

    def placed(self, mask: Mask) -> Mask:
        """Return a mask of the voxels that count on the grid, ignored ones false."""
        if self.valid is None:
            return mask.reshape(self.shape)
        grid = np.zeros(self.shape, dtype=bool)
        grid[self.valid] = mask
        return grid

    def near_border(self, of: Mask) -> Mask:
        """Return which voxels lie within one 26-neighbour step (8 in 2-D) of the border of a mask, on both sides."""
        inside, outside = self.placed(of), self.placed(~of)
        near = np.zeros(self.shape, dtype=bool)
        box = box_around(inside, margin=2)  # a voxel near the border, and what is near to that
        near[box] = spread(inside[box]) & spread(outside[box])
        return self.row(near)

    def islands(self, kind: str, own: Mask, other: Mask) -> Islands:
        """Return the components of a mask that have no voxel in another."""
        from scipy.ndimage import label

        grid = self.placed(own)
        box = box_around(grid)
        labels = np.zeros(self.shape, dtype=np.int32)
        count = label(grid[box], np.ones((3,) * grid.ndim), output=labels[box])
        numbers = self.row(labels)
        alone = np.ones(count + 1, dtype=bool)
        alone[0] = False
        alone[numbers[own & other]] = False
        voxels = np.flatnonzero(own)
        voxels = voxels[alone[numbers[voxels]]]
        renumbered = (np.cumsum(alone) - 1)[numbers[voxels]]
        return Islands(kind, voxels, renumbered, np.bincount(renumbered, minlength=int(alone.sum())))

    def border_distance(self, of: Mask, *, in_voxels: bool = False) -> Vector:
        """Return each voxel's distance to the nearest voxel on the other side of the border of a mask.

        Zeros everywhere where there is no border (an empty or a full mask). Unit: that of the spacing, or voxels.
        Ignored voxels are on neither side.
        """
        from segcli.kernels.distance_transform import distance_transform

        if not of.any() or of.all():
            return np.zeros(of.size)
        spacing = (1.0,) * len(self.shape) if in_voxels else self.spacing
        # The nearest voxel of the other side is in the box of a side or next to it: a voxel farther off, moved to the
        # face of the grown box, is nearer and still of the other side, unless it is ignored there.
        sides = [self.placed(of), self.placed(~of)]
        boxes = [box_around(side, margin=1) if self.valid is None else (slice(None),) * side.ndim for side in sides]
        distances = [distance_transform(sides[1 - k][boxes[k]], spacing) for k in (0, 1)]
        large = int(distances[1].size >= distances[0].size)
        if distances[large].shape == self.shape:
            found = distances[large]
            found[boxes[1 - large]] += distances[1 - large]
        else:
            found = np.zeros(self.shape)
            for box, distance in zip(boxes, distances, strict=True):
                found[box] += distance
        return self.vector(found)
