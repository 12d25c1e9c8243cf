"""How much of the true neighbours an approximate search found."""

import numpy as np

from ..validation import check_array


def knn_recall(found_ids, true_ids):
    """The mean over queries of |found and true| / |true|, both (n, k) ids, -1 for none -> float in [0, 1].

    The overlap of two sets: the order does not matter, and an id counts once. A query without true neighbours is left
    out; if there are none with any, the recall is 1. This is the recall@k of Aumueller et al., "ANN-Benchmarks", 2020.
    """
    found = check_array(found_ids, "found_ids", ndim=2)
    true = check_array(true_ids, "true_ids", shape=(len(found), None))
    for name, ids in (("found_ids", found), ("true_ids", true)):
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"{name}: expected integers, got dtype {ids.dtype}")
    true = np.sort(true, 1)
    real = true >= 0
    real[:, 1:] &= true[:, 1:] != true[:, :-1]
    hits = np.zeros(true.shape, bool)
    for column in found.T:
        hits |= true == column[:, None]
    sizes = real.sum(1)
    counted = sizes > 0
    return float(((hits & real).sum(1)[counted] / sizes[counted]).mean()) if counted.any() else 1.0
