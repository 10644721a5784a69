"""Cross-entropies whose weights come from the place of a voxel: distances and local structure.

The weights are constants in the gradient, also where they depend on the prediction. Distances come
from thresholded masks; a mask that is empty or full has no boundary and weighs nothing extra.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.boundary import Unit
from segcli.measure.losses.distribution import Clip, cross_entropy
from segcli.measure.param import Param

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

#: Added to each local variance: without it rounding decides where the gt is flat.
FLOOR = 1e-12

Phi = Annotated[
    Literal["inverted", "exp", "raw"],
    Param(
        "extra weight by the distance d to the gt's boundary: 1 - d/largest d of the side; exp(-d^2/2 sigma^2); d",
        words=("inverted", "exp", "raw"),
    ),
]
Sigma = Annotated[float, Param("width of phi=exp, in `unit`", ge=1e-3, le=1e6)]
Region = Annotated[
    Literal["all", "mismatch"],
    Param("voxels that get the extra weight: all, or where the thresholded masks differ", words=("all", "mismatch")),
]
Stabiliser = Annotated[float, Param("added to the local deviations", gt=0, le=1)]
Cut = Annotated[float, Param("voxels with a structural error up to this share of the largest are left out", ge=0, lt=1)]
Radius = Annotated[int, Param("radius of the window, which is 2*radius+1 wide", ge=1, le=16)]
Spread = Annotated[float, Param("standard deviation of the window, in voxels", ge=1e-2, le=1e3)]
Pad = Annotated[
    Literal["mirror", "nearest"],
    Param("how the window goes on beyond the image: mirrored at the outer voxels, or repeating them",
          words=("mirror", "nearest")),
]  # fmt: skip


# --- distance_map -----------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i(1+\phi_i)\left[y_i\ln p_i+(1-y_i)\ln(1-p_i)\right]",
    reference="Caliva et al. 2019, arXiv:1908.03679",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="any gt",
    aliases=("distance_map_penalty", "pce"),
    reads="probability",
    caution="On a hard mask it measures only -ln(clip) times the weighted error rate. phi=raw grows with the spacing.",
)
def distance_map(
    pair: SoftPair, *, phi: Phi = "inverted", sigma: Sigma = 5.0, unit: Unit = "mm", clip: Clip = 1e-7
) -> float | None:
    """Cross-entropy that weighs voxels by their distance to the boundary of the ground truth.

    Choose it when the outline matters: with phi=inverted or exp an error at the boundary costs up to
    twice one far away. phi=raw is the opposite, it weighs far errors. `inverted` is scaled inside and
    outside by the largest distance of that side; it is 0 at the deepest voxel, hence for all of an
    object one voxel thick. The code that made it popular never applies its weights and is bce.
    """
    return pair.share(pair.total(lambda own: (1 + _phi(own, phi, sigma, unit)) * cross_entropy(own.y, own.logs(clip))))


@gradient_of("distance_map")
def _distance_map_gradient(
    pair: SoftPair, d: Derivatives, *, phi: str, sigma: float, unit: Literal["mm", "voxel"], clip: float
) -> Vector:
    return (1 + _phi(pair, phi, sigma, unit)) * cross_entropy(pair.y, d.clipped(clip)) / pair.n


@voxel_map_of("distance_map", "additive")
def _distance_map_map(pair: SoftPair, *, phi: str, sigma: float, unit: Literal["mm", "voxel"], clip: float) -> Vector:
    return (1 + _phi(pair, phi, sigma, unit)) * cross_entropy(pair.y, pair.logs(clip)) / pair.n


def _phi(pair: SoftPair, phi: str, sigma: float, unit: Literal["mm", "voxel"]) -> Vector:
    distance = pair.boundary_distance("gt", unit)
    if phi == "raw" or not pair.has_boundary(unit):
        return distance
    if phi == "exp":
        weights: Vector = math.e ** (-0.5 * (distance / sigma) ** 2)
        return weights
    inside = pair.y > pair.threshold
    deepest, farthest = pair.once(("depths", unit), lambda whole: _depths(whole, unit))
    return 1 - distance * (inside / deepest + ~inside / farthest)


def _depths(pair: SoftPair, unit: Literal["mm", "voxel"]) -> tuple[float, float]:
    """Return the largest distance to the gt's boundary inside and outside."""
    distance, inside = pair.boundary_distance("gt", unit), pair.y > pair.threshold
    return float((distance * inside).max()), float((distance * ~inside).max())


