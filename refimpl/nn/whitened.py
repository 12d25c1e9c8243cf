"""A plain network that learns in few passes over the data.

Its first layer is computed from the pictures, and the other layers start by copying their input to their output.

The network of K. Jordan's airbench94 (2024, arXiv:2404.00498), of which this keeps the parts that make few passes
enough:

- *Whitening.* Neighbouring pixels say nearly the same, so the gradients of a first layer point nearly the same way too.
  Its 2x2 filters are fixed instead: with V diag(s) V^T the second moments of the 2x2 patches, from which no mean is
  taken (that of pictures after a z-score is about 0), the filters

      V diag(1 / sqrt(s + EPSILON))      and their negatives

  give outputs whose second moments are about the identity; both signs, because a ReLU follows and would lose one of
  them.
- *Copies.* The first c_in output channels of each 3x3 convolution start as their input ("dirac"): signals and
  gradients pass a new network as they are. The other channels start random.
- *Stages* of two convolutions, each with batch norm and ReLU; the first one's result is pooled 2x2. The embedding is
  the maximum over the pixels that are left, (n, width of the last stage), without a linear layer.

    whitening (3 to 24 channels), ReLU      32 x 32 -> 31 x 31 pixels       state["whitening/weight"]: not a parameter
    conv0, norm0, ReLU, 2x2 pooling         31 -> 15                        conv1, norm1, ReLU
    conv2, norm2, ReLU, 2x2 pooling         15 -> 7                         conv3, norm3, ReLU
    conv4, norm4, ReLU, 2x2 pooling         7 -> 3                          conv5, norm5, ReLU; maximum

What differs from his network: ReLU in place of GELU, pooling after the norm instead of before it, no bias in the
whitening.
"""

import numpy as np

from ..matrix_product import matrix_product
from ..validation import FLOATS, check_array, check_integer
from .convolution import conv2d
from .inference import FusedConvolution, Named
from .layers import conv_layer, conv_pool_layer
from .pooling import max_pool2d

BLOCK = 256  # pictures whose patches are in memory at a time
EPSILON = 5e-4  # of a variance, for pictures of unit variance: directions below it are noise, not to be blown up
MOMENTUM = 0.4  # of a batch's statistics in the running ones: few steps, so they have to follow fast
STATE = "whitening/weight"


def patch_whitening(images):
    """Filters (2, 2, c, 8 c) that whiten the 2x2 patches of images (n, h, w, c), and their negatives; see above.

    images   float32 or float64, as the network will see them; the filters have their dtype. Raises ValueError for
             others, values that are not finite, and pictures of less than 2 x 2 pixels
    """
    images = check_array(images, "images", ndim=4, dtypes=FLOATS, finite=True, min_rows=1)
    if min(images.shape[1:3]) < 2:
        raise ValueError(f"images: expected 2 x 2 pixels or more, got shape {images.shape}")
    c, patches = images.shape[3], len(images) * (images.shape[1] - 1) * (images.shape[2] - 1)
    moments = np.zeros((4 * c, 4 * c))
    for first in range(0, len(images), BLOCK):  # so that no float64 copy of all patches stands in memory
        corners = _corners(images[first : first + BLOCK].astype(np.float64))
        block = np.concatenate(corners, axis=3).reshape(-1, 4 * c)
        moments += matrix_product(block.T, block)
    variances, directions = np.linalg.eigh(moments / patches)
    filters = directions / np.sqrt(np.maximum(variances, 0) + EPSILON)
    return np.concatenate([filters, -filters], axis=1).reshape(2, 2, c, 8 * c).astype(images.dtype)


def whitened_init(images, *, widths=(64, 256, 256), seed, dtype=np.float32):
    """Parameters and state of a network of len(widths) stages.

    images   (n, h, w, c) as the network will see them, some thousands: their patches give the whitening
    widths   output channels of both convolutions of each stage; the last is the size of the embeddings
    Raises ValueError for wrong widths, and as `patch_whitening`.
    """
    widths = [check_integer(width, "widths", minimum=1) for width in widths]
    if not widths:
        raise ValueError("widths: expected at least one stage, got none")
    whitening = patch_whitening(images).astype(dtype)
    rng = np.random.default_rng(seed)
    params, state = {}, {STATE: whitening}
    inputs = [whitening.shape[3], *np.repeat(widths, 2)]
    for i, (c_in, c_out) in enumerate(zip(inputs, inputs[1:])):
        bound = 1 / np.sqrt(9 * c_in)
        weight = rng.uniform(-bound, bound, (3, 3, c_in, c_out))
        weight[:, :, :, :c_in] = 0
        weight[1, 1, np.arange(min(c_in, c_out)), np.arange(min(c_in, c_out))] = 1
        params[f"conv{i}/weight"] = weight.astype(dtype)
        params[f"norm{i}/gamma"], params[f"norm{i}/beta"] = np.ones(c_out, dtype), np.zeros(c_out, dtype)
        state[f"norm{i}/mean"], state[f"norm{i}/variance"] = np.zeros(c_out, dtype), np.ones(c_out, dtype)
    return params, state


