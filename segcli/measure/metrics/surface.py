"""Surface distances: how far apart the two surfaces lie.

Two things fix the number: what the surface is (`surface=`) and how the two directions are pooled (the
name of the metric). All distances are in the unit of the spacing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.kernels import surfaces
from segcli.measure.filing import metric
from segcli.measure.param import Param
from segcli.measure.record import WhenEmpty
from segcli.measure.why import Why

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

Surface = Annotated[
    surfaces.Surface,
    Param(
        "; ".join(f"{word}: {meaning}" for word, meaning in surfaces.MEANING.items()),
        words=surfaces.SURFACES,
        shown=True,
    ),
]
Directed = Annotated[float, Param("percentile of the distances; 100 is the largest", ge=0, le=100, shown=True)]
INF = float("inf")
HUTTENLOCHER = "Huttenlocher, Klanderman and Rucklidge 1993, doi:10.1109/34.232073"
#: What all distances have in common.
distance = partial(
    metric,
    family="surface",
    needs="surfaces",
    range=(0, INF),
    better="lower",
    unit="mm",
    when_empty=WhenEmpty(None, None, None),
    undefined=Why.NO_SURFACE,
)


@distance(
    aliases=("hausdorff",),
    formula=r"\max(\max_{p \in \partial P} d(p, \partial G), "
    r"\max_{g \in \partial G} d(g, \partial P))",
    reference=HUTTENLOCHER,
    symmetric=True,
    caution="one stray voxel decides it",
)
def hd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Hausdorff distance: the largest distance from either surface to the other.

    A worst case: a single stray voxel sets it. hd95 is the usual robust form. SimpleITK's filter of
    that name and scikit-image measure between whole voxel sets (surface=set), which can be much less.
    """
    d = pair.distances(surface)
    return None if d is None else d.largest()


