"""Metrics by family. A family is imported here by name; importing it files its records, in the catalogue's order."""

from segcli.metrics import overlap, rates, surface, boundary, volume, multiclass, information, label_information  # isort: skip

__all__ = ["boundary", "information", "label_information", "multiclass", "overlap", "rates", "surface", "volume"]
