"""RaBitQ: its factors by definition, its estimate over many rotations, its bound at the rate that is stated.

What every index must do (sound results, filters, files, any sequence of changes) is in the tests over all indexes.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refimpl.ann import ExactIndex, RaBitQIndex, knn_recall
from refimpl.ann.rabitq import GROUP, encode, largest_entry, query_tables, random_rotation, signs_of, table_error

METRICS = ["l2", "cosine", "ip"]


def normal(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def near_a_surface(n, seed, d=24):
    rng = np.random.default_rng(seed)
    flat = rng.standard_normal((n, 4)) @ np.random.default_rng(99).standard_normal((4, d))
    return (flat + 0.2 * rng.standard_normal(flat.shape)).astype(np.float32)


def structured(index):
    index._scan_limit = lambda: 0
    return index


def in_one_list(residuals):
    """The codes of residuals from a centroid at the origin -> v (n, d), spread g (n,)."""
    d = residuals.shape[1]
    digits, (_, scale, spread) = encode(residuals, np.zeros((1, d), np.float32), np.zeros(len(residuals), np.int32))
    return scale[:, None] * signs_of(digits, d), spread


@given(st.integers(1, 40), st.integers(0, 999))
@settings(max_examples=30)
def test_a_rotation_is_orthogonal(d, seed):
    rotation = random_rotation(d, np.random.default_rng(seed)).astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(d), atol=1e-6)


def test_rotations_have_no_preferred_direction():
    images = np.array([random_rotation(5, np.random.default_rng(seed))[0] for seed in range(2000)], np.float64)
    assert (np.abs(images.mean(0)) < 5 / np.sqrt(5 * 2000)).all()
    np.testing.assert_allclose(images.T @ images / 2000, np.eye(5) / 5, atol=0.03)


@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 999))
@settings(max_examples=40)
def test_the_factors_are_those_of_the_definition(n, d, seed):
    rng = np.random.default_rng(seed)
    residuals, centroids = normal(n, d, seed), normal(3, d, seed + 1)
    residuals[0] = 0
    residuals[rng.random((n, d)) < 0.1] = 0
    labels = rng.integers(0, 3, n).astype(np.int32)
    digits, factors = encode(residuals, centroids, labels)
    signs = np.where(residuals >= 0, 1.0, -1.0)
    np.testing.assert_array_equal(signs_of(digits, d), signs)
    assert digits.shape == (n, -(-d // GROUP)) and (digits < 16).all()
    bias, scale, spread = factors.astype(np.float64)
    v, r = scale[:, None] * signs, residuals.astype(np.float64)
    np.testing.assert_allclose((v * r).sum(1), (r**2).sum(1), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(bias, (r**2).sum(1) + 2 * (v * centroids[labels]).sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(spread, np.linalg.norm(v - r, axis=1) / np.sqrt(max(d - 1, 1)), rtol=1e-3, atol=1e-5)
    assert (factors[:, 0] == 0).all()


def over_rotations(r, s, trials):
    """Estimates of r.s and their spreads (trials,), each in a rotation of its own."""
    turned = [random_rotation(len(r), np.random.default_rng(seed)) for seed in range(trials)]
    v, spread = in_one_list(np.stack([r @ turn for turn in turned]))
    return np.einsum("ij,ij->i", v, np.stack([s @ turn for turn in turned])), spread


@pytest.mark.parametrize("d, seed", [(2, 0), (8, 1), (31, 2)])
def test_the_estimate_is_unbiased(d, seed):
    r, s = normal(2, d, seed)
    estimates, _ = over_rotations(r, s, 3000)
    assert abs(estimates.mean() - r @ s) < 5 * estimates.std() / np.sqrt(3000)
    assert estimates.std() > 0.05 * np.linalg.norm(r) * np.linalg.norm(s) / np.sqrt(d)


@pytest.mark.parametrize("d", [6, 24])
@pytest.mark.parametrize("eps0", [0.5, 1.0, 1.9])
def test_the_bound_fails_as_often_as_a_coordinate_on_a_sphere_is_large(d, eps0):
    """|v.s - r.s| is |w| |s'| times a coordinate of a random unit vector in d - 1 dimensions; its square is Beta."""
    r, s = normal(2, d, 7).astype(np.float64)
    trials = 3000
    estimates, spread = over_rotations(r.astype(np.float32), s.astype(np.float32), trials)
    across = s - r * (r @ s) / (r @ r)
    failures = (np.abs(estimates - r @ s) > eps0 * spread * np.linalg.norm(across)).sum()
    rate = stats.beta.sf(eps0**2 / (d - 1), 0.5, (d - 2) / 2)
    low, high = stats.binom.interval(1 - 1e-6, trials, rate)
    assert low <= failures <= high
    assert rate <= 2 * np.exp(-(eps0**2) / 2)
    assert (np.abs(estimates - r @ s) > eps0 * spread * np.linalg.norm(s)).sum() <= failures


