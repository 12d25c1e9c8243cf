"""The residual network: its gradient, what its parameters say, folded inference, and training that goes somewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import (
    cnn,
    cnn_init,
    cosine_schedule,
    embedding_size,
    fold_batch_norm,
    l2_normalize,
    resnet,
    resnet_inference,
    resnet_init,
    sgd,
    whitened,
    whitened_init,
)

from .gradients import assert_gradients

SMALL = {"widths": (3, 5), "blocks": 2, "embedding": 4, "seed": 0}


def images(n, size, dtype, seed=1):
    return np.random.default_rng(seed).standard_normal((n, *size, 3)).astype(dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_gradient_of_the_whole_network(training, size):
    params, state = resnet_init(**SMALL, dtype=np.float64)
    rng = np.random.default_rng(2)
    params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in params.items()}
    x = images(3, size, np.float64)
    _, pullback, _ = resnet(params, state, x, training=training)
    assert_gradients(resnet, params, state, x, training, pullback, rng)


def test_sizes_of_the_family():
    assert sum(p.size for p in resnet_init(widths=(16, 32, 64), embedding=64, seed=0)[0].values()) < 100_000
    params, _ = resnet_init(widths=(64, 128, 256, 512), blocks=2, embedding=10, seed=0)
    assert sum(p.size for p in params.values()) == 11_173_962  # CIFAR ResNet-18: 11.17 million


@settings(max_examples=20, deadline=None)
@given(widths=st.lists(st.integers(1, 9), min_size=1, max_size=3), d=st.integers(1, 9))
def test_embedding_size_is_that_of_what_the_encoder_gives(widths, d):
    x = images(2, (17, 17), np.float32)
    for encoder, (params, state) in (
        (resnet, resnet_init(widths=widths, embedding=d, seed=0)),
        (cnn, cnn_init(widths=widths, embedding=d, size=(17, 17), seed=0)),
        (whitened, whitened_init(x, widths=widths, seed=0)),
    ):
        embeddings, _, _ = encoder(params, state, x, training=False)
        assert embeddings.shape == (2, embedding_size(params))


@pytest.mark.parametrize("params", [{}, {"layer0/weight": np.zeros((2, 3), np.float32)}])
def test_embedding_size_of_what_is_no_encoder(params):
    with pytest.raises(ValueError, match="params"):
        embedding_size(params)


@pytest.mark.parametrize("size", [(8, 8), (13, 9), (32, 32)])
def test_folded_inference_is_inference(size):
    params, state = resnet_init(widths=(8, 16, 40), embedding=7, seed=3)
    rng = np.random.default_rng(4)
    params = {k: (p + 0.1 * rng.standard_normal(p.shape)).astype(np.float32) for k, p in params.items()}
    state = {k: (s + rng.uniform(0, 0.5, s.shape)).astype(np.float32) for k, s in state.items()}
    x = images(5, size, np.float32)
    expected, _, unchanged = resnet(params, state, x, training=False)
    found = resnet_inference(fold_batch_norm(params, state), x)
    assert found.dtype == np.float32 and found.shape == (5, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert all(np.array_equal(unchanged[name], state[name]) for name in state)


def test_inference_of_a_batch_is_that_of_its_images():
    folded = fold_batch_norm(*resnet_init(widths=(8, 16), embedding=7, seed=3))
    x = images(4, (10, 10), np.float32)
    batch = resnet_inference(folded, x)
    np.testing.assert_allclose(resnet_inference(folded, x[2:3])[0], batch[2], rtol=1e-5, atol=1e-6)


def test_training_separates_two_kinds_of_pictures():
    """Stripes across against stripes down, told apart by the first component of the embedding."""
    params, state = resnet_init(widths=(8, 16), embedding=2, seed=0)
    rng = np.random.default_rng(0)
    stripes = np.broadcast_to(np.sin(np.arange(12) * 1.5)[:, None, None], (12, 12, 3))
    x = np.stack([stripes if i % 2 else stripes.transpose(1, 0, 2) for i in range(32)])
    x = (x + rng.normal(0, 1, x.shape)).astype(np.float32)
    signs = np.where(np.arange(32) % 2, 1, -1).astype(np.float32)
    opt_state = {}
    for step in range(20):
        z, pullback, state = resnet(params, state, x, training=True)
        y, normalize_pullback = l2_normalize(z)
        gradients = pullback(normalize_pullback(np.stack([-signs / 32, np.zeros_like(signs)], axis=1)))
        rate = cosine_schedule(step, 20, 0.1, warmup=3)
        params, opt_state = sgd(params, gradients, opt_state, learning_rate=rate, momentum=0.9, nesterov=True)
    assert (y[:, 0] * signs).mean() > 0.9


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((2, 7, 8, 3), np.float32), "8 x 8 pixels or more"),
        (np.zeros((2, 8, 8, 4), np.float32), r"images: expected shape"),
        (np.zeros((2, 8, 8, 3), np.float64), "images: expected dtype float32"),
    ],
)
def test_bad_images(x, message):
    params, state = resnet_init(**SMALL)
    with pytest.raises(ValueError, match=message):
        resnet(params, state, x, training=True)
    with pytest.raises(ValueError, match=message):
        resnet_inference(fold_batch_norm(params, state), x)


def test_parameters_of_something_else():
    with pytest.raises(ValueError, match="params: expected those of a residual network"):
        resnet({"layer0/weight": np.zeros((2, 2))}, {}, np.zeros((1, 8, 8, 3)), training=False)
