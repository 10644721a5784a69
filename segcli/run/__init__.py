"""Run files: writing, reading and citing them, and comparing two (`diff.py`) or several (`rank.py`)."""
