"""Operations as their definitions say, one output value at a time, in float64."""

import numpy as np


def convolution(x, weight, bias, stride, padding):
    """y[n, i, j, o] = bias[o] + sum over u, v, c of x[n, s i + u - p, s j + v - p, c] weight[u, v, c, o]."""
    n, h, w, _ = x.shape
    kh, kw, _, c_out = weight.shape
    (sh, sw), (ph, pw) = stride, padding
    y = np.zeros((n, (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1, c_out))
    for image, i, j in np.ndindex(y.shape[:3]):
        y[image, i, j] = bias
        for u, v in np.ndindex(kh, kw):
            row, column = sh * i + u - ph, sw * j + v - pw
            if 0 <= row < h and 0 <= column < w:
                y[image, i, j] += x[image, row, column].astype(float) @ weight[u, v].astype(float)
    return y


def pooling(x, size, stride, padding, reduce):
    """reduce(the values of every window); outside of x are NaNs, which `reduce` has to deal with."""
    n, h, w, c = x.shape
    (sh, sw), (ph, pw) = stride, padding
    padded = np.full((n, h + 2 * ph, w + 2 * pw, c), np.nan)
    padded[:, ph : ph + h, pw : pw + w] = x
    y = np.zeros((n, (h + 2 * ph - size[0]) // sh + 1, (w + 2 * pw - size[1]) // sw + 1, c))
    for image, i, j, k in np.ndindex(y.shape):
        y[image, i, j, k] = reduce(padded[image, sh * i : sh * i + size[0], sw * j : sw * j + size[1], k])
    return y
