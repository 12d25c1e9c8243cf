"""Tests of tests: exact by enumeration, p-values uniform under the null, intervals that cover, power that is kept."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from refimpl import metrics


def test_t_test_is_scipys():
    rng = np.random.default_rng(0)
    for q in (2, 5, 40):
        a, b = rng.normal(size=(2, q))
        ours, theirs = metrics.paired_t_test(a, b), stats.ttest_rel(a, b)
        assert ours == pytest.approx((theirs.statistic, theirs.pvalue))
    assert metrics.paired_t_test([1.0, 2.0], [1.0, 2.0]) == (0, 1)
    assert metrics.paired_t_test([2.0, 3.0], [1.0, 2.0]) == (np.inf, 0)


def test_randomization_test_is_the_share_of_all_exchanges():
    rng = np.random.default_rng(1)
    for _ in range(3):
        a, b = np.round(rng.random((2, 8)), 1)
        d = a - b
        sums = [abs(sum(s * x for s, x in zip(signs, d))) for signs in product((-1, 1), repeat=8)]
        exact = np.mean([total >= abs(d.sum()) - 1e-9 for total in sums])
        ours = metrics.paired_randomization_test(a, b, n_permutations=20000, seed=2)
        assert ours.statistic == pytest.approx(d.mean())
        assert ours.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20000) + 1e-4)


def test_the_smallest_p_value_counts_the_observed_assignment():
    a = np.arange(50.0)
    assert metrics.paired_randomization_test(a + 1, a, n_permutations=99).p_value == 0.01
    assert metrics.paired_randomization_test(a, a, n_permutations=99).p_value == 1


@pytest.mark.parametrize("test", ["t", "randomization"])
def test_p_values_are_uniform_under_the_null(test):
    rng = np.random.default_rng(3)
    p_values = []
    for i in range(400):
        a, b = rng.beta(2, 3, (2, 30))
        if test == "t":
            p_values.append(metrics.paired_t_test(a, b).p_value)
        else:
            p_values.append(metrics.paired_randomization_test(a, b, n_permutations=499, seed=i).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_bootstrap_intervals_cover_a_skewed_mean():
    rng = np.random.default_rng(4)
    covered = []
    for i in range(400):
        low, high = metrics.bootstrap_interval(rng.exponential(1, 50), confidence=0.9, n_resamples=600, seed=i)
        covered.append(low <= 1 <= high)
    assert 0.85 <= np.mean(covered) <= 0.94
    assert metrics.bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_bootstrap_interval_is_scipys():
    values = np.random.default_rng(5).exponential(1, 40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000).confidence_interval
    assert metrics.bootstrap_interval(values, n_resamples=20000) == pytest.approx(tuple(theirs), abs=0.01)


@given(
    st.lists(st.integers(0, 10), min_size=2, max_size=30),
    st.sampled_from([0.1, 1 / 3, 1 / 7, 1e-5, 123.4, 1e-110, 1e150]),
)
def test_the_bootstrap_interval_of_tied_means_is_the_same_in_all_units(values, unit):
    """Of few different values many means are equal, up to rounding, which the unit changes."""
    values, options = np.array(values), {"n_resamples": 300, "seed": 3}
    expected = unit * np.array(metrics.bootstrap_interval(values, **options))
    np.testing.assert_allclose(
        metrics.bootstrap_interval(unit * values, **options), expected, rtol=1e-9, atol=1e-15 * unit
    )


@given(st.integers(3, 60), st.sampled_from([0.8, 0.999, 1 - 1e-7, 1 - 1e-9, 1 - 1e-12]))
def test_a_surer_interval_is_not_narrower(n, confidence):
    values = np.arange(n) == 0
    low, high = metrics.bootstrap_interval(values, confidence=0.8, n_resamples=500)
    surer = metrics.bootstrap_interval(values, confidence=confidence, n_resamples=500)
    assert surer[0] <= low and surer[1] >= high


@given(st.floats(-1e6, 1e6), st.integers(2, 50))
def test_equal_differences_have_no_spread(v, n):
    sign = np.sign(v) * np.inf if v else 0
    assert metrics.effect_size(np.full(n, v), np.zeros(n)) == sign
    assert metrics.paired_t_test(np.full(n, v), np.zeros(n)) == (sign, 0 if v else 1)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8), st.integers(-900, 900))
def test_the_t_test_and_the_effect_size_are_the_same_in_all_units(d, exponent):
    d, zero = np.array(d) / 10, np.zeros(len(d))
    assert metrics.paired_t_test(np.ldexp(d, exponent), zero) == metrics.paired_t_test(d, zero)
    assert metrics.effect_size(np.ldexp(d, exponent), zero) == metrics.effect_size(d, zero)


def test_effect_size_and_counts_by_hand():
    a, b = [0.5, 0.7, 0.2, 0.4], [0.4, 0.4, 0.2, 0.5]
    d = np.array([0.1, 0.3, 0.0, -0.1])
    assert metrics.effect_size(a, b) == pytest.approx(d.mean() / d.std(ddof=1))
    assert metrics.win_tie_loss(a, b) == (2, 1, 1)
    assert metrics.win_tie_loss(a, b, tolerance=0.15) == (1, 3, 0)


p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_lists)
def test_holm_and_benjamini_hochberg_reject_what_their_procedures_reject(p):
    n, order = len(p), np.argsort(p, kind="stable")
    for adjusted, bound, step_up in (
        (metrics.holm(p), lambda i: 1 / (n - i), False),
        (metrics.benjamini_hochberg(p), lambda i: (i + 1) / n, True),
    ):
        assert ((adjusted >= p) & (adjusted <= 1)).all()
        for alpha in (0.01, 0.05, 0.3, 0.9):
            small = [p[order[i]] <= alpha * bound(i) for i in range(n)]
            count = max((i + 1 for i in range(n) if small[i]), default=0) if step_up else (small + [False]).index(False)
            margin = min(abs(p[order[i]] - alpha * bound(i)) for i in range(n))
            if margin > 1e-9:
                assert set(np.flatnonzero(adjusted <= alpha)) == set(order[:count])


def test_adjusted_p_values_by_hand():
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert metrics.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


def test_power_is_the_share_of_experiments_that_find_the_effect():
    rng = np.random.default_rng(7)
    found = [metrics.paired_t_test(d, np.zeros(25)).p_value <= 0.05 for d in rng.normal(0.5, 1, (3000, 25))]
    assert metrics.power(0.5, 25) == pytest.approx(np.mean(found), abs=0.03)
    assert metrics.power(0.0, 25) == pytest.approx(0.05)


@pytest.mark.parametrize("q", [2, 3, 5, 10, 50, 400])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.01, 1e-4, 1e-8])
@pytest.mark.filterwarnings("error")
def test_power_is_the_mean_over_the_normal_of_what_the_spread_allows(q, alpha):
    """P(|Z + shift| > t* sqrt(V / (q - 1))), integrated over Z: shifts from 0 to far beyond what nctdtr computes."""
    shifts = np.array([0.0, 0.5, 2, 5, 8, 9.5, 12, 19.99, 20.01, 30, 36.9, 37.1, 60, 500, 1e9, 1e200])
    ours = np.array([metrics.power(shift / np.sqrt(q), q, alpha=alpha) for shift in shifts])
    critical = stats.t.isf(alpha / 2, q - 1)

    def chance(z, shift):
        return np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * special.chdtr(q - 1, (q - 1) * ((z + shift) / critical) ** 2)

    for power, shift in zip(ours[:14], shifts):
        assert power == pytest.approx(integrate.quad(chance, -9, 9, (shift,), epsabs=1e-10, limit=500)[0], abs=1e-8)
    assert (ours <= 1).all() and ours[-1] == 1
    assert (np.diff(ours) >= -1e-12).all()


def test_power_with_few_queries_and_a_large_effect():
    assert metrics.power(27, 2, alpha=0.01) == pytest.approx(0.45, abs=0.005)
    assert metrics.queries_needed(27, alpha=0.01) == 3
    for q, alpha in ((2, 0.01), (3, 1e-4), (4, 1e-8)):
        for shift in (20, 37):
            below, above = (metrics.power(shift * s / np.sqrt(q), q, alpha=alpha) for s in (1 - 1e-9, 1 + 1e-9))
            assert above == pytest.approx(below, abs=1e-7)


@pytest.mark.parametrize("effect", [0.05, 0.3, 0.8, 3.0])
def test_queries_needed_is_the_fewest_that_keep_the_power(effect):
    q = metrics.queries_needed(effect)
    assert metrics.power(effect, q) >= 0.8
    assert q == 2 or metrics.power(effect, q - 1) < 0.8


def test_compare_and_its_tables():
    rng = np.random.default_rng(8)
    base = rng.random(60)
    better = np.clip(base + rng.normal(0.1, 0.1, 60), 0, 1)
    systems = {"base": base, "better_50%|": better, "same": base + 0.0}
    rows = metrics.compare(systems, "base", n_permutations=999)
    assert [row.system for row in rows] == ["better_50%|", "same"]
    assert rows[0].low < rows[0].difference < rows[0].high and rows[0].adjusted == pytest.approx(0.002)
    assert (rows[1].difference, rows[1].ties, rows[1].p_value, rows[1].adjusted) == (0, 60, 1, 1)
    markdown, latex = metrics.as_markdown(rows), metrics.as_latex(rows)
    assert len(markdown.splitlines()) == 4 and r"better_50%\|" in markdown
    assert len({line.replace(r"\|", "").count("|") for line in markdown.splitlines()}) == 1
    assert r"better\_50\%|" in latex and latex.count(r"\\") == 3
    as_dicts = {name: {f"q{i}": v for i, v in enumerate(values)} for name, values in systems.items()}
    assert metrics.compare(as_dicts, "base", n_permutations=999) == rows


def test_the_tables_name_the_confidence_of_their_intervals():
    systems = {"base": [0.1, 0.5, 0.2], "x^2~y": [0.3, 0.4, 0.6]}
    rows = {c: metrics.compare(systems, "base", n_permutations=9, confidence=c) for c in (0.58, 0.9, 0.999)}
    for c, text in ((0.58, "58%"), (0.9, "90%"), (0.999, "99.9%")):
        assert rows[c][0].confidence == c
        assert f"| {text} interval |" in metrics.as_markdown(rows[c])
        assert rf"& {text[:-1]}\% interval &" in metrics.as_latex(rows[c])
    assert rows[0.9][0].high - rows[0.9][0].low < rows[0.999][0].high - rows[0.999][0].low
    assert r"x\^{}2\~{}y &" in metrics.as_latex(rows[0.9])
    for table in (metrics.as_markdown, metrics.as_latex):
        with pytest.raises(ValueError, match=r"^comparisons: expected intervals of one confidence, got \[0.58, 0.9\]"):
            table(rows[0.9] + rows[0.58])
    assert "| 95% interval |" in metrics.as_markdown(metrics.compare(systems, "base", n_permutations=9))
    assert "| interval |" in metrics.as_markdown([])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.paired_t_test([1.0], [1.0]), "a"),
        (lambda: metrics.paired_t_test([1.0, 2.0], [1.0]), "b"),
        (lambda: metrics.paired_t_test([1.0, np.nan], [1.0, 2.0]), "a"),
        (lambda: metrics.paired_randomization_test([1.0, 2.0], [1.0, 2.0], n_permutations=0), "n_permutations"),
        (lambda: metrics.bootstrap_interval([1.0, 2.0], confidence=1), "confidence"),
        (lambda: metrics.holm([0.5, 1.5]), "p_values"),
        (lambda: metrics.benjamini_hochberg([]), "p_values"),
        (lambda: metrics.power(0.5, 1), "n_queries"),
        (lambda: metrics.queries_needed(0.0), "effect"),
        (lambda: metrics.win_tie_loss([1.0, 2.0], [1.0, 2.0], -1), "tolerance"),
        (lambda: metrics.compare({"a": [1.0, 2.0]}, "b"), "baseline"),
        (lambda: metrics.compare({"a": [1.0, 2.0]}, "a"), "systems"),
        (lambda: metrics.compare({"a": {"q": 1.0}, "b": {"r": 1.0}}, "a"), "systems"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
