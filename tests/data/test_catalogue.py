"""The synthetic catalogue: the same from the same seed, evenly dealt, graded, and hard for pixels and colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.data import COLOURS, FAMILIES, grades, render_catalogue
from refimpl.data.catalogue import draw_item
from refimpl.data.rendering import PATTERNS, pattern, projective
from refimpl.images import colour_histogram

SMALL = render_catalogue(176, 2, size=16, seed=5)


def test_shapes_and_dealing():
    assert SMALL.images.shape == (352, 16, 16, 3) and SMALL.images.dtype == np.uint8
    np.testing.assert_array_equal(SMALL.item, np.repeat(np.arange(176), 2))
    assert SMALL.family_names == tuple(FAMILIES) and SMALL.colour_names == tuple(COLOURS)
    assert set(SMALL.family) == set(range(16)) and set(SMALL.colour) == set(range(10))
    for values in (SMALL.family, SMALL.colour):  # of an item, not of a view
        np.testing.assert_array_equal(values[::2], values[1::2])
    counts = np.bincount(SMALL.family)
    assert counts.max() - counts.min() <= 2


@settings(max_examples=5)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3), st.sampled_from([8, 13, 32]))
def test_the_same_seed_gives_the_same_pictures(seed, n_items, views, size):
    one = render_catalogue(n_items, views, size=size, seed=seed)
    two = render_catalogue(n_items, views, size=size, seed=seed)
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.view, two.view)
    # An item's pictures do not depend on how many items follow.
    more = render_catalogue(n_items + 1, views, size=size, seed=seed)
    np.testing.assert_array_equal(one.images, more.images[: len(one.images)])
    assert (render_catalogue(n_items, views, size=size, seed=seed + 1).images != one.images).any()


def test_views_of_an_item_differ():
    assert (SMALL.images[::2] != SMALL.images[1::2]).any(axis=(1, 2, 3)).all()
    assert len(np.unique(SMALL.view["angle"])) == len(SMALL.view)
    assert 0.2 < SMALL.view["occluded"].mean() < 0.5 and 0.3 < SMALL.view["mirrored"].mean() < 0.7


def test_progress_counts_to_the_end():
    calls = []
    render_catalogue(3, 2, size=8, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 6), (4, 6), (6, 6)]


@given(st.data())
def test_grades_by_definition(data):
    rows = st.lists(st.integers(0, 351), min_size=1, max_size=6)
    query, candidate = data.draw(rows), data.draw(rows)
    result = grades(SMALL, query, candidate)
    assert result.dtype == np.uint8
    for i, q in enumerate(query):
        for j, c in enumerate(candidate):
            if SMALL.item[q] == SMALL.item[c]:
                expected = 3
            elif SMALL.family[q] != SMALL.family[c]:
                expected = 0
            else:
                expected = 2 if SMALL.colour[q] == SMALL.colour[c] else 1
            assert result[i, j] == expected
    np.testing.assert_array_equal(result, grades(SMALL, candidate, query).T)


def test_every_grade_occurs():
    rows = np.arange(352)
    assert set(np.unique(grades(SMALL, rows, rows))) == {0, 1, 2, 3}


def test_pixels_and_colours_do_poorly():
    """Among 100 items, the nearest by raw pixels or colours is seldom the same item."""
    catalogue = render_catalogue(100, 3, size=24, seed=1)
    rows = np.arange(300)
    relevance = grades(catalogue, rows, rows)
    for vectors in (catalogue.images.reshape(300, -1) / 255.0, colour_histogram(catalogue.images, 4)):
        distance = ((vectors[:, None] - vectors[None]) ** 2).sum(-1) if vectors.shape[1] < 100 else None
        if distance is None:
            norms = (vectors**2).sum(1)
            distance = norms[:, None] + norms - 2 * vectors @ vectors.T
        np.fill_diagonal(distance, np.inf)
        assert (relevance[rows, distance.argmin(1)] == 3).mean() < 0.25


@pytest.mark.parametrize("family", range(16))
@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), colour=st.integers(0, 9))
def test_products_stay_on_their_canvas(family, seed, colour):
    product = draw_item(family, colour, np.random.default_rng(seed))
    alpha = product[..., 3]
    assert alpha.max() == 255 and (alpha > 128).mean() > 0.02
    border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert (border == 0).all()


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_are_masks(kind):
    mask = pattern(kind, 6.0, 0.3, (0.5, 0.5))
    assert mask.min() >= 0 and mask.max() <= 1
    assert (mask.max() == 0) == (kind == "plain")
    assert kind == "plain" or 0.02 < mask.mean() < 0.8


@given(st.integers(0, 10**6))
def test_projective_maps_corners_to_corners(seed):
    rng = np.random.default_rng(seed)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    source, target = corners * 50 + rng.uniform(-5, 5, (4, 2)), corners * 30 + rng.uniform(-5, 5, (4, 2))
    a, b, c, d, e, f, g, h = projective(source, target)
    for (xs, ys), (x, y) in zip(source, target):
        w = g * x + h * y + 1
        np.testing.assert_allclose([(a * x + b * y + c) / w, (d * x + e * y + f) / w], [xs, ys], atol=1e-6)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: render_catalogue(0, 1), "n_items"),
        (lambda: render_catalogue(1, 0), "views"),
        (lambda: render_catalogue(1, 1, size=4), "size"),
        (lambda: render_catalogue(1, 1, seed=-1), "seed"),
        (lambda: grades(SMALL, [0], [352]), "candidate_index"),
        (lambda: grades(SMALL, [-1], [0]), "query_index"),
        (lambda: grades(SMALL, [0.5], [0]), "query_index"),
    ],
)
def test_wrong_arguments(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
