"""Product codes: nearest by definition, less error with more bits, the three terms, and what rotation is for."""

import numpy as np
import pytest

from refimpl.ann import ExactIndex, IVFPQIndex, PQIndex, knn_recall
from refimpl.ann.codebooks import decode, encode, split, train_codebooks
from refimpl.ann.product_quantization import scan_books, scan_codes, train_rotation


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


def test_three_terms_are_the_distance_to_the_decoded_vector():
    rng = np.random.default_rng(3)
    vectors, queries = rng.standard_normal((300, 6)).astype(np.float32), rng.standard_normal((5, 6)).astype(np.float32)
    index = IVFPQIndex(lists=7, parts=3, bits=5, rotation="opq").fit(vectors)
    residuals = decode(index._codes, index._codebooks, 6)
    labels = np.repeat(np.arange(7), np.diff(index._starts))
    own = (queries - index._center) @ index._rotation
    expected = ((own[:, None] - (index._centroids[labels] + residuals)) ** 2).sum(2)
    lists = index._starts, index._codes, index._term2, index._code_rows
    probes = np.tile(np.arange(7), (5, 1))
    _, squared = scan_codes(
        *lists, np.ones(300, bool), index._centroids, scan_books(index._codebooks), own, probes, 300
    )
    np.testing.assert_allclose(squared, np.sort(expected, 1), rtol=1e-4, atol=1e-4)


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
