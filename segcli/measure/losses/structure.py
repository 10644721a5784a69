"""Losses that look at neighbourhoods, objects or contours: local structure, components and length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.combine import term, weighted
from segcli.measure.losses.region import Smooth
from segcli.measure.param import Param

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.kernels.length import ContourLength
    from segcli.kernels.windows import Similarity

_INF = float("inf")

Window = Annotated[int, Param("side of the window in voxels", ge=1, le=101)]
Sigma = Annotated[float, Param("standard deviation of the Gaussian window in voxels", ge=0.1, le=100)]
Region = Annotated[float, Param("weight of the region term; that of the length is 1", ge=0)]
Inside = Annotated[float, Param("weight of false alarms in the region term", ge=0)]


# --- ssim -------------------------------------------------------------------------------------


@loss(
    family="region",
    needs="grid",
    formula=r"1-\frac{1}{M}\sum_w\frac{(2\mu_p\mu_y+C_1)(2\sigma_{py}+C_2)}"
    r"{(\mu_p^2+\mu_y^2+C_1)(\sigma_p^2+\sigma_y^2+C_2)},\quad C_1=0.01^2,\ C_2=0.03^2",
    reference="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
    range=(0.0, 2.0),
    symmetric=True,
    aliases=("ssim_loss",),
    reads="probability",
    caution="Where the gt is 0 it measures small noise: a constant probability of 0.05 already costs 0.96 of 1, and "
    "one of 0.5 hardly more.",
)
def ssim(pair: SoftPair, *, window: Window = 11, sigma: Sigma = 1.5) -> float | None:
    """Structural similarity loss: local means, contrasts and correlations compared in Gaussian windows.

    Choose it beside other terms (basnet) when borders should be crisp. Only windows that fit into the grid
    count, as in MONAI; along an axis shorter than the window it is as long as the axis. Ignored voxels
    have no weight. A voxel's share is that of its weight in each window, so the map is blurred by it.
    """
    similarity = _similarity(pair, window, sigma)
    return float(similarity.lack.sum()) / similarity.count if similarity.count else None


@gradient_of("ssim")
def _ssim_gradient(pair: SoftPair, d: Derivatives, *, window: int, sigma: float) -> Vector:
    similarity = _similarity(pair, window, sigma)
    return d.p * pair.vector(similarity.pull()) / max(similarity.count, 1)


@voxel_map_of("ssim", "additive")
def _ssim_map(pair: SoftPair, *, window: int, sigma: float) -> Vector:
    similarity = _similarity(pair, window, sigma)
    return pair.vector(similarity.spread(similarity.lack)) / max(similarity.count, 1)


def _similarity(pair: SoftPair, window: int, sigma: float) -> Similarity:
    from segcli.kernels.windows import Similarity

    return Similarity(pair.grid(pair.p), pair.grid(pair.y), window, sigma, pair.valid)


# --- basnet -----------------------------------------------------------------------------------


@weighted(
    term("bce"),
    term("ssim"),
    term("iou"),
    formula=r"\mathrm{BCE}+(1-\mathrm{SSIM})+(1-\mathrm{IoU})",
    reference="Qin et al. 2019, doi:10.1109/CVPR.2019.00766",
    least="hard gt",
    aliases=("basnet_loss",),
    caution="On a hard mask the cross-entropy measures only -ln(clip) times the error rate and outweighs the rest.",
)
def basnet() -> None:
    """Cross-entropy, structural similarity and IoU losses added: voxels, patches and the whole object.

    Choose it when crisp borders matter (salient objects, cut-outs). The terms have different scales: look
    at ssim, bce and iou before trusting the sum.
    """


# --- blob -------------------------------------------------------------------------------------


@loss(
    family="region",
    needs="grid",
    formula=r"\frac{1}{K}\sum_{k=1}^{K}\left(1-\frac{2\sum_{i\in b\cup c_k}p_iy_i+s}"
    r"{\sum_{i\in b\cup c_k}(p_i+y_i)+s}\right),\quad b=\text{background},\ c_k=\text{components of the gt}",
    reference="Kofler et al. 2022, arXiv:2205.08209",
    range=(0.0, 1.0),
    optimum=None,
    aliases=("blob_dice", "blob_loss"),
    caution="Every component is charged with all false alarms: many small components near one false blob give values "
    "near 1. With an empty gt it is dice.",
)
def blob(pair: SoftPair, *, smooth: Smooth = 1e-5) -> float:
    """Mean over the ground truth's components of the Dice loss on that component and the background.

    Choose it beside dice when many objects differ in size and each counts the same: a small lesion that is
    missed is as dear as a large one. Components touch over faces, edges or corners. With one component,
    or none, it equals dice.
    """
    return _blobs(pair, smooth).loss


@gradient_of("blob")
def _blob_gradient(pair: SoftPair, d: Derivatives, *, smooth: float) -> Vector:
    # each component's loss has the slope (score - 2y)/size on its own voxels and on the background
    blobs = _blobs(pair, smooth)
    return d.p * (blobs.per_voxel(blobs.score * blobs.inverse) - 2 * pair.y * blobs.per_voxel(blobs.inverse))


@voxel_map_of("blob", "additive")
def _blob_map(pair: SoftPair, *, smooth: float) -> Vector:
    blobs = _blobs(pair, smooth)
    return (pair.p * (1 - pair.y) + pair.q * pair.y) * blobs.per_voxel(blobs.inverse)


class _Blobs(NamedTuple):
    """Voxels by component (0 the background); of each component the Dice score and 1/(size K)."""

    component: NDArray[np.intp]
    score: Vector
    inverse: Vector
    loss: float

    def per_voxel(self, of_component: Vector) -> Vector:
        """Return each voxel's entry of its component; the background belongs to all of them."""
        import numpy as np

        entries: Vector = np.concatenate([[of_component.sum()], of_component])
        return entries[self.component]


