"""Training loops: one file a method, the step on one screen, close to the paper's pseudo-code.

simclr    simclr, simclr_step: contrastive learning from pairs of views
"""

from .simclr import Trained, simclr, simclr_step

__all__ = ["Trained", "simclr", "simclr_step"]
