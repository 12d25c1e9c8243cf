"""Perceptual hashes: 64 bits that stay nearly the same when a picture is resized, recompressed or slightly brightened.

Three kinds, each from a small grey version of the picture, bit 63 for the first comparison and bit 0 for the last:

    ahash   8 x 8 grey:  bit = pixel > mean of the 64
    dhash   8 x 9 grey:  bit = right neighbour > pixel, along the rows
    phash   32 x 32 grey: the 8 x 8 lowest frequencies of the two-dimensional cosine transform (DCT-II),

                F[u, v] = sum_yx g[y, x] cos(pi (2y + 1) u / 64) cos(pi (2x + 1) v / 64),
                bit = F[u, v] > median of the 63 without F[0, 0];  F[0, 0], the mean brightness, has bit 0

The distance of two hashes is the number of bits in which they differ (Hamming). Copies of one picture are a few bits
apart, unrelated pictures about 32: good for finding duplicates, not for finding what looks alike to people.

Sources: N. Krawetz, "Looks like it" (2011, ahash and phash) and "Kind of like that" (2013, dhash); C. Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010.
"""

import numpy as np
from PIL import Image

from ..validation import check_array, check_choice

KINDS = ("phash", "dhash", "ahash")
SIDE = 32  # of the picture that phash transforms
BASIS = np.cos(np.pi * (2 * np.arange(SIDE)[None, :] + 1) * np.arange(8)[:, None] / (2 * SIDE))  # (frequency, place)
PLACE = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)


def perceptual_hash(image, kind="phash"):
    """The hash of `image` (h, w, 3) uint8 as a numpy.uint64; `kind` is "phash", "dhash" or "ahash"."""
    check_array(image, "image", shape=(None, None, 3), dtypes=(np.uint8,))
    check_choice(kind, "kind", KINDS)
    if image.size == 0:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")
    if kind == "ahash":
        grey = _small_grey(image, 8, 8)
        bits = grey > grey.mean()
    elif kind == "dhash":
        grey = _small_grey(image, 8, 9)
        bits = grey[:, 1:] > grey[:, :-1]
    else:
        grey = _small_grey(image, SIDE, SIDE)
        frequencies = BASIS @ (grey - grey.mean()) @ BASIS.T
        # A flat picture has rounding errors for frequencies; they must not become bits.
        frequencies[np.abs(frequencies) < 1e-6] = 0
        bits = frequencies > np.median(frequencies.ravel()[1:])
        bits[0, 0] = False
    return np.bitwise_or.reduce(PLACE[bits.ravel()], initial=np.uint64(0))


def hamming_distance(a, b):
    """The number of differing bits of hashes `a` and `b`: scalars or arrays of uint64 that broadcast, as int64."""
    a = check_array(a, "a", dtypes=(np.uint64,))
    b = check_array(b, "b", dtypes=(np.uint64,))
    difference = np.atleast_1d(a ^ b)
    bits = np.unpackbits(difference[..., None].view(np.uint8), axis=-1).sum(-1, dtype=np.int64)
    return bits.reshape(np.broadcast_shapes(a.shape, b.shape))[()]


def _small_grey(image, height, width):
    """The luminance of the picture, averaged down to (height, width), as float64."""
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    return np.asarray(grey.resize((width, height), Image.Resampling.LANCZOS), np.float64)
