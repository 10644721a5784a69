"""Where voxels are: spacing, orientation, and whether two masks lie on the same grid.

Two grids are the same when every corner of the one is within a hundredth of a voxel of the other's.
The only repair offered is `reorient`, which permutes and flips axes; nothing is ever resampled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from segcli.masks.mask import Mask

#: Largest distance between equal corners, as a part of the smallest voxel edge. Float32 affines that went
#: through another tool differ by 1e-6 to 1e-4, a real pair of one scanner's files by 1.5e-3.
CORNERS = 1e-2
#: Relative difference of spacings, and of directions, that is a difference.
TOLERANCE = 1e-3
_REORIENT = "the same grid stored with other axes: --on-geometry reorient turns it, without resampling"
_UNIT_JUMPS = (1e3, 1e-3, 1e6, 1e-6)


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two grids differ; `text` holds the prediction's value, then the ground truth's.

    `hint` is the next step where the cause is recognised, else empty.
    """

    code: str
    text: str
    hint: str = ""


def spacing_of(affine: NDArray[Any], axes: int = 3) -> tuple[float, ...]:
    """Return the voxel edges in mm along the first `axes` array axes: the lengths of the affine's columns."""
    return tuple(float(n) for n in np.linalg.norm(np.asarray(affine, np.float64)[:3, :axes], axis=0))


def orientation(affine: NDArray[Any], axes: int = 3) -> str:
    """Return where each array axis points, as in `RAS`; `?` for an axis that points nowhere."""
    unit = _unit_columns(affine, 3)
    best = max(itertools.permutations(range(3)), key=lambda order: sum(abs(unit[r, c]) for c, r in enumerate(order)))
    letters = ("LR", "PA", "IS")
    return "".join("?" if unit[r, c] == 0 else letters[r][int(unit[r, c] > 0)] for c, r in enumerate(best))[:axes]


def is_sheared(affine: NDArray[Any], axes: int = 3, tolerance: float = 1e-3) -> bool:
    """Tell whether any two array axes are further from a right angle than `tolerance` (a cosine)."""
    unit = _unit_columns(affine, axes)
    gram = np.abs(unit.T @ unit)
    np.fill_diagonal(gram, 0)
    return bool(gram.max(initial=0.0) > tolerance)


def offset(a: NDArray[Any], b: NDArray[Any], shape: Sequence[int]) -> float:
    """Return how far apart two affines put the corners of a grid, at most, in units of `b`'s smallest edge."""
    axes = min(len(shape), 3)
    corners = np.zeros((2**axes, 4))
    corners[:, 3] = 1
    corners[:, :axes] = list(itertools.product(*((0.0, n - 1.0) for n in shape[:axes])))
    apart = np.linalg.norm((corners @ (np.asarray(a) - np.asarray(b)).T)[:, :3], axis=1).max()
    return float(apart / min(spacing_of(b, axes)))


def compare(pred: Mask, gt: Mask) -> list[Difference]:
    """List every way in which the grids of two masks differ; an empty list means they are the same.

    A mask without an affine (PNG, NPY, NIfTI with neither qform nor sform) is compared by its shape,
    and by its spacing where both have one. A known channel axis is left out.
    """
    found: list[Difference] = []
    ours, theirs = _grid_shape(pred), _grid_shape(gt)
    if ours != theirs:
        found.append(Difference("geometry.shape", f"shape {_by(ours)} vs {_by(theirs)}", _shape_hint(pred, gt)))
    if pred.affine is None or gt.affine is None:
        if pred.spacing and gt.spacing and len(pred.spacing) == len(gt.spacing):
            found += _spacing(pred.spacing, gt.spacing)
        return found
    if offset(pred.affine, gt.affine, theirs) <= CORNERS:
        return found
    before = len(found)
    axes = min(len(ours), len(theirs), 3)
    turned = orientation(pred.affine, axes), orientation(gt.affine, axes)
    if turned[0] != turned[1]:
        hint = _REORIENT if reorient(pred, gt) is not None else ""
        found.append(Difference("geometry.orientation", f"orientation {turned[0]} vs {turned[1]}", hint))
    else:
        found += _spacing(spacing_of(pred.affine, axes), spacing_of(gt.affine, axes))
    moved = pred.affine[:3, 3] - gt.affine[:3, 3]
    if turned[0] == turned[1] and np.linalg.norm(moved) > TOLERANCE * min(spacing_of(gt.affine, axes)):
        pair = _both(tuple(pred.affine[:3, 3]), tuple(gt.affine[:3, 3]), ", ")
        found.append(Difference("geometry.origin", f"origin {pair} mm, {np.linalg.norm(moved):.3g} mm apart"))
    if len(found) == before or (turned[0] == turned[1] and _turn(pred.affine, gt.affine, axes) > TOLERANCE):
        far = offset(pred.affine, gt.affine, theirs)
        apart = counted(far, "voxel", shown=f"{far:.3g}")
        text = f"affine {_both(_rows(pred.affine), _rows(gt.affine), ', ')}; corners up to {apart} apart"
        found.append(Difference("geometry.affine", text))
    return found


