"""Elementwise activations, and softmax, each with its pullback(dy) -> dx. Any shape, float32 or float64."""

import numpy as np

from ..validation import FLOATS, check_array


def relu(x):
    """y = max(x, 0); dx = dy where x > 0 (the mask is read off y: y > 0 exactly where x > 0)."""
    x = check_array(x, "x", dtypes=FLOATS)
    y = np.maximum(x, 0)

    def pullback(dy):
        return np.where(y > 0, check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,)), y.dtype.type(0))

    return y, pullback
