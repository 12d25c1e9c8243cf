"""k-means: labels by definition, inertia that never rises, when it ends, empty clusters, duplicates, determinism."""

import sys

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refimpl.ann import kmeans, mini_batch_kmeans, nearest_centroid
from refimpl.ann.nearest_centroid import Labelling


def inertia_by_definition(x, centroids, labels):
    return ((x.astype(np.float64) - centroids[labels]) ** 2).sum()


@settings(max_examples=40)
@given(n=st.integers(1, 300), d=st.integers(1, 8), seed=st.integers(0, 999), data=st.data())
def test_labels_are_the_nearest_centroids_and_inertia_never_rises(n, d, seed, data):
    start, offset = data.draw(st.sampled_from(["k-means++", "random"])), data.draw(st.sampled_from([0, 1000]))
    k = data.draw(st.integers(1, min(n, 70)))
    x = (offset + np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)
    before = np.inf
    for max_iter in (0, 1, 2, 5, 20):
        found = kmeans(x, k, init=start, max_iter=max_iter, tol=0, seed=seed)
        assert found.centroids.shape == (k, d) and found.labels.shape == (n,) and found.n_iter <= max_iter
        inertia = inertia_by_definition(x, found.centroids, found.labels)
        assert found.inertia == pytest.approx(inertia, rel=1e-4, abs=1e-3)
        squares = ((x[:, None].astype(np.float64) - found.centroids) ** 2).sum(2)
        slack = 1e-5 * (1 + squares.max())
        assert (squares[np.arange(n), found.labels] <= squares.min(1) + slack).all()
        assert found.inertia <= before * (1 + 1e-6) + 1e-6
        before = found.inertia


@settings(max_examples=40)
@given(
    n=st.integers(50, 400), d=st.integers(1, 5), k=st.integers(2, 20), power=st.integers(-6, 1),
    scale=st.sampled_from([1e-3, 1, 1e3]), seed=st.integers(0, 999),
)  # fmt: skip
def test_it_ends_when_the_centroids_move_by_tol_times_the_variance(n, d, k, power, scale, seed):
    x = (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)
    most, tol = 15, 10.0**power
    path = [kmeans(x, k, init=x[:k], max_iter=i, tol=0) for i in range(most + 1)]
    moves = np.array([((b.centroids.astype(float) - a.centroids) ** 2).sum() for a, b in zip(path, path[1:])])
    least = tol * x.var(0, dtype=np.float64).mean()
    assume((np.abs(moves - least) > 0.01 * least).all())  # no move is at the limit
    settled = path[-1].n_iter  # where no label changes any more, or `most`
    small = np.flatnonzero(moves[:settled] <= least)
    found = kmeans(x, k, init=x[:k], max_iter=most, tol=tol)
    assert found.n_iter == (small[0] + 1 if len(small) else settled)
    np.testing.assert_array_equal(found.centroids, path[found.n_iter].centroids)


def test_a_cluster_without_vectors_is_moved():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((50, 2)), 100 + rng.standard_normal((50, 2))])
    init = np.array([[0.0, 0], [1e4, 1e4], [-1e4, 1e4]])  # the last two are nobody's nearest
    found = kmeans(x, 3, init=init)
    assert set(found.labels) == {0, 1, 2} and found.inertia < 400


