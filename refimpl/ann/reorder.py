"""Exact re-ordering: the rows that codes have chosen, measured on the stored vectors.

Two sums of different price. All candidates get a squared distance in float32, in vector registers; the k least of them
get the distance that the index returns: in float64, over the coordinates in order (index.py), which no register can
sum faster than one addition after another. Those sums run side by side, BESIDE rows at once, each in its own order.

What limits it: waiting for memory. The rows lie anywhere in the table; each is asked for (`prefetch`) some rows ahead
of the one that is being measured, so that the waits overlap.
"""

import numpy as np
from numba import njit, prange

from .candidates import offer, squared_distance
from .gather import prefetch
from .index import METRICS

AHEAD = 4  # rows asked for before they are measured
LINE = 16  # float32 in a cache line
BESIDE = 4  # sums that run side by side


@njit(cache=True, inline="always")
def _ask_for(vectors, row):
    d = vectors.shape[1]
    for j in range(0, d, LINE):
        prefetch(vectors, row * d + j)


@njit(cache=True, inline="always")
def _term(x, q, metric):
    """metric: 0 l2, 1 cosine, 2 ip."""
    x, q = np.float64(x), np.float64(q)
    return (x - q) * (x - q) if metric < 2 else -x * q


@njit(cache=True)
def _exact_distances(vectors, query, rows, n, metric, out):
    """OUT out[:n]: the distances to vectors[rows[:n]] as index.py defines them. rows has BESIDE more entries, any."""
    for c in range(0, n, BESIDE):
        a, b, e, f = rows[c], rows[c + 1], rows[c + 2], rows[c + 3]
        first = second = third = fourth = 0.0
        for j in range(len(query)):
            first += _term(vectors[a, j], query[j], metric)
            second += _term(vectors[b, j], query[j], metric)
            third += _term(vectors[e, j], query[j], metric)
            fourth += _term(vectors[f, j], query[j], metric)
        out[c], out[c + 1], out[c + 2], out[c + 3] = first, second, third, fourth
    for c in range(n):
        if metric == 0:
            out[c] = np.sqrt(out[c])
        elif metric == 1:
            out[c] *= 0.5


@njit(cache=True)
def _offer_row(squares, rows, ids, square, row):
    """`offer` for a list of rows: by (square, id), and no row twice: one may be in two lists. INOUT squares, rows."""
    for other in rows:
        if other == row:
            return
    at = len(rows) - 1
    if square < squares[at] or rows[at] < 0 or (square == squares[at] and ids[row] < ids[rows[at]]):
        while at > 0 and (
            rows[at - 1] < 0 or squares[at - 1] > square or (squares[at - 1] == square and ids[rows[at - 1]] > ids[row])
        ):
            squares[at], rows[at] = squares[at - 1], rows[at - 1]
            at -= 1
        squares[at], rows[at] = square, row


@njit(cache=True, parallel=True)
def _reorder(vectors, rows, ids, queries, metric, order, chunk, found, distances):
    n, k = found.shape
    m = rows.shape[1]
    for task in prange((n + chunk - 1) // chunk):
        near, near_rows = np.empty(k, np.float32), np.empty(k, np.int64)
        chosen, exact = np.zeros(k + BESIDE, np.int64), np.empty(k + BESIDE)
        for i in order[task * chunk : (task + 1) * chunk]:
            near[:], near_rows[:] = np.inf, -1
            for c in range(min(AHEAD, m)):
                _ask_for(vectors, max(rows[i, c], 0))
            for c in range(m):
                if c + AHEAD < m:
                    _ask_for(vectors, max(rows[i, c + AHEAD], 0))
                row = rows[i, c]
                if row < 0:
                    continue
                squared = squared_distance(vectors[row], queries[i])
                if squared <= near[k - 1]:
                    _offer_row(near, near_rows, ids, squared, row)
            kept = 0
            while kept < k and near_rows[kept] >= 0:
                chosen[kept] = near_rows[kept]
                kept += 1
            _exact_distances(vectors, queries[i], chosen, kept, metric, exact)
            for c in range(kept):
                offer(distances[i], found[i], np.float32(exact[c]), ids[chosen[c]])


def reorder(vectors, rows, ids, queries, metric, k, order=None, chunk=16):
    """The k nearest of each query among vectors[rows] -> ids, distances (n, k), by (distance, id); -1, inf for none.

    vectors (any, d), queries (n, d) float32 in the stored form of `metric`; rows (n, m), -1 for none, equal ones
    counted once; ids (any,). order (n,): in which queries are taken, `chunk` of them a task; only the time depends
    on it.
    """
    found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    order = np.arange(len(queries)) if order is None else order
    _reorder(vectors, rows, ids, queries, METRICS.index(metric), order, chunk, found, distances)
    return found, distances
