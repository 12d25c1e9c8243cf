"""Muon: what orthogonalising leaves alone (directions, scale, transposition) and what it makes of singular values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import nn
from refimpl.nn.muon import COEFFICIENTS, RMS

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
matrices = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(-9, 9, width=16)))


def rounds_of(s, rounds):
    a, b, c = COEFFICIENTS
    for _ in range(rounds):
        s = a * s + b * s**3 + c * s**5
    return s


@given(matrices, st.integers(1, 6))
def test_replaces_each_singular_value_by_its_polynomial(matrix, rounds):
    """Against a decomposition: U p(S) V^T, S in units of the Frobenius norm."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s /= max(np.linalg.norm(s), np.finfo(float).tiny)
    found = nn.orthogonalize(matrix, rounds)
    assert found.shape == matrix.shape and found.dtype == np.float64
    np.testing.assert_allclose(found, (u * rounds_of(s, rounds)) @ vt, atol=1e-9)


def test_brings_singular_values_from_2_thousandths_on_near_1():
    s = np.geomspace(0.002, 1, 10001)
    assert rounds_of(s, 5).min() > 0.68 and rounds_of(s, 5).max() < 1.21


SCALES = {np.float32: [1e-30, 1e-3, 1e10, 1e36], np.float64: [1e-200, 1e200]}
scales = st.sampled_from([(dtype, scale) for dtype in SCALES for scale in SCALES[dtype]])


@given(matrices, scales, st.randoms(use_true_random=False))
def test_knows_neither_scale_nor_side_nor_basis(matrix, scale, random):
    dtype, scale = scale
    atol = 5e-3 if dtype == np.float32 else 1e-3  # what is near 0 grows by a^5 = 485, rounding included
    matrix = matrix.astype(dtype)
    found = nn.orthogonalize(matrix)
    assert found.dtype == dtype
    np.testing.assert_allclose(nn.orthogonalize(matrix * dtype(scale)), found, atol=atol)
    np.testing.assert_allclose(nn.orthogonalize(np.ascontiguousarray(matrix.T)).T, found, atol=atol)
    rows = random.sample(range(len(matrix)), len(matrix))
    np.testing.assert_allclose(nn.orthogonalize(matrix[rows]), found[rows], atol=atol)


@given(shapes)
def test_zeros_stay_zeros(shape):
    assert not nn.orthogonalize(np.zeros(shape, np.float32)).any()


def test_matrices_by_hand_and_vectors_as_adamw():
    rng = np.random.default_rng(0)
    params = {"bias": rng.standard_normal(3), "conv": rng.standard_normal((3, 3, 2, 5))}
    state, vectors = {}, {}
    velocity, weight, bias = np.zeros((18, 5)), params["conv"].reshape(18, 5), {"bias": params["bias"]}
    for _ in range(3):
        gradients = {name: rng.standard_normal(p.shape) for name, p in params.items()}
        params, state = nn.muon(params, gradients, state, learning_rate=0.1, momentum=0.5, weight_decay=0.2)
        g = gradients["conv"].reshape(18, 5)
        velocity = 0.5 * velocity + g
        weight = 0.98 * weight - 0.1 * RMS * 18**0.5 * nn.orthogonalize(g + 0.5 * velocity)
        bias, vectors = nn.adamw(bias, {"bias": gradients["bias"]}, vectors, learning_rate=0.1, weight_decay=0.2)
        np.testing.assert_allclose(params["conv"].reshape(18, 5), weight)
        np.testing.assert_array_equal(params["bias"], bias["bias"])
        assert list(params) == ["bias", "conv"]


def test_the_state_shares_no_memory_with_the_gradients():
    p, g = {"w": np.ones((3, 2))}, {"w": np.ones((3, 2))}
    _, state = nn.muon(p, g, {}, learning_rate=0.1)
    assert not np.shares_memory(state["velocity/w"], g["w"])


def test_a_step_has_the_size_of_adams():
    """Any gradient of full rank: elements of RMS 0.2 times the rate, within the bounds of the singular values."""
    for shape in ((40, 8), (8, 40), (16, 16)):
        gradient = np.random.default_rng(1).standard_normal(shape)
        new, _ = nn.muon({"w": np.zeros(shape)}, {"w": gradient}, {}, learning_rate=1.0)
        assert 0.68 * RMS < np.sqrt(np.mean(new["w"] ** 2)) < 1.21 * RMS


def test_wrong_arguments():
    p = {"w": np.ones((2, 2))}
    for name, value in (("learning_rate", -1.0), ("momentum", 1.0), ("weight_decay", -0.1)):
        with pytest.raises(ValueError, match=name):
            nn.muon(p, p, {}, **{"learning_rate": 0.1, name: value})
    with pytest.raises(ValueError, match="rounds"):
        nn.orthogonalize(p["w"], 0)
    with pytest.raises(ValueError, match="matrix"):
        nn.orthogonalize(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="matrix"):
        nn.orthogonalize(np.ones(3))
    with pytest.raises(ValueError, match="gradients"):
        nn.muon(p, {"v": p["w"]}, {}, learning_rate=0.1)
