"""A small square block of a matrix transposed in registers.

An array in Fortran order is read along its first axis and written along its last. Voxel by voxel that takes twice
as long as what is then done with them; LLVM interleaves whole vectors, in whatever way the processor has. Without
the compiler the function is the plain Python that stands in it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

#: The side of a block of bytes, and of one of float32 or float64.
SIDE_OF_BYTES, SIDE_OF_FLOATS = 8, 4

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _turn(_typing: Any, values: Any, starts: Any, _first: Any, _row: Any, found: Any, _at: Any, _step: Any) -> Any:
    side = SIDE_OF_BYTES if values.dtype == types.uint8 else SIDE_OF_FLOATS

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory, column_starts, first, row, written, at, step = arguments
        source, places, target = (
            context.make_array(signature.args[k])(context, builder, array).data
            for k, array in ((0, memory), (1, column_starts), (4, written))
        )
        vector = ir.VectorType(context.get_value_type(values.dtype), side)
        size = values.dtype.bitwidth // 8
        lines = []
        for k in range(side):
            start = builder.load(builder.gep(places, [builder.add(first, ir.Constant(_I64, k))]))
            here = builder.gep(source, [builder.add(start, row)])
            lines.append(builder.load(builder.bitcast(here, vector.as_pointer()), align=size))
        # Line i and line i + side/2 interleaved, as often as the side halves, are the transpose.
        half = side // 2
        low, high = (
            ir.Constant(ir.VectorType(_I32, side), [x for i in range(k, k + half) for x in (i, i + side)])
            for k in (0, half)
        )
        for _ in range(side.bit_length() - 1):
            lines = [
                builder.shuffle_vector(lines[i], lines[i + half], mask) for i in range(half) for mask in (low, high)
            ]
        for k, line in enumerate(lines):
            there = builder.gep(target, [builder.add(at, builder.mul(step, ir.Constant(_I64, k)))])
            builder.store(line, builder.bitcast(there, vector.as_pointer()), align=size)
        return context.get_dummy_value()

    return types.void(values, starts, types.int64, types.int64, found, types.int64, types.int64), generate


def _turn_plainly(
    values: NDArray[Any], starts: NDArray[np.int64], first: int, row: int, found: NDArray[Any], at: int, step: int
) -> None:
    """Write rows of a block: found[at + r step + c] = values[starts[first + c] + row + r].

    All are 1-D and contiguous, `values` and `found` of one dtype, which has the side of its block. That there
    are so many of them is not checked.
    """
    side = SIDE_OF_BYTES if values.dtype == np.uint8 else SIDE_OF_FLOATS
    for c in range(side):
        start = int(starts[first + c]) + row
        found[at + c : at + c + side * step : step][:side] = values[start : start + side]


turn_block: Any = _turn_plainly if numba.config.DISABLE_JIT else intrinsic(_turn)
