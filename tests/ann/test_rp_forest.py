"""The forest's bounds: without a budget the answer is exact, however coarse float32 is where the data lie.

What every index must do (sound results, filters, files, any sequence of changes) is in test_all_indexes.py.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, RPForestIndex


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
    index = RPForestIndex(trees=2, leaf_size=2, max_leaves=None, seed=seed).fit(vectors)
    index._scan_limit = lambda: 0  # no scan in place of the trees
    found, expected = index.search(queries, k), ExactIndex().fit(vectors).search(queries, k)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.distances, expected.distances)
