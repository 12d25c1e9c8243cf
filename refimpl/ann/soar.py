"""SOAR: a second list for each vector, chosen to be good where the first one is bad.

Sun et al., "SOAR: improved indexing for approximate nearest neighbor search", NeurIPS 2023. A vector x in the list of
centroid c is missed by a query q when q.c says too little of q.x: when the residual r = x - c has a large part along
q. Putting x also into the next nearest list helps little if its residual r' points the same way: both miss the same
queries. So the second list is the one with the least

    |r'|^2 + weight (r'.r / |r|)^2        r' = x - c'

which asks for a residual at right angles to the first. weight 0 is the next nearest list.
"""

import numpy as np

from ..kernels import in_threads, inner, kernel
from .candidates import squared_distance
from .lists import as_one_list, nearest_centroids

CANDIDATES = 16  # nearest centroids that are tried first


@inner
def soar_loss(x, own, other, weight):
    """|x - other|^2 + weight ((x - other).(x - own))^2 / |x - own|^2; the second term is 0 where x = own."""
    square = inner = norm = 0.0
    for j in range(len(x)):
        first, second = np.float64(x[j]) - own[j], np.float64(x[j]) - other[j]
        square += second * second
        inner += first * second
        norm += first * first
    return square + weight * inner * inner / norm if norm > 0 else square


@kernel
def _choose(first, last, x, centroids, labels, candidates, weight, second):
    """OUT second (n,): the best list other than labels[i]. No loss is below |x - c'|^2: often few need be tried."""
    for i in range(first, last):
        own, best, least, furthest = centroids[labels[i]], -1, np.inf, 0.0
        for c in candidates[i]:
            if c < 0:
                continue
            furthest = max(furthest, np.float64(squared_distance(x[i], centroids[c])))
            if c != labels[i]:
                loss = soar_loss(x[i], own, centroids[c], weight)
                if best < 0 or loss < least or (loss == least and c < best):
                    best, least = c, loss
        if least > furthest * (1 - 1e-5):  # one beyond the candidates may be better
            for c in range(len(centroids)):
                if c != labels[i]:
                    loss = soar_loss(x[i], own, centroids[c], weight)
                    if best < 0 or loss < least or (loss == least and c < best):
                        best, least = c, loss
        second[i] = best


def second_lists(x, centroids, labels, weight):
    """The list with the least SOAR loss beside labels (n,), for x (n, d) -> (n,) int64; needs two centroids.

    O(n L d), most of it a matrix product.
    """
    second = np.empty(len(x), np.int64)
    candidates = nearest_centroids(as_one_list(centroids), x, min(CANDIDATES, len(centroids)))
    in_threads(len(x), _choose, x, centroids, labels, candidates, float(weight), second)
    return second
