"""How good is a ranking, a classifier, an experiment?"""

from .ranking import (
    average_precision,
    bpref,
    dcg_at_k,
    expected_reciprocal_rank,
    hit_rate_at_k,
    label_ranking_average_precision,
    ndcg_at_k,
    pad_ragged,
    precision_at_k,
    r_precision,
    rank_biased_precision,
    recall_at_k,
    reciprocal_rank,
)

__all__ = [
    "average_precision",
    "bpref",
    "dcg_at_k",
    "expected_reciprocal_rank",
    "hit_rate_at_k",
    "label_ranking_average_precision",
    "ndcg_at_k",
    "pad_ragged",
    "precision_at_k",
    "r_precision",
    "rank_biased_precision",
    "recall_at_k",
    "reciprocal_rank",
]
