"""The nearest of k centroids for each of n vectors: the labels of k-means and of the inverted lists.

    label_i = argmin_c |x_i - c|^2 = argmax_c  x_i.c - |c|^2 / 2        (panels.py)

What limits it: operations, 2 n k d. They are a matrix product whose tiles are reduced while they are in registers'
reach: each lane keeps the best score it has seen and its panel, COLUMNS lanes side by side without a branch, and the
lanes are compared once, at the end.

Scores lose digits where |x|^2 is much larger than the distances, as where one coordinate is thousands of times another.
If their errors matter beside the distances, labels are improved as below, with all d coordinates.

Where the vectors have principal axes (principal.py), the product is of depth + 1 coordinates in place of d and bounds
the scores. Then the label is at first a guess (from the iteration before; to begin with, the centroid of the largest
bound). The distance to it is a limit, and of all other centroids only those whose bound is not below it are
measured: one or two of 1,024 for the embeddings of benchmark_ann.py, 16 axes of 128.

The same in its effect as the bounds of Elkan 2003 and Hamerly 2010, which come from the iteration before by the
triangle inequality. Those weaken by how far centroids move, which in the first ten iterations is far; these need no
history, so that they also serve a single assignment. docs/ann-kmeans.md has both measured.
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from ..microkernel import COLUMNS, ROWS, tile_product
from .candidates import squared_distance
from .panels import pack_vectors, rounding_error, squared_lengths, whole_tiles
from .principal import ASKING, choose_axes, project, sample_rows
from .tiles import all_below, all_negative, start_tile

BLOCK = 64 // ROWS * ROWS  # vectors that share a panel: 32 KB of them at d = 128. Whole tiles: they write every row
EXACT_ENOUGH = 0.01  # of the mean squared distance: bounds of errors with which labels are not looked at again
FEW = 1 << 24  # pairs of a vector and a centroid for which no axes are looked for


def _score_room():
    """For `_largest_score`: a tile; zeros; the best scores of a block, one for each lane, and their panels."""
    tile, none = np.empty((ROWS, COLUMNS), np.float32), np.zeros(ROWS, np.float32)
    return tile, none, np.empty((BLOCK, COLUMNS), np.float32), np.empty((BLOCK, COLUMNS), np.int32)


@kernel
def _largest_score(first_block, last_block, x, panels, biases, labels, room):
    """OUT labels (n,): the column with the largest bias + x.panel, the smallest among equals. x: whole tiles."""
    n, d, (tile, none, best, where) = len(labels), x.shape[1], room
    for block in range(first_block, last_block):
        first, last = block * BLOCK, (block + 1) * BLOCK if (block + 1) * BLOCK < n else n
        for i in range(BLOCK):
            for j in range(COLUMNS):
                best[i, j], where[i, j] = -np.inf, 0
        for panel in range(len(panels)):
            for start in range(first, last, ROWS):
                start_tile(tile, 0, COLUMNS, biases, panel * COLUMNS, none, 0)
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


@inner
def _limit(square, distance, error, d):
    """The score that a centroid at least has whose float32 squared distance is `distance` or less; square = |x|^2."""
    return np.float32(0.5 * (square - np.float64(distance) * (1.0 + (d + 16) * 2.0**-24)) - error)


def _improve_room():
    """For `_improve`: a tile, and the limits of a block."""
    return np.empty((ROWS, COLUMNS), np.float32), np.empty(BLOCK, np.float32)


@kernel
def _improve(
    first_block, last_block, x, centroids, projected, panels, biases, squares, errors, labels, distances, room
):
    """INOUT labels (n,): a guess, then the nearest centroid. OUT distances (n,): squared, of float32 sums."""
    n, d, (tile, limits) = len(x), panels.shape[1], room
    for block in range(first_block, last_block):
        first, last = block * BLOCK, min((block + 1) * BLOCK, n)
        for i in range(last - first, BLOCK):
            limits[i] = np.inf
        for row in range(first, last):
            distances[row] = squared_distance(x[row], centroids[labels[row]])
            limits[row - first] = _limit(squares[row], distances[row], errors[row], x.shape[1])
        for panel in range(len(panels)):
            for start in range(first, last, ROWS):
                start_tile(tile, 0, COLUMNS, biases, panel * COLUMNS, limits, start - first)
                tile_product(projected, start * d, d, 1, panels, panel * d * COLUMNS, tile, 0, COLUMNS, d, True)
                if not all_negative(tile, 0, COLUMNS):
                    for row in range(start, min(start + ROWS, last)):
                        if not all_below(tile, (row - start) * COLUMNS, np.float32(0)):
                            _measure_row(x[row], centroids, tile[row - start], panel * COLUMNS, row, labels, distances)
                            limits[row - first] = _limit(squares[row], distances[row], errors[row], x.shape[1])


@inner
def _measure_row(x, centroids, above, first, row, labels, distances):
    """Measure the centroids from `first` on where `above` is not negative. INOUT labels[row], distances[row]."""
    for j in range(COLUMNS):
        c = first + j
        if above[j] >= 0 and c < len(centroids) and c != labels[row]:
            distance = squared_distance(x, centroids[c])
            if distance < distances[row] or (distance == distances[row] and c < labels[row]):
                labels[row], distances[row] = c, distance


@kernel
def _squared_distances(first, last, x, centroids, labels, out):
    """OUT out[i] = |x_i - c(label_i)|^2, first <= i < last."""
    for i in range(first, last):
        out[i] = squared_distance(x[i], centroids[labels[i]])


class Labelling:
    """Vectors x (n, d) float32, prepared for being labelled again and again with centroids like the given ones.

    Numbers are taken relative to the mean of those centroids: smaller numbers, smaller rounding errors.
    """

    def __init__(self, x, centroids):
        self.x, self.center = x, centroids.mean(0, dtype=np.float64).astype(np.float32)
        shifted = x - self.center
        self.axes = None
        if len(x) * len(centroids) > FEW:
            self.axes = choose_axes(sample_rows(shifted, ASKING), sample_rows(centroids - self.center, 1024))
        self.squares = squared_lengths(shifted)
        self.projected = whole_tiles(project(shifted, self.axes))

    def mean_variance(self):
        """Of the coordinates of x: the mean |x - c|^2 less |mean - c|^2, over d; c, the center, is near the mean."""
        mean = self.x.mean(0, dtype=np.float64) - self.center
        return float(self.squares.mean() - mean @ mean) / self.x.shape[1]

    def nearest(self, centroids, labels=None):
        """Labels (n,) int32 of the nearest centroids (k, d), the smallest among equals, and squared distances (n,).

        To the errors of float32 distances; without axes those of scores, EXACT_ENOUGH of the mean distance at most.

        labels   a guess, which may save time and never changes the result
        """
        shifted = centroids - self.center
        squares = squared_lengths(shifted)
        panels, biases = pack_vectors(project(shifted, self.axes), squares)
        distances, d = np.empty(len(self.x), np.float32), self.x.shape[1]
        errors = rounding_error(np.sqrt(self.squares), np.sqrt(squares.max()), d)
        if self.axes is None or labels is None:
            labels = np.empty(len(self.x), np.int32)
            arguments = self.projected, panels, biases, labels
            in_threads(-(-len(labels) // BLOCK), _largest_score, *arguments, at_least=4, room=_score_room)
        if self.axes is None:
            in_threads(len(labels), _squared_distances, self.x, centroids, labels, distances, at_least=8192)
            if errors.sum() <= EXACT_ENOUGH * distances.sum(dtype=np.float64):
                return labels, distances
        labels = labels.copy()
        arguments = self.x, centroids, self.projected, panels, biases, self.squares, errors, labels, distances
        in_threads(-(-len(labels) // BLOCK), _improve, *arguments, at_least=4, room=_improve_room)
        return labels, distances


def assign(x, centroids):
    """The nearest centroid of each x (n, d) float32 -> labels (n,) int32. At most 2 n k d operations."""
    return Labelling(x, centroids).nearest(centroids)[0]
