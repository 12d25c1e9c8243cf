"""Vectors packed for the microkernel, with the bias that turns a matrix product into a ranking by distance.

    |x - q|^2 = |q|^2 - 2 (q.x - |x|^2 / 2)        nearest first = largest q.x - |x|^2 / 2 first

So a tile that starts at the bias -|x|^2 / 2 and adds q.x ranks COLUMNS vectors for ROWS queries. Layout: panel p holds
the vectors p COLUMNS to (p + 1) COLUMNS - 1, coordinate by coordinate; lanes that hold no vector have the bias -inf.

These scores are float32 and lose digits where q.x and |x|^2 / 2 cancel; `rounding_error` bounds the loss. Whoever
needs an exact answer takes every vector within twice that bound, and measures it again.
"""

import numpy as np

from ..microkernel import COLUMNS, ROWS, pack_panels


def pack_vectors(vectors, squares):
    """vectors (n, d) float32, squares (n,) -> panels (ceil(n / COLUMNS), d, COLUMNS), biases (panels, COLUMNS). O(n d).

    squares  of the lengths of the whole vectors, also where `vectors` are projections; None: biases 0, so that the
             score is the inner product
    """
    panels = pack_panels(vectors.T, COLUMNS)
    biases = np.full(len(panels) * COLUMNS, -np.inf, np.float32)
    with np.errstate(over="ignore"):  # -inf: beyond float32, as the error is (`rounding_error`)
        biases[: len(vectors)] = 0.0 if squares is None else -0.5 * squares
    return panels, biases.reshape(-1, COLUMNS)


def squared_lengths(vectors):
    """|x|^2 of each row, (n,) float64."""
    return np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)


def whole_tiles(queries):
    """queries (n, d) with zero rows appended up to a multiple of ROWS, and at least ROWS."""
    missing = max(ROWS, -(-len(queries) // ROWS) * ROWS) - len(queries)
    return np.concatenate([queries, np.zeros((missing, queries.shape[1]), queries.dtype)]) if missing else queries


def rounding_error(query_norms, largest_norm, d):
    """A bound on what a float32 score is off, (n,) float64: d roundings of a sum no larger than (|q| + |x|)^2.

    Higham, "Accuracy and stability of numerical algorithms", section 3.1: |error| <= d u sum |q_j x_j|, u = 2^-24.
    The 16 more pay for the bias and for coordinates that were rounded before. Infinite where float32 may overflow.
    """
    scale = (np.asarray(query_norms, np.float64) + largest_norm) ** 2
    return np.where(scale < 1e37, (d + 16) * 2.0**-24 * scale + d * 1e-36, np.inf)
