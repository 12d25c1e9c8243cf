"""Classification and regression measures from their definitions, pair by pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import metrics

labelled = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])), min_size=2).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def split(pairs):
    return np.array([label for label, _ in pairs]), np.array([score for _, score in pairs])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_confusion_and_what_follows_from_it(pairs):
    labels, predicted = np.array(pairs).T
    confusion = metrics.confusion_matrix(labels, predicted, 5)
    assert all(confusion[i, j] == pairs.count((i, j)) for i in range(5) for j in range(5))
    assert metrics.accuracy(confusion) == pytest.approx(np.mean(labels == predicted))
    precision, recall, f1 = metrics.precision_recall_f1(confusion)
    for c in range(5):
        hits = sum(a == b == c for a, b in pairs)
        chosen, actual = (predicted == c).sum(), (labels == c).sum()
        assert precision[c] == pytest.approx(hits / chosen if chosen else 0)
        assert recall[c] == pytest.approx(hits / actual if actual else 0)
        both = precision[c] + recall[c]
        assert f1[c] == pytest.approx(2 * precision[c] * recall[c] / both if both else 0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.int64])
def test_counts_of_small_types_do_not_overflow(dtype):
    n = 200 if dtype == np.uint8 else 100
    confusion = np.array([[n, 20], [3, 90]], dtype)
    _, _, f1 = metrics.precision_recall_f1(confusion)
    assert f1 == pytest.approx([2 * n / (2 * n + 23), 180 / 203])
    assert metrics.accuracy(confusion) == pytest.approx((n + 90) / (n + 113))


@given(labelled)
def test_roc_auc_is_the_chance_that_a_positive_wins(pairs):
    labels, scores = split(pairs)
    wins = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert metrics.roc_auc(labels, scores) == pytest.approx(np.mean(wins))
    false_rate, true_rate, _ = metrics.roc_curve(labels, scores)
    trapezoids = np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2
    assert trapezoids.sum() == pytest.approx(np.mean(wins))
    assert metrics.roc_auc(labels, -scores) == pytest.approx(1 - np.mean(wins))
    assert metrics.roc_auc(labels, np.exp(scores)) == metrics.roc_auc(labels, scores)


@given(labelled)
def test_only_the_order_of_large_integer_scores_counts(pairs):
    labels, scores = split(pairs)
    large = 2**62 + np.unique(scores, return_inverse=True)[1]
    for dtype in (np.int64, np.uint64):
        assert metrics.roc_auc(labels, large.astype(dtype)) == metrics.roc_auc(labels, scores)
        assert metrics.pr_auc(labels, large.astype(dtype)) == metrics.pr_auc(labels, scores)


@given(labelled)
def test_curves_are_the_rates_at_each_threshold(pairs):
    labels, scores = split(pairs)
    false_rate, true_rate, thresholds = metrics.roc_curve(labels, scores)
    for f, t, threshold in zip(false_rate, true_rate, thresholds):
        assert t == pytest.approx(np.mean(scores[labels == 1] >= threshold))
        assert f == pytest.approx(np.mean(scores[labels == 0] >= threshold))
    precision, recall, thresholds = metrics.precision_recall_curve(labels, scores)
    for p, r, threshold in zip(precision, recall, thresholds):
        assert p == pytest.approx(labels[scores >= threshold].mean())
        assert r == pytest.approx(np.mean(scores[labels == 1] >= threshold))
    area = sum((r - before) * p for p, r, before in zip(precision, recall, [0, *recall]))
    assert metrics.pr_auc(labels, scores) == pytest.approx(area)


def test_pr_auc_without_ties_is_the_average_precision_of_the_ranking():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 30), rng.permutation(30)
    ranked = labels[np.argsort(-scores)][None]
    assert metrics.pr_auc(labels, scores) == pytest.approx(metrics.average_precision(ranked, labels.sum())[0])


def test_probability_scores_by_hand():
    labels, p = [1, 0, 1], [0.8, 0.1, 0.5]
    assert metrics.log_loss(labels, p) == pytest.approx(-(np.log(0.8) + np.log(0.9) + np.log(0.5)) / 3)
    assert metrics.log_loss([2, 0], [[0.2, 0.2, 0.6], [0.5, 0.5, 0]]) == pytest.approx(-(np.log(0.6) + np.log(0.5)) / 2)
    assert metrics.log_loss([1], [0.0]) == np.inf
    assert metrics.brier_score(labels, p) == pytest.approx((0.04 + 0.01 + 0.25) / 3)


def test_calibration_by_hand():
    labels, p = [1, 0, 1, 1, 0], [0.5, 0.6, 0.99, 1.0, 0.0]
    mean, share, count = metrics.calibration_curve(labels, p, n_bins=2)
    assert count.tolist() == [1, 4] and share.tolist() == [0, 0.75]
    assert mean == pytest.approx([0, (0.5 + 0.6 + 0.99 + 1) / 4])
    assert metrics.expected_calibration_error(labels, p, 2) == pytest.approx(0.8 * abs(mean[1] - 0.75))
    assert np.isnan(metrics.calibration_curve(labels, p, n_bins=10)[0][3])


def test_a_calibrated_forecast_has_little_calibration_error_and_a_shifted_one_has_its_shift():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 0.8, 40000)
    labels = rng.random(40000) < p
    assert metrics.expected_calibration_error(labels, p) < 0.02
    assert metrics.expected_calibration_error(labels, p + 0.15) == pytest.approx(0.15, abs=0.02)


errors = st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1)


@given(errors, st.floats(0.1, 30))
def test_regression_errors_are_their_definitions(pairs, delta):
    y, f = np.array(pairs).T
    assert metrics.mean_squared_error(y, f) == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
    assert metrics.mean_absolute_error(y, f) == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))
    sizes = [abs(a - b) for a, b in pairs]
    expected = sum(e * e / 2 if e <= delta else delta * e - delta * delta / 2 for e in sizes) / len(pairs)
    assert metrics.huber(y, f, delta) == pytest.approx(expected)
    assert metrics.huber(y, f, 200.0) == pytest.approx(metrics.mean_squared_error(y, f) / 2)


def test_peers_agree():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 200), np.round(rng.random(200), 2)
    assert metrics.roc_auc(labels, scores) == pytest.approx(theirs.roc_auc_score(labels, scores))
    assert metrics.pr_auc(labels, scores) == pytest.approx(theirs.average_precision_score(labels, scores))
    assert metrics.brier_score(labels, scores) == pytest.approx(theirs.brier_score_loss(labels, scores))
    p = np.clip(scores, 0.01, 0.99)
    assert metrics.log_loss(labels, p) == pytest.approx(theirs.log_loss(labels, p))
    ours = metrics.precision_recall_f1(metrics.confusion_matrix(labels, scores > 0.5))
    for mine, other in zip(ours, theirs.precision_recall_fscore_support(labels, scores > 0.5)):
        np.testing.assert_allclose(mine, other)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.confusion_matrix([0, 1], [0]), "predicted"),
        (lambda: metrics.confusion_matrix([0, -1], [0, 1]), "labels"),
        (lambda: metrics.confusion_matrix([0.5, 1], [0, 1]), "labels"),
        (lambda: metrics.confusion_matrix(np.array([2**63], np.uint64), [0]), "labels"),
        (lambda: metrics.confusion_matrix([0, 3], [0, 1], 3), "n_classes"),
        (lambda: metrics.accuracy([[1, 2]]), "confusion"),
        (lambda: metrics.roc_auc([1, 1], [0.5, 0.2]), "labels"),
        (lambda: metrics.roc_auc([1, 2], [0.5, 0.2]), "labels"),
        (lambda: metrics.roc_auc([1, 0], [0.5, np.nan]), "scores"),
        (lambda: metrics.pr_auc([1, 0, 1], [0.5, 0.1]), "labels"),
        (lambda: metrics.log_loss([1], [1.5]), "probabilities"),
        (lambda: metrics.log_loss([1], [[0.5, 0.1]]), "probabilities"),
        (lambda: metrics.log_loss([2], [[0.5, 0.5]]), "labels"),
        (lambda: metrics.brier_score([1], [-0.1]), "probabilities"),
        (lambda: metrics.calibration_curve([1], [0.1], 0), "n_bins"),
        (lambda: metrics.mean_squared_error([1.0], [[1.0]]), "predictions"),
        (lambda: metrics.mean_absolute_error([], []), "targets"),
        (lambda: metrics.huber([1.0], [1.0], 0), "delta"),
        (lambda: metrics.huber([np.nan], [1.0]), "targets"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
