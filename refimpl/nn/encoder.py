"""Encoders: from images (n, h, w, channels) to embeddings (n, d). Parameters are flat dicts; the architecture is in
them.

A residual network in the CIFAR form of He et al. 2015 (arXiv:1512.03385, section 4.2): a 3x3 stem, stages of basic
blocks, global average pooling, a linear layer. The names of the parameters say what follows what, their shapes how
wide it is:

    stem/conv/weight                 (3, 3, channels, width 0)      stem/norm/gamma, stem/norm/beta
    stage0/block0/conv1/weight       3x3, stride 2 at the first block of every stage but stage 0
    stage0/block0/norm1/gamma ...    then ReLU
    stage0/block0/conv2/weight ...   3x3, then norm2
    stage1/block0/shortcut/weight    1x1, where a block changes the shape; then shortcut_norm
    head/weight, head/bias           (width of the last stage, d)

    block(x) = relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))

The running statistics of the norms are the *state*, a flat dict too: "stem/norm/mean", "stem/norm/variance", ...
widths=(64, 128, 256, 512), blocks=2 is the CIFAR ResNet-18 (11.2 million parameters); widths=(16, 32, 64), blocks=1 has
79 thousand.
"""

import numpy as np

from ..validation import check_array, check_integer
from .dense import linear
from .inference import Named, check_images, norm_of, residual_blocks
from .layers import conv_layer, conv_pool_layer
from .pooling import global_avg_pool


def resnet_init(*, widths=(32, 64, 128), blocks=1, embedding=64, seed, channels=3, dtype=np.float32):
    """New parameters and state of a residual network: two flat dicts, with the names that the module explains.

    widths     output channels of each stage
    blocks     basic blocks in each stage
    embedding  d, the length of an embedding
    seed       an integer or a numpy.random.Generator
    channels   of the images
    dtype      float32 or float64
    Convolutions are normal with variance 2 / (kh kw c_in) (He et al. 2015, arXiv:1502.01852), norms start as the
    identity. Raises ValueError for no stage, and for sizes that are not integers >= 1.
    """
    widths = [check_integer(width, "widths", minimum=1) for width in widths]
    if not widths:
        raise ValueError("widths: expected at least one stage, got none")
    blocks = check_integer(blocks, "blocks", minimum=1)
    embedding = check_integer(embedding, "embedding", minimum=1)
    channels = check_integer(channels, "channels", minimum=1)
    rng = np.random.default_rng(seed)
    params, state = {}, {}

    def conv(name, norm, size, c_in, c_out):
        scale = np.sqrt(2 / (size * size * c_in))
        params[f"{name}/weight"] = (rng.standard_normal((size, size, c_in, c_out)) * scale).astype(dtype)
        params[f"{norm}/gamma"], params[f"{norm}/beta"] = np.ones(c_out, dtype), np.zeros(c_out, dtype)
        state[f"{norm}/mean"], state[f"{norm}/variance"] = np.zeros(c_out, dtype), np.ones(c_out, dtype)

    conv("stem/conv", "stem/norm", 3, channels, widths[0])
    width = widths[0]
    for s, c in enumerate(widths):
        for b in range(blocks):
            block = f"stage{s}/block{b}"
            conv(f"{block}/conv1", f"{block}/norm1", 3, width, c)
            conv(f"{block}/conv2", f"{block}/norm2", 3, c, c)
            if (s > 0 and b == 0) or width != c:
                conv(f"{block}/shortcut", f"{block}/shortcut_norm", 1, width, c)
            width = c
    params["head/weight"] = (rng.standard_normal((width, embedding)) / np.sqrt(width)).astype(dtype)
    params["head/bias"] = np.zeros(embedding, dtype)
    return params, state


def resnet(params, state, images, *, training):
    """Embeddings (n, d) of images (n, h, w, channels), not normalised.

    images    float32 or float64, as the parameters
    training  True: batch norm uses the statistics of these images and moves the running ones; False: it uses the
              running ones, which stay as they are
    Returns embeddings, pullback(dembeddings) -> gradients (a dict like params), and the new state (the old one if not
    training). The arguments are not written to. The gradient for the images is not computed. Raises ValueError for
    parameters or images that do not fit each other, for images that are not finite or too small (below 8 x 8 pixels)
    and, in training, for so few that a batch norm would see only one value a channel.
    """
    if "stem/conv/weight" not in params:
        raise ValueError(f"params: expected those of a residual network, got {sorted(params)[:4]} ...")
    params, state, moved, gradients = Named("params", params), Named("state", state), dict(state), {}
    stem_weight = params["stem/conv/weight"]
    images = check_images(images, stem_weight.shape[2], stem_weight.dtype)

    def layer(x, conv, *, stride=1, padding=1, activate=True, shortcut=None, need_dx=True):
        """One `conv_layer` by its name; its pullback keeps the gradients of the parameters."""
        norm = norm_of(conv)
        x, layer_pullback, statistics = conv_layer(
            x, params[f"{conv}/weight"], params[f"{norm}/gamma"], params[f"{norm}/beta"],
            (state[f"{norm}/mean"], state[f"{norm}/variance"]), training=training,
            stride=stride, padding=padding, activate=activate, shortcut=shortcut, need_dx=need_dx,
        )  # fmt: skip
        moved[f"{norm}/mean"], moved[f"{norm}/variance"] = statistics

        def pullback(dy):
            dx, dweight, dgamma, dbeta, dshortcut = layer_pullback(dy)
            gradients.update({f"{conv}/weight": dweight, f"{norm}/gamma": dgamma, f"{norm}/beta": dbeta})
            return dx, dshortcut

        return x, pullback

    def block(x, name, stride):
        """A basic block; its pullback sums what comes back through both ways."""
        shortcut, shortcut_pullback = x, None
        if f"{name}/shortcut/weight" in params:
            shortcut, shortcut_pullback = layer(x, f"{name}/shortcut", stride=stride, padding=0, activate=False)
        x, pullback1 = layer(x, f"{name}/conv1", stride=stride)
        x, pullback2 = layer(x, f"{name}/conv2", shortcut=shortcut)

        def pullback(dy):
            dx, dshortcut = pullback2(dy)
            dx, _ = pullback1(dx)
            dx += dshortcut if shortcut_pullback is None else shortcut_pullback(dshortcut)[0]
            return dx

        return x, pullback

    x, stem = layer(images, "stem/conv", need_dx=False)
    blocks = []
    for name, stride in residual_blocks(params):
        x, block_pullback = block(x, name, stride)
        blocks.append(block_pullback)
    x, pool = global_avg_pool(x)
    embeddings, head = linear(x, params["head/weight"], params["head/bias"])

    def pullback(dembeddings):
        dx, gradients["head/weight"], gradients["head/bias"] = head(dembeddings)
        dx = pool(dx)
        for block_pullback in reversed(blocks):
            dx = block_pullback(dx)
        stem(dx)
        return {name: gradients[name] for name in params}

    return embeddings, pullback, moved


