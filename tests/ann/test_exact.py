"""Exact search against a sort by the definition of each distance, and its memory; recall against sets."""

import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, exact, knn_recall

from .sorting import METRICS, by_definition, clouds, sorted_neighbors, unit


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=60)
@given(cloud=clouds(), k=st.integers(1, 320), share=st.sampled_from([None, 0.1, 0.7]))
def test_exact_search_is_a_sort(metric, cloud, k, share):
    vectors, queries, ids = cloud
    half = 9 * len(vectors) // 10
    index = ExactIndex(metric=metric).fit(vectors[:half], ids[:half])
    index.add(vectors[half:], ids[half:])
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    allow = None if share is None else np.random.default_rng(k).random(len(ids)) < share
    kept = np.ones(len(ids), bool) if allow is None else allow
    expected = sorted_neighbors(by_definition(vectors[kept], queries, metric), ids[kept], k)
    found = index.search(queries, k, allow=allow)
    if metric != "cosine":  # there the test's own division may round differently
        np.testing.assert_array_equal(found.ids, expected[0])
    np.testing.assert_allclose(found.distances, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_whole_rankings_in_blocks_of_queries_are_a_sort(metric, monkeypatch):
    monkeypatch.setattr(exact, "RANKED_AT_A_TIME", 100)  # blocks of three queries, and of one
    rng = np.random.default_rng(2)
    for n in (30, 130):
        vectors, ids = rng.integers(1, 4, (n, 3)).astype(np.float32), rng.permutation(2 * n)[:n]
        queries = rng.integers(1, 4, (10, 3)).astype(np.float32)
        if metric == "cosine":
            vectors, queries = unit(vectors), unit(queries)
        found = exact.rank_all(vectors, ids, queries, n - 5, metric)
        expected = sorted_neighbors(by_definition(vectors, queries, metric), ids, n - 5)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@settings(max_examples=5)
@given(
    metric=st.sampled_from(METRICS), case=st.sampled_from([(2000, 10), (150, 600)]), share=st.sampled_from([1.0, 0.7]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_matrix_of_distances_never_stands_in_memory(metric, case, share, seed):
    """Of 20,000 vectors: with few neighbours by tiles, with many by sorting a few queries' distances at a time."""
    rng, (n, k) = np.random.default_rng(seed), case
    vectors, queries = rng.standard_normal((20_000, 8), np.float32), rng.standard_normal((n, 8), np.float32)
    index, allow = ExactIndex(metric=metric).fit(vectors), rng.random(20_000) < share
    with mock.patch.object(exact, "RANKED_AT_A_TIME", 1 << 16):
        index.search(queries[:9], k, allow=allow)  # what is compiled is no memory of the search
        tracemalloc.start()
        index.search(queries, k, allow=allow)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * n * k * 12 + 6e6 < 4 * n * 20_000


def test_filtered_search_is_search_in_the_subset():
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-3, 4, (3000, 6)).astype(np.float32), rng.standard_normal((20, 6))
    for share in (0.8, 0.3, 0.01):
        kept = np.flatnonzero(rng.random(3000) < share)
        subset = ExactIndex().fit(vectors[kept], kept).search(queries, 12)
        filtered = ExactIndex().fit(vectors).search(queries, 12, allow=kept)
        np.testing.assert_array_equal(filtered.ids, subset.ids)
        np.testing.assert_array_equal(filtered.distances, subset.distances)


def test_one_query_gets_what_a_large_batch_gets():
    rng = np.random.default_rng(1)
    vectors, queries = rng.standard_normal((4000, 9)), rng.standard_normal((1100, 9))
    index = ExactIndex().fit(vectors)
    ids, distances = index.search(queries, 5)  # so many that the database is not cut into segments
    assert np.array_equal(index.search(queries, 5, threads=1).distances, distances)
    for i in (0, 7, 1099):
        alone = index.search(queries[i : i + 1], 5)
        assert np.array_equal(alone.ids[0], ids[i]) and np.array_equal(alone.distances[0], distances[i])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40)
@given(cloud=clouds(), k=st.integers(1, 40), depth=st.integers(1, 20), seed=st.integers(0, 99))
def test_whatever_the_axes_the_search_is_a_sort(metric, cloud, k, depth, seed):
    vectors, queries, ids = cloud
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    rng, d = np.random.default_rng(seed), vectors.shape[1]
    axes = np.linalg.qr(rng.standard_normal((d, min(d, depth))))[0]
    center = vectors[:1].sum(0) * np.float32(metric != "ip")  # the inner product has no other origin
    packed = exact.Packed(vectors, ids, metric, (center, axes))
    open_rows = rng.random(len(ids)) < 0.8
    found = exact.merge_lists(k, packed.nearest(queries, k, open_rows))
    expected = sorted_neighbors(by_definition(vectors[open_rows], queries, metric), ids[open_rows], k)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("with_axes", [False, True])
def test_near_ties_far_from_the_mean_are_not_lost(with_axes):
    """Two groups far apart: scores are some 10^7 and round to 1, while squared distances within a group are 0.1."""
    rng = np.random.default_rng(3)
    far = np.where(rng.random((3000, 1)) < 0.5, 1000, -1000) * np.linspace(0.9, 1.1, 12)
    vectors = (far + 0.1 * rng.standard_normal((3000, 12))).astype(np.float32)
    queries = vectors[:40] + np.float32(0.05)
    axes = np.linalg.qr(rng.standard_normal((12, 8)))[0] if with_axes else None
    packed = exact.Packed(vectors, np.arange(3000), "l2", (vectors.mean(0), axes))
    found = exact.merge_lists(10, packed.nearest(queries, 10, np.ones(3000, bool)))
    expected = sorted_neighbors(by_definition(vectors, queries, "l2"), np.arange(3000), 10)
    np.testing.assert_array_equal(found[0], expected[0])


def test_axes_are_used_where_the_vectors_lie_near_a_few():
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((6000, 5)) @ rng.standard_normal((5, 40)) + 0.01 * rng.standard_normal((6000, 40))
    index = ExactIndex().fit(vectors)
    assert index._built_part.axes.shape == (40, 8)
    vectors = vectors.astype(np.float32)
    queries, allow = vectors[:30], np.arange(0, 6000, 5)
    for kept in (np.arange(6000), allow):
        expected = sorted_neighbors(by_definition(vectors[kept], queries, "l2"), kept, 7)
        np.testing.assert_array_equal(index.search(queries, 7, allow=kept).ids, expected[0])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40)
