"""ScaNN: the second list by definition, what is stored with a code, and the whole index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import ExactIndex, ScaNNIndex, knn_recall, tune
from refimpl.ann.codebooks import decode
from refimpl.ann.soar import second_lists


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def structured(index):
    index._scan_limit = lambda: 0  # never scans where it has a structure
    return index


@given(
    n=st.integers(1, 60), d=st.integers(1, 8), lists=st.integers(2, 40), seed=st.integers(0, 99),
    weight=st.floats(0, 5) | st.sampled_from([1e3, 1e308]),
)  # fmt: skip
@settings(max_examples=40)
def test_second_list_has_the_least_loss(n, d, lists, weight, seed):
    x, centroids = normal(n, d, seed), normal(lists, d, seed + 1)
    if weight == 1e308:
        x, centroids = 1e3 * x, 1e3 * centroids
    x[: n // 4] = centroids[np.arange(n // 4) % lists]  # on a centroid
    squares = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2)
    labels = squares.argmin(1)
    r = x - centroids[labels].astype(np.float64)
    inner, norm = np.einsum("ild,id->il", x[:, None] - centroids.astype(np.float64), r), (r**2).sum(1, keepdims=True)
    with np.errstate(over="ignore"):
        loss = squares + weight * np.divide(inner**2, norm, out=np.zeros_like(inner), where=norm > 0)
    loss[np.arange(n), labels] = np.inf
    second = second_lists(x, centroids, labels, weight)
    assert (second != labels).all() and (second >= 0).all()
    if weight < 1e308:  # which is beyond float64, for all
        np.testing.assert_allclose(loss[np.arange(n), second], loss.min(1), rtol=1e-6, atol=1e-9)


def test_soar_residuals_are_less_parallel_than_those_of_the_next_list():
    x, centroids = normal(2000, 12, 0), normal(64, 12, 1)
    labels = ((x[:, None] - centroids) ** 2).sum(2).argmin(1)

    def cosine(second):
        r, s = x - centroids[labels], x - centroids[second]
        return np.abs((r * s).sum(1) / np.linalg.norm(r, axis=1) / np.linalg.norm(s, axis=1)).mean()

    assert cosine(second_lists(x, centroids, labels, 2.0)) < 0.8 * cosine(second_lists(x, centroids, labels, 0.0))


def codes_of(index, n_parts):
    """The codes of an index as they lie in its blocks -> rows (any,), -1 for none, codes (any, n_parts)."""
    packed = index._codes.reshape(-1, index._codes.shape[1], 2, 16, 2)  # block, quad, pair, lane of 16, half
    nibbles = np.stack([packed & 15, packed >> 4], -1).transpose(0, 4, 3, 1, 2, 5)
    rows = index._code_rows.ravel()
    return rows, nibbles.reshape(len(rows), -1)[:, :n_parts]


@pytest.mark.parametrize("parts", [None, 5])
def test_a_score_is_the_distance_to_what_a_code_stands_for(parts):
    """|q - c|^2 - 2 q.r~ + bias = |q - c - r~|^2, with r~ turned back from the axes."""
    vectors, queries = normal(500, 10, 0) * np.float32(2.0) ** -np.arange(10), normal(6, 10, 1)
    index = ScaNNIndex(lists=9, parts=parts).fit(vectors)
    labels = np.repeat(np.arange(9), 32 * np.diff(index._starts))
    rows, codes = codes_of(index, len(index._codebooks))
    real, biases = rows >= 0, index._biases.ravel().astype(np.float64)
    assert sorted(rows[real]) == list(range(500)) and np.isinf(biases[~real]).all()
    c = index._centroids[labels[real]].astype(np.float64)
    coded = decode(codes[real], index._codebooks, index._axes.shape[1]) @ index._axes.T.astype(np.float64)
    for q in queries - index._center.astype(np.float64):
        score = ((q - c) ** 2).sum(1) - 2 * coded @ q + biases[real]
        np.testing.assert_allclose(score, ((q - c - coded) ** 2).sum(1), atol=1e-5)
    x = vectors[rows[real]] - index._center.astype(np.float64)
    assert ((x - c - coded) ** 2).sum() < 0.25 * ((x - c) ** 2).sum()


def errors(vectors, threshold, seed):
    """Mean squares of the error along the vectors, and of all of it. One list: what is coded are the vectors."""
    index = ScaNNIndex(lists=1, parts=24, threshold=threshold, seed=seed).fit(vectors)
    rows, codes = codes_of(index, len(index._codebooks))
    real = rows >= 0
    coded = decode(codes[real], index._codebooks, index._axes.shape[1]) @ index._axes.T.astype(np.float64)
    x = vectors[rows[real]] - index._center.astype(np.float64)
    r = x - index._centroids[0] - coded
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    return ((r * u).sum(1) ** 2).mean(), (r**2).sum(1).mean()


@given(seed=st.integers(0, 99))
@settings(max_examples=3)
def test_the_threshold_trades_error_across_for_error_along(seed):
    vectors = normal(2500, 48, seed)
    plain, mild, strong = (errors(vectors, threshold, seed) for threshold in (None, 0.2, 0.5))
    assert strong[0] < 0.7 * plain[0] and strong[0] < mild[0] < 0.97 * plain[0]
    assert plain[1] < strong[1] < 2 * plain[1]


def test_in_few_dimensions_the_usual_threshold_is_the_plain_loss():
    """eta = max(1, (d - 1) T^2 / (1 - T^2)) is 1 at T = 0.2 up to d = 25."""
    vectors = normal(800, 24, 0)
    plain, usual, strict = (ScaNNIndex(lists=4, threshold=threshold).fit(vectors) for threshold in (None, 0.2, 0.6))
    for name in ("_codebooks", "_codes"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(usual, name))
    assert (strict._codebooks != plain._codebooks).any()


def test_fewer_parts_do_for_vectors_near_few_dimensions():
    rng = np.random.default_rng(3)
    inner = rng.standard_normal((40, 8))[rng.integers(0, 40, 6100)] + 0.5 * rng.standard_normal((6100, 8))
    data = inner @ rng.standard_normal((8, 64)) + 0.05 * rng.standard_normal((6100, 64))
    data = data.astype(np.float32)
    vectors, queries = data[:6000], data[6000:]
    true = ExactIndex().fit(vectors).search(queries, 10).ids
    index = structured(ScaNNIndex(lists=40, probes=10, rerank=30).fit(vectors))
    assert len(index._codebooks) <= 12
    assert knn_recall(index.search(queries, 10).ids, true) > 0.97


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("spill", [None, 1.0])
def test_the_whole_budget_is_exact_and_a_larger_one_never_worse(metric, spill):
    vectors, queries = normal(2500, 12, 0), normal(50, 12, 1)
    true = ExactIndex(metric=metric).fit(vectors).search(queries, 10)
    index = structured(ScaNNIndex(metric=metric, lists=40, spill=spill, rerank=5000).fit(vectors))
    before = np.zeros(50)
    for probes in (1, 2, 5, 12, 40):
        index.probes = probes
        found = index.search(queries, 10)
        hits = np.array([len(set(a) & set(b)) for a, b in zip(found.ids, true.ids)])
        assert (hits >= before).all()
        before = hits
    np.testing.assert_array_equal(found.ids, true.ids)
    np.testing.assert_array_equal(found.distances, true.distances)
    index.rerank, index.probes = 10, 8
    few = knn_recall(index.search(queries, 10).ids, true.ids)
    index.rerank = 60
    assert 0.15 < few < knn_recall(index.search(queries, 10).ids, true.ids)


def test_spilling_finds_more_in_as_many_lists():
    rng = np.random.default_rng(2)
    data = (rng.standard_normal((12_200, 6)) @ rng.standard_normal((6, 24))).astype(np.float32)
    vectors, queries = data[:12_000], data[12_000:]
    true = ExactIndex().fit(vectors).search(queries, 10).ids
    recalls = [
        knn_recall(ScaNNIndex(lists=200, spill=spill, probes=2, rerank=100).fit(vectors).search(queries, 10).ids, true)
        for spill in (None, 1.0)
    ]
    assert recalls[1] > recalls[0] + 0.03


@pytest.mark.parametrize("spill", [None, 1.5])
@given(data=st.data())
@settings(max_examples=15)
def test_nothing_is_lost_or_comes_twice(spill, data):
    n, d, copies = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    seed, k = data.draw(st.integers(0, 99)), data.draw(st.integers(1, 90))
    rng = np.random.default_rng(seed)
    vectors = np.repeat(normal(n, d, seed), copies, 0)
    ids = rng.permutation(len(vectors))
    index = ScaNNIndex(lists=data.draw(st.integers(1, 9)), probes=1, rerank=1, spill=spill, seed=seed)
    structured(index).fit(vectors, ids)
    index.add(vectors[:1], [5000])
    gone = ids[rng.random(len(ids)) < data.draw(st.sampled_from([0.0, 0.3]))]
    index.remove(gone)
    live = np.setdiff1d(np.append(ids, 5000), gone)
    found = index.search(normal(3, d, seed + 1), k)
    for row, near in zip(found.ids, found.distances):
        own = row[row >= 0]
        assert len(own) == min(k, len(live)) and len(set(own)) == len(own) and set(own) <= set(live)
        assert (np.diff(near[: len(own)]) >= 0).all()


@pytest.mark.parametrize("spill", [None, 1.0])
def test_one_list_and_equal_codebooks_are_the_plain_scan(spill):
    """With one list there is no second one: the same answers as without spilling."""
    vectors, queries = normal(900, 8, 3), normal(20, 8, 4)
    plain = ScaNNIndex(lists=1, rerank=12).fit(vectors).search(queries, 10)
    found = ScaNNIndex(lists=1, rerank=12, spill=spill).fit(vectors).search(queries, 10)
    np.testing.assert_array_equal(found.ids, plain.ids)


def test_bad_settings_are_named_and_the_rest_is_saved(tmp_path):
    for name, value in (("threshold", 1.0), ("threshold", 0), ("spill", -1.0), ("parts", 513), ("lists", 0)):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            ScaNNIndex(**{name: value})
    vectors = normal(3000, 8, 5)
    index = ScaNNIndex(lists=30, spill=1.0, threshold=None).fit(vectors)
    result = tune(index, vectors[:40], 0.9, budgets={"probes": (1, 4, 30), "rerank": (10, 60)}, rounds=1)
    index.save(tmp_path / "index")
    again = ScaNNIndex.load(tmp_path / "index")
    assert {"probes": again.probes, "rerank": again.rerank} == result.best.parameters
    np.testing.assert_array_equal(again.search(vectors[:9], 5).distances, index.search(vectors[:9], 5).distances)
