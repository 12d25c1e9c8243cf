"""IVF-Flat: the vectors in lists, one a k-means cluster; a query looks into the few lists whose centroids are nearest.

Sivic and Zisserman, "Video Google", 2003; Jegou et al., "Product quantization for nearest neighbor search", 2011.
With L lists and p probes a query costs 2 d (L + p n / L) operations, least at L = sqrt(p n); what it can miss are
neighbours on the far side of a border between clusters.

A list that is read for one query alone is limited by bytes. So a batch is turned around: its (query, probe) pairs are
grouped by list, and a list is multiplied with all the queries that probe it, ROWS at a time (panels.py). The scores
go to a buffer, one run of them a pair; then each query walks through its own runs, nearest list first, compares
COLUMNS scores with its k-th best at once, and stops only at those above it. The two steps share nothing between
threads, and no score depends on which queries are in the batch. The centroids are ranked by the same two steps: to
them, all centroids are one list.

Layout in memory: lists follow each other, each filled up to whole panels.

    list_starts (L + 1,)         list l has the panels list_starts[l] to list_starts[l + 1] - 1
    panels (panels, d, COLUMNS)  coordinate by coordinate, minus the mean of the data
    biases (panels, COLUMNS)     -|x|^2 / 2; -inf in lanes without a vector
    lane_rows (panels, COLUMNS)  the row in the table of the index, -1 in lanes without one
"""

import numpy as np
from numba import njit, prange

from ..microkernel import COLUMNS, ROWS, pack_panels, tile_product
from ..validation import check_integer
from .candidates import offer
from .index import METRICS, Index, _measure
from .kmeans import assign, group_by_label, kmeans
from .panels import pack_vectors

CHUNK = 64 // ROWS * ROWS  # queries that a list is multiplied with in one task: whole tiles
SCORES = 1 << 23  # scores in the buffer, about: 32 MB
SAMPLE = 64  # vectors for each centroid that the clustering learns from


@njit(cache=True, parallel=True)
def _score(panels, biases, list_starts, task_list, task_starts, pairs, pair_query, pair_at, queries, scores):
    """Task t: list task_list[t], pairs[task_starts[t] : task_starts[t + 1]]. OUT scores, from pair_at[pair] on."""
    d = panels.shape[1]
    for t in prange(len(task_list)):
        first, size = task_starts[t], task_starts[t + 1] - task_starts[t]
        block, tile = np.zeros((CHUNK, d), np.float32), np.empty((ROWS, COLUMNS), np.float32)
        for i in range(size):
            block[i] = queries[pair_query[pairs[first + i]]]
        begin = list_starts[task_list[t]]
        for panel in range(begin, list_starts[task_list[t] + 1]):
            for start in range(0, size, ROWS):
                tile[:] = biases[panel]
                tile_product(block, start * d, d, 1, panels, panel * d * COLUMNS, tile, 0, COLUMNS, d, True)
                for i in range(min(ROWS, size - start)):
                    at = pair_at[pairs[first + start + i]] + (panel - begin) * COLUMNS
                    scores[at : at + COLUMNS] = tile[i]


@njit(cache=True, parallel=True)
def _select(list_starts, lane_rows, open_rows, probes, pair_at, scores, found, negated):
    """The best scores of each query's pairs. OUT found (n, k) = -1, negated (n, k) = inf: the scores' opposites."""
    n, m = probes.shape
    for i in prange(n):
        limit = np.float32(-np.inf)
        for p in range(m):
            begin, at = list_starts[probes[i, p]], pair_at[i * m + p]
            for panel in range(begin, list_starts[probes[i, p] + 1]):
                passing = 0
                for j in range(COLUMNS):
                    passing += scores[at + j] >= limit
                if passing:
                    for j in range(COLUMNS):
                        row = lane_rows[panel, j]
                        if scores[at + j] >= limit and row >= 0 and open_rows[row]:
                            offer(negated[i], found[i], -scores[at + j], row)
                            limit = -negated[i, -1]
                at += COLUMNS


