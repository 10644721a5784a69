"""Losses that add a voxel-wise and a region term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.combine import term, weighted
from segcli.measure.losses.distribution import Clip, cross_entropy, mean_cross_entropy
from segcli.measure.losses.region import Smooth, dice, dice_gradient, dice_map
from segcli.measure.param import Param

if TYPE_CHECKING:
    from segcli.evidence.derivatives import Derivatives
    from segcli.evidence.soft import SoftPair, Vector

_INF = float("inf")

BceWeight = Annotated[float, Param("weight of the cross-entropy", ge=0)]
DiceWeight = Annotated[float, Param("weight of the Dice loss", ge=0)]
Mix = Annotated[float, Param("weight of the cross-entropy; 1-alpha is that of the Dice coefficient", ge=0, le=1)]
Balance = Annotated[float, Param("weight of foreground voxels in the cross-entropy (background: 1-beta)", ge=0, le=1)]


# --- bce_dice ---------------------------------------------------------------------------------


@weighted(
    term("bce", "w_bce"),
    term("dice", "w_dice"),
    formula=r"w_{bce}\,\mathrm{BCE}+w_{dice}\,\mathrm{DL}",
    reference="Isensee et al. 2018, arXiv:1809.10486",
    least="hard gt",
    aliases=("dice_bce",),
    caution="On a hard mask the cross-entropy measures only -ln(clip) times the error rate and outweighs Dice.",
)
def bce_dice(*, w_bce: BceWeight = 1.0, w_dice: DiceWeight = 1.0) -> None:
    """Cross-entropy plus Dice loss: smooth voxel-wise gradients and balance between sizes in one.

    Choose it as the robust default for training. The two terms have different scales: late in training
    Dice is most of the value and cross-entropy most of the gradient, so look at both before trusting
    the sum. It inherits the empty-gt jump of dice and the clip of bce.
    """


# --- combo ------------------------------------------------------------------------------------


@loss(
    family="compound",
    formula=r"-\frac{\alpha}{N}\sum_i\left[\beta\,y_i\ln p_i+(1-\beta)(1-y_i)\ln(1-p_i)\right]"
    r"-(1-\alpha)\frac{2\sum_i p_iy_i+s}{\sum_i p_i+\sum_i y_i+s}",
    reference="Taghanaki et al. 2019, arXiv:1805.02798",
    range=(-1.0, _INF),
    local=True,
    optimum=None,
    least="hard gt",
    aliases=("combo_loss",),
    reads="probability",
    caution="Its least value is -(1-alpha), not 0: read the excess over the optimum. On a hard mask the cross-entropy "
    "measures only -ln(clip) times the error rate.",
)
def combo(
    pair: SoftPair, *, alpha: Mix = 0.5, beta: Balance = 0.5, smooth: Smooth = 1.0, clip: Clip = 1e-7
) -> float | None:
    """Weighted cross-entropy minus the Dice coefficient.

    Choose it when misses and false alarms are to be weighed (beta > 0.5 punishes misses) while Dice
    holds the balance of sizes. It is negative by design: a perfect prediction has -(1-alpha). The
    authors' code adds the background term with the wrong sign, by which an all-foreground prediction
    beats a perfect one; here both terms are punished.
    """
    cross = mean_cross_entropy(pair, clip, on=beta, off=1 - beta)
    return None if cross is None else alpha * cross - (1 - alpha) * (1 - dice(pair, smooth=smooth))


@gradient_of("combo")
def _combo_gradient(pair: SoftPair, d: Derivatives, *, alpha: float, beta: float, smooth: float, clip: float) -> Vector:
    cross = cross_entropy(pair.y, d.clipped(clip), on=beta, off=1 - beta) / pair.n
    return alpha * cross + (1 - alpha) * dice_gradient(pair, d, smooth=smooth)


@voxel_map_of("combo", "additive")
def _combo_map(pair: SoftPair, *, alpha: float, beta: float, smooth: float, clip: float) -> Vector:
    # the Dice coefficient is 1 minus the Dice loss: that 1 belongs to no voxel and is spread evenly
    cross = cross_entropy(pair.y, pair.logs(clip), on=beta, off=1 - beta)
    return (alpha * cross - (1 - alpha)) / pair.n + (1 - alpha) * dice_map(pair, smooth=smooth)
