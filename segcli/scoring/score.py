"""One case from files or arrays to values: read, match, find the labels, apply the measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError, keywords_checked
from segcli.masks.asked import reading_keywords, reading_of
from segcli.masks.labels import Label
from segcli.masks.mask import Note
from segcli.measure.conventions import Convention
from segcli.measure.notation import parse
from segcli.measure.record import BoundMeasure, Kind
from segcli.measure.why import Why
from segcli.scoring.batch import Batch
from segcli.scoring.empty import (
    as_given,
    check_ignored,
    classes_value,
    conventional,
    empty_rule,
    is_mark,
    metric_value,
    parts_of,
)
from segcli.scoring.grids import on_grid, unit_on
from segcli.scoring.loading import Loaded, load
from segcli.scoring.means import (
    ALL,
    MEAN,
    Mean,
    MeanOf,
    channel_means,
    check_average,
    check_mean_of,
    mean_of,
    pooled_channels,
    pooled_labels,
    pooled_mean,
    weighted_mean,
    weights,
)
from segcli.scoring.values import Scored, TableValue, Value

if TYPE_CHECKING:
    from segcli.evidence.case import Case
    from segcli.evidence.pair import Pair
    from segcli.evidence.soft import SoftPair
    from segcli.masks.reading import Reading
    from segcli.scoring.library_scores import ByLibrary


# --- measures -----------------------------------------------------------------------------------


def unit_of(bound: BoundMeasure, unit: str, ndim: int) -> str:
    """Return the unit of a measure on a grid: mm or voxel, and their powers in as many dimensions."""
    given = bound.measure.unit
    if given == "mm":
        return unit
    return f"{unit}^{ndim}" if given == "mm^3" else given


def score_loaded(
    loaded: Loaded,
    metrics: Sequence[BoundMeasure],
    losses: Sequence[BoundMeasure],
    *,
    empty: str = "undefined",
    background: bool = True,
    average: str = "macro",
    mean_over: Sequence[str] | None = None,
    lenient: bool = False,
    convention: Convention | None = None,
    entropy_map: bool = False,
) -> Scored:
    """Return every measure of every label of a loaded pair; `lenient` where a label of `mean_over` may be absent."""
    if convention is not None and loaded.written is not None:
        loaded = loaded.written
    doubt = loaded.entropy() if entropy_map else None
    case = loaded.case
    entries = {} if convention is None else convention.entries
    notes = [*loaded.notes, *([] if convention is None else _read_by_itk(case, convention))]
    apart = {n: e.grid for n, e in entries.items() if e.grid != "file"}
    tables = [b for b in metrics if b.measure.kind == "table"]
    wide = [b for b in [*metrics, *losses] if b.over_classes and b.measure.kind != "table"]
    metrics = [b for b in metrics if b not in tables and not b.over_classes]
    losses = [b for b in losses if not b.over_classes]
    channels = loaded.channels if losses else []
    library = None if convention is None or isinstance(loaded, Batch) else _library(loaded, convention)
    own_means = bool(library and library.several and average == "macro" and background)
    by_label = {
        label.name: _losses_of(loaded, label, losses, library) for label in dict.fromkeys([*channels, *case.labels])
    }
    pairs = [case.pair(i) for i in range(len(case.labels))]
    values: list[Value] = []
    units = {b.name: unit_of(b, unit_on(case, apart.get(b.name, "file")), len(case.shape)) for b in metrics}
    elsewhere = {grid: on_grid(case, grid) for grid in apart.values()}
    for pair in pairs:
        for bound in metrics:
            name, grid = bound.name, apart.get(bound.name, "file")
            seen = elsewhere[grid].pair(pair.index) if grid in elsewhere else pair
            own = metric_value(bound, seen, empty)
            if convention is not None and name in entries and empty == convention.tool:
                own, said = as_given(entries[name], pair, own)
                text = f"{convention.title} {entries[name].call} of {pair.label.name}: {said}"
                notes += [Note(text, code="convention.rule")] if said else []
            value, status, why = own
            values.append(Value(pair.label.name, "metric", name, value, units[name], status, why))
        values += by_label[pair.label.name]
    parts = {pair.label.name: found for pair in pairs if (found := parts_of(metrics, pair))}
    if any(bound.measure.parts for bound in wide) and not case.overlapping:
        parts[ALL] = case.classes.sums.as_parts()
    # Channels that are no row of metrics still count in the means: their losses are shown.
    shown = {label.name for label in case.labels}
    values += [value for name, rest in by_label.items() if name not in shown for value in rest]
    chosen = {"mean_of": mean_over, "convention": None if convention is None else convention.tool, "average": average}
    regions = {label.name for label in case.labels if label.is_region}
    over = mean_of(chosen, {label.name: label.spec() for label in case.labels}, regions, lenient=lenient)
    means = metric_means(case, values, metrics, average, over)
    own_means = own_means and not over.asked
    if over.asked:
        by_name = {label.name: label for label in case.labels}
        loss_means = [(MEAN, [by_name[name] for name in over.names])]
    else:
        loss_means = [(name, [channels[i] for i in at]) for name, at in channel_means(channels, background=background)]
    if library is not None and own_means:
        means += library.means(losses)
    else:
        means += _loss_means(loaded, loss_means, values, losses, average=average)
    of_all = _over_classes(loaded, wide, empty, library)
    remarks = [] if convention is None else convention.remarks(case.shape, own_means=own_means)
    return Scored(
        case=loaded.name,
        pred=loaded.pred,
        gt=loaded.gt,
        shape=case.shape,
        spacing=case.spacing,
        unit=case.unit,
        geometry=loaded.grid.geometry,
        labels=case.labels,
        counts={p.label.name: p.counts for p in pairs},
        values=values + of_all,
        means=means,
        notes=notes,
        tables=_tables(loaded, pairs, tables),
        remarks=[*loaded.grid.remarks, *remarks, *(library.remarks if library is not None else [])],
        roi=loaded.roi,
        parts=parts,
        mean_of=over,
        entropy_map=doubt,
        affine=loaded.grid.affine,
    )


def _read_by_itk(case: Case, convention: Convention) -> list[Note]:
    """Return with which voxel size a tool measures that reads files with ITK, where that is not the case's."""
    read = case.itk_spacing
    calls = ", ".join(e.call for e in convention.entries.values() if e.grid in ("header", "slab"))
    if read is None or not calls:
        return []
    size = read if isinstance(read, str) else "x".join(f"{length:.6g}" for length in read)
    does = size if size is read else f"reads the voxel size {size} mm from pixdim, not the sform"
    return [Note(f"{convention.title} {does}: {calls}", code="convention.voxel-size")]


