"""Image bytes to arrays: decoding, preprocessing, augmentation, and descriptors that need no training."""

from .augment import Views, apply_views, draw_views, identity_views, simclr_views
from .decode import decode
from .preprocess import channel_statistics, preprocess, resize

__all__ = [
    "Views",
    "apply_views",
    "channel_statistics",
    "decode",
    "draw_views",
    "identity_views",
    "preprocess",
    "resize",
    "simclr_views",
]
