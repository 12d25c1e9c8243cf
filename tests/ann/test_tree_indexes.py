"""All indexes: what all must do, and what each is for."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scipy import stats

from refimpl.ann import (
    ExactIndex,
    HammingIndex,
    HNSWIndex,
    IVFIndex,
    IVFPQIndex,
    KDTreeIndex,
    LSHIndex,
    PQIndex,
    RPForestIndex,
)
from refimpl.ann.lsh_theory import hyperplane_collision, pstable_collision, success_probability

SMALL = {
    ExactIndex: {},
    IVFIndex: {"lists": 6, "probes": 2},
    PQIndex: {"parts": 2, "bits": 3, "rerank": 20},
    IVFPQIndex: {"lists": 6, "probes": 2, "parts": 2, "bits": 3, "rerank": 20},
    KDTreeIndex: {"leaf_size": 4},
    RPForestIndex: {"trees": 3, "leaf_size": 4, "max_leaves": 6},
    LSHIndex: {"tables": 4, "probes": 12},
    HammingIndex: {"bits": 70, "rerank": 20},
    HNSWIndex: {"links": 6, "ef": 32},
}
KINDS = list(SMALL)
METRICS = ["l2", "cosine", "ip"]
CASES = [(kind, metric) for kind in KINDS for metric in METRICS]


def distances_by_definition(vectors, queries, metric):
    """(queries, vectors) float64 of the formulas, from float32 vectors."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return np.sqrt(((q[:, None] - x[None]) ** 2).sum(2))
    if metric == "ip":
        return -q @ x.T
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    return 1 - q @ x.T / lengths


def structured(index):
    """The index, told never to scan where it has a structure: otherwise small data would test only the scan."""
    index._scan_limit = lambda: 0
    return index


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def assert_sound(index, vectors_of, queries, k, metric, allowed=None):
    """Ids are live, allowed and distinct; distances ascend, ties by id, and follow the formula; padding is last."""
    ids, distances = index.search(queries, k, allow=allowed)
    assert ids.shape == distances.shape == (len(queries), k)
    assert ids.dtype == np.int64 and distances.dtype == np.float32
    possible = set(vectors_of) if allowed is None else set(vectors_of) & set(np.asarray(allowed).tolist())
    for i in range(len(queries)):
        real = ids[i] >= 0
        assert not real[np.argmin(real) :].any() or real.all()
        assert np.isinf(distances[i, ~real]).all()
        row, dist = ids[i, real], distances[i, real]
        assert len(set(row)) == len(row) and set(row) <= possible
        assert sorted(zip(dist, row)) == list(zip(dist, row))
        if len(row):
            vectors = np.array([vectors_of[id] for id in row])
            expected = distances_by_definition(vectors, queries[i : i + 1], metric)[0]
            np.testing.assert_allclose(dist, expected, rtol=1e-5, atol=2e-6)
    return ids, distances


@pytest.mark.parametrize("kind, metric", CASES)
@settings(max_examples=12)
@given(data=st.data())
def test_results_are_sound_for_all_shapes(kind, metric, data):
    n, d, k = data.draw(st.integers(0, 70)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 80))
    seed = data.draw(st.integers(0, 1000))
    vectors = normal(n, d, seed)
    if data.draw(st.booleans()) and n:
        vectors = vectors[np.random.default_rng(seed).integers(0, min(n, 3), n)]
    ids = np.random.default_rng(seed).permutation(10 * n)[:n]
    index = kind(metric=metric, **SMALL[kind]).fit(vectors, ids)
    if data.draw(st.booleans()):
        structured(index)
    assert len(index) == n and np.array_equal(index.ids, ids)
    vectors_of = dict(zip(ids.tolist(), vectors))
    found, _ = assert_sound(index, vectors_of, normal(3, d, seed + 1), k, metric)
    if kind is not LSHIndex:
        assert (found >= 0).sum() == 3 * min(n, k)
    allowed = ids[::2]
    assert_sound(index, vectors_of, normal(3, d, seed + 2), k, metric, allowed)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 12), st.integers(0, 1000))
