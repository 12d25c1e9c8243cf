"""Simulated searches follow their click model; raw rates carry its bias, and inverse propensities take it away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refimpl import data, metrics

seeds = st.integers(0, 2**32 - 1)
TAGS = np.repeat(np.arange(4), 5)


def searches(seed, q=40, k=5, examination=None, noise=0.2, tags=TAGS):
    rng = np.random.default_rng(seed)
    query = rng.integers(0, len(tags), q)
    shown = np.stack([rng.choice(len(tags), k, replace=False) for _ in range(q)])
    attraction = data.attraction_of_grades(tags[shown] == tags[query][:, None], noise=noise)
    examination = data.examination_by_position(k) if examination is None else examination
    return data.simulate_searches(query, shown, attraction, examination, tags=tags, n_users=7, seed=seed), query, shown


@given(seeds)
def test_the_tables_fit_together(seed):
    log, query, shown = searches(seed)
    events = log.interactions
    seen = events.type == metrics.IMPRESSION
    np.testing.assert_array_equal(log.searches.image, query)
    np.testing.assert_array_equal(events.image[seen].reshape(shown.shape), shown)
    np.testing.assert_array_equal(events.position[seen].reshape(shown.shape), np.tile(np.arange(5), (40, 1)))
    np.testing.assert_array_equal(events.user, log.searches.user[events.query])
    clicks = ~seen
    np.testing.assert_array_equal(events.image[clicks], shown[events.query[clicks], events.position[clicks]])
    pause = 2.0 * (1 + events.position[clicks])
    np.testing.assert_allclose(events.time[clicks] - log.searches.time[events.query[clicks]], pause, atol=1e-9)
    np.testing.assert_array_equal(events.time[seen], log.searches.time[events.query[seen]])
    assert (np.diff(log.searches.time) > 0).all()
    assert log.searches.user.max() < 7 and log.images.owner.max() < 7 and len(log.users.age) == 7
    assert (log.images.uploaded <= 0).all()
    np.testing.assert_array_equal(log.images.tag, TAGS)
    metrics.click_through_rate(events)  # the online measures take it
    again, _, _ = searches(seed)
    for table, other in zip(log, again):
        for column, same in zip(table, other):
            np.testing.assert_array_equal(column, same)


@given(seeds)
@settings(max_examples=20)
def test_rates_count_what_the_log_says(seed):
    log, query, shown = searches(seed, q=25)
    examination = np.array([0.9, 0.5, 0.4, 0.2, 0.1])
    events = log.interactions
    clicked = {(q, i) for q, i, t in zip(events.query, events.image, events.type) if t == metrics.CLICK}
    cells = {}
    for page in range(len(query)):
        for position, image in enumerate(shown[page]):
            cells.setdefault((query[page], image), []).append(((page, image) in clicked, examination[position]))
    raw, fair = data.click_rates(log), data.debiased_click_rates(log, examination)
    for table in (raw, fair):
        assert list(zip(table.query_image, table.image)) == sorted(cells)
    for row, key in enumerate(sorted(cells)):
        events = cells[key]
        assert raw.impressions[row] == len(events) and raw.clicks[row] == sum(c for c, _ in events)
        np.testing.assert_allclose(raw.rate[row], np.mean([c for c, _ in events]))
        np.testing.assert_allclose(fair.rate[row], np.mean([c / e for c, e in events]))


def test_clicks_have_the_chances_of_the_model():
    """One page 20,000 times: each image's clicks within 5 binomial standard deviations."""
    q, k = 20_000, 4
    attraction = np.array([0.2, 0.9, 0.5, 1.0])
    examination = np.array([1.0, 0.5, 0.3, 0.05])
    shown = np.tile(np.arange(k), (q, 1))
    log = data.simulate_searches(
        np.full(q, 9), shown, np.tile(attraction, (q, 1)), examination, tags=np.arange(10), seed=3
    )
    clicks = np.bincount(log.interactions.image[log.interactions.type == metrics.CLICK], minlength=k)
    p = attraction * examination
    assert np.all(np.abs(clicks - q * p) < 5 * np.sqrt(q * p * (1 - p)))


