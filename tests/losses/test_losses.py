"""Every loss against its definition, its gradient against central differences, and what holds between the losses."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import losses
from refimpl.validation import NotFinite

from . import definitions

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(3, 7)


def draw(seed, *shapes, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def labels_with_a_pair(seed, n):
    labels = np.random.default_rng(seed).integers(0, 3, n)
    labels[:2] = labels[0]
    labels[2:3] = labels[0] + 1  # and another class, where there is room
    return labels


# name: (arrays that get a gradient, how the loss is called with them, its definition), all for n rows of d values
def cases(seed, n, d):
    x, y, z, negatives = draw(seed, (n, d), (n, d), (n, d), (n + 1, d))
    (own,) = draw(seed + 1, (n, 3, d))
    labels = labels_with_a_pair(seed, n)
    same = np.random.default_rng(seed).integers(0, 2, n)
    classes = labels % d
    weights = np.random.default_rng(seed + 2).uniform(0.1, 3, d)
    position = labels % 3
    binary = np.random.default_rng(seed).integers(0, 2, (n, d))
    every = {
        "softmax_cross_entropy": (
            [x],
            lambda x: losses.softmax_cross_entropy(x, classes),
            lambda x: definitions.cross_entropy(x, classes),
        ),
        "softmax_cross_entropy weighted": (
            [x],
            lambda x: losses.softmax_cross_entropy(x, classes, label_smoothing=0.2, class_weights=weights),
            lambda x: definitions.weighted_cross_entropy(x, classes, weights, 0.2),
        ),
        "softmax_focal_loss": (
            [x],
            lambda x: losses.softmax_focal_loss(x, classes, gamma=1.7, class_weights=weights),
            lambda x: definitions.softmax_focal(x, classes, weights, 1.7),
        ),
        "candidate_cross_entropy": (
            [x, own],
            lambda *a: losses.candidate_cross_entropy(*a, position, temperature=0.6),
            lambda *a: definitions.candidates(*a, position, 0.6),
        ),
        "decoupled_contrastive": (
            [x, y],
            lambda x, y: losses.decoupled_contrastive(x, y, temperature=0.4),
            lambda x, y: definitions.decoupled(x, y, 0.4),
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
    if n > 2:  # a triplet needs three rows
        for mean_over in ("violating", "all"):
            every[f"batch_all_triplet_loss {mean_over}"] = (
                [x],
                lambda x, mean_over=mean_over: losses.batch_all_triplet_loss(
                    x, labels, margin=0.7, mean_over=mean_over
                ),
                lambda x, mean_over=mean_over: definitions.batch_all(x, labels, 0.7, mean_over),
            )
        for mine in (losses.batch_hard, losses.semi_hard):
            chosen = mine(x, labels)
            every[f"mined_triplet_loss {mine.__name__}"] = (
                [x],
                lambda x, chosen=chosen: losses.mined_triplet_loss(x, chosen, margin=0.7),
                lambda x, chosen=chosen: (
                    definitions.triplet(*(x[rows] for rows in chosen), 0.7) if len(chosen[0]) else 0
                ),
            )
    return every


NAMES = sorted(cases(0, 3, 4))


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, n=sizes, d=st.integers(2, 5))
@settings(max_examples=25)
def test_value_is_the_definition(name, seed, n, d):
    arrays, loss, definition = cases(seed, n, d)[name]
    np.testing.assert_allclose(loss(*arrays)[0], definition(*arrays), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, n=sizes, d=st.integers(2, 5))
@settings(max_examples=25)
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


@given(seed=seeds, n=sizes, temperature=st.floats(0.05, 5))
def test_nt_xent_is_softplus_of_decoupled(seed, n, temperature):
    """Per anchor. The mean over one anchor and its mirror is compared: two pairs, the second the first's negatives."""
    z1, z2 = draw(seed, (n, 4), (n, 4))
    z = np.concatenate([z1, z2])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    s = z @ z.T / temperature
    i, partner = np.arange(2 * n), (np.arange(2 * n) + n) % (2 * n)
    positive = s[i, partner]
    s[i, i] = s[i, partner] = -np.inf
    decoupled = np.log(np.exp(s).sum(axis=1)) - positive
    value, _ = losses.decoupled_contrastive(z1, z2, temperature=temperature)
    np.testing.assert_allclose(value, decoupled.mean(), rtol=1e-9, atol=1e-9)
    value, _ = losses.nt_xent(z1, z2, temperature=temperature)
    np.testing.assert_allclose(value, np.logaddexp(0, decoupled).mean(), rtol=1e-9, atol=1e-12)


