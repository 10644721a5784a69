"""Which prediction belongs to which ground truth: by name, by path, by BIDS entities, by a pattern or a manifest.

Everything that has no partner is kept: a ground truth without a prediction must be seen, never dropped.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from segcli.errors import InputError, UsageError
from segcli.masks.files import BY_SUFFIX, files_of, has_header_beside, how_to_convert, suffix_of
from segcli.text import read_names

Side = Literal["pred", "gt"]
MATCHES = ("stem", "relpath", "bids", "regex:PATTERN")
#: BIDS entities that say how a mask was made, not of what.
MADE_BY = ("desc", "label", "seg", "atlas", "model", "res", "den")
#: As many names as a message shows.
MOST = 3
#: As many files as are looked at to say what else a folder holds.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of one case, and the group columns that a manifest or a pattern gives it.

    `roi` is its region of interest, `None` for the whole image; a file that is not there makes the case fail.
    """

    case: str
    pred: Path
    gt: Path
    group: Mapping[str, str] = field(default_factory=dict)
    roi: Path | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A file without its partner: `side` is the one that is not there, `path` the file that is, if any."""

    case: str
    side: Side
    path: Path | None
    group: Mapping[str, str] = field(default_factory=dict)
    roi: Path | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """All pairs, sorted by case, what has no partner, and the regions of interest of no case."""

    pairs: list[Pair]
    missing: list[Missing]
    unused: list[Path] = field(default_factory=list)

    @property
    def has_regions(self) -> bool:
        return any(p.roi is not None for p in self.pairs) or any(m.roi is not None for m in self.missing)

    @property
    def lacks_regions(self) -> list[Pair]:
        """Return the pairs whose region of interest is not there."""
        return [pair for pair in self.pairs if pair.roi is not None and not is_there(pair.roi)]

    @property
    def columns(self) -> list[str]:
        """Return the names of the group columns."""
        groups = [*(pair.group for pair in self.pairs), *(m.group for m in self.missing)]
        return list(dict.fromkeys(key for group in groups for key in group))


def pair_folders(pred: Path, gt: Path, match: str = "stem", pattern: str = "**/*", roi: Path | None = None) -> Pairing:
    """Return the pairs of two folders, searched through all their subfolders.

    `match` says what the two files of a case have in common: the file's name without its ending (`stem`),
    its path within the folder (`relpath`), its BIDS entities (`bids`) or what a regular expression finds in
    that path (`regex:PATTERN`: the group `case`, else the first group; other named groups become columns).
    Regions of interest in a folder `roi` belong to cases by the same; the case of one that is not there gets a path
    that does not exist.
    Raises `InputError` where two files of a folder are the same case, or nothing matches.
    """
    key_of = _key(match)
    sides: dict[Side, list[Path]] = {}
    given: list[tuple[Side, Path]] = [("pred", pred), ("gt", gt)]
    for side, folder in given:
        sides[side] = _masks(
            folder,
            pattern,
            "evaluate takes two folders",
            "segcli score compares two files; --manifest FILE.csv names pairs",
        )
    found = {side: _keyed(sides[side], folder, key_of, match) for side, folder in given}
    pairs = [
        Pair(case, path, found["gt"][case][0], _joined(found["gt"][case][1], group))
        for case, (path, group) in found["pred"].items()
        if case in found["gt"]
    ]
    if not pairs:
        raise InputError(
            f"no prediction has a ground truth by --match {match}: "
            f"{_some(found['pred'])} against {_some(found['gt'])}.",
            hint=_others(sides, {"pred": pred, "gt": gt}, match),
            code="pairing.none",
        )
    missing = [Missing(c, "gt", p, group) for c, (p, group) in found["pred"].items() if c not in found["gt"]]
    missing += [Missing(c, "pred", p, group) for c, (p, group) in found["gt"].items() if c not in found["pred"]]
    paired = Pairing(sorted(pairs, key=lambda p: p.case), sorted(missing, key=lambda m: (m.case, m.side)))
    return paired if roi is None else _with_regions(paired, roi, pattern, match)


def _masks(folder: Path, pattern: str, takes: str, hint: str) -> list[Path]:
    """Return the masks of a folder; raise where it is none, or holds none."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {what}; {takes}.", hint=hint, code="pairing.folder")
    found = _files(folder, pattern)
    if not found:
        raise InputError(
            f"{folder}: holds no mask{'' if pattern == '**/*' else f' that fits --glob {pattern}'}"
            f"{_unread(folder, pattern)}.",
            hint=f"known endings: {' '.join(BY_SUFFIX)}",
            code="pairing.empty",
        )
    return found


