"""Numbers in sentences: one of a thing is not several."""

from __future__ import annotations

import numpy as np
import pytest

import segcli
from segcli.report.comparison import comparison_text
from segcli.report.inspection import text as printed
from segcli.wording import counted


@pytest.mark.parametrize(
    ("n", "shown", "expected"),
    [(0, "", "0 cases"), (1, "", "1 case"), (2, "", "2 cases"), (1.04, "1", "1 case"), (1, "1/1", "1/1 case")],
)
def test_counted(n: float, shown: str, expected: str) -> None:
    """By the number as it is shown; another plural where the noun has one."""
    assert counted(n, "case", shown=shown) == expected
    assert counted(2, "axis", "axes") == "2 axes"


def test_one_of_a_thing_in_tables() -> None:
    """A stack of one image, an island of one voxel, one component more than the table has."""
    gt = np.zeros((40, 40), np.uint8)
    gt[5:12, 5:12] = 1
    pred = np.where(gt, 0.98, 0.02)
    pred[38, 38] = 0.95
    assert "1 false island of 1 voxel makes" in comparison_text(segcli.compare(pred, gt, losses="hd_dt"))
    stack = {"losses": "hd_er", "stack": True, "batch_dice": True}
    assert "mean of 1 image: it reads neighbours" in comparison_text(segcli.compare(pred[None], gt[None], **stack))
    pred[20:33:3, 2] = 0.9
    pred[38, 30] = 0.9
    assert "1 more component:" in printed(segcli.inspect(pred, gt, "dice"))
