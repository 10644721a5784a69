"""Measures: the record of each, how it is written, what other tools have of it, and the families that file them."""
