"""Pooling: each window of an image becomes one value, its maximum or its mean, channel by channel.

Both are written as a loop over the taps (u, v) of the window. For one tap, the values that it contributes to all
windows are a strided slice of the padded image, x[:, u::s, v::s], of the same shape as y: so the loop has kh * kw
steps, each on whole arrays, forward and backward.
"""

import numpy as np

from ..kernels import in_threads, kernel
from ..validation import FLOATS, check_array
from .convolution import check_window, pair

SHARE = 1 << 16  # values of x that are worth another thread


def max_pool2d(x, size, stride=None, *, padding=0):
    """The maximum of every window, and its pullback: the gradient goes to the first tap that holds the maximum.

    x (n, h, w, c); size, stride, padding int or (vertical, horizontal), stride None: size. Windows that do not fit are
    dropped; padding, at most half of the window, never wins. Returns y, pullback(dy) -> dx.
    """
    x, size, stride, padding = _check(x, size, stride, padding)
    padded = np.pad(x, _widths(padding), constant_values=-np.inf)
    slices = list(_taps(padded.shape, size, stride))
    y = padded[slices[0]].copy()
    for tap in slices[1:]:
        np.maximum(y, padded[tap], out=y)

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        dpadded = np.zeros_like(padded)
        free = np.ones(y.shape, bool)  # windows whose maximum has not been met yet
        for tap in slices:
            wins = free & (padded[tap] == y)
            dpadded[tap] += np.where(wins, dy, 0)
            free &= ~wins
        return dpadded[_inside(padding, x.shape)]

    return y, pullback


def avg_pool2d(x, size, stride=None, *, padding=0):
    """The mean of every window, zeros of the padding included, and its pullback. Arguments as for `max_pool2d`."""
    x, size, stride, padding = _check(x, size, stride, padding)
    padded = np.pad(x, _widths(padding))
    slices = list(_taps(padded.shape, size, stride))
    scale = x.dtype.type(1 / len(slices))
    y = padded[slices[0]].copy()
    for tap in slices[1:]:
        y += padded[tap]
    y *= scale

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        dpadded = np.zeros_like(padded)
        for tap in slices:
            dpadded[tap] += dy * scale
        return dpadded[_inside(padding, x.shape)]

    return y, pullback


def global_avg_pool(x):
    """The mean of each channel over all pixels: x (n, h, w, c) -> y (n, c), and its pullback(dy) -> dx.

    Summed in float64: in float32 the mean of 16,384 equal values is off in the fifth digit.
    """
    x = check_array(x, "x", ndim=4, dtypes=FLOATS, min_rows=1)
    if min(x.shape) < 1:
        raise ValueError(f"x: expected no empty axis, got shape {x.shape}")
    n, h, w, c = x.shape
    sums = np.zeros((n, c))
    in_threads(n, _add_pixels, np.ascontiguousarray(x).reshape(n, h * w, c), sums, at_least=-(-SHARE // x[0].size))
    y = (sums / (h * w)).astype(x.dtype)

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        share = dy / x.dtype.type(h * w)
        return np.broadcast_to(share[:, None, None], x.shape).copy()

    return y, pullback


@kernel
def _add_pixels(first, last, x, sums):
    """sums[image, :] += x[image, pixel, :], one pixel after the other, for the images first to last - 1."""
    for image in range(first, last):
        for pixel in range(x.shape[1]):
            for j in range(x.shape[2]):
                sums[image, j] += x[image, pixel, j]


def _check(x, size, stride, padding):
    """x, size, stride and padding as pairs; ValueError where no window fits or one would be padding alone."""
    x = check_array(x, "x", ndim=4, dtypes=FLOATS, min_rows=1)
    size, padding = pair(size, "size", 1), pair(padding, "padding", 0)
    stride = size if stride is None else pair(stride, "stride", 1)
    if 2 * padding[0] > size[0] or 2 * padding[1] > size[1]:
        raise ValueError(f"padding: expected at most half of the window {size}, got {padding} for x {x.shape}")
    check_window(x.shape, size, padding)
    return x, size, stride, padding


def _taps(shape, size, stride):
    """For each tap of the window, the slice of the padded image that it contributes to all windows."""
    heights, widths = ((extent - k) // s + 1 for extent, k, s in zip(shape[1:3], size, stride))
    for u in range(size[0]):
        for v in range(size[1]):
            rows = slice(u, u + (heights - 1) * stride[0] + 1, stride[0])
            columns = slice(v, v + (widths - 1) * stride[1] + 1, stride[1])
            yield slice(None), rows, columns


def _widths(padding):
    return ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0))


def _inside(padding, shape):
    """The slices of a padded image that are the image."""
    return (
        slice(None),
        slice(padding[0], padding[0] + shape[1]),
        slice(padding[1], padding[1] + shape[2]),
    )
