"""Convolutions of pictures with fewer pixels than the kernel has taps, as one dense matrix product.

Behind several poolings a picture is small: 2 x 2 pixels, say. A 3x3 kernel centred on any of them has five of its nine
taps on the padding, and the direct product multiplies by these zeros too: 36 products for each pair of channels, 20 of
them with zeros. But a pixel a of x contributes to a result i through one tap at most: the u with s i + u - p = a, with
stride s and padding p. So with a picture's pixels and channels as one row,

    Y = X T        T[(a, c), (i, o)] = weight[u, v, c, o] of the tap that takes a to i, 0 if there is none
    dX = dY T^T    dweight[u, v] = sum over the pairs (a, i) of this tap of (X^T dY)[(a, .), (i, .)]

takes (pixels of x) (pixels of y) products, 16, without padding or gathering anything. T holds each tap several times:
of a 3x3 kernel up to 64 blocks of weights in place of 9.
"""

import numpy as np

from ..matrix_product import matrix_product


def suits(shape, weight_shape):
    """Whether pictures of `shape` (n, h, w, c) have fewer pixels than the kernel (kh, kw, c_in, c_out) has taps."""
    return shape[1] * shape[2] < weight_shape[0] * weight_shape[1]


def convolve(x, weight, stride, padding):
    """z (n, out_h, out_w, c_out) and pullback(dz, need_dx) -> dx or None, dweight; stride and padding are pairs.

    x (n, h, w, c_in), weight (kh, kw, c_in, c_out), one dtype; `fused.py`, which calls this, has them checked.
    """
    n, h, w, c_in = x.shape
    kh, kw, _, c_out = weight.shape
    down, across = ((size + 2 * p - k) // s + 1 for size, p, k, s in zip((h, w), padding, (kh, kw), stride))
    pairs = tap_pairs((h, w), (down, across), (kh, kw), stride, padding)
    dense = np.zeros((h * w, c_in, down * across, c_out), weight.dtype)
    for pixel, result, u, v in pairs:
        dense[pixel, :, result] = weight[u, v]
    dense = dense.reshape(h * w * c_in, -1)
    rows = np.ascontiguousarray(x).reshape(n, -1)

    def pullback(dz, need_dx):
        dz = np.ascontiguousarray(dz).reshape(n, -1)
        ddense = matrix_product(rows.T, dz).reshape(h * w, c_in, down * across, c_out)
        dweight = np.zeros_like(weight)
        for pixel, result, u, v in pairs:
            dweight[u, v] += ddense[pixel, :, result]
        return matrix_product(dz, dense.T).reshape(x.shape) if need_dx else None, dweight

    return matrix_product(rows, dense).reshape(n, down, across, c_out), pullback


def tap_pairs(size, out, kernel, stride, padding):
    """[(pixel of x, pixel of y, u, v)] with s i + u - p = a along both axes; pixels are counted row by row."""

    def along(axis):
        s, p = stride[axis], padding[axis]
        pairs = [(i * s + u - p, i, u) for i in range(out[axis]) for u in range(kernel[axis])]
        return [(a, i, u) for a, i, u in pairs if 0 <= a < size[axis]]

    return [(a * size[1] + b, i * out[1] + j, u, v) for a, i, u in along(0) for b, j, v in along(1)]