def best_in_lists(lists, queries, probes, k, open_rows):
    """The rows with the best scores in the probed lists -> rows (n, k) int64, -1 where there are fewer.

    lists = list_starts, panels, biases, lane_rows; probes (n, m). Ties go to the smaller row.
    """
    list_starts, panels, biases, lane_rows = lists
    sizes = COLUMNS * np.diff(list_starts)
    rows = np.full((len(queries), k), -1, np.int64)
    step = max(CHUNK, int(SCORES // max(1, probes.shape[1] * sizes.mean())))
    for first in range(0, len(queries), step):
        part, own = probes[first : first + step], queries[first : first + step]
        flat = part.ravel()
        ends = np.cumsum(sizes[flat])
        pair_at, pair_query = ends - sizes[flat], np.repeat(np.arange(len(part)), part.shape[1])
        pairs, starts = group_by_label(flat, len(sizes))
        task_list = np.repeat(np.arange(len(sizes)), -(-np.diff(starts) // CHUNK))
        place = np.arange(len(task_list)) - np.searchsorted(task_list, task_list)
        task_starts = np.append(starts[task_list] + CHUNK * place, len(flat))
        scores = np.empty(ends[-1], np.float32)
        _score(panels, biases, list_starts, task_list, task_starts, pairs, pair_query, pair_at, own, scores)
        negated = np.full((len(part), k), np.inf, np.float32)
        _select(list_starts, lane_rows, open_rows, part, pair_at, scores, rows[first : first + step], negated)
    return rows


def as_one_list(vectors):
    """vectors (n, d) as the only list, in the order of their rows."""
    panels, biases = pack_vectors(vectors)
    lane_rows = np.arange(panels.shape[0] * COLUMNS)
    lane_rows[len(vectors) :] = -1
    return np.array([0, len(panels)]), panels, biases, lane_rows.reshape(-1, COLUMNS)


def nearest_centroids(centroid_list, queries, m):
    """The m nearest centroids, nearest first -> (n, m) int64; centroid_list from `as_one_list`."""
    n_centroids = int((centroid_list[3] >= 0).sum())
    return best_in_lists(centroid_list, queries, np.zeros((len(queries), 1), np.int64), m, np.ones(n_centroids, bool))


def make_lists(vectors, labels, n_lists):
    """vectors (n, d) grouped by label -> list_starts, panels, biases, lane_rows."""
    order, starts = group_by_label(labels, n_lists)
    counts = np.diff(starts)
    list_starts = np.concatenate([[0], np.cumsum(-(-counts // COLUMNS))])
    lane_rows = np.full(list_starts[-1] * COLUMNS, -1, np.int64)
    lane_rows[np.arange(len(order)) + np.repeat(COLUMNS * list_starts[:-1] - starts[:-1], counts)] = order
    filled = np.zeros((len(lane_rows), vectors.shape[1]), np.float32)
    filled[lane_rows >= 0] = vectors[order]
    biases = np.where(lane_rows >= 0, -0.5 * np.einsum("ij,ij->i", filled, filled, dtype=np.float64), -np.inf)
    shape = (-1, COLUMNS)
    return (
        list_starts, pack_panels(filled.T, COLUMNS), biases.astype(np.float32).reshape(shape), lane_rows.reshape(shape)
    )  # fmt: skip


def coarse_centroids(vectors, n_lists, seed):
    """Centroids (n_lists, d) from ten iterations on a sample of SAMPLE vectors for each; fewer if there are fewer."""
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    n_lists = min(n_lists, len(vectors))
    rng = np.random.default_rng(seed)
    sample = rng.choice(len(vectors), min(len(vectors), SAMPLE * n_lists), replace=False)
    return kmeans(vectors[np.sort(sample)], n_lists, init="random", max_iter=10, seed=seed).centroids


class IVFIndex(Index):
    """Approximate nearest neighbours in the lists of the nearest centroids.

    lists    number of lists; None: 4 sqrt(n)
    probes   lists to look into for each query. A query that finds fewer than k there looks into more
    seed     of the clustering

    Build O(n L d); search 2 d (L + probes n / L) operations a query; memory twice that of the vectors.
    """

    _STRUCTURE = ("_center", "_centroids", "_list_starts", "_panels", "_biases", "_lane_rows")

    def __init__(self, *, metric="l2", lists=None, probes=8, seed=0):
        super().__init__(metric, lists=lists, probes=probes, seed=seed)
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        n = len(self._vectors)
        self._center = np.zeros(self._vectors.shape[1], np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        shifted = self._vectors - self._center
        self._centroids = coarse_centroids(shifted, self.lists or int(4 * np.sqrt(n)), self.seed)
        self._report(0.8)
        labels = assign(shifted, self._centroids)
        self._list_starts, self._panels, self._biases, self._lane_rows = make_lists(
            shifted, labels, len(self._centroids)
        )

    def _changed(self):
        super()._changed()
        self._centroid_list = as_one_list(self._centroids)

    def _scan_limit(self):
        return self._built * self.probes // len(self._centroids)

    def _rows(self, queries, k, open_rows, share):
        """Rows of candidates: from probes / share lists, and from four times as many where those had fewer than k."""
        lists = self._list_starts, self._panels, self._biases, self._lane_rows
        shifted, wanted = queries - self._center, min(k, int(open_rows[: self._built].sum()))
        rows, todo = np.full((len(queries), k), -1, np.int64), np.arange(len(queries))
        m = min(int(np.ceil(self.probes / share)), len(self._centroids))
        while len(todo):
            probes = nearest_centroids(self._centroid_list, shifted[todo], m)
            rows[todo] = best_in_lists(lists, shifted[todo], probes, k, open_rows)
            if m == len(self._centroids):
                break
            todo, m = todo[(rows[todo] >= 0).sum(1) < wanted], min(4 * m, len(self._centroids))
        return rows

    def _candidates(self, queries, k, open_rows, share):
        rows = self._rows(queries, k, open_rows, share)
        return np.where(rows < 0, -1, np.append(self._ids, -1)[rows])

    def _nearest(self, queries, k, open_rows):
        n_open = int(open_rows.sum())
        if self._built < len(open_rows) or n_open <= self._scan_limit():
            return super()._nearest(queries, k, open_rows)
        rows = self._rows(queries, k, open_rows, n_open / self._built)
        found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        _measure(self._vectors, rows, self._ids, queries, METRICS.index(self.metric), found, distances)
        return found, distances
