"""Users who click by known rules, so that what the online measures find can be held against the truth.

    position based   P(click) = examination(position) * attraction(document)        every position on its own
    cascade          read from the top, click with the attraction, and stop after a click with a given chance

`simulate_clicks` and `simulate_cascade` click on pages; `simulate_log` writes a whole `InteractionLog` with times.
Source: Craswell, Zoeter, Taylor, Ramsey, An experimental comparison of click position-bias models, WSDM 2008;
Chuklin, Markov, de Rijke, Click models for web search, 2015.
"""

import numpy as np

from ..validation import check_array, check_integer, check_number
from .online import CLICK, IMPRESSION, LEAVE, InteractionLog


def simulate_clicks(attraction, examination, rng):
    """(q, k) bool: clicks under the position-based model. attraction (q, k), examination (k,), both in [0, 1]."""
    attraction = _chances(attraction, "attraction", 2)
    examination = check_array(_chances(examination, "examination", 1), "examination", shape=attraction.shape[1:])
    return rng.random(attraction.shape) < attraction * examination


def simulate_cascade(attraction, stop, rng):
    """(q, k) bool: clicks under the cascade model; after a click the reader stops with chance `stop`."""
    attraction = _chances(attraction, "attraction", 2)
    stop = check_number(stop, "stop", minimum=0, maximum=1)
    would = rng.random(attraction.shape) < attraction
    stops = would & (rng.random(attraction.shape) < stop)
    reading = np.cumsum(stops, axis=1) - stops == 0  # nothing above has stopped the reader
    return would & reading


def simulate_log(attraction, examination, *, n_queries, n_users, start, gap=600.0, stay=20.0, seed=0):
    """(log, item): an `InteractionLog` of position-based users, and which row of `attraction` each impression shows.

    attraction (m,): of m images. examination (k,): k <= m of them are drawn anew, in random order, for each of
    n_queries pages, which random users see one after another, `gap` seconds apart on average from `start` on
    (exponentially). What is clicked is open for `stay` seconds on average (exponentially), one after the other, and
    closed with a LEAVE. item (n_queries * k,).
    """
    attraction, examination = _chances(attraction, "attraction", 1), _chances(examination, "examination", 1)
    q, k = check_integer(n_queries, "n_queries", minimum=1), len(examination)
    check_integer(len(attraction), "attraction: its length", minimum=k)
    gap, stay = check_number(gap, "gap", above=0), check_number(stay, "stay", above=0)
    rng = np.random.default_rng(seed)
    user = rng.integers(check_integer(n_users, "n_users", minimum=1), size=q)
    shown = np.stack([rng.choice(len(attraction), k, replace=False) for _ in range(q)])
    clicked = simulate_clicks(attraction[shown], examination, rng)
    opened = np.where(clicked, rng.exponential(stay, clicked.shape), 0.0)
    closed = np.cumsum(opened + 1e-3 * clicked, axis=1)  # a click is a millisecond after the page, or the last LEAVE
    page = check_number(start, "start") + np.cumsum(rng.exponential(gap, q) + np.append(0, closed[:-1, -1] + 1))
    row, position = np.nonzero(clicked)
    rows, positions = np.repeat(np.arange(q), k), np.tile(np.arange(k), q)
    times = [page[rows], page[row] + (closed - opened)[clicked], page[row] + closed[clicked]]
    kinds = np.repeat([IMPRESSION, CLICK, LEAVE], [q * k, len(row), len(row)])
    rows, positions = np.concatenate([rows, row, row]), np.concatenate([positions, position, position])
    log = InteractionLog(user[rows], rows, shown[rows, positions], positions, kinds, np.concatenate(times))
    return log, shown.ravel()


def _chances(values, name, ndim):
    values = check_array(values, name, ndim=ndim, finite=True, min_rows=1)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"{name}: expected values from 0 to 1, got {values.min()} to {values.max()}")
    return values
