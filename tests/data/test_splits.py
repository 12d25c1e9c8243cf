"""Splits and folds: every row once, the sizes promised, no group on both sides, the same each time."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl import data

seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.01, 0.99)
group_lists = st.lists(st.integers(-3, 6), min_size=2, max_size=60).map(np.array)
# few moments, so that they tie; and any
times = st.lists(st.integers(0, 8).map(float) | st.floats(-1e9, 1e9), min_size=2, max_size=50).map(np.array)


def assert_partition(rest, held_out, n):
    for side in (rest, held_out):
        assert side.dtype == np.int64 and (np.diff(side) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(n))


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def share(m, fraction):
    return min(max(round(fraction * m), 1), m - 1)


@given(st.integers(2, 200), fractions, seeds)
def test_split_rows(n, fraction, seed):
    rest, held_out = data.split_rows(n, fraction, seed)
    assert_partition(rest, held_out, n)
    assert len(held_out) == share(n, fraction)
    assert_same((rest, held_out), data.split_rows(n, fraction, seed))


@given(group_lists, fractions, seeds)
def test_split_by_class(labels, fraction, seed):
    if np.unique(labels, return_counts=True)[1].max() < 2:
        with pytest.raises(ValueError, match="labels: expected at least two rows with one label"):
            data.split_by_class(labels, fraction, seed)
        return
    rest, held_out = data.split_by_class(labels, fraction, seed)
    assert_partition(rest, held_out, len(labels))
    for label in np.unique(labels):
        m, taken = (labels == label).sum(), (labels[held_out] == label).sum()
        assert taken == (0 if m == 1 else share(m, fraction))
    assert_same((rest, held_out), data.split_by_class(labels, fraction, seed))


@given(group_lists, fractions, seeds)
def test_split_by_group(groups, fraction, seed):
    names = np.unique(groups)
    if len(names) < 2:
        with pytest.raises(ValueError, match="groups: expected at least two"):
            data.split_by_group(groups, fraction, seed)
        return
    rest, held_out = data.split_by_group(groups, fraction, seed)
    assert_partition(rest, held_out, len(groups))
    assert not set(groups[rest]) & set(groups[held_out])
    assert len(set(groups[held_out])) == share(len(names), fraction)
    assert_same((rest, held_out), data.split_by_group(groups, fraction, seed))


@given(times, fractions)
def test_split_by_time(time, fraction):
    n, held = len(time), share(len(time), fraction)
    at_the_cut = np.sort(time)[n - held - 1]
    if (time > at_the_cut).sum() == 0:
        with pytest.raises(ValueError, match="time: expected fewer rows at the last moment"):
            data.split_by_time(time, fraction)
        return
    rest, held_out = data.split_by_time(time, fraction)
    assert_partition(rest, held_out, n)
    assert time[rest].max() < time[held_out].min()
    assert len(held_out) <= held
    if len(np.unique(time)) == n:
        assert len(held_out) == held


@given(st.integers(2, 80), st.integers(2, 10), seeds)
def test_k_folds(n, k, seed):
    assume(k <= n)
    folds = data.k_folds(n, k, seed)
    assert len(folds) == k
    for rest, held_out in folds:
        assert_partition(rest, held_out, n)
        assert len(held_out) in (n // k, -(-n // k))
    np.testing.assert_array_equal(np.sort(np.concatenate([h for _, h in folds])), np.arange(n))
    for first, second in zip(folds, data.k_folds(n, k, seed)):
        assert_same(first, second)


@given(group_lists, st.integers(2, 6), seeds)
def test_k_folds_by_class(labels, k, seed):
    assume(k <= len(labels))
    folds = data.k_folds_by_class(labels, k, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([h for _, h in folds])), np.arange(len(labels)))
    sizes = [len(h) for _, h in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in np.unique(labels):
        counts = [(labels[h] == label).sum() for _, h in folds]
        assert max(counts) - min(counts) <= 1
    for rest, held_out in folds:
        assert_partition(rest, held_out, len(labels))
    for first, second in zip(folds, data.k_folds_by_class(labels, k, seed)):
        assert_same(first, second)


@given(group_lists, st.integers(2, 6), seeds)
def test_k_folds_by_group(groups, k, seed):
    sizes = np.unique(groups, return_counts=True)[1]
    if k > len(sizes):
        with pytest.raises(ValueError, match="k: expected at most the"):
            data.k_folds_by_group(groups, k, seed)
        return
    folds = data.k_folds_by_group(groups, k, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([h for _, h in folds])), np.arange(len(groups)))
    for rest, held_out in folds:
        assert_partition(rest, held_out, len(groups))
        assert not set(groups[rest]) & set(groups[held_out])
        assert 0 < len(held_out) <= len(groups) / k + sizes.max()
    # Graham's theorem: within 4/3 - 1/3k of the best there is
    largest = max(len(h) for _, h in folds)
    assert largest <= (4 / 3 - 1 / (3 * k)) * best_makespan(sizes, k) + 1e-9
    for first, second in zip(folds, data.k_folds_by_group(groups, k, seed)):
        assert_same(first, second)


def best_makespan(sizes, k):
    """The smallest possible largest fold, by trying all ways (groups are few)."""
    loads = {(0,) * k}
    for size in sorted(sizes.tolist(), reverse=True):
        loads = {tuple(sorted((*load[:i], load[i] + size, *load[i + 1 :]))) for load in loads for i in range(k)}
    return min(max(load) for load in loads)


@given(times, st.integers(1, 5))
def test_k_folds_by_time(time, k):
    n = len(time)
    assume(k < n)
    try:
        folds = data.k_folds_by_time(time, k)
    except ValueError as error:
        assert "too many rows of one moment" in str(error)
        assert len(np.unique(time)) < n  # only ties can empty a stretch
        return
    assert len(folds) == k
    seen = None
    for rest, held_out in folds:
        assert len(rest) and len(held_out)
        assert time[rest].max() < time[held_out].min()
        if seen is not None:
            np.testing.assert_array_equal(rest, seen)  # everything up to the last held-out row, and nothing else
        seen = np.sort(np.concatenate([rest, held_out]))
    np.testing.assert_array_equal(seen, np.arange(n))
    if len(np.unique(time)) == n:
        sizes = [len(h) for _, h in folds] + [len(folds[0][0])]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("split", [lambda s: data.split_rows(20, 0.3, s), lambda s: data.k_folds(20, 3, s)[0]])
def test_every_row_is_held_out_as_often(split):
    """Counts over seeds within 5 standard deviations of their binomial mean."""
    tries = 2000
    counts = np.zeros(20)
    total = 0
    for seed in range(tries):
        held_out = split(seed)[1]
        counts[held_out] += 1
        total += len(held_out)
    p = total / tries / 20
    assert np.abs(counts - tries * p).max() < 5 * np.sqrt(tries * p * (1 - p))


def test_groups_of_any_size_are_held_out_as_often():
    groups = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 5, 10, 30])
    tries = 1000
    counts = np.zeros(8)
    for seed in range(tries):
        counts[np.unique(groups[data.split_by_group(groups, 0.25, seed)[1]])] += 1
    assert np.abs(counts - tries / 4).max() < 5 * np.sqrt(tries * 0.25 * 0.75)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: data.split_rows(1, 0.5, 0), "n: expected an integer >= 2"),
        (lambda: data.split_rows(5, 0.0, 0), "fraction"),
        (lambda: data.split_by_class([0, 1], 1.0, 0), "fraction"),
        (lambda: data.split_by_class([0.5], 0.5, 0), "labels: expected integers"),
        (lambda: data.split_by_class([], 0.5, 0), "labels: expected at least 1 row"),
        (lambda: data.split_by_group([[1, 2]], 0.5, 0), "groups: expected 1 dimension"),
        (lambda: data.split_by_time([0.0, np.nan], 0.5), "time: expected finite"),
        (lambda: data.k_folds(5, 6, 0), "k: expected an integer >= 2 and <= 5"),
        (lambda: data.k_folds(5, 1, 0), "k: expected an integer >= 2"),
        (lambda: data.k_folds_by_class([0, 1], 3, 0), "k: expected"),
        (lambda: data.k_folds_by_time([0.0, 1.0], 2), "k: expected"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
