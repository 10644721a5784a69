"""Place: how far apart the two masks lie as wholes, whatever their outlines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from segcli.measure.filing import metric
from segcli.measure.record import WhenEmpty

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair


@metric(
    family="surface",
    needs="places",
    formula=r"\sqrt{(\mu_P - \mu_G)^T\, S^{-1} (\mu_P - \mu_G)},\quad "
    r"S = \frac{|P|\,S_P + |G|\,S_G}{|P| + |G|}",
    reference="Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x",
    range=(0, float("inf")),
    better="lower",
    symmetric=True,
    when_empty=WhenEmpty(None, None, None),
    caution="0 for any two masks with one centre of gravity, whatever their sizes and shapes",
)
def mahalanobis(pair: Pair) -> float | None:
    """Distance between the centres of gravity of the two masks, measured by the spread of their voxels.

    As EvaluateSegmentation: the covariance of each mask is over its number of voxels (pymia divides by one less),
    and the common one weighs them by size. No spacing and no shear or turn of the grid changes it. Where all voxels
    lie in one plane or line, it is the distance within that; undefined where the centres differ across it.
    """
    from segcli.evidence.moments import quadratic

    p, g = (pair.case.maps.moments(side, pair.label) for side in ("pred", "gt"))
    if not (p.size and g.size):
        return None
    # Multiplied by the sizes all is integer: the distance is exact up to its square root.
    apart = [g.size * a - p.size * b for a, b in zip(p.sums, g.sums, strict=True)]
    common = [
        [g.size * a + p.size * b for a, b in zip(*rows, strict=True)] for rows in zip(p.scatter, g.scatter, strict=True)
    ]
    found = quadratic(common, apart)
    return None if found is None else math.sqrt(found * (p.size + g.size) / (p.size * g.size))
