"""How good is a classifier? Its decisions, its order, and its probabilities are three questions.

decisions       confusion matrix; accuracy, precision, recall and F1 from it
order           ROC and precision-recall curves over all thresholds, and the areas under them
probabilities   log loss, Brier score, calibration: of the pictures given 0.8, are 80% positive?

labels          (n,)     integers: classes 0 .. c - 1, or 0 and 1 (or bool) where there are two
predicted       (n,)     integers, the decisions
scores          (n,)     real, finite; the higher, the more positive. Only their order counts.
probabilities   (n,)     in [0, 1], of the positive class; or (n, c), each row summing to 1
"""

import numpy as np

from ..validation import check_array, check_integer

# ---- Decisions ------------------------------------------------------------------------------------------------------


def confusion_matrix(labels, predicted, n_classes=None):
    """(c, c) int64: entry (i, j) counts the examples of class i that were predicted as class j.

    n_classes defaults to one more than the largest class that occurs.
    """
    labels, predicted = _classes(labels, "labels"), _classes(predicted, "predicted")
    if len(labels) != len(predicted):
        raise ValueError(f"predicted: expected shape {labels.shape}, that of labels, got {predicted.shape}")
    top = int(max(labels.max(), predicted.max()))
    c = top + 1 if n_classes is None else check_integer(n_classes, "n_classes", minimum=top + 1)
    return np.bincount(labels * c + predicted, minlength=c * c).reshape(c, c)


def accuracy(confusion):
    """The share of right decisions: trace over sum. Ignores which mistakes are made; a rare class hardly counts."""
    confusion = _confusion(confusion)
    return float(np.trace(confusion) / confusion.sum())


def precision_recall_f1(confusion):
    """(precision, recall, f1), each (c,) float64, of every class against all others.

        precision = TP / (TP + FP)    recall = TP / (TP + FN)    F1 = 2 TP / (2 TP + FP + FN)

    0 where the denominator is 0: a class never predicted has precision 0, one that never occurs recall 0. The macro
    average is the mean over classes; the micro average of each is `accuracy`, since every example has one class.
    Ignores: true negatives. Source: van Rijsbergen, Information Retrieval, 1979.
    """
    confusion = _confusion(confusion)
    right, predicted, actual = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    return _share(right, predicted), _share(right, actual), _share(2 * right, predicted + actual)


# ---- Order ----------------------------------------------------------------------------------------------------------


def roc_curve(labels, scores):
    """(false_positive_rate, true_positive_rate, thresholds): the rates if everything with score >= threshold is
    positive.

    One point a distinct score, from the highest down, after (0, 0) at infinity. Ties are one point: no order among them
    is preferred. Source: Fawcett, An introduction to ROC analysis, 2006, algorithm 1.
    """
    true, false, thresholds = _counts_above(labels, scores)
    return false / false[-1], true / true[-1], thresholds


def roc_auc(labels, scores):
    """The chance that a random positive scores higher than a random negative, a tie counting half.

        AUC = (#{s+ > s-} + 1/2 #{s+ = s-}) / (P N)      also the area under `roc_curve`

    Ignores: calibration, and how rare the positives are - a good AUC can hide a useless precision.
    Source: Hanley and McNeil, Radiology 1982 (Mann-Whitney U). O(n log n).
    """
    true, false, _ = _counts_above(labels, scores)
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1])) / (2 * true[-1] * false[-1]))


def precision_recall_curve(labels, scores):
    """(precision, recall, thresholds), one point a distinct score from the highest down; recall rises to 1."""
    true, false, thresholds = _counts_above(labels, scores)
    return true[1:] / (true + false)[1:], true[1:] / true[-1], thresholds[1:]


def pr_auc(labels, scores):
    """The area under the precision-recall steps: sum of (recall_i - recall_{i-1}) precision_i, the average precision.

    Steps, not trapezoids: between two points precision does not run straight, and trapezoids promise too much.
    Source: Davis and Goadrich, The relationship between precision-recall and ROC curves, ICML 2006.
    """
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


# ---- Probabilities --------------------------------------------------------------------------------------------------


def log_loss(labels, probabilities):
    """The mean of -log of the probability that was given to what happened, in nats.

        -1/n sum_i log p_i(y_i)

    Infinite if something happened that was called impossible: clip the probabilities before, if that is not meant.
    """
    labels, probabilities = _probabilities(labels, probabilities)
    given = probabilities[np.arange(len(labels)), labels]
    with np.errstate(divide="ignore"):
        return float(-np.log(given).mean())


