"""IVF-Flat: the answer is a sort of what lies in the probed lists, ties at the k-th place included."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from refimpl.ann import ExactIndex, IVFIndex, ivf, lists
from refimpl.ann.ivf import choose_lists, list_scan_limit, listed_rows
from refimpl.ann.lists import as_one_list, best_in_lists, make_lists, measure, nearest_centroids

from .sorting import METRICS, by_definition, clouds, sorted_neighbors, unit


@given(
    built=st.integers(1, 10**7), n_lists=st.integers(1, 5000), probes=st.integers(1, 5000), cost=st.floats(0.01, 0.99),
    share=st.floats(0, 1),
)  # fmt: skip
def test_what_is_scanned_is_no_dearer_than_the_lists(built, n_lists, probes, cost, share):
    """The costs written out, lists looked into and rows in them, on either side of the limit."""
    n_open = max(1, int(share * built))
    lists_cost = cost * built * min(1, probes * built / n_open / n_lists)
    if n_open <= list_scan_limit(built, probes, n_lists, cost):
        assert n_open <= lists_cost * (1 + 1e-9)
    else:
        assert n_open > lists_cost * (1 - 1e-9)
    assert list_scan_limit(built, probes, n_lists, cost) < built  # without a filter the lists are used


def in_lists(labels, n_lists, block=3):
    """starts, rows of lists in blocks of three rows, filled up with -1."""
    rows, starts = [], [0]
    for one in range(n_lists):
        own = np.flatnonzero(labels == one)
        own = np.concatenate([own, np.full(-len(own) % block, -1, np.int64)])
        rows.append(own.reshape(-1, block))
        starts.append(starts[-1] + len(rows[-1]))
    return np.array(starts), np.concatenate(rows)


def lists_by_definition(ranked, probes, labels, open_rows, wanted):
    """The docstring of `choose_lists`, one list after another."""
    n_open, chosen, lists, met = open_rows.sum(), [], 0, 0
    least = -(-min(probes, len(ranked)) * len(labels) // n_open)
    rows = max(np.isin(labels, ranked[:probes]).sum(), min(wanted, n_open))
    for one in ranked:
        if lists >= least and met >= rows:
            break
        count = (open_rows & (labels == one)).sum()
        if count:
            chosen, lists, met = [*chosen, one], lists + 1, met + count
    return chosen


@settings(max_examples=300)
@given(
    n=st.integers(1, 90), n_lists=st.integers(1, 30), probes=st.integers(1, 14), wanted=st.integers(1, 70),
    share=st.floats(0.02, 1), removed=st.booleans(), one_side=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_lists_are_looked_into_until_they_hold_enough_open_rows(
    n, n_lists, probes, wanted, share, removed, one_side, seed
):
    rng = np.random.default_rng(seed)
    labels, asked = rng.integers(0, n_lists, n), []
    open_rows = labels < share * n_lists if one_side else rng.random(n) < share
    open_rows[rng.integers(n)] = True
    listed = listed_rows(*in_lists(labels, n_lists), open_rows if removed else np.ones(n, bool))
    ranking = np.argsort(rng.random((5, n_lists)), 1)

    def rank(some, m):
        asked.append((len(ranking[some]), m))
        return ranking[some, :m]

    chosen = choose_lists(rank, 5, probes, listed, listed.live if removed else open_rows, wanted)
    nearest = ranking[:, :probes]
    enough = open_rows.all() & (listed.sizes[nearest].sum(1) >= min(wanted, n))
    if enough.all():
        assert asked == [(5, min(probes, n_lists))]
    for own, ranked, plain in zip(chosen, ranking, enough):  # no filter: empty lists count too
        expected = ranked[:probes].tolist() if plain else lists_by_definition(ranked, probes, labels, open_rows, wanted)
        assert own[own >= 0].tolist() == expected
        assert (own[np.count_nonzero(own >= 0) :] < 0).all()  # -1 only at the end


def test_a_list_that_the_ranking_does_not_tell_counts_for_nothing():
    labels, told = np.repeat([0, 1, 2], [5, 1, 9]), {2: [[0, -1]], 3: [[0, 1, 2]]}  # one that prunes, asked for two
    open_rows = np.ones(15, bool)
    listed = listed_rows(*in_lists(labels, 3), open_rows)
    assert choose_lists(lambda some, m: np.array(told[m]), 1, 2, listed, open_rows, 6).tolist() == [[0, 1]]


def relaid(index, width):
    """The panels of an index in lists as a machine would save them whose vector registers hold `width` numbers."""
    shifted, axes = index._vectors - index._center, index._axes
    projected = lists.project(shifted, axes if axes.shape[1] else None)
    labels = lists.labels_of(index._list_starts, index._lane_rows, len(shifted))
    starts, rows = in_lists(labels, len(index._centroids), width)
    panels, biases = projected[rows].transpose(0, 2, 1), -0.5 * (shifted.astype(np.float64) ** 2).sum(1)[rows]
    index._list_starts, index._lane_rows = starts, rows
    index._panels = np.ascontiguousarray(np.where(rows[:, None] < 0, np.float32(0), panels))
    index._biases = np.where(rows < 0, -np.inf, biases).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_a_file_of_a_machine_with_other_registers_is_laid_out_anew(metric, width, tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 40)) + 0.01 * rng.standard_normal((3000, 40))
    index = IVFIndex(metric=metric, lists=12, probes=3).fit(vectors)
    queries, allow = vectors[:30] + 0.01, rng.random(3000) < 0.5
    expected = [index.search(queries, 9), index.search(queries, 9, allow=allow)]
    panels = index._panels
    relaid(index, width)
    assert (width == lists.COLUMNS) == (index._panels.shape == panels.shape)
    index.save(tmp_path / "index")
    again = IVFIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(again._panels, panels)
    for found, before in zip((again.search(queries, 9), again.search(queries, 9, allow=allow)), expected):
        np.testing.assert_array_equal(found.ids, before.ids)
        np.testing.assert_array_equal(found.distances, before.distances)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40)
@given(cloud=clouds(), k=st.integers(1, 60), lists=st.integers(1, 12), allowed=st.booleans())
def test_with_all_lists_the_search_is_exact(metric, cloud, k, lists, allowed):
    vectors, queries, ids = cloud
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    allow = np.random.default_rng(k).random(len(ids)) < 0.6 if allowed else None
    index = IVFIndex(metric=metric, lists=lists, probes=lists).fit(vectors, ids)
    index._scan_limit = lambda: 0
    exact = ExactIndex(metric=metric).fit(vectors, ids)
    found, expected = index.search(queries, k, allow=allow), exact.search(queries, k, allow=allow)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.ids, expected.ids)


@settings(max_examples=60)
@given(
    n=st.integers(1, 250), d=st.integers(1, 20), depth=st.integers(0, 20), n_lists=st.integers(1, 9),
    probes=st.integers(1, 9), k=st.integers(1, 30), scores=st.sampled_from([1, lists.SCORES]),
    kind=st.sampled_from(["grid", "normal", "far apart"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_the_best_in_lists_are_a_sort_of_them(n, d, depth, n_lists, probes, k, scores, kind, seed):
    """scores = 1: the buffer holds those of one task of queries, so that a batch takes several turns."""
    rng = np.random.default_rng(seed)
    vectors, queries = rng.standard_normal((n, d)), rng.standard_normal((70, d))  # more than share one task
    if kind == "grid":
        vectors, queries = rng.integers(-1, 2, (n, d)), rng.integers(-1, 2, (70, d))
    elif kind == "far apart":  # scores of 10^6 hide what makes the difference
        vectors, queries = (0.01 * x + 1000 * rng.choice([-1, 1], (len(x), 1)) for x in (vectors, queries))
    vectors, queries = vectors.astype(np.float32), queries.astype(np.float32)
    axes = np.linalg.qr(rng.standard_normal((d, min(depth, d))))[0] if depth else None
    labels, ids, center = rng.integers(0, n_lists, n), rng.permutation(3 * n)[:n], vectors[0]
    open_rows = rng.random(n) < 0.8
    probed = np.argsort(rng.random((70, n_lists)), axis=1)[:, :probes]
    table, packed = (vectors, ids, open_rows), make_lists(vectors - center, labels, n_lists, axes)
    with mock.patch.object(lists, "SCORES", scores):
        found = best_in_lists(packed, table, queries, queries - center, probed, k, "l2")
    distances = by_definition(vectors, queries, "l2")
    for i in range(70):
        kept = open_rows & np.isin(labels, probed[i])
        expected = sorted_neighbors(distances[i : i + 1, kept], ids[kept], k)
        np.testing.assert_array_equal(found[0][i], expected[0][0])
        np.testing.assert_array_equal(found[1][i], expected[1][0])


@given(n=st.integers(1, 80), m=st.integers(1, 80), depth=st.integers(0, 6), seed=st.integers(0, 99))
def test_nearest_centroids_are_a_sort(n, m, depth, seed):
    rng = np.random.default_rng(seed)
    centroids, queries = (rng.integers(-2, 3, (rows, 6)).astype(np.float32) for rows in (n, 5))
    axes = np.linalg.qr(rng.standard_normal((6, depth)))[0] if depth else None
    found = nearest_centroids(as_one_list(centroids, axes), queries, min(m, n))
    expected, _ = sorted_neighbors(by_definition(centroids, queries, "l2"), np.arange(n), min(m, n))
    np.testing.assert_array_equal(found, expected)


@njit
def measured(vectors, rows, count, query, metric, out):
    measure(vectors, rows, count, query, metric, out)


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2), st.integers(0, 99))
def test_measured_distances_are_those_of_the_definition(count, d, metric, seed):
    rng = np.random.default_rng(seed)
    vectors, query = rng.standard_normal((20, d)).astype(np.float32), rng.standard_normal(d).astype(np.float32)
    rows, out = rng.integers(0, 20, 9), np.zeros(9, np.float32)
    measured(vectors, rows, count, query, metric, out)
    expected = by_definition(vectors[rows], query[None], METRICS[metric])[0]
    np.testing.assert_array_equal(out[:count], expected[:count])
    assert (out[count:] == 0).all()


@pytest.mark.parametrize(
    ("metric", "first", "many", "last"),
    [
        ("l2", [1, 2.0**-12, 2.0**-12, 2.0**-24], 2.0**-27, []),  # these numbers squared
        ("cosine", [1, 2.0**-12], 2.0**-27, []),
        ("ip", [1, 2.0**-24], 2.0**-54, []),
        ("ip", [2.0**20], 2.0**-34, [-(2.0**20), 1, 2.0**-24]),
    ],
)
@given(more=st.integers(40, 200))
def test_measured_distances_are_those_of_the_definition_where_the_order_of_the_sum_matters(
    metric, first, many, last, more
):
    """`first` and `last` put the distance halfway between two float32. The many small terms are lost one after the
    other, and lift it when they are added to each other first."""
    x, out = np.float32([[*first, *[many] * more, *last]]), np.zeros(1, np.float32)
    q = np.full(x.shape[1], -1 if metric == "ip" else 0, np.float32)
    expected = by_definition(x, q[None], metric)[0]
    exact = math.fsum(x[0].astype(np.float64) ** (1 if metric == "ip" else 2))
    assert np.float32({"l2": np.sqrt(exact), "cosine": exact / 2, "ip": exact}[metric]) != expected
    measured(x, np.array([0]), np.int64(1), q, METRICS.index(metric), out)
    np.testing.assert_array_equal(out, expected)


@given(st.integers(1, 40), st.integers(0, 2), st.integers(-120, 120), st.integers(-120, 120), st.integers(0, 99))
def test_measured_distances_of_large_and_small_vectors_and_of_zeros(d, metric, x_size, q_size, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.integers(-3, 4, (9, d)) * 2.0**x_size).astype(np.float32)
    query, out = (rng.integers(-3, 4, d) * 2.0**q_size).astype(np.float32), np.zeros(9, np.float32)
    measured(vectors, np.arange(9), np.int64(9), query, metric, out)
    with np.errstate(over="ignore"):
        expected = by_definition(vectors, query[None], METRICS[metric])[0]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))


def test_a_distance_of_zero_has_the_sign_of_the_definition():
    """The terms cancel, and what rounding could have left of them is beyond float32 on either side."""
    x, q, out = 2.0**-100 * np.float32([[1, -1]]), 2.0**-100 * np.ones(2, np.float32), np.ones(1, np.float32)
    measured(x.astype(np.float32), np.array([0]), np.int64(1), q.astype(np.float32), METRICS.index("ip"), out)
    assert out[0] == 0 and not np.signbit(out[0])


def test_centroids_lie_where_the_vectors_are():
    vectors = 100 + np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    np.testing.assert_allclose(IVFIndex(lists=1).fit(vectors).centroids, vectors.mean(0, keepdims=True), rtol=1e-6)
    apart = np.concatenate([vectors[:30], vectors[30:] + 50])
    centroids = IVFIndex(lists=2).fit(apart).centroids
    means = np.stack([apart[:30].mean(0), apart[30:].mean(0)])
    np.testing.assert_allclose(centroids[np.argsort(centroids[:, 0])], means, rtol=1e-6)
    assert IVFIndex(metric="ip", lists=2).fit(apart).centroids.shape == (2, 5)


def test_axes_are_used_and_change_nothing(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6000, 5)) @ rng.standard_normal((5, 40)) + 0.01 * rng.standard_normal((6000, 40))
    queries = vectors[:200] + 0.01
    with_axes = IVFIndex(lists=80, probes=4).fit(vectors)
    assert with_axes._axes.shape == (40, 8)
    monkeypatch.setattr(ivf, "FEW", 1 << 30)
    without = IVFIndex(lists=80, probes=4).fit(vectors)
    assert without._axes.shape == (40, 0)
    expected = without.search(queries, 10)
    with_axes.save(tmp_path / "index")
    for index in (with_axes, IVFIndex.load(tmp_path / "index")):
        found = index.search(queries, 10)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.distances, expected.distances)
        one = index.search(queries[3:4], 10, threads=1)
        np.testing.assert_array_equal(one.ids[0], expected.ids[3])


@pytest.mark.parametrize("n_lists", [1, 4])
@pytest.mark.parametrize("asked", [3e20, 1e25])
def test_products_beyond_float32_are_measured_and_not_lost(n_lists, asked):
    """Distances are within it: the vectors with the largest products are the nearest."""
    rng = np.random.default_rng(0)
    vectors = (1e18 * rng.standard_normal((40, 4))).astype(np.float32)
    queries = (asked * rng.standard_normal((9, 4))).astype(np.float32)
    index = IVFIndex(lists=n_lists, probes=n_lists).fit(vectors)
    index._scan_limit = lambda: 0
    for k in (1, 5, 40):
        true, found = ExactIndex().fit(vectors).search(queries, k), index.search(queries, k)
        np.testing.assert_array_equal(found.distances, true.distances)
        np.testing.assert_array_equal(found.ids, true.ids)
