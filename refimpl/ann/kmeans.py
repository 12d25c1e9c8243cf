"""k-means: k centroids, each the mean of the vectors that are nearer to it than to any other.

    inertia = sum_i |x_i - c(label_i)|^2        labels given centroids, then centroids given labels: neither raises it

Lloyd 1982, "Least squares quantization in PCM". Start: k-means++ (Arthur and Vassilvitskii 2007), each next centroid
a vector drawn with probability proportional to its squared distance from those chosen; greedy: the best of
2 + ln k draws.

What limits it: operations, 2 n k d an iteration for the labels, less where the data have principal axes
(nearest_centroid.py). The means read each vector once, grouped by label, so that each centroid is summed by one thread
in the order of the rows, in float64: the result is the same for any number of threads.

A cluster that lost all its vectors gets the vector that is farthest from its centroid. With fewer distinct vectors
than k there is none (its distance is 0); centroids then coincide, and labels are the smallest of them.

Numbers whose squares would leave float32 are scaled by a power of two, which changes no digit of any but
those some 10^37 times smaller than the largest.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import in_threads, kernel
from ..validation import check_array, check_integer, check_number
from .candidates import squared_distance
from .gather import ask_for
from .index import check_build, thread_count
from .nearest_centroid import Labelling, assign

__all__ = ["KMeans", "assign", "group_by_label", "kmeans", "mini_batch_kmeans", "plus_plus"]

AHEAD = 8  # vectors asked for before they are added up: those of a group lie anywhere


class KMeans(NamedTuple):
    """centroids (k, d) float32; labels (n,) int32; inertia, a sum of squares; n_iter, updates of the centroids made."""

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float
    n_iter: int


def group_by_label(labels, k):
    """A counting sort -> order (n,), starts (k + 1,); label c is at order[starts[c] : starts[c + 1]]."""
    order, starts = np.empty(len(labels), np.int64), np.zeros(k + 1, np.int64)
    _group(labels.astype(np.int64, copy=False), order, starts, np.empty(k, np.int64))
    return order, starts


@kernel
def _group(labels, order, starts, place):
    """OUT order (n,), starts (k + 1,) = 0; place (k,) is room."""
    for label in labels:
        starts[label + 1] += 1
    for label in range(len(place)):
        place[label] = starts[label]
        starts[label + 1] += starts[label]
    for row in range(len(labels)):
        order[place[labels[row]]] = row
        place[labels[row]] += 1


@kernel
def _means(first, last, x, order, starts, centroids, total):
    """OUT centroids[first:last]: the mean of each group; those of empty groups are left as they are. total (d,)"""
    for c in range(first, last):
        for j in range(x.shape[1]):
            total[j] = 0.0
        for at in range(starts[c], starts[c + 1]):
            if at + AHEAD < len(order):
                ask_for(x, order[at + AHEAD])
            for j in range(x.shape[1]):
                total[j] += x[order[at], j]
        if starts[c + 1] > starts[c]:
            for j in range(x.shape[1]):
                centroids[c, j] = total[j] / (starts[c + 1] - starts[c])


@kernel
def _with_candidates(first, last, x, candidates, closest, out):
    """OUT out (m, n): the squared distance to the nearest centroid if candidate m were one, for rows first to last."""
    for i in range(first, last):
        for m in range(len(candidates)):
            out[m, i] = min(closest[i], squared_distance(x[i], candidates[m]))


def plus_plus(x, k, rng):
    """k rows of x, spread out by greedy k-means++. O(n k d log k).

    Each next one is drawn with probability proportional to the squared distance to the nearest that is chosen already;
    of 2 + floor(log k) draws the one that leaves the least sum of these stays (Arthur and Vassilvitskii 2007).
    """
    trials = 2 + int(np.log(k))
    chosen = np.empty((k, x.shape[1]), np.float32)
    closest = np.full(len(x), np.inf, np.float32)
    trial = np.array([rng.integers(len(x))])
    for c in range(k):
        out = np.empty((len(trial), len(x)), np.float32)
        in_threads(len(x), _with_candidates, x, x[trial], closest, out, at_least=4096)
        best = int(np.argmin(out.sum(1, dtype=np.float64)))
        chosen[c], closest = x[trial[best]], out[best]
        mass = np.cumsum(closest, dtype=np.float64)
        if mass[-1] > 0:
            trial = np.minimum(np.searchsorted(mass, rng.random(trials) * mass[-1], side="right"), len(x) - 1)
        else:  # every vector is a centroid already
            trial = rng.integers(len(x), size=1)
    return chosen


def _means_of_groups(x, order, starts, centroids):
    at_least = -(-8192 * len(centroids) // len(x))
    in_threads(
        len(centroids), _means, x, order, starts, centroids, at_least=at_least, room=lambda: np.empty(x.shape[1])
    )


def _repair(x, centroids, starts, distances):
    """Empty clusters move to the vectors farthest from their centroids."""
    empty = np.flatnonzero(np.diff(starts) == 0)
    if len(empty):
        farthest = np.argsort(-distances, kind="stable")[: len(empty)]
        farthest = farthest[distances[farthest] > 0]
        centroids[empty[: len(farthest)]] = x[farthest]


def kmeans(
    x, k, *, init="k-means++", max_iter=25, tol=1e-4, seed=0, spherical=False, threads=None, progress=None
):  # fmt: skip
    """Cluster x (n, d), n >= k, into k -> KMeans(centroids, labels, inertia, n_iter).

    minimises  inertia = sum over i of |x_i - c(label_i)|^2, to a local minimum

    x          finite real numbers, of any dtype; clustered as float32
    init       "k-means++", "random" (distinct rows) or an array (k, d)
    max_iter   updates of the centroids, at most; 0 only labels
    tol        stop when the centroids move, in sum of squares, by no more than tol times the mean variance of x
    seed       of the first centroids, unless `init` gives them
    spherical  centroids of unit length, for vectors of unit length (Dhillon and Modha 2001)
    threads    of the kernels; None: as many as Numba has
    progress   called as progress(updates done, max_iter) after each; at the end with both alike

    O(n k d) an iteration. Raises ValueError for bad arguments, k > n among them.
    """
    max_iter, tol = check_integer(max_iter, "max_iter", minimum=0), check_number(tol, "tol", minimum=0)
    check_build(threads, progress)
    with thread_count(threads):
        x, centroids, scale = _start(x, k, init, check_integer(seed, "seed", minimum=0))
        return _unscaled(_lloyd(x, centroids, max_iter, tol, spherical, progress), scale)


def _start(x, k, init, seed):
    """x in float32 and the first centroids, both over `scale`, a power of two that keeps squares within float32."""
    x = check_array(x, "x", ndim=2, finite=True, min_rows=1)
    if x.shape[1] < 1:
        raise ValueError(f"x: expected at least one column, got shape {x.shape}")
    k, rng = check_integer(k, "k", minimum=1, maximum=len(x)), np.random.default_rng(seed)
    x, largest = _in_float32(x, "x")
    if isinstance(init, str):
        centroids = None
    else:
        centroids, other = _in_float32(check_array(init, "init", shape=(k, x.shape[1]), finite=True), "init")
        largest = max(largest, other)
    exponent = int(np.frexp(largest)[1])
    scale = 1.0 if abs(exponent) < 40 or largest == 0 else 2.0**exponent
    if scale != 1:
        x, centroids = np.ldexp(x, -exponent), None if centroids is None else np.ldexp(centroids, -exponent)
    if centroids is not None:
        return x, centroids.copy(), scale
    if init == "k-means++":
        return x, plus_plus(x, k, rng), scale
    if init == "random":
        return x, x[rng.choice(len(x), k, replace=False)], scale
    raise ValueError(f"init: expected 'k-means++', 'random' or an array, got {init!r}")


def _in_float32(values, name):
    """`values` as contiguous float32, and the largest of their sizes."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, np.float32)
    largest = float(max(values.max(initial=0), -values.min(initial=0)))
    if not np.isfinite(largest):
        raise ValueError(f"{name}: expected values within float32, got larger ones")
    return values, largest


