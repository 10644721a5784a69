"""Compiled loops: arrays in, arrays out. The only modules that import numba, through `_jit`."""