def test_kdtree_and_unlimited_forest_agree_with_a_sort(metric, n, d, k, seed):
    vectors, queries = normal(n, d, seed), normal(5, d, seed + 1)
    by_definition = np.sort(distances_by_definition(vectors, queries, metric), 1)[:, :k]
    allow = np.random.default_rng(seed).random(n) < 0.3
    filtered = np.sort(distances_by_definition(vectors[allow], queries, metric), 1)[:, :k]
    for index in (KDTreeIndex(metric=metric), RPForestIndex(metric=metric, trees=2, leaf_size=8, max_leaves=None)):
        structured(index).fit(vectors)
        _, distances = index.search(queries, k)
        np.testing.assert_allclose(distances[:, : min(n, k)], by_definition, rtol=1e-5, atol=2e-6)
        _, distances = index.search(queries, k, allow=allow)
        np.testing.assert_allclose(distances[:, : filtered.shape[1]], filtered, rtol=1e-5, atol=2e-6)
        assert np.isinf(distances[:, filtered.shape[1] :]).all()


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


@pytest.mark.parametrize("kind, metric", CASES)
def test_one_query_gets_what_a_batch_gets_at_any_number_of_threads(kind, metric):
    vectors, queries = normal(3000, 8, 0), normal(70, 8, 1)
    index = structured(kind(metric=metric)).fit(vectors)
    other = structured(kind(metric=metric)).fit(vectors, threads=1)
    ids, distances = index.search(queries, 7)
    for again in (other.search(queries, 7), other.search(queries, 7, threads=1)):
        np.testing.assert_array_equal(again.ids, ids)
        np.testing.assert_array_equal(again.distances, distances)
    for i in range(0, 70, 11):
        alone = index.search(queries[i : i + 1], 7)
        np.testing.assert_array_equal(alone.ids[0], ids[i])
        np.testing.assert_array_equal(alone.distances[0], distances[i])


BUDGETS = [
    (IVFIndex, "probes", {"lists": 256}),
    (RPForestIndex, "max_leaves", {"trees": 4, "leaf_size": 8}),
    (LSHIndex, "probes", {"tables": 3, "bits": 7}),
    (HammingIndex, "rerank", {"bits": 64}),
    (KDTreeIndex, "max_leaves", {}),
]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind, name, settings_", BUDGETS)
def test_a_larger_budget_never_lowers_recall(kind, name, settings_, metric):
    vectors, queries = normal(2000, 10, 2), normal(60, 10, 3)
    truth = np.argsort(distances_by_definition(vectors, queries, metric), 1)[:, :5]
    recalls = []
    for budget in (1, 4, 16, 64, 256, 2000):
        ids = structured(kind(metric=metric, **settings_, **{name: budget})).fit(vectors).search(queries, 5).ids
        recalls.append([len(set(a) & set(b)) for a, b in zip(ids, truth)])
    assert (np.diff(recalls, axis=0) >= 0).all()
    assert np.mean(recalls[-1]) > 4.9 and np.mean(recalls[0]) < 4.5


@pytest.mark.parametrize("kind", [RPForestIndex, LSHIndex, HammingIndex, IVFIndex, HNSWIndex])
def test_recall_is_kept_under_a_filter(kind):
    rng = np.random.default_rng(5)
    base = rng.standard_normal((20000 + 100, 4)) @ rng.standard_normal((4, 24))
    data = (base + 0.2 * rng.standard_normal(base.shape)).astype(np.float32)
    vectors, queries = data[:20000], data[20000:]
    index = kind(metric="l2").fit(vectors)
    full = distances_by_definition(vectors, queries, "l2")

    def recall(mask):
        rows = np.flatnonzero(mask)
        truth = rows[np.argsort(full[:, rows], 1)[:, :10]]
        ids = index.search(queries, 10, allow=mask).ids
        return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids, truth)])

    unfiltered = recall(np.ones(20000, bool))
    assert unfiltered > 0.8
    for share in (0.5, 0.2, 0.1, 0.01, 0.001):
        assert recall(rng.random(20000) < share) > unfiltered - 0.02


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
        met += structured(index).fit(partner).search(pair, 1).ids[0, 0] == 0
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
    index = structured(LSHIndex(metric=metric, tables=tables, bits=bits, probes=probes, width=width, seed=seed))
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
    ids = set(index.search(query, n).ids[0].tolist()) - {-1}
    if metric == "cosine":
        assert ids == expected
    else:  # slabs share the buckets of a hash table, which can only add candidates
        assert ids >= expected


