"""The formulas of LSH against simulation, with binomial bounds, and against integrals done numerically."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from refimpl.ann.lsh_theory import (
    choose_tables,
    hyperplane_collision,
    multiprobe_probability,
    pstable_collision,
    rho,
    success_probability,
)

UNLIKELY = 1e-9  # how often a right formula may fail a test


def assert_binomial(hits, trials, p):
    """`hits` of `trials` is no surprise at probability `p`."""
    low, high = stats.binom.interval(1 - UNLIKELY, trials, p)
    assert low <= hits <= high, f"{hits} of {trials} at p = {p}: expected {low} to {high}"


def pair_at_angle(angle, d, rng):
    a, b = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    return a, math.cos(angle) * a + math.sin(angle) * b


@pytest.mark.parametrize("angle", [0.0, 0.1, math.pi / 4, math.pi / 2, 2.5, math.pi])
def test_hyperplane_collision_rate_is_one_minus_angle_over_pi(angle):
    rng = np.random.default_rng(1)
    x, y = pair_at_angle(angle, 7, rng)
    a = rng.standard_normal((20000, 7))
    assert_binomial(((a @ x >= 0) == (a @ y >= 0)).sum(), 20000, np.clip(hyperplane_collision(angle), 0, 1))


@pytest.mark.parametrize("distance", [0.0, 0.05, 1.0, 3.0, 40.0])
def test_pstable_collision_rate_follows_datar(distance):
    rng, width, trials = np.random.default_rng(2), 1.5, 40000
    x = rng.standard_normal(5)
    y = x + distance * np.eye(5)[0]
    a, b = rng.standard_normal((trials, 5)), width * rng.random(trials)
    same = np.floor((a @ x + b) / width) == np.floor((a @ y + b) / width)
    assert_binomial(same.sum(), trials, float(pstable_collision(distance, width)))


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_pstable_collision_is_the_integral_of_its_definition(distance, width):
    def integrand(t):  # in units of the distance
        return 2 * stats.norm.pdf(t) * (1 - t * distance / width)

    expected, _ = integrate.quad(integrand, 0, min(width / distance, 40))
    assert pstable_collision(distance, width) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.01, 100), st.lists(st.floats(0, 1e6), min_size=2, max_size=8))
def test_collision_falls_with_distance(width, distances):
    p = pstable_collision(np.sort(distances), width)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) <= 1e-12).all()
    assert pstable_collision(0, width) == 1


@pytest.mark.parametrize("bits, tables", [(1, 1), (4, 3), (8, 12)])
def test_success_probability_is_the_rate_of_meeting_in_a_table(bits, tables):
    rng, p, trials = np.random.default_rng(3), 0.8, 5000
    met = (rng.random((trials, tables, bits)) < p).all(2).any(1)
    assert_binomial(met.sum(), trials, float(success_probability(p, bits, tables)))


@given(st.floats(0, 1), st.integers(1, 30))
def test_success_probability_grows_with_tables_and_falls_with_bits(p, bits):
    by_tables = [float(success_probability(p, bits, tables)) for tables in range(1, 6)]
    assert (np.diff(by_tables) >= -1e-12).all()
    assert success_probability(p, bits + 1, 3) <= success_probability(p, bits, 3) + 1e-12
    assert success_probability(p, bits, 1) == pytest.approx(p**bits, abs=1e-12)


@given(st.floats(0, 1), st.integers(1, 20))
def test_multiprobe_with_all_flips_finds_everything_and_with_none_one_bucket(p, bits):
    assert multiprobe_probability(p, bits, bits) == pytest.approx(1)
    assert multiprobe_probability(p, bits, 0) == pytest.approx(p**bits)


def test_multiprobe_probability_is_the_binomial_distribution():
    assert multiprobe_probability(0.7, 12, 3) == pytest.approx(stats.binom.cdf(3, 12, 0.3))


@given(st.floats(0.5, 0.99), st.floats(0.05, 0.45), st.integers(1, 10**7), st.floats(0.1, 0.9))
def test_chosen_tables_reach_the_recall_and_no_other_number_of_bits_is_cheaper(p_near, p_far, n, recall):
    chosen = choose_tables(p_near, p_far, n, recall)
    assert success_probability(p_near, chosen.bits, chosen.tables) >= recall - 1e-9
    if chosen.tables > 1:
        assert success_probability(p_near, chosen.bits, chosen.tables - 1) < recall + 1e-9
    for bits in range(1, 41):
        tables = next((t for t in range(1, 200) if success_probability(p_near, bits, t) >= recall), None)
        if tables is not None:
            assert chosen.cost <= tables * (bits + n * p_far**bits) * (1 + 1e-9)


def test_rho_of_known_values():
    assert rho(0.25, 0.0625) == pytest.approx(0.5)
    assert rho(0.5, 0.5) == pytest.approx(1)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: hyperplane_collision(-0.1), "angle"),
        (lambda: hyperplane_collision(np.nan), "angle"),
        (lambda: pstable_collision(-1, 1), "distance"),
        (lambda: pstable_collision(np.inf, 1), "distance"),
        (lambda: pstable_collision(1, 0), "width"),
        (lambda: success_probability(0.5, 0, 1), "bits"),
        (lambda: success_probability(0.5, 1, 0), "tables"),
        (lambda: success_probability(1.5, 1, 1), "p"),
        (lambda: multiprobe_probability(0.5, 3, -1), "flips"),
        (lambda: multiprobe_probability(-0.5, 3, 1), "p"),
        (lambda: rho(0.1, 0.5), "p_near"),
        (lambda: choose_tables(0.5, 0.6, 10, 0.9), "p_near"),
        (lambda: choose_tables(0.6, 0.5, 10, 1.0), "recall"),
        (lambda: choose_tables(0.001, 0.0005, 10, 0.999), "max_tables"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()


@given(st.floats(-300, -4))
def test_pairs_much_farther_apart_than_the_width_keep_their_digits(exponent):
    r = 10.0**exponent
    p = pstable_collision(1.0, r)
    assert 0 <= p <= 1 and p == pytest.approx(r / math.sqrt(2 * math.pi), rel=max(r * r, 1e-11))


def test_multiprobe_probability_of_many_bits():
    assert multiprobe_probability(0.5, 2000, 1000) == pytest.approx(stats.binom.cdf(1000, 2000, 0.5))
