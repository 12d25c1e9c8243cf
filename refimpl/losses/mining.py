"""Which triplets of a batch to learn from: most are satisfied soon, and teach nothing.

    batch_hard           each anchor with its farthest positive and its nearest negative
    semi_hard            each pair with the nearest negative that is farther than the positive, but not by the margin
    distance_weighted    each pair with a negative drawn so that all distances are about equally likely

Each returns rows of the batch, a `Triplets`, for `mined_triplet_loss`: choosing has no gradient. (All triplets at once:
`batch_all_triplet_loss`.) Hardest negatives at the start of training can collapse the embedding to a point, and
mislabelled pictures are always among them; semi-hard and distance-weighted ones avoid that.

z is (n, d) float and labels (n,) integers, in all three; cost O(n^2 d) time and O(n^2) memory.
"""

from typing import NamedTuple

import numpy as np

from ..validation import check_number
from .checks import check_embeddings, same_label
from .similarity import euclidean_distance


class Triplets(NamedTuple):
    """Rows of a batch, each (t,) int64, ordered by anchor and then by positive."""

    anchor: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def batch_hard(z, labels):
    """For each anchor the farthest of its class and the nearest of another, by Euclidean distance.

    Ties go to the smaller row. Anchors without a positive are left out. Raises ValueError if the labels allow no
    triplet.
    Source: Hermans, Beyer and Leibe 2017 (arXiv:1703.07737), equation 5.
    """
    d, positive, negative = _batch(z, labels)
    anchor = np.flatnonzero(positive.any(axis=1))
    farthest = np.where(positive, d, -np.inf).argmax(axis=1)
    nearest = np.where(negative, d, np.inf).argmin(axis=1)
    return Triplets(anchor, farthest[anchor], nearest[anchor])


def semi_hard(z, labels, *, margin=0.2):
    """For each (anchor, positive) the nearest negative with d_ap < d_an < d_ap + margin.

    Pairs without one are left out; the result is empty when every negative is too near or far enough. Ties go to the
    smaller row. Raises ValueError if the labels allow no triplet.
    Source: Schroff, Kalenichenko and Philbin 2015 (FaceNet), equation 4, with unsquared distances.
    """
    margin = check_number(margin, "margin", minimum=0)
    d, positive, negative = _batch(z, labels)
    chosen = []
    for i in range(len(d)):
        p, n = np.flatnonzero(positive[i]), np.flatnonzero(negative[i])
        n = n[np.argsort(d[i, n], kind="stable")]
        at = np.searchsorted(d[i, n], d[i, p], side="right")  # the first negative that is farther than the positive
        farther = at < len(n)
        p, n = p[farther], n[at[farther]]
        within = d[i, n] < d[i, p] + d.dtype.type(margin)
        chosen.append((np.full(within.sum(), i), p[within], n[within]))
    return Triplets(*(np.concatenate(column).astype(np.int64) for column in zip(*chosen)))


def distance_weighted(z, labels, seed, *, nearest=0.5, farthest=1.4):
    """For each (anchor, positive) a negative drawn with chance inverse to how common its distance is.

        chance of n  ~  1 / q(max(d_an, nearest)) if d_an < farthest else 0
        q(d)         ~  d^(k - 2) (1 - d^2 / 4)^((k - 3) / 2)            distances of random unit vectors in R^k

    In high dimensions nearly all negatives are at sqrt(2), and uniform draws would show nothing else. `nearest` bounds
    the weight of very near ones, whose gradient is mostly noise; beyond `farthest` the usual margins are satisfied. An
    anchor with no negative nearer than `farthest` draws uniformly among its negatives.

    z     (n, k) of unit length, k >= 2
    seed  an integer or a numpy.random.Generator
    Raises ValueError if z is not of unit length (to 1e-3), 0 < nearest <= farthest < 2 does not hold, or the labels
    allow no triplet.
    Source: Wu, Manmatha, Smola and Krahenbuehl 2017, equations 3 and 4; the bounds are those of their code.
    """
    (z,) = check_embeddings(z=z)
    length = np.linalg.norm(z, axis=1)
    if z.shape[1] < 2 or np.abs(length - 1).max() > 1e-3:
        got = f"shape {z.shape}, lengths from {length.min()} to {length.max()}"
        raise ValueError(f"z: expected unit vectors of two or more dimensions, got {got}")
    farthest = check_number(farthest, "farthest", above=0, below=2)
    nearest = check_number(nearest, "nearest", above=0, maximum=farthest)
    rng = np.random.default_rng(seed)
    d, positive, negative = _batch(z, labels)
    chosen = []
    for i in range(len(d)):
        p, n = np.flatnonzero(positive[i]), np.flatnonzero(negative[i])
        chance = _inverse_density(d[i, n], z.shape[1], nearest, farthest)
        chosen.append((np.full(len(p), i), p, n[rng.choice(len(n), len(p), p=chance)] if len(p) else p))
    return Triplets(*(np.concatenate(column).astype(np.int64) for column in zip(*chosen)))


def _inverse_density(d, k, nearest, farthest):
    """The chances of negatives at distances d (m,), m >= 1, float64."""
    d = d.astype(np.float64)
    x = np.clip(d, nearest, farthest)
    log_q = (k - 2) * np.log(x) + (k - 3) / 2 * np.log1p(-x * x / 4)
    log_weight = np.where(d < farthest, -log_q, -np.inf)
    if not (d < farthest).any():
        log_weight = np.zeros(len(d))
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def _batch(z, labels):
    """Distances (n, n) of a batch, and who is a positive and a negative of whom, both (n, n) bool."""
    (z,) = check_embeddings(z=z)
    positive = same_label(labels, len(z))
    labels = np.asarray(labels)
    negative = labels[:, None] != labels[None, :]
    if not (positive.any(axis=1) & negative.any(axis=1)).any():
        raise ValueError("labels: expected a class with two rows, and another class")
    return euclidean_distance(z, z)[0], positive, negative
