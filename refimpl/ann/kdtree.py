"""KD-tree: space cut in two by axis-parallel planes, again and again, until few points are left in a cell.

The idea. A node cuts its points at the middle of the axis on which they spread most. A query goes down to its own
cell and finds near points at once; a cell on the far side of a cut is visited only if it is nearer than the worst of
the k neighbours in hand. In few dimensions that leaves a handful of cells, O(log n) time; the number of cells that
touch the neighbourhood of a point grows like 2^d, so from some 15 dimensions on a tree visits most of its leaves and
a plain scan is faster (Friedman, Bentley and Finkel 1977; Weber, Schek and Blott 1998). docs/ann-kdtree.md measures
where.

    kdtree_build.py     the cuts, and the layout in memory
    kdtree_search.py    the bound, and why the answer is exact
    here                the index: rows that come and go, metrics, budgets
"""

import numpy as np

from ..validation import check_integer, check_number
from .index import METRICS, Index, thread_count
from .kdtree_build import LANES, Tree, build_tree, hang_leaf
from .kdtree_search import open_tree, range_tree, search_tree


class KDTreeIndex(Index):
    """Exact nearest neighbours in few dimensions.

    leaf_size    points in a leaf, at most; points that coincide share a leaf of any size
    eps          >= 0: distances may be up to (1 + eps) times the true ones; l2 in the stored form (index.py)
    max_leaves   leaves to search for a query, those with the nearest cells first; more if these hold fewer than k, or
                 if `allow` closes rows. None: no limit, for an exact answer (with eps 0)

    Build O(d n log n); search O(log n) in few dimensions, O(n) in many.
    """

    _STRUCTURE = ("_axis", "_link", "_planes", "_blocks", "_rows", "_depth")

    def __init__(self, *, metric="l2", leaf_size=LANES, eps=0.0, max_leaves=None):
        super().__init__(metric, leaf_size=leaf_size, eps=eps, max_leaves=max_leaves)
        self.leaf_size = check_integer(leaf_size, "leaf_size", minimum=1)
        self.eps = check_number(eps, "eps", minimum=0, maximum=1e100)
        self.max_leaves = None if max_leaves is None else check_integer(max_leaves, "max_leaves", minimum=1)

    def _coordinates(self, vectors):
        """Those of the tree; for "ip" with the last one to all digits: the bounds of the search stand on it."""
        if self.metric != "ip":
            return vectors
        points = vectors.astype(np.float64)
        points[:, -1] = np.sqrt(np.maximum(self._largest_norm**2 - (points[:, :-1] ** 2).sum(1), 0))
        return points

    def _build(self):
        tree = build_tree(self._coordinates(self._vectors), leaf_size=min(self.leaf_size, max(1, len(self._vectors))))
        self._axis, self._link, self._planes, self._blocks, self._rows = tree[:5]
        self._depth = np.int64([tree.depth])

    def _changed(self):
        """The tree with the vectors added since as one more leaf, and which of its leaves hold live ones."""
        super()._changed()
        self._tree = Tree(self._axis, self._link, self._planes, self._blocks, self._rows, int(self._depth[0]), 1)
        if self._built < len(self._ids):
            tail = self._coordinates(self._vectors[self._built :])
            self._tree = hang_leaf(self._tree, tail, np.arange(self._built, len(self._ids), dtype=np.int32))
        self._lane_ids = np.append(self._ids, -1)[self._tree.rows]  # padding has row -1
        self._opening = open_tree(self._tree, self._live)

    def _arguments(self, queries, open_rows):
        """What the searches of the tree take: for "ip" with the shift from squared distances to products."""
        opening = self._opening if open_rows is self._live else open_tree(self._tree, open_rows)
        options = {"metric": METRICS.index(self.metric)}
        if self.metric == "ip":
            options["shifts"] = self._largest_norm**2 + (queries.astype(np.float64) ** 2).sum(1)
        return self._tree, self._lane_ids, opening, queries, options

    def _nearest(self, queries, k, open_rows):
        *arguments, options = self._arguments(queries, open_rows)
        budget = self.max_leaves
        if budget is not None:  # as many open rows as without a filter; there are no more leaves than rows
            n_open = max(1, int(np.count_nonzero(open_rows[: self._built])))
            budget = min(-(-budget * self._built // n_open), len(self._ids))
        options.update(eps=self.eps, max_leaves=budget)
        return search_tree(*arguments, k, **options)

    def range_search(self, queries, radius, *, allow=None, threads=None):
        """All with distance <= radius, by (distance, id) -> offsets, ids, distances, as `ExactIndex.range_search`.

        Exact whatever `eps` and `max_leaves`.
        """
        radius = check_number(radius, "radius")
        queries, open_rows = self._check_search(queries, allow)
        with thread_count(threads):
            *arguments, options = self._arguments(queries, open_rows)
            return range_tree(*arguments, radius, **options)
