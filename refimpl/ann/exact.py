"""Exact search: a matrix product that is never stored, and a comparison that rarely lets a vector through.

The database is packed in panels of COLUMNS vectors (panels.py), and a block of queries is compared with one panel
after the other. The score of a vector, q.x - |x|^2 / 2 (q.x for "ip"), is largest for the nearest. Each tile of ROWS x
COLUMNS scores is computed in registers and compared at once with each query's limit, the score of its k-th best so far.
Almost no tile has a score above: with vectors in random order, the j-th enters a list of k with probability k / j, so
that of n vectors k + k ln(n / k) do, 110 of 200,000 for k = 10. Those few are measured exactly, in float64, and put in
place.

Where the data have principal axes, the product is of a few coordinates and bounds the scores (principal.py).

The limit is lowered by the bound on the rounding errors of both sides (panels.rounding_error). A vector that
belongs to the answer is therefore never missed, ties at the k-th place included, and the answer does not depend on
how the work is divided. For "l2" and "cosine" the mean of the data is subtracted first: the bound shrinks with |x|.

What limits it: operations. A tile is ROWS COLUMNS d multiply-adds on COLUMNS d floats of a panel, each of which is
used by BLOCK queries; a single query is limited by bytes instead, 4 n d of them. Few queries are spread over the
threads by cutting the database into segments, whose lists are merged.
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from ..microkernel import COLUMNS, ROWS, tile_product
from ..validation import check_number
from .candidates import exact_distance, is_beyond, offer
from .index import METRICS, Index, thread_count
from .panels import pack_vectors, rounding_error, squared_lengths, whole_tiles
from .principal import FEW, choose_axes, project, split_sample
from .tiles import all_negative, start_tile

BLOCK = 128 // ROWS * ROWS  # queries that share a panel while it is in the cache: 64 KB of them at d = 128
SEGMENTS = 8  # of the database, if there are only a few blocks of queries
RANKED_AT_A_TIME = 1 << 22  # distances that `rank_all` holds: 16 MB of them

IP = METRICS.index("ip")


@inner
def _score_limit(kth, square, error, metric):
    """The score that a vector at least has whose distance rounds to `kth` or less; square = |q|^2."""
    if abs(kth) == np.inf:  # -inf: inner products beyond float32, which tie
        return np.float32(-np.inf)
    distance = np.float64(kth) + abs(np.float64(kth)) * 2.0**-22
    if metric == 0:
        return np.float32(0.5 * (square - distance * distance) - error)
    return np.float32((0.5 * square if metric == 1 else 0.0) - distance - error)


@inner
def _take(tile, limits, first_query, first_row, table, asked, found, distances):
    """Measure what is not below the limit in a tile of (bound of a score) - (limit) -> whether one has no limit yet.

    INOUT limits (ROWS,), found, distances.
    """
    (vectors, ids, open_rows), (queries, squares, errors, metric), unlimited = table, asked, False
    for i in range(min(ROWS, len(queries) - first_query)):
        q = first_query + i
        for j in range(COLUMNS):
            row = first_row + j
            if (tile[i, j] < 0 and limits[i] > -np.inf) or row >= len(vectors) or not open_rows[row]:
                continue
            if not is_beyond(vectors[row], queries[q], distances[q, -1], errors[q], metric):
                offer(distances[q], found[q], exact_distance(vectors[row], queries[q], metric), ids[row])
        limits[i] = _score_limit(distances[q, -1], squares[q], errors[q], metric)
        unlimited = unlimited or limits[i] == -np.inf
    return unlimited


def _room():
    """For `_search`: a tile, and the limits of a block of queries and whether those of each tile's are all there."""
    return np.empty((ROWS, COLUMNS), np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK // ROWS, bool)


@kernel
def _search(first_task, last_task, panels, biases, projected, table, asked, found, distances, room):
    """OUT found (n, segments, k) = -1, distances = inf. `projected` as the panels, whole tiles.

    A task is a segment for a block of queries.
    table = vectors, ids, open_rows; asked = queries, |shifted|^2, errors, metric.
    """
    n, segments, _ = found.shape
    d, (tile, limits, unlimited) = panels.shape[1], room
    for task in range(first_task, last_task):
        first, segment = task // segments * BLOCK, task % segments
        last = min(first + BLOCK, n)
        for i in range(BLOCK):
            limits[i], unlimited[i // ROWS] = -np.inf if i < last - first else np.inf, True
        for panel in range(len(panels) * segment // segments, len(panels) * (segment + 1) // segments):
            for start in range(first, last, ROWS):
                at = start - first
                start_tile(tile, 0, COLUMNS, biases, panel * COLUMNS, limits, at)
                tile_product(projected, start * d, d, 1, panels, panel * d * COLUMNS, tile, 0, COLUMNS, d, True)
                if unlimited[at // ROWS] or not all_negative(tile, 0, COLUMNS):
                    own, lists = limits[at : at + ROWS], (found[:, segment], distances[:, segment])
                    unlimited[at // ROWS] = _take(tile, own, start, panel * COLUMNS, table, asked, *lists)


@kernel
def _measure_all(first, last, vectors, queries, metric, distances):
    """OUT distances (queries, vectors), for the queries first to last - 1."""
    for i in range(first, last):
        for row in range(len(vectors)):
            distances[i, row] = exact_distance(vectors[row], queries[i], metric)


def rank_all(vectors, ids, queries, k, metric):
    """The k nearest by (distance, id) -> ids, distances (n, k), by measuring and sorting everything.

    For k that are no small part of the vectors: a list of k takes O(k) for each of the k (1 + ln(n / k)) vectors that
    enter it, more than a sort. Blocks of queries keep the distances within RANKED_AT_A_TIME.
    """
    found, near = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    block = max(1, RANKED_AT_A_TIME // len(vectors))
    for first in range(0, len(queries), block):
        part = queries[first : first + block]
        distances = np.empty((len(part), len(vectors)), np.float32)
        in_threads(len(part), _measure_all, vectors, part, METRICS.index(metric), distances, at_least=2)
        best = np.lexsort((np.broadcast_to(ids, distances.shape), distances))[:, :k]
        found[first : first + block] = ids[best]
        near[first : first + block] = np.take_along_axis(distances, best, 1)
    return found, near


class Packed:
    """Vectors in the order of their rows, ready for `nearest`: minus `center`, projected on `axes`, and packed.

    frame = center, axes; None: the mean (0 for "ip"), and the axes that a sample finds to pay, if any do.
    """

    def __init__(self, vectors, ids, metric, frame=None):
        self.vectors, self.ids, self.metric = vectors, ids, METRICS.index(metric)
        self.center, self.axes = frame or _frame(vectors, self.metric)
        shifted = vectors - self.center
        squares = squared_lengths(shifted)
        self.panels, self.biases = pack_vectors(project(shifted, self.axes), squares if self.metric != IP else None)
        self.largest_norm = float(np.sqrt(squares.max())) if len(squares) else 0.0

    def nearest(self, queries, k, open_rows):
        """The k nearest of the open rows by (distance, id) -> ids (n, m k), distances: m lists side by side."""
        n = len(queries)
        segments = 1 if n > SEGMENTS * BLOCK or len(self.panels) < 4 * SEGMENTS else SEGMENTS
        found, distances = np.full((n, segments, k), -1), np.full((n, segments, k), np.inf, np.float32)
        shifted = queries - self.center
        squares = squared_lengths(shifted)
        errors = rounding_error(np.sqrt(squares), self.largest_norm, queries.shape[1])
        if n and len(self.vectors):
            table, asked = (self.vectors, self.ids, open_rows), (queries, squares, errors, self.metric)
            projected = whole_tiles(project(shifted, self.axes))
            arguments = self.panels, self.biases, projected, table, asked, found, distances
            in_threads(-(-n // BLOCK) * segments, _search, *arguments, at_least=1, room=_room)
        return found.reshape(n, -1), distances.reshape(n, -1)


def _frame(vectors, metric):
    """(center, axes) in which the vectors are compared; axes are None where there are too few to judge by."""
    center = np.zeros(vectors.shape[1], np.float32)
    if metric != IP and len(vectors):
        center = vectors.mean(0, dtype=np.float64).astype(np.float32)
    if len(vectors) < FEW:
        return center, None
    queries, others = split_sample(vectors)
    return center, choose_axes(queries - center, others - center)


def merge_lists(k, *lists):
    """(ids, distances) pairs of shape (n, any) -> the k best by (distance, id)."""
    ids, distances = (np.concatenate(parts, 1) for parts in zip(*lists))
    best = np.lexsort((ids, ids < 0, distances))[:, :k]  # what is missing comes after what is infinitely far
    return np.take_along_axis(ids, best, 1), np.take_along_axis(distances, best, 1)


class ExactIndex(Index):
    """Exact nearest neighbours by comparing with every vector.

    metric   "l2", "cosine" or "ip" (index.py)

    Search 2 n d operations a query; memory twice that of the vectors (the table, and the panels). Both are less where
    principal axes pay (principal.py). A filter that leaves less than half of the vectors packs those for the search:
    O(n d), once a call.
    """

    _built_part = _tail = None

    def __init__(self, *, metric="l2"):
        super().__init__(metric)

    def _build(self):
        self._built_part = None

    def _changed(self):
        """Packs the vectors of the structure once, and those added since after each change."""
        super()._changed()
        built = self._built
        if self._built_part is None:
            self._built_part = Packed(self._vectors[:built], self._ids[:built], self.metric)
        else:  # the same rows, of the table that is there now: the one before is not kept alive
            self._built_part.vectors, self._built_part.ids = self._vectors[:built], self._ids[:built]
        self._tail = None
        if built < len(self._ids):
            self._tail = Packed(self._vectors[built:], self._ids[built:], self.metric)

    def _nearest(self, queries, k, open_rows):
        """Whole rankings by sorting; few open rows packed on their own; else both packed parts, merged."""
        n_open = np.count_nonzero(open_rows)
        if k * k > 16 * n_open > 0:
            return rank_all(self._vectors[open_rows], self._ids[open_rows], queries, k, self.metric)
        if 2 * n_open < len(open_rows):
            frame = self._built_part.center, self._built_part.axes
            part = Packed(self._vectors[open_rows], self._ids[open_rows], self.metric, frame)
            return merge_lists(k, part.nearest(queries, k, np.ones(len(part.ids), bool)))
        built = self._built
        lists = [self._built_part.nearest(queries, k, open_rows[:built])]
        if built < len(open_rows):
            lists.append(self._tail.nearest(queries, k, open_rows[built:]))
        return lists[0] if len(lists) == 1 and lists[0][0].shape[1] == k else merge_lists(k, *lists)

    def range_search(self, queries, radius, *, allow=None, threads=None):
        """All with distance <= radius (a finite number), by (distance, id) -> offsets, ids, distances.

        queries (n, d), allow, threads and errors as for `search`. Query i has ids[offsets[i] : offsets[i + 1]], int64,
        and the distances there, float32; offsets (n + 1,) int64.

        Searches for 16 neighbours, then for four times as many wherever the last one was still inside.
        """
        radius = check_number(radius, "radius")
        queries, open_rows = self._check_search(queries, allow)
        n_open, k, todo = int(open_rows.sum()), 16, np.arange(len(queries))
        answers = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        with thread_count(threads):
            while len(todo) and n_open:
                k = min(k, n_open)
                ids, distances = self._nearest(queries[todo], k, open_rows)
                inside = (distances <= radius) & (ids >= 0)
                for i, query in enumerate(todo):
                    answers[query] = ids[i, inside[i]], distances[i, inside[i]]
                todo = todo[inside.all(1)] if k < n_open else todo[:0]
                k *= 4
        offsets = np.cumsum([0] + [len(ids) for ids, _ in answers])
        empty = [(np.empty(0, np.int64), np.empty(0, np.float32))]
        return offsets, *(np.concatenate(parts) for parts in zip(*(empty + answers)))