def _with_regions(pairing: Pairing, folder: Path, pattern: str, match: str) -> Pairing:
    """Return the pairs with their regions of interest out of a folder."""
    hint = "a manifest's column roi names single files, and leaves it empty for the whole image"
    found = _keyed(_masks(folder, pattern, "--roi of evaluate is a folder", hint), folder, _key(match), match)
    cases = {pair.case for pair in pairing.pairs} | {m.case for m in pairing.missing}
    if not cases & found.keys():
        raise InputError(
            f"no region of interest belongs to a case by --match {match}: "
            f"{_some(found)} against {_some(sorted(cases))}.",
            hint=hint,
            code="pairing.roi",
        )

    def region(case: str) -> Path:
        return found[case][0] if case in found else folder / case

    return Pairing(
        [replace(pair, roi=region(pair.case)) for pair in pairing.pairs],
        [replace(m, roi=region(m.case)) for m in pairing.missing],
        sorted(path for case, (path, _) in found.items() if case not in cases),
    )


def _joined(of_gt: Mapping[str, str], of_pred: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that either path gives; where both do, that of the prediction."""
    return {key: of_pred.get(key) or value for key, value in {**of_pred, **of_gt}.items()}


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        matched = sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as problem:
        raise UsageError(
            f"--glob {pattern}: {problem}.", hint="for example --glob '*.nii.gz'", code="pairing.glob"
        ) from None
    return [path for path in matched if _is_mask(path, folder)]


def _unread(folder: Path, pattern: str) -> str:
    """Say which other files a folder without masks holds, the most frequent endings first."""
    files = (p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("."))
    counts = Counter(suffix_of(p.name) or "without an ending" for p in itertools.islice(files, MOST_COUNTED))
    told = []
    for suffix, count in counts.most_common(MOST):
        what = f"{count} {suffix}" if suffix.startswith(".") else f"{count}"
        rest = "" if suffix.startswith(".") else f" {suffix}"
        told.append(f"{what} file{'s' * (count > 1)}{rest}")
    how = how_to_convert(next(iter(counts.most_common(1)), ("", 0))[0])
    are = "are" if counts.total() > 1 else "is"
    return f": {' and '.join(told)}, which {are} not read{f' ({how})' if how else ''}" if told else ""


def _is_mask(path: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    # The pair .hdr/.img is one mask: its header stands for it.
    headed = has_header_beside(str(path))
    # A link to nowhere is a file that could not be fetched: a case that fails, and none that is not there.
    return suffix_of(path.name) in BY_SUFFIX and not headed and (path.is_file() or _leads_nowhere(path))


def _leads_nowhere(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except (OSError, RuntimeError):  # a link to itself
        return True


def _bare(path: Path) -> str:
    """Return a file's name without its ending."""
    return path.name[: len(path.name) - len(suffix_of(path.name))]


Key = Callable[[Path], tuple[str, dict[str, str]] | None]


def _key(match: str) -> Key:
    """Return what gives a path within its folder a case and columns, `None` where it is no case."""
    if match == "stem":
        return lambda path: (_bare(path), {})
    if match == "relpath":
        return lambda path: ((path.parent / _bare(path)).as_posix(), {})
    if match == "bids":
        return _bids
    if match.startswith("regex:"):
        try:
            pattern = re.compile(match.removeprefix("regex:"))
        except re.error as problem:
            raise UsageError(f"--match {match}: {problem}.", code="pairing.match") from None
        return lambda path: _by_pattern(pattern, path)
    raise UsageError(f"--match {match} is not one of {', '.join(MATCHES)}.", code="pairing.match")


def _bids(path: Path) -> tuple[str, dict[str, str]] | None:
    entities = re.findall(r"(?:^|_)([A-Za-z0-9]+)-([A-Za-z0-9+]+)", _bare(path))
    kept = [(key, value) for key, value in entities if key not in MADE_BY]
    if not any(key == "sub" for key, _ in kept):
        return None
    return "_".join(f"{key}-{value}" for key, value in kept), {}


def _by_pattern(pattern: re.Pattern[str], path: Path) -> tuple[str, dict[str, str]] | None:
    found = pattern.search(path.as_posix())
    if found is None:
        return None
    named = {key: value or "" for key, value in found.groupdict().items()}
    case = named.pop("case", None) or next((g for g in found.groups() if g), found[0])
    return (case, named) if case else None


def _keyed(paths: Sequence[Path], folder: Path, key_of: Key, match: str) -> dict[str, tuple[Path, dict[str, str]]]:
    found: dict[str, tuple[Path, dict[str, str]]] = {}
    for path in paths:
        keyed = key_of(path.relative_to(folder))
        if keyed is None:
            continue
        # macOS decomposes letters in file names: the same name for whoever reads it.
        case, group = unicodedata.normalize("NFC", keyed[0]), keyed[1]
        if case in found:
            raise InputError(
                f"two files of {folder} are case {case} by --match {match}: "
                f"{found[case][0].relative_to(folder)} and {path.relative_to(folder)}.",
                hint="--match relpath tells files of different subfolders apart; --glob takes a part of them",
                code="pairing.twice",
            )
        found[case] = (path, group)
    if not found:
        raise InputError(
            f"--match {match} finds no case in {folder}: for example {paths[0].relative_to(folder)}.",
            hint=f"--match is one of {', '.join(MATCHES)}",
            code="pairing.none",
        )
    return found


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MOST} more" if len(listed) > MOST else ""
    return ", ".join(listed[:MOST]) + more


