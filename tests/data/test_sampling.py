"""Samples have the rows, sizes and chances they promise; estimates are unbiased within statistical bounds."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl import data
from refimpl.data.rows import rows_by_group

seeds = st.integers(0, 2**32 - 1)
RESERVOIRS = (data.reservoir_sample, data.reservoir_sample_skipping)


def within_binomial(counts, tries, chances, sigmas=5):
    chances = np.broadcast_to(chances, np.shape(counts))
    return np.all(np.abs(counts - tries * chances) <= sigmas * np.sqrt(tries * chances * (1 - chances)) + 1e-9)


@given(st.integers(0, 50), st.integers(0, 50), seeds)
def test_plain_samples(n, k, seed):
    if k > n:
        for sample in (lambda: data.convenience_sample(n, k), lambda: data.random_sample(n, k, seed)):
            with pytest.raises(ValueError, match="k: expected"):
                sample()
        return
    np.testing.assert_array_equal(data.convenience_sample(n, k), np.arange(k))
    rows = data.random_sample(n, k, seed)
    assert rows.dtype == np.int64 and len(rows) == k and (np.diff(rows) > 0).all()
    assert k == 0 or (rows[0] >= 0 and rows[-1] < n)
    np.testing.assert_array_equal(rows, data.random_sample(n, k, seed))


@given(st.lists(st.integers(-2, 4), max_size=60).map(lambda x: np.array(x, np.int64)), st.floats(0, 1), seeds)
def test_stratified_keeps_the_shares(labels, share, seed):
    n = len(labels)
    k = round(share * n)
    rows = data.stratified_sample(labels, k, seed)
    assert rows.dtype == np.int64 and len(rows) == k and (np.diff(rows) > 0).all()
    for label in np.unique(labels):
        size, taken = (labels == label).sum(), (labels[rows] == label).sum()
        assert abs(taken - k * size / n) < 1
    np.testing.assert_array_equal(rows, data.stratified_sample(labels, k, seed))


def test_shares_are_rounded_up_as_often_as_their_rest_says():
    labels = np.repeat([0, 1, 2], [50, 34, 16])  # shares of ten: 5, 3.4, 1.6
    tries, counts = 1500, []
    for seed in range(tries):
        counts.append(np.bincount(labels[data.stratified_sample(labels, 10, seed)]))
    counts = np.array(counts)
    assert (counts[:, 0] == 5).all() and set(counts[:, 1]) == {3, 4} and set(counts[:, 2]) == {1, 2}
    assert within_binomial((counts[:, 1] == 4).sum(), tries, 0.4)


def test_any_classes_may_be_rounded_up_together():
    """Four shares of 1/2: all six pairs, as often as each other."""
    labels, tries = np.arange(4), 1200
    pairs = collections.Counter(tuple(labels[data.stratified_sample(labels, 2, seed)]) for seed in range(tries))
    assert len(pairs) == 6 and stats.chisquare(list(pairs.values())).pvalue > 1e-5


@pytest.mark.parametrize(
    "sample, n",
    [
        (lambda seed: data.random_sample(12, 3, seed), 12),
        (lambda seed: data.stratified_sample(np.repeat([0, 1], 6), 4, seed), 12),
        (lambda seed: data.stratified_sample(np.repeat([0, 1, 2], [5, 4, 3]), 5, seed), 12),
        (lambda seed: data.stratified_sample([0, 0, 1], 1, seed), 3),
        (lambda seed: data.reservoir_sample(range(12), 3, seed), 12),
        (lambda seed: data.reservoir_sample_skipping(range(12), 3, seed), 12),
        (lambda seed: data.weighted_sample(np.full(12, 0.3), 3, seed), 12),
    ],
)
def test_every_row_is_as_likely(sample, n):
    tries = 1500
    counts = np.zeros(n)
    for seed in range(tries):
        rows = np.asarray(sample(seed))
        counts[rows] += 1
    assert within_binomial(counts, tries, len(rows) / n)


@pytest.mark.parametrize("reservoir", RESERVOIRS)
def test_every_set_is_as_likely(reservoir):
    """Chances of single items do not say that: all 35 sets of 3 of 7, by chi-squared."""
    tries = 3500
    counts = collections.Counter(frozenset(reservoir(range(7), 3, seed)) for seed in range(tries))
    sets = [frozenset(s) for s in itertools.combinations(range(7), 3)]
    assert stats.chisquare([counts[s] for s in sets]).pvalue > 1e-5


@pytest.mark.parametrize("reservoir", RESERVOIRS)
@given(n=st.integers(0, 300), k=st.integers(0, 20), seed=seeds)
def test_reservoirs_of_any_stream(reservoir, n, k, seed):
    found = reservoir((str(i) for i in range(n)), k, seed)  # a generator: no length, read once
    assert len(found) == min(n, k) == len(set(found))
    assert set(found) <= {str(i) for i in range(n)}
    assert found == reservoir([str(i) for i in range(n)], k, seed)


def test_skipping_draws_few_random_numbers():
    """Each replacement takes three; of n items about k log(n / k) replace."""

    class Counting(np.random.Generator):
        draws = 0

        def exponential(self, *args, **kwargs):
            Counting.draws += 1
            return super().exponential(*args, **kwargs)

    rng = Counting(np.random.PCG64(0))
    data.reservoir_sample_skipping(range(100_000), 10, rng)
    assert 100 < Counting.draws < 400  # 2 (1 + 10 log(10000)), about 190


weights_lists = st.lists(st.just(0.0) | st.floats(1e-300, 1e300), max_size=20).map(np.array)


@given(weights_lists, st.integers(0, 21), seeds)
def test_weighted_sample(weights, k, seed):
    possible = np.flatnonzero(weights > 0)
    if k > len(possible):
        with pytest.raises(ValueError, match="k: expected at most the"):
            data.weighted_sample(weights, k, seed)
        return
    rows = data.weighted_sample(weights, k, seed)
    assert len(rows) == k == len(set(rows.tolist())) and set(rows.tolist()) <= set(possible.tolist())
    np.testing.assert_array_equal(rows, data.weighted_sample(weights, k, seed))
    # the scale of the weights does not matter, and a longer sample only goes on
    if weights.max(initial=0) < 1e290:
        np.testing.assert_array_equal(rows, data.weighted_sample(2.0**20 * weights, k, seed))
    np.testing.assert_array_equal(rows, data.weighted_sample(weights, len(possible), seed)[:k])


def test_weighted_sample_draws_one_after_the_other():
    """The chance of each ordered pair is w_i / W * w_j / (W - w_i)."""
    w = np.array([1.0, 2.0, 3.0, 10.0])
    tries = 4000
    counts = collections.Counter(tuple(data.weighted_sample(w, 2, seed).tolist()) for seed in range(tries))
    pairs = list(itertools.permutations(range(4), 2))
    expected = np.array([w[i] / w.sum() * w[j] / (w.sum() - w[i]) for i, j in pairs])
    assert stats.chisquare([counts[p] for p in pairs], tries * expected).pvalue > 1e-5


# ---- Importance -----------------------------------------------------------------------------------------------------

TARGET, PROPOSAL, VALUES = np.array([5.0, 3, 2, 0]), np.array([1.0, 2, 3, 4]), np.array([1.0, -2.0, 7.0, 100.0])
TRUTH = np.sum(TARGET * VALUES) / TARGET.sum()


def estimates(mean, tries, k):
    found = []
    for seed in range(tries):
        draws = data.importance_sample(3 * TARGET, PROPOSAL, k, seed)
        found.append(mean(VALUES[draws.rows], draws.weights))
    return found


def test_importance_mean_is_unbiased_and_knows_its_error():
    found = estimates(data.importance_mean, 1000, 20)
    means = np.array([e.mean for e in found])
    assert abs(means.mean() - TRUTH) < 4.5 * means.std() / np.sqrt(len(means))
    errors = np.array([e.standard_error for e in found])
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2)), means.std(), rtol=0.1)


def test_self_normalised_mean_converges_and_knows_its_error():
    found = estimates(data.self_normalised_mean, 800, 200)
    means = np.array([e.mean for e in found])
    np.testing.assert_allclose(means.mean(), TRUTH, atol=0.05)
    np.testing.assert_allclose(np.mean([e.standard_error for e in found]), means.std(), rtol=0.1)


def test_without_weights_the_mean_is_of_the_proposal():
    rows = data.importance_sample(TARGET, PROPOSAL, 20000, 0).rows
    proposal_mean = np.sum(PROPOSAL * VALUES) / PROPOSAL.sum()
    assert abs(VALUES[rows].mean() - proposal_mean) < 5 * VALUES[rows].std() / np.sqrt(20000)


@pytest.mark.parametrize("scale", [1e308, 1e-308])
def test_importance_samples_of_weights_at_the_ends_of_float64(scale):
    """Their sum overflows; only ratios matter."""
    plain = data.importance_sample(TARGET / TARGET.max(), PROPOSAL / PROPOSAL.max(), 500, 0)
    found = data.importance_sample(scale * (TARGET / TARGET.max()), scale * (PROPOSAL / PROPOSAL.max()), 500, 0)
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_allclose(found.weights, plain.weights, rtol=1e-9)


@given(seeds, st.integers(1, 40), st.floats(1e-3, 1e3))
def test_importance_properties(seed, k, scale):
    rng = np.random.default_rng(seed)
    values, weights = rng.standard_normal(k), rng.uniform(0.01, 5, k)
    plain, normalised = data.importance_mean(values, weights), data.self_normalised_mean(values, weights)
    np.testing.assert_allclose(plain.mean, np.mean(values * weights), atol=1e-12)
    assert values.min() - 1e-9 <= normalised.mean <= values.max() + 1e-9
    rescaled = data.self_normalised_mean(values, scale * weights)
    np.testing.assert_allclose(rescaled, normalised, rtol=1e-9, atol=1e-12)
    assert 1 - 1e-9 <= normalised.effective_size <= k + 1e-9
    np.testing.assert_allclose(normalised.effective_size, weights.sum() ** 2 / np.sum(weights**2))
    # equal weights: both are the mean, with its usual standard error
    even = data.self_normalised_mean(values, np.full(k, scale))
    np.testing.assert_allclose(even.mean, values.mean(), atol=1e-12)
    np.testing.assert_allclose(even.standard_error, stats.sem(values) if k > 1 else np.nan, rtol=1e-9)
    np.testing.assert_allclose(even.effective_size, k)


# ---- Imbalance ------------------------------------------------------------------------------------------------------

label_lists = st.lists(st.integers(-2, 4), min_size=1, max_size=60).map(np.array)


@given(label_lists, seeds, st.none() | st.integers(0, 30))
def test_oversample(labels, seed, more):
    sizes = np.unique(labels, return_counts=True)[1]
    to = None if more is None else int(sizes.max()) + more
    rows = data.oversample(labels, seed, to=to)
    wanted = sizes.max() if to is None else to
    assert (np.unique(labels[rows], return_counts=True)[1] == wanted).all() and (np.diff(rows) >= 0).all()
    uses = np.bincount(rows, minlength=len(labels))
    for label in np.unique(labels):  # evenly: within a class, uses differ by at most one, and each row is there
        own = uses[labels == label]
        assert own.min() >= 1 and own.max() - own.min() <= 1
    np.testing.assert_array_equal(rows, data.oversample(labels, seed, to=to))


@given(label_lists, seeds, st.none() | st.integers(1, 30))
def test_undersample(labels, seed, to):
    sizes = np.unique(labels, return_counts=True)[1]
    rows = data.undersample(labels, seed, to=to)
    wanted = np.minimum(sizes, sizes.min() if to is None else to)
    np.testing.assert_array_equal(np.unique(labels[rows], return_counts=True)[1], wanted)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, data.undersample(labels, seed, to=to))


def test_balanced_rows_take_classes_and_their_rows_evenly():
    labels = np.repeat([3, 7, 9], [2, 10, 50])
    rows = data.balanced_rows(labels, 30_000, 0)
    counts = np.bincount(rows, minlength=62)
    chances = np.repeat([1 / 2, 1 / 10, 1 / 50], [2, 10, 50]) / 3
    assert within_binomial(counts, 30_000, chances)
    rows = data.balanced_rows(labels, 30_000, 0, class_chances=[0, 1, 3])
    assert within_binomial(np.bincount(rows, minlength=62), 30_000, chances * np.repeat([0, 3 / 4, 9 / 4], [2, 10, 50]))


@given(seeds, st.sampled_from([-1060, -1000, 1000, 1023]).map(lambda e: 2.0**e))
def test_the_scale_of_weights_and_chances_is_free(seed, scale):
    rng = np.random.default_rng(seed)
    values, weights = rng.standard_normal(5), rng.integers(8, 16, 5) / 8  # no bit is lost at any of these scales
    found, expected = data.self_normalised_mean(values, weights * scale), data.self_normalised_mean(values, weights)
    np.testing.assert_array_equal(found, expected)
    labels = np.repeat([0, 1], 20)
    rows = [data.balanced_rows(labels, 50, seed, class_chances=np.array([1.0, 1.5]) * s) for s in (scale, 1.0)]
    np.testing.assert_array_equal(*rows)


@given(label_lists, st.integers(0, 50), seeds)
def test_balanced_rows_are_rows(labels, n, seed):
    rows = data.balanced_rows(labels, n, seed)
    assert len(rows) == n and (n == 0 or (rows.min() >= 0 and rows.max() < len(labels)))
    np.testing.assert_array_equal(rows, data.balanced_rows(labels, n, seed))


# ---- Many classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda labels: data.split_by_class(labels, 0.5, 0),
        lambda labels: data.stratified_sample(labels, len(labels) // 2, 0),
        lambda labels: data.oversample(labels, 0),
        lambda labels: data.undersample(labels, 0),
    ],
)
def test_not_every_row_is_looked_at_for_every_class(function, monkeypatch):
    """2,000 classes of two: a look at all rows for each would be 8 million."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(2000), 2))
    flatnonzero, looks = np.flatnonzero, []
    monkeypatch.setattr(np, "flatnonzero", lambda array: looks.append(np.size(array)) or flatnonzero(array))
    function(labels)
    assert sum(looks) <= 4 * len(labels)