def embedding_size(params):
    """d of an encoder by its parameters: what its linear head gives or, without one, the width of its last norm."""
    if "head/bias" in params:
        return len(params["head/bias"])
    betas = [beta for name, beta in params.items() if name.endswith("/beta")]
    if not betas:
        raise ValueError(f"params: expected those of an encoder, got {sorted(params)[:4]} ...")
    return len(betas[-1])


def cnn_init(*, widths=(32, 64, 128, 128), embedding=128, size=(32, 32), seed, channels=3, dtype=np.float32):
    """Parameters and state of a plain network: for each width a 3x3 convolution, batch norm, ReLU, 2x2 max pooling.

    The linear layer at the end takes all that is left of a picture of `size` (height, width), which must be 2 or more
    at every pooling. Names: "conv0/weight", "norm0/gamma", ..., "head/weight", "head/bias".
    """
    widths = [check_integer(width, "widths", minimum=1) for width in widths]
    embedding = check_integer(embedding, "embedding", minimum=1)
    height, width = (check_integer(s, "size", minimum=1) >> len(widths) for s in size)
    if min(height, width) < 1 or not widths:
        raise ValueError(f"size: expected {2 ** len(widths)} pixels or more for {len(widths)} layers, got {size}")
    rng = np.random.default_rng(seed)
    params, state = {}, {}
    for i, (c_in, c_out) in enumerate(zip([check_integer(channels, "channels", minimum=1), *widths], widths)):
        params[f"conv{i}/weight"] = (rng.standard_normal((3, 3, c_in, c_out)) * np.sqrt(2 / (9 * c_in))).astype(dtype)
        params[f"norm{i}/gamma"], params[f"norm{i}/beta"] = np.ones(c_out, dtype), np.zeros(c_out, dtype)
        state[f"norm{i}/mean"], state[f"norm{i}/variance"] = np.zeros(c_out, dtype), np.ones(c_out, dtype)
    features = height * width * widths[-1]
    params["head/weight"] = (rng.standard_normal((features, embedding)) / np.sqrt(features)).astype(dtype)
    params["head/bias"] = np.zeros(embedding, dtype)
    return params, state


def cnn(params, state, images, *, training):
    """Embeddings of images with the plain network of `cnn_init`; arguments and results as `resnet`'s."""
    if "conv0/weight" not in params:
        raise ValueError(f"params: expected those of cnn_init, with conv0/weight, got {sorted(params)[:4]} ...")
    params, state, moved = Named("params", params), Named("state", state), dict(state)
    first = params["conv0/weight"]
    shape = (None, None, None, first.shape[2])
    images = check_array(images, "images", shape=shape, dtypes=(first.dtype,), finite=True, min_rows=1)
    layers = sum(name.startswith("conv") for name in params)
    x, pullbacks = images, []
    for i in range(layers):
        if min(x.shape[1:3]) < 2:
            raise ValueError(f"images: expected {2**layers} x {2**layers} pixels or more, got shape {images.shape}")
        x, pullback, statistics = conv_pool_layer(
            x, params[f"conv{i}/weight"], params[f"norm{i}/gamma"], params[f"norm{i}/beta"],
            (state[f"norm{i}/mean"], state[f"norm{i}/variance"]), training=training, need_dx=i > 0,
        )  # fmt: skip
        moved[f"norm{i}/mean"], moved[f"norm{i}/variance"] = statistics
        pullbacks.append(pullback)
    pooled = x.shape
    if x[0].size != len(params["head/weight"]):
        raise ValueError(
            f"images: expected pictures that leave {len(params['head/weight'])} features, got shape {images.shape}"
        )
    embeddings, head = linear(x.reshape(len(x), -1), params["head/weight"], params["head/bias"])

    def pullback(dembeddings):
        gradients = {}
        dx, gradients["head/weight"], gradients["head/bias"] = head(dembeddings)
        dx = dx.reshape(pooled)
        for i in reversed(range(layers)):
            dx, dweight, dgamma, dbeta = pullbacks[i](dx)
            gradients.update({f"conv{i}/weight": dweight, f"norm{i}/gamma": dgamma, f"norm{i}/beta": dbeta})
        return {name: gradients[name] for name in params}

    return embeddings, pullback, moved
