"""Pairs are of one group, negatives of another; all that may be drawn is drawn as often; the row keeps its positive."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl import data
from refimpl.images import simclr_views

seeds = st.integers(0, 2**32 - 1)
group_lists = st.lists(st.integers(-2, 5), min_size=1, max_size=40).map(np.array)


# ---- Positives ------------------------------------------------------------------------------------------------------


@given(group_lists, seeds, st.integers(1, 3))
def test_positives_from_labels(labels, seed, per_query):
    names, sizes = np.unique(labels, return_counts=True)
    if sizes.max() < 2:
        with pytest.raises(ValueError, match="labels: expected at least two rows with one label"):
            data.positives_from_labels(labels, seed)
        return
    pairs = data.positives_from_labels(labels, seed, per_query=per_query)
    assert pairs.dtype == np.int64
    query, positive = pairs.T
    with_another = np.flatnonzero(np.isin(labels, names[sizes > 1]))
    np.testing.assert_array_equal(query, np.repeat(with_another, per_query))
    assert (labels[query] == labels[positive]).all() and (query != positive).all()
    np.testing.assert_array_equal(pairs, data.positives_from_labels(labels, seed, per_query=per_query))


def test_every_positive_is_as_likely():
    labels = np.array([4, 1, 4, 4, 1, 4, 9])
    pairs = data.positives_from_labels(labels, 0, per_query=3000)
    for query in np.flatnonzero(labels == 4):
        counts = np.bincount(pairs[pairs[:, 0] == query, 1], minlength=7)
        others = [i for i in range(7) if labels[i] == 4 and i != query]
        assert counts.sum() == counts[others].sum() == 3000
        assert stats.chisquare(counts[others]).pvalue > 1e-5


@given(seeds, st.integers(1, 12), st.integers(1, 6))
def test_majority_vote(seed, n, annotators):
    votes = np.random.default_rng(seed).integers(0, 4, (n, annotators)) * 10
    labels, agreement = data.majority_vote(votes)
    for row, label, share in zip(votes.tolist(), labels, agreement):
        best = max(sorted(set(row)), key=row.count)  # the first, so the smallest, of the most frequent
        assert label == best and share == row.count(best) / annotators


@given(group_lists, seeds)
def test_noisy_labels_at_the_ends(labels, seed):
    np.testing.assert_array_equal(data.noisy_labels(labels, 0.0, seed), labels)
    if len(np.unique(labels)) > 1:
        wrong = data.noisy_labels(labels, 1.0, seed)
        assert (wrong != labels).all() and set(wrong) <= set(labels)
        np.testing.assert_array_equal(wrong, data.noisy_labels(labels, 1.0, seed))


def test_noise_is_of_its_share_and_without_preference():
    labels = np.repeat([2, 5, 6, 9], 5000)
    noisy = data.noisy_labels(labels, 0.3, 0)
    table = np.array([[np.sum(noisy[labels == a] == b) for b in (2, 5, 6, 9)] for a in (2, 5, 6, 9)])
    expected = 5000 * np.where(np.eye(4, dtype=bool), 0.7, 0.1)
    assert stats.chisquare(table.ravel(), expected.ravel(), ddof=3).pvalue > 1e-5


def test_view_pairs_are_two_views_of_each_picture():
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    options = {"size": 8, "rotation": 20.0, "blur_probability": 0.5}
    x1, x2 = data.view_pairs(images, 5, mean=[0.4, 0.5, 0.6], std=[0.2, 0.1, 0.3], **options)
    rng = np.random.default_rng(5)
    for x in (x1, x2):
        assert x.dtype == np.float32 and x.shape == (3, 8, 8, 3)
        expected = (simclr_views(images, rng, **options) - [0.4, 0.5, 0.6]) / [0.2, 0.1, 0.3]
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(x1 - x2).max() > 0.1
    again = data.view_pairs(images, 5, mean=[0.4, 0.5, 0.6], std=[0.2, 0.1, 0.3], **options)
    np.testing.assert_array_equal(x1, again[0])


# ---- Negatives ------------------------------------------------------------------------------------------------------


@given(group_lists, seeds, st.integers(1, 6))
def test_random_negatives(groups, seed, count):
    queries = np.random.default_rng(seed).integers(0, len(groups), 7)
    enough = min((groups != groups[q]).sum() for q in queries)
    if enough < count:
        with pytest.raises(ValueError, match=f"count: expected at most {enough}, "):
            data.random_negatives(groups, queries, count, seed)
        return
    negatives = data.random_negatives(groups, queries, count, seed)
    assert negatives.shape == (7, count) and negatives.dtype == np.int64
    assert (groups[negatives] != groups[queries][:, None]).all()
    assert all(len(set(row)) == count for row in negatives.tolist())
    np.testing.assert_array_equal(negatives, data.random_negatives(groups, queries, count, seed))


@given(group_lists, seeds, st.integers(1, 4))
def test_negatives_are_not_the_positive(groups, seed, count):
    """Whether or not it is of the query's group; random and hard ones."""
    rng = np.random.default_rng(seed)
    n = len(groups)
    queries, positives = rng.integers(0, n, (2, 7))
    usable = [
        [i for i in range(n) if groups[i] != groups[q] and i != p] for q, p in zip(queries.tolist(), positives.tolist())
    ]
    everything = np.tile(rng.permutation(n), (7, 1))

    def hard():
        return data.hard_negatives(groups, queries, everything, count, positives=positives)

    def random():
        return data.random_negatives(groups, queries, count, seed, positives=positives)

    enough = min(map(len, usable))
    if enough < count:
        for draw, words in ((random, f"count: expected at most {enough}, "), (hard, f"neighbours: .*got {enough} for")):
            with pytest.raises(ValueError, match=words):
                draw()
        return
    for row, allowed in zip(random().tolist(), usable):
        assert set(row) <= set(allowed) and len(set(row)) == count
    for row, allowed in zip(hard().tolist(), usable):
        assert row == [i for i in everything[0].tolist() if i in allowed][:count]
    data.candidate_rows(np.stack([queries, positives], axis=1), random(), seed)


