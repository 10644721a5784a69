"""Metrics by family. A family is imported here by name; importing it files its records, in this order."""

# isort: off
from segcli.metrics import overlap
from segcli.metrics import surface
from segcli.metrics import volume
from segcli.metrics import topology
from segcli.metrics import objects
from segcli.metrics import instances
from segcli.metrics import lesions

__all__ = ["instances", "lesions", "objects", "overlap", "surface", "topology", "volume"]
