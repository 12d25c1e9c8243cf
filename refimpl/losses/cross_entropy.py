"""Softmax cross-entropy: how surprised a predicted distribution is by the label.

    p = softmax(logits)             loss_i = -log p[i, label_i]            d loss_i / d logits_i = p_i - onehot(label_i)

The gradient is "predicted minus true", whatever the number of classes. Every contrastive loss of this package that
ranks a positive among negatives is this one loss on a row of similarities.
"""

import numpy as np

from ..nn import log_softmax
from ..validation import FLOATS, check_array, check_number


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0):
    """Mean cross-entropy between softmax(logits) and the labels, and its gradient.

        loss = -1/n sum_i sum_j t[i, j] log softmax(logits)[i, j]
        t[i, j] = (1 - s) [j = labels_i] + s / c             s = label_smoothing, c classes

    logits  (n, c) float32 or float64, finite
    labels  (n,) integers in [0, c)
    Returns loss (float) and dlogits (n, c).
    Raises ValueError for wrong shapes, non-finite logits, labels outside [0, c), smoothing outside [0, 1).
    Source: label smoothing as in Szegedy et al. 2016, section 7 (uniform over all c classes, the true one included).
    """
    logits = check_array(logits, "logits", ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
    labels = check_labels(labels, len(logits), classes=logits.shape[1])
    s = check_number(label_smoothing, "label_smoothing", minimum=0, below=1)
    loss, dlogits = cross_entropy_rows(logits, labels)
    if s == 0:
        return loss, dlogits
    # t = (1 - s) onehot + s / c: the loss is linear in t, so it is a blend of two losses
    n, c = logits.shape
    log_p, _ = log_softmax(logits)
    uniform = -np.sum(log_p) / (n * c)
    return float((1 - s) * loss + s * uniform), (1 - s) * dlogits + s * (np.exp(log_p) - 1 / c) / n


def cross_entropy_rows(logits, labels):
    """Mean cross-entropy and its gradient, unchecked; logits of -inf are candidates that cannot be chosen."""
    rows = np.arange(len(logits))
    log_p, _ = log_softmax(logits)
    loss = -log_p[rows, labels].mean()
    dlogits = np.exp(log_p, out=log_p)
    dlogits[rows, labels] -= 1
    dlogits /= len(logits)
    return float(loss), dlogits


def check_labels(labels, n, classes=None):
    """`labels` as (n,) int64; with `classes`, all within [0, classes)."""
    labels = check_array(labels, "labels", shape=(n,))
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: expected integers, got dtype {labels.dtype}")
    if classes is not None and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels: expected values in [0, {classes}), got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)