def _library(loaded: Loaded, convention: Convention) -> ByLibrary | None:
    """Return the losses of a case as the library of a convention has them; `None` where none is asked for."""
    if not convention.libraries:
        return None
    from segcli.scoring.library_scores import ByLibrary

    return ByLibrary(loaded, convention.libraries)


def values_of(
    loaded: Loaded, index: int, metrics: Sequence[BoundMeasure], losses: Sequence[BoundMeasure], *, empty: str
) -> list[Value]:
    """Return every measure of one label alone of a loaded pair, `loaded.labels[index]`."""
    case, pair = loaded.case, loaded.case.pair(index)
    values = []
    for bound in metrics:
        if bound.measure.kind != "table" and not bound.over_classes:
            value, status, why = metric_value(bound, pair, empty)
            unit = unit_of(bound, case.unit, len(case.shape))
            values.append(Value(pair.label.name, "metric", bound.name, value, unit, status, why))
    return values + _losses_of(loaded, pair.label, [b for b in losses if not b.over_classes])


def _losses_of(
    loaded: Loaded, label: Label, losses: Sequence[BoundMeasure], library: ByLibrary | None = None
) -> list[Value]:
    if not losses:
        return []
    pair = loaded.soft(label)
    found = []
    for bound in losses:
        if library is not None and bound.name in library.entries:
            found.append(library.value(bound, label))
            continue
        value = loss_value(bound, pair)
        why = bound.measure.undefined if value is None else Why.GT_EMPTY if pair.gt_empty else ""
        found.append(Value(label.name, "loss", bound.name, value, "", "undefined" if value is None else "ok", why))
    return found


