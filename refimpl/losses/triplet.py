"""Triplet loss: the positive must be nearer to the anchor than the negative, by a margin.

triplet_loss             three arrays, row by row
mined_triplet_loss       one batch and rows of it, chosen by `mining`
batch_all_triplet_loss   one batch and all its triplets, O(n^3) of them, in O(n^2 log n) time and O(n^2) memory
"""

import numpy as np

from ..validation import check_array, check_choice, check_number
from .checks import check_embeddings, no_overflow, same_label
from .mining import Triplets
from .similarity import euclidean_distance


def triplet_loss(anchor, positive, negative, *, margin=0.2):
    """Mean hinge on the difference of two distances.

        loss = 1/n sum_i max(0, |a_i - p_i| - |a_i - n_i| + margin)

    anchor, positive, negative  (n, d) float
    Returns loss (float), (danchor, dpositive, dnegative). The mean is over all n triplets, the satisfied ones too.
    The Euclidean distance is not squared; where two points coincide its gradient is taken as 0. If all embeddings
    collapse to a point the loss is the margin.
    Raises ValueError for wrong shapes, non-finite values, a negative margin.
    Source: Schroff, Kalenichenko and Philbin 2015 (FaceNet), equation 1, which squares the distances; unsquared as in
    Hermans, Beyer and Leibe 2017, who found it more stable.
    """
    anchor, positive, negative = check_embeddings(anchor=anchor, positive=positive, negative=negative)
    margin = check_number(margin, "margin", minimum=0)
    d_positive, to_positive = _distance(anchor, positive)
    d_negative, to_negative = _distance(anchor, negative)
    violation = d_positive - d_negative + anchor.dtype.type(margin)
    active = ((violation > 0) / anchor.dtype.type(len(anchor)))[:, None].astype(anchor.dtype)
    loss = np.maximum(violation, 0).mean()
    return float(loss), (active * (to_positive - to_negative), -active * to_positive, active * to_negative)


def mined_triplet_loss(z, triplets, *, margin=0.2):
    """`triplet_loss` of rows of one batch, and its gradient in the batch.

    z         (n, d) float
    triplets  rows (anchor, positive, negative) of z, each (t,) integers: a `mining.Triplets` or another tuple of three
    Returns loss (float), dz (n, d). A row's gradients in all its triplets are added. No triplets (nothing left that is
    semi-hard): loss 0 and gradient 0.
    Raises ValueError for wrong shapes, non-finite values, rows outside [0, n), a negative margin.
    """
    (z,) = check_embeddings(z=z)
    margin = check_number(margin, "margin", minimum=0)
    if not isinstance(triplets, tuple) or len(triplets) != 3:
        raise ValueError(f"triplets: expected a tuple (anchor, positive, negative), got {type(triplets).__name__}")
    rows = [_check_rows(r, f"triplets.{name}", len(z)) for name, r in zip(Triplets._fields, triplets)]
    if len({len(r) for r in rows}) > 1:
        raise ValueError(f"triplets: expected three columns of one length, got {[len(r) for r in rows]}")
    dz = np.zeros_like(z)
    if not len(rows[0]):
        return 0.0, dz
    loss, gradients = triplet_loss(*(z[r] for r in rows), margin=margin)
    for r, gradient in zip(rows, gradients):
        np.add.at(dz, r, gradient)
    return loss, dz


def batch_all_triplet_loss(z, labels, *, margin=0.2, mean_over="violating"):
    """Mean hinge over every triplet that the labels allow: each anchor with each of its class and each of another.

        loss = 1/T sum over (a, p, n)  max(0, d_ap - d_an + margin)                         d_ij = |z_i - z_j|

    mean_over  "violating": T counts the triplets with a hinge above 0; easy ones, soon nearly all, do not dilute the
               rest (Hermans et al.'s "batch all != 0"). If there are none, the loss is 0. "all": T counts all triplets
    z          (n, d) float; not normalised
    labels     (n,) integers
    Returns loss (float), dz (n, d). T is taken as fixed in the gradient. Collapsed, the loss is the margin either way.
    Raises ValueError for wrong shapes, non-finite values, a negative margin, or if there is no triplet.

    No triplet is enumerated: (a, p, n) violates if d_an < d_ap + margin, so per anchor the two sorted lists of
    distances say how many negatives violate with each positive, and with each negative how many positives. These counts
    are the gradient with respect to the distances.
    Source: Hermans, Beyer and Leibe 2017, section 2.
    """
    (z,) = check_embeddings(z=z)
    margin = z.dtype.type(check_number(margin, "margin", minimum=0))
    check_choice(mean_over, "mean_over", ("violating", "all"))
    positive = same_label(labels, len(z))
    labels = np.asarray(labels)
    d, through_d = euclidean_distance(z, z)
    dd = np.zeros_like(d)
    total, violating, triplets = 0.0, 0, 0
    for i in range(len(z)):
        p, n = np.flatnonzero(positive[i]), np.flatnonzero(labels != labels[i])
        reach, away = d[i, p] + margin, d[i, n]
        with_positive = np.searchsorted(np.sort(away), reach, side="left")  # negatives nearer than the reach
        with_negative = len(p) - np.searchsorted(np.sort(reach), away, side="right")  # positives that reach beyond it
        dd[i, p], dd[i, n] = with_positive, -with_negative
        # Large sums that nearly cancel: in float64, whatever z is.
        total += np.dot(with_positive, reach.astype(np.float64)) - np.dot(with_negative, away.astype(np.float64))
        violating += int(with_positive.sum())
        triplets += len(p) * len(n)
    if not triplets:
        raise ValueError("labels: expected a class with two rows, and another class")
    count = max(violating, 1) if mean_over == "violating" else triplets
    left, right = through_d(dd / z.dtype.type(count))
    return float(total) / count, left + right


def _distance(x, y):
    """|x - y| (n,), and its gradient in x, the unit vector from y to x (n, d)."""
    with np.errstate(over="ignore"):
        difference = x - y
        d = no_overflow(np.linalg.norm(difference, axis=1), "squared distance")
    return d, np.divide(difference, d[:, None], out=np.zeros_like(difference), where=d[:, None] > 0)


def _check_rows(rows, name, n):
    rows = check_array(rows, name, ndim=1)
    if rows.dtype.kind not in "iu" or (len(rows) and (rows.min() < 0 or rows.max() >= n)):
        raise ValueError(f"{name}: expected rows in [0, {n}), got {rows.dtype} {rows}")
    return rows
