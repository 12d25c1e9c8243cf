"""Pictures with fewer pixels than the kernel has taps: the dense product against the plain convolution."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl.nn import conv2d, few_pixels

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(n=st.integers(1, 5), size=pairs, kernel=pairs, stride=pairs, padding=pairs, seed=st.integers(0, 2**16))
def test_is_the_plain_convolution(n, size, kernel, stride, padding, seed):
    padding = tuple(min(p - 1, k) for p, k in zip(padding, kernel))
    assume(all(a + 2 * p >= k for a, k, p in zip(size, kernel, padding)))
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((n, *size, 3)), rng.standard_normal((*kernel, 3, 2))
    y, pullback = conv2d(x, weight, stride=stride, padding=padding)
    found, few_pullback = few_pixels.convolve(x, weight, stride, padding)
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    dx, dweight, _ = pullback(dy)
    found_dx, found_dweight = few_pullback(dy, True)
    np.testing.assert_allclose(found_dx, dx, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found_dweight, dweight, rtol=0, atol=1e-12)
    assert few_pullback(dy, False)[0] is None
    assert found.shape == y.shape and found_dx.shape == x.shape and found_dweight.shape == weight.shape


def test_where_it_takes_fewer_products():
    """Each pair (pixel, result) has one tap at most, so that there are (pixels of x) products for each result."""
    for size, out in (((2, 2), (2, 2)), ((1, 1), (1, 1)), ((2, 4), (2, 4))):
        found = few_pixels.tap_pairs(size, out, (3, 3), (1, 1), (1, 1))
        assert len({(pixel, result) for pixel, result, _, _ in found}) == len(found)
    assert few_pixels.suits((5, 2, 4, 7), (3, 3, 7, 7)) and not few_pixels.suits((5, 3, 3, 7), (3, 3, 7, 7))
