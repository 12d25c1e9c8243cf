"""Sums over a vector's coordinates in their order, of eight vectors at once: one in each lane of a register.

A distance that is returned is a sum in float64 over j = 0, 1, ... (index.py). One such sum waits for its last addition
at every step, and fills one lane. The eight lanes here are eight vectors: eight terms of each are computed side by
side, and then turned on their side, so that a register holds one term of all eight.

    terms of x0 = a0 a1 ... a7                 a0 b0 ... h0
    terms of x1 = b0 b1 ... b7        ->       a1 b1 ... h1        sums += a register, in this order
    ...                                        ...

Multiplication and addition are two roundings, as in NumPy; nothing is contracted or reordered.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from .bits import in_every_lane

LANES = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)


@intrinsic
def ordered_sums(typing, vectors, rows, first, count, query, inner_product):
    """(s_0 ... s_7) of the rows x_i = vectors[rows[first + i]], i < count; the others repeat the last. count >= 1.

    s_i = sum_j (x_i[j] - query[j])^2, or with inner_product (bool) sum_j -x_i[j] query[j]; float64, in order of j.

    vectors (any, d), query (d,) float32, rows (any,) integers; C-contiguous. No bounds are checked.
    """
    if any(getattr(array, "layout", None) != "C" for array in (vectors, rows, query)):
        return None
    index = types.intp
    signature = types.UniTuple(types.float64, LANES)(vectors, rows, index, index, query, types.boolean)

    def emit(context, builder, signature, values):
        pointers = [arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 1, 4)]
        table, row_numbers, query = pointers
        length = arrayobj.make_array(signature.args[4])(context, builder, values[4]).shape
        d, (first, count, product) = builder.extract_value(length, 0), (values[i] for i in (2, 3, 5))
        last = builder.sub(builder.add(first, count), ir.Constant(_I64, 1))
        rows = []
        for i in range(LANES):
            at = builder.add(first, ir.Constant(_I64, i))
            at = builder.select(builder.icmp_signed("<", at, last), at, last)
            row = builder.load(builder.gep(row_numbers, [at]))
            row = row if row.type == _I64 else builder.sext(row, _I64)
            rows.append(builder.gep(table, [builder.mul(row, d)]))
        is_product = in_every_lane(builder, product, LANES)
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)

        def term(x, q):
            """(x - q)^2, or x (-q): x - 0 is x."""
            x, q = builder.fpext(x, _DOUBLES), builder.fpext(q, _DOUBLES)
            gap = builder.fsub(x, builder.select(is_product, zero, q))
            return builder.fmul(gap, builder.select(is_product, builder.fneg(q), gap))

        def eight_coordinates(j, total):
            def load(pointer):
                return builder.load(builder.bitcast(builder.gep(pointer, [j]), _FLOATS.as_pointer()), align=4)

            q = load(query)
            for terms in _turn(builder, [term(load(row), q) for row in rows]):
                total = builder.fadd(total, terms)
            return total

        def one_coordinate(j, total):
            x = ir.Constant(_FLOATS, ir.Undefined)
            for i, row in enumerate(rows):
                x = builder.insert_element(x, builder.load(builder.gep(row, [j])), ir.Constant(_I32, i))
            return builder.fadd(total, term(x, in_every_lane(builder, builder.load(builder.gep(query, [j])), LANES)))

        whole = builder.and_(d, ir.Constant(_I64, -LANES))
        total = _loop(builder, ir.Constant(_I64, 0), whole, LANES, zero, eight_coordinates)
        total = _loop(builder, whole, d, 1, total, one_coordinate)
        sums = [builder.extract_element(total, ir.Constant(_I32, i)) for i in range(LANES)]
        return context.make_tuple(builder, signature.return_type, sums)

    return signature, emit


def _loop(builder, start, stop, step, value, body):
    """LLVM: value = body(j, value) for j in range(start, stop, step) -> the last value."""
    before = builder.block
    test, inside, after = (builder.append_basic_block(name) for name in ("test", "inside", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    j, now = builder.phi(_I64), builder.phi(value.type)
    builder.cbranch(builder.icmp_signed("<", j, stop), inside, after)
    builder.position_at_end(inside)
    following = body(j, now)
    next_j, end = builder.add(j, ir.Constant(_I64, step)), builder.block
    builder.branch(test)
    for phi, first, second in ((j, start, next_j), (now, value, following)):
        phi.add_incoming(first, before)
        phi.add_incoming(second, end)
    builder.position_at_end(after)
    return now


#: which of two registers' lanes make up two others: every other single, every other pair, the halves. The first two
#: stay within the halves, which are registers of their own with AVX2
_SINGLES = [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]
_PAIRS = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
_HALVES = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


def _turn(builder, x):
    """LLVM: the columns of 8 x 8 numbers, from their rows."""

    def mix(a, b, masks):
        return [builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, LANES), mask)) for mask in masks]

    def four_rows(i):
        """Of rows i to i + 3: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7."""
        (even, odd), (more_even, more_odd) = (mix(x[k], x[k + 1], _SINGLES) for k in (i, i + 2))
        (c04, c26), (c15, c37) = mix(even, more_even, _PAIRS), mix(odd, more_odd, _PAIRS)
        return c04, c15, c26, c37

    halves = [mix(upper, lower, _HALVES) for upper, lower in zip(four_rows(0), four_rows(4))]
    return [first for first, _ in halves] + [second for _, second in halves]