def loss_value(bound: BoundMeasure, pair: SoftPair) -> float | None:
    """Return a loss; of the images of a stack that it cannot pool (it reads neighbours) the mean over them."""
    from segcli.evidence.pooled import PooledPair

    if bound.measure.needs == "grid" and isinstance(pair, PooledPair):
        defined = [v for v in (bound(part) for part in pair.parts) if v is not None]
        value = sum(defined) / len(defined) if defined else None
    else:
        value = bound(pair)
    return None if value is None else float(value)


def _over_classes(loaded: Loaded, wide: Sequence[BoundMeasure], empty: str, library: ByLibrary | None) -> list[Value]:
    """Return the values of measures over all classes at once."""
    found = []
    losses = any(b.measure.kind == "loss" for b in wide) and not loaded.case.overlapping
    soft = loaded.classes() if losses else None
    for bound in wide:
        kind = bound.measure.kind
        if kind == "loss" and library is not None and bound.name in library.entries:
            found.append(library.value(bound))
            continue
        value, status, why = classes_value(bound, soft if kind == "loss" else loaded.case.exclusive, empty)
        unit = unit_of(bound, loaded.case.unit, len(loaded.case.shape))
        found.append(Value(ALL, kind, bound.name, value, unit, status, why))
    return found


def _tables(loaded: Loaded, pairs: Sequence[Pair], tables: Sequence[BoundMeasure]) -> list[TableValue]:
    found = []
    for bound in tables:
        evidence = [(ALL, loaded.case.exclusive)] if bound.over_classes else [(p.label.name, p) for p in pairs]
        for name, given in ((name, given) for name, given in evidence if given is not None):
            if bound.measure.reads == "probability" and given.soft is None:
                continue
            rows = bound(given)
            found.append(TableValue(name, bound.name, rows.columns, rows.rows))
    return found


def metric_means(
    case: Case, values: Sequence[Value], metrics: Sequence[BoundMeasure], average: str, over: MeanOf
) -> list[Mean]:
    """Return the mean of each metric over labels of a case."""
    pairs = [case.pair(i) for i in over.places(case.labels)]
    weight = weights(average, [float(p.counts.gt) for p in pairs])
    known = {(v.label, v.measure): v for v in values if v.kind == "metric"}
    means = []
    for bound in metrics:
        name, unit = bound.name, unit_of(bound, case.unit, len(case.shape))
        if average == "micro" and len(pairs) > 1:
            means.append(pooled_mean(bound, pooled_labels(pairs), len(pairs), unit=unit))
        else:
            found = [known[p.label.name, name] for p in pairs]
            own = [None if is_mark(bound, v.value, v.status) else v.value for v in found]
            means.append(weighted_mean("metric", name, own, weight, unit=unit))
    return means


def _loss_means(
    loaded: Loaded,
    rows: Sequence[tuple[str, Sequence[Label]]],
    values: Sequence[Value],
    losses: Sequence[BoundMeasure],
    *,
    average: str,
) -> list[Mean]:
    """Return the means of losses: the name of each row, with the channels that it is over."""
    means: list[Mean] = []
    known = {(v.label, v.measure): v.value for v in values if v.kind == "loss"}
    for label, over in rows:
        if average == "micro" and len(over) > 1:
            pooled = pooled_channels([loaded.soft(x) for x in over])
            means += [pooled_mean(bound, pooled, len(over), label=label) for bound in losses]
            continue
        weight = weights(average, loaded.sizes(over) if losses else [])
        for bound in losses:
            name = bound.name
            own = [known[x.name, name] for x in over]
            means.append(weighted_mean("loss", name, own, weight, label=label))
    return means


# --- the library's front door ---------------------------------------------------------------------


def measures_of(kind: Kind, asked: str | Iterable[str] | None, *, surface: str | None = None) -> list[BoundMeasure]:
    """Return the measures of a list or text, with `surface` set where a measure has it and did not name it."""
    bound = parse(kind, asked or ())
    return bound if surface is None else [b.with_default("surface", surface) for b in bound]


