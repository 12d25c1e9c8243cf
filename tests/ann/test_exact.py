"""Exact search against a sort by the definition of each distance; recall against sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, knn_recall

METRICS = ["l2", "cosine", "ip"]


def by_definition(vectors, queries, metric):
    """(queries, vectors) float32, summed in float64 over the coordinates in order."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    total = np.zeros((len(q), len(x)))
    for j in range(x.shape[1]):
        total += -q[:, j, None] * x[:, j] if metric == "ip" else (x[:, j] - q[:, j, None]) ** 2
    return {"l2": np.sqrt, "cosine": lambda t: t / 2, "ip": lambda t: t}[metric](total).astype(np.float32)


def sorted_neighbors(distances, ids, k):
    found, near = np.full((len(distances), k), -1), np.full((len(distances), k), np.inf, np.float32)
    for i, row in enumerate(distances):
        order = np.lexsort((ids, row))[:k]
        found[i, : len(order)], near[i, : len(order)] = ids[order], row[order]
    return found, near


def unit(x):
    return (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)


@st.composite
def clouds(draw):
    """Vectors with and without ties, far from the origin, in a line, constant, tiny and huge; queries near them."""
    n, d = draw(st.integers(0, 300)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "grid", "line", "constant", "offset", "tiny", "huge", "few", "shell"]))
    x = rng.standard_normal((n + 5, d))
    shell = rng.permuted(np.tile(rng.random(d), (n + 5, 1)), axis=1)  # ties that every rounding breaks
    shell[n:] = shell[n:, :1]  # queries with all coordinates alike
    x = {
        "normal": x,
        "shell": shell,
        "grid": rng.integers(-2, 3, x.shape) + 0.5,
        "line": rng.integers(1, 9, (n + 5, 1)) * np.linspace(1, 2, d),
        "constant": np.full(x.shape, 0.1),
        "offset": 1e5 + x,
        "tiny": 1e-20 * x,
        "huge": 1e18 * x,
        "few": x[rng.integers(0, min(3, len(x)), len(x))],
    }[kind].astype(np.float32)
    return x[:n], x[n:], rng.permutation(3 * n)[:n]


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
def test_range_search_is_the_sorted_filter(metric):
    rng = np.random.default_rng(2)
    vectors, queries = unit(rng.standard_normal((500, 4))), unit(rng.standard_normal((6, 4)))
    index, allow = ExactIndex(metric=metric).fit(vectors), rng.random(500) < 0.9
    full = by_definition(vectors, queries, metric)
    radius = float(np.quantile(full, 0.3))
    offsets, ids, distances = index.range_search(queries, radius, allow=allow)
    for i in range(6):
        inside = np.flatnonzero(allow & (full[i] <= radius))
        assert set(ids[offsets[i] : offsets[i + 1]]) == set(inside)
        assert (np.diff(distances[offsets[i] : offsets[i + 1]]) >= 0).all()
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