@given(label_lists, seeds)
def test_rows_by_group(labels, seed):
    """Also that a seed gives the rows it always gave: those drawn from each class's rows in rising order."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for found, expected in zip(rows_by_group(labels), members, strict=True):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)
    drawn = [rng.choice(rows, min(map(len, members)), replace=False) for rows in members]
    np.testing.assert_array_equal(data.undersample(labels, seed), np.sort(np.concatenate(drawn)))
    assert rows_by_group(np.zeros(0, np.int64)) == []


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: data.stratified_sample([0, 1], 3, 0), "k: expected"),
        (lambda: data.stratified_sample([0.5], 1, 0), "labels: expected integers"),
        (lambda: data.reservoir_sample([1], -1, 0), "k: expected"),
        (lambda: data.reservoir_sample_skipping([1], 1.5, 0), "k: expected an integer"),
        (lambda: data.weighted_sample([1.0, -1.0], 1, 0), "weights: expected values >= 0"),
        (lambda: data.weighted_sample([1.0, np.nan], 1, 0), "weights: expected finite"),
        (lambda: data.importance_sample([1.0, 1], [1.0, 0], 5, 0), "proposal: expected values above 0 wherever"),
        (lambda: data.importance_sample([0.0, 0], [1.0, 1], 5, 0), "target: expected at least one value above 0"),
        (lambda: data.importance_sample([1.0], [1.0, 1], 5, 0), r"proposal: expected shape \(1,\)"),
        (lambda: data.importance_mean([1.0], [1.0, 2.0]), r"weights: expected shape \(1,\)"),
        (lambda: data.self_normalised_mean([], []), "values: expected at least 1 row"),
        (lambda: data.self_normalised_mean([1.0], [0.0]), "weights: expected at least one value above 0"),
        (lambda: data.oversample([0, 0, 1], 0, to=1), "to: expected an integer >= 2"),
        (lambda: data.oversample(np.array([0, 2**63], np.uint64), 0), "labels: expected integers below 2"),
        (lambda: data.undersample([0, 0, 1], 0, to=0), "to: expected an integer >= 1"),
        (lambda: data.undersample([], 0), "labels: expected at least 1 row"),
        (lambda: data.balanced_rows([0, 1], 5, 0, class_chances=[1.0]), "class_chances: expected 2 values"),
        (lambda: data.balanced_rows([0, 1], 5, 0, class_chances=[0.0, 0.0]), "class_chances: expected 2 values"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
