"""Focal loss: cross-entropy that looks away from what is already easy."""

import numpy as np

from ..validation import FLOATS, check_array, check_number


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
    Raises ValueError for wrong shapes, targets other than 0 or 1, alpha or gamma out of range.
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
    return float(np.mean(-weight * log_p)), sign * dx / logits.dtype.type(logits.size)
