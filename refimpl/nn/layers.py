"""The layers of the encoders: in training fused (fused.py), with frozen statistics the plain operations.

Without training the arithmetic is that of inference, but there is a pullback: for gradients through an encoder whose
running statistics stay as they are. Embedding without gradients is faster by inference.py.
"""

from .activation import relu
from .convolution import conv2d
from .fused import conv_norm_relu, conv_norm_relu_pool
from .normalization import batch_norm
from .pooling import max_pool2d


def conv_layer(
    x, weight, gamma, beta, running, *, training, stride=1, padding=1, activate=True, shortcut=None, need_dx=True,
    momentum=0.1,
):  # fmt: skip
    """relu(batch_norm(conv2d(x, weight)) + shortcut); arguments and results as of `fused.conv_norm_relu`."""
    if training:
        return conv_norm_relu(
            x, weight, gamma, beta, running, stride=stride, padding=padding, activate=activate, shortcut=shortcut,
            need_dx=need_dx, momentum=momentum,
        )  # fmt: skip
    z, conv_pullback = conv2d(x, weight, stride=stride, padding=padding)
    z, norm_pullback, running = batch_norm(z, gamma, beta, *running, training=False)
    z = z if shortcut is None else z + shortcut
    y, relu_pullback = relu(z) if activate else (z, lambda dy: dy)

    def pullback(dy):
        d = relu_pullback(dy)
        dz, dgamma, dbeta = norm_pullback(d)
        dx, dweight, _ = conv_pullback(dz)
        return dx, dweight, dgamma, dbeta, None if shortcut is None else d

    return y, pullback, running


def conv_pool_layer(x, weight, gamma, beta, running, *, training, need_dx=True, momentum=0.1):
    """max_pool2d(relu(batch_norm(conv2d(x, weight))), 2); arguments and results as of `fused.conv_norm_relu_pool`."""
    if training:
        return conv_norm_relu_pool(x, weight, gamma, beta, running, need_dx=need_dx, momentum=momentum)
    y, layer_pullback, running = conv_layer(x, weight, gamma, beta, running, training=False)
    y, pool_pullback = max_pool2d(y, 2)
    return y, lambda dy: layer_pullback(pool_pullback(dy))[:4], running
