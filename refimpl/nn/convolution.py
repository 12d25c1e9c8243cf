"""Two-dimensional convolution (cross-correlation, as everywhere in deep learning) of NHWC images, and its gradients.

    y[n, i, j, o] = bias[o] + sum over u < kh, v < kw, c of x[n, s i + u - p, s j + v - p, c] * weight[u, v, c, o]

with stride s, padding p, and x = 0 outside of the image. Seen as matrices, with one row a pixel (n, i, j) of y and one
column a tap (u, v, c) of the window, this is Y = X W, where row m of X is the patch of x under pixel m. So the three
convolutions of a training step are three matrix products:

    Y = X W        dW = X^T dY        dx = X' W'      (X': patches of dy; W': the kernel turned by 180 degrees,
                                                       input and output channels swapped)

X repeats each value of x up to kh * kw times and would be the largest array of the whole network (im2col). It is never
stored here: in a zero-padded image, the element of X in row m and column k is at

    x.flat[pixel_offset(m) + tap_offset(k)]

and the microkernel multiplies through these two tables of offsets (`refimpl.microkernel.gathered_tile_product`). With
the tables swapped the same microkernel multiplies by X^T. After Dukhan, "The Indirect Convolution Algorithm", 2019.

The gradient for x is a convolution too. In y, x[a] is used at every (i, u) with s i + u - p = a. For stride 1 that is
one i for each u: a convolution of dy with the turned kernel. For stride s, the positions a = r + s b of one phase r
use those u with (r + p - u) divisible by s only, at i = b + (r + p - u) / s: each phase is a small convolution of its
own, and none multiplies by the zeros that the usual picture (dy spread out with zeros between) contains.
"""

import numpy as np
from numba import njit, prange

from ..microkernel import ROWS, columns_of, gathered_tile_product
from ..validation import FLOATS, check_array, check_integer
from .memory import empty

BLOCK = 8 * ROWS  # pixels of y that one task computes; their offsets and the panel of weights stay in the cache
GRADIENT_BLOCK = 128  # pixels that one call of the microkernel sums over for the weight gradient
GRADIENT_TAPS = 18 * ROWS  # rows of the weight gradient that one task owns
GRADIENT_TASKS = 16


def conv2d(x, weight, bias=None, *, stride=1, padding=0):
    """The convolution of the module's formula, and its pullback.

    x        (n, h, w, c_in) float32 or float64
    weight   (kh, kw, c_in, c_out), dtype of x
    bias     (c_out,) or None
    stride   int or (vertical, horizontal), >= 1
    padding  int or (vertical, horizontal): zeros on each side, at most the size of the kernel

    Returns y (n, (h + 2 p - kh) // s + 1, (w + 2 p - kw) // s + 1, c_out) and pullback(dy) -> (dx, dweight, dbias),
    where dbias is None if bias is. ValueError for shapes or dtypes that do not fit.
    Cost: 2 * y.size * kh * kw * c_in operations, and as many for each of dx and dweight; memory for a padded copy of x.
    """
    x, weight, bias, stride, padding = check_convolution(x, weight, bias, stride, padding)
    padded = pad_images(x, padding)
    y = correlate(padded, weight, bias, stride)

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(y.dtype,))
        dx = input_gradient(dy, weight, x.shape, stride, padding)
        dweight = weight_gradient(padded, dy, weight.shape, stride)
        return dx, dweight, None if bias is None else sum_over(dy, (0, 1, 2))

    return y, pullback


