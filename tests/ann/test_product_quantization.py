"""Product codes: nearest by definition, less error with more bits, the three terms, and what rotation is for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from refimpl.ann import ExactIndex, IVFPQIndex, PQIndex, knn_recall
from refimpl.ann.byte_shuffle import LANES
from refimpl.ann.codebooks import deal, decode, encode, padded, split, train_codebooks
from refimpl.ann.fast_scan import in_lanes
from refimpl.ann.kmeans import assign
from refimpl.ann.product_quantization import pack_bytes, table_sums, train_rotation


def error(x, m, bits, rotation=None):
    x = x if rotation is None else x @ rotation
    codebooks = train_codebooks(x, m, bits, 0)
    return ((x - decode(encode(x, codebooks), codebooks, x.shape[1])) ** 2).sum()


def test_codes_are_the_nearest_centroids_of_each_part():
    x = np.random.default_rng(0).standard_normal((200, 7)).astype(np.float32)
    codebooks = train_codebooks(x, 3, 4, 0)
    codes = encode(x, codebooks)
    for j, part in enumerate(split(x, 3)):
        squares = ((part[:, None] - codebooks[j]) ** 2).sum(2)
        np.testing.assert_allclose(squares[np.arange(200), codes[:, j]], squares.min(1), rtol=1e-4, atol=1e-5)
    assert decode(codes, codebooks, 7).shape == (200, 7)


def test_more_bits_and_more_parts_less_error():
    x = np.random.default_rng(1).standard_normal((3000, 12)).astype(np.float32)
    by_bits, by_parts = [error(x, 4, bits) for bits in (1, 2, 4, 6, 8)], [error(x, m, 4) for m in (1, 2, 4, 12)]
    assert (np.diff(by_bits) < 0).all() and (np.diff(by_parts) < 0).all()


def test_rotation_is_orthogonal_and_lowers_the_error():
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((3000, 8)) * [8, 8, 1, 1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    rotation = train_rotation(x, 4, 4, 0)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(8), atol=1e-5)
    assert error(x, 4, 4, rotation) < 0.8 * error(x, 4, 4)


@njit
def sums_of(codes, block, table, base, biases, out):
    table_sums(codes, block, table, base, biases, out)


@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 256), st.integers(0, 9999)
)
def test_blocks_hold_every_code_and_their_sums_are_those_of_the_tables(sizes, parts, entries, seed):
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    codes = rng.integers(0, entries, (starts[-1], parts)).astype(np.uint8)
    block_starts, packed, lanes = pack_bytes(codes, starts)
    assert packed.shape == (block_starts[-1], parts, LANES) and len(np.unique(lanes)) == len(codes)
    for list_, size in enumerate(sizes):  # in its own blocks, no more than it needs
        own = lanes[starts[list_] : starts[list_ + 1]] // LANES
        assert block_starts[list_ + 1] - block_starts[list_] == -(-size // LANES)
        assert (own >= block_starts[list_]).all() and (own < block_starts[list_ + 1]).all()
    table = rng.standard_normal((parts, entries)).astype(np.float32)
    biases = in_lanes(rng.standard_normal(len(codes)).astype(np.float32), lanes, len(packed), np.inf)
    out = np.empty_like(biases)
    for block in range(len(packed)):
        sums_of(packed, block, table, np.float32(0.5), biases, out[block])
    expected = np.float32(0.5) + biases.ravel()[lanes]
    for j in range(parts):  # float32 in this order: the same bits
        expected += table[j, codes[:, j]]
    np.testing.assert_array_equal(out.ravel()[lanes], expected)
    assert np.isinf(np.delete(out.ravel(), lanes)).all()


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_best_codes_are_those_whose_decoded_vectors_are_nearest(bits):
    """The three terms against the distance to centroid + decoded residual, for any number of the best."""
    rng = np.random.default_rng(3)
    vectors, queries = rng.standard_normal((700, 6)).astype(np.float32), rng.standard_normal((5, 6)).astype(np.float32)
    index = IVFPQIndex(lists=7, parts=3, bits=bits, rotation="opq").fit(vectors)
    own = (queries - index._center) @ index._rotation
    labels = assign(vectors - index._center, index._centroids @ index._rotation.T)
    residuals = (vectors - index._center) @ index._rotation - index._centroids[labels]
    decoded = index._centroids[labels] + decode(encode(residuals, index._codebooks), index._codebooks, 6)
    squared = ((own[:, None] - decoded) ** 2).sum(2)
    is_open = rng.random(700) < 0.7
    for probes in (np.tile(np.arange(7), (5, 1)), np.array([[3, -1]] * 5)):
        looked_at = is_open & np.isin(labels, probes)
        for r in (1, 10, 100, 700):
            found = index._scan_codes(own, probes, is_open, r)
            for query in range(5):
                rows = found[query][found[query] >= 0]
                assert len(rows) == len(set(rows)) == min(r, looked_at.sum()) and looked_at[rows].all()
                last = np.sort(squared[query, looked_at])[len(rows) - 1]
                slack = 0.05 if bits <= 4 else 1e-4  # tables of bytes
                assert (squared[query, rows] <= last + slack * squared[query].max()).all()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_reranking_reaches_the_exact_answer(metric):
    rng = np.random.default_rng(4)
    vectors, queries = rng.standard_normal((3000, 16)), rng.standard_normal((40, 16))
    true = ExactIndex(metric=metric).fit(vectors).search(queries, 10)
    for kind, lists in ((PQIndex, {}), (IVFPQIndex, {"lists": 20, "probes": 20})):
        indexes = [kind(metric=metric, parts=4, bits=5, rerank=r, **lists).fit(vectors) for r in (10, 100, 3000)]
        for index in indexes:
            index._scan_limit = lambda: 0
        recalls = [knn_recall(index.search(queries, 10).ids, true.ids) for index in indexes]
        assert recalls[0] < recalls[1] < recalls[2] == 1.0
        np.testing.assert_array_equal(indexes[2].search(queries, 10).distances, true.distances)


def test_parts_of_four_bits_are_not_more_than_their_sum_has_room_for():
    for kind in (PQIndex, IVFPQIndex):
        with pytest.raises(ValueError, match="^parts: expected .* got 513"):
            kind(parts=513, bits=4)
        assert kind(parts=513, bits=5).parts == 513


@pytest.mark.parametrize("bits", [4, 5])
def test_a_rotation_finds_more_with_codes_as_long(bits):
    x = np.random.default_rng(5).standard_normal((3040, 8)) * [8, 8, 1, 1, 0.1, 0.1, 0.1, 0.1]
    vectors, queries, recalls = x[:3000], x[3000:], []
    true = ExactIndex().fit(vectors).search(queries, 10).ids
    for rotation in ("none", "opq"):
        index = IVFPQIndex(lists=4, probes=4, parts=4, bits=bits, rotation=rotation, rerank=10).fit(vectors)
        index._scan_limit = lambda: 0
        recalls.append(knn_recall(index.search(queries, 10).ids, true))
    assert recalls[0] < recalls[1]


@given(d=st.integers(1, 60), seed=st.integers(0, 99), data=st.data())
def test_parts_differ_by_one_coordinate_at_most(d, seed, data):
    """Also where their number does not divide d: none codes nothing."""
    m = data.draw(st.integers(1, d))
    x = np.random.default_rng(seed).permutation(np.arange(1, 5 * d + 1)).reshape(5, d).astype(np.float32)
    parts, wide = split(x, m), padded(x, m)
    assert parts.shape == (m, 5, -(-d // m)) and wide.shape == (5, m * -(-d // m))
    np.testing.assert_array_equal(wide, np.concatenate(list(parts), 1))
    assert set((parts > 0).sum(2).ravel()) <= {d // m, -(-d // m)}
    np.testing.assert_array_equal(wide[wide > 0].reshape(5, d), x)  # in order
    assert ((np.diff((parts > 0).astype(int), axis=2)) <= 0).all()  # zeros at the end
    codes = np.tile(np.arange(5, dtype=np.uint8)[:, None], m)
    np.testing.assert_array_equal(decode(codes, parts, d), x)
    assert sorted(deal(np.random.default_rng(seed).random(d), m)) == list(range(d))


def test_more_parts_less_error_also_where_they_do_not_divide_the_dimension():
    x = np.random.default_rng(6).standard_normal((3000, 17)).astype(np.float32)
    assert (np.diff([error(x, m, 4) for m in (4, 7, 9, 12, 16, 17)]) < 0).all()
