"""The whitened network: its first layer whitens, its new layers copy, its gradient, folded inference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.nn import (
    conv2d,
    fold_batch_norm,
    patch_whitening,
    whitened,
    whitened_embedder,
    whitened_init,
    whitened_maps,
)
from refimpl.nn.whitened import EPSILON

from .gradients import assert_gradients


def smooth(n, size, channels, seed):
    """Pictures whose neighbouring pixels nearly agree: running sums of noise, of mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *size, channels)).cumsum(1).cumsum(2)
    return (x - x.mean()) / x.std()


@given(st.integers(1, 3), st.tuples(*[st.integers(2, 9)] * 2), st.integers(0, 2**32 - 1))
def test_whitened_patches_are_uncorrelated(channels, size, seed):
    """Their second moments are diag(s / (s + epsilon)): 1 for every direction that is not noise."""
    x = smooth(30, size, channels, seed)
    filters = patch_whitening(x)
    half = 4 * channels
    assert filters.shape == (2, 2, channels, 2 * half)
    np.testing.assert_array_equal(filters[..., :half], -filters[..., half:])
    z = conv2d(x, filters)[0].reshape(-1, 2 * half)[:, :half]
    moments = z.T @ z / len(z)
    variances = 1 / (filters[..., :half] ** 2).sum((0, 1, 2)) - EPSILON  # of unit directions over sqrt(s + epsilon)
    np.testing.assert_allclose(moments, np.diag(variances / (variances + EPSILON)), atol=1e-6)


@given(arrays(np.float32, (2, 3, 3, 1), elements=st.floats(-2, 2, width=32)))
def test_any_pictures_give_finite_filters(x):
    """Constant ones too, whose patches have one direction at most."""
    filters = patch_whitening(x)
    assert filters.dtype == np.float32 and np.isfinite(filters).all()


def test_new_layers_copy_their_input():
    """The first outputs of every convolution are its inputs, the others random ones of the usual size."""
    x = smooth(2, (9, 9), 1, 0)
    params, _ = whitened_init(x, widths=(12, 20), seed=1, dtype=np.float64)
    for i, (c_in, c_out) in enumerate([(8, 12), (12, 12), (12, 20), (20, 20)]):
        weight = params[f"conv{i}/weight"]
        assert weight.shape == (3, 3, c_in, c_out)
        pixels = np.random.default_rng(i).standard_normal((2, 6, 5, c_in))
        np.testing.assert_array_equal(conv2d(pixels, weight, padding=1)[0][..., :c_in], pixels)
        others = weight[..., c_in:]
        assert (others != 0).all() and (np.abs(others) <= 1 / np.sqrt(9 * c_in)).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(5, 5), (10, 7)])
def test_gradient_of_the_whole_network(training, size):
    x = smooth(4, size, 2, 3)
    params, state = whitened_init(x, widths=(3, 5), seed=0, dtype=np.float64)
    rng = np.random.default_rng(2)
    params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in params.items()}
    y, pullback, _ = whitened(params, state, x, training=training)
    assert y.shape == (4, 5)
    assert_gradients(whitened, params, state, x, training, pullback, rng)


@pytest.mark.parametrize("n, size", [(1, (5, 6)), (3, (17, 16)), (40, (32, 32))])
def test_folded_inference_is_inference(n, size):
    x = smooth(n, size, 3, 4).astype(np.float32)
    params, state = whitened_init(x, widths=(16, 40), seed=0)
    rng = np.random.default_rng(5)
    params = {k: (p + 0.05 * rng.standard_normal(p.shape)).astype(np.float32) for k, p in params.items()}
    state = {
        k: s if k.startswith("whitening") else s + rng.uniform(0, 0.5, s.shape).astype(np.float32)
        for k, s in state.items()
    }
    expected, _, unchanged = whitened(params, state, x, training=False)
    found = whitened_embedder(fold_batch_norm(params, state))(x)
    assert found.dtype == np.float32 and found.shape == (n, 40)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert all(np.array_equal(unchanged[name], state[name]) for name in state)


def test_maps_are_the_callers_own():
    x = smooth(6, (9, 9), 3, 7).astype(np.float32)
    maps = whitened_maps(fold_batch_norm(*whitened_init(x, widths=(64, 64), seed=0)))
    first = maps(x)
    kept = first.copy()
    assert not np.shares_memory(maps(-x), first)
    np.testing.assert_array_equal(first, kept)


def test_training_moves_the_statistics_and_not_the_whitening():
    x = smooth(8, (9, 9), 3, 6).astype(np.float32)
    params, state = whitened_init(x, widths=(8, 8), seed=0)
    _, _, moved = whitened(params, state, x, training=True)
    changed = {name for name in state if not np.array_equal(state[name], moved[name])}
    assert changed == set(state) - {"whitening/weight"}


def test_wrong_arguments():
    x = smooth(2, (9, 9), 3, 0).astype(np.float32)
    params, state = whitened_init(x, widths=(8, 8), seed=0)
    embed = whitened_embedder(fold_batch_norm(params, state))
    for call in (lambda x: whitened(params, state, x, training=True), embed):
        with pytest.raises(ValueError, match="5 x 5 pixels or more"):
            call(x[:, :4])
        with pytest.raises(ValueError, match="images: expected dtype float32"):
            call(x.astype(np.float64))
        with pytest.raises(ValueError, match="images: expected finite values, got nan"):
            call(x * np.float32(np.nan))
    for changes, message in (({"widths": ()}, "widths"), ({"widths": (0,)}, "widths")):
        with pytest.raises(ValueError, match=message):
            whitened_init(x, **{"seed": 0, **changes})
    for bad, message in ((x[0], "expected 4"), ((255 * x).astype(np.uint8), "dtype"), (x * np.nan, "finite")):
        with pytest.raises(ValueError, match=message):
            patch_whitening(bad)
    with pytest.raises(ValueError, match="2 x 2 pixels or more"):
        whitened_init(x[:, :1], seed=0)
    with pytest.raises(ValueError, match="params: expected those of whitened_init"):
        whitened({"stem/conv/weight": x}, state, x, training=True)
