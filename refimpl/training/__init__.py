"""Training loops: one file a method, the step on one screen, close to the paper's pseudo-code.

loop         train: what they share - budget, progress, scores on the way, checkpoints, resuming to the same bits
simclr       simclr, simclr_step: contrastive learning from pairs of views
moco         moco, moco_step: the same with a queue of negatives and a momentum encoder
airbench     airbench, airbench_step: a classifier in few passes
supervised   supervised_contrastive, triplet, classification: learning from labels
probes       knn_predict, linear_probe, probe_predict, pooled_features: what is in the features of a frozen encoder

Behind them, lbfgs.py has the minimum that a linear probe looks for.
"""

from .airbench import airbench, airbench_step, passes
from .loop import Run, train
from .moco import moco, moco_step
from .probes import Probe, knn_predict, linear_probe, pooled_features, probe_predict
from .simclr import Trained, simclr, simclr_step
from .supervised import classification, supervised_contrastive, triplet

__all__ = [
    "Probe",
    "Run",
    "Trained",
    "airbench",
    "airbench_step",
    "classification",
    "knn_predict",
    "linear_probe",
    "moco",
    "moco_step",
    "passes",
    "pooled_features",
    "probe_predict",
    "simclr",
    "simclr_step",
    "supervised_contrastive",
    "train",
    "triplet",
]
