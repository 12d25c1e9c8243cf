"""Embedding pictures with a trained encoder: batch norm folded away, everything after a product fused into it.

    gamma (conv(x) - mean) / sqrt(variance + eps) + beta  =  conv'(x) + bias'
    weight' = weight * scale        bias' = beta - mean * scale        scale = gamma / sqrt(variance + eps)

The running statistics are constants at inference, so a norm is one more linear map, and two linear maps are one. What
is left of a layer, bias, shortcut, ReLU and pooling, is done on each block of results while they are in the cache:
BLOCK pixels of the direct product, a tile of Winograd's. For pooling, the pixels of a block are taken window by window:
the four values of a window are then four rows in a row.
"""

from functools import cached_property

import numpy as np
from numba import njit, prange

from ..matrix_product import matrix_product
from ..microkernel import columns_of, pack_panels
from ..validation import FLOATS, check_array
from . import winograd
from .convolution import (
    BLOCK,
    _pack,
    check_window,
    grid,
    pad_images,
    pair,
    pixel_offsets,
    product_block,
    tap_offsets,
)
from .memory import empty
from .pooling import global_avg_pool
from .winograd_inference import winograd_layer


def fold_batch_norm(params, state, *, eps=1e-5):
    """Parameters for inference: every norm is folded into the convolution before it, as weight' and bias' (see above).

    params, state  of a network in this package, flat dicts
    eps            that of the batch norms in training
    Returns one flat dict: "stem/conv/weight" with "stem/norm/gamma", ... becomes "stem/conv/weight" and
    "stem/conv/bias"; the arrays of params and of state that belong to no norm are in it as they are.
    Raises ValueError for a norm of which a part is missing, and for values that are not finite: a ReLU could turn them
    into plausible numbers, and nobody would notice.
    """
    params, state = Named("params", params), Named("state", state)
    for section, values in (("params", params), ("state", state)):
        for name, value in values.items():
            check_array(value, f"{section}[{name!r}]", finite=True)
    folded = {name: value for name, value in {**params, **state}.items() if "norm" not in name}
    for name, weight in params.items():
        conv = name.removesuffix("/weight")
        norm = norm_of(conv)
        if weight.ndim == 4 and f"{norm}/gamma" in params:
            scale = params[f"{norm}/gamma"] / np.sqrt(state[f"{norm}/variance"] + eps)
            folded[name] = (weight * scale).astype(weight.dtype)
            folded[f"{conv}/bias"] = (params[f"{norm}/beta"] - state[f"{norm}/mean"] * scale).astype(weight.dtype)
    return folded


def norm_of(conv):
    """The name of the norm that follows a convolution: "stage0/block0/conv1" -> "stage0/block0/norm1"."""
    return f"{conv}_norm" if conv.endswith("shortcut") else conv.replace("conv", "norm")


class Named(dict):
    """The arrays of an argument by their names; one that is asked for and missing is a ValueError that says which."""

    def __init__(self, argument, arrays):
        super().__init__(arrays)
        self.argument = argument

    def __missing__(self, name):
        raise ValueError(f"{self.argument}: expected an array {name!r}, got {sorted(self)[:4]} ...")


