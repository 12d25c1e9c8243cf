"""Y = M X M^T of many small tiles at once: one tile for each lane of a vector register.

Winograd's convolution (`winograd.py`) multiplies tiles of 6 x 6 numbers, one tile for each channel, from both sides by
small constant matrices. Channels lie next to each other in memory, so one vector holds the same number of the tiles of
several channels, and all arithmetic is between whole vectors: nothing is ever moved between lanes.

A compiler does not vectorise a loop around so many loads and stores, so, as in `refimpl.microkernel`, the code is
written in LLVM's vector operations, straight down and without a loop, from the matrix itself: first every column of X
is replaced by M times it, then every row of the result likewise. A row of M is taken apart as

    M[i] x  =  even(x) + factor * odd(x)        even: the terms of x[0], x[2], ..        odd: those of x[1], x[3], ..

with the odd half scaled so that its first factor is 1. Polynomials at the points a and -a differ in the sign of their
odd half only, so two such rows then share both halves, and the compiler computes an expression once that occurs twice.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..microkernel import _I64, VECTOR_BYTES, _data


def make_transform(matrix):
    """transform(x, x_at, x_row, x_column, y, y_at, y_row, y_column), for use inside Numba kernels:

        y[y_at + i y_row + j y_column + lane] = sum over u, v of M[i, u] M[j, v] x[x_at + u x_row + v x_column + lane]

    for all rows i, j of M = `matrix` (a list of rows of numbers) and every lane < VECTOR_BYTES / itemsize. x and y are
    C-contiguous arrays of one dtype, float32 or float64, of any rank: offsets count elements. No bounds are checked.
    """
    rows, columns = len(matrix), len(matrix[0])
    if any(len(row) != columns for row in matrix):
        raise ValueError(f"matrix: expected rows of one length, got lengths {[len(row) for row in matrix]}")

    @intrinsic
    def transform(typing, x, x_at, x_row, x_column, y, y_at, y_row, y_column):
        """Y = M X M^T of one tile, all loads before the first store."""
        index = types.intp
        signature = types.void(x, index, index, index, y, index, index, index)

        def emit(context, builder, signature, values):
            x, y = _data(context, builder, signature, values, (0, 4))
            (x_at, x_row, x_column), (y_at, y_row, y_column) = values[1:4], values[5:8]
            vectors = _Vectors(builder, x.type.pointee)
            tile = [
                [vectors.load(x, (x_at, (u, x_row), (v, x_column))) for u in range(columns)] for v in range(columns)
            ]
            halfway = [_times(vectors, matrix, column) for column in tile]
            for i in range(rows):
                for j, value in enumerate(_times(vectors, matrix, [column[i] for column in halfway])):
                    vectors.store(value, y, (y_at, (i, y_row), (j, y_column)))
            return context.get_dummy_value()

        return signature, emit

    return transform


def _times(vectors, matrix, x):
    """The vectors M x, for a list x of vectors."""
    result = []
    for row in matrix:
        even, _ = _half(vectors, row, x, 0)
        odd, factor = _half(vectors, row, x, 1)
        if even is None or odd is None:
            result.append(vectors.multiply_add(odd, factor, None) if even is None else even)
        else:
            result.append(vectors.multiply_add(odd, factor, even))
    return result


def _half(vectors, row, x, parity):
    """The sum of row[i] x[i] over every other i: as it is for the even ones; for the odd ones, (sum / factor, factor).

    (None, 0) if there are no terms.
    """
    terms = [(value, vector) for value, vector in list(zip(row, x))[parity::2] if value]
    if not terms:
        return None, 0
    factor = terms[0][0] if parity else 1
    total = None
    for value, vector in sorted(terms, key=lambda term: term[0] != factor):  # a factor of 1 first: nothing to multiply
        total = vectors.multiply_add(vector, value / factor, total)
    return total, factor


class _Vectors:
    """Loads, stores and arithmetic of vectors of `scalar`s, emitted with `builder`."""

    def __init__(self, builder, scalar):
        self.builder, self.size = builder, 4 if isinstance(scalar, ir.FloatType) else 8
        self.lanes = VECTOR_BYTES // self.size
        self.type = ir.VectorType(scalar, self.lanes)
        function = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        self.fmuladd = cgutils.get_or_insert_function(builder.module, function, name)

    def pointer(self, array, offsets):
        first, *steps = offsets
        for times, stride in steps:
            first = self.builder.add(first, self.builder.mul(ir.Constant(_I64, times), stride))
        return self.builder.bitcast(self.builder.gep(array, [first]), self.type.as_pointer())

    def load(self, array, offsets):
        return self.builder.load(self.pointer(array, offsets), align=self.size)

    def store(self, value, array, offsets):
        self.builder.store(value, self.pointer(array, offsets), align=self.size)

    def multiply_add(self, vector, value, total):
        """vector * value + total; total None is 0."""
        constant = ir.Constant(self.type, [float(value)] * self.lanes)
        if total is None:
            return vector if value == 1 else self.builder.fmul(vector, constant)
        if abs(value) == 1:
            return (self.builder.fadd if value == 1 else self.builder.fsub)(total, vector)
        return self.builder.call(self.fmuladd, [vector, constant, total])
