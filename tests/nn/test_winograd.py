"""Winograd's 3x3 convolution against the plain one: exact identities, every drawn shape, and the error in float32."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.microkernel import columns_of
from refimpl.nn import conv2d, max_pool2d, winograd
from refimpl.nn.tile_transform import make_transform
from refimpl.nn.winograd_inference import winograd_layer

from .winograd_transform import transform_once


@st.composite
def layers(draw, channels=40):
    """Shapes of x and of a 3x3 weight, padding and seed: odd sizes, one pixel, crops, more tiles than one block has."""
    padding = draw(st.tuples(*[st.integers(0, 3)] * 2))
    size = tuple(draw(st.integers(max(1, 3 - 2 * p), 11)) for p in padding)
    n = draw(st.sampled_from([1, 2, 3, 40]))
    c_in, c_out = draw(st.integers(1, channels)), draw(st.integers(1, channels))
    return (n, *size, c_in), (3, 3, c_in, c_out), padding, draw(st.integers(0, 2**32 - 1))


def normal(seed, *shapes, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def near(found, expected, tolerance):
    """Within `tolerance` of the largest of `expected`, in the same dtype."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1e-300, float(np.abs(expected).max())))


def convolve(x, weight, padding, **options):
    return winograd.convolve(x, winograd.transformed_weight(weight), weight.shape[3], padding, **options)


def test_the_trilinear_form_is_exact():
    """f(x, w, d) in 6 products is f in 12, for the points of the package and for Lavin and Gray's."""
    for points in (winograd.POINTS, tuple(map(Fraction, (0, 1, -1, 2, -2)))):
        a, g, b_t = winograd._matrices(points)
        rng = np.random.default_rng(0)
        for _ in range(5):
            d, w, x = ([Fraction(int(v)) for v in rng.integers(-9, 10, size)] for size in (4, 3, 6))
            apart = [
                [sum(m * v for m, v in zip(row, vector)) for row in matrix]
                for matrix, vector in ((a, d), (g, w), (b_t, x))
            ]
            expected = sum(d[i] * w[u] * x[i + u] for i in range(4) for u in range(3))
            assert sum(p * q * r for p, q, r in zip(*apart)) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transform_multiplies_from_both_sides(dtype):
    """Strides, offsets, zeros and minus signs in the matrix; nothing but the results is written."""
    x = np.random.default_rng(0).integers(-4, 5, (3, 2, columns_of(dtype))).astype(dtype)  # 3 columns of 2 rows: 2 used
    y = np.full((4, 3, columns_of(dtype)), np.nan, dtype)
    lanes = columns_of(dtype) // 2
    transform_once(x, y, lanes)
    matrix = np.array([[0, 2], [-1, 0], [3, -1]], dtype)
    for lane in range(lanes):
        tile = x[1:, :, lanes + lane].T
        np.testing.assert_array_equal(y[1:, :, lane], matrix @ tile @ matrix.T)
    assert np.isnan(y[0]).all() and np.isnan(y[..., lanes:]).all()


def test_transform_is_made_from_rows_of_numbers():
    with pytest.raises(ValueError, match="matrix: expected rows of one length"):
        make_transform([[1, 2], [3]])


@given(case=layers())
@settings(max_examples=40)
def test_products_are_those_of_the_plain_convolution(case):
    """y, dx and dw, all shapes, in float64; the two orders of summation differ by rounding alone."""
    x_shape, w_shape, padding, seed = case
    x, weight = normal(seed, x_shape, w_shape)
    y, pullback = conv2d(x, weight, padding=padding)
    (dy,) = normal(seed + 1, y.shape)
    dx, dweight, _ = pullback(dy)
    near(convolve(x, weight, padding), y, 1e-12)
    near(winograd.input_gradient(dy, weight, padding), dx, 1e-12)
    near(winograd.weight_gradient(x, dy, padding), dweight, 1e-12)


@given(case=layers())
@settings(max_examples=25)
def test_statistics_are_those_of_the_result(case):
    x_shape, w_shape, padding, seed = case
    x, weight = normal(seed, x_shape, w_shape)
    x += 3  # a mean that E[z^2] - E[z]^2 would feel
    y, counts, partials = convolve(x, weight, padding, statistics=True)
    z = y.reshape(-1, y.shape[3])
    assert counts.sum() == len(z)
    means, deviations = partials[:, 0], partials[:, 1]
    mean = (counts[:, None] * means).sum(0) / len(z)
    near(mean, z.mean(0), 1e-12)
    variance = (deviations + counts[:, None] * (means - mean) ** 2).sum(0) / len(z)
    near(variance, z.var(0), 1e-10)
    np.testing.assert_array_equal(y, convolve(x, weight, padding))


