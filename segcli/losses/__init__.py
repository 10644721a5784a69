"""Losses: functions of a `SoftPair`, or of `SoftClasses`. Importing a family files its records, in this order."""

# isort: off
from segcli.losses import distribution
from segcli.losses import region
from segcli.losses import balance
from segcli.losses import surrogates
from segcli.losses import boundary
from segcli.losses import weighting
from segcli.losses import compound
from segcli.losses import mixtures
from segcli.losses import unified
from segcli.losses import skeleton
from segcli.losses import structure
from segcli.losses import categorical
from segcli.losses import categorical_region

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
