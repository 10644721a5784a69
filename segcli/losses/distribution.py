"""Losses that compare distributions voxel by voxel: cross-entropy and its weighted forms.

All are means over the voxels that count (undefined where there are none). They see p clipped to
[clip, 1-clip], or exact logarithms where the pair has logits: a clip is felt as a constant loss and
a zero gradient at saturated voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure import Param, gradient_of, ideal_of, loss, voxel_map_of

if TYPE_CHECKING:
    from segcli.soft import Derivatives, Logs, SoftPair, Vector

_INF = float("inf")

#: Below 1e-16 the upper end 1-clip would be 1 in float64, and the logarithm of its complement infinite.
Clip = Annotated[float, Param("p is clipped to [clip, 1-clip]; logits need no clip", ge=1e-16, lt=0.5)]
Smoothing = Annotated[float, Param("share s of the gt replaced by 1/2: y becomes y(1-s) + s/2", ge=0, lt=1)]
Beta = Annotated[
    float | Literal["auto"],
    Param(
        "weight of foreground voxels (background: 1); auto = background/foreground of this gt",
        gt=0,
        words=("auto",),
    ),
]
Alpha = Annotated[
    float | Literal["none"],
    Param("weight of foreground voxels (background: 1-alpha); none = 1 for both", ge=0, le=1, words=("none",)),
]
Gamma = Annotated[float, Param("how strongly easy voxels are turned down; 0 gives cross-entropy", ge=0, le=100)]

_HARD_MASK = "On a hard mask it measures only -ln(clip) times the error rate."


def cross_entropy(y: Vector, logs: Logs, on: float = 1.0, off: float = 1.0) -> Vector:
    """Return -[on y log p + off (1-y) log(1-p)] of each voxel.

    It is linear in the logarithms: given their derivatives (`Derivatives.clipped`) in place of
    `logs`, it returns its own derivative.
    """
    return -(on * y * logs.log_p + off * (1 - y) * logs.log_q)


# --- bce --------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\left[y_i\ln p_i+(1-y_i)\ln(1-p_i)\right]",
    reference="Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x",
    range=(0.0, _INF),
    optimum=None,
    aliases=("log_loss", "binary_cross_entropy", "binary_crossentropy"),
    reads="probability",
    caution=f"{_HARD_MASK} Under imbalance the background outvotes a small object.",
)
def bce(pair: SoftPair, *, label_smoothing: Smoothing = 0.0, clip: Clip = 1e-7) -> float | None:
    """Binary cross-entropy: how surprised the prediction is by the ground truth, averaged over voxels.

    Choose it as the calm default when foreground and background are of similar size; it rewards
    calibrated probabilities. It fails under imbalance (all background is a cheap answer), and at
    confidently wrong voxels its value is set by the clip: 0.59 with clip 1e-7 is 29.3 from logits.
    With `label_smoothing` s and a hard gt the least value is H(s/2), reached at p = y(1-s) + s/2;
    pred = gt itself is then punished as overconfident.
    """
    return pair.mean(cross_entropy(_smoothed(pair.y, label_smoothing), pair.logs(clip)))


@ideal_of("bce")
def bce_ideal(pair: SoftPair, *, label_smoothing: float, clip: float) -> Vector:  # noqa: ARG001 (one signature for all)
    """Return the prediction at which `bce` is least: the smoothed ground truth."""
    return _smoothed(pair.y, label_smoothing)


@gradient_of("bce")
def bce_gradient(pair: SoftPair, d: Derivatives, *, label_smoothing: float, clip: float) -> Vector:
    """Return the derivative of `bce`."""
    return cross_entropy(_smoothed(pair.y, label_smoothing), d.clipped(clip)) / pair.n


@voxel_map_of("bce", "additive")
def bce_map(pair: SoftPair, *, label_smoothing: float, clip: float) -> Vector:
    """Return what each voxel adds to `bce`."""
    return cross_entropy(_smoothed(pair.y, label_smoothing), pair.logs(clip)) / pair.n


def _smoothed(y: Vector, share: float) -> Vector:
    return y if share == 0 else y * (1 - share) + share / 2


# --- weighted_bce -----------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\left[\beta\,y_i\ln p_i+(1-y_i)\ln(1-p_i)\right]",
    reference="Pihur, Datta and Datta 2007, doi:10.1093/bioinformatics/btm158",
    range=(0.0, _INF),
    optimum=None,
    aliases=("wbce", "weighted_ce"),
    reads="probability",
    caution=f"{_HARD_MASK} With beta=auto a full gt weighs every voxel 0: value and gradient are 0 for any prediction.",
)
def weighted_bce(pair: SoftPair, *, beta: Beta = "auto", clip: Clip = 1e-7) -> float | None:
    """Cross-entropy in which a missed foreground voxel costs beta times a false alarm.

    Choose it when the foreground is small and misses matter more (beta > 1) or less (beta < 1) than
    false alarms. beta is what torch calls `pos_weight`. `auto` is background/foreground of this gt
    (1 when it is empty): values of different cases then have different weights, and beta of a tiny
    object is so large that a few voxels make up half of the loss.
    """
    return pair.mean(cross_entropy(pair.y, pair.logs(clip), on=_beta(pair, beta)))


@gradient_of("weighted_bce")
def _weighted_bce_gradient(pair: SoftPair, d: Derivatives, *, beta: float | str, clip: float) -> Vector:
    return cross_entropy(pair.y, d.clipped(clip), on=_beta(pair, beta)) / pair.n


@voxel_map_of("weighted_bce", "additive")
def _weighted_bce_map(pair: SoftPair, *, beta: float | str, clip: float) -> Vector:
    return cross_entropy(pair.y, pair.logs(clip), on=_beta(pair, beta)) / pair.n


def _beta(pair: SoftPair, beta: float | str) -> float:
    if not isinstance(beta, str):
        return beta
    foreground = pair.sums.y
    return (pair.n - foreground) / foreground if foreground > 0 else 1.0


# --- balanced_bce -----------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\left[\beta\,y_i\ln p_i+(1-\beta)(1-y_i)\ln(1-p_i)\right],"
    r"\quad\beta=1-\frac{1}{N}\sum_i y_i",
    reference="Xie and Tu 2015, arXiv:1504.06375",
    range=(0.0, _INF),
    optimum=None,
    aliases=("balanced_ce", "class_balanced_bce"),
    reads="probability",
    caution=f"{_HARD_MASK} An empty or a full gt weighs every voxel 0: value and gradient are 0 for any prediction.",
)
def balanced_bce(pair: SoftPair, *, clip: Clip = 1e-7) -> float | None:
    """Cross-entropy in which foreground and background weigh the same, however small the object is.

    Choose it for thin or small structures where recall matters; expect false alarms (highest
    sensitivity of the cross-entropies). It is blind where the gt is empty or full: the present class
    gets weight 0. It is weighted_bce:beta=auto times the foreground's share of the voxels.
    """
    share = _share(pair)
    return pair.mean(cross_entropy(pair.y, pair.logs(clip), on=1 - share, off=share))


@gradient_of("balanced_bce")
def _balanced_bce_gradient(pair: SoftPair, d: Derivatives, *, clip: float) -> Vector:
    share = _share(pair)
    return cross_entropy(pair.y, d.clipped(clip), on=1 - share, off=share) / pair.n


@voxel_map_of("balanced_bce", "additive")
def _balanced_bce_map(pair: SoftPair, *, clip: float) -> Vector:
    share = _share(pair)
    return cross_entropy(pair.y, pair.logs(clip), on=1 - share, off=share) / pair.n


def _share(pair: SoftPair) -> float:
    return pair.sums.y / pair.n if pair.n else 0.0


# --- focal ------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\left[\alpha\,y_i(1-p_i)^\gamma\ln p_i+(1-\alpha)(1-y_i)\,p_i^\gamma\ln(1-p_i)\right]",
    reference="Lin et al. 2017, arXiv:1708.02002",
    range=(0.0, _INF),
    optimum=None,
    aliases=("focal_loss", "binary_focal"),
    reads="probability",
    caution=f"{_HARD_MASK} It under-trains easy voxels: probabilities stay under-confident.",
)
def focal(pair: SoftPair, *, alpha: Alpha = 0.25, gamma: Gamma = 2.0, clip: Clip = 1e-7) -> float | None:
    """Cross-entropy that turns down the voxels that are already easy.

    Choose it when a huge easy background drowns the hard voxels. Known failures: probabilities are
    under-confident, sensitivity falls (alpha=0.25 weighs the foreground *less*), and mislabelled
    voxels, being hard, get the attention. Libraries differ: MONAI and SMP use no alpha, Keras has
    balancing off, kornia averages over two channels and prints half of this.
    """
    return pair.mean(_focal(pair, alpha, gamma, clip))


@gradient_of("focal")
def _focal_gradient(pair: SoftPair, d: Derivatives, *, alpha: float | str, gamma: float, clip: float) -> Vector:
    seen, slope = pair.logs(clip), d.clipped(clip)
    on, off = _alpha(alpha)
    # (q^g log p)' = q^g (g (log q)' log p + (log p)'): no power g-1, so nothing is infinite where q = 0
    foreground = seen.q**gamma * (gamma * slope.log_q * seen.log_p + slope.log_p)
    background = seen.p**gamma * (gamma * slope.log_p * seen.log_q + slope.log_q)
    return -(on * pair.y * foreground + off * (1 - pair.y) * background) / pair.n


@voxel_map_of("focal", "additive")
def _focal_map(pair: SoftPair, *, alpha: float | str, gamma: float, clip: float) -> Vector:
    return _focal(pair, alpha, gamma, clip) / pair.n


def _focal(pair: SoftPair, alpha: float | str, gamma: float, clip: float) -> Vector:
    seen = pair.logs(clip)
    on, off = _alpha(alpha)
    return -(on * pair.y * seen.q**gamma * seen.log_p + off * (1 - pair.y) * seen.p**gamma * seen.log_q)


def _alpha(alpha: float | str) -> tuple[float, float]:
    return (1.0, 1.0) if isinstance(alpha, str) else (alpha, 1 - alpha)