@given(seed=seeds, n=sizes, k=st.integers(1, 4))
def test_the_position_of_the_positive_does_not_matter(seed, n, k):
    """The book's shuffled row is InfoNCE with the row's own negatives: value and gradients, back in their places."""
    query, candidates = draw(seed, (n, 4), (n, k + 1, 4))
    value, (dquery, dpositive, dnegatives) = losses.info_nce(
        query, candidates[:, 0], candidates[:, 1:], temperature=0.3
    )
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(k + 1), (n, 1)), axis=1)
    shuffled = np.take_along_axis(candidates, order[:, :, None], axis=1)
    other, (dq, dcandidates) = losses.candidate_cross_entropy(
        query, shuffled, np.argmin(order, axis=1), temperature=0.3
    )
    np.testing.assert_allclose(other, value, rtol=1e-12)
    np.testing.assert_allclose(dq, dquery, atol=1e-12)
    expected = np.take_along_axis(np.concatenate([dpositive[:, None], dnegatives], axis=1), order[:, :, None], axis=1)
    np.testing.assert_allclose(dcandidates, expected, atol=1e-12)


@given(seed=seeds, n=sizes, gamma=st.floats(0, 5))
def test_softmax_focal_of_two_classes_is_the_sigmoid_form(seed, n, gamma):
    (x,) = draw(seed, (n,))
    targets = np.random.default_rng(seed).integers(0, 2, n)
    value, dlogits = losses.softmax_focal_loss(np.stack([0 * x, 3 * x], axis=1), targets, gamma=gamma)
    other, dx = losses.focal_loss(3 * x, targets, alpha=None, gamma=gamma)
    np.testing.assert_allclose(value, other, rtol=1e-10)
    np.testing.assert_allclose(dlogits[:, 1], dx, atol=1e-12)
    np.testing.assert_allclose(dlogits[:, 0], -dx, atol=1e-12)


@given(seed=seeds, n=sizes)
def test_softmax_focal_without_focus_is_cross_entropy(seed, n):
    (x,) = draw(seed, (n, 4))
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 4, n), rng.uniform(0.1, 2, 4)
    for class_weights in (None, weights):
        value, dx = losses.softmax_focal_loss(x, labels, gamma=0.0, class_weights=class_weights)
        other, expected = losses.softmax_cross_entropy(x, labels, class_weights=class_weights)
        np.testing.assert_allclose(value, other, rtol=1e-12)
        np.testing.assert_allclose(dx, expected, atol=1e-12)


@given(seed=seeds, scale=st.floats(1e-3, 1e3), smoothing=st.floats(0, 0.9))
def test_only_the_ratios_of_class_weights_matter(seed, scale, smoothing):
    (x,) = draw(seed, (5, 3))
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 3, 5), rng.uniform(0.1, 2, 3)
    value, dx = losses.softmax_cross_entropy(x, labels, class_weights=weights, label_smoothing=smoothing)
    other, expected = losses.softmax_cross_entropy(x, labels, class_weights=scale * weights, label_smoothing=smoothing)
    np.testing.assert_allclose(value, other, rtol=1e-10)
    np.testing.assert_allclose(dx, expected, atol=1e-12)


@given(seed=seeds)
def test_a_class_of_weight_2_counts_like_two_copies(seed):
    (x,) = draw(seed, (6, 3))
    labels = np.random.default_rng(seed).integers(0, 3, 6)
    value, _ = losses.softmax_cross_entropy(x, labels, class_weights=[1, 2, 1])
    twice = np.concatenate([np.arange(6), np.flatnonzero(labels == 1)])
    np.testing.assert_allclose(value, losses.softmax_cross_entropy(x[twice], labels[twice])[0], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e39, 1e-50, 1e308])
@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.softmax_focal_loss])
def test_class_weights_beyond_float32_leave_a_float32_loss_as_it_is(loss, scale):
    (x,) = draw(0, (5, 3), dtype=np.float32)
    labels, ratios = np.array([0, 1, 2, 1, 0]), np.array([1, 0.5, 0.25])
    for weights in (np.ones(3), ratios):
        value, dx = loss(x, labels, class_weights=weights)
        other, found = loss(x, labels, class_weights=scale * weights)
        np.testing.assert_allclose(other, value, rtol=1e-6)
        np.testing.assert_allclose(found, dx, rtol=1e-5)
    np.testing.assert_allclose(loss(x, labels, class_weights=[scale] * 3)[0], loss(x, labels)[0], rtol=1e-6)


