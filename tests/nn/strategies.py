"""What hypothesis draws for the tests of refimpl.nn: shapes small enough for plain loops, odd ones on purpose."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st


class Convolution(NamedTuple):
    x: tuple
    weight: tuple
    stride: tuple
    padding: tuple
    seed: int


@st.composite
def convolutions(draw, channels=40):
    """Any kernel up to 4, stride up to 3, padding up to the kernel, and an image that the window fits in."""
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    padding = tuple(draw(st.integers(0, k)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    c_in, c_out = draw(st.integers(1, 6)), draw(st.integers(1, channels))
    # The kernels here are drawn without padding too (delta, shift): make the bare image large enough for that.
    size = tuple(max(s, k) for s, k in zip(size, kernel))
    n = draw(st.integers(1, 4))
    return Convolution((n, *size, c_in), (*kernel, c_in, c_out), stride, padding, draw(st.integers(0, 2**32 - 1)))


def arrays_for(case, dtype, *, integers=False):
    """x, weight, bias of a drawn case. Small integers have exact sums, whatever the order."""
    rng = np.random.default_rng(case.seed)
    shapes = (case.x, case.weight, case.weight[3:])
    if integers:
        return [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


class Window(NamedTuple):
    x: tuple
    size: tuple
    stride: tuple
    padding: tuple
    seed: int


@st.composite
def windows(draw):
    """A pooling window up to 4, overlapping or with gaps, padding up to half of it, and an image that it fits in."""
    size = draw(st.tuples(*[st.integers(1, 4)] * 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in size)
    image = tuple(draw(st.integers(max(1, k - 2 * p), 8)) for k, p in zip(size, padding))
    stride = draw(st.tuples(*[st.integers(1, 5)] * 2))
    x = (draw(st.integers(1, 3)), *image, draw(st.integers(1, 3)))
    return Window(x, size, stride, padding, draw(st.integers(0, 2**32 - 1)))
