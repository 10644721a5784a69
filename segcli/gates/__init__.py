"""Limits and rules on values, and whether they are kept: `limits.py` for one case, `verdicts.py` for a run."""
