"""How good is a ranking, a classifier, an experiment?"""

from .evaluate import Evaluator, evaluate, evaluate_arrays, mean
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
from .ties import (
    tie_averaged_average_precision,
    tie_averaged_dcg_at_k,
    tie_averaged_hit_rate_at_k,
    tie_averaged_ndcg_at_k,
    tie_averaged_precision_at_k,
    tie_averaged_r_precision,
    tie_averaged_recall_at_k,
    tie_averaged_reciprocal_rank,
)
from .trec import read_qrels, read_run

__all__ = [
    "Evaluator",
    "average_precision",
    "bpref",
    "dcg_at_k",
    "evaluate",
    "evaluate_arrays",
    "expected_reciprocal_rank",
    "hit_rate_at_k",
    "label_ranking_average_precision",
    "mean",
    "ndcg_at_k",
    "pad_ragged",
    "precision_at_k",
    "r_precision",
    "rank_biased_precision",
    "read_qrels",
    "read_run",
    "recall_at_k",
    "reciprocal_rank",
    "tie_averaged_average_precision",
    "tie_averaged_dcg_at_k",
    "tie_averaged_hit_rate_at_k",
    "tie_averaged_ndcg_at_k",
    "tie_averaged_precision_at_k",
    "tie_averaged_r_precision",
    "tie_averaged_recall_at_k",
    "tie_averaged_reciprocal_rank",
]
