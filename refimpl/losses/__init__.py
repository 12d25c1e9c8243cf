"""Losses in closed form, each returning its value and the gradients of its array inputs.

loss, dlogits = softmax_cross_entropy(logits, labels)          one array in: its gradient
loss, (dz1, dz2) = nt_xent(z1, z2, temperature=0.5)            several: a tuple, in their order

cross_entropy   softmax_cross_entropy
contrastive     contrastive_loss, n_pair_loss, info_nce, nt_xent, sup_con, soft_nearest_neighbor
triplet         triplet_loss
focal           focal_loss
distillation    distillation_loss
"""

from .contrastive import contrastive_loss, info_nce, n_pair_loss, nt_xent, soft_nearest_neighbor, sup_con
from .cross_entropy import softmax_cross_entropy
from .distillation import distillation_loss
from .focal import focal_loss
from .triplet import triplet_loss

__all__ = [
    "contrastive_loss",
    "distillation_loss",
    "focal_loss",
    "info_nce",
    "n_pair_loss",
    "nt_xent",
    "soft_nearest_neighbor",
    "softmax_cross_entropy",
    "sup_con",
    "triplet_loss",
]
