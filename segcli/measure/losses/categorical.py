"""Cross-entropies of all classes at once: in each voxel the classes' probabilities compete.

They read `SoftClasses`: a probability for each class and voxel, whose classes sum to 1. The ground truth
is a label map or a soft one; ignored voxels are left out of it before. A binary pair has two classes,
[1-p, p]. In a derivative by p every probability is a variable of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.errors import UsageError
from segcli.measure.filing import gradient_of, ideal_of, loss, voxel_map_of
from segcli.measure.losses.distribution import Clip, Gamma
from segcli.measure.param import Param
from segcli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segcli.evidence.classes import ClassDerivatives, Matrix, SoftClasses
    from segcli.evidence.soft import Vector

_INF = float("inf")

Smoothing = Annotated[float, Param("share s of the gt spread over the C classes: y becomes y(1-s) + s/C", ge=0, lt=1)]
Weights = Annotated[
    tuple[float, ...] | Literal["none", "balanced"],
    Param(
        "weight of each class, the background first; balanced = 1/voxels of the class in this gt",
        many=True,
        ge=0,
        words=("none", "balanced"),
    ),
]
ClassAlpha = Annotated[
    tuple[float, ...] | Literal["none"],
    Param("factor of each class, the background first; none = 1 for all", many=True, ge=0, words=("none",)),
]
_HARD_MASK = "On a hard mask it measures only -ln(clip) times the error rate."


def one_each(name: str, given: Sequence[float], classes: SoftClasses) -> Vector:
    """Return a list parameter as a vector; raise `UsageError` unless it has one entry for each class."""
    import numpy as np

    if len(given) != classes.count:
        raise UsageError(
            f"{name} has {counted(len(given), 'entry', 'entries')}; there are {classes.count} classes.",
            hint=f"one for each class, in this order: {'/'.join(classes.names)}",
            code="measure.parameter",
        )
    return np.asarray(given, dtype=np.float64)


def _smoothed(classes: SoftClasses, share: float) -> Matrix:
    return classes.y if share == 0 else classes.y * (1 - share) + share / classes.count


# --- categorical_ce ---------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{\sum_i\sum_c w_c\,y_{c,i}\ln p_{c,i}}{\sum_i\sum_c w_c\,y_{c,i}}",
    reference="Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x",
    range=(0.0, _INF),
    optimum=None,
    least="any gt",
    aliases=(
        "ce", "cross_entropy", "cce", "categorical_crossentropy", "sparse_categorical_ce",
        "sparse_categorical_crossentropy",
    ),
    reads="all-classes",
    caution=f"{_HARD_MASK} Without weights a class counts by its voxels: the background outvotes small classes.",
)  # fmt: skip
def categorical_ce(
    classes: SoftClasses, *, weights: Weights = "none", label_smoothing: Smoothing = 0.0, clip: Clip = 1e-7
) -> float | None:
    """Softmax cross-entropy: -ln of the probability of the right class, averaged over voxels.

    Choose it as the calm default for exclusive classes. Only the right class's probability counts, unlike
    the mean of bce over classes. The gt is a label map, so the sparse form of other libraries is this one;
    ignored voxels are left out. Probabilities are divided by their sum as in Keras. `weights` give a weighted
    mean as torch does for label maps: divided by the summed weights of the voxels, not by their number (torch
    divides by the number for a gt of probabilities); with `balanced` every class of the gt counts the same.
    With `label_smoothing` y becomes y(1-s) + s/C, weights included, and pred = gt is punished as overconfident.
    """
    goal, total = _goal(classes, weights, label_smoothing)
    return -float((goal * classes.logs(clip).log_p).sum()) / total if total else None


@ideal_of("categorical_ce")
def _categorical_ce_ideal(
    classes: SoftClasses,
    *,
    weights: tuple[float, ...] | str,
    label_smoothing: float,
    clip: float,  # noqa: ARG001 (one signature for all)
) -> Matrix:
    import numpy as np

    goal, _ = _goal(classes, weights, label_smoothing)
    size = goal.sum(axis=0)
    return np.asarray(np.divide(goal, size, out=classes.y.copy(), where=size > 0))


@gradient_of("categorical_ce")
def categorical_ce_gradient(
    classes: SoftClasses, d: ClassDerivatives, *, weights: tuple[float, ...] | str, label_smoothing: float, clip: float
) -> Matrix:
    """Return the derivative of `categorical_ce`."""
    goal, total = _goal(classes, weights, label_smoothing)
    return d.through_logs(-goal, clip) / total if total else 0 * goal


@voxel_map_of("categorical_ce", "additive")
def categorical_ce_map(
    classes: SoftClasses, *, weights: tuple[float, ...] | str, label_smoothing: float, clip: float
) -> Vector:
    """Return what each voxel adds to `categorical_ce`."""
    goal, total = _goal(classes, weights, label_smoothing)
    of_voxel: Vector = -(goal * classes.logs(clip).log_p).sum(axis=0)
    return of_voxel / total if total else 0 * of_voxel


def _goal(classes: SoftClasses, weights: tuple[float, ...] | str, label_smoothing: float) -> tuple[Matrix, float]:
    """Return the factor of each logarithm, and the sum of the voxels' weights."""
    import numpy as np

    goal = _smoothed(classes, label_smoothing)
    if weights == "none":
        return goal, float(classes.sizes.sum())
    if isinstance(weights, str):
        weight = np.divide(1, classes.sizes, out=np.zeros(classes.count), where=classes.sizes > 0)
    else:
        weight = one_each("categorical_ce: weights", weights, classes)
    return weight[:, np.newaxis] * goal, float(weight @ classes.sizes)


