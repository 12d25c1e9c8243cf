"""Before and after a tile product (`refimpl.microkernel`), in the same vectors: its start, and a look at all of it.

A tile of ROWS x COLUMNS scores of 16 coordinates takes as long as 16 of its columns of loads; plain loops that fill
it and compare it would take longer than the product. Each function here is a dozen vector instructions. They mean
the same on every processor, as the microkernel does.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..microkernel import ROWS, VECTOR_BYTES, _data

LANES = VECTOR_BYTES // 4
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS, _INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_I32, LANES)


def _place(builder, pointer, i, row, half, kind):
    """A pointer to half 0 or 1 of row i of a tile, as a vector."""
    at = builder.add(builder.mul(ir.Constant(_I64, i), row), ir.Constant(_I64, half * LANES))
    return builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer())


def _in_every_lane(builder, value):
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        one, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    )


def _all_signs(builder, numbers):
    """Whether all lanes of the integer vector are negative."""
    negative = builder.icmp_signed("<", numbers, ir.Constant(_INTEGERS, [0] * LANES))
    mask = builder.bitcast(negative, ir.IntType(LANES))
    return builder.icmp_unsigned("==", mask, ir.Constant(ir.IntType(LANES), 2**LANES - 1))


@intrinsic
def start_tile(typing, c, c_at, c_row, bias, bias_at, limits, limits_at):
    """c[c_at + i c_row + j] = bias[bias_at + j] - limits[limits_at + i] for i < ROWS, j < COLUMNS. float32 arrays."""
    index = types.intp
    signature = types.void(c, index, index, bias, index, limits, index)

    def emit(context, builder, signature, values):
        c, bias, limits = _data(context, builder, signature, values, (0, 3, 5))
        c, bias = builder.gep(c, [values[1]]), builder.gep(bias, [values[4]])
        limits = builder.gep(limits, [values[6]])
        zero = ir.Constant(_I64, 0)
        halves = [builder.load(_place(builder, bias, 0, zero, half, _FLOATS), align=4) for half in range(2)]
        for i in range(ROWS):
            limit = _in_every_lane(builder, builder.load(builder.gep(limits, [ir.Constant(_I64, i)])))
            for half in range(2):
                place = _place(builder, c, i, values[2], half, _FLOATS)
                builder.store(builder.fsub(halves[half], limit), place, align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def all_negative(typing, c, c_at, c_row):
    """Whether the sign of c[c_at + i c_row + j] is set for all i < ROWS, j < COLUMNS. NaN may be either."""
    signature = types.boolean(c, types.intp, types.intp)

    def emit(context, builder, signature, values):
        (c,) = _data(context, builder, signature, values, (0,))
        c, signs = builder.gep(c, [values[1]]), None
        for i in range(ROWS):
            for half in range(2):
                one = builder.load(_place(builder, c, i, values[2], half, _INTEGERS), align=4)
                signs = one if signs is None else builder.and_(signs, one)
        return _all_signs(builder, signs)

    return signature, emit


@intrinsic
def all_below(typing, c, c_at, limit):
    """Whether c[c_at + j] < limit for all j < COLUMNS; never where one is NaN."""
    signature = types.boolean(c, types.intp, types.float32)

    def emit(context, builder, signature, values):
        (c,) = _data(context, builder, signature, values, (0,))
        c, zero, limit = builder.gep(c, [values[1]]), ir.Constant(_I64, 0), _in_every_lane(builder, values[2])
        below = [
            builder.fcmp_ordered("<", builder.load(_place(builder, c, 0, zero, half, _FLOATS), align=4), limit)
            for half in range(2)
        ]
        mask = builder.bitcast(builder.and_(*below), ir.IntType(LANES))
        return builder.icmp_unsigned("==", mask, ir.Constant(ir.IntType(LANES), 2**LANES - 1))

    return signature, emit