def test_raw_rates_are_biased_and_debiased_ones_are_not():
    """The mean of 5000 estimates from two pages each, against its expectation and 4.5 standard errors.

    Image 1 attracts most, but production shows it last, to 5000 query images that are all alike.
    """
    n, examination, truth = 5000, np.array([0.9, 0.6, 0.2]), np.array([0.8, 0.3, 0.4])  # of images 1, 2, 3
    query = np.repeat(np.arange(4, 4 + n), 2)
    shown = np.tile([[2, 3, 1], [3, 2, 1]], (n, 1))
    log = data.simulate_searches(query, shown, truth[shown - 1], examination, tags=np.arange(4 + n), seed=5)
    raw = data.click_rates(log).rate.reshape(n, 3)
    fair = data.debiased_click_rates(log, examination).rate.reshape(n, 3)
    expected_raw = truth * [0.2, (0.9 + 0.6) / 2, (0.6 + 0.9) / 2]
    for found, expected in ((raw, expected_raw), (fair, truth)):
        assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * found.std(axis=0) / np.sqrt(n))
    assert raw.mean(axis=0)[0] < raw.mean(axis=0)[1]  # the best looks worst
    assert fair.mean(axis=0)[0] > fair.mean(axis=0)[2] > fair.mean(axis=0)[1]


def test_examination_is_found_from_the_log():
    truth = data.examination_by_position(5)
    log, _, _ = searches(1, q=20_000)
    np.testing.assert_allclose(data.estimate_examination(log), truth, atol=0.06)


