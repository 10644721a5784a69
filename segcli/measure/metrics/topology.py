"""Topology: pieces, tunnels and cavities of a mask, and how well centre lines are kept.

Counts say nothing of place: a piece lost here and a false one there cancel. Skeletons look at place.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.kernels import thinnings
from segcli.measure.filing import metric
from segcli.measure.param import Param
from segcli.measure.record import WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

Connectivity = Annotated[
    Literal["26", "18", "6", "8", "4", "26-4"],
    Param(
        "neighbours of a voxel that belong to its piece: 26, 18 or 6, the background has 6 or with 6 all 26; "
        "in 2-D 26 and 18 are 8, and 6 is 4; 26-4: 26, but 4 in 2-D, as panoptica",
        words=("26", "18", "6", "8", "4", "26-4"),
    ),
]
Thinning = Annotated[thinnings.Thinning, Param(thinnings.HELP, words=thinnings.THINNINGS, shown=True)]
INF = float("inf")
#: What all counts of pieces and all overlaps of skeletons have in common.
of_structure = partial(metric, family="topology", needs="structure")


@of_structure(
    aliases=("components_gt",),
    formula=r"\beta_0(G)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti0_gt(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many connected pieces the ground truth has.

    See connectivity for what is a neighbour.
    """
    return pair.structure.betti("gt", connectivity).pieces