def depthwise_conv2d(x, weight, bias=None, *, stride=1, padding=0):
    """Each channel convolved with a kernel of its own, and the pullback(dy) -> (dx, dweight, dbias).

        y[n, i, j, c] = bias[c] + sum over u, v of x[n, s i + u - p, s j + v - p, c] * weight[u, v, c]

    x (n, h, w, c), weight (kh, kw, c), bias (c,) or None; the rest as `conv2d`. kh * kw passes over slices of the
    padded image: with one product a value and tap there is no matrix product in it, and memory is what it waits for.
    """
    x = check_array(x, "x", ndim=4, dtypes=FLOATS, min_rows=1)
    weight = check_array(weight, "weight", shape=(None, None, x.shape[3]), dtypes=(x.dtype,))
    if bias is not None:
        bias = check_array(bias, "bias", shape=weight.shape[2:], dtypes=(x.dtype,))
    (sh, sw), (ph, pw) = pair(stride, "stride", 1), pair(padding, "padding", 0)
    kh, kw, _ = weight.shape
    check_window(x.shape, (kh, kw), (ph, pw))
    n, h, w, c = x.shape
    padded = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    rows, columns = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    y = np.zeros((n, rows, columns, c), x.dtype)
    if bias is not None:
        y += bias

    def under(u, v):
        """The pixels of the padded image that tap (u, v) of every window sees."""
        return slice(None), slice(u, u + (rows - 1) * sh + 1, sh), slice(v, v + (columns - 1) * sw + 1, sw)

    for u, v in np.ndindex(kh, kw):
        y += padded[under(u, v)] * weight[u, v]

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        dpadded, dweight = np.zeros_like(padded), np.empty_like(weight)
        for u, v in np.ndindex(kh, kw):
            dpadded[under(u, v)] += dy * weight[u, v]
            dweight[u, v] = sum_over(dy * padded[under(u, v)], (0, 1, 2))
        return dpadded[:, ph : ph + h, pw : pw + w], dweight, None if bias is None else sum_over(dy, (0, 1, 2))

    return y, pullback


def check_convolution(x, weight, bias, stride, padding):
    """The arguments of `conv2d`, checked; stride and padding as pairs."""
    x = check_array(x, "x", ndim=4, dtypes=FLOATS, min_rows=1)
    weight = check_array(weight, "weight", shape=(None, None, x.shape[3], None), dtypes=(x.dtype,))
    if bias is not None:
        bias = check_array(bias, "bias", shape=weight.shape[3:], dtypes=(x.dtype,))
    stride, padding = pair(stride, "stride", 1), pair(padding, "padding", 0)
    check_window(x.shape, weight.shape[:2], padding)
    return x, weight, bias, stride, padding


def check_window(shape, kernel, padding):
    """ValueError unless a window of `kernel` fits in images of `shape` (n, h, w, c), and `padding` in the window."""
    if min(shape) < 1 or min(kernel) < 1:
        raise ValueError(f"x, weight: expected no empty axis, got x {shape} and a kernel of {kernel}")
    if padding[0] > kernel[0] or padding[1] > kernel[1]:
        raise ValueError(f"padding: expected at most the size of the kernel {kernel}, got {padding} for x {shape}")
    if shape[1] + 2 * padding[0] < kernel[0] or shape[2] + 2 * padding[1] < kernel[1]:
        raise ValueError(f"x: expected images at least as large as the kernel {kernel}, got {shape}, padding {padding}")


def sum_over(x, axes, keepdims=False):
    """x.sum(axes) in the dtype of x, summed in float64: over the first axes NumPy adds one row after the other, and in
    float32 a quarter of a million equal values come out wrong in the third digit."""
    return x.sum(axes, dtype=np.float64, keepdims=keepdims).astype(x.dtype)


