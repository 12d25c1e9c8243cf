"""The lanes of a vector comparison as the bits of one integer: 0 says at once that no lane passed.

A scan compares a whole block of vectors with the query and gets one bit for each. Almost always all are 0, and the
block costs no branch but that one. Where some are set, the loop over them is

    while bits:
        lane = lowest_bit(bits)
        bits &= bits - 1            # clears that bit

Where one block in two or three has a lane, that loop is entered or not as if by lot, and guessing wrong costs more than
the lane: `note_lanes` then writes the first one down whether it is there or not.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernels import inner

NONE = np.uint64(1 << 63)


@intrinsic
def lowest_bit(typing, bits):
    """The position of the lowest set bit of a 64-bit integer that is not 0: one instruction."""

    def emit(context, builder, signature, values):
        word, flag = ir.IntType(64), ir.IntType(1)
        name, function = "llvm.cttz.i64", ir.FunctionType(word, [word, flag])
        count = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(count, [values[0], ir.Constant(flag, 1)])

    return types.int64(types.uint64), emit


@intrinsic
def count_bits(typing, bits):
    """How many bits of a 64-bit integer are set: one instruction where there is one."""

    def emit(context, builder, signature, values):
        return builder.ctpop(values[0])

    return types.int64(types.uint64), emit


@inner
def note_lanes(bits, first, places, count):
    """OUT places[count], ... = first + the set bits, ascending -> the new count. Room for one more is written to."""
    places[count] = first + lowest_bit(bits | NONE)
    count += np.int64(bits != 0)
    bits &= bits - np.uint64(1)
    while bits:
        places[count] = first + lowest_bit(bits)
        bits &= bits - np.uint64(1)
        count += 1
    return count


def in_every_lane(builder, value, lanes):
    """LLVM: the vector of `lanes` copies of `value`."""
    empty, i32 = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), ir.IntType(32)
    one = builder.insert_element(empty, value, ir.Constant(i32, 0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(i32, lanes), [0] * lanes))


def pack_lanes(flags):
    """flags (blocks, lanes) bool -> (blocks,) uint64 with bit i of a word for lane i; lanes: 8, 16 ... 64."""
    blocks, lanes = flags.shape
    octets = np.zeros((blocks, 8), np.uint8)
    octets[:, : lanes // 8] = np.packbits(flags, bitorder="little").reshape(blocks, lanes // 8)
    return octets.view("<u8")[:, 0].astype(np.uint64)
