"""Online measures against logs whose truth is known: by hand, by brute force, and from the click simulator."""

import datetime
import zoneinfo
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refimpl import metrics
from refimpl.metrics import CLICK, IMPRESSION, LEAVE, InteractionLog

needs_zones = pytest.mark.skipif(not zoneinfo.available_timezones(), reason="there is no time zone database here")


def make_log(*events):
    """From (user, query, image, position, type, time) rows."""
    return InteractionLog(*(np.array(column) for column in zip(*events)))


def at(zone, *when):
    zone = datetime.UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)
    return datetime.datetime(*when, tzinfo=zone).timestamp()


# ---- Click-through rate ---------------------------------------------------------------------------------------------


def test_click_through_rate_counts_an_impression_once():
    log = make_log(
        (1, 1, 10, 0, IMPRESSION, 0.0), (1, 1, 11, 1, IMPRESSION, 0.0), (1, 1, 11, 1, CLICK, 1.0),
        (1, 1, 11, 1, CLICK, 2.0), (2, 2, 11, 0, IMPRESSION, 5.0), (2, 3, 11, 0, IMPRESSION, 6.0),
        (2, 3, 11, 0, CLICK, 7.0), (2, 3, 11, 0, LEAVE, 9.0),
    )  # fmt: skip
    rate = metrics.click_through_rate(log)
    assert (rate.clicks, rate.impressions, rate.rate) == (2, 4, 0.5)
    low, high = metrics.wilson_interval(2, 4)
    assert (rate.low, rate.high) == (low, high)
    by_position = metrics.click_through_rate_by_position(log)
    assert by_position.clicks.tolist() == [1, 1] and by_position.impressions.tolist() == [3, 1]


