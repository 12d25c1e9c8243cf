"""Probes: kNN against its definition, the linear probe on data that can and cannot be separated."""

import os
import subprocess
import sys
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import fold_batch_norm, resnet, whitened, whitened_maps
from refimpl.training import knn_predict, linear_probe, pooled_features, probe_predict
from refimpl.training.lbfgs import _direction, lbfgs

from .small import encoder, whitened_encoder


def votes_by_definition(features, labels, query, k, temperature):
    similarity = [float(f @ query / np.linalg.norm(f) / np.linalg.norm(query)) for f in features.astype(float)]
    nearest = sorted(range(len(features)), key=lambda i: -similarity[i])[:k]
    votes = [0.0] * (max(labels) + 1)
    for i in nearest:
        votes[labels[i]] += exp(similarity[i] / temperature)
    return votes


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 40), st.sampled_from([0.07, 0.1, 1.0]))
def test_knn_is_its_definition(seed, n, k, temperature):
    rng = np.random.default_rng(seed)
    features, queries = rng.standard_normal((n, 4)), rng.standard_normal((3, 4))
    labels = rng.integers(0, 4, n)
    for query, found in zip(queries, knn_predict(features, labels, queries, k=k, temperature=temperature)):
        votes = votes_by_definition(features, labels, query, k, temperature)
        assert votes[found] == pytest.approx(max(votes), rel=1e-9)


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1))
def test_two_hundred_neighbours_vote_at_a_tenth_unless_told_otherwise(seed):
    """What every recorded figure stands on."""
    rng = np.random.default_rng(seed)
    features, queries, labels = rng.standard_normal((500, 4)), rng.standard_normal((40, 4)), rng.integers(0, 4, 500)
    for query, found in zip(queries, knn_predict(features, labels, queries)):
        votes = votes_by_definition(features, labels, query, 200, 0.1)
        assert votes[found] == pytest.approx(max(votes), rel=1e-9)


def test_only_k_neighbours_vote():
    """The query's own class holds the nearest k places, the other class all that follow."""
    angles = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    features, query = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([[1.0, 0.0]])
    labels = np.array([1, 1, 0, 0, 0, 0, 0])
    found = [knn_predict(features, labels, query, k=k, temperature=100.0)[0] for k in (1, 3, 5)]
    assert found == [1, 1, 0]
    assert knn_predict(features, np.array([1, 0, 0, 0, 0, 0, 0]), query, k=1, temperature=100.0) == [1]
    assert knn_predict(features, np.array([1, 0, 0, 0, 0, 0, 0]), query, k=2, temperature=100.0) == [1]


def test_knn_over_more_than_a_block_of_queries():
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((50, 8)).astype(np.float32), rng.integers(0, 3, 50)
    queries = rng.standard_normal((600, 8)).astype(np.float32)
    one_by_one = [knn_predict(features, labels, queries[i : i + 1], k=7)[0] for i in range(0, 600, 7)]
    np.testing.assert_array_equal(knn_predict(features, labels, queries, k=7)[::7], one_by_one)


def test_knn_at_a_low_temperature_does_not_overflow():
    features = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(knn_predict(features, np.arange(3), features, temperature=1e-3), [0, 1, 2])


def clusters(rng, n, spread, d=6, classes=4):
    labels = rng.integers(0, classes, n)
    scale = np.array([1e-3, 1, 1e3, 1, 1, 1], np.float32)[:d]  # the probe standardises
    centres = np.eye(classes, d, dtype=np.float32) * 4
    return ((centres[labels] + spread * rng.standard_normal((n, d)).astype(np.float32)) * scale + 5), labels


def test_the_probe_separates_what_can_be_separated():
    rng = np.random.default_rng(0)
    features, labels = clusters(rng, 400, 0.3)
    probe = linear_probe(features, labels)
    test, answers = clusters(rng, 200, 0.3)
    assert np.mean(probe_predict(probe, test) == answers) == 1 and probe.validation == 1


def test_the_probe_finds_nothing_where_nothing_is():
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((300, 5)).astype(np.float32), rng.integers(0, 4, 300)
    test, answers = rng.standard_normal((2000, 5)).astype(np.float32), rng.integers(0, 4, 2000)
    assert abs(np.mean(probe_predict(linear_probe(features, labels), test) == answers) - 0.25) < 0.06


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_penalty_is_chosen_on_rows_that_were_not_fitted(seed):
    """More dimensions than rows: what was fitted is told without an error, and what was not by chance."""
    rng = np.random.default_rng(seed)
    features, labels = rng.standard_normal((240, 300)).astype(np.float32), rng.permutation(np.arange(240) % 4)
    assert linear_probe(features, labels, held_out=0.5, seed=seed).validation < 0.5


