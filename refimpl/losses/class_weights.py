"""Weights of classes that occur unequally often."""

import numpy as np

from ..validation import check_array, check_number


def class_balanced_weights(counts, *, beta=0.999):
    """One over the effective number of pictures of each class, scaled to a mean of 1.

        w_c  ~  (1 - beta) / (1 - beta^n_c)

    The idea: each further picture of a class adds less that is new. If a class had N = 1 / (1 - beta) distinct pictures
    and each draw were new with chance 1 - seen / N, n draws would show (1 - beta^n) / (1 - beta) of them. beta = 0
    weighs all classes 1; beta -> 1 weighs by 1 / n_c; a class of far fewer than 1 / (1 - beta) pictures as by 1 / n_c.

    counts  (c,) integers >= 0: pictures of each class in the training split. A class without any gets weight 0, and is
            left out of the mean
    beta    in [0, 1)
    Returns (c,) float64, for `softmax_cross_entropy`, `softmax_focal_loss`, or as chances in sampling.
    Raises ValueError for negative counts, no count above 0, beta outside [0, 1).
    Source: Cui, Jia, Lin, Song and Belongie 2019, equations 2 to 4; they scale to the sum c, which is the same.
    """
    counts = check_array(counts, "counts", ndim=1, min_rows=1)
    if counts.dtype.kind not in "iu" or counts.min() < 0 or counts.max() == 0:
        got = f"{counts.dtype} from {counts.min()} to {counts.max()}"
        raise ValueError(f"counts: expected integers >= 0, not all 0, got {got}")
    beta = check_number(beta, "beta", minimum=0, below=1)
    present = counts > 0
    weights = np.zeros(len(counts))
    # beta^n as exp(n log beta), and 1 - it without cancellation when beta is near 1
    log_beta = np.log(beta) if beta > 0 else -np.inf
    weights[present] = 1 / -np.expm1(counts[present] * log_beta)
    return weights * (present.sum() / weights.sum())
