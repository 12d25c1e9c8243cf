"""How similar two embeddings are: dot product, cosine, Euclidean distance, each with its pullback.

    dot_similarity       s_ij = x_i . y_j                     grows with the length of both; any real number
    cosine_similarity    s_ij = x_i . y_j / (|x_i| |y_j|)     the angle alone; -1 to 1
    squared_distance     s_ij = |x_i - y_j|^2                 smaller is nearer
    euclidean_distance   s_ij = |x_i - y_j|                   the same order

On unit vectors all four rank alike, because |x - y|^2 = 2 - 2 x.y. They differ where lengths do.

All take x (n, d) and y (m, d), float32 or float64, and return s (n, m) and pullback(ds) -> dx, dy. For the similarities
within one batch z pass it twice, as x and as y, and add the two gradients: dz = dx + dy. All raise ValueError for wrong
shapes, dtypes and values that are not finite.

Distances are summed from differences, not computed as |x|^2 + |y|^2 - 2 x.y: for points near each other that form
subtracts large numbers, and two copies of a point would not be at distance 0. The sum costs three operations where a
matrix product needs two, at a lower rate; losses call it on batches, not on collections.
"""

import numpy as np
from numba import njit, prange

from ..matrix_product import matrix_product
from ..nn import l2_normalize
from ..validation import FLOATS, check_array
from .checks import no_overflow


def dot_similarity(x, y):
    """s = x y^T, and pullback(ds): dx = ds y, dy = ds^T x. Raises ValueError if a product overflows."""
    x, y = _two_sets(x, y)
    s = no_overflow(matrix_product(x, y.T), "dot product")

    def pullback(ds):
        ds = check_array(ds, "ds", shape=s.shape, dtypes=(s.dtype,))
        return matrix_product(ds, y), matrix_product(ds.T, x)

    return s, pullback


def cosine_similarity(x, y):
    """s = x y^T after every row is divided by its length, and the pullback. A zero vector is similar to nothing: s = 0.

    The gradient has no part along a row itself and grows as 1 / length; at a zero vector it is ds y / 1e-12, not 0 (see
    `nn.l2_normalize`).
    """
    x, y = _two_sets(x, y)
    (unit_x, through_x), (unit_y, through_y) = l2_normalize(x), l2_normalize(y)
    s, through_s = dot_similarity(unit_x, unit_y)

    def pullback(ds):
        dx, dy = through_s(ds)
        return through_x(dx), through_y(dy)

    return s, pullback


def squared_distance(x, y):
    """s_ij = |x_i - y_j|^2, and pullback(ds): dx_i = 2 sum_j ds_ij (x_i - y_j).

    Raises ValueError if a square overflows. Cost: O(n m d) time, O(n m) memory.
    """
    x, y = _two_sets(x, y)
    s = no_overflow(_squared(x, y), "squared distance")

    def pullback(ds):
        ds = check_array(ds, "ds", shape=s.shape, dtypes=(s.dtype,))
        return _through_differences(2 * ds, x, y)

    return s, pullback


def euclidean_distance(x, y):
    """s_ij = |x_i - y_j|, and pullback(ds): dx_i = sum_j ds_ij (x_i - y_j) / s_ij.

    At distance 0 there is no direction: the gradient there is taken as 0. Raises ValueError if a square overflows.
    Cost: O(n m d) time, O(n m) memory; in the pullback only pairs with ds other than 0 take time.
    """
    x, y = _two_sets(x, y)
    s = np.sqrt(no_overflow(_squared(x, y), "squared distance"))

    def pullback(ds):
        ds = check_array(ds, "ds", shape=s.shape, dtypes=(s.dtype,))
        return _through_differences(np.divide(ds, s, out=np.zeros_like(s), where=s > 0), x, y)

    return s, pullback


def _two_sets(x, y):
    x = check_array(x, "x", ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
    y = check_array(y, "y", shape=(None, x.shape[1]), dtypes=(x.dtype,), finite=True, min_rows=1)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _squared(x, y):
    s = np.zeros((len(x), len(y)), x.dtype)
    _sum_squares(x, y, s)
    return s


def _through_differences(weight, x, y):
    """dx_i = sum_j weight_ij (x_i - y_j), and dy_j = sum_i weight_ij (y_j - x_i)."""
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    _add_differences(weight, x, y, dx)
    _add_differences(np.ascontiguousarray(weight.T), y, x, dy)
    return dx, dy


# The sum over k may be taken in vector lanes; infinities stay what they are, for `no_overflow` to find.
@njit(cache=True, parallel=True, fastmath={"reassoc", "contract"})
def _sum_squares(x, y, s):
    for i in prange(len(x)):
        for j in range(len(y)):
            total = s[i, j]
            for k in range(x.shape[1]):
                difference = x[i, k] - y[j, k]
                total += difference * difference
            s[i, j] = total


@njit(cache=True, parallel=True)
def _add_differences(weight, x, y, dx):
    for i in prange(len(x)):
        for j in range(len(y)):
            w = weight[i, j]
            if w != 0:
                for k in range(x.shape[1]):
                    dx[i, k] += w * (x[i, k] - y[j, k])
