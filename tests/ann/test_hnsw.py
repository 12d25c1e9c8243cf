"""The graph: its sums, its links, its layers and its walks, against what the paper's words say.

What every index must do (sound results, filters, files, any sequence of changes) is in test_all_indexes.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from refimpl.ann import ExactIndex, HNSWIndex, knn_recall
from refimpl.ann.gather import PADDING, padded, prefetch, squared_gap
from refimpl.ann.hnsw import _diverse, _link_back, _reached, equal_rows


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def near_a_surface(n, seed):
    rng = np.random.default_rng(seed)
    flat = rng.standard_normal((n, 4)) @ np.random.default_rng(99).standard_normal((4, 24))
    return (flat + 0.2 * rng.standard_normal(flat.shape)).astype(np.float32)


@njit
def gaps(a, b):
    out = np.empty((len(a), len(b)), np.float32)
    for i in range(len(a)):
        for j in range(len(b)):
            prefetch(b, j * b.shape[1])
            out[i, j] = squared_gap(a, i, b, j)
    return out


@given(st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=30)
def test_the_sum_is_the_squared_distance_in_its_stated_order(d, seed):
    a, b = padded(normal(3, d, seed)), padded(normal(4, d, seed + 1))
    assert a.shape[1] % PADDING == 0 and (a[:, d:] == 0).all()
    found = gaps(a, b)
    exact = ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(2)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert (gaps(a, a).diagonal() == 0).all()
    np.testing.assert_array_equal(found, gaps(b, a).T)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 999))
@settings(max_examples=40)
def test_neighbours_are_chosen_as_the_paper_says(n, room, seed):
    """Algorithm 4: in order of distance, those that are at least as near to q as to all that were chosen."""
    points, q = np.random.default_rng(seed).integers(-3, 4, (n, 2)), np.zeros(2)
    squares = ((points - q) ** 2).sum(1)
    order = np.lexsort((np.arange(n), squares))
    expected = []
    for e in order:
        if len(expected) < room and all(((points[e] - points[r]) ** 2).sum() >= squares[e] for r in expected):
            expected.append(e)
    kept = np.full(room, 7, np.int32)
    _diverse(padded(points), squares[order].astype(np.float32), order.astype(np.int32), n, kept)
    assert kept.tolist() == expected + [-1] * (room - len(expected))


def reached_by_definition(ground, start):
    reached, frontier = {start}, {start}
    while frontier:
        frontier = {int(node) for row in frontier for node in ground[row] if node >= 0} - reached
        reached |= frontier
    return reached


@given(st.integers(1, 150), st.integers(1, 3), st.integers(2, 5), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_graph_is_whole(n, d, links, copies, seed):
    vectors = normal(n, d, seed)
    if copies:
        vectors = vectors[np.random.default_rng(seed).integers(0, min(n, 4), n)]
    index = HNSWIndex(links=links, seed=seed).fit(vectors)
    ground, (entry, top) = index._ground, index._top
    assert sorted(index._rows) == list(range(n))
    np.testing.assert_array_equal(np.repeat(index._points[:, :d], np.diff(index._starts), 0), vectors[index._rows])
    n = len(np.unique(vectors, axis=0))  # equal ones are one place
    assert len(index._points) == n
    for table, width in ((ground, 2 * links), (index._upper, links)):
        assert table.shape[1] == width and table.max(initial=-1) < n
        for row in table:
            real = row[row >= 0]
            assert (row[: len(real)] >= 0).all() and len(set(real.tolist())) == len(real)
    assert all(node not in row for node, row in enumerate(ground))
    reached = reached_by_definition(ground, int(entry))
    assert set(index._apart.tolist()) == set(range(n)) - reached
    assert set(np.flatnonzero(_reached(ground, entry)).tolist()) == reached
    layers = np.diff(np.append(index._slots, len(index._upper)))
    assert layers.max() == layers[entry] == top


def test_levels_thin_out_by_the_number_of_links():
    index = HNSWIndex(links=4, ef_build=5).fit(normal(8000, 2, 0))
    layers = np.diff(np.append(index._slots, len(index._upper)))
    for level in (1, 2, 3):
        expected = 8000 / 4**level
        assert abs((layers >= level).sum() - expected) < 6 * np.sqrt(expected)


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_recall_rises_with_ef_to_one(metric):
    data = near_a_surface(6100, 0)
    vectors, queries = data[:6000], data[6000:]
    truth = ExactIndex(metric=metric).fit(vectors).search(queries, 10).ids
    index, recalls = HNSWIndex(metric=metric).fit(vectors), []
    for ef in (1, 20, 80, 400):
        index.ef = ef
        recalls.append(knn_recall(index.search(queries, 10).ids, truth))
    assert recalls == sorted(recalls) and recalls[1] > 0.9 and recalls[-1] > 0.995


def test_the_same_bits_for_a_seed_at_any_number_of_threads_and_others_for_another():
    vectors = near_a_surface(5000, 1)
    one, two = (HNSWIndex(seed=3).fit(vectors, threads=threads) for threads in (1, 2))
    for name in HNSWIndex._STRUCTURE:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    other = HNSWIndex(seed=4).fit(vectors)
    assert other._ground.shape == one._ground.shape and (other._ground != one._ground).any()


def test_places_that_no_link_leads_to_are_found_all_the_same():
    vectors = near_a_surface(3000, 2)
    index = HNSWIndex().fit(vectors)
    lost = np.setdiff1d(np.arange(0, 3000, 500), index._top[:1])
    index._ground[np.isin(index._ground, lost)] = -1
    index._ground = -np.sort(-index._ground, 1)  # closes the gaps
    index._apart = np.flatnonzero(~_reached(index._ground, index._top[0]))
    assert set(lost) <= set(index._apart)
    rows = index._rows[index._apart]
    assert (index.search(vectors[rows], 1).ids[:, 0] == rows).all()


@given(n=st.integers(3, 20), width=st.integers(2, 8), seed=st.integers(0, 99))
def test_links_with_room_keep_what_they_had(n, width, seed):
    """Where old and new links are too many, the diverse of all of them by distance stay; place 0 is a place too."""
    rng = np.random.default_rng(seed)
    points = padded(rng.standard_normal((n, 3)).astype(np.float32))
    others = rng.permutation(np.arange(n - 1))  # the node is the last place
    had, more = others[: rng.integers(0, width + 1)], others[width : width + 1 + rng.integers(0, width)]
    table = np.full((n, width), -1, np.int32)
    table[n - 1, : len(had)] = had
    room = np.empty(len(table) + len(more), np.float32), np.empty(len(table) + len(more), np.int32)
    starts = np.array([0, len(more)])
    _link_back(0, 1, points, table, np.arange(n), 0, np.array([n - 1]), starts, more.astype(np.int32), room)
    both = np.concatenate([had, more])
    if len(both) <= width:
        assert table[n - 1].tolist() == [*both, *[-1] * (width - len(both))]
        return
    distances = ((points[both] - points[n - 1]) ** 2).sum(1).astype(np.float32)
    order, kept = np.argsort(distances), np.empty(width, np.int32)
    _diverse(points, distances[order], both[order].astype(np.int32), len(both), kept)
    np.testing.assert_array_equal(table[n - 1], kept)


def test_links_back_make_nearly_all_places_reachable():
    index = HNSWIndex().fit(near_a_surface(6000, 4))
    assert len(index._apart) < 20
    real = index._ground >= 0
    from_to = set(zip(np.nonzero(real)[0].tolist(), index._ground[real].tolist()))
    assert np.mean([(b, a) in from_to for a, b in from_to]) > 0.5


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03])
def test_the_walk_widens_as_the_filter_narrows(share):
    data = near_a_surface(6050, 5)
    index = HNSWIndex(ef=20).fit(data[:6000])
    is_open = np.random.default_rng(5).random(6000) < share
    rows = index._candidate_rows(data[6000:], 10, is_open, int(is_open.sum()))
    truth = np.flatnonzero(is_open)[ExactIndex().fit(data[:6000][is_open]).search(data[6000:], 10).ids]
    assert is_open[rows[rows >= 0]].all() and knn_recall(rows, truth) > 0.9


def test_a_walk_that_meets_too_few_is_repeated_with_a_larger_ef():
    """ef = k / share vectors hold k open ones for about half of the queries: scans for the others would cost most."""
    data = near_a_surface(6050, 5)
    index = HNSWIndex(ef=10).fit(data[:6000])
    is_open = np.random.default_rng(5).random(6000) < 0.5
    walks, walk = [], index._walk
    index._walk = lambda queries, arrivals, k, is_open, ef: (
        walks.append((len(queries), ef)) or walk(queries, arrivals, k, is_open, ef)
    )
    rows = index._candidate_rows(data[6000:], 10, is_open, int(is_open.sum()))
    assert (rows >= 0).all()
    asked, ef = zip(*walks)
    assert 10 < asked[1] < 40 and sorted(asked, reverse=True) == list(asked) and len(set(asked)) > 1
    assert list(ef) == [ef[0] * 2**i for i in range(len(ef))]


def test_a_walk_that_meets_too_few_is_completed_by_a_scan():
    vectors = near_a_surface(3000, 3)
    index = HNSWIndex(ef=10).fit(vectors)
    index._scan_limit = lambda: 0
    index._ground[:] = -1  # every walk ends where it arrives
    truth = ExactIndex().fit(vectors).search(vectors[:20], 10)
    found = index.search(vectors[:20], 10)
    np.testing.assert_array_equal(found.ids, truth.ids)
    np.testing.assert_array_equal(found.distances, truth.distances)


@pytest.mark.parametrize("name, value", [("links", 1), ("ef", 0), ("ef_build", 0), ("seed", -1), ("metric", "l1")])
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got "):
        HNSWIndex(**{name: value})


def test_the_walk_finds_nothing_that_was_removed():
    x = np.random.default_rng(3).standard_normal((3000, 8)).astype(np.float32)
    index = HNSWIndex(links=8, ef=40).fit(x)
    first = index.search(x[:50], 5).ids
    gone = np.unique(first)
    assert len(x) - len(gone) > index._scan_limit()  # it walks
    index.remove(gone)
    after = index.search(x[:50], 5).ids
    assert not np.isin(after, gone).any() and (after >= 0).all()


@given(
    n=st.integers(0, 40), d=st.integers(1, 3), distinct=st.integers(1, 4), block=st.sampled_from([1, 3, 4096]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_equal_rows_are_grouped_and_each_group_is_by_id(n, d, distinct, block, seed):
    rng = np.random.default_rng(seed)
    vectors, ids = rng.integers(0, distinct, (n, d)).astype(np.float32), rng.permutation(5 * n)[:n]
    vectors[rng.random((n, d)) < 0.2] *= -1  # -0 is 0
    rows, starts = equal_rows(vectors, ids)
    assert sorted(rows) == list(range(n)) and starts[0] == 0 and starts[-1] == n
    groups = [rows[first:last] for first, last in zip(starts, starts[1:])]
    for group in groups:
        assert len(group) and (vectors[group] == vectors[group[0]]).all() and (np.diff(ids[group]) > 0).all()
    assert len(groups) == len(np.unique(vectors + 0, axis=0))


@given(
    distinct=st.integers(1, 60), n=st.integers(1, 400), k=st.integers(1, 50), share=st.sampled_from([1.0, 0.5]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_of_copies_the_smaller_ids_are_found_and_none_is_lost(distinct, n, k, share, seed):
    """With an `ef` beyond the number of places the answer is a sort by (distance, id)."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-9, 10, (distinct, 3)).astype(np.float32)[rng.integers(0, distinct, n)]
    queries, ids, allow = vectors[:5] + np.float32(0.25), rng.permutation(3 * n)[:n], rng.random(n) < share
    index = HNSWIndex(links=4, ef=400, seed=seed).fit(vectors, ids)
    index._scan_limit = lambda: 0
    true = ExactIndex().fit(vectors, ids).search(queries, k, allow=allow)
    found = index.search(queries, k, allow=allow)
    np.testing.assert_array_equal(found.ids, true.ids)
    np.testing.assert_array_equal(found.distances, true.distances)


def test_many_copies_cost_the_other_queries_nothing():
    vectors = near_a_surface(3000, 6)
    vectors[::3] = vectors[0]
    index = HNSWIndex().fit(vectors)
    assert len(index._apart) < 20 and len(index._points) == 2001