@pytest.mark.parametrize(("x", "n"), [(0, 5), (5, 5), (3, 10), (50, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_interval_is_scipys(x, n, confidence):
    theirs = stats.binomtest(x, n).proportion_ci(confidence, method="wilson")
    assert metrics.wilson_interval(x, n, confidence) == pytest.approx(tuple(theirs))


def test_wilson_interval_covers():
    rng = np.random.default_rng(0)
    for p, n in ((0.02, 200), (0.3, 20)):
        low, high = metrics.wilson_interval(rng.binomial(n, p, 4000), np.full(4000, n))
        assert 0.93 <= np.mean((low <= p) & (p <= high)) <= 0.99
    low, high = metrics.wilson_interval([0], [0])
    assert np.isnan(low[0]) and np.isnan(high[0])


def test_the_simulated_rate_at_each_position_is_within_its_interval():
    attraction, examination = np.full(12, 0.4), np.array([1.0, 0.6, 0.3, 0.1])
    log, _ = metrics.simulate_log(attraction, examination, n_queries=4000, n_users=30, start=0.0)
    rates = metrics.click_through_rate_by_position(log, confidence=0.9999)
    truth = 0.4 * examination
    assert ((rates.low <= truth) & (truth <= rates.high)).all() and (rates.impressions == 4000).all()
    total = metrics.click_through_rate(log, confidence=0.9999)
    assert total.low <= truth.mean() <= total.high


# ---- Time spent -----------------------------------------------------------------------------------------------------


def test_a_visit_ends_with_the_next_event_of_the_user_and_not_of_another():
    log = make_log(
        (1, 1, 10, 0, IMPRESSION, 0.0), (1, 1, 10, 0, CLICK, 10.0), (1, 1, 10, 0, LEAVE, 25.0),
        (2, 2, 10, 0, CLICK, 11.0), (2, 3, 12, 0, IMPRESSION, 100.0), (2, 3, 12, 0, CLICK, 110.0),
        (2, 3, 12, 0, LEAVE, 9000.0),
    )  # fmt: skip
    spent = metrics.visits(log, longest=1800)
    assert list(zip(*spent)) == [(1, 10.0, 25.0), (2, 11.0, 100.0), (2, 110.0, 110.0)]


def test_a_click_that_is_the_last_event_of_its_user_counts_as_nothing():
    log = make_log((1, 1, 10, 0, CLICK, 10.0), (2, 2, 10, 0, IMPRESSION, 20.0))
    assert list(zip(*metrics.visits(log))) == [(1, 10.0, 10.0)]


def test_the_order_of_the_rows_does_not_matter_where_one_image_is_closed_as_another_is_opened():
    clicks = (1, 1, 10, 0, CLICK, 10.0), (1, 1, 11, 1, CLICK, 20.0)
    leaves = (1, 1, 10, 0, LEAVE, 20.0), (1, 1, 11, 1, LEAVE, 30.0)
    for rows in permutations(clicks + leaves):
        assert list(zip(*metrics.visits(make_log(*rows)))) == [(1, 10.0, 20.0), (1, 20.0, 30.0)]


def test_what_is_opened_and_closed_at_one_time_is_closed_after_it_was_opened():
    """At 20, image 10 is closed, and 11 is shown, opened and closed, which takes no time."""
    first = (1, 1, 10, 0, CLICK, 10.0), (1, 1, 10, 0, LEAVE, 20.0)
    second = (1, 2, 11, 0, IMPRESSION, 20.0), (1, 2, 11, 0, CLICK, 20.0), (1, 2, 11, 0, LEAVE, 20.0)
    for rows in permutations((*first, *second, (1, 3, 12, 0, IMPRESSION, 90.0))):
        assert list(zip(*metrics.visits(make_log(*rows)))) == [(1, 10.0, 20.0), (1, 20.0, 20.0)]


def test_an_image_that_is_closed_and_opened_at_one_time_was_opened_first():
    events = (CLICK, 10.0), (LEAVE, 20.0), (CLICK, 20.0), (LEAVE, 30.0)
    for some in permutations([(1, 1, 10, 0, *event) for event in events]):
        assert list(zip(*metrics.visits(make_log(*some)))) == [(1, 10.0, 20.0), (1, 20.0, 20.0)]


def test_a_page_is_shown_before_an_image_on_it_is_opened_at_the_same_time():
    events = (1, 1, 10, 0, IMPRESSION, 20.0), (1, 1, 10, 0, CLICK, 20.0), (1, 1, 10, 0, LEAVE, 30.0)
    for rows in permutations(events):
        assert list(zip(*metrics.visits(make_log(*rows)))) == [(1, 20.0, 30.0)]


events_at_few_times = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([CLICK, LEAVE, IMPRESSION]), st.integers(0, 2)),
    min_size=3,
    max_size=12,
)


@given(events_at_few_times, st.randoms(use_true_random=False))
def test_shuffling_a_log_changes_no_visit(events, shuffle):
    events = [(1, 1, image, image, kind, time) for image, kind, time in events]
    shuffled = list(events)
    shuffle.shuffle(shuffled)
    ours, again = (metrics.visits(make_log(*rows)) for rows in (events, shuffled))
    for a, b in zip(ours, again):
        np.testing.assert_array_equal(a, b)


@needs_zones
def test_a_visit_across_midnight_is_divided_where_the_user_is():
    start = at("America/New_York", 2024, 6, 30, 23, 50)
    spent = metrics.Visits(np.array([7]), np.array([start]), np.array([start + 1800]))
    by_day = metrics.time_spent(spent, "day", "America/New_York")
    assert by_day.period == [datetime.date(2024, 6, 30), datetime.date(2024, 7, 1)]
    assert by_day.seconds.tolist() == [600, 1200] and by_day.users.tolist() == [1, 1]
    in_utc = metrics.time_spent(spent, "day", "UTC")
    assert in_utc.period == [datetime.date(2024, 7, 1)] and in_utc.seconds.tolist() == [1800]
    by_week = metrics.time_spent(spent, "week", "America/New_York")
    assert by_week.period == [datetime.date(2024, 6, 24), datetime.date(2024, 7, 1)]
    by_month = metrics.time_spent(spent, "month", "America/New_York")
    assert by_month.period == [datetime.date(2024, 6, 1), datetime.date(2024, 7, 1)]
    both = metrics.Visits(np.array([7, 8]), np.array([start] * 2), np.array([start + 1800] * 2))
    mixed = metrics.time_spent(both, "day", {7: "America/New_York", 8: "UTC"})
    assert mixed.seconds.tolist() == [600, 1200 + 1800] and mixed.users.tolist() == [1, 2]
    assert mixed.per_user.tolist() == [600, 1500]


@needs_zones
def test_days_on_which_clocks_change_have_23_and_25_hours():
    for day, hours in ((datetime.date(2024, 3, 31), 23), (datetime.date(2024, 10, 27), 25)):
        start = at("Europe/Paris", day.year, day.month, day.day) - 3600
        spent = metrics.Visits(np.array([1]), np.array([start]), np.array([start + 40 * 3600]))
        by_day = metrics.time_spent(spent, "day", "Europe/Paris")
        assert dict(zip(by_day.period, by_day.seconds))[day] == hours * 3600


def test_a_visit_that_ends_at_midnight_belongs_to_the_day_before():
    midnight = at("UTC", 2024, 1, 2)
    spent = metrics.Visits(np.array([1, 1]), np.array([midnight - 60, midnight]), np.array([midnight, midnight]))
    by_day = metrics.time_spent(spent)
    assert by_day.seconds.tolist() == [60, 0] and by_day.users.tolist() == [1, 1]
    alone = metrics.time_spent(metrics.Visits(*(column[:1] for column in spent)))
    assert alone.period == [datetime.date(2024, 1, 1)]


def visit(start, end):
    return metrics.Visits(np.array([1]), np.array([start]), np.array([end]))


@needs_zones
def test_a_day_that_the_calendar_left_out_is_no_period():
    start = at("Pacific/Apia", 2011, 12, 29, 23, 50)
    by_day = metrics.time_spent(visit(start, start + 1200), "day", "Pacific/Apia")
    assert by_day.period == [datetime.date(2011, 12, 29), datetime.date(2011, 12, 31)]
    assert by_day.seconds.tolist() == [600, 600]


first_second, last_second = (at("UTC", year, 1, 1) for year in (2, 9999))


@needs_zones
@given(
    st.floats(first_second, last_second),
    st.floats(0, 1e6),
    st.sampled_from(["day", "week", "month"]),
    st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"]),
)
def test_times_of_all_years_from_2_to_9998_have_a_period(start, length, period, zone):
    end = min(start + length, last_second)
    ours = metrics.time_spent(visit(start, end), period, zone)
    assert ours.seconds.sum() == pytest.approx(end - start, abs=1e-3)


def test_a_visit_of_no_length_makes_a_period():
    ours = metrics.time_spent(visit(5.0, 5.0))
    assert (ours.period, ours.seconds.tolist()) == ([datetime.date(1970, 1, 1)], [0])


@needs_zones
@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_no_second_is_lost_and_minutes_counted_one_by_one_agree(period):
    rng = np.random.default_rng(1)
    zone = zoneinfo.ZoneInfo("Australia/Sydney")
    start = np.round((at("UTC", 2024, 3, 20) + rng.uniform(0, 40 * 86400, 60)) / 60) * 60
    spent = metrics.Visits(rng.integers(0, 6, 60), start, start + 60 * rng.integers(0, 900, 60))
    ours = metrics.time_spent(spent, period, "Australia/Sydney")
    seconds, users = {}, {}
    for user, begin, end in zip(*spent):
        for minute in np.arange(begin, max(end, begin + 1), 60):
            day = datetime.datetime.fromtimestamp(minute, zone).date()
            monday = day - datetime.timedelta(days=day.weekday())
            first = {"day": day, "week": monday, "month": day.replace(day=1)}[period]
            seconds[first] = seconds.get(first, 0) + min(60, end - minute)
            users.setdefault(first, set()).add(user)
    assert ours.period == sorted(seconds)
    assert ours.seconds.tolist() == pytest.approx([seconds[p] for p in ours.period])
    assert ours.users.tolist() == [len(users[p]) for p in ours.period]
    assert ours.seconds.sum() == pytest.approx((spent.end - spent.start).sum())


def test_average_time_spent_of_simulated_users():
    log, _ = metrics.simulate_log(np.full(5, 0.5), np.ones(4), n_queries=3000, n_users=1, start=0.0, gap=2000, stay=30)
    spent = metrics.visits(log, longest=3600)
    assert (spent.end - spent.start).mean() == pytest.approx(30, rel=0.05)
    daily = metrics.time_spent(spent)
    assert metrics.average_time_spent(log, longest=3600) == pytest.approx(daily.per_user.mean())
    per_day = 86400 / 2000 * 4 * 0.5 * 30  # pages a day, images a page, clicks an image, seconds a click
    assert metrics.average_time_spent(log, longest=3600) == pytest.approx(per_day, rel=0.1)
    weekly = metrics.average_time_spent(log, "week", longest=3600)
    assert weekly == pytest.approx(7 * per_day, rel=0.2)
    nothing = make_log((1, 1, 10, 0, IMPRESSION, 0.0))
    assert metrics.average_time_spent(nothing) == 0


# ---- Position bias --------------------------------------------------------------------------------------------------


def test_position_bias_and_attraction_are_recovered_from_clicks():
    rng = np.random.default_rng(2)
    attraction, examination = rng.uniform(0.1, 0.9, 15), np.array([1.0, 0.7, 0.5, 0.3, 0.15])
    log, item = metrics.simulate_log(attraction, examination, n_queries=12000, n_users=50, start=0.0, seed=3)
    shown = log.type == IMPRESSION
    clicks = set(zip(log.query[log.type == CLICK].tolist(), log.image[log.type == CLICK].tolist()))
    clicked = np.array([pair in clicks for pair in zip(log.query[shown].tolist(), log.image[shown].tolist())])
    bias = metrics.position_bias(item, log.position[shown], clicked)
    np.testing.assert_allclose(bias.examination, examination, atol=0.03)
    np.testing.assert_allclose(bias.attraction, attraction, atol=0.05)
    corrected = metrics.corrected_click_through_rate(item, log.position[shown], clicked, examination)
    np.testing.assert_allclose(corrected, attraction, atol=0.06)
    raw = np.bincount(item, clicked) / np.bincount(item)
    assert np.abs(raw - attraction).max() > 0.3  # what is not corrected is far off


def log_with_adjacent_swaps(attraction, examination, pages, pages_swapped):
    """(item, position, clicked): all items in one order, and with each two neighbours exchanged; without noise, that is
    as many clicks in each place as are expected, which must be whole."""
    k = len(attraction)
    orders = [(np.arange(k), pages)]
    for i in range(k - 1):
        order = np.arange(k)
        order[[i, i + 1]] = i + 1, i
        orders.append((order, pages_swapped))
    item, position, clicked = [], [], []
    for order, n in orders:
        for p, i in enumerate(order.tolist()):
            clicks = n * attraction[i] * examination[p]
            assert abs(clicks - round(clicks)) < 1e-6
            item += [i] * n
            position += [p] * n
            clicked += [True] * round(clicks) + [False] * (n - round(clicks))
    return np.array(item), np.array(position), np.array(clicked)


def test_position_bias_is_found_where_one_page_in_ten_has_two_neighbours_exchanged():
    attraction, examination = np.array([0.2, 0.3, 0.4, 0.3, 0.5]), 1 / np.arange(1, 6)
    bias = metrics.position_bias(*log_with_adjacent_swaps(attraction, examination, 21600, 600))
    np.testing.assert_allclose(bias.examination, examination, atol=1e-6)
    np.testing.assert_allclose(bias.attraction, attraction, atol=1e-6)


tenths = st.integers(1, 10).map(lambda i: i / 10)


@given(
    st.integers(2, 6).flatmap(lambda k: st.tuples(*[st.lists(tenths, min_size=k, max_size=k)] * 2)),
    st.integers(1, 40).map(lambda n: 100 * n),
)
def test_position_bias_is_what_made_the_clicks_however_little_the_order_varies(chances, pages):
    attraction, examination = np.array(chances[0]), np.array([1.0, *chances[1][1:]])
    bias = metrics.position_bias(*log_with_adjacent_swaps(attraction, examination, pages, 100))
    np.testing.assert_allclose(bias.examination, examination, atol=1e-5)
    np.testing.assert_allclose(bias.attraction, attraction, atol=1e-5)


impression_tables = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=40)


