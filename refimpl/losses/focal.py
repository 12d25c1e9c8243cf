"""Focal loss: cross-entropy that looks away from what is already easy.

A right answer of chance p costs -log p; many easy ones together outweigh the few hard ones. The factor (1 - p)^gamma
makes an answer of 90% count 1/100 at gamma = 2. In two forms: independent yes-or-no outputs (a sigmoid each, as in the
paper), and one label out of many (softmax).
"""

import numpy as np

from ..nn import log_softmax
from ..validation import FLOATS, check_array, check_number
from .checks import no_overflow
from .cross_entropy import check_logits, shares_of_weight


def focal_loss(logits, targets, *, alpha=0.25, gamma=2.0):
    """Binary focal loss on independent sigmoids, mean over all elements.

        p_t = sigmoid(logit) if target else 1 - sigmoid(logit)            alpha_t = alpha if target else 1 - alpha
        loss = mean of -alpha_t (1 - p_t)^gamma log p_t

    With x = +-logit such that p_t = sigmoid(x):  d loss / dx = alpha_t (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1).

    logits   float array of any shape, finite
    targets  the same shape, 0 or 1 (or bool)
    alpha    weight of the positive class in [0, 1]; None weighs both 1
    gamma    >= 0; 0 without alpha is binary cross-entropy
    Returns loss (float) and dlogits.
    Raises ValueError for wrong shapes, targets other than 0 or 1, alpha or gamma out of range, losses whose sum is
    beyond the dtype of the logits.
    Source: Lin et al. 2017, equation 5 and appendix B. (The paper normalises by the number of positive anchors of a
    detector; that is the caller's choice, here it is the mean.)
    """
    logits = check_array(logits, "logits", dtypes=FLOATS, finite=True)
    if logits.size == 0:
        raise ValueError(f"logits: expected at least one element, got shape {logits.shape}")
    targets = check_array(targets, "targets", shape=logits.shape)
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("targets: expected only 0 and 1")
    gamma = logits.dtype.type(check_number(gamma, "gamma", minimum=0))
    if alpha is not None:
        alpha = check_number(alpha, "alpha", minimum=0, maximum=1)
        alpha_t = np.where(targets == 1, alpha, 1 - alpha).astype(logits.dtype)
    else:
        alpha_t = logits.dtype.type(1)
    sign = np.where(targets == 1, 1, -1).astype(logits.dtype)
    x = sign * logits
    log_p = -np.logaddexp(0, -x)  # log sigmoid(x), finite for every finite x
    p = np.exp(log_p)
    not_p = np.exp(-np.logaddexp(0, x))  # 1 - p, without cancellation when p is near 1
    weight = alpha_t * not_p**gamma
    dx = weight * (gamma * p * log_p - not_p)
    with np.errstate(over="ignore"):
        loss = no_overflow(np.mean(-weight * log_p), "sum", "logits")
    return float(loss), sign * dx / logits.dtype.type(logits.size)


def softmax_focal_loss(logits, labels, *, gamma=2.0, class_weights=None):
    """Focal loss of one label out of c classes, weighted mean over the rows.

        p = softmax(logits)_{i, label_i},  u = 1 - p        loss = - sum_i w_{label_i} u^gamma log p / sum_i w_{label_i}

        d loss_i / d logits_ik = u^gamma (gamma p log p - u) ([k = label_i] - r_ik)
        r_ik = p_ik / u for the other classes k, 0 for the label: softmax without the label

    The gradient is written with r because p_ik / u stays a distribution when p -> 1 and u underflows.

    logits         (n, c) float, finite, c >= 2
    labels         (n,) integers in [0, c)
    gamma          >= 0; 0 gives `softmax_cross_entropy`
    class_weights  (c,) w >= 0 or None, as in `softmax_cross_entropy`
    Returns loss (float) and dlogits (n, c).
    Raises ValueError for wrong shapes, one class only, labels outside [0, c), gamma < 0, negative weights, or if all
    labels have weight 0; for logits so far apart that a difference to the label's, or the loss, is beyond their dtype.
    Source: Lin et al. 2017, equation 4, with softmax for p as their section 3 says it extends; two classes with logits
    (0, x) are `focal_loss` of x without alpha.
    """
    logits, labels = check_logits(logits, labels)
    if logits.shape[1] < 2:
        raise ValueError(f"logits: expected at least two classes, got shape {logits.shape}")
    gamma = logits.dtype.type(check_number(gamma, "gamma", minimum=0))
    shares = shares_of_weight(class_weights, labels, logits)
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, labels] = -np.inf
    log_r, _ = log_softmax(others)
    log_all, _ = log_softmax(logits)
    log_p = no_overflow(log_all[rows, labels], "difference", "logits")
    # p_k = u r_k for every other class k, so u without 1 - p; the likeliest k, where both logarithms are small
    k = np.argmax(others, axis=1)
    u = np.exp(log_all[rows, k] - log_r[rows, k])
    weight = shares[labels] * u**gamma
    slope = weight * (gamma * np.exp(log_p) * log_p - u)
    dlogits = -slope[:, None] * np.exp(log_r)
    dlogits[rows, labels] = slope
    with np.errstate(over="ignore"):
        loss = no_overflow(-np.sum(weight * log_p), "sum of differences", "logits")
    return float(loss), dlogits
