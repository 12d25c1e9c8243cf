"""A/B tests, interleaving and the bandit on simulated users: what is true is found, and what is not is rarely found."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl import metrics

# ---- Assignment -----------------------------------------------------------------------------------------------------


def test_assignment_is_sticky_salted_and_has_its_shares():
    users = [f"user{i}" for i in range(6000)]
    first = np.array([metrics.assign(user, "a", [0.2, 0.3, 0.5]) for user in users])
    assert (first == [metrics.assign(user, "a", [0.2, 0.3, 0.5]) for user in users]).all()
    counts = np.bincount(first)
    assert metrics.sample_ratio_test(counts, [0.2, 0.3, 0.5]) > 0.001
    other = np.array([metrics.assign(user, "b", [0.2, 0.3, 0.5]) for user in users])
    assert stats.chi2_contingency(np.histogram2d(first, other, bins=3)[0]).pvalue > 0.001
    moved = np.array([metrics.assign(user, "a", [0.2, 0.4, 0.4]) for user in users])
    assert set(zip(first[first != moved], moved[first != moved])) == {(2, 1)}


def test_assignment_does_not_change_between_versions():
    assert [metrics.assign(user, "checkout") for user in range(12)] == PINNED
    assert metrics.assign("7", "checkout") == metrics.assign(7, "checkout")
    assert {metrics.assign("c" + str(i), "ab") == metrics.assign(str(i), "abc") for i in range(50)} == {True, False}


PINNED = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0]


def test_sample_ratio_test_is_scipys_chi_squared():
    assert metrics.sample_ratio_test([5000, 5200], [0.5, 0.5]) == pytest.approx(stats.chisquare([5000, 5200]).pvalue)
    assert metrics.sample_ratio_test([900, 50, 50], [0.8, 0.1, 0.1]) < 1e-6


# ---- How many, and what came out ------------------------------------------------------------------------------------


def test_sample_sizes_reach_the_chance_that_was_asked_for():
    rng = np.random.default_rng(0)
    n = metrics.sample_size_proportions(0.1, 0.03)
    pairs = zip(rng.binomial(n, 0.1, 2000), rng.binomial(n, 0.13, 2000))
    found = [metrics.proportion_test(int(a), n, int(b), n).p_value <= 0.05 for a, b in pairs]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)
    n = metrics.sample_size_means(2.0, 0.5, chance=0.9)
    found = [metrics.mean_test(*rng.normal([[0], [0.5]], 2.0, (2, n))).p_value <= 0.05 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.9, abs=0.035)


chances = st.floats(0, 1, exclude_min=True, exclude_max=True)
deviations = st.sampled_from([1e-3, 0.05, 0.3, 1.0, 40.0, 1e3])


@given(chances, chances, st.sampled_from([1e-17, 1e-4, 0.05, 0.5]), deviations)
def test_sample_sizes_never_fall_as_the_chance_rises_and_are_at_least_two(chance, other, alpha, lift):
    lower, higher = sorted((chance, other))
    for size in (
        lambda c: metrics.sample_size_means(1.0, -lift, alpha=alpha, chance=c),
        lambda c: metrics.sample_size_proportions(0.1, 0.85 * lift / 1e3, alpha=alpha, chance=c),
    ):
        assert 2 <= size(lower) <= size(higher)


def test_sample_sizes_by_hand():
    """At chance 0.025 the quantiles 1.96 and -1.96 cancel; below it any number will do."""
    assert metrics.sample_size_means(1.0, 0.1) == 1570
    assert metrics.sample_size_means(1.0, 0.1, chance=0.1) == 93
    assert metrics.sample_size_means(1.0, 0.1, chance=0.001) == metrics.sample_size_proportions(0.1, 0.02, chance=1e-3)
    assert metrics.sample_size_means(1.0, 0.1, chance=0.001) == metrics.sample_size_means(1.0, 1e3) == 2


lengths = st.integers(2, 3000)


@given(st.floats(-1e6, 1e6), lengths, lengths)
def test_samples_of_one_and_the_same_value_do_not_differ(value, n, m):
    assert metrics.mean_test(np.full(n, value), np.full(m, value)) == (0, 0, 0, 0, 1)
    shown = 1.0 + np.arange(n) % 7, 1.0 + np.arange(m) % 7
    for a, b in (np.ones(n), np.ones(m)), shown:
        result = metrics.ratio_test(value * a, a, value * b, b)
        assert result.p_value == 1 and result.low <= 0 <= result.high


users = st.lists(st.integers(-1000, 1000).map(lambda i: i / 10), min_size=2, max_size=6)


@given(users, users, st.integers(-900, 900))
def test_mean_test_in_other_units_is_the_same(a, b, exponent):
    one, other = metrics.mean_test(a, b), metrics.mean_test(np.ldexp(a, exponent), np.ldexp(b, exponent))
    assert other.p_value == one.p_value and other[:4] == tuple(np.ldexp(one[:4], exponent))
    if np.ptp(a) > 0 and np.ptp(b) > 0:
        assert one.p_value == pytest.approx(stats.ttest_ind(b, a, equal_var=False).pvalue, rel=1e-9, abs=1e-12)


def test_mean_test_is_scipys_welch():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 30), rng.normal(0.4, 3, 12)
    theirs = stats.ttest_ind(b, a, equal_var=False)
    ours = metrics.mean_test(a, b, confidence=0.9)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.9)))
    assert metrics.mean_test([1.0, 1.0], [1.0, 1.0]).p_value == 1


def test_proportion_test_by_hand():
    ours = metrics.proportion_test(30, 200, 50, 210)
    p = 80 / 410
    z = (50 / 210 - 30 / 200) / np.sqrt(p * (1 - p) * (1 / 200 + 1 / 210))
    assert ours.p_value == pytest.approx(2 * stats.norm.sf(z)) and ours.low < ours.difference < ours.high
    table = [[30, 170], [50, 160]]
    assert ours.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    assert metrics.proportion_test(0, 5, 0, 9).p_value == 1


def users_with_moods(rng, n):
    """(clicks, impressions) of n users who differ in how much they see and in how much they click."""
    impressions = rng.integers(1, 80, n)
    return rng.binomial(impressions, rng.beta(2, 8, n)), impressions


def test_ratio_test_is_right_about_users_where_counting_impressions_is_not():
    rng = np.random.default_rng(2)
    by_user, by_impression = [], []
    for _ in range(500):
        (x_a, y_a), (x_b, y_b) = users_with_moods(rng, 150), users_with_moods(rng, 150)
        by_user.append(metrics.ratio_test(x_a, y_a, x_b, y_b).p_value)
        counts = (int(v.sum()) for v in (x_a, y_a, x_b, y_b))
        by_impression.append(metrics.proportion_test(*counts).p_value)
    assert stats.kstest(by_user, "uniform").pvalue > 0.01
    assert np.mean(np.array(by_impression) <= 0.05) > 0.2


def test_the_variance_of_a_ratio_is_what_it_scatters():
    rng = np.random.default_rng(3)
    ratios, variances = np.array([metrics.ratio_of_sums(*users_with_moods(rng, 200)) for _ in range(1500)]).T
    assert variances.mean() == pytest.approx(ratios.var(), rel=0.12)
    assert ratios.mean() == pytest.approx(0.2, abs=0.003)


# ---- Looking early --------------------------------------------------------------------------------------------------


def test_peeking_is_safe_with_the_sequential_test_and_not_without():
    rng = np.random.default_rng(4)
    looks = np.arange(20, 1000, 20)
    fooled_sequential = fooled_fixed = 0
    for _ in range(300):
        differences = np.cumsum(rng.normal(0, np.sqrt(2), 1000))[looks - 1] / looks
        errors = np.sqrt(2 / looks)
        fooled_fixed += (np.abs(differences) > 1.96 * errors).any()
        p_values = [metrics.sequential_test(d, e, 0.2).p_value for d, e in zip(differences, errors)]
        fooled_sequential += min(p_values) <= 0.05
    assert fooled_sequential / 300 <= 0.06
    assert fooled_fixed / 300 > 0.2


@pytest.mark.parametrize(("first", "low", "high"), [(2, 0.08, 1), (30, 0, 0.05)])
def test_an_estimated_error_is_good_enough_from_some_dozens_of_users_on(first, low, high):
    """A look at every user of both buckets: with two a bucket the estimate is often far too small."""
    rng, n, fooled = np.random.default_rng(6), np.arange(1, 151), 0
    for _ in range(300):
        x = rng.normal(size=(2, 150))
        mean = np.cumsum(x, axis=1) / n
        variance = ((np.cumsum(x * x, axis=1) - n * mean**2) / np.maximum(n - 1, 1) / n).sum(axis=0)
        looks = zip((mean[1] - mean[0])[first - 1 :], np.sqrt(variance)[first - 1 :])
        fooled += min(metrics.sequential_test(d, e, 1.0).p_value for d, e in looks) <= 0.05
    assert low <= fooled / 300 <= high


def test_the_sequential_interval_is_where_its_p_value_crosses():
    for difference, error, prior in ((0.3, 0.1, 0.2), (0.0, 0.05, 0.5), (-2.0, 0.4, 1.0)):
        ours = metrics.sequential_test(difference, error, prior, confidence=0.9)
        for edge in (ours.low, ours.high):
            assert metrics.sequential_test(difference - edge, error, prior).p_value == pytest.approx(0.1)
        assert (ours.p_value <= 0.1) == (not ours.low <= 0 <= ours.high)


ordinary = st.floats(0.01, 100)


@given(st.floats(-30, 30), ordinary, ordinary, st.sampled_from([-500, -170, 0, 170, 500]))
def test_the_sequential_test_is_its_formula_in_all_units(difference, error, prior, exponent):
    v, t = error**2, prior**2
    ratio = np.sqrt(v / (v + t)) * np.exp(np.minimum(t * difference**2 / (2 * v * (v + t)), 700))
    half = np.sqrt(v * (v + t) / t * (2 * np.log(1 / 0.05) + np.log((v + t) / v)))
    numbers = [difference, error, prior, difference - half, difference + half]
    *scaled, low, high = np.ldexp(numbers, 3 * exponent // 2).tolist()
    ours = metrics.sequential_test(*scaled)
    assert ours.p_value == pytest.approx(min(1, 1 / ratio), rel=1e-9, abs=1e-300)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9 * scaled[1])


extreme = st.sampled_from([1e-300, 1e-170, 1e-3, 1.0, 1e170, 1e300])


@given(st.sampled_from([0.0, 1e-300, -0.1, 1e200, -1e300]), extreme, extreme)
def test_the_sequential_test_has_a_p_value_and_an_interval_for_all_finite_numbers(difference, error, prior):
    ours = metrics.sequential_test(difference, error, prior)
    assert 0 <= ours.p_value <= 1 and ours.low <= difference <= ours.high


def test_the_sequential_test_finds_what_is_there():
    rng = np.random.default_rng(5)
    differences = 0.4 + rng.normal(0, np.sqrt(2 / 500), 200)
    found = [metrics.sequential_test(d, np.sqrt(2 / 500), 0.3).p_value <= 0.05 for d in differences]
    assert np.mean(found) > 0.95


# ---- Interleaving ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["team draft", "balanced"])
def test_pages_are_made_of_the_tops_of_both(mix):
    rng = np.random.default_rng(6)
    for _ in range(200):
        a, b = rng.permutation(12)[: rng.integers(1, 9)], rng.permutation(12)[: rng.integers(1, 9)]
        k = int(rng.integers(1, 12))
        if mix == "balanced":
            page = metrics.balanced(a, b, k, bool(rng.integers(2)))
        else:
            page, teams = metrics.team_draft(a, b, k, rng)
        everything = set(a.tolist()) | set(b.tolist())
        assert len(page) == len(set(page.tolist())) == min(k, len(everything))
        for m in range(1, len(page) + 1):
            shown = set(page[:m].tolist())
            if mix == "balanced":
                depths = [(i, j) for i in range(9) for j in (i - 1, i, i + 1) if j >= 0]
                tops = [set(a[:i].tolist()) | set(b[:j].tolist()) for i, j in depths]
                assert shown in tops or min(len(a), len(b)) < m
            else:
                assert abs(int((teams[:m] == 0).sum()) - int((teams[:m] == 1).sum())) <= 1 or min(len(a), len(b)) < m
        if mix == "team draft":
            for i, (document, team) in enumerate(zip(page.tolist(), teams)):
                ranking = [d for d in (a, b)[team].tolist() if d not in page[:i]]
                assert ranking[0] == document


def test_the_same_ranking_twice_has_no_winner_in_the_long_run():
    rng = np.random.default_rng(7)
    ranking = np.arange(6)
    winners = []
    for _ in range(600):
        page, teams = metrics.team_draft(ranking, ranking, 6, rng)
        assert (page == ranking).all()
        clicked = metrics.simulate_clicks(np.full((1, 6), 0.5), [1, 0.5, 0.3, 0.2, 0.1, 0.1], rng)[0]
        winners.append(metrics.team_draft_winner(teams, clicked))
        assert metrics.balanced_winner(ranking, ranking, page, rng.random(6) < 0.4) == 0
    assert metrics.preference_test(winners).p_value > 0.001


@pytest.mark.parametrize("mix", ["team draft", "balanced"])
def test_the_better_ranking_wins_although_top_positions_are_clicked_more(mix):
    rng = np.random.default_rng(8)
    attraction, examination = np.array([0.8, 0.6, 0.5, 0.3, 0.2, 0.1]), 1 / np.arange(1, 7)
    good, bad = np.arange(6), np.arange(6)[::-1].copy()
    for a, b, better in ((bad, good, 1), (good, bad, -1)):
        winners = []
        for _ in range(400):
            if mix == "balanced":
                page = metrics.balanced(a, b, 6, bool(rng.integers(2)))
            else:
                page, teams = metrics.team_draft(a, b, 6, rng)
            clicked = metrics.simulate_clicks(attraction[page][None], examination, rng)[0]
            if mix == "balanced":
                winners.append(metrics.balanced_winner(a, b, page, clicked))
            else:
                winners.append(metrics.team_draft_winner(teams, clicked))
        result = metrics.preference_test(winners)
        assert result.p_value < 0.01 and np.sign(result.wins_b - result.wins_a) == better
        assert result.wins_a + result.ties + result.wins_b == 400


class Tosses:
    """A Generator that tosses what it is told to."""

    def __init__(self, tosses):
        self.tosses = iter(tosses)

    def integers(self, sides):
        assert sides == 2
        return next(self.tosses)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_one_click_at_random_prefers_neither_in_a_team_draft_and_may_prefer_one_in_a_balanced_page(k):
    """Every page that the tosses can make, and a click on each of its results, counted."""
    a, b = [1, 2, 3, 4], [2, 3, 4, 1]
    draft, even = [], []
    for tosses in product((0, 1), repeat=2):
        page, teams = metrics.team_draft(a, b, k, Tosses(tosses))
        draft += [metrics.team_draft_winner(teams, click) for click in np.eye(k, dtype=bool)]
    for a_first in (True, False):
        page = metrics.balanced(a, b, k, a_first)
        assert page.tolist() == ([1, 2, 3, 4] if a_first else [2, 1, 3, 4])[:k]
        even += [metrics.balanced_winner(a, b, page, click) for click in np.eye(k, dtype=bool)]
    assert draft.count(1) == draft.count(-1) == 2 * k
    wins_a, wins_b = {1: (1, 1), 2: (2, 2), 3: (2, 4), 4: (2, 6)}[k]
    assert (even.count(-1), even.count(1)) == (wins_a, wins_b)


def test_the_tops_of_a_balanced_page_differ_by_one_until_the_shorter_list_ends():
    a, b = [1, 2, 3, 4, 5], [9, 8]
    assert metrics.balanced(a, b, 9, True).tolist() == [1, 9, 2, 8, 3, 4, 5]
    assert metrics.balanced(a, b, 9, False).tolist() == [9, 1, 8, 2, 3, 4, 5]
    assert metrics.balanced(b, a, 9, True).tolist() == [9, 1, 8, 2, 3, 4, 5]


def test_a_long_balanced_page_alternates():
    page = metrics.balanced(np.arange(20_000), np.arange(20_000, 40_000), 40_000, True)
    assert page.tolist() == np.arange(40_000).reshape(2, -1).T.ravel().tolist()


def test_balanced_winner_by_hand():
    a, b = [1, 2, 3, 4], [2, 5, 1, 6]
    page = metrics.balanced(a, b, 4, True)
    assert page.tolist() == [1, 2, 5, 3] and metrics.balanced(a, b, 4, False).tolist() == [2, 1, 5, 3]
    assert metrics.balanced_winner(a, b, page, np.array([False, False, True, False])) == 1
    assert metrics.balanced_winner(a, b, page, np.array([True, False, False, False])) == -1
    assert metrics.balanced_winner(a, b, page, np.array([True, False, True, False])) == 0
    assert metrics.balanced_winner(a, b, page, np.zeros(4, dtype=bool)) == 0


def test_preference_test_is_scipys_binomial():
    winners = [1] * 14 + [-1] * 5 + [0] * 7
    result = metrics.preference_test(winners)
    assert result[:4] == (5, 7, 14, 14 / 19)
    assert result.p_value == pytest.approx(stats.binomtest(14, 19).pvalue)
    assert metrics.preference_test([0, 0]).p_value == 1


# ---- Bandit ---------------------------------------------------------------------------------------------------------


def test_thompson_sampling_finds_the_best_arm_and_regrets_little():
    rates, rng, regret = np.array([0.1, 0.5, 0.3]), np.random.default_rng(9), []
    for seed in range(10):
        bandit = metrics.ThompsonSampling(3, seed=seed)
        lost = 0.0
        for _ in range(1000):
            arm = bandit.choose()
            bandit.update(arm, bool(rng.random() < rates[arm]))
            lost += rates.max() - rates[arm]
        regret.append(lost)
        assert (bandit.successes + bandit.failures).argmax() == 1
        assert bandit.chance_best().argmax() == 1 and bandit.chance_best().sum() == pytest.approx(1)
    assert np.mean(regret) < 40  # playing evenly would lose 200


@given(st.integers(0, 99), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_looking_at_the_chances_changes_nothing_that_is_played(seed, looks):
    plays = [], []
    for played, counts in zip(plays, (looks, [0] * len(looks))):
        bandit = metrics.ThompsonSampling(3, seed=seed)
        for count in counts:
            for _ in range(count):
                bandit.chance_best(7)
            played.append(bandit.choose())
            bandit.update(played[-1], played[-1] == 1)
    assert plays[0] == plays[1]


def test_chance_best_before_anything_is_known_is_even():
    np.testing.assert_allclose(metrics.ThompsonSampling(4).chance_best(20000), 0.25, atol=0.02)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.assign("u", "e", [0.5, 0.6]), "weights"),
        (lambda: metrics.assign(1.5, "e"), "user"),
        (lambda: metrics.sample_ratio_test([0, 0], [0.5, 0.5]), "counts"),
        (lambda: metrics.sample_ratio_test([1, 2], [1.0, 0.0]), "weights"),
        (lambda: metrics.sample_size_proportions(0.5, 0.6), r"rate \+ lift"),
        (lambda: metrics.sample_size_proportions(0.5, 0.0), "lift"),
        (lambda: metrics.sample_size_means(0.0, 1.0), "deviation"),
        (lambda: metrics.sample_size_means(1.0, 1e-170), "lift"),
        (lambda: metrics.sample_size_means(1e300, 1e-170), "lift"),
        (lambda: metrics.sample_size_means(1.0, 0.1, alpha=5e-324), "lift"),
        (lambda: metrics.sample_size_proportions(0.1, 1e-15), "lift"),
        (lambda: metrics.proportion_test(3, 2, 1, 2), "successes_a"),
        (lambda: metrics.mean_test([1.0], [1.0, 2.0]), "a"),
        (lambda: metrics.ratio_of_sums([1.0, 2.0], [0.0, 0.0]), "denominator"),
        (lambda: metrics.sequential_test(1.0, 0.0, 1.0), "standard_error"),
        (lambda: metrics.team_draft([1, 1], [2], 1, np.random.default_rng(0)), "a"),
        (lambda: metrics.balanced([1], [2.5], 1, True), "b"),
        (lambda: metrics.balanced([1], np.array([2**63 + 5], np.uint64), 1, True), "b"),
        (lambda: metrics.team_draft(np.array([2**63 + 5], np.uint64), [2], 1, np.random.default_rng(0)), "a"),
        (lambda: metrics.balanced_winner([1], [2], [9], np.array([True])), "documents"),
        (lambda: metrics.balanced_winner([1], [2], [9, 1], np.array([False, True])), "documents"),
        (lambda: metrics.team_draft_winner([0], [1]), "clicked"),
        (lambda: metrics.team_draft_winner([1, 2], np.array([False, True])), "teams"),
        (lambda: metrics.preference_test([2]), "winners"),
        (lambda: metrics.ThompsonSampling(0), "n_arms"),
        (lambda: metrics.ThompsonSampling(2).update(2, True), "arm"),
        (lambda: metrics.ThompsonSampling(2).update(1, 0.5), "success"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