@keywords_checked(reading_keywords)
def score(
    pred: Any,
    gt: Any,
    *,
    metrics: str | Iterable[str] | None = "default",
    losses: str | Iterable[str] | None = (),
    empty: str | None = None,
    surface: str | None = None,
    convention: str | None = None,
    background: bool = True,
    average: str = "macro",
    mean_of: str | Iterable[str] | None = None,
    batch_dice: bool = False,
    entropy_map: bool = False,
    strict: bool = False,
    sha256: bool = False,
    **reading: Any,
) -> Any:
    """Score a prediction against a ground truth; paths, arrays or masks.

    `metrics` and `losses` are lists or comma-separated texts (`"dice,nsd:tol=1"`, presets included).
    `average` says how labels become one mean (macro, micro, weighted, present), `mean_of` which labels and regions
    (`"liver,tumour"`; without it all labels, where there are none the regions); `batch_dice` sums losses over
    all images of a stack before their formula is applied. `convention` names a tool (`"monai"`) whose definitions
    and rule for empty masks the measures follow; `empty` is another rule for those. With `entropy_map` a case has the
    predictive entropy of each voxel, in bits. Every other keyword is an option of the command line: `labels`,
    `spacing` (mm, array axis order), `ignore_label` (values of the ground truth that mark void: an integer, several,
    a `range` or a text such as `"3,250..255"`), `ignore_in` ("gt" or "either"), `roi` (a path or an array on the grid
    of the ground truth, not 0 in the voxels that count), `kind`, `from_logits`, `threshold`, `prob_scale`, `round`,
    `channel_axis`, `channels`, `normalize`, `axes`, `stack`, `stack_axis`, `squeeze`, `colors`, `on_geometry`,
    `max_voxels`, `soft_gt`. Returns a `Scored` case, a list of them with `stack` or `stack_axis`. Raises
    `InputError` for what cannot be read or compared, `UsageError` for what cannot be asked.
    """
    how = reading_of(**reading)
    rules = conventional(convention, metrics, losses, surface)
    cases = score_cases(
        pred,
        gt,
        measures_of("metric", metrics, surface=surface) if rules is None else rules.metrics,
        measures_of("loss", losses) if rules is None else rules.losses,
        how,
        empty=empty_rule(empty, rules),
        convention=rules,
        background=background,
        average=check_average(average),
        mean_over=check_mean_of(mean_of),
        batch_dice=batch_dice,
        entropy_map=entropy_map,
        strict=strict,
        sha256=sha256,
    )
    return cases if how.stack else cases[0]


def score_cases(
    pred: Any,
    gt: Any,
    metrics: Sequence[BoundMeasure],
    losses: Sequence[BoundMeasure],
    how: Reading,
    *,
    empty: str = "undefined",
    convention: Convention | None = None,
    background: bool = True,
    average: str = "macro",
    mean_over: Sequence[str] | None = None,
    batch_dice: bool = False,
    entropy_map: bool = False,
    strict: bool = False,
    sha256: bool = False,
) -> list[Scored]:
    """Return the scored case of a pair, or with a stack one for each image.

    With `batch_dice` losses are of the whole stack: they stand in one more case, the last.
    """
    check_batch(batch_dice, how)
    check_ignored(None if convention is None else convention.tool, how)
    found = load(pred, gt, how, sha256=sha256, strict=strict, instances=any(b.by_value for b in metrics))
    if convention is not None and how.labels is None:  # no tool adds a union of labels
        found = [loaded.literal() for loaded in found]
    apart = [] if batch_dice else losses
    options: dict[str, Any] = {
        "empty": empty, "background": background, "average": average, "mean_over": mean_over, "convention": convention,
    }  # fmt: skip
    cases = [score_loaded(loaded, metrics, apart, entropy_map=entropy_map, **options) for loaded in found]
    if batch_dice and losses:
        images = found if convention is None else [image.written or image for image in found]
        cases.append(score_loaded(Batch.of(images), [], losses, **options))
    return cases


def check_batch(batch_dice: bool, how: Reading) -> None:
    if batch_dice and not how.stack:
        raise UsageError(
            "--batch-dice sums over the images of a stack; this is one case.",
            hint="--stack makes the first axis images",
            code="average.batch",
        )
