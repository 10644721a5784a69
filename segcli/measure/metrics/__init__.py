"""Metrics by family. A family is imported here by name; importing it files its records, in the catalogue's order."""

# isort: off
from segcli.measure.metrics import overlap
from segcli.measure.metrics import rates
from segcli.measure.metrics import surface
from segcli.measure.metrics import boundary
from segcli.measure.metrics import place
from segcli.measure.metrics import volume
from segcli.measure.metrics import multiclass
from segcli.measure.metrics import information
from segcli.measure.metrics import label_information
from segcli.measure.metrics import topology
from segcli.measure.metrics import objects
from segcli.measure.metrics import instances
from segcli.measure.metrics import lesions
from segcli.measure.metrics import probabilistic
from segcli.measure.metrics import froc
from segcli.measure.metrics import uncertainty

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
    "place",
    "probabilistic",
    "rates",
    "surface",
    "topology",
    "uncertainty",
    "volume",
]