@given(st.integers(1, 4), st.integers(5, 40), st.integers(0, 99))
def test_fewer_distinct_vectors_than_clusters(distinct, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((distinct, 3))[rng.integers(0, distinct, n)].astype(np.float32)
    found = kmeans(x, 5, seed=seed)
    assert found.inertia < 1e-10 and np.isfinite(found.centroids).all()
    assert len(set(found.labels)) == len(np.unique(x, axis=0))


def test_the_same_bits_at_any_number_of_threads():
    x = np.random.default_rng(1).standard_normal((3000, 7))
    one, two = (kmeans(x, 40, seed=3, threads=threads) for threads in (1, None))
    assert np.array_equal(one.centroids, two.centroids) and one.inertia == two.inertia
    assert not np.array_equal(one.centroids, kmeans(x, 40, seed=4).centroids)


@pytest.mark.parametrize("method", [kmeans, mini_batch_kmeans])
@pytest.mark.parametrize("threads", [None, 1])
def test_the_threads_are_those_that_were_asked_for(method, threads, monkeypatch):
    module, before, seen = sys.modules["refimpl.ann.kmeans"], numba.get_num_threads(), set()
    group = module.group_by_label
    monkeypatch.setattr(module, "group_by_label", lambda *args: seen.add(numba.get_num_threads()) or group(*args))
    method(np.random.default_rng(0).standard_normal((50, 3)), 4, threads=threads)
    assert seen == {threads or before} and numba.get_num_threads() == before


def test_plus_plus_starts_better_than_random_rows():
    rng = np.random.default_rng(2)
    x = 50 * rng.standard_normal((30, 4))[rng.integers(0, 30, 2000)] + rng.standard_normal((2000, 4))
    plus, random = (
        np.mean([kmeans(x, 30, init=init, max_iter=5, seed=seed).inertia for seed in range(5)])
        for init in ("k-means++", "random")
    )
    assert plus < 0.5 * random and plus < 4 * 2000 * 1.3


def test_spherical_centroids_have_unit_length():
    x = np.random.default_rng(3).standard_normal((500, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = kmeans(x, 9, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-6)
    assert np.array_equal(found.labels, np.argmax(x.astype(np.float32) @ found.centroids.T, 1))


@settings(max_examples=20)
@given(n=st.integers(5, 300), d=st.integers(2, 8), seed=st.integers(0, 999), data=st.data())
def test_spherical_inertia_never_rises_either(n, d, seed, data):
    x = np.random.default_rng(seed).standard_normal((n, d))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    k, before = data.draw(st.integers(1, min(n, 30))), np.inf
    for max_iter in (0, 1, 2, 5, 20):
        found = kmeans(x, k, max_iter=max_iter, tol=0, seed=seed, spherical=True)
        np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)
        inertia = inertia_by_definition(x, found.centroids, found.labels)
        assert inertia <= before * (1 + 1e-5) + 1e-5
        before = inertia


@settings(max_examples=60)
@given(
    n=st.integers(1, 200), k=st.integers(1, 90), d=st.integers(1, 24), depth=st.integers(1, 24),
    seed=st.integers(0, 999), kind=st.sampled_from(["grid", "normal", "offset", "far apart"]),
)  # fmt: skip
def test_whatever_the_axes_and_the_guess_labels_are_the_nearest(n, k, d, depth, seed, kind):
    rng = np.random.default_rng(seed)
    x, centroids = rng.standard_normal((n, d)), rng.standard_normal((k, d))
    if kind == "grid":  # sums of small integers: exact, with ties and centroids that coincide
        x, centroids = rng.integers(-2, 3, (n, d)), rng.integers(-2, 3, (k, d))
    elif kind == "offset":
        x, centroids = 1000 + x, 1000 + centroids
    elif kind == "far apart":  # scores of 10^6 hide what makes the difference
        x, centroids = (y * 0.01 + 1000 * rng.choice([-1, 1], (len(y), 1)) for y in (x, centroids))
    x, centroids = x.astype(np.float32), centroids.astype(np.float32)
    vectors = Labelling(x, centroids)
    vectors.axes = np.linalg.qr(rng.standard_normal((d, min(d, depth))))[0]
    vectors.projected = nearest_centroid.whole_tiles(nearest_centroid.project(x - vectors.center, vectors.axes))
    labels, distances = vectors.nearest(centroids)
    guessed, _ = vectors.nearest(centroids, rng.integers(0, k, n).astype(np.int32))
    squares = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2)
    np.testing.assert_allclose(distances, squares[np.arange(n), labels], rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(distances, squares.min(1), rtol=1e-5, atol=1e-30)
    if kind == "grid":
        np.testing.assert_array_equal(labels, squares.argmin(1))
    np.testing.assert_array_equal(guessed, labels)


def low_dimensional(n, seed):
    rng = np.random.default_rng(seed)
    centers = 4 * rng.standard_normal((30, 5))
    inner = centers[rng.integers(0, 30, n)] + rng.standard_normal((n, 5))
    return (inner @ rng.standard_normal((5, 32)) + 0.01 * rng.standard_normal((n, 32))).astype(np.float32)


def test_with_axes_k_means_is_lloyds(monkeypatch):
    x = low_dimensional(4000, 5)
    plain = kmeans(x, 40, seed=1, tol=0, max_iter=12)
    monkeypatch.setattr(nearest_centroid, "FEW", 0)
    assert Labelling(x, x[:40]).axes.shape == (32, 8)
    bounded = kmeans(x, 40, seed=1, tol=0, max_iter=12)
    one = kmeans(x, 40, seed=1, tol=0, max_iter=12, threads=1)
    assert np.array_equal(one.centroids, bounded.centroids) and np.array_equal(one.labels, bounded.labels)
    np.testing.assert_array_equal(bounded.labels, plain.labels)
    assert bounded.n_iter == plain.n_iter and bounded.inertia == pytest.approx(plain.inertia, rel=1e-6)
    # Lloyd, as it is written, from the same start
    centroids = kmeans(x, 40, seed=1, max_iter=0).centroids.astype(np.float64)
    for _ in range(12):
        labels = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2).argmin(1)
        centroids = np.array([x[labels == c].mean(0, dtype=np.float64) for c in range(40)])
    assert bounded.inertia == pytest.approx(
        ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2).min(1).sum(), rel=1e-4
    )


