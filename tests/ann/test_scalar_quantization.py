"""One byte a coordinate: the error within half a step, less with more bits, and what lies outside the range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from refimpl.ann import ScalarQuantizer, fit_scalar_quantizer

LARGEST = float(np.finfo(np.float32).max)
values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([LARGEST, 0.9 * LARGEST])
matrices = st.tuples(st.integers(1, 20), st.integers(1, 6)).flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=values)
)


@given(matrices, st.integers(1, 8))
def test_the_error_is_within_half_a_step(vectors, bits):
    quantizer = fit_scalar_quantizer(vectors, bits=bits)
    codes = quantizer.encode(vectors)
    decoded = quantizer.decode(codes)
    step = quantizer.step.astype(np.float64)
    rounding = 1e-6 * (np.abs(vectors).max(0) + 2**bits * step)
    assert codes.dtype == np.uint8 and codes.max() < 2**bits and decoded.dtype == np.float32
    error = np.abs(decoded.astype(np.float64) - vectors)
    assert (error <= step / 2 + rounding).all()
    assert (np.linalg.norm(error, axis=1) <= quantizer.largest_error + np.linalg.norm(rounding)).all()
    assert quantizer.largest_error == pytest.approx(np.linalg.norm(step / 2))  # the corner of a cell is as far away


@given(matrices, st.integers(1, 8))
def test_the_code_is_the_nearest_grid_point(vectors, bits):
    quantizer = fit_scalar_quantizer(vectors, bits=bits)
    grid = quantizer.low + np.arange(2**bits)[:, None].astype(np.float64) * quantizer.step
    nearest = np.abs(vectors[:, None].astype(np.float64) - grid).min(1)
    error = np.abs(quantizer.decode(quantizer.encode(vectors)) - vectors.astype(np.float64))
    np.testing.assert_allclose(error, nearest, atol=1e-6 * (1 + float(np.abs(vectors).max())))


@given(arrays.arrays(np.int8, (5, 3), elements=st.integers(-128, 127)), st.integers(1, 8))
def test_whole_numbers_are_numbers(vectors, bits):
    """int8: the range of a coordinate is not within the type."""
    quantizer = fit_scalar_quantizer(vectors, bits=bits)
    for mine, theirs in zip(quantizer, fit_scalar_quantizer(vectors.astype(np.float64), bits=bits)):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(quantizer.encode(vectors), quantizer.encode(vectors.astype(np.float32)))


def test_more_bits_less_error_by_a_quarter_each():
    vectors = np.random.default_rng(0).random((4000, 5)).astype(np.float32)
    errors = []
    for bits in range(1, 9):
        quantizer = fit_scalar_quantizer(vectors, bits=bits)
        errors.append(((quantizer.decode(quantizer.encode(vectors)) - vectors) ** 2).mean())
    assert (np.diff(errors) < 0).all()
    np.testing.assert_allclose(errors, [1 / (12 * (2.0**b - 1) ** 2) for b in range(1, 9)], rtol=0.05)


def test_the_ends_are_exact_and_what_is_beyond_is_clipped():
    vectors = np.array([[0.0, 5.0], [1.0, 5.0]], np.float32)
    quantizer = fit_scalar_quantizer(vectors)
    np.testing.assert_array_equal(quantizer.encode(vectors), [[0, 0], [255, 0]])
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(vectors)), vectors)
    np.testing.assert_array_equal(quantizer.encode([[-3.0, 4.0], [9.0, 6.0]]), [[0, 0], [255, 0]])
    assert quantizer.encode(np.empty((0, 2))).shape == (0, 2) and isinstance(quantizer, ScalarQuantizer)


@pytest.mark.parametrize(
    "name, call",
    [
        ("vectors", lambda q: fit_scalar_quantizer(np.empty((0, 3)))),
        ("vectors", lambda q: fit_scalar_quantizer(np.ones(3))),
        ("vectors", lambda q: fit_scalar_quantizer([[np.nan]])),
        ("vectors", lambda q: fit_scalar_quantizer([[1e300]])),
        ("vectors", lambda q: fit_scalar_quantizer([[0.0], [3.45e38]])),
        ("vectors", lambda q: fit_scalar_quantizer([[-3.3e38, 0.0], [6e38, 0.0]])),
        ("bits", lambda q: fit_scalar_quantizer(np.ones((2, 2)), bits=9)),
        ("bits", lambda q: fit_scalar_quantizer(np.ones((2, 2)), bits=0)),
        ("vectors", lambda q: q.encode(np.ones((2, 4)))),
        ("codes", lambda q: q.decode(np.ones((2, 3), np.uint8))),
        ("codes", lambda q: q.decode(np.ones((2, 2), int))),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got "):
        call(fit_scalar_quantizer(np.ones((2, 2), np.float32)))


@given(st.lists(st.integers(0, 2**23 - 1), min_size=1, max_size=20), st.integers(1, 8))
def test_numbers_near_zero_differ_too(sizes, bits):
    """Denormal ones: a step that float32 rounds to 0 would call them constant."""
    vectors = np.array(sizes, np.uint32).view(np.float32)[:, None]
    quantizer = fit_scalar_quantizer(vectors, bits=bits)
    assert (quantizer.step > 0).all() == (np.ptp(vectors) > 0)
    error = np.abs(quantizer.decode(quantizer.encode(vectors)).astype(np.float64) - vectors).max()
    assert error <= quantizer.largest_error + 2.0**bits * 1.5e-45  # the step is rounded, and the sum