def all_tied(item, position, clicked):
    """Whether all clicked positions hang together by clicked items, those that were shown at both."""
    shown = [(p, i) for p, i in zip(position, item) if clicked[position == p].any() and clicked[item == i].any()]
    group = {p: {p} for p, _ in shown}
    for (p, i), (q, j) in product(shown, shown):
        if i == j:
            merged = group[p] | group[q]
            group |= dict.fromkeys(merged, merged)
    return all(len(members) == len(group) for members in group.values())


@given(st.integers(1, 60), st.integers(1, 60), st.integers(61, 99))
def test_examination_that_no_log_can_tell_is_refused(c, d, n):
    item, clicked = np.repeat([0, 1], n), np.concatenate([np.arange(n) < c, np.arange(n) < d])
    with pytest.raises(ValueError, match="^position: .* ties position 1 to position 0"):
        metrics.position_bias(item, item, clicked)
    item, position = np.append(item, [0, 1]), np.append(2 * item, [1, 1])  # both once at 1, where nothing was clicked
    with pytest.raises(ValueError, match="^position: .* ties position 2 to position 0"):
        metrics.position_bias(item, position, np.append(clicked, [False, False]))


@given(impression_tables)
def test_position_bias_makes_the_log_as_likely_as_expectation_maximisation_does(impressions):
    item, position, clicked = map(np.array, zip(*impressions, (0, 0, True)))
    e, a = np.full(position.max() + 1, 0.5), np.full(item.max() + 1, 0.5)
    for _ in range(300):
        both = np.minimum(e[position] * a[item], 1 - 1e-12)
        looked = np.where(clicked, 1, (e[position] - both) / (1 - both))
        attracted = np.where(clicked, 1, (a[item] - both) / (1 - both))
        e = np.bincount(position, looked) / np.maximum(np.bincount(position), 1)
        a = np.bincount(item, attracted) / np.maximum(np.bincount(item), 1)
    try:
        bias = metrics.position_bias(item, position, clicked)
    except ValueError as error:
        assert "ties position" in str(error)
        assert not all_tied(item, position, clicked)
        return
    assert all_tied(item, position, clicked)
    ours, theirs = bias.examination[position] * bias.attraction[item], e[position] * a[item]
    ours, theirs = (np.log(np.maximum(np.where(clicked, p, 1 - p), 1e-300)).sum() for p in (ours, theirs))
    assert ours >= theirs - 1e-6


