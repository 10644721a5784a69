"""Sixty-four neighbouring voxels compared at once; the answer is the bits of one number.

A loop that stops at a difference is not vectorised, and one that only finds out whether there is any does
not tell where. Here one vector comparison gives a bit a voxel, so that a kernel goes from one value to the
next instead of from voxel to voxel. Numba has no word for it; LLVM has, and uses whatever vectors the
processor has. Without the compiler the functions are the plain Python that stands in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

#: Voxels that are compared at once.
LANES = 64
#: The bits of all of them.
ALL_LANES = np.uint64((1 << LANES) - 1)

_WORD = types.uint64
_I1, _I32, _I64 = (ir.IntType(bits) for bits in (1, 32, 64))


def _compiled_as(compiled: Any) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        return function if numba.config.DISABLE_JIT else compiled

    return decorate


def _of_bits(instruction: Callable[[Any, Any], Any]) -> Any:
    """Return a function of the bits that Numba compiles to one instruction."""

    def typed(_typing: Any, _lanes: Any) -> Any:
        return _WORD(_WORD), lambda _context, builder, _signature, arguments: instruction(builder, arguments[0])

    return intrinsic(typed)


def _compare(_typing: Any, values: Any, _start: Any, _value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, value = arguments
        vector = ir.VectorType(context.get_value_type(values.dtype), LANES)
        first = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [start])
        read = builder.load(builder.bitcast(first, vector.as_pointer()), align=1)
        nothing = ir.Constant(vector, ir.Undefined)
        once = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
        everywhere = builder.shuffle_vector(once, nothing, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))
        return builder.bitcast(builder.icmp_unsigned("==", read, everywhere), _I64)

    return _WORD(values, _WORD, values.dtype), generate


@_compiled_as(intrinsic(_compare))
def lanes_of(values: NDArray[Any], start: np.uint64, value: Any) -> np.uint64:
    """Return which of 64 values are `value`: bit x tells of values[start + x].

    `values` is 1-D, contiguous, of integers, with 64 of them from `start` on: that is not checked.
    """
    same = values[int(start) : int(start) + LANES] == value
    return np.packbits(same, bitorder="little").view("<u8")[0]  # type: ignore[no-any-return]


@_compiled_as(_of_bits(lambda builder, lanes: builder.ctpop(lanes)))
def count_lanes(lanes: np.uint64) -> np.uint64:
    """Return how many bits are 1."""
    return np.uint64(int(lanes).bit_count())


@_compiled_as(_of_bits(lambda builder, lanes: builder.cttz(lanes, ir.Constant(_I1, 0))))
def first_lane(lanes: np.uint64) -> np.uint64:
    """Return which is the lowest bit that is 1; 64 where none is."""
    return np.uint64((int(lanes) & -int(lanes)).bit_length() - 1 if lanes else LANES)


@_compiled_as(
    _of_bits(lambda builder, lanes: builder.sub(ir.Constant(_I64, LANES), builder.ctlz(lanes, ir.Constant(_I1, 0))))
)
def past_lanes(lanes: np.uint64) -> np.uint64:
    """Return one past the highest bit that is 1; 0 where none is."""
    return np.uint64(int(lanes).bit_length())
