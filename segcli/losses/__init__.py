"""Losses: each is a function of a `SoftPair`. Importing a family files its records, in this order."""

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

__all__ = [
    "balance",
    "boundary",
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