@of_structure(
    aliases=("components_pred",),
    formula=r"\beta_0(P)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti0_pred(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many connected pieces the prediction has."""
    return pair.structure.betti("pred", connectivity).pieces


@of_structure(
    aliases=("components_error",),
    formula=r"|\beta_0(P) - \beta_0(G)|",
    reference="Hu et al. 2019, arXiv:1906.05404",
    range=(0, INF),
    better="lower",
    symmetric=True,
    caution="blind to place: false ones and missed ones cancel",
)
def betti0_error(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Difference of the numbers of connected pieces, without its sign."""
    s = pair.structure
    return abs(s.betti("pred", connectivity).pieces - s.betti("gt", connectivity).pieces)


@of_structure(
    aliases=("tunnels_gt",),
    formula=r"\beta_1(G) = \beta_0(G) + \beta_2(G) - \chi(G)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti1_gt(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many tunnels the ground truth has.

    Loops of the mask that cannot be drawn together: a ring has one, and in 2-D each hole is one. From
    pieces, cavities and the Euler number.
    """
    return pair.structure.betti("gt", connectivity).tunnels


@of_structure(
    aliases=("tunnels_pred",),
    formula=r"\beta_1(P) = \beta_0(P) + \beta_2(P) - \chi(P)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti1_pred(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many tunnels the prediction has."""
    return pair.structure.betti("pred", connectivity).tunnels


@of_structure(
    aliases=("tunnels_error",),
    formula=r"|\beta_1(P) - \beta_1(G)|",
    reference="Hu et al. 2019, arXiv:1906.05404",
    range=(0, INF),
    better="lower",
    symmetric=True,
    caution="blind to place: false ones and missed ones cancel",
)
def betti1_error(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Difference of the numbers of tunnels, without its sign."""
    s = pair.structure
    return abs(s.betti("pred", connectivity).tunnels - s.betti("gt", connectivity).tunnels)


@of_structure(
    aliases=("cavities_gt",),
    formula=r"\beta_2(G)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti2_gt(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many cavities the ground truth has.

    Parts of the background that the mask closes in; in 2-D there are none, and a hole is a tunnel.
    """
    return pair.structure.betti("gt", connectivity).cavities


@of_structure(
    aliases=("cavities_pred",),
    formula=r"\beta_2(P)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def betti2_pred(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many cavities the prediction has."""
    return pair.structure.betti("pred", connectivity).cavities


@of_structure(
    aliases=("cavities_error",),
    formula=r"|\beta_2(P) - \beta_2(G)|",
    reference="Hu et al. 2019, arXiv:1906.05404",
    range=(0, INF),
    better="lower",
    symmetric=True,
    caution="blind to place: false ones and missed ones cancel",
)
def betti2_error(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Difference of the numbers of cavities, without its sign."""
    s = pair.structure
    return abs(s.betti("pred", connectivity).cavities - s.betti("gt", connectivity).cavities)


@of_structure(
    formula=r"\beta_{d-1}(G)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def holes_gt(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many holes the ground truth has: parts of the background that it closes in.

    What filling holes fills: tunnels in 2-D, cavities in 3-D. A ring in a volume closes nothing in.
    """
    return pair.structure.holes("gt", connectivity)


@of_structure(
    formula=r"\beta_{d-1}(P)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="none",
)
def holes_pred(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """How many holes the prediction has: parts of the background that it closes in."""
    return pair.structure.holes("pred", connectivity)


@of_structure(
    formula=r"|\beta_{d-1}(P) - \beta_{d-1}(G)|",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="lower",
    symmetric=True,
    caution="blind to place: false ones and missed ones cancel",
)
def holes_error(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Difference of the numbers of holes, without its sign."""
    s = pair.structure
    return abs(s.holes("pred", connectivity) - s.holes("gt", connectivity))


@of_structure(
    formula=r"\chi(G) = \beta_0(G) - \beta_1(G) + \beta_2(G)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(-INF, INF),
    better="none",
)
def euler_gt(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Euler number of the ground truth: pieces less tunnels plus cavities.

    1 for a ball, 0 for a ring, 2 for a hollow ball.
    """
    return pair.structure.betti("gt", connectivity).euler


@of_structure(
    formula=r"\chi(P) = \beta_0(P) - \beta_1(P) + \beta_2(P)",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(-INF, INF),
    better="none",
)
def euler_pred(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Euler number of the prediction: pieces less tunnels plus cavities."""
    return pair.structure.betti("pred", connectivity).euler


@of_structure(
    aliases=("euler_characteristic_error",),
    formula=r"|\chi(P) - \chi(G)|",
    reference="Kong & Rosenfeld 1989, doi:10.1016/0734-189X(89)90147-3",
    range=(0, INF),
    better="lower",
    symmetric=True,
    caution="blind to place, and a piece too many cancels a tunnel too many",
)
def euler_error(pair: Pair, *, connectivity: Connectivity = "26") -> int:
    """Difference of the Euler numbers, without its sign."""
    s = pair.structure
    return abs(s.betti("pred", connectivity).euler - s.betti("gt", connectivity).euler)


# --- centre lines -------------------------------------------------------------------------------


def _share(pair: Pair, of: Literal["pred", "gt"], thinning: thinnings.Thinning) -> float | None:
    """Return the share of one mask's skeleton that lies in the other mask; `None` where there is no skeleton."""
    line = pair.structure.skeleton(of, thinning)
    inside = pair.structure.mask("gt" if of == "pred" else "pred")
    length = int(line.sum())
    return int((line & inside).sum()) / length if length else None


@of_structure(
    aliases=("centerline_dice",),
    formula=r"\frac{2\,T_p T_s}{T_p + T_s},\; T_p = \frac{|S(P) \cap G|}{|S(P)|},\; T_s = \frac{|S(G) \cap P|}{|S(G)|}",
    reference="Shit et al. 2021, arXiv:2003.07311; Couprie & Bertrand 2016, doi:10.1016/j.patrec.2015.03.014; thinning "
    "by Zhang & Suen 1984 in 2-D, after Couprie & Bertrand or by Lee 1994 in 3-D",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=0.0, pred=0.0),
    caution="a voxel of a line is a voxel: anisotropic spacing is not looked at",
)
def cldice(pair: Pair, *, thinning: Thinning = "ends") -> float | None:
    """Centre-line Dice: harmonic mean of how much of each skeleton lies in the other mask.

    For vessels, airways and roads: a gap in a thin branch costs what one in a thick one does. Skeletons in
    2-D are those of scikit-image. Its 3-D ones (thinning=lee) are what most tools take: they lose straight
    tubes, and with them what was missed or falsely found there. Where a width is even, which of two middle
    voxels stays depends on the order of the axes. The loss has a soft skeleton, and other numbers.
    """
    precision, recall = _share(pair, "pred", thinning), _share(pair, "gt", thinning)
    if precision is None or recall is None:
        return 0.0 if (pair.counts.pred > 0) != (pair.counts.gt > 0) else None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@of_structure(
    aliases=("topology_sensitivity",),
    formula=r"\frac{|S(G) \cap P|}{|S(G)|}",
    reference="Shit et al. 2021, arXiv:2003.07311",
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=None, pred=0.0),
    caution="1 for a prediction that is everywhere",
)
def skeleton_recall(pair: Pair, *, thinning: Thinning = "ends") -> float | None:
    """Share of the ground truth's skeleton that lies in the prediction.

    Its complement is how much of the branches was missed, whatever their width. Skeletons are those of cldice.
    """
    return _share(pair, "gt", thinning)


@of_structure(
    aliases=("topology_precision",),
    formula=r"\frac{|S(P) \cap G|}{|S(P)|}",
    reference="Shit et al. 2021, arXiv:2003.07311",
    range=(0, 1),
    better="higher",
    when_empty=WhenEmpty(both=None, gt=0.0, pred=None),
    caution="1 for a single voxel inside the ground truth",
)
def skeleton_precision(pair: Pair, *, thinning: Thinning = "ends") -> float | None:
    """Share of the prediction's skeleton that lies in the ground truth.

    Its complement is how much of the predicted branches is false. Skeletons are those of cldice.
    """
    return _share(pair, "pred", thinning)
