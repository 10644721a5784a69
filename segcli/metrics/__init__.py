"""Metrics by family. A family is imported here by name; importing it files its records."""

from segcli.metrics import boundary, overlap, surface, volume

__all__ = ["boundary", "overlap", "surface", "volume"]
