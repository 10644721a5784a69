"""A comparison of losses as a table, JSON and CSV."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from segcli.explain.attribution import Norms, Wrt
from segcli.explain.comparison import Comparison
from segcli.explain.rankings import Row
from segcli.kernels.surfaces import MEANING
from segcli.measure.record import find
from segcli.report.noted import told_in_csv, warning_lines
from segcli.report.table import DASH, Table, escape_markdown, flat, grid_text, number, percent, significant
from segcli.report.tidy import as_csv
from segcli.run.codec import finite, note_to
from segcli.scoring.loading import Loaded
from segcli.scoring.means import IN_WORDS, MEAN_WITHOUT_BACKGROUND
from segcli.wording import counted

SCHEMA = "segcli.compare/1"


def heading(comparison: Comparison) -> str:
    first: Loaded = comparison.loaded[0]
    preds = list(dict.fromkeys(r.pred for r in comparison.rows))
    who = preds[0] if len(preds) == 1 else counted(len(preds), "prediction")
    overruled = next((x.grid for x in comparison.loaded if x.grid.geometry not in ("ok", "shapes only")), first.grid)
    grid = grid_text(first.case.shape, first.case.spacing, first.case.unit, overruled.geometry)
    return flat(f"{who} vs {first.gt.name}   {grid}")


def comparison_table(comparison: Comparison, kind: str) -> Table:
    """Return one row for each prediction, label and measure of a kind; constant columns are left out."""
    rows = [r for r in comparison.rows if r.kind == kind]
    preds = len({r.pred for r in comparison.rows}) > 1
    labels = len({r.label for r in rows}) > 1
    lead = ["pred"] * preds + ["label"] * labels + [kind]
    headers = [*lead, "value"]
    if kind == "loss":
        headers += ["optimum", "excess", "FP", "FN", "boundary", f"|dL/d{comparison.felt_by}|"]
    table = Table([*headers, ""], left=frozenset({*range(len(lead)), len(headers)}))
    short = short_names(comparison)
    order = list(dict.fromkeys((r.label, r.measure) for r in rows))
    for row in sorted(rows, key=lambda r: order.index((r.label, r.measure))) if preds else rows:
        if row.label.startswith("mean"):
            table.emphasis.add(len(table.rows))
        cells = [short[row.pred]] * preds + [row.label] * labels + [f"{row.measure} {row.unit}".strip()]
        table.rows.append([*cells, *_values(row, kind, comparison.felt_by), "; ".join(row.notes)])
    if all(not row[-1] for row in table.rows):
        table.headers.pop()
        table.rows = [row[:-1] for row in table.rows]
    return table


def short_names(comparison: Comparison) -> dict[str, str]:
    """Return what tables call the predictions: file names, or whole paths where those are not unique."""
    paths = list(dict.fromkeys(r.pred for r in comparison.rows))
    names = [PurePath(path).name for path in paths]
    return dict(zip(paths, names if len(set(names)) == len(names) else paths, strict=True))


def _values(row: Row, kind: str, felt_by: Wrt) -> list[str]:
    if kind == "metric":
        return [number(row.value, find(row.measure.split(":")[0], "metric"))]
    share = row.share
    parts = [DASH] * 3 if share is None else [percent(share.fp), percent(share.fn), percent(share.boundary)]
    return [
        number(row.value),
        number(row.optimum),
        number(row.excess),
        *parts,
        _norm(row.by_p if felt_by == "p" else row.by_z),
    ]


def _norm(norms: Norms | None) -> str:
    if norms is None:
        return DASH
    return "inf" if norms.l1 is None else significant(norms.l1)


def ranking_table(comparison: Comparison) -> Table | None:
    """Return the predictions from best to worst by each measure; `None` for one prediction."""
    if not comparison.rankings:
        return None
    labels = len({r.label for r in comparison.rankings}) > 1
    table = Table(["label"] * labels + ["measure", "best to worst"], left=frozenset({0, 1, 2}))
    short = short_names(comparison)
    kinds = {r.kind for r in comparison.rankings}
    for r in comparison.rankings:
        name = f"{r.kind}.{r.measure}" if len(kinds) > 1 else r.measure
        order = " > ".join(" = ".join(short[pred] for pred in place) for place in r.order)
        table.rows.append([r.label] * labels + [name, order])
    return table


def agreement_table(comparison: Comparison) -> Table | None:
    """Return how each loss's ranking agrees with each metric's; `None` where that was not asked for."""
    if not comparison.agreements:
        return None
    labels = len({a.label for a in comparison.agreements}) > 1
    metrics = list(dict.fromkeys(a.metric for a in comparison.agreements))
    table = Table(["label"] * labels + ["Kendall's tau with", *metrics], left=frozenset({0, int(labels)}))
    taus = {(a.label, a.loss, a.metric): a.tau for a in comparison.agreements}
    for label, loss in dict.fromkeys((a.label, a.loss) for a in comparison.agreements):
        values = [taus[label, loss, m] for m in metrics]
        table.rows.append([label] * labels + [loss, *(DASH if v is None else f"{v:+.2f}" for v in values)])
    return table


BY_WHAT: dict[Wrt, str] = {"p": "probabilities", "z": "logits, through the sigmoid or softmax"}


def footnotes(comparison: Comparison) -> list[str]:
    losses = [r for r in comparison.rows if r.kind == "loss"]
    notes = []
    if losses:
        by = comparison.felt_by
        notes.append(
            "optimum: the value at pred = gt; excess = value - optimum; FP, FN, boundary: its shares outside and "
            f"inside the gt, and within a voxel of its border; |dL/d{by}|: L1 norm of the gradient by the {BY_WHAT[by]}"
        )
    if any(r.label == MEAN_WITHOUT_BACKGROUND for r in losses):
        notes.append("mean: over all channels, the background included; --no-background leaves it out")
    if comparison.average != "macro":
        notes.append(f"--average {comparison.average}: {IN_WORDS[comparison.average]}")
    if comparison.batch_dice:
        notes.append("--batch-dice: losses are of all images of the stack, their sums taken together")
    surfaces = {part.partition("=")[2] for r in comparison.rows for part in r.measure.split(":") if "surface=" in part}
    notes += [f"surface={s} ({MEANING[s]})" for s in sorted(surfaces)]
    if len(losses) < len(comparison.rows):
        notes += list(dict.fromkeys(n.text for n in comparison.notes if n.code == "threshold.cut"))
    notes += dict.fromkeys(text for loaded in comparison.loaded for text in loaded.grid.remarks)
    return notes + _cautions(comparison) + warning_lines(comparison.notes)


#: With more losses than this their cautions would bury the table.
FEW = 8
#: Sentences of a record's caution that begin so concern such a row only.
CONDITIONS = {
    "With an empty gt, or a full one": ("gt empty", "gt full"),
    "With an empty gt or a full one": ("gt empty", "gt full"),
    "With an empty gt": ("gt empty",),
    "On a hard mask": ("a hard mask",),
}


def _cautions(comparison: Comparison) -> list[str]:
    """Return what has to be known of the losses at hand; losses with the same caution share a line."""
    if len({r.measure.split(":")[0] for r in comparison.rows if r.kind == "loss"}) > FEW:
        return ["cautions: segcli catalog LOSS"]
    said: dict[str, list[str]] = {}
    remarks = " ".join(note for r in comparison.rows for note in r.notes)
    for name in dict.fromkeys(r.measure.split(":")[0] for r in comparison.rows if r.kind == "loss"):
        for sentence in re.split(r"(?<=\.)\s+", find(name, "loss").caution):
            conditions = next((c for start, c in CONDITIONS.items() if sentence.startswith(start)), ("",))
            if sentence and any(condition in remarks for condition in conditions):
                said.setdefault(sentence, []).append(name)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]


def comparison_text(comparison: Comparison, *, color: bool = False) -> str:
    kinds = [k for k in ("loss", "metric") if any(r.kind == k for r in comparison.rows)]
    parts = [heading(comparison), *(comparison_table(comparison, k).text(color=color) for k in kinds)]
    tables = [ranking_table(comparison), agreement_table(comparison)]
    parts += [table.text(color=color) for table in tables if table is not None]
    return "\n".join([*parts, *map(flat, footnotes(comparison))])


def comparison_markdown(comparison: Comparison) -> str:
    kinds = [k for k in ("loss", "metric") if any(r.kind == k for r in comparison.rows)]
    parts = [escape_markdown(heading(comparison)), *(comparison_table(comparison, k).markdown() for k in kinds)]
    tables = [ranking_table(comparison), agreement_table(comparison)]
    parts += [table.markdown() for table in tables if table is not None]
    return "\n\n".join([*parts, "  \n".join(escape_markdown(n) for n in footnotes(comparison))])


def comparison_csv(comparison: Comparison) -> str:
    rows: list[list[object]] = []
    rows.append(
        [
            "pred",
            "label",
            "kind",
            "measure",
            "value",
            "optimum",
            "excess",
            "share_fp",
            "share_fn",
            "share_boundary",
            "grad_l1",
            "grad_l2",
            "grad_z_l1",
            "grad_z_l2",
            "notes",
        ]
    )
    for r in comparison.rows:
        share = (None,) * 3 if r.share is None else (r.share.fp, r.share.fn, r.share.boundary)
        norms = [v for n in (r.by_p, r.by_z) for v in ((None, None) if n is None else (n.l1, n.l2))]
        numbers = ["" if v is None else repr(float(v)) for v in (r.value, r.optimum, r.excess, *share, *norms)]
        rows.append([r.pred, r.label, r.kind, r.measure, *numbers, "; ".join(r.notes)])
    rows += [["", "", "note", n.code, *[""] * 10, n.text] for n in told_in_csv(comparison.notes)]
    return as_csv(rows)


def comparison_document(comparison: Comparison, environment: dict[str, Any]) -> dict[str, Any]:
    """Return the comparison as plain data (`segcli.compare/1`)."""
    first = comparison.loaded[0]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "gt": {"path": first.gt.name},
        "shape": list(first.case.shape),
        "spacing": list(first.case.spacing),
        "unit": first.case.unit,
        "geometry": {x.pred.name: x.grid.geometry for x in comparison.loaded},
        "average": comparison.average,
        "batch_dice": comparison.batch_dice,
        "rows": [_record(row) for row in comparison.rows],
        "notes": [note_to(n) for n in comparison.notes],
        "environment": environment,
    }
    if comparison.rankings:
        document["rankings"] = [
            {"label": r.label, "kind": r.kind, "measure": r.measure, "order": r.order} for r in comparison.rankings
        ]
    if comparison.agreements:
        document["agreements"] = [
            {"label": a.label, "loss": a.loss, "metric": a.metric, "tau": finite(a.tau), "n": a.n}
            for a in comparison.agreements
        ]
    return document


def _record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {
        "pred": row.pred,
        "label": row.label,
        "kind": row.kind,
        "measure": row.measure,
        "value": finite(row.value),
        "unit": row.unit,
        "notes": list(row.notes),
    }
    if row.kind == "loss":
        share = row.share
        record |= {
            "optimum": finite(row.optimum),
            "excess": finite(row.excess),
            "share": None if share is None else {"fp": share.fp, "fn": share.fn, "boundary": share.boundary},
            "gradient": _gradient(row),
        }
    return record


def _gradient(row: Row) -> dict[str, Any] | None:
    if row.by_p is None:
        return None
    record: dict[str, Any] = {"wrt": "p", "l1": row.by_p.l1, "l2": row.by_p.l2}
    if row.by_z is not None:
        record["z"] = {"l1": row.by_z.l1, "l2": row.by_z.l2}
    return record


def render(comparison: Comparison, wanted: str, environment: dict[str, Any], *, color: bool = False) -> str:
    from segcli.run.json_text import to_json

    renderers: dict[str, Any] = {
        "json": lambda: to_json(comparison_document(comparison, environment)),
        "csv": lambda: comparison_csv(comparison),
        "md": lambda: comparison_markdown(comparison),
    }
    return str(renderers[wanted]()) if wanted in renderers else comparison_text(comparison, color=color)
