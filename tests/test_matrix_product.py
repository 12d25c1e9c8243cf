"""The deterministic matrix product: what it computes, and what its bits may depend on."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.matrix_product import BLOCK_K, BLOCK_ROWS, matrix_product, symmetric_product
from refimpl.microkernel import COLUMNS, ROWS, columns_of, pack_panels

SIZES = st.one_of(
    st.integers(0, 3 * ROWS),
    st.sampled_from([BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, BLOCK_K, BLOCK_K + 1, 2 * BLOCK_K + 3, 5 * COLUMNS]),
)
LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
}


@given(
    m=SIZES, k=SIZES, n=SIZES, dtype=st.sampled_from([np.float32, np.float64]),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_is_the_product_exactly_where_floats_are_exact(m, k, n, dtype, layouts, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, (k, n))
    c = matrix_product(LAYOUTS[layouts[0]](a.astype(dtype)), LAYOUTS[layouts[1]](b.astype(dtype)))
    assert c.dtype == dtype and c.shape == (m, n) and c.flags.c_contiguous
    np.testing.assert_array_equal(c, a @ b)


@given(m=SIZES, k=SIZES, n=SIZES, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_row_depends_on_nothing_but_itself(m, k, n, seed, data):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m + 1, k), np.float32), rng.standard_normal((k, n + 1), np.float32)
    whole = matrix_product(a, b)
    i, j = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    np.testing.assert_array_equal(matrix_product(a[i : i + 1], b)[0], whole[i])
    np.testing.assert_array_equal(matrix_product(a[i:], b), whole[i:])
    np.testing.assert_array_equal(matrix_product(a, b[:, j:]), whole[:, j:])
    np.testing.assert_array_equal(matrix_product(b.T, a.T).T, whole)


@given(k=st.integers(1, 40), n=SIZES, dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1))
def test_a_symmetric_product_is_the_product_below_the_diagonal_and_its_mirror_image_above(k, n, dtype, seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((k, n)).astype(dtype) for _ in range(2))
    found, lower = symmetric_product(x.T, y), np.tril(matrix_product(x.T, y))
    assert found.dtype == dtype and found.flags.c_contiguous
    np.testing.assert_array_equal(found, lower + np.tril(lower, -1).T)
    np.testing.assert_array_equal(symmetric_product(x.T, x), matrix_product(x.T, x))


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("product", [matrix_product, symmetric_product])
@pytest.mark.parametrize(
    "a, b",
    [
        (ones(4, 16), ones(32, 3)),
        (ones(4, 16), ones(8, 3)),
        (ones(0, 16), ones(8, 3)),
        (ones(4, 16), ones(16, 4, dtype=np.float64)),
        (ones(4, 16, dtype=np.float64), ones(16, 4)),
        (ones(4, 16, dtype=np.int32), ones(16, 4, dtype=np.int32)),
        (ones(4, 16, dtype=">f4"), ones(16, 4, dtype=">f4")),
        (ones(16), ones(16, 4)),
        (ones(4, 16), ones(16)),
    ],
)
def test_what_does_not_fit_is_refused(product, a, b):
    """To go on would read memory behind the arrays, or take the bytes of one type for another."""
    with pytest.raises(ValueError, match="a, b: expected"):
        product(a, b)


@pytest.mark.parametrize("m", [15, 17, 64])
def test_a_product_that_is_not_square_is_not_symmetric(m):
    with pytest.raises(ValueError, match="a, b: expected"):
        symmetric_product(ones(m, 4), ones(4, 16))


@pytest.mark.parametrize(
    "other", [ones(8, 5), ones(32, 5), ones(16, 5 + columns_of(np.float32)), ones(16, 5, dtype=np.float64)]
)
def test_panels_of_another_matrix_are_refused(other):
    panels = pack_panels(other, columns_of(other.dtype))
    with pytest.raises(ValueError, match="panels: expected"):
        matrix_product(ones(4, 16), ones(16, 5), panels)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize("shape", [(300, 700, 90), (8, 4096, 512), (1000, 64, 33)])
def test_bits_do_not_depend_on_the_number_of_threads(shape):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    many = matrix_product(a, b)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = matrix_product(a, b)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(one, many)


@given(k=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_rounding_stays_within_the_bound_of_a_sum(k, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((3, k), np.float32), rng.standard_normal((k, 5), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = k * np.finfo(np.float32).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert (np.abs(matrix_product(a, b) - exact) <= bound).all()
