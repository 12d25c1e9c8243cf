"""The order of the lists: windows by code, sorted by distance, more appended to fewer; codes find the nearest."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann.codebooks import decode, encode, padded, train_codebooks
from refimpl.ann.fast_scan import in_lanes, pack_codes, table_books
from refimpl.ann.list_ranking import WINDOW, CodedCentroids, code_centroids, rank_lists
from refimpl.ann.lists import as_one_list, nearest_centroids


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@given(lists=st.integers(1, 200), d=st.integers(1, 9), m=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_more_lists_are_appended_and_windows_are_sorted(lists, d, m, seed):
    centroids, queries, m = normal(lists, d, seed), normal(4, d, seed + 1), min(m, d)
    books = train_codebooks(centroids, m, 4, 0)
    codes = encode(centroids, books)
    decoded = decode(codes, books, d)
    _, packed, lanes = pack_codes(codes, np.array([0, lists]))
    biases = in_lanes((decoded**2).sum(1), lanes, len(packed), np.inf)

    def rank(p):
        return rank_lists(
            CodedCentroids(np.eye(d, dtype=np.float32), table_books(books), packed, biases), centroids, queries, p
        )

    order = rank(lists)
    assert (np.sort(order, 1) == np.arange(lists)).all()
    for p in range(1, lists, 7):
        np.testing.assert_array_equal(rank(p), order[:, :p])
    for query, own in zip(queries, order):
        distances = ((query - centroids[own]) ** 2).sum(1)
        starts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(distances) < -1e-5)])  # of windows, but for chance
        least, by_code = 0, ((query - decoded[own]) ** 2).sum(1)
        off = m * np.ptp(-2 * np.einsum("mw,mcw->mc", padded(query[None], m).reshape(m, -1), books), axis=1).max() / 127
        for start in starts:
            assert start >= least
            least = 2 * least + WINDOW
            if 0 < start:
                assert by_code[:start].max() <= by_code[start:].min() + off + 1e-4


@given(
    lists=st.integers(1, 60), d=st.integers(1, 5), scale=st.sampled_from([1e15, 1e19, 1e25, 1e37]),
    asked=st.sampled_from([1.0, 1e25, 1e37]), seed=st.integers(0, 99),
)  # fmt: skip
def test_no_list_is_lost_where_scores_overflow(lists, d, scale, asked, seed):
    centroids, queries = normal(lists, d, seed), normal(5, d, seed + 1) * np.float32(asked)
    centroids[:: 1 + seed % 3] *= np.float32(scale)
    coded = code_centroids(centroids, 0)
    order = rank_lists(coded, centroids, queries, lists)
    assert (np.sort(order, 1) == np.arange(lists)).all()
    np.testing.assert_array_equal(rank_lists(coded, centroids, queries, (lists + 1) // 2), order[:, : (lists + 1) // 2])


@given(lists=st.integers(1, WINDOW), d=st.integers(1, 70), seed=st.integers(0, 99))
def test_few_lists_are_all_measured(lists, d, seed):
    centroids, queries = normal(lists, d, seed), normal(5, d, seed + 1)
    exact = nearest_centroids(as_one_list(centroids), queries, lists)
    np.testing.assert_array_equal(rank_lists(code_centroids(centroids, 0), centroids, queries, lists), exact)


def test_codes_find_the_nearest_lists():
    rng = np.random.default_rng(0)
    centroids, queries = np.split((rng.standard_normal((700, 12)) @ rng.standard_normal((12, 80))).astype("f4"), [600])
    exact = nearest_centroids(as_one_list(centroids), queries, 12)
    coded = code_centroids(centroids, 0)
    assert coded.axes.shape[1] < 30
    for p, least in ((1, 0.99), (4, 0.97), (12, 0.9)):
        found = rank_lists(coded, centroids, queries, p)
        assert np.mean([len(set(a) & set(b)) for a, b in zip(found, exact[:, :p])]) > least * p