class Life(RuleBasedStateMachine):
    """Any sequence of add, remove, save and load: every live vector finds itself, and nothing else is found."""

    @initialize(case=st.sampled_from([c for c in CASES if c[1] != "ip"]), seed=st.integers(0, 99), n=st.integers(0, 60))
    def start(self, case, seed, n):
        self.kind, self.metric = case
        self.rng = np.random.default_rng(seed)
        vectors = self.draw_vectors(n)
        self.index = structured(self.kind(metric=self.metric, **SMALL[self.kind])).fit(vectors)
        self.vectors = dict(enumerate(vectors))

    def draw_vectors(self, n):
        return self.rng.standard_normal((n, 3)).astype(np.float32)

    @rule(n=st.integers(0, 30))
    def add(self, n):
        vectors, fresh = self.draw_vectors(n), int(max(self.vectors, default=-1)) + 5 + np.arange(n)
        self.index.add(vectors, fresh)
        self.vectors.update(zip(fresh.tolist(), vectors))

    @rule()
    def add_a_copy(self):
        if self.vectors:
            id = int(self.rng.choice(list(self.vectors)))
            self.index.add(self.vectors[id][None])
            self.vectors[max(self.vectors) + 1] = self.vectors[id]

    @rule(share=st.floats(0, 1))
    def remove(self, share):
        gone = [id for id in self.vectors if self.rng.random() < share]
        self.index.remove(np.array(gone, np.int64))
        for id in gone:
            del self.vectors[id]

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self.index.save(path)
            before = self.index.search(np.eye(3), 4)
            self.index = structured(self.kind.load(path))
            after = self.index.search(np.eye(3), 4)
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_array_equal(before.distances, after.distances)

    @invariant()
    def every_vector_finds_itself(self):
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.vectors)
        assert sorted(self.index.ids.tolist()) == sorted(self.vectors)
        if self.vectors:
            ids = np.array(list(self.vectors))[:20]
            queries = np.array([self.vectors[id] for id in ids])
            found, distances = assert_sound(self.index, self.vectors, queries, 8, self.metric)
            np.testing.assert_array_equal(distances[:, 0], 0)
            copies = [{i for i, v in self.vectors.items() if (v == q).all()} for q in queries]
            assert all(set(row[: len(same)]) == same for row, same in zip(found, copies) if len(same) <= 8)


Life.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestLife = Life.TestCase


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(kind, tmp_path):
    index = kind(**SMALL[kind]).fit(normal(100, 4, 0))
    path = tmp_path / "index"
    index.save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:200], whole[:-300] + bytes([whole[-300] ^ 1]) + whole[-299:], b"", b"other"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="^path: expected"):
            kind.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments_are_named(kind):
    index = kind()
    vectors = normal(10, 3, 0)
    with pytest.raises(ValueError, match="^index: expected"):
        index.search(vectors, 1)
    index.fit(vectors)
    for name, call in [
        ("metric", lambda: kind(metric="hamming")),
        ("vectors", lambda: kind().fit(vectors[0])),
        ("vectors", lambda: kind().fit(np.array([[np.nan, 1.0]]))),
        ("vectors", lambda: kind().fit(np.array([[1e300, 1.0]]))),
        ("vectors", lambda: kind(metric="cosine").fit(np.zeros((2, 3)))),
        ("vectors", lambda: index.add(normal(2, 4, 0))),
        ("ids", lambda: kind().fit(vectors, np.zeros(10, int))),
        ("ids", lambda: kind().fit(vectors, np.arange(9))),
        ("ids", lambda: kind().fit(vectors, np.arange(10) - 1)),
        ("ids", lambda: index.add(vectors[:1], [3])),
        ("ids", lambda: index.remove([77])),
        ("ids", lambda: index.remove([0.5])),
        ("queries", lambda: index.search(normal(2, 4, 0), 1)),
        ("k", lambda: index.search(vectors, 0)),
        ("allow", lambda: index.search(vectors, 1, allow=np.ones(3, bool))),
        ("threads", lambda: index.search(vectors, 1, threads=0)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()
    with pytest.raises(ValueError, match="^path: expected"):
        KDTreeIndex.load(__file__)
