"""Colour histograms: the descriptor to beat before an encoder is worth its training.

Each channel is cut into `bins` equal intervals, each pixel counted in one of the bins^3 cells, and the counts divided
by the number of pixels:

    h[r, g, b] = (pixels with floor(R bins / 256) = r, ... ) / pixels
    descriptor = sqrt(h)

The root makes every descriptor a unit vector, and the dot product of two of them the Bhattacharyya coefficient
sum sqrt(h h'); their Euclidean distance is sqrt(2) times the Hellinger distance. Without it, two or three large areas
of one colour decide everything (Arandjelovic and Zisserman, "Three things everyone should know", 2012, section 3).

Source: Swain and Ballard, "Color indexing", 1991. Where things are in the picture plays no part; light and background
do.
"""

import numpy as np

from ..validation import check_array, check_integer


def colour_histogram(images, bins=4):
    """Square-rooted joint RGB histograms: (n, bins^3) float32, rows of length 1.

    images   (n, h, w, 3) uint8, or a sequence of (h, w, 3) uint8 of any sizes
    bins     intervals a channel, 1 to 32
    """
    bins = check_integer(bins, "bins", minimum=1, maximum=32)
    if isinstance(images, np.ndarray):
        check_array(images, "images", shape=(None, None, None, 3), dtypes=(np.uint8,), min_rows=1)
    elif len(images) == 0:
        raise ValueError("images: expected at least one picture, got none")
    result = np.empty((len(images), bins**3), np.float32)
    for row, image in zip(result, images):
        check_array(image, "images", shape=(None, None, 3), dtypes=(np.uint8,))
        if image.size == 0:
            raise ValueError(f"images: expected at least one pixel, got shape {image.shape}")
        red, green, blue = np.moveaxis(image.astype(np.int64) * bins // 256, 2, 0)
        cell = (red * bins + green) * bins + blue
        row[:] = np.sqrt(np.bincount(cell.ravel(), minlength=bins**3) / cell.size)
    return result
