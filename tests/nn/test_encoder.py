"""The residual network: its gradient, what its parameters say, folded inference, and training that goes somewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import (
    cnn,
    cnn_embedder,
    cnn_init,
    cosine_schedule,
    embedding_size,
    fold_batch_norm,
    l2_normalize,
    resnet,
    resnet_embedder,
    resnet_inference,
    resnet_init,
    sgd,
    whitened,
    whitened_embedder,
    whitened_init,
)
from refimpl.validation import NotFinite

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


def test_the_mean_over_many_pixels_does_not_drift():
    """A picture that is 10.1 at each of 512 x 512 pixels behind the first layer, and as much in the embedding."""
    folded = fold_batch_norm(*resnet_init(widths=(4,), embedding=4, seed=0))
    folded = {name: np.zeros_like(value) for name, value in folded.items()}
    folded["stem/conv/bias"] += np.float32(10.1)
    folded["head/weight"] += np.eye(4, dtype=np.float32)
    embeddings = resnet_inference(folded, np.zeros((1, 512, 512, 3), np.float32))
    np.testing.assert_array_equal(embeddings, np.full((1, 4), 10.1, np.float32))


@pytest.mark.parametrize("size", [(10, 10), (17, 9), (32, 32)])
@pytest.mark.parametrize("kind", ["resnet", "cnn", "whitened"])
def test_a_picture_alone_has_the_bits_it_has_in_a_batch(kind, size):
    """Layers of 16 channels or more are Winograd's at 10 x 10, 9 x 17 or 3 x 3 pixels, direct at 5 x 5 and 2 x 2."""
    x = images(70, size, np.float32)
    if kind == "resnet":
        embed = resnet_embedder(fold_batch_norm(*resnet_init(widths=(16, 24, 40), embedding=7, seed=3)))
    elif kind == "cnn":
        embed = cnn_embedder(fold_batch_norm(*cnn_init(widths=(16, 24, 40), embedding=7, size=size, seed=3)))
    else:
        embed = whitened_embedder(fold_batch_norm(*whitened_init(x, widths=(16, 24), seed=3)))
    batch = embed(x)
    for some in (slice(0, 1), slice(69, 70), slice(30, 32), slice(3, 50)):
        np.testing.assert_array_equal(embed(x[some]), batch[some])


def small_networks(x):
    """name: (encoder, embedder, parameters, state)"""
    return {
        "resnet": (resnet, resnet_embedder, *resnet_init(widths=(4, 8), embedding=5, seed=0)),
        "cnn": (cnn, cnn_embedder, *cnn_init(widths=(4, 8), embedding=5, size=x.shape[1:3], seed=0)),
        "whitened": (whitened, whitened_embedder, *whitened_init(x, widths=(4, 8), seed=0)),
    }


@pytest.mark.parametrize("kind", ["resnet", "cnn", "whitened"])
def test_a_gradient_that_does_not_fit_is_refused_and_embeddings_are_the_callers_own(kind):
    x = images(3, (16, 16), np.float32)
    encoder, _, params, state = small_networks(x)[kind]
    z, pullback, _ = encoder(params, state, x, training=True)
    dy = np.random.default_rng(0).standard_normal(z.shape).astype(np.float32)
    expected = pullback(dy)
    for wrong in (dy.T, dy.ravel(), dy[:1], dy.astype(np.float64)):
        with pytest.raises(ValueError, match="expected (shape|dtype)"):
            pullback(wrong)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = pullback(dy)
    for name, gradient in expected.items():
        np.testing.assert_array_equal(found[name], gradient, err_msg=name)


@pytest.mark.parametrize("kind", ["resnet", "cnn", "whitened"])
def test_an_array_that_is_missing_is_named(kind):
    """All but the weights of convolutions, which say how many layers there are: with fewer, others do not fit."""
    x = images(3, (16, 16), np.float32)
    encoder, embedder, params, state = small_networks(x)[kind]
    norms = {name: value for name, value in state.items() if "norm" in name}
    for argument, arrays, call in (
        ("params", params, lambda less: encoder(less, state, x, training=True)),
        ("state", state, lambda less: encoder(params, less, x, training=False)),
        ("state", norms, lambda less: fold_batch_norm(params, less)),
        ("folded", fold_batch_norm(params, state), lambda less: embedder(less)(x)),
    ):
        for name in arrays:
            layer = "/weight" in name and not name.startswith("head")
            with pytest.raises(ValueError, match=None if layer else f"{argument}: expected an array '{name}'"):
                call({key: value for key, value in arrays.items() if key != name})


def test_parameters_that_do_not_fit_each_other_are_refused():
    """To go on would read memory behind the arrays."""
    x = images(2, (8, 8), np.float32)
    swapped = resnet_init(widths=(4, 8), seed=0)
    swapped[0]["stage0/block0/conv1/weight"] = np.zeros((3, 3, 8, 4), np.float32)
    without = resnet_init(widths=(4, 32), seed=0)
    del without[0]["stage1/block0/shortcut/weight"]
    for network, message in ((swapped, "expected shape"), (without, "shortcut")):
        with pytest.raises(ValueError, match=message):
            resnet(*network, x, training=True)
        embed = resnet_embedder(fold_batch_norm(*network))
        with pytest.raises(ValueError, match=message):
            embed(x)


@pytest.mark.parametrize("rows", [8, 32])
def test_a_head_of_other_features_is_refused(rows):
    folded = fold_batch_norm(*resnet_init(widths=(4, 16), embedding=5, seed=0))
    with pytest.raises(ValueError, match=rf"head/weight: expected shape \(16, any\), got \({rows}, 5\)"):
        resnet_embedder(folded | {"head/weight": np.zeros((rows, 5), np.float32)})
    flat = fold_batch_norm(*cnn_init(widths=(4, 16), embedding=5, size=(4, 4), seed=0))
    embed = cnn_embedder(flat | {"head/weight": np.zeros((rows, 5), np.float32)})
    with pytest.raises(ValueError, match=f"images: expected pictures that leave {rows} features"):
        embed(images(1, (4, 4), np.float32))
    for make, parts in ((resnet_embedder, folded), (cnn_embedder, flat)):
        with pytest.raises(ValueError, match=r"head/bias: expected shape \(5\)"):
            make(parts | {"head/bias": np.zeros(1, np.float32)})
        with pytest.raises(ValueError, match="head/weight: expected dtype float32"):
            make(parts | {"head/weight": np.zeros((16, 5))})


@pytest.mark.parametrize("name", ["params", "state"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_folded(name, bad):
    parts = dict(zip(("params", "state"), resnet_init(**SMALL)))
    for key, value in list(parts[name].items()):
        changed = value.copy()
        changed.flat[-1] = bad
        with pytest.raises(NotFinite, match=f"{name}.*{key}.*: expected finite values, got {bad}"):
            fold_batch_norm(**(parts | {name: parts[name] | {key: changed}}))


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
        (np.full((2, 8, 8, 3), np.inf, np.float32), "images: expected finite values, got inf"),
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
    for embedder in (resnet_embedder, cnn_embedder):
        with pytest.raises(ValueError, match="folded: expected parameters of"):
            embedder({"layer0/weight": np.zeros((2, 2))})
