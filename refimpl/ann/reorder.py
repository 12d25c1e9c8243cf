"""Exact re-ordering: the rows that codes have chosen, measured on the stored vectors.

Two sums of different price. All candidates get a squared distance in float32, in vector registers; the k least of them
get the distance that the index returns, in float64 (`candidates.exact_distance`).

What limits it: waiting for memory. The rows lie anywhere in the table; each is asked for (`prefetch`) some rows ahead
of the one that is being measured, so that the waits overlap.
"""

import numpy as np

from ..kernels import in_threads, inlined, kernel
from .byte_shuffle import LANES
from .candidates import measure, offer, offer_row, squared_distance
from .fast_scan import FEW, count_ranks
from .gather import ask_for
from .index import METRICS, Index

AHEAD = 8  # rows asked for before they are measured


@inlined
def _ask_for_first(vectors, rows):
    """For the AHEAD first of the rows, which `_measure_all` expects to be on their way."""
    for row in rows[:AHEAD]:
        if row >= 0:
            ask_for(vectors, row)


@inlined
def _measure_all(vectors, rows, query, squares):
    """OUT squares (slots, LANES): those of the distances of vectors[rows], inf for rows < 0 and beyond them."""
    m, flat = len(rows), squares.reshape(squares.size)
    for c in range(m):
        if c + AHEAD < m and rows[c + AHEAD] >= 0:
            ask_for(vectors, rows[c + AHEAD])
        flat[c] = squared_distance(vectors[rows[c]], query) if rows[c] >= 0 else np.inf


@inlined
def _offer_all(squares, rows, ids, near, near_rows):
    """The same with any squares, row by row. OUT near, near_rows (k,)."""
    flat = squares.reshape(squares.size)
    for c in range(len(near)):
        near[c], near_rows[c] = np.inf, -1
    for c in range(len(rows)):
        if rows[c] >= 0 and flat[c] <= near[-1]:
            offer_row(near, near_rows, ids, flat[c], rows[c])


@kernel
def _reorder(first, last, vectors, rows, ids, queries, metric, order, found, distances, room):
    """`reorder` for the queries order[first:last]. OUT found (n, k) = -1, distances (n, k) = inf."""
    squares, near, near_rows, exact = room
    k, slots = found.shape[1], len(squares)
    if first < last:
        _ask_for_first(vectors, rows[order[first]])
    for turn in range(first, last):
        i = order[turn]
        _measure_all(vectors, rows[i], queries[i], squares)
        if turn + 1 < last:  # they arrive while this query's are ranked
            _ask_for_first(vectors, rows[order[turn + 1]])
        near_rows[:] = -1
        finite, filled = count_ranks(squares, rows[i], near_rows) if slots <= FEW else (np.int64(k), np.int64(0))
        if filled < k and filled < finite:
            _offer_all(squares, rows[i], ids, near, near_rows)
        kept = np.int64(0)  # a type of its own, if it were a plain 0
        while kept < k and near_rows[kept] >= 0:
            kept += 1
        measure(vectors, near_rows, kept, queries[i], metric, exact)
        for c in range(kept):  # in about this order: each only passes those in front of it
            offer(distances[i, : c + 1], found[i, : c + 1], exact[c], ids[near_rows[c]])


def reorder(vectors, rows, ids, queries, metric, k, order=None, chunk=16):
    """The k nearest of each query among vectors[rows] -> ids, distances (n, k), by (distance, id); -1, inf for none.

    vectors (any, d), queries (n, d) float32 in the stored form of `metric`; rows (n, m), -1 for none, equal ones
    counted once; ids (any,). order (n,): in which queries are taken, by threads of at least `chunk`; only the time
    depends on it.
    """
    found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    order = np.arange(len(queries)) if order is None else order
    arguments = vectors, rows, ids, queries, METRICS.index(metric), order, found, distances

    def room():
        squares = np.full((-(-rows.shape[1] // LANES), LANES), np.inf, np.float32)
        return squares, np.empty(k, np.float32), np.empty(k, np.int64), np.empty(k, np.float32)

    in_threads(len(queries), _reorder, *arguments, at_least=chunk, room=room)
    return found, distances


class ReorderedIndex(Index):
    """An index whose codes choose rows, and whose answers are the nearest of these by their exact distances.

    A subclass gives `_rows(queries, k, open_rows)`: rows (n, any) below `built`, -1 for none; one may come twice.
    """

    def _candidates(self, queries, k, open_rows, share):
        rows = np.sort(self._rows(queries, k, open_rows), 1)
        rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1  # a row in two lists counts once
        return np.where(rows < 0, -1, np.append(self._ids, -1)[rows])

    def _nearest(self, queries, k, open_rows):
        """The candidates of `_rows` in the order of their exact distances; few open rows are scanned."""
        if not self._structure_answers(open_rows):
            return super()._nearest(queries, k, open_rows)
        rows = self._rows(queries, k, open_rows)
        found, distances = reorder(self._vectors, rows, self._ids, queries, self.metric, k)
        short = np.flatnonzero(found[:, -1] < 0)  # where no score is a number
        if len(short):
            found[short], distances[short] = super()._nearest(queries[short], k, open_rows)
        return found, distances
