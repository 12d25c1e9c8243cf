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
from .activation import relu
from .convolution import conv2d
from .dense import linear
from .normalization import batch_norm
from .pooling import global_avg_pool


def resnet_init(*, widths=(32, 64, 128), blocks=1, embedding=64, seed, channels=3, dtype=np.float32):
    """Parameters and state of a residual network with `blocks` basic blocks in each of len(widths) stages.

    Convolutions are normal with variance 2 / (kh kw c_in) (He et al. 2015, arXiv:1502.01852), norms start as the
    identity.
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
            if _block_stride(s, b) != 1 or width != c:
                conv(f"{block}/shortcut", f"{block}/shortcut_norm", 1, width, c)
            width = c
    params["head/weight"] = (rng.standard_normal((width, embedding)) / np.sqrt(width)).astype(dtype)
    params["head/bias"] = np.zeros(embedding, dtype)
    return params, state


def resnet(params, state, images, *, training):
    """Embeddings (n, d) of images (n, h, w, channels), not normalised.

    Returns embeddings, pullback(dembeddings) -> gradients (a dict like params), and the new state (the old one if not
    training). Nothing is written to. The gradient for the images is not computed.
    """
    images = _check_images(params, images)
    state = dict(state)
    tape = []  # pullbacks in the order of the forward pass; each maps the gradient of its output to that of its input
    gradients = {}

    def conv_norm(x, conv, norm, stride, padding):
        x, conv_pullback = conv2d(x, params[f"{conv}/weight"], stride=stride, padding=padding)
        x, norm_pullback, statistics = batch_norm(
            x, params[f"{norm}/gamma"], params[f"{norm}/beta"], state[f"{norm}/mean"], state[f"{norm}/variance"],
            training=training,
        )  # fmt: skip
        state[f"{norm}/mean"], state[f"{norm}/variance"] = statistics

        def pullback(dy):
            dy, gradients[f"{norm}/gamma"], gradients[f"{norm}/beta"] = norm_pullback(dy)
            dx, gradients[f"{conv}/weight"], _ = conv_pullback(dy)
            return dx

        return x, pullback

    def block(x, name, stride):
        shortcut, shortcut_pullback = x, lambda dy: dy
        if f"{name}/shortcut/weight" in params:
            shortcut, shortcut_pullback = conv_norm(x, f"{name}/shortcut", f"{name}/shortcut_norm", stride, 0)
        x, pullback1 = conv_norm(x, f"{name}/conv1", f"{name}/norm1", stride, 1)
        x, relu1 = relu(x)
        x, pullback2 = conv_norm(x, f"{name}/conv2", f"{name}/norm2", 1, 1)
        x, relu2 = relu(x + shortcut)

        def pullback(dy):
            dy = relu2(dy)
            return pullback1(relu1(pullback2(dy))) + shortcut_pullback(dy)

        return x, pullback

    x, stem = conv_norm(images, "stem/conv", "stem/norm", 1, 1)
    x, stem_relu = relu(x)
    tape += [stem, stem_relu]
    for name, stride in _blocks(params):
        x, block_pullback = block(x, name, stride)
        tape.append(block_pullback)
    x, pool = global_avg_pool(x)
    embeddings, head = linear(x, params["head/weight"], params["head/bias"])

    def pullback(dembeddings):
        dx, gradients["head/weight"], gradients["head/bias"] = head(dembeddings)
        dx = pool(dx)
        for operation in reversed(tape):
            dx = operation(dx)
        return {name: gradients[name] for name in params}

    return embeddings, pullback, state


def fold_batch_norm(params, state, *, eps=1e-5):
    """Parameters of the same encoder at inference, each norm folded into the convolution before it.

        gamma (conv(x) - mean) / sqrt(variance + eps) + beta  =  conv'(x) + bias'
        weight' = weight * scale        bias' = beta - mean * scale        scale = gamma / sqrt(variance + eps)

    "stem/conv/weight" and "stem/norm/..." become "stem/conv/weight" and "stem/conv/bias".
    """
    folded = {name: value for name, value in params.items() if name.startswith("head/")}
    for name, weight in params.items():
        if weight.ndim != 4:
            continue
        conv = name.removesuffix("/weight")
        norm = _norm_of(conv)
        scale = params[f"{norm}/gamma"] / np.sqrt(state[f"{norm}/variance"] + eps)
        folded[name] = (weight * scale).astype(weight.dtype)
        folded[f"{conv}/bias"] = (params[f"{norm}/beta"] - state[f"{norm}/mean"] * scale).astype(weight.dtype)
    return folded


def resnet_inference(folded, images):
    """Embeddings (n, d) of images, with parameters from `fold_batch_norm`: what `resnet` gives when not training."""
    images = _check_images(folded, images)

    def conv(x, name, stride, padding):
        return conv2d(x, folded[f"{name}/weight"], folded[f"{name}/bias"], stride=stride, padding=padding)[0]

    x = np.maximum(conv(images, "stem/conv", 1, 1), 0)
    for name, stride in _blocks(folded):
        shortcut = conv(x, f"{name}/shortcut", stride, 0) if f"{name}/shortcut/weight" in folded else x
        x = np.maximum(conv(x, f"{name}/conv1", stride, 1), 0)
        x = np.maximum(conv(x, f"{name}/conv2", 1, 1) + shortcut, 0)
    return x.mean(axis=(1, 2)) @ folded["head/weight"] + folded["head/bias"]


def _norm_of(conv):
    """ "stage0/block0/conv1" -> "stage0/block0/norm1"; the shortcut's is "shortcut_norm"."""
    return f"{conv}_norm" if conv.endswith("shortcut") else conv.replace("conv", "norm")


def _block_stride(stage, block):
    return 2 if stage > 0 and block == 0 else 1


def _blocks(params):
    """(name, stride) of the blocks, in order."""
    stage = 0
    while f"stage{stage}/block0/conv1/weight" in params:
        block = 0
        while f"stage{stage}/block{block}/conv1/weight" in params:
            yield f"stage{stage}/block{block}", _block_stride(stage, block)
            block += 1
        stage += 1


def _check_images(params, images):
    weight = params.get("stem/conv/weight")
    if weight is None:
        raise ValueError(f"params: expected those of an encoder, with stem/conv/weight, got {sorted(params)[:4]} ...")
    shape = (None, None, None, weight.shape[2])
    images = check_array(images, "images", shape=shape, dtypes=(weight.dtype,), min_rows=1)
    if min(images.shape[1:3]) < 8:
        raise ValueError(f"images: expected 8 x 8 pixels or more, got shape {images.shape}")
    return images
