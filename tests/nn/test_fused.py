"""The fast path against the composition of the plain operations that it stands for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import add, batch_norm, cnn, cnn_inference, cnn_init, conv2d, fold_batch_norm, max_pool2d, relu
from refimpl.nn.fused import conv_norm_relu, conv_norm_relu_pool

from .gradients import assert_gradients

channels = st.one_of(st.integers(1, 5), st.integers(16, 20))  # from 16 on, Winograd's products
sizes = st.tuples(st.integers(1, 5), st.integers(2, 11), st.integers(2, 11), channels, st.integers(1, 40))


def draw_layer(size, dtype, seed, flat):
    """x, weight, gamma, beta, running. A flat picture has the same value everywhere: all maxima are ties."""
    n, h, w, c_in, c_out = size
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, h, w, c_in)) if not flat else np.ones((n, h, w, c_in))
    x[0] += 5  # means away from zero
    weight = rng.standard_normal((3, 3, c_in, c_out))
    gamma, beta, mean = rng.standard_normal((3, c_out))
    gamma[0] = 0
    running = (mean.astype(dtype), rng.uniform(0.5, 2, c_out).astype(dtype))
    return (*(a.astype(dtype) for a in (x, weight, gamma, beta)), running)


def close(found, expected, dtype):
    scale = max(1.0, float(np.abs(expected).max()))
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
    assert found.dtype == dtype


@given(size=sizes, seed=st.integers(0, 2**16), flat=st.booleans())
@settings(max_examples=30)
def test_pooled_layer_is_the_composition(size, seed, flat):
    x, weight, gamma, beta, running = draw_layer(size, np.float64, seed, flat)
    z, conv_pullback = conv2d(x, weight, padding=1)
    a, norm_pullback, moved = batch_norm(z, gamma, beta, *running, training=True)
    a, relu_pullback = relu(a)
    y, pool_pullback = max_pool2d(a, 2)
    found, pullback, found_running = conv_norm_relu_pool(x, weight, gamma, beta, running)
    close(found, y, np.float64)
    for one, other in zip(found_running, moved):
        close(one, other, np.float64)
    if flat:
        return  # the two round differently, and a tie is won by whoever rounds up: the gradient differs in place
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dz, dgamma, dbeta = norm_pullback(relu_pullback(pool_pullback(dy)))
    dx, dweight, _ = conv_pullback(dz)
    for one, other in zip(pullback(dy), (dx, dweight, dgamma, dbeta)):
        close(one, other, np.float64)


@given(
    size=sizes,
    seed=st.integers(0, 2**16),
    stride=st.integers(1, 3),
    activate=st.booleans(),
    with_shortcut=st.booleans(),
)
@settings(max_examples=30)
def test_layer_is_the_composition(size, seed, stride, activate, with_shortcut):
    x, weight, gamma, beta, running = draw_layer(size, np.float64, seed, False)
    z, conv_pullback = conv2d(x, weight, padding=1, stride=stride)
    rng = np.random.default_rng(seed)
    shortcut, dy = rng.standard_normal((2, *z.shape))
    if z[..., 0].size < 2:
        return
    y, norm_pullback, _ = batch_norm(z, gamma, beta, *running, training=True)
    y = add(y, shortcut)[0] if with_shortcut else y
    y, relu_pullback = relu(y) if activate else (y, lambda dy: dy)
    found, pullback, _ = conv_norm_relu(
        x, weight, gamma, beta, running, shortcut=shortcut if with_shortcut else None, stride=stride, activate=activate
    )
    close(found, y, np.float64)
    d = relu_pullback(dy)
    dz, dgamma, dbeta = norm_pullback(d)
    dx, dweight, _ = conv_pullback(dz)
    *gradients, dshortcut = pullback(dy)
    for one, other in zip(gradients, (dx, dweight, dgamma, dbeta)):
        close(one, other, np.float64)
    if with_shortcut:
        np.testing.assert_array_equal(dshortcut, d)


def test_float32_stays_float32_and_agrees_with_float64():
    wide, narrow = (draw_layer((4, 9, 8, 3, 33), dtype, 1, False) for dtype in (np.float64, np.float32))
    dy = np.random.default_rng(2).standard_normal((4, 4, 4, 33))
    y, pullback, _ = conv_norm_relu_pool(*wide)
    y32, pullback32, running32 = conv_norm_relu_pool(*narrow)
    close(y32, y, np.float32)
    assert all(r.dtype == np.float32 for r in running32)
    for one, other in zip(pullback32(dy.astype(np.float32)), pullback(dy)):
        close(one, other, np.float32)


def test_ties_give_the_gradient_to_the_first_pixel():
    """A picture of one colour, without padding: every window is a tie, in both forms of the layer."""
    x, weight, gamma, _, running = draw_layer((2, 6, 6, 2, 4), np.float64, 3, True)
    x, beta = np.ones_like(x), np.ones(4)
    z, conv_pullback = conv2d(x, weight)
    a, norm_pullback, _ = batch_norm(z, gamma, beta, *running, training=True)
    a, relu_pullback = relu(a)
    y, pool_pullback = max_pool2d(a, 2)
    found, pullback, _ = conv_norm_relu_pool(x, weight, gamma, beta, running, padding=0)
    close(found, y, np.float64)
    dy = np.random.default_rng(4).standard_normal(y.shape)
    dz, dgamma, dbeta = norm_pullback(relu_pullback(pool_pullback(dy)))
    dx, dweight, _ = conv_pullback(dz)
    assert np.abs(dx).max() > 1
    for one, other in zip(pullback(dy), (dx, dweight, dgamma, dbeta)):
        close(one, other, np.float64)


@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_the_plain_network(training):
    params, state = cnn_init(widths=(3, 4), embedding=5, size=(9, 8), seed=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in params.items()}
    x = rng.standard_normal((4, 9, 8, 3))
    _, pullback, _ = cnn(params, state, x, training=training)
    assert_gradients(cnn, params, state, x, training, pullback, rng)


@pytest.mark.parametrize("batch", [1, 3, 70])
def test_folded_plain_network_is_its_inference(batch):
    params, state = cnn_init(widths=(8, 40, 16), embedding=6, size=(17, 16), seed=2)
    rng = np.random.default_rng(3)
    params = {k: (p + 0.1 * rng.standard_normal(p.shape)).astype(np.float32) for k, p in params.items()}
    state = {k: (s + rng.uniform(0, 0.5, s.shape)).astype(np.float32) for k, s in state.items()}
    x = rng.standard_normal((batch, 17, 16, 3)).astype(np.float32)
    expected, _, _ = cnn(params, state, x, training=False)
    close(cnn_inference(fold_batch_norm(params, state), x), expected, np.float32)


def test_bad_images():
    params, state = cnn_init(widths=(4, 4), embedding=5, size=(8, 8), seed=0)
    folded = fold_batch_norm(params, state)
    for x, message in (
        (np.zeros((2, 3, 8, 3), np.float32), "4 x 4 pixels or more"),
        (np.zeros((2, 12, 8, 3), np.float32), "leave 16 features"),
        (np.zeros((2, 8, 8, 3)), "images: expected dtype float32"),
    ):
        with pytest.raises(ValueError, match=message):
            cnn(params, state, x, training=True)
        with pytest.raises(ValueError, match=message):
            cnn_inference(folded, x)
    with pytest.raises(ValueError, match="params: expected those of cnn_init"):
        cnn({}, {}, np.zeros((2, 8, 8, 3)), training=True)