# --- shape_aware ------------------------------------------------------------------------------


@loss(
    family="distribution",
    needs="grid",
    formula=r"\frac{1}{N}\sum_i\mathrm{CE}_i+\frac{1}{N}\sum_{i\in R}E\,\mathrm{CE}_i,\quad"
    r"E=\frac{1}{|\partial\hat S|}\sum_{j\in\partial\hat S}d_y(j)",
    reference="Al Arif, Knapp and Slabaugh 2017, doi:10.1007/978-3-319-74113-0_2",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    aliases=("shape_aware_loss",),
    reads="probability",
    caution="E jumps when a voxel crosses the threshold, and is 0 while the prediction is empty, or the gt empty or "
    "full: an empty prediction gets no extra weight.",
)
def shape_aware(pair: SoftPair, *, region: Region = "all", unit: Unit = "mm", clip: Clip = 1e-7) -> float | None:
    """Cross-entropy that grows with the distance of the predicted outline from the true one.

    Choose it to punish a wrong shape as a whole: E, the mean distance of the border voxels of the
    thresholded prediction to the boundary of the gt, multiplies the cross-entropy. With region=all it is
    bce times 1+E; with region=mismatch E is added only where the masks differ. E is a length: values of
    different spacings do not compare. A border voxel has a face in common with the outside or the
    image's edge, and is at least one voxel away from the other side: E of a perfect prediction is not 0.
    """
    return pair.share(pair.total(lambda own: _shape_weights(own, region, unit) * cross_entropy(own.y, own.logs(clip))))


@gradient_of("shape_aware")
def _shape_aware_gradient(
    pair: SoftPair, d: Derivatives, *, region: str, unit: Literal["mm", "voxel"], clip: float
) -> Vector:
    return _shape_weights(pair, region, unit) * cross_entropy(pair.y, d.clipped(clip)) / pair.n


@voxel_map_of("shape_aware", "additive")
def _shape_aware_map(pair: SoftPair, *, region: str, unit: Literal["mm", "voxel"], clip: float) -> Vector:
    return _shape_weights(pair, region, unit) * cross_entropy(pair.y, pair.logs(clip)) / pair.n


def _shape_weights(pair: SoftPair, region: str, unit: Literal["mm", "voxel"]) -> Vector:
    apart = pair.once(("outline", unit), lambda whole: _outline_distance(whole, unit))
    where = (pair.p > pair.threshold) != (pair.y > pair.threshold) if region == "mismatch" else 1.0
    return 1 + apart * where + 0 * pair.p


def _outline_distance(pair: SoftPair, unit: Literal["mm", "voxel"]) -> float:
    border = _border(pair, pair.p > pair.threshold)
    count = float(border.sum())
    return float((border * pair.boundary_distance("gt", unit)).sum()) / count if count else 0.0


def _border(pair: SoftPair, inside: NDArray[np.bool_]) -> Vector:
    """Return 1 for voxels inside that have a face in common with one outside or with the image's edge.

    Ignored voxels are neither inside nor outside, and an axis of one voxel has no edge.
    """
    sides = pair.grid(inside.astype("float64"), fill=-1.0)
    outside, touched = sides == 0, sides > 1
    for axis in range(sides.ndim):
        there, here = outside.swapaxes(0, axis), touched.swapaxes(0, axis)
        here[1:] |= there[:-1]
        here[:-1] |= there[1:]
        if len(here) > 1:
            here[0] = here[-1] = True
    return pair.vector((sides == 1) & touched)


# --- cmssl ------------------------------------------------------------------------------------