counts = st.lists(st.integers(0, 10**4), min_size=1, max_size=8).filter(any).map(np.array)


@given(counts=counts, beta=st.floats(0, 0.999999))
def test_class_balanced_weights(counts, beta):
    weights = losses.class_balanced_weights(counts, beta=beta)
    present = counts > 0
    assert (weights[~present] == 0).all() and (weights[present] > 0).all()
    np.testing.assert_allclose(weights[present].mean(), 1)
    # the effective number is the sum of the series 1 + beta + ... + beta^(n - 1)
    effective = np.array([np.sum(beta ** np.arange(n, dtype=float)) for n in counts[present]])
    np.testing.assert_allclose(weights[present] * effective, weights[present][0] * effective[0], rtol=1e-6)


def test_class_balanced_weights_at_their_ends():
    counts = np.array([1, 10, 100])
    np.testing.assert_allclose(losses.class_balanced_weights(counts, beta=0.0), 1)
    inverse = 3 / counts / np.sum(1 / counts)
    np.testing.assert_allclose(losses.class_balanced_weights(counts, beta=1 - 1e-9), inverse, rtol=1e-6)


# name: a loss of a batch (n, 4) and labels, its result unchanged when the rows are put into another order
BATCH = {
    "sup_con": lambda z, labels: losses.sup_con(z, labels, temperature=0.4),
    "soft_nearest_neighbor": lambda z, labels: losses.soft_nearest_neighbor(z, labels, temperature=1.3),
    "batch_all_triplet_loss": lambda z, labels: losses.batch_all_triplet_loss(z, labels),
    "batch_hard": lambda z, labels: losses.mined_triplet_loss(z, losses.batch_hard(z, labels), margin=1.0),
    "semi_hard": lambda z, labels: losses.mined_triplet_loss(z, losses.semi_hard(z, labels, margin=1.0), margin=1.0),
    "softmax_cross_entropy": lambda z, labels: losses.softmax_cross_entropy(z, labels % 4),
    "softmax_focal_loss": lambda z, labels: losses.softmax_focal_loss(z, labels % 4),
}


@pytest.mark.parametrize("name", BATCH)
@given(seed=seeds, n=sizes)
@settings(max_examples=25)
def test_the_order_of_the_batch_does_not_matter(name, seed, n):
    (z,) = draw(seed, (n, 4))
    labels = labels_with_a_pair(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    value, dz = BATCH[name](z, labels)
    other, permuted = BATCH[name](z[order], labels[order])
    np.testing.assert_allclose(other, value, rtol=1e-12)
    np.testing.assert_allclose(permuted, dz[order], atol=1e-12)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.decoupled_contrastive])
@given(seed=seeds, n=sizes)
def test_views_may_be_exchanged_and_pairs_reordered(loss, seed, n):
    z1, z2 = draw(seed, (n, 4), (n, 4))
    order = np.random.default_rng(seed).permutation(n)
    value, (dz1, dz2) = loss(z1, z2, temperature=0.4)
    other, (d2, d1) = loss(z2[order], z1[order], temperature=0.4)
    np.testing.assert_allclose(other, value, rtol=1e-12)
    np.testing.assert_allclose(d1, dz1[order], atol=1e-12)
    np.testing.assert_allclose(d2, dz2[order], atol=1e-12)


@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_normalised_losses_ignore_lengths_and_their_gradients_are_tangent(seed, scale):
    (z, other) = draw(seed, (6, 4), (6, 4))
    labels = labels_with_a_pair(seed, 6)
    stretch = np.random.default_rng(seed).uniform(0.5, 2, (6, 1)) * scale
    for loss in (losses.nt_xent, losses.decoupled_contrastive):
        value, (dz, _) = loss(z, other, temperature=0.4)
        np.testing.assert_allclose(loss(stretch * z, other, temperature=0.4)[0], value, rtol=1e-9)
        np.testing.assert_allclose(np.sum(dz * z, axis=1), 0, atol=1e-12)
    value, dz = losses.sup_con(z, labels, temperature=0.4)
    np.testing.assert_allclose(losses.sup_con(stretch * z, labels, temperature=0.4)[0], value, rtol=1e-9)
    np.testing.assert_allclose(np.sum(dz * z, axis=1), 0, atol=1e-12)