def _others(sides: Mapping[Side, Sequence[Path]], folders: Mapping[Side, Path], match: str) -> str:
    """Return which other ways of matching would pair files, and how many."""
    found = []
    for other in ("stem", "relpath", "bids"):
        if other == match:
            continue
        try:
            keys = [set(_keyed(sides[s], folders[s], _key(other), other)) for s in ("pred", "gt")]
        except InputError:
            continue
        if keys[0] & keys[1]:
            found.append(f"--match {other} would pair {len(keys[0] & keys[1])}")
    return "; ".join(found) or "--match regex:PATTERN names the part of the path that both have in common"


# --- manifests ------------------------------------------------------------------------------------


def read_manifest(path: Path) -> Pairing:
    """Return the pairs of a CSV (or TSV) with the columns case, pred, gt and perhaps roi; all others are groups.

    A CSV may have semicolons for commas. Paths are relative to the manifest's folder. An empty `pred` or
    `gt`, or one that does not exist, is missing; an empty `roi` is the whole image. Raises `InputError` for a
    manifest that cannot be used.
    """
    try:
        text = read_names(path)
    except (OSError, UnicodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}).", code="manifest.read") from None
    # Not splitlines: a quoted cell may hold a line break, and names may hold what Unicode calls one.
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text))
    try:
        return _manifest(path, rows)
    except csv.Error as problem:
        raise InputError(f"{path}: line {rows.line_num + 1}: {problem}.", code="manifest.cells") from None


def _delimiter(path: Path, text: str) -> str:
    """Return what separates cells: where the comma is the decimal point, spreadsheets write semicolons."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = text.lstrip("\r\n").partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def _manifest(path: Path, rows: csv.DictReader[str]) -> Pairing:
    header = [name.strip() for name in rows.fieldnames or []]
    lacking = [name for name in ("case", "pred", "gt") if name not in header]
    if lacking or len(set(header)) < len(header):
        what = f"column {lacking[0]} is missing" if lacking else "a column is there twice"
        raise InputError(
            f"{path}: {what}; found: {', '.join(header) or 'nothing'}.",
            hint="a manifest has the columns case,pred,gt and perhaps roi; any others become groups",
            code="manifest.columns",
        )
    rows.fieldnames = header
    pairs: dict[str, Pair | None] = {}
    missing: list[Missing] = []
    for row in rows:
        line = f"{path}: line {rows.line_num}"
        if None in row:
            raise InputError(
                f"{line} has more cells than the header.",
                hint='quote a cell with a comma: "a,b"',
                code="manifest.cells",
            )
        cells = {key: (value or "").strip() for key, value in row.items()}
        case = cells["case"]
        if not case or case in pairs:
            what = "has no case" if not case else f"names case {case} a second time"
            raise InputError(f"{line} {what}.", hint="one line for each case", code="manifest.case")
        group = {key: value for key, value in cells.items() if key not in ("case", "pred", "gt", "roi", "")}
        pred, gt = (_existing(path.parent, row[side] or "") for side in ("pred", "gt"))
        roi = path.parent / cells["roi"] if cells.get("roi") else None
        pairs[case] = None if pred is None or gt is None else Pair(case, pred, gt, group, roi)
        if pred is None:
            missing.append(Missing(case, "pred", gt, group, roi))
        if gt is None:
            missing.append(Missing(case, "gt", pred, group, roi))
    found = [pair for pair in pairs.values() if pair is not None]
    if not found:
        raise InputError(
            f"{path}: names no pair of files that exist.", hint="paths are relative to its folder", code="pairing.none"
        )
    return Pairing(sorted(found, key=lambda p: p.case), sorted(missing, key=lambda m: (m.case, m.side)))


def _existing(folder: Path, name: str) -> Path | None:
    """Return the file of a cell, whose spaces may be its own; `None` for none."""
    found = (folder / spelled for spelled in dict.fromkeys((name, name.strip())) if spelled.strip())
    return next((path for path in found if is_there(path)), None)


def is_there(path: Path) -> bool:
    """Return whether all files of a mask exist."""
    return all(part.is_file() for part in files_of(str(path)))
