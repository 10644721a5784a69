"""A run beside its baseline: what a drop is measured against must mean the same."""

from __future__ import annotations

from segcli.errors import InputError
from segcli.gates.columns import Columns
from segcli.run.comparability import HINT, Source, check_comparable, check_parameters, other_truths
from segcli.run.records import Key
from segcli.scoring.means import MEAN

NAMES = ("the run", "the baseline")


def check_baseline(ours: Columns, theirs: Columns) -> list[str]:
    """Return the cases whose ground truth is another file in the baseline.

    Raises `InputError` with both values where the numbers of the two mean different things.
    """
    run, baseline = sources = [Source(name, side.run) for name, side in zip(NAMES, (ours, theirs), strict=True)]
    check_comparable(sources)
    check_parameters(sources, [source.run.spec.measures for source in sources])
    return other_truths(run, baseline)


def check_row(key: Key, ours: Columns, theirs: Columns) -> None:
    """Raise `InputError` where a row is in mm here and in voxels there, or a mean over other labels."""
    a, b = ours.unit(key), theirs.unit(key)
    if a and b and a != b:
        raise InputError(f"{key[2]} is in {a} in {NAMES[0]} and in {b} in {NAMES[1]}.", hint=HINT, code="run.unit")
    if key[0] == MEAN and set(ours.averaged) != set(theirs.averaged):
        over = [", ".join(side.averaged) or "no label" for side in (ours, theirs)]
        raise InputError(
            f"the mean is over {over[0]} in {NAMES[0]} and over {over[1]} in {NAMES[1]}.",
            hint="--labels names what the mean of both runs is over",
            code="run.spec",
        )
    if key[0] == MEAN and ours.mean_of.by_label != theirs.mean_of.by_label:
        raise InputError(
            f"the {ours.mean_of} in {NAMES[0]}; the {theirs.mean_of} in {NAMES[1]}.", hint=HINT, code="run.spec"
        )
