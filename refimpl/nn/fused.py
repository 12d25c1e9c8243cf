"""The fast path of the encoders: convolution, batch norm, shortcut, ReLU and pooling with as few passes as possible.

The plain operations (convolution.py, normalization.py, activation.py, pooling.py) say what is computed; a test ties
these to their composition. A layer's arithmetic is in the convolution, but its time is also in moving activations
between memory and the cores: batch norm, ReLU and pooling one by one read and write the largest arrays of the network
a dozen times. Here, with z = conv(x) and xhat = (z - mean) * inverse_std:

    forward    1. z, written once; while a block of it is in the cache, its means and sums of squared deviations
               2. y = pool(relu(gamma * xhat + beta + shortcut)), one pass over z
    backward   3. d = dy where y > 0: the mask is read off the output. sum(d) and sum(d * xhat) in the same pass
               4. dz = a d + b (z - mean) + c, one pass, with one a, b, c a channel:
                      a = gamma * inverse_std    b = -a inverse_std^2 sum(d (z - mean)) / m    c = -a sum(d) / m
               5. the two products of the convolution's pullback

The convolution and its products are Winograd's (`winograd.py`), or those of `few_pixels.py`, where these are faster.

For 2x2 max pooling, pass 2 also writes the z that won each window: pass 3 then reads these (a quarter of z), and pass
4 finds the winner in its window by comparing with it. The winner also says whether y > 0, so neither y nor d is kept:
both passes compute the mask again, with the same operations. Statistics are kept by blocks of pixels (mean, sum of
squared deviations from it) and merged pairwise after Chan et al. 1979, which does not cancel as E[z^2] - E[z]^2 does.
"""

import numpy as np
from numba import njit, prange

from ..validation import check_array
from . import few_pixels, winograd
from .convolution import (
    BLOCK,
    _pack,
    check_convolution,
    grid,
    input_gradient,
    pad_images,
    pixel_offsets,
    product_block,
    tap_offsets,
    weight_gradient,
)
from .memory import empty

ROWS_A_TASK = 8 * BLOCK  # pixels whose statistics, or sums, are one partial result
# What a kernel has to know of each channel, as rows of one array:
MEAN, SCALE, BETA = range(3)  # of `norm`: gamma * xhat + beta = (z - mean) * scale + beta
A, B, C = range(1, 4)  # of `coefficients`: a, b and c of pass 4; the mean is the first row here, too


