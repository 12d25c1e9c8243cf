"""The flat scan of sign codes: its order by counting bits, the codes by their definition, and what the mean is for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, HammingIndex, knn_recall
from refimpl.ann.bits import pack_lanes
from refimpl.ann.hamming import LANES, block_codes, random_directions, scan_codes, sign_codes

from .indexes import near_a_plane, normal, structured


def unlike_bits(queries, codes):
    """(queries, codes) int64, bit by bit."""
    return np.unpackbits(np.ascontiguousarray(queries[:, None] ^ codes).view(np.uint8), axis=2).sum(2, dtype=int)


@settings(max_examples=40)
@given(
    n=st.integers(1, 5000), words=st.integers(1, 3), distinct=st.sampled_from([1, 4, 10**6]), k=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.05, 0.6, 1.0]), descending=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_scan_is_a_sort_by_unlike_bits_and_then_by_row(n, words, distinct, k, share, descending, seed):
    """More rows than a tile, more queries than a chunk; `descending`: the best come last, and the limit moves on."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 2**64, (min(distinct, n), words), dtype=np.uint64)
    codes = pool[rng.integers(0, len(pool), n)]
    queries = pool[rng.integers(0, len(pool), 20)] ^ (np.uint64(1) << rng.integers(0, 64, (20, words), dtype=np.uint64))
    if descending:
        codes = codes[np.argsort(-unlike_bits(queries[:1], codes)[0], kind="stable")]
    is_open, blocks = rng.random(n) < share, block_codes(codes)
    lanes = np.zeros(len(blocks) * LANES, bool)
    lanes[:n] = is_open
    rows, distances = scan_codes(blocks, pack_lanes(lanes.reshape(-1, LANES)), queries, k)
    counts, open_rows = unlike_bits(queries, codes), np.flatnonzero(is_open)
    for i in range(len(queries)):
        best = open_rows[np.argsort(counts[i, open_rows], kind="stable")][:k]
        assert rows[i, : len(best)].tolist() == best.tolist()
        assert distances[i, : len(best)].tolist() == counts[i, best].tolist()
        assert (rows[i, len(best) :] == -1).all() and (distances[i, len(best) :] == 64 * words + 1).all()


@settings(max_examples=30)
@given(n=st.integers(0, 40), d=st.integers(1, 20), bits=st.integers(1, 150), seed=st.integers(0, 999))
def test_a_code_is_the_signs_of_the_projections(n, d, bits, seed):
    vectors, directions = normal(n, d, seed), random_directions(d, bits, seed)
    codes = sign_codes(vectors, directions)
    assert codes.dtype == np.uint64 and codes.shape == (n, -(-bits // 64))
    found = np.array([[int(word) >> i & 1 for word in code for i in range(64)] for code in codes], int)
    found = found.reshape(n, 64 * codes.shape[1])
    along = vectors.astype(np.float64) @ directions
    clear = np.abs(along) > 1e-4
    assert (found[:, :bits] == (along >= 0))[clear].all() and not found[:, bits:].any()


@settings(max_examples=30)
@given(d=st.integers(1, 30), bits=st.integers(1, 100), seed=st.integers(0, 99))
def test_directions_are_orthonormal_within_each_group_of_d(d, bits, seed):
    directions = random_directions(d, bits, seed).astype(np.float64)
    assert directions.shape == (d, bits)
    for first in range(0, bits, d):
        group = directions[:, first : first + d]
        np.testing.assert_allclose(group.T @ group, np.eye(group.shape[1]), atol=1e-5)


@settings(max_examples=6)
@given(seed=st.integers(0, 999), away=st.sampled_from([16, 64]))
def test_codes_are_of_what_differs_from_the_mean(seed, away):
    """On one side of the origin all signs would agree. Numbers are multiples of 2^-10: to move them rounds nothing."""
    data = np.round(near_a_plane(3060, seed) * 1024) / 1024
    recalls = []
    for moved in (data, data + np.float32(away)):
        vectors, queries = moved[:3000], moved[3000:]
        index = structured(HammingIndex(rerank=100).fit(vectors))
        recalls.append(knn_recall(index.search(queries, 10).ids, ExactIndex().fit(vectors).search(queries, 10).ids))
    assert recalls[0] > 0.5 and recalls[1] > recalls[0] - 0.05, recalls
