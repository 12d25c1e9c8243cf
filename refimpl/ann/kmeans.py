"""k-means: k centroids, each the mean of the vectors that are nearer to it than to any other.

    inertia = sum_i |x_i - c(label_i)|^2        labels given centroids, then centroids given labels: neither raises it

Lloyd 1982, "Least squares quantization in PCM". Start: k-means++ (Arthur and Vassilvitskii 2007), each next centroid
a vector drawn with probability proportional to its squared distance from those chosen; greedy: the best of
2 + ln k draws.

What limits it: operations, 2 n k d an iteration for the labels. They are a matrix product (panels.py) whose tiles are
reduced while they are in registers' reach: each lane keeps the best score it has seen and its panel, COLUMNS lanes
side by side without a branch, and the lanes are compared once, at the end. The means read each vector once, grouped
by label, so that each centroid is summed by one thread in the order of the rows, in float64: the result is the same
for any number of threads.

A cluster that lost all its vectors gets the vector that is farthest from its centroid. With fewer distinct vectors
than k there is none (its distance is 0); centroids then coincide, and labels are the smallest of them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ..microkernel import COLUMNS, ROWS, tile_product
from ..validation import check_array, check_integer, check_number
from .candidates import squared_distance
from .index import thread_count
from .panels import pack_vectors, whole_tiles

BLOCK = 64 // ROWS * ROWS  # vectors that share a panel: 32 KB of them at d = 128. Whole tiles: they write every row


class KMeans(NamedTuple):
    """centroids (k, d) float32; labels (n,) int32; inertia, a sum of squares; n_iter, updates of the centroids made."""

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float
    n_iter: int


@njit(cache=True, parallel=True)
def _nearest_centroid(x, panels, biases, labels):
    """OUT labels (n,): the column with the largest bias + x.panel, the smallest among equals. x: whole tiles."""
    n, d = len(labels), x.shape[1]
    for block in prange((n + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min((block + 1) * BLOCK, n)
        tile = np.empty((ROWS, COLUMNS), np.float32)
        best, where = np.full((BLOCK, COLUMNS), -np.inf, np.float32), np.zeros((BLOCK, COLUMNS), np.int32)
        for panel in range(len(panels)):
            for start in range(first, last, ROWS):
                tile[:] = biases[panel]
                tile_product(x, start * d, d, 1, panels, panel * d * COLUMNS, tile, 0, COLUMNS, d, True)
                for i in range(ROWS):
                    at = start - first + i
                    for j in range(COLUMNS):
                        better = tile[i, j] > best[at, j]
                        where[at, j] = np.int32(panel) if better else where[at, j]
                        best[at, j] = tile[i, j] if better else best[at, j]
        for i in range(last - first):
            label = np.int32(2147483647)
            score = np.float32(-np.inf)
            for j in range(COLUMNS):
                column = where[i, j] * np.int32(COLUMNS) + np.int32(j)
                if best[i, j] > score or (best[i, j] == score and column < label):
                    score, label = best[i, j], column
            labels[first + i] = label


def assign(x, centroids):
    """The nearest centroid of each x (n, d) float32 -> labels (n,) int32. 2 n k d operations."""
    center = centroids.mean(0, dtype=np.float64).astype(np.float32)  # smaller numbers, smaller rounding errors
    panels, biases = pack_vectors(centroids - center)
    labels = np.empty(len(x), np.int32)
    _nearest_centroid(whole_tiles(x - center), panels, biases, labels)
    return labels


@njit(cache=True)
def group_by_label(labels, k):
    """A counting sort -> order (n,), starts (k + 1,); label c is at order[starts[c] : starts[c + 1]]."""
    starts, order = np.zeros(k + 1, np.int64), np.empty(len(labels), np.int64)
    for label in labels:
        starts[label + 1] += 1
    starts = np.cumsum(starts)
    place = starts.copy()
    for row in range(len(labels)):
        order[place[labels[row]]] = row
        place[labels[row]] += 1
    return order, starts


@njit(cache=True, parallel=True)
def _means(x, order, starts, centroids):
    """OUT centroids (k, d): the mean of each group; those of empty groups are left as they are."""
    for c in prange(len(centroids)):
        total = np.zeros(x.shape[1])
        for at in range(starts[c], starts[c + 1]):
            for j in range(x.shape[1]):
                total[j] += x[order[at], j]
        if starts[c + 1] > starts[c]:
            for j in range(x.shape[1]):
                centroids[c, j] = total[j] / (starts[c + 1] - starts[c])


@njit(cache=True, parallel=True)
def _squares(x, centroids, labels, out):
    """OUT out[i] = |x_i - c(label_i)|^2."""
    for i in prange(len(x)):
        out[i] = squared_distance(x[i], centroids[labels[i]])


@njit(cache=True, parallel=True)
def _with_candidates(x, candidates, closest, out):
    """OUT out (m, n): the squared distance to the nearest centroid if candidate m were one."""
    for i in prange(len(x)):
        for m in range(len(candidates)):
            out[m, i] = min(closest[i], squared_distance(x[i], candidates[m]))


def plus_plus(x, k, rng):
    """k rows of x, spread out by greedy k-means++. O(n k d log k)."""
    trials = 2 + int(np.log(k))
    chosen = np.empty((k, x.shape[1]), np.float32)
    closest = np.full(len(x), np.inf, np.float32)
    trial = np.array([rng.integers(len(x))])
    for c in range(k):
        out = np.empty((len(trial), len(x)), np.float32)
        _with_candidates(x, x[trial], closest, out)
        best = int(np.argmin(out.sum(1, dtype=np.float64)))
        chosen[c], closest = x[trial[best]], out[best]
        mass = np.cumsum(closest, dtype=np.float64)
        if mass[-1] > 0:
            trial = np.minimum(np.searchsorted(mass, rng.random(trials) * mass[-1], side="right"), len(x) - 1)
        else:  # every vector is a centroid already
            trial = rng.integers(len(x), size=1)
    return chosen


def _repair(x, centroids, labels, starts, distances):
    """Empty clusters move to the vectors farthest from their centroids."""
    empty = np.flatnonzero(np.diff(starts) == 0)
    if len(empty):
        farthest = np.argsort(-distances, kind="stable")[: len(empty)]
        farthest = farthest[distances[farthest] > 0]
        centroids[empty[: len(farthest)]] = x[farthest]


def kmeans(x, k, *, init="k-means++", max_iter=25, tol=1e-4, seed=0, spherical=False, threads=None):
    """Cluster x (n, d), n >= k, into k -> KMeans(centroids, labels, inertia, n_iter).

    init       "k-means++", "random" (distinct rows) or an array (k, d)
    max_iter   updates of the centroids, at most; 0 only labels
    tol        stop when the centroids move, in sum of squares, by no more than tol times the mean variance of x
    spherical  centroids of unit length, for vectors of unit length (Dhillon and Modha 2001)

    O(n k d) an iteration. Raises ValueError for bad arguments, k > n among them.
    """
    x = np.ascontiguousarray(check_array(x, "x", ndim=2, finite=True, min_rows=1), np.float32)
    k = check_integer(k, "k", minimum=1, maximum=len(x))
    max_iter, tol = check_integer(max_iter, "max_iter", minimum=0), check_number(tol, "tol", minimum=0)
    rng = np.random.default_rng(check_integer(seed, "seed", minimum=0))
    with thread_count(threads):
        if not isinstance(init, str):
            centroids = check_array(init, "init", shape=(k, x.shape[1]), finite=True).astype(np.float32)
        elif init == "k-means++":
            centroids = plus_plus(x, k, rng)
        elif init == "random":
            centroids = x[rng.choice(len(x), k, replace=False)]
        else:
            raise ValueError(f"init: expected 'k-means++', 'random' or an array, got {init!r}")
        return _lloyd(x, centroids, max_iter, tol * float(x.var(0, dtype=np.float64).mean()), spherical)


def _lloyd(x, centroids, max_iter, least_move, spherical):
    k = len(centroids)
    distances = np.empty(len(x), np.float32)
    if spherical:
        centroids = _unit(centroids)
    labels, n_iter, settled = assign(x, centroids), 0, False
    while n_iter < max_iter and not settled:
        order, starts = group_by_label(labels, k)
        before = centroids.copy()
        _squares(x, before, labels, distances)
        _means(x, order, starts, centroids)
        if spherical:
            centroids = _unit(centroids)
        _repair(x, centroids, labels, starts, distances)
        new_labels = assign(x, centroids)
        settled = np.array_equal(new_labels, labels) or ((centroids - before) ** 2).sum(dtype=np.float64) <= least_move
        labels, n_iter = new_labels, n_iter + 1
    _squares(x, centroids, labels, distances)
    return KMeans(centroids, labels, float(distances.sum(dtype=np.float64)), n_iter)


def _unit(centroids):
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.where(norms > 0, centroids / np.where(norms > 0, norms, 1), centroids).astype(np.float32)
