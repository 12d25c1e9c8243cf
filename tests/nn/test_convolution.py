"""Convolution against its definition, its algebra, and its gradients against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import conv2d, depthwise_conv2d, gradient_check

from .oracles import convolution
from .strategies import arrays_for, convolutions


@given(case=convolutions(), dtype=st.sampled_from([np.float32, np.float64]))
def test_conv2d_is_its_definition(case, dtype):
    x, weight, bias = arrays_for(case, dtype, integers=True)
    y, _ = conv2d(x, weight, bias, stride=case.stride, padding=case.padding)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, convolution(x, weight, bias, case.stride, case.padding))  # small integers: exact


@given(case=convolutions(), seed=st.integers(0, 2**16))
@settings(max_examples=25)
def test_gradients(case, seed):
    x, weight, bias = arrays_for(case, np.float64)

    def function(x, weight, bias):
        return conv2d(x, weight, bias, stride=case.stride, padding=case.padding)

    errors = gradient_check(function, (x, weight, bias), seed=seed, elements=5)
    assert max(errors) < 1e-7


@given(case=convolutions(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**16))
def test_pullback_is_the_adjoint(case, dtype, seed):
    """<conv(x), dy> = <x, dx> = <weight, dweight>: in small integers, exactly. Nothing of the gradients is left out."""
    x, weight, _ = arrays_for(case, dtype, integers=True)
    y, pullback = conv2d(x, weight, stride=case.stride, padding=case.padding)
    dy = np.random.default_rng(seed).integers(-3, 4, y.shape).astype(dtype)
    dx, dweight, dbias = pullback(dy)
    assert dx.dtype == dweight.dtype == dtype and dbias is None
    assert np.vdot(y, dy) == np.vdot(x, dx) == np.vdot(weight, dweight)


@pytest.mark.parametrize("images", [2, 65])
@pytest.mark.parametrize("c_in, c_out", [(1, 3), (2, 33), (40, 65)])
def test_weight_gradient_of_many_pixels(images, c_in, c_out):
    """More pixels than one task sums over, also a number that leaves the last tasks nothing; in memory used before."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (images, 8, 9, c_in)).astype(np.float32)
    dy = rng.integers(-3, 4, (images, 8, 9, c_out)).astype(np.float32)
    expected = np.zeros((3, 3, c_in, c_out))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for u, v in np.ndindex(3, 3):
        expected[u, v] = np.einsum("nijc,nijo->co", padded[:, u : u + 8, v : v + 9], dy)
    for _ in range(2):
        _, pullback = conv2d(x, np.zeros((3, 3, c_in, c_out), np.float32), padding=1)
        np.testing.assert_array_equal(pullback(dy)[1], expected)


@given(case=convolutions())
def test_linear_in_both_arguments(case):
    x, weight, _ = arrays_for(case, np.float32, integers=True)

    def conv(x, weight):
        return conv2d(x, weight, stride=case.stride, padding=case.padding)[0]

    other_x, other_weight = x[:, ::-1, ::-1], np.flip(weight)
    np.testing.assert_array_equal(conv(2 * x + other_x, weight), 2 * conv(x, weight) + conv(other_x, weight))
    np.testing.assert_array_equal(conv(x, 3 * weight - other_weight), 3 * conv(x, weight) - conv(x, other_weight))


@given(case=convolutions(), shift=st.integers(1, 3))
def test_a_shifted_image_shifts_the_result(case, shift):
    x, weight, _ = arrays_for(case, np.float32, integers=True)
    x = np.concatenate([x] * 10, axis=1)  # room to shift
    y, _ = conv2d(x, weight, stride=case.stride)
    moved, _ = conv2d(x[:, case.stride[0] * shift :], weight, stride=case.stride)
    np.testing.assert_array_equal(moved, y[:, shift:])


@given(case=convolutions(), data=st.data())
def test_a_delta_kernel_copies(case, data):
    x, weight, _ = arrays_for(case, np.float32)
    kh, kw, c_in, _ = weight.shape
    u, v = data.draw(st.integers(0, kh - 1)), data.draw(st.integers(0, kw - 1))
    delta = np.zeros((kh, kw, c_in, c_in), np.float32)
    delta[u, v] = np.eye(c_in)
    y, _ = conv2d(x, delta)
    np.testing.assert_array_equal(y, x[:, u : u + y.shape[1], v : v + y.shape[2]])


