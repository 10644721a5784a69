"""What 16 tools printed for 33 small pairs of masks, row by row against what segcli says that they print.

`golden/peers/values.tsv` has a row for each call of a tool and a column for each pair (`cases.npz`); recorded from runs
of the tools. `exceptions.tsv` names every row that is not equal, by how much, how many of them there are, and why.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.evidence.case import Case
from segcli.masks.labels import Label
from segcli.measure import conventions as tools
from segcli.measure.conventions import Entry
from segcli.measure.notation import bind
from segcli.measure.why import EMPTY
from segcli.scoring.printed import Printed, Views, printed

HERE = Path(__file__).parent / "golden" / "peers"
#: How near a claim comes to a number of a tool that computes in single precision, or prints six decimals, relative
#: and absolute; of the others to that of `DOUBLE`.
SINGLE = {
    "MONAI": (2e-6, 1e-7), "torchmetrics": (2e-6, 1e-7), "DisTorch": (2e-6, 1e-7), "MetricsReloaded": (2e-6, 1e-7),
    "seg-metrics": (2e-6, 1e-7), "plastimatch": (2e-7, 5.1e-7), "SimpleITK": (1e-7, 1e-9), "MeshMetrics": (1e-7, 1e-9),
}  # fmt: skip
DOUBLE = (1e-9, 1e-12)
LARGE = {tools.WORDS["1.8e308"]: 1.79769e308, tools.WORDS["3.4e38"]: 3.4028e38, tools.WORDS["1.7e38"]: 1.7014e38}


@dataclass(frozen=True)
class Row:
    """What a call printed for one pair."""

    tool: str
    call: str
    case: str
    value: str


@dataclass(frozen=True)
class Named:
    """Rows that are not equal: by no more than `within`, or that the table has `words` for."""

    tool: str
    call: str
    case: str
    within: str
    rows: int
    why: str

    def holds(self, row: Row) -> bool:
        return (
            self.tool == row.tool
            and fnmatchcase(row.call, self.call)
            and any(fnmatchcase(row.case, one) for one in self.case.split(","))
        )


@cache
def rows() -> list[Row]:
    """Return every value that was recorded."""
    with (HERE / "values.tsv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    return [
        Row(line["tool"], line["call"], case, value)
        for line in found
        for case, value in line.items()
        if value and case not in ("tool", "version", "call")
    ]


@cache
def exceptions() -> list[Named]:
    with (HERE / "exceptions.tsv").open(encoding="utf-8") as file:
        lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Named(**{**line, "rows": int(line["rows"])}) for line in lines]  # type: ignore[arg-type]


@cache
def views(case: str, values: bool) -> Views:
    """Return a pair; with `values`, each of its values is an object."""
    name, _, label = case.partition(":")
    with np.load(HERE / "cases.npz") as file:
        pred, gt = ((file[f"{name}.{side}"] == int(label or 1)).astype(np.uint8) for side in ("pred", "gt"))
        spacing = tuple(float(s) for s in file[f"{name}.spacing"])
    return Views(Case.of(pred, gt, [Label("fg", None if values else (1,))], spacing=spacing), 0)


def entries(tool: str, call: str) -> list[Entry]:
    """Return the entries of a call; what follows an @ is a tolerance."""
    (found,) = (t for t in tools.tools().values() if t.title == tool)
    return [entry for entry in found.metrics if entry.call == call.partition("@")[0]]


def claim(entry: Entry, row: Row) -> tuple[Printed, str]:
    """Return what the table says of a row, and what more it says where a mask is empty."""
    bound = entry.bound()
    tol = row.call.partition("@")[2]
    if tol:
        bound = replace(bound, params={**bound.params, "tol": float(tol)})
    seen = views(row.case, "instances" in bound.params)
    return printed(entry, bound, seen), entry.remark(seen.why)


def complaint(entry: Entry, row: Row) -> str:
    """Return how a row differs from the claim, nothing where they are equal."""
    found, _ = claim(entry, row)
    number = math.nan if row.value == "raises" else float(row.value)
    if row.value == "raises" or found.words.startswith("raises"):
        right = row.value == "raises" and found.words.startswith("raises")
    elif found.value is not None:
        relative, absolute = SINGLE.get(row.tool, DOUBLE)
        right = math.isclose(found.value, number, rel_tol=relative, abs_tol=absolute)
    elif found.words in LARGE:
        right = math.isclose(number, LARGE[found.words], rel_tol=1e-4)
    elif found.words == tools.WORDS["arbitrary"]:
        right = math.isfinite(number)
    else:
        right = found.words == f"prints {row.value}"
    return "" if right else f"{row}: {entry.call} {entry.measure}: {found.words or found.value}"


def excused(one: Named, entry: Entry, row: Row) -> bool:
    """Return whether a row differs only as its exception says."""
    found, remark = claim(entry, row)
    if one.within == "words":
        return found.value is None and found.words in entry.fails.values()
    if one.within == "raises":
        return row.value == "raises" and "raises" in remark
    if found.value is None or row.value == "raises":
        return False
    return abs(found.value - float(row.value)) <= float(one.within)


def compared(of: list[tuple[Entry, Row]]) -> tuple[list[str], dict[Named, int]]:
    """Return what differs without an exception, and how many rows each exception stands for."""
    wrong, used = [], dict.fromkeys(exceptions(), 0)
    for entry, row in of:
        words = complaint(entry, row)
        if not words:
            continue
        one = next((e for e in exceptions() if e.holds(row) and excused(e, entry, row)), None)
        if one is None:
            wrong.append(words)
        else:
            used[one] += 1
    return wrong, used


TITLES = sorted({row.tool for row in rows()})


@pytest.mark.parametrize("tool", TITLES)
def test_every_row_is_equal_or_named(tool: str, record_property: Any) -> None:
    """Every value that a tool printed is the claim for that call, but for the exceptions; of these each is needed."""
    mine = [row for row in rows() if row.tool == tool]
    pairs = [(entry, row) for row in mine for entry in entries(tool, row.call)]
    assert all(entries(tool, row.call) for row in mine), "a call that the table has not"
    wrong, used = compared(pairs)
    assert not wrong, f"{len(wrong)} of {len(mine)} rows:\n" + "\n".join(wrong[:20])
    assert {e: n for e, n in used.items() if e.tool == tool and n != e.rows} == {}
    record_property("equal", len(pairs) - sum(used.values()))
    record_property("excepted", sum(used.values()))


def test_all_rows_are_there() -> None:
    """No value is lost, and each is of the version that the table names."""
    assert len(rows()) == 7043 + 7 * 33  # of 16 tools, and of panoptica's evaluator
    assert {e.tool for e in exceptions()} <= set(TITLES)
    with (HERE / "values.tsv").open(encoding="utf-8") as file:
        versions = {(line["tool"], line["version"]) for line in csv.DictReader(file, delimiter="\t")}
    assert versions <= {(tool.title, tool.version) for tool in tools.tools().values()}


def changed(entry: Entry) -> dict[str, Entry]:
    """Return an entry with one thing wrong, by what it is."""
    found = {"times": replace(entry, times=1.5 * entry.times)}
    for i, why in enumerate(EMPTY[: len(entry.empty)]):
        if why == "both_empty" and "all full or empty" in entry.gives:
            continue  # it comes first
        other = 7.0 if entry.empty[i] != 7.0 else 8.0
        found[why] = replace(entry, empty=(*entry.empty[:i], other, *entry.empty[i + 1 :]))
    for condition in entry.gives:
        found[condition] = replace(entry, gives={c: w for c, w in entry.gives.items() if c != condition})
    surface = bind(entry.measure, "metric").params.get("surface")
    if surface is not None:
        other_surface = "mesh" if surface != "mesh" else "border"  # a maximum is the same on most of the others
        found["surface"] = replace(
            entry, measure=entry.measure.replace(f"surface={surface}", f"surface={other_surface}")
        )
    return found


#: What no recorded pair shows: a volume with one mask full and the other empty; what NumPy 1 gives.
NOT_SHOWN = {("mikan", "all full or empty"), *(("surface-distance", why) for why in EMPTY)}


@pytest.mark.parametrize("tool", TITLES)
def test_a_changed_entry_is_seen(tool: str) -> None:
    """A factor, a surface, a rule for empty or other masks that is wrong in the table does not pass."""
    by_call: dict[str, list[Row]] = {}
    for row in rows():
        if row.tool == tool:
            by_call.setdefault(row.call, []).append(row)
    unseen = [
        (call, what)
        for call, mine in by_call.items()
        for entry in entries(tool, call)
        for what, wrong in changed(entry).items()
        if (tool, what) not in NOT_SHOWN and not compared([(wrong, row) for row in mine])[0]
    ]
    assert not unseen
