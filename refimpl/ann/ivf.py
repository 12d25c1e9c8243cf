"""IVF-Flat: the vectors in lists, one a k-means cluster; a query looks into the few lists whose centroids are nearest.

Sivic and Zisserman, "Video Google", 2003; Jegou et al., "Product quantization for nearest neighbor search", 2011.
With L lists and p probes a query costs 2 d (L + p n / L) operations, least at L = sqrt(p n); what it can miss are
neighbours on the far side of a border between clusters.

The answer is exact among the vectors of the probed lists: that of a sort by (distance, id). How a batch of queries
shares the lists that it reads is in lists.py, with coordinates left out where that pays (principal.py); how the lists
are found, in list_ranking.py.
"""

from typing import NamedTuple

import numpy as np

from ..validation import check_integer
from .index import Index
from .kmeans import kmeans
from .list_ranking import LIST_CODES, CodedCentroids, code_centroids, rank_lists
from .lists import COLUMNS, Lists, best_in_lists, labels_of, longest_vector, make_lists
from .nearest_centroid import assign
from .principal import ASKING, FEW, SAMPLE, choose_axes, sample_rows

SAMPLE_EACH = 64  # vectors for each centroid that the clustering learns from
COST = 0.4  # of a row in a list, in rows scanned (`list_scan_limit`)
MEASURING = 1000  # what measuring a vector costs, in its share of a step of the product: 100 ns over 0.1 ns
ASKED, NEAR = 16, 10  # lists that the axes of the vectors are chosen by, and neighbours looked for in them


def coarse_centroids(vectors, n_lists, seed):
    """Centroids (n_lists, d) from ten iterations on SAMPLE_EACH vectors for each; fewer if there are fewer vectors."""
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    n_lists = min(n_lists, len(vectors))
    rng = np.random.default_rng(seed)
    sample = rng.choice(len(vectors), min(len(vectors), SAMPLE_EACH * n_lists), replace=False)
    return kmeans(vectors[np.sort(sample)], n_lists, init="random", max_iter=10, seed=seed).centroids


class ListedRows(NamedTuple):
    """Which rows the lists hold, for `choose_lists`."""

    starts: np.ndarray  # (L + 1,): list l has the blocks starts[l] to starts[l + 1] - 1
    rows: np.ndarray  # (blocks, any) or (blocks,): the rows in each, -1 for none
    sizes: np.ndarray  # (L,): rows of each list
    live: np.ndarray  # (any,) bool: the rows that are not removed
    live_sizes: np.ndarray  # (L,): those of each list


def listed_rows(starts, rows, live):
    """ListedRows of lists whose blocks are `starts` and `rows`."""
    sizes = _open_sizes(starts, rows, np.ones(len(live), bool))
    return ListedRows(starts, rows, sizes, live, sizes if live.all() else _open_sizes(starts, rows, live))


def _open_sizes(starts, rows, open_rows):
    """How many open rows each list holds, (L,) int64."""
    if rows.size == 0:
        return np.zeros(len(starts) - 1, np.int64)
    is_open = (open_rows[rows] & (rows >= 0)).reshape(len(rows), -1)
    return np.diff(np.concatenate([[0], np.cumsum(is_open.sum(1))])[starts])


