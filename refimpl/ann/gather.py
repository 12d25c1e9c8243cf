"""Distances to vectors at scattered places: one sum in fixed lanes, and a hint to fetch the next vectors early.

A graph search reads whole vectors from random places, and waits for memory more than it computes. It therefore first
walks over the neighbours and asks for each vector's cache lines (`prefetch`), and only then measures them: the reads
of all overlap.

The sum runs in two vectors of LANES lanes, multiply-adds written out as such, and is folded in halves at the end. The
order of additions is therefore part of the program, not the compiler's choice: the same bits in every kernel.
Vectors are padded with zeros to a multiple of PADDING coordinates.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from ..kernels import inlined

LANES = 16
LINE = 16  # float32 in a cache line
PADDING = 2 * LANES
_I64, _I32 = ir.IntType(64), ir.IntType(32)


def padded(vectors):
    """vectors (n, d) float32 with zeros up to a multiple of PADDING columns, a copy."""
    wide = np.zeros((len(vectors), -(-vectors.shape[1] // PADDING) * PADDING), np.float32)
    wide[:, : vectors.shape[1]] = vectors
    return wide


def _data(context, builder, signature, values, i):
    return arrayobj.make_array(signature.args[i])(context, builder, values[i]).data


@intrinsic
def squared_gap(typing, a, a_row, b, b_row):
    """sum_j (a[a_row, j] - b[b_row, j])^2 of two C-contiguous float32 arrays of equally many padded columns."""
    signature = types.float32(a, types.intp, b, types.intp)

    def emit(context, builder, signature, values):
        vector = ir.VectorType(ir.FloatType(), LANES)
        function = ir.FunctionType(vector, [vector] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, function, f"llvm.fma.v{LANES}f32")
        width = builder.extract_value(arrayobj.make_array(signature.args[0])(context, builder, values[0]).shape, 1)
        rows = [
            builder.gep(_data(context, builder, signature, values, i), [builder.mul(values[i + 1], width)])
            for i in (0, 2)
        ]
        start, step, done = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(step)

        builder.position_at_end(step)
        j, sums, next_sums = builder.phi(_I64), [builder.phi(vector) for _ in range(2)], []
        for half, total in enumerate(sums):
            at = builder.add(j, ir.Constant(_I64, half * LANES))
            x, y = (builder.load(builder.bitcast(builder.gep(row, [at]), vector.as_pointer()), align=4) for row in rows)
            gap = builder.fsub(x, y)
            next_sums.append(builder.call(multiply_add, [gap, gap, total]))
        next_j = builder.add(j, ir.Constant(_I64, PADDING))
        j.add_incoming(ir.Constant(_I64, 0), start)
        j.add_incoming(next_j, step)
        for total, following in zip(sums, next_sums):
            total.add_incoming(ir.Constant(vector, [0.0] * LANES), start)
            total.add_incoming(following, step)
        builder.cbranch(builder.icmp_signed("<", next_j, width), step, done)

        builder.position_at_end(done)
        total, half = builder.fadd(*next_sums), LANES // 2
        while half:
            mask = [(i + half) % LANES for i in range(LANES)]
            turned = builder.shuffle_vector(
                total, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_I32, LANES), mask)
            )
            total, half = builder.fadd(total, turned), half // 2
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return signature, emit


@intrinsic
def prefetch(typing, a, offset):
    """Ask for the cache line of element `offset` of a C-contiguous array; changes nothing but the time."""
    signature = types.void(a, types.intp)

    def emit(context, builder, signature, values):
        byte = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(_data(context, builder, signature, values, 0), [values[1]]), byte)
        function = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        call = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0i8")
        builder.call(call, [place, ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return signature, emit


@inlined
def ask_for(vectors, row):
    """`prefetch` of vectors[row], float32."""
    d = vectors.shape[1]
    for j in range(0, d, LINE):
        prefetch(vectors, row * d + j)
