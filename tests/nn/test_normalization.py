"""Normalisation: statistics, running averages, and gradients against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import batch_norm, gradient_check, group_norm, layer_norm

shapes = st.one_of(
    st.tuples(st.integers(2, 6), st.integers(1, 5)),
    st.tuples(st.integers(2, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
)


def draw_arrays(shape, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    c = shape[-1]
    x, gamma, beta, mean = (rng.standard_normal(s) for s in (shape, c, c, c))
    gamma += np.copysign(0.2, gamma)  # near 0, dx would drown in the rounding of the values that are differenced
    return [a.astype(dtype) for a in (x, gamma, beta, mean, rng.uniform(0.5, 2, c))]


@pytest.mark.parametrize("training", [True, False])
@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=25)
def test_gradients_of_batch_norm(training, shape, seed):
    x, gamma, beta, mean, variance = draw_arrays(shape, seed)

    def function(x, gamma, beta):
        return batch_norm(x, gamma, beta, mean, variance, training=training, eps=1e-2)

    assert max(gradient_check(function, (x, gamma, beta), seed=seed, elements=5)) < 1e-6


@given(shape=shapes, groups=st.integers(1, 3), seed=st.integers(0, 2**16))
@settings(max_examples=25)
def test_gradients_of_group_and_layer_norm(shape, groups, seed):
    x, gamma, beta, *_ = draw_arrays((*shape[:-1], shape[-1] * groups), seed)

    def grouped(x, gamma, beta):
        return group_norm(x, gamma, beta, groups, eps=1e-2)

    def by_row(x, gamma, beta):
        return layer_norm(x, gamma, beta, eps=1e-2)

    assert max(gradient_check(grouped, (x, gamma, beta), seed=seed, elements=5)) < 1e-6
    assert max(gradient_check(by_row, (x, gamma, beta), seed=seed, elements=5)) < 1e-6


@given(shape=shapes, seed=st.integers(0, 2**16))
def test_batch_norm_in_training(shape, seed):
    x, gamma, beta, mean, variance = draw_arrays(shape, seed)
    y, _, (new_mean, new_variance) = batch_norm(x, gamma, beta, mean, variance, training=True, momentum=0.3, eps=1e-9)
    rows, m = x.reshape(-1, shape[-1]), x.size // shape[-1]
    np.testing.assert_allclose(y.reshape(m, -1).mean(0), beta, atol=1e-6)
    np.testing.assert_allclose(y.reshape(m, -1).std(0), np.abs(gamma), atol=1e-3)
    np.testing.assert_allclose(new_mean, 0.7 * mean + 0.3 * rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(new_variance, 0.7 * variance + 0.3 * rows.var(0, ddof=1), atol=1e-12)


@given(shape=shapes, seed=st.integers(0, 2**16), scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_norms_ignore_scale_and_shift_of_their_input(shape, seed, scale, shift):
    x, gamma, beta, mean, variance = draw_arrays((shape[0] + 2, *shape[1:-1], shape[-1] + 3), seed)

    def norms(x):
        return (
            batch_norm(x, gamma, beta, mean, variance, training=True, eps=1e-12)[0],
            layer_norm(x, gamma, beta, eps=1e-12)[0],
            group_norm(x, gamma, beta, 1, eps=1e-12)[0],
        )

    for plain, moved in zip(norms(x), norms(scale * x + shift)):
        np.testing.assert_allclose(moved, plain, atol=1e-6)


@pytest.mark.parametrize("value", [10.1, -3.3])
def test_sums_over_many_pixels_do_not_drift(value):
    """In float32, a running sum of 262,144 equal values is off in its third digit."""
    x = np.full((256, 32, 32, 2), value, np.float32)
    one, beta = np.ones(2, np.float32), np.array([0.5, -2], np.float32)
    y, pullback, running = batch_norm(x, one, beta, 0 * one, one, training=True, momentum=1.0)
    np.testing.assert_allclose(y, np.broadcast_to(beta, x.shape), rtol=0, atol=1e-3)
    np.testing.assert_allclose(running[0], value, rtol=1e-6)
    np.testing.assert_allclose(running[1], 0, atol=1e-6)
    dx, dgamma, dbeta = pullback(x)
    np.testing.assert_allclose(dbeta, value * 256 * 32 * 32, rtol=1e-6)
    assert all(a.dtype == np.float32 for a in (y, *running, dx, dgamma, dbeta))
    for norm in (lambda x: layer_norm(x, one, beta), lambda x: group_norm(x, one, beta, 2)):
        dgamma, dbeta = norm(x)[1](x)[1:]
        np.testing.assert_allclose(dbeta, value * 256 * 32 * 32, rtol=1e-6)
        assert dgamma.dtype == dbeta.dtype == np.float32
    y, _ = group_norm(x.reshape(1, -1, 2), one, beta, 2)
    np.testing.assert_allclose(y, np.broadcast_to(beta, y.shape), rtol=0, atol=1e-3)
    assert y.dtype == np.float32


def test_inference_uses_and_keeps_the_running_statistics():
    x, gamma, beta, mean, variance = draw_arrays((3, 2, 2, 4), 0, np.float32)
    y, _, running = batch_norm(x, gamma, beta, mean, variance, training=False)
    np.testing.assert_allclose(y, gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, rtol=1e-5)
    assert y.dtype == np.float32 and running[0] is mean and running[1] is variance


def test_groups_do_not_see_each_other():
    x, gamma, beta, *_ = draw_arrays((2, 3, 3, 6), 1)
    y, _ = group_norm(x, gamma, beta, 3)
    x[..., :2] = 5
    changed, _ = group_norm(x, gamma, beta, 3)
    np.testing.assert_array_equal(changed[..., 2:], y[..., 2:])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x": np.zeros(4)}, "x: expected 2 or more dimensions"),
        ({"gamma": np.zeros(3)}, r"gamma: expected shape \(4\), got \(3,\)"),
        ({"running_var": np.zeros(4, np.float32)}, "running_var: expected dtype float64, got float32"),
        ({"x": np.zeros((1, 4))}, r"at least 2 values a channel in training, got shape \(1, 4\)"),
        ({"eps": 0}, "eps: expected a finite number > 0"),
        ({"momentum": 2}, "momentum: expected a finite number"),
    ],
)
def test_bad_input(changes, message):
    names = ("gamma", "beta", "running_mean", "running_var")
    arguments = {"x": np.zeros((3, 4)), **{name: np.zeros(4) for name in names}, "training": True}
    with pytest.raises(ValueError, match=message):
        batch_norm(**(arguments | changes))


def test_no_channels_are_refused():
    x, none = np.zeros((3, 0)), np.zeros(0)
    for call in (
        lambda: batch_norm(x, none, none, none, none, training=True),
        lambda: batch_norm(x, none, none, none, none, training=False),
        lambda: layer_norm(x, none, none),
        lambda: group_norm(x, none, none, 1),
    ):
        with pytest.raises(ValueError, match=r"x: expected .* a channel or more, got shape \(3, 0\)"):
            call()


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="groups: expected a divisor of the 4 channels, got 3"):
        group_norm(np.zeros((2, 4)), np.zeros(4), np.zeros(4), 3)
