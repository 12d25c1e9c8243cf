"""Tie-averaged measures against the mean over every order of the tied documents."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import metrics


def orders(grades, scores):
    """Every order of the documents in which no score rises, as rows."""
    n = len(scores)
    allowed = [o for o in permutations(range(n)) if all(scores[a] >= scores[b] for a, b in zip(o, o[1:]))]
    return np.array([[grades[i] for i in order] for order in allowed])


@settings(max_examples=80)
@given(st.data())
def test_the_average_is_the_mean_over_permutations(data):
    n = data.draw(st.integers(1, 6))
    grades = np.array([data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))])
    scores = np.array([data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n))])
    missed = data.draw(st.integers(0, 2))
    k = data.draw(st.integers(1, 7))
    rows = orders(grades[0].tolist(), scores[0].tolist())
    r = int((grades > 0).sum()) + missed
    ideal = np.hstack([grades, np.ones((1, missed), dtype=int)])
    ideals = np.tile(ideal, (len(rows), 1))
    cases = {
        "precision": (metrics.tie_averaged_precision_at_k(grades, scores, k), metrics.precision_at_k(rows, k)),
        "recall": (metrics.tie_averaged_recall_at_k(grades, scores, k, r), metrics.recall_at_k(rows, k, r)),
        "r": (metrics.tie_averaged_r_precision(grades, scores, r), metrics.r_precision(rows, r)),
        "hit": (metrics.tie_averaged_hit_rate_at_k(grades, scores, k), metrics.hit_rate_at_k(rows, k)),
        "rr": (metrics.tie_averaged_reciprocal_rank(grades, scores), metrics.reciprocal_rank(rows)),
        "rr@k": (metrics.tie_averaged_reciprocal_rank(grades, scores, k), metrics.reciprocal_rank(rows, k)),
        "ap": (metrics.tie_averaged_average_precision(grades, scores, r), metrics.average_precision(rows, r)),
        "ap@k": (metrics.tie_averaged_average_precision(grades, scores, r, k), metrics.average_precision(rows, r, k)),
    }
    for gain in ("linear", "exponential"):
        dcg = metrics.tie_averaged_dcg_at_k(grades, scores, k, gain), metrics.dcg_at_k(rows, k, gain)
        ndcg = metrics.tie_averaged_ndcg_at_k(grades, scores, k, ideal, gain), metrics.ndcg_at_k(rows, k, ideals, gain)
        cases |= {f"dcg {gain}": dcg, f"ndcg {gain}": ndcg}
    for name, (ours, each) in cases.items():
        assert ours[0] == pytest.approx(each.mean(), rel=1e-12, abs=1e-15), name


def test_without_ties_nothing_changes():
    grades = np.array(list(product((0, 1, 2), repeat=4)))
    scores = np.tile([4.0, 3.0, 2.0, 1.0], (len(grades), 1))
    r = (grades > 0).sum(axis=1)
    for ours, plain in (
        (metrics.tie_averaged_average_precision(grades, scores, r), metrics.average_precision(grades, r)),
        (metrics.tie_averaged_reciprocal_rank(grades, scores), metrics.reciprocal_rank(grades)),
        (metrics.tie_averaged_ndcg_at_k(grades, scores, 3, grades), metrics.ndcg_at_k(grades, 3, grades)),
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-14)


def test_average_precision_of_a_long_ranking_of_hits_is_1():
    grades, scores = np.ones((1, 200_000), dtype=np.int8), np.arange(200_000.0)[None] // 2
    assert metrics.tie_averaged_average_precision(grades, scores, 200_000) == pytest.approx(1)


def test_renaming_or_reordering_tied_documents_changes_nothing():
    rng = np.random.default_rng(0)
    grades, scores = rng.integers(0, 3, (20, 9)), rng.integers(0, 3, (20, 9))
    order = rng.permutation(9)
    a = metrics.tie_averaged_average_precision(grades, scores, 9)
    b = metrics.tie_averaged_average_precision(grades[:, order], scores[:, order], 9)
    np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.tie_averaged_precision_at_k([[1, 0]], [[1.0, np.nan]], 1), "scores"),
        (lambda: metrics.tie_averaged_precision_at_k([[1, 0]], [[1.0]], 1), "grades"),
        (lambda: metrics.tie_averaged_precision_at_k([[1, 0]], [[1.0, 2.0]], 0), "k"),
        (lambda: metrics.tie_averaged_recall_at_k([[1, 1]], [[1.0, 2.0]], 1, 1), "n_relevant"),
        (lambda: metrics.tie_averaged_ndcg_at_k([[1, 2]], [[1.0, 2.0]], 1, [[1, 1]]), "ideal"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
