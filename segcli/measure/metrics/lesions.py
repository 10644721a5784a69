"""Lesions one by one: scores per lesion as BraTS has them since 2023, and a table of all objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from segcli.measure.filing import table
from segcli.measure.metrics.objects import Instances, Iou, Matching, of_objects
from segcli.measure.metrics.surface import Surface
from segcli.measure.metrics.topology import Connectivity
from segcli.measure.param import Param
from segcli.measure.record import Rows
from segcli.measure.why import Why

if TYPE_CHECKING:
    from segcli.evidence.objects import Objects
    from segcli.evidence.pair import Pair

Dilation = Annotated[
    int,
    Param(
        "pieces of the gt that meet once each has grown by so many 18-neighbour steps (8 in 2-D) are one", ge=0, le=100
    ),
]
MinVolume = Annotated[
    float, Param("lesions of at most this volume, in the cube of the spacing's unit, do not count", ge=0)
]
BRATS = "Moawad et al. 2023, arXiv:2306.00838"


@of_objects(
    aliases=("lesion_wise_dice",),
    formula=r"\frac{\sum_{l} \mathrm{Dice}(l, P_l)}{|L| + |FP|},\; "
    r"P_l = \text{predicted pieces that meet the dilated } l",
    reference=BRATS,
    range=(0, 1),
    better="higher",
)
def lesion_dice(pair: Pair, *, dilation: Dilation = 3, min_volume: MinVolume = 0.0) -> float:
    """Mean Dice over lesions, each missed and each false one as 0, as BraTS 2023.

    Small lesions weigh as much as large ones. BraTS takes dilation=3:min_volume=50 for gliomas,
    dilation=1:min_volume=2 for metastases; 1 where there is neither a lesion nor a false one. Void is as in pq.
    """
    found = pair.objects.lesion_scores(dilation, min_volume)
    return found.total / found.lesions if found.lesions else 1.0


@of_objects(
    aliases=("lesion_wise_hd95",),
    formula=r"\frac{\sum_{l} \mathrm{HD}_{95}(l, P_l) + c\,|FP|}{|L| + |FP|},\; \mathrm{HD}_{95}(l, \emptyset) = c",
    reference=BRATS,
    range=(0, float("inf")),
    better="lower",
    unit="mm",
    undefined=Why.NO_SURFACE,
    caution="the penalty decides it as soon as a lesion is missed or false",
    miss="penalty",
)
def lesion_hd95(
    pair: Pair,
    *,
    dilation: Dilation = 3,
    min_volume: MinVolume = 0.0,
    penalty: Annotated[float, Param("distance of a missed or false lesion, in the unit of the spacing", ge=0)] = 374.0,
    surface: Surface = "surfel",
) -> float:
    """Mean hd95 over lesions, each missed and each false one as 374 mm, as BraTS 2023.

    374 mm is the diagonal of the BraTS grid, rounded up: set penalty= for another. Lesions are those of lesion_dice.
    Void is as in pq.
    """
    found = pair.objects.lesion_scores(dilation, min_volume, surface, penalty)
    return found.total / found.lesions if found.lesions else 0.0


@table(
    family="instances",
    needs="structure",
    formula=r"\text{one row for each object}",
    reference="Kirillov et al. 2019, arXiv:1801.00868",
)
def objects(
    pair: Pair,
    *,
    iou: Iou = 0.5,
    matching: Matching = "optimal",
    connectivity: Connectivity = "26",
    instances: Instances = "components",
    surface: Surface = "surfel",
) -> Rows:
    """Each object of both maps: its size, place and fit with the object it is matched with.

    `volume` is in the cube of the spacing's unit (square in 2-D), `hd95` in that unit, `centre` the centre
    of gravity as indices. Components are numbered from the largest, objects that are values by value. Ignored
    voxels are in no number, and a predicted object that is not matched and mostly ignored is left out.
    """
    import numpy as np

    structure = pair.structure
    pairs = structure.objects(instances, connectivity)
    found = pairs.match(iou, matching)
    columns = ("side", "id", "voxels", "volume", "matched", "iou", "dice", "hd95")
    fits: dict[tuple[str, int], tuple[int, float, float, float | None]] = {}
    for p, g, overlap, dice in zip(*(part.tolist() for part in found[:4]), strict=True):
        hd95 = structure.hd95(pairs.objects_pred, [p], pairs.objects_gt, [g], surface)
        fits["pred", p] = pairs.objects_gt.ids[g], overlap, dice, hd95
        fits["gt", g] = pairs.objects_pred.ids[p], overlap, dice, hd95

    def rows(side: str, those: Objects, matched: Any) -> list[tuple[float | int | str | None, ...]]:
        return [
            (
                side,
                those.ids[k],
                int(those.sizes[k]),
                int(those.sizes[k]) * pair.voxel_volume,
                *fits.get((side, k), (None, None, None, None)),
                *structure.centre(those, k),
            )
            for k in np.flatnonzero(those.counted(matched)).tolist()
        ]

    axes = tuple(f"centre_{axis}" for axis in range(structure.ndim))
    return Rows(
        (*columns, *axes), rows("gt", pairs.objects_gt, found.gt) + rows("pred", pairs.objects_pred, found.pred)
    )
