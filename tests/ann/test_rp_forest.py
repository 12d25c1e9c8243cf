"""The forest's cuts, and its bounds: without a budget the answer is exact, and what they exclude is not read.

What every index must do (sound results, filters, files, any sequence of changes) is in test_all_indexes.py.
"""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, RPForestIndex
from refimpl.ann.rp_forest import _node_range

from .indexes import normal, structured


@settings(max_examples=60)
@given(
    n=st.integers(1, 300), d=st.integers(1, 5), away=st.sampled_from([0, 1e2, 1e4, 1e6]), k=st.integers(1, 9),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_without_a_budget_it_is_exact_far_from_the_origin_too(n, d, away, k, seed):
    """On a grid of halves, where neighbours tie and a cut often lies just as far from a query as they do."""
    rng = np.random.default_rng(seed)
    vectors = (rng.integers(-6, 7, (n, d)) * 0.5 + away * rng.choice([-1, 1], d)).astype(np.float32)
    queries = vectors[rng.integers(0, n, 20)] + (rng.integers(-1, 2, (20, d)) * 0.5).astype(np.float32)
    index = structured(RPForestIndex(trees=2, leaf_size=2, max_leaves=None, seed=seed).fit(vectors))
    found, expected = index.search(queries, k), ExactIndex().fit(vectors).search(queries, k)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.distances, expected.distances)


@settings(max_examples=40)
@given(n=st.integers(2, 120), d=st.integers(1, 5), trees=st.integers(1, 3), seed=st.integers(0, 999))
def test_a_leaf_that_the_bound_excludes_is_not_read(n, d, trees, seed):
    """The query is the last vector, in its own leaf of each tree. All vectors in none of these become it, too."""
    vectors = normal(n, d, seed)
    index = structured(RPForestIndex(trees=trees, leaf_size=4, max_leaves=None, seed=seed).fit(vectors))
    query, cuts, own = vectors[-1].copy(), index._normals.shape[1], []
    for t in range(trees):
        node = 0
        while node < cuts:
            margin = float(index._normals[t, node].astype(float) @ query - index._offsets[t, node])
            assume(abs(margin) > 1e-3)  # nearer, rounding may open the other side
            node = 2 * node + (2 if margin > 0 else 1)
        own.extend(index._leaves[t, slice(*_node_range(node, n))])
    assert n - 1 in own
    index._vectors[np.setdiff1d(np.arange(n), own)] = query  # whoever reads them finds a smaller id
    assert index.search(query[None], 1).ids.tolist() == [[n - 1]]


@settings(max_examples=30)
@given(n=st.integers(2, 150), d=st.integers(2, 6), leaf_size=st.integers(1, 20), seed=st.integers(0, 999))
def test_cuts_are_oblique_at_the_median_and_separate(n, d, leaf_size, seed):
    """The normal of a cut points from one of the node's points to another."""
    vectors = normal(n, d, seed)
    index = RPForestIndex(trees=2, leaf_size=leaf_size, seed=seed).fit(vectors)
    for leaves, normals, offsets in zip(index._leaves, index._normals.astype(np.float64), index._offsets):
        assert sorted(leaves) == list(range(n))
        for node, (cut, offset) in enumerate(zip(normals, offsets)):
            start, end = _node_range(node, n)
            middle = (start + end) // 2
            assert _node_range(2 * node + 1, n) == (start, middle) and _node_range(2 * node + 2, n) == (middle, end)
            points = vectors[leaves[start:end]].astype(np.float64)
            along = points @ cut
            assert along[: middle - start].max(initial=-np.inf) <= offset + 1e-4
            assert along[middle - start :].min(initial=np.inf) >= offset - 1e-4
            gaps = (points[:, None] - points).reshape(-1, d)
            lengths = np.linalg.norm(gaps, axis=1)
            cosines = (gaps @ cut)[lengths > 0] / lengths[lengths > 0] / np.linalg.norm(cut)
            # of one point, or where all draws gave the same one, the normal is of signs
            assert cosines.max(initial=0) > 1 - 1e-9 or np.allclose(np.abs(cut), 1 / np.sqrt(d), atol=1e-5)
