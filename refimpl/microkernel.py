"""The inner loop of a matrix product, in vector registers: C[ROWS, COLUMNS] (+)= A[ROWS, k] @ B[k, COLUMNS].

A processor multiplies matrices fast when a small tile of the result stays in its registers for the whole sum over k.
Each step of the sum then reads one row of B (COLUMNS values, a few vector loads) and ROWS values of A (each copied
into every lane of a vector), and does ROWS * COLUMNS multiply-adds with them:

              b[k, 0:COLUMNS]             two vectors of LANES values
    a[0, k]   C[0, 0:COLUMNS]             every C[i, :] is two registers, and
    a[1, k]   C[1, 0:COLUMNS]             C[i, :] += a[i, k] * b[k, :] is two instructions
      ...        ...
    a[7, k]   C[7, 0:COLUMNS]

Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008; the name is BLIS's (Van Zee
and van de Geijn 2015). A compiler does not find this form in a plain loop: it vectorises over one index and writes C
back at every step. So this one loop is written in LLVM's own vector operations, which mean the same on every
processor (a vector that is too wide for it is split); only the shape of the tile is chosen for the machine at hand.

What it leaves to its callers: blocking for the caches, threads, and the edges. B is read COLUMNS values at a time, so
it is packed into panels of that width (`pack_panels`); A is read in place, with any strides, so that A may be a
transpose, or the overlapping windows of a convolution. Every sum runs over k in order, in one thread: results do not
depend on the number of threads.

Numba's cache sees an edit of this file only as far as its callers are edited too: after one, clear the cache.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np import arrayobj

from .kernels import in_threads


def _tile_shape():
    """(rows, bytes of a vector): as many sums as the vector registers hold beside the operands of a step."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()  # the processor that Numba compiles for
    features = features.split(",")
    if "+avx512f" in features:  # 32 registers of 64 bytes: 16 sums
        return 8, 64
    if "+avx" in features:  # 16 registers of 32 bytes: 12 sums
        return 6, 32
    return 6, 16  # SSE, NEON: 16 or 32 registers of 16 bytes: 12 sums


ROWS, VECTOR_BYTES = _tile_shape()


def columns_of(dtype):
    """COLUMNS, the width of a tile and of a panel of B: two vectors of `dtype`."""
    return 2 * VECTOR_BYTES // np.dtype(dtype).itemsize


COLUMNS = columns_of(np.float32)
SMALL_COPY = 1 << 16  # numbers, below which waking the other threads costs more than it saves


def make_tile_product(rows, vector_bytes):
    """The microkernel for tiles of `rows` x two vectors of `vector_bytes`; see `tile_product` for its arguments."""

    @intrinsic
    def tile_product(typing, a, a_at, a_row, a_step, b, b_at, c, c_at, c_row, k, accumulate):
        """C (+)= A B for one tile; A by strides, B a panel of rows in a row."""
        index = types.intp
        signature = types.void(a, index, index, index, b, index, c, index, index, index, types.boolean)

        def emit(context, builder, signature, values):
            a, b, c = _data(context, builder, signature, values, (0, 4, 6))
            (a_at, a_row, a_step), b_at, (c_at, c_row, k, accumulate) = values[1:4], values[5], values[7:11]
            first = builder.gep(a, [a_at])
            a_rows = [builder.gep(first, [builder.mul(ir.Constant(_I64, i), a_row)]) for i in range(rows)]
            c = builder.gep(c, [c_at])
            b = builder.gep(b, [b_at])

            def a_offset(p):
                return builder.mul(p, a_step)

            _emit_sums(builder, vector_bytes, a_rows, a_offset, b, None, c, c_row, k, accumulate)
            return context.get_dummy_value()

        return signature, emit

    return tile_product


def make_gathered_tile_product(rows, vector_bytes):
    """The microkernel whose left matrix is found through two tables; see `gathered_tile_product`."""

    @intrinsic
    def gathered_tile_product(
        typing, a, row_offsets, rows_at, step_offsets, steps_at, b, b_at, b_row, c, c_at, c_row, k, accumulate
    ):
        """The same with A at row_offsets[i] + step_offsets[p]: no matrix need exist."""
        index = types.intp
        signature = types.void(
            a, row_offsets, index, step_offsets, index, b, index, index, c, index, index, index, types.boolean
        )

        def emit(context, builder, signature, values):
            a, row_table, step_table, b, c = _data(context, builder, signature, values, (0, 1, 3, 5, 8))
            rows_at, steps_at, b_at, b_row, (c_at, c_row, k, accumulate) = *values[2:5:2], *values[6:8], values[9:]
            row_table = builder.gep(row_table, [rows_at])
            step_table = builder.gep(step_table, [steps_at])
            a_rows = [
                builder.gep(a, [builder.load(builder.gep(row_table, [ir.Constant(_I64, i)]))]) for i in range(rows)
            ]
            b, c = builder.gep(b, [b_at]), builder.gep(c, [c_at])

            def a_offset(p):
                return builder.load(builder.gep(step_table, [p]))

            _emit_sums(builder, vector_bytes, a_rows, a_offset, b, b_row, c, c_row, k, accumulate)
            return context.get_dummy_value()

        return signature, emit

    return gathered_tile_product


_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _data(context, builder, signature, values, which):
    """Pointers to the first elements of those arguments that are arrays."""
    return [arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in which]