def _blobs(pair: SoftPair, smooth: float) -> _Blobs:
    import numpy as np
    from scipy.ndimage import label

    grid = pair.grid(pair.y) > pair.threshold
    labels, count = label(grid, structure=np.ones((3,) * grid.ndim))
    component: NDArray[np.intp] = pair.vector(labels).astype(np.intp)

    def sums(values: Vector) -> Vector:
        found = np.bincount(component, values, max(int(count), 1) + 1)
        together: Vector = found[0] + found[1:]
        return together

    error = sums(pair.p * (1 - pair.y) + pair.q * pair.y)
    overlap = 2 * sums(pair.p * pair.y) + smooth
    size = error + overlap
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0) / size.size
    score = np.divide(overlap, size, out=np.ones_like(size), where=size > 0)
    return _Blobs(component, score, inverse, float((error * inverse).sum()))


# --- active_contour ---------------------------------------------------------------------------


@loss(
    family="region",
    needs="grid",
    formula=r"\frac{1}{M}\sum_i\sqrt{\textstyle\sum_a(p_{i+e_a}-p_i)^2+10^{-8}}"
    r"+\frac{\lambda}{N}\sum_i\left[\mu\,p_i(1-y_i)^2+(1-p_i)y_i^2\right]",
    reference="Chen et al. 2019, doi:10.1109/CVPR.2019.01190",
    range=(0.0, _INF),
    optimum=None,
    aliases=("active_contour_loss",),
    caution="Its least value is not at pred = gt: the length of the gt's own contour counts, so a smoother prediction "
    "can have less, and the excess over pred = gt can be negative.",
)
def active_contour(pair: SoftPair, *, region: Region = 1.0, mu: Inside = 1.0) -> float | None:
    """Length of the prediction's contour plus a linear region error.

    Choose it to smooth ragged predictions. The length is the mean size of the forward differences, taken at
    the voxels that have a next one along every axis; the authors' code crops the differences along the
    axes apart from one another. It shrinks thin and small objects, which are mostly contour. Spacing is
    not used.
    """
    if not pair.n:
        return None
    contour = _contour(pair)
    length = float(contour.value.sum()) / max(contour.count, 1)
    return length + region * float(_region_error(pair, mu).mean())


@gradient_of("active_contour")
def _active_contour_gradient(pair: SoftPair, d: Derivatives, *, region: float, mu: float) -> Vector:
    contour = _contour(pair)
    length = pair.vector(contour.pull()) / max(contour.count, 1)
    return d.p * (length + region * (mu * (1 - pair.y) ** 2 - pair.y**2) / pair.n)


@voxel_map_of("active_contour", "additive")
def _active_contour_map(pair: SoftPair, *, region: float, mu: float) -> Vector:
    contour = _contour(pair)
    return pair.vector(contour.value) / max(contour.count, 1) + region * _region_error(pair, mu) / pair.n


def _contour(pair: SoftPair) -> ContourLength:
    from segcli.kernels.length import ContourLength

    return ContourLength(pair.grid(pair.p), pair.valid)


def _region_error(pair: SoftPair, mu: float) -> Vector:
    return mu * pair.p * (1 - pair.y) ** 2 + pair.q * pair.y**2