@given(case=convolutions(), data=st.data())
def test_images_do_not_see_each_other(case, data):
    x, weight, bias = arrays_for(case, np.float32)
    order = data.draw(st.permutations(range(len(x))))
    y, _ = conv2d(x, weight, bias, stride=case.stride, padding=case.padding)
    permuted, _ = conv2d(x[order], weight, bias, stride=case.stride, padding=case.padding)
    np.testing.assert_array_equal(permuted, y[order])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x": np.zeros((5, 5, 3), np.float32)}, r"x: expected 4 dimension\(s\), got shape \(5, 5, 3\)"),
        ({"x": np.zeros((1, 5, 5, 2), np.float32)}, r"weight: expected shape .*2.*got \(3, 3, 3, 4\)"),
        ({"x": np.zeros((1, 5, 5, 3), np.float64)}, "weight: expected dtype float64, got float32"),
        ({"x": np.zeros((1, 5, 5, 3), np.int64)}, "x: expected dtype"),
        ({"x": np.zeros((1, 2, 5, 3), np.float32)}, r"at least as large as the kernel \(3, 3\), got \(1, 2, 5, 3\)"),
        ({"x": np.zeros((0, 5, 5, 3), np.float32)}, "x: expected at least 1 row"),
        ({"padding": 4}, r"padding: expected at most the size of the kernel \(3, 3\), got \(4, 4\)"),
        ({"padding": -1}, "padding: expected an integer >= 0"),
        ({"stride": 0}, "stride: expected an integer >= 1"),
        ({"stride": (1, 1, 1)}, "stride: expected an integer or a pair"),
        ({"bias": np.zeros(3, np.float32)}, r"bias: expected shape \(4\), got \(3,\)"),
    ],
)
def test_bad_input(changes, message):
    arguments = {
        "x": np.zeros((1, 5, 5, 3), np.float32),
        "weight": np.zeros((3, 3, 3, 4), np.float32),
        "stride": 1,
        "padding": 0,
        "bias": None,
    }
    with pytest.raises(ValueError, match=message):
        conv2d(**(arguments | changes))


def test_bad_upstream_gradient():
    _, pullback = conv2d(np.zeros((1, 5, 5, 3), np.float32), np.zeros((3, 3, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"dy: expected shape \(1, 3, 3, 4\), got \(1, 3, 4, 4\)"):
        pullback(np.zeros((1, 3, 4, 4), np.float32))


def test_gradients_of_many_pixels_do_not_drift():
    """Sums of 262,144 equal values: in float32, one after the other, they are off in the third digit.

    A product for dweight is a running sum of 16,384 in float32: each step rounds by 2^-24 of the sum at most.
    """
    x, exact = np.full((256, 32, 32, 2), 10.1, np.float32), 10.1 * 256 * 32 * 32
    ones = np.ones((1, 1, 2, 2), np.float32)
    for convolve, weight, bound in ((conv2d, ones, 2.0**14 * 2.0**-24), (depthwise_conv2d, ones[:, :, 0], 1e-6)):
        _, dweight, dbias = convolve(x, weight, ones[0, 0, 0])[1](x)
        np.testing.assert_allclose(dbias, exact, rtol=1e-6)
        np.testing.assert_allclose(dweight, 10.1 * exact, rtol=bound)
        assert dbias.dtype == dweight.dtype == np.float32


@given(case=convolutions(), seed=st.integers(0, 2**16))
@settings(max_examples=25)
def test_depthwise_is_a_convolution_with_a_diagonal_kernel(case, seed):
    x, weight, _ = arrays_for(case, np.float64)
    kernel, bias = weight[..., 0], np.arange(x.shape[3], dtype=float)
    diagonal = np.einsum("uvc,cd->uvcd", kernel, np.eye(len(bias)))
    y, _ = depthwise_conv2d(x, kernel, bias, stride=case.stride, padding=case.padding)
    expected, _ = conv2d(x, diagonal, bias, stride=case.stride, padding=case.padding)
    np.testing.assert_allclose(y, expected, atol=1e-12)

    def function(x, kernel, bias):
        return depthwise_conv2d(x, kernel, bias, stride=case.stride, padding=case.padding)

    assert max(gradient_check(function, (x, kernel, bias), seed=seed, elements=4)) < 1e-7