def test_position_bias_that_is_not_found_is_an_error():
    with pytest.raises(ValueError, match="^n_iter: expected enough steps for one below tol = 1e-07, got 2,"):
        metrics.position_bias(*log_with_adjacent_swaps([0.2, 0.4], [1.0, 0.5], 1000, 100), n_iter=2)


def test_correction_undoes_a_page_that_always_shows_the_same_order():
    rng = np.random.default_rng(4)
    attraction, examination = np.array([0.3, 0.5, 0.6]), np.array([1.0, 0.5, 0.2])
    clicked = metrics.simulate_clicks(np.tile(attraction, (20000, 1)), examination, rng).ravel()
    position = item = np.tile(np.arange(3), 20000)
    raw = np.bincount(item, clicked)
    corrected = metrics.corrected_click_through_rate(item, position, clicked, examination)
    assert raw.argmax() == 0 and corrected.argmax() == 2
    np.testing.assert_allclose(corrected, attraction, atol=0.03)


def test_the_cascade_reader_stops_after_a_click():
    rng = np.random.default_rng(5)
    attraction = np.tile([0.5, 0.5, 0.5], (40000, 1))
    always = metrics.simulate_cascade(attraction, 1.0, rng)
    assert always.sum(axis=1).max() == 1
    np.testing.assert_allclose(always.mean(axis=0), [0.5, 0.25, 0.125], atol=0.01)
    never = metrics.simulate_cascade(attraction, 0.0, rng)
    np.testing.assert_allclose(never.mean(axis=0), 0.5, atol=0.01)


