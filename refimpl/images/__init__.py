"""Image bytes to arrays: decoding, preprocessing, augmentation, and descriptors that need no training."""

from .augment import Views, apply_views, draw_views, identity_views, simclr_views
from .decode import decode
from .descriptors import colour_histogram
from .distort import distort
from .perceptual_hash import hamming_distance, perceptual_hash
from .preprocess import channel_statistics, preprocess, resize

__all__ = [
    "Views",
    "apply_views",
    "channel_statistics",
    "colour_histogram",
    "decode",
    "distort",
    "draw_views",
    "hamming_distance",
    "identity_views",
    "perceptual_hash",
    "preprocess",
    "resize",
    "simclr_views",
]
