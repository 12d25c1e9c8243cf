"""Muon: a step for matrices whose directions all have about the same length.

Where a few singular values of a weight's gradient are much larger than the others, SGD and Adam move the layer along
those few directions and hardly along the rest. Muon keeps the directions of the momentum M = U S V^T and replaces its
singular values by about 1:

    U S V^T  ->  U p(S) V^T         p(s) near 1

No decomposition is needed. An odd polynomial of a matrix acts on its singular values alone,

    X -> a X + b (X X^T) X + c (X X^T)^2 X = U (a S + b S^3 + c S^5) V^T

and with X divided by its Frobenius norm (so S <= 1) five rounds with COEFFICIENTS bring every singular value from
0.002 to 1 into [0.68, 1.21] (a Newton-Schulz iteration; its coefficients give up an exact 1 for a steep start,
a^5 = 485).

Here the rounds are taken on the small side. With r the smaller of the two sizes and G = X^T X (r, r) of a tall X, a
round multiplies X by F = a I + b G + c G^2, and G becomes F G F, since F is symmetric and commutes with G. So

    U p(S) V^T = X (F_5 F_4 F_3 F_2 F_1)

takes two products with X (its Gram matrix and the last one) in place of ten, and all the others are symmetric, so that
half of each is enough: for a 3x3 convolution of 512 to 512 channels 5.9 GFLOP in place of 25.5.

Source: K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the length of the step: Liu et
al. 2025 (arXiv:2502.16982), section 2.2.
"""

import numpy as np

from ..matrix_product import matrix_product, symmetric_product
from ..validation import FLOATS, check_array, check_integer, check_number
from .memory import empty
from .optimizers import _like, _pairs, _remembered, adamw

COEFFICIENTS = 3.4445, -4.7750, 2.0315
RMS = 0.2  # of a step at rate 1: about that of Adam's steps, so that the rate means the same to both


def orthogonalize(matrix, rounds=5):
    """U p(S) V^T of matrix (m, n) = U S V^T, with p(s) in [0.68, 1.21] for s from 0.002 of its Frobenius norm on.

    float32 or float64, as the result; zeros stay zeros. Cost: 3 m n r + (4 rounds - 3) r^3 operations, r = min(m, n).
    Raises ValueError for other arrays, values that are not finite, rounds < 1.
    """
    matrix = check_array(matrix, "matrix", ndim=2, dtypes=FLOATS, finite=True)
    rounds = check_integer(rounds, "rounds", minimum=1)
    largest = max(matrix.max(initial=0), -matrix.min(initial=0))
    if largest == 0:
        return matrix.copy()
    wide = matrix.shape[1] > len(matrix)
    x = np.divide(matrix, largest, out=empty(matrix.shape, matrix.dtype))  # since tiny or huge values have no squares
    x = x.T if wide else x
    a, b, c = (_like(coefficient, x) for coefficient in COEFFICIENTS)
    gram, product = symmetric_product(x.T, x), None
    square = np.trace(gram, dtype=np.float64)  # of the Frobenius norm, by which x still has to be divided
    gram /= _like(square, gram)
    for i in range(rounds):
        factor = c * symmetric_product(gram, gram) + b * gram
        factor.ravel()[:: len(factor) + 1] += a
        product = factor if product is None else symmetric_product(factor, product)  # F_i ... F_1
        if i < rounds - 1:
            gram = symmetric_product(symmetric_product(factor, gram), factor)
    result = matrix_product(x, product / _like(square**0.5, x))
    return np.ascontiguousarray(result.T) if wide else result


def muon(params, gradients, opt_state, *, learning_rate, momentum=0.95, weight_decay=0.01):
    """v <- momentum v + g;  p <- p - lr wd p - lr RMS sqrt(max(m, n)) orthogonalize(g + momentum v).

    A weight of more than two dimensions is taken as the matrix (all the others, its last one): of a convolution, one
    column for each output channel. An orthogonal m x n matrix has elements of RMS 1 / sqrt(max(m, n)), hence the root.
    Arrays of fewer than two dimensions, biases and those of norms, take AdamW's step at the same rate.
    Source: see the module.
    """
    lr = check_number(learning_rate, "learning_rate", minimum=0)
    momentum = check_number(momentum, "momentum", minimum=0, below=1)
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    new, state, vectors = {}, {}, {}
    for name, p, g in _pairs(params, gradients):
        if p.ndim < 2:
            vectors[name] = p, g
            continue
        v = _remembered(opt_state, f"velocity/{name}", p)
        v = state[f"velocity/{name}"] = g.copy() if v is None else _multiply_add(momentum, v, g)
        step = orthogonalize(_multiply_add(momentum, v, g).reshape(-1, p.shape[-1]))
        step *= _like(-lr * RMS * max(step.shape) ** 0.5, p)
        step = _multiply_add(-lr * decay, p, step.reshape(p.shape))  # not (1 - lr decay) p, see `adamw`
        new[name] = np.add(p, step, out=step)
    if vectors:
        pairs = ({name: pair[i] for name, pair in vectors.items()} for i in (0, 1))
        remembered = {name: value for name, value in opt_state.items() if not name.startswith("velocity/")}
        vector_new, vector_state = adamw(*pairs, remembered, learning_rate=lr, weight_decay=decay)
        new |= vector_new
        state |= vector_state
    return {name: new[name] for name in params}, state


def _multiply_add(number, x, y):
    """number x + y, on memory that earlier steps have left."""
    result = np.multiply(x, _like(number, x), out=empty(x.shape, x.dtype))
    result += y
    return result