@loss(
    family="distribution",
    needs="grid",
    formula=r"\frac{1}{|F|}\sum_{i\in F}e_i\,\mathrm{CE}_i,\quad"
    r"e=\left|\frac{y-\mu_y+C_4}{\sigma_y+C_4}-\frac{p-\mu_p+C_4}{\sigma_p+C_4}\right|,\quad"
    r"F=\{e>\beta\max e\}",
    reference="Zhao et al. 2019, arXiv:1910.08711",
    range=(0.0, _INF),
    aliases=("ssl_loss", "structural_similarity_ce"),
    reads="probability",
    caution="The voxels that count change with the prediction: value and gradient jump. Where the structure is the "
    "same it is blind, whatever the probabilities. Add cross-entropy for training, as its authors do.",
)
def cmssl(
    pair: SoftPair,
    *,
    c4: Stabiliser = 0.01,
    beta: Cut = 0.1,
    radius: Radius = 1,
    sigma: Spread = 1.5,
    pad: Pad = "mirror",
    clip: Clip = 1e-7,
) -> float | None:
    """Cross-entropy at voxels whose local structure differs from the ground truth, weighed by how much.

    Choose it beside cross-entropy for outlines and textures of probability maps. mu and sigma are mean
    and deviation in a Gaussian window (3 voxels wide by default, in voxels whatever the spacing), e the
    difference of the standardised maps; voxels with e up to beta of the largest are left out, the mean
    is over those kept (0 where none are). The paper's second deviation is misprinted as a mean in some
    texts. Ignored voxels are in no window. Next to an image's edge the value depends on `pad`.
    """
    weights = _structure(pair, c4, beta, radius, sigma, pad)
    return float((weights * cross_entropy(pair.y, pair.logs(clip))).sum()) if pair.n else None


@gradient_of("cmssl")
def _cmssl_gradient(
    pair: SoftPair,
    d: Derivatives,
    *,
    c4: float,
    beta: float,
    radius: int,
    sigma: float,
    pad: Literal["mirror", "nearest"],
    clip: float,
) -> Vector:
    return _structure(pair, c4, beta, radius, sigma, pad) * cross_entropy(pair.y, d.clipped(clip))


@voxel_map_of("cmssl", "additive")
def _cmssl_map(
    pair: SoftPair, *, c4: float, beta: float, radius: int, sigma: float, pad: Literal["mirror", "nearest"], clip: float
) -> Vector:
    return _structure(pair, c4, beta, radius, sigma, pad) * cross_entropy(pair.y, pair.logs(clip))


def _structure(
    pair: SoftPair, c4: float, beta: float, radius: int, sigma: float, pad: Literal["mirror", "nearest"]
) -> Vector:
    """Return e/|F| of each voxel in F, 0 elsewhere."""
    if not pair.n:
        return pair.p
    true, seen = (_standardised(pair, values, c4, radius, sigma, pad) for values in (pair.y, pair.p))
    error = abs(true - seen)
    kept = error > beta * error.max()
    weights: Vector = error * kept / max(1, int(kept.sum()))
    return weights


def _standardised(
    pair: SoftPair, values: Vector, c4: float, radius: int, sigma: float, pad: Literal["mirror", "nearest"]
) -> Vector:
    weight = 1.0 if pair.valid is None else _blurred(pair, 1 + 0 * values, radius, sigma, pad)
    mean = _blurred(pair, values, radius, sigma, pad) / weight
    variance = _blurred(pair, values * values, radius, sigma, pad) / weight - mean * mean
    found: Vector = (values - mean + c4) / ((variance.clip(min=0) + FLOOR) ** 0.5 + c4)
    return found


def _blurred(pair: SoftPair, values: Vector, radius: int, sigma: float, pad: Literal["mirror", "nearest"]) -> Vector:
    """Return the Gaussian means around the voxels, ignored voxels counted as 0."""
    from scipy.ndimage import correlate1d

    window = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    grid: Vector = pair.grid(values)
    for axis in range(grid.ndim):
        grid = correlate1d(grid, [share / sum(window) for share in window], axis=axis, mode=pad)
    found: Vector = pair.vector(grid)
    return found