def pair(value, name, minimum):
    """(vertical, horizontal) of an int or of a pair of ints."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name}: expected an integer or a pair, got {value!r}")
    return tuple(check_integer(v, name, minimum=minimum) for v in values)


# --- The three products --------------------------------------------------------------------------------------------


def correlate(padded, weight, bias, stride):
    """Y = X W: the convolution of already padded images, C-contiguous."""
    n, h, w, _ = padded.shape
    kh, kw, c_in, c_out = weight.shape
    shape = (n, (h - kh) // stride[0] + 1, (w - kw) // stride[1] + 1)
    y = empty(shape + (c_out,), padded.dtype)
    bias = np.empty(0, padded.dtype) if bias is None else np.ascontiguousarray(bias)
    panels = _pack(weight, turned=False)
    taps = tap_offsets(padded.shape, kh, kw, 1)
    _patch_product(padded, grid(padded.shape, shape, stride), taps, panels, bias, y.reshape(-1, c_out))
    return y


def weight_gradient(padded, dy, shape, stride):
    """dW = X^T dY, of the given shape (kh, kw, c_in, c_out)."""
    kh, kw, c_in, c_out = shape
    where = grid(padded.shape, dy.shape, stride)
    width = c_out + -c_out % columns_of(dy.dtype)  # dy is read, and parts are written, in whole tiles
    if width != c_out:
        dy = np.concatenate([dy, np.zeros(dy.shape[:3] + (width - c_out,), dy.dtype)], axis=3)
    dy = np.ascontiguousarray(dy).reshape(-1, width)
    taps = tap_offsets(padded.shape, kh, kw, ROWS)
    groups = -(-len(taps) // GRADIENT_TAPS)
    splits = max(1, min(GRADIENT_TASKS // groups, len(dy) // (2 * GRADIENT_BLOCK)))
    parts = empty((splits, len(taps), width), dy.dtype)
    _transposed_patch_product(padded, where, taps, dy, parts, columns_of(dy.dtype))
    whole = parts[0] if splits == 1 else parts.sum(axis=0)
    return whole[: kh * kw * c_in, :c_out].reshape(shape)


def input_gradient(dy, weight, shape, stride, padding):
    """dx of the given shape, phase by phase (see the module's text); one phase is all there is for stride 1."""
    n, h, w, c_in = shape
    kh, kw = weight.shape[:2]
    # Zeros around dy, so that i = b + (r + p - u) / s is never out of range. low: for r = 0, b = 0, u = kh - 1.
    # For a 3x3 kernel, s = 2, p = 1, h = 5, dy has d = 3 rows: i >= (0 + 1 - 2) // 2 = -1, so low = 1; and the last
    # pixel, 4 = r + s b, has i <= (4 + 1 - 0) // 2 = 2, the last row of dy, so high = 0.
    low = [max(0, -((p - k + 1) // s)) for p, k, s in zip(padding, (kh, kw), stride)]
    high = [max(0, (size - 1 + p) // s - (d - 1)) for size, p, s, d in zip((h, w), padding, stride, dy.shape[1:3])]
    padded = _pad(dy, *low, *high)
    whole = stride == (1, 1)
    dx = None if whole else empty(shape, dy.dtype)
    for r in range(min(stride[0], h)):
        for q in range(min(stride[1], w)):
            rows = [u for u in range(kh - 1, -1, -1) if (r + padding[0] - u) % stride[0] == 0]
            columns = [v for v in range(kw - 1, -1, -1) if (q + padding[1] - v) % stride[1] == 0]
            if not rows or not columns:  # no window of y touches these pixels
                _fill_phase(np.empty((0, 0, 0, c_in), dy.dtype), dx, r, q, *stride)
                continue
            top = low[0] + (r + padding[0] - rows[0]) // stride[0]
            left = low[1] + (q + padding[1] - columns[0]) // stride[1]
            counts = (n, -(-(h - r) // stride[0]), -(-(w - q) // stride[1]))
            panels = _pack(weight[rows[::-1]][:, columns[::-1]], turned=True)
            phase = empty(counts + (c_in,), dy.dtype)
            taps = tap_offsets(padded.shape, len(rows), len(columns), 1)
            where = grid(padded.shape, counts, (1, 1), top, left)
            _patch_product(padded, where, taps, panels, np.empty(0, dy.dtype), phase.reshape(-1, c_in))
            if whole:
                return phase
            _fill_phase(phase, dx, r, q, *stride)
    return dx


# --- Offsets -------------------------------------------------------------------------------------------------------


def pad_images(x, padding):
    """x with `padding` zeros on each side, C-contiguous; x itself if there is nothing to do."""
    return _pad(x, *padding, *padding)


def _pad(x, top, left, bottom, right):
    """x inside zeros; x itself if there is nothing to add."""
    x = np.ascontiguousarray(x)
    if top == left == bottom == right == 0:
        return x
    n, h, w, c = x.shape
    padded = empty((n, top + h + bottom, left + w + right, c), x.dtype)
    if n == 1:  # waking the other threads takes longer than the copy
        _fill_padded_image(x, padded, 0, top, left)
    else:
        _fill_padded(x, padded, top, left)
    return padded


def tap_offsets(shape, kh, kw, multiple):
    """Offset of every tap (u, v, c) from the window's first element, in padded images of `shape`.

    Filled up to a multiple of `multiple` with copies of the last: rows that are computed and thrown away.
    """
    _, _, w, c = shape
    taps = (np.arange(kh)[:, None, None] * w + np.arange(kw)[:, None]) * c + np.arange(c)
    return np.pad(taps.ravel(), (0, -taps.size % multiple), mode="edge").astype(np.int64)


def grid(shape, counts, stride, top=0, left=0):
    """Where the windows of a `counts` (images, rows, columns) grid start, in padded images of `shape`.

    (rows, columns, offset of the first, step an image, step a row, step a column) for `pixel_offsets`.
    """
    _, h, w, c = shape
    return (counts[1], counts[2], (top * w + left) * c, h * w * c, stride[0] * w * c, stride[1] * c)


@njit(cache=True)
def pixel_offsets(offsets, first, total, grid):
    """offsets[i] = where the window of pixel first + i starts; past the last pixel, the last one's."""
    rows, columns, start, image_step, row_step, column_step = grid
    image, row, column = first // (rows * columns), first // columns % rows, first % columns
    for i in range(offsets.size):
        offsets[i] = start + image * image_step + row * row_step + column * column_step
        if first + i + 1 < total:  # the next pixel, without a division
            column += 1
            if column == columns:
                column, row = 0, row + 1
                if row == rows:
                    row, image = 0, image + 1


# --- Kernels -------------------------------------------------------------------------------------------------------


def _pack(weight, turned):
    """The panels of W (kh * kw * c_in, c_out), or of W' if turned: taps in reverse order, channels swapped."""
    kh, kw, c_in, c_out = weight.shape
    weight = np.ascontiguousarray(weight).reshape(kh * kw, c_in, c_out)
    columns = columns_of(weight.dtype)
    rows, width = (c_out, c_in) if turned else (c_in, c_out)
    panels = empty((-(-width // columns), kh * kw * rows, columns), weight.dtype)
    _fill_panels(weight, panels, turned)
    return panels


@njit(cache=True, parallel=True)
def _fill_panels(weight, panels, turned):
    """panels[p, tap and channel, j] = weight of output p * columns + j, zeros beyond; `turned` for dx."""
    taps, c_in, c_out = weight.shape
    n_panels, _, columns = panels.shape
    for task in prange(n_panels * taps):
        panel, t = task // taps, task % taps
        first = panel * columns
        if turned:
            for j in range(columns):
                for o in range(c_out):
                    inside = first + j < c_in
                    panels[panel, t * c_out + o, j] = weight[taps - 1 - t, first + j, o] if inside else 0
        else:
            width = min(columns, c_out - first)
            for c in range(c_in):
                for j in range(width):
                    panels[panel, t * c_in + c, j] = weight[t, c, first + j]
                for j in range(width, columns):
                    panels[panel, t * c_in + c, j] = 0


@njit(cache=True)
def product_block(x, pixels, count, taps, panels, start, stop, y, first):
    """y[first : first + count] = X W for the pixels of one block; all of them use a panel while it is in the cache.

    Only the columns of panels[start:stop].
    """
    c_out = y.shape[1]
    _, k, columns = panels.shape
    tile = np.empty((ROWS, columns), y.dtype)
    for panel in range(start, stop):
        column, b_at = panel * columns, panel * k * columns
        width = min(columns, c_out - column)
        for row in range(0, count, ROWS):
            if width == columns and row + ROWS <= count:
                at = (first + row) * c_out + column
                gathered_tile_product(x, pixels, row, taps, 0, panels, b_at, columns, y, at, c_out, k, False)
            else:  # at the edges of y, through a whole tile
                gathered_tile_product(x, pixels, row, taps, 0, panels, b_at, columns, tile, 0, columns, k, False)
                for i in range(min(ROWS, count - row)):
                    for j in range(width):
                        y[first + row + i, column + j] = tile[i, j]


@njit(cache=True, parallel=True)
def _patch_product(x, grid, taps, panels, bias, y):
    """y[m, :] = bias + sum over k of x.flat[pixel_offset(m) + taps[k]] * W[k, :]; y (pixels, c_out), panels hold W."""
    total, c_out = y.shape
    for block in prange(-(-total // BLOCK)):
        first = block * BLOCK
        count = min(BLOCK, total - first)
        pixels = np.empty(BLOCK, np.int64)
        pixel_offsets(pixels, first, total, grid)
        product_block(x, pixels, count, taps, panels, 0, panels.shape[0], y, first)
        for m in range(first, first + count * (bias.size > 0)):
            for j in range(c_out):
                y[m, j] += bias[j]


@njit(cache=True, parallel=True)
def _transposed_patch_product(x, grid, taps, dy, parts, columns):
    """The sum over parts of parts[:, k, :] = sum over pixels m of x.flat[pixel_offset(m) + taps[k]] * dy[m, :].

    A task owns some taps and one of the parts, each a run of pixels: who adds what, and in which order, depends on
    the shapes only, never on the number of threads.
    """
    total, width = dy.shape
    splits, n_taps, _ = parts.shape
    groups = -(-n_taps // GRADIENT_TAPS)
    share = -(-total // (splits * GRADIENT_BLOCK)) * GRADIENT_BLOCK
    for task in prange(groups * splits):
        split, group = task // groups, task % groups
        low, high = group * GRADIENT_TAPS, min(n_taps, (group + 1) * GRADIENT_TAPS)
        start, stop = split * share, min(total, (split + 1) * share)
        if start >= stop:
            parts[split, low:high] = 0
        pixels = np.empty(GRADIENT_BLOCK, np.int64)
        for first in range(start, stop, GRADIENT_BLOCK):
            count = min(GRADIENT_BLOCK, total - first)
            pixel_offsets(pixels, first, total, grid)
            for column in range(0, width, columns):
                for k in range(low, high, ROWS):
                    at = (split * n_taps + k) * width + column
                    here = first * width + column
                    more = first > start
                    gathered_tile_product(x, taps, k, pixels, 0, dy, here, width, parts, at, width, count, more)


@njit(cache=True)
def _fill_padded_image(x, padded, image, top, left):
    """One image into the middle of its padded copy, zeros around it."""
    n, h, w, c = x.shape
    _, height, width, _ = padded.shape
    for i in range(height):
        inside = top <= i < top + h
        for j in range(width):
            if inside and left <= j < left + w:
                for k in range(c):
                    padded[image, i, j, k] = x[image, i - top, j - left, k]
            else:
                for k in range(c):
                    padded[image, i, j, k] = 0


@njit(cache=True, parallel=True)
def _fill_padded(x, padded, top, left):
    for image in prange(x.shape[0]):
        _fill_padded_image(x, padded, image, top, left)


@njit(cache=True, parallel=True)
def _fill_phase(phase, dx, top, left, down, right):
    """dx[:, top::down, left::right] = phase, or 0 if phase is empty."""
    n, h, w, c = dx.shape
    for image in prange(n):
        for i in range(top, h, down):
            for j in range(left, w, right):
                if phase.size > 0:
                    for k in range(c):
                        dx[image, i, j, k] = phase[image, i // down, j // right, k]
                else:
                    for k in range(c):
                        dx[image, i, j, k] = 0
