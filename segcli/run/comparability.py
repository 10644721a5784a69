"""May the numbers of two runs be compared? The one answer that gate, diff and rank give.

What a number means is compared: the tool's convention, the parameters, the labels and what they stand for, what is
left out, what empty masks and missing predictions count. How a file was read (its kind, scale, channels, colours,
order and axes of length 1) is not: two models may write different files of the same masks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from segcli.errors import InputError
from segcli.run.model import Run
from segcli.run.records import Case, LabelValues, MeanOf

Labels = Mapping[str, LabelValues]
#: Spacings out of headers carry float32 noise.
SAME_SPACING = 1e-4


@dataclass(frozen=True)
class Source:
    """A run with the name that it has in the results."""

    name: str
    run: Run

    @property
    def cases(self) -> dict[str, Case]:
        return self.run.by_name

    @property
    def labels(self) -> dict[str, LabelValues]:
        """Return what every label stands for, over all cases."""
        return self.run.labels

    @cached_property
    def mean_of(self) -> MeanOf:
        """Return what the mean row of metrics is of."""
        return self.run.mean_of()

    @cached_property
    def has_losses(self) -> bool:
        return any(text.startswith("loss.") for text in self.run.spec.measures)

    @cached_property
    def lacks_predictions(self) -> bool:
        """Return whether a ground truth has no prediction, scored as an empty one or not."""
        return any(gap.side == "pred" for gap in self.run.missing)

    def option(self, key: str) -> object:
        """Return what the run's spec says of an option; of a file that has no such option yet its default.

        `None` in a file of another tool, which may not say.
        """
        spec = self.run.spec.told
        return spec.get(key, None if "source" in spec else _DEFAULTS[key])

    def says(self, key: str) -> bool:
        return key in self.run.spec.told or "source" not in self.run.spec.told


#: Options that are part of what a number means, with what they are where an older run file has none.
_DEFAULTS: dict[str, object] = {
    "convention": None,
    "ignore": None,
    "ignore_in": "either",
    "roi": False,
    "empty": "undefined",
    "threshold": 0.5,
    "spacing": None,
    "geometry": "error",
    "soft_gt": False,
    "stack": False,
    "stack_axis": None,
    "background": True,
    "average": "macro",
    "mean_of": None,
    "batch_dice": False,
    "missing": "fail",
}
#: Words of an option that mean the same: refused or turned, voxels are compared where the headers say they
#: are; a run that fails for a missing prediction has the numbers of one that leaves it out.
_SAME = {
    "geometry": {"error": "by header", "reorient": "by header"},
    "missing": {"fail": "left out", "skip": "left out"},
    "stack_axis": {"None": "first", "0": "first", "-1": "last"},
}
#: What must be so for an option to have a part in the numbers of both runs.
_WHERE: dict[str, Callable[[Source, Source], bool]] = {
    "background": lambda a, b: a.has_losses and b.has_losses,
    "ignore_in": lambda a, b: None not in (a.option("ignore"), b.option("ignore")),
    "missing": lambda a, b: a.lacks_predictions or b.lacks_predictions,
}


def check_comparable(sources: Sequence[Source]) -> None:
    """Raise `InputError` with both values where two of the runs differ in what their numbers mean."""
    for first, other in combinations(sources, 2):
        found = [(key, first.option(key), other.option(key)) for key in _DEFAULTS if _differs(key, first, other)]
        mine, its = _labels(first, other)
        found += [("labels", mine, its)] * (mine != its)
        if found:
            _refuse(found, first, other)
    _check_grids(sources)


def _differs(key: str, first: Source, other: Source) -> bool:
    if not (first.says(key) and other.says(key)):
        return False
    words = _SAME.get(key, {})
    mine, its = (words.get(str(s.option(key)), s.option(key)) for s in (first, other))
    return mine != its and _WHERE.get(key, _always)(first, other)


def _always(_first: Source, _other: Source) -> bool:
    return True


def _labels(first: Source, other: Source) -> tuple[Labels, Labels]:
    """Return the labels of two runs, equal where the rows of both mean the same.

    Named ones must be the same. Found ones depend on the files: those that both runs have must mean the
    same, and no label may be found that the other run did not name.
    """
    named = [s.run.spec.labels for s in (first, other)]
    mine, its = (s.labels if own is None else own for s, own in zip((first, other), named, strict=True))
    if None not in named:
        return mine, its
    shared = {name for name in mine if name in its}
    strays = any(own is not None and set(found) - shared for own, found in zip(named, (its, mine), strict=True))
    if strays or (mine and its and not shared) or any(mine[name] != its[name] for name in shared):
        return mine, its
    return {}, {}


def _check_grids(sources: Sequence[Source]) -> None:
    """Raise where a case of two runs has another spacing, unit or region of interest in each."""
    seen: dict[str, tuple[Source, Case]] = {}
    for other in sources:
        for name, twin in other.cases.items():
            first, case = seen.setdefault(name, (other, twin))
            if first is other:
                continue
            if None not in (case.unit, twin.unit) and case.unit != twin.unit:
                _refuse([(f"{name}: unit", case.unit, twin.unit)], first, other)
            if _region(case) != _region(twin):
                _refuse([(f"{name}: roi", _region(case), _region(twin))], first, other)
            mine, its = case.spacing, twin.spacing
            if mine is None or its is None or mine == its:
                continue
            if len(mine) != len(its) or any(abs(a - b) > SAME_SPACING * a for a, b in zip(mine, its, strict=True)):
                _refuse([(f"{name}: spacing", list(mine), list(its))], first, other)


def _region(case: Case) -> str:
    """Return what tells the region of interest of a case from another one."""
    if case.roi is None:
        return "the whole image"
    digest = case.roi.sha256
    return f"a file with the SHA-256 {digest[:12]}" if isinstance(digest, str) else "a file"


def check_parameters(sources: Sequence[Source], measures: Sequence[Sequence[str]]) -> None:
    """Raise `InputError` where a measure of the first run is in another one with different parameters only."""
    common = {_bare(text) for text in set(measures[0]).intersection(*measures[1:])}
    for text in measures[0]:
        for source, own in zip(sources[1:], measures[1:], strict=True):
            others = [x for x in own if _bare(x) == _bare(text)]
            if others and text not in others and _bare(text) not in common:
                raise InputError(
                    f"{_bare(text).partition('.')[2]} is {text} in {sources[0].name} and "
                    f"{', '.join(others)} in {source.name}.",
                    hint=HINT,
                    code="run.spec",
                )


def _bare(text: str) -> str:
    return text.partition(":")[0]


HINT = "numbers of different definitions are never compared: make both runs with the same options"


def _refuse(differing: Sequence[tuple[str, object, object]], first: Source, other: Source) -> None:
    said = [f"{key} is {_shown(a)} in {first.name} and {_shown(b)} in {other.name}" for key, a, b in differing]
    raise InputError(f"{'; '.join(said)}.", hint=HINT, code="run.spec")


def _shown(value: object) -> str:
    """Return a value as it is typed: labels as `liver=1,whole=1+2`."""
    if isinstance(value, dict):
        return (
            ",".join(f"{k}={'+'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in value.items()) or "none"
        )
    if value is None or isinstance(value, str):
        return value or "unset"
    return json.dumps(value)


def other_truths(first: Source, other: Source) -> list[str]:
    """Return the cases that both runs have with different ground truth files."""
    found = []
    for name, case in first.cases.items():
        hashes = [c.gt.sha256 if c is not None and c.gt is not None else None for c in (case, other.cases.get(name))]
        if None not in hashes and hashes[0] != hashes[1]:
            found.append(name)
    return found
