"""k-means: labels by definition, inertia that never rises, empty clusters, duplicates, determinism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import kmeans


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


def test_bad_arguments_are_named():
    x = np.zeros((4, 2))
    for name, call in [
        ("k", lambda: kmeans(x, 5)),
        ("k", lambda: kmeans(x, 0)),
        ("x", lambda: kmeans(x[:0], 1)),
        ("x", lambda: kmeans(np.full((2, 2), np.nan), 1)),
        ("init", lambda: kmeans(x, 2, init="best")),
        ("init", lambda: kmeans(x, 2, init=np.zeros((3, 2)))),
        ("max_iter", lambda: kmeans(x, 2, max_iter=-1)),
        ("tol", lambda: kmeans(x, 2, tol=-1)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()