def brier_score(labels, probabilities):
    """The mean squared distance of the probability of the positive class from what happened: 1/n sum (p_i - y_i)^2.

    Source: Brier, Verification of forecasts expressed in terms of probability, 1950, for two classes (half his sum).
    """
    labels, probabilities = _binary_probabilities(labels, probabilities)
    return float(np.mean((probabilities - labels) ** 2))


def calibration_curve(labels, probabilities, n_bins=10):
    """(mean_probability, share_positive, count), each (n_bins,): what was promised and what happened, in equal-width
    bins.

    Bin b holds b / n_bins <= p < (b + 1) / n_bins, the last one p = 1 too. Empty bins have count 0 and NaN.
    """
    labels, probabilities = _binary_probabilities(labels, probabilities)
    n_bins = check_integer(n_bins, "n_bins", minimum=1)
    edges = np.arange(1, n_bins) / n_bins
    bins = np.searchsorted(edges, probabilities, side="right")
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins, probabilities, n_bins) / count
        share = np.bincount(bins, labels, n_bins) / count
    return mean, share, count


def expected_calibration_error(labels, probabilities, n_bins=10):
    """The mean distance of promise and outcome over the examples: sum_b count_b / n |mean_b - share_b|.

    Depends on the bins: few hide errors that cancel within them, many count noise as error.
    Source: Naeini, Cooper, Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    mean, share, count = calibration_curve(labels, probabilities, n_bins)
    some = count > 0
    return float(np.sum(count[some] * np.abs(mean[some] - share[some])) / count.sum())


# ---- Checks and counts ----------------------------------------------------------------------------------------------


def _counts_above(labels, scores):
    """(true, false, thresholds): positives and negatives with score >= threshold: infinity and each distinct score."""
    scores = check_array(scores, "scores", ndim=1, finite=True, min_rows=1)
    labels = _binary(labels, scores.shape)
    if labels.all() or not labels.any():
        raise ValueError("labels: expected both classes, got one")
    order = np.argsort(scores, kind="stable")[::-1]
    scores, labels = scores[order], labels[order]
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    true = np.cumsum(labels)[last]
    return np.append(0, true), np.append(0, last + 1 - true), np.append(np.inf, scores[last])


def _classes(values, name):
    values = check_array(values, name, ndim=1, min_rows=1)
    if values.dtype.kind not in "biu" or values.min() < 0:
        raise ValueError(f"{name}: expected classes 0, 1, ..., got dtype {values.dtype} from {values.min()}")
    if values.dtype == np.uint64 and values.max() >= 2**63:
        raise ValueError(f"{name}: expected integers below 2^63, got {values.max()}")
    return values.astype(np.int64)


def _binary(labels, shape):
    labels = check_array(labels, "labels", shape=shape)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels: expected 0 and 1, got other values")
    return labels.astype(np.int64)


def _binary_probabilities(labels, probabilities):
    probabilities = check_array(probabilities, "probabilities", ndim=1, finite=True, min_rows=1)
    _in_unit_interval(probabilities)
    return _binary(labels, probabilities.shape), probabilities.astype(np.float64)


def _probabilities(labels, probabilities):
    """(labels, (n, c) probabilities): one column for the positive class becomes two."""
    probabilities = check_array(probabilities, "probabilities", ndim=(1, 2), finite=True, min_rows=1).astype(np.float64)
    _in_unit_interval(probabilities)
    if probabilities.ndim == 1:
        return _binary(labels, probabilities.shape), np.stack([1 - probabilities, probabilities], axis=1)
    if np.abs(probabilities.sum(axis=1) - 1).max() > 1e-5:
        raise ValueError("probabilities: expected rows that sum to 1, got other sums")
    labels = check_array(_classes(labels, "labels"), "labels", shape=(len(probabilities),))
    if labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels: expected classes below {probabilities.shape[1]}, got {labels.max()}")
    return labels, probabilities


def _in_unit_interval(probabilities):
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(
            f"probabilities: expected values from 0 to 1, got {probabilities.min()} to {probabilities.max()}"
        )


def _confusion(confusion):
    confusion = check_array(confusion, "confusion", ndim=2, finite=True, min_rows=1)
    if confusion.shape[0] != confusion.shape[1] or confusion.min() < 0 or confusion.sum() == 0:
        raise ValueError(f"confusion: expected a square matrix of counts, not all 0, got shape {confusion.shape}")
    return confusion.astype(np.float64)  # twice a count need not fit into the caller's integers


def _share(part, whole):
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