def whitened(params, state, images, *, training):
    """Embeddings (n, d) of images (n, h, w, c), not normalised; arguments and results as of `resnet`."""
    layers = _layers(params, state)
    params, state, moved = Named("params", params), Named("state", state), dict(state)
    x, pullbacks = _whiten(state[STATE], images, layers), []
    for i in range(layers):
        values = [params[f"conv{i}/weight"], params[f"norm{i}/gamma"], params[f"norm{i}/beta"]]
        running = state[f"norm{i}/mean"], state[f"norm{i}/variance"]
        layer = conv_pool_layer if i % 2 == 0 else conv_layer
        x, pullback, running = layer(x, *values, running, training=training, need_dx=i > 0, momentum=MOMENTUM)
        moved[f"norm{i}/mean"], moved[f"norm{i}/variance"] = running
        pullbacks.append(pullback)
    pooled, pool = max_pool2d(x, x.shape[1:3])
    n, _, _, d = pooled.shape
    embeddings = pooled.reshape(n, d).copy()  # the caller's own: `pool` reads the maxima again

    def pullback(dembeddings):
        gradients = {}
        dy = check_array(dembeddings, "dembeddings", shape=(n, d), dtypes=(pooled.dtype,))
        dx = pool(dy.reshape(pooled.shape))
        for i in reversed(range(layers)):
            dx, *gradient = pullbacks[i](dx)[:4]
            gradients |= zip((f"conv{i}/weight", f"norm{i}/gamma", f"norm{i}/beta"), gradient)
        return {name: gradients[name] for name in params}

    return embeddings, pullback, moved


def whitened_embedder(folded):
    """embed(images) -> embeddings, for `fold_batch_norm(params, state)`; packs the weights once, for many calls."""
    maps = whitened_maps(folded)
    return lambda images: maps(images).max(axis=(1, 2))


def whitened_maps(folded):
    """maps(images) -> what the last stage gives, (n, h / 8, w / 8, d) for three stages, before any pooling over pixels.

    Arguments as of `whitened_embedder`.
    """
    layers, folded = _layers(folded, folded), Named("folded", folded)
    convolutions = [
        FusedConvolution(folded[f"conv{i}/weight"], folded[f"conv{i}/bias"], padding=1, pool=i % 2 == 0)
        for i in range(layers)
    ]

    def maps(images):
        x = _whiten(folded[STATE], images, layers)
        for convolution in convolutions:
            x = convolution(x)
        return x

    return maps


def _layers(params, state):
    """How many convolutions there are, two a stage; ValueError if these are the parameters of something else."""
    layers = sum(name.startswith("conv") and name.endswith("weight") for name in params)
    if layers == 0 or layers % 2 or STATE not in state:
        raise ValueError(f"params: expected those of whitened_init, with its state, got {sorted(params)[:4]} ...")
    return layers


def _whiten(filters, images, layers):
    """The network's fixed first layer: no gradient is ever asked of it."""
    shape = (None, None, None, filters.shape[2])
    images = check_array(images, "images", shape=shape, dtypes=(filters.dtype,), finite=True, min_rows=1)
    least = 2 ** (layers // 2) + 1
    if min(images.shape[1:3]) < least:
        raise ValueError(f"images: expected {least} x {least} pixels or more, got shape {images.shape}")
    x, _ = conv2d(images, filters)
    return np.maximum(x, 0, out=x)


def _corners(images):
    """The four pixels of every 2x2 patch, as four arrays (n, h - 1, w - 1, c)."""
    return [images[:, u : images.shape[1] - 1 + u, v : images.shape[2] - 1 + v] for u in (0, 1) for v in (0, 1)]
