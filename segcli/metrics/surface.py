"""Surface distances: how far apart the two surfaces lie, and what share of them lies close.

Two things fix the number: what the surface is (`surface=`) and how the two directions are pooled (the
name of the metric). All distances are in the unit of the spacing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure import Param, WhenEmpty, metric

if TYPE_CHECKING:
    from segcli.pair import Pair

Surface = Annotated[
    Literal["surfel", "border", "mesh"],
    Param(
        "surfel: elements of the dual grid weighted by area (surface-distance); "
        "border: voxels with a face neighbour outside, each counting 1 (MONAI, MedPy); "
        "mesh: from the centroids of triangles, weighted by area, to any point of the other mesh (MeshMetrics)",
        words=("surfel", "border", "mesh"),
        shown=True,
    ),
]
INF = float("inf")
NO_DISTANCE = WhenEmpty(None, None, None)


@metric(
    family="surface",
    aliases=("hausdorff",),
    formula=r"\max(\max_{p \in \partial P} d(p, \partial G), "
    r"\max_{g \in \partial G} d(g, \partial P))",
    reference="Huttenlocher 1993, doi:10.1109/34.232073",
    range=(0, INF),
    better="lower",
    unit="mm",
    symmetric=True,
    when_empty=NO_DISTANCE,
    caution="one stray voxel decides it",
)
def hd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Hausdorff distance: the largest distance from either surface to the other.

    A worst case: a single stray voxel sets it. hd95 is the usual robust form. SimpleITK's filter of
    that name measures between whole voxel sets, which can be much less.
    """
    d = pair.distances(surface)
    return None if d is None else float(max(d.pred_to_gt.max(), d.gt_to_pred.max()))


@metric(
    family="surface",
    formula=r"\max(P_{95}\, d(\partial P, \partial G), P_{95}\, d(\partial G, \partial P))",
    reference="Huttenlocher 1993, doi:10.1109/34.232073; pooling as surface-distance, MONAI, MetricsReloaded",
    range=(0, INF),
    better="lower",
    unit="mm",
    symmetric=True,
    when_empty=NO_DISTANCE,
)
def hd95(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Larger of the two directed 95th percentiles of the surface distances.

    MedPy, panoptica and seg-metrics take the percentile of both directions together, which is
    smaller on most real pairs: that is hd95_pooled.
    """
    d = pair.distances(surface)
    return None if d is None else max(d.percentile(95, "pred"), d.percentile(95, "gt"))


@metric(
    family="surface",
    formula=r"P_{95}(d(\partial P, \partial G) \cup d(\partial G, \partial P))",
    reference="pooling as MedPy, panoptica, seg-metrics",
    range=(0, INF),
    better="lower",
    unit="mm",
    symmetric=True,
    when_empty=NO_DISTANCE,
    caution="a small missed part vanishes among the points of the other surface",
)
def hd95_pooled(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """95th percentile of the distances of both directions taken together.

    It lies between the two directed percentiles, often at half of hd95: never compare the two.
    """
    d = pair.distances(surface)
    return None if d is None else d.percentile(95, "both")


@metric(
    family="surface",
    aliases=("average_symmetric_surface_distance",),
    formula=r"\frac{\sum_{p} d(p, \partial G) + \sum_{g} d(g, \partial P)}{|\partial P| + |\partial G|}",
    reference="Heimann 2009, doi:10.1109/TMI.2009.2013851",
    range=(0, INF),
    better="lower",
    unit="mm",
    symmetric=True,
    when_empty=NO_DISTANCE,
)
def assd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Average symmetric surface distance: mean over the elements of both surfaces together.

    The larger surface counts more; masd gives both the same weight. panoptica calls masd ASSD.
    """
    d = pair.distances(surface)
    return None if d is None else d.mean("both")


@metric(
    family="surface",
    formula=r"\tfrac12\left(\overline{d(\partial P, \partial G)} "
    r"+ \overline{d(\partial G, \partial P)}\right)",
    reference="Beneš & Zitová 2015, doi:10.1111/jmi.12214",
    range=(0, INF),
    better="lower",
    unit="mm",
    symmetric=True,
    when_empty=NO_DISTANCE,
)
def masd(pair: Pair, *, surface: Surface = "surfel") -> float | None:
    """Mean of the two directed mean surface distances.

    Both surfaces weigh the same however large they are, so a small false part is not drowned.
    """
    d = pair.distances(surface)
    return None if d is None else (d.mean("pred") + d.mean("gt")) / 2


@metric(
    family="surface",
    aliases=("surface_dice", "normalized_surface_dice"),
    formula=r"\frac{|\{p : d(p, \partial G) \le \tau\}| + |\{g : d(g, \partial P) \le \tau\}|}"
    r"{|\partial P| + |\partial G|}",
    reference="Nikolov 2021, doi:10.2196/26151",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=0.0, pred=0.0),
)
def nsd(
    pair: Pair,
    *,
    tol: Annotated[
        float, Param("distance that is still acceptable, in the unit of the spacing", ge=0, shown=True)
    ] = 2.0,
    surface: Surface = "surfel",
) -> float | None:
    """Normalised surface distance: share of both surfaces that lies within `tol` of the other.

    Choose `tol` as the disagreement of two experts. A tolerance below one voxel says little.
    """
    d = pair.distances(surface)
    return None if d is None else d.share_within(tol)


@metric(
    family="surface",
    formula=r"\frac{|P_w \cap G_w|}{|P_w \cup G_w|},\; X_w = \{x \in X : d(x, X^c) \le w\}",
    reference="after Cheng 2021, arXiv:2103.16562",
    range=(0, 1),
    better="higher",
    symmetric=True,
    when_empty=WhenEmpty(both=None, gt=0.0, pred=0.0),
)
def boundary_iou(
    pair: Pair,
    *,
    width: Annotated[
        float | str,
        Param(
            "width of the inner band in the unit of the spacing; auto: 2% of the image diagonal, at least one voxel",
            gt=0,
            words=("auto",),
            shown=True,
        ),
    ] = "auto",
) -> float | None:
    """Intersection over union of the inner bands along the two boundaries.

    More sensitive to the contour of a large object than iou. The band is Euclidean and in the unit of
    the spacing; Cheng's own code erodes by whole pixels and gives other numbers.
    """
    both, either = pair.bands(None if width == "auto" else float(width))
    return both / either if either else None