@given(cloud=clouds(), share=st.floats(0, 1), allowed=st.booleans(), above=st.sampled_from([-1, 0, 1]))
def test_range_search_is_the_sorted_filter(metric, cloud, share, allowed, above):
    """The radius is one of the distances, or a number beside it: what lies exactly on it is inside."""
    vectors, queries, ids = cloud
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    index = ExactIndex(metric=metric).fit(vectors, ids)
    kept = np.random.default_rng(len(ids)).random(len(ids)) < (0.7 if allowed else 2)
    full = by_definition(index._vectors[:, : vectors.shape[1]], index._normal_form(queries, "queries")[0], metric)
    radius = np.float32(np.quantile(full, share, method="nearest")) if full.size else np.float32(1)
    radius = radius if above == 0 else np.nextafter(radius, np.float32(above * np.inf))
    offsets, found, distances = index.range_search(queries, radius, allow=kept if allowed else None)
    assert len(offsets) == len(queries) + 1 and offsets[0] == 0 and offsets[-1] == len(found) == len(distances)
    for i in range(len(queries)):
        inside = np.flatnonzero(kept & (full[i] <= radius))
        inside = inside[np.lexsort((ids[inside], full[i, inside]))]
        np.testing.assert_array_equal(found[offsets[i] : offsets[i + 1]], ids[inside])
        np.testing.assert_array_equal(distances[offsets[i] : offsets[i + 1]], full[i, inside])
    assert index.range_search(queries[:0], radius)[0].tolist() == [0]


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6))
def test_recall_is_the_mean_overlap_of_sets(seed, k_found, k_true):
    rng = np.random.default_rng(seed)
    found, true = rng.integers(-1, 8, (5, k_found)), rng.integers(-1, 8, (5, k_true))
    shares = [len(set(f) & set(t) - {-1}) / len(set(t) - {-1}) for f, t in zip(found, true) if len(set(t) - {-1})]
    assert knn_recall(found, true) == pytest.approx(np.mean(shares) if shares else 1.0)


def test_recall_names_bad_arguments():
    for found, true in ((np.zeros(3, int), np.zeros((3, 1), int)), (np.zeros((2, 1)), np.zeros((2, 1), int))):
        with pytest.raises(ValueError, match="^found_ids: expected"):
            knn_recall(found, true)
    with pytest.raises(ValueError, match="^true_ids: expected"):
        knn_recall(np.zeros((2, 1), int), np.zeros((3, 1), int))


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_no_table_of_before_is_kept(metric):
    """After additions that build nothing anew, and after those that do."""
    rng = np.random.default_rng(0)
    index = ExactIndex(metric=metric).fit(rng.standard_normal((3000, 4)))
    for rows in (1, 5, 4000):
        index.add(0.01 * rng.standard_normal((rows, 4)))
        assert np.shares_memory(index._built_part.vectors, index._vectors)
        assert (index._tail is None) == (index._built == len(index.ids))
        assert index._tail is None or np.shares_memory(index._tail.vectors, index._vectors)