@pytest.mark.parametrize("c_in, c_out", [(16, 32), (128, 128), (512, 64)])
def test_error_in_float32(c_in, c_out):
    """Of y, dx and dw, against float64: at most 4 times that of the direct products, and 6e-6 of the largest value."""
    x, weight, dy = normal(c_in, (4, 16, 16, c_in), (3, 3, c_in, c_out), (4, 16, 16, c_out))
    x = np.maximum(x, 0)  # activations
    y, pullback = conv2d(x, weight, padding=1)
    dx, dweight, _ = pullback(dy)
    x, weight, dy = (a.astype(np.float32) for a in (x, weight, dy))
    y32, pullback = conv2d(x, weight, padding=1)
    dx32, dweight32, _ = pullback(dy)
    found = (
        convolve(x, weight, (1, 1)),
        winograd.input_gradient(dy, weight, (1, 1)),
        winograd.weight_gradient(x, dy, (1, 1)),
    )
    for one, direct, exact in zip(found, (y32, dx32, dweight32), (y, dx, dweight)):
        near(one, exact.astype(np.float32), 6e-6)
        assert np.linalg.norm(one - exact) < 4 * np.linalg.norm(direct - exact)


@given(case=layers(), activate=st.booleans(), form=st.sampled_from(["bare", "shortcut", "pool"]))
@settings(max_examples=40)
def test_inference_layer_is_the_composition(case, activate, form):
    x_shape, w_shape, padding, seed = case
    x, weight, bias = normal(seed, x_shape, w_shape, w_shape[3:])
    expected, _ = conv2d(x, weight, bias, padding=padding)
    shape = expected.shape
    if form == "pool" and min(shape[1:3]) < 2:
        form = "bare"
    (added,) = normal(seed + 1, expected.shape if form == "shortcut" else (0, *expected.shape[1:]))
    expected = expected + added if form == "shortcut" else expected
    expected = np.maximum(expected, 0) if activate else expected
    expected = max_pool2d(expected, 2)[0] if form == "pool" else expected
    y = np.full(expected.shape, np.nan)
    panels = winograd.transformed_weight(weight)
    winograd_layer(x, padding, panels, shape, bias, added, activate, form == "pool", y)
    near(y, expected, 1e-12)


def test_a_picture_does_not_see_its_batch():
    """To the bit: an embedding is the same alone and among others."""
    x, weight = normal(0, (70, 9, 6, 20), (3, 3, 20, 24), dtype=np.float32)
    y = convolve(x, weight, (1, 1))
    for some in (slice(0, 1), slice(69, 70), slice(3, 50)):
        np.testing.assert_array_equal(convolve(x[some], weight, (1, 1)), y[some])


def test_memory_that_is_not_contiguous():
    x, weight = normal(1, (24, 9, 8, 3), (3, 3, 17, 24))
    x, weight = x.T[:2, :, :, :17], weight[..., ::-1]
    y, pullback = conv2d(x, weight, padding=1)
    dx, dweight, _ = pullback(y)
    near(convolve(x, weight, (1, 1)), y, 1e-12)
    near(winograd.input_gradient(y[..., ::-1][..., ::-1], weight, (1, 1)), dx, 1e-12)
    near(winograd.weight_gradient(x, y, (1, 1)), dweight, 1e-12)


@pytest.mark.parametrize(
    "shape, stride, out, expected",
    [
        ((3, 3, 16, 16), (1, 1), (4, 4), True),
        ((3, 3, 64, 128), (1, 1), (3, 3), True),  # 9 of 16 results are wanted
        ((3, 3, 64, 128), (1, 1), (5, 5), False),  # 25 of 64
        ((3, 3, 64, 128), (1, 1), (9, 9), True),  # 81 of 144
        ((3, 3, 64, 128), (1, 1), (2, 2), False),
        ((3, 3, 15, 128), (1, 1), (8, 8), False),
        ((3, 3, 128, 15), (1, 1), (8, 8), False),
        ((3, 3, 64, 64), (2, 1), (8, 8), False),
        ((1, 1, 64, 64), (1, 1), (8, 8), False),
        ((3, 5, 64, 64), (1, 1), (8, 8), False),
    ],
)
def test_where_it_is_used(shape, stride, out, expected):
    assert winograd.suits(shape, stride, out) is expected
