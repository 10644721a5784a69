"""Compiled loops: arrays in, arrays out. The only modules that import numba, through `_jit`."""

import os
import re

from segcli.errors import UsageError

# Numba answers this one with a traceback, in the middle of its own import.
if re.fullmatch(r"\s*(-\d+|0+)\s*", threads := os.environ.get("NUMBA_NUM_THREADS", "")):
    raise UsageError(f"NUMBA_NUM_THREADS is {threads.strip()}: Numba starts with 1 or more.", hint="unset it")