def reorient(pred: Mask, gt: Mask) -> Mask | None:
    """Return `pred` with its axes permuted and flipped onto the grid of `gt`, as a view of the same numbers.

    `None` when that alone does not bring every corner within a hundredth of a voxel: resampling is
    another act, and not one for an evaluation. The caller says that it happened.
    """
    axes = len(_grid_shape(gt))
    if pred.affine is None or gt.affine is None or axes > 3 or len(_grid_shape(pred)) != axes:
        return None
    # cosine between each gt axis (row) and each pred axis (column)
    cosines = _unit_columns(gt.affine, axes).T @ _unit_columns(pred.affine, axes)
    order = [int(np.argmax(np.abs(row))) for row in cosines]
    if sorted(order) != list(range(axes)):
        return None
    spatial = [axis for axis in range(pred.array.ndim) if axis != pred.channels][:axes]
    array, affine, layout = pred.array, pred.affine.astype(np.float64), list(range(pred.array.ndim))
    affine[:, :axes] = pred.affine[:, order]
    index: list[slice] = [slice(None)] * pred.array.ndim
    for to, source in enumerate(order):
        layout[spatial[to]] = spatial[source]
        if cosines[to, source] < 0:
            index[spatial[to]] = slice(None, None, -1)
            affine[:, 3] += affine[:, to] * (array.shape[spatial[source]] - 1)
            affine[:, to] = -affine[:, to]
    array = array.transpose(layout)[tuple(index)]
    spacing = tuple(pred.spacing[a] for a in order) if pred.spacing and len(pred.spacing) == axes else pred.spacing
    moved = replace(pred, array=array, affine=affine, spacing=spacing)
    if _grid_shape(moved) != _grid_shape(gt) or offset(affine, gt.affine, _grid_shape(gt)) > CORNERS:
        return None
    return moved


def _unit_columns(affine: NDArray[Any], axes: int) -> NDArray[np.float64]:
    columns = np.asarray(affine, np.float64)[:3, :axes]
    lengths = np.linalg.norm(columns, axis=0)
    return np.asarray(columns / np.where(lengths > 0, lengths, 1.0), np.float64)


def _grid_shape(mask: Mask) -> tuple[int, ...]:
    return tuple(n for axis, n in enumerate(mask.shape) if axis != mask.channels)


def _shape_hint(pred: Mask, gt: Mask) -> str:
    ours, theirs = _grid_shape(pred), _grid_shape(gt)
    if len(ours) == len(theirs) and reorient(pred, gt) is not None:
        return _REORIENT
    if len(ours) != len(theirs) and 1 in (*ours, *theirs):
        return "--squeeze drops axes of length 1"
    from segcli.masks.axes import order_hint

    if hint := order_hint(pred, gt, channels=pred.channels is not None):
        return hint
    if len(ours) > 1 and ours == theirs[::-1]:
        return "the axes look reversed: SimpleITK arrays are z,y,x; save array.T"
    if len(ours) == len(theirs) and sorted(ours) == sorted(theirs):
        return "the same lengths in another order: are the axes permuted?"
    return ""


def _spacing(ours: tuple[float, ...], theirs: tuple[float, ...]) -> list[Difference]:
    ratio = np.asarray(ours) / np.asarray(theirs)
    if np.allclose(ratio, 1.0, rtol=0, atol=TOLERANCE):
        return []
    both = f"spacing {_both(ours, theirs, 'x')} mm"
    for jump in _UNIT_JUMPS:
        if np.allclose(ratio, jump, rtol=TOLERANCE, atol=0):
            hint = "is the unit in one of the headers wrong?"
            return [Difference("geometry.units", f"{both}, a factor of {jump:g}", hint)]
    return [Difference("geometry.spacing", both)]


def _turn(a: NDArray[Any], b: NDArray[Any], axes: int) -> float:
    return float(np.abs(_unit_columns(a, axes) - _unit_columns(b, axes)).max())


def _rows(affine: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(x) for x in np.asarray(affine)[:3].ravel())


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)


def _both(ours: Sequence[float], theirs: Sequence[float], joint: str) -> str:
    """Write two lists of numbers with as many digits as it takes to tell them apart."""
    texts = ["", ""]
    for digits in (5, 8, 17):
        texts = [joint.join(f"{float(x) + 0.0:.{digits}g}" for x in side) for side in (ours, theirs)]
        if texts[0] != texts[1]:
            break
    return f"({texts[0]}) vs ({texts[1]})" if joint == ", " else f"{texts[0]} vs {texts[1]}"
