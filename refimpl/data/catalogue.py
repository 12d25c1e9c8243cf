"""A synthetic catalogue: rendered product pictures with graded similarity between any two.

An item is a family (mug, chair, ...), a colour and details of its own: proportions, kind of handle, shade, second
colour, pattern. It is seen in several views that share the item and nothing else: pose, scale, place, light,
background, and what stands in front are drawn anew. Between two pictures the similarity has four grades

    3   the same item
    2   another item of the same family and colour
    1   the same family
    0   nothing in common

so that rankings are judged by grades, not by hits alone (nDCG). Raw pixels and colours are dominated by what views do
not share; shape, pattern and the product's own colour, which an encoder can learn, tell the items apart.

Every item has a generator of its own, seeded by (seed, item): the pictures of an item do not depend on how many
others there are. Another version of Pillow may draw an edge by a grey level differently.
"""

import colorsys
from typing import NamedTuple

import numpy as np

from ..validation import check_array, check_integer
from .products import FAMILIES
from .rendering import PATTERNS, paint, photograph

# hue in degrees, saturation, value
COLOURS = {
    "red": (356, 0.78, 0.84),
    "orange": (26, 0.82, 0.95),
    "yellow": (48, 0.76, 0.97),
    "green": (128, 0.6, 0.66),
    "teal": (176, 0.68, 0.66),
    "blue": (216, 0.72, 0.82),
    "purple": (272, 0.54, 0.72),
    "pink": (334, 0.46, 0.95),
    "white": (40, 0.05, 0.96),
    "charcoal": (230, 0.16, 0.33),
}


class Catalogue(NamedTuple):
    """n = n_items * views pictures, the views of an item next to one another."""

    images: np.ndarray  # (n, size, size, 3) uint8
    item: np.ndarray  # (n,) int64
    family: np.ndarray  # (n,) int64, index into family_names
    colour: np.ndarray  # (n,) int64, index into colour_names
    view: np.ndarray  # (n,) record array: angle (degrees), scale, mirrored, gain of the light, occluded
    family_names: tuple
    colour_names: tuple


VIEW = np.dtype([("angle", "f4"), ("scale", "f4"), ("mirrored", "?"), ("gain", "f4"), ("occluded", "?")])


def render_catalogue(n_items, views, *, size=64, seed=0, progress=None):
    """`views` pictures of each of `n_items` items, as a `Catalogue`.

    size      side of the pictures in pixels
    seed      the same seed gives the same pictures
    progress  called as progress(pictures done, pictures in all)

    Families and colours are dealt out evenly: item i is of family i mod 16 and of colour (i div 16) mod 10, so that
    from 320 items on every item has another of its family and colour. Costs 1 to 2 ms a picture of 64 x 64.
    """
    n_items = check_integer(n_items, "n_items", minimum=1)
    views = check_integer(views, "views", minimum=1)
    size = check_integer(size, "size", minimum=8, maximum=512)
    seed = check_integer(seed, "seed", minimum=0)
    n = n_items * views
    catalogue = Catalogue(
        images=np.empty((n, size, size, 3), np.uint8),
        item=np.repeat(np.arange(n_items), views),
        family=np.repeat(np.arange(n_items) % len(FAMILIES), views),
        colour=np.repeat(np.arange(n_items) // len(FAMILIES) % len(COLOURS), views),
        view=np.empty(n, VIEW),
        family_names=tuple(FAMILIES),
        colour_names=tuple(COLOURS),
    )
    palette = np.array([shade(name, np.random.default_rng([seed, k, 1])) for k, name in enumerate(COLOURS)])
    for item in range(n_items):
        rng = np.random.default_rng([seed, item])
        first = item * views
        product = draw_item(catalogue.family[first], catalogue.colour[first], rng)
        for row in range(first, first + views):
            catalogue.images[row], view = photograph(product, size, rng, palette)
            catalogue.view[row] = tuple(view[name] for name in VIEW.names)
        if progress is not None:
            progress(first + views, n)
    return catalogue


def draw_item(family, colour, rng):
    """A painted product (CANVAS, CANVAS, 4) uint8 of the family and colour, its details drawn from `rng`."""
    parts = list(FAMILIES.values())[family](*rng.random(4))
    names = list(COLOURS)
    body = shade(names[colour], rng)
    others = [name for name in names if name != names[colour]]
    # White goes with everything; the rest of the second colours are any of the others.
    trim = shade("white" if colour != names.index("white") and rng.random() < 0.35 else rng.choice(others), rng)
    return paint(parts, body, trim, rng.choice(PATTERNS), rng.uniform(4, 9), rng.random())


def shade(name, rng):
    """(3,) uint8 RGB: the named colour in one of its shades."""
    hue, saturation, value = COLOURS[name]
    hue = (hue + rng.uniform(-7, 7)) / 360 % 1
    saturation = np.clip(saturation * rng.uniform(0.82, 1.15), 0, 1)
    value = np.clip(value * rng.uniform(0.88, 1.06), 0, 1)
    return np.round(np.multiply(colorsys.hsv_to_rgb(hue, saturation, value), 255)).astype(np.uint8)


def grades(catalogue, query_index, candidate_index):
    """(q, n) uint8: the grade 0..3 of every candidate for every query.

    query_index, candidate_index   (q,) and (n,) integers, rows of the catalogue

    A picture has grade 3 for itself: leave it out of its own candidates.
    """
    total = len(catalogue.item)
    query = _check_rows(query_index, "query_index", total)
    candidate = _check_rows(candidate_index, "candidate_index", total)

    def same(values):
        return values[query][:, None] == values[candidate][None, :]

    item, family, colour = same(catalogue.item), same(catalogue.family), same(catalogue.colour)
    return np.where(item, 3, np.where(family & colour, 2, family)).astype(np.uint8)


def _check_rows(value, name, total):
    value = check_array(value, name, ndim=1)
    if value.size and value.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {value.dtype}")
    if value.size and (value.min() < 0 or value.max() >= total):
        raise ValueError(f"{name}: expected rows in 0..{total - 1}, got {value.min()}..{value.max()}")
    return value.astype(np.int64)