def _unscaled(found, scale):
    return found._replace(
        centroids=(found.centroids.astype(np.float64) * scale).astype(np.float32), inertia=found.inertia * scale**2
    )


def _lloyd(x, centroids, max_iter, tol, spherical, progress):
    """Assigns and averages until nothing changes, moves little enough, or `max_iter` is reached."""
    if spherical:
        centroids = _unit(centroids)
    vectors, n_iter, settled = Labelling(x, centroids), 0, False
    labels, distances = vectors.nearest(centroids)
    least_move = tol * vectors.mean_variance() if tol else 0.0
    while n_iter < max_iter and not settled:
        order, starts = group_by_label(labels, len(centroids))
        before = centroids.copy()
        _means_of_groups(x, order, starts, centroids)
        if spherical:
            centroids = _unit(centroids)
        _repair(x, centroids, starts, distances)
        new_labels, distances = vectors.nearest(centroids, labels)
        settled = np.array_equal(new_labels, labels) or ((centroids - before) ** 2).sum(dtype=np.float64) <= least_move
        labels, n_iter = new_labels, n_iter + 1
        if progress is not None:
            progress(max_iter if settled else n_iter, max_iter)
    return KMeans(centroids, labels, float(distances.sum(dtype=np.float64)), n_iter)


def mini_batch_kmeans(
    x, k, *, init="k-means++", batch=1024, max_iter=100, seed=0, threads=None, progress=None
):  # fmt: skip
    """Cluster x (n, d), n >= k, by looking at `batch` rows at a time -> KMeans, as `kmeans` gives.

        c <- c + (mean of its rows in the batch - c) m / (m + rows that it had before)        m of them in the batch

    which makes c the mean of all the rows that it was ever given. Sculley, "Web-scale k-means clustering", 2010, with
    the updates of a batch taken together. A centroid that got no row within a pass over the data (n / batch batches)
    starts anew at the row of the batch that is farthest from its own centroid.

    batch      rows drawn for each update, distinct; all n if there are fewer
    max_iter   updates of the centroids; none is left out
    The other arguments are as for `kmeans`.

    O(max_iter batch k d), and O(n k d) for the labels at the end. Inertia is a few percent above that of `kmeans`.
    Raises ValueError as `kmeans` does.
    """
    max_iter, batch = check_integer(max_iter, "max_iter", minimum=0), check_integer(batch, "batch", minimum=1)
    seed = check_integer(seed, "seed", minimum=0)
    check_build(threads, progress)
    with thread_count(threads):
        x, centroids, scale = _start(x, k, init, seed)
        rng = np.random.default_rng([seed, 1])
        batch, counts, idle = min(batch, len(x)), np.zeros(len(centroids)), np.zeros(len(centroids), np.int64)
        for done in range(max_iter):
            part = x[rng.choice(len(x), batch, replace=False)]
            labels, distances = Labelling(part, centroids).nearest(centroids)
            order, starts = group_by_label(labels, len(centroids))
            here, means = np.diff(starts), centroids.copy()
            _means_of_groups(part, order, starts, means)
            counts += here
            rate = (here / np.maximum(counts, 1)).astype(np.float32)[:, None]
            centroids += (means - centroids) * rate
            idle = np.where(here > 0, 0, idle + 1)
            _restart(part, centroids, counts, idle, distances, -(-len(x) // batch))
            if progress is not None:
                progress(done + 1, max_iter)
        labels, distances = Labelling(x, centroids).nearest(centroids)
        found = KMeans(centroids, labels, float(distances.sum(dtype=np.float64)), max_iter)
        return _unscaled(found, scale)


def _restart(part, centroids, counts, idle, distances, patience):
    """Centroids without a row for `patience` batches move to the farthest rows of this one. INOUT the first four."""
    late = np.flatnonzero(idle >= patience)
    if len(late):
        farthest = np.argsort(-distances, kind="stable")[: len(late)]
        farthest = farthest[distances[farthest] > 0]
        late = late[: len(farthest)]
        centroids[late], counts[late], idle[late] = part[farthest], 1, 0


def _unit(centroids):
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.where(norms > 0, centroids / np.where(norms > 0, norms, 1), centroids).astype(np.float32)
