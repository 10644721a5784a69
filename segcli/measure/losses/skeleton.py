"""Losses for thin and branching structures: overlap with a skeleton in place of overlap with the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from segcli.kernels import thinnings
from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.combine import term, weighted
from segcli.measure.losses.region import Smooth
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.kernels.pooling import SoftSkeleton

Iterations = Annotated[
    int, Param("openings after the first: at least the largest half-width of a tube, in voxels", ge=0, le=1000)
]
SkeletonSmooth = Annotated[float, Param("added to numerators and denominators of the overlap ratios", gt=0)]
Mix = Annotated[float, Param("weight of cldice; 1-alpha is that of dice", ge=0, le=1)]
Thinning = Annotated[thinnings.Thinning, Param(thinnings.HELP, words=thinnings.THINNINGS, shown=True)]
TubeRadius = Annotated[int, Param("how many face steps the tube reaches from the skeleton", ge=0, le=100)]


# --- cldice -----------------------------------------------------------------------------------


@loss(
    family="region",
    needs="grid",
    formula=r"1-2\,\frac{T_{prec}T_{sens}}{T_{prec}+T_{sens}},\quad "
    r"T_{prec}=\frac{\sum_iS(p)_iy_i+s}{\sum_iS(p)_i+s},\ T_{sens}=\frac{\sum_iS(y)_ip_i+s}{\sum_iS(y)_i+s}",
    reference="Shit et al. 2021, arXiv:2003.07311",
    range=(0.0, 1.0),
    optimum=None,
    symmetric=True,
    aliases=("soft_cldice", "cl_dice"),
    caution="Not usable alone: it sees centre lines and hardly the width; add dice (dice_cldice). With too few "
    "iterations for the width of a tube its skeleton is empty, and with it what is compared.",
)
def cldice(pair: SoftPair, *, iterations: Iterations = 3, smooth: SkeletonSmooth = 1.0) -> float:
    """Centre-line Dice loss: how much of each mask's soft skeleton lies in the other mask.

    Choose it with dice for vessels, airways or roads, where a break costs few voxels and much topology.
    S is the soft skeleton by repeated opening with 3x3 (3x3x3) neighbourhoods. Papers and code use 3 to 50
    iterations (the authors' own code ignores the setting and takes 10): values of different iterations
    do not compare. MONAI's differs by up to 5e-5, by one more smooth of 1e-4.
    """
    return _lines(pair, iterations, smooth).loss


@gradient_of("cldice")
def _cldice_gradient(pair: SoftPair, d: Derivatives, *, iterations: int, smooth: float) -> Vector:
    lines = _lines(pair, iterations, smooth)
    total = (lines.prec + lines.sens) ** 2
    by_prec, by_sens = -2 * lines.sens**2 / total, -2 * lines.prec**2 / total
    on_skeleton = by_prec * (pair.y - lines.prec) / lines.size_p
    through = pair.vector(_skeleton(pair, iterations, "p").pull(pair.grid(on_skeleton)))
    return d.p * (through + by_sens * lines.of_y / lines.size_y)


@voxel_map_of("cldice", "additive")
def _cldice_map(pair: SoftPair, *, iterations: int, smooth: float) -> Vector:
    # 1 - 2ab/(a+b) is (1-a) b/(a+b) + (1-b) a/(a+b), and 1-a and 1-b are sums over voxels
    lines = _lines(pair, iterations, smooth)
    total = lines.prec + lines.sens
    false_lines = lines.of_p * (1 - pair.y) * (lines.sens / (total * lines.size_p))
    return false_lines + lines.of_y * pair.q * (lines.prec / (total * lines.size_y))


class _Lines(NamedTuple):
    """The soft skeletons, their sizes, the two ratios and the loss."""

    of_p: Vector
    of_y: Vector
    size_p: float
    size_y: float
    prec: float
    sens: float
    loss: float


def _lines(pair: SoftPair, iterations: int, smooth: float) -> _Lines:
    of_p = pair.vector(_skeleton(pair, iterations, "p").value)
    of_y = pair.vector(_skeleton(pair, iterations, "y").value)
    size_p, size_y = float(of_p.sum()) + smooth, float(of_y.sum()) + smooth
    # not of_p @ pair.y: the sums of a BLAS depend on its threads
    wrong, missed = float((of_p * (1 - pair.y)).sum()) / size_p, float((of_y * pair.q).sum()) / size_y
    prec, sens = (float((of_p * pair.y).sum()) + smooth) / size_p, (float((of_y * pair.p).sum()) + smooth) / size_y
    return _Lines(of_p, of_y, size_p, size_y, prec, sens, (prec * missed + sens * wrong) / (prec + sens))


def _skeleton(pair: SoftPair, iterations: int, of: str) -> SoftSkeleton:
    from segcli.kernels.pooling import SoftSkeleton

    def made(whole: SoftPair) -> SoftSkeleton:
        return SoftSkeleton(whole.grid(whole.p if of == "p" else whole.y), iterations, whole.valid)

    return pair.once(("soft skeleton", of, iterations), made)


# --- dice_cldice ------------------------------------------------------------------------------


@weighted(
    term("cldice", "alpha"),
    term("dice", "1-alpha"),
    formula=r"(1-\alpha)\,\mathrm{DL}+\alpha\,\mathrm{clDL}",
    reference="Shit et al. 2021, arXiv:2003.07311",
    aliases=("soft_dice_cldice",),
    caution="With an empty gt it is near 1 for any prediction with more than a few voxels in it, with almost no "
    "gradient.",
)
def dice_cldice(*, alpha: Mix = 0.5) -> None:
    """Dice loss plus centre-line Dice loss: the object's volume and its thin connections in one.

    Choose it as the usual way to train with cldice. alpha up to 0.5 is the papers' range. Both terms have
    the smooth of 1 of the authors' code, which makes tiny objects look better than they are.
    """


# --- skeleton_recall --------------------------------------------------------------------------


@loss(
    family="region",
    needs="grid",
    formula=r"1-\frac{\sum_ip_iT_i+s}{\sum_iT_i+s},\quad T=\text{tube around the skeleton of the gt, inside the gt}",
    reference="Kirchhoff et al. 2024, arXiv:2404.03010",
    range=(0.0, 1.0),
    local=True,
    optimum=None,
    aliases=("skeleton_recall_loss",),
    caution="Not usable alone: it sees no false alarms, all foreground is perfect. With an empty gt it is 0 for any "
    "prediction.",
)
def skeleton_recall(
    pair: SoftPair, *, radius: TubeRadius = 2, smooth: Smooth = 1e-5, thinning: Thinning = "ends"
) -> float:
    """Share of a tube around the ground truth's skeleton that the prediction misses.

    Choose it beside dice for thin structures, as a cheap cldice: the tube is found once for a gt. The
    skeleton is thickened by `radius` face steps and cut to the gt. The authors' is that of scikit-image:
    in 3-D (thinning=lee) it loses straight tubes of even thickness and small objects, which are then not
    seen. Spacing is not used.
    """
    tube, size = _tube(pair, radius, smooth, thinning)
    return pair.total(lambda own: own.here(tube) * own.q) * size


@gradient_of("skeleton_recall")
def _skeleton_recall_gradient(
    pair: SoftPair, d: Derivatives, *, radius: int, smooth: float, thinning: thinnings.Thinning
) -> Vector:
    tube, size = _tube(pair, radius, smooth, thinning)
    return -d.p * pair.here(tube) * size


@voxel_map_of("skeleton_recall", "additive")
def _skeleton_recall_map(pair: SoftPair, *, radius: int, smooth: float, thinning: thinnings.Thinning) -> Vector:
    tube, size = _tube(pair, radius, smooth, thinning)
    return pair.here(tube) * pair.q * size


def _tube(pair: SoftPair, radius: int, smooth: float, thinning: thinnings.Thinning) -> tuple[Vector, float]:
    """Return the tube and 1/(its size + smooth), 0 where there is none."""
    tube: Vector
    tube, voxels = pair.once(("tube", radius, thinning), lambda whole: _tube_and_size(whole, radius, thinning))
    return tube, 1 / (voxels + smooth) if voxels + smooth > 0 else 0.0


def _tube_and_size(pair: SoftPair, radius: int, thinning: thinnings.Thinning) -> tuple[Vector, float]:
    from segcli.kernels.skeleton import skeleton_tube

    tube = pair.vector(skeleton_tube(pair.grid(pair.y) > pair.threshold, radius, thinning))
    return tube, float(tube.sum())
