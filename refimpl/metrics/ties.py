"""What a measure is when scores are tied: its mean over all orders of the tied documents, exactly and without trying
them.

A ranking that gives two documents the same score has not said which comes first. Breaking the tie by name, as
trec_eval does, is repeatable and arbitrary: renaming the documents changes the value. The mean over all orders of
every tied group does not.

A group of t documents, r of them relevant, stands at ranks s + 1 .. s + t behind H relevant ones. Over its orders
every rank of the group is equally often held by every document, so at each of them

    the chance of a relevant document is r / t                                         precision, recall, R-precision
    the expected gain is the mean gain of the group                                    DCG, nDCG
    a relevant document at place j of the group has on average H + 1 + (j - 1) (r - 1) / (t - 1)
        relevant ones down to itself                                                   AP
    the first relevant one is at place j with chance C(t - j, r - 1) / C(t, r)         RR; hit rate by its sum

Each sum below is one of these, in closed form or over the places of the group: at most O(depth) a query after sorting.

    grades   (q, depth)  real, finite     in any order
    scores   (q, depth)  real, finite     the higher, the earlier; padding is not possible, since it would need a score
    returns  (q,) float64

Source: McSherry and Najork, Computing information retrieval performance measures efficiently in the presence of tied
scores, ECIR 2008.
"""

import numpy as np

from ..validation import check_array, check_integer
from .ranking import _check_ideal, _gain, _grades, _over, _relevant, _same_precision, _total


def tie_averaged_precision_at_k(grades, scores, k):
    """The mean of `precision_at_k` over all orders of tied documents: expected relevant ones in the first k, over k."""
    chance, _ = _groups(grades, scores)
    return chance[:, : check_integer(k, "k", minimum=1)].sum(axis=1) / k


def tie_averaged_recall_at_k(grades, scores, k, n_relevant):
    """The mean of `recall_at_k` over all orders of tied documents: expected relevant ones in the first k, over R."""
    chance, rel = _groups(grades, scores)
    found = chance[:, : check_integer(k, "k", minimum=1)].sum(axis=1)
    return _over(found, _relevant(n_relevant, rel > 0))


def tie_averaged_r_precision(grades, scores, n_relevant):
    """The mean of `r_precision` over all orders of tied documents."""
    chance, rel = _groups(grades, scores)
    n_relevant = _relevant(n_relevant, rel > 0)
    within = np.arange(rel.shape[1]) < n_relevant[:, None]
    return _over((chance * within).sum(axis=1), n_relevant)


def tie_averaged_reciprocal_rank(grades, scores, k=None):
    """The mean of `reciprocal_rank` over all orders of tied documents."""
    return _first_hit(grades, scores, k, lambda rank: 1 / rank)


def tie_averaged_hit_rate_at_k(grades, scores, k):
    """The mean of `hit_rate_at_k` over all orders of tied documents: the chance of a hit among the first k."""
    return _first_hit(grades, scores, check_integer(k, "k", minimum=1), lambda rank: 1.0)


def tie_averaged_average_precision(grades, scores, n_relevant, k=None):
    """The mean of `average_precision` over all orders of tied documents.

    1/R sum over ranks i of  r/t (H + 1 + (j - 1) (r - 1) / (t - 1)) / i      i = s + j <= k
    """
    order, bounds = _sorted(grades, scores)
    hits = order > 0
    n_relevant = _relevant(n_relevant, hits)
    terms = np.zeros(hits.shape)
    for row, (row_hits, row_bounds) in enumerate(zip(hits, bounds)):
        sizes = np.diff(row_bounds)
        relevant = np.add.reduceat(row_hits, row_bounds[:-1], dtype=np.int64)
        before = np.cumsum(relevant) - relevant
        t, r, h, s = (np.repeat(of_group, sizes) for of_group in (sizes, relevant, before, row_bounds[:-1]))
        i = np.arange(1, len(row_hits) + 1)
        terms[row] = r / t * (h + 1 + (i - s - 1) * (r - 1) / np.maximum(t - 1, 1)) / i
    cut = terms.shape[1] if k is None else check_integer(k, "k", minimum=1)
    return _over(_total(terms[:, :cut]), n_relevant)


def tie_averaged_dcg_at_k(grades, scores, k, gain="linear"):
    """The mean of `dcg_at_k` over all orders of tied documents: every rank of a group gets the group's mean gain."""
    order, bounds = _sorted(grades, scores)
    gains = _spread(_gain(order, gain), bounds)[:, : check_integer(k, "k", minimum=1)]
    return _total(gains / np.log2(np.arange(2, gains.shape[1] + 2)))


def tie_averaged_ndcg_at_k(grades, scores, k, ideal, gain="linear"):
    """The mean of `ndcg_at_k` over all orders of tied documents; `ideal` (q, m): all judged grades of each query."""
    grades, ideal = _grades(grades, "grades"), _grades(check_array(ideal, "ideal"), "ideal", rows=len(scores))
    grades, ideal = _same_precision(grades, ideal, "grades")
    best = np.sort(np.maximum(ideal, 0), axis=1)[:, ::-1]
    _check_ideal(grades, best)
    discounts = np.log2(np.arange(2, best.shape[1] + 2))[: check_integer(k, "k", minimum=1)]
    ideal_dcg = _total(_gain(best, gain)[:, :k] / discounts)
    return _over(tie_averaged_dcg_at_k(grades, scores, k, gain), ideal_dcg)


# ---- Groups ---------------------------------------------------------------------------------------------------------


def _sorted(grades, scores):
    """Grades in an order of the scores, and for each row where its groups of equal scores begin, and the depth."""
    scores = check_array(scores, "scores", ndim=2, finite=True, min_rows=1)
    grades = _grades(check_array(grades, "grades", shape=scores.shape), "grades")
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    scores = np.take_along_axis(scores, order, axis=1)
    bounds = [[0, *(np.flatnonzero(row[1:] != row[:-1]) + 1).tolist(), len(row)] for row in scores]
    return np.take_along_axis(grades, order, axis=1), bounds


def _spread(values, bounds):
    """Each value replaced by the mean of its group."""
    result = np.empty(values.shape)
    for row, (numbers, edges) in enumerate(zip(values, bounds)):
        means = np.add.reduceat(numbers, edges[:-1]) / np.diff(edges)
        result[row] = np.repeat(means, np.diff(edges))
    return result


def _groups(grades, scores):
    """(chance, order): the chance of a relevant document at each rank, and the grades in order."""
    order, bounds = _sorted(grades, scores)
    return _spread((order > 0).astype(np.float64), bounds), order


def _first_hit(grades, scores, k, worth):
    """The expected worth(rank) of the first relevant document, 0 if it is beyond k: only its own group matters.

    The chance that it is at place j is that the j - 1 places before hold none: a product of (t - r - i) / (t - i).
    """
    order, bounds = _sorted(grades, scores)
    cut = order.shape[1] if k is None else check_integer(k, "k", minimum=1)
    values = np.zeros(len(order))
    for row, (hits, edges) in enumerate(zip(order > 0, bounds)):
        if hits.any():
            group = np.searchsorted(edges, hits.argmax(), side="right") - 1
            begin, end = edges[group], edges[group + 1]
            t, r, none_yet = end - begin, hits[begin:end].sum(), 1.0
            for j in range(min(t - r + 1, cut - begin)):
                values[row] += none_yet * r / (t - j) * worth(begin + j + 1)
                none_yet *= (t - r - j) / (t - j)
    return values