def test_the_penalty_is_chosen_among_those_given_and_shrinks_the_weights():
    features, labels = clusters(np.random.default_rng(1), 200, 1.0)
    weak, strong = (linear_probe(features, labels, penalties=[p]) for p in (1e-4, 10.0))
    assert (weak.penalty, strong.penalty) == (1e-4, 10.0)
    assert np.abs(strong.weight).max() < 0.1 * np.abs(weak.weight).max()
    chosen = linear_probe(features, labels, penalties=[1e-4, 10.0])
    assert chosen.validation == max(weak.validation, strong.validation)


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_the_probe_is_where_its_objective_is_flat(penalty):
    features, labels = clusters(np.random.default_rng(1), 200, 1.0)
    probe = linear_probe(features, labels, penalties=[penalty])
    x = (features - probe.mean).astype(float) / probe.std
    p = np.exp(x @ probe.weight + probe.bias)
    p /= p.sum(axis=1, keepdims=True)
    gradient = x.T @ (p - np.eye(4)[labels]) / len(x) + penalty * probe.weight
    assert np.abs(gradient).max() < 0.1 * np.abs(penalty * probe.weight).max()


def test_pooled_features_are_what_the_head_reads():
    params, state = encoder()
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    features = pooled_features(params, state, images, mean, std, batch=3)
    x = ((images / 255 - mean) / std).astype(np.float32)
    embeddings = resnet(params, state, x, training=False)[0]
    np.testing.assert_allclose(features @ params["head/weight"] + params["head/bias"], embeddings, rtol=2e-3, atol=2e-3)
    assert features.shape == (7, 16)


def test_pooled_features_of_a_network_without_a_head_are_its_embeddings_and_the_means_of_its_maps():
    params, state = whitened_encoder()
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), dtype=np.uint8)
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    x = ((images / 255 - mean) / std).astype(np.float32)
    features = pooled_features(params, state, images, mean, std, batch=3)
    embeddings = whitened(params, state, x, training=False)[0]
    maps = whitened_maps(fold_batch_norm(params, state))(x)
    np.testing.assert_allclose(features, np.hstack([embeddings, maps.mean(axis=(1, 2))]), rtol=2e-3, atol=2e-3)
    assert maps.shape[1] * maps.shape[2] > 1  # so that the mean is not the maximum


def test_a_probe_reads_features_of_either_dtype():
    features, labels = clusters(np.random.default_rng(0), 100, 0.3)
    probe = linear_probe(features, labels)
    np.testing.assert_array_equal(probe_predict(probe, features.astype(np.float64)), probe_predict(probe, features))


@pytest.mark.parametrize("dtype, other", [("float32", "float64"), ("float64", "float32")])
def test_queries_are_of_the_dtype_of_the_features(dtype, other):
    features = np.eye(3, dtype=dtype)
    with pytest.raises(ValueError, match=f"queries: expected dtype {dtype}, got {other}"):
        knn_predict(features, np.arange(3), features.astype(other))


IMAGES = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"images": IMAGES.astype(np.float32)}, "images: expected dtype uint8, got float32"),
        ({"images": IMAGES[0]}, "images: expected 4 dimension"),
        ({"images": IMAGES[:0]}, "images: expected at least 1 row"),
        ({"mean": np.zeros(1)}, r"mean: expected shape \(3\), got \(1,\)"),
        ({"mean": np.full(3, np.nan)}, "mean: expected finite"),
        ({"std": 0.25}, r"std: expected shape \(3\), got \(\)"),
        ({"std": np.array([0.2, 0, 0.2])}, "std: expected numbers > 0"),
        ({"std": np.array([0.2, -0.2, 0.2])}, "std: expected numbers > 0"),
        ({"batch": 0}, "batch: expected an integer >= 1"),
        ({"batch": 1.5}, "batch: expected an integer"),
    ],
)
def test_pooled_features_names_what_is_wrong(changes, words):
    good = {"images": IMAGES, "mean": np.zeros(3), "std": np.ones(3), "batch": 2}
    with pytest.raises(ValueError, match=words):
        pooled_features(*encoder(), **{**good, **changes})


