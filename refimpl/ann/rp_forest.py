"""Random-projection forest: trees of oblique cuts, searched through one priority queue.

The idea. A node cuts its points in two halves of equal size by a hyperplane. Its normal points from the farthest of
a few random points to another one: the cuts follow the directions in which the data vary, so a tree adapts to the
dimension that the data really have (Dasgupta and Freund 2008 prove it for random directions; normals between two
points are Annoy's). Near points mostly stay together, but any one tree cuts some pairs apart. Several trees, with
cuts of their own, bring most of those back, and so does looking at both sides of a cut that the query is close to.

The search. Behind a cut whose hyperplane is at distance m from the query, every point is at distance m or more; so

    bound(far child) = max(bound(node), m),     bound(near child) = bound(node)

is a lower bound on the distance to anything in a node. All trees share one queue of nodes by bound. The smallest is
taken, followed down to a leaf on the query's side of every cut, and the far sides met on the way are queued. The
search ends after `max_leaves` leaves, or when the smallest bound exceeds the k-th distance: then no tree can hold
anything nearer, and the answer is exact, up to float32's rounding of squared distances.

Layout in memory, for a forest of t trees with L levels of cuts each. As every cut halves, all trees have the same
shape: node 0 is the root, the children of node i are 2 i + 1 and 2 i + 2, and the points of a node are a range that
follows from n alone.

    normals (t, 2^L - 1, d) float32    unit normals of the cuts
    offsets (t, 2^L - 1) float32       normal.x <= offset on the left, >= offset on the right
    leaves (t, n) int32                row numbers, leaf by leaf

Cost: a build takes O(t d n L) time; a search O(t d L) for the first leaves and then d (L + leaf size) a leaf at
most.
"""

import numpy as np
from numba import get_num_threads

from ..kernels import in_threads, inner, kernel
from ..validation import check_integer
from .candidates import dot, offer, squared_distance
from .index import Index
from .priority_queue import drop_first, push


@kernel
def _node_range(node, n):
    """The places [start, end) of a node's points in `leaves`: its children have [start, middle) and [middle, end)."""
    path, level = node + 1, 0  # below the leading 1, the binary digits of node + 1 say left (0) or right (1)
    while path >> (level + 1):
        level += 1
    start, end = 0, n
    while level:
        level -= 1
        middle = (start + end) // 2
        if (path >> level) & 1:
            start = middle
        else:
            end = middle
    return start, end


