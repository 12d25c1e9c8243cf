"""Neighbours by the definition of each distance and a sort, and clouds of vectors that are hard on them."""

import numpy as np
from hypothesis import strategies as st

METRICS = ["l2", "cosine", "ip"]


def by_definition(vectors, queries, metric):
    """(queries, vectors) float32, summed in float64 over the coordinates in order."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    total = np.zeros((len(q), len(x)))
    for j in range(x.shape[1]):
        total += -q[:, j, None] * x[:, j] if metric == "ip" else (x[:, j] - q[:, j, None]) ** 2
    return {"l2": np.sqrt, "cosine": lambda t: t / 2, "ip": lambda t: t}[metric](total).astype(np.float32)


def sorted_neighbors(distances, ids, k):
    found, near = np.full((len(distances), k), -1), np.full((len(distances), k), np.inf, np.float32)
    for i, row in enumerate(distances):
        order = np.lexsort((ids, row))[:k]
        found[i, : len(order)], near[i, : len(order)] = ids[order], row[order]
    return found, near


def unit(x):
    return (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)


@st.composite
def clouds(draw):
    """Vectors with and without ties, far from the origin, in a line, constant, tiny and huge; queries near them."""
    n, d = draw(st.integers(0, 300)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = ["normal", "grid", "line", "constant", "offset", "across", "tiny", "huge", "few", "shell"]
    kind = draw(st.sampled_from(kinds))
    x = rng.standard_normal((n + 5, d))
    shell = rng.permuted(np.tile(rng.random(d), (n + 5, 1)), axis=1)  # ties that every rounding breaks
    shell[n:] = shell[n:, :1]  # queries with all coordinates alike
    across = x + np.where(np.arange(d) == 0, 1e4, 0)  # large norms, small inner products with the queries
    across[n:, 0] = 1e-3
    x = {
        "normal": x,
        "shell": shell,
        "across": across,
        "grid": rng.integers(-2, 3, x.shape) + 0.5,
        "line": rng.integers(1, 9, (n + 5, 1)) * np.linspace(1, 2, d),
        "constant": np.full(x.shape, 0.1),
        "offset": 1e5 + x,
        "tiny": 1e-20 * x,
        "huge": 1e18 * x,
        "few": x[rng.integers(0, min(3, len(x)), len(x))],
    }[kind].astype(np.float32)
    return x[:n], x[n:], rng.permutation(3 * n)[:n]
