"""Measures of retrieval for the scripts: rank a gallery for each query, compare with the grades, average."""

import numpy as np

from refimpl.ann import ExactIndex
from refimpl.metrics import average_precision, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank

MEASURES = ("mrr", "recall@10", "precision@10", "map", "ndcg@10")


def rank(descriptors, queries):
    """All other rows for each query by cosine similarity, best first.

    descriptors  (n, d) float; queries (q,) rows of it
    Returns ids (q, n - 1) int64 and similarities (q, n - 1) float32. The query itself is left out by its id, not by its
    place: a duplicate of it may stand first.
    """
    descriptors = np.ascontiguousarray(descriptors, np.float32)
    found = ExactIndex(metric="cosine").fit(descriptors).search(descriptors[queries], len(descriptors))
    others = found.ids != np.asarray(queries)[:, None]
    shape = len(queries), len(descriptors) - 1
    return found.ids[others].reshape(shape), 1 - found.distances[others].reshape(shape)


def measure(ranked, grades, queries, relevant):
    """Per-query values of MEASURES, {measure: (q,)}.

    ranked    (q, n - 1) ids, best first
    grades    (q, n) grade of every candidate for every query
    relevant  the least grade that counts as a hit, for all measures but nDCG, which uses the grades themselves
              (exponential gain 2^grade - 1)
    Queries without any relevant candidate are worth nan and left out of the means.
    """
    grades = grades.copy()
    grades[np.arange(len(queries)), queries] = 0  # the query is not its own answer
    by_rank = np.take_along_axis(grades, ranked, axis=1)
    hits = by_rank >= relevant
    total = np.sum(grades >= relevant, axis=1)
    values = {
        "mrr": reciprocal_rank(hits),
        "recall@10": recall_at_k(hits, 10, total),
        "precision@10": precision_at_k(hits, 10),
        "map": average_precision(hits, total),
        "ndcg@10": ndcg_at_k(by_rank, 10, grades, gain="exponential"),
    }
    return {name: np.where(total > 0, value, np.nan) for name, value in values.items()}


def means(values):
    """{measure: mean over the queries} as floats."""
    return {name: float(np.nanmean(value)) for name, value in values.items()}