# --- categorical_focal ------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\sum_c\alpha_c\,y_{c,i}(1-p_{c,i})^\gamma\ln p_{c,i}",
    reference="Lin et al. 2017, arXiv:1708.02002",
    range=(0.0, _INF),
    optimum=None,
    least="hard gt",
    aliases=("focal_softmax", "softmax_focal", "categorical_focal_crossentropy"),
    reads="all-classes",
    caution=f"{_HARD_MASK} It under-trains easy voxels: probabilities stay under-confident.",
)
def categorical_focal(
    classes: SoftClasses,
    *,
    gamma: Gamma = 2.0,
    alpha: ClassAlpha = "none",
    label_smoothing: Smoothing = 0.0,
    clip: Clip = 1e-7,
) -> float | None:
    """Softmax cross-entropy that turns down the voxels whose right class is already likely.

    Choose it when easy voxels of a large class drown the hard ones; it fails as focal does. It is the mean over
    voxels, as in the paper. Libraries print other numbers: MONAI (use_softmax) and kornia divide by voxels times
    classes, Keras multiplies by alpha=0.25 (here 0.25 for each class), and SMP's multiclass mode is the mean of
    sigmoid focal over the channels. `alpha` are plain factors: their sum divides nothing. With gamma > 0 it is no
    proper score: of a soft gt its least value is not at pred = gt, though the excess is counted from there.
    """
    return classes.mean(_categorical_focal(classes, gamma, alpha, label_smoothing, clip))


@ideal_of("categorical_focal")
def _categorical_focal_ideal(
    classes: SoftClasses,
    *,
    gamma: float,
    alpha: tuple[float, ...] | str,
    label_smoothing: float,
    clip: float,  # noqa: ARG001 (one signature for all)
) -> Matrix:
    """Return the gt where nothing is smoothed or the gt is soft; else the least point of each class."""
    import numpy as np

    goal = _smoothed(classes, label_smoothing)
    if not label_smoothing or not np.isin(classes.y, (0.0, 1.0)).all():
        return goal
    truths = np.eye(classes.count) * (1 - label_smoothing) + label_smoothing / classes.count
    best = _least(truths * _factors(alpha, classes), gamma)
    return np.ascontiguousarray(best[classes.target].T)


def _least(factors: Matrix, gamma: float) -> Matrix:
    """Return for each row of factors f the p, with sum 1, at which -sum of f (1-p)^gamma ln p is least.

    There all slopes are equal. Each slope falls in p, so p is found by halving for a given slope, and the
    slope by halving for the sum.
    """
    import numpy as np

    def at(log_slope: Matrix) -> Matrix:
        low, high = np.full(factors.shape, 1e-300), np.ones(factors.shape)
        for _ in range(64):
            p = np.where(high > 4 * low, np.sqrt(low) * np.sqrt(high), (low + high) / 2)
            rest = np.maximum(1 - p, 1e-16)
            steep = factors * rest**gamma * (1 / p - gamma * np.log(p) / rest) > np.exp(log_slope)
            low, high = np.where(steep, p, low), np.where(steep, high, p)
        return low * (factors > 0)

    flat, steepest = (np.full((len(factors), 1), end) for end in (-700.0, 700.0))
    for _ in range(64):
        middle = (flat + steepest) / 2
        over = at(middle).sum(axis=1, keepdims=True) > 1
        flat, steepest = np.where(over, middle, flat), np.where(over, steepest, middle)
    found = np.where(factors.any(axis=1, keepdims=True), at(steepest), 1.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


@gradient_of("categorical_focal")
def _categorical_focal_gradient(
    classes: SoftClasses,
    d: ClassDerivatives,
    *,
    gamma: float,
    alpha: tuple[float, ...] | str,
    label_smoothing: float,
    clip: float,
) -> Matrix:
    import numpy as np

    seen = classes.logs(clip)
    # -ln(p)/(1-p) is 1 in the limit p = 1: written so, no power gamma-1 of 0 is left
    steepness = np.divide(seen.log_p, seen.q, out=np.full_like(seen.q, -1.0), where=seen.q > 0)
    goal = _smoothed(classes, label_smoothing) * _factors(alpha, classes)[:, np.newaxis]
    by_log = -goal * seen.q**gamma * (1 - gamma * seen.p * steepness)
    return d.through_logs(by_log, clip) / max(classes.n, 1)


@voxel_map_of("categorical_focal", "additive")
def _categorical_focal_map(
    classes: SoftClasses, *, gamma: float, alpha: tuple[float, ...] | str, label_smoothing: float, clip: float
) -> Vector:
    return _categorical_focal(classes, gamma, alpha, label_smoothing, clip) / max(classes.n, 1)


def _categorical_focal(
    classes: SoftClasses, gamma: float, alpha: tuple[float, ...] | str, label_smoothing: float, clip: float
) -> Vector:
    seen = classes.logs(clip)
    of_class = _smoothed(classes, label_smoothing) * seen.q**gamma * seen.log_p
    of_voxel: Vector = -(_factors(alpha, classes) @ of_class)
    return of_voxel


def _factors(alpha: tuple[float, ...] | str, classes: SoftClasses) -> Vector:
    import numpy as np

    if isinstance(alpha, str):
        return np.ones(classes.count)
    return one_each("categorical_focal: alpha", alpha, classes)
