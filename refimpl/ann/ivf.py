"""IVF-Flat: the vectors in lists, one a k-means cluster; a query looks into the few lists whose centroids are nearest.

Sivic and Zisserman, "Video Google", 2003; Jegou et al., "Product quantization for nearest neighbor search", 2011.
With L lists and p probes a query costs 2 d (L + p n / L) operations, least at L = sqrt(p n); what it can miss are
neighbours on the far side of a border between clusters.

The answer is exact among the vectors of the probed lists: that of a sort by (distance, id). How a batch of queries
shares the lists that it reads is in lists.py; the centroids are ranked by the same kernels, as a list of their own,
with coordinates left out where that pays (principal.py).
"""

import numpy as np

from ..validation import check_integer
from .index import Index
from .kmeans import kmeans
from .lists import Lists, as_one_list, best_in_lists, longest_vector, make_lists, nearest_centroids
from .nearest_centroid import assign
from .principal import FEW, choose_axes, split_sample

__all__ = ["IVFIndex", "as_one_list", "coarse_centroids", "nearest_centroids"]

SAMPLE_EACH = 64  # vectors for each centroid that the clustering learns from
MEASURING = 3200  # what measuring a vector costs, in its share of a step of the product: 400 cycles over 1 / 8


def coarse_centroids(vectors, n_lists, seed):
    """Centroids (n_lists, d) from ten iterations on SAMPLE_EACH vectors for each; fewer if there are fewer vectors."""
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    n_lists = min(n_lists, len(vectors))
    rng = np.random.default_rng(seed)
    sample = rng.choice(len(vectors), min(len(vectors), SAMPLE_EACH * n_lists), replace=False)
    return kmeans(vectors[np.sort(sample)], n_lists, init="random", max_iter=10, seed=seed).centroids


class IVFIndex(Index):
    """Approximate nearest neighbours in the lists of the nearest centroids.

    lists    number of lists; None: 4 sqrt(n)
    probes   lists to look into for each query. A query that finds fewer than k there looks into more
    seed     of the clustering

    Build O(n L d); search 2 d (L + probes n / L) operations a query; memory twice that of the vectors.
    """

    _STRUCTURE = ("_center", "_centroids", "_list_starts", "_panels", "_biases", "_lane_rows")
    _centroid_list = None  # not in the file: no answer depends on its axes, whose last digits depend on the machine

    def __init__(self, *, metric="l2", lists=None, probes=8, seed=0):
        super().__init__(metric, lists=lists, probes=probes, seed=seed)
        self.lists = None if lists is None else check_integer(lists, "lists", minimum=1)
        self.probes = check_integer(probes, "probes", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    @property
    def centroids(self):
        """Of the lists, (L, d) float32, in the stored form of the vectors."""
        self._check_fitted()
        return self._centroids + self._center

    def _build(self):
        n = len(self._vectors)
        self._center = np.zeros(self._vectors.shape[1], np.float32)
        if n:
            self._center = self._vectors.mean(0, dtype=np.float64).astype(np.float32)
        shifted = self._vectors - self._center
        self._centroids = coarse_centroids(shifted, self.lists or int(4 * np.sqrt(n)), self.seed)
        self._report(0.8)
        lists = make_lists(shifted, assign(shifted, self._centroids), len(self._centroids))
        self._list_starts, self._panels, self._biases, self._lane_rows, *_ = lists
        self._centroid_list = None

    def _changed(self):
        super()._changed()
        none = np.zeros((len(self._center), 0))  # all centroids are compared; of the lists too little is, for axes
        longest = longest_vector(self._biases)
        self._lists = Lists(self._list_starts, self._panels, self._biases, self._lane_rows, none, longest)
        if self._centroid_list is None:
            axes, near = None, min(self.probes, len(self._centroids))
            if self._built >= FEW:
                queries = split_sample(self._vectors[: self._built])[0] - self._center
                axes = choose_axes(queries, self._centroids, near=near, measuring=MEASURING)
            self._centroid_list = as_one_list(self._centroids, axes)

    def _scan_limit(self):
        return self._built * self.probes // len(self._centroids)

    def _in_lists(self, queries, k, open_rows, share):
        """Ids and distances from probes / share lists; from four times as many where those have fewer than k."""
        table = self._vectors, self._ids, open_rows
        shifted, wanted = queries - self._center, min(k, int(open_rows[: self._built].sum()))
        found, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        todo, m = np.arange(len(queries)), min(int(np.ceil(self.probes / share)), len(self._centroids))
        while len(todo):
            probes = nearest_centroids(self._centroid_list, shifted[todo], m)
            asked = queries[todo], shifted[todo], probes, k, self.metric
            found[todo], distances[todo] = best_in_lists(self._lists, table, *asked)
            if m == len(self._centroids):
                break
            todo, m = todo[(found[todo] >= 0).sum(1) < wanted], min(4 * m, len(self._centroids))
        return found, distances

    def _candidates(self, queries, k, open_rows, share):
        return self._in_lists(queries, k, open_rows, share)[0]

    def _nearest(self, queries, k, open_rows):
        n_open = int(open_rows.sum())
        if self._built < len(open_rows) or n_open <= self._scan_limit():
            return super()._nearest(queries, k, open_rows)
        return self._in_lists(queries, k, open_rows, n_open / self._built)
