"""What users do with the suggestions: measures of an interaction log.

A log is a table of events, one row each, in any order (`InteractionLog`): who, in answer to which query, which image,
at which position, what happened, and when. A query is one page of results that one user saw; each (query, image) pair
was shown to that user once, at one position.

    user  query  image  position  type          time
       7     31    904         0  IMPRESSION    1717.2     shown
       7     31    118         1  IMPRESSION    1717.2
       7     31    118         1  CLICK         1719.9     opened
       7     31    118         1  LEAVE         1741.0     closed: 21.1 s on the image

Three measures, and what each must get right:

    click-through rate   an impression is clicked or not, however often; with an interval, since few clicks say little
    time spent           a visit that crosses midnight belongs to two days, and midnight is where the user is
    relevance            users click what is on top: clicks divided by the chance that the position was looked at
"""

import datetime
import zoneinfo
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from ..validation import check_array, check_choice, check_integer, check_number

IMPRESSION, CLICK, LEAVE = 0, 1, 2
EARLIEST, LATEST = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp() for year in (2, 9999))


class InteractionLog(NamedTuple):
    """Columns of n events. Users, queries and images are integers, positions count from 0, time is in seconds UTC."""

    user: np.ndarray  # (n,) integers
    query: np.ndarray  # (n,) integers
    image: np.ndarray  # (n,) integers
    position: np.ndarray  # (n,) integers >= 0
    type: np.ndarray  # (n,) IMPRESSION, CLICK or LEAVE
    time: np.ndarray  # (n,) real, finite


# ---- Click-through rate ---------------------------------------------------------------------------------------------


class Rate(NamedTuple):
    """Clicked of shown, and an interval for the rate; numbers, or arrays with one entry a group."""

    clicks: np.ndarray
    impressions: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def click_through_rate(log, *, confidence=0.95):
    """The share of shown images that were clicked: a `Rate` of numbers, with the Wilson interval.

    An impression counts as clicked once, however many clicks it got. Raises if something was clicked that was not
    shown. The interval takes impressions as independent; those of one user are not, so compare two rates by user
    (`experiments.ratio_test`) and not by their intervals.
    """
    clicked = _clicked(check_log(log))[1]
    return _rate(np.array(clicked.sum()), np.array(len(clicked)), confidence)


def click_through_rate_by_position(log, *, confidence=0.95):
    """The same for each position from 0 to the last one shown, as arrays; NaN where nothing was shown."""
    shown, clicked = _clicked(check_log(log))
    impressions = np.bincount(shown.position)
    return _rate(np.bincount(shown.position, clicked).astype(np.int64), impressions, confidence)