def test_the_error_falls_with_the_root_of_the_dimension():
    errors = []
    for d in (16, 64, 256):
        r, s = normal(400, d, d), normal(400, d, d + 1)
        r, s = r / np.linalg.norm(r, axis=1, keepdims=True), s / np.linalg.norm(s, axis=1, keepdims=True)
        v, _ = in_one_list(r)
        errors.append(np.sqrt(d) * ((v * s).sum(1) - (r * s).sum(1)).std())
    assert max(errors) < 1.15 * min(errors) and 0.6 < np.mean(errors) < 0.9  # theory: sqrt(pi / 2 - 1) = 0.755


def table_sums(tables, digits):
    """The sum of entries of each code, by definition: part j of a quad at (j & 1) 4 + (j & 2), and again behind it."""
    part = np.arange(digits.shape[1])
    at = (part & 1) * 4 + (part & 2)
    sums = tables[part // 4, at, digits].astype(int).sum(1)
    np.testing.assert_array_equal(sums, tables[part // 4, at + 1, digits].astype(int).sum(1))
    return sums


@given(st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.0, 1e-3, 1.0, 1e6]))
@settings(max_examples=40)
def test_table_sums_are_the_products_with_signs(d, seed, size):
    rng = np.random.default_rng(seed)
    query, groups = size * normal(1, d, seed), -(-d // GROUP)
    tables, steps, offsets = query_tables(query, rng.random((groups, 16), np.float32))
    digits = rng.integers(0, 16, (50, groups)).astype(np.uint8)
    if d % GROUP:
        digits[:, -1] &= (1 << d % GROUP) - 1
    found = steps[0] * table_sums(tables[0], digits) - offsets[0]
    exact = signs_of(digits, d) @ query[0].astype(np.float64)
    assert (np.abs(found - exact) <= groups * steps[0] * 1.001 + 1e-30).all()
    assert tables.max() <= largest_entry(groups)


@given(st.integers(1, 60_000))
def test_sums_of_entries_stay_within_their_bits(groups):
    largest = largest_entry(groups)
    assert largest >= 1 and 2 * largest < 1 << 8 and groups * largest < 1 << 16


def test_rounded_tables_are_unbiased_and_within_their_bound():
    query, groups, trials = normal(1, 20, 3), 5, 4000
    digits = np.arange(groups, dtype=np.uint8)[None] * 3
    exact = float((signs_of(digits, 20) @ query[0].astype(np.float64))[0])
    found, step = np.empty(trials), 0.0
    for seed in range(trials):
        tables, steps, offsets = query_tables(query, np.random.default_rng(seed).random((groups, 16), np.float32))
        found[seed], step = steps[0] * table_sums(tables[0], digits)[0] - offsets[0], steps[0]
    assert found.std() > 0.1 * step
    assert abs(found.mean() - exact) < 5 * found.std() / np.sqrt(trials)
    for eps0 in (1.0, 2.0):
        failed = (np.abs(found - exact) > eps0 * table_error(step, groups)).mean()
        assert failed <= 2 * np.exp(-(eps0**2) / 2)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 150), st.integers(1, 20), st.integers(1, 12), st.booleans(), st.sampled_from([7, 1e3]),
    st.integers(0, 999),
)  # fmt: skip
def test_all_lists_and_a_wide_bound_are_an_exact_search(metric, n, d, k, copies, eps0, seed):
    """Beyond 7 deviations lies one of 10^10."""
    vectors, queries = normal(n, d, seed), normal(5, d, seed + 1)
    if copies and n:
        vectors = vectors[np.random.default_rng(seed).integers(0, min(n, 4), n)]
    index = structured(RaBitQIndex(metric=metric, lists=7, probes=7, eps0=eps0, seed=seed)).fit(vectors)
    found, true = index.search(queries, k), ExactIndex(metric=metric).fit(vectors).search(queries, k)
    np.testing.assert_array_equal(found.distances, true.distances)
    if not copies:
        np.testing.assert_array_equal(found.ids, true.ids)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(1, 12), st.sampled_from([0, 0.5]), st.booleans(),
    st.integers(0, 999),
)  # fmt: skip
def test_where_codes_are_exact_no_tie_is_lost_to_rounding(n, d, k, eps0, shell, seed):
    """A list for each vector: residuals are 0, estimates exact but for rounding; whole numbers tie and do not round."""
    rng = np.random.default_rng(seed)
    vectors, queries = rng.choice([-1, 1] if shell else [-2, -1, 0, 1, 2], (n, d)), rng.integers(-2, 3, (5, d))
    vectors, queries = np.concatenate([vectors, -vectors]), np.concatenate([queries, np.zeros((1, d), int)])  # the mean
    index = structured(RaBitQIndex(lists=2 * n, probes=2 * n, eps0=eps0, seed=seed)).fit(vectors)
    found, true = index.search(queries, k), ExactIndex().fit(vectors).search(queries, k)
    np.testing.assert_array_equal(found.ids, true.ids)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 16), st.integers(1, 9), st.integers(0, 999))
