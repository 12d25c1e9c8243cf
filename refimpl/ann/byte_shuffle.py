"""Sixteen table look-ups in one instruction: the inner loop of the 4-bit scan (fast_scan.py), in vector registers.

A code of 4 bits chooses among 16 values. If these are bytes, the table is a register of 16 bytes, and the byte shuffle
(PSHUFB: out[i] = table[code[i]]) looks up 16 codes at once, 32 or 64 in wider registers; the table never goes to
memory. Andre, Kermarrec and Le Scouarnec, "Cache locality is not enough", VLDB 2015, and "Quicker ADC", 2018; the
adding up of bytes in two 16-bit halves is faiss's.

A block is LANES = 32 vectors, and four of their parts are a quad: 64 bytes of codes, 128 of tables.

    codes    byte          0 to 31: of lanes 0, 16, 1, 17 ... 15, 31        32 to 63: of the same lanes
             low nibble    part 0                                           part 2
             high nibble   part 1                                           part 3
    tables   of 16 bytes   T0 T0 T2 T2 T1 T1 T3 T3                          entries 0 to LARGEST

Entries have 7 bits, so that the two that a byte of codes looks up add up within a byte (2 x 127 < 256) and are widened
to 16 bits once. Neighbouring bytes widen as one 16-bit number c = even + 256 odd: one sum adds c, the other c >> 8,
which is the odd lanes'; at the end the even lanes' is the first minus 256 times the second, modulo 2^16.

    score[lane] = sum * scale + (base + bias[lane])        sum: a 16-bit integer; two float32 operations, not fused

Where the processor that Numba compiles for has no byte shuffle, the same sums are a plain loop; integers leave no room
for a difference, and neither do two float operations: both give the same bits.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np import arrayobj

from ..kernels import kernel
from .bits import in_every_lane

LANES = 32
QUAD = 4
LARGEST = 127  # of a table's entries
MOST_PARTS = 512  # their sum stays below 2^16

#: the byte shuffle of each width, and the feature of the processor that it needs
SHUFFLES = {
    16: ("+ssse3", "llvm.x86.ssse3.pshuf.b.128"),
    32: ("+avx2", "llvm.x86.avx2.pshuf.b"),
    64: ("+avx512bw", "llvm.x86.avx512.pshuf.b.512"),
}
_BYTE, _I64, _I32 = ir.IntType(8), ir.IntType(64), ir.IntType(32)


def _features():
    return cpu_target.target_context.codegen().magic_tuple()[2].split(",")


#: the widths that this processor shuffles at once
WIDTHS = [width for width, (feature, _) in SHUFFLES.items() if feature in _features()]
WIDTH = max(WIDTHS, default=0)


def _half(builder, value, first, size):
    """Bytes first to first + size - 1 of a vector."""
    mask = ir.Constant(ir.VectorType(_I32, size), list(range(first, first + size)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _shuffle(builder, table, code):
    """out[i] = table[code[i]] within each 16 bytes; a width that the processor lacks is cut in halves."""
    width = table.type.count
    if width in WIDTHS:
        function = ir.FunctionType(table.type, [table.type] * 2)
        return builder.call(cgutils.get_or_insert_function(builder.module, function, SHUFFLES[width][1]), [table, code])
    half = width // 2
    low, high = (
        _shuffle(builder, _half(builder, table, first, half), _half(builder, code, first, half)) for first in (0, half)
    )
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, width), list(range(width))))


def _emit_quad(builder, width, code, table):
    """The sums of a quad's look-ups, two in a byte -> [(which `width` of the lanes, bytes)]; 64: both halves."""
    vector = ir.VectorType(_BYTE, width)
    low_bits, four = ir.Constant(vector, [15] * width), ir.Constant(vector, [4] * width)

    def load(pointer, at):
        place = builder.bitcast(builder.gep(pointer, [ir.Constant(_I64, at)]), vector.as_pointer())
        return builder.load(place, align=1)

    sums = []
    for at in range(0, 2 * LANES, width):
        half = at // LANES
        codes, own = load(code, at), []
        for nibble in range(2):
            index = builder.and_(codes, low_bits) if nibble == 0 else builder.lshr(codes, four)
            own.append(_shuffle(builder, load(table, 64 * nibble + LANES * half), index))
        sums.append((at % LANES // width, builder.add(*own)))
    return sums


def make_block_scores(width):
    """The scan of one block in registers of `width` bytes; see `block_scores` for its arguments."""

    @intrinsic
    def block_scores(typing, codes, at, tables, quads, scale, base, biases, bias_at, limit, out):
        """Scores of a block of codes, written to `out`; one bit for each that is below `limit`."""
        index, real = types.intp, types.float32
        signature = types.uint64(codes, index, tables, index, real, real, biases, index, real, out)

        def emit(context, builder, signature, values):
            arrays = [arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 6, 9)]
            codes, tables, biases, out = arrays
            at, quads, scale, base, bias_at, limit = (values[i] for i in (1, 3, 4, 5, 7, 8))
            wide = ir.VectorType(ir.IntType(16), width // 2)
            zero, eight = ir.Constant(wide, [0] * (width // 2)), ir.Constant(wide, [8] * (width // 2))
            groups = max(1, LANES // width)
            first, start = builder.gep(codes, [at]), builder.block
            step, done = builder.append_basic_block("step"), builder.append_basic_block("done")
            builder.branch(step)

            builder.position_at_end(step)
            q, sums = builder.phi(_I64), [builder.phi(wide) for _ in range(2 * groups)]
            nexts = list(sums)
            code = builder.gep(first, [builder.mul(q, ir.Constant(_I64, 64))])
            table = builder.gep(tables, [builder.mul(q, ir.Constant(_I64, 128))])
            for group, bytes_ in _emit_quad(builder, width, code, table):
                pairs, both, odd = builder.bitcast(bytes_, wide), 2 * group, 2 * group + 1
                nexts[both] = builder.add(nexts[both], pairs)
                nexts[odd] = builder.add(nexts[odd], builder.lshr(pairs, eight))
            next_q = builder.add(q, ir.Constant(_I64, 1))
            for phi, value, following in zip([q, *sums], [ir.Constant(_I64, 0)] + [zero] * len(sums), [next_q, *nexts]):
                phi.add_incoming(value, start)
                phi.add_incoming(following, step)
            builder.cbranch(builder.icmp_signed("<", next_q, quads), step, done)

            builder.position_at_end(done)
            even = [builder.sub(nexts[2 * i], builder.shl(nexts[2 * i + 1], eight)) for i in range(groups)]
            parts = even + nexts[1::2]  # lanes 0 to 15, then 16 to 31
            if width == 64:
                parts = [
                    builder.add(_half(builder, part, 0, LANES // 2), _half(builder, part, LANES // 2, LANES // 2))
                    for part in parts
                ]
            while len(parts) > 1:
                size = parts[0].type.count
                mask = ir.Constant(ir.VectorType(_I32, 2 * size), list(range(2 * size)))
                parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2])]
            lanes = ir.VectorType(ir.FloatType(), LANES)
            bias = builder.load(builder.bitcast(builder.gep(biases, [bias_at]), lanes.as_pointer()), align=4)
            product = builder.fmul(builder.uitofp(parts[0], lanes), in_every_lane(builder, scale, LANES))
            score = builder.fadd(product, builder.fadd(in_every_lane(builder, base, LANES), bias))
            builder.store(score, builder.bitcast(out, lanes.as_pointer()), align=4)
            near = builder.fcmp_ordered("<", score, in_every_lane(builder, limit, LANES))
            return builder.zext(builder.bitcast(near, ir.IntType(LANES)), _I64)

        return signature, emit

    return block_scores


@kernel
def plain_block_scores(codes, at, tables, quads, scale, base, biases, bias_at, limit, out):
    """`block_scores` as a plain loop."""
    codes, tables, biases = codes.reshape(codes.size), tables.reshape(tables.size), biases.reshape(biases.size)
    near = np.uint64(0)
    for lane in range(LANES):
        byte = at + 2 * (lane % 16) + lane // 16
        total = 0
        for q in range(quads):
            for half in range(2):
                code, table = codes[byte + 64 * q + 32 * half], 128 * q + 32 * half
                total += np.int64(tables[table + (code & 15)]) + np.int64(tables[table + 64 + (code >> 4)])
        out[lane] = np.float32(total) * scale + (base + biases[bias_at + lane])
        if out[lane] < limit:
            near |= np.uint64(1) << np.uint64(lane)
    return near


#: block_scores(codes, at, tables, quads, scale, base, biases, bias_at, limit, out), for use inside Numba kernels:
#:
#:     out[lane] = sum * scale + (base + biases[bias_at + lane])        for the 32 lanes of the block at codes[at]
#:
#: Returns the lanes with out < limit, as bits of a uint64. codes, tables uint8, biases, out float32, scalars float32,
#: quads >= 1; C-contiguous arrays of any rank, offsets in elements from their start. No bounds are checked.
block_scores = make_block_scores(WIDTH) if WIDTH else plain_block_scores


@intrinsic
def lanes_up_to(typing, scores, at, limit):
    """The lanes of scores[at : at + LANES] (float32) that are <= limit, as bits of a uint64. NaN is not."""
    signature = types.uint64(scores, types.intp, types.float32)

    def emit(context, builder, signature, values):
        lanes = ir.VectorType(ir.FloatType(), LANES)
        data = arrayobj.make_array(signature.args[0])(context, builder, values[0]).data
        own = builder.load(builder.bitcast(builder.gep(data, [values[1]]), lanes.as_pointer()), align=4)
        near = builder.fcmp_ordered("<=", own, in_every_lane(builder, values[2], LANES))
        return builder.zext(builder.bitcast(near, ir.IntType(LANES)), _I64)

    return signature, emit


_ENTRIES = ir.VectorType(ir.FloatType(), 16)


def _fold(builder, name, value):
    """The least or largest of 16 floats, by halves."""
    half = 8
    while half:
        turned = [(i + half) % 16 for i in range(16)]
        mask = ir.Constant(ir.VectorType(_I32, 16), turned)
        other = builder.shuffle_vector(value, ir.Constant(_ENTRIES, ir.Undefined), mask)
        better = builder.fcmp_ordered("<" if name == "min" else ">", other, value)
        value, half = builder.select(better, other, value), half // 2
    return value


@intrinsic
def part_entries(typing, query, query_at, books, book_at, width, entries, at, widest):
    """entries[at + c] = T[c] - min T, T[c] = sum over w < width of query[query_at + w] books[book_at + 16 w + c].

    Returns min T. widest[c] (16,) becomes the larger of itself and entries[at + c]. float32; c < 16; width >= 1.
    """
    index = types.intp
    signature = types.float32(query, index, books, index, index, entries, index, widest)

    def emit(context, builder, signature, values):
        query, books, entries, widest = (
            arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 5, 7)
        )

        def place(pointer, at):
            return builder.bitcast(builder.gep(pointer, [at]), _ENTRIES.as_pointer())

        start, step, done = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(step)
        builder.position_at_end(step)
        w, total = builder.phi(_I64), builder.phi(_ENTRIES)
        own = in_every_lane(builder, builder.load(builder.gep(query, [builder.add(values[1], w)])), 16)
        book = builder.load(place(books, builder.add(values[3], builder.mul(w, ir.Constant(_I64, 16)))), align=4)
        next_total, next_w = builder.fadd(total, builder.fmul(own, book)), builder.add(w, ir.Constant(_I64, 1))
        for phi, first, following in ((w, ir.Constant(_I64, 0), next_w), (total, None, next_total)):
            phi.add_incoming(ir.Constant(_ENTRIES, [0.0] * 16) if first is None else first, start)
            phi.add_incoming(following, step)
        builder.cbranch(builder.icmp_signed("<", next_w, values[4]), step, done)

        builder.position_at_end(done)
        least = _fold(builder, "min", next_total)
        above = builder.fsub(next_total, least)
        builder.store(above, place(entries, values[6]), align=4)
        before = builder.load(place(widest, ir.Constant(_I64, 0)), align=4)
        larger = builder.select(builder.fcmp_ordered(">", above, before), above, before)
        builder.store(larger, place(widest, ir.Constant(_I64, 0)), align=4)
        return builder.extract_element(least, ir.Constant(_I32, 0))

    return signature, emit


@intrinsic
def part_bytes(typing, entries, at, scale, tables, table_at):
    """tables[table_at + c] = tables[table_at + 16 + c] = entries[at + c] * scale + 1/2, cut to an integer < 256."""
    index = types.intp
    signature = types.void(entries, index, types.float32, tables, index)

    def emit(context, builder, signature, values):
        entries, tables = (arrayobj.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 3))
        own = builder.load(builder.bitcast(builder.gep(entries, [values[1]]), _ENTRIES.as_pointer()), align=4)
        scaled = builder.fmul(own, in_every_lane(builder, values[2], 16))
        rounded = builder.fptosi(builder.fadd(scaled, ir.Constant(_ENTRIES, [0.5] * 16)), ir.VectorType(_I32, 16))
        vector = ir.VectorType(_BYTE, 16)
        value = builder.trunc(rounded, vector)
        for copy in range(2):
            at = builder.add(values[4], ir.Constant(_I64, 16 * copy))
            builder.store(value, builder.bitcast(builder.gep(tables, [at]), vector.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, emit
