"""Softmax: real numbers to a distribution, and its logarithm without overflow.

    p_j = exp(x_j - max x) / sum_i exp(x_i - max x)            log p_j = x_j - max x - log sum_i exp(x_i - max x)

Subtracting the maximum changes nothing in p and keeps every exponent at or below 0. Each row of the Jacobian is
dp_i/dx_j = p_i ([i = j] - p_j), so neither pullback needs a matrix.
"""

import numpy as np

from ..validation import FLOATS, check_array


def softmax(x):
    """Distributions along the last axis: y, pullback, with pullback(dy) = y (dy - sum_j y_j dy_j).

    x  (..., c) float. Entries of -inf are excluded (probability 0); a row needs one finite entry.
    Raises ValueError for an empty last axis, NaN, +inf, or a row of -inf only.
    """
    log_y, _ = log_softmax(x)
    y = np.exp(log_y)

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,))
        return y * (dy - np.sum(y * dy, axis=-1, keepdims=True))

    return y, pullback


def log_softmax(x):
    """Log-probabilities along the last axis: y, pullback, with pullback(dy) = dy - exp(y) sum_j dy_j.

    x  (..., c) float. Entries of -inf are excluded (their y is -inf); a row needs one finite entry.
    Raises ValueError for an empty last axis, NaN, +inf, or a row of -inf only.
    """
    x = check_array(x, "x", dtypes=FLOATS)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x: expected at least one entry along the last axis, got shape {x.shape}")
    largest = x.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():  # NaN and +inf come out of max as they are
        raise ValueError("x: expected every row to have a finite maximum, got NaN, +inf or a row of -inf")
    with np.errstate(over="ignore"):  # a difference beyond the range of the dtype is one of -inf: a probability of 0
        y = x - largest
    y -= np.log(np.sum(np.exp(y), axis=-1, keepdims=True))

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,))
        return dy - np.exp(y) * np.sum(dy, axis=-1, keepdims=True)

    return y, pullback