def _emit_sums(builder, vector_bytes, a_rows, a_offset, b, b_row, c, c_row, k, accumulate):
    """Emit C[i, :] (+)= sum over p < k of a_rows[i][a_offset(p)] * B[p, :]; b_row None: rows of B follow each other."""
    scalar = b.type.pointee
    size = 4 if isinstance(scalar, ir.FloatType) else 8
    lanes = vector_bytes // size
    vector = ir.VectorType(scalar, lanes)
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}f{8 * size}"
    )

    def vector_at(pointer, j):
        return builder.bitcast(builder.gep(pointer, [ir.Constant(_I64, j * lanes)]), vector.as_pointer())

    def in_every_lane(value):
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        mask = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

    tile = [(i, j) for i in range(len(a_rows)) for j in range(2)]
    c_rows = [builder.gep(c, [builder.mul(ir.Constant(_I64, i), c_row)]) for i in range(len(a_rows))]
    b_row = ir.Constant(_I64, 2 * lanes) if b_row is None else b_row
    from_zero = builder.block
    from_c = builder.append_basic_block("from_c")
    step = builder.append_basic_block("step")
    store = builder.append_basic_block("store")

    # The sums start at zero, or at what C holds.
    zero = ir.Constant(vector, [0.0] * lanes)
    builder.cbranch(accumulate, from_c, step)
    builder.position_at_end(from_c)
    held = [builder.load(vector_at(c_rows[i], j), align=size) for i, j in tile]
    builder.branch(step)

    # One step of the sum: C[i, :] += a[i, p] * b[p, :].
    builder.position_at_end(step)
    p = builder.phi(_I64)
    sums = [builder.phi(vector) for _ in tile]
    b_now = builder.gep(b, [builder.mul(p, b_row)])
    b_vectors = [builder.load(vector_at(b_now, j), align=size) for j in range(2)]
    offset = a_offset(p)
    a_lanes = [in_every_lane(builder.load(builder.gep(row, [offset]))) for row in a_rows]
    nexts = [builder.call(multiply_add, [a_lanes[i], b_vectors[j], sum_]) for (i, j), sum_ in zip(tile, sums)]
    p_next = builder.add(p, ir.Constant(_I64, 1))
    for start, first in ((from_zero, [zero] * len(tile)), (from_c, held)):
        p.add_incoming(ir.Constant(_I64, 0), start)
        for sum_, value in zip(sums, first):
            sum_.add_incoming(value, start)
    p.add_incoming(p_next, step)
    for sum_, value in zip(sums, nexts):
        sum_.add_incoming(value, step)
    builder.cbranch(builder.icmp_signed("<", p_next, k), step, store)

    builder.position_at_end(store)
    for (i, j), value in zip(tile, nexts):
        builder.store(value, vector_at(c_rows[i], j), align=size)


#: tile_product(a, a_at, a_row, a_step, b, b_at, c, c_at, c_row, k, accumulate), for use inside Numba kernels:
#:
#:     c[c_at + i c_row + j] (+)= sum over p < k of a[a_at + i a_row + p a_step] * b[b_at + p COLUMNS + j]
#:     for i < ROWS, j < COLUMNS
#:
#: a, b, c are C-contiguous arrays of one dtype, float32 or float64 (of any rank: the offsets count elements from their
#: start). k >= 1. With `accumulate` the sums start at what c holds. No bounds are checked.
tile_product = make_tile_product(ROWS, VECTOR_BYTES)

#: gathered_tile_product(a, row_offsets, rows_at, step_offsets, steps_at, b, b_at, b_row, c, c_at, c_row, k, accumulate)
#:
#:     c[c_at + i c_row + j] (+)= sum over p < k of a[rows(i) + steps(p)] * b[b_at + p b_row + j]
#:     rows(i) = row_offsets[rows_at + i]        steps(p) = step_offsets[steps_at + p]
#:
#: The same product for a left matrix that is never stored, only its two tables of int64 offsets: the patches of a
#: convolution are offsets of pixels plus offsets within the window. After Dukhan, "The Indirect Convolution
#: Algorithm", 2019, arXiv:1907.02129. Swapping the two tables multiplies by the transpose.
gathered_tile_product = make_gathered_tile_product(ROWS, VECTOR_BYTES)


def pack_panels(b, columns):
    """Copy b (k, n) into panels (ceil(n / columns), k, columns), the last one padded with zeros.

    A panel is read from start to end by `tile_product`: one stream, no stride. b may have any strides, so
    `pack_panels(b.T, columns)` packs a transpose. `columns` is `columns_of(b.dtype)`, or ROWS
    to pack the transpose of a left matrix into tiles: a_row 1, a_step ROWS.
    """
    panels = np.empty((-(-b.shape[1] // columns), len(b), columns), b.dtype)
    in_threads(len(panels), _pack, b, panels, at_least=1 if b.size > SMALL_COPY else max(1, len(panels)))
    return panels


def _pack(first, last, b, panels):
    """Fill panels first to last - 1. (NumPy copies without the GIL.)"""
    (k, n), columns = b.shape, panels.shape[2]
    whole = min(last, n // columns)
    panels[first:whole] = b[:, first * columns : whole * columns].reshape(k, whole - first, columns).transpose(1, 0, 2)
    if whole < last:
        rest = n - whole * columns
        panels[whole, :, :rest], panels[whole, :, rest:] = b[:, whole * columns :], 0