def wilson_interval(successes, trials, confidence=0.95):
    """(low, high) for a probability of which `successes` of `trials` came true; numbers or arrays.

        (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Stays within [0, 1] and is not empty at 0 or n successes, where the usual p +- z sd is. NaN without trials.
    Source: Wilson, Probable inference, JASA 1927; Brown, Cai, DasGupta, Interval estimation for a binomial
    proportion, 2001.
    """
    n = check_array(trials, "trials", finite=True).astype(np.float64)
    x = check_array(successes, "successes", shape=n.shape, finite=True).astype(np.float64)
    if (x < 0).any() or (x > n).any():
        raise ValueError("successes: expected values from 0 to trials, got others")
    z = special.ndtri((1 + check_number(confidence, "confidence", above=0, below=1)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = x / n
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = ((p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return np.where(x == 0, np.where(n > 0, 0.0, np.nan), low), np.where(x == n, np.where(n > 0, 1.0, np.nan), high)


# ---- Time spent -----------------------------------------------------------------------------------------------------


class Visits(NamedTuple):
    """Times that users spent on suggested images: n intervals, in seconds since 1970 UTC."""

    user: np.ndarray  # (n,)
    start: np.ndarray  # (n,) float64
    end: np.ndarray  # (n,) float64, >= start


def visits(log, *, longest=1800.0):
    """The `Visits` of a log: from each click to the user's next event, or `longest` seconds, whichever is first.

    The next event - closing the image, another click, another page shown - ends it. A click with nothing within
    `longest` seconds after it was left open, and nobody knows for how long: it counts as 0 seconds, so what is measured
    is a lower bound.

    The order of the rows does not matter. A user's events at one and the same time are taken in this order: the LEAVEs
    of images that are not clicked at that time, IMPRESSIONs, CLICKs, and the LEAVEs of the images that were clicked.
    """
    log = check_log(log)
    longest = check_number(longest, "longest", above=0)
    log = _in_order(log._replace(time=log.time.astype(np.float64)))
    user, time, kind = log.user, log.time, log.type
    following = np.append(time[1:], np.inf)
    following[np.append(user[1:] != user[:-1], True)] = np.inf
    stay = np.where(following - time <= longest, following - time, 0.0)
    clicks = kind == CLICK
    return Visits(user[clicks], time[clicks], (time + stay)[clicks])


def _in_order(log):
    """The log by user and time; at one time other LEAVEs, IMPRESSIONs, CLICKs, and LEAVEs of what was just clicked."""
    rows = np.lexsort((log.type != CLICK, log.image, log.query, log.time, log.user))
    log = InteractionLog(*(column[rows] for column in log))
    # Now the events of one user, time, query and image stand together, and a click, if there is one, is the first.
    cell = (log.user, log.time, log.query, log.image)
    first = np.append(True, np.any([column[1:] != column[:-1] for column in cell], axis=0))
    just_clicked = (log.type[first] == CLICK)[np.cumsum(first) - 1]
    rank = np.where(log.type == LEAVE, np.where(just_clicked, 3, 0), np.where(log.type == CLICK, 2, 1))
    rows = np.lexsort((rank, log.time, log.user))  # stable: then by query and image
    return InteractionLog(*(column[rows] for column in log))


class TimeSpent(NamedTuple):
    """Time spent in each calendar period with a visit, be it of no length, in order."""

    period: list  # first days, datetime.date
    seconds: np.ndarray  # (p,) of all users together
    users: np.ndarray  # (p,) users with a visit in the period
    per_user: np.ndarray  # (p,) seconds / users


def time_spent(spent, period="day", time_zone="UTC"):
    """Seconds spent on suggested images in each day, week (from Monday) or month, and per active user: `TimeSpent`.

    Days begin at midnight in `time_zone`: the name of one zone, or a {user: name} dictionary with every user's own. A
    visit that crosses a boundary is divided there. A day in which clocks change has 23 or 25 hours in most
    zones, and is a day.
    Raises ValueError for times that are not in the years from 2 to 9998, as milliseconds are not.
    """
    check_choice(period, "period", ("day", "week", "month"))
    user = check_array(spent.user, "user", ndim=1)
    if len(user) and user.dtype.kind not in "iu":
        raise ValueError(f"user: expected integers, got dtype {user.dtype}")
    start = check_array(spent.start, "start", shape=user.shape, finite=True)
    end = check_array(spent.end, "end", shape=user.shape, finite=True)
    for name, times in (("start", start), ("end", end)):
        if ((times < EARLIEST) | (times > LATEST)).any():
            wrong = times[(times < EARLIEST) | (times > LATEST)][0]
            raise ValueError(f"{name}: expected seconds since 1970, of the years from 2 to 9998, got {wrong:g}")
    if (end < start).any():
        raise ValueError("end: expected visits that do not end before they start, got others")
    seconds, active = {}, {}
    for name, rows in _by_zone(user, time_zone).items():
        days, edges = _periods(start[rows], end[rows], period, name)
        first = np.searchsorted(edges, start[rows], side="right") - 1
        last = np.maximum(np.searchsorted(edges, end[rows], side="left") - 1, first)
        for i, begin, stop, a, b in zip(user[rows], start[rows], end[rows], first, last):
            for p in range(a, b + 1):
                if edges[p] < edges[p + 1]:  # the calendar may leave out a day, as Samoa's did
                    seconds[days[p]] = seconds.get(days[p], 0.0) + min(stop, edges[p + 1]) - max(begin, edges[p])
                    active.setdefault(days[p], set()).add(int(i))
    period = sorted(seconds)
    total, users = np.array([seconds[d] for d in period]), np.array([len(active[d]) for d in period], dtype=np.int64)
    return TimeSpent(period, total, users, total / np.maximum(users, 1))


def average_time_spent(log, period="day", time_zone="UTC", *, longest=1800.0):
    """The mean over the periods of the seconds that an active user spends on suggested images in one; 0 without visits.

    Chapter 2's average daily, weekly and monthly time. An active user is one with a visit in the period, be it
    one that began before, and every period counts the same, so that a quiet day is not lost among busy ones.
    """
    spent = time_spent(visits(log, longest=longest), period, time_zone)
    return float(spent.per_user.mean()) if len(spent.period) else 0.0


def _by_zone(user, time_zone):
    """{zone name: rows of its users}"""
    if isinstance(time_zone, str):
        return {time_zone: np.arange(len(user))}
    if not isinstance(time_zone, Mapping) or not all(isinstance(name, str) for name in time_zone.values()):
        raise ValueError(f"time_zone: expected a name, or the name of every user's, got {time_zone!r}")
    missing = sorted(set(user.tolist()) - set(time_zone))
    if missing:
        raise ValueError(f"time_zone: expected a zone for every user, got none for {missing[:3]}")
    names = np.array([time_zone[u] for u in user.tolist()], dtype=object)
    return {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()))}


def _periods(start, end, period, name):
    """(first days, edges): the local calendar periods from the first start to the last end, edges in seconds UTC."""
    if not len(start):
        return [], np.zeros(1)
    try:
        zone = datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)  # UTC needs no database
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: of a folder, such as 'Europe'
        raise ValueError(f"time_zone: expected a name such as 'Europe/Paris', got {name!r} ({error})") from None
    # Whole seconds: fromtimestamp rounds to microseconds, which may be those of the next day.
    day = datetime.datetime.fromtimestamp(float(np.floor(start.min())), zone).date()
    if period == "week":
        day -= datetime.timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    days, edges = [], []
    while not edges or edges[-1] <= end.max():
        days.append(day)
        edges.append(datetime.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
        if period == "month":
            day = (day + datetime.timedelta(days=31)).replace(day=1)
        else:
            day += datetime.timedelta(days=7 if period == "week" else 1)
    edges.append(datetime.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
    return days, np.array(edges)


# ---- Position bias --------------------------------------------------------------------------------------------------


class PositionBias(NamedTuple):
    """A position-based click model: P(click) = examination[position] * attraction[item]."""

    examination: np.ndarray  # (k,), relative to position 0, which is 1; 0 where nothing was shown or clicked
    attraction: np.ndarray  # (m,)


def position_bias(item, position, clicked, *, n_iter=100, tol=1e-7):
    """Which positions are looked at and which items are clicked when they are, from a log: a `PositionBias`.

    item (n,) integers 0 .. m - 1, such as (query, image) pairs; position (n,) integers; clicked (n,) bool; one entry
    an impression. Maximum likelihood: of an item at a position with c impressions clicked and d not,

        sum over items and positions of  c log(e a) + d log(1 - e a)        0 <= e, a <= 1

    It is concave in log e and log a, so Newton's method finds the maximum, in ten steps or twenty. The usual
    expectation maximisation climbs the same hill, with thousands of tiny steps where the order of a page hardly varies.

    Items must have been shown at several positions; if each always had the same one, bias and attraction cannot be told
    apart: every e has the same chances, with an a that makes up for it. Only the products e a can be seen, so e is
    given relative to position 0, and a is the chance of a click there.

    Raises ValueError if nothing was clicked at position 0, or if a position with clicks has no clicked item in common
    with it, nor with others that have; for different lengths; and if the last of `n_iter` steps still moved an e or a
    by `tol` or more. For k positions, a step takes at most O(m k^2 + k^3) time, and memory for k^2 numbers and a few
    for each pair of item and position.
    Source: Craswell et al., An experimental comparison of click position-bias models, WSDM 2008 (the model); Wang et
    al., Position bias estimation for unbiased learning to rank in personal search, WSDM 2018 (by expectation
    maximisation); Bertsekas, Projected Newton methods for optimization problems with simple constraints, 1982.
    """
    item, position = _indices(item, "item"), _indices(position, "position")
    clicked = check_array(clicked, "clicked", shape=item.shape, dtypes=(bool,)).astype(np.float64)
    position = check_array(position, "position", shape=item.shape)
    n_iter, tol = check_integer(n_iter, "n_iter", minimum=1), check_number(tol, "tol", above=0)
    if not clicked[position == 0].any():
        on_top = np.count_nonzero(position == 0)
        raise ValueError(f"position: expected clicks at position 0, the measure of the others, got 0 of {on_top} shown")
    examination, attraction = np.zeros(position.max() + 1), np.zeros(item.max() + 1)
    # What was never clicked has chance 0, and then says nothing about the others.
    known = (np.bincount(position, clicked) > 0)[position] & (np.bincount(item, clicked) > 0)[item]
    positions, position = np.unique(position[known], return_inverse=True)
    items, item = np.unique(item[known], return_inverse=True)
    _check_tied(item, position, positions)
    examination[positions], attraction[items] = _most_likely(item, position, clicked[known], n_iter, tol)
    top = examination[0]
    return PositionBias(examination / top, np.minimum(attraction * top, 1.0))


def _check_tied(item, position, positions):
    """Raise unless items tie each of `positions` to the first: shown at both, or by a chain of such.

    What was never clicked must be gone: where e or a is 0, every value of the other is as likely.
    """
    reached = positions == 0
    while True:
        tied = np.bincount(item, reached[position]) > 0
        further = np.bincount(position, tied[item]) > 0
        if (further == reached).all():
            break
        reached = further
    if not reached.all():
        raise ValueError(
            "position: expected items that were shown at several positions, got none that ties position "
            f"{positions[reached.argmin()]} to position 0, so that bias and attraction cannot be told apart"
        )


def _most_likely(item, position, clicked, n_iter, tol):
    """(e, a) of positions 0, 1, ... and items 0, 1, ..., each of which was clicked."""
    k = position.max() + 1
    cells, cell = np.unique(item * k + position, return_inverse=True)
    item, position = np.divmod(cells, k)
    clicks = np.bincount(cell, clicked)
    misses = np.bincount(cell) - clicks
    logs = np.append(np.zeros(k), np.where(np.bincount(item, misses) > 0, np.log(0.5), 0.0))  # of e, then of a
    value = _log_likelihood(logs[position] + logs[k + item], clicks, misses)
    for _ in range(n_iter):
        step, before = _newton_step(logs, item, position, clicks, misses), logs
        for halvings in range(40):
            there = np.minimum(before + step / 2**halvings, 0)
            value_there = _log_likelihood(there[position] + there[k + item], clicks, misses)
            if value_there >= value:
                logs, value = there, value_there
                break
        moved = np.abs(np.exp(logs) - np.exp(before)).max()  # 0 if no step is short enough: this is the top
        if moved < tol:
            return np.exp(logs[:k]), np.exp(logs[k:])
    raise ValueError(f"n_iter: expected enough steps for one below tol = {tol:g}, got {n_iter}, the last of {moved:g}")


def _log_likelihood(both, clicks, misses):
    """both: log(e a)"""
    return np.sum(clicks * both + special.xlogy(misses, -np.expm1(both)))


def _newton_step(logs, item, position, clicks, misses):
    """From `logs` to the top of the parabola with the same slopes and curvatures, but that an e or a at 1 stays there
    if it would rise.

    A cell has one position and one item, so that the second derivatives are diagonal among the items. These are
    eliminated first; what is left is one equation a position.
    """
    m, k = item.max() + 1, position.max() + 1
    both = logs[position] + logs[k + item]
    odds = np.where(misses > 0, np.exp(both) / np.maximum(-np.expm1(both), 1e-300), 0.0)
    slope = clicks - misses * odds
    rise = np.append(np.bincount(position, slope), np.bincount(item, slope))
    free = (logs < 0) | (rise < 0)
    rise *= free
    # Minus the second derivatives: of an e with an a; added up, of an e and of an a alone.
    curvature = misses * odds * (1 + odds)
    of_e, of_a = np.bincount(position, curvature), np.bincount(item, curvature)
    inverse = np.divide(free[k:], of_a, out=np.zeros(m), where=of_a > 0)
    mixed = sparse.csr_array((curvature * free[position], (item, position)), shape=(m, k))
    # Along e -> c e, a -> a / c the likelihood is level or a slope: a little is added for that, and no step is long.
    left = np.diag(np.where(free[:k], of_e + 1e-9 * of_e.max(), 1)) - (mixed.T @ (mixed * inverse[:, None])).toarray()
    e = np.linalg.solve(left, rise[:k] - (inverse * rise[k:]) @ mixed)
    step = np.append(e, inverse * (rise[k:] - mixed @ e))
    return step / max(1, np.abs(step).max() / 2)


def corrected_click_through_rate(item, position, clicked, examination):
    """(m,): for each item, its clicks each divided by the examination of its position, over its impressions.

        1/n sum over impressions of  clicked / e(position)

    Unbiased for the attraction when the position-based model holds and e is right, whatever put the items where they
    were; it can exceed 1 by chance, and varies much where e is small. NaN for items never shown.
    Source: Joachims, Swaminathan, Schnabel, Unbiased learning-to-rank with biased feedback, WSDM 2017.
    """
    item, position = _indices(item, "item"), _indices(position, "position")
    clicked = check_array(clicked, "clicked", shape=item.shape, dtypes=(bool,))
    position = check_array(position, "position", shape=item.shape)
    examination = check_array(examination, "examination", ndim=1, finite=True, min_rows=int(position.max()) + 1)
    unseen = position[examination[position] <= 0]
    if len(unseen):
        raise ValueError(
            f"examination: expected values above 0 at every position that was shown, got {examination[unseen[0]]:g} "
            f"at {unseen[0]}; np.maximum(examination, 0.1), say, is a floor"
        )
    with np.errstate(invalid="ignore"):
        return np.bincount(item, clicked / examination[position]) / np.bincount(item)


# ---- Checks ---------------------------------------------------------------------------------------------------------


def check_log(log):
    """`log` with int64 columns: ValueError if one is missing a row, an id is no integer, a position below 0, a type
    unknown or a time not finite."""
    user = _indices(log.user, "user", least=None)
    same = {"shape": user.shape}
    columns = [check_array(_indices(getattr(log, c), c, least=None), c, **same) for c in ("query", "image")]
    position = check_array(_indices(log.position, "position"), "position", **same)
    kind = check_array(_indices(log.type, "type"), "type", **same)
    if kind.max() > LEAVE:
        raise ValueError(f"type: expected IMPRESSION, CLICK or LEAVE (0, 1, 2), got {kind.max()}")
    return InteractionLog(user, *columns, position, kind, check_array(log.time, "time", finite=True, **same))


def _indices(values, name, least=0):
    values = check_array(values, name, ndim=1, min_rows=1)
    if values.dtype.kind not in "iu" or (least is not None and values.min() < least):
        wanted = "integers" if least is None else "integers >= 0"
        raise ValueError(f"{name}: expected {wanted}, got {values.dtype} from {values.min()}")
    if values.dtype == np.uint64 and values.max() >= 2**63:
        raise ValueError(f"{name}: expected integers below 2^63, got {values.max()}")
    return values.astype(np.int64)


def _clicked(log):
    """(the impressions, clicked (n,) bool)"""
    key = np.stack([log.user, log.query, log.image, log.position], axis=1)
    shown = log.type == IMPRESSION
    names, inverse = np.unique(key, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    times_shown = np.bincount(inverse[shown], minlength=len(names))
    was_clicked = np.bincount(inverse[log.type == CLICK], minlength=len(names)) > 0
    if (times_shown > 1).any():
        raise ValueError("log: expected one impression for a (user, query, image, position), got several")
    if (was_clicked & (times_shown == 0)).any():
        raise ValueError("log: expected clicks on what was shown, got one on what was not")
    return InteractionLog(*(column[shown] for column in log)), was_clicked[inverse[shown]]


def _rate(clicks, impressions, confidence):
    with np.errstate(invalid="ignore", divide="ignore"):
        return Rate(clicks, impressions, clicks / impressions, *wilson_interval(clicks, impressions, confidence))