class FusedConvolution:
    """relu(conv2d(x, weight, bias, stride, padding) + shortcut), then 2x2 max pooling; weights packed once.

    With `activate` False there is no ReLU, with `pool` False no pooling; with pooling there is no shortcut. The
    convolution is Winograd's (`winograd.py`) where that is the faster way. Shapes and dtypes as of `conv2d`; raises
    ValueError for others, and for a shortcut with `pool`.
    """

    def __init__(self, weight, bias, *, stride=1, padding=0, activate=True, pool=False):
        self.weight = check_array(weight, "weight", ndim=4, dtypes=FLOATS)
        bias = check_array(bias, "bias", shape=self.weight.shape[3:], dtypes=(self.weight.dtype,))
        self.bias, self.activate, self.pool = np.ascontiguousarray(bias), activate, pool
        self.stride, self.padding = pair(stride, "stride", 1), pair(padding, "padding", 0)
        self.plans = {}  # shape of x -> what depends on it alone: for one small image, as much time as the arithmetic

    @cached_property
    def panels(self):
        return _pack(self.weight, turned=False)

    @cached_property
    def winograd_panels(self):
        return winograd.transformed_weight(self.weight)

    def plan(self, shape):
        """Shapes of the convolution and of y for x of `shape`; offsets of the taps and windows, None for Winograd's."""
        kh, kw, c_in, c_out = self.weight.shape
        if len(shape) != 4 or shape[3] != c_in:
            raise ValueError(f"x: expected shape (any, any, any, {c_in}), got {shape}")
        check_window(shape, (kh, kw), self.padding)
        sizes = zip(shape[1:3], self.padding, (kh, kw), self.stride)
        h, w = out = tuple((size + 2 * p - k) // s + 1 for size, p, k, s in sizes)
        y_shape = (shape[0], h // 2, w // 2, c_out) if self.pool else (shape[0], h, w, c_out)
        if winograd.suits(self.weight.shape, self.stride, out):
            return (shape[0], h, w, c_out), y_shape, None, None
        padded = (shape[0], *(size + 2 * p for size, p in zip(shape[1:3], self.padding)), shape[3])
        return out, y_shape, tap_offsets(padded, kh, kw, 1), grid(padded, (shape[0], h, w), self.stride)

    def __call__(self, x, shortcut=None):
        if x.shape not in self.plans:
            self.plans[x.shape] = self.plan(x.shape)
        if x.dtype != self.weight.dtype:
            raise ValueError(f"x: expected dtype {self.weight.dtype}, got {x.dtype}")
        shape, y_shape, taps, where = self.plans[x.shape]
        y = empty(y_shape, x.dtype)
        added = y[:0]
        if shortcut is not None:
            if self.pool:
                raise ValueError(f"shortcut: expected none with pool, got shape {shortcut.shape}")
            if shortcut.shape != y_shape or shortcut.dtype != x.dtype:
                raise ValueError(
                    f"shortcut: expected shape {y_shape}, {x.dtype}, got {shortcut.shape}, {shortcut.dtype}"
                )
            added = np.ascontiguousarray(shortcut)
        if taps is None:
            options = (self.bias, added, self.activate, self.pool)
            winograd_layer(x, self.padding, self.winograd_panels, shape, *options, y)
            return y
        padded, rows = pad_images(x, self.padding), y.reshape(-1, y_shape[3])
        if self.pool:
            _product_pool(padded, where, taps, self.panels, self.bias, self.activate, rows)
        else:
            added = added.reshape(-1, y_shape[3])
            _product_relu(padded, where, taps, self.panels, self.bias, added, self.activate, rows)
        return y


@njit(cache=True, parallel=True)
def _product_relu(x, grid, taps, panels, bias, added, activate, y):
    """y = X W + bias + added, then ReLU; added has the shape of y or no rows. NaN stays NaN, as in `_normalize`."""
    total, c_out = y.shape
    floor = y.dtype.type(0 if activate else -np.inf)
    columns = panels.shape[2]
    # A few pixels and many panels (one small image): tasks share the panels instead of the pixels.
    groups = panels.shape[0] if total < 16 * BLOCK else 1
    for task in prange(-(-total // BLOCK) * groups):
        first, group = task // groups * BLOCK, task % groups
        count = min(BLOCK, total - first)
        pixels = np.empty(BLOCK, np.int64)
        pixel_offsets(pixels, first, total, grid)
        start, stop = group * panels.shape[0] // groups, (group + 1) * panels.shape[0] // groups
        product_block(x, pixels, count, taps, panels, start, stop, y, first)
        low, high = start * columns, min(c_out, stop * columns)
        for m in range(first, first + count):
            if added.shape[0] > 0:
                for j in range(low, high):
                    value = y[m, j] + bias[j] + added[m, j]
                    y[m, j] = floor if floor > value else value
            else:
                for j in range(low, high):
                    value = y[m, j] + bias[j]
                    y[m, j] = floor if floor > value else value


@njit(cache=True, parallel=True)
def _product_pool(x, grid, taps, panels, bias, activate, y):
    """y = the largest of every 2x2 window of relu(X W + bias); the grid is that of the pixels before pooling.

    Without `activate` there is no ReLU. A window of which all is NaN has NaN: that of a pixel which is NaN itself, if
    the kernel is 3x3 with its padding.
    """
    total, c_out = y.shape
    floor = y.dtype.type(0 if activate else -np.inf)
    rows, width, start, image_step, row_step, column_step = grid
    windows = (rows // 2, width // 2, start, image_step, 2 * row_step, 2 * column_step)
    window_count = BLOCK // 4
    columns = panels.shape[2]
    groups = panels.shape[0] if total < 16 * window_count else 1
    for task in prange(-(-total // window_count) * groups):
        first, group = task // groups * window_count, task % groups
        count = min(window_count, total - first)
        corners, pixels = np.empty(window_count, np.int64), np.empty(BLOCK, np.int64)
        pixel_offsets(corners, first, total, windows)
        for i in range(window_count):
            pixels[4 * i], pixels[4 * i + 1] = corners[i], corners[i] + column_step
            pixels[4 * i + 2], pixels[4 * i + 3] = corners[i] + row_step, corners[i] + row_step + column_step
        z = np.empty((BLOCK, c_out), y.dtype)
        low, high = group * panels.shape[0] // groups, (group + 1) * panels.shape[0] // groups
        product_block(x, pixels, 4 * count, taps, panels, low, high, z, 0)
        for i in range(count):
            for j in range(low * columns, min(c_out, high * columns)):
                top = max(max(z[4 * i, j], z[4 * i + 1, j]), max(z[4 * i + 2, j], z[4 * i + 3, j])) + bias[j]
                y[first + i, j] = floor if floor > top else top


def cnn_embedder(folded):
    """embed(images) -> embeddings, for folded parameters of `refimpl.nn.cnn`; packs them once, for many calls."""
    if "conv0/weight" not in folded:
        raise ValueError(f"folded: expected parameters of cnn_init, got {sorted(folded)[:4]} ...")
    folded = Named("folded", folded)
    weights = [folded[f"conv{i}/weight"] for i in range(sum(value.ndim == 4 for value in folded.values()))]
    layers = [FusedConvolution(w, folded[f"conv{i}/bias"], padding=1, pool=True) for i, w in enumerate(weights)]
    head, bias, panels = _head(folded, None, weights[0].dtype)

    def embed(images):
        """See `cnn_embedder`."""
        shape = (None, None, None, weights[0].shape[2])
        x = check_array(images, "images", shape=shape, dtypes=(head.dtype,), finite=True, min_rows=1)
        for layer in layers:
            if min(x.shape[1:3]) < 2:
                least = 2 ** len(layers)
                raise ValueError(f"images: expected {least} x {least} pixels or more, got shape {images.shape}")
            x = layer(x)
        if x[0].size != len(head):
            raise ValueError(f"images: expected pictures that leave {len(head)} features, got shape {images.shape}")
        return matrix_product(x.reshape(len(x), -1), head, panels) + bias

    return embed


def cnn_inference(folded, images):
    """Embeddings of images with folded parameters of `refimpl.nn.cnn`."""
    return cnn_embedder(folded)(images)


def resnet_embedder(folded):
    """embed(images) -> embeddings, for many calls: the weights are packed here, once.

    folded  parameters of `refimpl.nn.resnet`, from `fold_batch_norm`; ValueError for others
    embed takes images (n, h, w, channels), 8 x 8 pixels or more, finite, of the parameters' dtype, and returns (n, d),
    not normalised. Raises ValueError for other images.
    """
    if "stem/conv/weight" not in folded:
        raise ValueError(f"folded: expected parameters of a residual network, got {sorted(folded)[:4]} ...")
    folded = Named("folded", folded)

    def conv(name, stride=1, padding=1, activate=True):
        weight, bias = folded[f"{name}/weight"], folded[f"{name}/bias"]
        return FusedConvolution(weight, bias, stride=stride, padding=padding, activate=activate)

    stem = conv("stem/conv")
    blocks = []
    for name, stride in residual_blocks(folded):
        shortcut = conv(f"{name}/shortcut", stride, 0, False) if f"{name}/shortcut/weight" in folded else lambda x: x
        blocks.append((conv(f"{name}/conv1", stride), conv(f"{name}/conv2"), shortcut))
    channels, dtype = stem.weight.shape[2], stem.weight.dtype
    head, bias, panels = _head(folded, (blocks[-1][1] if blocks else stem).weight.shape[3], dtype)

    def embed(images):
        x = stem(check_images(images, channels, head.dtype))
        for conv1, conv2, shortcut in blocks:
            x = conv2(conv1(x), shortcut(x))
        return matrix_product(global_avg_pool(x)[0], head, panels) + bias

    return embed


def resnet_inference(folded, images):
    """Embeddings (n, d) of images, with parameters from `fold_batch_norm`: what `resnet` gives when not training."""
    return resnet_embedder(folded)(images)


def _head(folded, features, dtype):
    """Weight (features, d), bias (d,) and panels of the linear layer; features None: any number."""
    head = check_array(folded["head/weight"], "head/weight", shape=(features, None), dtypes=(dtype,))
    bias = check_array(folded["head/bias"], "head/bias", shape=head.shape[1:], dtypes=(dtype,))
    return head, bias, pack_panels(head, columns_of(dtype))


def residual_blocks(params):
    """(name, stride) of the blocks of a residual network, in order."""
    stage = 0
    while f"stage{stage}/block0/conv1/weight" in params:
        block = 0
        while f"stage{stage}/block{block}/conv1/weight" in params:
            yield f"stage{stage}/block{block}", 2 if stage > 0 and block == 0 else 1
            block += 1
        stage += 1


def check_images(images, channels, dtype):
    shape = (None, None, None, channels)
    images = check_array(images, "images", shape=shape, dtypes=(dtype,), finite=True, min_rows=1)
    if min(images.shape[1:3]) < 8:
        raise ValueError(f"images: expected 8 x 8 pixels or more, got shape {images.shape}")
    return images
