"""Which file belongs to which: what `evaluate --dry-run` prints, as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from segcli.report.table import Table, escape_markdown, flat
from segcli.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from segcli.cohort.pairing import Missing, Pairing


def pairing_table(pairing: Pairing) -> Table:
    columns = pairing.columns
    files = _files(pairing)
    table = Table(["case", *files, *columns], left=frozenset(range(1 + len(files) + len(columns))))
    for pair in pairing.pairs:
        paths = [_text(getattr(pair, file)) for file in files]
        table.rows.append([pair.case, *paths, *(pair.group.get(c, "") for c in columns)])
    return table


def _files(pairing: Pairing) -> list[str]:
    """Return the columns that name files: regions of interest only where there are some."""
    return ["pred", "gt", *(["roi"] if pairing.has_regions else [])]


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _partnerless(pairing: Pairing) -> list[str]:
    """Return a line for each file without a partner, and how many of each there are."""
    lines = [_lacks(m) for m in pairing.missing]
    regions = pairing.lacks_regions
    lines += [f"{pair.case}: no region of interest: {pair.roi} does not exist" for pair in regions]
    counts = {side: sum(m.side == side for m in pairing.missing) for side in ("pred", "gt")}
    said = [f"{counted(len(pairing.pairs), 'pair')}"]
    if counts["pred"]:
        said.append(f"{counted(counts['pred'], 'missing prediction')}")
    if counts["gt"]:
        said.append(f"{counted(counts['gt'], 'prediction')} without ground truth")
    if regions:
        said.append(f"{counted(len(regions), 'pair')} without the region of interest")
    if pairing.unused:
        said.append(f"{counted(len(pairing.unused), 'region')} of interest of no case")
    return [*lines, ", ".join(said)]


def _lacks(missing: Missing) -> str:
    what = {"pred": "no prediction", "gt": "no ground truth"}[missing.side]
    return f"{missing.case}: {what}" + (f" for {missing.path}" if missing.path is not None else "")


def pairing_text(pairing: Pairing, *, color: bool = False) -> str:
    return "\n".join([pairing_table(pairing).text(color=color), *map(flat, _partnerless(pairing))])


def pairing_markdown(pairing: Pairing) -> str:
    notes = "  \n".join(escape_markdown(line) for line in _partnerless(pairing))
    return f"{pairing_table(pairing).markdown()}\n\n{notes}"


def pairing_csv(pairing: Pairing) -> str:
    """Return a manifest; a file that is not there is an empty cell."""
    columns = pairing.columns
    regions = pairing.has_regions
    rows = [(p.case, str(p.pred), str(p.gt), _text(p.roi), p.group) for p in pairing.pairs]
    for m in pairing.missing:
        there = _text(m.path)
        rows.append((m.case, *(("", there) if m.side == "pred" else (there, "")), _text(m.roi), m.group))
    lines = [_line(["case", *_files(pairing), *columns])]
    for case, pred, gt, roi, group in sorted(rows, key=lambda r: r[:3]):
        lines.append(_line([case, pred, gt, *([roi] if regions else []), *(group.get(c, "") for c in columns)]))
    return "".join(lines)


def _line(cells: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(cells)  # the writer quotes what it ends lines with, only
    return stream.getvalue().removesuffix("\r\n") + "\n"


def pairing_record(pairing: Pairing) -> dict[str, Any]:
    return {
        "schema": "segcli.pairs/1",
        "pairs": [
            {"case": p.case, "pred": p.pred.as_posix(), "gt": p.gt.as_posix(), "group": dict(p.group)}
            | ({} if p.roi is None else {"roi": p.roi.as_posix()})
            for p in pairing.pairs
        ],
        "missing": [
            {"case": m.case, "side": m.side, "path": "" if m.path is None else m.path.as_posix()}
            for m in pairing.missing
        ],
        **({"unused": [path.as_posix() for path in pairing.unused]} if pairing.unused else {}),
    }
