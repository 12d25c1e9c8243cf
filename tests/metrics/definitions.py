"""The measures from their definitions, for one query: slow, obvious, and sharing no code with refimpl.

`rel` is a list of grades in ranked order, `judged` the grades of all judged documents of the query.
"""

from fractions import Fraction
from itertools import permutations
from math import log2


def precision(rel, k):
    return Fraction(len([g for g in rel[:k] if g > 0]), k)


def recall(rel, k, n_relevant):
    return Fraction(len([g for g in rel[:k] if g > 0]), n_relevant) if n_relevant else 0


def hit_rate(rel, k):
    return 1 if any(g > 0 for g in rel[:k]) else 0


def r_precision(rel, n_relevant):
    return precision(rel, n_relevant) if n_relevant else 0


def reciprocal_rank(rel, k=None):
    for rank, g in enumerate(rel if k is None else rel[:k], start=1):
        if g > 0:
            return Fraction(1, rank)
    return 0


def average_precision(rel, n_relevant, k=None):
    if n_relevant == 0:
        return 0
    cut = len(rel) if k is None else min(k, len(rel))
    return sum((precision(rel, i) for i in range(1, cut + 1) if rel[i - 1] > 0), Fraction(0)) / n_relevant


def gain(g, kind):
    return 0 if g < 0 else g if kind == "linear" else 2**g - 1


def dcg(rel, k, kind):
    return sum(gain(g, kind) / log2(i + 1) for i, g in enumerate(rel[:k], start=1))


def ndcg(rel, k, judged, kind):
    """The best DCG is found by trying every order of the judged documents, not by sorting them."""
    best = max((dcg(order, k, kind) for order in set(permutations(judged))), default=0)
    return dcg(rel, k, kind) / best if best else 0.0


def rank_biased_precision(rel, p):
    return (1 - p) * sum(p ** (i - 1) for i, g in enumerate(rel, start=1) if g > 0)


def expected_reciprocal_rank(rel, max_grade):
    """The reader stops at rank i with the probability of not having stopped before."""
    value, reading = 0.0, 1.0
    for i, g in enumerate(rel, start=1):
        stop = gain(g, "exponential") / 2**max_grade
        value += reading * stop / i
        reading *= 1 - stop
    return value


def bpref(rel, judged, n_relevant, n_nonrelevant):
    value = 0.0
    for i, g in enumerate(rel):
        if g > 0:
            above = sum(1 for h, j in zip(rel[:i], judged[:i]) if j and h <= 0)
            value += 1 - (min(above, n_relevant) / min(n_nonrelevant, n_relevant) if above else 0)
    return value / n_relevant if n_relevant else 0.0


def label_ranking_average_precision(relevant, scores):
    if all(relevant) or not any(relevant):
        return 1.0
    precisions = []
    for label, is_relevant in enumerate(relevant):
        if is_relevant:
            above = [other for other, s in enumerate(scores) if s >= scores[label]]
            precisions.append(Fraction(sum(1 for other in above if relevant[other]), len(above)))
    return sum(precisions) / len(precisions)
