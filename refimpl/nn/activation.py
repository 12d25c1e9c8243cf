"""Elementwise activations and the sum of a shortcut, each with its pullback(dy) -> dx.

Arrays have any shape, float32 or float64, and y has the dtype of x. Where the derivative can be read off y, the
pullback keeps y, which the next operation keeps anyway, and not x.
"""

import numpy as np
from scipy.special import erf

from ..validation import FLOATS, check_array, check_number


def relu(x):
    """y = max(x, 0); dx = dy where x > 0 (the mask is read off y: y > 0 exactly where x > 0)."""
    x = check_array(x, "x", dtypes=FLOATS)
    y = np.maximum(x, 0)
    return y, _times(y, lambda: y > 0)


def leaky_relu(x, slope=0.01):
    """y = x where x > 0, else slope x. Maas et al. 2013. slope >= 0, so that y has the sign of x."""
    x = check_array(x, "x", dtypes=FLOATS)
    slope = x.dtype.type(check_number(slope, "slope", minimum=0))
    y = np.where(x > 0, x, slope * x)
    return y, _times(y, lambda: np.where(x > 0, x.dtype.type(1), slope))


def elu(x, alpha=1.0):
    """y = x where x > 0, else alpha (e^x - 1), whose derivative there is y + alpha. alpha >= 0.

    Source: Clevert et al. 2015, arXiv:1511.07289.
    """
    x = check_array(x, "x", dtypes=FLOATS)
    alpha = x.dtype.type(check_number(alpha, "alpha", minimum=0))
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, _times(y, lambda: np.where(x > 0, x.dtype.type(1), y + alpha))


def gelu(x):
    """y = x Phi(x), Phi the standard normal distribution function; y' = Phi(x) + x phi(x). The exact form, with erf.

    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """
    x = check_array(x, "x", dtypes=FLOATS)
    half = x.dtype.type(0.5)
    below = half * (1 + erf(x * x.dtype.type(np.sqrt(0.5))))
    density = x.dtype.type(1 / np.sqrt(2 * np.pi))
    y = x * below
    return y, _times(y, lambda: below + x * density * np.exp(-half * x * x))


def tanh(x):
    """y = tanh(x); y' = 1 - y^2."""
    x = check_array(x, "x", dtypes=FLOATS)
    y = np.tanh(x)
    return y, _times(y, lambda: 1 - y * y)


def sigmoid(x):
    """y = 1 / (1 + e^-x); y' = y (1 - y). Computed from e^-|x|, which cannot overflow."""
    x = check_array(x, "x", dtypes=FLOATS)
    small = np.exp(-np.abs(x))
    y = np.where(x >= 0, 1, small) / (1 + small)
    return y, _times(y, lambda: y * (1 - y))


def add(x, shortcut):
    """y = x + shortcut, the end of a residual block; pullback(dy) -> (dx, dshortcut): dy itself, and a copy of it."""
    x = check_array(x, "x", dtypes=FLOATS)
    shortcut = check_array(shortcut, "shortcut", shape=x.shape, dtypes=(x.dtype,))

    def pullback(dy):
        dy = check_array(dy, "dy", shape=x.shape, dtypes=(x.dtype,))
        return dy, dy.copy()

    return x + shortcut, pullback


def _times(y, derivative):
    """The pullback of an elementwise function: dx = dy * derivative."""

    def pullback(dy):
        return check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,)) * derivative()

    return pullback
