"""A kernel around one small transform: intrinsics can only be called from compiled code."""

from numba import njit

from refimpl.nn.tile_transform import make_transform

transform = make_transform([[0, 2], [-1, 0], [3, -1]])


@njit
def transform_once(x, y, lanes):
    """y[1 + i, j, lane] = (M X M^T)[i, j] with X[u, v] = x[1 + v, u, lanes + lane]: rows of X lie across those of x."""
    rows, across = x.shape[1] * x.shape[2], x.shape[2]
    transform(x, rows + lanes, across, rows, y, y.shape[1] * y.shape[2], y.shape[1] * y.shape[2], y.shape[2])
