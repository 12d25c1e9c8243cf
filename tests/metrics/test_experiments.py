"""A/B tests, interleaving and the bandit on simulated users: what is true is found, and what is not is rarely found."""

from itertools import product

import numpy as np
import pytest
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
    assert {metrics.assign(str(i) + "c", "ab") == metrics.assign(str(i), "abc") for i in range(50)} == {True, False}


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


def test_the_sequential_interval_is_where_its_p_value_crosses():
    for difference, error, prior in ((0.3, 0.1, 0.2), (0.0, 0.05, 0.5), (-2.0, 0.4, 1.0)):
        ours = metrics.sequential_test(difference, error, prior, confidence=0.9)
        for edge in (ours.low, ours.high):
            assert metrics.sequential_test(difference - edge, error, prior).p_value == pytest.approx(0.1)
        assert (ours.p_value <= 0.1) == (not ours.low <= 0 <= ours.high)


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
        (lambda: metrics.proportion_test(3, 2, 1, 2), "successes_a"),
        (lambda: metrics.mean_test([1.0], [1.0, 2.0]), "a"),
        (lambda: metrics.ratio_of_sums([1.0, 2.0], [0.0, 0.0]), "denominator"),
        (lambda: metrics.sequential_test(1.0, 0.0, 1.0), "standard_error"),
        (lambda: metrics.team_draft([1, 1], [2], 1, np.random.default_rng(0)), "a"),
        (lambda: metrics.balanced([1], [2.5], 1, True), "b"),
        (lambda: metrics.team_draft_winner([0], [1]), "clicked"),
        (lambda: metrics.preference_test([2]), "winners"),
        (lambda: metrics.ThompsonSampling(0), "n_arms"),
        (lambda: metrics.ThompsonSampling(2).update(2, True), "arm"),
        (lambda: metrics.ThompsonSampling(2).update(1, 0.5), "success"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
