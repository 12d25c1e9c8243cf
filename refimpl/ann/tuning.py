"""The cheapest search parameters that reach a recall, found by measuring.

What an index spends on a query is set by one or two parameters (BUDGETS). The structure does not depend on them, so
nothing is built anew. Every combination of values is searched once for its recall, an exact count of true neighbours.
Then all are timed in turn, several rounds, so that a machine that slows down slows all of them; the time of a point is
its median. The points that no other one beats or equals in recall and rate are the curve (the Pareto front), and its
fastest point at the target or above is set on the index.

The choice depends on the timings, and on nothing else that varies: ties go to the smaller parameters.
"""

import itertools
import time
from typing import NamedTuple

import numpy as np

from ..validation import check_array, check_integer, check_number
from .exact import ExactIndex
from .recall import knn_recall

BUDGETS = {
    "probes": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "eps0": (0.8, 1.2, 1.9),
    "rerank": (10, 20, 30, 50, 100, 200, 400),
    "max_leaves": (5, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480),
    "ef": (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256),
}


class Point(NamedTuple):
    """One setting: parameters {name: value}, recall in [0, 1], queries per second."""

    parameters: dict
    recall: float
    rate: float


class Tuning(NamedTuple):
    """The point that was set on the index, and the Pareto curve: by recall, each faster than all of higher recall."""

    best: Point
    curve: list


def pareto(points):
    """The points that no other one beats or equals in recall and rate, by ascending recall."""
    curve = []
    for point in sorted(points, key=lambda p: (-p.recall, -p.rate, tuple(p.parameters.values()))):
        if not curve or point.rate > curve[-1].rate:
            curve.append(point)
    return curve[::-1]


def set_parameters(index, parameters):
    """Let the index search with these {name: value} from now on, also after save and load."""
    checked = type(index)(**{**index._settings, **parameters})  # None and other numbers become what they stand for
    for name in parameters:
        value = getattr(checked, name)
        setattr(index, name, value)
        index._settings[name] = value


def tune(index, queries, recall=0.95, k=10, *, truth=None, budgets=None, rounds=3, clock=time.perf_counter):
    """Find the cheapest parameters of an index that reach a recall, and set them -> Tuning(best, curve).

    index     a fitted index with at least one parameter of BUDGETS
    queries   (n, d), n >= 1, as they will come: the rates are those of a batch like this one
    recall    in (0, 1], the target of the mean recall@k; k >= 1
    truth     (n, k) ids of the true neighbours; None: an exact search among the live vectors
    budgets   {name: values to try}, names of BUDGETS or "eps"; None: BUDGETS for those that the index has
    rounds    timings of each combination; clock: () -> seconds

    ValueError if no combination reaches the target, with the best seen; the index is then as before. Takes 1 + rounds
    searches for each combination, and an exact search.
    """
    recall = check_number(recall, "recall", above=0)
    if recall > 1:
        raise ValueError(f"recall: expected a number in (0, 1], got {recall}")
    k, rounds = check_integer(k, "k", minimum=1), check_integer(rounds, "rounds", minimum=1)
    queries = check_array(queries, "queries", ndim=2, finite=True)
    if len(queries) < 1:
        raise ValueError(f"queries: expected at least one, got shape {queries.shape}")
    index._check_fitted()
    if budgets is None:
        budgets = {name: values for name, values in BUDGETS.items() if name in index._settings}
    unknown = [name for name in budgets if name not in index._settings or name not in (*BUDGETS, "eps")]
    if unknown or not budgets:
        raise ValueError(f"budgets: expected search parameters of {type(index).__name__}, got {unknown or 'none'}")
    budgets = {name: tuple(values) for name, values in budgets.items()}
    for name, values in budgets.items():
        if not values:
            raise ValueError(f"budgets: expected values to try for {name}, got none")
        checked = [type(index)(**{**index._settings, name: value}) for value in values]  # says what is wrong with one
        budgets[name] = tuple(getattr(one, name) for one in checked)
    if truth is None:
        truth = true_neighbours(index, queries, k)
    truth = check_array(truth, "truth", shape=(len(queries), k))
    before = {name: getattr(index, name) for name in budgets}
    settings = [dict(zip(budgets, values)) for values in itertools.product(*budgets.values())]
    recalls, times = [], [[] for _ in settings]
    try:
        for setting in settings:
            set_parameters(index, setting)
            recalls.append(knn_recall(index.search(queries, k).ids, truth))
        for _, (setting, taken) in itertools.product(range(rounds), list(zip(settings, times))):
            set_parameters(index, setting)
            start = clock()
            index.search(queries, k)
            taken.append(clock() - start)
    finally:
        set_parameters(index, before)
    rates = [len(queries) / max(float(np.median(taken)), 1e-9) for taken in times]
    curve = pareto([Point(*point) for point in zip(settings, recalls, rates)])
    if curve[-1].recall < recall:
        raise ValueError(f"recall: expected one that is reached, got {recall}; the best is {curve[-1]}")
    best = next(point for point in curve if point.recall >= recall)
    set_parameters(index, best.parameters)
    return Tuning(best, curve)


def true_neighbours(index, queries, k):
    """Ids (n, k) of the nearest among the live vectors of an index."""
    vectors = index._vectors[index._live][:, : index._dimension]
    return ExactIndex(metric=index.metric).fit(vectors, index.ids).search(queries, k).ids
