"""What users did, as training data: the tables of a search log, simulated users, and pairs mined from their clicks.

The book's tables: images, users, and interactions (who, which image, at which position, what happened, when). A row of
`searches` says which picture an answer page was for.

A click says "similar", with two errors. Noise: users click what is not similar, and leave what is. Position bias: they
click what they look at, and they look at the top. Under the position-based model

    P(click) = e(position) * a(query image, image)            e: examined, a: attractive when examined

the share of impressions that were clicked has expectation e a: what production has always put on top looks best, and a
model trained on it learns the old ranking. Dividing each click by its e (inverse propensity) has expectation a.

    log = simulate_searches(query_image, shown, attraction, examination, tags=..., n_users=...)
    raw = click_rates(log)                                    biased to the top
    fair = debiased_click_rates(log, examination)             unbiased; where examination is not known, take
                                                              np.maximum(estimate_examination(log), 0.1)
    pairs = top_click_pairs(fair, per_query=1)                (m, 2), as of `pairs`

Source: Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback", WSDM 2017.
"""

from typing import NamedTuple

import numpy as np

from ..metrics import (
    CLICK,
    IMPRESSION,
    InteractionLog,
    corrected_click_through_rate,
    position_bias,
    simulate_clicks,
)
from ..metrics.online import check_log
from ..validation import check_array, check_integer, check_number
from .rows import check_groups, check_rows


class ImageTable(NamedTuple):
    """n images; an image's id is its row."""

    owner: np.ndarray  # (n,) int64, a user
    uploaded: np.ndarray  # (n,) float64, seconds UTC
    tag: np.ndarray  # (n,) int64: the owner's label


class UserTable(NamedTuple):
    """u users; a user's id is its row."""

    age: np.ndarray  # (u,) int64, years
    time_zone: np.ndarray  # (u,) int64, hours from UTC


class SearchTable(NamedTuple):
    """q answer pages; the id of a page, the `query` of its interactions, is its row."""

    user: np.ndarray  # (q,) int64
    image: np.ndarray  # (q,) int64, the picture that was asked with
    time: np.ndarray  # (q,) float64, seconds UTC


class SearchLog(NamedTuple):
    """Who searched for what and what came of it: the book's tables, and the searches that join them."""

    images: ImageTable
    users: UserTable
    searches: SearchTable
    interactions: InteractionLog  # of `refimpl.metrics`: its online measures take it as it is


def examination_by_position(k, *, power=1.0):
    """(k,): chances 1 / (1 + position)^power that a position is looked at; 0 is a user who sees all."""
    k = check_integer(k, "k", minimum=1)
    return (1.0 + np.arange(k)) ** -check_number(power, "power", minimum=0)


def attraction_of_grades(grades, *, noise=0.1, top=None):
    """Chances of a click on what is looked at: noise + (1 - noise) (2^grade - 1) / (2^top - 1), shape of `grades`.

    grades  integers >= 0 (or bool), any shape; top  the highest grade there is, None takes the highest that occurs
    Source: Chapelle et al. 2009 for the grades' scale, Ai et al. 2018 for the noise.
    """
    grades = check_array(grades, "grades")
    if grades.dtype.kind not in "biu" or not grades.size or grades.min() < 0:
        raise ValueError(f"grades: expected integers >= 0, got {grades.dtype} {grades.shape}")
    noise = check_number(noise, "noise", minimum=0, maximum=1)
    top = check_integer(max(int(grades.max()), 1) if top is None else top, "top", minimum=int(grades.max()), maximum=60)
    return noise + (1 - noise) * (2.0 ** grades.astype(np.int64) - 1) / max(2.0**top - 1, 1.0)


