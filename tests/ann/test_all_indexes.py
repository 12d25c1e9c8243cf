"""What every index must do, whatever is in it. The table of indexes is in indexes.py."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refimpl.ann import (
    ExactIndex,
    HammingIndex,
    IVFIndex,
    IVFPQIndex,
    KDTreeIndex,
    LSHIndex,
    RPForestIndex,
    ScaNNIndex,
)
from refimpl.ann.index import thread_count

from .indexes import (
    CASES,
    KINDS,
    METRICS,
    TABLE,
    assert_sound,
    distances_by_definition,
    near_a_plane,
    normal,
    recall_of_sets,
    small,
    structured,
)
from .sorting import by_definition, clouds, sorted_neighbors, unit


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("kind, metric", CASES)
@settings(max_examples=12)
@given(data=st.data())
def test_results_are_sound_for_all_shapes(kind, metric, data):
    n, d, k = data.draw(st.integers(0, 70)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 80))
    seed = data.draw(st.integers(0, 1000))
    vectors = normal(n, d, seed)
    if data.draw(st.booleans()) and n:
        vectors = vectors[np.random.default_rng(seed).integers(0, min(n, 3), n)]
    scale = np.float32(data.draw(st.sampled_from([1, 1, 1e15] if metric == "ip" else [1, 1, 1e25, 3e36])))
    vectors = scale * vectors  # squares overflow; products, which are distances of "ip", do not
    ids = np.random.default_rng(seed).permutation(10 * n)[:n]
    index, scans = small(kind, metric), data.draw(st.booleans())
    if scans:
        del index._scan_limit
    with thread_count(1):  # on some dozens of vectors, waking a second thread takes longer than the work
        index.fit(vectors, ids)
        assert len(index) == n and np.array_equal(index.ids, ids)
        vectors_of = dict(zip(ids.tolist(), vectors))
        assert_sound(index, vectors_of, scale * normal(3, d, seed + 1), k, metric)
        assert_sound(index, vectors_of, scale * normal(3, d, seed + 2), k, metric, ids[::2])
        assert_sound(index, vectors_of, normal(0, d, seed), k, metric)


@pytest.mark.parametrize("kind, metric", [case for case in CASES if TABLE[case[0]].full is not None])
@settings(max_examples=10)
@given(
    n=st.integers(1, 200), d=st.integers(1, 4), k=st.integers(1, 12), seed=st.integers(0, 1000),
    share=st.sampled_from([0.02, 0.3, 0.9]),
)  # fmt: skip
def test_with_its_full_budget_it_agrees_with_a_sort_filtered_or_not(kind, metric, n, d, k, seed, share):
    vectors, queries = normal(n, d, seed), normal(4, d, seed + 1)
    index = small(kind, metric, full=True).fit(vectors, threads=1)
    allow = np.random.default_rng(seed).random(n) < share
    for mask in (np.ones(n, bool), allow):
        nearest = np.sort(distances_by_definition(vectors[mask], queries, metric), 1)[:, :k]
        distances = index.search(queries, k, allow=mask, threads=1).distances
        np.testing.assert_allclose(distances[:, : nearest.shape[1]], nearest, rtol=1e-5, atol=2e-6)
        assert np.isinf(distances[:, nearest.shape[1] :]).all()


@pytest.mark.parametrize("kind", [ExactIndex, KDTreeIndex])
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=15)
@given(n=st.integers(1, 300), seed=st.integers(0, 1000), share=st.floats(0, 1), k=st.integers(1, 20))
def test_filtered_exact_search_is_search_in_an_index_of_the_subset(kind, metric, n, seed, share, k):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.integers(-3, 4, (n, 3)) + 0.5, rng.integers(-3, 4, (5, 3)) + 0.25  # many ties
    ids, kept = rng.permutation(3 * n)[:n], rng.random(n) < share
    filtered = kind(metric=metric).fit(vectors, ids).search(queries, k, allow=ids[kept])
    subset = kind(metric=metric).fit(vectors[kept], ids[kept]).search(queries, k)
    np.testing.assert_array_equal(filtered.ids, subset.ids)
    np.testing.assert_array_equal(filtered.distances, subset.distances)


@pytest.mark.parametrize("kind, metric", CASES)
def test_a_mask_and_its_ids_allow_the_same(kind, metric):
    index = small(kind, metric).fit(normal(80, 3, 0), np.arange(80) * 3)
    index.remove(np.arange(0, 60, 6))
    mask = np.random.default_rng(1).random(len(index)) < 0.4
    by_mask = index.search(normal(9, 3, 2), 5, allow=mask)
    unknown = np.array([1, 0])  # never there, and no longer there: nothing to find
    by_ids = index.search(normal(9, 3, 2), 5, allow=np.concatenate([index.ids[mask][::-1], unknown]))
    np.testing.assert_array_equal(by_mask.ids, by_ids.ids)
    np.testing.assert_array_equal(by_mask.distances, by_ids.distances)
    assert (index.search(normal(2, 3, 2), 5, allow=[]).ids == -1).all()


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


@pytest.mark.parametrize("threads", [None, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_builds_and_searches_use_the_threads_that_were_asked_for(kind, threads):
    index, vectors, before, seen = kind(), normal(60, 4, 0), numba.get_num_threads(), []
    build, nearest = index._build, index._nearest
    index._build = lambda: seen.append(numba.get_num_threads()) or build()
    index._nearest = lambda *args: seen.append(numba.get_num_threads()) or nearest(*args)
    index.fit(vectors, threads=threads)
    index.search(vectors[:3], 2, threads=threads)
    index.search(vectors[:3], 70, threads=threads)
    assert seen == [threads or before] * 3 and numba.get_num_threads() == before


@pytest.mark.parametrize("kind, metric", CASES)
@settings(max_examples=8)
@given(
    n=st.integers(2, 150), k=st.integers(1, 60), share=st.sampled_from([1, 0.7, 0.2]), changed=st.booleans(),
    few=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_whoever_else_asks_a_query_gets_the_same(kind, metric, n, k, share, changed, few, seed):
    """Where lists are empty or closed, queries look for others, by a tail, by scans; each on its own."""
    rng, vectors = np.random.default_rng(seed), normal(n, 3, seed)
    index = small(kind, metric).fit(vectors[rng.integers(0, min(n, 4), n)] if few else vectors, threads=1)
    if changed:
        index.add(normal(20, 3, seed + 1), threads=1)
        index.remove(rng.permutation(n)[: n // 3], threads=1)
    allow, queries = rng.random(len(index)) < share, normal(6, 3, seed + 2)
    ids, distances = index.search(queries, k, allow=None if share == 1 else allow, threads=1)
    for i in range(6):
        alone = index.search(queries[i : i + 1], k, allow=None if share == 1 else allow, threads=1)
        np.testing.assert_array_equal(alone.ids[0], ids[i])
        np.testing.assert_array_equal(alone.distances[0], distances[i])


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("kind", [KDTreeIndex, RPForestIndex])
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=40)
@given(cloud=clouds(), k=st.integers(1, 40), outlier=st.sampled_from([0, 1e4, 1e9]), seed=st.integers(0, 99))
def test_scans_and_trees_are_a_sort_whatever_the_lengths(kind, metric, cloud, k, outlier, seed):
    """One long vector makes |x - q|^2 of the stored form for "ip" lose all digits of the inner products."""
    vectors, queries, ids = cloud
    vectors = vectors + np.float32(0)
    if outlier and len(vectors):
        vectors[seed % len(vectors)] *= np.float32(outlier)
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    index = kind(metric=metric)
    index._scan_limit = lambda: 10**9
    half = len(vectors) // 2
    index.fit(vectors[:half], ids[:half], threads=1)
    index.add(vectors[half:], ids[half:], threads=1)
    kept = np.random.default_rng(seed).random(len(ids)) < 0.7
    stored = index._vectors[:, : vectors.shape[1]]
    full = by_definition(stored, index._normal_form(queries, "queries")[0], metric)
    assume(np.isfinite(full).all())  # an inner product may leave float32
    for mask in (np.ones(len(ids), bool), kept):
        expected = sorted_neighbors(full[:, mask], ids[mask], k)
        found = index.search(queries, k, allow=mask, threads=1)
        np.testing.assert_array_equal(found.ids, expected[0])
        np.testing.assert_array_equal(found.distances, expected[1])
        if kind is KDTreeIndex and full.size:
            radius = float(np.quantile(full, seed / 99, method="nearest"))
            offsets, inside, _ = index.range_search(queries, radius, allow=mask, threads=1)
            for i, row in enumerate(full):
                own = np.flatnonzero(mask & (row <= radius))
                assert (
                    inside[offsets[i] : offsets[i + 1]].tolist() == ids[own[np.lexsort((ids[own], row[own]))]].tolist()
                )


def test_a_scan_sees_the_products_that_float32_does_not():
    """x.q is a small difference of large terms."""
    rng = np.random.default_rng(0)
    large = rng.uniform(1e4, 2e4, 400).astype(np.float32)
    vectors = np.stack([large, np.float32(3e-3 * rng.standard_normal(400)) - large], 1)
    index = RPForestIndex(metric="ip").fit(vectors)
    index._scan_limit = lambda: 400
    queries = 1 + rng.random((20, 2)).astype(np.float32) * np.float32(1e-6)
    expected = sorted_neighbors(by_definition(vectors, queries, "ip"), np.arange(400), 10)
    np.testing.assert_array_equal(index.search(queries, 10).ids, expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_vector_that_is_gone_leaves_no_trace(kind):
    vectors = normal(60, 3, 0)
    index = small(kind, "ip").fit(np.concatenate([vectors, 1e6 * vectors[:1]]))
    index.remove(np.arange(20, 61))
    fresh = small(kind, "ip").fit(vectors[:20])
    assert index._largest_norm == fresh._largest_norm
    np.testing.assert_array_equal(index._vectors, fresh._vectors)


def digests():
    """{index and metric: the SHA-256 of its file}, after a fit, additions and removals."""
    found, path = {}, Path(sys.argv[-1]) if __name__ == "__main__" else None
    for kind in KINDS:
        for metric in METRICS:
            index = kind(metric=metric).fit(near_a_plane(1500, 3, d=8))
            index.add(near_a_plane(100, 4, d=8))
            index.remove(np.arange(0, 900))
            index.save(path / "index")
            found[f"{kind.__name__} {metric}"] = hashlib.sha256((path / "index").read_bytes()).hexdigest()
    for kind in (IVFIndex, ScaNNIndex):  # enough vectors for principal axes
        index = kind(lists=30).fit(near_a_plane(5000, 3, d=60))
        assert 0 < index._axes.shape[1] < 60
        index.save(path / "index")
        found[f"{kind.__name__} with axes"] = hashlib.sha256((path / "index").read_bytes()).hexdigest()
    IVFPQIndex(lists=20, parts=10, bits=4, rotation="opq").fit(near_a_plane(2000, 3, d=60)).save(path / "index")
    found["IVFPQIndex with OPQ"] = hashlib.sha256((path / "index").read_bytes()).hexdigest()
    return found


def test_the_file_has_the_same_bits_whatever_the_number_of_threads(tmp_path):
    """In processes of their own: neither Numba's nor the BLAS library's number of threads can grow later."""
    by_threads = []
    for threads in ("1", "5"):
        names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        command = [sys.executable, "-m", f"{__package__}.{Path(__file__).stem}", str(tmp_path)]
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        root = Path(__file__).parents[1]
        environment["PYTHONPATH"] = os.pathsep.join([str(root), str(root.parent), os.environ.get("PYTHONPATH", "")])
        out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        by_threads.append(json.loads(out))
    assert by_threads[0] == by_threads[1] and len(by_threads[0]) == len(CASES) + 3


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if TABLE[kind].budget])
def test_a_larger_budget_never_lowers_recall(kind, metric):
    vectors, queries = normal(2000, 10, 2), normal(60, 10, 3)
    truth = np.argsort(distances_by_definition(vectors, queries, metric), 1)[:, :5]
    name, options = TABLE[kind].budget
    index, recalls = structured(kind(metric=metric, **options)).fit(vectors), []
    index._complete = lambda *_: None  # whoever finds fewer than k scans: no budget can beat that
    for budget in (1, 4, 16, 64, 256, 2000):
        setattr(index, name, budget)
        recalls.append(recall_of_sets(index.search(queries, 5).ids, truth))
    assert (np.diff(recalls, axis=0) >= 0).all()
    assert np.mean(recalls[-1]) > 0.98 and np.mean(recalls[0]) < 0.9


@pytest.mark.parametrize("scans", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if TABLE[kind].default])
def test_recall_is_kept_under_a_filter(kind, scans):
    """By a scan of few open rows, and by the structure with a budget that grows."""
    data = near_a_plane(20100, 5)
    vectors, queries = data[:20000], data[20000:]
    index, rng = kind(metric="l2").fit(vectors), np.random.default_rng(6)
    if not scans:
        structured(index)
    full = distances_by_definition(vectors, queries, "l2")

    def recall(mask):
        rows = np.flatnonzero(mask)
        truth = rows[np.argsort(full[:, rows], 1)[:, :10]]
        return recall_of_sets(index.search(queries, 10, allow=mask).ids, truth).mean()

    unfiltered = recall(np.ones(20000, bool))
    assert unfiltered > 0.8
    for share in (0.5, 0.2, 0.1, 0.01, 0.001):
        assert recall(rng.random(20000) < share) > unfiltered - 0.02
    if kind in (LSHIndex, HammingIndex):  # hashes say little about neighbours this far away
        return
    along = vectors @ rng.standard_normal(vectors.shape[1]).astype(np.float32)
    for share in (0.5, 0.1, 0.01):  # most queries are far from all that is open
        assert recall(along >= np.quantile(along, 1 - share)) > unfiltered - 0.03


@pytest.mark.parametrize("kind", [KDTreeIndex, RPForestIndex])
@pytest.mark.parametrize("leaves", [2**62, 2**63 - 1, 10**30])
def test_a_budget_beyond_all_leaves_is_an_exact_search_under_a_filter_too(kind, leaves):
    rng = np.random.default_rng(0)
    vectors, mask = rng.standard_normal((3000, 4)).astype(np.float32), rng.random(3000) < 0.5
    index = structured(kind(metric="l2", max_leaves=leaves).fit(vectors))
    found, exact = (i.search(vectors[:9], 5, allow=mask) for i in (index, ExactIndex(metric="l2").fit(vectors)))
    np.testing.assert_array_equal(found.ids, exact.ids)


def test_a_kd_trees_budget_of_leaves_grows_under_a_filter():
    data = near_a_plane(20100, 5)
    vectors, queries = data[:20000], data[20000:]
    rng, full = np.random.default_rng(6), distances_by_definition(vectors, queries, "l2")
    index, recalls = KDTreeIndex(metric="l2", max_leaves=30).fit(vectors), {}
    for share in (1.0, 0.5, 0.1, 0.01):
        mask = rng.random(20000) < share
        rows = np.flatnonzero(mask)
        truth = rows[np.argsort(full[:, rows], 1)[:, :10]]
        recalls[share] = recall_of_sets(index.search(queries, 10, allow=mask).ids, truth).mean()
    assert 0.6 < recalls[1.0] < 0.99 and min(recalls.values()) > recalls[1.0] - 0.03, recalls


@pytest.mark.parametrize("kind", KINDS)
def test_removing_a_whole_neighbourhood_never_shortens_an_answer(kind):
    """The worst removal there is: all that a query would look at first."""
    far = normal(400, 4, 0) + 8
    vectors = np.concatenate([normal(300, 4, 1), far])
    index = structured(kind(**TABLE[kind].small)).fit(vectors)
    index.remove(np.arange(300))
    vectors_of = dict(zip(range(300, 700), far))
    for k in (1, 10, 500):
        assert_sound(index, vectors_of, vectors[:5], k, "l2")
        assert_sound(index, vectors_of, vectors[:5], k, "l2", np.arange(650, 700))


@pytest.mark.parametrize("kind", KINDS)
def test_removal_compacts_and_growing_norms_do_not_rebuild_each_time(kind):
    index = small(kind, "ip").fit(normal(4000, 3, 0))
    index.remove(np.arange(1, 3000))
    assert len(index._ids) == 1001 and index._vectors.shape[0] == 1001
    builds, build = [], index._build
    index._build = lambda: (builds.append(1), build())
    for norm in np.linspace(10, 30, 40):
        index.add(np.array([[norm, 0, 0]], np.float32))
    assert len(builds) <= 13  # 1.1^12 > 3
    for i, norm in enumerate(np.linspace(30, 31, 40)):  # nor while others go
        index.remove([4000 + i])
        index.add(np.array([[norm, 0, 0]], np.float32))
    assert len(builds) <= 15
    assert index.search([[1, 0, 0]], 1).ids[0, 0] == 4079


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_and_changes_nothing(kind):
    vectors, told = normal(6000, 6, 0), []
    index = kind().fit(vectors, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6000, 6000) and all(total == 6000 for _, total in told)
    assert all(0 <= a <= b for (a, _), (b, _) in zip(told, told[1:]))
    plain = kind().fit(vectors)
    for name in kind._STRUCTURE:
        np.testing.assert_array_equal(getattr(index, name), getattr(plain, name))
    told.clear()
    index.add(normal(6000, 6, 1), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (12000, 12000)
    told.clear()
    index.remove(np.arange(9000), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3000, 3000)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_build_leaves_no_half_of_an_index(kind):
    def stop(done, total):
        raise KeyboardInterrupt

    index = kind().fit(normal(50, 3, 0))
    with pytest.raises(KeyboardInterrupt):
        index.fit(normal(5000, 3, 1), progress=stop)
    with pytest.raises(ValueError, match="^index: expected one that was fitted"):
        index.search(normal(1, 3, 0), 1)
    assert len(index) == 0 and len(index.fit(normal(50, 3, 0))) == 50


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_argument_changes_nothing(kind):
    vectors = normal(30, 3, 0)
    index = small(kind).fit(vectors)
    before = index.search(vectors, 3)
    for call in (
        lambda: index.fit(np.full((4, 3), np.nan)),
        lambda: index.fit(vectors, np.zeros(30, int)),
        lambda: index.add(np.full((1, 3), np.inf)),
        lambda: index.add(vectors[:2], [77, 3]),
        lambda: index.remove([5, 77]),
        lambda: index.remove([5, 5]),
        lambda: index.fit(vectors, threads=0),
        lambda: index.fit(vectors, progress=1),
        lambda: index.add(normal(5000, 3, 1), threads=0),
        lambda: index.add(vectors[:1], threads=0),
        lambda: index.add(vectors[:1], progress=1),
        lambda: index.remove([5], threads="x"),
        lambda: index.remove(np.arange(25), threads=10**6),
    ):
        with pytest.raises(ValueError):
            call()
    after = index.search(vectors, 3)
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.distances, before.distances)


@pytest.mark.parametrize("kind", [ExactIndex, KDTreeIndex])
def test_bad_arguments_of_a_range_search_are_named(kind):
    vectors = normal(10, 3, 0)
    with pytest.raises(ValueError, match="^index: expected"):
        kind().range_search(vectors, 1.0)
    index = kind().fit(vectors)
    for name, call in [
        ("radius", lambda: index.range_search(vectors, np.nan)),
        ("radius", lambda: index.range_search(vectors, np.inf)),
        ("radius", lambda: index.range_search(vectors, None)),
        ("queries", lambda: index.range_search(normal(2, 4, 0), 1.0)),
        ("queries", lambda: index.range_search(np.full((1, 3), np.nan), 1.0)),
        ("allow", lambda: index.range_search(vectors, 1.0, allow=np.ones(3, bool))),
        ("allow", lambda: index.range_search(vectors, 1.0, allow=[1, 1])),
        ("threads", lambda: index.range_search(vectors, 1.0, threads=0)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments_are_named(kind):
    index = kind()
    vectors = normal(10, 3, 0)
    for call in (lambda: index.search(vectors, 1), lambda: index.add(vectors), lambda: index.remove([0])):
        with pytest.raises(ValueError, match="^index: expected"):
            call()
    index.fit(vectors)
    for name, call in [
        ("metric", lambda: kind(metric="hamming")),
        ("metric", lambda: kind(metric=None)),
        ("vectors", lambda: kind().fit(vectors[0])),
        ("vectors", lambda: kind().fit(np.empty((3, 0)))),
        ("vectors", lambda: kind().fit(vectors.astype(complex))),
        ("vectors", lambda: kind().fit([["a", "b"]])),
        ("vectors", lambda: kind().fit(np.array([[np.nan, 1.0]]))),
        ("vectors", lambda: kind().fit(np.array([[np.inf, 1.0]]))),
        ("vectors", lambda: kind().fit(np.array([[1e300, 1.0]]))),
        ("vectors", lambda: kind(metric="ip").fit(np.full((1, 3), 3e37))),
        ("queries", lambda: index.search(np.full((1, 3), -3e37), 1)),
        ("vectors", lambda: kind(metric="cosine").fit(np.zeros((2, 3)))),
        ("vectors", lambda: index.add(normal(2, 4, 0))),
        ("ids", lambda: kind().fit(vectors, np.zeros(10, int))),
        ("ids", lambda: kind().fit(vectors, np.arange(9))),
        ("ids", lambda: kind().fit(vectors, np.arange(10) - 1)),
        ("ids", lambda: kind().fit(vectors, np.arange(10) + 0.5)),
        ("ids", lambda: index.add(vectors[:1], [3])),
        ("ids", lambda: index.remove([77])),
        ("ids", lambda: index.remove([0.5])),
        ("queries", lambda: index.search(normal(2, 4, 0), 1)),
        ("queries", lambda: index.search(vectors[0], 1)),
        ("queries", lambda: index.search(np.full((1, 3), np.nan), 1)),
        ("queries", lambda: kind(metric="cosine").fit(vectors).search(np.zeros((1, 3)), 1)),
        ("k", lambda: index.search(vectors, 0)),
        ("k", lambda: index.search(vectors, 1.5)),
        ("allow", lambda: index.search(vectors, 1, allow=np.ones(3, bool))),
        ("allow", lambda: index.search(vectors, 1, allow=[1, 1])),
        ("allow", lambda: index.search(vectors, 1, allow=[0.5])),
        ("threads", lambda: index.search(vectors, 1, threads=0)),
        ("threads", lambda: kind().fit(vectors, threads=10**6)),
        ("ids", lambda: kind().fit(vectors[:1], [2**63 - 1]).add(vectors[1:2])),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()


if __name__ == "__main__":
    print(json.dumps(digests()))
