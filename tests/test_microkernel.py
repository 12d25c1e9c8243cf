"""The register tile against the sum it stands for, for every tile shape that a machine may choose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from refimpl.microkernel import COLUMNS, ROWS, VECTOR_BYTES, columns_of, make_tile_product, pack_panels


def caller_of(rows, vector_bytes):
    tile_product = make_tile_product(rows, vector_bytes)

    @njit
    def call(a, a_at, a_row, a_step, b, b_at, c, c_at, c_row, k, accumulate):
        tile_product(a, a_at, a_row, a_step, b, b_at, c, c_at, c_row, k, accumulate)

    return call


# (8, 64) AVX-512, (6, 32) AVX, (6, 16) SSE and NEON: each runs on every machine, split into what it has
SHAPES = sorted({(8, 64), (6, 32), (6, 16), (ROWS, VECTOR_BYTES)})
CALLERS = {shape: caller_of(*shape) for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(
    k=st.integers(1, 40),
    transposed=st.booleans(),
    accumulate=st.booleans(),
    offsets=st.tuples(*[st.integers(0, 5)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tile_is_the_product(shape, dtype, k, transposed, accumulate, offsets, seed):
    rows, vector_bytes = shape
    columns = 2 * vector_bytes // np.dtype(dtype).itemsize
    rng = np.random.default_rng(seed)
    a_at, b_at, c_at = offsets
    a = rng.integers(-9, 10, (rows + a_at, k) if not transposed else (k, rows + a_at)).astype(dtype)
    b = rng.integers(-9, 10, b_at + k * columns).astype(dtype)
    c = rng.integers(-9, 10, (rows + 1, columns + c_at)).astype(dtype)
    strides = (a_at * k, k, 1) if not transposed else (a_at, 1, rows + a_at)
    used = a[a_at:] if not transposed else a[:, a_at:].T
    expected = c.copy()
    block = expected[:rows, c_at:]
    block[:] = used @ b[b_at:].reshape(k, columns) + (block if accumulate else 0)
    CALLERS[shape](a, *strides, b, b_at, c, c_at, columns + c_at, k, accumulate)
    np.testing.assert_array_equal(c, expected)  # small integers: exact; nothing outside the tile is touched


@given(k=st.integers(1, 9), n=st.integers(1, 70), transposed=st.booleans())
def test_panels_hold_the_matrix_and_zeros(k, n, transposed):
    b = np.arange(1, k * n + 1, dtype=np.float32).reshape((n, k) if transposed else (k, n))
    b = b.T if transposed else b
    panels = pack_panels(b, COLUMNS)
    unpacked = panels.transpose(1, 0, 2).reshape(k, -1)
    np.testing.assert_array_equal(unpacked[:, :n], b)
    assert not unpacked[:, n:].any()
    assert unpacked.shape[1] % columns_of(b.dtype) == 0 and unpacked.shape[1] - n < COLUMNS
