"""The kd-tree as an index: order of ties, and range search for every metric."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, IVFIndex, KDTreeIndex, RPForestIndex

from .indexes import METRICS, distances_by_definition, normal


@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 1000))
def test_kdtree_ties_go_to_the_smaller_id(n, d, seed):
    rng = np.random.default_rng(seed)
    grid, queries = rng.integers(-1, 2, (n, d)), rng.integers(-1, 2, (4, d))
    ids = rng.permutation(n)
    index = KDTreeIndex(leaf_size=3).fit(grid[: n // 2], ids[: n // 2])
    index.add(grid[n // 2 :], ids[n // 2 :])  # a tail beside the tree
    found = index.search(queries, n).ids
    for query, row in zip(queries, found):
        squares = ((grid - query) ** 2).sum(1)
        np.testing.assert_array_equal(row, ids[np.lexsort((ids, squares))])


def test_what_was_added_is_not_counted_in_the_budget():
    """It hangs beside the tree, and every search scans it."""
    vectors, queries = normal(500, 4, 0), normal(30, 4, 1)
    tree, index = (KDTreeIndex(leaf_size=4, max_leaves=3).fit(vectors[:400]) for _ in range(2))
    index.add(vectors[400:])
    full = distances_by_definition(vectors, queries, "l2")
    for row, near, found in zip(full, tree.search(queries, 5).ids, index.search(queries, 5).ids):
        rows = np.concatenate([near, np.arange(400, 500)])
        assert found.tolist() == rows[np.argsort(row[rows])][:5].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_range_search_is_the_sorted_filter(metric):
    vectors, queries = normal(400, 3, 0), normal(6, 3, 1)
    index = KDTreeIndex(metric=metric).fit(vectors[:350])
    index.add(vectors[350:])
    index.remove(np.arange(0, 400, 3))
    allow = np.setdiff1d(np.arange(400), np.arange(0, 400, 3))[::2]
    full = distances_by_definition(vectors, queries, metric)
    radius = float(np.quantile(full, 0.1))
    offsets, ids, distances = index.range_search(queries, radius, allow=allow)
    for i in range(len(queries)):
        inside = allow[full[i, allow] <= radius]
        expected = inside[np.argsort(full[i, inside])]
        np.testing.assert_array_equal(ids[offsets[i] : offsets[i + 1]], expected)
        np.testing.assert_allclose(distances[offsets[i] : offsets[i + 1]], full[i, expected], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("max_leaves", [1, 2, 5])
def test_a_tail_of_which_nothing_is_open_changes_no_budget(removed, max_leaves):
    vectors, queries = normal(500, 4, 0), normal(100, 4, 1)
    alone, index = (KDTreeIndex(leaf_size=4, max_leaves=max_leaves).fit(vectors[:400]) for _ in range(2))
    index.add(vectors[400:])
    if removed:
        index.remove(np.arange(400, 500))
    found = index.search(queries, 2, allow=None if removed else np.arange(400))
    np.testing.assert_array_equal(found.ids, alone.search(queries, 2).ids)


@pytest.mark.parametrize("kind", [KDTreeIndex, ExactIndex, IVFIndex])
@pytest.mark.parametrize("sign", [1, -1])
def test_inner_products_beyond_float32_tie(kind, sign):
    """At -inf and at inf: none is lost, the smaller id comes first."""
    big, ids = np.full((120, 1), np.float32(2.0**100)), np.random.default_rng(0).permutation(300)[:120]
    index = kind(metric="ip").fit(big[:100], ids[:100])
    index.add(big[100:], ids[100:])
    for k in (1, 5, 120, 130):
        found = index.search(sign * big[:2], k)
        expected = np.append(np.sort(ids), np.full(10, -1))[:k]
        assert found.ids.tolist() == [expected.tolist()] * 2
        assert (found.distances[:, :120] == -sign * np.inf).all()


def test_settings_beyond_all_numbers():
    vectors = normal(50, 3, 0)
    with pytest.raises(ValueError, match="^eps: expected .* got 1e\\+200"):
        KDTreeIndex(eps=1e200)
    with pytest.raises(ValueError, match="^eps: expected .* got 1000"):
        KDTreeIndex(eps=10**400)
    for kind in (KDTreeIndex, RPForestIndex):
        assert (kind(leaf_size=10**400).fit(vectors).search(vectors, 1).ids[:, 0] == np.arange(50)).all()