def test_wrong_arguments():
    features, labels = np.eye(3, dtype=np.float32), np.arange(3)
    for call in (
        lambda: knn_predict(features, labels, features[:, :2]),
        lambda: knn_predict(features, labels, features, k=0),
        lambda: knn_predict(features, labels, features, temperature=0),
        lambda: knn_predict(features, labels - 1, features),
        lambda: linear_probe(features, labels[:2]),
        lambda: linear_probe(features, labels, held_out=1),
        lambda: linear_probe(features, labels, penalties=[]),
        lambda: linear_probe(features * np.nan, labels),
        lambda: linear_probe(features, labels, iterations=0),
        lambda: linear_probe(features, labels, iterations=2.5),
    ):
        with pytest.raises(ValueError):
            call()


def test_means_over_many_pixels_do_not_drift():
    params, state = whitened_encoder()
    images = np.full((1, 512, 512, 3), 200, np.uint8)  # 128 x 128 pixels behind the network, nearly all alike
    features = pooled_features(params, state, images, np.zeros(3), np.ones(3))
    maps = whitened_maps(fold_batch_norm(params, state))(images.astype(np.float32) * np.float32(1 / 255))
    width = features.shape[1] // 2
    np.testing.assert_allclose(features[:, width:], maps.mean(axis=(1, 2), dtype=np.float64), rtol=1e-6, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.1, 100))
def test_lbfgs_finds_the_minimum_of_a_quadratic_form(seed, n, least):
    rng = np.random.default_rng(seed)
    root, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    a = root @ root.T + least * np.eye(n)
    values = []

    def objective(x):
        values.append(x @ a @ x / 2 - b @ x)
        return values[-1], a @ x - b

    x = lbfgs(objective, rng.standard_normal(n), 1000)
    lowest = -b @ np.linalg.solve(a, b) / 2
    assert objective(x)[0] == min(values) and min(values) - lowest < 1e-5 * max(1, -lowest)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (3.0, -4.0)])
def test_lbfgs_follows_a_valley_that_is_not_convex(start):
    """Rosenbrock's, whose minimum of 0 is at (1, 1)."""

    def objective(x):
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return a * a + 100 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])

    np.testing.assert_allclose(lbfgs(objective, np.array(start), 1000), 1, atol=1e-3)


def test_lbfgs_takes_no_more_steps_than_it_may_and_none_uphill():
    def quartic(x):
        return float(np.sum(x**4)), 4 * x**3

    values = [quartic(lbfgs(quartic, np.array([3.0, -2.0]), iterations))[0] for iterations in range(12)]
    assert values[0] == 97 and all(a >= b for a, b in zip(values, values[1:])) and values[1] > values[11]
    with_a_wrong_gradient = lbfgs(lambda x: (quartic(x)[0], -quartic(x)[1]), np.ones(2), 10)
    np.testing.assert_array_equal(with_a_wrong_gradient, 1)


CODE = """
import numpy as np
from refimpl.training import linear_probe
for seed in range(3):
    rng = np.random.default_rng(seed)
    features, labels = rng.standard_normal((400, 600)) * np.geomspace(0.01, 1, 600), rng.integers(0, 40, 400)
    features += rng.standard_normal((400, 1))
    probe = linear_probe(features.astype(np.float32), labels, penalties=[1e-6])
    print(probe.weight.tobytes().hex())
"""


def test_a_probe_does_not_depend_on_the_number_of_threads():
    """24,040 numbers: BLAS sums more than 10,000 in threads. Rounding grows here, as the features are nearly alike."""
    found = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
        found.add(run.stdout)
    assert len(found) == 1


@given(n=st.integers(1, 8), m=st.integers(1, 6), seed=st.integers(0, 999))
def test_the_two_loops_are_the_matrix_of_bfgs(n, m, seed):
    """H <- (1 - rho s y') H (1 - rho y s') + rho s s' for each pair, from a multiple of the identity."""
    rng = np.random.default_rng(seed)
    square, pairs = rng.standard_normal((n, n)), []
    curvature = square @ square.T + np.eye(n)
    for s in rng.standard_normal((m, n)):
        y = curvature @ s
        pairs.append((s, y, 1 / (s @ y)))
    s, y, rho = pairs[-1]
    h = np.eye(n) / (rho * (y @ y))
    for s, y, rho in pairs:
        left = np.eye(n) - rho * np.outer(s, y)
        h = left @ h @ left.T + rho * np.outer(s, s)
    g = rng.standard_normal(n)
    np.testing.assert_allclose(_direction(g, pairs), h @ g, rtol=1e-6, atol=1e-6 * np.abs(h @ g).max())
    np.testing.assert_allclose(_direction(pairs[-1][1], pairs), pairs[-1][0], rtol=1e-6, atol=1e-6)
