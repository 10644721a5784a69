"""Tables over all cases: what can be summed is, case by case."""

from __future__ import annotations

from collections.abc import Sequence

from segcli.run.records import Case, ClassTable
from segcli.scoring.means import ALL

#: Classes of the largest pooled matrix, as of that of one case: a million cells.
MOST = 1000


def pooled_tables(cases: Sequence[Case]) -> list[ClassTable]:
    """Return the confusion matrix of all voxels of all cases, over every class that any case has.

    A case counts with its voxels: large images weigh more, as in the mean IoU of VOC and Cityscapes. A class
    that a case does not have takes no voxel of it. Nothing where no case has the table, or the classes are
    more than `MOST`.
    """
    own = [table for case in cases for table in case.tables if table.measure == "confusion"]
    # The first class of each is the background; the others stand as the labels of the run do.
    names = dict.fromkeys(table.columns[1] for table in own)
    labels = dict.fromkeys(label for case in cases for label in case.labels)
    there = {name for table in own for name in table.columns[1:]}
    names |= dict.fromkeys([*(label for label in labels if label in there), *sorted(there - labels.keys())])
    if not own or len(names) > MOST:
        return []
    # A column without a row is what predictions hold that is no label.
    rows = {str(name) for table in own for name, *_ in table.rows}
    found = {gt: dict.fromkeys(names, 0) for gt in names if gt in rows}
    for table in own:
        for gt, *counts in table.rows:
            row = found[str(gt)]
            for pred, count in zip(table.columns[1:], counts, strict=True):
                row[pred] += int(count or 0)
    columns = (own[0].columns[0], *names)
    return [ClassTable(ALL, "confusion", len(own), columns, [(gt, *row.values()) for gt, row in found.items()])]
