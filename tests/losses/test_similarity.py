"""Similarities against their formulas, their pullbacks against differences; copies of a point are at distance 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import losses
from refimpl.nn import gradient_check

from . import definitions

FORMULA = {
    losses.dot_similarity: definitions.dot,
    losses.cosine_similarity: lambda a, b: definitions.dot(definitions.unit(a), definitions.unit(b)),
    losses.squared_distance: lambda a, b: definitions.distance(a, b) ** 2,
    losses.euclidean_distance: definitions.distance,
}
similarities = pytest.mark.parametrize("similarity", FORMULA, ids=lambda f: f.__name__)
seeds, sizes = st.integers(0, 2**32 - 1), st.integers(1, 6)


def draw(seed, n, m, d, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)


@similarities
@given(seed=seeds, n=sizes, m=sizes, d=sizes)
def test_value_and_pullback(similarity, seed, n, m, d):
    x, y = draw(seed, n, m, d)
    s, _ = similarity(x, y)
    np.testing.assert_allclose(s, [[FORMULA[similarity](a, b) for b in y] for a in x], rtol=1e-12, atol=1e-12)
    if d > 1:  # on a line, cosine is +-1 with slope 0, and differences are all rounding
        assert gradient_check(similarity, [x, y], seed=seed).direction < 1e-6


@similarities
def test_float32_stays_float32(similarity):
    x, y = draw(0, 5, 4, 33, np.float32)
    s, pullback = similarity(x, y)
    exact, through = similarity(x.astype(np.float64), y.astype(np.float64))
    assert s.dtype == np.float32 and s.shape == (5, 4)
    np.testing.assert_allclose(s, exact, rtol=1e-5, atol=1e-5)
    for found, expected in zip(pullback(s), through(exact)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@given(seed=seeds, offset=st.sampled_from([0.0, 1e3, 1e6]))
def test_copies_are_at_distance_0_wherever_they_are(seed, offset):
    x, y = draw(seed, 4, 3, 5, np.float32)
    x, y = x + np.float32(offset), y + np.float32(offset)
    y[1] = x[2]
    for distance in (losses.squared_distance, losses.euclidean_distance):
        s, pullback = distance(x, y)
        assert s[2, 1] == 0
        only = np.zeros_like(s)
        only[2, 1] = 1
        assert not pullback(only)[0].any() and not pullback(only)[1].any()


def test_near_points_far_from_the_origin_keep_their_distance():
    """Where |x|^2 + |y|^2 - 2 x.y would leave nothing of float32."""
    x = np.full((1, 8), 1000, np.float32)
    y = x + np.float32(0.5)
    s, pullback = losses.euclidean_distance(x, y)
    np.testing.assert_allclose(s, np.sqrt(8) / 2, rtol=1e-6)
    np.testing.assert_allclose(pullback(np.ones_like(s))[1], 1 / np.sqrt(8), rtol=1e-6)


@given(seed=seeds, n=sizes)
def test_unit_vectors_rank_alike_and_lengths_make_the_difference(seed, n):
    x, y = draw(seed, n, 7, 4)
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    orders = [np.argsort(-losses.dot_similarity(x, y)[0]), np.argsort(-losses.cosine_similarity(x, y)[0])]
    orders += [np.argsort(losses.euclidean_distance(x, y)[0])]
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])
    squared = losses.squared_distance(x, y)[0]
    np.testing.assert_allclose(squared, 2 - 2 * losses.dot_similarity(x, y)[0], atol=1e-12)


def test_a_zero_vector_is_similar_to_nothing():
    s, pullback = losses.cosine_similarity(np.zeros((1, 3)), np.ones((2, 3)))
    assert not s.any()
    assert all(np.isfinite(g).all() for g in pullback(np.ones_like(s)))


@similarities
def test_bad_input_is_named(similarity):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"y: expected shape \(any, 3\), got \(2, 2\)"):
        similarity(x, x[:, :2])
    with pytest.raises(ValueError, match="y: expected dtype float64"):
        similarity(x, x.astype(np.float32))
    with pytest.raises(ValueError, match="x: expected finite"):
        similarity(x * np.nan, x)
    with pytest.raises(ValueError, match="x: expected at least 1 row"):
        similarity(x[:0], x)
    with pytest.raises(ValueError, match="ds"):
        similarity(x, x)[1](np.ones(2))
    if similarity is not losses.cosine_similarity:
        with pytest.raises(ValueError, match="overflows"):
            similarity(1e300 * x, -1e300 * x)


def test_the_same_bits_for_one_row_as_for_many():
    x, y = draw(1, 9, 7, 20, np.float32)
    for similarity in FORMULA:
        whole = similarity(x, y)[0]
        for i in range(9):
            np.testing.assert_array_equal(similarity(x[i : i + 1], y)[0][0], whole[i])