@pytest.mark.parametrize("positive, others", [(None, [0, 3, 4, 5, 6]), (3, [0, 4, 5, 6]), (2, [0, 3, 4, 5, 6])])
def test_every_set_of_negatives_is_as_likely(positive, others):
    groups = np.array([1, 0, 0, 3, 1, 2, 1])  # row 1 has five negatives: ten sets of three, four without its positive
    positives = None if positive is None else np.full(5000, positive)
    found = data.random_negatives(groups, np.full(5000, 1), 3, 0, positives=positives)
    sets = list(itertools.combinations(others, 3))
    counts = [np.sum((np.sort(found, axis=1) == s).all(axis=1)) for s in sets]
    assert sum(counts) == 5000 and stats.chisquare(counts).pvalue > 1e-5


@pytest.mark.parametrize("within", [True, False])  # whether a pair's positive is of its query's group
@given(group_lists, seeds, st.integers(1, 4))
def test_in_batch_negatives(within, groups, seed, count):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(groups), (6, 2))
    if within:
        pairs[:, 1] = [rng.choice(np.flatnonzero(groups == groups[q])) for q in pairs[:, 0]]
    usable = [[p for p in pairs[:, 1].tolist() if p != own and groups[p] != groups[q]] for q, own in pairs.tolist()]
    enough = min(map(len, usable))
    if enough < count:
        with pytest.raises(ValueError, match=f"count: expected at most {enough}, "):
            data.in_batch_negatives(groups, pairs, count, seed)
        return
    negatives = data.in_batch_negatives(groups, pairs, count, seed)
    assert (negatives != pairs[:, 1:]).all()
    for row, allowed in zip(negatives.tolist(), usable):
        for p in set(row):  # as often as it is a positive of the batch, at most
            assert row.count(p) <= allowed.count(p)


def test_every_in_batch_negative_is_as_likely():
    """Of pairs across groups, where only the own positive (row 4, of two pairs) and the query's group are left out."""
    groups = np.array([0, 1, 0, 2, 3, 4])
    pairs = np.array([[0, 4], [1, 2], [2, 3], [3, 4], [4, 5], [5, 1]])
    counts = np.zeros(6)
    for seed in range(2000):
        counts += np.bincount(data.in_batch_negatives(groups, pairs, 2, seed)[0], minlength=6)
    assert counts[[0, 2, 4]].sum() == 0 and stats.chisquare(counts[[1, 3, 5]]).pvalue > 1e-5


@given(group_lists, seeds, st.integers(1, 4), st.integers(0, 3))
def test_hard_negatives_are_the_nearest_of_another_group(groups, seed, count, skip):
    rng = np.random.default_rng(seed)
    n = len(groups)
    z = rng.standard_normal((n, 3))
    queries = rng.permutation(n)[:5]
    neighbours = np.linalg.norm(z[queries][:, None] - z, axis=2).argsort(axis=1)[:, :12]
    neighbours = np.concatenate([neighbours, np.full((len(queries), 2), -1)], axis=1)
    expected = [[i for i in row if i >= 0 and groups[i] != groups[q]] for q, row in zip(queries, neighbours.tolist())]
    if min(map(len, expected)) < skip + count:
        with pytest.raises(ValueError, match=f"neighbours: expected at least {skip + count} of other groups"):
            data.hard_negatives(groups, queries, neighbours, count, skip=skip)
        return
    found = data.hard_negatives(groups, queries, neighbours, count, skip=skip)
    assert found.tolist() == [row[skip : skip + count] for row in expected]


