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

__all__ = ["IVFIndex", "as_one_list", "coarse_centroids", "list_scan_limit", "nearest_centroids", "until_enough"]

SAMPLE_EACH = 64  # vectors for each centroid that the clustering learns from
COST = 0.4  # of a row in a list, in rows scanned (`list_scan_limit`)
MEASURING = 3200  # what measuring a vector costs, in its share of a step of the product: 400 cycles over 1 / 8


def coarse_centroids(vectors, n_lists, seed):
    """Centroids (n_lists, d) from ten iterations on SAMPLE_EACH vectors for each; fewer if there are fewer vectors."""
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    n_lists = min(n_lists, len(vectors))
    rng = np.random.default_rng(seed)
    sample = rng.choice(len(vectors), min(len(vectors), SAMPLE_EACH * n_lists), replace=False)
    return kmeans(vectors[np.sort(sample)], n_lists, init="random", max_iter=10, seed=seed).centroids


def until_enough(look, probes, n_lists, open_rows, k, copies=1):
    """Answers from probes / share lists; from four times as many, again and again, where those have fewer than k rows.

    look(some, m) -> arrays (queries, any), of the queries `some` in m lists; the first is -1 where nothing was found.
    open_rows (built,): the share of them that is open is `share`. copies: of a row in an answer, at most.
    """
    n_open = int(np.count_nonzero(open_rows))
    wanted, m = copies * min(k, n_open), min(-(-probes * len(open_rows) // max(n_open, 1)), n_lists)
    answer = look(slice(None), m)
    while m < n_lists:
        todo = np.flatnonzero((answer[0] >= 0).sum(1) < wanted)
        if len(todo) == 0:
            break
        m = min(4 * m, n_lists)
        for whole, part in zip(answer, look(todo, m)):
            whole[todo] = part
    return answer


def list_scan_limit(built, probes, n_lists, cost):
    """How many open rows cost no more to scan than to look for in lists.

    `cost` is that of a row in a list, in rows scanned. A scan costs n_open. Of the lists, probes / share are looked
    into, share = n_open / built; so they cost (cost built) (probes / share) / n_lists, cost built at most. Equal at

        n_open = built sqrt(cost probes / n_lists),  or  n_open = cost built
    """
    return int(built * min(cost, np.sqrt(cost * probes / n_lists)))


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
        lists = make_lists(shifted, assign(shifted, self._centroids), len(self._centroids))
        self._list_starts, self._panels, self._biases, self._lane_rows, *_ = lists
        self._centroid_list = None

    def _changed(self):
        """The lists as the search takes them, and the centroids as one list that is searched exactly."""
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
        return list_scan_limit(self._built, self.probes, len(self._centroids), COST)

    def _in_lists(self, queries, k, open_rows):
        """Ids and distances of the nearest in the lists."""
        shifted, table = queries - self._center, (self._vectors, self._ids, open_rows)

        def look(some, m):
            probes = nearest_centroids(self._centroid_list, shifted[some], m)
            return best_in_lists(self._lists, table, queries[some], shifted[some], probes, k, self.metric)

        return until_enough(look, self.probes, len(self._centroids), open_rows[: self._built], k)

    def _candidates(self, queries, k, open_rows, share):
        return self._in_lists(queries, k, open_rows)[0]

    def _nearest(self, queries, k, open_rows):
        if not self._structure_answers(open_rows):
            return super()._nearest(queries, k, open_rows)
        return self._in_lists(queries, k, open_rows)
