"""How good is a ranking, a classifier, an experiment?

A name is imported from its file when it is first used, so that ranking a few lists does not wait for what compiles, and
an evaluation does not wait for scipy.
"""

import importlib

# fmt: off
_NAMES = {
    "ranking": (
        "precision_at_k", "recall_at_k", "hit_rate_at_k", "r_precision", "reciprocal_rank", "average_precision",
        "rank_biased_precision", "bpref", "dcg_at_k", "ndcg_at_k", "expected_reciprocal_rank",
        "label_ranking_average_precision", "pad_ragged",
    ),
    "ties": (
        "tie_averaged_precision_at_k", "tie_averaged_recall_at_k", "tie_averaged_r_precision",
        "tie_averaged_reciprocal_rank", "tie_averaged_hit_rate_at_k", "tie_averaged_average_precision",
        "tie_averaged_dcg_at_k", "tie_averaged_ndcg_at_k",
    ),
    "evaluation": (
        "evaluate", "evaluate_arrays", "mean", "Evaluator",
    ),
    "trec": (
        "read_qrels", "read_run",
    ),
    "significance": (
        "paired_t_test", "paired_randomization_test", "effect_size", "win_tie_loss", "bootstrap_interval", "holm",
        "benjamini_hochberg", "power", "queries_needed", "Comparison", "compare", "as_markdown", "as_latex",
    ),
    "classification": (
        "confusion_matrix", "accuracy", "precision_recall_f1", "roc_curve", "roc_auc", "precision_recall_curve",
        "pr_auc", "log_loss", "brier_score", "calibration_curve", "expected_calibration_error",
    ),
    "regression": (
        "mean_squared_error", "mean_absolute_error", "huber",
    ),
    "online": (
        "InteractionLog", "Rate", "click_through_rate", "click_through_rate_by_position", "wilson_interval", "Visits",
        "visits", "TimeSpent", "time_spent", "average_time_spent", "PositionBias", "position_bias",
        "corrected_click_through_rate", "IMPRESSION", "CLICK", "LEAVE",
    ),
    "experiments": (
        "Difference", "assign", "sample_ratio_test", "sample_size_proportions", "sample_size_means",
        "proportion_test", "mean_test", "ratio_of_sums", "ratio_test", "sequential_test",
    ),
    "interleaving": (
        "team_draft", "team_draft_winner", "balanced", "balanced_winner", "Preference", "preference_test",
    ),
    "bandit": (
        "ThompsonSampling",
    ),
    "simulator": (
        "simulate_clicks", "simulate_cascade", "simulate_log",
    ),
}
# fmt: on
_HOME = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        globals()[name] = value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_HOME})
