"""Losses in closed form, each returning its value and the gradients of its array inputs.

loss, dlogits = softmax_cross_entropy(logits, labels)          one array in: its gradient
loss, (dz1, dz2) = nt_xent(z1, z2, temperature=0.5)            several: a tuple, in their order

similarity      dot_similarity, cosine_similarity, squared_distance, euclidean_distance: value and pullback
cross_entropy   softmax_cross_entropy
contrastive     contrastive_loss, candidate_cross_entropy, n_pair_loss, info_nce, nt_xent, decoupled_contrastive,
                sup_con, soft_nearest_neighbor
triplet         triplet_loss, mined_triplet_loss, batch_all_triplet_loss
mining          batch_hard, semi_hard, distance_weighted: which triplets
focal           focal_loss, softmax_focal_loss
class_weights   class_balanced_weights
distillation    distillation_loss
"""

from .class_weights import class_balanced_weights
from .contrastive import (
    candidate_cross_entropy,
    contrastive_loss,
    decoupled_contrastive,
    info_nce,
    n_pair_loss,
    nt_xent,
    soft_nearest_neighbor,
    sup_con,
)
from .cross_entropy import softmax_cross_entropy
from .distillation import distillation_loss
from .focal import focal_loss, softmax_focal_loss
from .mining import Triplets, batch_hard, distance_weighted, semi_hard
from .similarity import cosine_similarity, dot_similarity, euclidean_distance, squared_distance
from .triplet import batch_all_triplet_loss, mined_triplet_loss, triplet_loss

__all__ = [
    "Triplets",
    "batch_all_triplet_loss",
    "batch_hard",
    "candidate_cross_entropy",
    "class_balanced_weights",
    "contrastive_loss",
    "cosine_similarity",
    "decoupled_contrastive",
    "distance_weighted",
    "distillation_loss",
    "dot_similarity",
    "euclidean_distance",
    "focal_loss",
    "info_nce",
    "mined_triplet_loss",
    "n_pair_loss",
    "nt_xent",
    "semi_hard",
    "soft_nearest_neighbor",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "squared_distance",
    "sup_con",
    "triplet_loss",
]