def choose_lists(rank, n_queries, probes, listed, open_rows, wanted):
    """The lists that each query looks into -> (n, any) int64, -1 for none; without a filter mostly `probes` of them.

    rank(some, m) -> (queries, m): the lists nearest to the queries `some`, nearest first; -1 for none, at the end.
    n_queries of them, numbered from 0; some: a slice, or row numbers. wanted: rows that a query needs, at least.
    With `share` of the listed rows open, a query goes through its nearest lists, past those without an open row, until

        it has probes / share lists,
        they hold as many open rows as its nearest `probes` lists hold rows (one without a filter: closed ones too),
        and at least `wanted`.

    The first is enough where any row may be closed. Where a filter closes all near ones, the open rows lie far out,
    all at about one distance, and their lists in no helpful order: the second then goes on for longer.
    """
    sizes, n_lists = listed.sizes, len(listed.sizes)
    unfiltered = open_rows is listed.live
    open_sizes = listed.live_sizes if unfiltered else _open_sizes(listed.starts, listed.rows, open_rows)
    total, n_open, probes = int(sizes.sum()), int(open_sizes.sum()), min(probes, n_lists)
    wanted = min(wanted, n_open)
    todo = np.arange(n_queries)
    least = min(-(-probes * total // max(1, n_open)), int(np.count_nonzero(open_sizes)))
    m = min(2 * least, n_lists)
    chosen = np.full((n_queries, max(m, probes)), -1, np.int64)
    if n_open == total:
        ranked = rank(slice(None), probes)
        enough = _rows_in(sizes, ranked) >= wanted
        if enough.all():  # as a rule
            return ranked
        chosen[enough, :probes], todo = ranked[enough], todo[~enough]  # whoever else asks: a query alone gets the same
    while True:
        ranked = rank(todo, m)
        rows = np.minimum(np.maximum(_rows_in(sizes, ranked[:, :probes]), wanted), n_open)
        chosen[todo, :m], enough = _first_lists(ranked, open_sizes, least, rows)
        todo = todo[~enough]
        if len(todo) == 0 or m == n_lists:
            return chosen[:, : (chosen >= 0).sum(1).max(initial=1)]
        m = min(2 * m, n_lists)
        chosen = np.pad(chosen, ((0, 0), (0, max(0, m - chosen.shape[1]))), constant_values=-1)


def _rows_in(sizes, ranked):
    """How many rows the lists of each query hold, (n,); ranked (n, m), -1 for none."""
    return np.where(ranked < 0, 0, sizes[ranked]).sum(1)


def _first_lists(ranked, open_sizes, least, rows):
    """Of ranked lists (n, m) the first that hold open rows, then -1, and whether they are enough.

    Enough are `least` lists that hold rows (n,) open rows.
    """
    counts = np.where(ranked < 0, 0, open_sizes[ranked])
    met, passed = np.cumsum(counts, 1), np.cumsum(counts > 0, 1)
    taken = (counts > 0) & ((met - counts < rows[:, None]) | (passed <= least))
    in_front = np.argsort(~taken, 1, kind="stable")
    lists = np.take_along_axis(np.where(taken, ranked, -1), in_front, 1)
    return lists, (met[:, -1] >= rows) & (passed[:, -1] >= least)


def list_scan_limit(built, probes, n_lists, cost):
    """How many open rows cost no more to scan than to look for in lists.

    `cost` is that of a row in a list, in rows scanned. A scan costs n_open. Of the lists, probes / share are looked
    into, share = n_open / built; so they cost (cost built) (probes / share) / n_lists, cost built at most. Equal at

        n_open = built sqrt(cost probes / n_lists),  or  n_open = cost built
    """
    return int(built * min(cost, np.sqrt(cost * probes / n_lists)))


def list_axes(vectors, labels):
    """The axes (d, depth) for vectors (n, d) in lists (principal.py), or None.

    By ASKED lists, evenly spread: some of the vectors in each are asked with, and compared with all of it.
    """
    if len(vectors) < FEW:
        return None
    names = np.unique(labels)
    rows = np.flatnonzero(np.isin(labels, sample_rows(names, ASKED)))
    asking, rows = sample_rows(rows, ASKING), sample_rows(rows, SAMPLE)
    compared = labels[asking][:, None] == labels[rows]
    return choose_axes(vectors[asking], vectors[rows], near=NEAR, measuring=MEASURING, compared=compared)


class IVFIndex(Index):
    """Approximate nearest neighbours in the lists of the nearest centroids.

    lists    L, the number of lists; None: 4 sqrt(n)
    probes   lists to look into for each query; more where these hold fewer than k
    seed     of the clustering

    Build O(n L d); search 2 e (L + probes n / L) operations a query, and O(d) for each vector measured. Memory beside
    the vectors: e + 3 numbers for each. e is the number of coordinates that the lists keep of a vector: d or, where
    that pays, fewer, along principal axes (principal.py).
    """

    _STRUCTURE = (
        "_center", "_centroids", "_list_starts", "_panels", "_biases", "_lane_rows", "_axes", *LIST_CODES,
    )  # fmt: skip

    def __init__(self, *, metric="l2", lists=None, probes=8, seed=0):
        super().__init__(metric, lists=lists, probes=probes, seed=seed)
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    @property
    def centroids(self):
        """Of the lists, (L, d) float32, in the stored form of the vectors (index.py): d + 1 columns for "ip"."""
        self._check_fitted()
        return self._centroids + self._center

    def _build(self):
        """Centroids by k-means, and the vectors list by list, minus the mean of all."""
        n = len(self._vectors)
        self._center = np.zeros(self._vectors.shape[1], np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        shifted = self._vectors - self._center
        self._centroids = coarse_centroids(shifted, self.lists or int(4 * np.sqrt(n)), self.seed)
        self._report(0.8)
        labels = assign(shifted, self._centroids)
        lists = make_lists(shifted, labels, len(self._centroids), list_axes(shifted, labels))
        self._list_starts, self._panels, self._biases, self._lane_rows, self._axes, _ = lists
        for name, array in zip(LIST_CODES, code_centroids(self._centroids, self.seed)):
            setattr(self, name, array)

    def _changed(self):
        """The lists and the centroids as the search takes them."""
        super()._changed()
        if self._biases.shape[1] != COLUMNS:  # saved where vector registers have another width
            labels = labels_of(self._list_starts, self._lane_rows, self._built)
            axes = self._axes if self._axes.shape[1] else None
            lists = make_lists(self._vectors[: self._built] - self._center, labels, len(self._centroids), axes)
            self._list_starts, self._panels, self._biases, self._lane_rows, self._axes, _ = lists
        longest = longest_vector(self._biases)
        self._lists = Lists(self._list_starts, self._panels, self._biases, self._lane_rows, self._axes, longest)
        self._listed = listed_rows(self._list_starts, self._lane_rows, self._live)
        self._coded_lists = CodedCentroids(*(getattr(self, name) for name in LIST_CODES))

    def _scan_limit(self):
        return list_scan_limit(self._built, self.probes, len(self._centroids), COST)

    def _in_lists(self, queries, k, open_rows):
        """Ids and distances of the nearest in the lists."""
        shifted, table = queries - self._center, (self._vectors, self._ids, open_rows)

        def rank(some, m):
            return rank_lists(self._coded_lists, self._centroids, shifted[some], m)

        probes = choose_lists(rank, len(queries), self.probes, self._listed, open_rows, k)
        return best_in_lists(self._lists, table, queries, shifted, probes, k, self.metric)

    def _candidates(self, queries, k, open_rows, share):
        return self._in_lists(queries, k, open_rows)[0]

    def _nearest(self, queries, k, open_rows):
        if not self._structure_answers(open_rows):
            return super()._nearest(queries, k, open_rows)
        return self._in_lists(queries, k, open_rows)