# ---- The training row -----------------------------------------------------------------------------------------------


@given(seeds, st.integers(0, 8), st.integers(0, 5))
def test_candidate_rows(seed, m, count):
    rng = np.random.default_rng(seed)
    pairs, negatives = rng.integers(0, 50, (m, 2)), rng.integers(50, 99, (m, count))
    rows = data.candidate_rows(pairs, negatives, seed)
    np.testing.assert_array_equal(rows.query, pairs[:, 0])
    assert rows.candidates.shape == (m, count + 1) and rows.position.shape == (m,)
    np.testing.assert_array_equal(rows.candidates[np.arange(m), rows.position], pairs[:, 1])
    wanted = np.sort(np.concatenate([pairs[:, 1:], negatives], axis=1), axis=1)
    np.testing.assert_array_equal(np.sort(rows.candidates, axis=1), wanted)
    for first, second in zip(rows, data.candidate_rows(pairs, negatives, seed)):
        np.testing.assert_array_equal(first, second)


def test_every_position_is_as_likely():
    """And every order: all 24 of four candidates."""
    m = 6000
    rows = data.candidate_rows(np.tile([9, 0], (m, 1)), np.tile([1, 2, 3], (m, 1)), 0)
    orders = [np.sum((rows.candidates == order).all(axis=1)) for order in itertools.permutations(range(4))]
    assert sum(orders) == m and stats.chisquare(orders).pvalue > 1e-5


GROUPS = [0, 0, 1, 1]
PICTURE = np.zeros((1, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: data.positives_from_labels([0.0, 0.0], 0), "labels: expected integers"),
        (lambda: data.positives_from_labels(GROUPS, 0, per_query=0), "per_query"),
        (lambda: data.majority_vote([[0.5]]), "votes: expected integers"),
        (lambda: data.majority_vote(np.zeros((2, 0), int)), "votes: expected integers >= 0 of one or more"),
        (lambda: data.noisy_labels([1, 1], 0.5, 0), "labels: expected at least two different"),
        (lambda: data.noisy_labels(GROUPS, 1.5, 0), "share"),
        (lambda: data.view_pairs(np.zeros((1, 4, 4, 3)), 0), "images: expected dtype uint8"),
        (lambda: data.view_pairs(np.zeros((1, 4, 4, 3), np.uint8), 0, std=0.0), "std: expected values above 0"),
        (lambda: data.random_negatives(GROUPS, [4], 1, 0), r"queries: expected rows in \[0, 4\)"),
        (lambda: data.random_negatives(GROUPS, [0], 0, 0), "count: expected an integer >= 1"),
        (lambda: data.in_batch_negatives(GROUPS, [0, 1], 1, 0), "pairs: expected shape"),
        (lambda: data.hard_negatives(GROUPS, [0], [[-2]], 1), r"neighbours: expected rows in \[-1, 4\)"),
        (lambda: data.hard_negatives(GROUPS, [0], [[2], [3]], 1), "neighbours: expected shape"),
        (lambda: data.candidate_rows([[0, 1]], [[2], [3]], 0), r"negatives: expected shape \(1, any\)"),
        (lambda: data.candidate_rows([[0, -1]], [[2]], 0), "pairs: expected rows"),
        (lambda: data.candidate_rows([[0, 1], [2, 3]], [[3], [3]], 0), "negatives: expected others .* in row 1"),
        (lambda: data.random_negatives(GROUPS, [0], 1, 0, positives=[4]), r"positives: expected rows in \[0, 4\)"),
        (lambda: data.hard_negatives(GROUPS, [0], [[2]], 1, positives=[1, 2]), "positives: expected shape"),
        (lambda: data.majority_vote(np.array([[2**63]], np.uint64)), "votes: expected integers below 2"),
        (lambda: data.view_pairs(PICTURE, 0, mean=1e39), "mean: expected finite"),
        (lambda: data.view_pairs(PICTURE, 0, mean=[0.5, 0.5]), "mean: expected one number or three"),
        (lambda: data.view_pairs(PICTURE, 0, std=1e-50), "std: expected values above 0"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
