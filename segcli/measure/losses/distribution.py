"""Losses that compare distributions voxel by voxel: cross-entropy, its weighted forms, plain differences.

All are means over the voxels that count (undefined where there are none). Logarithms see p clipped to
[clip, 1-clip], or exact logarithms where the pair has logits: a clip is felt as a constant loss and
a zero gradient at saturated voxels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import gradient_of, ideal_of, loss, voxel_map_of
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives, LogSlopes
    from segcli.evidence.soft import SoftPair, Vector
    from segcli.evidence.voxels import Logs

_INF = float("inf")
#: Below 1e-16 the upper end 1-clip would be 1 in float64, and the logarithm of its complement infinite.
Clip = Annotated[float, Param("p is clipped to [clip, 1-clip]; logits need no clip", ge=1e-16, lt=0.5)]
Smoothing = Annotated[float, Param("share s of the gt replaced by 1/2: y becomes y(1-s) + s/2", ge=0, lt=1)]
Beta = Annotated[
    float | Literal["auto"],
    Param("weight of foreground voxels (background: 1); auto = background/foreground of the gt", gt=0, words=("auto",)),
]
Alpha = Annotated[
    float | Literal["none"],
    Param("weight of foreground voxels (background: 1-alpha); none = 1 for both", ge=0, le=1, words=("none",)),
]
#: The share of the hardest voxels; at least one voxel counts.
Hardest = Annotated[float, Param("share of the voxels that counts: the hardest ones", gt=0, le=1)]
#: From -1 on the loss cannot become negative.
Epsilon = Annotated[float, Param("weight of 1-p_t, added to the cross-entropy", ge=-1, le=1000)]
Gamma = Annotated[float, Param("how strongly easy voxels are turned down; 0 gives cross-entropy", ge=0, le=100)]

_HARD_MASK = "On a hard mask it measures only -ln(clip) times the error rate."


def cross_entropy(y: Vector, logs: Logs | LogSlopes, on: float = 1.0, off: float = 1.0) -> Vector:
    """Return -[on y log p + off (1-y) log(1-p)] of each voxel.

    It is linear in the logarithms: given their derivatives (`Derivatives.clipped`) in place of
    `logs`, it returns its own derivative.
    """
    found, other = y * logs.log_p, 1 - y
    found *= -on
    other *= logs.log_q
    other *= off
    found -= other
    return found


def mean_cross_entropy(pair: SoftPair, clip: float, on: float = 1.0, off: float = 1.0) -> float | None:
    """Return the mean of `cross_entropy` over the voxels that count."""
    sums = pair.log_sums(clip)
    return pair.share(on * sums.on + off * sums.off)


# --- bce --------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{N}\sum_i\left[y_i\ln p_i+(1-y_i)\ln(1-p_i)\right]",
    reference="Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="any gt",
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
    if label_smoothing:
        return pair.share(pair.total(lambda own: cross_entropy(_smoothed(own.y, label_smoothing), own.logs(clip))))
    return mean_cross_entropy(pair, clip)


@ideal_of("bce")
def bce_ideal(pair: SoftPair, *, label_smoothing: float, clip: float) -> Vector | None:  # noqa: ARG001 (one signature for all)
    """Return the prediction at which `bce` is least: the smoothed ground truth; `None` for the gt as it is."""
    return _smoothed(pair.y, label_smoothing) if label_smoothing else None


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
    reference="after Ronneberger, Fischer and Brox 2015, arXiv:1505.04597",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    least="hard gt",
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
    return mean_cross_entropy(pair, clip, on=_beta(pair, beta))


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
    local=True,
    optimum=None,
    least="hard gt",
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
    return mean_cross_entropy(pair, clip, on=1 - share, off=share)


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
    local=True,
    optimum=None,
    least="hard gt",
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
    sums, (on, off) = pair.log_sums(clip, gamma), _alpha(alpha)
    return pair.share(on * sums.focal_on + off * sums.focal_off)


@gradient_of("focal")
def focal_gradient(pair: SoftPair, d: Derivatives, *, alpha: float | str, gamma: float, clip: float) -> Vector:
    """Return the derivative of `focal`."""
    seen, slope = pair.logs(clip), d.clipped(clip)
    on, off = _alpha(alpha)
    # (q^g log p)' = q^g (g (log q)' log p + (log p)'): no power g-1, so nothing is infinite where q = 0
    foreground = seen.q**gamma * (gamma * slope.log_q * seen.log_p + slope.log_p)
    background = seen.p**gamma * (gamma * slope.log_p * seen.log_q + slope.log_q)
    return -(on * pair.y * foreground + off * (1 - pair.y) * background) / pair.n


@voxel_map_of("focal", "additive")
def focal_map(pair: SoftPair, *, alpha: float | str, gamma: float, clip: float) -> Vector:
    """Return what each voxel adds to `focal`."""
    seen = pair.logs(clip)
    on, off = _alpha(alpha)
    return -(on * pair.y * seen.q**gamma * seen.log_p + off * (1 - pair.y) * seen.p**gamma * seen.log_q) / pair.n


def _alpha(alpha: float | str) -> tuple[float, float]:
    return (1.0, 1.0) if isinstance(alpha, str) else (alpha, 1 - alpha)


# --- topk -------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"-\frac{1}{K}\sum_{i\in\text{hardest }K}\left[y_i\ln p_i+(1-y_i)\ln(1-p_i)\right],"
    r"\quad K=\max(1,\lfloor kN\rfloor)",
    reference="Wu, Shen and van den Hengel 2016, arXiv:1605.06885",
    range=(0.0, _INF),
    optimum=None,
    least="any gt",
    aliases=("topk_ce", "ohem", "ohem_ce"),
    reads="probability",
    caution=f"{_HARD_MASK} Only a share of the voxels has a gradient; mislabelled voxels are among the hardest.",
)
def topk(pair: SoftPair, *, k: Hardest = 0.1, clip: Clip = 1e-7) -> float | None:
    """Cross-entropy of the hardest voxels alone: the mean over the worst share k.

    Choose it when easy background drowns the rest: as in focal, but by a cut instead of a weight. Which
    voxels count depends on the prediction; voxels that are equally hard at the cut share what is left of
    the places. k=1 is bce. Where fewer voxels are wrong than count it is bce times a constant.
    """
    hardness = cross_entropy(pair.y, pair.logs(clip))
    return float((_hardest(hardness, k) * hardness).sum()) if pair.n else None


@gradient_of("topk")
def _topk_gradient(pair: SoftPair, d: Derivatives, *, k: float, clip: float) -> Vector:
    return _hardest(cross_entropy(pair.y, pair.logs(clip)), k) * cross_entropy(pair.y, d.clipped(clip))


@voxel_map_of("topk", "additive")
def _topk_map(pair: SoftPair, *, k: float, clip: float) -> Vector:
    hardness = cross_entropy(pair.y, pair.logs(clip))
    return _hardest(hardness, k) * hardness


def _hardest(hardness: Vector, k: float) -> Vector:
    """Return weights that add up to 1: 1/K for each of the K hardest voxels, less where they tie at the cut."""
    if not hardness.size:
        return hardness
    count = max(1, math.floor(k * hardness.size + 1e-9))
    ordered = hardness.copy()
    ordered.partition(hardness.size - count)
    cut = ordered[hardness.size - count]
    above, tied = hardness > cut, hardness == cut
    weights: Vector = (above + tied * ((count - above.sum()) / tied.sum())) / count
    return weights


# --- poly1 ------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"\mathrm{BCE}+\frac{\epsilon}{N}\sum_i(1-p_{t,i}),\quad p_t=p\,y+(1-p)(1-y)",
    reference="Leng et al. 2022, arXiv:2204.12511",
    range=(0.0, _INF),
    local=True,
    optimum=None,
    aliases=("poly1_ce", "poly_loss"),
    reads="probability",
    caution=f"{_HARD_MASK} It is blind to imbalance just as bce is.",
)
def poly1(pair: SoftPair, *, eps: Epsilon = 1.0, clip: Clip = 1e-7) -> float | None:
    """Cross-entropy plus a weighted mean of 1-p_t, the first term of its series.

    Choose eps > 0 to keep pushing voxels that are nearly right, eps < 0 (not below -1) to calm it.
    With a hard gt it is bce + eps*mae. The added term is not clipped: it has a gradient where the clip
    has flattened the cross-entropy.
    """
    logs = pair.log_sums(clip)
    return pair.share(logs.on + logs.off + eps * sum(pair.errors))


@gradient_of("poly1")
def _poly1_gradient(pair: SoftPair, d: Derivatives, *, eps: float, clip: float) -> Vector:
    return (cross_entropy(pair.y, d.clipped(clip)) + eps * d.p * (1 - 2 * pair.y)) / pair.n


@voxel_map_of("poly1", "additive")
def _poly1_map(pair: SoftPair, *, eps: float, clip: float) -> Vector:
    untrue = pair.p * (1 - pair.y) + pair.q * pair.y  # 1-p_t
    return (cross_entropy(pair.y, pair.logs(clip)) + eps * untrue) / pair.n


# --- brier ------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"\frac{1}{N}\sum_i(p_i-y_i)^2",
    reference="Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
    range=(0.0, 1.0),
    local=True,
    symmetric=True,
    aliases=("mse", "brier_score", "l2"),
    reads="probability",
    caution="On a hard mask it is the error rate. The background outvotes a small object.",
)
def brier(pair: SoftPair) -> float | None:
    """Mean squared difference of probability and ground truth (Brier score, MSE).

    Choose it to judge probabilities: like bce it is least in expectation at the true probability, but a
    confident error costs 1 at most and no clip is needed. For training its gradient by the logit dies out
    at confidently wrong voxels.
    """
    return pair.share(pair.sums.squares_on + pair.sums.squares_off)


@gradient_of("brier")
def _brier_gradient(pair: SoftPair, d: Derivatives) -> Vector:
    return d.p * 2 * (pair.p - pair.y) / pair.n


@voxel_map_of("brier", "additive")
def _brier_map(pair: SoftPair) -> Vector:
    return (pair.p - pair.y) ** 2 / pair.n


# --- mae --------------------------------------------------------------------------------------


@loss(
    family="distribution",
    formula=r"\frac{1}{N}\sum_i|p_i-y_i|",
    reference="Ghosh, Kumar and Sastry 2017, arXiv:1712.09482",
    range=(0.0, 1.0),
    local=True,
    symmetric=True,
    aliases=("l1", "mean_absolute_error"),
    reads="probability",
    caution="On a hard mask it is the error rate. Under imbalance all background is a cheap answer.",
)
def mae(pair: SoftPair) -> float | None:
    """Mean absolute difference of probability and ground truth.

    Choose it against label noise: no voxel counts more than another. It is not proper: its best answer
    to a doubtful voxel is 0 or 1, so probabilities are pushed to the ends. Soft Dice that is pooled over
    classes before the ratio (kornia's and Keras' default on one-hot arrays) is this loss under another name.
    """
    return pair.share(pair.sums.apart)


@gradient_of("mae")
def _mae_gradient(pair: SoftPair, d: Derivatives) -> Vector:
    return d.p * (1.0 * (pair.p > pair.y) - 1.0 * (pair.p < pair.y)) / pair.n


@voxel_map_of("mae", "additive")
def _mae_map(pair: SoftPair) -> Vector:
    return abs(pair.p - pair.y) / pair.n