def conv_norm_relu(
    x, weight, gamma, beta, running, *, shortcut=None, stride=1, padding=1, activate=True, need_dx=True,
    momentum=0.1, eps=1e-5,
):  # fmt: skip
    """relu(batch_norm(conv2d(x, weight)) + shortcut) in training; without the ReLU if not `activate`.

    running = (running_mean, running_var); shortcut has the shape of y, or is None. Returns y,
    pullback(dy) -> (dx or None, dweight, dgamma, dbeta, dshortcut), and the new running statistics.
    Shapes and dtypes as in the plain operations. Raises ValueError for others, and for one value a channel.
    """
    z, moments, conv_pullback = _convolve(x, weight, stride, padding)
    c = z.shape[-1]
    gamma, beta, running = _check_norm(gamma, beta, running, c, z.dtype)
    if shortcut is not None:
        shortcut = check_array(shortcut, "shortcut", shape=z.shape, dtypes=(z.dtype,))
    mean, inverse_std, running = _statistics(moments, running, momentum, eps, z.dtype)
    y = empty(z.shape, z.dtype)
    norm = np.stack([mean, gamma * inverse_std, beta])
    added = np.empty((0, c), z.dtype) if shortcut is None else np.ascontiguousarray(shortcut).reshape(-1, c)
    _normalize(z.reshape(-1, c), norm, added, activate, y.reshape(-1, c))

    def pullback(dy):
        dy = np.ascontiguousarray(check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,)))
        d = empty(z.shape, z.dtype) if activate else dy
        sums = _partials(z, 2)
        _masked_sums(dy.reshape(-1, c), y.reshape(-1, c), z.reshape(-1, c), mean, activate, d.reshape(-1, c), sums)
        coefficients, dgamma, dbeta = _backward_coefficients(sums, mean, inverse_std, gamma, z.size // c)
        dz = empty(z.shape, z.dtype)
        _apply_coefficients(d.reshape(-1, c), z.reshape(-1, c), coefficients, dz.reshape(-1, c))
        return *conv_pullback(dz, need_dx), dgamma, dbeta, None if shortcut is None else d

    return y, pullback, running


def conv_norm_relu_pool(x, weight, gamma, beta, running, *, padding=1, need_dx=True, momentum=0.1, eps=1e-5):
    """max_pool2d(relu(batch_norm(conv2d(x, weight))), 2) in training; arguments and results as `conv_norm_relu`'s.

    pullback(dy) -> (dx or None, dweight, dgamma, dbeta).
    """
    z, moments, conv_pullback = _convolve(x, weight, 1, padding)
    n, h, w, c = z.shape
    gamma, beta, running = _check_norm(gamma, beta, running, c, z.dtype)
    mean, inverse_std, running = _statistics(moments, running, momentum, eps, z.dtype)
    y, best = (empty((n, h // 2, w // 2, c), z.dtype) for _ in range(2))
    norm = np.stack([mean, gamma * inverse_std, beta])
    _normalize_pool(z, norm, y, best)

    def pullback(dy):
        dy = np.ascontiguousarray(check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,)))
        sums = _partials(best, 2)
        _masked_sums_pool(dy.reshape(-1, c), best.reshape(-1, c), norm, sums)
        coefficients, dgamma, dbeta = _backward_coefficients(sums, mean, inverse_std, gamma, z.size // c)
        dz = empty(z.shape, z.dtype)
        _apply_coefficients_pool(dy, best, z, norm, coefficients, dz)
        return *conv_pullback(dz, need_dx), dgamma, dbeta

    return y, pullback, running


def _convolve(x, weight, stride, padding):
    """Pass 1: z; of the pixels of each task their number (tasks,), and mean and squared deviations (tasks, 2, c).

    The third result is pullback(dz, need_dx) -> dx or None, dweight. ValueError as of `conv2d`.
    """
    x, weight, _, stride, padding = check_convolution(x, weight, None, stride, padding)
    kh, kw, _, c = weight.shape
    out = tuple((size + 2 * p - k) // s + 1 for size, p, k, s in zip(x.shape[1:3], padding, (kh, kw), stride))
    if len(x) * out[0] * out[1] < 2:
        raise ValueError(f"x: expected at least 2 values a channel in training, got 1 of x {x.shape}")
    if winograd.suits(weight.shape, stride, out):
        panels = winograd.transformed_weight(weight)
        z, counts, partials = winograd.convolve(x, panels, c, padding, statistics=True)

        def winograd_pullback(dz, need_dx):
            dx = winograd.input_gradient(dz, weight, padding) if need_dx else None
            return dx, winograd.weight_gradient(x, dz, padding)

        return z, (counts, partials), winograd_pullback

    if few_pixels.suits(x.shape, weight.shape):
        z, few_pullback = few_pixels.convolve(x, weight, stride, padding)
        pixels = z.reshape(-1, c)
        mean = pixels.mean(axis=0, dtype=np.float64)
        deviations = np.square(pixels - mean).sum(axis=0)
        return z, (np.array([len(pixels)]), np.stack([mean, deviations])[None]), few_pullback

    shape = x.shape  # the pullback keeps this, and not x: the padded copy is enough
    padded = pad_images(x, padding)
    z = empty((len(x), *out, c), x.dtype)
    partials = _partials(z, 2)
    counts = np.minimum(ROWS_A_TASK, z.size // c - ROWS_A_TASK * np.arange(len(partials)))
    where, taps = grid(padded.shape, z.shape, stride), tap_offsets(padded.shape, kh, kw, 1)
    _product_and_statistics(padded, where, taps, _pack(weight, turned=False), z.reshape(-1, c), partials)

    def pullback(dz, need_dx):
        dx = input_gradient(dz, weight, shape, stride, padding) if need_dx else None
        return dx, weight_gradient(padded, dz, weight.shape, stride)

    return z, (counts, partials), pullback


def _check_norm(gamma, beta, running, c, dtype):
    """gamma, beta and the running statistics, each (c,) of `dtype`, as `batch_norm` asks for them."""
    names = ("gamma", "beta", "running_mean", "running_var")
    values = (gamma, beta, *running)
    gamma, beta, *running = (check_array(v, name, shape=(c,), dtypes=(dtype,)) for v, name in zip(values, names))
    return gamma, beta, running


def _statistics(moments, running, momentum, eps, dtype):
    """The mean of z and 1 / its standard deviation, from those of the tasks (see `_convolve`); running ones, moved."""
    counts, partials = moments[0][:, None], moments[1]
    m = counts.sum()
    means, deviations = partials[:, 0], partials[:, 1]
    mean = (means * counts).sum(0) / m
    variance = (deviations + counts * (means - mean) ** 2).sum(0) / m
    running = (
        ((1 - momentum) * running[0] + momentum * mean).astype(dtype),
        ((1 - momentum) * running[1] + momentum * variance * m / (m - 1)).astype(dtype),
    )
    return mean.astype(dtype), (1 / np.sqrt(variance + eps)).astype(dtype), running


def _partials(z, rows):
    """Room for `rows` numbers a channel, in float64, from each task."""
    return np.zeros((-(-(z.size // z.shape[-1]) // ROWS_A_TASK), rows, z.shape[-1]))


def _backward_coefficients(sums, mean, inverse_std, gamma, m):
    """The coefficients of pass 4, dgamma, dbeta. sums: of d, and of d (z - mean)."""
    dbeta, along_z = sums.sum(0)
    dgamma = along_z * inverse_std
    a = gamma * inverse_std.astype(np.float64)
    rows = (mean, a, -a * inverse_std * dgamma / m, -a * dbeta / m)
    dtype = mean.dtype
    return np.stack(rows).astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)


# --- Kernels: arrays are (pixels, channels); the inner loop over channels is the one that vectorises ------------------


@njit(cache=True, parallel=True)
def _product_and_statistics(x, grid, taps, panels, z, partials):
    """z = X W, and a task's mean and sum of squared deviations of every channel, block by block while in the cache."""
    total, c = z.shape
    for task in prange(partials.shape[0]):
        pixels = np.empty(BLOCK, np.int64)
        block_sum, block_mean, deviation = np.empty(c, z.dtype), np.empty(c, z.dtype), np.empty(c, z.dtype)
        seen = 0
        for first in range(task * ROWS_A_TASK, min(total, (task + 1) * ROWS_A_TASK), BLOCK):
            count = min(BLOCK, total - first)
            pixel_offsets(pixels, first, total, grid)
            product_block(x, pixels, count, taps, panels, 0, panels.shape[0], z, first)
            block_sum[:] = 0
            deviation[:] = 0
            for m in range(first, first + count):
                for j in range(c):
                    block_sum[j] += z[m, j]
            for j in range(c):
                block_mean[j] = block_sum[j] / z.dtype.type(count)
            for m in range(first, first + count):
                for j in range(c):
                    deviation[j] += (z[m, j] - block_mean[j]) ** 2
            for j in range(c):  # Chan et al.: the deviations of two sets about the mean of both
                delta = block_mean[j] - partials[task, 0, j]
                partials[task, 0, j] += delta * count / (seen + count)
                partials[task, 1, j] += deviation[j] + delta * delta * (seen * count / (seen + count))
            seen += count


@njit(cache=True, parallel=True)
def _normalize(z, norm, added, activate, y):
    """y = (z - mean) * scale + beta + added, then ReLU; added may be empty.

    Of a ReLU and of a maximum there are two forms, each one instruction. With a NaN they give what stands last, which
    is the value here: a training that has diverged does not look as if it had not.
    """
    total, c = z.shape
    floor = z.dtype.type(0 if activate else -np.inf)
    for task in prange(-(-total // ROWS_A_TASK)):
        for m in range(task * ROWS_A_TASK, min(total, (task + 1) * ROWS_A_TASK)):
            if added.shape[0] > 0:
                for j in range(c):
                    value = (z[m, j] - norm[MEAN, j]) * norm[SCALE, j] + norm[BETA, j] + added[m, j]
                    y[m, j] = floor if floor > value else value
            else:
                for j in range(c):
                    value = (z[m, j] - norm[MEAN, j]) * norm[SCALE, j] + norm[BETA, j]
                    y[m, j] = floor if floor > value else value


@njit(cache=True, parallel=True)
def _masked_sums(dy, y, z, mean, activate, d, sums):
    """d = dy where y > 0 (everywhere, if not activated); sums of d and of d (z - mean) over the pixels of each task."""
    total, c = z.shape
    for task in prange(sums.shape[0]):
        part = np.zeros((2, c), z.dtype)
        for first in range(task * ROWS_A_TASK, min(total, (task + 1) * ROWS_A_TASK), BLOCK):
            part[:] = 0
            for m in range(first, min(total, first + BLOCK)):
                if activate:
                    for j in range(c):
                        d[m, j] = dy[m, j] if y[m, j] > 0 else z.dtype.type(0)
                for j in range(c):
                    part[0, j] += d[m, j]
                    part[1, j] += d[m, j] * (z[m, j] - mean[j])
            for j in range(c):
                sums[task, 0, j] += part[0, j]
                sums[task, 1, j] += part[1, j]


@njit(cache=True, parallel=True)
def _masked_sums_pool(dy, best, norm, sums):
    """Pass 3 with 2x2 max pooling: the sums of d and of d (best - mean), where d = dy if y > 0; d is not written."""
    total, c = best.shape
    for task in prange(sums.shape[0]):
        part = np.zeros((2, c), best.dtype)
        for first in range(task * ROWS_A_TASK, min(total, (task + 1) * ROWS_A_TASK), BLOCK):
            part[:] = 0
            for m in range(first, min(total, first + BLOCK)):
                for j in range(c):
                    deviation = best[m, j] - norm[MEAN, j]
                    d = dy[m, j] if deviation * norm[SCALE, j] + norm[BETA, j] > 0 else best.dtype.type(0)
                    part[0, j] += d
                    part[1, j] += d * deviation
            for j in range(c):
                sums[task, 0, j] += part[0, j]
                sums[task, 1, j] += part[1, j]


@njit(cache=True, parallel=True)
def _apply_coefficients(d, z, coefficients, dz):
    """dz = a d + b (z - mean) + c."""
    total, c = z.shape
    for task in prange(-(-total // ROWS_A_TASK)):
        for m in range(task * ROWS_A_TASK, min(total, (task + 1) * ROWS_A_TASK)):
            for j in range(c):
                deviation = z[m, j] - coefficients[MEAN, j]
                dz[m, j] = coefficients[A, j] * d[m, j] + coefficients[B, j] * deviation + coefficients[C, j]


@njit(cache=True, parallel=True)
def _normalize_pool(z, norm, y, best):
    """Pass 2 with 2x2 max pooling: y, and the z of the first pixel of each window that has its maximum.

    A NaN in one z is one in its channel's mean, so in all its windows.
    """
    n, h, w, c = y.shape
    zero = z.dtype.type(0)
    for row in prange(n * h):
        image, i = row // h, row % h
        for q in range(w):
            for j in range(c):
                mean, scale = norm[MEAN, j], norm[SCALE, j]
                top = z[image, 2 * i, 2 * q, j]
                highest = (top - mean) * scale
                for u, v in ((0, 1), (1, 0), (1, 1)):
                    other = z[image, 2 * i + u, 2 * q + v, j]
                    value = (other - mean) * scale
                    top = other if value > highest else top
                    highest = value if value > highest else highest
                highest += norm[BETA, j]
                best[image, i, q, j] = top
                y[image, i, q, j] = zero if zero > highest else highest


@njit(cache=True, parallel=True)
def _apply_coefficients_pool(dy, best, z, norm, coefficients, dz):
    """Pass 4 with 2x2 max pooling: d goes to the first pixel of its window whose z is the best one."""
    n, height, width, c = z.shape
    _, h, w, _ = dy.shape
    zero = z.dtype.type(0)
    for row in prange(n * ((height + 1) // 2)):
        image, i = row // ((height + 1) // 2), row % ((height + 1) // 2)
        for q in range(w if i < h else 0):
            for j in range(c):
                mean, a, b, shift = coefficients[MEAN, j], coefficients[A, j], coefficients[B, j], coefficients[C, j]
                top = best[image, i, q, j]
                left = a * dy[image, i, q, j] if (top - mean) * norm[SCALE, j] + norm[BETA, j] > 0 else zero
                for u, v in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    value = z[image, 2 * i + u, 2 * q + v, j]
                    won = left if value == top else zero
                    dz[image, 2 * i + u, 2 * q + v, j] = won + (b * (value - mean) + shift)
                    left = zero if value == top else left
        for u in range(2 * i, min(height, 2 * i + 2)):  # pixels in no window: the last row and column of odd sizes
            for v in range(2 * w if i < h else 0, width):
                for j in range(c):
                    deviation = z[image, u, v, j] - coefficients[MEAN, j]
                    dz[image, u, v, j] = coefficients[B, j] * deviation + coefficients[C, j]
