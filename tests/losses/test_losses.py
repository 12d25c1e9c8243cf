"""Every loss against its definition, its gradient against central differences, and what holds between the losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import losses

from . import definitions

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 7)


def draw(seed, *shapes, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def labels_with_a_pair(seed, n):
    labels = np.random.default_rng(seed).integers(0, 3, n)
    labels[:2] = labels[0]
    return labels


# name: (arrays that get a gradient, how the loss is called with them, its definition), all for n rows of d values
def cases(seed, n, d):
    x, y, z, negatives = draw(seed, (n, d), (n, d), (n, d), (n + 1, d))
    (own,) = draw(seed + 1, (n, 3, d))
    labels = labels_with_a_pair(seed, n)
    same = np.random.default_rng(seed).integers(0, 2, n)
    classes = labels % d
    binary = np.random.default_rng(seed).integers(0, 2, (n, d))
    return {
        "softmax_cross_entropy": (
            [x],
            lambda x: losses.softmax_cross_entropy(x, classes),
            lambda x: definitions.cross_entropy(x, classes),
        ),
        "contrastive_loss": (
            [x, y],
            lambda x, y: losses.contrastive_loss(x, y, same, margin=2.0),
            lambda x, y: definitions.contrastive(x, y, same, 2.0),
        ),
        "triplet_loss": (
            [x, y, z],
            lambda *a: losses.triplet_loss(*a, margin=0.7),
            lambda *a: definitions.triplet(*a, 0.7),
        ),
        "n_pair_loss": (
            [x, y],
            losses.n_pair_loss,
            lambda x, y: definitions.cross_entropy((x @ y.T).tolist(), range(n)),
        ),
        "info_nce shared": (
            [x, y, negatives],
            lambda *a: losses.info_nce(*a, temperature=0.7),
            lambda x, y, k: definitions.info_nce(x, y, [k] * n, 0.7),
        ),
        "info_nce own": (
            [x, y, own],
            lambda *a: losses.info_nce(*a, temperature=0.7),
            lambda x, y, k: definitions.info_nce(x, y, k, 0.7),
        ),
        "nt_xent": (
            [x, y],
            lambda x, y: losses.nt_xent(x, y, temperature=0.4),
            lambda x, y: definitions.nt_xent(x, y, 0.4),
        ),
        "sup_con": (
            [x],
            lambda x: losses.sup_con(x, labels, temperature=0.4),
            lambda x: definitions.sup_con(x, labels, 0.4),
        ),
        "soft_nearest_neighbor": (
            [x],
            lambda x: losses.soft_nearest_neighbor(x, labels, temperature=1.3),
            lambda x: definitions.soft_nearest_neighbor(x, labels, 1.3),
        ),
        "focal_loss": (
            [x],
            lambda x: losses.focal_loss(x, binary, alpha=0.3, gamma=1.7),
            lambda x: definitions.focal(x.ravel(), binary.ravel(), 0.3, 1.7),
        ),
        "distillation_loss": (
            [x, y],
            lambda x, y: losses.distillation_loss(x, y, temperature=2.5),
            lambda x, y: definitions.distillation(x, y, 2.5),
        ),
    }


NAMES = sorted(cases(0, 3, 4))


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, n=sizes, d=st.integers(2, 5))
def test_value_is_the_definition(name, seed, n, d):
    arrays, loss, definition = cases(seed, n, d)[name]
    np.testing.assert_allclose(loss(*arrays)[0], definition(*arrays), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, n=sizes, d=st.integers(2, 5))
def test_gradient_is_the_slope(name, seed, n, d):
    arrays, loss, _ = cases(seed, n, d)[name]
    gradients = loss(*arrays)[1]
    gradients = as_tuple(gradients)
    assert len(gradients) == len(arrays)
    h = 1e-6
    for i, (array, gradient) in enumerate(zip(arrays, gradients)):
        assert gradient.shape == array.shape
        (v,) = draw(seed + 9, array.shape)
        ends = [loss(*arrays[:i], array + s * h * v, *arrays[i + 1 :])[0] for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(np.vdot(gradient, v), slope, rtol=2e-6, atol=2e-8)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32_and_agrees(name):
    arrays, loss, _ = cases(3, 5, 4)[name]
    value, gradients = loss(*arrays)
    value32, gradients32 = loss(*(a.astype(np.float32) for a in arrays))
    assert isinstance(value, float) and isinstance(value32, float)
    np.testing.assert_allclose(value32, value, rtol=1e-4)
    for g, g32 in zip(as_tuple(gradients), as_tuple(gradients32)):
        assert g32.dtype == np.float32
        np.testing.assert_allclose(g32, g, rtol=1e-3, atol=1e-5)


@given(seed=seeds, n=sizes)
def test_nt_xent_is_sup_con_with_one_positive(seed, n):
    z1, z2 = draw(seed, (n, 4), (n, 4))
    value, (dz1, dz2) = losses.nt_xent(z1, z2, temperature=0.3)
    labels = np.tile(np.arange(n), 2)
    other, dz = losses.sup_con(np.concatenate([z1, z2]), labels, temperature=0.3)
    np.testing.assert_allclose(value, other, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([dz1, dz2]), dz, atol=1e-12)


@given(seed=seeds, n=sizes)
def test_n_pair_is_one_way_info_nce_at_temperature_1(seed, n):
    anchor, positive = draw(seed, (n, 4), (n, 4))
    others = np.stack([np.delete(positive, i, axis=0) for i in range(n)])
    value, _ = losses.info_nce(anchor, positive, others, temperature=1.0)
    np.testing.assert_allclose(losses.n_pair_loss(anchor, positive)[0], value, rtol=1e-12)


@given(seed=seeds, n=sizes)
def test_focal_without_focus_is_cross_entropy(seed, n):
    (x,) = draw(seed, (n,))
    targets = np.random.default_rng(seed).integers(0, 2, n)
    value, dx = losses.focal_loss(x, targets, alpha=None, gamma=0.0)
    # softmax over the logits [0, x] is the sigmoid of x
    other, dlogits = losses.softmax_cross_entropy(np.stack([np.zeros(n), x], axis=1), targets)
    np.testing.assert_allclose(value, other, rtol=1e-12)
    np.testing.assert_allclose(dx, dlogits[:, 1], atol=1e-14)


def test_collapsed_embeddings_give_the_values_of_guessing():
    n, k = 6, 9
    z = np.ones((n, 4))
    np.testing.assert_allclose(losses.nt_xent(z, z, temperature=0.1)[0], np.log(2 * n - 1))
    np.testing.assert_allclose(losses.info_nce(z, z, np.ones((k, 4)), temperature=0.1)[0], np.log(k + 1))
    np.testing.assert_allclose(losses.n_pair_loss(z, z)[0], np.log(n))
    np.testing.assert_allclose(losses.triplet_loss(z, z, z, margin=0.2)[0], 0.2)
    np.testing.assert_allclose(losses.contrastive_loss(z, z, np.zeros(n), margin=0.6)[0], 0.18)


@given(seed=seeds, smoothing=st.floats(0, 0.9))
def test_label_smoothing_moves_the_target(seed, smoothing):
    (x,) = draw(seed, (4, 5))
    labels = np.random.default_rng(seed).integers(0, 5, 4)
    target = np.full((4, 5), smoothing / 5)
    target[np.arange(4), labels] += 1 - smoothing
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    value, dx = losses.softmax_cross_entropy(x, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(value, -np.sum(target * log_p) / 4)
    np.testing.assert_allclose(dx, (np.exp(log_p) - target) / 4, atol=1e-12)


@pytest.mark.parametrize("scale", [1e4, 1e-30, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_inputs_stay_finite(scale, dtype):
    x, y, z = (scale * a for a in draw(0, (6, 4), (6, 4), (6, 4), dtype=dtype))
    x[0], y[0] = x[1], x[1]
    labels = np.array([0, 0, 0, 1, 1, 2])
    results = [
        losses.softmax_cross_entropy(x, labels % 4),
        losses.contrastive_loss(x, y, labels > 0),
        losses.triplet_loss(x, y, z),
        losses.n_pair_loss(x, y),
        losses.info_nce(x, y, z, temperature=0.01),
        losses.nt_xent(x, y, temperature=0.01),
        losses.sup_con(x, labels, temperature=0.01),
        losses.sup_con(x, 0 * labels, temperature=0.01),
        losses.soft_nearest_neighbor(x, labels, temperature=0.01),
        losses.focal_loss(x, (x > 0)),
        losses.focal_loss(x, (x < 0), gamma=0.0),
        losses.distillation_loss(x, y, temperature=0.01),
    ]
    for value, gradients in results:
        assert np.isfinite(value)
        for gradient in as_tuple(gradients):
            assert np.isfinite(gradient).all()


X = np.ones((3, 2))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: losses.softmax_cross_entropy(X, [0, 1, 2]), r"labels: expected values in \[0, 2\), got 0 to 2"),
        (lambda: losses.softmax_cross_entropy(X, [0.0, 1.0, 1.0]), "labels: expected integers"),
        (lambda: losses.softmax_cross_entropy(X[:0], np.zeros(0, int)), "logits: expected at least 1 row"),
        (lambda: losses.softmax_cross_entropy(X, [0, 1, 1], label_smoothing=1), "label_smoothing"),
        (lambda: losses.nt_xent(X, X[:2], temperature=1.0), r"z2: expected float64 \(3, 2\), got float64 \(2, 2\)"),
        (lambda: losses.nt_xent(X, X.astype(np.float32), temperature=1.0), "z2: expected float64"),
        (lambda: losses.nt_xent(X, X, temperature=0), "temperature: expected a finite number > 0, got 0"),
        (lambda: losses.nt_xent(X * np.nan, X, temperature=1.0), "z1: expected finite values"),
        (lambda: losses.info_nce(X, X, np.ones((2, 3, 2)), temperature=1.0), r"negatives: expected shape \(k, 2\)"),
        (lambda: losses.sup_con(X, [0, 1, 2], temperature=1.0), "labels: .*every label occurs once"),
        (lambda: losses.contrastive_loss(X, X, [0, 1, 2]), "same: expected only 0 and 1"),
        (lambda: losses.triplet_loss(X, X, X, margin=-1), "margin"),
        (lambda: losses.focal_loss(X, X[:2]), r"targets: expected shape \(3, 2\)"),
        (lambda: losses.focal_loss(X, X, alpha=2.0), "alpha"),
        (lambda: losses.distillation_loss(X, X[:, :1], temperature=1.0), "teacher_logits"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