def test_examination_is_found_where_one_page_in_ten_has_two_neighbours_exchanged():
    rng, q = np.random.default_rng(3), 200_000
    truth, attraction = data.examination_by_position(5), np.array([0.2, 0.3, 0.4, 0.3, 0.5])
    shown = np.tile(np.arange(5), (q, 1))
    page, place = np.arange(0, q, 10), rng.integers(0, 4, q // 10)
    shown[page, place], shown[page, place + 1] = shown[page, place + 1], shown[page, place]
    log = data.simulate_searches(np.full(q, 7), shown, attraction[shown], truth, tags=np.zeros(8, np.int64), seed=4)
    np.testing.assert_allclose(data.estimate_examination(log), truth, atol=0.05)


@given(seeds, st.integers(2, 6))
@settings(max_examples=20)
def test_examination_of_a_fixed_ranking_is_refused(seed, k):
    """Each image always at its position: any examination explains the clicks. One swap of pages ties them together."""
    q = 300
    shown = np.tile(np.arange(1, k + 1), (q, 1))
    chances = np.full((q, k), 0.8), np.full(k, 0.9)
    log = data.simulate_searches(np.zeros(q, int), shown, *chances, tags=np.arange(k + 1), seed=seed)
    with pytest.raises(ValueError, match="none that ties position 1 to position 0"):
        data.estimate_examination(log)
    at = np.random.default_rng(seed).integers(k)  # this image and the next, and so on round, in half of the pages
    turned = shown.copy()
    turned[: q // 2] = np.roll(shown, 1, axis=1)[: q // 2]
    log = data.simulate_searches(np.zeros(q, int), turned, *chances, tags=np.arange(k + 1), seed=seed)
    assert data.estimate_examination(log)[0] == 1
    turned[: q // 2] = shown[: q // 2]
    turned[: q // 2, [0, at]] = shown[: q // 2, [at, 0]]  # ties one position to the top, the others to nothing
    log = data.simulate_searches(np.zeros(q, int), turned, *chances, tags=np.arange(k + 1), seed=seed)
    if k > 2 or at == 0:
        with pytest.raises(ValueError, match=f"none that ties position {2 if at == 1 else 1} to position 0"):
            data.estimate_examination(log)


def log_of(pages, clicks):
    """Of pages for image 0: (images of a page, in their order) and (page, position) of the clicks."""
    rows = [
        (page, image, at, metrics.IMPRESSION) for page, images in enumerate(pages) for at, image in enumerate(images)
    ]
    rows += [(page, pages[page][at], at, metrics.CLICK) for page, at in clicks]
    page, image, at, kind = np.array(rows).T
    zeros = np.zeros(len(pages), int)
    return data.SearchLog(
        data.ImageTable(np.zeros(9, int), np.zeros(9), np.zeros(9, int)),
        data.UserTable(np.array([30]), np.array([0])),
        data.SearchTable(zeros, zeros, np.arange(len(pages), dtype=float)),
        metrics.InteractionLog(page * 0, page, image, at, kind, page.astype(float)),
    )


def test_a_position_without_clicks_needs_a_floor():
    log = log_of([[1, 2], [2, 1]], [(0, 0), (1, 0)])
    examination = data.estimate_examination(log)
    np.testing.assert_allclose(examination, [1, 0])
    with pytest.raises(ValueError, match="examination: expected values above 0 .* got 0 at 1; np.maximum"):
        data.debiased_click_rates(log, examination)
    np.testing.assert_allclose(data.debiased_click_rates(log, np.maximum(examination, 0.1)).rate, [0.5, 0.5])


def test_a_position_without_clicks_ties_nothing():
    """Images 1 and 2 were both shown at 1, where nothing was clicked: of 2 at position 2 nobody can tell."""
    log = log_of([[1, 3, 2], [4, 1, 5], [4, 2, 5]], [(0, 0), (0, 2)])
    with pytest.raises(ValueError, match="none that ties position 2 to position 0"):
        data.estimate_examination(log)


def test_the_gap_between_pages_is_exponential():
    q = 20_000
    log = data.simulate_searches(
        np.zeros(q, int), np.ones((q, 1), int), np.ones((q, 1)), [1.0], tags=[0, 1], start=1e6, gap=7.0, pause=3.0
    )
    time = log.searches.time
    assert time[0] > 1e6
    assert stats.kstest(np.diff(time, prepend=1e6) / 7, "expon").pvalue > 1e-5
    clicks = log.interactions.type == metrics.CLICK
    np.testing.assert_allclose(log.interactions.time[clicks] - time, 3, atol=1e-6)


def test_mined_pairs_are_better_when_debiased():
    """Production puts other tags on top. Raw clicks learn that; debiased ones find the tag."""
    rng = np.random.default_rng(0)
    q, k = 6000, 6
    query = rng.integers(0, len(TAGS), q)
    shown = np.empty((q, k), np.int64)
    for i, a in enumerate(query):
        same = np.flatnonzero((TAGS == TAGS[a]) & (np.arange(len(TAGS)) != a))
        others = np.flatnonzero(TAGS == (TAGS[a] + 1) % 4)
        shown[i] = np.concatenate([rng.choice(others, k - 2, replace=False), rng.choice(same, 2, replace=False)])
    attraction = data.attraction_of_grades(TAGS[shown] == TAGS[query][:, None], noise=0.3)
    examination = data.examination_by_position(k, power=1.5)
    log = data.simulate_searches(query, shown, attraction, examination, tags=TAGS, seed=1)

    def right(table):
        pairs = data.top_click_pairs(table, 2)
        drawn = data.sample_click_pairs(table, 3000, 0)
        return [np.mean(TAGS[p[:, 0]] == TAGS[p[:, 1]]) for p in (pairs, drawn)]

    raw, fair = right(data.click_rates(log)), right(data.debiased_click_rates(log, examination))
    assert fair[0] > 0.9 and fair[0] > raw[0] + 0.3
    assert fair[1] > raw[1] + 0.2


def table_of(rows):
    columns = np.array(rows, dtype=float).reshape(len(rows), 5).T
    return data.PairTable(*(c.astype(np.int64) for c in columns[:4]), columns[4])


TABLE = table_of(
    [(0, 0, 9, 9, 1.0), (0, 1, 10, 2, 0.2), (0, 2, 5, 2, 0.4), (0, 3, 4, 0, 0.0), (1, 0, 1, 1, 1.0), (1, 2, 8, 2, 0.2)]
    + [(1, 3, 8, 2, 0.2), (2, 1, 3, 0, 0.0)]
)


def test_top_click_pairs():
    """Not a picture with itself, not what was never clicked; ties to the smaller image."""
    assert data.top_click_pairs(TABLE, 1).tolist() == [[0, 2], [1, 0]]
    assert data.top_click_pairs(TABLE, 3).tolist() == [[0, 2], [0, 1], [1, 0], [1, 2], [1, 3]]
    assert data.top_click_pairs(TABLE, 1, least_impressions=5).tolist() == [[0, 2], [1, 2]]
    assert data.top_click_pairs(TABLE, 3, least_rate=0.4).tolist() == [[0, 2], [1, 0]]
    assert data.top_click_pairs(TABLE, 3, least_rate=2.0).shape == (0, 2)


def test_sample_click_pairs_counts_clicks_in_a_raw_table():
    pairs = data.sample_click_pairs(TABLE, 9000, 0)
    assert pairs.shape == (9000, 2)
    found = {tuple(p): c for p, c in zip(*(a.tolist() for a in np.unique(pairs, axis=0, return_counts=True)))}
    weight = {(0, 1): 2, (0, 2): 2, (1, 0): 1, (1, 2): 1.6, (1, 3): 1.6}
    assert set(found) == set(weight)
    for pair, w in weight.items():
        p = w / 8.2
        assert abs(found[pair] - 9000 * p) < 5 * np.sqrt(9000 * p * (1 - p))
    with pytest.raises(ValueError, match="table: expected a clicked pair"):
        data.sample_click_pairs(TABLE, 1, 0, least_rate=2.0)


@given(st.integers(1, 20), st.floats(0, 5))
def test_examination_falls(k, power):
    e = data.examination_by_position(k, power=power)
    assert e[0] == 1 and (np.diff(e) <= 0).all() and (e > 0).all()
    np.testing.assert_allclose(e, [1 / (1 + p) ** power for p in range(k)])


@given(st.floats(0, 1))
def test_attraction_of_grades(noise):
    found = data.attraction_of_grades([[0, 1], [2, 3]], noise=noise)
    np.testing.assert_allclose(found, noise + (1 - noise) * np.array([[0, 1], [3, 7]]) / 7)
    np.testing.assert_allclose(data.attraction_of_grades([False, True], noise=noise), [noise, 1])
    np.testing.assert_allclose(data.attraction_of_grades([0, 1], noise=noise, top=2), [noise, noise + (1 - noise) / 3])
    np.testing.assert_allclose(data.attraction_of_grades([0], noise=noise), [noise])


def changed(**columns):
    log, _, _ = searches(0, q=4)
    return log._replace(interactions=log.interactions._replace(**columns))


LOG = changed()


def asked(image):
    return LOG._replace(searches=LOG.searches._replace(image=image))


FIRST_CLICK = int(np.argmax(LOG.interactions.type == metrics.CLICK))


def simulate(**changes):
    arguments = {"query_image": [0], "shown": [[1, 2]], "attraction": [[0.5, 0.5]], "examination": [1.0, 0.5]}
    return data.simulate_searches(**{**arguments, "tags": [0, 1, 2], **changes})


def replaced(values, at, value):
    values = values.copy()
    values[at] = value
    return values


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: simulate(query_image=[3]), r"query_image: expected rows in \[0, 3\)"),
        (lambda: simulate(query_image=np.zeros(0, int), shown=np.zeros((0, 2), int)), "query_image"),
        (lambda: simulate(shown=[[1, 1]]), "shown: expected different images"),
        (lambda: simulate(shown=[[1], [2]]), "shown: expected shape"),
        (lambda: simulate(attraction=[[0.5, 1.5]]), "attraction: expected values from 0 to 1"),
        (lambda: simulate(attraction=[[0.5]]), r"attraction: expected shape \(1, 2\)"),
        (lambda: simulate(examination=[1.0]), "examination: expected shape"),
        (lambda: simulate(tags=[0.5, 1, 2]), "tags: expected integers"),
        (lambda: simulate(n_users=0), "n_users"),
        (lambda: simulate(gap=0), "gap"),
        (lambda: data.examination_by_position(0), "k: expected"),
        (lambda: data.attraction_of_grades([0.5]), "grades: expected integers"),
        (lambda: data.attraction_of_grades([3], top=2), "top: expected"),
        (lambda: data.debiased_click_rates(LOG, [1.0, 1, 1, 1]), "examination: expected at least 5"),
        (lambda: data.debiased_click_rates(LOG, [1.0, 1, 1, 1, 0]), "examination: expected values above 0"),
        (lambda: data.impressions(changed(query=replaced(LOG.interactions.query, 0, 4))), "log.interactions.query"),
        (lambda: data.impressions(asked(LOG.searches.image + 20)), r"log.searches.image: expected rows in \[0, 20\)"),
        (lambda: data.impressions(asked(LOG.searches.image - 20)), "log.searches.image: expected rows"),
        (lambda: data.impressions(asked(LOG.searches.image + 0.5)), "log.searches.image: expected integers"),
        (lambda: data.impressions(changed(image=LOG.interactions.image * 0)), "log: expected one impression"),
        (
            lambda: data.impressions(changed(position=LOG.interactions.position + (LOG.interactions.type == 1))),
            "log: expected clicks on what was shown, where it was shown",
        ),
        (
            lambda: data.click_rates(changed(type=replaced(LOG.interactions.type, LOG.interactions.type == 0, 2))),
            "log: expected clicks on what was shown",
        ),
        (
            lambda: data.click_rates(changed(type=LOG.interactions.type * 0 + 2)),
            "log: expected at least one impression",
        ),
        (lambda: data.impressions(changed(type=LOG.interactions.type + 2)), "type: expected IMPRESSION, CLICK"),
        (lambda: data.impressions(changed(type=LOG.interactions.type - 1)), "type: expected integers >= 0"),
        (lambda: data.impressions(changed(position=LOG.interactions.position - 1)), "position: expected integers >= 0"),
        (lambda: data.impressions(changed(position=LOG.interactions.position + 0.5)), "position: expected integers"),
        (lambda: data.impressions(changed(position=LOG.interactions.position[1:])), "position: expected shape"),
        (lambda: data.top_click_pairs(TABLE, 0), "per_query"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
