"""The axes of 4-bit codes: principal, dealt once each; as few parts as err no more than allowed; the error itself."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann.byte_shuffle import LARGEST, MOST_PARTS
from refimpl.ann.code_axes import LEFT, choose_parts, code_axes, expected_error, moments
from refimpl.ann.codebooks import deal, decode, encode, train_codebooks


def variances_of(d, decay, seed):
    return np.sort(np.random.default_rng(seed).random(d) * decay ** np.arange(d))[::-1]


@given(st.integers(1, 70), st.integers(1, 9), st.floats(0.5, 1), st.integers(0, 999))
def test_axes_are_dealt_once_and_evenly(d, m, decay, seed):
    variances = variances_of(d, decay, seed)
    dealt = deal(variances, m)
    assert sorted(dealt) == list(range(d))
    if d == 2 * m and variances[-1] > 1e-9:  # the largest with the smallest, and so on
        assert {tuple(sorted(pair)) for pair in dealt.reshape(m, 2)} == {(j, d - 1 - j) for j in range(m)}


@given(st.integers(1, 100), st.none() | st.integers(1, 40), st.floats(0.7, 1), st.integers(0, 999))
def test_the_fewest_parts_that_err_no_more_than_allowed(d, parts, decay, seed):
    variances = variances_of(d, decay, seed)
    allowed = LEFT[2] * variances.sum() ** 2 / d

    def least(m):
        return min(expected_error(variances, m, w) for w in LEFT if m * w <= d)

    m, width = choose_parts(variances, parts)
    assert 1 <= m * width <= d and expected_error(variances, m, width) == least(m)
    if parts is not None:
        assert m == min(parts, d)
    else:
        assert m == max(1, d // 2) or (m % 4 == 0 and m < d // 2 and least(m) <= allowed)
        assert all(least(fewer) > allowed for fewer in range(4, m, 4))


def test_no_more_parts_than_sixteen_bits_can_sum():
    assert choose_parts(np.ones(2048))[0] == MOST_PARTS
    assert MOST_PARTS * LARGEST < 2**16


def test_without_directions_half_as_many_parts_as_dimensions():
    assert choose_parts(np.ones(64)) == (32, 2)
    assert choose_parts(np.zeros(64))[0] == 4
    assert choose_parts(np.array([1.0] * 12 + [1e-6] * 52)) == (12, 1)


@given(
    n=st.integers(0, 60), d=st.integers(1, 20), rank=st.integers(0, 20), parts=st.none() | st.integers(1, 20),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_axes_are_orthonormal_and_hold_the_most(n, d, rank, parts, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, min(rank, d))) @ rng.standard_normal((min(rank, d), d))).astype(np.float32)
    axes, m = code_axes(x, parts)
    depth = axes.shape[1]
    assert axes.shape[0] == d and depth <= d and depth % m == 0
    np.testing.assert_allclose(axes.T @ axes, np.eye(depth), atol=1e-5)
    squares = np.linalg.eigvalsh(x.T.astype(np.float64) @ x)[::-1]
    np.testing.assert_allclose(((x @ axes) ** 2).sum(), squares[:depth].sum(), rtol=1e-4, atol=1e-6)


@given(
    parts=st.sampled_from([2, 4, 6]), width=st.sampled_from([1, 2, 4]), decay=st.floats(0.9, 1),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_the_expected_error_is_that_of_normal_vectors(parts, width, decay, seed):
    d = parts * width + 3
    variances = decay ** np.arange(d)
    x = (np.random.default_rng(seed).standard_normal((4000, d)) * np.sqrt(variances)).astype(np.float32)
    own = x[:, deal(variances[: parts * width], parts)]
    books = train_codebooks(own, parts, 4, 0)
    expected = expected_error(variances, parts, width)
    if expected == np.inf:  # more would be left of an axis than its variance
        assert LEFT[width] > 0.2
        return
    r = x.copy()
    r[:, deal(variances[: parts * width], parts)] -= decode(encode(own, books), books, parts * width)
    np.testing.assert_allclose((r**2 @ variances).mean(), expected, rtol=0.15)


@given(n=st.integers(0, 40), d=st.integers(1, 9), exponent=st.integers(-44, 38), seed=st.integers(0, 999))
def test_moments_of_any_size_are_those_of_float64(n, d, exponent, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (n, d))
    x = (x * min(10.0**exponent, 3e38)).astype(np.float32)
    expected = x.T.astype(np.float64) @ x.astype(np.float64)
    largest = np.abs(x).max(initial=0).astype(np.float64)
    np.testing.assert_allclose(moments(x), expected, rtol=0, atol=(n + 4) * 2.0**-23 * n * largest**2)
    np.testing.assert_array_equal(moments(x), moments(x).T)
    assert moments(x).dtype == np.float64
