"""Region losses of all classes at once, and cross-entropy with the mean Dice loss.

They read `SoftClasses`, as the losses of `categorical` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.errors import UsageError
from segcli.measure.filing import gradient_of, loss, voxel_map_of
from segcli.measure.losses.categorical import one_each
from segcli.measure.losses.combine import mean_term, term, weighted
from segcli.measure.losses.region import Ratio, Smooth, ratio, ratio_map
from segcli.measure.losses.surrogates import lovasz, lovasz_gradient, lovasz_map
from segcli.measure.param import Param
from segcli.wording import counted

if TYPE_CHECKING:
    from segcli.evidence.classes import ClassDerivatives, Matrix, SoftClasses
    from segcli.evidence.soft import Vector
    from segcli.measure.losses.combine import Given

_INF = float("inf")

Counted = Annotated[
    Literal["present", "all"],
    Param("which classes the mean counts: those that the gt has, or all", words=("present", "all")),
]
Distances = Annotated[
    tuple[float, ...] | Literal["uniform", "ordinal"],
    Param(
        "how unlike two classes are: 1 for all, by their order, or the matrix above its diagonal row by row "
        "(0-1/0-2/.../1-2/...)",
        many=True,
        ge=0,
        words=("uniform", "ordinal"),
    ),
]
Weighting = Annotated[
    Literal["default", "gdl"],
    Param("default = the overlap of all classes but the background; gdl = classes by 1/(volume + 1)",
          words=("default", "gdl")),
]  # fmt: skip
Volume = Annotated[
    Literal["square", "simple", "uniform"],
    Param("weight of a class: 1/volume^2 in the gt, 1/volume, or 1", words=("square", "simple", "uniform")),
]
AbsentClass = Annotated[
    Literal["zero", "largest"],
    Param("weight of a class that the gt lacks: none, or the largest of the others", words=("zero", "largest")),
]
Background = Annotated[
    Literal["include", "exclude"],
    Param("whether the mean Dice loss counts the background (cross-entropy always does)", words=("include", "exclude")),
]
CeWeights = Annotated[
    tuple[float, ...] | Literal["none", "balanced"],
    Param(
        "weight of each class in the cross-entropy, the background first; balanced = 1/voxels of the class in this gt",
        many=True,
        ge=0,
        words=("none", "balanced"),
    ),
]
CeWeight = Annotated[float, Param("weight of the cross-entropy", ge=0)]
DiceWeight = Annotated[float, Param("weight of the mean Dice loss", ge=0)]


# --- lovasz_softmax ---------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"\frac{1}{|C|}\sum_{c\in C}\sum_k|p_c-y_c|_{(k)}\left(J_{c,k}-J_{c,k-1}\right),\quad"
    r"J_{c,k}=\text{IoU loss of class }c\text{ if its }k\text{ worst voxels were wrong}",
    reference="Berman, Rannen Triki and Blaschko 2018, arXiv:1705.08790",
    range=(0.0, 1.0),
    aliases=("lovasz_softmax_loss",),
    reads="all-classes",
    caution="The background is a class like the others and lifts a bad score. With classes=all a class that the gt "
    "lacks adds its largest probability: one voxel has all of its gradient.",
)
def lovasz_softmax(soft: SoftClasses, *, classes: Counted = "present") -> float:
    """Lovász extension of the mean IoU loss of the classes, on probabilities.

    Choose it to finish a training whose score is the mean IoU over exclusive classes; it starts slowly. It is the
    mean of lovasz over classes, the background included as in the authors' code. Their default and SMP's are the
    classes that the gt has; kornia counts all. Errors are sorted over the whole case, one image at a time.
    """
    chosen = _counted(soft, classes)
    return sum(lovasz(soft.channel(c)) for c in chosen) / max(len(chosen), 1)


@gradient_of("lovasz_softmax")
def _lovasz_softmax_gradient(soft: SoftClasses, d: ClassDerivatives, *, classes: str) -> Matrix:
    import numpy as np

    by_p, chosen = np.zeros_like(soft.p), _counted(soft, classes)
    for c in chosen:
        pair = soft.channel(c)
        by_p[c] = lovasz_gradient(pair, pair.wrt("p")) / len(chosen)
    return d.chain(by_p)


@voxel_map_of("lovasz_softmax", "integrated")
def _lovasz_softmax_map(soft: SoftClasses, *, classes: str) -> Vector:
    import numpy as np

    chosen = _counted(soft, classes)
    return sum((lovasz_map(soft.channel(c)) / len(chosen) for c in chosen), np.zeros(soft.n))


def _counted(soft: SoftClasses, classes: str) -> list[int]:
    return [c for c in range(soft.count) if classes == "all" or soft.sizes[c] > 0]


# --- gwdl -------------------------------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{2\,TP+s}{2\,TP+\sum_ie_i\delta_i+s},\quad\delta_i=\sum_cM_{t_i,c}\,p_{c,i},\ "
    r"TP=\sum_i\alpha_{t_i}(1-\delta_i),\quad t_i=\text{class of the gt},\ e_i=1\text{ or }\alpha_{t_i}",
    reference="Fidon et al. 2017, arXiv:1707.00478",
    range=(0.0, 1.0),
    optimum=None,
    aliases=("generalized_wasserstein_dice", "generalised_wasserstein_dice", "wasserstein_dice"),
    reads="all-classes",
    caution="With a gt that is all background it is near 1 for any prediction with more than `smooth` of other classes "
    "in it, with almost no gradient.",
)
def gwdl(
    classes: SoftClasses,
    *,
    distances: Distances = "uniform",
    weighting: Weighting = "default",
    smooth: Smooth = 1e-5,
) -> float:
    """Generalised Wasserstein Dice loss: Dice in which confusing like classes costs less than unlike ones.

    Choose it when classes form a hierarchy (parts of a tumour) or an order (grades). `distances` say how unlike
    two classes are, divided by the largest as in MONAI; ordinal is the difference of their numbers. With `default`
    weighting the right background is no overlap, but every error counts; `gdl` weighs errors and overlap of a class
    by 1/(its volume + 1). Of two classes the default is dice of the foreground. A soft gt is read as what is
    expected over its classes: pred = gt is not 0 then.
    """
    return _gwdl(classes, distances, weighting, smooth).loss


@gradient_of("gwdl")
def _gwdl_gradient(
    classes: SoftClasses,
    d: ClassDerivatives,
    *,
    distances: tuple[float, ...] | str,
    weighting: str,
    smooth: float,
) -> Matrix:
    of = _gwdl(classes, distances, weighting, smooth)
    if of.size == 0:
        return 0 * classes.p
    error, lost = _costs(classes, distances, weighting)
    return d.chain((of.score * error + of.loss * 2 * lost) / of.size)


@voxel_map_of("gwdl", "additive")
def _gwdl_map(classes: SoftClasses, *, distances: tuple[float, ...] | str, weighting: str, smooth: float) -> Vector:
    error, _ = _costs(classes, distances, weighting)
    return ratio_map(_gwdl(classes, distances, weighting, smooth), (classes.p * error).sum(axis=0))


def _gwdl(classes: SoftClasses, distances: tuple[float, ...] | str, weighting: str, smooth: float) -> Ratio:
    error, lost = _costs(classes, distances, weighting)
    overlap = float(_alpha(classes, weighting) @ classes.sizes) - float((classes.p * lost).sum())
    return ratio(float((classes.p * error).sum()), 2 * max(overlap, 0.0) + smooth)  # rounding may pass below 0


def _costs(classes: SoftClasses, distances: tuple[float, ...] | str, weighting: str) -> tuple[Matrix, Matrix]:
    """Return what each probability adds to the error, and what it takes from the overlap, (C, n)."""
    matrix = _matrix(distances, classes)
    lost: Matrix = (_alpha(classes, weighting) * matrix) @ classes.y  # symmetric: a row of it is a column
    error: Matrix = lost if weighting == "gdl" else matrix @ classes.y
    return error, lost


def _alpha(classes: SoftClasses, weighting: str) -> Vector:
    import numpy as np

    if weighting == "gdl":
        return np.asarray(1 / (classes.sizes + 1))
    return np.asarray(np.arange(classes.count) > 0, dtype=np.float64)


def _matrix(distances: tuple[float, ...] | str, classes: SoftClasses) -> Matrix:
    """Return the distances of all classes from each other (C, C), the largest 1."""
    import numpy as np

    count = classes.count
    number = np.arange(count)
    if distances == "uniform":
        return np.asarray(number[:, np.newaxis] != number, dtype=np.float64)
    if isinstance(distances, str):
        return np.asarray(abs(number[:, np.newaxis] - number) / max(count - 1, 1))
    pairs = [f"{a}-{b}" for i, a in enumerate(classes.names) for b in classes.names[i + 1 :]]
    if len(distances) != len(pairs):
        raise UsageError(
            f"gwdl: distances has {counted(len(distances), 'entry', 'entries')}; "
            f"{count} classes have {counted(len(pairs), 'distance')}.",
            hint=f"one for each two classes, in this order: {'/'.join(pairs)}",
            code="measure.parameter",
        )
    largest = max(distances)
    if largest == 0:
        raise UsageError(
            "gwdl: distances are all 0: no two classes differ.",
            hint="give a distance above 0 to classes that must not be confused",
            code="measure.parameter",
        )
    matrix = np.zeros((count, count))
    matrix[np.triu_indices(count, 1)] = np.asarray(distances) / largest
    return np.asarray(matrix + matrix.T)


# --- generalized_dice_softmax -----------------------------------------------------------------


@loss(
    family="region",
    formula=r"1-\frac{2\sum_cw_c\sum_ip_{c,i}y_{c,i}+s}{\sum_cw_c\sum_i(p_{c,i}+y_{c,i})+s},\quad"
    r"w_c=\left(\sum_iy_{c,i}\right)^{-2}",
    reference="Sudre et al. 2017, arXiv:1707.03237",
    range=(0.0, 1.0),
    optimum=None,
    aliases=("gdl_softmax", "generalised_dice_softmax", "generalized_dice_multiclass"),
    reads="all-classes",
    caution="Where one class is much smaller than the others its weight is nearly all, and the loss is its dice. The "
    "sums are of the order 1/volume of the smallest class: smooth=1e-5 is not small beside them where that has more "
    "than some 10000 voxels, and pulls the loss towards 0. Use smooth=0 there.",
)
def generalized_dice_softmax(
    classes: SoftClasses, *, weighting: Volume = "square", smooth: Smooth = 1e-5, absent: AbsentClass = "zero"
) -> float:
    """Dice loss of all classes in one ratio, each weighed by 1/volume^2 of the ground truth.

    Choose it when exclusive classes of very different sizes are to count alike. It is no mean of generalized_dice
    over labels, which weighs one label against its background; of two classes both are the same. A class that the
    gt lacks has an infinite weight by the formula. Here it has none (absent=zero): its false alarms cost only what
    is missing of the right class. MONAI gives it the largest weight of the others (absent=largest).
    """
    return _generalized(classes, weighting, smooth, absent).loss


@gradient_of("generalized_dice_softmax")
def _generalized_dice_softmax_gradient(
    classes: SoftClasses, d: ClassDerivatives, *, weighting: str, smooth: float, absent: str
) -> Matrix:
    of = _generalized(classes, weighting, smooth, absent)
    if of.size == 0:
        return 0 * classes.p
    # in terms of the overlap, because near 1 the loss has lost most of the digits of 1-loss
    return d.chain((_class_weights(classes, weighting, absent) * (of.score - 2 * classes.y.T)).T / of.size)


@voxel_map_of("generalized_dice_softmax", "additive")
def _generalized_dice_softmax_map(classes: SoftClasses, *, weighting: str, smooth: float, absent: str) -> Vector:
    error = _class_weights(classes, weighting, absent) @ _differences(classes)
    return ratio_map(_generalized(classes, weighting, smooth, absent), error)


def _generalized(classes: SoftClasses, weighting: str, smooth: float, absent: str) -> Ratio:
    weight = _class_weights(classes, weighting, absent)
    overlap = 2 * float(weight @ (classes.p * classes.y).sum(axis=1))
    return ratio(float(weight @ _differences(classes).sum(axis=1)), overlap + smooth)


def _differences(classes: SoftClasses) -> Matrix:
    return classes.p * (1 - classes.y) + (1 - classes.p) * classes.y


def _class_weights(classes: SoftClasses, weighting: str, absent: str) -> Vector:
    import numpy as np

    power = {"square": -2, "simple": -1, "uniform": 0}[weighting]
    there = classes.sizes > 1e-100  # of a soft gt: below it 1/volume^2 is infinite in float64
    weight = np.where(there, classes.sizes, 1.0) ** power
    others = weight[there].max() if absent == "largest" and there.any() else 0.0
    return np.where(there, weight, others)


# --- dice_ce ----------------------------------------------------------------------------------


def _in_dice(classes: SoftClasses, given: Given) -> range:
    """Return the classes that the Dice term counts."""
    return range(0 if given["background"] == "include" else 1, classes.count)


def _check_weights(classes: SoftClasses, given: Given) -> None:
    """Raise `UsageError` under this loss's name unless each class has a weight."""
    if not isinstance(given["weights"], str):
        one_each("dice_ce: weights", given["weights"], classes)


