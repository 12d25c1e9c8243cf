"""Normalisation layers: subtract a mean, divide by a standard deviation, then scale by gamma and shift by beta.

    xhat = (x - mean) / sqrt(variance + eps)        y = gamma * xhat + beta

They differ only in the values that share a mean: all examples and pixels of a channel (batch norm, Ioffe and Szegedy
2015, arXiv:1502.03167), all features of one example (layer norm, Ba et al. 2016, arXiv:1607.06450), a group of channels
of one image (group norm, Wu and He 2018, arXiv:1803.08494). One derivation serves all three. With m values sharing a
mean,

    d xhat = gamma * dy
    dx     = (d xhat - mean(d xhat) - xhat * mean(d xhat * xhat)) / sqrt(variance + eps)

because moving x[i] also moves the mean (second term) and the standard deviation (third term). In words: the gradient
loses its part along the all-ones vector and its part along xhat, the two directions that normalisation ignores. So an
upstream gradient of all ones has dx = 0 whatever x is, and proves nothing about an implementation.
"""

import numpy as np

from ..validation import FLOATS, check_array, check_integer, check_number
from .convolution import sum_over


def batch_norm(x, gamma, beta, running_mean, running_var, *, training, momentum=0.1, eps=1e-5):
    """Batch normalisation over all axes but the last, and its pullback.

    x                          (..., c) float32 or float64: (n, c) features or (n, h, w, c) images
    gamma, beta                (c,), dtype of x
    running_mean, running_var  (c,): the averages that inference uses
    training                   True: normalise with the statistics of x and move the running ones by
                               running <- (1 - momentum) * running + momentum * batch, where the variance of a batch
                               of m values a channel is divided by m - 1; False: normalise with the running
                               statistics, which stay as they are
    Returns y, pullback(dy) -> (dx, dgamma, dbeta), (running_mean, running_var). The arguments are not written to.
    Raises ValueError for shapes or dtypes that do not fit and, in training, for a single value a channel.
    """
    x = _check(x)
    channels = x.shape[-1:]
    gamma = check_array(gamma, "gamma", shape=channels, dtypes=(x.dtype,))
    beta = check_array(beta, "beta", shape=channels, dtypes=(x.dtype,))
    running_mean = check_array(running_mean, "running_mean", shape=channels, dtypes=(x.dtype,))
    running_var = check_array(running_var, "running_var", shape=channels, dtypes=(x.dtype,))
    momentum = check_number(momentum, "momentum", minimum=0, maximum=1)
    eps = check_number(eps, "eps", above=0)
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    if training:
        if count < 2:
            raise ValueError(f"x: expected at least 2 values a channel in training, got shape {x.shape}")
        mean, variance = _moments(x, axes)
        running_mean = ((1 - momentum) * running_mean + momentum * mean).astype(x.dtype)
        running_var = ((1 - momentum) * running_var + momentum * variance * count / (count - 1)).astype(x.dtype)
    else:
        mean, variance = running_mean, running_var
    inverse_std = (1 / np.sqrt(variance + eps)).astype(x.dtype)
    xhat = (x - mean) * inverse_std
    y = gamma * xhat + beta

    def pullback(dy):
        dy = check_array(dy, "dy", shape=x.shape, dtypes=(x.dtype,))
        dgamma, dbeta = sum_over(dy * xhat, axes), sum_over(dy, axes)
        if not training:  # the statistics are constants
            return dy * (gamma * inverse_std), dgamma, dbeta
        dx = (gamma * inverse_std) * (dy - dbeta / count - xhat * (dgamma / count))
        return dx, dgamma, dbeta

    return y, pullback, (running_mean, running_var)


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Normalise each row of x (..., d) over its last axis; gamma, beta (d,).

    Returns y, pullback -> dx, dgamma, dbeta.
    """
    x = _check(x)
    y, pullback = group_norm(x.reshape(-1, x.shape[-1]), gamma, beta, 1, eps=eps)

    def shaped(dy):
        dy = check_array(dy, "dy", shape=x.shape, dtypes=(x.dtype,))
        dx, dgamma, dbeta = pullback(dy.reshape(-1, x.shape[-1]))
        return dx.reshape(x.shape), dgamma, dbeta

    return y.reshape(x.shape), shaped


def group_norm(x, gamma, beta, groups, *, eps=1e-5):
    """Normalise each of `groups` runs of channels of each example over its pixels and channels.

    x (n, ..., c) with c divisible by groups; gamma, beta (c,). Returns y, pullback(dy) -> (dx, dgamma, dbeta). Unlike
    batch norm an example's result does not depend on the others: no running statistics, no difference at inference.
    """
    x = _check(x)
    gamma = check_array(gamma, "gamma", shape=x.shape[-1:], dtypes=(x.dtype,))
    beta = check_array(beta, "beta", shape=x.shape[-1:], dtypes=(x.dtype,))
    groups = check_integer(groups, "groups", minimum=1)
    eps = check_number(eps, "eps", above=0)
    n, c = x.shape[0], x.shape[-1]
    if c % groups:
        raise ValueError(f"groups: expected a divisor of the {c} channels, got {groups} for x {x.shape}")
    grouped = x.reshape(n, -1, groups, c // groups)
    axes = (1, 3)
    mean, variance = _moments(grouped, axes, keepdims=True)
    inverse_std = (1 / np.sqrt(variance + eps)).astype(x.dtype)
    xhat = (grouped - mean) * inverse_std
    y = gamma * xhat.reshape(x.shape) + beta

    def pullback(dy):
        dy = check_array(dy, "dy", shape=x.shape, dtypes=(x.dtype,))
        others = tuple(range(x.ndim - 1))
        dgamma, dbeta = sum_over(dy * xhat.reshape(x.shape), others), sum_over(dy, others)
        dxhat = (dy * gamma).reshape(grouped.shape)
        size = grouped.shape[1] * grouped.shape[3]
        along_ones, along_xhat = (sum_over(a, axes, keepdims=True) / size for a in (dxhat, dxhat * xhat))
        dx = (dxhat - along_ones - xhat * along_xhat) * inverse_std
        return dx.reshape(x.shape), dgamma, dbeta

    return y, pullback


def _check(x):
    """x (n, ..., c) with n, c >= 1."""
    x = check_array(x, "x", dtypes=FLOATS, min_rows=1)
    if x.ndim < 2 or x.shape[-1] < 1:
        raise ValueError(f"x: expected 2 or more dimensions and a channel or more, got shape {x.shape}")
    return x


def _moments(x, axes, keepdims=False):
    """Mean and variance of x over `axes`, summed in float64, in the dtype of x."""
    mean = x.mean(axes, dtype=np.float64, keepdims=True)
    variance = np.square(x - mean).mean(axes, keepdims=True)
    mean, variance = mean.astype(x.dtype), variance.astype(x.dtype)
    return (mean, variance) if keepdims else (mean.squeeze(axes), variance.squeeze(axes))
