"""Losses: functions of a `SoftPair`, or of `SoftClasses`. Importing a family files its records, in this order."""

# isort: off
from segcli.measure.losses import distribution
from segcli.measure.losses import region
from segcli.measure.losses import balance
from segcli.measure.losses import surrogates
from segcli.measure.losses import boundary
from segcli.measure.losses import weighting
from segcli.measure.losses import compound
from segcli.measure.losses import mixtures
from segcli.measure.losses import unified
from segcli.measure.losses import skeleton
from segcli.measure.losses import structure
from segcli.measure.losses import categorical
from segcli.measure.losses import categorical_region

__all__ = [
    "balance",
    "boundary",
    "categorical",
    "categorical_region",
    "compound",
    "distribution",
    "mixtures",
    "region",
    "skeleton",
    "structure",
    "surrogates",
    "unified",
    "weighting",
]
