"""segcli: how good is this segmentation, and which loss should have trained it?

    import segcli
    case = segcli.score("pred.nii.gz", "gt.nii.gz", labels="liver=1,tumour=2")
    case.value("dice", label="tumour")
    run = segcli.evaluate("predictions", "labels", output="run.json")
    {case.name: len(case.values) for case in run.cases}     # run.to_dict() is what the file holds

Names are loaded when first used: importing the package imports neither NumPy nor Numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segcli.cohort.evaluate import evaluate
    from segcli.errors import InputError, SegcliError, UsageError
    from segcli.explain.comparison import compare
    from segcli.explain.inspection import inspect
    from segcli.masks.mask import Mask
    from segcli.masks.readers import read
    from segcli.measure.record import Measure, find, measures
    from segcli.run.model import Run
    from segcli.scoring.score import score
    from segcli.scoring.values import Scored, Value

_HOMES = {
    "read": "segcli.masks.readers",
    "Mask": "segcli.masks.mask",
    "score": "segcli.scoring.score",
    "Scored": "segcli.scoring.values",
    "Value": "segcli.scoring.values",
    "Run": "segcli.run.model",
    "evaluate": "segcli.cohort.evaluate",
    "compare": "segcli.explain.comparison",
    "inspect": "segcli.explain.inspection",
    "measures": "segcli.measure.record",
    "find": "segcli.measure.record",
    "Measure": "segcli.measure.record",
    "SegcliError": "segcli.errors",
    "InputError": "segcli.errors",
    "UsageError": "segcli.errors",
}

__all__ = [
    "InputError",
    "Mask",
    "Measure",
    "Run",
    "Scored",
    "SegcliError",
    "UsageError",
    "Value",
    "__version__",
    "compare",
    "evaluate",
    "find",
    "inspect",
    "measures",
    "read",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("segcli")
        except PackageNotFoundError:  # a source tree that was never installed
            found = "0+unknown"
        return globals().setdefault(name, found)
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'segcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
