"""Activations, dense operations and penalties: values, gradients, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import nn
from refimpl.nn import gradient_check

SMOOTH = {
    "gelu": nn.gelu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
    "l2_normalize": nn.l2_normalize,
}
KINKED = {"relu": nn.relu, "leaky_relu": nn.leaky_relu, "elu": nn.elu}
shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))


def draw(shape, seed, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", SMOOTH)
@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_smooth_gradients(name, shape, seed):
    x = draw(shape if name != "l2_normalize" else (shape[0], shape[1] + 2), seed)
    errors = gradient_check(SMOOTH[name], (x,), seed=seed + 1)  # the same seed would draw dy = x
    assert errors.element < 1e-7
    # In one class softmax is constant: both slopes are 0 but for rounding, and their ratio says nothing.
    assert errors.direction < 1e-6 or x.shape[-1] == 1


@pytest.mark.parametrize("name", KINKED)
@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_gradients_with_kinks(name, shape, seed):
    x = draw(shape, seed)
    x += 0.1 * np.sign(x)  # away from the kink
    assert max(gradient_check(KINKED[name], (x,), seed=seed)) < 1e-5


@pytest.mark.parametrize("name", [*SMOOTH, *KINKED])
def test_float32_stays_float32(name):
    x = draw((3, 4), 0, np.float32)
    y, pullback = (SMOOTH | KINKED)[name](x)
    wide, _ = (SMOOTH | KINKED)[name](x.astype(np.float64))
    assert y.dtype == pullback(x).dtype == np.float32
    np.testing.assert_allclose(y, wide, rtol=2e-6, atol=1e-6)


def test_values_at_the_ends():
    x = np.array([[-1e4, -50.0, 0.0, 50.0, 1e4]])
    np.testing.assert_allclose(nn.sigmoid(x)[0], [[0, 1.928749847963918e-22, 0.5, 1, 1]])
    np.testing.assert_allclose(nn.softmax(x)[0], [[0, 0, 0, 0, 1]])
    np.testing.assert_allclose(nn.log_softmax(x)[0], x - 1e4)
    np.testing.assert_allclose(nn.elu(x)[0], [[-1, -1, 0, 50, 1e4]])
    np.testing.assert_allclose(nn.gelu(x)[0], [[0, 0, 0, 50, 1e4]])
    np.testing.assert_allclose(nn.leaky_relu(x, 0.5)[0], [[-5e3, -25, 0, 50, 1e4]])


@given(shape=shapes, d=st.integers(1, 5), seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_gradients_of_linear_add_and_mlp(shape, d, seed):
    x, weight, bias = draw(shape, seed), draw((shape[1], d), seed + 1), draw(d, seed + 2)
    y, _ = nn.linear(x, weight, bias)
    expected = [[bias[k] + sum(row[j] * weight[j, k] for j in range(len(row))) for k in range(d)] for row in x]
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert max(gradient_check(nn.linear, (x, weight, bias), seed=seed)) < 1e-7
    assert max(gradient_check(nn.add, (x, x + 1), seed=seed)) < 1e-7
    params = nn.mlp_init((shape[1], 7, d), seed=seed, dtype=np.float64)

    def head(x, *values):
        y, pullback = nn.mlp(dict(zip(params, values)), x)

        def flat(dy):
            dx, gradients = pullback(dy)
            return dx, *gradients.values()

        return y, flat

    assert gradient_check(head, (x, *params.values()), seed=seed, step=1e-7).direction < 1e-5


def test_the_gradient_of_a_bias_over_many_rows_does_not_drift():
    """262,144 equal values: in float32, one after the other, they are off in the third digit."""
    x = np.full((262_144, 2), 10.1, np.float32)
    dbias = nn.linear(x, np.eye(2, dtype=np.float32), np.zeros(2, np.float32))[1](x)[2]
    np.testing.assert_allclose(dbias, 10.1 * 262_144, rtol=1e-6)
    assert dbias.dtype == np.float32


def test_lengths_of_all_sizes_are_normalised():
    x = np.array([[3e-30, 4e-30], [3e30, 4e30], [3.0, 4.0], [0.0, 0.0]], np.float32)
    y, pullback = nn.l2_normalize(x, eps=1e-35)
    np.testing.assert_allclose(y, [[0.6, 0.8]] * 3 + [[0, 0]], rtol=1e-6)
    assert np.isfinite(pullback(np.ones_like(y))[:3]).all()


def test_dropout_keeps_the_mean_and_its_mask():
    x = np.ones((400, 50), np.float32)
    y, pullback = nn.dropout(x, 0.3, np.random.default_rng(0))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)} and y.dtype == np.float32
    assert abs(y.mean() - 1) < 0.02 and abs((y == 0).mean() - 0.3) < 0.01
    np.testing.assert_array_equal(pullback(x), y)
    np.testing.assert_array_equal(nn.dropout(x, 0.3, np.random.default_rng(0))[0], y)
    np.testing.assert_array_equal(nn.dropout(x, 0.0, np.random.default_rng(0))[0], x)


@given(shape=shapes, seed=st.integers(0, 2**16), strength=st.floats(0.1, 2))
@settings(max_examples=20)
def test_penalties(shape, seed, strength):
    params = {"weight": draw(shape, seed), "bias": draw(shape[1:], seed)}
    for penalty, value in ((nn.l1_penalty, np.abs), (nn.l2_penalty, lambda p: p**2 / 2)):
        total, gradients = penalty(params, strength)
        assert np.isclose(total, strength * value(params["weight"]).sum()) and not gradients["bias"].any()
        h = 1e-7
        for at in np.ndindex(shape):
            moved = params["weight"].copy()
            moved[at] += h
            slope = (penalty({"weight": moved}, strength)[0] - penalty({"weight": params["weight"]}, strength)[0]) / h
            assert abs(slope - gradients["weight"][at]) < 1e-4
    logits = params["weight"]
    value, gradient = nn.entropy_penalty(logits, strength)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.isclose(value, strength * (p * np.log(p)).sum() / len(p))
    direction = draw(shape, seed + 1)
    ends = [nn.entropy_penalty(logits + h * direction, strength)[0] for h in (1e-5, -1e-5)]
    assert abs((ends[0] - ends[1]) / 2e-5 - np.vdot(gradient, direction)) < 1e-7


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nn.relu(np.zeros(3, int)), "x: expected dtype float32 or float64, got int64"),
        (lambda: nn.linear(np.zeros((2, 3)), np.zeros((4, 5))), r"weight: expected shape \(3, any\), got \(4, 5\)"),
        (lambda: nn.linear(np.zeros((2, 3)), np.zeros((3, 5), np.float32)), "weight: expected dtype float64"),
        (lambda: nn.l2_normalize(np.zeros(3)), r"x: expected 2 dimension\(s\), got shape \(3,\)"),
        (lambda: nn.dropout(np.zeros((2, 3)), 1.0, np.random.default_rng(0)), "rate: expected a finite number"),
        (lambda: nn.dropout(np.zeros((2, 3)), 0.5, 0), "rng: expected a numpy.random.Generator"),
        (lambda: nn.tanh(np.zeros((2, 3)))[1](np.zeros((3, 2))), r"dy: expected shape \(2, 3\), got \(3, 2\)"),
        (lambda: nn.add(np.zeros(2), np.zeros(3)), r"shortcut: expected shape \(2\), got \(3,\)"),
        (lambda: nn.softmax(np.zeros((2, 0))), "x: expected at least one entry"),
        (lambda: nn.mlp({"weight": np.zeros((2, 2))}, np.zeros((2, 2))), "params: expected layer0/weight"),
        (lambda: nn.mlp_init((3,), seed=0), "widths: expected two or more"),
        (lambda: nn.l1_penalty({"w": np.array([[np.nan]])}, 1.0), r"params\['w'\]: expected finite values"),
        (lambda: nn.entropy_penalty(np.zeros(3), 1.0), "logits: expected 2 dimension"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.filterwarnings("error")
@given(st.lists(st.sampled_from([0.0, 1.0, 3e38, -3e38]), min_size=3, max_size=3), st.sampled_from([1.0, -2.0]))
def test_the_penalty_of_logits_far_apart_is_that_of_float64(row, strength):
    logits = np.array([row], np.float32)
    found, expected = (nn.entropy_penalty(x, strength) for x in (logits, logits.astype(np.float64)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-6)


@given(shape=shapes, seed=st.integers(0, 2**16), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_gradient_check_takes_nothing_that_is_not_finite(shape, seed, bad):
    """One such element among others, whether it is one of those that are checked one by one or not."""
    x = draw(shape, seed)

    def square(x):
        def pullback(dy):
            dx = 2 * x * dy
            dx.flat[seed % x.size] = bad
            return dx

        return x * x, pullback

    def without_a_value(x):
        return np.full_like(x, bad), lambda dy: dy

    with np.errstate(invalid="ignore"):
        for function in (square, without_a_value):
            assert gradient_check(function, (x,), elements=1) == (np.inf, np.inf)


def test_gradient_check_finds_a_wrong_gradient():
    def wrong(x):
        return x * x, lambda dy: 3 * x * dy

    def one_wrong_element(x):
        def pullback(dy):
            dx = 2 * x * dy
            dx[0, 0] += 1e-3
            return dx

        return x * x, pullback

    x = draw((3, 4), 0)
    assert min(gradient_check(wrong, (x,))) > 0.1
    assert gradient_check(one_wrong_element, (x,)).element > 1e-5
    with pytest.raises(ValueError, match="expected a gradient of shape"):
        gradient_check(lambda x: (x, lambda dy: dy[0]), (x,))
    with pytest.raises(ValueError, match="a pullback with 2 gradients, got 1"):
        gradient_check(lambda x, y: (x, lambda dy: dy), (x, x))
