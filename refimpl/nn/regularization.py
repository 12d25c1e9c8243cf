"""Penalties that are added to a loss: each returns its value and its gradient.

Dropout, the other regulariser of the encoders, is an operation (dense.py); weight decay is part of the optimizers.
"""

import numpy as np

from ..validation import FLOATS, check_array, check_number
from .softmax import log_softmax


def l1_penalty(params, strength):
    """strength * sum |p| over the weights of a dict, and its gradients, strength * sign(p).

    Like all penalties on dicts it leaves biases and norms alone (arrays of fewer than 2 dimensions: gradient 0).
    """
    return _penalty(params, strength, np.abs, np.sign)


def l2_penalty(params, strength):
    """strength / 2 * sum p^2 over the weights of a dict, and its gradients, strength * p. See `l1_penalty`."""
    return _penalty(params, strength, lambda p: p * p / 2, lambda p: p)


def entropy_penalty(logits, strength):
    """-strength * mean entropy of softmax(logits), and its gradient: confident predictions cost.

        H = -sum_i p_i log p_i        dH / dlogit_i = -p_i (log p_i + H)

    logits (n, classes). Source: Pereyra et al. 2017, arXiv:1701.06548. A negative strength rewards confidence instead
    (entropy minimisation, Grandvalet and Bengio 2004).
    """
    logits = check_array(logits, "logits", ndim=2, dtypes=FLOATS, min_rows=1, finite=True)
    strength = check_number(strength, "strength")
    log_p = np.maximum(log_softmax(logits)[0], np.finfo(logits.dtype).min)  # p log p -> 0 with p, and 0 * -inf is NaN
    p = np.exp(log_p)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    scale = logits.dtype.type(strength / len(logits))
    return float(-strength * entropy.mean()), scale * p * (log_p + entropy)


def _penalty(params, strength, value, derivative):
    """strength * sum of value(p) over the weights, and its gradients; 0 for biases and norms."""
    strength = check_number(strength, "strength", minimum=0)
    total, gradients = 0.0, {}
    for name, p in params.items():
        p = check_array(p, f"params[{name!r}]", dtypes=FLOATS, finite=True)
        if p.ndim >= 2:
            total += strength * float(value(p).sum(dtype=np.float64))
            gradients[name] = p.dtype.type(strength) * derivative(p)
        else:
            gradients[name] = np.zeros_like(p)
    return total, gradients
