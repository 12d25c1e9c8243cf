"""Pooling against the definition, and gradients against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import avg_pool2d, global_avg_pool, gradient_check, max_pool2d

from .oracles import pooling
from .strategies import windows

OPERATIONS = {
    "max": (max_pool2d, np.nanmax),
    "avg": (avg_pool2d, lambda values: np.nan_to_num(values).mean()),
}


@pytest.mark.parametrize("kind", OPERATIONS)
@given(case=windows(), dtype=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=30)
def test_pooling_is_its_definition(kind, case, dtype):
    operation, reduce = OPERATIONS[kind]
    x = np.random.default_rng(case.seed).integers(-9, 10, case.x).astype(dtype)  # with ties
    y, _ = operation(x, case.size, case.stride, padding=case.padding)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, pooling(x, case.size, case.stride, case.padding, reduce), rtol=1e-6)


@pytest.mark.parametrize("kind", OPERATIONS)
@given(case=windows())
@settings(max_examples=20)
def test_gradients(kind, case):
    # All values differ by 0.1 or more, so that no step of the check crosses a kink.
    x = np.random.default_rng(case.seed).permutation(np.prod(case.x)).reshape(case.x) / 10.0

    def function(x):
        return OPERATIONS[kind][0](x, case.size, case.stride, padding=case.padding)

    assert max(gradient_check(function, (x,), elements=5)) < 1e-7


@given(case=windows())
def test_max_pooling_gives_each_gradient_to_one_pixel(case):
    """With ties as well: in integers, sums are exact."""
    rng = np.random.default_rng(case.seed)
    x = rng.integers(0, 2, case.x).astype(np.float32)
    y, pullback = max_pool2d(x, case.size, case.stride, padding=case.padding)
    dy = rng.integers(-9, 10, y.shape).astype(np.float32)
    dx = pullback(dy)
    assert dx.sum() == dy.sum() and np.vdot(dx, x) == np.vdot(dy, y)


@given(case=windows())
@settings(max_examples=15)
def test_global_average(case):
    x = np.random.default_rng(case.seed).standard_normal(case.x)
    y, _ = global_avg_pool(x)
    np.testing.assert_allclose(y, x.reshape(len(x), -1, x.shape[3]).sum(1) / (x.shape[1] * x.shape[2]), atol=1e-12)
    assert max(gradient_check(global_avg_pool, (x,), elements=5)) < 1e-7


def test_the_mean_of_many_pixels_does_not_drift():
    x = np.full((1, 512, 512, 2), 10.1, np.float32)  # summed in float64, exactly
    np.testing.assert_array_equal(global_avg_pool(x)[0], x[:, 0, 0])
    assert global_avg_pool(x)[0].dtype == np.float32


@pytest.mark.parametrize("shape", [(9, 130, 130, 1), (70, 50, 50, 3), (70, 4, 4, 40)])
def test_an_image_alone_has_the_mean_that_it_has_among_others(shape):
    wide = np.random.default_rng(0).standard_normal(shape)
    for x in (wide, wide.astype(np.float32), wide.transpose(0, 2, 1, 3)):
        together = global_avg_pool(x)[0]
        for i in (0, 3, len(x) - 1):
            np.testing.assert_array_equal(global_avg_pool(x[i : i + 1])[0], together[i : i + 1])


def test_bad_input():
    x = np.zeros((1, 5, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"padding: expected at most half of the window \(3, 3\), got \(2, 2\)"):
        max_pool2d(x, 3, padding=2)
    with pytest.raises(ValueError, match=r"at least as large as the kernel \(6, 6\), got \(1, 5, 5, 3\)"):
        avg_pool2d(x, 6)
    with pytest.raises(ValueError, match=r"x: expected 4 dimension\(s\), got shape \(5, 5, 3\)"):
        global_avg_pool(x[0])
    with pytest.raises(ValueError, match="dy: expected shape"):
        max_pool2d(x, 2)[1](x)
