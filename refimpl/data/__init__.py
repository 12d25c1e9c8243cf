"""Where pictures come from, and which of them training gets.

pictures      folder: load_folder     public: cifar10, clothing, omniglot     catalogue: render_catalogue, grades
pairs         positives from labels or views, negatives random, in-batch or hard, the book's row of candidates
interactions  a search log's tables, simulated users, pairs from their clicks, raw and debiased
sampling      convenience, random, stratified, reservoir, weighted, importance
imbalance     oversample, undersample, balanced_rows
splits        split_* and k_folds_* by row, class, group, time
"""

from .catalogue import COLOURS, Catalogue, grades, render_catalogue
from .folder import ImageSet, load_folder
from .imbalance import balanced_rows, oversample, undersample
from .interactions import (
    ImageTable,
    Impressions,
    PairTable,
    SearchLog,
    SearchTable,
    UserTable,
    attraction_of_grades,
    click_rates,
    debiased_click_rates,
    estimate_examination,
    examination_by_position,
    impressions,
    sample_click_pairs,
    simulate_searches,
    top_click_pairs,
)
from .pairs import (
    CandidateRows,
    candidate_rows,
    hard_negatives,
    in_batch_negatives,
    majority_vote,
    noisy_labels,
    positives_from_labels,
    random_negatives,
    view_pairs,
)
from .products import FAMILIES
from .public import DownloadError, OneShotRun, cache_folder, cifar10, clothing, locate, omniglot, omniglot_runs
from .sampling import (
    Estimate,
    Importance,
    convenience_sample,
    importance_mean,
    importance_sample,
    random_sample,
    reservoir_sample,
    reservoir_sample_skipping,
    self_normalised_mean,
    stratified_sample,
    weighted_sample,
)
from .splits import (
    k_folds,
    k_folds_by_class,
    k_folds_by_group,
    k_folds_by_time,
    split_by_class,
    split_by_group,
    split_by_time,
    split_rows,
)

__all__ = [
    "COLOURS",
    "FAMILIES",
    "CandidateRows",
    "Catalogue",
    "DownloadError",
    "Estimate",
    "ImageSet",
    "ImageTable",
    "Importance",
    "Impressions",
    "OneShotRun",
    "PairTable",
    "SearchLog",
    "SearchTable",
    "UserTable",
    "attraction_of_grades",
    "balanced_rows",
    "cache_folder",
    "candidate_rows",
    "cifar10",
    "click_rates",
    "clothing",
    "convenience_sample",
    "debiased_click_rates",
    "estimate_examination",
    "examination_by_position",
    "grades",
    "hard_negatives",
    "importance_mean",
    "importance_sample",
    "impressions",
    "in_batch_negatives",
    "k_folds",
    "k_folds_by_class",
    "k_folds_by_group",
    "k_folds_by_time",
    "load_folder",
    "locate",
    "majority_vote",
    "noisy_labels",
    "omniglot",
    "omniglot_runs",
    "oversample",
    "positives_from_labels",
    "random_negatives",
    "random_sample",
    "render_catalogue",
    "reservoir_sample",
    "reservoir_sample_skipping",
    "sample_click_pairs",
    "self_normalised_mean",
    "simulate_searches",
    "split_by_class",
    "split_by_group",
    "split_by_time",
    "split_rows",
    "stratified_sample",
    "top_click_pairs",
    "undersample",
    "view_pairs",
    "weighted_sample",
]
