"""Shares of the two boundaries that agree: within a tolerance of each other, or in a band along them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from segcli.measure.filing import metric
from segcli.measure.metrics.surface import Surface
from segcli.measure.param import Param
from segcli.measure.record import WhenEmpty
from segcli.measure.why import Why

if TYPE_CHECKING:
    from segcli.evidence.pair import Pair

Tolerance = Annotated[float, Param("distance that is still acceptable, in the unit of the spacing", ge=0, shown=True)]
Slack = Annotated[
    float,
    Param(
        "part of tol by which a distance may exceed it: room for the noise of a voxel size out of a header; "
        "0: none, as surface-distance and MetricsReloaded",
        ge=0,
        lt=1,
    ),
]
Width = Annotated[
    float | str,
    Param(
        "width of the inner band in the unit of the spacing; auto: 2% of the image diagonal, at least one voxel",
        gt=0,
        words=("auto",),
        shown=True,
    ),
]
#: What all shares have in common: those of the surfaces, and those of bands along them.
share = partial(metric, family="surface", needs="surfaces", range=(0, 1), better="higher", undefined=Why.NO_SURFACE)
share_of_bands = partial(metric, family="surface", needs="bands", range=(0, 1), better="higher")
NOTHING_AGREES = WhenEmpty(both=None, gt=0.0, pred=0.0)


# --- within a tolerance ---------------------------------------------------------------------------


@share(
    aliases=("surface_dice", "normalized_surface_dice"),
    formula=r"\frac{|\{p : d(p, \partial G) \le \tau\}| + |\{g : d(g, \partial P) \le \tau\}|}"
    r"{|\partial P| + |\partial G|}",
    reference="Nikolov et al. 2021, doi:10.2196/26151",
    symmetric=True,
    when_empty=NOTHING_AGREES,
)
def nsd(pair: Pair, *, tol: Tolerance = 2.0, surface: Surface = "surfel", slack: Slack = 1e-6) -> float | None:
    """Normalised surface distance: share of both surfaces that lies within `tol` of the other.

    Choose `tol` as the disagreement of two experts. A tolerance below one voxel says little.
    """
    d = pair.distances(surface)
    return None if d is None else d.share_within(tol, slack=slack)


@share(
    formula=r"\tfrac12\left(\frac{|\{p : d(p, \partial G) \le \tau\}|}{|\partial P|} "
    r"+ \frac{|\{g : d(g, \partial P) \le \tau\}|}{|\partial G|}\right)",
    reference="after Nikolov et al. 2021, doi:10.2196/26151; pooling as panoptica",
    symmetric=True,
    when_empty=NOTHING_AGREES,
)
def nsd_mean(
    pair: Pair,
    *,
    tol: Annotated[
        float | str,
        Param(
            "distance that is still acceptable, in the unit of the spacing; auto: the smallest spacing",
            ge=0,
            words=("auto",),
            shown=True,
        ),
    ] = "auto",
    surface: Surface = "surfel",
    slack: Slack = 1e-6,
) -> float | None:
    """Mean of the two shares of a surface that lie within `tol` of the other.

    What panoptica calls NSD, with surface=border. Both surfaces weigh the same, where nsd gives the larger one
    more. Across an axis of coarser spacing the default tolerance allows no error of a voxel.
    """
    d = pair.distances(surface)
    if d is None:
        return None
    within = min(pair.case.spacing) if tol == "auto" else float(tol)
    return (d.share_within(within, "pred", slack=slack) + d.share_within(within, "gt", slack=slack)) / 2


@share(
    formula=r"\frac{|\{p : d(p, \partial G) \le \tau\}|}{|\partial P|}",
    reference="Nikolov et al. 2021, doi:10.2196/26151",
    when_empty=WhenEmpty(both=None, gt=0.0, pred=None),
    caution="blind to what the prediction misses",
)
def surface_overlap_pred(
    pair: Pair, *, tol: Tolerance = 2.0, surface: Surface = "surfel", slack: Slack = 1e-6
) -> float | None:
    """Share of the prediction's surface that lies within `tol` of that of the ground truth.

    The precision of the boundary: it falls with false parts. What is missed shows in surface_overlap_gt.
    """
    d = pair.distances(surface)
    return None if d is None else d.share_within(tol, "pred", slack=slack)


@share(
    formula=r"\frac{|\{g : d(g, \partial P) \le \tau\}|}{|\partial G|}",
    reference="Nikolov et al. 2021, doi:10.2196/26151",
    when_empty=WhenEmpty(both=None, gt=None, pred=0.0),
    caution="blind to false parts",
)
def surface_overlap_gt(
    pair: Pair, *, tol: Tolerance = 2.0, surface: Surface = "surfel", slack: Slack = 1e-6
) -> float | None:
    """Share of the ground truth's surface that lies within `tol` of that of the prediction.

    The recall of the boundary: it falls with missed parts. False parts show in surface_overlap_pred.
    """
    d = pair.distances(surface)
    return None if d is None else d.share_within(tol, "gt", slack=slack)


@share(
    aliases=("bf_score",),
    formula=r"\frac{2PR}{P + R},\; P = \frac{|\{p : d(p, \partial G) \le \tau\}|}{|\partial P|},\; "
    r"R = \frac{|\{g : d(g, \partial P) \le \tau\}|}{|\partial G|}",
    reference="Csurka, Larlus and Perronnin 2013, doi:10.5244/C.27.32",
    symmetric=True,
    when_empty=NOTHING_AGREES,
)
def boundary_f(pair: Pair, *, tol: Tolerance = 2.0, surface: Surface = "surfel", slack: Slack = 1e-6) -> float | None:
    """F measure of the boundary: harmonic mean of its precision and recall within `tol`.

    Lower than nsd where one direction is much worse than the other. DAVIS has its own boundary and its own
    tolerance: boundary_f_davis.
    """
    d = pair.distances(surface)
    if d is None:
        return None
    return _harmonic(d.share_within(tol, "pred", slack=slack), d.share_within(tol, "gt", slack=slack))


@share_of_bands(
    formula=r"\frac{2PR}{P + R} \text{ of pixels within } \lceil b \sqrt{h^2 + w^2} \rceil",
    reference="Perazzi et al. 2016, doi:10.1109/CVPR.2016.85",
    symmetric=True,
    when_empty=NOTHING_AGREES,
    caution="knows no spacing, and its tolerance grows with the image",
)
def boundary_f_davis(
    pair: Pair,
    *,
    bound: Annotated[
        float,
        Param(
            "tolerance: below 1 a fraction of the image diagonal in pixels, rounded up; from 1 on in pixels",
            ge=0,
            shown=True,
        ),
    ] = 0.008,
) -> float | None:
    """Boundary F measure as the DAVIS benchmark computes it (its F), in pixels.

    To compare with published values. Boundary pixels are those that differ from a neighbour to the right, below
    or diagonally below, and the edge of the image is no boundary, so a mirrored image can give another value.
    """
    shares = pair.davis_boundaries(bound)
    return None if shares is None else _harmonic(*shares)


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


# --- in a band along the boundary -----------------------------------------------------------------


@share_of_bands(
    formula=r"\frac{|P_w \cap G_w|}{|P_w \cup G_w|},\; X_w = \{x \in X : d(x, X^c) \le w\}",
    reference="after Cheng et al. 2021, arXiv:2103.16562",
    symmetric=True,
    when_empty=NOTHING_AGREES,
)
def boundary_iou(
    pair: Pair,
    *,
    width: Width = "auto",
    edge: Annotated[
        Literal["voxels", "mesh"],
        Param(
            "what the width is measured from: voxels: the nearest centre of a voxel outside; mesh: the mesh through "
            "the surface, closer than the width, as MeshMetrics",
            words=("voxels", "mesh"),
        ),
    ] = "voxels",
) -> float | None:
    """Intersection over union of the inner bands along the two boundaries.

    More sensitive to the contour of a large object than iou. The band is Euclidean and in the unit of
    the spacing; Cheng's own code erodes by whole pixels and gives other numbers: boundary_iou_cheng.
    Undefined where no voxel is in a band, as with edge=mesh and a width below half a voxel.
    """
    bands = pair.bands(None if width == "auto" else float(width), edge)
    return bands.both / bands.either if bands.either else None


@share_of_bands(
    formula=r"\frac{2|P_w \cap G_w|}{|P_w| + |G_w|},\; X_w = \{x \in X : d(x, X^c) \le w\}",
    reference="after Cheng et al. 2021, arXiv:2103.16562",
    symmetric=True,
    when_empty=NOTHING_AGREES,
)
def boundary_dice(pair: Pair, *, width: Width = "auto") -> float | None:
    """Dice of the inner bands along the two boundaries.

    Ranks cases as boundary_iou does, on the scale of dice; its bands are the same.
    """
    bands = pair.bands(None if width == "auto" else float(width))
    return 2 * bands.both / (bands.pred + bands.gt) if bands.either else None


@share_of_bands(
    formula=r"\frac{|P_w \cap G_w|}{|P_w \cup G_w|},\; X_w = X \setminus (X \ominus w B_{3 \times 3})",
    reference="Cheng et al. 2021, arXiv:2103.16562",
    symmetric=True,
    when_empty=NOTHING_AGREES,
    caution="knows no spacing, and its band grows with the image",
)
def boundary_iou_cheng(
    pair: Pair,
    *,
    fraction: Annotated[
        float,
        Param("width of the band as a fraction of the image diagonal, in whole pixels, at least 1", gt=0, shown=True),
    ] = 0.02,
) -> float | None:
    """Boundary IoU as the authors' own code computes it, in pixels.

    To compare with published values. The band is what 3x3 erosions (3x3x3 in a
    volume) take off, so it is a square root of 2 wider along a diagonal boundary.
    """
    bands = pair.chessboard_bands(fraction)
    return bands.both / bands.either if bands.either else None
