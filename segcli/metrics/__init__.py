"""Metrics by family. A family is imported here by name; importing it files its records, in the catalogue's order."""

# isort: off
from segcli.metrics import overlap
from segcli.metrics import rates
from segcli.metrics import surface
from segcli.metrics import boundary
from segcli.metrics import volume
from segcli.metrics import multiclass
from segcli.metrics import information
from segcli.metrics import label_information
from segcli.metrics import topology
from segcli.metrics import objects
from segcli.metrics import instances
from segcli.metrics import lesions
from segcli.metrics import probabilistic
from segcli.metrics import froc

__all__ = [
    "boundary",
    "froc",
    "information",
    "instances",
    "label_information",
    "lesions",
    "multiclass",
    "objects",
    "overlap",
    "probabilistic",
    "rates",
    "surface",
    "topology",
    "volume",
]
