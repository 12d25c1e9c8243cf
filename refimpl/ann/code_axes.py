"""Which coordinates a 4-bit code describes, and in how many parts: the first principal axes, dealt to the parts.

A code is read for every vector of a list, so half as many parts are half the time; and residuals of embeddings lie
near few dimensions. So rotate them to their principal axes, code the first of these, and let the rest be zero.

How many? A code only has to rank. With r the error of x~ = x - r,

    |q - x~|^2 = |q - x|^2 + 2 (q - x).r + |r|^2

and for q and x of one list, q - x has twice the covariance C of the residuals, so the middle term, which is what
disturbs the order, has the mean square 8 E[r'Cr]. Along the principal axes, with variances v_j and mean square errors
e_j, E[r'Cr] is

    error = sum_j v_j e_j         e_j = v_j                                       of an axis that is left out
                                  e_j = LEFT[w] (product of the part's v)^(1/w)   of one in a part of w axes

Without axes, d / 2 parts of two coordinates each leave about LEFT[2] of the whole variance, spread over all directions
alike: e_j = LEFT[2] (sum v) / d. The fewest parts are taken that err no more than that. Vectors without directions of
their own get d / 2 parts; 16 to 32 are usual for embeddings of 128 dimensions.

The parts share alike by the eigenvalue allocation of OPQ: Ge et al., "Optimized product quantization", 2013.
"""

import numpy as np

from ..matrix_product import matrix_product
from .byte_shuffle import MOST_PARTS, QUAD
from .codebooks import deal

#: w: the mean square that k-means with 16 centroids leaves of a coordinate of standard normal vectors in w dimensions
LEFT = {1: 0.0101, 2: 0.1084, 4: 0.341, 8: 0.601, 16: 0.789}


def expected_error(variances, parts, width):
    """sum_j v_j e_j, as above, with the first parts x width of the variances (d,), descending, in codes.

    Infinite where a part would leave more of an axis than its variance: less of them is then better.
    """
    coded, others = np.maximum(variances[: parts * width], 1e-300), variances[parts * width :]
    shares = coded[deal(coded, parts)].reshape(parts, width)
    errors = LEFT[width] * np.exp(np.log(shares).mean(1, keepdims=True))
    if (errors > shares).any():
        return np.inf
    return float((shares * errors).sum() + (others**2).sum())


def choose_parts(variances, parts=None):
    """How many parts, and of how many axes, for variances (d,), descending -> parts, width; parts x width <= d.

    The fewest parts, QUAD at a time, that err no more than d / 2 parts without axes; `parts` of them, if given.
    """
    d = len(variances)
    most, allowed = max(1, min(d // 2, MOST_PARTS)), LEFT[2] * variances.sum() ** 2 / d
    for m in [*range(QUAD, most, QUAD), most] if parts is None else [min(parts, d)]:
        error, width = min((expected_error(variances, m, w), w) for w in LEFT if m * w <= d)
        if error <= allowed:
            break
    return m, width


def moments(x):
    """x^T x (d, d) float64 of x (n, d), finite: float32 products of numbers scaled to at most 1, so none overflows."""
    largest = np.float64(np.abs(x).max(initial=0) or 1)
    scaled = (x / largest).astype(np.float32)
    return matrix_product(scaled.T, scaled) * largest**2


def code_axes(residuals, parts=None):
    """The axes that codes of residuals (n, d) describe -> (d, parts x width) float32, orthonormal columns, and parts.

    Part by part, as `split` cuts them. O(n d^2 + d^3).
    """
    variances, axes = np.linalg.eigh(moments(residuals) / max(1, len(residuals)))
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    m, width = choose_parts(variances, parts)
    return axes[:, deal(variances[: m * width], m)].astype(np.float32), m