@distance(
    aliases=("hausdorff95",),
    formula=r"\max(P_{95}\, d(\partial P, \partial G), P_{95}\, d(\partial G, \partial P))",
    reference=f"{HUTTENLOCHER}; pooling as surface-distance, MONAI, MetricsReloaded",
    symmetric=True,
)
def hd95(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Larger of the two directed 95th percentiles of the surface distances.

    MedPy, panoptica and seg-metrics take the percentile of both directions together, which is
    smaller on most real pairs: that is hd95_pooled.
    """
    d = pair.distances(surface)
    return None if d is None else max(d.percentile(95, "pred"), d.percentile(95, "gt"))


@distance(
    formula=r"P_{95}(d(\partial P, \partial G) \cup d(\partial G, \partial P))",
    reference="pooling as MedPy, panoptica, seg-metrics",
    symmetric=True,
    caution="a small missed part vanishes among the points of the other surface",
)
def hd95_pooled(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """95th percentile of the distances of both directions taken together.

    It lies between the two directed percentiles but for interpolation, often at half of hd95: never compare the two.
    """
    d = pair.distances(surface)
    return None if d is None else d.percentile(95, "both")


@distance(
    aliases=("hd95_mean",),
    formula=r"\tfrac12(P_{95}\, d(\partial P, \partial G) + P_{95}\, d(\partial G, \partial P))",
    reference="pooling as plastimatch",
    symmetric=True,
)
def msd95(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Mean of the two directed 95th percentiles of the surface distances.

    Both directions have a say, where hd95 shows the worse one only. Some publish it as HD95, which is never
    less; plastimatch's percent Hausdorff distance is such a mean, of values by rank without interpolation.
    """
    d = pair.distances(surface)
    return None if d is None else (d.percentile(95, "pred") + d.percentile(95, "gt")) / 2


@distance(
    formula=r"\mathrm{pool}(P_p\, d(\partial P, \partial G), P_p\, d(\partial G, \partial P))",
    reference=HUTTENLOCHER,
    symmetric=True,
)
def hd_percentile(
    pair: Pair,
    *,
    p: Annotated[float, Param("percentile of the distances; 100 is the largest", ge=0, le=100, shown=True)] = 95.0,
    pooling: Annotated[
        Literal["max", "mean", "together"],
        Param(
            "max: larger of the two directed percentiles, as hd95; mean: their mean, as msd95; "
            "together: percentile of both directions together, as hd95_pooled",
            words=("max", "mean", "together"),
            shown=True,
        ),
    ] = "max",
    surface: Surface = "surfel",
    rank: Annotated[
        Literal["linear", "floor", "nearest"],
        Param(
            "where elements count 1: linear: between two distances, as NumPy; floor, nearest: the distance of rank "
            "n p/100, rounded down as plastimatch, to the nearest as mikan-rs",
            words=("linear", "floor", "nearest"),
        ),
    ] = "linear",
) -> float | None:
    """Hausdorff distance at any percentile, pooled in any of the three ways.

    For what hd, hd95, hd95_pooled and msd95 do not name, as a 90th or 99th percentile. Low percentiles are 0
    as soon as enough of the two surfaces coincides.
    """
    d = pair.distances(surface)
    if d is None:
        return None
    if pooling == "together":
        return d.percentile(p, "both", rank=rank)
    both = d.percentile(p, "pred", rank=rank), d.percentile(p, "gt", rank=rank)
    return max(both) if pooling == "max" else sum(both) / 2


# --- one direction --------------------------------------------------------------------------------


@distance(
    formula=r"P_p\, d(\partial P, \partial G)",
    reference=HUTTENLOCHER,
    caution="blind to what the prediction misses",
)
def hd_pred_to_gt(pair: Pair, *, p: Directed = 100.0, surface: Surface = "surfel") -> float | None:
    """Directed Hausdorff distance: how far the farthest false part lies from the ground truth.

    Between the two surfaces; MONAI's directed=True. The larger of it and hd_gt_to_pred is hd, or at another
    percentile hd_percentile.
    """
    d = pair.distances(surface)
    return None if d is None else d.percentile(p, "pred")


@distance(
    formula=r"P_p\, d(\partial G, \partial P)",
    reference=HUTTENLOCHER,
    caution="blind to false parts",
)
def hd_gt_to_pred(pair: Pair, *, p: Directed = 100.0, surface: Surface = "surfel") -> float | None:
    """Directed Hausdorff distance: how far the farthest missed part lies from the prediction.

    Between the two surfaces. What is predicted too much does not show in it, but in hd_pred_to_gt.
    """
    d = pair.distances(surface)
    return None if d is None else d.percentile(p, "gt")


# --- means ----------------------------------------------------------------------------------------


@distance(
    aliases=("average_symmetric_surface_distance",),
    formula=r"\frac{\sum_{p} d(p, \partial G) + \sum_{g} d(g, \partial P)}{|\partial P| + |\partial G|}",
    reference="Heimann et al. 2009, doi:10.1109/TMI.2009.2013851",
    symmetric=True,
)
def assd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Average symmetric surface distance: mean over the elements of both surfaces together.

    The larger surface counts more; masd gives both the same weight. panoptica calls masd ASSD.
    """
    d = pair.distances(surface)
    return None if d is None else d.mean("both")


@distance(
    formula=r"\tfrac12\left(\overline{d(\partial P, \partial G)} "
    r"+ \overline{d(\partial G, \partial P)}\right)",
    reference="Beneš & Zitová 2015, doi:10.1111/jmi.12186",
    symmetric=True,
)
def masd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Mean of the two directed mean surface distances.

    Both surfaces weigh the same however large they are, so a small false part is not drowned.
    """
    d = pair.distances(surface)
    return None if d is None else (d.mean("pred") + d.mean("gt")) / 2


@distance(
    formula=r"\frac{1}{|\partial P|} \sum_{p} d(p, \partial G)",
    reference="Heimann et al. 2009, doi:10.1109/TMI.2009.2013851",
    caution="blind to what the prediction misses",
)
def asd_pred_to_gt(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Mean distance from the surface of the prediction to that of the ground truth.

    It tells how far false parts lie out. MONAI and MedPy call it the average surface distance; a part that
    the prediction misses altogether does not show in it, but in asd_gt_to_pred.
    """
    d = pair.distances(surface)
    return None if d is None else d.mean("pred")


@distance(
    formula=r"\frac{1}{|\partial G|} \sum_{g} d(g, \partial P)",
    reference="Heimann et al. 2009, doi:10.1109/TMI.2009.2013851",
    caution="blind to false parts",
)
def asd_gt_to_pred(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Mean distance from the surface of the ground truth to that of the prediction.

    It tells how far off what is missed lies; false parts do not show in it, but in asd_pred_to_gt.
    """
    d = pair.distances(surface)
    return None if d is None else d.mean("gt")


@distance(
    formula=r"\sqrt{\frac{\sum_{p} d(p, \partial G)^2 + \sum_{g} d(g, \partial P)^2}"
    r"{|\partial P| + |\partial G|}}",
    reference="Heimann et al. 2009, doi:10.1109/TMI.2009.2013851",
    symmetric=True,
)
def rmsd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Root mean square of the surface distances of both directions.

    Between assd and hd: large errors weigh more than in a mean, and no single voxel decides it.
    """
    d = pair.distances(surface)
    return None if d is None else d.mean_square() ** 0.5


@distance(
    formula=r"\mathrm{median}(d(\partial P, \partial G) \cup d(\partial G, \partial P))",
    reference="pooling as seg-metrics",
    symmetric=True,
    caution="0 as soon as half of the surfaces coincides",
)
def median_sd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Median of the surface distances of both directions together.

    The typical error, untouched by outliers; on good predictions it is 0 and says nothing.
    """
    d = pair.distances(surface)
    return None if d is None else d.percentile(50, "both")


@distance(
    formula=r"\sqrt{\frac{\sum_{p} (d(p, \partial G) - m)^2 + \sum_{g} (d(g, \partial P) - m)^2}"
    r"{|\partial P| + |\partial G|}},\; m = \mathrm{ASSD}",
    reference="pooling as seg-metrics",
    symmetric=True,
    caution="0 also where the surfaces are everywhere equally far apart",
)
def std_sd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Spread: standard deviation of the surface distances of both directions together.

    How uneven the error is: small beside assd for a shift or a scale, large for a few outliers. Never use it alone.
    """
    d = pair.distances(surface)
    return None if d is None else d.deviation()


@distance(
    formula=r"\max\left(\overline{d(\partial P, \partial G)}, \overline{d(\partial G, \partial P)}\right)",
    reference="Dubuisson & Jain 1994, doi:10.1109/ICPR.1994.576361",
    symmetric=True,
)
def modified_hd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Larger of the two directed mean surface distances: the modified Hausdorff distance.

    It grows with the error everywhere, where hd looks at one point. scikit-image computes it between whole
    voxel sets: that is surface=set, or ahd_set_max.
    """
    d = pair.distances(surface)
    return None if d is None else max(d.mean("pred"), d.mean("gt"))


# --- between all voxels of the masks --------------------------------------------------------------


@distance(
    undefined=Why.ZERO_DENOMINATOR,
    formula=r"\tfrac12\left(\overline{d(P, G)} + \overline{d(G, P)}\right)",
    reference="pooling as SimpleITK, pymia",
    symmetric=True,
    caution="depends on the overlap more than on the boundary: far below assd on a large object",
)
def ahd_set(pair: Pair) -> float | None:
    """Average Hausdorff distance between all voxels of the masks: mean of the two directed means.

    As masd with surface=set. Every voxel in both masks counts with 0, so the larger the object the smaller
    the value for the same error of its boundary.
    """
    d = pair.distances("set")
    return None if d is None else (d.mean("pred") + d.mean("gt")) / 2


@distance(
    undefined=Why.ZERO_DENOMINATOR,
    formula=r"\max\left(\overline{d(P, G)}, \overline{d(G, P)}\right)",
    reference="Taha & Hanbury 2015, doi:10.1186/s12880-015-0068-x",
    symmetric=True,
    caution="depends on the overlap more than on the boundary: far below assd on a large object",
)
def ahd_set_max(pair: Pair) -> float | None:
    """Average Hausdorff distance between all voxels of the masks: larger of the two directed means.

    As modified_hd with surface=set, and scikit-image's modified method. Every voxel in both masks counts with 0.
    """
    d = pair.distances("set")
    return None if d is None else max(d.mean("pred"), d.mean("gt"))
