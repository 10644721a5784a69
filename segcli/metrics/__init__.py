"""Metrics by family. A family is imported here by name; importing it files its records."""

from segcli.metrics import instances, lesions, objects, overlap, surface, topology, volume

__all__ = ["instances", "lesions", "objects", "overlap", "surface", "topology", "volume"]