def test_a_simulated_log_is_the_same_for_the_same_seed():
    options = {"n_queries": 20, "n_users": 3, "start": 100.0}
    logs = [metrics.simulate_log(np.full(6, 0.5), [1.0, 0.5], seed=seed, **options)[0] for seed in (1, 1, 2)]
    assert all((a == b).all() for a, b in zip(logs[0], logs[1]))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(logs[0], logs[2]))


@given(st.floats(1e-6, 100), st.integers(0, 99), st.sampled_from([0.0, 1.7e9]))
def test_no_simulated_image_is_closed_before_it_is_opened(stay, seed, start):
    options = {"n_queries": 40, "n_users": 3, "start": start, "stay": stay, "seed": seed}
    log, _ = metrics.simulate_log(np.full(4, 0.9), np.ones(3), **options)
    clicks, leaves = (log.time[log.type == kind] for kind in (CLICK, LEAVE))  # both in the order of the pages
    assert (leaves >= clicks).all() and (clicks[1:] > leaves[:-1]).all()
    assert stats.kstest((leaves - clicks) / stay, "expon").pvalue > 1e-6 or stay < 1e-3  # the clock of 1.7e9 ticks


GOOD = make_log((1, 1, 10, 0, IMPRESSION, 0.0), (1, 1, 10, 0, CLICK, 1.0))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.click_through_rate(make_log((1, 1, 10, 0, CLICK, 1.0))), "log"),
        (lambda: metrics.click_through_rate(make_log(*[(1, 1, 10, 0, IMPRESSION, 1.0)] * 2)), "log"),
        (lambda: metrics.click_through_rate(GOOD._replace(type=np.array([0, 3]))), "type"),
        (lambda: metrics.click_through_rate(GOOD._replace(position=np.array([0, -1]))), "position"),
        (lambda: metrics.click_through_rate(GOOD._replace(user=np.array([1.0, 1.0]))), "user"),
        (lambda: metrics.click_through_rate(GOOD._replace(time=np.array([1.0, np.nan]))), "time"),
        (lambda: metrics.click_through_rate(GOOD._replace(image=np.array([10]))), "image"),
        (lambda: metrics.wilson_interval(3, 2), "successes"),
        (lambda: metrics.wilson_interval(1, 2, 1.0), "confidence"),
        (lambda: metrics.visits(GOOD, longest=0), "longest"),
        (lambda: metrics.visits(GOOD._replace(user=np.array([2**63 + 5] * 2, np.uint64))), "user"),
        (lambda: metrics.time_spent(metrics.Visits(np.array([1.2, 1.7]), np.zeros(2), np.ones(2))), "user"),
        (lambda: metrics.position_bias(np.array([2**63], np.uint64), [0], np.array([True])), "item"),
        (lambda: metrics.average_time_spent(GOOD, "year"), "period"),
        (lambda: metrics.average_time_spent(GOOD, "day", "Mars/Olympus"), "time_zone"),
        (lambda: metrics.average_time_spent(GOOD, "day", {2: "UTC"}), "time_zone"),
        (lambda: metrics.average_time_spent(GOOD, "day", "Europe"), "time_zone"),
        (lambda: metrics.average_time_spent(GOOD, "day", None), "time_zone"),
        (lambda: metrics.average_time_spent(GOOD, "day", 5), "time_zone"),
        (lambda: metrics.average_time_spent(GOOD, "day", {1: None}), "time_zone"),
        (lambda: metrics.time_spent(visit(1.7e12, 1.7e12 + 60), "day"), "start"),
        (lambda: metrics.time_spent(visit(-1e20, 0.0), "day"), "start"),
        (lambda: metrics.time_spent(visit(0.0, 1e20), "month"), "end"),
        (lambda: metrics.time_spent(metrics.Visits(np.array([1]), np.array([2.0]), np.array([1.0]))), "end"),
        (lambda: metrics.position_bias([0, 1], [0], np.array([True, False])), "position"),
        (lambda: metrics.position_bias([0, 1], [0, 0], [1, 0]), "clicked"),
        (lambda: metrics.position_bias([0, 0, 1], [0, 1, 1], np.array([False, True, True])), "position"),
        (lambda: metrics.position_bias([0, 0, 1], [1, 2, 2], np.array([True, True, False])), "position"),
        (lambda: metrics.corrected_click_through_rate([0], [0], np.array([True]), [0.0]), "examination"),
        (lambda: metrics.simulate_clicks([[1.5]], [1.0], np.random.default_rng(0)), "attraction"),
        (lambda: metrics.simulate_clicks([[0.5]], [1.0, 1.0], np.random.default_rng(0)), "examination"),
        (lambda: metrics.simulate_cascade([[0.5]], 2, np.random.default_rng(0)), "stop"),
        (lambda: metrics.simulate_log([0.5], [1, 1], n_queries=1, n_users=1, start=0), "attraction"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}:"):
        call()
