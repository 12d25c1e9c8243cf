"""Triplet loss: the positive must be nearer to the anchor than the negative, by a margin."""

import numpy as np

from ..validation import check_number
from .contrastive import _embeddings


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
    anchor, positive, negative = _embeddings(anchor=anchor, positive=positive, negative=negative)
    margin = check_number(margin, "margin", minimum=0)
    d_positive, to_positive = _distance(anchor, positive)
    d_negative, to_negative = _distance(anchor, negative)
    violation = d_positive - d_negative + anchor.dtype.type(margin)
    active = ((violation > 0) / anchor.dtype.type(len(anchor)))[:, None].astype(anchor.dtype)
    loss = np.maximum(violation, 0).mean()
    return float(loss), (active * (to_positive - to_negative), -active * to_positive, active * to_negative)


def _distance(x, y):
    """|x - y| (n,), and its gradient in x, the unit vector from y to x (n, d)."""
    difference = x - y
    d = np.linalg.norm(difference, axis=1)
    return d, np.divide(difference, d[:, None], out=np.zeros_like(difference), where=d[:, None] > 0)