def test_where_only_the_tables_round_their_bound_is_certain(d, k, seed):
    """Turned vectors of ones and minus ones are their codes; 4 sqrt(G) / 2 steps are no less than G, for G <= 4."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (30, d))
    vectors = np.concatenate([signs, -signs]) @ random_rotation(d, np.random.default_rng(seed)).T
    index = structured(RaBitQIndex(lists=1, probes=1, eps0=4, seed=seed)).fit(vectors)
    np.testing.assert_allclose(np.abs(index._factors[:, 2]), 0, atol=0.01)  # the spread
    queries = normal(20, d, seed + 1)
    found, true = index.search(queries, k), ExactIndex().fit(vectors).search(queries, k)
    np.testing.assert_array_equal(found.distances, true.distances)


@pytest.mark.parametrize("data", ["constant", "line", "one", "none"])
def test_odd_data(data):
    vectors = {
        "constant": np.full((100, 6), 3.0, np.float32), "line": np.arange(90, dtype=np.float32)[:, None],
        "one": np.ones((1, 5), np.float32), "none": np.empty((0, 5), np.float32),
    }[data]  # fmt: skip
    index = structured(RaBitQIndex(lists=5, probes=5)).fit(vectors)
    found = index.search(vectors[:20] if len(vectors) else np.ones((2, 5)), 3)
    n_found = min(3, len(vectors))
    assert (found.ids[:, :n_found] >= 0).all() and (found.ids[:, n_found:] == -1).all()
    if n_found:
        assert (found.distances[:, 0] == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_recall_rises_with_the_bound_and_with_the_lists(metric):
    data = near_a_surface(6300, 0)
    vectors, queries = data[:6000], data[6000:]
    truth = ExactIndex(metric=metric).fit(vectors).search(queries, 10).ids
    index = structured(RaBitQIndex(metric=metric, lists=60, probes=12)).fit(vectors)

    def recall(name, value, rest):
        setattr(index, name, value)
        recalls.append(knn_recall(index.search(queries, 10).ids, truth))
        setattr(index, name, rest)

    recalls = []
    for eps0 in (0.0, 0.5, 1.0, 2.0, 4.0):
        recall("eps0", eps0, 1.9)
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1] - 0.02 and recalls[-1] > 0.97
    recalls = []
    for probes in (1, 2, 4, 8, 20, 60):
        recall("probes", probes, 12)
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1] - 0.02 and recalls[-1] > 0.97


def test_only_what_the_bound_lets_through_is_measured():
    data = near_a_surface(6100, 1, d=64)
    index = structured(RaBitQIndex(lists=50, probes=50)).fit(data[:6000])
    queries, measured = data[6000:], []
    for eps0 in (0.0, 1.0, 2.0, 4.0, 1e3):
        index.eps0 = eps0
        ids, distances, counts = index._in_lists(queries, 10, index._live)
        measured.append(counts.mean())
    assert measured == sorted(measured) and measured[2] < 300 and measured[-1] == 6000


def test_a_filter_is_obeyed_without_loss():
    data = near_a_surface(4100, 2)
    vectors, queries = data[:4000], data[4000:]
    index = structured(RaBitQIndex(lists=40, probes=20)).fit(vectors)
    for share in (0.5, 0.05, 0.01):
        mask = np.random.default_rng(3).random(4000) < share
        truth = np.flatnonzero(mask)[ExactIndex().fit(vectors[mask]).search(queries, 5).ids]
        ids = index.search(queries, 5, allow=mask).ids
        assert mask[ids].all() and knn_recall(ids, truth) > 0.95


def test_the_same_bits_for_a_seed_at_any_number_of_threads_and_others_for_another():
    vectors = near_a_surface(3000, 4)
    one, two, other = (
        RaBitQIndex(seed=seed).fit(vectors, threads=threads) for seed, threads in ((3, 1), (3, 2), (4, 2))
    )
    for name in RaBitQIndex._STRUCTURE:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one._rotation != other._rotation).any()


@pytest.mark.parametrize(
    "name, value", [("lists", 0), ("probes", 0), ("eps0", -1), ("eps0", np.nan), ("seed", -1), ("metric", "l1")]
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got "):
        RaBitQIndex(**{name: value})


@given(n=st.integers(2, 60), k=st.integers(1, 20), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_of_equal_vectors_the_smaller_ids_are_found(n, k, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (5, 4)).astype(np.float32)[rng.integers(0, 5, n)]
    ids = rng.permutation(3 * n)[:n]
    index = structured(RaBitQIndex(lists=3, probes=3, eps0=1e3)).fit(vectors, ids)
    true, found = ExactIndex().fit(vectors, ids).search(vectors, k), index.search(vectors, k)
    np.testing.assert_array_equal(found.ids, true.ids)
