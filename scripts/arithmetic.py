"""How many floating-point operations a training takes, so that runs of different machines can be compared.

A layer's forward pass is one product, its backward pass two of the same size (for the weights and for the pixels); a
multiplication with its addition counts as two operations. Norms, pooling, losses and optimizers are left out: a few
percent.
"""

PRODUCTS, OPERATIONS = 3, 2


def multiply_adds(params, size):
    """Of one picture of size x size forwards, through parameters of resnet_init, cnn_init or whitened_init.

    The fixed first layer of the last one has no parameters, and does not count.
    """
    side_of = side if "head/weight" in params else side_whitened
    total = params["head/weight"].size if "head/weight" in params else 0
    for name, weight in params.items():
        if weight.ndim == 4:
            total += weight.size * side_of(name, size) ** 2
    return total


def side(name, size):
    """Of what the named convolution gives: a plain network halves after each, a residual one at each stage but 0."""
    if name.startswith("conv"):
        return size >> int(name.split("/")[0].removeprefix("conv"))
    stage = int(name.split("/")[0].removeprefix("stage")) if name.startswith("stage") else 0
    return -(-size // 2**stage)


def side_whitened(name, size):
    """The same for the network of `whitened_init`: its first layer takes a pixel off, every other one halves after."""
    return (size - 1) >> ((int(name.split("/")[0].removeprefix("conv")) + 1) // 2)


def training_cost(params, size, pictures, forwards_only=0):
    """{what: number} for the record of a training that learned from so many pictures of size x size, each view counted,
    and encoded `forwards_only` others (MoCo's keys)."""
    adds = multiply_adds(params, size)
    return {
        "parameters": int(sum(p.size for p in params.values())),
        "multiply-adds a picture, forwards": int(adds),
        "pictures": int(pictures + forwards_only),
        "training FLOP": float(OPERATIONS * adds * (PRODUCTS * pictures + forwards_only)),
    }
