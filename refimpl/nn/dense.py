"""Operations on rows of features: linear layers, L2 normalisation, dropout, and the small perceptron of a head."""

import numpy as np

from ..matrix_product import matrix_product
from ..validation import FLOATS, check_array, check_integer, check_number
from .activation import relu
from .convolution import sum_over


def linear(x, weight, bias=None):
    """y = x weight + bias, and its pullback(dy) -> (dx, dweight, dbias): dx = dy weight^T, dweight = x^T dy.

    x (n, d_in) float32 or float64, weight (d_in, d_out), bias (d_out,) or None (dbias is None then).
    """
    x = check_array(x, "x", ndim=2, dtypes=FLOATS, min_rows=1)
    weight = check_array(weight, "weight", shape=(x.shape[1], None), dtypes=(x.dtype,))
    y = matrix_product(x, weight)
    if bias is not None:
        y += check_array(bias, "bias", shape=weight.shape[1:], dtypes=(x.dtype,))

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        return matrix_product(dy, weight.T), matrix_product(x.T, dy), None if bias is None else sum_over(dy, 0)

    return y, pullback


def l2_normalize(x, eps=1e-12):
    """Rows of x (n, d) divided by their length, and the pullback(dy) -> dx.

        y = x / max(|x|, eps)        dx = (dy - y (y . dy)) / |x|

    The gradient loses its part along y: making x longer does not move y. Where |x| < eps, y = x / eps and dx = dy /
    eps.
    """
    x = check_array(x, "x", ndim=2, dtypes=FLOATS, min_rows=1)
    eps = check_number(eps, "eps", above=0)
    # A row is divided by its largest value before squaring, so that no square overflows or vanishes.
    largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(x.dtype).tiny)
    length = largest * np.sqrt(((x / largest) ** 2).sum(axis=1, keepdims=True))
    divisor = np.maximum(length, x.dtype.type(eps))
    y = x / divisor

    def pullback(dy):
        dy = check_array(dy, "dy", shape=y.shape, dtypes=(x.dtype,))
        along = (y * dy).sum(axis=1, keepdims=True)
        return (dy - np.where(length >= eps, y * along, 0)) / divisor

    return y, pullback


def dropout(x, rate, rng):
    """Each value of x is kept with probability 1 - rate and divided by it, else 0; rng is a numpy Generator.

    Returns y, pullback(dy) -> dx. The mean of y is x, so inference needs no change: it leaves dropout out. Srivastava
    et al., "Dropout", 2014, in the inverted form.
    """
    x = check_array(x, "x", dtypes=FLOATS, min_rows=1)
    rate = check_number(rate, "rate", minimum=0, below=1)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: expected a numpy.random.Generator, got {rng!r}")
    scale = (rng.random(x.shape, dtype=np.float32) >= rate) * x.dtype.type(1 / (1 - rate))

    def pullback(dy):
        return check_array(dy, "dy", shape=x.shape, dtypes=(x.dtype,)) * scale

    return x * scale, pullback


def mlp_init(widths, *, seed, dtype=np.float32):
    """Parameters of a perceptron with layers of the given widths: "layer0/weight" (widths[0], widths[1]), ...

    He et al. 2015 (arXiv:1502.01852): normal with variance 2 / d_in, so that ReLU layers keep the size of what they
    pass.
    """
    widths = [check_integer(width, "widths", minimum=1) for width in widths]
    if len(widths) < 2:
        raise ValueError(f"widths: expected two or more, got {widths}")
    rng = np.random.default_rng(seed)
    params = {}
    for i, (d_in, d_out) in enumerate(zip(widths, widths[1:])):
        params[f"layer{i}/weight"] = (rng.standard_normal((d_in, d_out)) * np.sqrt(2 / d_in)).astype(dtype)
        params[f"layer{i}/bias"] = np.zeros(d_out, dtype)
    return params


def mlp(params, x):
    """Linear layers with ReLU between them (none after the last): the projection or prediction head of chapter 1.

    params  as `mlp_init` makes them: "layer0/weight", "layer0/bias", "layer1/weight", ...
    x       (n, d_in), dtype of the parameters
    Returns y (n, d_out), pullback(dy) -> (dx, gradients), where gradients is a dict like params. Raises ValueError for
    parameters of other names, or of shapes or dtypes that do not fit.
    """
    layers = len(params) // 2
    if set(params) != {f"layer{i}/{part}" for i in range(layers) for part in ("weight", "bias")} or not params:
        raise ValueError(f"params: expected layer0/weight, layer0/bias, layer1/weight, ..., got {sorted(params)}")
    pullbacks = []
    for i in range(layers):
        x, linear_pullback = linear(x, params[f"layer{i}/weight"], params[f"layer{i}/bias"])
        x, relu_pullback = relu(x) if i < layers - 1 else (x, None)
        pullbacks.append((linear_pullback, relu_pullback))

    def pullback(dy):
        gradients = {}
        for i in reversed(range(layers)):
            linear_pullback, relu_pullback = pullbacks[i]
            if relu_pullback is not None:
                dy = relu_pullback(dy)
            dy, gradients[f"layer{i}/weight"], gradients[f"layer{i}/bias"] = linear_pullback(dy)
        return dy, {name: gradients[name] for name in params}

    return x, pullback