def simulate_searches(
    query_image, shown, attraction, examination, *, tags, n_users=100, start=0.0, gap=60.0, pause=2.0, seed=0
):
    """A `SearchLog` of position-based users, who look at each position with its chance and click what attracts them.

    query_image  (q,) images that are asked with, one an answer page
    shown        (q, k) different images, in the order of production's ranking
    attraction   (q, k) in [0, 1]: chance of a click on each, if looked at
    examination  (k,) in [0, 1]: chance that each position is looked at
    tags         (n,) integers, of all images; every other column of the tables is drawn
    n_users      each page is of a random one
    gap          seconds from one page to the next on average (exponential), from `start` on
    pause        seconds a user takes for each position on the way down to a click
    Raises ValueError for wrong shapes, chances outside [0, 1], an image twice on one page.
    """
    tags = check_groups(tags, "tags")
    query_image = check_rows(query_image, "query_image", len(tags))
    q = check_integer(len(query_image), "query_image: its length", minimum=1)
    shown = check_rows(shown, "shown", len(tags), shape=(q, None))
    k = check_integer(shown.shape[1], "shown: images a page", minimum=1)
    if (np.diff(np.sort(shown, axis=1), axis=1) == 0).any():
        raise ValueError("shown: expected different images on each page, got one twice")
    attraction = check_array(attraction, "attraction", shape=(q, k))
    examination = check_array(examination, "examination", shape=(k,))
    n_users = check_integer(n_users, "n_users", minimum=1)
    start, gap = check_number(start, "start"), check_number(gap, "gap", above=0)
    pause = check_number(pause, "pause", above=0)
    rng = np.random.default_rng(seed)
    clicked = simulate_clicks(attraction, examination, rng)
    searches = SearchTable(rng.integers(n_users, size=q), query_image, start + np.cumsum(rng.exponential(gap, q)))
    users = UserTable(rng.integers(16, 80, n_users), rng.integers(-11, 13, n_users))
    owner, uploaded = rng.integers(n_users, size=len(tags)), start - rng.exponential(1e7, len(tags))
    page, position = np.nonzero(np.ones((q, k), bool))
    row = np.concatenate([page, page[clicked.ravel()]])
    place = np.concatenate([position, position[clicked.ravel()]])
    kind = np.repeat([IMPRESSION, CLICK], [q * k, clicked.sum()])
    time = searches.time[row] + np.where(kind == CLICK, pause * (1 + place), 0)
    interactions = InteractionLog(searches.user[row], row, shown[row, place], place, kind, time)
    return SearchLog(ImageTable(owner, uploaded, tags), users, searches, interactions)


# ---- From clicks to pairs -------------------------------------------------------------------------------------------


class Impressions(NamedTuple):
    """One row for each image that was shown on a page."""

    query_image: np.ndarray  # (n,) int64
    image: np.ndarray  # (n,) int64
    position: np.ndarray  # (n,) int64
    clicked: np.ndarray  # (n,) bool


class PairTable(NamedTuple):
    """One row for each (query image, image) that was ever shown together, in this order."""

    query_image: np.ndarray  # (p,) int64
    image: np.ndarray  # (p,) int64
    impressions: np.ndarray  # (p,) int64
    clicks: np.ndarray  # (p,) int64, impressions that were clicked
    rate: np.ndarray  # (p,) float64, an estimate of the attraction


def impressions(log):
    """The `Impressions` of a log, in its order; an impression is clicked or not, however often.

    Raises ValueError if an image was shown twice on one page, or clicked on a page that did not show it, or showed it
    at another position; for images, positions and types of interactions that there are not, and a log without any.
    """
    interactions = check_log(log.interactions)
    asked = check_rows(log.searches.image, "log.searches.image", len(log.images.tag))
    page = check_rows(interactions.query, "log.interactions.query", len(asked))
    image = check_rows(interactions.image, "log.interactions.image", len(log.images.tag))
    kind, position = interactions.type, interactions.position
    cell = page * len(log.images.tag) + image
    seen, clicks = kind == IMPRESSION, kind == CLICK
    if len(np.unique(cell[seen])) < seen.sum():
        raise ValueError("log: expected one impression of an image on a page, got several")
    place = np.stack([cell, position], axis=1)
    if len(np.unique(place[seen | clicks], axis=0)) > seen.sum():
        raise ValueError("log: expected clicks on what was shown, where it was shown, got one on what was not")
    clicked = np.isin(cell[seen], cell[clicks])
    return Impressions(asked[page[seen]], image[seen], position[seen], clicked)


