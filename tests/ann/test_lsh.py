"""LSH: buckets hold near pairs as often as theory says, and multi-probe visits the cheapest ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refimpl.ann import LSHIndex
from refimpl.ann.lsh_theory import hyperplane_collision, pstable_collision, success_probability

from .indexes import normal


def candidates(index, queries, k):
    """(n, k) ids of what the buckets hold, -1 where they hold fewer: a search would go on to a scan."""
    queries, _ = index._normal_form(queries, "queries")
    return index._candidates(queries, k, index._live, 1.0)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_lsh_buckets_hold_near_pairs_as_often_as_theory_says(metric):
    """Two tables of three functions, no probing: how often a query meets its partner is what the formulas predict."""
    d, bits, trials, tables = 6, 3, 400, 2
    rng = np.random.default_rng(6)
    met = 0
    for seed in range(trials):
        pair = rng.standard_normal((1, d))
        step = rng.standard_normal((1, d))
        step -= (step @ pair.T) / (pair @ pair.T) * pair
        pair, step = pair / np.linalg.norm(pair), step / np.linalg.norm(step)
        partner = np.cos(0.6) * pair + np.sin(0.6) * step
        width = 1.5 if metric == "l2" else None
        index = LSHIndex(metric=metric, tables=tables, bits=bits, probes=tables, width=width, seed=seed)
        met += candidates(index.fit(partner), pair, 1)[0, 0] == 0
    distance = 2 * np.sin(0.3)
    p = pstable_collision(distance, 1.5) if metric == "l2" else hyperplane_collision(0.6)
    expected = float(success_probability(p, bits, tables))
    low, high = stats.binom.interval(1 - 1e-9, trials, expected)
    assert low <= met <= high


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@given(st.integers(0, 1000), st.integers(1, 90))
@settings(max_examples=30)
def test_lsh_visits_the_cheapest_buckets_of_all_tables(metric, seed, probes):
    """What is found with k = n is what lies in the `probes` cheapest buckets, listed one by one."""
    tables, bits, n, d = 2, 4, 80, 5
    vectors, query = normal(n, d, seed), normal(1, d, seed + 1)
    width = 1.5 if metric == "l2" else None
    index = LSHIndex(metric=metric, tables=tables, bits=bits, probes=probes, width=width, seed=seed)
    index.fit(vectors)
    rows, _ = index._normal_form(np.concatenate([vectors, query]), "vectors")
    along = (rows.astype(np.float64) @ index._directions).reshape(n + 1, tables, bits)
    if metric == "l2":
        along = (along + index._shifts) / width
    values, found = np.floor(along) if metric == "l2" else (along >= 0).astype(float), []
    for t in range(tables):
        for step in itertools.product((-1, 0, 1), repeat=bits):
            bucket, here = values[n, t] + step, along[n, t]
            if metric == "l2":
                costs = np.where(np.array(step) < 0, here - values[n, t], values[n, t] + 1 - here) ** 2
            else:
                costs = here**2
                if not set(bucket) <= {0, 1}:
                    continue
            found.append(((costs * np.abs(step)).sum(), np.flatnonzero((values[:n, t] == bucket).all(1))))
    found.sort(key=lambda item: item[0])
    expected = set(np.concatenate([rows for _, rows in found[:probes]]).tolist())
    ids = set(candidates(index, query, n)[0].tolist()) - {-1}
    if metric == "cosine":
        assert ids == expected
    else:  # slabs share the buckets of a hash table, which can only add candidates
        assert ids >= expected
