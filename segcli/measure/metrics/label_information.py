"""Information and pairs of one label against everything else: two regions in each map.

The forms that Taha & Hanbury list for binary masks. Over all labels of two maps: the same names without
`_label`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from segcli.measure.filing import metric
from segcli.measure.metrics import information
from segcli.measure.metrics.information import ZERO_UNLESS_BOTH, Norm
from segcli.measure.record import WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.counts import Counts
    from segcli.evidence.joint import Joint
    from segcli.evidence.pair import Pair

REFERENCE = "Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x"


@lru_cache(maxsize=1)  # the metrics of a label come one after the other
def _of_counts(counts: Counts) -> Joint:
    from segcli.evidence.joint import Joint

    return Joint.of_counts(counts)


def _joint(pair: Pair) -> Joint:
    return _of_counts(pair.counts)


@metric(
    family="information",
    aliases=("voi_label",),
    formula=r"H(P \mid G) + H(G \mid P)",
    reference=REFERENCE,
    range=(0, 2),
    better="lower",
    unit="bit",
    symmetric=True,
    caution="a prediction of everything else scores as well as a perfect one",
)
def vi_label(pair: Pair) -> float | None:
    """Variation of information of one label: what either mask leaves unsaid of the other.

    An empty prediction costs the entropy of the ground truth, which is little for a small object.
    """
    return information.variation(_joint(pair))


@metric(
    family="information",
    formula=r"H(P \mid G)",
    reference="Meilă 2007, doi:10.1016/j.jmva.2006.11.013",
    range=(0, 1),
    better="lower",
    unit="bit",
    caution="0 for an empty or full prediction",
)
def vi_split_label(pair: Pair) -> float | None:
    """Part of vi_label that the prediction adds: what it says beyond the ground truth.

    Never without vi_merge_label.
    """
    return information.split(_joint(pair))


@metric(
    family="information",
    formula=r"H(G \mid P)",
    reference="Meilă 2007, doi:10.1016/j.jmva.2006.11.013",
    range=(0, 1),
    better="lower",
    unit="bit",
    caution="a prediction of everything else scores as well as a perfect one",
)
def vi_merge_label(pair: Pair) -> float | None:
    """Part of vi_label that the prediction leaves open: what it does not say of the ground truth.

    Never without vi_split_label.
    """
    return information.merged(_joint(pair))


@metric(
    family="information",
    aliases=("mi_label",),
    formula=r"H(P) + H(G) - H(P, G)",
    reference=REFERENCE,
    range=(0, 1),
    better="higher",
    unit="bit",
    symmetric=True,
    optimum=None,
    caution="at most the entropy of the ground truth; a prediction of everything else scores as well",
)
def mutual_information_label(pair: Pair) -> float | None:
    """Bits that the two masks of one label say about each other.

    Its best value is the entropy of the ground truth, far below 1 for a small object: nmi_label
    divides by it.
    """
    return information.mutual(_joint(pair))


@metric(
    family="information",
    formula=r"\frac{2\,I(P, G)}{H(P) + H(G)}",
    reference="Kvålseth 1987, doi:10.1109/TSMC.1987.4309069",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
    caution="a prediction of everything else scores as well as a perfect one",
)
def nmi_label(pair: Pair, *, norm: Norm = "arithmetic") -> float | None:
    """Mutual information of one label's masks as a share of their entropies.

    0 where one mask is empty or full, undefined where both are.
    """
    return information.normalised(_joint(pair), norm)


@metric(
    family="information",
    formula=r"\frac{\binom{tp}{2} + \binom{fp}{2} + \binom{fn}{2} + \binom{tn}{2} + tp\,tn + fp\,fn}{\binom{N}{2}}",
    reference=REFERENCE,
    range=(0, 1),
    better="higher",
    symmetric=True,
    caution="close to 1 for any small object; a prediction of everything else scores 1",
)
def rand_label(pair: Pair) -> float | None:
    """Share of the pairs of voxels that both masks of a label keep together, or apart.

    Chance alone gives a high value: ari_label takes it off.
    """
    return information.rand_index(_joint(pair))


@metric(
    family="information",
    formula=r"\frac{S - E}{\frac12(S_P + S_G) - E},\; S = \sum\binom{n_{ij}}{2},\; E = S_P S_G \Big/ \binom{N}{2}",
    reference=REFERENCE,
    range=(-0.5, 1),
    better="higher",
    symmetric=True,
    when_empty=ZERO_UNLESS_BOTH,
    caution="a prediction of everything else scores 1",
)
def ari_label(pair: Pair) -> float | None:
    """Rand index of one label beyond what chance gives masks of these sizes.

    0 is chance, and an empty or full mask. Undefined where both are.
    """
    return information.adjusted(_joint(pair))


@metric(
    family="information",
    formula=r"\frac1N \min\left(\sum_{ij} n_{ij}\,\frac{p_i - n_{ij}}{p_i},\;"
    r" \sum_{ij} n_{ij}\,\frac{g_j - n_{ij}}{g_j}\right)",
    reference="Martin et al. 2001, doi:10.1109/ICCV.2001.937655",
    range=(0, 1),
    better="lower",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=None, pred=None),
    caution="a prediction of everything else scores as well as a perfect one",
)
def gce_label(pair: Pair) -> float | None:
    """Global consistency error of one label's masks.

    Undefined where a mask is empty or full: by its formula it would be perfect. The counts that Taha &
    Hanbury give for it (EvaluateSegmentation, pymia) hold fn^2 and fp^2 besides, and print larger numbers.
    """
    return information.consistency_error(_joint(pair))