@inner
def _next_random(state):
    """64 random bits, by splitmix64 (Steele, Lea and Flood 2014). state (1,) uint64 INOUT."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def _pick_normal(vectors, rows, state, normal):
    """OUT normal: the unit vector to a random point of `rows` from the farthest of 8 others; else random."""
    a = rows[np.int64(_next_random(state) % np.uint64(len(rows)))]
    far, length = a, np.float32(0)
    for _ in range(8):
        b = rows[np.int64(_next_random(state) % np.uint64(len(rows)))]
        squared = squared_distance(vectors[a], vectors[b])
        if squared > length:
            far, length = b, squared
    for j in range(len(normal)):
        normal[j] = vectors[a, j] - vectors[far, j]
    length = np.sqrt(length)
    if length == 0:
        for j in range(len(normal)):
            normal[j] = 1 if _next_random(state) >> np.uint64(63) else -1
        length = np.sqrt(np.float32(len(normal)))
    for j in range(len(normal)):
        normal[j] /= length


@inner
def _halve(values, rows, start, middle, end):
    """Reorder both so that values[start:middle] <= values[middle:end], by Hoare's selection. INOUT values, rows."""
    first, last = start, end - 1
    while first < last:
        pivot, i, j = values[(first + last) // 2], first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            break


def growing_room(n):
    """For `_grow_trees`: the state of its random numbers, and a value of each vector."""
    return np.empty(1, np.uint64), np.empty(n, np.float32)


@kernel
def _grow_trees(first, last, vectors, seeds, normals, offsets, leaves, room):
    """The trees first to last - 1. OUT normals, offsets, leaves: their shapes, and so the levels, are the caller's."""
    n, cuts, (state, values) = len(vectors), normals.shape[1], room
    for t in range(first, last):
        rows, state[0] = leaves[t], seeds[t]
        for i in range(n):
            rows[i] = i
        for node in range(cuts):
            start, end = _node_range(node, n)
            middle, normal = (start + end) // 2, normals[t, node]
            _pick_normal(vectors, rows[start:end], state, normal)
            for i in range(start, end):
                values[i] = dot(vectors[rows[i]], normal)
            _halve(values, rows, start, middle, end)
            left, right = values[start], values[middle]
            for i in range(start, middle):
                left = max(left, values[i])
            for i in range(middle, end):
                right = min(right, values[i])
            offsets[t, node] = np.float32(0.5) * left + np.float32(0.5) * right


@kernel
def _search_forest(
    first, last, vectors, ids, open_rows, normals, offsets, leaves, queries, slack, max_leaves, found, distances, room
):
    """OUT found (n, k) = -1, distances (n, k) = inf, squared; for the queries first to last - 1.

    Leaves without an open row do not count. slack (n,): how far rounding may lift a bound.
    """
    trees, cuts, _ = normals.shape
    nodes = 2 * cuts + 1
    n, (bounds, waiting, seen) = leaves.shape[1], room
    for i in range(first, last):
        query, nearest, nearest_ids = queries[i], distances[i], found[i]
        size, visited = trees, 0
        for t in range(trees):
            bounds[t], waiting[t] = np.float32(0), t * nodes
        while size and (visited < max_leaves or nearest_ids[-1] < 0):
            bound, t, node = bounds[0], waiting[0] // nodes, waiting[0] % nodes
            reach = bound - slack[i]
            if reach > 0 and reach * reach > nearest[-1]:
                break
            drop_first(bounds, waiting, size)
            size -= 1
            while node < cuts:
                margin = dot(query, normals[t, node]) - offsets[t, node]
                near = 2 * node + 2 if margin > 0 else 2 * node + 1
                far = 4 * node + 3 - near
                push(bounds, waiting, size, max(bound, abs(margin)), t * nodes + far)
                size, node = size + 1, near
            start, end = _node_range(node, n)
            closed = True
            for at in range(start, end):
                row = leaves[t, at]
                if open_rows[row]:
                    closed = False
                    if seen[row] != i:
                        seen[row] = i
                        offer(nearest, nearest_ids, squared_distance(query, vectors[row]), ids[row])
            visited += not closed


class RPForestIndex(Index):
    """Approximate nearest neighbours by trees of oblique cuts.

    trees        trees in the forest: more remember more of the near pairs that one cut separates
    leaf_size    points in a leaf, at most
    max_leaves   leaves searched for a query, over all trees, or more if those hold fewer than k; None
                 searches until no tree can hold anything nearer
    seed         of the cuts

    Build O(trees n d log(n / leaf_size)); search O(max_leaves (leaf_size + log n) d) a query; memory beside the
    vectors: 4 bytes a vector and tree, and a vector of d for each cut, up to 2 n / leaf_size of them a tree.
    """

    _STRUCTURE = ("_normals", "_offsets", "_leaves", "_reach")

    def __init__(self, *, metric="l2", trees=10, leaf_size=32, max_leaves=100, seed=0):
        super().__init__(metric, trees=trees, leaf_size=leaf_size, max_leaves=max_leaves, seed=seed)
        self.trees = check_integer(trees, "trees", minimum=1)
        self.leaf_size = check_integer(leaf_size, "leaf_size", minimum=1)
        self.max_leaves = None if max_leaves is None else check_integer(max_leaves, "max_leaves", minimum=1)
        self.seed = check_integer(seed, "seed", minimum=0)

    def _build(self):
        """Grows as many trees at a time as there are threads, each from a seed of its own."""
        n, d = self._vectors.shape
        levels = max(0, int(np.ceil(np.log2(max(n, 1) / min(self.leaf_size, max(n, 1))))))
        self._normals = np.zeros((self.trees, 2**levels - 1, d), np.float32)
        self._offsets = np.zeros((self.trees, 2**levels - 1), np.float32)
        self._leaves = np.zeros((self.trees, n), np.int32)
        self._reach = np.sqrt(np.max(_squares(self._vectors), initial=0, keepdims=True))  # of the longest vector
        seeds = np.random.SeedSequence(self.seed).generate_state(self.trees, np.uint64)
        at_once = get_num_threads()
        for first in range(0, self.trees, at_once):
            some = slice(first, first + at_once)
            own = seeds[some], self._normals[some], self._offsets[some], self._leaves[some]
            in_threads(len(own[0]), _grow_trees, self._vectors, *own, at_least=1, room=lambda: growing_room(n))
            self._report(min(1.0, (first + at_once) / self.trees))

    def _scan_limit(self):
        """Of n rows with n_open open, a scan measures n_open, a search some max_leaves leaf n / n_open."""
        return int(np.sqrt(2.0 * min(self.leaf_size, self._built) * (self.max_leaves or 1) * self._built))

    def _candidates(self, queries, k, open_rows, share):
        """Ids of the k nearest among the leaves that the queue opens; its budget grows with what is closed."""
        found, squared = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        # A float32 inner product of d terms errs by less than d 2^-24 |a| |b|; a margin is one minus another.
        lengths = np.sqrt(_squares(queries)) + self._reach
        slack = ((queries.shape[1] + 4) * 2.0**-22 * lengths).astype(np.float32)
        budget = self.trees * self._built  # there are no more leaves than rows in each tree
        if self.max_leaves is not None:
            budget = min(budget, int(np.ceil(self.max_leaves / share)))
        forest = self._normals, self._offsets, self._leaves
        arguments = self._vectors, self._ids, open_rows, *forest, queries, slack, budget, found, squared
        waiting = self.trees * (self._offsets.shape[1] + 1)

        def room():
            return np.empty(waiting, np.float32), np.empty(waiting, np.int64), np.full(self._built, -1, np.int32)

        in_threads(len(queries), _search_forest, *arguments, at_least=4, room=room)
        return found


def _squares(vectors):
    return (vectors.astype(np.float64) ** 2).sum(1)
