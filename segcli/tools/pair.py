"""What other tools would print for a pair, computed without them, and why that differs from segcli's number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segcli.errors import UsageError
from segcli.masks.asked import reading_of
from segcli.masks.mask import Note
from segcli.measure.conventions import CONDITION_WORDS, Entry, Tool, check_convention, default_of, tools
from segcli.measure.notation import bind, parse
from segcli.measure.record import FORMULA, BoundMeasure
from segcli.measure.why import Why
from segcli.scoring.empty import check_ignored
from segcli.scoring.grids import unit_on
from segcli.scoring.loading import Loaded, load
from segcli.scoring.means import ALL
from segcli.scoring.printed import Printed, Views, given, printed, same
from segcli.scoring.score import unit_of
from segcli.tools.rows import Row, effective
from segcli.wording import plain

#: The quantities that are compared unless others are asked for.
METRICS = "dice,iou,hd,hd95,assd,nsd:tol=2"

SURFACE_WORDS = {
    "surfel": "surface elements weighed by their area",
    "mesh": "a mesh through the surface, exact distances",
    "vertex": "corners of voxels as surface",
    "border": "border voxels, each counting 1",
    "border_c2": "border voxels by face and edge neighbours",
    "border_c3": "border voxels by all neighbours",
    "border_open": "the image edge not counted",
    "border26": "the image edge not counted",
    "set": "all voxels of the masks, not their surfaces",
}
#: A value of a parameter in words, where the value alone does not say it.
PARAMETER_WORDS = {
    **{f"surface={surface}": words for surface, words in SURFACE_WORDS.items()},
    "tol=auto": "the smallest spacing as tolerance",
    "iou=0.49999999999999994": "an IoU of 0.5 is a match too",
    "connectivity=26-4": "in 2-D pieces joined across edges only, not at corners",
    "instances=values": "each value is an object, not each connected piece",
    "pooling=mean": "mean of the two directed percentiles",
    "rank=floor": "the distance of a rank, not interpolated",
    "rank=nearest": "the distance of a rank, not interpolated",
    "thinning=lee": "a volume thinned as Lee 1994, which loses straight tubes of even thickness",
    "edge=mesh": "the band along the mesh through the surface",
    "slack=0": "the tolerance taken exactly: the noise of a voxel size puts a step beyond it",
}
#: What lies between the default surface and one that differs in several things.
ON_THE_WAY = {"border_open": ("border",), "border26": ("border", "border_c3")}
#: What the statistic of a measure is where it has another name than what the tool calls it.
STATISTIC_WORDS = {
    "hd95_pooled": "percentile of both directions together",
    "masd": "mean of the two directed means",
    "nsd_mean": "mean of the two shares",
    "hd_percentile": "percentile of the distances",
    "hd_pred_to_gt": "from pred to gt only",
    "pixel_accuracy": "micro average, the background is a class too",
    "volume_similarity_signed": "signed, 2(|P|-|G|)/(|P|+|G|)",
    "fdr": "arguments exchanged: it is fdr",
    "fnr": "arguments exchanged: it is fnr",
    "object_precision": "arguments exchanged: it is object_precision",
    "kappa": "counts voxels, not pairs of voxels: it is kappa",
    "false_omission_rate": "arguments exchanged: it is false_omission_rate",
    "hd": "the maximum, not the mean",
}
GRID_WORDS = {
    "voxel": "the spacing is not used: distances in voxels",
    "reversed": "the spacing in reverse axis order",
    "header": "the voxel size of pixdim, not of the sform",
    "slab": "a plane as a volume of one slice: both of its sides are surface",
}
TIMES_WORDS = {-1.0: "arguments exchanged: the sign turns"}


@dataclass(frozen=True)
class Conventions:
    """The rows of a pair, the largest disagreement first."""

    loaded: Loaded
    rows: list[Row]
    notes: list[Note] = field(default_factory=list)


# --- why it differs -------------------------------------------------------------------------------


def causes(entry: Entry, bound: BoundMeasure, reference: BoundMeasure, views: Views, found: Printed) -> tuple[str, ...]:
    """Return what makes the difference between segcli's number and a tool's, each part that has an effect here.

    One parameter after the other is taken over from the tool; one that changes nothing for this pair is not a cause.
    """
    own = views.own(reference)
    ours = "undefined" if own is None else f"{own:g}"
    if (rule := given(entry, bound, views)) is not None:
        if same(found.value, own) and not found.words:
            return ()
        return (f"{CONDITION_WORDS[rule[0]]}: {found.words or f'{found.value:g} by its rule'}, here {ours}",)
    if views.why and entry.rule(views.why) != FORMULA and not bound.over_classes:
        if same(found.value, own) and not found.words:
            return ()
        said = found.words or f"{found.value:g} by its rule"
        return tuple(t for t in (f"{Why(views.why).of_masks}: {said}, here {ours}", entry.remark(views.why)) if t)
    if found.value is None:
        return (found.words,)  # the version stands beside the tool
    if same(found.value, own):
        return ()
    steps = [("void in the prediction is a miss, no false alarm", views.value(reference))]
    for step, grid, times, words in _steps(entry, bound, reference):
        now = views.value(step, grid)
        steps.append((words, None if now is None else now * times))
    return effective(steps, own)


def _steps(
    entry: Entry, bound: BoundMeasure, reference: BoundMeasure
) -> Iterable[tuple[BoundMeasure, str, float, str]]:
    step, later = reference, {}
    for key, wanted in bound.params.items():
        if key not in step.params and wanted != bound.measure.params[key].default:
            later[key] = bound.measure.params[key].default
        if key in step.params and step.params[key] != wanted:
            if isinstance(wanted, str) and wanted not in reference.measure.params[key].words:
                later[key] = step.params[key]  # a word that only the other measure knows: nsd_mean's tol=auto
                continue
            for value in (*ON_THE_WAY.get(str(wanted), ()), wanted):
                words = _parameter_words(key, value, step.params[key])
                step = replace(step, params={**step.params, key: value})
                yield step, "file", 1, words
    if bound.measure is not reference.measure:
        step = replace(bound, params={**bound.params, **later})
        yield step, "file", 1, STATISTIC_WORDS[bound.measure.name]
    for key, before in later.items():
        step = replace(step, params={**step.params, key: bound.params[key]})
        yield step, "file", 1, _parameter_words(key, bound.params[key], before)
    if entry.grid == "slab":
        yield bound, "header", 1, GRID_WORDS["header"]
    if entry.grid != "file":
        yield bound, entry.grid, 1, GRID_WORDS[entry.grid]
    if entry.times != 1:
        yield bound, entry.grid, entry.times, TIMES_WORDS[entry.times]


def _parameter_words(key: str, value: Any, before: Any) -> str:
    return PARAMETER_WORDS.get(f"{key}={plain(value)}", f"{key}={plain(value)}, not {plain(before)}")


# --- all rows of a pair ---------------------------------------------------------------------------


def conventions(
    pred: Any,
    gt: Any,
    *,
    metrics: str | Iterable[str] | None = "default",
    losses: str | Iterable[str] | None = (),
    surface: str | None = None,
    convention: str | None = None,
    strict: bool = False,
    **reading: Any,
) -> Any:
    """Return what other tools would print for a pair, and why: without running any of them.

    `metrics` are the quantities to compare, as a list or a text (`"hd95,nsd:tol=1"`; `"all"` of the table); `losses`
    adds what libraries return for a loss. `surface` is that of segcli's own numbers; `convention` names the one tool
    to show. Other keywords are those of `score`. Returns `Conventions`, a list of them with `stack=True`. Raises
    `InputError` for what cannot be read, `UsageError` for what no tool has.
    """
    how = reading_of(**reading)
    check_ignored(convention or "another tool", how)
    asked, chosen = quantities(metrics, surface=surface, convention=convention), parse("loss", losses or ())
    if not (asked or chosen):
        hint = f"{convention} has losses only: name some with --losses" if convention and metrics else ""
        raise UsageError("no metric and no loss was asked for.", hint=hint, code="conventions.nothing")
    from segcli.tools.losses import loss_rows

    found = []
    each = load(pred, gt, how, strict=strict)
    objects = each
    if how.labels is None and any(b.by_value or e.bound().by_value for b in asked for _, e in having(b, convention)):
        objects = load(pred, gt, how, strict=strict, instances=True)
    for one, of_objects in zip(each, objects, strict=True):
        loaded = one if how.labels is not None else one.literal()  # no tool adds a union of labels
        objects_too = loaded if of_objects is one else of_objects
        rows = [row for bound in asked for row in metric_rows(bound, loaded, convention, objects_too)]
        for bound in chosen:
            rows += [row for row in loss_rows(bound, loaded) if convention in (None, row.tool)]
        notes = list(dict.fromkeys([*loaded.notes, *of_objects.notes]))
        found.append(Conventions(loaded, ordered(rows), notes))
    return found if how.stack else found[0]


def quantities(
    metrics: str | Iterable[str] | None, *, surface: str | None = None, convention: str | None = None
) -> list[BoundMeasure]:
    """Return the metrics whose values in other tools, or in one, are asked for."""
    texts = metrics.split(",") if isinstance(metrics, str) else list(metrics or ())
    if convention is not None:
        check_convention(convention)
    chosen_tools = [tool for tool in tools().values() if convention in (None, tool.name)]
    have = dict.fromkeys(e.quantity for tool in chosen_tools for e in tool.metrics)
    found: dict[str, BoundMeasure] = {}
    for text in (t.strip() for t in texts if t.strip()):
        if text in ("default", "all"):
            names = METRICS.split(",") if text == "default" else [default_of(q) for q in have]
            chosen = [bound for bound in (bind(name, "metric") for name in names) if bound.measure.name in have]
        else:
            chosen = [b for b in parse("metric", text) if b.measure.name in have]
            if not chosen:
                lacks = "no tool has" if convention is None else f"--convention {convention} does not have"
                raise UsageError(f"{lacks} {text}; there are {', '.join(have)}.", code="conventions.metric")
        if surface is not None:
            chosen = [b.with_default("surface", surface) for b in chosen]
        found.update((b.name, b) for b in chosen)
    return list(found.values())


def having(reference: BoundMeasure, convention: str | None = None) -> list[tuple[Tool, Entry]]:
    """Return the metrics of all tools, or of one, that are a quantity."""
    return [
        (tool, entry)
        for tool in tools().values()
        for entry in tool.metrics
        if entry.quantity == reference.measure.name and convention in (None, tool.name)
    ]


def metric_rows(
    reference: BoundMeasure, loaded: Loaded, convention: str | None = None, objects: Loaded | None = None
) -> list[Row]:
    """Return what each tool (or one) that has a quantity prints for it, for each label or for all classes.

    `objects` is the pair for tools to which each value is an object: without names its values are of one class.
    """
    rows = []
    whole, single = (_views(x) for x in (loaded, objects or loaded))
    spacing = loaded.case.spacing
    for tool, entry in having(reference, convention):
        fixed = bind(entry.measure, "metric").named if entry.variant else frozenset()
        open_ = replace(reference, named=reference.named - {"surface"} - fixed)
        bound = entry.bound(open_)
        every = single if bound.by_value or reference.by_value else whole
        if entry.grid == "reversed" and all(map(same, spacing, spacing[::-1])):
            continue
        if reference.over_classes:
            rows.append(_row(tool, entry, bound, reference, every[0], ALL))
        elif not bound.over_classes or len(every) == 1:
            rows += [_row(tool, entry, bound, reference, v, v.case.labels[v.index].name) for v in every]
    return rows


def _views(loaded: Loaded) -> list[Views]:
    case = (loaded.written or loaded).case
    return [Views(case, i, loaded.case) for i in range(len(case.labels))]


def _row(tool: Tool, entry: Entry, bound: BoundMeasure, reference: BoundMeasure, views: Views, label: str) -> Row:
    found = printed(entry, bound, views)
    because = causes(entry, bound, reference, views, found)
    unit = unit_of(bound, unit_on(views.case, entry.grid), len(views.case.shape))
    own = views.own(reference)
    return Row(
        "metric", reference.name, label, tool.title, tool.version, tool.checked, entry.call, bound.name, found,
        reference.name, own, unit, because, entry.note, entry.variant,
    )  # fmt: skip


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the largest disagreement first, equal ones in the order of the table."""
    return sorted(rows, key=lambda r: -r.difference)