@pytest.mark.parametrize("power", [-120, -60, 50, 100])
def test_a_power_of_two_changes_no_digit(power):
    x = np.random.default_rng(6).standard_normal((300, 5)).astype(np.float32)
    plain, scaled = kmeans(x, 7), kmeans(np.ldexp(x, power), 7)
    np.testing.assert_array_equal(scaled.labels, plain.labels)
    np.testing.assert_array_equal(np.ldexp(scaled.centroids, -power), plain.centroids)
    assert np.ldexp(scaled.inertia, -2 * power) == pytest.approx(plain.inertia, rel=1e-6)


@given(st.integers(1, 60), st.sampled_from([kmeans, mini_batch_kmeans]), st.sampled_from(["k-means++", "random"]))
def test_edges(n, method, init):
    rng = np.random.default_rng(n)
    line = rng.permutation(n)[:, None].astype(np.float32)
    all_own = method(line, n, init=init)  # k = n, d = 1
    assert all_own.inertia == 0 and len(set(all_own.labels)) == n
    constant = method(np.full((n, 3), 0.1), max(1, n // 2), init=init)
    assert constant.inertia == 0 and (constant.labels == 0).all()
    one = method(line, 1, init=init)
    assert one.inertia == pytest.approx(((line - line.mean()) ** 2).sum(), rel=1e-4, abs=1e-6)


def test_mini_batches_come_near_to_lloyd():
    x = low_dimensional(6000, 7)
    full = kmeans(x, 30, max_iter=50).inertia
    batches = mini_batch_kmeans(x, 30, batch=300, max_iter=60)
    start = mini_batch_kmeans(x, 30, batch=300, max_iter=0)
    assert full * 0.98 <= batches.inertia <= 1.15 * full and batches.inertia < 0.9 * start.inertia
    assert batches.inertia == pytest.approx(inertia_by_definition(x, batches.centroids, batches.labels), rel=1e-4)
    again = mini_batch_kmeans(x, 30, batch=300, max_iter=60, threads=1)
    np.testing.assert_array_equal(again.centroids, batches.centroids)


def test_one_mini_batch_of_all_rows_is_an_iteration_and_two_weigh_them_twice():
    x, init = low_dimensional(500, 8), low_dimensional(500, 8)[:9]
    one, two = (mini_batch_kmeans(x, 9, init=init, batch=500, max_iter=m) for m in (1, 2))
    lloyd = kmeans(x, 9, init=init, max_iter=1, tol=0)
    np.testing.assert_allclose(one.centroids, lloyd.centroids, rtol=1e-5, atol=1e-5)
    before = kmeans(x, 9, init=init, max_iter=0).labels
    counts = [np.bincount(labels, minlength=9)[:, None] for labels in (before, one.labels)]
    means = np.array([x[one.labels == c].mean(0) for c in range(9)])
    expected = (counts[0] * one.centroids + counts[1] * means) / (counts[0] + counts[1])
    np.testing.assert_allclose(two.centroids, expected, rtol=1e-4, atol=1e-4)


def test_a_mini_batch_centroid_without_rows_starts_anew():
    x = np.concatenate([np.zeros((50, 2)), np.ones((50, 2)), [[50.0, 50]] * 50])
    init = np.array([[0.4, 0.4], [1e4, 1e4], [-1e4, 1e4]])
    assert mini_batch_kmeans(x, 3, init=init, batch=75, max_iter=30).inertia < 1


@pytest.mark.parametrize("method", [kmeans, mini_batch_kmeans])
def test_progress_is_told_each_update_and_the_end(method):
    x, calls = np.random.default_rng(9).standard_normal((400, 3)), []
    found = method(x, 8, max_iter=40, progress=lambda *call: calls.append(call))
    assert len(calls) == found.n_iter and calls[-1] == (40, 40)
    assert calls[:-1] == [(i + 1, 40) for i in range(found.n_iter - 1)]


def test_bad_arguments_are_named():
    x = np.zeros((4, 2))
    for name, call in [
        ("k", lambda: kmeans(x, 5)),
        ("k", lambda: kmeans(x, 0)),
        ("x", lambda: kmeans(x[:0], 1)),
        ("x", lambda: kmeans(x[:, :0], 2)),
        ("x", lambda: mini_batch_kmeans(x[:, :0], 2)),
        ("x", lambda: kmeans(np.full((2, 2), np.nan), 1)),
        ("init", lambda: kmeans(x, 2, init="best")),
        ("init", lambda: kmeans(x, 2, init=np.zeros((3, 2)))),
        ("max_iter", lambda: kmeans(x, 2, max_iter=-1)),
        ("tol", lambda: kmeans(x, 2, tol=-1)),
        ("x", lambda: kmeans(1e300 * (1 + x), 2)),
        ("seed", lambda: kmeans(x, 2, seed=-1)),
        ("k", lambda: mini_batch_kmeans(x, 5)),
        ("batch", lambda: mini_batch_kmeans(x, 2, batch=0)),
        ("max_iter", lambda: mini_batch_kmeans(x, 2, max_iter=-1)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()


@given(n=st.integers(1, 60), d=st.integers(1, 5), far=st.sampled_from([0, 1e3]), seed=st.integers(0, 99))
def test_the_variance_that_ends_it_is_that_of_the_vectors(n, d, far, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, d)) * rng.random(d) + far).astype(np.float32)
    found = Labelling(x, x[rng.integers(0, n, 3)]).mean_variance()
    np.testing.assert_allclose(found, x.var(0, dtype=np.float64).mean(), rtol=1e-4, atol=1e-12 * (1 + far**2))


@given(n=st.integers(2, 60), powers=st.lists(st.integers(-3, 3), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_a_vector_that_is_a_centroid_belongs_to_it_whatever_the_scales(n, powers, seed):
    """|x|^2 up to 10^12 times the distances: scores in float32 have no digits left for these."""
    columns = 10.0 ** np.array(powers)
    x = np.unique((np.random.default_rng(seed).integers(-9, 10, (n, len(powers))) * columns).astype(np.float32), axis=0)
    found = kmeans(x, len(x), init=x, max_iter=0)
    assert found.labels.tolist() == list(range(len(x))) and found.inertia == 0
    copies = np.repeat(x, 3, 0)
    assert kmeans(copies, len(x), init=x, max_iter=5).inertia == 0