@weighted(
    term("categorical_ce", "w_ce"),
    mean_term("dice", "w_dice", _in_dice),
    formula=r"\frac{w_{dice}}{|C|}\sum_{c\in C}\left(1-\frac{2\sum_ip_{c,i}y_{c,i}+s}{\sum_ip_{c,i}+\sum_iy_{c,i}+s}"
    r"\right)-w_{ce}\frac{\sum_i\sum_ca_c\,y_{c,i}\ln p_{c,i}}{\sum_i\sum_ca_c\,y_{c,i}}",
    reference="Isensee et al. 2018, arXiv:1809.10486",
    least="hard gt",
    aliases=("dice_ce_loss", "dicece", "ce_dice"),
    caution="On a hard mask the cross-entropy measures only -ln(clip) times the error rate and outweighs Dice. A class "
    "that the gt lacks adds nearly 1/C to the Dice term for any trace of it.",
    check=_check_weights,
)
def dice_ce(
    *, w_dice: DiceWeight = 1.0, w_ce: CeWeight = 1.0, weights: CeWeights = "none", background: Background = "include"
) -> None:
    """Mean Dice loss over the classes plus softmax cross-entropy: the usual loss of 3-D segmentation.

    Choose it as the robust default for exclusive classes. It is MONAI's DiceCELoss with softmax. nnU-Net leaves
    the background out of the Dice term (background=exclude) and adds minus the Dice coefficient in place of its
    loss: it prints this value minus w_dice, and reaches below 0. `weights` are those of the cross-entropy alone, as
    in categorical_ce; MONAI's weight= multiplies the Dice terms too. Of a binary pair both classes count; bce_dice
    with w_dice counts the foreground alone. Late in training Dice is most of the value and cross-entropy most of
    the gradient.
    """
