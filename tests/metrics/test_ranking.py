"""The ranking measures against their definitions and their laws."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import metrics

from . import definitions
from .strategies import judged_rankings

GAINS = ("linear", "exponential")


def relevant(grades):
    return (grades > 0).sum(axis=1)


def all_cases(longest=5, grades=(0, 1, 2)):
    """Every ranking of up to five documents with three grades, each with 0, 1 and 2 judged documents that it missed."""
    for depth in range(1, longest + 1):
        found = np.array(list(product(grades, repeat=depth)))
        for missed in ((), (1,), (2, 0)):
            judged = np.hstack([found, np.tile(np.array(missed, dtype=int), (len(found), 1))])
            yield found, judged


def every_measure(rel, ideal, k=3):
    """All measures on (q, depth) arrays, by name: what the laws that hold for all of them are checked on."""
    r = relevant(ideal)
    judged = np.ones(rel.shape, dtype=bool)
    return {
        "precision": metrics.precision_at_k(rel, k),
        "recall": metrics.recall_at_k(rel, k, r),
        "hit_rate": metrics.hit_rate_at_k(rel, k),
        "r_precision": metrics.r_precision(rel, r),
        "rr": metrics.reciprocal_rank(rel),
        "rr@k": metrics.reciprocal_rank(rel, k),
        "ap": metrics.average_precision(rel, r),
        "ap@k": metrics.average_precision(rel, r, k),
        "rbp": metrics.rank_biased_precision(rel),
        "err": metrics.expected_reciprocal_rank(rel, 3),
        "bpref": metrics.bpref(rel, judged, r, ideal.shape[1] - r),
        "ndcg": metrics.ndcg_at_k(rel, rel.shape[1], ideal),
        "ndcg@k": metrics.ndcg_at_k(rel, k, ideal, gain="exponential"),
    }


# ---- Definitions ----------------------------------------------------------------------------------------------------


def test_measures_of_found_documents_equal_their_definitions_on_every_short_ranking():
    for rel, judged in all_cases():
        r = relevant(judged)
        rows = list(zip(rel.tolist(), r.tolist()))
        for k in (1, 2, 3, 5, 7):
            cases = {
                "precision": (metrics.precision_at_k(rel, k), [definitions.precision(x, k) for x, _ in rows]),
                "recall": (metrics.recall_at_k(rel, k, r), [definitions.recall(x, k, n) for x, n in rows]),
                "hit": (metrics.hit_rate_at_k(rel, k), [definitions.hit_rate(x, k) for x, _ in rows]),
                "rr": (metrics.reciprocal_rank(rel, k), [definitions.reciprocal_rank(x, k) for x, _ in rows]),
                "ap": (metrics.average_precision(rel, r, k), [definitions.average_precision(x, n, k) for x, n in rows]),
            }
            for name, (ours, expected) in cases.items():
                np.testing.assert_allclose(ours, np.array(expected, dtype=float), rtol=1e-14, err_msg=f"{name}@{k}")
        rbp = [definitions.rank_biased_precision(x, 0.7) for x, _ in rows]
        err = [definitions.expected_reciprocal_rank(x, 2) for x, _ in rows]
        uncut = {
            "rr": (metrics.reciprocal_rank(rel), [definitions.reciprocal_rank(x) for x, _ in rows]),
            "ap": (metrics.average_precision(rel, r), [definitions.average_precision(x, n) for x, n in rows]),
            "rp": (metrics.r_precision(rel, r), [definitions.r_precision(x, n) for x, n in rows]),
            "rbp": (metrics.rank_biased_precision(rel, 0.7), rbp),
            "err": (metrics.expected_reciprocal_rank(rel, 2), err),
        }
        for name, (ours, expected) in uncut.items():
            np.testing.assert_allclose(ours, np.array(expected, dtype=float), rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("gain", GAINS)
def test_ndcg_equals_its_definition_on_every_short_ranking(gain):
    for rel, judged in all_cases(longest=4):
        best = {key: None for key in map(tuple, np.sort(judged, axis=1).tolist())}
        for k in (1, 3, 5):
            for key in best:  # that sorting gives the best order is found here, not assumed
                best[key] = definitions.ndcg(sorted(key, reverse=True), k, key, gain)
            assert all(value in (0.0, 1.0) for value in best.values())
            expected = [definitions.ndcg(x, k, j, gain) for x, j in zip(rel.tolist(), judged.tolist())]
            np.testing.assert_allclose(metrics.ndcg_at_k(rel, k, judged, gain), expected, rtol=1e-13, atol=0)
            expected = [definitions.dcg(x, k, gain) for x in rel.tolist()]
            np.testing.assert_allclose(metrics.dcg_at_k(rel, k, gain), expected, rtol=1e-13, atol=0)


def test_bpref_equals_its_definition_on_every_short_ranking_with_unjudged_documents():
    cases = np.array(list(product((0, 1, 2), repeat=5)))  # 0 judged irrelevant, 1 relevant, 2 unjudged
    rel, judged = (cases == 1).astype(int), cases < 2
    for more_relevant, more_nonrelevant in product((0, 2), (0, 1)):
        r = (rel > 0).sum(axis=1) + more_relevant
        n = (judged & (rel == 0)).sum(axis=1) + more_nonrelevant
        expected = [definitions.bpref(*row) for row in zip(rel.tolist(), judged.tolist(), r.tolist(), n.tolist())]
        np.testing.assert_allclose(metrics.bpref(rel, judged, r, n), expected, rtol=1e-13)


def test_lrap_equals_its_definition_with_every_pattern_of_ties():
    labels = np.array(list(product((0, 1), repeat=4)))
    for scores in product((0.0, 0.5, 2.0), repeat=4):
        tiled = np.tile(scores, (len(labels), 1))
        expected = [definitions.label_ranking_average_precision(row, scores) for row in labels.tolist()]
        ours = metrics.label_ranking_average_precision(labels, tiled)
        np.testing.assert_allclose(ours, np.array(expected, dtype=float), rtol=1e-14)


def test_negative_grades_are_irrelevant_and_gain_nothing():
    rel, zeros = np.array([[-2, 1, -1, 2]]), np.array([[0, 1, 0, 2]])
    for (name, ours), expected in zip(every_measure(rel, rel).items(), every_measure(zeros, zeros).values()):
        assert ours == expected, name


def test_a_row_without_relevant_documents_scores_zero():
    rel = np.zeros((2, 4), dtype=int)
    for name, ours in every_measure(rel, rel).items():
        assert (ours == 0).all(), name


# ---- Laws -----------------------------------------------------------------------------------------------------------


@given(judged_rankings(min_grade=-1))
def test_every_measure_lies_between_0_and_1(case):
    for name, values in every_measure(*case).items():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name


@given(judged_rankings(), st.integers(1, 10))
def test_the_ideal_order_scores_1(case, k):
    _, ideal = case
    rel = np.sort(ideal, axis=1)[:, ::-1]
    r = relevant(ideal)
    some = r > 0
    for name, values in {
        "rr": metrics.reciprocal_rank(rel),
        "ap": metrics.average_precision(rel, r),
        "rp": metrics.r_precision(rel, r),
        "bpref": metrics.bpref(rel, rel >= 0, r, rel.shape[1] - r),
        "ndcg": metrics.ndcg_at_k(rel, k, ideal),
        "ndcg exponential": metrics.ndcg_at_k(rel, k, ideal, "exponential"),
        "hit": metrics.hit_rate_at_k(rel, k),
    }.items():
        np.testing.assert_allclose(values[some], 1, rtol=1e-14, err_msg=name)


@given(judged_rankings(), st.data())
def test_swapping_an_adjacent_inversion_never_lowers_a_measure(case, data):
    rel, ideal = case
    for row in range(len(rel)):
        inversions = np.flatnonzero(np.diff(rel[row]) > 0)
        if len(inversions):
            i = data.draw(st.sampled_from(inversions.tolist()))
            better = rel.copy()
            better[row, [i, i + 1]] = rel[row, [i + 1, i]]
            for k in (1, 3, 5):
                before, after = every_measure(rel, ideal, k), every_measure(better, ideal, k)
                for name in before:
                    assert (after[name] >= before[name] - 1e-15).all(), name


@given(judged_rankings())
def test_recall_and_hit_rate_never_fall_as_k_grows(case):
    rel, ideal = case
    r = relevant(ideal)
    for k in range(1, rel.shape[1] + 2):
        assert (metrics.recall_at_k(rel, k + 1, r) >= metrics.recall_at_k(rel, k, r)).all()
        assert (metrics.hit_rate_at_k(rel, k + 1) >= metrics.hit_rate_at_k(rel, k)).all()


def test_precision_and_ndcg_fall_as_k_grows_for_some_rankings():
    rel, ideal = np.array([[1, 0, 0]]), np.array([[1, 1, 1]])
    assert metrics.precision_at_k(rel, 2) < metrics.precision_at_k(rel, 1)
    assert metrics.ndcg_at_k(rel, 2, ideal) < metrics.ndcg_at_k(rel, 1, ideal)


@given(judged_rankings(), st.integers(1, 12))
def test_k_times_precision_is_r_times_recall(case, k):
    rel, ideal = case
    r = relevant(ideal)
    np.testing.assert_allclose(k * metrics.precision_at_k(rel, k), r * metrics.recall_at_k(rel, k, r), rtol=1e-14)


@given(st.integers(1, 9), st.integers(0, 12))
def test_with_one_relevant_document_ap_is_rr(depth, at):
    rel = (np.arange(depth) == at).astype(int)[None]
    assert metrics.average_precision(rel, 1) == metrics.reciprocal_rank(rel)


@given(judged_rankings(min_grade=-1), st.integers(1, 5))
def test_an_irrelevant_tail_and_the_width_of_the_padding_change_nothing(case, width):
    rel, ideal = case
    longer = np.hstack([rel, np.zeros((len(rel), width), dtype=int)])
    wider = np.hstack([ideal, np.zeros((len(ideal), width), dtype=int)])
    r, k = relevant(ideal), 4
    for name, (short, long) in {
        "precision": (metrics.precision_at_k(rel, k), metrics.precision_at_k(longer, k)),
        "recall": (metrics.recall_at_k(rel, k, r), metrics.recall_at_k(longer, k, r)),
        "rp": (metrics.r_precision(rel, r), metrics.r_precision(longer, r)),
        "rr": (metrics.reciprocal_rank(rel), metrics.reciprocal_rank(longer)),
        "ap": (metrics.average_precision(rel, r), metrics.average_precision(longer, r)),
        "rbp": (metrics.rank_biased_precision(rel), metrics.rank_biased_precision(longer)),
        "err": (metrics.expected_reciprocal_rank(rel, 3), metrics.expected_reciprocal_rank(longer, 3)),
        "ndcg": (metrics.ndcg_at_k(rel, 99, ideal), metrics.ndcg_at_k(longer, 99, wider)),
    }.items():
        assert (long == short).all(), name


@given(judged_rankings())
def test_a_batch_is_its_rows_one_by_one(case):
    rel, ideal = case
    together = every_measure(rel, ideal)
    for row in range(len(rel)):
        for name, alone in every_measure(rel[row : row + 1], ideal[row : row + 1]).items():
            assert alone == together[name][row], name


def test_the_two_gains_can_reverse_two_systems():
    one_perfect, two_good = np.array([[3, 0, 0]]), np.array([[2, 2, 0]])
    assert metrics.dcg_at_k(one_perfect, 3) < metrics.dcg_at_k(two_good, 3)
    assert metrics.dcg_at_k(one_perfect, 3, "exponential") > metrics.dcg_at_k(two_good, 3, "exponential")


@given(judged_rankings(binary=True))
def test_the_two_gains_agree_on_grades_0_and_1(case):
    rel, ideal = case
    assert (metrics.ndcg_at_k(rel, 5, ideal) == metrics.ndcg_at_k(rel, 5, ideal, "exponential")).all()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32, np.float64])
def test_any_real_dtype_gives_the_same_values(dtype):
    rel = np.array([[1, 0, 1, 1], [0, 0, 1, 0]])
    expected = every_measure(rel, rel)
    for name, values in every_measure(rel.astype(dtype), rel.astype(dtype)).items():
        assert values.dtype == np.float64 and (values == expected[name]).all(), name


floats = st.sampled_from([np.float16, np.float32, np.float64])
fractions = st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=3)


@given(fractions, floats, floats, st.sampled_from(["linear", "exponential"]))
def test_fractional_grades_may_come_in_two_precisions(tenths, one, other, gain):
    """0.1 is more in float32 than in float64, and less in float16. Found: all but the last."""
    ideal = np.array(tenths) / 10
    rel, coarser = ideal[:, :3], min(one, other, key=lambda dtype: np.dtype(dtype).itemsize)
    ours = metrics.ndcg_at_k(rel.astype(one), 3, ideal.astype(other), gain)
    np.testing.assert_array_equal(ours, metrics.ndcg_at_k(rel.astype(coarser), 3, ideal.astype(coarser), gain))
    assert (ours <= 1 + 1e-15).all()
    scores = np.tile([3.0, 2.0, 1.0], (len(rel), 1))
    tied = metrics.tie_averaged_ndcg_at_k(rel.astype(one), scores, 3, ideal.astype(other), gain)
    np.testing.assert_allclose(tied, ours, rtol=1e-14)


# ---- Lists of different lengths, and bad input ----------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=5))
def test_ragged_lists_become_the_rows_of_a_padded_matrix(lists):
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in lists])])
    values = np.array([v for x in lists for v in x], dtype=np.int32)
    matrix = metrics.pad_ragged(values, offsets)
    assert matrix.dtype == np.int32 and matrix.shape == (len(lists), max(1, max(map(len, lists))))
    for row, x in zip(matrix.tolist(), lists):
        assert row == x + [0] * (len(row) - len(x))


REL = np.array([[1, 0, 2], [0, 1, 0]])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.precision_at_k(REL[0], 1), "rel"),
        (lambda: metrics.precision_at_k(REL[:0], 1), "rel"),
        (lambda: metrics.precision_at_k(REL[:, :0], 1), "rel"),
        (lambda: metrics.precision_at_k([[1, 2], [3]], 1), "rel"),
        (lambda: metrics.precision_at_k([["a", "b"]], 1), "rel"),
        (lambda: metrics.precision_at_k([[1.0, np.nan]], 1), "rel"),
        (lambda: metrics.precision_at_k(REL, 0), "k"),
        (lambda: metrics.precision_at_k(REL, 1.5), "k"),
        (lambda: metrics.hit_rate_at_k(REL, -1), "k"),
        (lambda: metrics.reciprocal_rank(REL, 0), "k"),
        (lambda: metrics.recall_at_k(REL, 1, [1, 1]), "n_relevant"),
        (lambda: metrics.recall_at_k(REL, 1, [2, 1, 1]), "n_relevant"),
        (lambda: metrics.recall_at_k(REL, 1, [2.0, 1.0]), "n_relevant"),
        (lambda: metrics.average_precision(REL, 1), "n_relevant"),
        (lambda: metrics.r_precision(REL, [[2, 1]]), "n_relevant"),
        (lambda: metrics.dcg_at_k(REL, 1, gain="squared"), "gain"),
        (lambda: metrics.dcg_at_k(REL * 1000, 3, gain="exponential"), "gain"),
        (lambda: metrics.ndcg_at_k(REL, 1, REL[:1]), "ideal"),
        (lambda: metrics.ndcg_at_k(REL, 1, [[1, 1, 0], [1, 0, 0]]), "ideal"),
        (lambda: metrics.ndcg_at_k(REL, 1, [[2], [1]]), "ideal"),
        (lambda: metrics.ndcg_at_k(np.float16([[1.0]]), 1, [[1.0, 1e6]]), "ideal"),
        (lambda: metrics.rank_biased_precision(REL, 1.0), "p"),
        (lambda: metrics.expected_reciprocal_rank(REL, 1), "max_grade"),
        (lambda: metrics.bpref(REL, np.zeros((2, 3), dtype=bool), 2, 1), "judged"),
        (lambda: metrics.bpref(REL, np.ones((2, 3), dtype=bool), 2, 1), "n_nonrelevant"),
        (lambda: metrics.label_ranking_average_precision([[0, 2]], [[0.1, 0.2]]), "relevant"),
        (lambda: metrics.label_ranking_average_precision([[0, 1]], [[0.1, np.inf]]), "scores"),
        (lambda: metrics.pad_ragged([1, 2], [0, 3]), "offsets"),
        (lambda: metrics.pad_ragged([1, 2], [0, 2, 1, 2]), "offsets"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=rf"^{named}:"):
        call()
