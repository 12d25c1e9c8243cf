"""The fast path against the composition of the plain operations that it stands for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import add, batch_norm, cnn, cnn_inference, cnn_init, conv2d, fold_batch_norm, max_pool2d, relu
from refimpl.nn.fused import conv_norm_relu, conv_norm_relu_pool
from refimpl.nn.inference import FusedConvolution

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
        with pytest.raises(ValueError, match="x: expected at least 2 values a channel in training"):
            conv_norm_relu(x, weight, gamma, beta, running, stride=stride)
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


@pytest.mark.parametrize("channels", [2, 16])  # through all three kinds of products, with and without pooling
@pytest.mark.parametrize("size, stride", [((1, 2, 2), 3), ((1, 3, 3), 3)])
def test_one_value_a_channel_has_no_variance(channels, size, stride):
    x, weight, gamma, beta, running = draw_layer((*size, channels, channels), np.float64, 0, False)
    with pytest.raises(ValueError, match="x: expected at least 2 values a channel in training"):
        conv_norm_relu(x, weight, gamma, beta, running, stride=stride)
    with pytest.raises(ValueError, match="x: expected at least 2 values a channel in training"):
        conv_norm_relu_pool(x[:, :1, :1], weight, gamma, beta, running)


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
        (np.full((2, 8, 8, 3), np.nan, np.float32), "images: expected finite values, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            cnn(params, state, x, training=True)
        with pytest.raises(ValueError, match=message):
            cnn_inference(folded, x)
    with pytest.raises(ValueError, match="params: expected those of cnn_init"):
        cnn({}, {}, np.zeros((2, 8, 8, 3)), training=True)


LAYER = dict(zip(("x", "weight", "gamma", "beta", "running"), draw_layer((2, 6, 5, 3, 4), np.float64, 0, False)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weight": np.zeros((3, 3, 4, 3))}, r"weight: expected shape \(any, any, 3, any\), got \(3, 3, 4, 3\)"),
        ({"weight": LAYER["weight"].astype(np.float32)}, "weight: expected dtype float64"),
        ({"gamma": np.ones(3)}, r"gamma: expected shape \(4\)"),
        ({"beta": np.ones(1)}, r"beta: expected shape \(4\)"),
        ({"running": (np.zeros(4), np.ones(1))}, r"running_var: expected shape \(4\)"),
        ({"x": np.zeros((2, 1, 0, 3))}, "expected no empty axis"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    for layer in (conv_norm_relu, conv_norm_relu_pool):
        with pytest.raises(ValueError, match=message):
            layer(**(LAYER | changes))


def test_a_shortcut_and_a_gradient_have_the_shape_of_the_result():
    with pytest.raises(ValueError, match=r"shortcut: expected shape \(2, 6, 5, 4\), got \(2, 3, 2, 4\)"):
        conv_norm_relu(**LAYER, shortcut=np.zeros((2, 3, 2, 4)))
    with pytest.raises(ValueError, match="shortcut: expected dtype float64"):
        conv_norm_relu(**LAYER, shortcut=np.zeros((2, 6, 5, 4), np.float32))
    for layer in (conv_norm_relu, conv_norm_relu_pool):
        y, pullback, _ = layer(**LAYER)
        with pytest.raises(ValueError, match="dy: expected shape"):
            pullback(y[:, :1])


@pytest.mark.parametrize("layer", [conv_norm_relu, conv_norm_relu_pool])
def test_nan_stays_nan(layer):
    """A ReLU that makes 0 of it would hide a training that has diverged."""
    x = LAYER["x"].copy()
    x[1, 3, 2, 1] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(layer(**(LAYER | {"x": x}))[0]).all()


def draw_fused(c_in, c_out, n=2, size=(12, 9)):
    rng = np.random.default_rng(c_in)
    return [rng.standard_normal(s) for s in ((n, *size, c_in), (3, 3, c_in, c_out), c_out)]


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("pool", [True, False])
def test_fused_convolution_is_the_composition(channels, activate, pool):
    """The direct product (3 channels) and Winograd's (16) in every form, with a shortcut where that is allowed."""
    x, weight, bias = draw_fused(channels, 24)
    layer = FusedConvolution(weight, bias, padding=1, activate=activate, pool=pool)
    z, _ = conv2d(x, weight, bias, padding=1)
    shortcut = None if pool else np.random.default_rng(1).standard_normal(z.shape)
    z = z if pool else z + shortcut
    expected = relu(z)[0] if activate else z
    expected = max_pool2d(expected, 2)[0] if pool else expected
    assert (expected < 0).any() != activate
    close(layer(x, shortcut), expected, np.float64)


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("pool", [True, False])
def test_fused_convolution_keeps_nan(channels, pool):
    x, weight, bias = draw_fused(channels, 24)
    x[0, 4, 4, 1] = np.nan
    shortcut = None if pool else np.zeros((2, 12, 9, 24))
    y = FusedConvolution(weight, bias, padding=1, pool=pool)(x, shortcut)
    at = (0, 2, 2) if pool else (0, slice(3, 6), slice(3, 6))
    assert np.isnan(y[at]).all() and np.isfinite(y[1]).all()
    if not pool:
        np.testing.assert_array_equal(np.isnan(FusedConvolution(weight, bias, padding=1)(x)), np.isnan(y))


@pytest.mark.parametrize("channels", [3, 16])
def test_fused_convolution_refuses_what_does_not_fit(channels):
    x, weight, bias = draw_fused(channels, 24)
    layer = FusedConvolution(weight, bias, padding=1)
    for call, message in (
        (lambda: FusedConvolution(weight[0], bias), "weight: expected 4"),
        (lambda: FusedConvolution(weight, bias[1:]), r"bias: expected shape \(24\)"),
        (lambda: FusedConvolution(weight, bias.astype(np.float32)), "bias: expected dtype float64"),
        (lambda: layer(x[..., 1:]), rf"x: expected shape \(any, any, any, {channels}\)"),
        (lambda: layer(x[0]), "x: expected shape"),
        (lambda: layer(x.astype(np.float32)), "x: expected dtype float64, got float32"),
        (lambda: layer(x[:, :0]), "x, weight: expected no empty axis"),
        (lambda: FusedConvolution(weight, bias)(x[:, :2]), "x: expected images at least as large as the kernel"),
        (lambda: layer(x, np.zeros((2, 12, 9, 23))), r"shortcut: expected shape \(2, 12, 9, 24\)"),
        (lambda: layer(x, np.zeros((2, 12, 9, 24), np.float32)), "shortcut: expected .* float64, got"),
        (lambda: FusedConvolution(weight, bias, padding=1, pool=True)(x, np.zeros((2, 6, 4, 24))), "shortcut: .* pool"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    layer(x)  # the plan of this shape is known now
    with pytest.raises(ValueError, match="x: expected dtype float64"):
        layer(x.astype(np.float32))
