"""Mined triplets against loops over all triplets, and the law by which distance-weighted negatives are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl import losses

from . import definitions

MINERS = {
    "batch_hard": losses.batch_hard,
    "semi_hard": lambda z, labels: losses.semi_hard(z, labels, margin=0.5),
    "distance_weighted": lambda z, labels: losses.distance_weighted(z, labels, 0),
}


@st.composite
def batches(draw, ties=True):
    """(z, labels) with at least one triplet; points on a coarse grid, so that distances tie, or on the sphere."""
    n, classes = draw(st.integers(3, 12)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, classes, n)
    labels[:3] = [5, 5, 6]
    labels = rng.permutation(labels)
    if ties and draw(st.booleans()):
        return rng.integers(0, 3, (n, 2)).astype(np.float64), labels
    z = rng.standard_normal((n, 5))
    return z / np.linalg.norm(z, axis=1, keepdims=True), labels


def as_rows(triplets):
    assert all(column.dtype == np.int64 for column in triplets)
    return list(zip(*(column.tolist() for column in triplets)))


@given(batches())
def test_batch_hard_is_the_hardest(batch):
    z, labels = batch
    expected = []
    for a in range(len(z)):
        mine = [t for t in definitions.triplets_of(labels) if t[0] == a]
        if mine:
            d = [definitions.distance(z[a], other) for other in z]
            expected.append(
                (a, max((t[1] for t in mine), key=lambda p: d[p]), min((t[2] for t in mine), key=lambda n: d[n]))
            )
    assert as_rows(losses.batch_hard(z, labels)) == expected


@given(batches(), st.floats(0, 2))
def test_semi_hard_is_the_nearest_between_positive_and_margin(batch, margin):
    z, labels = batch
    d = losses.euclidean_distance(z, z)[0]
    expected = {}
    for a, p, n in definitions.triplets_of(labels):
        if d[a, p] < d[a, n] < d[a, p] + margin:
            expected[a, p] = min((d[a, n], n), expected.get((a, p), (np.inf, -1)))
    found = as_rows(losses.semi_hard(z, labels, margin=margin))
    assert found == [(a, p, n) for (a, p), (_, n) in sorted(expected.items())]


@given(batches(ties=False))
def test_distance_weighted_draws_one_negative_a_pair(batch):
    z, labels = batch
    found = as_rows(losses.distance_weighted(z, labels, 3))
    allowed = definitions.triplets_of(labels)
    assert [t[:2] for t in found] == sorted({t[:2] for t in allowed})
    assert set(found) <= set(allowed)
    assert found == as_rows(losses.distance_weighted(z, labels, 3))


def density(d, k):
    """Of the distance of two random unit vectors in R^k, up to a factor (Wu et al. 2017, equation 3)."""
    return d ** (k - 2) * (1 - d * d / 4) ** ((k - 3) / 2)


@pytest.mark.parametrize("k", [2, 3, 16])
def test_distance_weighted_negatives_follow_their_law(k):
    """One anchor with 4000 positives (copies of itself) and ten negatives: a chi-squared test of the counts."""
    angles = np.linspace(0.1, 3.0, 10)
    z = np.zeros((4011, k))
    z[:4001, 0] = 1
    z[4001:, 0], z[4001:, 1] = np.cos(angles), np.sin(angles)
    labels = np.repeat([0, 1], [4001, 10])
    # only the first anchor's triplets: 4001 x 4000 pairs would be many
    one_anchor = np.concatenate([[0], np.arange(1, 201), np.arange(4001, 4011)])
    triplets = losses.distance_weighted(z[one_anchor], labels[one_anchor], 7)
    counts = np.bincount(triplets.negative[triplets.positive < 201] - 201, minlength=10)[:10]
    d = 2 * np.sin(angles / 2)
    weight = np.where(d < 1.4, 1 / density(np.maximum(d, 0.5), k), 0)
    assert not counts[weight == 0].any()
    used = weight > 0
    expected = weight[used] / weight.sum() * counts.sum()
    enough = expected >= 5
    assert (
        stats.chisquare(
            np.append(counts[used][enough], counts[used][~enough].sum() + 1e-9),
            np.append(expected[enough], expected[~enough].sum() + 1e-9),
        ).pvalue
        > 1e-4
    )


def test_anchors_whose_negatives_are_all_far_draw_among_all():
    z = np.array([[1.0, 0], [1, 0], [-1, 0], [-0.6, 0.8], [-0.6, -0.8]])
    triplets = losses.distance_weighted(np.tile(z, (20, 1)), np.tile([0, 0, 1, 2, 3], 20), 0)
    of_the_first = triplets.negative[triplets.anchor == 0] % 5
    assert set(of_the_first.tolist()) == {2, 3, 4}


@pytest.mark.parametrize("name", MINERS)
def test_bad_input_is_named(name):
    mine = MINERS[name]
    z = np.eye(4)
    with pytest.raises(ValueError, match="labels: .*every label occurs once"):
        mine(z, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="labels: expected a class with two rows, and another"):
        mine(z, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="labels: expected integers"):
        mine(z, [0.0, 0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="z: expected finite"):
        mine(z + np.inf, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="labels: expected shape"):
        mine(z, [0, 0, 1])


def test_more_bad_input_is_named():
    z, labels = np.eye(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match="z: expected unit vectors"):
        losses.distance_weighted(2 * z, labels, 0)
    with pytest.raises(ValueError, match="z: expected unit vectors"):
        losses.distance_weighted(np.ones((4, 1)), labels, 0)
    with pytest.raises(ValueError, match="nearest"):
        losses.distance_weighted(z, labels, 0, nearest=1.5)
    with pytest.raises(ValueError, match="farthest"):
        losses.distance_weighted(z, labels, 0, farthest=2.0)
    with pytest.raises(ValueError, match="margin"):
        losses.semi_hard(z, labels, margin=-0.1)
    rows = np.array([0])
    with pytest.raises(ValueError, match=r"triplets.negative: expected rows in \[0, 4\)"):
        losses.mined_triplet_loss(z, losses.Triplets(rows, rows, rows + 4))
    with pytest.raises(ValueError, match="triplets: expected three columns of one length"):
        losses.mined_triplet_loss(z, losses.Triplets(rows, rows, np.array([0, 1])))


def test_any_tuple_of_three_columns_is_triplets():
    z, columns = np.eye(4), (np.array([0, 1]), np.array([1, 0]), np.array([2, 3]))
    expected = losses.mined_triplet_loss(z, losses.Triplets(*columns))
    found = losses.mined_triplet_loss(z, columns)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    for other in (columns[:2], np.array(columns), None):
        with pytest.raises(ValueError, match=r"triplets: expected a tuple \(anchor, positive, negative\)"):
            losses.mined_triplet_loss(z, other)


def test_no_triplets_no_loss():
    z, none = np.eye(3), np.array([], np.int64)
    loss, dz = losses.mined_triplet_loss(z, losses.Triplets(none, none, none))
    assert loss == 0 and not dz.any() and dz.shape == z.shape
    # all negatives are farther than positives by more than the margin
    far = np.array([[0.0, 0], [0, 0.1], [9, 0], [9, 0.1]])
    assert not len(losses.semi_hard(far, [0, 0, 1, 1], margin=0.2).anchor)


def test_a_negative_at_exactly_the_margin_is_satisfied():
    line = np.array([[0.0], [1.0], [2.0]])  # of anchor 0: d_ap = 1, d_an = 2; of anchor 1 both are 1
    assert not len(losses.semi_hard(line, [0, 0, 1], margin=1.0).anchor)
    assert as_rows(losses.semi_hard(line, [0, 0, 1], margin=1.001)) == [(0, 1, 2)]
