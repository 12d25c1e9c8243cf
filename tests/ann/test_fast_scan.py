"""The 4-bit scan: every register width against the plain loop, the bytes within their bound, the best r by a sort."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from refimpl.ann import ExactIndex, IVFPQIndex, knn_recall
from refimpl.ann.bits import note_lanes
from refimpl.ann.byte_shuffle import LANES, LARGEST, MOST_PARTS, make_block_scores, plain_block_scores
from refimpl.ann.codebooks import decode, encode, train_codebooks
from refimpl.ann.fast_scan import (
    _scan_lists,
    buffers,
    count_ranks,
    cut,
    in_lanes,
    make_tables,
    open_biases,
    pack_codes,
    scan_lists,
    table_books,
    table_room,
    with_some_more,
)
from refimpl.ann.reorder import reorder


def caller_of(scores):
    @njit
    def call(codes, at, tables, quads, step, base, biases, bias_at, limit, out):
        return scores(codes, at, tables, quads, step, base, biases, bias_at, limit, out)

    return call


# Every width runs on every x86 machine: one that it lacks is cut in halves. 0: the loop that other machines run
CALLERS = {width: caller_of(make_block_scores(width)) for width in (16, 32, 64)} | {0: caller_of(plain_block_scores)}


def packed_tables(tables):
    """tables (m, 16) -> (quads, 8, 16) as byte_shuffle.py has them, by its picture."""
    quads = -(-len(tables) // 4)
    wide = np.zeros((4 * quads, 16), np.uint8)
    wide[: len(tables)] = tables
    return np.ascontiguousarray(wide.reshape(quads, 4, 16)[:, [0, 0, 2, 2, 1, 1, 3, 3]])


@pytest.mark.parametrize("width", CALLERS)
@given(n=st.integers(1, 70), m=st.integers(1, 21), seed=st.integers(0, 2**32 - 1), largest=st.booleans())
@example(n=40, m=MOST_PARTS, seed=0, largest=True)
def test_a_block_is_the_sum_of_its_look_ups(width, n, m, seed, largest):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (n, m), dtype=np.uint8)
    tables = rng.integers(LARGEST if largest else 0, LARGEST + 1, (m, 16), dtype=np.uint8)
    biases, step, base = rng.standard_normal(n).astype(np.float32), np.float32(rng.random()), np.float32(-3)
    _, packed, lanes = pack_codes(codes, np.array([0, n]))
    expected = (tables[np.arange(m), codes].sum(1, dtype=np.int64).astype(np.float32) * step) + (base + biases)
    limit, in_blocks = np.float32(np.median(expected)), in_lanes(biases, lanes, len(packed), np.inf)
    out = np.zeros(LANES, np.float32)
    for block in range(len(packed)):
        own = expected[block * LANES : (block + 1) * LANES]
        near = CALLERS[width](
            packed, packed[0].size * block, packed_tables(tables), packed.shape[1], step, base, in_blocks,
            LANES * block, limit, out,
        )  # fmt: skip
        np.testing.assert_array_equal(out[: len(own)], own)  # to the last bit
        assert near == sum(1 << lane for lane, score in enumerate(own) if score < limit)


def tables_of(query, codebooks):
    m = len(codebooks)
    tables = np.zeros((-(-m // 4), 8, 16), np.uint8)
    books, room = table_books(codebooks), np.empty((m, 16), np.float32)
    step, offset = make_tables(query, books, room, np.empty(16, np.float32), tables)
    return step, offset, tables


@given(
    m=st.integers(1, 9), k=st.integers(1, 16), width=st.integers(1, 5), seed=st.integers(0, 999),
    scale=st.sampled_from([0.0, 1e-18, 1.0, 1e15]),
)  # fmt: skip
def test_tables_in_bytes_are_within_half_a_step(m, k, width, seed, scale):
    rng = np.random.default_rng(seed)
    codebooks = (rng.standard_normal((m, k, width)) * rng.random((m, 1, 1))).astype(np.float32)
    query = (rng.standard_normal(m * width) * scale).astype(np.float32)
    step, offset, tables = tables_of(query, codebooks)
    true = -2 * np.einsum("jw,jcw->jc", query.reshape(m, width).astype(np.float64), codebooks)
    read = tables[:, [0, 4, 2, 6]].reshape(-1, 16)[:m, :k].astype(np.float64)
    assert read.max() <= LARGEST and (tables[:, [0, 4, 2, 6]] == tables[:, [1, 5, 3, 7]]).all()
    ranges = np.ptp(true, axis=1).max()
    np.testing.assert_allclose(step, ranges / LARGEST, rtol=1e-4, atol=1e-30)
    lowest = true.min(1)
    np.testing.assert_allclose(offset, lowest.sum(), rtol=1e-4, atol=1e-4 * np.abs(true).max(initial=0))
    assert (np.abs(lowest[:, None] + step * read - true) <= 0.5001 * step + 1e-5 * np.abs(true).max()).all()


@given(st.data())
def test_cutting_keeps_the_best_and_few_more(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    used, r = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 60))
    distinct = data.draw(st.sampled_from([1, 3, 40, 10_000]))
    scores = rng.integers(0, distinct, (used + 1, LANES)).astype(np.float32) * data.draw(st.sampled_from([1e-30, 1e25]))
    if data.draw(st.booleans()):  # differences beyond float32
        scores = np.float32(3.3e38) * (2 * rng.integers(0, distinct, scores.shape) / max(1, distinct - 1) - 1)
        scores = scores.astype(np.float32)
    if data.draw(st.booleans()):
        with np.errstate(over="ignore"):
            scores[:, 0] *= 1e9  # far away ones must not hide the differences among the near
    scores[:, data.draw(st.integers(0, LANES)) :] = np.inf
    if data.draw(st.booleans()):  # many ties at the limit, better ones after them
        scores = np.maximum(scores, scores.max() / 2) - (np.arange(scores.size) % 37 == 36).reshape(scores.shape)
    scores[rng.random(scores.shape) < data.draw(st.sampled_from([0.0, 0.1, 0.9]))] = -np.inf
    most = data.draw(st.sampled_from([r, with_some_more(r)]))
    before, rows = scores.copy(), np.arange(scores.size, dtype=np.int32).reshape(scores.shape)
    room = np.empty(LANES, np.float32), np.empty(scores.size + 1, np.int64)
    limit, kept = cut(scores, rows, used, r, most, *room)
    old, finite = before[:used].ravel(), (before[:used] < np.inf).sum()
    best = np.sort(old)
    assert min(r, finite) <= kept <= min(most, finite)
    np.testing.assert_array_equal(np.sort(scores.ravel()[:kept]), best[:kept])
    np.testing.assert_array_equal(old[rows.ravel()[:kept]], scores.ravel()[:kept])
    assert len(set(rows.ravel()[:kept])) == kept
    assert np.isinf(scores.ravel()[kept : -(-kept // LANES) * LANES]).all()
    if kept:
        assert limit >= best[kept - 1]
    if kept < r:  # whatever comes may belong
        assert limit == np.inf


@njit
def _places(masks, places):
    """`note_lanes` of one word after the other."""
    count = np.int64(0)
    for i in range(len(masks)):
        count = note_lanes(masks[i], 64 * i, places, count)
    return count


@given(st.lists(st.integers(0, 2**63 - 1) | st.just(0) | st.integers(0, 62).map(lambda i: 1 << i), max_size=9))
def test_lanes_are_noted_in_order(words):
    places = np.full(64 * len(words) + 1, -7)
    count = _places(np.array(words, np.uint64), places)
    expected = [64 * i + lane for i, word in enumerate(words) for lane in range(64) if word >> lane & 1]
    assert places[:count].tolist() == expected
    assert (places[count + 1 :] == -7).all()


@njit
def _ranks(scores, rows, best):
    return count_ranks(scores, rows, best)


@given(
    m=st.integers(0, 2 * LANES), k=st.integers(1, 70), distinct=st.sampled_from([2, 20, 10**6]), seed=st.integers(0, 99)
)
def test_ranks_are_a_sort_where_no_scores_tie(m, k, distinct, seed):
    rng = np.random.default_rng(seed)
    scores, rows, best = np.full((2, LANES), np.inf, np.float32), rng.permutation(1000)[:m], np.full(k, -1)
    own = rng.integers(0, distinct, m).astype(np.float32)
    own[rng.random(m) < 0.2] = np.inf
    scores.ravel()[:m] = own
    finite, filled = _ranks(scores, rows, best)
    assert finite == np.isfinite(own).sum() and filled == (best >= 0).sum()
    order = np.argsort(own, kind="stable")
    order = order[np.isfinite(own[order])][:k]
    if len(set(own[np.isfinite(own)])) == finite:
        assert best[: len(order)].tolist() == rows[order].tolist()
        assert filled == min(k, finite)
    for place, row in enumerate(best):  # each that has a place has it by its score
        if row >= 0:
            assert (own[np.isfinite(own)] <= own[rows == row]).sum() - 1 == place


@given(
    n=st.integers(1, 400), lists=st.integers(1, 7), m=st.integers(1, 6), r=st.integers(1, 30), seed=st.integers(0, 999)
)
def test_scan_finds_the_nearest_codes_of_the_probed_lists(n, lists, m, r, seed):
    """Beside the distances to the decoded vectors: no row is better than those found, by more than the bound."""
    rng = np.random.default_rng(seed)
    d = m * 2
    centroids = rng.standard_normal((lists, d)).astype(np.float32)
    labels = np.sort(rng.integers(0, lists, n))
    x = (centroids[labels] + 0.3 * rng.standard_normal((n, d))).astype(np.float32)
    codebooks = train_codebooks(x - centroids[labels], m, 4, 0)
    codes = encode(x - centroids[labels], codebooks)
    decoded = centroids[labels] + decode(codes, codebooks, d)
    starts, packed, lanes = pack_codes(codes, np.searchsorted(labels, np.arange(lists + 1)))
    biases = ((decoded**2).sum(1) - (centroids[labels] ** 2).sum(1)).astype(np.float32)
    biases = in_lanes(biases, lanes, len(packed), np.inf)
    lane_rows = in_lanes(np.arange(n, dtype=np.int32), lanes, len(packed), -1)
    open_rows = rng.random(n) < 0.7
    queries = rng.standard_normal((5, d)).astype(np.float32)
    probes = np.array([rng.permutation(lists) for _ in range(5)])[:, : rng.integers(1, lists + 1)]
    probes[0, -1] = -1
    biases = open_biases(biases, lane_rows, open_rows)
    found = scan_lists(
        (starts, packed, biases, lane_rows), centroids, table_books(codebooks), queries, queries, probes, r
    )
    for query, own, probed in zip(queries, found, probes):
        own = own[own >= 0]
        possible = np.flatnonzero(open_rows & np.isin(labels, probed))
        assert len(set(own)) == len(own) and set(own) <= set(possible)
        assert len(own) == min(r, len(possible))
        others = np.setdiff1d(possible, own)
        if len(others):
            distances = ((query - decoded) ** 2).sum(1, dtype=np.float64)
            step, _, _ = tables_of(query, codebooks)
            assert distances[own].max() <= distances[others].min() + 2 * m * 0.5 * step + 1e-4


@given(
    n=st.integers(1, 5000), lists=st.integers(1, 3), r=st.integers(1, 60), distinct=st.sampled_from([1, 30, 10**6]),
    descending=st.booleans(), closed=st.sampled_from([0.2, 0.97]), seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60)
def test_a_scan_is_a_sort_of_the_scores_also_where_its_buffer_overflows(
    n, lists, r, distinct, descending, closed, seed
):
    """To the last bit: centroids and queries are whole numbers, so that base(q, list) has no rounding."""
    rng, m = np.random.default_rng(seed), 3
    codebooks = rng.standard_normal((m, 16, 2)).astype(np.float32)
    centroids, queries = (rng.integers(-3, 4, (rows, 2 * m)).astype(np.float32) for rows in (lists, 3))
    labels, codes = np.sort(rng.integers(0, lists, n)), rng.integers(0, 16, (n, m), dtype=np.uint8)
    values = (100 * rng.integers(0, distinct, n) / distinct).astype(np.float32)
    if descending:  # the best come last, and each block moves the limit
        values = np.sort(values)[::-1]
    values[rng.random(n) < closed] = np.inf
    starts, packed, lanes = pack_codes(codes, np.searchsorted(labels, np.arange(lists + 1)))
    biases, rows = in_lanes(values, lanes, len(packed), np.inf), np.arange(n, dtype=np.int32)
    rows = in_lanes(rows, lanes, len(packed), -1)
    probes = np.tile(rng.permutation(lists), (3, 1))
    found = scan_lists((starts, packed, biases, rows), centroids, table_books(codebooks), queries, queries, probes, r)
    for query, own in zip(queries, found):
        step, offset, tables = tables_of(query, codebooks)
        sums = tables[:, [0, 4, 2, 6]].reshape(-1, 16)[np.arange(m), codes].sum(1, dtype=np.int64)
        base = ((query - centroids[labels]) ** 2).sum(1) + offset
        scores = sums.astype(np.float32) * step + (base + values)
        own = own[own >= 0]
        assert len(set(own)) == len(own) == min(r, np.isfinite(scores).sum())
        np.testing.assert_array_equal(np.sort(scores[own]), np.sort(scores)[: len(own)])


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_four_bits_reach_the_exact_answer_with_re_ordering(metric):
    rng = np.random.default_rng(4)
    vectors, queries = rng.standard_normal((3000, 15)), rng.standard_normal((40, 15))
    true = ExactIndex(metric=metric).fit(vectors).search(queries, 10)
    recalls = []
    for rerank in (10, 60, 3000):
        index = IVFPQIndex(metric=metric, lists=20, probes=20, parts=7, bits=4, rerank=rerank).fit(vectors)
        index._scan_limit = lambda: 0
        found = index.search(queries, 10)
        recalls.append(knn_recall(found.ids, true.ids))
    assert recalls[0] < recalls[1] < recalls[2] == 1.0
    np.testing.assert_array_equal(found.distances, true.distances)


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@given(n=st.integers(1, 60), d=st.integers(1, 40), m=st.integers(1, 90), k=st.integers(1, 12), seed=st.integers(0, 999))
def test_reordering_is_exact_whatever_comes_twice(metric, n, d, m, k, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d)).astype(np.float32)[rng.integers(0, n, n)]  # copies among them
    queries, ids = rng.standard_normal((3, d)).astype(np.float32), rng.permutation(5 * n)[:n]
    rows = rng.integers(-1, n, (3, m))
    found, distances = reorder(vectors, rows, ids, queries, metric, k, rng.permutation(3), chunk=2)
    for i in range(3):
        own = np.unique(rows[i][rows[i] >= 0])
        x, q = vectors[own].astype(np.float64), queries[i].astype(np.float64)
        squares = ((x - q) ** 2).sum(1)
        order = np.lexsort((ids[own], squares))[:k]
        true = {"l2": np.sqrt(squares), "cosine": squares / 2, "ip": -x @ q}[metric][order]
        if metric != "ip":  # by l2 of the stored form, which for "ip" is not that of these vectors
            np.testing.assert_array_equal(found[i, : len(order)], ids[own][order])
            np.testing.assert_allclose(distances[i, : len(order)], true, rtol=1e-6)
        assert set(found[i, : len(order)]) == set(ids[own][order]) and (np.diff(distances[i, : len(order)]) >= 0).all()
        assert (found[i, len(order) :] == -1).all() and np.isinf(distances[i, len(order) :]).all()


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("far", [0, 6000])
def test_as_many_codes_as_asked_for_are_kept_under_a_filter(bits, far):
    """Blocks with few open rows, or none in the first ones, fill the buffer before there are enough."""
    rng = np.random.default_rng(0)
    vectors, queries = rng.standard_normal((8000, 6)), rng.standard_normal((9, 6))
    allow = far + np.sort(rng.permutation(8000 - far)[:300])
    index = IVFPQIndex(lists=2, probes=2, parts=2, bits=bits, rerank=250).fit(vectors)
    stored, open_rows = index._check_search(queries, allow)
    assert ((index._rows(stored, 10, open_rows) >= 0).sum(1) == 250).all()


@pytest.mark.parametrize("size", [0.85e19, 1e19, 1.2e19])
def test_scores_wider_than_float32_stay_within_their_buffers(size):
    """Biases from -size^2 to 3 size^2; what is written behind the buffers is seen."""
    rng, m, n, r, beyond = np.random.default_rng(0), 1, 20_000, 300, []
    codes, values = np.zeros((n, m), np.uint8), (size**2 * rng.uniform(-1, 2.75, n)).clip(-3.4e38, 3.4e38)
    starts, packed, lanes = pack_codes(codes, np.array([0, n]))
    biases = in_lanes(values.astype(np.float32), lanes, len(packed), np.inf)
    rows = in_lanes(np.arange(n, dtype=np.int32), lanes, len(packed), -1)
    guarded, first = [], buffers(r)
    for array in first:
        wide = np.full((2 * len(array), *array.shape[1:]), 77, array.dtype)
        guarded.append(wide[: len(array)])
        beyond.append(wide[len(array) :])
    found = np.full((3, r), -1, np.int64)
    books, query = np.zeros((m, 1, 16), np.float32), np.zeros((1, 1), np.float32)
    lists, order, probes = (starts, packed, biases, rows), np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    arguments = *lists, query, books, query, query, order, probes
    _scan_lists(0, 1, *arguments, found[:1], (*table_room(m, packed.shape[1]), *guarded))
    assert all((array == 77).all() for array in beyond) and (found[1:] == -1).all()
    assert sorted(found[0]) == sorted(np.argsort(biases.ravel()[lanes], kind="stable")[:r])