@given(seed=seeds)
def test_distance_losses_ignore_shifts(seed):
    z, shift = draw(seed, (6, 4), (1, 4))
    labels = labels_with_a_pair(seed, 6)
    for name in ("soft_nearest_neighbor", "batch_all_triplet_loss", "batch_hard"):
        value, dz = BATCH[name](z, labels)
        np.testing.assert_allclose(BATCH[name](z + 10 * shift, labels)[0], value, rtol=1e-9)
        np.testing.assert_allclose(dz.sum(axis=0), 0, atol=1e-12)


def test_nt_xent_of_4096_pairs_takes_one_array_of_n_squared_values():
    """8192^2 float32 are 268 MB; pairs with their 16 dimensions each would be 16 times that.

    Image i lies on axis i mod 16: similarities are 1 to the 511 others of an axis and 0 to the rest.
    """
    n, d, temperature = 4096, 16, 0.5
    z = np.eye(d, dtype=np.float32)[np.arange(n) % d]
    tracemalloc.start()
    value, (dz1, dz2) = losses.nt_xent(z, z, temperature=temperature)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 4 * (2 * n) ** 2
    near, far = 2 * n // d - 1, 2 * n - 2 * n // d
    np.testing.assert_allclose(value, np.log(near * np.exp(2) + far) - 2, rtol=1e-5)
    # pushed away from each other axis alike: ds on both sides of the pair, divided by the temperature
    push = 2 / (near * np.exp(2) + far) * (2 * n // d) / (2 * n) / temperature
    np.testing.assert_allclose(dz1, push * (1 - z), rtol=1e-3, atol=1e-3 * push)
    np.testing.assert_allclose(dz2, dz1, rtol=1e-3, atol=1e-3 * push)


# name: what is done with a batch of unit vectors z (n, d) and labels
OF_A_BATCH = {
    "batch_all_triplet_loss": lambda z, labels: losses.batch_all_triplet_loss(z, labels, mean_over="all"),
    "batch_hard": losses.batch_hard,
    "semi_hard": lambda z, labels: losses.semi_hard(z, labels, margin=1.0),
    "distance_weighted": lambda z, labels: losses.distance_weighted(z, labels, 0),
    "sup_con": lambda z, labels: losses.sup_con(z, labels, temperature=0.1),
    "soft_nearest_neighbor": lambda z, labels: losses.soft_nearest_neighbor(z, labels, temperature=0.1),
    "euclidean_distance": lambda z, labels: losses.euclidean_distance(z, z)[1](np.ones((len(z), len(z)), z.dtype)),
    "decoupled_contrastive": lambda z, labels: losses.decoupled_contrastive(z[::2], z[1::2], temperature=0.1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OF_A_BATCH)
def test_memory_is_a_few_arrays_of_n_squared_values(name, dtype):
    """400 rows of 64 values: the differences of all pairs would be 64 such arrays, a list of the triplets over 100."""
    n, d = 400, 64
    z = np.random.default_rng(0).standard_normal((n, d)).astype(dtype)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels = np.arange(n) % 10
    OF_A_BATCH[name](z, labels)  # what is compiled is no memory of the loss
    tracemalloc.start()
    OF_A_BATCH[name](z, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * n**2 * z.itemsize


def test_gradients_of_batches_of_several_tiles():
    """300 rows: similarities are made symmetric by pairs of 128 x 128 tiles, and softmax goes some rows at a time."""
    (x, y, v) = draw(0, (150, 4), (150, 4), (150, 4))
    labels = labels_with_a_pair(0, 300)
    for loss in (
        lambda x: losses.nt_xent(x, y, temperature=0.4),
        lambda x: losses.decoupled_contrastive(x, y, temperature=0.4),
        lambda x: losses.sup_con(np.concatenate([x, y]), labels, temperature=0.4),
    ):
        dx = as_tuple(loss(x)[1])[0][:150]
        slope = (loss(x + 1e-6 * v)[0] - loss(x - 1e-6 * v)[0]) / 2e-6
        np.testing.assert_allclose(np.vdot(dx, v), slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(losses.nt_xent(x, y, temperature=0.4)[0], definitions.nt_xent(x, y, 0.4), rtol=1e-10)


def test_collapsed_embeddings_give_the_values_of_guessing():
    n, k = 6, 9
    z = np.ones((n, 4))
    np.testing.assert_allclose(losses.nt_xent(z, z, temperature=0.1)[0], np.log(2 * n - 1))
    np.testing.assert_allclose(losses.info_nce(z, z, np.ones((k, 4)), temperature=0.1)[0], np.log(k + 1))
    np.testing.assert_allclose(losses.n_pair_loss(z, z)[0], np.log(n))
    np.testing.assert_allclose(losses.candidate_cross_entropy(z, np.ones((n, k, 4)), np.arange(n))[0], np.log(k))
    np.testing.assert_allclose(losses.decoupled_contrastive(z, z, temperature=0.1)[0], np.log(2 * n - 2))
    labels = np.arange(n) % 2
    np.testing.assert_allclose(losses.sup_con(z, labels, temperature=0.1)[0], np.log(n - 1))
    np.testing.assert_allclose(
        losses.soft_nearest_neighbor(z, labels, temperature=0.1)[0], np.log((n - 1) / (n / 2 - 1))
    )
    np.testing.assert_allclose(losses.softmax_cross_entropy(z, labels)[0], np.log(4))
    np.testing.assert_allclose(losses.softmax_focal_loss(z, labels, gamma=2.0)[0], 0.75**2 * np.log(4))
    half = np.tile([0, 1], (n, 2))  # as many of both: a quarter of ln 2, times the mean of 0.25 and 0.75
    np.testing.assert_allclose(losses.focal_loss(0 * z, half, alpha=None)[0], 0.25 * np.log(2))
    np.testing.assert_allclose(losses.focal_loss(0 * z, half, alpha=0.25)[0], 0.5 * 0.25 * np.log(2))
    for target, alpha in ((1, 0.1), (0, 0.9)):
        value, _ = losses.focal_loss(0 * z, np.full(z.shape, target), alpha=0.1, gamma=3.0)
        np.testing.assert_allclose(value, alpha * 0.5**3 * np.log(2))
    np.testing.assert_allclose(losses.triplet_loss(z, z, z, margin=0.2)[0], 0.2)
    for mean_over in ("violating", "all"):
        np.testing.assert_allclose(losses.batch_all_triplet_loss(z, labels, margin=0.2, mean_over=mean_over)[0], 0.2)
    np.testing.assert_allclose(losses.mined_triplet_loss(z, losses.batch_hard(z, labels), margin=0.2)[0], 0.2)
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
        losses.softmax_cross_entropy(x, labels, class_weights=[0, 1e-6, 1e6, 1], label_smoothing=0.1),
        losses.softmax_focal_loss(x, labels),
        losses.softmax_focal_loss(x, x.argmax(axis=1), gamma=0.3),
        losses.softmax_focal_loss(x, x.argmin(axis=1), gamma=5.0, class_weights=[1, 2, 3, 4]),
        losses.candidate_cross_entropy(x, np.stack([y, z, x], axis=1), labels, temperature=0.01),
        losses.decoupled_contrastive(x, y, temperature=0.01),
        losses.batch_all_triplet_loss(x, labels),
        losses.batch_all_triplet_loss(x, labels, mean_over="all"),
        losses.mined_triplet_loss(x, losses.batch_hard(x, labels)),
        losses.mined_triplet_loss(x, losses.semi_hard(x, labels)),
    ]
    for value, gradients in results:
        assert np.isfinite(value)
        for gradient in as_tuple(gradients):
            assert np.isfinite(gradient).all()


X = np.ones((3, 2))
NONE, LARGE = X[:0], np.full((3, 2), 1e20, np.float32)  # LARGE: finite, its squares and products are not
FAR = np.float32([[3e38, -3e38]])  # finite, their difference is not
ONE, OTHER = np.float32([[1e19], [1e19]]), np.float32([[-3e19], [3e19]])  # their products are as far apart


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
        (lambda: losses.softmax_cross_entropy(X, [0, 1, 1], class_weights=[1, 1, 1]), r"class_weights: expected shape"),
        (
            lambda: losses.softmax_cross_entropy(X, [0, 1, 1], class_weights=[1, -1]),
            "class_weights: expected values >= 0",
        ),
        (
            lambda: losses.softmax_cross_entropy(X, [0, 0, 0], class_weights=[0, 1]),
            "class_weights: expected at least one",
        ),
        (lambda: losses.softmax_focal_loss(X[:, :1], [0, 0, 0]), "logits: expected at least two classes"),
        (lambda: losses.softmax_focal_loss(X, [0, 0, 0], gamma=-1), "gamma"),
        (lambda: losses.class_balanced_weights([0, 0]), "counts: expected integers >= 0, not all 0"),
        (lambda: losses.class_balanced_weights([1.0]), "counts: expected integers"),
        (lambda: losses.class_balanced_weights([1, -1]), "counts: expected integers"),
        (lambda: losses.class_balanced_weights([1], beta=1.0), "beta"),
        (lambda: losses.candidate_cross_entropy(X, X[:, None], [0, 0, 1]), r"position: expected values in \[0, 1\)"),
        (lambda: losses.candidate_cross_entropy(X, X, [0, 0, 0]), r"candidates: expected shape \(3, any, 2\)"),
        (lambda: losses.decoupled_contrastive(X[:1], X[:1], temperature=1.0), "z1: expected at least 2 rows"),
        (lambda: losses.soft_nearest_neighbor(X, [0, 1, 2], temperature=1.0), "labels: .*every label occurs once"),
        (lambda: losses.soft_nearest_neighbor(1e200 * X * [[0], [1], [1]], [0, 1, 1], temperature=1.0), "overflows"),
        (lambda: losses.batch_all_triplet_loss(X, [0, 0, 0]), "labels: expected a class with two rows, and another"),
        (lambda: losses.batch_all_triplet_loss(X, [0, 0, 1], mean_over="some"), "mean_over: expected one of"),
        (lambda: losses.contrastive_loss(*np.float32([[[2e20]], [[0]]]), [1]), "x1, x2: .*squared distance.*overflows"),
        (lambda: losses.triplet_loss(LARGE, -LARGE, LARGE), "squared distance.*overflows"),
        (lambda: losses.triplet_loss(LARGE, LARGE, -LARGE), "squared distance.*overflows"),
        (lambda: losses.n_pair_loss(LARGE, LARGE), "anchor, positive: .*dot product.*overflows"),
        (lambda: losses.info_nce(LARGE, LARGE, 0 * LARGE, temperature=1.0), "negatives: .*logit.*overflows"),
        (lambda: losses.info_nce(LARGE, 0 * LARGE, LARGE, temperature=1.0), "negatives: .*logit.*overflows"),
        (lambda: losses.info_nce(LARGE, 0 * LARGE, LARGE[:, None], temperature=1.0), "logit.*overflows"),
        (lambda: losses.candidate_cross_entropy(LARGE, LARGE[:, None], [0, 0, 0]), "candidates: .*logit.*overflows"),
        (lambda: losses.info_nce(X, X, NONE, temperature=1.0), r"negatives: expected .*k >= 1, got \(0, 2\)"),
        (lambda: losses.info_nce(X, X, X[:, None][:, :0], temperature=1.0), r"negatives: .*k >= 1, got \(3, 0, 2\)"),
        (lambda: losses.focal_loss(X, X[:2]), r"targets: expected shape \(3, 2\)"),
        (lambda: losses.focal_loss(X, X, alpha=2.0), "alpha"),
        (lambda: losses.distillation_loss(X, X[:, :1], temperature=1.0), "teacher_logits"),
        (lambda: losses.softmax_cross_entropy(FAR, [1]), "logits: .*difference.*overflows"),
        (lambda: losses.softmax_cross_entropy(FAR, [1], class_weights=[1, 1]), "logits: .*difference.*overflows"),
        (lambda: losses.softmax_cross_entropy(FAR, [0], label_smoothing=0.1), "logits: .*difference.*overflows"),
        (lambda: losses.softmax_focal_loss(FAR, [1]), "logits: .*difference.*overflows"),
        (lambda: losses.focal_loss(FAR, [[0, 1]], alpha=None), "logits: .*overflows"),
        (lambda: losses.n_pair_loss(ONE, OTHER), "anchor, positive: .*difference of logits.*overflows"),
        (
            lambda: losses.info_nce(ONE, OTHER[[0, 0]], OTHER, temperature=1.0),
            "query, positive, negatives: .*difference of logits.*overflows",
        ),
        (lambda: losses.distillation_loss(FAR, 0 * FAR, temperature=0.5), "student_logits, temperature: .*overflows"),
        (lambda: losses.distillation_loss(0 * FAR, FAR, temperature=1.0), "teacher_logits, temperature: .*overflows"),
        (lambda: losses.distillation_loss(0 * FAR, 0 * FAR, temperature=1e20), "temperature: .*square.*overflows"),
        (lambda: losses.distillation_loss(0 * FAR, 0 * FAR, temperature=1e-50), "logits, temperature: .*overflows"),
        (lambda: losses.nt_xent(ONE, ONE, temperature=1e-40), "temperature: .*overflows"),
        (lambda: losses.nt_xent(ONE, ONE, temperature=1e-50), "temperature: .*overflows"),
    ],
)
@pytest.mark.filterwarnings("error")  # an overflow is an error and not a warning before it
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def from_the_top(logits):
    """Rows of float64 whose largest logit is 0: beside 3e38 the definitions would lose a logarithm of 3."""
    logits = logits.astype(np.float64)
    return (logits - logits.max(axis=1, keepdims=True)).tolist()


END = float(np.float32(3e38))
logits = st.integers(1, 3).flatmap(
    lambda n: arrays(
        np.float32, (n, 3), elements=st.sampled_from([0.0, 1.0, -80.0, END, -END]) | st.floats(-END, END, width=32)
    )
)
few_labels = st.lists(st.integers(0, 2), min_size=3, max_size=3)
RATIOS = [1.0, 0.25, 0.5]

# name: (a loss of logits (n, 3) and labels, what it is for float64)
OF_LOGITS = {
    "plain": (losses.softmax_cross_entropy, lambda x, y: definitions.cross_entropy(from_the_top(x), y)),
    "weighted": (
        lambda x, y: losses.softmax_cross_entropy(x, y, class_weights=RATIOS),
        lambda x, y: definitions.weighted_cross_entropy(from_the_top(x), y, RATIOS, 0.0),
    ),
    "smoothed": (
        lambda x, y: losses.softmax_cross_entropy(x, y, class_weights=RATIOS, label_smoothing=0.3),
        lambda x, y: definitions.weighted_cross_entropy(from_the_top(x), y, RATIOS, 0.3),
    ),
    "focal": (
        lambda x, y: losses.softmax_focal_loss(x, y, gamma=1.5, class_weights=RATIOS),
        lambda x, y: definitions.softmax_focal(from_the_top(x), y, RATIOS, 1.5),
    ),
    "sigmoid focal": (  # its definition has no sigmoid of 3e38
        lambda x, y: losses.focal_loss(x, np.eye(3)[y]),
        lambda x, y: losses.focal_loss(x.astype(np.float64), np.eye(3)[y])[0],
    ),
}


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.filterwarnings("error")
@given(x=logits, labels=few_labels)
def test_logits_far_apart_have_their_loss_or_are_refused(name, x, labels):
    loss, definition = OF_LOGITS[name]
    labels = labels[: len(x)]
    try:
        value, gradient = loss(x, labels)
    except NotFinite as error:
        assert str(error).startswith("logits: ") and np.abs(x).max() > 1e37
        return
    np.testing.assert_allclose(value, definition(x, labels), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, loss(x.astype(np.float64), labels)[1], atol=1e-4)


@given(x=logits, labels=few_labels)
def test_equal_class_weights_are_none(x, labels):
    outcomes = []
    for class_weights in (None, np.ones(3)):
        try:
            outcomes.append(losses.softmax_cross_entropy(x, labels[: len(x)], class_weights=class_weights)[0])
        except NotFinite:
            outcomes.append(np.inf)
    if max(outcomes) < 1e38:  # at the end of the range a sum of three may be in it or not
        np.testing.assert_allclose(*outcomes, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error")
@given(x=logits, y=logits, temperature=st.sampled_from([1e-50, 1e-30, 0.01, 1.0, 5.0, 1e20, 1e60]))
def test_distillation_of_logits_far_apart_has_its_loss_or_is_refused(x, y, temperature):
    x, y = x[: len(y)], y[: len(x)]
    try:
        value, gradients = losses.distillation_loss(x, y, temperature=temperature)
    except NotFinite as error:
        assert "temperature: " in str(error)
        assert temperature in (1e-50, 1e20, 1e60) or np.abs([x, y]).max() > 1e36 * temperature
        return
    expected = definitions.distillation(from_the_top(x), from_the_top(y), temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)
    wide = losses.distillation_loss(x.astype(np.float64), y.astype(np.float64), temperature=temperature)[1]
    scale = temperature + max(np.abs(a.astype(np.float64)).max() for a in (x, y))  # of the terms of the differences
    for found, expected in zip(gradients, wide):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * scale)