def click_rates(log):
    """`PairTable` with rate = clicks / impressions: it estimates e a, not a, and so ranks by position too."""
    shown = impressions(log)
    table, _ = _pair_table(shown)
    return table._replace(rate=table.clicks / table.impressions)


def debiased_click_rates(log, examination):
    """`PairTable` with rate = 1 / impressions * sum over clicks of 1 / e(position): an unbiased estimate of a.

    examination  (k,) > 0 at every position that was shown; known from an experiment that shuffles, or from
                 `estimate_examination`, which is 0 at positions without a click. A rate may exceed 1. Its variance
                 grows as 1 / e: with few impressions at the bottom, `np.maximum(examination, 0.1)` trades a bias there
                 for less of it.
    """
    shown = impressions(log)
    table, pair = _pair_table(shown)
    return table._replace(rate=corrected_click_through_rate(pair, shown.position, shown.clicked, examination))


def estimate_examination(log):
    """(k,): how often each position is looked at, relative to the first, from the log alone; 0 where nothing was
    clicked.

    Maximum likelihood of the position-based model (`metrics.position_bias`). Pairs must have been shown at several
    positions, as rankings that change or are shuffled a little provide; else e and a cannot be told apart.
    Raises ValueError if nothing was clicked at the first position, or if a position with clicks has no clicked pair in
    common with it, nor with others that have.
    """
    shown = impressions(log)
    return position_bias(_pair_table(shown)[1], shown.position, shown.clicked).examination


def top_click_pairs(table, per_query, *, least_rate=0.0, least_impressions=1):
    """(m, 2) pairs (query image, positive): of each query image the `per_query` others of the highest rate.

    Only those with a click, a rate above or at `least_rate` and at least `least_impressions`; a query image without
    such has no pair. Ties go to the smaller image. Ordered by query image, then by rate.
    """
    per_query = check_integer(per_query, "per_query", minimum=1)
    rows = _usable(table, least_rate, least_impressions)
    rows = rows[np.lexsort((table.image[rows], -table.rate[rows], table.query_image[rows]))]
    query = table.query_image[rows]
    rank = np.arange(len(rows)) - np.searchsorted(query, query, side="left")
    rows = rows[rank < per_query]
    return np.stack([table.query_image[rows], table.image[rows]], axis=1)


def sample_click_pairs(table, n, seed, *, least_rate=0.0, least_impressions=1):
    """(n, 2) pairs (query image, positive), drawn with replacement with chance in proportion to rate * impressions.

    From `click_rates` every click is equally likely; from `debiased_click_rates` each counts 1 / e. Only pairs as in
    `top_click_pairs` are drawn. Raises ValueError if there is none.
    """
    n = check_integer(n, "n", minimum=0)
    rows = _usable(table, least_rate, least_impressions)
    if not len(rows):
        raise ValueError("table: expected a clicked pair of other images, got none that is left")
    weight = table.rate[rows] * table.impressions[rows]
    rows = np.random.default_rng(seed).choice(rows, n, p=weight / weight.sum())
    return np.stack([table.query_image[rows], table.image[rows]], axis=1)


def _usable(table, least_rate, least_impressions):
    """Rows of pairs that were clicked, often enough, and are not a picture with itself."""
    least_rate = check_number(least_rate, "least_rate", minimum=0)
    least_impressions = check_integer(least_impressions, "least_impressions", minimum=1)
    enough = (table.rate >= least_rate) & (table.impressions >= least_impressions)
    return np.flatnonzero(enough & (table.clicks > 0) & (table.query_image != table.image))


def _pair_table(shown):
    """The `PairTable` without rates, and which of its rows each impression belongs to."""
    if not len(shown.image):
        raise ValueError("log: expected at least one impression, got none")
    width = shown.image.max() + 1
    cells, pair = np.unique(shown.query_image * width + shown.image, return_inverse=True)
    clicks = np.bincount(pair, shown.clicked).astype(np.int64)
    empty = np.full(len(cells), np.nan)
    return PairTable(cells // width, cells % width, np.bincount(pair), clicks, empty), pair
