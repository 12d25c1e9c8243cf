"""The prediction pipeline: a query picture, or a part of it, -> the ranked rows of the index table."""

import numpy as np

from ..ann import ExactIndex
from ..validation import check_integer
from .embedding import embed
from .index_table import check_table


def crop(image, box):
    """The part (x, y, width, height) of a picture, in pixels from its upper left corner.

    Raises ValueError if the box is empty or does not lie within the picture.
    """
    x, y, width, height = (check_integer(value, "crop", minimum=0) for value in box)
    h, w = image.shape[:2]
    if width < 1 or height < 1 or x + width > w or y + height > h:
        raise ValueError(f"crop: expected a box X,Y,W,H within {w}x{h} pixels, got {x},{y},{width},{height}")
    return image[y : y + height, x : x + width]


def search(table, encoder, image, k):
    """The k most similar pictures, best first: (rows of the table (k,) int64, cosine similarities (k,) float32).

    table  an IndexTable of this encoder's embeddings
    image  (h, w, 3) uint8 of any size
    Fewer than k come back if the table has fewer rows. Raises ValueError for a table of another encoder or of another
    width, empty or not, and if k is not an integer >= 1.
    """
    check_table(table, encoder)
    k = check_integer(k, "k", minimum=1)
    if not len(table.names):
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    index = ExactIndex(metric="cosine").fit(table.embeddings)
    found = index.search(embed(encoder, [image]), min(k, len(table.names)))
    return found.ids[0], 1 - found.distances[0]
