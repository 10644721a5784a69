"""Metrics by family. A family is imported here by name; importing it files its records."""

from segcli.metrics import overlap, surface, topology, volume

__all__ = ["overlap", "surface", "topology", "volume"]
