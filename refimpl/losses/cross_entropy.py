"""Softmax cross-entropy: how surprised a predicted distribution is by the label.

    p = softmax(logits)             loss_i = -log p[i, label_i]            d loss_i / d logits_i = p_i - onehot(label_i)

The gradient is "predicted minus true", whatever the number of classes. Every contrastive loss of this package that
ranks a positive among negatives is this one loss on a row of similarities.
"""

import numpy as np

from ..nn import log_softmax
from ..validation import FLOATS, check_array, check_number
from .checks import check_labels, no_overflow

BLOCK = 1 << 16  # logits that are worked on at a time: 256 KiB in float32


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, class_weights=None):
    """Mean cross-entropy between softmax(logits) and the labels, and its gradient.

        loss = - sum_ij w_j t_ij log softmax(logits)_ij / sum_i w_{label_i}
        t_ij = (1 - s) [j = label_i] + s / c                         s = label_smoothing, c classes

        dlogits_ik = (p_ik sum_j w_j t_ij - w_k t_ik) / sum_i w_{label_i}

    logits         (n, c) float32 or float64, finite
    labels         (n,) integers in [0, c)
    class_weights  (c,) w >= 0, see `class_weights.class_balanced_weights`; None weighs all 1. Only their ratios matter:
                   the mean is weighted, so that a batch of one class alone has its usual loss, whatever the weight
    Returns loss (float) and dlogits (n, c).
    Raises ValueError for wrong shapes, non-finite logits, labels outside [0, c), smoothing outside [0, 1), negative
    weights, or if all labels have weight 0; for logits so far apart that the loss is beyond their dtype.
    Source: label smoothing as in Szegedy et al. 2016, section 7 (uniform over all c classes, the true one included);
    the weighted mean as in torch's `cross_entropy`.
    """
    logits, labels = check_logits(logits, labels)
    s = check_number(label_smoothing, "label_smoothing", minimum=0, below=1)
    if s == 0 and class_weights is None:
        return cross_entropy_rows(logits.copy(), labels)
    n, c = logits.shape
    target = np.full((n, c), s / c, logits.dtype)
    target[np.arange(n), labels] += 1 - s
    target *= shares_of_weight(class_weights, labels, logits)
    log_p, _ = log_softmax(logits)
    # log p is -inf where a logit is too far below another: that counts only where there is a target
    with np.errstate(over="ignore"):
        loss = -np.sum(np.multiply(target, log_p, out=np.zeros_like(target), where=target > 0))
    no_overflow(loss, "difference", "logits")
    return float(loss), np.exp(log_p) * target.sum(axis=1, keepdims=True) - target


def check_logits(logits, labels):
    """`logits` as finite (n, c) and `labels` as (n,) int64 in [0, c), n >= 1."""
    logits = check_array(logits, "logits", ndim=2, dtypes=FLOATS, finite=True, min_rows=1)
    return logits, check_labels(labels, len(logits), classes=logits.shape[1])


def shares_of_weight(class_weights, labels, logits):
    """w_j / sum_i w_{label_i} for each class (c,), in the dtype of the logits; 1/n without weights."""
    if class_weights is None:
        class_weights = np.ones(logits.shape[1])
    weights = check_array(class_weights, "class_weights", shape=(logits.shape[1],), finite=True).astype(np.float64)
    if (weights < 0).any():
        raise ValueError(f"class_weights: expected values >= 0, got {weights.min()}")
    weights /= weights.max() or 1  # neither the sum nor the shares leave the range of float32
    total = weights[labels].sum()
    if total == 0:
        raise ValueError("class_weights: expected at least one label with a weight above 0")
    return (weights / total).astype(logits.dtype)


def cross_entropy_rows(logits, labels, name="logits"):
    """Mean cross-entropy and its gradient, for arguments already checked.

    logits  (n, c) float; -inf marks a candidate that cannot be chosen. Overwritten by the gradient, a block of rows at
            a time, so that each block stays in the cache while it is worked on
    labels  (n,) integers in [0, c)
    name    the arguments that the logits were computed from, for the message of NotFinite
    Returns loss (float) and the gradient, in the array `logits`. Raises NotFinite if the loss overflows.
    """
    n, loss = len(logits), 0.0
    step = max(1, BLOCK // logits.shape[1])
    for start in range(0, n, step):
        block, label = logits[start : start + step], labels[start : start + step]
        rows = np.arange(len(block))
        log_p, _ = log_softmax(block)
        with np.errstate(over="ignore"):
            loss -= float(no_overflow(log_p[rows, label].sum(), "difference of logits", name))
        np.exp(log_p, out=block)
        block[rows, label] -= 1
        block /= n
    return loss / n, logits
